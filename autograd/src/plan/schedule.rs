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
    /// The first of those that write into parameters.
    pub(super) late: usize,
}

/// Lists of numbers by key, one after the other.
struct Lists {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    fn new(keys: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Lists {
        let mut starts = vec![0; keys + 1];
        pairs.clone().for_each(|(key, _)| starts[key as usize + 1] += 1);
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
        for &id in s.needed.iter().filter(|&&id| s.class[id as usize] != Class::Leaf) {
            let unit = units.of(id);
            of.push((unit, id));
            for k in 0..s.arity(id) {
                let from = units.of(s.read(id, k).root);
                if from != NONE && from != unit {
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
        let (mut order, mut late) = (Vec::new(), None);
        loop {
            let unit = match ready[0].pop() {
                Some(unit) => unit,
                None => {
                    late.get_or_insert(order.len());
                    let Some(unit) = ready[1].pop() else { break };
                    unit
                }
            };
            order.push((unit, members.range(unit)));
            for &reader in readers.items[readers.range(unit)].iter().rev() {
                waiting[reader as usize] -= 1;
                if waiting[reader as usize] == 0 {
                    ready[units.all[reader as usize].late as usize].push(reader);
                }
            }
        }
        Schedule { late: late.unwrap_or(order.len()), units: order, members: members.items }
    }
}
