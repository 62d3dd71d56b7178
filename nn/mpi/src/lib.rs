//! Data-parallel training with `nn` over MPI: the processes of a job train as one.
//!
//! ```no_run
//! use nn::{Activation, Sgd, Trainer, data};
//! use nn_mpi::Mpi;
//!
//! fn main() -> nn::Result<()> {
//!     let mpi = Mpi::start()?;
//!     let result = train(&mpi);
//!     mpi.end(result)
//! }
//!
//! fn train(mpi: &Mpi) -> nn::Result<()> {
//!     let (train, test) = data::read_mnist("mnist")?;
//!     let model = nn::mlp(&[784, 128, 10], Activation::Relu, 42);
//!     Trainer::new(&model, Sgd::new(0.1))
//!         .batch_size(256)
//!         .micro_batch(32)      // at most 8 ranks
//!         .validate(&test)
//!         .team(mpi)
//!         .fit(&train)?;        // the first rank prints
//!     Ok(())
//! }
//! ```
//!
//! `mpirun -n 4 program` starts it. It needs an MPI library, such as that of Debian's packages
//! `libopenmpi-dev openmpi-bin libclang-dev`.
//!
//! A rank that is killed ends the job: `mpirun` ends the others and names it. One that fails is named
//! by the trainer, or by [`Mpi::end`] if it fails outside of a training. The last checkpoint is
//! there, and can be resumed with another number of ranks.

use autograd::Tensor;
use mpi::{
    Threading,
    collective::SystemOperation,
    datatype::{Partition, PartitionMut},
    environment::Universe,
    topology::SimpleCommunicator,
    traits::{Communicator, CommunicatorCollectives},
};
use nn::{
    Error, Result,
    team::{GradientSum, Team, sum_in_any_order},
};
use std::{
    cell::RefCell,
    fmt::Display,
    time::{Duration, Instant},
};

/// This process as a rank of an MPI job.
///
/// Dropped before [`end`](Mpi::end), as by a panic, it ends the job: the others would wait for it.
pub struct Mpi {
    world: SimpleCommunicator,
    /// What is sent and received: memory that the system gives anew costs more than the messages.
    sent: RefCell<Vec<u8>>,
    received: RefCell<Vec<u8>>,
    ended: bool,
    /// Finalizes MPI when it is dropped: the last field.
    _universe: Universe,
}

/// How long a rank that has failed waits for others that fail in the same way.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much longer the other ranks live than the first one when all have failed.
const HEAD_START: Duration = Duration::from_millis(300);

/// The bytes of a message that are sent with its length: messages are mostly short.
const INLINE: usize = 248;

impl Mpi {
    /// Begins to use MPI. Started without `mpirun`, a process is the only rank.
    pub fn start() -> Result<Mpi> {
        // the training may run on a thread of a pool, but calls come one after the other
        let started = mpi::initialize_with_threading(Threading::Serialized);
        let (universe, provided) = started.ok_or_else(|| invalid("MPI is in use already"))?;
        if provided < Threading::Serialized {
            return Err(invalid(
                "this MPI library cannot be used by a program with threads",
            ));
        }
        Ok(Mpi {
            world: universe.world(),
            sent: RefCell::default(),
            received: RefCell::default(),
            ended: false,
            _universe: universe,
        })
    }

    /// The same rank in a team that adds gradients with MPI's own `MPI_Allreduce`, in an order that depends
    /// on the number of ranks: see [`sum_in_any_order`], which says how much the results differ.
    pub fn in_any_order(&self) -> AnyOrder<'_> {
        AnyOrder {
            mpi: self,
            bucket: usize::MAX,
        }
    }

    /// A sensible number of threads for each rank: the cores that it can run on, by the ranks of this
    /// machine that can run on the same ones. (`mpirun` binds ranks to cores, or leaves that to the
    /// system.)
    pub fn threads(&self) -> Result<usize> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let cores = status
            .lines()
            .find(|line| line.starts_with("Cpus_allowed_list"));
        let place = [
            &read("/proc/sys/kernel/hostname"),
            cores.unwrap_or_default(),
        ]
        .concat();
        let all = self.all_gather(place.as_bytes())?;
        let sharing = all
            .iter()
            .filter(|other| other[..] == *place.as_bytes())
            .count();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok((cores / sharing).max(1))
    }

    /// Ends the use of MPI with the result of this rank, and waits for the others to come here, too. If
    /// this rank has failed and others go on, the job is aborted after a few seconds, with a message
    /// that names the rank.
    pub fn end<T, E: Display>(mut self, result: Result<T, E>) -> Result<T, E> {
        let (begin, mut all_are_here) = (Instant::now(), self.world.immediate_barrier());
        while let Err(waiting) = all_are_here.test() {
            all_are_here = waiting;
            if let Some(error) = result.as_ref().err().filter(|_| begin.elapsed() > PATIENCE) {
                self.abort(&error.to_string());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.ended = true;
        if result.is_err() && self.rank() > 0 {
            // mpirun ends all ranks when the first of them ends with an error: rank 0 says what it is
            std::thread::sleep(HEAD_START);
        }
        result
    }

    fn abort(&self, why: &str) -> ! {
        eprintln!("rank {} of {} failed: {why}", self.rank(), self.size());
        self.world.abort(1)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if !self.ended && self.size() > 1 {
            self.abort("it ended without `Mpi::end`");
        }
    }
}

impl Team for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut start = [0; 8 + INLINE];
        start[..8].copy_from_slice(&(mine.len() as u64).to_le_bytes());
        let inline = mine.len().min(INLINE);
        start[8..8 + inline].copy_from_slice(&mine[..inline]);
        let mut starts = vec![0; start.len() * self.size()];
        self.world.all_gather_into(&start[..], &mut starts[..]);
        let (starts, _) = starts.as_chunks::<{ 8 + INLINE }>();
        let length = |start: &[u8; 8 + INLINE]| {
            let bytes = start.first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(bytes) as usize
        };
        let lengths: Vec<usize> = starts.iter().map(length).collect();
        if lengths.iter().all(|&n| n <= INLINE) {
            let message = |(start, &n): (&[u8; 8 + INLINE], &usize)| start[8..8 + n].to_vec();
            return Ok(starts.iter().zip(&lengths).map(message).collect());
        }
        let (counts, places) = partition(&lengths)?;
        let mut received = self.received.borrow_mut();
        let all = first(&mut received, lengths.iter().sum());
        let mut parts = PartitionMut::new(&mut all[..], counts, &places[..]);
        self.world.all_gather_varcount_into(mine, &mut parts);
        Ok(split(all, &lengths))
    }

    fn all_to_all(&self, mine: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let lengths: Vec<usize> = mine.iter().map(Vec::len).collect();
        let sent: Vec<u64> = lengths.iter().map(|&n| n as u64).collect();
        let mut received = vec![0u64; self.size()];
        self.world.all_to_all_into(&sent[..], &mut received[..]);
        let received: Vec<usize> = received.into_iter().map(|n| n as usize).collect();
        let mut from = self.sent.borrow_mut();
        from.clear();
        mine.iter().for_each(|message| from.extend(message));
        let ((counts, places), (their_counts, their_places)) =
            (partition(&lengths)?, partition(&received)?);
        let mut buffer = self.received.borrow_mut();
        let all = first(&mut buffer, received.iter().sum());
        self.world.all_to_all_varcount_into(
            &Partition::new(&from[..], counts, &places[..]),
            &mut PartitionMut::new(&mut all[..], their_counts, &their_places[..]),
        );
        Ok(split(all, &received))
    }
}

/// A rank of an MPI job that adds in any order: see [`Mpi::in_any_order`].
pub struct AnyOrder<'m> {
    mpi: &'m Mpi,
    bucket: usize,
}

impl AnyOrder<'_> {
    /// The most numbers that one `MPI_Allreduce` adds: all of them by default. Buckets are under way
    /// together.
    pub fn buckets_of(mut self, numbers: usize) -> Self {
        self.bucket = numbers.max(1);
        self
    }

    /// `MPI_Allreduce` of these numbers, in buckets.
    fn add<T: mpi::traits::Equivalence + Copy + Default>(&self, numbers: &mut [T]) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        count(numbers.len())?;
        let mine = numbers.to_vec();
        let bucket = self.bucket.min(numbers.len());
        if bucket == numbers.len() {
            self.mpi
                .world
                .all_reduce_into(&mine[..], numbers, SystemOperation::sum());
            return Ok(());
        }
        mpi::request::scope(|scope| {
            let buckets = mine.chunks(bucket).zip(numbers.chunks_mut(bucket));
            let started = buckets.map(|(mine, sums)| {
                let sum = SystemOperation::sum();
                self.mpi
                    .world
                    .immediate_all_reduce_into(scope, mine, sums, sum)
            });
            let started: Vec<_> = started.collect();
            for request in started {
                request.wait();
            }
        });
        Ok(())
    }
}

impl Team for AnyOrder<'_> {
    fn rank(&self) -> usize {
        self.mpi.rank()
    }

    fn size(&self) -> usize {
        self.mpi.size()
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.mpi.all_gather(mine)
    }

    fn sum(&self, mine: GradientSum) -> Result<Vec<Tensor>> {
        sum_in_any_order(self, mine, |f32s, f64s| {
            self.add(f32s)?;
            self.add(f64s)
        })
    }
}

/// A count as MPI takes it. Longer messages fail on all ranks, since all know their lengths.
fn count(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| {
        invalid(&format!(
            "MPI cannot send {n} elements at once: at most {}",
            i32::MAX
        ))
    })
}

/// Counts, and the places where messages of these lengths begin.
fn partition(lengths: &[usize]) -> Result<(Vec<i32>, Vec<i32>)> {
    count(lengths.iter().sum())?;
    let counts: Vec<i32> = lengths.iter().map(|&n| n as i32).collect();
    let places = counts.iter().scan(0, |end, n| {
        let place = *end;
        *end += n;
        Some(place)
    });
    let places = places.collect();
    Ok((counts, places))
}

/// The first bytes of a buffer, which grows if it has less.
fn first(buffer: &mut Vec<u8>, count: usize) -> &mut [u8] {
    if buffer.len() < count {
        buffer.resize(count, 0);
    }
    &mut buffer[..count]
}

/// Messages of these lengths.
fn split(mut all: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let message = |&n: &usize| {
        let (message, rest) = all.split_at(n);
        all = rest;
        message.to_vec()
    };
    lengths.iter().map(message).collect()
}

fn invalid(message: &str) -> Error {
    Error::Invalid(message.into())
}
