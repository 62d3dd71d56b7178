//! Scheduling: in which order groups run, and which of them at the same time. Pass 4 of 7.
//!
//! Groups that do not depend on each other form a stage; a stage begins when the one before has
//! ended. Of the groups that are ready, the one that became ready last runs first, so that a value
//! is read while it is still in the cache. The commit phase comes last, in stages of its own.
//!
//! Example: in the backward pass of a layer, the gradients by the weights and by the input read the
//! same cotangent and become ready together: they are one stage. In a chain each stage has one
//! group.

use super::{
    cost::Cost,
    dag::{Dag, Kind, Phase},
    fuse::Groups,
    index::{Csr, DagId, GroupId},
};
use crate::index::IndexVec;

/// Groups in the order in which they run.
pub(super) struct Schedule {
    pub(super) order: Vec<GroupId>,
    /// Where stages end in the order.
    pub(super) stage_ends: Vec<usize>,
    /// How many of the stages come before the commit phase.
    pub(super) compute_stages: usize,
    /// The nodes of each group, oldest first.
    pub(super) members: Csr<GroupId, DagId>,
}

/// A stage takes no more groups when it has so many of them, and so much work that each of a hundred
/// threads has several parts of it: a value is read sooner if fewer others are made before.
const FEW_GROUPS: usize = 4;
const MUCH_WORK: Cost = Cost::LEAST_PART.times(256);
/// The most bytes that the groups of a stage may write for others: they stay in the caches.
const MAX_BYTES_AT_ONCE: usize = 1 << 20;

/// An edge from a group to one that must come later.
type Edge = (GroupId, GroupId);

/// The groups that wait, and those that wait for nothing any more.
struct Scheduler {
    phase_of: IndexVec<GroupId, Phase>,
    /// How many edges lead to a group from such that have not run.
    waits_for: IndexVec<GroupId, u32>,
    readers: Csr<GroupId, GroupId>,
    /// The bytes that a group writes for others.
    bytes: IndexVec<GroupId, usize>,
    /// What a group costs, roughly.
    costs: IndexVec<GroupId, Cost>,
    /// By phase, what became ready last at the end.
    ready: [Vec<GroupId>; 2],
}

impl Schedule {
    /// A list schedule: whatever is ready may run, and levels ensure that something is.
    pub(super) fn new(dag: &Dag<'_>, groups: &Groups) -> Schedule {
        let (mut scheduler, members) = Scheduler::new(dag, groups);
        let (mut order, mut stage_ends) = (Vec::with_capacity(groups.all.len()), Vec::new());
        while let Some(stage) = scheduler.next_stage(Phase::Compute) {
            order.extend(stage);
            stage_ends.push(order.len());
        }
        let compute_stages = stage_ends.len();
        // nothing of the compute phase waits for the commit phase, so it is over here
        while let Some(stage) = scheduler.next_stage(Phase::Commit) {
            order.extend(stage);
            stage_ends.push(order.len());
        }
        Schedule {
            order,
            stage_ends,
            compute_stages,
            members,
        }
    }

    /// The stages, as ranges of positions in the order.
    pub(super) fn stages(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = std::iter::once(0).chain(self.stage_ends.iter().copied());
        starts.zip(&self.stage_ends).map(|(start, &end)| start..end)
    }

    /// Checks that each group runs once, after all that it reads or waits for, and that the commit
    /// phase is the end.
    pub(super) fn verify(&self, dag: &Dag<'_>, groups: &Groups) -> Result<(), String> {
        let mut stage_of = IndexVec::filled(None, groups.all.len());
        for (stage, range) in self.stages().enumerate() {
            for &group in &self.order[range] {
                if stage_of[group].replace(stage).is_some() {
                    return Err(format!("{group:?} runs twice"));
                }
                if (groups.all[group].phase == Phase::Commit) != (stage >= self.compute_stages) {
                    return Err(format!("{group:?} runs in the wrong phase"));
                }
            }
        }
        for (from, to) in edges(dag, groups).0 {
            if stage_of[to].is_none() || stage_of[from] >= stage_of[to] {
                return Err(format!("{to:?} does not run after {from:?}"));
            }
        }
        match stage_of.enumerate().find(|(_, stage)| stage.is_none()) {
            Some((group, _)) => Err(format!("{group:?} never runs")),
            None => Ok(()),
        }
    }
}

/// All edges between groups; and whether a group other than its own reads a node.
fn edges(dag: &Dag<'_>, groups: &Groups) -> (Vec<Edge>, IndexVec<DagId, bool>) {
    let (mut edges, mut is_read) = (Vec::new(), IndexVec::filled(false, dag.nodes.len()));
    for id in dag.nodes.indices() {
        let Some(group) = groups.of[id] else {
            continue;
        };
        for operand in dag.operands(id) {
            if let Some(from) = groups.of[operand.node].filter(|&from| from != group) {
                edges.push((from, group));
                is_read[operand.node] = true;
            }
        }
        let awaited = dag.awaited(id);
        edges.extend(
            awaited
                .filter_map(|a| groups.of[a])
                .filter(|&from| from != group)
                .map(|from| (from, group)),
        );
    }
    (edges, is_read)
}

impl Scheduler {
    fn new(dag: &Dag<'_>, groups: &Groups) -> (Scheduler, Csr<GroupId, DagId>) {
        let count = groups.all.len();
        let (edges, is_read) = edges(dag, groups);
        let mut members = Vec::with_capacity(dag.nodes.len());
        let mut bytes = IndexVec::filled(0, count);
        let mut costs = IndexVec::filled(Cost::default(), count);
        for (id, node) in dag
            .nodes
            .enumerate()
            .filter(|(_, node)| node.kind != Kind::Leaf)
        {
            let Some(group) = groups.of[id] else {
                continue;
            };
            members.push((group, id));
            costs[group] = costs[group] + dag.cost(id);
            if is_read[id] {
                bytes[group] += dag.count(id) * node.dtype.size();
            }
        }
        let mut scheduler = Scheduler {
            phase_of: IndexVec::from_vec(groups.all.iter().map(|g| g.phase).collect()),
            waits_for: IndexVec::filled(0, count),
            readers: Csr::new(count, &edges),
            bytes,
            costs,
            ready: [Vec::new(), Vec::new()],
        };
        // an edge for each read: a group that reads another one twice waits for two edges
        edges
            .iter()
            .for_each(|&(_, to)| scheduler.waits_for[to] += 1);
        // the stack is popped from its end: what comes first in the program is taken first
        let mut listed = IndexVec::filled(false, count);
        let mut roots: Vec<GroupId> = Vec::new();
        for &(group, _) in &members {
            if !std::mem::replace(&mut listed[group], true) && scheduler.waits_for[group] == 0 {
                roots.push(group);
            }
        }
        roots
            .into_iter()
            .rev()
            .for_each(|group| scheduler.is_ready(group));
        (scheduler, Csr::new(count, &members))
    }

    fn is_ready(&mut self, group: GroupId) {
        self.ready[self.phase_of[group] as usize].push(group);
    }

    /// The groups of the next stage; none if nothing of this phase is left.
    fn next_stage(&mut self, phase: Phase) -> Option<Vec<GroupId>> {
        let ready = &mut self.ready[phase as usize];
        let first = ready.pop()?;
        let (mut stage, mut written) = (vec![first], self.bytes[first]);
        let mut cost = self.costs[first];
        while let Some(&next) = ready.last() {
            if stage.len() >= FEW_GROUPS && cost >= MUCH_WORK {
                break;
            }
            // two large kernels side by side would evict each other's outputs before they are read
            written += self.bytes[next];
            if written > MAX_BYTES_AT_ONCE {
                break;
            }
            cost = cost + self.costs[next];
            stage.extend(ready.pop());
        }
        stage.sort_unstable(); // what is written side by side is also read side by side, by the same threads
        // pushed last, popped first: the readers of the stage's first group come next
        for &group in stage.iter().rev() {
            for k in (0..self.readers.get(group).len()).rev() {
                let reader = self.readers.get(group)[k];
                self.waits_for[reader] -= 1;
                if self.waits_for[reader] == 0 {
                    self.is_ready(reader);
                }
            }
        }
        Some(stage)
    }
}
