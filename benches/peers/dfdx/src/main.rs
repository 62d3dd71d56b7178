//! dfdx on the benchmark workloads. Shapes are part of the types, so each network has its own type.

use dfdx::{
    losses::cross_entropy_with_logits_loss,
    nn::builders::*,
    optim::{Optimizer, Sgd, SgdConfig},
    prelude::*,
};
use timing::{Workload, labels, noise, repeats};

type Small = ((Linear<784, 128>, ReLU), Linear<128, 10>);
type Large = (
    (Linear<784, 512>, ReLU),
    (Linear<512, 512>, ReLU),
    Linear<512, 10>,
);

fn main() {
    timing::main("dfdx", workload);
}

macro_rules! training {
    ($Model:ty, $batch:literal) => {{
        let dev = AutoDevice::default();
        let mut model = dev.build_module::<$Model, f32>();
        let mut grads = Some(model.alloc_grads());
        let mut sgd = Sgd::new(
            &model,
            SgdConfig {
                lr: 0.1,
                momentum: None,
                weight_decay: None,
            },
        );
        let x: Tensor<Rank2<$batch, 784>, f32, _> =
            dev.tensor_from_vec(noise($batch * 784, 1.0), (Const, Const));
        let mut one_hot = vec![0.0f32; $batch * 10];
        labels($batch)
            .iter()
            .enumerate()
            .for_each(|(k, l)| one_hot[k * 10 + l] = 1.0);
        let y: Tensor<Rank2<$batch, 10>, f32, _> = dev.tensor_from_vec(one_hot, (Const, Const));
        Box::new(move || {
            let traced = x.trace(
                grads
                    .take()
                    .expect("the previous step returned the gradients"),
            );
            let loss = cross_entropy_with_logits_loss(model.forward_mut(traced), y.clone());
            let mut gradients = loss.backward();
            sgd.update(&mut model, &gradients)
                .expect("every parameter has a gradient");
            model.zero_grads(&mut gradients);
            grads = Some(gradients);
        })
    }};
}

fn workload(name: &str) -> Option<Workload> {
    let dev = AutoDevice::default();
    Some(match name {
        "mlp_small" => training!(Small, 64),
        "mlp_large" => training!(Large, 128),
        "infer_one" => {
            let model = dev.build_module::<Small, f32>();
            let x: Tensor<Rank2<1, 784>, f32, _> =
                dev.tensor_from_vec(noise(784, 1.0), (Const, Const));
            Box::new(move || drop(model.forward(x.clone())))
        }
        "elementwise" => {
            let x: Tensor<Rank1<1_000_000>, f32, _> =
                dev.tensor_from_vec(noise(1_000_000, 1.0), (Const,));
            Box::new(move || {
                let a = x.leaky_trace().tanh() * x.clone();
                let y = (a + x.leaky_trace().negate().exp()).sigmoid().sum();
                std::hint::black_box(y.backward().get(&x));
            })
        }
        "branches" => {
            let x: Tensor<Rank2<128, 256>, f32, _> =
                dev.tensor_from_vec(noise(128 * 256, 1.0), (Const, Const));
            let weight = |_| dev.tensor_from_vec(noise(256 * 256, 0.05), (Const, Const));
            let weights: Vec<Tensor<Rank2<256, 256>, f32, _>> = (0..64).map(weight).collect();
            Box::new(move || {
                // the tape starts at the data, and records the gradients of the weights where they
                // are used
                let branch = |w: &Tensor<Rank2<256, 256>, f32, _>| {
                    x.leaky_trace().matmul(w.clone()).tanh().sum()
                };
                let total = weights
                    .iter()
                    .map(branch)
                    .reduce(|a, b| a + b)
                    .expect("64 branches");
                std::hint::black_box(total.backward());
            })
        }
        _ => {
            let (repeats, x) = (repeats(name)?, dev.tensor(0.5f32));
            Box::new(move || {
                // a tensor times itself panics, so the chain starts from a copy
                let mut y = x.leaky_trace() * 1.0;
                for _ in 0..repeats {
                    y = y * x.clone() + x.clone();
                }
                std::hint::black_box(y.backward().get(&x));
            })
        }
    })
}
