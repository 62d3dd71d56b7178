//! How the time of a training step changes with the number of ranks: a model of it, from what is measured
//! here, and what ranks on this machine take in comparison.
//!
//! `mpirun -n 4 cargo run --release --example scaling_model -- --svg docs/scaling.svg`, in the directory
//! of this crate. It prints what `docs/SCALING.md` has. `--latency SECONDS` and `--bandwidth BYTES`
//! (per second) take the place of those measured between the ranks.

mod measure;
mod model;
mod picture;

use measure::Measured;
use model::{Algorithm, Machine, Network};
use nn::{Result, team::Team};
use nn_mpi::Mpi;

/// The options of the command line.
struct Options {
    latency: Option<f64>,
    bandwidth: Option<f64>,
    svg: Option<String>,
}

impl Options {
    fn parse() -> Result<Options> {
        let mut options = Options {
            latency: None,
            bandwidth: None,
            svg: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let wrong = || {
                nn::Error::Invalid(format!(
                    "{name}: expected a value of one of --latency, --bandwidth, --svg"
                ))
            };
            let value = args.next().ok_or_else(wrong)?;
            let number = || value.parse().map_err(|_| wrong());
            match name.as_str() {
                "--latency" => options.latency = Some(number()?),
                "--bandwidth" => options.bandwidth = Some(number()?),
                "--svg" => options.svg = Some(value),
                _ => return Err(wrong()),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let mpi = Mpi::start()?;
    let result = run(&mpi);
    mpi.end(result)
}

fn run(mpi: &Mpi) -> Result<()> {
    let options = Options::parse()?;
    // one thread per rank: what is compared is ranks
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global();
    pool.map_err(|e| nn::Error::Invalid(e.to_string()))?;
    let measured = Measured::on(mpi)?;
    if mpi.rank() > 0 {
        return Ok(());
    }
    let machine = Machine {
        latency: options.latency.unwrap_or(measured.latency),
        bandwidth: options.bandwidth.unwrap_or(measured.bandwidth),
        seconds_per_byte_of_update: measured.update_per_byte,
    };
    println!("{measured}");
    let networks = [measured.mnist(), measured.large()];
    if mpi.size() > 1 {
        measured.compare(&machine);
    }
    for network in &networks {
        print_table(network, &machine);
    }
    if let Some(path) = options.svg {
        std::fs::write(&path, picture::draw(&networks, &machine))
            .map_err(|e| nn::Error::Invalid(format!("{path}: {e}")))?;
    }
    Ok(())
}

/// The numbers of ranks of the model.
fn ranks() -> impl Iterator<Item = usize> {
    (0..=10).map(|k| 1 << k)
}

/// A table of the network's step times in milliseconds, as Markdown.
fn print_table(network: &Network, machine: &Machine) {
    println!(
        "\n**{}**, {} samples per step, milliseconds:\n",
        network.name, network.batch
    );
    println!(
        "| ranks | ring | ring, overlapped | tree | tree, overlapped | efficiency | with {} samples per rank |",
        network.batch_per_rank
    );
    println!("|---|---|---|---|---|---|---|");
    let alone = network.step(machine, 1, Algorithm::Ring, false);
    for ranks in ranks() {
        let step = |algorithm, overlap| network.step(machine, ranks, algorithm, overlap);
        let all = [
            step(Algorithm::Ring, false),
            step(Algorithm::Ring, true),
            step(Algorithm::Tree, false),
            step(Algorithm::Tree, true),
        ];
        let best = all.iter().copied().fold(f64::INFINITY, f64::min);
        let cells = all.map(|t| format!("{:.3}", t * 1e3)).join(" | ");
        let (efficiency, weak) = (
            alone / best / ranks as f64,
            network.weak_efficiency(machine, ranks),
        );
        println!(
            "| {ranks} | {cells} | {:.0} % | {:.0} % |",
            efficiency * 100.0,
            weak * 100.0
        );
    }
    let best = |&ranks: &usize| network.best(machine, ranks);
    let fastest = ranks()
        .min_by(|a, b| best(a).total_cmp(&best(b)))
        .unwrap_or(1);
    let half = ranks()
        .filter(|r| alone / best(r) >= 0.5 * *r as f64)
        .last()
        .unwrap_or(1);
    println!(
        "\nFastest with {fastest} ranks, {:.1} times as fast as one; up to {half} ranks, at least half of each rank's time is of use.",
        alone / best(&fastest)
    );
}
