//! The training loop.

use super::{
    callback::{At, Callback, Next},
    dry_run::DryRun,
    evaluate::{evaluate, hits},
    history::{Epoch, History},
    progress::Progress,
    state::{Position, Whole},
};
use crate::{
    data::Dataset,
    error::{Error, Result, catch},
    module::Module,
    optim::{Optimizer, gradients},
    schedule::Moment,
    seed,
};
use autograd::{GradientReport, Graph, Param, Tensor, Var};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::Instant,
};

/// So many batches are prepared in one go: each time the thread that does it takes a core from the training.
const TOGETHER: usize = 8;

type Schedule<'m> = Box<dyn Fn(&Moment<'_>) -> f64 + 'm>;
type Augment<'m> = dyn Fn(Tensor, u64) -> Result<Tensor> + Send + Sync + 'm;
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
    callbacks: Vec<Box<dyn Callback + 'm>>,
    checkpoint: Option<(PathBuf, usize)>,
    augment: Option<Arc<Augment<'m>>>,
    overfit: bool,
    most_batches: usize,
}

/// Inputs, targets and the seed of a step.
type Prepared = (Tensor, Tensor, u64);

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
            callbacks: Vec::new(),
            checkpoint: None,
            augment: None,
            overfit: false,
            most_batches: usize::MAX,
        }
    }

    /// The loss: a function of outputs and targets that gives a single number.
    pub fn loss(mut self, loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm) -> Self {
        self.loss = Box::new(loss);
        self
    }

    /// Which multiple of the learning rate to use, step by step: one of [`schedule`](crate::schedule) or a function of your
    /// own.
    pub fn schedule(mut self, schedule: impl Fn(&Moment<'_>) -> f64 + 'm) -> Self {
        self.schedule = Box::new(schedule);
        self
    }

    /// The number of samples in a step; the last batch of an epoch may be smaller.
    pub fn batch_size(mut self, size: usize) -> Self {
        self.batch_size = size;
        self
    }

    /// Changes the inputs of each batch before it is used, by a seed of its own: [`shift_images`](crate::data::shift_images),
    /// or a function of yours. It runs on another thread, ahead of the training.
    pub fn augment(
        mut self,
        change: impl Fn(Tensor, u64) -> Result<Tensor> + Send + Sync + 'm,
    ) -> Self {
        self.augment = Some(Arc::new(change));
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

    /// Calls this at the end of steps and epochs: [`EarlyStopping`](crate::EarlyStopping), a [`Log`](crate::Log), one of your
    /// own. They are called in the order in which they were added.
    pub fn with(mut self, callback: impl Callback + 'm) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Saves the whole state of the training to this file after every so many steps, after each epoch, and when it is
    /// paused. If the file is there when [`fit`](Trainer::fit) begins, the training goes on from there: the result has
    /// the same bits as without the interruption. Each time the file appears whole or not at all.
    pub fn checkpoint(mut self, path: impl AsRef<Path>, steps: usize) -> Self {
        self.checkpoint = Some((path.as_ref().into(), steps.max(1)));
        self
    }

    /// Trains on the first batch only, over and over, one step an epoch: a model and a loss that are right bring its loss close
    /// to 0. A first thing to try.
    pub fn overfit(mut self) -> Self {
        self.overfit = true;
        self
    }

    /// Uses only so many batches of an epoch (others in each): to see whether everything works, validation and checkpoints
    /// included.
    pub fn batches_per_epoch(mut self, batches: usize) -> Self {
        self.most_batches = batches.max(1);
        self
    }

    /// What a step would be, without running it.
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let data = nn::Dataset::new(Tensor::full([100, 64], 0.5f32)?, vec![3i64; 100].into())?;
    /// let model = nn::mlp(&[64, 32, 10], nn::Activation::Relu, 1);
    /// let dry = nn::Trainer::new(&model, nn::Adam::new(1e-3)).batch_size(50).dry_run(&data)?;
    /// assert_eq!((dry.steps, dry.parameters.len()), (2, 4));
    /// println!("{dry}");
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn dry_run(&self, data: &Dataset) -> Result<DryRun> {
        self.check(data)?;
        let (g, steps) = (Graph::training(self.seed), self.steps_of(data));
        let (inputs, targets) = self.first_batch(data)?;
        let (outputs, loss) = catch(|| {
            let outputs = self.model.forward(g.constant(inputs));
            (outputs, (self.loss)(outputs, g.constant(targets)))
        })?;
        let layers = g.picture().of(&[outputs]).to_text();
        let done = Moment {
            step: 0,
            steps_per_epoch: steps,
            epochs: self.epochs,
            history: &[],
        };
        catch(|| {
            self.optimizer
                .update(gradients(loss), (self.schedule)(&done))
        })?;
        let plan = g.plan((loss, g.check_finite(&[loss])))?;
        Ok(DryRun {
            layers,
            parameters: self.model.parameters(),
            plan,
            steps,
        })
    }

    /// As many samples as a step takes, in the order of the data.
    fn first_batch(&self, data: &Dataset) -> Result<(Tensor, Tensor)> {
        data.rows(&Vec::from_iter(0..self.batch_size.min(data.len())))
    }

    /// The steps of an epoch.
    fn steps_of(&self, data: &Dataset) -> usize {
        data.len().div_ceil(self.batch_size).min(self.most_batches)
    }

    /// Trains. The parameters of the model are updated in place; what happened is returned epoch by epoch.
    pub fn fit(&mut self, data: &Dataset) -> Result<History> {
        self.check(data)?;
        let only = |(inputs, targets)| Dataset::new(inputs, targets);
        let first = self
            .overfit
            .then(|| self.first_batch(data).and_then(only))
            .transpose()?;
        let data = first.as_ref().unwrap_or(data);
        let params = self.model.parameters();
        let buffers = self.optimizer.state(&params)?;
        let settings = [self.seed as i64, self.batch_size as i64, data.len() as i64];
        let whole = Whole {
            model: &params,
            optimizer: &buffers,
            settings,
        };
        let running = Running {
            whole,
            steps: self.steps_of(data),
            progress: Progress::new(self.quiet),
        };
        let mut position = match &self.checkpoint {
            Some((path, _)) if path.exists() => running.whole.load(path, &mut self.callbacks)?,
            _ => Position::default(),
        };
        let mut result = Ok(Next::Continue);
        while !position.finished
            && position.history.len() < self.epochs
            && matches!(result, Ok(Next::Continue))
        {
            result = self.epoch(data, &running, &mut position);
        }
        let at = running.at(&position);
        let ended = self
            .callbacks
            .iter_mut()
            .map(|c| catch(|| c.end(&at)).flatten())
            .fold(Ok(()), Result::and);
        result.and(ended)?;
        Ok(position.history)
    }

    /// One epoch, or what is left of it.
    fn epoch(
        &mut self,
        data: &Dataset,
        running: &Running<'_>,
        position: &mut Position,
    ) -> Result<Next> {
        let (start, number) = (Instant::now(), position.history.len() + 1);
        let mut gradients: Option<GradientReport> = None;
        let epoch_seed = seed::derive(self.seed, number as u64);
        let batches = data.shuffled_batches(self.batch_size, epoch_seed);
        let Running {
            progress, steps, ..
        } = running;
        progress.start_epoch(number, self.epochs, *steps, position.step);
        // batches are prepared on a thread of their own, which draws by number and not by time
        let (first, augment) = (position.step, self.augment.clone());
        let prepare = move |(k, batch): (usize, Result<(Tensor, Tensor)>)| {
            let (inputs, targets) = batch?;
            let seed = seed::derive(epoch_seed, (first + k) as u64);
            let inputs = match &augment {
                Some(change) => catch(|| change(inputs, seed::derive(seed, 1)))??,
                None => inputs,
            };
            Ok((inputs, targets, seed))
        };
        let next = std::thread::scope(|threads| {
            let (send, receive) = sync_channel(1);
            let prepare_all = move || {
                let mut batches = batches
                    .starting_at(first)
                    .take(steps.saturating_sub(first))
                    .enumerate()
                    .map(prepare)
                    .peekable();
                while batches.peek().is_some() {
                    let some: Vec<_> = batches.by_ref().take(TOGETHER).collect();
                    if send.send(some).is_err() {
                        return; // nobody listens any more: the training has ended
                    }
                }
            };
            let started = std::thread::Builder::new().spawn_scoped(threads, prepare_all);
            started.map_err(|e| {
                Error::invalid(format!("a thread for the data cannot be started: {e}"))
            })?;
            self.steps(receive, running, position, &mut gradients)
        })?;
        if next != Next::Continue {
            return Ok(next);
        }
        let time = start.elapsed();
        let validation = self
            .validation
            .map(|data| evaluate(self.model, data, &self.loss))
            .transpose()?;
        let train = std::mem::take(&mut position.meter).metrics();
        position.history.push(Epoch {
            number,
            train,
            validation,
            time,
            gradients,
        });
        position.step = 0;
        let next = self.call(|c, at| c.epoch(at), &running.at(position))?;
        let notes: String = self
            .callbacks
            .iter()
            .filter_map(|c| c.note())
            .map(|note| format!(" | {note}"))
            .collect();
        if let Some(epoch) = position.history.last() {
            progress.end_epoch(epoch, &notes);
        }
        position.finished = next == Next::Stop;
        self.save(&running.whole, position)?;
        Ok(next)
    }

    /// The steps of an epoch.
    fn steps(
        &mut self,
        batches: Receiver<Vec<Result<Prepared>>>,
        running: &Running<'_>,
        position: &mut Position,
        gradients: &mut Option<GradientReport>,
    ) -> Result<Next> {
        let (number, steps) = (position.history.len() + 1, running.steps);
        for batch in batches.into_iter().flatten() {
            let (inputs, targets, seed) = batch?;
            let (g, step, samples) = (Graph::training(seed), position.step, inputs.shape()[0]);
            let history = &position.history;
            let done = Moment {
                step: (number - 1) * steps + step,
                steps_per_epoch: steps,
                epochs: self.epochs,
                history,
            };
            let failed = |error| Error::Step {
                epoch: number,
                step: step + 1,
                error,
            };
            let (loss, hits, report) = self
                .step(&g, (inputs, targets), &done, running.whole.model)?
                .map_err(failed)?;
            position.meter.add(samples, &loss, hits.as_ref())?;
            position.step += 1;
            match (&mut *gradients, report) {
                (Some(all), Some(report)) => all.merge(&report),
                (all, report) => *all = report,
            }
            running
                .progress
                .batch(|| position.meter.metrics().to_string());
            let next = self.call(|c, at| c.step(at), &running.at(position))?;
            let due = self
                .checkpoint
                .as_ref()
                .is_some_and(|(_, every)| position.step.is_multiple_of(*every));
            if next != Next::Continue || (due && position.step < steps) {
                position.finished = next == Next::Stop;
                self.save(&running.whole, position)?;
            }
            if next != Next::Continue {
                return Ok(next);
            }
        }
        Ok(Next::Continue)
    }

    /// Asks all callbacks; the first that does not want to continue decides.
    fn call(
        &mut self,
        mut ask: impl FnMut(&mut dyn Callback, &At<'_>) -> Result<Next>,
        at: &At<'_>,
    ) -> Result<Next> {
        let mut next = Next::Continue;
        for callback in &mut self.callbacks {
            let said = catch(|| ask(&mut **callback, at))??;
            next = if next == Next::Continue { said } else { next };
        }
        Ok(next)
    }

    fn save(&self, whole: &Whole<'_>, position: &Position) -> Result<()> {
        match &self.checkpoint {
            Some((path, _)) => whole.save(path, position, &self.callbacks),
            None => Ok(()),
        }
    }

    /// One step: forward, backward and update in one run. The loss, the number of right answers, and the gradients in
    /// numbers. The outer error is one of the user's code, the inner one of the graph.
    fn step(
        &self,
        g: &Graph,
        (inputs, targets): (Tensor, Tensor),
        done: &Moment<'_>,
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
        let guarded = if self.guard {
            [&[loss], &gradients[..]].concat()
        } else {
            vec![loss]
        };
        let guard = g.check_finite(&guarded);
        let done = g
            .run((loss, hits, report, guard))
            .map(|(loss, hits, report, _)| (loss, hits, report));
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

/// What stays the same while a training runs.
struct Running<'r> {
    whole: Whole<'r>,
    /// The steps of an epoch.
    steps: usize,
    progress: Progress,
}

impl Running<'_> {
    /// Where the training is, for callbacks.
    fn at<'t>(&'t self, position: &'t Position) -> At<'t> {
        let step = position.history.len() * self.steps + position.step;
        At {
            step,
            loss: position.meter.metrics().loss,
            history: &position.history,
            params: self.whole.model,
        }
    }
}
