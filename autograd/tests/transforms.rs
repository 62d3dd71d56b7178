//! Transformations of functions: products with Jacobians and Hessians, full matrices, in all
//! combinations; and programs that other libraries differentiate wrongly without an error.

use autograd::{DType, Graph, Result, Tensor, Var, hessian, hvp, jacobian, jacobians, jvp, vjp};

#[track_caller]
fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{a:?} {b:?}");
    for (a, b) in a.iter().zip(b) {
        assert!(
            (a - b).abs() <= 1e-12 * b.abs().max(1.0),
            "got {a}, expected {b}"
        );
    }
}

fn numbers(shape: &[usize], seed: f64) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::new(
        shape,
        (0..count)
            .map(|k| (seed + 1.7 * k as f64).sin())
            .collect::<Vec<f64>>(),
    )
    .expect("small")
}

/// `[3] -> [2]`, with a hand-written Jacobian.
fn f(x: Var<'_>) -> Var<'_> {
    let at = |k: isize| x.slice(0, k..k + 1);
    x.graph()
        .concat(&[at(0) * at(1) + at(2).sin(), at(0).exp() / at(2)], 0)
}

const AT: [f64; 3] = [0.3, -1.2, 0.8];

fn by_hand() -> [f64; 6] {
    let [a, b, c] = AT;
    [b, a, c.cos(), a.exp() / c, 0.0, -a.exp() / (c * c)]
}

#[test]
fn jacobians_by_rows_and_by_columns() -> Result<()> {
    close(&jacobian(f)(&AT)?.to_f64s(), &by_hand());
    // more outputs than inputs: columns
    fn wide<'g>(x: Var<'g>) -> Var<'g> {
        x.graph().concat(&[f(x), f(x) * 2.0], 0)
    }
    let j = jacobian(wide)(&AT)?;
    assert_eq!(j.shape(), [4, 3]);
    close(&j.to_f64s()[..6], &by_hand());
    close(&j.to_f64s()[6..], &by_hand().map(|v| 2.0 * v));
    // as a `Var`, by rows and by columns, and with several inputs of several axes at once
    let g = Graph::new();
    let x = g.input(AT);
    close(&g.jacobian(f(x), x).value()?.to_f64s(), &by_hand());
    close(&g.jacobian(wide(x), x).value()?.to_f64s(), &j.to_f64s());
    let [ja, jb] =
        jacobians(|[a, b]| a.matmul(b))([&numbers(&[2, 3], 0.1), &numbers(&[3, 4], 0.2)])?;
    assert_eq!(
        (ja.shape(), jb.shape()),
        (&[2, 4, 2, 3][..], &[2, 4, 3, 4][..])
    );
    let (a, b) = (
        numbers(&[2, 3], 0.1).to_f64s(),
        numbers(&[3, 4], 0.2).to_f64s(),
    );
    for e in 0..2 * 4 * 3 {
        let (i, j, k) = (e / 12, e / 3 % 4, e % 3);
        close(
            &[ja.to_f64s()[((i * 4 + j) * 2 + i) * 3 + k]],
            &[b[k * 4 + j]],
        );
        close(
            &[jb.to_f64s()[((i * 4 + j) * 3 + k) * 4 + j]],
            &[a[i * 3 + k]],
        );
    }
    assert_eq!(
        ja.to_f64s().iter().filter(|v| **v != 0.0).count(),
        2 * 4 * 3
    );
    Ok(())
}

#[test]
fn products_agree_with_the_full_matrix() -> Result<()> {
    let (ct, v) = ([2.0, -0.5], [0.4, 1.5, -2.0]);
    let j = by_hand();
    let (y, d) = vjp(f)(&AT, &ct)?;
    assert_eq!(y.shape(), [2]);
    close(
        &d.to_f64s(),
        &[0, 1, 2].map(|k| ct[0] * j[k] + ct[1] * j[3 + k]),
    );
    let (_, d) = jvp(f)(&AT, &v)?;
    close(
        &d.to_f64s(),
        &[0, 3].map(|row| (0..3).map(|k| j[row + k] * v[k]).sum()),
    );
    Ok(())
}

/// All ways to the second derivative agree.
#[test]
fn hessians_all_ways() -> Result<()> {
    fn loss<'g>(x: Var<'g>) -> Var<'g> {
        (f(x) * f(x).sin()).sum() + x.powi(3).sum()
    }
    let h = hessian(loss)(&AT)?.to_f64s();
    let g = Graph::new();
    let x = g.input(AT);
    let y = loss(x);
    let [d] = g.grad(y, &[x]);
    let forward_over_reverse: Vec<Var<'_>> = (0..3)
        .map(|k| g.jvp(d, &[x], &[g.constant([0, 1, 2].map(|i| f64::from(i == k)))]))
        .collect();
    let v = [0.7, -0.1, 1.1];
    let (whole, columns, product) = g.run((
        g.hessian(y, x),
        g.stack(&forward_over_reverse, 1),
        g.hvp(y, x, g.constant(v)),
    ))?;
    close(&whole.to_f64s(), &h);
    close(&columns.to_f64s(), &h);
    close(&product.to_f64s(), &hvp(loss)(&AT, &v)?.to_f64s());
    close(
        &product.to_f64s(),
        &[0, 1, 2].map(|i| (0..3).map(|k| h[3 * i + k] * v[k]).sum()),
    );
    // symmetric, and equal to differences of the gradient
    let gradient = autograd::grad(loss);
    for i in 0..3 {
        let step = |h: f64| gradient(&[0, 1, 2].map(|k| AT[k] + if k == i { h } else { 0.0 }));
        let (up, down) = (step(1e-6)?.to_f64s(), step(-1e-6)?.to_f64s());
        for k in 0..3 {
            assert!((h[3 * i + k] - h[3 * k + i]).abs() < 1e-12);
            assert!(((up[k] - down[k]) / 2e-6 - h[3 * i + k]).abs() < 1e-7);
        }
    }
    // the derivative of a Hessian, and a Jacobian-vector product of its vector-Jacobian product
    let third = g.grad(g.hessian(y, x).sum(), &[x])[0].value()?.to_f64s();
    let sum = |at: [f64; 3]| hessian(loss)(&at).map(|h| h.to_f64s().iter().sum::<f64>());
    for (k, d) in third.iter().enumerate() {
        let moved = |h: f64| sum([0, 1, 2].map(|i| AT[i] + if i == k { h } else { 0.0 }));
        assert!(((moved(1e-5)? - moved(-1e-5)?) / 2e-5 - d).abs() < 1e-5);
    }
    Ok(())
}

/// Forward mode needs few kernels: dead code is removed, and the dummy cotangent is never read.
#[test]
fn the_plan_of_a_jvp_is_small() -> Result<()> {
    let g = Graph::new();
    let single = |shape: &[usize], seed: f64| g.input(numbers(shape, seed)).cast(DType::F32);
    let (x, w, v, u) = (
        single(&[8, 5], 0.1),
        single(&[5, 6], 0.2),
        single(&[5, 6], 0.3),
        single(&[8, 5], 0.4),
    );
    let out = single(&[6, 3], 0.5);
    g.run([x, w, v, u, out])?; // casts are not counted
    let y = ((x.matmul(w) + 0.5).tanh().matmul(out) * 2.0).softmax(-1);
    let count = |what: &[Var<'_>]| g.plan(what.to_vec()).map(|p| p.kernels().len());
    let alone = count(&[y])?;
    let (of_one, of_two) = (g.jvp(y, &[w], &[v]), g.jvp(y, &[x, w], &[u, v]));
    let (one, two) = (count(&[of_one])?, count(&[of_two])?);
    assert!(
        one <= 2 * alone && two <= 3 * alone,
        "{alone} {one} {two}:\n{}",
        g.plan(vec![y, of_two])?
    );
    let product = x.matmul(w);
    let products = |what: Var<'_>| {
        let plan = g.plan(what).expect("plans");
        plan.kernels()
            .iter()
            .flat_map(|k| k.ops.clone())
            .filter(|op| op.0 == "matmul")
            .map(|op| op.1)
            .sum::<usize>()
    };
    assert_eq!(products(g.jvp(product, &[w], &[v])), 1);
    assert_eq!(products(g.jvp(product, &[x, w], &[u, v])), 2);
    Ok(())
}

#[test]
fn rules_that_are_not_linear_have_no_forward_mode() {
    let g = Graph::new();
    let x = g.input([3.0, -2.0]);
    let clipped = (x * 2.0).custom_vjp(&[x], |_, r| Some(r.ct.clamp(-1.0, 1.0)));
    let e = g
        .jvp((clipped * x).sum(), &[x], &[g.constant([1.0, 0.0])])
        .value()
        .unwrap_err();
    assert!(e.message().contains("custom_vjp is not linear"), "{e}");
    let wrong = g
        .jvp(x.sin(), &[x], &[g.constant([1.0])])
        .value()
        .unwrap_err();
    assert!(wrong.message().contains("tangent"), "{wrong}");
}

/// `x = cos(a·x)`, solved by iteration; its derivative by the implicit function theorem, and
/// through the iteration.
#[test]
fn a_fixed_point_with_its_own_derivative() -> Result<()> {
    fn solve<'g>(a: Var<'g>) -> Var<'g> {
        let mut x = a.detach() * 0.0 + 0.5;
        for _ in 0..80 {
            x = (a.detach() * x).cos();
        }
        // x - cos(a·x) = 0, so dx/da = -x·sin(a·x) / (1 + a·sin(a·x))
        x.custom_vjp(&[a], |_, r| {
            let (a, x) = (r.x[0], r.y);
            let s = (a * x).sin();
            Some(r.ct * -x * s / (1.0 + a * s))
        })
    }
    let at = |a: f64| (0..200).fold(0.5f64, |x, _| (a * x).cos());
    let g = Graph::new();
    let a = g.input(0.8);
    let x = solve(a);
    let [d] = g.grad(x, &[a]);
    let [d2] = g.grad(d, &[a]);
    let (d, d2) = g.run((d, d2))?;
    let h = 1e-4;
    assert!(((at(0.8 + h) - at(0.8 - h)) / (2.0 * h) - d.scalar()?).abs() < 1e-7);
    assert!(((at(0.8 + h) - 2.0 * at(0.8) + at(0.8 - h)) / (h * h) - d2.scalar()?).abs() < 1e-5);
    Ok(())
}

/// Programs that other libraries differentiate wrongly without an error.
#[test]
fn programs_that_other_libraries_get_wrong() -> Result<()> {
    let second =
        |f: for<'g> fn(Var<'g>) -> Var<'g>, at: f64| hessian(f)(&at).and_then(|h| h.scalar());
    assert_eq!(second(|x| x.powi(4), 3.0)?, 108.0);
    assert_eq!(second(|x| x * x * x * x, 3.0)?, 108.0);
    close(
        &[second(|x| (x * x).sin(), 0.7)?],
        &[2.0 * 0.49f64.cos() - 4.0 * 0.49 * 0.49f64.sin()],
    );
    // a tensor with itself; two uses in both orders
    assert_eq!(autograd::grad(|x| x * x)(&3.0)?.scalar()?, 6.0);
    assert_eq!(autograd::grad(|x| x / x)(&3.0)?.scalar()?, 0.0);
    assert_eq!(autograd::grad(|x| x.sin() * 0.0 + x)(&3.0)?.scalar()?, 1.0);
    assert_eq!(autograd::grad(|x| x + x.sin() * 0.0)(&3.0)?.scalar()?, 1.0);
    let g = Graph::new();
    let m = g.input([[1.0, 2.0], [3.0, 4.0]]);
    let [d] = g.grad(m.matmul(m).sum(), &[m]);
    assert_eq!(d.value()?.to_f64s(), [7.0, 11.0, 9.0, 13.0]);
    // an output that is not used
    let (big, used) = (m.exp(), m.sum());
    assert_eq!(g.grad(used, &[m])[0].value()?.to_f64s(), [1.0; 4]);
    assert_eq!(g.grad(used, &[big])[0].value()?.to_f64s(), [0.0; 4]);
    // a gradient through an intermediate value that was requested before
    let x = g.input(0.7);
    let half = x.sin();
    half.value()?;
    close(
        &[(half * half).backward()?.scalar(x)?],
        &[2.0 * 0.7f64.sin() * 0.7f64.cos()],
    );
    // a chain of 200,000
    let mut y = x;
    for _ in 0..200_000 {
        y = y * 0.999_99 + x * 1e-6;
    }
    let q: f64 = 0.999_99;
    let power = q.powi(200_000);
    let d = y.backward()?.scalar(x)?;
    assert!(
        (d - (power + 1e-6 * (1.0 - power) / (1.0 - q))).abs() < 1e-9,
        "{d}"
    );
    // a compiled Hessian
    let compiled = autograd::compile(|[x]| [x.graph().hessian((x * x).sin().sum(), x)]);
    for at in [0.7f64, 0.2] {
        let [h] = compiled.call([[at]])?;
        close(
            &h.to_f64s(),
            &[2.0 * (at * at).cos() - 4.0 * at * at * (at * at).sin()],
        );
    }
    Ok(())
}

/// A custom op whose rule uses intermediate values: its own output, and another node.
#[test]
fn a_custom_op_that_uses_intermediate_values() -> Result<()> {
    use autograd::{Op, OpError, Rule, TensorView, TensorViewMut, Type};

    /// `x·s` for a second input `s`, which is a function of `x` as well.
    #[derive(Clone, PartialEq, Debug)]
    struct Scale;
    impl Op for Scale {
        const NAME: &'static str = "scale";
        fn infer(&self, x: &[Type]) -> std::result::Result<Type, OpError> {
            Ok(x[0])
        }
        fn eval(
            &self,
            x: &[TensorView<'_>],
            mut out: TensorViewMut<'_>,
        ) -> std::result::Result<(), OpError> {
            let s = x[1].slice::<f64>()?[0];
            out.slice::<f64>()?
                .iter_mut()
                .zip(x[0].slice::<f64>()?)
                .for_each(|(o, x)| *o = x * s);
            Ok(())
        }
        fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
            let (x, s) = (r.x[0], r.x[1]);
            // the second one from the output, which must still be alive
            Some(if input == 0 {
                r.ct * s
            } else {
                (r.ct * r.y).sum() / s + 0.0 * x.sum()
            })
        }
    }
    fn normalized<'g>(x: Var<'g>) -> Var<'g> {
        x.graph().apply(Scale, &[x, 1.0 / x.norm()])
    }
    autograd::check_grads(|x| normalized(x[0]).sin() * x[0], &[Tensor::from(AT)])?;
    let (x, norm) = (AT, AT.iter().map(|x| x * x).sum::<f64>().sqrt());
    let j = jacobian(normalized)(&x)?.to_f64s();
    for (e, &j) in j.iter().enumerate() {
        let (i, k) = (e / 3, e % 3);
        close(
            &[j],
            &[(f64::from(i == k) - x[i] * x[k] / (norm * norm)) / norm],
        );
    }
    Ok(())
}
