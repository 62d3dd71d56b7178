//! Cotangents of slices, concatenated.
//!
//! The derivative rule of a slice pads its cotangent with zeros. If a value is split into `n`
//! slices, adding their cotangents one by one would add `n` arrays of the full size. Instead,
//! cotangents of slices that do not overlap are concatenated, with zeros only in the gaps. Those of
//! equal slices are added before that, others that overlap after it.

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

/// The cotangent of a slice.
struct SliceCotangent {
    /// The result of the rule: the cotangent padded with zeros.
    padded: NodeId,
    /// The cotangent itself.
    cotangent: NodeId,
    axis: usize,
    start: usize,
    end: usize,
}

/// The cotangents of slices found so far, by the position in the sweep of the node that was sliced.
#[derive(Default)]
pub(super) struct SliceCotangents(HashMap<usize, Vec<SliceCotangent>>);

/// The number of parts that one concatenation takes.
const MAX_PARTS: usize = 1 << 15;

impl SliceCotangents {
    /// Stores the cotangent `d` that the rule of `slice` returned, and the cotangent `ct` of the
    /// slice.
    pub(super) fn push(&mut self, to: usize, slice: &Slice, ct: Var<'_>, d: Var<'_>) {
        let (axis, range) = slice.place();
        let slice = SliceCotangent {
            padded: d.id,
            cotangent: ct.id,
            axis,
            start: range.start,
            end: range.end,
        };
        self.0.entry(to).or_default().push(slice);
    }

    /// Whether there are any for this position.
    #[inline]
    pub(super) fn has(&self, to: usize) -> bool {
        !self.0.is_empty() && self.0.contains_key(&to)
    }

    /// The sum of all cotangents of slices for this position, and of `other`.
    pub(super) fn sum(&mut self, g: &Graph, to: usize, other: Option<NodeId>) -> Option<NodeId> {
        let layers = layers(merged(g, self.0.remove(&to)?));
        let whole = g.var(layers.first()?.first()?.padded).known_shape();
        let joined = layers.iter().map(|layer| join(g, layer, whole));
        other
            .map(|id| g.var(id))
            .into_iter()
            .chain(joined)
            .reduce(|a, b| a + b)
            .map(|sum| sum.id)
    }
}

/// The slices in the order of their places, with those of one place added up: elements that are
/// read again and again cost no array of the full size each time.
fn merged(g: &Graph, mut slices: Vec<SliceCotangent>) -> Vec<SliceCotangent> {
    sort_by(&mut slices, |slice| slice.end as i64);
    sort_by(&mut slices, |slice| slice.start as i64);
    sort_by(&mut slices, |slice| slice.axis as i64);
    let mut merged: Vec<SliceCotangent> = Vec::with_capacity(slices.len());
    for slice in slices {
        let place = |s: &SliceCotangent| (s.axis, s.start, s.end);
        match merged.last_mut() {
            Some(last) if place(last) == place(&slice) => {
                let whole = g.var(last.padded).known_shape()[slice.axis];
                let sum = g.var(last.cotangent) + g.var(slice.cotangent);
                last.cotangent = sum.id;
                last.padded = Slice::range(slice.axis, slice.start..slice.end)
                    .padded(sum, whole)
                    .id;
            }
            _ => merged.push(slice),
        }
    }
    merged
}

/// Layers of slices that do not overlap, ordered by the first cotangent found in each; within a
/// layer, ordered by start.
fn layers(slices: Vec<SliceCotangent>) -> Vec<Vec<SliceCotangent>> {
    let mut layers: Vec<Vec<SliceCotangent>> = Vec::new();
    // the layers of an axis, the one that ends first on top: if a slice fits any layer, it fits
    // that one
    let (mut ends, mut axis) = (BinaryHeap::new(), 0);
    for slice in slices {
        if slice.axis != axis {
            ends.clear();
            axis = slice.axis;
        }
        let end = slice.end;
        let layer = match ends.peek() {
            Some(&Reverse((end, layer))) if end <= slice.start => {
                ends.pop();
                layer
            }
            _ => {
                layers.push(Vec::new());
                layers.len() - 1
            }
        };
        ends.push(Reverse((end, layer)));
        layers[layer].push(slice);
    }
    sort_by(&mut layers, |layer| {
        layer
            .iter()
            .map(|slice| slice.padded.index() as i64)
            .min()
            .unwrap_or(0)
    });
    layers
}

/// Concatenates the cotangents of a layer, with zeros in the gaps.
fn join<'g>(g: &'g Graph, layer: &[SliceCotangent], whole: Shape) -> Var<'g> {
    let [first, _, ..] = layer else {
        return g.var(layer[0].padded);
    };
    let zero = g.unit(Kind::Zero, g.var(first.cotangent).known_dtype());
    let (mut parts, mut next) = (Vec::with_capacity(2 * layer.len() + 1), 0);
    // a gap is not larger than the whole array, so its shape is valid
    let gap = |size: usize| {
        whole
            .resized(first.axis, size)
            .map_or(zero, |shape| zero.broadcast_to(shape))
    };
    for slice in layer {
        if next < slice.start {
            parts.push(gap(slice.start - next));
        }
        parts.push(g.var(slice.cotangent));
        next = slice.end;
    }
    if next < whole[first.axis] {
        parts.push(gap(whole[first.axis] - next));
    }
    let axis = first.axis as isize;
    while parts.len() > MAX_PARTS {
        parts = parts
            .chunks(MAX_PARTS)
            .map(|some| g.concat(some, axis))
            .collect();
    }
    g.concat(&parts, axis)
}
