//! Graph colouring (Curtis, Powell and Reid 1974; Coleman and Moré 1983): columns that share no row
//! can be computed together, in one product of the Jacobian with the sum of their unit vectors.

use super::pattern::Pattern;
use crate::index::{Index, IndexVec, index};
use rand::{SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};

/// Groups of columns, or of rows, that are computed together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coloring {
    /// By column or row: its colour, starting from 0.
    pub colors: Vec<u32>,
    /// The number of colours, which is the number of products with the Jacobian.
    pub count: usize,
    /// Whether rows are coloured (vector-Jacobian products) rather than columns (Jacobian-vector
    /// products).
    pub by_rows: bool,
}

index! {
    /// A colour.
    Color,
}

/// The colouring of one side.
struct Colors {
    /// By item; `None` for an item in no group.
    by_item: Vec<Option<Color>>,
    count: usize,
}

impl Colors {
    fn coloring(self, by_rows: bool) -> Coloring {
        // an item in no group can have any colour
        let color = |color: Option<Color>| color.map_or(0, |color| color.index() as u32);
        Coloring {
            colors: self.by_item.into_iter().map(color).collect(),
            count: self.count,
            by_rows,
        }
    }
}

impl Coloring {
    /// The colouring with the fewest colours that greedy colouring in several orders finds, by
    /// columns, or by rows if that needs fewer.
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
        // the side with the smaller lower bound first: it may make the other one unnecessary
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

    /// By columns, for a symmetric matrix.
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

/// The items to be coloured, in groups: no two items of a group may have the same colour.
struct Side<'p> {
    /// By item: the groups it is in.
    groups: &'p Pattern,
    /// By group: the items in it.
    members: &'p Pattern,
}

impl Side<'_> {
    /// The size of the largest group: a lower bound of the number of colours.
    fn bound(&self) -> usize {
        (0..self.members.shape().0)
            .map(|group| self.members.row(group).len())
            .max()
            .unwrap_or(0)
    }

    /// The best result of several orders.
    fn color(&self) -> Colors {
        let bound = self.bound();
        let count = self.groups.shape().0;
        let natural: Vec<usize> = (0..count).collect();
        let mut best = self.greedy(&natural);
        // the most constrained items first
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

    /// Greedy colouring: each item in this order gets the first colour that no item sharing a group
    /// with it has.
    fn greedy(&self, order: &[usize]) -> Colors {
        let mut by_item: Vec<Option<Color>> = vec![None; self.groups.shape().0];
        // by colour: the last item that shares a group with one of this colour
        let mut taken: IndexVec<Color, Option<usize>> = IndexVec::new();
        for &thing in order {
            if self.groups.row(thing).is_empty() {
                continue;
            }
            for group in self.groups.columns_of(thing) {
                for other in self.members.columns_of(group) {
                    if let Some(color) = by_item[other] {
                        taken[color] = Some(thing);
                    }
                }
            }
            let free = taken.iter().position(|&by| by != Some(thing));
            let color = free.map_or_else(|| taken.push(None), Color::new);
            by_item[thing] = Some(color);
        }
        Colors {
            by_item,
            count: taken.len(),
        }
    }
}
