//! candle on the benchmark workloads.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Linear, Module, Optimizer, SGD, VarBuilder, VarMap, linear, loss};
use timing::{Workload, labels, mlp, noise, repeats};

fn main() {
    timing::main("candle", |name| {
        workload(name).expect("the workload is created")
    });
}

fn forward(layers: &[Linear], x: &Tensor) -> Result<Tensor> {
    let mut h = layers[0].forward(x)?;
    for layer in &layers[1..] {
        h = layer.forward(&h.relu()?)?;
    }
    Ok(h)
}

fn workload(name: &str) -> Result<Option<Workload>> {
    let dev = Device::Cpu;
    if let Some((widths, batch)) = mlp(name) {
        let vars = VarMap::new();
        let builder = VarBuilder::from_varmap(&vars, DType::F32, &dev);
        let layer = |(k, w): (usize, &[usize])| linear(w[0], w[1], builder.pp(k));
        let layers: Vec<Linear> = widths
            .windows(2)
            .enumerate()
            .map(layer)
            .collect::<Result<_>>()?;
        let x = Tensor::from_vec(noise(batch * widths[0], 1.0), (batch, widths[0]), &dev)?;
        if name == "infer_one" {
            return Ok(Some(Box::new(move || {
                drop(forward(&layers, &x).expect("runs"))
            })));
        }
        let y = Tensor::from_vec(
            labels(batch).iter().map(|&l| l as u32).collect(),
            batch,
            &dev,
        )?;
        let mut sgd = SGD::new(vars.all_vars(), 0.1)?;
        return Ok(Some(Box::new(move || {
            let loss = forward(&layers, &x)
                .and_then(|logits| loss::cross_entropy(&logits, &y))
                .expect("runs");
            sgd.backward_step(&loss).expect("runs");
        })));
    }
    let gradient: Box<dyn FnMut() -> Result<()>> = match name {
        "elementwise" => {
            let x = Var::from_tensor(&Tensor::from_vec(noise(1_000_000, 1.0), 1_000_000, &dev)?)?;
            Box::new(move || {
                let a = ((x.tanh()? * x.as_tensor())? + x.neg()?.exp()?)?;
                // sigmoid from primitives, because that of candle_nn has no gradient
                let y = (a.neg()?.exp()? + 1.0)?.recip()?.sum_all()?;
                std::hint::black_box(y.backward()?.get(&x));
                Ok(())
            })
        }
        "branches" => {
            let x = Tensor::from_vec(noise(128 * 256, 1.0), (128, 256), &dev)?;
            let weight =
                |_| Var::from_tensor(&Tensor::from_vec(noise(256 * 256, 0.05), (256, 256), &dev)?);
            let weights: Vec<Var> = (0..64).map(weight).collect::<Result<_>>()?;
            Box::new(move || {
                let mut total = x.matmul(&weights[0])?.tanh()?.sum_all()?;
                for w in &weights[1..] {
                    total = (total + x.matmul(w)?.tanh()?.sum_all()?)?;
                }
                std::hint::black_box(total.backward()?);
                Ok(())
            })
        }
        _ => {
            let Some(repeats) = repeats(name) else {
                return Ok(None);
            };
            let x = Var::new(0.5f32, &dev)?;
            Box::new(move || {
                let mut y = x.as_tensor().clone();
                for _ in 0..repeats {
                    y = ((y * x.as_tensor())? + x.as_tensor())?;
                }
                std::hint::black_box(y.backward()?.get(&x));
                Ok(())
            })
        }
    };
    let mut gradient = gradient;
    Ok(Some(Box::new(move || gradient().expect("runs"))))
}
