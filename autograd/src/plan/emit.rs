//! Units of elementwise work become lists of steps.
//!
//! A fused kernel has one accumulator (of many numbers) and registers. Nodes are emitted in an order that lets the
//! accumulator run on from one to the next; what is read later is stored.

use super::{
    fuse::{NONE, sum_lines},
    kernel::{
        self, Code, Flat, FlatOp, Fused, Home, Instruction, Layout, NO_REGISTER, Output, Product,
        Read, RowOp, RowStep, Source, Step, Sum,
    },
    lower::Lower,
    order::Order,
    simplify::Class,
};
use crate::{
    nodes::Program,
    op::{
        BUILTIN, IDS, Id,
        elementwise::Powi,
        pointwise::Function,
        reduce::{self, CHUNK},
    },
    tensor::DType,
};
use std::collections::HashMap;

/// Kinds of registers while their final numbers are not known: the highest bits.
const TEMPORARY: u32 = 1 << 30;
const KEPT: u32 = 2 << 30;
const OUTPUT: u32 = 3 << 30;
const KIND: u32 = 3 << 30;

/// In place of a value, in the key of a source that is a product: then its node follows.
const PRODUCT: u32 = NONE - 1;

const EMPTY: Step = Step {
    code: Code::Keep,
    load: NO_REGISTER,
    store: NO_REGISTER,
    a: 0,
    b: 0,
    c: 0,
};

/// What a node does with the accumulator.
pub(super) enum Action {
    /// Reads its one operand.
    Alone(Code),
    /// Two operands: the code if the first is in the accumulator, and if the second is.
    Pair(Code, Code),
    /// All operands in registers.
    Several(Code),
    /// All operands in registers, and the result as well.
    Function(Function),
}

pub(super) fn action(p: &Program, id: u32) -> Action {
    let op = p.nodes[id as usize].op as usize;
    if op >= BUILTIN.len() {
        return match p.op(id).as_any().downcast_ref::<Powi>() {
            Some(power) => Action::Alone(Code::Power(power.0)),
            None => Action::Several(Code::Ternary(Id::Select)), // truth values as numbers
        };
    }
    match IDS[op] {
        Id::Add => Action::Pair(Code::Add, Code::Add),
        Id::Sub => Action::Pair(Code::Sub, Code::SubFrom),
        Id::Mul => Action::Pair(Code::Mul, Code::Mul),
        Id::Div => Action::Pair(Code::Div, Code::DivInto),
        op => match Function::of(op) {
            Some(function) => Action::Function(function),
            None if p.nodes[id as usize].count == 1 => Action::Alone(Code::Unary(op)),
            None if p.nodes[id as usize].count == 2 => Action::Several(Code::Binary(op)),
            None => Action::Several(Code::Ternary(op)),
        },
    }
}

/// A kernel that is being written.
struct Emit {
    kernel: Fused,
    domain: u32,
    sources: HashMap<(u32, u32), u32>,
    free: Vec<u32>,
    order: Order,
}

impl Lower<'_, '_> {
    /// The node that input `k` of a member reads, if steps of the same unit compute it.
    pub(super) fn inside(&mut self, unit: u32, id: u32, k: usize) -> Option<u32> {
        let root = self.s.read(id, k).root;
        (self.units.of(root) == unit && !self.is_product(root)).then_some(root)
    }

    fn is_product(&self, id: u32) -> bool {
        self.s.class[id as usize] == Class::Single
    }

    pub(super) fn fused(
        &mut self,
        unit: u32,
        domain: u32,
        dtype: DType,
        line: Option<usize>,
        members: &[u32],
    ) -> Fused {
        let count = self.s.p.shapes[domain as usize].count();
        let kernel = Fused {
            dtype,
            count,
            line: line.unwrap_or(count),
            sources: Vec::new(),
            temporaries: 0,
            kept: 0,
            outputs: Vec::new(),
            steps: Vec::new(),
            rows: Vec::new(),
            sums: Vec::new(),
            products: Vec::new(),
            grain: 0,
            layout: Layout::default(),
        };
        let (products, members): (Vec<u32>, Vec<u32>) =
            members.iter().partition(|&&id| self.is_product(id));
        let order = self.order(unit, &members);
        let mut e = Emit {
            kernel,
            domain,
            sources: HashMap::new(),
            free: Vec::new(),
            order,
        };
        products.iter().for_each(|&id| self.product(&mut e, id));
        let mut held = None;
        for position in 0..e.order.nodes.len() {
            held = self.emit(&mut e, unit, position, held);
        }
        members
            .iter()
            .for_each(|&id| self.register[id as usize] = NONE);
        if let Some(Product {
            size: [_, _, n], ..
        }) = e.kernel.products.first()
        {
            let sums = e.kernel.sums.iter().map(|s| (s.n, s.inner));
            e.kernel.grain = kernel::rows_of_splits(count, *n, line, sums).unwrap_or(count / n); // it could be taken
        }
        self.defer_stores(&mut e);
        finish(e.kernel)
    }

    /// Lets new values of parameters be written over the old ones. Where a later step still reads the old value, the new
    /// one waits in a temporary, and the last steps of the kernel write it. For `a - r·da` and `b - r·db`, where `da` reads
    /// `b` and `db` reads `a`, whichever comes first has to wait.
    fn defer_stores(&self, e: &mut Emit) {
        if !e
            .kernel
            .outputs
            .iter()
            .any(|o| self.replaced(o.value).is_some())
        {
            return;
        }
        let last_reads = e.kernel.last_reads();
        let mut waits: HashMap<u32, u32> = HashMap::new();
        for at in 0..e.kernel.steps.len() {
            let register = e.kernel.steps[at].store;
            if register == NO_REGISTER || register & KIND != OUTPUT {
                continue;
            }
            let old = self.replaced(e.kernel.outputs[(register & !KIND) as usize].value);
            if old
                .and_then(|old| last_reads.get(&old))
                .is_some_and(|&last| last > at && last != usize::MAX)
            {
                waits.insert(register, e.temporary());
            }
        }
        for step in &mut e.kernel.steps {
            for register in [
                &mut step.load,
                &mut step.store,
                &mut step.a,
                &mut step.b,
                &mut step.c,
            ] {
                *register = waits.get(register).copied().unwrap_or(*register);
            }
        }
        let mut last: Vec<(u32, u32)> = waits.into_iter().collect();
        last.sort_unstable();
        let write = |(output, waiting)| Step {
            load: waiting,
            store: output,
            ..EMPTY
        };
        e.kernel.steps.extend(last.into_iter().map(write));
    }

    /// The value that holds the old elements of the parameter that a value is an update of, if a kernel reads them.
    fn replaced(&self, new: u32) -> Option<u32> {
        let Home::Update(update) = self.plan.values[new as usize].home else {
            return None;
        };
        let target = self.updates[update as usize].target;
        self.value
            .get(target as usize)
            .copied()
            .filter(|&value| value != NONE)
    }

    /// A product that the kernel computes as it goes.
    fn product(&mut self, e: &mut Emit, id: u32) {
        let Some(size) = self.s.product_size(id) else {
            return;
        };
        let [a, b] = [0, 1].map(|k| {
            let read = self.s.read(id, k);
            (self.value(read.root), read.transposed)
        });
        let out = self.is_exported(id).then(|| self.define(id));
        let number = e.kernel.products.len() as u32;
        e.kernel.products.push(Product { a, b, size, out });
        e.source(
            (PRODUCT, id),
            Source {
                value: out.unwrap_or(NONE),
                read: Read::Product(number),
            },
        );
    }

    /// Emits the next node, given the one that is in the accumulator; what is in it then.
    fn emit(&mut self, e: &mut Emit, unit: u32, position: usize, held: Option<u32>) -> Option<u32> {
        let (p, id) = (self.s.p, e.order.nodes[position]);
        match self.s.class[id as usize] {
            Class::Sum => return self.sum(e, unit, id, held),
            Class::Row => return self.row(e, unit, id),
            Class::Broadcast => {
                let from = self.operand_of(e, unit, id, 0);
                e.load(from);
            }
            _ => match action(p, id) {
                Action::Alone(code) => {
                    self.bring(e, unit, id, 0, held);
                    e.step(code, []);
                }
                Action::Pair(code, _) if e.order.folded.contains_key(&id) => {
                    self.with_product(e, unit, id, code, held)
                }
                Action::Pair(first, second) => {
                    let (a, b) = (self.inside(unit, id, 0), self.inside(unit, id, 1));
                    if a == b && a.is_some() && a == held && first == Code::Mul {
                        self.used(e, held);
                        self.used(e, held);
                        e.step(Code::Unary(Id::Square), []);
                    } else if held.is_some() && b == held && a != held {
                        let other = self.operand_of(e, unit, id, 0);
                        self.used(e, held);
                        e.step(second, [other]);
                    } else {
                        let other = self.operand_of(e, unit, id, 1);
                        self.bring(e, unit, id, 0, held.filter(|_| a != b));
                        e.step(first, [other]);
                    }
                }
                Action::Several(code) => {
                    let [a, mut b, mut c] = self.operands(e, unit, id);
                    if self.s.arity(id) == 1 {
                        (b, c) = (e.number(1), e.number(0));
                    }
                    e.push(Step {
                        code,
                        a,
                        b,
                        c,
                        ..EMPTY
                    });
                }
                Action::Function(function) => {
                    let [a, b, c] = self.operands(e, unit, id);
                    e.push(Step {
                        code: Code::Function(function),
                        a,
                        b,
                        c,
                        ..EMPTY
                    });
                    self.settle(e, unit, position);
                    return None;
                }
            },
        }
        self.settle(e, unit, position);
        Some(id)
    }

    /// The registers that hold a node's inputs; the first one again for those that it does not have.
    fn operands(&mut self, e: &mut Emit, unit: u32, id: u32) -> [u32; 3] {
        let mut registers = [self.operand_of(e, unit, id, 0); 3];
        for (k, register) in registers
            .iter_mut()
            .enumerate()
            .take(self.s.arity(id))
            .skip(1)
        {
            *register = self.operand_of(e, unit, id, k);
        }
        registers
    }

    /// Emits a node of which one input is a product of two registers.
    fn with_product(&mut self, e: &mut Emit, unit: u32, id: u32, code: Code, held: Option<u32>) {
        let k = e.order.folded[&id];
        let product = self.s.read(id, k).root;
        self.bring(e, unit, id, 1 - k, held);
        let (a, b) = (
            self.operand_of(e, unit, product, 0),
            self.operand_of(e, unit, product, 1),
        );
        let code = match code {
            Code::Add => Code::AddProduct,
            Code::Mul => Code::MulProduct,
            _ if k == 1 => Code::SubProduct,
            _ => Code::ProductSub,
        };
        self.used(e, Some(product));
        e.push(Step {
            code,
            a,
            b,
            ..EMPTY
        });
    }

    /// Brings input `k` into the accumulator.
    fn bring(&mut self, e: &mut Emit, unit: u32, id: u32, k: usize, held: Option<u32>) {
        if held.is_some() && self.inside(unit, id, k) == held {
            return self.used(e, held);
        }
        let from = self.operand_of(e, unit, id, k);
        e.load(from);
    }

    /// One of the reads of a node of the unit is done.
    fn used(&mut self, e: &mut Emit, id: Option<u32>) {
        let Some(id) = id else { return };
        let left = &mut self.left[id as usize];
        *left -= 1;
        let register = self.register[id as usize];
        if *left == 0 && register != NONE && register & KIND == TEMPORARY {
            e.free.push(register);
        }
    }

    /// The register that holds input `k`.
    fn operand_of(&mut self, e: &mut Emit, unit: u32, id: u32, k: usize) -> u32 {
        let read = self.s.read(id, k);
        if self.units.of(read.root) == unit {
            if self.is_product(read.root) {
                return e.sources[&(PRODUCT, read.root)];
            }
            self.used(e, Some(read.root));
            return self.register[read.root as usize];
        }
        let (value, seen) = (
            self.value(read.root),
            self.s.p.nodes[read.seen as usize].shape,
        );
        let shapes = &self.s.p.shapes;
        let how = kernel::read(&shapes[seen as usize], &shapes[e.domain as usize]);
        e.source((value, seen), Source { value, read: how })
    }

    /// After a node was computed: stores it if it is read otherwise than from the accumulator.
    fn settle(&mut self, e: &mut Emit, unit: u32, position: usize) {
        let id = e.order.nodes[position];
        let by_steps = e
            .order
            .sums(id)
            .filter(|&sum| self.is_by_steps(sum))
            .count();
        let (mut direct, is_function) = (
            by_steps as u32,
            matches!(action(self.s.p, id), Action::Function(_)),
        );
        if is_function {
            direct = 0; // its result is not in the accumulator
        } else if let Some(&next) = e.order.nodes.get(position + 1 + by_steps)
            && !e.order.kept.contains(&id)
        {
            direct += self.taken(e, unit, next, id);
        }
        let exported = self.is_exported(id);
        if exported || self.left[id as usize] > direct {
            let register = if exported {
                let value = self.define(id);
                e.output(value)
            } else if e.order.kept.contains(&id) {
                e.keep()
            } else {
                e.free.pop().unwrap_or_else(|| e.temporary())
            };
            self.register[id as usize] = register;
            e.store(register);
        }
    }

    /// How often a node reads `id` from the accumulator, if it is there.
    fn taken(&mut self, e: &Emit, unit: u32, reader: u32, id: u32) -> u32 {
        let reads = |l: &mut Self, k| (l.inside(unit, reader, k) == Some(id)) as u32;
        if let Some(&product) = e.order.folded.get(&reader) {
            return reads(self, 1 - product);
        }
        match action(self.s.p, reader) {
            Action::Alone(_) => reads(self, 0),
            Action::Pair(first, _) => match (reads(self, 0), reads(self, 1)) {
                (1, 1) if first != Code::Mul => 0,
                (a, b) => a + b,
            },
            Action::Several(_) | Action::Function(_) => 0,
        }
    }

    /// Long lines are summed chunk by chunk as they are computed, others from a kept block.
    pub(super) fn is_by_steps(&self, sum: u32) -> bool {
        sum_lines(self.s, sum).is_some_and(|(n, inner)| inner == 1 && n > CHUNK)
    }

    fn sum(&mut self, e: &mut Emit, unit: u32, id: u32, held: Option<u32>) -> Option<u32> {
        let Some((n, inner)) = sum_lines(self.s, id) else {
            return held;
        };
        let number = e.kernel.sums.len() as u32;
        let (from, held) = if self.is_by_steps(id) {
            let inside = self.inside(unit, id, 0);
            self.bring(e, unit, id, 0, held);
            e.step(Code::Sum, [number]);
            (None, inside)
        } else {
            let (register, copied) = self.block_of(e, unit, id);
            (Some(register), held.filter(|_| !copied))
        };
        let value = self.define(id);
        e.kernel.sums.push(Sum {
            from,
            value,
            n,
            inner,
        });
        held
    }

    /// A register with a whole block of a node's first input, and whether it had to be made: constants have none.
    fn block_of(&mut self, e: &mut Emit, unit: u32, id: u32) -> (u32, bool) {
        let register = self.operand_of(e, unit, id, 0);
        if !e
            .kernel
            .sources
            .get(register as usize)
            .is_some_and(|s| s.read.is_constant())
        {
            return (register, false);
        }
        let block = e.keep();
        e.load(register);
        e.store(block);
        (block, true)
    }

    /// A function of rows, which finds them in a register and leaves its result in another one.
    fn row(&mut self, e: &mut Emit, unit: u32, id: u32) -> Option<u32> {
        let (op, _) = self.s.row(id)?;
        let (from, _) = self.block_of(e, unit, id);
        let labels = (op == RowOp::CrossEntropy).then(|| self.value(self.s.read(id, 1).root));
        let (exported, after) = (self.is_exported(id), e.kernel.steps.len() as u32);
        let to = (self.left[id as usize] > 0 || !op.reduces()).then(|| e.keep());
        let value = (exported && op.reduces()).then(|| self.define(id));
        e.kernel.rows.push(RowStep {
            op,
            after,
            from,
            labels,
            to,
            value,
        });
        let to = to?;
        self.register[id as usize] = to;
        if exported && !op.reduces() {
            let value = self.define(id);
            let output = e.output(value);
            e.load(to);
            e.store(output);
        }
        None
    }

    pub(super) fn flat(&mut self, unit: u32, dtype: DType, members: &[u32]) -> Flat {
        let mut flat = Flat {
            dtype,
            registers: 0,
            loads: Vec::new(),
            code: Vec::with_capacity(members.len()),
            stores: Vec::new(),
        };
        let (mut free, mut loaded) = (Vec::new(), Vec::new());
        for &id in members {
            for k in 0..self.s.arity(id) {
                let root = self.s.read(id, k).root;
                self.left[root as usize] += 1;
                if self.units.of(root) != unit && self.register[root as usize] == NONE {
                    self.register[root as usize] = flat.registers;
                    let value = self.value(root);
                    flat.loads.push((value, flat.registers));
                    loaded.push(root);
                    flat.registers += 1;
                }
            }
        }
        loaded
            .iter()
            .for_each(|&root| self.left[root as usize] += 1); // never overwritten
        for &id in members {
            let exported = self.is_exported(id);
            self.left[id as usize] += exported as u32;
            let (mut args, arity) = ([0; 3], self.s.arity(id));
            for (k, arg) in args.iter_mut().enumerate().take(arity) {
                let root = self.s.read(id, k).root as usize;
                *arg = self.register[root];
                self.left[root] -= 1;
                if self.left[root] == 0 {
                    free.push(self.register[root]);
                }
            }
            let to = free.pop().unwrap_or_else(|| {
                flat.registers += 1;
                flat.registers - 1
            });
            self.register[id as usize] = to;
            flat.code.push(Instruction {
                op: flat_op(self.s.p, id),
                to,
                args,
            });
            if exported {
                flat.stores.push((to, self.define(id)));
            }
        }
        for &root in &loaded {
            self.left[root as usize] = 0;
        }
        members
            .iter()
            .chain(&loaded)
            .for_each(|&id| self.register[id as usize] = NONE);
        flat
    }
}

/// Registers get their final numbers.
fn finish(mut kernel: Fused) -> Fused {
    let sources = kernel.sources.len() as u32;
    let (temporaries, kept) = (kernel.temporaries, kernel.kept);
    let place = |register: u32| {
        let number = register & !KIND;
        match register & KIND {
            TEMPORARY => sources + number,
            KEPT => sources + temporaries + number,
            OUTPUT => sources + temporaries + kept + number,
            _ => number,
        }
    };
    for step in &mut kernel.steps {
        for register in [&mut step.load, &mut step.store]
            .into_iter()
            .filter(|r| **r != NO_REGISTER)
        {
            *register = place(*register);
        }
        if step.code != Code::Sum {
            (step.a, step.b, step.c) = (place(step.a), place(step.b), place(step.c));
        }
    }
    kernel
        .sums
        .iter_mut()
        .for_each(|sum| sum.from = sum.from.map(place));
    kernel
        .rows
        .iter_mut()
        .for_each(|row| (row.from, row.to) = (place(row.from), row.to.map(place)));
    kernel.lay_out();
    kernel
}

fn flat_op(p: &Program, id: u32) -> FlatOp {
    let op = p.nodes[id as usize].op as usize;
    if op < BUILTIN.len() {
        return match IDS[op] {
            Id::Add => FlatOp::Add,
            Id::Sub => FlatOp::Sub,
            Id::Mul => FlatOp::Mul,
            Id::Div => FlatOp::Div,
            Id::Neg => FlatOp::Neg,
            op => FlatOp::Formula(op),
        };
    }
    let op = p.op(id).as_any();
    match op.downcast_ref::<Powi>() {
        Some(power) => FlatOp::Power(power.0),
        None if op.is::<reduce::Sum>() => FlatOp::Sum,
        None => FlatOp::Number,
    }
}

impl Emit {
    fn step<const N: usize>(&mut self, code: Code, registers: [u32; N]) {
        let a = registers.first().copied().unwrap_or(0);
        self.push(Step { code, a, ..EMPTY });
    }

    /// Appends a step. What is added to a negated number is a difference; a step that only reads goes into the next one.
    fn push(&mut self, mut step: Step) {
        let difference = match step.code {
            Code::Add => Some(Code::SubFrom),
            Code::AddProduct => Some(Code::ProductSub),
            _ => None,
        };
        if let Some(&mut Step {
            code,
            load,
            store: NO_REGISTER,
            ..
        }) = self.open()
        {
            let merged = match (code, difference) {
                (Code::Keep, _) => Some(step.code),
                (Code::Unary(Id::Neg), Some(difference)) => Some(difference),
                _ => None,
            };
            if let Some(code) = merged {
                self.kernel.steps.pop();
                (step.code, step.load) = (code, load);
            }
        }
        self.kernel.steps.push(step);
    }

    /// The last step, if others can still become part of it.
    fn open(&mut self) -> Option<&mut Step> {
        let begun = self.kernel.rows.last().map_or(0, |row| row.after as usize);
        self.kernel.steps[begun..].last_mut()
    }

    /// Reads a register into the accumulator.
    fn load(&mut self, register: u32) {
        self.kernel.steps.push(Step {
            load: register,
            ..EMPTY
        });
    }

    /// Writes the accumulator to a register.
    fn store(&mut self, register: u32) {
        match self.open() {
            Some(step) if step.store == NO_REGISTER => step.store = register,
            _ => self.kernel.steps.push(Step {
                store: register,
                ..EMPTY
            }),
        }
    }

    /// A register for a group.
    fn temporary(&mut self) -> u32 {
        self.kernel.temporaries += 1;
        TEMPORARY | (self.kernel.temporaries - 1)
    }

    /// A register for a block that is kept.
    fn keep(&mut self) -> u32 {
        self.kernel.kept += 1;
        KEPT | (self.kernel.kept - 1)
    }

    /// A register that is written to a value.
    fn output(&mut self, value: u32) -> u32 {
        self.kernel.outputs.push(Output { value });
        OUTPUT | (self.kernel.outputs.len() as u32 - 1)
    }

    fn source(&mut self, key: (u32, u32), source: Source) -> u32 {
        let sources = &mut self.kernel.sources;
        *self.sources.entry(key).or_insert_with(|| {
            sources.push(source);
            sources.len() as u32 - 1
        })
    }

    /// A register that holds 0 or 1 everywhere.
    fn number(&mut self, n: u8) -> u32 {
        self.source(
            (NONE, n.into()),
            Source {
                value: NONE,
                read: Read::Number(n),
            },
        )
    }
}
