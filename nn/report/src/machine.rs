//! What a training ran on.

use std::thread::available_parallelism;

/// Names and values: versions, processor, operating system.
pub(crate) fn facts() -> Vec<(String, String)> {
    let cores = available_parallelism().map_or("unknown".into(), |n| n.to_string());
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok();
    let processor = processor.and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    let processor = processor.unwrap_or(std::env::consts::ARCH.into());
    [
        ("version of nn", env!("CARGO_PKG_VERSION").into()),
        ("processor", processor),
        ("hardware threads", cores),
        ("operating system", std::env::consts::OS.into()),
    ]
    .map(|(name, value): (&str, String)| (name.to_string(), value))
    .into()
}
