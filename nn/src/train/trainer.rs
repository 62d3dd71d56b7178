//! The training loop.

use super::{
    evaluate::{Meter, evaluate, hits},
    history::{Epoch, History},
    progress::Progress,
};
use crate::{
    data::Dataset,
    error::{Error, Result, catch},
    module::Module,
    optim::{Optimizer, gradients},
    seed,
};
use autograd::{GradientReport, Graph, Param, Tensor, Var};
use std::time::Instant;

type Schedule<'m> = Box<dyn Fn(f64) -> f64 + 'm>;
type Loss<'m> = Box<dyn for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm>;

/// Trains a model on a dataset, batch by batch.
///
/// Everything random (the order of samples, dropout) comes from one seed: the same seed gives the same weights, bit for
/// bit, on any number of threads. A loss that is NaN or infinite ends the training with an error that tells where it comes
/// from, before any parameter is changed. See the [crate docs](crate) for an example, and for a step written by hand.
pub struct Trainer<'m, M: ?Sized, O> {
    model: &'m M,
    optimizer: O,
    loss: Loss<'m>,
    schedule: Schedule<'m>,
    batch_size: usize,
    epochs: usize,
    seed: u64,
    validation: Option<&'m Dataset>,
    quiet: bool,
    guard: bool,
    inspect: bool,
}

/// What is measured in a step.
type Measured = (Tensor, Option<Tensor>, Option<GradientReport>);

impl<'m, M: Module + ?Sized, O: Optimizer> Trainer<'m, M, O> {
    /// With cross-entropy as the loss, a constant rate, batches of 64, one epoch, seed 0, without validation.
    pub fn new(model: &'m M, optimizer: O) -> Trainer<'m, M, O> {
        let loss: Loss<'m> = Box::new(crate::loss::cross_entropy);
        let schedule: Schedule<'m> = Box::new(crate::schedule::constant);
        Trainer {
            model,
            optimizer,
            loss,
            schedule,
            batch_size: 64,
            epochs: 1,
            seed: 0,
            validation: None,
            quiet: false,
            guard: false,
            inspect: false,
        }
    }

    /// The loss: a function of outputs and targets that gives a single number.
    pub fn loss(mut self, loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm) -> Self {
        self.loss = Box::new(loss);
        self
    }

    /// Which multiple of the learning rate to use, by the share of the training that is done: one of
    /// [`schedule`](crate::schedule) or a function of your own.
    pub fn schedule(mut self, schedule: impl Fn(f64) -> f64 + 'm) -> Self {
        self.schedule = Box::new(schedule);
        self
    }

    /// The number of samples in a step; the last batch of an epoch may be smaller.
    pub fn batch_size(mut self, size: usize) -> Self {
        self.batch_size = size;
        self
    }

    /// How often to go through the data.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// The seed of the order of samples and of random layers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Measures the model on this data after each epoch.
    pub fn validate(mut self, data: &'m Dataset) -> Self {
        self.validation = Some(data);
        self
    }

    /// Prints nothing. Otherwise there is a bar on a terminal (on standard error) and one line an epoch (on standard
    /// output).
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Guards gradients as well as the loss: a step in which one of them is NaN or infinite is not carried out, and the
    /// training ends with an error that tells where it comes from (see [`Graph::detect_anomaly`]). The loss is always
    /// guarded. It costs about as much as keeping all gradients in memory.
    pub fn detect_anomaly(mut self) -> Self {
        self.guard = true;
        self
    }

    /// Reports gradients in numbers after each epoch: norms, zeros, dead units, updates against weights (see
    /// [`Graph::inspect_gradients`]). It makes steps slower.
    pub fn inspect(mut self) -> Self {
        self.inspect = true;
        self
    }

    /// Trains. The parameters of the model are updated in place; what happened is returned epoch by epoch.
    pub fn fit(&self, data: &Dataset) -> Result<History> {
        self.check(data)?;
        let progress = Progress::new(self.quiet);
        let names = self.model.parameters();
        let mut history = History::new();
        for number in 1..=self.epochs {
            let (start, mut meter) = (Instant::now(), Meter::default());
            let mut gradients: Option<GradientReport> = None;
            let epoch_seed = seed::derive(self.seed, number as u64);
            let batches = data.shuffled_batches(self.batch_size, epoch_seed);
            let steps = batches.len();
            progress.start_epoch(number, self.epochs, steps);
            for (step, batch) in batches.enumerate() {
                let (inputs, targets) = batch?;
                let (g, samples) = (Graph::training(seed::derive(epoch_seed, step as u64)), inputs.shape()[0]);
                let done = ((number - 1) * steps + step) as f64 / (self.epochs * steps) as f64;
                let failed = |error| Error::Step { epoch: number, step: step + 1, error };
                let (loss, hits, report) = self.step(&g, (inputs, targets), done, &names)?.map_err(failed)?;
                meter.add(samples, &loss, hits.as_ref())?;
                match (&mut gradients, report) {
                    (Some(all), Some(report)) => all.merge(&report),
                    (all, report) => *all = report,
                }
                progress.batch(|| meter.metrics().to_string());
            }
            let time = start.elapsed();
            let validation = self.validation.map(|data| evaluate(self.model, data, &self.loss)).transpose()?;
            let epoch = Epoch { number, train: meter.metrics(), validation, time, gradients };
            progress.end_epoch(&epoch);
            history.push(epoch);
        }
        Ok(history)
    }

    /// One step: forward, backward and update in one run. The loss, the number of right answers, and the gradients in
    /// numbers. The outer error is one of the user's code, the inner one of the graph.
    fn step(
        &self,
        g: &Graph,
        (inputs, targets): (Tensor, Tensor),
        done: f64,
        names: &[(String, Param)],
    ) -> Result<autograd::Result<Measured>> {
        let (loss, hits, report, gradients) = catch(|| {
            let (outputs, targets) = (self.model.forward(g.constant(inputs)), g.constant(targets));
            let loss = (self.loss)(outputs, targets);
            let gradients = gradients(loss);
            let found: Vec<Var<'_>> = gradients.iter().map(|d| d.gradient).collect();
            self.optimizer.update(gradients, (self.schedule)(done));
            let report = self.inspect.then(|| g.inspect_gradients(loss).named(names));
            (loss, hits(outputs, targets), report, found)
        })?;
        let guarded = if self.guard { [&[loss], &gradients[..]].concat() } else { vec![loss] };
        let guard = g.check_finite(&guarded);
        let done = g.run((loss, hits, report, guard)).map(|(loss, hits, report, _)| (loss, hits, report));
        Ok(done.map_err(|e| match e.op() {
            // nothing was changed: the same inputs are run once more, to see where it comes from
            "check_finite" => g.find_anomaly(&(loss, gradients)).err().unwrap_or(e),
            _ => e,
        }))
    }

    fn check(&self, data: &Dataset) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::invalid("a batch size of 0 trains nothing"));
        }
        if data.is_empty() {
            return Err(Error::invalid("there are no samples to train on"));
        }
        self.optimizer.check()
    }
}
