//! RMSProp.

use super::{Gradient, Optimizer, check, memory::Memory};
use crate::error::Result;
use autograd::Param;

/// RMSProp (Tieleman and Hinton 2012), as PyTorch defines it:
///
/// `d ← ∂loss/∂w + decay·w`, `v ← α·v + (1 - α)·d²`, `s ← d / (√v + ε)`; `w ← w - rate·s`, or with momentum
/// `b ← momentum·b + s`, `w ← w - rate·b`
pub struct RmsProp {
    rate: f64,
    alpha: f64,
    epsilon: f64,
    momentum: f64,
    weight_decay: f64,
    memory: Memory,
}

impl RmsProp {
    /// With this learning rate, `α = 0.99`, `ε = 1e-8`, without momentum and weight decay.
    pub fn new(rate: f64) -> RmsProp {
        RmsProp {
            rate,
            alpha: 0.99,
            epsilon: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
            memory: Memory::default(),
        }
    }

    /// The share of the mean square that is kept.
    pub fn alpha(mut self, alpha: f64) -> RmsProp {
        self.alpha = alpha;
        self
    }

    /// What is added to the root of the mean square.
    pub fn epsilon(mut self, epsilon: f64) -> RmsProp {
        self.epsilon = epsilon;
        self
    }

    /// The share of the last step that is kept.
    pub fn momentum(mut self, momentum: f64) -> RmsProp {
        self.momentum = momentum;
        self
    }

    /// Adds this multiple of the weights to their gradients.
    pub fn weight_decay(mut self, decay: f64) -> RmsProp {
        self.weight_decay = decay;
        self
    }
}

impl Optimizer for RmsProp {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, scale: f64) {
        let Some(first) = gradients.first() else {
            return;
        };
        let g = first.weight.graph();
        let _scope = g.scope("rmsprop");
        for Gradient {
            param,
            weight: w,
            gradient: mut d,
        } in gradients
        {
            let Some([square, velocity]) = self.memory.of(&param, w, ["square", "velocity"]) else {
                continue;
            };
            if self.weight_decay != 0.0 {
                d += self.weight_decay * w;
            }
            let v = self.alpha * g.param(&square) + (1.0 - self.alpha) * d.square();
            g.assign(&square, v);
            let mut step = d / (v.sqrt() + self.epsilon);
            if self.momentum != 0.0 {
                step += self.momentum * g.param(&velocity);
                g.assign(&velocity, step);
            }
            g.assign(&param, w - (scale * self.rate) * step);
        }
    }

    fn check(&self) -> Result<()> {
        check(
            &[
                ("learning rate", self.rate),
                ("epsilon", self.epsilon),
                ("momentum", self.momentum),
                ("weight decay", self.weight_decay),
            ],
            &[("share alpha", self.alpha)],
        )
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        let names: &[&str] = if self.momentum == 0.0 {
            &["square"]
        } else {
            &["square", "velocity"]
        };
        self.memory.state(params, names, false)
    }
}
