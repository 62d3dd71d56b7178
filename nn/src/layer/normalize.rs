//! Normalisation of inputs by what the training data are like.

use crate::{
    data::Dataset,
    error::Result,
    module::{Module, Params},
};
use autograd::{Graph, Param, Var};

/// `(x - mean) / deviation` with numbers for each feature that were measured on data. They are buffers: saved with the model
/// and not trained, so that whoever loads it need not know the data.
///
/// ```
/// use autograd::Tensor;
/// use nn::{Dataset, Linear, Module, Normalize, Sequential};
/// let train = Dataset::new(Tensor::from([[1f32, 10.0], [3.0, 10.0]]), Tensor::from([0, 1]))?;
/// let model = Sequential::new().then(Normalize::fit(&train)?).then(Linear::new(2, 2, 1));
/// assert_eq!(model.parameters()[0].1.value().to_f64s(), [2.0, 10.0]);
/// # Ok::<(), nn::Error>(())
/// ```
pub struct Normalize {
    mean: Param,
    deviation: Param,
}

impl Normalize {
    /// Measured on all samples. A feature that never changes is only centred.
    pub fn fit(data: &Dataset) -> Result<Normalize> {
        let g = Graph::new();
        let x = g.constant(data.inputs()?);
        let deviation = x.std_axis(0, 0);
        let deviation = deviation.gt(0.0).select(deviation, 1.0);
        let (mean, deviation) = g.run((x.mean_axis(0), deviation))?;
        Ok(Normalize {
            mean: Param::buffer(mean),
            deviation: Param::buffer(deviation),
        })
    }
}

impl Module for Normalize {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        let _scope = g.scope("normalize");
        (x - g.param(&self.mean)) / g.param(&self.deviation)
    }

    fn params(&self, p: &mut Params) {
        p.param("mean", &self.mean)
            .param("deviation", &self.deviation);
    }
}
