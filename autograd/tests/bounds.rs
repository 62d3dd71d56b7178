//! Cached memory is counted and bounded: plans with everything they own, and the memory of each
//! thread. Checked with a counting allocator.

mod counting;

use autograd::{
    Graph, Op, OpError, Rule, Tensor, TensorView, TensorViewMut, Type, Var, cached_bytes,
    release_memory,
};
use counting::{LARGE, LIVE, MIB};
use std::sync::atomic::Ordering::Relaxed;

/// An op with a table. It computes nothing and leaves its output unspecified.
#[derive(Clone, PartialEq, Debug)]
struct Table(Vec<u8>);

impl Op for Table {
    const NAME: &'static str = "table";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(&self, _: &[TensorView], _: TensorViewMut) -> Result<(), OpError> {
        Ok(())
    }
    fn vjp<'g>(&self, _: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct)
    }
    fn bytes(&self) -> usize {
        size_of::<Table>() + self.0.capacity()
    }
}

type Build = for<'g> fn(&'g Graph, usize) -> Var<'g>;

/// Programs that hold much memory of one kind, with another structure for each size.
const PROGRAMS: [(&str, Build); 9] = [
    ("numbers", |g, k| {
        (0..1000 + k).fold(g.input(0.5), |y, _| y * 1.5 + 0.5)
    }),
    ("fused", |g, k| {
        (0..300 + k)
            .fold(g.input(vec![0.5; 10]), |y, _| (y * 1.5).sin())
            .sum()
    }),
    ("inputs", |g, k| {
        (0..1000 + k)
            .map(|_| g.input([0.5, 1.5]))
            .reduce(|a, b| a + b)
            .expect("some")
    }),
    ("shapes", |g, k| {
        let x = g.input(vec![0.5; 1000]);
        (1..400 + k as isize)
            .map(|n| x.slice(0, ..n).cumsum(0).max())
            .reduce(|a, b| a + b)
            .expect("some")
    }),
    ("spilled operands", |g, k| {
        let x: Vec<Var<'_>> = (0..500 + k).map(|_| g.input([0.5])).collect();
        (1..20)
            .map(|n| g.concat(&x[n..], 0).sum())
            .reduce(|a, b| a + b)
            .expect("some")
    }),
    ("sums", |g, k| {
        let x = g.input([[0.5, 1.5], [2.5, 3.5]]);
        (0..300 + k)
            .map(|n| (x * n as f64).sum_axis(n as isize % 2).exp().sum())
            .reduce(|a, b| a + b)
            .expect("some")
    }),
    ("tables", |g, k| {
        (0..4).fold(g.input([0.5]), |y, n| {
            y.apply(Table(vec![(n + k) as u8; 100_000]))
        })
    }),
    ("closures", |g, k| {
        let x = g.input([0.5]);
        (0..4 + k).fold(x, |y, n| {
            let held = vec![n as f64; 10_000];
            y.custom_vjp(&[x], move |_, r| Some(r.ct * held[0]))
        })
    }),
    ("products", |g, k| {
        (0..200 + k).fold(g.input([[0.5f32; 4]; 4]), |y, _| y.matmul(y).softmax(-1))
    }),
];

fn in_a_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(f).join()).expect("the thread ends")
}

fn close(what: &str, account: usize, real: usize) {
    let (account, real) = (account as f64, real as f64);
    assert!(
        (account - real).abs() <= 0.25 * real.max(4096.0),
        "{what}: counted {account}, allocated {real}"
    );
}

/// The thread does nothing else, so all memory freed here belongs to the plans.
fn plans_are_counted() {
    for (what, build) in PROGRAMS {
        release_memory();
        for k in 0..8 {
            let g = Graph::new();
            build(&g, k).value().expect("runs");
        }
        let (before, [_, account]) = (LIVE.load(Relaxed), cached_bytes());
        assert!(account > 0, "{what}");
        in_a_thread(release_memory);
        close(what, account, before - LIVE.load(Relaxed));
        assert_eq!(cached_bytes()[1], 0);
    }
}

fn plans_are_bounded() {
    release_memory();
    let before = LIVE.load(Relaxed);
    for k in 0..200 {
        let g = Graph::new();
        g.input([0.5])
            .apply(Table(vec![k as u8; 2 * MIB]))
            .value()
            .expect("runs");
        assert!(cached_bytes()[1] <= 128 * MIB);
    }
    assert!(cached_bytes()[1] > 100 * MIB && LIVE.load(Relaxed) - before < 140 * MIB);
    // a plan larger than half of the bound is not cached
    release_memory();
    let g = Graph::new();
    g.input([0.5])
        .apply(Table(vec![1; 65 * MIB]))
        .value()
        .expect("runs");
    assert_eq!(cached_bytes()[1], 0);
}

fn threads_are_counted() {
    release_memory();
    let x = Tensor::full([100_003], 0.5f32).expect("small");
    for _ in 0..3 {
        let g = Graph::new();
        let v = g.input(&x);
        let y = v.sort(0).cumsum(0).exp();
        let z = v.slice(0, ..100_000).reshape([100, 1000]);
        let z = z.matmul(z.t()).softmax(-1);
        g.run((y, z, (v * y).sum())).expect("runs");
    }
    in_a_thread(release_memory);
    let (before, [account, _]) = (LIVE.load(Relaxed), cached_bytes());
    assert!(account > 800_000, "{account}");
    release_memory();
    close("a thread", account, before - LIVE.load(Relaxed));
    assert_eq!(cached_bytes(), [0, 0]);
}

fn empty(mib: usize) -> Tensor {
    Tensor::full([mib * MIB / 4], 0f32).expect("there is memory")
}

/// Two intermediate values of this size, and one that is returned.
fn step(x: &Tensor) {
    let g = Graph::new();
    let y = g
        .constant(x)
        .apply(Table(vec![]))
        .apply(Table(vec![]))
        .apply(Table(vec![]));
    let z = y.apply(Table(vec![])).slice(0, ..1);
    g.run((y, z)).expect("runs");
}

/// The number of large allocations during `f`.
fn large(f: impl FnOnce()) -> usize {
    let before = LARGE.load(Relaxed);
    f();
    LARGE.load(Relaxed) - before
}

fn repeated_steps_allocate_nothing() {
    release_memory();
    // buffers of lengths that are never requested again do not displace others
    for k in 0..80 {
        let x = Tensor::full([MIB + k], 0f32).expect("small");
        let g = Graph::new();
        g.constant(&x).apply(Table(vec![])).value().expect("runs");
        assert!(cached_bytes()[0] <= 256 * MIB);
    }
    assert!(cached_bytes()[0] > 250 * MIB);
    let x = empty(8);
    step(&x);
    assert_eq!(large(|| (0..5).for_each(|_| step(&x))), 0);
    // more than the minimum bound, because the steps need it
    let x = empty(110);
    step(&x);
    assert_eq!(large(|| (0..5).for_each(|_| step(&x))), 0);
    let kept = cached_bytes()[0];
    assert!((330 * MIB..332 * MIB).contains(&kept), "{kept}");
    // memory that is no longer needed is freed
    drop(x);
    let small = empty(4);
    (0..16).for_each(|_| step(&small));
    assert!(cached_bytes()[0] <= 256 * MIB, "{}", cached_bytes()[0]);
    // steps of alternating sizes, which together need less than the minimum bound
    let x = empty(60);
    let mixed = || {
        step(&x);
        (0..20).for_each(|_| step(&small));
    };
    (0..2).for_each(|_| mixed()); // frees the memory of the larger steps
    assert_eq!(large(|| (0..3).for_each(|_| mixed())), 0);
}

/// One test, so that nothing else allocates at the same time.
#[test]
fn cached_memory_is_counted_and_bounded() {
    plans_are_counted();
    plans_are_bounded();
    threads_are_counted();
    repeated_steps_allocate_nothing();
}
