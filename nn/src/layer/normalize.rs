//! Standardisation of inputs.

use crate::{
    data::Dataset,
    error::Result,
    layer::number_type::{cast, check_input},
    module::{Module, Params},
};
use autograd::{DType, Graph, Param, Tensor, Var, called_from};
use std::panic::Location;

/// Standardises inputs: `(x - mean) / std`, with the mean and the standard deviation of each
/// feature over a dataset. They are buffers: not trained, but saved and loaded with the model.
///
/// ```
/// use autograd::Tensor;
/// use nn::{Dataset, Linear, Module, Normalize, Sequential};
/// let inputs = Tensor::from([[1f32, 10.0], [3.0, 10.0]]);
/// let train = Dataset::new(inputs, Tensor::from([0, 1]))?;
/// let model = Sequential::new().then(Normalize::fit(&train)?).then(Linear::new(2, 2, 1));
/// assert_eq!(model.parameters()[0].1.value().to_f64s(), [2.0, 10.0]);
/// # Ok::<(), nn::Error>(())
/// ```
pub struct Normalize {
    mean: Param,
    std: Param,
}

impl Normalize {
    /// Computes the statistics over all samples. A feature that is constant, up to rounding, gets the
    /// standard deviation 1: what little its values differ by says nothing, and must not be blown up.
    #[track_caller]
    pub fn fit(data: &Dataset) -> Result<Normalize> {
        let _call = called_from(Location::caller());
        Normalize::fit_to(&data.inputs()?)
    }

    /// The same for the rows of a tensor, such as the targets of a regression, which are easier to
    /// learn when they are standardised. [`invert`](Normalize::invert) brings predictions back.
    ///
    /// ```
    /// use nn::Normalize;
    /// let prices = autograd::Tensor::from([[250f32], [400.0], [310.0]]);
    /// let scaling = Normalize::fit_to(&prices)?;
    /// let scaled = nn::predict(&scaling, &prices)?; // what a model is trained on
    /// let back = scaling.invert(&scaled)?;
    /// assert!((back.to_f64s()[1] - 400.0).abs() < 1e-3);
    /// # Ok::<(), nn::Error>(())
    /// ```
    #[track_caller]
    pub fn fit_to(rows: &Tensor) -> Result<Normalize> {
        let _call = called_from(Location::caller());
        /// Rounding errors of a mean and of what it is subtracted from, in units of the precision.
        const ROUNDING: f64 = 4.0;
        let g = Graph::new();
        let x = g.constant(rows);
        let precision = match x.dtype()? {
            DType::F32 => f64::from(f32::EPSILON),
            _ => f64::EPSILON,
        };
        let (std, size) = (x.std_axis(0, 0), x.abs().max_axis(0));
        let std = std.gt(size * (ROUNDING * precision)).select(std, 1.0);
        let (mean, std) = g.run((x.mean_axis(0), std))?;
        Ok(Normalize {
            mean: Param::buffer(mean),
            std: Param::buffer(std),
        })
    }

    /// For inputs of this shape, without data: it changes nothing until its statistics are loaded with
    /// the model.
    ///
    /// ```
    /// use nn::{Linear, Module, Normalize, Sequential};
    /// // as in the program that has trained and saved the model
    /// let model = Sequential::new().then(Normalize::new(&[2])?).then(Linear::new(2, 2, 1));
    /// assert_eq!(model.parameters()[1].1.value().to_f64s(), [1.0, 1.0]);
    /// # Ok::<(), nn::Error>(())
    /// ```
    #[track_caller]
    pub fn new(sample_shape: &[usize]) -> Result<Normalize> {
        let _call = called_from(Location::caller());
        Ok(Normalize {
            mean: Param::buffer(Tensor::full(sample_shape, 0f32)?),
            std: Param::buffer(Tensor::full(sample_shape, 1f32)?),
        })
    }

    /// The same statistics in this number type, f32 or f64: see [`Linear::cast`](crate::Linear::cast).
    pub fn cast(self, dtype: DType) -> Normalize {
        Normalize {
            mean: cast(&self.mean, dtype),
            std: cast(&self.std, dtype),
        }
    }

    /// What was standardised, in its own units again: `x·std + mean`.
    #[track_caller]
    pub fn invert(&self, x: &Tensor) -> Result<Tensor> {
        let _call = called_from(Location::caller());
        let g = Graph::new();
        Ok((g.constant(x) * g.param(&self.std) + g.param(&self.mean)).value()?)
    }
}

impl Module for Normalize {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        let _scope = g.scope("normalize");
        if let Err(failed) = check_input(x, g.param(&self.mean)) {
            return failed;
        }
        (x - g.param(&self.mean)) / g.param(&self.std)
    }

    fn params(&self, p: &mut Params) {
        p.param("mean", &self.mean).param("deviation", &self.std);
    }
}
