//! Numbers that belong to lines. A kernel that has whole lines in a block can reduce them, compute
//! with the results, one number for each line, and let the elements of the line read that again.
//! This end of pass 2 finds out where; whether one kernel really does it all, fusion decides.
//!
//! Example: in `(x - m)/s` with `m = sum(x)/n` and `s = √(sum((x - m)²)/n + ε)`, each sum is over
//! lines of `x`. The elements of `x` read `m` and `s` *along* their line, so both sums become
//! functions of lines, and the quotients and the root are numbers along lines. All of it is one
//! kernel.

use super::{
    dag::{AxisRange, Dag, Kind, Operand},
    index::DagId,
    size::{BLOCK, Blocks},
};
use crate::{
    index::{Index, IndexVec},
    nodes::ShapeId,
    op::lowering::LineFunction,
    shape::Shape,
};

/// Lines: those of a shape's elements along some axes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Along {
    pub(super) domain: ShapeId,
    pub(super) axes: AxisRange,
}

/// The longest contiguous line that a kernel keeps whole for a reduction that its elements read
/// again. Longer ones are reduced by a kernel of their own, which all threads share.
const MAX_LINE: usize = 1 << 16;
/// The same for strided lines, of which a block has many: the blocks of several registers stay in
/// the second-level cache. More is read faster in the order in which it lies, once more.
const MAX_COLUMN: usize = 1 << 6;
/// So many lines, or so few elements, need not be reduced by all threads together.
const MANY_LINES: usize = 8;
const FEW_ELEMENTS: usize = 1 << 15;

/// Notes which elementwise nodes are numbers along lines, and makes functions of whole lines of the
/// reductions that are read along their lines, by elements or through such numbers.
///
/// A reduction that nobody reads so is better off as it is: its kernel takes the elements in the
/// order in which they lie.
pub(super) fn find(dag: &mut Dag<'_>) {
    dag.along = IndexVec::filled(None, dag.nodes.len());
    // readers come before what they read
    for reader in (0..dag.nodes.len()).rev().map(DagId::new) {
        if !matches!(dag.nodes[reader].kind, Kind::Elementwise(_)) {
            continue;
        }
        for k in 0..dag.operands(reader).len() {
            let operand = dag.operands(reader)[k];
            let of = dag.nodes[operand.node];
            let Some(along) = seen_along(dag, reader, operand) else {
                continue;
            };
            match of.kind {
                Kind::Fold(fold, axes) if is_wanted(dag, along, of.domain, axes) => {
                    dag.nodes[operand.node].kind = Kind::Line(LineFunction::Fold(fold), axes);
                }
                Kind::Elementwise(_) if dag.along[operand.node].is_none() => {
                    dag.along[operand.node] = Some(along);
                }
                _ => {}
            }
        }
    }
    // what is computed from such numbers only may be a result, which no element reads. A kernel of
    // its own is better where there is much of it: of short lines it would be computed for each
    // element all the same; and what only reduces an array need not keep lines in a block
    for id in dag.nodes.indices() {
        if matches!(dag.nodes[id].kind, Kind::Elementwise(_)) && dag.along[id].is_none() {
            let is_computed = |id: DagId| {
                let from = dag.operands(id).first().map(|o| dag.nodes[o.node].kind);
                matches!(from, Some(Kind::Elementwise(_)))
            };
            let reduced = |id: DagId| {
                let along = dag.reduced_along(id)?;
                let is_small = dag.shape(along.domain).count() <= BLOCK;
                (is_computed(id) || is_small).then_some(along)
            };
            let of = |o: &Operand| reduced(o.node).or(dag.along[o.node]);
            let is_once = |along: &Along| {
                let shape = dag.shape(along.domain);
                let blocks = Blocks::of_whole(along.axes.lines(shape));
                blocks.has_long_lines() || shape.count() <= BLOCK
            };
            let found = dag.operands(id).iter().find_map(of);
            dag.along[id] = found.filter(is_once);
        }
    }
}

/// Whether a reduction over these axes of a shape is over these lines, and a kernel can have them
/// whole.
fn is_wanted(dag: &Dag<'_>, along: Along, domain: ShapeId, axes: AxisRange) -> bool {
    let shape = dag.shape(domain);
    let (lines, count) = (axes.lines(shape), shape.count());
    let fits = match lines.inner {
        1 => lines.n <= MAX_LINE,
        _ => lines.n <= MAX_COLUMN,
    };
    let is_same = along.domain == domain && along.axes.lines(shape) == lines;
    is_same && fits && (count / lines.n >= MANY_LINES || count <= FEW_ELEMENTS)
}

/// The lines along which an operand has one number each, as its reader sees it.
fn seen_along(dag: &Dag<'_>, reader: DagId, operand: Operand) -> Option<Along> {
    let (seen, own) = (dag.shape(operand.shape), dag.nodes[reader].domain);
    if operand.through.is_some() {
        return None;
    }
    if seen.count() == dag.shape(own).count() {
        // number by number: what the reader is along, its operand is along, too
        return dag.along[reader];
    }
    let axes = reduced_axes(seen, dag.shape(own))?;
    Some(Along { domain: own, axes })
}

/// The axes of a shape over which another one is broadcast, if they follow each other. Axes that
/// are missing in front are broadcast, as if they had size 1.
///
/// Example: `[64, 1]` is broadcast over the last axis of `[64, 10]`, and `[10]` over the first.
fn reduced_axes(seen: &Shape, domain: &Shape) -> Option<AxisRange> {
    let missing = domain.rank().checked_sub(seen.rank())?;
    let size = |k: usize| if k < missing { 1 } else { seen[k - missing] };
    let is_reduced = |k: &usize| size(*k) == 1 && domain[*k] > 1;
    let start = (0..domain.rank()).find(is_reduced)?;
    let end = 1 + (0..domain.rank()).rfind(is_reduced)?;
    let fits = |k: usize| {
        size(k)
            == if (start..end).contains(&k) {
                1
            } else {
                domain[k]
            }
    };
    (0..domain.rank()).all(fits).then_some(AxisRange {
        start: start as u8,
        end: end as u8,
    })
}

/// Whether a node reads an operand, one number for each line, as the same number in all of its line.
pub(super) fn is_read_along(dag: &Dag<'_>, id: DagId, operand: Operand, of: Along) -> bool {
    let (seen, domain) = (dag.shape(operand.shape), dag.shape(of.domain));
    of.domain == dag.nodes[id].domain && is_broadcast_over(seen, domain, of.axes)
}

/// Whether a shape is broadcast to another one along lines over these axes.
fn is_broadcast_over(seen: &Shape, domain: &Shape, axes: AxisRange) -> bool {
    reduced_axes(seen, domain).is_some_and(|over| over.lines(domain) == axes.lines(domain))
}

impl Dag<'_> {
    /// The lines that a node has one number each for, in a kernel that has them whole: because it
    /// reduces them, or because it `is_along` them.
    pub(super) fn number_along(
        &self,
        id: DagId,
        is_along: &IndexVec<DagId, bool>,
    ) -> Option<Along> {
        let own = self.along[id].filter(|_| is_along[id]);
        own.or(self.reduced_along(id))
    }

    /// The lines that a node reduces to one number each.
    fn reduced_along(&self, id: DagId) -> Option<Along> {
        let node = &self.nodes[id];
        match node.kind {
            Kind::Line(function, axes) if function.reduces() => Some(Along {
                domain: node.domain,
                axes,
            }),
            _ => None,
        }
    }

    /// Whether both are the same lines.
    pub(super) fn are_same_lines(&self, a: Along, b: Along) -> bool {
        let domain = self.shape(a.domain);
        a.domain == b.domain && a.axes.lines(domain) == b.axes.lines(domain)
    }

    /// Whether a kernel that works on whole lines can read all that a number along them needs.
    pub(super) fn can_be_along(&self, id: DagId, along: Along) -> bool {
        let (count, domain) = (self.count(id), self.shape(along.domain));
        let is_number_by_number = |o: &Operand| {
            let seen = self.shape(o.shape);
            o.through.is_none() && (seen.count() == 1 || seen.count() == count)
        };
        count.checked_mul(along.axes.lines(domain).n) == Some(domain.count())
            && self.operands(id).iter().all(is_number_by_number)
    }

    /// Whether an operand from another kernel, one number for each line, can be read along lines.
    pub(super) fn is_broadcast_along(&self, operand: Operand, along: Along) -> bool {
        let (seen, domain) = (self.shape(operand.shape), self.shape(along.domain));
        seen.count() == 1 || is_broadcast_over(seen, domain, along.axes)
    }
}
