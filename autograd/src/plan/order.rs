//! In which order the nodes of a fused kernel are computed.
//!
//! Each node is computed when the first one that reads it wants it, so that it is still in the accumulator then. Of
//! several that a node wants, those that must be stored anyway come first, and the one that needs fewest registers comes
//! last and stays in the accumulator. A product of two values that are stored anyway is not computed by itself: it becomes
//! an operand of the one that reads it.

use super::{
    emit::{Action, action},
    fuse::NONE,
    kernel::Code,
    lower::Lower,
    simplify::Class,
};
use std::collections::{HashMap, HashSet};

/// What is known of a unit's nodes before the first step is written.
pub(super) struct Order {
    /// The nodes in their order; each sum right after what it sums.
    pub(super) nodes: Vec<u32>,
    /// For a node that has a product as an operand: which of its inputs that is.
    pub(super) folded: HashMap<u32, usize>,
    /// Nodes of which a whole block must be kept: functions of rows or a later phase want it.
    pub(super) kept: HashSet<u32>,
    /// Sums by the node of the unit that they sum, as sorted pairs.
    sums: Vec<(u32, u32)>,
}

impl Order {
    /// The sums over a node's elements in the same kernel.
    pub(super) fn sums(&self, id: u32) -> impl Iterator<Item = u32> {
        let start = self.sums.partition_point(|s| s.0 < id);
        self.sums[start..]
            .iter()
            .take_while(move |s| s.0 == id)
            .map(|s| s.1)
    }
}

/// In place of a register, while nodes are put in order: is read by a node of the same phase.
const READ: u32 = NONE - 1;
/// Has been visited.
const VISITED: u32 = NONE - 2;

impl Lower<'_, '_> {
    /// Counts in `left` how often nodes are read inside the unit, and puts them in order.
    ///
    /// What needs the result of a function of rows belongs to a later phase: a block is taken through all steps of one
    /// phase, then its rows are worked on, then the next phase begins.
    pub(super) fn order(&mut self, unit: u32, members: &[u32]) -> Order {
        let mut order = Order {
            nodes: Vec::with_capacity(members.len()),
            folded: HashMap::new(),
            kept: HashSet::new(),
            sums: Vec::new(),
        };
        members
            .iter()
            .for_each(|&id| self.survey(&mut order, unit, id));
        order.sums.sort_unstable();
        let mut by_phase: Vec<(u32, u32)> = members
            .iter()
            .map(|&id| (self.phase[id as usize], id))
            .collect();
        by_phase.sort_unstable();
        for nodes in by_phase.chunk_by(|a, b| a.0 == b.0) {
            let mut rows = Vec::new();
            for &(_, id) in nodes {
                if self.register[id as usize] == NONE {
                    self.visit(&mut order, unit, id, &mut rows);
                }
            }
            let sums: Vec<u32> = rows.iter().flat_map(|&row| order.sums(row)).collect();
            order.nodes.append(&mut rows);
            order.nodes.extend(sums);
        }
        members
            .iter()
            .for_each(|&id| self.register[id as usize] = NONE);
        order
    }

    /// What is known of a node from its inputs.
    fn survey(&mut self, order: &mut Order, unit: u32, id: u32) {
        let class = self.s.class[id as usize];
        let inputs = (0..self.s.arity(id))
            .filter_map(|k| self.inside(unit, id, k))
            .collect::<Vec<u32>>();
        let is_row = |root: u32| self.s.class[root as usize] == Class::Row;
        let phase = inputs
            .iter()
            .map(|&root| self.phase[root as usize] + is_row(root) as u32)
            .max()
            .unwrap_or(0);
        self.phase[id as usize] = phase;
        for &root in inputs.iter() {
            self.left[root as usize] += 1;
            if self.phase[root as usize] == phase {
                self.register[root as usize] = READ;
            }
            if class == Class::Row || self.phase[root as usize] < phase {
                order.kept.insert(root);
            }
            if class == Class::Sum {
                order.sums.push((root, id));
                if !self.is_by_steps(id) {
                    order.kept.insert(root);
                }
            }
        }
        self.need[id as usize] = self.needed_registers(&inputs);
    }

    /// Appends a node and all that must be computed before; functions of rows wait for the end of the phase.
    fn visit(&mut self, order: &mut Order, unit: u32, top: u32, rows: &mut Vec<u32>) {
        let mut stack = vec![(top, false)];
        while let Some((id, inputs_are_there)) = stack.pop() {
            let class = self.s.class[id as usize];
            if !inputs_are_there {
                if self.register[id as usize] != VISITED {
                    self.register[id as usize] = VISITED;
                    stack.push((id, true));
                    self.push_inputs(order, unit, id, &mut stack);
                }
            } else if class == Class::Row {
                rows.push(id);
            } else if class != Class::Sum || self.inside(unit, id, 0).is_none() {
                order.nodes.push(id);
                let sums: Vec<u32> = order.sums(id).collect();
                order.nodes.extend(sums);
            }
        }
    }

    /// How many registers it takes to compute a node, if nothing that it wants is there (Sethi and Ullman, 1970).
    fn needed_registers(&self, inputs: &[u32]) -> u32 {
        inputs
            .iter()
            .map(|&root| self.need[root as usize])
            .fold(0, |need, of_input| {
                if need == of_input {
                    need + 1
                } else {
                    need.max(of_input)
                }
            })
    }

    /// Pushes what has to be computed before a node; what is pushed last comes first.
    fn push_inputs(&mut self, order: &mut Order, unit: u32, id: u32, stack: &mut Vec<(u32, bool)>) {
        let phase = self.phase[id as usize];
        let (mut inputs, mut count) = ([NONE; 4], 0);
        let folded = self.find_product(unit, id);
        for k in 0..self.s.arity(id) {
            let Some(root) = self.inside(unit, id, k) else {
                continue;
            };
            let wanted = match folded {
                Some(product) if product == k => {
                    [self.inside(unit, root, 0), self.inside(unit, root, 1)]
                }
                _ => [Some(root), None],
            };
            for root in wanted
                .into_iter()
                .flatten()
                .filter(|&root| self.phase[root as usize] == phase)
            {
                inputs[count] = root;
                count += 1;
            }
        }
        if let Some(k) = folded {
            order.folded.insert(id, k);
        }
        // four at most
        let key = |i: u32| (self.left[i as usize] > 1, self.need[i as usize]);
        for end in 1..count {
            let mut k = end;
            while k > 0 && key(inputs[k - 1]) > key(inputs[k]) {
                inputs.swap(k - 1, k);
                k -= 1;
            }
        }
        stack.extend(inputs[..count].iter().map(|&input| (input, false)));
    }

    /// The input that is a product of two stored values, read nowhere else.
    fn find_product(&mut self, unit: u32, id: u32) -> Option<usize> {
        let Action::Pair(Code::Add | Code::Sub | Code::Mul, _) = action(self.s.p, id) else {
            return None;
        };
        (0..2).find(|&k| {
            let Some(product) = self.inside(unit, id, k) else {
                return false;
            };
            let alone = self.left[product as usize] == 1
                && !self.is_exported(product)
                && self.phase[product as usize] == self.phase[id as usize];
            let is_product = matches!(action(self.s.p, product), Action::Pair(Code::Mul, _));
            let stored = |l: &mut Self, k| {
                l.inside(unit, product, k)
                    .is_none_or(|root| l.left[root as usize] > 1)
            };
            alone && is_product && stored(self, 0) && stored(self, 1)
        })
    }
}
