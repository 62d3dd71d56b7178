//! The executor: finds the plan of what is asked for and runs its kernels. A run that fails changes nothing: kernels
//! that write into parameters come last, under one lock, when nothing can fail any more.

#![allow(unsafe_code)] // one call: where the values of a plan are

use super::{
    fetch::Fetch,
    memory::{Memory, Scratch, address, address_mut},
    stage,
};
use crate::{
    error::{Error, OpError, Result, catch},
    graph::{Graph, stale},
    nodes::{Inner, Kind},
    param::{self, Param, Refused},
    plan::{
        Extract, Plan, Update, cache,
        kernel::{Home, Kernel, Operand},
    },
    tensor::{DType, Number, Tensor, Type},
    var::Var,
};
use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

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
        self.run_with(what, None)
    }

    /// As [`run`](Graph::run), measured.
    #[track_caller]
    pub(crate) fn run_with<'g, F: Fetch<'g>>(&'g self, what: F, clock: Option<&Clock>) -> Result<F::Out> {
        if self.inner.borrow().committed {
            let e = OpError::new("the updates of this graph have been carried out already: a graph is one step");
            let hint =
                "ask for all values of a step together, g.run((loss, prediction)), and make a new graph for the next";
            return Err(e.hint(hint).at_caller("run"));
        }
        self.fetch(what, true, clock)
    }

    /// As [`run`](Graph::run), without the updates.
    #[track_caller]
    pub(crate) fn look<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<F::Out> {
        self.fetch(what, false, None)
    }

    #[track_caller]
    fn fetch<'g, F: Fetch<'g>>(&'g self, what: F, commit: bool, clock: Option<&Clock>) -> Result<F::Out> {
        let wanted = self.list(&what)?;
        let values = self.execute(&wanted, commit, clock)?;
        // `list` and `fill` go through the same structure: there are exactly as many values as it takes
        what.fill(&mut values.into_iter()).ok_or_else(|| OpError::new("values are missing").at_caller("run"))
    }

    /// The nodes that are asked for.
    #[track_caller]
    pub(crate) fn list<'g, F: Fetch<'g>>(&'g self, what: &F) -> Result<Vec<u32>> {
        let mut vars = Vec::with_capacity(8);
        what.list(&mut vars);
        if vars.iter().any(|v| !std::ptr::eq(v.graph(), self)) {
            return Err(OpError::new("a `Var` of another graph was asked for").at_caller("run"));
        }
        Ok(vars.iter().map(|v| v.id).collect())
    }

    fn execute(&self, wanted: &[u32], commit: bool, clock: Option<&Clock>) -> Result<Vec<Tensor>> {
        let values = {
            let inner = self.inner.borrow();
            let updates = if commit { updates(&inner) } else { Vec::new() };
            if updates.is_empty() && wanted.iter().all(|id| inner.kept.contains_key(id)) {
                return Ok(wanted.iter().filter_map(|id| inner.kept.get(id).cloned()).collect());
            }
            let (overrides, moment) = (Overrides::default(), inner.epoch.map_or(Moment::None, Moment::At));
            if inner.kept.is_empty() && inner.errors.is_empty() {
                let plan = cache::plan(&inner.program, wanted, &updates);
                Run { inner: &inner, plan: &plan, nodes: None, wanted, overrides, moment, clock }.run()?
            } else {
                let part = Extract::new(&inner, wanted, &updates)?;
                let plan = cache::plan(&part.program, &part.wanted, &part.updates);
                Run { inner: &inner, plan: &plan, nodes: Some(&part.nodes), wanted, overrides, moment, clock }.run()?
            }
        };
        let mut inner = self.inner.borrow_mut();
        inner.committed |= commit && !inner.updates.is_empty();
        for (&id, value) in wanted.iter().zip(&values) {
            if inner.nodes[id as usize].kind == Kind::Op {
                inner.kept.insert(id, value.clone());
            }
        }
        Ok(values)
    }
}

impl Graph {
    /// Finds the plan of what is asked for, and runs nothing: for measuring. The number of kernels.
    #[doc(hidden)]
    #[track_caller]
    pub fn prepare<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<usize> {
        let wanted = self.list(&what)?;
        let inner = self.inner.borrow();
        Ok(cache::plan(&inner.program, &wanted, &updates(&inner)).kernels.len())
    }
}

/// Looks at the plan for what is asked for and the scheduled updates, and the program that it is for.
#[track_caller]
pub(crate) fn with_plan<'g, F: Fetch<'g>, R>(
    g: &'g Graph,
    what: F,
    look: impl FnOnce(&Extract, &Plan) -> R,
) -> Result<R> {
    let wanted = g.list(&what)?;
    let inner = g.inner.borrow();
    let part = Extract::new(&inner, &wanted, &updates(&inner))?;
    let plan = cache::plan(&part.program, &part.wanted, &part.updates);
    Ok(look(&part, &plan))
}

/// The scheduled updates as pairs of nodes: the parameter's and its new value's.
pub(crate) fn updates(inner: &Inner) -> Vec<(u32, u32)> {
    inner.updates.iter().filter_map(|(param, value)| Some((*inner.bound.get(&param.id())?, *value))).collect()
}

impl Var<'_> {
    /// Computes the value, which then stays with the node. Scheduled updates are not carried out.
    #[track_caller]
    pub fn value(self) -> Result<Tensor> {
        self.graph.look(self)
    }
}

/// Leaves whose values are given by the caller of a compiled function.
#[derive(Clone, Copy, Default)]
pub(crate) struct Overrides<'r> {
    pub(crate) nodes: &'r [u32],
    pub(crate) values: &'r [Tensor],
}

/// The moment at which a run sees parameters.
#[derive(Clone, Copy)]
pub(crate) enum Moment {
    /// It sees none.
    None,
    /// They must not be younger than this commit.
    At(u64),
    /// When it begins.
    Now,
}

/// One run of a plan.
pub(crate) struct Run<'r> {
    pub(crate) inner: &'r Inner,
    pub(crate) plan: &'r Plan,
    /// The graph's node for each node of the plan's program, if they are not the same.
    pub(crate) nodes: Option<&'r [u32]>,
    pub(crate) wanted: &'r [u32],
    pub(crate) overrides: Overrides<'r>,
    pub(crate) moment: Moment,
    pub(crate) clock: Option<&'r Clock>,
}

/// The nodes of each kernel that ran, and its time.
pub(crate) type Clock = RefCell<Vec<(Vec<u32>, Duration)>>;

impl Run<'_> {
    pub(crate) fn run(&self) -> Result<Vec<Tensor>> {
        let mut scratch = Scratch::take();
        let result = self.run_in(&mut scratch);
        scratch.give();
        result
    }

    fn run_in(&self, scratch: &mut Scratch) -> Result<Vec<Tensor>> {
        let plan = self.plan;
        let (mut params, epoch) = self.snapshot()?;
        let no_memory = |e: OpError| self.error(self.wanted.first().copied().unwrap_or(0), e);
        let mut outputs = Vec::with_capacity(plan.outputs.len());
        for &(dtype, shape) in &plan.outputs {
            outputs.push(Tensor::blank(Type::new(dtype, plan.shapes[shape as usize])).map_err(no_memory)?);
        }
        // all that late kernels will need: they must not fail
        let blocks = self.late_room();
        let arena = scratch.blocks.room(blocks).and(scratch.arena.room(plan.arena)).ok_or_else(|| {
            let gib = (plan.arena + blocks) as f64 / (1u64 << 30) as f64;
            no_memory(OpError::new(format!("there is no memory for the values on the way ({gib:.1} GiB)")))
        })?;
        let mut at = std::mem::take(&mut scratch.at);
        self.place(&mut at, &mut scratch.numbers, &params, &mut outputs, arena)?;
        let result = self.kernels(0..plan.late, &at, scratch);
        let result = result.and_then(|()| {
            if self.outputs_are_results() {
                return Ok(outputs);
            }
            let results = plan.results.iter().map(|&operand| self.tensor(operand, &params, &outputs));
            let results = results.collect::<Result<Vec<Tensor>>>()?;
            if !plan.updates.is_empty() {
                self.commit(&mut params, epoch, &outputs, &mut at, scratch)?;
            }
            Ok(results)
        });
        at.clear();
        scratch.at = at;
        result
    }

    /// The scratch memory of the stages that write into parameters.
    fn late_room(&self) -> usize {
        let (mut room, mut kernel) = (0, self.plan.late);
        while kernel < self.plan.kernels.len() {
            let stage = self.plan.stage(kernel);
            kernel = stage.end;
            room = stage::room(self.plan, stage).max(room);
        }
        room
    }

    /// Whether the tensors that kernels wrote are the wanted ones, in their order, and nothing else is to be done.
    fn outputs_are_results(&self) -> bool {
        let plan = self.plan;
        let same = |(k, result): (usize, &Operand)| {
            plan.values[result.value as usize].home == Home::Output(k as u32) && plan.outputs[k].1 == result.shape
        };
        plan.updates.is_empty() && plan.results.len() == plan.outputs.len() && plan.results.iter().enumerate().all(same)
    }

    fn node(&self, id: u32) -> u32 {
        self.nodes.map_or(id, |nodes| nodes[id as usize])
    }

    /// The values of the parameters that the plan reads, at one moment, with their nodes; and the epoch.
    fn snapshot(&self) -> Result<(Vec<(u32, Tensor)>, u64)> {
        let epoch = match self.moment {
            Moment::None => return Ok((Vec::new(), 0)),
            Moment::At(epoch) => Some(epoch),
            Moment::Now => None,
        };
        let nodes = self.plan.inputs.iter().map(|&id| self.node(id));
        let read = nodes.filter(|&n| self.inner.nodes[n as usize].kind == Kind::Param);
        let mut values: Vec<(u32, Tensor)> = read.map(|n| (n, Tensor::from(0.0))).collect();
        let params: Vec<&Param> = values.iter().map(|v| self.param(v.0)).collect();
        match param::snapshot(&params, epoch, |k, value| values[k].1 = value) {
            Ok(epoch) => Ok((values, epoch)),
            Err(k) => Err(self.error(values[k].0, stale(params[k]))),
        }
    }

    fn param(&self, node: u32) -> &Param {
        &self.inner.params[self.inner.nodes[node as usize].args[0] as usize].param
    }

    /// The value of a leaf of the plan.
    fn input(&self, id: u32, params: &[(u32, Tensor)]) -> Result<Tensor> {
        let node = self.node(id);
        let value = match self.inner.nodes[node as usize].kind {
            _ if self.given(node).is_some() => self.given(node).cloned(),
            Kind::Param => params.iter().find(|p| p.0 == node).map(|p| p.1.clone()),
            Kind::Op => self.inner.kept.get(&node).cloned(),
            _ => self.inner.leaf(node),
        };
        value.ok_or_else(|| self.error(node, "a value is missing".into()))
    }

    fn given(&self, node: u32) -> Option<&Tensor> {
        let place = self.overrides.nodes.iter().position(|&n| n == node)?;
        self.overrides.values.get(place)
    }

    /// Where each value of the plan is.
    fn place(
        &self,
        at: &mut Vec<*mut u8>,
        numbers: &mut Vec<u64>,
        params: &[(u32, Tensor)],
        outputs: &mut [Tensor],
        arena: *mut u8,
    ) -> Result<()> {
        numbers.clear();
        numbers.resize(self.plan.inputs.len(), 0); // never moves from here on
        let mut next_param = params.iter();
        at.clear();
        for value in &self.plan.values {
            at.push(match value.home {
                Home::Arena(start) => arena.wrapping_add(start),
                Home::Output(k) => address_mut(&mut outputs[k as usize]).unwrap_or_default(),
                Home::Update(_) => std::ptr::null_mut(), // known when the parameter is locked
                Home::Input(k) => {
                    let node = self.node(self.plan.inputs[k as usize]);
                    let missing = || self.error(node, "a value is missing".into());
                    let place = self.inner.nodes[node as usize];
                    let given = if self.overrides.nodes.is_empty() { None } else { self.given(node) };
                    match place.kind {
                        _ if given.is_some() => given.map(address).unwrap_or_default(),
                        Kind::Input | Kind::Constant => address(&self.inner.leaves[place.args[0] as usize]),
                        Kind::Literal | Kind::One | Kind::Zero => {
                            let number = &mut numbers[k as usize];
                            *number = bits(self.inner.literals[place.args[0] as usize], place.dtype);
                            std::ptr::from_mut(number).cast()
                        }
                        Kind::Param => address(&next_param.next().ok_or_else(missing)?.1),
                        Kind::Op => address(self.inner.kept.get(&node).ok_or_else(missing)?),
                        Kind::Error => return Err(missing()),
                    }
                }
            });
        }
        Ok(())
    }

    /// Runs the stages from one kernel to another. A panic is an error at the node that was being computed.
    fn kernels(&self, range: std::ops::Range<usize>, at: &[*mut u8], scratch: &mut Scratch) -> Result<()> {
        // SAFETY: `place` took the addresses of tensors that live as long as the run, and places in the arena that the
        // plan keeps apart.
        let memory = unsafe { Memory::new(&self.plan.values, at) };
        let now = Cell::new(range.start);
        let done = catch(|| {
            while now.get() < range.end {
                // each kernel by itself if they are measured
                let kernel = now.get()..now.get() + 1;
                let stage = if self.clock.is_some() { kernel } else { self.plan.stage(now.get()) };
                let start = self.clock.map(|_| Instant::now());
                stage::run(self.plan, stage.clone(), memory, &mut scratch.blocks)?;
                if let (Some(clock), Some(start)) = (self.clock, start) {
                    let nodes = self.plan.members(now.get()).iter().map(|&id| self.node(id)).collect();
                    clock.borrow_mut().push((nodes, start.elapsed()));
                }
                now.set(stage.end);
            }
            Ok(())
        });
        done.unwrap_or_else(|panic| Err((now.get(), panic))).map_err(|(kernel, e)| self.failed(kernel, e))
    }

    /// The error of a kernel that failed: of several that would fail, the oldest node's is told.
    fn failed(&self, kernel: usize, what: OpError) -> Error {
        let node = self.plan.members(kernel).last().copied().unwrap_or(0);
        let might = |k: usize| match &self.plan.kernels[k] {
            Kernel::Op { op, inputs, .. } if self.plan.members(k)[0] < node => {
                let ty = |&i: &Operand| Type::new(self.plan.values[i.value as usize].dtype, *self.plan.shape(i));
                op.get().may_fail(&inputs.iter().map(ty).collect::<Vec<_>>())
            }
            Kernel::Fused(k) => k.may_fail(),
            _ => false,
        };
        let older = (self.plan.stage(kernel).start..self.plan.late).any(might);
        let failure = if older { self.inner.first_failure(self.wanted, self.node(node)) } else { None };
        failure.unwrap_or_else(|| self.error(self.node(node), what))
    }

    /// Carries out the updates, all or none: first everything that may fail, then the changes.
    fn commit(
        &self,
        params: &mut [(u32, Tensor)],
        epoch: u64,
        outputs: &[Tensor],
        at: &mut [*mut u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let (inner, plan) = (self.inner, self.plan);
        // the updated ones first, so that a position among them is that of the update
        let mut bound: Vec<&Param> = inner.updates.iter().map(|u| &u.0).collect();
        let updated = bound.len();
        let moved = plan.updates.iter().map(|update| match *update {
            Update::Move(operand) => self.tensor(operand, params, outputs).map(Some),
            Update::Write { .. } => Ok(None),
        });
        let mut fresh = moved.collect::<Result<Vec<_>>>()?;
        // What was read must not stand in the way of a write in place. The parameters still hold their tensors, and if
        // one was changed meanwhile, the check below ends the run.
        for (node, value) in params.iter_mut() {
            if bound.iter().any(|p| p.same(self.param(*node))) && value.shape.count() != 1 {
                *value = Tensor::from(0.0);
            }
        }
        for other in inner.params.iter().map(|b| &b.param) {
            if !bound[..updated].iter().any(|p| p.same(other)) {
                bound.push(other);
            }
        }
        let change = |tensors: &mut [&mut Tensor]| {
            for ((update, tensor), fresh) in plan.updates.iter().zip(tensors.iter_mut()).zip(&mut fresh) {
                let in_place = matches!(update, Update::Write { in_place: true }) && tensor.is_unique();
                if fresh.is_none() && !in_place {
                    *fresh = Some(Tensor::blank(tensor.ty()).map_err(|e| self.error(0, e))?);
                }
            }
            for (value, at) in plan.values.iter().zip(at.iter_mut()) {
                if let Home::Update(k) = value.home {
                    let k = k as usize;
                    let tensor = fresh[k].as_mut().unwrap_or(&mut *tensors[k]);
                    *at = address_mut(tensor)
                        .ok_or_else(|| self.error(0, "a parameter is held by somebody else".into()))?;
                }
            }
            self.kernels(plan.late..plan.kernels.len(), at, scratch)?;
            for (fresh, tensor) in fresh.into_iter().zip(tensors) {
                if let Some(fresh) = fresh {
                    **tensor = fresh;
                }
            }
            Ok(())
        };
        let done = param::commit(&bound, updated, epoch, change);
        done.map_err(|refused| match refused {
            Refused::Failed(e) => e,
            Refused::Stale(k) => {
                let node = inner.bound.get(&bound[k].id()).copied().unwrap_or(0);
                self.error(node, stale(bound[k]))
            }
        })
    }

    /// A value that is handed out.
    fn tensor(&self, operand: Operand, params: &[(u32, Tensor)], outputs: &[Tensor]) -> Result<Tensor> {
        let value = match self.plan.values[operand.value as usize].home {
            Home::Input(k) => self.input(self.plan.inputs[k as usize], params)?,
            Home::Output(k) => return Ok(outputs[k as usize].reshaped(*self.plan.shape(operand))),
            Home::Arena(_) | Home::Update(_) => return Err(self.error(0, "a value is missing".into())),
        };
        Ok(value.reshaped(*self.plan.shape(operand)))
    }

    fn error(&self, node: u32, what: OpError) -> Error {
        let name = match self.inner.nodes[node as usize].kind {
            Kind::Op => self.inner.op(node).name(),
            _ => "param",
        };
        self.inner.error_at(node, name, what)
    }
}

/// A number of this dtype, in the lowest bytes.
fn bits(value: Number, dtype: DType) -> u64 {
    match (dtype, value) {
        (DType::F32, v) => (v.to_f64() as f32).to_bits().into(),
        (DType::F64, v) => v.to_f64().to_bits(),
        (DType::I64, Number::Int(v)) => v as u64,
        (DType::I64, Number::Float(v)) => v as i64 as u64,
        (DType::Bool, v) => (v.to_f64() != 0.0).into(),
    }
}
