//! Epilogues: ops on the elements of a matrix product run in the product's kernel, some rows at a
//! time. They must give the bits of the definition, for all sizes and memory layouts, also if other
//! ops read the product.

mod common;

use autograd::{Graph, Param, Result, Tensor, Var};
use common::numbers;

/// A product of these sizes, with operands for the ops that follow it.
struct Case<'g> {
    g: &'g Graph,
    /// `[m, k]` and `[k, n]`
    x: Var<'g>,
    w: Var<'g>,
    bias: Var<'g>,
    labels: Var<'g>,
}

impl<'g> Case<'g> {
    fn new(g: &'g Graph, [m, k, n]: [usize; 3], transposed: bool) -> Case<'g> {
        let matrix = |rows: usize, columns: usize, seed: f64| match transposed {
            true => g.input(numbers(&[columns, rows], seed)).t(),
            false => g.input(numbers(&[rows, columns], seed)),
        };
        let labels = (0..m as i64)
            .map(|i| i * 7 % n.max(1) as i64)
            .collect::<Vec<_>>();
        let (x, w, bias) = (
            matrix(m, k, 0.1),
            matrix(k, n, 0.2),
            g.input(numbers(&[n], 0.3)),
        );
        Case {
            g,
            x,
            w,
            bias,
            labels: g.constant(labels),
        }
    }

    fn with_gradients(&self, y: Var<'g>) -> Vec<Var<'g>> {
        [
            vec![y],
            self.g.grads((y * y).sum(), &[self.x, self.w, self.bias]),
        ]
        .concat()
    }
}

type Follow = for<'g> fn(&Case<'g>, Var<'g>) -> Vec<Var<'g>>;

/// Ops that follow a product `z = x·w`.
const FOLLOWERS: [(&str, Follow); 13] = [
    ("bias and relu", |c, z| {
        c.with_gradients((z + c.bias).relu())
    }),
    ("bias and tanh", |c, z| {
        c.with_gradients((z + c.bias).tanh())
    }),
    ("used twice", |c, z| c.with_gradients(z * z.sigmoid())),
    ("handed out as well", |c, z| vec![z, (z + c.bias).relu()]),
    ("read by others too", |_, z| {
        vec![z.sin(), z.t().exp(), z.sum_axis(0), z.matmul(z.t())]
    }),
    ("sum of all", |c, z| c.with_gradients(z.sigmoid().sum())),
    ("sums of columns", |c, z| {
        c.with_gradients((z + c.bias).sum_axis(0))
    }),
    ("sums of rows", |c, z| {
        c.with_gradients((z * c.bias).sum_axis(1))
    }),
    ("softmax", |c, z| c.with_gradients((z + c.bias).softmax(-1))),
    ("cross-entropy", |c, z| {
        c.with_gradients((z + c.bias).cross_entropy(c.labels).mean())
    }),
    ("mask", |c, z| {
        vec![z.gt(c.bias), z.gt(0.0).select(z, c.bias)]
    }),
    ("two products", |c, z| {
        c.with_gradients((z + (c.x * 0.5f32).matmul(c.w + 0.1f32) + c.bias).relu())
    }),
    ("reshaped", |_, z| {
        let count = z.shape().map_or(0, |s| s.count());
        vec![
            z.reshape([count]).exp(),
            (z * 2.0f32).reshape([1, count]).tanh(),
        ]
    }),
];

fn check(what: &str, got: &[Tensor], expected: &[Tensor]) {
    for (k, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.shape(), expected.shape(), "{what}");
        let largest = expected
            .to_f64s()
            .into_iter()
            .fold(1.0, |most: f64, b| most.max(b.abs()));
        for (a, b) in got.to_f64s().into_iter().zip(expected.to_f64s()) {
            let near = !common::exact_products() && (a - b).abs() <= 1e-4 * largest;
            assert!(
                a.to_bits() == b.to_bits() || near || a.is_nan() && b.is_nan(),
                "{what}: value {k}: got {a}, expected {b}"
            );
        }
    }
}

fn sizes() -> Vec<[usize; 3]> {
    let mut all: Vec<[usize; 3]> = (0..5 * 3 * 6)
        .map(|i| {
            [
                [0, 1, 7, 8, 33][i % 5],
                [0, 1, 6][i / 5 % 3],
                [0, 1, 5, 16, 31, 40][i / 15],
            ]
        })
        .collect();
    // more rows than are processed together; lines that do not fit blocks; rows longer than a block
    all.extend([
        [200, 40, 300],
        [1000, 33, 7],
        [2100, 5, 1],
        [20, 300, 513],
        [9, 20, 1500],
        [130, 600, 30],
    ]);
    // sums of several blocks of `k`, and of several groups of blocks
    all.extend([[70, 257, 9], [9, 8200, 3]]);
    all
}

#[test]
fn epilogues_have_the_bits_of_the_definition() -> Result<()> {
    for size in sizes() {
        for (name, follow) in FOLLOWERS {
            if size[2] == 0 && name == "cross-entropy" {
                continue; // no classes, so there is no valid label
            }
            for transposed in [false, true] {
                let g = Graph::new();
                let case = Case::new(&g, size, transposed);
                let wanted = follow(&case, case.x.matmul(case.w));
                let expected = g.reference(&wanted)?;
                check(
                    &format!("{name} of {size:?}, transposed: {transposed}"),
                    &g.run(wanted)?,
                    &expected,
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_batch_with_one_second_matrix_is_one_product() -> Result<()> {
    let g = Graph::new();
    let (x, w) = (
        g.input(numbers(&[3, 5, 20, 6], 0.1)),
        g.input(numbers(&[6, 9], 0.2)),
    );
    let y = (x.matmul(w) + g.input(numbers(&[9], 0.3))).relu();
    assert_eq!(g.plan(y)?.kernels().len(), 1);
    let wanted = vec![y, g.grads(y.sum(), &[w])[0]];
    let expected = g.reference(&wanted)?;
    check("a batch", &g.run(wanted)?, &expected);
    Ok(())
}

/// The kernel that computes the gradient also writes the update: requesting the gradient must not
/// change its bits.
#[test]
fn updates_have_the_same_bits_if_the_gradient_is_requested() -> Result<()> {
    let step = |ask: bool| -> Result<Tensor> {
        let w = Param::new(numbers(&[700, 90], 0.4));
        let g = Graph::new();
        let v = g.param(&w);
        let loss = g
            .constant(numbers(&[50, 700], 0.5))
            .matmul(v)
            .tanh()
            .square()
            .mean();
        let [d] = g.grad(loss, &[v]);
        g.assign(&w, v - 0.3 * d);
        let kernels = g
            .plan(loss)?
            .kernels()
            .iter()
            .filter(|k| k.commit)
            .map(|k| k.ops.clone())
            .collect::<Vec<_>>();
        assert!(
            kernels.iter().any(|ops| ops[0].0 == "matmul"),
            "{kernels:?}"
        );
        if ask {
            drop(g.run((loss, d))?)
        } else {
            drop(g.run(loss)?)
        };
        Ok(w.value())
    };
    assert_eq!(step(true)?, step(false)?);
    Ok(())
}

/// A product that reads the parameter it updates must see the old value until its last row.
#[test]
fn an_update_with_a_product_of_the_parameter_itself() -> Result<()> {
    for n in [3, 40, 130] {
        let w = Param::new(numbers(&[n, n], 0.6));
        let g = Graph::new();
        let v = g.param(&w);
        let new = v - 0.1 * v.matmul(v);
        g.assign(&w, new);
        let expected = g.reference(&[new])?;
        g.run(())?;
        check("w - w·w/10", &[w.value()], &expected);
    }
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}
