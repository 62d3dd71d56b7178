//! The values of a model's parameters at one moment.

use crate::{
    error::{Error, Result},
    module::Module,
};
use autograd::{DType, Graph, Param, Tensor};

/// The values of a model's parameters and buffers at one moment, under their paths: to copy a model, to
/// go back to an earlier state, or to see all weights as one vector.
///
/// ```
/// use nn::{Activation, Weights};
/// let [a, b] = [1, 2].map(|seed| nn::mlp(&[4, 3, 2], Activation::Relu, seed));
/// Weights::of(&a).copy_to(&b)?;
/// assert_eq!(Weights::of(&a), Weights::of(&b));
///
/// // half a step towards 0, as a line search would take it
/// let weights = Weights::of(&a);
/// let half: Vec<f64> = weights.to_flat().iter().map(|w| w / 2.0).collect();
/// weights.with_flat(&half)?.copy_to(&a)?;
/// assert_eq!(Weights::of(&a).to_flat(), half);
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq)]
struct Value {
    path: String,
    is_trained: bool,
    value: Tensor,
}

impl Weights {
    /// Those of a model.
    pub fn of(model: &(impl Module + ?Sized)) -> Weights {
        Weights::of_parameters(&model.parameters())
    }

    /// Those of parameters with their paths.
    pub fn of_parameters(params: &[(String, Param)]) -> Weights {
        let value = |(path, param): &(String, Param)| Value {
            path: path.clone(),
            is_trained: param.is_trained(),
            value: param.value(),
        };
        Weights {
            values: params.iter().map(value).collect(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The paths and the values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.values.iter().map(|v| (v.path.as_str(), &v.value))
    }

    /// Sets the parameters of a model with the same paths, shapes and dtypes to these values: all of
    /// them, or none if something differs.
    pub fn copy_to(&self, model: &(impl Module + ?Sized)) -> Result<()> {
        self.copy_to_parameters(&model.parameters())
    }

    /// The same for parameters with their paths.
    pub fn copy_to_parameters(&self, params: &[(String, Param)]) -> Result<()> {
        self.check(params)?;
        for ((_, param), Value { value, .. }) in params.iter().zip(&self.values) {
            param.set(value.clone())?;
        }
        Ok(())
    }

    /// Lets these values stand for the parameters of a model in a graph ([`Graph::bind`]), which then
    /// computes what a model with these weights would. The model stays as it is. An error if the paths,
    /// shapes or dtypes differ, or if the graph has used a parameter before.
    ///
    /// ```
    /// use autograd::{Graph, Tensor};
    /// use nn::{Activation, Module, Weights};
    /// let [model, target] = [1, 2].map(|seed| nn::mlp(&[2, 3, 1], Activation::Tanh, seed));
    /// let (older, x) = (Weights::of(&target), Tensor::from([[0.5f32, -1.0]]));
    ///
    /// let g = Graph::new();
    /// older.bind(&g, &model)?;
    /// assert_eq!(model.forward(g.constant(&x)).value()?, nn::predict(&target, &x)?);
    /// # Ok::<(), nn::Error>(())
    /// ```
    #[track_caller]
    pub fn bind(&self, g: &Graph, model: &(impl Module + ?Sized)) -> Result<()> {
        self.bind_parameters(g, &model.parameters())
    }

    /// The same for parameters with their paths.
    #[track_caller]
    pub fn bind_parameters(&self, g: &Graph, params: &[(String, Param)]) -> Result<()> {
        self.check(params)?;
        for ((_, param), Value { value, .. }) in params.iter().zip(&self.values) {
            if let Some(error) = g.bind(param, value).error() {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// That paths, shapes and dtypes are those of these parameters.
    fn check(&self, params: &[(String, Param)]) -> Result<()> {
        let names = |paths: Vec<&str>| paths.join(", ");
        if !params
            .iter()
            .map(|(path, _)| path)
            .eq(self.values.iter().map(|v| &v.path))
        {
            return Err(Error::invalid(format!(
                "the weights are those of another model: they are for {}, and the model has {}",
                names(self.iter().map(|(path, _)| path).collect()),
                names(params.iter().map(|(path, _)| path.as_str()).collect())
            )));
        }
        for ((path, param), Value { value, .. }) in params.iter().zip(&self.values) {
            let ty = param.ty();
            if ty.shape[..] != *value.shape() || ty.dtype != value.dtype() {
                return Err(Error::invalid(format!(
                    "the weights are those of another model: {path} is {ty} there, and {} {:?} here",
                    value.dtype(),
                    value.shape()
                )));
            }
        }
        Ok(())
    }

    /// All elements of the trained parameters, one after the other in the order of their paths. Buffers
    /// are left out.
    pub fn to_flat(&self) -> Vec<f64> {
        let trained = self.values.iter().filter(|v| v.is_trained);
        trained.flat_map(|v| v.value.to_f64s()).collect()
    }

    /// The same weights, with these numbers as the elements of the trained parameters: the inverse of
    /// [`to_flat`](Weights::to_flat). An error if there are more numbers, or fewer.
    pub fn with_flat(&self, numbers: &[f64]) -> Result<Weights> {
        let trained = self.values.iter().filter(|v| v.is_trained);
        let expected: usize = trained.map(|v| v.value.len()).sum();
        if numbers.len() != expected {
            let message = format!("expected {expected} numbers, got {}", numbers.len());
            return Err(Error::invalid(message));
        }
        let (mut weights, mut rest) = (self.clone(), numbers);
        for v in weights.values.iter_mut().filter(|v| v.is_trained) {
            let (own, others) = rest.split_at(v.value.len());
            let shape = v.value.shape().to_vec();
            v.value = match v.value.dtype() {
                DType::F32 => Tensor::new(shape, own.iter().map(|&n| n as f32).collect())?,
                _ => Tensor::new(shape, own.to_vec())?,
            };
            rest = others;
        }
        Ok(weights)
    }
}
