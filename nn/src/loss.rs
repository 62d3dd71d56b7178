//! Loss functions of a prediction and a target. They return a scalar: the mean over the samples.
//!
//! [`unreduced`] has the same losses without the mean: one value per sample or per element.
//! [`with_reduction`] combines one of them with a [`Reduction`].

use autograd::{Tensor, Var};
use std::panic::Location;

/// How the losses of the samples are reduced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// The mean.
    Mean,
    /// The sum.
    Sum,
    /// No reduction.
    None,
}

impl Reduction {
    /// Applies the reduction.
    #[track_caller]
    pub fn apply(self, losses: Var<'_>) -> Var<'_> {
        match self {
            Reduction::Mean => losses.mean(),
            Reduction::Sum => losses.sum(),
            Reduction::None => losses,
        }
    }
}

/// Combines an unreduced loss, from [`unreduced`] or your own, with a reduction.
///
/// ```
/// use nn::loss::{self, Reduction};
/// let mse_sum = loss::with_reduction(Reduction::Sum, loss::unreduced::mse);
/// let g = autograd::Graph::new();
/// let value = mse_sum(g.input([1.0, 3.0]), g.constant([0.0, 0.0])).value()?;
/// assert_eq!(value.scalar()?, 10.0);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn with_reduction(
    reduction: Reduction,
    loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>,
) -> impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> {
    let made_at = Location::caller();
    move |prediction, target| {
        let losses = loss(prediction, target);
        let _scope = losses.graph().scope_made_at("loss", made_at);
        reduction.apply(losses)
    }
}

/// Names a closure that is a loss or a metric: `let my_loss = loss::func(|outputs, targets| ..);`.
/// Without it, the compiler cannot derive the types of a closure that is bound to a name ("type
/// annotations needed"): see [`autograd::func`].
///
/// ```
/// use nn::loss;
/// let cubic = loss::func(|y, t| (y - t).abs().powi(3).mean());
/// let g = autograd::Graph::new();
/// assert_eq!(cubic(g.input([1.0, 3.0]), g.constant([0.0, 1.0])).value()?.scalar()?, 4.5);
/// # Ok::<(), autograd::Error>(())
/// ```
#[doc(alias = "closure")]
pub fn func<F: for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>>(f: F) -> F {
    f
}

/// Losses without reduction.
pub mod unreduced {
    use autograd::Var;
    use std::panic::Location;

    /// The cross-entropy of logits `[.., classes]` and integer labels `[..]`,
    /// `-ln softmax(x)[label]`, or of logits and probabilities `[.., classes]`.
    #[track_caller]
    #[doc(alias = "CrossEntropyLoss")]
    #[doc(alias = "softmax_cross_entropy")]
    pub fn cross_entropy<'g>(logits: Var<'g>, target: Var<'g>) -> Var<'g> {
        let _scope = logits.graph().scope("cross_entropy");
        logits.cross_entropy(target)
    }

    /// The negative log-likelihood `-ln p[label]` of log-probabilities `[.., classes]` and integer
    /// labels `[..]`.
    #[track_caller]
    #[doc(alias = "NLLLoss")]
    #[doc(alias = "nll_loss")]
    pub fn nll<'g>(log_probabilities: Var<'g>, labels: Var<'g>) -> Var<'g> {
        let _scope = log_probabilities.graph().scope("nll");
        // a label is no position that may count from the end: a negative one is out of range
        let classes = log_probabilities.shape().ok();
        let classes = classes.and_then(|s| s.last().copied()).unwrap_or(0);
        let labels = labels.lt(0).select(classes as i64, labels);
        -log_probabilities
            .gather(-1, labels.unsqueeze(-1))
            .squeeze(-1)
    }

    /// The binary cross-entropy `-t·ln σ(x) - (1 - t)·ln(1 - σ(x))` of logits `x` and targets `t`
    /// from 0 to 1.
    #[track_caller]
    #[doc(alias = "BCEWithLogitsLoss")]
    #[doc(alias = "binary_cross_entropy_with_logits")]
    pub fn bce_with_logits<'g>(logits: Var<'g>, target: Var<'g>) -> Var<'g> {
        let _scope = logits.graph().scope("bce_with_logits");
        // -ln σ(x) = softplus(-x), and -ln(1 - σ(x)) = softplus(x)
        let loss = |x: Var<'g>, t: Var<'g>| {
            super::weighted(1.0 - t, x.softplus()) + super::weighted(t, (-x).softplus())
        };
        super::elementwise("bce_with_logits", logits, target, loss)
    }

    /// The squared error `(prediction - target)²`.
    #[track_caller]
    #[doc(alias = "MSELoss")]
    #[doc(alias = "mse_loss")]
    pub fn mse<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
        let _scope = prediction.graph().scope("mse");
        super::elementwise("mse", prediction, target, |a, b| (a - b).square())
    }

    /// The absolute error `|prediction - target|`.
    #[track_caller]
    #[doc(alias = "L1Loss")]
    #[doc(alias = "l1_loss")]
    pub fn mae<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
        let _scope = prediction.graph().scope("mae");
        super::elementwise("mae", prediction, target, |a, b| (a - b).abs())
    }

    /// The Huber loss: see [`huber`](super::huber()).
    #[track_caller]
    #[doc(alias = "HuberLoss")]
    #[doc(alias = "SmoothL1Loss")]
    pub fn huber(delta: f64) -> impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> {
        let made_at = Location::caller();
        move |prediction, target| {
            let _scope = prediction.graph().scope_made_at("huber", made_at);
            if !(delta > 0.0 && delta.is_finite()) {
                let message = format!("expected a finite delta above 0, got {delta}");
                return prediction.fail_as("huber", &message);
            }
            super::elementwise("huber", prediction, target, |a, b| {
                let (d, abs) = (a - b, (a - b).abs());
                let is_quadratic = abs.le(delta);
                // 0 replaces `d` outside of the quadratic part: for an infinite `d`, the gradient
                // of the unused branch would be 0·∞ = NaN
                is_quadratic.select(
                    is_quadratic.select(d, 0.0).square() * 0.5,
                    (abs - delta / 2.0) * delta,
                )
            })
        }
    }

    /// The Kullback–Leibler divergence `Σ p·(ln p - ln q)` over the last axis, of log-probabilities
    /// `ln q` and probabilities `p`. A term with `p = 0` is 0.
    #[track_caller]
    #[doc(alias = "KLDivLoss")]
    pub fn kl_div<'g>(log_q: Var<'g>, p: Var<'g>) -> Var<'g> {
        let _scope = log_q.graph().scope("kl_div");
        super::elementwise("kl_div", log_q, p, |log_q, p| {
            let is_positive = p.gt(0.0);
            // `select` before the product: for `p = 0` and `q = 0` the product would be 0·∞ = NaN
            let log_ratio = is_positive.select(is_positive.select(p, 1.0).ln() - log_q, 0.0);
            (p * log_ratio).sum_axis(-1)
        })
    }
}

/// The mean cross-entropy of logits `[.., classes]` and integer labels `[..]`,
/// `mean(-ln softmax(x)[label])`, or of logits and probabilities `[.., classes]`.
///
/// ```
/// let g = autograd::Graph::new();
/// let loss = nn::loss::cross_entropy(g.input([[0f32, 0.0]]), g.constant([1]));
/// assert!((loss.value()?.scalar()? - 2f64.ln()).abs() < 1e-7);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
#[doc(alias = "CrossEntropyLoss")]
#[doc(alias = "softmax_cross_entropy")]
pub fn cross_entropy<'g>(logits: Var<'g>, target: Var<'g>) -> Var<'g> {
    unreduced::cross_entropy(logits, target).mean()
}

/// [`cross_entropy`] with label smoothing, class weights and a label to ignore, like the arguments
/// `label_smoothing`, `weight` and `ignore_index` of PyTorch's `cross_entropy`. With class weights,
/// the mean is weighted. Ignored labels do not count in the mean; if all are ignored, it is NaN.
///
/// ```
/// use autograd::Tensor;
/// let class_weights = Tensor::from([1.0f32, 2.0]);
/// let loss = nn::loss::cross_entropy_with(0.1, Some(class_weights), None);
/// let g = autograd::Graph::new();
/// println!("{}", loss(g.input([[0f32, 1.0], [0.5, 0.0]]), g.constant([1, 0])).value()?);
///
/// let loss = nn::loss::cross_entropy_with(0.0, None, Some(-100));
/// let loss = loss(g.input([[0f32, 0.0], [7.0, 0.0]]), g.constant([1, -100]));
/// assert!((loss.value()?.scalar()? - 2f64.ln()).abs() < 1e-7);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn cross_entropy_with(
    label_smoothing: f64,
    class_weights: Option<Tensor>,
    ignore_index: Option<i64>,
) -> impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> {
    let made_at = Location::caller();
    move |logits, target| {
        let g = logits.graph();
        let _scope = g.scope_made_at("cross_entropy", made_at);
        let weights = class_weights.as_ref().map(|w| g.constant(w));
        let losses = logits.cross_entropy_with(target, label_smoothing, weights, ignore_index);
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
                let is_counted = target.ne(i);
                losses.sum()
                    / is_counted
                        .select(w.take(is_counted.select(target, 0), 0), 0.0)
                        .sum()
            }
        }
    }
}

/// The mean negative log-likelihood `mean(-ln p[label])` of log-probabilities `[.., classes]` and
/// integer labels `[..]`.
#[track_caller]
#[doc(alias = "NLLLoss")]
#[doc(alias = "nll_loss")]
pub fn nll<'g>(log_probabilities: Var<'g>, labels: Var<'g>) -> Var<'g> {
    unreduced::nll(log_probabilities, labels).mean()
}

/// The mean squared error: `mean((prediction - target)²)`.
#[track_caller]
#[doc(alias = "MSELoss")]
#[doc(alias = "mse_loss")]
pub fn mse<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
    unreduced::mse(prediction, target).mean()
}

/// The mean absolute error: `mean(|prediction - target|)`.
#[track_caller]
#[doc(alias = "L1Loss")]
#[doc(alias = "l1_loss")]
pub fn mae<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
    unreduced::mae(prediction, target).mean()
}

/// The mean Huber loss (Huber 1964): `d²/2` if `|d| ≤ delta`, else `delta·(|d| - delta/2)`, where
/// `d` is the difference. It is less sensitive to outliers than the squared error.
///
/// ```
/// let g = autograd::Graph::new();
/// let loss = nn::loss::huber(1.0)(g.input([0.5, 3.0]), g.constant([0.0, 0.0]));
/// assert_eq!(loss.value()?.scalar()?, (0.125 + 2.5) / 2.0);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
#[doc(alias = "HuberLoss")]
#[doc(alias = "SmoothL1Loss")]
pub fn huber(delta: f64) -> impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> {
    with_reduction(Reduction::Mean, unreduced::huber(delta))
}

/// The mean binary cross-entropy of logits `x` and targets `t` (floats from 0 to 1):
/// `mean(-t·ln σ(x) - (1 - t)·ln(1 - σ(x)))`. The computation is numerically stable: it does not
/// overflow, and small losses are not rounded to 0.
///
/// ```
/// let g = autograd::Graph::new();
/// let loss = nn::loss::bce_with_logits(g.input([800.0, -800.0]), g.constant([1.0, 1.0]));
/// assert_eq!(loss.value()?.scalar()?, 400.0);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
#[doc(alias = "BCEWithLogitsLoss")]
#[doc(alias = "binary_cross_entropy_with_logits")]
pub fn bce_with_logits<'g>(logits: Var<'g>, target: Var<'g>) -> Var<'g> {
    unreduced::bce_with_logits(logits, target).mean()
}

/// The Kullback–Leibler divergence `Σ p·(ln p - ln q)` of log-probabilities `ln q` `[.., classes]`
/// and probabilities `p`; the mean over the samples (PyTorch's `batchmean`).
///
/// ```
/// let g = autograd::Graph::new();
/// let q = g.input([[0.0, 0.0]]).log_softmax(-1);
/// let loss = nn::loss::kl_div(q, g.constant([[1.0, 0.0]]));
/// assert!((loss.value()?.scalar()? - 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
#[doc(alias = "KLDivLoss")]
pub fn kl_div<'g>(log_q: Var<'g>, p: Var<'g>) -> Var<'g> {
    unreduced::kl_div(log_q, p).mean()
}

/// The loss of a batch: what a loss function gives, or the mean if it gives a number for each sample
/// `[batch, ..]`; weighted, `Σ weight·loss / Σ weight`, if the samples have weights. If all of them
/// are 0, it is 0.
#[track_caller]
pub(crate) fn weighted_mean<'g>(loss: Var<'g>, weights: Option<Var<'g>>) -> Var<'g> {
    let (Ok(shape), Ok(dtype)) = (loss.shape(), loss.dtype()) else {
        return loss; // an error
    };
    let Some(weights) = weights else {
        return if shape.is_empty() { loss } else { loss.mean() };
    };
    if shape.first() != weights.dims::<1>().as_ref().map(|[n]| n) {
        let message = "the samples have weights, so the loss has to be one number for each sample: \
                       use one of `loss::unreduced`";
        return loss.fail(message);
    }
    let weights = weights.cast(dtype);
    let losses = if shape.len() == 1 {
        loss
    } else {
        loss.flatten_from(1).mean_axis(-1)
    };
    let total = weights.sum();
    (losses * weights).sum() / total.eq(0.0).select(total.ones_like(), total)
}

/// `p·cost`, and 0 where `p` is 0 and the cost is infinite.
fn weighted<'g>(p: Var<'g>, cost: Var<'g>) -> Var<'g> {
    let finite = cost.eq(f64::INFINITY).select(0.0, cost);
    p * p.eq(0.0).select(finite, cost)
}

/// Applies an elementwise loss. The shapes must be equal, since broadcasting a target is nearly
/// always a mistake.
#[track_caller]
fn elementwise<'g>(
    name: &'static str,
    a: Var<'g>,
    b: Var<'g>,
    loss: impl FnOnce(Var<'g>, Var<'g>) -> Var<'g>,
) -> Var<'g> {
    match (a.shape(), b.shape()) {
        (Ok(shape), Ok(target)) if shape != target => {
            let message = format!("expected a prediction of the target's shape {target}");
            a.fail_as(name, &message)
        }
        _ => loss(a, b), // equal shapes, or an earlier error that `loss` passes on
    }
}
