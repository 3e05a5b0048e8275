//! The rows there are, and how a text names them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// One row of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// `tcp`, `stack`, `rfc9293`.
    pub(super) list: String,
    /// `LSN`, `A26`, `Window`.
    pub(super) area: String,
    /// `LSN-12`, `A26-3`, `MUST-14`.
    pub(super) id: String,
    /// A few words.
    pub(super) name: String,
}

/// Reads the lists: tab separated, `#` opens a comment line.
pub(super) fn parse(text: &str) -> Result<Vec<Row>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let mut columns = line.split('\t').map(str::to_owned);
        let mut column = || columns.next().with_context(|| format!("short: {line}"));
        Ok(Row {
            list: column()?,
            area: column()?,
            id: column()?,
            name: column()?,
        })
    };
    lines.map(parse).collect()
}

/// Reads the table of rows that do not apply: `| rows | reason |` in Markdown; other lines are for people.
pub(super) fn exempt(text: &str) -> BTreeMap<String, String> {
    let mut reasons = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let (Some(rows), Some(reason)) = (cells.next(), cells.next()) else {
            continue;
        };
        for id in named(rows) {
            reasons.insert(id, reason.to_owned());
        }
    }
    reasons
}

/// The rows that a text names, in order: `A1-1, A1-3`, `LSN-1 to LSN-4` with everything between.
pub(super) fn named(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split(|c: char| !is_part(c)).filter(|w| !w.is_empty());
    let mut found: Vec<String> = Vec::new();
    let mut is_range = false;
    for word in words {
        let Some((area, number)) = split(word) else {
            is_range = word == "to";
            continue;
        };
        let last = found.last().and_then(|id| split(id));
        if let (true, Some((of, from))) = (is_range, last)
            && of == area
        {
            let area = area.to_owned();
            found.extend((from + 1..number).map(|between| format!("{area}-{between}")));
        }
        is_range = false;
        found.push(word.to_owned());
    }
    found
}

/// `LSN-12` is `LSN` and 12; a word that is no row is nothing.
fn split(word: &str) -> Option<(&str, u32)> {
    let (area, number) = word.split_once('-')?;
    let letters = area.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_area = !letters.is_empty() && letters.chars().all(|c| c.is_ascii_uppercase());
    let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    (is_area && is_number)
        .then(|| number.parse().ok().map(|number| (area, number)))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_one_by_one_and_in_ranges() {
        assert_eq!(named(" A26-3, LSN-12 and nothing"), ["A26-3", "LSN-12"]);
        assert_eq!(
            named("(A27-1 to A27-4)."),
            ["A27-1", "A27-2", "A27-3", "A27-4"]
        );
        assert_eq!(named("A27-1 to LSN-2"), ["A27-1", "LSN-2"]);
        assert_eq!(named("A27-1 and on to A27-3"), ["A27-1", "A27-2", "A27-3"]);
        assert!(named("time-wait IPv4 a-1 A- -1 RFC-x").is_empty());
    }

    #[test]
    fn a_reason_belongs_to_every_row_of_its_line() {
        let text = "# Not\n\n| rows | reason |\n|---|---|\n| A1-1, A1-3 to A1-4 | no kernel |\n";
        let reasons = exempt(text);
        let ids: Vec<&str> = reasons.keys().map(String::as_str).collect();
        assert_eq!(ids, ["A1-1", "A1-3", "A1-4"]);
        assert_eq!(reasons["A1-4"], "no kernel");
    }

    #[test]
    fn a_line_with_too_few_columns_is_an_error() {
        assert!(parse("# ok\ntcp\tA1\tA1-1\tname\n").is_ok());
        assert!(parse("tcp\tA1\n").is_err());
    }
}
