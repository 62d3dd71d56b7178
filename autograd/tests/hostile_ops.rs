//! User implementations of traits that lie about types and equality, fail although they declare
//! that they cannot, or panic anywhere. The result is an error or wrong values in the user's own
//! ops, never a panic of the library, an invalid memory access, or a partial update of parameters.

use autograd::{
    DType, Fetch, Graph, Ints, Op, OpError, Operand, Param, Rule, Shape, Split, Tensor, TensorView,
    TensorViewMut, Type, Var,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    vec::IntoIter,
};

/// Where an op panics or fails.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    Infer,
    Eval,
    HalfWay,
    Fails,
    Vjp,
    Stranger,
    Equal,
    MayFail,
}

/// `count` copies of `value`. Claims to equal every other op with the same fault, and that it
/// cannot fail.
#[derive(Clone, Debug)]
struct Liar {
    count: usize,
    value: f64,
    fault: Fault,
}

impl PartialEq for Liar {
    fn eq(&self, other: &Liar) -> bool {
        assert!(self.fault != Fault::Equal, "on purpose");
        self.fault == other.fault
    }
}

impl Op for Liar {
    const NAME: &'static str = "liar";
    fn infer(&self, _: &[Type]) -> Result<Type, OpError> {
        assert!(self.fault != Fault::Infer, "on purpose");
        Ok(Type::new(DType::F64, Shape::new(&[self.count])?))
    }
    fn eval(&self, _: &[TensorView], mut out: TensorViewMut) -> Result<(), OpError> {
        assert!(self.fault != Fault::Eval, "on purpose");
        let out = out.slice::<f64>()?;
        for (k, out) in out.iter_mut().enumerate() {
            assert!(
                self.fault != Fault::HalfWay || k < self.count / 2,
                "on purpose"
            );
            *out = self.value;
        }
        if self.fault == Fault::Fails {
            Err("on purpose".into())
        } else {
            Ok(())
        }
    }
    fn vjp<'g>(&self, _: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        assert!(self.fault != Fault::Vjp, "on purpose");
        if self.fault == Fault::Stranger {
            let other: &'static Graph = Box::leak(Box::new(Graph::new()));
            for _ in 0..100 {
                other.input(1.0);
            }
            return Some(other.input(1.0));
        }
        Some(r.ct.sum() * r.x[0].ones_like())
    }
    fn may_fail(&self, _: &[Type]) -> bool {
        assert!(self.fault != Fault::MayFail, "on purpose");
        false
    }
}

/// Runs code that must not panic.
fn no_panic<R>(what: &str, f: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| panic!("{what} panicked"))
}

fn liar(count: usize, value: f64, fault: Fault) -> Liar {
    Liar {
        count,
        value,
        fault,
    }
}

#[test]
fn ops_that_claim_equality_keep_their_types() {
    for size in [1, 7, 1025, 100_003] {
        let g = Graph::new();
        let x = g.input(1.0);
        let small = x.apply(liar(size, 2.0, Fault::None));
        let large = x.apply(liar(2 * size, 3.0, Fault::None));
        let (a, b) = g.run((small, large)).expect("runs");
        assert_eq!((a.len(), b.len()), (size, 2 * size));
        // the same structure again, from the cache: other node sizes make another program
        let g = Graph::new();
        let y = g
            .input(1.0)
            .apply(liar(size + 1, 4.0, Fault::None))
            .value()
            .expect("runs");
        assert_eq!(y.len(), size + 1);
    }
}

#[test]
fn faults_are_errors_without_side_effects() {
    use Fault::*;
    for fault in [Infer, Eval, HalfWay, Fails, Vjp, Stranger, Equal, MayFail] {
        for size in [3, 1025] {
            let what = format!("{fault:?} of {size}");
            let (p, q) = (Param::new(vec![1.0; size]), Param::new(vec![1.0; size]));
            // twice: the second time the plan, if any, is cached
            for _ in 0..2 {
                let works = no_panic(&what, || {
                    let g = Graph::new();
                    let (v, w) = (g.param(&p), g.param(&q));
                    let y = (v * w).apply(liar(size, 5.0, fault));
                    let d = g.grads(y.sum(), &[v]);
                    g.assign(&p, v * 2.0);
                    g.assign(&q, w + y + y.apply(liar(size, 6.0, fault)));
                    let has_values = [y.value().is_ok(), d[0].value().is_ok()];
                    let _ = (
                        format!("{y:?} {:?}", d[0]),
                        g.to_text(),
                        y.backward().is_ok(),
                        g.plan(y).is_ok(),
                    );
                    let _ = (
                        g.find_anomaly(&y).is_ok(),
                        g.saved_for_backward((y, d)).is_ok(),
                        g.jvp(y, &[v], &[w]).error(),
                    );
                    assert_eq!(g.run(y).is_ok(), has_values[0], "{what}");
                    has_values
                });
                let has_value = !matches!(fault, Infer | Eval | HalfWay | Fails);
                let has_gradient = !matches!(fault, Infer | Vjp | Stranger);
                assert_eq!(works, [has_value, has_gradient], "{what}");
                let changed = [&p, &q].map(|p| p.value().to_f64s()[0] != 1.0);
                assert_eq!(changed, [has_value; 2], "{what}: all or none");
                p.set(vec![1.0; size]).expect("fits");
                q.set(vec![1.0; size]).expect("fits");
            }
        }
    }
    // a failed run leaves nothing behind
    let g = Graph::new();
    assert_eq!(
        g.input(1.0)
            .apply(liar(1025, 7.0, None))
            .value()
            .expect("runs")
            .to_f64s(),
        vec![7.0; 1025]
    );
}

/// Infers another shape at each call.
#[derive(Clone, PartialEq, Debug)]
struct ChangingShape;

static INFER_CALLS: AtomicUsize = AtomicUsize::new(0);

impl Op for ChangingShape {
    const NAME: &'static str = "fickle";
    fn infer(&self, _: &[Type]) -> Result<Type, OpError> {
        let count = 1 + INFER_CALLS.fetch_add(1000, Relaxed);
        Ok(Type::new(
            if count % 2000 == 1 {
                DType::F64
            } else {
                DType::I64
            },
            Shape::new(&[count])?,
        ))
    }
    /// Writes nothing.
    fn eval(&self, _: &[TensorView], _: TensorViewMut) -> Result<(), OpError> {
        Ok(())
    }
    fn vjp<'g>(&self, _: usize, _: &Rule<'_, 'g>) -> Option<Var<'g>> {
        None
    }
}

#[test]
fn the_type_of_a_node_never_changes() {
    for round in 0..4 {
        let g = Graph::new();
        let x = g.input(vec![round as f64; 10]);
        let all: Vec<Var<'_>> = (0..6).map(|_| x.apply(ChangingShape)).collect();
        let values = g.run(all.clone()).expect("runs");
        for (v, value) in all.iter().zip(&values) {
            assert_eq!(
                (v.shape().ok().as_deref(), v.dtype().ok()),
                (Some(value.shape()), Some(value.dtype()))
            );
        }
    }
}

/// Its destructor panics.
#[derive(Clone, PartialEq, Debug)]
struct PanicsOnDrop;

static ARMED: AtomicBool = AtomicBool::new(false);

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        assert!(
            !ARMED.load(Relaxed) || std::thread::panicking(),
            "on purpose"
        );
    }
}

impl Op for PanicsOnDrop {
    const NAME: &'static str = "bomb";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(&self, x: &[TensorView], mut out: TensorViewMut) -> Result<(), OpError> {
        out.slice::<f64>()?.copy_from_slice(x[0].slice()?);
        Ok(())
    }
    fn vjp<'g>(&self, _: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct)
    }
}

/// Cached plans hold a program's ops, and are dropped when other programs need the memory.
#[test]
fn dropping_a_plan_with_a_panicking_op_is_safe() {
    let g = Graph::new();
    assert!(g.input(1.0).apply(PanicsOnDrop).value().is_ok());
    drop(g);
    ARMED.store(true, Relaxed);
    for length in 0..300 {
        no_panic("a run", || {
            let g = Graph::new();
            let x = g.input(0.5);
            (0..length)
                .fold(x, |y, _| y * x + x)
                .sin()
                .value()
                .expect("runs")
        });
    }
    ARMED.store(false, Relaxed);
}

/// An operand that returns an arbitrary `Var`, with the dtype of another one.
#[derive(Clone, Copy)]
struct Other<'g>(Var<'g>, Option<Var<'g>>);

impl<'g> Operand<'g> for Other<'g> {
    fn var(self, _: Var<'g>) -> Var<'g> {
        self.0
    }
    fn as_var(&self) -> Option<Var<'g>> {
        self.1
    }
}

#[test]
fn operands_from_other_graphs_are_errors() {
    let (g, other) = (Graph::new(), Graph::new());
    let x = g.input([1.0, 2.0]);
    for k in 0..100 {
        other.input(k as f64);
    }
    let s = other.input([1.0f32, 2.0]);
    no_panic("an expression", || {
        for o in [
            Other(s, None),
            Other(s, Some(s)),
            Other(x, Some(s)),
            Other(s, Some(x)),
        ] {
            let all = [
                x + o,
                x * o,
                x.pow(o),
                x.maximum(o),
                x.leaky_relu(o),
                x.clamp(o, 1.0),
                x.eq(o),
                x.atan2(o),
                x.elu(o),
            ];
            let more = [
                x.gt(0.0).select(o, 1.0),
                x.gt(0.0).select(1.0, o),
                x.pad(0, 1, 1, o),
                x.full_like(o),
            ];
            let drawn = [g.bernoulli(o, [3])];
            for v in all.into_iter().chain(more).chain(drawn) {
                let _ = g.run(v).is_ok();
                let _ = (v.value().is_ok(), v.sum().backward().is_ok());
            }
        }
    });
}

/// Returns another list at each call.
struct Changing(AtomicUsize);

impl Ints for Changing {
    fn list(&self) -> Vec<isize> {
        [
            vec![],
            vec![1, 0],
            vec![-1],
            vec![0; 9],
            vec![5],
            vec![0, 1],
        ][self.0.fetch_add(1, Relaxed) % 6]
            .clone()
    }
}

#[test]
fn lists_that_change_between_calls() {
    no_panic("a shape or axes", || {
        for start in 0..6 {
            let list = || Changing(AtomicUsize::new(start));
            let g = Graph::new();
            let x = g.input([[1.0, 2.0], [3.0, 4.0]]);
            let one = [
                x.permute(list()),
                x.reshape(list()),
                x.broadcast_to(list()),
                x.flip(list()),
                g.zeros(list(), DType::F64),
            ];
            let many = [
                x.sum_axis(list()),
                x.mean_axis_keep(list()),
                x.std_axis(list(), 1),
                x.max_axis(list()),
                x.norm_axis(list()),
            ];
            for v in one.into_iter().chain(many) {
                let _ = (v.value().is_ok(), v.sum().backward().is_ok());
            }
            let _ = (
                Tensor::full(list(), 1.0).is_ok(),
                Tensor::new(list(), vec![1.0; 2]).is_ok(),
            );
        }
    });
}

/// Takes more or fewer values than it listed.
struct WrongCount<'g>(Vec<Var<'g>>, usize);

impl<'g> Fetch<'g> for WrongCount<'g> {
    type Out = usize;
    fn list(&self, out: &mut Vec<Var<'g>>) {
        out.extend(&self.0);
    }
    fn fill(self, values: &mut IntoIter<Tensor>) -> Option<usize> {
        (0..self.1)
            .map(|_| values.next())
            .collect::<Option<Vec<Tensor>>>()
            .map(|all| all.len())
    }
}

#[test]
fn fetches_with_a_wrong_count() {
    let (g, other) = (Graph::new(), Graph::new());
    let x = g.input([1.0, 2.0]);
    assert_eq!(g.run(WrongCount(vec![x, x * 2.0], 1)).ok(), Some(1));
    assert!(g.run(WrongCount(vec![x, x * 2.0], 3)).is_err());
    assert!(g.run(WrongCount(vec![x, other.input(1.0)], 2)).is_err());
}

/// Says anything about its parts.
#[derive(Clone, PartialEq, Debug)]
struct Cut {
    split: Option<Split>,
    /// Takes sizes from here instead of the tensors.
    assumed: Option<usize>,
}

impl Op for Cut {
    const NAME: &'static str = "cut";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(Type::new(DType::F64, x[0].shape))
    }
    fn eval(&self, x: &[TensorView], mut out: TensorViewMut) -> Result<(), OpError> {
        let (shape, x, out) = (
            out.shape().to_vec(),
            x[0].slice::<f64>()?,
            out.slice::<f64>()?,
        );
        assert_eq!(shape.iter().product::<usize>(), out.len());
        let n = self.assumed.unwrap_or(out.len());
        for k in 0..n {
            out[k] = x[k] + 1.0;
        }
        Ok(())
    }
    fn vjp<'g>(&self, _: usize, _: &Rule<'_, 'g>) -> Option<Var<'g>> {
        None
    }
    fn split(&self, _: &[Type]) -> Split {
        self.split.expect("on purpose")
    }
}

#[test]
fn wrong_answers_about_parts() {
    let leading = |axes, inputs| Some(Split::Leading { axes, inputs });
    let answers = [
        None,
        Some(Split::No),
        leading(0, 0),
        leading(1, 0),
        leading(1, 1),
        leading(1, 2),
        leading(1, u32::MAX),
        leading(2, 1),
        leading(3, 1),
        leading(3, u32::MAX),
        leading(4, 1),
        leading(usize::MAX, u32::MAX),
    ];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
    pool.expect("threads").install(|| {
        for split in answers {
            for assumed in [None, Some(0), Some(1), Some(20_000), Some(usize::MAX)] {
                for (shape, other) in [
                    (&[20_000][..], &[20_000][..]),
                    (&[10, 2_000], &[10]),
                    (&[1, 2_000, 10], &[1, 3, 2_000, 10]),
                    (&[0, 5], &[5]),
                    (&[], &[]),
                ] {
                    let run = || {
                        let g = Graph::new();
                        let x = g.constant(Tensor::full(shape, 2.0)?);
                        let other = g.constant(Tensor::full(other, 2.0)?);
                        g.apply(Cut { split, assumed }, &[x, other]).value()
                    };
                    let y = no_panic("an op in parts", run);
                    let is_honest = assumed.is_none()
                        && [None, Some(Split::No), leading(1, 1)].contains(&split);
                    if let Ok(y) = y {
                        assert_eq!(y.shape(), shape);
                        let all = y.to_f64s().iter().all(|&y| y == 3.0);
                        assert!(all || !is_honest, "{split:?} {shape:?}");
                    } else {
                        assert!(!is_honest, "{split:?} {shape:?}");
                    }
                }
            }
        }
    });
}
