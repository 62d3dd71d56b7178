//! The gradients of the parts of a batch, added in an order that depends on the parts alone.

use crate::{
    error::{Error, Result},
    team::wire::{Reader, Writer},
};
use autograd::{DType, Tensor};
use std::ops::Range;

/// What the parts of a batch give, such as gradients, as a sum. It is a binary tree over the numbers of
/// the parts: 0 and 1 are added, 2 and 3, then both sums, and so on; a node without a sibling goes up
/// as it is. Whoever adds the parts, in whatever order, and merges the sums of whatever groups of them:
/// the bits are the same.
///
/// f32 and f64 are added. Of other tensors, which have no sum, all parts must give the same.
///
/// ```
/// use autograd::Tensor;
/// use nn::team::GradientSum;
/// let part = |k: i32| [Tensor::from([0.1f32 * k as f32])];
/// let (mut first, mut second) = (GradientSum::new(3), GradientSum::new(3));
/// first.add(2, &part(2))?;
/// second.add(1, &part(1))?;
/// second.add(0, &part(0))?;
/// first.merge(second)?;
/// assert_eq!(first.finish()?, [Tensor::from([(0.0f32 + 0.1) + 0.2])]);
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GradientSum {
    parts: usize,
    /// Those of the tensors that each part gives. Empty until one did.
    types: Vec<(DType, Vec<usize>)>,
    nodes: Vec<Node>,
}

/// A whole subtree: of the parts from `index << level` on, `1 << level` of them or as many as there are.
#[derive(Clone, Debug, PartialEq)]
struct Node {
    level: u32,
    index: usize,
    values: Values,
}

/// The elements of some tensors, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Values {
    pub(crate) f32s: Vec<f32>,
    pub(crate) f64s: Vec<f64>,
    /// Of tensors that have no sum.
    pub(crate) others: Vec<i64>,
}

impl GradientSum {
    /// The empty sum of a batch with so many parts.
    pub fn new(parts: usize) -> GradientSum {
        GradientSum {
            parts,
            types: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Adds what the part of this number gives. All parts give tensors of the same types and shapes.
    pub fn add(&mut self, part: usize, values: &[Tensor]) -> Result<()> {
        let type_of = |t: &Tensor| (t.dtype(), t.shape().to_vec());
        self.check_types(values.iter().map(type_of).collect())?;
        let values = Values::of(values)?;
        self.insert(Node {
            level: 0,
            index: part,
            values,
        })
    }

    /// Adds the parts that another sum of the same batch has.
    pub fn merge(&mut self, other: GradientSum) -> Result<()> {
        if other.parts != self.parts {
            let message = format!("a sum of {} parts and one of {}", self.parts, other.parts);
            return Err(Error::invalid(message));
        }
        if !other.nodes.is_empty() {
            self.check_types(other.types)?;
        }
        other
            .nodes
            .into_iter()
            .try_for_each(|node| self.insert(node))
    }

    /// The sum. An error if a part is missing.
    pub fn finish(mut self) -> Result<Vec<Tensor>> {
        let types = std::mem::take(&mut self.types);
        self.finish_values()?.tensors(&types)
    }

    /// All elements of the sum.
    pub(crate) fn finish_values(mut self) -> Result<Values> {
        let parts = self.parts;
        match self.nodes.pop() {
            Some(root) if root.range(parts) == (0..parts) => Ok(root.values),
            last => {
                self.nodes.extend(last);
                let is_there = |k: &usize| self.nodes.iter().any(|n| n.range(parts).contains(k));
                let missing = (0..parts).find(|k| !is_there(k)).unwrap_or(0);
                Err(Error::invalid(format!(
                    "part {missing} of {parts} is missing"
                )))
            }
        }
    }

    /// Inserts a subtree, and joins siblings as long as both are there.
    fn insert(&mut self, mut node: Node) -> Result<()> {
        let parts = self.parts;
        let range = node.range(parts);
        if range.is_empty() {
            let message = format!("there is no part {} of {parts}", range.start);
            return Err(Error::invalid(message));
        }
        let overlaps =
            |n: &Node| n.range(parts).start < range.end && range.start < n.range(parts).end;
        if self.nodes.iter().any(overlaps) {
            return Err(Error::invalid(format!("part {} came twice", range.start)));
        }
        while node.range(parts) != (0..parts) {
            let sibling = Node::range_of(node.level, node.index ^ 1, parts);
            if !sibling.is_empty() {
                let at = self.nodes.iter().position(|n| n.range(parts) == sibling);
                let Some(at) = at else {
                    break;
                };
                node.values.add(&self.nodes.swap_remove(at).values)?;
            }
            (node.level, node.index) = (node.level + 1, node.index / 2);
        }
        self.nodes.push(node);
        Ok(())
    }

    fn check_types(&mut self, types: Vec<(DType, Vec<usize>)>) -> Result<()> {
        if self.nodes.is_empty() {
            self.types = types;
        } else if self.types != types {
            return Err(GradientSum::different());
        }
        Ok(())
    }

    pub(crate) fn different() -> Error {
        let message = "the parts of a batch give different tensors: the same layers have to be trained \
                       by each of them";
        Error::invalid(message)
    }

    /// The types of its tensors as bytes; nothing if no part is there.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        if !self.nodes.is_empty() {
            writer.count(self.types.len());
            for (dtype, shape) in &self.types {
                writer.shape(*dtype, shape);
            }
        }
        writer.finish()
    }

    pub(crate) fn types_of_header(header: &[u8]) -> Result<Vec<(DType, Vec<usize>)>> {
        let mut reader = Reader::new(header);
        if reader.is_empty() {
            return Ok(Vec::new());
        }
        let types = reader.count()?;
        (0..types).map(|_| reader.shape()).collect()
    }

    /// Whether no part is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The sum of the parts that are there, in the order of their numbers.
    pub(crate) fn sum_of_present(mut self) -> Result<Values> {
        self.nodes.sort_by_key(|n| n.index << n.level);
        let mut nodes = self.nodes.into_iter().map(|n| n.values);
        let mut sum = nodes.next().unwrap_or_default();
        nodes.try_for_each(|values| sum.add(&values))?;
        Ok(sum)
    }

    /// Writes slice `k` of `n` of all elements, as the sum of tensors with one axis: a sum is the sums of
    /// its slices.
    pub(crate) fn write_slice(&self, k: usize, n: usize, writer: &mut Writer) {
        writer.count(self.parts).count(self.nodes.len());
        for node in &self.nodes {
            writer.count(node.level as usize).count(node.index);
            node.values.write_slice(k, n, writer);
        }
    }

    /// About the size of all slices.
    pub(crate) fn bytes_of_slices(&self) -> usize {
        let bytes = |n: &Node| 64 + 4 * n.values.f32s.len() + 8 * n.values.f64s.len();
        self.nodes.iter().map(bytes).sum()
    }

    /// Reads what [`write_slice`](GradientSum::write_slice) wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<GradientSum> {
        let mut sum = GradientSum::new(reader.count()?);
        for _ in 0..reader.count()? {
            let (level, index) = (reader.count()?.min(63) as u32, reader.count()?);
            let values = Values::read(reader)?;
            sum.types = values.types();
            sum.nodes.push(Node {
                level,
                index,
                values,
            });
        }
        Ok(sum)
    }
}

impl Node {
    /// The parts that it is the sum of, of so many in all.
    fn range(&self, parts: usize) -> Range<usize> {
        Node::range_of(self.level, self.index, parts)
    }

    fn range_of(level: u32, index: usize, parts: usize) -> Range<usize> {
        let start = index.saturating_mul(1 << level).min(parts);
        start..start.saturating_add(1 << level).min(parts)
    }
}

impl Values {
    /// Zeros for tensors of these types.
    pub(crate) fn zeros(types: &[(DType, Vec<usize>)], others: Vec<i64>) -> Values {
        let count = |dtype| {
            let of_type = types.iter().filter(move |(other, _)| *other == dtype);
            of_type
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum()
        };
        Values {
            f32s: vec![0.0; count(DType::F32)],
            f64s: vec![0.0; count(DType::F64)],
            others,
        }
    }

    pub(crate) fn of(tensors: &[Tensor]) -> Result<Values> {
        let count = |dtype| {
            let of_type = tensors.iter().filter(move |t| t.dtype() == dtype);
            of_type.map(Tensor::len).sum::<usize>()
        };
        let mut values = Values {
            f32s: Vec::with_capacity(count(DType::F32)),
            f64s: Vec::with_capacity(count(DType::F64)),
            others: Vec::new(),
        };
        for tensor in tensors {
            match tensor.dtype() {
                DType::F32 => values.f32s.extend_from_slice(tensor.as_slice()?),
                DType::F64 => values.f64s.extend_from_slice(tensor.as_slice()?),
                DType::I64 => values.others.extend_from_slice(tensor.as_slice()?),
                DType::Bool => {
                    let bits = tensor.as_slice()?.iter().map(|&b: &bool| i64::from(b));
                    values.others.extend(bits);
                }
            }
        }
        Ok(values)
    }

    fn add(&mut self, other: &Values) -> Result<()> {
        if self.others != other.others {
            let message = "integers that the parts of a batch give are different: only floats are \
                           added, such as counts in a buffer of the model";
            return Err(Error::invalid(message));
        }
        self.f32s
            .iter_mut()
            .zip(&other.f32s)
            .for_each(|(a, b)| *a += b);
        self.f64s
            .iter_mut()
            .zip(&other.f64s)
            .for_each(|(a, b)| *a += b);
        Ok(())
    }

    /// The tensors that these are the elements of.
    pub(crate) fn tensors(self, types: &[(DType, Vec<usize>)]) -> Result<Vec<Tensor>> {
        fn next<T: Copy>(values: &mut &[T], count: usize) -> Result<Vec<T>> {
            let (taken, rest) = values
                .split_at_checked(count)
                .ok_or_else(|| Error::invalid("a sum has too few elements"))?;
            *values = rest;
            Ok(taken.to_vec())
        }
        let (mut f32s, mut f64s, mut others) = (&self.f32s[..], &self.f64s[..], &self.others[..]);
        let tensor = |(dtype, shape): &(DType, Vec<usize>)| {
            let (shape, count) = (shape.clone(), shape.iter().product());
            Ok(match dtype {
                DType::F32 => Tensor::new(shape, next(&mut f32s, count)?)?,
                DType::F64 => Tensor::new(shape, next(&mut f64s, count)?)?,
                DType::I64 => Tensor::new(shape, next(&mut others, count)?)?,
                DType::Bool => {
                    let bits = next(&mut others, count)?;
                    Tensor::new(shape, bits.iter().map(|&b| b != 0).collect::<Vec<_>>())?
                }
            })
        };
        types.iter().map(tensor).collect()
    }

    fn types(&self) -> Vec<(DType, Vec<usize>)> {
        vec![
            (DType::F32, vec![self.f32s.len()]),
            (DType::F64, vec![self.f64s.len()]),
            (DType::I64, vec![self.others.len()]),
        ]
    }

    /// Writes slice `k` of `n`.
    fn write_slice(&self, k: usize, n: usize, writer: &mut Writer) {
        let of = |count: usize| k * count / n..(k + 1) * count / n;
        writer
            .f32s(&self.f32s[of(self.f32s.len())])
            .f64s(&self.f64s[of(self.f64s.len())])
            .i64s(&self.others[of(self.others.len())]);
    }

    /// Appends the next slice.
    pub(crate) fn extend(&mut self, next: Values) {
        self.f32s.extend(next.f32s);
        self.f64s.extend(next.f64s);
        self.others.extend(next.others);
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.write_slice(0, 1, writer);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Values> {
        Ok(Values {
            f32s: reader.f32s()?,
            f64s: reader.f64s()?,
            others: reader.i64s()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What part `k` gives: numbers whose sum depends on the order.
    fn part(k: usize) -> Vec<Tensor> {
        let number = |j: usize| ((k * 7 + j) as f64).sin() * 10f64.powi((k * 5 + j) as i32 % 9 - 4);
        vec![
            Tensor::from([7, 8]),
            Tensor::from((0..5).map(|j| number(j) as f32).collect::<Vec<f32>>()),
            Tensor::from([number(5), number(6)]),
        ]
    }

    /// The tree by its definition: halves at the largest power of two below the number of parts.
    fn expected(parts: Range<usize>) -> Vec<Tensor> {
        if parts.len() == 1 {
            return part(parts.start);
        }
        let middle = parts.start + parts.len().next_power_of_two() / 2;
        let (a, b) = (expected(parts.start..middle), expected(middle..parts.end));
        let add = |(a, b): (&Tensor, &Tensor)| match a.dtype() {
            DType::I64 => a.clone(),
            _ => {
                let g = autograd::Graph::new();
                (g.constant(a) + g.constant(b)).value().expect("a sum")
            }
        };
        a.iter().zip(&b).map(add).collect()
    }

    /// All ways to give these parts to so many ranks.
    fn distributions(parts: usize, ranks: usize) -> impl Iterator<Item = Vec<usize>> {
        (0..ranks.pow(parts as u32)).map(move |code| {
            (0..parts)
                .map(|k| code / ranks.pow(k as u32) % ranks)
                .collect()
        })
    }

    #[test]
    fn every_distribution_of_parts_over_ranks_gives_the_same_bits() -> Result<()> {
        for (parts, ranks) in [
            (1, 1),
            (2, 2),
            (3, 3),
            (5, 3),
            (6, 2),
            (7, 3),
            (9, 2),
            (16, 1),
            (23, 1),
        ] {
            let expected = expected(0..parts);
            for owner in distributions(parts, ranks) {
                for ascending in [true, false] {
                    let mut sums = vec![GradientSum::new(parts); ranks];
                    for k in 0..parts {
                        let k = if ascending { k } else { parts - 1 - k };
                        sums[owner[k]].add(k, &part(k))?;
                    }
                    let mut all = GradientSum::new(parts);
                    for sum in sums {
                        all.merge(sum)?;
                    }
                    assert_eq!(all.finish()?, expected, "{owner:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_slices_of_a_sum_are_the_slices_of_its_parts() -> Result<()> {
        let mut sum = GradientSum::new(6);
        (0..6)
            .filter(|k| *k != 2)
            .try_for_each(|k| sum.add(k, &part(k)))?;
        for slices in 1..8 {
            let mut all = Values::default();
            for k in 0..slices {
                let slice = |of: &GradientSum| {
                    let mut writer = Writer::default();
                    of.write_slice(k, slices, &mut writer);
                    GradientSum::read(&mut Reader::new(&writer.finish()))
                };
                let mut last = GradientSum::new(6);
                last.add(2, &part(2))?;
                last = slice(&last)?;
                last.merge(slice(&sum)?)?;
                all.extend(last.finish_values()?);
            }
            let mut whole = sum.clone();
            whole.add(2, &part(2))?;
            assert_eq!(all.tensors(&sum.types)?, whole.finish()?);
        }
        Ok(())
    }

    #[test]
    fn what_is_missing_or_comes_twice_is_an_error() {
        let message = |result: Result<Vec<Tensor>>| result.expect_err("an error").to_string();
        let sum = |parts: &[usize]| {
            let mut sum = GradientSum::new(4);
            parts.iter().try_for_each(|&k| sum.add(k, &part(k)))?;
            sum.finish()
        };
        assert_eq!(message(sum(&[0, 1, 3])), "part 2 of 4 is missing");
        assert_eq!(message(sum(&[])), "part 0 of 4 is missing");
        assert_eq!(message(sum(&[0, 1, 2, 1])), "part 1 came twice");
        assert_eq!(message(sum(&[0, 4])), "there is no part 4 of 4");
        let mut other = GradientSum::new(2);
        other.add(0, &part(0)).expect("the first one");
        let wrong = other.add(1, &part(1)[1..]).expect_err("two tensors");
        assert!(
            wrong
                .to_string()
                .starts_with("the parts of a batch give different tensors")
        );
        let integers = [vec![Tensor::from([7, 9])], part(1)[1..].to_vec()].concat();
        let wrong = other.add(1, &integers).expect_err("9 in the place of 8");
        assert!(
            wrong.to_string().starts_with("integers that the parts"),
            "{wrong}"
        );
        assert!(other.merge(GradientSum::new(3)).is_err());
    }
}
