//! Colouring (Curtis, Powell and Reid 1974; Coleman and Moré 1983): columns that share no row can be computed together, in
//! one product of the Jacobian with the sum of their unit vectors.

use super::pattern::Pattern;
use rand::{SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};

/// Groups of columns, or of rows, that are computed together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coloring {
    /// By column or row: its colour, from 0 on.
    pub colors: Vec<u32>,
    /// The number of colours: as many products with the Jacobian are needed.
    pub count: usize,
    /// Whether rows are coloured (vector-Jacobian products), and not columns (Jacobian-vector products).
    pub by_rows: bool,
}

const NONE: u32 = u32::MAX;

impl Coloring {
    /// The fewest colours that greedy colourings in several orders find, by columns, or by rows if there are fewer then.
    pub(super) fn new(pattern: &Pattern) -> Coloring {
        let transposed = pattern.transposed();
        let columns = Side {
            groups: &transposed,
            members: pattern,
        };
        let rows = Side {
            groups: pattern,
            members: &transposed,
        };
        // the side that may need fewer comes first: it can make the other one needless
        let by_rows = rows.bound() < columns.bound();
        let (first, second) = if by_rows {
            (rows, columns)
        } else {
            (columns, rows)
        };
        let (colors, count) = first.color();
        if second.bound() < count {
            let other = second.color();
            if other.1 < count {
                return Coloring {
                    colors: other.0,
                    count: other.1,
                    by_rows: !by_rows,
                };
            }
        }
        Coloring {
            colors,
            count,
            by_rows,
        }
    }

    /// By columns, of a symmetric matrix.
    pub(super) fn columns(pattern: &Pattern) -> Coloring {
        let (colors, count) = Side {
            groups: &pattern.transposed(),
            members: pattern,
        }
        .color();
        Coloring {
            colors,
            count,
            by_rows: false,
        }
    }
}

/// What is coloured: things in groups, of which no two in one group may have the same colour.
struct Side<'p> {
    /// Of each thing the groups that it is in.
    groups: &'p Pattern,
    /// Of each group the things in it.
    members: &'p Pattern,
}

impl Side<'_> {
    /// The largest group: so many colours are needed at least.
    fn bound(&self) -> usize {
        (0..self.members.shape().0)
            .map(|group| self.members.row(group).len())
            .max()
            .unwrap_or(0)
    }

    /// The best of several orders.
    fn color(&self) -> (Vec<u32>, usize) {
        let bound = self.bound();
        let count = self.groups.shape().0;
        let natural: Vec<u32> = (0..count as u32).collect();
        let mut best = self.greedy(&natural);
        // the most constrained first
        let size = |&thing: &u32| {
            let groups = self.groups.row(thing as usize).iter();
            std::cmp::Reverse(
                groups
                    .map(|&g| self.members.row(g as usize).len())
                    .sum::<usize>(),
            )
        };
        let orders: [&dyn Fn() -> Vec<u32>; 3] = [
            &|| {
                let mut order = natural.clone();
                order.sort_by_cached_key(size);
                order
            },
            &|| natural.iter().rev().copied().collect(),
            &|| {
                let mut order = natural.clone();
                order.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
                order
            },
        ];
        for order in orders {
            if best.1 <= bound {
                break;
            }
            let other = self.greedy(&order());
            if other.1 < best.1 {
                best = other;
            }
        }
        best
    }

    /// Each thing in this order gets the first colour that none of those it shares a group with has.
    fn greedy(&self, order: &[u32]) -> (Vec<u32>, usize) {
        let mut colors = vec![NONE; self.groups.shape().0];
        let (mut taken, mut count) = (Vec::new(), 0);
        for &thing in order
            .iter()
            .filter(|&&thing| !self.groups.row(thing as usize).is_empty())
        {
            for &group in self.groups.row(thing as usize) {
                for &other in self.members.row(group as usize) {
                    if let Some(by) = taken.get_mut(colors[other as usize] as usize) {
                        *by = thing;
                    }
                }
            }
            let free = taken.iter().position(|&by| by != thing).unwrap_or(count);
            if free == count {
                taken.push(NONE);
                count += 1;
            }
            colors[thing as usize] = free as u32;
        }
        colors
            .iter_mut()
            .filter(|c| **c == NONE)
            .for_each(|c| *c = 0); // nothing is in the way of any colour
        (colors, count)
    }
}
