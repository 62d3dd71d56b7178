//! Normalisation layers.

use crate::{
    layer::number_type::{cast, check_input},
    module::{Module, Params},
};
use autograd::{DType, Param, Tensor, Var};
use std::panic::Location;

/// The scale and the shift of a normalisation layer: `[features]`, initially 1 and 0.
struct Affine {
    weight: Param,
    bias: Param,
}

impl Affine {
    fn new(features: usize) -> Affine {
        let full =
            |value: f32| Tensor::full([features], value).unwrap_or(Tensor::from(Vec::<f32>::new()));
        Affine {
            weight: Param::new(full(1.0)),
            bias: Param::new(full(0.0)),
        }
    }

    fn cast(&self, dtype: DType) -> Affine {
        Affine {
            weight: cast(&self.weight, dtype),
            bias: cast(&self.bias, dtype),
        }
    }

    fn features(&self) -> usize {
        self.weight.ty().shape.count()
    }
}

/// Layer normalisation over the last axis (Ba, Kiros and Hinton 2016):
/// `(x - mean) / √(variance + ε)·weight + bias`, with `ε = 1e-5`.
pub struct LayerNorm {
    affine: Affine,
    location: &'static Location<'static>,
}

impl LayerNorm {
    /// For inputs `[.., features]`.
    #[track_caller]
    pub fn new(features: usize) -> LayerNorm {
        LayerNorm {
            affine: Affine::new(features),
            location: Location::caller(),
        }
    }

    /// The same layer in this number type, f32 or f64: see [`Linear::cast`](crate::Linear::cast).
    pub fn cast(self, dtype: DType) -> LayerNorm {
        LayerNorm {
            affine: self.affine.cast(dtype),
            ..self
        }
    }
}

impl Module for LayerNorm {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        let _scope = g.scope_made_at("layer_norm", self.location);
        let features = self.affine.features();
        if let Err(failed) = check_input(x, g.param(&self.affine.weight)) {
            return failed;
        }
        if x.shape().is_ok_and(|s| s.last() != Some(&features)) {
            return x.fail_as("layer_norm", &format!("expected an input [.., {features}]"));
        }
        let centred = x - x.mean_axis_keep(-1);
        // one division for each row, instead of one for each element
        let scale = (centred.square().mean_axis_keep(-1) + EPSILON).rsqrt();
        centred * scale * g.param(&self.affine.weight) + g.param(&self.affine.bias)
    }

    fn params(&self, p: &mut Params) {
        p.param("weight", &self.affine.weight)
            .param("bias", &self.affine.bias);
    }
}

/// Batch normalisation of `[batch, features]` (Ioffe and Szegedy 2015).
///
/// In training, it normalises with the mean and the variance of the batch, and updates the running
/// statistics with momentum 0.1. In evaluation, it normalises with the running statistics. As in
/// PyTorch, the running variance is unbiased.
pub struct BatchNorm1d {
    affine: Affine,
    running_mean: Param,
    running_var: Param,
    location: &'static Location<'static>,
}

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

impl BatchNorm1d {
    /// For inputs `[batch, features]`.
    #[track_caller]
    pub fn new(features: usize) -> BatchNorm1d {
        let affine = Affine::new(features);
        let (running_mean, running_var) = (
            Param::buffer(affine.bias.value()),
            Param::buffer(affine.weight.value()),
        );
        BatchNorm1d {
            affine,
            running_mean,
            running_var,
            location: Location::caller(),
        }
    }

    /// The same layer with parameters and statistics in this number type, f32 or f64: see
    /// [`Linear::cast`](crate::Linear::cast).
    pub fn cast(self, dtype: DType) -> BatchNorm1d {
        BatchNorm1d {
            affine: self.affine.cast(dtype),
            running_mean: cast(&self.running_mean, dtype),
            running_var: cast(&self.running_var, dtype),
            ..self
        }
    }
}

impl Module for BatchNorm1d {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        let _scope = g.scope_made_at("batch_norm", self.location);
        let features = self.affine.features();
        if let Err(failed) = check_input(x, g.param(&self.affine.weight)) {
            return failed;
        }
        let batch = match x.dims::<2>() {
            Some([batch, last]) if last == features => batch,
            _ => {
                return x.fail_as(
                    "batch_norm",
                    &format!("expected an input [batch, {features}]"),
                );
            }
        };
        let (running_mean, running_var) = (g.param(&self.running_mean), g.param(&self.running_var));
        let (mean, variance) = if g.is_training() {
            if batch < 2 {
                return x.fail_as(
                    "batch_norm",
                    "expected a training batch of at least 2 samples",
                );
            }
            let (mean, variance) = (x.mean_axis(0), x.var_axis(0, 0));
            let unbiased = variance.detach() * (batch as f64 / (batch - 1) as f64);
            g.assign(
                &self.running_mean,
                (1.0 - MOMENTUM) * running_mean + MOMENTUM * mean.detach(),
            );
            g.assign(
                &self.running_var,
                (1.0 - MOMENTUM) * running_var + MOMENTUM * unbiased,
            );
            (mean, variance)
        } else {
            (running_mean, running_var)
        };
        let scale = (variance + EPSILON).rsqrt() * g.param(&self.affine.weight);
        (x - mean) * scale + g.param(&self.affine.bias)
    }

    fn params(&self, p: &mut Params) {
        p.param("weight", &self.affine.weight)
            .param("bias", &self.affine.bias);
        p.param("running_mean", &self.running_mean)
            .param("running_var", &self.running_var);
    }
}
