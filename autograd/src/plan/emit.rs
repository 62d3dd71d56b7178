//! Emission: a fusion group becomes a kernel's list of steps. Pass 5 of 7, one group after the
//! other in the order of the schedule.
//!
//! A kernel has one accumulator (a span of elements) and registers. Nodes are emitted in
//! an order ([`order`](super::order)) that lets the accumulator run on from one to the next; only
//! what is read later is stored. Kernels of arrays and of single numbers are emitted alike.
//!
//! Example: `y = x·2 - b` is emitted as load `x`; `Mul` by the register of 2; `Sub` of the register
//! of `b`; store to the register of the output `y`. The first two become one step, and so do the
//! last two.

use super::{
    dag::{Apply, Dag, Kind, Operand},
    fuse::{Groups, Rows, Work},
    in_place,
    index::{DagId, GroupId, ProductId, ReductionId, Reg},
    kernel::{
        Code, Fused, Kernel, Layout, LineInput, LineOutput, LineStep, Matrix, MatrixAccess,
        Product, Read, Reduction, Register, Step,
    },
    order::{Order, Seen, Slot},
    place::Values,
    size::{BLOCK, Blocks, fits_a_block},
    tiling,
};
use crate::{
    index::IndexVec,
    math::fold::{Fold, Lines},
    nodes::ShapeId,
    op::{Id, lowering::LineFunction, pointwise::Function},
    shape::{Shape, Walk},
};
use std::collections::HashMap;

/// What a node does with the accumulator.
pub(super) enum Action {
    /// Something to its one operand, which is in the accumulator.
    Unary(Code),
    /// Two operands, one of which is in the accumulator.
    Arithmetic(Arithmetic),
    /// Adds 0 to its one operand.
    AddZero,
    /// A function of several operands, all in registers.
    Function(Function),
    /// 1 or 0, by its one operand in a register.
    FromBool,
    /// A user's formula of operands in registers.
    Custom,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
}

impl Arithmetic {
    /// The accumulator and a register.
    fn with_right(self, register: Reg) -> Code {
        match self {
            Arithmetic::Add => Code::Add(register),
            Arithmetic::Sub => Code::Sub(register),
            Arithmetic::Mul => Code::Mul(register),
            Arithmetic::Div => Code::Div(register),
        }
    }

    /// A register and the accumulator.
    fn with_left(self, register: Reg) -> Code {
        match self {
            Arithmetic::Add => Code::Add(register),
            Arithmetic::Sub => Code::SubFrom(register),
            Arithmetic::Mul => Code::Mul(register),
            Arithmetic::Div => Code::DivInto(register),
        }
    }

    /// The accumulator and the product of two registers, which is the left or the right operand.
    fn with_product(self, a: Reg, b: Reg, is_right: bool) -> Code {
        match self {
            Arithmetic::Add => Code::AddProduct(a, b),
            Arithmetic::Mul => Code::MulProduct(a, b),
            _ if is_right => Code::SubProduct(a, b),
            _ => Code::ProductSub(a, b),
        }
    }
}

impl Lines {
    /// Long lines are reduced chunk by chunk as they are computed, others from a stored block.
    pub(super) fn are_folded_by_steps(self) -> bool {
        self.inner == 1 && !fits_a_block(self.n)
    }
}

/// How a kernel over the elements of one shape reads another.
fn read(from: &Shape, to: &Shape) -> Option<Read> {
    match from.count() {
        1 => Some(Read::Constant),
        count if count == to.count() => Some(Read::Whole),
        _ => None,
    }
}

/// Emits the kernel of a group.
pub(super) fn kernel<'p>(
    dag: &Dag<'p>,
    groups: &Groups,
    group: GroupId,
    members: &[DagId],
    values: &mut Values<'_, 'p>,
    slots: &mut IndexVec<DagId, Slot>,
) -> Kernel {
    let (domain, dtype, blocks) = match groups.all[group].work {
        Work::Single => return single(dag, members[0], values),
        // nothing is computed: it is written where it is wanted, without registers
        Work::Elements { .. } if is_copy(dag, members) => return single(dag, members[0], values),
        // all shapes of one element are alike: the kernel is over a number
        Work::Scalars { dtype } => (ShapeId::SCALAR, dtype, Blocks::Any),
        Work::Elements {
            domain,
            dtype,
            blocks,
            rows,
            ..
        } => {
            let has_products = || members.iter().any(|&id| dag.nodes[id].kind == Kind::MatMul);
            // the results of wider rows do not stay in the first-level cache
            let blocks = match (blocks, rows) {
                (Blocks::Any, Rows::Of(lines)) if lines.inner >= 2 * BLOCK && !has_products() => {
                    Blocks::InStrips(lines)
                }
                (blocks, _) => blocks,
            };
            (domain, dtype, blocks)
        }
    };
    let is_fold = |&id: &DagId| match dag.nodes[id].kind {
        Kind::Fold(..) => true,
        Kind::Line(LineFunction::Fold(_), axes) => axes.lines(dag.shape(domain)).inner == 1,
        _ => false,
    };
    let only_reduces = members.iter().all(is_fold);
    let blocks = match blocks {
        // lines that no step reads again need not stay in a block
        Blocks::OfLines(n) if only_reduces => Blocks::InLines(n),
        blocks => blocks,
    };
    let mut emitter = Emitter {
        dag,
        groups,
        group,
        values,
        slots,
        kernel: Fused::new(dtype, dag.shape(domain).count(), blocks),
        domain,
        order: Order::default(),
        numbers: [None; 2],
        other_sources: HashMap::new(),
        read: Vec::new(),
        free: Vec::new(),
        only_reduces,
    };
    emitter.emit_all(members);
    let mut kernel = Box::new(emitter.kernel);
    kernel.shrink(); // plans are cached, and the cache counts bytes
    if groups.all[group].work == (Work::Scalars { dtype }) {
        kernel.layout = Layout::of_scalars(&kernel);
        return Kernel::Scalar(kernel);
    }
    kernel.layout = Layout::of_blocks(&kernel);
    Kernel::Fused(kernel)
}

/// Whether all there is to do is a broadcast of what another kernel has written.
fn is_copy(dag: &Dag<'_>, members: &[DagId]) -> bool {
    let &[id] = members else {
        return false;
    };
    dag.nodes[id].kind == Kind::Broadcast && dag.operands(id)[0].through.is_none()
}

/// The kernel of a node that is not fused.
fn single(dag: &Dag<'_>, id: DagId, values: &mut Values<'_, '_>) -> Kernel {
    let node = &dag.nodes[id];
    let matrix = |operand: Operand, values: &mut Values<'_, '_>| Matrix {
        view: values.view(operand),
        transposed: operand.transposed,
    };
    match (node.kind, dag.operands(id)) {
        (Kind::MatMul, &[a, b]) => Kernel::Product {
            accesses: accesses(dag, id, [a, b]),
            a: matrix(a, values),
            b: matrix(b, values),
            out: values.define_view(id),
        },
        (_, operands) => Kernel::Opaque {
            inputs: operands
                .iter()
                .map(|&operand| values.view(operand))
                .collect(),
            out: values.define_view(id),
            how: dag.parts(id),
            op: dag.program.op_ref(node.id).for_plan(),
        },
    }
}

/// Where the elements of a product's operands are, if they are not simply those of their values.
fn accesses(
    dag: &Dag<'_>,
    id: DagId,
    operands: [Operand; 2],
) -> Option<Box<[Option<MatrixAccess>; 2]>> {
    let product = dag.shape(dag.nodes[id].shape);
    let all = operands.map(|o| {
        let through = &dag.throughs[o.through?];
        Some(through.matrix(dag.shape(o.shape), product))
    });
    all.iter().any(Option::is_some).then(|| Box::new(all))
}

/// A kernel that is being written.
pub(super) struct Emitter<'e, 'd, 'p> {
    pub(super) dag: &'e Dag<'p>,
    groups: &'e Groups,
    group: GroupId,
    pub(super) values: &'e mut Values<'d, 'p>,
    pub(super) slots: &'e mut IndexVec<DagId, Slot>,
    kernel: Fused,
    /// The shape whose elements the kernel works through.
    domain: ShapeId,
    order: Order,
    /// The registers of the numbers 0 and 1.
    numbers: [Option<Reg>; 2],
    /// The registers of nodes from outside that are read with several shapes, except the first.
    other_sources: HashMap<(DagId, Seen), Reg>,
    /// The nodes from outside that are read.
    read: Vec<DagId>,
    /// Temporaries that are not read any more.
    free: Vec<Reg>,
    /// All nodes are reductions of nodes from outside.
    only_reduces: bool,
}

impl Emitter<'_, '_, '_> {
    fn emit_all(&mut self, members: &[DagId]) {
        let is_product = |id: &DagId| self.dag.nodes[*id].kind == Kind::MatMul;
        if members.iter().any(is_product) {
            let (products, others): (Vec<DagId>, Vec<DagId>) =
                members.iter().partition(|id| is_product(id));
            products.iter().for_each(|&id| self.product(id));
            self.order = self.order(&others);
        } else {
            self.order = self.order(members);
        }
        let mut held = None;
        for position in 0..self.order.nodes.len() {
            held = self.emit(position, held);
        }
        if let Some(&Product { size, .. }) = self.kernel.products.first() {
            let folds = self.kernel.reduced_lines();
            // fusion has made sure that there is such a number
            let rows =
                tiling::rows_between_cuts(self.kernel.count, size.n, self.kernel.blocks, &folds);
            self.kernel.product_grain = rows.unwrap_or(self.kernel.count / size.n);
        }
        // the slots of all nodes are one list, and the next kernel begins with clean ones
        let used = members.iter().chain(&self.read);
        used.for_each(|&id| self.slots[id] = Slot::default());
        self.defer_stores();
    }

    /// The node that operand `k` of a member is, if steps of this kernel compute it.
    pub(super) fn inside(&self, id: DagId, k: usize) -> Option<DagId> {
        let node = self.dag.operands(id)[k].node;
        let is_inside = self.groups.of[node] == Some(self.group);
        (is_inside && self.dag.nodes[node].kind != Kind::MatMul).then_some(node)
    }

    /// Whether a node is a function of lines that a block has whole: also a reduction, where others
    /// need such blocks.
    pub(super) fn is_of_lines(&self, id: DagId) -> bool {
        match self.dag.nodes[id].kind {
            Kind::Line(..) => !self.only_reduces,
            Kind::Fold(..) => self.dag.lines(id) == self.kernel.blocks.whole_lines(),
            _ => false,
        }
    }

    /// Whether a node is a reduction of the only line that a block has, and steps take the elements
    /// into it as they compute them.
    pub(super) fn is_line_folded_by_steps(&self, id: DagId) -> bool {
        let is_computed = || {
            let from = self.inside(id, 0);
            from.is_some_and(|from| !self.is_of_lines(from) && !self.is_along(from))
        };
        self.kernel.blocks.is_one_line() && self.line_fold(id).is_some() && is_computed()
    }

    /// The reduction that a node is, of lines that a block has whole.
    fn line_fold(&self, id: DagId) -> Option<Fold> {
        match self.dag.nodes[id].kind {
            Kind::Fold(fold, _) if self.is_of_lines(id) => Some(fold),
            Kind::Line(LineFunction::Fold(fold), _) => Some(fold),
            _ => None,
        }
    }

    /// The lines that a node reduces, if it is complete only after the whole kernel.
    pub(super) fn reduced_lines(&self, id: DagId) -> Option<Lines> {
        self.dag.reduced_lines(id).filter(|_| !self.is_of_lines(id))
    }

    /// What an elementwise node does; none for other nodes.
    pub(super) fn action(&self, id: DagId) -> Option<Action> {
        let Kind::Elementwise(apply) = self.dag.nodes[id].kind else {
            return None;
        };
        Some(match apply {
            Apply::Power(n) => Action::Unary(Code::Power(n)),
            Apply::FromBool => Action::FromBool,
            Apply::SumOfOne => Action::AddZero,
            Apply::Custom => Action::Custom,
            Apply::Formula(Id::Add) => Action::Arithmetic(Arithmetic::Add),
            Apply::Formula(Id::Sub) => Action::Arithmetic(Arithmetic::Sub),
            Apply::Formula(Id::Mul) => Action::Arithmetic(Arithmetic::Mul),
            Apply::Formula(Id::Div) => Action::Arithmetic(Arithmetic::Div),
            Apply::Formula(op) => {
                let function = Function::of(op)?; // all but the four above have one
                if self.dag.operands(id).len() == 1 {
                    Action::Unary(Code::Unary(function))
                } else {
                    Action::Function(function)
                }
            }
        })
    }

    /// Whether a node is one number for each line.
    pub(super) fn is_along(&self, id: DagId) -> bool {
        self.groups.is_along[id]
    }

    /// Emits the next node, given the one that is in the accumulator; what is in it then.
    fn emit(&mut self, position: usize, held: Option<DagId>) -> Option<DagId> {
        let id = self.order.nodes[position];
        if self.is_along(id) && self.kernel.blocks.has_long_lines() {
            self.number_of_line(id);
            return None;
        }
        if self.is_line_folded_by_steps(id) && self.slots[id].reduction.is_none() {
            return self.fold_line(id, held);
        }
        match self.dag.nodes[id].kind {
            Kind::Fold(fold, _) if self.is_of_lines(id) => {
                return self.line(id, LineFunction::Fold(fold));
            }
            Kind::Fold(fold, axes) | Kind::Line(LineFunction::Fold(fold), axes)
                if !self.is_of_lines(id) =>
            {
                let lines = axes.lines(self.dag.shape(self.domain));
                return self.fold(id, fold, lines, held);
            }
            Kind::Line(function, _) => return self.line(id, function),
            Kind::Broadcast => {
                let from = self.operand(id, 0);
                self.load(from);
            }
            _ => self.apply(id, held),
        }
        self.store_if_needed(position);
        Some(id)
    }

    /// Emits an elementwise node.
    fn apply(&mut self, id: DagId, held: Option<DagId>) {
        let Some(action) = self.action(id) else {
            return;
        };
        match action {
            Action::Unary(code) => {
                self.load_operand(id, 0, held);
                self.code(code);
            }
            Action::Arithmetic(op) => match self.slots[id].folded {
                Some(k) => self.with_product(id, op, k.into(), held),
                None => self.arithmetic(id, op, held),
            },
            Action::AddZero => {
                self.load_operand(id, 0, held);
                let zero = self.number(0);
                self.code(Code::Add(zero));
            }
            Action::FromBool => {
                let from = self.operand(id, 0);
                let code = self.number_of_bool(from);
                self.code(code);
            }
            Action::Function(function) => {
                let x = self.operands(id);
                self.code(Code::Function(function, x));
            }
            Action::Custom => {
                let x = self.operands(id);
                let code = self.custom(id, x);
                self.code(code);
            }
        }
    }

    /// Emits a number for each line, where one group of elements has it: a step by itself, from
    /// registers to a register.
    fn number_of_line(&mut self, id: DagId) {
        let Some(action) = self.action(id) else {
            return;
        };
        let x = self.operands(id);
        let (load, code) = match action {
            Action::Unary(code) => (Some(x[0]), code),
            Action::Arithmetic(op) => (Some(x[0]), op.with_right(x[1])),
            Action::AddZero => (Some(x[0]), Code::Add(self.number(0))),
            Action::FromBool => (None, self.number_of_bool(x[0])),
            Action::Function(function) => (None, Code::Function(function, x)),
            Action::Custom => (None, self.custom(id, x)),
        };
        let register = self.kernel.registers.push(Register::Line);
        self.slots[id].register = Some(register);
        self.kernel.steps.push(Step {
            load,
            code,
            store: Some(register),
        });
        self.write_number(id, register);
    }

    /// Lets a number for each line be written, if it is read elsewhere.
    fn write_number(&mut self, id: DagId, from: Reg) {
        if self.values.is_live_out(id) {
            let value = self.values.define(id);
            self.kernel.line_outputs.push(LineOutput { from, value });
        }
    }

    /// 1 or 0, by a boolean in a register.
    fn number_of_bool(&mut self, from: Reg) -> Code {
        let (one, zero) = (self.number(1), self.number(0));
        Code::Function(Function::Select, [from, one, zero])
    }

    fn custom(&mut self, id: DagId, x: [Reg; 3]) -> Code {
        let op = self.dag.program.op_ref(self.dag.nodes[id].id).for_plan();
        Code::Custom(self.kernel.custom.push(op), x)
    }

    fn arithmetic(&mut self, id: DagId, op: Arithmetic, held: Option<DagId>) {
        let (a, b) = (self.inside(id, 0), self.inside(id, 1));
        // x·x with x in the accumulator: it need not be stored
        if a == b && a.is_some() && a == held && op == Arithmetic::Mul {
            self.count_read(held);
            self.count_read(held);
            self.code(Code::Unary(Function::Square));
        // the right operand is in the accumulator
        } else if held.is_some() && b == held && a != held {
            let left = self.operand(id, 0);
            self.count_read(held);
            self.code(op.with_left(left));
        } else {
            // of `x - x` both are read from a register: the accumulator is the left one only
            let right = self.operand(id, 1);
            self.load_operand(id, 0, held.filter(|_| a != b));
            self.code(op.with_right(right));
        }
    }

    /// Emits a node of which operand `k` is a product of two registers.
    fn with_product(&mut self, id: DagId, op: Arithmetic, k: usize, held: Option<DagId>) {
        let product = self.dag.operands(id)[k].node;
        self.load_operand(id, 1 - k, held);
        let (a, b) = (self.operand(product, 0), self.operand(product, 1));
        self.count_read(Some(product));
        self.code(op.with_product(a, b, k == 1));
    }

    /// The registers that hold a node's operands; the first one again for those that it does not
    /// have.
    fn operands(&mut self, id: DagId) -> [Reg; 3] {
        let mut registers = [self.operand(id, 0); 3];
        for (k, register) in registers
            .iter_mut()
            .enumerate()
            .take(self.dag.operands(id).len())
            .skip(1)
        {
            *register = self.operand(id, k);
        }
        registers
    }

    /// Brings operand `k` into the accumulator.
    fn load_operand(&mut self, id: DagId, k: usize, held: Option<DagId>) {
        if held.is_some() && self.inside(id, k) == held {
            return self.count_read(held);
        }
        let from = self.operand(id, k);
        self.load(from);
    }

    /// One of the reads of a node of the kernel is done. A temporary that is not read any more is
    /// free for others, also for the result of the node that reads it now: a step loads before it
    /// stores.
    fn count_read(&mut self, id: Option<DagId>) {
        let Some(id) = id else {
            return;
        };
        let slot = &mut self.slots[id];
        slot.left -= 1;
        if let Some(register) = slot.register
            && slot.left == 0
            && self.kernel.registers[register] == Register::Temporary
        {
            self.free.push(register);
        }
    }

    /// The register that holds operand `k`.
    fn operand(&mut self, id: DagId, k: usize) -> Reg {
        let operand = self.dag.operands(id)[k];
        if self.groups.of[operand.node] != Some(self.group) {
            return self.source(operand);
        }
        if self.dag.nodes[operand.node].kind != Kind::MatMul {
            self.count_read(Some(operand.node));
        }
        let register = self.slots[operand.node].register;
        register.expect("what is read later was stored")
    }

    /// The register that reads a node from outside.
    fn source(&mut self, operand: Operand) -> Reg {
        let (from, to) = (self.dag.shape(operand.shape), self.dag.shape(self.domain));
        let read = read(from, to).filter(|_| operand.through.is_none());
        // the shape of a single number says nothing
        let shape = if read == Some(Read::Constant) {
            ShapeId::SCALAR
        } else {
            operand.shape
        };
        let seen = Seen {
            shape,
            through: operand.through,
        };
        // nearly always a node is read with one shape: then no table is needed
        let slot = self.slots[operand.node];
        if slot.seen == Some(seen)
            && let Some(register) = slot.register
        {
            return register;
        }
        if let Some(&register) = self.other_sources.get(&(operand.node, seen)) {
            return register;
        }
        let read = read.unwrap_or_else(|| {
            let walk = match operand.through {
                Some(through) => self.dag.throughs[through].walk(from, to),
                None => Walk::broadcast(from, to),
            };
            match walk.range() {
                Some(start) => Read::From(start),
                None => Read::Strided(self.kernel.accesses.push(walk)),
            }
        });
        let value = self.values.value(operand.node);
        let register = self.kernel.registers.push(Register::Source { value, read });
        if slot.seen.is_none() {
            let slot = &mut self.slots[operand.node];
            (slot.register, slot.seen) = (Some(register), Some(seen));
            self.read.push(operand.node);
        } else {
            self.other_sources.insert((operand.node, seen), register);
        }
        register
    }

    /// After a node was computed: stores it if it is read otherwise than from the accumulator.
    ///
    /// Example: in `exp(x)·2 + exp(x)·y`, `exp(x)` goes to a register anyway. `exp(x)·2` is read by
    /// the sum only, which comes next if `exp(x)·y` is folded into it: then it stays in the
    /// accumulator.
    fn store_if_needed(&mut self, position: usize) {
        let id = self.order.nodes[position];
        // reductions that take it from the accumulator come right after it
        let by_steps = self
            .order
            .folds(id)
            .filter(|&fold| self.is_folded_by_steps(fold))
            .count();
        let mut direct = by_steps as u32;
        if let Some(&next) = self.order.nodes.get(position + 1 + by_steps)
            && !self.slots[id].whole
        {
            direct += self.reads_of_accumulator(next, id);
        }
        let is_live_out = self.values.is_live_out(id);
        if is_live_out || self.slots[id].left > direct {
            let register = if is_live_out && !self.is_along(id) {
                let value = self.values.define(id);
                self.kernel.registers.push(Register::Output(value))
            } else if self.slots[id].whole {
                self.kernel.registers.push(Register::Block)
            } else {
                let free = self.free.pop();
                free.unwrap_or_else(|| self.kernel.registers.push(Register::Temporary))
            };
            self.slots[id].register = Some(register);
            self.store(register);
            if self.is_along(id) {
                self.write_number(id, register);
            }
        }
    }

    fn is_folded_by_steps(&self, fold: DagId) -> bool {
        let lines = self.reduced_lines(fold);
        lines.is_some_and(Lines::are_folded_by_steps) || self.is_line_folded_by_steps(fold)
    }

    /// How often a node reads `id` from the accumulator, if it is there.
    ///
    /// It foretells what [`apply`](Emitter::apply) will do, and both must agree. If it said more, a
    /// value would not be stored that is read from a register later: emission would find no
    /// register. If it said less, a value would be stored for nobody.
    fn reads_of_accumulator(&self, reader: DagId, id: DagId) -> u32 {
        let reads = |k| u32::from(self.inside(reader, k) == Some(id));
        match self.action(reader) {
            Some(Action::Unary(_) | Action::AddZero) => reads(0),
            Some(Action::Arithmetic(op)) => match (self.slots[reader].folded, reads(0), reads(1)) {
                (Some(product), ..) => reads(1 - usize::from(product)),
                (None, 1, 1) if op != Arithmetic::Mul => 0,
                (None, a, b) => a + b,
            },
            Some(Action::FromBool | Action::Function(_) | Action::Custom) | None => 0,
        }
    }

    fn fold(&mut self, id: DagId, fold: Fold, lines: Lines, held: Option<DagId>) -> Option<DagId> {
        let number = self.kernel.reductions.next();
        // where nothing is computed, elements are reduced where they lie
        let (from, held) = if lines.are_folded_by_steps() && !self.only_reduces {
            (None, self.take_into(number, fold, id, held))
        } else {
            let before = self.kernel.steps.len();
            let register = self.block_of(id);
            let is_copied = self.kernel.steps.len() > before;
            (Some(register), held.filter(|_| !is_copied))
        };
        let value = self.values.define(id);
        self.kernel.reductions.push(Reduction {
            fold,
            from,
            value: Some(value),
            lines,
        });
        held
    }

    /// Takes elements into a reduction of the block's only line; at the end of the segment, a
    /// function of lines takes the result.
    fn fold_line(&mut self, id: DagId, held: Option<DagId>) -> Option<DagId> {
        let (fold, lines) = (self.line_fold(id)?, self.kernel.blocks.whole_lines()?);
        let number = self.kernel.reductions.push(Reduction {
            fold,
            from: None,
            value: None,
            lines,
        });
        self.slots[id].reduction = Some(number);
        self.take_into(number, fold, id, held)
    }

    /// Lets steps take what a node reduces into a reduction; what is in the accumulator then.
    fn take_into(
        &mut self,
        number: ReductionId,
        fold: Fold,
        id: DagId,
        held: Option<DagId>,
    ) -> Option<DagId> {
        let inside = self.inside(id, 0);
        self.load_operand(id, 0, held);
        let is_last = inside.is_some_and(|from| self.slots[from].left == 0);
        if let Some(step) = self.last_step()
            && (step.code, step.store) == (Code::Unary(Function::Square), None)
            && (fold, is_last) == (Fold::Sum, true)
        {
            step.code = Code::SumSquare(number);
            self.scale_square(number);
            return None;
        }
        self.code(Code::Fold(number));
        inside
    }

    /// Lets the last step, which sums squares, also do what the step before does, if that only
    /// multiplies with a register.
    fn scale_square(&mut self, number: ReductionId) {
        let begun = self.kernel.line_steps.last().map_or(0, |line| line.after);
        if let [.., before, last] = &mut self.kernel.steps[begun..]
            && let (Code::Mul(scale), None, None) = (before.code, before.store, last.load)
        {
            before.code = Code::SumScaledSquare(scale, number);
            self.kernel.steps.pop();
        }
    }

    /// A register with a whole block of a node's first operand. What is the same everywhere, or in
    /// all of a line, has none: a step makes it.
    fn block_of(&mut self, id: DagId) -> Reg {
        let register = self.operand(id, 0);
        if self.kernel.registers[register].is_block() {
            return register;
        }
        let block = self.kernel.registers.push(Register::Block);
        self.load(register);
        self.store(block);
        block
    }

    /// A function of lines, which finds them in a register and leaves its result in another one.
    fn line(&mut self, id: DagId, function: LineFunction) -> Option<DagId> {
        let from = match self.slots[id].reduction {
            Some(reduction) => LineInput::Folded(reduction),
            None => LineInput::Block(self.block_of(id)),
        };
        let labels = match function {
            LineFunction::CrossEntropy => Some(self.values.value(self.dag.operands(id)[1].node)),
            _ => None,
        };
        let (is_live_out, after) = (self.values.is_live_out(id), self.kernel.steps.len());
        // softmax always writes a block; a sum of lines only if steps read it
        let has_register = self.slots[id].left > 0 || !function.reduces();
        let kind = match function.reduces() && self.kernel.blocks.has_long_lines() {
            true => Register::Line,
            false => Register::Block,
        };
        // a block of columns is in scratch memory anyway, and copied to where it belongs in the end
        let is_block = is_live_out && !function.reduces();
        let is_columns = matches!(self.kernel.blocks, Blocks::OfColumns(_));
        let is_output = is_block && (is_columns || self.slots[id].left == 0);
        let output = is_output.then(|| self.values.define(id));
        let kind = output.map_or(kind, Register::Output);
        let to = has_register.then(|| self.kernel.registers.push(kind));
        let value = (is_live_out && function.reduces()).then(|| self.values.define(id));
        self.kernel.line_steps.push(LineStep {
            function,
            after,
            from,
            labels,
            to,
            value,
        });
        let to = to?;
        self.slots[id].register = Some(to);
        if is_block && !is_output {
            let value = self.values.define(id);
            let output = self.kernel.registers.push(Register::Output(value));
            self.load(to);
            self.store(output);
        }
        None
    }

    /// A product that the kernel computes as it goes.
    fn product(&mut self, id: DagId) {
        let (Some(size), &[a, b]) = (self.dag.rows_of_product(id), self.dag.operands(id)) else {
            return; // fusion has taken no other
        };
        let [a, b] = [a, b].map(|operand| Matrix {
            view: self.values.view(operand),
            transposed: operand.transposed,
        });
        let out = self.values.is_live_out(id).then(|| self.values.define(id));
        let product: ProductId = self.kernel.products.push(Product { a, b, size, out });
        self.slots[id].register = Some(self.kernel.registers.push(Register::Product(product)));
    }

    /// Lets new values of parameters be written over the old ones. Where a later step still reads
    /// the old value, the new one waits in a temporary, and the last steps of the kernel write it.
    /// For `a - r·da` and `b - r·db`, where `da` reads `b` and `db` reads `a`, whichever comes
    /// first has to wait.
    fn defer_stores(&mut self) {
        let is_update = |r: &Register| matches!(r, Register::Output(value) if self.values.replaces(*value).is_some());
        if !self.kernel.registers.iter().any(is_update) {
            return;
        }
        // on the finished steps: what reads the old value last is known only now
        let last_reads = in_place::last_reads(&self.kernel);
        let mut waits: Vec<Reg> = Vec::new();
        for (at, step) in self.kernel.steps.iter().enumerate() {
            if let Some(output) = step.store
                && let Register::Output(value) = self.kernel.registers[output]
                && let Some(old) = self.values.replaces(value)
                && last_reads
                    .get(&old)
                    .is_some_and(|last| last.is_step_after(at))
            {
                waits.push(output);
            }
        }
        waits.sort_unstable();
        for output in waits {
            let waiting = self.kernel.registers.push(Register::Temporary);
            self.kernel
                .steps
                .iter_mut()
                .for_each(|step| step.rename(output, waiting));
            self.kernel.steps.push(Step {
                load: Some(waiting),
                store: Some(output),
                ..Step::NO_OP
            });
        }
    }
}

/// Steps and registers.
impl Emitter<'_, '_, '_> {
    /// Appends a step. What is added to a negated number is a difference; a step that only loads
    /// goes into the next one, and so do some others: a step costs as much as the arithmetic in it.
    fn code(&mut self, code: Code) {
        let difference = match code {
            Code::Add(a) => Some(Code::SubFrom(a)),
            Code::AddProduct(a, b) => Some(Code::ProductSub(a, b)),
            _ => None,
        };
        let mut step = Step {
            code,
            ..Step::NO_OP
        };
        if let Some(&mut Step {
            load,
            code: before,
            store: None,
        }) = self.last_step()
        {
            let merged = match (before, code, difference) {
                (Code::NoOp, ..) => Some(code),
                (Code::Unary(Function::Neg), _, Some(difference)) => Some(difference),
                (Code::Mul(a), Code::Add(b), _) => Some(Code::MulAdd(a, b)),
                (Code::Sub(a), Code::Mul(b), _) => Some(Code::SubMul(a, b)),
                _ => None,
            };
            if let Some(code) = merged {
                self.kernel.steps.pop();
                (step.code, step.load) = (code, load);
            }
        }
        self.kernel.steps.push(step);
    }

    /// The last step, if others can still become part of it: not one before a function of lines,
    /// which would then run too late.
    fn last_step(&mut self) -> Option<&mut Step> {
        let begun = self.kernel.line_steps.last().map_or(0, |line| line.after);
        self.kernel.steps[begun..].last_mut()
    }

    /// Reads a register into the accumulator.
    fn load(&mut self, register: Reg) {
        self.kernel.steps.push(Step {
            load: Some(register),
            ..Step::NO_OP
        });
    }

    /// Writes the accumulator to a register.
    fn store(&mut self, register: Reg) {
        match self.last_step() {
            Some(step) if step.store.is_none() => step.store = Some(register),
            _ => self.kernel.steps.push(Step {
                store: Some(register),
                ..Step::NO_OP
            }),
        }
    }

    /// A register that holds 0 or 1 everywhere.
    fn number(&mut self, number: u8) -> Reg {
        let registers = &mut self.kernel.registers;
        *self.numbers[usize::from(number)]
            .get_or_insert_with(|| registers.push(Register::Number(number)))
    }
}
