//! Promised figures beside measured ones.

use crate::results::{Results, Row, digits};
use crate::scenario::{Scenario, Target};

/// What became of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The promise.
    pub says: String,
    /// The bound, with its direction and unit.
    pub target: String,
    /// What was measured, if it was.
    pub measured: Option<String>,
    /// Whether it was reached; `None` when it was not measured.
    pub met: Option<bool>,
}

/// One for each target of these scenarios, and for each promise that came with a figure, in order.
pub fn verdicts(scenarios: &[Scenario], results: &Results) -> Vec<Verdict> {
    let mut judged = Vec::new();
    for Scenario { name, targets, .. } in scenarios {
        for target in targets {
            let mut rows = results.rows_of(name);
            judged.push(judge(target, rows.find(|row| row.name() == target.row)));
        }
        for row in results.rows_of(name) {
            let Row {
                at_least, at_most, ..
            } = *row;
            let bounds = [(at_least, None), (None, at_most)];
            let given = |bound: &(Option<f64>, Option<f64>)| bound.0.or(bound.1).is_some();
            for (at_least, at_most) in bounds.into_iter().filter(given) {
                let target = Target {
                    row: row.name(),
                    at_least,
                    at_most,
                    says: row.quantity.clone(),
                };
                judged.push(judge(&target, Some(row)));
            }
        }
    }
    judged
}

fn judge(target: &Target, row: Option<&Row>) -> Verdict {
    let unit = row.map_or("", |row| row.unit.as_str());
    let (sign, bound) = match (target.at_least, target.at_most) {
        (Some(bound), _) => ("≥", bound),
        (None, bound) => ("≤", bound.unwrap_or(f64::NAN)),
    };
    let reached = |value: f64| {
        if sign == "≥" {
            value >= bound
        } else {
            value <= bound
        }
    };
    let with_unit = |figure: String| format!("{figure} {unit}").trim_end().to_owned();
    Verdict {
        says: target.says.clone(),
        target: with_unit(format!("{sign} {}", digits(bound))),
        measured: row.map(|row| with_unit(row.text())),
        // A figure with failures in it counts for nothing.
        met: row.map(|row| row.errors == 0 && reached(row.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(value: f64, errors: u64) -> Option<bool> {
        let row = Row {
            value,
            errors,
            ..Row::default()
        };
        let target = Target {
            row: "a/q".into(),
            at_least: None,
            at_most: Some(150.0),
            says: "quick".into(),
        };
        judge(&target, Some(&row)).met
    }

    #[test]
    fn a_bound_holds_at_its_edge_and_not_with_errors() {
        assert_eq!(judged(150.0, 0), Some(true));
        assert_eq!(judged(150.1, 0), Some(false));
        assert_eq!(judged(100.0, 1), Some(false));
    }

    #[test]
    fn a_promise_that_came_with_a_figure_is_judged_too() {
        let scenario = Scenario {
            name: "s".into(),
            title: String::new(),
            about: String::new(),
            work: crate::scenario::Work::Micro,
            targets: Vec::new(),
        };
        let row = Row {
            scenario: "s".into(),
            quantity: "q".into(),
            value: 3.0,
            at_least: Some(4.0),
            ..Row::default()
        };
        let results = Results {
            rows: vec![row],
            ..Results::default()
        };
        let [verdict] = verdicts(&[scenario], &results).try_into().expect("one");
        assert_eq!((verdict.says.as_str(), verdict.met), ("q", Some(false)));
    }
}
