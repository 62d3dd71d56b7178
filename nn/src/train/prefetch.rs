//! The data thread: prepares the batches of an epoch while the training computes.

use crate::{
    data::{Batch, Source, checked_batch},
    error::{Error, Result, catch},
    seed,
};
use autograd::called_from;
use std::{
    panic::Location,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, Scope},
};

/// The most batches that are prepared at a time. Each time the thread runs, it takes a core from the
/// training, so it should not run for every batch.
const BATCHES: usize = 8;
/// The most bytes of these batches, unless one batch has more. Up to three times as much is ahead.
const BYTES: usize = 16 << 20;

/// Transforms a batch, with random numbers from a seed.
pub(super) type Augmentation<'m> = dyn Fn(Batch, u64) -> Result<Batch> + Send + Sync + 'm;

/// What a step is computed of.
pub(super) struct StepData {
    pub(super) batch: Batch,
    /// The seed of its graph.
    pub(super) seed: u64,
}

/// The batches of an epoch from a step on.
pub(super) struct Prefetch<'p, 'm> {
    pub(super) source: &'p dyn Source,
    /// The samples of the epoch, in order.
    pub(super) order: Vec<usize>,
    pub(super) batch_size: usize,
    /// The first step that is to be done, and the end.
    pub(super) steps: std::ops::Range<usize>,
    pub(super) seed: u64,
    pub(super) augmentation: Option<Arc<Augmentation<'m>>>,
    /// About how many bytes a batch has.
    pub(super) batch_bytes: usize,
    /// The line that called `fit`.
    pub(super) call: &'static Location<'static>,
}

impl<'p> Prefetch<'p, '_> {
    /// Starts the thread. It ends with the epoch, or when the receiver is dropped.
    pub(super) fn start<'scope>(
        self,
        threads: &'scope Scope<'scope, '_>,
    ) -> Result<Receiver<Vec<Result<StepData>>>>
    where
        Self: Send + 'scope,
    {
        let (sender, receiver) = sync_channel(1);
        let spawned = Builder::new().spawn_scoped(threads, move || self.run(&sender));
        spawned.map_err(|e| Error::invalid(format!("cannot start the data thread: {e}")))?;
        Ok(receiver)
    }

    fn run(self, sender: &SyncSender<Vec<Result<StepData>>>) {
        let _call = called_from(self.call);
        let together = (BYTES / self.batch_bytes.max(1)).clamp(1, BATCHES);
        let steps: Vec<usize> = self.steps.clone().collect();
        for group in steps.chunks(together) {
            let prepared = group.iter().map(|&step| self.prepare(step)).collect();
            if sender.send(prepared).is_err() {
                return; // the training has ended
            }
        }
    }

    /// The seed of a batch depends on its number and not on timing, so this thread does not make
    /// results depend on the number of threads.
    fn prepare(&self, step: usize) -> Result<StepData> {
        let rest = &self.order[(step * self.batch_size).min(self.order.len())..];
        let samples = &rest[..self.batch_size.min(rest.len())];
        let batch = checked_batch(self.source, samples)?;
        let seed = seed::derive(self.seed, step as u64);
        let batch = match &self.augmentation {
            Some(transform) => catch("the augmentation", || {
                transform(batch, seed::derive(seed, 1))
            })??,
            None => batch,
        };
        Ok(StepData { batch, seed })
    }
}
