//! What can be wrong with a training, and is found before its first step; and what a checkpoint of
//! it must agree with.

use super::{evaluate::BatchVars, trainer::Trainer};
use crate::{
    data::{Source, checked_batch, order},
    error::{Error, Result, catch},
    files,
    module::Module,
    optim::Optimizer,
    schedule,
    team::wire,
};
use autograd::{Graph, Tensor, Var};
use std::ops::Range;

impl<M: Module + ?Sized, O: Optimizer> Trainer<'_, M, O> {
    /// Checks the settings, the data and the places of files.
    pub(super) fn check(&self, data: &dyn Source) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::invalid("the batch size must be at least 1"));
        }
        if data.is_empty() {
            return Err(Error::invalid("the training dataset is empty"));
        }
        if let Some(validation) = self.validation {
            check_validation(data, validation.source)?;
            let params = self.model.parameters();
            if validation.averaged && self.optimizer.averages(&params).is_none() {
                let message = "the averages are to be validated, but the optimizer keeps none: \
                               `ema` does";
                return Err(Error::invalid(message));
            }
        }
        let params = self.model.parameters();
        if !params.iter().any(|(_, param)| param.is_trained()) {
            let message = match params.len() {
                0 => "the model has no parameters".into(),
                n => format!("all {n} parameters are frozen"),
            };
            return Err(Error::invalid(format!(
                "there is nothing to train: {message}"
            )));
        }
        if let Some(checkpoint) = self.checkpoint.as_ref().filter(|_| self.team.rank() == 0) {
            files::check_writable(&checkpoint.path)?;
        }
        self.check_parts()?;
        self.check_batches(data)?;
        self.optimizer.check()
    }

    /// Checks how batches are cut into parts, and that each rank of the team gets one.
    fn check_parts(&self) -> Result<()> {
        let (part, ranks) = (self.part_size(), self.team.size());
        if part == 0 || !self.batch_size.is_multiple_of(part) {
            let batch = self.batch_size;
            let message = format!("a micro-batch of {part} does not divide a batch of {batch}");
            return Err(Error::invalid(message));
        }
        let parts = self.batch_size / part;
        let message = match parts {
            _ if ranks <= parts => return Ok(()),
            1 => {
                format!("a team of {ranks} ranks needs `micro_batch`, which says what they compute")
            }
            _ => format!(
                "{ranks} ranks, but a batch has {parts} micro-batches: at most {parts} ranks"
            ),
        };
        Err(Error::invalid(message))
    }

    /// Checks that model and loss take the first part of a batch, and the last one, which may be smaller:
    /// one sample has no variance, for example.
    fn check_batches(&self, data: &dyn Source) -> Result<()> {
        let steps = self.steps_per_epoch(data);
        if steps == 0 {
            return Err(Error::invalid(format!(
                "there is nothing to train: {} samples are less than a batch of {}",
                data.len(),
                self.batch_size
            )));
        }
        let whole = self.part_size().min(data.len());
        let last = data.len().min(steps * self.batch_size) - (steps - 1) * self.batch_size;
        let last = (last - 1) % whole + 1;
        for size in [whole, last] {
            let batch = checked_batch(data, &order::in_order(size, 0))?;
            let g = Graph::training(self.seed);
            if let Some(e) = self.score(&g, &batch)?.loss.error() {
                if size < whole {
                    let kind = match self.part_size() < self.batch_size {
                        true => "micro-batch",
                        false => "batch",
                    };
                    let why =
                        format!("the last {kind} of an epoch has {size} of {whole} samples: {e}");
                    return Err(Error::invalid(format!("{why}. `drop_last` leaves it out")));
                }
                return Err(e.into());
            }
            if last == whole {
                break;
            }
        }
        self.check_loss_of_parts(data)
    }

    /// Checks that a loss that gives one number is the mean over the samples, as the sum of parts takes it
    /// to be: that of some outputs is the one of the first half and the one of the second half, each as
    /// much as it has samples.
    fn check_loss_of_parts(&self, data: &dyn Source) -> Result<()> {
        let count = self.batch_size.min(data.len());
        if self.part_size() >= count {
            return Ok(());
        }
        let (g, batch) = (Graph::new(), self.first_batch(data)?);
        let vars = BatchVars::new(&g, &batch);
        let outputs = self.outputs(&vars.inputs)?;
        let loss = self.loss_of_batch(&outputs, &vars.targets)?;
        let is_of_samples = |v: &Var<'_>| v.shape().is_ok_and(|s| s.first() == Some(&count));
        if loss.shape().is_ok_and(|shape| !shape.is_empty()) || !outputs.iter().all(is_of_samples) {
            return Ok(());
        }
        let half = count / 2;
        let of = |samples: Range<usize>| {
            let outputs = rows(&outputs, &samples);
            self.loss_of_batch(&outputs, &rows(&vars.targets, &samples))
        };
        let values = g.run([loss, of(0..half)?, of(half..count)?])?;
        let [all, first, second] = values.map(|v| v.scalar().unwrap_or(f64::NAN));
        let mean = (first * half as f64 + second * (count - half) as f64) / count as f64;
        // single precision, and sums in another order
        if (mean - all).abs() <= 1e-3 * (all.abs() + first.abs() + second.abs())
            || !(mean - all).is_finite()
        {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the loss is not the mean over the samples, which micro-batches need: {all:.4} for {count} \
             of them, {first:.4} for the first {half}, {second:.4} for the others. One that gives a \
             number for each sample is averaged as it should: those of `loss::unreduced`"
        )))
    }

    /// What must be equal when a training is resumed.
    pub(super) fn settings(&self, data: &dyn Source) -> Result<Vec<(&'static str, String)>> {
        if self.checkpoint.is_none() && self.team.size() == 1 {
            return Ok(Vec::new());
        }
        let batch_size = match self.part_size() {
            whole if whole == self.batch_size => whole.to_string(),
            part => format!("{} in micro-batches of {part}", self.batch_size),
        };
        Ok(vec![
            ("seed", self.seed.to_string()),
            ("batch size", batch_size),
            ("number of samples", data.len().to_string()),
            (
                "number of steps per epoch",
                self.steps_per_epoch(data).to_string(),
            ),
            (
                "list of metrics",
                format!("[{}]", self.metric_names().join(", ")),
            ),
            ("optimizer", self.optimizer.name()),
            ("schedule", self.first_factors(data)?),
            ("model or loss", self.description(data)?),
        ])
    }

    /// Some factors of the schedule, of steps that do not depend on the number of epochs.
    fn first_factors(&self, data: &dyn Source) -> Result<String> {
        let steps_per_epoch = self.steps_per_epoch(data);
        let steps = [0, 1, 10, 100].into_iter();
        let steps = steps.chain([1, 2, 5, 10, 50].map(|epochs| epochs * steps_per_epoch));
        let factor = |step| {
            let context = schedule::Context {
                step,
                steps_per_epoch,
                epochs: self.epochs,
                history: &[],
                start: 0,
            };
            Ok(self.factor(&context)?.to_string())
        };
        let factors: Vec<String> = steps.map(factor).collect::<Result<_>>()?;
        Ok(format!("factors {}", factors.join(" ")))
    }

    /// The operations of model and loss.
    fn description(&self, data: &dyn Source) -> Result<String> {
        const MAX_BYTES: usize = 1 << 16;
        let (g, batch) = (Graph::training(0), self.first_batch(data)?);
        self.score(&g, &batch)?;
        let text = g.to_text_range(0..g.len());
        if text.len() <= MAX_BYTES {
            return Ok(text);
        }
        let hash = wire::hash(text.as_bytes());
        Ok(format!("{} operations ({hash:016x})", g.len()))
    }

    /// The factor of the learning rate at a step.
    pub(super) fn factor(&self, context: &schedule::Context<'_>) -> Result<f64> {
        let factor = catch("the schedule", || (self.schedule)(context))?;
        match factor.is_finite() {
            true => Ok(factor),
            false => Err(Error::invalid(format!(
                "the schedule gives the factor {factor} at step {}",
                context.step + 1
            ))),
        }
    }
}

/// These rows of each.
fn rows<'g>(vars: &[Var<'g>], samples: &Range<usize>) -> Vec<Var<'g>> {
    let samples = samples.start as isize..samples.end as isize;
    vars.iter().map(|v| v.slice(0, samples.clone())).collect()
}

/// Checks that the validation data are there, and are such as the training data.
fn check_validation(data: &dyn Source, validation: &dyn Source) -> Result<()> {
    if validation.is_empty() {
        return Err(Error::invalid("the validation dataset is empty"));
    }
    let [a, b] = [checked_batch(data, &[0])?, checked_batch(validation, &[0])?];
    for (kind, a, b) in [
        ("inputs", &a.inputs, &b.inputs),
        ("targets", &a.targets, &b.targets),
    ] {
        let describe = |tensors: &[Tensor]| {
            let of_one = |t: &Tensor| format!("{} {:?}", t.dtype(), &t.shape()[1..]);
            tensors.iter().map(of_one).collect::<Vec<_>>().join(", ")
        };
        let (a, b) = (describe(a), describe(b));
        if a != b {
            return Err(Error::invalid(format!(
                "the validation {kind} of a sample are {b}, the training {kind} {a}"
            )));
        }
    }
    Ok(())
}
