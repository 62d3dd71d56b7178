//! An operation of your own: `cargo run --release --example custom_op`.
//!
//! Three ways, from short to general: a composition of operations that are there; an elementwise function, of which the
//! value and one derivative an input are stated; and the trait `Op`, for anything that computes one tensor from others.

use autograd::{
    CheckGrads, DType, Elementwise, Error, Graph, Op, OpError, Partial, Real, Rule, Tensor,
    TensorView, TensorViewMut, Type, Var, check_grads,
};

/// First: a composition needs no rule: its derivative follows.
fn swish(x: Var<'_>) -> Var<'_> {
    x * x.sigmoid()
}

/// Second: `ln cosh x`: a loss between the squared and the absolute error, with derivative `tanh x`. It works for f32 and f64,
/// broadcasts if it has several inputs, and can be differentiated as often as its partial derivative can.
#[derive(Clone, PartialEq, Debug)]
struct LnCosh;

impl Elementwise for LnCosh {
    const NAME: &'static str = "ln_cosh";
    const INPUTS: usize = 1;

    fn value<T: Real>(&self, x: &[T]) -> T {
        // |x| + ln((1 + e^(-2|x|)) / 2), which does not overflow
        let size = x[0].abs();
        size + (T::of(-2.0) * size).exp().ln_1p() - T::of(std::f64::consts::LN_2)
    }

    fn partial<'g>(&self, _input: usize, x: &[Var<'g>], _y: Var<'g>) -> Partial<'g> {
        Partial::Times(x[0].tanh())
    }
}

/// Third: the running sum along a vector: `y[i] = x[0] + .. + x[i]`. Its transpose runs backwards, which is what the derivative
/// needs: the cotangent of `x[j]` is the sum of those of `y[j], y[j + 1], ..`.
#[derive(Clone, PartialEq, Debug)]
struct RunningSum {
    backwards: bool,
}

impl Op for RunningSum {
    const NAME: &'static str = "running_sum";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        match x {
            [t] if t.dtype == DType::F64 && t.shape.rank() == 1 => Ok(*t),
            _ => Err(OpError::new("wants one f64 vector").hint("cast or reshape it first")),
        }
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let (x, y) = (x[0].slice::<f64>()?, out.slice::<f64>()?);
        let mut sum = 0.0;
        for k in 0..x.len() {
            let k = if self.backwards { x.len() - 1 - k } else { k };
            sum += x[k];
            y[k] = sum;
        }
        Ok(())
    }

    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct.apply(RunningSum {
            backwards: !self.backwards,
        }))
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }
}

/// The same with a mistake in the rule: it forgets to turn round.
#[derive(Clone, PartialEq, Debug)]
struct WrongSum;

impl Op for WrongSum {
    const NAME: &'static str = "wrong_sum";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Op::infer(&RunningSum { backwards: false }, x)
    }
    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        Op::eval(&RunningSum { backwards: false }, x, out)
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct.apply(RunningSum { backwards: false }))
    }
}

fn main() -> Result<(), Error> {
    let g = Graph::new();
    let x = g.input([0.5, -1.0, 2.0]);
    for (name, y) in [
        ("swish", swish(x)),
        ("ln cosh", x.apply(LnCosh)),
        ("running sum", x.apply(RunningSum { backwards: false })),
    ] {
        let grads = y.square().sum().backward()?;
        let d = grads.get(x).map(Tensor::to_string).unwrap_or_default();
        println!(
            "{name:<12} {}  gradient of its squares' sum {d}",
            y.value()?
        );
    }

    // rules are checked against differences, to second order or higher
    let inputs = [Tensor::from([0.5, -1.0, 2.0])];
    check_grads(|x| swish(x[0]), &inputs)?;
    CheckGrads::new()
        .order(3)
        .run(|x| x[0].apply(LnCosh), &inputs)?;
    check_grads(
        |x| x[0].apply(RunningSum { backwards: false }).sin(),
        &inputs,
    )?;
    println!("\nall three pass the gradient checker");

    match check_grads(|x| x[0].sin().apply(WrongSum).exp(), &inputs) {
        Ok(()) => println!("the wrong rule went unnoticed"),
        Err(e) => println!("\nand the wrong one is found:\n{e}"),
    }
    println!(
        "\nwhat does not fit is an error that names the line:\n{}",
        g.input(1.0)
            .apply(RunningSum { backwards: false })
            .value()
            .unwrap_err()
    );
    Ok(())
}
