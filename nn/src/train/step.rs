//! One step of a training: in a single run of a graph, or from the sum of what the parts of the batch
//! give, on one rank or on several.

use super::{
    callback::Callback,
    evaluate::{Meter, count_correct},
    prefetch::{Part, StepData},
    run::{Session, each},
    state::Cursor,
    trainer::Scored,
};
use crate::{
    error::{Error, Result, catch},
    module::Module,
    optim::{Gradient, Optimizer, gradients},
    team::GradientSum,
};
use autograd::{DType, Fetch, GradientReport, Graph, InspectGradients, Param, Tensor, Var};

/// What a step gives: loss and accuracy, and gradient statistics.
pub(super) struct StepResult {
    pub(super) meter: Meter,
    pub(super) report: Option<GradientReport>,
}

/// Computes one step and updates the parameters, on all ranks alike.
pub(super) fn compute<M: Module + ?Sized, O: Optimizer>(
    session: &Session<'_, '_, M, O>,
    callbacks: &mut [Box<dyn Callback + '_>],
    cursor: &Cursor,
    data: &StepData,
) -> Result<StepResult> {
    // this depends on settings alone, so that the bits of a batch that happens to be one part do not
    // depend on the number of ranks
    if session.trainer.part_size() == session.trainer.batch_size {
        return in_one_run(session, callbacks, cursor, &data.parts[0]);
    }
    let mut sum = GradientSum::new(data.parts_in_all);
    for part in &data.parts {
        let values = look(session, part).map_err(|e| failed(cursor, e))?;
        sum.add(part.number, &values)?;
    }
    let number = session.steps_done(cursor) + 1;
    session.agreement.gather(&format!("step {number}"), &[])?;
    let sums = session.agreement.team().sum(sum)?;
    update(session, callbacks, cursor, data.seed, sums)
}

/// An error of a graph as that of the step.
fn failed(cursor: &Cursor, error: Error) -> Error {
    match error {
        Error::Graph(error) => Error::Step {
            epoch: cursor.history.len() + 1,
            step: cursor.step + 1,
            error,
        },
        other => other,
    }
}

/// Forward pass, backward pass and update in a single run.
fn in_one_run<M: Module + ?Sized, O: Optimizer>(
    session: &Session<'_, '_, M, O>,
    callbacks: &mut [Box<dyn Callback + '_>],
    cursor: &Cursor,
    part: &Part,
) -> Result<StepResult> {
    let (trainer, g) = (session.trainer, &Graph::training(part.seed));
    let Scored {
        outputs,
        targets,
        loss,
    } = trainer.score(g, &part.batch)?;
    let all = catch("the optimizer", || gradients(loss))?;
    let (gradients, report) = schedule_update(session, callbacks, cursor, loss, all)?;
    let correct = count_correct(&outputs, &targets);
    let mut finite = vec![loss];
    if trainer.detect_anomaly {
        finite.extend(&gradients);
    }
    finite.extend(new_weights(session, cursor, g));
    let check = g.check_finite(&finite);
    let result = g.run((loss, correct, report, check));
    let result = result.map_err(|e| failed(cursor, cause(g, e, &(loss, gradients)).into()));
    let (loss, correct, report, _) = result?;
    Ok(StepResult {
        meter: Meter::of(&part.batch, &loss, correct.as_ref())?,
        report,
    })
}

/// Appends the update by the gradients of a loss, and statistics of them if they are wanted.
fn schedule_update<'g, M: Module + ?Sized, O: Optimizer>(
    session: &Session<'_, '_, M, O>,
    callbacks: &mut [Box<dyn Callback + '_>],
    cursor: &Cursor,
    loss: Var<'g>,
    mut all: Vec<Gradient<'g>>,
) -> Result<(Vec<Var<'g>>, Option<InspectGradients<'g>>)> {
    let (trainer, params) = (session.trainer, session.state.model);
    let factor = trainer.factor(&session.moment(cursor, session.steps_done(cursor)))?;
    let context = session.context(cursor);
    each(callbacks, |c| c.on_gradients(&context, &mut all))?;
    if all.is_empty() && loss.error().is_none() {
        return Err(nothing_trained());
    }
    let gradients = all.iter().map(|d| d.gradient).collect();
    let report = catch("the optimizer", || {
        trainer.optimizer.update(all, factor);
        let g = loss.graph();
        let inspected = trainer.inspect_gradients.then(|| g.inspect_gradients(loss));
        inspected.map(|report| report.named(params))
    })?;
    Ok((gradients, report))
}

fn nothing_trained() -> Error {
    Error::invalid("the loss depends on no trained parameter")
}

/// The new weights if this is the last step of the training: nobody would notice what it does to them.
fn new_weights<'g, M: Module + ?Sized, O: Optimizer>(
    session: &Session<'_, '_, M, O>,
    cursor: &Cursor,
    g: &'g Graph,
) -> Vec<Var<'g>> {
    let moment = session.moment(cursor, session.steps_done(cursor));
    let params = session.state.model.iter().filter(|_| moment.is_last());
    params.filter_map(|(_, param)| g.scheduled(param)).collect()
}

/// Where a value that is not finite comes from: the failed run changed no parameter, so the step can run
/// again to find the cause.
fn cause<'g>(g: &'g Graph, error: autograd::Error, of: &impl Fetch<'g>) -> autograd::Error {
    match error.op() {
        "check_finite" => g.find_anomaly(of).err().unwrap_or(error),
        _ => error,
    }
}

/// Computes what a part of a batch gives. No parameter is changed.
fn look<M: Module + ?Sized, O: Optimizer>(
    session: &Session<'_, '_, M, O>,
    part: &Part,
) -> Result<Vec<Tensor>> {
    let (trainer, g) = (session.trainer, &Graph::training(part.seed));
    let Scored {
        outputs,
        targets,
        loss,
    } = trainer.score(g, &part.batch)?;
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
    if trainer.detect_anomaly {
        finite.extend(&gradients);
    }
    let check = g.check_finite(&finite);
    let result = g.look((loss, correct, gradients.clone(), writes, check));
    let (loss, correct, gradients, writes, _) =
        result.map_err(|e| cause(g, e, &(loss, gradients)))?;
    let trained: Vec<Param> = all.into_iter().map(|d| d.param).collect();
    let meter = Meter::of(&part.batch, &loss, correct.as_ref())?;
    let summands = Summed {
        trained: session.numbers_of(&trained)?,
        buffers: session.numbers_of(&buffers)?,
        meter,
        gradients,
        writes,
    };
    Ok(summands.into_tensors())
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

/// A value times a number; integers and booleans as they are.
fn times(value: Var<'_>, factor: f64) -> Var<'_> {
    match value.dtype().is_ok_and(|dtype| !dtype.is_float()) {
        true => value,
        false => value * factor,
    }
}

/// Updates the parameters by the sum of what all parts of the batch give.
fn update<M: Module + ?Sized, O: Optimizer>(
    session: &Session<'_, '_, M, O>,
    callbacks: &mut [Box<dyn Callback + '_>],
    cursor: &Cursor,
    seed: u64,
    sums: Vec<Tensor>,
) -> Result<StepResult> {
    let Summed {
        trained,
        buffers,
        meter,
        gradients,
        writes,
    } = Summed::from_tensors(sums, session.state.model.len())?;
    let (g, params) = (&Graph::training(seed), session.state.model);
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
    let (gradients, report) = schedule_update(session, callbacks, cursor, loss, all)?;
    let check = g.check_finite(&new_weights(session, cursor, g));
    let result = g.run((report, check));
    let (report, _) = result.map_err(|e| failed(cursor, cause(g, e, &gradients).into()))?;
    Ok(StepResult { meter, report })
}
