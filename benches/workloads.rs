//! The named workloads, forward, backward and whole step apart: `cargo bench`.

use benches::{Branches, Elementwise, Inference, Training, article, chain, chain_forward, compiled_chain, write_chain};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn training(c: &mut Criterion) {
    for (name, training) in [("mlp_small", Training::small()), ("mlp_large", Training::large())] {
        let training = training.expect("memory for the workload");
        let mut group = c.benchmark_group(name);
        group.bench_function("trace", |b| b.iter(|| training.trace()));
        group.bench_function("trace and look up", |b| b.iter(|| training.look_up()));
        group.bench_function("forward", |b| b.iter(|| training.forward()));
        group.bench_function("backward", |b| b.iter(|| training.backward()));
        group.bench_function("step", |b| b.iter(|| training.step()));
        group.finish();
    }
    let inference = Inference::new().expect("memory for the workload");
    c.bench_function("infer_one", |b| b.iter(|| inference.run()));
}

fn tensors(c: &mut Criterion) {
    let elementwise = Elementwise::new(1_000_000);
    let mut group = c.benchmark_group("elementwise");
    group.bench_function("forward", |b| b.iter(|| elementwise.forward()));
    group.bench_function("backward", |b| b.iter(|| elementwise.backward()));
    group.finish();
    let branches = Branches::new(64).expect("memory for the workload");
    let mut group = c.benchmark_group("branches");
    group.bench_function("forward", |b| b.iter(|| branches.forward()));
    group.bench_function("backward", |b| b.iter(|| branches.backward()));
    group.finish();
}

fn scalars(c: &mut Criterion) {
    let mut group = c.benchmark_group("scalar_chain");
    group.bench_function("forward", |b| b.iter(|| chain_forward(1_000)));
    group.bench_function("backward", |b| b.iter(|| chain(1_000)));
    let compiled = compiled_chain(1_000);
    group.bench_function("compiled", |b| b.iter(|| compiled(0.5)));
    group.finish();
    c.bench_function("article", |b| b.iter(article));
}

/// What a node costs before anything is computed: a thousand repeats are 2,000 nodes forward.
fn nodes(c: &mut Criterion) {
    let mut group = c.benchmark_group("node");
    for (name, sweep) in [("append", false), ("append_and_sweep", true)] {
        group.throughput(Throughput::Elements(write_chain(1_000, sweep) as u64));
        group.bench_function(name, |b| b.iter(|| write_chain(1_000, sweep)));
    }
    group.finish();
}

criterion_group!(workloads, training, tensors, scalars, nodes);
criterion_main!(workloads);
