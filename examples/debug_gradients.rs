//! Three common problems with gradients, and how to find them:
//! `cargo run --release --example debug_gradients`.
//!
//! 1. A derivative is wrong by 2 %. The gradient check names the operation, its line and the
//!    element with the largest error.
//! 2. A NaN appears during training. The step is not applied, and the error says where the NaN
//!    comes from.
//! 3. A layer does not learn. The gradient statistics show its dead units.

use autograd::{CheckGrads, Elementwise, Error, Graph, Partial, Real, Tensor, Var};
use nn::{Activation, Dataset, Linear, Module, Params, Result, Sgd, Trainer, loss};

fn main() -> Result<()> {
    wrong_derivative()?;
    nan()?;
    dead_layer()
}

fn title(text: &str) {
    println!("\n{text}\n{}\n", "=".repeat(text.len()));
}

/// The softsign `x / (1 + |x|)`, whose derivative is `1 / (1 + |x|)²`.
#[derive(Clone, PartialEq, Debug)]
struct Softsign {
    buggy: bool,
}

impl Elementwise for Softsign {
    const NAME: &'static str = "softsign";
    const INPUTS: usize = 1;

    fn value<T: Real>(&self, x: &[T]) -> T {
        x[0] / (T::of(1.0) + x[0].abs())
    }

    fn partial<'g>(&self, _input: usize, x: &[Var<'g>], _y: Var<'g>) -> Partial<'g> {
        let derivative = (1.0 + x[0].abs()).square().recip();
        Partial::Times(if self.buggy {
            derivative * 1.02
        } else {
            derivative
        })
    }
}

/// Two layers with a softsign between them.
struct Network {
    first: Linear,
    second: Linear,
    buggy: bool,
}

impl Module for Network {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let hidden = x.graph().within("hidden", || {
            self.first.forward(x).apply(Softsign { buggy: self.buggy })
        });
        self.second.forward(hidden)
    }

    fn params(&self, p: &mut Params) {
        p.module("first", &self.first)
            .module("second", &self.second);
    }
}

fn wrong_derivative() -> Result<()> {
    title("A derivative that is 2 % too large");
    let network = |buggy| Network {
        first: Linear::new(4, 3, 1),
        second: Linear::new(3, 2, 2),
        buggy,
    };
    let inputs = [
        Tensor::from([[0.3f32, -0.8, 0.5, 0.1], [0.9, 0.2, -0.4, -0.7]]),
        Tensor::from([0, 1]),
    ];
    // the gradient check covers the parameters of the model, too
    let check = |model: Network, check: CheckGrads| {
        check
            .double()
            .run(|x| loss::cross_entropy(model.forward(x[0]), x[1]), &inputs)
    };
    check(network(false), CheckGrads::new())?;
    println!(
        "without the bug: all first and second derivatives are correct, for inputs and parameters\n"
    );
    for (mode, options) in [
        ("full", CheckGrads::new()),
        ("fast", CheckGrads::new().fast()),
    ] {
        let error = expect_error(check(network(true), options), "softsign")?;
        println!("with the bug, {mode} mode:\n{error}\n");
    }

    println!("a kink is not reported as a wrong derivative:");
    let kink = CheckGrads::new().run(|x| x[0].relu(), &[Tensor::from([0.5, 0.0])]);
    println!("{}", expect_error(kink, "relu")?);
    Ok(())
}

/// The distance of each row from a centre. Its derivative at the centre is 0/0.
fn distances<'g>(x: Var<'g>, centre: Var<'g>) -> Var<'g> {
    x.graph()
        .within("distances", || (x - centre).square().sum_axis(-1).sqrt())
}

fn nan() -> Result<()> {
    title("A NaN");
    println!("in a graph: the value is finite, the gradient is not\n");
    let g = Graph::new();
    let (x, centre) = (g.constant([[1.0, 2.0], [3.0, 1.0]]), g.input([3.0, 1.0]));
    let total = distances(x, centre).sum();
    println!(
        "{}\n",
        expect_error(g.detect_anomaly((total, g.grad(total, &[centre]))), "sqrt")?
    );

    println!("in training: one of 64 samples is infinite, and its step is not applied\n");
    let mut inputs: Vec<f32> = (0..128).map(|k| (k as f32 * 0.7).sin()).collect();
    let labels: Vec<i64> = inputs.chunks(2).map(|p| (p[1] > p[0]).into()).collect();
    inputs[77] = f32::INFINITY;
    let data = Dataset::new(Tensor::new([64, 2], inputs)?, labels.into())?;
    let model = nn::mlp(&[2, 8, 2], Activation::Tanh, 1);
    let mut trainer = Trainer::new(&model, Sgd::new(0.1))
        .batch_size(16)
        .epochs(3)
        .detect_anomaly()
        .quiet();
    match trainer.fit(&data) {
        Ok(_) => {
            return Err(nn::Error::Invalid(
                "the infinite sample was not detected".into(),
            ));
        }
        Err(e) => println!("{e}"),
    }
    let finite = model
        .parameters()
        .iter()
        .all(|(_, p)| p.value().to_f64s().iter().all(|v| v.is_finite()));
    println!("\nall parameters are still finite: {finite}");
    Ok(())
}

fn dead_layer() -> Result<()> {
    title("A layer that does not learn");
    let inputs: Vec<f32> = (0..400).map(|k| (k as f32 * 0.7).sin()).collect();
    let labels: Vec<i64> = inputs.chunks(2).map(|p| (p[1] > p[0]).into()).collect();
    let data = Dataset::new(Tensor::new([200, 2], inputs)?, labels.into())?;
    for bias in [0.0f32, -10.0] {
        let model = nn::mlp(&[2, 8, 8, 2], Activation::Relu, 1);
        if let Some((_, p)) = model
            .parameters()
            .iter()
            .find(|(name, _)| name == "layers.1.bias")
        {
            p.set(Tensor::full([8], bias)?)?; // with -10, all units of the second layer are dead
        }
        let history = Trainer::new(&model, Sgd::new(0.1))
            .batch_size(20)
            .epochs(1)
            .inspect_gradients()
            .quiet()
            .fit(&data)?;
        let report = history.iter().find_map(|epoch| epoch.gradients.as_ref());
        println!(
            "second layer initialised with bias {bias}:\n{}",
            report.map(ToString::to_string).unwrap_or_default()
        );
        let row = report.and_then(|r| r.rows.iter().find(|row| row.name == "layers.1.weight"));
        let dead = row.and_then(|row| row.dead_units()).map(|(dead, _)| dead);
        let as_expected = if bias < 0.0 {
            dead == Some(8)
        } else {
            dead < Some(8)
        };
        if !as_expected {
            return Err(nn::Error::Invalid(format!(
                "unexpected number of dead units: {dead:?}"
            )));
        }
    }
    println!("All units of the second layer are dead, so no gradient reaches the first layer.");
    Ok(())
}

/// The error, if it names this operation. Anything else is a failure of the example.
fn expect_error<T>(result: autograd::Result<T>, op: &str) -> Result<Error> {
    match result {
        Err(e) if e.op() == op => Ok(e),
        Err(e) => Err(e.into()),
        Ok(_) => Err(nn::Error::Invalid(format!(
            "the bug in {op} was not detected"
        ))),
    }
}
