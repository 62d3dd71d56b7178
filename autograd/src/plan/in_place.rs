//! The last pass: which updates are written over the old values of their parameters.
//!
//! It looks at the kernels as they will run. Kernel `K`, which writes the new value of parameter `p`, may write it over the
//! old one if
//!
//! 1. no other kernel of its stage, which may run at the same time, and none of a later stage reads `p`;
//! 2. `K` reads `p` element by element only, and no step after the one that stores the new value reads it.
//!
//! Then element `i` of `p` is read by the part of `K` that has element `i`, before that part writes it, and by nobody
//! later. Kernels before `K`'s stage have ended when `K` begins. Kernels of the commit cannot fail, so that the old value is
//! not needed again. Whether somebody else holds the old value is known only at the commit, which then takes a new buffer
//! ([`Placed::Fresh`]).

use super::{
    Placed, Plan,
    kernel::{Home, Kernel},
};
use std::collections::HashMap;

/// The kernels of the commit that read a value: the last one, and the one before.
#[derive(Clone, Copy, Default)]
struct Readers {
    last: Option<usize>,
    before: Option<usize>,
}

/// Marks the updates that can be written in place.
pub(super) fn decide(plan: &mut Plan) {
    if plan.updates.iter().all(|u| u.placed != Placed::Fresh) {
        return;
    }
    let old = old_values(plan);
    let readers = readers(plan);
    for kernel in plan.late..plan.kernels.len() {
        let last_reads = match &plan.kernels[kernel] {
            Kernel::Fused(k) => k.last_reads(),
            _ => HashMap::new(), // single numbers: all are read before the first is written
        };
        for (update, step) in stores(plan, kernel) {
            let Some(&value) = old.get(&plan.updates[update].target) else {
                plan.updates[update].placed = Placed::InPlace; // nothing reads the old value
                continue;
            };
            let alone = !read_beside(
                plan,
                kernel,
                readers.get(&value).copied().unwrap_or_default(),
            );
            let read_before = last_reads.get(&value).is_none_or(|&last| last <= step);
            if alone && read_before {
                plan.updates[update].placed = Placed::InPlace;
            }
        }
    }
}

/// The value that holds a parameter's old elements, by the node that the parameter is bound to, for all that kernels read.
fn old_values(plan: &Plan) -> HashMap<u32, u32> {
    let inputs = plan
        .values
        .iter()
        .enumerate()
        .filter(|(_, v)| matches!(v.home, Home::Input(_)));
    inputs.map(|(value, v)| (v.node, value as u32)).collect()
}

fn readers(plan: &Plan) -> HashMap<u32, Readers> {
    let mut readers: HashMap<u32, Readers> = HashMap::new();
    for kernel in plan.late..plan.kernels.len() {
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

/// The updates that a kernel writes, each with the step that stores it.
fn stores(plan: &Plan, kernel: usize) -> Vec<(usize, usize)> {
    let update = |value: u32| match plan.values[value as usize].home {
        Home::Update(update) => Some(update as usize),
        _ => None,
    };
    match &plan.kernels[kernel] {
        Kernel::Fused(k) => {
            let first = k.registers() - k.outputs.len();
            let stores = k.steps.iter().enumerate();
            let output = |register: u32| k.outputs.get((register as usize).checked_sub(first)?);
            stores
                .filter_map(|(step, s)| Some((update(output(s.store)?.value)?, step)))
                .collect()
        }
        Kernel::Flat(k) => k
            .stores
            .iter()
            .filter_map(|&(_, value)| Some((update(value)?, 0)))
            .collect(),
        Kernel::Product { .. } | Kernel::Op { .. } => Vec::new(),
    }
}

/// Whether another kernel reads the value at the same time as this one runs, or later.
fn read_beside(plan: &Plan, kernel: usize, readers: Readers) -> bool {
    let other = if readers.last == Some(kernel) {
        readers.before
    } else {
        readers.last
    };
    other.is_some_and(|other| other >= plan.stage(kernel).start)
}
