//! The built-in elementwise ops: one table of formulas and partial derivatives, and the one loop
//! that evaluates all of them. The list below the table names those that kernels compute by
//! functions.

use super::{
    Dependency, DynOp, Id, Lowering, Parts, Real, Rule,
    elementwise::{self, MAX_INPUTS, Partial, blocks},
    layout::MOVE,
    lowering::Scalar,
};
use crate::{
    error::OpError,
    math::{GELU_CUBE, GELU_TWICE, Lanes, TANH_HALF},
    nodes::{Kind, NodeId},
    piece::Piece,
    tensor::{Type, with_dtype},
    var::{Operand, Var},
    view::{TensorView, TensorViewMut},
};
use std::{
    any::Any,
    f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI},
    fmt::{self, Debug},
};

/// The function of integers, and the error message where it has no value.
type Integer = (Integers, &'static str);

/// A loop over elements of each input: whether all results exist.
type Integers = fn([&[i64]; MAX_INPUTS], &mut [i64]) -> bool;

/// The properties of a built-in op, beside its formula.
struct Properties {
    name: &'static str,
    inputs: usize,
    /// The derivative with respect to an input, from the inputs and the output.
    partial: for<'g> fn(usize, &[Var<'g>], Var<'g>) -> Partial<'g>,
    /// An input that is a function of the others and only makes the computed value more accurate.
    /// The derivatives by the others take it into account.
    hint: Option<usize>,
    /// The function of integers, if it is defined for them.
    integer: Option<Integer>,
}

const fn integer(all: Integers, why: &'static str) -> Option<Integer> {
    Some((all, why))
}

/// The loop of a function of integers.
#[inline(always)]
fn integer_loop(
    [a, b, c]: [&[i64]; MAX_INPUTS],
    out: &mut [i64],
    f: impl Fn([i64; MAX_INPUTS]) -> Option<i64>,
) -> bool {
    let mut exist = true;
    for (out, ((&a, &b), &c)) in out.iter_mut().zip(a.iter().zip(b).zip(c)) {
        let y = f([a, b, c]);
        exist &= y.is_some();
        *out = y.unwrap_or(0);
    }
    exist
}

/// A built-in elementwise op. One type serves all of them; its loop calls a function for each
/// element.
#[derive(Clone, Copy)]
pub(crate) struct Pointwise(pub(super) Id);

impl Debug for Pointwise {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl DynOp for Pointwise {
    fn name(&self) -> &'static str {
        properties(self.0).name
    }

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let Properties {
            inputs, integer, ..
        } = properties(self.0);
        elementwise::infer(*inputs, integer.is_some(), x)
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out))
    }

    fn parts(&self, _x: &[Type]) -> Parts {
        Parts::elements(1, MOVE)
    }

    fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>) -> Result<(), OpError> {
        with_dtype!(out.dtype(), float T => {
            let f = scalar::<T>(self.0);
            blocks::<T>(x, out, &mut |[a, b, c], out| {
                let inputs = a.iter().zip(b).zip(c);
                let pairs = out.iter_mut().zip(inputs);
                pairs.for_each(|(out, ((&a, &b), &c))| *out = f([a, b, c]));
            })
        }, else integers(properties(self.0).integer, x, out))
    }

    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        (properties(self.0).partial)(input, r.x, r.y).of(r.ct)
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
        if properties(self.0).hint == Some(input) {
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

/// An op on integers.
fn integers(f: Option<Integer>, x: &[TensorView<'_>], out: Piece<'_>) -> Result<(), OpError> {
    let (f, why) = f.ok_or("is not defined for integers")?;
    let mut exist = true;
    blocks::<i64>(x, out, &mut |x, out| exist &= f(x, out))?;
    if exist { Ok(()) } else { Err(why.into()) }
}

/// What a built-in op computes from one element of each input, for one or several lanes.
pub(crate) trait Formula {
    /// The number of inputs. Slots beyond it are not read.
    const INPUTS: usize;
    fn of<T: Lanes>(x: [T; MAX_INPUTS]) -> T;
}

/// A formula for single numbers, compiled once for each type.
#[inline(never)]
pub(crate) fn of_numbers<F: Formula, T: Real>(x: [T; MAX_INPUTS]) -> T {
    F::of(x)
}

/// `Name: method(inputs -> output) = value; [partial derivatives] hint input int function, error`.
/// There is one partial derivative per input. The default message is that the result does not fit.
/// `hint` gives the index of a hint input ([`Properties::hint`]). In the value the names are
/// scalars or lanes, in the derivatives they are `Var`s.
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
            const PROPERTIES: Properties = Properties {
                name: stringify!($name),
                inputs: <$Op as Formula>::INPUTS,
                partial: $Op::partial,
                hint: [$(Some($hint),)? None][0],
                integer: [$(integer(|x, out| integer_loop(x, out, $int), [$($why,)? "an integer result does not fit in 64 bits"][0]),)? None][0],
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
        fn properties(op: Id) -> &'static Properties {
            match op {
                $(Id::$Op => const { &$Op::PROPERTIES },)*
                _ => const { &Neg::PROPERTIES }, // all pointwise ops are listed above
            }
        }

        /// The formula of an op for scalars.
        pub(crate) fn scalar<T: Real>(op: Id) -> fn([T; MAX_INPUTS]) -> T {
            match op {
                $(Id::$Op => of_numbers::<$Op, T>,)*
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
    Asin:    asin(a -> y)       = a.asin();       [Over(sqrt_1_minus_square(a))];
    Acos:    acos(a -> y)       = a.acos();       [Over(-sqrt_1_minus_square(a))];
    Atan:    atan(a -> y)       = a.atan();       [Times(recip_1_plus_square(a))];
    Sinh:    sinh(a -> y)       = a.sinh();       [Times(a.cosh())];
    Cosh:    cosh(a -> y)       = a.cosh();       [Times(a.sinh())];
    // The value and the derivative of `tanh` and `sigmoid` are computed from one transcendental
    // function, the tail. It stays accurate where the value is close to 1: computed from the value,
    // `1 - tanh²` would be 0 from `x = 10` on in f32, and `σ(1 - σ)` from 17 on.
    TanhTail: tanh_tail(a -> t) = a.tanh_tail();  [Times(tanh_tail_slope(a, t))];
    Tanh:    tanh(a, t -> y)    = a.tanh_of(t);   [Times(y.binary(Id::TanhSlope, t)), Zero] hint 1;
    TanhSlope: tanh_slope(y, t -> d) = y.tanh_slope_of(t); [Times(-2.0 * y), Zero] hint 1;
    SigmoidTail: sigmoid_tail(a -> t) = a.sigmoid_tail(); [Times(-(a.sign() * (t * (1.0 - t))))];
    Sigmoid: sigmoid(a, t -> y) = a.sigmoid_of(t); [Times(y.binary(Id::SigmoidSlope, t)), Zero] hint 1;
    SigmoidSlope: sigmoid_slope(y, t -> d) = y.sigmoid_slope_of(t); [Times(1.0 - 2.0 * y), Zero] hint 1;
    Relu:    relu(a -> y)       = a.relu();       [Where(a.gt(a.lit(0.0)))];
    Erf:     erf(a -> y)        = a.erf();        [Times(exp_minus_square(a) * FRAC_2_SQRT_PI)];
    Erfc:    erfc(a -> y)       = a.erfc();       [Times(exp_minus_square(a) * -FRAC_2_SQRT_PI)];
    Gelu:    gelu(a -> y)       = a.gelu();       [Times(normal_cdf(a) + times_decaying(a, normal_density))];
    GeluTanh: gelu_tanh(a -> y) = a.gelu_tanh();  [Times(gelu_tanh_slope(a))];
    Silu:    silu(a -> y)       = a.silu();       [Times(silu_slope(a))];
    Softplus: softplus(a -> y)  = a.softplus();   [Times(a.sigmoid())];
    LogSigmoid: log_sigmoid(a -> y) = -(-a).softplus(); [Times((-a).sigmoid())];
    Floor:   floor(a -> y)      = a.floor();      [Zero];
    Ceil:    ceil(a -> y)       = a.ceil();       [Zero];
    Round:   round(a -> y)      = a.round();      [Zero];

    Add:     add(a, b -> y)     = a + b;          [One, One] int |x| x[0].checked_add(x[1]);
    Sub:     sub(a, b -> y)     = a - b;          [One, Minus] int |x| x[0].checked_sub(x[1]);
    Mul:     mul(a, b -> y)     = a * b;          [Times(b), Times(a)] int |x| x[0].checked_mul(x[1]);
    Div:     div(a, b -> y)     = a / b;          [Over(b), Times(-(y / b))];
    Maximum: maximum(a, b -> y) = a.maximum(b);   [WhereFinite(a.ge(b), tie_share(a, b)), WhereFinite(b.ge(a), tie_share(a, b))] int |x| Some(x[0].max(x[1]));
    Minimum: minimum(a, b -> y) = a.minimum(b);   [WhereFinite(a.le(b), tie_share(a, b)), WhereFinite(b.le(a), tie_share(a, b))] int |x| Some(x[0].min(x[1]));
    Pow:     pow(a, b -> y)     = a.powf(b);      [Times(pow_by_base(a, b)), Times(pow_by_exponent(a, b))];
    LeakyRelu: leaky_relu(a, slope -> y) = a.leaky_relu(slope);
        [Times(a.gt(0.0).select(1.0, slope)), WhereFinite(is_not_above_0(a), min_with_0(a))];
    Elu:     elu(a, scale -> y) = a.elu(scale);
        [Times(a.gt(0.0).select(1.0, scale * min_with_0(a).exp())), WhereFinite(is_not_above_0(a), min_with_0(a).expm1())];
    Atan2:   atan2(a, b -> y)   = a.atan2(b);     [by_angle(a, b, |u, v| v / (u * u + v * v)), by_angle(a, b, |u, v| -(u / (u * u + v * v)))];
    Hypot:   hypot(a, b -> y)   = a.hypot(b);     [by_length(a, b, |u, _| u), by_length(a, b, |_, v| v)];
    Rem:     rem(a, b -> y)     = a.rem(b);       [One, Times(((y - a) / b).round())] int |x| (x[1] != 0).then(|| x[0].wrapping_rem(x[1])), "an integer is divided by zero";
    Clamp:   clamp(a, low, high -> y) = a.clamp(low, high);
        [Where(a.ge(low).select(a, f64::NAN).le(high)), Where(a.lt(low).select(low, f64::NAN).le(high)), Where(a.maximum(low).gt(high))]
        int |x| Some(x[0].max(x[1]).min(x[2]));
}

/// Passes to a macro the ops that kernels compute by a function of many elements: all but `+`, `-`,
/// `*` and `/`. First those of a few instructions, then those of many. The position in the list is
/// the function's index.
macro_rules! with_functions {
    ($then:ident) => {
        $then! {
            [Neg Abs Sign Sqrt Square Recip Rsqrt Relu Tanh TanhSlope Sigmoid SigmoidSlope Maximum Minimum LeakyRelu
            Clamp Eq Ne Lt Le Gt Ge Select Floor Ceil Round]
            [Exp Expm1 Ln Ln1p Sin Cos Tan Asin Acos Atan Sinh Cosh TanhTail SigmoidTail Erf Erfc Gelu GeluTanh Silu
            Softplus LogSigmoid Pow Elu Atan2 Hypot Rem]
        }
    };
}
pub(crate) use with_functions;

macro_rules! functions {
    ([$($Cheap:ident)*] [$($Costly:ident)*]) => {
        functions! { @all $($Cheap)* $($Costly)* }

        impl Function {
            /// Whether it takes only a few instructions.
            pub(crate) fn is_cheap(self) -> bool {
                (self as usize) < [$(Function::$Cheap),*].len()
            }
        }
    };
    (@all $($Op:ident)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub(crate) enum Function { $($Op),* }

        pub(crate) const FUNCTIONS: usize = [$(Function::$Op),*].len();

        impl Function {
            /// The op of this function.
            pub(crate) fn id(self) -> Id {
                const IDS: [Id; FUNCTIONS] = [$(Id::$Op),*];
                IDS[self as usize]
            }

            /// The function of an op, if it has one.
            pub(crate) fn of(op: Id) -> Option<Function> {
                match op {
                    $(Id::$Op => Some(Function::$Op),)*
                    _ => None,
                }
            }
        }
    };
}

with_functions!(functions);

/// The formulas of all functions.
pub(crate) mod formulas {
    pub(crate) use super::{super::compare::formulas::*, *};
}

// The factors of the rules above. Fused kernels can compute a comparison of floats and `select`
// between floats, but not `select` between booleans. So "p and q" is written as a comparison of a
// selected value.

/// `√(1 - a²)`, without the cancellation near ±1. The quotient of the product `(1 - a)(1 + a)` and
/// the difference `1 - a²` is taken as a constant: at ±1 the product has the derivative `∞·0`, the
/// difference the correct one.
fn sqrt_1_minus_square(a: Var<'_>) -> Var<'_> {
    let difference = 1.0 - a * a;
    (difference + ((1.0 - a) * (1.0 + a) - difference).detach()).sqrt()
}

/// `1/(1 + a²)`; beyond ±1, where `a²` may overflow, `r²/(1 + r²)` with the reciprocal `r`.
fn recip_1_plus_square(a: Var<'_>) -> Var<'_> {
    let far = a.abs().gt(1.0);
    let r = far.select(a, 1.0).recip();
    let square = far.select(r, a).square();
    far.select(square, 1.0) / (1.0 + square)
}

/// `a` where `|a|` is below `limit`, and a constant beyond, where `f(a)` has reached its limit: so
/// no derivative is `∞·0` at ±∞. NaN stays NaN.
fn constant_beyond<'g>(a: Var<'g>, limit: f64) -> Var<'g> {
    a.gt(limit).select(limit, a.lt(-limit).select(-limit, a))
}

/// `e^(-a²)`, which is already 0 in f64 at ±30.
fn exp_minus_square(a: Var<'_>) -> Var<'_> {
    (-constant_beyond(a, 30.0).square()).exp()
}

/// `d(tail)/da` of [`Lanes::tanh_tail`]
fn tanh_tail_slope<'g>(a: Var<'g>, tail: Var<'g>) -> Var<'g> {
    let rises = a.abs().le(TANH_HALF).select(a.lit(1.0), a.lit(-1.0));
    rises * a.sign() * a.binary(Id::Tanh, tail).binary(Id::TanhSlope, tail)
}

/// The cumulative distribution function of the standard normal, exact where it is small.
fn normal_cdf(a: Var<'_>) -> Var<'_> {
    0.5 * (a * -FRAC_1_SQRT_2).erfc()
}

/// The density of the standard normal.
fn normal_density(a: Var<'_>) -> Var<'_> {
    (-0.5 * a * a).exp() * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2)
}

/// `a·f(a)` for a function that is 0 in f64 at ±800 and beyond: at ±∞ the product would be `∞·0`.
fn times_decaying<'g>(a: Var<'g>, f: fn(Var<'g>) -> Var<'g>) -> Var<'g> {
    let a = constant_beyond(a, 800.0);
    a * f(a)
}

/// `σ(a) + a·σ'(a)`, which is constant in f64 beyond ±800.
fn silu_slope(a: Var<'_>) -> Var<'_> {
    let a = constant_beyond(a, 800.0);
    a.sigmoid() + a * a.logistic_density()
}

/// The derivative of `a·σ(u)` with `u = √(8/π)·(a + 0.044715·a³)`: `σ(u) + a·σ'(u)·du/da`. It is
/// constant beyond ±30, where `σ(u)` is 0 or 1 and the cube may overflow.
fn gelu_tanh_slope(a: Var<'_>) -> Var<'_> {
    let a = constant_beyond(a, 30.0);
    let u = (a + a * a * a * GELU_CUBE) * GELU_TWICE;
    let slope = (1.0 + a * a * (3.0 * GELU_CUBE)) * GELU_TWICE;
    u.sigmoid() + a * (u.logistic_density() * slope)
}

/// `a` where it is not above 0, else 0. Not `minimum`, which would halve the second derivative at
/// 0.
fn min_with_0(a: Var<'_>) -> Var<'_> {
    a.gt(0.0).select(0.0, a)
}

/// The same condition as a mask; true for NaN.
fn is_not_above_0(a: Var<'_>) -> Var<'_> {
    a.gt(0.0).select(a.lit(1.0), a.lit(0.0)).eq(0.0)
}

/// A point in the plane as direction `(u, v)`, whose larger coordinate is ±1, times size `m`; and a
/// mask that is false at the origin and at infinity. `m` is taken as a constant: functions of the
/// direction do not depend on it. At infinity `(u, v)` is the limit, at the origin (0, 0), both
/// constant.
fn polar<'g>(a: Var<'g>, b: Var<'g>) -> [Var<'g>; 4] {
    let size = a.abs().maximum(b.abs()).detach();
    let regular = size.eq(f64::INFINITY).select(0.0, size).ne(0.0);
    let m = regular.select(size, 1.0);
    let along = |x: Var<'g>| regular.select(x, x.abs().eq(f64::INFINITY).select(x.sign(), 0.0)) / m;
    [along(a), along(b), m, regular]
}

/// A derivative of the angle of a point: `f(u, v)/m`; 0 at the origin and at infinity.
fn by_angle<'g>(a: Var<'g>, b: Var<'g>, f: impl Fn(Var<'g>, Var<'g>) -> Var<'g>) -> Partial<'g> {
    let [u, v, m, regular] = polar(a, b);
    Partial::WhereFinite(regular, f(regular.select(u, 1.0), v) / m)
}

/// A derivative of the distance from the origin: `f(u, v)/√(u² + v²)`; 0 at the origin.
fn by_length<'g>(a: Var<'g>, b: Var<'g>, f: impl Fn(Var<'g>, Var<'g>) -> Var<'g>) -> Partial<'g> {
    let [u, v, ..] = polar(a, b);
    let square = u * u + v * v;
    let away = square.ne(0.0);
    Partial::WhereFinite(away, f(u, v) / away.select(square, 1.0).sqrt())
}

/// `b·aᵇ⁻¹`
///
/// At `a = 0` and `b ≥ 0` the exponent is taken as a constant, as in [`pow_by_exponent`]: only then
/// are the mixed second derivatives equal. Where `b = 0` the derivative is written `(b/a)·aᵇ`, so
/// that a tiny `a` does not give `0·∞`; at `a = 0` it is 0 to all orders, as for a polynomial's
/// constant term. Each of the two terms is a constant 0 where the other one applies.
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

/// `aᵇ·ln a`; 0 to all orders where `aᵇ` is 0 in a neighbourhood of `b` or on one side of it: at
/// `a = 0` for `b ≥ 0` and at `a = ∞` for `b ≤ 0`.
fn pow_by_exponent<'g>(a: Var<'g>, b: Var<'g>) -> Var<'g> {
    let at_infinity = a.eq(f64::INFINITY).select(-b, -1.0);
    let a = a.eq(0.0).select(b, at_infinity).ge(0.0).select(1.0, a);
    a.pow(b) * a.ln()
}

/// Whether it is a constant, or a constant minus constants: an exponent that is never
/// differentiated.
fn is_fixed(b: Var<'_>) -> bool {
    let inner = b.graph.inner.borrow();
    let is_leaf = |id: NodeId| matches!(inner.nodes[id].kind, Kind::Literal | Kind::Constant);
    let mut id = b.id;
    while inner.nodes[id].is(Id::Sub) && is_leaf(inner.args(id)[1]) {
        id = inner.args(id)[0];
    }
    is_leaf(id)
}

/// The share of the gradient that each side of a maximum gets: half where both are equal.
fn tie_share<'g>(a: Var<'g>, b: Var<'g>) -> Var<'g> {
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
    #[doc(alias = "absolute")]
    #[doc(alias = "fabs")]
    abs Abs;
    /// -1, 0 or 1, with derivative 0. NaN stays NaN.
    #[doc(alias = "signum")]
    sign Sign;
    /// `eˣ`, with derivative `eˣ`.
    exp Exp;
    /// `eˣ - 1`, exact near 0, with derivative `eˣ`.
    #[doc(alias = "exp_m1")]
    expm1 Expm1;
    /// The natural logarithm, with derivative `1/x`; NaN below 0.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input(2.0);
    /// assert_eq!(x.ln().backward()?.scalar(x)?, 0.5);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[doc(alias = "log")]
    ln Ln;
    /// `ln(1 + x)`, exact near 0 (NumPy's `log1p`), with derivative `1/(1 + x)`; NaN below -1.
    #[doc(alias = "log1p")]
    ln_1p Ln1p;
    /// The square root, with derivative `1/(2√x)`: infinite at 0.
    sqrt Sqrt;
    /// `x²`, with derivative `2x`.
    square Square;
    /// `1/x`, with derivative `-1/x²`.
    #[doc(alias = "reciprocal")]
    recip Recip;
    /// `1/√x`, with derivative `-½·x^(-3/2)`: infinite at 0.
    rsqrt Rsqrt;
    /// The sine of an angle in radians, with derivative `cos x`.
    sin Sin;
    /// The cosine of an angle in radians, with derivative `-sin x`.
    cos Cos;
    /// The tangent of an angle in radians, with derivative `1 + tan² x`.
    tan Tan;
    /// The arcsine in radians, from `-π/2` to `π/2`, with derivative `1/√(1 - x²)`; NaN outside of
    /// [-1, 1].
    #[doc(alias = "arcsin")]
    asin Asin;
    /// The arccosine in radians, from 0 to `π`, with derivative `-1/√(1 - x²)`; NaN outside of [-1,
    /// 1].
    #[doc(alias = "arccos")]
    acos Acos;
    /// The arctangent in radians, from `-π/2` to `π/2`, with derivative `1/(1 + x²)`.
    #[doc(alias = "arctan")]
    atan Atan;
    /// The hyperbolic sine, with derivative `cosh x`.
    sinh Sinh;
    /// The hyperbolic cosine, with derivative `sinh x`.
    cosh Cosh;
    /// The error function, with derivative `2/√π·e^(-x²)`.
    erf Erf;
    /// `1 - erf(x)`, exact where it is small, with derivative `-2/√π·e^(-x²)`.
    erfc Erfc;
    /// `x·Φ(x)` with the normal cumulative distribution function `Φ` (Hendrycks and Gimpel 2016),
    /// exact, not the tanh approximation; with derivative `Φ(x) + x·φ(x)`.
    gelu Gelu;
    /// The approximation of [`gelu`](Var::gelu) by `tanh` (Hendrycks and Gimpel 2016): PyTorch's
    /// `approximate="tanh"`.
    gelu_tanh GeluTanh;
    /// `x·σ(x)` (Elfwing et al. 2018), also called swish, with derivative `σ(x) + x·σ(x)·σ(-x)`.
    #[doc(alias = "swish")]
    silu Silu;
    /// `ln σ(x)`, with derivative `σ(-x)`. Does not overflow; small values stay exact.
    log_sigmoid LogSigmoid;
    /// The largest integer that is not above `x`, with derivative 0.
    floor Floor;
    /// The smallest integer that is not below `x`, with derivative 0.
    ceil Ceil;
    /// The nearest integer; ties go to the even one (as in NumPy and PyTorch). Derivative 0.
    #[doc(alias = "rint")]
    round Round;
    /// `ln(1 + eˣ)`, with derivative `σ(x)`. Does not overflow; small values stay exact.
    softplus Softplus;
    /// `max(x, 0)`, with derivative 1 above 0 and 0 elsewhere, at 0 too. NaN stays NaN.
    #[doc(alias = "ReLU")]
    relu Relu;
}

impl<'g> Var<'g> {
    /// The hyperbolic tangent, with derivative `1 - tanh² x`, exact where that is small.
    #[track_caller]
    pub fn tanh(self) -> Var<'g> {
        self.with_tail("tanh", Id::TanhTail, Id::Tanh)
    }

    /// `σ(x) = 1/(1 + e⁻ˣ)`, with derivative `σ(1 - σ)`. Does not overflow; small values of both
    /// stay exact.
    #[track_caller]
    #[doc(alias = "expit")]
    #[doc(alias = "logistic")]
    pub fn sigmoid(self) -> Var<'g> {
        self.with_tail("sigmoid", Id::SigmoidTail, Id::Sigmoid)
    }

    /// A function of this value and its tail.
    #[track_caller]
    fn with_tail(self, name: &'static str, tail: Id, function: Id) -> Var<'g> {
        match super::expect_float(self.known_dtype()) {
            Err(e) if self.kind() != Kind::Error => self.graph.fail(name, e, &[self]),
            _ => self.binary(function, self.unary(tail)),
        }
    }

    /// `σ'(x)`, the density of the logistic distribution.
    #[track_caller]
    fn logistic_density(self) -> Var<'g> {
        let tail = self.unary(Id::SigmoidTail);
        self.binary(Id::Sigmoid, tail)
            .binary(Id::SigmoidSlope, tail)
    }

    /// The larger of two values, element by element with broadcasting. At a tie each gets half of
    /// the gradient. NaN if either is.
    #[track_caller]
    #[doc(alias = "fmax")]
    pub fn maximum(self, other: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Maximum, other.var(self))
    }

    /// The smaller of two values, element by element with broadcasting. At a tie each gets half of
    /// the gradient. NaN if either is.
    #[track_caller]
    #[doc(alias = "fmin")]
    pub fn minimum(self, other: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Minimum, other.var(self))
    }

    /// `xᵖ`, element by element with broadcasting. Its derivatives are also right where `x` or `p`
    /// is 0: `p·xᵖ⁻¹` is 0 for `p = 0`, and `xᵖ·ln x` is 0 for `x = 0`, `p ≥ 0`, where the power is
    /// taken as a constant in `p`. NaN for a negative `x` unless `p` is an integer.
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
    #[doc(alias = "power")]
    pub fn pow(self, p: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Pow, p.var(self))
    }

    /// `xᵖ` for a scalar `p`: [`pow`](Var::pow). For integer `p`, [`powi`](Var::powi) is faster.
    #[track_caller]
    #[doc(alias = "pow")]
    #[doc(alias = "power")]
    pub fn powf(self, p: f64) -> Var<'g> {
        self.pow(p)
    }

    /// `x` above 0 and `slope·x` elsewhere, with derivative 1 and `slope` (at 0 too).
    #[track_caller]
    pub fn leaky_relu(self, slope: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::LeakyRelu, slope.var(self))
    }

    /// `x` above 0 and `scale·(eˣ - 1)` elsewhere (Clevert et al. 2015), with derivative 1 and
    /// `scale·eˣ` (at 0 too).
    #[track_caller]
    pub fn elu(self, scale: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Elu, scale.var(self))
    }

    /// The angle, from `-π` to `π`, of the point with `y = self` and the given `x`, with
    /// derivatives `x/(x² + y²)` and `-y/(x² + y²)`: 0 at the origin.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let angle = g.input(1.0).atan2(-1.0);
    /// assert_eq!(angle.value()?.scalar()?, 0.75 * std::f64::consts::PI);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "arctan2")]
    pub fn atan2(self, x: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Atan2, x.var(self))
    }

    /// `√(x² + y²)` without intermediate overflow, with derivatives `x/√(x² + y²)` and
    /// `y/√(x² + y²)`: 0 at the origin.
    #[track_caller]
    pub fn hypot(self, y: impl Operand<'g>) -> Var<'g> {
        self.binary(Id::Hypot, y.var(self))
    }

    /// Limits the values to `low..=high`. The derivative is 1 within the bounds (inclusive) and 0
    /// outside, where the bound gets the gradient. NaN stays NaN. If `low > high`, the result is
    /// `high`.
    #[track_caller]
    #[doc(alias = "clip")]
    pub fn clamp(self, low: impl Operand<'g>, high: impl Operand<'g>) -> Var<'g> {
        self.graph()
            .append(Id::Clamp, &[self, low.var(self), high.var(self)])
    }
}
