//! The training loop.

use super::{
    callback::{Callback, CallbackContext, ControlFlow},
    dry_run::DryRun,
    evaluate::{count_correct, evaluate},
    history::{Epoch, History},
    progress::Progress,
    state::{Cursor, TrainingState},
};
use crate::{
    data::Dataset,
    error::{Error, Result, catch},
    module::Module,
    optim::{Optimizer, gradients},
    schedule, seed,
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

/// The number of batches that the data thread prepares at a time. Each time it runs, it takes a
/// core from the training, so it should not run for every batch.
const PREFETCH_BATCHES: usize = 8;

type Schedule<'m> = Box<dyn Fn(&schedule::Context<'_>) -> f64 + 'm>;
type Augmentation<'m> = dyn Fn(Tensor, u64) -> Result<Tensor> + Send + Sync + 'm;
type Loss<'m> = Box<dyn for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm>;

/// Trains a model on a dataset with mini-batches.
///
/// One seed determines everything random (data order, dropout): the same seed gives the same
/// weights, bit for bit, on any number of threads. If the loss becomes NaN or infinite, the
/// training ends with an error that names the operation which caused it; no parameter is changed by
/// that step. See the [crate documentation](crate) for examples of the trainer and of a training
/// loop without it.
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
    detect_anomaly: bool,
    inspect_gradients: bool,
    callbacks: Vec<Box<dyn Callback + 'm>>,
    /// The file, and the number of steps between two checkpoints.
    checkpoint: Option<(PathBuf, usize)>,
    augmentation: Option<Arc<Augmentation<'m>>>,
    overfit_batch: bool,
    max_steps_per_epoch: usize,
}

/// The inputs, the targets and the seed of a step.
type Batch = (Tensor, Tensor, u64);

/// The loss of a step, the number of correct predictions, and gradient statistics.
type StepResult = (Tensor, Option<Tensor>, Option<GradientReport>);

impl<'m, M: Module + ?Sized, O: Optimizer> Trainer<'m, M, O> {
    /// A trainer with the default settings: cross-entropy loss, constant learning rate, batch size
    /// 64, one epoch, seed 0, no validation.
    pub fn new(model: &'m M, optimizer: O) -> Trainer<'m, M, O> {
        let loss: Loss<'m> = Box::new(crate::loss::cross_entropy);
        let schedule: Schedule<'m> = Box::new(schedule::constant);
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
            detect_anomaly: false,
            inspect_gradients: false,
            callbacks: Vec::new(),
            checkpoint: None,
            augmentation: None,
            overfit_batch: false,
            max_steps_per_epoch: usize::MAX,
        }
    }

    /// The loss: a function of outputs and targets that returns a scalar.
    pub fn loss(mut self, loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm) -> Self {
        self.loss = Box::new(loss);
        self
    }

    /// The learning-rate schedule: one of [`schedule`] or a function of your own. It returns the
    /// factor by which the learning rate of each step is multiplied.
    pub fn schedule(mut self, schedule: impl Fn(&schedule::Context<'_>) -> f64 + 'm) -> Self {
        self.schedule = Box::new(schedule);
        self
    }

    /// The number of samples per step. The last batch of an epoch may be smaller.
    pub fn batch_size(mut self, size: usize) -> Self {
        self.batch_size = size;
        self
    }

    /// Data augmentation: transforms the inputs of each training batch. Use
    /// [`random_shift`](crate::data::random_shift) or a function of your own of the inputs and a
    /// seed. It runs on the thread that prefetches the data.
    pub fn augment(
        mut self,
        transform: impl Fn(Tensor, u64) -> Result<Tensor> + Send + Sync + 'm,
    ) -> Self {
        self.augmentation = Some(Arc::new(transform));
        self
    }

    /// The number of epochs.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// The seed for shuffling and for random layers such as dropout.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Evaluates the model on this dataset after each epoch.
    pub fn validate(mut self, data: &'m Dataset) -> Self {
        self.validation = Some(data);
        self
    }

    /// Prints nothing. By default, the trainer prints one line per epoch to standard output, and
    /// shows a progress bar on standard error if that is a terminal.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Checks that all gradients are finite, not only the loss. If one of them is NaN or infinite,
    /// the step is not applied, and the training ends with an error that names the operation which
    /// caused it (see [`Graph::detect_anomaly`]). All gradients then have to be stored, so this
    /// costs memory and time.
    pub fn detect_anomaly(mut self) -> Self {
        self.detect_anomaly = true;
        self
    }

    /// Reports gradient statistics after each epoch: norms, zeros, dead units, and the ratio of
    /// update to weight (see [`Graph::inspect_gradients`]). Steps get slower.
    pub fn inspect_gradients(mut self) -> Self {
        self.inspect_gradients = true;
        self
    }

    /// Adds a callback: [`EarlyStopping`](crate::EarlyStopping), a [`Logger`](crate::Logger), or
    /// one of your own. Callbacks are called in the order in which they were added.
    pub fn callback(mut self, callback: impl Callback + 'm) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Saves a checkpoint of the complete training state to this file every `steps` steps, after
    /// each epoch, and when the training is paused. If the file exists when [`fit`](Trainer::fit)
    /// starts, the training resumes from it, and ends with the same bits as a training without the
    /// interruption. The file is replaced atomically.
    pub fn checkpoint(mut self, path: impl AsRef<Path>, steps: usize) -> Self {
        self.checkpoint = Some((path.as_ref().into(), steps.max(1)));
        self
    }

    /// Trains on the first batch only, one step per epoch. A useful first test: if model and loss
    /// are correct, the loss of this batch goes to about 0.
    pub fn overfit_batch(mut self) -> Self {
        self.overfit_batch = true;
        self
    }

    /// Limits each epoch to this many steps. Each epoch still shuffles all the data. Use it to test
    /// the whole pipeline quickly, with validation and checkpoints.
    pub fn max_steps_per_epoch(mut self, steps: usize) -> Self {
        self.max_steps_per_epoch = steps.max(1);
        self
    }

    /// Summarises the model and one training step, without running it.
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let data = nn::Dataset::new(Tensor::full([100, 64], 0.5f32)?, vec![3i64; 100].into())?;
    /// let model = nn::mlp(&[64, 32, 10], nn::Activation::Relu, 1);
    /// let trainer = nn::Trainer::new(&model, nn::Adam::new(1e-3)).batch_size(50);
    /// let summary = trainer.dry_run(&data)?;
    /// assert_eq!((summary.steps_per_epoch, summary.parameters.len()), (2, 4));
    /// println!("{summary}");
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn dry_run(&self, data: &Dataset) -> Result<DryRun> {
        self.check(data)?;
        let (g, steps_per_epoch) = (Graph::training(self.seed), self.steps_per_epoch(data));
        let (inputs, targets) = self.first_batch(data)?;
        let (outputs, loss) = catch(|| {
            let outputs = self.model.forward(g.constant(inputs));
            (outputs, (self.loss)(outputs, g.constant(targets)))
        })?;
        let layers = g.picture().of(&[outputs]).to_text();
        let context = schedule::Context {
            step: 0,
            steps_per_epoch,
            epochs: self.epochs,
            history: &[],
        };
        catch(|| {
            self.optimizer
                .update(gradients(loss), (self.schedule)(&context))
        })?;
        let plan = g.plan((loss, g.check_finite(&[loss])))?;
        Ok(DryRun {
            layers,
            parameters: self.model.parameters(),
            plan,
            steps_per_epoch,
        })
    }

    /// The first batch, without shuffling.
    fn first_batch(&self, data: &Dataset) -> Result<(Tensor, Tensor)> {
        data.rows(&Vec::from_iter(0..self.batch_size.min(data.len())))
    }

    fn steps_per_epoch(&self, data: &Dataset) -> usize {
        data.len()
            .div_ceil(self.batch_size)
            .min(self.max_steps_per_epoch)
    }

    /// Trains the model. Updates its parameters in place and returns the metrics of each epoch.
    pub fn fit(&mut self, data: &Dataset) -> Result<History> {
        self.check(data)?;
        let to_dataset = |(inputs, targets)| Dataset::new(inputs, targets);
        let single_batch = self
            .overfit_batch
            .then(|| self.first_batch(data).and_then(to_dataset))
            .transpose()?;
        let data = single_batch.as_ref().unwrap_or(data);
        let params = self.model.parameters();
        let optimizer_state = self.optimizer.state(&params)?;
        let settings = [self.seed as i64, self.batch_size as i64, data.len() as i64];
        let session = Session {
            state: TrainingState {
                model: &params,
                optimizer: &optimizer_state,
                settings,
            },
            steps_per_epoch: self.steps_per_epoch(data),
            progress: Progress::new(self.quiet),
        };
        let mut cursor = match &self.checkpoint {
            Some((path, _)) if path.exists() => session.state.load(path, &mut self.callbacks)?,
            _ => Cursor::default(),
        };
        let mut result = Ok(ControlFlow::Continue);
        while !cursor.finished
            && cursor.history.len() < self.epochs
            && matches!(result, Ok(ControlFlow::Continue))
        {
            result = self.run_epoch(data, &session, &mut cursor);
        }
        let context = session.callback_context(&cursor);
        let end_result = self
            .callbacks
            .iter_mut()
            .map(|c| catch(|| c.on_train_end(&context)).flatten())
            .fold(Ok(()), Result::and);
        result.and(end_result)?;
        Ok(cursor.history)
    }

    /// Runs an epoch, or the rest of it after a resume.
    fn run_epoch(
        &mut self,
        data: &Dataset,
        session: &Session<'_>,
        cursor: &mut Cursor,
    ) -> Result<ControlFlow> {
        let (start, number) = (Instant::now(), cursor.history.len() + 1);
        let mut gradients: Option<GradientReport> = None;
        let epoch_seed = seed::derive(self.seed, number as u64);
        let batches = data.shuffled_batches(self.batch_size, epoch_seed);
        let steps_per_epoch = session.steps_per_epoch;
        session
            .progress
            .start_epoch(number, self.epochs, steps_per_epoch, cursor.step);
        // The seed of a batch depends on its number and not on timing, so the data thread does not
        // make results depend on the number of threads.
        let (first_step, augmentation) = (cursor.step, self.augmentation.clone());
        let prepare = move |(k, batch): (usize, Result<(Tensor, Tensor)>)| {
            let (inputs, targets) = batch?;
            let seed = seed::derive(epoch_seed, (first_step + k) as u64);
            let inputs = match &augmentation {
                Some(transform) => catch(|| transform(inputs, seed::derive(seed, 1)))??,
                None => inputs,
            };
            Ok((inputs, targets, seed))
        };
        let control = std::thread::scope(|threads| {
            let (sender, receiver) = sync_channel(1);
            let prefetch = move || {
                let mut batches = batches
                    .starting_at(first_step)
                    .take(steps_per_epoch.saturating_sub(first_step))
                    .enumerate()
                    .map(prepare)
                    .peekable();
                while batches.peek().is_some() {
                    let chunk: Vec<_> = batches.by_ref().take(PREFETCH_BATCHES).collect();
                    if sender.send(chunk).is_err() {
                        return; // the training has ended and dropped the receiver
                    }
                }
            };
            let spawned = std::thread::Builder::new().spawn_scoped(threads, prefetch);
            spawned.map_err(|e| Error::invalid(format!("cannot start the data thread: {e}")))?;
            self.run_steps(receiver, session, cursor, &mut gradients)
        })?;
        if control != ControlFlow::Continue {
            return Ok(control);
        }
        let time = start.elapsed();
        let validation = self
            .validation
            .map(|data| evaluate(self.model, data, &self.loss))
            .transpose()?;
        let train = std::mem::take(&mut cursor.meter).metrics();
        cursor.history.push(Epoch {
            number,
            train,
            validation,
            time,
            gradients,
        });
        cursor.step = 0;
        let context = session.callback_context(cursor);
        let control = self.run_callbacks(|c| c.on_epoch_end(&context))?;
        let messages: String = self
            .callbacks
            .iter()
            .filter_map(|c| c.message())
            .map(|message| format!(" | {message}"))
            .collect();
        if let Some(epoch) = cursor.history.last() {
            session.progress.end_epoch(epoch, &messages);
        }
        cursor.finished = control == ControlFlow::Stop;
        self.save_checkpoint(&session.state, cursor)?;
        Ok(control)
    }

    /// Runs the steps of an epoch.
    fn run_steps(
        &mut self,
        batches: Receiver<Vec<Result<Batch>>>,
        session: &Session<'_>,
        cursor: &mut Cursor,
        gradients: &mut Option<GradientReport>,
    ) -> Result<ControlFlow> {
        let (epoch, steps_per_epoch) = (cursor.history.len() + 1, session.steps_per_epoch);
        for batch in batches.into_iter().flatten() {
            let (inputs, targets, seed) = batch?;
            let (g, step, samples) = (Graph::training(seed), cursor.step, inputs.shape()[0]);
            let context = schedule::Context {
                step: (epoch - 1) * steps_per_epoch + step,
                steps_per_epoch,
                epochs: self.epochs,
                history: &cursor.history,
            };
            let failed = |error| Error::Step {
                epoch,
                step: step + 1,
                error,
            };
            let (loss, correct, report) = self
                .run_step(&g, (inputs, targets), &context, session.state.model)?
                .map_err(failed)?;
            cursor.meter.add(samples, &loss, correct.as_ref())?;
            cursor.step += 1;
            match (&mut *gradients, report) {
                (Some(total), Some(report)) => total.merge(&report),
                (total, report) => *total = report,
            }
            session.progress.step(|| cursor.meter.metrics().to_string());
            let context = session.callback_context(cursor);
            let control = self.run_callbacks(|c| c.on_step_end(&context))?;
            let checkpoint_due = self
                .checkpoint
                .as_ref()
                .is_some_and(|(_, every)| cursor.step.is_multiple_of(*every));
            if control != ControlFlow::Continue || (checkpoint_due && cursor.step < steps_per_epoch)
            {
                cursor.finished = control == ControlFlow::Stop;
                self.save_checkpoint(&session.state, cursor)?;
            }
            if control != ControlFlow::Continue {
                return Ok(control);
            }
        }
        Ok(ControlFlow::Continue)
    }

    /// Calls all callbacks. The first one that does not return `Continue` decides.
    fn run_callbacks(
        &mut self,
        mut call: impl FnMut(&mut dyn Callback) -> Result<ControlFlow>,
    ) -> Result<ControlFlow> {
        let mut control = ControlFlow::Continue;
        for callback in &mut self.callbacks {
            let returned = catch(|| call(&mut **callback))??;
            if control == ControlFlow::Continue {
                control = returned;
            }
        }
        Ok(control)
    }

    fn save_checkpoint(&self, state: &TrainingState<'_>, cursor: &Cursor) -> Result<()> {
        match &self.checkpoint {
            Some((path, _)) => state.save(path, cursor, &self.callbacks),
            None => Ok(()),
        }
    }

    /// Runs one step: forward pass, backward pass and update in a single run. The outer error comes
    /// from user code that panicked, the inner one from the graph.
    fn run_step(
        &self,
        g: &Graph,
        (inputs, targets): (Tensor, Tensor),
        context: &schedule::Context<'_>,
        params: &[(String, Param)],
    ) -> Result<autograd::Result<StepResult>> {
        let (loss, correct, report, gradients) = catch(|| {
            let (outputs, targets) = (self.model.forward(g.constant(inputs)), g.constant(targets));
            let loss = (self.loss)(outputs, targets);
            let gradients = gradients(loss);
            let gradient_vars: Vec<Var<'_>> = gradients.iter().map(|d| d.gradient).collect();
            self.optimizer.update(gradients, (self.schedule)(context));
            let report = self
                .inspect_gradients
                .then(|| g.inspect_gradients(loss).named(params));
            (loss, count_correct(outputs, targets), report, gradient_vars)
        })?;
        let checked = if self.detect_anomaly {
            [&[loss], &gradients[..]].concat()
        } else {
            vec![loss]
        };
        let check = g.check_finite(&checked);
        let result = g
            .run((loss, correct, report, check))
            .map(|(loss, correct, report, _)| (loss, correct, report));
        Ok(result.map_err(|e| match e.op() {
            // the failed run changed no parameter, so the step can run again to find the cause
            "check_finite" => g.find_anomaly(&(loss, gradients)).err().unwrap_or(e),
            _ => e,
        }))
    }

    /// Checks the settings.
    fn check(&self, data: &Dataset) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::invalid("the batch size must be at least 1"));
        }
        if data.is_empty() {
            return Err(Error::invalid("the training dataset is empty"));
        }
        self.optimizer.check()
    }
}

/// What stays the same during a call of [`Trainer::fit`].
struct Session<'s> {
    state: TrainingState<'s>,
    steps_per_epoch: usize,
    progress: Progress,
}

impl Session<'_> {
    fn callback_context<'t>(&'t self, cursor: &'t Cursor) -> CallbackContext<'t> {
        CallbackContext {
            step: cursor.history.len() * self.steps_per_epoch + cursor.step,
            loss: cursor.meter.metrics().loss,
            history: &cursor.history,
            params: self.state.model,
        }
    }
}
