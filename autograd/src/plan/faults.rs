//! Fault injection: breaks plans on purpose, to see whether the checks notice: in debug builds, for
//! a test.

use super::{
    Placed, Plan,
    dag::{Dag, Kind, Phase},
    fuse::{self, Groups},
    index::{DagId, KernelId, StageId, ValueId},
    kernel::{Fused, Kernel, Placement, Register, Step},
    lower,
    schedule::Schedule,
};
use crate::{
    index::Index,
    nodes::{self, NodeId, Program},
};

/// What the passes of planning make.
struct Passes<'p> {
    dag: Dag<'p>,
    groups: Groups,
    schedule: Schedule,
    plan: Plan,
}

impl<'p> Passes<'p> {
    fn new(p: &'p Program, wanted: &[NodeId], updates: &[nodes::Update]) -> Passes<'p> {
        let dag = lower::lower(p, wanted, updates);
        let groups = fuse::fuse(&dag);
        let schedule = Schedule::new(&dag, &groups);
        let plan = Plan::new(p, wanted, updates);
        Passes {
            dag,
            groups,
            schedule,
            plan,
        }
    }

    fn verify(&self) -> Result<(), String> {
        self.dag.verify()?;
        self.groups.verify(&self.dag)?;
        self.schedule.verify(&self.dag, &self.groups)?;
        self.plan.verify()
    }
}

/// A change that breaks an invariant. False if there is nothing to break.
type Fault = (&'static str, fn(&mut Passes<'_>) -> bool);

/// The plan of some nodes, with one invariant broken after the other: how many could be broken, and
/// the names of those that no check has noticed.
pub(crate) fn undetected(
    p: &Program,
    wanted: &[NodeId],
    updates: &[nodes::Update],
) -> (usize, Vec<&'static str>) {
    let (mut count, mut undetected) = (0, Vec::new());
    for (name, inject) in FAULTS {
        let mut broken = Passes::new(p, wanted, updates);
        if inject(&mut broken) {
            count += 1;
            if broken.verify().is_ok() {
                undetected.push(name);
            }
        }
    }
    (count, undetected)
}

/// The last node that is computed from something.
fn last_computed(dag: &Dag<'_>) -> Option<DagId> {
    dag.nodes
        .indices()
        .rev()
        .find(|&id| !dag.operands(id).is_empty())
}

const FAULTS: [Fault; 28] = [
    // the dag
    ("a node reads itself", |Passes { dag, .. }| {
        let Some(id) = last_computed(dag) else {
            return false;
        };
        dag.operands_mut(id)[0].node = id;
        true
    }),
    ("a use is not counted", |Passes { dag, .. }| {
        let Some(node) = dag.nodes.first_mut() else {
            return false;
        };
        node.uses += 1;
        true
    }),
    (
        "an elementwise operand is transposed",
        |Passes { dag, .. }| {
            let is_elementwise = |id: &DagId| matches!(dag.nodes[*id].kind, Kind::Elementwise(_));
            let Some(id) = dag.nodes.indices().find(is_elementwise) else {
                return false;
            };
            dag.operands_mut(id)[0].transposed = true;
            true
        },
    ),
    (
        "what everything needs waits for the commit",
        |Passes { dag, .. }| {
            let is_read = |id: &DagId| {
                dag.nodes[*id].phase == Phase::Compute && dag.nodes[*id].kind == Kind::Leaf
            };
            let Some(id) = dag.nodes.indices().find(is_read) else {
                return false;
            };
            dag.nodes[id].phase = Phase::Commit;
            true
        },
    ),
    (
        "an operand has another number of elements",
        |Passes { dag, .. }| {
            let other = |a: usize, dag: &Dag<'_>| {
                dag.program
                    .shapes
                    .indices()
                    .find(|&s| dag.shape(s).count() != a)
            };
            let Some(id) = last_computed(dag) else {
                return false;
            };
            let count = dag.count(dag.operands(id)[0].node);
            let Some(shape) = other(count, dag) else {
                return false;
            };
            dag.operands_mut(id)[0].shape = shape;
            true
        },
    ),
    // groups
    ("a node is in no group", |Passes { groups, dag, .. }| {
        let Some(id) = last_computed(dag) else {
            return false;
        };
        groups.of[id] = None;
        true
    }),
    (
        "all levels are the same",
        |Passes { groups, dag, .. }| {
            groups.all.iter_mut().for_each(|g| g.level = 1);
            let reads_another = |id: DagId| {
                let mut read = dag.operands(id).iter().filter_map(|o| groups.of[o.node]);
                read.any(|group| Some(group) != groups.of[id])
            };
            dag.nodes.indices().any(reads_another)
        },
    ),
    (
        "everything is one kernel",
        |Passes { groups, dag, .. }| {
            let is_sum_read = |id: &DagId| {
                let reads_sum =
                    |o: &super::dag::Operand| matches!(dag.nodes[o.node].kind, Kind::Fold(..));
                dag.operands(*id).iter().any(reads_sum)
            };
            let any = dag.nodes.indices().any(|id| is_sum_read(&id));
            let first = groups.all.indices().next();
            groups
                .of
                .iter_mut()
                .filter(|of| of.is_some())
                .for_each(|of| *of = first);
            any
        },
    ),
    // the schedule
    ("a group runs twice", |Passes { schedule: s, .. }| {
        let Some(&first) = s.order.first() else {
            return false;
        };
        let Some(last) = s.order.last_mut().filter(|last| **last != first) else {
            return false;
        };
        *last = first;
        true
    }),
    ("the order is reversed", |Passes { schedule: s, .. }| {
        s.order.reverse();
        s.stage_ends.len() > 1
    }),
    (
        "the commit phase begins too early",
        |Passes { schedule: s, .. }| {
            let is_early = s.compute_stages > 0;
            s.compute_stages = 0;
            is_early
        },
    ),
    // kernels and values
    ("two values share their place", |Passes { plan, .. }| {
        let in_arena = |(id, v): (ValueId, &super::kernel::Value)| {
            matches!(v.placement, Placement::Arena(_)).then_some(id)
        };
        // of one kernel: they live at the same time
        for kernel in plan.kernels.iter() {
            let mut written = Vec::new();
            kernel.writes(|value| written.extend(in_arena((value, &plan.values[value]))));
            if let [a, b, ..] = written[..] {
                plan.values[b].placement = plan.values[a].placement;
                return true;
            }
        }
        false
    }),
    (
        "an output is written to twice",
        |Passes { plan, .. }| {
            let outputs = plan
                .values
                .enumerate()
                .filter(|(_, v)| matches!(v.placement, Placement::Output(_)));
            let outputs: Vec<ValueId> = outputs.map(|(id, _)| id).collect();
            let [a, b, ..] = outputs[..] else {
                return false;
            };
            plan.values[b].placement = plan.values[a].placement;
            true
        },
    ),
    ("the arena is too small", |Passes { plan, .. }| {
        let is_used = plan.arena > 0;
        plan.arena = 0;
        is_used
    }),
    ("stages are exchanged", |Passes { plan, .. }| {
        let kernel = KernelId::new(0);
        if plan.stages.len() < 2 {
            return false;
        }
        let reader = plan.stages[StageId::new(1)].start;
        let mut reads = false;
        plan.kernels[kernel].writes(|w| plan.kernels[reader].reads(|r| reads |= r == w));
        plan.kernels.swap(0, reader.index());
        reads
    }),
    (
        "an update is in place that must not be",
        |Passes { plan, .. }| {
            let fresh = plan.updates.iter_mut().find(|u| u.placed == Placed::Fresh);
            fresh.map(|u| u.placed = Placed::InPlace).is_some()
        },
    ),
    ("a value is not written", |Passes { plan, .. }| {
        let inject = |k: &mut Fused| match k.reductions.is_empty() {
            false => {
                k.reductions.clear();
                true
            }
            true => false,
        };
        kernels(plan).any(inject)
    }),
    (
        "a register is read before it is written",
        |Passes { plan, .. }| {
            kernels(plan).any(|k| {
                let never = k.registers.push(Register::Temporary);
                let Some(step) = k.steps.first_mut() else {
                    return false;
                };
                step.load = Some(never);
                true
            })
        },
    ),
    ("an output is not stored", |Passes { plan, .. }| {
        kernels(plan).any(|k| {
            let registers = &k.registers;
            let is_output = |step: &&mut Step| {
                step.store
                    .is_some_and(|r| matches!(registers[r], Register::Output(_)))
            };
            let step = k.steps.iter_mut().find(is_output);
            step.map(|step| step.store = None).is_some()
        })
    }),
    ("an output is stored twice", |Passes { plan, .. }| {
        kernels(plan).any(|k| {
            let registers = &k.registers;
            let is_output = |step: &&Step| {
                step.store
                    .is_some_and(|r| matches!(registers[r], Register::Output(_)))
            };
            let Some(&step) = k.steps.iter().find(is_output) else {
                return false;
            };
            k.steps.push(step);
            true
        })
    }),
    ("a source is stored to", |Passes { plan, .. }| {
        kernels(plan).any(|k| {
            let is_source = |r: &Register| matches!(r, Register::Source { .. });
            let source = k
                .registers
                .enumerate()
                .find(|(_, r)| is_source(r))
                .map(|(id, _)| id);
            let Some(step) = k.steps.iter_mut().find(|s| s.store.is_some()) else {
                return false;
            };
            step.store = source;
            source.is_some()
        })
    }),
    ("a step has no accumulator", |Passes { plan, .. }| {
        kernels(plan).any(|k| {
            let Some(step) = k.steps.first_mut() else {
                return false;
            };
            let had = step.load.take().is_some();
            had && step.continues()
        })
    }),
    ("a span is too long", |Passes { plan, .. }| {
        kernels(plan).any(|k| {
            k.layout.span *= 8;
            k.layout.span > 0
        })
    }),
    ("a line is cut", |Passes { plan, .. }| {
        kernels(plan).any(|k| {
            let Some(cuts) = k.layout.cuts.as_mut().filter(|_| !k.line_steps.is_empty()) else {
                return false;
            };
            cuts.grain += 1;
            k.blocks.whole_line() != Some(1)
        })
    }),
    (
        "a function of lines writes to a temporary",
        |Passes { plan, .. }| {
            kernels(plan).any(|k| {
                let temporary = k.registers.push(Register::Temporary);
                let last = k.layout.registers.last().copied().unwrap_or(0);
                k.layout.registers.push(last + (1 << 20));
                let step = k.line_steps.iter_mut().find(|step| step.to.is_some());
                step.map(|step| step.to = Some(temporary)).is_some()
            })
        },
    ),
    (
        "a value is smaller than its kernel",
        |Passes { plan, .. }| {
            let written: Vec<ValueId> = plan
                .kernels
                .iter()
                .filter_map(|kernel| match kernel {
                    Kernel::Fused(k) => k.registers.iter().find_map(|r| match r {
                        Register::Output(value) => Some(*value),
                        _ => None,
                    }),
                    _ => None,
                })
                .collect();
            let Some(&value) = written.first() else {
                return false;
            };
            plan.values[value].count -= 1;
            true
        },
    ),
    ("a sum goes over other lines", |Passes { plan, .. }| {
        kernels(plan).any(|k| {
            let Some(sum) = k.reductions.iter_mut().next() else {
                return false;
            };
            sum.lines.n += 1;
            true
        })
    }),
    ("registers overlap", |Passes { plan, .. }| {
        kernels(plan).any(|k| {
            let two = k.layout.registers.len() > 1;
            if two {
                k.layout.registers.swap(0, 1);
            }
            two
        })
    }),
];

/// The fused kernels of a plan.
fn kernels(plan: &mut Plan) -> impl Iterator<Item = &mut Fused> {
    plan.kernels.iter_mut().filter_map(|kernel| match kernel {
        Kernel::Fused(k) => Some(&mut **k),
        _ => None,
    })
}
