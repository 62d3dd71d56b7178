//! How the time grows with the size of a workload, with one thread and with all threads:
//! `cargo bench --bench sizes`. Throughput is per branch, per weight, per element or per operation:
//! a constant throughput means linear growth.

use benches::{Branches, Elementwise, Training, chain, compiled_chain, plan_chain, pools, time};
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};

/// Measures a workload of this size in each thread pool.
fn measure<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    size: usize,
    run: impl Fn() -> T + Sync,
) {
    for (threads, pool) in &pools() {
        let id = BenchmarkId::new(format!("{name}, {threads}"), size);
        group.bench_function(id, |b| b.iter_custom(|n| time(pool, n, &run)));
    }
}

/// 1 to 64 branches. Throughput per branch.
fn branches(c: &mut Criterion) {
    let mut group = c.benchmark_group("sizes/branches");
    for count in [1, 4, 16, 64] {
        let branches = Branches::new(count).expect("memory for the workload");
        group.throughput(Throughput::Elements(count as u64));
        measure(&mut group, "forward", count, || branches.forward());
        measure(&mut group, "backward", count, || branches.backward());
    }
    group.finish();
}

/// Training steps of networks with hidden layers of 64 to 2048 units. Throughput per weight.
fn widths(c: &mut Criterion) {
    let mut group = c.benchmark_group("sizes/width");
    group.sample_size(20);
    for width in [64, 256, 1024, 2048] {
        let training =
            Training::new(&[256, width, width, 10], 64).expect("memory for the workload");
        group.throughput(Throughput::Elements(
            (256 * width + width * width + width * 10) as u64,
        ));
        measure(&mut group, "forward", width, || training.forward());
        measure(&mut group, "backward", width, || training.backward());
        measure(&mut group, "step", width, || training.step());
    }
    group.finish();
}

/// Elementwise operations on 1 to 10⁷ elements. Throughput per element.
fn elements(c: &mut Criterion) {
    let mut group = c.benchmark_group("sizes/elements");
    group.sample_size(20);
    for count in [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000] {
        let elementwise = Elementwise::new(count);
        group.throughput(Throughput::Elements(count as u64));
        measure(&mut group, "forward", count, || elementwise.forward());
        measure(&mut group, "backward", count, || elementwise.backward());
    }
    group.finish();
}

/// Chains of 10 to 10⁶ operations: built and run each time, compiled once, and planned without
/// cache. Throughput per operation.
fn chains(c: &mut Criterion) {
    let mut group = c.benchmark_group("sizes/chain");
    group.sample_size(10);
    let mut salt = 0;
    for operations in [10usize, 100, 1_000, 10_000, 100_000, 1_000_000] {
        let repeats = operations / 2;
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_function(BenchmarkId::new("built each time", operations), |b| {
            b.iter(|| chain(repeats))
        });
        let compiled = compiled_chain(repeats);
        group.bench_function(BenchmarkId::new("compiled", operations), |b| {
            b.iter(|| compiled(0.5))
        });
        let mut plan = || {
            salt = (salt + 1) % 500;
            plan_chain(repeats, salt)
        };
        group.bench_function(BenchmarkId::new("planned", operations), |b| {
            b.iter(&mut plan)
        });
    }
    group.finish();
}

criterion_group!(sizes, branches, widths, elements, chains);
criterion_main!(sizes);
