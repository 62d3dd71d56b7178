//! Parameters in a graph: reading them, other values in their place, and scheduling updates.

use crate::{
    error::{Error, OpError, Result},
    graph::Graph,
    nodes::{Inner, Kind, NodeId, Update},
    param::{self, Moment, Param},
    tensor::{Tensor, Type},
    var::Var,
};
use std::panic::Location;

/// A parameter and the node it is bound to.
pub(crate) struct Binding {
    pub(crate) param: Param,
    pub(crate) node: NodeId,
    pub(crate) value: ParamValue,
    pub(crate) trained: bool,
    /// The node of the new value that is scheduled for it, if any.
    pub(crate) scheduled: Option<NodeId>,
}

/// The value of a parameter in a graph.
pub(crate) enum ParamValue {
    /// It has not been read.
    Unread,
    /// It was read when values were computed, and later ones are computed with it as well.
    Read(Tensor),
    /// This one stands for it.
    Given(Tensor),
}

impl ParamValue {
    pub(crate) fn tensor(&self) -> Option<&Tensor> {
        match self {
            ParamValue::Unread => None,
            ParamValue::Read(value) | ParamValue::Given(value) => Some(value),
        }
    }

    pub(crate) fn is_given(&self) -> bool {
        matches!(self, ParamValue::Given(_))
    }
}

impl Graph {
    /// The `Var` of a parameter; for a second call, the same one.
    ///
    /// A graph uses parameters of one point in time, whatever other threads update meanwhile. That is
    /// when it first computes a value; so values do not fail because of updates. To see one point in
    /// time also with parameters that a graph takes after its first value, and in several graphs, read
    /// them together with [`Param::values`] and [`bind`](Graph::bind) them.
    ///
    /// For updates it is earlier: when the graph took its first parameter. If one has been changed
    /// since, [`run`](Graph::run) is an error and changes nothing, since the step was made for other
    /// values.
    #[track_caller]
    #[doc(alias = "parameter")]
    pub fn param(&self, param: &Param) -> Var<'_> {
        if let Some(&node) = self.inner.borrow().bound.get(&param.id()) {
            return self.var(node);
        }
        self.inner.borrow_mut().moment.begin();
        self.append_param(param, ParamValue::Unread)
    }

    /// Lets a value stand for a parameter: in this graph, [`param`](Graph::param) then means this
    /// value. It is a leaf like the parameter, and gradients are taken for it where they would be
    /// taken for the parameter, which stays as it is. Other values find the same plan. For trial
    /// points of a line search, or a target network.
    ///
    /// It is an error if the value has another dtype or shape, if the graph has used the parameter
    /// before, and to [`assign`](Graph::assign) to the parameter in this graph.
    ///
    /// ```
    /// use autograd::{Graph, Param};
    /// let w = Param::new([1.0, 2.0]);
    /// let loss_at = |w_new: [f64; 2]| {
    ///     let g = Graph::new();
    ///     let weight = g.bind(&w, w_new);
    ///     let loss = g.param(&w).square().sum();
    ///     let [dw] = g.grad(loss, &[weight]);
    ///     g.run((loss, dw))
    /// };
    /// let (loss, dw) = loss_at([3.0, 0.0])?;
    /// assert_eq!((loss.scalar()?, dw.to_f64s()), (9.0, vec![6.0, 0.0]));
    /// assert_eq!(w.value().to_f64s(), [1.0, 2.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn bind(&self, param: &Param, value: impl TryInto<Tensor, Error: Into<Error>>) -> Var<'_> {
        let before = self.inner.borrow().bound.get(&param.id()).copied();
        if let Some(node) = before {
            let e = OpError::new("the graph has used this parameter already")
                .hint("bind values before the forward pass, each parameter once");
            let error = self.fail("bind", e, &[self.var(node)]);
            self.inner.borrow_mut().bound_late.get_or_insert(error.id);
            return error;
        }
        let error = match value.try_into().map_err(Into::into) {
            Ok(value) if value.ty() == param.ty() => {
                return self.append_param(param, ParamValue::Given(value));
            }
            Ok(value) => {
                let (expected, got) = (param.ty(), value.ty());
                let e = OpError::new(format!("expected a value of type {expected}, got {got}"));
                self.fail("bind", e, &[])
            }
            Err(e) => self.fail(e.op(), OpError::new(e.message()), &[]),
        };
        self.inner.borrow_mut().bound.insert(param.id(), error.id);
        error
    }

    /// Whether a value was bound to the parameter of this node.
    fn is_given(&self, bound: Var<'_>) -> bool {
        let inner = self.inner.borrow();
        inner.binding(bound.id).is_some_and(|b| b.value.is_given())
    }

    /// The node of a parameter that is bound for the first time.
    #[track_caller]
    fn append_param(&self, param: &Param, value: ParamValue) -> Var<'_> {
        let origin = self.origin(Location::caller());
        let mut inner = self.inner.borrow_mut();
        let Type { dtype, shape } = param.ty();
        let shape = inner.program.shape_id(shape);
        let node = origin.leaf(Kind::Param, inner.params.len(), dtype, shape);
        let node = inner.program.push(node);
        inner.params.push(Binding {
            param: param.clone(),
            node,
            value,
            trained: param.is_trained(),
            scheduled: None,
        });
        inner.bound.insert(param.id(), node);
        self.var(node)
    }

    /// Schedules an update: the next [`Graph::run`] computes `value` and, if nothing fails, assigns
    /// it to the parameter.
    ///
    /// A second update of the same parameter in one graph, another dtype or shape, or an error in
    /// `value` make that run fail.
    #[track_caller]
    #[doc(alias = "copy_")]
    pub fn assign(&self, param: &Param, value: Var<'_>) {
        // binding it makes the run fail if another graph updates the parameter in between
        let bound = self.param(param);
        let value = if self.scheduled(param).is_some() {
            let e = OpError::new("the parameter already has an update in this graph")
                .hint("a graph is for one step: make a new one for the next");
            self.fail("assign", e, &[bound])
        } else if !std::ptr::eq(value.graph(), self) {
            self.fail(
                "assign",
                OpError::new("the value belongs to another graph"),
                &[bound],
            )
        } else if bound.error().is_some() {
            bound
        } else if self.is_given(bound) {
            let e = OpError::new("a value is bound to the parameter: it cannot be updated here");
            self.fail("assign", e, &[bound])
        } else if value.error().is_none() && value.ty() != bound.ty() {
            self.fail(
                "assign",
                OpError::new("the value and the parameter have different types"),
                &[bound, value],
            )
        } else {
            value
        };
        let mut inner = self.inner.borrow_mut();
        let node = inner.nodes[bound.id];
        if node.kind == Kind::Param {
            inner.params[node.entry()].scheduled.get_or_insert(value.id);
        }
        inner.updates.push(Update {
            target: bound.id,
            value: value.id,
        });
    }

    /// The new value that is scheduled for a parameter, if there is one.
    pub fn scheduled(&self, param: &Param) -> Option<Var<'_>> {
        let inner = self.inner.borrow();
        let node = *inner.bound.get(&param.id())?;
        inner.binding(node)?.scheduled.map(|value| self.var(value))
    }

    /// The scheduled updates in the order in which they were scheduled: each parameter with its new
    /// value. An error if one of them cannot be carried out.
    pub fn updates(&self) -> Result<Vec<(Param, Var<'_>)>> {
        let inner = self.inner.borrow();
        let update = |update: &Update| {
            let error = inner.error(update.target).or(inner.error(update.value));
            match (error, inner.binding(update.target)) {
                (None, Some(binding)) => Ok((binding.param.clone(), self.var(update.value))),
                (error, _) => {
                    let unknown = || OpError::new("it has no parameter").at_caller("updates");
                    Err(error.cloned().unwrap_or_else(unknown))
                }
            }
        };
        inner.updates.iter().map(update).collect()
    }
}

impl Inner {
    /// Reads the parameters that were not read before, at the moment of the first values. One that has
    /// changed since stays unread: a value that needs it is an error.
    ///
    /// They are kept for later values of the graph. While it lives, an update of them needs a buffer of
    /// its own.
    pub(crate) fn read_params(&mut self) {
        let unread = self.params.iter_mut();
        let mut unread: Vec<&mut Binding> = unread.filter(|b| b.value.tensor().is_none()).collect();
        if unread.is_empty() {
            return;
        }
        let params: Vec<Param> = unread.iter().map(|b| b.param.clone()).collect();
        let params: Vec<&Param> = params.iter().collect();
        let read = param::snapshot(&params, self.read, |k, value| {
            unread[k].value = ParamValue::Read(value);
        });
        if let Ok(epoch) = read {
            self.read = Moment::At(epoch);
        }
    }

    /// Lets go of the values that were read, so that updates can be written in place.
    pub(crate) fn let_params_go(&mut self) {
        for binding in &mut self.params {
            if let ParamValue::Read(_) = binding.value {
                binding.value = ParamValue::Unread;
            }
        }
    }
}
