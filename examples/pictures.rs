//! Draws graphs as SVG files, without Graphviz:
//! `cargo run --release --features svg --example pictures -- DIR`.
//!
//! It draws three small functions with their derivatives, a training step of a multi-layer
//! perceptron, and a graph with a thousand nodes. Without `DIR`, it prints the graphs as text.

use autograd::{Graph, Picture, Tensor, Var};
use nn::{Activation, Module, Optimizer, Sgd, loss};
use std::{fs, path::Path};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let directory = std::env::args().nth(1);
    let save = |name: &str, picture: Picture<'_>| -> Result<()> {
        let Some(directory) = &directory else {
            println!("{name}\n\n{}", picture.to_text());
            return Ok(());
        };
        fs::create_dir_all(directory)?;
        let file = Path::new(directory).join(format!("{name}.svg"));
        fs::write(&file, picture.to_svg()?)?;
        println!("{}", file.display());
        Ok(())
    };

    let g = Graph::new();
    let x = g.input(0.5);
    let s = 1.0 / (1.0 + (-x).exp());
    let [d] = g.grad(s, &[x]);
    save(
        "sigmoid",
        g.picture().name(x, "x").name(s, "s").name(d, "ds/dx"),
    )?;

    let g = Graph::new();
    let (x1, x2) = (g.input(2.0), g.input(5.0));
    let f = x1.ln() + x1 * x2 - x2.sin();
    let [d1, d2] = g.grad(f, &[x1, x2]);
    save(
        "two_inputs",
        g.picture()
            .name(x1, "x1")
            .name(x2, "x2")
            .name(f, "f")
            .name(d1, "df/dx1")
            .name(d2, "df/dx2"),
    )?;

    let g = Graph::new();
    let (x, y) = (g.input(2.0), g.input(3.0));
    let f = x * y + x.ln();
    let [dx, dy] = g.grad(f, &[x, y]);
    save(
        "product_and_logarithm",
        g.picture()
            .name(x, "x")
            .name(y, "y")
            .name(f, "f")
            .name(dx, "df/dx")
            .name(dy, "df/dy"),
    )?;

    let model = nn::mlp(&[784, 128, 10], Activation::Relu, 42);
    let g = Graph::training(7);
    let (images, labels) = (
        g.constant(Tensor::full([64, 784], 0.5f32)?),
        g.constant(vec![3i64; 64]),
    );
    let loss = loss::cross_entropy(model.forward(images), labels);
    Sgd::new(0.1).momentum(0.9).step(loss);
    save(
        "mlp",
        g.picture()
            .name(images, "images")
            .name(labels, "labels")
            .name(loss, "loss"),
    )?;

    let g = Graph::new();
    let x = g.input(vec![0.1; 8]);
    let mut y = x;
    for layer in 0..50 {
        y = g.within(&format!("block{layer}"), || block(y));
    }
    g.grad(y.sum(), &[x]);
    println!("{} nodes with scopes:", g.len());
    save("thousand_nodes", g.picture().name(x, "x"))?;

    let g = Graph::new();
    let x = g.input(vec![0.1; 8]);
    let y = (0..125).fold(x, |y, _| block(y));
    println!("{} nodes without scopes:", g.len());
    save(
        "thousand_nodes_without_scopes",
        g.picture().of(&[y]).name(x, "x"),
    )
}

/// A block of eight nodes.
fn block(x: Var<'_>) -> Var<'_> {
    let a = x.tanh() * x;
    (a + 1.0).sigmoid() * (x.cos() + a)
}
