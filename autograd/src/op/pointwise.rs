//! The built-in elementwise ops: one table of formulas and partial derivatives, and the one loop that evaluates all of them.
//! How kernels compute them is listed below the table: some in registers, others by functions.

use super::{
    Dependency, DynOp, Id, Lowering, Real, Rule,
    elementwise::{self, MAX_INPUTS, Partial, map},
    lowering::Scalar,
};
use crate::{
    error::OpError,
    math::{GELU_CUBE, GELU_TWICE, Lanes, TANH_HALF},
    nodes::{Kind, NodeId},
    tensor::{Type, with_dtype},
    var::{Operand, Var},
    view::{TensorView, TensorViewMut},
};
use std::{
    any::Any,
    f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI},
    fmt::{self, Debug},
};

/// The value for integers, and what is wrong where there is none.
type Integer = (fn(&[i64]) -> Option<i64>, &'static str);

/// What a built-in op is, beside its formula.
struct About {
    name: &'static str,
    inputs: usize,
    /// The derivative with respect to an input, from the inputs and the output.
    partial: for<'g> fn(usize, &[Var<'g>], Var<'g>) -> Partial<'g>,
    /// The input that is a function of the others and only helps to compute the value exactly: the derivatives by the others
    /// take it into account.
    hint: Option<usize>,
    /// The function of integers, if it is defined for them.
    integer: Option<Integer>,
}

const fn integer(value: fn(&[i64]) -> Option<i64>, why: &'static str) -> Option<Integer> {
    Some((value, why))
}

/// A built-in elementwise op: one type for all of them, whose loop calls a function for each element.
#[derive(Clone, Copy)]
pub(crate) struct Pointwise(pub(super) Id);

impl Debug for Pointwise {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl DynOp for Pointwise {
    fn name(&self) -> &'static str {
        about(self.0).name
    }

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let About {
            inputs, integer, ..
        } = about(self.0);
        elementwise::infer(*inputs, integer.is_some(), x)
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        with_dtype!(out.dtype(), float T => {
            let f = scalar::<T>(self.0);
            map::<T, MAX_INPUTS>(&padded(x)?, out, |&x| f(x))
        }, else integers(about(self.0).integer, x, out))
    }

    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        (about(self.0).partial)(input, r.x, r.y).of(r.ct)
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Elementwise(Scalar::Formula(self.0))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn raw_may_fail(&self, x: &[Type]) -> bool {
        x.iter().any(|t| !t.dtype.is_float())
    }

    fn raw_dependency(&self, input: usize, _x: &[Type]) -> Dependency {
        if about(self.0).hint == Some(input) {
            Dependency::None
        } else {
            Dependency::Elementwise
        }
    }

    fn raw_same(&self, other: &dyn DynOp) -> bool {
        other
            .as_any()
            .downcast_ref::<Pointwise>()
            .is_some_and(|other| other.0 == self.0)
    }
}

/// An op on whole tensors of integers.
fn integers(
    f: Option<Integer>,
    x: &[TensorView<'_>],
    out: TensorViewMut<'_>,
) -> Result<(), OpError> {
    let (f, why) = f.ok_or("is not defined for integers")?;
    let (mut fails, inputs) = (false, x.len());
    map::<i64, MAX_INPUTS>(&padded(x)?, out, |x| {
        f(&x[..inputs]).unwrap_or_else(|| {
            fails = true;
            0
        })
    })?;
    if fails { Err(why.into()) } else { Ok(()) }
}

/// The inputs, the first one again for those that are missing: a loop over three inputs serves all ops.
fn padded<'a>(x: &[TensorView<'a>]) -> Result<[TensorView<'a>; MAX_INPUTS], OpError> {
    let first = *x.first().ok_or("has no input")?;
    Ok(std::array::from_fn(|k| x.get(k).copied().unwrap_or(first)))
}

/// What a built-in op computes from one element of each input, for one number or many side by side.
pub(crate) trait Formula {
    /// The number of inputs; what stands for others is not read.
    const INPUTS: usize;
    fn of<T: Lanes>(x: [T; MAX_INPUTS]) -> T;
}

/// `Name: method(inputs -> output) = value; [partial derivative by each input] hint input int value for integers, why there is none`,
/// which is that it does not fit unless something else is said. A `hint` is the number of an input that is one.
/// In the value the names are numbers, in the derivatives they are `Var`s.
macro_rules! elementwise {
    ($($(#[$doc:meta])* $Op:ident: $name:ident($($x:ident),+ -> $y:ident) = $value:expr; [$($d:expr),+] $(hint $hint:literal)? $(int $int:expr $(, $why:literal)?)?;)*) => { $(
        $(#[$doc])*
        pub(crate) struct $Op;

        impl Formula for $Op {
            const INPUTS: usize = [$(stringify!($x)),+].len();
            #[inline(always)]
            fn of<T: Lanes>([$($x,)+ ..]: [T; MAX_INPUTS]) -> T {
                $value
            }
        }

        impl $Op {
            const ABOUT: About = About {
                name: stringify!($name),
                inputs: <$Op as Formula>::INPUTS,
                partial: $Op::partial,
                hint: [$(Some($hint),)? None][0],
                integer: [$(integer($int, [$($why,)? "an integer result does not fit in 64 bits"][0]),)? None][0],
            };

            #[allow(unused_variables, unused_imports, unused_assignments)]
            fn partial<'g>(input: usize, x: &[Var<'g>], $y: Var<'g>) -> Partial<'g> {
                use Partial::*;
                let &[$($x),+] = x else { return Zero };
                let mut k = 0;
                $(if input == k { return $d; } k += 1;)+
                Zero
            }
        }
    )*
        fn about(op: Id) -> &'static About {
            match op {
                $(Id::$Op => const { &$Op::ABOUT },)*
                _ => const { &Neg::ABOUT }, // there are no others
            }
        }

        /// The formula of an op for single numbers.
        pub(crate) fn scalar<T: Real>(op: Id) -> fn([T; MAX_INPUTS]) -> T {
            match op {
                $(Id::$Op => $Op::of::<T>,)*
                op => super::compare::scalar::<T>(op),
            }
        }
    };
}

elementwise! {
    Neg:     neg(a -> y)        = -a;             [Minus] int |x| x[0].checked_neg();
    Abs:     abs(a -> y)        = a.abs();        [WhereFinite(a.ne(a.lit(0.0)), a.sign())] int |x| x[0].checked_abs();
    Sign:    sign(a -> y)       = a.sign();       [Zero] int |x| Some(x[0].signum());
    Exp:     exp(a -> y)        = a.exp();        [Times(y)];
    Expm1:   expm1(a -> y)      = a.exp_m1();     [Times(a.exp())];
    Ln:      ln(a -> y)         = a.ln();         [Over(a)];
    Ln1p:    ln_1p(a -> y)      = a.ln_1p();      [Over(1.0 + a)];
    Sqrt:    sqrt(a -> y)       = a.sqrt();       [Over(2.0 * y)];
    Square:  square(a -> y)     = a * a;          [Times(2.0 * a)] int |x| x[0].checked_mul(x[0]);
    Recip:   recip(a -> y)      = T::of(1.0) / a; [Times(-(y * y))];
    Rsqrt:   rsqrt(a -> y)      = T::of(1.0) / a.sqrt(); [Times(-0.5 * (y * y * y))];
    Sin:     sin(a -> y)        = a.sin();        [Times(a.cos())];
    Cos:     cos(a -> y)        = a.cos();        [Times(-a.sin())];
    Tan:     tan(a -> y)        = a.tan();        [Times(1.0 + y * y)];
    Asin:    asin(a -> y)       = a.asin();       [Over(other_leg(a))];
    Acos:    acos(a -> y)       = a.acos();       [Over(-other_leg(a))];
    Atan:    atan(a -> y)       = a.atan();       [Times(cauchy(a))];
    Sinh:    sinh(a -> y)       = a.sinh();       [Times(a.cosh())];
    Cosh:    cosh(a -> y)       = a.cosh();       [Times(a.sinh())];
    // The value and the derivative of `tanh` and `sigmoid` come from one transcendental function, the tail, which holds what is
    // lost in a value near 1: `1 - tanh²` is 0 from `x = 10` on in f32, and `σ(1 - σ)` from 17 on.
    TanhTail: tanh_tail(a -> t) = a.tanh_tail();  [Times(tanh_tail_slope(a, t))];
    Tanh:    tanh(a, t -> y)    = a.tanh_of(t);   [Times(y.binary(Id::TanhSlope, t)), Zero] hint 1;
    TanhSlope: tanh_slope(y, t -> d) = y.tanh_slope_of(t); [Times(-2.0 * y), Zero] hint 1;
    SigmoidTail: sigmoid_tail(a -> t) = a.sigmoid_tail(); [Times(-(a.sign() * (t * (1.0 - t))))];
    Sigmoid: sigmoid(a, t -> y) = a.sigmoid_of(t); [Times(y.binary(Id::SigmoidSlope, t)), Zero] hint 1;
    SigmoidSlope: sigmoid_slope(y, t -> d) = y.sigmoid_slope_of(t); [Times(1.0 - 2.0 * y), Zero] hint 1;
    Relu:    relu(a -> y)       = a.relu();       [Where(a.gt(a.lit(0.0)))];
    Erf:     erf(a -> y)        = a.erf();        [Times(bell(a) * FRAC_2_SQRT_PI)];
    Erfc:    erfc(a -> y)       = a.erfc();       [Times(bell(a) * -FRAC_2_SQRT_PI)];
    Gelu:    gelu(a -> y)       = a.gelu();       [Times(normal_cdf(a) + of_bump(a, normal_density))];
    GeluTanh: gelu_tanh(a -> y) = a.gelu_tanh();  [Times(gelu_gate(a) + of_bump(a, gelu_bump))];
    Silu:    silu(a -> y)       = a.silu();       [Times(a.sigmoid() + of_bump(a, Var::logistic))];
    Softplus: softplus(a -> y)  = a.softplus();   [Times(a.sigmoid())];
    LogSigmoid: log_sigmoid(a -> y) = -(-a).softplus(); [Times((-a).sigmoid())];
    Floor:   floor(a -> y)      = a.floor();      [Zero];
    Ceil:    ceil(a -> y)       = a.ceil();       [Zero];
    Round:   round(a -> y)      = a.round();      [Zero];

    Add:     add(a, b -> y)     = a + b;          [One, One] int |x| x[0].checked_add(x[1]);
    Sub:     sub(a, b -> y)     = a - b;          [One, Minus] int |x| x[0].checked_sub(x[1]);
    Mul:     mul(a, b -> y)     = a * b;          [Times(b), Times(a)] int |x| x[0].checked_mul(x[1]);
    Div:     div(a, b -> y)     = a / b;          [Over(b), Times(-(y / b))];
    Maximum: maximum(a, b -> y) = a.maximum(b);   [WhereFinite(a.ge(b), tie(a, b)), WhereFinite(b.ge(a), tie(a, b))] int |x| Some(x[0].max(x[1]));
    Minimum: minimum(a, b -> y) = a.minimum(b);   [WhereFinite(a.le(b), tie(a, b)), WhereFinite(b.le(a), tie(a, b))] int |x| Some(x[0].min(x[1]));
    Pow:     pow(a, b -> y)     = a.powf(b);      [Times(pow_by_base(a, b)), Times(pow_by_exponent(a, b))];
    LeakyRelu: leaky_relu(a, slope -> y) = a.leaky_relu(slope);
        [Times(a.gt(0.0).select(1.0, slope)), WhereFinite(is_not_above_0(a), at_most_0(a))];
    Elu:     elu(a, scale -> y) = a.elu(scale);
        [Times(a.gt(0.0).select(1.0, scale * at_most_0(a).exp())), WhereFinite(is_not_above_0(a), at_most_0(a).expm1())];
    Atan2:   atan2(a, b -> y)   = a.atan2(b);     [by_angle(a, b, |u, v| v / (u * u + v * v)), by_angle(a, b, |u, v| -(u / (u * u + v * v)))];
    Hypot:   hypot(a, b -> y)   = a.hypot(b);     [by_length(a, b, |u, _| u), by_length(a, b, |_, v| v)];
    Rem:     rem(a, b -> y)     = a.rem(b);       [One, Times(((y - a) / b).round())] int |x| (x[1] != 0).then(|| x[0].wrapping_rem(x[1])), "an integer is divided by zero";
    Clamp:   clamp(a, low, high -> y) = a.clamp(low, high);
        [Where(a.ge(low).select(a, f64::NAN).le(high)), Where(a.lt(low).select(low, f64::NAN).le(high)), Where(a.maximum(low).gt(high))]
        int |x| Some(x[0].max(x[1]).min(x[2]));
}

/// Ops of which a kernel computes some numbers between those of others, in registers: a few instructions each. For one
/// number, or for many side by side.
macro_rules! in_registers {
    (of one: $($One:ident)*; of two: $($Two:ident)*; of three: $($Three:ident)*;) => {
        #[inline(always)]
        pub(crate) fn of_one<L: Lanes>(op: Id, a: L) -> L {
            match op {
                $(Id::$One => $One::of([a, a, a]),)*
                _ => a,
            }
        }

        #[inline(always)]
        pub(crate) fn of_two<L: Lanes>(op: Id, a: L, b: L) -> L {
            match op {
                $(Id::$Two => $Two::of([a, b, a]),)*
                op => super::compare::of_two(op, a, b),
            }
        }

        #[inline(always)]
        pub(crate) fn of_three<L: Lanes>(op: Id, x: [L; MAX_INPUTS]) -> L {
            match op {
                $(Id::$Three => $Three::of(x),)*
                _ => super::compare::select(x),
            }
        }
    };
}

/// Gives the ops to a macro that take many instructions, or call a library's function for each number: a kernel computes many
/// numbers in one go. The position in the list is a function's number.
macro_rules! with_functions {
    ($then:ident) => {
        $then! {
            Exp Expm1 Ln Ln1p Sin Cos Tan Asin Acos Atan Sinh Cosh TanhTail SigmoidTail Erf Erfc Gelu GeluTanh Silu Softplus
            LogSigmoid Floor Ceil Round Pow Elu Atan2 Hypot Rem
        }
    };
}
pub(crate) use with_functions;

macro_rules! functions {
    ($($Op:ident)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub(crate) enum Function { $($Op),* }

        pub(crate) const FUNCTIONS: usize = [$(Function::$Op),*].len();

        impl Function {
            /// The op that it is.
            pub(crate) fn id(self) -> Id {
                const IDS: [Id; FUNCTIONS] = [$(Id::$Op),*];
                IDS[self as usize]
            }

            /// The function that an op is, if it is one.
            pub(crate) fn of(op: Id) -> Option<Function> {
                match op {
                    $(Id::$Op => Some(Function::$Op),)*
                    _ => None,
                }
            }
        }
    };
}

in_registers! {
    of one: Neg Abs Sign Sqrt Square Recip Rsqrt Relu;
    of two: Tanh TanhSlope Sigmoid SigmoidSlope Maximum Minimum LeakyRelu;
    of three: Clamp;
}
with_functions!(functions);

// The factors of the rules above. A comparison of floats, and `select` between floats, are steps of fused kernels; `select`
// between truth values is not. So "p and q" is written as a comparison of a selected number.

/// `√(1 - a²)`, without the cancellation near ±1. What the product has over the difference is taken as a constant: the
/// product has the derivative `∞·0` at ±1, the difference the right one.
fn other_leg(a: Var<'_>) -> Var<'_> {
    let difference = 1.0 - a * a;
    (difference + ((1.0 - a) * (1.0 + a) - difference).detach()).sqrt()
}

/// `1/(1 + a²)`; beyond ±1 by the reciprocal `r`, as `r²/(1 + r²)`, because `a²` overflows
fn cauchy(a: Var<'_>) -> Var<'_> {
    let far = a.abs().gt(1.0);
    let r = far.select(a, 1.0).recip();
    let square = far.select(r, a).square();
    far.select(square, 1.0) / (1.0 + square)
}

/// `a` where `|a|` is below `limit`, and a constant beyond: where `f(a)` is as at the limit already, so that at ±∞ no derivative
/// is `∞·0`. Of NaN it is NaN.
fn within<'g>(a: Var<'g>, limit: f64) -> Var<'g> {
    a.gt(limit).select(limit, a.lt(-limit).select(-limit, a))
}

/// `e^(-a²)`, which is 0 in f64 at ±30 already
fn bell(a: Var<'_>) -> Var<'_> {
    (-within(a, 30.0).square()).exp()
}

/// `d(tail)/da` of [`Lanes::tanh_tail`]
fn tanh_tail_slope<'g>(a: Var<'g>, tail: Var<'g>) -> Var<'g> {
    let rises = a.abs().le(TANH_HALF).select(a.lit(1.0), a.lit(-1.0));
    rises * a.sign() * a.binary(Id::Tanh, tail).binary(Id::TanhSlope, tail)
}

/// The standard normal's distribution function, exact where it is small.
fn normal_cdf(a: Var<'_>) -> Var<'_> {
    0.5 * (a * -FRAC_1_SQRT_2).erfc()
}

/// The standard normal's density.
fn normal_density(a: Var<'_>) -> Var<'_> {
    (-0.5 * a * a).exp() * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2)
}

/// `a·f(a)` of a function that is 0 in f64 at ±800 and beyond: at ±∞ it would be `∞·0`.
fn of_bump<'g>(a: Var<'g>, f: fn(Var<'g>) -> Var<'g>) -> Var<'g> {
    let a = within(a, 800.0);
    a * f(a)
}

/// `u = √(8/π)·(a + 0.044715·a³)`, of which [`Var::gelu_tanh`] takes the sigmoid; as at ±30 beyond, where that is 0 or 1 and
/// the cube may overflow
fn gelu_inner(a: Var<'_>) -> Var<'_> {
    let a = within(a, 30.0);
    (a + a * a * a * GELU_CUBE) * GELU_TWICE
}

/// `σ(u)`: by what the approximate gelu multiplies.
fn gelu_gate(a: Var<'_>) -> Var<'_> {
    gelu_inner(a).sigmoid()
}

/// `dσ(u)/da = σ'(u)·du/da`
fn gelu_bump(a: Var<'_>) -> Var<'_> {
    gelu_inner(a).logistic() * ((1.0 + a * a * (3.0 * GELU_CUBE)) * GELU_TWICE)
}

/// `a` where it is not above 0. Not `minimum`, which would halve the second derivative at 0.
fn at_most_0(a: Var<'_>) -> Var<'_> {
    a.gt(0.0).select(0.0, a)
}

/// The same as a mask; true of NaN.
fn is_not_above_0(a: Var<'_>) -> Var<'_> {
    a.gt(0.0).select(a.lit(1.0), a.lit(0.0)).eq(0.0)
}

/// A point in the plane: its direction `(u, v)`, the larger coordinate being ±1, times its size `m`; and where that holds:
/// not at the origin and not at infinity. `m` is taken as a constant: what is computed from a direction does not depend on it.
/// At infinity `(u, v)` is the limit, at the origin (0, 0), both constant.
fn polar<'g>(a: Var<'g>, b: Var<'g>) -> [Var<'g>; 4] {
    let size = a.abs().maximum(b.abs()).detach();
    let regular = size.eq(f64::INFINITY).select(0.0, size).ne(0.0);
    let m = regular.select(size, 1.0);
    let along = |x: Var<'g>| regular.select(x, x.abs().eq(f64::INFINITY).select(x.sign(), 0.0)) / m;
    [along(a), along(b), m, regular]
}

/// A derivative of the angle of a point: `f(u, v)/m`, 0 at the origin and at infinity
fn by_angle<'g>(a: Var<'g>, b: Var<'g>, f: impl Fn(Var<'g>, Var<'g>) -> Var<'g>) -> Partial<'g> {
    let [u, v, m, regular] = polar(a, b);
    Partial::WhereFinite(regular, f(regular.select(u, 1.0), v) / m)
}

/// A derivative of the distance from the origin: `f(u, v)/√(u² + v²)`, 0 at the origin
fn by_length<'g>(a: Var<'g>, b: Var<'g>, f: impl Fn(Var<'g>, Var<'g>) -> Var<'g>) -> Partial<'g> {
    let [u, v, ..] = polar(a, b);
    let square = u * u + v * v;
    let away = square.ne(0.0);
    Partial::WhereFinite(away, f(u, v) / away.select(square, 1.0).sqrt())
}

/// `b·aᵇ⁻¹`
///
/// At `a = 0` and `b ≥ 0` the exponent is taken as a constant, as [`pow_by_exponent`] does: only then are the mixed second
/// derivatives equal. Where `b = 0` it is written `(b/a)·aᵇ`, so that a tiny `a` does not give `0·∞`, and at `a = 0` it is 0 to
/// all orders, as that of a polynomial's constant. Each of the two terms is a constant 0 where the other one holds.
fn pow_by_base<'g>(a: Var<'g>, b: Var<'g>) -> Var<'g> {
    let none = b.eq(0.0);
    if is_fixed(b) {
        return b * none.select(1.0, a).pow(b - 1.0);
    }
    let b = a.eq(0.0).select(b, -1.0).ge(0.0).select(b.detach(), b);
    let (a0, b0) = (none.select(a, 1.0), none.select(b, 0.0));
    let a0 = a0.eq(0.0).select(1.0, a0);
    let (a, b) = (none.select(1.0, a), none.select(0.0, b));
    b * a.pow(b - 1.0) + b0 / a0 * a0.pow(b0)
}

/// `aᵇ·ln a`; 0 to all orders where `aᵇ` is 0 around `b`, or at its edge: at `a = 0` for `b ≥ 0` and `a = ∞` for `b ≤ 0`
fn pow_by_exponent<'g>(a: Var<'g>, b: Var<'g>) -> Var<'g> {
    let at_infinity = a.eq(f64::INFINITY).select(-b, -1.0);
    let a = a.eq(0.0).select(b, at_infinity).ge(0.0).select(1.0, a);
    a.pow(b) * a.ln()
}

/// Whether it is a number, or one less by numbers: an exponent that nobody differentiates by.
fn is_fixed(b: Var<'_>) -> bool {
    let inner = b.graph.inner.borrow();
    let is_leaf = |id: NodeId| matches!(inner.nodes[id].kind, Kind::Literal | Kind::Constant);
    let mut id = b.id;
    while inner.nodes[id].is(Id::Sub) && is_leaf(inner.args(id)[1]) {
        id = inner.args(id)[0];
    }
    is_leaf(id)
}

/// The share of a gradient that each side of a maximum gets: half of it where both are equal.
fn tie<'g>(a: Var<'g>, b: Var<'g>) -> Var<'g> {
    a.eq(b).select(a.lit(0.5), a.lit(1.0))
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident $Op:ident;)*) => {
        impl<'g> Var<'g> { $(
            $(#[$doc])*
            #[track_caller]
            #[inline]
            pub fn $name(self) -> Var<'g> {
                self.unary(Id::$Op)
            }
        )* }
    };
}

methods! {
    /// `|x|`, with derivative `sign(x)`: 0 at 0.
    abs Abs;
    /// -1, 0 or 1, with derivative 0; NaN stays NaN.
    sign Sign;
    /// `eˣ`, with derivative `eˣ`.
    exp Exp;
    /// `eˣ - 1`, exact near 0, with derivative `eˣ`.
    expm1 Expm1;
    /// The natural logarithm, with derivative `1/x`; NaN below 0.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input(2.0);
    /// assert_eq!(x.ln().backward()?.scalar(x)?, 0.5);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    ln Ln;
    /// `ln(1 + x)`, exact near 0 (NumPy's `log1p`), with derivative `1/(1 + x)`; NaN below -1.
    ln_1p Ln1p;
    /// The square root, with derivative `1/(2√x)`: infinite at 0.
    sqrt Sqrt;
    /// `x²`, with derivative `2x`.
    square Square;
    /// `1/x`, with derivative `-1/x²`.
    recip Recip;
    /// `1/√x`, with derivative `-½·x^(-3/2)`: infinite at 0.
    rsqrt Rsqrt;
    /// The sine of an angle in radians, with derivative `cos x`.
    sin Sin;
    /// The cosine of an angle in radians, with derivative `-sin x`.
    cos Cos;
    /// The tangent of an angle in radians, with derivative `1 + tan² x`.
    tan Tan;
    /// The angle from `-π/2` to `π/2` with this sine, with derivative `1/√(1 - x²)`; NaN outside of [-1, 1].
    asin Asin;
    /// The angle from 0 to `π` with this cosine, with derivative `-1/√(1 - x²)`; NaN outside of [-1, 1].
    acos Acos;
    /// The angle from `-π/2` to `π/2` with this tangent, with derivative `1/(1 + x²)`.
    atan Atan;
    /// The hyperbolic sine, with derivative `cosh x`.
    sinh Sinh;
    /// The hyperbolic cosine, with derivative `sinh x`.
    cosh Cosh;
    /// The error function, with derivative `2/√π·e^(-x²)`.
    erf Erf;
    /// `1 - erf(x)`, exact where it is small, with derivative `-2/√π·e^(-x²)`.
    erfc Erfc;
    /// `x·Φ(x)` with the normal distribution function `Φ` (Hendrycks and Gimpel 2016), exactly, not by its tanh
    /// approximation; with derivative `Φ(x) + x·φ(x)`.
    gelu Gelu;
    /// The approximation of [`gelu`](Var::gelu) by `tanh` (Hendrycks and Gimpel 2016): PyTorch's `approximate="tanh"`.
    gelu_tanh GeluTanh;
    /// `x·σ(x)` (Elfwing et al. 2018), also called swish, with derivative `σ(x) + x·σ(x)·σ(-x)`.
    silu Silu;
    /// `ln σ(x)`, with derivative `σ(-x)`. Does not overflow; small values stay exact.
    log_sigmoid LogSigmoid;
    /// The largest whole number that is not above `x`, with derivative 0.
    floor Floor;
    /// The smallest whole number that is not below `x`, with derivative 0.
    ceil Ceil;
    /// The nearest whole number, the even one of two (as in NumPy and PyTorch), with derivative 0.
    round Round;
    /// `ln(1 + eˣ)`, with derivative `σ(x)`. Does not overflow; small values stay exact.
    softplus Softplus;
    /// `max(x, 0)`, with derivative 1 above 0 and 0 elsewhere, at 0 too. NaN stays NaN.
    relu Relu;
}

impl<'g> Var<'g> {
    /// The hyperbolic tangent, with derivative `1 - tanh² x`, exact where that is small.
    #[track_caller]
    pub fn tanh(self) -> Var<'g> {
        self.with_tail("tanh", Id::TanhTail, Id::Tanh)
    }

    /// `σ(x) = 1/(1 + e⁻ˣ)`, with derivative `σ(1 - σ)`. Does not overflow; small values of both stay exact.
    #[track_caller]
    pub fn sigmoid(self) -> Var<'g> {
        self.with_tail("sigmoid", Id::SigmoidTail, Id::Sigmoid)
    }

    /// A function of this value and of its tail.
    #[track_caller]
    fn with_tail(self, name: &'static str, tail: Id, function: Id) -> Var<'g> {
        match super::wants_float(self.known_dtype()) {
            Err(e) if self.kind() != Kind::Error => self.graph.fail(name, e, &[self]),
            _ => self.binary(function, self.unary(tail)),
        }
    }

    /// `σ'(x)`, the density of the logistic distribution.
    #[track_caller]
    fn logistic(self) -> Var<'g> {
        let tail = self.unary(Id::SigmoidTail);
        self.binary(Id::Sigmoid, tail)
            .binary(Id::SigmoidSlope, tail)
    }

    /// The larger of two numbers, element by element with broadcasting; at a tie each gets half of the gradient. NaN if
    /// either is.
    #[track_caller]
    pub fn maximum(self, other: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Maximum, other.var(self))
    }

    /// The smaller of two numbers, element by element with broadcasting; at a tie each gets half of the gradient. NaN if
    /// either is.
    #[track_caller]
    pub fn minimum(self, other: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Minimum, other.var(self))
    }

    /// `xᵖ` for numbers or tensors, element by element with broadcasting. Its derivatives are right where `x` or `p` is 0:
    /// `p·xᵖ⁻¹` is 0 for `p = 0`, and `xᵖ·ln x` is 0 for `x = 0`, `p ≥ 0`: there it is taken as a constant in `p`. NaN for a
    /// negative `x` unless `p` is whole.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let (x, p) = (g.input([0.0, 2.0]), g.input([2.0, 3.0]));
    /// let y = x.pow(p);
    /// let d = y.sum().backward()?;
    /// assert_eq!(d.get(x).map(|d| d.to_f64s()), Some(vec![0.0, 12.0]));
    /// assert_eq!(d.get(p).map(|d| d.to_f64s()), Some(vec![0.0, 8.0 * 2f64.ln()]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn pow(self, p: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Pow, p.var(self))
    }

    /// `xᵖ` for a number `p`: [`pow`](Var::pow). For whole `p`, [`powi`](Var::powi) is faster.
    #[track_caller]
    pub fn powf(self, p: f64) -> Var<'g> {
        self.pow(p)
    }

    /// `x` above 0 and `slope·x` elsewhere, with derivative 1 and `slope` (at 0 too).
    #[track_caller]
    pub fn leaky_relu(self, slope: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::LeakyRelu, slope.var(self))
    }

    /// `x` above 0 and `scale·(eˣ - 1)` elsewhere (Clevert et al. 2015), with derivative 1 and `scale·eˣ` (at 0 too).
    #[track_caller]
    pub fn elu(self, scale: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Elu, scale.var(self))
    }

    /// The angle from `-π` to `π` of the points with this ordinate and the given abscissa, with derivatives `x/(x² + y²)`
    /// and `-y/(x² + y²)`: 0 at the origin.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let angle = g.input(1.0).atan2(-1.0);
    /// assert_eq!(angle.value()?.scalar()?, 0.75 * std::f64::consts::PI);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn atan2(self, x: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Atan2, x.var(self))
    }

    /// `√(x² + y²)` without overflow on the way, with derivatives `x/√(x² + y²)` and `y/√(x² + y²)`: 0 at the origin.
    #[track_caller]
    pub fn hypot(self, y: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Hypot, y.var(self))
    }

    /// The nearest number from `low` to `high`; the derivative is 1 between them (both included) and 0 outside, where the
    /// bound gets it. NaN stays NaN; `high` wins if the bounds are the wrong way round.
    #[track_caller]
    pub fn clamp(self, low: impl Operand<'g>, high: impl Operand<'g>) -> Var<'g> {
        self.graph()
            .append(Id::Clamp, &[self, low.var(self), high.var(self)])
    }
}
