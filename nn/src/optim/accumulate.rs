//! Gradient accumulation.

use super::{
    Gradient, Optimizer,
    state::{OptimizerState, Steps},
};
use crate::{
    error::{Error, Result},
    weights::Weights,
};
use autograd::{Graph, Param};

/// An optimizer with gradient accumulation: see [`Optimizer::accumulate`].
pub struct Accumulate<O> {
    inner: O,
    steps: usize,
    state: OptimizerState,
}

impl<O> Accumulate<O> {
    pub(super) fn new(inner: O, steps: usize) -> Accumulate<O> {
        Accumulate {
            inner,
            steps,
            state: OptimizerState::default(),
        }
    }

    /// The inner optimizer.
    pub fn inner(&self) -> &O {
        &self.inner
    }
}

impl<O: Optimizer> Optimizer for Accumulate<O> {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, lr_scale: f64) {
        let Some(first) = gradients.first() else {
            return;
        };
        let g = first.weight.graph();
        if g.is_compiled() {
            let message = "gradient accumulation decides anew in each step: it cannot be compiled";
            return g.assign(&first.param, first.weight.fail(message));
        }
        // the counter is a buffer that the graph updates, so a failed step does not count
        let step_counter = self.state.step_counter();
        let completed = step_counter.value().scalar().unwrap_or(0.0) as usize;
        let is_last = (completed + 1).is_multiple_of(self.steps);
        let scope = g.scope("accumulate");
        g.assign(&step_counter, g.param(&step_counter) + 1);
        let mut means = Vec::with_capacity(gradients.len());
        for mut d in gradients {
            let Some([buffer]) = self.state.buffers(&d.param, d.weight, ["sum"]) else {
                continue;
            };
            let sum = g.param(&buffer) + d.gradient;
            g.assign(&buffer, if is_last { sum.zeros_like() } else { sum });
            d.gradient = sum / self.steps;
            means.push(d);
        }
        drop(scope);
        if is_last {
            self.inner.update(means, lr_scale);
        }
    }

    #[track_caller]
    fn flush(&self, g: &Graph, params: &[(String, Param)], lr_scale: f64) -> bool {
        let step_counter = self.state.step_counter();
        let completed = step_counter.value().scalar().unwrap_or(0.0) as usize;
        let pending = completed % self.steps;
        if pending == 0 {
            return self.inner.flush(g, params, lr_scale);
        }
        let scope = g.scope("accumulate");
        // the next group begins
        let left = (self.steps - pending) as i64;
        g.assign(&step_counter, g.param(&step_counter) + left);
        let mut means = Vec::new();
        for (_, param) in params.iter().filter(|(_, param)| param.is_trained()) {
            let Some(buffer) = self.state.existing(param, "sum") else {
                continue;
            };
            let sum = g.param(&buffer);
            g.assign(&buffer, sum.zeros_like());
            means.push(Gradient {
                param: param.clone(),
                weight: g.param(param),
                gradient: sum / pending,
            });
        }
        drop(scope);
        self.inner.update(means, lr_scale);
        true
    }

    fn learning_rate(&self) -> Option<f64> {
        self.inner.learning_rate()
    }

    fn averages(&self, params: &[(String, Param)]) -> Option<Weights> {
        self.inner.averages(params)
    }

    fn check(&self) -> Result<()> {
        if self.steps > 0 {
            return self.inner.check();
        }
        Err(Error::invalid(
            "expected at least 1 step of gradient accumulation, got 0",
        ))
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        let buffers = self.state.named_buffers(params, &["sum"], Steps::OfAll)?;
        let buffers = buffers
            .into_iter()
            .map(|(name, p)| (format!("accumulated.{name}"), p));
        Ok(buffers.chain(self.inner.state(params)?).collect())
    }
}
