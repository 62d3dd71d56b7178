//! Full derivatives: Jacobians, Hessians and their products with vectors, as `Var`s of a graph and
//! as functions of arrays.
//!
//! The functions trace the program for *one* direction and run it for each direction, in parallel.

use super::{
    forward::misfit,
    functional::Write,
    reverse::{sweep, sweep_from},
};
use crate::{
    convert::ToTensor,
    error::{Error, OpError, Result, catch},
    graph::Graph,
    lines::called_from,
    run::function::{self, Traced},
    shape::Shape,
    tensor::{DType, Tensor, Type, reserve, with_dtype},
    var::Var,
};
use rayon::prelude::*;
use std::{ops::Range, panic::Location};

/// A tensor with a 1 at one position and zeros elsewhere.
fn basis(ty: Type, place: usize) -> Result<Tensor, OpError> {
    let mut e = Tensor::blank(ty)?;
    let mut view = e.as_view_mut().ok_or("its buffer is shared")?;
    with_dtype!(ty.dtype, float T => {
        let elements = view.slice::<T>()?;
        elements.fill(T::default());
        elements[place] = 1.0 as T;
        Ok::<(), OpError>(())
    }, else Err(no_derivative(ty.dtype)))?;
    Ok(e)
}

fn no_derivative(dtype: DType) -> OpError {
    OpError::new(format!("{dtype} has no derivative"))
}

/// The concatenated shapes of two tensors.
fn joined(a: &Shape, b: &Shape) -> Result<Shape, OpError> {
    Shape::new(&[&a[..], &b[..]].concat())
}

impl Graph {
    /// The Jacobian `∂y/∂x` as a `Var` of shape `[y's axes.., x's axes..]`, which can be used in
    /// further expressions and differentiated again. It is built row by row, or column by column if
    /// there are fewer columns. For large Jacobians, [`jacobian`] needs less memory.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0]);
    /// let y = x * x.sum();
    /// assert_eq!(g.jacobian(y, x).value()?.to_f64s(), [4.0, 1.0, 2.0, 5.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "jacrev")]
    #[doc(alias = "jacfwd")]
    pub fn jacobian<'g>(&'g self, y: Var<'g>, x: Var<'g>) -> Var<'g> {
        let _call_site = self.call_site();
        if let Some(error) = self.foreign("jacobian", [y, x]) {
            return error;
        }
        if let Some(wrong) = [y, x].into_iter().find(|v| v.error().is_some()) {
            return wrong;
        }
        let (of, by) = (y.ty(), x.ty());
        if of.shape.count() <= by.shape.count() {
            return self.jacobians(y, &[x])[0];
        }
        let build = || {
            let direction = |place| Ok(self.constant(basis(by, place)?));
            let column = |e| self.jvp(y, &[x], &[e]);
            let columns = (0..by.shape.count()).map(|place| direction(place).map(column));
            self.joined(&columns.collect::<Result<Vec<_>, OpError>>()?, -1, of, by)
        };
        build().unwrap_or_else(|e| self.fail("jacobian", e, &[y, x]))
    }

    /// Stacks rows or columns, and reshapes to the axes of the value and those of the argument.
    #[track_caller]
    fn joined<'g>(
        &'g self,
        parts: &[Var<'g>],
        axis: isize,
        of: Type,
        by: Type,
    ) -> Result<Var<'g>, OpError> {
        let shape = joined(&of.shape, &by.shape)?;
        Ok(if parts.is_empty() {
            self.zeros(shape, by.dtype)
        } else {
            self.stack(parts, axis).reshape(shape)
        })
    }

    /// The Jacobians of one value with respect to several, for example all parameters of a model:
    /// see [`jacobian`](Graph::jacobian). Built row by row, with one sweep per row for all of them.
    #[track_caller]
    pub fn jacobians<'g>(&'g self, y: Var<'g>, wrt: &[Var<'g>]) -> Vec<Var<'g>> {
        let _call_site = self.call_site();
        let all = [&[y], wrt].concat();
        let foreign = self.foreign("jacobian", all.iter().copied());
        if let Some(wrong) = foreign.or_else(|| all.into_iter().find(|v| v.error().is_some())) {
            return vec![wrong; wrt.len()];
        }
        let of = y.ty();
        let mut rows: Vec<Vec<Var<'g>>> = vec![Vec::new(); wrt.len()];
        for place in 0..of.shape.count() {
            let e = match basis(of, place) {
                Ok(e) => self.constant(e),
                Err(e) => return vec![self.fail("jacobian", e, &[y]); wrt.len()],
            };
            for ((rows, d), x) in rows.iter_mut().zip(sweep(y, e, wrt)).zip(wrt) {
                rows.push(d.unwrap_or_else(|| x.zero_cotangent()));
            }
        }
        let whole = |(rows, x): (Vec<Var<'g>>, &Var<'g>)| {
            self.joined(&rows, 0, of, x.ty())
                .unwrap_or_else(|e| self.fail("jacobian", e, &[y, *x]))
        };
        rows.into_iter().zip(wrt).map(whole).collect()
    }

    /// The Hessian of a scalar, `∂²y/∂x²`, as a `Var` of shape `[x's axes.., x's axes..]`.
    #[track_caller]
    pub fn hessian<'g>(&'g self, y: Var<'g>, x: Var<'g>) -> Var<'g> {
        let _call_site = self.call_site();
        let [d] = self.grad(y, &[x]);
        self.jacobian(d, x)
    }

    /// The product of the Hessian of a scalar with a vector of the type of `x`: two sweeps,
    /// whatever the size.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0]);
    /// let y = x.powi(3).sum();
    /// let product = g.hvp(y, x, g.constant([1.0, -1.0]));
    /// assert_eq!(product.value()?.to_f64s(), [6.0, -12.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn hvp<'g>(&'g self, y: Var<'g>, x: Var<'g>, v: Var<'g>) -> Var<'g> {
        self.hvps(y, &[x], &[v])[0]
    }

    /// As [`hvp`](Graph::hvp) with respect to several values, for example all parameters of a
    /// model. `v` and the results are the parts of one long vector.
    #[track_caller]
    pub fn hvps<'g>(&'g self, y: Var<'g>, wrt: &[Var<'g>], v: &[Var<'g>]) -> Vec<Var<'g>> {
        let _call_site = self.call_site();
        let all = [&[y], wrt, v].concat();
        let foreign = self.foreign("hvp", all.iter().copied());
        if let Some(wrong) = foreign.or_else(|| all.into_iter().find(|v| v.error().is_some())) {
            return vec![wrong; wrt.len()];
        }
        if let Some(e) = misfit(wrt, v) {
            return vec![self.fail("hvp", e, &[]); wrt.len()];
        }
        // the Hessian is symmetric: `H·v = vᵀ·H`
        let gradients: Vec<_> = self
            .grads(y, wrt)
            .into_iter()
            .zip(v.iter().copied())
            .collect();
        let found = sweep_from(&gradients, wrt);
        found
            .into_iter()
            .zip(wrt)
            .map(|(d, x)| d.unwrap_or_else(|| x.zero_cotangent()))
            .collect()
    }
}

/// The value of a function and its vector-Jacobian product with a cotangent of the value's type, in
/// one run.
///
/// ```
/// let f = autograd::vjp(|x| x * x);
/// let (y, d) = f(&[1.0, 2.0], &[10.0, 1.0])?;
/// assert_eq!((y.to_f64s(), d.to_f64s()), (vec![1.0, 4.0], vec![20.0, 4.0]));
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn vjp<F>(f: F) -> impl Fn(&dyn ToTensor, &dyn ToTensor) -> Result<(Tensor, Tensor)>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
{
    let caller = Location::caller();
    move |x: &dyn ToTensor, ct: &dyn ToTensor| {
        let _call = called_from(caller);
        let all = run([x.to_tensor()?, ct.to_tensor()?], caller, &|_, x| {
            let (x, ct) = (x[0], x[1]);
            let y = f(x);
            vec![y, y.vjp(ct, &[x])[0].unwrap_or_else(|| x.zero_cotangent())]
        })?;
        two(all, caller)
    }
}

/// The value of a function and its Jacobian-vector product with a tangent of the argument's type,
/// in one run.
///
/// ```
/// let f = autograd::jvp(|x| x.sin());
/// let (_, d) = f(&[0.0, 0.0], &[1.0, 10.0])?;
/// assert_eq!(d.to_f64s(), [1.0, 10.0]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn jvp<F>(f: F) -> impl Fn(&dyn ToTensor, &dyn ToTensor) -> Result<(Tensor, Tensor)>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
{
    let caller = Location::caller();
    move |x: &dyn ToTensor, v: &dyn ToTensor| {
        let _call = called_from(caller);
        let all = run([x.to_tensor()?, v.to_tensor()?], caller, &|g, x| {
            let y = f(x[0]);
            vec![y, g.jvp(y, &[x[0]], &[x[1]])]
        })?;
        two(all, caller)
    }
}

/// Runs a function of two tensors once.
fn run(
    inputs: [Tensor; 2],
    caller: &'static Location<'static>,
    f: &function::Write<'_>,
) -> Result<Vec<Tensor>> {
    Traced::new(&inputs, false, caller, f)?.call(&inputs)
}

/// Two values.
fn two(values: Vec<Tensor>, caller: &'static Location<'static>) -> Result<(Tensor, Tensor)> {
    let values: Result<[Tensor; 2], _> = values.try_into();
    values
        .map(|[a, b]| (a, b))
        .map_err(|_| OpError::new("values are missing").at("function", caller))
}

/// The Jacobian of a function of one tensor, of shape `[value's axes.., argument's axes..]`: see
/// [`jacobians`].
///
/// ```
/// let j = autograd::jacobian(|x| x * x.sum())(&[1.0, 2.0])?;
/// assert_eq!((j.shape(), j.to_f64s()), (&[2, 2][..], vec![4.0, 1.0, 2.0, 5.0]));
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
#[doc(alias = "jacrev")]
#[doc(alias = "jacfwd")]
pub fn jacobian<F>(f: F) -> impl Fn(&dyn ToTensor) -> Result<Tensor>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
{
    let all = jacobians(move |[x]| f(x));
    move |x: &dyn ToTensor| all([x]).map(|[j]| j)
}

/// The Jacobians of a function of several tensors, one for each argument, of shape
/// `[value's axes.., argument's axes..]`.
///
/// Traces one program for a row (a vector-Jacobian product), or for a column if there are fewer
/// columns, and runs it for each on the threads of rayon's current pool.
#[track_caller]
pub fn jacobians<F, const N: usize>(f: F) -> impl Fn([&dyn ToTensor; N]) -> Result<[Tensor; N]>
where
    F: for<'g> Fn([Var<'g>; N]) -> Var<'g>,
{
    let caller = Location::caller();
    move |x: [&dyn ToTensor; N]| {
        let _call = called_from(caller);
        let x = x
            .into_iter()
            .map(ToTensor::to_tensor)
            .collect::<Result<Vec<_>>>()?;
        let all = of_rows_or_columns(&x, caller, &|x| f(std::array::from_fn(|k| x[k])))?;
        all.try_into()
            .map_err(|_| OpError::new("values are missing").at("jacobian", caller))
    }
}

/// [`jacobians`] without the closure's type parameter, so that it is compiled once.
fn of_rows_or_columns(
    x: &[Tensor],
    caller: &'static Location<'static>,
    f: &Write<'_>,
) -> Result<Vec<Tensor>> {
    let of = value_type(x, caller, f)?;
    let count: usize = x.iter().map(|x| x.ty().shape.count()).sum();
    if of.shape.count() > count {
        return columns(x, of, caller, &|g, x, v| vec![g.jvp(f(x), x, v)]);
    }
    rows(x, of, caller, &|_, x, ct| {
        let found = f(x).vjp(ct[0], x);
        found
            .into_iter()
            .zip(x)
            .map(|(d, x)| d.unwrap_or_else(|| x.zero_cotangent()))
            .collect()
    })
}

/// The Hessian of a scalar function of one tensor, of shape
/// `[argument's axes.., argument's axes..]`. Traces one program for a row and runs it for each on
/// the threads of rayon's current pool.
///
/// ```
/// let h = autograd::hessian(|x| (x * x).sin().sum())(&[0.7])?;
/// assert!((h.scalar()? - (2.0 * 0.49f64.cos() - 4.0 * 0.49 * 0.49f64.sin())).abs() < 1e-14);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn hessian<F>(f: F) -> impl Fn(&dyn ToTensor) -> Result<Tensor>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
{
    let caller = Location::caller();
    move |x: &dyn ToTensor| {
        let _call = called_from(caller);
        let x = [x.to_tensor()?];
        let all = rows(&x, x[0].ty(), caller, &|g, x, v| {
            vec![g.hvp(f(x[0]), x[0], v[0])]
        })?;
        all.into_iter()
            .next()
            .ok_or_else(|| OpError::new("values are missing").at("hessian", caller))
    }
}

/// The product of the Hessian of a scalar function with a vector of the argument's type.
///
/// ```
/// let product = autograd::hvp(|x| x.powi(3).sum());
/// assert_eq!(product(&[1.0, 2.0], &[1.0, -1.0])?.to_f64s(), [6.0, -12.0]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn hvp<F>(f: F) -> impl Fn(&dyn ToTensor, &dyn ToTensor) -> Result<Tensor>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
{
    let caller = Location::caller();
    move |x: &dyn ToTensor, v: &dyn ToTensor| {
        let _call = called_from(caller);
        let all = run([x.to_tensor()?, v.to_tensor()?], caller, &|g, x| {
            vec![g.hvp(f(x[0]), x[0], x[1])]
        })?;
        all.into_iter()
            .next()
            .ok_or_else(|| OpError::new("values are missing").at("hvp", caller))
    }
}

/// The type of a function's value; an error if it is not a float.
fn value_type(x: &[Tensor], caller: &'static Location<'static>, f: &Write<'_>) -> Result<Type> {
    let g = Graph::new();
    let x: Vec<Var<'_>> = x.iter().map(|x| g.input(x)).collect();
    let y = catch(|| f(&x)).map_err(|e| e.at("function", caller))?;
    let ty = Type::new(y.dtype()?, y.shape()?);
    match ty.dtype {
        DType::F32 | DType::F64 => Ok(ty),
        other => Err(no_derivative(other).at("jacobian", caller)),
    }
}

/// A closure that traces the program for one direction: its results from the arguments and the
/// direction.
type Direction<'f> = dyn for<'g> Fn(&'g Graph, &[Var<'g>], &[Var<'g>]) -> Vec<Var<'g>> + 'f;

/// Traces a program for one direction, and runs it for each. Returns its results by direction. `f`
/// gets the arguments, then the direction.
fn each_direction(
    x: &[Tensor],
    count: usize,
    caller: &'static Location<'static>,
    direction: &(dyn Fn(usize) -> Result<Vec<Tensor>> + Sync),
    f: &Direction<'_>,
) -> Result<Vec<Vec<Tensor>>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let inputs = |place: usize| Ok::<_, Error>([x, &direction(place)?].concat());
    let traced = Traced::new(&inputs(0)?, false, caller, &|g, v| {
        f(g, &v[..x.len()], &v[x.len()..])
    })?
    .at_one_moment();
    (0..count)
        .into_par_iter()
        .map(|place| traced.call(&inputs(place)?))
        .collect()
}

/// For each argument, the matrix of its rows, with the axes of the value and of the argument.
fn rows(
    x: &[Tensor],
    of: Type,
    caller: &'static Location<'static>,
    row: &Direction<'_>,
) -> Result<Vec<Tensor>> {
    let at = |e: OpError| e.at("jacobian", caller);
    let direction = |place| Ok(vec![basis(of, place).map_err(at)?]);
    let all = each_direction(x, of.shape.count(), caller, &direction, row)?;
    let matrix = |(k, x): (usize, &Tensor)| {
        let shape = joined(&of.shape, &x.ty().shape).map_err(at)?;
        with_dtype!(x.dtype(), float T => {
            let mut elements = reserve(shape.count()).map_err(at)?;
            for row in &all {
                elements.extend_from_slice(row[k].as_view().slice::<T>().map_err(at)?);
            }
            Tensor::new(shape, elements)
        }, else Err(at(no_derivative(x.dtype()))))
    };
    x.iter().enumerate().map(matrix).collect()
}

/// As [`rows`], by columns: one for each element of each argument.
fn columns(
    x: &[Tensor],
    of: Type,
    caller: &'static Location<'static>,
    column: &Direction<'_>,
) -> Result<Vec<Tensor>> {
    let at = |e: OpError| e.at("jacobian", caller);
    let mut count = 0;
    let ranges: Vec<(Type, Range<usize>)> = x
        .iter()
        .map(|x| {
            let start = count;
            count += x.ty().shape.count();
            (x.ty(), start..count)
        })
        .collect();
    let direction = |place: usize| {
        let of_this = |(ty, range): &(Type, Range<usize>)| match range.contains(&place) {
            true => basis(*ty, place - range.start).map_err(at),
            false => Tensor::zeros(ty.shape, ty.dtype),
        };
        ranges.iter().map(of_this).collect::<Result<Vec<_>>>()
    };
    let all = each_direction(x, count, caller, &direction, column)?;
    let matrix = |(ty, range): &(Type, Range<usize>)| {
        let shape = joined(&of.shape, &ty.shape).map_err(at)?;
        with_dtype!(ty.dtype, float T => {
            let mut elements = reserve(shape.count()).map_err(at)?;
            elements.resize(shape.count(), T::default());
            for (j, column) in all[range.clone()].iter().enumerate() {
                let column = column[0].as_view().slice::<T>().map_err(at)?;
                column.iter().enumerate().for_each(|(i, &v)| elements[i * range.len() + j] = v);
            }
            Tensor::new(shape, elements)
        }, else Err(at(no_derivative(ty.dtype))))
    };
    ranges.iter().map(matrix).collect()
}
