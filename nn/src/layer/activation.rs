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
    /// `x` if `x > 0`, else `x/100`
    LeakyRelu,
    /// `x` if `x > 0`, else `eˣ - 1`
    Elu,
    /// `x·Φ(x)`, with the cumulative normal distribution `Φ`
    Gelu,
    /// The approximation of `Gelu` by `tanh`, as in GPT-2: PyTorch's `approximate="tanh"`
    GeluTanh,
    /// `x·σ(x)`
    Silu,
    /// `ln(1 + eˣ)`
    Softplus,
    /// `tanh x`
    Tanh,
    /// `1/(1 + e⁻ˣ)`
    Sigmoid,
}

use Activation::*;

impl Activation {
    /// All activation functions.
    pub const ALL: [Activation; 9] = [
        Relu, LeakyRelu, Elu, Gelu, GeluTanh, Silu, Softplus, Tanh, Sigmoid,
    ];
}

impl Module for Activation {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        match self {
            Relu => x.relu(),
            LeakyRelu => x.leaky_relu(0.01),
            Elu => x.elu(1.0),
            Gelu => x.gelu(),
            GeluTanh => x.gelu_tanh(),
            Silu => x.silu(),
            Softplus => x.softplus(),
            Tanh => x.tanh(),
            Sigmoid => x.sigmoid(),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Relu => "relu",
            LeakyRelu => "leaky_relu",
            Elu => "elu",
            Gelu => "gelu",
            GeluTanh => "gelu_tanh",
            Silu => "silu",
            Softplus => "softplus",
            Tanh => "tanh",
            Sigmoid => "sigmoid",
        })
    }
}

impl FromStr for Activation {
    type Err = String;
    fn from_str(name: &str) -> Result<Activation, String> {
        let names = || Activation::ALL.map(|a| a.to_string()).join(", ");
        let found = Activation::ALL.into_iter().find(|a| a.to_string() == name);
        found.ok_or_else(|| format!("unknown activation `{name}`, expected one of {}", names()))
    }
}
