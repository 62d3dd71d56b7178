//! Reverse-mode automatic differentiation step by step, for three small functions:
//! `cargo run --release --example demystified`.
//!
//! For each function it prints the graph, the value and the local derivatives of each node, and the
//! backward pass. In the backward pass, the adjoint of a node is the derivative of the result with
//! respect to the node: a sum over all uses of the node. Finally, it compares the gradients with
//! closed formulas.

use autograd::{Graph, Var};
use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    sigmoid()?;
    two_inputs()?;
    product_and_logarithm()
}

/// The sigmoid from four primitive operations with well-known derivatives.
fn sigmoid() -> Result<()> {
    title("sigmoid: s(x) = 1 / (1 + exp(-x)) at x = 0.5");
    let g = Graph::new();
    let mut trace = Trace::default();
    let x = trace.leaf("x", g.input(0.5));
    let a = trace.node("a = -x", -x, &[x]);
    let b = trace.node("b = exp(a)", a.exp(), &[a]);
    let c = trace.node("c = 1 + b", 1.0 + b, &[b]);
    let s = trace.node("s = 1/c", c.recip(), &[c]);
    trace.print(s)?;
    let value = 1.0 / (1.0 + (-0.5f64).exp());
    trace.check(s, &[("s(1 - s)", x, value * (1.0 - value))])
}

/// `x1` and `x2` are each used twice (fan-out), and sums and products take two inputs (fan-in).
fn two_inputs() -> Result<()> {
    title("f(x1, x2) = ln(x1) + x1*x2 - sin(x2) at x1 = 2, x2 = 5");
    let g = Graph::new();
    let mut trace = Trace::default();
    let x1 = trace.leaf("x1", g.input(2.0));
    let x2 = trace.leaf("x2", g.input(5.0));
    let v1 = trace.node("v1 = ln(x1)", x1.ln(), &[x1]);
    let v2 = trace.node("v2 = x1*x2", x1 * x2, &[x1, x2]);
    let v3 = trace.node("v3 = sin(x2)", x2.sin(), &[x2]);
    let v4 = trace.node("v4 = v1 + v2", v1 + v2, &[v1, v2]);
    let f = trace.node("f = v4 - v3", v4 - v3, &[v4, v3]);
    trace.print(f)?;
    trace.check(
        f,
        &[
            ("1/x1 + x2", x1, 5.5),
            ("x1 - cos(x2)", x2, 2.0 - 5f64.cos()),
        ],
    )
}

/// The first example of the README.
fn product_and_logarithm() -> Result<()> {
    title("f(x, y) = x*y + ln(x) at x = 2, y = 3");
    let g = Graph::new();
    let mut trace = Trace::default();
    let x = trace.leaf("x", g.input(2.0));
    let y = trace.leaf("y", g.input(3.0));
    let p = trace.node("p = x*y", x * y, &[x, y]);
    let l = trace.node("l = ln(x)", x.ln(), &[x]);
    let f = trace.node("f = p + l", p + l, &[p, l]);
    trace.print(f)?;
    trace.check(f, &[("y + 1/x", x, 3.5), ("x", y, 2.0)])
}

fn title(text: &str) {
    println!("{text}\n{}\n", "=".repeat(text.len()));
}

/// The nodes of a program with their names and inputs.
#[derive(Default)]
struct Trace<'g> {
    nodes: Vec<(&'static str, Var<'g>, Vec<Var<'g>>)>,
}

impl<'g> Trace<'g> {
    fn leaf(&mut self, name: &'static str, v: Var<'g>) -> Var<'g> {
        self.node(name, v, &[])
    }

    fn node(&mut self, name: &'static str, v: Var<'g>, inputs: &[Var<'g>]) -> Var<'g> {
        self.nodes.push((name, v, inputs.to_vec()));
        v
    }

    /// The name of a node: the part before the equals sign.
    fn name(&self, v: Var<'g>) -> &'static str {
        let node = self.nodes.iter().find(|(_, w, _)| w.id() == v.id());
        node.map_or("?", |(name, ..)| name.split(" = ").next().unwrap_or(name))
    }

    fn print(&self, f: Var<'g>) -> Result<()> {
        let g = f.graph();
        println!(
            "The graph, one line per node; the inputs of a node are earlier nodes:\n\n{}",
            g.to_text()
        );

        println!("Forward: values and local derivatives\n");
        for (name, v, inputs) in &self.nodes {
            let mut line = format!("  {name:<14} {:>9.5}", v.value()?.scalar()?);
            for (input, d) in inputs.iter().zip(g.grads(*v, inputs)) {
                line += &format!(
                    "   d{}/d{} = {:.5}",
                    self.name(*v),
                    self.name(*input),
                    d.value()?.scalar()?
                );
            }
            println!("{line}");
        }

        println!("\nBackward: adjoints, from the result to the inputs\n");
        for (_, v, _) in self.nodes.iter().rev() {
            let adjoint = g.grad(f, &[*v])[0].value()?.scalar()?;
            println!(
                "  d{}/d{:<4} = {}{adjoint:.5}",
                self.name(f),
                self.name(*v),
                self.uses(f, *v)?
            );
        }
        Ok(())
    }

    /// An adjoint as a sum: for each use of the node, the adjoint of the using node times the local
    /// derivative.
    fn uses(&self, f: Var<'g>, v: Var<'g>) -> Result<String> {
        let g = f.graph();
        let (mut terms, mut sum) = (Vec::new(), 0.0);
        for (_, user, inputs) in &self.nodes {
            if let Some(input) = inputs.iter().find(|i| i.id() == v.id()) {
                let adjoint = g.grad(f, &[*user])[0].value()?.scalar()?;
                let local = g.grad(*user, &[*input])[0].value()?.scalar()?;
                terms.push(format!(
                    "{adjoint:.5} * {local:.5} (through {})",
                    self.name(*user)
                ));
                sum += adjoint * local;
            }
        }
        let total = g.grad(f, &[v])[0].value()?.scalar()?;
        if !terms.is_empty() && (sum - total).abs() > 1e-12 {
            return Err(format!(
                "the uses of {} sum up to {sum}, expected {total}",
                self.name(v)
            )
            .into());
        }
        Ok(if terms.is_empty() {
            String::new()
        } else {
            format!("{} = ", terms.join(" + "))
        })
    }

    /// Compares the gradients of one backward pass with closed formulas.
    fn check(&self, f: Var<'g>, closed: &[(&str, Var<'g>, f64)]) -> Result<()> {
        println!("\nOne call of backward(), compared with closed formulas:\n");
        let grads = f.backward()?;
        for (formula, x, expected) in closed {
            let got = grads.scalar(*x)?;
            println!(
                "  d{}/d{} = {formula} = {expected:.12}, backward: {got:.12}",
                self.name(f),
                self.name(*x)
            );
            if (got - expected).abs() > 1e-14 * expected.abs().max(1.0) {
                return Err(format!(
                    "d{}/d{}: backward() and the closed formula disagree",
                    self.name(f),
                    self.name(*x)
                )
                .into());
            }
        }
        println!();
        Ok(())
    }
}
