//! Sizes that several passes speak of.

use crate::math::fold::{CHUNK, Lines};

/// How a kernel's elements are divided into blocks: by the lines that its functions and reductions
/// go over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Blocks {
    /// Anyhow: it goes over no lines, or over lines that are reduced row by row.
    Any,
    /// A block ends where a contiguous line of this length does. The line is reduced chunk by chunk.
    InLines(usize),
    /// A block has whole contiguous lines of this length: some short ones, or a long one.
    OfLines(usize),
    /// Strided lines are reduced row by row, in strips of as many columns as a block has elements.
    InStrips(Lines),
    /// A block has some strided lines, transposed: rows of as many elements as go through a step at
    /// once, one from each line.
    OfColumns(Lines),
}

/// A block has one contiguous line, if that is at least so long; else some.
const ALONE: usize = 256;

impl Blocks {
    /// Blocks of whole lines.
    pub(crate) fn of_whole(lines: Lines) -> Blocks {
        match lines.inner {
            1 => Blocks::OfLines(lines.n),
            _ => Blocks::OfColumns(lines),
        }
    }

    /// Both together; none if they do not fit.
    pub(crate) fn with(self, other: Blocks) -> Option<Blocks> {
        match (self, other) {
            (Blocks::Any, blocks) | (blocks, Blocks::Any) => Some(blocks),
            // whoever has whole lines can also reduce them
            (Blocks::OfLines(a), Blocks::InLines(b)) | (Blocks::InLines(b), Blocks::OfLines(a)) => {
                (a == b).then_some(Blocks::OfLines(a))
            }
            (a, b) => (a == b).then_some(a),
        }
    }

    /// The length of contiguous lines.
    pub(crate) fn line(self) -> Option<usize> {
        match self {
            Blocks::InLines(n) | Blocks::OfLines(n) => Some(n),
            Blocks::Any | Blocks::InStrips(_) | Blocks::OfColumns(_) => None,
        }
    }

    /// The length of contiguous lines that must not be cut.
    pub(crate) fn whole_line(self) -> Option<usize> {
        match self {
            Blocks::OfLines(n) => Some(n),
            _ => None,
        }
    }

    /// The lines of which blocks have whole ones.
    pub(crate) fn whole_lines(self) -> Option<Lines> {
        match self {
            Blocks::OfLines(n) => Some(Lines { n, inner: 1 }),
            Blocks::OfColumns(lines) => Some(lines),
            Blocks::Any | Blocks::InLines(_) | Blocks::InStrips(_) => None,
        }
    }

    /// Whether a block is one contiguous line.
    pub(crate) fn is_one_line(self) -> bool {
        matches!(self, Blocks::OfLines(_)) && self.has_long_lines()
    }

    /// Whether a result for each line is kept once, instead of once for each of its elements: a
    /// block has one line only, or the same number of elements of each line side by side.
    pub(crate) fn has_long_lines(self) -> bool {
        match self {
            Blocks::OfLines(n) => n >= ALONE,
            Blocks::OfColumns(_) => true,
            Blocks::Any | Blocks::InLines(_) | Blocks::InStrips(_) => false,
        }
    }
}

/// The size of a product of `[m, k]` by `[k, n]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProductSize {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
}

/// The most elements of a block, if no line is longer: a chunk of a reduction of contiguous lines.
pub(crate) const BLOCK: usize = CHUNK;

/// Whether a block has a line of this length whole. A longer one is a number of blocks, each a chunk
/// of its reduction. Fusion, cuts and kernels must all say the same of a line, hence this function.
pub(crate) fn fits_a_block(line: usize) -> bool {
    line <= BLOCK
}
