//! Whole derivatives: Jacobians, Hessians and products with them, as `Var`s of a graph and as functions of arrays.
//!
//! The functions trace the program for *one* direction and run it for each, several at once.

use super::{
    functional::tensor,
    reverse::{sweep, sweep_and},
};
use crate::{
    error::{Error, OpError, Result, catch},
    exec::function::Traced,
    graph::Graph,
    shape::Shape,
    tensor::{DType, Tensor, Type, with_dtype},
    var::Var,
};
use rayon::prelude::*;
use std::panic::Location;

/// A tensor with a 1 at one place and zeros elsewhere.
fn basis(ty: Type, place: usize) -> Result<Tensor, OpError> {
    let mut e = Tensor::blank(ty)?;
    let mut view = e.as_view_mut().ok_or("its buffer is shared")?;
    with_dtype!(ty.dtype, float T => {
        let elements = view.slice::<T>()?;
        elements.fill(T::default());
        elements[place] = 1.0 as T;
        Ok::<(), OpError>(())
    }, else Err(OpError::new(format!("{} has no derivative", ty.dtype))))?;
    Ok(e)
}

/// The shapes of several tensors one after the other.
fn joined(a: &Shape, b: &Shape) -> Result<Shape, OpError> {
    Shape::new(&[&a[..], &b[..]].concat())
}

impl Graph {
    /// The Jacobian `∂y/∂x` as a `Var` of shape `[y's axes.., x's axes..]`, to compute with and to differentiate again. It
    /// is written row by row, or column by column if there are fewer: for large ones, [`jacobian`] needs less memory.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0]);
    /// let y = x * x.sum();
    /// assert_eq!(g.jacobian(y, x).value()?.to_f64s(), [4.0, 1.0, 2.0, 5.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn jacobian<'g>(&'g self, y: Var<'g>, x: Var<'g>) -> Var<'g> {
        let _here = self.here();
        if let Some(wrong) = [y, x].into_iter().find(|v| v.error().is_some()) {
            return wrong;
        }
        let (of, by) = (y.ty(), x.ty());
        let build = || {
            let (rows, columns) = (of.shape.count(), by.shape.count());
            let along_y = rows <= columns;
            let direction = if along_y { of } else { by };
            let mut parts = Vec::new();
            for place in 0..rows.min(columns) {
                let e = self.constant(basis(direction, place)?);
                parts.push(if along_y {
                    let d = sweep(y, e, &[x])[0].unwrap_or_else(|| x.zero_cotangent());
                    d.reshape([by.shape.count()])
                } else {
                    self.jvp(y, &[x], &[e]).reshape([of.shape.count()])
                });
            }
            let shape = joined(&of.shape, &by.shape)?;
            Ok(match (parts.is_empty(), along_y) {
                (true, _) => self.zeros(shape, by.dtype),
                (_, true) => self.stack(&parts, 0).reshape(shape),
                (_, false) => self.stack(&parts, -1).reshape(shape),
            })
        };
        build().unwrap_or_else(|e| self.fail("jacobian", e, &[y, x]))
    }

    /// The Jacobians of one value with respect to several, all parameters of a model for example: see
    /// [`jacobian`](Graph::jacobian). Written row by row, one sweep for all of them.
    #[track_caller]
    pub fn jacobians<'g>(&'g self, y: Var<'g>, wrt: &[Var<'g>]) -> Vec<Var<'g>> {
        let _here = self.here();
        if let Some(wrong) = [&[y], wrt].concat().into_iter().find(|v| v.error().is_some()) {
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
        let whole = |(rows, x): (Vec<Var<'g>>, &Var<'g>)| match joined(&of.shape, &x.ty().shape) {
            Err(e) => self.fail("jacobian", e, &[y, *x]),
            Ok(shape) if rows.is_empty() => self.zeros(shape, x.known_dtype()),
            Ok(shape) => self.stack(&rows, 0).reshape(shape),
        };
        rows.into_iter().zip(wrt).map(whole).collect()
    }

    /// The Hessian of a single number, `∂²y/∂x²`, as a `Var` of shape `[x's axes.., x's axes..]`.
    #[track_caller]
    pub fn hessian<'g>(&'g self, y: Var<'g>, x: Var<'g>) -> Var<'g> {
        let _here = self.here();
        let [d] = self.grad(y, &[x]);
        self.jacobian(d, x)
    }

    /// The product of the Hessian of a single number with a vector of the type of `x`: two sweeps, whatever the size.
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

    /// As [`hvp`](Graph::hvp) with respect to several values at once, all parameters of a model for example: the parts of
    /// the product with one long vector, of which `v` are the parts.
    #[track_caller]
    pub fn hvps<'g>(&'g self, y: Var<'g>, wrt: &[Var<'g>], v: &[Var<'g>]) -> Vec<Var<'g>> {
        let _here = self.here();
        let wrong = wrt.len() != v.len() || wrt.iter().zip(v).any(|(x, v)| v.error().is_none() && x.ty() != v.ty());
        if let Some(e) = wrt.iter().chain(v).copied().find(|v| v.error().is_some()) {
            return vec![e; wrt.len()];
        }
        if wrong {
            let e = OpError::new("there must be a vector for each value, of its type");
            return vec![self.fail("hvp", e, &[]); wrt.len()];
        }
        // the Hessian is symmetric: its product with a vector is that of the vector with it
        let gradients: Vec<_> = self.grads(y, wrt).into_iter().zip(v.iter().copied()).collect();
        let found = sweep_and(&gradients, wrt, |_| {});
        found.into_iter().zip(wrt).map(|(d, x)| d.unwrap_or_else(|| x.zero_cotangent())).collect()
    }
}

/// The value of a function and its vector-Jacobian product with a cotangent of the value's type, from one run.
///
/// ```
/// let f = autograd::vjp(|x| x * x);
/// let (y, d) = f([1.0, 2.0], [10.0, 1.0])?;
/// assert_eq!((y.to_f64s(), d.to_f64s()), (vec![1.0, 4.0], vec![20.0, 4.0]));
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn vjp<F, T, C>(f: F) -> impl Fn(T, C) -> Result<(Tensor, Tensor)>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
    C: TryInto<Tensor, Error: Into<Error>>,
{
    let here = Location::caller();
    move |x, ct| {
        let inputs = [tensor(x)?, tensor(ct)?];
        two(Traced::new(&inputs, here, |_, x| {
            let y = f(x[0]);
            vec![y, y.vjp(x[1], &[x[0]])[0].unwrap_or_else(|| x[0].zero_cotangent())]
        })?
        .call(&inputs)?)
    }
}

/// The value of a function and its Jacobian-vector product with a tangent of the argument's type, from one run.
///
/// ```
/// let f = autograd::jvp(|x| x.sin());
/// let (_, d) = f([0.0, 0.0], [1.0, 10.0])?;
/// assert_eq!(d.to_f64s(), [1.0, 10.0]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn jvp<F, T, V>(f: F) -> impl Fn(T, V) -> Result<(Tensor, Tensor)>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
    V: TryInto<Tensor, Error: Into<Error>>,
{
    let here = Location::caller();
    move |x, v| {
        let inputs = [tensor(x)?, tensor(v)?];
        two(Traced::new(&inputs, here, |g, x| {
            let y = f(x[0]);
            vec![y, g.jvp(y, &[x[0]], &[x[1]])]
        })?
        .call(&inputs)?)
    }
}

fn two(values: Vec<Tensor>) -> Result<(Tensor, Tensor)> {
    match <[Tensor; 2]>::try_from(values) {
        Ok([a, b]) => Ok((a, b)),
        Err(_) => Err(OpError::new("values are missing").at_caller("function")),
    }
}

/// The Jacobian of a function of one tensor, of shape `[value's axes.., argument's axes..]`: see [`jacobians`].
///
/// ```
/// let j = autograd::jacobian(|x| x * x.sum())([1.0, 2.0])?;
/// assert_eq!((j.shape(), j.to_f64s()), (&[2, 2][..], vec![4.0, 1.0, 2.0, 5.0]));
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn jacobian<F, T>(f: F) -> impl Fn(T) -> Result<Tensor>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
{
    let all = jacobians(move |[x]| f(x));
    move |x| all([x]).map(|[j]| j)
}

/// The Jacobians of a function of several tensors, one for each, of shape `[value's axes.., argument's axes..]`.
///
/// One program is made for a row (a vector-Jacobian product), or for a column if there are fewer of them, and run for
/// each on the threads of rayon's current pool.
#[track_caller]
pub fn jacobians<F, T, const N: usize>(f: F) -> impl Fn([T; N]) -> Result<[Tensor; N]>
where
    F: for<'g> Fn([Var<'g>; N]) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
{
    let here = Location::caller();
    move |x| {
        let x = x.into_iter().map(tensor).collect::<Result<Vec<_>>>()?;
        let of = value_type(&x, here, |x| f(std::array::from_fn(|k| x[k])))?;
        let columns: usize = x.iter().map(|x| x.ty().shape.count()).sum();
        let all = if of.shape.count() <= columns {
            rows(&x, of, here, |_, x, ct| {
                let y = f(std::array::from_fn(|k| x[k]));
                let found = y.vjp(ct, x);
                found.into_iter().zip(x).map(|(d, x)| d.unwrap_or_else(|| x.zero_cotangent())).collect()
            })?
        } else {
            self::columns(&x, of, here, |g, x, v| g.jvp(f(std::array::from_fn(|k| x[k])), x, v))?
        };
        all.try_into().map_err(|_| OpError::new("values are missing").at("jacobian", here))
    }
}

/// The Hessian of a function of one tensor to a single number, of shape `[argument's axes.., argument's axes..]`: one
/// program for a row, run for each on the threads of rayon's current pool.
///
/// ```
/// let h = autograd::hessian(|x| (x * x).sin().sum())([0.7])?;
/// assert!((h.scalar()? - (2.0 * 0.49f64.cos() - 4.0 * 0.49 * 0.49f64.sin())).abs() < 1e-14);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn hessian<F, T>(f: F) -> impl Fn(T) -> Result<Tensor>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
{
    let here = Location::caller();
    move |x| {
        let x = [tensor(x)?];
        let all = rows(&x, x[0].ty(), here, |g, x, v| vec![g.hvp(f(x[0]), x[0], v)])?;
        all.into_iter().next().ok_or_else(|| OpError::new("values are missing").at("hessian", here))
    }
}

/// The product of the Hessian of a function with a vector of the argument's type.
///
/// ```
/// let product = autograd::hvp(|x| x.powi(3).sum());
/// assert_eq!(product([1.0, 2.0], [1.0, -1.0])?.to_f64s(), [6.0, -12.0]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn hvp<F, T, V>(f: F) -> impl Fn(T, V) -> Result<Tensor>
where
    F: for<'g> Fn(Var<'g>) -> Var<'g>,
    T: TryInto<Tensor, Error: Into<Error>>,
    V: TryInto<Tensor, Error: Into<Error>>,
{
    let here = Location::caller();
    move |x, v| {
        let inputs = [tensor(x)?, tensor(v)?];
        let values = Traced::new(&inputs, here, |g, x| vec![g.hvp(f(x[0]), x[0], x[1])])?.call(&inputs)?;
        values.into_iter().next().ok_or_else(|| OpError::new("values are missing").at("hvp", here))
    }
}

/// The type of a function's value; an error if it is not a float.
fn value_type(
    x: &[Tensor],
    here: &'static Location<'static>,
    f: impl for<'g> Fn(&[Var<'g>]) -> Var<'g>,
) -> Result<Type> {
    let g = Graph::new();
    let x: Vec<Var<'_>> = x.iter().map(|x| g.input(x)).collect();
    let y = catch(|| f(&x)).map_err(|e| e.at("function", here))?;
    let ty = Type::new(y.dtype()?, y.shape()?);
    match ty.dtype {
        DType::F32 | DType::F64 => Ok(ty),
        other => Err(OpError::new(format!("{other} has no derivative")).at("jacobian", here)),
    }
}

/// Runs a program for each direction of a type; the results of each, side by side.
fn each_direction(
    traced: &Traced,
    x: &[Tensor],
    direction: impl Fn(usize) -> Result<Vec<Tensor>> + Sync,
    count: usize,
) -> Result<Vec<Vec<Tensor>>> {
    (0..count).into_par_iter().map(|place| traced.call(&[x, &direction(place)?].concat())).collect()
}

/// For each argument the matrix of its rows, with the axes of the value and its own.
fn rows(
    x: &[Tensor],
    of: Type,
    here: &'static Location<'static>,
    row: impl for<'g> Fn(&'g Graph, &[Var<'g>], Var<'g>) -> Vec<Var<'g>>,
) -> Result<Vec<Tensor>> {
    let at = |e: OpError| e.at("jacobian", here);
    let count = of.shape.count();
    if count == 0 {
        return x.iter().map(|x| Tensor::zeros(joined(&of.shape, &x.ty().shape).map_err(at)?, x.dtype())).collect();
    }
    let inputs = [x, &[basis(of, 0).map_err(at)?]].concat();
    let traced = Traced::new(&inputs, here, |g, v| row(g, &v[..x.len()], v[x.len()]))?;
    let all = each_direction(&traced, x, |place| Ok(vec![basis(of, place).map_err(at)?]), count)?;
    let matrix = |(k, x): (usize, &Tensor)| {
        let shape = joined(&of.shape, &x.ty().shape).map_err(at)?;
        with_dtype!(x.dtype(), float T => {
            let mut elements = Vec::with_capacity(shape.count());
            for row in &all {
                elements.extend_from_slice(row[k].as_view().slice::<T>().map_err(at)?);
            }
            Tensor::new(shape, elements)
        }, else Err(at(OpError::new(format!("{} has no derivative", x.dtype())))))
    };
    x.iter().enumerate().map(matrix).collect()
}

/// As [`rows`], by columns: one for each element of each argument.
fn columns(
    x: &[Tensor],
    of: Type,
    here: &'static Location<'static>,
    column: impl for<'g> Fn(&'g Graph, &[Var<'g>], &[Var<'g>]) -> Var<'g>,
) -> Result<Vec<Tensor>> {
    let at = |e: OpError| e.at("jacobian", here);
    let types: Vec<Type> = x.iter().map(Tensor::ty).collect();
    let ends: Vec<usize> = types
        .iter()
        .scan(0, |end, ty| {
            *end += ty.shape.count();
            Some(*end)
        })
        .collect();
    let count = ends.last().copied().unwrap_or(0);
    let direction = |place: usize| {
        let of_this = |(k, &ty): (usize, &Type)| {
            let start = ends[k] - ty.shape.count();
            if (start..ends[k]).contains(&place) {
                basis(ty, place - start).map_err(at)
            } else {
                Tensor::zeros(ty.shape, ty.dtype)
            }
        };
        types.iter().enumerate().map(of_this).collect::<Result<Vec<_>>>()
    };
    if count == 0 {
        return types.iter().map(|ty| Tensor::zeros(joined(&of.shape, &ty.shape).map_err(at)?, ty.dtype)).collect();
    }
    let inputs = [x, &direction(0)?].concat();
    let traced = Traced::new(&inputs, here, |g, v| vec![column(g, &v[..x.len()], &v[x.len()..])])?;
    let all = each_direction(&traced, x, direction, count)?;
    let rows = of.shape.count();
    let matrix = |(k, ty): (usize, &Type)| {
        let (shape, n) = (joined(&of.shape, &ty.shape).map_err(at)?, ty.shape.count());
        with_dtype!(ty.dtype, float T => {
            let mut elements = vec![T::default(); shape.count()];
            for (j, column) in all[ends[k] - n..ends[k]].iter().enumerate() {
                let column = column[0].as_view().slice::<T>().map_err(at)?;
                (0..rows).for_each(|i| elements[i * n + j] = column[i]);
            }
            Tensor::new(shape, elements)
        }, else Err(at(OpError::new(format!("{} has no derivative", ty.dtype)))))
    };
    types.iter().enumerate().map(matrix).collect()
}
