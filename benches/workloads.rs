//! The benchmark workloads: forward pass, forward and backward pass, and whole training step, with
//! one thread and with all threads: `cargo bench`.

use benches::{
    Branches, Elementwise, Inference, Training, build_chain, chain, chain_forward, compiled_chain,
    pools, readme_example, time,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Measures the parts of a workload in each thread pool.
macro_rules! on_all_pools {
    ($c:ident, $group:literal, $($name:literal: $run:expr;)*) => {
        let mut group = $c.benchmark_group($group);
        $(for (threads, pool) in &pools() {
            group.bench_function(BenchmarkId::new($name, threads), |b| b.iter_custom(|n| time(pool, n, &$run)));
        })*
        group.finish();
    };
}

fn training(c: &mut Criterion) {
    let small = Training::small().expect("memory for the workload");
    on_all_pools! { c, "mlp_small",
        "trace": || small.trace();
        "trace and plan lookup": || small.trace_and_plan_lookup();
        "forward": || small.forward();
        "backward": || small.backward();
        "step": || small.step();
    }
    let large = Training::large().expect("memory for the workload");
    on_all_pools! { c, "mlp_large",
        "forward": || large.forward();
        "backward": || large.backward();
        "step": || large.step();
    }
    let inference = Inference::new().expect("memory for the workload");
    on_all_pools! { c, "infer_one", "forward": || inference.run(); }
}

fn tensors(c: &mut Criterion) {
    let elementwise = Elementwise::new(1_000_000);
    on_all_pools! { c, "elementwise", "forward": || elementwise.forward(); "backward": || elementwise.backward(); }
    let branches = Branches::new(64).expect("memory for the workload");
    on_all_pools! { c, "branches", "forward": || branches.forward(); "backward": || branches.backward(); }
}

/// Too small to run on several threads: the times with one and with all threads should be equal.
fn scalars(c: &mut Criterion) {
    let compiled = compiled_chain(1_000);
    on_all_pools! { c, "scalar_chain",
        "forward": || chain_forward(1_000);
        "backward": || chain(1_000);
        "compiled": || compiled(0.5);
    }
    on_all_pools! { c, "readme_example", "backward": readme_example; }
}

/// The cost per node of building a graph. A thousand repeats give 2,000 nodes in the forward pass.
fn nodes(c: &mut Criterion) {
    let mut group = c.benchmark_group("node");
    for (name, with_gradient) in [("append", false), ("append_with_gradient", true)] {
        group.throughput(Throughput::Elements(
            build_chain(1_000, with_gradient) as u64
        ));
        group.bench_function(name, |b| b.iter(|| build_chain(1_000, with_gradient)));
    }
    group.finish();
}

criterion_group!(workloads, training, tensors, scalars, nodes);
criterion_main!(workloads);
