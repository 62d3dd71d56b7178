//! Matrix products in parts, which are rows of the output: by tiles of our own
//! ([`tile`](super::kernels::tile)) where the processor has fused multiply-adds, by the crate
//! matrixmultiply elsewhere. Kernels that continue with rows of a product compute them here, too.
//!
//! How rows are split never changes a bit: each element of the output is a sum of its own, in the
//! same order. The order of our own tiles is the canonical one ([`op::linalg`](crate::op::linalg));
//! that of matrixmultiply differs in the last bits.

#![allow(unsafe_code)] // calls of kernels that take pointers

use super::kernels::{
    Vectors,
    tile::{Product, Stored},
};
use crate::{
    error::OpError,
    op::linalg::Batches,
    plan::{size::ProductSize, tiling::TILE_ROWS},
    shape::Shape,
    tensor::DType,
    view::{TensorView, TensorViewMut},
};

/// One operand: how it lies in memory, and whether it is read transposed.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) view: TensorView<'a>,
    pub(crate) transposed: bool,
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
}

/// Some rows of a product of size `[m, k, n]`, for a kernel that reads them next; the matrices
/// are given with whether they are read transposed.
pub(crate) fn rows(
    (a, a_t): (&[f32], bool),
    (b, b_t): (&[f32], bool),
    ProductSize { m, k, n }: ProductSize,
    first: usize,
    out: &mut [f32],
) {
    product(
        Strided::new(a, m, k, a_t),
        Strided::new(b, k, n, b_t),
        out,
        first,
        (out.len() / n, k, n),
    );
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
}

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
        let joined = joined && !a.transposed;
        let m = if joined { count / n } else { m };
        let batches = (!joined).then(|| batches.offsets().collect());
        Job {
            a,
            b,
            out: Out(out.start()),
            dtype,
            size: (m, k, n),
            batches,
            parts,
        }
    }

    /// Does one of its parts: some rows.
    pub(crate) fn part(&self, part: usize) -> Result<(), OpError> {
        match self.dtype {
            DType::F32 => self.rows::<f32>(part),
            _ => self.rows::<f64>(part),
        }
    }

    fn rows<T: Gemm>(&self, part: usize) -> Result<(), OpError> {
        let (m, k, n) = self.size;
        let (a, b) = (self.a.view.slice::<T>()?, self.b.view.slice::<T>()?);
        let batches = self.batches.as_deref().unwrap_or(&[(0, 0, 0)]);
        let blocks = m.div_ceil(TILE_ROWS); // of each product
        let at = |part: usize| blocks * batches.len() * part / self.parts;
        let (mut block, end) = (at(part), at(part + 1));
        while block < end {
            let ((at_a, at_b, at_c), first) = (batches[block / blocks], block % blocks * TILE_ROWS);
            let count = (end - block).min(blocks - block % blocks);
            let rows = (count * TILE_ROWS).min(m - first);
            // SAFETY: each part has rows of its own, within the output.
            let c = unsafe { self.out.elements::<T>(at_c + first * n, rows * n) };
            if k == 0 {
                c.fill(T::default());
            } else if n > 0 {
                let a = Strided::new(&a[at_a..at_a + m * k], m, k, self.a.transposed);
                let b = Strided::new(&b[at_b..at_b + k * n], k, n, self.b.transposed);
                product(a, b, c, first, (rows, k, n));
            }
            block += count;
        }
        Ok(())
    }
}

/// Where the output is.
#[derive(Clone, Copy)]
struct Out(*mut u8);

impl Out {
    /// # Safety
    /// They are elements of the output, of this type, and nobody else's meanwhile.
    unsafe fn elements<'r, T>(self, first: usize, count: usize) -> &'r mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.cast::<T>().wrapping_add(first), count) }
    }
}

/// A matrix with the distances between neighbours in a column and in a row.
#[derive(Clone, Copy)]
struct Strided<'a, T> {
    data: &'a [T],
    row: usize,
    column: usize,
}

impl<'a, T> Strided<'a, T> {
    /// `rows` by `columns` as the product sees it.
    fn new(data: &'a [T], rows: usize, columns: usize, transposed: bool) -> Strided<'a, T> {
        let (row, column) = if transposed { (1, rows) } else { (columns, 1) };
        Strided { data, row, column }
    }
}

/// Number types of which there are products.
trait Gemm: Vectors {
    /// `c = a·b` for `(m, k, n)`, by matrixmultiply.
    ///
    /// # Safety
    /// The pointers are valid for matrices of these sizes and strides (row, column), and `c` is not
    /// aliased.
    unsafe fn library(
        size: (usize, usize, usize),
        a: *const Self,
        sa: (isize, isize),
        b: *const Self,
        sb: (isize, isize),
        c: *mut Self,
    );
}

macro_rules! gemm {
    ($($T:ident: $gemm:ident;)*) => { $(
        impl Gemm for $T {
            unsafe fn library(
                (m, k, n): (usize, usize, usize),
                a: *const $T,
                sa: (isize, isize),
                b: *const $T,
                sb: (isize, isize),
                c: *mut $T,
            ) {
                // SAFETY: the caller's promise is the callee's condition.
                unsafe { matrixmultiply::$gemm(m, k, n, 1.0, a, sa.0, sa.1, b, sb.0, sb.1, 0.0, c, n as isize, 1) }
            }
        }
    )* };
}
gemm! { f32: sgemm; f64: dgemm; }

/// The rows of `c`, which are those of the product from `first_row` on.
fn product<T: Gemm>(
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    c: &mut [T],
    first_row: usize,
    (m, k, n): (usize, usize, usize),
) {
    let last = |s: Strided<'_, T>, rows: usize, columns: usize| {
        (rows - 1) * s.row + (columns - 1) * s.column
    };
    let in_bounds = last(a, first_row + m, k) < a.data.len()
        && last(b, k, n) < b.data.len()
        && m * n == c.len();
    assert!(in_bounds, "a matrix product out of bounds"); // the shapes were checked when the node was made
    let a_start = a.data.as_ptr().wrapping_add(first_row * a.row);
    if let Some(tiles) = &T::table().tiles {
        let (a, b) = (
            stored(a_start, a.row, a.column),
            stored(b.data.as_ptr(), b.row, b.column),
        );
        let p = Product {
            m,
            k,
            n,
            a,
            b,
            c: c.as_mut_ptr(),
            ldc: n,
        };
        // SAFETY: the largest index of each matrix was checked just now; sizes are at least 1; `c`
        // is borrowed mutably.
        return unsafe { tiles.run(&if n > 1 { p } else { transposed(p) }) };
    }
    let strides = |s: Strided<'_, T>| (s.row as isize, s.column as isize);
    // SAFETY: as above.
    unsafe {
        T::library(
            (m, k, n),
            a_start,
            strides(a),
            b.data.as_ptr(),
            strides(b),
            c.as_mut_ptr(),
        )
    }
}

/// A matrix whose rows or columns have neighbouring elements.
fn stored<T>(start: *const T, row: usize, column: usize) -> Stored<T> {
    let transposed = column != 1;
    Stored {
        start,
        stride: if transposed { column } else { row },
        transposed,
    }
}

/// A product with a single column as one with a single row: `(a·b)ᵀ = bᵀ·aᵀ`. Tiles are wide, not
/// high.
fn transposed<T: Copy>(p: Product<T>) -> Product<T> {
    let swapped = |s: Stored<T>| Stored {
        transposed: !s.transposed,
        ..s
    };
    Product {
        m: p.n,
        n: p.m,
        a: swapped(p.b),
        b: swapped(p.a),
        ldc: p.m,
        ..p
    }
}
