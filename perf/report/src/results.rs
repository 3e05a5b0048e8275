//! What a run found: figures, and what it had to leave out.

use serde::{Deserialize, Serialize};

/// Everything about one run. This is `results.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// When, where, of what.
    pub circumstances: Circumstances,
    /// The figures, in the order they were measured.
    pub rows: Vec<Row>,
    /// What was not measured.
    pub skipped: Vec<Skip>,
}

/// What a figure means nothing without.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Circumstances {
    /// The commit, with a mark when files differed from it.
    pub commit: String,
    /// One line: processor, CPUs, memory, kernel, huge pages, DPDK.
    pub machine: String,
    /// The command that made the run.
    pub command: String,
    /// Seconds the whole run took.
    pub seconds: u64,
}

/// One figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The scenario's name: the stem of its file.
    pub scenario: String,
    /// Who was measured: the column of the table. Without a slash.
    pub subject: String,
    /// What was measured: the line of the table.
    pub quantity: String,
    /// The figure.
    pub value: f64,
    /// Its unit: `1/s`, `Gbit/s`, `cycles`.
    pub unit: String,
    /// The lowest and the highest of several runs, where there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<[f64; 2]>,
    /// Failures during the measurement; a figure with errors is not comparable.
    #[serde(default)]
    pub errors: u64,
    /// What was run to get it.
    pub command: String,
    /// A promise that the program itself knows: this or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The same: this or less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// What the figure is made of, in its unit, as the same run measured it; the sum need not be the figure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// A part of a figure: a stage of the lcore's turn, a function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// How much of the figure, in the figure's unit.
    pub value: f64,
}

/// Something that was not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skip {
    /// The scenario, and the part of it.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Results {
    /// The figure of a subject.
    pub fn row(&self, scenario: &str, subject: &str, quantity: &str) -> Option<&Row> {
        self.rows.iter().find(|row| {
            row.scenario == scenario && row.subject == subject && row.quantity == quantity
        })
    }

    /// Figures of one scenario.
    pub fn rows_of(&self, scenario: &str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.scenario == scenario)
    }
}

impl Row {
    /// `SUBJECT/QUANTITY`, as targets name it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.subject, self.quantity)
    }

    /// The figure for people: as many digits as mean something, and its failures.
    pub fn text(&self) -> String {
        let errors = match self.errors {
            0 => String::new(),
            count => format!(" ({count} errors)"),
        };
        format!("{}{errors}", digits(self.value))
    }
}

/// Three or four digits that mean something.
pub(crate) fn digits(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_figures_lose_their_fractions_and_errors_are_said() {
        assert_eq!(
            [54_500.4, 12.34, 0.987].map(digits),
            ["54500", "12.3", "0.99"]
        );
        let row = Row {
            scenario: "s".into(),
            subject: "a".into(),
            quantity: "q".into(),
            value: 7.0,
            unit: "1/s".into(),
            errors: 3,
            ..Row::default()
        };
        assert_eq!(
            (row.text().as_str(), row.name().as_str()),
            ("7.00 (3 errors)", "a/q")
        );
    }
}
