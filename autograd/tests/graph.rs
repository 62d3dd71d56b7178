//! The graph: lazy evaluation, requests for intermediate values, long chains, scopes and text.

use autograd::{
    DType, Graph, Op, OpError, Result, Rule, Tensor, TensorView, TensorViewMut, Type, Var,
};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The identity. It counts the calls of `eval` and `vjp`.
#[derive(Clone, Debug)]
struct Counted(&'static Counts);

#[derive(Debug, Default)]
struct Counts {
    evals: AtomicUsize,
    rules: AtomicUsize,
}

impl PartialEq for Counted {
    fn eq(&self, other: &Counted) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Op for Counted {
    const NAME: &'static str = "counted";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.0.evals.fetch_add(1, SeqCst);
        out.slice::<f64>()?.copy_from_slice(x[0].slice()?);
        Ok(())
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        self.0.rules.fetch_add(1, SeqCst);
        Some(r.ct)
    }
}

fn counts() -> (&'static Counts, Counted) {
    let counts: &'static Counts = Box::leak(Box::default());
    (counts, Counted(counts))
}

#[test]
fn only_needed_nodes_are_computed_and_only_once() -> Result<()> {
    let (counts, op) = counts();
    let g = Graph::new();
    let x = g.input([1.0, 2.0]);
    let shared = x.apply(op.clone());
    let unused = shared.apply(op.clone()).sin();
    let y = (shared * shared).sum();
    assert_eq!(
        counts.evals.load(SeqCst),
        0,
        "building the graph computes nothing"
    );
    y.value()?;
    assert_eq!(counts.evals.load(SeqCst), 1);
    y.value()?;
    assert_eq!(counts.evals.load(SeqCst), 1, "a requested value is cached");
    let _ = format!("{unused:?} {} {}", g.to_text(), unused.shape()?);
    assert_eq!(counts.evals.load(SeqCst), 1, "printing computes nothing");
    unused.value()?;
    assert_eq!(counts.evals.load(SeqCst), 3);
    Ok(())
}

#[test]
fn the_sweep_only_calls_rules_between_input_and_output() -> Result<()> {
    let (counts, op) = counts();
    let g = Graph::new();
    let (x, c) = (g.input([1.0, 2.0]), g.constant([3.0, 4.0]));
    let data = c.apply(op.clone());
    let side = x.apply(op.clone()).exp();
    let y = (x.apply(op) * data).sum();
    let grads = y.backward()?;
    assert_eq!(
        counts.rules.load(SeqCst),
        1,
        "neither for the constant nor for the other branch"
    );
    assert_eq!(grads.get(x).map(Tensor::to_f64s), Some(vec![3.0, 4.0]));
    let _ = side;
    Ok(())
}

#[test]
fn requesting_an_intermediate_value_changes_nothing() -> Result<()> {
    let run = |request: bool| -> Result<(Tensor, Tensor)> {
        let g = Graph::new();
        let x = g.input([0.3, 0.7, 1.1]);
        let h = (x.sin() * x).exp();
        if request {
            h.value()?;
        }
        let y = (h / (1.0 + x.square())).sum();
        let [d] = g.grad(y, &[x]);
        if request {
            d.value()?;
        }
        let [d2] = g.grad((d * d).sum(), &[x]);
        g.run((d, d2))
    };
    assert_eq!(run(false)?, run(true)?);
    Ok(())
}

#[test]
fn gradients_distinguish_zero_from_no_dependence() -> Result<()> {
    let g = Graph::new();
    let (x, other, labels) = (g.input(2.0), g.input([1.0, 2.0]), g.input([1, 2]));
    let y = x * x + other.detach().sum() + labels.cast(DType::F64).sum();
    let grads = y.backward()?;
    assert_eq!(grads.scalar(x)?, 4.0);
    assert!(grads.get(other).is_none() && grads.get(labels).is_none());
    assert_eq!(grads.iter().count(), 1);
    let [dx, dother] = g.grad(y, &[x, other]);
    assert_eq!(g.run((dx, dother))?.1.to_f64s(), [0.0, 0.0]);
    assert!(y.vjp(g.constant(1.0), &[other])[0].is_none());
    // the output itself, and a node in the middle
    let h = x.sin();
    let [dh, dself] = g.grad(h * h, &[h, h * h]);
    assert_eq!(dh.value()?.scalar()?, 2.0 * 2f64.sin());
    assert_eq!(
        dself.value()?.scalar()?,
        0.0,
        "a node other than the output"
    );
    Ok(())
}

#[test]
fn fan_out_sums_in_both_orders() -> Result<()> {
    for swap in [false, true] {
        let g = Graph::new();
        let x = g.input(0.7);
        let (a, b) = (x.sin(), x.exp());
        let y = if swap { b * x + a } else { a + x * b };
        let d = y.backward()?.scalar(x)?;
        let expected = 0.7f64.cos() + 0.7 * 0.7f64.exp() + 0.7f64.exp();
        assert!((d - expected).abs() < 1e-14);
    }
    Ok(())
}

#[test]
fn higher_derivatives() -> Result<()> {
    let g = Graph::new();
    let x = g.input(3.0);
    let mut d = x.powi(4);
    for expected in [108.0, 108.0, 72.0, 24.0, 0.0] {
        [d] = g.grad(d, &[x]);
        assert_eq!(d.value()?.scalar()?, expected);
    }
    let x = g.input(0.7);
    let [d] = g.grad((x * x).sin(), &[x]);
    let [d2] = g.grad(d, &[x]);
    let expected = 2.0 * 0.49f64.cos() - 4.0 * 0.49 * 0.49f64.sin();
    assert!((d2.value()?.scalar()? - expected).abs() < 1e-14);
    Ok(())
}

/// A thread with a stack of 1 MiB.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(f)
        .expect("a thread");
    thread.join().expect("no overflow");
}

#[test]
fn a_chain_of_a_million_operations() {
    on_a_small_stack(|| {
        let g = Graph::new();
        let x = g.input(0.5);
        let mut y = x;
        for _ in 0..500_000 {
            y = y.sin() * 1.000001;
        }
        assert!(g.len() > 1_000_000);
        let [d] = g.grad(y, &[x]);
        let text = g.to_text_range(g.len() - 3..g.len());
        assert_eq!(text.lines().count(), 3);
        let (y, d) = g.run((y, d)).expect("runs");
        // the same with plain scalars
        let (mut v, mut slope) = (0.5f64, 1.0f64);
        for _ in 0..500_000 {
            slope *= v.cos() * 1.000001;
            v = v.sin() * 1.000001;
        }
        assert!((y.scalar().expect("a number") / v - 1.0).abs() < 1e-9);
        assert!((d.scalar().expect("a number") / slope - 1.0).abs() < 1e-9);
        drop(g);
    });
}

#[test]
fn second_order_on_a_long_chain() {
    on_a_small_stack(|| {
        let g = Graph::new();
        let x = g.input(0.5);
        let mut y = x;
        for _ in 0..50_000 {
            y = y + y.sin() * 1e-6;
        }
        let [d] = g.grad(y, &[x]);
        let [d2] = g.grad(d, &[x]);
        let (d, d2) = g.run((d, d2)).expect("runs");
        assert!(d.scalar().expect("a number") > 1.0 && d2.scalar().expect("a number") < 0.0);
    });
}

#[test]
fn arrays_are_converted_without_copies() -> Result<()> {
    let array = ndarray::Array2::<f32>::from_shape_fn((3, 4), |(i, j)| (i * 4 + j) as f32);
    let address = array.as_ptr();
    let tensor = Tensor::try_from(array.clone())?;
    assert_eq!(tensor.view::<f32>()?, array.view().into_dyn());
    let tensor = Tensor::try_from(array)?;
    assert_eq!(tensor.as_slice::<f32>()?.as_ptr(), address, "moved in");
    let g = Graph::new();
    assert_eq!(
        g.constant(&tensor).value()?.as_slice::<f32>()?.as_ptr(),
        address,
        "shared"
    );
    drop(g);
    assert_eq!(tensor.into_array::<f32>()?.as_ptr(), address, "moved out");
    // any layout
    let a = ndarray::array![[1i64, 2, 3], [4, 5, 6]];
    assert_eq!(
        Tensor::try_from(a.t())?.as_slice::<i64>()?,
        [1, 4, 2, 5, 3, 6]
    );
    assert_eq!(
        Tensor::try_from(a.slice(ndarray::s![.., ..;-2]))?.as_slice::<i64>()?,
        [3, 1, 6, 4]
    );
    assert_eq!(
        Tensor::try_from(a.slice(ndarray::s![1.., 1..]).to_owned())?.as_slice::<i64>()?,
        [5, 6]
    );
    assert_eq!(
        Tensor::try_from(ndarray::arr0(true))?.shape(),
        &[] as &[usize]
    );
    assert!(Tensor::try_from(ndarray::ArrayD::<f64>::zeros(vec![1; 9])).is_err());
    let g = Graph::new();
    assert!(
        g.input(ndarray::ArrayD::<f64>::zeros(vec![1; 9]))
            .value()
            .is_err()
    );
    assert_eq!(
        g.input(ndarray::ArrayD::<f64>::zeros(vec![1; 8]))
            .value()?
            .shape()
            .len(),
        8
    );
    Ok(())
}

#[test]
fn scalars_take_the_dtype_of_the_var() -> Result<()> {
    let g = Graph::new();
    let single = g.input([1f32, 2.0]);
    let y = 2 * (1.5 * single - 0.5f32) / 2usize + single * 1;
    assert_eq!(
        (y.dtype()?, y.value()?.to_f64s()),
        (DType::F32, vec![2.0, 4.5])
    );
    let mut z = g.input(1.0);
    z += 2.0;
    z *= z;
    assert_eq!(z.value()?.scalar()?, 9.0);
    let t = Tensor::from([1.0, 2.0]);
    assert_eq!((&t - g.input(1.0) * &t).value()?.to_f64s(), [0.0, 0.0]);
    Ok(())
}

#[test]
fn text_names_scopes() {
    let g = Graph::new();
    let x = g.input([1.0, 2.0]);
    let _y = g.within("encoder", || g.within("0", || (x * 2.0).sum()));
    let z = x.sin();
    let expected = "%0: f64[2] = input\n%1: f64[] = 2  in encoder.0\n%2: f64[2] = mul %0 %1  in encoder.0\n\
                    %3: f64[] = sum %2  in encoder.0\n%4: f64[2] = sin %0\n";
    assert_eq!(g.to_text_range(0..g.len()), expected);
    assert_eq!(format!("{z:?}"), "%4: f64[2] = sin %0");
}

#[test]
fn backward_nodes_are_in_the_scope_of_their_forward_nodes() {
    let g = Graph::new();
    let x = g.input([1.0, 2.0]);
    let y = g.within("layer", || x.exp());
    g.grad(y.sum(), &[x]);
    let last = g
        .to_text_range(0..g.len())
        .lines()
        .last()
        .map(str::to_string);
    assert!(last.is_some_and(|l| l.contains("mul") && l.ends_with("in layer")));
}

/// Guards can be dropped in any order: the current scope is the one opened last of those still
/// open.
#[test]
fn scopes_close_in_any_order() {
    let g = Graph::new();
    let here = || {
        g.input(1.0)
            .fail("")
            .error()
            .map(|e| e.scope().to_string())
            .unwrap_or_default()
    };
    let (a, b) = (g.scope("a"), g.scope("b"));
    drop(a);
    assert_eq!(here(), "a.b");
    let c = g.scope("c");
    drop(b);
    assert_eq!(here(), "a.b.c");
    drop(c);
    assert_eq!(here(), "");
    let all: Vec<_> = ["d", "e", "f"]
        .map(|name| g.scope(name))
        .into_iter()
        .collect();
    drop(all); // the outermost one first
    assert_eq!(here(), "");
    let outer = g.scope("g");
    g.within("h", || assert_eq!(here(), "g.h"));
    assert_eq!(here(), "g");
    drop(outer);
    assert_eq!(here(), "");
}
