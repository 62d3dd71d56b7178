//! Losses: functions of a prediction and a target that give a single number.

use autograd::Var;

/// The mean cross-entropy of logits `[.., classes]` with integer labels `[..]`: `mean(-ln softmax(x)[label])`.
///
/// ```
/// let g = autograd::Graph::new();
/// let loss = nn::loss::cross_entropy(g.input([[0f32, 0.0]]), g.constant([1]));
/// assert!((loss.value()?.scalar()? - 2f64.ln()).abs() < 1e-7);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn cross_entropy<'g>(logits: Var<'g>, labels: Var<'g>) -> Var<'g> {
    logits.cross_entropy(labels).mean()
}

/// The mean squared error: `mean((prediction - target)²)`.
#[track_caller]
pub fn mse<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
    difference(prediction, target, |d| d.square())
}

/// The mean absolute error: `mean(|prediction - target|)`.
#[track_caller]
pub fn mae<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
    difference(prediction, target, |d| d.abs())
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
    move |prediction, target| {
        difference(prediction, target, |d| {
            let size = d.abs();
            size.le(delta).select(d.square() * 0.5, (size - delta / 2.0) * delta)
        })
    }
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
    match same_shape(logits, target) {
        // -ln σ(x) = softplus(-x), and -ln(1 - σ(x)) = softplus(x)
        true => ((1.0 - target) * logits.softplus() + target * (-logits).softplus()).mean(),
        false => unequal(logits, target),
    }
}

/// The mean of a function of the differences. Shapes must be equal: broadcasting here is nearly always a mistake.
#[track_caller]
fn difference<'g>(prediction: Var<'g>, target: Var<'g>, f: impl FnOnce(Var<'g>) -> Var<'g>) -> Var<'g> {
    if same_shape(prediction, target) { f(prediction - target).mean() } else { unequal(prediction, target) }
}

/// Whether the shapes are equal, or an error is in the way that says more.
fn same_shape(prediction: Var<'_>, target: Var<'_>) -> bool {
    match (prediction.shape(), target.shape()) {
        (Ok(a), Ok(b)) => a == b,
        _ => true,
    }
}

#[track_caller]
fn unequal<'g>(prediction: Var<'g>, target: Var<'g>) -> Var<'g> {
    let shape = target.shape().map(|s| s.to_string()).unwrap_or_default();
    prediction.fail(&format!("wants a prediction of the target's shape {shape}"))
}
