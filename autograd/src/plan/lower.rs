//! The last pass: units become kernels, values get their places.

use super::{
    Placed, Plan, Update,
    arena::Arena,
    fuse::{NONE, NUMBERS, Unit, Units},
    in_place,
    kernel::{Home, Kernel, Operand, PRODUCTS, Value},
    schedule::Schedule,
    simplify::{Class, Read, Simple},
};
use crate::{
    nodes::{self, Quick},
    op::Id,
};
use std::{collections::HashMap, hash::BuildHasherDefault};

/// More than any kernel takes, in nanoseconds: so that the work of several can be added.
const MOST_WORK: usize = 1 << 48;

/// What lowering knows, by node where it says so.
pub(super) struct Lower<'s, 'p> {
    pub(super) s: &'s Simple<'p>,
    pub(super) units: &'s mut Units,
    pub(super) plan: Plan,
    pub(super) updates: &'s [nodes::Update],
    /// By node: the value that holds its elements.
    pub(super) value: Vec<u32>,
    /// By node: the position after that of the last unit that reads it from another one; 0 if none does.
    last: Vec<u32>,
    /// Nodes with a home of their own: what is handed out, and what goes into parameters.
    homes: HashMap<u32, Home, BuildHasherDefault<Quick>>,
    arena: Arena,
    /// By node, for the unit at hand: its register.
    pub(super) register: Vec<u32>,
    /// By node, for the unit at hand: how often it is still read there.
    pub(super) left: Vec<u32>,
    /// By node, for the unit at hand: how many registers it takes to compute it.
    pub(super) need: Vec<u32>,
    /// By node, for the unit at hand: how many functions of rows lie before it.
    pub(super) phase: Vec<u32>,
}

impl<'s, 'p> Lower<'s, 'p> {
    pub(super) fn plan(
        s: &'s Simple<'p>,
        units: &'s mut Units,
        wanted: &[u32],
        updates: &'s [nodes::Update],
    ) -> Plan {
        let schedule = Schedule::new(s, units);
        let nodes = s.class.len();
        let plan = Plan {
            shapes: s.p.shapes.clone(),
            late: schedule.late,
            ..Plan::default()
        };
        let mut lower = Lower {
            s,
            units,
            plan,
            updates,
            value: vec![NONE; nodes],
            last: vec![0; nodes],
            homes: HashMap::default(),
            arena: Arena::default(),
            register: vec![NONE; nodes],
            left: vec![0; nodes],
            need: vec![0; nodes],
            phase: vec![0; nodes],
        };
        lower.find_homes(wanted);
        lower.find_last(&schedule);
        let mut start = 0;
        for &end in &schedule.stages {
            lower.stage(&schedule, start..end);
            start = end;
        }
        lower.plan.arena = lower.arena.size;
        lower.plan.results = wanted
            .iter()
            .map(|&id| lower.operand(s.root(id), id))
            .collect();
        lower.plan.updates = updates
            .iter()
            .enumerate()
            .map(|(k, &update)| lower.update(k, update))
            .collect();
        in_place::decide(&mut lower.plan);
        lower.plan
    }

    /// Writes the kernels of some units that run at once: what they read is there until all have ended.
    fn stage(&mut self, schedule: &Schedule, stage: std::ops::Range<usize>) {
        for (unit, range) in &schedule.units[stage.clone()] {
            let members = &schedule.members[range.clone()];
            let kernel = self.kernel(*unit, members);
            self.plan.work.push(self.work(&kernel).min(MOST_WORK));
            self.plan
                .stages
                .push((stage.start as u32, stage.end as u32));
            self.plan.kernels.push(kernel);
            self.plan
                .ends
                .push(range_end(&mut self.plan.members, members));
        }
        for position in stage {
            self.free(
                position as u32 + 1,
                &schedule.members[schedule.units[position].1.clone()],
            );
        }
    }

    /// About how many nanoseconds a kernel takes on one thread.
    fn work(&self, kernel: &Kernel) -> usize {
        let count = |operand: &Operand| self.plan.values[operand.value as usize].count;
        match kernel {
            Kernel::Fused(k) => k.work(),
            Kernel::Flat(k) => k.code.len(),
            Kernel::Product {
                a: (a, transposed),
                out,
                ..
            } => {
                let shape = &self.plan.shapes[a.shape as usize];
                let k = shape[shape.rank() - if *transposed { 2 } else { 1 }];
                count(out).saturating_mul(k) / PRODUCTS
            }
            Kernel::Op { inputs, out, .. } => inputs
                .iter()
                .map(count)
                .fold(count(out), usize::saturating_add),
        }
    }

    fn find_homes(&mut self, wanted: &[u32]) {
        for (k, update) in self.updates.iter().enumerate() {
            let root = self.s.root(update.value);
            if self.s.is_late(root) {
                self.homes.insert(root, Home::Update(k as u32));
            } else {
                self.hand_out(root);
            }
        }
        wanted.iter().for_each(|&id| self.hand_out(self.s.root(id)));
    }

    fn hand_out(&mut self, root: u32) {
        if self.s.class[root as usize] != Class::Leaf && !self.homes.contains_key(&root) {
            self.homes
                .insert(root, Home::Output(self.plan.outputs.len() as u32));
            let node = &self.s.p.nodes[root as usize];
            self.plan.outputs.push((node.dtype, node.shape));
        }
    }

    fn find_last(&mut self, schedule: &Schedule) {
        for (position, (unit, range)) in schedule.units.iter().enumerate() {
            for &id in &schedule.members[range.clone()] {
                for k in 0..self.s.arity(id) {
                    let root = self.s.read(id, k).root;
                    if self.units.of(root) != *unit {
                        self.last[root as usize] = position as u32 + 1;
                    }
                }
            }
        }
    }

    /// Whether a node's elements are needed outside its kernel.
    pub(super) fn is_exported(&self, id: u32) -> bool {
        self.last[id as usize] > 0 || self.homes.contains_key(&id)
    }

    /// The value of a node that is computed now.
    pub(super) fn define(&mut self, id: u32) -> u32 {
        let node = &self.s.p.nodes[id as usize];
        let (dtype, count) = (node.dtype, self.s.p.shapes[node.shape as usize].count());
        let home = self.homes.get(&id).copied();
        let home = home.unwrap_or_else(|| Home::Arena(self.arena.take(count * dtype.size())));
        self.push(
            id,
            Value {
                node: id,
                home,
                dtype,
                count,
            },
        )
    }

    fn push(&mut self, id: u32, value: Value) -> u32 {
        let number = self.plan.values.len() as u32;
        self.plan.values.push(value);
        self.value[id as usize] = number;
        number
    }

    /// The value of a node that is there already: a leaf becomes an input of the plan when it is first read.
    pub(super) fn value(&mut self, root: u32) -> u32 {
        match self.value[root as usize] {
            NONE => {
                let node = &self.s.p.nodes[root as usize];
                let (dtype, count) = (node.dtype, self.s.p.shapes[node.shape as usize].count());
                let home = Home::Input(self.plan.inputs.len() as u32);
                self.plan.inputs.push(root);
                self.push(
                    root,
                    Value {
                        node: root,
                        home,
                        dtype,
                        count,
                    },
                )
            }
            value => value,
        }
    }

    fn operand(&mut self, root: u32, seen: u32) -> Operand {
        Operand {
            value: self.value(root),
            shape: self.s.p.nodes[seen as usize].shape,
        }
    }

    fn kernel(&mut self, unit: u32, members: &[u32]) -> Kernel {
        let Unit {
            domain,
            dtype,
            line,
            fused,
            ..
        } = self.units.all[unit as usize];
        if !fused {
            return self.single(members[0]);
        }
        if domain == NUMBERS {
            Kernel::Flat(self.flat(unit, dtype, members))
        } else {
            Kernel::Fused(Box::new(self.fused(unit, domain, dtype, line, members)))
        }
    }

    fn single(&mut self, id: u32) -> Kernel {
        let reads: Vec<Read> = (0..self.s.arity(id)).map(|k| self.s.read(id, k)).collect();
        let inputs: Vec<Operand> = reads.iter().map(|r| self.operand(r.root, r.seen)).collect();
        let out = Operand {
            value: self.define(id),
            shape: self.s.p.nodes[id as usize].shape,
        };
        match (&inputs[..], &reads[..]) {
            (&[a, b], [ra, rb]) if self.s.p.nodes[id as usize].op == Id::MatMul as u32 => {
                Kernel::Product {
                    a: (a, ra.transposed),
                    b: (b, rb.transposed),
                    out,
                }
            }
            _ => Kernel::Op {
                op: self.s.p.op_ref(id).for_plan(),
                inputs,
                out,
            },
        }
    }

    /// Gives the places back that no later unit reads.
    fn free(&mut self, position: u32, members: &[u32]) {
        for &id in members {
            for k in 0..self.s.arity(id) {
                let root = self.s.read(id, k).root;
                if self.last[root as usize] == position {
                    self.last[root as usize] = u32::MAX; // once
                    let value = self.plan.values[self.value[root as usize] as usize];
                    if let Home::Arena(start) = value.home {
                        self.arena.free(start, value.count * value.dtype.size());
                    }
                }
            }
        }
    }

    fn update(&mut self, number: usize, update: nodes::Update) -> Update {
        let root = self.s.root(update.value);
        let placed = match self.homes.get(&root) {
            Some(&home) if home == Home::Update(number as u32) => Placed::Fresh,
            _ => Placed::Move(self.operand(root, update.value)),
        };
        Update {
            target: update.target,
            placed,
        }
    }
}

fn range_end(all: &mut Vec<u32>, members: &[u32]) -> u32 {
    all.extend_from_slice(members);
    all.len() as u32
}
