//! Limits for gradients.

use super::{Gradient, Optimizer};
use crate::error::{Error, Result};
use autograd::Param;

/// An optimizer whose gradients are limited first: see [`Optimizer::clip_norm`] and [`Optimizer::clip_value`].
pub struct Clip<O> {
    inner: O,
    limit: f64,
    by_norm: bool,
}

impl<O> Clip<O> {
    pub(super) fn norm(inner: O, limit: f64) -> Clip<O> {
        Clip {
            inner,
            limit,
            by_norm: true,
        }
    }

    pub(super) fn value(inner: O, limit: f64) -> Clip<O> {
        Clip {
            inner,
            limit,
            by_norm: false,
        }
    }

    /// The optimizer inside.
    pub fn inner(&self) -> &O {
        &self.inner
    }
}

impl<O: Optimizer> Optimizer for Clip<O> {
    #[track_caller]
    fn update(&self, mut gradients: Vec<Gradient<'_>>, scale: f64) {
        let squares = gradients.iter().map(|d| d.gradient.square().sum());
        let Some(total) = squares.reduce(|a, b| a + b) else {
            return;
        };
        let g = total.graph();
        let scope = g.scope("clip");
        // a norm of 0 gives ∞, of which the minimum with 1 is 1
        let factor = (self.limit / total.sqrt()).minimum(1.0);
        for d in &mut gradients {
            d.gradient = match self.by_norm {
                true => d.gradient * factor,
                false => d.gradient.clamp(-self.limit, self.limit),
            };
        }
        drop(scope);
        self.inner.update(gradients, scale);
    }

    fn check(&self) -> Result<()> {
        if self.limit > 0.0 {
            return self.inner.check();
        }
        Err(Error::invalid(format!(
            "gradients cannot be clipped to {}",
            self.limit
        )))
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        self.inner.state(params)
    }
}
