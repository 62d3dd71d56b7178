//! Plans: a graph made ready to run. Which nodes are needed, in which order, where their values go and when they are gone.

use crate::{
    error::Error,
    nodes::{Inner, Kind},
    op::{Id, layout::Permute},
    param::Param,
};
use std::collections::BinaryHeap;

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

impl Plan {
    /// The plan for some nodes and updates; the oldest error among what they need if there is one.
    pub(crate) fn new(inner: &Inner, wanted: &[u32], updates: &[(Param, u32)]) -> Result<Plan, Error> {
        let late: Vec<Option<usize>> = updates.iter().map(|(p, node)| late_input(inner, p, *node)).collect();
        let need = Need::find(inner, wanted, updates, &late)?;
        Layout::new(inner, need).plan(wanted, updates)
    }

    pub(crate) fn args(&self, step: &Step) -> &[Arg] {
        &self.args[step.first_arg as usize..][..step.args as usize]
    }
}

/// Whether an update's last step could write into the parameter itself: which of its inputs the parameter is.
fn late_input(inner: &Inner, param: &Param, node: u32) -> Option<usize> {
    if inner.nodes[node as usize].kind != Kind::Op || inner.kept.contains_key(&node) {
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

/// The nodes that are needed, youngest first, and how often each value is used.
struct Need {
    nodes: Vec<(u32, u32)>,
    /// Of each update that is still to run late: the input that the parameter is.
    late: Vec<Option<usize>>,
}

impl Need {
    /// Walks down from the wanted nodes to leaves and kept values. The cost depends on what is found, not on the size of
    /// the graph: the heap yields nodes in descending order, each as often as it is used.
    fn find(inner: &Inner, wanted: &[u32], updates: &[(Param, u32)], late: &[Option<usize>]) -> Result<Need, Error> {
        let mut heap: BinaryHeap<u32> = wanted.iter().copied().chain(updates.iter().map(|u| u.1)).collect();
        let (mut nodes, mut error, mut late) = (Vec::new(), None, late.to_vec());
        while let Some(id) = heap.pop() {
            let mut uses = 1;
            while heap.peek() == Some(&id) {
                heap.pop();
                uses += 1;
            }
            nodes.push((id, uses));
            if let Some(e) = inner.error(id) {
                error = Some(e.clone()); // older ones come later
            }
            if inner.kept.contains_key(&id) {
                continue;
            }
            let own = updates.iter().position(|u| u.1 == id).filter(|&u| late[u].is_some());
            let skip = match own {
                Some(u) if uses == 1 => late[u],
                Some(u) => {
                    late[u] = None; // somebody else wants the value too
                    None
                }
                None => None,
            };
            let reads = inner.args(id).iter().enumerate().filter(|(k, _)| Some(*k) != skip);
            heap.extend(reads.map(|(_, &a)| read_through(inner, id, a).0));
        }
        error.map_or(Ok(Need { nodes, late }), Err)
    }
}

/// What a step really reads for an argument: a matrix product reads the transpose of a matrix from the matrix itself.
fn read_through(inner: &Inner, reader: u32, arg: u32) -> (u32, bool) {
    let is_product =
        inner.nodes[reader as usize].kind == Kind::Op && inner.nodes[reader as usize].op == Id::MatMul as u32;
    if !is_product || inner.nodes[arg as usize].kind != Kind::Op || inner.kept.contains_key(&arg) {
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
    nodes: Vec<(u32, u32)>,
    late: Vec<Option<usize>>,
    /// By node. Untouched parts cost nothing: large zeroed memory is not there until it is written.
    slot: Vec<u32>,
    uses: Vec<u32>,
    free: Vec<u32>,
    slots: u32,
    args: Vec<Arg>,
}

impl<'g> Layout<'g> {
    fn new(inner: &'g Inner, need: Need) -> Layout<'g> {
        let end = need.nodes.first().map_or(0, |n| n.0 as usize + 1);
        Layout {
            inner,
            nodes: need.nodes,
            late: need.late,
            slot: vec![0; end],
            uses: vec![0; end],
            free: Vec::new(),
            slots: 0,
            args: Vec::new(),
        }
    }

    fn plan(mut self, wanted: &[u32], updates: &[(Param, u32)]) -> Result<Plan, Error> {
        let mut late_at: Vec<Option<(Step, usize)>> = vec![None; updates.len()];
        let mut steps = Vec::with_capacity(self.nodes.len());
        for (id, uses) in std::mem::take(&mut self.nodes).into_iter().rev() {
            self.uses[id as usize] = uses;
            let late = updates.iter().position(|u| u.1 == id).filter(|&u| self.late[u].is_some());
            match late {
                Some(u) => late_at[u] = self.late[u].map(|at| (self.step(id, 0, Some(at)), at)),
                None => {
                    let out = self.take_slot(id);
                    steps.push(self.step(id, out, None));
                }
            }
        }
        let updates = late_at.into_iter().zip(updates).map(|(late, u)| match late {
            Some((step, at)) => Update::Late { step, at },
            None => Update::Move(self.slot[u.1 as usize]),
        });
        let updates = updates.collect();
        let wanted = wanted.iter().map(|&w| self.slot[w as usize]).collect();
        Ok(Plan { steps, args: self.args, slots: self.slots as usize, wanted, updates })
    }

    fn take_slot(&mut self, id: u32) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        self.slot[id as usize] = slot;
        slot
    }

    /// A step that reads its inputs, the last readers freeing their slots. What a late step reads stays to the end.
    fn step(&mut self, id: u32, out: u32, late: Option<usize>) -> Step {
        let first_arg = self.args.len() as u32;
        let inputs = if self.inner.kept.contains_key(&id) { &[] } else { self.inner.args(id) };
        for (k, &arg) in inputs.iter().enumerate() {
            let (read, transposed) = read_through(self.inner, id, arg);
            let slot = self.slot[read as usize];
            if late.is_some() {
                let slot = if late == Some(k) { u32::MAX } else { slot };
                self.args.push(Arg { slot, dies: false, transposed });
                continue;
            }
            let uses = &mut self.uses[read as usize];
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
