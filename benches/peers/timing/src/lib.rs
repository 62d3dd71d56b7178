//! Shared by all peers: measures one workload and prints the result as one JSON line.
//!
//! `peer-x WORKLOAD [--threads N] [--seconds S]`. The caller sets the number of threads in the
//! environment, and the cores on which the process may run.

use std::time::{Duration, Instant};

/// A workload. Each call is one run.
pub type Workload = Box<dyn FnMut()>;

/// Parses the command line, creates the workload and measures it for the given time, after a
/// warm-up of a quarter of that time. The exit status for an unknown workload is 3.
pub fn main(peer: &str, create: impl FnOnce(&str) -> Option<Workload> + Send + 'static) {
    let args: Vec<String> = std::env::args().collect();
    let workload = args.get(1).cloned().unwrap_or_default();
    let threads: usize = option(&args, "--threads", 1);
    let seconds: f64 = option(&args, "--seconds", 2.0);
    let peer = peer.to_string();
    // deep_chain tests that a deep graph does not overflow a small stack
    let stack_size = if workload == "deep_chain" {
        1 << 20
    } else {
        16 << 20
    };
    let spawned = std::thread::Builder::new()
        .stack_size(stack_size)
        .spawn(move || {
            let Some(mut run) = create(&workload) else {
                std::process::exit(3)
            };
            measure(&peer, &workload, threads, seconds, &mut run);
        });
    if spawned.map(|thread| thread.join().is_err()).unwrap_or(true) {
        std::process::exit(1);
    }
}

/// The value that follows an option on the command line, or a default.
pub fn option<T: std::str::FromStr>(args: &[String], name: &str, default: T) -> T {
    let at = args.iter().position(|a| a == name);
    at.and_then(|k| args.get(k + 1)?.parse().ok())
        .unwrap_or(default)
}

fn measure(peer: &str, workload: &str, threads: usize, seconds: f64, run: &mut Workload) {
    let warm_up = Instant::now();
    while warm_up.elapsed() < Duration::from_secs_f64(seconds / 4.0) {
        run();
    }
    let (mut times, start) = (Vec::new(), Instant::now());
    while start.elapsed() < Duration::from_secs_f64(seconds) || times.len() < 3 {
        let run_start = Instant::now();
        run();
        times.push(run_start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let (median, min, n) = (times[times.len() / 2], times[0], times.len());
    println!(
        "{{\"peer\": \"{peer}\", \"workload\": \"{workload}\", \"threads\": {threads}, \"median_us\": {median:.2}, \
         \"min_us\": {min:.2}, \"n\": {n}, \"peak_rss_mib\": {:.1}}}",
        peak_rss_mib()
    );
}

/// The peak resident set size of this process.
fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:"));
    let kib = line
        .and_then(|l| l.split_whitespace().nth(1))
        .and_then(|v| v.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// Pseudo-random numbers between -scale and scale.
pub fn noise(count: usize, scale: f32) -> Vec<f32> {
    let mut state = 12345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
    };
    (0..count).map(|_| next()).collect()
}

/// The labels of a batch.
pub fn labels(count: usize) -> Vec<usize> {
    (0..count).map(|k| k * 7 % 10).collect()
}

/// The layer sizes and the batch size of an MLP workload.
pub fn mlp(workload: &str) -> Option<(Vec<usize>, usize)> {
    match workload {
        "mlp_small" => Some((vec![784, 128, 10], 64)),
        "mlp_large" => Some((vec![784, 512, 512, 10], 128)),
        "infer_one" => Some((vec![784, 128, 10], 1)),
        _ => None,
    }
}

/// The number of repeats of a chain workload.
pub fn repeats(workload: &str) -> Option<usize> {
    match workload {
        "scalar_chain" => Some(1_000),
        "deep_chain" => Some(200_000),
        _ => None,
    }
}
