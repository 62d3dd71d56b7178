//! Adam and AdamW.

use super::{Gradient, Optimizer, check, memory::Memory};
use crate::error::Result;
use autograd::Param;

/// Adam (Kingma and Ba 2015), and AdamW (Loshchilov and Hutter 2019), as PyTorch defines them. In step `t`, counted from 1:
///
/// `d ← ∂loss/∂w + decay·w` (Adam), or `w ← w - rate·decay·w` first (AdamW); `m ← β₁·m + (1 - β₁)·d`,
/// `v ← β₂·v + (1 - β₂)·d²`; `w ← w - rate·(m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)`
pub struct Adam {
    rate: f64,
    betas: (f64, f64),
    epsilon: f64,
    weight_decay: f64,
    decoupled: bool,
    memory: Memory,
}

/// [`Adam`] with a weight decay that does not go through the moments.
pub struct AdamW;

impl AdamW {
    /// With this learning rate and a decay of 0.01.
    #[allow(clippy::new_ret_no_self)] // one struct for both: only one line differs
    pub fn new(rate: f64) -> Adam {
        Adam {
            decoupled: true,
            weight_decay: 0.01,
            ..Adam::new(rate)
        }
    }
}

impl Adam {
    /// With this learning rate, `β₁ = 0.9`, `β₂ = 0.999`, `ε = 1e-8`, without weight decay.
    pub fn new(rate: f64) -> Adam {
        Adam {
            rate,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            memory: Memory::default(),
        }
    }

    /// The shares of the moments that are kept.
    pub fn betas(mut self, first: f64, second: f64) -> Adam {
        self.betas = (first, second);
        self
    }

    /// What is added to the root of the second moment.
    pub fn epsilon(mut self, epsilon: f64) -> Adam {
        self.epsilon = epsilon;
        self
    }

    /// How much the weights are drawn to 0.
    pub fn weight_decay(mut self, decay: f64) -> Adam {
        self.weight_decay = decay;
        self
    }
}

impl Optimizer for Adam {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, scale: f64) {
        let Some(first) = gradients.first() else {
            return;
        };
        let g = first.weight.graph();
        let _scope = g.scope("adam");
        let t = self.memory.count(g);
        let rate = scale * self.rate;
        let (b1, b2) = self.betas;
        // numbers of f64, whatever the weights are
        let correct = |beta: f64| {
            if beta == 0.0 {
                t * 0.0 + 1.0
            } else {
                1.0 - (t * beta.ln()).exp()
            }
        };
        let (length, root) = (rate / correct(b1), correct(b2).sqrt());
        for Gradient {
            param,
            weight: mut w,
            gradient: mut d,
        } in gradients
        {
            let Some([mean, square]) = self.memory.of(&param, w, ["mean", "square"]) else {
                continue;
            };
            let dtype = param.ty().dtype;
            if self.weight_decay != 0.0 {
                match self.decoupled {
                    true => w *= 1.0 - rate * self.weight_decay,
                    false => d += self.weight_decay * w,
                }
            }
            let m = b1 * g.param(&mean) + (1.0 - b1) * d;
            let v = b2 * g.param(&square) + (1.0 - b2) * d.square();
            g.assign(&mean, m);
            g.assign(&square, v);
            g.assign(
                &param,
                w - length.cast(dtype) * m / (v.sqrt() / root.cast(dtype) + self.epsilon),
            );
        }
    }

    fn check(&self) -> Result<()> {
        check(
            &[
                ("learning rate", self.rate),
                ("epsilon", self.epsilon),
                ("weight decay", self.weight_decay),
            ],
            &[("first beta", self.betas.0), ("second beta", self.betas.1)],
        )
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        self.memory.state(params, &["mean", "square"], true)
    }
}
