//! How the time falls with the number of threads:
//!
//! ```text
//! cargo bench --bench scaling -- [--threads 1,2,4] [--seconds 0.3] [--only TEXT] [--svg FILE]
//! ```
//!
//! Measures the named workloads and ten cases of the sweep with 1, 2, 4, .. threads, up to the
//! number of cores; `--threads` can ask for more. Prints a table of times, speed-ups and
//! efficiencies, and draws the speed-ups. Efficiency is the speed-up divided by the number of
//! threads, or by the number of cores if there are fewer.

use benches::{Branches, Elementwise, Inference, Training, chain, sweep};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    fmt::Write,
    time::{Duration, Instant},
};

type Error = Box<dyn std::error::Error>;
type Workload = (String, Box<dyn Fn() + Sync + Send>);

struct Options {
    threads: Vec<usize>,
    seconds: f64,
    only: String,
    svg: Option<String>,
}

/// The median times of a workload in µs, one for each number of threads.
struct Row {
    name: String,
    times: Vec<f64>,
}

fn main() -> Result<(), Error> {
    let cores = std::thread::available_parallelism()?.get();
    let options = options(cores)?;
    let build = |n: &usize| ThreadPoolBuilder::new().num_threads(*n).build();
    let pools: Vec<ThreadPool> = options
        .threads
        .iter()
        .map(build)
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for (name, run) in workloads()? {
        if name.contains(&options.only) {
            let time = |pool: &ThreadPool| pool.install(|| median(&run, options.seconds));
            let times = pools.iter().map(time).collect();
            eprintln!("{name}: {times:.1?}");
            rows.push(Row { name, times });
        }
    }
    println!("{}", table(&rows, &options.threads, cores));
    if let Some(file) = options.svg {
        std::fs::write(&file, picture(&rows, &options.threads))?;
        println!("Wrote {file}");
    }
    Ok(())
}

fn options(cores: usize) -> Result<Options, Error> {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1)
    };
    let threads = match option("--threads") {
        Some(list) => list.split(',').map(str::parse).collect::<Result<_, _>>()?,
        None => {
            let powers = (0..).map(|k| 1 << k).take_while(|n| *n < cores);
            powers.chain([cores]).collect()
        }
    };
    Ok(Options {
        threads,
        seconds: option("--seconds").map_or(Ok(0.3), |s| s.parse())?,
        only: option("--only").cloned().unwrap_or_default(),
        svg: option("--svg").cloned(),
    })
}

/// The named workloads and the cases of the sweep.
fn workloads() -> Result<Vec<Workload>, Error> {
    fn named<T>(
        name: &str,
        run: impl Fn() -> autograd::Result<T> + Sync + Send + 'static,
    ) -> Workload {
        let run = move || drop(std::hint::black_box(run().expect("the workload runs")));
        (name.into(), Box::new(run))
    }
    let (small, large, inference) = (Training::small()?, Training::large()?, Inference::new()?);
    let (elementwise, branches) = (Elementwise::new(1_000_000), Branches::new(64)?);
    let mut all = vec![
        named("mlp_small", move || small.step()),
        named("mlp_large", move || large.step()),
        named("infer_one", move || inference.run()),
        named("elementwise", move || elementwise.backward()),
        named("branches", move || branches.backward()),
        named("scalar_chain", || chain(1_000)),
        named("deep_chain", || chain(200_000)),
    ];
    for name in sweep::FOR_SCALING {
        let case = sweep::find(name).ok_or(format!("the sweep has no case {name}"))?;
        let run = case.prepare()?;
        all.push(named(name, move || run.call()));
    }
    Ok(all)
}

/// The median time in µs of the runs in so many seconds, after a warm-up of a quarter of it.
fn median(run: &(dyn Fn() + Sync + Send), seconds: f64) -> f64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs_f64(seconds / 4.0) {
        run();
    }
    let (mut times, start) = (Vec::new(), Instant::now());
    while start.elapsed() < Duration::from_secs_f64(seconds) || times.len() < 3 {
        let run_start = Instant::now();
        run();
        times.push(run_start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn table(rows: &[Row], threads: &[usize], cores: usize) -> String {
    let mut text = format!("{cores} cores; µs, then speed-up and efficiency\n\n| workload |");
    for n in threads {
        let _ = write!(text, " {n} thread{} |", if *n == 1 { "" } else { "s" });
    }
    let _ = write!(text, "\n|---|{}", "---|".repeat(threads.len()));
    for row in rows {
        let _ = write!(text, "\n| {} | {:.1} |", row.name, row.times[0]);
        for (n, time) in threads.iter().zip(&row.times).skip(1) {
            let speed_up = row.times[0] / time;
            let efficiency = 100.0 * speed_up * threads[0] as f64 / *n.min(&cores) as f64;
            let _ = write!(text, " {time:.1}, {speed_up:.2}, {efficiency:.0} % |");
        }
    }
    text
}

/// A small chart for each workload: the speed-up by the number of threads, both on logarithmic
/// scales, with the ideal line.
fn picture(rows: &[Row], threads: &[usize]) -> String {
    const COLUMNS: usize = 5;
    const SIZE: f64 = 130.0;
    let top = threads
        .iter()
        .max()
        .map_or(1.0, |n| *n as f64)
        .max(2.0)
        .log2();
    let at = |n: f64| SIZE * (n.log2() / top).clamp(-0.2, 1.0);
    let (width, height) = (COLUMNS * 180 + 20, rows.len().div_ceil(COLUMNS) * 190 + 20);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' \
         font-family='sans-serif' font-size='10'>\n<rect width='100%' height='100%' fill='white'/>\n"
    );
    for (k, row) in rows.iter().enumerate() {
        let (x, y) = (30 + k % COLUMNS * 180, 40 + k / COLUMNS * 190);
        let name = row.name.replace('&', "&amp;").replace('<', "&lt;");
        let short: String = row.name.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let _ = write!(
            svg,
            "<g transform='translate({x} {y})'><title>{name}</title><text y='-8'>{short}</text>\
             <rect width='{SIZE}' height='{SIZE}' fill='none' stroke='#ccc'/>\
             <line x1='0' y1='{SIZE}' x2='{SIZE}' y2='0' stroke='#ccc' stroke-dasharray='4'/>"
        );
        let mut path = String::new();
        for (n, time) in threads.iter().zip(&row.times) {
            let speed_up = row.times[0] / time * threads[0] as f64;
            let (x, y) = (at(*n as f64), SIZE - at(speed_up));
            let _ = write!(path, "{x:.1},{y:.1} ");
            let _ = write!(
                svg,
                "<circle cx='{x:.1}' cy='{y:.1}' r='2.5' fill='#2a6f97'/>\
                 <text x='{x:.1}' y='{:.1}' text-anchor='middle'>{n}</text>\
                 <text x='{:.1}' y='{:.1}' text-anchor='end'>{speed_up:.1}</text>",
                SIZE + 12.0,
                x - 4.0,
                y + 3.0
            );
        }
        let _ = writeln!(
            svg,
            "<polyline points='{path}' fill='none' stroke='#2a6f97' stroke-width='1.5'/></g>"
        );
    }
    svg + "</svg>\n"
}
