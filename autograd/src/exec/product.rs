//! Matrix products in parts, which are rows and columns of the output: by tiles of our own
//! ([`tile`](super::kernels::tile)) where the processor has fused multiply-adds, by the crate
//! matrixmultiply elsewhere. Kernels that continue with rows of a product compute them here, too.
//!
//! How products are split never changes a bit: each element of the output is a sum of its own, in the
//! same order. The order of our own tiles is the canonical one ([`op::linalg`](crate::op::linalg));
//! that of matrixmultiply differs in the last bits.

#![allow(unsafe_code)] // calls of kernels that take pointers

use super::kernels::{
    Vectors,
    tile::{GROUP_K, Product, Strided},
};
use crate::{
    error::OpError,
    op::linalg::{Batches, RADIX},
    plan::{kernel::MatrixAccess, size::ProductSize, tiling::TILE_ROWS},
    shape::Shape,
    tensor::DType,
    view::{TensorView, TensorViewMut},
};
use std::ops::Range;

/// One operand: how it lies in memory, and whether it is read transposed.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) view: TensorView<'a>,
    pub(crate) transposed: bool,
    /// Where its elements are, if not one after the other.
    pub(crate) access: Option<&'a MatrixAccess>,
}

impl Matrix<'_> {
    /// The shape as the product sees it.
    fn shape(&self) -> Shape {
        let shape = *self.view.shape;
        let rank = shape.rank();
        if !self.transposed {
            return shape;
        }
        shape.swapped(rank - 2, rank - 1)
    }

    /// Where the matrices of a batch begin, if this is not as if one came after the other.
    fn starts(&self, count: usize) -> Option<Vec<usize>> {
        let access = self.access?;
        let mut starts = Vec::with_capacity(count);
        access.starts.runs(0, count, |_, first, stride, n| {
            starts.extend((0..n).map(|i| (first as isize + i as isize * stride) as usize));
        });
        Some(starts)
    }

    /// The elements from `start` on as a matrix of `rows` by `columns`.
    fn operand<T: Vectors>(
        &self,
        start: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Operand<'_, T>, OpError> {
        let data = &self.view.slice::<T>()?[start..];
        Ok(match self.access {
            Some(&MatrixAccess { row, column, .. }) => Operand { data, row, column },
            None => Operand::new(&data[..rows * columns], rows, columns, self.transposed),
        })
    }
}

/// Some rows of a product of size `[m, k, n]`, for a kernel that reads them next; the matrices
/// are given with whether they are read transposed.
pub(crate) fn rows<T: Vectors>(
    (a, a_t): (&[T], bool),
    (b, b_t): (&[T], bool),
    ProductSize { m, k, n }: ProductSize,
    first: usize,
    out: &mut [T],
) {
    let (a, b) = (Operand::new(a, m, k, a_t), Operand::new(b, k, n, b_t));
    let rows = first..first + out.len() / n;
    let c = Block {
        start: out.as_mut_ptr(),
        ld: n,
        rows,
        columns: 0..n,
    };
    // SAFETY: the block is all of `out`.
    unsafe { product(a, b, 0..k, c) }
}

/// A product `out = a·b`, batched, that is to run in some parts; the types are those that the op
/// has checked.
pub(crate) struct Job<'r> {
    a: Matrix<'r>,
    b: Matrix<'r>,
    out: Out,
    dtype: DType,
    size: (usize, usize, usize),
    /// The first elements of `a`, `b` and the output, for each product of a batch.
    batches: Option<Vec<(usize, usize, usize)>>,
    parts: usize,
    grid: Grid,
    /// The sums of all groups of pieces of `k`, if parts are groups.
    groups: Option<Groups>,
}

/// Sums of groups of pieces of `k`: as many numbers for each as the product has.
struct Groups {
    count: usize,
    sums: Out,
    /// Where they are.
    _memory: Vec<f64>,
}

/// The most elements of a product whose parts are groups of pieces: others have enough rows and
/// columns for many parts.
const FEW_ELEMENTS: usize = 64;

impl<'r> Job<'r> {
    pub(crate) fn new(
        a: Matrix<'r>,
        b: Matrix<'r>,
        out: TensorViewMut<'r>,
        parts: usize,
    ) -> Job<'r> {
        let batches = Batches::new(&a.shape(), &b.shape(), out.shape);
        let Batches { m, k, n, .. } = batches;
        let (count, dtype) = (out.shape.count(), out.dtype());
        // the rows of a batch with one second matrix follow each other
        let joined =
            count > 0 && b.view.shape.count() == k * n && a.view.shape.count() == count / n * k;
        let joined = joined && !a.transposed && a.access.is_none() && b.access.is_none();
        let m = if joined { count / n } else { m };
        let batches = (!joined).then(|| {
            let mut all: Vec<_> = batches.offsets().collect();
            if let Some(starts) = a.starts(all.len()) {
                all.iter_mut()
                    .zip(starts)
                    .for_each(|(o, start)| o.0 = start);
            }
            if let Some(starts) = b.starts(all.len()) {
                all.iter_mut()
                    .zip(starts)
                    .for_each(|(o, start)| o.1 = start);
            }
            all
        });
        let rows = m * batches.as_ref().map_or(1, Vec::len);
        let has_tiles = match dtype {
            DType::F32 => f32::table().tiles.is_some(),
            _ => f64::table().tiles.is_some(),
        };
        let of_groups =
            has_tiles && parts > 1 && rows == m && (1..=FEW_ELEMENTS).contains(&(m * n));
        let groups = (of_groups && k > GROUP_K).then(|| Groups::new(k.div_ceil(GROUP_K), m * n));
        Job {
            a,
            b,
            out: Out(out.start()),
            dtype,
            size: (m, k, n),
            batches,
            parts,
            grid: Grid::new(parts, rows, n),
            groups,
        }
    }

    /// Does one of its parts: some rows, or some columns of them, or some groups of their sums.
    pub(crate) fn part(&self, part: usize) -> Result<(), OpError> {
        match (self.dtype, &self.groups) {
            (DType::F32, None) => self.blocks::<f32>(part),
            (DType::F32, Some(groups)) => self.sum_groups::<f32>(groups, part),
            (_, None) => self.blocks::<f64>(part),
            (_, Some(groups)) => self.sum_groups::<f64>(groups, part),
        }
    }

    /// Adds the sums of groups, when all parts are done.
    pub(crate) fn finish(&self) {
        match (self.dtype, &self.groups) {
            (_, None) => {}
            (DType::F32, Some(groups)) => self.add_groups::<f32>(groups),
            (_, Some(groups)) => self.add_groups::<f64>(groups),
        }
    }

    fn sum_groups<T: Vectors>(&self, groups: &Groups, part: usize) -> Result<(), OpError> {
        let (m, k, n) = self.size;
        let (at_a, at_b, _) = self.batches.as_ref().map_or((0, 0, 0), |all| all[0]);
        let (a, b) = (self.a.operand(at_a, m, k)?, self.b.operand(at_b, k, n)?);
        let at = |part: usize| groups.count * part / self.parts;
        for group in at(part)..at(part + 1) {
            let c = Block {
                start: groups.sums.0.cast::<T>().wrapping_add(group * m * n),
                ld: n,
                rows: 0..m,
                columns: 0..n,
            };
            let k = group * GROUP_K..k.min((group + 1) * GROUP_K);
            // SAFETY: each group has sums of its own, and is in one part.
            unsafe { product(a, b, k, c) }
        }
        Ok(())
    }

    /// In the order of [`inner_product`](crate::op::linalg::inner_product): `RADIX` neighbours at
    /// a time, until one is left.
    fn add_groups<T: Vectors>(&self, groups: &Groups) {
        let (m, _, n) = self.size;
        let (size, mut count) = (m * n, groups.count);
        // SAFETY: there is room for the sums of all groups, and the output has `size` elements. No
        // part is at work any more.
        let (sums, out) = unsafe {
            let sums = std::slice::from_raw_parts_mut(groups.sums.0.cast::<T>(), count * size);
            (
                sums,
                std::slice::from_raw_parts_mut(self.out.0.cast::<T>(), size),
            )
        };
        while count > 1 {
            for from in 0..count {
                let to = from / RADIX;
                for e in 0..size {
                    let sum = sums[from * size + e];
                    let is_first = from.is_multiple_of(RADIX);
                    let to = &mut sums[to * size + e];
                    *to = if is_first { sum } else { *to + sum };
                }
            }
            count = count.div_ceil(RADIX);
        }
        out.copy_from_slice(&sums[..size]);
    }

    fn blocks<T: Vectors>(&self, part: usize) -> Result<(), OpError> {
        let (m, k, n) = self.size;
        let batches = self.batches.as_deref().unwrap_or(&[(0, 0, 0)]);
        let blocks = m.div_ceil(TILE_ROWS); // of each product
        let rows = self.grid.rows(part, blocks * batches.len());
        let columns = self.grid.columns(part, n);
        let (mut block, end) = (rows.start, rows.end);
        while block < end {
            let ((at_a, at_b, at_c), first) = (batches[block / blocks], block % blocks * TILE_ROWS);
            let count = (end - block).min(blocks - block % blocks);
            let rows = (count * TILE_ROWS).min(m - first);
            let c = Block {
                start: self
                    .out
                    .0
                    .cast::<T>()
                    .wrapping_add(at_c + first * n + columns.start),
                ld: n,
                rows: first..first + rows,
                columns: columns.clone(),
            };
            if !columns.is_empty() {
                let (a, b) = (self.a.operand(at_a, m, k)?, self.b.operand(at_b, k, n)?);
                // SAFETY: each part has rows and columns of its own, within the output.
                unsafe { product(a, b, 0..k, c) }
            }
            block += count;
        }
        Ok(())
    }
}

impl Groups {
    fn new(count: usize, size: usize) -> Groups {
        let mut memory = vec![0.0; count * size];
        Groups {
            count,
            sums: Out(memory.as_mut_ptr().cast()),
            _memory: memory,
        }
    }
}

/// Parts of a product: rows by columns.
#[derive(Clone, Copy)]
struct Grid {
    row_parts: usize,
    column_parts: usize,
}

/// The least columns of a part; parts begin at multiples of this, so that no tile is cut.
const PART_COLUMNS: usize = 96;

impl Grid {
    /// So many parts of a product with these rows, of all batches, and columns.
    fn new(parts: usize, rows: usize, columns: usize) -> Grid {
        // rows of parts each pack the second matrix, and columns of parts each read the first one,
        // which costs about half as much
        let cost = |&column_parts: &usize| 2 * parts / column_parts * columns + column_parts * rows;
        let most = (columns / PART_COLUMNS).max(1);
        let divisors = (1..=parts.min(most)).filter(|c| parts.is_multiple_of(*c));
        // a part has at least a few rows, if that can be
        let is_high = |c: &usize| parts / c <= rows.div_ceil(TILE_ROWS);
        let column_parts = divisors.min_by_key(|c| (!is_high(c), cost(c))).unwrap_or(1);
        Grid {
            row_parts: parts / column_parts,
            column_parts,
        }
    }

    /// The part of so many blocks of rows.
    fn rows(self, part: usize, blocks: usize) -> Range<usize> {
        let at = |part: usize| blocks * part / self.row_parts;
        let part = part / self.column_parts;
        at(part)..at(part + 1)
    }

    fn columns(self, part: usize, n: usize) -> Range<usize> {
        let blocks = n.div_ceil(PART_COLUMNS);
        let at = |part: usize| (blocks * part / self.column_parts * PART_COLUMNS).min(n);
        let part = part % self.column_parts;
        at(part)..at(part + 1)
    }
}

/// Where the output is.
#[derive(Clone, Copy)]
struct Out(*mut u8);

/// A block of the output: where it begins, how far apart its rows are, and which rows and columns it
/// has.
struct Block<T> {
    start: *mut T,
    ld: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// A matrix with the distances between neighbours in a column and in a row.
#[derive(Clone, Copy)]
struct Operand<'a, T> {
    data: &'a [T],
    row: usize,
    column: usize,
}

impl<'a, T> Operand<'a, T> {
    /// `rows` by `columns` as the product sees it.
    fn new(data: &'a [T], rows: usize, columns: usize, transposed: bool) -> Operand<'a, T> {
        let (row, column) = if transposed { (1, rows) } else { (columns, 1) };
        Operand { data, row, column }
    }

    /// The part with these rows and columns. A panic if it has other elements than the matrix.
    fn part(self, rows: Range<usize>, columns: Range<usize>) -> Strided<T> {
        let at = |row: usize, column: usize| row * self.row + column * self.column;
        let is_in_bounds = rows.is_empty()
            || columns.is_empty()
            || at(rows.end - 1, columns.end - 1) < self.data.len();
        assert!(is_in_bounds, "a matrix product out of bounds"); // the shapes were checked when the node was made
        Strided {
            start: self
                .data
                .as_ptr()
                .wrapping_add(at(rows.start, columns.start)),
            row: self.row,
            column: self.column,
        }
    }
}

/// A block of a product, with sums over these places of `k`.
///
/// # Safety
/// The block can be written, and nobody else works on it.
unsafe fn product<T: Vectors>(a: Operand<'_, T>, b: Operand<'_, T>, k: Range<usize>, c: Block<T>) {
    let (m, n) = (c.rows.len(), c.columns.len());
    let (a, b) = (a.part(c.rows, k.clone()), b.part(k.clone(), c.columns));
    let k = k.len();
    if k == 0 {
        for i in 0..m {
            // SAFETY: a row of the block.
            unsafe { std::slice::from_raw_parts_mut(c.start.add(i * c.ld), n) }.fill(T::default());
        }
        return;
    }
    let p = Product {
        m,
        k,
        n,
        a,
        b,
        c: c.start,
        ldc: c.ld,
    };
    // SAFETY: the largest index of each matrix was checked just now; the caller's promise.
    unsafe {
        match &T::table().tiles {
            Some(tiles) => tiles.run(&p),
            None => library(&p),
        }
    }
}

/// A product by matrixmultiply.
///
/// # Safety
/// As of [`Tiles::run`](super::kernels::tile::Tiles::run).
unsafe fn library<T: Vectors>(p: &Product<T>) {
    macro_rules! gemm {
        ($gemm:ident $T:ident) => {
            // SAFETY: the caller's promise; the type is this one.
            unsafe {
                matrixmultiply::$gemm(
                    p.m,
                    p.k,
                    p.n,
                    1.0,
                    p.a.start.cast(),
                    p.a.row as isize,
                    p.a.column as isize,
                    p.b.start.cast(),
                    p.b.row as isize,
                    p.b.column as isize,
                    0.0,
                    p.c.cast::<$T>(),
                    p.ldc as isize,
                    1,
                )
            }
        };
    }
    match T::DTYPE {
        DType::F32 => gemm!(sgemm f32),
        _ => gemm!(dgemm f64),
    }
}
