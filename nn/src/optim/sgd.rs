//! Stochastic gradient descent.

use super::{
    Gradient, Optimizer, check,
    state::{OptimizerState, Steps},
};
use crate::error::{Error, Result};
use autograd::Param;

/// Stochastic gradient descent with momentum and weight decay, as PyTorch defines it:
///
/// - weight decay: `d ← ∂loss/∂w + decay·w`;
/// - velocity, initially 0: `v ← momentum·v + d`;
/// - update: `w ← w - lr·v`, or with Nesterov momentum `w ← w - lr·(d + momentum·v)`.
#[doc(alias = "SGD")]
pub struct Sgd {
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    nesterov: bool,
    state: OptimizerState,
}

impl Sgd {
    /// `lr`: the learning rate. By default, there is no momentum and no weight decay.
    pub fn new(lr: f64) -> Sgd {
        Sgd {
            lr,
            momentum: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            state: OptimizerState::default(),
        }
    }

    /// The momentum.
    pub fn momentum(mut self, momentum: f64) -> Sgd {
        self.momentum = momentum;
        self
    }

    /// Uses Nesterov momentum.
    pub fn nesterov(mut self) -> Sgd {
        self.nesterov = true;
        self
    }

    /// The weight decay (L2 penalty).
    pub fn weight_decay(mut self, decay: f64) -> Sgd {
        self.weight_decay = decay;
        self
    }
}

impl Optimizer for Sgd {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, lr_scale: f64) {
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
                let Some([velocity]) = self.state.buffers(&param, w, ["velocity"]) else {
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
            g.assign(&param, w - (lr_scale * self.lr) * d);
        }
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn check(&self) -> Result<()> {
        if self.nesterov && self.momentum == 0.0 {
            let message = "Nesterov momentum needs a momentum above 0";
            return Err(Error::invalid(message));
        }
        check(
            &[
                ("learning rate", self.lr),
                ("momentum", self.momentum),
                ("weight decay", self.weight_decay),
            ],
            &[],
        )
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        self.state.named_buffers(
            params,
            if self.momentum == 0.0 {
                &[]
            } else {
                &["velocity"]
            },
            Steps::None,
        )
    }
}
