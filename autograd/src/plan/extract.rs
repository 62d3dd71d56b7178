//! Extraction: which part of a graph a plan is for. Pass 1 of 7.
//!
//! A graph without cached values is planned as it lies. If values of nodes are cached, because they
//! were requested before, the nodes that are needed from there on become a program of their own: so
//! `.value()` in a loop costs what is new in each round, and finds the plan of the round before.
//!
//! Example: of `y = f(x); y.value(); z = g(y); z.value()` the second request extracts `z = g(c)`,
//! where `c` is a constant with the cached value of `y`.

use crate::{
    error::Error,
    index::{Index, IndexVec},
    nodes::{Hashed, Inner, Kind, Node, NodeId, OpId, OpRef, Program, Update},
    shape::Shape,
};
use std::collections::{BTreeSet, BinaryHeap, HashMap};

/// The part of a graph that a plan is for.
pub(crate) enum Selection {
    /// All of it, as it lies.
    All,
    Extract(Extract),
}

impl Selection {
    /// What some nodes and updates need. And nodes whose values should be cached as well: see
    /// [`worth_caching`].
    pub(crate) fn new(
        inner: &Inner,
        wanted: &[NodeId],
        updates: &[Update],
    ) -> Result<(Selection, Vec<NodeId>), Error> {
        if inner.cached.is_empty() && inner.errors.is_empty() {
            return Ok((Selection::All, Vec::new()));
        }
        let needed = needed(inner, wanted, updates);
        let also = match updates.is_empty() {
            true => worth_caching(inner, &needed, wanted),
            false => Vec::new(),
        };
        let part = Extract::new(inner, needed, &[wanted, &also].concat(), updates)?;
        Ok((Selection::Extract(part), also))
    }

    /// The part that these nodes of a graph need, as a program of its own.
    pub(crate) fn extract(
        inner: &Inner,
        wanted: &[NodeId],
        updates: &[Update],
    ) -> Result<Extract, Error> {
        Extract::new(inner, needed(inner, wanted, updates), wanted, updates)
    }

    /// What the plan is made from.
    pub(crate) fn request<'a>(
        &'a self,
        inner: &'a Inner,
        wanted: &'a [NodeId],
        updates: &'a [Update],
    ) -> Request<'a> {
        let program = self.program(inner);
        let (wanted, updates) = match self {
            Selection::All => (wanted, updates),
            Selection::Extract(part) => (&part.wanted[..], &part.updates[..]),
        };
        Request {
            program,
            wanted,
            updates,
        }
    }

    /// The program that the plan is for.
    pub(crate) fn program<'a>(&'a self, inner: &'a Inner) -> &'a Program {
        match self {
            Selection::All => &inner.program,
            Selection::Extract(part) => &part.program,
        }
    }

    /// The graph's node for a node of the program.
    #[inline]
    pub(crate) fn node(&self, id: NodeId) -> NodeId {
        match self {
            Selection::All => id,
            Selection::Extract(part) => part.nodes[id],
        }
    }
}

/// A program, and what is requested from it.
pub(crate) struct Request<'a> {
    pub(crate) program: &'a Program,
    pub(crate) wanted: &'a [NodeId],
    pub(crate) updates: &'a [Update],
}

/// A part of a graph as a program, with the graph's node for each of its nodes.
pub(crate) struct Extract {
    pub(crate) program: Program,
    pub(crate) nodes: IndexVec<NodeId, NodeId>,
    pub(crate) wanted: Vec<NodeId>,
    pub(crate) updates: Vec<Update>,
}

impl Extract {
    /// The part that consists of the [`needed`] nodes. The oldest error among them, if there is
    /// one.
    pub(crate) fn new(
        inner: &Inner,
        needed: Vec<NodeId>,
        wanted: &[NodeId],
        updates: &[Update],
    ) -> Result<Extract, Error> {
        // of several errors that of the oldest node is told: the others follow from it, mostly
        if let Some(oldest) = needed.iter().find_map(|&id| inner.error(id)) {
            return Err(oldest.clone());
        }
        let mut part = Part {
            inner,
            program: Program::default(),
            places: HashMap::default(),
            ops: HashMap::default(),
        };
        part.program.shapes.push(Shape::SCALAR);
        needed.iter().for_each(|&id| part.append(id));
        let place = |id: &NodeId| part.places[id];
        let wanted = wanted.iter().map(place).collect();
        let updates = updates
            .iter()
            .map(|u| Update {
                target: place(&u.target),
                value: place(&u.value),
            })
            .collect();
        Ok(Extract {
            program: part.program,
            nodes: IndexVec::from_vec(needed),
            wanted,
            updates,
        })
    }
}

/// The needed nodes, oldest first: from what is wanted down to leaves and cached values. The walk
/// stops when no op is left to visit, so that the cost depends on what is new, not on the size of
/// the graph.
fn needed(inner: &Inner, wanted: &[NodeId], updates: &[Update]) -> Vec<NodeId> {
    // a heap visits younger nodes before older ones: each only once, since equal ones come together
    let mut heap: BinaryHeap<NodeId> = wanted.iter().copied().collect();
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

/// Nodes whose values should be cached although nobody asked for them, so that asking for values in
/// a loop costs what is new in each round. In `s = s + x; (2 * s).value()` only the products are
/// asked for, and each evaluation would compute all sums again. What was there four evaluations
/// ago, is still needed, and is read by what came later, is therefore cached from now on, unless it
/// is little work. A program that is evaluated up to four times is left as it is.
fn worth_caching(inner: &Inner, needed: &[NodeId], wanted: &[NodeId]) -> Vec<NodeId> {
    const FEW_NODES: usize = 64; // computing them again is cheaper than a tensor for each
    let old = NodeId::new(inner.evaluations[0]);
    let is_old = |id: NodeId| id < old && is_computed(inner, id);
    if needed.iter().filter(|&&id| is_old(id)).count() < FEW_NODES {
        return Vec::new();
    }
    let new = needed
        .iter()
        .filter(|&&id| id >= old && is_computed(inner, id));
    let mut read: BTreeSet<NodeId> = new
        .flat_map(|&id| inner.args(id))
        .copied()
        .filter(|&arg| is_old(arg))
        .collect();
    for id in wanted {
        read.remove(id); // it is cached anyway
    }
    read.into_iter().collect()
}

fn is_computed(inner: &Inner, id: NodeId) -> bool {
    inner.nodes[id].kind == Kind::Op && !inner.cached.contains_key(&id)
}

/// The program as it grows.
struct Part<'g> {
    inner: &'g Inner,
    program: Program,
    /// By node of the graph: its place in the program.
    places: HashMap<NodeId, NodeId, Hashed>,
    /// By op of the graph's own: which one of the program's it is.
    ops: HashMap<OpId, OpId, Hashed>,
}

impl Part<'_> {
    fn append(&mut self, id: NodeId) {
        let node = self.inner.nodes[id];
        let shape = self.program.shape_id(*self.inner.shape(id));
        let node = if is_computed(self.inner, id) {
            let args = self.inner.args(id).iter();
            let args: Vec<NodeId> = args.map(|arg| self.places[arg]).collect();
            let args = self.program.store_args(&args);
            Node {
                op: node.op.map(|op| self.op(op)),
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
                op: None,
                args: Node::at_entry(self.program.nodes.len()),
                shape,
                count: 0,
                kind,
                ..node
            }
        };
        // a cached value is a constant of the extract: its place among the leaves says nothing
        // about the structure, so any will do
        self.places.insert(id, self.program.push(node));
    }

    fn op(&mut self, op: OpId) -> OpId {
        let Some(own) = op.own() else {
            return op;
        };
        let (program, all) = (&mut self.program, &self.inner.ops);
        *self
            .ops
            .entry(op)
            .or_insert_with(|| program.op_id(OpRef::Own(all[own].clone())))
    }
}
