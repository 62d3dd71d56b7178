//! Elementwise ops: the trait for user-defined ones, and the loops that evaluate them. The built-in
//! ones are in [`pointwise`](super::pointwise).

use super::{
    Dependency, Internal, Lowering, Op, Real, Rule,
    lowering::{CustomLoop, Scalar},
    same_dtype,
};
use crate::{
    error::OpError,
    movement,
    piece::Piece,
    shape::{Shape, Walk},
    tensor::{DType, Element, Type, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::fmt::Debug;

/// The partial derivative of an elementwise op: what the cotangent is multiplied by.
#[derive(Clone, Copy, Debug)]
pub enum Partial<'g> {
    /// By 0, everywhere.
    Zero,
    /// By 1.
    One,
    /// By -1.
    Minus,
    /// By this factor.
    Times(Var<'g>),
    /// By the reciprocal of this divisor.
    Over(Var<'g>),
    /// By 1 where the mask is true. Elsewhere the result is 0, whatever the cotangent (`0·∞` does
    /// not arise).
    Where(Var<'g>),
    /// By the factor where the mask is true. Elsewhere the result is 0, whatever the factor and the
    /// cotangent.
    ///
    /// For second order the factor has derivatives of its own. Masking the product cannot guard
    /// those. Where the factor is not smooth, guard what it is computed *from*, as in
    /// `select(x == 0, 1, x)`.
    WhereTimes(Var<'g>, Var<'g>),
    /// As [`WhereTimes`](Partial::WhereTimes), for a factor that is finite where the mask is false,
    /// and whose derivatives are.
    WhereFinite(Var<'g>, Var<'g>),
}

impl<'g> Partial<'g> {
    /// The cotangent times the partial derivative.
    #[track_caller]
    pub(super) fn of(self, ct: Var<'g>) -> Option<Var<'g>> {
        Some(match self {
            Partial::Zero => return None,
            Partial::One => ct,
            Partial::Minus => -ct,
            Partial::Times(d) if ct.is_one_like(d) => d,
            Partial::Times(d) => ct * d,
            Partial::Over(d) => ct / d,
            Partial::Where(mask) => mask.select(ct, ct.lit(0.0)),
            // with separate masks, neither the value nor the derivative by `ct` computes 0 times
            // the factor
            Partial::WhereTimes(mask, d) => {
                mask.select(ct, ct.lit(0.0)) * mask.select(d, d.lit(0.0))
            }
            Partial::WhereFinite(mask, d) => mask.select(ct, ct.lit(0.0)) * d,
        })
    }
}

/// A scalar function that is applied element by element, after broadcasting the inputs against each
/// other.
///
/// An implementation gives a value for `f32` and `f64` and one partial derivative per input, and
/// gets [`Op`].
///
/// ```
/// use autograd::{Elementwise, Graph, Partial, Real, Var};
///
/// /// `f(x) = x²·sin x`
/// #[derive(Clone, PartialEq, Debug)]
/// struct Wave;
///
/// impl Elementwise for Wave {
///     const NAME: &'static str = "wave";
///     const INPUTS: usize = 1;
///     fn value<T: Real>(&self, x: &[T]) -> T {
///         x[0] * x[0] * x[0].sin()
///     }
///     fn partial<'g>(&self, _input: usize, x: &[Var<'g>], _y: Var<'g>) -> Partial<'g> {
///         let x = x[0];
///         Partial::Times(2.0 * x * x.sin() + x * x * x.cos())
///     }
/// }
///
/// let g = Graph::new();
/// let x = g.input([0.5, 1.0]);
/// let y = x.apply(Wave).sum();
/// assert!(y.backward()?.get(x).is_some());
/// # Ok::<(), autograd::Error>(())
/// ```
pub trait Elementwise: Clone + PartialEq + Debug + Send + Sync + 'static {
    /// The name shown in errors and drawings.
    const NAME: &'static str;
    /// The number of inputs: 1 to 3.
    const INPUTS: usize;
    /// The value from one element of each input.
    fn value<T: Real>(&self, x: &[T]) -> T;
    /// The derivative with respect to input `input`, from the inputs `x` and the output `y`.
    fn partial<'g>(&self, input: usize, x: &[Var<'g>], y: Var<'g>) -> Partial<'g>;
}

impl<E: Elementwise> Op for E {
    const NAME: &'static str = <E as Elementwise>::NAME;

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        infer(E::INPUTS, false, x)
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        evaluate(self, x, out)
    }

    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        self.partial(input, r.x, r.y).of(r.ct)
    }

    fn may_fail(&self, x: &[Type]) -> bool {
        x.iter().any(|t| !t.dtype.is_float())
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Elementwise(Scalar::Custom(self))
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Elementwise
    }
}

impl<E: Elementwise> CustomLoop for E {
    fn f32(&self, x: [&[f32]; MAX_INPUTS], out: &mut [f32]) {
        custom_loop(self, x, out);
    }
    fn f64(&self, x: [&[f64]; MAX_INPUTS], out: &mut [f64]) {
        custom_loop(self, x, out);
    }
}

/// `out[i] = f(x[0][i], x[1][i], ..)` for the formula of an op.
fn custom_loop<E: Elementwise, T: Real>(op: &E, x: [&[T]; MAX_INPUTS], out: &mut [T]) {
    let n = out.len();
    let [a, b, c] = x.map(|x| &x[..n]); // one bounds check for the whole loop
    for i in 0..n {
        out[i] = op.value(&[a[i], b[i], c[i]][..E::INPUTS]);
    }
}

/// The output's type of an op with this many inputs. `integers`: whether it is defined for
/// integers.
pub(super) fn infer(inputs: usize, integers: bool, x: &[Type]) -> Result<Type, OpError> {
    if x.len() != inputs || !(1..=MAX_INPUTS).contains(&inputs) {
        return Err(OpError::new(format!(
            "expected {inputs} inputs (at most {MAX_INPUTS}), got {}",
            x.len()
        )));
    }
    let dtype = same_dtype(x)?;
    if !(dtype.is_float() || dtype == DType::I64 && integers) {
        super::expect_float(dtype)?;
    }
    let mut shape = x[0].shape;
    for t in &x[1..] {
        shape = shape.broadcast(&t.shape)?;
    }
    Ok(Type { dtype, shape })
}

pub(crate) const MAX_INPUTS: usize = 3;

/// How many elements of type `T` are computed at once: of inputs that can be read where they lie
/// all of them, else so many that the blocks of all inputs fit the first-level cache.
pub(crate) fn block_len<T>(x: &[TensorView<'_>], shape: &Shape) -> usize {
    match x.iter().all(|x| x.shape == shape) {
        true => usize::MAX,
        false => 4096 / size_of::<T>(),
    }
}

/// Reads an operand block by block. Elements of the output's shape are read in place, broadcast ones
/// are copied into a block. So a broadcast operand never takes more memory than fits the L1 cache.
pub(crate) struct Reader<'a, T> {
    data: &'a [T],
    /// How it is broadcast.
    walk: Option<Walk>,
    block: Vec<T>,
}

impl<'a, T: Element> Reader<'a, T> {
    /// Of an input, for an output of this shape.
    #[inline(never)]
    pub(crate) fn new(x: TensorView<'a>, shape: &Shape) -> Result<Reader<'a, T>, OpError> {
        Ok(Reader {
            data: x.slice()?,
            walk: (x.shape != shape).then(|| Walk::broadcast(x.shape, shape)),
            block: Vec::new(),
        })
    }

    /// The elements `start..start + n`.
    #[inline(never)]
    pub(crate) fn block(&mut self, start: usize, n: usize) -> &[T] {
        let Some(walk) = &self.walk else {
            return &self.data[start..start + n];
        };
        // a block that is the same everywhere is filled once for all
        if !(walk.is_constant() && self.block.len() >= n) {
            self.block.resize(n, T::default());
            movement::copy_elements(self.data, walk, start, &mut self.block);
        }
        &self.block[..n]
    }
}

/// Computes a block of the output from those of the inputs.
type OfBlock<'f, T> = dyn FnMut([&[T]; MAX_INPUTS], &mut [T]) + 'f;

/// Calls `f` with each block of the output, and those of the inputs, which are of its dtype. Inputs
/// that are not there are the first one again: a loop over three inputs serves all ops.
pub(super) fn blocks<T: Element>(
    x: &[TensorView<'_>],
    mut out: Piece<'_>,
    f: &mut OfBlock<'_, T>,
) -> Result<(), OpError> {
    let shape = *out.shape;
    let reader = |k: usize| match x.get(k).or(x.first()) {
        Some(x) => Reader::<T>::new(*x, &shape),
        None => Err("has no input".into()),
    };
    let (mut a, mut b, mut c) = (reader(0)?, reader(1)?, reader(2)?);
    let (mut first, out) = out.range::<T>()?;
    for out in out.chunks_mut(block_len::<T>(x, &shape)) {
        let n = out.len();
        f(
            [a.block(first, n), b.block(first, n), c.block(first, n)],
            out,
        );
        first += n;
    }
    Ok(())
}

/// An elementwise op on whole tensors.
fn evaluate(
    op: &dyn CustomLoop,
    x: &[TensorView<'_>],
    out: TensorViewMut<'_>,
) -> Result<(), OpError> {
    let out = Piece::whole(out);
    match out.dtype() {
        DType::F32 => blocks(x, out, &mut |x, out| op.f32(x, out)),
        DType::F64 => blocks(x, out, &mut |x, out| op.f64(x, out)),
        other => super::expect_float(other),
    }
}

/// `xⁿ` for an integer `n`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Powi(pub(crate) i32);

impl Op for Powi {
    const NAME: &'static str = "powi";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        infer(1, false, x)
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        with_dtype!(out.dtype(), float T => {
            blocks::<T>(x, Piece::whole(out), &mut |[x, ..], out| {
                out.iter_mut().zip(x).for_each(|(out, x)| *out = x.powi(self.0));
            })
        }, else super::expect_float(out.dtype()))
    }

    /// `n·xⁿ⁻¹`; 0 for `n = 0` and 1 for `n = 1`, at `x = 0` too
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let partial = match self.0 {
            0 => Partial::Zero,
            1 => Partial::One,
            n => Partial::Times(n as f64 * r.x[0].powi(n.saturating_sub(1))),
        };
        partial.of(r.ct)
    }

    fn may_fail(&self, x: &[Type]) -> bool {
        x.iter().any(|t| !t.dtype.is_float())
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Elementwise(Scalar::Power(self.0))
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Elementwise
    }
}

impl<'g> Var<'g> {
    /// `xⁿ` for an integer `n`, with derivative `n·xⁿ⁻¹`, which is also right at 0. For floats.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input(3.0);
    /// assert_eq!(x.powi(4).backward()?.scalar(x)?, 108.0);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "pow")]
    #[doc(alias = "power")]
    #[doc(alias = "integer_pow")]
    pub fn powi(self, n: i32) -> Var<'g> {
        self.apply(Powi(n))
    }
}
