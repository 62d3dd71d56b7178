//! Cumulative sums along an axis.

use super::{Dependency, Internal, Op, Parts, Real, Rule, inputs};
use crate::{
    error::OpError,
    ints::Int,
    piece::Piece,
    tensor::{DType, Type, reserve},
    var::Var,
    view::{TensorView, TensorViewMut},
};

/// `yᵢ = x₀ + … + xᵢ` along an axis, or, backwards, `yᵢ = xᵢ + … + xₙ₋₁`.
#[derive(Clone, PartialEq, Debug)]
struct Cumsum {
    axis: usize,
    backwards: bool,
}

impl Op for Cumsum {
    const NAME: &'static str = "cumsum";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x] = inputs::<1>(x)?;
        match x.dtype {
            DType::Bool => Ok(Type::new(DType::I64, x.shape)),
            _ => Ok(*x),
        }
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::of_lines(out, self.axis), Internal(()))
    }

    fn parts(&self, _x: &[Type], _: Internal) -> Parts {
        Parts::lines(self.axis, SCAN)
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let (x, back) = (x[0], self.backwards);
        for block in out.blocks.clone() {
            match x.dtype() {
                DType::F32 => scan(x.slice::<f32>()?, &mut out, block, back)?,
                DType::F64 => scan(x.slice::<f64>()?, &mut out, block, back)?,
                DType::I64 => count(x.slice::<i64>()?, &mut out, block, back)?,
                DType::Bool => count(x.slice::<bool>()?, &mut out, block, back)?,
            }
        }
        Ok(())
    }

    /// The transpose: the cumulative sum from the other end.
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct.apply(Cumsum {
            axis: self.axis,
            backwards: !self.backwards,
        }))
    }

    fn may_fail(&self, x: &[Type]) -> bool {
        x.iter().any(|t| t.dtype == DType::I64)
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Along {
            axes: 1 << self.axis,
        }
    }
}

/// What an element costs, in light steps.
const SCAN: usize = 50;

/// A running sum of floats, in f64. For f32 that is exact enough; for f64 the rounding errors are
/// carried along.
///
/// Elements are taken in groups of four, each of which is added up by itself: only one addition of
/// each group waits for the group before. The order follows from the place in the line alone.
#[derive(Clone, Copy, Default)]
struct Running {
    sum: f64,
    error: f64,
}

/// The elements of a group.
const GROUP: usize = 4;

impl Running {
    /// With what the group has so far.
    #[inline(always)]
    fn with<T: Real>(self, part: f64) -> T {
        let is_wide = T::DTYPE == DType::F64;
        T::of(self.sum + if is_wide { self.error + part } else { part })
    }

    /// Adds a whole group.
    #[inline(always)]
    fn add<T: Real>(&mut self, group: f64) {
        let sum = self.sum + group;
        if T::DTYPE == DType::F64 {
            let added = sum - self.sum;
            let error = (self.sum - (sum - added)) + (group - added);
            // with infinities and NaN there is no rounding error
            self.error += if error.is_finite() { error } else { 0.0 };
        }
        self.sum = sum;
    }
}

/// The running sums of a block's lines.
fn scan<T: Real>(x: &[T], out: &mut Piece<'_>, block: usize, back: bool) -> Result<(), OpError> {
    let (n, inner) = (out.n, out.inner());
    let x = &x[block * n * inner..][..n * inner];
    if inner == 1 {
        let out = out.block::<T>(block)?;
        match back {
            true => scan_line::<T, true>(x, out),
            false => scan_line::<T, false>(x, out),
        }
        return Ok(());
    }
    const COLUMNS: usize = 64;
    for first in out.columns.clone().step_by(COLUMNS) {
        let columns = first..out.columns.end.min(first + COLUMNS);
        let (skipped, width) = (first - out.columns.start, columns.len());
        let (mut running, mut parts) = ([Running::default(); COLUMNS], [0.0; COLUMNS]);
        for step in 0..n {
            let k = if back { n - 1 - step } else { step };
            let x = &x[k * inner..][columns.clone()];
            let row = &mut out.row::<T>(block, k)?[skipped..][..width];
            let (running, parts) = (&mut running[..width], &mut parts[..width]);
            let is_first = step % GROUP == 0;
            for ((out, x), (running, part)) in
                row.iter_mut().zip(x).zip(running.iter().zip(&mut *parts))
            {
                *part = if is_first {
                    x.to_f64()
                } else {
                    *part + x.to_f64()
                };
                *out = running.with(*part);
            }
            if step % GROUP == GROUP - 1 {
                let all = running.iter_mut().zip(parts);
                all.for_each(|(running, part)| running.add::<T>(*part));
            }
        }
    }
    Ok(())
}

/// The running sums of one line.
fn scan_line<T: Real, const BACK: bool>(x: &[T], out: &mut [T]) {
    let (n, mut running) = (x.len(), Running::default());
    for done in (0..n).step_by(GROUP) {
        let size = GROUP.min(n - done);
        let first = if BACK { n - done - size } else { done };
        let (x, out) = (&x[first..][..size], &mut out[first..][..size]);
        match size {
            // of known size: no loop
            GROUP => scan_group::<T, BACK>(&mut running, &x[..GROUP], &mut out[..GROUP]),
            _ => scan_group::<T, BACK>(&mut running, x, out),
        }
    }
}

/// The running sums of a group, of which the last one of a line may be shorter.
#[inline(always)]
fn scan_group<T: Real, const BACK: bool>(running: &mut Running, x: &[T], out: &mut [T]) {
    let (n, mut parts) = (x.len(), [0.0; GROUP]);
    let place = |k: usize| if BACK { n - 1 - k } else { k };
    let mut part = x[place(0)].to_f64();
    parts[0] = part;
    for k in 1..n {
        part += x[place(k)].to_f64();
        parts[k] = part;
    }
    (0..n).for_each(|k| out[place(k)] = running.with(parts[k]));
    running.add::<T>(part);
}

/// The running sums of integers, or counts.
fn count<T: Copy + Into<i64>>(
    x: &[T],
    out: &mut Piece<'_>,
    block: usize,
    back: bool,
) -> Result<(), OpError> {
    let (n, inner, columns) = (out.n, out.inner(), out.columns.clone());
    let x = &x[block * n * inner..][..n * inner];
    let mut sums = reserve(columns.len())?;
    sums.resize(columns.len(), 0i64);
    let mut fits = true;
    for step in 0..n {
        let k = if back { n - 1 - step } else { step };
        let row = out.row::<i64>(block, k)?;
        for ((sum, out), &x) in sums
            .iter_mut()
            .zip(row)
            .zip(&x[k * inner..][columns.clone()])
        {
            let (next, is_too_large) = sum.overflowing_add(x.into());
            fits &= !is_too_large;
            (*sum, *out) = (next, next);
        }
    }
    match fits {
        true => Ok(()),
        false => Err("an integer sum does not fit in 64 bits".into()),
    }
}

impl<'g> Var<'g> {
    /// The cumulative sum along an axis. Booleans are counted (i64). Floats are added in
    /// f64, with the rounding errors carried along for f64, so those do not accumulate.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0, 3.0]);
    /// assert_eq!(x.cumsum(0).value()?.to_f64s(), [1.0, 3.0, 6.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "cumulative_sum")]
    pub fn cumsum(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(Cumsum::NAME, |shape| {
            Ok(self.apply(Cumsum {
                axis: shape.axis(axis)?,
                backwards: false,
            }))
        })
    }
}
