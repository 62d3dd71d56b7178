//! Sizes that several passes speak of.

use crate::math::sum::SUM_CHUNK;

/// Elements as `[outer, n, inner]`, of which the middle axis is reduced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lines {
    /// The elements of a line,
    pub(crate) n: usize,
    /// and how far they are apart.
    pub(crate) inner: usize,
}

/// The size of a product of `[m, k]` by `[k, n]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProductSize {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
}

/// The most elements of a block: a chunk of a sum.
pub(crate) const BLOCK: usize = SUM_CHUNK;

/// Whether a block has a line of this length whole. A longer one is a number of blocks, each a chunk
/// of its sum. Fusion, cuts and kernels must all say the same of a line, hence this function.
pub(crate) fn fits_a_block(line: usize) -> bool {
    line <= BLOCK
}
