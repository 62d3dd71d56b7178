//! Fusion: which nodes one kernel computes together. Pass 3 of 7.
//!
//! A group gets a level when it begins: one more than the highest level of the groups that it reads
//! or waits for. One pass over the nodes decides. A node that can be fused joins the groups of the
//! highest level among its operands, which become one group, if one kernel can do all of it;
//! operands of lower levels are read from memory. Else it joins a group of its own level that reads
//! the same array, so that the array is read once, or begins a new group. Single numbers and ops by
//! their own `eval` that are computed from leaves only have level 0: what they are used for should
//! not wait for them.
//!
//! **No group ever waits for itself**, because every edge between two groups goes to a strictly
//! higher level:
//!
//! - A new group has a level above all that it reads or waits for.
//! - A node that joins a group of level `h` has its operands of level `h` inside, and all others
//!   below. What it waits for is inside or below, too.
//! - Groups of one level do not read each other, as edges go to a higher one. So merging them
//!   changes no level and no edge.
//! - A matrix product of level `p` that a reader's group of level `l > p` takes in
//!   ([`Fusion::fuse_products`]) reads levels below `p`, and its other readers are above `l`. What
//!   something waits for without reading it is not taken in.
//!
//! So levels order the groups, and a scheduler that counts unread operands always finds one that is
//! ready. [`Groups::verify`] checks the sentence in bold, which no later rule may break.
//!
//! Why not join a lower group? Let `a` be in a group of level 1, `b` read `a` in a group of level
//! 2, and `c` read both. If `c` joined the group of `a`, that group would read `b` and be read by
//! it.
//!
//! Example: in `loss = ((x·w + b).relu() - y).square().sum()` with its gradient, the product has
//! level
//! 1. The node that adds the bias cannot join it, so it begins a group of level 2. Everything up to
//!    the sum joins that, and so does the gradient by `x·w + b`, which reads the same elements.
//!    Then the product is taken in: its rows are computed just before they are read.

use super::{
    along::is_read_along,
    dag::{Dag, Kind, Operand, Phase},
    index::{DagId, GroupId},
    size::Blocks,
    tiling,
};
use crate::{
    index::{Index, IndexVec},
    math::fold::Lines,
    nodes::{Hashed, ShapeId},
    sorted::sort_by,
    tensor::DType,
};
use std::collections::{HashMap, HashSet};

/// Fusion groups, and which of them computes a node.
pub(super) struct Groups {
    pub(super) all: IndexVec<GroupId, Group>,
    /// None for leaves.
    pub(super) of: IndexVec<DagId, Option<GroupId>>,
    /// Whether a node is computed along lines, one number for each, by a kernel of their elements.
    pub(super) is_along: IndexVec<DagId, bool>,
}

/// What is computed by one kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) level: u32,
    pub(super) work: Work,
    pub(super) phase: Phase,
}

/// What a group consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// One node that is not fused.
    Single,
    /// Work on single numbers.
    Scalars { dtype: DType },
    /// Work on the elements of a shape.
    Elements {
        domain: ShapeId,
        dtype: DType,
        blocks: Blocks,
        /// Strided lines that are reduced row by row.
        rows: Rows,
        /// Whether it reads transposed arrays by panels, which needs elements in their order.
        has_panels: bool,
    },
}

/// Reductions of strided lines in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rows {
    None,
    /// All over the same lines.
    Of(Lines),
    Several,
}

impl Rows {
    fn with(self, other: Rows) -> Rows {
        match (self, other) {
            (Rows::None, rows) | (rows, Rows::None) => rows,
            (a, b) if a == b => a,
            _ => Rows::Several,
        }
    }
}

/// The most nodes of a fused kernel: it bounds the scratch memory. What is too much for one goes to
/// the next level.
const MAX_NODES: usize = 1 << 10;
/// The most nodes of a group that takes in others because they read the same array,
const MAX_NODES_BESIDE: usize = 64;
/// and the least elements of the array: smaller ones are in the first-level cache anyway.
const WORTH_SHARING: usize = 1 << 12;
/// The most elements of a product that wait for the rest of their kernel: 1 MiB.
const MAX_WAITING: usize = 1 << 18;

/// Groups while they grow. Merged ones form trees (union-find).
struct Fusion<'d> {
    dag: &'d Dag<'d>,
    groups: IndexVec<GroupId, Growing>,
    of: IndexVec<DagId, Option<GroupId>>,
    /// As of [`Groups`].
    is_along: IndexVec<DagId, bool>,
    /// The groups of single numbers: those of one level are computed together, connected or not.
    scalars: HashMap<(u32, DType, Phase), GroupId>,
    /// The groups of some level that read an array element by element.
    readers: HashMap<(u32, DagId), GroupId, Hashed>,
}

#[derive(Clone, Copy)]
struct Growing {
    /// The group that it has become a part of, or itself.
    parent: GroupId,
    group: Group,
    nodes: usize,
}

/// Decides which nodes are computed together.
pub(super) fn fuse(dag: &Dag<'_>) -> Groups {
    let mut fusion = Fusion {
        dag,
        groups: IndexVec::new(),
        of: IndexVec::filled(None, dag.nodes.len()),
        is_along: IndexVec::filled(false, dag.nodes.len()),
        scalars: HashMap::new(),
        readers: HashMap::default(),
    };
    for (id, node) in dag.nodes.enumerate() {
        fusion.of[id] = match node.kind {
            Kind::Leaf => None,
            Kind::Elementwise(_) | Kind::Broadcast | Kind::Fold(..) | Kind::Line(..) => {
                Some(fusion.join(id))
            }
            Kind::MatMul | Kind::Permute | Kind::Slice | Kind::Opaque => {
                Some(fusion.begin(id, Work::Single))
            }
        };
    }
    fusion.fuse_products();
    fusion.finish()
}

impl Fusion<'_> {
    /// The group that computes a node; none for a leaf.
    fn group(&mut self, node: DagId) -> Option<GroupId> {
        let group = self.of[node]?;
        Some(self.root(group))
    }

    /// The group that a group has become a part of.
    fn root(&mut self, mut group: GroupId) -> GroupId {
        while self.groups[group].parent != group {
            let up = self.groups[group].parent;
            self.groups[group].parent = self.groups[up].parent;
            group = up;
        }
        group
    }

    fn level(&self, group: GroupId) -> u32 {
        self.groups[group].group.level
    }

    /// The group that a number for each line joins, if that has the lines.
    fn join_lines(&mut self, id: DagId) -> Option<GroupId> {
        let dag = self.dag;
        let along = dag.along[id].filter(|&along| dag.can_be_along(id, along))?;
        let (highest, phase) = (self.highest(id), dag.nodes[id].phase);
        let work = Work::Elements {
            domain: along.domain,
            dtype: self.dtype(id),
            blocks: Blocks::of_whole(along.axes.lines(dag.shape(along.domain))),
            rows: Rows::None,
            has_panels: false,
        };
        let mut target = None;
        for &operand in dag.operands(id) {
            let group = self.group(operand.node);
            let Some(group) = group.filter(|&g| self.level(g) == highest && highest > 0) else {
                if !dag.is_broadcast_along(operand, along) {
                    return None;
                }
                continue;
            };
            let of_lines = dag.number_along(operand.node, &self.is_along);
            if !of_lines.is_some_and(|of| dag.are_same_lines(of, along)) {
                return None;
            }
            if target != Some(group) {
                target = Some(self.merged(target, group, work, phase)?);
            }
        }
        let group = target.filter(|&group| self.waits_below(id, group))?;
        self.is_along[id] = true;
        Some(group)
    }

    /// The group for a node that can be fused.
    fn join(&mut self, id: DagId) -> GroupId {
        if let Some(group) = self.join_lines(id) {
            return group;
        }
        let work = self.work(id);
        // a lower group cannot be joined: a group of the highest level may need its result
        let highest = self.highest(id);
        let mut target = None;
        for k in 0..self.dag.operands(id).len() {
            let operand = self.dag.operands(id)[k];
            let Some(group) = self
                .group(operand.node)
                .filter(|&g| self.level(g) == highest)
            else {
                continue;
            };
            if !is_there_in_time(self.dag, &self.is_along, id, operand) {
                return self.begin(id, work);
            }
            if target != Some(group) {
                match self.merged(target, group, work, self.dag.nodes[id].phase) {
                    Some(merged) => target = Some(merged),
                    None => return self.begin(id, work),
                }
            }
        }
        // not before what it waits for is done. Inside one kernel that is no condition: a kernel
        // keeps nothing in memory between its nodes, so there is nothing to recompute later
        match target {
            Some(group) if self.waits_below(id, group) => group,
            _ => self.begin(id, work),
        }
    }

    /// Two groups of the same level, and a node with this work, as one group; none if they do not
    /// fit together.
    fn merged(
        &mut self,
        target: Option<GroupId>,
        group: GroupId,
        work: Work,
        phase: Phase,
    ) -> Option<GroupId> {
        let there = self.groups[group];
        if there.group.phase != phase {
            return None;
        }
        let mut together = there.group.work.with(work)?;
        let mut nodes = there.nodes + 1;
        if let Some(target) = target {
            together = self.groups[target].group.work.with(together)?;
            nodes = there.nodes + self.groups[target].nodes;
        }
        // scalar kernels have no limit: a register is one number
        if matches!(work, Work::Elements { .. }) && nodes > MAX_NODES {
            return None;
        }
        let into = target.unwrap_or(group);
        self.groups[group].parent = into;
        self.groups[into].group.work = together;
        self.groups[into].nodes = nodes;
        Some(into)
    }

    /// A group for a node, above everything that it reads or waits for.
    fn begin(&mut self, id: DagId, work: Work) -> GroupId {
        let (highest, phase) = (self.highest(id), self.dag.nodes[id].phase);
        let dag = self.dag;
        let reads_leaves = || dag.operands(id).iter().all(|o| self.of[o.node].is_none());
        let level = match work {
            Work::Scalars { .. } | Work::Single
                if highest == 0 && dag.nodes[id].kind != Kind::MatMul && reads_leaves() =>
            {
                0
            }
            _ => highest + 1,
        };
        let arrays: Vec<DagId> = self.arrays(id, work).collect();
        if let Some(group) = self.beside(&arrays, level, work, phase) {
            return group;
        }
        let next = self.groups.next();
        self.readers
            .extend(arrays.into_iter().map(|array| ((level, array), next)));
        if let Work::Scalars { dtype } = work {
            // an optimizer has hundreds of independent scalar nodes: one kernel for all of them
            let known = *self.scalars.entry((level, dtype, phase)).or_insert(next);
            if known != next {
                return known; // such groups are never merged into others
            }
        }
        self.groups.push(Growing {
            parent: next,
            group: Group { level, work, phase },
            nodes: 1,
        })
    }

    /// The large arrays that a node reads element by element.
    fn arrays(&self, id: DagId, work: Work) -> impl Iterator<Item = DagId> {
        let dag = self.dag;
        let count = match work {
            Work::Elements { domain, .. } => dag.shape(domain).count(),
            Work::Single | Work::Scalars { .. } => 0,
        };
        let is_read = move |o: &&Operand| {
            count >= WORTH_SHARING && o.through.is_none() && dag.count(o.node) == count
        };
        dag.operands(id).iter().filter(is_read).map(|o| o.node)
    }

    /// A group of this level that reads one of the arrays that a node reads, and can take it in.
    fn beside(
        &mut self,
        arrays: &[DagId],
        level: u32,
        work: Work,
        phase: Phase,
    ) -> Option<GroupId> {
        arrays.iter().find_map(|&array| {
            let known = *self.readers.get(&(level, array))?;
            let group = self.root(known);
            let Growing {
                group: there,
                nodes,
                ..
            } = self.groups[group];
            // reductions over different lines would leave nowhere to cut the kernel
            let fits = nodes < MAX_NODES_BESIDE && there.work.reduces_as(work);
            // what begins a level reads no group of it
            fits.then(|| self.merged(None, group, work, phase))?
        })
    }

    /// The highest level among the groups that a node reads or waits for; 0 if it needs leaves, and
    /// numbers made of them, only.
    fn highest(&mut self, id: DagId) -> u32 {
        let mut highest = self.highest_awaited(id, None);
        for k in 0..self.dag.operands(id).len() {
            if let Some(group) = self.group(self.dag.operands(id)[k].node) {
                highest = highest.max(self.level(group));
            }
        }
        highest
    }

    /// Whether all that a node waits for without reading it is below a group, or in it.
    fn waits_below(&mut self, id: DagId, group: GroupId) -> bool {
        self.dag.awaited(id).next().is_none()
            || self.highest_awaited(id, Some(group)) < self.level(group)
    }

    /// The highest level of the groups, other than `own`, that a node waits for without reading
    /// them.
    fn highest_awaited(&mut self, id: DagId, own: Option<GroupId>) -> u32 {
        let dag = self.dag;
        let groups = dag
            .awaited(id)
            .filter_map(|a| self.group(a))
            .filter(|&g| Some(g) != own);
        let groups: Vec<GroupId> = groups.collect(); // of nearly all nodes: nothing
        groups.into_iter().map(|g| self.level(g)).max().unwrap_or(0)
    }

    /// The type that a node computes in.
    fn dtype(&self, id: DagId) -> DType {
        // comparisons give booleans, and compute with what they compare
        match self.dag.nodes[id].dtype {
            DType::Bool => self.dag.nodes[self.dag.operands(id)[0].node].dtype,
            dtype => dtype,
        }
    }

    /// What a node computes, in a group of its own.
    fn work(&self, id: DagId) -> Work {
        let (node, dtype) = (&self.dag.nodes[id], self.dtype(id));
        if self.dag.shape(node.domain).count() == 1 {
            return Work::Scalars { dtype };
        }
        let (mut blocks, mut rows) = (Blocks::Any, Rows::None);
        match (self.dag.lines(id), node.kind) {
            (Some(lines), Kind::Line(..)) => blocks = Blocks::of_whole(lines),
            (Some(Lines { n, inner: 1 }), _) => blocks = Blocks::InLines(n),
            (Some(lines), _) => rows = Rows::Of(lines),
            (None, _) => {}
        }
        let mut operands = self.dag.operands(id).iter();
        Work::Elements {
            domain: node.domain,
            dtype,
            blocks,
            rows,
            has_panels: operands.any(|&operand| self.dag.is_panel(operand)),
        }
    }
}

impl Work {
    /// Whether one of both reduces nothing, or both reduce the same lines.
    fn reduces_as(self, other: Work) -> bool {
        let lines = |work| match work {
            Work::Elements { blocks, rows, .. } => (blocks, rows),
            Work::Single | Work::Scalars { .. } => (Blocks::Any, Rows::None),
        };
        let (a, b, none) = (lines(self), lines(other), (Blocks::Any, Rows::None));
        a == none || b == none || a == b
    }

    /// Both together, if one kernel can do both: on the same elements, along lines of the same
    /// length.
    fn with(self, other: Work) -> Option<Work> {
        match (self, other) {
            (Work::Scalars { dtype: a }, Work::Scalars { dtype: b }) if a == b => Some(self),
            (
                Work::Elements {
                    domain,
                    dtype,
                    blocks,
                    rows,
                    has_panels,
                },
                Work::Elements {
                    domain: other_domain,
                    dtype: other_dtype,
                    blocks: other_blocks,
                    rows: other_rows,
                    has_panels: other_panels,
                },
            ) => {
                let (blocks, rows) = (blocks.with(other_blocks)?, rows.with(other_rows));
                // transposed blocks have no rows to reduce, but their own lines whole
                let has_panels = has_panels || other_panels;
                let fits = match blocks {
                    Blocks::OfColumns(lines) => {
                        (rows == Rows::None || rows == Rows::Of(lines)) && !has_panels
                    }
                    _ => rows == Rows::None || !has_panels,
                };
                ((domain, dtype) == (other_domain, other_dtype) && fits).then_some(Work::Elements {
                    domain,
                    dtype,
                    blocks,
                    rows,
                    has_panels,
                })
            }
            _ => None,
        }
    }
}

/// A read of a matrix product that could be computed row by row.
struct ProductRead {
    product: DagId,
    reader: GroupId,
    level: u32,
    /// The reader goes through the product's elements one by one.
    is_whole: bool,
}

/// What decides whether a group may take in a product.
struct ProductRules {
    /// The folds of each group.
    folds: HashMap<GroupId, Vec<Lines>>,
    /// What some node waits for without reading it.
    awaited: HashSet<DagId>,
    /// Results, and values of updates.
    requested: HashSet<DagId>,
    /// The columns of the products that a group has taken in.
    columns: HashMap<GroupId, usize>,
}

/// Matrix products inside of other kernels.
impl Fusion<'_> {
    /// Lets the group that reads the elements of a matrix product compute it as well, some rows at
    /// a time: they are in the cache when they are read (an epilogue). Of several readers it is the
    /// one that all others can come after.
    fn fuse_products(&mut self) {
        let dag = self.dag;
        if !dag
            .nodes
            .indices()
            .any(|id| dag.rows_of_product(id).is_some())
        {
            return;
        }
        let (reads, folds) = self.product_reads();
        let requested = dag
            .results
            .iter()
            .chain(dag.updates.iter().map(|u| &u.value));
        let mut rules = ProductRules {
            folds,
            awaited: dag
                .control_dependencies()
                .iter()
                .map(|b| b.awaited)
                .collect(),
            requested: requested.map(|o| o.node).collect(),
            columns: HashMap::new(),
        };
        for readers in reads.chunk_by(|a, b| a.product == b.product) {
            let ProductRead {
                product, reader, ..
            } = readers[0];
            if self.may_take(&mut rules, readers)
                && let Some(own) = self.group(product)
            {
                self.groups[own].parent = reader;
            }
        }
    }

    /// Whether the first of a product's readers, which has the lowest level, may compute it.
    fn may_take(&self, rules: &mut ProductRules, readers: &[ProductRead]) -> bool {
        let &ProductRead {
            product,
            reader,
            level,
            ..
        } = &readers[0];
        let (
            Some(size),
            Group {
                work: Work::Elements { blocks, .. },
                phase,
                ..
            },
        ) = (self.dag.rows_of_product(product), self.groups[reader].group)
        else {
            return false;
        };
        // its nodes go through the product element by element, and all other readers come later.
        // `x·w` that is read by a group and, transposed, by a product of the same level stays alone
        let mut in_order = readers.iter().map(|r| {
            if r.reader == reader {
                r.is_whole
            } else {
                r.level > level
            }
        });
        // the rows between two places where the kernel may be cut are computed at once. A sum over
        // all of a large product can be cut only at multiples of its chunks: many rows, if `n` is
        // odd
        let folds = rules.folds.get(&reader).map_or(&[][..], |folds| folds);
        let rows = tiling::rows_between_cuts(size.m * size.n, size.n, blocks, folds);
        let is_in_order = !matches!(blocks, Blocks::OfColumns(_));
        let few_rows = rows.is_some_and(|rows| rows.min(size.m) * size.n <= MAX_WAITING);
        // a kernel of the commit phase is too late for everybody else
        let commit_only = readers
            .iter()
            .all(|r| self.groups[r.reader].group.phase == Phase::Commit);
        let in_time = phase == Phase::Compute || commit_only && !rules.requested.contains(&product);
        // the reader may need what waits for the product: then it cannot compute the product itself
        let is_awaited = rules.awaited.contains(&product);
        in_order.all(|fits| fits)
            && few_rows
            && is_in_order
            && in_time
            && !is_awaited
            // rows of all products of a kernel are counted alike
            && *rules.columns.entry(reader).or_insert(size.n) == size.n
    }

    /// The reads of matrix products, by product, those of the lowest level first; and the folds of
    /// each group.
    fn product_reads(&mut self) -> (Vec<ProductRead>, HashMap<GroupId, Vec<Lines>>) {
        let (mut reads, mut folds) = (Vec::new(), HashMap::<GroupId, Vec<Lines>>::new());
        for id in self.dag.nodes.indices() {
            let Some(reader) = self.group(id) else {
                continue;
            };
            for &operand in self.dag.operands(id) {
                if self.dag.rows_of_product(operand.node).is_some() {
                    reads.push(ProductRead {
                        product: operand.node,
                        reader,
                        level: self.level(reader),
                        is_whole: self.reads_whole(reader, operand),
                    });
                }
            }
            if let Some(lines) = self.dag.reduced_lines(id) {
                folds.entry(reader).or_default().push(lines);
            }
        }
        // by product, and of each the reader of the lowest level first
        sort_by(&mut reads, |r| {
            (r.product.index() as i64) << 32 | i64::from(r.level)
        });
        (reads, folds)
    }

    /// Whether an operand is read one by one by a group that works through as many elements of its
    /// type.
    fn reads_whole(&self, reader: GroupId, operand: Operand) -> bool {
        match self.groups[reader].group.work {
            Work::Elements { domain, dtype, .. } => {
                operand.through.is_none()
                    && dtype == self.dag.nodes[operand.node].dtype
                    && self.dag.shape(operand.shape).count() == self.dag.shape(domain).count()
            }
            Work::Single | Work::Scalars { .. } => false,
        }
    }

    /// The groups that are left, with new numbers in the order of the old ones.
    fn finish(mut self) -> Groups {
        let mut renamed = IndexVec::filled(None, self.groups.len());
        let mut all = IndexVec::new();
        for (id, growing) in self.groups.enumerate() {
            if growing.parent == id {
                renamed[id] = Some(all.push(growing.group));
            }
        }
        let mut of = IndexVec::filled(None, self.dag.nodes.len());
        for node in self.dag.nodes.indices() {
            of[node] = self.group(node).and_then(|group| renamed[group]);
        }
        Groups {
            all,
            of,
            is_along: self.is_along,
        }
    }
}

/// Whether a node can read an operand of its own kernel. A reduction: no, it is complete only after
/// the whole kernel. A number for each line: only where each element, or each other such number,
/// reads that of its own line, which is in the same block. A slice or a permutation: no, it shows
/// other elements than the reader's. Anything else: yes.
fn is_there_in_time(
    dag: &Dag<'_>,
    is_along: &IndexVec<DagId, bool>,
    id: DagId,
    operand: Operand,
) -> bool {
    if operand.through.is_some() || matches!(dag.nodes[operand.node].kind, Kind::Fold(..)) {
        return false;
    }
    let Some(along) = dag.number_along(operand.node, is_along) else {
        return true;
    };
    match dag.along[id].filter(|_| is_along[id]) {
        Some(reader) => dag.are_same_lines(reader, along),
        None => is_read_along(dag, id, operand, along),
    }
}

impl Groups {
    /// Checks that every edge between groups goes to a strictly higher level, and that a node reads
    /// of its own kernel only what is there in time.
    pub(super) fn verify(&self, dag: &Dag<'_>) -> Result<(), String> {
        for (id, node) in dag.nodes.enumerate().filter(|(_, n)| n.kind != Kind::Leaf) {
            let Some(group) = self.of[id] else {
                return Err(format!("{id:?} is in no group"));
            };
            for &operand in dag.operands(id) {
                let is_ready = match self.of[operand.node] {
                    Some(other) if other == group => {
                        is_there_in_time(dag, &self.is_along, id, operand)
                    }
                    other => self.is_below(other, group),
                };
                if !is_ready {
                    return Err(format!("{id:?} of {group:?} reads {operand:?} too early"));
                }
            }
            let is_early =
                |a: DagId| self.of[a] != Some(group) && !self.is_below(self.of[a], group);
            if let Some(early) = dag.awaited(id).find(|&a| is_early(a)) {
                return Err(format!("{id:?} of {group:?} does not wait for {early:?}"));
            }
            if self.all[group].phase != node.phase && node.kind != Kind::MatMul {
                return Err(format!("{id:?} is in a group of another phase"));
            }
        }
        Ok(())
    }

    /// Whether a group can be read by another one; leaves are in no group and can be read by all.
    fn is_below(&self, group: Option<GroupId>, reader: GroupId) -> bool {
        group.is_none_or(|group| {
            let (below, above) = (self.all[group], self.all[reader]);
            below.level < above.level && below.phase <= above.phase
        })
    }
}
