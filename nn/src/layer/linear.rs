//! The fully connected layer.

use crate::{
    error::{Error, Result},
    init,
    module::{Module, Params},
    seed,
};
use autograd::{Param, Tensor, Var};
use std::panic::Location;

/// `y = x·W + b` for `x: [.., inputs]`, with `weight: [inputs, outputs]` and `bias: [outputs]`, in f32.
///
/// Both start uniform in `±1/√inputs`, as PyTorch's `Linear` does. (Its weight is stored transposed.)
pub struct Linear {
    weight: Param,
    bias: Param,
    inputs: usize,
    made_at: &'static Location<'static>,
}

impl Linear {
    /// A layer with random weights from this seed.
    #[track_caller]
    pub fn new(inputs: usize, outputs: usize, seed: u64) -> Linear {
        let bound = 1.0 / (inputs.max(1) as f32).sqrt();
        // a layer for which there is no memory is made empty; using it is an error that names its line
        let uniform = |shape: &[usize], k| {
            init::uniform(shape, bound, seed::derive(seed, k))
                .unwrap_or(Tensor::from(Vec::<f32>::new()))
        };
        Linear {
            weight: Param::new(uniform(&[inputs, outputs], 0)),
            bias: Param::new(uniform(&[outputs], 1)),
            inputs,
            made_at: Location::caller(),
        }
    }

    /// A layer with given weights `[inputs, outputs]` and bias `[outputs]`, from [`init`](crate::init) for example.
    ///
    /// ```
    /// use nn::{Linear, init};
    /// let layer = Linear::from_tensors(init::kaiming_normal(&[784, 128], 1)?, init::uniform(&[128], 0.1, 2)?)?;
    /// # let _ = layer;
    /// # Ok::<(), nn::Error>(())
    /// ```
    #[track_caller]
    pub fn from_tensors(weight: Tensor, bias: Tensor) -> Result<Linear> {
        Linear::from_params(Param::new(weight), Param::new(bias))
    }

    /// A layer with parameters that others may have, too: they are tied then, and trained together.
    ///
    /// ```
    /// use autograd::{Param, Tensor};
    /// use nn::{Linear, Module, Sequential};
    /// let first = Linear::new(4, 4, 1);
    /// let second = Linear::from_params(first.weight().clone(), Param::new(Tensor::full([4], 0f32)?))?;
    /// let model = Sequential::new().then(first).then(second);
    /// assert_eq!(model.size(), 16 + 4 + 4);       // the weight counts once
    /// # Ok::<(), nn::Error>(())
    /// ```
    #[track_caller]
    pub fn from_params(weight: Param, bias: Param) -> Result<Linear> {
        match (&weight.ty().shape[..], &bias.ty().shape[..]) {
            (&[inputs, outputs], &[n]) if n == outputs => Ok(Linear {
                weight,
                bias,
                inputs,
                made_at: Location::caller(),
            }),
            (w, b) => Err(Error::invalid(format!(
                "a layer has weights [inputs, outputs] and bias [outputs], not {w:?} and {b:?}"
            ))),
        }
    }

    /// `[inputs, outputs]`
    pub fn weight(&self) -> &Param {
        &self.weight
    }

    /// `[outputs]`
    pub fn bias(&self) -> &Param {
        &self.bias
    }
}

impl Module for Linear {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        let _scope = g.scope_made_at("linear", self.made_at);
        let weight = g.param(&self.weight);
        if weight.dims::<2>().is_none() {
            return x.fail("there was no memory for the layer's weights");
        }
        match x.shape().ok().and_then(|s| s.last().copied()) {
            Some(features) if features != self.inputs => x.fail(&format!(
                "wants [.., {}], its number of inputs",
                self.inputs
            )),
            _ => x.matmul(weight) + g.param(&self.bias),
        }
    }

    fn params(&self, p: &mut Params) {
        p.param("weight", &self.weight).param("bias", &self.bias);
    }
}
