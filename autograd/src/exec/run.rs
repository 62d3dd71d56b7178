//! The executor: runs a plan node by node. A value is computed once, a buffer is given back after its last use, and
//! updates of parameters are carried out together, when nothing can fail any more.

use super::{
    fetch::Fetch,
    gemm::{self, Matrix},
    pool,
};
use crate::{
    error::{Error, OpError, Result, catch},
    graph::{Graph, stale},
    nodes::{Inner, Kind, SCALAR},
    op::{DynOp, Id},
    param::{self, Param},
    plan::{Arg, Plan, Step, Update},
    tensor::{Buf, DType, Data, Tensor},
    var::Var,
    view::TensorView,
};
use std::cell::Cell;

impl Graph {
    /// Computes what is asked for (a `Var`, or tuples, arrays and vectors of them), and carries out the scheduled
    /// updates of parameters, in one run: all of them, or none if anything fails.
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
        if self.inner.borrow().committed {
            let e = OpError::new("the updates of this graph have been carried out already: a graph is one step");
            let hint =
                "ask for all values of a step together, g.run((loss, prediction)), and make a new graph for the next";
            return Err(e.hint(hint).at_caller("run"));
        }
        self.fetch(what, true)
    }

    /// As [`run`](Graph::run), without the updates.
    #[track_caller]
    pub(crate) fn look<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<F::Out> {
        self.fetch(what, false)
    }

    #[track_caller]
    fn fetch<'g, F: Fetch<'g>>(&'g self, what: F, commit: bool) -> Result<F::Out> {
        let mut vars = Vec::new();
        what.list(&mut vars);
        if vars.iter().any(|v| !std::ptr::eq(v.graph(), self)) {
            return Err(OpError::new("a `Var` of another graph was asked for").at_caller("run"));
        }
        let wanted: Vec<u32> = vars.iter().map(|v| v.id).collect();
        let values = self.execute(&wanted, commit)?;
        // `list` and `fill` go through the same structure: there are exactly as many values as it takes
        what.fill(&mut values.into_iter()).ok_or_else(|| OpError::new("values are missing").at_caller("run"))
    }

    fn execute(&self, wanted: &[u32], commit: bool) -> Result<Vec<Tensor>> {
        let values = {
            let inner = self.inner.borrow();
            let updates = if commit { &inner.updates[..] } else { &[] };
            let plan = Plan::new(&inner, &mut inner.scratch.borrow_mut(), wanted, updates)?;
            let mut run = Run { inner: &inner, plan: &plan, slots: vec![None; plan.slots] };
            run.steps()?;
            let values: Vec<Tensor> = plan.wanted.iter().filter_map(|&s| run.slots[s as usize].clone()).collect();
            run.commit(updates)?;
            inner.scratch.borrow_mut().recycle(plan);
            values
        };
        let mut inner = self.inner.borrow_mut();
        inner.committed |= commit && !inner.updates.is_empty();
        let computed = wanted.iter().zip(&values).filter(|(id, _)| inner.nodes[**id as usize].kind == Kind::Op);
        let computed: Vec<(u32, Tensor)> = computed.map(|(id, value)| (*id, value.clone())).collect();
        inner.kept.extend(computed);
        Ok(values)
    }
}

impl Var<'_> {
    /// Computes the value, which then stays with the node. Scheduled updates are not carried out.
    #[track_caller]
    pub fn value(self) -> Result<Tensor> {
        self.graph.look(self)
    }
}

/// One run: the values that are alive.
struct Run<'g> {
    inner: &'g Inner,
    plan: &'g Plan,
    slots: Vec<Option<Tensor>>,
}

impl Drop for Run<'_> {
    /// What is left is given back, also by a run that failed.
    fn drop(&mut self) {
        self.slots.drain(..).flatten().for_each(pool::give);
    }
}

impl Run<'_> {
    /// Runs all steps but the late ones. A panic is an error at the node that was being computed.
    fn steps(&mut self) -> Result<()> {
        let mut params = self.snapshot()?.into_iter();
        let at = Cell::new(None);
        let steps = catch(|| {
            for step in &self.plan.steps {
                at.set(Some(step.node));
                if self.number(step) {
                    continue;
                }
                let value = self.step(step, &mut params).map_err(|e| self.error(step.node, e))?;
                self.slots[step.out as usize] = Some(value);
            }
            Ok(())
        });
        steps.unwrap_or_else(|panic| match at.get() {
            Some(node) => Err(self.error(node, panic)),
            None => Err(panic.at_caller("run")),
        })
    }

    /// The values of the parameters that the plan reads, at one moment, in the order of its steps.
    fn snapshot(&self) -> Result<Vec<Tensor>> {
        let Some(epoch) = self.inner.epoch else { return Ok(Vec::new()) }; // no parameter was bound
        let read: Vec<u32> = self.plan.steps.iter().map(|s| s.node).filter(|&n| self.is_param(n)).collect();
        let snapshot = param::snapshot(read.iter().map(|&n| self.param(n)), epoch);
        snapshot.map_err(|k| self.error(read[k], stale(self.param(read[k]))))
    }

    fn is_param(&self, node: u32) -> bool {
        self.inner.nodes[node as usize].kind == Kind::Param
    }

    fn param(&self, node: u32) -> &Param {
        &self.inner.params[self.inner.nodes[node as usize].args[0] as usize].param
    }

    fn step(&mut self, step: &Step, params: &mut impl Iterator<Item = Tensor>) -> Result<Tensor, OpError> {
        let node = step.node;
        let missing = || OpError::new("a value is missing");
        match self.inner.nodes[node as usize].kind {
            Kind::Param => params.next().ok_or_else(missing),
            Kind::Op => match self.inner.kept.get(&node) {
                Some(kept) => Ok(kept.clone()),
                None => self.compute(step),
            },
            _ => self.inner.leaf(node).ok_or_else(missing),
        }
    }

    /// The short way for a single f64 computed from such numbers, which is most of a program on scalars: no views, no
    /// buffers. `false` if the step is not of this kind.
    #[inline]
    fn number(&mut self, step: &Step) -> bool {
        let node = &self.inner.nodes[step.node as usize];
        let args = self.plan.args(step);
        if node.shape != SCALAR
            || node.dtype != DType::F64
            || node.kind != Kind::Op
            || args.len() != node.count as usize
        {
            return false;
        }
        let mut x = [0.0; 3];
        for (k, arg) in args.iter().enumerate() {
            match self.slots.get(arg.slot as usize) {
                Some(Some(Tensor { shape, data: Data::F64(Buf::One([v])) })) if k < x.len() && shape.rank() == 0 => {
                    x[k] = *v
                }
                _ => return false,
            }
        }
        let value = self.inner.op(step.node).number(&x[..args.len()]);
        if let Some(v) = value {
            self.slots[step.out as usize] = Some(Tensor::from(v)); // dead inputs may stay: they hold no memory
        }
        value.is_some()
    }

    fn compute(&mut self, step: &Step) -> Result<Tensor, OpError> {
        let (node, args) = (step.node, self.plan.args(step));
        let (op, ty) = (self.inner.op(node), self.inner.ty(node));
        let traits = op.traits();
        let out = if traits.view {
            self.slots[args[0].slot as usize].as_ref().map(|x| x.reshaped(ty.shape)).ok_or("a value is missing")?
        } else if traits.in_place
            && ty.dtype.is_float()
            && let Some((at, mut own)) = self.reusable(node, args)
        {
            self.with_inputs(args, Some(at), |x| match own.as_view_mut() {
                Some(out) => op.eval_in_place(at, x, out),
                None => Err("its buffer is held by somebody else".into()),
            })?;
            own
        } else {
            let mut out = pool::blank(ty)?;
            self.evaluate(op, node, args, &mut out)?;
            out
        };
        for arg in args.iter().filter(|a| a.dies) {
            self.free(arg.slot as usize);
        }
        Ok(out)
    }

    /// Forgets a value and gives its buffer back.
    fn free(&mut self, slot: usize) {
        if let Some(value) = self.slots[slot].take() {
            pool::give(value);
        }
    }

    /// Takes a dying input of the output's type whose buffer nobody else holds.
    fn reusable(&mut self, node: u32, args: &[Arg]) -> Option<(usize, Tensor)> {
        let ty = self.inner.ty(node);
        for (at, arg) in args.iter().enumerate() {
            let alone = || args.iter().filter(|a| a.slot == arg.slot).count() == 1;
            let slot = &mut self.slots[arg.slot as usize];
            if arg.dies && alone() && slot.as_mut().is_some_and(|x| x.ty() == ty && x.is_unique()) {
                return slot.take().map(|x| (at, x));
            }
        }
        None
    }

    fn evaluate(&self, op: &dyn DynOp, node: u32, args: &[Arg], out: &mut Tensor) -> Result<(), OpError> {
        let out = out.as_view_mut().ok_or("its buffer is held by somebody else")?;
        let is_product = self.inner.nodes[node as usize].op == Id::MatMul as u32;
        self.with_inputs(args, None, |x| match (x, args) {
            (&[a, b], &[at_a, at_b]) if is_product => {
                let matrix = |view, arg: Arg| Matrix { view, transposed: arg.transposed };
                gemm::matmul(matrix(a, at_a), matrix(b, at_b), out)
            }
            _ => op.eval(x, out),
        })
    }

    /// Calls `f` with the inputs' views; in place of an input that lies in the output stands another one.
    fn with_inputs<R>(
        &self,
        args: &[Arg],
        in_output: Option<usize>,
        f: impl FnOnce(&[TensorView<'_>]) -> Result<R, OpError>,
    ) -> Result<R, OpError> {
        let empty = Tensor::from(0.0);
        let view = |k: usize| match self.slots.get(args[k].slot as usize) {
            _ if in_output == Some(k) => Ok(empty.as_view()),
            Some(Some(x)) => Ok(x.as_view()),
            _ => Err(OpError::new("a value is missing")),
        };
        match args.len() {
            1 => f(&[view(0)?]),
            2 => f(&[view(0)?, view(1)?]),
            n => f(&(0..n).map(view).collect::<Result<Vec<_>, _>>()?),
        }
    }

    /// Carries out the updates, all or none: first everything that may fail, then the changes.
    fn commit(mut self, updates: &[(Param, u32)]) -> Result<()> {
        if updates.is_empty() {
            return Ok(());
        }
        let (inner, plan) = (self.inner, self.plan);
        // What is only kept to be returned must not stand in the way of an update in place.
        let read: Vec<u32> = plan
            .updates
            .iter()
            .flat_map(|u| match u {
                Update::Move(slot) => vec![*slot],
                Update::Late { step, .. } => plan.args(step).iter().map(|a| a.slot).collect(),
            })
            .collect();
        for slot in (0..self.slots.len()).filter(|&s| !read.contains(&(s as u32))) {
            self.free(slot);
        }
        let epoch = inner.epoch.unwrap_or_default();
        let check = || match inner.params.iter().find(|b| param::is_stale(&b.param, epoch)) {
            Some(binding) => Err(self.error(binding.node, stale(&binding.param))),
            None => Ok(()),
        };
        let updated: Vec<&Param> = updates.iter().map(|u| &u.0).collect();
        param::commit(&updated, check, |tensors| {
            let mut fresh = Vec::with_capacity(tensors.len());
            for (update, tensor) in plan.updates.iter().zip(tensors.iter_mut()) {
                fresh.push(self.prepare(update, tensor)?);
            }
            for ((update, tensor), fresh) in plan.updates.iter().zip(tensors).zip(fresh) {
                match fresh {
                    Some(fresh) => **tensor = fresh,
                    None => self.in_place(update, tensor)?,
                }
            }
            Ok(())
        })
    }

    /// The new value, in a buffer of its own; `None` if it can be written into the parameter's.
    fn prepare(&self, update: &Update, tensor: &mut Tensor) -> Result<Option<Tensor>> {
        match update {
            Update::Move(slot) => Ok(self.slots[*slot as usize].clone()),
            Update::Late { .. } if tensor.is_unique() => Ok(None),
            Update::Late { step, at } => {
                let mut copy = Tensor::blank(tensor.ty()).map_err(|e| self.error(step.node, e))?;
                self.late(step, *at, &mut copy, Some(tensor)).map_err(|e| self.error(step.node, e))?;
                Ok(Some(copy))
            }
        }
    }

    fn in_place(&self, update: &Update, tensor: &mut Tensor) -> Result<()> {
        match update {
            Update::Late { step, at } => self.late(step, *at, tensor, None).map_err(|e| self.error(step.node, e)),
            Update::Move(_) => Ok(()),
        }
    }

    /// Runs a late step into `out`, which is the parameter itself or, if that is held elsewhere, a fresh buffer.
    fn late(&self, step: &Step, at: usize, out: &mut Tensor, old: Option<&Tensor>) -> Result<(), OpError> {
        let (op, args) = (self.inner.op(step.node), self.plan.args(step));
        let out = out.as_view_mut().ok_or("its buffer is held by somebody else")?;
        self.with_inputs(args, Some(at), |x| match old {
            None => op.eval_in_place(at, x, out),
            Some(old) => {
                let mut x = x.to_vec();
                x[at] = old.as_view();
                op.eval(&x, out)
            }
        })
    }

    fn error(&self, node: u32, what: OpError) -> Error {
        let name = match self.inner.nodes[node as usize].kind {
            Kind::Op => self.inner.op(node).name(),
            _ => "param",
        };
        self.inner.error_at(node, name, what)
    }
}
