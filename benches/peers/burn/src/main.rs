//! burn, with its `flex` backend, on the benchmark workloads.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use timing::{Workload, labels, mlp, noise, repeats};

fn main() {
    timing::main("burn", workload);
}

fn matrix(device: &Device, rows: usize, columns: usize, scale: f32) -> Tensor<2> {
    Tensor::from_data(
        TensorData::new(noise(rows * columns, scale), [rows, columns]),
        device,
    )
}

fn forward(layers: &[(Tensor<2>, Tensor<2>)], x: &Tensor<2>) -> Tensor<2> {
    let mut h = x.clone();
    for (k, (w, b)) in layers.iter().enumerate() {
        if k > 0 {
            h = activation::relu(h);
        }
        h = h.matmul(w.clone()) + b.clone();
    }
    h
}

fn workload(name: &str) -> Option<Workload> {
    let inference_device = Device::flex();
    let device = Device::flex().autodiff();
    if let Some((widths, batch)) = mlp(name) {
        let device = if name == "infer_one" {
            inference_device
        } else {
            device
        };
        let layer = |w: &[usize]| {
            (
                matrix(&device, w[0], w[1], 0.05),
                matrix(&device, 1, w[1], 0.0),
            )
        };
        let mut layers: Vec<_> = widths.windows(2).map(layer).collect();
        let x = matrix(&device, batch, widths[0], 1.0);
        if name == "infer_one" {
            return Some(Box::new(move || drop(forward(&layers, &x).into_data())));
        }
        let y: Vec<i64> = labels(batch).iter().map(|&l| l as i64).collect();
        let y: Tensor<2, Int> = Tensor::from_data(TensorData::new(y, [batch, 1]), &device);
        layers = layers
            .into_iter()
            .map(|(w, b)| (w.require_grad(), b.require_grad()))
            .collect();
        return Some(Box::new(move || {
            let logits = forward(&layers, &x);
            let loss = activation::log_softmax(logits, 1)
                .gather(1, y.clone())
                .mean()
                .neg();
            let mut grads = loss.backward();
            let mut step = |p: &Tensor<2>| {
                let d = p
                    .grad_remove(&mut grads)
                    .expect("every parameter has a gradient");
                Tensor::from_inner(p.clone().inner() - d * 0.1).require_grad()
            };
            layers = layers.iter().map(|(w, b)| (step(w), step(b))).collect();
        }));
    }
    Some(match name {
        "elementwise" => {
            let data = TensorData::new(noise(1_000_000, 1.0), [1_000_000]);
            let x: Tensor<1> = Tensor::from_data(data, &device).require_grad();
            Box::new(move || {
                let y =
                    activation::sigmoid(x.clone().tanh() * x.clone() + x.clone().neg().exp()).sum();
                std::hint::black_box(x.grad(&y.backward()));
            })
        }
        "branches" => {
            let x = matrix(&device, 128, 256, 1.0);
            let weights: Vec<_> = (0..64)
                .map(|_| matrix(&device, 256, 256, 0.05).require_grad())
                .collect();
            Box::new(move || {
                let branch = |w: &Tensor<2>| x.clone().matmul(w.clone()).tanh().sum();
                let total = weights
                    .iter()
                    .map(branch)
                    .reduce(|a, b| a + b)
                    .expect("64 branches");
                std::hint::black_box(total.backward());
            })
        }
        _ => {
            let repeats = repeats(name)?;
            let x: Tensor<1> =
                Tensor::from_data(TensorData::new(vec![0.5f32], [1]), &device).require_grad();
            Box::new(move || {
                let mut y = x.clone();
                for _ in 0..repeats {
                    y = y * x.clone() + x.clone();
                }
                std::hint::black_box(x.grad(&y.backward()));
            })
        }
    })
}
