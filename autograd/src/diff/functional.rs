//! Functions of arrays: gradients without a visible graph.

use crate::{
    error::{Error, OpError, Result, catch},
    graph::Graph,
    nodes::Kind,
    tensor::Tensor,
    var::Var,
};
use std::panic::Location;

/// The gradient of a function of one tensor, as a function of arrays.
///
/// The closure gets a `Var` and returns a scalar. It may capture tensors, but not `Var`s of another
/// graph. A panic in it is returned as an error.
///
/// ```
/// let df = autograd::grad(|x| (x * x).sin().sum());
/// let d = df([0.0, 0.7])?.to_f64s();
/// assert!((d[1] - 2.0 * 0.7 * (0.7f64 * 0.7).cos()).abs() < 1e-15);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn grad<F, T>(f: F) -> impl Fn(T) -> Result<Tensor>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
{
    let both = value_and_grad(f);
    move |x| both(x).map(|(_, d)| d)
}

/// The value and the gradient of a function of one tensor, in one run.
///
/// ```
/// let f = autograd::value_and_grad(|x| x.square().sum());
/// let (value, d) = f([1.0, 2.0])?;
/// assert_eq!((value.scalar()?, d.to_f64s()), (5.0, vec![2.0, 4.0]));
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn value_and_grad<F, T>(f: F) -> impl Fn(T) -> Result<(Tensor, Tensor)>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
{
    let all = value_and_grads(move |[x]| f(x));
    move |x| all([x]).map(|(value, [d])| (value, d))
}

/// The gradients of a function of several tensors, which are passed as an array.
///
/// ```
/// let df = autograd::grads(|[x, y]| x * y + x.ln());
/// let [dx, dy] = df([2.0, 3.0])?;
/// assert_eq!((dx.scalar()?, dy.scalar()?), (3.5, 2.0));
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn grads<F, T, const N: usize>(f: F) -> impl Fn([T; N]) -> Result<[Tensor; N]>
where
    F: for<'g> Fn([Var<'g>; N]) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
{
    let all = value_and_grads(f);
    move |x| all(x).map(|(_, d)| d)
}

/// The value and the gradients of a function of several tensors, in one run.
#[track_caller]
pub fn value_and_grads<F, T, const N: usize>(
    f: F,
) -> impl Fn([T; N]) -> Result<(Tensor, [Tensor; N])>
where
    F: for<'g> Fn([Var<'g>; N]) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
{
    let caller = Location::caller();
    move |x| {
        let x: Vec<Result<Tensor>> = x.into_iter().map(tensor).collect();
        let (y, d) = value_and_gradients(x, caller, &|x| f(std::array::from_fn(|k| x[k])))?;
        d.try_into()
            .map(|d| (y, d))
            .map_err(|_| OpError::new("values are missing").at("function", caller))
    }
}

/// A closure that traces a function of several inputs and one output.
pub(in crate::diff) type Write<'f> = dyn for<'g> Fn(&[Var<'g>]) -> Var<'g> + 'f;

fn value_and_gradients(
    x: Vec<Result<Tensor>>,
    caller: &'static Location<'static>,
    f: &Write<'_>,
) -> Result<(Tensor, Vec<Tensor>)> {
    let g = Graph::new();
    let x: Vec<Var<'_>> = x.into_iter().map(|x| g.leaf(x, Kind::Input)).collect();
    let y = catch(|| f(&x)).map_err(|e| e.at("function", caller))?;
    let d = g.grads(y, &x);
    g.look((y, d))
}

/// An argument as a tensor.
pub(super) fn tensor(x: impl TryInto<Tensor, Error: Into<Error>>) -> Result<Tensor> {
    x.try_into().map_err(Into::into)
}

/// Helps type inference for a closure that is bound to a name first: `let f = func(|x| x.sin());`.
///
/// ```
/// let f = autograd::func(|x| x.sin().sum());
/// let df = autograd::grad(f);
/// assert_eq!(df([0.0])?.to_f64s(), [1.0]);
/// # Ok::<(), autograd::Error>(())
/// ```
pub fn func<F: for<'g> Fn(Var<'g>) -> Var<'g>>(f: F) -> F {
    f
}
