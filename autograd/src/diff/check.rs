//! The gradient checker: derivatives from the rules against differences of values, to any order.
//!
//! Order 1 compares the Jacobian of a function with its central differences. Order 2 does the same for the function
//! `(x, ct) ↦ vjp(x, ct)`, whose derivatives are the second ones, and so on. When two numbers disagree, each op of the
//! program is checked by itself, so that the report names the one whose rule is wrong.

use super::reverse::sweep;
use crate::{
    error::{Error, OpError, Place, Result, catch},
    graph::Graph,
    nodes::Kind,
    tensor::{DType, Tensor},
    var::Var,
};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::panic::Location;

/// Checks first and second derivatives of a function at some inputs: the whole Jacobian, against central differences.
///
/// The error names the op whose rule is wrong and the worst element with both numbers. Inputs should be f64, and not
/// where the function has a kink. Integer inputs stay as they are. [`CheckGrads`] has the options.
///
/// ```
/// use autograd::{check_grads, Tensor};
/// check_grads(|x| (x[0] * x[1]).sin().sum(), &[Tensor::from([0.3, 0.7]), Tensor::from([[1.0], [2.0]])])?;
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn check_grads(f: impl for<'g> Fn(&[Var<'g>]) -> Var<'g>, inputs: &[Tensor]) -> Result<()> {
    CheckGrads::new().run(f, inputs)
}

/// The options of the gradient checker.
#[derive(Clone, Debug)]
pub struct CheckGrads {
    order: u32,
    directions: Option<usize>,
    step: Option<f64>,
    tolerance: Option<f64>,
    /// Where a disagreement is traced to a single op.
    locate: bool,
}

impl Default for CheckGrads {
    fn default() -> CheckGrads {
        CheckGrads::new()
    }
}

/// A function of tensors as the checker sees it.
type Program<'p> = dyn for<'g> Fn(&[Var<'g>]) -> Vec<Var<'g>> + 'p;

/// The worst disagreement of one check.
struct Mismatch {
    what: String,
    analytic: f64,
    numeric: f64,
}

impl CheckGrads {
    /// First and second order, whole Jacobians, step and tolerance by dtype.
    pub fn new() -> CheckGrads {
        CheckGrads { order: 2, directions: None, step: None, tolerance: None, locate: true }
    }

    /// Up to this order of derivatives.
    pub fn order(mut self, order: u32) -> CheckGrads {
        self.order = order;
        self
    }

    /// Compares along this many random directions instead of element by element: fast for large inputs, but it can miss
    /// what the whole Jacobian shows.
    pub fn directions(mut self, count: usize) -> CheckGrads {
        self.directions = Some(count);
        self
    }

    /// The step of the differences, relative to an input's size where that exceeds 1. Default: 1e-3 (f64), 2e-2 (f32);
    /// the differences are of fourth order.
    pub fn step(mut self, step: f64) -> CheckGrads {
        self.step = Some(step);
        self
    }

    /// The largest difference that counts as equal, relative to numbers above 1. Default: 1e-7 (f64), 2e-2 (f32).
    pub fn tolerance(mut self, tolerance: f64) -> CheckGrads {
        self.tolerance = Some(tolerance);
        self
    }

    /// Checks a function at some inputs.
    #[track_caller]
    pub fn run(&self, f: impl for<'g> Fn(&[Var<'g>]) -> Var<'g>, inputs: &[Tensor]) -> Result<()> {
        self.check(&|x| vec![f(x)], inputs, 1)
    }

    #[track_caller]
    fn check(&self, program: &Program<'_>, inputs: &[Tensor], order: u32) -> Result<()> {
        if order > self.order {
            return Ok(());
        }
        let found = match self.directions {
            None => self.elements(program, inputs)?,
            Some(count) => self.along(program, inputs, count)?,
        };
        if let Some(found) = found {
            return Err(self.report(program, inputs, order, found));
        }
        let values = evaluate(program, inputs)?;
        let cts = cotangents(&values);
        let count = inputs.len();
        let next: Vec<Tensor> = inputs.iter().cloned().chain(cts).collect();
        self.check(&move |all| pulled_back(&program(&all[..count]), &all[..count], &all[count..]), &next, order + 1)
    }

    /// The whole Jacobian. Returns the worst element if it is beyond the tolerance.
    fn elements(&self, program: &Program<'_>, inputs: &[Tensor]) -> Result<Option<Mismatch>> {
        let values = evaluate(program, inputs)?;
        let mut worst = Worst::new(self);
        let numeric = self.columns(program, inputs)?;
        let floats = values.iter().enumerate().filter(|(_, v)| v.dtype().is_float());
        for (o, e) in floats.flat_map(|(o, v)| (0..v.len()).map(move |e| (o, e))) {
            let at = |k: usize| (k == o).then_some(e);
            let cts: Vec<Tensor> = values.iter().enumerate().map(|(k, v)| unit(v, at(k))).collect::<Result<_>>()?;
            let row = gradients(program, inputs, &cts)?;
            for (i, j) in row.iter().enumerate().flat_map(|(i, d)| (0..d.len()).map(move |j| (i, j))) {
                worst.see(inputs[i].dtype(), row[i][j], numeric[i][j][o][e], || {
                    let (row, column) = (index(&values[o], e), index(&inputs[i], j));
                    format!("element {row} of output {o} by element {column} of input {i}")
                });
            }
        }
        let zero: Vec<Tensor> = values.iter().map(|v| unit(v, None)).collect::<Result<_>>()?;
        for (i, d) in gradients(program, inputs, &zero)?.iter().enumerate() {
            d.iter().for_each(|&d| worst.see(DType::F64, d, 0.0, || format!("for a zero cotangent, input {i}")));
        }
        Ok(worst.found)
    }

    /// Differences of all outputs by each element of each input: `[input][element][output][element]`.
    fn columns(&self, program: &Program<'_>, inputs: &[Tensor]) -> Result<Vec<Vec<Vec<Vec<f64>>>>> {
        let column = |i: usize, j: usize| {
            let x = inputs[i].to_f64s()[j];
            let h = self.step_for(inputs[i].dtype()) * x.abs().max(1.0);
            let mut direction: Vec<Vec<f64>> = inputs.iter().map(|x| vec![0.0; x.len()]).collect();
            direction[i][j] = 1.0;
            difference(program, inputs, &direction, h)
        };
        let of_input = |(i, x): (usize, &Tensor)| match x.dtype().is_float() {
            true => (0..x.len()).map(|j| column(i, j)).collect(),
            false => Ok(Vec::new()),
        };
        inputs.iter().enumerate().map(of_input).collect()
    }

    /// Random directions: `u·(J v)` from differences against `(uᵀJ)·v` from the rules.
    fn along(&self, program: &Program<'_>, inputs: &[Tensor], count: usize) -> Result<Option<Mismatch>> {
        let values = evaluate(program, inputs)?;
        let dtype = inputs.iter().map(Tensor::dtype).find(|d| d.is_float()).unwrap_or(DType::F64);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut worst = Worst::new(self);
        for k in 0..count {
            let mut draw = |x: &Tensor| -> Vec<f64> {
                let scale = if x.dtype().is_float() { 1.0 / (x.len() as f64).sqrt() } else { 0.0 };
                (0..x.len()).map(|_| scale * random.random_range(-1.0..1.0)).collect()
            };
            let direction: Vec<Vec<f64>> = inputs.iter().map(&mut draw).collect();
            let u: Vec<Vec<f64>> = values.iter().map(&mut draw).collect();
            let numeric = difference(program, inputs, &direction, self.step_for(dtype))?;
            let cts = values.iter().zip(&u).map(|(v, u)| like(v, u)).collect::<Result<Vec<_>>>()?;
            let analytic = gradients(program, inputs, &cts)?;
            worst.see(dtype, dot(&analytic, &direction), dot(&numeric, &u), || format!("random direction {k}"));
        }
        Ok(worst.found)
    }

    fn step_for(&self, dtype: DType) -> f64 {
        self.step.unwrap_or(if dtype == DType::F32 { 2e-2 } else { 1e-3 })
    }

    /// The error: which op it comes from, if a single one can be blamed, and the two numbers.
    #[track_caller]
    fn report(&self, program: &Program<'_>, inputs: &[Tensor], order: u32, found: Mismatch) -> Error {
        if self.locate
            && let Some(culprit) = self.culprit(program, inputs, order)
        {
            return culprit;
        }
        let message = format!("derivative of order {order} is wrong: {found}");
        OpError::new(message)
            .hint("at a kink or a pole there is no derivative to compare with")
            .at_caller("check_grads")
    }

    /// The first op of the program whose own rule disagrees with differences, at the values it has there.
    fn culprit(&self, program: &Program<'_>, inputs: &[Tensor], order: u32) -> Option<Error> {
        let g = Graph::new();
        let x: Vec<Var<'_>> = inputs.iter().map(|x| g.input(x)).collect();
        program(&x);
        let alone = CheckGrads { order: 1, locate: false, directions: None, ..self.clone() };
        for id in 0..g.len() as u32 {
            let (args, op, place) = {
                let inner = g.inner.borrow();
                let node = &inner.nodes[id as usize];
                let args: Vec<Var<'_>> = inner.args(id).iter().map(|&a| g.var(a)).collect();
                if node.kind != Kind::Op
                    || !node.dtype.is_float()
                    || !args.iter().any(|a| inner.nodes[a.id as usize].dtype.is_float())
                {
                    continue;
                }
                let scope = inner.scope_path(id).to_string();
                let types = args.iter().map(|a| inner.ty(a.id)).collect();
                (args, inner.op_ref(id), Place { inputs: types, scope, location: Some(node.source), made_at: None })
            };
            let values = g.look(args).ok()?;
            let single = as_program(|x| x.first().map(|v| v.graph().append_ref(op.clone(), x)).into_iter().collect());
            if let Ok(Some(found)) = alone.elements(&single, &values) {
                let message = format!("its derivative rule is wrong (found at order {order}): {found}");
                let hint = "at a kink or a pole there is no derivative to compare with";
                return Some(Error::new(op.get().name(), OpError::new(message).hint(hint), place));
            }
        }
        None
    }
}

/// Helps the compiler to see the lifetimes of a closure.
fn as_program<F: for<'g> Fn(&[Var<'g>]) -> Vec<Var<'g>>>(f: F) -> F {
    f
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}: the rule gives {}, differences give {}", self.what, self.analytic, self.numeric)
    }
}

/// Remembers the worst disagreement.
struct Worst<'c> {
    check: &'c CheckGrads,
    excess: f64,
    found: Option<Mismatch>,
}

impl<'c> Worst<'c> {
    fn new(check: &'c CheckGrads) -> Worst<'c> {
        Worst { check, excess: 1.0, found: None }
    }

    fn see(&mut self, dtype: DType, analytic: f64, numeric: f64, what: impl FnOnce() -> String) {
        let tolerance = self.check.tolerance.unwrap_or(if dtype == DType::F32 { 2e-2 } else { 1e-7 });
        let allowed = tolerance * analytic.abs().max(numeric.abs()).max(1.0);
        let excess = (analytic - numeric).abs() / allowed;
        // what is not finite is never equal
        let excess = if excess.is_nan() { f64::INFINITY } else { excess };
        if excess > self.excess {
            self.excess = excess;
            self.found = Some(Mismatch { what: what(), analytic, numeric });
        }
    }
}

/// Builds the program in a fresh graph and hands inputs and outputs to `f`.
fn with_graph<R>(
    program: &Program<'_>,
    inputs: &[Tensor],
    f: impl for<'g> FnOnce(&'g Graph, &[Var<'g>], Vec<Var<'g>>) -> Result<R>,
) -> Result<R> {
    let (g, here) = (Graph::new(), Location::caller());
    let x: Vec<Var<'_>> = inputs.iter().map(|x| g.input(x)).collect();
    let y = catch(|| program(&x)).map_err(|e| e.at("check_grads", here))?;
    f(&g, &x, y)
}

fn evaluate(program: &Program<'_>, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    with_graph(program, inputs, |g, _, y| g.look(y))
}

/// The cotangents of the inputs, all elements of each; nothing for integers.
fn gradients(program: &Program<'_>, inputs: &[Tensor], cts: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    with_graph(program, inputs, |g, x, y| {
        let cts: Vec<Var<'_>> = cts.iter().map(|ct| g.constant(ct)).collect();
        let mut found = g.look(pulled_back(&y, x, &cts))?.into_iter();
        let mut of = |x: &Tensor| x.dtype().is_float().then(|| found.next().map_or(Vec::new(), |d| d.to_f64s()));
        Ok(inputs.iter().map(|x| of(x).unwrap_or_default()).collect())
    })
}

/// The function of the next order: cotangents of the float inputs `x`, given those of the float outputs.
fn pulled_back<'g>(y: &[Var<'g>], x: &[Var<'g>], cts: &[Var<'g>]) -> Vec<Var<'g>> {
    let wrt: Vec<Var<'g>> = x.iter().copied().filter(|x| x.known_dtype().is_float()).collect();
    let mut sums: Vec<Option<Var<'g>>> = vec![None; wrt.len()];
    for (&y, &ct) in y.iter().zip(cts).filter(|(y, _)| y.error().is_some() || y.known_dtype().is_float()) {
        for (sum, d) in sums.iter_mut().zip(sweep(y, ct, &wrt)) {
            *sum = match (*sum, d) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
    }
    sums.into_iter().zip(wrt).map(|(d, x)| d.unwrap_or_else(|| x.zero_cotangent())).collect()
}

/// `d/dt f(x + t·direction)` at 0, by central differences of fourth order.
fn difference(program: &Program<'_>, inputs: &[Tensor], direction: &[Vec<f64>], h: f64) -> Result<Vec<Vec<f64>>> {
    let at = |t: f64| -> Result<Vec<Vec<f64>>> {
        let moved = |(x, d): (&Tensor, &Vec<f64>)| match x.dtype().is_float() {
            true => like(x, &x.to_f64s().iter().zip(d).map(|(x, d)| x + t * d).collect::<Vec<_>>()),
            false => Ok(x.clone()),
        };
        let moved: Vec<Tensor> = inputs.iter().zip(direction).map(moved).collect::<Result<_>>()?;
        Ok(evaluate(program, &moved)?.iter().map(Tensor::to_f64s).collect())
    };
    let (a, b, c, d) = (at(2.0 * h)?, at(h)?, at(-h)?, at(-2.0 * h)?);
    let slope = |o: usize, e: usize| (8.0 * (b[o][e] - c[o][e]) - (a[o][e] - d[o][e])) / (12.0 * h);
    Ok(a.iter().enumerate().map(|(o, v)| (0..v.len()).map(|e| slope(o, e)).collect()).collect())
}

/// Fixed, unremarkable cotangents for the next order.
fn cotangents(values: &[Tensor]) -> Vec<Tensor> {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut draw = |v: &Tensor| {
        let numbers: Vec<f64> = (0..v.len()).map(|_| random.random_range(0.5..1.5)).collect();
        like(v, &numbers).unwrap_or_else(|_| v.clone()) // as many numbers as elements
    };
    values.iter().map(&mut draw).collect()
}

/// Zeros like a tensor, with a 1 at one place.
fn unit(v: &Tensor, at: Option<usize>) -> Result<Tensor> {
    let mut numbers = vec![0.0; v.len()];
    if let Some(at) = at {
        numbers[at] = 1.0;
    }
    like(v, &numbers)
}

/// These numbers with the type of a tensor.
fn like(v: &Tensor, numbers: &[f64]) -> Result<Tensor> {
    match v.dtype() {
        DType::F32 => Tensor::new(v.shape, numbers.iter().map(|&x| x as f32).collect()),
        DType::F64 => Tensor::new(v.shape, numbers.to_vec()),
        _ => Ok(v.clone()),
    }
}

fn dot(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| a * b).sum()
}

/// A position in row-major order as an index.
fn index(t: &Tensor, position: usize) -> String {
    let mut rest = position;
    let mut index: Vec<usize> = t.shape.iter().rev().map(|&d| (rest % d, rest /= d).0).collect();
    index.reverse();
    format!("{index:?}")
}
