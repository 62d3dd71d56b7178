//! One step of a training: in a single run of a graph, or from the sum of what the parts of the batch
//! give, on one rank or on several.

use super::{
    callback::{Callback, CallbackContext},
    evaluate::{Meter, count_correct},
    prefetch::{Part, StepData},
    run::{Session, each},
    state::Cursor,
    trainer::Scored,
};
use crate::{
    data::Batch,
    error::{Error, Result, catch},
    module::Module,
    optim::{Gradient, Optimizer, gradients},
    team::{Agreement, GradientSum},
};
use autograd::{DType, Fetch, GradientReport, Graph, InspectGradients, Param, Tensor, Var};

/// What a step gives: loss and accuracy, and gradient statistics.
pub(super) struct StepResult {
    pub(super) meter: Meter,
    pub(super) report: Option<GradientReport>,
}

/// Computes one step and updates the parameters, on all ranks alike, with this factor of the learning rate.
pub(super) fn compute<M: Module + ?Sized, O: Optimizer>(
    session: &Session<'_, '_, M, O>,
    callbacks: &mut [Box<dyn Callback + '_>],
    cursor: &Cursor,
    data: &StepData,
    factor: f64,
) -> Result<StepResult> {
    let trainer = session.trainer;
    let moment = session.moment(cursor, session.steps_done(cursor));
    let step = Step {
        optimizer: &trainer.optimizer,
        score: &|g, batch| trainer.score(g, batch),
        context: session.context(cursor),
        factor,
        is_last: moment.is_last(),
        detect_anomaly: trainer.detect_anomaly,
        inspect_gradients: trainer.inspect_gradients,
        place: (cursor.history.len() + 1, cursor.step + 1),
    };
    // this depends on settings alone, so that the bits of a batch that happens to be one part do not
    // depend on the number of ranks
    if trainer.part_size() == trainer.batch_size {
        return step.in_one_run(callbacks, &data.parts[0]);
    }
    step.by_parts(callbacks, session.agreement, data)
}

/// Appends the forward pass of a batch to a graph.
type Score<'s> = dyn for<'g> Fn(&'g Graph, &Batch) -> Result<Scored<'g>> + 's;

/// What a step needs of its training. It knows no types of models and optimizers, so that there is one
/// code for all of them.
struct Step<'s> {
    optimizer: &'s dyn Optimizer,
    score: &'s Score<'s>,
    context: CallbackContext<'s>,
    /// Of the learning rate.
    factor: f64,
    is_last: bool,
    detect_anomaly: bool,
    inspect_gradients: bool,
    /// Epoch and step, counted from 1.
    place: (usize, usize),
}

impl Step<'_> {
    /// Computes the parts of this rank, and updates by the sum of those of all ranks.
    fn by_parts(
        &self,
        callbacks: &mut [Box<dyn Callback + '_>],
        agreement: &Agreement<'_>,
        data: &StepData,
    ) -> Result<StepResult> {
        let mut sum = GradientSum::new(data.parts_in_all);
        for part in &data.parts {
            let values = self.look(part).map_err(|e| self.failed(e))?;
            sum.add(part.number, &values)?;
        }
        let number = self.context.step + 1;
        agreement.gather(&format!("step {number}"), &[])?;
        let sums = agreement.team().sum(sum)?;
        self.update(callbacks, data.seed, sums)
    }

    /// An error of a graph as that of the step.
    fn failed(&self, error: Error) -> Error {
        let (epoch, step) = self.place;
        match error {
            Error::Graph(error) => Error::Step { epoch, step, error },
            other => other,
        }
    }

    /// Forward pass, backward pass and update in a single run.
    fn in_one_run(
        &self,
        callbacks: &mut [Box<dyn Callback + '_>],
        part: &Part,
    ) -> Result<StepResult> {
        let g = &Graph::training(part.seed);
        let Scored {
            outputs,
            targets,
            loss,
        } = (self.score)(g, &part.batch)?;
        let all = catch("the optimizer", || gradients(loss))?;
        let (gradients, report) = self.schedule_update(callbacks, loss, all)?;
        let correct = count_correct(&outputs, &targets);
        let mut finite = vec![loss];
        if self.detect_anomaly {
            finite.extend(&gradients);
        }
        finite.extend(self.new_weights(g));
        let check = g.check_finite(&finite);
        let result = g.run((loss, correct, report, check));
        let result = result.map_err(|e| self.failed(cause(g, e, &(loss, gradients)).into()));
        let (loss, correct, report, _) = result?;
        Ok(StepResult {
            meter: Meter::of(&part.batch, &loss, correct.as_ref())?,
            report,
        })
    }

    /// Appends the update by the gradients of a loss, and statistics of them if they are wanted.
    fn schedule_update<'g>(
        &self,
        callbacks: &mut [Box<dyn Callback + '_>],
        loss: Var<'g>,
        mut all: Vec<Gradient<'g>>,
    ) -> Result<(Vec<Var<'g>>, Option<InspectGradients<'g>>)> {
        each(callbacks, |c| c.on_gradients(&self.context, &mut all))?;
        if all.is_empty() && loss.error().is_none() {
            return Err(nothing_trained());
        }
        let gradients = all.iter().map(|d| d.gradient).collect();
        let report = catch("the optimizer", || {
            self.optimizer.update(all, self.factor);
            let g = loss.graph();
            let inspected = self.inspect_gradients.then(|| g.inspect_gradients(loss));
            inspected.map(|report| report.named(self.context.params))
        })?;
        Ok((gradients, report))
    }

    /// The new weights if this is the last step of the training: nobody would notice what it does to them.
    fn new_weights<'g>(&self, g: &'g Graph) -> Vec<Var<'g>> {
        let params = self.context.params.iter().filter(|_| self.is_last);
        params.filter_map(|(_, param)| g.scheduled(param)).collect()
    }

    /// Computes what a part of a batch gives. No parameter is changed.
    fn look(&self, part: &Part) -> Result<Vec<Tensor>> {
        let g = &Graph::training(part.seed);
        let Scored {
            outputs,
            targets,
            loss,
        } = (self.score)(g, &part.batch)?;
        let (buffers, writes): (Vec<Param>, Vec<Var<'_>>) = g.updates()?.into_iter().unzip();
        let samples = part.batch.len() as f64;
        let writes: Vec<Var<'_>> = writes.into_iter().map(|new| times(new, samples)).collect();
        // of the sum of the losses, not of their mean
        let numerator = times(loss, part.batch.weight());
        let all = catch("the optimizer", || gradients(numerator))?;
        if all.is_empty() && loss.error().is_none() {
            return Err(nothing_trained());
        }
        let gradients: Vec<Var<'_>> = all.iter().map(|d| d.gradient).collect();
        let correct = count_correct(&outputs, &targets);
        let mut finite = vec![loss];
        if self.detect_anomaly {
            finite.extend(&gradients);
        }
        let check = g.check_finite(&finite);
        let result = g.look((loss, correct, gradients.clone(), writes, check));
        let (loss, correct, gradients, writes, _) =
            result.map_err(|e| cause(g, e, &(loss, gradients)))?;
        let trained: Vec<Param> = all.into_iter().map(|d| d.param).collect();
        let meter = Meter::of(&part.batch, &loss, correct.as_ref())?;
        let summands = Summed {
            trained: numbers_of(self.context.params, &trained)?,
            buffers: numbers_of(self.context.params, &buffers)?,
            meter,
            gradients,
            writes,
        };
        Ok(summands.into_tensors())
    }

    /// Updates the parameters by the sum of what all parts of the batch give.
    fn update(
        &self,
        callbacks: &mut [Box<dyn Callback + '_>],
        seed: u64,
        sums: Vec<Tensor>,
    ) -> Result<StepResult> {
        let Summed {
            trained,
            buffers,
            meter,
            gradients,
            writes,
        } = Summed::from_tensors(sums, self.context.params.len())?;
        let (g, params) = (&Graph::training(seed), self.context.params);
        for (&number, new) in buffers.iter().zip(writes) {
            let new = g.constant(new);
            let mean = match new.dtype().is_ok_and(|dtype| dtype.is_float()) {
                true => new / meter.samples(),
                false => new,
            };
            g.assign(&params[number].1, mean);
        }
        let gradient = |(&number, sum): (&usize, Tensor)| Gradient {
            param: params[number].1.clone(),
            weight: g.param(&params[number].1),
            gradient: g.constant(sum) / meter.divisor(),
        };
        let all: Vec<Gradient<'_>> = trained.iter().zip(gradients).map(gradient).collect();
        // a loss with these gradients: statistics see the batch as they would in a single run
        let products = all
            .iter()
            .map(|d| (d.weight * d.gradient).sum().cast(DType::F64));
        let loss = products.reduce(|a, b| a + b).ok_or_else(nothing_trained)?;
        let (gradients, report) = self.schedule_update(callbacks, loss, all)?;
        let check = g.check_finite(&self.new_weights(g));
        let result = g.run((report, check));
        let (report, _) = result.map_err(|e| self.failed(cause(g, e, &gradients).into()))?;
        Ok(StepResult { meter, report })
    }
}

fn nothing_trained() -> Error {
    Error::invalid("the loss depends on no trained parameter")
}

/// Where a value that is not finite comes from: the failed run changed no parameter, so the step can run
/// again to find the cause.
fn cause<'g>(g: &'g Graph, error: autograd::Error, of: &impl Fetch<'g>) -> autograd::Error {
    match error.op() {
        "check_finite" => g.find_anomaly(of).err().unwrap_or(error),
        _ => error,
    }
}

/// A value times a number; integers and booleans as they are.
fn times(value: Var<'_>, factor: f64) -> Var<'_> {
    match value.dtype().is_ok_and(|dtype| !dtype.is_float()) {
        true => value,
        false => value * factor,
    }
}

/// What a part of a batch gives, or the sum of what all parts give: numerators of means over the
/// samples.
struct Summed {
    /// The parameters that the gradients are for, as numbers in the list of the model's.
    trained: Vec<usize>,
    /// The parameters that the forward pass writes into.
    buffers: Vec<usize>,
    meter: Meter,
    gradients: Vec<Tensor>,
    /// The values for the buffers.
    writes: Vec<Tensor>,
}

impl Summed {
    fn into_tensors(self) -> Vec<Tensor> {
        let numbers = |of: &[usize]| Tensor::from(of.iter().map(|&k| k as i64).collect::<Vec<_>>());
        let about = vec![
            numbers(&self.trained),
            numbers(&self.buffers),
            self.meter.to_array().into(),
        ];
        [about, self.gradients, self.writes].concat()
    }

    /// The inverse, for tensors that may come from another process; the model has so many parameters.
    fn from_tensors(tensors: Vec<Tensor>, params: usize) -> Result<Summed> {
        let wrong = || Error::invalid("the sum of a batch is not that of this model");
        let mut rest = tensors.into_iter();
        let mut about = || rest.next().ok_or_else(wrong);
        let (trained, buffers, meter) = (about()?, about()?, about()?);
        let numbers = |of: Tensor| -> Result<Vec<usize>> {
            let numbers = of.as_slice::<i64>()?.iter();
            let numbers = numbers.map(|&k| usize::try_from(k).ok().filter(|&k| k < params));
            numbers.collect::<Option<_>>().ok_or_else(wrong)
        };
        let (trained, buffers) = (numbers(trained)?, numbers(buffers)?);
        let gradients: Vec<Tensor> = rest.by_ref().take(trained.len()).collect();
        let writes: Vec<Tensor> = rest.collect();
        if gradients.len() != trained.len() || writes.len() != buffers.len() {
            return Err(wrong());
        }
        Ok(Summed {
            trained,
            buffers,
            meter: Meter::from_slice(meter.as_slice()?).ok_or_else(wrong)?,
            gradients,
            writes,
        })
    }
}

/// The numbers of parameters in the list of the model's.
fn numbers_of(list: &[(String, Param)], params: &[Param]) -> Result<Vec<usize>> {
    let number = |param: &Param| {
        let at = list.iter().position(|(_, own)| own.same(param));
        at.ok_or_else(|| {
            let ty = param.ty();
            let message = format!("a parameter {ty} is trained that the model does not list");
            Error::invalid(message)
        })
    };
    params.iter().map(number).collect()
}
