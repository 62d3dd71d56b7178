//! Plans: a program made ready to run, without any leaf's value, so that the same plan serves every
//! program of the same structure.
//!
//! A program becomes a plan in seven passes. The input of each is the output of the one before.
//!
//! | pass | files | from | to |
//! |---|---|---|---|
//! | 1. extract | `extract` | a graph | the program of what is requested and not cached |
//! | 2. lower | `lower`, `dag` | a program | a [`Dag`](dag::Dag): no views, few duplicates, operands stored once |
//! | 3. fuse | `fuse` | nodes | groups: what one kernel computes |
//! | 4. schedule | `schedule` | groups | stages: what runs at the same time |
//! | 5. emit | `order`, `emit`, `kernel`, `tiling`, `size` | a group | a kernel: steps, registers, scratch layout |
//! | 6. place | `place`, `arena` | values | addresses in the arena, by lifetime |
//! | 7. in place | `in_place` | kernels of the commit phase | which updates overwrite the old value |
//!
//! Passes 5 and 6 run together, kernel by kernel. `cost` has the estimates that decide how work is
//! split. `verify` checks the result of each pass in debug builds, and `faults` checks `verify`.
//! `cache` finds the plan of a program that was planned before, by its structure. The chapter
//! [the engine](crate::docs::the_engine) carries two examples through all passes; `dump` prints
//! them.

mod along;
mod arena;
pub(crate) mod cache;
pub(crate) mod cost;
mod dag;
pub(crate) mod dump;
mod emit;
pub(crate) mod extract;
#[cfg(debug_assertions)]
pub(crate) mod faults;
mod fuse;
mod in_place;
pub(crate) mod index;
pub(crate) mod kernel;
mod lower;
mod order;
mod place;
mod schedule;
pub(crate) mod size;
pub(crate) mod tiling;
mod verify;

use crate::{
    index::{Index, IndexVec, list_bytes},
    nodes::{self, NodeId, Program, ShapeId},
    shape::Shape,
    tensor::{DType, Type},
};
use cost::Cost;
use index::{Csr, InputId, KernelId, OutputId, StageId, UpdateId, ValueId};
use kernel::{Kernel, Placement, Value, View};
use std::{collections::HashSet, ops::Range};

/// A program made ready to run.
pub(crate) struct Plan {
    /// The leaves whose values are read, as nodes of the program.
    pub(crate) inputs: IndexVec<InputId, NodeId>,
    pub(crate) values: IndexVec<ValueId, Value>,
    /// In the order in which they run.
    pub(crate) kernels: IndexVec<KernelId, Kernel>,
    /// The kernels of each stage.
    pub(crate) stages: IndexVec<StageId, Stage>,
    /// The first stage of the commit phase. From there on nothing can fail.
    pub(crate) commit: StageId,
    /// The tensors that are handed out.
    pub(crate) outputs: IndexVec<OutputId, OutputType>,
    /// The wanted values, in the order in which they were wanted.
    pub(crate) results: Vec<View>,
    pub(crate) updates: IndexVec<UpdateId, Update>,
    /// The bytes that values need while they wait between kernels.
    pub(crate) arena: usize,
    pub(crate) costs: IndexVec<KernelId, Cost>,
    pub(crate) shapes: IndexVec<ShapeId, Shape>,
    /// The nodes that each kernel computes, oldest first.
    members: Csr<KernelId, NodeId>,
}

/// Kernels that can run at the same time.
pub(crate) type Stage = Range<KernelId>;

/// The type of a tensor that is handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutputType {
    pub(crate) dtype: DType,
    pub(crate) shape: ShapeId,
}

/// An update of a parameter, as the plan carries it out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    /// The node that the parameter is bound to.
    pub(crate) target: NodeId,
    pub(crate) placed: Placed,
}

/// Where the new value of a parameter comes to lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placed {
    /// The value is there before the commit and becomes the parameter's.
    Move(View),
    /// A kernel of the commit writes it to a new buffer, which then takes the old one's place.
    Fresh,
    /// A kernel of the commit writes it over the old value, unless somebody else holds that: see
    /// [`in_place`].
    InPlace,
}

impl Plan {
    /// The plan for some nodes, and for updates of parameters.
    pub(crate) fn new(p: &Program, wanted: &[NodeId], updates: &[nodes::Update]) -> Plan {
        let dag = lower::lower(p, wanted, updates);
        verify::check("lowering", || dag.verify());
        let groups = fuse::fuse(&dag);
        verify::check("fusion", || groups.verify(&dag));
        let schedule = schedule::Schedule::new(&dag, &groups);
        verify::check("scheduling", || schedule.verify(&dag, &groups));
        let mut plan = Plan::emit(&dag, &groups, &schedule);
        in_place::decide(&mut plan);
        verify::check("emission", || plan.verify());
        plan
    }

    /// Emits the kernels of all groups, and places what they read and write.
    fn emit(dag: &dag::Dag<'_>, groups: &fuse::Groups, schedule: &schedule::Schedule) -> Plan {
        let mut values = place::Values::new(dag, groups, schedule);
        let mut slots = IndexVec::filled(order::Slot::default(), dag.nodes.len());
        let (mut kernels, mut costs) = (IndexVec::with_capacity(groups.all.len()), IndexVec::new());
        let (mut stages, mut members) = (IndexVec::new(), Vec::with_capacity(dag.nodes.len()));
        for stage in schedule.stages() {
            for &group in &schedule.order[stage.clone()] {
                let nodes = schedule.members.get(group);
                let kernel = emit::kernel(dag, groups, group, nodes, &mut values, &mut slots);
                costs.push(values.cost(&kernel));
                let id = kernels.push(kernel);
                members.extend(nodes.iter().map(|&node| (id, dag.nodes[node].id)));
            }
            values.end_stage(schedule, stage.clone());
            stages.push(KernelId::new(stage.start)..KernelId::new(stage.end));
        }
        let mut plan = Plan {
            inputs: IndexVec::new(),
            values: IndexVec::new(),
            members: Csr::new(kernels.len(), &members),
            kernels,
            stages,
            commit: StageId::new(schedule.compute_stages),
            outputs: IndexVec::new(),
            results: Vec::new(),
            updates: IndexVec::new(),
            arena: 0,
            costs,
            shapes: dag.program.shapes.clone(),
        };
        values.finish(&mut plan);
        plan
    }

    /// The stage of a kernel.
    pub(crate) fn stage_of(&self, kernel: KernelId) -> Stage {
        let after = self.stages.partition_point(|stage| stage.end <= kernel);
        self.stages[StageId::new(after)].clone()
    }

    /// The kernels of the commit phase.
    pub(crate) fn commit_kernels(&self) -> Range<KernelId> {
        let start = self
            .stages
            .get(self.commit)
            .map_or(self.kernels.next(), |stage| stage.start);
        start..self.kernels.next()
    }

    /// The nodes that a kernel computes, oldest first.
    pub(crate) fn members(&self, kernel: KernelId) -> &[NodeId] {
        self.members.get(kernel)
    }

    pub(crate) fn shape(&self, view: View) -> &Shape {
        &self.shapes[view.shape]
    }

    pub(crate) fn ty(&self, view: View) -> Type {
        Type::new(self.values[view.value].dtype, self.shapes[view.shape])
    }

    /// The nodes before differentiation whose computed values nodes of differentiation read from
    /// memory.
    pub(crate) fn saved_for_backward(
        &self,
        p: &Program,
        is_swept: impl Fn(NodeId) -> bool,
    ) -> Vec<NodeId> {
        let mut is_saved = IndexVec::filled(false, self.values.len());
        for (id, kernel) in self.kernels.enumerate() {
            // a fused kernel may do work of both kinds: a member of the second must read it
            let swept = self.members(id).iter().copied().filter(|&id| is_swept(id));
            let read = read_by(p, swept);
            kernel.reads(|value| is_saved[value] |= read.contains(&self.values[value].node));
        }
        let is_computed =
            |v: &Value| matches!(v.placement, Placement::Arena(_) | Placement::Output(_));
        let saved = self
            .values
            .enumerate()
            .filter(|(id, value)| is_saved[*id] && is_computed(value));
        saved
            .map(|(_, value)| value.node)
            .filter(|&node| !is_swept(node))
            .collect()
    }

    /// The bytes that the plan itself takes.
    fn bytes(&self) -> usize {
        // without `..`: what is added to a plan must be counted here
        let Plan {
            inputs,
            values,
            kernels,
            stages,
            commit: _,
            outputs,
            results,
            updates,
            arena: _,
            costs,
            shapes,
            members,
        } = self;
        let of_values = inputs.bytes()
            + values.bytes()
            + outputs.bytes()
            + list_bytes(results)
            + updates.bytes();
        let of_kernels = kernels.bytes() + stages.bytes() + costs.bytes() + members.bytes();
        let in_kernels: usize = kernels.iter().map(Kernel::bytes).sum();
        size_of::<Plan>() + of_values + of_kernels + in_kernels + shapes.bytes()
    }
}

/// The nodes that some nodes read, directly or through others that compute nothing.
fn read_by(p: &Program, nodes: impl Iterator<Item = NodeId>) -> HashSet<NodeId> {
    let mut read = HashSet::new();
    for mut arg in nodes.flat_map(|id| p.args(id)).copied() {
        while read.insert(arg) && lower::shows_its_input(p, arg) {
            arg = p.args(arg)[0];
        }
    }
    read
}
