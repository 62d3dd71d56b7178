//! Losses: functions of a prediction and a target that give a single number, the mean over the samples.
//!
//! [`each`] has the same losses without the mean, one number a sample or element: to be summed, weighted or looked at.
//! [`reduced`] makes a loss of one of them and a [`Reduction`].

use autograd::{Tensor, Var};

/// What becomes of the losses of the samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
    /// They stay as they are.
    None,
}

impl Reduction {
    /// Applies it.
    #[track_caller]
    pub fn apply(self, losses: Var<'_>) -> Var<'_> {
        match self {
            Reduction::Mean => losses.mean(),
            Reduction::Sum => losses.sum(),
            Reduction::None => losses,
        }
    }
}

/// A loss of [`each`], or of your own, with a reduction.
///
/// ```
/// use nn::loss::{self, Reduction};
/// let total = loss::reduced(Reduction::Sum, loss::each::mse);
/// let g = autograd::Graph::new();
/// assert_eq!(total(g.input([1.0, 3.0]), g.constant([0.0, 0.0])).value()?.scalar()?, 10.0);
/// # Ok::<(), autograd::Error>(())
/// ```
pub fn reduced(
    reduction: Reduction,
    loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>,
) -> impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> {
    move |prediction, target| reduction.apply(loss(prediction, target))
}

/// Losses without a reduction.
pub mod each {
    use autograd::Var;

    /// The cross-entropy of logits `[.., classes]` with integer labels `[..]`, `-ln softmax(x)[label]`, or with
    /// probabilities `[.., classes]`.
    #[track_caller]
    pub fn cross_entropy<'g>(logits: Var<'g>, target: Var<'g>) -> Var<'g> {
        logits.cross_entropy(target)
    }

    /// `-ln p[label]` of log-probabilities `[.., classes]` with integer labels `[..]`.
    #[track_caller]
    pub fn nll<'g>(log_probabilities: Var<'g>, labels: Var<'g>) -> Var<'g> {
        -log_probabilities
            .gather(-1, labels.unsqueeze(-1))
            .squeeze(-1)
    }

    /// `-t·ln σ(x) - (1 - t)·ln(1 - σ(x))` of logits with targets from 0 to 1.
    #[track_caller]
    pub fn bce_with_logits<'g>(logits: Var<'g>, target: Var<'g>) -> Var<'g> {
        // -ln σ(x) = softplus(-x), and -ln(1 - σ(x)) = softplus(x)
        let loss = |x: Var<'g>, t: Var<'g>| {
            super::expected(1.0 - t, x.softplus()) + super::expected(t, (-x).softplus())
        };
        super::paired(logits, target, loss)
    }

    /// `(prediction - target)²`
    #[track_caller]
    pub fn mse<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
        super::paired(prediction, target, |a, b| (a - b).square())
    }

    /// `|prediction - target|`
    #[track_caller]
    pub fn mae<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
        super::paired(prediction, target, |a, b| (a - b).abs())
    }

    /// Huber's loss: see [`huber`](super::huber()).
    pub fn huber(delta: f64) -> impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> {
        move |prediction, target| {
            super::paired(prediction, target, |a, b| {
                let (d, size) = (a - b, (a - b).abs());
                let near = size.le(delta);
                // each branch is computed from what belongs to it: the square of ∞ has the derivative 0·∞ otherwise
                near.select(
                    near.select(d, 0.0).square() * 0.5,
                    (size - delta / 2.0) * delta,
                )
            })
        }
    }

    /// `Σ p·(ln p - ln q)` over the last axis, of log-probabilities `ln q` with probabilities `p`; nothing where `p = 0`.
    #[track_caller]
    pub fn kl_div<'g>(log_q: Var<'g>, p: Var<'g>) -> Var<'g> {
        super::paired(log_q, p, |log_q, p| {
            let there = p.gt(0.0);
            // by the cost, not by the product, which would be 0·∞ for `q = 0`
            let costs = there.select(there.select(p, 1.0).ln() - log_q, 0.0);
            (p * costs).sum_axis(-1)
        })
    }
}

/// The mean cross-entropy of logits `[.., classes]` with integer labels `[..]`: `mean(-ln softmax(x)[label])`; or with
/// probabilities `[.., classes]`.
///
/// ```
/// let g = autograd::Graph::new();
/// let loss = nn::loss::cross_entropy(g.input([[0f32, 0.0]]), g.constant([1]));
/// assert!((loss.value()?.scalar()? - 2f64.ln()).abs() < 1e-7);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn cross_entropy<'g>(logits: Var<'g>, target: Var<'g>) -> Var<'g> {
    each::cross_entropy(logits, target).mean()
}

/// [`cross_entropy`] with label smoothing, weights of the classes (the mean is then a weighted one) and a label to ignore:
/// PyTorch's `label_smoothing`, `weight` and `ignore_index`. The mean is over the labels that count: NaN if there are none.
///
/// ```
/// use autograd::Tensor;
/// let loss = nn::loss::cross_entropy_with(0.1, Some(Tensor::from([1.0f32, 2.0])), None);
/// let g = autograd::Graph::new();
/// println!("{}", loss(g.input([[0f32, 1.0], [0.5, 0.0]]), g.constant([1, 0])).value()?);
///
/// let of_known = nn::loss::cross_entropy_with(0.0, None, Some(-100));
/// let loss = of_known(g.input([[0f32, 0.0], [7.0, 0.0]]), g.constant([1, -100]));
/// assert!((loss.value()?.scalar()? - 2f64.ln()).abs() < 1e-7);
/// # Ok::<(), autograd::Error>(())
/// ```
pub fn cross_entropy_with(
    smoothing: f64,
    weights: Option<Tensor>,
    ignore_index: Option<i64>,
) -> impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> {
    move |logits, target| {
        let g = logits.graph();
        let weights = weights.as_ref().map(|w| g.constant(w));
        let losses = logits.cross_entropy_with(target, smoothing, weights, ignore_index);
        if losses.error().is_some() || target.dtype().is_ok_and(|d| d.is_float()) {
            return losses.mean();
        }
        match (weights, ignore_index) {
            (None, None) => losses.mean(),
            (Some(w), None) => losses.sum() / w.take(target, 0).sum(),
            (None, Some(i)) => {
                losses.sum()
                    / losses
                        .dtype()
                        .map_or(losses, |d| target.ne(i).sum().cast(d))
            }
            (Some(w), Some(i)) => {
                let counts = target.ne(i);
                losses.sum()
                    / counts
                        .select(w.take(counts.select(target, 0), 0), 0.0)
                        .sum()
            }
        }
    }
}

/// The mean of `-ln p[label]`, of log-probabilities `[.., classes]` with integer labels `[..]`.
#[track_caller]
pub fn nll<'g>(log_probabilities: Var<'g>, labels: Var<'g>) -> Var<'g> {
    each::nll(log_probabilities, labels).mean()
}

/// The mean squared error: `mean((prediction - target)²)`.
#[track_caller]
pub fn mse<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
    each::mse(prediction, target).mean()
}

/// The mean absolute error: `mean(|prediction - target|)`.
#[track_caller]
pub fn mae<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
    each::mae(prediction, target).mean()
}

/// The mean of Huber's loss (Huber 1964): `d²/2` for a difference `|d|` up to `delta`, and `delta·(|d| - delta/2)` beyond,
/// so that outliers weigh less.
///
/// ```
/// let g = autograd::Graph::new();
/// let loss = nn::loss::huber(1.0)(g.input([0.5, 3.0]), g.constant([0.0, 0.0]));
/// assert_eq!(loss.value()?.scalar()?, (0.125 + 2.5) / 2.0);
/// # Ok::<(), autograd::Error>(())
/// ```
pub fn huber(delta: f64) -> impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> {
    reduced(Reduction::Mean, each::huber(delta))
}

/// The mean binary cross-entropy of logits with targets from 0 to 1 (floats): `mean(-t·ln σ(x) - (1 - t)·ln(1 - σ(x)))`,
/// computed without overflow and without losing small losses.
///
/// ```
/// let g = autograd::Graph::new();
/// let loss = nn::loss::bce_with_logits(g.input([800.0, -800.0]), g.constant([1.0, 1.0]));
/// assert_eq!(loss.value()?.scalar()?, 400.0);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn bce_with_logits<'g>(logits: Var<'g>, target: Var<'g>) -> Var<'g> {
    each::bce_with_logits(logits, target).mean()
}

/// The Kullback–Leibler divergence of a distribution `q` from `p`, `Σ p·(ln p - ln q)`: of log-probabilities `ln q`
/// `[.., classes]` with probabilities `p`; the mean over the samples (PyTorch's `batchmean`).
///
/// ```
/// let g = autograd::Graph::new();
/// let q = g.input([[0.0, 0.0]]).log_softmax(-1);
/// let loss = nn::loss::kl_div(q, g.constant([[1.0, 0.0]]));
/// assert!((loss.value()?.scalar()? - 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn kl_div<'g>(log_q: Var<'g>, p: Var<'g>) -> Var<'g> {
    each::kl_div(log_q, p).mean()
}

/// `p·cost`, and 0 where `p` is 0 and the cost infinite.
fn expected<'g>(p: Var<'g>, cost: Var<'g>) -> Var<'g> {
    let finite = cost.eq(f64::INFINITY).select(0.0, cost);
    p * p.eq(0.0).select(finite, cost)
}

/// A loss of pairs of elements. Shapes must be equal: broadcasting here is nearly always a mistake.
#[track_caller]
fn paired<'g>(a: Var<'g>, b: Var<'g>, loss: impl FnOnce(Var<'g>, Var<'g>) -> Var<'g>) -> Var<'g> {
    match (a.shape(), b.shape()) {
        (Ok(own), Ok(shape)) if own != shape => {
            a.fail(&format!("wants a prediction of the target's shape {shape}"))
        }
        _ => loss(a, b), // equal, or an error is in the way that says more
    }
}
