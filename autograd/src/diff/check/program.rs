//! A function of tensors as the checker uses it: its values, its pullback, and finite differences.

use crate::{
    diff::{functional::Write, reverse::sweep},
    error::{Result, catch},
    graph::Graph,
    param::Param,
    tensor::{DType, Tensor},
    var::Var,
};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::panic::Location;

type Function<'p> = dyn for<'g> Fn(&'g Graph, &[Var<'g>]) -> Vec<Var<'g>> + 'p;

/// A function whose parameters are ordinary inputs.
pub(super) struct Program<'p> {
    pub(super) f: Box<Function<'p>>,
    /// The names of the first inputs; the others are named by number.
    pub(super) names: Vec<Option<String>>,
}

/// One scalar for each element of several tensors, such as the slopes of all outputs.
pub(super) type Slopes = Vec<Vec<f64>>;

impl<'p> Program<'p> {
    pub(super) fn of(
        f: impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Vec<Var<'g>> + 'p,
        names: Vec<Option<String>>,
    ) -> Program<'p> {
        Program {
            f: Box::new(f),
            names,
        }
    }

    /// A user's function with its trained parameters as further inputs, and all inputs.
    #[track_caller]
    pub(super) fn new(
        f: &'p Write<'p>,
        inputs: &[Tensor],
        double: bool,
    ) -> Result<(Program<'p>, Vec<Tensor>)> {
        let wide = |x: Tensor| {
            if double && x.dtype() == DType::F32 {
                x.cast(DType::F64)
            } else {
                Ok(x)
            }
        };
        let (mut names, mut all) = (vec![None; inputs.len()], inputs.to_vec());
        let (mut trained, mut fixed) = (Vec::new(), Vec::new());
        let bound = bound(f, inputs)?;
        // at one moment: differences of values that others have updated meanwhile say nothing
        let values = Param::values(bound.iter().map(|(param, ..)| param));
        for ((param, is_trained, name), value) in bound.into_iter().zip(values) {
            if is_trained && value.dtype().is_float() {
                names.push(Some(name));
                all.push(value);
                trained.push(param);
            } else {
                fixed.push((wide(value)?, param));
            }
        }
        let all = all.into_iter().map(wide).collect::<Result<Vec<_>>>()?;
        let own = inputs.len();
        let program = Program::of(
            move |g, x| {
                trained
                    .iter()
                    .zip(&x[own..])
                    .for_each(|(param, &v)| g.bind_var(param, v));
                fixed
                    .iter()
                    .for_each(|(value, param)| g.bind_var(param, g.constant(value)));
                vec![f(&x[..own])]
            },
            names,
        );
        Ok((program, all))
    }

    pub(super) fn name(&self, input: usize) -> String {
        self.names
            .get(input)
            .cloned()
            .flatten()
            .unwrap_or_else(|| format!("input {input}"))
    }
}

/// The parameters that a function binds, whether they are trained, and their names.
#[track_caller]
fn bound(f: &Write<'_>, inputs: &[Tensor]) -> Result<Vec<(Param, bool, String)>> {
    let (g, caller) = (Graph::new(), Location::caller());
    let x: Vec<Var<'_>> = inputs.iter().map(|x| g.input(x)).collect();
    catch(|| f(&x)).map_err(|e| e.at("check_grads", caller))?;
    let inner = g.inner.borrow();
    let named = inner.params.iter().map(|b| {
        let (ty, scope) = (b.param.ty(), inner.scope_path(b.node));
        let name = if scope.is_empty() {
            format!("parameter {ty}")
        } else {
            format!("parameter {ty} of {scope}")
        };
        (b.param.clone(), b.trained, name)
    });
    Ok(named.collect())
}

/// Builds the program in a new graph and passes inputs and outputs to `f`.
fn with_graph<R>(
    program: &Program<'_>,
    inputs: &[Tensor],
    f: impl for<'g> FnOnce(&'g Graph, &[Var<'g>], Vec<Var<'g>>) -> Result<R>,
) -> Result<R> {
    let (g, caller) = (Graph::new(), Location::caller());
    let x: Vec<Var<'_>> = inputs.iter().map(|x| g.input(x)).collect();
    let y = catch(|| (program.f)(&g, &x)).map_err(|e| e.at("check_grads", caller))?;
    f(&g, &x, y)
}

pub(super) fn evaluate(program: &Program<'_>, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    with_graph(program, inputs, |g, _, y| g.look(y))
}

/// The cotangents of the inputs, all elements of each; empty for integers.
pub(super) fn gradients(
    program: &Program<'_>,
    inputs: &[Tensor],
    cts: &[Tensor],
) -> Result<Vec<Vec<f64>>> {
    with_graph(program, inputs, |g, x, y| {
        let cts: Vec<Var<'_>> = cts.iter().map(|ct| g.constant(ct)).collect();
        let mut found = g.look(pullback(&y, x, &cts))?.into_iter();
        let mut of = |x: &Tensor| {
            x.dtype()
                .is_float()
                .then(|| found.next().map_or(Vec::new(), |d| d.to_f64s()))
        };
        Ok(inputs.iter().map(|x| of(x).unwrap_or_default()).collect())
    })
}

/// The function of the next order: cotangents of the float inputs `x`, given those of the float
/// outputs.
pub(super) fn pullback<'g>(y: &[Var<'g>], x: &[Var<'g>], cts: &[Var<'g>]) -> Vec<Var<'g>> {
    let wrt: Vec<Var<'g>> = x
        .iter()
        .copied()
        .filter(|x| x.known_dtype().is_float())
        .collect();
    let mut sums: Vec<Option<Var<'g>>> = vec![None; wrt.len()];
    for (&y, &ct) in y
        .iter()
        .zip(cts)
        .filter(|(y, _)| y.error().is_some() || y.known_dtype().is_float())
    {
        for (sum, d) in sums.iter_mut().zip(sweep(y, ct, &wrt)) {
            *sum = match (*sum, d) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
    }
    sums.into_iter()
        .zip(wrt)
        .map(|(d, x)| d.unwrap_or_else(|| x.zero_cotangent()))
        .collect()
}

/// The outputs at `x + t·direction`, as scalars.
pub(super) fn outputs_at(
    program: &Program<'_>,
    inputs: &[Tensor],
    direction: &[Vec<f64>],
    t: f64,
) -> Result<Slopes> {
    let moved = |(x, d): (&Tensor, &Vec<f64>)| match x.dtype().is_float() {
        true => like(
            x,
            &x.to_f64s()
                .iter()
                .zip(d)
                .map(|(x, d)| x + t * d)
                .collect::<Vec<_>>(),
        ),
        false => Ok(x.clone()),
    };
    let moved: Vec<Tensor> = inputs
        .iter()
        .zip(direction)
        .map(moved)
        .collect::<Result<_>>()?;
    Ok(evaluate(program, &moved)?
        .iter()
        .map(Tensor::to_f64s)
        .collect())
}

/// `d/dt f(x + t·direction)` at 0, by central differences of fourth order.
pub(super) fn difference(
    program: &Program<'_>,
    inputs: &[Tensor],
    direction: &[Vec<f64>],
    h: f64,
) -> Result<Slopes> {
    let at = |t: f64| outputs_at(program, inputs, direction, t);
    let (a, b, c, d) = (at(2.0 * h)?, at(h)?, at(-h)?, at(-2.0 * h)?);
    let slope = |o: usize, e: usize| (8.0 * (b[o][e] - c[o][e]) - (a[o][e] - d[o][e])) / (12.0 * h);
    Ok(a.iter()
        .enumerate()
        .map(|(o, v)| (0..v.len()).map(|e| slope(o, e)).collect())
        .collect())
}

/// A portable generator.
pub(super) fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Fixed, generic cotangents for the next order.
pub(super) fn cotangents(values: &[Tensor]) -> Vec<Tensor> {
    let mut random = random(2);
    let mut draw = |v: &Tensor| {
        let numbers: Vec<f64> = (0..v.len())
            .map(|_| random.random_range(0.5..1.5))
            .collect();
        like(v, &numbers).unwrap_or_else(|_| v.clone()) // cannot fail: the lengths are equal
    };
    values.iter().map(&mut draw).collect()
}

/// One element of several tensors.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) tensor: usize,
    pub(super) element: usize,
}

impl At {
    /// All elements of a tensor with `count` elements.
    pub(super) fn each(tensor: usize, count: usize) -> impl Iterator<Item = At> {
        (0..count).map(move |element| At { tensor, element })
    }

    /// The entry at this position.
    pub(super) fn of<T>(self, lists: &[Vec<T>]) -> &T {
        &lists[self.tensor][self.element]
    }
}

/// Zeros for all elements of these tensors, with a 1 at one position.
pub(super) fn one_hots(like: &[Tensor], at: Option<At>) -> Slopes {
    let mut all: Slopes = like.iter().map(|t| vec![0.0; t.len()]).collect();
    if let Some(At { tensor, element }) = at {
        all[tensor][element] = 1.0;
    }
    all
}

/// These scalars with the types of the tensors.
pub(super) fn all_like(values: &[Tensor], numbers: &[Vec<f64>]) -> Result<Vec<Tensor>> {
    values
        .iter()
        .zip(numbers)
        .map(|(v, n)| like(v, n))
        .collect()
}

/// These scalars with the type of a tensor.
fn like(v: &Tensor, numbers: &[f64]) -> Result<Tensor> {
    match v.dtype() {
        DType::F32 => Tensor::new(v.shape, numbers.iter().map(|&x| x as f32).collect()),
        DType::F64 => Tensor::new(v.shape, numbers.to_vec()),
        _ => Ok(v.clone()),
    }
}

/// The weighted sum of all scalars. Integers have no gradient, so their list may be empty on one
/// side. A scalar with weight 0 does not count, not even NaN.
pub(super) fn dot(numbers: &[Vec<f64>], weights: &[Vec<f64>]) -> f64 {
    let pairs = numbers
        .iter()
        .zip(weights)
        .flat_map(|(a, w)| a.iter().zip(w));
    pairs.filter(|&(_, &w)| w != 0.0).map(|(a, w)| a * w).sum()
}

impl Graph {
    /// Uses a value in place of a parameter that is not bound yet.
    fn bind_var(&self, param: &Param, value: Var<'_>) {
        self.inner.borrow_mut().bound.insert(param.id(), value.id);
    }
}
