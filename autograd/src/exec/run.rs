//! One run of a plan: the values of its inputs are bound, its stages run, and updates are
//! committed. A run that fails changes nothing: the kernels of the commit phase come last, when
//! nothing can fail any more.
//!
//! | step | where |
//! |---|---|
//! | take the parameters' values at one moment | [`bind`](super::bind) |
//! | reserve memory: the outputs, the arena, all scratch of the commit phase | here |
//! | find the address of each value | [`bind`](super::bind) |
//! | run the stages of the compute phase | here, and [`stage`](super::stage) |
//! | lock the parameters, check that none has changed, run the commit phase | [`commit`](super::commit) |

#![allow(unsafe_code)] // one call: where the values of a plan are

use super::{memory::Memory, stage};
use crate::{
    error::{Error, OpError, Result, catch},
    index::{Index, IndexVec, each},
    memory_cache,
    nodes::{Inner, Kind, NodeId},
    param::{Moment, Refused},
    plan::{
        Plan, Stage,
        extract::Selection,
        index::{InputId, KernelId, OutputId, StageId, ValueId},
        kernel::{Kernel, Placement},
    },
    scratch::Scratch,
    tensor::{Tensor, Type},
};
use std::{
    cell::Cell,
    ops::Range,
    time::{Duration, Instant},
};

/// One run of a plan.
pub(crate) struct Run<'r> {
    pub(crate) inner: &'r Inner,
    pub(crate) plan: &'r Plan,
    /// The part of the graph that the plan is for.
    pub(crate) selection: &'r Selection,
    pub(crate) wanted: &'r [NodeId],
    /// The values of the first nodes: the arguments of a compiled function.
    pub(crate) given: &'r [Tensor],
    /// The keys of its random nodes, if the call brings a seed, by node.
    pub(crate) keys: &'r [(NodeId, Tensor)],
    pub(crate) moment: Moment,
    pub(crate) clock: Option<&'r Clock<'r>>,
}

/// The value of a parameter that a run reads.
pub(super) struct Held {
    /// The input of the plan that it is.
    pub(super) input: InputId,
    /// The node that it is bound to.
    pub(super) node: NodeId,
    pub(super) value: Tensor,
}

/// Is told the nodes of each kernel that ran, and its time.
pub(crate) type Clock<'c> = dyn Fn(Vec<NodeId>, Duration) + 'c;

/// A run ends with an error, or because a parameter has changed since it began.
pub(super) type Outcome<T> = Result<T, Refused<Error, Error>>;

impl Run<'_> {
    /// The wanted values. A compiled function, of which each run sees parameters as they are then,
    /// begins again if another one's commit came before its own: whoever calls it at the same time
    /// is served one after the other.
    pub(crate) fn run(&self) -> Result<Vec<Tensor>> {
        let mut scratch = memory_cache::take_scratch();
        let result = loop {
            match self.attempt(&mut scratch) {
                Err(Refused::Stale(_)) if self.moment == Moment::EachRun => {}
                Err(Refused::Stale(e) | Refused::Failed(e)) => break Err(e),
                Ok(values) => break Ok(values),
            }
        };
        scratch.give();
        result
    }

    fn attempt(&self, scratch: &mut Scratch) -> Outcome<Vec<Tensor>> {
        let plan = self.plan;
        let (mut params, epoch) = self.snapshot()?;
        let no_memory = |e: OpError| self.error(self.any_wanted(), e);
        let mut outputs = IndexVec::with_capacity(plan.outputs.len());
        for output in plan.outputs.iter() {
            let ty = Type::new(output.dtype, plan.shapes[output.shape]);
            let _: OutputId = outputs.push(Tensor::blank(ty).map_err(no_memory)?);
        }
        // with all that the commit phase will need: that must not fail
        let blocks = self.commit_scratch_bytes();
        let arena = scratch
            .blocks
            .reserve(blocks)
            .and(scratch.arena.reserve(plan.arena));
        let arena = arena.ok_or_else(|| {
            let gib = (plan.arena as f64 + blocks as f64) / (1u64 << 30) as f64;
            let e = format!("not enough memory for the intermediate values ({gib:.1} GiB)");
            no_memory(OpError::new(e))
        })?;
        // no allocation in a steady step: the list of addresses is the last run's
        let mut at = IndexVec::from_vec(std::mem::take(&mut scratch.addresses));
        self.bind(&mut at, &mut scratch.numbers, &params, &mut outputs, arena)?;
        let result = self.compute(&mut params, epoch, outputs, &mut at, scratch);
        at.clear();
        scratch.addresses = at.into_vec();
        result
    }

    /// Runs the kernels, and commits.
    fn compute(
        &self,
        params: &mut [Held],
        epoch: u64,
        outputs: IndexVec<OutputId, Tensor>,
        at: &mut IndexVec<ValueId, *mut u8>,
        scratch: &mut Scratch,
    ) -> Outcome<Vec<Tensor>> {
        let plan = self.plan;
        self.stages(StageId::new(0)..plan.commit, at, params, scratch)?;
        if self.outputs_are_results() {
            return Ok(outputs.into_vec());
        }
        let results = plan
            .results
            .iter()
            .map(|&view| self.tensor(view, params, &outputs));
        let results = results.collect::<Result<Vec<Tensor>>>()?;
        if !plan.updates.is_empty() {
            self.commit(params, epoch, &outputs, at, scratch)?;
        }
        Ok(results)
    }

    /// The scratch bytes of the commit phase, whose kernels run one by one if they are measured.
    fn commit_scratch_bytes(&self) -> usize {
        let bytes = |stage: Stage| stage::scratch_bytes(self.plan, stage);
        let stages = each(self.plan.commit..self.plan.stages.next());
        let together = stages.map(|stage| bytes(self.plan.stages[stage].clone()));
        let alone = each(self.plan.commit_kernels()).filter(|_| self.clock.is_some());
        let alone = alone.map(|kernel| bytes(kernel..kernel.next()));
        together.chain(alone).max().unwrap_or(0)
    }

    /// Whether the tensors that kernels wrote are the wanted ones, in their order, and nothing else
    /// is to be done.
    fn outputs_are_results(&self) -> bool {
        let plan = self.plan;
        plan.updates.is_empty()
            && plan.results.len() == plan.outputs.len()
            && plan
                .outputs
                .enumerate()
                .zip(&plan.results)
                .all(|((id, output), result)| {
                    plan.values[result.value].placement == Placement::Output(id)
                        && output.shape == result.shape
                })
    }

    /// Runs some stages. A panic is an error at the node that was being computed.
    pub(super) fn stages(
        &self,
        stages: Range<StageId>,
        at: &IndexVec<ValueId, *mut u8>,
        params: &[Held],
        scratch: &mut Scratch,
    ) -> Result<()> {
        // SAFETY: `bind` took the addresses of tensors that live as long as the run (those of
        // updates are found at the commit, and only kernels of the commit phase use them), and
        // places in the arena, which do not overlap while their values live.
        let memory = unsafe { Memory::new(&self.plan.values, at) };
        let now = Cell::new(self.plan.kernels.next());
        let done = catch(|| {
            for stage in each(stages) {
                let kernels = self.plan.stages[stage].clone();
                now.set(kernels.start);
                match self.clock {
                    None => stage::run(self.plan, kernels, memory, &mut scratch.blocks)?,
                    Some(clock) => self.measured(kernels, &now, memory, scratch, clock)?,
                }
            }
            Ok(())
        });
        let done = done.unwrap_or_else(|panic| {
            Err(stage::Failure {
                kernel: now.get(),
                error: panic,
            })
        });
        done.map_err(|failure| self.failed(failure, params))
    }

    /// Runs the kernels of a stage one after the other.
    fn measured(
        &self,
        stage: Stage,
        now: &Cell<KernelId>,
        memory: Memory<'_>,
        scratch: &mut Scratch,
        clock: &Clock<'_>,
    ) -> Result<(), stage::Failure> {
        for kernel in each(stage) {
            now.set(kernel);
            let start = Instant::now();
            stage::run(
                self.plan,
                kernel..kernel.next(),
                memory,
                &mut scratch.blocks,
            )?;
            let time = start.elapsed();
            clock(
                self.plan
                    .members(kernel)
                    .iter()
                    .map(|&id| self.node(id))
                    .collect(),
                time,
            );
        }
        Ok(())
    }

    /// The error of a kernel that failed: of several that would fail, the oldest node's is told.
    fn failed(&self, failure: stage::Failure, params: &[Held]) -> Error {
        let stage::Failure { kernel, error } = failure;
        let plan = self.plan;
        let Some(&node) = plan.members(kernel).last() else {
            return self.error(self.any_wanted(), error);
        };
        let might = |k: KernelId| match &plan.kernels[k] {
            Kernel::Opaque { op, inputs, .. } if plan.members(k)[0] < node => {
                let inputs: Vec<Type> = inputs.iter().map(|&view| plan.ty(view)).collect();
                op.get().may_fail(&inputs)
            }
            Kernel::Opaque { .. } => false,
            kernel => kernel.may_fail(),
        };
        let rest = plan.stage_of(kernel).start..plan.commit_kernels().start;
        let leaf = |id: NodeId| self.leaf(id, params);
        // kernels of other stages or threads may have failed too, of older nodes: the definition
        // says which node is the first that fails
        let known = match each(rest).any(might) {
            true => self
                .inner
                .first_failure(self.wanted, self.node(node), &leaf),
            false => None,
        };
        known.unwrap_or_else(|| self.error(self.node(node), error))
    }

    /// The graph's node for a node of the plan's program.
    pub(super) fn node(&self, id: NodeId) -> NodeId {
        self.selection.node(id)
    }

    /// Where an error is told that belongs to no node.
    fn any_wanted(&self) -> NodeId {
        self.wanted.first().copied().unwrap_or(NodeId::new(0))
    }

    pub(super) fn error(&self, node: NodeId, what: OpError) -> Error {
        let name = match self.inner.nodes[node].kind {
            Kind::Op => self.inner.op(node).name(),
            _ => "param",
        };
        self.inner.error_at(node, name, what)
    }
}
