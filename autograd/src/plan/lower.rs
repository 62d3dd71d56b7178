//! Lowering: from a program to the [`Dag`] of what has to be computed. Pass 2 of 7. Nothing here
//! changes a bit of a result, and no leaf's value is read.
//!
//! Going down over the program, each node that can be reached asks its op for its [`Lowering`].
//! Views and recomputation marks vanish: their readers read the node below. So do products
//! with a 1 that differentiation made, and nodes that compute what an older one computes. Then one
//! pass back counts uses and finds the commit phase, and what nothing uses is left out.
//!
//! Broadcasts and transposes become part of how an operand is read, where the reader can read so:
//! `x + b` with a row `b` has the operand `b` as it is, and `a.matmul(w.t())` has the operand `w`,
//! transposed.

use super::{
    along,
    dag::{Apply, AxisRange, ControlDependency, Dag, Kind, Operand, Phase, Strided, Update},
    index::{DagId, ThroughId},
    size::fits_a_block,
};
use crate::{
    index::{Index, IndexVec},
    math::fold::{Fold, Lines},
    nodes::{self, NodeId, OpId, Program, ShapeId},
    op::{Id, Lowering, lowering::LineFunction, lowering::Scalar},
    shape::{Axes, MAX_RANK},
    tensor::DType,
};
use std::collections::HashMap;

/// Lowers the nodes that results and updates need.
pub(super) fn lower<'p>(p: &'p Program, wanted: &[NodeId], updates: &[nodes::Update]) -> Dag<'p> {
    let roots = || {
        wanted
            .iter()
            .copied()
            .chain(updates.iter().map(|u| u.value))
    };
    // nodes that are not reached are skipped: a request for one value in a graph of a million
    // nodes costs what that value needs
    let reached = reached(p, roots());
    let mut lower = Lower {
        p,
        dag: Dag::new(p),
        stands_for: IndexVec::filled(None, reached.len()),
        generations: generations(p, reached.len()),
        common: CommonSubexpressions::new(reached.iter().filter(|r| **r).count()),
        throughs: HashMap::new(),
        matrices: HashMap::new(),
    };
    for (id, _) in reached.enumerate().filter(|(_, reached)| **reached) {
        lower.append(id);
    }
    let mut dag = lower.finish(wanted, updates);
    count_uses(&mut dag);
    let mut dag = dag.without_dead_nodes();
    along::find(&mut dag);
    dag
}

/// The longest lines that functions of whole lines work on: as long as scratch memory is bearable.
const MAX_FUNCTION_LINE: usize = 1 << 20;
const MAX_FUNCTION_COLUMN: usize = 1 << 13;

/// The nodes, up to the youngest root, that some root is computed from.
fn reached(p: &Program, roots: impl Iterator<Item = NodeId> + Clone) -> IndexVec<NodeId, bool> {
    let end = roots.clone().max().map_or(0, |top| top.index() + 1);
    let mut reached = IndexVec::filled(false, end);
    roots.for_each(|id| reached[id] = true);
    // inputs are older than their readers, so one pass back finds everything
    for k in (0..end).rev() {
        let id = NodeId::new(k);
        if reached[id] {
            p.args(id).iter().for_each(|&arg| reached[arg] = true);
        }
    }
    reached
}

/// Recomputed nodes must not be merged with the nodes that they recompute: a generation number
/// keeps them apart. The generation of a node is 0, or 1 more than the index of the youngest node
/// that its inputs wait for. Empty if nothing is recomputed.
///
/// Example: a checkpointed block `y = f(x)` is appended once more by the sweep, as
/// `f(recompute(x, ct))`. Without generations that would be a duplicate of the first one, and its
/// values would be saved from the forward pass for the backward pass after all.
fn generations(p: &Program, nodes: usize) -> IndexVec<NodeId, u32> {
    let recomputes = |op: &dyn crate::op::DynOp| matches!(op.lowering(), Lowering::Recompute);
    if !p.ops.iter().any(|op| recomputes(&**op)) {
        return IndexVec::new();
    }
    let mut generations = IndexVec::filled(0, nodes);
    for id in (0..nodes).map(NodeId::new) {
        let of_args = p.args(id).iter().map(|&arg| generations[arg]).max();
        let own = match awaited_by(p, id) {
            Some(awaited) => awaited.index() as u32 + 1,
            None => 0,
        };
        generations[id] = of_args.unwrap_or(0).max(own);
    }
    generations
}

/// What a recomputed block waits for, if this node leads into one.
fn awaited_by(p: &Program, id: NodeId) -> Option<NodeId> {
    let is_own = p.nodes[id].op.is_some_and(|op| op.own().is_some());
    (is_own && matches!(p.op(id).lowering(), Lowering::Recompute)).then(|| p.args(id)[1])
}

struct Lower<'p> {
    p: &'p Program,
    dag: Dag<'p>,
    /// The node of the dag that has a node's elements, for all that have been appended.
    stands_for: IndexVec<NodeId, Option<DagId>>,
    generations: IndexVec<NodeId, u32>,
    common: CommonSubexpressions,
    /// How slices and permutations are read that have been read before.
    throughs: HashMap<DagId, ThroughId>,
    /// The same as operands of matrix products.
    matrices: HashMap<DagId, ThroughId>,
}

impl Lower<'_> {
    fn append(&mut self, id: NodeId) {
        let (kind, domain) = self.kind(id);
        let node = match kind {
            None => self.stands_for[self.p.args(id)[0]],
            Some(Kind::Leaf) => None,
            // before the search for duplicates: the node that is returned here may be one
            Some(Kind::Permute) => self.permuted_back(id),
            Some(_) => self.times_one(id),
        };
        let node =
            node.unwrap_or_else(|| self.append_node(id, kind.unwrap_or(Kind::Opaque), domain));
        self.stands_for[id] = Some(node);
    }

    fn append_node(&mut self, id: NodeId, kind: Kind, domain: ShapeId) -> DagId {
        let node = self.dag.node(id, kind, domain);
        let args = if kind == Kind::Leaf {
            &[]
        } else {
            self.p.args(id)
        };
        // most nodes have few inputs: no list is allocated for those
        let mut few = [Operand::of(DagId::new(0), ShapeId::SCALAR); 3];
        let many: Vec<Operand>;
        let operands = if args.len() <= few.len() {
            args.iter()
                .zip(&mut few)
                .for_each(|(&arg, to)| *to = self.operand(kind, domain, arg));
            &few[..args.len()]
        } else {
            many = args
                .iter()
                .map(|&arg| self.operand(kind, domain, arg))
                .collect();
            &many
        };
        let generation = self.generations.get(id).copied().unwrap_or(0);
        if kind != Kind::Leaf
            && let Some(older) = self.common.find(&self.dag, id, operands, &self.generations)
        {
            return older;
        }
        let node = self.dag.push(node, operands);
        if generation > 0 {
            self.append_control_dependencies(id, node);
        }
        node
    }

    /// The node that has the elements of a node which was appended before.
    fn node(&self, id: NodeId) -> DagId {
        self.stands_for[id].expect("inputs are older than their readers")
    }

    /// How a node is computed, and the shape that it works through; none if it only shows its first
    /// input.
    fn kind(&self, id: NodeId) -> (Option<Kind>, ShapeId) {
        let (p, node) = (self.p, &self.p.nodes[id]);
        if node.kind != nodes::Kind::Op {
            return (Some(Kind::Leaf), node.shape);
        }
        let input = |k: usize| &p.nodes[p.args(id)[k]];
        let kind = match p.op(id).lowering() {
            Lowering::View | Lowering::Recompute => return (None, node.shape),
            Lowering::Broadcast => match p.shape(id).count() == p.shape(p.args(id)[0]).count() {
                // only axes of size 1 were added
                true => return (None, node.shape),
                false if node.dtype.is_float() => Kind::Broadcast,
                false => Kind::Opaque,
            },
            Lowering::Permute(_) => Kind::Permute,
            Lowering::Slice { .. } => Kind::Slice,
            Lowering::Cast if node.dtype.is_float() && input(0).dtype == DType::Bool => {
                Kind::Elementwise(Apply::FromBool)
            }
            Lowering::Elementwise(scalar) => self.elementwise(id, scalar),
            Lowering::Fold(fold, axes) if node.dtype.is_float() => {
                return self.fold(id, fold, axes);
            }
            Lowering::Line { function, axis } => return self.line(id, function, axis),
            Lowering::MatMul => Kind::MatMul,
            Lowering::Cast | Lowering::Fold(..) | Lowering::Opaque => Kind::Opaque,
        };
        (Some(kind), node.shape)
    }

    /// An elementwise op on integers or booleans is opaque: kernels compute with floats. The last
    /// input has the type that is computed with, also of comparisons and of `select`.
    fn elementwise(&self, id: NodeId, scalar: Scalar<'_>) -> Kind {
        let is_float = |id: NodeId| self.p.nodes[id].dtype.is_float();
        match scalar {
            _ if !self.p.args(id).last().is_some_and(|&last| is_float(last)) => Kind::Opaque,
            Scalar::Formula(op) => Kind::Elementwise(Apply::Formula(op)),
            Scalar::Power(n) => Kind::Elementwise(Apply::Power(n)),
            Scalar::Custom(_) => Kind::Elementwise(Apply::Custom),
        }
    }

    /// Reductions over axes that follow each other are parts of fused kernels; those of short rows
    /// are there before the next step.
    fn fold(&self, id: NodeId, fold: Fold, axes: Axes) -> (Option<Kind>, ShapeId) {
        let domain = self.p.nodes[self.p.args(id)[0]].shape;
        let shape = &self.p.shapes[domain];
        let kind = match (shape.count(), neighbours(axes)) {
            (1, _) if fold == Fold::Sum => Kind::Elementwise(Apply::SumOfOne),
            (1, _) => return (None, domain), // of one element, it is that element
            // integers, and nothing at all
            (0, _) | (_, None) => Kind::Opaque,
            (_, Some(axes)) => match axes.lines(shape) {
                Lines { n, inner: 1 } if fits_a_block(n) => {
                    Kind::Line(LineFunction::Fold(fold), axes)
                }
                _ => Kind::Fold(fold, axes),
            },
        };
        (Some(kind), domain)
    }

    fn line(
        &self,
        id: NodeId,
        function: LineFunction,
        axis: Option<usize>,
    ) -> (Option<Kind>, ShapeId) {
        let domain = self.p.nodes[self.p.args(id)[0]].shape;
        let shape = &self.p.shapes[domain];
        let axis = axis.unwrap_or(shape.rank() - 1); // of no axis there is no such op
        let axes = AxisRange {
            start: axis as u8,
            end: axis as u8 + 1,
        };
        let lines = axes.lines(shape);
        let fits = match lines.inner {
            1 => lines.n <= MAX_FUNCTION_LINE,
            _ => lines.n <= MAX_FUNCTION_COLUMN,
        };
        if fits && shape.count() > 1 {
            (Some(Kind::Line(function, axes)), domain)
        } else {
            (Some(Kind::Opaque), self.p.nodes[id].shape)
        }
    }

    /// How a node of this kind reads one of its inputs.
    fn operand(&mut self, reader: Kind, domain: ShapeId, arg: NodeId) -> Operand {
        let seen = Operand::of(self.node(arg), self.p.nodes[arg].shape);
        let node = &self.dag.nodes[seen.node];
        match (reader, node.kind) {
            (
                Kind::Elementwise(_) | Kind::Broadcast | Kind::Fold(..) | Kind::Line(..),
                Kind::Broadcast,
            ) => {
                // through the broadcast. Its shape must not have been changed, unless it is of a
                // single number, for which every shape is the same
                let through = self.dag.operands(seen.node)[0];
                let is_number = self.dag.shape(through.shape).count() == 1;
                if node.shape == seen.shape || is_number {
                    through
                } else {
                    seen
                }
            }
            (Kind::MatMul, Kind::Permute | Kind::Slice | Kind::Broadcast)
                if node.shape == seen.shape =>
            {
                self.matrix(seen)
            }
            (
                Kind::Elementwise(_) | Kind::Broadcast | Kind::Fold(..) | Kind::Line(..),
                Kind::Slice | Kind::Permute,
            ) if node.dtype != DType::I64 && self.dag.shape(domain).count() > 1 => {
                let in_order = match reader {
                    Kind::Fold(_, axes) | Kind::Line(_, axes) => {
                        axes.lines(self.dag.shape(domain)).inner == 1
                    }
                    _ => true,
                };
                self.through(seen, in_order)
            }
            _ => seen,
        }
    }

    /// A slice or permutation as elements of the node that it is of, if that can be read in runs, or
    /// by panels where elements are read in their order: then it need not be written to memory.
    fn through(&mut self, seen: Operand, in_order: bool) -> Operand {
        if self.dag.nodes[seen.node].shape != seen.shape || self.dag.shape(seen.shape).count() < 2 {
            return seen; // a single number is read as one, without a place
        }
        let is_view = |kind| matches!(kind, Kind::Slice | Kind::Permute);
        let (base, strided) = self.strided(seen, is_view);
        let shape = self.dag.shape(seen.shape);
        let is_float = self.dag.nodes[base].dtype.is_float();
        let by_panels = || in_order && is_float && strided.is_panel(shape);
        if !strided.has_runs(shape) && !by_panels() {
            return seen;
        }
        let dag = &mut self.dag;
        let through = *self
            .throughs
            .entry(seen.node)
            .or_insert_with(|| dag.throughs.push(strided));
        Operand {
            node: base,
            through: Some(through),
            ..seen
        }
    }

    /// The operand of a matrix product that a view shows: transposed, or at any distances, which a
    /// product reads where they are. Reversed axes are copied.
    fn matrix(&mut self, seen: Operand) -> Operand {
        let is_view = |kind| matches!(kind, Kind::Permute | Kind::Slice | Kind::Broadcast);
        let below = self.dag.operands(seen.node)[0];
        let swaps = self.permutation(seen.node).is_some_and(swaps_last_two);
        if swaps && !is_view(self.dag.nodes[below.node].kind) {
            return Operand {
                transposed: true,
                ..below
            };
        }
        let (base, strided) = self.strided(seen, is_view);
        let shape = self.dag.shape(seen.shape);
        let is_reversed = (0..shape.rank()).any(|k| shape[k] > 1 && strided.strides[k] < 0);
        if is_reversed || shape.count() == 0 {
            return seen;
        }
        let dag = &mut self.dag;
        let through = *self
            .matrices
            .entry(seen.node)
            .or_insert_with(|| dag.throughs.push(strided));
        Operand {
            node: base,
            through: Some(through),
            ..seen
        }
    }

    /// The node whose elements a view shows, seen through others of these kinds, and where they are.
    fn strided(&self, seen: Operand, is_view: impl Fn(Kind) -> bool) -> (DagId, Strided) {
        let mut above = Vec::new();
        let mut base = seen;
        while is_view(self.dag.nodes[base.node].kind)
            && self.dag.nodes[base.node].shape == base.shape
        {
            above.push(base.node);
            base = self.dag.operands(base.node)[0];
        }
        let mut strided = Strided {
            shape: seen.shape,
            strides: self.dag.shape(base.shape).strides(),
            offset: 0,
        };
        for node in above.into_iter().rev() {
            match self.p.op(self.dag.nodes[node].id).lowering() {
                Lowering::Permute(axes) => {
                    let own = strided.strides;
                    axes.iter()
                        .enumerate()
                        .for_each(|(to, &from)| strided.strides[to] = own[from]);
                }
                Lowering::Slice { axis, start, step } => {
                    strided.offset += start as isize * strided.strides[axis];
                    strided.strides[axis] *= step;
                }
                // a broadcast: axes that are repeated, and new ones before the others
                _ => {
                    let from = self.dag.shape(self.dag.operands(node)[0].shape);
                    let (own, lead) = (
                        strided.strides,
                        self.dag.shape(self.dag.nodes[node].shape).rank() - from.rank(),
                    );
                    strided.strides = [0; MAX_RANK];
                    for k in (0..from.rank()).filter(|&k| from[k] > 1) {
                        strided.strides[lead + k] = own[k];
                    }
                }
            }
        }
        (base.node, strided)
    }

    fn permutation(&self, node: DagId) -> Option<&[usize]> {
        match self.p.op(self.dag.nodes[node].id).lowering() {
            Lowering::Permute(axes) if self.dag.nodes[node].kind == Kind::Permute => Some(axes),
            _ => None,
        }
    }

    /// Of axes that are put back in their order, the node whose axes were permuted before: of
    /// `x.t().t()`, and of the gradient of a transpose, `x`.
    fn permuted_back(&self, id: NodeId) -> Option<DagId> {
        let Lowering::Permute(axes) = self.p.op(id).lowering() else {
            return None;
        };
        let seen = self.p.args(id)[0];
        let first = self.node(seen);
        let before = self.permutation(first)?;
        let is_back = self.dag.nodes[first].shape == self.p.nodes[seen].shape
            && axes
                .iter()
                .enumerate()
                .all(|(to, &from)| before[from] == to);
        is_back.then(|| self.dag.operands(first)[0].node)
    }

    /// Of a product with a 1 that differentiation made, or a quotient by it, the other operand.
    fn times_one(&self, id: NodeId) -> Option<DagId> {
        let (p, node) = (self.p, &self.p.nodes[id]);
        let (op @ (Id::Mul | Id::Div), &[a, b]) = (node.builtin()?, p.args(id)) else {
            return None;
        };
        // a 1 of a larger shape broadcasts the other operand: then the product is not that operand
        let is_same = |x: NodeId| p.nodes[x].shape == node.shape;
        match op {
            Id::Mul if self.is_ones(a) && is_same(b) => Some(self.node(b)),
            _ if self.is_ones(b) && is_same(a) => Some(self.node(a)),
            _ => None,
        }
    }

    /// Whether a node is a 1 that differentiation made, or that broadcast. A 1 that a user wrote is
    /// a number like any other: whether it is 1 in the next step, too, the plan does not know.
    fn is_ones(&self, id: NodeId) -> bool {
        let mut node = self.node(id);
        if self.dag.nodes[node].kind == Kind::Broadcast {
            node = self.dag.operands(node)[0].node;
        }
        self.p.nodes[self.dag.nodes[node].id].kind == nodes::Kind::One
    }

    /// What the inputs wait for, as seen through everything that computes nothing: a node of this
    /// dag stands for all of it.
    fn append_control_dependencies(&mut self, id: NodeId, reader: DagId) {
        for &arg in self.p.args(id) {
            let mut arg = arg;
            while shows_its_input(self.p, arg) {
                if let Some(awaited) = awaited_by(self.p, arg) {
                    let awaited = self.node(awaited);
                    self.dag
                        .push_control_dependency(ControlDependency { reader, awaited });
                }
                arg = self.p.args(arg)[0];
            }
        }
    }
}

impl<'p> Lower<'p> {
    /// What is asked for, as operands.
    fn finish(mut self, wanted: &[NodeId], updates: &[nodes::Update]) -> Dag<'p> {
        let seen = |id: NodeId| Operand::of(self.node(id), self.p.nodes[id].shape);
        let results = wanted.iter().map(|&id| seen(id)).collect();
        let update = |u: &nodes::Update| Update {
            target: u.target,
            new: u.value,
            value: seen(u.value),
            old: self.stands_for.get(u.target).copied().flatten(),
        };
        let updates = updates.iter().map(update).collect();
        (self.dag.results, self.dag.updates) = (results, updates);
        self.dag
    }
}

/// Whether a node's elements are those of its first input, perhaps repeated or in another order.
pub(super) fn shows_its_input(p: &Program, id: NodeId) -> bool {
    p.nodes[id].kind == nodes::Kind::Op
        && matches!(
            p.op(id).lowering(),
            Lowering::View
                | Lowering::Recompute
                | Lowering::Broadcast
                | Lowering::Permute(_)
                | Lowering::Slice { .. }
        )
}

/// Goes back from what is asked for and counts how often each node is read.
///
/// Example: in `assign(w, w - 0.1·dw)` the product and the difference are needed by the update
/// only, so they commit; `dw` is a matrix product, and does not. If the same `w - 0.1·dw` is also
/// asked for, nothing of it commits: it is computed before, and moved into the parameter.
///
/// A node belongs to the commit phase if only updates need it and it cannot fail.
fn count_uses(dag: &mut Dag<'_>) {
    let mut is_needed_before = IndexVec::filled(false, dag.nodes.len());
    for o in &dag.results {
        dag.nodes[o.node].uses += 1;
        is_needed_before[o.node] = true;
    }
    for u in &dag.updates {
        let node = &mut dag.nodes[u.value.node];
        // a value that is also something else's is not written into the parameter, but copied or
        // moved
        is_needed_before[u.value.node] |= node.uses > 0 || node.id != u.new;
        node.uses += 1;
    }
    for node in dag.nodes.indices().rev() {
        if dag.nodes[node].uses == 0 {
            continue;
        }
        let can_wait =
            matches!(dag.nodes[node].kind, Kind::Elementwise(apply) if apply != Apply::Custom);
        if can_wait && !is_needed_before[node] {
            dag.nodes[node].phase = Phase::Commit;
        }
        let is_early = dag.nodes[node].phase == Phase::Compute;
        for k in 0..dag.operands(node).len() {
            let operand = dag.operands(node)[k].node;
            dag.nodes[operand].uses += 1;
            is_needed_before[operand] |= is_early;
        }
    }
}

/// Axes that follow each other, as a range; none if they do not, or if there are none.
fn neighbours(axes: Axes) -> Option<AxisRange> {
    let start = axes.0.trailing_zeros();
    let mask = axes.0.checked_shr(start)?;
    let is_one_run = mask.count_ones() == mask.trailing_ones();
    is_one_run.then(|| AxisRange {
        start: start as u8,
        end: (start + mask.count_ones()) as u8,
    })
}

fn swaps_last_two(permutation: &[usize]) -> bool {
    let rank = permutation.len();
    let expected = |to: usize| match rank - to {
        1 => rank - 2,
        2 => rank - 1,
        _ => to,
    };
    rank >= 2
        && permutation
            .iter()
            .enumerate()
            .all(|(to, &from)| from == expected(to))
}

/// Finds nodes that compute the same: a hash table with linear probing, of bounded size, so that it
/// stays in the cache. Duplicates come from rules that compute what the forward pass has computed,
/// mostly not far from each other. What the table forgets is only computed twice.
struct CommonSubexpressions {
    table: Vec<Option<Entry>>,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    node: DagId,
}

impl CommonSubexpressions {
    fn new(nodes: usize) -> CommonSubexpressions {
        const MAX_SLOTS: usize = 1 << 15; // in the second-level cache
        CommonSubexpressions {
            table: vec![None; (2 * nodes).next_power_of_two().min(MAX_SLOTS)],
        }
    }

    /// An older node that computes what the node `id`, which is appended next, does from these
    /// operands.
    fn find(
        &mut self,
        dag: &Dag<'_>,
        id: NodeId,
        operands: &[Operand],
        generations: &IndexVec<NodeId, u32>,
    ) -> Option<DagId> {
        const MAX_PROBES: usize = 8;
        let hash = hash(dag.program, id, operands);
        let (mask, first) = (self.table.len() - 1, (hash >> 32) as usize);
        let entry = Entry {
            hash: hash as u32,
            node: dag.nodes.next(),
        };
        for slot in (first..first + MAX_PROBES).map(|slot| slot & mask) {
            match self.table[slot] {
                None => {
                    self.table[slot] = Some(entry);
                    return None;
                }
                Some(older) if older.hash != entry.hash => {}
                Some(older) if is_equal(dag, older.node, id, operands, generations) => {
                    return Some(older.node);
                }
                Some(_) => {}
            }
        }
        self.table[first & mask] = Some(entry);
        None
    }
}

fn hash(p: &Program, id: NodeId, operands: &[Operand]) -> u64 {
    let op = match p.nodes[id].op {
        Some(op) if op.own().is_some() => p.op(id).name().as_ptr() as u64,
        op => op.map_or(0, Index::index) as u64,
    };
    let words = operands.iter().map(|o| o.node.index() as u64);
    let hash = std::iter::once(op).chain(words).fold(0u64, |hash, word| {
        (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
    hash ^ hash >> 29
}

/// Whether a node of the dag computes what a node of the program computes from these operands.
fn is_equal(
    dag: &Dag<'_>,
    older: DagId,
    id: NodeId,
    operands: &[Operand],
    generations: &IndexVec<NodeId, u32>,
) -> bool {
    let (p, other) = (dag.program, dag.nodes[older].id);
    let (a, b) = (&p.nodes[other], &p.nodes[id]);
    let is_own = |op: Option<OpId>| op.is_some_and(|op| op.own().is_some());
    // an op may depend on the shapes of its operands: those must agree as well
    (a.shape, a.dtype, a.count) == (b.shape, b.dtype, b.count)
        && generations.get(other) == generations.get(id)
        && dag.operands(older) == operands
        && (a.op == b.op || is_own(a.op) && is_own(b.op) && p.op(other).same(p.op(id)))
}
