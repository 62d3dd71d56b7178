//! Exponential moving averages of weights.

use super::{Gradient, Optimizer, check, state::OptimizerState};
use crate::error::Result;
use autograd::Param;
use std::convert::Infallible;

/// An optimizer that also maintains an exponential moving average (EMA) of the weights: see
/// [`Optimizer::ema`].
pub struct Ema<O> {
    inner: O,
    decay: f64,
    state: OptimizerState,
}

impl<O> Ema<O> {
    pub(super) fn new(inner: O, decay: f64) -> Ema<O> {
        Ema {
            inner,
            decay,
            state: OptimizerState::default(),
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

    /// Copies the averages to the weights, usually to all
    /// [`parameters`](crate::Module::parameters) of a model. Call it after the training.
    pub fn copy_to(&self, params: &[(String, Param)]) -> Result<()> {
        let mut trained = params.iter().filter(|(_, p)| p.is_trained());
        trained.try_for_each(|(_, param)| Ok(param.set(self.average_of(param).value())?))
    }
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
        let _scope = g.scope("average");
        for param in params {
            // gradient accumulation does not update the weights in every step
            let Some(new_weight) = g.scheduled(&param) else {
                continue;
            };
            let average = self.average_of(&param);
            g.assign(
                &average,
                self.decay * g.param(&average) + (1.0 - self.decay) * new_weight,
            );
        }
    }

    fn check(&self) -> Result<()> {
        check(&[], &[("EMA decay", self.decay)])?;
        self.inner.check()
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        let trained = params.iter().filter(|(_, p)| p.is_trained());
        let averages = trained.map(|(path, p)| (format!("average.{path}"), self.average_of(p)));
        Ok(averages.chain(self.inner.state(params)?).collect())
    }
}
