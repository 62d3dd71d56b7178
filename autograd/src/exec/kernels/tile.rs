//! Matrix products by tiles: the sums of a few rows by a few vectors of columns stay in registers
//! while `k` runs. Both operands are read in place, unless their rows conflict in the cache; then
//! panels are packed first. The outermost loop is in [`product`](crate::exec::product), which
//! splits rows among threads.
//!
//! Each element is summed in the canonical order ([`op::linalg`](crate::op::linalg)), whatever the
//! tile, with fused multiply-adds. So all instruction sets give the same bits.

#![allow(clippy::needless_range_loop)] // the same rows and vectors in all arrays of a tile

use super::{arch::Vectors, vector::Part};
use crate::{
    memory_cache,
    op::linalg::{PIECE, RADIX},
};
use std::ops::Range;

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

/// A matrix in memory: its rows follow each other `stride` elements apart, or its columns do if it
/// is transposed.
#[derive(Clone, Copy)]
pub(crate) struct Stored<T> {
    pub(crate) start: *const T,
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

impl<T: Copy> Stored<T> {
    /// Without its first rows and columns.
    fn from(self, row: usize, column: usize) -> Stored<T> {
        let (along, across) = if self.transposed {
            (row, column)
        } else {
            (column, row)
        };
        Stored {
            start: self.start.wrapping_add(across * self.stride + along),
            ..self
        }
    }
}

/// The longest part of `k` that is computed at once: several whole pieces of the canonical sum.
const MAX_K_AT_ONCE: usize = 4 * PIECE;
/// How much of a second matrix that is read in place is used for all rows before the next part of
/// it: this many elements for each lane of a vector. 512 KiB with AVX-512, whose processors have
/// such second-level caches; half of it with AVX2.
const CACHED_PER_LANE: usize = 8 << 10;
/// Steps of `k` that share the arithmetic of addresses, in tiles of at least this many vectors.
const UNROLLED_STEPS: usize = 4;
const UNROLLED_VECTORS: usize = 12;
/// The bytes of a row of the widest packed panel.
const PANEL_ROW_BYTES: usize = 128;
/// Rows of the second matrix that are this many bytes apart fall into the same few sets of the
/// first-level cache.
const CONFLICT_BYTES: usize = 4096;
/// The longest `k` whose pieces are added in sequence. A longer one needs buffers for the sums of
/// groups of pieces,
const GROUP_K: usize = RADIX * PIECE;
/// of this many elements for each level of groups,
const LEVEL_ELEMENTS: usize = 1 << 16;
/// and of at least this many columns.
const MIN_LEVEL_COLUMNS: usize = 512;

/// What is compiled for one kind of vectors: tiles of a few sizes, and the loops over them.
///
/// # Safety
/// Of all functions: the processor has the instruction set, and what they say themselves.
pub(super) trait Tiled: Part {
    /// The rows of the largest tile, and its vectors.
    const ROWS: usize;
    const VECTORS: usize;
    /// # Safety
    /// As of [`columns`].
    unsafe fn columns<const A_T: bool>(
        span: &Span<Self::Elem>,
        b: *const Self::Elem,
        ldb: usize,
        columns: Range<usize>,
    );
    /// # Safety
    /// As of [`tile`].
    unsafe fn tile<const M: usize, const N: usize, const A_T: bool>(
        span: &Span<Self::Elem>,
        corner: (usize, usize),
        b: *const Self::Elem,
        ldb: usize,
        width: usize,
    );
    /// # Safety
    /// As of [`transpose`].
    unsafe fn transpose(
        from: *const Self::Elem,
        stride: usize,
        size: (usize, usize),
        to: *mut Self::Elem,
        width: usize,
    );
}

/// The same for one number type, whatever the vectors.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<T> {
    rows: usize,
    vectors: usize,
    /// The numbers of a vector.
    lanes: usize,
    /// As the first matrix lies, and as it lies transposed.
    columns: [Columns<T>; 2],
    transpose: unsafe fn(*const T, usize, (usize, usize), *mut T, usize),
}

type Columns<T> = unsafe fn(&Span<T>, *const T, usize, Range<usize>);

impl<T: Vectors> Tiles<T> {
    pub(super) const fn of<V: Tiled<Elem = T>>() -> Tiles<T> {
        Tiles {
            rows: V::ROWS,
            vectors: V::VECTORS,
            lanes: V::N,
            columns: [V::columns::<false>, V::columns::<true>],
            transpose: V::transpose,
        }
    }

    /// Computes a product.
    ///
    /// # Safety
    /// The matrices can be read and written at the places that `p` names; `c` is no one else's.
    pub(crate) unsafe fn run(&self, p: &Product<T>) {
        // SAFETY: the caller's promises; whoever has tiles for a processor has asked for the
        // instructions.
        unsafe { product(p, self) }
    }
}

/// A product whose sums may need several groups of pieces: then block by block of the output. Each
/// level of groups has a buffer with a block of sums, which is added to that of the next level when
/// it is complete; the last level is the output.
///
/// Example: for `k = 3·GROUP_K` there is one level. The sums of three groups are computed one after
/// the other into the buffer, and each is added to the output.
///
/// # Safety
/// As of [`Tiles::run`].
unsafe fn product<T: Vectors>(p: &Product<T>, tiles: &Tiles<T>) {
    if p.k <= GROUP_K {
        // SAFETY: the caller's promises.
        return unsafe { group(p, tiles) };
    }
    let columns = (LEVEL_ELEMENTS / p.m).max(MIN_LEVEL_COLUMNS).min(p.n);
    let rows = (LEVEL_ELEMENTS / columns).min(p.m);
    let (mut levels, mut length) = (0, GROUP_K);
    while length < p.k {
        (levels, length) = (levels + 1, length * RADIX);
    }
    let mut buffer = memory_cache::SUMS.take();
    let needed = (levels * LEVEL_ELEMENTS * size_of::<T>()).div_ceil(size_of::<f64>());
    buffer.resize(buffer.len().max(needed), 0.0);
    let sums: *mut T = buffer.as_mut_ptr().cast();
    for i in (0..p.m).step_by(rows) {
        for j in (0..p.n).step_by(columns) {
            let block = Product {
                m: rows.min(p.m - i),
                n: columns.min(p.n - j),
                a: p.a.from(i, 0),
                b: p.b.from(0, j),
                c: p.c.wrapping_add(i * p.ldc + j),
                ..*p
            };
            // SAFETY: a level has `rows` times `columns` elements; the block lies in the output;
            // the caller's promises.
            unsafe { block_of_groups(&block, tiles, levels, sums, columns) };
        }
    }
    memory_cache::SUMS.set(buffer);
}

/// A block of a product, with buffers for the sums of each level, whose rows are `ld` elements
/// apart.
///
/// # Safety
/// As of [`Tiles::run`], and each buffer has `LEVEL_ELEMENTS` elements, enough for the block.
unsafe fn block_of_groups<T: Vectors>(
    p: &Product<T>,
    tiles: &Tiles<T>,
    levels: usize,
    buffers: *mut T,
    ld: usize,
) {
    for (number, from) in (0..p.k).step_by(GROUP_K).enumerate() {
        let part = Product {
            k: GROUP_K.min(p.k - from),
            a: p.a.from(0, from),
            b: p.b.from(from, 0),
            c: buffers,
            ldc: ld,
            ..*p
        };
        // SAFETY: the caller's promises.
        unsafe {
            group(&part, tiles);
            let (mut number, mut sums) = (number, buffers);
            for level in 1..=levels {
                let (to, ldc) = match level {
                    _ if level == levels => (p.c, p.ldc),
                    _ => (sums.add(LEVEL_ELEMENTS), ld),
                };
                let is_first = number.is_multiple_of(RADIX);
                add_block((p.m, p.n), (sums, ld), (to, ldc), is_first);
                if from + GROUP_K < p.k && !(number + 1).is_multiple_of(RADIX) {
                    break; // the next level's sum is not complete
                }
                (number, sums) = (number / RADIX, to);
            }
        }
    }
}

/// Adds a block of elements to another one, or copies it there if it is the first. With each
/// pointer comes the distance of its rows.
///
/// # Safety
/// They can be read and written, and do not overlap.
unsafe fn add_block<T: Vectors>(
    (m, n): (usize, usize),
    from: (*const T, usize),
    to: (*mut T, usize),
    first: bool,
) {
    for i in 0..m {
        // SAFETY: the caller's promise.
        let (from, to) = unsafe {
            let from = std::slice::from_raw_parts(from.0.add(i * from.1), n);
            (from, std::slice::from_raw_parts_mut(to.0.add(i * to.1), n))
        };
        if first {
            to.copy_from_slice(from);
        } else {
            to.iter_mut()
                .zip(from)
                .for_each(|(to, &from)| *to = *to + from);
        }
    }
}

/// A product whose sums are one group of pieces at most, in tiles: a part of `k` at a time, and of
/// the second matrix as much as stays in the second-level cache while it is used for all rows.
///
/// # Safety
/// As of [`Tiles::run`].
unsafe fn group<T: Vectors>(p: &Product<T>, tiles: &Tiles<T>) {
    let Product { m, k, n, .. } = *p;
    let stride = p.b.stride;
    let bytes = stride * size_of::<T>();
    // rows that are a multiple of twice that apart would evict each other from the cache within one
    // piece
    let conflicts = bytes >= CONFLICT_BYTES
        && (m >= 4 * tiles.rows || m > tiles.rows && bytes.is_multiple_of(2 * CONFLICT_BYTES));
    let pack = p.b.transposed || conflicts;
    let cached = CACHED_PER_LANE * tiles.lanes;
    let whole = pack || m <= tiles.rows; // each element of the second matrix is read from its place only once
    let depth = match whole {
        true => MAX_K_AT_ONCE,
        false => (cached / n / PIECE * PIECE).clamp(PIECE, MAX_K_AT_ONCE),
    };
    let blocks = if whole { 1 } else { n.div_ceil(cached / depth) };
    let columns = n
        .div_ceil(blocks)
        .next_multiple_of(tiles.vectors * tiles.lanes);
    for from in (0..k).step_by(depth) {
        let (a, b) = (p.a.from(0, from), p.b.from(from, 0));
        let span = Span {
            p: Product {
                k: depth.min(k - from),
                a,
                b,
                ..*p
            },
            first: from == 0,
        };
        for j in (0..n).step_by(columns) {
            // SAFETY: the caller's promises.
            unsafe {
                if pack {
                    span.packed(tiles);
                } else {
                    span.columns(tiles, b.start.add(j), stride, j..n.min(j + columns));
                }
            }
        }
    }
}

/// A part of a product: some of `k`, whole pieces but for the last one.
#[derive(Clone, Copy)]
pub(super) struct Span<T> {
    p: Product<T>,
    /// Nothing has been summed yet.
    first: bool,
}

impl<T: Vectors> Span<T> {
    /// Panel by panel, each copied to where its rows follow each other.
    ///
    /// # Safety
    /// As of [`Tiles::run`].
    unsafe fn packed(&self, tiles: &Tiles<T>) {
        let Product {
            k,
            n,
            b:
                Stored {
                    start: b,
                    stride,
                    transposed,
                },
            ..
        } = self.p;
        let width = tiles.vectors * tiles.lanes;
        memory_cache::PACKED.with_borrow_mut(|numbers| {
            numbers.resize(MAX_K_AT_ONCE * PANEL_ROW_BYTES / size_of::<f64>(), 0.0);
            let panel: *mut T = numbers.as_mut_ptr().cast();
            for j in (0..n).step_by(width) {
                let columns = width.min(n - j);
                // SAFETY: the panel has room for `k` times `width` numbers; the caller's promises.
                unsafe {
                    if transposed {
                        (tiles.transpose)(b.add(j * stride), stride, (columns, k), panel, width);
                    } else {
                        for l in 0..k {
                            let row = std::slice::from_raw_parts(b.add(l * stride + j), columns);
                            std::slice::from_raw_parts_mut(panel.add(l * width), columns)
                                .copy_from_slice(row);
                        }
                    }
                    self.columns(tiles, panel, width, j..j + columns);
                }
            }
        });
    }

    /// Some columns of all rows: see [`columns`].
    ///
    /// # Safety
    /// As there.
    unsafe fn columns(&self, tiles: &Tiles<T>, b: *const T, ldb: usize, columns: Range<usize>) {
        // SAFETY: the caller's promise.
        unsafe { (tiles.columns[self.p.a.transposed as usize])(self, b, ldb, columns) }
    }
}

/// Some columns of all rows of a product, in tiles of `M` rows by `N` vectors, or of `T` rows where
/// one vector holds all columns; `b` is where they begin in `k` rows that are `ldb` apart.
///
/// # Safety
/// They are columns of the product, whose matrices can be read and written.
#[inline(always)]
pub(super) unsafe fn columns<
    V: Tiled,
    const M: usize,
    const N: usize,
    const T: usize,
    const A_T: bool,
>(
    span: &Span<V::Elem>,
    b: *const V::Elem,
    ldb: usize,
    columns: Range<usize>,
) {
    let (m, mut i) = (span.p.m, 0);
    // SAFETY: rows `i..i + M` are among those of the product; the caller's promises.
    unsafe {
        while columns.len() <= V::N && i + T <= m {
            V::tile::<T, 1, A_T>(span, (i, columns.start), b, ldb, columns.len());
            i += T;
        }
        while i + M <= m {
            rows::<V, M, N, A_T>(span, i, b, ldb, columns.clone());
            i += M;
        }
        if i + 4 <= m {
            rows::<V, 4, 2, A_T>(span, i, b, ldb, columns.clone());
            i += 4;
        }
        if i + 2 <= m {
            rows::<V, 2, 4, A_T>(span, i, b, ldb, columns.clone());
            i += 2;
        }
        if i < m {
            rows::<V, 1, 8, A_T>(span, i, b, ldb, columns);
        }
    }
}

/// `M` rows of some columns: tiles of `N` vectors, then smaller ones.
///
/// # Safety
/// As of [`columns`].
#[inline(always)]
unsafe fn rows<V: Tiled, const M: usize, const N: usize, const A_T: bool>(
    span: &Span<V::Elem>,
    i: usize,
    b: *const V::Elem,
    ldb: usize,
    columns: Range<usize>,
) {
    let (mut j, n) = (0, columns.len());
    // SAFETY: columns `j..` up to `n` are among those of the product; the caller's promises.
    unsafe {
        while j + N * V::N <= n {
            V::tile::<M, N, A_T>(span, (i, columns.start + j), b.add(j), ldb, N * V::N);
            j += N * V::N;
        }
        while n - j > V::N {
            let width = (n - j).min(2 * V::N);
            V::tile::<M, 2, A_T>(span, (i, columns.start + j), b.add(j), ldb, width);
            j += width;
        }
        if j < n {
            V::tile::<M, 1, A_T>(span, (i, columns.start + j), b.add(j), ldb, n - j);
        }
    }
}

/// The tile at a row and a column: `width` columns, of which all but those of the last vector are
/// whole vectors.
///
/// # Safety
/// The tile is a part of the product, whose matrices can be read and written.
#[inline(always)]
pub(super) unsafe fn tile<V: Part, const M: usize, const N: usize, const A_T: bool>(
    span: &Span<V::Elem>,
    (i, j): (usize, usize),
    b: *const V::Elem,
    ldb: usize,
    width: usize,
) {
    let Product { k, a, ldc, .. } = span.p;
    let last = V::first(width - (N - 1) * V::N);
    // SAFETY: the tile is a part of the product.
    let (mut at_a, mut at_b, c) = unsafe { (a.from(i, 0).start, b, span.p.c.add(i * ldc + j)) };
    let column = if A_T { a.stride } else { 1 };
    for from in (0..k).step_by(PIECE) {
        let length = PIECE.min(k - from);
        let mut sums = [[V::of(0.0); N]; M];
        // small tiles gain nothing: they wait for the latency of their few sums, or for memory
        let unrolled = if M * N >= UNROLLED_VECTORS {
            length / UNROLLED_STEPS
        } else {
            0
        };
        for _ in 0..unrolled {
            // SAFETY: as above.
            unsafe {
                steps::<V, M, N, A_T, UNROLLED_STEPS>(&mut sums, at_a, a.stride, at_b, ldb, last)
            };
            (at_a, at_b) = (
                at_a.wrapping_add(UNROLLED_STEPS * column),
                at_b.wrapping_add(UNROLLED_STEPS * ldb),
            );
        }
        for _ in 0..length - unrolled * UNROLLED_STEPS {
            // SAFETY: as above.
            unsafe { steps::<V, M, N, A_T, 1>(&mut sums, at_a, a.stride, at_b, ldb, last) };
            (at_a, at_b) = (at_a.wrapping_add(column), at_b.wrapping_add(ldb));
        }
        if !(span.first && from == 0) {
            for r in 0..M {
                for v in 0..N {
                    // SAFETY: as above.
                    sums[r][v] = unsafe { load::<V, N>(c.add(r * ldc), v, last) } + sums[r][v];
                }
            }
        }
        for r in 0..M {
            for v in 0..N {
                // SAFETY: as above.
                unsafe {
                    let to = c.add(r * ldc + v * V::N);
                    if v + 1 < N {
                        sums[r][v].store(to)
                    } else {
                        sums[r][v].store_first(to, last)
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
        if v + 1 < N {
            V::load(from)
        } else {
            V::load_first(from, last)
        }
    }
}

/// Copies `rows` by `columns` numbers, whose rows are `stride` apart, to where columns follow each
/// other, `width` apart.
///
/// # Safety
/// They can be read and written.
#[inline(always)]
pub(super) unsafe fn transpose<V: Part>(
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
            unsafe {
                V::transpose_8x8(
                    from.add(r * stride + c),
                    stride,
                    to.add(c * width + r),
                    width,
                )
            }
        }
    }
    for r in 0..rows {
        for c in if r < whole_rows { whole_columns } else { 0 }..columns {
            // SAFETY: the caller's promise.
            unsafe { *to.add(c * width + r) = *from.add(r * stride + c) }
        }
    }
}
