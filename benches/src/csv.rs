//! Raw samples on disk: comma-separated, a heading, no quotes.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Samples with named columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Csv {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Csv {
    /// No rows yet.
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>) -> Self {
        Self { columns: columns.into_iter().map(str::to_owned).collect(), rows: vec![] }
    }

    /// Adds a row; commas in cells become semicolons.
    ///
    /// # Panics
    /// When it has not one cell for every column.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "cells and columns");
        self.rows.push(cells.into_iter().map(|cell| cell.replace(',', ";")).collect());
    }

    /// The file's contents.
    pub fn text(&self) -> String {
        let lines = std::iter::once(&self.columns).chain(&self.rows);
        lines.map(|cells| cells.join(",") + "\n").collect()
    }

    /// Reads a file that [`Csv::text`] made.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut lines = text.lines().enumerate();
        let columns = cells(lines.next().with_context(|| format!("{} is empty", path.display()))?.1);
        let rows = lines.map(|(number, line)| {
            let row = cells(line);
            ensure!(
                row.len() == columns.len(),
                "{}, line {}: {} cells, but {} columns",
                path.display(),
                number + 1,
                row.len(),
                columns.len()
            );
            Ok(row)
        });
        let rows = rows.collect::<Result<_>>()?;
        Ok(Self { columns, rows })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The cells of a column, from the first row.
    pub fn column(&self, name: &str) -> Result<Vec<&str>> {
        let at = self.columns.iter().position(|column| column == name);
        let at = at.with_context(|| format!("there is no column {name}; there are {}", self.columns.join(", ")))?;
        Ok(self.rows.iter().map(|row| row[at].as_str()).collect())
    }

    /// The numbers of a column.
    pub fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        let number = |cell: &str| cell.parse().with_context(|| format!("column {name}: {cell} is no number"));
        self.column(name)?.into_iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let mut csv = Csv::new(["name", "seconds"]);
        csv.row(vec!["a,b".into(), "0.5".into()]);
        std::fs::write(&path, csv.text()).unwrap();
        let read = Csv::read(&path).unwrap();
        assert_eq!((&read, read.len()), (&csv, 1));
        assert_eq!((read.column("name").unwrap(), read.numbers("seconds").unwrap()), (vec!["a;b"], vec![0.5]));
        assert!(read.numbers("name").unwrap_err().to_string().contains("a;b is no number"));
        assert!(read.column("x").unwrap_err().to_string().contains("name, seconds"));
        std::fs::write(&path, "a,b\n1\n").unwrap();
        assert!(Csv::read(&path).unwrap_err().to_string().contains("line 2"));
    }
}
