//! What a figure is made of: the stages of a turn, the functions of a path.
//!
//! Not a judgement: the parts come with the figure, from the run that measured it.

use std::fmt::Write as _;

use crate::page::in_order;
use crate::results::{Part, Row, digits};

/// Lines of a profile that has a table of its own; the rest is one line.
const LINES_MAX: usize = 14;

/// The tables of these figures that have parts; empty when none has.
///
/// Figures whose parts have few names in all share one table, a line for each figure; otherwise each has its own.
pub(crate) fn profiles(rows: &[&Row]) -> String {
    let with_parts: Vec<&&Row> = rows.iter().filter(|row| !row.parts.is_empty()).collect();
    if with_parts.is_empty() {
        return String::new();
    }
    let names = in_order(with_parts.iter().flat_map(|row| {
        let parts = row.parts.iter();
        parts.map(|part| part.name.as_str())
    }));
    if names.len() <= 2 * COLUMNS {
        shared(&with_parts, &names)
    } else {
        let own: Vec<String> = with_parts.iter().map(|row| own(row)).collect();
        own.concat()
    }
}

/// Stages of an lcore's turn fit a table twice over.
const COLUMNS: usize = 8;

/// The largest parts and their shares, for a sentence.
pub(crate) fn in_one_line(parts: &[Part]) -> String {
    const SHOWN: usize = 6;
    let total = total(parts);
    let shown = largest(parts).into_iter().take(SHOWN).map(|part| {
        let share = 100.0 * part.value / total;
        format!("{} {} ({share:.0} %)", part.name, digits(part.value))
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn shared(rows: &[&&Row], names: &[&str]) -> String {
    let mut text = String::from("\nWhere it goes, measured by the same runs:\n\n");
    // Writing to a String does not fail.
    let _ = writeln!(text, "| | {} | sum |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(names.len() + 1));
    for row in rows {
        let cell = |name: &&str| {
            let part = row.parts.iter().find(|part| part.name == **name);
            part.map_or("–".to_owned(), |part| digits(part.value))
        };
        let cells: Vec<String> = names.iter().map(cell).collect();
        let sum = digits(total(&row.parts));
        let (who, what) = (&row.subject, &row.quantity);
        let _ = writeln!(text, "| {who}: {what} | {} | {sum} |", cells.join(" | "));
    }
    text
}

fn own(row: &Row) -> String {
    let mut text = format!("\nWhere {} of {} goes:\n\n", row.quantity, row.subject);
    // Writing to a String does not fail.
    let _ = writeln!(text, "| | {} | share |\n|---|---:|---:|", row.unit);
    let total = total(&row.parts);
    let parts = largest(&row.parts);
    let mut line = |name: &str, value: f64| {
        let share = 100.0 * value / total;
        let _ = writeln!(text, "| {name} | {} | {share:.1} % |", digits(value));
    };
    for part in parts.iter().take(LINES_MAX) {
        line(&part.name, part.value);
    }
    let rest: f64 = parts.iter().skip(LINES_MAX).map(|part| part.value).sum();
    if rest > 0.0 {
        line("all others", rest);
    }
    text
}

fn largest(parts: &[Part]) -> Vec<&Part> {
    let mut parts: Vec<&Part> = parts.iter().collect();
    parts.sort_by(|a, b| b.value.total_cmp(&a.value));
    parts
}

fn total(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: &str, parts: &[(&str, f64)]) -> Row {
        let part = |(name, value): &(&str, f64)| Part {
            name: (*name).to_owned(),
            value: *value,
        };
        Row {
            subject: subject.into(),
            quantity: "cycles".into(),
            unit: "cycles".into(),
            parts: parts.iter().map(part).collect(),
            ..Row::default()
        }
    }

    #[test]
    fn stages_share_a_table_and_each_figure_has_a_line() {
        let (short, rx) = (
            row("short", &[("stack", 300.0), ("tx", 100.0)]),
            row("rx", &[("stack", 150.0)]),
        );
        let text = profiles(&[&short, &rx, &Row::default()]);
        for line in [
            "| | stack | tx | sum |",
            "| short: cycles | 300 | 100 | 400 |",
            "| rx: cycles | 150 | – | 150 |",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert_eq!(in_one_line(&short.parts), "stack 300 (75 %), tx 100 (25 %)");
        assert!(profiles(&[&Row::default()]).is_empty());
    }

    #[test]
    fn many_functions_get_a_table_with_the_largest_first_and_the_rest_in_one() {
        let names: Vec<String> = (0..20).map(|number| format!("f{number}")).collect();
        let parts: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 5.0)).collect();
        let mut row = row("segment", &parts);
        row.parts[19].value = 100.0;
        let text = profiles(&[&row]);
        let first = text.lines().find(|line| line.starts_with("| f"));
        assert!(first.is_some_and(|line| line.starts_with("| f19 | 100 |")));
        assert!(text.contains("| all others | 30.0 |"), "{text}");
    }
}
