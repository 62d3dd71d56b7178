//! Fused kernels: blocks of elements, each taken through the steps of a kernel, group by group.
//!
//! Loops, each for one reason: a *part* of the elements is for one thread; a *stretch* of it has the
//! rows of products that are computed together, in the second-level cache; a *block* of that, at most
//! [`BLOCK`] elements where registers hold them, stays in the first-level cache; what is smaller, the
//! interpreter of steps divides ([`steps`](super::steps)).
//!
//! What a register holds lies where its value is, if that has the elements one after the other, or
//! in scratch memory. Where a block does not end with a whole group, its last elements are copied
//! to scratch, which is long enough for a whole group, and back: the same code takes whole groups
//! and the rest. Reductions take elements from steps and blocks in the canonical order
//! ([`math::fold`](crate::math::fold)), whatever the width of the vectors.
//!
//! Two kinds of kernels do not take elements in the order in which they lie. Blocks of strided lines
//! are transposed ([`columns`](super::columns)). And rows that are wider than the first-level cache
//! are reduced in strips of columns, whose accumulators stay there. Parts of these are still ranges
//! of elements: of as many as their lines, or their strips, have.

use super::{
    arch::{Table, Vectors},
    booleans,
    columns::Columns,
    fold::{FoldState, join_chunks},
    lines::{self, LineBlock},
    scalar,
    steps::{Location, Operands},
};
use crate::{
    error::OpError,
    exec::{memory::Memory, product},
    index::{Index, IndexVec},
    math::fold::{CHUNK, Lines},
    movement,
    plan::{
        index::{ReductionId, Reg, ValueId},
        kernel::{Cuts, Fused, LineInput, LineStep, Product, Read, Reduction, Register, Step},
        size::{BLOCK, Blocks, fits_a_block},
        tiling::MAX_VECTOR_GROUP,
    },
    shape::Walk,
    tensor::DType,
};
use std::{ops::Range, slice};

/// A kernel that is to run in some parts: where its values are, and scratch memory for it.
#[derive(Clone, Copy)]
pub(crate) struct Job<'r> {
    k: &'r Fused,
    memory: Memory<'r>,
    parts: usize,
    /// The results of chunks.
    partials: *mut u8,
    /// The scratch memory of each part.
    scratch: *mut u8,
}

impl<'r> Job<'r> {
    /// `scratch` has as many bytes as [`Fused::scratch_bytes`] says.
    pub(crate) fn new(k: &'r Fused, memory: Memory<'r>, parts: usize, scratch: *mut u8) -> Job<'r> {
        Job {
            k,
            memory,
            parts,
            partials: scratch,
            scratch: scratch.wrapping_add(k.partial_bytes()),
        }
    }

    /// Does one of its parts. An error if a label is not one of the classes.
    pub(crate) fn part(&self, part: usize) -> Result<(), OpError> {
        let count = self.k.count;
        if count == 0 {
            return Ok(());
        }
        // without cuts there is one part, whose ends are those of the kernel
        let anywhere = Cuts {
            period: 1,
            grain: 1,
        };
        let cuts = self.k.layout.cuts.unwrap_or(anywhere);
        let at = |part: usize| match count / self.parts * part {
            _ if part == self.parts => count,
            place => cuts.round_down(place),
        };
        let range = at(part)..at(part + 1);
        let scratch = self.scratch.wrapping_add(part * self.k.part_bytes());
        match self.k.dtype {
            _ if range.is_empty() => Ok(()),
            DType::F32 => self.row_panels::<f32>(scratch.cast(), range),
            _ => self.row_panels::<f64>(scratch.cast(), range),
        }
    }

    /// Joins the results of chunks, when all parts are done.
    pub(crate) fn finish(&self) {
        match self.k.dtype {
            _ if self.k.count == 0 => {}
            DType::F32 => self.join_chunks::<f32>(),
            _ => self.join_chunks::<f64>(),
        }
    }

    /// Takes a range of elements through the kernel.
    fn row_panels<T: Vectors>(&self, scratch: *mut T, range: Range<usize>) -> Result<(), OpError> {
        let mut worker = Worker::<T>::new(self, scratch);
        let mut start = range.start;
        while start < range.end {
            let end = self.k.end_of_panels(start, range.end);
            let end = worker.multiply(start, end);
            worker.copy_panels(start, end);
            worker.blocks(start..end)?;
            start = end;
        }
        Ok(())
    }

    /// Each reduction, and where the results of its chunks go: where its own results belong, if a
    /// line has one chunk.
    fn results<T: Vectors>(&self) -> impl Iterator<Item = (&'r Reduction, *mut T)> {
        let (mut next, k, memory): (*mut T, _, _) = (self.partials.cast(), self.k, self.memory);
        k.reductions.iter().map(move |of| {
            let partials = of.partials(k.count);
            if partials == 0 {
                let value = of.value.map_or(std::ptr::null_mut(), |v| memory.pointer(v));
                return (of, value);
            }
            let start = next;
            next = next.wrapping_add(partials);
            (of, start)
        })
    }

    fn join_chunks<T: Vectors>(&self) {
        for (of, chunks) in self.results::<T>() {
            let (partials, all) = (of.partials(self.k.count), self.k.count / of.lines.n);
            if let Some(value) = of.value.filter(|_| partials > 0) {
                // SAFETY: the value has a number for each line, and there is room for those of its
                // chunks; no other thread is at work any more.
                let (out, chunks) = unsafe {
                    let out = self.memory.pointer::<T>(value);
                    (
                        slice::from_raw_parts_mut(out, all),
                        slice::from_raw_parts_mut(chunks, partials),
                    )
                };
                join_chunks(of, chunks, out);
            }
        }
    }
}

/// Where a register's elements come from or go to.
#[derive(Clone, Copy)]
enum Role<'r, T> {
    /// Nowhere: it holds a group, in scratch memory.
    Group,
    /// Nowhere: it holds a block, in scratch memory.
    Block,
    /// Read where they lie, as far as whole groups do.
    Read(*const T),
    /// Written where they belong, as far as whole groups are.
    Write(*mut T),
    /// Converted from booleans.
    ReadBool(*const bool),
    /// Converted to booleans.
    WriteBool(*mut bool),
    /// In each row of the kernel one by one where they lie, from where a walk says,
    Row(*const T, &'r Walk),
    /// or the same one.
    OneOfRow(*const T, &'r Walk),
    /// One for each of the columns of a transposed block.
    OneOfColumn(&'r [T], &'r Walk),
    /// Copied from where a walk says.
    Strided(&'r [T], &'r Walk),
    StridedBool(&'r [bool], &'r Walk),
}

/// A part of a kernel at work.
struct Worker<'r, T: 'static> {
    k: &'r Fused,
    memory: Memory<'r>,
    table: &'static Table<T>,
    roles: IndexVec<Reg, Role<'r, T>>,
    /// Where registers are for whole groups of the current block; then the same for what does not
    /// fill a group, all in scratch memory.
    locations: Vec<Location<T>>,
    folds: IndexVec<ReductionId, FoldState<T>>,
    /// The length of the rows that some sources are read by, if there are such.
    row: Option<usize>,
    /// Whether steps take lines into reductions, one in each block.
    folds_lines: bool,
    /// Scratch memory for functions of lines, if there are any.
    line_scratch: [*mut T; 3],
    scratch: *mut T,
}

impl<'r, T: Vectors> Worker<'r, T> {
    /// `scratch` is the memory of one part, which [`Fused::layout`] divides.
    fn new(job: &Job<'r>, scratch: *mut T) -> Worker<'r, T> {
        let Job { k, memory, .. } = *job;
        let (layout, table) = (&k.layout, T::table());
        let state = |(of, results): (&Reduction, _)| FoldState::new(of.fold, results);
        let mut worker = Worker {
            k,
            memory,
            table,
            roles: IndexVec::with_capacity(k.registers.len()),
            locations: Vec::with_capacity(2 * k.registers.len()),
            folds: IndexVec::from_vec(job.results().map(state).collect()),
            row: k.row(),
            folds_lines: k.reductions.iter().any(|of| of.value.is_none()),
            line_scratch: layout.line_steps.map(|at| scratch.wrapping_add(at)),
            scratch,
        };
        for (register, of) in k.registers.iter().zip(layout.registers.iter()) {
            let start = scratch.wrapping_add(*of);
            worker.locations.push(match register {
                Register::Temporary => Location::span(start, layout.span),
                _ if register.is_block() => Location::block(start),
                _ => Location::group(start, table.group),
            });
            let role = worker.role(*register, start);
            worker.roles.push(role);
        }
        worker.read_by_rows();
        worker.read_along_columns();
        // the second half stays in scratch memory; `locate` moves the first half to where values
        // lie
        worker.locations.extend_from_within(..);
        worker
    }

    /// What a register is, whose scratch memory begins here. Constants are filled in.
    fn role(&self, register: Register, scratch: *mut T) -> Role<'r, T> {
        let (k, memory) = (self.k, self.memory);
        let fill = |number: T| {
            // SAFETY: the register has a group of scratch memory.
            unsafe { slice::from_raw_parts_mut(scratch, self.table.group) }.fill(number);
            Role::Group
        };
        match register {
            Register::Number(n) => fill(T::of(n.into())),
            Register::Temporary | Register::Line => Role::Group,
            Register::Block => Role::Block,
            Register::Product(product) => {
                let start = k.layout.products[product];
                Role::Read(self.scratch.wrapping_add(start))
            }
            Register::Output(value) => match memory.dtype(value) {
                DType::Bool => Role::WriteBool(memory.pointer(value)),
                _ => Role::Write(memory.pointer(value)),
            },
            // SAFETY: it was written in an earlier stage. Single numbers are never updated in place
            // while they are read.
            Register::Source {
                value,
                read: Read::Constant,
            } => fill(unsafe { scalar::read(memory, value) }),
            Register::Source {
                value,
                read: Read::Whole,
            } => match memory.dtype(value) {
                DType::Bool => Role::ReadBool(memory.pointer(value)),
                _ => Role::Read(memory.pointer(value)),
            },
            Register::Source {
                value,
                read: Read::From(start),
            } => match memory.dtype(value) {
                DType::Bool => Role::ReadBool(memory.pointer::<bool>(value).wrapping_add(start)),
                _ => Role::Read(memory.pointer::<T>(value).wrapping_add(start)),
            },
            Register::Source {
                value,
                read: Read::Strided(access),
            } => self.strided(value, &k.accesses[access]),
        }
    }

    /// Reads what it can by rows, instead of copying it.
    fn read_by_rows(&mut self) {
        let (k, Some(row)) = (self.k, self.row) else {
            return;
        };
        for register in self.roles.indices() {
            let Role::Strided(from, walk) = self.roles[register] else {
                continue;
            };
            match walk.in_rows_of(row) {
                Some(1) if !k.needs_block(register) => {
                    self.roles[register] = Role::Row(from.as_ptr(), walk);
                }
                Some(0) if !k.needs_block(register) => {
                    self.roles[register] = Role::OneOfRow(from.as_ptr(), walk);
                    self.keep_group(register);
                }
                _ => {}
            }
        }
    }

    /// Lets a group of a register's scratch memory be all that is read of it.
    fn keep_group(&mut self, register: Reg) {
        let location = &mut self.locations[register.index()];
        *location = Location::group(location.start, self.table.group);
    }

    /// In transposed blocks, reads numbers of lines once for all rows.
    fn read_along_columns(&mut self) {
        let Blocks::OfColumns(lines) = self.k.blocks else {
            return;
        };
        for register in self.roles.indices() {
            if let Role::Strided(from, walk) = self.roles[register]
                && walk.is_same_along(lines.n, lines.inner)
                && !self.k.needs_block(register)
            {
                self.roles[register] = Role::OneOfColumn(from, walk);
                self.keep_group(register);
            }
        }
    }

    fn strided(&self, value: ValueId, walk: &'r Walk) -> Role<'r, T> {
        // SAFETY: it was written in an earlier stage. What is read otherwise than element by
        // element is never updated in place.
        unsafe {
            match self.memory.dtype(value) {
                DType::Bool => Role::StridedBool(self.memory.elements(value), walk),
                _ => Role::Strided(self.memory.elements(value), walk),
            }
        }
    }

    /// Computes the next rows of the kernel's products, from element `start` on; the element after
    /// their last one.
    fn multiply(&mut self, start: usize, end: usize) -> usize {
        let k = self.k;
        let mut until = end;
        for (register, of) in k.registers.enumerate() {
            let Register::Product(id) = *of else {
                continue;
            };
            let Product { a, b, size, out } = k.products[id];
            until = end.min(start + k.rows_together() * size.n);
            let to = match out {
                Some(value) => self.memory.pointer::<T>(value).wrapping_add(start),
                None => self.scratch.wrapping_add(k.layout.products[id]),
            };
            // the rows stay in the cache until the blocks of this stretch read them
            // SAFETY: the matrices were written in an earlier stage. A parameter that a product of
            // this kernel reads is not updated in place by it.
            let [a, b] = [a, b].map(|m| {
                (
                    unsafe { self.memory.elements::<T>(m.view.value) },
                    m.transposed,
                )
            });
            // SAFETY: there is room for so many rows, in the value or in scratch, and no other
            // thread works on them. The kernel is of the type of its products.
            let rows = unsafe { slice::from_raw_parts_mut(to, until - start) };
            product::rows(a, b, size, start / size.n, rows);
            self.roles[register] = Role::Read(to.wrapping_sub(start));
        }
        until
    }

    /// Copies the next elements of transposed sources, from element `start` on.
    fn copy_panels(&mut self, start: usize, end: usize) {
        for panel in &self.k.layout.panels {
            let Register::Source {
                value,
                read: Read::Strided(access),
            } = self.k.registers[panel.register]
            else {
                continue;
            };
            if let Role::Strided(data, walk) = self.strided(value, &self.k.accesses[access]) {
                let to = self.scratch.wrapping_add(panel.start);
                // SAFETY: there is room for a panel, and no other thread works on it.
                let elements = unsafe { slice::from_raw_parts_mut(to, end - start) };
                movement::copy_elements(data, walk, start, elements);
                self.roles[panel.register] = Role::Read(to.wrapping_sub(start));
            }
        }
    }

    /// Takes a range of elements, whose products are there, block by block through the kernel.
    fn blocks(&mut self, range: Range<usize>) -> Result<(), OpError> {
        let k = self.k;
        if self.only_reduces() {
            self.finish_block(range.start, range.len());
            return Ok(());
        }
        match k.blocks {
            Blocks::OfColumns(lines) => return self.blocks_of_columns(lines, range),
            Blocks::InStrips(lines) => return self.blocks_in_strips(lines, range),
            Blocks::Any | Blocks::InLines(_) | Blocks::OfLines(_) => {}
        }
        let (mut start, block, group) = (range.start, self.block_length(), self.table.group);
        while start < range.end {
            let left = range.end - start;
            // a block of a long line ends where the line does: its chunks are counted from its
            // beginning
            let in_line = match k.blocks {
                Blocks::InLines(line) if !fits_a_block(line) => line - start % line,
                _ => left,
            };
            let in_row = self.row.map_or(left, |row| row - start % row);
            let mut n = block.min(left).min(in_line).min(in_row);
            if n > k.block() {
                // scratch memory has room for the rest of an ordinary block only
                n -= n % group;
            }
            self.block(start, n)?;
            start += n;
        }
        Ok(())
    }

    /// How many elements are taken through the steps before the next ones. Where no register holds a
    /// block and nothing reads one afterwards, spans are enough for the first-level cache.
    fn block_length(&self) -> usize {
        let is_in_place = |role: &Role<'_, T>| {
            !matches!(
                role,
                Role::Block
                    | Role::ReadBool(_)
                    | Role::WriteBool(_)
                    | Role::Strided(..)
                    | Role::StridedBool(..)
            )
        };
        let has_blocks = !self.roles.iter().all(is_in_place) || !self.k.reductions.is_empty();
        if self.k.blocks == Blocks::Any && !has_blocks {
            16 * BLOCK
        } else {
            self.k.block()
        }
    }

    /// Whether there is nothing to do but to reduce elements that are read where they lie: then a
    /// block may have any length.
    fn only_reduces(&self) -> bool {
        let k = self.k;
        let is_in_place = |of: &Reduction| {
            let from = of.from.map(|from| &self.roles[from]);
            matches!(from, Some(Role::Read(_)))
        };
        k.steps.is_empty()
            && k.line_steps.is_empty()
            && matches!(k.blocks, Blocks::Any | Blocks::InLines(_))
            && k.reductions.iter().all(is_in_place)
    }

    /// Takes strips of columns through the kernel, each row after row. The range counts the elements
    /// of strips, one strip after the other.
    fn blocks_in_strips(
        &mut self,
        Lines { n, inner }: Lines,
        range: Range<usize>,
    ) -> Result<(), OpError> {
        let mut done = range.start;
        while done < range.end {
            let (outer, column) = (done / (n * inner), done % (n * inner) / n);
            let width = BLOCK.min(inner - column);
            for row in 0..n {
                self.block((outer * n + row) * inner + column, width)?;
            }
            done += n * width;
        }
        Ok(())
    }

    /// Takes strided lines through the kernel, some beside each other. The range counts the elements
    /// of lines, one line after the other.
    fn blocks_of_columns(&mut self, lines: Lines, range: Range<usize>) -> Result<(), OpError> {
        let (mut first, end) = (range.start / lines.n, range.end / lines.n);
        let width = self.table.group;
        while first < end {
            let columns = Columns {
                lines,
                first,
                count: width.min(end - first),
                width,
            };
            self.columns(&columns)?;
            first += columns.count;
        }
        Ok(())
    }

    /// Takes a transposed block through the kernel. All of it is in scratch memory.
    fn columns(&mut self, columns: &Columns) -> Result<(), OpError> {
        let k = self.k;
        let all = columns.width * columns.lines.n;
        self.gather(columns);
        let mut done = 0;
        for line in &k.line_steps {
            self.steps_in_scratch(&k.steps[done..line.after], 0..all, columns.width);
            self.lines(line, columns.first, columns.count, Some(columns))?;
            done = line.after;
        }
        self.steps_in_scratch(&k.steps[done..], 0..all, columns.width);
        self.scatter(columns);
        self.write_numbers(columns.first, columns.count);
        Ok(())
    }

    /// Copies what a transposed block reads into scratch memory.
    fn gather(&self, columns: &Columns) {
        let (k, all) = (self.k, columns.width * columns.lines.n);
        for (register, role) in self.of_values() {
            let of = &k.registers[register];
            if !matches!(of, Register::Source { .. }) || !of.is_block() {
                continue;
            }
            // SAFETY: such registers have blocks, with room for rows of all lines.
            let block = unsafe { slice::from_raw_parts_mut(self.scratch_of(register), all) };
            match *role {
                // SAFETY: a value that is read whole has as many elements as the kernel; a kernel
                // that has functions of lines updates nothing in place.
                Role::Read(p) => {
                    columns.gather(unsafe { slice::from_raw_parts(p, k.count) }, block, |x| x);
                }
                // SAFETY: likewise.
                Role::ReadBool(p) => {
                    let from = unsafe { slice::from_raw_parts(p, k.count) };
                    columns.gather(from, block, T::from_mask);
                }
                Role::OneOfColumn(from, walk) => {
                    columns.gather_numbers(from, walk, block);
                    block[columns.count..columns.width].fill(T::default());
                    continue;
                }
                Role::Strided(from, walk) => columns.gather_strided(from, walk, block),
                Role::StridedBool(from, walk) => {
                    columns.gather_booleans(from, walk, block, T::from_mask);
                }
                _ => {}
            }
            columns.fill_rest(block, T::default());
        }
    }

    /// Copies what a transposed block writes to where it belongs.
    fn scatter(&self, columns: &Columns) {
        let all = columns.width * columns.lines.n;
        for (register, role) in self.of_values() {
            // SAFETY: such registers have blocks; a value that is written whole has as many elements
            // as the kernel, and other parts write other lines.
            unsafe {
                match *role {
                    Role::Write(to) => {
                        let block = slice::from_raw_parts(self.scratch_of(register), all);
                        columns.scatter(block, to, |x| x);
                    }
                    Role::WriteBool(to) => {
                        let block = slice::from_raw_parts(self.scratch_of(register), all);
                        columns.scatter(block, to, T::to_mask);
                    }
                    _ => {}
                }
            }
        }
    }

    fn block(&mut self, start: usize, n: usize) -> Result<(), OpError> {
        let k = self.k;
        // steps work on whole groups. The rest of a block goes through scratch memory, which is
        // long enough for a whole group
        let whole = n / self.table.group * self.table.group;
        self.fill(start, n);
        self.load_rest(start, whole, n);
        self.locate(start);
        let mut done = 0;
        for line in &k.line_steps {
            self.steps(&k.steps[done..line.after], start, whole, n);
            let of_line = k.blocks.whole_line().unwrap_or(n); // without lines there is no such step
            self.lines(line, start / of_line, n / of_line, None)?;
            done = line.after;
        }
        self.steps(&k.steps[done..], start, whole, n);
        self.finish_block(start, n);
        if let Some(line) = k.blocks.whole_line() {
            self.write_numbers(start / line, n / line);
        }
        Ok(())
    }

    /// Takes a block of `n` elements through some steps: its whole groups, where the values lie,
    /// and then the rest.
    fn steps(&mut self, steps: &[Step], start: usize, whole: usize, n: usize) {
        let operands = Operands {
            locations: &self.locations[..self.locations.len() / 2],
            custom: &self.k.custom,
            span: self.k.layout.span,
            is_one_line: self.k.blocks.is_one_line(),
        };
        let (group, mut done) = (self.table.group, 0);
        while done < whole {
            // a chunk at a time, if this block is a line that steps reduce
            let end = match self.folds_lines {
                true => whole.min(done + CHUNK),
                false => whole,
            };
            // SAFETY: `locate` made locations good for the elements `0..whole` of the block. Steps
            // name what the kernel has.
            unsafe { (self.table.steps)(steps, operands, &mut self.folds, done..end, group) };
            if self.folds_lines && end.is_multiple_of(CHUNK) {
                end_chunks(self.k, steps, &mut self.folds);
            }
            done = end;
        }
        let is_number = |step: &Step| {
            let to = step.store.map(|to| self.k.registers[to]);
            to == Some(Register::Line)
        };
        if whole < n && (whole == 0 || !steps.iter().all(is_number)) {
            self.steps_in_scratch(steps, whole..n, n - whole);
            self.store_rest(steps, start, whole, n);
        }
    }

    /// Takes elements of a block that are in scratch memory through some steps; of each group only
    /// `valid` elements count.
    fn steps_in_scratch(&mut self, steps: &[Step], range: Range<usize>, valid: usize) {
        let operands = Operands {
            locations: &self.locations[self.locations.len() / 2..],
            custom: &self.k.custom,
            span: self.k.layout.span,
            is_one_line: self.k.blocks.is_one_line(),
        };
        // SAFETY: registers of blocks are longer than the range, rounded up to groups. Steps name
        // what the kernel has.
        unsafe { (self.table.steps)(steps, operands, &mut self.folds, range, valid) };
    }

    /// What the registers are that belong to values.
    fn of_values(&self) -> impl Iterator<Item = (Reg, &Role<'r, T>)> {
        let registers = self.k.layout.of_values.iter();
        registers.map(|&register| (register, &self.roles[register]))
    }

    /// Where a register's scratch memory begins.
    fn scratch_of(&self, register: Reg) -> *mut T {
        self.locations[self.locations.len() / 2 + register.index()].start
    }

    /// Fills the blocks of sources that cannot be read where they lie.
    fn fill(&self, start: usize, n: usize) {
        // a block at a time, so that what is copied is still in the first-level cache when steps
        // read it
        for (register, role) in self.of_values() {
            if !matches!(
                role,
                Role::Strided(..) | Role::StridedBool(..) | Role::ReadBool(_)
            ) {
                continue;
            }
            // SAFETY: such registers have blocks, with room for `n` elements.
            let block = unsafe { slice::from_raw_parts_mut(self.scratch_of(register), n) };
            match role {
                Role::Strided(data, walk) => movement::copy_elements(data, walk, start, block),
                Role::ReadBool(p) => {
                    // SAFETY: the value has `n` elements from `start` on. If this kernel overwrites
                    // them, it does so when the steps of the block are done.
                    let from = unsafe { slice::from_raw_parts(p.wrapping_add(start), n) };
                    booleans::to_masks(from, block);
                }
                Role::StridedBool(data, walk) => {
                    // a block of a long line is longer than others
                    for (block, at) in block.chunks_mut(BLOCK).zip((start..).step_by(BLOCK)) {
                        let mut copied = [false; BLOCK];
                        let copied = &mut copied[..block.len()];
                        movement::copy_elements(data, walk, at, copied);
                        booleans::to_masks(copied, block);
                    }
                }
                _ => {}
            }
        }
    }

    /// Lets registers be where the values lie, for the block from element `start` on.
    fn locate(&mut self, start: usize) {
        let group = self.table.group;
        for &register in &self.k.layout.of_values {
            let location = &mut self.locations[register.index()];
            match self.roles[register] {
                Role::Row(p, walk) => {
                    location.start = p.wrapping_add(walk.position(start)).cast_mut();
                }
                // SAFETY: a walk stays within its value; the register has a group of scratch memory.
                Role::OneOfRow(p, walk) => unsafe {
                    let number = p.wrapping_add(walk.position(start)).read();
                    slice::from_raw_parts_mut(location.start, group).fill(number);
                },
                Role::Read(p) => location.start = p.wrapping_add(start).cast_mut(),
                Role::Write(p) => location.start = p.wrapping_add(start),
                _ => {}
            }
        }
    }

    /// Copies the last elements of a block, which do not fill a group, from the sources into
    /// scratch.
    fn load_rest(&self, start: usize, from: usize, to: usize) {
        for (register, role) in self.of_values() {
            let first = match *role {
                Role::Read(p) => p.wrapping_add(start),
                Role::Row(p, walk) => p.wrapping_add(walk.position(start)),
                _ => continue,
            };
            let scratch = self.scratch_of(register).wrapping_add(from);
            // SAFETY: `from..to` lies within the block and, from `start` on, within the value.
            unsafe { std::ptr::copy(first.wrapping_add(from), scratch, to - from) }
        }
    }

    /// Copies those that some steps have stored from scratch to the outputs.
    fn store_rest(&self, steps: &[Step], start: usize, from: usize, to: usize) {
        for register in steps.iter().filter_map(|step| step.store) {
            if let Role::Write(p) = self.roles[register] {
                let scratch = self.scratch_of(register).wrapping_add(from);
                // SAFETY: as above.
                unsafe { std::ptr::copy(scratch, p.wrapping_add(start + from), to - from) }
            }
        }
    }

    /// Writes booleans, and takes the block into reductions.
    fn finish_block(&mut self, start: usize, n: usize) {
        for (register, role) in self.of_values() {
            if let Role::WriteBool(to) = *role {
                // SAFETY: the block has `n` elements, the value as many from `start` on.
                unsafe {
                    let block = slice::from_raw_parts(self.scratch_of(register), n);
                    booleans::from_masks(block, to.wrapping_add(start));
                }
            }
        }
        let k = self.k;
        for (id, of) in k.reductions.enumerate() {
            match of.from {
                // SAFETY: such registers hold whole blocks.
                Some(from) => unsafe {
                    let block = self.whole_block(from, start, n);
                    self.folds[id].take_rows(block, start, of.lines);
                },
                None if of.value.is_some() => {
                    self.folds[id].end_chunk(of.lines.chunk_of(start));
                }
                None => {} // a function of lines has taken it
            }
        }
    }

    /// Writes the numbers of lines, `count` of them from this one on.
    fn write_numbers(&self, first: usize, count: usize) {
        let k = self.k;
        for of in &k.line_outputs {
            // a group with those of all lines, or blocks with each in all elements of its line
            let step = match (k.registers[of.from], k.blocks.whole_line()) {
                (Register::Line, _) | (_, None) => 1,
                (_, Some(line)) => line,
            };
            let n = (count - 1) * step + 1;
            // SAFETY: the register has so many elements; the value has a number for each line, and
            // other parts write those of other lines.
            unsafe {
                let from = self.whole_block(of.from, first * step, n);
                let numbers = from.iter().step_by(step).zip(first..);
                match self.memory.dtype(of.value) {
                    DType::Bool => {
                        let to = self.memory.pointer::<bool>(of.value);
                        numbers.for_each(|(v, k)| to.wrapping_add(k).write(v.to_mask()));
                    }
                    _ => {
                        let to = self.memory.pointer::<T>(of.value);
                        numbers.for_each(|(v, k)| to.wrapping_add(k).write(*v));
                    }
                }
            }
        }
    }

    /// The elements of a register's block.
    ///
    /// # Safety
    /// The register holds a whole block of `n` elements, in scratch or in a value, which nobody
    /// writes while the slice is in use.
    unsafe fn whole_block<'w>(&self, register: Reg, start: usize, n: usize) -> &'w [T] {
        let first = match self.roles[register] {
            Role::Read(p) => p.wrapping_add(start),
            Role::Write(p) => p.wrapping_add(start).cast_const(),
            _ => self.scratch_of(register),
        };
        // SAFETY: the caller's promise.
        unsafe { slice::from_raw_parts(first, n) }
    }

    /// A function of the lines of a block, `count` of them; `first` is the number of the first one.
    fn lines(
        &mut self,
        step: &LineStep,
        first: usize,
        count: usize,
        columns: Option<&Columns>,
    ) -> Result<(), OpError> {
        let Some(lines) = self.k.blocks.whole_lines() else {
            return Ok(()); // without lines there is no such step
        };
        let n = lines.n * columns.map_or(count, |columns| columns.width);
        let from = match step.from {
            LineInput::Block(from) => from,
            LineInput::Folded(of) => {
                let number = self.folds[of].end_line(lines.n);
                self.write_results(step, first, lines, &[number]);
                return Ok(());
            }
        };
        let labels = match step.labels {
            // SAFETY: labels were written in an earlier stage.
            Some(labels) => unsafe { &self.memory.elements(labels)[first..first + count] },
            None => &[],
        };
        let [each, one, max] = self.line_scratch;
        let to = step.to.filter(|_| !step.function.reduces());
        // results of contiguous lines that no step reads go where they belong
        let out = match (to.map(|to| self.roles[to]), columns) {
            (Some(Role::Write(p)), None) => Some(p.wrapping_add(first * lines.n)),
            _ => None,
        };
        let in_block = to.filter(|_| out.is_none());
        let each = in_block.map_or(each, |to| self.scratch_of(to));
        // SAFETY: these are three pieces of scratch memory, or two and a register's block, for
        // nobody else: as long as a block's whole groups, and as the most lines that a block has.
        // The register `from` is another one, and holds a whole block. Other parts write other
        // lines of the value.
        let (x, each, one, max) = unsafe {
            let x = match columns {
                Some(_) => slice::from_raw_parts(self.scratch_of(from), n),
                None => self.whole_block(from, first * lines.n, n),
            };
            let each = lines::memory(each, n.next_multiple_of(MAX_VECTOR_GROUP));
            let [one, max] = [one, max].map(|p| lines::memory(p, BLOCK));
            (x, each, one, max)
        };
        // one call for all lines of the block: exponentials of many short lines are computed
        // together
        let block = LineBlock {
            function: step.function,
            x,
            lines,
            columns: columns.map(|columns| columns.width),
            labels,
            each,
            // SAFETY: as above.
            out: out.map(|out| unsafe { slice::from_raw_parts_mut(out, n) }),
            one: &mut *one,
            max,
        };
        // SAFETY: whoever has this table has asked for its instructions.
        if !unsafe { (self.table.lines)(block) } {
            return Err("a label is not one of the classes".into());
        }
        if step.function.reduces() {
            self.write_results(
                step,
                first,
                lines,
                &one[..columns.map_or(count, |c| c.width)],
            );
        }
        Ok(())
    }

    /// Writes the results of some lines, of which the first has this number. There may be more
    /// results than lines.
    fn write_results(&self, step: &LineStep, first: usize, lines: Lines, results: &[T]) {
        if let Some(value) = step.value {
            let to = self.memory.pointer::<T>(value).wrapping_add(first);
            let count = results.len().min(self.k.count / lines.n - first);
            // SAFETY: the value has a number for each line.
            unsafe { slice::from_raw_parts_mut(to, count) }.copy_from_slice(&results[..count]);
        }
        if let Some(to) = step.to {
            self.spread(to, results, lines);
        }
    }

    /// Brings one result for each line to where steps read it for each element: spread over a
    /// block, or in a single group if that is the same everywhere.
    fn spread(&self, to: Reg, one: &[T], lines: Lines) {
        let is_group = self.k.registers[to] == Register::Line;
        let n = match is_group {
            true => self.table.group,
            false => one.len() * lines.n,
        };
        // SAFETY: the register has a group or a block of scratch memory.
        let to = unsafe { slice::from_raw_parts_mut(self.scratch_of(to), n) };
        match lines.inner {
            1 if is_group => to.fill(one[0]),
            1 => {
                let lines = to.chunks_exact_mut(lines.n).zip(one);
                lines.for_each(|(to, &v)| to.fill(v));
            }
            _ => to.copy_from_slice(&one[..n]),
        }
    }
}

/// Ends a chunk of each reduction of a block's only line that these steps have taken elements into.
fn end_chunks<T: Vectors>(
    k: &Fused,
    steps: &[Step],
    folds: &mut IndexVec<ReductionId, FoldState<T>>,
) {
    for step in steps {
        if let Some(of) = step.code.reduction()
            && k.reductions[of].value.is_none()
        {
            folds[of].end_chunk_of_line();
        }
    }
}
