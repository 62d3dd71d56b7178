//! Matrix products of f32, tile by tile: a few rows by a few vectors of columns stay in registers while `k` runs, and both
//! operands are read where they lie. Each element is summed over ascending `k` with fused multiply-adds, the canonical
//! order, whatever the tile; so all instruction sets give the same bits.

#![allow(clippy::needless_range_loop)] // the same rows and vectors in all arrays of a tile

use super::{
    Isa,
    x86::{F32x8, F32x16},
};
use crate::math::Lanes;
use std::{cell::RefCell, ops::Range};

/// A matrix product `c = a·b`, as far as memory goes.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) a: Stored,
    pub(crate) b: Stored,
    pub(crate) c: *mut f32,
}

/// A matrix in memory: its rows follow each other `stride` elements apart, or its columns do if it is transposed.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) start: *const f32,
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

impl Stored {
    /// Without its first rows and columns.
    fn from(self, row: usize, column: usize) -> Stored {
        let (along, across) = if self.transposed { (row, column) } else { (column, row) };
        Stored { start: self.start.wrapping_add(across * self.stride + along), ..self }
    }
}

/// The most of `k` that is done in one go,
const DEPTH: usize = 1024;
/// the least,
const LEAST_DEPTH: usize = 64;
/// and between them, of a second matrix that is read where it lies, so many numbers for each lane of a vector: 512 KiB
/// where vectors are long, which come with such caches, half of it elsewhere.
const PIECE: usize = 8 << 10;
/// So many steps of `k` share the arithmetic of addresses.
const UNROLL: usize = 4;
/// The columns of the widest packed panel.
const PANEL: usize = 32;
/// Rows of the second matrix this far apart, in elements, fall on the same few lines of the cache.
const FAR: usize = 1024;

/// Whether the processor has fused multiply-adds for [`run`].
pub(crate) fn is_there() -> bool {
    Isa::get() != Isa::Baseline
}

/// Computes the product.
///
/// # Safety
/// [`is_there`], and the matrices can be read and written at the places that `p` names; `c` is no one else's.
pub(crate) unsafe fn run(p: &Product) {
    // SAFETY: the caller's promises; the processor was asked for the instructions.
    unsafe {
        match Isa::get() {
            Isa::Avx512 => avx512(p),
            _ => avx2(p),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512(p: &Product) {
    // SAFETY: the caller's promise.
    unsafe { product::<F32x16, 8, 2, 16>(p) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(p: &Product) {
    // SAFETY: the caller's promise.
    unsafe { product::<F32x8, 6, 2, 12>(p) }
}

/// Vectors of f32 of which the first few numbers can be loaded and stored by themselves.
pub(super) trait Part: Lanes<Elem = f32> {
    const WIDTH: usize;
    type First: Copy;
    /// The first `n` numbers, from 1 to `WIDTH`.
    fn first(n: usize) -> Self::First;
    /// # Safety
    /// `WIDTH` numbers can be read.
    unsafe fn load_whole(from: *const f32) -> Self;
    /// # Safety
    /// `WIDTH` numbers can be written.
    unsafe fn store_whole(self, to: *mut f32);
    /// The others are 0.
    ///
    /// # Safety
    /// The first numbers can be read.
    unsafe fn load_first(from: *const f32, first: Self::First) -> Self;
    /// # Safety
    /// The first numbers can be written.
    unsafe fn store_first(self, to: *mut f32, first: Self::First);
    /// Eight rows of eight numbers become columns.
    ///
    /// # Safety
    /// They can be read and written, in rows that are `stride` and `width` apart.
    #[inline(always)]
    unsafe fn transpose_8x8(from: *const f32, stride: usize, to: *mut f32, width: usize) {
        // SAFETY: all instruction sets that there are tiles for have AVX2.
        unsafe { super::x86::transpose_8x8(from, stride, to, width) }
    }
}

thread_local! {
    /// A packed panel.
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A part of a product: some of `k`.
#[derive(Clone, Copy)]
struct Piece {
    p: Product,
    /// Nothing has been summed yet.
    first: bool,
}

/// The product in tiles of `M` rows by `N` vectors; of `T` rows where one vector holds all columns.
#[inline(always)]
unsafe fn product<V: Part, const M: usize, const N: usize, const T: usize>(p: &Product) {
    let pack = p.b.transposed || p.b.stride >= FAR && p.m >= 4 * M;
    // what all rows go through should stay in the second-level cache
    let depth = if pack || p.m <= M { DEPTH } else { (PIECE * V::WIDTH / p.n).clamp(LEAST_DEPTH, DEPTH) };
    for from in (0..p.k).step_by(depth) {
        let (a, b) = (p.a.from(0, from), p.b.from(from, 0));
        let piece = Piece { p: Product { k: depth.min(p.k - from), a, b, ..*p }, first: from == 0 };
        // SAFETY: the caller's promises.
        unsafe {
            match (pack, p.a.transposed) {
                (true, true) => piece.packed::<V, M, N, T, true>(),
                (true, false) => piece.packed::<V, M, N, T, false>(),
                (false, true) => piece.columns::<V, M, N, T, true>(b.start, b.stride, 0..p.n),
                (false, false) => piece.columns::<V, M, N, T, false>(b.start, b.stride, 0..p.n),
            }
        }
    }
}

impl Piece {
    /// Panel by panel, each copied to where its rows follow each other.
    #[inline(always)]
    unsafe fn packed<V: Part, const M: usize, const N: usize, const T: usize, const A_T: bool>(&self) {
        let Product { k, n, b: Stored { start: b, stride, transposed }, .. } = self.p;
        let width = N * V::WIDTH;
        // taken out, not borrowed in a closure: closures are compiled without the caller's instruction set
        let mut panel = PACKED.take();
        panel.resize(DEPTH * PANEL, 0.0);
        for j in (0..n).step_by(width) {
            let columns = width.min(n - j);
            // SAFETY: the panel has room for `k` times `width` numbers; the caller's promises.
            unsafe {
                if transposed {
                    transpose::<V>(b.add(j * stride), stride, (columns, k), panel.as_mut_ptr(), width);
                } else {
                    for l in 0..k {
                        let row = std::slice::from_raw_parts(b.add(l * stride + j), columns);
                        panel[l * width..][..columns].copy_from_slice(row);
                    }
                }
                self.columns::<V, M, N, T, A_T>(panel.as_ptr(), width, j..j + columns);
            }
        }
        PACKED.set(panel);
    }

    /// Some columns of all rows; `b` is where they begin in `k` rows that are `ldb` apart.
    #[inline(always)]
    unsafe fn columns<V: Part, const M: usize, const N: usize, const T: usize, const A_T: bool>(
        &self,
        b: *const f32,
        ldb: usize,
        columns: Range<usize>,
    ) {
        let (m, mut i) = (self.p.m, 0);
        // SAFETY: rows `i..i + M` are among those of the product; the caller's promises.
        unsafe {
            while columns.len() <= V::WIDTH && i + T <= m {
                self.rows::<V, T, 1, A_T>(i, b, ldb, columns.clone());
                i += T;
            }
            while i + M <= m {
                self.rows::<V, M, N, A_T>(i, b, ldb, columns.clone());
                i += M;
            }
            if i + 4 <= m {
                self.rows::<V, 4, 2, A_T>(i, b, ldb, columns.clone());
                i += 4;
            }
            if i + 2 <= m {
                self.rows::<V, 2, 4, A_T>(i, b, ldb, columns.clone());
                i += 2;
            }
            if i < m {
                self.rows::<V, 1, 8, A_T>(i, b, ldb, columns);
            }
        }
    }

    /// `M` rows of some columns: tiles of `N` vectors, then smaller ones.
    #[inline(always)]
    unsafe fn rows<V: Part, const M: usize, const N: usize, const A_T: bool>(
        &self,
        i: usize,
        b: *const f32,
        ldb: usize,
        columns: Range<usize>,
    ) {
        let (mut j, n) = (0, columns.len());
        // SAFETY: columns `j..` up to `n` are among those of the product; the caller's promises.
        unsafe {
            while j + N * V::WIDTH <= n {
                self.tile::<V, M, N, A_T>(i, b.add(j), ldb, columns.start + j, N * V::WIDTH);
                j += N * V::WIDTH;
            }
            while n - j > V::WIDTH {
                let width = (n - j).min(2 * V::WIDTH);
                self.tile::<V, M, 2, A_T>(i, b.add(j), ldb, columns.start + j, width);
                j += width;
            }
            if j < n {
                self.tile::<V, M, 1, A_T>(i, b.add(j), ldb, columns.start + j, n - j);
            }
        }
    }

    /// The tile at row `i` and column `j`: `width` columns, of which all but those of the last vector are whole vectors.
    #[inline(always)]
    unsafe fn tile<V: Part, const M: usize, const N: usize, const A_T: bool>(
        &self,
        i: usize,
        b: *const f32,
        ldb: usize,
        j: usize,
        width: usize,
    ) {
        let Product { k, n, a, .. } = self.p;
        let last = V::first(width - (N - 1) * V::WIDTH);
        // SAFETY: the tile is a part of the product.
        let (mut at_a, mut at_b, c) = unsafe { (a.from(i, 0).start, b, self.p.c.add(i * n + j)) };
        let mut sums = [[V::splat(0.0); N]; M];
        if !self.first {
            for r in 0..M {
                for v in 0..N {
                    // SAFETY: as above.
                    sums[r][v] = unsafe { load::<V, N>(c.add(r * n), v, last) };
                }
            }
        }
        let column = if A_T { a.stride } else { 1 };
        // a single row is as fast as the memory is read, which longer loops made slower
        let unrolled = if M > 1 { k / UNROLL } else { 0 };
        for _ in 0..unrolled {
            // SAFETY: as above.
            unsafe { steps::<V, M, N, A_T, UNROLL>(&mut sums, at_a, a.stride, at_b, ldb, last) };
            (at_a, at_b) = (at_a.wrapping_add(UNROLL * column), at_b.wrapping_add(UNROLL * ldb));
        }
        for _ in 0..k - unrolled * UNROLL {
            // SAFETY: as above.
            unsafe { steps::<V, M, N, A_T, 1>(&mut sums, at_a, a.stride, at_b, ldb, last) };
            (at_a, at_b) = (at_a.wrapping_add(column), at_b.wrapping_add(ldb));
        }
        for r in 0..M {
            for v in 0..N {
                // SAFETY: as above.
                unsafe {
                    let to = c.add(r * n + v * V::WIDTH);
                    if v + 1 < N { sums[r][v].store_whole(to) } else { sums[r][v].store_first(to, last) }
                }
            }
        }
    }
}

/// `S` steps of `k`.
#[inline(always)]
unsafe fn steps<V: Part, const M: usize, const N: usize, const A_T: bool, const S: usize>(
    sums: &mut [[V; N]; M],
    a: *const f32,
    stride: usize,
    b: *const f32,
    ldb: usize,
    last: V::First,
) {
    for s in 0..S {
        let mut columns = [V::splat(0.0); N];
        for (v, columns) in columns.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *columns = unsafe { load::<V, N>(b.wrapping_add(s * ldb), v, last) };
        }
        for r in 0..M {
            let at = if A_T { s * stride + r } else { r * stride + s };
            // SAFETY: as above.
            let x = V::splat(unsafe { *a.wrapping_add(at) });
            for v in 0..N {
                sums[r][v] = x.mul_add(columns[v], sums[r][v]);
            }
        }
    }
}

/// Vector number `v` of `N`.
#[inline(always)]
unsafe fn load<V: Part, const N: usize>(from: *const f32, v: usize, last: V::First) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let from = from.add(v * V::WIDTH);
        if v + 1 < N { V::load_whole(from) } else { V::load_first(from, last) }
    }
}

/// Copies `rows` by `columns` numbers, whose rows are `stride` apart, to where columns follow each other, `width` apart.
#[inline(always)]
unsafe fn transpose<V: Part>(
    from: *const f32,
    stride: usize,
    (rows, columns): (usize, usize),
    to: *mut f32,
    width: usize,
) {
    let (whole_rows, whole_columns) = (rows / 8 * 8, columns / 8 * 8);
    // row by row: rows that are far apart may fall on the same few lines of the cache
    for r in (0..whole_rows).step_by(8) {
        for c in (0..whole_columns).step_by(8) {
            // SAFETY: the caller's promise.
            unsafe { V::transpose_8x8(from.add(r * stride + c), stride, to.add(c * width + r), width) }
        }
    }
    for r in 0..rows {
        for c in if r < whole_rows { whole_columns } else { 0 }..columns {
            // SAFETY: the caller's promise.
            unsafe { *to.add(c * width + r) = *from.add(r * stride + c) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 70;

    /// `sums[(k·MOST + i)·MOST + j]`: the sum of the first `k` products for each element, by plain loops. Whatever the
    /// size of the product, its elements are among these.
    #[target_feature(enable = "fma")]
    fn by_loops(a: &[f32], b: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0f32; (MOST + 1) * MOST * MOST];
        for k in 0..MOST {
            for (i, j) in (0..MOST).flat_map(|i| (0..MOST).map(move |j| (i, j))) {
                let before = sums[(k * MOST + i) * MOST + j];
                sums[((k + 1) * MOST + i) * MOST + j] = a[i * MOST + k].mul_add(b[k * MOST + j], before);
            }
        }
        sums
    }

    /// Every size up to 69 by 69 by 69, for each way in which the operands can lie, as parts of larger matrices.
    fn all_sizes(run: unsafe fn(&Product)) {
        let noise = |seed: usize| (0..MOST * MOST).map(|k| ((k * 7919 + seed) % 1009) as f32 / 500.0 - 1.0).collect();
        let transposed = |x: &Vec<f32>| (0..MOST * MOST).map(|e| x[e % MOST * MOST + e / MOST]).collect();
        let (a, b): (Vec<f32>, Vec<f32>) = (noise(1), noise(2));
        let (a_t, b_t): (Vec<f32>, Vec<f32>) = (transposed(&a), transposed(&b));
        // SAFETY: whoever has AVX2 has these.
        let sums = unsafe { by_loops(&a, &b) };
        let guard = 1e30;
        let mut c = vec![guard; MOST * MOST + 64];
        for size in 0..MOST * MOST * MOST {
            let (m, k, n) = (size / MOST / MOST, size / MOST % MOST, size % MOST);
            if m * k * n == 0 {
                continue; // answered before the kernel is called
            }
            let which = size % 4;
            for which in if size % 7 == 0 { 0..4 } else { which..which + 1 } {
                let stored = |x: &Vec<f32>, transposed| Stored { start: x.as_ptr(), stride: MOST, transposed };
                let a = if which & 1 == 0 { stored(&a, false) } else { stored(&a_t, true) };
                let b = if which & 2 == 0 { stored(&b, false) } else { stored(&b_t, true) };
                // SAFETY: the parts lie within the matrices.
                unsafe { run(&Product { m, k, n, a, b, c: c.as_mut_ptr() }) };
                for i in 0..m {
                    let expected = &sums[(k * MOST + i) * MOST..][..n];
                    assert_eq!(&c[i * n..][..n], expected, "row {i} of {m} x {k} x {n}, operands {which}");
                }
                assert!(c[m * n..][..64].iter().all(|&x| x == guard), "{m} x {k} x {n} wrote beyond its end");
                c[..m * n].fill(guard);
            }
        }
    }

    #[test]
    fn all_small_sizes_by_every_instruction_set() {
        if Isa::best() >= Isa::Avx2 {
            all_sizes(avx2);
        }
        if Isa::best() >= Isa::Avx512 {
            all_sizes(avx512);
        }
    }
}
