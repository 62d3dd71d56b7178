//! Custom operations: `cargo run --release --example custom_op`.
//!
//! There are three ways, from short to general: compose existing operations; implement
//! `Elementwise` for an elementwise function, with its value and one partial derivative per input;
//! or implement `Op` for any computation of a tensor from other tensors.

use autograd::{
    CheckGrads, DType, Elementwise, Error, Graph, Op, OpError, Partial, Real, Rule, Tensor,
    TensorView, TensorViewMut, Type, Var, check_grads,
};

/// First way: compose existing operations. The derivative follows automatically.
fn swish(x: Var<'_>) -> Var<'_> {
    x * x.sigmoid()
}

/// Second way: an elementwise function. This one is `ln cosh x`, a smooth loss between the squared
/// and the absolute error, with the derivative `tanh x`. It works for f32 and f64. Elementwise
/// functions of several inputs broadcast. Higher derivatives follow from the partial derivatives.
#[derive(Clone, PartialEq, Debug)]
struct LnCosh;

impl Elementwise for LnCosh {
    const NAME: &'static str = "ln_cosh";
    const INPUTS: usize = 1;

    fn value<T: Real>(&self, x: &[T]) -> T {
        // |x| + ln((1 + e^(-2|x|)) / 2): the same function, but it does not overflow
        let abs = x[0].abs();
        abs + (T::of(-2.0) * abs).exp().ln_1p() - T::of(std::f64::consts::LN_2)
    }

    fn partial<'g>(&self, _input: usize, x: &[Var<'g>], _y: Var<'g>) -> Partial<'g> {
        Partial::Times(x[0].tanh())
    }
}

/// Third way: implement `Op`. This one is the cumulative sum of a vector,
/// `y[i] = x[0] + .. + x[i]`. Its vector-Jacobian product is the cumulative sum in reverse order:
/// the cotangent of `x[j]` is the sum of the cotangents of `y[j], y[j + 1], ..`.
#[derive(Clone, PartialEq, Debug)]
struct CumulativeSum {
    reverse: bool,
}

impl Op for CumulativeSum {
    const NAME: &'static str = "cumulative_sum";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        match x {
            [t] if t.dtype == DType::F64 && t.shape.rank() == 1 => Ok(*t),
            _ => Err(OpError::new("expected one f64 vector").hint("cast or reshape it first")),
        }
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let (x, y) = (x[0].slice::<f64>()?, out.slice::<f64>()?);
        let mut sum = 0.0;
        for k in 0..x.len() {
            let k = if self.reverse { x.len() - 1 - k } else { k };
            sum += x[k];
            y[k] = sum;
        }
        Ok(())
    }

    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct.apply(CumulativeSum {
            reverse: !self.reverse,
        }))
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }
}

/// The same operation with a bug in the derivative: it does not reverse the order.
#[derive(Clone, PartialEq, Debug)]
struct BuggySum;

impl Op for BuggySum {
    const NAME: &'static str = "buggy_sum";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Op::infer(&CumulativeSum { reverse: false }, x)
    }
    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        Op::eval(&CumulativeSum { reverse: false }, x, out)
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct.apply(CumulativeSum { reverse: false }))
    }
}

fn main() -> Result<(), Error> {
    let g = Graph::new();
    let x = g.input([0.5, -1.0, 2.0]);
    for (name, y) in [
        ("swish", swish(x)),
        ("ln cosh", x.apply(LnCosh)),
        ("cumulative sum", x.apply(CumulativeSum { reverse: false })),
    ] {
        let grads = y.square().sum().backward()?;
        let d = grads.get(x).map(Tensor::to_string).unwrap_or_default();
        println!(
            "{name:<15} {}  gradient of the sum of squares: {d}",
            y.value()?
        );
    }

    // compares derivatives of first and second order with finite differences
    let inputs = [Tensor::from([0.5, -1.0, 2.0])];
    check_grads(|x| swish(x[0]), &inputs)?;
    CheckGrads::new()
        .order(3)
        .run(|x| x[0].apply(LnCosh), &inputs)?;
    check_grads(
        |x| x[0].apply(CumulativeSum { reverse: false }).sin(),
        &inputs,
    )?;
    println!("\nall three pass the gradient check");

    match check_grads(|x| x[0].sin().apply(BuggySum).exp(), &inputs) {
        Ok(()) => println!("the gradient check did not find the bug"),
        Err(e) => println!("\nthe gradient check finds the bug:\n{e}"),
    }
    println!(
        "\na wrong input is an error with the line number:\n{}",
        g.input(1.0)
            .apply(CumulativeSum { reverse: false })
            .value()
            .unwrap_err()
    );
    Ok(())
}
