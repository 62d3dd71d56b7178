//! Moving averages of weights.

use super::{Gradient, Optimizer, check, memory::Memory};
use crate::error::Result;
use autograd::Param;
use std::convert::Infallible;

/// An optimizer beside which the average of the weights is kept: see [`Optimizer::average`].
pub struct Averaged<O> {
    inner: O,
    decay: f64,
    memory: Memory,
}

impl<O> Averaged<O> {
    pub(super) fn new(inner: O, decay: f64) -> Averaged<O> {
        Averaged {
            inner,
            decay,
            memory: Memory::default(),
        }
    }

    /// The optimizer inside.
    pub fn inner(&self) -> &O {
        &self.inner
    }

    /// The average of a parameter's values; its value if it has not been updated yet.
    fn of(&self, param: &Param) -> Param {
        let Ok(average) = self
            .memory
            .made(param, "average", || Ok::<_, Infallible>(param.value()));
        average
    }

    /// Puts the averages in the place of the weights: of a model's [`parameters`](crate::Module::parameters), for example.
    pub fn store(&self, params: &[(String, Param)]) -> Result<()> {
        let mut trained = params.iter().filter(|(_, p)| p.is_trained());
        trained.try_for_each(|(_, param)| Ok(param.set(self.of(param).value())?))
    }
}

impl<O: Optimizer> Optimizer for Averaged<O> {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, scale: f64) {
        let Some(first) = gradients.first() else {
            return;
        };
        let g = first.weight.graph();
        let params: Vec<Param> = gradients.iter().map(|d| d.param.clone()).collect();
        self.inner.update(gradients, scale);
        let _scope = g.scope("average");
        for param in params {
            // where nothing is updated in this step, the average stays
            let Some(new) = g.scheduled(&param) else {
                continue;
            };
            let average = self.of(&param);
            g.assign(
                &average,
                self.decay * g.param(&average) + (1.0 - self.decay) * new,
            );
        }
    }

    fn check(&self) -> Result<()> {
        check(&[], &[("decay of the average", self.decay)])?;
        self.inner.check()
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        let trained = params.iter().filter(|(_, p)| p.is_trained());
        let own = trained.map(|(path, p)| (format!("average.{path}"), self.of(p)));
        Ok(own.chain(self.inner.state(params)?).collect())
    }
}
