//! What a thread keeps from run to run, so that steady work maps no fresh memory: the arena and the scratch memory of its
//! runs, buffers of dropped tensors, the memory of its last graph, and a panel of matrix products.
//!
//! All of it is one account with one bound: what the thread's largest run of the last few needed, and never less than
//! [`ALWAYS`]. Where more would be kept, buffers go first, those that were not used for the longest time before others.

use crate::{
    exec::{kernels::tile, memory::Scratch},
    nodes::Inner,
    plan::cache,
    pool::{Buffer, Kind, Pool},
};
use std::cell::RefCell;

/// So many bytes may be kept whatever runs need.
const ALWAYS: usize = 256 << 20;
/// The runs that are remembered.
const RUNS: usize = 16;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept::new()) };
}

/// What a thread keeps.
pub(crate) struct Kept {
    scratch: Option<Box<Scratch>>,
    graph: Option<Inner>,
    /// The bytes of the graph's memory, also while it is in use.
    of_graph: usize,
    pub(crate) pool: Pool,
    /// What the last runs needed, in no order.
    needs: [Need; RUNS],
    runs: usize,
    /// The bytes of the tensors that were made since the run at hand began.
    made: usize,
}

/// The bytes that a run needed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Need {
    pub(crate) arena: usize,
    pub(crate) blocks: usize,
    /// In all.
    pub(crate) all: usize,
}

impl Need {
    const NOTHING: Need = Need {
        arena: 0,
        blocks: 0,
        all: 0,
    };
}

/// What is to be dropped when the account is not borrowed any more.
#[derive(Default)]
struct Dropped {
    _scratch: Option<Box<Scratch>>,
    _graph: Option<Inner>,
}

/// Works on the account; none where the thread is ending, or works on it already.
fn with<R>(f: impl FnOnce(&mut Kept) -> R) -> Option<R> {
    KEPT.try_with(|kept| kept.try_borrow_mut().ok().map(|mut kept| f(&mut kept)))
        .ok()
        .flatten()
}

impl Kept {
    const fn new() -> Kept {
        Kept {
            scratch: None,
            graph: None,
            of_graph: 0,
            pool: Pool::new(),
            needs: [Need::NOTHING; RUNS],
            runs: 0,
            made: 0,
        }
    }

    fn bytes(&self) -> usize {
        let scratch = self.scratch.as_ref().map_or(0, |s| s.bytes());
        let graph = if self.graph.is_some() {
            self.of_graph
        } else {
            0
        };
        scratch + graph + self.pool.bytes() + panel()
    }

    /// The most that one of the last runs needed of something.
    fn most(&self, of: impl Fn(&Need) -> usize) -> usize {
        self.needs.iter().map(of).max().unwrap_or(0)
    }

    /// Drops what is too much: memory of runs that none of the last ones needed, then buffers, then the memory of the graph,
    /// then all of that of runs.
    fn trim(&mut self) -> Dropped {
        let (mut dropped, bound) = (Dropped::default(), self.most(|need| need.all).max(ALWAYS));
        if self.bytes() > bound {
            let most = Need {
                arena: self.most(|n| n.arena),
                blocks: self.most(|n| n.blocks),
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

/// The bytes of the panel of matrix products.
fn panel() -> usize {
    tile::cached_bytes()
}

/// The memory for a run, which begins; fresh where a run within a run has it already.
pub(crate) fn scratch() -> Box<Scratch> {
    let taken = with(|kept| {
        let mut scratch = kept.scratch.take().unwrap_or_default();
        scratch.begin(std::mem::take(&mut kept.made));
        scratch
    });
    taken.unwrap_or_default()
}

/// The memory of a run that is over.
pub(crate) fn keep_scratch(scratch: Box<Scratch>) {
    let dropped = with(|kept| {
        let Need { arena, blocks, .. } = scratch.need();
        let all = kept
            .made
            .saturating_add(arena + blocks + scratch.list_bytes() + kept.of_graph + panel());
        kept.needs[kept.runs % RUNS] = Need { arena, blocks, all };
        kept.runs += 1;
        kept.made = kept.made.saturating_add(scratch.made_before);
        let before = kept.scratch.replace(scratch);
        (before, kept.trim())
    });
    drop(dropped);
}

/// The memory of an earlier graph, empty.
pub(crate) fn graph() -> Option<Inner> {
    with(|kept| kept.graph.take()).flatten()
}

/// The memory of a graph, emptied.
pub(crate) fn keep_graph(graph: Inner) {
    let dropped = with(|kept| {
        kept.of_graph = graph.bytes();
        let before = kept.graph.replace(graph);
        (before, kept.trim())
    });
    drop(dropped);
}

/// A tensor of so many bytes is made now: takes a buffer of this kind for it, if there is one.
pub(crate) fn buffer(bytes: usize, kind: Option<Kind>) -> Option<Buffer> {
    with(|kept| {
        kept.made = kept.made.saturating_add(bytes);
        kept.pool.take(kind?)
    })
    .flatten()
}

/// Gives a buffer back.
pub(crate) fn keep_buffer(kind: Kind, buffer: Buffer) {
    let dropped = with(|kept| {
        kept.pool.give(kind, buffer);
        kept.trim()
    });
    drop(dropped);
}

/// Drops all memory that this thread keeps from run to run, and all cached plans.
///
/// Runs keep memory, so that steady work maps no fresh memory: a thread at most 256 MiB, or as much as the largest of its last
/// 16 runs needed if that is more. Plans of programs are kept for all threads, in at most 128 MiB. This gives it all back; what
/// runs next takes it anew.
///
/// ```
/// let f = autograd::grad(|x| x.sin().sum());
/// let first = f(vec![0.5; 100_000])?;
/// autograd::release_memory();
/// assert_eq!(f(vec![0.5; 100_000])?, first);
/// # Ok::<(), autograd::Error>(())
/// ```
pub fn release_memory() {
    let dropped = with(|kept| {
        let dropped = Dropped {
            _scratch: kept.scratch.take(),
            _graph: kept.graph.take(),
        };
        kept.pool = Pool::new();
        kept.needs = [Need::NOTHING; RUNS];
        dropped
    });
    drop(dropped);
    tile::free_cached();
    cache::clear();
}

/// The bytes that this thread keeps, and those of the cached plans: for tests.
#[doc(hidden)]
pub fn kept_bytes() -> [usize; 2] {
    [with(|kept| kept.bytes()).unwrap_or(0), cache::bytes()]
}
