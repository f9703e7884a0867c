//! Tables in plain text and in Markdown.

use std::fmt;

/// Rows of cells under a heading. `Display` pads the columns; the first is aligned left, the others right.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new<'a>(heading: impl IntoIterator<Item = &'a str>) -> Self {
        Self { rows: vec![heading.into_iter().map(str::to_owned).collect()] }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has not one cell for every column.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len(), "cells and columns");
        self.rows.push(cells);
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|---|{}\n", "---:|".repeat(self.rows[0].len() - 1));
        line(&self.rows[0]) + &rule + &self.rows[1..].iter().map(|row| line(row)).collect::<String>()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let rest = row.iter().zip(&widths).skip(1).map(|(cell, &width)| format!("  {cell:>width$}"));
            let line = format!("{:width$}{}", row[0], rest.collect::<String>(), width = widths[0]);
            write!(f, "{}{}", if number > 0 { "\n" } else { "" }, line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["name", "n"]);
        assert!(table.is_empty());
        table.row(vec!["a".into(), "100".into()]);
        table.row(vec!["b±".into(), "7".into()]);
        assert_eq!(table.to_string(), "name    n\na     100\nb±      7");
        assert_eq!(table.markdown(), "| name | n |\n|---|---:|\n| a | 100 |\n| b± | 7 |\n");
    }
}
