//! Reverse-mode automatic differentiation on tensors: a lazy graph, derivatives as graphs, one
//! executor.
//!
//! # A tour
//!
//! A [`Graph`] is a list of operations; a [`Var`] is a handle to one of them. An expression appends
//! operations to the list and checks shapes; it computes nothing. Requesting a value computes what
//! the value depends on:
//!
//! ```
//! use autograd::Graph;
//! let g = Graph::new();
//! let x = g.input([[1.0, 2.0], [3.0, 4.0]]);
//! let y = (x.matmul(x) + 1.0).ln().sum();
//! println!("{}", y.value()?);
//! # Ok::<(), autograd::Error>(())
//! ```
//!
//! [`Var::backward`] computes a scalar and its gradients in one run. [`Graph::grad`] gives the
//! gradients as `Var`s, which can be used in further expressions and differentiated again. [`grad`]
//! and [`value_and_grad`] turn functions into functions of arrays:
//!
//! ```
//! use autograd::{Graph, grad};
//! let g = Graph::new();
//! let x = g.input(0.7);
//! let y = (x * x).sin();
//! let [d] = g.grad(y, &[x]);
//! let [d2] = g.grad(d, &[x]);
//! let by_hand = 2.0 * 0.49f64.cos() - 4.0 * 0.49 * 0.49f64.sin();
//! assert!((d2.value()?.scalar()? - by_hand).abs() < 1e-14);
//!
//! let df = grad(|x| (x * x).sin());
//! assert_eq!(df(&0.7)?, d.value()?);
//! # Ok::<(), autograd::Error>(())
//! ```
//!
//! [`Param`]s outlive graphs. Their updates are part of the program ([`Graph::assign`]).
//! [`Graph::run`] applies all of them or none:
//!
//! ```
//! use autograd::{Graph, Param};
//! let w = Param::new([0.0, 0.0]);
//! for _ in 0..100 {
//!     let g = Graph::new();
//!     let v = g.param(&w);
//!     let loss = (v - g.constant([1.0, -2.0])).square().sum();
//!     let [dv] = g.grad(loss, &[v]);
//!     g.assign(&w, v - 0.1 * dv);
//!     g.run(loss)?;
//! }
//! assert!((w.value().to_f64s()[1] + 2.0).abs() < 1e-9);
//! # Ok::<(), autograd::Error>(())
//! ```
//!
//! A run executes a plan: the graph is simplified, fused into kernels that work on cache-sized
//! blocks, and its buffers are laid out in one arena. Plans are cached by the structure of the
//! graph, so that the next step reuses the plan. [`Graph::plan`] shows it, [`Graph::profile`]
//! measures it, and [`compile`] traces and plans a function once:
//!
//! ```
//! let f = autograd::compile(|[x]| {
//!     let y = (x.tanh() * x + (-x).exp()).sigmoid().sum();
//!     let [d] = x.graph().grad(y, &[x]);
//!     [y, d]
//! });
//! let [y, d] = f.call([vec![0.1f32, 0.2, 0.3]])?;
//! assert_eq!((y.shape(), d.shape()), (&[][..], &[3][..]));
//! let plan = f.plan([vec![0.1f32, 0.2, 0.3]])?;
//! assert_eq!(plan.kernels().len(), 1); // value and gradient: one kernel
//! # Ok::<(), autograd::Error>(())
//! ```
//!
//! User-defined operations implement [`Op`] or [`Elementwise`]. [`check_grads`] tests a derivative,
//! [`Graph::detect_anomaly`] finds where a NaN comes from, and [`Graph::picture`] draws a program.
//!
//! With the feature `sparse`, `sparse_jacobian` and `sparse_hessian` give sparse matrices of the
//! `sprs` crate: the sparsity pattern is computed from the graph, and a few directional derivatives
//! give all elements.
//!
//! [How it works](docs::how_it_works) is a short book. There are pages on [writing an
//! operation](docs::write_your_own_op), on [wrong gradients](docs::my_gradient_is_wrong), on [errors
//! of the compiler](docs::what_the_compiler_says) and what to write instead (a closure that is bound to
//! a name needs [`func`]), and on [coming from PyTorch or JAX](docs::coming_from_pytorch_or_jax). The
//! search finds methods under their names in PyTorch, NumPy and JAX.
//!
//! # Conventions
//!
//! - Shapes are row-major; operations broadcast as in NumPy; a negative axis counts from the end.
//! - A Rust `2.0` is `f64`, `2.0f32` is `f32`; a scalar literal in an expression takes the dtype of
//!   the `Var`. Dtypes do not mix: see [`Var::cast`].
//! - What is made from numbers (`full`, `arange`, `linspace`) has the dtype of the numbers; what is
//!   made from none (`zeros`, `ones`, `eye`, `uniform`, `normal`) takes a [`DType`].
//! - Axes, sizes and positions are integers of any type ([`Int`]); a tuple mixes them, as in
//!   `x.reshape((batch, -1))`.
//! - Integers and booleans have no gradient. Integer arithmetic that overflows is an error.
//! - An invalid operation gives a `Var` that holds an [`Error`]; computing a value from it
//!   returns that.
//! - At kinks: `relu'(0) = 0`, `abs'(0) = 0`; ties of a maximum share the gradient evenly; NaN
//!   propagates. The full list is in [`docs::conventions`], all operations with their derivatives
//!   in [`docs::operations`].

mod binding;
mod convert;
mod diff;
pub mod docs;
mod error;
mod exec;
mod graph;
mod index;
mod inspect;
mod ints;
mod lines;
mod math;
mod memory_cache;
mod movement;
mod nodes;
mod op;
mod param;
mod piece;
mod plan;
mod pool;
mod run;
mod scratch;
mod shape;
mod sorted;
mod tensor;
mod values;
mod var;
mod view;

/// The arrays that tensors are made from and turned into, in the version that this crate uses.
pub use ndarray;
/// The sparse matrices that [`sparse_jacobian`] and [`sparse_hessian`] return.
#[cfg(feature = "sparse")]
pub use sprs;

pub use convert::ToTensor;
#[cfg(feature = "sparse")]
pub use diff::sparse::{Coloring, Pattern, Sparse, Structure, sparse_hessian, sparse_jacobian};
pub use diff::{
    check::{CheckGrads, check_grads},
    functional::{func, funcs, grad, grads, value_and_grad, value_and_grads},
    gradients::Gradients,
    jacobian::{hessian, hvp, jacobian, jacobians, jvp, vjp},
};
pub use error::{Error, OpError, Result};
pub use graph::{Graph, Scope};
pub use inspect::{
    gradients::{GradientReport, GradientRow, InspectGradients},
    picture::Picture,
    plan::{KernelInfo, Plan, plans_made},
    profile::{Profile, Row},
    saved::SavedValue,
};
pub use ints::{Int, IntRange, Ints};
pub use lines::{CalledFrom, called_from};
pub use math::Lanes;
pub use op::{
    Dependency, Op, Real, Rule, Split,
    elementwise::{Elementwise, Partial},
};
pub use param::Param;
pub use run::{
    fetch::Fetch,
    function::{Function, compile},
    memory::{cached_bytes, release_memory},
};
pub use shape::{MAX_RANK, Shape};
pub use tensor::{DType, Element, Tensor, Type};
pub use values::{FloatNum, Num, TensorOperand, eval};
pub use var::{Operand, Var};
pub use view::{TensorView, TensorViewMut};
