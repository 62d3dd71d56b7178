//! Matrix products by tiles: the sums of a few rows by a few vectors of columns stay in registers
//! while `k` runs. The outermost loop is in [`product`](crate::exec::product), which splits
//! products among threads.
//!
//! Three loops are around a tile, each for one cache. A *block* is one piece of `k` by as many
//! columns of the second matrix as half of the second-level cache holds. A *strip* is a few rows
//! by all columns of a block: its part of the first matrix stays in the first-level cache. And a
//! *panel* is the columns of one tile, whose rows follow each other in memory: the block is packed
//! into panels first, unless it is small enough to be read where it lies. The first matrix is read
//! where it lies, unless its rows are not contiguous. Rows, columns and the first matrix may lie at
//! any distances.
//!
//! Each element is summed in the canonical order ([`op::linalg`](crate::op::linalg)), whatever the
//! tile, with fused multiply-adds. So all instruction sets give the same bits.

#![allow(clippy::needless_range_loop)] // the same rows and vectors in all arrays of a tile

use super::{
    arch::Vectors,
    caches::{self, Caches},
    matvec,
    vector::Part,
};
use crate::{
    memory_cache,
    op::linalg::{PIECE, RADIX},
};

/// A matrix product `c = a·b`, as far as memory goes.
#[derive(Clone, Copy)]
pub(crate) struct Product<T> {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) a: Strided<T>,
    pub(crate) b: Strided<T>,
    pub(crate) c: *mut T,
    /// How far apart the rows of `c` are.
    pub(crate) ldc: usize,
}

/// A matrix in memory: how far apart neighbours in a column and in a row are.
#[derive(Clone, Copy)]
pub(crate) struct Strided<T> {
    pub(crate) start: *const T,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<T: Copy> Strided<T> {
    /// Without its first rows and columns.
    pub(super) fn from(self, row: usize, column: usize) -> Strided<T> {
        let start = self
            .start
            .wrapping_add(row * self.row + column * self.column);
        Strided { start, ..self }
    }

    pub(super) fn transposed(self) -> Strided<T> {
        Strided {
            row: self.column,
            column: self.row,
            ..self
        }
    }
}

/// The most vectors of a panel: of tiles of two rows or one.
const MAX_VECTORS: usize = 4;
/// Products of fewer rows have such panels.
const THIN: usize = 4;
/// Strips of the first matrix that are copied together, where they are copied: whole cache lines
/// of each row.
const STRIPS: usize = 8;
/// Strips of contiguous rows are copied if so many tiles read them: rows that are a few KiB apart
/// share places in the cache.
const WIDE: usize = 16;
/// The steps of `k` by which the second matrix is fetched ahead.
const AHEAD: usize = 8;
/// The longest `k` whose pieces are added in sequence. A longer one needs buffers for the sums of
/// groups of pieces,
pub(crate) const GROUP_K: usize = RADIX * PIECE;
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
    /// As of [`strips`].
    unsafe fn strips(block: &Block<Self::Elem>);
    /// # Safety
    /// As of [`tile`].
    unsafe fn tile<const M: usize, const N: usize>(block: &Block<Self::Elem>, at: At<Self::Elem>);
    /// # Safety
    /// As of [`pack`](super::pack::pack).
    unsafe fn pack(
        from: Strided<Self::Elem>,
        size: (usize, usize),
        vectors: usize,
        to: *mut Self::Elem,
    );
    /// # Safety
    /// As of [`matvec::product`].
    unsafe fn matvec(p: &matvec::MatVec<Self::Elem>);
}

/// The same for one number type, whatever the vectors.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<T> {
    rows: usize,
    vectors: usize,
    /// The numbers of a vector.
    lanes: usize,
    strips: unsafe fn(&Block<T>),
    pack: unsafe fn(Strided<T>, (usize, usize), usize, *mut T),
    matvec: unsafe fn(&matvec::MatVec<T>),
}

impl<T: Vectors> Tiles<T> {
    pub(super) const fn of<V: Tiled<Elem = T>>() -> Tiles<T> {
        Tiles {
            rows: V::ROWS,
            vectors: V::VECTORS,
            lanes: V::N,
            strips: V::strips,
            pack: V::pack,
            matvec: V::matvec,
        }
    }

    /// The columns of the largest tile.
    pub(crate) fn columns(&self) -> usize {
        self.vectors * self.lanes
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
    let level = rows * columns;
    let needed = (levels * level * size_of::<T>()).div_ceil(size_of::<f64>());
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
            unsafe { block_of_groups(&block, tiles, levels, (sums, level), columns) };
        }
    }
    memory_cache::SUMS.set(buffer);
}

/// A block of a product, with buffers for the sums of each level, whose rows are `ld` elements
/// apart.
///
/// # Safety
/// As of [`Tiles::run`], and each buffer has as many elements as the block.
unsafe fn block_of_groups<T: Vectors>(
    p: &Product<T>,
    tiles: &Tiles<T>,
    levels: usize,
    (buffers, buffer): (*mut T, usize),
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
                    _ => (sums.add(buffer), ld),
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

/// A product whose sums are one group of pieces at most: block by block.
///
/// # Safety
/// As of [`Tiles::run`].
unsafe fn group<T: Vectors>(p: &Product<T>, tiles: &Tiles<T>) {
    // SAFETY: the caller's promises.
    if unsafe { matvec::try_product(p, tiles.matvec) } {
        return;
    }
    let Product { m, k, n, .. } = *p;
    let caches = caches::get();
    let depth = k.min(PIECE);
    let vectors = if m < THIN { MAX_VECTORS } else { tiles.vectors };
    let direct = is_direct(p, caches);
    let columns = match direct {
        true => n,
        false => block_columns(caches, depth, n, tiles),
    };
    let copies_a = copies_first(p, caches, tiles);
    // what is copied is padded by a vector
    let rows = if copies_a {
        STRIPS * (tiles.rows + tiles.lanes)
    } else {
        0
    };
    // a direct block still has its last columns packed, if they do not fill a vector
    let packed = if direct {
        vectors * tiles.lanes
    } else {
        columns + tiles.lanes
    };
    memory_cache::with_packing((packed + rows) * depth, |panels: *mut T| {
        let a_panels = panels.wrapping_add(packed * depth);
        for j in (0..n).step_by(columns) {
            let width = columns.min(n - j);
            for from in (0..k).step_by(PIECE) {
                let mut block = Block {
                    m,
                    k: PIECE.min(k - from),
                    width,
                    vectors,
                    a: p.a.from(0, from),
                    a_panels: copies_a.then_some(a_panels),
                    b: p.b.from(from, j),
                    panels,
                    unpacked: 0,
                    c: p.c.wrapping_add(j),
                    ldc: p.ldc,
                    first: from == 0,
                };
                // SAFETY: there is room for panels; the caller's promises.
                unsafe {
                    block.pack(tiles, direct);
                    (tiles.strips)(&block);
                }
            }
        }
    });
}

/// Whether the second matrix is read where it lies: it stays in the first-level cache, or hardly
/// any row reads it again, or not so many do, and its rows are so near that a panel has places in
/// the cache.
fn is_direct<T>(p: &Product<T>, caches: Caches) -> bool {
    let row = p.b.row * size_of::<T>();
    let is_near = p.m <= 128 && row <= 1024;
    p.b.column == 1 && (p.k.min(PIECE) * row <= caches.first || p.m <= 4 || is_near)
}

/// Whether strips of the first matrix are copied, to where their rows, or the columns of what is
/// transposed, are in nobody's way in the cache: if enough tiles read them, and if columns are far
/// apart or many.
fn copies_first<T: Vectors>(p: &Product<T>, caches: Caches, tiles: &Tiles<T>) -> bool {
    if p.a.column == 1 {
        return p.n >= WIDE * tiles.columns();
    }
    let is_far = (p.a.column * size_of::<T>()).is_multiple_of(1024);
    let lines = p.k.min(PIECE) * 64; // each column has one of its own
    p.n > 3 * tiles.lanes && (is_far || lines > caches.first / 4)
}

/// How many columns are packed at once.
fn block_columns<T: Vectors>(caches: Caches, depth: usize, n: usize, tiles: &Tiles<T>) -> usize {
    let most = (caches.second / 2 / (depth * size_of::<T>())).max(tiles.columns());
    // blocks of about the same width
    n.div_ceil(n.div_ceil(most))
        .next_multiple_of(tiles.columns())
}

/// A piece of `k` of some columns of a product.
#[derive(Clone, Copy)]
pub(super) struct Block<T> {
    m: usize,
    k: usize,
    /// The columns.
    width: usize,
    /// The most vectors of a panel.
    vectors: usize,
    a: Strided<T>,
    /// Where strips of the first matrix are copied to, if they are.
    a_panels: Option<*mut T>,
    b: Strided<T>,
    /// The columns of `b` in panels, but for the first `unpacked` ones, which are read where they
    /// lie. Behind the last column are zeros up to a whole vector.
    panels: *mut T,
    unpacked: usize,
    c: *mut T,
    ldc: usize,
    /// Nothing has been summed yet.
    first: bool,
}

/// So many vectors does the next panel have, of those that are left: two twice where one would be
/// left by three.
#[inline(always)]
pub(super) fn panel(left: usize, most: usize) -> usize {
    if left == 4 && most == 3 {
        2
    } else {
        left.min(most)
    }
}

impl<T: Vectors> Block<T> {
    /// Packs what is not read where it lies.
    ///
    /// # Safety
    /// As of [`Tiles::run`], and there is room for the panels.
    unsafe fn pack(&mut self, tiles: &Tiles<T>, direct: bool) {
        if direct {
            // whole panels of whole vectors, and what is left if it is whole vectors
            let (lanes, mut at) = (tiles.lanes, 0);
            while at < self.width {
                let left = (self.width - at).div_ceil(lanes);
                let columns = panel(left, self.vectors) * lanes;
                if columns > self.width - at {
                    break;
                }
                at += columns;
            }
            self.unpacked = at;
        }
        if self.unpacked < self.width {
            let size = (self.k, self.width - self.unpacked);
            // SAFETY: the caller's promises.
            unsafe {
                (tiles.pack)(
                    self.b.from(0, self.unpacked),
                    size,
                    self.vectors,
                    self.panels,
                )
            }
        }
    }
}

/// All strips of a block, in tiles of `M` rows by `N` vectors, or of `T` rows where one vector holds
/// all columns.
///
/// # Safety
/// The matrices can be read and written; the block has its panels.
#[inline(always)]
pub(super) unsafe fn strips<V: Tiled, const M: usize, const N: usize, const T: usize>(
    block: &Block<V::Elem>,
) {
    let (m, mut i) = (block.m, 0);
    // SAFETY: rows `i..i + M` are among those of the product; the caller's promises.
    unsafe {
        while block.width <= V::N && i + T <= m {
            strip::<V, T, 1>(block, i, block.a.from(i, 0));
            i += T;
        }
        while i + M <= m {
            let Some(copies) = block.a_panels else {
                strip::<V, M, N>(block, i, block.a.from(i, 0));
                i += M;
                continue;
            };
            let (count, a) = copy_strips::<V, M>(block, i, copies);
            for s in 0..count {
                let start = a.start.wrapping_add(s * copied_strip::<V>(block.k, M));
                strip::<V, M, N>(block, i, Strided { start, ..a });
                i += M;
            }
        }
        if M > 4 && i + 4 <= m {
            strip::<V, 4, N>(block, i, block.a.from(i, 0));
            i += 4;
        }
        while i + 2 <= m {
            strip::<V, 2, MAX_VECTORS>(block, i, block.a.from(i, 0));
            i += 2;
        }
        if i < m {
            strip::<V, 1, MAX_VECTORS>(block, i, block.a.from(i, 0));
        }
    }
}

/// The elements that a copied strip takes: the last vector of a step may reach beyond it.
#[inline(always)]
fn copied_strip<V: Part>(k: usize, rows: usize) -> usize {
    k * rows + V::N
}

/// Copies the strip from row `i` on, or the next few strips, to where they are in nobody's way in
/// the cache. How many strips those are, and the first of them.
#[inline(always)]
unsafe fn copy_strips<V: Tiled, const M: usize>(
    block: &Block<V::Elem>,
    i: usize,
    to: *mut V::Elem,
) -> (usize, Strided<V::Elem>) {
    let (k, a, start) = (block.k, block.a.from(i, 0), to.cast_const());
    let (count, row, column) = if a.column == 1 {
        (1, k.next_multiple_of(V::N), 1)
    } else {
        (((block.m - i) / M).min(STRIPS), 1, M)
    };
    // SAFETY: the caller's promises.
    unsafe {
        if a.column == 1 {
            copy_rows::<V, M>(a, k, to, row);
        } else {
            copy_columns::<V, M>(a, (block.m - i, k), count, to);
        }
    }
    (count, Strided { start, row, column })
}

/// Copies a strip of contiguous rows as they are, `ld` apart.
#[inline(always)]
unsafe fn copy_rows<V: Tiled, const M: usize>(
    a: Strided<V::Elem>,
    k: usize,
    to: *mut V::Elem,
    ld: usize,
) {
    let last = V::first(k + V::N - ld);
    for r in 0..M {
        let (from, to) = (a.start.wrapping_add(r * a.row), to.wrapping_add(r * ld));
        // SAFETY: the caller's promise.
        unsafe {
            for l in (0..ld - V::N).step_by(V::N) {
                V::load(from.add(l)).store(to.add(l));
            }
            V::load_first(from.add(ld - V::N), last).store(to.add(ld - V::N));
        }
    }
}

/// Copies some strips such that the elements of a step of `k` follow each other: together, since
/// they share cache lines. The matrix has `m` rows from there on.
#[inline(always)]
unsafe fn copy_columns<V: Tiled, const M: usize>(
    a: Strided<V::Elem>,
    (m, k): (usize, usize),
    count: usize,
    to: *mut V::Elem,
) {
    // whole vectors, of which the last elements are overwritten by those of the next step
    let vectors = M.div_ceil(V::N);
    let is_whole = a.row == 1 && (count - 1) * M + vectors * V::N <= m;
    for l in 0..k {
        for s in 0..count {
            let from = a.from(s * M, l).start;
            let to = to.wrapping_add(s * copied_strip::<V>(k, M) + l * M);
            // SAFETY: the caller's promise.
            unsafe {
                if is_whole {
                    for v in 0..vectors {
                        V::load(from.add(v * V::N)).store(to.add(v * V::N));
                    }
                } else {
                    for r in 0..M {
                        *to.add(r) = *from.add(r * a.row);
                    }
                }
            }
        }
    }
}

/// `M` rows of a block, from row `i` on, whose part of the first matrix is `a`: panel by panel.
///
/// # Safety
/// As of [`strips`].
#[inline(always)]
unsafe fn strip<V: Tiled, const M: usize, const N: usize>(
    block: &Block<V::Elem>,
    i: usize,
    a: Strided<V::Elem>,
) {
    let (mut j, width) = (0, block.width);
    // the next strip of the first matrix is fetched meanwhile, a part with each panel
    let line = 64 / size_of::<V::Elem>();
    let lines = block.k.div_ceil(line);
    let panels = width.div_ceil(V::N).div_ceil(block.vectors);
    let share = lines.div_ceil(panels);
    let mut next = 0;
    while j < width {
        if block.a.column == 1 && M > 4 && i + 2 * M <= block.m {
            let a = block.a.from(i + M, 0);
            for q in next..lines.min(next + share) {
                for r in 0..M {
                    V::prefetch(a.start.wrapping_add(r * a.row + q * line));
                }
            }
            next += share;
        }
        let n = panel((width - j).div_ceil(V::N), block.vectors);
        let (b, ldb) = if j < block.unpacked {
            (block.b.start.wrapping_add(j), block.b.row)
        } else {
            let done = (j - block.unpacked) * block.k;
            (block.panels.wrapping_add(done).cast_const(), n * V::N)
        };
        let at = At {
            a,
            b,
            ldb,
            c: block.c.wrapping_add(i * block.ldc + j),
            width: (width - j).min(n * V::N),
        };
        // SAFETY: the caller's promises. Panels have at most `N` vectors.
        unsafe {
            match n {
                1 => V::tile::<M, 1>(block, at),
                2 if N >= 2 => V::tile::<M, 2>(block, at),
                3 if N >= 3 => V::tile::<M, 3>(block, at),
                _ if N >= 4 => V::tile::<M, 4>(block, at),
                _ => {}
            }
        }
        j += n * V::N;
    }
}

/// The place of a tile: its rows of the first matrix, its columns of the second one, whose rows are
/// `ldb` apart, and its elements of the output, of which there are `width` in a row.
#[derive(Clone, Copy)]
pub(super) struct At<T> {
    a: Strided<T>,
    b: *const T,
    ldb: usize,
    c: *mut T,
    width: usize,
}

/// A tile of `M` rows by `N` vectors; all vectors but the last one are whole in the output.
///
/// # Safety
/// The tile is a part of the product, whose matrices can be read and written; `N` vectors can be
/// read in each row of its part of the second matrix.
#[inline(always)]
pub(super) unsafe fn tile<V: Part, const M: usize, const N: usize>(
    block: &Block<V::Elem>,
    at: At<V::Elem>,
) {
    let (k, ldc) = (block.k, block.ldc);
    let At {
        a,
        b,
        ldb,
        c,
        width,
        ..
    } = at;
    for r in 0..M {
        V::prefetch(c.wrapping_add(r * ldc));
        V::prefetch(c.wrapping_add(r * ldc + N * V::N - 1));
    }
    let line = 64 / size_of::<V::Elem>();
    let mut sums = [[V::of(0.0); N]; M];
    // addresses of every third row: each of the two others is one index away from it
    let mut x: [_; M] = std::array::from_fn(|r| a.start.wrapping_add(r / 3 * 3 * a.row));
    let mut y = b;
    for _ in 0..k {
        let mut columns = [V::of(0.0); N];
        for v in 0..N {
            // SAFETY: the caller's promise.
            columns[v] = unsafe { V::load(y.add(v * V::N)) };
        }
        for v in (0..N * V::N).step_by(line) {
            V::prefetch(y.wrapping_add(AHEAD * ldb + v));
        }
        for r in 0..M {
            // SAFETY: as above.
            let x = V::splat(unsafe { *x[r].add(r % 3 * a.row) });
            for v in 0..N {
                sums[r][v] = x.mul_add(columns[v], sums[r][v]);
            }
        }
        for x in &mut x {
            *x = x.wrapping_add(a.column);
        }
        y = y.wrapping_add(ldb);
    }
    // SAFETY: as above.
    unsafe { add_tile::<V, M, N>(sums, (c, ldc), width, block.first) }
}

/// Adds the sums of a tile to the output, or writes them there if they are the first.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn add_tile<V: Part, const M: usize, const N: usize>(
    sums: [[V; N]; M],
    (c, ldc): (*mut V::Elem, usize),
    width: usize,
    first: bool,
) {
    // masked stores are slow on some processors: only where they are needed
    if width == N * V::N {
        for r in 0..M {
            for v in 0..N {
                // SAFETY: as above.
                unsafe {
                    let to = c.add(r * ldc + v * V::N);
                    let sum = match first {
                        true => sums[r][v],
                        false => V::load(to) + sums[r][v],
                    };
                    sum.store(to);
                }
            }
        }
        return;
    }
    let last = V::first(width - (N - 1) * V::N);
    // -0 is what adds nothing, not even to -0
    for r in 0..M {
        for v in 0..N {
            // SAFETY: as above.
            unsafe {
                let to = c.add(r * ldc + v * V::N);
                if v + 1 < N {
                    let before = if first { V::of(-0.0) } else { V::load(to) };
                    (before + sums[r][v]).store(to);
                } else {
                    let before = if first {
                        V::of(-0.0)
                    } else {
                        V::load_first(to, last)
                    };
                    (before + sums[r][v]).store_first(to, last);
                }
            }
        }
    }
}
