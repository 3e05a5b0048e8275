//! `RESULTS.md`: targets and why some were missed, then tables, a picture and the commands of every scenario.

use std::fmt::Write as _;

use crate::profile::{in_one_line, profiles};
use crate::results::{Results, Row};
use crate::scenario::Scenario;
use crate::verdict::{Verdict, verdicts};

/// Subjects that fit one table side by side. More than these are listed below each other.
const COLUMNS_MAX: usize = 6;

/// The whole page. Scenarios without a figure are left out; what was skipped is said at the end.
pub fn page(scenarios: &[Scenario], results: &Results) -> String {
    let about = &results.circumstances;
    let mut page = format!(
        "# Results\n\nMade by `{}`; do not edit. The same figures for machines: `results.json`.\n\n\
         Commit `{}`. {}. The whole run took {} s.\n\n\
         The machine is a shared virtual one: wall-clock figures move by 5 to 10 % from run to run when it\n\
         is quiet, and by far more when it is not. Compare columns of one run, never runs. Instruction counts\n\
         do not move.\n",
        about.command, about.commit, about.machine, about.seconds
    );
    for addition in &results.added {
        let own = &addition.circumstances;
        // Writing to a String does not fail.
        let _ = writeln!(
            page,
            "\nMeasured by itself, later: {}, by `{}`, commit `{}`, in {} s.",
            addition.scenarios.join(", "),
            own.command,
            own.commit,
            own.seconds
        );
    }
    let judged = verdicts(scenarios, results);
    if !judged.is_empty() {
        page.push_str(&targets(&judged));
        page.push_str(&misses(&judged));
    }
    for scenario in scenarios {
        if results.rows_of(&scenario.name).next().is_some() {
            page.push_str(&part(scenario, results));
        }
    }
    if !results.skipped.is_empty() {
        page.push_str("\n## Not measured\n\n");
        for skip in &results.skipped {
            // Writing to a String does not fail.
            let _ = writeln!(page, "* {}: {}", skip.what, skip.why);
        }
    }
    page
}

fn targets(judged: &[Verdict]) -> String {
    let mut text = String::from(
        "\n## Targets\n\n| promise | target | measured | met |\n|---|---:|---:|---|\n",
    );
    for verdict in judged {
        let met = match verdict.met {
            Some(true) => "met",
            Some(false) => "**no**",
            None => "–",
        };
        let measured = verdict.measured.as_deref().unwrap_or("not measured");
        let Verdict { says, target, .. } = verdict;
        // Writing to a String does not fail.
        let _ = writeln!(text, "| {says} | {target} | {measured} | {met} |");
    }
    text
}

/// Why each missed target was missed, what would reach it, and what the run measured about it.
fn misses(judged: &[Verdict]) -> String {
    let missed: Vec<&Verdict> = judged.iter().filter(|one| one.is_missed()).collect();
    if missed.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n### Missed: why not, and what would\n\n");
    for verdict in missed {
        let Verdict { says, target, .. } = verdict;
        let measured = verdict.measured.as_deref().unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(text, "* **{says}**: {measured}, promised {target}.");
        let _ = match &verdict.shortfall {
            Some(shortfall) => writeln!(
                text,
                "  * Why not: {}\n  * What would: {}",
                shortfall.why.trim(),
                shortfall.would.trim()
            ),
            None => writeln!(text, "  * **UNEXPLAINED: nobody has said why.**"),
        };
        if !verdict.profile.is_empty() {
            let _ = writeln!(text, "  * Measured: {}", in_one_line(&verdict.profile));
        }
    }
    text
}

fn part(scenario: &Scenario, results: &Results) -> String {
    let rows: Vec<&Row> = results.rows_of(&scenario.name).collect();
    let subjects = in_order(rows.iter().map(|row| row.subject.as_str()));
    let mut text = format!("\n## {}\n\n{}\n\n", scenario.title, scenario.about.trim());
    if subjects.len() > COLUMNS_MAX {
        text.push_str(&list(&rows, &subjects));
    } else {
        text.push_str(&table(scenario, results, &rows, &subjects));
    }
    text.push_str(&profiles(&rows));
    // Writing to a String does not fail.
    let _ = writeln!(text, "\n![{}](plots/{}.svg)", scenario.title, scenario.name);
    text.push_str("\nCommands:\n\n");
    for command in in_order(rows.iter().map(|row| row.command.as_str())) {
        let of = rows.iter().filter(|row| row.command == command);
        let of = in_order(of.map(|row| row.subject.as_str()));
        let of = of.join(if subjects.len() > COLUMNS_MAX {
            "; "
        } else {
            ", "
        });
        let _ = writeln!(text, "* {of}: `{command}`");
    }
    text
}

/// A line for each figure, subject by subject.
fn list(rows: &[&Row], subjects: &[&str]) -> String {
    let mut text = String::from("| | | |\n|---|---|---:|\n");
    for subject in subjects {
        let mut heading = *subject;
        for row in rows.iter().filter(|row| row.subject == *subject) {
            let line = labelled(&row.quantity, &row.unit);
            // Writing to a String does not fail.
            let _ = writeln!(text, "| {heading} | {line} | {} |", cell(row));
            heading = "";
        }
    }
    text
}

/// A column for each subject, a line for each quantity.
fn table(scenario: &Scenario, results: &Results, rows: &[&Row], subjects: &[&str]) -> String {
    let quantities = in_order(rows.iter().map(|row| row.quantity.as_str()));
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(text, "| | {} |", subjects.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(subjects.len()));
    for quantity in quantities {
        let cell = |subject: &&str| {
            let row = results.row(&scenario.name, subject, quantity);
            row.map_or("–".to_owned(), cell)
        };
        let cells: Vec<String> = subjects.iter().map(cell).collect();
        let unit = rows.iter().find(|row| row.quantity == quantity);
        let unit = unit.map_or("", |row| row.unit.as_str());
        let line = labelled(quantity, unit);
        let _ = writeln!(text, "| {line} | {} |", cells.join(" | "));
    }
    text
}

/// A quantity with its unit, when it has one.
pub(crate) fn labelled(quantity: &str, unit: &str) -> String {
    let comma = if unit.is_empty() { "" } else { ", " };
    format!("{quantity}{comma}{unit}")
}

fn cell(row: &Row) -> String {
    let spread = row.spread.map_or(String::new(), |[low, high]| {
        let ends = [low, high].map(crate::results::digits);
        format!(" ({} … {})", ends[0], ends[1])
    });
    format!("{}{spread}", row.text())
}

/// Each once, in the order of its first appearance.
pub(crate) fn in_order<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !seen.contains(&word) {
            seen.push(word);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Skip;
    use crate::scenario::{Target, Work};

    fn row(subject: &str, value: f64) -> Row {
        Row {
            scenario: "wires".into(),
            subject: subject.into(),
            quantity: "requests".into(),
            value,
            unit: "1/s".into(),
            spread: (subject == "millrace").then_some([1.0, 2.0]),
            errors: u64::from(subject == "haproxy"),
            command: format!("wrk {subject}"),
            ..Row::default()
        }
    }

    #[test]
    fn the_page_has_the_verdicts_the_table_the_commands_and_what_is_missing() {
        let scenario = Scenario {
            name: "wires".into(),
            title: "Through wires".into(),
            about: "Peers.".into(),
            work: Work::Micro,
            targets: [("fast enough", 100.0), ("faster", 300.0)]
                .map(|(says, bound)| Target {
                    row: "millrace/requests".into(),
                    at_least: Some(bound),
                    at_most: None,
                    says: says.into(),
                })
                .into(),
            shortfalls: Vec::new(),
        };
        let results = Results {
            rows: vec![row("millrace", 250.0), row("haproxy", 99.0)],
            skipped: vec![Skip {
                what: "rig".into(),
                why: "no huge pages".into(),
            }],
            ..Results::default()
        };
        let text = page(std::slice::from_ref(&scenario), &results);
        for line in [
            "| fast enough | ≥ 100 1/s | 250 1/s | met |",
            "| | millrace | haproxy |",
            "| requests, 1/s | 250 (1.00 … 2.00) | 99.0 (1 errors) |",
            "* haproxy: `wrk haproxy`",
            "* rig: no huge pages",
            "* **faster**: 250 1/s, promised ≥ 300 1/s.",
            "UNEXPLAINED",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        let mut explained = scenario;
        explained.shortfalls.push(crate::scenario::Shortfall {
            row: "millrace/requests".into(),
            why: "One queue.".into(),
            would: "Two queues.".into(),
        });
        let text = page(&[explained], &results);
        assert!(!text.contains("UNEXPLAINED"));
        assert!(text.contains("  * Why not: One queue.\n  * What would: Two queues.\n"));
    }

    #[test]
    fn many_subjects_are_listed_below_each_other() {
        let scenario = Scenario {
            name: "wires".into(),
            title: "Many".into(),
            about: String::new(),
            work: Work::Micro,
            targets: Vec::new(),
            shortfalls: Vec::new(),
        };
        let subjects = (0..=COLUMNS_MAX).map(|number| format!("run {number}"));
        let results = Results {
            rows: subjects.map(|subject| row(&subject, 5.0)).collect(),
            ..Results::default()
        };
        let text = page(&[scenario], &results);
        assert!(text.contains("| run 6 | requests, 1/s | 5.00 |"), "{text}");
    }
}
