//! Every public operation, with every combination of unusual arguments: empty, huge, negative, NaN,
//! of other dtypes and shapes, from another graph, holding an error. Each gives a value or an
//! error; none panics or overflows silently.

use autograd::{
    CheckGrads, DType, Error, Graph, Op, OpError, Param, Rule, Tensor, TensorView, TensorViewMut,
    Type, Var, check_grads,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Unusual tensors.
fn unusual() -> Vec<Tensor> {
    let empty = |shape: &[usize], dtype| Tensor::zeros(shape, dtype).expect("small");
    vec![
        Tensor::from(0.0),
        Tensor::from(f64::NAN),
        Tensor::from([
            f64::INFINITY,
            -f64::INFINITY,
            f64::MAX,
            f64::MIN_POSITIVE,
            -0.0,
        ]),
        Tensor::from([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        Tensor::from([[1f32, -2.0], [f32::NAN, f32::MAX]]),
        Tensor::from([0, 1, -1, i64::MAX, i64::MIN]),
        Tensor::from([[0, 1], [1, 0]]),
        Tensor::from([true, false]),
        empty(&[0], DType::F64),
        empty(&[0, 3], DType::F32),
        empty(&[2, 0, 2], DType::F64),
        empty(&[0], DType::I64),
        empty(&[1, 1, 1, 1, 1, 1, 1, 1], DType::F64),
        // no elements, with axes that are almost too large
        empty(&[1 << 31, 0, 1 << 28], DType::F64),
        empty(&[0, 1 << 59], DType::F32),
        empty(&[1 << 59, 0], DType::F32),
    ]
}

const INTEGERS: [isize; 9] = [0, 1, -1, 2, -2, 7, -9, isize::MAX, isize::MIN];
const NUMBERS: [f64; 7] = [0.0, -1.0, 0.5, f64::NAN, f64::INFINITY, 1e300, -1e-300];

/// All operations of one tensor.
fn unary(x: Var<'_>) -> Vec<Var<'_>> {
    vec![
        -x,
        x.abs(),
        x.sign(),
        x.exp(),
        x.expm1(),
        x.ln(),
        x.sqrt(),
        x.square(),
        x.recip(),
        x.sin(),
        x.cos(),
        x.tanh(),
        x.sigmoid(),
        x.relu(),
        x.erf(),
        x.erfc(),
        x.gelu(),
        x.softplus(),
        x.rsqrt(),
        x.tan(),
        x.asin(),
        x.acos(),
        x.atan(),
        x.sinh(),
        x.cosh(),
        x.silu(),
        x.gelu_tanh(),
        x.log_sigmoid(),
        x.floor(),
        x.ceil(),
        x.round(),
        x.is_nan(),
        x.is_finite(),
        x.not(),
        x.all(),
        x.any(),
        x.prod(),
        x.norm(),
        x.std(1),
        x.diagonal(),
        x.diag(),
        x.trace(),
        x.graph().einsum("ij->ji", &[x]),
        x.graph().jacobian(x * x, x),
        x.graph().hessian(x.sum(), x),
        x.graph().hvp(x.sum(), x, x),
        x.graph().jvp(x.sin(), &[x], &[x]),
        x.sum(),
        x.mean(),
        x.max(),
        x.min(),
        x.t(),
        x.flatten(),
        x.detach(),
        x.zeros_like(),
        x.ones_like(),
        x.full_like(3),
        x.full_like(0.5),
        x.fail("on purpose"),
        x.cast(DType::F32),
        x.cast(DType::F64),
        x.cast(DType::I64),
        x.cast(DType::Bool),
    ]
}

/// All operations of one tensor and an integer.
fn with_integer(x: Var<'_>, k: isize) -> Vec<Var<'_>> {
    let size = k.unsigned_abs();
    vec![
        x.prod_axis(k),
        x.cumsum(k),
        x.sort(k),
        x.argsort(k),
        x.argmin(k),
        x.flip(k),
        x.tril(k),
        x.triu(k),
        x.std_axis(k, 0),
        x.norm_axis(k),
        x.any_axis(k),
        x.all_axis(k),
        x.topk(size, 0).0,
        x.topk(1, k).1,
        x.repeat(2, k),
        x.repeat(size, 0),
        x.tile(size, 0),
        x.pad(k, 1, 0, 0.0),
        x.pad(0, size, size, 1),
        x.graph().linspace(0.0, 1.0, size % 1000),
        x.sum_axis(k),
        x.sum_axis([k, 0]),
        x.sum_axis_keep(k),
        x.mean_axis(k),
        x.mean_axis_keep(k),
        x.max_axis(k),
        x.max_axis_keep(k),
        x.min_axis(k),
        x.min_axis_keep(k),
        x.var(size),
        x.var_axis(k, size),
        x.var_axis_keep(k, 1),
        x.argmax(k),
        x.softmax(k),
        x.log_softmax(k),
        x.logsumexp(k),
        x.reshape(k),
        x.reshape([k, -1]),
        x.reshape([k, k, k]),
        x.permute([k, 0]),
        x.transpose(k, 0),
        x.broadcast_to([k, 2, 3]),
        x.flatten_from(k),
        x.squeeze(k),
        x.unsqueeze(k),
        x.slice(k, ..),
        x.slice(0, k..),
        x.slice(0, ..k),
        x.slice(0, ..=k),
        x.slice_step(0, .., k),
        x.slice_step(-1, k..0, -1),
        x.powi(k as i32),
        x.one_hot(size.min(1 << 40), DType::F32),
        x + k as i64,
        x * k as i64,
        x / k as i64,
        x - k.unsigned_abs(),
    ]
}

/// All operations of one tensor and a scalar.
fn with_number(x: Var<'_>, v: f64) -> Vec<Var<'_>> {
    vec![
        x + v,
        v - x,
        x * v,
        v / x,
        x.pow(v),
        x.powf(v),
        x.maximum(v),
        x.minimum(v),
        x.clamp(v, 1.0),
        x.clamp(0, v),
        x.leaky_relu(v),
        x.eq(v),
        x.lt(v),
        x.gt(v),
        x.ge(v),
        x.le(v),
        x.ne(v),
        x.full_like(v),
        x.graph().bernoulli(v, [3]),
        x.graph().arange(v, 3.0, 1.0),
        x.graph().arange(0.0, v, 0.5),
        x.graph().arange(0.0, 1.0, v),
    ]
}

/// All operations of two tensors.
fn binary<'g>(x: Var<'g>, y: Var<'g>) -> Vec<Var<'g>> {
    let g = x.graph();
    vec![
        x + y,
        x - y,
        x * y,
        x / y,
        x.pow(y),
        x.maximum(y),
        x.minimum(y),
        x.leaky_relu(y),
        x.elu(y),
        x.atan2(y),
        x.hypot(y),
        x % y,
        x & y,
        x | y,
        x.cross_entropy_with(y, 0.1, Some(x), Some(1)),
        g.einsum("ij,jk->ik", &[x, y]),
        g.jvp(x * y, &[x, y], &[y, x]),
        x.clamp(y, x),
        x.eq(y),
        x.lt(y),
        x.select(y, 1.0),
        x.gt(0.0).select(x, y),
        x.matmul(y),
        x.dot(y),
        x.outer(y),
        x.take(y, 0),
        x.take(y, -1),
        x.gather(0, y),
        x.gather(-1, y),
        x.scatter_add(0, y, x),
        x.scatter_add(-1, y, y),
        x.cross_entropy(y),
        g.concat(&[x, y, x], 0),
        g.concat(&[x, y], -2),
        g.stack(&[x, y], 1),
        g.bernoulli(x, [2]),
    ]
}

/// Computes values and gradients. A panic fails the test.
fn ask(what: &str, build: impl Fn() -> usize) {
    if catch_unwind(AssertUnwindSafe(build)).is_err() {
        panic!("{what} panicked");
    }
}

/// An op that panics gives an error of its run, which no built-in op may have.
fn expected(e: Error) {
    assert!(!e.message().contains("panicked"), "{e}");
}

fn is_value(v: Var<'_>) -> bool {
    v.value().map_err(expected).is_ok()
}

/// The number of valid results. Also differentiates their sums.
fn values<'g>(all: Vec<Var<'g>>, leaf: Var<'g>) -> usize {
    let small = |v: &Var<'_>| v.shape().map_or(true, |s| s.count() < 1 << 20);
    let mut good = 0;
    for v in all.into_iter().filter(small) {
        good += usize::from(is_value(v));
        let d = v.vjp(v.ones_like(), &[leaf]);
        let _ = (
            v.sum().backward().map(|_| ()).map_err(expected),
            d.into_iter().flatten().filter(|d| is_value(*d)).count(),
        );
        let _ = (format!("{v:?}"), v.dims::<2>(), v.dtype().is_ok());
    }
    good
}

#[test]
fn nothing_panics() {
    let tensors = unusual();
    let mut good = 0;
    for (k, t) in tensors.iter().enumerate() {
        let mut count = |what: &str, build: &dyn for<'g> Fn(Var<'g>) -> Vec<Var<'g>>| {
            ask(&format!("{what} of tensor {k}"), || {
                let g = Graph::training(1);
                let x = g.input(t);
                values(build(x), x)
            });
            let g = Graph::training(1);
            let x = g.input(t);
            good += build(x).into_iter().filter(|v| v.error().is_none()).count();
        };
        count("unary", &unary);
        INTEGERS
            .iter()
            .for_each(|&i| count(&format!("with {i}"), &move |x| with_integer(x, i)));
        NUMBERS
            .iter()
            .for_each(|&v| count(&format!("with {v}"), &move |x| with_number(x, v)));
        for (j, other) in tensors.iter().enumerate() {
            count(&format!("with tensor {j}"), &move |x| {
                binary(x, x.graph().input(other))
            });
        }
        count("with an error", &|x| binary(x, x.fail("on purpose")));
    }
    assert!(good > 2000, "most of these should be valid: {good}");
}

/// The error message, if any, of each `Graph` method that takes a `Var`, called with `v`. By file,
/// in source order, so that a missing method is easy to notice. `x` is a valid `Var` of the graph,
/// of the same type as `v`.
fn of_a_graph<'g>(
    g: &'g Graph,
    x: Var<'g>,
    v: Var<'g>,
    p: &Param,
) -> Vec<(&'static str, Option<String>)> {
    let var = |v: Var<'g>| g.run(v).err().map(|e| e.message().to_string());
    let vars = |all: Vec<Var<'g>>| g.run(all).err().map(|e| e.message().to_string());
    let some = |all: Vec<Option<Var<'g>>>| vars(all.into_iter().flatten().collect());
    fn run<T>(result: autograd::Result<T>) -> Option<String> {
        result.err().map(|e| e.message().to_string())
    }
    let grads = |y: Var<'g>| y.backward().ok();
    vec![
        // graph.rs
        ("assign", {
            let one = Graph::new();
            one.assign(p, v);
            run(one.run(()))
        }),
        ("apply", var(g.apply(Same, &[x, v]))),
        ("apply, first", var(g.apply(Same, &[v, x]))),
        // exec/run.rs
        ("run", run(g.run(v))),
        ("run of several", run(g.run((x, [v, x], Some(v))))),
        ("prepare", run(g.prepare((x, v)))),
        // exec/reference.rs
        ("reference", run(g.reference(&[x, v]))),
        // op/
        ("concat", var(g.concat(&[x, v], 0))),
        ("concat, first", var(g.concat(&[v, x], 0))),
        ("stack", var(g.stack(&[v, x], 0))),
        ("einsum", var(g.einsum("i,i->", &[v, x]))),
        ("bernoulli", var(g.bernoulli(v.sum(), [2]))),
        ("operators", var(x + v)),
        ("compound", {
            let mut y = x;
            y *= v;
            var(y)
        }),
        ("select", var(x.gt(0.0).select(v, x))),
        ("take", var(x.take(v.lt(0.0).cast(DType::I64), 0))),
        ("gather", var(x.gather(0, v.lt(0.0).cast(DType::I64)))),
        (
            "scatter_add",
            var(x.scatter_add(0, x.lt(0.0).cast(DType::I64), v)),
        ),
        ("cross_entropy", var(x.cross_entropy(v))),
        (
            "cross_entropy_with",
            var(x.cross_entropy_with(x, 0.1, Some(v), None)),
        ),
        (
            "cross_entropy_with, target",
            var(x.cross_entropy_with(v, 0.1, None, None)),
        ),
        // diff/reverse.rs
        ("vjp", some(x.sin().vjp(v, &[x]))),
        ("vjp, by", some(x.sin().vjp(x, &[x, v]))),
        ("grad", var(g.grad(x.sum(), &[v])[0])),
        ("grad, of", var(g.grad(v.sum(), &[x])[0])),
        ("grads", vars(g.grads(v.sum(), &[v]))),
        // diff/forward.rs
        ("jvp", var(g.jvp(v, &[x], &[x]))),
        ("jvp, by", var(g.jvp(x, &[v], &[x]))),
        ("jvp, along", var(g.jvp(x, &[x], &[v]))),
        ("jvp, all", var(g.jvp(v, &[v], &[v]))),
        // diff/jacobian.rs
        ("jacobian", var(g.jacobian(v, x))),
        ("jacobian, by", var(g.jacobian(x, v))),
        ("jacobian, all", var(g.jacobian(v, v))),
        ("jacobians", vars(g.jacobians(x, &[x, v]))),
        ("hessian", var(g.hessian(v.sum(), x))),
        ("hessian, by", var(g.hessian(x.sum(), v))),
        ("hvp", var(g.hvp(x.sum(), x, v))),
        ("hvps", vars(g.hvps(v.sum(), &[x], &[x]))),
        ("hvps, by", vars(g.hvps(x.sum(), &[x, v], &[x, x]))),
        // diff/custom.rs
        ("custom_vjp", var(x.custom_vjp(&[v], |_, r| Some(r.ct)))),
        // diff/gradients.rs: with a leaf of another graph
        (
            "Gradients::scalar",
            grads(x.sum()).and_then(|d| run(d.scalar(v))),
        ),
        (
            "Gradients::get",
            grads(x.sum()).and_then(|d| d.get(v).is_none().then(|| "none".into())),
        ),
        // inspect/
        ("check_finite", var(g.check_finite(&[x, v]))),
        ("check_finite, alone", var(g.check_finite(&[v]))),
        ("detect_anomaly", run(g.detect_anomaly((x, v)))),
        ("find_anomaly", run(g.find_anomaly(&(x, v)))),
        (
            "inspect_gradients",
            run(g.run(g.inspect_gradients(v.sum()))),
        ),
        ("saved_for_backward", run(g.saved_for_backward((x, v)))),
        ("plan", run(g.plan((x, v)))),
        ("profile", run(g.profile((x, v)))),
    ]
}

/// The identity of its first input.
#[derive(Clone, PartialEq, Debug)]
struct Same;

impl Op for Same {
    const NAME: &'static str = "same";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(&self, x: &[TensorView], mut out: TensorViewMut) -> Result<(), OpError> {
        out.slice::<f64>()?.copy_from_slice(x[0].slice()?);
        Ok(())
    }
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        (input == 0).then_some(r.ct)
    }
}

#[test]
fn vars_of_other_graphs_are_errors() {
    let (g, other) = (Graph::new(), Graph::new());
    let (x, stranger) = (
        g.input([[1.0, 2.0], [3.0, 4.0]]),
        other.input([[1.0, 2.0], [3.0, 4.0]]),
    );
    for v in binary(x, stranger) {
        assert!(v.value().is_err(), "{v:?}");
    }
    // nodes of longer and of shorter graphs
    for length in [0, 1000] {
        let (g, other) = (Graph::new(), Graph::new());
        let (x, p) = (g.input([1.0, 2.0]), Param::new([1.0, 2.0]));
        for k in 0..length {
            other.input(k as f64);
        }
        let v = other.input([1.0, 2.0]);
        for (what, message) in of_a_graph(&g, x, v, &p) {
            let names_it = |m: &String| {
                m.contains("different graphs") || m.contains("another graph") || m == "none"
            };
            let names_it = |m: &String| names_it(m) || m.contains("of this graph");
            assert!(
                message.as_ref().is_some_and(names_it),
                "{what}: {message:?}"
            );
        }
        let picture = g.picture().of(&[x, v]).name(v, "v").name(x, "x");
        assert!(picture.to_text().lines().count() < 1000 && picture.to_dot().contains('x'));
        let _ = (g.trained_params(v).len(), g.scheduled(&p).is_none());
        assert_eq!(p.value().to_f64s(), [1.0, 2.0]);
    }
}

#[test]
fn errors_propagate() {
    let g = Graph::new();
    let (x, p) = (g.input([1.0, 2.0]), Param::new([1.0, 2.0]));
    let wrong = [
        x + g.input([1.0, 2.0, 3.0]),
        x.fail("on purpose"),
        g.input([1.0, 2.0]).matmul(g.input([[1.0]])),
    ];
    for v in wrong {
        let own = v.error().map(|e| e.message().to_string());
        for (what, message) in of_a_graph(&g, x, v, &p) {
            let of_another = what == "assign"; // reports a value of another graph
            let nothing = what == "Gradients::get";
            assert!(
                message == own || of_another && message.is_some() || nothing,
                "{what}: got {message:?}, expected {own:?}"
            );
        }
        let _ = (
            g.picture().of(&[v]).name(v, "v").to_text(),
            g.trained_params(v).len(),
            format!("{v:?}"),
        );
        let _ = (
            v.shape().is_err(),
            v.dtype().is_err(),
            v.dims::<1>().is_none(),
            v.backward().is_err(),
        );
    }
}

/// A parameter that changed after the graph has read others: there is no moment for all of them.
#[test]
fn stale_parameters_are_errors() {
    let p = Param::new([1.0, 2.0]);
    let g = Graph::new();
    let first = g.param(&Param::new(0.5)).value();
    assert!(first.is_ok());
    p.set([3.0, 4.0]).expect("fits");
    let (v, x) = (g.param(&p), g.input([1.0, 2.0]));
    let needs_no_value = [
        "prepare",
        "reference",
        "assign",
        "Gradients::get",
        "Gradients::scalar",
        "plan",
        "saved_for_backward",
        "find_anomaly",
    ];
    let linear = [
        "grad",
        "grads",
        "hvp",
        "hvps",
        "jvp",
        "jac",
        "hess",
        "vjp",
        "inspect",
        "bernoulli",
        "apply",
        "custom_vjp",
        "einsum",
        "cross_entropy_with",
        "take",
    ];
    let mut refused = 0;
    for (what, message) in of_a_graph(&g, x, v, &p) {
        let may_be_fine =
            needs_no_value.contains(&what) || linear.iter().any(|l| what.starts_with(l));
        let stale = message
            .as_ref()
            .is_some_and(|m| m.contains("changed since it was bound"));
        refused += usize::from(stale);
        assert!(stale || may_be_fine, "{what}: {message:?}");
    }
    assert!(refused > 15, "{refused}");
    let bound = g.param(&Param::new([0.0]));
    let _ = (
        bound.value().is_ok(),
        g.trained_params(v.sum()).len(),
        g.scheduled(&p).is_none(),
    );
}

#[test]
fn invalid_constructor_arguments_are_errors() {
    let g = Graph::new();
    for k in INTEGERS {
        ask(&format!("makers with {k}"), || {
            let size = k.unsigned_abs();
            let all = [
                g.zeros([k], DType::F64),
                g.ones([k, k], DType::Bool),
                g.full([2, k], 1.5f32),
                g.eye(size, DType::F32),
            ];
            let all = all.into_iter().chain([
                g.uniform([k], DType::F32),
                g.normal([k, 3], DType::F64),
                g.uniform([2], DType::Bool),
            ]);
            let values: usize = all.map(|v| usize::from(v.value().is_ok())).sum();
            let tensors = [
                Tensor::zeros([k], DType::I64).is_ok(),
                Tensor::full([k, k], 1.0).is_ok(),
                Tensor::new([k], vec![1.0]).is_ok(),
            ];
            let rows = Tensor::from([1.0, 2.0]).rows(&[size]).is_ok();
            values + tensors.iter().filter(|t| **t).count() + usize::from(rows)
        });
    }
    assert!(g.concat(&[], 0).value().is_err() && g.stack(&[], 0).value().is_err());
    assert!(Tensor::from_rows(&[]).is_err() && Tensor::from(1.0).rows(&[]).is_err());
    assert!(Tensor::from(vec![0f64; 0]).scalar().is_err());
}

/// Arrays that are too large for tensors, and values that together exceed the address space.
#[test]
fn sizes_that_are_too_large_are_errors() {
    use ndarray::{Array, ArrayView};
    let g = Graph::new();
    let empty = Array::<f64, _>::zeros((1 << 31, 0, 1 << 30));
    assert!(Tensor::try_from(&empty).is_err() && g.input(empty).sum_axis_keep(1).value().is_err());
    let one = [1u8 == 1];
    let repeated = ArrayView::from(&one);
    let repeat = |n: usize| {
        Tensor::try_from(repeated.broadcast(n).expect("a view takes no memory")).is_err()
    };
    assert!(repeat(1 << 58) && repeat(1 << 61));
    assert!(Tensor::try_from(Array::<f32, _>::zeros(ndarray::IxDyn(&[1; 9]))).is_err());

    let wide = Tensor::zeros([3usize, 0, 1 << 40], DType::F32).expect("empty");
    assert!(wide.rows(&vec![1; 1 << 20]).is_err() && wide.rows(&[2, 2]).is_ok());
    let flat = Tensor::zeros([1usize << 59, 0], DType::F32).expect("empty");
    assert!(Tensor::from_rows(&vec![flat.clone(); 32]).is_err() && flat.rows(&[5]).is_ok());

    // each of these fits the address space, but two of them do not
    ask("several huge values", || {
        for dtype in [DType::F32, DType::F64] {
            let g = Graph::new();
            let x = g.input([0.5]).cast(dtype).broadcast_to(1usize << 59);
            let chain = (0..8).fold(x, |x, k| if k % 2 == 0 { x.cumsum(0) } else { x.sort(0) });
            // eight values that are all alive until a scalar that depends on all of them
            let alive: Vec<Var<'_>> = (0..8).map(|k| (x + k as f64).cumsum(0)).collect();
            let number = alive
                .iter()
                .map(|v| v.slice(0, ..1))
                .reduce(|a, b| a + b)
                .expect("eight");
            let all = alive
                .iter()
                .map(|v| (*v * number).sort(0).slice(0, ..1))
                .reduce(|a, b| a + b);
            let matrix = x.reshape([1usize << 30, 1 << 29]);
            let product = matrix.matmul(matrix.slice(0, ..1 << 20).t()).softmax(-1);
            let row = x.reshape([1, -1]) * 2.0;
            let sums = row.sin().sum_axis(0) + row.t().matmul(row.slice(1, ..1)).sum_axis(1);
            for y in [
                Some(chain),
                all,
                Some(product),
                Some(sums),
                Some(x),
                Some(x.exp()),
                Some(x.gt(0.0).cast(DType::I64)),
            ] {
                let e = y.map(|y| g.run(y).map(|_| ()));
                let message = e.and_then(Result::err).map(|e| e.message().to_string());
                assert!(
                    message
                        .as_ref()
                        .is_some_and(|m| m.starts_with("not enough memory")),
                    "{message:?}"
                );
            }
        }
        0
    });
}

#[test]
fn the_checker_never_panics() {
    assert!(check_grads(|x| x[0], &[Tensor::from([f64::NAN])]).is_err());
    assert!(check_grads(|x| x[0].matmul(x[0]), &[Tensor::from([[1.0, 2.0]])]).is_err());
    assert!(check_grads(|_| panic!("on purpose"), &[Tensor::from(1.0)]).is_err());
    assert!(check_grads(|x| x[0].sum(), &[Tensor::from(vec![0f64; 0])]).is_ok());
    assert!(
        check_grads(|x| x[0] * 2, &[Tensor::from([1, 2])]).is_ok(),
        "there is nothing to differentiate"
    );
    assert!(
        CheckGrads::new()
            .order(0)
            .run(|x| x[0], &[Tensor::from(1.0)])
            .is_ok()
    );
    assert!(
        CheckGrads::new()
            .fast()
            .double()
            .run(|x| x[0], &[])
            .is_err(),
        "there is no first input"
    );
}
