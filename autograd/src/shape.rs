//! Shapes: sizes of axes, broadcasting, and reading an array in the order of another shape.
//!
//! Everything is row-major ("C" order): elements adjacent along the last axis are adjacent in
//! memory.

use crate::{error::OpError, ints::Int};
use std::{fmt, ops::Deref};

/// The largest number of axes a tensor can have.
pub const MAX_RANK: usize = 8;

/// The sizes of a tensor's axes: `[]` for a scalar, `[rows, columns]` for a matrix. Dereferences to
/// a slice.
///
/// Invariant: there are at most [`MAX_RANK`] axes, and the product of the nonzero sizes, times the
/// 8 bytes of the largest element type, is at most `isize::MAX`. Arithmetic on sizes and strides
/// relies on it: no product of some of the sizes and no stride can overflow, even if another axis
/// is empty. [`Shape::new`] checks it. Functions that do not return a `Result` only shrink, remove
/// or swap axes, which cannot break it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    rank: u8,
    dims: [usize; MAX_RANK],
}

impl Shape {
    /// The shape of a scalar.
    pub const SCALAR: Shape = Shape {
        rank: 0,
        dims: [0; MAX_RANK],
    };

    /// A position in row-major order as an index, such as `[1, 2]`.
    pub(crate) fn index_of(&self, position: usize) -> String {
        let mut rest = position;
        let mut index: Vec<usize> = self
            .iter()
            .rev()
            .map(|&d| (rest % d.max(1), rest /= d.max(1)).0)
            .collect();
        index.reverse();
        format!("{index:?}")
    }

    /// A shape with these sizes. An error if there are more than [`MAX_RANK`] axes, or more
    /// elements than the address space holds.
    pub fn new(dims: &[usize]) -> Result<Shape, OpError> {
        if dims.len() > MAX_RANK {
            return Err(OpError::new(format!(
                "too many axes: {} (at most {MAX_RANK})",
                dims.len()
            )));
        }
        if !fits(dims) {
            return Err(OpError::new(format!(
                "a tensor of shape {dims:?} is too large for any memory"
            )));
        }
        Ok(Shape::of(dims))
    }

    /// A shape known at compile time: one that breaks the invariant does not compile.
    ///
    /// ```compile_fail
    /// let none = autograd::Tensor::from([[false; 1 << 60]; 0]);
    /// ```
    pub(crate) const fn const_new(dims: &[usize]) -> Shape {
        assert!(fits(dims), "the array is too large for a tensor");
        Shape::of(dims)
    }

    /// The shape of a slice, which has fewer than 2⁶⁰ bytes on any machine.
    pub(crate) fn of_slice<T>(elements: &[T]) -> Shape {
        Shape::of(&[elements.len()])
    }

    /// Private: the caller must ensure the invariant.
    const fn of(dims: &[usize]) -> Shape {
        let mut shape = Shape {
            rank: dims.len() as u8,
            ..Shape::SCALAR
        };
        shape.dims.split_at_mut(dims.len()).0.copy_from_slice(dims);
        shape
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.iter().product()
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The same shape with another size of one axis.
    pub(crate) fn resized(mut self, axis: usize, size: usize) -> Result<Shape, OpError> {
        self.dims[axis] = size;
        Shape::new(&self)
    }

    /// The same shape with size 1 of one axis.
    pub(crate) fn collapsed(mut self, axis: usize) -> Shape {
        self.dims[axis] = 1;
        self
    }

    /// The same shape with two axes swapped.
    pub(crate) fn swapped(mut self, a: usize, b: usize) -> Shape {
        self.dims.swap(a, b);
        self
    }

    /// The first `rank` axes.
    pub(crate) fn prefix(&self, rank: usize) -> Shape {
        Shape::of(&self[..rank])
    }

    /// The axes from this one on.
    pub(crate) fn suffix(&self, from: usize) -> Shape {
        Shape::of(&self[from..])
    }

    /// The shape that both broadcast to, as in NumPy: aligned at the last axis, sizes equal or 1.
    ///
    /// ```
    /// use autograd::Shape;
    /// let (a, b) = (Shape::new(&[64, 1, 3])?, Shape::new(&[10, 1])?);
    /// assert_eq!(a.broadcast(&b)?, Shape::new(&[64, 10, 3])?);
    /// # Ok::<(), autograd::OpError>(())
    /// ```
    pub fn broadcast(&self, other: &Shape) -> Result<Shape, OpError> {
        let rank = self.rank().max(other.rank());
        let mut dims = [0; MAX_RANK];
        for (axis, dim) in dims[..rank].iter_mut().enumerate() {
            let size = |s: &Shape| (axis + s.rank()).checked_sub(rank).map_or(1, |k| s[k]);
            *dim = match (size(self), size(other)) {
                (a, b) if a == b || b == 1 => a,
                (1, b) => b,
                (a, b) => {
                    let axis = axis as isize - rank as isize;
                    return Err(OpError::new(format!("sizes {a} and {b} do not broadcast (axis {axis}): {self} and {other}"))
                        .hint("sizes must be equal or 1, compared from the last axis; reshape one side or insert an axis of size 1"));
                }
            };
        }
        Shape::new(&dims[..rank])
    }

    /// Whether this shape broadcasts to exactly `to`.
    pub(crate) fn broadcasts_to(&self, to: &Shape) -> bool {
        self.broadcast(to).is_ok_and(|b| b == *to)
    }

    /// An axis counted from the front, or from the end if negative (`-1` is the last).
    pub fn axis(&self, axis: impl Int) -> Result<usize, OpError> {
        let axis = axis.int();
        let rank = self.rank() as isize;
        if axis < -rank || axis >= rank {
            let range = if rank == 0 {
                "it has no axes".into()
            } else {
                format!("its axes are {} to {}", -rank, rank - 1)
            };
            return Err(OpError::new(format!(
                "there is no axis {axis} in shape {self}: {range}"
            )));
        }
        Ok(axis.rem_euclid(rank) as usize)
    }

    /// A list of axes as a bit set. An empty list, and repeated or missing axes are errors.
    pub(crate) fn axes(&self, axes: &[isize]) -> Result<Axes, OpError> {
        let mut mask = Axes(0);
        for &a in axes {
            let axis = self.axis(a)?;
            if mask.has(axis) {
                return Err(OpError::new(format!("axis {a} is repeated in {axes:?}")));
            }
            mask.0 |= 1 << axis;
        }
        Ok(mask)
    }

    /// The shape after reducing these axes: they have size 1 if `keep`, else they are removed.
    pub(crate) fn reduced(&self, axes: Axes, keep: bool) -> Shape {
        let mut dims = [0; MAX_RANK];
        let mut rank = 0;
        for (k, &d) in self.iter().enumerate() {
            if keep || !axes.has(k) {
                dims[rank] = if axes.has(k) { 1 } else { d };
                rank += 1;
            }
        }
        Shape::of(&dims[..rank])
    }

    /// `(outer, size, inner)` around one axis: element `(o, i, j)` is at
    /// `(o * size + i) * inner + j`. Without elements `outer` is 0, because the axes that are not
    /// empty can have any size, and loops over them would not end.
    pub(crate) fn around(&self, axis: usize) -> (usize, usize, usize) {
        let outer = if self.count() == 0 {
            0
        } else {
            self[..axis].iter().product()
        };
        (outer, self[axis], self[axis + 1..].iter().product())
    }

    /// Row-major strides, in elements.
    pub(crate) fn strides(&self) -> [isize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1isize;
        for k in (0..self.rank()).rev() {
            strides[k] = step;
            step *= self[k].max(1) as isize;
        }
        strides
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?}", &self[..])
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The invariant of [`Shape`].
const fn fits(dims: &[usize]) -> bool {
    let (mut bytes, mut axis) = (8usize, 0);
    while axis < dims.len() {
        // an empty axis must not hide an overflow: strides are products of the other sizes
        if dims[axis] > 0 {
            bytes = bytes.saturating_mul(dims[axis]);
        }
        axis += 1;
    }
    dims.len() <= MAX_RANK && bytes <= isize::MAX as usize
}

/// A set of axes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Axes(pub(crate) u8);

impl Axes {
    pub(crate) fn has(self, axis: usize) -> bool {
        self.0 >> axis & 1 == 1
    }

    /// The product of the sizes of these axes.
    pub(crate) fn count(self, shape: &Shape) -> usize {
        shape
            .iter()
            .enumerate()
            .filter(|(k, _)| self.has(*k))
            .map(|(_, &d)| d)
            .product()
    }

    /// The last axes that follow each other.
    pub(crate) fn last_group(self) -> Axes {
        let above = 8 - self.0.leading_zeros(); // the axes up to the last one
        let group = (self.0 << (8 - above).min(7)).leading_ones();
        let low = above.saturating_sub(group);
        Axes((((1u16 << above) - 1) & !((1u16 << low) - 1)) as u8)
    }

    pub(crate) fn all(rank: usize) -> Axes {
        Axes(((1u16 << rank) - 1) as u8)
    }
}

/// Sizes from a list; a negative one is an error.
pub(crate) fn sizes(dims: &[isize]) -> Result<Shape, OpError> {
    let sizes: Result<Vec<usize>, _> = dims.iter().map(|&d| usize::try_from(d)).collect();
    Shape::new(&sizes.map_err(|_| OpError::new(format!("a size is negative in {dims:?}")))?)
}

/// Reads an array at `offset + index · strides` for each index of a shape, in row-major order.
/// Broadcasts, permutations and slices are copied with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    shape: Shape,
    strides: [isize; MAX_RANK],
    offset: isize,
    /// The positions between which it reads.
    first: isize,
    last: isize,
}

impl Walk {
    pub(crate) fn new(shape: Shape, strides: [isize; MAX_RANK], offset: isize) -> Walk {
        // Merge axes that are contiguous with each other, so that the innermost run is as long as
        // possible.
        let (mut dims, mut joined, mut rank) = ([0; MAX_RANK], [0; MAX_RANK], 0);
        for k in 0..shape.rank() {
            if shape[k] == 1 {
                continue;
            }
            if rank > 0 && joined[rank - 1] == strides[k] * shape[k] as isize {
                dims[rank - 1] *= shape[k];
                joined[rank - 1] = strides[k];
            } else {
                (dims[rank], joined[rank]) = (shape[k], strides[k]);
                rank += 1;
            }
        }
        let reach = |sign: isize| {
            let far = (0..rank).map(|k| (dims[k] as isize - 1) * joined[k]);
            offset + far.filter(|far| far.signum() == sign).sum::<isize>()
        };
        let is_empty = dims[..rank].contains(&0);
        Walk {
            shape: Shape::of(&dims[..rank]),
            strides: joined,
            offset,
            first: if is_empty { 0 } else { reach(-1) },
            last: if is_empty { -1 } else { reach(1) },
        }
    }

    /// A walk over all elements of a shape, in order.
    pub(crate) fn of(shape: &Shape) -> Walk {
        Walk::new(*shape, shape.strides(), 0)
    }

    /// A walk over `from`, broadcast to `to`.
    pub(crate) fn broadcast(from: &Shape, to: &Shape) -> Walk {
        let own = from.strides();
        let mut strides = [0; MAX_RANK];
        let lead = to.rank() - from.rank();
        for k in 0..from.rank() {
            strides[lead + k] = if from[k] == 1 { 0 } else { own[k] };
        }
        Walk::new(*to, strides, 0)
    }

    /// Sizes and strides of the axes, which are joined where that is possible, and the offset.
    pub(crate) fn parts(&self) -> (&[usize], &[isize], isize) {
        (&self.shape, &self.strides[..self.shape.rank()], self.offset)
    }

    /// The number of elements.
    pub(crate) fn count(&self) -> usize {
        self.shape.count()
    }

    /// How many elements it takes until one lies beside the first, if those along the last axis lie
    /// far apart: in a transposed matrix, the length of a row.
    pub(crate) fn transposed_period(&self) -> Option<usize> {
        let (sizes, strides, _) = self.parts();
        let ((&last, outer), &n) = (strides.split_last()?, sizes.last()?);
        let is_adjacent = |axis: &usize| outer[*axis] == 1 && sizes[*axis] >= 4;
        let axis = (0..outer.len()).rev().find(is_adjacent)?;
        (last.abs() > 1 && n >= 4).then(|| sizes[axis + 1..].iter().product())
    }

    /// Whether all positions that are read are among the first `count` ones.
    #[inline]
    pub(crate) fn is_within(&self, count: usize) -> bool {
        self.first >= 0 && self.last < count as isize
    }

    /// The position of the first element, if all others follow it one by one.
    pub(crate) fn range(&self) -> Option<usize> {
        let is_range = self.shape.rank() == 1 && self.strides[0] == 1;
        is_range.then_some(self.offset as usize)
    }

    /// How far neighbours are apart, if that is the same within each row of so many elements of the
    /// walk.
    pub(crate) fn in_rows_of(&self, row: usize) -> Option<isize> {
        let last = self.shape.last()?;
        let stride = self.strides[self.shape.rank() - 1];
        last.is_multiple_of(row).then_some(stride)
    }

    /// Whether it reads the same element along an axis of size `n`, whose elements are `inner` apart
    /// in the walk.
    pub(crate) fn is_same_along(&self, n: usize, inner: usize) -> bool {
        let mut within = 1;
        for k in (0..self.shape.rank()).rev() {
            if within == inner {
                return self.strides[k] == 0 && self.shape[k].is_multiple_of(n);
            }
            within *= self.shape[k];
        }
        false
    }

    /// The position in the array of an element of the walk.
    pub(crate) fn position(&self, element: usize) -> usize {
        let (mut rest, mut position) = (element, self.offset);
        for k in (0..self.shape.rank()).rev() {
            position += (rest % self.shape[k]) as isize * self.strides[k];
            rest /= self.shape[k];
        }
        position as usize
    }

    /// Whether all elements are the same one.
    pub(crate) fn is_constant(&self) -> bool {
        self.shape.rank() == 0 || self.strides[..self.shape.rank()].iter().all(|&s| s == 0)
    }

    /// Calls `visit(position in the walk, position in the array, stride, length)` for each run
    /// along the innermost axis.
    pub(crate) fn runs(
        &self,
        start: usize,
        count: usize,
        mut visit: impl FnMut(usize, usize, isize, usize),
    ) {
        if count == 0 {
            return;
        }
        let rank = self.shape.rank();
        if rank == 0 {
            return visit(0, self.offset as usize, 0, count);
        }
        let mut index = [0usize; MAX_RANK];
        let (mut rest, mut position) = (start, self.offset);
        for k in (0..rank).rev() {
            index[k] = rest % self.shape[k];
            rest /= self.shape[k];
            position += index[k] as isize * self.strides[k];
        }
        let (last, mut done) = (rank - 1, 0);
        loop {
            let n = (self.shape[last] - index[last]).min(count - done);
            visit(done, position as usize, self.strides[last], n);
            done += n;
            if done == count {
                return;
            }
            // carry to the outer axes
            position -= index[last] as isize * self.strides[last];
            index[last] = 0;
            let mut k = last;
            while k > 0 {
                k -= 1;
                index[k] += 1;
                position += self.strides[k];
                if index[k] < self.shape[k] {
                    break;
                }
                position -= index[k] as isize * self.strides[k];
                index[k] = 0;
            }
        }
    }
}
