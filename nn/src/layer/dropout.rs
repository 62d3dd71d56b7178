//! Dropout.

use crate::module::Module;
use autograd::Var;

/// Sets elements to 0 with this probability while training and scales the others by `1/(1 - rate)`, so that the mean
/// stays (Srivastava et al. 2014). In a graph that is not for training it does nothing.
///
/// A rate outside `0 ≤ rate < 1` is an error when a value is asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dropout {
    rate: f64,
}

impl Dropout {
    /// Drops with this probability.
    pub fn new(rate: f64) -> Dropout {
        Dropout { rate }
    }
}

impl Module for Dropout {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        if !(0.0..1.0).contains(&self.rate) {
            return x.fail(&format!(
                "a dropout rate of {} is not in 0 ≤ rate < 1",
                self.rate
            ));
        }
        let g = x.graph();
        let Ok(shape) = x.shape() else { return x };
        if !g.is_training() || self.rate == 0.0 {
            return x;
        }
        let _scope = g.scope("dropout");
        g.bernoulli(1.0 - self.rate, shape)
            .select(x * (1.0 / (1.0 - self.rate)), 0.0)
    }
}
