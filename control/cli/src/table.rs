//! Aligned columns: text to the left, numbers to the right. Knows nothing of what is shown.

use std::io::Write;

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells beyond the header are left out, missing ones are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.header.len(), String::new());
        self.rows.push(cells);
    }

    /// Writes the header and the rows; an empty table is its header.
    pub(crate) fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let columns = 0..self.header.len();
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> = columns
            .clone()
            .map(|column| {
                let header = self.header.get(column).map_or(0, |name| name.len());
                cells(column)
                    .map(|cell| cell.chars().count())
                    .fold(header, usize::max)
            })
            .collect();
        let numeric: Vec<bool> = columns
            .map(|column| {
                let mut filled = cells(column).filter(|cell| !cell.is_empty()).peekable();
                filled.peek().is_some() && filled.all(|cell| is_number(cell))
            })
            .collect();
        let header = self.header.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), numeric) in row.iter().zip(&widths).zip(&numeric) {
                if !line.is_empty() {
                    line += "  ";
                }
                line += &if *numeric {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn is_number(cell: &str) -> bool {
    cell.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_left_and_numbers_right() {
        let mut table = Table::new(&["NAME", "BYTES", "NOTE"]);
        table.row(["web".to_owned(), "7".to_owned(), String::new()]);
        table.row([
            "a-longer-one".to_owned(),
            "12345678".to_owned(),
            "x".to_owned(),
        ]);
        let mut out = Vec::new();
        table.write(&mut out).expect("memory");
        let expected = "\
NAME             BYTES  NOTE
web                  7
a-longer-one  12345678  x
";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
