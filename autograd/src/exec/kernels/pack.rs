//! Packing for matrix products: columns of a matrix, copied into panels, which are the columns of
//! one tile with rows that follow each other ([`tile`](super::tile)).

use super::{
    tile::{Strided, panel},
    vector::Part,
};

/// Panels that are filled together, so that more of each row is read at once.
const TOGETHER: usize = 4;

/// Copies `k` rows of `width` columns into panels of at most so many vectors each. Behind the last
/// column come zeros up to a whole vector.
///
/// # Safety
/// The matrix can be read, and there is room for the panels.
#[inline(always)]
pub(super) unsafe fn pack<V: Part>(
    from: Strided<V::Elem>,
    (k, width): (usize, usize),
    vectors: usize,
    to: *mut V::Elem,
) {
    let mut j = 0;
    // SAFETY: the caller's promises.
    unsafe {
        if from.column == 1 {
            return rows::<V>(from, (k, width), vectors, to);
        }
        while j < width {
            let n = panel((width - j).div_ceil(V::N), vectors);
            for v in 0..n {
                let at = j + v * V::N;
                let columns = V::N.min(width - at);
                let to = to.add(j * k + v * V::N);
                if from.row == 1 && columns == V::N {
                    transpose::<V>(from.from(0, at), k, to, n * V::N);
                } else {
                    elements::<V>(from.from(0, at), (k, columns), to, n * V::N);
                }
            }
            j += n * V::N;
        }
    }
}

/// Columns whose rows are contiguous.
#[inline(always)]
unsafe fn rows<V: Part>(
    from: Strided<V::Elem>,
    (k, width): (usize, usize),
    vectors: usize,
    to: *mut V::Elem,
) {
    let panel_width = vectors * V::N;
    // SAFETY: the caller's promises.
    unsafe {
        let mut j = 0;
        // panels of the full width, none of which is near the end, where they may be narrower
        while j + (TOGETHER + 2) * panel_width <= width {
            for l in 0..k {
                let (from, to) = (
                    from.start.add(l * from.row + j),
                    to.add(j * k + l * panel_width),
                );
                for p in 0..TOGETHER {
                    for v in 0..vectors {
                        let at = (p * vectors + v) * V::N;
                        V::load(from.add(at)).store(to.add(p * panel_width * k + v * V::N));
                    }
                }
            }
            j += TOGETHER * panel_width;
        }
        while j < width {
            let n = panel((width - j).div_ceil(V::N), vectors);
            let columns = (width - j).min(n * V::N);
            let last = V::first(columns - (n - 1) * V::N);
            for l in 0..k {
                let (from, to) = (
                    from.start.add(l * from.row + j),
                    to.add(j * k + l * n * V::N),
                );
                for v in 0..n - 1 {
                    V::load(from.add(v * V::N)).store(to.add(v * V::N));
                }
                V::load_first(from.add((n - 1) * V::N), last).store(to.add((n - 1) * V::N));
            }
            j += n * V::N;
        }
    }
}

/// A vector of columns, each of which is contiguous.
#[inline(always)]
unsafe fn transpose<V: Part>(from: Strided<V::Elem>, k: usize, to: *mut V::Elem, width: usize) {
    let whole = k / V::QUAD * V::QUAD;
    // SAFETY: the caller's promises.
    unsafe {
        for l in (0..whole).step_by(V::QUAD) {
            let columns = V::columns(from.start.add(l), from.column);
            for (q, column) in columns.into_iter().take(V::QUAD).enumerate() {
                column.store(to.add((l + q) * width));
            }
        }
        let rest = from.from(whole, 0);
        elements::<V>(rest, (k - whole, V::N), to.add(whole * width), width);
    }
}

/// Columns at any distance, one element after the other.
#[inline(always)]
unsafe fn elements<V: Part>(
    from: Strided<V::Elem>,
    (k, columns): (usize, usize),
    to: *mut V::Elem,
    width: usize,
) {
    for l in 0..k {
        // SAFETY: the caller's promises.
        unsafe {
            V::of(0.0).store(to.add(l * width));
            for c in 0..columns {
                *to.add(l * width + c) = *from.from(l, c).start;
            }
        }
    }
}
