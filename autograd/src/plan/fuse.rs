//! The second pass: which nodes are computed together.
//!
//! Each unit has a level: one more than the highest level of the units that it reads. A node that can be fused joins the
//! units of the highest level among its inputs if they work on the same shape; units of equal level do not depend on each
//! other, so several of them become one. One pass over the nodes, and no unit ever waits for itself.

use super::{
    kernel::{self, Read},
    simplify::{Class, Simple, top_axis},
};
use crate::{op::reduce, sorted::sort_by, tensor::DType};
use std::collections::{HashMap, HashSet};

/// What is computed by one kernel.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    parent: u32,
    level: u32,
    /// The shape that it works on, or [`NUMBERS`].
    pub(super) domain: u32,
    pub(super) dtype: DType,
    /// The last to run: it writes into parameters.
    pub(super) late: bool,
    pub(super) fused: bool,
    /// The length of the lines that it sums, or of its rows, if it does or has any.
    pub(super) line: Option<usize>,
    /// How many nodes it has, if it is fused.
    nodes: usize,
}

/// The domain of all single numbers.
pub(super) const NUMBERS: u32 = u32::MAX;
pub(super) const NONE: u32 = u32::MAX;
/// The most nodes of a unit: it bounds the scratch memory of its kernel. What is too much for one goes to the next level.
const MOST_NODES: usize = 1 << 10;
/// The most elements of a product that wait for the rest of its kernel: 1 MiB.
const MOST_TOGETHER: usize = 1 << 18;

/// Units, and which one computes a node.
pub(super) struct Units {
    pub(super) all: Vec<Unit>,
    of: Vec<u32>,
    /// The units of single numbers by level, dtype and lateness.
    numbers: HashMap<(u32, DType, bool), u32>,
}

impl Units {
    pub(super) fn new(s: &Simple<'_>) -> Units {
        let mut units = Units {
            all: Vec::new(),
            of: vec![NONE; s.class.len()],
            numbers: HashMap::new(),
        };
        for &id in &s.needed {
            let unit = match s.class[id as usize] {
                Class::Unknown | Class::Leaf | Class::View => continue,
                Class::Elementwise | Class::Broadcast | Class::Sum | Class::Row => {
                    units.join(s, id)
                }
                Class::Single => {
                    let level = 1 + units.highest(s, id);
                    units.make(Unit {
                        parent: 0,
                        level,
                        domain: 0,
                        dtype: DType::F32,
                        late: false,
                        fused: false,
                        line: None,
                        nodes: 1,
                    })
                }
            };
            units.of[id as usize] = unit;
        }
        units.take_products(s);
        units
    }

    /// Lets the unit that goes on with the elements of a matrix product compute it as well, some rows at a time: they are
    /// in the cache when they are read. Of several readers it is the one that all others can come after.
    fn take_products(&mut self, s: &Simple<'_>) {
        if !s.needed.iter().any(|&id| s.product_size(id).is_some()) {
            return;
        }
        // product, level of the reader, the reader, whether it goes element by element
        let mut reads: Vec<(u32, u32, u32, bool)> = Vec::new();
        let mut sums: HashMap<u32, Vec<(usize, usize)>> = HashMap::new();
        for &id in &s.needed {
            for k in 0..s.arity(id) {
                let root = s.read(id, k).root;
                if s.product_size(root).is_some() {
                    let unit = self.of(id);
                    reads.push((
                        root,
                        self.all[unit as usize].level,
                        unit,
                        self.reads_whole(s, unit, id, k),
                    ));
                }
            }
            if let Some(lines) = sum_lines(s, id) {
                sums.entry(self.of(id)).or_default().push(lines);
            }
        }
        sort_by(&mut reads, |&(product, level, ..)| {
            i64::from(product) << 32 | i64::from(level)
        });
        // what others wait for must not become a part of what may need those others
        let awaited: HashSet<u32> = s.needed.iter().flat_map(|&id| s.waits_for(id)).collect();
        let mut columns: HashMap<u32, usize> = HashMap::new(); // those of a unit's products are the same
        for readers in reads.chunk_by(|a, b| a.0 == b.0) {
            let (product, level, unit, _) = readers[0];
            let Some([m, _, n]) = s.product_size(product) else {
                continue;
            };
            let &Unit { late, line, .. } = &self.all[unit as usize];
            let in_order = readers
                .iter()
                .all(|r| if r.2 == unit { r.3 } else { r.1 > level });
            let sums = sums.get(&unit).map_or(&[][..], |sums| sums);
            let rows = kernel::rows_of_splits(m * n, n, line, sums.iter().copied());
            let few_rows = rows.is_some_and(|rows| rows.min(m) * n <= MOST_TOGETHER);
            // what is handed out cannot be late
            if !awaited.contains(&product)
                && in_order
                && few_rows
                && !(late && s.early[product as usize])
                && *columns.entry(unit).or_insert(n) == n
            {
                let own = self.of(product);
                self.all[own as usize].parent = unit;
            }
        }
    }

    /// Whether input `k`, a product, is read one by one by a unit of the same elements.
    fn reads_whole(&self, s: &Simple<'_>, unit: u32, id: u32, k: usize) -> bool {
        let (read, unit) = (s.read(id, k), &self.all[unit as usize]);
        let shape = |id: u32| &s.p.shapes[s.p.nodes[id as usize].shape as usize];
        unit.fused
            && unit.domain != NUMBERS
            && unit.dtype == s.p.nodes[read.root as usize].dtype
            && matches!(
                kernel::read(shape(read.seen), &s.p.shapes[unit.domain as usize]),
                Read::Whole
            )
    }

    /// The unit that computes a node, or [`NONE`] for what comes from outside.
    pub(super) fn of(&mut self, id: u32) -> u32 {
        match self.of[id as usize] {
            NONE => NONE,
            unit => self.find(unit),
        }
    }

    fn find(&mut self, mut unit: u32) -> u32 {
        while self.all[unit as usize].parent != unit {
            let up = self.all[unit as usize].parent;
            self.all[unit as usize].parent = self.all[up as usize].parent;
            unit = up;
        }
        unit
    }

    fn make(&mut self, unit: Unit) -> u32 {
        // numbers of one level are computed together, connected or not
        if unit.domain == NUMBERS {
            let key = (unit.level, unit.dtype, unit.late);
            let next = self.all.len() as u32;
            let known = *self.numbers.entry(key).or_insert(next);
            if known != next {
                return self.find(known);
            }
        }
        let number = self.all.len() as u32;
        self.all.push(Unit {
            parent: number,
            ..unit
        });
        number
    }

    fn highest(&mut self, s: &Simple<'_>, id: u32) -> u32 {
        let mut highest = 0;
        for k in 0..s.arity(id) {
            match self.of(s.read(id, k).root) {
                NONE => {}
                unit => highest = highest.max(self.all[unit as usize].level),
            }
        }
        highest.max(self.awaited(s, id, NONE))
    }

    /// The highest level of the units, other than `own`, that a node waits for without reading them.
    fn awaited(&mut self, s: &Simple<'_>, id: u32, own: u32) -> u32 {
        let mut highest = 0;
        for root in s.waits_for(id) {
            match self.of(root) {
                NONE => {}
                unit if unit == own || self.all[unit as usize].late => {}
                unit => highest = highest.max(self.all[unit as usize].level),
            }
        }
        highest
    }

    /// The unit for a node that can be fused.
    fn join(&mut self, s: &Simple<'_>, id: u32) -> u32 {
        let wanted = wanted(s, id);
        let highest = self.highest(s, id);
        let mut target = NONE;
        for k in 0..s.arity(id) {
            let root = s.read(id, k).root;
            let unit = self.of(root);
            if unit == NONE || self.all[unit as usize].level < highest {
                continue;
            }
            let known_late = match s.class[root as usize] {
                Class::Sum => true,
                Class::Row => s
                    .row(root)
                    .is_some_and(|(op, n)| op.reduces() && !spreads_rows(s, id, k, n)),
                _ => false,
            };
            if known_late {
                return self.make(Unit {
                    level: highest + 1,
                    ..wanted
                }); // when all blocks are done
            }
            if unit == target {
                continue;
            }
            let there = &self.all[unit as usize];
            let line = there.line.or(wanted.line);
            let fits = there.fused
                && (there.domain, there.dtype, there.late)
                    == (wanted.domain, wanted.dtype, wanted.late)
                && wanted.line.is_none_or(|l| line == Some(l));
            let joined = if target == NONE {
                line
            } else {
                self.all[target as usize].line.or(line)
            };
            let nodes = if target == NONE {
                1
            } else {
                self.all[target as usize].nodes
            } + there.nodes;
            let is_large = wanted.domain != NUMBERS && nodes > MOST_NODES;
            if !fits || is_large || target != NONE && line.is_some() && joined != line {
                return self.make(Unit {
                    level: highest + 1,
                    ..wanted
                });
            }
            if target != NONE {
                self.all[unit as usize].parent = target;
            } else {
                target = unit;
            }
            self.all[target as usize].line = joined;
            self.all[target as usize].nodes = nodes;
        }
        // when what it waits for is done, unless that is done by the same unit
        if target == NONE || self.awaited(s, id, target) >= self.all[target as usize].level {
            self.make(Unit {
                level: highest + 1,
                ..wanted
            })
        } else {
            target
        }
    }
}

/// Whether input `k`, a number for each row of length `n`, is read as the same number in all of its row.
fn spreads_rows(s: &Simple<'_>, id: u32, k: usize, n: usize) -> bool {
    let shape = |id: u32| &s.p.shapes[s.p.nodes[id as usize].shape as usize];
    let (seen, domain) = (shape(s.read(id, k).seen), shape(works_on(s, id)));
    let kept = seen
        .iter()
        .zip(domain.iter())
        .take_while(|(a, b)| a == b)
        .count();
    match seen.count() {
        1 => domain.count() == n,
        rows => {
            rows * n == domain.count()
                && seen.rank() == domain.rank()
                && seen[kept..].iter().all(|&size| size == 1)
        }
    }
}

/// The node whose elements a node works on: its own, or those that it reduces.
fn works_on(s: &Simple<'_>, id: u32) -> u32 {
    match s.class[id as usize] {
        Class::Sum | Class::Row => s.p.args(id)[0],
        _ => id,
    }
}

/// The unit that a node would make by itself.
fn wanted(s: &Simple<'_>, id: u32) -> Unit {
    let (node, class) = (&s.p.nodes[id as usize], s.class[id as usize]);
    let first = s.p.args(id)[0];
    let shape = s.p.nodes[works_on(s, id) as usize].shape;
    let domain = if s.p.shapes[shape as usize].count() == 1 {
        NUMBERS
    } else {
        shape
    };
    let dtype = if node.dtype == DType::Bool {
        s.p.nodes[first as usize].dtype
    } else {
        node.dtype
    };
    let line = match class {
        Class::Row => s.row(id).map(|(_, n)| n),
        _ => sum_lines(s, id)
            .filter(|&(_, inner)| inner == 1)
            .map(|(n, _)| n),
    };
    Unit {
        parent: 0,
        level: 0,
        domain,
        dtype,
        late: s.is_late(id),
        fused: true,
        line,
        nodes: 1,
    }
}

/// The lines that a sum goes over: their length and the distance between elements of one.
pub(super) fn sum_lines(s: &Simple<'_>, id: u32) -> Option<(usize, usize)> {
    if s.class[id as usize] != Class::Sum {
        return None;
    }
    let sum: &reduce::Sum = s.p.op(id).as_any().downcast_ref()?;
    let shape = &s.p.shapes[s.p.nodes[s.p.args(id)[0] as usize].shape as usize];
    Some((
        sum.axes.count(shape),
        shape[top_axis(sum) + 1..].iter().product(),
    ))
}
