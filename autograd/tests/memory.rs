//! Memory: buffers are freed after their last use and reused in place. Checked with a counting
//! allocator.

mod counting;

use autograd::{Graph, Param, Result, Tensor};
use counting::{COUNT, LARGE, LIVE, MIB, PEAK, TOTAL};
use std::sync::atomic::Ordering::Relaxed;

const ELEMENTS: usize = 1 << 17;
/// The bytes of a test tensor, large enough to count as a large allocation.
const BYTES: usize = 8 * ELEMENTS;
const _: () = assert!(BYTES == MIB);

/// Two threads on any machine, without cached buffers.
fn two_threads() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .expect("threads")
}

/// The peak memory of `f` above that before, in tensors, and the number of tensors it allocates.
fn tensors(f: impl FnOnce() + Send) -> (usize, usize) {
    let pool = two_threads();
    let (before, large) = (LIVE.load(Relaxed), LARGE.load(Relaxed));
    PEAK.store(before, Relaxed);
    pool.install(f);
    (
        (PEAK.load(Relaxed) - before) / BYTES,
        LARGE.load(Relaxed) - large,
    )
}

/// One test, so that nothing else allocates at the same time.
#[test]
fn buffers_are_freed_and_reused() -> Result<()> {
    let x = Tensor::full([ELEMENTS], 0.5)?;

    // a chain of a hundred elementwise ops, fused with the sum at its end, needs no memory for
    // intermediate values
    let (peak, allocations) = tensors(|| {
        let g = Graph::new();
        let mut y = g.constant(&x);
        for _ in 0..50 {
            y = y.sin() * 1.01;
        }
        y.sum().value().expect("runs");
    });
    assert_eq!((peak, allocations), (0, 0));

    // an op that cannot run in place needs its input and its output, nothing else
    let (peak, _) = tensors(|| {
        let g = Graph::new();
        let mut y = g.constant(&x).reshape([-1, 2]);
        for _ in 0..20 {
            y = y.softmax(-1) + 1.0;
        }
        y.sum().value().expect("runs");
    });
    assert_eq!(peak, 2);

    // values that are not requested cost nothing
    let (peak, allocations) = tensors(|| {
        let g = Graph::new();
        let y = g.constant(&x);
        let unused = y.exp() * y;
        let _ = unused;
        y.sum().value().expect("runs");
    });
    assert_eq!((peak, allocations), (0, 0));

    // value, gradient and update are one kernel, which writes to the parameter
    let w = Param::new(Tensor::full([ELEMENTS], 0.5)?);
    let step = || {
        let g = Graph::new();
        let v = g.param(&w);
        let loss = v.square().sum();
        let [d] = g.grad(loss, &[v]);
        g.assign(&w, v - 0.1 * d);
        g.run(loss).expect("runs");
    };
    assert_eq!(tensors(step), (0, 0));

    // repeated steps allocate no large memory: the second step reuses that of the first one
    let m = Param::new(Tensor::full([512, 256], 0.01)?);
    let deep_step = || {
        let g = Graph::new();
        let v = g.param(&m);
        let y = (g.constant(&x).reshape([512, 256]) * v).softmax(-1).t();
        let loss = (y * y.t().t()).softmax(0).square().sum();
        let [d] = g.grad(loss, &[v]);
        g.assign(&m, v - 0.1 * d);
        g.run(loss).expect("runs");
    };
    let (_, once) = tensors(deep_step);
    let (_, often) = tensors(|| (0..10).for_each(|_| deep_step()));
    assert!(once > 0);
    assert_eq!(often, once);

    // and few small allocations: at most this many per step with a cached plan. Some are for
    // starting helper threads, so the number varies
    let pool = two_threads();
    let before = COUNT.load(Relaxed);
    pool.install(|| (0..10).for_each(|_| step()));
    let a_step = (COUNT.load(Relaxed) - before) / 10;
    assert!(a_step <= 66, "{a_step} allocations per step");

    // requesting a value repeatedly while the graph grows costs only the new nodes: the last
    // requests cost as much as the first
    let g = Graph::new();
    let mut y = g.input(0.5);
    let mut requests = |count: usize| {
        let before = TOTAL.load(Relaxed);
        for _ in 0..count {
            y = y.sin() * 1.5;
            y.value().expect("runs");
        }
        TOTAL.load(Relaxed) - before
    };
    let first = requests(1000);
    requests(18_000);
    let last = requests(1000);
    assert!(
        last < 2 * first,
        "{first} bytes for the first thousand requests, {last} for the last"
    );

    // the same for a value on a side branch, if no value on the main path is requested
    let g = Graph::new();
    let (x, mut sum) = (g.input(0.5), g.input(0.0));
    let mut requests = |count: usize| {
        let before = TOTAL.load(Relaxed);
        for _ in 0..count {
            sum = (sum + x).sin();
            (sum * 2.0).value().expect("runs");
        }
        TOTAL.load(Relaxed) - before
    };
    requests(100);
    let first = requests(1000);
    requests(4_000);
    let last = requests(1000);
    assert!(
        last < 2 * first,
        "{first} bytes for the first thousand requests, {last} for the last"
    );

    // scratch memory is only as large as needed, and kernels do not grow without limit
    let short = |count: usize| {
        let pool = two_threads();
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        pool.install(|| {
            let g = Graph::new();
            let all: Vec<_> = (0..count).map(|k| g.input([k as f64, 1.0, 2.0])).collect();
            let sum = all.iter().fold(all[0], |sum, v| sum + v);
            sum.value().expect("runs");
        });
        PEAK.load(Relaxed) - before
    };
    let peak = short(16_000);
    assert!(
        peak < 16_000 * 4 * 1024,
        "{peak} bytes for 16,000 vectors of three elements"
    );
    Ok(())
}
