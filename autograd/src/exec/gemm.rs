//! Matrix products, large ones split over rows: f32 by tiles of our own
//! ([`tile`](super::kernels::tile)) where the processor has fused multiply-adds, all else by matrixmultiply.
//!
//! How rows are split never changes a bit: each element of the output is summed by itself, in the same order.

#![allow(unsafe_code)] // calls of kernels that take pointers

use super::crew;
#[cfg(target_arch = "x86_64")]
use super::kernels::tile::{self, Product, Stored};
use crate::{
    error::OpError,
    op::linalg::Batches,
    plan::kernel::ROWS,
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
        shape.with(rank - 2, shape[rank - 1]).with(rank - 1, shape[rank - 2])
    }
}

/// Some rows of a product of size `[m, k, n]`, for a kernel that goes on with them; the matrices are given with whether
/// they are read transposed.
pub(crate) fn rows(
    (a, a_t): (&[f32], bool),
    (b, b_t): (&[f32], bool),
    [m, k, n]: [usize; 3],
    first: usize,
    out: &mut [f32],
) {
    product(Strided::new(a, m, k, a_t), Strided::new(b, k, n, b_t), out, first, (out.len() / n, k, n));
}

/// `out = a·b`, batched; the types are those that the op has checked.
pub(crate) fn matmul(a: Matrix<'_>, b: Matrix<'_>, mut out: TensorViewMut<'_>) -> Result<(), OpError> {
    let batches = Batches::new(&a.shape(), &b.shape(), out.shape);
    match out.dtype() {
        DType::F32 => {
            batched(&batches, (a.view.slice::<f32>()?, a.transposed), (b.view.slice()?, b.transposed), out.slice()?)
        }
        _ => batched(&batches, (a.view.slice::<f64>()?, a.transposed), (b.view.slice()?, b.transposed), out.slice()?),
    }
}

fn batched<T: Gemm>(
    batches: &Batches,
    (a, a_t): (&[T], bool),
    (b, b_t): (&[T], bool),
    c: &mut [T],
) -> Result<(), OpError> {
    let &Batches { m, k, n, .. } = batches;
    // the rows of a batch with one second matrix follow each other
    let joined = b.len() == k * n && a.len() * n == c.len() * k && !a_t && k > 0;
    let (m, batches) = if joined { (c.len() / n.max(1), None) } else { (m, Some(batches)) };
    let offsets = match batches {
        Some(batches) => batches.offsets().collect(),
        None => vec![(0, 0, 0)],
    };
    if m * n == 0 {
        return Ok(());
    }
    if k == 0 {
        c.fill(T::default());
        return Ok(());
    }
    for (at_a, at_b, at_c) in offsets {
        let a = Strided::new(&a[at_a..at_a + m * k], m, k, a_t);
        let b = Strided::new(&b[at_b..at_b + k * n], k, n, b_t);
        let c = &mut c[at_c..at_c + m * n];
        // about 50 products a nanosecond; a transposed second matrix is packed anew for each part
        let parts = crew::parts(m * k * n / 50).min(if b_t { crew::threads() } else { usize::MAX });
        let rows = m.div_ceil(parts).next_multiple_of(ROWS);
        let out = Rows(c.as_mut_ptr());
        crew::each(m.div_ceil(rows), &|part| {
            let count = rows.min(m - part * rows);
            // SAFETY: each part has rows of its own.
            let c = unsafe { std::slice::from_raw_parts_mut(out.at(part * rows * n), count * n) };
            product(a, b, c, part * rows, (count, k, n));
            Ok(())
        })?;
    }
    Ok(())
}

/// Where the rows of the output are.
#[derive(Clone, Copy)]
struct Rows<T>(*mut T);

impl<T> Rows<T> {
    fn at(self, element: usize) -> *mut T {
        self.0.wrapping_add(element)
    }
}

// SAFETY: no two threads take the same rows.
unsafe impl<T> Sync for Rows<T> {}

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

trait Gemm: Copy + Default + Send + Sync {
    /// `c = a·b` for `(m, k, n)`.
    ///
    /// # Safety
    /// The pointers are valid for matrices of these sizes and strides (row, column), and `c` is not aliased.
    unsafe fn gemm(
        size: (usize, usize, usize),
        a: *const Self,
        sa: (isize, isize),
        b: *const Self,
        sb: (isize, isize),
        c: *mut Self,
    );
}

impl Gemm for f32 {
    unsafe fn gemm(
        (m, k, n): (usize, usize, usize),
        a: *const f32,
        sa: (isize, isize),
        b: *const f32,
        sb: (isize, isize),
        c: *mut f32,
    ) {
        #[cfg(target_arch = "x86_64")]
        if tile::is_there() {
            let stored = |start, (row, column): (isize, isize)| {
                let transposed = column != 1;
                Stored { start, stride: if transposed { column } else { row } as usize, transposed }
            };
            let p = if n > 1 {
                Product { m, k, n, a: stored(a, sa), b: stored(b, sb), c }
            } else {
                // a single column is the row of the product of the transposed
                Product { m: 1, k, n: m, a: stored(b, (sb.1, sb.0)), b: stored(a, (sa.1, sa.0)), c }
            };
            // SAFETY: the caller's promise is the callee's condition.
            return unsafe { tile::run(&p) };
        }
        // SAFETY: as above.
        unsafe { matrixmultiply::sgemm(m, k, n, 1.0, a, sa.0, sa.1, b, sb.0, sb.1, 0.0, c, n as isize, 1) }
    }
}

impl Gemm for f64 {
    unsafe fn gemm(
        (m, k, n): (usize, usize, usize),
        a: *const f64,
        sa: (isize, isize),
        b: *const f64,
        sb: (isize, isize),
        c: *mut f64,
    ) {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { matrixmultiply::dgemm(m, k, n, 1.0, a, sa.0, sa.1, b, sb.0, sb.1, 0.0, c, n as isize, 1) }
    }
}

/// The rows of `c`, which are those of the product from `first_row` on.
fn product<T: Gemm>(
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    c: &mut [T],
    first_row: usize,
    (m, k, n): (usize, usize, usize),
) {
    let last = |s: Strided<'_, T>, rows: usize, columns: usize| (rows - 1) * s.row + (columns - 1) * s.column;
    let in_bounds = last(a, first_row + m, k) < a.data.len() && last(b, k, n) < b.data.len() && m * n == c.len();
    assert!(in_bounds, "a matrix product out of bounds"); // the shapes were checked when the node was made
    let strides = |s: Strided<'_, T>| (s.row as isize, s.column as isize);
    // SAFETY: the largest index of each matrix was checked just now; sizes are at least 1; `c` is borrowed mutably.
    unsafe {
        let a_start = a.data.as_ptr().add(first_row * a.row);
        T::gemm((m, k, n), a_start, strides(a), b.data.as_ptr(), strides(b), c.as_mut_ptr());
    }
}
