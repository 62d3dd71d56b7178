//! Colouring (Curtis, Powell and Reid 1974; Coleman and Moré 1983): columns that share no row can be computed together, in
//! one product of the Jacobian with the sum of their unit vectors.

use super::pattern::Pattern;
use crate::index::{Index, IndexVec, index};
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

index! {
    /// A colour.
    Color,
}

/// What a colouring of one side comes to.
struct Colors {
    /// By thing; none of what is in no group.
    by_thing: Vec<Option<Color>>,
    count: usize,
}

impl Colors {
    fn coloring(self, by_rows: bool) -> Coloring {
        // nothing is in the way of any colour where there is none yet
        let color = |color: Option<Color>| color.map_or(0, |color| color.index() as u32);
        Coloring {
            colors: self.by_thing.into_iter().map(color).collect(),
            count: self.count,
            by_rows,
        }
    }
}

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
        let colors = first.color();
        if second.bound() < colors.count {
            let other = second.color();
            if other.count < colors.count {
                return other.coloring(!by_rows);
            }
        }
        colors.coloring(by_rows)
    }

    /// By columns, of a symmetric matrix.
    pub(super) fn columns(pattern: &Pattern) -> Coloring {
        let side = Side {
            groups: &pattern.transposed(),
            members: pattern,
        };
        side.color().coloring(false)
    }

    /// The colour of each column, or row.
    pub(super) fn colors(&self) -> impl ExactSizeIterator<Item = Color> {
        let color = |&color: &u32| Color::new(color as usize);
        self.colors.iter().map(color)
    }

    /// The colour of an element of the matrix.
    pub(super) fn color(&self, row: usize, column: usize) -> Color {
        let color = self.colors[if self.by_rows { row } else { column }];
        Color::new(color as usize)
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
    fn color(&self) -> Colors {
        let bound = self.bound();
        let count = self.groups.shape().0;
        let natural: Vec<usize> = (0..count).collect();
        let mut best = self.greedy(&natural);
        // the most constrained first
        let size = |&thing: &usize| {
            let groups = self.groups.columns_of(thing);
            let members = groups.map(|group| self.members.row(group).len());
            std::cmp::Reverse(members.sum::<usize>())
        };
        let orders: [&dyn Fn() -> Vec<usize>; 3] = [
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
            if best.count <= bound {
                break;
            }
            let other = self.greedy(&order());
            if other.count < best.count {
                best = other;
            }
        }
        best
    }

    /// Each thing in this order gets the first colour that none of those it shares a group with has.
    fn greedy(&self, order: &[usize]) -> Colors {
        let mut by_thing: Vec<Option<Color>> = vec![None; self.groups.shape().0];
        // by colour: the last thing that one of this colour shares a group with
        let mut taken: IndexVec<Color, Option<usize>> = IndexVec::new();
        for &thing in order {
            if self.groups.row(thing).is_empty() {
                continue;
            }
            for group in self.groups.columns_of(thing) {
                for other in self.members.columns_of(group) {
                    if let Some(color) = by_thing[other] {
                        taken[color] = Some(thing);
                    }
                }
            }
            let free = taken.iter().position(|&by| by != Some(thing));
            let color = free.map_or_else(|| taken.push(None), Color::new);
            by_thing[thing] = Some(color);
        }
        Colors {
            by_thing,
            count: taken.len(),
        }
    }
}
