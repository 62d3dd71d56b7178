//! The training loop.

use super::{
    callback::{Callback, CallbackContext, ControlFlow},
    history::{End, Epoch, History},
    prefetch::{Prefetch, StepData},
    progress::Progress,
    state::{Cursor, TrainingState},
    step::{StepResult, compute},
    trainer::{Evaluation, Trainer},
    validation::Validation,
};
use crate::{
    data::{Source, Subset, order},
    error::{Error, Result, catch},
    files,
    module::Module,
    optim::Optimizer,
    schedule, seed,
    team::Agreement,
    weights::Weights,
};
use autograd::{Graph, Var, called_from};
use std::{panic::Location, sync::mpsc::Receiver, time::Instant};

impl<'m, M: Module + ?Sized, O: Optimizer> Trainer<'m, M, O> {
    /// Trains the model on a [`Dataset`](crate::Dataset) or another [`Source`]. Updates its parameters
    /// in place and returns the metrics of each epoch, and how the training ended. After an error,
    /// [`history`](Trainer::history) has the epochs so far.
    #[track_caller]
    pub fn fit<S: Source + ?Sized>(&mut self, data: &S) -> Result<History> {
        let call = Location::caller();
        let _call = called_from(call);
        let (mut callbacks, mut epochs) = (std::mem::take(&mut self.callbacks), Vec::new());
        let agreement = Agreement::new(self.team);
        let end = agreement.end(self.train(&data, &mut callbacks, &mut epochs, &agreement, call));
        (self.callbacks, self.history) = (callbacks, epochs);
        Ok(History::new(self.history.clone(), end?))
    }

    /// The same; the epochs are there also after an error.
    fn train(
        &self,
        data: &dyn Source,
        callbacks: &mut [Box<dyn Callback + 'm>],
        epochs: &mut Vec<Epoch>,
        agreement: &Agreement<'_>,
        call: &'static Location<'static>,
    ) -> Result<End> {
        self.check(data)?;
        let first = order::in_order(self.batch_size.min(data.len()), 0);
        let first = self.overfit_batch.then(|| Subset::new(data, first));
        let first = first.transpose()?;
        let data = first.as_ref().map_or(data, |first| first as &dyn Source);
        let params = self.model.parameters();
        let optimizer_state = self.optimizer.state(&params)?;
        let session = Session {
            trainer: self,
            data,
            state: TrainingState {
                model: &params,
                optimizer: &optimizer_state,
                settings: self.settings(data)?,
                metrics: self.metric_names(),
            },
            steps_per_epoch: self.steps_per_epoch(data),
            batch_bytes: self.first_batch(data)?.bytes(),
            progress: Progress::new(self.quiet || !agreement.is_first()),
            call,
            agreement,
        };
        let cursor = session.begin(callbacks)?;
        let mut run = Run {
            session,
            callbacks,
            cursor,
        };
        let result = run.epochs();
        *epochs = run.cursor.history;
        match result? {
            ControlFlow::Pause => Ok(End::Paused),
            ControlFlow::Stop => Ok(End::Stopped),
            ControlFlow::Continue if epochs.len() < self.epochs => Ok(End::Stopped),
            ControlFlow::Continue => Ok(End::Finished),
        }
    }
}

/// What stays the same during a training.
pub(super) struct Session<'s, 'm, M: ?Sized, O> {
    pub(super) trainer: &'s Trainer<'m, M, O>,
    pub(super) data: &'s dyn Source,
    pub(super) state: TrainingState<'s>,
    pub(super) steps_per_epoch: usize,
    /// About how many bytes a batch has.
    batch_bytes: usize,
    progress: Progress,
    /// The line that called `fit`.
    call: &'static Location<'static>,
    /// With the other ranks.
    pub(super) agreement: &'s Agreement<'s>,
}

impl<M: Module + ?Sized, O: Optimizer> Session<'_, '_, M, O> {
    /// What the schedule knows at a step of the training.
    pub(super) fn moment<'c>(&self, cursor: &'c Cursor, step: usize) -> schedule::Context<'c> {
        schedule::Context {
            step,
            steps_per_epoch: self.steps_per_epoch,
            epochs: self.trainer.epochs,
            history: &cursor.history,
            start: 0,
        }
    }

    /// What callbacks know.
    pub(super) fn context<'t>(&'t self, cursor: &'t Cursor) -> CallbackContext<'t> {
        let last = cursor
            .history
            .last()
            .map_or(f64::NAN, |epoch| epoch.train.loss);
        CallbackContext {
            step: self.steps_done(cursor),
            loss: match cursor.step {
                0 => last,
                _ => cursor.meter.metrics().loss,
            },
            learning_rate: cursor.learning_rate,
            gradients: cursor.gradients_of_step.as_ref(),
            history: &cursor.history,
            metrics: &self.state.metrics,
            params: self.state.model,
            averages: None,
            rank: self.agreement.team().rank(),
        }
    }

    /// The completed steps of all epochs.
    pub(super) fn steps_done(&self, cursor: &Cursor) -> usize {
        cursor.history.len() * self.steps_per_epoch + cursor.step
    }

    /// The factor of the learning rate at a step.
    fn factor(&self, cursor: &Cursor, step: usize) -> Result<f64> {
        self.trainer.factor(&self.moment(cursor, step))
    }

    /// The learning rate with this factor, if the optimizer has one.
    fn learning_rate(&self, factor: f64) -> Option<f64> {
        self.trainer.optimizer.learning_rate().map(|lr| lr * factor)
    }

    /// What all ranks do next, if this one wants that: the first one that does not want to continue
    /// decides, since perhaps only one knows of a signal. Also checks that all give the same evidence.
    fn agree(&self, wish: ControlFlow, at: &str, evidence: &[u8]) -> Result<ControlFlow> {
        const WISHES: [ControlFlow; 3] =
            [ControlFlow::Continue, ControlFlow::Stop, ControlFlow::Pause];
        if self.agreement.team().size() == 1 {
            return Ok(wish);
        }
        let number = WISHES.iter().position(|w| *w == wish).unwrap_or(0) as u8;
        let all = self.agreement.gather(at, &[&[number], evidence].concat())?;
        if let Some(rank) = all.iter().position(|other| other[1..] != all[0][1..]) {
            return Err(Error::invalid(format!(
                "at {at} the weights of rank {rank} are not those of rank 0: do they run on \
                 processors with different arithmetic?"
            )));
        }
        let wishes = all.iter().filter_map(|w| WISHES.get(usize::from(w[0])));
        Ok(wishes.fold(ControlFlow::Continue, |all, wish| all.or(*wish)))
    }
}

/// A training that is under way.
struct Run<'r, 's, 'm, M: ?Sized, O> {
    session: Session<'s, 'm, M, O>,
    callbacks: &'r mut [Box<dyn Callback + 'm>],
    cursor: Cursor,
}

impl<'s, 'm, M: Module + ?Sized, O: Optimizer> Run<'_, 's, 'm, M, O> {
    /// Runs all epochs, or what is left of them after a resume.
    fn epochs(&mut self) -> Result<ControlFlow> {
        let context = self.session.context(&self.cursor);
        each(self.callbacks, |c| c.on_train_begin(&context))?;
        let mut result = Ok(ControlFlow::Continue);
        while !self.cursor.finished
            && self.cursor.history.len() < self.session.trainer.epochs
            && matches!(result, Ok(ControlFlow::Continue))
        {
            result = self.epoch();
        }
        let context = self.session.context(&self.cursor);
        let ended = each(self.callbacks, |c| c.on_train_end(&context));
        result.and_then(|control| ended.map(|()| control))
    }

    /// Runs an epoch, or the rest of it after a resume.
    fn epoch(&mut self) -> Result<ControlFlow> {
        self.cursor.started = Some(Instant::now());
        let prefetch = self.prefetch()?;
        let control = std::thread::scope(|threads| self.steps(prefetch.start(threads)?))?;
        if control != ControlFlow::Continue {
            return Ok(control);
        }
        self.flush()?;
        let number = self.cursor.history.len() + 1;
        let validation = self.session.trainer.validation;
        let epochs = self.session.trainer.epochs;
        let is_due = validation.is_some_and(|v| v.is_due_after_epoch(number, epochs));
        let time = self.cursor.time();
        (self.cursor.started, self.cursor.seconds) = (None, 0.0);
        let (epoch, averages) = self.record(is_due)?;
        self.cursor.history.push(Epoch { time, ..epoch });
        (self.cursor.meter, self.cursor.gradients) = Default::default();
        self.cursor.step = 0;
        let context = self.session.context(&self.cursor);
        let epoch = &self.cursor.history[number - 1];
        // without validation data, the epoch itself is what can be watched
        let observed = match is_due || validation.is_none() {
            true => evaluated(self.callbacks, &context, epoch, averages.as_ref())?,
            false => ControlFlow::Continue,
        };
        let control = run(self.callbacks, |c| c.on_epoch_end(&context))?.or(observed);
        let at = format!("the end of epoch {number}");
        let control = self
            .session
            .agree(control, &at, &self.session.hash_of_weights()?)?;
        self.session
            .progress
            .end_epoch(epoch, &messages(self.callbacks));
        self.cursor.finished = control == ControlFlow::Stop;
        self.save_checkpoint()?;
        Ok(control)
    }

    /// The batches of the epoch from the current step on.
    fn prefetch(&self) -> Result<Prefetch<'s, 'm>> {
        let (session, trainer, cursor) = (&self.session, self.session.trainer, &self.cursor);
        let number = cursor.history.len() + 1;
        let (steps, epochs) = (session.steps_per_epoch, trainer.epochs);
        session
            .progress
            .start_epoch(number, epochs, steps, cursor.step);
        let (epoch_seed, count) = (
            seed::derive(trainer.seed, number as u64),
            session.data.len(),
        );
        let order = match &trainer.order {
            Some(order) => catch("the order", || order(count, epoch_seed))?,
            None => order::shuffled(count, epoch_seed),
        };
        if order.len() != count {
            let message = format!("the order has {} entries for {count} samples", order.len());
            return Err(Error::invalid(message));
        }
        Ok(Prefetch {
            source: session.data,
            order,
            batch_size: trainer.batch_size,
            part_size: trainer.part_size(),
            rank: (
                session.agreement.team().rank(),
                session.agreement.team().size(),
            ),
            steps: cursor.step..steps,
            seed: epoch_seed,
            augmentation: trainer.augmentation.clone(),
            batch_bytes: session.batch_bytes,
            call: session.call,
        })
    }

    /// Runs the steps of an epoch.
    fn steps(&mut self, groups: Receiver<Vec<Result<StepData>>>) -> Result<ControlFlow> {
        for data in groups.into_iter().flatten() {
            let data = data?;
            let control = self.step(&data)?;
            let is_last = self.cursor.step == self.session.steps_per_epoch;
            let is_due = self.session.trainer.checkpoint.as_ref();
            let is_due = is_due.is_some_and(|c| self.cursor.step.is_multiple_of(c.every));
            if control != ControlFlow::Continue || (is_due && !is_last) {
                self.cursor.finished = control == ControlFlow::Stop;
                self.save_checkpoint()?;
            }
            if control != ControlFlow::Continue {
                return Ok(control);
            }
        }
        Ok(ControlFlow::Continue)
    }

    /// A step, with what callbacks and a validation do around it.
    fn step(&mut self, data: &StepData) -> Result<ControlFlow> {
        let session = &self.session;
        let step = session.steps_done(&self.cursor);
        let factor = session.factor(&self.cursor, step)?;
        self.cursor.learning_rate = session.learning_rate(factor);
        let context = session.context(&self.cursor);
        each(self.callbacks, |c| c.on_step_begin(&context))?;
        let computed = compute(session, self.callbacks, &self.cursor, data, factor);
        let StepResult { meter, report } = computed?;
        let cursor = &mut self.cursor;
        cursor.meter.merge(&meter);
        cursor.step += 1;
        match (&mut cursor.gradients, &report) {
            (Some(total), Some(report)) => total.merge(report),
            (total, report) => *total = report.clone(),
        }
        cursor.gradients_of_step = report;
        session.progress.step(|| cursor.meter.metrics().to_string());
        let context = session.context(&self.cursor);
        let control = run(self.callbacks, |c| c.on_step_end(&context))?;
        let control = control.or(self.validate_within_epoch()?);
        self.session
            .agree(control, &format!("the end of step {}", step + 1), &[])
    }

    /// The validation that is due within an epoch, if one is.
    fn validate_within_epoch(&mut self) -> Result<ControlFlow> {
        let (session, cursor) = (&self.session, &self.cursor);
        let step = session.steps_done(cursor);
        let validation = session.trainer.validation;
        let is_due = validation.is_some_and(|v| v.is_due_after_step(step));
        if !is_due || cursor.step == session.steps_per_epoch {
            return Ok(ControlFlow::Continue);
        }
        let (epoch, averages) = self.record(true)?;
        session.progress.within_epoch(&epoch, cursor.step);
        let context = session.context(cursor);
        evaluated(self.callbacks, &context, &epoch, averages.as_ref())
    }

    /// The results of the epoch so far, with those of a validation if that is wanted, and the averages
    /// if they were validated.
    fn record(&self, validated: bool) -> Result<(Epoch, Option<Weights>)> {
        let (session, cursor) = (&self.session, &self.cursor);
        let (trainer, params) = (session.trainer, session.state.model);
        let validation = trainer.validation.filter(|_| validated);
        let averages = validation.filter(|v| v.averaged);
        let averages = averages.and_then(|_| trainer.optimizer.averages(params));
        let evaluate = |v: Validation<'_>| {
            trainer.evaluate_source(session.agreement, v.source, averages.as_ref())
        };
        let evaluation: Option<Evaluation> = validation.map(evaluate).transpose()?;
        let last_step = session.steps_done(cursor).saturating_sub(1);
        let epoch = Epoch {
            number: cursor.history.len() + 1,
            train: cursor.meter.metrics(),
            validation: evaluation.as_ref().map(|e| e.metrics),
            is_evaluated: validated || session.trainer.validation.is_none(),
            metrics: evaluation.map(|e| e.values).unwrap_or_default(),
            learning_rate: session.learning_rate(session.factor(cursor, last_step)?),
            time: cursor.time(),
            gradients: cursor.gradients.clone(),
        };
        Ok((epoch, averages))
    }

    /// Applies gradients that the optimizer has accumulated, at the end of an epoch.
    fn flush(&self) -> Result<()> {
        let (session, trainer) = (&self.session, self.session.trainer);
        let step = session.steps_done(&self.cursor).saturating_sub(1);
        let factor = session.factor(&self.cursor, step)?;
        let (g, params) = (Graph::training(trainer.seed), session.state.model);
        if !catch("the optimizer", || {
            trainer.optimizer.flush(&g, params, factor)
        })? {
            return Ok(());
        }
        let new_weights = params.iter().filter_map(|(_, param)| g.scheduled(param));
        let check = g.check_finite(&new_weights.collect::<Vec<Var<'_>>>());
        let run = g.run(check).map(drop);
        run.map_err(|error| Error::Step {
            epoch: self.cursor.history.len() + 1,
            step: session.steps_per_epoch,
            error,
        })
    }

    fn save_checkpoint(&self) -> Result<()> {
        match &self.session.trainer.checkpoint {
            Some(checkpoint) if self.session.agreement.is_first() => {
                files::keep_last(&checkpoint.path, checkpoint.kept)?;
                let state = &self.session.state;
                state.save(&checkpoint.path, &self.cursor, self.callbacks)
            }
            _ => Ok(()),
        }
    }
}

/// Calls all callbacks, also if one of them fails; the first error.
pub(super) fn each(
    callbacks: &mut [Box<dyn Callback + '_>],
    mut call: impl FnMut(&mut dyn Callback) -> Result<()>,
) -> Result<()> {
    let mut result = Ok(());
    for callback in callbacks {
        let what = format!("the callback {}", callback.name());
        let called = catch(&what, || call(&mut **callback)).flatten();
        result = result.and(called);
    }
    result
}

/// Calls all callbacks. The first one that does not return `Continue` decides.
fn run(
    callbacks: &mut [Box<dyn Callback + '_>],
    mut call: impl FnMut(&mut dyn Callback) -> Result<ControlFlow>,
) -> Result<ControlFlow> {
    let mut control = ControlFlow::Continue;
    for callback in callbacks {
        let what = format!("the callback {}", callback.name());
        let returned = catch(&what, || call(&mut **callback))??;
        control = control.or(returned);
    }
    Ok(control)
}

/// Calls all callbacks with the results of an evaluation, of the averages if these were evaluated.
fn evaluated(
    callbacks: &mut [Box<dyn Callback + '_>],
    context: &CallbackContext<'_>,
    epoch: &Epoch,
    averages: Option<&Weights>,
) -> Result<ControlFlow> {
    let context = CallbackContext {
        averages,
        ..*context
    };
    run(callbacks, |c| c.on_evaluation(&context, epoch))
}

/// What callbacks say after the line of an epoch.
fn messages(callbacks: &[Box<dyn Callback + '_>]) -> String {
    let messages = callbacks.iter().filter_map(|c| c.message());
    messages.map(|message| format!(" | {message}")).collect()
}
