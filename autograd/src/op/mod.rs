//! Operations: the trait that all of them implement, and one file per family.
//!
//! One file holds all of an op: its shape rule ([`Op::infer`]), its definition ([`Op::eval`]), its
//! derivative ([`Op::vjp`]) and the `Var` method that appends it. `eval` is plain and exact: it
//! *is* the definition. The executor may have a faster kernel that gives the same result.

pub(crate) mod cast;
pub(crate) mod compare;
pub(crate) mod compensated;
pub(crate) mod concat;
pub(crate) mod create;
pub(crate) mod diagonal;
pub(crate) mod einsum;
pub(crate) mod elementwise;
pub(crate) mod guard;
pub(crate) mod index;
pub(crate) mod layout;
pub(crate) mod linalg;
pub(crate) mod lines;
pub(crate) mod logic;
pub(crate) mod lowering;
pub(crate) mod parts;
pub(crate) mod pointwise;
pub(crate) mod random;
pub(crate) mod reduce;
pub(crate) mod scalar;
pub(crate) mod scan;
pub(crate) mod softmax;
pub(crate) mod sort;

use crate::{
    error::{OpError, catch},
    piece::Piece,
    tensor::{DType, Type},
    var::Var,
    view::{TensorView, TensorViewMut},
};
pub(crate) use lowering::Lowering;
pub use parts::Split;
pub(crate) use parts::{Along, Parts};
pub use scalar::Real;
use std::{any::Any, fmt::Debug, sync::Arc};

/// How the elements of an op's output depend on those of one input. Sparsity patterns of
/// derivatives are computed from this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Dependency {
    /// Each output may depend on every element. Always correct.
    Dense,
    /// Each output depends on the element at the same position (after broadcasting).
    Elementwise,
    /// The output does not vary with this input: the derivative is zero everywhere.
    None,
    /// Each output is an element of one of the inputs of this kind, or 0: the op only changes
    /// shapes or selects elements. Which element it is, is found by running the op on positions in
    /// place of floats, so its other inputs should be positions.
    Moved,
    /// Each element of the input goes to one element of the output, where others may be added to
    /// it: the transpose of [`Moved`](Dependency::Moved). The positions are found from the
    /// derivative rule.
    Scattered,
    /// Each output depends on the elements that are reduced to it: axis `k` is reduced if bit `k`
    /// is set.
    Reduced {
        /// Bit set of the reduced axes.
        axes: u8,
    },
    /// The output has the shape of the input, and each element depends on all elements of its slice
    /// along some axes: axis `k` is one of them if bit `k` is set.
    Along {
        /// Bit set of these axes.
        axes: u8,
    },
    /// Two inputs of this kind are multiplied as matrices.
    Product,
}

/// What a derivative rule can use, as `Var`s.
#[derive(Clone, Copy)]
pub struct Rule<'a, 'g> {
    /// The cotangent of the output: the derivative of the final result with respect to it. Same
    /// shape and dtype as the output.
    pub ct: Var<'g>,
    /// The inputs.
    pub x: &'a [Var<'g>],
    /// The output.
    pub y: Var<'g>,
}

/// An operation: computes one tensor from others.
///
/// Built-in and user-defined operations implement the same trait. Attributes (a shape, an axis) are
/// fields of the implementing type. Values that may vary (a rate, a bound) should be inputs.
///
/// ```
/// use autograd::{DType, Graph, Op, OpError, Rule, TensorView, TensorViewMut, Type, Var};
///
/// /// `x·eˣ`, whose derivative is `(1 + x)·eˣ`
/// #[derive(Clone, PartialEq, Debug)]
/// struct XExp;
///
/// impl Op for XExp {
///     const NAME: &'static str = "xexp";
///     fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
///         match x {
///             [t] if t.dtype == DType::F64 => Ok(*t),
///             _ => Err("expected one f64 tensor".into()),
///         }
///     }
///     fn eval(&self, x: &[TensorView], mut out: TensorViewMut) -> Result<(), OpError> {
///         for (o, x) in out.slice::<f64>()?.iter_mut().zip(x[0].slice::<f64>()?) {
///             *o = x * x.exp();
///         }
///         Ok(())
///     }
///     fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
///         Some(r.ct * (1.0 + r.x[0]) * r.x[0].exp())
///     }
/// }
///
/// let g = Graph::new();
/// let x = g.input(2.0);
/// let y = x.apply(XExp);
/// let dy = y.backward()?.scalar(x)?;
/// assert!((dy - 3.0 * 2f64.exp()).abs() < 1e-12);
/// # Ok::<(), autograd::Error>(())
/// ```
pub trait Op: Clone + PartialEq + Debug + Send + Sync + 'static {
    /// The name shown in errors and drawings.
    const NAME: &'static str;

    /// The output's dtype and shape, or the reason why the inputs do not fit.
    fn infer(&self, x: &[Type]) -> Result<Type, OpError>;

    /// Computes the output into the given buffer. Every element must be written. Inputs and output
    /// have the types that `infer` got and returned. May return an error only if
    /// [`may_fail`](Op::may_fail) is true.
    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError>;

    /// The vector-Jacobian product: the cotangent of input `input`, built from the cotangent of the
    /// output. It has the input's shape, or a shape that the input broadcasts to (it is then
    /// summed). `None` if it is zero everywhere. Called only for inputs that need a gradient, never
    /// for integers or booleans.
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>>;

    /// Whether `eval` can fail because of the inputs' values (an index out of range). Parameter
    /// updates are applied only after everything that may fail has run.
    fn may_fail(&self, x: &[Type]) -> bool {
        let _ = x;
        true
    }

    /// How the output depends on input `input`.
    fn dependency(&self, input: usize, x: &[Type]) -> Dependency {
        let _ = (input, x);
        Dependency::Dense
    }

    /// Whether the output can be computed in parts, which then run on several threads. See
    /// [`Split`], which has an example.
    fn split(&self, x: &[Type]) -> Split {
        let _ = x;
        Split::No
    }

    /// The approximate size of the op in bytes, including what its fields point to: an op that
    /// holds a table should include it. Cached plans hold their ops, and the cache is bounded in
    /// bytes.
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    /// An equal op that takes less memory, for cached plans; `None` keeps the op as it is.
    #[doc(hidden)]
    fn for_plan(&self, _: Internal) -> Option<Self> {
        None
    }

    /// How the op can be computed other than by `eval`.
    #[doc(hidden)]
    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Opaque
    }

    /// How the output is cut into pieces for [`piece`](Op::piece), if it is.
    #[doc(hidden)]
    fn parts(&self, x: &[Type], _: Internal) -> Parts {
        let _ = x;
        Parts::WHOLE
    }

    /// Computes a piece of the output: one that [`parts`](Op::parts) allows.
    #[doc(hidden)]
    fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let _ = (x, out);
        Err("has no parts".into())
    }
}

mod internal {
    /// Argument of those methods of [`Op`](super::Op) that are for this crate, above all of those
    /// that the planner trusts: a wrong answer would break memory safety. Other crates cannot name this type, so they can neither implement nor
    /// call these methods:
    ///
    /// ```compile_fail,E0603
    /// use autograd::op::internal::Internal;
    /// ```
    #[derive(Clone, Copy)]
    pub struct Internal(pub(in crate::op) ());
}
pub(crate) use internal::Internal;

/// The object-safe version of [`Op`]. Of its answers only `lowering` is trusted. A node's type is
/// the one recorded when it was made, whatever `infer` would return now. Two nodes with equal ops
/// are the same only if their types are equal as well.
pub(crate) trait DynOp: Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn infer(&self, x: &[Type]) -> Result<Type, OpError>;
    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError>;
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>>;
    fn for_plan(&self) -> Option<Arc<dyn DynOp>> {
        None
    }
    fn lowering(&self) -> Lowering<'_> {
        Lowering::Opaque
    }
    fn parts(&self, _x: &[Type]) -> Parts {
        Parts::WHOLE
    }
    fn piece(&self, _x: &[TensorView<'_>], _out: Piece<'_>) -> Result<(), OpError> {
        Err("has no parts".into())
    }
    fn as_any(&self) -> &dyn Any;
    // as the op's author wrote them: they may panic
    fn raw_split(&self, _x: &[Type]) -> Split {
        Split::No
    }
    fn raw_may_fail(&self, x: &[Type]) -> bool;
    fn raw_dependency(&self, input: usize, x: &[Type]) -> Dependency;
    fn raw_bytes(&self) -> usize {
        0
    }
    fn raw_same(&self, other: &dyn DynOp) -> bool;
}

/// If a user's op panics during planning, the answer is the conservative one: it may fail, depends
/// on everything, and equals no other op.
impl dyn DynOp + '_ {
    pub(crate) fn may_fail(&self, x: &[Type]) -> bool {
        catch(|| self.raw_may_fail(x)).unwrap_or(true)
    }
    pub(crate) fn dependency(&self, input: usize, x: &[Type]) -> Dependency {
        catch(|| self.raw_dependency(input, x)).unwrap_or(Dependency::Dense)
    }
    /// How the output, of this type, can be cut.
    pub(crate) fn cuts(&self, x: &[Type], out: &Type) -> Parts {
        let own = self.parts(x);
        match own.along {
            Along::Nothing => {
                catch(|| self.raw_split(x)).map_or(own, |split| split.checked(x, out))
            }
            _ => own,
        }
    }
    pub(crate) fn bytes(&self) -> usize {
        catch(|| self.raw_bytes())
            .unwrap_or(0)
            .max(size_of_val(self))
    }
    /// Whether it is the same op with the same attributes.
    pub(crate) fn same(&self, other: &dyn DynOp) -> bool {
        catch(|| self.raw_same(other)).unwrap_or(false)
    }
}

impl<O: Op> DynOp for O {
    fn name(&self) -> &'static str {
        O::NAME
    }
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Op::infer(self, x)
    }
    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        Op::eval(self, x, out)
    }
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Op::vjp(self, input, r)
    }
    fn for_plan(&self) -> Option<Arc<dyn DynOp>> {
        Some(Arc::new(Op::for_plan(self, Internal(()))?))
    }
    fn lowering(&self) -> Lowering<'_> {
        Op::lowering(self, Internal(()))
    }
    fn parts(&self, x: &[Type]) -> Parts {
        Op::parts(self, x, Internal(()))
    }
    fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>) -> Result<(), OpError> {
        Op::piece(self, x, out, Internal(()))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn raw_split(&self, x: &[Type]) -> Split {
        Op::split(self, x)
    }
    fn raw_may_fail(&self, x: &[Type]) -> bool {
        Op::may_fail(self, x)
    }
    fn raw_dependency(&self, input: usize, x: &[Type]) -> Dependency {
        Op::dependency(self, input, x)
    }
    fn raw_bytes(&self) -> usize {
        Op::bytes(self)
    }
    fn raw_same(&self, other: &dyn DynOp) -> bool {
        other
            .as_any()
            .downcast_ref::<O>()
            .is_some_and(|other| other == self)
    }
}

/// Lists the built-in ops without attributes. An op's position in the list is its id. The pointwise
/// ops, which compute a float from floats of the same type, come first, so that checking for one
/// when a node is appended takes a single comparison.
macro_rules! builtin {
    ($($Pointwise:ident)* | $($Comparison:ident)* | $($file:ident: $($Op:ident)*;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Id { $($Pointwise,)* $($Comparison,)* $($($Op,)*)* }

        impl Id {
            /// All ids, in order.
            pub(crate) const ALL: [Id; BUILTIN.len()] =
                [$(Id::$Pointwise,)* $(Id::$Comparison,)* $($(Id::$Op,)*)*];

            /// Whether the op computes a float from floats of the same type, element by element.
            #[inline]
            pub(crate) fn is_pointwise(self) -> bool {
                (self as u32) < [$(Id::$Pointwise),*].len() as u32
            }
        }

        pub(crate) static BUILTIN: [&dyn DynOp; [$(Id::$Pointwise,)* $(Id::$Comparison,)* $($(Id::$Op,)*)*].len()] = [
            $(&pointwise::Pointwise(Id::$Pointwise),)*
            $(&compare::Comparison(Id::$Comparison),)*
            $($(&$file::$Op,)*)*
        ];
    };
}

builtin! {
    Neg Abs Sign Exp Expm1 Ln Ln1p Sqrt Square Recip Rsqrt Sin Cos Tan Asin Acos Atan Sinh Cosh TanhTail SigmoidTail Relu
    Erf Erfc Gelu GeluTanh Silu Softplus LogSigmoid Floor Ceil Round
    Tanh TanhSlope Sigmoid SigmoidSlope Add Sub Mul Div Maximum Minimum Pow LeakyRelu Elu Atan2 Hypot Rem Clamp
    |
    Eq Ne Lt Le Gt Ge
    |
    compare: Select;
    linalg: MatMul;
    softmax: CrossEntropy;
    layout: Detach;
}

/// The inputs of an op as an array, if there are `N`.
pub(crate) fn inputs<const N: usize>(x: &[Type]) -> Result<&[Type; N], OpError> {
    x.try_into()
        .map_err(|_| OpError::new(format!("expected {N} inputs, got {}", x.len())))
}

/// The dtype that all inputs share.
pub(crate) fn same_dtype(x: &[Type]) -> Result<DType, OpError> {
    let Some((first, rest)) = x.split_first() else {
        return Err("expected at least one input".into());
    };
    match rest.iter().find(|t| t.dtype != first.dtype) {
        None => Ok(first.dtype),
        Some(other) => Err(OpError::new(format!(
            "the dtypes differ: {} and {}",
            first.dtype, other.dtype
        ))
        .hint(format!(
            "convert one side, for example with .cast(DType::{})",
            first.dtype.variant()
        ))),
    }
}

/// An error unless the dtype is a float.
pub(crate) fn expect_float(dtype: DType) -> Result<(), OpError> {
    if dtype.is_float() {
        return Ok(());
    }
    Err(OpError::new(format!("is not defined for {dtype}"))
        .hint("convert it first, for example with .cast(DType::F32)"))
}
