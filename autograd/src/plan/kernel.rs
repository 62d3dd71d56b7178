//! What a plan consists of: values, where they live, and the kernels that compute them.

use super::room;
use crate::{
    nodes::OpRef,
    op::{
        Id,
        pointwise::Function,
        reduce::{CHUNK, DEPTH},
    },
    shape::{Shape, Walk},
    tensor::DType,
};
use std::collections::HashMap;

/// Where the elements of a value are during a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Home {
    /// In a leaf's tensor: number in [`Plan::inputs`](super::Plan).
    Input(u32),
    /// In the arena, from this byte on.
    Arena(usize),
    /// In a tensor of its own, which the run hands out: number in [`Plan::outputs`](super::Plan).
    Output(u32),
    /// In the parameter that this update is for.
    Update(u32),
}

/// Elements somewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    /// The node of the program that it is the value of.
    pub(crate) node: u32,
    pub(crate) home: Home,
    pub(crate) dtype: DType,
    pub(crate) count: usize,
}

/// A value as one reader sees it: its elements, with this of the program's shapes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Operand {
    pub(crate) value: u32,
    pub(crate) shape: u32,
}

/// A kernel: what is done in one go.
pub(crate) enum Kernel {
    /// A region of elementwise work, block by block.
    Fused(Box<Fused>),
    /// Single numbers, one instruction each.
    Flat(Flat),
    /// A matrix product; the truth values say whether a matrix is read transposed.
    Product {
        a: (Operand, bool),
        b: (Operand, bool),
        out: Operand,
    },
    /// An op by its own `eval`.
    Op {
        op: OpRef,
        inputs: Vec<Operand>,
        out: Operand,
    },
}

/// Elementwise work on arrays of one shape: each block of elements is taken through a list of steps.
#[derive(Debug)]
pub(crate) struct Fused {
    pub(crate) dtype: DType,
    pub(crate) count: usize,
    /// Blocks never cross the ends of lines of this length.
    pub(crate) line: usize,
    /// Registers are numbered: sources, then temporaries, then kept blocks, then outputs.
    pub(crate) sources: Vec<Source>,
    pub(crate) temporaries: u32,
    /// Registers that hold a whole block, for sums.
    pub(crate) kept: u32,
    pub(crate) outputs: Vec<Output>,
    pub(crate) steps: Vec<Step>,
    /// Functions of rows, which are `line` long, between the steps.
    pub(crate) rows: Vec<RowStep>,
    pub(crate) sums: Vec<Sum>,
    /// Matrix products of which it computes some rows before it goes on with them; all have as many columns.
    pub(crate) products: Vec<Product>,
    /// It does so in multiples of this many rows.
    pub(crate) grain: usize,
    pub(crate) layout: Layout,
}

/// Where the scratch memory of one part of a fused kernel lies: in elements, counted from its beginning. It is made once, with
/// the kernel, for those who reserve the memory and for those who use it.
#[derive(Default, Debug)]
pub(crate) struct Layout {
    /// By register: a block, or a group where it holds the same number everywhere or is a temporary.
    pub(crate) registers: Vec<usize>,
    /// By register: its number among those that hold blocks, or [`NO_BLOCK`].
    pub(crate) block_of: Vec<u32>,
    /// For functions of rows: a result for each element, one for each row, and the maxima.
    pub(crate) rows: [usize; 3],
    /// By product: the rows that are worked on together.
    pub(crate) products: Vec<usize>,
    /// All of it: a multiple of a line of the cache.
    elements: usize,
}

impl Layout {
    /// So many more elements, which begin at a line of the cache.
    fn take(&mut self, elements: usize) -> usize {
        let start = self.elements;
        // what is too much for any memory is refused when it is reserved
        self.elements = self.elements.saturating_add(
            elements
                .checked_next_multiple_of(LINE)
                .unwrap_or(usize::MAX),
        );
        start
    }
}

/// Of a register that holds a group.
pub(crate) const NO_BLOCK: u32 = u32::MAX;
/// The elements that fill a line of the cache, whatever their type.
const LINE: usize = 16;

/// A matrix product whose elements are those of a fused kernel, in the same order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// The values with the matrices, and whether they are read transposed.
    pub(crate) a: (u32, bool),
    pub(crate) b: (u32, bool),
    /// `[m, k]` by `[k, n]`, after the axes of a batch were joined with the rows.
    pub(crate) size: [usize; 3],
    /// The value that it is written to, if anybody else reads it.
    pub(crate) out: Option<u32>,
}

/// A register that is read from a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) value: u32,
    pub(crate) read: Read,
}

/// How a source's elements belong to those of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    /// One by one.
    Whole,
    /// Broadcast.
    Walk(Walk),
    /// The number 0 or 1, without a value.
    Number(u8),
    /// One by one, from this of the kernel's products.
    Product(u32),
}

/// A register that is written to a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) value: u32,
}

/// A sum over lines of the kernel's elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    /// The register that is summed; none if it is summed by steps, chunk by chunk.
    pub(crate) from: Option<u32>,
    pub(crate) value: u32,
    /// Elements are `[outer, n, inner]`, summed over `n`.
    pub(crate) n: usize,
    pub(crate) inner: usize,
}

/// What a step does with the accumulator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// Nothing: a step that only reads or writes.
    Keep,
    /// Plus, minus, times, over register `a`.
    Add,
    Sub,
    Mul,
    Div,
    /// Register `a` minus, over the accumulator.
    SubFrom,
    DivInto,
    /// Plus, minus, times the product of registers `a` and `b`, which is rounded first.
    AddProduct,
    SubProduct,
    MulProduct,
    /// That product minus the accumulator.
    ProductSub,
    /// An op of one input.
    Unary(Id),
    /// An op of registers `a` and `b`.
    Binary(Id),
    /// An op of registers `a`, `b` and `c`.
    Ternary(Id),
    /// A whole power.
    Power(i32),
    /// Adds to sum number `a`.
    Sum,
    /// A function of registers `a`, `b` and `c`, written to register `store`. It leaves nothing in the accumulator.
    Function(Function),
}

/// One step of a fused kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) code: Code,
    /// The register that is read into the accumulator first, or [`NO_REGISTER`].
    pub(crate) load: u32,
    /// The register that the accumulator is written to when all is done, or [`NO_REGISTER`].
    pub(crate) store: u32,
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) c: u32,
}

pub(crate) const NO_REGISTER: u32 = u32::MAX;

/// A function of each row of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowStep {
    pub(crate) op: RowOp,
    /// It comes after so many steps.
    pub(crate) after: u32,
    /// The register with the block.
    pub(crate) from: u32,
    /// The value with a label for each row.
    pub(crate) labels: Option<u32>,
    /// The register that gets a number for each element; the same one for all of a row, if there is one a row.
    pub(crate) to: Option<u32>,
    /// The value that gets a number for each row.
    pub(crate) value: Option<u32>,
}

/// The functions of rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RowOp {
    Sum,
    Softmax,
    LogSoftmax,
    LogSumExp,
    CrossEntropy,
}

impl RowOp {
    /// Whether a row becomes one number.
    pub(crate) fn reduces(self) -> bool {
        !matches!(self, RowOp::Softmax | RowOp::LogSoftmax)
    }
}

/// Instructions on single numbers in registers.
#[derive(Debug)]
pub(crate) struct Flat {
    pub(crate) dtype: DType,
    pub(crate) registers: u32,
    /// Numbers read from values into registers.
    pub(crate) loads: Vec<(u32, u32)>,
    pub(crate) code: Vec<Instruction>,
    /// Registers written to values.
    pub(crate) stores: Vec<(u32, u32)>,
}

impl Kernel {
    /// The bytes that its lists take; its op, if it has one, is counted with those of the program.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Kernel::Fused(k) => {
                let lists = room(&k.sources)
                    + room(&k.outputs)
                    + room(&k.steps)
                    + room(&k.rows)
                    + room(&k.sums);
                let Layout {
                    registers,
                    block_of,
                    products,
                    rows: _,
                    elements: _,
                } = &k.layout;
                size_of::<Fused>()
                    + lists
                    + room(&k.products)
                    + room(registers)
                    + room(block_of)
                    + room(products)
            }
            Kernel::Flat(k) => room(&k.loads) + room(&k.code) + room(&k.stores),
            Kernel::Op { inputs, .. } => room(inputs),
            Kernel::Product { .. } => 0,
        }
    }

    /// Calls `f` for each value that it reads.
    pub(crate) fn reads(&self, mut f: impl FnMut(u32)) {
        match self {
            Kernel::Fused(k) => {
                let is_value = |s: &&Source| !matches!(s.read, Read::Number(_) | Read::Product(_));
                k.sources.iter().filter(is_value).for_each(|s| f(s.value));
                k.products
                    .iter()
                    .flat_map(|p| [p.a.0, p.b.0])
                    .for_each(&mut f);
                k.rows.iter().filter_map(|row| row.labels).for_each(f);
            }
            Kernel::Flat(k) => k.loads.iter().for_each(|&(value, _)| f(value)),
            Kernel::Product { a, b, .. } => [a.0.value, b.0.value].into_iter().for_each(f),
            Kernel::Op { inputs, .. } => inputs.iter().for_each(|operand| f(operand.value)),
        }
    }

    /// The bytes that it needs to run in so many parts.
    pub(crate) fn room(&self, parts: usize) -> usize {
        match self {
            Kernel::Fused(k) => k.room(parts),
            Kernel::Flat(k) => k.room(),
            Kernel::Product { .. } | Kernel::Op { .. } => 0,
        }
    }

    /// The most parts that it can be split into, and that are worth it on so many threads.
    pub(crate) fn most_parts(&self, threads: usize) -> usize {
        match self {
            Kernel::Fused(k) if k.count == 0 || k.splits().is_none() => 1,
            // a transposed second matrix is packed anew for each part
            Kernel::Fused(k) if k.products.iter().any(|p| p.b.1) => threads,
            Kernel::Product { b: (_, true), .. } => threads,
            Kernel::Fused(_) | Kernel::Product { .. } => 2 * threads,
            Kernel::Flat(_) | Kernel::Op { .. } => 1,
        }
    }
}

impl Flat {
    /// The bytes that its registers need.
    pub(crate) fn room(&self) -> usize {
        (self.registers as usize * self.dtype.size()).next_multiple_of(64)
    }
}

/// One instruction on numbers in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    pub(crate) op: FlatOp,
    pub(crate) to: u32,
    pub(crate) args: [u32; 3],
}

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FlatOp {
    /// The commonest by name: one jump to each.
    Add,
    Sub,
    Mul,
    Div,
    Neg,
    /// An op of up to three inputs.
    Formula(Id),
    /// A whole power.
    Power(i32),
    /// 1 where true, 0 elsewhere.
    Number,
    /// The sum of one number, which begins with 0: -0 becomes 0.
    Sum,
}

/// The most elements of a block: a chunk of the canonical sum.
pub(crate) const BLOCK: usize = CHUNK;
/// Blocks have so many elements more than they need, so that they do not all begin at the same place of a page of the cache.
const APART: usize = 16;
/// The elements of a block of the largest size.
pub(crate) const STRIDE: usize = BLOCK + APART;
/// The most elements that go through a step at once: those of eight registers of AVX-512, of f32.
pub(crate) const MOST_GROUP: usize = 128;

impl Read {
    /// Whether it is the same number everywhere.
    pub(crate) fn is_constant(&self) -> bool {
        match self {
            Read::Whole | Read::Product(_) => false,
            Read::Walk(walk) => walk.is_constant(),
            Read::Number(_) => true,
        }
    }
}

impl Sum {
    /// How many elements, or rows of `inner` elements, are added up one after the other.
    pub(crate) fn chunk(&self) -> usize {
        chunk(self.inner)
    }

    /// How many chunks a sum has.
    pub(crate) fn chunks(&self) -> usize {
        self.n.div_ceil(self.chunk())
    }

    /// The sums of all chunks, of a kernel over `count` elements.
    pub(crate) fn partials(&self, count: usize) -> usize {
        count / self.n * self.chunks()
    }
}

impl Step {
    /// The registers that it reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = u32> {
        let operands = match self.code {
            Code::Keep | Code::Unary(_) | Code::Power(_) | Code::Sum => 0,
            Code::Add | Code::Sub | Code::Mul | Code::Div | Code::SubFrom | Code::DivInto => 1,
            Code::AddProduct
            | Code::SubProduct
            | Code::MulProduct
            | Code::ProductSub
            | Code::Binary(_) => 2,
            Code::Ternary(_) | Code::Function(_) => 3, // a function has its first one in place of those that it does not have
        };
        let load = Some(self.load).filter(|&load| load != NO_REGISTER);
        load.into_iter()
            .chain([self.a, self.b, self.c].into_iter().take(operands))
    }
}

impl Fused {
    /// The bytes that it needs to run in so many parts.
    pub(crate) fn room(&self, parts: usize) -> usize {
        self.partials()
            .saturating_add(self.scratch().saturating_mul(parts))
    }

    /// The bytes of scratch memory that each part needs.
    pub(crate) fn scratch(&self) -> usize {
        self.layout.elements.saturating_mul(self.dtype.size())
    }

    /// Lays out the scratch memory of a part. Whoever changes registers, rows or products does this again.
    pub(crate) fn lay_out(&mut self) {
        let mut layout = Layout::default();
        // short work needs short blocks: a kernel may have thousands of them
        let block = self.block().min(self.count).next_multiple_of(MOST_GROUP) + APART;
        let mut blocks = 0..NO_BLOCK;
        for register in 0..self.registers() {
            let constant = self
                .sources
                .get(register)
                .is_some_and(|s| s.read.is_constant());
            let temporary = (self.sources.len()..self.sources.len() + self.temporaries as usize)
                .contains(&register);
            let is_group = constant || temporary;
            let at = layout.take(if is_group { MOST_GROUP } else { block });
            layout.registers.push(at);
            layout.block_of.push(if is_group {
                NO_BLOCK
            } else {
                blocks.next().unwrap_or(NO_BLOCK)
            });
        }
        if !self.rows.is_empty() {
            layout.rows = [(); 3].map(|()| layout.take(STRIDE));
        }
        let columns = self.products.first().map_or(0, |p| p.size[2]);
        let rows = self.rows_together();
        layout.products = self
            .products
            .iter()
            .map(|_| layout.take(rows.saturating_mul(columns)))
            .collect();
        self.layout = layout;
    }

    /// How many elements are taken through the steps before the next ones: whole lines where they are short.
    pub(crate) fn block(&self) -> usize {
        if self.line < BLOCK {
            BLOCK / self.line.max(1) * self.line
        } else {
            BLOCK
        }
    }

    /// How many rows of its products are computed together: few enough to be still in the cache when they are read.
    pub(crate) fn rows_together(&self) -> usize {
        let Some(p) = self.products.first() else {
            return 0;
        };
        let [m, k, n] = p.size;
        // many rows share the way of a second matrix that comes from far away, or is transposed first
        let is_near = k * n <= 1 << 16 && self.products.iter().all(|p| !p.b.1);
        let most = if is_near {
            (1 << 13) / n
        } else {
            ((1 << 16) / n).max(128)
        };
        (most / self.grain * self.grain).max(self.grain).min(m)
    }

    /// The bytes that the sums of chunks need.
    pub(crate) fn partials(&self) -> usize {
        let numbers = self
            .sums
            .iter()
            .map(|s| s.partials(self.count))
            .fold(0, usize::saturating_add);
        lines(numbers, self.dtype)
    }

    /// Where it can be split: at multiples of the second number, counted from the last multiple of the first.
    pub(crate) fn splits(&self) -> Option<(usize, usize)> {
        if let Some(p) = self.products.first() {
            return Some((self.count, self.grain * p.size[2]));
        }
        let lines = splits(self.line, self.sums.iter().map(|s| (s.n, s.inner)));
        lines.map(|at| at.unwrap_or((self.count, self.block())))
    }

    /// About how many nanoseconds it takes on one thread.
    pub(crate) fn work(&self) -> usize {
        let step = |s: &Step| match s.code {
            Code::Unary(Id::Neg | Id::Abs | Id::Relu | Id::Square) => 1,
            Code::Unary(_) | Code::Binary(_) | Code::Ternary(_) | Code::Function(_) => 10,
            _ => 1,
        };
        let steps = 5 + self.steps.iter().map(step).sum::<usize>() + 50 * self.rows.len(); // 5: memory
        let product = |p: &Product| {
            p.size
                .iter()
                .fold(1, |n: usize, &size| n.saturating_mul(size))
                / PRODUCTS
        };
        self.products
            .iter()
            .map(product)
            .fold(self.count.saturating_mul(steps) / 50, usize::saturating_add)
    }

    /// The last step that reads each value where it lies; `usize::MAX` for what is read again and again or when the steps of
    /// a block are done. Numbers, which are read before the first step, are left out.
    pub(crate) fn last_reads(&self) -> HashMap<u32, usize> {
        let mut last = HashMap::new();
        let source = |register: u32| {
            self.sources
                .get(register as usize)
                .filter(|s| !s.read.is_constant())
        };
        for (at, step) in self.steps.iter().enumerate() {
            for source in step.reads().filter_map(source) {
                let at = if matches!(source.read, Read::Whole) {
                    at
                } else {
                    usize::MAX
                };
                let last = last.entry(source.value).or_insert(at);
                *last = at.max(*last);
            }
        }
        let blocks = self
            .sums
            .iter()
            .filter_map(|s| s.from)
            .chain(self.rows.iter().map(|row| row.from));
        let whole = blocks
            .filter_map(source)
            .map(|s| s.value)
            .chain(self.rows.iter().filter_map(|row| row.labels));
        last.extend(
            whole
                .chain(self.products.iter().flat_map(|p| [p.a.0, p.b.0]))
                .map(|value| (value, usize::MAX)),
        );
        last
    }

    /// Whether it can fail: labels are looked at.
    pub(crate) fn may_fail(&self) -> bool {
        self.rows.iter().any(|row| row.labels.is_some())
    }

    /// The number of registers.
    pub(crate) fn registers(&self) -> usize {
        self.sources.len() + (self.temporaries + self.kept) as usize + self.outputs.len()
    }
}

/// The bytes of so many numbers, in whole lines of the cache; far too many if the product is beyond a `usize`.
fn lines(numbers: usize, dtype: DType) -> usize {
    numbers
        .saturating_mul(dtype.size())
        .checked_next_multiple_of(64)
        .unwrap_or(usize::MAX)
}

/// Where a kernel can be split that works on lines of this length and has sums over `n` elements, each `inner` apart: see
/// [`Fused::splits`]. `None` for nowhere, `Some(None)` for anywhere between lines.
pub(crate) fn splits(
    line: usize,
    mut sums: impl Iterator<Item = (usize, usize)>,
) -> Option<Option<(usize, usize)>> {
    let whole_lines = |grain: usize| line >= BLOCK || grain.is_multiple_of(line);
    let Some((n, inner)) = sums.next() else {
        return Some(None);
    };
    let (period, grain) = (n * inner, chunk(inner).saturating_mul(inner));
    let fits = sums.all(|other| other == (n, inner)) && whole_lines(grain) && whole_lines(period);
    fits.then_some(Some((period, grain)))
}

/// How many elements, or rows of `inner` elements, of a sum are added up one after the other.
fn chunk(inner: usize) -> usize {
    if inner == 1 { CHUNK } else { DEPTH }
}

/// The least number of rows of `n` elements such that a kernel can be split at all multiples of them.
pub(crate) fn rows_of_splits(
    count: usize,
    n: usize,
    line: Option<usize>,
    sums: impl Iterator<Item = (usize, usize)>,
) -> Option<usize> {
    let place = match splits(line.unwrap_or(BLOCK), sums)? {
        Some((period, grain)) if period >= count || period.is_multiple_of(grain) => grain,
        Some((period, _)) => period,
        None => line.filter(|&line| line < BLOCK).unwrap_or(1),
    };
    Some(lcm(lcm(place, n) / n, ROWS))
}

/// About how many multiplications and additions of a matrix product are done in a nanosecond.
pub(crate) const PRODUCTS: usize = 50;

/// Products are split at multiples of so many rows, so that no tile of the kernel is cut.
pub(crate) const ROWS: usize = 8;

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b)
}

/// Reading one shape as another: one by one, or broadcast.
pub(crate) fn read(from: &Shape, to: &Shape) -> Read {
    match from.count() {
        count if count == to.count() => Read::Whole,
        1 => Read::Walk(Walk::broadcast(&Shape::SCALAR, to)), // whatever the axes of size 1
        _ => Read::Walk(Walk::broadcast(from, to)),
    }
}
