//! Where a NaN or an infinity comes from: the first bad value of the forward pass and the first one of the backward pass.

use crate::{
    error::{Error, OpError, Result},
    graph::Graph,
    index::IndexVec,
    nodes::{Inner, NodeId},
    op::guard,
    run::fetch::{Fetch, vars},
    tensor::{DType, Tensor},
    var::Var,
};
use std::{collections::HashSet, fmt::Write};

impl Graph {
    /// A guard: the number 0, whose computation is an error if any element of these values is NaN or infinite. Asked for in
    /// the same [`run`](Graph::run) as a training step, it makes sure that no parameter is updated then.
    ///
    /// ```
    /// use autograd::{Graph, Param};
    /// let w = Param::new([0.0, 1.0]);
    /// let g = Graph::new();
    /// let loss = g.param(&w).ln().sum();
    /// let [d] = g.grad(loss, &[g.param(&w)]);
    /// g.assign(&w, g.param(&w) - 0.1 * d);
    /// let e = g.run((loss, g.check_finite(&[loss, d]))).unwrap_err();
    /// assert_eq!((e.op(), w.value().to_f64s()), ("check_finite", vec![0.0, 1.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn check_finite<'g>(&'g self, values: &[Var<'g>]) -> Var<'g> {
        let _here = self.here();
        if let Some(error) = self.foreign("check_finite", values.iter().copied()) {
            return error;
        }
        let floats = values
            .iter()
            .filter(|v| v.error().is_some() || v.known_dtype().is_float());
        // 0 times a number is 0, times anything else NaN: one pass that is fused with what computes the values
        let zero = floats
            .map(|v| (*v * 0.0).sum().cast(DType::F64))
            .reduce(|a, b| a + b);
        zero.map_or_else(|| self.constant(0.0), |zero| zero.apply(guard::CheckFinite))
    }

    /// As [`run`](Graph::run), but if a value that is asked for, or a parameter's new value, is not finite, it is an error
    /// that tells where that comes from, and nothing is updated: the first bad value in the order of the forward pass and
    /// the first one in the order of the backward pass, each with the ranges of its inputs, its scope and its source line.
    ///
    /// The search computes every operation by its definition, one after the other: slow, but it needs nothing prepared.
    /// What is infinite on the way to a finite result (a mask of -∞ in a softmax) is not an anomaly.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input([2.0, 0.0]);
    /// let y = x.sqrt().sum();                    // its value is fine, its slope at 0 is not
    /// let e = g.detect_anomaly((y, g.grad(y, &[x]))).unwrap_err();
    /// assert_eq!(e.op(), "sqrt");
    /// println!("{e}");
    /// ```
    #[track_caller]
    pub fn detect_anomaly<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<F::Out> {
        self.find_anomaly(&what)?;
        self.run(what)
    }

    /// The search of [`detect_anomaly`](Graph::detect_anomaly) alone: nothing is updated, whatever it finds.
    #[track_caller]
    pub fn find_anomaly<'g, F: Fetch<'g>>(&'g self, what: &F) -> Result<()> {
        let wanted = self.list(vars(what))?;
        anomaly(&self.inner.borrow(), &wanted)?.map_or(Ok(()), Err)
    }
}

/// The report, if something that is wanted is not finite.
fn anomaly(inner: &Inner, wanted: &[NodeId]) -> Result<Option<Error>> {
    let values = inner.define_needed(wanted, None, false, &|id| inner.leaf_now(id))?;
    let to_blame = to_blame(inner, wanted, &values);
    let backward = to_blame
        .iter()
        .copied()
        .find(|&id| inner.sweep_of(id).is_some());
    let forward = to_blame
        .first()
        .copied()
        .filter(|&id| backward.is_none_or(|first| id < first));
    let Some(id) = forward.or(backward) else {
        return Ok(None);
    };
    let report = Report {
        inner,
        values: &values,
    };
    let mut message = String::from("a value is not finite");
    match forward {
        Some(id) => report.node(&mut message, "the first one in the forward pass", id),
        None => message.push_str("\n  all values of the forward pass before it are finite"),
    }
    if let Some(id) = backward {
        report.node(&mut message, "the first one in the backward pass", id);
    }
    let of = if forward.is_some() {
        id
    } else {
        inner.rule_of(id).unwrap_or(id)
    };
    let node = &inner.nodes[id];
    Ok(Some(Error::new(
        inner.name(of),
        OpError::new(message),
        inner.place(node.scope, node.source),
    )))
}

/// The nodes through which what is not finite came into the wanted values, oldest first: NaNs come from NaNs where there
/// are any among the inputs, and otherwise from infinities.
fn to_blame(
    inner: &Inner,
    wanted: &[NodeId],
    values: &IndexVec<NodeId, Option<Tensor>>,
) -> Vec<NodeId> {
    let state = values
        .iter()
        .map(|v| v.as_ref().map_or(State::Fine, State::of));
    let state: IndexVec<NodeId, State> = IndexVec::from_vec(state.collect());
    let mut blamed = IndexVec::filled(false, values.len());
    let updates = inner.updates.iter().map(|u| u.value);
    for id in wanted.iter().copied().chain(updates) {
        blamed[id] |= state[id] != State::Fine;
    }
    for id in values.indices().rev() {
        if blamed[id] {
            let args = inner.args(id);
            let worst = args.iter().map(|&a| state[a]).max();
            let worst = worst.filter(|&worst| worst != State::Fine);
            let as_bad = |&&a: &&NodeId| worst == Some(state[a]);
            args.iter().filter(as_bad).for_each(|&a| blamed[a] = true);
        }
    }
    values.indices().filter(|&id| blamed[id]).collect()
}

/// What is wrong with a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Fine,
    Infinite,
    Nan,
}

impl State {
    fn of(value: &Tensor) -> State {
        if !value.dtype().is_float() {
            return State::Fine;
        }
        let of_one = |v: f64| {
            if v.is_nan() {
                State::Nan
            } else if v.is_infinite() {
                State::Infinite
            } else {
                State::Fine
            }
        };
        value
            .to_f64s()
            .into_iter()
            .map(of_one)
            .max()
            .unwrap_or(State::Fine)
    }
}

/// What is known about nodes, in words.
struct Report<'r> {
    inner: &'r Inner,
    values: &'r IndexVec<NodeId, Option<Tensor>>,
}

impl Report<'_> {
    /// How many elements are bad, the first of them, and the range of the others.
    fn numbers(&self, id: NodeId) -> String {
        self.values[id].as_ref().map_or_else(String::new, numbers)
    }

    /// A node with its inputs.
    fn node(&self, out: &mut String, title: &str, id: NodeId) {
        let inner = self.inner;
        let place = |id: NodeId| {
            let (node, scope) = (&inner.nodes[id], inner.scope_path(id));
            format!(
                "{}{}",
                if scope.is_empty() {
                    String::new()
                } else {
                    format!("{scope}, ")
                },
                node.source
            )
        };
        let rule = inner
            .rule_of(id)
            .map(|of| format!(", derivative of {} {of}", inner.name(of)))
            .unwrap_or_default();
        // writing to a string cannot fail
        let _ = write!(
            out,
            "\n  {title}: {}{rule} ({})\n    is {}",
            inner.line(id),
            place(id),
            self.numbers(id)
        );
        let args = inner.args(id);
        let mut seen = HashSet::new();
        for &arg in args.iter().filter(|&&arg| seen.insert(arg)) {
            let _ = write!(out, "\n    from {}: {}", inner.line(arg), self.numbers(arg));
        }
    }
}

/// A tensor in a few words: its range, and what is not finite in it.
fn numbers(value: &Tensor) -> String {
    let all = value.to_f64s();
    let finite = || all.iter().filter(|v| v.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| {
        (l.min(v), h.max(v))
    });
    let range = match () {
        () if low == high => format!("{low}"),
        () => format!("{low} to {high}"),
    };
    let Some(first) = all.iter().position(|v| !v.is_finite()) else {
        return if all.is_empty() {
            "empty".into()
        } else {
            range
        };
    };
    let index = value.shape.index_of(first);
    let bad = all.len() - finite().count();
    let mut text = match all.len() {
        1 => format!("{}", all[0]),
        _ => format!(
            "{bad} of {} elements not finite, the first is {} at {index}",
            all.len(),
            all[first]
        ),
    };
    if bad < all.len() {
        let _ = write!(text, ", others {range}"); // writing to a string cannot fail
    }
    text
}
