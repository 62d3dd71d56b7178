//! Jacobians and Hessian-vector products with respect to all parameters of a model.

use autograd::{Graph, Result, Tensor, Var};
use nn::{Activation, Module};

#[test]
fn jacobians_and_hvps_with_respect_to_all_parameters() -> Result<()> {
    let model = nn::mlp(&[3, 4, 2], Activation::Tanh, 1);
    let inputs = Tensor::new([2, 3], vec![0.1f32, -0.4, 0.7, 0.9, 0.2, -0.5])?;
    let g = Graph::new();
    let output = model.forward(g.constant(&inputs));
    let params: Vec<Var<'_>> = model.parameters().iter().map(|(_, p)| g.param(p)).collect();
    let loss = output.square().sum();

    // for each parameter, the gradient of the loss is `2·output·J`
    let jacobians = g.jacobians(output, &params);
    let gradients = g.grads(loss, &params);
    for (j, (d, p)) in jacobians.iter().zip(gradients.iter().zip(&params)) {
        let size = p.shape()?.count();
        assert_eq!(j.shape()?.to_vec(), [&[2, 2][..], &p.shape()?].concat());
        let expected = (2.0 * output)
            .reshape([1, 4])
            .matmul(j.reshape([4, size]))
            .reshape(p.shape()?);
        let difference = (expected - *d).abs().max().value()?.scalar()?;
        assert!(difference < 1e-5, "{difference}");
    }

    // Hessian-vector products against finite differences of gradients
    let directions: Vec<Var<'_>> = params.iter().map(|p| (*p * 3.0f32).cos()).collect();
    let products = g.run(g.hvps(loss, &params, &directions))?;
    let directions = g.run(directions)?;
    let gradient_at = |step: f32| -> Result<Vec<Tensor>> {
        let shifted = nn::mlp(&[3, 4, 2], Activation::Tanh, 1);
        for ((_, p), v) in shifted.parameters().iter().zip(&directions) {
            let g = Graph::new();
            p.set((g.constant(p.value()) + g.constant(v) * step).value()?)?;
        }
        let g = Graph::new();
        let loss = shifted.forward(g.constant(&inputs)).square().sum();
        let params: Vec<Var<'_>> = shifted
            .parameters()
            .iter()
            .map(|(_, p)| g.param(p))
            .collect();
        g.run(g.grads(loss, &params))
    };
    let (up, down) = (gradient_at(1e-2)?, gradient_at(-1e-2)?);
    for ((product, up), down) in products.iter().zip(&up).zip(&down) {
        for ((h, up), down) in product
            .to_f64s()
            .iter()
            .zip(up.to_f64s())
            .zip(down.to_f64s())
        {
            assert!(
                (h - (up - down) / 2e-2).abs() < 2e-2 * h.abs().max(1.0),
                "{h} {}",
                (up - down) / 2e-2
            );
        }
    }
    Ok(())
}
