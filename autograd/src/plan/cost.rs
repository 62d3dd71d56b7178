//! What things cost: one table of estimates, in nanoseconds on one thread. The scheduler splits
//! kernels by it, and profiles distribute the time of a kernel over its operations by it. Nothing
//! that is rounded depends on it.
//!
//! Measured on processors with AVX2 and AVX-512, in f32, with data in the caches. A wrong estimate
//! costs time, never bits.

use super::{
    dag::{Dag, Kind},
    index::DagId,
    kernel::{Code, Fused, Step},
    size::ProductSize,
};
use crate::{
    nodes::{NodeId, Program},
    op::{Id, Lowering, lowering::Scalar, pointwise::Function},
};
use std::{iter::Sum, ops::Add};

/// Nanoseconds. Sums stop at [`MAX`](Cost::MAX), so that those of several kernels can be added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Cost(usize);

// A light step is an addition on an element in the first-level cache. All estimates are in such
// steps, so that they scale with the processor.

/// Light steps on an element, and multiply-adds of a product, that are done in a nanosecond.
const PER_NANOSECOND: usize = 50;
/// What reading and writing an element costs, in light steps.
const MEMORY: usize = 5;
/// A function of a few instructions, in light steps.
const CHEAP_FUNCTION: usize = 2;
/// A function of many instructions.
const FUNCTION: usize = 10;
/// A function of lines, in light steps for each element.
const LINE_FUNCTION: usize = 50;

impl Cost {
    /// More than any kernel takes.
    const MAX: usize = 1 << 48;
    /// The least part that is worth handing to another thread: a few times what that takes.
    pub(crate) const LEAST_PART: Cost = Cost(1500);

    fn new(nanoseconds: usize) -> Cost {
        Cost(nanoseconds.min(Cost::MAX))
    }

    pub(super) const fn times(self, n: usize) -> Cost {
        Cost(self.0 * n)
    }

    pub(crate) fn nanoseconds(self) -> usize {
        self.0
    }

    /// Steps with `count` elements.
    pub(super) fn of_steps(count: usize, steps: &[Step], line_functions: usize) -> Cost {
        let steps = MEMORY + steps.iter().map(step).sum::<usize>() + LINE_FUNCTION * line_functions;
        Cost::new(count.saturating_mul(steps) / PER_NANOSECOND)
    }

    /// Steps with single numbers.
    pub(super) fn of_scalars(steps: usize) -> Cost {
        Cost::new(steps)
    }

    pub(super) fn of_product(ProductSize { m, k, n }: ProductSize) -> Cost {
        // a product with a vector, or an outer one, is as fast as memory
        let area = |a: usize, b: usize| a.saturating_mul(b);
        let memory = area(m, k)
            .saturating_add(area(k, n))
            .saturating_add(area(m, n));
        let all = area(m, k)
            .saturating_mul(n)
            .saturating_add(memory.saturating_mul(MEMORY));
        Cost::new(all / PER_NANOSECOND)
    }

    /// An op's own `eval`, which reads and writes this many elements in all, with so many light
    /// steps for each.
    pub(super) fn of_elements(elements: usize, steps: usize) -> Cost {
        Cost::new(elements.saturating_mul(steps) / PER_NANOSECOND)
    }
}

impl Fused {
    /// The cost of all its elements on one thread.
    pub(super) fn cost(&self) -> Cost {
        Cost::of_steps(self.count, &self.steps, self.line_steps.len())
            + self.products.iter().map(|p| Cost::of_product(p.size)).sum()
    }
}

impl Dag<'_> {
    /// What a node costs, before its kernel is known.
    pub(super) fn cost(&self, id: DagId) -> Cost {
        let node = &self.nodes[id];
        match (node.kind, self.operands(id).first()) {
            (Kind::MatMul, Some(a)) => {
                let rows = self.shape(node.shape).last().copied().unwrap_or(1);
                let terms = self.shape(a.shape).count().saturating_mul(rows);
                Cost::new(terms / PER_NANOSECOND)
            }
            (Kind::Elementwise(_), _) => {
                Cost::new(self.count(id).saturating_mul(FUNCTION) / PER_NANOSECOND)
            }
            _ => Cost::of_elements(self.shape(node.domain).count(), MEMORY),
        }
    }
}

impl Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost::new(self.0 + other.0)
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Cost::add)
    }
}

/// A step, in light steps.
fn step(step: &Step) -> usize {
    match step.code {
        Code::Unary(f) | Code::Function(f, _) => function(f),
        Code::Custom(..) => FUNCTION,
        _ => 1,
    }
}

fn function(f: Function) -> usize {
    if f.is_cheap() {
        CHEAP_FUNCTION
    } else {
        FUNCTION
    }
}

/// How much a node of a program costs beside others of the same kernel.
pub(crate) fn weight(p: &Program, id: NodeId) -> f64 {
    let count = |id: NodeId| p.shape(id).count() as f64;
    let largest = p
        .args(id)
        .iter()
        .map(|&arg| count(arg))
        .fold(count(id), f64::max);
    match p.op(id).lowering() {
        Lowering::MatMul => count(id) * p.shape(p.args(id)[0]).last().map_or(1.0, |&k| k as f64),
        Lowering::Line { .. } => largest * LINE_FUNCTION as f64,
        Lowering::Elementwise(Scalar::Custom(_)) => largest * FUNCTION as f64,
        Lowering::Elementwise(Scalar::Formula(op))
            if op == Id::Div || Function::of(op).is_some_and(|f| !f.is_cheap()) =>
        {
            largest * FUNCTION as f64
        }
        _ => largest,
    }
}
