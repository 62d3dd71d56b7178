//! The training loop.

use super::{
    callback::{Callback, CallbackContext, ControlFlow},
    dry_run::DryRun,
    evaluate::{Metrics, count_correct, evaluate_scores},
    history::{End, Epoch, History},
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
use autograd::{GradientReport, Graph, Param, Tensor, Var, called_from};
use std::{
    panic::Location,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::Instant,
};

/// The most batches that the data thread prepares at a time. Each time it runs, it takes a core from
/// the training, so it should not run for every batch.
const PREFETCH_BATCHES: usize = 8;
/// The most bytes of these batches, unless one batch has more. Up to three times as much is ahead.
const PREFETCH_BYTES: usize = 16 << 20;

type Schedule<'m> = Box<dyn Fn(&schedule::Context<'_>) -> f64 + 'm>;
type Augmentation<'m> = dyn Fn(Tensor, u64) -> Result<Tensor> + Send + Sync + 'm;
type Loss<'m> = Box<dyn for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm>;

/// A metric of one's own, its name, and the line where it was given.
struct Metric<'m> {
    name: String,
    f: Loss<'m>,
    line: &'static Location<'static>,
}

/// Trains a model on a dataset with mini-batches.
///
/// One seed determines everything random (data order, dropout): the same seed gives the same
/// weights, bit for bit, on any number of threads. If the loss becomes NaN or infinite, the
/// training ends with an error that names the operation which caused it; no parameter is changed by
/// that step. See the [crate documentation](crate) for examples of the trainer and of a training
/// loop without it.
pub struct Trainer<'m, M: ?Sized, O> {
    pub(super) model: &'m M,
    pub(super) optimizer: O,
    loss: Loss<'m>,
    /// The line where the loss was given.
    loss_line: &'static Location<'static>,
    pub(super) schedule: Schedule<'m>,
    pub(super) batch_size: usize,
    pub(super) epochs: usize,
    pub(super) seed: u64,
    pub(super) validation: Option<&'m Dataset>,
    metrics: Vec<Metric<'m>>,
    quiet: bool,
    detect_anomaly: bool,
    inspect_gradients: bool,
    callbacks: Vec<Box<dyn Callback + 'm>>,
    /// The file, and the number of steps between two checkpoints.
    pub(super) checkpoint: Option<(PathBuf, usize)>,
    augmentation: Option<Arc<Augmentation<'m>>>,
    overfit_batch: bool,
    max_steps_per_epoch: usize,
    drop_last: bool,
    /// The epochs of the last training.
    history: Vec<Epoch>,
}

/// The inputs, the targets and the seed of a step.
type Batch = (Tensor, Tensor, u64);

/// The loss of a step, the number of correct predictions, and gradient statistics.
type StepResult = (Tensor, Option<Tensor>, Option<GradientReport>);

impl<'m, M: Module + ?Sized, O: Optimizer> Trainer<'m, M, O> {
    /// A trainer with the default settings: cross-entropy loss, constant learning rate, batch size
    /// 64, one epoch, seed 0, no validation.
    #[track_caller]
    pub fn new(model: &'m M, optimizer: O) -> Trainer<'m, M, O> {
        let loss: Loss<'m> = Box::new(crate::loss::cross_entropy);
        let schedule: Schedule<'m> = Box::new(schedule::constant);
        Trainer {
            model,
            optimizer,
            loss,
            loss_line: Location::caller(),
            schedule,
            batch_size: 64,
            epochs: 1,
            seed: 0,
            validation: None,
            metrics: Vec::new(),
            quiet: false,
            detect_anomaly: false,
            inspect_gradients: false,
            callbacks: Vec::new(),
            checkpoint: None,
            augmentation: None,
            overfit_batch: false,
            max_steps_per_epoch: usize::MAX,
            drop_last: false,
            history: Vec::new(),
        }
    }

    /// The loss: a function of outputs and targets that returns a scalar. A closure that is bound to a
    /// name first needs [`loss::func`](crate::loss::func).
    #[track_caller]
    pub fn loss(mut self, loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm) -> Self {
        (self.loss, self.loss_line) = (Box::new(loss), Location::caller());
        self
    }

    /// The learning-rate schedule: one of [`schedule`] or a function of your own. It returns the
    /// factor by which the learning rate of each step is multiplied.
    pub fn schedule(mut self, schedule: impl Fn(&schedule::Context<'_>) -> f64 + 'm) -> Self {
        self.schedule = Box::new(schedule);
        self
    }

    /// The number of samples per step. The last batch of an epoch may be smaller; see
    /// [`drop_last`](Trainer::drop_last).
    pub fn batch_size(mut self, size: usize) -> Self {
        self.batch_size = size;
        self
    }

    /// Leaves out the last batch of an epoch if it is smaller than the others: other samples each time,
    /// since the order is random.
    pub fn drop_last(mut self) -> Self {
        self.drop_last = true;
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

    /// Computes a metric of the validation data after each epoch, for the line of the epoch, the log
    /// and the history, and for [`Monitor`](crate::Monitor): a function of outputs and targets that
    /// returns a number, or one for each sample, of which the mean counts. It gets all outputs at once,
    /// as [`evaluate`](crate::evaluate) says. Some are in [`metrics`](crate::metrics).
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let (x, y) = (Tensor::full([30, 4], 0.5f32)?, Tensor::full([30, 1], 1f32)?);
    /// # let train = nn::Dataset::new(x, y)?;
    /// use nn::{Adam, loss, metrics};
    /// let model = nn::mlp(&[4, 8, 1], nn::Activation::Tanh, 1);
    /// let history = nn::Trainer::new(&model, Adam::new(1e-2))
    ///     .loss(loss::bce_with_logits)
    ///     .validate(&train)
    ///     .metric("accuracy", metrics::binary_accuracy)
    ///     .metric("f1", metrics::f1)
    ///     .epochs(50)
    ///     .quiet()
    ///     .fit(&train)?;
    /// assert_eq!(history[49].metric("accuracy"), Some(1.0));
    /// # Ok::<(), nn::Error>(())
    /// ```
    #[track_caller]
    pub fn metric(
        mut self,
        name: &str,
        metric: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm,
    ) -> Self {
        self.metrics.push(Metric {
            name: name.into(),
            f: Box::new(metric),
            line: Location::caller(),
        });
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
    #[track_caller]
    pub fn dry_run(&self, data: &Dataset) -> Result<DryRun> {
        let _call = called_from(Location::caller());
        self.check(data)?;
        let (g, steps_per_epoch) = (Graph::training(self.seed), self.steps_per_epoch(data));
        let (inputs, targets) = self.first_batch(data)?;
        let (outputs, loss) = self.outputs_and_loss(&g, inputs, targets)?;
        let layers = g.picture().of(&[outputs]).to_text();
        let context = schedule::Context {
            step: 0,
            steps_per_epoch,
            epochs: self.epochs,
            history: &[],
            start: 0,
        };
        let factor = self.factor(&context)?;
        catch("the optimizer", || {
            self.optimizer.update(gradients(loss), factor)
        })?;
        let plan = g.plan((loss, g.check_finite(&[loss])))?;
        Ok(DryRun {
            layers,
            parameters: self.model.parameters(),
            plan,
            steps_per_epoch,
        })
    }

    /// Appends the forward pass of a batch to a graph.
    pub(super) fn outputs_and_loss<'g>(
        &self,
        g: &'g Graph,
        inputs: Tensor,
        targets: Tensor,
    ) -> Result<(Var<'g>, Var<'g>)> {
        let outputs = catch("the model", || self.model.forward(g.constant(inputs)))?;
        Ok((outputs, self.loss_of(outputs, g.constant(targets))?))
    }

    /// The loss, in a scope with the line where it was given.
    fn loss_of<'g>(&self, outputs: Var<'g>, targets: Var<'g>) -> Result<Var<'g>> {
        let _scope = outputs.graph().scope_made_at("loss", self.loss_line);
        catch("the loss", || (self.loss)(outputs, targets))
    }

    /// The first batch, without shuffling.
    pub(super) fn first_batch(&self, data: &Dataset) -> Result<(Tensor, Tensor)> {
        data.rows(&Vec::from_iter(0..self.batch_size.min(data.len())))
    }

    pub(super) fn steps_per_epoch(&self, data: &Dataset) -> usize {
        let steps = match self.drop_last {
            true => data.len() / self.batch_size,
            false => data.len().div_ceil(self.batch_size),
        };
        steps.min(self.max_steps_per_epoch)
    }

    /// Trains the model. Updates its parameters in place and returns the metrics of each epoch, and
    /// how the training ended. After an error, [`history`](Trainer::history) has the epochs so far.
    #[track_caller]
    pub fn fit(&mut self, data: &Dataset) -> Result<History> {
        let call = Location::caller();
        let _call = called_from(call);
        self.history.clear();
        self.check(data)?;
        let to_dataset = |(inputs, targets)| Dataset::new(inputs, targets);
        let single_batch = self
            .overfit_batch
            .then(|| self.first_batch(data).and_then(to_dataset))
            .transpose()?;
        let data = single_batch.as_ref().unwrap_or(data);
        let params = self.model.parameters();
        let optimizer_state = self.optimizer.state(&params)?;
        let session = Session {
            state: TrainingState {
                model: &params,
                optimizer: &optimizer_state,
                settings: self.settings(data)?,
                metrics: self.metric_names(),
            },
            steps_per_epoch: self.steps_per_epoch(data),
            progress: Progress::new(self.quiet),
            call,
        };
        let mut cursor = match &self.checkpoint {
            Some((path, _)) if path.is_file() => {
                let callbacks = &mut self.callbacks;
                session
                    .state
                    .load(path, callbacks, session.steps_per_epoch)?
            }
            _ => Cursor::default(),
        };
        let context = session.callback_context(&cursor);
        self.each_callback(|c| c.on_train_begin(&context))?;
        let mut result = Ok(ControlFlow::Continue);
        while !cursor.finished
            && cursor.history.len() < self.epochs
            && matches!(result, Ok(ControlFlow::Continue))
        {
            result = self.run_epoch(data, &session, &mut cursor);
        }
        let context = session.callback_context(&cursor);
        let ended = self.each_callback(|c| c.on_train_end(&context));
        self.history = cursor.history;
        let control = result.and_then(|control| ended.map(|()| control))?;
        let end = match control {
            ControlFlow::Pause => End::Paused,
            ControlFlow::Stop => End::Stopped,
            ControlFlow::Continue if self.history.len() < self.epochs => End::Stopped,
            ControlFlow::Continue => End::Finished,
        };
        Ok(History::new(self.history.clone(), end))
    }

    /// The epochs of the last [`fit`](Trainer::fit), also if it ended with an error.
    pub fn history(&self) -> &[Epoch] {
        &self.history
    }

    /// Calls all callbacks, also if one of them fails; the first error.
    fn each_callback(
        &mut self,
        mut call: impl FnMut(&mut dyn Callback) -> Result<()>,
    ) -> Result<()> {
        let mut result = Ok(());
        for callback in &mut self.callbacks {
            let what = format!("the callback {}", callback.name());
            let called = catch(&what, || call(&mut **callback)).flatten();
            result = result.and(called);
        }
        result
    }

    /// Runs an epoch, or the rest of it after a resume.
    fn run_epoch(
        &mut self,
        data: &Dataset,
        session: &Session<'_>,
        cursor: &mut Cursor,
    ) -> Result<ControlFlow> {
        cursor.started = Some(Instant::now());
        let number = cursor.history.len() + 1;
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
                Some(transform) => catch("the augmentation", || {
                    transform(inputs, seed::derive(seed, 1))
                })??,
                None => inputs,
            };
            Ok((inputs, targets, seed))
        };
        let sample = data.sample_shape().iter().product::<usize>() * size_of::<f64>();
        let bytes = sample.saturating_mul(self.batch_size).max(1);
        let together = (PREFETCH_BYTES / bytes).clamp(1, PREFETCH_BATCHES);
        let control = std::thread::scope(|threads| {
            let (sender, receiver) = sync_channel(1);
            let call = session.call;
            let prefetch = move || {
                let _call = called_from(call);
                let mut batches = batches
                    .starting_at(first_step)
                    .take(steps_per_epoch.saturating_sub(first_step))
                    .enumerate()
                    .map(prepare)
                    .peekable();
                while batches.peek().is_some() {
                    let chunk: Vec<_> = batches.by_ref().take(together).collect();
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
        self.flush(session, cursor)?;
        let time = cursor.time();
        (cursor.started, cursor.seconds) = (None, 0.0);
        let (validation, metrics) = self.evaluate_validation()?;
        let train = std::mem::take(&mut cursor.meter).metrics();
        cursor.history.push(Epoch {
            number,
            train,
            validation,
            metrics: self.metric_names().into_iter().zip(metrics).collect(),
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

    /// Loss, accuracy and metrics of the validation data, if there are any.
    fn evaluate_validation(&self) -> Result<(Option<Metrics>, Vec<f64>)> {
        let Some(data) = self.validation else {
            return Ok((None, Vec::new()));
        };
        let (scores, accuracy) = evaluate_scores(self.model, data, |outputs, targets| {
            let mut scores = vec![self.loss_of(outputs, targets)?];
            for Metric { name, f, line } in &self.metrics {
                let _scope = outputs.graph().scope_made_at(name, line);
                let what = format!("the metric {name}");
                scores.push(catch(&what, || f(outputs, targets))?.mean());
            }
            Ok(scores)
        })?;
        let mut scores = scores.into_iter();
        let loss = scores.next().unwrap_or(f64::NAN);
        Ok((Some(Metrics { loss, accuracy }), scores.collect()))
    }

    /// The names of the metrics of one's own.
    pub(super) fn metric_names(&self) -> Vec<String> {
        self.metrics.iter().map(|m| m.name.clone()).collect()
    }

    /// Applies gradients that the optimizer has accumulated, at the end of an epoch.
    fn flush(&self, session: &Session<'_>, cursor: &Cursor) -> Result<()> {
        let (epoch, params) = (cursor.history.len() + 1, session.state.model);
        let step = (epoch * session.steps_per_epoch).saturating_sub(1);
        let factor = self.factor(&self.moment(session, cursor, step))?;
        let g = Graph::training(self.seed);
        if !catch("the optimizer", || self.optimizer.flush(&g, params, factor))? {
            return Ok(());
        }
        let new_weights = params.iter().filter_map(|(_, param)| g.scheduled(param));
        let check = g.check_finite(&new_weights.collect::<Vec<Var<'_>>>());
        let step = session.steps_per_epoch;
        let run = g.run(check).map(drop);
        run.map_err(|error| Error::Step { epoch, step, error })
    }

    /// What the schedule knows at a step.
    fn moment<'c>(
        &self,
        session: &Session<'_>,
        cursor: &'c Cursor,
        step: usize,
    ) -> schedule::Context<'c> {
        schedule::Context {
            step,
            steps_per_epoch: session.steps_per_epoch,
            epochs: self.epochs,
            history: &cursor.history,
            start: 0,
        }
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
            let context = self.moment(session, cursor, (epoch - 1) * steps_per_epoch + step);
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
            let what = format!("the callback {}", callback.name());
            let returned = catch(&what, || call(&mut **callback))??;
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
        let factor = self.factor(context)?;
        let (outputs, loss) = self.outputs_and_loss(g, inputs, targets.clone())?;
        let (report, gradients) = catch("the optimizer", || {
            let gradients = gradients(loss);
            let gradient_vars: Vec<Var<'_>> = gradients.iter().map(|d| d.gradient).collect();
            self.optimizer.update(gradients, factor);
            let report = self
                .inspect_gradients
                .then(|| g.inspect_gradients(loss).named(params));
            (report, gradient_vars)
        })?;
        if gradients.is_empty() && loss.error().is_none() {
            return Err(Error::invalid("the loss depends on no trained parameter"));
        }
        let correct = count_correct(outputs, g.constant(targets));
        let checked = if self.detect_anomaly {
            [&[loss], &gradients[..]].concat()
        } else {
            vec![loss]
        };
        // nobody would notice what the last step does to the weights
        let new_weights = params.iter().filter_map(|(_, param)| g.scheduled(param));
        let checked = match context.is_last() {
            true => checked.into_iter().chain(new_weights).collect(),
            false => checked,
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
}

/// What stays the same during a call of [`Trainer::fit`].
struct Session<'s> {
    state: TrainingState<'s>,
    steps_per_epoch: usize,
    progress: Progress,
    /// The line that called `fit`.
    call: &'static Location<'static>,
}

impl Session<'_> {
    fn callback_context<'t>(&'t self, cursor: &'t Cursor) -> CallbackContext<'t> {
        let last = cursor
            .history
            .last()
            .map_or(f64::NAN, |epoch| epoch.train.loss);
        CallbackContext {
            step: cursor.history.len() * self.steps_per_epoch + cursor.step,
            loss: match cursor.step {
                0 => last,
                _ => cursor.meter.metrics().loss,
            },
            history: &cursor.history,
            metrics: &self.state.metrics,
            params: self.state.model,
        }
    }
}
