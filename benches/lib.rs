//! The named workloads, written as a user would with the public interface: built anew at each run.
//!
//! | name | one run |
//! |---|---|
//! | `mlp_small` | a training step of 784-128-10, ReLU, batch 64: forward, mean cross-entropy, backward, SGD |
//! | `mlp_large` | the same with 784-512-512-10 and batch 128 |
//! | `infer_one` | the forward pass of 784-128-10 on one row |
//! | `elementwise` | 10⁶ values: `sum(sigmoid(tanh(x)·x + exp(-x)))` and its gradient |
//! | `branches` | `x: [128, 256]`, 64 weights `[256, 256]`: `Σ sum(tanh(x·w))` and the gradients of all weights |
//! | `scalar_chain` | `y = x`, then 1,000 times `y = y·x + x`, and the gradient |
//! | `deep_chain` | the same 200,000 times |

use autograd::{Graph, Param, Result, Tensor, Var, compile};
use nn::{Activation, Mlp, Module, Optimizer, Sgd};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::time::{Duration, Instant};

/// Pools of one thread and of as many as the machine has, with their names: what each benchmark is measured with.
pub fn pools() -> Vec<(String, ThreadPool)> {
    let all = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut counts = vec![1, all];
    counts.dedup();
    let pool = |threads: usize| {
        ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads")
    };
    let name = |threads: usize| format!("{threads} thread{}", if threads == 1 { "" } else { "s" });
    counts
        .into_iter()
        .map(|threads| (name(threads), pool(threads)))
        .collect()
}

/// How long it takes to run something so often on a pool's threads.
pub fn time<T>(pool: &ThreadPool, often: u64, run: &(impl Fn() -> T + Sync)) -> Duration {
    pool.install(|| {
        let start = Instant::now();
        for _ in 0..often {
            std::hint::black_box(run());
        }
        start.elapsed()
    })
}

/// Numbers without pattern between -1 and 1: a small congruential generator, so that every run sees the same.
pub fn noise(count: usize) -> Vec<f32> {
    let mut state = 12345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// An MLP with a batch of data and an optimizer.
pub struct Training {
    model: Mlp,
    sgd: Sgd,
    images: Tensor,
    labels: Tensor,
}

impl Training {
    /// A network of these sizes and a batch of this many rows.
    pub fn new(sizes: &[usize], batch: usize) -> Result<Training> {
        let model = nn::mlp(sizes, Activation::Relu, 1);
        let images = Tensor::new([batch, sizes[0]], noise(batch * sizes[0]))?;
        let labels = (0..batch as i64)
            .map(|k| k * 7 % 10)
            .collect::<Vec<_>>()
            .into();
        Ok(Training {
            model,
            sgd: Sgd::new(0.1),
            images,
            labels,
        })
    }

    /// `mlp_small`
    pub fn small() -> Result<Training> {
        Training::new(&[784, 128, 10], 64)
    }

    /// `mlp_large`
    pub fn large() -> Result<Training> {
        Training::new(&[784, 512, 512, 10], 128)
    }

    fn loss<'g>(&self, g: &'g Graph) -> Var<'g> {
        nn::loss::cross_entropy(
            self.model.forward(g.constant(&self.images)),
            g.constant(&self.labels),
        )
    }

    /// The loss only.
    pub fn forward(&self) -> Result<Tensor> {
        self.loss(&Graph::training(0)).value()
    }

    /// The loss and all gradients.
    pub fn backward(&self) -> Result<Tensor> {
        let g = Graph::training(0);
        Ok(self.loss(&g).backward()?.value().clone())
    }

    /// Loss, gradients and update.
    pub fn step(&self) -> Result<Tensor> {
        let g = Graph::training(0);
        let loss = self.loss(&g);
        self.sgd.step(loss);
        g.run(loss)
    }

    /// The plan of a step, looked up: what a step costs before its first kernel runs, when its structure is known.
    pub fn look_up(&self) -> Result<usize> {
        let g = Graph::training(0);
        let loss = self.loss(&g);
        self.sgd.step(loss);
        g.prepare(loss)
    }

    /// What a step costs before anything is computed: the graph, the sweep and the updates, written and dropped.
    pub fn trace(&self) -> usize {
        let g = Graph::training(0);
        self.sgd.step(self.loss(&g));
        g.len()
    }
}

/// `infer_one`
pub struct Inference {
    model: Mlp,
    row: Tensor,
}

impl Inference {
    /// 784-128-10 and one row.
    pub fn new() -> Result<Inference> {
        Ok(Inference {
            model: nn::mlp(&[784, 128, 10], Activation::Relu, 1),
            row: Tensor::new([1, 784], noise(784))?,
        })
    }

    /// One forward pass.
    pub fn run(&self) -> Result<Tensor> {
        let g = Graph::new();
        self.model.forward(g.constant(&self.row)).value()
    }
}

/// `elementwise`
pub struct Elementwise {
    x: Tensor,
}

impl Elementwise {
    /// On this many values.
    pub fn new(count: usize) -> Elementwise {
        Elementwise {
            x: noise(count).into(),
        }
    }

    fn sum<'g>(&self, g: &'g Graph) -> Var<'g> {
        let x = g.input(&self.x);
        (x.tanh() * x + (-x).exp()).sigmoid().sum()
    }

    /// The sum only.
    pub fn forward(&self) -> Result<Tensor> {
        self.sum(&Graph::new()).value()
    }

    /// The sum and its gradient.
    pub fn backward(&self) -> Result<Tensor> {
        let g = Graph::new();
        Ok(self.sum(&g).backward()?.value().clone())
    }
}

/// `branches`
pub struct Branches {
    x: Tensor,
    weights: Vec<Param>,
}

impl Branches {
    /// This many separate weights.
    pub fn new(count: usize) -> Result<Branches> {
        let weight = |_| {
            Ok(Param::new(Tensor::new(
                [256, 256],
                noise(256 * 256).iter().map(|v| v * 0.05).collect(),
            )?))
        };
        let weights = (0..count).map(weight).collect::<Result<_>>()?;
        Ok(Branches {
            x: Tensor::new([128, 256], noise(128 * 256))?,
            weights,
        })
    }

    fn total<'g>(&self, g: &'g Graph) -> Var<'g> {
        let x = g.constant(&self.x);
        let mut total = x.matmul(g.param(&self.weights[0])).tanh().sum();
        for w in &self.weights[1..] {
            total += x.matmul(g.param(w)).tanh().sum();
        }
        total
    }

    /// The sum only.
    pub fn forward(&self) -> Result<Tensor> {
        self.total(&Graph::new()).value()
    }

    /// The sum and the gradients of all weights.
    pub fn backward(&self) -> Result<Tensor> {
        let g = Graph::new();
        Ok(self.total(&g).backward()?.value().clone())
    }
}

fn write<'g>(x: Var<'g>, repeats: usize) -> Var<'g> {
    let mut y = x;
    for _ in 0..repeats {
        y = y * x + x;
    }
    y
}

/// The value of `scalar_chain`.
pub fn chain_forward(repeats: usize) -> Result<f64> {
    let g = Graph::new();
    write(g.input(0.5), repeats).value()?.scalar()
}

/// `scalar_chain` and `deep_chain`: the gradient, after this many repeats.
pub fn chain(repeats: usize) -> Result<f64> {
    let g = Graph::new();
    let x = g.input(0.5);
    write(x, repeats).backward()?.scalar(x)
}

/// The chain compiled once: value and gradient at a point, without tracing.
pub fn compiled_chain(repeats: usize) -> impl Fn(f64) -> Result<[Tensor; 2]> {
    let f = compile(move |[x]| {
        let y = write(x, repeats);
        let [d] = x.graph().grad(y, &[x]);
        [y, d]
    });
    move |x| f.call([x])
}

/// The plan of a chain of this many repeats and its gradient, from nothing: a structure that was not seen before.
/// `fresh` must be another number each time.
pub fn plan_chain(repeats: usize, fresh: usize) -> Result<usize> {
    let g = Graph::new();
    let x = g.input(0.5);
    let y = write(x, repeats) * 2.0;
    let y = (0..fresh).fold(y, |y, _| -y);
    let plan = g.plan((y, g.grads(y, &[x])))?;
    Ok(plan.kernels().len())
}

/// Writes a chain of this many repeats and, if `sweep`, its gradient; computes nothing. The number of nodes.
pub fn write_chain(repeats: usize, sweep: bool) -> usize {
    let g = Graph::new();
    let x = g.input(0.5);
    let y = write(x, repeats);
    if sweep {
        g.grad(y, &[x]);
    }
    g.len()
}

/// The article's small graph: `f = x·y + ln x`, its value and gradients.
pub fn article() -> Result<f64> {
    let g = Graph::new();
    let (x, y) = (g.input(2.0), g.input(3.0));
    let f = x * y + x.ln();
    f.backward()?.scalar(x)
}
