//! Promised figures beside measured ones, and why the missed ones were missed.

use crate::results::{Part, Results, Row, digits};
use crate::scenario::{Scenario, Shortfall, Target};

/// What became of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The scenario it belongs to.
    pub scenario: String,
    /// `SUBJECT/QUANTITY`.
    pub row: String,
    /// The promise.
    pub says: String,
    /// The bound, with its direction and unit.
    pub target: String,
    /// What was measured, if it was.
    pub measured: Option<String>,
    /// Whether it was reached; `None` when it was not measured.
    pub met: Option<bool>,
    /// What the scenario's file says of a miss; kept while the target is met, so that it can be told that the
    /// explanation is not needed any more.
    pub shortfall: Option<Shortfall>,
    /// What the subject's figure is made of, as this run measured it.
    pub profile: Vec<Part>,
}

impl Verdict {
    /// Whether the figure was measured and the promise is not kept.
    pub fn is_missed(&self) -> bool {
        self.met == Some(false)
    }

    /// Whether somebody still has to say why.
    pub fn is_unexplained(&self) -> bool {
        self.is_missed() && self.shortfall.is_none()
    }
}

/// One for each target of these scenarios, and for each promise that came with a figure, in order.
pub fn verdicts(scenarios: &[Scenario], results: &Results) -> Vec<Verdict> {
    let of_scenario = |scenario: &Scenario| {
        let mut judged = Vec::new();
        for target in &scenario.targets {
            let mut rows = results.rows_of(&scenario.name);
            let row = rows.find(|row| row.name() == target.row);
            judged.push(judge(target, row));
        }
        for row in results.rows_of(&scenario.name) {
            judged.extend(own_targets(row).iter().map(|own| judge(own, Some(row))));
        }
        for verdict in &mut judged {
            explain(verdict, scenario, results);
        }
        judged
    };
    scenarios.iter().flat_map(of_scenario).collect()
}

/// The promises that came with a figure.
fn own_targets(row: &Row) -> Vec<Target> {
    let bounds = [(row.at_least, None), (None, row.at_most)];
    let given = bounds
        .into_iter()
        .filter(|bound| bound.0.or(bound.1).is_some());
    given
        .map(|(at_least, at_most)| Target {
            row: row.name(),
            at_least,
            at_most,
            says: format!("{}: {}", row.subject, row.quantity),
        })
        .collect()
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
        scenario: String::new(),
        row: target.row.clone(),
        says: target.says.clone(),
        target: with_unit(format!("{sign} {}", digits(bound))),
        measured: row.map(|row| with_unit(row.text())),
        // A figure with failures in it counts for nothing.
        met: row.map(|row| row.errors == 0 && reached(row.value)),
        shortfall: None,
        profile: row.map_or_else(Vec::new, |row| row.parts.clone()),
    }
}

/// Adds what the scenario says of it, and a profile: the figure's own, or that of another of the same subject (bits per
/// second have none, the cycles they come from do).
fn explain(verdict: &mut Verdict, scenario: &Scenario, results: &Results) {
    verdict.scenario.clone_from(&scenario.name);
    let mut shortfalls = scenario.shortfalls.iter();
    verdict.shortfall = shortfalls
        .find(|shortfall| shortfall.row == verdict.row)
        .cloned();
    if verdict.profile.is_empty() {
        let subject = verdict.row.split('/').next().unwrap_or_default();
        let mut rows = results.rows_of(&scenario.name);
        let other = rows.find(|row| row.subject == subject && !row.parts.is_empty());
        verdict.profile = other.map_or_else(Vec::new, |row| row.parts.clone());
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

    fn scenario(shortfalls: Vec<Shortfall>) -> Scenario {
        Scenario {
            name: "s".into(),
            title: String::new(),
            about: String::new(),
            work: crate::scenario::Work::Micro,
            targets: Vec::new(),
            shortfalls,
        }
    }

    fn promised(quantity: &str, value: f64, parts: Vec<Part>) -> Row {
        Row {
            scenario: "s".into(),
            subject: "a".into(),
            quantity: quantity.into(),
            value,
            at_least: Some(4.0),
            parts,
            ..Row::default()
        }
    }

    #[test]
    fn a_promise_that_came_with_a_figure_is_judged_too() {
        let results = Results {
            rows: vec![promised("q", 3.0, Vec::new())],
            ..Results::default()
        };
        let [verdict] = verdicts(&[scenario(Vec::new())], &results)
            .try_into()
            .expect("one");
        assert_eq!((verdict.says.as_str(), verdict.met), ("a: q", Some(false)));
        assert!(verdict.is_unexplained());
    }

    #[test]
    fn a_miss_has_the_reason_of_its_file_and_the_profile_of_its_subject() {
        let profile = vec![Part {
            name: "stack".into(),
            value: 7.0,
        }];
        let results = Results {
            rows: vec![
                promised("cycles", 5.0, profile.clone()),
                promised("rate", 3.0, Vec::new()),
            ],
            ..Results::default()
        };
        let shortfall = Shortfall {
            row: "a/rate".into(),
            why: "slow".into(),
            would: "haste".into(),
        };
        let judged = verdicts(&[scenario(vec![shortfall])], &results);
        let [cycles, rate] = judged.try_into().expect("two");
        assert!(!cycles.is_missed() && cycles.shortfall.is_none());
        assert!(rate.is_missed() && !rate.is_unexplained());
        assert_eq!(rate.profile, profile);
    }
}
