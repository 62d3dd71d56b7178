//! The memory that a thread caches between runs, so that repeated runs of similar size allocate
//! nothing: the arena and scratch memory of runs, buffers of dropped tensors, the node lists of its
//! last graph, and a packing buffer for matrix products.
//!
//! All of it has one common bound: the memory that the largest of the last few runs needed, but at
//! least [`MIN_BOUND`]. Beyond the bound, tensor buffers are dropped first, least recently used
//! first.

use crate::{
    index::list_bytes,
    nodes::Inner,
    pool::{Buffer, CACHE_LINE, Kind, Pool},
    scratch::Scratch,
};
use std::cell::RefCell;

/// This many bytes may be cached whatever runs need.
const MIN_BOUND: usize = 256 << 20;
/// The number of past runs that are tracked.
const TRACKED_RUNS: usize = 16;

thread_local! {
    static MEMORY: RefCell<ThreadMemory> = const { RefCell::new(ThreadMemory::new()) };
    /// Packed panels of a matrix product.
    static PACKED: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
    /// Sums of groups of pieces of a matrix product. (The elements of both may be f32 as well.)
    pub(crate) static SUMS: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

/// The memory cached by a thread.
pub(crate) struct ThreadMemory {
    scratch: Option<Box<Scratch>>,
    graph: Option<Inner>,
    /// The bytes of the graph's lists, also while the graph is in use.
    graph_bytes: usize,
    pub(crate) pool: Pool,
    /// The memory that the last runs needed, in no particular order.
    usage: [MemoryUsage; TRACKED_RUNS],
    runs: usize,
    /// The bytes of tensors allocated since the current run began.
    allocated: usize,
}

/// The bytes that a run needed.
#[derive(Clone, Copy, Default)]
pub(crate) struct MemoryUsage {
    pub(crate) arena: usize,
    pub(crate) blocks: usize,
    /// In total.
    pub(crate) all: usize,
}

impl MemoryUsage {
    const ZERO: MemoryUsage = MemoryUsage {
        arena: 0,
        blocks: 0,
        all: 0,
    };
}

/// Memory to be dropped after the cache's `RefCell` is released, because dropping may call into the
/// cache again.
#[derive(Default)]
struct Dropped {
    _scratch: Option<Box<Scratch>>,
    _graph: Option<Inner>,
}

/// Calls `f` with the cache; `None` if the thread is ending, or the cache is in use.
fn with<R>(f: impl FnOnce(&mut ThreadMemory) -> R) -> Option<R> {
    MEMORY
        .try_with(|memory| {
            memory
                .try_borrow_mut()
                .ok()
                .map(|mut memory| f(&mut memory))
        })
        .ok()
        .flatten()
}

impl ThreadMemory {
    const fn new() -> ThreadMemory {
        ThreadMemory {
            scratch: None,
            graph: None,
            graph_bytes: 0,
            pool: Pool::new(),
            usage: [MemoryUsage::ZERO; TRACKED_RUNS],
            runs: 0,
            allocated: 0,
        }
    }

    fn bytes(&self) -> usize {
        let scratch = self.scratch.as_ref().map_or(0, |s| s.bytes());
        let graph = if self.graph.is_some() {
            self.graph_bytes
        } else {
            0
        };
        scratch + graph + self.pool.bytes() + packing_bytes()
    }

    /// The largest value over the last runs.
    fn max_usage(&self, of: impl Fn(&MemoryUsage) -> usize) -> usize {
        self.usage.iter().map(of).max().unwrap_or(0)
    }

    /// Drops memory beyond the bound: first run memory that none of the last runs needed, then
    /// tensor buffers, then the graph's lists, then the rest of the run memory.
    fn trim(&mut self) -> Dropped {
        let (mut dropped, bound) = (Dropped::default(), self.max_usage(|n| n.all).max(MIN_BOUND));
        if self.bytes() > bound {
            let most = MemoryUsage {
                arena: self.max_usage(|n| n.arena),
                blocks: self.max_usage(|n| n.blocks),
                all: 0,
            };
            self.scratch
                .iter_mut()
                .for_each(|scratch| scratch.shrink(most));
        }
        while self.bytes() > bound && self.pool.drop_oldest() {}
        if self.bytes() > bound {
            dropped._graph = self.graph.take();
        }
        if self.bytes() > bound {
            dropped._scratch = self.scratch.take();
        }
        dropped
    }
}

/// Calls `f` with memory for so many elements of matrices, from a cache line on. Their values are
/// unspecified. A call inside of `f` would panic.
pub(crate) fn with_packing<T, R>(elements: usize, f: impl FnOnce(*mut T) -> R) -> R {
    let spare = CACHE_LINE / size_of::<f64>();
    let needed = (elements * size_of::<T>()).div_ceil(size_of::<f64>()) + spare;
    PACKED.with_borrow_mut(|buffer| {
        if buffer.len() < needed {
            buffer.resize(needed, 0.0);
        }
        let start = buffer.as_mut_ptr();
        f(start.wrapping_add(start.align_offset(CACHE_LINE)).cast())
    })
}

/// The bytes of the buffers for matrix products.
fn packing_bytes() -> usize {
    let bytes = |buffer: &RefCell<Vec<f64>>| list_bytes(&buffer.borrow());
    let buffers = [&PACKED, &SUMS].into_iter();
    buffers
        .map(|buffer| buffer.try_with(bytes).unwrap_or(0))
        .sum()
}

/// Takes the memory for a run that begins. New if a run inside a run has taken it already.
pub(crate) fn take_scratch() -> Box<Scratch> {
    let taken = with(|memory| {
        let mut scratch = memory.scratch.take().unwrap_or_default();
        scratch.begin(std::mem::take(&mut memory.allocated));
        scratch
    });
    taken.unwrap_or_default()
}

/// Returns the memory of a finished run.
pub(crate) fn return_scratch(scratch: Box<Scratch>) {
    let dropped = with(|memory| {
        let MemoryUsage { arena, blocks, .. } = scratch.need();
        let all = memory.allocated.saturating_add(
            arena + blocks + scratch.list_bytes() + memory.graph_bytes + packing_bytes(),
        );
        memory.usage[memory.runs % TRACKED_RUNS] = MemoryUsage { arena, blocks, all };
        memory.runs += 1;
        memory.allocated = memory.allocated.saturating_add(scratch.made_before);
        let before = memory.scratch.replace(scratch);
        (before, memory.trim())
    });
    drop(dropped);
}

/// Takes the lists of an earlier graph, empty.
pub(crate) fn take_graph() -> Option<Inner> {
    with(|memory| memory.graph.take()).flatten()
}

/// Returns the lists of a graph, emptied.
pub(crate) fn return_graph(graph: Inner) {
    let dropped = with(|memory| {
        memory.graph_bytes = graph.bytes();
        let before = memory.graph.replace(graph);
        (before, memory.trim())
    });
    drop(dropped);
}

/// Counts `bytes` of a new tensor, and takes a cached buffer of this kind for it, if there is one.
pub(crate) fn take_buffer(bytes: usize, kind: Option<Kind>) -> Option<Buffer> {
    with(|memory| {
        memory.allocated = memory.allocated.saturating_add(bytes);
        memory.pool.take(kind?)
    })
    .flatten()
}

/// Returns a buffer.
pub(crate) fn return_buffer(kind: Kind, buffer: Buffer) {
    let dropped = with(|memory| {
        memory.pool.give(kind, buffer);
        memory.trim()
    });
    drop(dropped);
}

/// The bytes that this thread caches.
pub(crate) fn bytes() -> usize {
    with(|memory| memory.bytes()).unwrap_or(0)
}

/// Frees all memory that this thread caches.
pub(crate) fn clear() {
    let dropped = with(|memory| {
        let dropped = Dropped {
            _scratch: memory.scratch.take(),
            _graph: memory.graph.take(),
        };
        memory.pool = Pool::new();
        memory.usage = [MemoryUsage::ZERO; TRACKED_RUNS];
        dropped
    });
    drop(dropped);
    for buffer in [&PACKED, &SUMS] {
        drop(buffer.try_with(RefCell::take)); // not there if the thread is ending
    }
}
