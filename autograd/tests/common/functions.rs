//! The functions of elementwise ops with their exact values, the arguments that they are tried
//! with, and the largest error of each.

use super::exact::{self, Pair, Scaled};
use autograd::{Element, Graph, Tensor, Var};

/// A function of one or two numbers.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) op: for<'g> fn([Var<'g>; 2]) -> Var<'g>,
    pub(crate) exact: fn(f64, f64) -> Scaled,
    pub(crate) arguments: usize,
    /// The largest error in units in the last place, of f32 and of f64.
    #[allow(dead_code)] // the table of errors shows what there is
    pub(crate) limits: [f64; 2],
}

macro_rules! functions {
    (
        of one: $($name:ident: $exact:expr, [$f32:literal, $f64:literal],)*;
        of two: $($name2:ident: $exact2:expr, [$f32_2:literal, $f64_2:literal],)*;
    ) => {
        pub(crate) const FUNCTIONS: &[Function] = &[
            $(Function {
                name: stringify!($name),
                op: |[x, _]| x.$name(),
                exact: |x, _| Value::scaled($exact(x)),
                arguments: 1,
                limits: [$f32, $f64],
            },)*
            $(Function {
                name: stringify!($name2),
                op: |[x, y]| x.$name2(y),
                exact: |x, y| Value::scaled($exact2(x, y)),
                arguments: 2,
                limits: [$f32_2, $f64_2],
            },)*
        ];
    };
}

trait Value {
    fn scaled(self) -> Scaled;
}

impl Value for Pair {
    fn scaled(self) -> Scaled {
        (self, 0)
    }
}

impl Value for Scaled {
    fn scaled(self) -> Scaled {
        self
    }
}

functions! {
    of one:
    exp: |x: f64| exact::exp(x.into()), [1.5, 1.0],
    expm1: exact::exp_m1, [2.0, 2.0],
    ln: |x: f64| exact::ln(x.into()), [1.0, 1.0],
    ln_1p: |x: f64| exact::ln_1p(x.into()), [2.0, 2.0],
    sin: |x| exact::sin_cos(x).0, [2.0, 1.0],
    cos: |x| exact::sin_cos(x).1, [2.0, 1.0],
    tan: exact::tan, [2.0, 2.0],
    asin: exact::asin, [2.0, 2.0],
    acos: exact::acos, [2.0, 2.0],
    atan: exact::atan, [2.0, 2.0],
    sinh: exact::sinh, [2.0, 2.0],
    cosh: exact::cosh, [2.0, 2.0],
    tanh: exact::tanh, [3.0, 2.0],
    sigmoid: exact::sigmoid, [3.0, 2.0],
    softplus: exact::softplus, [3.0, 2.0],
    silu: exact::silu, [3.0, 2.0],
    gelu: exact::gelu, [2.0, 2.0],
    gelu_tanh: exact::gelu_tanh, [200.0, 2.0],
    erf: exact::erf, [3.0, 2.0],
    erfc: exact::erfc, [2.0, 2.0],
    ;
    of two:
    pow: exact::pow, [2.0, 1.0],
    atan2: exact::atan2_of, [2.0, 2.0],
    hypot: exact::hypot, [2.0, 2.0],
    ;
}

/// Pseudorandom bits.
pub(crate) fn bits(index: u64) -> u64 {
    let mut z = index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// From 0 to 1.
fn unit(index: u64) -> f64 {
    (bits(index) >> 11) as f64 / (1u64 << 53) as f64
}

/// `±m·2ᵉ` with a random `m` from 1 to 2, and a random `e` in a range.
fn by_exponent(index: u64, [low, high]: [i64; 2]) -> f64 {
    let (fraction, choice) = (bits(index), bits(!index));
    let exponent = low + (choice >> 1) as i64 % (high - low + 1);
    let sign = choice << 63;
    f64::from_bits(sign | ((exponent + 1023) as u64) << 52 | fraction >> 12)
}

/// An argument: any number, one of a moderate exponent, one next to a multiple of `π/2` or to 1, or
/// one of a range where functions turn.
fn argument(index: u64) -> f64 {
    let (choice, more) = (bits(index), bits(index ^ 1 << 60));
    match choice % 8 {
        0 => f64::from_bits(more),
        1 | 2 => by_exponent(more, [-60, 11]),
        3 => {
            let n = more >> (20 + choice / 8 % 44);
            let near = n as f64 * std::f64::consts::FRAC_PI_2;
            f64::from_bits(
                near.to_bits()
                    .wrapping_add(choice >> 32 & 7)
                    .wrapping_sub(3),
            )
        }
        4 => 1.0 + by_exponent(more, [-52, -1]),
        5 => 1500.0 * (unit(more) - 0.5),
        _ => 14.0 * (unit(more) - 0.5),
    }
}

impl Function {
    /// Arguments number `index`.
    pub(crate) fn arguments(&self, index: u64) -> [f64; 2] {
        if self.arguments == 1 {
            return [argument(index), 0.0];
        }
        let x = by_exponent(index, [-200, 200]);
        match (self.name, bits(index) % 4) {
            ("pow", 0) => [x.abs(), by_exponent(!index, [-12, 2])],
            // results of all sizes
            ("pow", k) => {
                let x = if k == 1 {
                    x.abs()
                } else {
                    1.0 + by_exponent(index, [-50, -1])
                };
                [x, 1490.0 * (unit(!index) - 0.5) / x.ln()]
            }
            (_, 0) => [x, x * (1.0 + unit(!index))],
            _ => [x, x * by_exponent(!index, [-40, 40])],
        }
    }

    /// Arguments number `index` of f32: all bit patterns of one.
    pub(crate) fn arguments_f32(&self, index: u64) -> [f32; 2] {
        if self.arguments == 1 {
            return [f32::from_bits(index as u32), 0.0];
        }
        let [x, y] = self.arguments(index);
        // moderate exponents, also of what is exponents of f64
        let root = |v: f64| v.abs().powf(0.1).copysign(v) as f32;
        match self.name {
            "pow" => [root(x), (y * x.ln() / 7.4 / f64::from(root(x)).ln()) as f32],
            _ => [root(x), root(y)],
        }
    }

    /// The results of kernels.
    pub(crate) fn values<T: Element>(&self, x: &[[T; 2]]) -> Tensor {
        let g = Graph::new();
        let input = |k: usize| g.constant(Tensor::from(x.iter().map(|x| x[k]).collect::<Vec<T>>()));
        let y = (self.op)([input(0), input(1)]);
        y.value().expect("runs")
    }

    /// The error of a result of an f64.
    pub(crate) fn error(&self, [x, y]: [f64; 2], got: f64) -> f64 {
        match self.special(x) {
            Some(exact) if exact.is_nan() => {
                if got.is_nan() {
                    0.0
                } else {
                    f64::INFINITY
                }
            }
            Some(exact) => {
                if got == exact {
                    0.0
                } else {
                    f64::INFINITY
                }
            }
            None => exact::ulps(got, (self.exact)(x, y), 53, -1022),
        }
    }

    /// Values at the ends and outside of the domain.
    fn special(&self, x: f64) -> Option<f64> {
        if self.arguments == 2 {
            return None;
        }
        let infinity = f64::INFINITY;
        Some(match self.name {
            _ if x.is_nan() => f64::NAN,
            "ln" if x == 0.0 => -infinity,
            "ln_1p" if x == -1.0 => -infinity,
            "ln" if x < 0.0 => f64::NAN,
            "ln_1p" if x < -1.0 => f64::NAN,
            "asin" | "acos" if x.abs() > 1.0 => f64::NAN,
            _ if x == 0.0 => return None,
            "exp" | "expm1" | "sinh" | "cosh" if x > 1000.0 => infinity,
            "exp" | "softplus" | "sigmoid" if x < -1000.0 => 0.0,
            "gelu" | "gelu_tanh" | "erfc" | "silu" if x.abs() > 1000.0 => return self.far(x),
            "expm1" if x < -1000.0 => -1.0,
            "sinh" if x < -1000.0 => -infinity,
            "cosh" if x < -1000.0 => infinity,
            "ln" | "ln_1p" if x == infinity => infinity,
            "sin" | "cos" | "tan" if x.is_infinite() => f64::NAN,
            _ => return None,
        })
    }

    fn far(&self, x: f64) -> Option<f64> {
        Some(match (self.name, x > 0.0) {
            ("erfc", true) => 0.0,
            ("erfc", false) => 2.0,
            (_, true) => x,
            (_, false) => 0.0,
        })
    }
}

/// The error of a result of an f32, from the f64.
pub(crate) fn error_f32(got: f32, exact: f64) -> f64 {
    if exact.is_infinite() {
        return if f64::from(got) == exact {
            0.0
        } else {
            f64::INFINITY
        };
    }
    exact::ulps(got.into(), (exact.into(), 0), 24, -126)
}
