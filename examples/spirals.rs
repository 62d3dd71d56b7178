//! Two interleaved spirals, learned without the trainer: `cargo run --release --example spirals`.
//!
//! Everything is written by hand: the data, the parameters, the model, the loss, and the update of gradient descent with
//! momentum. One graph is one step; `run` carries out forward pass, backward pass and updates together.

use autograd::{DType, Graph, Param, Result, Tensor, Var};

const HIDDEN: usize = 32;
const POINTS: usize = 200;

fn main() -> Result<()> {
    let (points, side) = spirals()?;
    let model = Model::new(7)?;
    let (rate, momentum) = (0.05, 0.9);

    for step in 0..=1500 {
        let g = Graph::new();
        let logits = model.forward(g.constant(&points));
        let target = g.constant(&side);
        // binary cross-entropy: -ln σ(x) on one side, -ln(1 - σ(x)) on the other
        let loss = (logits.softplus() - target * logits).mean();
        let right = logits.gt(0.0).eq(target.gt(0.5)).cast(DType::F64).mean();

        let weights: Vec<Var<'_>> = model.params.iter().map(|(w, _)| g.param(w)).collect();
        for ((w, velocity), d) in model.params.iter().zip(g.grads(loss, &weights)) {
            let v = momentum * g.param(velocity) + d;
            g.assign(velocity, v);
            g.assign(w, g.param(w) - rate * v);
        }

        let (loss, right) = g.run((loss, right))?;
        if step % 300 == 0 {
            println!(
                "step {step:>4}: loss {:.4}, accuracy {:.3}",
                loss.scalar()?,
                right.scalar()?
            );
        }
    }
    println!("\n{}", picture(&model)?);
    Ok(())
}

/// Points `[2·POINTS, 2]` on two spirals, and which one they are on, `[2·POINTS, 1]`.
fn spirals() -> Result<(Tensor, Tensor)> {
    let (mut points, mut side) = (Vec::new(), Vec::new());
    for k in 0..2 * POINTS {
        let (t, which) = ((k / 2) as f64 / POINTS as f64, (k % 2) as f64);
        let (radius, angle) = (0.2 + t, 7.0 * t + std::f64::consts::PI * which);
        points.extend([radius * angle.cos(), radius * angle.sin()]);
        side.push(which);
    }
    Ok((
        Tensor::new([2 * POINTS, 2], points)?,
        Tensor::new([2 * POINTS, 1], side)?,
    ))
}

/// A network 2-32-32-1 with tanh: each parameter with its velocity.
struct Model {
    params: Vec<(Param, Param)>,
}

impl Model {
    fn new(seed: u64) -> Result<Model> {
        let g = Graph::with_seed(seed);
        let mut params = Vec::new();
        for (inputs, outputs) in [(2, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1)] {
            let weight = g.normal([inputs, outputs], DType::F64) * (1.0 / inputs as f64).sqrt();
            for start in [weight, g.zeros([outputs], DType::F64)] {
                let start = start.value()?;
                let velocity = Tensor::zeros(start.shape(), DType::F64)?;
                params.push((Param::new(start), Param::buffer(velocity)));
            }
        }
        Ok(Model { params })
    }

    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        let mut h = 2.0 * x;
        for (k, layer) in self.params.chunks(2).enumerate() {
            let _scope = g.scope(&format!("layer{k}"));
            h = h.matmul(g.param(&layer[0].0)) + g.param(&layer[1].0);
            if k < 2 {
                h = h.tanh();
            }
        }
        h
    }
}

/// Which side the model sees where, as text.
fn picture(model: &Model) -> Result<String> {
    let (width, height) = (60, 24);
    let at = |k: usize, n: usize| 2.6 * (k as f64 + 0.5) / n as f64 - 1.3;
    let grid: Vec<f64> = (0..width * height)
        .flat_map(|k| [at(k % width, width), -at(k / width, height)])
        .collect();
    let g = Graph::new();
    let seen = model
        .forward(g.constant(Tensor::new([width * height, 2], grid)?))
        .gt(0.0)
        .value()?;
    let marks: Vec<char> = seen
        .as_slice::<bool>()?
        .iter()
        .map(|&s| if s { '#' } else { '.' })
        .collect();
    Ok(marks
        .chunks(width)
        .map(|line| line.iter().collect::<String>())
        .collect::<Vec<_>>()
        .join("\n"))
}
