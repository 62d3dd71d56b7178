//! Gradient clipping.

use super::{Gradient, Optimizer};
use crate::{
    error::{Error, Result},
    weights::Weights,
};
use autograd::{DType, Graph, Param};

/// An optimizer with gradient clipping: see [`Optimizer::clip_norm`] and [`Optimizer::clip_value`].
pub struct Clip<O> {
    inner: O,
    max: f64,
    by_norm: bool,
}

impl<O> Clip<O> {
    pub(super) fn norm(inner: O, max: f64) -> Clip<O> {
        Clip {
            inner,
            max,
            by_norm: true,
        }
    }

    pub(super) fn value(inner: O, max: f64) -> Clip<O> {
        Clip {
            inner,
            max,
            by_norm: false,
        }
    }

    /// The inner optimizer.
    pub fn inner(&self) -> &O {
        &self.inner
    }
}

impl<O: Optimizer> Optimizer for Clip<O> {
    #[track_caller]
    fn update(&self, mut gradients: Vec<Gradient<'_>>, lr_scale: f64) {
        // parameters of f32 and f64 have one norm
        let dtype = match gradients.iter().any(|d| d.param.ty().dtype == DType::F64) {
            true => DType::F64,
            false => DType::F32,
        };
        let squares = gradients
            .iter()
            .map(|d| d.gradient.square().sum().cast(dtype));
        let Some(squared_norm) = squares.reduce(|a, b| a + b) else {
            return;
        };
        let g = squared_norm.graph();
        let scope = g.scope("clip");
        // with a norm of 0 the quotient is ∞, and the factor 1
        let factor = (self.max / squared_norm.sqrt()).minimum(1.0);
        for d in &mut gradients {
            d.gradient = match self.by_norm {
                true => d.gradient * factor.cast(d.param.ty().dtype),
                false => d.gradient.clamp(-self.max, self.max),
            };
        }
        drop(scope);
        self.inner.update(gradients, lr_scale);
    }

    #[track_caller]
    fn flush(&self, g: &Graph, params: &[(String, Param)], lr_scale: f64) -> bool {
        self.inner.flush(g, params, lr_scale) // of gradients that were clipped one by one
    }

    fn learning_rate(&self) -> Option<f64> {
        self.inner.learning_rate()
    }

    fn averages(&self, params: &[(String, Param)]) -> Option<Weights> {
        self.inner.averages(params)
    }

    fn check(&self) -> Result<()> {
        if self.max > 0.0 {
            return self.inner.check();
        }
        Err(Error::invalid(format!(
            "expected a positive clipping threshold, got {}",
            self.max
        )))
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        self.inner.state(params)
    }
}
