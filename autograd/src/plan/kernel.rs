//! What a plan consists of: values and where they are, and the kernels that compute them. Made by
//! [`emit`](super::emit) and [`place`](super::place), run by `exec`.
//!
//! A fused kernel takes the elements of one shape through a list of [`Step`]s. There is one
//! accumulator, which is a span of some hundred elements, and a set of registers. A step loads a
//! register into the accumulator, does one thing to it, and stores it to a register; any of the
//! three may be left out. A scalar kernel has the same steps, for single numbers.
//!
//! Example: `y = (x·2 - b)²` and `sum(y)`, where `y` is read elsewhere, is
//!
//! | load | code | store | |
//! |---|---|---|---|
//! | `r0` | `Mul(r1)` | | `r0` is the source `x`, `r1` the number 2 |
//! | | `Sub(r2)` | | `r2` is the source `b`, broadcast |
//! | | `Unary(Square)` | `r3` | `r3` is the output `y` |
//! | | `Fold(0)` | | |

use super::{
    index::{
        AccessId, CustomId, InputId, OutputId, ProductId, ReductionId, Reg, UpdateId, ValueId,
    },
    size::{Blocks, ProductSize},
};
use crate::{
    index::{IndexVec, list_bytes},
    math::fold::{Fold, Lines},
    nodes::{NodeId, OpRef, ShapeId},
    op::{Parts, lowering::LineFunction, pointwise::Function},
    shape::Walk,
    tensor::DType,
};

/// Where the elements of a value are during a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placement {
    /// In a leaf's tensor.
    Input(InputId),
    /// In the arena, from this byte on.
    Arena(usize),
    /// In a tensor of its own, which the run hands out.
    Output(OutputId),
    /// In the parameter that this update is for.
    Update(UpdateId),
}

/// Elements somewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    /// The node of the program that it is the value of.
    pub(crate) node: NodeId,
    pub(crate) placement: Placement,
    pub(crate) dtype: DType,
    pub(crate) count: usize,
}

impl Value {
    pub(crate) fn bytes(&self) -> usize {
        self.count * self.dtype.size()
    }
}

/// A value as one reader sees it: its elements, with this shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct View {
    pub(crate) value: ValueId,
    pub(crate) shape: ShapeId,
}

/// An operand of a matrix product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) view: View,
    /// It is multiplied with its last two axes exchanged.
    pub(crate) transposed: bool,
}

/// Where the elements of an operand of a matrix product are, if they are not simply those of its
/// value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatrixAccess {
    /// The first element of each matrix of a batch.
    pub(crate) starts: Walk,
    /// How far neighbours in a column, and in a row, are apart.
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// What is done in one go.
pub(crate) enum Kernel {
    /// Work on the elements of a shape, block by block.
    Fused(Box<Fused>),
    /// Work on single numbers.
    Scalar(Box<Fused>),
    /// A matrix product.
    Product {
        a: Matrix,
        b: Matrix,
        out: View,
        /// Of the first and of the second matrix.
        accesses: Option<Box<[Option<MatrixAccess>; 2]>>,
    },
    /// An op by its own `eval`, perhaps in parts.
    Opaque {
        op: OpRef,
        inputs: Vec<View>,
        out: View,
        how: Parts,
    },
}

/// Steps that are taken with all elements of a shape, or with single numbers.
pub(crate) struct Fused {
    pub(crate) dtype: DType,
    /// The number of elements; 1 in a scalar kernel.
    pub(crate) count: usize,
    /// How its elements are divided into blocks.
    pub(crate) blocks: Blocks,
    pub(crate) registers: IndexVec<Reg, Register>,
    /// How sources are read that are not read one by one.
    pub(crate) accesses: IndexVec<AccessId, Walk>,
    pub(crate) steps: Vec<Step>,
    /// Functions of lines between the steps, in their order.
    pub(crate) line_steps: Vec<LineStep>,
    /// Values of one number for each line.
    pub(crate) line_outputs: Vec<LineOutput>,
    pub(crate) reductions: IndexVec<ReductionId, Reduction>,
    /// Matrix products, of which it computes some rows and then reads them. All have as many
    /// columns.
    pub(crate) products: IndexVec<ProductId, Product>,
    /// Rows of products are computed in multiples of this many.
    pub(crate) product_grain: usize,
    /// Users' ops whose formulas it applies.
    pub(crate) custom: IndexVec<CustomId, OpRef>,
    pub(crate) layout: Layout,
}

/// What a register holds, or is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    /// The number 0 or 1, everywhere.
    Number(u8),
    /// Read from a value.
    Source { value: ValueId, read: Read },
    /// Read from the rows of one of the kernel's products.
    Product(ProductId),
    /// What a step stored, for the steps of the same span of elements.
    Temporary,
    /// What a step stored, for a whole block of elements.
    Block,
    /// A number for each line, for the steps of all its elements: where a block has one long line or
    /// rows of many, this is one group. A step that stores to it is taken with one group only.
    Line,
    /// Written to a value. Steps may read it after that.
    Output(ValueId),
}

/// How the elements of a source belong to those of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    /// One by one.
    Whole,
    /// It is a single number, read everywhere.
    Constant,
    /// One by one, beginning with this element of it.
    From(usize),
    /// Broadcast, or at even distances along each axis.
    Strided(AccessId),
}

impl Register {
    /// Whether it holds the same number everywhere.
    pub(crate) fn is_constant(&self) -> bool {
        matches!(
            self,
            Register::Number(_)
                | Register::Source {
                    read: Read::Constant,
                    ..
                }
        )
    }

    /// Whether its elements are those of a value or of a product's rows.
    pub(super) fn is_of_value(&self) -> bool {
        let is_value = matches!(
            self,
            Register::Source { .. } | Register::Product(_) | Register::Output(_)
        );
        is_value && !self.is_constant()
    }

    /// Whether it holds a block of elements, rather than a group.
    pub(crate) fn is_block(&self) -> bool {
        !self.is_constant() && !matches!(self, Register::Temporary | Register::Line)
    }
}

/// One step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Step {
    /// The register that is read into the accumulator first.
    pub(crate) load: Option<Reg>,
    pub(crate) code: Code,
    /// The register that the accumulator is written to in the end.
    pub(crate) store: Option<Reg>,
}

/// What a step does with the accumulator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// Nothing: the step only loads or stores.
    NoOp,
    /// Plus, minus, times, over the register.
    Add(Reg),
    Sub(Reg),
    Mul(Reg),
    Div(Reg),
    /// The register minus, over the accumulator.
    SubFrom(Reg),
    DivInto(Reg),
    /// Plus, minus, times the product of two registers, which is rounded first.
    AddProduct(Reg, Reg),
    SubProduct(Reg, Reg),
    MulProduct(Reg, Reg),
    /// That product minus the accumulator.
    ProductSub(Reg, Reg),
    /// Times the first register, then plus the second.
    MulAdd(Reg, Reg),
    /// Minus the first register, then times the second.
    SubMul(Reg, Reg),
    /// A whole power.
    Power(i32),
    /// A function of the accumulator.
    Unary(Function),
    /// A function of registers; the accumulator gets the result. Of the inputs that a function does
    /// not have, the first one is named again.
    Function(Function, [Reg; 3]),
    /// A user's formula, likewise.
    Custom(CustomId, [Reg; 3]),
    /// Takes the accumulator into a reduction.
    Fold(ReductionId),
    /// Takes the square of the accumulator into a sum; or that of the accumulator times a register.
    SumSquare(ReductionId),
    SumScaledSquare(Reg, ReductionId),
}

/// A function of each line of a block, which has whole lines then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineStep {
    pub(crate) function: LineFunction,
    /// The number of steps that come before it.
    pub(crate) after: usize,
    pub(crate) from: LineInput,
    /// The value with one label for each line.
    pub(crate) labels: Option<ValueId>,
    /// The register that gets one number for each element; the same one in all of a line, if there
    /// is one for each line.
    pub(crate) to: Option<Reg>,
    /// The value that gets one number for each line.
    pub(crate) value: Option<ValueId>,
}

/// What a function of lines goes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LineInput {
    /// The block in a register.
    Block(Reg),
    /// The elements that steps have taken into a reduction. There is one line in a block then.
    Folded(ReductionId),
}

impl LineInput {
    pub(crate) fn block(self) -> Option<Reg> {
        match self {
            LineInput::Block(register) => Some(register),
            LineInput::Folded(_) => None,
        }
    }
}

/// A value that gets one number for each line of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineOutput {
    /// The register that has it for each element of the line.
    pub(crate) from: Reg,
    pub(crate) value: ValueId,
}

/// A reduction over lines of the kernel's elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reduction {
    pub(crate) fold: Fold,
    /// The register whose blocks are reduced; none if steps do it, chunk by chunk.
    pub(crate) from: Option<Reg>,
    /// The value that has the results when all parts of the kernel are done; none if a function of
    /// lines takes the result of each line.
    pub(crate) value: Option<ValueId>,
    pub(crate) lines: Lines,
}

/// A matrix product whose elements are those of a fused kernel, in the same order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) a: Matrix,
    pub(crate) b: Matrix,
    /// After the axes of a batch were joined with the rows.
    pub(crate) size: ProductSize,
    /// The value that it is written to, if another kernel reads it.
    pub(crate) out: Option<ValueId>,
}

/// Where a kernel may be cut: at multiples of `grain`, counted from the last multiple of `period`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cuts {
    pub(crate) period: usize,
    pub(crate) grain: usize,
}

/// Where the scratch memory of one part lies: in elements, counted from its beginning. It is made
/// once, with the kernel, for those who reserve the memory and for those who use it.
#[derive(Default, Debug)]
pub(crate) struct Layout {
    /// How many elements are taken through a step before the next one: what a temporary holds. A
    /// power of two, and whole vector groups.
    pub(crate) span: usize,
    /// A block, a span or a group, as long as what the register holds. Empty for a scalar kernel.
    pub(crate) registers: IndexVec<Reg, usize>,
    /// The registers that change from block to block without a step: their elements are those of
    /// values or of products.
    pub(crate) of_values: Vec<Reg>,
    /// For functions of lines, if there are any: a result for each element, one for each line, and
    /// the maxima.
    pub(crate) line_steps: [usize; 3],
    /// The rows that are worked on together.
    pub(crate) products: IndexVec<ProductId, usize>,
    /// Transposed sources, of which some rows are copied at once.
    pub(crate) panels: Vec<Panel>,
    /// The most elements of a panel; those of a kernel have as many.
    pub(crate) panel: usize,
    /// All of it.
    pub(super) elements: usize,
    /// Where the kernel may be cut into parts; none if nowhere.
    pub(crate) cuts: Option<Cuts>,
}

/// A transposed source. Elements that lie beside each other belong to different rows of the kernel,
/// so as many rows are copied at once as a cache line has elements, and blocks read the copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel {
    pub(crate) register: Reg,
    pub(crate) start: usize,
}

impl Step {
    pub(crate) const NO_OP: Step = Step {
        load: None,
        code: Code::NoOp,
        store: None,
    };

    /// The registers that it reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = Reg> {
        let mut code = self.code;
        let operands = code.operands_mut().map(|register| register.copied());
        self.load.into_iter().chain(operands.into_iter().flatten())
    }

    /// Whether it computes with the accumulator as the step before left it.
    pub(crate) fn continues(&self) -> bool {
        let is_used = match self.code {
            Code::NoOp => self.store.is_some(),
            Code::Function(..) | Code::Custom(..) => false,
            _ => true,
        };
        is_used && self.load.is_none()
    }

    /// Exchanges a register for another one, wherever it is named.
    pub(crate) fn rename(&mut self, from: Reg, to: Reg) {
        let swap = |register: &mut Reg| {
            if *register == from {
                *register = to;
            }
        };
        self.load.as_mut().map(swap);
        self.store.as_mut().map(swap);
        self.code
            .operands_mut()
            .into_iter()
            .flatten()
            .for_each(swap);
    }
}

impl Code {
    /// The reduction that it takes elements into.
    pub(crate) fn reduction(self) -> Option<ReductionId> {
        match self {
            Code::Fold(of) | Code::SumSquare(of) | Code::SumScaledSquare(_, of) => Some(of),
            _ => None,
        }
    }

    /// The registers that it names.
    fn operands_mut(&mut self) -> [Option<&mut Reg>; 3] {
        match self {
            Code::NoOp | Code::Unary(_) | Code::Power(_) | Code::Fold(_) | Code::SumSquare(_) => {
                [None, None, None]
            }
            Code::Add(a)
            | Code::Sub(a)
            | Code::Mul(a)
            | Code::Div(a)
            | Code::SubFrom(a)
            | Code::DivInto(a)
            | Code::SumScaledSquare(a, _) => [Some(a), None, None],
            Code::AddProduct(a, b)
            | Code::SubProduct(a, b)
            | Code::MulProduct(a, b)
            | Code::ProductSub(a, b)
            | Code::MulAdd(a, b)
            | Code::SubMul(a, b) => [Some(a), Some(b), None],
            Code::Function(_, x) | Code::Custom(_, x) => x.each_mut().map(Some),
        }
    }
}

impl Reduction {
    /// The results of all chunks, of a kernel over `count` elements, if lines have several.
    pub(crate) fn partials(&self, count: usize) -> usize {
        match self.lines.chunks() {
            _ if self.value.is_none() => 0,
            0 | 1 => 0,
            chunks => count / self.lines.n * chunks,
        }
    }
}

impl Kernel {
    /// The bytes that its lists take; an op is counted with those of the program.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Kernel::Fused(k) | Kernel::Scalar(k) => {
                // without `..`: what is added to a kernel must be counted here
                let Fused {
                    dtype: _,
                    count: _,
                    blocks: _,
                    registers,
                    accesses,
                    steps,
                    line_steps,
                    line_outputs,
                    reductions,
                    products,
                    product_grain: _,
                    custom,
                    layout,
                } = &**k;
                let steps = list_bytes(steps) + list_bytes(line_steps) + list_bytes(line_outputs);
                let lists = registers.bytes()
                    + accesses.bytes()
                    + reductions.bytes()
                    + products.bytes()
                    + custom.bytes();
                size_of::<Fused>() + steps + lists + layout.bytes()
            }
            Kernel::Opaque { inputs, .. } => list_bytes(inputs),
            Kernel::Product { accesses, .. } => match accesses {
                Some(both) => size_of_val(&**both),
                None => 0,
            },
        }
    }

    /// Calls `f` for each value that it reads.
    pub(crate) fn reads(&self, mut f: impl FnMut(ValueId)) {
        match self {
            Kernel::Fused(k) | Kernel::Scalar(k) => k.reads(&mut f),
            Kernel::Product { a, b, .. } => [a, b].into_iter().for_each(|m| f(m.view.value)),
            Kernel::Opaque { inputs, .. } => inputs.iter().for_each(|view| f(view.value)),
        }
    }

    /// Calls `f` for each value that it writes.
    pub(crate) fn writes(&self, mut f: impl FnMut(ValueId)) {
        match self {
            Kernel::Fused(k) | Kernel::Scalar(k) => k.writes(&mut f),
            Kernel::Product { out, .. } | Kernel::Opaque { out, .. } => f(out.value),
        }
    }

    /// Whether it can fail for all that the planner knows: labels are checked, and users' formulas
    /// may panic. What an [`Opaque`](Kernel::Opaque) op says of itself is asked where its inputs
    /// are known.
    pub(crate) fn may_fail(&self) -> bool {
        match self {
            Kernel::Fused(k) | Kernel::Scalar(k) => {
                !k.custom.is_empty() || k.line_steps.iter().any(|line| line.labels.is_some())
            }
            Kernel::Product { .. } => false,
            Kernel::Opaque { .. } => true,
        }
    }
}

impl Fused {
    /// Whether all elements of a source's block must be there: a reduction or a function of lines
    /// reads it otherwise than by steps.
    pub(crate) fn needs_block(&self, register: Reg) -> bool {
        let reduced = self.reductions.iter().filter_map(|of| of.from);
        let of_lines = self.line_steps.iter().filter_map(|line| line.from.block());
        let written = self.line_outputs.iter().map(|of| of.from);
        reduced
            .chain(of_lines)
            .chain(written)
            .any(|from| from == register)
    }

    pub(super) fn new(dtype: DType, count: usize, blocks: Blocks) -> Fused {
        Fused {
            dtype,
            count,
            blocks,
            registers: IndexVec::new(),
            accesses: IndexVec::new(),
            steps: Vec::new(),
            line_steps: Vec::new(),
            line_outputs: Vec::new(),
            reductions: IndexVec::new(),
            products: IndexVec::new(),
            product_grain: 0,
            custom: IndexVec::new(),
            layout: Layout::default(),
        }
    }

    /// Gives back the memory that its lists do not need.
    pub(super) fn shrink(&mut self) {
        self.steps.shrink_to_fit();
        self.registers.shrink_to_fit();
    }

    /// The lines of its reductions that are complete when all parts are.
    pub(super) fn reduced_lines(&self) -> Vec<Lines> {
        let of_parts = self.reductions.iter().filter(|of| of.value.is_some());
        of_parts.map(|of| of.lines).collect()
    }

    fn reads(&self, f: &mut dyn FnMut(ValueId)) {
        for register in self.registers.iter() {
            if let Register::Source { value, .. } = register {
                f(*value);
            }
        }
        let matrices = self.products.iter().flat_map(|p| [p.a, p.b]);
        matrices.for_each(|m| f(m.view.value));
        self.line_steps
            .iter()
            .filter_map(|line| line.labels)
            .for_each(f);
    }

    fn writes(&self, f: &mut dyn FnMut(ValueId)) {
        for register in self.registers.iter() {
            if let Register::Output(value) = register {
                f(*value);
            }
        }
        let reduced = self.reductions.iter().filter_map(|of| of.value);
        reduced.for_each(&mut *f);
        self.products.iter().filter_map(|p| p.out).for_each(&mut *f);
        self.line_outputs.iter().for_each(|of| f(of.value));
        self.line_steps
            .iter()
            .filter_map(|line| line.value)
            .for_each(f);
    }
}
