//! Ops by their own `eval`, as a whole or in parts.
//!
//! Ops of this crate compute a part as some [pieces](crate::piece). Others get shorter tensors: a
//! part of the first axes of the output, and of the inputs that are cut with it.

#![allow(unsafe_code)] // the parts of an output are written at the same time

use super::memory::Memory;
use crate::{
    error::OpError,
    op::{
        Along, DynOp, Parts,
        parts::{COLUMNS, Division},
    },
    plan::{Plan, kernel::View},
    shape::{MAX_RANK, Shape},
    view::TensorView,
};
use std::ops::Range;

/// An op that is to run in some parts.
pub(super) struct Job<'r> {
    pub(super) op: &'r dyn DynOp,
    pub(super) inputs: &'r [View],
    pub(super) out: View,
    pub(super) how: Parts,
    pub(super) parts: usize,
}

impl Job<'_> {
    /// Does one of its parts.
    pub(super) fn part(&self, plan: &Plan, memory: Memory<'_>, part: usize) -> Result<(), OpError> {
        if self.parts == 1 {
            return self.whole(plan, memory);
        }
        // SAFETY: what it reads was written in an earlier stage, and nothing of this stage writes
        // it.
        let view = |&view: &View| unsafe { memory.view(view, plan.shape(view)) };
        let x: Vec<TensorView<'_>> = self.inputs.iter().map(view).collect();
        let division = self.how.along.divide(plan.shape(self.out), self.parts);
        division.runs((part, self.parts), |mut blocks, units| {
            match self.how.along {
                Along::Leading { inputs, .. } => blocks.try_for_each(|block| {
                    let cut = (division, inputs);
                    self.leading(&x, plan, memory, cut, block, units.clone())
                }),
                along => self.piece(&x, plan, memory, (division, along), blocks, units),
            }
        })
    }

    /// Does all of it, on this thread.
    pub(super) fn whole(&self, plan: &Plan, memory: Memory<'_>) -> Result<(), OpError> {
        // SAFETY: as of `part`.
        let view = |&view: &View| unsafe { memory.view(view, plan.shape(view)) };
        // SAFETY: this kernel has one part, or its parts have come to an end.
        let out = unsafe { memory.view_mut(self.out, plan.shape(self.out)) };
        match self.inputs {
            [a] => self.op.eval(&[view(a)], out),
            [a, b] => self.op.eval(&[view(a), view(b)], out),
            inputs => self
                .op
                .eval(&inputs.iter().map(view).collect::<Vec<_>>(), out),
        }
    }

    /// Some units of some blocks, as a piece.
    fn piece(
        &self,
        x: &[TensorView<'_>],
        plan: &Plan,
        memory: Memory<'_>,
        (division, along): (Division, Along),
        blocks: Range<usize>,
        units: Range<usize>,
    ) -> Result<(), OpError> {
        let shape = plan.shape(self.out);
        let (n, inner, grain) = match along {
            Along::Lines { axis } => {
                let (_, n, inner) = shape.around(axis);
                let columns = inner.div_ceil(division.per_block);
                (n, inner, columns.next_multiple_of(COLUMNS))
            }
            Along::Elements { grain } => (1, shape.count(), grain),
            _ => (1, shape.count(), shape.count()),
        };
        let at = |unit: usize| unit.saturating_mul(grain).min(inner);
        let columns = at(units.start)..at(units.end);
        // SAFETY: units are parts of one part only, and this is the kernel that computes the value.
        let out = unsafe { memory.piece(self.out, shape, (blocks, n, inner), columns) };
        self.op.piece(x, out)
    }

    /// Some units of a block, as shorter tensors.
    fn leading(
        &self,
        x: &[TensorView<'_>],
        plan: &Plan,
        memory: Memory<'_>,
        (division, inputs): (Division, u32),
        block: usize,
        units: Range<usize>,
    ) -> Result<(), OpError> {
        // places along the cut axis, all blocks one after the other
        let first = block * division.per_block + units.start;
        let cut = |shape: &Shape| {
            let mut sizes = [1; MAX_RANK];
            sizes[division.axis..shape.rank()].copy_from_slice(&shape[division.axis..]);
            sizes[division.axis] = units.len();
            let each: usize = shape[division.axis + 1..].iter().product();
            let range = first * each..(first + units.len()) * each;
            Ok::<_, OpError>((Shape::new(&sizes[..shape.rank()])?, range))
        };
        let is_cut = |k: usize| inputs.checked_shr(k as u32).unwrap_or(0) & 1 == 1;
        let mut shapes = Vec::with_capacity(x.len());
        for (k, x) in x.iter().enumerate() {
            shapes.push(if is_cut(k) { Some(cut(x.shape)?) } else { None });
        }
        let views = x.iter().zip(&shapes).map(|(x, cut)| match cut {
            Some((shape, range)) => x.part(shape, range.clone()),
            None => *x,
        });
        let (shape, range) = cut(plan.shape(self.out))?;
        // SAFETY: as of `piece`.
        let out = unsafe { memory.part_mut(self.out, &shape, range) };
        self.op.eval(&views.collect::<Vec<_>>(), out)
    }
}
