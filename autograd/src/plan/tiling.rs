//! How a fused kernel is cut up: into parts for threads, blocks for the first-level cache, and a
//! part's scratch memory into registers. Used by fusion (can a product be taken in?), by emission
//! (the layout) and by the executor (where parts begin).
//!
//! Two things may not be cut. Lines that a function goes over stay in one block; and the chunks of a
//! reduction, whose order is fixed by the shape ([`math::fold`](crate::math::fold)), stay in
//! one part. So parts end between lines and chunks only, and how many of them there are changes no
//! bit.

use super::{
    Plan,
    index::{KernelId, Reg},
    kernel::{Cuts, Fused, Kernel, Layout, Panel, Read, Register},
    size::{BLOCK, Blocks, fits_a_block},
};
use crate::{
    index::list_bytes,
    math::fold::{CHUNK, Lines},
    tensor::DType,
};

/// The most elements that the loop of a step takes at once: those of eight registers of AVX-512, of
/// f32.
pub(crate) const MAX_VECTOR_GROUP: usize = 128;
/// The most elements that are taken through a step before the next one: what it costs to begin a
/// step is little beside a loop over them, and some temporaries of this size stay in the first-level
/// cache.
pub(crate) const MAX_SPAN: usize = 4 * MAX_VECTOR_GROUP;
/// The elements of all temporaries of a kernel that stay in the first-level cache.
const NEAR_TEMPORARIES: usize = 4 << 10;
/// The least rows that blocks end with, so that what is broadcast along them or over them need not be
/// copied.
const LEAST_ROW: usize = 256;
/// Blocks are this much longer than needed, so that they do not all begin at the same place of a
/// page of the cache.
const PADDING: usize = 16;
/// The elements of a block of the largest size.
pub(crate) const PADDED_BLOCK: usize = BLOCK + PADDING;
/// The f32 elements of a cache line.
const CACHE_LINE: usize = 16;
/// The elements of a matrix that stays in the first-level cache, however often it is read.
const NEAR: usize = 8 << 10;
/// The most elements of a panel: it stays in the second-level cache.
const PANEL: usize = 32 << 10;
/// The rows of a panel, or a multiple of it: the f32 elements of a cache line.
const PANEL_ROWS: usize = CACHE_LINE;
/// Products are cut at multiples of this many rows, so that no tile is cut.
pub(crate) const TILE_ROWS: usize = 8;

/// Whether a transposed array can be read by panels, whose rows, or planes of them, have so many
/// elements.
pub(super) fn fits_a_panel(period: usize) -> bool {
    period <= PANEL / PANEL_ROWS
}

impl Cuts {
    /// The last place, not beyond this one, where the kernel may be cut.
    pub(crate) fn round_down(&self, element: usize) -> usize {
        element - element % self.period % self.grain
    }
}

impl Layout {
    /// The place of `elements` more elements, which begin at a cache line.
    fn take(&mut self, elements: usize) -> usize {
        let start = self.elements;
        // what is too much for any memory is refused when it is reserved
        let rounded = elements
            .checked_next_multiple_of(CACHE_LINE)
            .unwrap_or(usize::MAX);
        self.elements = self.elements.saturating_add(rounded);
        start
    }

    /// Of a scalar kernel: one number for each register, in their order.
    pub(super) fn of_scalars(k: &Fused) -> Layout {
        Layout {
            elements: k.registers.len(),
            ..Layout::default()
        }
    }

    /// Of a fused kernel. Whoever changes registers, functions of lines or products makes it again.
    pub(super) fn of_blocks(k: &Fused) -> Layout {
        let mut layout = Layout {
            cuts: k.cuts(),
            ..Layout::default()
        };
        let block = k.block_register().saturating_add(PADDING);
        layout.span = k.span();
        for register in k.registers.iter() {
            let start = layout.take(match register {
                Register::Temporary => layout.span + PADDING,
                _ if register.is_block() => block,
                _ => MAX_VECTOR_GROUP,
            });
            layout.registers.push(start);
        }
        let of_values = k.registers.enumerate().filter(|(_, r)| r.is_of_value());
        layout.of_values = of_values.map(|(register, _)| register).collect();
        if !k.line_steps.is_empty() {
            let lines = PADDED_BLOCK; // no block has more of them
            layout.line_steps = [block, lines, lines].map(|n| layout.take(n));
        }
        for product in k.products.iter() {
            let start = layout.take(k.rows_together().saturating_mul(product.size.n));
            layout.products.push(start);
        }
        layout.take_panels(k);
        layout
    }

    /// Makes room for panels of transposed sources, where that is worth it.
    fn take_panels(&mut self, k: &Fused) {
        let transposed = |register: &Reg| match k.registers[*register] {
            Register::Source {
                read: Read::Strided(access),
                ..
            } => k.accesses[access].transposed_period(),
            _ => None,
        };
        let in_order = !matches!(k.blocks, Blocks::OfColumns(_) | Blocks::InStrips(_));
        let registers = || self.of_values.iter().copied();
        let Some(period) = registers().filter_map(|r| transposed(&r)).max() else {
            return;
        };
        let rows = (PANEL / 2 / period).max(PANEL_ROWS) / PANEL_ROWS * PANEL_ROWS;
        let panel = rows.saturating_mul(period);
        let can_end = k.ends_anywhere() || self.cuts.is_some_and(|cuts| cuts.grain <= panel);
        if !in_order || panel > PANEL || !can_end {
            return;
        }
        self.panel = panel;
        let panels: Vec<Reg> = registers()
            .filter(|r| transposed(r).is_some_and(|period| panel.is_multiple_of(period)))
            .collect();
        for register in panels {
            let start = self.take(panel.min(k.count));
            self.panels.push(Panel { register, start });
        }
    }

    /// The bytes that the layout itself takes.
    pub(super) fn bytes(&self) -> usize {
        let lists = list_bytes(&self.of_values) + list_bytes(&self.panels);
        self.registers.bytes() + lists + self.products.bytes()
    }
}

impl Kernel {
    /// The scratch bytes that it needs to run in `parts` parts.
    pub(crate) fn scratch_bytes(&self, parts: usize) -> usize {
        match self {
            Kernel::Fused(k) | Kernel::Scalar(k) => k.scratch_bytes(parts),
            Kernel::Product { .. } | Kernel::Opaque { .. } => 0,
        }
    }

    /// The most parts that it can be split into, and that are worthwhile on `threads` threads.
    pub(crate) fn max_parts(&self, threads: usize) -> usize {
        match self {
            Kernel::Fused(k) if k.count == 0 || k.layout.cuts.is_none() => 1,
            // a transposed second matrix is packed anew for each part
            Kernel::Fused(k) if k.products.iter().any(|p| p.b.transposed) => threads,
            Kernel::Fused(_) | Kernel::Product { .. } => 2 * threads,
            Kernel::Opaque { how, .. } if how.is_costly => threads,
            Kernel::Opaque { .. } => 2 * threads,
            Kernel::Scalar(_) => 1,
        }
    }
}

impl Plan {
    /// The most parts of a kernel, on `threads` threads.
    pub(crate) fn max_parts(&self, kernel: KernelId, threads: usize) -> usize {
        let kernel = &self.kernels[kernel];
        let most = kernel.max_parts(threads);
        match kernel {
            Kernel::Opaque { out, how, .. } => {
                most.min(how.along.divide(self.shape(*out), most).units.max(1))
            }
            _ => most,
        }
    }
}

impl Fused {
    /// The scratch bytes that it needs to run in `parts` parts.
    pub(crate) fn scratch_bytes(&self, parts: usize) -> usize {
        self.partial_bytes()
            .saturating_add(self.part_bytes().saturating_mul(parts))
    }

    /// The scratch bytes of each part.
    pub(crate) fn part_bytes(&self) -> usize {
        cache_lines(self.layout.elements, self.dtype)
    }

    /// The bytes of the results of chunks.
    pub(crate) fn partial_bytes(&self) -> usize {
        let numbers = self.reductions.iter().map(|s| s.partials(self.count));
        cache_lines(numbers.fold(0, usize::saturating_add), self.dtype)
    }

    /// How many elements are taken through the steps before the next ones: whole lines where they
    /// are short.
    pub(crate) fn block(&self) -> usize {
        match self.blocks {
            Blocks::OfLines(n) if self.blocks.has_long_lines() => n,
            Blocks::OfLines(n) | Blocks::InLines(n) if fits_a_block(n) => BLOCK / n * n,
            Blocks::OfColumns(lines) => lines.n.saturating_mul(MAX_VECTOR_GROUP),
            _ => BLOCK,
        }
    }

    /// The length of rows within which all that it reads strided is one by one or the same, and
    /// which blocks may end with; none if there is none that is worth it.
    pub(crate) fn row(&self) -> Option<usize> {
        let rows = self.accesses.iter().filter_map(|walk| {
            let (sizes, strides, _) = walk.parts();
            let is_row = matches!(strides.last(), Some(0 | 1));
            sizes.last().copied().filter(|_| is_row)
        });
        let row = rows.min().filter(|&row| row >= LEAST_ROW)?;
        let fits = match self.blocks {
            Blocks::OfColumns(_) => false,
            Blocks::InStrips(lines) => row.is_multiple_of(lines.inner),
            blocks => blocks.line().is_none_or(|line| row.is_multiple_of(line)),
        };
        fits.then_some(row)
    }

    /// How many elements are taken through a step before the next one: fewer if there are many
    /// temporaries.
    fn span(&self) -> usize {
        let is_temporary = |register: &&Register| **register == Register::Temporary;
        let count = self.registers.iter().filter(is_temporary).count();
        let near = NEAR_TEMPORARIES / count.max(1);
        let most = near.min(self.block_register()).min(MAX_SPAN);
        1 << most.max(MAX_VECTOR_GROUP).ilog2()
    }

    /// The elements of a register that holds a block.
    pub(super) fn block_register(&self) -> usize {
        // a kernel of few elements needs short blocks: a kernel may have a thousand of them, and a
        // graph thousands of such kernels
        let block = match self.blocks {
            Blocks::OfColumns(_) => self.block(), // columns that are not there take room, too
            _ => self.block().min(self.count),
        };
        block
            .checked_next_multiple_of(MAX_VECTOR_GROUP)
            .unwrap_or(usize::MAX)
    }

    /// Where a stretch of elements may end that is worked on together, from element `start` on and
    /// not beyond `end`; `end` if it is not long.
    pub(crate) fn end_of_panels(&self, start: usize, end: usize) -> usize {
        let most = match self.layout.panels.is_empty() {
            true => end,
            false => end.min(start + self.layout.panel),
        };
        match self.layout.cuts {
            Some(cuts) if most < end && !self.ends_anywhere() => cuts.round_down(most),
            _ => most,
        }
    }

    /// Whether nothing is said about where its blocks end.
    fn ends_anywhere(&self) -> bool {
        self.blocks == Blocks::Any && self.reductions.is_empty() && self.products.is_empty()
    }

    /// How many rows of its products are computed together: few enough to be still in the cache
    /// when they are read.
    pub(crate) fn rows_together(&self) -> usize {
        let Some(p) = self.products.first() else {
            return 0;
        };
        let (k, n) = (p.size.k, p.size.n);
        // many rows share the packing of a second matrix that does not stay in the first-level
        // cache, or is transposed
        let is_near = k * n <= NEAR && self.products.iter().all(|p| !p.b.transposed);
        let rows = if is_near {
            (1 << 13) / n
        } else {
            ((1 << 14) / n).max(128)
        };
        let grain = self.product_grain;
        (rows / grain * grain).max(grain).min(p.size.m)
    }

    fn cuts(&self) -> Option<Cuts> {
        if let Some(p) = self.products.first() {
            return Some(Cuts {
                period: self.count,
                grain: self.product_grain * p.size.n,
            });
        }
        // parts count the elements of lines and strips, one after the other: see
        // `exec::kernels::fused`
        match self.blocks {
            Blocks::OfColumns(_) => {
                return Some(Cuts {
                    period: self.count,
                    grain: self.block(),
                });
            }
            Blocks::InStrips(Lines { n, inner }) => {
                return Some(Cuts {
                    period: n * inner,
                    grain: n * BLOCK,
                });
            }
            Blocks::Any | Blocks::InLines(_) | Blocks::OfLines(_) => {}
        }
        match cuts_of_folds(self.blocks, &self.reduced_lines()) {
            FoldCuts::Nowhere => None,
            FoldCuts::At(cuts) => Some(cuts),
            FoldCuts::BetweenLines => Some(Cuts {
                period: self.count,
                grain: self.block(),
            }),
        }
    }
}

/// The bytes of `numbers` numbers, in whole cache lines; far too many if the product is beyond
/// a `usize`.
fn cache_lines(numbers: usize, dtype: DType) -> usize {
    let bytes = numbers.saturating_mul(dtype.size());
    bytes
        .checked_next_multiple_of(CACHE_LINE * 4)
        .unwrap_or(usize::MAX)
}

impl Lines {
    /// The chunk, counted over all lines, that an element of contiguous lines is in.
    pub(crate) fn chunk_of(self, element: usize) -> usize {
        let (line, at) = (element / self.n, element % self.n);
        match self.inner {
            // without further divisions, which take longer than what is done with a chunk
            1 => line * self.n.div_ceil(CHUNK) + at / CHUNK,
            _ => line * self.chunks() + at / self.chunk(),
        }
    }
}

/// Where reductions allow cuts.
enum FoldCuts {
    Nowhere,
    /// There are none: anywhere between lines.
    BetweenLines,
    At(Cuts),
}

/// Where a kernel may be cut that has such blocks and reduces these lines.
fn cuts_of_folds(blocks: Blocks, folds: &[Lines]) -> FoldCuts {
    let Some((&first, others)) = folds.split_first() else {
        return FoldCuts::BetweenLines;
    };
    let cuts = Cuts {
        period: first.n * first.inner,
        grain: first.chunk(),
    };
    let line = blocks.whole_line();
    let keeps_lines = |place: usize| line.is_none_or(|line| place.is_multiple_of(line));
    // cuts for reductions over different lines would have to suit both; that is not tried
    if others.iter().all(|&other| other == first)
        && keeps_lines(cuts.grain)
        && keeps_lines(cuts.period)
    {
        FoldCuts::At(cuts)
    } else {
        FoldCuts::Nowhere
    }
}

/// The least number of rows of `n` elements such that a kernel over `count` elements can be cut at
/// all multiples of them; none if there is none.
pub(super) fn rows_between_cuts(
    count: usize,
    n: usize,
    blocks: Blocks,
    folds: &[Lines],
) -> Option<usize> {
    // example: a sum over all of 4,096 elements may be cut every 1,024. Sums of lines of 1,500 may
    // be cut between lines only, since chunks are counted from the beginning of each line
    let place = match cuts_of_folds(blocks, folds) {
        FoldCuts::Nowhere => return None,
        FoldCuts::At(Cuts { period, grain }) if period >= count || period.is_multiple_of(grain) => {
            grain
        }
        FoldCuts::At(Cuts { period, .. }) => period,
        FoldCuts::BetweenLines => blocks.whole_line().unwrap_or(1),
    };
    Some(lcm(lcm(place, n) / n, TILE_ROWS))
}

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b)
}
