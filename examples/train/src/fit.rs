//! Trains a model.

use crate::{data::Data, model::SavedModel};
use nn::{
    AdamW, Callback, Dataset, EarlyStopping, History, Metrics, Module, Optimizer, Result, Trainer,
    Validation, data::Task, loss, metrics, schedule,
};
use std::path::PathBuf;

/// How a model is trained.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of epochs at most.
    pub epochs: usize,
    /// The number of epochs without improvement after which the training stops; 0: it does not.
    pub patience: usize,
    /// The number of samples of a step; none: by the number of samples.
    pub batch_size: Option<usize>,
    /// The learning rate.
    pub lr: f64,
    /// The weight decay.
    pub weight_decay: f64,
    /// The seed of the order of samples and of dropout.
    pub seed: u64,
    /// The file of checkpoints.
    pub checkpoint: Option<PathBuf>,
    /// Whether nothing is printed.
    pub quiet: bool,
    /// Whether statistics of gradients are printed.
    pub verbose: bool,
}

impl Settings {
    /// The number of samples of a step.
    pub fn batch_size(&self, samples: usize) -> usize {
        // about 20 steps an epoch, in powers of two
        let by_samples = (samples / 20).next_power_of_two().clamp(32, 128);
        self.batch_size.unwrap_or(by_samples)
    }
}

/// A finished training.
pub struct Fit {
    /// All epochs.
    pub history: History,
    /// The results on the validation data in the end, if there are some.
    pub validation: Option<Metrics>,
}

/// How much of the averaged weights a step leaves: they are those of about a hundred steps.
const AVERAGE: f64 = 0.99;

/// Trains with AdamW, averages the weights, and stops early. The model has the averages that were
/// validated best then. Callbacks are called in addition.
pub fn fit<'m>(
    model: &'m SavedModel,
    data: &'m Data,
    settings: &Settings,
    callbacks: Vec<Box<dyn Callback + 'm>>,
) -> Result<Fit> {
    let optimizer = AdamW::new(settings.lr).weight_decay(settings.weight_decay);
    let optimizer = optimizer.ema(AVERAGE);
    let mut trainer = Trainer::new(&model.net, &optimizer)
        .loss(loss_of(model.target.task()))
        .schedule(schedule::warm_up(1.0, schedule::constant))
        .batch_size(settings.batch_size(data.train.len()))
        .epochs(settings.epochs)
        .seed(settings.seed);
    if let Some(validation) = &data.validation {
        trainer = trainer.validate(Validation::on(validation).averaged());
        if model.target.task() == Task::Regression {
            trainer = trainer.metric("r2", metrics::r_squared);
        }
    }
    if settings.patience > 0 {
        trainer = trainer.callback(EarlyStopping::new(settings.patience));
    }
    if let Some(path) = &settings.checkpoint {
        trainer = trainer.checkpoint(path, 500);
    }
    if settings.quiet {
        trainer = trainer.quiet();
    }
    if settings.verbose {
        trainer = trainer.inspect_gradients();
    }
    for callback in callbacks {
        trainer = trainer.callback(callback);
    }
    let history = trainer.fit(&data.train)?;
    if settings.patience == 0 || data.validation.is_none() {
        // early stopping has taken the averages that were validated best
        optimizer.copy_to(&model.net.parameters())?;
    }
    let validated = data.validation.as_ref().map(|data| metrics_on(model, data));
    Ok(Fit {
        history,
        validation: validated.transpose()?,
    })
}

/// The loss of a task.
type Loss = for<'g> fn(autograd::Var<'g>, autograd::Var<'g>) -> autograd::Var<'g>;

fn loss_of(task: Task) -> Loss {
    match task {
        Task::Classification => loss::cross_entropy,
        Task::Regression => loss::mse,
    }
}

/// Loss and accuracy on some samples.
pub(crate) fn metrics_on(model: &SavedModel, data: &Dataset) -> Result<Metrics> {
    nn::evaluate(&model.net, data, loss_of(model.target.task()))
}
