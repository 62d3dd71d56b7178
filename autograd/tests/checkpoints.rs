//! Recomputation instead of saving for backward: the same bits, less memory, nested and to any
//! order.

use autograd::{DType, Graph, Param, Result, Tensor, Var};

fn numbers(shape: &[usize], seed: f64) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::new(
        shape,
        (0..count)
            .map(|k| ((seed + 1.7 * k as f64).sin() * 0.3) as f32)
            .collect(),
    )
    .expect("small")
}

const BLOCKS: usize = 8;
const LAYERS: usize = 6;

/// Blocks of layers, each a product, a tanh and an op that is not fused.
fn network<'g>(
    g: &'g Graph,
    weights: &[Var<'g>],
    block: impl Fn(&'g Graph, &dyn Fn() -> Var<'g>) -> Var<'g>,
) -> Var<'g> {
    let mut x = g.constant(numbers(&[64, 32], 0.5));
    for b in 0..BLOCKS {
        let input = x;
        x = block(g, &|| {
            (0..LAYERS).fold(input, |x, l| {
                x.matmul(weights[b * LAYERS + l]).tanh().softmax(0).sin()
            })
        });
    }
    x.square().sum()
}

fn weights(g: &Graph) -> Vec<Var<'_>> {
    (0..BLOCKS * LAYERS)
        .map(|k| g.input(numbers(&[32, 32], k as f64)))
        .collect()
}

#[test]
fn the_same_bits_with_less_memory() -> Result<()> {
    let run = |checkpointed: bool| {
        let g = Graph::new();
        let w = weights(&g);
        let loss = network(&g, &w, |g, block| {
            if checkpointed {
                g.checkpoint(block)
            } else {
                block()
            }
        });
        let wanted: Vec<Var<'_>> = std::iter::once(loss).chain(g.grads(loss, &w)).collect();
        let plan = g.plan(wanted.clone())?;
        let kept: usize = g
            .saved_for_backward(wanted.clone())?
            .iter()
            .map(|k| k.bytes)
            .sum();
        Ok::<_, autograd::Error>((g.run(wanted)?, plan.arena_bytes(), kept))
    };
    let ((plain, most, kept), (again, less, kept_less)) = (run(false)?, run(true)?);
    assert_eq!(plain, again);
    let value = 64 * 32 * 4;
    // without checkpoints: several values of every layer; with checkpoints: one value of each
    // block, and those of one block at a time
    assert!(
        most > BLOCKS * LAYERS * value && kept > BLOCKS * LAYERS * value,
        "{most} {kept}"
    );
    assert!(
        less < (BLOCKS + 4 * LAYERS) * value,
        "{less} bytes, {} values; {most} without",
        less / value
    );
    assert!(
        kept_less <= (BLOCKS + 1) * value,
        "{kept_less} bytes kept; {kept} without"
    );
    Ok(())
}

#[test]
fn nested_blocks_and_higher_derivatives() -> Result<()> {
    type Shape = for<'g> fn(&'g Graph, Var<'g>) -> Var<'g>;
    let plain: Shape = |_, x| ((x.sin() * x).exp().tanh() * x).cos() + x.powi(3);
    let nested: Shape = |g, x| {
        g.checkpoint(|| {
            let inner = g.checkpoint(|| g.checkpoint(|| x.sin() * x).exp().tanh());
            (inner * x).cos() + x.powi(3)
        })
    };
    let twice: Shape = |g, x| {
        let (a, b) = g.checkpoint(|| ((x.sin() * x).exp(), x.powi(3)));
        g.checkpoint(|| (a.tanh() * x).cos()) + b
    };
    let derivatives = |f: Shape| {
        let g = Graph::new();
        let x = g.input([0.7, -0.3, 1.1]);
        let mut y = f(&g, x);
        let mut all = vec![y];
        for _ in 0..3 {
            [y] = g.grad(y.sum(), &[x]);
            all.push(y);
        }
        all.push(g.jvp(all[1], &[x], &[g.constant([1.0, 2.0, 3.0])]));
        let expected = g.reference(&all)?;
        let got = g.run(all)?;
        assert_eq!(got, expected, "the executor differs from the definition");
        Ok::<_, autograd::Error>(got)
    };
    let expected = derivatives(plain)?;
    for f in [nested, twice] {
        for (got, expected) in derivatives(f)?.iter().zip(&expected) {
            for (a, b) in got.to_f64s().iter().zip(expected.to_f64s()) {
                assert!((a - b).abs() <= 1e-13 * b.abs().max(1.0), "{a} {b}");
            }
        }
    }
    Ok(())
}

/// The copies draw the same random numbers. Parameters are read by the copies before they are
/// updated.
#[test]
fn with_dropout_and_updates() -> Result<()> {
    let step = |checkpointed: bool| -> Result<(Tensor, Tensor)> {
        let w = Param::new(numbers(&[32, 32], 0.1));
        let g = Graph::training(7);
        let v = g.param(&w);
        let x = g.constant(numbers(&[64, 32], 0.2));
        let block = || {
            let h = x.matmul(v).tanh();
            let keep = g.bernoulli(0.7, [64, 32]).cast(DType::F32);
            (h * keep).matmul(v).tanh()
        };
        let y = if checkpointed {
            g.checkpoint(block)
        } else {
            block()
        };
        let loss = y.square().sum();
        let [d] = g.grad(loss, &[v]);
        g.assign(&w, v - 0.1 * d);
        let loss = g.run(loss)?;
        Ok((loss, w.value()))
    };
    assert_eq!(step(true)?, step(false)?);
    Ok(())
}
