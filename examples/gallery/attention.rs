//! Self-attention, written out: a model that learns to reverse a sequence of letters, which needs to
//! look at other places than its own.

use crate::{Result, expect};
use autograd::{Graph, Tensor, Var};
use nn::{Adam, Embedding, LayerNorm, Linear, Module, Optimizer, Params, loss};

const LETTERS: usize = 8;
const LENGTH: usize = 6;
const WIDTH: usize = 32;

/// One head: each place asks, all places answer.
struct Attention {
    letters: Embedding,
    places: Embedding,
    queries: Linear,
    keys: Linear,
    values: Linear,
    norm: LayerNorm,
    output: Linear,
}

impl Module for Attention {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let places = x.graph().constant((0..LENGTH as i64).collect::<Vec<_>>());
        let x = self.letters.forward(x) + self.places.forward(places); // [batch, length, width]
        let [q, k, v] = [&self.queries, &self.keys, &self.values].map(|layer| layer.forward(x));
        let scores = q.matmul(k.t()) / (WIDTH as f64).sqrt(); // [batch, length, length]
        let x = self.norm.forward(x + scores.softmax(-1).matmul(v));
        self.output.forward(x) // [batch, length, letters]
    }
    fn params(&self, p: &mut Params) {
        p.module("letters", &self.letters)
            .module("places", &self.places);
        p.module("queries", &self.queries)
            .module("keys", &self.keys)
            .module("values", &self.values);
        p.module("norm", &self.norm).module("output", &self.output);
    }
}

/// Random sequences, and the same backwards.
fn batch(seed: u64, rows: usize) -> Result<(Tensor, Tensor)> {
    let g = Graph::training(seed);
    let letters = (g.uniform([rows, LENGTH], autograd::DType::F64) * LETTERS as f64).floor();
    let letters = letters.cast(autograd::DType::I64);
    Ok(g.run((letters, letters.flip(1)))?)
}

pub(crate) fn run() -> Result {
    let linear = |outputs, seed| Linear::new(WIDTH, outputs, seed);
    let model = Attention {
        letters: Embedding::new(LETTERS, WIDTH, 1),
        places: Embedding::new(LENGTH, WIDTH, 2),
        queries: linear(WIDTH, 3),
        keys: linear(WIDTH, 4),
        values: linear(WIDTH, 5),
        norm: LayerNorm::new(WIDTH),
        output: linear(LETTERS, 6),
    };
    let adam = Adam::new(3e-3);
    for step in 0..400 {
        let (x, y) = batch(step, 64)?;
        let g = Graph::training(step);
        let loss = loss::cross_entropy(model.forward(g.constant(x)), g.constant(y));
        adam.step(loss);
        g.run(loss)?;
    }
    let (x, y) = batch(1_000_000, 500)?;
    let g = Graph::new();
    let read = model.forward(g.constant(&x)).argmax(-1);
    let (read, right) = g.run((read, read.eq(g.constant(&y)).all_axis(1).sum()))?;
    let right = right.scalar()? / 500.0;
    println!("{} backwards is {}", x.rows(&[0])?, read.rows(&[0])?);
    println!("whole sequences reversed without a mistake: {right:.3}");
    expect(right > 0.9, "it has not learned to reverse")
}
