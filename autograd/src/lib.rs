//! Reverse-mode automatic differentiation on tensors.
mod diff;
mod error;
mod exec;
mod graph;
mod inspect;
mod op;
mod param;
mod plan;
mod shape;
mod tensor;
mod var;

pub use diff::{
    check::{CheckGrads, check_grads},
    functional::{func, grad, grads, value_and_grad, value_and_grads},
    gradients::Gradients,
};
pub use error::{Error, OpError, Result};
pub use exec::fetch::Fetch;
pub use graph::{Graph, Scope};
pub use op::{Dependency, Op, Real, Rule, elementwise::{Elementwise, Partial}};
pub use param::Param;
pub use shape::{Ints, MAX_RANK, Shape};
pub use tensor::{DType, Element, Tensor, TensorView, TensorViewMut, Type};
pub use var::{Operand, Var};
