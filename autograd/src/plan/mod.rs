//! Plans: a graph made ready to run. Which nodes are needed, in which order, where their values go and when they are gone.

use crate::{
    error::Error,
    nodes::{Inner, Kind},
    op::{Id, layout::Permute},
    param::Param,
};

/// What to do to compute some nodes. Values live in slots, which are reused as soon as nobody needs them.
pub(crate) struct Plan {
    /// In the order in which they run: that of creation.
    pub(crate) steps: Vec<Step>,
    args: Vec<Arg>,
    pub(crate) slots: usize,
    /// The slots of the wanted values, in the order in which they were wanted.
    pub(crate) wanted: Vec<u32>,
    /// How the updates are carried out, in their order.
    pub(crate) updates: Vec<Update>,
}

/// One node to compute or to load.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) node: u32,
    pub(crate) out: u32,
    first_arg: u32,
    args: u32,
}

/// Where a step finds an input.
#[derive(Clone, Copy)]
pub(crate) struct Arg {
    pub(crate) slot: u32,
    /// This is its last use.
    pub(crate) dies: bool,
    /// The matrix is to be read transposed (inputs of matrix products only).
    pub(crate) transposed: bool,
}

/// The update of one parameter.
pub(crate) enum Update {
    /// The value in this slot becomes the parameter's.
    Move(u32),
    /// This last step runs when the parameter is locked, into its own buffer if nobody else holds that; input number
    /// `at` is the parameter.
    Late { step: Step, at: usize },
}

/// Tables by node that planning needs, kept by the graph from run to run so that only what is touched costs something.
/// Between runs all counts are 0.
#[derive(Default)]
pub(crate) struct Scratch {
    /// How often a value is still to be read.
    uses: Vec<u32>,
    /// Where it is; meaningless where there are no uses.
    slot: Vec<u32>,
    /// The memory of the last plan.
    steps: Vec<Step>,
    args: Vec<Arg>,
}

impl Scratch {
    /// Keeps the memory of a plan that has been run.
    pub(crate) fn recycle(&mut self, plan: Plan) {
        (self.steps, self.args) = (plan.steps, plan.args);
        self.steps.clear();
        self.args.clear();
    }
}

impl Plan {
    /// The plan for some nodes and updates; the oldest error among what they need if there is one.
    pub(crate) fn new(
        inner: &Inner,
        scratch: &mut Scratch,
        wanted: &[u32],
        updates: &[(Param, u32)],
    ) -> Result<Plan, Error> {
        scratch.uses.resize(inner.nodes.len(), 0);
        scratch.slot.resize(inner.nodes.len(), 0);
        let late: Vec<Option<usize>> = updates.iter().map(|(p, node)| late_input(inner, p, *node)).collect();
        let need = Need::find(inner, &mut scratch.uses, wanted, updates, late);
        let plan = match need.nodes.iter().find_map(|&node| inner.error(node)) {
            Some(oldest) => Err(oldest.clone()),
            None => Ok(Layout::new(inner, scratch, need.late).plan(&need.nodes, wanted, updates)),
        };
        need.nodes.iter().for_each(|&node| scratch.uses[node as usize] = 0);
        plan
    }

    pub(crate) fn args(&self, step: &Step) -> &[Arg] {
        &self.args[step.first_arg as usize..][..step.args as usize]
    }
}

/// Whether an update's last step could write into the parameter itself: which of its inputs the parameter is.
fn late_input(inner: &Inner, param: &Param, node: u32) -> Option<usize> {
    if !is_computed(inner, node) {
        return None;
    }
    let (op, args) = (inner.op(node), inner.args(node));
    let types: Vec<_> = args.iter().map(|&a| inner.ty(a)).collect();
    if !op.traits().in_place || op.may_fail(&types) {
        return None;
    }
    let bound = inner.params.iter().find(|b| b.param.same(param))?.node;
    let mut places = (0..args.len()).filter(|&k| args[k] == bound && inner.ty(bound) == inner.ty(node));
    let at = places.next()?;
    places.next().is_none().then_some(at)
}

/// The nodes that are needed, oldest first.
struct Need {
    nodes: Vec<u32>,
    /// Of each update that is still to run late: the input that the parameter is.
    late: Vec<Option<usize>>,
}

impl Need {
    /// Walks down the list from the wanted nodes to leaves and kept values, and counts the uses. It stops when no op is
    /// left to visit, so that the cost depends on what is new, not on the size of the graph.
    fn find(
        inner: &Inner,
        uses: &mut [u32],
        wanted: &[u32],
        updates: &[(Param, u32)],
        mut late: Vec<Option<usize>>,
    ) -> Need {
        let asked = || wanted.iter().copied().chain(updates.iter().map(|u| u.1));
        let end = asked().max().map_or(0, |top| top as usize + 1);
        let mut found = Found { inner, uses, leaves: Vec::new(), pending: 0 };
        asked().for_each(|id| found.need(id));
        let (mut ops, mut id) = (Vec::new(), end);
        while found.pending > 0 {
            id -= 1;
            let node = id as u32;
            if found.uses[id] == 0 || !is_computed(inner, node) {
                continue;
            }
            found.pending -= 1;
            ops.push(node);
            let skip = late_now(updates, &mut late, node, found.uses[id]);
            for (k, &arg) in inner.args(node).iter().enumerate() {
                if skip != Some(k) {
                    found.need(read_through(inner, node, arg).0);
                }
            }
        }
        found.leaves.sort_unstable();
        Need { nodes: merge(found.leaves, ops), late }
    }
}

/// The state of the walk.
struct Found<'g> {
    inner: &'g Inner,
    uses: &'g mut [u32],
    leaves: Vec<u32>,
    /// Ops that are needed and not visited yet.
    pending: usize,
}

impl Found<'_> {
    fn need(&mut self, id: u32) {
        let uses = &mut self.uses[id as usize];
        *uses += 1;
        if *uses == 1 {
            if is_computed(self.inner, id) { self.pending += 1 } else { self.leaves.push(id) }
        }
    }
}

/// Whether a node is an op without a kept value.
fn is_computed(inner: &Inner, id: u32) -> bool {
    inner.nodes[id as usize].kind == Kind::Op && !inner.kept.contains_key(&id)
}

/// The input that a late step leaves out, if the node is one; it is none after all if somebody else wants its value.
fn late_now(updates: &[(Param, u32)], late: &mut [Option<usize>], node: u32, uses: u32) -> Option<usize> {
    let update = updates.iter().position(|u| u.1 == node)?;
    if uses > 1 {
        late[update] = None;
    }
    late[update]
}

/// Two lists, one ascending and one descending, as one ascending list.
fn merge(ascending: Vec<u32>, descending: Vec<u32>) -> Vec<u32> {
    let mut merged = Vec::with_capacity(ascending.len() + descending.len());
    let mut first = ascending.into_iter().peekable();
    for node in descending.into_iter().rev() {
        while let Some(leaf) = first.next_if(|&leaf| leaf < node) {
            merged.push(leaf);
        }
        merged.push(node);
    }
    merged.extend(first);
    merged
}

/// What a step really reads for an argument: a matrix product reads the transpose of a matrix from the matrix itself.
fn read_through(inner: &Inner, reader: u32, arg: u32) -> (u32, bool) {
    let is_product =
        inner.nodes[reader as usize].kind == Kind::Op && inner.nodes[reader as usize].op == Id::MatMul as u32;
    if !is_product || !is_computed(inner, arg) {
        return (arg, false);
    }
    let swaps_last_two = |p: &Permute| {
        let rank = p.0.len();
        rank >= 2
            && p.0.iter().enumerate().all(|(to, &from)| match rank - to {
                1 => from == rank - 2,
                2 => from == rank - 1,
                _ => from == to,
            })
    };
    match inner.op(arg).as_any().downcast_ref::<Permute>() {
        Some(p) if swaps_last_two(p) => (inner.args(arg)[0], true),
        _ => (arg, false),
    }
}

/// Gives values their slots.
struct Layout<'g> {
    inner: &'g Inner,
    scratch: &'g mut Scratch,
    late: Vec<Option<usize>>,
    free: Vec<u32>,
    slots: u32,
    args: Vec<Arg>,
}

impl<'g> Layout<'g> {
    fn new(inner: &'g Inner, scratch: &'g mut Scratch, late: Vec<Option<usize>>) -> Layout<'g> {
        let args = std::mem::take(&mut scratch.args);
        Layout { inner, scratch, late, free: Vec::new(), slots: 0, args }
    }

    fn plan(mut self, nodes: &[u32], wanted: &[u32], updates: &[(Param, u32)]) -> Plan {
        let mut late_at: Vec<Option<(Step, usize)>> = vec![None; updates.len()];
        let mut steps = std::mem::take(&mut self.scratch.steps);
        steps.reserve(nodes.len());
        for &id in nodes {
            let late = updates.iter().position(|u| u.1 == id).filter(|&u| self.late[u].is_some());
            match late {
                Some(u) => late_at[u] = self.late[u].map(|at| (self.step(id, 0, Some(at)), at)),
                None => {
                    let out = self.take_slot(id);
                    steps.push(self.step(id, out, None));
                }
            }
        }
        let slot = |node: u32| self.scratch.slot[node as usize];
        let updates = late_at.into_iter().zip(updates).map(|(late, u)| match late {
            Some((step, at)) => Update::Late { step, at },
            None => Update::Move(slot(u.1)),
        });
        let updates = updates.collect();
        let wanted = wanted.iter().map(|&w| slot(w)).collect();
        Plan { steps, args: self.args, slots: self.slots as usize, wanted, updates }
    }

    fn take_slot(&mut self, id: u32) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        self.scratch.slot[id as usize] = slot;
        slot
    }

    /// A step that reads its inputs, the last readers freeing their slots. What a late step reads stays to the end.
    fn step(&mut self, id: u32, out: u32, late: Option<usize>) -> Step {
        let first_arg = self.args.len() as u32;
        let inputs = if is_computed(self.inner, id) { self.inner.args(id) } else { &[] };
        for (k, &arg) in inputs.iter().enumerate() {
            let (read, transposed) = read_through(self.inner, id, arg);
            let slot = self.scratch.slot[read as usize];
            if late.is_some() {
                let slot = if late == Some(k) { u32::MAX } else { slot };
                self.args.push(Arg { slot, dies: false, transposed });
                continue;
            }
            let uses = &mut self.scratch.uses[read as usize];
            *uses -= 1;
            let dies = *uses == 0;
            self.args.push(Arg { slot, dies, transposed });
            if dies {
                self.free.push(slot);
            }
        }
        Step { node: id, out, first_arg, args: inputs.len() as u32 }
    }
}
