//! `autograd` and `nn` on the benchmark workloads: the same functions that `cargo bench` measures.
//! `peer-ours sweep` measures the cases of the sweep.

mod machine;
mod sweep;

use benches::{Branches, Elementwise, Inference, Training, chain};
use timing::Workload;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|name| name == "sweep") {
        return sweep::serve(
            timing::option(&args, "--threads", 1),
            timing::option(&args, "--seconds", 0.1),
        );
    }
    timing::main("ours", workload);
}

fn workload(name: &str) -> Option<Workload> {
    fn run<T>(result: autograd::Result<T>) -> T {
        result.expect("the workload runs")
    }
    Some(match name {
        "mlp_small" | "mlp_large" => {
            let training = run(if name == "mlp_small" {
                Training::small()
            } else {
                Training::large()
            });
            Box::new(move || drop(run(training.step())))
        }
        "infer_one" => {
            let inference = run(Inference::new());
            Box::new(move || drop(run(inference.run())))
        }
        "elementwise" => {
            let elementwise = Elementwise::new(1_000_000);
            Box::new(move || drop(run(elementwise.backward())))
        }
        "branches" => {
            let branches = run(Branches::new(64));
            Box::new(move || drop(run(branches.backward())))
        }
        _ => {
            let repeats = timing::repeats(name)?;
            Box::new(move || {
                run(chain(repeats));
            })
        }
    })
}
