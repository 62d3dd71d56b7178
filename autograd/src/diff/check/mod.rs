//! The gradient checker: derivatives from the rules against differences of values, to any order.
//!
//! Order 1 compares the Jacobian of a function with its central differences. Order 2 does the same for the function
//! `(x, ct) ↦ vjp(x, ct)`, whose derivatives are the second ones, and so on (`program.rs`). When two numbers disagree,
//! each op of the program is checked by itself, so that the report names the one whose rule is wrong, or the kink that the
//! inputs lie on (`blame.rs`).

mod blame;
mod program;

use crate::{
    error::{OpError, Result},
    tensor::{DType, Tensor},
    var::Var,
};
use blame::{Found, Spot, not_finite};
use program::{
    At, Program, Slopes, cotangents, difference, dot, evaluate, gradients, one_hots, pulled_back,
    random,
};
use rand::RngExt;

/// Checks first and second derivatives of a function at some inputs: the whole Jacobian, against central differences.
///
/// Parameters that the function binds and that are trained are checked, too: the forward pass of a whole model is a
/// function like any other. The error names the op whose rule is wrong, its scope and source line, and the worst element
/// with both numbers; or it says that the function is probably not differentiable here. Inputs should be f64
/// ([`CheckGrads::double`] makes them so). Integer inputs stay as they are. [`CheckGrads`] has the options.
///
/// ```
/// use autograd::{check_grads, Param, Tensor};
/// check_grads(|x| (x[0] * x[1]).sin().sum(), &[Tensor::from([0.3, 0.7]), Tensor::from([[1.0], [2.0]])])?;
///
/// let w = Param::new([[0.5, -0.2]]);
/// check_grads(|x| x[0].matmul(x[0].graph().param(&w)).tanh(), &[Tensor::from([[0.1], [0.7]])])?; // by w as well
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn check_grads(f: impl for<'g> Fn(&[Var<'g>]) -> Var<'g>, inputs: &[Tensor]) -> Result<()> {
    CheckGrads::new().run(f, inputs)
}

/// The options of the gradient checker.
///
/// ```
/// use autograd::{CheckGrads, Tensor};
/// let x = [Tensor::from(vec![0.5f32; 1000])];
/// CheckGrads::new().fast().double().order(3).run(|x| (x[0].sin() * x[0]).sum(), &x)?;
/// // a kink is not a wrong rule
/// let e = CheckGrads::new().run(|x| x[0].relu(), &[Tensor::from([1.0, 0.0])]).unwrap_err();
/// assert!(e.message().starts_with("probably not differentiable here"));
/// # Ok::<(), autograd::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CheckGrads {
    order: u32,
    directions: Option<usize>,
    step: Option<f64>,
    tolerance: Option<f64>,
    double: bool,
}

impl Default for CheckGrads {
    fn default() -> CheckGrads {
        CheckGrads::new()
    }
}

impl CheckGrads {
    /// First and second order, whole Jacobians, step and tolerance by dtype.
    pub fn new() -> CheckGrads {
        CheckGrads {
            order: 2,
            directions: None,
            step: None,
            tolerance: None,
            double: false,
        }
    }

    /// Up to this order of derivatives.
    pub fn order(mut self, order: u32) -> CheckGrads {
        self.order = order;
        self
    }

    /// Compares along a few random directions instead of element by element: for large inputs and models. It costs a few
    /// runs of the function whatever their size, but a mistake in few of many elements can hide in it. Of a mistake that
    /// it finds it tells the worst element all the same.
    pub fn fast(self) -> CheckGrads {
        self.directions(3)
    }

    /// As [`fast`](CheckGrads::fast), along this many directions.
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

    /// Takes inputs and parameters of f32 as f64: a model of single precision is then checked as exactly as one of double
    /// precision. Tensors of f32 that the function brings itself have to be cast.
    pub fn double(mut self) -> CheckGrads {
        self.double = true;
        self
    }

    /// Checks a function at some inputs, and at the values of the parameters that it binds.
    #[track_caller]
    pub fn run(&self, f: impl for<'g> Fn(&[Var<'g>]) -> Var<'g>, inputs: &[Tensor]) -> Result<()> {
        let (program, inputs) = Program::new(&f, inputs, self.double)?;
        self.check(&program, &inputs, 1)
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
        let count = inputs.len();
        let next: Vec<Tensor> = inputs.iter().cloned().chain(cotangents(&values)).collect();
        let pull_back = Program::of(
            |g, all| pulled_back(&(program.f)(g, &all[..count]), &all[..count], &all[count..]),
            program.names.clone(),
        );
        self.check(&pull_back, &next, order + 1)
    }

    /// The whole Jacobian. Returns the worst element if it is beyond the tolerance.
    fn elements(&self, program: &Program<'_>, inputs: &[Tensor]) -> Result<Option<Found>> {
        let values = evaluate(program, inputs)?;
        if let Some(found) = not_finite(&values) {
            return Ok(Some(found));
        }
        let mut worst = Worst::new(self);
        let numeric = self.columns(program, inputs)?;
        let floats = values
            .iter()
            .enumerate()
            .filter(|(_, v)| v.dtype().is_float());
        for output in floats.flat_map(|(tensor, v)| At::each(tensor, v.len())) {
            let cts = program::all_like(&values, &one_hots(&values, Some(output)))?;
            let row = gradients(program, inputs, &cts)?;
            let each = |(tensor, d): (usize, &Vec<f64>)| At::each(tensor, d.len());
            for input in row.iter().enumerate().flat_map(each) {
                let slopes: &Slopes = input.of(&numeric);
                let (analytic, numeric) = (*input.of(&row), *output.of(slopes));
                let dtype = inputs[input.tensor].dtype();
                worst.see(dtype, analytic, numeric, || Spot::Element { output, input });
            }
        }
        let zeros = program::all_like(&values, &one_hots(&values, None))?;
        for (tensor, d) in gradients(program, inputs, &zeros)?.iter().enumerate() {
            for (input, &d) in At::each(tensor, d.len()).zip(d) {
                worst.see(DType::F64, d, 0.0, || Spot::Zero { input });
            }
        }
        Ok(worst.found)
    }

    /// Differences of all outputs by each element of each input: `[input][element][output][element]`.
    fn columns(&self, program: &Program<'_>, inputs: &[Tensor]) -> Result<Vec<Vec<Slopes>>> {
        let of_input = |(tensor, x): (usize, &Tensor)| match x.dtype().is_float() {
            true => At::each(tensor, x.len())
                .map(|input| self.column(program, inputs, input))
                .collect(),
            false => Ok(Vec::new()),
        };
        inputs.iter().enumerate().map(of_input).collect()
    }

    /// Differences of all outputs by one element of one input.
    fn column(&self, program: &Program<'_>, inputs: &[Tensor], input: At) -> Result<Slopes> {
        let step = self.step_at(&inputs[input.tensor], input.element);
        difference(program, inputs, &one_hots(inputs, Some(input)), step)
    }

    /// Random directions: `u·(J v)` from differences against `(uᵀJ)·v` from the rules.
    fn along(
        &self,
        program: &Program<'_>,
        inputs: &[Tensor],
        count: usize,
    ) -> Result<Option<Found>> {
        let values = evaluate(program, inputs)?;
        if let Some(found) = not_finite(&values) {
            return Ok(Some(found));
        }
        let dtype = dtype_of(inputs);
        let mut random = random(1);
        for _ in 0..count {
            let mut draw = |x: &Tensor| -> Vec<f64> {
                let scale = if x.dtype().is_float() {
                    1.0 / (x.len() as f64).sqrt()
                } else {
                    0.0
                };
                (0..x.len())
                    .map(|_| scale * random.random_range(-1.0..1.0))
                    .collect()
            };
            let direction: Slopes = inputs.iter().map(&mut draw).collect();
            let weights: Slopes = values.iter().map(&mut draw).collect();
            let numeric = dot(
                &difference(program, inputs, &direction, self.step_for(dtype))?,
                &weights,
            );
            let analytic = dot(
                &gradients(program, inputs, &program::all_like(&values, &weights)?)?,
                &direction,
            );
            let mut worst = Worst::new(self);
            worst.see(dtype, analytic, numeric, || Spot::Along {
                direction,
                weights,
            });
            if let Some(found) = worst.found {
                return self.narrow(program, inputs, &values, found).map(Some);
            }
        }
        Ok(None)
    }

    fn step_for(&self, dtype: DType) -> f64 {
        self.step
            .unwrap_or(if dtype == DType::F32 { 2e-2 } else { 1e-3 })
    }

    /// The step for one element.
    fn step_at(&self, x: &Tensor, element: usize) -> f64 {
        self.step_for(x.dtype()) * x.to_f64s()[element].abs().max(1.0)
    }
}

/// What differences along a direction of several tensors are computed in.
fn dtype_of(inputs: &[Tensor]) -> DType {
    inputs
        .iter()
        .map(Tensor::dtype)
        .find(|d| d.is_float())
        .unwrap_or(DType::F64)
}

/// Remembers the worst disagreement.
struct Worst<'c> {
    check: &'c CheckGrads,
    excess: f64,
    found: Option<Found>,
}

impl<'c> Worst<'c> {
    fn new(check: &'c CheckGrads) -> Worst<'c> {
        Worst {
            check,
            excess: 1.0,
            found: None,
        }
    }

    fn see(&mut self, dtype: DType, analytic: f64, numeric: f64, at: impl FnOnce() -> Spot) {
        let tolerance =
            self.check
                .tolerance
                .unwrap_or(if dtype == DType::F32 { 2e-2 } else { 1e-7 });
        let allowed = tolerance * analytic.abs().max(numeric.abs()).max(1.0);
        let excess = (analytic - numeric).abs() / allowed;
        // what is not finite is never equal
        let excess = if excess.is_nan() {
            f64::INFINITY
        } else {
            excess
        };
        if excess > self.excess {
            self.excess = excess;
            self.found = Some(Found {
                spot: at(),
                analytic,
                numeric,
            });
        }
    }
}

/// A message that a wrong derivative is reported with.
fn wrong(order: u32, what: &str) -> OpError {
    OpError::new(format!("derivative of order {order} is wrong: {what}"))
}
