//! Placement: where each value is. Pass 6 of 7, kernel by kernel along with emission.
//!
//! What is handed out gets a tensor of its own; what becomes a parameter's new value is written
//! into the parameter; everything else that another kernel reads lies in one piece of memory, the
//! arena. A value's lifetime there begins with the stage that writes it and ends with the stage of
//! its last reader; the outputs of a stage are placed before what it read last is freed, since its
//! kernels run at the same time. What only its own kernel reads has no value: it stays in
//! registers.

use super::{
    OutputType, Placed, Plan, Update,
    arena::Arena,
    cost::Cost,
    dag::{Dag, Kind, Operand, Phase},
    fuse::Groups,
    index::{DagId, InputId, OutputId, UpdateId, ValueId},
    kernel::{Kernel, Placement, Value, View},
    schedule::Schedule,
    size::ProductSize,
};
use crate::{
    index::{Index, IndexVec},
    nodes::{Hashed, NodeId},
};
use std::collections::HashMap;

/// The values of a plan while it is made.
pub(super) struct Values<'d, 'p> {
    dag: &'d Dag<'p>,
    values: IndexVec<ValueId, Value>,
    inputs: IndexVec<InputId, NodeId>,
    outputs: IndexVec<OutputId, OutputType>,
    /// The value that holds a node's elements.
    of: IndexVec<DagId, Option<ValueId>>,
    last_reader: IndexVec<DagId, Option<LastReader>>,
    /// Of nodes that are handed out or go into parameters.
    placements: HashMap<DagId, Placement, Hashed>,
    arena: Arena,
}

impl<'d, 'p> Values<'d, 'p> {
    pub(super) fn new(dag: &'d Dag<'p>, groups: &Groups, schedule: &Schedule) -> Values<'d, 'p> {
        let mut values = Values {
            dag,
            values: IndexVec::new(),
            inputs: IndexVec::new(),
            outputs: IndexVec::new(),
            of: IndexVec::filled(None, dag.nodes.len()),
            last_reader: IndexVec::filled(None, dag.nodes.len()),
            placements: HashMap::default(),
            arena: Arena::default(),
        };
        for (k, update) in dag.updates.iter().enumerate() {
            let node = update.value.node;
            if dag.nodes[node].phase == Phase::Commit {
                // a kernel of the commit phase writes it into the parameter
                values
                    .placements
                    .insert(node, Placement::Update(UpdateId::new(k)));
            } else {
                values.hand_out(node);
            }
        }
        // in the order of the results, so that outputs can be handed out as they are
        dag.results.iter().for_each(|o| values.hand_out(o.node));
        for (position, &group) in schedule.order.iter().enumerate() {
            for &id in schedule.members.get(group) {
                for operand in dag.operands(id) {
                    if groups.of[operand.node] != Some(group) {
                        values.last_reader[operand.node] = Some(LastReader::At(position as u32));
                    }
                }
            }
        }
        values
    }

    fn hand_out(&mut self, id: DagId) {
        // a leaf is handed out as it is; what is asked for twice is one tensor
        let node = &self.dag.nodes[id];
        if node.kind != Kind::Leaf && !self.placements.contains_key(&id) {
            let output = self.outputs.push(OutputType {
                dtype: node.dtype,
                shape: node.shape,
            });
            self.placements.insert(id, Placement::Output(output));
        }
    }

    /// Whether a node's elements are needed outside its kernel.
    pub(super) fn is_live_out(&self, id: DagId) -> bool {
        self.last_reader[id].is_some() || self.placements.contains_key(&id)
    }

    /// The value of a node that is computed now.
    pub(super) fn define(&mut self, id: DagId) -> ValueId {
        let bytes = self.dag.count(id) * self.dag.nodes[id].dtype.size();
        // no two values of a stage share memory, and none shares that of a value that the stage
        // reads: what is read last is freed when all kernels of the stage have their outputs
        let placement = match self.placements.get(&id) {
            Some(&placement) => placement,
            None => Placement::Arena(self.arena.take(bytes)),
        };
        self.push(id, placement)
    }

    /// As [`define`](Values::define), seen with the node's own shape.
    pub(super) fn define_view(&mut self, id: DagId) -> View {
        View {
            value: self.define(id),
            shape: self.dag.nodes[id].shape,
        }
    }

    fn push(&mut self, id: DagId, placement: Placement) -> ValueId {
        let node = &self.dag.nodes[id];
        let value = self.values.push(Value {
            node: node.id,
            placement,
            dtype: node.dtype,
            count: self.dag.count(id),
        });
        self.of[id] = Some(value);
        value
    }

    /// The value of a node that is there already: a leaf becomes an input of the plan when it is
    /// first read.
    pub(super) fn value(&mut self, id: DagId) -> ValueId {
        self.of[id].unwrap_or_else(|| {
            let input = self.inputs.push(self.dag.nodes[id].id);
            self.push(id, Placement::Input(input))
        })
    }

    pub(super) fn view(&mut self, operand: Operand) -> View {
        View {
            value: self.value(operand.node),
            shape: operand.shape,
        }
    }

    /// The value with the old elements of the parameter that a new value is an update of, if a
    /// kernel has read them.
    pub(super) fn replaces(&self, new: ValueId) -> Option<ValueId> {
        match self.values[new].placement {
            Placement::Update(update) => self.of[self.dag.updates[update.index()].old?],
            _ => None,
        }
    }

    /// What a kernel costs.
    pub(super) fn cost(&self, kernel: &Kernel) -> Cost {
        let count = |view: &View| self.values[view.value].count;
        match kernel {
            Kernel::Fused(k) => k.cost(),
            Kernel::Scalar(k) => Cost::of_scalars(k.steps.len()),
            Kernel::Product { a, out, .. } => {
                let shape = self.dag.shape(a.view.shape);
                let k = shape[shape.rank() - if a.transposed { 2 } else { 1 }];
                let n = self.dag.shape(out.shape).last().map_or(1, |&n| n.max(1));
                let m = count(out) / n;
                Cost::of_product(ProductSize { m, k, n })
            }
            Kernel::Opaque {
                inputs, out, how, ..
            } => {
                let read = inputs.iter().map(count).fold(0, usize::saturating_add);
                Cost::of_elements(read.saturating_add(count(out)), how.steps)
            }
        }
    }

    /// Frees what the groups at these positions, a stage, read last.
    pub(super) fn end_stage(&mut self, schedule: &Schedule, stage: std::ops::Range<usize>) {
        for position in stage {
            for &id in schedule.members.get(schedule.order[position]) {
                for operand in self.dag.operands(id) {
                    let last = &mut self.last_reader[operand.node];
                    if *last == Some(LastReader::At(position as u32)) {
                        // once, although several members may read it
                        *last = Some(LastReader::Gone);
                        self.free(operand.node);
                    }
                }
            }
        }
    }

    fn free(&mut self, id: DagId) {
        if let Some(value) = self.of[id].map(|value| self.values[value])
            && let Placement::Arena(start) = value.placement
        {
            self.arena.free(start, value.bytes());
        }
    }

    /// Everything is placed: what results and updates are, and all lists, become the plan's.
    pub(super) fn finish(mut self, plan: &mut Plan) {
        plan.results = self
            .dag
            .results
            .iter()
            .map(|&operand| self.view(operand))
            .collect();
        plan.updates = IndexVec::with_capacity(self.dag.updates.len());
        for (k, update) in self.dag.updates.iter().enumerate() {
            // a value that is computed in the compute phase is a tensor that becomes the
            // parameter's
            let own = Placement::Update(UpdateId::new(k));
            let placed = match self.placements.get(&update.value.node) {
                Some(&placement) if placement == own => Placed::Fresh, // in place, perhaps: see `in_place`
                _ => Placed::Move(self.view(update.value)),
            };
            let target = update.target;
            plan.updates.push(Update { target, placed });
        }
        plan.arena = self.arena.size;
        (plan.values, plan.inputs, plan.outputs) = (self.values, self.inputs, self.outputs);
    }
}

/// The last reader of a value outside its own kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LastReader {
    /// The group at this position in the schedule.
    At(u32),
    /// It has read the value, whose place is free.
    Gone,
}
