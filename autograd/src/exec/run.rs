//! The executor: finds the plan of what is asked for and runs its kernels. A run that fails changes nothing: kernels
//! that write into parameters come last, under one lock, when nothing can fail any more.

#![allow(unsafe_code)] // one call: where the values of a plan are

use super::{
    fetch::{Fetch, vars},
    memory::{Memory, Scratch, address, address_mut},
    stage,
};
use crate::{
    error::{Error, OpError, Result, catch},
    graph::{Graph, stale_parameter},
    keep,
    nodes::{Inner, Kind, Program, Update},
    param::{self, Moment, Param, Refused},
    plan::{
        Extract, Placed, Plan, cache,
        extract::{needed, worth_keeping},
        kernel::{Home, Kernel, Operand},
    },
    tensor::{DType, Number, Tensor, Type},
    var::Var,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
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
    pub(crate) fn run_with<'g, F: Fetch<'g>>(
        &'g self,
        what: F,
        clock: Option<&Clock>,
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

    /// As [`run`](Graph::run), without the updates.
    #[track_caller]
    pub(crate) fn look<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<F::Out> {
        self.fetch(what, false, None)
    }

    #[track_caller]
    fn fetch<'g, F: Fetch<'g>>(
        &'g self,
        what: F,
        commit: bool,
        clock: Option<&Clock>,
    ) -> Result<F::Out> {
        let values = self.execute(&self.list(vars(&what))?, commit, clock)?;
        // `list` and `fill` go through the same structure: there are exactly as many values as it takes
        what.fill(&mut values.into_iter())
            .ok_or_else(|| OpError::new("values are missing").at_caller("run"))
    }

    /// The nodes that are asked for.
    #[track_caller]
    pub(crate) fn list(&self, vars: Vec<Var<'_>>) -> Result<Vec<u32>> {
        if vars.iter().any(|v| !std::ptr::eq(v.graph(), self)) {
            return Err(OpError::new("a `Var` of another graph was asked for").at_caller("run"));
        }
        Ok(vars.iter().map(|v| v.id).collect())
    }

    fn execute(&self, wanted: &[u32], commit: bool, clock: Option<&Clock>) -> Result<Vec<Tensor>> {
        let (values, also) = {
            let inner = self.inner.borrow();
            let updates = if commit { &inner.updates[..] } else { &[] };
            if updates.is_empty()
                && let Some(known) = known(&inner, wanted)
            {
                return known;
            }
            let prepared = Prepared::new(&inner, wanted, updates)?;
            let (plan, nodes) = (&*prepared.plan, prepared.nodes());
            let values = Run {
                inner: &inner,
                plan,
                nodes,
                wanted,
                given: &[],
                moment: inner.moment,
                clock,
            }
            .run();
            (values?, prepared.also)
        };
        let mut inner = self.inner.borrow_mut();
        inner.committed |= commit && !inner.updates.is_empty();
        inner.note_look();
        let mut values = values;
        let extra = values.split_off(wanted.len());
        for (&id, value) in wanted.iter().chain(&also).zip(values.iter().chain(&extra)) {
            if inner.nodes[id as usize].kind == Kind::Op {
                inner.kept.insert(id, value.clone());
            }
        }
        Ok(values)
    }
}

/// The values of leaves and of nodes whose values are kept, if it is only these that are asked for: nothing is planned.
fn known(inner: &Inner, wanted: &[u32]) -> Option<Result<Vec<Tensor>>> {
    let is_known = |&id: &u32| match inner.nodes[id as usize].kind {
        Kind::Op => inner.kept.contains_key(&id),
        kind => kind != Kind::Error,
    };
    wanted.iter().all(is_known).then(|| {
        let params: Vec<(u32, &Param)> = wanted
            .iter()
            .filter_map(|&id| Some((id, &inner.binding(id)?.param)))
            .collect();
        let mut values: HashMap<u32, Tensor> = HashMap::new();
        let bound: Vec<&Param> = params.iter().map(|p| p.1).collect();
        let stale = param::snapshot(&bound, inner.moment, |k, value| {
            drop(values.insert(params[k].0, value))
        });
        stale.map_err(|k| inner.error_at(params[k].0, "param", stale_parameter(params[k].1)))?;
        let value = |id: &u32| {
            values
                .get(id)
                .cloned()
                .or_else(|| inner.kept.get(id).cloned())
                .or_else(|| inner.leaf(*id))
        };
        let missing = |id: &u32| inner.error_at(*id, "value", "a value is missing".into());
        wanted
            .iter()
            .map(|id| value(id).ok_or_else(|| missing(id)))
            .collect()
    })
}

/// What is to be run: a plan, and the part of the graph that it is for.
pub(crate) struct Prepared {
    /// The part, as a program of its own; none if it is the whole graph as it lies.
    part: Option<Extract>,
    pub(crate) plan: Arc<Plan>,
    /// Nodes whose values are computed as well, to be kept: see [`worth_keeping`].
    also: Vec<u32>,
}

impl Prepared {
    /// The one way from a graph to its plan: what is shown of a plan is what runs.
    pub(crate) fn new(inner: &Inner, wanted: &[u32], updates: &[Update]) -> Result<Prepared> {
        if inner.kept.is_empty() && inner.errors.is_empty() {
            let plan = cache::plan(&inner.program, wanted, updates);
            return Ok(Prepared {
                part: None,
                plan,
                also: Vec::new(),
            });
        }
        let needed = needed(inner, wanted, updates);
        let also = if updates.is_empty() {
            worth_keeping(inner, &needed, wanted)
        } else {
            Vec::new()
        };
        let part = Extract::new(inner, needed, &[wanted, &also].concat(), updates)?;
        let plan = cache::plan(&part.program, &part.wanted, &part.updates);
        Ok(Prepared {
            part: Some(part),
            plan,
            also,
        })
    }

    /// The graph's node for each node of the plan's program, if they are not the same.
    fn nodes(&self) -> Option<&[u32]> {
        self.part.as_ref().map(|part| &part.nodes[..])
    }
}

/// A plan as it is looked at, with the program that it is for.
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
        self.prepared
            .part
            .as_ref()
            .map_or(&self.inner.program, |part| &part.program)
    }

    /// The graph's node for a node of the program.
    pub(crate) fn node(&self, id: u32) -> u32 {
        self.prepared.nodes().map_or(id, |nodes| nodes[id as usize])
    }
}

impl Graph {
    /// Finds the plan of what is asked for, and runs nothing: for measuring. The number of kernels.
    #[doc(hidden)]
    #[track_caller]
    pub fn prepare<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<usize> {
        self.with_plan(vars(&what), |planned| planned.plan().kernels.len())
    }

    /// Looks at the plan for what is asked for and the scheduled updates.
    #[track_caller]
    pub(crate) fn with_plan<R>(
        &self,
        vars: Vec<Var<'_>>,
        look: impl FnOnce(&Planned<'_>) -> R,
    ) -> Result<R> {
        let wanted = self.list(vars)?;
        let inner = self.inner.borrow();
        let prepared = Prepared::new(&inner, &wanted, &inner.updates)?;
        Ok(look(&Planned {
            inner: &inner,
            prepared: &prepared,
        }))
    }
}

impl Var<'_> {
    /// Computes the value, which then stays with the node. Scheduled updates are not carried out.
    #[track_caller]
    pub fn value(self) -> Result<Tensor> {
        self.graph.look(self)
    }
}

/// One run of a plan.
pub(crate) struct Run<'r> {
    pub(crate) inner: &'r Inner,
    pub(crate) plan: &'r Plan,
    /// The graph's node for each node of the plan's program, if they are not the same.
    pub(crate) nodes: Option<&'r [u32]>,
    pub(crate) wanted: &'r [u32],
    /// The values of the first nodes: the arguments of a compiled function.
    pub(crate) given: &'r [Tensor],
    pub(crate) moment: Moment,
    pub(crate) clock: Option<&'r Clock>,
}

/// The nodes of each kernel that ran, and its time.
pub(crate) type Clock = RefCell<Vec<(Vec<u32>, Duration)>>;

/// The value of a parameter that a run reads.
struct Held {
    /// The input of the plan that it is.
    input: u32,
    /// The node that it is bound to.
    node: u32,
    value: Tensor,
}

impl Run<'_> {
    /// The wanted values. A compiled function, of which each run sees parameters as they are then, begins again if another
    /// one's commit came before its own: whoever calls it at the same time is served one after the other.
    pub(crate) fn run(&self) -> Result<Vec<Tensor>> {
        let mut scratch = keep::scratch();
        let result = loop {
            match self.run_in(&mut scratch) {
                Err(Refused::Stale(_)) if self.moment == Moment::EachRun => {}
                Err(Refused::Stale(e) | Refused::Failed(e)) => break Err(e),
                Ok(values) => break Ok(values),
            }
        };
        scratch.give();
        result
    }

    fn run_in(&self, scratch: &mut Scratch) -> Result<Vec<Tensor>, Refused<Error, Error>> {
        let plan = self.plan;
        let (mut params, epoch) = self.snapshot()?;
        let no_memory = |e: OpError| self.error(self.wanted.first().copied().unwrap_or(0), e);
        let mut outputs = Vec::with_capacity(plan.outputs.len());
        for &(dtype, shape) in &plan.outputs {
            outputs.push(
                Tensor::blank(Type::new(dtype, plan.shapes[shape as usize])).map_err(no_memory)?,
            );
        }
        // all that late kernels will need: they must not fail
        let blocks = self.late_room();
        let arena = scratch
            .blocks
            .room(blocks)
            .and(scratch.arena.room(plan.arena))
            .ok_or_else(|| {
                let gib = (plan.arena as f64 + blocks as f64) / (1u64 << 30) as f64;
                no_memory(OpError::new(format!(
                    "there is no memory for the values on the way ({gib:.1} GiB)"
                )))
            })?;
        let mut at = std::mem::take(&mut scratch.at);
        self.place(&mut at, &mut scratch.numbers, &params, &mut outputs, arena)?;
        let result = self.compute(&mut params, epoch, outputs, &mut at, scratch);
        at.clear();
        scratch.at = at;
        result
    }

    /// Runs the kernels, and commits.
    fn compute(
        &self,
        params: &mut [Held],
        epoch: u64,
        outputs: Vec<Tensor>,
        at: &mut [*mut u8],
        scratch: &mut Scratch,
    ) -> Result<Vec<Tensor>, Refused<Error, Error>> {
        let plan = self.plan;
        self.kernels(0..plan.late, at, params, scratch)?;
        if self.outputs_are_results() {
            return Ok(outputs);
        }
        let results = plan
            .results
            .iter()
            .map(|&operand| self.tensor(operand, params, &outputs));
        let results = results.collect::<Result<Vec<Tensor>>>()?;
        if !plan.updates.is_empty() {
            self.commit(params, epoch, &outputs, at, scratch)?;
        }
        Ok(results)
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
            plan.values[result.value as usize].home == Home::Output(k as u32)
                && plan.outputs[k].1 == result.shape
        };
        plan.updates.is_empty()
            && plan.results.len() == plan.outputs.len()
            && plan.results.iter().enumerate().all(same)
    }

    fn node(&self, id: u32) -> u32 {
        self.nodes.map_or(id, |nodes| nodes[id as usize])
    }

    /// The values of the parameters that the plan reads, at one moment, in the order of the plan's inputs; and the epoch.
    fn snapshot(&self) -> Result<(Vec<Held>, u64)> {
        if self.moment == Moment::None {
            return Ok((Vec::new(), 0));
        }
        let (mut held, mut params) = (Vec::new(), Vec::new());
        for (input, node) in self.plan.inputs.iter().map(|&id| self.node(id)).enumerate() {
            if let Some(binding) = self.inner.binding(node) {
                held.push(Held {
                    input: input as u32,
                    node,
                    value: Tensor::from(0.0),
                });
                params.push(&binding.param);
            }
        }
        match param::snapshot(&params, self.moment, |k, value| held[k].value = value) {
            Ok(epoch) => Ok((held, epoch)),
            Err(k) => Err(self.error(held[k].node, stale_parameter(params[k]))),
        }
    }

    /// The value of an input of the plan.
    fn input(&self, input: u32, params: &[Held]) -> Result<Tensor> {
        if let Ok(k) = params.binary_search_by_key(&input, |held| held.input) {
            return Ok(params[k].value.clone());
        }
        let node = self.node(self.plan.inputs[input as usize]);
        self.leaf(node, params)
            .ok_or_else(|| self.error(node, "a value is missing".into()))
    }

    /// The value that a run reads for a node that it does not compute.
    fn leaf(&self, node: u32, params: &[Held]) -> Option<Tensor> {
        if let Some(given) = self.given.get(node as usize) {
            return Some(given.clone());
        }
        match self.inner.nodes[node as usize].kind {
            Kind::Param => {
                let known = params
                    .iter()
                    .find(|p| p.node == node)
                    .map(|p| p.value.clone());
                known.or_else(|| Some(self.inner.binding(node)?.param.value()))
            }
            Kind::Op => self.inner.kept.get(&node).cloned(),
            _ => self.inner.leaf(node),
        }
    }

    /// Where each value of the plan is.
    fn place(
        &self,
        at: &mut Vec<*mut u8>,
        numbers: &mut Vec<u64>,
        params: &[Held],
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
                    let given = self.given.get(node as usize);
                    match place.kind {
                        _ if given.is_some() => given.map(address).unwrap_or_default(),
                        Kind::Input | Kind::Constant => {
                            address(&self.inner.leaves[place.args[0] as usize])
                        }
                        Kind::Literal | Kind::One | Kind::Zero => {
                            let number = &mut numbers[k as usize];
                            *number =
                                bits(self.inner.literals[place.args[0] as usize], place.dtype);
                            std::ptr::from_mut(number).cast()
                        }
                        Kind::Param => address(&next_param.next().ok_or_else(missing)?.value),
                        Kind::Op => address(self.inner.kept.get(&node).ok_or_else(missing)?),
                        Kind::Error => return Err(missing()),
                    }
                }
            });
        }
        Ok(())
    }

    /// Runs the stages from one kernel to another. A panic is an error at the node that was being computed.
    fn kernels(
        &self,
        range: std::ops::Range<usize>,
        at: &[*mut u8],
        params: &[Held],
        scratch: &mut Scratch,
    ) -> Result<()> {
        // SAFETY: `place` took the addresses of tensors that live as long as the run, and places in the arena that the
        // plan keeps apart.
        let memory = unsafe { Memory::new(&self.plan.values, at) };
        let now = Cell::new(range.start);
        let done = catch(|| {
            while now.get() < range.end {
                // each kernel by itself if they are measured
                let kernel = now.get()..now.get() + 1;
                let stage = if self.clock.is_some() {
                    kernel
                } else {
                    self.plan.stage(now.get())
                };
                let start = self.clock.map(|_| Instant::now());
                stage::run(self.plan, stage.clone(), memory, &mut scratch.blocks)?;
                if let (Some(clock), Some(start)) = (self.clock, start) {
                    let nodes = self
                        .plan
                        .members(now.get())
                        .iter()
                        .map(|&id| self.node(id))
                        .collect();
                    clock.borrow_mut().push((nodes, start.elapsed()));
                }
                now.set(stage.end);
            }
            Ok(())
        });
        done.unwrap_or_else(|panic| Err((now.get(), panic)))
            .map_err(|(kernel, e)| self.failed(kernel, e, params))
    }

    /// The error of a kernel that failed: of several that would fail, the oldest node's is told.
    fn failed(&self, kernel: usize, what: OpError, params: &[Held]) -> Error {
        let node = self.plan.members(kernel).last().copied().unwrap_or(0);
        let might = |k: usize| match &self.plan.kernels[k] {
            Kernel::Op { op, inputs, .. } if self.plan.members(k)[0] < node => {
                let ty = |&i: &Operand| {
                    Type::new(
                        self.plan.values[i.value as usize].dtype,
                        *self.plan.shape(i),
                    )
                };
                let inputs: Vec<Type> = inputs.iter().map(ty).collect();
                op.get().may_fail(&inputs)
            }
            Kernel::Fused(k) => k.may_fail(),
            _ => false,
        };
        let older = (self.plan.stage(kernel).start..self.plan.late).any(might);
        let leaf = |id: u32| self.leaf(id, params);
        let failure = if older {
            self.inner
                .first_failure(self.wanted, self.node(node), &leaf)
        } else {
            None
        };
        failure.unwrap_or_else(|| self.error(self.node(node), what))
    }

    /// Carries out the updates, all or none: first everything that may fail, then the changes.
    fn commit(
        &self,
        params: &mut [Held],
        epoch: u64,
        outputs: &[Tensor],
        at: &mut [*mut u8],
        scratch: &mut Scratch,
    ) -> Result<(), Refused<Error, Error>> {
        let plan = self.plan;
        let moved = plan.updates.iter().map(|update| match update.placed {
            Placed::Move(operand) => self.tensor(operand, params, outputs).map(Some),
            Placed::Fresh | Placed::InPlace => Ok(None),
        });
        let mut fresh = moved.collect::<Result<Vec<_>>>()?;
        // What was read must not stand in the way of a write in place. The parameters still hold their tensors, and if
        // one was changed meanwhile, the check below ends the run.
        for held in params
            .iter_mut()
            .filter(|held| held.value.shape.count() != 1)
        {
            if self
                .inner
                .binding(held.node)
                .is_some_and(|b| b.scheduled.is_some())
            {
                held.value = Tensor::from(0.0);
            }
        }
        let bound = self.bound()?;
        let change = |tensors: &mut [&mut Tensor]| {
            self.place_updates(tensors, &mut fresh, at)?;
            self.kernels(plan.late..plan.kernels.len(), at, &[], scratch)?;
            for (fresh, tensor) in fresh.into_iter().zip(tensors) {
                if let Some(fresh) = fresh {
                    **tensor = fresh;
                }
            }
            Ok(())
        };
        let stale = |k: usize| {
            let node = self.inner.bound.get(&bound[k].id()).copied().unwrap_or(0);
            self.error(node, stale_parameter(bound[k]))
        };
        param::commit(&bound, plan.updates.len(), epoch, change).map_err(|refused| match refused {
            Refused::Failed(e) => Refused::Failed(e),
            Refused::Stale(k) => Refused::Stale(stale(k)),
        })
    }

    /// The parameters of the graph: first those of the plan's updates, in their order, then those that only must not have
    /// changed.
    fn bound(&self) -> Result<Vec<&Param>> {
        let mut bound = Vec::with_capacity(self.inner.params.len());
        for update in &self.plan.updates {
            let node = self.node(update.target);
            let binding = self
                .inner
                .binding(node)
                .ok_or_else(|| self.error(node, "no parameter is bound here".into()))?;
            bound.push(&binding.param);
        }
        bound.extend(
            self.inner
                .params
                .iter()
                .filter(|b| b.scheduled.is_none())
                .map(|b| &b.param),
        );
        Ok(bound)
    }

    /// Gives each update that a kernel writes its place: the parameter's own elements, or a new buffer.
    fn place_updates(
        &self,
        tensors: &mut [&mut Tensor],
        fresh: &mut [Option<Tensor>],
        at: &mut [*mut u8],
    ) -> Result<()> {
        for ((update, tensor), fresh) in
            self.plan.updates.iter().zip(&mut *tensors).zip(&mut *fresh)
        {
            let in_place = update.placed == Placed::InPlace && tensor.is_unique();
            if fresh.is_none() && !in_place {
                let node = self.node(update.target);
                *fresh = Some(Tensor::blank(tensor.ty()).map_err(|e| self.error(node, e))?);
            }
        }
        for (value, at) in self.plan.values.iter().zip(at) {
            if let Home::Update(k) = value.home {
                let k = k as usize;
                let tensor = fresh[k].as_mut().unwrap_or(&mut *tensors[k]);
                let held = || {
                    self.error(
                        self.node(self.plan.updates[k].target),
                        "somebody else holds it".into(),
                    )
                };
                *at = address_mut(tensor).ok_or_else(held)?;
            }
        }
        Ok(())
    }

    /// A value that is handed out.
    fn tensor(&self, operand: Operand, params: &[Held], outputs: &[Tensor]) -> Result<Tensor> {
        let value = match self.plan.values[operand.value as usize].home {
            Home::Input(k) => self.input(k, params)?,
            Home::Output(k) => return Ok(outputs[k as usize].reshaped(*self.plan.shape(operand))),
            Home::Arena(_) | Home::Update(_) => {
                return Err(self.error(0, "a value is missing".into()));
            }
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
