//! The first pass: which nodes are needed, which are the same as others, which are views; and how often each is read.
//! Nothing here changes a bit of any result, and no leaf's value is looked at.

use super::kernel::{BLOCK, RowOp};
use crate::{
    diff::checkpoint::Remat,
    nodes::{Kind, Program, Update},
    op::{
        BUILTIN, ELEMENTWISE, Id,
        cast::Cast,
        elementwise::Powi,
        layout::{BroadcastTo, Permute},
        reduce::Sum,
        softmax,
    },
    tensor::DType,
};

/// What a node is to the planner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Not needed, or not visited yet.
    Unknown,
    /// A value from outside.
    Leaf,
    /// The same elements with another shape.
    View,
    /// Elementwise work on floats: can be fused.
    Elementwise,
    /// A broadcast: fused kernels read through it.
    Broadcast,
    /// A sum that can end a fused kernel.
    Sum,
    /// A function of short rows, inside fused kernels.
    Row,
    /// Anything else: a kernel of its own.
    Single,
}

/// What a node reads for one of its inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    /// The node that computes the elements.
    pub(super) root: u32,
    /// The node whose shape they are seen with.
    pub(super) seen: u32,
    /// The matrix is read transposed.
    pub(super) transposed: bool,
}

/// A program with what the pass found out, by node.
pub(super) struct Simple<'p> {
    pub(super) p: &'p Program,
    pub(super) class: Vec<Class>,
    /// The node that stands for this one: itself, or an equal one, or the one that it is a view of.
    root: Vec<u32>,
    /// How often the elements are read.
    pub(super) uses: Vec<u32>,
    /// Read by something else than updates.
    pub(super) early: Vec<bool>,
    /// The nodes that are needed, oldest first, without views and duplicates.
    pub(super) needed: Vec<u32>,
    /// By node, if anything is recomputed: what must be there first. Nodes that differ in it are not the same.
    era: Vec<u32>,
}

impl<'p> Simple<'p> {
    pub(super) fn new(p: &'p Program, wanted: &[u32], updates: &[Update]) -> Simple<'p> {
        let end = wanted
            .iter()
            .chain(updates.iter().map(|u| &u.value))
            .max()
            .map_or(0, |&top| top as usize + 1);
        let class = vec![Class::Unknown; end];
        let (root, uses, early) = ((0..end as u32).collect(), vec![0; end], vec![false; end]);
        let mut simple = Simple {
            p,
            class,
            root,
            uses,
            early,
            needed: Vec::new(),
            era: Vec::new(),
        };
        simple.find_eras();
        simple.classify(wanted, updates);
        simple.count(wanted, updates);
        simple
    }

    /// The node that computes a node's elements.
    pub(super) fn root(&self, id: u32) -> u32 {
        self.root[id as usize]
    }

    /// What is recomputed belongs to another time than what was computed before.
    fn find_eras(&mut self) {
        if !self.p.ops.iter().any(|op| op.as_any().is::<Remat>()) {
            return;
        }
        let mut era = vec![0; self.class.len()];
        for id in 0..era.len() as u32 {
            let args = if self.p.nodes[id as usize].kind == Kind::Op {
                self.p.args(id)
            } else {
                &[]
            };
            let of_args = args.iter().map(|&arg| era[arg as usize]).max().unwrap_or(0);
            era[id as usize] = of_args.max(self.remat(id).map_or(0, |waits_for| waits_for + 1));
        }
        self.era = era;
    }

    /// What a recomputed block waits for, if this node leads into one.
    fn remat(&self, id: u32) -> Option<u32> {
        let node = &self.p.nodes[id as usize];
        let is_own = node.kind == Kind::Op && node.op as usize >= BUILTIN.len();
        (is_own && self.p.op(id).as_any().is::<Remat>()).then(|| self.p.args(id)[1])
    }

    fn era(&self, id: u32) -> u32 {
        self.era.get(id as usize).copied().unwrap_or(0)
    }

    /// The nodes that must have been computed before this one is, although it does not read them.
    pub(super) fn waits_for(&self, id: u32) -> Vec<u32> {
        let mut found = Vec::new();
        if self.era(id) == 0 {
            return found;
        }
        for &arg in self.p.args(id) {
            let mut arg = arg;
            while matches!(self.class[arg as usize], Class::View | Class::Broadcast)
                || self.permutes(arg).is_some()
            {
                found.extend(self.remat(arg).map(|waits_for| self.root(waits_for)));
                arg = self.p.args(arg)[0];
            }
        }
        found
    }

    /// Finds what can be reached, then goes up again: classes, views and duplicates.
    fn classify(&mut self, wanted: &[u32], updates: &[Update]) {
        let mut reached = vec![false; self.class.len()];
        wanted
            .iter()
            .chain(updates.iter().map(|u| &u.value))
            .for_each(|&id| reached[id as usize] = true);
        for id in (0..reached.len() as u32).rev() {
            if reached[id as usize] {
                self.p
                    .args(id)
                    .iter()
                    .for_each(|&arg| reached[arg as usize] = true);
            }
        }
        let count = reached.iter().filter(|r| **r).count();
        let mut seen = Seen::new(count);
        for id in (0..reached.len() as u32).filter(|&id| reached[id as usize]) {
            self.class[id as usize] = self.class_of(id);
            let stands = match self.class[id as usize] {
                Class::View => Some(self.root(self.p.args(id)[0])),
                Class::Leaf => Some(id),
                _ => self.unchanged(id),
            };
            self.root[id as usize] = stands.unwrap_or_else(|| seen.find(self, id));
        }
    }

    fn class_of(&self, id: u32) -> Class {
        let (p, node) = (self.p, &self.p.nodes[id as usize]);
        if node.kind != Kind::Op {
            return Class::Leaf;
        }
        if self.row(id).is_some() {
            return Class::Row;
        }
        let float = |id: u32| p.nodes[id as usize].dtype.is_float();
        let first = p.args(id).first().copied().unwrap_or(0);
        if node.op < ELEMENTWISE {
            return if node.dtype.is_float() {
                Class::Elementwise
            } else {
                Class::Single
            };
        }
        if let Some(comparison) = COMPARISONS.iter().position(|&c| c as u32 == node.op) {
            let of_floats = if comparison == COMPARISONS.len() - 1 {
                float(id)
            } else {
                float(first)
            };
            return if of_floats {
                Class::Elementwise
            } else {
                Class::Single
            };
        }
        let op = p.op(id);
        if op.is_view() {
            return Class::View;
        }
        if (node.op as usize) < BUILTIN.len() {
            return Class::Single;
        }
        let any = op.as_any();
        let shape = |id: u32| &p.shapes[p.nodes[id as usize].shape as usize];
        if any.is::<Powi>() && node.dtype.is_float() {
            Class::Elementwise
        } else if any.is::<BroadcastTo>() && node.dtype.is_float() {
            if shape(id).count() == shape(first).count() {
                Class::View
            } else {
                Class::Broadcast
            }
        } else if any.is::<Cast>()
            && node.dtype.is_float()
            && p.nodes[first as usize].dtype == DType::Bool
        {
            Class::Elementwise
        } else if let Some(sum) = any.downcast_ref::<Sum>() {
            match shape(first).count() {
                _ if !node.dtype.is_float() => Class::Single,
                1 => Class::Elementwise,
                count if is_adjacent(sum) && count > 0 => Class::Sum,
                _ => Class::Single,
            }
        } else {
            Class::Single
        }
    }

    /// The function of rows that a node is, and their length, if they are short enough for a block.
    pub(super) fn row(&self, id: u32) -> Option<(RowOp, usize)> {
        let (p, node) = (self.p, &self.p.nodes[id as usize]);
        let shape = &p.ty(*p.args(id).first()?).shape;
        let inner = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        let (op, n) = if node.op == Id::CrossEntropy as u32 {
            (RowOp::CrossEntropy, *shape.last()?)
        } else if (node.op as usize) < BUILTIN.len() || !node.dtype.is_float() {
            return None;
        } else if let Some(sum) = p.op(id).as_any().downcast_ref::<Sum>() {
            (
                RowOp::Sum,
                if is_adjacent(sum) && inner(top_axis(sum)) == 1 {
                    sum.axes.count(shape)
                } else {
                    0
                },
            )
        } else {
            let (op, axis) = softmax::along(p.op(id).as_any())?;
            (op, if inner(axis) == 1 { shape[axis] } else { 0 })
        };
        (n > 0 && n <= BLOCK && shape.count() > 1).then_some((op, n))
    }

    /// The node whose value this one has without being computed: a product with a 1 that differentiation made, axes that
    /// are put back in their order.
    fn unchanged(&self, id: u32) -> Option<u32> {
        let node = &self.p.nodes[id as usize];
        if let Some(Permute(axes)) = self.permutes(id) {
            let first = self.root(self.p.args(id)[0]);
            let seen = self.p.nodes[self.p.args(id)[0] as usize].shape;
            let before = self
                .permutes(first)
                .filter(|_| self.p.nodes[first as usize].shape == seen)?;
            let is_back = axes
                .iter()
                .enumerate()
                .all(|(to, &from)| before.0[from] == to);
            return is_back.then(|| self.root(self.p.args(first)[0]));
        }
        let &[a, b] = self.p.args(id) else {
            return None;
        };
        let is_same = |x: u32| self.p.nodes[x as usize].shape == node.shape;
        if node.op == Id::Mul as u32 && self.is_ones(a) && is_same(b) {
            return Some(self.root(b));
        }
        let removable = node.op == Id::Mul as u32 || node.op == Id::Div as u32;
        (removable && self.is_ones(b) && is_same(a)).then(|| self.root(a))
    }

    fn is_ones(&self, id: u32) -> bool {
        let mut id = self.root(id);
        while self.class[id as usize] == Class::Broadcast {
            id = self.root(self.p.args(id)[0]);
        }
        self.p.nodes[id as usize].kind == Kind::One
    }

    /// Goes down once more, now over what is left, and counts.
    fn count(&mut self, wanted: &[u32], updates: &[Update]) {
        for &id in wanted {
            let root = self.root(id) as usize;
            self.uses[root] += 1;
            self.early[root] = true;
        }
        for &Update { value: id, .. } in updates {
            let root = self.root(id) as usize;
            // written into the parameter as it is computed, if it is that simple and not the value of two
            self.early[root] |= self.class[root] != Class::Elementwise
                || self.uses[root] > 0
                || self.root(id) != id;
            self.uses[root] += 1;
        }
        let mut needed = Vec::new();
        for id in (0..self.class.len() as u32).rev() {
            if self.uses[id as usize] == 0 {
                continue;
            }
            needed.push(id);
            let late = self.is_late(id);
            for k in 0..self.arity(id) {
                let root = self.read(id, k).root as usize;
                self.uses[root] += 1;
                self.early[root] |= !late;
            }
        }
        needed.reverse();
        self.needed = needed;
    }

    /// Whether only updates need it, and it cannot fail: it runs when everything else has.
    pub(super) fn is_late(&self, id: u32) -> bool {
        self.class[id as usize] == Class::Elementwise && !self.early[id as usize]
    }

    pub(super) fn arity(&self, id: u32) -> usize {
        if self.class[id as usize] == Class::Leaf {
            0
        } else {
            self.p.args(id).len()
        }
    }

    /// What a node reads for input number `k`: views are looked through; so are transposes by matrix products and
    /// broadcasts by fused kernels.
    pub(super) fn read(&self, id: u32, k: usize) -> Read {
        let mut seen = self.p.args(id)[k];
        match self.class[id as usize] {
            Class::Elementwise | Class::Sum | Class::Row | Class::Broadcast => {
                // through broadcasts, and through views of broadcast numbers: of those the shape says nothing
                loop {
                    let root = self.root(seen);
                    let number = |id: u32| self.p.ty(self.p.args(id)[0]).shape.count() == 1;
                    match self.class[seen as usize] {
                        Class::Broadcast => seen = self.p.args(seen)[0],
                        Class::View
                            if self.class[root as usize] == Class::Broadcast && number(root) =>
                        {
                            seen = self.p.args(root)[0]
                        }
                        _ => break,
                    }
                }
            }
            Class::Single if self.p.nodes[id as usize].op == Id::MatMul as u32 => {
                let root = self.root(seen);
                // the view between them must not have changed the shape
                if self.p.nodes[root as usize].shape == self.p.nodes[seen as usize].shape
                    && self.swaps_last_two(root)
                {
                    let seen = self.p.args(root)[0];
                    return Read {
                        root: self.root(seen),
                        seen,
                        transposed: true,
                    };
                }
            }
            _ => {}
        }
        Read {
            root: self.root(seen),
            seen,
            transposed: false,
        }
    }

    /// `[m, k, n]` if a node is a matrix product of f32 that can be computed row by row: not a batch of them, or one with
    /// the same second matrix, where the rows simply follow each other.
    pub(super) fn product_size(&self, id: u32) -> Option<[usize; 3]> {
        let (p, node) = (self.p, &self.p.nodes[id as usize]);
        if node.op != Id::MatMul as u32
            || self.class[id as usize] != Class::Single
            || node.dtype != DType::F32
        {
            return None;
        }
        let [a, b] = [p.args(id)[0], p.args(id)[1]]
            .map(|arg| &p.shapes[p.nodes[arg as usize].shape as usize]);
        let (k, n, count) = (
            *a.last()?,
            *b.last()?,
            p.shapes[node.shape as usize].count(),
        );
        let rows = count.checked_div(n)?;
        let single = p.shapes[node.shape as usize]
            .split_last_chunk::<2>()?
            .0
            .iter()
            .product::<usize>()
            == 1;
        let joined = b.count() == k * n && a.count() == rows * k && !self.read(id, 0).transposed;
        (k > 0 && rows > 0 && (single || joined)).then_some([rows, k, n])
    }

    fn permutes(&self, id: u32) -> Option<&Permute> {
        let is_own = self.class[id as usize] == Class::Single
            && self.p.nodes[id as usize].op as usize >= BUILTIN.len();
        if is_own {
            self.p.op(id).as_any().downcast_ref()
        } else {
            None
        }
    }

    fn swaps_last_two(&self, id: u32) -> bool {
        let Some(Permute(axes)) = self.permutes(id) else {
            return false;
        };
        let rank = axes.len();
        let expected = |to: usize| match rank - to {
            1 => rank - 2,
            2 => rank - 1,
            _ => to,
        };
        rank >= 2
            && axes
                .iter()
                .enumerate()
                .all(|(to, &from)| from == expected(to))
    }
}

/// Whether a sum goes over axes that follow each other.
fn is_adjacent(sum: &Sum) -> bool {
    let mask = sum.axes.0;
    mask != 0
        && (mask >> mask.trailing_zeros()).count_ones()
            == (mask >> mask.trailing_zeros()).trailing_ones()
}

/// The last axis that a sum goes over.
pub(super) fn top_axis(sum: &Sum) -> usize {
    sum.axes.0.checked_ilog2().unwrap_or(0) as usize
}

/// Comparisons, and `select` as the last one.
const COMPARISONS: [Id; 7] = [Id::Eq, Id::Ne, Id::Lt, Id::Le, Id::Gt, Id::Ge, Id::Select];

/// Finds equal nodes. A table of bounded size without chains: what it forgets is only computed twice.
struct Seen {
    table: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

impl Seen {
    fn new(nodes: usize) -> Seen {
        Seen {
            table: vec![EMPTY; (2 * nodes).next_power_of_two().min(1 << 16)],
        }
    }

    /// An older node with the same value, or this one.
    fn find(&mut self, s: &Simple<'_>, id: u32) -> u32 {
        let (node, mut hash) = (&s.p.nodes[id as usize], 0u64);
        let own = (node.op as usize) >= BUILTIN.len();
        let name = if own {
            s.p.op(id).name().as_ptr() as u64
        } else {
            node.op.into()
        };
        for word in std::iter::once(name).chain(s.p.args(id).iter().map(|&arg| s.root(arg).into()))
        {
            hash = (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        let slot = (hash >> 40) as usize & (self.table.len() - 1);
        let older = self.table[slot];
        if older != EMPTY && same(s, older, id) {
            return older;
        }
        self.table[slot] = id;
        id
    }
}

fn same(s: &Simple<'_>, older: u32, id: u32) -> bool {
    let (p, q) = (&s.p.nodes[older as usize], &s.p.nodes[id as usize]);
    // a view changes the shape and not the root, and an op may look at shapes: those must agree as well
    let arg = |a: u32| (s.root(a), s.p.nodes[a as usize].shape);
    p.count == q.count
        && s.era(older) == s.era(id)
        && p.shape == q.shape
        && p.dtype == q.dtype
        && s.p
            .args(older)
            .iter()
            .zip(s.p.args(id))
            .all(|(&a, &b)| arg(a) == arg(b))
        && (p.op == q.op
            || (p.op as usize) >= BUILTIN.len()
                && (q.op as usize) >= BUILTIN.len()
                && s.p.op(older).same(s.p.op(id)))
}
