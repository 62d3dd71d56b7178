//! `Var`: a handle to a node. Operators are in this file; methods that append an op are in the op's
//! file.

use crate::{
    error::{Error, OpError, Result},
    graph::Graph,
    index::Index,
    nodes::{Kind, NodeId},
    op::{Id, Op},
    shape::Shape,
    tensor::{DType, Number, Tensor, Type},
};
use std::{fmt, ops};

/// A value of a graph, which may not have been computed yet. `Copy`, with operators (`+ - * /`, `%`
/// with the sign of the dividend, unary `-`, with scalars on either side; `& | !` for booleans) and
/// methods named as in NumPy and PyTorch.
///
/// Operations broadcast as in NumPy. An invalid operation gives a `Var` that holds the error;
/// computing anything that depends on it returns that error.
///
/// ```
/// use autograd::Graph;
/// let g = Graph::new();
/// let x = g.input([1.0, 2.0, 3.0]);
/// let y = 2.0 * x.sin() - x / 3.0 + 1.0;
/// assert_eq!(y.dims(), Some([3]));
/// let wrong = y + g.constant([1.0, 2.0]);
/// assert!(wrong.value().is_err());
/// # Ok::<(), autograd::Error>(())
/// ```
#[derive(Clone, Copy)]
#[doc(alias = "Array")]
pub struct Var<'g> {
    pub(crate) graph: &'g Graph,
    pub(crate) id: NodeId,
}

impl<'g> Var<'g> {
    /// The graph it belongs to.
    pub fn graph(self) -> &'g Graph {
        self.graph
    }

    /// Its index in the graph's list of nodes.
    pub fn id(self) -> usize {
        self.id.index()
    }

    /// The sizes of the axes, or its error. Computes nothing.
    pub fn shape(self) -> Result<Shape> {
        self.checked().map(|v| v.ty().shape)
    }

    /// The type of the elements, or its error. Computes nothing.
    pub fn dtype(self) -> Result<DType> {
        self.checked().map(|v| v.ty().dtype)
    }

    /// The sizes if there are exactly `N` axes. For layers, with [`fail`](Var::fail) for other
    /// shapes.
    ///
    /// ```
    /// use autograd::Var;
    /// fn area<'g>(x: Var<'g>) -> Var<'g> {
    ///     let Some([rows, columns]) = x.dims() else { return x.fail("expected a matrix") };
    ///     x.sum() / (rows * columns)
    /// }
    /// # let g = autograd::Graph::new();
    /// let e = area(g.input(1.0)).value().unwrap_err();
    /// assert_eq!(e.message(), "expected a matrix, got f64[]");
    /// ```
    pub fn dims<const N: usize>(self) -> Option<[usize; N]> {
        self.checked()
            .ok()
            .and_then(|v| v.ty().shape[..].try_into().ok())
    }

    /// The sizes of the axes, which must be `N`; else an error that names this line and the shape.
    /// Computes nothing. In a function that returns a `Var`, use it within
    /// [`Graph::attempt`](Graph::attempt).
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    /// let [rows, columns] = x.sizes()?;
    /// assert_eq!((rows, columns), (2, 3));
    /// let e = x.sizes::<3>().unwrap_err();
    /// assert_eq!(e.message(), "expected 3 axes, got 2: f64[2, 3]");
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn sizes<const N: usize>(self) -> Result<[usize; N]> {
        let shape = self.shape()?;
        if let Ok(sizes) = shape[..].try_into() {
            return Ok(sizes);
        }
        let (rank, ty) = (shape.rank(), self.ty());
        let axes = if N == 1 { "axis" } else { "axes" };
        let e = OpError::new(format!("expected {N} {axes}, got {rank}: {ty}"));
        Err(self.graph.error_here("sizes", e))
    }

    /// A `Var` that holds this error, with the type of `self`. If `self` already holds an error,
    /// that one is kept.
    #[track_caller]
    pub fn fail(self, message: &str) -> Var<'g> {
        self.fail_as("fail", message)
    }

    /// As [`fail`](Var::fail), as an error of the layer or function of this name:
    /// [`Error::op`] gives it, and the message begins with it.
    #[track_caller]
    pub fn fail_as(self, name: &'static str, message: &str) -> Var<'g> {
        self.graph.fail(
            name,
            OpError::new(format!("{message}, got {}", self.ty())),
            &[self],
        )
    }

    /// The error it holds, if any.
    pub fn error(self) -> Option<Error> {
        self.graph.inner.borrow().error(self.id).cloned()
    }

    fn checked(self) -> Result<Var<'g>> {
        self.error().map_or(Ok(self), Err)
    }

    /// Appends an op of one input, for example a user-defined one.
    #[track_caller]
    pub fn apply(self, op: impl Op) -> Var<'g> {
        self.graph.apply(op, &[self])
    }

    /// Dtype and shape; for an error, those of its placeholder.
    pub(crate) fn ty(self) -> Type {
        self.graph.inner.borrow().ty(self.id)
    }

    /// The shape. For derivative rules, whose inputs are never errors.
    pub(crate) fn known_shape(self) -> Shape {
        self.ty().shape
    }

    pub(crate) fn known_dtype(self) -> DType {
        self.graph.inner.borrow().nodes[self.id].dtype
    }

    #[track_caller]
    #[inline]
    pub(crate) fn unary(self, op: Id) -> Var<'g> {
        self.graph.append_fast(op, [self])
    }

    #[track_caller]
    #[inline]
    pub(crate) fn binary(self, op: Id, other: Var<'g>) -> Var<'g> {
        self.graph.append_fast(op, [self, other])
    }

    /// A literal of the dtype of `self`.
    #[track_caller]
    #[inline]
    pub(crate) fn lit(self, v: f64) -> Var<'g> {
        self.number(Number::Float(v))
    }

    #[track_caller]
    #[inline]
    fn number(self, v: Number) -> Var<'g> {
        match self.kind() {
            Kind::Error => self,
            _ => self.graph.number(v, self.known_dtype()),
        }
    }

    /// Calls `build` with the shape, or passes the error on. New nodes have the caller's line as
    /// origin.
    #[track_caller]
    pub(crate) fn with_shape(
        self,
        op: &'static str,
        build: impl FnOnce(&Shape) -> Result<Var<'g>, OpError>,
    ) -> Var<'g> {
        // one function for all closures, to compile less code
        let mut build = Some(build);
        self.with_shape_dyn(op, &mut |shape| match build.take() {
            Some(build) => build(shape),
            None => Ok(self), // never: it is called only once
        })
    }

    #[track_caller]
    fn with_shape_dyn(
        self,
        op: &'static str,
        build: &mut dyn FnMut(&Shape) -> Result<Var<'g>, OpError>,
    ) -> Var<'g> {
        if self.kind() == Kind::Error {
            return self;
        }
        let _call_site = self.graph.call_site();
        build(&self.known_shape()).unwrap_or_else(|e| self.graph.fail(op, e, &[self]))
    }

    pub(crate) fn kind(self) -> Kind {
        self.graph.inner.borrow().nodes[self.id].kind
    }

    /// Whether it is a 1 made by differentiation, of the same type as `other`.
    pub(crate) fn is_one_like(self, other: Var<'g>) -> bool {
        if !std::ptr::eq(self.graph, other.graph) {
            return false;
        }
        let inner = self.graph.inner.borrow();
        let (node, other) = (&inner.nodes[self.id], &inner.nodes[other.id]);
        node.kind == Kind::One && (node.shape, node.dtype) == (other.shape, other.dtype)
    }
}

/// Prints the node, never its value.
impl fmt::Debug for Var<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.graph.inner.borrow().line(self.id))
    }
}

/// An operand of an expression with a `Var`: a `Var`, a scalar or a tensor.
///
/// A scalar takes the dtype of the `Var`. A fractional scalar with an integer `Var` is an error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be combined with a `Var` in an expression",
    label = "not a scalar, a `&Tensor` or a `Var`",
    note = "scalars (`f64`, `f32`, `i32`, `i64`, `usize`), `&Tensor` and `Var` can"
)]
pub trait Operand<'g> {
    /// The operand as a `Var` of the graph of `like`; a scalar gets the dtype of `like`.
    fn var(self, like: Var<'g>) -> Var<'g>;

    /// The operand if it is a `Var`, whose dtype scalars then get.
    fn as_var(&self) -> Option<Var<'g>> {
        None
    }
}

impl<'g> Operand<'g> for Var<'g> {
    #[inline]
    fn var(self, _like: Var<'g>) -> Var<'g> {
        self
    }
    fn as_var(&self) -> Option<Var<'g>> {
        Some(*self)
    }
}

impl<'g> Operand<'g> for &Var<'g> {
    #[inline]
    fn var(self, _like: Var<'g>) -> Var<'g> {
        *self
    }
    fn as_var(&self) -> Option<Var<'g>> {
        Some(**self)
    }
}

impl<'g> Operand<'g> for &Tensor {
    #[track_caller]
    fn var(self, like: Var<'g>) -> Var<'g> {
        like.graph.constant(self)
    }
}

macro_rules! numbers {
    ($($T:ty: $v:ident => $number:expr;)*) => { $(
        impl<'g> Operand<'g> for $T {
            #[track_caller]
            #[inline]
            fn var(self, like: Var<'g>) -> Var<'g> {
                let $v = self;
                like.number($number)
            }
        }
    )* };
}
numbers! {
    f64: v => Number::Float(v);
    f32: v => Number::Float(v.into());
    i32: v => Number::Int(v.into());
    i64: v => Number::Int(v);
    // if too large for i64, an integer tensor rejects it
    usize: v => i64::try_from(v).map_or(Number::Float(v as f64), Number::Int);
}

// On the left only f64 and i32: with f32 as well, the compiler could not infer the type of `2.0` in
// `(2.0 * x).sin()`.
macro_rules! operators {
    ($($Trait:ident $method:ident $TraitAssign:ident $assign:ident;)*) => { $(
        impl<'g, R: Operand<'g>> ops::$Trait<R> for Var<'g> {
            type Output = Var<'g>;
            #[track_caller]
            #[inline]
            fn $method(self, other: R) -> Var<'g> {
                self.binary(Id::$Trait, other.var(self))
            }
        }
        impl<'g, R: Operand<'g>> ops::$TraitAssign<R> for Var<'g> {
            #[track_caller]
            fn $assign(&mut self, other: R) {
                *self = self.binary(Id::$Trait, other.var(*self));
            }
        }
        impl<'g> ops::$Trait<Var<'g>> for f64 {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: Var<'g>) -> Var<'g> {
                self.var(other).binary(Id::$Trait, other)
            }
        }
        impl<'g> ops::$Trait<Var<'g>> for i32 {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: Var<'g>) -> Var<'g> {
                self.var(other).binary(Id::$Trait, other)
            }
        }
        impl<'g> ops::$Trait<Var<'g>> for &Tensor {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: Var<'g>) -> Var<'g> {
                self.var(other).binary(Id::$Trait, other)
            }
        }
    )* };
}
operators! {
    Add add AddAssign add_assign;
    Sub sub SubAssign sub_assign;
    Mul mul MulAssign mul_assign;
    Div div DivAssign div_assign;
    Rem rem RemAssign rem_assign;
}

impl<'g> ops::Neg for Var<'g> {
    type Output = Var<'g>;
    #[track_caller]
    #[inline]
    fn neg(self) -> Var<'g> {
        self.unary(Id::Neg)
    }
}
