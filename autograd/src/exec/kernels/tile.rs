//! Matrix products, tile by tile: a few rows by a few vectors of columns stay in registers while `k` runs, and both
//! operands are read where they lie. Each element is summed in the canonical order ([`op::linalg`](crate::op::linalg)),
//! whatever the tile, with fused multiply-adds; so all instruction sets give the same bits.

#![allow(clippy::needless_range_loop)] // the same rows and vectors in all arrays of a tile

use super::{
    Isa,
    vector::{Vector, Vectors},
};
use crate::op::linalg::{PIECE, RADIX};
use std::{cell::RefCell, ops::Range};

/// A matrix product `c = a·b`, as far as memory goes.
#[derive(Clone, Copy)]
pub(crate) struct Product<T> {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) a: Stored<T>,
    pub(crate) b: Stored<T>,
    pub(crate) c: *mut T,
    /// How far apart the rows of `c` are.
    pub(crate) ldc: usize,
}

/// A matrix in memory: its rows follow each other `stride` elements apart, or its columns do if it is transposed.
#[derive(Clone, Copy)]
pub(crate) struct Stored<T> {
    pub(crate) start: *const T,
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

impl<T: Copy> Stored<T> {
    /// Without its first rows and columns.
    fn from(self, row: usize, column: usize) -> Stored<T> {
        let (along, across) = if self.transposed { (row, column) } else { (column, row) };
        Stored { start: self.start.wrapping_add(across * self.stride + along), ..self }
    }
}

/// The most of `k` that is done in one go, whole pieces of the canonical sum.
const DEPTH: usize = 4 * PIECE;
/// Of a second matrix that is read where it lies, so many numbers for each lane of a vector are gone through in one go:
/// 512 KiB where vectors are long, which come with such caches, half of it elsewhere.
const CACHED: usize = 8 << 10;
/// So many steps of `k` share the arithmetic of addresses.
const UNROLL: usize = 4;
/// The bytes of a row of the widest packed panel.
const PANEL: usize = 128;
/// Rows of the second matrix this far apart, in bytes, fall on the same few lines of the cache.
const FAR: usize = 4096;
/// The longest sum of pieces in sequence: longer ones need room for the sums of groups,
const GROUP: usize = RADIX * PIECE;
/// so many numbers for each level of groups.
const ROOM: usize = 1 << 16;
/// The columns that are summed together there, at least.
const COLUMNS: usize = 512;

/// Whether the processor has fused multiply-adds for [`run`].
pub(crate) fn is_there() -> bool {
    Isa::get() != Isa::Baseline
}

/// Computes the product.
///
/// # Safety
/// [`is_there`], and the matrices can be read and written at the places that `p` names; `c` is no one else's.
pub(crate) unsafe fn run<T: Vectors>(p: &Product<T>) {
    // SAFETY: the caller's promises; the processor was asked for the instructions.
    unsafe {
        match Isa::get() {
            Isa::Avx512 => product(p, avx512::<T>),
            _ => product(p, avx2::<T>),
        }
    }
}

/// Computes a product whose sums are one group of pieces at most.
type Group<T> = unsafe fn(&Product<T>);

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512<T: Vectors>(p: &Product<T>) {
    // SAFETY: the caller's promise.
    unsafe { group::<T::Avx512, 8, 2, 16>(p) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<T: Vectors>(p: &Product<T>) {
    // SAFETY: the caller's promise.
    unsafe { group::<T::Avx2, 6, 2, 12>(p) }
}

/// A product whose sums may need several groups: then block by block of the output. Each level of groups has a block of
/// sums, which is added to that of the next level when it is complete; the last level is the output.
///
/// # Safety
/// As for [`run`].
unsafe fn product<T: Vectors>(p: &Product<T>, group: Group<T>) {
    if p.k <= GROUP {
        // SAFETY: the caller's promises.
        return unsafe { group(p) };
    }
    let columns = (ROOM / p.m).max(COLUMNS).min(p.n);
    let rows = (ROOM / columns).min(p.m);
    let (mut levels, mut length) = (0, GROUP);
    while length < p.k {
        (levels, length) = (levels + 1, length * RADIX);
    }
    let mut numbers = SUMS.take();
    numbers.resize(numbers.len().max((levels * ROOM * size_of::<T>()).div_ceil(size_of::<f64>())), 0.0);
    let room: *mut T = numbers.as_mut_ptr().cast();
    for (i, j) in (0..p.m).step_by(rows).flat_map(|i| (0..p.n).step_by(columns).map(move |j| (i, j))) {
        let (m, n) = (rows.min(p.m - i), columns.min(p.n - j));
        for (number, from) in (0..p.k).step_by(GROUP).enumerate() {
            let (k, a, b) = (GROUP.min(p.k - from), p.a.from(i, from), p.b.from(from, j));
            // SAFETY: a level has room for `rows` times `columns` numbers; the block lies in the output; the caller's promises.
            unsafe {
                group(&Product { m, k, n, a, b, c: room, ldc: columns });
                let (mut number, mut sums) = (number, room);
                for level in 1..=levels {
                    let (to, ldc) = match level {
                        _ if level == levels => (p.c.add(i * p.ldc + j), p.ldc),
                        _ => (sums.add(ROOM), columns),
                    };
                    add_block((m, n), (sums, columns), (to, ldc), number.is_multiple_of(RADIX));
                    if from + GROUP < p.k && !(number + 1).is_multiple_of(RADIX) {
                        break; // the next level's sum is not complete
                    }
                    (number, sums) = (number / RADIX, to);
                }
            }
        }
    }
    SUMS.set(numbers);
}

/// Adds a block of numbers to another one, which begins with them if they are the first. With each pointer is given how
/// far apart rows are.
///
/// # Safety
/// They can be read and written, and do not overlap.
unsafe fn add_block<T: Vectors>((m, n): (usize, usize), from: (*const T, usize), to: (*mut T, usize), first: bool) {
    for i in 0..m {
        // SAFETY: the caller's promise.
        let (from, to) = unsafe {
            let from = std::slice::from_raw_parts(from.0.add(i * from.1), n);
            (from, std::slice::from_raw_parts_mut(to.0.add(i * to.1), n))
        };
        if first {
            to.copy_from_slice(from);
        } else {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = *to + from);
        }
    }
}

/// Vectors of which the first few numbers can be loaded and stored by themselves.
pub(crate) trait Part: Vector {
    type First: Copy;
    /// The first `n` numbers, from 1 to all.
    fn first(n: usize) -> Self::First;
    /// The others are 0.
    ///
    /// # Safety
    /// The first numbers can be read.
    unsafe fn load_first(from: *const Self::Elem, first: Self::First) -> Self;
    /// # Safety
    /// The first numbers can be written.
    unsafe fn store_first(self, to: *mut Self::Elem, first: Self::First);
    /// Eight rows of eight numbers become columns.
    ///
    /// # Safety
    /// They can be read and written, in rows that are `stride` and `width` apart.
    unsafe fn transpose_8x8(from: *const Self::Elem, stride: usize, to: *mut Self::Elem, width: usize);
}

thread_local! {
    /// A packed panel.
    static PACKED: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
    /// Sums of groups of pieces. (The numbers of both are f32 as well.)
    static SUMS: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

/// The bytes that this thread keeps for packed panels and sums of groups.
pub(crate) fn kept_bytes() -> usize {
    let bytes = |v: &RefCell<Vec<f64>>| v.borrow().capacity() * size_of::<f64>();
    [&PACKED, &SUMS].into_iter().map(|kept| kept.try_with(bytes).unwrap_or(0)).sum()
}

/// Drops what this thread keeps.
pub(crate) fn drop_kept() {
    [&PACKED, &SUMS].into_iter().for_each(|kept| drop(kept.try_with(RefCell::take)));
}

/// A product in tiles of `M` rows by `N` vectors, or of `T` rows where one vector holds all columns: some of `k` at a time,
/// and of the second matrix so much that it stays in the second-level cache while all rows go through it.
#[inline(always)]
unsafe fn group<V: Part, const M: usize, const N: usize, const T: usize>(p: &Product<V::Elem>) {
    let Product { m, k, n, .. } = *p;
    let stride = p.b.stride;
    let bytes = stride * size_of::<V::Elem>();
    // rows that are a multiple of `2 * FAR` apart would push each other out of the cache within one piece
    let pack = p.b.transposed || bytes >= FAR && (m >= 4 * M || m > M && bytes.is_multiple_of(2 * FAR));
    let cached = CACHED * V::N;
    let whole = pack || m <= M; // each number of the second matrix is read where it lies only once
    let depth = if whole { DEPTH } else { (cached / n / PIECE * PIECE).clamp(PIECE, DEPTH) };
    let blocks = if whole { 1 } else { n.div_ceil(cached / depth) };
    let columns = n.div_ceil(blocks).next_multiple_of(N * V::N);
    for from in (0..k).step_by(depth) {
        let (a, b) = (p.a.from(0, from), p.b.from(from, 0));
        let span = Span { p: Product { k: depth.min(k - from), a, b, ..*p }, first: from == 0 };
        for j in (0..n).step_by(columns) {
            let columns = j..n.min(j + columns);
            // SAFETY: the caller's promises.
            unsafe {
                match (pack, p.a.transposed) {
                    (true, true) => span.packed::<V, M, N, T, true>(),
                    (true, false) => span.packed::<V, M, N, T, false>(),
                    (false, true) => span.columns::<V, M, N, T, true>(b.start.add(j), stride, columns),
                    (false, false) => span.columns::<V, M, N, T, false>(b.start.add(j), stride, columns),
                }
            }
        }
    }
}

/// A part of a product: some of `k`, whole pieces but for the last one.
#[derive(Clone, Copy)]
struct Span<T> {
    p: Product<T>,
    /// Nothing has been summed yet.
    first: bool,
}

impl<E: Copy> Span<E> {
    /// Panel by panel, each copied to where its rows follow each other.
    #[inline(always)]
    unsafe fn packed<V: Part<Elem = E>, const M: usize, const N: usize, const T: usize, const A_T: bool>(&self) {
        let Product { k, n, b: Stored { start: b, stride, transposed }, .. } = self.p;
        let width = N * V::N;
        // taken out, not borrowed in a closure: closures are compiled without the caller's instruction set
        let mut numbers = PACKED.take();
        numbers.resize(DEPTH * PANEL / size_of::<f64>(), 0.0);
        let panel: *mut E = numbers.as_mut_ptr().cast();
        for j in (0..n).step_by(width) {
            let columns = width.min(n - j);
            // SAFETY: the panel has room for `k` times `width` numbers; the caller's promises.
            unsafe {
                if transposed {
                    transpose::<V>(b.add(j * stride), stride, (columns, k), panel, width);
                } else {
                    for l in 0..k {
                        let row = std::slice::from_raw_parts(b.add(l * stride + j), columns);
                        std::slice::from_raw_parts_mut(panel.add(l * width), columns).copy_from_slice(row);
                    }
                }
                self.columns::<V, M, N, T, A_T>(panel, width, j..j + columns);
            }
        }
        PACKED.set(numbers);
    }

    /// Some columns of all rows; `b` is where they begin in `k` rows that are `ldb` apart.
    #[inline(always)]
    unsafe fn columns<V: Part<Elem = E>, const M: usize, const N: usize, const T: usize, const A_T: bool>(
        &self,
        b: *const E,
        ldb: usize,
        columns: Range<usize>,
    ) {
        let (m, mut i) = (self.p.m, 0);
        // SAFETY: rows `i..i + M` are among those of the product; the caller's promises.
        unsafe {
            while columns.len() <= V::N && i + T <= m {
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
    unsafe fn rows<V: Part<Elem = E>, const M: usize, const N: usize, const A_T: bool>(
        &self,
        i: usize,
        b: *const E,
        ldb: usize,
        columns: Range<usize>,
    ) {
        let (mut j, n) = (0, columns.len());
        // SAFETY: columns `j..` up to `n` are among those of the product; the caller's promises.
        unsafe {
            while j + N * V::N <= n {
                self.tile::<V, M, N, A_T>(i, b.add(j), ldb, columns.start + j, N * V::N);
                j += N * V::N;
            }
            while n - j > V::N {
                let width = (n - j).min(2 * V::N);
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
    unsafe fn tile<V: Part<Elem = E>, const M: usize, const N: usize, const A_T: bool>(
        &self,
        i: usize,
        b: *const E,
        ldb: usize,
        j: usize,
        width: usize,
    ) {
        let Product { k, a, ldc, .. } = self.p;
        let last = V::first(width - (N - 1) * V::N);
        // SAFETY: the tile is a part of the product.
        let (mut at_a, mut at_b, c) = unsafe { (a.from(i, 0).start, b, self.p.c.add(i * ldc + j)) };
        let column = if A_T { a.stride } else { 1 };
        for from in (0..k).step_by(PIECE) {
            let length = PIECE.min(k - from);
            let mut sums = [[V::of(0.0); N]; M];
            // a single row is as fast as the memory is read, which longer loops made slower
            let unrolled = if M > 1 { length / UNROLL } else { 0 };
            for _ in 0..unrolled {
                // SAFETY: as above.
                unsafe { steps::<V, M, N, A_T, UNROLL>(&mut sums, at_a, a.stride, at_b, ldb, last) };
                (at_a, at_b) = (at_a.wrapping_add(UNROLL * column), at_b.wrapping_add(UNROLL * ldb));
            }
            for _ in 0..length - unrolled * UNROLL {
                // SAFETY: as above.
                unsafe { steps::<V, M, N, A_T, 1>(&mut sums, at_a, a.stride, at_b, ldb, last) };
                (at_a, at_b) = (at_a.wrapping_add(column), at_b.wrapping_add(ldb));
            }
            let begins = self.first && from == 0;
            for r in 0..M {
                for v in 0..N {
                    // SAFETY: as above.
                    unsafe {
                        let row = c.add(r * ldc);
                        let sum = if begins { sums[r][v] } else { load::<V, N>(row, v, last) + sums[r][v] };
                        let to = row.add(v * V::N);
                        if v + 1 < N { sum.store(to) } else { sum.store_first(to, last) }
                    }
                }
            }
        }
    }
}

/// `S` steps of `k`.
#[inline(always)]
unsafe fn steps<V: Part, const M: usize, const N: usize, const A_T: bool, const S: usize>(
    sums: &mut [[V; N]; M],
    a: *const V::Elem,
    stride: usize,
    b: *const V::Elem,
    ldb: usize,
    last: V::First,
) {
    for s in 0..S {
        let mut columns = [V::of(0.0); N];
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
unsafe fn load<V: Part, const N: usize>(from: *const V::Elem, v: usize, last: V::First) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let from = from.add(v * V::N);
        if v + 1 < N { V::load(from) } else { V::load_first(from, last) }
    }
}

/// Copies `rows` by `columns` numbers, whose rows are `stride` apart, to where columns follow each other, `width` apart.
#[inline(always)]
unsafe fn transpose<V: Part>(
    from: *const V::Elem,
    stride: usize,
    (rows, columns): (usize, usize),
    to: *mut V::Elem,
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
    use crate::op::linalg::inner_product;

    const MOST: usize = 70;
    const GUARD: f64 = 1e30;

    fn noise<T: Vectors>(count: usize, seed: usize) -> Vec<T> {
        (0..count).map(|k| T::of(((k * 7919 + seed) % 1009) as f64 / 500.0 - 1.0)).collect()
    }

    /// A matrix of `columns` columns, with its columns one after the other.
    fn transposed<T: Copy>(x: &[T], columns: usize) -> Vec<T> {
        let rows = x.len() / columns;
        (0..x.len()).map(|e| x[e % rows * columns + e / rows]).collect()
    }

    /// `sums[(k·MOST + i)·MOST + j]`: the sum of the first `k` products for each element, by plain loops. Whatever the
    /// size of the product, its elements are among these.
    #[target_feature(enable = "fma")]
    fn by_loops<T: Vectors>(a: &[T], b: &[T]) -> Vec<T> {
        let mut sums = vec![T::default(); (MOST + 1) * MOST * MOST];
        for k in 0..MOST {
            for (i, j) in (0..MOST).flat_map(|i| (0..MOST).map(move |j| (i, j))) {
                let before = sums[(k * MOST + i) * MOST + j];
                sums[((k + 1) * MOST + i) * MOST + j] = a[i * MOST + k].mul_add(b[k * MOST + j], before);
            }
        }
        sums
    }

    /// Every size up to 69 by 69 by 69, for each way in which the operands can lie, as parts of larger matrices.
    fn all_sizes<T: Vectors>(group: Group<T>) {
        let (a, b): (Vec<T>, Vec<T>) = (noise(MOST * MOST, 1), noise(MOST * MOST, 2));
        let (a_t, b_t) = (transposed(&a, MOST), transposed(&b, MOST));
        // SAFETY: whoever has AVX2 has these.
        let sums = unsafe { by_loops(&a, &b) };
        let mut c = vec![T::of(GUARD); MOST * MOST + 64];
        for size in 0..MOST * MOST * MOST {
            let (m, k, n) = (size / MOST / MOST, size / MOST % MOST, size % MOST);
            if m * k * n == 0 {
                continue; // answered before the kernel is called
            }
            let which = size % 4;
            for which in if size % 7 == 0 { 0..4 } else { which..which + 1 } {
                let stored = |x: &Vec<T>, transposed| Stored { start: x.as_ptr(), stride: MOST, transposed };
                let a = if which & 1 == 0 { stored(&a, false) } else { stored(&a_t, true) };
                let b = if which & 2 == 0 { stored(&b, false) } else { stored(&b_t, true) };
                // SAFETY: the parts lie within the matrices.
                unsafe { product(&Product { m, k, n, a, b, c: c.as_mut_ptr(), ldc: n }, group) };
                for i in 0..m {
                    let expected = &sums[(k * MOST + i) * MOST..][..n];
                    assert_eq!(&c[i * n..][..n], expected, "row {i} of {m} x {k} x {n}, operands {which}");
                }
                assert!(c[m * n..][..64].iter().all(|&x| x == T::of(GUARD)), "{m} x {k} x {n} wrote beyond its end");
                c[..m * n].fill(T::of(GUARD));
            }
        }
    }

    /// Sums of one piece and of several, of one group and of several, levels of groups: in tiles of all kinds, read where
    /// the second matrix lies in one block of columns and in several, and packed.
    fn long_sums<T: Vectors>(group: Group<T>) {
        let small = [(1, 1), (2, 3), (3, 17), (4, 130), (7, 33), (13, 9), (17, 40)];
        let wide = [(9, 520), (40, 700), (9, 1030), (35, 1030), (9, 2048), (300, 515)];
        for k in [255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 1300, 8191, 8192, 8193, 10_007] {
            small.iter().for_each(|&(m, n)| one_size(group, m, k, n));
        }
        for k in [257, 1300] {
            wide.iter().for_each(|&(m, n)| one_size(group, m, k, n));
        }
        for (m, k, n) in
            [(2, 100_003, 17), (7, 100_003, 3), (1, 32 * GROUP, 2), (2, 32 * GROUP + 1, 1), (3, 300_000, 2)]
        {
            one_size(group, m, k, n);
        }
        if !cfg!(unoptimised) {
            one_size(group, 129, 8193, 513); // several blocks of rows and of columns
        }
    }

    fn one_size<T: Vectors>(group: Group<T>, m: usize, k: usize, n: usize) {
        let (a, b): (Vec<T>, Vec<T>) = (noise(m * k, 1), noise(k * n, 2));
        let (a_t, b_t) = (transposed(&a, k), transposed(&b, n));
        // the definition of some elements: of all, if they are few
        let some = (0..m * n).step_by((m * n).div_ceil(300)).map(|e| {
            let (a, b) = (&a[e / n * k..][..k], &b_t[e % n * k..][..k]);
            (e, inner_product(0..k, &|sum, l| a[l].mul_add(b[l], sum)))
        });
        let (some, mut before) = (some.collect::<Vec<(usize, T)>>(), None::<Vec<T>>);
        for which in 0..4 {
            let stored = |x: &Vec<T>, stride, transposed| Stored { start: x.as_ptr(), stride, transposed };
            let a = if which & 1 == 0 { stored(&a, k, false) } else { stored(&a_t, m, true) };
            let b = if which & 2 == 0 { stored(&b, n, false) } else { stored(&b_t, k, true) };
            let mut c = vec![T::of(GUARD); m * n + 64];
            // SAFETY: these are the matrices.
            unsafe { product(&Product { m, k, n, a, b, c: c.as_mut_ptr(), ldc: n }, group) };
            for &(at, expected) in &some {
                assert_eq!(c[at], expected, "element {at} of {m} x {k} x {n}, operands {which}");
            }
            assert!(c[m * n..].iter().all(|&x| x == T::of(GUARD)), "{m} x {k} x {n} wrote beyond its end");
            assert!(before.is_none_or(|before| before == c), "{m} x {k} x {n}, operands {which}");
            before = Some(c);
        }
    }

    #[test]
    fn all_small_sizes_by_every_instruction_set() {
        if Isa::best() >= Isa::Avx2 {
            all_sizes(avx2::<f32>);
            all_sizes(avx2::<f64>);
        }
        if Isa::best() >= Isa::Avx512 {
            all_sizes(avx512::<f32>);
            all_sizes(avx512::<f64>);
        }
    }

    #[test]
    fn long_sums_by_every_instruction_set() {
        if Isa::best() >= Isa::Avx2 {
            long_sums(avx2::<f32>);
            long_sums(avx2::<f64>);
        }
        if Isa::best() >= Isa::Avx512 {
            long_sums(avx512::<f32>);
            long_sums(avx512::<f64>);
        }
    }
}
