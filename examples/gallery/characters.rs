//! A recurrent network of characters, unrolled over 12 steps: it learns to continue a text. All steps
//! are one graph, and the gradient goes back through time.

use crate::{Result, expect};
use autograd::{Graph, Tensor, Var};
use nn::{Adam, Embedding, Linear, Module, Optimizer, Params, loss};

const TEXT: &str = "the rain in spain stays mainly in the plain. ";
const STEPS: usize = 12;
const WIDTH: usize = 48;

/// `h ← tanh(input(x) + memory(h))`
struct Cell {
    input: Embedding,
    memory: Linear,
    output: Linear,
}

impl Cell {
    fn step<'g>(&self, x: Var<'g>, h: Var<'g>) -> Var<'g> {
        (self.input.forward(x) + self.memory.forward(h)).tanh()
    }
}

impl Module for Cell {
    /// From characters `[batch, steps]` to logits of the next ones `[batch, steps, characters]`.
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        g.attempt(|| {
            let [batch, steps] = x.sizes()?;
            let mut h = g.zeros([batch, WIDTH], autograd::DType::F32);
            let mut outputs = Vec::new();
            for t in 0..steps {
                h = self.step(x.slice(1, t..=t).squeeze(1), h);
                outputs.push(self.output.forward(h));
            }
            Ok(g.stack(&outputs, 1))
        })
    }
    fn params(&self, p: &mut Params) {
        p.module("input", &self.input)
            .module("memory", &self.memory)
            .module("output", &self.output);
    }
}

pub(crate) fn run() -> Result {
    let text = TEXT.repeat(3);
    let mut alphabet: Vec<char> = TEXT.chars().collect();
    alphabet.sort();
    alphabet.dedup();
    let code = |c: char| alphabet.iter().position(|a| *a == c).unwrap_or(0) as i64;
    let codes: Vec<i64> = text.chars().map(code).collect();
    // every window of the text, and the same one character later
    let windows = |shift: usize| -> Result<Tensor> {
        let rows: Vec<i64> = codes[shift..]
            .windows(STEPS)
            .take(TEXT.len())
            .flatten()
            .copied()
            .collect();
        Ok(Tensor::new([TEXT.len(), STEPS], rows)?)
    };
    let (x, y) = (windows(0)?, windows(1)?);
    let cell = Cell {
        input: Embedding::new(alphabet.len(), WIDTH, 1),
        memory: Linear::new(WIDTH, WIDTH, 2),
        output: Linear::new(WIDTH, alphabet.len(), 3),
    };
    let adam = Adam::new(1e-2).clip_norm(1.0);
    for step in 0..150 {
        let g = Graph::training(step);
        let loss = loss::cross_entropy(cell.forward(g.constant(&x)), g.constant(&y));
        adam.step(loss);
        g.run(loss)?;
    }
    // it writes what it finds most likely, one character after the other
    let mut written = String::from("the rain");
    while written.len() < TEXT.len() {
        let known: Vec<i64> = written.chars().map(code).collect();
        let known = &known[known.len().saturating_sub(STEPS)..];
        let logits = nn::predict(&cell, &Tensor::new([1, known.len()], known.to_vec())?)?;
        let g = Graph::new();
        let next = g.constant(logits).argmax(-1).value()?.to_f64s();
        written.push(alphabet[next[known.len() - 1] as usize]);
    }
    println!("{written}");
    expect(written == TEXT, "it has not learned the text")
}
