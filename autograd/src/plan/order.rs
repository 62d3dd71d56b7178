//! In which order the nodes of a kernel are computed: the first half of emission, pass 5 of 7.
//!
//! Each node is computed just before its first reader, so that it is still in the accumulator then.
//! Of several operands of a node, those that must be stored anyway come first, and the one that
//! needs the fewest registers comes last and stays in the accumulator (Sethi and Ullman 1970). A
//! product of two values that are stored anyway is not computed by itself: it becomes an operand of
//! the one that reads it ([`Slot::folded`]).
//!
//! What needs the result of a function of lines belongs to a later segment: a block is taken
//! through all steps of one segment, then its lines are worked on, then the next segment begins.
//!
//! Example: for `f = a·b + sin(c)·d`, where `d` is computed in the kernel and read twice, the order
//! is `d`, `sin(c)`, `sin(c)·d`, `f`. The product `a·b` of two sources is folded: `f` is one step,
//! `AddProduct(a, b)` with the accumulator.

use super::{
    dag::Kind,
    emit::{Action, Arithmetic, Emitter},
    index::{DagId, ReductionId, Reg, ThroughId},
};
use crate::nodes::ShapeId;

/// What is known of a node while the kernel that it belongs to, or that reads it, is emitted.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    /// The register that holds its elements, if one does,
    pub(super) register: Option<Reg>,
    /// and for a node from outside how this register sees them.
    pub(super) seen: Option<Seen>,
    /// How often nodes of the kernel have still to read it.
    pub(super) left: u32,
    /// How many registers it takes to compute it, if none of its operands is computed yet.
    need: u32,
    /// How many functions of lines lie before it.
    segment: u32,
    /// Functions of lines, reductions or a later segment read it: a whole block must be stored.
    pub(super) whole: bool,
    /// The operand that is a product of two stored values, and is computed with this node.
    pub(super) folded: Option<u8>,
    /// For a reduction of a block's only line: what steps have taken the elements into.
    pub(super) reduction: Option<ReductionId>,
    mark: Mark,
}

/// How a kernel sees a node from outside.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) shape: ShapeId,
    pub(super) through: Option<ThroughId>,
}

/// How far the ordering has come with a node.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mark {
    /// No node of the same segment reads it: the ordering begins with such nodes.
    #[default]
    Root,
    Read,
    Visited,
}

/// The nodes of a kernel, in the order in which they are computed.
#[derive(Default)]
pub(super) struct Order {
    /// Each reduction comes right after what it reduces. One of a block's only line comes again at
    /// the end of its segment, where its result is there.
    pub(super) nodes: Vec<DagId>,
    folds: Vec<Reduced>,
}

/// A reduction of the elements of a node of the same kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Reduced {
    node: DagId,
    fold: DagId,
}

impl Order {
    /// The reductions of a node's elements in the same kernel.
    pub(super) fn folds(&self, node: DagId) -> impl Iterator<Item = DagId> {
        let start = self.folds.partition_point(|s| s.node < node);
        let own = self.folds[start..]
            .iter()
            .take_while(move |s| s.node == node);
        own.map(|s| s.fold)
    }
}

/// A node on the way of the depth-first search.
struct Visit {
    node: DagId,
    /// Its operands have been visited.
    is_ready: bool,
}

impl Emitter<'_, '_, '_> {
    /// Counts in [`Slot::left`] how often nodes are read inside the kernel, and puts them in order.
    pub(super) fn order(&mut self, members: &[DagId]) -> Order {
        let mut order = Order::default();
        order.nodes.reserve(members.len());
        members.iter().for_each(|&id| self.survey(&mut order, id));
        order.folds.sort_unstable();
        let last_segment = members.iter().map(|&id| self.slots[id].segment).max();
        if last_segment == Some(0) {
            self.segment(&mut order, members.iter().copied());
            return order;
        }
        let by_segment = members.iter().map(|&id| (self.slots[id].segment, id));
        let mut by_segment: Vec<(u32, DagId)> = by_segment.collect();
        by_segment.sort_unstable();
        for nodes in by_segment.chunk_by(|a, b| a.0 == b.0) {
            self.segment(&mut order, nodes.iter().map(|&(_, id)| id));
        }
        order
    }

    /// Puts the nodes of a segment in order. Functions of lines come last, each with the reductions of
    /// its results.
    fn segment(&mut self, order: &mut Order, nodes: impl Iterator<Item = DagId>) {
        let mut lines = Vec::new();
        for id in nodes {
            if self.slots[id].mark == Mark::Root {
                self.visit(order, id, &mut lines);
            }
        }
        let folds: Vec<DagId> = lines.iter().flat_map(|&line| order.folds(line)).collect();
        order.nodes.append(&mut lines);
        order.nodes.extend(folds);
    }

    /// What is known of a node from its operands.
    fn survey(&mut self, order: &mut Order, id: DagId) {
        let (mut segment, mut need) = (0, 0);
        for k in 0..self.dag.operands(id).len() {
            let Some(input) = self.inside(id, k) else {
                continue;
            };
            let slot = self.slots[input];
            segment = segment.max(slot.segment + u32::from(self.is_of_lines(input)));
            // two operands that need as many registers: the result of the one that is computed
            // first waits in one more
            need = if need == slot.need {
                need + 1
            } else {
                need.max(slot.need)
            };
        }
        (self.slots[id].segment, self.slots[id].need) = (segment, need);
        let (is_of_lines, lines) = (self.is_of_lines(id), self.reduced_lines(id));
        let by_steps = self.is_line_folded_by_steps(id);
        // where a block has several lines, a number for each is read from the elements of the lines
        self.slots[id].whole |= self.is_along(id) && self.values.is_live_out(id);
        for k in 0..self.dag.operands(id).len() {
            let Some(input) = self.inside(id, k) else {
                continue;
            };
            let slot = &mut self.slots[input];
            slot.left += 1;
            if slot.segment == segment {
                slot.mark = Mark::Read;
            }
            // a temporary holds a group of elements only, and lives within one segment
            slot.whole |= is_of_lines && !by_steps || slot.segment < segment;
            slot.whole |= lines.is_some_and(|lines| !lines.are_folded_by_steps());
            if lines.is_some() || by_steps {
                order.folds.push(Reduced {
                    node: input,
                    fold: id,
                });
            }
        }
    }

    /// Appends a node and all that must be computed before; functions of lines wait for the end of
    /// the segment.
    fn visit(&mut self, order: &mut Order, top: DagId, lines: &mut Vec<DagId>) {
        let mut stack = vec![Visit {
            node: top,
            is_ready: false,
        }];
        // a stack of our own: a chain may have a million nodes
        while let Some(Visit { node, is_ready }) = stack.pop() {
            if !is_ready {
                if self.slots[node].mark != Mark::Visited {
                    self.slots[node].mark = Mark::Visited;
                    stack.push(Visit {
                        node,
                        is_ready: true,
                    });
                    self.push_operands(node, &mut stack);
                }
            } else if self.is_of_lines(node) {
                lines.push(node);
            } else if !matches!(self.dag.nodes[node].kind, Kind::Fold(..))
                || self.inside(node, 0).is_none()
            {
                order.nodes.push(node);
                let folds: Vec<DagId> = order.folds(node).collect();
                order.nodes.extend(folds);
            }
        }
    }

    /// Pushes what has to be computed before a node. What is pushed last comes first.
    fn push_operands(&mut self, id: DagId, stack: &mut Vec<Visit>) {
        let segment = self.slots[id].segment;
        let folded = self.find_product(id);
        self.slots[id].folded = folded.map(|k| k as u8);
        let (mut wanted, mut count) = ([id; 4], 0); // an op in a kernel has three inputs at most, of which one is folded
        for k in 0..self.dag.operands(id).len() {
            let Some(input) = self.inside(id, k) else {
                continue;
            };
            let inputs = match folded == Some(k) {
                true => [self.inside(input, 0), self.inside(input, 1)],
                false => [Some(input), None],
            };
            for input in inputs
                .into_iter()
                .flatten()
                .filter(|&input| self.slots[input].segment == segment)
            {
                wanted[count] = input;
                count += 1;
            }
        }
        // sorted so that what is pushed last, and so computed first, is stored anyway or needs
        // most. An insertion sort: there are four at most, and this runs for each node
        let key = |i: DagId| (self.slots[i].left > 1, self.slots[i].need);
        for end in 1..count {
            let mut k = end;
            while k > 0 && key(wanted[k - 1]) > key(wanted[k]) {
                wanted.swap(k - 1, k);
                k -= 1;
            }
        }
        let visits = wanted[..count].iter();
        stack.extend(visits.map(|&node| Visit {
            node,
            is_ready: false,
        }));
    }

    /// The operand that is a product of two stored values, read nowhere else.
    fn find_product(&self, id: DagId) -> Option<usize> {
        let Some(Action::Arithmetic(Arithmetic::Add | Arithmetic::Sub | Arithmetic::Mul)) =
            self.action(id).filter(|_| !self.is_along(id))
        else {
            return None;
        };
        (0..2).find(|&k| {
            let Some(product) = self.inside(id, k) else {
                return false;
            };
            let is_read_here_only = self.slots[product].left == 1
                && !self.is_along(product)
                && !self.values.is_live_out(product)
                && self.slots[product].segment == self.slots[id].segment;
            let is_stored = |k| {
                self.inside(product, k)
                    .is_none_or(|input| self.slots[input].left > 1)
            };
            is_read_here_only
                && matches!(
                    self.action(product),
                    Some(Action::Arithmetic(Arithmetic::Mul))
                )
                && is_stored(0)
                && is_stored(1)
        })
    }
}
