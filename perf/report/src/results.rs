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
    /// Scenarios whose figures come from runs of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Addition>,
}

/// A run of some scenarios, after the one that measured the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Addition {
    /// Names of the scenarios.
    pub scenarios: Vec<String>,
    /// When, where, of what.
    pub circumstances: Circumstances,
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
    /// These results with the figures of some scenarios replaced by those of a later run.
    #[must_use]
    pub fn with(mut self, later: Self, scenarios: &[String]) -> Self {
        let is_replaced = |name: &str| scenarios.iter().any(|scenario| scenario == name);
        let Self {
            circumstances,
            rows,
            skipped,
            added: _,
        } = later;
        self.rows.retain(|row| !is_replaced(&row.scenario));
        self.rows.extend(rows);
        // What was skipped begins with the name of its scenario.
        let of = |skip: &Skip| skip.what.split(',').next().unwrap_or_default().to_owned();
        self.skipped.retain(|skip| !is_replaced(&of(skip)));
        self.skipped.extend(skipped);
        for addition in &mut self.added {
            addition.scenarios.retain(|name| !is_replaced(name));
        }
        self.added.retain(|addition| !addition.scenarios.is_empty());
        self.added.push(Addition {
            scenarios: scenarios.to_vec(),
            circumstances,
        });
        self
    }

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
    fn a_later_run_replaces_its_own_scenarios_and_says_so_once() {
        let row = |scenario: &str, value: f64| Row {
            scenario: scenario.into(),
            value,
            ..Row::default()
        };
        let skip = |what: &str| Skip {
            what: what.into(),
            why: "no card".into(),
        };
        let whole = Results {
            rows: vec![row("a", 1.0), row("b", 2.0)],
            skipped: vec![skip("b, one of two"), skip("c")],
            ..Results::default()
        };
        let later = |value: f64| Results {
            circumstances: Circumstances {
                seconds: value as u64,
                ..Circumstances::default()
            },
            rows: vec![row("b", value)],
            ..Results::default()
        };
        let only = ["b".to_owned()];
        let results = whole.with(later(3.0), &only).with(later(4.0), &only);
        let rows: Vec<_> = results.rows.iter().map(|row| row.value).collect();
        assert_eq!(rows, [1.0, 4.0]);
        assert_eq!(results.skipped, [skip("c")]);
        assert_eq!(results.added.len(), 1);
        assert_eq!(results.added[0].circumstances.seconds, 4);
    }

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
