//! Vectors for things that are numbered.

use crate::{
    init,
    module::{Module, Params},
};
use autograd::{Param, Tensor, Var};
use std::panic::Location;

/// A vector for each of some things: integers `[..]` become `[.., size]`. The vectors start normal with deviation 1.
///
/// ```
/// use nn::{Embedding, Module};
/// let words = Embedding::new(1000, 16, 1);
/// let g = autograd::Graph::new();
/// assert_eq!(words.forward(g.constant([[3, 1], [4, 1]])).dims(), Some([2, 2, 16]));
/// ```
pub struct Embedding {
    weight: Param,
    made_at: &'static Location<'static>,
}

impl Embedding {
    /// For `count` things, vectors of this size, from this seed.
    #[track_caller]
    pub fn new(count: usize, size: usize, seed: u64) -> Embedding {
        let weight =
            init::normal(&[count, size], 1.0, seed).unwrap_or(Tensor::from(Vec::<f32>::new()));
        Embedding {
            weight: Param::new(weight),
            made_at: Location::caller(),
        }
    }

    /// `[count, size]`; given to another layer, the two are tied.
    pub fn weight(&self) -> &Param {
        &self.weight
    }
}

impl Module for Embedding {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let _scope = x.graph().scope_made_at("embedding", self.made_at);
        x.graph().param(&self.weight).take(x, 0)
    }

    fn params(&self, p: &mut Params) {
        p.param("weight", &self.weight);
    }
}
