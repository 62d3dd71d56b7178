//! A team of threads that share one piece of work after the other: the caller, and helpers from
//! rayon's current pool.
//!
//! Asking a pool for each piece costs several microseconds, as much as a whole stage of a small
//! network. So the first piece asks for helpers, and a helper stays for a moment after each piece,
//! spinning, and takes the next one within a fraction of a microsecond. When nothing comes, it
//! returns to the pool.
//!
//! **The protocol.** The team has a generation number: odd while there is work to join, even
//! otherwise. The caller stores the work, makes the number odd, does its share, makes it even, and
//! waits until no helper is inside. A helper that sees an odd number counts itself as inside,
//! *reads the number again*, and works only if it is the same. So a helper either is counted before
//! the caller looks, and the caller waits for it, or it sees that the number has changed, and does
//! not touch the work. That needs sequentially consistent loads and stores: each of the two writes
//! one variable and reads the other's.
//!
//! **Nobody waits for a helper that has not come.** A pool that is busy, or a helper that is late,
//! only means that the caller does more. Each thread begins with parts of its own, the same ones
//! each time, because what it wrote is still in its cache, and then takes parts of others. Which
//! thread does which part changes no result.

#![allow(unsafe_code)] // work that borrows is handed to threads that might live longer

use crate::{
    error::{OpError, catch},
    plan::cost::Cost,
};
use std::{
    cell::{RefCell, UnsafeCell},
    hint,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

/// How long a helper waits for the next piece of work: a bit longer than the pause between two
/// steps of a training.
const LINGER: Duration = Duration::from_micros(200);

/// How long a part should be, in nanoseconds, of work that costs so much; none if it is not worth
/// sharing.
pub(crate) fn length_of_parts(cost: Cost) -> Option<usize> {
    let (nanoseconds, least) = (cost.nanoseconds(), Cost::LEAST_PART.nanoseconds());
    let is_worth = nanoseconds >= 2 * least && threads() > 1;
    // two parts a thread, in case one of the threads is slow
    is_worth.then(|| (nanoseconds / (2 * threads())).max(least))
}

/// The threads of the current pool.
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}

/// The parts that one thread begins with.
#[repr(align(128))] // two cache lines, which processors fetch together: no two threads write to the same
struct Queue {
    next: AtomicUsize,
    end: usize,
}

/// Runs `part(k)` for all `k` below `parts`, on several threads. `first` says with which part each
/// of them begins: a thread's own parts end where those of the next one begin. Returns the first
/// error, or panic, of those that came to an end; parts that have not begun by then are skipped.
pub(crate) fn parallel_for(
    parts: usize,
    first: impl Fn(usize) -> usize,
    part: &(dyn Fn(usize) -> Result<(), OpError> + Sync),
) -> Result<(), OpError> {
    let failure = Mutex::new(None);
    let team = TEAM.take().unwrap_or_else(|| Arc::new(Team::new()));
    let count = threads();
    let at = |queue: usize| if queue < count { first(queue) } else { parts };
    let queue = |l: usize| Queue {
        next: AtomicUsize::new(at(l)),
        end: at(l + 1),
    };
    let queues: Vec<Queue> = (0..count).map(queue).collect();
    let failed = AtomicBool::new(false);
    team.share(&|who| {
        for queue in (0..count).map(|l| &queues[(who + l) % count]) {
            while !failed.load(SeqCst) {
                let number = queue.next.fetch_add(1, SeqCst);
                if number >= queue.end {
                    break;
                }
                if let Err(e) = catch(|| part(number)).and_then(|done| done) {
                    failed.store(true, SeqCst);
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(e);
                }
            }
        }
    });
    TEAM.set(Some(team));
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)
}

thread_local! {
    /// The team that this thread calls, unless it is working with it: then work within work gets a
    /// team of its own.
    static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
}

/// What several threads do at once: each calls it with its number, and it returns when nothing is
/// left to do. It does not panic.
type Work<'w> = dyn Fn(usize) + Sync + 'w;

struct Team {
    caller: ThreadId,
    /// Odd while there is work to join.
    generation: AtomicUsize,
    /// The helpers that are at work, or about to see that there is none.
    inside: AtomicUsize,
    /// The helpers that have been asked for and have not returned to the pool.
    helpers: AtomicUsize,
    /// Valid while the generation is odd, and until nobody is inside any more.
    work: UnsafeCell<Option<*const Work<'static>>>,
}

// SAFETY: `work` is written by the caller alone, while the generation is even and nobody is inside.
unsafe impl Sync for Team {}
// SAFETY: as above; what `work` points to is `Sync`.
unsafe impl Send for Team {}

impl Team {
    fn new() -> Team {
        Team {
            caller: thread::current().id(),
            generation: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            helpers: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
        }
    }

    /// Calls `work` here and on the helpers that come in time; returns when all of these calls
    /// have.
    fn share(self: &Arc<Team>, work: &Work<'_>) {
        let work: *const Work<'_> = work;
        // SAFETY: the generation is even and nobody is inside. Only the lifetime changes: nobody
        // calls it after this function, which waits until all who entered have left.
        unsafe {
            let work = std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work);
            *self.work.get() = Some(work);
        }
        self.generation.fetch_add(1, SeqCst);
        self.call_helpers();
        // SAFETY: it is borrowed for the whole of this function.
        unsafe { (*work)(0) };
        self.generation.fetch_add(1, SeqCst);
        let mut backoff = Backoff::new();
        while self.inside.load(SeqCst) > 0 {
            backoff.wait();
        }
    }

    fn call_helpers(self: &Arc<Team>) {
        let wanted = threads() - 1;
        while self.helpers.load(SeqCst) < wanted {
            // two may have the same number for a while: then both begin with the same parts
            let number = self.helpers.fetch_add(1, SeqCst) + 1;
            let team = self.clone();
            rayon::spawn(move || team.help(number));
        }
    }

    /// What a helper does: joins whatever work there is, and returns when there was none for a
    /// while.
    fn help(&self, number: usize) {
        let (mut seen, mut backoff) = (0, Backoff::new());
        // a pool without idle threads runs this on the caller's own thread, when that has nothing
        // else to do: it must not wait for itself
        let is_caller = thread::current().id() == self.caller;
        while !is_caller && backoff.has_time_left() {
            let generation = self.generation.load(SeqCst);
            if generation.is_multiple_of(2) || generation == seen {
                backoff.wait();
                continue;
            }
            self.inside.fetch_add(1, SeqCst);
            if self.generation.load(SeqCst) == generation {
                // SAFETY: the generation is odd, and was so after this thread was counted: the
                // caller waits for it.
                if let Some(work) = unsafe { *self.work.get() } {
                    // SAFETY: as above.
                    unsafe { (*work)(number) };
                }
            }
            self.inside.fetch_sub(1, SeqCst);
            (seen, backoff) = (generation, Backoff::new());
        }
        self.helpers.fetch_sub(1, SeqCst);
    }
}

/// Waiting: first spinning, then yielding to other threads.
struct Backoff {
    since: Instant,
    waits: u32,
}

impl Backoff {
    fn new() -> Backoff {
        Backoff {
            since: Instant::now(),
            waits: 0,
        }
    }

    fn wait(&mut self) {
        const SPINS: u32 = 2_000; // some tens of microseconds
        self.waits = self.waits.saturating_add(1);
        match self.waits < SPINS {
            true => hint::spin_loop(),
            false => thread::yield_now(),
        }
    }

    fn has_time_left(&self) -> bool {
        // the clock is read now and then only: it costs as much as many spins
        !self.waits.is_multiple_of(32) || self.since.elapsed() < LINGER
    }
}
