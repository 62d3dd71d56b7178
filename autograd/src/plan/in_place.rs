//! In-place updates: which new values of parameters are written over the old ones. Pass 7 of 7.
//!
//! This stage reads the finished kernels. Kernel `K`, which writes the new value of parameter
//! `p`, may write it over the old one if
//!
//! 1. no other kernel of its stage, which may run at the same time, and none of a later stage reads
//!    `p`;
//! 2. `K` reads `p` element by element only, and no step after the one that stores the new value
//!    reads it.
//!
//! Then element `i` of `p` is read by the part of `K` that has element `i`, before that part writes
//! it, and by nobody later. Kernels before `K`'s stage have ended when `K` begins. Kernels of the
//! commit phase cannot fail, so that the old value is not needed again. Whether somebody else holds
//! the old value is known only at the commit, which then takes a new buffer ([`Placed::Fresh`]).
//!
//! Example: `p ← p - r·g` is one step after another for each element, so both hold. In
//! `p ← p - r·(p·pᵀ)` the kernel computes a product of all of `p`, so the second does not; the new
//! value goes to a new buffer.

use super::{
    Placed, Plan,
    index::{KernelId, UpdateId, ValueId},
    kernel::{Fused, Kernel, Placement, Read, Register},
};
use crate::{index::each, nodes::Hashed};
use std::collections::HashMap;

/// When a kernel reads a value for the last time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum LastRead {
    /// At this step, element by element.
    Step(usize),
    /// Not element by element (a broadcast, a product), or after the steps of a block.
    Later,
}

impl LastRead {
    /// Whether it is a step that comes after another one.
    pub(super) fn is_step_after(self, step: usize) -> bool {
        matches!(self, LastRead::Step(last) if last > step)
    }
}

pub(super) type LastReads = HashMap<ValueId, LastRead, Hashed>;

/// The last read of each value where it lies. Single numbers, which are read before the first step,
/// are left out.
pub(super) fn last_reads(k: &Fused) -> LastReads {
    let mut last = LastReads::default();
    let source = |register| match k.registers[register] {
        Register::Source { value, read } if read != Read::Constant => Some((value, read)),
        _ => None,
    };
    for (at, step) in k.steps.iter().enumerate() {
        for (value, read) in step.reads().filter_map(source) {
            let read = if read == Read::Whole {
                LastRead::Step(at)
            } else {
                LastRead::Later
            };
            let known = last.entry(value).or_insert(read);
            *known = read.max(*known);
        }
    }
    let blocks = k
        .reductions
        .iter()
        .filter_map(|s| s.from)
        .chain(k.line_steps.iter().filter_map(|line| line.from.block()));
    let blocks = blocks.filter_map(source).map(|(value, _)| value);
    let labels = k.line_steps.iter().filter_map(|line| line.labels);
    let matrices = k
        .products
        .iter()
        .flat_map(|p| [p.a.view.value, p.b.view.value]);
    let later = blocks.chain(labels).chain(matrices);
    last.extend(later.map(|value| (value, LastRead::Later)));
    last
}

/// The kernels of the commit phase that read a value: the last one, and the one before.
#[derive(Clone, Copy, Default)]
struct Readers {
    last: Option<KernelId>,
    before: Option<KernelId>,
}

/// Marks the updates that can be written in place.
pub(super) fn decide(plan: &mut Plan) {
    for update in found(plan) {
        plan.updates[update].placed = Placed::InPlace;
    }
}

/// The updates that can be written in place.
fn found(plan: &Plan) -> Vec<UpdateId> {
    let mut found = Vec::new();
    if plan
        .updates
        .iter()
        .all(|u| matches!(u.placed, Placed::Move(_)))
    {
        return found;
    }
    let old: HashMap<_, _, Hashed> = old_values(plan);
    let readers = readers(plan);
    for kernel in each(plan.commit_kernels()) {
        let last_reads = match &plan.kernels[kernel] {
            Kernel::Fused(k) => last_reads(k),
            _ => LastReads::default(), // single numbers: all are read before the first is written
        };
        for Store { update, step } in stores(plan, kernel) {
            let Some(value) = old.get(&plan.updates[update].target) else {
                found.push(update); // nothing reads the old value
                continue;
            };
            // 1. and 2. of the head of this file
            let is_alone = !is_read_beside(
                plan,
                kernel,
                readers.get(value).copied().unwrap_or_default(),
            );
            let is_read_before = last_reads
                .get(value)
                .is_none_or(|&last| last <= LastRead::Step(step));
            if is_alone && is_read_before {
                found.push(update);
            }
        }
    }
    found
}

/// The value that holds a parameter's old elements, by the node that the parameter is bound to, for
/// all that kernels read.
fn old_values(plan: &Plan) -> HashMap<crate::nodes::NodeId, ValueId, Hashed> {
    let inputs = plan
        .values
        .enumerate()
        .filter(|(_, v)| matches!(v.placement, Placement::Input(_)));
    inputs.map(|(id, value)| (value.node, id)).collect()
}

fn readers(plan: &Plan) -> HashMap<ValueId, Readers, Hashed> {
    let mut readers: HashMap<ValueId, Readers, Hashed> = HashMap::default();
    for kernel in each(plan.commit_kernels()) {
        plan.kernels[kernel].reads(|value| {
            let of = readers.entry(value).or_default();
            if of.last != Some(kernel) {
                *of = Readers {
                    last: Some(kernel),
                    before: of.last,
                };
            }
        });
    }
    readers
}

/// A step that stores the new value of a parameter.
struct Store {
    update: UpdateId,
    step: usize,
}

fn stores(plan: &Plan, kernel: KernelId) -> Vec<Store> {
    let (Kernel::Fused(k) | Kernel::Scalar(k)) = &plan.kernels[kernel] else {
        return Vec::new();
    };
    let store = |(step, store): (usize, &super::kernel::Step)| match k.registers[store.store?] {
        Register::Output(value) => match plan.values[value].placement {
            Placement::Update(update) => Some(Store { update, step }),
            _ => None,
        },
        _ => None,
    };
    k.steps.iter().enumerate().filter_map(store).collect()
}

/// Whether another kernel reads the value at the same time as this one runs, or later.
fn is_read_beside(plan: &Plan, kernel: KernelId, readers: Readers) -> bool {
    let other = if readers.last == Some(kernel) {
        readers.before
    } else {
        readers.last
    };
    other.is_some_and(|other| other >= plan.stage_of(kernel).start)
}
