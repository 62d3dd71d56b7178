//! The form of a program between lowering and emission: a graph of what has to be computed. Stage 2
//! of 7, made by [`lower`](super::lower), read by fusion, scheduling and emission.
//!
//! A [`Dag`] has no views, no duplicates and nothing that is not needed. Each node says how it is
//! computed ([`Kind`]), and its operands are stored once: which node has the elements, and how they
//! are seen. Later passes read these records only, never ops.
//!
//! As an example, `x.sigmoid().reshape([6]).sum()` of a matrix `x` has two nodes besides the leaf:
//! an elementwise node that reads `x`, and a sum over 6 elements that reads the first one *as
//! `[6]`*. The reshape is gone; it has become the shape of an operand.

use super::{
    along::Along,
    index::{DagId, ThroughId},
    kernel::MatrixAccess,
    size::ProductSize,
    tiling::fits_a_panel,
};
use crate::{
    index::{Index, IndexVec},
    math::fold::{Fold, Lines},
    nodes::{NodeId, Program, ShapeId},
    op::{Id, Parts, lowering::LineFunction},
    shape::{MAX_RANK, Shape, Walk},
    tensor::{DType, Type},
};

/// What has to be computed.
pub(super) struct Dag<'p> {
    pub(super) program: &'p Program,
    /// In the order of the program: operands come before their readers.
    pub(super) nodes: IndexVec<DagId, Node>,
    /// The operands of all nodes, one node after the other.
    operands: Vec<Operand>,
    /// How operands are read that are slices and permutations of other nodes.
    pub(super) throughs: IndexVec<ThroughId, Strided>,
    /// The lines that an elementwise node has one number for each of, if its readers see it so.
    pub(super) along: IndexVec<DagId, Option<Along>>,
    /// By reader.
    control_dependencies: Vec<ControlDependency>,
    /// The wanted values, in the order in which they were wanted.
    pub(super) results: Vec<Operand>,
    pub(super) updates: Vec<Update>,
}

/// A node of the [`Dag`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// The node of the program whose value it has.
    pub(super) id: NodeId,
    pub(super) kind: Kind,
    pub(super) dtype: DType,
    pub(super) shape: ShapeId,
    /// The shape of the elements that it works through: its own, or, where it reduces them, that of
    /// its operand.
    pub(super) domain: ShapeId,
    pub(super) phase: Phase,
    /// How often nodes, results and updates read it.
    pub(super) uses: u32,
    first_operand: u32,
    operands: u16,
}

/// How a node is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Not at all: it comes from outside.
    Leaf,
    /// A number from the numbers of floats at the same place of each operand.
    Elementwise(Apply),
    /// The operand, broadcast. Only readers that cannot broadcast for themselves have such an
    /// operand.
    Broadcast,
    /// A reduction of floats over axes that follow each other, complete after the whole kernel.
    Fold(Fold, AxisRange),
    /// A function of contiguous lines that are short enough to be in the first-level cache.
    Line(LineFunction, AxisRange),
    MatMul,
    /// The operand with its axes permuted, copied.
    Permute,
    /// Elements of the operand at even distances along an axis, copied.
    Slice,
    /// By the op's own `eval`.
    Opaque,
}

/// What an elementwise node applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Apply {
    Formula(Id),
    /// A whole power.
    Power(i32),
    /// 1 where true, 0 elsewhere.
    FromBool,
    /// The sum of one number, which begins with +0: -0 becomes +0.
    SumOfOne,
    /// A user's formula.
    Custom,
}

/// When a node is computed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Phase {
    /// As soon as its operands are there.
    Compute,
    /// When everything else has been computed and nothing can fail any more: only updates of
    /// parameters read it.
    Commit,
}

/// Axes that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AxisRange {
    pub(super) start: u8,
    pub(super) end: u8,
}

impl AxisRange {
    /// The lines along these axes of a shape, taken as one.
    pub(super) fn lines(self, shape: &Shape) -> Lines {
        let (start, end) = (usize::from(self.start), usize::from(self.end));
        Lines {
            n: shape[start..end].iter().product(),
            inner: shape[end..].iter().product(),
        }
    }
}

/// What a node reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Operand {
    /// The node that has the elements.
    pub(super) node: DagId,
    /// The shape that they are seen with: in the same order.
    pub(super) shape: ShapeId,
    /// The last two axes are exchanged after that. Only matrix products have such operands.
    pub(super) transposed: bool,
    /// The shape's elements are not all those of the node in their order, but some of them, as this
    /// says. Only fused kernels and matrix products have such
    /// operands.
    pub(super) through: Option<ThroughId>,
}

/// Elements of a node at even distances along each axis of a shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Strided {
    pub(super) shape: ShapeId,
    pub(super) strides: [isize; MAX_RANK],
    pub(super) offset: isize,
}

impl Strided {
    /// Whether it is read in runs, of elements that lie one after the other or almost so.
    pub(super) fn has_runs(&self, shape: &Shape) -> bool {
        const NEAR: usize = 4;
        let last = (0..shape.rank()).rev().find(|&k| shape[k] > 1);
        last.is_none_or(|k| self.strides[k].unsigned_abs() <= NEAR && shape[k] >= NEAR)
    }

    /// Whether it can be read by panels: a cache line of each row at once.
    pub(super) fn is_panel(&self, shape: &Shape) -> bool {
        let period = self.walk(shape, shape).transposed_period();
        !self.has_runs(shape) && period.is_some_and(fits_a_panel)
    }

    /// The walk over the elements by a reader that works through a shape: as many elements, or the
    /// shape that they are broadcast to.
    pub(super) fn walk(&self, own: &Shape, reader: &Shape) -> Walk {
        if own.count() == reader.count() {
            return Walk::new(*own, self.strides, self.offset);
        }
        let (lead, mut strides) = (reader.rank() - own.rank(), [0; MAX_RANK]);
        for k in (0..own.rank()).filter(|&k| own[k] > 1) {
            strides[lead + k] = self.strides[k];
        }
        Walk::new(*reader, strides, self.offset)
    }
}

impl Strided {
    /// As an operand of a matrix product: its shape, and that of the product.
    pub(super) fn matrix(&self, own: &Shape, product: &Shape) -> MatrixAccess {
        let outer = |shape: &Shape| shape.prefix(shape.rank() - 2);
        let [row, column] = [2, 1].map(|k| self.strides[own.rank() - k].unsigned_abs());
        MatrixAccess {
            starts: self.walk(&outer(own), &outer(product)),
            row,
            column,
        }
    }
}

impl Operand {
    /// A node's elements, seen with this shape.
    pub(super) fn of(node: DagId, shape: ShapeId) -> Operand {
        Operand {
            node,
            shape,
            transposed: false,
            through: None,
        }
    }
}

/// A node must not be computed before another one, although it does not read it: so recomputation
/// begins late enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct ControlDependency {
    pub(super) reader: DagId,
    pub(super) awaited: DagId,
}

/// An update of a parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    /// The node that the parameter is bound to.
    pub(super) target: NodeId,
    /// The node of the new value, and where it is in this graph.
    pub(super) new: NodeId,
    pub(super) value: Operand,
    /// The parameter's old value, if something reads it.
    pub(super) old: Option<DagId>,
}

impl<'p> Dag<'p> {
    /// Whether an operand is read by panels.
    pub(super) fn is_panel(&self, operand: Operand) -> bool {
        let is_panel = |through| self.throughs[through].is_panel(self.shape(operand.shape));
        operand.through.is_some_and(is_panel)
    }

    pub(super) fn new(program: &'p Program) -> Dag<'p> {
        Dag {
            program,
            nodes: IndexVec::new(),
            operands: Vec::new(),
            throughs: IndexVec::new(),
            along: IndexVec::new(),
            control_dependencies: Vec::new(),
            results: Vec::new(),
            updates: Vec::new(),
        }
    }

    /// Appends a node with its operands, which are older.
    pub(super) fn push(&mut self, node: Node, operands: &[Operand]) -> DagId {
        let first_operand = self.operands.len() as u32;
        self.operands.extend_from_slice(operands);
        self.nodes.push(Node {
            first_operand,
            operands: operands.len() as u16,
            ..node
        })
    }

    /// A node as [`push`](Dag::push) takes it.
    pub(super) fn node(&self, id: NodeId, kind: Kind, domain: ShapeId) -> Node {
        let of = &self.program.nodes[id];
        Node {
            id,
            kind,
            dtype: of.dtype,
            shape: of.shape,
            domain,
            phase: Phase::Compute,
            uses: 0,
            first_operand: 0,
            operands: 0,
        }
    }

    #[inline]
    pub(super) fn operands(&self, node: DagId) -> &[Operand] {
        let node = &self.nodes[node];
        &self.operands[node.first_operand as usize..][..node.operands as usize]
    }

    #[cfg(debug_assertions)]
    pub(super) fn operands_mut(&mut self, node: DagId) -> &mut [Operand] {
        let node = &self.nodes[node];
        &mut self.operands[node.first_operand as usize..][..node.operands as usize]
    }

    pub(super) fn shape(&self, id: ShapeId) -> &Shape {
        &self.program.shapes[id]
    }

    /// How a node can be computed in parts by its own op.
    pub(super) fn parts(&self, node: DagId) -> Parts {
        let n = &self.nodes[node];
        let input = |o: &Operand| Type::new(self.nodes[o.node].dtype, *self.shape(o.shape));
        let inputs: Vec<Type> = self.operands(node).iter().map(input).collect();
        let out = Type::new(n.dtype, *self.shape(n.shape));
        self.program.op(n.id).cuts(&inputs, &out)
    }

    /// The number of a node's elements.
    pub(super) fn count(&self, node: DagId) -> usize {
        self.shape(self.nodes[node].shape).count()
    }

    /// What a node waits for without reading it. The commit phase is waited for by nobody: it comes
    /// last anyway.
    pub(super) fn awaited(&self, reader: DagId) -> impl Iterator<Item = DagId> {
        let all = &self.control_dependencies;
        let start = all.partition_point(|d| d.reader < reader);
        let own = all[start..].iter().take_while(move |d| d.reader == reader);
        own.map(|d| d.awaited)
            .filter(|&awaited| self.nodes[awaited].phase == Phase::Compute)
    }

    pub(super) fn control_dependencies(&self) -> &[ControlDependency] {
        &self.control_dependencies
    }

    /// Barriers are appended in the order of their readers.
    pub(super) fn push_control_dependency(&mut self, dependency: ControlDependency) {
        debug_assert!(
            self.control_dependencies
                .last()
                .is_none_or(|last| last.reader <= dependency.reader)
        );
        self.control_dependencies.push(dependency);
    }

    /// Leaves out the nodes that nothing uses. Their neighbours get new numbers, in the same order.
    pub(super) fn without_dead_nodes(mut self) -> Dag<'p> {
        if self.nodes.iter().all(|n| n.uses > 0) {
            return self;
        }
        let mut renamed: IndexVec<DagId, Option<DagId>> = IndexVec::filled(None, self.nodes.len());
        let (mut next, mut end) = (DagId::new(0), 0);
        for id in self.nodes.indices() {
            let node = self.nodes[id];
            if node.uses > 0 {
                // in place: what is left moves towards the front
                for k in 0..usize::from(node.operands) {
                    let mut operand = self.operands[node.first_operand as usize + k];
                    rename(&mut operand, &renamed);
                    self.operands[end + k] = operand;
                }
                let first_operand = end as u32;
                end += usize::from(node.operands);
                self.nodes[next] = Node {
                    first_operand,
                    ..node
                };
                renamed[id] = Some(next);
                next = next.next();
            }
        }
        self.nodes.truncate(next.index());
        self.operands.truncate(end);
        for dependency in std::mem::take(&mut self.control_dependencies) {
            if let (Some(reader), Some(awaited)) =
                (renamed[dependency.reader], renamed[dependency.awaited])
            {
                self.control_dependencies
                    .push(ControlDependency { reader, awaited });
            }
        }
        self.results.iter_mut().for_each(|o| rename(o, &renamed));
        for update in &mut self.updates {
            rename(&mut update.value, &renamed);
            update.old = update.old.and_then(|old| renamed[old]);
        }
        self
    }

    /// The lines that a node reduces or works on, if it does either.
    pub(super) fn lines(&self, id: DagId) -> Option<Lines> {
        let node = &self.nodes[id];
        match node.kind {
            Kind::Fold(_, axes) | Kind::Line(_, axes) => Some(axes.lines(self.shape(node.domain))),
            _ => None,
        }
    }

    /// The lines that a node reduces, if it is complete only after its whole kernel.
    pub(super) fn reduced_lines(&self, id: DagId) -> Option<Lines> {
        self.lines(id)
            .filter(|_| matches!(self.nodes[id].kind, Kind::Fold(..)))
    }

    /// `[m, k, n]` of a matrix product that can be computed row by row: of one matrix, or of a
    /// batch with the same second matrix, whose rows simply follow each other.
    pub(super) fn rows_of_product(&self, node: DagId) -> Option<ProductSize> {
        let of = &self.nodes[node];
        if of.kind != Kind::MatMul {
            return None;
        }
        let [a, b] = self.operands(node) else {
            return None;
        };
        if a.through.is_some() || b.through.is_some() {
            return None;
        }
        let swapped = |o: &Operand| {
            let (shape, rank) = (self.shape(o.shape), self.shape(o.shape).rank());
            if o.transposed {
                shape.swapped(rank - 2, rank - 1)
            } else {
                *shape
            }
        };
        let (a_shape, b_shape) = (swapped(a), swapped(b));
        let (k, n, count) = (*a_shape.last()?, *b_shape.last()?, self.count(node));
        let m = count.checked_div(n)?;
        let batches = self.shape(of.shape).split_last_chunk::<2>()?.0;
        let single = batches.iter().product::<usize>() == 1;
        let joined = b_shape.count() == k * n && a_shape.count() == m * k && !a.transposed;
        let size = ProductSize { m, k, n };
        (k > 0 && m > 0 && (single || joined)).then_some(size)
    }
}

fn rename(operand: &mut Operand, renamed: &IndexVec<DagId, Option<DagId>>) {
    operand.node = renamed[operand.node].expect("what a used node reads is used");
}
