//! Fused elementwise work: blocks of elements, each taken through the steps of a kernel, group by group.
//!
//! The accumulator is a few vector registers; what a step stores for later stays in the first-level cache. Sums are
//! taken from the blocks in the canonical order ([`reduce`](crate::op::reduce)), whatever the width of the vectors.

use super::{
    arch::{Table, Vectors},
    rows::{self, Rows},
    steps::{Register, SumState},
};
use crate::{
    error::OpError,
    exec::{gemm, memory::Memory},
    op::reduce::{DEPTH, LANES, Pairs, sum_lanes},
    plan::kernel::{BLOCK, Fused, Product, Read, RowStep, Source, Step, Sum},
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
        Job {
            k,
            memory,
            parts,
            partials: room,
            scratch: room.wrapping_add(k.partials()),
        }
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
        let (range, scratch) = (
            at(part)..at(part + 1),
            self.scratch.wrapping_add(part * self.k.scratch()),
        );
        match dtype {
            _ if range.is_empty() => Ok(()),
            DType::F32 => self.blocks::<f32>(scratch.cast(), range),
            _ => self.blocks::<f64>(scratch.cast(), range),
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

    /// Takes a range of elements, block by block, through the kernel.
    fn blocks<T: Vectors>(&self, scratch: *mut T, range: Range<usize>) -> Result<(), OpError> {
        let mut work = Work::<T>::new(self, scratch);
        let mut start = range.start;
        while start < range.end {
            let end = work.multiply(self, start, range.end);
            work.stretch(self, start..end)?;
            start = end;
        }
        Ok(())
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
                (
                    out,
                    slice::from_raw_parts_mut(partials, sum.partials(self.k.count)),
                )
            };
            for (out, chunks) in out
                .chunks_exact_mut(inner)
                .zip(partials.chunks_exact_mut(chunks * inner))
            {
                pairwise_rows(chunks, inner);
                out.copy_from_slice(&chunks[..inner]);
            }
        }
    }
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
struct Work<T: 'static> {
    table: &'static Table<T>,
    /// The registers for whole groups of the block at hand, of which some are where the values lie; then the same for what does
    /// not fill a group, all in scratch memory, which is long enough.
    registers: Vec<Register<T>>,
    /// The registers that hold blocks, in their order: as the layout numbers them.
    blocks: Vec<Block<T>>,
    sums: Vec<SumState<T>>,
    /// Room for functions of rows, if there are any.
    rows: [*mut T; 3],
    /// The kernel's products: their places in `blocks`, and room for some of their rows.
    products: Vec<(usize, *mut T)>,
}

/// The number that a source holds everywhere.
fn number<T: Vectors>(source: &Source, memory: Memory<'_>) -> T {
    // SAFETY: the value was written in an earlier stage. Single numbers are never updated in place while they are read.
    unsafe {
        match source.read {
            Read::Number(n) => T::of(n.into()),
            _ if memory.dtype(source.value) == DType::Bool => {
                T::from_mask(memory.elements::<bool>(source.value)[0])
            }
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
    fn new(job: &Job<'_>, scratch: *mut T) -> Work<T> {
        let Job { k, memory, .. } = *job;
        let (layout, table) = (&k.layout, T::table());
        let register = |&at: &usize| Register {
            start: scratch.wrapping_add(at),
            mask: table.group - 1,
        };
        let mut work = Work {
            table,
            registers: layout
                .registers
                .iter()
                .chain(&layout.registers)
                .map(register)
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
                    unsafe { slice::from_raw_parts_mut(start, table.group) }
                        .fill(number(source, memory));
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
        work.sums = job
            .partials()
            .map(|(_, p)| SumState {
                lanes: [T::default(); LANES],
                partials: p,
            })
            .collect();
        work
    }

    /// Computes the next rows of the kernel's products, from element `start` on; the element after their last one.
    fn multiply(&mut self, job: &Job<'_>, start: usize, end: usize) -> usize {
        let Job { k, memory, .. } = *job;
        let mut until = end;
        for (&Product { a, b, size, out }, &(block, room)) in k.products.iter().zip(&self.products)
        {
            until = end.min(start + k.rows_together() * size[2]);
            let to = out.map_or(room, |value| memory.pointer::<T>(value).wrapping_add(start));
            // SAFETY: the matrices were written in an earlier stage. A parameter that a product of this kernel reads is not
            // updated in place by it.
            let [a, b] = [a, b]
                .map(|(value, transposed)| (unsafe { memory.elements::<f32>(value) }, transposed));
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
        let padded = self.registers.len() / 2 + register;
        self.registers[register].mask = usize::MAX;
        self.registers[padded].mask = usize::MAX;
        self.blocks.push(Block {
            register,
            role,
            scratch: self.registers[padded].start,
        });
    }

    /// Takes a range of elements, whose products are there, block by block through the kernel.
    fn stretch(&mut self, job: &Job<'_>, range: Range<usize>) -> Result<(), OpError> {
        let Job { k, memory, .. } = *job;
        let mut start = range.start;
        while start < range.end {
            let left = range.end - start;
            let n = k.block().min(left).min(if k.line < BLOCK {
                left
            } else {
                k.line - start % k.line
            });
            let whole = n / self.table.group * self.table.group;
            self.fill(start, n);
            self.load_tail(start, whole, n);
            self.place(start);
            let (mut done, mut rows) = (0, &k.rows[..]);
            loop {
                let next = rows.first().map_or(k.steps.len(), |row| row.after as usize);
                self.steps(&k.steps[done..next], start, whole, n);
                let Some((row, rest)) = rows.split_first() else {
                    break;
                };
                self.row(k, row, memory, start, n)?;
                (done, rows) = (next, rest);
            }
            self.finish_block(k, start, n);
            start += n;
        }
        Ok(())
    }

    /// Takes a block of `n` elements through some steps: its whole groups, where the values lie, and then the rest.
    fn steps(&mut self, steps: &[Step], start: usize, whole: usize, n: usize) {
        let Work {
            table,
            registers,
            sums,
            ..
        } = self;
        let (registers, padded) = registers.split_at(registers.len() / 2);
        // SAFETY: `place` made registers good for the elements `0..whole` of the block; the padded ones are longer than `n` rounded up
        // to groups. Steps name registers and sums that the kernel has.
        unsafe {
            (table.steps)(steps, registers, sums, 0..whole, table.group);
            if whole < n {
                (table.steps)(steps, padded, sums, whole..n, n - whole);
                self.store_tail(start, whole, n);
            }
        }
    }

    /// Fills the blocks of sources that cannot be read where they lie.
    fn fill(&self, start: usize, n: usize) {
        for &Block {
            role,
            scratch: block,
            ..
        } in &self.blocks
        {
            // SAFETY: blocks have room for `n` elements; sources have as many as their roles say.
            unsafe {
                let block = slice::from_raw_parts_mut(block, n);
                match role {
                    Role::Spread(data, count, walk) => {
                        walk.copy(slice::from_raw_parts(data, count), start, block)
                    }
                    Role::SpreadTruths(data, count, walk) => {
                        let (data, mut truths) =
                            (slice::from_raw_parts(data, count), [false; BLOCK]);
                        walk.copy(data, start, &mut truths[..n]);
                        block
                            .iter_mut()
                            .zip(truths)
                            .for_each(|(b, v)| *b = T::from_mask(v));
                    }
                    Role::Truths(data) => {
                        let data = slice::from_raw_parts(data.add(start), n);
                        block
                            .iter_mut()
                            .zip(data)
                            .for_each(|(b, &v)| *b = T::from_mask(v));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Lets registers point to the block from element `start` on where its values lie.
    fn place(&mut self, start: usize) {
        for &Block { register, role, .. } in &self.blocks {
            if let Role::From(p) | Role::Into(p) = role {
                self.registers[register].start = p.wrapping_add(start);
            }
        }
    }

    /// Copies the last elements of a block, which do not fill a group, from the sources into scratch.
    fn load_tail(&self, start: usize, from: usize, to: usize) {
        for &Block {
            role,
            scratch: block,
            ..
        } in &self.blocks
        {
            if let Role::From(p) = role {
                // SAFETY: `from..to` lies within the block and, from `start` on, within the value.
                unsafe { std::ptr::copy(p.wrapping_add(start + from), block.add(from), to - from) }
            }
        }
    }

    /// Copies them from scratch to the outputs.
    fn store_tail(&self, start: usize, from: usize, to: usize) {
        for &Block {
            role,
            scratch: block,
            ..
        } in &self.blocks
        {
            if let Role::Into(p) = role {
                // SAFETY: as above.
                unsafe { std::ptr::copy(block.add(from), p.add(start + from), to - from) }
            }
        }
    }

    /// Writes truth values, and adds the block to the sums.
    fn finish_block(&mut self, k: &Fused, start: usize, n: usize) {
        for &Block {
            role,
            scratch: block,
            ..
        } in &self.blocks
        {
            if let Role::ToTruths(to) = role {
                // SAFETY: the block has `n` elements, the value as many from `start` on.
                let block = unsafe { slice::from_raw_parts(block, n) };
                block
                    .iter()
                    .enumerate()
                    .for_each(|(k, v)| unsafe { to.add(start + k).write(v.to_mask()) });
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
            self.sums[number].add_rows(self.table, block, start, sum);
        }
    }

    /// The elements of a register's block.
    ///
    /// # Safety
    /// The register holds a whole block of `n` elements, in scratch or in a value, which nobody writes while the slice is in use.
    unsafe fn whole_block<'w>(&self, k: &Fused, register: u32, start: usize, n: usize) -> &'w [T] {
        let Block { role, scratch, .. } =
            self.blocks[k.layout.block_of[register as usize] as usize];
        let first = match role {
            Role::From(p) | Role::Into(p) => p.wrapping_add(start),
            _ => scratch,
        };
        // SAFETY: the caller's promise.
        unsafe { slice::from_raw_parts(first, n) }
    }

    /// A function of the rows of a block, of this length.
    fn row(
        &self,
        k: &Fused,
        row: &RowStep,
        memory: Memory<'_>,
        start: usize,
        n: usize,
    ) -> Result<(), OpError> {
        let line = k.line;
        let (first, count) = (start / line, n / line);
        // SAFETY: labels were written in an earlier stage.
        let labels = row.labels.map_or(&[][..], |labels| unsafe {
            &memory.elements(labels)[first..first + count]
        });
        let [each, one, max] = self.rows;
        let to = row.to.map(|to| self.registers[to as usize].start);
        let each = to.filter(|_| !row.op.reduces()).unwrap_or(each);
        // SAFETY: these are blocks of scratch memory of their own, and the register holds a whole block.
        let (x, each, one, max) = unsafe {
            let x = self.whole_block(k, row.from, start, n);
            (x, rows::room(each), rows::room(one), rows::room(max))
        };
        // SAFETY: whoever has this table has asked for its instructions.
        let are_classes = unsafe {
            (self.table.rows)(Rows {
                op: row.op,
                x,
                n: line,
                labels,
                each,
                one: &mut *one,
                max,
            })
        };
        if !are_classes {
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
            to.chunks_exact_mut(line)
                .zip(&*one)
                .for_each(|(to, &v)| to.fill(v));
        }
        Ok(())
    }
}

impl<T: Vectors> SumState<T> {
    /// Adds a block to the chunks of rows, row after row.
    fn add_rows(&mut self, table: &Table<T>, block: &[T], start: usize, sum: &Sum) {
        let (n, inner) = (sum.n, sum.inner);
        let mut done = 0;
        while done < block.len() {
            let (row, column) = ((start + done) / inner, (start + done) % inner);
            let (outer, row) = (row / n, row % n);
            let part = &block[done..(done + inner - column).min(block.len())];
            let chunk = outer * sum.chunks() + row / DEPTH;
            // SAFETY: there is room for a row for each chunk, and no other thread works on this chunk.
            let top = unsafe {
                slice::from_raw_parts_mut(self.partials.add(chunk * inner + column), part.len())
            };
            if row % DEPTH == 0 {
                top.fill(T::default());
            }
            // SAFETY: whoever has this table has asked for its instructions.
            unsafe { (table.add)(top, part) };
            done += part.len();
        }
    }
}

/// Adds up rows pairwise; the sum is left in the first one.
fn pairwise_rows<T: Vectors>(rows: &mut [T], inner: usize) {
    let count = rows.len() / inner;
    let rows = Cell::from_mut(rows).as_slice_of_cells();
    let add = |into: &mut usize, from: usize| {
        let (into, from) = (
            &rows[*into * inner..][..inner],
            &rows[from * inner..][..inner],
        );
        into.iter()
            .zip(from)
            .for_each(|(a, b)| a.set(a.get() + b.get()));
    };
    let mut pairs = Pairs(Vec::new());
    (0..count).for_each(|row| pairs.push(row, &add));
    pairs.finish(&add);
}
