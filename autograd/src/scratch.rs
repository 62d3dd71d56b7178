//! The memory that a run works in: what a thread reuses from run to run, through its
//! [memory cache](crate::memory_cache). Plain memory, which knows nothing of plans.

use crate::{
    index::list_bytes,
    memory_cache::{self, MemoryUsage},
};

/// One line of the cache: what arenas and scratch buffers are made of, so that they are aligned.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _bytes: [u8; 64],
}

/// Aligned memory that grows and is reused.
#[derive(Default)]
pub(crate) struct Bytes {
    lines: Vec<Line>,
    /// The most lines that the current run has asked for.
    asked: usize,
}

impl Bytes {
    /// Memory for at least this many bytes, or none if it cannot be had. What it holds is
    /// unspecified.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Option<*mut u8> {
        let lines = bytes.div_ceil(size_of::<Line>());
        if lines > self.lines.len() {
            // a new run needs nothing of an old one: nothing is copied, and the old memory is freed
            // before the new one is asked for
            self.lines = Vec::new();
            self.lines.try_reserve_exact(lines).ok()?;
            self.lines.resize(lines, Line { _bytes: [0; 64] });
        }
        self.asked = self.asked.max(lines);
        Some(self.lines.as_mut_ptr().cast())
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.lines[..])
    }
}

/// The memory of a run, which the thread reuses for the next one.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) arena: Bytes,
    pub(crate) blocks: Bytes,
    /// Where each value of the plan is.
    pub(crate) addresses: Vec<*mut u8>,
    /// The numbers of expressions.
    pub(crate) numbers: Vec<u64>,
    /// The bytes of tensors that a run around this one had made when this one began.
    pub(crate) made_before: usize,
}

impl Scratch {
    /// A run begins.
    pub(crate) fn begin(&mut self, made_before: usize) {
        (self.arena.asked, self.blocks.asked, self.made_before) = (0, 0, made_before);
    }

    /// What the run has needed.
    pub(crate) fn need(&self) -> MemoryUsage {
        let bytes = |of: &Bytes| of.asked * size_of::<Line>();
        MemoryUsage {
            arena: bytes(&self.arena),
            blocks: bytes(&self.blocks),
            ..MemoryUsage::default()
        }
    }

    /// Gives up memory that is larger than this.
    pub(crate) fn shrink(&mut self, most: MemoryUsage) {
        for (memory, most) in [
            (&mut self.arena, most.arena),
            (&mut self.blocks, most.blocks),
        ] {
            if memory.bytes() > most {
                memory.lines = Vec::new();
            }
        }
    }

    /// The bytes of all of it.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.bytes() + self.blocks.bytes() + self.list_bytes()
    }

    pub(crate) fn list_bytes(&self) -> usize {
        list_bytes(&self.addresses) + list_bytes(&self.numbers)
    }

    /// The run is over: the thread takes its memory back.
    pub(crate) fn give(mut self: Box<Scratch>) {
        self.addresses.clear();
        self.numbers.clear();
        memory_cache::return_scratch(self);
    }
}
