//! An operation of one's own, with its derivative, in a network that is trained: the elementwise function
//! `x·tanh(softplus(x))` (mish, Misra 2019), computed in one pass, and checked.

use crate::{Result, expect};
use autograd::{CheckGrads, Elementwise, Partial, Real, Tensor, Var};
use nn::{Adam, Lambda, Linear, Sequential, Trainer, data};

#[derive(Clone, PartialEq, Debug)]
struct Mish;

impl Elementwise for Mish {
    const NAME: &'static str = "mish";
    const INPUTS: usize = 1;

    fn value<T: Real>(&self, x: &[T]) -> T {
        // softplus without overflow: max(x, 0) + ln(1 + e^-|x|)
        let (x, abs) = (x[0], x[0].abs());
        let softplus = (x + abs) * T::of(0.5) + (-abs).exp().ln_1p();
        x * softplus.tanh()
    }

    /// `∂y/∂x`, an expression of `Var`s: higher derivatives follow from it.
    fn partial<'g>(&self, _input: usize, x: &[Var<'g>], _y: Var<'g>) -> Partial<'g> {
        let t = x[0].softplus().tanh();
        Partial::Times(t + x[0] * (1.0 - t.square()) * x[0].sigmoid())
    }
}

pub(crate) fn run() -> Result {
    let points = Tensor::from([-30.0, -2.0, -0.5, 0.0, 0.3, 1.0, 8.0]);
    CheckGrads::new()
        .order(2)
        .run(|x| x[0].apply(Mish), &[points])?;
    println!("first and second derivatives agree with finite differences");

    let (train, test) = data::digits()?;
    let model = Sequential::new()
        .then(Linear::new(64, 64, 1))
        .then(Lambda::new(|x| x.apply(Mish)))
        .then(Linear::new(64, 10, 2));
    let history = Trainer::new(&model, Adam::new(3e-3))
        .validate(&test)
        .epochs(10)
        .quiet()
        .fit(&train)?;
    let last = history.last().ok_or("no epoch")?;
    println!("{last}");
    let accuracy = last.validation.and_then(|v| v.accuracy).unwrap_or(0.0);
    expect(accuracy > 0.86, format!("accuracy is only {accuracy}"))
}
