//! The embedding layer.

use crate::{
    init,
    layer::number_type::{cast, check_floats},
    module::{Module, Params},
};
use autograd::{DType, Param, Tensor, Var};
use std::panic::Location;

/// A lookup table of vectors: maps indices `[..]` to vectors `[.., size]`. The vectors are
/// initialised with standard normal values.
///
/// ```
/// use nn::{Embedding, Module};
/// let embedding = Embedding::new(1000, 16, 1);
/// let g = autograd::Graph::new();
/// assert_eq!(embedding.forward(g.constant([[3, 1], [4, 1]])).dims(), Some([2, 2, 16]));
/// ```
pub struct Embedding {
    weight: Param,
    location: &'static Location<'static>,
}

impl Embedding {
    /// A table of `count` random vectors.
    #[track_caller]
    pub fn new(count: usize, size: usize, seed: u64) -> Embedding {
        let weight =
            init::normal(&[count, size], 1.0, seed).unwrap_or(Tensor::from(Vec::<f32>::new()));
        Embedding {
            weight: Param::new(weight),
            location: Location::caller(),
        }
    }

    /// The same table in this number type, f32 or f64: see [`Linear::cast`](crate::Linear::cast).
    pub fn cast(self, dtype: DType) -> Embedding {
        Embedding {
            weight: cast(&self.weight, dtype),
            ..self
        }
    }

    /// The scores of all entries for vectors `[.., size]`: `x·weightᵀ`, of shape `[.., count]`. The
    /// output head of a language model with tied weights (Press and Wolf 2017): both uses train the
    /// same table.
    ///
    /// ```
    /// use nn::{Embedding, Module};
    /// let embedding = Embedding::new(1000, 16, 1);
    /// let g = autograd::Graph::new();
    /// let h = embedding.forward(g.constant([[3, 1, 4]]));
    /// assert_eq!(embedding.attend(h).dims(), Some([1, 3, 1000]));
    /// ```
    #[doc(alias = "tied")]
    #[doc(alias = "lm_head")]
    #[track_caller]
    pub fn attend<'g>(&self, x: Var<'g>) -> Var<'g> {
        let _scope = x.graph().scope_made_at("embedding", self.location);
        x.matmul(x.graph().param(&self.weight).t())
    }

    /// `[count, size]`. Give it to another layer to tie the weights.
    pub fn weight(&self) -> &Param {
        &self.weight
    }
}

impl Module for Embedding {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let _scope = x.graph().scope_made_at("embedding", self.location);
        let weight = x.graph().param(&self.weight);
        match check_floats(weight) {
            Ok(()) => weight.take(x, 0),
            Err(failed) => failed,
        }
    }

    fn params(&self, p: &mut Params) {
        p.param("weight", &self.weight);
    }
}
