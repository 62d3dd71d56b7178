//! Asking for values: the way from a graph to its plan, and from there to the executor. Above
//! `plan` and `exec`, which know nothing of it.

pub(crate) mod fetch;
pub(crate) mod function;
pub(crate) mod memory;

use crate::{
    error::{OpError, Result},
    exec::run::{Clock, Run},
    graph::Graph,
    index::{Index, IndexVec},
    nodes::{Inner, Kind, NodeId, Program, Update},
    param::stale_parameter,
    plan::{
        Plan, cache,
        extract::{Request, Selection},
    },
    tensor::Tensor,
    var::Var,
};
use fetch::{Fetch, vars};
use std::sync::Arc;

impl Graph {
    /// Computes what is asked for (a `Var`, or tuples, arrays and vectors of them), and carries out
    /// the scheduled updates of parameters, in one run: all of them, or none if anything fails.
    ///
    /// A graph is one step: a second run after updates is an error.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0]);
    /// let (sum, all) = g.run((x.sum(), [x.sin(), x.cos()]))?;
    /// assert_eq!(sum.scalar()?, 3.0);
    /// assert_eq!(all.len(), 2);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn run<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<F::Out> {
        self.run_with(what, None)
    }

    /// As [`run`](Graph::run), measured.
    #[track_caller]
    pub(crate) fn run_with<'g, F: Fetch<'g>>(
        &'g self,
        what: F,
        clock: Option<&Clock<'_>>,
    ) -> Result<F::Out> {
        self.is_not_committed()?;
        self.fetch(what, true, clock)
    }

    #[track_caller]
    fn is_not_committed(&self) -> Result<()> {
        if !self.inner.borrow().committed {
            return Ok(());
        }
        let e = OpError::new(
            "the updates of this graph have been carried out already: a graph is one step",
        );
        let hint = "ask for all values of a step together, g.run((loss, prediction)), and make a new graph for the next";
        Err(e.hint(hint).at_caller("run"))
    }

    /// As [`run`](Graph::run), but leaves all parameters as they are: updates stay scheduled, and a later
    /// run carries them out. What was computed is not computed again.
    ///
    /// ```
    /// use autograd::{Graph, Param};
    /// let w = Param::new([1.0, 2.0]);
    /// let g = Graph::new();
    /// g.assign(&w, g.param(&w) * 10.0);
    /// let new: Vec<_> = g.updates()?.into_iter().map(|(_, new)| new).collect();
    /// assert_eq!(g.look(new)?[0].to_f64s(), [10.0, 20.0]);
    /// assert_eq!(w.value().to_f64s(), [1.0, 2.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn look<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<F::Out> {
        self.fetch(what, false, None)
    }

    #[track_caller]
    fn fetch<'g, F: Fetch<'g>>(
        &'g self,
        what: F,
        commit: bool,
        clock: Option<&Clock<'_>>,
    ) -> Result<F::Out> {
        let values = self.execute(&self.list(vars(&what))?, commit, clock)?;
        // `list` and `fill` go through the same structure: there are exactly as many values as it
        // takes
        let filled = what.fill(&mut values.into_iter());
        filled.ok_or_else(|| OpError::new("values are missing").at_caller("run"))
    }

    /// The nodes that are asked for.
    #[track_caller]
    pub(crate) fn list(&self, vars: Vec<Var<'_>>) -> Result<Vec<NodeId>> {
        if vars.iter().any(|v| !std::ptr::eq(v.graph(), self)) {
            return Err(OpError::new("a `Var` of another graph was asked for").at_caller("run"));
        }
        Ok(vars.iter().map(|v| v.id).collect())
    }

    fn execute(
        &self,
        wanted: &[NodeId],
        commit: bool,
        clock: Option<&Clock<'_>>,
    ) -> Result<Vec<Tensor>> {
        let updates = commit && !self.inner.borrow().updates.is_empty();
        match updates {
            true => self.inner.borrow_mut().let_params_go(),
            false => self.inner.borrow_mut().read_params(),
        }
        let (mut values, also) = {
            let inner = self.inner.borrow();
            if let Some(late) = inner.bound_late.and_then(|id| inner.error(id)) {
                return Err(late.clone());
            }
            let (updates, moment) = match updates {
                true => (&inner.updates[..], inner.moment),
                false => (&[][..], inner.read),
            };
            if updates.is_empty()
                && let Some(known) = known(&inner, wanted)
            {
                return known;
            }
            let prepared = Prepared::new(&inner, wanted, updates)?;
            let run = Run {
                inner: &inner,
                plan: &prepared.plan,
                selection: &prepared.selection,
                wanted,
                given: &[],
                keys: &[],
                moment,
                clock,
            };
            (run.run()?, prepared.also)
        };
        let mut inner = self.inner.borrow_mut();
        if updates {
            // values that are asked for later need what the parameters were before
            (inner.committed, inner.read) = (true, inner.moment);
        }
        inner.note_evaluation();
        let extra = values.split_off(wanted.len());
        for (&id, value) in wanted.iter().chain(&also).zip(values.iter().chain(&extra)) {
            if inner.nodes[id].kind == Kind::Op {
                inner.cached.insert(id, value.clone());
            }
        }
        Ok(values)
    }
}

/// The values of leaves and of nodes whose values are cached, if it is only these that are asked
/// for: nothing is planned.
fn known(inner: &Inner, wanted: &[NodeId]) -> Option<Result<Vec<Tensor>>> {
    let is_known = |&id: &NodeId| match inner.nodes[id].kind {
        Kind::Op => inner.cached.contains_key(&id),
        kind => kind != Kind::Error,
    };
    wanted.iter().all(is_known).then(|| {
        let value = |&id: &NodeId| match inner.binding(id) {
            Some(b) => {
                let stale = || inner.error_at(id, "param", stale_parameter(&b.param));
                b.value.tensor().cloned().ok_or_else(stale)
            }
            None => {
                let missing = || inner.error_at(id, "value", "a value is missing".into());
                let known = inner.cached.get(&id).cloned();
                known.or_else(|| inner.leaf(id)).ok_or_else(missing)
            }
        };
        wanted.iter().map(value).collect()
    })
}

/// What is to be run: a plan, and the part of the graph that it is for.
pub(crate) struct Prepared {
    selection: Selection,
    plan: Arc<Plan>,
    /// Nodes whose values are computed as well, to be cached: see
    /// [`worth_caching`](crate::plan::extract).
    also: Vec<NodeId>,
}

impl Prepared {
    /// The one way from a graph to its plan: what is shown of a plan is what runs.
    fn new(inner: &Inner, wanted: &[NodeId], updates: &[Update]) -> Result<Prepared> {
        let (selection, also) = Selection::new(inner, wanted, updates)?;
        let Request {
            program,
            wanted,
            updates,
        } = selection.request(inner, wanted, updates);
        let plan = cache::plan(program, wanted, updates);
        Ok(Prepared {
            selection,
            plan,
            also,
        })
    }
}

/// A plan as it is inspected, with the program that it is for.
pub(crate) struct Planned<'g> {
    pub(crate) inner: &'g Inner,
    prepared: &'g Prepared,
}

impl Planned<'_> {
    pub(crate) fn plan(&self) -> &Plan {
        &self.prepared.plan
    }

    /// The program that the plan is for.
    pub(crate) fn program(&self) -> &Program {
        self.prepared.selection.program(self.inner)
    }

    /// The graph's node for a node of the program.
    pub(crate) fn node(&self, id: NodeId) -> NodeId {
        self.prepared.selection.node(id)
    }
}

impl Graph {
    /// Finds the plan of what is asked for, and runs nothing: for measuring. The number of kernels.
    #[doc(hidden)]
    #[track_caller]
    pub fn prepare<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<usize> {
        self.with_plan(vars(&what), |planned| planned.plan().kernels.len())
    }

    /// Inspects the program whose plan computes what is asked for and the scheduled updates.
    #[track_caller]
    pub(crate) fn with_request<R>(
        &self,
        vars: Vec<Var<'_>>,
        inspect: impl FnOnce(&Request<'_>) -> R,
    ) -> Result<R> {
        let wanted = self.list(vars)?;
        let inner = self.inner.borrow();
        let (selection, _) = Selection::new(&inner, &wanted, &inner.updates)?;
        Ok(inspect(&selection.request(&inner, &wanted, &inner.updates)))
    }

    /// Inspects the plan for what is asked for and the scheduled updates.
    #[track_caller]
    pub(crate) fn with_plan<R>(
        &self,
        vars: Vec<Var<'_>>,
        inspect: impl FnOnce(&Planned<'_>) -> R,
    ) -> Result<R> {
        let wanted = self.list(vars)?;
        let inner = self.inner.borrow();
        let prepared = Prepared::new(&inner, &wanted, &inner.updates)?;
        Ok(inspect(&Planned {
            inner: &inner,
            prepared: &prepared,
        }))
    }
}

impl Graph {
    /// The values of some nodes as the definition has them. Looks only: updates are not carried
    /// out.
    #[doc(hidden)]
    pub fn reference(&self, wanted: &[Var<'_>]) -> Result<Vec<Tensor>> {
        if let Some(e) = self
            .foreign("reference", wanted.iter().copied())
            .and_then(Var::error)
        {
            return Err(e);
        }
        self.inner.borrow_mut().read_params();
        let inner = self.inner.borrow();
        let end = wanted.iter().map(|v| v.id.index() + 1).max().unwrap_or(0);
        let mut values: IndexVec<NodeId, Option<Tensor>> = IndexVec::with_capacity(end);
        for id in (0..end).map(NodeId::new) {
            let value = if inner.error(id).is_some() {
                None
            } else {
                let leaf = |id| inner.leaf_now(id);
                Some(inner.define(id, leaf, |arg| values[arg].as_ref())?)
            };
            values.push(value);
        }
        let value = |v: &Var<'_>| match (&values[v.id], v.error()) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(e)) => Err(e),
            (None, None) => Err(OpError::new("it has no value").at_caller("reference")),
        };
        wanted.iter().map(value).collect()
    }
}

impl Var<'_> {
    /// Computes the value, which then stays with the node. Scheduled updates are not carried out.
    #[track_caller]
    #[doc(alias = "item")]
    #[doc(alias = "numpy")]
    #[doc(alias = "eval")]
    #[doc(alias = "block_until_ready")]
    pub fn value(self) -> Result<Tensor> {
        self.graph.look(self)
    }
}
