//! raskr's `autograd` on the benchmark workloads.

use raskr::{self as ag, ndarray, prelude::*, tensor_ops as T};
use timing::{Workload, labels, mlp, noise, repeats};

type Node<'g> = ag::Tensor<'g, f32>;
type Array = ndarray::ArrayD<f32>;

fn main() {
    timing::main("raskr", workload);
}

fn array(shape: &[usize], scale: f32) -> Array {
    Array::from_shape_vec(shape.to_vec(), noise(shape.iter().product(), scale))
        .expect("the number of elements matches the shape")
}

fn forward<'g>(params: &[Node<'g>], x: Node<'g>) -> Node<'g> {
    let mut h = x;
    for (k, layer) in params.chunks(2).enumerate() {
        if k > 0 {
            h = T::relu(h);
        }
        h = T::matmul(h, layer[0]) + layer[1];
    }
    h
}

fn workload(name: &str) -> Option<Workload> {
    if let Some((widths, batch)) = mlp(name) {
        let mut env = ag::VariableEnvironment::new();
        let mut ids = Vec::new();
        for w in widths.windows(2) {
            ids.push(env.set(array(&[w[0], w[1]], 0.05)));
            ids.push(env.set(array(&[1, w[1]], 0.0)));
        }
        let x = array(&[batch, widths[0]], 1.0);
        let y: Vec<f32> = labels(batch).iter().map(|&l| l as f32).collect();
        let y = Array::from_shape_vec(vec![batch, 1], y).expect("one label per row");
        let sgd = ag::optimizers::SGD::new(0.1f32);
        let infer = name == "infer_one";
        return Some(Box::new(move || {
            env.run(|c| {
                let params: Vec<Node<'_>> = ids.iter().map(|&id| c.variable(id)).collect();
                let (px, py) = (
                    c.placeholder("x", &[-1, widths[0] as isize]),
                    c.placeholder("y", &[-1, 1]),
                );
                let logits = forward(&params, px);
                if infer {
                    std::hint::black_box(c.evaluator().push(logits).feed(px, x.view()).run());
                    return;
                }
                let loss =
                    T::reduce_mean(T::sparse_softmax_cross_entropy(logits, &py), &[0], false);
                let grads = T::grad(&[&loss], &params);
                let mut feeder = ag::Feeder::new();
                feeder.push(px, x.view()).push(py, y.view());
                sgd.update(&params, &grads, c, feeder);
            });
        }));
    }
    Some(match name {
        "elementwise" => {
            let data = array(&[1_000_000], 1.0);
            Box::new(move || {
                ag::run(|c: &mut ag::Context<f32>| {
                    let x = c.placeholder("x", &[-1]);
                    let y = T::sum_all(T::sigmoid(T::tanh(x) * x + T::exp(T::neg(x))));
                    let d = T::grad(&[y], &[x])[0];
                    std::hint::black_box(c.evaluator().push(y).push(d).feed(x, data.view()).run());
                });
            })
        }
        "branches" => {
            let mut env = ag::VariableEnvironment::new();
            let ids: Vec<_> = (0..64).map(|_| env.set(array(&[256, 256], 0.05))).collect();
            let data = array(&[128, 256], 1.0);
            Box::new(move || {
                env.run(|c| {
                    let weights: Vec<Node<'_>> = ids.iter().map(|&id| c.variable(id)).collect();
                    let x = c.placeholder("x", &[-1, 256]);
                    let mut total = T::sum_all(T::tanh(T::matmul(x, weights[0])));
                    for w in &weights[1..] {
                        total = total + T::sum_all(T::tanh(T::matmul(x, *w)));
                    }
                    let grads = T::grad(&[total], &weights);
                    let mut evaluator = c.evaluator();
                    let mut evaluator = evaluator.push(total);
                    for d in &grads {
                        evaluator = evaluator.push(*d);
                    }
                    std::hint::black_box(evaluator.feed(x, data.view()).run());
                });
            })
        }
        _ => {
            let repeats = repeats(name)?;
            let half = ndarray::arr0(0.5f32).into_dyn();
            Box::new(move || {
                ag::run(|c: &mut ag::Context<f32>| {
                    let x = c.placeholder("x", &[]);
                    let mut y = x;
                    for _ in 0..repeats {
                        y = y * x + x;
                    }
                    let d = T::grad(&[y], &[x])[0];
                    std::hint::black_box(c.evaluator().push(y).push(d).feed(x, half.view()).run());
                });
            })
        }
    })
}
