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
use std::collections::HashMap;

/// What is known of a unit's nodes before the first step is written.
pub(super) struct Order {
    /// The nodes that steps compute, in their order; each sum right after what it sums.
    pub(super) nodes: Vec<u32>,
    /// For a node that has a product as an operand: which of its inputs that is.
    pub(super) folded: HashMap<u32, usize>,
    /// Sums by the node of the unit that they sum, as sorted pairs.
    sums: Vec<(u32, u32)>,
}

impl Order {
    /// The sums over a node's elements in the same kernel.
    pub(super) fn sums(&self, id: u32) -> impl Iterator<Item = u32> {
        let start = self.sums.partition_point(|s| s.0 < id);
        self.sums[start..].iter().take_while(move |s| s.0 == id).map(|s| s.1)
    }
}

/// In place of a register, for nodes that have been visited.
const VISITED: u32 = NONE - 1;

impl Lower<'_, '_> {
    /// Counts in `left` how often nodes are read inside the unit, and puts them in order.
    pub(super) fn order(&mut self, unit: u32, members: &[u32]) -> Order {
        let mut order = Order { nodes: Vec::with_capacity(members.len()), folded: HashMap::new(), sums: Vec::new() };
        for &id in members {
            for k in 0..self.s.arity(id) {
                let Some(root) = self.inside(unit, id, k) else { continue };
                self.left[root as usize] += 1;
                if self.s.class[id as usize] == Class::Sum {
                    order.sums.push((root, id));
                }
            }
        }
        order.sums.sort_unstable();
        for &id in members {
            self.need[id as usize] = self.needed_registers(unit, id);
        }
        let mut stack = Vec::new();
        for &id in members {
            if self.left[id as usize] > 0 {
                continue;
            }
            stack.push((id, false));
            while let Some((id, inputs_are_there)) = stack.pop() {
                if inputs_are_there {
                    self.append(&mut order, unit, id);
                } else if self.register[id as usize] != VISITED {
                    self.register[id as usize] = VISITED;
                    stack.push((id, true));
                    self.push_inputs(&mut order, unit, id, &mut stack);
                }
            }
        }
        members.iter().for_each(|&id| self.register[id as usize] = NONE);
        order
    }

    /// How many registers it takes to compute a node, if nothing that it wants is there (Sethi and Ullman, 1970).
    fn needed_registers(&mut self, unit: u32, id: u32) -> u32 {
        let mut need = 0;
        for k in 0..self.s.arity(id) {
            let of_input = self.inside(unit, id, k).map_or(0, |root| self.need[root as usize]);
            need = if need == of_input { need + 1 } else { need.max(of_input) };
        }
        need
    }

    fn append(&mut self, order: &mut Order, unit: u32, id: u32) {
        if self.s.class[id as usize] == Class::Sum && self.inside(unit, id, 0).is_some() {
            return; // it came with what it sums
        }
        order.nodes.push(id);
        let sums: Vec<u32> = order.sums(id).collect();
        order.nodes.extend(sums);
    }

    /// Pushes what has to be computed before a node; what is pushed last comes first.
    fn push_inputs(&mut self, order: &mut Order, unit: u32, id: u32, stack: &mut Vec<(u32, bool)>) {
        let mut inputs = [NONE; 4];
        let mut count = 0;
        let folded = self.find_product(unit, id);
        for k in 0..self.s.arity(id) {
            let Some(root) = self.inside(unit, id, k) else { continue };
            if folded == Some(k) {
                order.folded.insert(id, k);
                for root in (0..2).filter_map(|k| self.inside(unit, root, k)) {
                    inputs[count] = root;
                    count += 1;
                }
            } else {
                inputs[count] = root;
                count += 1;
            }
        }
        inputs[..count].sort_by_key(|&i| (self.left[i as usize] > 1, self.need[i as usize]));
        stack.extend(inputs[..count].iter().map(|&input| (input, false)));
    }

    /// The input that is a product of two stored values, read nowhere else.
    fn find_product(&mut self, unit: u32, id: u32) -> Option<usize> {
        let Action::Pair(Code::Add | Code::Sub | Code::Mul, _) = action(self.s.p, id) else { return None };
        (0..2).find(|&k| {
            let Some(product) = self.inside(unit, id, k) else { return false };
            let alone = self.left[product as usize] == 1 && !self.is_exported(product);
            let is_product = matches!(action(self.s.p, product), Action::Pair(Code::Mul, _));
            let stored = |l: &mut Self, k| l.inside(unit, product, k).is_none_or(|root| l.left[root as usize] > 1);
            alone && is_product && stored(self, 0) && stored(self, 1)
        })
    }
}
