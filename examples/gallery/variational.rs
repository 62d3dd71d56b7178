//! A variational autoencoder (Kingma and Welling 2014): it learns to encode digits as two numbers, and
//! draws new ones from random numbers. The random numbers are part of the graph; the loss has two terms.

use crate::{Result, expect};
use autograd::{DType, Graph, Tensor, Var};
use nn::{Activation, Adam, Mlp, Module, Optimizer, Params, data, loss};

const CODE: usize = 2;

struct Autoencoder {
    encoder: Mlp,
    decoder: Mlp,
}

impl Autoencoder {
    /// The negative evidence lower bound of images `[batch, pixels]` with values from 0 to 1.
    fn loss<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        g.attempt(|| {
            let [batch, _] = x.sizes()?;
            let code = self.encoder.forward(x);
            let (mean, log_variance) = (code.slice(1, ..CODE), code.slice(1, CODE..));
            let noise = g.normal([batch, CODE], DType::F32);
            let sample = mean + (log_variance * 0.5).exp() * noise; // the gradient goes through it
            let drawn = self.decoder.forward(sample);
            let pixels = loss::unreduced::bce_with_logits(drawn, x).sum_axis(1);
            // the Kullback–Leibler divergence from a standard normal distribution
            let divergence =
                (mean.square() + log_variance.exp() - log_variance - 1.0).sum_axis(1) * 0.5;
            Ok((pixels + divergence).mean())
        })
    }
}

impl Module for Autoencoder {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        self.decoder
            .forward(self.encoder.forward(x).slice(1, ..CODE))
            .sigmoid()
    }
    fn params(&self, p: &mut Params) {
        p.module("encoder", &self.encoder)
            .module("decoder", &self.decoder);
    }
}

pub(crate) fn run() -> Result {
    let (train, test) = data::digits()?;
    let model = Autoencoder {
        encoder: nn::mlp(&[64, 64, 2 * CODE], Activation::Tanh, 1),
        decoder: nn::mlp(&[CODE, 64, 64], Activation::Tanh, 2),
    };
    let images = scaled(&test.inputs()?)?;
    let of = |images: &Tensor| -> Result<f64> {
        let g = Graph::training(0);
        Ok(model.loss(g.constant(images)).value()?.scalar()?)
    };
    let (before, adam) = (of(&images)?, Adam::new(3e-3));
    for epoch in 0..20 {
        for (k, batch) in train.shuffled_batches(32, epoch).enumerate() {
            let g = Graph::training(1000 * epoch + k as u64); // another seed for each step
            let loss = model.loss(g.constant(scaled(&batch?.0)?));
            adam.step(loss);
            g.run(loss)?;
        }
    }
    let after = of(&images)?;
    let codes = Tensor::from([[-1f32, 0.5], [0.0, 0.0], [1.0, -0.5]]);
    let g = Graph::new();
    let drawn = model.decoder.forward(g.constant(codes)).sigmoid().value()?;
    let rows: Vec<&[f32]> = drawn.as_slice::<f32>()?.chunks(64).collect();
    for y in 0..8 {
        let line = |image: &&[f32]| -> String {
            let shade = |p: &f32| [' ', '.', 'o', '#'][(p * 3.99) as usize];
            image[y * 8..][..8]
                .iter()
                .map(shade)
                .flat_map(|c| [c, c])
                .collect()
        };
        println!(
            "  {}",
            rows.iter().map(line).collect::<Vec<_>>().join("   ")
        );
    }
    println!("loss of images that it has not seen: {before:.1} before, {after:.1} after training");
    expect(after < 0.75 * before, "it has not learned to draw")
}

/// Pixels from 0 to 1.
fn scaled(images: &Tensor) -> Result<Tensor> {
    let g = Graph::new();
    let x = g.constant(images);
    Ok((x / x.max()).value()?)
}
