//! Comparing tables with those in the tree, so that a reader sees what a change did.

use std::io;
use std::path::Path;

use super::Table;

/// Lines that the table of a comparison may have; far more than any here.
const LINES_MAX: usize = 2_000;

/// What became of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is as it was.
    Same,
    /// It is not; the lines that differ, each behind `-` (in the tree) or `+` (now), below the
    /// names of their block and its columns.
    Differs(String),
    /// It has been written.
    Written,
}

/// Compares a table with its file in this folder, or writes that.
pub fn review(table: &Table, folder: &Path, bless: bool) -> io::Result<Verdict> {
    let file = folder.join(format!("{}.txt", table.name));
    let known = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        known => known?,
    };
    if known == table.text {
        return Ok(Verdict::Same);
    }
    if bless {
        std::fs::write(&file, &table.text)?;
        return Ok(Verdict::Written);
    }
    Ok(Verdict::Differs(difference(&known, &table.text)))
}

/// The lines that differ, below the two lines that begin their block.
fn difference(known: &str, now: &str) -> String {
    let (known, now) = (lines(known), lines(now));
    let mut told = String::new();
    let mut block = 0;
    for (sign, number, line) in edits(&known, &now) {
        let text = if sign == '+' { &now } else { &known };
        let head = (0..number).rev().find(|at| text[*at].starts_with('['));
        if let Some(head) = head.filter(|head| head + 1 != block && *head + 1 < number) {
            block = head + 1;
            told.push_str(&format!("  {}\n  {}\n", text[head], text[head + 1]));
        }
        told.push_str(&format!("{sign} {line}\n"));
    }
    told
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().take(LINES_MAX).collect()
}

/// What to take out and to put in, with the number of the line in its text: the longest common
/// sequence of lines stays.
fn edits<'a>(known: &[&'a str], now: &[&'a str]) -> Vec<(char, usize, &'a str)> {
    let (rows, columns) = (known.len(), now.len());
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if known[row] == now[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column, mut edits) = (0, 0, Vec::new());
    while row < rows || column < columns {
        if row < rows && column < columns && known[row] == now[column] {
            (row, column) = (row + 1, column + 1);
        } else if row < rows
            && (column == columns || common[row + 1][column] >= common[row][column + 1])
        {
            edits.push(('-', row, known[row]));
            row += 1;
        } else {
            edits.push(('+', column, now[column]));
            column += 1;
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "# about\n\n[reno]\n  a  b\n  1  2\n  3  4\n\n[cubic]\n  a  b\n  5  6\n";

    #[test]
    fn a_difference_shows_both_lines_below_their_block_and_nothing_else() {
        let now = KNOWN.replace("3  4", "3  9");
        let told = difference(KNOWN, &now);
        assert_eq!(told, "  [reno]\n    a  b\n-   3  4\n+   3  9\n");
        assert_eq!(difference(KNOWN, KNOWN), "");
    }

    #[test]
    fn a_new_block_is_all_new_and_moves_nothing() {
        let now = KNOWN.replace("[cubic]", "[bbr]\n  a  b\n  7  8\n\n[cubic]");
        let told = difference(KNOWN, &now);
        assert!(told.lines().all(|line| !line.starts_with('-')), "{told}");
        assert_eq!(told.lines().filter(|line| line.starts_with('+')).count(), 4);
    }
}
