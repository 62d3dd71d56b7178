//! Stochastic gradient descent.

use super::{Gradient, Optimizer, check, memory::Memory};
use crate::error::Result;
use autograd::Param;

/// Stochastic gradient descent with momentum and weight decay, as PyTorch defines it:
///
/// `d ← ∂loss/∂w + decay·w`, `v ← momentum·v + d` (starting from 0), `w ← w - rate·v`; with Nesterov's momentum
/// `w ← w - rate·(d + momentum·v)`
pub struct Sgd {
    rate: f64,
    momentum: f64,
    weight_decay: f64,
    nesterov: bool,
    memory: Memory,
}

impl Sgd {
    /// With this learning rate, without momentum.
    pub fn new(rate: f64) -> Sgd {
        Sgd {
            rate,
            momentum: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            memory: Memory::default(),
        }
    }

    /// The share of the last step's velocity that is kept.
    pub fn momentum(mut self, momentum: f64) -> Sgd {
        self.momentum = momentum;
        self
    }

    /// Looks ahead along the velocity (Nesterov's momentum).
    pub fn nesterov(mut self) -> Sgd {
        self.nesterov = true;
        self
    }

    /// Adds this multiple of the weights to their gradients.
    pub fn weight_decay(mut self, decay: f64) -> Sgd {
        self.weight_decay = decay;
        self
    }
}

impl Optimizer for Sgd {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, scale: f64) {
        let Some(first) = gradients.first() else {
            return;
        };
        let g = first.weight.graph();
        let _scope = g.scope("sgd");
        for Gradient {
            param,
            weight: w,
            gradient: mut d,
        } in gradients
        {
            if self.weight_decay != 0.0 {
                d += self.weight_decay * w;
            }
            if self.momentum != 0.0 {
                let Some([velocity]) = self.memory.of(&param, w, ["velocity"]) else {
                    continue;
                };
                let v = self.momentum * g.param(&velocity) + d;
                g.assign(&velocity, v);
                d = if self.nesterov {
                    d + self.momentum * v
                } else {
                    v
                };
            }
            g.assign(&param, w - (scale * self.rate) * d);
        }
    }

    fn check(&self) -> Result<()> {
        check(
            &[
                ("learning rate", self.rate),
                ("momentum", self.momentum),
                ("weight decay", self.weight_decay),
            ],
            &[],
        )
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        self.memory.state(
            params,
            if self.momentum == 0.0 {
                &[]
            } else {
                &["velocity"]
            },
            false,
        )
    }
}
