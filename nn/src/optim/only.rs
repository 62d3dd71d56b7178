//! Optimizers for some parameters only.

use super::{Gradient, Optimizer};
use crate::error::{Error, Result};
use autograd::{Graph, Param};
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
