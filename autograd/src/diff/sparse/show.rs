//! Displays patterns with letters.

use super::{Pattern, Structure};
use crate::index::Index;
use std::fmt;

/// The largest number of lines and columns of the picture.
const MAX_SIZE: usize = 48;

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        draw(f, self, |_, _| '●')
    }
}

/// The size, the number of colours, and the pattern with one letter per colour. For a large matrix,
/// the density of each block.
impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ((rows, columns), nnz) = (self.pattern.shape(), self.pattern.nnz());
        let share = 100.0 * nnz as f64 / (rows as f64 * columns as f64).max(1.0);
        let what = if self.coloring.by_rows {
            "rows"
        } else {
            "columns"
        };
        let (count, plural) = (
            self.coloring.count,
            if self.coloring.count == 1 { "" } else { "s" },
        );
        writeln!(
            f,
            "{rows} x {columns}, {nnz} nonzeros ({share:.3} %), {count} colour{plural} of {what}"
        )?;
        let letter = |row: usize, column: usize| {
            let color = self.coloring.color(row, column).index();
            char::from_digit(10 + (color % 26) as u32, 36).unwrap_or('●')
        };
        draw(f, &self.pattern, letter)
    }
}

fn draw(
    f: &mut fmt::Formatter,
    pattern: &Pattern,
    letter: impl Fn(usize, usize) -> char,
) -> fmt::Result {
    let (rows, columns) = pattern.shape();
    if rows <= MAX_SIZE && columns <= MAX_SIZE {
        for row in 0..rows {
            let line: String = (0..columns)
                .map(|column| {
                    if pattern.contains(row, column) {
                        letter(row, column)
                    } else {
                        '·'
                    }
                })
                .collect();
            writeln!(f, "{line}")?;
        }
        return Ok(());
    }
    // each letter stands for a block: the number of its rows that are not empty
    let (lines, wide) = (rows.clamp(1, MAX_SIZE), columns.clamp(1, MAX_SIZE));
    let mut hits = vec![vec![0usize; wide]; lines];
    for row in 0..rows {
        let line = row * lines / rows;
        let mut last = None;
        for column in pattern.columns_of(row) {
            let block = column * wide / columns;
            hits[line][block] += usize::from(last != Some(block));
            last = Some(block);
        }
    }
    let block = (rows as f64 / lines as f64).max(1.0);
    for line in &hits {
        let shade = |&n: &usize| match n as f64 / block {
            0.0 => '·',
            share if share < 0.1 => '░',
            share if share < 0.5 => '▒',
            _ => '█',
        };
        writeln!(f, "{}", line.iter().map(shade).collect::<String>())?;
    }
    Ok(())
}
