//! Sparsity patterns: sets of positions in a matrix that may be nonzero.

use crate::{
    error::OpError,
    index::{Index, index},
};

index! {
    /// Index of a row in a table of rows.
    Row,
}

/// A pattern with more nonzeros than this (2 GiB) is an error: it is not sparse.
const MAX_NONZEROS: usize = 1 << 29;

/// Which elements of a matrix may be nonzero, row by row (CSR without values).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    columns: usize,
    /// Where each row starts, and the end of the last one.
    starts: Vec<usize>,
    /// The columns of each row, ascending. Stored as u32 to save memory.
    indices: Vec<u32>,
}

impl Pattern {
    /// The number of rows and of columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.starts.len() - 1, self.columns)
    }

    /// The number of elements that may be nonzero.
    pub fn nnz(&self) -> usize {
        self.indices.len()
    }

    /// The columns of a row that may be nonzero, ascending.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.indices[self.starts[row]..self.starts[row + 1]]
    }

    /// Whether an element may be nonzero.
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

    /// The columns of a row, as in [`row`](Pattern::row).
    pub(super) fn columns_of(&self, row: usize) -> impl ExactSizeIterator<Item = usize> {
        self.row(row).iter().map(|&column| column as usize)
    }

    /// The identity pattern: row `k` has column `k`.
    pub(super) fn identity(size: usize) -> Pattern {
        Pattern {
            columns: size,
            starts: (0..=size).collect(),
            indices: (0..size as u32).collect(),
        }
    }

    /// Rows and columns swapped.
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

    /// Selects rows by index, in this order; an empty row for `None`.
    pub(super) fn rows(
        &self,
        indices: impl Iterator<Item = Option<usize>> + Clone,
    ) -> Result<Pattern, OpError> {
        let mut built = Builder::new(self.columns, indices.size_hint().0);
        built.reserve(indices.clone().flatten().map(|row| self.row(row).len()))?;
        for number in indices {
            built.extend(number.map_or(&[], |row| self.row(row)));
            built.end_row();
        }
        Ok(built.finish())
    }

    /// The union with another pattern, row by row.
    pub(super) fn union(&self, other: &Pattern) -> Result<Pattern, OpError> {
        let rows = self.shape().0;
        let mut built = Builder::new(self.columns, rows);
        built.reserve([self.nnz() + other.nnz()].into_iter())?;
        for row in 0..rows {
            built.merge(self.row(row), other.row(row));
            built.end_row();
        }
        Ok(built.finish())
    }

    /// `count` rows; row `k` is the union of the rows that `parts` lists for it.
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
        Ok(built.finish())
    }
}

/// A pattern under construction.
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

    /// Reserves memory for more nonzeros; an error if they exceed the limit.
    fn reserve(&mut self, counts: impl Iterator<Item = usize>) -> Result<(), OpError> {
        let all = counts.fold(self.0.indices.len(), usize::saturating_add);
        let more = all - self.0.indices.len();
        if all > MAX_NONZEROS || self.0.indices.try_reserve(more).is_err() {
            let message = format!(
                "the sparsity pattern has more than {MAX_NONZEROS} nonzeros: it is not sparse"
            );
            return Err(OpError::new(message)
                .hint("a global sum that every output depends on makes it dense"));
        }
        Ok(())
    }

    fn extend(&mut self, columns: &[u32]) {
        self.0.indices.extend_from_slice(columns);
    }

    fn end_row(&mut self) {
        self.0.starts.push(self.0.indices.len());
    }

    /// Merges two ascending lists into one.
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

    fn finish(self) -> Pattern {
        self.0
    }
}
