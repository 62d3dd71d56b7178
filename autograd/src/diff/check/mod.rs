//! The gradient checker: compares derivatives from the rules with finite differences, to any order.
//!
//! Order 1 compares the Jacobian of a function with central differences. Order 2 does the same for
//! the function `(x, ct) ↦ vjp(x, ct)`, whose derivatives are the second ones, and so on
//! (`program.rs`). When two values disagree, each op of the program is checked alone, so that the
//! error names the op whose rule is wrong, or the kink that the inputs lie on (`diagnose.rs`).

mod diagnose;
mod program;

use crate::{
    error::{OpError, Result},
    lines::called_from,
    tensor::{DType, Tensor},
    var::Var,
};
use diagnose::{Disagreement, Position, not_finite};
use program::{
    At, Program, Slopes, cotangents, difference, dot, evaluate, gradients, one_hots, pullback,
    random,
};
use rand::RngExt;
use std::panic::Location;

/// Checks first and second derivatives of a function at the given inputs: the full Jacobian against
/// central differences.
///
/// Trained parameters that the function binds are checked as well, so the function can be the
/// forward pass of a whole model. The error names the op whose rule is wrong, its scope and source
/// line, and the worst element with both values; or it says that the function is probably not
/// differentiable at this point. Inputs should be f64 ([`CheckGrads::double`] converts them).
/// Integer inputs are not varied. [`CheckGrads`] has the options.
///
/// ```
/// use autograd::{check_grads, Param, Tensor};
/// let x = [Tensor::from([0.3, 0.7]), Tensor::from([[1.0], [2.0]])];
/// check_grads(|x| (x[0] * x[1]).sin().sum(), &x)?;
///
/// let w = Param::new([[0.5, -0.2]]);
/// // also with respect to w
/// let x = [Tensor::from([[0.1], [0.7]])];
/// check_grads(|x| x[0].matmul(x[0].graph().param(&w)).tanh(), &x)?;
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
#[doc(alias = "gradcheck")]
#[doc(alias = "gradgradcheck")]
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
/// assert!(e.message().starts_with("probably not differentiable at this point"));
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
    /// First and second order, full Jacobians, step and tolerance by dtype.
    pub fn new() -> CheckGrads {
        CheckGrads {
            order: 2,
            directions: None,
            step: None,
            tolerance: None,
            double: false,
        }
    }

    /// Checks derivatives up to this order.
    pub fn order(mut self, order: u32) -> CheckGrads {
        self.order = order;
        self
    }

    /// Compares along a few random directions instead of element by element: for large inputs and
    /// models. It costs a few runs of the function whatever their size, but an error in few of many
    /// elements can go unnoticed. For an error that is found, the worst element is reported.
    pub fn fast(self) -> CheckGrads {
        self.directions(3)
    }

    /// As [`fast`](CheckGrads::fast), along this many directions.
    pub fn directions(mut self, count: usize) -> CheckGrads {
        self.directions = Some(count);
        self
    }

    /// The step of the differences, relative to the input where its absolute value exceeds 1.
    /// Default: 1e-3 (f64), 2e-2 (f32); the differences are of fourth order.
    pub fn step(mut self, step: f64) -> CheckGrads {
        self.step = Some(step);
        self
    }

    /// The largest difference that counts as equal, relative to the value where it exceeds 1.
    /// Default: 1e-7 (f64), 2e-2 (f32).
    pub fn tolerance(mut self, tolerance: f64) -> CheckGrads {
        self.tolerance = Some(tolerance);
        self
    }

    /// Converts f32 inputs and parameters to f64: a single-precision model is then checked as
    /// accurately as a double-precision one. The function must cast f32 tensors that it captures
    /// itself.
    pub fn double(mut self) -> CheckGrads {
        self.double = true;
        self
    }

    /// Checks a function at the given inputs, and at the values of the parameters that it binds.
    #[track_caller]
    pub fn run(&self, f: impl for<'g> Fn(&[Var<'g>]) -> Var<'g>, inputs: &[Tensor]) -> Result<()> {
        let _call = called_from(Location::caller());
        let (program, inputs) = Program::new(&f, inputs, self.double)?;
        self.check(&program, &inputs, 1)
    }

    #[track_caller]
    fn check(&self, program: &Program<'_>, inputs: &[Tensor], order: u32) -> Result<()> {
        if order > self.order {
            return Ok(());
        }
        let found = match self.directions {
            None => self.compare_elements(program, inputs)?,
            Some(count) => self.compare_directions(program, inputs, count)?,
        };
        if let Some(found) = found {
            return Err(self.report(program, inputs, order, found));
        }
        let values = evaluate(program, inputs)?;
        let count = inputs.len();
        let next: Vec<Tensor> = inputs.iter().cloned().chain(cotangents(&values)).collect();
        let pull_back = Program::of(
            |g, all| pullback(&(program.f)(g, &all[..count]), &all[..count], &all[count..]),
            program.names.clone(),
        );
        self.check(&pull_back, &next, order + 1)
    }

    /// Compares the full Jacobian. Returns the worst element if it exceeds the tolerance.
    fn compare_elements(
        &self,
        program: &Program<'_>,
        inputs: &[Tensor],
    ) -> Result<Option<Disagreement>> {
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
                worst.compare(dtype, analytic, numeric, || Position::Element {
                    output,
                    input,
                });
            }
        }
        let zeros = program::all_like(&values, &one_hots(&values, None))?;
        for (tensor, d) in gradients(program, inputs, &zeros)?.iter().enumerate() {
            for (input, &d) in At::each(tensor, d.len()).zip(d) {
                worst.compare(DType::F64, d, 0.0, || Position::Zero { input });
            }
        }
        Ok(worst.found)
    }

    /// Differences of all outputs by each element of each input:
    /// `[input][element][output][element]`.
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
    fn compare_directions(
        &self,
        program: &Program<'_>,
        inputs: &[Tensor],
        count: usize,
    ) -> Result<Option<Disagreement>> {
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
            worst.compare(dtype, analytic, numeric, || Position::Along {
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

/// The dtype in which differences along a direction of several tensors are computed.
fn dtype_of(inputs: &[Tensor]) -> DType {
    inputs
        .iter()
        .map(Tensor::dtype)
        .find(|d| d.is_float())
        .unwrap_or(DType::F64)
}

/// Tracks the worst disagreement.
struct Worst<'c> {
    check: &'c CheckGrads,
    excess: f64,
    found: Option<Disagreement>,
}

impl<'c> Worst<'c> {
    fn new(check: &'c CheckGrads) -> Worst<'c> {
        Worst {
            check,
            excess: 1.0,
            found: None,
        }
    }

    fn compare(
        &mut self,
        dtype: DType,
        analytic: f64,
        numeric: f64,
        at: impl FnOnce() -> Position,
    ) {
        let tolerance =
            self.check
                .tolerance
                .unwrap_or(if dtype == DType::F32 { 2e-2 } else { 1e-7 });
        let allowed = tolerance * analytic.abs().max(numeric.abs()).max(1.0);
        let excess = (analytic - numeric).abs() / allowed;
        // a value that is not finite is never equal
        let excess = if excess.is_nan() {
            f64::INFINITY
        } else {
            excess
        };
        if excess > self.excess {
            self.excess = excess;
            self.found = Some(Disagreement {
                position: at(),
                analytic,
                numeric,
            });
        }
    }
}

/// The error message for a wrong derivative.
fn wrong(order: u32, what: &str) -> OpError {
    OpError::new(format!("derivative of order {order} is wrong: {what}"))
}
