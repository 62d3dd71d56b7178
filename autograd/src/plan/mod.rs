//! Plans: a program made ready to run. Simplified, fused into kernels, ordered, and laid out in memory; without any
//! leaf's value, so that the same plan serves every program of the same structure.

mod arena;
pub(crate) mod cache;
mod emit;
pub(crate) mod extract;
mod fuse;
mod in_place;
pub(crate) mod kernel;
mod lower;
mod order;
mod schedule;
mod simplify;

pub(crate) use extract::Extract;
use kernel::{Home, Kernel, Operand, Value};
pub(crate) use schedule::MOST_AT_ONCE;

use crate::{
    nodes::{self, Kind, Program},
    op::layout::{BroadcastTo, Permute},
    shape::Shape,
    tensor::DType,
};
use std::collections::HashSet;

/// A program made ready to run.
#[derive(Default)]
pub(crate) struct Plan {
    /// The leaves whose values are read, as nodes of the program.
    pub(crate) inputs: Vec<u32>,
    pub(crate) values: Vec<Value>,
    /// In the order in which they run.
    pub(crate) kernels: Vec<Kernel>,
    /// The first kernel of those that write into parameters: they run when nothing can fail any more.
    pub(crate) late: usize,
    /// Dtypes and shapes of the tensors that are handed out.
    pub(crate) outputs: Vec<(DType, u32)>,
    /// The wanted values, in the order in which they were wanted.
    pub(crate) results: Vec<Operand>,
    pub(crate) updates: Vec<Update>,
    /// The bytes that values need while they wait between kernels.
    pub(crate) arena: usize,
    /// About how many nanoseconds each kernel takes on one thread.
    pub(crate) work: Vec<usize>,
    /// By kernel: from which to which they do not depend on each other.
    stages: Vec<(u32, u32)>,
    pub(crate) shapes: Vec<Shape>,
    /// The nodes that kernels compute, kernel by kernel.
    members: Vec<u32>,
    /// Where each kernel's nodes end.
    ends: Vec<u32>,
}

/// An update of a parameter, as the plan carries it out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    /// The node that the parameter is bound to.
    pub(crate) target: u32,
    pub(crate) placed: Placed,
}

/// Where the new value of a parameter comes to lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placed {
    /// The value is there before the commit and becomes the parameter's.
    Move(Operand),
    /// A kernel of the commit writes it to a new buffer, which then takes the old one's place.
    Fresh,
    /// A kernel of the commit writes it over the old value, unless somebody else holds that: see [`in_place`].
    InPlace,
}

impl Plan {
    /// The plan for some nodes, and for updates of parameters.
    pub(crate) fn new(p: &Program, wanted: &[u32], updates: &[nodes::Update]) -> Plan {
        let simple = simplify::Simple::new(p, wanted, updates);
        let mut units = fuse::Units::new(&simple);
        lower::Lower::plan(&simple, &mut units, wanted, updates)
    }

    /// The kernels that can run together with this one: those of its stage.
    pub(crate) fn stage(&self, kernel: usize) -> std::ops::Range<usize> {
        let (start, end) = self.stages[kernel];
        start as usize..end as usize
    }

    /// The nodes that a kernel computes, oldest first.
    pub(crate) fn members(&self, kernel: usize) -> &[u32] {
        let start = kernel
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        &self.members[start..self.ends[kernel] as usize]
    }

    pub(crate) fn shape(&self, operand: Operand) -> &Shape {
        &self.shapes[operand.shape as usize]
    }

    /// The nodes before differentiation whose computed values nodes of differentiation read from memory.
    pub(crate) fn kept(&self, p: &Program, is_swept: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut reads = vec![false; self.values.len()];
        for (k, kernel) in self.kernels.iter().enumerate() {
            // a fused kernel may do work of both kinds: a member of the second must read it
            let swept = self.members(k).iter().copied().filter(|&id| is_swept(id));
            let read = read_by(p, swept);
            kernel.reads(|value| {
                reads[value as usize] |= read.contains(&self.values[value as usize].node)
            });
        }
        let is_computed = |value: &Value| matches!(value.home, Home::Arena(_) | Home::Output(_));
        let read = self
            .values
            .iter()
            .zip(reads)
            .filter(|(value, is_read)| *is_read && is_computed(value));
        read.map(|(value, _)| value.node)
            .filter(|&node| !is_swept(node))
            .collect()
    }

    /// The bytes that the plan itself takes.
    fn bytes(&self) -> usize {
        // without `..`: what is added to a plan must be counted here
        let Plan {
            inputs,
            values,
            kernels,
            late: _,
            outputs,
            results,
            updates,
            arena: _,
            work,
            stages,
            shapes,
            members,
            ends,
        } = self;
        size_of::<Plan>()
            + [
                room(inputs),
                room(values),
                room(kernels),
                room(outputs),
                room(results),
                room(updates),
            ]
            .iter()
            .sum::<usize>()
            + [
                room(work),
                room(stages),
                room(shapes),
                room(members),
                room(ends),
            ]
            .iter()
            .sum::<usize>()
            + kernels.iter().map(Kernel::bytes).sum::<usize>()
    }
}

/// The bytes that a list takes.
pub(crate) fn room<T>(list: &Vec<T>) -> usize {
    list.capacity() * size_of::<T>()
}

/// The nodes that some nodes read, directly or through others that compute nothing.
fn read_by(p: &Program, nodes: impl Iterator<Item = u32>) -> HashSet<u32> {
    let mut read = HashSet::new();
    for mut arg in nodes.flat_map(|id| p.args(id)).copied() {
        while read.insert(arg) && p.nodes[arg as usize].kind == Kind::Op {
            let op = p.op(arg);
            if !(op.is_view() || op.as_any().is::<BroadcastTo>() || op.as_any().is::<Permute>()) {
                break;
            }
            arg = p.args(arg)[0];
        }
    }
    read
}
