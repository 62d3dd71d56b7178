//! Reverse-mode automatic differentiation on tensors: a lazy graph, derivatives as graphs, one executor.
//!
//! # A tour
//!
//! A [`Graph`] is a list of operations; a [`Var`] is a handle to one of them. Expressions append to the list and check
//! shapes, and compute nothing. Asking for a value computes what it needs:
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
//! [`Var::backward`] computes a number and its gradients in one run; [`Graph::grad`] gives the gradients as `Var`s, to
//! compute with and to differentiate again; [`grad`] and [`value_and_grad`] turn functions into functions of arrays:
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
//! assert_eq!(df(0.7)?, d.value()?);
//! # Ok::<(), autograd::Error>(())
//! ```
//!
//! [`Param`]s outlive graphs. Their updates are part of the program ([`Graph::assign`]) and are carried out by
//! [`Graph::run`], all of them or none:
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
//! What runs is a plan: simplified, fused into passes over blocks that stay in the cache, laid out in one piece of memory,
//! and kept by structure, so that the next step finds it. [`Graph::plan`] shows it, [`Graph::profile`] measures it, and
//! [`compile`] makes a function that is only run:
//!
//! ```
//! let f = autograd::compile(|[x]| {
//!     let y = (x.tanh() * x + (-x).exp()).sigmoid().sum();
//!     let [d] = x.graph().grad(y, &[x]);
//!     [y, d]
//! });
//! let [y, d] = f.call([vec![0.1f32, 0.2, 0.3]])?;
//! assert_eq!((y.shape(), d.shape()), (&[][..], &[3][..]));
//! assert_eq!(f.plan([vec![0.1f32, 0.2, 0.3]])?.kernels().len(), 1); // value and gradient: one pass
//! # Ok::<(), autograd::Error>(())
//! ```
//!
//! Your own operations implement [`Op`] or [`Elementwise`]; [`check_grads`] says whether a derivative is right,
//! [`Graph::detect_anomaly`] where a NaN comes from, [`Graph::picture`] what a program looks like.
//!
//! With the feature `sparse`, `sparse_jacobian` and `sparse_hessian` give the sparse matrices of the `sprs` crate: the pattern
//! is read off from the graph, and a few directions are enough for all elements.
//!
//! [How it works](docs::how_it_works) is a short book; there are pages on [writing an operation](docs::write_your_own_op), on
//! [wrong gradients](docs::my_gradient_is_wrong), and for those who come
//! [from PyTorch or JAX](docs::coming_from_pytorch_or_jax).
//!
//! # Conventions
//!
//! - Shapes are row-major; operations broadcast as in NumPy; a negative axis counts from the end.
//! - A Rust `2.0` is `f64`, `2.0f32` is `f32`; a number in an expression takes the dtype of the `Var` it meets. Dtypes do
//!   not mix: see [`Var::cast`].
//! - Integers and truth values have no gradient. Integer arithmetic that overflows is an error.
//! - An operation that cannot be done gives a `Var` that carries an [`Error`]; asking for a value returns it.
//! - At kinks: `relu'(0) = 0`, `abs'(0) = 0`; ties of a maximum share the gradient evenly; NaN propagates. All of it is
//!   in [`docs::conventions`], all operations with their derivatives in [`docs::operations`].

mod convert;
mod diff;
pub mod docs;
mod error;
mod exec;
mod graph;
mod index;
mod inspect;
mod keep;
mod math;
mod nodes;
mod op;
mod param;
mod plan;
mod pool;
mod run;
mod shape;
mod sorted;
mod tensor;
mod var;
mod view;

#[cfg(feature = "sparse")]
pub use diff::sparse::{Coloring, Pattern, Sparse, Structure, sparse_hessian, sparse_jacobian};
pub use diff::{
    check::{CheckGrads, check_grads},
    functional::{func, grad, grads, value_and_grad, value_and_grads},
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
pub use keep::{kept_bytes, release_memory};
pub use math::Lanes;
pub use op::{
    Dependency, Op, Real, Rule,
    elementwise::{Elementwise, Partial},
};
pub use param::Param;
pub use run::{
    fetch::Fetch,
    function::{Function, compile},
};
pub use shape::{Ints, MAX_RANK, Shape};
pub use tensor::{DType, Element, Tensor, Type};
pub use var::{Operand, Var};
pub use view::{TensorView, TensorViewMut};
