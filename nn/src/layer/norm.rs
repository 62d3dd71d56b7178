//! Normalisation layers.

use crate::module::{Module, Params};
use autograd::{Param, Tensor, Var};
use std::panic::Location;

/// Scales and shifts `[features]` that start at 1 and 0.
struct Affine {
    weight: Param,
    bias: Param,
}

impl Affine {
    fn new(features: usize) -> Affine {
        let of =
            |value: f32| Tensor::full([features], value).unwrap_or(Tensor::from(Vec::<f32>::new()));
        Affine {
            weight: Param::new(of(1.0)),
            bias: Param::new(of(0.0)),
        }
    }

    fn features(&self) -> usize {
        self.weight.ty().shape.count()
    }
}

/// Normalises each sample over its last axis: `(x - mean) / √(variance + ε)·weight + bias`, with `ε = 1e-5` (Ba, Kiros and
/// Hinton 2016).
pub struct LayerNorm {
    affine: Affine,
    made_at: &'static Location<'static>,
}

impl LayerNorm {
    /// For `[.., features]`.
    #[track_caller]
    pub fn new(features: usize) -> LayerNorm {
        LayerNorm {
            affine: Affine::new(features),
            made_at: Location::caller(),
        }
    }
}

impl Module for LayerNorm {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        let _scope = g.scope_made_at("layer_norm", self.made_at);
        let features = self.affine.features();
        if x.shape().is_ok_and(|s| s.last() != Some(&features)) {
            return x.fail(&format!("wants [.., {features}], its number of features"));
        }
        let centred = x - x.mean_axis_keep(-1);
        let deviation = (centred.square().mean_axis_keep(-1) + EPSILON).sqrt();
        centred / deviation * g.param(&self.affine.weight) + g.param(&self.affine.bias)
    }

    fn params(&self, p: &mut Params) {
        p.param("weight", &self.affine.weight)
            .param("bias", &self.affine.bias);
    }
}

/// Normalises each feature of `[batch, features]` (Ioffe and Szegedy 2015): while training by mean and variance of the
/// batch, otherwise by running ones, which each training step moves a tenth of the way to its own (that of the variance is
/// unbiased, as PyTorch's).
pub struct BatchNorm1d {
    affine: Affine,
    mean: Param,
    variance: Param,
    made_at: &'static Location<'static>,
}

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

impl BatchNorm1d {
    /// For `[batch, features]`.
    #[track_caller]
    pub fn new(features: usize) -> BatchNorm1d {
        let affine = Affine::new(features);
        let (mean, variance) = (
            Param::buffer(affine.bias.value()),
            Param::buffer(affine.weight.value()),
        );
        BatchNorm1d {
            affine,
            mean,
            variance,
            made_at: Location::caller(),
        }
    }
}

impl Module for BatchNorm1d {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        let _scope = g.scope_made_at("batch_norm", self.made_at);
        let features = self.affine.features();
        let batch = match x.dims::<2>() {
            Some([batch, own]) if own == features => batch,
            _ => {
                return x.fail(&format!(
                    "wants [batch, {features}], its number of features"
                ));
            }
        };
        let (running_mean, running_variance) = (g.param(&self.mean), g.param(&self.variance));
        let (mean, variance) = if g.is_training() {
            if batch < 2 {
                return x.fail("a batch of at least 2 has a variance");
            }
            let (mean, variance) = (x.mean_axis(0), x.var_axis(0, 0));
            let unbiased = variance.detach() * (batch as f64 / (batch - 1) as f64);
            g.assign(
                &self.mean,
                (1.0 - MOMENTUM) * running_mean + MOMENTUM * mean.detach(),
            );
            g.assign(
                &self.variance,
                (1.0 - MOMENTUM) * running_variance + MOMENTUM * unbiased,
            );
            (mean, variance)
        } else {
            (running_mean, running_variance)
        };
        (x - mean) / (variance + EPSILON).sqrt() * g.param(&self.affine.weight)
            + g.param(&self.affine.bias)
    }

    fn params(&self, p: &mut Params) {
        p.param("weight", &self.affine.weight)
            .param("bias", &self.affine.bias);
        p.param("running_mean", &self.mean)
            .param("running_var", &self.variance);
    }
}
