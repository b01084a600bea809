//! Rows of text in columns.

use super::escape::escaped;

/// A line that fits, with a mark where it was cut off.
pub(super) fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
        }
        _ => line.to_owned(),
    }
}

/// Rows as lines of text, each column as wide as its widest cell. What comes from outside can break
/// neither: each cell is escaped.
#[must_use]
pub fn aligned(rows: &[impl AsRef<[String]>]) -> String {
    Columns::default().lines(rows, None)
}

/// Columns for rows that come one after the other: none becomes narrower.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// Rows as lines of text that are cut off at `width`, each column as wide as the widest cell
    /// that it has had. Each cell is escaped.
    pub fn lines(&mut self, rows: &[impl AsRef<[String]>], width: Option<usize>) -> String {
        let cells = |row: &[String]| row.iter().map(|cell| escaped(cell).into_owned()).collect();
        let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row.as_ref())).collect();
        for row in &rows {
            self.widths.resize(self.widths.len().max(row.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&self.widths);
            let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
            cut(cells.collect::<Vec<_>>().join("  ").trim_end(), width) + "\n"
        };
        rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_comes_later_stands_below_the_first_ones() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned);
        let mut columns = Columns::default();
        let first = columns.lines(&[row(["NODE", "GPUS"]), row(["node-a", "8"])], None);
        assert_eq!(first, "NODE    GPUS\nnode-a  8\n");
        assert_eq!(columns.lines(&[row(["b\u{1b}", "7"])], None), "b\\u{1b}  7\n");
        assert_eq!(columns.lines(&[row(["c", "16"])], Some(9)), "c       …\n");
        assert_eq!(aligned(&[row(["c", "16"])]), "c  16\n");
    }
}
