//! What is needed from the kept values on, as a program of its own: looking at values in a loop then costs what is new,
//! and finds the plan of the look before.

use crate::{
    error::Error,
    nodes::{Inner, Kind, Node, Program, Quick, Update},
    op::{BUILTIN, DynOp},
};
use std::{
    collections::{BTreeSet, HashMap},
    hash::BuildHasherDefault,
    sync::Arc,
};

/// A part of a graph as a program, with the graph's node for each of its nodes.
pub(crate) struct Extract {
    pub(crate) program: Program,
    pub(crate) nodes: Vec<u32>,
    pub(crate) wanted: Vec<u32>,
    pub(crate) updates: Vec<Update>,
}

impl Extract {
    /// The part that consists of the [`needed`] nodes. The oldest error among them, if there is one.
    pub(crate) fn new(
        inner: &Inner,
        needed: Vec<u32>,
        wanted: &[u32],
        updates: &[Update],
    ) -> Result<Extract, Error> {
        if let Some(oldest) = needed.iter().find_map(|&id| inner.error(id)) {
            return Err(oldest.clone());
        }
        let mut part = Part {
            inner,
            program: Program::default(),
            numbers: HashMap::default(),
            ops: HashMap::default(),
        };
        part.program.shapes.push(crate::shape::Shape::SCALAR);
        needed.iter().for_each(|&id| part.append(id));
        let number = |id: &u32| part.numbers[id];
        let wanted = wanted.iter().map(number).collect();
        let updates = updates
            .iter()
            .map(|u| Update {
                target: number(&u.target),
                value: number(&u.value),
            })
            .collect();
        Ok(Extract {
            program: part.program,
            nodes: needed,
            wanted,
            updates,
        })
    }
}

/// The needed nodes, oldest first: from what is wanted down to leaves and kept values. The walk stops when no op is left to
/// visit, so that the cost depends on what is new, not on the size of the graph.
pub(crate) fn needed(inner: &Inner, wanted: &[u32], updates: &[Update]) -> Vec<u32> {
    // a heap visits younger nodes before older ones: each only once, since equal ones come together
    let mut heap: std::collections::BinaryHeap<u32> = wanted.iter().copied().collect();
    heap.extend(updates.iter().flat_map(|u| [u.target, u.value]));
    let mut needed = Vec::new();
    while let Some(id) = heap.pop() {
        if needed.last() == Some(&id) {
            continue;
        }
        needed.push(id);
        if is_computed(inner, id) {
            heap.extend(inner.args(id));
        }
    }
    needed.reverse();
    needed
}

/// Nodes whose values should be kept although nobody asked for them, so that looking at values in a loop costs what is new
/// in each round. In `s = s + x; (2 * s).value()` only the products are asked for, and each look would compute all sums
/// again. What was there four looks ago, is still needed, and is read by what came later, is therefore kept from now on,
/// unless it is little work. A program that looks at its values up to four times is left as it is.
pub(crate) fn worth_keeping(inner: &Inner, needed: &[u32], wanted: &[u32]) -> Vec<u32> {
    const LITTLE: usize = 64;
    let old = inner.looks[0];
    let is_old = |id: u32| id < old && is_computed(inner, id);
    if needed.iter().filter(|&&id| is_old(id)).count() < LITTLE {
        return Vec::new();
    }
    let new = needed
        .iter()
        .filter(|&&id| id >= old && is_computed(inner, id));
    let mut read: BTreeSet<u32> = new
        .flat_map(|&id| inner.args(id))
        .copied()
        .filter(|&arg| is_old(arg))
        .collect();
    for id in wanted {
        read.remove(id); // it is kept anyway
    }
    read.into_iter().collect()
}

fn is_computed(inner: &Inner, id: u32) -> bool {
    inner.nodes[id as usize].kind == Kind::Op && !inner.kept.contains_key(&id)
}

/// The program as it grows.
struct Part<'g> {
    inner: &'g Inner,
    program: Program,
    /// The new number of a node.
    numbers: HashMap<u32, u32, BuildHasherDefault<Quick>>,
    /// The new number of one of the graph's own ops.
    ops: HashMap<u32, u32, BuildHasherDefault<Quick>>,
}

impl Part<'_> {
    fn append(&mut self, id: u32) {
        let node = self.inner.nodes[id as usize];
        let shape = self.program.shape_id(self.inner.ty(id).shape);
        let place = self.program.nodes.len() as u32;
        let node = if is_computed(self.inner, id) {
            let args: Vec<u32> = self
                .inner
                .args(id)
                .iter()
                .map(|arg| self.numbers[arg])
                .collect();
            let args = self.program.hold(&args);
            Node {
                op: self.op(node.op),
                args,
                shape,
                ..node
            }
        } else {
            let kind = if node.kind == Kind::Op {
                Kind::Constant
            } else {
                node.kind
            };
            Node {
                op: u32::MAX,
                args: [place, 0],
                shape,
                count: 0,
                kind,
                ..node
            }
        };
        self.numbers.insert(id, self.program.push(node));
    }

    fn op(&mut self, op: u32) -> u32 {
        let Some(own) = (op as usize).checked_sub(BUILTIN.len()) else {
            return op;
        };
        let (ops, all): (_, &[Arc<dyn DynOp>]) = (&mut self.program.ops, &self.inner.ops);
        *self.ops.entry(op).or_insert_with(|| {
            ops.push(all[own].clone());
            (BUILTIN.len() + ops.len() - 1) as u32
        })
    }
}
