//! Threads that share one piece of work after the other: rayon's current pool, without the price of asking it each time.
//!
//! The first piece of work that is worth sharing asks the pool for helpers. A helper that has come stays for a moment
//! after each piece, awake, so that it takes the next one within a fraction of a microsecond; then it goes back to the
//! pool. The caller always works itself and never waits for a helper that has not come: a pool that is busy, or a helper
//! that is late, only means that the caller does more. Each thread begins with parts of its own, the same ones each
//! time, since what it wrote is still in its cache, and then takes what others have left. Which thread does which part
//! never changes a result.

#![allow(unsafe_code)] // work that borrows is handed to threads that might live longer

use crate::error::{OpError, catch};
use std::{
    cell::{RefCell, UnsafeCell},
    hint,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

/// Parts are at least this long, in nanoseconds: a few times what it takes to hand one over.
pub(crate) const LEAST_PART: usize = 1500;
/// A helper goes when it was not needed for so long: the pause between two steps of a training.
const STAYS: Duration = Duration::from_micros(200);

/// How long a part should be of work that takes about so many nanoseconds; none if it is not worth sharing.
pub(crate) fn length_of_parts(nanoseconds: usize) -> Option<usize> {
    let is_worth = nanoseconds >= 2 * LEAST_PART && threads() > 1;
    is_worth.then(|| (nanoseconds / most_parts()).max(LEAST_PART))
}

/// The threads of the current pool.
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}

/// The most parts that work is split into: some more than threads, in case one of them is slow.
pub(crate) fn most_parts() -> usize {
    match threads() {
        1 => 1,
        threads => 2 * threads,
    }
}

/// The parts that one thread begins with.
#[repr(align(128))] // no two share a line of the cache
struct Lane {
    next: AtomicUsize,
    end: usize,
}

/// The most threads that have parts of their own.
pub(crate) const LANES: usize = 16;

/// Does all parts of some work, on several threads. `first` says with which part each of them begins: a thread's own parts
/// go on to the first one of the next. The first error, or panic, of those that came to an end is returned; parts that had
/// not begun then are left out.
pub(crate) fn each(
    parts: usize,
    first: impl Fn(usize) -> usize,
    part: &(dyn Fn(usize) -> Result<(), OpError> + Sync),
) -> Result<(), OpError> {
    let failure = Mutex::new(None);
    let crew = CREW.take().unwrap_or_else(|| Arc::new(Crew::new()));
    let count = threads().min(LANES);
    let at = |lane: usize| if lane < count { first(lane) } else { parts };
    let lanes: [Lane; LANES] = std::array::from_fn(|l| Lane {
        next: AtomicUsize::new(at(l)),
        end: at(l + 1),
    });
    let failed = AtomicBool::new(false);
    crew.share(&|who| {
        for lane in (0..count).map(|l| &lanes[(who + l) % count]) {
            while !failed.load(SeqCst) {
                let number = lane.next.fetch_add(1, SeqCst);
                if number >= lane.end {
                    break;
                }
                if let Err(e) = catch(|| part(number)).and_then(|done| done) {
                    failed.store(true, SeqCst);
                    failure
                        .lock()
                        .unwrap_or_else(|e| e.into_inner())
                        .get_or_insert(e);
                }
            }
        }
    });
    CREW.set(Some(crew));
    failure
        .into_inner()
        .unwrap_or_else(|e| e.into_inner())
        .map_or(Ok(()), Err)
}

thread_local! {
    /// The helpers of this thread, unless it is just working with them.
    static CREW: RefCell<Option<Arc<Crew>>> = const { RefCell::new(None) };
}

/// What several threads do at once: each calls it with its number, and it returns when nothing is left to do. It does not
/// panic.
type Work<'w> = dyn Fn(usize) + Sync + 'w;

struct Crew {
    caller: ThreadId,
    /// Odd while there is work to join.
    turn: AtomicUsize,
    /// How many helpers are at work, or about to see that there is none.
    inside: AtomicUsize,
    /// How many helpers have been asked for and have not gone.
    helpers: AtomicUsize,
    /// Valid while the turn is odd, and until nobody is inside any more.
    work: UnsafeCell<Option<*const Work<'static>>>,
}

// SAFETY: `work` is written by the caller alone, while the turn is even and nobody is inside.
unsafe impl Sync for Crew {}
// SAFETY: as above; what `work` points to is `Sync`.
unsafe impl Send for Crew {}

impl Crew {
    fn new() -> Crew {
        Crew {
            caller: thread::current().id(),
            turn: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            helpers: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
        }
    }

    /// Calls `work` here and on the helpers that come in time; returns when all of these calls have.
    fn share(self: &Arc<Crew>, work: &Work<'_>) {
        let work: *const Work<'_> = work;
        // SAFETY: the turn is even and nobody is inside. Only the lifetime changes: nobody calls it after this function,
        // which waits until all who entered have left.
        unsafe {
            *self.work.get() =
                Some(std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work))
        };
        self.turn.fetch_add(1, SeqCst);
        self.call_helpers();
        // SAFETY: it is borrowed for the whole of this function.
        unsafe { (*work)(0) };
        self.turn.fetch_add(1, SeqCst);
        let mut waited = Patience::new();
        while self.inside.load(SeqCst) > 0 {
            waited.pause();
        }
    }

    fn call_helpers(self: &Arc<Crew>) {
        let wanted = threads() - 1;
        while self.helpers.load(SeqCst) < wanted {
            // two may have the same number for a while: then both begin with the same parts
            let number = self.helpers.fetch_add(1, SeqCst) + 1;
            let crew = self.clone();
            rayon::spawn(move || crew.help(number));
        }
    }

    /// What a helper does: joins whatever work there is, and goes when there was none for a while.
    fn help(&self, number: usize) {
        let (mut seen, mut waited) = (0, Patience::new());
        // a pool without idle threads runs it when the caller is through, on the caller's own thread
        let is_caller = thread::current().id() == self.caller;
        while !is_caller && waited.is_left() {
            let turn = self.turn.load(SeqCst);
            if turn.is_multiple_of(2) || turn == seen {
                waited.pause();
                continue;
            }
            self.inside.fetch_add(1, SeqCst);
            if self.turn.load(SeqCst) == turn {
                // SAFETY: the turn is odd, and was so after this thread was counted: the caller waits for it.
                if let Some(work) = unsafe { *self.work.get() } {
                    // SAFETY: as above.
                    unsafe { (*work)(number) };
                }
            }
            self.inside.fetch_sub(1, SeqCst);
            (seen, waited) = (turn, Patience::new());
        }
        self.helpers.fetch_sub(1, SeqCst);
    }
}

/// Waiting: first awake, then letting others run.
struct Patience {
    since: Instant,
    pauses: u32,
}

impl Patience {
    fn new() -> Patience {
        Patience {
            since: Instant::now(),
            pauses: 0,
        }
    }

    fn pause(&mut self) {
        self.pauses = self.pauses.saturating_add(1);
        if self.pauses < 2_000 {
            hint::spin_loop()
        } else {
            thread::yield_now()
        }
    }

    fn is_left(&self) -> bool {
        !self.pauses.is_multiple_of(32) || self.since.elapsed() < STAYS
    }
}
