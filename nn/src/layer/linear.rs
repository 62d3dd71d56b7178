//! The fully connected layer.

use crate::{
    error::{Error, Result},
    init,
    layer::number_type::{cast, check_input},
    module::{Module, Params},
    seed,
};
use autograd::{DType, Param, Tensor, Var};
use std::panic::Location;

/// `y = x·W + b` for `x: [.., inputs]`, with `weight: [inputs, outputs]` and `bias: [outputs]`, in
/// f32 or, after a [`cast`](Linear::cast), in f64.
///
/// Weight and bias are initialised uniformly in `±1/√inputs`, like PyTorch's `Linear`. (PyTorch
/// stores the weight transposed.)
#[doc(alias = "Dense")]
pub struct Linear {
    weight: Param,
    bias: Param,
    inputs: usize,
    location: &'static Location<'static>,
}

impl Linear {
    /// A layer with random weights.
    #[track_caller]
    pub fn new(inputs: usize, outputs: usize, seed: u64) -> Linear {
        let bound = 1.0 / (inputs.max(1) as f32).sqrt();
        // `new` returns no `Result`: without enough memory, the weight is empty and `forward` fails
        // with an error that names the line where the layer was created
        let uniform = |shape: &[usize], k| {
            init::uniform(shape, bound, seed::derive(seed, k))
                .unwrap_or(Tensor::from(Vec::<f32>::new()))
        };
        Linear {
            weight: Param::new(uniform(&[inputs, outputs], 0)),
            bias: Param::new(uniform(&[outputs], 1)),
            inputs,
            location: Location::caller(),
        }
    }

    /// A layer with this weight `[inputs, outputs]` and bias `[outputs]`, for example from
    /// [`init`](crate::init).
    ///
    /// ```
    /// use nn::{Linear, init};
    /// let weight = init::kaiming_normal(&[784, 128], 1)?;
    /// let bias = init::uniform(&[128], 0.1, 2)?;
    /// let layer = Linear::from_tensors(weight, bias)?;
    /// # let _ = layer;
    /// # Ok::<(), nn::Error>(())
    /// ```
    #[track_caller]
    pub fn from_tensors(weight: Tensor, bias: Tensor) -> Result<Linear> {
        Linear::from_params(Param::new(weight), Param::new(bias))
    }

    /// A layer with these parameters. If another layer has the same parameter, the weights are
    /// tied: shared and trained together.
    ///
    /// ```
    /// use autograd::{Param, Tensor};
    /// use nn::{Linear, Module, Sequential};
    /// let first = Linear::new(4, 4, 1);
    /// let bias = Param::new(Tensor::full([4], 0f32)?);
    /// let second = Linear::from_params(first.weight().clone(), bias)?;
    /// let model = Sequential::new().then(first).then(second);
    /// assert_eq!(model.num_parameters(), 16 + 4 + 4);       // the shared weight counts once
    /// # Ok::<(), nn::Error>(())
    /// ```
    #[track_caller]
    pub fn from_params(weight: Param, bias: Param) -> Result<Linear> {
        match (&weight.ty().shape[..], &bias.ty().shape[..]) {
            (&[inputs, outputs], &[n]) if n == outputs => Ok(Linear {
                weight,
                bias,
                inputs,
                location: Location::caller(),
            }),
            (w, b) => Err(Error::invalid(format!(
                "expected a weight [inputs, outputs] and a bias [outputs], got {w:?} and {b:?}"
            ))),
        }
    }

    /// The same layer in this number type, f32 or f64. Its values are converted, so that both start at
    /// the same point. Do it before the layer is used or shared: a parameter of another number type is
    /// another parameter, and no longer tied.
    ///
    /// ```
    /// use autograd::{DType, Graph};
    /// use nn::{Linear, Module};
    /// let layer = Linear::new(2, 3, 1).cast(DType::F64);
    /// let g = Graph::new();
    /// assert_eq!(layer.forward(g.constant([[0.5, 1.0]])).dtype()?, DType::F64);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    pub fn cast(self, dtype: DType) -> Linear {
        Linear {
            weight: cast(&self.weight, dtype),
            bias: cast(&self.bias, dtype),
            ..self
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
        let _scope = g.scope_made_at("linear", self.location);
        let weight = g.param(&self.weight);
        if weight.error().is_some() {
            return weight;
        }
        if weight.dims::<2>().is_none() {
            return x.fail_as(
                "linear",
                "there was not enough memory for the weights of this layer",
            );
        }
        if let Err(failed) = check_input(x, weight) {
            return failed;
        }
        match x.shape().ok().and_then(|s| s.last().copied()) {
            Some(features) if features != self.inputs => x.fail_as(
                "linear",
                &format!("expected an input [.., {}]", self.inputs),
            ),
            _ => x.matmul(weight) + g.param(&self.bias),
        }
    }

    fn params(&self, p: &mut Params) {
        p.param("weight", &self.weight).param("bias", &self.bias);
    }
}
