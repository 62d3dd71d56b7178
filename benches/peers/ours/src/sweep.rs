//! The cases of the sweep: reads cases, one a line, from the standard input, and prints a JSON line
//! for each. `machine copy BYTES` and `machine fma f32` measure what the machine can do, and `explain`
//! before a case prints its plan.

use crate::machine;
use autograd::Tensor;
use benches::sweep::{Case, Mode, parse};
use std::{
    io,
    time::{Duration, Instant},
};

/// `sweep --threads N --seconds S`
pub(crate) fn serve(threads: usize, seconds: f64) {
    for line in io::stdin().lines() {
        let line = line.expect("the driver sends text");
        let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["machine", "copy", bytes] => machine::copy(threads, bytes.parse().expect("a number")),
            ["machine", "fma", dtype] => machine::fused_multiply_adds(threads, dtype == "f64"),
            ["explain", ..] => parse(line.trim_start_matches("explain "))[0]
                .explain()
                .unwrap_or_else(|e| e.to_string()),
            _ => measure(&parse(&line)[0], seconds).unwrap_or_else(|e| {
                let text: String = e.to_string().lines().take(1).collect();
                format!("{{\"error\": \"{}\"}}", text.replace(['"', '\\'], "'"))
            }),
        };
        println!("{answer}");
    }
}

fn measure(case: &Case, seconds: f64) -> autograd::Result<String> {
    let run = case.prepare()?;
    let mut outputs = run.call()?;
    if case.mode == Mode::Step {
        outputs = run.call()?; // the second loss depends on the first update
    }
    let check = if case.family == "random" {
        Vec::new()
    } else {
        outputs.iter().map(check).collect()
    };
    let output_bytes: usize = outputs.iter().map(|t| t.len() * t.dtype().size()).sum();
    drop(outputs);
    let mut times = Vec::new();
    let warm_up = Instant::now();
    while warm_up.elapsed() < Duration::from_secs_f64(seconds / 4.0) {
        run.call()?;
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs_f64(seconds) || times.len() < 3 {
        let run_start = Instant::now();
        run.call()?;
        times.push(run_start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(format!(
        "{{\"us\": {:.3}, \"min_us\": {:.3}, \"n\": {}, \"bytes\": {}, \"check\": [{}]}}",
        times[times.len() / 2],
        times[0],
        times.len(),
        run.input_bytes + output_bytes,
        check.join(", ")
    ))
}

/// Two numbers by which the results of several libraries are compared: a weighted sum of the
/// elements, and that of their absolute values.
fn check(output: &Tensor) -> String {
    let (mut sum, mut of_absolutes) = (0.0, 0.0);
    for (k, x) in output.to_f64s().into_iter().enumerate() {
        let weight = (k % 1009) as f64 / 1009.0 + 0.5;
        sum += weight * x;
        of_absolutes += weight * x.abs();
    }
    // JSON has neither NaN nor infinities
    match sum.is_finite() && of_absolutes.is_finite() {
        true => format!("[{sum:?}, {of_absolutes:?}]"),
        false => "[\"not finite\", 0.0]".into(),
    }
}
