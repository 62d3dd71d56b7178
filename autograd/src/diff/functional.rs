//! Functions of arrays: gradients without a visible graph.

use crate::{
    convert::ToTensor,
    error::{OpError, Result, catch},
    graph::Graph,
    lines::called_from,
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
/// A closure that is written at its place, as here, or a function (`fn f(x: Var<'_>) -> Var<'_>`) is
/// taken as it is. A closure that is bound to a name first needs [`func`]:
/// `let f = func(|x| x.sin()); let df = grad(f);`.
///
/// The gradient takes its argument by reference: numbers, arrays, vectors, tensors, ndarray arrays
/// and views, of other types and lengths in each call.
///
/// ```
/// let df = autograd::grad(|x| x.square().sum());
/// let mut w = vec![1.0, -2.0];
/// for _ in 0..100 {
///     let d = df(&w)?.to_f64s();
///     w.iter_mut().zip(d).for_each(|(w, d)| *w -= 0.1 * d);
/// }
/// assert!(w[1].abs() < 1e-8);
/// assert_eq!(df(&[1.0, 2.0, 3.0])?.to_f64s(), [2.0, 4.0, 6.0]);
/// assert_eq!(df(&autograd::ndarray::array![[1.0f64], [2.0]].t())?.shape(), [1, 2]);
/// # Ok::<(), autograd::Error>(())
/// ```
///
/// ```
/// let df = autograd::grad(|x| (x * x).sin().sum());
/// let d = df(&[0.0, 0.7])?.to_f64s();
/// assert!((d[1] - 2.0 * 0.7 * (0.7f64 * 0.7).cos()).abs() < 1e-15);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn grad<F>(f: F) -> impl Fn(&dyn ToTensor) -> Result<Tensor>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
{
    let both = value_and_grad(f);
    move |x: &dyn ToTensor| both(x).map(|(_, d)| d)
}

/// The value and the gradient of a function of one tensor, in one run.
///
/// ```
/// let f = autograd::value_and_grad(|x| x.square().sum());
/// let (value, d) = f(&[1.0, 2.0])?;
/// assert_eq!((value.scalar()?, d.to_f64s()), (5.0, vec![2.0, 4.0]));
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
#[doc(alias = "grad")]
pub fn value_and_grad<F>(f: F) -> impl Fn(&dyn ToTensor) -> Result<(Tensor, Tensor)>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
{
    let all = value_and_grads(move |[x]| f(x));
    move |x: &dyn ToTensor| all([x]).map(|(value, [d])| (value, d))
}

/// The gradients of a function of several tensors, which are passed as an array.
///
/// ```
/// let df = autograd::grads(|[x, y]| x * y + x.ln());
/// let [dx, dy] = df([&2.0, &3.0])?;
/// assert_eq!((dx.scalar()?, dy.scalar()?), (3.5, 2.0));
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn grads<F, const N: usize>(f: F) -> impl Fn([&dyn ToTensor; N]) -> Result<[Tensor; N]>
where
    F: for<'g> Fn([Var<'g>; N]) -> Var<'g>,
{
    let all = value_and_grads(f);
    move |x: [&dyn ToTensor; N]| all(x).map(|(_, d)| d)
}

/// The value and the gradients of a function of several tensors, in one run.
#[track_caller]
pub fn value_and_grads<F, const N: usize>(
    f: F,
) -> impl Fn([&dyn ToTensor; N]) -> Result<(Tensor, [Tensor; N])>
where
    F: for<'g> Fn([Var<'g>; N]) -> Var<'g>,
{
    let caller = Location::caller();
    move |x: [&dyn ToTensor; N]| {
        let _call = called_from(caller);
        let x: Vec<Result<Tensor>> = x.into_iter().map(ToTensor::to_tensor).collect();
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

/// Names a closure: `let f = func(|x| x.sin());`.
///
/// The compiler derives the types of a closure where it is written. At `let f = |x| x.sin();` it
/// cannot know that `x` is a [`Var`] (error E0282: "type annotations needed"); with `|x: Var|` it
/// cannot know that the result lives as long as the argument ("lifetime may not live long enough" or
/// "implementation of `Fn` is not general enough"). `func` tells it. For closures of several arguments
/// there is [`funcs`].
///
/// ```
/// use autograd::{func, grad, hessian};
/// let f = func(|x| x.sin().sum());
/// assert_eq!(grad(f)(&[0.0])?.to_f64s(), [1.0]);
/// assert_eq!(hessian(f)(&[0.0])?.to_f64s(), [0.0]);
/// # Ok::<(), autograd::Error>(())
/// ```
///
/// What does not compile without it:
///
/// ```compile_fail,E0282
/// let f = |x| x.sin().sum();
/// let df = autograd::grad(f);
/// ```
///
/// ```compile_fail
/// let f = |x: autograd::Var| x.sin().sum();
/// let df = autograd::grad(f);
/// ```
#[doc(alias = "closure")]
pub fn func<F: for<'g> Fn(Var<'g>) -> Var<'g>>(f: F) -> F {
    f
}

/// Names a closure of several arguments, for [`grads`] and its kin: see [`func`].
///
/// ```
/// let f = autograd::funcs(|[x, y]| x * y);
/// let [dx, dy] = autograd::grads(f)([&2.0, &3.0])?;
/// assert_eq!((dx.scalar()?, dy.scalar()?), (3.0, 2.0));
/// # Ok::<(), autograd::Error>(())
/// ```
#[doc(alias = "closure")]
pub fn funcs<F: for<'g> Fn([Var<'g>; N]) -> Var<'g>, const N: usize>(f: F) -> F {
    f
}
