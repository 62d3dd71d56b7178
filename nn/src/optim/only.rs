//! Optimizers for some parameters only.

use super::{Gradient, Optimizer};
use crate::{
    error::{Error, Result},
    weights::Weights,
};
use autograd::{Graph, Param, Tensor};
use std::collections::HashMap;

/// An optimizer that updates some parameters only: see [`Optimizer::only`].
pub struct Only<O> {
    inner: O,
    /// By id. Holding the parameters ensures that their ids are not reused.
    params: HashMap<usize, Param>,
}

impl<O> Only<O> {
    pub(super) fn new(inner: O, params: &[(String, Param)]) -> Only<O> {
        let params = params.iter().map(|(_, param)| (param.id(), param.clone()));
        Only {
            inner,
            params: params.collect(),
        }
    }

    /// The inner optimizer.
    pub fn inner(&self) -> &O {
        &self.inner
    }

    /// Those of the parameters that it updates.
    fn chosen(&self, params: &[(String, Param)]) -> Vec<(String, Param)> {
        let chosen = params.iter().filter(|(_, p)| self.is_chosen(p));
        chosen.cloned().collect()
    }

    fn is_chosen(&self, param: &Param) -> bool {
        self.params.contains_key(&param.id())
    }
}

impl<O: Optimizer> Optimizer for Only<O> {
    #[track_caller]
    fn update(&self, mut gradients: Vec<Gradient<'_>>, lr_scale: f64) {
        gradients.retain(|d| self.is_chosen(&d.param));
        self.inner.update(gradients, lr_scale);
    }

    #[track_caller]
    fn flush(&self, g: &Graph, params: &[(String, Param)], lr_scale: f64) -> bool {
        self.inner.flush(g, &self.chosen(params), lr_scale)
    }

    fn learning_rate(&self) -> Option<f64> {
        self.inner.learning_rate()
    }

    /// Of the others, the values that they have now.
    fn averages(&self, params: &[(String, Param)]) -> Option<Weights> {
        let averages = self.inner.averages(&self.chosen(params))?;
        let averages: HashMap<&str, &Tensor> = averages.iter().collect();
        let now = Param::values(params.iter().map(|(_, param)| param));
        let values = params.iter().zip(now);
        let values =
            values.map(|((path, _), now)| averages.get(&path[..]).copied().cloned().unwrap_or(now));
        Some(Weights::from_values(params, values.collect()))
    }

    fn check(&self) -> Result<()> {
        if self.params.is_empty() {
            return Err(Error::invalid("there are no parameters to optimize"));
        }
        self.inner.check()
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        self.inner.state(&self.chosen(params))
    }
}
