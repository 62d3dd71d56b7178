//! Sets of places in a matrix: which elements may differ from zero.

use crate::{
    error::OpError,
    index::{Index, index},
};

index! {
    /// A row, where many of them are kept.
    Row,
}

/// More places than this are refused: 2 GiB, and no longer sparse.
const MOST: usize = 1 << 29;

/// Which elements of a matrix may differ from zero, row by row (CSR without values).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    columns: usize,
    /// Where each row starts, and the end of the last one.
    starts: Vec<usize>,
    /// The columns of each row, ascending: of 4 bytes each, because there are many.
    indices: Vec<u32>,
}

impl Pattern {
    /// The number of rows and of columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.starts.len() - 1, self.columns)
    }

    /// The number of places that may differ from zero.
    pub fn nnz(&self) -> usize {
        self.indices.len()
    }

    /// The columns of a row that may differ from zero, ascending.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.indices[self.starts[row]..self.starts[row + 1]]
    }

    /// Whether an element may differ from zero.
    pub fn contains(&self, row: usize, column: usize) -> bool {
        u32::try_from(column).is_ok_and(|column| self.row(row).binary_search(&column).is_ok())
    }

    pub(super) fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The columns of all rows, row by row.
    pub(super) fn indices(&self) -> impl ExactSizeIterator<Item = usize> {
        self.indices.iter().map(|&column| column as usize)
    }

    /// The columns of a row, as [`row`](Pattern::row).
    pub(super) fn columns_of(&self, row: usize) -> impl ExactSizeIterator<Item = usize> {
        self.row(row).iter().map(|&column| column as usize)
    }

    /// Each row its own column.
    pub(super) fn identity(size: usize) -> Pattern {
        Pattern {
            columns: size,
            starts: (0..=size).collect(),
            indices: (0..size as u32).collect(),
        }
    }

    /// The rows and columns exchanged.
    pub(super) fn transposed(&self) -> Pattern {
        let rows = self.shape().0;
        let mut starts = vec![0; self.columns + 1];
        self.indices().for_each(|c| starts[c + 1] += 1);
        for c in 0..self.columns {
            starts[c + 1] += starts[c];
        }
        let (mut next, mut indices) = (starts.clone(), vec![0; self.indices.len()]);
        for row in 0..rows {
            for c in self.columns_of(row) {
                indices[next[c]] = row as u32;
                next[c] += 1;
            }
        }
        Pattern {
            columns: rows,
            starts,
            indices,
        }
    }

    /// The rows with these numbers in this order; an empty one where there is none.
    pub(super) fn rows(
        &self,
        numbers: impl Iterator<Item = Option<usize>> + Clone,
    ) -> Result<Pattern, OpError> {
        let mut built = Builder::new(self.columns, numbers.size_hint().0);
        built.reserve(numbers.clone().flatten().map(|row| self.row(row).len()))?;
        for number in numbers {
            built.extend(number.map_or(&[], |row| self.row(row)));
            built.end_row();
        }
        Ok(built.done())
    }

    /// Row by row the places of both.
    pub(super) fn union(&self, other: &Pattern) -> Result<Pattern, OpError> {
        let rows = self.shape().0;
        let mut built = Builder::new(self.columns, rows);
        built.reserve([self.nnz() + other.nnz()].into_iter())?;
        for row in 0..rows {
            built.merge(self.row(row), other.row(row));
            built.end_row();
        }
        Ok(built.done())
    }

    /// `count` rows; row `k` has the places of all rows that `parts` lists for it.
    pub(super) fn unions<'p>(
        &self,
        count: usize,
        parts: impl Fn(usize) -> Box<dyn Iterator<Item = usize> + 'p>,
    ) -> Result<Pattern, OpError> {
        let mut built = Builder::new(self.columns, count);
        // by column: the last row that it was found in
        let (mut seen, mut all) = (vec![None; self.columns], Vec::new());
        for k in 0..count {
            let own = Row::new(k);
            all.clear();
            for &column in parts(k).flat_map(|row| self.row(row)) {
                if seen[column as usize].replace(own) != Some(own) {
                    all.push(column);
                }
            }
            all.sort_unstable();
            built.reserve([all.len()].into_iter())?;
            built.extend(&all);
            built.end_row();
        }
        Ok(built.done())
    }
}

/// A pattern as it grows.
struct Builder(Pattern);

impl Builder {
    fn new(columns: usize, rows: usize) -> Builder {
        let mut starts = Vec::with_capacity(rows + 1);
        starts.push(0);
        Builder(Pattern {
            columns,
            starts,
            indices: Vec::new(),
        })
    }

    /// Makes room for so many more places, if they are not too many.
    fn reserve(&mut self, counts: impl Iterator<Item = usize>) -> Result<(), OpError> {
        let all = counts.fold(self.0.indices.len(), usize::saturating_add);
        let more = all - self.0.indices.len();
        if all > MOST || self.0.indices.try_reserve(more).is_err() {
            let message = format!(
                "the pattern of what depends on what has more than {MOST} places: it is not sparse"
            );
            return Err(OpError::new(message)
                .hint("a sum over everything that flows back into everything makes it dense"));
        }
        Ok(())
    }

    fn extend(&mut self, columns: &[u32]) {
        self.0.indices.extend_from_slice(columns);
    }

    fn end_row(&mut self) {
        self.0.starts.push(self.0.indices.len());
    }

    /// Two ascending lists as one.
    fn merge(&mut self, mut a: &[u32], mut b: &[u32]) {
        let out = &mut self.0.indices;
        while let (Some(&x), Some(&y)) = (a.first(), b.first()) {
            out.push(x.min(y));
            if x <= y {
                a = &a[1..];
            }
            if y <= x {
                b = &b[1..];
            }
        }
        out.extend_from_slice(a);
        out.extend_from_slice(b);
    }

    fn done(self) -> Pattern {
        self.0
    }
}
