//! What is needed from the kept values on, as a program of its own: looking at values in a loop then costs what is new,
//! and finds the plan of the look before.

use crate::{
    error::Error,
    nodes::{Inner, Kind, Node, Program},
    op::{BUILTIN, DynOp},
};
use std::{collections::HashMap, sync::Arc};

/// A part of a graph as a program, with the graph's node for each of its nodes.
pub(crate) struct Extract {
    pub(crate) program: Program,
    pub(crate) nodes: Vec<u32>,
    pub(crate) wanted: Vec<u32>,
    pub(crate) updates: Vec<(u32, u32)>,
}

impl Extract {
    /// Walks down from what is wanted to leaves and kept values. The oldest error among what is needed, if there is one.
    pub(crate) fn new(inner: &Inner, wanted: &[u32], updates: &[(u32, u32)]) -> Result<Extract, Error> {
        let needed = needed(inner, wanted, updates);
        if let Some(oldest) = needed.iter().find_map(|&id| inner.error(id)) {
            return Err(oldest.clone());
        }
        let mut part = Part { inner, program: Program::default(), numbers: HashMap::new(), ops: HashMap::new() };
        part.program.shapes.push(crate::shape::Shape::SCALAR);
        needed.iter().for_each(|&id| part.append(id));
        let number = |id: &u32| part.numbers[id];
        let wanted = wanted.iter().map(number).collect();
        let updates = updates.iter().map(|(param, id)| (number(param), number(id))).collect();
        Ok(Extract { program: part.program, nodes: needed, wanted, updates })
    }
}

/// The needed nodes, oldest first. The walk stops when no op is left to visit, so that the cost depends on what is new,
/// not on the size of the graph.
fn needed(inner: &Inner, wanted: &[u32], updates: &[(u32, u32)]) -> Vec<u32> {
    // a heap visits younger nodes before older ones: each only once, since equal ones come together
    let mut heap: std::collections::BinaryHeap<u32> = wanted.iter().copied().collect();
    heap.extend(updates.iter().flat_map(|&(param, id)| [param, id]));
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

fn is_computed(inner: &Inner, id: u32) -> bool {
    inner.nodes[id as usize].kind == Kind::Op && !inner.kept.contains_key(&id)
}

/// The program as it grows.
struct Part<'g> {
    inner: &'g Inner,
    program: Program,
    /// The new number of a node.
    numbers: HashMap<u32, u32>,
    /// The new number of one of the graph's own ops.
    ops: HashMap<u32, u32>,
}

impl Part<'_> {
    fn append(&mut self, id: u32) {
        let node = self.inner.nodes[id as usize];
        let shape = self.program.shape_id(self.inner.ty(id).shape);
        let place = self.program.nodes.len() as u32;
        let node = if is_computed(self.inner, id) {
            let args: Vec<u32> = self.inner.args(id).iter().map(|arg| self.numbers[arg]).collect();
            let args = self.program.hold(&args);
            Node { op: self.op(node.op), args, shape, ..node }
        } else {
            let kind = if node.kind == Kind::Op { Kind::Constant } else { node.kind };
            Node { op: u32::MAX, args: [place, 0], shape, count: 0, kind, ..node }
        };
        self.numbers.insert(id, self.program.push(node));
    }

    fn op(&mut self, op: u32) -> u32 {
        let Some(own) = (op as usize).checked_sub(BUILTIN.len()) else { return op };
        let (ops, all): (_, &[Arc<dyn DynOp>]) = (&mut self.program.ops, &self.inner.ops);
        *self.ops.entry(op).or_insert_with(|| {
            ops.push(all[own].clone());
            (BUILTIN.len() + ops.len() - 1) as u32
        })
    }
}
