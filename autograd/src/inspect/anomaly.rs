//! The origin of a NaN or an infinity: the first bad value of the forward pass and the first one of
//! the backward pass.

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
    /// A guard: the scalar 0, whose computation fails if any element of these values is NaN or
    /// infinite. Fetched in the same [`run`](Graph::run) as a training step, it prevents parameter
    /// updates in that case.
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
        let _call_site = self.call_site();
        if let Some(error) = self.foreign("check_finite", values.iter().copied()) {
            return error;
        }
        let floats = values
            .iter()
            .filter(|v| v.error().is_some() || v.known_dtype().is_float());
        // 0 times a finite value is 0, times any other NaN: this is one elementwise op, which is
        // fused with the computation of the values
        let zero = floats
            .map(|v| (*v * 0.0).sum().cast(DType::F64))
            .reduce(|a, b| a + b);
        zero.map_or_else(|| self.constant(0.0), |zero| zero.apply(guard::CheckFinite))
    }

    /// As [`run`](Graph::run), but if a requested value or a new value of a parameter is not
    /// finite, returns an error that says where it comes from, and updates nothing. The error names
    /// the first bad value of the forward pass and the first one of the backward pass, each with
    /// the ranges of its inputs, its scope and its source line.
    ///
    /// The search evaluates every operation by its definition, one after the other. It is slow, but
    /// needs no preparation. An infinite intermediate value of a finite result (a mask of -∞ in a
    /// softmax) is not an anomaly.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input([2.0, 0.0]);
    /// let y = x.sqrt().sum();                    // finite, but the derivative at 0 is not
    /// let e = g.detect_anomaly((y, g.grad(y, &[x]))).unwrap_err();
    /// assert_eq!(e.op(), "sqrt");
    /// println!("{e}");
    /// ```
    #[track_caller]
    #[doc(alias = "debug_nans")]
    #[doc(alias = "set_detect_anomaly")]
    pub fn detect_anomaly<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<F::Out> {
        self.find_anomaly(&what)?;
        self.run(what)
    }

    /// Only the search of [`detect_anomaly`](Graph::detect_anomaly): updates nothing, whatever it
    /// finds.
    #[track_caller]
    pub fn find_anomaly<'g, F: Fetch<'g>>(&'g self, what: &F) -> Result<()> {
        let requested = self.list(vars(what))?;
        self.inner.borrow_mut().read_params();
        anomaly(&self.inner.borrow(), &requested)?.map_or(Ok(()), Err)
    }
}

/// The report, if one of the requested values is not finite.
fn anomaly(inner: &Inner, requested: &[NodeId]) -> Result<Option<Error>> {
    let values = inner.define_needed(requested, None, false, &|id| inner.leaf_now(id))?;
    let origins = origins(inner, requested, &values);
    let backward = origins
        .iter()
        .copied()
        .find(|&id| inner.sweep_of(id).is_some());
    let forward = origins
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
    Ok(Some(Error::new(
        inner.name(of),
        OpError::new(message),
        inner.place_of(id),
    )))
}

/// The nodes that introduced non-finite elements into the requested values, oldest first. A NaN is
/// traced to NaN inputs if there are any, and otherwise to infinite ones.
fn origins(
    inner: &Inner,
    requested: &[NodeId],
    values: &IndexVec<NodeId, Option<Tensor>>,
) -> Vec<NodeId> {
    let state = values
        .iter()
        .map(|v| v.as_ref().map_or(State::Fine, State::of));
    let state: IndexVec<NodeId, State> = IndexVec::from_vec(state.collect());
    let mut blamed = IndexVec::filled(false, values.len());
    let updates = inner.updates.iter().map(|u| u.value);
    for id in requested.iter().copied().chain(updates) {
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

/// Whether a value is finite.
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

/// Formats what is known about nodes.
struct Report<'r> {
    inner: &'r Inner,
    values: &'r IndexVec<NodeId, Option<Tensor>>,
}

impl Report<'_> {
    /// How many elements are bad, the first of them, and the range of the others.
    fn summary(&self, id: NodeId) -> String {
        self.values[id].as_ref().map_or_else(String::new, summary)
    }

    /// A node with its inputs.
    fn node(&self, out: &mut String, title: &str, id: NodeId) {
        let inner = self.inner;
        let place = |id: NodeId| {
            let scope = inner.scope_path(id);
            format!(
                "{}{}",
                if scope.is_empty() {
                    String::new()
                } else {
                    format!("{scope}, ")
                },
                inner.source_of(id)
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
            self.summary(id)
        );
        let args = inner.args(id);
        let mut seen = HashSet::new();
        for &arg in args.iter().filter(|&&arg| seen.insert(arg)) {
            let _ = write!(out, "\n    from {}: {}", inner.line(arg), self.summary(arg));
        }
    }
}

/// A summary of a tensor: its range, and its elements that are not finite.
fn summary(value: &Tensor) -> String {
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
