//! The third pass: in which order units run.

use super::{
    fuse::{NONE, Units},
    simplify::{Class, Simple},
};

/// Units in the order in which they run, each with its nodes, oldest first.
pub(super) struct Schedule {
    /// The unit, and where its nodes are in `members`.
    pub(super) units: Vec<(u32, std::ops::Range<usize>)>,
    pub(super) members: Vec<u32>,
    /// Where the stages end: runs of units that do not depend on each other, to be run at once.
    pub(super) stages: Vec<usize>,
    /// The first of those that write into parameters.
    pub(super) late: usize,
}

/// The most units of a stage,
pub(crate) const MOST_AT_ONCE: usize = 4;
/// and the most bytes that they may write for others: they stay in the caches.
const MOST_BYTES: usize = 1 << 20;

/// Lists of numbers by key, one after the other.
struct Lists {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    fn new(keys: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Lists {
        let mut starts = vec![0; keys + 1];
        pairs
            .clone()
            .for_each(|(key, _)| starts[key as usize + 1] += 1);
        (0..keys).for_each(|k| starts[k + 1] += starts[k]);
        let (mut next, mut items) = (starts.clone(), vec![0; starts[keys] as usize]);
        for (key, item) in pairs {
            items[next[key as usize] as usize] = item;
            next[key as usize] += 1;
        }
        Lists { starts, items }
    }

    fn range(&self, key: u32) -> std::ops::Range<usize> {
        self.starts[key as usize] as usize..self.starts[key as usize + 1] as usize
    }
}

impl Schedule {
    /// What has become ready last runs first, so that a value is read while it is still in the cache; late units at the
    /// end.
    pub(super) fn new(s: &Simple<'_>, units: &mut Units) -> Schedule {
        let count = units.all.len();
        let (mut of, mut edges) = (Vec::with_capacity(s.needed.len()), Vec::new());
        let mut is_read = vec![false; s.class.len()];
        for &id in s
            .needed
            .iter()
            .filter(|&&id| s.class[id as usize] != Class::Leaf)
        {
            let unit = units.of(id);
            of.push((unit, id));
            for k in 0..s.arity(id) {
                let root = s.read(id, k).root;
                let from = units.of(root);
                if from != NONE && from != unit {
                    edges.push((from, unit));
                    is_read[root as usize] = true;
                }
            }
            for root in s.waits_for(id) {
                let from = units.of(root);
                if from != NONE && from != unit && !units.all[from as usize].late {
                    edges.push((from, unit));
                }
            }
        }
        let members = Lists::new(count, of.iter().copied());
        let readers = Lists::new(count, edges.iter().copied());
        let mut waiting = vec![0u32; count];
        edges.iter().for_each(|&(_, to)| waiting[to as usize] += 1);
        let mut ready = [Vec::new(), Vec::new()];
        let mut listed = vec![false; count];
        let mut roots: Vec<u32> = Vec::new();
        for &(unit, _) in &of {
            if !std::mem::replace(&mut listed[unit as usize], true) && waiting[unit as usize] == 0 {
                roots.push(unit);
            }
        }
        for &unit in roots.iter().rev() {
            ready[units.all[unit as usize].late as usize].push(unit);
        }
        let bytes = |unit: u32| -> usize {
            let read = members.items[members.range(unit)]
                .iter()
                .filter(|&&id| is_read[id as usize]);
            let of = |&id: &u32| s.p.ty(id).shape.count() * s.p.nodes[id as usize].dtype.size();
            read.map(of).sum()
        };
        let (mut order, mut stages, mut late) = (Vec::new(), Vec::new(), None);
        loop {
            let now = usize::from(ready[0].is_empty());
            if now == 1 {
                late.get_or_insert(order.len());
            }
            let Some(first) = ready[now].pop() else { break };
            let (mut stage, mut written) = (vec![first], bytes(first));
            while let Some(&next) = ready[now].last().filter(|_| stage.len() < MOST_AT_ONCE) {
                written += bytes(next);
                if written > MOST_BYTES {
                    break;
                }
                stage.extend(ready[now].pop());
            }
            stage.sort_unstable(); // what is written side by side is also read side by side, by the same threads
            order.extend(stage.iter().map(|&unit| (unit, members.range(unit))));
            stages.push(order.len());
            for &reader in stage
                .iter()
                .rev()
                .flat_map(|&unit| readers.items[readers.range(unit)].iter().rev())
            {
                waiting[reader as usize] -= 1;
                if waiting[reader as usize] == 0 {
                    ready[units.all[reader as usize].late as usize].push(reader);
                }
            }
        }
        Schedule {
            late: late.unwrap_or(order.len()),
            units: order,
            stages,
            members: members.items,
        }
    }
}
