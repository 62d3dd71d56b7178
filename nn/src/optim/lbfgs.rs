//! L-BFGS: a quasi-Newton method for full batches.

use super::{
    Gradient, check, gradients,
    line_search::{Found, Trial, search},
};
use crate::{
    error::{Error, Result, catch},
    weights::Weights,
};
use autograd::{DType, Graph, Param, Var};
use std::{
    cell::Cell,
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    ops::Range,
};

/// L-BFGS with a line search for the strong Wolfe conditions (Nocedal and Wright, Numerical Optimization,
/// 2nd edition, algorithms 7.4, 3.5 and 3.6): for a loss that is the same in each evaluation, as that of
/// all samples at once. It then needs far fewer evaluations than a gradient method.
///
/// It is not an [`Optimizer`](crate::Optimizer), since it evaluates the loss at several points before it
/// takes one.
///
/// ```
/// use autograd::{DType, Tensor};
/// use nn::{Activation, Lbfgs, Module};
/// // a small network learns a function from 50 of its values
/// let x: Vec<f64> = (0..50).map(|k| k as f64 / 25.0 - 1.0).collect();
/// let y = x.iter().map(|x| (3.0 * x).sin()).collect();
/// let (x, y) = (Tensor::new([50, 1], x)?, Tensor::new([50, 1], y)?);
/// let net = nn::mlp(&[1, 10, 1], Activation::Tanh, 1).cast(DType::F64);
///
/// let found = Lbfgs::new().minimize(&net.parameters(), |g| {
///     (net.forward(g.constant(&x)) - g.constant(&y)).square().mean()
/// })?;
/// println!("{found}"); // 1.153e-6 after 186 iterations and 222 evaluations: the gradient is ..
/// assert!(found.value < 1e-5);
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lbfgs {
    memory: usize,
    iterations: usize,
    tolerance: f64,
}

/// Where [`Lbfgs::minimize`] ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Minimum {
    /// The loss there.
    pub value: f64,
    /// The largest absolute value of its derivatives.
    pub gradient: f64,
    /// Iterations: each moves the parameters.
    pub iterations: usize,
    /// Evaluations of the loss and its gradient.
    pub evaluations: usize,
    /// Why it ended.
    pub end: MinimizeEnd,
}

/// Why [`Lbfgs::minimize`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MinimizeEnd {
    /// The gradient is within the tolerance.
    Converged,
    /// The iterations are used up.
    Iterations,
    /// No better point was found, not even along the gradient: with the precision of the loss there is
    /// none, or the loss is not smooth.
    NoBetterPoint,
    /// The loss decreases, however far the parameters go: it has no minimum there.
    Unbounded,
}

impl fmt::Display for MinimizeEnd {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            MinimizeEnd::Converged => "the gradient is within the tolerance",
            MinimizeEnd::Iterations => "the iterations are used up",
            MinimizeEnd::NoBetterPoint => "no better point was found",
            MinimizeEnd::Unbounded => "the loss decreases without bound",
        })
    }
}

impl fmt::Display for Minimum {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{:.3e} after {} iterations and {} evaluations: {}",
            self.value, self.iterations, self.evaluations, self.end
        )
    }
}

impl Default for Lbfgs {
    fn default() -> Lbfgs {
        Lbfgs::new()
    }
}

impl Lbfgs {
    /// The defaults are a memory of 10, at most 1,000 iterations and a tolerance of 1e-6.
    pub fn new() -> Lbfgs {
        Lbfgs {
            memory: 10,
            iterations: 1000,
            tolerance: 1e-6,
        }
    }

    /// From how many iterations the curvature is estimated. Each takes the memory of two gradients in
    /// f64.
    pub fn memory(mut self, iterations: usize) -> Lbfgs {
        self.memory = iterations;
        self
    }

    /// The largest number of iterations.
    pub fn iterations(mut self, count: usize) -> Lbfgs {
        self.iterations = count;
        self
    }

    /// The largest absolute value of all derivatives at which the point counts as a minimum.
    pub fn tolerance(mut self, tolerance: f64) -> Lbfgs {
        self.tolerance = tolerance;
        self
    }

    /// Changes the trained parameters until `loss`, a scalar, is at a minimum. Frozen parameters and
    /// buffers stay as they are, and so do those that are not given. Each evaluation has a graph of its
    /// own, in evaluation mode, so that there is no dropout: it must give the same value at the same
    /// point.
    ///
    /// Trial points are [bound](Graph::bind) in their graphs. The parameters get the values of each
    /// point that is accepted, and keep them whatever fails later: an evaluation that is not finite only
    /// makes the step shorter, and an error or a panic of `loss` is returned as an error. It is an error
    /// if the loss or its gradient is not finite at the start, and if no trained parameter is given.
    ///
    /// The direction is computed in f64, and the results are deterministic.
    pub fn minimize(
        &self,
        params: &[(String, Param)],
        loss: impl for<'g> Fn(&'g Graph) -> Var<'g>,
    ) -> Result<Minimum> {
        check(&[("tolerance", self.tolerance)], &[])?;
        if self.memory == 0 {
            return Err(Error::invalid("L-BFGS needs a memory of at least 1"));
        }
        let problem = Problem::new(params, loss)?;
        let mut at = problem.start()?;
        let mut curvature = Curvature::new(self.memory);
        let (mut progress, mut iterations) = (Progress::new(&at), 0);
        let end = loop {
            if largest(&at.gradient) <= self.tolerance {
                break MinimizeEnd::Converged;
            }
            if iterations == self.iterations {
                break MinimizeEnd::Iterations;
            }
            let (next, is_unbounded) = match problem.line(&at, &curvature)? {
                Found::Better(next) => (next, false),
                Found::Unbounded(Some(next)) => (next, true),
                Found::Unbounded(None) => break MinimizeEnd::Unbounded,
                Found::Nothing if curvature.is_empty() => break MinimizeEnd::NoBetterPoint,
                Found::Nothing => {
                    curvature.clear(); // along the gradient, there may be one
                    continue;
                }
            };
            problem.accept(&next)?;
            curvature.add(&at, &next);
            at = next;
            iterations += 1;
            if is_unbounded {
                break MinimizeEnd::Unbounded;
            }
            if progress.has_stopped(&at) {
                break MinimizeEnd::NoBetterPoint;
            }
        };
        Ok(Minimum {
            value: at.value,
            gradient: largest(&at.gradient),
            iterations,
            evaluations: problem.evaluations.get(),
            end,
        })
    }
}

/// Rounding errors of a loss, in units of its precision.
const ROUNDING: f64 = 4.0;

/// A function of the trained parameters.
struct Problem<F> {
    /// Each parameter once.
    params: Vec<(String, Param)>,
    /// Where the elements of each trained parameter are in the vector of all, by id.
    ranges: HashMap<usize, Range<usize>>,
    /// Where it began. Of these weights, the trained ones are replaced.
    weights: Weights,
    loss: F,
    evaluations: Cell<usize>,
}

/// A point, and the function there.
struct Point {
    /// All trained parameters, one after the other, as they were evaluated: rounded if they are f32.
    x: Vec<f64>,
    value: f64,
    /// How much the value can be wrong by rounding.
    rounding: f64,
    gradient: Vec<f64>,
    weights: Weights,
}

/// Notices when iterations lead nowhere: with values that rounding does not tell apart, the line search
/// goes by the slope, and would never end at a tolerance that the precision does not allow.
struct Progress {
    value: f64,
    gradient: f64,
    waited: usize,
}

/// Iterations without a smaller value or gradient than ever before.
const PATIENCE: usize = 20;

impl Progress {
    fn new(from: &Point) -> Progress {
        Progress {
            value: from.value,
            gradient: largest(&from.gradient),
            waited: 0,
        }
    }

    fn has_stopped(&mut self, at: &Point) -> bool {
        let gradient = largest(&at.gradient);
        self.waited = match at.value < self.value || gradient < self.gradient {
            true => 0,
            false => self.waited + 1,
        };
        self.value = self.value.min(at.value);
        self.gradient = self.gradient.min(gradient);
        self.waited >= PATIENCE
    }
}

impl<F: for<'g> Fn(&'g Graph) -> Var<'g>> Problem<F> {
    fn new(params: &[(String, Param)], loss: F) -> Result<Problem<F>> {
        let mut known = HashSet::new();
        let params: Vec<(String, Param)> = params
            .iter()
            .filter(|(_, param)| known.insert(param.id()))
            .cloned()
            .collect();
        let (mut ranges, mut end) = (HashMap::new(), 0);
        for (_, param) in params.iter().filter(|(_, param)| param.is_trained()) {
            let start = end;
            end += param.ty().shape.count();
            ranges.insert(param.id(), start..end);
        }
        if ranges.is_empty() {
            let count = params.len();
            let message = format!("there is nothing to train: 0 of {count} parameters are trained");
            return Err(Error::invalid(message));
        }
        Ok(Problem {
            weights: Weights::of_parameters(&params),
            params,
            ranges,
            loss,
            evaluations: Cell::new(0),
        })
    }

    fn start(&self) -> Result<Point> {
        let start = self.evaluate(self.weights.clone())?;
        let what = match start.value.is_finite() {
            false => format!("the loss is {}", start.value),
            true if largest(&start.gradient).is_finite() => return Ok(start),
            true => "the gradient is not finite".into(),
        };
        Err(Error::invalid(format!("L-BFGS: {what} at the start")))
    }

    fn evaluate(&self, weights: Weights) -> Result<Point> {
        self.evaluations.set(self.evaluations.get() + 1);
        let g = Graph::new();
        weights.bind_parameters(&g, &self.params)?;
        let loss = catch("the loss", || (self.loss)(&g))?;
        let known = |d: &Gradient<'_>| self.ranges.get(&d.param.id()).cloned();
        let (ranges, found): (Vec<Range<usize>>, Vec<Var<'_>>) = gradients(loss)
            .into_iter()
            .filter_map(|d| Some((known(&d)?, d.gradient)))
            .unzip();
        let (value, found) = g.run((loss, found))?;
        if found.is_empty() {
            let message = "the loss depends on none of the parameters that are trained";
            return Err(Error::invalid(message));
        }
        let x = weights.to_flat();
        // what the loss does not depend on has the derivative 0
        let mut gradient = vec![0.0; x.len()];
        for (range, found) in ranges.into_iter().zip(found) {
            gradient[range].copy_from_slice(&found.to_f64s());
        }
        let precision = match value.dtype() {
            DType::F32 => f32::EPSILON.into(),
            _ => f64::EPSILON,
        };
        let value = value.scalar()?;
        Ok(Point {
            x,
            value,
            rounding: ROUNDING * precision * value.abs(),
            gradient,
            weights,
        })
    }

    /// Searches from a point along the direction that the curvature gives.
    fn line(&self, from: &Point, curvature: &Curvature) -> Result<Found<Point>> {
        let direction = curvature.direction(&from.gradient);
        let slope = dot(&direction, &from.gradient);
        // a direction that does not descend comes from rounding errors: without curvature it does
        if !(slope < 0.0 && slope.is_finite()) {
            return Ok(Found::Nothing);
        }
        let first = match curvature.is_empty() {
            true => 1.0 / dot(&direction, &direction).sqrt().max(1.0),
            false => 1.0,
        };
        search((from.value, slope), from.rounding, first, |step| {
            let moved = from.x.iter().zip(&direction).map(|(x, d)| x + step * d);
            let at = self.evaluate(self.weights.with_flat(&moved.collect::<Vec<_>>())?)?;
            Ok(Trial {
                step,
                value: at.value,
                slope: dot(&direction, &at.gradient),
                at,
            })
        })
    }

    fn accept(&self, point: &Point) -> Result<()> {
        point.weights.copy_to_parameters(&self.params)
    }
}

/// An estimate of the inverse of the Hessian, from the last steps: of each the change of the point, the
/// change of the gradient, and the product of both.
struct Curvature {
    steps: VecDeque<(Vec<f64>, Vec<f64>, f64)>,
    capacity: usize,
}

impl Curvature {
    fn new(capacity: usize) -> Curvature {
        Curvature {
            steps: VecDeque::new(),
            capacity,
        }
    }

    fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn clear(&mut self) {
        self.steps.clear();
    }

    /// Adds a step, if the gradient increases along it: otherwise it says nothing about a minimum. That
    /// can only be if the line search had to be content with less than both conditions.
    fn add(&mut self, from: &Point, to: &Point) {
        let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let s: Vec<f64> = difference(&to.x, &from.x);
        let y: Vec<f64> = difference(&to.gradient, &from.gradient);
        let product = dot(&s, &y);
        let smallest = f64::EPSILON * (dot(&s, &s) * dot(&y, &y)).sqrt();
        if product.is_nan() || product <= smallest {
            return;
        }
        if self.steps.len() == self.capacity {
            self.steps.pop_front();
        }
        self.steps.push_back((s, y, product));
    }

    /// The two-loop recursion (algorithm 7.4): minus the estimate times the gradient.
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|d| -d).collect();
        let mut factors = Vec::new();
        for (s, y, product) in self.steps.iter().rev() {
            let factor = dot(s, &q) / product;
            add_scaled(&mut q, -factor, y);
            factors.push(factor);
        }
        if let Some((_, y, product)) = self.steps.back() {
            let scale = product / dot(y, y);
            q.iter_mut().for_each(|q| *q *= scale);
        }
        for ((s, y, product), factor) in self.steps.iter().zip(factors.iter().rev()) {
            let correction = factor - dot(y, &q) / product;
            add_scaled(&mut q, correction, s);
        }
        q
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(to: &mut [f64], factor: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}

/// The largest absolute value; NaN if there is one.
fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |largest: f64, x| {
        match x.abs() > largest || x.is_nan() {
            true => x.abs(),
            false => largest,
        }
    })
}
