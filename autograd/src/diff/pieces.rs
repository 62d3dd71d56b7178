//! Cotangents that come from slices, put side by side.
//!
//! The rule of a slice gives zeros with the cotangent of the piece between them. Added up one by one, those of `n` pieces that
//! a value was split into would be `n` arrays of its size. Pieces that do not overlap are joined instead, with zeros only
//! where there are none; what overlaps is added.

use crate::{
    graph::Graph,
    index::Index,
    nodes::{Kind, NodeId},
    op::layout::Slice,
    shape::Shape,
    sorted::sort_by,
    var::Var,
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

/// A cotangent of a piece.
struct Piece {
    /// What the rule gave: the piece among zeros.
    among_zeros: NodeId,
    /// The piece alone.
    alone: NodeId,
    axis: usize,
    start: usize,
    end: usize,
}

/// The pieces that have arrived, by the place in the sweep of the node that they are the cotangents of.
#[derive(Default)]
pub(super) struct Pieces(HashMap<usize, Vec<Piece>>);

/// So many parts are joined at once.
const MOST: usize = 1 << 15;

impl Pieces {
    /// Keeps the cotangent `d` that the rule of `slice` gave, from the cotangent `ct` of the piece.
    pub(super) fn keep(&mut self, to: usize, slice: &Slice, ct: Var<'_>, d: Var<'_>) {
        let (axis, range) = slice.place();
        let piece = Piece {
            among_zeros: d.id,
            alone: ct.id,
            axis,
            start: range.start,
            end: range.end,
        };
        self.0.entry(to).or_default().push(piece);
    }

    /// Whether any have arrived for this place.
    #[inline]
    pub(super) fn has(&self, to: usize) -> bool {
        !self.0.is_empty() && self.0.contains_key(&to)
    }

    /// The sum of all pieces that have arrived for this place, and of what has arrived besides.
    pub(super) fn sum(&mut self, g: &Graph, to: usize, besides: Option<NodeId>) -> Option<NodeId> {
        let layers = layers(self.0.remove(&to)?);
        let whole = g.var(layers.first()?.first()?.among_zeros).known_shape();
        let joined = layers.iter().map(|layer| join(g, layer, whole));
        besides
            .map(|id| g.var(id))
            .into_iter()
            .chain(joined)
            .reduce(|a, b| a + b)
            .map(|sum| sum.id)
    }
}

/// Lists of pieces that do not overlap, in the order in which their first ones arrived; each in the order of their starts.
fn layers(mut pieces: Vec<Piece>) -> Vec<Vec<Piece>> {
    sort_by(&mut pieces, |piece| piece.start as i64);
    sort_by(&mut pieces, |piece| piece.axis as i64);
    let mut layers: Vec<Vec<Piece>> = Vec::new();
    // the lists of an axis, that which ends first on top: if a piece fits anywhere, then there
    let (mut ends, mut axis) = (BinaryHeap::new(), 0);
    for piece in pieces {
        if piece.axis != axis {
            ends.clear();
            axis = piece.axis;
        }
        let end = piece.end;
        let layer = match ends.peek() {
            Some(&Reverse((end, layer))) if end <= piece.start => {
                ends.pop();
                layer
            }
            _ => {
                layers.push(Vec::new());
                layers.len() - 1
            }
        };
        ends.push(Reverse((end, layer)));
        layers[layer].push(piece);
    }
    sort_by(&mut layers, |layer| {
        layer
            .iter()
            .map(|piece| piece.among_zeros.index() as i64)
            .min()
            .unwrap_or(0)
    });
    layers
}

/// The pieces of a layer, with zeros between them.
fn join<'g>(g: &'g Graph, layer: &[Piece], whole: Shape) -> Var<'g> {
    let [first, _, ..] = layer else {
        return g.var(layer[0].among_zeros);
    };
    let zero = g.unit(Kind::Zero, g.var(first.alone).known_dtype());
    let (mut parts, mut next) = (Vec::with_capacity(2 * layer.len() + 1), 0);
    // a gap is no larger than the whole: its shape is one
    let gap = |size: usize| {
        whole
            .resized(first.axis, size)
            .map_or(zero, |shape| zero.broadcast_to(shape))
    };
    for piece in layer {
        if next < piece.start {
            parts.push(gap(piece.start - next));
        }
        parts.push(g.var(piece.alone));
        next = piece.end;
    }
    if next < whole[first.axis] {
        parts.push(gap(whole[first.axis] - next));
    }
    let axis = first.axis as isize;
    while parts.len() > MOST {
        parts = parts
            .chunks(MOST)
            .map(|some| g.concat(some, axis))
            .collect();
    }
    g.concat(&parts, axis)
}
