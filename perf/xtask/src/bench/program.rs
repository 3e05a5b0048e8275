//! Programs of this workspace that measure by themselves: built, run, and their JSON lines taken over.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use millrace_report::{Row, Scenario, Work};
use serde::Deserialize;

use super::Bench;
use crate::{interrupt, paths, process};

/// One line of such a program.
#[derive(Deserialize)]
struct Line {
    subject: String,
    quantity: String,
    value: f64,
    unit: String,
    #[serde(default)]
    errors: u64,
}

/// Runs the program once for each list of arguments.
pub(super) fn measure(bench: &mut Bench, scenario: &Scenario) -> Result<()> {
    let Work::Program {
        package,
        binary,
        runs,
        limit_seconds,
    } = &scenario.work
    else {
        bail!("not a scenario of a program");
    };
    let path = build(package, binary)?;
    for arguments in runs {
        interrupt::check()?;
        let mut command = Command::new(&path);
        command.args(arguments);
        let limit = Duration::from_secs(*limit_seconds);
        match process::must(&mut command, limit).and_then(|said| parse(&said)) {
            Ok(lines) => {
                let command = format!("{binary} {}", arguments.join(" "));
                for line in lines {
                    bench.record(row(scenario, line, command.trim_end()));
                }
            }
            Err(error) => {
                interrupt::check()?;
                let what = format!("{}, {}", scenario.name, arguments.join(" "));
                bench.skip(what, &error);
            }
        }
    }
    Ok(())
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

fn row(scenario: &Scenario, line: Line, command: &str) -> Row {
    let Line {
        subject,
        quantity,
        value,
        unit,
        errors,
    } = line;
    Row {
        scenario: scenario.name.clone(),
        subject,
        quantity,
        value,
        unit,
        spread: None,
        errors,
        command: command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_people_are_passed_over_and_an_object_of_another_shape_is_an_error() {
        let figure = r#"{"subject":"a","quantity":"q","value":1.5,"unit":"cycles"}"#;
        let lines = parse(&format!("hello\n{figure}\n")).expect("a figure");
        assert_eq!((lines.len(), lines[0].value), (1, 1.5));
        assert!(parse("{\"subject\":\"a\"}").is_err());
        assert!(parse("hello\n").is_err());
    }
}
