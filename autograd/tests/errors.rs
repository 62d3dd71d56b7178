//! Error messages are part of the interface. One snapshot holds all of them, to be read as a
//! document.
//!
//! After an intended change: `INSTA_UPDATE=always cargo test -p graphgrad --test errors`, and review
//! the diff.

use autograd::{
    DType, Error, Graph, Op, OpError, Param, Result, Rule, Tensor, TensorView, TensorViewMut, Type,
    Var,
};

type Case = for<'g> fn(Var<'g>) -> Var<'g>;

/// Collects errors under titles.
#[derive(Default)]
struct Book(String);

impl Book {
    #[track_caller]
    fn add<T>(&mut self, title: &str, result: Result<T>) {
        let Err(e) = result else {
            panic!("{title}: no error")
        };
        self.0 += &format!("{title}\n{}\n\n", masked(&e));
    }

    /// Cases of one input each.
    fn of_matrix(&mut self, cases: &[(&str, Case)]) {
        for (title, case) in cases {
            let g = Graph::new();
            let x = g.input([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
            self.add(title, case(x).value());
        }
    }
}

/// The message without line numbers.
fn masked(e: &Error) -> String {
    let mut text = String::new();
    for line in e.to_string().lines() {
        let line = match line.find(".rs:") {
            Some(at) => format!(
                "{}.rs:LINE{}",
                &line[..at],
                if line.ends_with(')') { ")" } else { "" }
            ),
            None => line.to_string(),
        };
        text += &line;
        text.push('\n');
    }
    text.trim_end()
        .replace("autograd/tests/", "tests/")
        .replace('\\', "/")
}

#[derive(Clone, PartialEq, Debug)]
struct Custom(&'static str);

impl Op for Custom {
    const NAME: &'static str = "custom";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        match self.0 {
            "infer panics" => panic!("in infer"),
            "infer refuses" => {
                Err(OpError::new("expected something else").hint("give it something else"))
            }
            _ => Ok(x[0]),
        }
    }
    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        match self.0 {
            "eval panics" => panic!("in eval, with {} inputs", x.len()),
            "eval reads f32" => x[0].slice::<f32>().map(drop),
            "eval writes f32" => out.slice::<f32>().map(drop),
            _ => Err("did not work out".into()),
        }
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        match self.0 {
            "rule panics" => panic!("in the rule"),
            "rule of another shape" => Some(r.ct.sum()),
            "rule of another dtype" => Some(r.ct.cast(DType::F32)),
            _ => Some(r.ct),
        }
    }
}

fn shapes(book: &mut Book) {
    book.of_matrix(&[
        ("add: shapes that do not broadcast", |x| {
            x + x.graph().input([1.0, 2.0])
        }),
        ("matmul: inner sizes", |x| x.matmul(x)),
        ("matmul: inner sizes, vector", |x| {
            x.matmul(x.graph().input([1.0, 2.0]))
        }),
        ("matmul: batches that do not broadcast", |x| {
            x.broadcast_to([2, 2, 3])
                .matmul(x.t().broadcast_to([3, 3, 2]))
        }),
        ("matmul: a scalar", |x| x.matmul(x.sum())),
        ("reshape: another number of elements", |x| x.reshape([4, 2])),
        ("reshape: no size fits", |x| x.reshape([4, -1])),
        ("reshape: a negative size", |x| x.reshape([-2, -3])),
        ("broadcast_to", |x| x.broadcast_to([4, 3])),
        ("broadcast_to: fewer axes", |x| x.broadcast_to([3])),
        ("t of a vector", |x| x.sum_axis(0).t()),
        ("transpose: no such axis", |x| x.transpose(0, 2)),
        ("permute: not all axes", |x| x.permute([1])),
        ("permute: an axis twice", |x| x.permute([1, 1])),
        ("sum: no such axis", |x| x.sum_axis(2)),
        ("sum: an axis twice", |x| x.sum_axis([0, -2])),
        ("mean: no such axis", |x| x.mean_axis(-3)),
        ("max of a scalar over an axis", |x| x.sum().max_axis(0)),
        ("max of an empty axis", |x| x.slice(0, 2..).max_axis(0)),
        ("argmax: no such axis", |x| x.argmax(5)),
        ("softmax: no such axis", |x| x.softmax(2)),
        ("slice: no such axis", |x| x.slice(-3, 0..1)),
        ("slice: a step of 0", |x| x.slice_step(0, .., 0)),
        ("too many axes", |x| {
            x.broadcast_to([1, 1, 1, 1, 1, 1, 1, 2, 3])
        }),
        ("too many elements", |x| {
            x.sum().broadcast_to([usize::MAX, 2])
        }),
        ("no memory", |x| x.graph().zeros([1usize << 40], DType::F64)),
        ("fail in a layer", |x| {
            x.fail("expected [batch, time, channels]")
        }),
    ]);
}

fn dtypes(book: &mut Book) {
    book.of_matrix(&[
        ("f32 with f64", |x| x + x.graph().input([1f32, 2.0, 3.0])),
        ("sin of integers", |x| x.cast(DType::I64).sin()),
        ("integers divided", |x| x.cast(DType::I64) / 2),
        ("a fraction with integers", |x| x.cast(DType::I64) * 0.5),
        ("mean of integers", |x| x.cast(DType::I64).mean()),
        ("matmul of integers", |x| {
            x.cast(DType::I64).matmul(x.cast(DType::I64).t())
        }),
        ("arithmetic of booleans", |x| x.gt(2.0) + x.gt(3.0)),
        ("select by floats", |x| x.select(x, 0.0)),
        ("an index that is no integer", |x| x.take(x.sum(), 0)),
        ("labels that are no integers", |x| {
            x.cross_entropy(x.sum_axis(1))
        }),
        ("NaN as an integer", |x| (x * f64::NAN).cast(DType::I64)),
        ("integer overflow", |x| x.cast(DType::I64) * i64::MAX),
        ("a probability of 1.5", |x| x.graph().bernoulli(1.5, [2])),
    ]);
}

fn values(book: &mut Book) {
    book.of_matrix(&[
        ("take: out of range", |x| {
            x.take(x.graph().constant([0, 3]), 1)
        }),
        ("gather: out of range", |x| {
            x.gather(1, x.graph().constant([[-4], [0]]))
        }),
        ("gather: shapes", |x| {
            x.gather(1, x.graph().constant([0, 1]))
        }),
        ("scatter_add: shapes", |x| {
            x.scatter_add(1, x.graph().constant([[0], [1]]), x)
        }),
        ("cross_entropy: a label that is no class", |x| {
            x.cross_entropy(x.graph().constant([0, 3]))
        }),
        ("cross_entropy: number of labels", |x| {
            x.cross_entropy(x.graph().constant([0, 1, 2]))
        }),
        ("one_hot: out of range", |x| {
            x.graph().constant([0, 5]).one_hot(3, DType::F32)
        }),
        ("custom: infer refuses", |x| {
            x.apply(Custom("infer refuses"))
        }),
        ("custom: infer panics", |x| x.apply(Custom("infer panics"))),
        ("custom: eval fails", |x| x.apply(Custom("eval fails"))),
        ("custom: eval panics", |x| x.apply(Custom("eval panics"))),
        ("custom: eval reads another dtype", |x| {
            x.apply(Custom("eval reads f32"))
        }),
        ("custom: eval writes another dtype", |x| {
            x.apply(Custom("eval writes f32"))
        }),
    ]);
}

fn gradients(book: &mut Book) {
    let g = Graph::new();
    let x = g.input([1.0, 2.0]);
    book.add("backward of a vector", x.sin().backward().map(drop));
    book.add("backward of an integer", x.argmax(0).backward().map(drop));
    book.add(
        "backward of an error",
        (x + g.input([1.0, 2.0, 3.0])).sum().backward().map(drop),
    );
    book.add("grad of a vector", g.grad(x * x, &[x])[0].value());
    book.add(
        "vjp: another type",
        x.sin().vjp(g.constant(1.0), &[x])[0]
            .map(Var::value)
            .transpose(),
    );
    for rule in [
        "rule panics",
        "rule of another shape",
        "rule of another dtype",
    ] {
        book.add(
            &format!("custom: {rule}"),
            x.apply(Custom(rule)).sum().backward().map(drop),
        );
    }
    let other = Graph::new();
    book.add("two graphs", (x + other.input([1.0, 2.0])).value());
    book.add(
        "grad across graphs",
        g.grad(x.sum(), &[other.input(1.0)])[0].value(),
    );
    book.add("run of another graph", g.run(other.input(1.0)));
    book.add(
        "a panicking closure",
        autograd::grad(|_| panic!("in the closure"))(&[1.0]),
    );
    book.add(
        "a scalar of a vector",
        x.sum().backward().and_then(|d| d.scalar(x)),
    );
}

fn parameters(book: &mut Book) {
    let w = Param::new([1.0, 2.0]);
    let g = Graph::new();
    let loss = g.param(&w).sum();
    g.assign(&w, g.param(&w) * 2.0);
    book.add("run ...", g.run(loss).and_then(|_| g.run(loss)));
    book.add("... and value after it", (g.param(&w) * 3.0).value());
    let g = Graph::new();
    g.assign(&w, g.param(&w) * 2.0);
    g.assign(&w, g.param(&w) * 3.0);
    book.add("two updates", g.run(()));
    let g = Graph::new();
    g.assign(&w, g.param(&w).sum());
    book.add("an update of another shape", g.run(()));
    let g = Graph::new();
    g.assign(&w, Graph::new().input([1.0, 2.0]));
    book.add("an update from another graph", g.run(()));
    let g = Graph::new();
    let first = g.param(&Param::new(1.0)).value();
    let set = first.and_then(|_| w.set([5.0, 6.0]));
    let bound = g.within("layer", || g.param(&w));
    book.add(
        "changed after the graph has read others",
        set.and_then(|()| bound.sum().value()),
    );
    book.add("set to another shape", w.set([1.0]));
}

fn tensors(book: &mut Book) {
    let t = Tensor::from([[1.0, 2.0]]);
    book.add(
        "elements and shape",
        Tensor::new([2, 2], vec![1.0, 2.0, 3.0]),
    );
    book.add("a negative size", Tensor::full([-1], 0.0));
    book.add("read as another dtype", t.as_slice::<f32>().map(drop));
    book.add("not a single element", t.scalar());
    book.add("a row that is missing", t.rows(&[0, 1]));
    book.add(
        "rows that do not fit",
        Tensor::from_rows(&[t.clone(), Tensor::from([[1.0]])]),
    );
    book.add(
        "too many axes from ndarray",
        Tensor::try_from(ndarray::ArrayD::<f64>::zeros(vec![1; 9])),
    );
}

#[test]
fn messages() {
    std::panic::set_hook(Box::new(|_| {})); // no backtraces for expected panics
    let mut book = Book::default();
    shapes(&mut book);
    dtypes(&mut book);
    values(&mut book);
    gradients(&mut book);
    parameters(&mut book);
    tensors(&mut book);
    let _ = std::panic::take_hook();
    insta::assert_snapshot!("messages", book.0);
}

#[test]
fn an_error_names_the_line_the_scope_and_where_the_layer_was_made() {
    let g = Graph::new();
    let made = std::panic::Location::caller();
    let _outer = g.scope("mlp");
    let _inner = g.scope_made_at("linear", made);
    let (x, line) = (g.input([1.0, 2.0]) + g.input([1.0, 2.0, 3.0]), line!());
    let e = (x.sin() * 2.0).sum().value().expect_err("sticks");
    assert_eq!(e.location().map(|l| l.line()), Some(line));
    assert_eq!((e.op(), e.scope()), ("add", "mlp.linear"));
    assert!(
        e.to_string()
            .contains(&format!("mlp.linear (made at {made})")),
        "{e}"
    );
    assert_eq!(
        format!("{e}"),
        format!("{e:?}"),
        "main() prints it readably"
    );
}

#[test]
fn the_oldest_of_several_errors_is_reported() {
    let g = Graph::new();
    let x = g.input([1.0, 2.0]);
    let first = x.reshape([3]);
    let second = x.reshape([5]);
    for y in [first + second, second + first, second * 2.0 + first.sum()] {
        assert!(y.value().is_err_and(|e| e.message().contains("[3]")));
    }
    assert!(
        g.run((second, first))
            .is_err_and(|e| e.message().contains("[3]"))
    );
    // and at run time: the one that was written first
    let index = |k: i64| x.take(g.constant([k]), 0);
    let (a, b) = (index(7), index(9));
    assert!(g.run(b + a).is_err_and(|e| e.message().contains("index 7")));
}

#[test]
fn shape_queries_return_the_error() {
    let g = Graph::new();
    let x = g.input([1.0, 2.0]).reshape([3]);
    assert!(
        x.shape().is_err() && x.dtype().is_err() && x.dims::<1>().is_none() && x.error().is_some()
    );
    assert!(format!("{x:?}").contains("error in reshape"));
    // every kind of operation passes it on
    let all = [
        x + 1.0,
        1.0 - x,
        x.sin(),
        x.sum(),
        x.t(),
        x.matmul(x),
        x.select(x, x),
        x.cast(DType::F32),
        x.slice(0, ..),
        x.one_hot(3, DType::F32),
        x.argmax(0),
        x.cross_entropy(x),
        x.take(x, 0),
        x.detach(),
        x.powi(2),
        x.softmax(0),
    ];
    for y in all {
        assert!(y.value().is_err_and(|e| e.op() == "reshape"));
    }
    assert!(
        g.bernoulli(x, [2])
            .value()
            .is_err_and(|e| e.op() == "reshape")
    );
    assert!(x.backward().is_err_and(|e| e.op() == "reshape"));
}
