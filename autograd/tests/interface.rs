//! The interface as a program uses it: functions of arrays in loops, integers of any type, shapes
//! taken apart, tensors without a graph, messages with the user's own shapes.

use autograd::{
    DType, Error, Graph, Result, Tensor, Var, eval, func, funcs, grad, grads, hessian, hvp,
    jacobian, jvp, value_and_grad, vjp,
};
use ndarray::{Array1, Array2, array, s};

/// One gradient function, of what changes between its calls: a vector that it shares with the loop,
/// other lengths, other types, views.
#[test]
fn a_gradient_is_called_in_loops_with_anything() -> Result<()> {
    let df = grad(|x| x.square().sum());
    let mut w = vec![1.0, -2.0];
    for _ in 0..200 {
        let d = df(&w)?.to_vec::<f64>()?;
        w.iter_mut().zip(d).for_each(|(w, d)| *w -= 0.1 * d);
    }
    assert!(w.iter().all(|w| w.abs() < 1e-12), "{w:?}");
    let mut array: Array2<f32> = array![[1.0, 2.0], [3.0, 4.0]];
    for k in 0..2 {
        let row = df(&array.slice(s![k, ..]))?;
        assert_eq!((row.dtype(), row.shape()), (DType::F32, &[2][..]));
        array.row_mut(k).fill(0.0);
    }
    for n in 0..4 {
        assert_eq!(df(&vec![1.0; n])?.shape(), [n]);
    }
    assert_eq!(df(&3.0)?.scalar()?, 6.0);
    assert_eq!(df(&[1.0, 2.0, 3.0])?.shape(), [3]);
    assert_eq!(df(&[[1.0], [2.0]])?.shape(), [2, 1]);
    assert_eq!(df(&&w[..1])?.shape(), [1]);
    assert_eq!(df(&array.t())?.shape(), [2, 2]);
    assert_eq!(df(&Tensor::from([1.0]))?.shape(), [1]);
    // several arguments of different types and shapes
    let both = grads(|[w, b]| (w.matmul(b) + b.sum()).sum());
    let (weight, bias) = (array![[1.0, 2.0], [3.0, 4.0]], Array1::from(vec![1.0, 1.0]));
    let [dw, db] = both([&weight, &bias])?;
    assert_eq!((dw.shape(), db.to_f64s()), (&[2, 2][..], vec![6.0, 8.0]));
    Ok(())
}

/// Closures with a name serve all functions of functions.
#[test]
fn named_closures_serve_all_transforms() -> Result<()> {
    let f = func(|x| x.powi(3).sum());
    let at = [1.0, 2.0];
    assert_eq!(grad(f)(&at)?.to_f64s(), [3.0, 12.0]);
    assert_eq!(value_and_grad(f)(&at)?.0.scalar()?, 9.0);
    assert_eq!(hessian(f)(&at)?.to_f64s(), [6.0, 0.0, 0.0, 12.0]);
    assert_eq!(jacobian(f)(&at)?.shape(), [2]);
    assert_eq!(hvp(f)(&at, &vec![1.0, 1.0])?.to_f64s(), [6.0, 12.0]);
    assert_eq!(jvp(f)(&at, &[1.0, 0.0])?.1.scalar()?, 3.0);
    assert_eq!(vjp(f)(&at, &2.0)?.1.to_f64s(), [6.0, 24.0]);
    let scale = 2.0;
    let two = funcs(move |[x, y]| scale * x * y);
    assert_eq!(grads(two)([&3.0, &4.0])?[0].scalar()?, 8.0);
    Ok(())
}

/// An argument that cannot be a tensor is an error on this line.
#[test]
fn wrong_arguments_are_errors() {
    let df = grad(|x| x.sum());
    let e = df(&ndarray::ArrayD::<f64>::zeros(vec![1; 9])).expect_err("too many axes");
    assert!(
        e.location()
            .is_some_and(|l| l.file().ends_with("interface.rs")),
        "{e}"
    );
}

/// Every argument that is an axis, a position or a size takes each integer type.
#[test]
fn integers_of_all_types_are_axes_sizes_and_ranges() -> Result<()> {
    let g = Graph::new();
    let x = g.input([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let same = |all: &[Var<'_>]| -> Result<()> {
        let first = all[0].value()?;
        all.iter().try_for_each(|v| {
            assert_eq!(v.value()?, first);
            Ok(())
        })
    };
    macro_rules! all_types {
        ($method:ident $(, $more:expr)*) => {
            same(&[
                x.$method(1usize $(, $more)*), x.$method(1isize $(, $more)*), x.$method(1i32 $(, $more)*),
                x.$method(1i64 $(, $more)*), x.$method(1u32 $(, $more)*), x.$method(1u8 $(, $more)*), x.$method(-1 $(, $more)*),
            ])?
        };
    }
    all_types!(softmax);
    all_types!(log_softmax);
    all_types!(logsumexp);
    all_types!(sum_axis);
    all_types!(prod_axis);
    all_types!(argmax);
    all_types!(argmin);
    all_types!(argsort);
    all_types!(sort);
    all_types!(cumsum);
    all_types!(flip);
    all_types!(flatten_from);
    all_types!(slice, 1..);
    all_types!(slice_step, .., -1);
    all_types!(transpose, 0);
    all_types!(pad, 1, 2, 0.0);
    all_types!(gather, g.constant([[0, 1], [2, 0]]));
    let (n, one) = (3usize, 1u32);
    same(&[
        x.unsqueeze(2usize),
        x.unsqueeze(-1),
        x.reshape([2, n, 1]),
        x.reshape((2, n, -1)),
    ])?;
    same(&[
        x.take(g.constant([0, 1]), 1usize),
        x.slice(1u8, ..2),
        x.slice(1, (0usize, -1)),
    ])?;
    same(&[
        x.slice(1, 1..n),
        x.slice(1, 1..=2i64),
        x.slice(1, one..),
        x.slice(1, -2..),
    ])?;
    same(&[x.repeat(2, 1usize), x.repeat(2, -1)])?;
    same(&[x.tril(0usize), x.tril(0)])?;
    same(&[g.concat(&[x, x], 1usize), x.tile(2, 1i64)])?;
    same(&[
        x.split([1, 2], 1usize)[1],
        x.split([1usize, 2], -1)[1],
        x.slice(1, 1..),
    ])?;
    let too_far = x.slice(usize::MAX, ..);
    assert!(too_far.value().is_err());
    assert!(x.reshape((n, u32::MAX)).value().is_err());
    assert!(x.split([-1, 4], 1).iter().all(|v| v.value().is_err()));
    Ok(())
}

/// `sizes` gives sizes or an error with the line and the shape; `attempt` makes it a sticky error.
#[test]
fn shapes_are_taken_apart_in_one_line() -> Result<()> {
    fn heads<'g>(x: Var<'g>, heads: usize) -> Var<'g> {
        x.graph().attempt(|| {
            let [batch, time, channels] = x.sizes()?;
            Ok(x.reshape((batch, time, heads, channels / heads))
                .transpose(1, 2))
        })
    }
    let g = Graph::new();
    let y = heads(g.zeros([2, 5, 8], DType::F32), 4);
    assert_eq!(y.sizes()?, [2, 4, 5, 2]);
    let wrong = {
        let _scope = g.scope("attention");
        heads(g.zeros([5, 8], DType::F32), 4)
    };
    let e = (wrong * 2.0).sum().value().expect_err("two axes");
    assert_eq!(
        (e.op(), e.message()),
        ("sizes", "expected 3 axes, got 2: f32[5, 8]")
    );
    assert_eq!(e.scope(), "attention");
    assert!(
        e.location()
            .is_some_and(|l| l.file().ends_with("interface.rs")),
        "{e}"
    );
    // an earlier error stays
    let e = heads(g.input(1.0).reshape(7), 4)
        .value()
        .expect_err("reshape");
    assert_eq!(e.op(), "reshape");
    // an error of something else
    let e = g
        .attempt(|| Err(grad(|x| x)(&[1.0, 2.0]).expect_err("no scalar")))
        .value();
    assert!(e.is_err());
    Ok(())
}

/// What is made from numbers has their dtype, in a graph and without.
#[test]
fn sequences_have_the_dtype_of_their_numbers() -> Result<()> {
    let g = Graph::new();
    for (made, expected) in [
        (g.arange(0, 3, 1), Tensor::from([0i64, 1, 2])),
        (g.arange(5usize, 0, 3), Tensor::from(Vec::<i64>::new())),
        (g.arange(5, 0, -2), Tensor::from([5i64, 3, 1])),
        (
            g.arange(i64::MAX - 1, i64::MAX, 1),
            Tensor::from([i64::MAX - 1]),
        ),
        (g.arange(0.0, 1.0, 0.5), Tensor::from([0.0, 0.5])),
        (g.arange(0f32, 1.0, 0.5), Tensor::from([0f32, 0.5])),
        (g.linspace(0f32, 1.0, 3), Tensor::from([0f32, 0.5, 1.0])),
        (g.linspace(0.0, 1.0, 1), Tensor::from([0.0])),
        (g.eye(2, DType::I64), Tensor::from([[1i64, 0], [0, 1]])),
        (g.full(2, 1f32), Tensor::from([1f32, 1.0])),
    ] {
        assert_eq!(made.value()?, expected);
    }
    assert_eq!(Tensor::arange(0, 3, 1)?, Tensor::from([0i64, 1, 2]));
    assert_eq!(
        Tensor::linspace(0.0, 1.0, 3)?,
        Tensor::from([0.0, 0.5, 1.0])
    );
    assert_eq!(Tensor::ones([2], DType::Bool)?, Tensor::from([true, true]));
    assert_eq!(Tensor::eye(1, DType::F32)?, Tensor::from([[1f32]]));
    let errors: [Result<Tensor>; 5] = [
        Tensor::arange(0, 1, 0),
        Tensor::arange(0.0, f64::INFINITY, 1.0),
        Tensor::arange(i64::MIN, i64::MAX, 1),
        Tensor::linspace(0.0, 1.0, usize::MAX),
        Tensor::eye(usize::MAX, DType::F32),
    ];
    for e in errors {
        let e = e.expect_err("cannot be made");
        assert!(
            e.location()
                .is_some_and(|l| l.file().ends_with("interface.rs")),
            "{e}"
        );
    }
    Ok(())
}

#[test]
fn tensors_are_taken_apart_and_computed_with() -> Result<()> {
    let t = Tensor::arange(0, 6, 1)?
        .reshape((2, -1))?
        .cast(DType::F64)?;
    assert_eq!((t.shape(), t.at([1, 2])?.scalar()?), (&[2, 3][..], 5.0));
    assert_eq!(t.at(-1)?.to_vec::<f64>()?, [3.0, 4.0, 5.0]);
    let none: [usize; 0] = [];
    assert_eq!(t.at(none)?, t);
    let sums: Vec<f64> = t.iter_rows()?.map(|r| r.to_f64s().iter().sum()).collect();
    assert_eq!(sums, [3.0, 12.0]);
    assert_eq!(Tensor::zeros([0, 2], DType::F32)?.iter_rows()?.len(), 0);
    assert_eq!((&t + &t)?, (&t * 2.0)?);
    assert_eq!((2.0 * &t)?, (&t * 2)?);
    assert_eq!((1.0 - &t)?, (&(-&t)? + 1usize)?);
    assert_eq!((t.clone() / t.at([0, 2])?)?.at([0, 1])?.scalar()?, 0.5);
    assert_eq!(eval([&t], |[t]| t.sum_axis(0).exp().ln())?.shape(), [3]);
    let errors: [(&str, Result<Tensor>); 8] = [
        ("at", t.at([2, 0])),
        ("at", t.at([0, 0, 0])),
        ("at", t.at(isize::MIN)),
        ("reshape", t.reshape([4, 2])),
        ("reshape", t.reshape([4, -1])),
        ("add", &t + &Tensor::from([1.0, 2.0])),
        ("mul", &t * Tensor::from([1f32, 2.0, 3.0])),
        ("matmul", eval([&t, &t], |[a, b]| a.matmul(b))),
    ];
    for (op, e) in errors {
        let e: Error = e.expect_err(op);
        assert_eq!(e.op(), op, "{e}");
        assert!(
            e.location()
                .is_some_and(|l| l.file().ends_with("interface.rs")),
            "{e}"
        );
    }
    assert!(Tensor::from(1.0).iter_rows().is_err());
    assert!(t.to_vec::<f32>().is_err());
    // the arrays of the version of ndarray that the crate uses
    assert_eq!(autograd::ndarray::arr1(&[1.0]).len(), 1);
    Ok(())
}

/// Products with vectors are told with the shapes that were given.
#[test]
fn messages_show_the_shapes_that_were_given() {
    let g = Graph::new();
    let (m, v) = (
        g.input([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        g.input([1.0, 2.0]),
    );
    let text = |v: Var<'_>| v.value().expect_err("does not fit").to_string();
    let e = text(m.matmul(v));
    assert!(
        e.contains("3 columns on the left, 2 elements on the right"),
        "{e}"
    );
    assert!(e.contains("inputs: f64[2, 3], f64[2]\n"), "{e}");
    assert!(e.contains("perhaps the matrix needs .t()"), "{e}");
    let e = text(v.matmul(g.input([1.0, 2.0, 3.0])));
    assert!(
        e.contains("2 elements on the left, 3 elements on the right"),
        "{e}"
    );
    assert!(!e.contains("hint"), "{e}");
    let e = text(v.matmul(m.cast(DType::F32)));
    assert!(e.contains("inputs: f64[2], f32[2, 3]\n"), "{e}");
    let e = text(v.matmul(g.input(1.0)));
    assert!(e.contains("inputs: f64[2], f64[]\n"), "{e}");
    let e = text(v.fail("expected something else"));
    assert!(e.starts_with("expected something else, got f64[2]"), "{e}");
    let e = text(v.fail_as("my_layer", "expected something else"));
    assert!(
        e.starts_with("my_layer: expected something else, got f64[2]"),
        "{e}"
    );
}

/// A brute-force sum over all letters.
fn by_loops(letters: &str, x: &[Tensor]) -> Vec<f64> {
    let (left, out) = letters.split_once("->").expect("an arrow");
    let parts: Vec<Vec<char>> = left.split(',').map(|p| p.chars().collect()).collect();
    let mut sizes: Vec<(char, usize)> = Vec::new();
    let out: Vec<char> = out.chars().collect();
    for c in out.iter().chain(parts.iter().flatten()) {
        if !sizes.iter().any(|(other, _)| other == c) {
            let of =
                |(p, x): (&Vec<char>, &Tensor)| p.iter().position(|o| o == c).map(|k| x.shape()[k]);
            let size = parts.iter().zip(x).find_map(of).expect("a size");
            sizes.push((*c, size));
        }
    }
    let outer: usize = sizes[..out.len()].iter().map(|s| s.1).product();
    let all: usize = sizes.iter().map(|s| s.1).product();
    let mut sums = vec![0.0; outer];
    for at in 0..all {
        let mut rest = at;
        let mut index: Vec<(char, usize)> = Vec::new();
        for &(c, n) in sizes.iter().rev() {
            index.push((c, rest % n));
            rest /= n;
        }
        let of = |c: &char| {
            index
                .iter()
                .find(|(other, _)| other == c)
                .expect("a letter")
                .1
        };
        let element = |(p, x): (&Vec<char>, &Tensor)| {
            let position = p.iter().zip(x.shape()).fold(0, |at, (c, n)| at * n + of(c));
            x.to_f64s()[position]
        };
        let place = out
            .iter()
            .zip(&sizes)
            .fold(0, |at, (c, s)| at * s.1 + of(c));
        sums[place] += parts.iter().zip(x).map(element).product::<f64>();
    }
    sums
}

#[test]
fn einsum_agrees_with_loops() -> Result<()> {
    let numbers = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        Tensor::new(
            shape,
            (0..count)
                .map(|k| ((k + count) as f64 * 0.7).sin())
                .collect(),
        )
    };
    for (letters, shapes) in [
        ("ii->i", vec![vec![3, 3]]),
        ("ii->", vec![vec![3, 3]]),
        ("iji->j", vec![vec![3, 2, 3]]),
        ("iiki->ik", vec![vec![2, 2, 3, 2]]),
        ("iij,j->i", vec![vec![3, 3, 2], vec![2]]),
        ("i,j->ij", vec![vec![2], vec![3]]),
        ("ij,ij->ij", vec![vec![2, 3], vec![2, 3]]),
        ("ij,ij->ji", vec![vec![2, 3], vec![2, 3]]),
        ("i,i,i->i", vec![vec![3], vec![3], vec![3]]),
        ("i,i,i->", vec![vec![3], vec![3], vec![3]]),
        ("ij,jk,kl->il", vec![vec![4, 2], vec![2, 5], vec![5, 3]]),
        (
            "ij,jk,kl,lm->im",
            vec![vec![2, 3], vec![3, 4], vec![4, 2], vec![2, 3]],
        ),
        ("bij,bjk,b->ik", vec![vec![2, 3, 2], vec![2, 2, 4], vec![2]]),
        ("ij,kj,lj->ikl", vec![vec![2, 3], vec![2, 3], vec![4, 3]]),
        ("ij,kl->", vec![vec![2, 3], vec![2, 2]]),
    ] {
        let x: Vec<Tensor> = shapes.iter().map(|s| numbers(s)).collect::<Result<_>>()?;
        let g = Graph::new();
        let vars: Vec<Var<'_>> = x.iter().map(|x| g.input(x)).collect();
        let found = g.einsum(letters, &vars).value()?.to_f64s();
        let expected = by_loops(letters, &x);
        assert_eq!(found.len(), expected.len(), "{letters}");
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
        assert!(
            found.iter().zip(&expected).all(close),
            "{letters}: {found:?} {expected:?}"
        );
        autograd::check_grads(|x| g_einsum(letters, x).square().sum(), &x)?;
    }
    Ok(())
}

fn g_einsum<'g>(letters: &str, x: &[Var<'g>]) -> Var<'g> {
    x[0].graph().einsum(letters, x)
}

#[test]
fn einsum_knows_dots_and_implied_results() -> Result<()> {
    let g = Graph::new();
    let a = g.constant(Tensor::arange(0.0, 24.0, 1.0)?.reshape([2, 3, 4])?);
    let b = g.constant(Tensor::arange(0.0, 8.0, 1.0)?.reshape([4, 2])?);
    let same = |x: Var<'_>, y: Var<'_>| -> Result<()> {
        assert_eq!(x.value()?, y.value()?);
        Ok(())
    };
    same(g.einsum("...ij,jk->...ik", &[a, b]), a.matmul(b))?;
    same(g.einsum("...j,jk", &[a, b]), a.matmul(b))?;
    same(g.einsum("i...->...i", &[a]), a.permute([1, 2, 0]))?;
    same(g.einsum("...ij->...ji", &[a]), a.t())?;
    same(g.einsum("...->...", &[a]), a)?;
    same(g.einsum("ij...->", &[a]), a.sum())?;
    same(g.einsum("ba", &[b]), b.t())?;
    // of `...`, axes of size 1 broadcast, and missing ones
    let ones = a.slice(1, ..1);
    same(g.einsum("...,...->...", &[a, ones]), a * ones)?;
    same(
        g.einsum("...,...", &[a, a.slice(0, ..1).squeeze(0)]),
        a * a.slice(0, ..1),
    )?;
    // integers, if nothing is multiplied
    same(
        g.einsum("ij->ji", &[g.constant([[1, 2], [3, 4]])]),
        g.constant([[1, 3], [2, 4]]),
    )?;
    for (letters, x, message) in [
        (
            "ij,jk->ik",
            vec![a, b],
            "2 letters for the axes of [2, 3, 4]",
        ),
        (
            "ijk,ki->z",
            vec![a, b],
            "'z' is in the result, but in no operand",
        ),
        ("ijk,jl->l", vec![a, b], "'j' has sizes 3 and 4"),
        ("iij->i", vec![a], "'i' has sizes 2 and 3"),
        ("ij->iji", vec![b], "'i' is twice in the result"),
        ("i.j->i", vec![b], "'.' is not a letter"),
        ("......->", vec![b], "\"......\" has \"...\" twice"),
        (
            "ij,jk->ik",
            vec![b],
            "\"ij,jk->ik\" is for 2 operands, there are 1",
        ),
        (
            "ij...->ij",
            vec![g.constant(1.0)],
            "2 letters for the axes of []",
        ),
        (
            "...i,...j",
            vec![a, b.reshape([2, 4])],
            "axis -1 of \"...\" has sizes 3 and 2",
        ),
    ] {
        let e = g.einsum(letters, &x).value().expect_err(letters);
        assert_eq!(e.message(), message, "{letters}");
    }
    Ok(())
}

/// The order of contraction: a chain that is cheap from the right is not computed from the left.
#[test]
fn einsum_contracts_the_cheapest_pair_first() -> Result<()> {
    let g = Graph::new();
    let big = g.constant(Tensor::full([400, 400], 1e-3)?);
    let v = g.constant(Tensor::full([400], 1.0)?);
    let y = g.einsum("ij,jk,kl,l->i", &[big, big, big, v]);
    // three products of a matrix with a vector, not two of matrices
    assert!(
        g.plan(y)?.flops() < 4 * 3 * 400 * 400,
        "{}",
        g.plan(y)?.flops()
    );
    Ok(())
}
