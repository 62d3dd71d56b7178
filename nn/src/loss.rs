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
