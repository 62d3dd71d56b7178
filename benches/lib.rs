//! The benchmark workloads, written with the public interface. Each run builds its graph again.
//!
//! | name | one run |
//! |---|---|
//! | `mlp_small` | a training step (cross-entropy, SGD) of 784-128-10 with ReLU, batch size 64 |
//! | `mlp_large` | the same with 784-512-512-10, batch size 128 |
//! | `infer_one` | the forward pass of 784-128-10 on one row |
//! | `elementwise` | `sum(sigmoid(tanh(x)·x + exp(-x)))` and its gradient, 10⁶ elements |
//! | `branches` | `Σ sum(tanh(x·w))` and its gradients, `x: [128, 256]`, 64 weights `[256, 256]` |
//! | `scalar_chain` | `y = x`, then 1,000 times `y = y·x + x`, and the gradient |
//! | `deep_chain` | the same 200,000 times |

pub mod sweep;

use autograd::{Graph, Param, Result, Tensor, Var, compile};
use nn::{Activation, Mlp, Module, Optimizer, Sgd};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::time::{Duration, Instant};

/// The thread pools of the benchmarks, with their names: one thread, and all threads of the
/// machine.
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

/// The time of `iterations` calls of `run` in a thread pool.
pub fn time<T>(pool: &ThreadPool, iterations: u64, run: &(impl Fn() -> T + Sync)) -> Duration {
    pool.install(|| {
        let start = Instant::now();
        for _ in 0..iterations {
            std::hint::black_box(run());
        }
        start.elapsed()
    })
}

/// Pseudo-random numbers between -1 and 1, the same in every run (linear congruential generator).
pub fn noise(count: usize) -> Vec<f32> {
    let mut state = 12345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Training of an MLP: model, optimizer and one batch of data.
pub struct Training {
    model: Mlp,
    sgd: Sgd,
    images: Tensor,
    labels: Tensor,
}

impl Training {
    /// A network with these layer sizes, and a batch of `batch` samples.
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

    /// The forward pass: the loss.
    pub fn forward(&self) -> Result<Tensor> {
        self.loss(&Graph::training(0)).value()
    }

    /// Forward and backward pass: the loss and all gradients.
    pub fn backward(&self) -> Result<Tensor> {
        let g = Graph::training(0);
        Ok(self.loss(&g).backward()?.value().clone())
    }

    /// A training step: loss, gradients and update.
    pub fn step(&self) -> Result<Tensor> {
        let g = Graph::training(0);
        let loss = self.loss(&g);
        self.sgd.step(loss);
        g.run(loss)
    }

    /// The overhead of a step before its first kernel runs: builds the graph and finds its plan in
    /// the cache.
    pub fn trace_and_plan_lookup(&self) -> Result<usize> {
        let g = Graph::training(0);
        let loss = self.loss(&g);
        self.sgd.step(loss);
        g.prepare(loss)
    }

    /// Builds the graph of a step, with gradients and updates, and drops it.
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
    /// A 784-128-10 network and one sample.
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
    /// A vector of `count` values.
    pub fn new(count: usize) -> Elementwise {
        Elementwise {
            x: noise(count).into(),
        }
    }

    fn sum<'g>(&self, g: &'g Graph) -> Var<'g> {
        let x = g.input(&self.x);
        (x.tanh() * x + (-x).exp()).sigmoid().sum()
    }

    /// The forward pass: the sum.
    pub fn forward(&self) -> Result<Tensor> {
        self.sum(&Graph::new()).value()
    }

    /// Forward and backward pass: the sum and its gradient.
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
    /// `count` independent branches, each with its own weight.
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

    /// The forward pass: the sum.
    pub fn forward(&self) -> Result<Tensor> {
        self.total(&Graph::new()).value()
    }

    /// Forward and backward pass: the sum and the gradients of all weights.
    pub fn backward(&self) -> Result<Tensor> {
        let g = Graph::new();
        Ok(self.total(&g).backward()?.value().clone())
    }
}

fn append_chain<'g>(x: Var<'g>, repeats: usize) -> Var<'g> {
    let mut y = x;
    for _ in 0..repeats {
        y = y * x + x;
    }
    y
}

/// The forward pass of `scalar_chain`.
pub fn chain_forward(repeats: usize) -> Result<f64> {
    let g = Graph::new();
    append_chain(g.input(0.5), repeats).value()?.scalar()
}

/// `scalar_chain` and `deep_chain`: forward and backward pass.
pub fn chain(repeats: usize) -> Result<f64> {
    let g = Graph::new();
    let x = g.input(0.5);
    append_chain(x, repeats).backward()?.scalar(x)
}

/// The chain, compiled once: value and gradient, without tracing in each run.
pub fn compiled_chain(repeats: usize) -> impl Fn(f64) -> Result<[Tensor; 2]> {
    let f = compile(move |[x]| {
        let y = append_chain(x, repeats);
        let [d] = x.graph().grad(y, &[x]);
        [y, d]
    });
    move |x| f.call([x])
}

/// Plans a chain and its gradient without the plan cache. `salt` must differ from call to call: it
/// changes the structure of the graph, so that the cache cannot have its plan.
pub fn plan_chain(repeats: usize, salt: usize) -> Result<usize> {
    let g = Graph::new();
    let x = g.input(0.5);
    let y = append_chain(x, repeats) * 2.0;
    let y = (0..salt).fold(y, |y, _| -y);
    let plan = g.plan((y, g.grads(y, &[x])))?;
    Ok(plan.kernels().len())
}

/// Builds the graph of a chain and, if `with_gradient`, of its gradient, without computing it.
/// Returns the number of nodes.
pub fn build_chain(repeats: usize, with_gradient: bool) -> usize {
    let g = Graph::new();
    let x = g.input(0.5);
    let y = append_chain(x, repeats);
    if with_gradient {
        g.grad(y, &[x]);
    }
    g.len()
}

/// The first example of the README: `f = x·y + ln x`, its value and gradients.
pub fn readme_example() -> Result<f64> {
    let g = Graph::new();
    let (x, y) = (g.input(2.0), g.input(3.0));
    let f = x * y + x.ln();
    f.backward()?.scalar(x)
}
