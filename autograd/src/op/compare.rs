//! Comparisons and `select`: booleans, which have no gradient, and the choice between two tensors
//! by a boolean condition.

use super::{
    Dependency, DynOp, Id, Internal, Lowering, Op, Parts, Real, Rule,
    elementwise::{Reader, block_len},
    inputs,
    layout::MOVE,
    lowering::Scalar,
    pointwise::{Formula, of_numbers},
    same_dtype,
};
use crate::{
    error::OpError,
    math::Lanes,
    piece::Piece,
    tensor::{DType, Element, Type, with_dtype},
    var::{Operand, Var},
    view::{TensorView, TensorViewMut},
};
use std::any::Any;

/// A comparison: one type for all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison(pub(super) Id);

macro_rules! comparisons {
    ($($(#[$doc:meta])* $Op:ident $name:ident |$l:ident, $r:ident| $lanes:expr;)*) => {
        /// The value of a comparison, for one or several lanes. True is all bits set, false is all
        /// bits clear.
        pub(crate) mod formulas {
            use super::{Formula, Lanes};

            $(
                pub(crate) struct $Op;

                impl Formula for $Op {
                    const INPUTS: usize = 2;
                    #[inline(always)]
                    fn of<L: Lanes>([$l, $r, _]: [L; 3]) -> L {
                        L::from_mask($lanes)
                    }
                }
            )*

            /// `b` where `a` is true, `c` elsewhere.
            pub(crate) struct Select;

            impl Formula for Select {
                const INPUTS: usize = 3;
                #[inline(always)]
                fn of<L: Lanes>([a, b, c]: [L; 3]) -> L {
                    L::select(a.to_mask(), b, c)
                }
            }
        }

        /// The formula of a comparison, or of `select`, for scalars.
        pub(crate) fn scalar<T: Real>(op: Id) -> fn([T; 3]) -> T {
            match op {
                $(Id::$Op => of_numbers::<formulas::$Op, T>,)*
                _ => of_numbers::<formulas::Select, T>,
            }
        }

        impl DynOp for Comparison {
            fn name(&self) -> &'static str {
                match self.0 {
                    $(Id::$Op => stringify!($name),)*
                    _ => "comparison", // there are no others
                }
            }

            fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
                same_dtype(inputs::<2>(x)?)?;
                Ok(Type::new(DType::Bool, x[0].shape.broadcast(&x[1].shape)?))
            }

            fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
                self.piece(x, Piece::whole(out))
            }

            fn parts(&self, _x: &[Type]) -> Parts {
                Parts::elements(1, MOVE)
            }

            fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>) -> Result<(), OpError> {
                let op = self.0;
                match x[0].dtype() {
                    DType::F32 => {
                        compare::<f32>(x, out, &|a, b, out| compare_floats(op, a, b, out))
                    }
                    DType::F64 => {
                        compare::<f64>(x, out, &|a, b, out| compare_floats(op, a, b, out))
                    }
                    DType::I64 => {
                        compare::<i64>(x, out, &|a, b, out| compare_block(op, a, b, out))
                    }
                    DType::Bool => {
                        compare::<bool>(x, out, &|a, b, out| compare_block(op, a, b, out))
                    }
                }
            }

            fn vjp<'g>(&self, _input: usize, _r: &Rule<'_, 'g>) -> Option<Var<'g>> {
                None
            }

            fn lowering(&self) -> Lowering<'_> {
                Lowering::Elementwise(Scalar::Formula(self.0))
            }

            fn as_any(&self) -> &dyn Any {
                self
            }

            fn raw_may_fail(&self, _x: &[Type]) -> bool {
                false
            }

            fn raw_dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
                Dependency::None
            }

            fn raw_same(&self, other: &dyn DynOp) -> bool {
                other.as_any().downcast_ref::<Comparison>().is_some_and(|other| other.0 == self.0)
            }
        }

    impl<'g> Var<'g> { $(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(self, other: impl Operand<'g>) -> Var<'g> {
            self.binary(Id::$Op, other.var(self))
        }
    )* }
    };
}

comparisons! {
    /// Where both are equal, as booleans, element by element with broadcasting. NaN equals nothing.
    #[doc(alias = "equal")]
    Eq eq |a, b| a.eq_mask(b);
    /// Where they differ. NaN differs from everything.
    #[doc(alias = "not_equal")]
    Ne ne |a, b| L::not(a.eq_mask(b));
    /// Where `self` is less than `other`.
    #[doc(alias = "less")]
    Lt lt |a, b| a.lt_mask(b);
    /// Where `self` is less than or equal to `other`.
    #[doc(alias = "less_equal")]
    Le le |a, b| a.le_mask(b);
    /// Where `self` is greater than `other`.
    #[doc(alias = "greater")]
    Gt gt |a, b| b.lt_mask(a);
    /// Where `self` is greater than or equal to `other`.
    #[doc(alias = "greater_equal")]
    Ge ge |a, b| b.le_mask(a);
}

/// A comparison of integers or booleans.
fn compare_block<T: Element>(op: Id, a: &[T], b: &[T], out: &mut [bool]) {
    let (a, b) = match op {
        Id::Gt | Id::Ge => (b, a),
        _ => (a, b),
    };
    let pairs = out.iter_mut().zip(a.iter().zip(b));
    match op {
        Id::Eq | Id::Ne => pairs.for_each(|(o, (a, b))| *o = (a == b) ^ (op == Id::Ne)),
        Id::Lt | Id::Gt => pairs.for_each(|(o, (a, b))| *o = a < b),
        _ => pairs.for_each(|(o, (a, b))| *o = a <= b),
    }
}

/// A comparison of floats, as it is defined: number by number. Kernels have vectors for it.
fn compare_floats<T: Real>(op: Id, a: &[T], b: &[T], out: &mut [bool]) {
    let compare = scalar::<T>(op);
    let pairs = out.iter_mut().zip(a.iter().zip(b));
    pairs.for_each(|(o, (&a, &b))| *o = compare([a, b, a]).to_mask());
}

/// A comparison of some elements.
type CompareBlock<'f, T> = dyn Fn(&[T], &[T], &mut [bool]) + 'f;

/// A comparison of whole tensors, block by block.
fn compare<T: Element>(
    x: &[TensorView<'_>],
    mut out: Piece<'_>,
    compare: &CompareBlock<'_, T>,
) -> Result<(), OpError> {
    let shape = *out.shape;
    let [mut a, mut b] = [Reader::<T>::new(x[0], &shape)?, Reader::new(x[1], &shape)?];
    let (mut first, out) = out.range()?;
    for out in out.chunks_mut(block_len::<T>(x, &shape)) {
        let n = out.len();
        compare(a.block(first, n), b.block(first, n), out);
        first += n;
    }
    Ok(())
}

/// `condition ? a : b`
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Select;

impl Op for Select {
    const NAME: &'static str = "select";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [c, a, b] = inputs::<3>(x)?;
        if c.dtype != DType::Bool {
            let message = format!("the condition is {}, not bool", c.dtype);
            return Err(
                OpError::new(message).hint("compare it with something, for example .gt(0.0)")
            );
        }
        let dtype = same_dtype(&[*a, *b])?;
        Ok(Type::new(
            dtype,
            c.shape.broadcast(&a.shape)?.broadcast(&b.shape)?,
        ))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        Op::piece(self, x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, _x: &[Type], _: Internal) -> Parts {
        Parts::elements(1, MOVE)
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let shape = *out.shape;
        with_dtype!(out.dtype(), T => {
            let mut c = Reader::<bool>::new(x[0], &shape)?;
            let [mut a, mut b] = [Reader::<T>::new(x[1], &shape)?, Reader::new(x[2], &shape)?];
            let (mut first, out) = out.range()?;
            for out in out.chunks_mut(block_len::<T>(x, &shape)) {
                let n = out.len();
                select_block(c.block(first, n), a.block(first, n), b.block(first, n), out);
                first += n;
            }
            Ok(())
        })
    }

    /// The cotangent goes to the selected side; the other one gets 0.
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let (condition, zero) = (r.x[0], r.ct.lit(0.0));
        Some(if input == 1 {
            condition.select(r.ct, zero)
        } else {
            condition.select(zero, r.ct)
        })
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Elementwise(Scalar::Formula(Id::Select))
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn dependency(&self, input: usize, _x: &[Type]) -> Dependency {
        if input == 0 {
            Dependency::None
        } else {
            Dependency::Elementwise
        }
    }
}

/// Reads both sides whatever the condition, so that the loop has no branch and can be vectorized.
fn select_block<T: Element>(c: &[bool], a: &[T], b: &[T], out: &mut [T]) {
    let n = out.len();
    let (c, a, b) = (&c[..n], &a[..n], &b[..n]);
    for i in 0..n {
        let (yes, no) = (a[i], b[i]);
        out[i] = std::hint::select_unpredictable(c[i], yes, no);
    }
}

impl<'g> Var<'g> {
    /// `a` where this is true, `b` elsewhere (NumPy's `where`), element by element with
    /// broadcasting.
    ///
    /// The gradient goes to the selected side. The other side's cotangent is 0 *at this op*; if the
    /// other side's own derivative is infinite there, `0·∞` gives NaN further up. In this case
    /// guard its input too (the "double where" trick):
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([0.0, 4.0]);
    /// let positive = x.gt(0.0);
    /// let safe = positive.select(x, 1.0);
    /// let root = positive.select(safe.sqrt(), 0.0).sum(); // 0 for negative input
    /// assert_eq!(root.backward()?.get(x).map(|d| d.to_f64s()), Some(vec![0.0, 0.25]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "where")]
    #[doc(alias = "masked_fill")]
    #[doc(alias = "cond")]
    #[doc(alias = "if_else")]
    pub fn select(self, a: impl Operand<'g>, b: impl Operand<'g>) -> Var<'g> {
        let like = a.as_var().or(b.as_var());
        let like = like.unwrap_or_else(|| self.graph().constant(0.0));
        self.graph()
            .append(Id::Select, &[self, a.var(like), b.var(like)])
    }
}
