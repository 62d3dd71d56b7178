//! Adam and AdamW.

use super::{
    Gradient, Optimizer, check,
    state::{OptimizerState, Steps},
};
use crate::error::Result;
use autograd::{Param, Var};

/// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), as PyTorch defines them.
///
/// Step `t` of a weight `w` with the gradient `d = ∂loss/∂w`, counted from 1, for each weight by
/// itself: one that joins later, such as that of a layer that was frozen, begins with 1:
///
/// - weight decay: `d ← d + decay·w` (Adam) or `w ← w - lr·decay·w` (AdamW);
/// - moments: `m ← β₁·m + (1 - β₁)·d` and `v ← β₂·v + (1 - β₂)·d²`;
/// - update: `w ← w - lr·(m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)`.
pub struct Adam {
    lr: f64,
    betas: (f64, f64),
    epsilon: f64,
    weight_decay: f64,
    decoupled: bool,
    state: OptimizerState,
}

/// [`Adam`] with decoupled weight decay.
pub struct AdamW;

impl AdamW {
    /// `lr`: the learning rate. The default weight decay is 0.01.
    #[allow(clippy::new_ret_no_self)] // one struct for both, since they differ in one line
    pub fn new(lr: f64) -> Adam {
        Adam {
            decoupled: true,
            weight_decay: 0.01,
            ..Adam::new(lr)
        }
    }
}

impl Adam {
    /// `lr`: the learning rate. The defaults are `β₁ = 0.9`, `β₂ = 0.999`, `ε = 1e-8` and no weight
    /// decay.
    pub fn new(lr: f64) -> Adam {
        Adam {
            lr,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            state: OptimizerState::default(),
        }
    }

    /// The decay rates of the first and the second moment.
    pub fn betas(mut self, first: f64, second: f64) -> Adam {
        self.betas = (first, second);
        self
    }

    /// The number that is added to the denominator for numerical stability.
    pub fn epsilon(mut self, epsilon: f64) -> Adam {
        self.epsilon = epsilon;
        self
    }

    /// The weight decay.
    pub fn weight_decay(mut self, decay: f64) -> Adam {
        self.weight_decay = decay;
        self
    }
}

/// `1 - βᵗ`
fn bias_correction(t: Var<'_>, beta: f64) -> Var<'_> {
    match beta {
        0.0 => t * 0.0 + 1.0,
        _ => 1.0 - (t * beta.ln()).exp(),
    }
}

impl Optimizer for Adam {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, lr_scale: f64) {
        let Some(first) = gradients.first() else {
            return;
        };
        let g = first.weight.graph();
        let _scope = g.scope("adam");
        let lr = lr_scale * self.lr;
        let (b1, b2) = self.betas;
        for Gradient {
            param,
            weight: mut w,
            gradient: mut d,
        } in gradients
        {
            let Some([m_buffer, v_buffer]) = self.state.buffers(&param, w, ["mean", "square"])
            else {
                continue;
            };
            // in f64 even for f32 weights, since `1 - βᵗ` is small in the first steps
            let t = self.state.next_step(g, &param);
            let step_size = lr / bias_correction(t, b1);
            let second_correction = bias_correction(t, b2).sqrt();
            let dtype = param.ty().dtype;
            if self.weight_decay != 0.0 {
                match self.decoupled {
                    true => w *= 1.0 - lr * self.weight_decay,
                    false => d += self.weight_decay * w,
                }
            }
            let m = b1 * g.param(&m_buffer) + (1.0 - b1) * d;
            let v = b2 * g.param(&v_buffer) + (1.0 - b2) * d.square();
            g.assign(&m_buffer, m);
            g.assign(&v_buffer, v);
            g.assign(
                &param,
                w - step_size.cast(dtype) * m
                    / (v.sqrt() / second_correction.cast(dtype) + self.epsilon),
            );
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
                ("weight decay", self.weight_decay),
            ],
            &[("beta1", self.betas.0), ("beta2", self.betas.1)],
        )
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        self.state
            .named_buffers(params, &["mean", "square"], Steps::OfEach)
    }
}
