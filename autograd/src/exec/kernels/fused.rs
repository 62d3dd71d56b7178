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
    exec::memory::{Bytes, Memory},
    math::Wide,
    op::{
        elementwise::{several, unary},
        reduce::{DEPTH, LANES, Pairs, sum_lanes},
    },
    plan::kernel::{BLOCK, Code, Fused, MOST_GROUP, Read, RowStep, STRIDE, Step},
    shape::Walk,
    tensor::DType,
};
use std::slice;

/// Runs a kernel, in scratch memory that has room for it already. An error if a label is not one of the classes.
pub(crate) fn run(k: &Fused, memory: &Memory<'_>, scratch: &mut Bytes) -> Result<(), OpError> {
    if k.count == 0 {
        return Ok(());
    }
    match k.dtype {
        DType::F32 => dispatch::<f32>(k, memory, scratch),
        _ => dispatch::<f64>(k, memory, scratch),
    }
}

fn dispatch<T: Vectors>(k: &Fused, memory: &Memory<'_>, scratch: &mut Bytes) -> Result<(), OpError> {
    // where most of the time is spent in called functions, the width of the vectors does not matter
    let calls = k.steps.iter().any(|s| s.calls(T::BY_LIBRARY));
    match Isa::get() {
        Isa::Baseline => blocks::<T, Wide<Wide<T>>, true>(k, memory, scratch),
        // SAFETY: the processor was asked for these instructions.
        #[cfg(target_arch = "x86_64")]
        _ if calls => unsafe { avx2::<T, true>(k, memory, scratch) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::<T, false>(k, memory, scratch) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::<T>(k, memory, scratch) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<T: Vectors, const CALLS: bool>(
    k: &Fused,
    memory: &Memory<'_>,
    scratch: &mut Bytes,
) -> Result<(), OpError> {
    blocks::<T, Wide<T::Avx2>, CALLS>(k, memory, scratch)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512<T: Vectors>(k: &Fused, memory: &Memory<'_>, scratch: &mut Bytes) -> Result<(), OpError> {
    blocks::<T, Wide<T::Avx512>, false>(k, memory, scratch)
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
    Truths(*const bool),
    /// Written to truth values.
    ToTruths(*mut bool),
    /// Copied from a smaller array.
    Spread(*const T, usize, Walk),
    /// Copied from a smaller array of truth values.
    SpreadTruths(*const bool, usize, Walk),
    /// Filled once, or written by steps.
    Block,
}

/// A kernel at work.
struct Work<T> {
    registers: Vec<Register<T>>,
    /// The registers that hold blocks, with their scratch block.
    roles: Vec<(usize, Role<T>, *mut T)>,
    sums: Vec<SumState<T>>,
    /// Room for functions of rows, if there are any.
    rows: [*mut T; 3],
}

/// How many elements go through a step at once: two wide vectors.
const fn group<V: Vector>() -> usize {
    2 * V::N
}

#[inline(always)]
fn blocks<T: Vectors, V: Vector<Elem = T>, const CALLS: bool>(
    k: &Fused,
    memory: &Memory<'_>,
    scratch: &mut Bytes,
) -> Result<(), OpError> {
    let Some(mut work) = Work::<T>::new(k, memory, scratch, group::<V>()) else { return Err("no memory".into()) };
    let per_block = if k.line < BLOCK { BLOCK / k.line * k.line } else { BLOCK };
    let mut start = 0;
    while start < k.count {
        let n = if k.line < BLOCK { per_block.min(k.count - start) } else { per_block.min(k.line - start % k.line) };
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
            work.row(row, k.line, memory, start, n)?;
            (done, rows) = (next, rest);
        }
        work.finish_block(k, memory, start, n);
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
            match step.code {
                Code::Load => (low, high) = load!(step.a),
                Code::Store => {
                    let p = at!(step.a);
                    // SAFETY: the caller's promise.
                    unsafe {
                        low.store(p);
                        high.store(p.add(V::N));
                    }
                }
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
        }
        i += group::<V>();
    }
}

impl<T: Vectors> Work<T> {
    fn new(k: &Fused, memory: &Memory<'_>, scratch: &mut Bytes, group: usize) -> Option<Work<T>> {
        let blocks = k.registers() - k.temporaries as usize;
        let mut next: *mut T = scratch.room(k.scratch())?.cast();
        let mut room = |count: usize| {
            let start = next;
            // SAFETY: the sum of all rooms is at most what was asked for.
            next = unsafe { next.add(count) };
            start
        };
        let mut work = Work {
            registers: Vec::with_capacity(k.registers()),
            roles: Vec::with_capacity(blocks),
            sums: Vec::new(),
            rows: [std::ptr::null_mut(); 3],
        };
        for source in &k.sources {
            let block = room(STRIDE);
            let role = match source.read {
                Read::Number(n) => fill(block, T::of(n.into())),
                Read::Walk(walk) if memory.dtype(source.value) != DType::Bool => {
                    let data = memory.elements::<T>(source.value);
                    if walk.is_constant() {
                        fill(block, data[0])
                    } else {
                        Role::Spread(data.as_ptr(), data.len(), walk)
                    }
                }
                Read::Walk(walk) => {
                    let data = memory.elements::<bool>(source.value);
                    if walk.is_constant() {
                        fill(block, T::from_mask(data[0]))
                    } else {
                        Role::SpreadTruths(data.as_ptr(), data.len(), walk)
                    }
                }
                Read::Whole if memory.dtype(source.value) == DType::Bool => Role::Truths(memory.pointer(source.value)),
                Read::Whole => Role::From(memory.pointer(source.value)),
            };
            work.block(role, block);
        }
        for _ in 0..k.temporaries {
            work.registers.push(Register { start: room(group), mask: 0 });
        }
        (0..k.kept).for_each(|_| work.block(Role::Block, room(STRIDE)));
        for output in &k.outputs {
            let truths = memory.dtype(output.value) == DType::Bool;
            let role = if truths {
                Role::ToTruths(memory.pointer(output.value))
            } else {
                Role::Into(memory.pointer(output.value))
            };
            work.block(role, room(STRIDE));
        }
        if !k.rows.is_empty() {
            work.rows = [room(STRIDE), room(STRIDE), room(STRIDE)];
        }
        work.sums = k.sums.iter().map(|s| SumState::new(room(s.rows()))).collect();
        Some(work)
    }

    fn block(&mut self, role: Role<T>, block: *mut T) {
        self.roles.push((self.registers.len(), role, block));
        self.registers.push(Register { start: block, mask: usize::MAX });
    }

    /// Fills the blocks of sources that cannot be read where they lie.
    fn fill(&self, start: usize, n: usize) {
        for &(_, role, block) in &self.roles {
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
        for &(register, role, block) in &self.roles {
            self.registers[register].start = match role {
                // SAFETY: within the value.
                Role::From(p) | Role::Into(p) if direct => unsafe { p.add(start) },
                _ => block,
            };
        }
    }

    /// Copies the last elements of a block, which do not fill a group, from the sources into scratch.
    fn load_tail(&self, start: usize, from: usize, to: usize) {
        for &(_, role, block) in &self.roles {
            if let Role::From(p) = role {
                // SAFETY: `from..to` lies within the block and, from `start` on, within the value.
                unsafe { std::ptr::copy(p.add(start + from), block.add(from), to - from) }
            }
        }
    }

    /// Copies them from scratch to the outputs.
    fn store_tail(&self, start: usize, from: usize, to: usize) {
        for &(_, role, block) in &self.roles {
            if let Role::Into(p) = role {
                // SAFETY: as above.
                unsafe { std::ptr::copy(block.add(from), p.add(start + from), to - from) }
            }
        }
    }

    /// Writes truth values, and adds the block to the sums.
    #[inline(always)]
    fn finish_block(&mut self, k: &Fused, memory: &Memory<'_>, start: usize, n: usize) {
        for &(_, role, block) in &self.roles {
            if let Role::ToTruths(to) = role {
                // SAFETY: the block has `n` elements, the value as many from `start` on.
                let block = unsafe { slice::from_raw_parts(block, n) };
                block.iter().enumerate().for_each(|(k, v)| unsafe { to.add(start + k).write(v.to_mask()) });
            }
        }
        for (sum, state) in k.sums.iter().zip(&mut self.sums) {
            let out: *mut T = memory.pointer(sum.value);
            let Some(from) = sum.from else {
                state.finish_chunk();
                if (start + n).is_multiple_of(sum.n) {
                    // SAFETY: there are as many sums as lines.
                    unsafe { out.add(start / sum.n).write(state.finish_line()) };
                }
                continue;
            };
            // SAFETY: such registers hold whole blocks.
            let block = unsafe { whole_block(&self.roles, from, start, n) };
            state.add_rows(block, start, (sum.n, sum.inner), out);
        }
    }

    /// A function of the rows of a block, of this length.
    fn row(&self, row: &RowStep, line: usize, memory: &Memory<'_>, start: usize, n: usize) -> Result<(), OpError> {
        let (first, count) = (start / line, n / line);
        let labels = row.labels.map_or(&[][..], |labels| &memory.elements(labels)[first..first + count]);
        let [each, one, max] = self.rows;
        let to = row.to.map(|to| self.registers[to as usize].start);
        let each = to.filter(|_| !row.op.reduces()).unwrap_or(each);
        // SAFETY: these are blocks of scratch memory of their own, and the register holds a whole block.
        let (x, each, one, max) = unsafe {
            let x = whole_block(&self.roles, row.from, start, n);
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

/// The elements of a register's block.
///
/// # Safety
/// The register holds a whole block of `n` elements, in scratch or in a value.
unsafe fn whole_block<'w, T: Copy>(
    roles: &[(usize, Role<T>, *mut T)],
    register: u32,
    start: usize,
    n: usize,
) -> &'w [T] {
    let found = roles.iter().find(|r| r.0 == register as usize);
    let first = match found {
        // SAFETY: within the value.
        Some((_, Role::From(p) | Role::Into(p), _)) => unsafe { p.add(start) },
        Some((_, _, block)) => *block,
        None => unreachable!("temporaries do not hold blocks"),
    };
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(first, n) }
}

fn fill<T: Vectors>(block: *mut T, v: T) -> Role<T> {
    // SAFETY: a block has room for so many.
    unsafe { slice::from_raw_parts_mut(block, BLOCK) }.fill(v);
    Role::Block
}

/// A sum on its way.
struct SumState<T> {
    lanes: [T; LANES],
    chunks: Pairs<T>,
    /// Sums of rows, one a level; the last one is the chunk at hand.
    rows: *mut T,
    levels: Vec<u32>,
}

impl<T: Vectors> SumState<T> {
    fn new(rows: *mut T) -> SumState<T> {
        SumState { lanes: [T::default(); LANES], chunks: Pairs(Vec::new()), rows, levels: Vec::new() }
    }

    /// Elements from position `at` of a chunk on.
    #[inline(never)]
    fn add(&mut self, elements: &[T], at: usize) {
        for (k, &x) in elements.iter().enumerate() {
            let lane = (at + k) % LANES;
            self.lanes[lane] = self.lanes[lane] + x;
        }
    }

    fn finish_chunk(&mut self) {
        let lanes = std::mem::replace(&mut self.lanes, [T::default(); LANES]);
        self.chunks.push(sum_lanes(lanes), &|a, b| *a = *a + b);
    }

    fn finish_line(&mut self) -> T {
        self.chunks.finish(&|a, b| *a = *a + b).unwrap_or_default()
    }

    /// Adds a block to the sums over rows: chunks of rows in their order, chunks pairwise.
    #[inline(always)]
    fn add_rows(&mut self, block: &[T], start: usize, (n, inner): (usize, usize), out: *mut T) {
        let mut done = 0;
        while done < block.len() {
            let (row, column) = ((start + done) / inner, (start + done) % inner);
            let (outer, row) = (row / n, row % n);
            let part = &block[done..(done + inner - column).min(block.len())];
            if row % DEPTH == 0 && column == 0 {
                self.levels.push(0);
            }
            let top = self.row(self.levels.len() - 1, inner);
            let top = &mut top[column..column + part.len()];
            if row % DEPTH == 0 {
                top.copy_from_slice(part);
            } else {
                for k in 0..part.len() {
                    top[k] = top[k] + part[k];
                }
            }
            done += part.len();
            if column + part.len() < inner {
                continue;
            }
            if row % DEPTH == DEPTH - 1 || row == n - 1 {
                while let [.., a, b] = self.levels[..]
                    && a == b
                {
                    self.join(inner);
                }
            }
            if row == n - 1 {
                while self.levels.len() > 1 {
                    self.join(inner);
                }
                self.levels.clear();
                // SAFETY: there are `inner` sums for each `outer`.
                unsafe { slice::from_raw_parts_mut(out.add(outer * inner), inner) }.copy_from_slice(self.row(0, inner));
            }
        }
    }

    /// The sums at one level. The borrow is as long as the caller likes: at most two levels are held at a time.
    fn row<'r>(&self, level: usize, inner: usize) -> &'r mut [T] {
        // SAFETY: the stack is never higher than the number of rows that there is room for.
        unsafe { slice::from_raw_parts_mut(self.rows.add(level * inner), inner) }
    }

    #[inline(always)]
    fn join(&mut self, inner: usize) {
        let top = self.levels.len() - 1;
        let (below, upper) = (self.row(top - 1, inner), self.row(top, inner));
        for k in 0..inner {
            below[k] = below[k] + upper[k];
        }
        self.levels.pop();
        self.levels[top - 1] += 1;
    }
}
