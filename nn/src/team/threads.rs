//! Threads of one process as a team.

use super::Team;
use crate::error::{Error, Result};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A rank of a team of threads, for tests, and to see what a team of processes would compute.
///
/// ```
/// use nn::team::{Team, Threads};
/// let ranks = Threads::new(3).into_iter();
/// let threads = ranks.map(|rank| std::thread::spawn(move || rank.all_gather(&[rank.rank() as u8])));
/// for gathered in threads.collect::<Vec<_>>() {
///     assert_eq!(gathered.join().expect("no panic")?, [[0], [1], [2]]);
/// }
/// # Ok::<(), nn::Error>(())
/// ```
pub struct Threads {
    rank: usize,
    size: usize,
    round: Arc<(Mutex<Round>, Condvar)>,
}

/// A message of each rank. The last rank to arrive completes it.
#[derive(Default)]
struct Round {
    number: usize,
    messages: Vec<Option<Vec<u8>>>,
    /// The messages of the last complete round.
    complete: Arc<Vec<Vec<u8>>>,
    /// A rank that is not there any more.
    gone: Option<usize>,
}

impl Threads {
    /// The ranks of a team of this size, one for each thread.
    pub fn new(size: usize) -> Vec<Threads> {
        let round = Round {
            messages: vec![None; size],
            ..Round::default()
        };
        let round = Arc::new((Mutex::new(round), Condvar::new()));
        let rank = |rank| Threads {
            rank,
            size,
            round: Arc::clone(&round),
        };
        (0..size).map(rank).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Team for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut round = self.lock();
        let number = round.number;
        round.messages[self.rank] = Some(mine.to_vec());
        if round.messages.iter().all(Option::is_some) {
            round.complete = Arc::new(round.messages.iter_mut().filter_map(Option::take).collect());
            round.number += 1;
            self.round.1.notify_all();
        }
        while round.number == number {
            if let Some(gone) = round.gone {
                return Err(Error::invalid(format!("rank {gone} has ended")));
            }
            round = self
                .round
                .1
                .wait(round)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let complete = Arc::clone(&round.complete);
        drop(round);
        Ok(complete.to_vec())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.lock().gone.get_or_insert(self.rank);
        self.round.1.notify_all();
    }
}
