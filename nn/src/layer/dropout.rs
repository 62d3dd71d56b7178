//! Dropout.

use crate::module::Module;
use autograd::Var;

/// Dropout (Srivastava et al. 2014): in training, sets each element to 0 with probability `rate`
/// and scales the others by `1/(1 - rate)`. In evaluation it does nothing.
///
/// A rate outside of `0 ≤ rate < 1` is an error when a value is computed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dropout {
    rate: f64,
}

impl Dropout {
    /// `rate`: the probability of setting an element to 0.
    pub fn new(rate: f64) -> Dropout {
        Dropout { rate }
    }
}

impl Module for Dropout {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        if !(0.0..1.0).contains(&self.rate) {
            let message = format!("the rate {} is not in 0 ≤ rate < 1", self.rate);
            return x.fail_as("dropout", &message);
        }
        let g = x.graph();
        let Ok(shape) = x.shape() else { return x };
        // without dropout, nothing depends on the mode of the graph
        if self.rate == 0.0 || !g.is_training() {
            return x;
        }
        let _scope = g.scope("dropout");
        g.bernoulli(1.0 - self.rate, shape)
            .select(x * (1.0 / (1.0 - self.rate)), 0.0)
    }
}
