//! Products of a matrix and a vector, at the speed of memory: each element of the matrix is read
//! once, in order. Two ways: where the columns of the matrix are contiguous, a few of them are
//! multiplied and added to sums in the first-level cache; where its rows are, vectors of rows are
//! transposed in registers, or vectors of pieces of `k` where there are few rows. The order of
//! additions is that of [`op::linalg`](crate::op::linalg) in both.

use super::{
    tile::{Product, Strided},
    vector::Part,
};
use crate::{
    memory_cache,
    op::linalg::{PIECE, RADIX},
};
use std::mem::MaybeUninit;

/// `y = matrix · x`, where the matrix has `rows` rows of `k` elements, at most one group of pieces.
pub(super) struct MatVec<T> {
    rows: usize,
    k: usize,
    matrix: Strided<T>,
    x: *const T,
    x_stride: usize,
    y: *mut T,
    y_stride: usize,
}

/// The bytes of sums in the first-level cache.
const SUMS_BYTES: usize = 8 << 10;
/// The columns that are multiplied at once.
const COLUMNS: usize = 8;
/// The bytes of a cache line.
const LINE: usize = 64;

/// Computes a product of which one operand is a vector, if the matrix lies such that it can be read
/// in order; `false` if not.
///
/// # Safety
/// As of [`Tiles::run`](super::tile::Tiles::run), and `matvec` may be called.
pub(super) unsafe fn try_product<T: Copy>(p: &Product<T>, matvec: unsafe fn(&MatVec<T>)) -> bool {
    let of = if p.n == 1 {
        MatVec {
            rows: p.m,
            k: p.k,
            matrix: p.a,
            x: p.b.start,
            x_stride: p.b.row,
            y: p.c,
            y_stride: p.ldc,
        }
    } else if p.m == 1 {
        MatVec {
            rows: p.n,
            k: p.k,
            matrix: p.b.transposed(),
            x: p.a.start,
            x_stride: p.a.column,
            y: p.c,
            y_stride: 1,
        }
    } else {
        return false;
    };
    let by_columns = of.is_by_columns();
    if !by_columns && of.matrix.column != 1 {
        return false;
    }
    if by_columns || of.x_stride == 1 {
        // SAFETY: the caller's promises.
        unsafe { matvec(&of) }
        return true;
    }
    // gathered first: it is read again for each row
    memory_cache::with_packing(of.k, |x: *mut T| {
        // SAFETY: there is room for `k` elements; the caller's promises.
        unsafe {
            for l in 0..of.k {
                x.add(l).write(*of.x.add(l * of.x_stride));
            }
            matvec(&MatVec {
                x,
                x_stride: 1,
                ..of
            });
        }
    });
    true
}

impl<T> MatVec<T> {
    /// Whether the columns of the matrix are read in order, not its rows.
    fn is_by_columns(&self) -> bool {
        self.matrix.row == 1 && (self.rows > 1 || self.matrix.column != 1)
    }
}

/// # Safety
/// The matrix and `x` can be read, `y` can be written.
#[inline(always)]
pub(super) unsafe fn product<V: Part>(p: &MatVec<V::Elem>) {
    // SAFETY: the caller's promises.
    unsafe {
        if p.is_by_columns() {
            return by_columns::<V>(p);
        }
        by_rows::<V>(p);
    }
}

/// Of a matrix with contiguous columns.
#[inline(always)]
unsafe fn by_columns<V: Part>(p: &MatVec<V::Elem>) {
    /// Aligned as the largest vectors.
    #[repr(align(64))]
    #[expect(dead_code, reason = "it is read and written by pointers")]
    struct Sums([u64; SUMS_BYTES / 8]);
    let mut sums = MaybeUninit::<Sums>::uninit();
    let sums: *mut V::Elem = sums.as_mut_ptr().cast();
    let most = SUMS_BYTES / size_of::<V::Elem>();
    for i in (0..p.rows).step_by(most) {
        let width = most.min(p.rows - i);
        for from in (0..p.k).step_by(PIECE) {
            let end = p.k.min(from + PIECE);
            // SAFETY: the caller's promises.
            unsafe {
                let mut l = from;
                while l + COLUMNS <= end {
                    add_columns::<V, COLUMNS>(p, (i, l), width, sums, l == from);
                    l += COLUMNS;
                }
                while l < end {
                    add_columns::<V, 1>(p, (i, l), width, sums, l == from);
                    l += 1;
                }
                for v in 0..width {
                    let (sum, to) = (*sums.add(v), p.y.add((i + v) * p.y_stride));
                    *to = if from == 0 { sum } else { *to + sum };
                }
            }
        }
    }
}

/// Adds `C` columns, from column `l` on, to the sums of the rows from row `i` on; to 0 if they are
/// the first.
#[inline(always)]
unsafe fn add_columns<V: Part, const C: usize>(
    p: &MatVec<V::Elem>,
    (i, l): (usize, usize),
    width: usize,
    sums: *mut V::Elem,
    first: bool,
) {
    let ld = p.matrix.column;
    // SAFETY: the caller's promises.
    unsafe {
        let mut x = [V::of(0.0); C];
        for (c, x) in x.iter_mut().enumerate() {
            *x = V::splat(*p.x.add((l + c) * p.x_stride));
        }
        let from = p.matrix.from(i, l).start;
        let mut v = 0;
        while v + V::N <= width {
            let to = sums.add(v);
            let mut sum = if first { V::of(0.0) } else { V::load(to) };
            for (c, x) in x.iter().enumerate() {
                sum = x.mul_add(V::load(from.add(c * ld + v)), sum);
            }
            sum.store(to);
            v += V::N;
        }
        if v < width {
            let (to, last) = (sums.add(v), V::first(width - v));
            let mut sum = if first { V::of(0.0) } else { V::load(to) };
            for (c, x) in x.iter().enumerate() {
                sum = x.mul_add(V::load_first(from.add(c * ld + v), last), sum);
            }
            sum.store(to);
        }
    }
}

/// Of a matrix with contiguous rows; `x` is contiguous, too.
#[inline(always)]
unsafe fn by_rows<V: Part>(p: &MatVec<V::Elem>) {
    let (rows, mut i) = (p.rows, 0);
    // SAFETY: the caller's promises; rows that are computed twice are the same twice.
    unsafe {
        if rows < V::N {
            for i in 0..rows {
                *p.y.add(i * p.y_stride) = dot::<V>(p.matrix.from(i, 0).start, p.x, p.k);
            }
            return;
        }
        while i < rows {
            i = i.min(rows - V::N);
            let total = vector_of_rows::<V>(p, i);
            scatter::<V>(total, p, i);
            i += V::N;
        }
    }
}

/// The sums of a vector of rows, from row `i` on. One vector at a time: the processor fetches ahead
/// only so many rows at once.
#[inline(always)]
unsafe fn vector_of_rows<V: Part>(p: &MatVec<V::Elem>, i: usize) -> V {
    let (from, ld) = (p.matrix.from(i, 0).start, p.matrix.row);
    let line = LINE / size_of::<V::Elem>();
    // -0 is what adds nothing, not even to -0
    let (mut total, mut l) = (V::of(-0.0), 0);
    while l < p.k {
        let end = p.k.min(l + PIECE);
        let mut sum = V::of(0.0);
        // SAFETY: the caller's promises.
        unsafe {
            while l + V::QUAD <= end {
                // whole cache lines of all rows at once: rows may share places in the cache
                if l.is_multiple_of(line) {
                    for r in 0..V::N {
                        V::prefetch(from.wrapping_add(r * ld + l));
                    }
                }
                let columns = V::columns(from.add(l), ld);
                for (q, column) in columns.iter().enumerate().take(V::QUAD) {
                    sum = column.mul_add(V::splat(*p.x.add(l + q)), sum);
                }
                l += V::QUAD;
            }
            while l < end {
                sum = gather::<V>(from.add(l), ld).mul_add(V::splat(*p.x.add(l)), sum);
                l += 1;
            }
        }
        total = total + sum;
    }
    total
}

/// Writes the sums of the rows from row `i` on.
#[inline(always)]
unsafe fn scatter<V: Part>(sums: V, p: &MatVec<V::Elem>, i: usize) {
    let mut all = [V::Elem::default(); LINE / 4];
    // SAFETY: vectors have at most 16 elements; the caller's promises.
    unsafe {
        sums.store(all.as_mut_ptr());
        for (r, &sum) in all[..V::N].iter().enumerate() {
            *p.y.add((i + r) * p.y_stride) = sum;
        }
    }
}

/// Elements `stride` apart.
#[inline(always)]
unsafe fn gather<V: Part>(from: *const V::Elem, stride: usize) -> V {
    let mut all = [V::Elem::default(); LINE / 4];
    // SAFETY: the caller's promises; vectors have at most 16 elements.
    unsafe {
        for (r, to) in all[..V::N].iter_mut().enumerate() {
            *to = *from.add(r * stride);
        }
        V::load(all.as_ptr())
    }
}

/// The product of two vectors: the sums of whole pieces as lanes of vectors, and the rest one by
/// one, four at a time.
#[inline(always)]
unsafe fn dot<V: Part>(a: *const V::Elem, x: *const V::Elem, k: usize) -> V::Elem {
    let (pieces, whole) = (k.div_ceil(PIECE), k / PIECE);
    let (mut sums, mut done) = ([V::Elem::default(); RADIX + 4], 0);
    // SAFETY: the caller's promises; a group has at most `RADIX` pieces.
    unsafe {
        while done + 2 * V::N <= whole {
            vectors_of_pieces::<V, 2>(a.add(done * PIECE), x.add(done * PIECE), &mut sums[done..]);
            done += 2 * V::N;
        }
        while done < pieces {
            few_pieces::<V>(
                a.add(done * PIECE),
                x.add(done * PIECE),
                k - done * PIECE,
                &mut sums[done..],
            );
            done += 4;
        }
    }
    let mut total = sums[0];
    for &sum in &sums[1..pieces] {
        total = total + sum;
    }
    total
}

/// The sums of `U` vectors of pieces.
#[inline(always)]
unsafe fn vectors_of_pieces<V: Part, const U: usize>(
    a: *const V::Elem,
    x: *const V::Elem,
    to: &mut [V::Elem],
) {
    let mut sums = [V::of(0.0); U];
    // in the order of memory, what the next call reads is fetched meanwhile
    let (all, line) = (U * V::N * PIECE, LINE / size_of::<V::Elem>());
    for l in (0..PIECE).step_by(V::QUAD) {
        for at in (l * U * V::N..(l + V::QUAD) * U * V::N).step_by(line) {
            V::prefetch(a.wrapping_add(all + at));
            V::prefetch(x.wrapping_add(all + at));
        }
        for (u, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promises.
            unsafe {
                let at = u * V::N * PIECE + l;
                let (a, x) = (V::columns(a.add(at), PIECE), V::columns(x.add(at), PIECE));
                for q in 0..V::QUAD {
                    *sum = a[q].mul_add(x[q], *sum);
                }
            }
        }
    }
    for (u, sum) in sums.into_iter().enumerate() {
        // SAFETY: there is room for them.
        unsafe { sum.store(to[u * V::N..][..V::N].as_mut_ptr()) }
    }
}

/// The sums of up to four pieces of the `k` products that are left.
#[inline(always)]
unsafe fn few_pieces<V: Part>(a: *const V::Elem, x: *const V::Elem, k: usize, to: &mut [V::Elem]) {
    let count = k.div_ceil(PIECE).min(4);
    let length = |p: usize| PIECE.min(k - p * PIECE);
    // what is there more than once is read from the first one
    let at = |p: usize| if p < count { p * PIECE } else { 0 };
    let at = [at(0), at(1), at(2), at(3)];
    let (mut sums, common) = ([V::Elem::default(); 4], length(count - 1));
    // SAFETY: the caller's promises.
    unsafe {
        for l in 0..common {
            for p in 0..4 {
                sums[p] = fma::<V>(*a.add(at[p] + l), *x.add(at[p] + l), sums[p]);
            }
        }
        for p in 0..count {
            for l in common..length(p) {
                sums[p] = fma::<V>(*a.add(at[p] + l), *x.add(at[p] + l), sums[p]);
            }
        }
    }
    to[..count].copy_from_slice(&sums[..count]);
}

/// `a·x + sum`, rounded once.
#[inline(always)]
fn fma<V: Part>(a: V::Elem, x: V::Elem, sum: V::Elem) -> V::Elem {
    crate::math::Lanes::mul_add(a, x, sum)
}
