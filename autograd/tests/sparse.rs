//! Sparse derivatives against dense ones and against products; caching of the structure.

use autograd::{
    DType, Dependency, Graph, Op, OpError, Result, Rule, Sparse, Tensor, TensorView, TensorViewMut,
    Type, Var,
};
use autograd::{hessian, jacobian, jvp, sparse_hessian, sparse_jacobian};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::cell::Cell;

fn function<F: for<'g> Fn(Var<'g>) -> Var<'g>>(f: F) -> F {
    f
}

fn vector(n: usize, seed: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| random.random_range(0.1..1.5)).collect()
}

/// The sparse matrix equals the dense one at two arguments, which is 0 outside of the pattern.
fn agrees(f: impl for<'g> Fn(Var<'g>) -> Var<'g>, n: usize) -> Result<(usize, usize)> {
    let sparse = sparse_jacobian(&f);
    let mut matrix = sparse.call::<f64>(vector(n, 1))?;
    for seed in [1, 2] {
        let x = vector(n, seed);
        sparse.update(x.clone(), &mut matrix)?;
        let dense = jacobian(&f)(&x)?;
        let (rows, columns) = matrix.shape();
        assert_eq!(dense.shape(), [rows, columns]);
        let pattern = &sparse.structure(x.clone())?.pattern;
        for (k, &d) in dense.to_f64s().iter().enumerate() {
            let (row, column) = (k / columns, k % columns);
            let own = matrix.get(row, column).copied().unwrap_or(0.0);
            assert!(
                (d - own).abs() <= 1e-12 * d.abs().max(1.0),
                "{row}, {column}: {own}, dense {d}\n{pattern}"
            );
            assert!(d == 0.0 || pattern.contains(row, column));
        }
        let direction = vector(columns, seed + 10);
        let (_, product) = jvp(&f)(&x, &direction)?;
        for (row, p) in product.to_f64s().into_iter().enumerate() {
            let own: f64 = matrix
                .outer_view(row)
                .map_or(0.0, |r| r.iter().map(|(c, v)| v * direction[c]).sum());
            assert!(
                (p - own).abs() < 1e-10 * p.abs().max(1.0),
                "row {row}: {own}, product {p}"
            );
        }
    }
    let structure = sparse.structure(vector(n, 1))?;
    Ok((matrix.nnz(), structure.coloring.count))
}

/// Messages show lines of this file, also for a function that is given by its name.
#[test]
fn errors_point_at_lines_of_the_user() {
    let x = [1.0, 2.0];
    fn no_vector(x: Var<'_>) -> Var<'_> {
        x.sum()
    }
    let f: for<'g> fn(Var<'g>) -> Var<'g> = no_vector;
    let mine = |e: autograd::Error| {
        assert!(
            e.location()
                .is_some_and(|l| l.file().ends_with("sparse.rs")),
            "{e}"
        );
    };
    mine(
        autograd::sparse_jacobian(f)
            .call::<f64>(x)
            .expect_err("a scalar"),
    );
    mine(
        autograd::sparse_jacobian(|x| [x].map(Var::t)[0])
            .call::<f64>(x)
            .expect_err("a vector"),
    );
    mine(
        autograd::sparse_hessian(|x| x)
            .call::<f64>(x)
            .expect_err("a vector"),
    );
    mine(
        autograd::sparse_hessian(|x| x.sum())
            .structure([[1.0]])
            .map(drop)
            .expect_err("a matrix"),
    );
}

#[test]
fn each_kind_of_dependency() -> Result<()> {
    let four = |f: &dyn for<'g> Fn(Var<'g>) -> Var<'g>| agrees(f, 4);
    // elementwise, with broadcasts
    assert_eq!(four(&|x| x.sin() * x + 2.0)?, (4, 1));
    assert_eq!(four(&|x| (x.reshape([4, 1]) * x).flatten())?, (28, 4));
    assert_eq!(four(&|x| x.detach() * 2.0)?, (0, 0));
    assert_eq!(four(&|x| x.gt(0.5).select(x, x.flip(0)))?, (8, 2));
    // layout
    assert_eq!(four(&|x| x.reshape([2, 2]).t().flatten())?, (4, 1));
    assert_eq!(four(&|x| x.slice_step(0, .., -1).slice(0, 1..))?, (3, 1));
    assert_eq!(
        four(&|x| x.graph().concat(&[x, x.exp(), x.slice(0, 0..1)], 0))?,
        (9, 1)
    );
    assert_eq!(four(&|x| x.pad(0, 2, 1, 0.0))?, (4, 1));
    // reductions: over all axes, over one axis
    assert_eq!(four(&|x| x.sum().unsqueeze(0))?, (4, 1));
    assert_eq!(four(&|x| x.reshape([2, 2]).max_axis(1))?, (4, 1));
    assert_eq!(four(&|x| x.reshape([2, 2]).softmax(1).flatten())?, (8, 2));
    assert_eq!(four(&|x| x.reshape([2, 2]).logsumexp(0) * 2.0)?, (4, 1));
    assert_eq!(four(&|x| x.cumsum(0))?, (16, 4));
    assert_eq!(
        four(&|x| x.reshape([2, 2]).cross_entropy(x.graph().constant([1, 0])))?,
        (4, 1)
    );
    // constant positions, and positions that depend on values
    assert_eq!(four(&|x| x.take(x.graph().constant([3, 0, 0]), 0))?, (3, 1));
    assert_eq!(four(&|x| x.sort(0))?, (16, 4));
    assert_eq!(
        four(&|x| x.gather(0, x.graph().constant([1, 1, 2])).exp())?,
        (3, 1)
    );
    // added at positions
    assert_eq!(
        four(&|x| x.graph().zeros([6], DType::F64).scatter_add(
            0,
            x.graph().constant([5, 0, 5, 1]),
            x
        ))?,
        (4, 1)
    );
    // products
    assert_eq!(
        four(&|x| x.reshape([2, 2]).matmul(x.reshape([2, 2])).flatten())?.0,
        12
    );
    Ok(())
}

#[test]
fn zeros_of_constants_are_used() -> Result<()> {
    let n = 12;
    let mut band = vec![0.0; n * n];
    (0..n).for_each(|i| {
        (i.saturating_sub(1)..(i + 2).min(n)).for_each(|j| band[i * n + j] = 1.0 + (i * j) as f64)
    });
    let band = Tensor::new([n, n], band)?;
    assert_eq!(
        agrees(|x| x.graph().constant(&band).matmul(x).sin(), n)?,
        (3 * n - 2, 3)
    );
    assert_eq!(
        agrees(|x| x.matmul(x.graph().constant(&band)), n)?,
        (3 * n - 2, 3)
    );
    assert_eq!(
        agrees(|x| (x.graph().constant(&band) * x).sum_axis(1), n)?,
        (3 * n - 2, 3)
    );
    let mask: Vec<f64> = (0..n).map(|k| (k % 2) as f64).collect();
    assert_eq!(
        agrees(|x| x * x.graph().constant(mask.clone()), n)?,
        (n / 2, 1)
    );
    let choice: Vec<bool> = (0..n).map(|k| k < 3).collect();
    let pick = function(|x| x.graph().constant(choice.clone()).select(x.exp(), x.sum()));
    assert_eq!(agrees(pick, n)?.0, 3 + 9 * n);
    assert_eq!(agrees(|x| x.diag().sum_axis(0), n)?, (n, 1));
    assert_eq!(agrees(|x| x.reshape([3, 4]).tril(0).flatten(), n)?, (6, 1));
    Ok(())
}

#[test]
fn a_structure_is_cached_and_recomputed_when_a_constant_changes() -> Result<()> {
    let (mask, traced) = (Cell::new([1.0, 0.0, 1.0]), Cell::new(0));
    let rate = Cell::new(2.0);
    let f = sparse_jacobian(|x: Var<'_>| {
        traced.set(traced.get() + 1);
        x.exp() * x.graph().constant(mask.get()) * rate.get() * x.graph().constant(rate.get())
    });
    let x = [0.0, 0.5, 1.0];
    let first = f.structure(x)?;
    assert_eq!(first.pattern.nnz(), 2);
    // another argument, another rate: the same structure
    rate.set(3.0);
    assert!(std::sync::Arc::ptr_eq(
        &first,
        &f.structure([5.0, 5.0, 5.0])?
    ));
    assert_eq!(f.call::<f64>(x)?.get(0, 0), Some(&9.0));
    // zeros at other positions: another structure
    mask.set([0.0, 2.0, 0.0]);
    let second = f.structure(x)?;
    assert_eq!(
        (second.pattern.nnz(), second.pattern.contains(1, 1)),
        (1, true)
    );
    assert_eq!(f.call::<f64>(x)?.get(1, 1), Some(&(18.0 * 0.5f64.exp())));
    // the older matrix now has another pattern
    let mut old = f.call::<f64>(x)?;
    mask.set([1.0, 1.0, 1.0]);
    assert!(
        f.update(x, &mut old)
            .is_err_and(|e| e.message().contains("does not have the pattern"))
    );
    assert_eq!(f.call::<f64>(x)?.nnz(), 3);
    Ok(())
}

#[test]
fn empty_rows_and_columns_at_the_ends() -> Result<()> {
    let f = function(|x| {
        let g = x.graph();
        let zeros = g.zeros([2], DType::F64);
        g.concat(&[zeros, x.slice(0, 2..5).exp(), zeros], 0)
    });
    assert_eq!(agrees(f, 8)?, (3, 1));
    let matrix = sparse_jacobian(f).call::<f64>(vector(8, 1))?;
    assert_eq!(matrix.shape(), (7, 8));
    assert!(
        matrix.outer_view(6).is_some_and(|row| row.nnz() == 0)
            && matrix.outer_view(0).is_some_and(|r| r.nnz() == 0)
    );
    // an empty matrix
    assert_eq!(agrees(|x| x.slice(0, 0..0), 3)?, (0, 0));
    assert_eq!(agrees(|x| x.exp(), 0)?, (0, 0));
    assert_eq!(agrees(|x| x.graph().ones([2], DType::F64), 3)?, (0, 0));
    Ok(())
}

#[test]
fn rows_are_coloured_if_that_takes_fewer_colours() -> Result<()> {
    // one dense row: all columns would need different colours
    let f = function(|x| {
        x.graph()
            .concat(&[x.sum().unsqueeze(0), x.slice(0, ..-1).exp()], 0)
    });
    let n = 30;
    assert_eq!(agrees(f, n)?, (2 * n - 1, 2));
    let structure = sparse_jacobian(f).structure(vector(n, 1))?;
    assert!(structure.coloring.by_rows, "{structure}");
    let text = structure.to_string();
    assert!(
        text.starts_with("30 x 30, 59 nonzeros (6.556 %), 2 colours of rows\naaaa"),
        "{text}"
    );
    assert_eq!(text.lines().nth(2), Some(&*format!("b{}", "·".repeat(29))));
    Ok(())
}

#[test]
fn hessians() -> Result<()> {
    let check = |f: &dyn for<'g> Fn(Var<'g>) -> Var<'g>, n: usize| -> Result<(usize, usize)> {
        let sparse = sparse_hessian(f);
        let x = vector(n, 3);
        let (matrix, dense) = (sparse.call::<f64>(x.clone())?, hessian(f)(&x)?);
        for (k, &d) in dense.to_f64s().iter().enumerate() {
            let own = matrix.get(k / n, k % n).copied().unwrap_or(0.0);
            assert!(
                (d - own).abs() < 1e-10 * d.abs().max(1.0),
                "{}, {}: {own}, dense {d}",
                k / n,
                k % n
            );
        }
        Ok((matrix.nnz(), sparse.structure(x)?.coloring.count))
    };
    assert_eq!(check(&|x| x.powi(3).sum(), 9)?, (9, 1));
    assert_eq!(
        check(&|x| (x.slice(0, ..-1) * x.slice(0, 1..).exp()).sum(), 9)?,
        (24, 3)
    );
    assert_eq!(check(&|x| x.square().sum().square(), 5)?, (25, 5));
    assert_eq!(check(&|x| x.sum(), 5)?.0, 0);
    // a grid: each element depends on five neighbours
    let (nnz, colors) = check(
        &|x| {
            let x = x.reshape([6, 6]);
            let (down, right) = (
                x.slice(0, 1..) - x.slice(0, ..-1),
                x.slice(1, 1..) - x.slice(1, ..-1),
            );
            down.powi(4).sum() + right.powi(4).sum()
        },
        36,
    )?;
    assert_eq!(nnz, 36 + 4 * 30);
    assert!((5..=8).contains(&colors), "{colors}");
    Ok(())
}

/// A random vector program from a seed.
fn random_program<'g>(x: Var<'g>, seed: u64) -> Var<'g> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let g = x.graph();
    let mut pool = vec![x];
    for _ in 0..random.random_range(3..9) {
        let mut any = || pool[random.random_range(0..pool.len())];
        let (a, b) = (any(), any());
        let n = a.shape().map_or(1, |s| s.count());
        let made = match random.random_range(0..14) {
            0 => a.sin(),
            1 => a.square() + 1.0,
            2 => a.slice(0, ..(1 + n as isize) / 2),
            3 => a.flip(0),
            4 => g.concat(&[a, b], 0),
            5 => a.slice_step(0, .., 2),
            6 => {
                a * g.constant(
                    (0..n)
                        .map(|k| f64::from(u8::from(k % 3 != 0)))
                        .collect::<Vec<_>>(),
                )
            }
            7 => {
                let m: Vec<f64> = (0..3 * n)
                    .map(|k| if (k * 7 + n) % 4 == 0 { 0.5 } else { 0.0 })
                    .collect();
                g.constant(m).reshape([3, n as isize]).matmul(a)
            }
            8 => a.take(
                g.constant((0..5).map(|k| k * 3 % n as i64).collect::<Vec<_>>()),
                0,
            ),
            9 => a * a.slice(0, 0..1),
            10 => a.tanh().sum().unsqueeze(0),
            11 => {
                let to: Vec<i64> = (0..n as i64).map(|k| k * 5 % 7).collect();
                g.zeros([7], DType::F64).scatter_add(0, g.constant(to), a)
            }
            12 => a.pad(0, 1, 2, 0.0),
            _ if n % 2 == 0 => a.reshape([2, n as isize / 2]).t().flatten(),
            _ => a.cumsum(0),
        };
        if made.shape().is_ok_and(|s| (1..60).contains(&s.count())) {
            pool.push(made);
        }
    }
    g.concat(&pool[pool.len().saturating_sub(2)..], 0)
}

#[test]
fn random_programs_agree_with_dense_jacobians() -> Result<()> {
    for seed in 0..150 {
        let n = 1 + seed as usize % 9;
        let g = Graph::new();
        random_program(g.input(vector(n, 1)), seed);
        println!("seed {seed}\n{}", g.to_text()); // shown if it fails
        agrees(|x| random_program(x, seed), n)?;
    }
    Ok(())
}

/// An op without a declared dependency.
#[derive(Clone, PartialEq, Debug)]
struct Unknown;

impl Op for Unknown {
    const NAME: &'static str = "unknown";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        out.slice::<f64>()?.copy_from_slice(x[0].slice::<f64>()?);
        Ok(())
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct)
    }
}

#[test]
fn an_op_without_dependency_is_dense() -> Result<()> {
    assert_eq!(agrees(|x| x.slice(0, 1..).apply(Unknown), 5)?, (16, 4));
    assert_eq!(
        agrees(|x| x.custom_vjp(&[x], |_, r| Some(r.ct * 2.0)), 3)?,
        (9, 3)
    );
    Ok(())
}

#[test]
fn mistakes_have_clear_messages() {
    let message = |e: autograd::Error| format!("{}: {}", e.op(), e.message());
    let j = sparse_jacobian(|x| x * 2.0);
    assert_eq!(
        message(j.call::<f64>(1.0).unwrap_err()),
        "sparse_jacobian: expected a vector of floats, got f64[]"
    );
    assert_eq!(
        message(j.call::<f64>([[1.0]]).unwrap_err()),
        "sparse_jacobian: expected a vector of floats, got f64[1, 1]"
    );
    assert_eq!(
        message(j.structure([1, 2]).unwrap_err()),
        "sparse_jacobian: expected a vector of floats, got i64[2]"
    );
    assert_eq!(
        message(j.call::<f32>([1.0]).unwrap_err()),
        "sparse_jacobian: the matrix is f64, not f32"
    );
    assert_eq!(
        j.call::<f32>([1.0f32]).map(|m| m.data().to_vec()).ok(),
        Some(vec![2.0])
    );
    let number = sparse_jacobian(|x| x.sum()).call::<f64>([1.0]).unwrap_err();
    assert_eq!(
        message(number),
        "sparse_jacobian: expected a function that returns a vector of floats, got f64[]"
    );
    let vector = sparse_hessian(|x| x.exp())
        .call::<f64>([1.0, 2.0])
        .unwrap_err();
    assert!(message(vector).contains("expected a scalar"));
    let wrong = sparse_jacobian(|x| x + x.graph().constant([1.0, 2.0, 3.0]))
        .call::<f64>([1.0, 2.0])
        .unwrap_err();
    assert_eq!(wrong.op(), "add");
    let panics = sparse_jacobian(|_| panic!("on purpose"))
        .call::<f64>([1.0])
        .unwrap_err();
    assert!(panics.message().contains("on purpose"));
    // everything depends on everything: 10^10 nonzeros
    let dense: Sparse<_> = sparse_jacobian(|x| x * x.sum());
    let e = dense.structure(vec![1.0; 100_000]).unwrap_err();
    assert!(
        e.message().contains("it is not sparse") && e.location().is_some(),
        "{e}"
    );
}

/// Its first `n` elements, repeated; declares whatever dependency it is given.
#[derive(Clone, PartialEq, Debug)]
struct Declares(Dependency, usize);

impl Op for Declares {
    const NAME: &'static str = "says";
    fn infer(&self, _: &[Type]) -> Result<Type, OpError> {
        Ok(Type::new(DType::F64, autograd::Shape::new(&[self.1])?))
    }
    fn eval(&self, x: &[TensorView], mut out: TensorViewMut) -> Result<(), OpError> {
        let x = x[0].slice::<f64>()?;
        out.slice::<f64>()?
            .iter_mut()
            .enumerate()
            .for_each(|(k, out)| *out = x[k % x.len()]);
        Ok(())
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct.sum() * r.x[0].ones_like() * 1e9)
    }
    fn dependency(&self, input: usize, _: &[Type]) -> Dependency {
        assert!(self.1 != 8, "on purpose");
        if input == 0 { self.0 } else { Dependency::None }
    }
}

#[test]
fn a_wrong_dependency_is_an_error() {
    use Dependency::*;
    let lies = [Dense, Elementwise, None, Moved, Scattered, Product]
        .into_iter()
        .chain((0..=u8::MAX).flat_map(|axes| [Reduced { axes }, Along { axes }]));
    let mut refused = 0;
    for lie in lies {
        for size in [1, 3, 5, 8] {
            let told = std::panic::catch_unwind(|| {
                sparse_jacobian(move |x| x.apply(Declares(lie, size)) * 2.0)
                    .call::<f64>(vec![1.0; 3])
            });
            refused += usize::from(
                told.unwrap_or_else(|_| panic!("{lie:?} of {size} panicked"))
                    .is_err(),
            );
        }
    }
    assert!(refused > 300, "{refused}");
}
