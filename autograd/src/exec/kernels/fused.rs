//! Fused elementwise work: blocks of elements, each taken through the steps of a kernel, group by group.
//!
//! The accumulator is a few vector registers; what a step stores for later stays in the first-level cache. Sums are
//! taken from the blocks in the canonical order ([`reduce`](crate::op::reduce)), whatever the width of the vectors.

use super::{
    Isa,
    rows::{self, Rows},
    vector::{Vector, Vectors},
};
use crate::{
    error::OpError,
    exec::{gemm, memory::Memory},
    math::Wide,
    op::{
        elementwise::{several, unary},
        reduce::{DEPTH, LANES, Pairs, sum_lanes},
    },
    plan::kernel::{BLOCK, Code, Fused, MOST_GROUP, NO_REGISTER, Product, Read, RowStep, Source, Step, Sum},
    shape::Walk,
    tensor::DType,
};
use std::{cell::Cell, ops::Range, slice};

/// A kernel that is to run in some parts: where its values are, and scratch memory for it.
#[derive(Clone, Copy)]
pub(crate) struct Job<'r> {
    k: &'r Fused,
    memory: Memory<'r>,
    parts: usize,
    /// The sums of chunks.
    partials: *mut u8,
    /// Blocks and temporaries, for each part.
    scratch: *mut u8,
}

impl<'r> Job<'r> {
    /// `room` has as many bytes as [`Fused::room`] says.
    pub(crate) fn new(k: &'r Fused, memory: Memory<'r>, parts: usize, room: *mut u8) -> Job<'r> {
        Job { k, memory, parts, partials: room, scratch: room.wrapping_add(k.partials()) }
    }

    /// Does one of its parts. An error if a label is not one of the classes.
    pub(crate) fn part(&self, part: usize) -> Result<(), OpError> {
        let Fused { count, dtype, .. } = *self.k;
        if count == 0 {
            return Ok(());
        }
        let (period, grain) = self.k.splits().unwrap_or((1, 1));
        let at = |part: usize| match count / self.parts * part {
            _ if part == self.parts => count,
            place => place - place % period % grain,
        };
        let (range, scratch) = (at(part)..at(part + 1), self.scratch.wrapping_add(part * self.k.scratch()));
        match dtype {
            _ if range.is_empty() => Ok(()),
            DType::F32 => self.dispatch::<f32>(scratch.cast(), range),
            _ => self.dispatch::<f64>(scratch.cast(), range),
        }
    }

    /// Adds up what the parts have summed, when all of them are done.
    pub(crate) fn finish(&self) {
        match self.k.dtype {
            _ if self.k.count == 0 => {}
            DType::F32 => self.add_up::<f32>(),
            _ => self.add_up::<f64>(),
        }
    }

    fn dispatch<T: Vectors>(&self, scratch: *mut T, range: Range<usize>) -> Result<(), OpError> {
        // where most of the time is spent in called functions, the width of the vectors does not matter
        let calls = self.k.steps.iter().any(|s| s.calls(T::BY_LIBRARY));
        match Isa::get() {
            Isa::Baseline => blocks::<T, Wide<Wide<T>>, true>(self, scratch, range),
            // SAFETY: the processor was asked for these instructions.
            #[cfg(target_arch = "x86_64")]
            _ if calls => unsafe { avx2::<T, true>(self, scratch, range) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::<T, false>(self, scratch, range) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::<T>(self, scratch, range) },
        }
    }

    /// Where the sums of chunks begin, for each sum.
    fn partials<T: Vectors>(&self) -> impl Iterator<Item = (&Sum, *mut T)> {
        let mut next: *mut T = self.partials.cast();
        self.k.sums.iter().map(move |sum| {
            let count = sum.partials(self.k.count);
            let start = next;
            next = next.wrapping_add(count);
            (sum, start)
        })
    }

    /// Adds up the sums of chunks.
    fn add_up<T: Vectors>(&self) {
        for (sum, partials) in self.partials::<T>() {
            let (chunks, inner) = (sum.chunks(), sum.inner);
            let all = self.k.count / sum.n;
            // SAFETY: the value has a number for each sum, and there is room for those of its chunks; no other thread is
            // at work any more.
            let (out, partials) = unsafe {
                let out = slice::from_raw_parts_mut(self.memory.pointer::<T>(sum.value), all);
                (out, slice::from_raw_parts_mut(partials, sum.partials(self.k.count)))
            };
            for (out, chunks) in out.chunks_exact_mut(inner).zip(partials.chunks_exact_mut(chunks * inner)) {
                pairwise_rows(chunks, inner);
                out.copy_from_slice(&chunks[..inner]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<T: Vectors, const CALLS: bool>(
    job: &Job<'_>,
    scratch: *mut T,
    range: Range<usize>,
) -> Result<(), OpError> {
    blocks::<T, Wide<T::Avx2>, CALLS>(job, scratch, range)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512<T: Vectors>(job: &Job<'_>, scratch: *mut T, range: Range<usize>) -> Result<(), OpError> {
    blocks::<T, Wide<T::Avx512>, false>(job, scratch, range)
}

/// A register as steps see it: the element at `i` lies at `start + (i & mask)`.
#[derive(Clone, Copy)]
struct Register<T> {
    start: *mut T,
    mask: usize,
}

/// Where a register's elements come from or go to.
#[derive(Clone, Copy)]
enum Role<T> {
    /// Read where it lies, as far as whole groups do.
    From(*mut T),
    /// Written where it belongs, as far as whole groups are.
    Into(*mut T),
    /// Read from truth values.
    Truths(*mut bool),
    /// Written to truth values.
    ToTruths(*mut bool),
    /// Copied from a smaller array.
    Spread(*mut T, usize, Walk),
    /// Copied from a smaller array of truth values.
    SpreadTruths(*mut bool, usize, Walk),
    /// Written by steps.
    Block,
}

/// A register that holds a block of elements.
#[derive(Clone, Copy)]
struct Block<T> {
    register: usize,
    role: Role<T>,
    /// Its block of scratch memory.
    scratch: *mut T,
}

/// A kernel at work.
struct Work<T> {
    registers: Vec<Register<T>>,
    /// The registers that hold blocks, in their order: as the layout numbers them.
    blocks: Vec<Block<T>>,
    sums: Vec<SumState<T>>,
    /// Room for functions of rows, if there are any.
    rows: [*mut T; 3],
    /// The kernel's products: their places in `blocks`, and room for some of their rows.
    products: Vec<(usize, *mut T)>,
}

/// How many elements go through a step at once: two wide vectors.
const fn group<V: Vector>() -> usize {
    2 * V::N
}

/// Takes a range of elements, block by block, through the kernel.
#[inline(always)]
fn blocks<T: Vectors, V: Vector<Elem = T>, const CALLS: bool>(
    job: &Job<'_>,
    scratch: *mut T,
    range: Range<usize>,
) -> Result<(), OpError> {
    let mut work = Work::<T>::new(job, scratch, group::<V>());
    let mut start = range.start;
    while start < range.end {
        let end = work.multiply(job, start, range.end);
        stretch::<T, V, CALLS>(job, &mut work, start..end)?;
        start = end;
    }
    Ok(())
}

/// Takes a range of elements, whose products are there, block by block through the kernel.
#[inline(always)]
fn stretch<T: Vectors, V: Vector<Elem = T>, const CALLS: bool>(
    job: &Job<'_>,
    work: &mut Work<T>,
    range: Range<usize>,
) -> Result<(), OpError> {
    let Job { k, memory, .. } = *job;
    let per_block = k.block();
    let mut start = range.start;
    while start < range.end {
        let left = range.end - start;
        let n = per_block.min(left).min(if k.line < BLOCK { left } else { k.line - start % k.line });
        let whole = n / group::<V>() * group::<V>();
        work.fill(start, n);
        work.load_tail(start, whole, n);
        let (mut done, mut rows) = (0, &k.rows[..]);
        loop {
            let next = rows.first().map_or(k.steps.len(), |row| row.after as usize);
            let part = &k.steps[done..next];
            work.place(start, true);
            // SAFETY: `place` made every register good for the elements `0..whole` of the block.
            unsafe { steps::<T, V, CALLS>(part, &work.registers, &mut work.sums, 0, whole, group::<V>()) };
            if whole < n {
                work.place(start, false);
                // SAFETY: now all registers are scratch blocks, which are longer than `n` rounded up to groups.
                unsafe { steps::<T, V, CALLS>(part, &work.registers, &mut work.sums, whole, n, n - whole) };
                work.store_tail(start, whole, n);
            }
            let Some((row, rest)) = rows.split_first() else { break };
            work.row(k, row, memory, start, n)?;
            (done, rows) = (next, rest);
        }
        work.finish_block(k, start, n);
        start += n;
    }
    Ok(())
}

/// Takes the elements `from..to` through the steps, a group at a time; of the last group only `valid` elements count.
///
/// # Safety
/// Registers are good for all groups that begin in `from..to`.
#[inline(always)]
unsafe fn steps<T: Vectors, V: Vector<Elem = T>, const CALLS: bool>(
    steps: &[Step],
    registers: &[Register<T>],
    sums: &mut [SumState<T>],
    from: usize,
    to: usize,
    valid: usize,
) {
    let mut i = from;
    while i < to {
        let (mut low, mut high) = (V::of(0.0), V::of(0.0));
        for step in steps {
            macro_rules! at {
                ($register:expr) => {{
                    // SAFETY: steps name registers that the kernel has, and the caller's promise.
                    unsafe {
                        let r = registers.get_unchecked($register as usize);
                        r.start.add(i & r.mask)
                    }
                }};
            }
            macro_rules! load {
                ($register:expr) => {{
                    let p = at!($register);
                    // SAFETY: the caller's promise.
                    unsafe { (V::load(p), V::load(p.add(V::N))) }
                }};
            }
            macro_rules! with {
                (|$acc:ident, $other:ident| $e:expr) => {{
                    let (a, b) = load!(step.a);
                    low = {
                        let ($acc, $other) = (low, a);
                        $e
                    };
                    high = {
                        let ($acc, $other) = (high, b);
                        $e
                    };
                }};
            }
            macro_rules! with_product {
                (|$acc:ident, $product:ident| $e:expr) => {{
                    let (a, b) = (load!(step.a), load!(step.b));
                    low = {
                        let ($acc, $product) = (low, a.0 * b.0);
                        $e
                    };
                    high = {
                        let ($acc, $product) = (high, a.1 * b.1);
                        $e
                    };
                }};
            }
            if step.load != NO_REGISTER {
                (low, high) = load!(step.load);
            }
            match step.code {
                Code::Keep => {}
                Code::Add => with!(|acc, other| acc + other),
                Code::Sub => with!(|acc, other| acc - other),
                Code::Mul => with!(|acc, other| acc * other),
                Code::Div => with!(|acc, other| acc / other),
                Code::SubFrom => with!(|acc, other| other - acc),
                Code::DivInto => with!(|acc, other| other / acc),
                Code::AddProduct => with_product!(|acc, product| acc + product),
                Code::SubProduct => with_product!(|acc, product| acc - product),
                Code::MulProduct => with_product!(|acc, product| acc * product),
                Code::ProductSub => with_product!(|acc, product| product - acc),
                Code::Unary(op) => {
                    low = unary::<V, CALLS>(op, low);
                    high = unary::<V, CALLS>(op, high);
                }
                Code::Several(op) => {
                    let (a, b, c) = (load!(step.a), load!(step.b), load!(step.c));
                    low = several::<V, CALLS>(op, [a.0, b.0, c.0]);
                    high = several::<V, CALLS>(op, [a.1, b.1, c.1]);
                }
                Code::Power(n) => {
                    low = low.powi(n);
                    high = high.powi(n);
                }
                Code::Sum => {
                    let sum = &mut sums[step.a as usize];
                    if valid == group::<V>() {
                        // SAFETY: a ring has as many numbers; groups begin at multiples of their length.
                        unsafe {
                            low.add_to_ring(sum.lanes.as_mut_ptr(), i);
                            high.add_to_ring(sum.lanes.as_mut_ptr(), i + V::N);
                        }
                    } else {
                        let mut all = [T::default(); MOST_GROUP];
                        // SAFETY: a group has at most this many elements.
                        unsafe {
                            low.store(all.as_mut_ptr());
                            high.store(all.as_mut_ptr().add(V::N));
                        }
                        sum.add(&all[..valid], i);
                    }
                }
            }
            if step.store != NO_REGISTER {
                let p = at!(step.store);
                // SAFETY: the caller's promise.
                unsafe {
                    low.store(p);
                    high.store(p.add(V::N));
                }
            }
        }
        i += group::<V>();
    }
}

/// The number that a source holds everywhere.
fn number<T: Vectors>(source: &Source, memory: Memory<'_>) -> T {
    // SAFETY: the value was written in an earlier stage. Single numbers are never updated in place while they are read.
    unsafe {
        match source.read {
            Read::Number(n) => T::of(n.into()),
            _ if memory.dtype(source.value) == DType::Bool => T::from_mask(memory.elements::<bool>(source.value)[0]),
            _ => memory.elements::<T>(source.value)[0],
        }
    }
}

/// Where the elements of a source come from: they lie where they are, or are copied block by block.
fn source_role<T: Vectors>(value: u32, read: Read, memory: Memory<'_>) -> Role<T> {
    let count = memory.count(value);
    match (read, memory.dtype(value)) {
        (Read::Walk(walk), DType::Bool) => Role::SpreadTruths(memory.pointer(value), count, walk),
        (Read::Walk(walk), _) => Role::Spread(memory.pointer(value), count, walk),
        (_, DType::Bool) => Role::Truths(memory.pointer(value)),
        _ => Role::From(memory.pointer(value)),
    }
}

impl<T: Vectors> Work<T> {
    /// `scratch` is the memory of one part, which [`Fused::layout`] divides.
    fn new(job: &Job<'_>, scratch: *mut T, group: usize) -> Work<T> {
        let Job { k, memory, .. } = *job;
        let layout = &k.layout;
        let mut work = Work {
            registers: layout
                .registers
                .iter()
                .map(|&at| Register { start: scratch.wrapping_add(at), mask: 0 })
                .collect(),
            blocks: Vec::with_capacity(layout.registers.len()),
            sums: Vec::new(),
            rows: layout.rows.map(|at| scratch.wrapping_add(at)),
            products: Vec::new(),
        };
        for (register, source) in k.sources.iter().enumerate() {
            match source.read {
                read if read.is_constant() => {
                    let start = work.registers[register].start;
                    // SAFETY: there is room for a group.
                    unsafe { slice::from_raw_parts_mut(start, group) }.fill(number(source, memory));
                }
                Read::Product(number) => {
                    let room = scratch.wrapping_add(layout.products[number as usize]);
                    work.products.push((work.blocks.len(), room));
                    work.block(register, Role::From(room));
                }
                read => work.block(register, source_role(source.value, read, memory)),
            }
        }
        let kept = k.sources.len() + k.temporaries as usize;
        (kept..kept + k.kept as usize).for_each(|register| work.block(register, Role::Block));
        for (register, output) in (k.registers() - k.outputs.len()..).zip(&k.outputs) {
            work.block(
                register,
                match memory.dtype(output.value) {
                    DType::Bool => Role::ToTruths(memory.pointer(output.value)),
                    _ => Role::Into(memory.pointer(output.value)),
                },
            );
        }
        work.sums = job.partials().map(|(_, p)| SumState { lanes: [T::default(); LANES], partials: p }).collect();
        work
    }

    /// Computes the next rows of the kernel's products, from element `start` on; the element after their last one.
    fn multiply(&mut self, job: &Job<'_>, start: usize, end: usize) -> usize {
        let Job { k, memory, .. } = *job;
        let mut until = end;
        for (&Product { a, b, size, out }, &(block, room)) in k.products.iter().zip(&self.products) {
            until = end.min(start + k.rows_together() * size[2]);
            let to = out.map_or(room, |value| memory.pointer::<T>(value).wrapping_add(start));
            // SAFETY: the matrices were written in an earlier stage. A parameter that a product of this kernel reads is not
            // updated in place by it.
            let [a, b] = [a, b].map(|(value, transposed)| (unsafe { memory.elements::<f32>(value) }, transposed));
            // SAFETY: there is room for so many rows, in the value or in scratch, and no other thread works on them.
            // Products are of f32, and so is then the kernel.
            let rows = unsafe { slice::from_raw_parts_mut(to.cast(), until - start) };
            gemm::rows(a, b, size, start / size[2], rows);
            self.blocks[block].role = Role::From(to.wrapping_sub(start));
        }
        until
    }

    /// A register that holds a block.
    fn block(&mut self, register: usize, role: Role<T>) {
        self.registers[register].mask = usize::MAX;
        self.blocks.push(Block { register, role, scratch: self.registers[register].start });
    }

    /// Fills the blocks of sources that cannot be read where they lie.
    fn fill(&self, start: usize, n: usize) {
        for &Block { role, scratch: block, .. } in &self.blocks {
            // SAFETY: blocks have room for `n` elements; sources have as many as their roles say.
            unsafe {
                let block = slice::from_raw_parts_mut(block, n);
                match role {
                    Role::Spread(data, count, walk) => walk.copy(slice::from_raw_parts(data, count), start, block),
                    Role::SpreadTruths(data, count, walk) => {
                        let (data, mut truths) = (slice::from_raw_parts(data, count), [false; BLOCK]);
                        walk.copy(data, start, &mut truths[..n]);
                        block.iter_mut().zip(truths).for_each(|(b, v)| *b = T::from_mask(v));
                    }
                    Role::Truths(data) => {
                        let data = slice::from_raw_parts(data.add(start), n);
                        block.iter_mut().zip(data).for_each(|(b, &v)| *b = T::from_mask(v));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Lets registers point to the block that begins at `start`: where the values lie, or to scratch.
    #[inline(always)]
    fn place(&mut self, start: usize, direct: bool) {
        for &Block { register, role, scratch: block } in &self.blocks {
            self.registers[register].start = match role {
                Role::From(p) | Role::Into(p) if direct => p.wrapping_add(start),
                _ => block,
            };
        }
    }

    /// Copies the last elements of a block, which do not fill a group, from the sources into scratch.
    fn load_tail(&self, start: usize, from: usize, to: usize) {
        for &Block { role, scratch: block, .. } in &self.blocks {
            if let Role::From(p) = role {
                // SAFETY: `from..to` lies within the block and, from `start` on, within the value.
                unsafe { std::ptr::copy(p.wrapping_add(start + from), block.add(from), to - from) }
            }
        }
    }

    /// Copies them from scratch to the outputs.
    fn store_tail(&self, start: usize, from: usize, to: usize) {
        for &Block { role, scratch: block, .. } in &self.blocks {
            if let Role::Into(p) = role {
                // SAFETY: as above.
                unsafe { std::ptr::copy(block.add(from), p.add(start + from), to - from) }
            }
        }
    }

    /// Writes truth values, and adds the block to the sums.
    #[inline(always)]
    fn finish_block(&mut self, k: &Fused, start: usize, n: usize) {
        for &Block { role, scratch: block, .. } in &self.blocks {
            if let Role::ToTruths(to) = role {
                // SAFETY: the block has `n` elements, the value as many from `start` on.
                let block = unsafe { slice::from_raw_parts(block, n) };
                block.iter().enumerate().for_each(|(k, v)| unsafe { to.add(start + k).write(v.to_mask()) });
            }
        }
        for (number, sum) in k.sums.iter().enumerate() {
            let Some(from) = sum.from else {
                let chunk = start / sum.n * sum.chunks() + start % sum.n / sum.chunk();
                let state = &mut self.sums[number];
                let lanes = std::mem::replace(&mut state.lanes, [T::default(); LANES]);
                // SAFETY: there is room for each chunk; blocks are chunks.
                unsafe { state.partials.add(chunk).write(sum_lanes(lanes)) };
                continue;
            };
            // SAFETY: such registers hold whole blocks.
            let block = unsafe { self.whole_block(k, from, start, n) };
            self.sums[number].add_rows(block, start, sum);
        }
    }

    /// The elements of a register's block.
    ///
    /// # Safety
    /// The register holds a whole block of `n` elements, in scratch or in a value, which nobody writes while the slice is in use.
    unsafe fn whole_block<'w>(&self, k: &Fused, register: u32, start: usize, n: usize) -> &'w [T] {
        let Block { role, scratch, .. } = self.blocks[k.layout.block_of[register as usize] as usize];
        let first = match role {
            Role::From(p) | Role::Into(p) => p.wrapping_add(start),
            _ => scratch,
        };
        // SAFETY: the caller's promise.
        unsafe { slice::from_raw_parts(first, n) }
    }

    /// A function of the rows of a block, of this length.
    fn row(&self, k: &Fused, row: &RowStep, memory: Memory<'_>, start: usize, n: usize) -> Result<(), OpError> {
        let line = k.line;
        let (first, count) = (start / line, n / line);
        // SAFETY: labels were written in an earlier stage.
        let labels = row.labels.map_or(&[][..], |labels| unsafe { &memory.elements(labels)[first..first + count] });
        let [each, one, max] = self.rows;
        let to = row.to.map(|to| self.registers[to as usize].start);
        let each = to.filter(|_| !row.op.reduces()).unwrap_or(each);
        // SAFETY: these are blocks of scratch memory of their own, and the register holds a whole block.
        let (x, each, one, max) = unsafe {
            let x = self.whole_block(k, row.from, start, n);
            (x, rows::room(each), rows::room(one), rows::room(max))
        };
        if !rows::run(Rows { op: row.op, x, n: line, labels, each, one: &mut *one, max }) {
            return Err("a label is not one of the classes".into());
        }
        if let Some(value) = row.value {
            // SAFETY: the value has a number for each row.
            unsafe { slice::from_raw_parts_mut(memory.pointer::<T>(value).add(first), count) }
                .copy_from_slice(&one[..count]);
        }
        if let Some(to) = to.filter(|_| row.op.reduces()) {
            // SAFETY: a block of scratch memory.
            let to = unsafe { slice::from_raw_parts_mut(to, n) };
            to.chunks_exact_mut(line).zip(&*one).for_each(|(to, &v)| to.fill(v));
        }
        Ok(())
    }
}

/// A sum on its way: first chunk by chunk, then the chunks pairwise.
struct SumState<T> {
    /// The chunk at hand.
    lanes: [T; LANES],
    /// The sums of all chunks, of which others may be written by other threads.
    partials: *mut T,
}

impl<T: Vectors> SumState<T> {
    /// Elements from position `at` of a chunk on.
    #[inline(never)]
    fn add(&mut self, elements: &[T], at: usize) {
        for (k, &x) in elements.iter().enumerate() {
            let lane = (at + k) % LANES;
            self.lanes[lane] = self.lanes[lane] + x;
        }
    }

    /// Adds a block to the chunks of rows, row after row.
    #[inline(always)]
    fn add_rows(&mut self, block: &[T], start: usize, sum: &Sum) {
        let (n, inner) = (sum.n, sum.inner);
        let mut done = 0;
        while done < block.len() {
            let (row, column) = ((start + done) / inner, (start + done) % inner);
            let (outer, row) = (row / n, row % n);
            let part = &block[done..(done + inner - column).min(block.len())];
            let chunk = outer * sum.chunks() + row / DEPTH;
            // SAFETY: there is room for a row for each chunk, and no other thread works on this chunk.
            let top = unsafe { slice::from_raw_parts_mut(self.partials.add(chunk * inner + column), part.len()) };
            if row % DEPTH == 0 {
                top.fill(T::default());
            }
            for k in 0..part.len() {
                top[k] = top[k] + part[k];
            }
            done += part.len();
        }
    }
}

/// Adds up rows pairwise; the sum is left in the first one.
fn pairwise_rows<T: Vectors>(rows: &mut [T], inner: usize) {
    let count = rows.len() / inner;
    let rows = Cell::from_mut(rows).as_slice_of_cells();
    let add = |into: &mut usize, from: usize| {
        let (into, from) = (&rows[*into * inner..][..inner], &rows[from * inner..][..inner]);
        into.iter().zip(from).for_each(|(a, b)| a.set(a.get() + b.get()));
    };
    let mut pairs = Pairs(Vec::new());
    (0..count).for_each(|row| pairs.push(row, &add));
    pairs.finish(&add);
}
