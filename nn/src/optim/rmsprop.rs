//! RMSProp.

use super::{
    Gradient, Optimizer, check,
    state::{OptimizerState, Steps},
};
use crate::error::Result;
use autograd::Param;

/// RMSProp (Tieleman and Hinton 2012), as PyTorch defines it:
///
/// - weight decay: `d ← ∂loss/∂w + decay·w`;
/// - mean square: `v ← α·v + (1 - α)·d²`, and `s ← d / (√v + ε)`;
/// - update: `w ← w - lr·s`, or with momentum `b ← momentum·b + s` and `w ← w - lr·b`.
pub struct RmsProp {
    lr: f64,
    alpha: f64,
    epsilon: f64,
    momentum: f64,
    weight_decay: f64,
    state: OptimizerState,
}

impl RmsProp {
    /// `lr`: the learning rate. The defaults are `α = 0.99`, `ε = 1e-8`, no momentum and no weight
    /// decay.
    pub fn new(lr: f64) -> RmsProp {
        RmsProp {
            lr,
            alpha: 0.99,
            epsilon: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
            state: OptimizerState::default(),
        }
    }

    /// The decay rate of the mean square.
    pub fn alpha(mut self, alpha: f64) -> RmsProp {
        self.alpha = alpha;
        self
    }

    /// The number that is added to the denominator for numerical stability.
    pub fn epsilon(mut self, epsilon: f64) -> RmsProp {
        self.epsilon = epsilon;
        self
    }

    /// The momentum.
    pub fn momentum(mut self, momentum: f64) -> RmsProp {
        self.momentum = momentum;
        self
    }

    /// The weight decay (L2 penalty).
    pub fn weight_decay(mut self, decay: f64) -> RmsProp {
        self.weight_decay = decay;
        self
    }
}

impl Optimizer for RmsProp {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, lr_scale: f64) {
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
            let Some([square, velocity]) = self.state.buffers(&param, w, ["square", "velocity"])
            else {
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
            g.assign(&param, w - (lr_scale * self.lr) * step);
        }
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn check(&self) -> Result<()> {
        check(
            &[
                ("learning rate", self.lr),
                ("epsilon", self.epsilon),
                ("momentum", self.momentum),
                ("weight decay", self.weight_decay),
            ],
            &[("alpha", self.alpha)],
        )
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        let names: &[&str] = if self.momentum == 0.0 {
            &["square"]
        } else {
            &["square", "velocity"]
        };
        self.state.named_buffers(params, names, Steps::None)
    }
}
