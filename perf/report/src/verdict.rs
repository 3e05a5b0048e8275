//! Promised figures beside measured ones.

use crate::results::{Results, digits};
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

/// One for each target of these scenarios, in order.
pub fn verdicts(scenarios: &[Scenario], results: &Results) -> Vec<Verdict> {
    let of = |scenario: &Scenario| {
        let judge = |target: &Target| judge(&scenario.name, target, results);
        scenario.targets.iter().map(judge).collect::<Vec<_>>()
    };
    scenarios.iter().flat_map(of).collect()
}

fn judge(scenario: &str, target: &Target, results: &Results) -> Verdict {
    let row = results
        .rows_of(scenario)
        .find(|row| row.name() == target.row);
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
    Verdict {
        says: target.says.clone(),
        target: format!("{sign} {} {unit}", digits(bound))
            .trim_end()
            .to_owned(),
        measured: row.map(|row| format!("{} {unit}", row.text())),
        // A figure with failures in it counts for nothing.
        met: row.map(|row| row.errors == 0 && reached(row.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Row;

    fn judged(value: f64, errors: u64) -> Option<bool> {
        let row = Row {
            scenario: "s".into(),
            subject: "a".into(),
            quantity: "q".into(),
            value,
            unit: "cycles".into(),
            spread: None,
            errors,
            command: String::new(),
        };
        let results = Results {
            rows: vec![row],
            ..Results::default()
        };
        let target = Target {
            row: "a/q".into(),
            at_least: None,
            at_most: Some(150.0),
            says: "quick".into(),
        };
        judge("s", &target, &results).met
    }

    #[test]
    fn a_bound_holds_at_its_edge_and_not_with_errors() {
        assert_eq!(judged(150.0, 0), Some(true));
        assert_eq!(judged(150.1, 0), Some(false));
        assert_eq!(judged(100.0, 1), Some(false));
    }
}
