//! Activation functions as modules.

use crate::module::Module;
use autograd::Var;
use std::{fmt, str::FromStr};

/// An activation function; a [`Module`] without parameters.
///
/// ```
/// assert_eq!("tanh".parse(), Ok(nn::Activation::Tanh));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `tanh x`
    Tanh,
    /// `1/(1 + e⁻ˣ)`
    Sigmoid,
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 3] = [Activation::Relu, Activation::Tanh, Activation::Sigmoid];
}

impl Module for Activation {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        match self {
            Activation::Relu => x.relu(),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
        })
    }
}

impl FromStr for Activation {
    type Err = String;
    fn from_str(name: &str) -> Result<Activation, String> {
        let names = || Activation::ALL.map(|a| a.to_string()).join(", ");
        let found = Activation::ALL.into_iter().find(|a| a.to_string() == name);
        found.ok_or_else(|| format!("there is no activation {name:?}: choose one of {}", names()))
    }
}
