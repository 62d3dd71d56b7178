//! Stochastic gradient descent.

use crate::{
    error::{Error, Result},
    optim::{Gradient, Optimizer, clip_by_norm},
};
use autograd::{Param, Tensor};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Stochastic gradient descent with momentum and weight decay, as PyTorch defines it:
///
/// `d ← ∂loss/∂w + decay·w`, `v ← momentum·v + d` (starting from 0), `w ← w - rate·v`; with Nesterov's momentum
/// `w ← w - rate·(d + momentum·v)`
pub struct Sgd {
    rate: f64,
    momentum: f64,
    weight_decay: f64,
    nesterov: bool,
    clip_norm: Option<f64>,
    /// By parameter: the parameter itself (so that its id stays its own) and its velocity.
    velocities: Mutex<HashMap<usize, (Param, Param)>>,
}

impl Sgd {
    /// With this learning rate, without momentum.
    pub fn new(rate: f64) -> Sgd {
        Sgd { rate, momentum: 0.0, weight_decay: 0.0, nesterov: false, clip_norm: None, velocities: Mutex::default() }
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

    /// Scales all gradients down together so that their norm is at most this, before anything else is done with them.
    pub fn clip_norm(mut self, limit: f64) -> Sgd {
        self.clip_norm = Some(limit);
        self
    }

    /// Adds this multiple of the weights to their gradients.
    pub fn weight_decay(mut self, decay: f64) -> Sgd {
        self.weight_decay = decay;
        self
    }

    /// The velocity of a parameter: zeros at first. `None` if there is no memory for it.
    fn velocity(&self, param: &Param) -> Option<Param> {
        let mut velocities = self.velocities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, velocity)) = velocities.get(&param.id()) {
            return Some(velocity.clone());
        }
        let zeros = Tensor::zeros(param.ty().shape, param.ty().dtype).ok()?;
        let velocity = Param::buffer(zeros);
        velocities.insert(param.id(), (param.clone(), velocity.clone()));
        Some(velocity)
    }
}

impl Optimizer for Sgd {
    #[track_caller]
    fn update(&self, mut gradients: Vec<Gradient<'_>>, scale: f64) {
        let Some(first) = gradients.first() else { return };
        let g = first.weight.graph();
        let _scope = g.scope("sgd");
        if let Some(limit) = self.clip_norm {
            clip_by_norm(g, &mut gradients, limit);
        }
        for Gradient { param, weight: w, gradient: mut d } in gradients {
            if self.weight_decay != 0.0 {
                d += self.weight_decay * w;
            }
            if self.momentum != 0.0 {
                let Some(velocity) = self.velocity(&param) else {
                    g.assign(&param, w.fail("there is no memory for the velocity of a parameter"));
                    continue;
                };
                let v = self.momentum * g.param(&velocity) + d;
                g.assign(&velocity, v);
                d = if self.nesterov { d + self.momentum * v } else { v };
            }
            g.assign(&param, w - (scale * self.rate) * d);
        }
    }

    fn check(&self) -> Result<()> {
        let settings = [("learning rate", self.rate), ("momentum", self.momentum), ("weight decay", self.weight_decay)];
        if let Some(limit) = self.clip_norm.filter(|limit| limit.is_nan() || *limit <= 0.0) {
            return Err(Error::invalid(format!("gradients cannot be clipped to a norm of {limit}")));
        }
        match settings.into_iter().find(|(_, v)| !(0.0..f64::INFINITY).contains(v)) {
            Some((name, v)) => Err(Error::invalid(format!("a {name} of {v} is not a number from 0 on"))),
            None => Ok(()),
        }
    }
}
