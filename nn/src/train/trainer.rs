//! The trainer: its settings. [`run`](super::run) has the loop.

use super::{
    callback::Callback,
    dry_run::DryRun,
    evaluate::{BatchVars, Fixed, Forward, Metrics, Scores, evaluate_scores, forward_of, only},
    history::Epoch,
    prefetch::Augmentation,
    validation::Validation,
};
use crate::{
    data::{Batch, Source, checked_batch, order},
    error::{Error, Result, catch},
    loss::weighted_mean,
    module::Module,
    optim::{Optimizer, gradients},
    schedule,
    team::{Agreement, Alone, Team},
    weights::Weights,
};
use autograd::{Graph, Tensor, Var, called_from};
use std::{
    panic::Location,
    path::{Path, PathBuf},
    sync::Arc,
};

type Schedule<'m> = Box<dyn Fn(&schedule::Context<'_>) -> f64 + 'm>;
type Order<'m> = Box<dyn Fn(usize, u64) -> Vec<usize> + 'm>;
/// The outputs of a model for the inputs of a batch.
type OutputsOf<'m, M> = Box<dyn for<'g> Fn(&M, &[Var<'g>]) -> Vec<Var<'g>> + 'm>;
/// A function of the outputs and the targets of a batch.
type ScoreOf<'m> = Box<dyn for<'g> Fn(&[Var<'g>], &[Var<'g>]) -> Result<Var<'g>> + 'm>;

/// The loss, or a metric of one's own.
struct Score<'m> {
    name: String,
    f: ScoreOf<'m>,
    /// Where it was given.
    line: &'static Location<'static>,
}

impl<'m> Score<'m> {
    /// Of several outputs and targets.
    #[track_caller]
    fn of_all(name: &str, f: impl for<'g> Fn(&[Var<'g>], &[Var<'g>]) -> Var<'g> + 'm) -> Score<'m> {
        Score {
            name: name.into(),
            f: Box::new(move |outputs, targets| Ok(f(outputs, targets))),
            line: Location::caller(),
        }
    }

    /// Of one output and one target.
    #[track_caller]
    fn of_one(name: &str, f: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm) -> Score<'m> {
        const SEVERAL: &str = "`Trainer::loss_of` and `metric_of` take several";
        let f: ScoreOf<'m> = Box::new(move |outputs, targets| {
            let output = only(outputs, &format!("outputs: {SEVERAL}"))?;
            Ok(f(output, only(targets, &format!("targets: {SEVERAL}"))?))
        });
        Score {
            f,
            ..Score::of_all(name, |outputs, _| outputs[0])
        }
    }

    /// Of a batch, in a scope with the line where it was given.
    fn of<'g>(&self, what: &str, outputs: &[Var<'g>], targets: &[Var<'g>]) -> Result<Var<'g>> {
        let g = outputs[0].graph(); // there is one at least
        let _scope = g.scope_made_at(&self.name, self.line);
        catch(what, || (self.f)(outputs, targets))?
    }
}

/// The checkpoints of a training.
pub(super) struct Checkpoints {
    pub(super) path: PathBuf,
    /// The number of steps between two of them.
    pub(super) every: usize,
    /// How many are kept.
    pub(super) kept: usize,
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
    /// None for a model of one input and one output.
    forward: Option<OutputsOf<'m, M>>,
    loss: Score<'m>,
    pub(super) schedule: Schedule<'m>,
    pub(super) order: Option<Order<'m>>,
    pub(super) batch_size: usize,
    micro_batch: usize,
    pub(super) team: &'m dyn Team,
    pub(super) epochs: usize,
    pub(super) seed: u64,
    pub(super) validation: Option<Validation<'m>>,
    metrics: Vec<Score<'m>>,
    pub(super) quiet: bool,
    pub(super) detect_anomaly: bool,
    pub(super) inspect_gradients: bool,
    pub(super) callbacks: Vec<Box<dyn Callback + 'm>>,
    pub(super) checkpoint: Option<Checkpoints>,
    pub(super) augmentation: Option<Arc<Augmentation<'m>>>,
    pub(super) overfit_batch: bool,
    max_steps_per_epoch: usize,
    drop_last: bool,
    /// The epochs of the last training.
    pub(super) history: Vec<Epoch>,
}

/// The forward pass of a batch in a graph.
pub(super) struct Scored<'g> {
    pub(super) outputs: Vec<Var<'g>>,
    pub(super) targets: Vec<Var<'g>>,
    pub(super) loss: Var<'g>,
}

impl<'m, M: Module + ?Sized, O: Optimizer> Trainer<'m, M, O> {
    /// A trainer with the default settings: cross-entropy loss, constant learning rate, batch size
    /// 64, one epoch, seed 0, no validation.
    #[track_caller]
    pub fn new(model: &'m M, optimizer: O) -> Trainer<'m, M, O> {
        let loss = Score::of_one("loss", crate::loss::cross_entropy);
        let schedule: Schedule<'m> = Box::new(schedule::constant);
        Trainer {
            model,
            optimizer,
            forward: None,
            loss,
            schedule,
            order: None,
            batch_size: 64,
            micro_batch: usize::MAX,
            team: &Alone,
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

    /// The loss: a function of outputs and targets that returns a scalar, or a number for each sample
    /// `[batch, ..]`, of which the mean counts. Samples with [weights](crate::Dataset::with_weights)
    /// need the second. A closure that is bound to a name first needs
    /// [`loss::func`](crate::loss::func).
    #[track_caller]
    pub fn loss(mut self, loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g> + 'm) -> Self {
        self.loss = Score::of_one("loss", loss);
        self
    }

    /// How the outputs are computed, of a model that takes several inputs or gives several outputs. By
    /// default, [`Module::forward`] is called with the only input.
    ///
    /// ```
    /// # use autograd::{Tensor, Var};
    /// # let rows = |value: f32| Tensor::full([32, 3], value);
    /// # let (users, items, bought) = (rows(0.5)?, rows(0.1)?, Tensor::full([32], 1f32)?);
    /// use nn::{Adam, Dataset, Linear, Module, Params, Trainer, loss};
    /// /// Two towers: a user and an item.
    /// struct Towers(Linear, Linear);
    /// impl Module for Towers {
    ///     fn forward<'g>(&self, user: Var<'g>) -> Var<'g> {
    ///         self.0.forward(user)
    ///     }
    ///     fn params(&self, p: &mut Params) {
    ///         p.module("user", &self.0).module("item", &self.1);
    ///     }
    /// }
    /// let model = Towers(Linear::new(3, 4, 1), Linear::new(3, 4, 2));
    /// let data = Dataset::new(users, bought)?.and_input(items)?;
    /// Trainer::new(&model, Adam::new(1e-2))
    ///     .forward(|model, inputs| {
    ///         let (user, item) = (model.0.forward(inputs[0]), model.1.forward(inputs[1]));
    ///         vec![(user * item).sum_axis(-1)]
    ///     })
    ///     .loss(loss::bce_with_logits)
    ///     .quiet()
    ///     .fit(&data)?;
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn forward(
        mut self,
        outputs: impl for<'g> Fn(&M, &[Var<'g>]) -> Vec<Var<'g>> + 'm,
    ) -> Self {
        self.forward = Some(Box::new(outputs));
        self
    }

    /// The loss of several outputs and several targets, in the order in which
    /// [`forward`](Trainer::forward) and the data have them.
    #[track_caller]
    pub fn loss_of(
        mut self,
        loss: impl for<'g> Fn(&[Var<'g>], &[Var<'g>]) -> Var<'g> + 'm,
    ) -> Self {
        self.loss = Score::of_all("loss", loss);
        self
    }

    /// The order in which an epoch goes through the samples: one of [`data::order`](crate::data::order)
    /// or a function of your own of the number of samples and a seed, which is another one for each
    /// epoch. By default they are shuffled.
    pub fn order(mut self, order: impl Fn(usize, u64) -> Vec<usize> + 'm) -> Self {
        self.order = Some(Box::new(order));
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

    /// Computes each batch in parts of so many samples, which divides the batch size: with the memory of a
    /// part, or on the ranks of a [`team`](Trainer::team). What the parts give is added in the
    /// [order of their numbers](crate::team::GradientSum), so the bits depend on this size, and not on
    /// who computes what. The update is that by the gradient of the whole batch.
    ///
    /// What a layer or a loss does with a batch, it does with a part: batch normalisation takes mean and
    /// variance of a part, and the running statistics go by the mean of the parts, each as much as it
    /// has samples. [Augmentation](Trainer::augment_batch) sees a part, too. A loss that returns one
    /// number has to be the mean over the samples, which is checked before the first step.
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let data = nn::Dataset::new(Tensor::full([600, 8], 0.5f32)?, vec![1i64; 600].into())?;
    /// let model = nn::mlp(&[8, 32, 3], nn::Activation::Relu, 1);
    /// nn::Trainer::new(&model, nn::Sgd::new(0.1))
    ///     .batch_size(256)
    ///     .micro_batch(32)
    ///     .quiet()
    ///     .fit(&data)?;
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn micro_batch(mut self, size: usize) -> Self {
        self.micro_batch = size;
        self
    }

    /// Trains together with other processes, each of which has the same program, model and data: each
    /// computes some of the [micro-batches](Trainer::micro_batch) of each batch, and some of the
    /// validation. The result has the same bits on any number of ranks, and a checkpoint can be resumed
    /// with another number. All ranks call all callbacks; the first one writes files and prints. If they
    /// disagree about settings, model or data, all of them get an error before the first step, and
    /// if one fails later, the others get an error that names it.
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let data = nn::Dataset::new(Tensor::full([600, 8], 0.5f32)?, vec![1i64; 600].into())?;
    /// use nn::team::{Team, Threads};
    /// let train = |team: &dyn Team| {
    ///     let model = nn::mlp(&[8, 32, 3], nn::Activation::Relu, 1);
    ///     let trainer = nn::Trainer::new(&model, nn::Sgd::new(0.1)).batch_size(256).micro_batch(32);
    ///     trainer.team(team).quiet().fit(&data)?;
    ///     Ok::<_, nn::Error>(nn::Weights::of(&model))
    /// };
    /// let alone = train(&nn::team::Alone)?;
    /// std::thread::scope(|s| {
    ///     let ranks: Vec<_> = Threads::new(3).into_iter().map(|rank| s.spawn(move || train(&rank))).collect();
    ///     ranks.into_iter().try_for_each(|rank| {
    ///         assert_eq!(rank.join().expect("no panic")?, alone);
    ///         Ok::<_, nn::Error>(())
    ///     })
    /// })?;
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn team(mut self, team: &'m dyn Team) -> Self {
        self.team = team;
        self
    }

    /// The number of samples in a part of a batch.
    pub(super) fn part_size(&self) -> usize {
        self.micro_batch.min(self.batch_size)
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
        self,
        transform: impl Fn(Tensor, u64) -> Result<Tensor> + Send + Sync + 'm,
    ) -> Self {
        self.augment_batch(move |mut batch, seed| {
            let input = batch.inputs[0].clone();
            batch.inputs[0] = transform(input, seed)?;
            Ok(batch)
        })
    }

    /// Data augmentation that sees all of a batch: several inputs at once, or inputs with their targets
    /// and weights, as mixing samples does.
    pub fn augment_batch(
        mut self,
        transform: impl Fn(Batch, u64) -> Result<Batch> + Send + Sync + 'm,
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

    /// Evaluates the model on these data after each epoch, or when a [`Validation`] says.
    pub fn validate(mut self, data: impl Into<Validation<'m>>) -> Self {
        self.validation = Some(data.into());
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
        self.metrics.push(Score::of_one(name, metric));
        self
    }

    /// A [`metric`](Trainer::metric) of several outputs and several targets.
    #[track_caller]
    pub fn metric_of(
        mut self,
        name: &str,
        metric: impl for<'g> Fn(&[Var<'g>], &[Var<'g>]) -> Var<'g> + 'm,
    ) -> Self {
        self.metrics.push(Score::of_all(name, metric));
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
        let kept = self.checkpoint.map_or(1, |c| c.kept);
        self.checkpoint = Some(Checkpoints {
            path: path.as_ref().into(),
            every: steps.max(1),
            kept,
        });
        self
    }

    /// Keeps the last `n` checkpoints: that of [`checkpoint`](Trainer::checkpoint), the one before with
    /// `.1` after its name, and so on. To go back to an older one, give it the name without the number.
    pub fn keep_checkpoints(mut self, n: usize) -> Self {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.kept = n.max(1);
        }
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

    /// Summarises the model and one training step, without running it; of a
    /// [micro-batch](Trainer::micro_batch), if batches are computed in parts.
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
    pub fn dry_run<S: Source + ?Sized>(&self, data: &S) -> Result<DryRun> {
        let _call = called_from(Location::caller());
        let data: &dyn Source = &data;
        self.check(data)?;
        let (g, steps_per_epoch) = (Graph::training(self.seed), self.steps_per_epoch(data));
        let Scored { outputs, loss, .. } =
            self.score(&g, &self.first_samples(data, self.part_size())?)?;
        let layers = g.picture().of(&outputs).to_text();
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
    pub(super) fn score<'g>(&self, g: &'g Graph, batch: &Batch) -> Result<Scored<'g>> {
        let vars = BatchVars::new(g, batch);
        let outputs = self.outputs(&vars.inputs)?;
        let loss = self.loss_of_batch(&outputs, &vars.targets)?;
        Ok(Scored {
            outputs,
            targets: vars.targets,
            loss: weighted_mean(loss, vars.weights),
        })
    }

    /// The outputs for the inputs of a batch.
    pub(super) fn outputs<'g>(&self, inputs: &[Var<'g>]) -> Result<Vec<Var<'g>>> {
        let Some(forward) = &self.forward else {
            return forward_of(self.model)(inputs);
        };
        let outputs = catch("the model", || forward(self.model, inputs))?;
        match outputs.is_empty() {
            true => Err(Error::invalid("the model gives no outputs")),
            false => Ok(outputs),
        }
    }

    /// The loss, the accuracy and the [metrics](Trainer::metric) of one's own on these data: what a
    /// validation computes.
    #[track_caller]
    pub fn evaluate<S: Source + ?Sized>(&self, data: &S) -> Result<Evaluation> {
        let _call = called_from(Location::caller());
        self.evaluate_source(&Agreement::new(&Alone), &data, None)
    }

    /// By all ranks of a team, with these weights in the place of the model's, if there are any.
    pub(super) fn evaluate_source(
        &self,
        agreement: &Agreement<'_>,
        data: &dyn Source,
        weights: Option<&Weights>,
    ) -> Result<Evaluation> {
        let forward: Box<Forward<'_>> = Box::new(|inputs| self.outputs(inputs));
        let model = Fixed::new(forward, self.model.parameters(), weights);
        let (metrics, values) = evaluate_scores(agreement, &model, data, |outputs, batch| {
            let loss = self.loss_of_batch(outputs, &batch.targets)?;
            let metrics = self.metrics.iter().map(|metric| {
                let what = format!("the metric {}", metric.name);
                Ok(metric.of(&what, outputs, &batch.targets)?.mean())
            });
            Ok(Scores {
                loss: weighted_mean(loss, batch.weights),
                metrics: metrics.collect::<Result<_>>()?,
            })
        })?;
        Ok(Evaluation {
            metrics,
            values: self.metric_names().into_iter().zip(values).collect(),
        })
    }

    /// The loss of a batch, as the user's function gives it.
    pub(super) fn loss_of_batch<'g>(
        &self,
        outputs: &[Var<'g>],
        targets: &[Var<'g>],
    ) -> Result<Var<'g>> {
        self.loss.of("the loss", outputs, targets)
    }

    /// The names of the metrics of one's own.
    pub(super) fn metric_names(&self) -> Vec<String> {
        self.metrics.iter().map(|m| m.name.clone()).collect()
    }

    /// The first batch, without shuffling.
    pub(super) fn first_batch(&self, data: &dyn Source) -> Result<Batch> {
        self.first_samples(data, self.batch_size)
    }

    /// As many samples, if there are as many.
    fn first_samples(&self, data: &dyn Source, count: usize) -> Result<Batch> {
        checked_batch(data, &order::in_order(count.min(data.len()), 0))
    }

    pub(super) fn steps_per_epoch(&self, data: &dyn Source) -> usize {
        let steps = match self.drop_last {
            true => data.len() / self.batch_size,
            false => data.len().div_ceil(self.batch_size),
        };
        steps.min(self.max_steps_per_epoch)
    }

    /// The epochs of the last [`fit`](Trainer::fit), also if it ended with an error.
    pub fn history(&self) -> &[Epoch] {
        &self.history
    }
}

/// How good a model is on some data: what [`Trainer::evaluate`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Loss and accuracy.
    pub metrics: Metrics,
    /// The [metrics](Trainer::metric) of one's own, with their names.
    pub values: Vec<(String, f64)>,
}
