//! Exponential moving averages of weights.

use super::{Gradient, Optimizer, check, state::OptimizerState};
use crate::{error::Result, weights::Weights};
use autograd::{Graph, Param};
use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

/// An optimizer that also maintains an exponential moving average (EMA) of the weights: see
/// [`Optimizer::ema`].
pub struct Ema<O> {
    inner: O,
    decay: f64,
    state: OptimizerState,
    /// Buffers of the model that are averaged, too.
    buffers: Mutex<Vec<Param>>,
}

impl<O> Ema<O> {
    pub(super) fn new(inner: O, decay: f64) -> Ema<O> {
        Ema {
            inner,
            decay,
            state: OptimizerState::default(),
            buffers: Mutex::default(),
        }
    }

    /// The inner optimizer.
    pub fn inner(&self) -> &O {
        &self.inner
    }

    /// The moving average of a parameter. It starts with the current value.
    fn average_of(&self, param: &Param) -> Param {
        let Ok(average) = self
            .state
            .get_or_insert(param, "average", || Ok::<_, Infallible>(param.value()));
        average
    }

    /// Averages the new values of these parameters, where the graph has any.
    #[track_caller]
    fn average(&self, g: &Graph, params: impl Iterator<Item = Param>) {
        let _scope = g.scope("average");
        for param in params {
            // gradient accumulation does not update the weights in every step
            let Some(new) = g.scheduled(&param) else {
                continue;
            };
            let updates = self.state.next_step(g, &param) - 1.0;
            let decay = ((updates + 1.0) / (updates + 10.0)).minimum(self.decay);
            let (average, decay) = (self.average_of(&param), decay.cast(param.ty().dtype));
            g.assign(&average, decay * g.param(&average) + (1.0 - decay) * new);
        }
    }

    fn buffers(&self) -> Vec<Param> {
        let buffers = self.buffers.lock();
        buffers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Copies the averages to the weights, and to the buffers that are averaged: usually to all
    /// [`parameters`](crate::Module::parameters) of a model. Call it after the training.
    pub fn copy_to(&self, params: &[(String, Param)]) -> Result<()> {
        let kept = |(_, param): &(String, Param)| self.average_if_kept(param);
        let averages: Vec<Option<Param>> = params.iter().map(kept).collect();
        let values = Param::values(averages.iter().flatten());
        let averaged = params.iter().zip(&averages).filter(|(_, a)| a.is_some());
        let averaged = averaged.map(|((_, param), _)| param);
        Ok(Param::set_all(averaged.zip(values))?)
    }

    /// The average of a parameter, or of a buffer that is averaged, too.
    fn average_if_kept(&self, param: &Param) -> Option<Param> {
        match param.is_trained() {
            true => Some(self.average_of(param)),
            false => self.state.existing(param, "average"),
        }
    }
}

/// Whether a parameter is a buffer of numbers, of which an average makes sense.
fn is_buffer(param: &Param) -> bool {
    param.is_buffer() && param.ty().dtype.is_float()
}

impl<O: Optimizer> Optimizer for Ema<O> {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, lr_scale: f64) {
        let Some(first) = gradients.first() else {
            return;
        };
        let g = first.weight.graph();
        let params: Vec<Param> = gradients.iter().map(|d| d.param.clone()).collect();
        self.inner.update(gradients, lr_scale);
        self.average(g, params.into_iter().chain(self.buffers()));
    }

    #[track_caller]
    fn flush(&self, g: &Graph, params: &[(String, Param)], lr_scale: f64) -> bool {
        let is_any = self.inner.flush(g, params, lr_scale);
        let trained = params.iter().filter(|(_, param)| param.is_trained());
        self.average(g, trained.map(|(_, param)| param.clone()));
        is_any
    }

    fn learning_rate(&self) -> Option<f64> {
        self.inner.learning_rate()
    }

    fn averages(&self, params: &[(String, Param)]) -> Option<Weights> {
        let average = |(_, param): &(String, Param)| self.average_if_kept(param);
        let of = params.iter().map(|p| average(p).unwrap_or(p.1.clone()));
        let values = Param::values(&of.collect::<Vec<Param>>());
        Some(Weights::from_values(params, values))
    }

    fn check(&self) -> Result<()> {
        check(&[], &[("EMA decay", self.decay)])?;
        self.inner.check()
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        let buffers = params
            .iter()
            .map(|(_, param)| param)
            .filter(|p| is_buffer(p));
        let mut known = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        *known = buffers.cloned().collect();
        drop(known);
        let mut state = Vec::new();
        for (path, param) in params
            .iter()
            .filter(|(_, p)| p.is_trained() || is_buffer(p))
        {
            state.push((format!("average.{path}"), self.average_of(param)));
            state.push((format!("updates.{path}"), self.state.steps_of(param)));
        }
        state.extend(self.inner.state(params)?);
        Ok(state)
    }
}
