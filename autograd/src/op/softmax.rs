//! Softmax and related ops along one axis, safe from overflow and accurate for small results.
//!
//! All of them split a line into its maximum `m` (the first one at a tie) and
//! `rest = Σ exp(xᵢ - m)` over the *other* elements. Then `logsumexp = m + ln(1 + rest)`, and a
//! loss as small as `rest = 1e-30` is not lost in `1 + rest`. For a line of only -∞ the softmax is
//! 0 everywhere, so that a masked row does not turn products into NaN; log_softmax and logsumexp
//! are -∞.

use super::{
    Dependency, Internal, Lowering, Op, Real, Rule, expect_float, index::labels, inputs,
    lowering::LineFunction,
};
use crate::{
    error::OpError,
    ints::Int,
    math::{
        Lanes,
        fold::{Fold, Lines, fold_gathered},
    },
    shape::{Axes, Shape},
    tensor::{DType, Type, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};

/// The largest element and the sum of the others' exponentials relative to it. Leaves `exp(xᵢ - m)`
/// in `exps`.
fn max_and_rest<T: Real>(line: &[T], lines: Lines, exps: &mut [T]) -> (T, T) {
    let (mut at, mut max) = (0, T::of(f64::NEG_INFINITY));
    for (k, &x) in line.iter().enumerate() {
        if x > max {
            (at, max) = (k, x);
        }
    }
    let base = base(max);
    exps.iter_mut()
        .zip(line)
        .for_each(|(e, &x)| *e = (x - base).exp());
    if max.to_f64().is_finite() {
        exps[at] = T::default();
    }
    let rest = fold_gathered(Fold::Sum, exps, lines);
    if max.to_f64().is_finite() {
        exps[at] = T::of(1.0);
    }
    (max, rest)
}

/// What is subtracted from the elements of a line: their maximum, or 0 if that is -∞, because -∞
/// minus -∞ is NaN.
#[inline(always)]
pub(crate) fn base<T: Real>(max: T) -> T {
    if max == T::of(f64::NEG_INFINITY) {
        T::default()
    } else {
        max
    }
}

/// Calls `f(line, lines, out)` for each line of an axis. Strided lines are gathered and scattered.
fn each_line<T: Real>(
    shape: &Shape,
    axis: usize,
    x: &[T],
    out: &mut [T],
    mut f: impl FnMut(&[T], Lines, &mut [T]),
) {
    let (outer, n, inner) = shape.around(axis);
    let lines = Lines { n, inner };
    if outer == 0 {
        return; // without elements, `n` may be of any size
    }
    if inner == 1 {
        return (0..outer).for_each(|o| f(&x[o * n..][..n], lines, &mut out[o * n..][..n]));
    }
    let (mut line, mut result) = (vec![T::default(); n], vec![T::default(); n]);
    for first in (0..outer).flat_map(|o| (0..inner).map(move |i| o * n * inner + i)) {
        line.iter_mut()
            .enumerate()
            .for_each(|(k, l)| *l = x[first + k * inner]);
        f(&line, lines, &mut result);
        result
            .iter()
            .enumerate()
            .for_each(|(k, &r)| out[first + k * inner] = r);
    }
}

/// The type rule of ops whose output has the type of their one float input.
fn same_float_type(x: &[Type]) -> Result<Type, OpError> {
    let [x] = inputs::<1>(x)?;
    expect_float(x.dtype)?;
    Ok(*x)
}

/// `exp(xᵢ) / Σ exp(xⱼ)`
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Softmax {
    axis: usize,
}

impl Op for Softmax {
    const NAME: &'static str = "softmax";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        same_float_type(x)
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        with_dtype!(out.dtype(), float T => {
            each_line(x[0].shape, self.axis, x[0].slice::<T>()?, out.slice()?, |line, lines, out| {
                let (_, rest) = max_and_rest(line, lines, out);
                let sum = T::of(1.0) + rest;
                out.iter_mut().for_each(|o| *o /= sum);
            });
            Ok(())
        }, else expect_float(x[0].dtype()))
    }

    /// `y·(ct - Σ ct·y)`
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.y * (r.ct - (r.ct * r.y).sum_axis_keep(self.axis)))
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Line {
            function: LineFunction::Softmax,
            axis: Some(self.axis),
        }
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Along {
            axes: 1 << self.axis,
        }
    }
}

/// `xᵢ - ln Σ exp(xⱼ)`
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LogSoftmax {
    axis: usize,
}

impl Op for LogSoftmax {
    const NAME: &'static str = "log_softmax";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        same_float_type(x)
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        with_dtype!(out.dtype(), float T => {
            each_line(x[0].shape, self.axis, x[0].slice::<T>()?, out.slice()?, |line, lines, out| {
                let (max, rest) = max_and_rest(line, lines, out);
                let (base, log) = (base(max), Lanes::ln_1p(rest));
                out.iter_mut().zip(line).for_each(|(o, &x)| *o = (x - base) - log);
            });
            Ok(())
        }, else expect_float(x[0].dtype()))
    }

    /// `ct - softmax(x)·Σ ct`
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct - r.y.exp() * r.ct.sum_axis_keep(self.axis))
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Line {
            function: LineFunction::LogSoftmax,
            axis: Some(self.axis),
        }
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Along {
            axes: 1 << self.axis,
        }
    }
}

/// `ln Σ exp(xⱼ)`, over an axis that is removed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LogSumExp {
    axis: usize,
}

impl Op for LogSumExp {
    const NAME: &'static str = "logsumexp";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let ty = same_float_type(x)?;
        Ok(Type::new(
            ty.dtype,
            ty.shape.reduced(Axes(1 << self.axis), false),
        ))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let (_, n, inner) = x[0].shape.around(self.axis);
        with_dtype!(out.dtype(), float T => {
            let (x, out) = (x[0].slice::<T>()?, out.slice::<T>()?);
            // without outputs, `n` may be of any size
            let size = if out.is_empty() { 0 } else { n };
            let (mut line, mut exps) = (vec![T::default(); size], vec![T::default(); size]);
            for (k, out) in out.iter_mut().enumerate() {
                let first = k / inner * n * inner + k % inner;
                line.iter_mut().enumerate().for_each(|(k, l)| *l = x[first + k * inner]);
                let (max, rest) = max_and_rest(&line, Lines { n, inner }, &mut exps);
                // -∞ for no elements or only -∞; ∞ if an element is ∞
                let infinite = !max.to_f64().is_finite() && !line.iter().any(|x| x.is_nan());
                *out = if infinite { max } else { max + Lanes::ln_1p(rest) };
            }
            Ok(())
        }, else expect_float(x[0].dtype()))
    }

    /// `ct·softmax(x)`; 0 where all elements are -∞
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let x = r.x[0];
        let keep = x.known_shape().collapsed(self.axis);
        let (y, ct) = (r.y.reshape(keep), r.ct.reshape(keep));
        let y = y.eq(f64::NEG_INFINITY).select(0.0, y);
        Some(ct * (x - y).exp())
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Line {
            function: LineFunction::LogSumExp,
            axis: Some(self.axis),
        }
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Reduced {
            axes: 1 << self.axis,
        }
    }
}

/// `-ln softmax(x)[label]` for each line of the last axis.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct CrossEntropy;

impl Op for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [logits, labels] = inputs::<2>(x)?;
        expect_float(logits.dtype)?;
        if labels.dtype != DType::I64 {
            let message = format!("the labels are {}, not i64", labels.dtype);
            return Err(OpError::new(message).hint("convert them with .cast(DType::I64)"));
        }
        match logits.shape.split_last() {
            Some((_, rest)) if *rest == labels.shape[..] => {
                Ok(Type::new(logits.dtype, labels.shape))
            }
            Some((classes, rest)) => Err(OpError::new(format!(
                "logits {} (with {classes} classes in the last axis) expect labels of shape {rest:?}, got {}",
                logits.shape, labels.shape
            ))),
            None => Err("the logits have no axis of classes".into()),
        }
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let classes = x[0].shape[x[0].shape.rank() - 1];
        let labels = labels(x[1], classes)?;
        with_dtype!(out.dtype(), float T => {
            let mut exps = vec![T::default(); if labels.is_empty() { 0 } else { classes }];
            let lines = x[0].slice::<T>()?.chunks_exact(classes.max(1));
            for ((out, line), &label) in out.slice()?.iter_mut().zip(lines).zip(labels) {
                let (max, rest) = max_and_rest(line, Lines { n: classes, inner: 1 }, &mut exps);
                *out = (base(max) - line[label as usize]) + Lanes::ln_1p(rest);
            }
            Ok(())
        }, else expect_float(x[0].dtype()))
    }

    /// `ct·(p - one_hot(label))` with `p = softmax(x)`; at the label `p - 1` is minus the sum of the
    /// others, which is accurate for `p` near 1, too
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let &[x, labels] = r.x else { return None };
        let shape = x.known_shape();
        let last = shape.rank() - 1;
        let p = x.softmax(-1);
        let is_label = labels.one_hot(shape[last], DType::Bool);
        let others = is_label.select(0.0, p).sum_axis_keep(-1);
        Some(r.ct.reshape(shape.collapsed(last)) * is_label.select(-others, p))
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Line {
            function: LineFunction::CrossEntropy,
            axis: None,
        }
    }

    fn dependency(&self, input: usize, x: &[Type]) -> Dependency {
        let last = x[0].shape.rank() - 1;
        if input == 0 {
            Dependency::Reduced { axes: 1 << last }
        } else {
            Dependency::None
        }
    }
}

/// `p·cost`, and 0 where `p` is 0, even if the cost is infinite. An infinite cost is replaced there
/// before the multiplication, so that no derivative is `0·∞`. For a finite cost the derivative by
/// `p` is the cost, also at `p = 0`.
fn times_probability<'g>(p: Var<'g>, cost: Var<'g>) -> Var<'g> {
    let finite = cost.abs().eq(f64::INFINITY).select(0.0, cost);
    p * p.eq(0.0).select(finite, cost)
}

impl<'g> Var<'g> {
    /// `exp(x) / Σ exp(x)` along an axis: positive values with sum 1; 0 where all are -∞. For
    /// floats.
    #[track_caller]
    pub fn softmax(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(Softmax::NAME, |shape| {
            Ok(self.apply(Softmax {
                axis: shape.axis(axis)?,
            }))
        })
    }

    /// `ln softmax(x)` along an axis, without overflow and accurate for small results; -∞ where all
    /// are -∞. For floats.
    #[track_caller]
    pub fn log_softmax(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(LogSoftmax::NAME, |shape| {
            Ok(self.apply(LogSoftmax {
                axis: shape.axis(axis)?,
            }))
        })
    }

    /// `ln Σ exp(x)` along an axis, which is removed, without overflow; -∞ for no elements. For
    /// floats.
    #[track_caller]
    #[doc(alias = "log_sum_exp")]
    pub fn logsumexp(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(LogSumExp::NAME, |shape| {
            Ok(self.apply(LogSumExp {
                axis: shape.axis(axis)?,
            }))
        })
    }

    /// The cross-entropy of logits `[.., classes]`. With integer labels `[..]`:
    /// `-ln softmax(x)[label]`, one loss per label, not averaged. With class probabilities, floats
    /// `[.., classes]`: `-Σ p·ln softmax(x)`. The gradient is `softmax(x) - target`. A label
    /// outside `0..classes` is an error when the value is computed.
    ///
    /// Logits may be -∞. The loss for such a class as label is infinite, with a finite gradient by
    /// the logits. Where its probability is 0, it adds nothing to the loss.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let logits = g.input([[2.0, 1.0, 0.1], [0.0, 0.0, 0.0]]);
    /// let loss = logits.cross_entropy(g.constant([0, 2])).mean();
    /// let expected = (0.4170300162778335 + 3f64.ln()) / 2.0;
    /// assert!((loss.value()?.scalar()? - expected).abs() < 1e-15);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn cross_entropy(self, labels: Var<'g>) -> Var<'g> {
        let is_known = self.error().is_none() && labels.error().is_none();
        // if the labels are neither: the op reports what is wrong
        if !is_known
            || !labels.known_dtype().is_float()
            || labels.known_shape() != self.known_shape()
        {
            return self.binary(super::Id::CrossEntropy, labels);
        }
        self.with_shape(CrossEntropy::NAME, |shape| {
            if shape.rank() == 0 {
                return Err("the logits have no axis of classes".into());
            }
            Ok(-times_probability(labels, self.log_softmax(-1)).sum_axis(-1))
        })
    }

    /// As [`cross_entropy`](Var::cross_entropy), with three options, as in PyTorch. *Label
    /// smoothing* (Szegedy et al. 2016): a share `smoothing` of each target is distributed evenly
    /// over all classes, so a logit of -∞ makes the loss infinite (the gradient by the logits stays
    /// finite). *Class weights* `[classes]`: the loss of a class is multiplied by its weight; a
    /// weighted mean is `losses.sum() / weights.take(labels, 0).sum()`. *Ignored labels*: where an
    /// integer label is `ignore_index`, which need not be a class, loss and gradient are 0,
    /// whatever the logits.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let logits = g.input([[2.0, 1.0, 0.1]]);
    /// let plain = logits.cross_entropy(g.constant([0]));
    /// let weights = g.constant([1.0, 1.0, 1.0]);
    /// let smooth = logits.cross_entropy_with(g.constant([0]), 0.3, Some(weights), None);
    /// let even = -logits.log_softmax(-1).mean_axis(-1);
    /// let difference = smooth - (0.7 * plain + 0.3 * even);
    /// assert!(difference.abs().value()?.to_f64s()[0] < 1e-15);
    /// let ignored = logits.cross_entropy_with(g.constant([-100]), 0.0, None, Some(-100));
    /// assert_eq!(ignored.value()?.to_f64s(), [0.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn cross_entropy_with(
        self,
        target: Var<'g>,
        smoothing: f64,
        weights: Option<Var<'g>>,
        ignore_index: Option<i64>,
    ) -> Var<'g> {
        if let Some(wrong) = [Some(target), weights]
            .into_iter()
            .flatten()
            .find(|v| v.error().is_some())
        {
            return if self.error().is_some() { self } else { wrong };
        }
        self.with_shape(CrossEntropy::NAME, |shape| {
            let (classes, rows) = shape
                .split_last()
                .ok_or("the logits have no axis of classes")?;
            if !(0.0..=1.0).contains(&smoothing) {
                return Err(OpError::new(format!(
                    "expected a smoothing between 0 and 1, got {smoothing}"
                )));
            }
            let is_float = target.known_dtype().is_float();
            if let Some(ignored) = ignore_index {
                return match is_float {
                    true => Err(OpError::new("probabilities have no label to ignore")
                        .hint("set their rows to 0")),
                    // if the labels do not fit: the op reports what is wrong
                    false
                        if target.known_dtype() != DType::I64
                            || target.known_shape()[..] != *rows =>
                    {
                        Ok(self.cross_entropy(target))
                    }
                    false => Ok(self.cross_entropy_ignoring(target, smoothing, weights, ignored)),
                };
            }
            if smoothing == 0.0 && weights.is_none() {
                return Ok(self.cross_entropy(target));
            }
            if is_float {
                let spread = target * (1.0 - smoothing) + smoothing / *classes as f64;
                return Ok(self.cross_entropy(weights.map_or(spread, |w| spread * w)));
            }
            let own = self.cross_entropy(target); // an error if a label is not one of the classes
            let own = weights.map_or(own, |w| times_probability(w.take(target, 0), own));
            let even = match weights {
                Some(w) => self.cross_entropy(self.ones_like() / *classes * w),
                // no probability is 0
                None => -self.log_softmax(-1).mean_axis(-1),
            };
            let part = |p: f64, loss: Var<'g>| match p {
                0.0 => times_probability(self.lit(p), loss), // 0, also of ∞
                p => loss * p,
            };
            Ok(part(1.0 - smoothing, own) + part(smoothing, even))
        })
    }

    /// The same, but 0 where a label is the ignored one. There the logits are replaced as well, so
    /// that NaN among them does not get into a gradient.
    #[track_caller]
    fn cross_entropy_ignoring(
        self,
        labels: Var<'g>,
        smoothing: f64,
        weights: Option<Var<'g>>,
        ignored: i64,
    ) -> Var<'g> {
        let counts = labels.ne(ignored);
        let logits = counts.unsqueeze(-1).select(self, 0.0);
        let losses = logits.cross_entropy_with(counts.select(labels, 0), smoothing, weights, None);
        counts.select(losses, 0.0)
    }
}
