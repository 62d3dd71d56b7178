//! User-defined elementwise ops are fused into kernels like built-in ones: they have the bits of
//! the definition, need no additional kernels, and a panic is an error that names the op.

mod common;

use autograd::{DType, Elementwise, Graph, Param, Partial, Real, Result, Tensor, Var, compile};

/// `x·y + z`, in one formula.
#[derive(Clone, PartialEq, Debug)]
struct MulAdd;

impl Elementwise for MulAdd {
    const NAME: &'static str = "mul_add";
    const INPUTS: usize = 3;
    fn value<T: Real>(&self, x: &[T]) -> T {
        x[0] * x[1] + x[2]
    }
    fn partial<'g>(&self, input: usize, x: &[Var<'g>], _y: Var<'g>) -> Partial<'g> {
        match input {
            0 => Partial::Times(x[1]),
            1 => Partial::Times(x[0]),
            _ => Partial::One,
        }
    }
}

/// `x·σ(kx)`, whose derivative uses another op of this file.
#[derive(Clone, PartialEq, Debug)]
struct Swish(i32);

impl Elementwise for Swish {
    const NAME: &'static str = "swish";
    const INPUTS: usize = 1;
    fn value<T: Real>(&self, x: &[T]) -> T {
        x[0] * (x[0] * T::of(self.0.into())).sigmoid()
    }
    fn partial<'g>(&self, _input: usize, x: &[Var<'g>], _y: Var<'g>) -> Partial<'g> {
        let k = f64::from(self.0);
        let s = (k * x[0]).sigmoid();
        let g = x[0].graph();
        Partial::Times(g.apply(MulAdd, &[k * x[0], s * (1.0 - s), s]))
    }
}

/// The square root of `x - 1`, which panics below 1.
#[derive(Clone, PartialEq, Debug)]
struct PanicsBelowOne;

impl Elementwise for PanicsBelowOne {
    const NAME: &'static str = "touchy";
    const INPUTS: usize = 1;
    fn value<T: Real>(&self, x: &[T]) -> T {
        assert!(x[0].to_f64() >= 1.0, "below 1");
        (x[0] - T::of(1.0)).sqrt()
    }
    fn partial<'g>(&self, _input: usize, _x: &[Var<'g>], y: Var<'g>) -> Partial<'g> {
        Partial::Over(2.0 * y)
    }
}

fn numbers(shape: &[usize], dtype: DType) -> Tensor {
    let count: usize = shape.iter().product();
    let all: Vec<f64> = (0..count).map(|k| (0.37 * k as f64).sin() * 2.0).collect();
    let all = Tensor::new(shape, all).and_then(|t| t.cast(dtype));
    all.expect("small")
}

fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    let bits = |t: &Tensor| t.to_f64s().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    a.shape() == b.shape() && a.dtype() == b.dtype() && bits(a) == bits(b)
}

#[test]
fn value_and_gradient_are_one_kernel() -> Result<()> {
    let g = Graph::new();
    let x = g.input(numbers(&[30, 40], DType::F32));
    let y = ((x.exp() * 0.5).apply(Swish(2)) + x).sum();
    let plan = g.plan((y, g.grads(y, &[x])))?;
    let kinds: Vec<&str> = plan.kernels().iter().map(|k| k.kind).collect();
    assert_eq!(kinds, ["fused"], "{plan}");
    // also for scalars
    let x = g.input(0.3);
    let y = (x.exp() * 0.5).apply(Swish(2)) + x;
    let plan = g.plan((y, g.grads(y, &[x])))?;
    let kinds: Vec<&str> = plan.kernels().iter().map(|k| k.kind).collect();
    assert_eq!(kinds, ["scalar"], "{plan}");
    Ok(())
}

/// Sizes around whole groups, remainders, blocks and parts; broadcasts; both dtypes; the output in
/// place of an input.
#[test]
fn kernels_give_the_bits_of_the_definition() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for n in [1, 7, 127, 128, 200, 1_025, 100_003] {
            let g = Graph::new();
            let x = g.input(numbers(&[2, n], dtype));
            let (row, column) = (
                g.input(numbers(&[n], dtype)),
                g.input(numbers(&[2, 1], dtype)),
            );
            let y = g.apply(MulAdd, &[x.apply(Swish(3)), row, column]) * 0.5;
            let z = g.apply(MulAdd, &[y, y, y.relu()]).apply(Swish(1));
            let mut wanted = vec![y, z];
            wanted.extend(g.grads(z.sum(), &[x, row, column]));
            let expected = g.reference(&wanted)?;
            let got = g.run(wanted)?;
            let equal = got.iter().zip(&expected).all(|(a, b)| same_bits(a, b));
            assert!(equal, "{dtype} {n}");
        }
    }
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}

#[test]
fn second_order_and_compiled() -> Result<()> {
    let third = compile(|[x]| {
        let g = x.graph();
        let y = x.apply(Swish(1)).sum();
        let [d] = g.grad(y, &[x]);
        let [dd] = g.grad(d.sum(), &[x]);
        [y, d, dd]
    });
    let by_hand = compile(|[x]| {
        let g = x.graph();
        let y = (x * x.sigmoid()).sum();
        let [d] = g.grad(y, &[x]);
        let [dd] = g.grad(d.sum(), &[x]);
        [y, d, dd]
    });
    let x = numbers(&[333], DType::F64);
    for _ in 0..2 {
        for (a, b) in third.call([&x])?.iter().zip(&by_hand.call([&x])?) {
            let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
            assert!(
                a.to_f64s().iter().zip(&b.to_f64s()).all(close),
                "{a:?} {b:?}"
            );
        }
    }
    Ok(())
}

/// A panic is an error that names the op, at any position in a kernel, and no parameter is changed:
/// such an op is never part of the commit phase.
#[test]
fn a_panic_is_an_error_that_names_the_op() -> Result<()> {
    for n in [1, 5, 1_000, 300_000] {
        let w = Param::new(Tensor::full([n], 3.0)?);
        for below in [true, false] {
            let g = Graph::new();
            let v = g.param(&w);
            let shift = if below { 2.5 } else { 0.5 };
            let y = (v - shift).apply(PanicsBelowOne) * 2.0;
            g.assign(&w, y.exp() + v);
            let before = w.value();
            match g.run(y.sin().sum()) {
                Ok(_) => assert!(!below && w.value() != before),
                Err(e) => {
                    assert!(below && w.value() == before, "{n}");
                    assert_eq!(e.op(), "touchy", "{e}");
                    assert!(e.to_string().contains("below 1"), "{e}");
                }
            }
            // and in an update of its own, which nothing else reads
            let g = Graph::new();
            let v = g.param(&w);
            g.assign(&w, (v - 100.0).apply(PanicsBelowOne));
            let before = w.value();
            let e = g
                .run(g.input(1.0))
                .map(|_| ())
                .map_err(|e| e.op().to_string());
            assert_eq!((e, w.value() == before), (Err("touchy".into()), true));
        }
    }
    Ok(())
}
