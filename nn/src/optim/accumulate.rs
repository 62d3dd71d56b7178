//! Gradients of several steps, one update.

use super::{Gradient, Optimizer, memory::Memory};
use crate::error::{Error, Result};
use autograd::Param;

/// An optimizer that updates at every n-th step: see [`Optimizer::accumulate`].
pub struct Accumulate<O> {
    inner: O,
    steps: usize,
    memory: Memory,
}

impl<O> Accumulate<O> {
    pub(super) fn new(inner: O, steps: usize) -> Accumulate<O> {
        Accumulate {
            inner,
            steps,
            memory: Memory::default(),
        }
    }

    /// The optimizer inside.
    pub fn inner(&self) -> &O {
        &self.inner
    }
}

impl<O: Optimizer> Optimizer for Accumulate<O> {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, scale: f64) {
        let Some(first) = gradients.first() else {
            return;
        };
        let g = first.weight.graph();
        // the count is a parameter like others: a step that fails does not count
        let counter = self.memory.counter();
        let count = counter.value().scalar().unwrap_or(0.0) as usize;
        let is_last = (count + 1).is_multiple_of(self.steps);
        let scope = g.scope("accumulate");
        g.assign(&counter, g.param(&counter) + 1);
        let mut means = Vec::with_capacity(gradients.len());
        for mut d in gradients {
            let Some([buffer]) = self.memory.of(&d.param, d.weight, ["sum"]) else {
                continue;
            };
            let sum = g.param(&buffer) + d.gradient;
            g.assign(&buffer, if is_last { sum.zeros_like() } else { sum });
            d.gradient = sum / self.steps;
            means.push(d);
        }
        drop(scope);
        if is_last {
            self.inner.update(means, scale);
        }
    }

    fn check(&self) -> Result<()> {
        if self.steps > 0 {
            return self.inner.check();
        }
        Err(Error::invalid("gradients of 0 steps cannot be accumulated"))
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        let own = self.memory.state(params, &["sum"], true)?;
        let own = own
            .into_iter()
            .map(|(name, p)| (format!("accumulated.{name}"), p));
        Ok(own.chain(self.inner.state(params)?).collect())
    }
}
