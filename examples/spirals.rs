//! Classifies two interleaved spirals: `cargo run --release --example spirals`.
//!
//! It uses `autograd` without `nn`: data, parameters, model, loss and gradient descent with
//! momentum are written out. Each step is one graph; `run` executes its forward pass, backward pass
//! and parameter updates.

use autograd::{DType, Graph, Param, Result, Tensor, Var};

const HIDDEN: usize = 32;
const POINTS: usize = 200;

fn main() -> Result<()> {
    let (points, labels) = spirals()?;
    let model = Model::new(7)?;
    let (lr, momentum) = (0.05, 0.9);

    for step in 0..=1500 {
        let g = Graph::new();
        let logits = model.forward(g.constant(&points));
        let target = g.constant(&labels);
        // binary cross-entropy: -ln σ(x) for target 1, -ln(1 - σ(x)) for target 0
        let loss = (logits.softplus() - target * logits).mean();
        let accuracy = logits.gt(0.0).eq(target.gt(0.5)).cast(DType::F64).mean();

        let weights: Vec<Var<'_>> = model.params.iter().map(|(w, _)| g.param(w)).collect();
        for ((w, velocity), d) in model.params.iter().zip(g.grads(loss, &weights)) {
            let v = momentum * g.param(velocity) + d;
            g.assign(velocity, v);
            g.assign(w, g.param(w) - lr * v);
        }

        let (loss, accuracy) = g.run((loss, accuracy))?;
        if step % 300 == 0 {
            println!(
                "step {step:>4}: loss {:.4}, accuracy {:.3}",
                loss.scalar()?,
                accuracy.scalar()?
            );
        }
    }
    println!("\n{}", decision_regions(&model)?);
    Ok(())
}

/// Points on two spirals, `[2·POINTS, 2]`, and the index of their spiral, `[2·POINTS, 1]`.
fn spirals() -> Result<(Tensor, Tensor)> {
    let (mut points, mut labels) = (Vec::new(), Vec::new());
    for k in 0..2 * POINTS {
        let (t, spiral) = ((k / 2) as f64 / POINTS as f64, (k % 2) as f64);
        let (radius, angle) = (0.2 + t, 7.0 * t + std::f64::consts::PI * spiral);
        points.extend([radius * angle.cos(), radius * angle.sin()]);
        labels.push(spiral);
    }
    Ok((
        Tensor::new([2 * POINTS, 2], points)?,
        Tensor::new([2 * POINTS, 1], labels)?,
    ))
}

/// A 2-32-32-1 network with tanh: each parameter with its velocity.
struct Model {
    params: Vec<(Param, Param)>,
}

impl Model {
    fn new(seed: u64) -> Result<Model> {
        let g = Graph::with_seed(seed);
        let mut params = Vec::new();
        for (inputs, outputs) in [(2, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1)] {
            let weight = g.normal([inputs, outputs], DType::F64) * (1.0 / inputs as f64).sqrt();
            for initial in [weight, g.zeros([outputs], DType::F64)] {
                let initial = initial.value()?;
                let velocity = Tensor::zeros(initial.shape(), DType::F64)?;
                params.push((Param::new(initial), Param::buffer(velocity)));
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

/// The predicted class of each point of a grid, as text.
fn decision_regions(model: &Model) -> Result<String> {
    let (width, height) = (60, 24);
    let coordinate = |k: usize, n: usize| 2.6 * (k as f64 + 0.5) / n as f64 - 1.3;
    let grid: Vec<f64> = (0..width * height)
        .flat_map(|k| [coordinate(k % width, width), -coordinate(k / width, height)])
        .collect();
    let g = Graph::new();
    let classes = model
        .forward(g.constant(Tensor::new([width * height, 2], grid)?))
        .gt(0.0)
        .value()?;
    let marks: Vec<char> = classes
        .as_slice::<bool>()?
        .iter()
        .map(|&c| if c { '#' } else { '.' })
        .collect();
    Ok(marks
        .chunks(width)
        .map(|line| line.iter().collect::<String>())
        .collect::<Vec<_>>()
        .join("\n"))
}
