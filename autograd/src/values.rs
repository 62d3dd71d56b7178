//! What tensors do without a graph: making them, taking them apart, and arithmetic for small
//! things. All that computes goes through a graph of its own, so that it follows the same rules.

use crate::{
    error::{OpError, Result},
    graph::Graph,
    ints::Ints,
    lines::called_from,
    op::{create, layout::complete},
    tensor::{DType, Element, Number, Tensor, with_dtype},
    var::{Operand, Var},
};
use std::{ops, panic::Location};

mod sealed {
    pub trait Sealed {}
}

/// A number that says of which dtype tensors of such numbers are: as everywhere, `2.0` is f64,
/// `2.0f32` is f32, and integers are i64.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a number of a tensor",
    note = "`f64`, `f32`, `i64`, `i32` and `usize` are"
)]
pub trait Num: sealed::Sealed + Copy {
    /// The dtype of tensors of such numbers.
    const DTYPE: DType;
    #[doc(hidden)]
    fn number(self) -> Literal;
}

/// The value of a [`Num`].
#[doc(hidden)]
pub struct Literal(pub(crate) Number);

macro_rules! numbers {
    ($($T:ty, $dtype:ident: $v:ident => $number:expr;)*) => { $(
        impl sealed::Sealed for $T {}
        impl Num for $T {
            const DTYPE: DType = DType::$dtype;
            fn number(self) -> Literal {
                let $v = self;
                Literal($number)
            }
        }
    )* };
}
numbers! {
    f64, F64: v => Number::Float(v);
    f32, F32: v => Number::Float(v.into());
    i64, I64: v => Number::Int(v);
    i32, I64: v => Number::Int(v.into());
    // one beyond i64 makes no sequence that fits in memory
    usize, I64: v => Number::Int(i64::try_from(v).unwrap_or(i64::MAX));
}

/// A floating-point [`Num`]: f32 or f64.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a floating-point number",
    note = "`f64` and `f32` are: write `0.0` in place of `0`"
)]
pub trait FloatNum: Num {}
impl FloatNum for f64 {}
impl FloatNum for f32 {}

impl Tensor {
    /// Ones (`true` for [`DType::Bool`]). An error if there is not enough memory.
    #[track_caller]
    pub fn ones(shape: impl Ints, dtype: DType) -> Result<Tensor> {
        let one = Tensor::number(Number::Int(1), dtype);
        with_dtype!(dtype, T => Tensor::full(shape, one.as_slice::<T>()?[0]))
    }

    /// The identity matrix: 1 on the diagonal, 0 elsewhere.
    ///
    /// ```
    /// use autograd::{DType, Tensor};
    /// assert_eq!(Tensor::eye(2, DType::F64)?, Tensor::from([[1.0, 0.0], [0.0, 1.0]]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[doc(alias = "identity")]
    #[track_caller]
    pub fn eye(size: usize, dtype: DType) -> Result<Tensor> {
        let caller = Location::caller();
        create::eye(size, dtype).map_err(|e| e.at("eye", caller))
    }

    /// `start, start + step, ..` up to but not including `stop`, of the dtype of these numbers: see
    /// [`Num`]. An error if the sequence would be infinite.
    ///
    /// ```
    /// use autograd::Tensor;
    /// assert_eq!(Tensor::arange(0, 3, 1)?, Tensor::from([0i64, 1, 2]));
    /// assert_eq!(Tensor::arange(1.0f32, 0.0, -0.25)?, Tensor::from([1f32, 0.75, 0.5, 0.25]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[doc(alias = "range")]
    #[track_caller]
    pub fn arange<N: Num>(start: N, stop: N, step: N) -> Result<Tensor> {
        let caller = Location::caller();
        create::arange(start, stop, step).map_err(|e| e.at("arange", caller))
    }

    /// `count` evenly spaced values from `start` to `stop`, both included, of the dtype of these
    /// numbers.
    ///
    /// ```
    /// use autograd::Tensor;
    /// assert_eq!(Tensor::linspace(0.0, 1.0, 5)?, Tensor::from([0.0, 0.25, 0.5, 0.75, 1.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn linspace<N: FloatNum>(start: N, stop: N, count: usize) -> Result<Tensor> {
        let caller = Location::caller();
        create::linspace(start, stop, count).map_err(|e| e.at("linspace", caller))
    }

    /// The same elements in another shape, without a copy. One size may be -1: it is computed from
    /// the others.
    ///
    /// ```
    /// use autograd::Tensor;
    /// let t = Tensor::arange(0, 6, 1)?.reshape([2, -1])?;
    /// assert_eq!(t.shape(), [2, 3]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[doc(alias = "view")]
    #[track_caller]
    pub fn reshape(&self, shape: impl Ints) -> Result<Tensor> {
        let caller = Location::caller();
        let own = self.shape;
        let fitting = || {
            let shape = complete(&shape.list(), &own)?;
            if shape.count() == own.count() {
                return Ok(self.reshaped(shape));
            }
            Err(OpError::new(format!(
                "{own} has {} elements, {shape} has {}",
                own.count(),
                shape.count()
            )))
        };
        fitting().map_err(|e| e.at("reshape", caller))
    }

    /// What is at these indices of the first axes: an element of as many indices as there are axes, a
    /// row of one. Negative indices count from the end.
    ///
    /// ```
    /// use autograd::Tensor;
    /// let t = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(t.at([1, 0])?.scalar()?, 3.0);
    /// assert_eq!(t.at(-1)?, Tensor::from([3.0, 4.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[doc(alias = "index")]
    #[doc(alias = "get")]
    #[doc(alias = "row")]
    #[track_caller]
    pub fn at(&self, indices: impl Ints) -> Result<Tensor> {
        let (caller, indices) = (Location::caller(), indices.list());
        let found = || {
            let mut start = 0;
            if indices.len() > self.shape.rank() {
                let (n, ty) = (indices.len(), self.ty());
                return Err(OpError::new(format!("{n} indices for the axes of {ty}")));
            }
            for (axis, (&index, &n)) in indices.iter().zip(self.shape.iter()).enumerate() {
                let size = n as isize; // at most `isize::MAX`, as `Shape` promises
                if !(-size..size).contains(&index) {
                    let ty = self.ty();
                    let message = format!("there is no index {index} in axis {axis} of {ty}");
                    return Err(OpError::new(message));
                }
                start = start * n + index.rem_euclid(size) as usize;
            }
            let shape = self.shape.suffix(indices.len());
            let count = shape.count();
            with_dtype!(self.dtype(), T => {
                let all = self.as_view().slice::<T>()?;
                Ok(Tensor::of_elements(shape, all[start * count..][..count].to_vec()))
            })
        };
        found().map_err(|e: OpError| e.at("at", caller))
    }

    /// What is at each index of the first axis: the rows of a matrix, one after the other. An error
    /// for a scalar.
    ///
    /// ```
    /// let t = autograd::Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// let sums: Vec<f64> = t.iter_rows()?.map(|row| row.to_f64s().iter().sum()).collect();
    /// assert_eq!(sums, [3.0, 7.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[doc(alias = "outer_iter")]
    #[track_caller]
    pub fn iter_rows(&self) -> Result<impl ExactSizeIterator<Item = Tensor>> {
        let Some(&n) = self.shape.first() else {
            return Err(OpError::new("a scalar has no rows").at_caller("iter_rows"));
        };
        let row = |k: usize| self.at(k as isize);
        // each index exists
        Ok((0..n).map(move |k| row(k).unwrap_or(Tensor::from(f64::NAN))))
    }

    /// The elements in row-major order, as a vector. An error if they are not of type `T`.
    ///
    /// ```
    /// let t = autograd::Tensor::from([[1, 2], [3, 4]]);
    /// assert_eq!(t.to_vec::<i64>()?, [1, 2, 3, 4]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[doc(alias = "tolist")]
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.as_slice().map(<[T]>::to_vec)
    }
}

/// The value of an expression of tensors: what NumPy computes at once. For small things; a program
/// of many steps belongs in a [`Graph`].
///
/// ```
/// use autograd::{Tensor, eval};
/// let (w, d) = (Tensor::from([1.0, 2.0]), Tensor::from([10.0, 20.0]));
/// let w = eval([&w, &d], |[w, d]| w - 0.1 * d)?;
/// assert_eq!(w.to_f64s(), [0.0, 0.0]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn eval<const N: usize>(
    x: [&Tensor; N],
    f: impl for<'g> FnOnce([Var<'g>; N]) -> Var<'g>,
) -> Result<Tensor> {
    let _call = called_from(Location::caller());
    let g = Graph::new();
    f(x.map(|x| g.constant(x))).value()
}

/// What can be combined with a [`Tensor`] in an expression: a tensor or a number.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be combined with a `Tensor` in an expression",
    note = "tensors, `&Tensor` and numbers (`f64`, `f32`, `i32`, `i64`, `usize`) can"
)]
pub trait TensorOperand {
    #[doc(hidden)]
    fn operand<'g>(&self, like: Var<'g>) -> Var<'g>;
}

impl TensorOperand for Tensor {
    #[track_caller]
    fn operand<'g>(&self, like: Var<'g>) -> Var<'g> {
        self.var(like)
    }
}

impl TensorOperand for &Tensor {
    #[track_caller]
    fn operand<'g>(&self, like: Var<'g>) -> Var<'g> {
        (*self).var(like)
    }
}

macro_rules! number_operands {
    ($($T:ty)*) => { $(
        impl TensorOperand for $T {
            #[track_caller]
            fn operand<'g>(&self, like: Var<'g>) -> Var<'g> {
                (*self).var(like)
            }
        }
    )* };
}
number_operands! { f64 f32 i32 i64 usize }

macro_rules! operators {
    ($($Trait:ident $method:ident;)*) => { $(
        /// Elementwise, with broadcasting; an error where that of [`Var`]s is one. For longer
        /// expressions see [`eval`].
        impl<R: TensorOperand> ops::$Trait<R> for &Tensor {
            type Output = Result<Tensor>;
            #[track_caller]
            fn $method(self, other: R) -> Result<Tensor> {
                let g = Graph::new();
                let x = g.constant(self);
                ops::$Trait::$method(x, other.operand(x)).value()
            }
        }
        /// As for a reference.
        impl<R: TensorOperand> ops::$Trait<R> for Tensor {
            type Output = Result<Tensor>;
            #[track_caller]
            fn $method(self, other: R) -> Result<Tensor> {
                ops::$Trait::$method(&self, other)
            }
        }
        /// As with the tensor on the left.
        impl ops::$Trait<&Tensor> for f64 {
            type Output = Result<Tensor>;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Result<Tensor> {
                let g = Graph::new();
                ops::$Trait::$method(self, g.constant(other)).value()
            }
        }
    )* };
}
operators! { Add add; Sub sub; Mul mul; Div div; Rem rem; }

impl ops::Neg for &Tensor {
    type Output = Result<Tensor>;
    #[track_caller]
    fn neg(self) -> Result<Tensor> {
        let g = Graph::new();
        (-g.constant(self)).value()
    }
}
