//! Moving elements that nobody looks at: from wherever an array has them to where they follow each
//! other. Elements of one size are moved by the same machine code, whatever their type.
//!
//! All begins with a range of the output. It is cut into boxes: full ranges of the last axes. A box
//! is copied by runs, if elements that follow each other in the output do so in the array as well;
//! by square tiles, if they follow each other along another axis; else one by one.

#![allow(unsafe_code)] // elements as words of their size; pointers that were checked once for all

use crate::{
    error::OpError,
    piece::Piece,
    shape::{MAX_RANK, Walk},
    tensor::{DType, Element},
    view::{Elements, TensorView},
};
use std::{mem::MaybeUninit, ops::Range, slice};

/// What elements are moved as: booleans as they are, of which not all bytes are one, and numbers
/// as integers of their size.
pub(crate) trait Word: Copy + Default + Send + Sync + 'static {}
impl Word for bool {}
impl Word for u32 {}
impl Word for u64 {}

/// Runs `$body` with `$W` as the word of a dtype's size.
macro_rules! with_word {
    ($dtype:expr, $W:ident => $body:expr) => {
        match $dtype.size() {
            1 => {
                type $W = bool;
                $body
            }
            4 => {
                type $W = u32;
                $body
            }
            _ => {
                type $W = u64;
                $body
            }
        }
    };
}
pub(crate) use with_word;

/// An input's elements as words.
pub(crate) fn words<W: Word>(x: TensorView<'_>) -> &[W] {
    let (start, count) = match x.data {
        Elements::F32(e) => (e.as_ptr().cast::<W>(), e.len()),
        Elements::F64(e) => (e.as_ptr().cast(), e.len()),
        Elements::I64(e) => (e.as_ptr().cast(), e.len()),
        Elements::Bool(e) => (e.as_ptr().cast(), e.len()),
    };
    assert!(size_of::<W>() == x.dtype().size());
    // SAFETY: as many elements of this size. All bytes of numbers are a word; elements of one byte
    // are booleans.
    unsafe { slice::from_raw_parts(start, count) }
}

/// An input's elements as bytes.
fn bytes(x: TensorView<'_>) -> &[u8] {
    with_word!(x.dtype(), W => {
        let words = words::<W>(x);
        // SAFETY: words are initialized bytes.
        unsafe { slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
    })
}

/// An error if two types differ, between which elements are to be moved.
fn expect_equal(from: DType, to: DType) -> Result<(), OpError> {
    match from == to {
        true => Ok(()),
        false => Err("elements are moved to another type".into()),
    }
}

/// Copies the elements of a piece, which are those of a walk through `x`.
pub(crate) fn copy(x: TensorView<'_>, walk: &Walk, mut piece: Piece<'_>) -> Result<(), OpError> {
    expect_equal(x.dtype(), piece.dtype())?;
    with_word!(x.dtype(), W => {
        let (start, out) = piece.words::<W>();
        let is_large = walk.count() * size_of::<W>() > LARGE;
        copy_words(words::<W>(x), walk, start, out, is_large);
    });
    Ok(())
}

/// More bytes than this do not stay in a cache until somebody reads them.
const LARGE: usize = 1 << 22;

/// Copies the elements of a walk from `start` on, to where they are read soon.
pub(crate) fn copy_elements<T: Element>(data: &[T], walk: &Walk, start: usize, out: &mut [T]) {
    with_word!(T::DTYPE, W => {
        // SAFETY: as many elements of this size. Only elements of the same type are written.
        let (data, out) = unsafe {
            (
                slice::from_raw_parts(data.as_ptr().cast::<W>(), data.len()),
                slice::from_raw_parts_mut(out.as_mut_ptr().cast::<W>(), out.len()),
            )
        };
        copy_words(data, walk, start, out, false);
    });
}

fn copy_words<W: Word>(data: &[W], walk: &Walk, start: usize, out: &mut [W], is_large: bool) {
    if out.is_empty() {
        return;
    }
    let (sizes, strides, offset) = walk.parts();
    let range = start..start + out.len();
    assert!(range.end <= sizes.iter().product() && walk.is_within(data.len()));
    // SAFETY: the first element is inside.
    let at = unsafe { data.as_ptr().offset(offset) };
    let access = Access {
        at,
        sizes,
        strides,
        is_large,
    };
    // SAFETY: all positions of the walk are inside, and the range is one of the walk.
    unsafe { access.range(range, out.as_mut_ptr()) }
}

/// Zeros, with the elements of `x` at the places `start`, `start + step`, .. along an axis of the
/// output, `size` of them. The piece has whole rows: what is at one place of the axis.
pub(crate) fn place(
    x: TensorView<'_>,
    (axis, (start, step, size)): (usize, (usize, isize, usize)),
    mut piece: Piece<'_>,
) -> Result<(), OpError> {
    /// What is cleared stays in the first-level cache until elements are placed there.
    const BYTES: usize = 1 << 14;
    expect_equal(x.dtype(), piece.dtype())?;
    let ((_, n, inner), element) = (piece.shape.around(axis), x.dtype().size());
    let (x, inner) = (bytes(x), inner * element);
    let most = (BYTES / inner.max(1)).max(1);
    // SAFETY: what is written are elements of the same type, and zeros.
    let (first, mut out) = unsafe { piece.bytes() };
    let mut first = first * element;
    while !out.is_empty() {
        let (block, from) = (first / (n * inner), first / inner % n);
        let to = n.min(from + (out.len() / inner).min(most));
        let (line, rest) = out.split_at_mut((to - from) * inner);
        let x = &x[block * size * inner..][..size * inner];
        place_line(x, line, (from, to), (start, step, size), inner);
        (first, out) = (first + line.len(), rest);
    }
    Ok(())
}

/// The places from one to another of one line, which have `inner` bytes each.
fn place_line(
    x: &[u8],
    line: &mut [u8],
    (from, to): (usize, usize),
    (start, step, size): (usize, isize, usize),
    inner: usize,
) {
    // the first one in the order of the line; a step back is a step from the other end
    let (gap, back) = (step.unsigned_abs(), step < 0 && size > 0);
    let begin = if back {
        start - (size - 1) * gap
    } else {
        start
    };
    // those of `x`, in the order of the line, that are between `from` and `to`
    let before = |place: usize| place.saturating_sub(begin).div_ceil(gap).min(size);
    let (skipped, end) = (before(from), before(to));
    let here = skipped..end.max(skipped);
    let first = (begin + skipped * gap).clamp(from, to) - from;
    if step == 1 {
        let (head, rest) = line.split_at_mut(first * inner);
        let (middle, tail) = rest.split_at_mut(here.len() * inner);
        head.fill(0);
        middle.copy_from_slice(&x[here.start * inner..][..middle.len()]);
        return tail.fill(0);
    }
    line.fill(0);
    let line = &mut line[first * inner..];
    let from = if back {
        size - here.end..size - here.start
    } else {
        here
    };
    let x = &x[from.start * inner..from.end * inner];
    match inner {
        // of known size: no call
        4 => place_each::<4>(x, line, gap, back),
        8 => place_each::<8>(x, line, gap, back),
        _ => {
            let places = line.chunks_mut((gap * inner).max(1));
            let place = |(to, x): (&mut [u8], &[u8])| to[..inner].copy_from_slice(x);
            match back {
                true => places.zip(x.rchunks(inner)).for_each(place),
                false => places.zip(x.chunks(inner)).for_each(place),
            }
        }
    }
}

/// Places elements of `N` bytes `gap` apart, from the last one on or from the first.
fn place_each<const N: usize>(x: &[u8], line: &mut [u8], gap: usize, back: bool) {
    let (x, line) = (x.as_chunks::<N>().0, line.as_chunks_mut::<N>().0);
    if gap == 2 && !back {
        // with the zeros between them: whole vectors
        let pairs = line.as_chunks_mut().0.iter_mut().zip(x);
        pairs.for_each(|(to, x)| *to = [*x, [0; N]]);
        if let (Some(to), Some(x)) = (line.get_mut((2 * x.len()).wrapping_sub(2)), x.last()) {
            *to = *x; // it may be the last of the line
        }
        return;
    }
    let places = line.chunks_mut(gap);
    match back {
        true => places.zip(x.iter().rev()).for_each(|(to, x)| to[0] = *x),
        false => places.zip(x).for_each(|(to, x)| to[0] = *x),
    }
}

/// The elements of matrices on one side of diagonal `k`, and of that; 0 elsewhere.
pub(crate) fn triangle(
    x: TensorView<'_>,
    is_upper: bool,
    k: isize,
    mut piece: Piece<'_>,
) -> Result<(), OpError> {
    expect_equal(x.dtype(), piece.dtype())?;
    let (size, shape) = (x.dtype().size(), x.shape);
    let [.., m, n] = **shape else {
        return Err("is not a matrix".into());
    };
    let x = bytes(x);
    // SAFETY: what is written are elements of the same type, and zeros.
    let (mut first, mut out) = unsafe { piece.bytes() };
    while !out.is_empty() {
        let (row, column) = (first / n % m, first % n);
        let count = (n - column).min(out.len() / size);
        let (line, rest) = out.split_at_mut(count * size);
        let x = &x[first * size..][..line.len()];
        // the first column that is not on the lower side
        let edge = (row as isize + k + isize::from(!is_upper)).clamp(0, n as isize) as usize;
        let edge = edge.saturating_sub(column).min(count) * size;
        let (lower, upper) = line.split_at_mut(edge);
        if is_upper {
            lower.fill(0);
            upper.copy_from_slice(&x[edge..]);
        } else {
            lower.copy_from_slice(&x[..edge]);
            upper.fill(0);
        }
        (first, out) = (first + count, rest);
    }
    Ok(())
}

/// The inputs one after the other along an axis of the output.
pub(crate) fn join(x: &[TensorView<'_>], axis: usize, mut piece: Piece<'_>) -> Result<(), OpError> {
    let (_, n, inner) = piece.shape.around(axis);
    let size = piece.dtype().size();
    let mut inputs = Vec::with_capacity(x.len());
    for x in x {
        expect_equal(x.dtype(), piece.dtype())?;
        inputs.push((bytes(*x), x.shape[axis] * inner * size));
    }
    // SAFETY: what is written are elements of the same type.
    let (first, out) = unsafe { piece.bytes() };
    join_rows(&inputs, n * inner * size, first * size, out);
    Ok(())
}

/// Writes a range of the joined rows, which have `row` bytes: those of each input, which has its
/// own number of them in each row.
fn join_rows(inputs: &[(&[u8], usize)], row: usize, mut first: usize, mut out: &mut [u8]) {
    /// Rows that are written one input after the other stay in the first-level cache.
    const BYTES: usize = 1 << 14;
    while !out.is_empty() {
        let (block, skipped) = (first / row, first % row);
        let rows = (out.len() / row).min(BYTES / row);
        if skipped > 0 || rows == 0 {
            let (part, rest) = out.split_at_mut((row - skipped).min(out.len()));
            join_part(inputs, block, skipped, part);
            (first, out) = (first + part.len(), rest);
            continue;
        }
        let (part, rest) = out.split_at_mut(rows * row);
        let mut start = 0;
        for &(x, width) in inputs {
            let x = &x[block * width..][..rows * width];
            let to = part.chunks_exact_mut(row).map(|out| &mut out[start..]);
            match width {
                0 => {}
                // of known size: no call
                4 => to
                    .zip(x.chunks_exact(4))
                    .for_each(|(to, x)| to[..4].copy_from_slice(x)),
                8 => to
                    .zip(x.chunks_exact(8))
                    .for_each(|(to, x)| to[..8].copy_from_slice(x)),
                _ => to
                    .zip(x.chunks_exact(width))
                    .for_each(|(to, x)| to[..width].copy_from_slice(x)),
            }
            start += width;
        }
        (first, out) = (first + part.len(), rest);
    }
}

/// Writes a part of one row.
fn join_part(inputs: &[(&[u8], usize)], block: usize, mut skipped: usize, mut out: &mut [u8]) {
    for &(x, width) in inputs {
        if out.is_empty() {
            return;
        }
        let count = width.saturating_sub(skipped).min(out.len());
        let (part, rest) = out.split_at_mut(count);
        if count > 0 {
            part.copy_from_slice(&x[block * width + skipped..][..count]);
        }
        (skipped, out) = (skipped.saturating_sub(width), rest);
    }
}

/// A strided array: the element at an index is at `at` plus the sum of `index · stride`.
#[derive(Clone, Copy)]
struct Access<'a, W> {
    at: *const W,
    sizes: &'a [usize],
    strides: &'a [isize],
    /// Whether all that is copied, by this thread and others, is more than stays in a cache until
    /// somebody reads it.
    is_large: bool,
}

impl<W: Word> Access<'_, W> {
    /// Copies a range of positions, in boxes.
    ///
    /// # Safety
    /// The elements can be read, and as many written to `out`.
    unsafe fn range(self, range: Range<usize>, out: *mut W) {
        let inner: usize = self.sizes.get(1..).map_or(1, |s| s.iter().product());
        let (first, last) = (range.start / inner, range.end / inner);
        // SAFETY: indices stay within the sizes, and the parts follow each other in the output.
        unsafe {
            if range.start.is_multiple_of(inner) && range.end.is_multiple_of(inner) {
                return self.at_index(first).whole(last - first, out);
            }
            let begin = range.start - first * inner;
            if first == last {
                let end = range.end - last * inner;
                return self.at_index(first).inner().range(begin..end, out);
            }
            let mut next = out;
            if begin > 0 {
                self.at_index(first).inner().range(begin..inner, next);
                next = next.add(inner - begin);
            }
            let first = first + usize::from(begin > 0);
            if first < last {
                self.at_index(first).whole(last - first, next);
                next = next.add((last - first) * inner);
            }
            let rest = range.end - last * inner;
            if rest > 0 {
                self.at_index(last).inner().range(0..rest, next);
            }
        }
    }

    /// From an index of the first axis on.
    ///
    /// # Safety
    /// There is such an index.
    unsafe fn at_index(self, index: usize) -> Self {
        let stride = self.strides.first().copied().unwrap_or(0);
        Access {
            // SAFETY: the caller's promise.
            at: unsafe { self.at.offset(index as isize * stride) },
            ..self
        }
    }

    /// What is at the first index of the first axis.
    fn inner(self) -> Self {
        Access {
            sizes: self.sizes.get(1..).unwrap_or(&[]),
            strides: self.strides.get(1..).unwrap_or(&[]),
            ..self
        }
    }

    /// Copies a box: `count` indices of the first axis, and all of the others.
    ///
    /// # Safety
    /// As of `range`.
    unsafe fn whole(self, count: usize, out: *mut W) {
        let Some((&last, outer)) = self.strides.split_last() else {
            // SAFETY: a single element.
            return unsafe { out.write(self.at.read()) };
        };
        let mut sizes = [0; MAX_RANK];
        let rank = self.sizes.len();
        sizes[..rank].copy_from_slice(self.sizes);
        sizes[0] = count;
        let sizes = &sizes[..rank];
        let (n, adjacent) = (sizes[rank - 1], outer.iter().rposition(|&s| s == 1));
        match adjacent {
            // SAFETY: the caller's promise.
            Some(axis) if last != 1 && last != 0 && n >= 4 && sizes[axis] >= 4 => unsafe {
                self.tiles(sizes, axis, out);
            },
            // SAFETY: the caller's promise.
            _ => unsafe { self.lines(sizes, out) },
        }
    }

    /// Line by line of the last axis.
    ///
    /// # Safety
    /// As of `range`.
    unsafe fn lines(self, sizes: &[usize], out: *mut W) {
        let rank = sizes.len();
        let (n, stride) = (sizes[rank - 1], self.strides[rank - 1]);
        // the axis before the last one is a loop of its own: lines may be very short
        let (rows, step) = match rank {
            1 => (1, 0),
            _ => (sizes[rank - 2], self.strides[rank - 2]),
        };
        let mut next = out;
        let outer = &sizes[..rank.saturating_sub(2)];
        // SAFETY: indices stay within the sizes; `next` moves by what was written.
        unsafe {
            self.each(outer, |from| {
                match n {
                    2 => narrow::<W, 2>(from, (rows, step), stride, next),
                    3 => narrow::<W, 3>(from, (rows, step), stride, next),
                    4 => narrow::<W, 4>(from, (rows, step), stride, next),
                    _ => {
                        for row in 0..rows {
                            let from = from.offset(row as isize * step);
                            line(from, stride, n, next.add(row * n));
                        }
                    }
                }
                next = next.add(rows * n);
            });
        }
    }

    /// Calls `f` with the address at each index of the first axes, in order.
    ///
    /// # Safety
    /// These are axes of the array.
    unsafe fn each(self, sizes: &[usize], mut f: impl FnMut(*const W)) {
        let mut index = [0; MAX_RANK];
        let mut at = self.at;
        loop {
            f(at);
            let mut axis = sizes.len();
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                if index[axis] < sizes[axis] {
                    // SAFETY: the caller's promise.
                    at = unsafe { at.offset(self.strides[axis]) };
                    break;
                }
                // SAFETY: back to the first index.
                at = unsafe { at.offset(-((index[axis] - 1) as isize) * self.strides[axis]) };
                index[axis] = 0;
            }
        }
    }

    /// By tiles of an axis along which elements follow each other in the array, and of the last
    /// one, along which they do in the output.
    ///
    /// # Safety
    /// As of `range`, and there is another axis of stride 1.
    unsafe fn tiles(self, sizes: &[usize], axis: usize, out: *mut W) {
        let last = sizes.len() - 1;
        let mut out_strides = [1usize; MAX_RANK];
        for k in (0..last).rev() {
            out_strides[k] = out_strides[k + 1] * sizes[k + 1];
        }
        // the other axes, as an array of their own, of which an index is a plane
        let others = (0..last).filter(|&k| k != axis);
        let (mut outer, mut steps, mut rank) = ([0; MAX_RANK], [0; MAX_RANK], 0);
        let mut places = [0; MAX_RANK];
        for k in others {
            (outer[rank], steps[rank], places[rank]) = (sizes[k], self.strides[k], out_strides[k]);
            rank += 1;
        }
        let planes = Access {
            strides: &steps[..rank],
            sizes: &outer[..rank],
            ..self
        };
        let mut index = 0usize;
        // SAFETY: indices stay within the sizes.
        unsafe {
            planes.each(&outer[..rank], |from| {
                let (mut rest, mut to) = (index, 0);
                for k in (0..rank).rev() {
                    to += rest % outer[k] * places[k];
                    rest /= outer[k];
                }
                let to = (out.add(to), out_strides[axis]);
                let size = (sizes[axis], sizes[last]);
                let past = self.is_large && are_lines(to);
                transpose((from, self.strides[last]), size, to, past);
                index += 1;
            });
        }
    }
}

/// Copies one line.
///
/// # Safety
/// `n` elements can be read, `stride` apart, and written.
unsafe fn line<W: Word>(from: *const W, stride: isize, n: usize, out: *mut W) {
    // SAFETY: the caller's promise.
    unsafe {
        match stride {
            1 if n < 32 => (0..n).for_each(|k| out.add(k).write(from.add(k).read())),
            1 => from.copy_to_nonoverlapping(out, n),
            0 => slice::from_raw_parts_mut(out, n).fill(from.read()),
            -1 => {
                let from = slice::from_raw_parts(from.sub(n - 1), n);
                let out = slice::from_raw_parts_mut(out, n);
                out.iter_mut()
                    .zip(from.iter().rev())
                    .for_each(|(out, x)| *out = *x);
            }
            _ => {
                (0..n).for_each(|k| out.add(k).write(from.offset(k as isize * stride).read()));
            }
        }
    }
}

/// Copies lines of `N` elements.
///
/// # Safety
/// As of [`line`], for `rows` lines, `step` apart.
unsafe fn narrow<W: Word, const N: usize>(
    from: *const W,
    (rows, step): (usize, isize),
    stride: isize,
    out: *mut W,
) {
    for row in 0..rows {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, out) = (from.offset(row as isize * step), out.add(row * N));
            let line: [W; N] = std::array::from_fn(|k| from.offset(k as isize * stride).read());
            out.cast::<[W; N]>().write_unaligned(line);
        }
    }
}

/// The side of a tile, in bytes: a cache line.
const SIDE: usize = 64;

/// Exchanges rows and columns: `out[k][l] = from[l][k]` for `k < rows` and `l < columns`.
///
/// Each tile goes through a buffer, so that every cache line is read and written once, as a whole.
/// Without that, rows that are a multiple of 4 KiB apart would drive each other out of the cache.
///
/// # Safety
/// The elements can be read and written, rows at these distances. What is written `past` the caches
/// has rows that begin with cache lines.
unsafe fn transpose<W: Word>(
    (from, stride): (*const W, isize),
    (rows, columns): (usize, usize),
    (out, width): (*mut W, usize),
    past: bool,
) {
    let side = SIDE / size_of::<W>();
    let mut tile = MaybeUninit::<Tile>::uninit();
    let tile: *mut W = tile.as_mut_ptr().cast();
    // a block of tiles: few pages, whose addresses the processor remembers. Past the caches whole
    // lines of the array are read on, which it foresees
    let (high, wide) = match past {
        true => (rows, 2 * TILES * side),
        false => (TILES * side, TILES * side),
    };
    for (k0, l0) in (0..rows)
        .step_by(high)
        .flat_map(|k| (0..columns).step_by(wide).map(move |l| (k, l)))
    {
        for k in (k0..rows.min(k0 + high)).step_by(side) {
            let height = side.min(rows - k);
            for l in (l0..columns.min(l0 + wide)).step_by(side) {
                let length = side.min(columns - l);
                // SAFETY: the caller's promise; a tile has room for `side²` elements.
                unsafe {
                    let from = from.offset(l as isize * stride).add(k);
                    read_tile((from, stride), (height, length), tile);
                    write_tile(
                        tile,
                        (height, length),
                        (out.add(k * width + l), width),
                        past,
                    );
                }
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    if past {
        // SAFETY: every processor has it. Other threads see the elements after it.
        unsafe { std::arch::x86_64::_mm_sfence() }
    }
}

/// Whether all rows, of this width, begin with cache lines, so that they can be written past the
/// caches. Otherwise each line is read before it is written.
fn are_lines<W>((out, width): (*mut W, usize)) -> bool {
    let is_aligned = (out as usize).is_multiple_of(SIDE);
    cfg!(target_arch = "x86_64") && is_aligned && (width * size_of::<W>()).is_multiple_of(SIDE)
}

/// The side of a block, in tiles.
const TILES: usize = 4;

/// Reads a tile, rows and columns exchanged.
///
/// # Safety
/// As of [`transpose`], for this many rows and columns.
unsafe fn read_tile<W: Word>(
    (from, stride): (*const W, isize),
    (rows, columns): (usize, usize),
    tile: *mut W,
) {
    let side = SIDE / size_of::<W>();
    // SAFETY: the caller's promise.
    unsafe {
        if rows == side && columns == side {
            return full_tile((from, stride), tile);
        }
        for l in 0..columns {
            let from = from.offset(l as isize * stride);
            (0..rows).for_each(|k| tile.add(k * side + l).write(from.add(k).read()));
        }
    }
}

/// Writes a tile.
///
/// # Safety
/// As of [`transpose`], for this many rows and columns. Past the caches, rows of the output begin
/// with cache lines.
unsafe fn write_tile<W: Word>(
    tile: *const W,
    (rows, columns): (usize, usize),
    (out, width): (*mut W, usize),
    past_caches: bool,
) {
    let side = SIDE / size_of::<W>();
    for k in 0..rows {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (tile.add(k * side), out.add(k * width));
            match columns == side {
                #[cfg(target_arch = "x86_64")]
                true if past_caches => {
                    use std::arch::x86_64::*;
                    let (from, to): (*const __m128i, *mut __m128i) = (from.cast(), to.cast());
                    (0..4).for_each(|k| _mm_stream_si128(to.add(k), _mm_load_si128(from.add(k))));
                }
                // of known size: no call
                true => to
                    .cast::<[u8; SIDE]>()
                    .write_unaligned(from.cast::<[u8; SIDE]>().read()),
                false => (0..columns).for_each(|l| to.add(l).write(from.add(l).read())),
            }
        }
    }
}

/// The memory of a tile of the smallest elements.
#[repr(align(64))]
struct Tile(#[allow(dead_code)] [u8; SIDE * SIDE]);

/// Reads a tile, rows and columns exchanged.
///
/// # Safety
/// A tile of elements can be read, rows `stride` apart, and written.
unsafe fn full_tile<W: Word>((from, stride): (*const W, isize), tile: *mut W) {
    let side = SIDE / size_of::<W>();
    #[cfg(target_arch = "x86_64")]
    if size_of::<W>() > 1 {
        let small = 16 / size_of::<W>();
        for l in (0..side).step_by(small) {
            for k in (0..side).step_by(small) {
                // SAFETY: a small tile of this one.
                unsafe {
                    let from = from.offset(l as isize * stride).add(k);
                    let to = tile.add(k * side + l);
                    match small {
                        4 => quads(from.cast(), stride, to.cast(), side),
                        _ => pairs(from.cast(), stride, to.cast(), side),
                    }
                }
            }
        }
        return;
    }
    for l in 0..side {
        // SAFETY: the caller's promise.
        unsafe {
            let from = from.offset(l as isize * stride);
            (0..side).for_each(|k| tile.add(k * side + l).write(from.add(k).read()));
        }
    }
}

/// Four rows of four elements, exchanged with SSE2, which every x86-64 processor has.
///
/// # Safety
/// The elements can be read and written.
#[cfg(target_arch = "x86_64")]
unsafe fn quads(from: *const f32, stride: isize, to: *mut f32, width: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise.
    unsafe {
        let mut row = [_mm_setzero_ps(); 4];
        for (k, row) in row.iter_mut().enumerate() {
            *row = _mm_loadu_ps(from.offset(k as isize * stride));
        }
        let [a, b, c, d] = &mut row;
        _MM_TRANSPOSE4_PS(a, b, c, d);
        for (k, row) in row.iter().enumerate() {
            _mm_storeu_ps(to.add(k * width), *row);
        }
    }
}

/// Two rows of two elements, likewise.
///
/// # Safety
/// The elements can be read and written.
#[cfg(target_arch = "x86_64")]
unsafe fn pairs(from: *const f64, stride: isize, to: *mut f64, width: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise.
    unsafe {
        let (a, b) = (_mm_loadu_pd(from), _mm_loadu_pd(from.offset(stride)));
        _mm_storeu_pd(to, _mm_unpacklo_pd(a, b));
        _mm_storeu_pd(to.add(width), _mm_unpackhi_pd(a, b));
    }
}
