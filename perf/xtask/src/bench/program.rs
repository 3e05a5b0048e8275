//! Programs of this workspace that measure by themselves: built, run, and their JSON lines taken over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use millrace_report::{Part, Row, Scenario, Work};
use serde::Deserialize;

use super::Bench;
use crate::{interrupt, paths, process};

/// One line of such a program.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Figure(Figure),
    Outcome(Box<Outcome>),
}

/// One figure and nothing else.
#[derive(Deserialize)]
struct Figure {
    subject: String,
    quantity: String,
    value: f64,
    unit: String,
    #[serde(default)]
    errors: u64,
}

/// What `millrace-rig` says of a scenario of its own.
#[derive(Deserialize)]
struct Outcome {
    scenario: String,
    operation: String,
    cycles: Cycles,
    /// Where the cycles go.
    #[serde(default)]
    stages: Vec<Part>,
    values: BTreeMap<String, f64>,
    targets: Vec<Promise>,
    copied_bytes: u64,
    heap_allocations: u64,
    errors: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Cycles {
    p50: f64,
}

/// A bound on one of the values, or on `cycles`.
#[derive(Deserialize)]
struct Promise {
    what: String,
    bound: f64,
    at_least: bool,
}

impl Line {
    /// Figures without their scenario and command.
    fn rows(self) -> Vec<Row> {
        match self {
            Self::Figure(figure) => vec![Row {
                subject: figure.subject,
                quantity: figure.quantity,
                value: figure.value,
                unit: figure.unit,
                errors: figure.errors,
                ..Row::default()
            }],
            Self::Outcome(outcome) => outcome.rows(),
        }
    }
}

impl Outcome {
    fn rows(self) -> Vec<Row> {
        // A copied byte or an allocation on the packet path spoils a figure like an error does.
        let failures: u64 = self.errors.values().sum();
        let errors = failures + self.copied_bytes + self.heap_allocations;
        let row = |what: &str, label: &str, value: f64, unit: &str| {
            let bound = |at_least: bool| {
                let promised = |p: &&Promise| p.what == what && p.at_least == at_least;
                self.targets.iter().find(promised).map(|p| p.bound)
            };
            Row {
                subject: self.scenario.clone(),
                quantity: label.to_owned(),
                value,
                unit: unit.to_owned(),
                errors,
                at_least: bound(true),
                at_most: bound(false),
                ..Row::default()
            }
        };
        let label = format!("cycles per {}", self.operation);
        let mut rows = vec![Row {
            parts: self.stages.clone(),
            ..row("cycles", &label, self.cycles.p50, "")
        }];
        rows.extend(
            self.values
                .iter()
                .map(|(name, value)| row(name, name, *value, "")),
        );
        rows
    }
}

/// Runs the program for each list of arguments, as often as the scenario says.
pub(super) fn measure(bench: &mut Bench, scenario: &Scenario) -> Result<()> {
    let Work::Program {
        package,
        binary,
        runs,
        limit_seconds,
        repeat,
    } = &scenario.work
    else {
        bail!("not a scenario of a program");
    };
    let path = build(package, binary)?;
    let limit = Duration::from_secs(*limit_seconds);
    let times = bench.seconds(*repeat);
    // Round by round: the machine's slow spells last for seconds, and would meet all repetitions of one that followed each
    // other.
    let mut all: Vec<Result<Vec<Vec<Row>>>> = runs.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..times {
        for (arguments, kept) in runs.iter().zip(&mut all) {
            interrupt::check()?;
            if let Ok(rounds) = kept {
                match run_once(&path, arguments, limit) {
                    Ok(rows) => rounds.push(rows),
                    Err(error) => *kept = Err(error),
                }
            }
        }
    }
    for (arguments, kept) in runs.iter().zip(all) {
        interrupt::check()?;
        match kept {
            Ok(rounds) => {
                let command = format!("{binary} {}", arguments.join(" "));
                for row in least_disturbed(rounds) {
                    bench.record(Row {
                        scenario: scenario.name.clone(),
                        command: command.trim_end().to_owned(),
                        ..row
                    });
                }
            }
            Err(error) => {
                let what = format!("{}, {}", scenario.name, arguments.join(" "));
                bench.skip(what, &error);
            }
        }
    }
    Ok(())
}

/// The figures of one run. A program that found failures says so in its figures and by its status, too.
fn run_once(path: &Path, arguments: &[String], limit: Duration) -> Result<Vec<Row>> {
    interrupt::check()?;
    let mut command = Command::new(path);
    command.args(arguments);
    let finished = process::finish(&mut command, limit)?;
    let lines = parse(&finished.stdout)
        .with_context(|| format!("it ended with {}: {}", finished.status, finished.stderr))?;
    Ok(lines.into_iter().flat_map(Line::rows).collect())
}

/// The figures of the run whose first one, its cycles, is the lowest; with the spread and the errors of all runs.
fn least_disturbed(runs: Vec<Vec<Row>>) -> Vec<Row> {
    let first = |rows: &&Vec<Row>| rows.first().map_or(f64::INFINITY, |row| row.value);
    let best = runs.iter().min_by(|a, b| first(a).total_cmp(&first(b)));
    let same = |row: &Row| {
        let name = row.name();
        let named = move |other: &&Row| other.name() == name;
        runs.iter().flatten().filter(named)
    };
    let rows = best.into_iter().flatten().map(|row| {
        let values = || same(row).map(|other| other.value);
        let spread = [
            values().fold(f64::INFINITY, f64::min),
            values().fold(f64::NEG_INFINITY, f64::max),
        ];
        Row {
            spread: (runs.len() > 1).then_some(spread),
            errors: same(row).map(|other| other.errors).sum(),
            ..row.clone()
        }
    });
    rows.collect()
}

/// Builds a binary for measuring and says where it is.
pub(super) fn build(package: &str, binary: &str) -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .current_dir(paths::root())
        .args([
            "build",
            "--quiet",
            "--release",
            "-p",
            package,
            "--bin",
            binary,
        ])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("{package} does not build ({status})");
    }
    Ok(paths::target().join("release").join(binary))
}

/// Every line that is a JSON object must be a figure; other lines are for people.
fn parse(said: &str) -> Result<Vec<Line>> {
    let objects = said.lines().filter(|line| line.starts_with('{'));
    let parse = |line: &str| serde_json::from_str(line).with_context(|| line.to_owned());
    let lines = objects.map(parse).collect::<Result<Vec<Line>>>()?;
    if lines.is_empty() {
        bail!(
            "it said nothing that could be read:{}",
            process::tail(said, 5)
        );
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_runs_the_quietest_counts_with_the_errors_of_all() {
        let run = |cycles: f64, frames: f64, errors| {
            let row = |quantity: &str, value| Row {
                quantity: quantity.to_owned(),
                value,
                errors,
                ..Row::default()
            };
            vec![row("cycles", cycles), row("frames", frames)]
        };
        let rows = least_disturbed(vec![run(9.0, 1.0, 0), run(7.0, 3.0, 0), run(8.0, 2.0, 5)]);
        let figures: Vec<_> = rows.iter().map(|r| (r.value, r.spread, r.errors)).collect();
        let (cycles, frames) = (Some([7.0, 9.0]), Some([1.0, 3.0]));
        assert_eq!(figures, [(7.0, cycles, 5), (3.0, frames, 5)]);
        assert_eq!(least_disturbed(vec![run(9.0, 1.0, 0)])[0].spread, None);
        assert!(least_disturbed(Vec::new()).is_empty());
    }

    #[test]
    fn words_for_people_are_passed_over_and_an_object_of_another_shape_is_an_error() {
        let figure = r#"{"subject":"a","quantity":"q","value":1.5,"unit":"cycles"}"#;
        let lines = parse(&format!("hello\n{figure}\n")).expect("a figure");
        let rows: Vec<Row> = lines.into_iter().flat_map(Line::rows).collect();
        assert_eq!((rows.len(), rows[0].value), (1, 1.5));
        assert!(parse("{\"subject\":\"a\"}").is_err());
        assert!(parse("hello\n").is_err());
    }

    #[test]
    fn an_outcome_of_the_rig_is_its_cycles_its_values_and_its_promises() {
        let said = r#"{"scenario":"short","operation":"session","cycles":{"p50":7000.0,"mean":1.0},
            "stages":[{"name":"stack","value":4000.0}],
            "values":{"frames":19.0},"targets":[{"what":"cycles","bound":8000.0,"at_least":false}],
            "copied_bytes":0,"heap_allocations":1,"errors":{"retransmissions":2}}"#;
        let lines = parse(&said.replace('\n', " ")).expect("an outcome");
        let rows: Vec<Row> = lines.into_iter().flat_map(Line::rows).collect();
        let first = rows.first().expect("cycles");
        assert_eq!(first.name(), "short/cycles per session");
        assert_eq!(first.parts[0].value, 4_000.0);
        assert_eq!(
            (first.at_most, first.at_least, first.errors),
            (Some(8_000.0), None, 3)
        );
        assert_eq!(
            (rows.len(), rows[1].value, rows[1].at_most),
            (2, 19.0, None)
        );
    }
}
