//! `cargo xtask test`: every check of the project, in the order in which failures are cheapest to learn.

mod steps;
pub(crate) mod tidy;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::{interrupt, setup};
use steps::{Outcome, STEPS, Step};

/// Arguments of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct TestArguments {
    /// Only the steps of these names.
    #[arg(long)]
    only: Vec<String>,
    /// Show the steps and stop.
    #[arg(long)]
    list: bool,
}

/// Runs the steps; `false` when one failed.
pub(crate) fn run(arguments: &TestArguments) -> Result<bool> {
    if arguments.list {
        for step in STEPS {
            println!("{:<14} {}", step.name, step.about);
        }
        return Ok(true);
    }
    if let Some(unknown) = arguments
        .only
        .iter()
        .find(|name| STEPS.iter().all(|s| s.name != **name))
    {
        bail!("there is no step `{unknown}`; `cargo xtask test --list` shows all");
    }
    setup::ensure()?;
    let chosen: Vec<&Step> = STEPS
        .iter()
        .filter(|step| arguments.only.is_empty() || arguments.only.iter().any(|n| n == step.name))
        .collect();
    let mut results = Vec::new();
    for step in &chosen {
        interrupt::check()?;
        println!("==== {}: {}", step.name, step.about);
        let start = Instant::now();
        let outcome = (step.run)().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let seconds = start.elapsed().as_secs();
        match &outcome {
            Outcome::Passed => println!("==== {} passed ({seconds} s)", step.name),
            Outcome::Failed(why) => println!("==== {} FAILED ({seconds} s): {why}", step.name),
            Outcome::Skipped(why) => println!("==== {} SKIPPED: {why}", step.name),
        }
        results.push((step.name, outcome, seconds));
    }
    Ok(summarise(&results))
}

/// The closing table, and the one line that continuous integration reads.
fn summarise(results: &[(&str, Outcome, u64)]) -> bool {
    println!("\nsummary");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, outcome, seconds) in results {
        match outcome {
            Outcome::Passed => {
                passed += 1;
                println!("  passed   {name:<14} {seconds:>5} s");
            }
            Outcome::Failed(why) => {
                failed += 1;
                println!("  FAILED   {name:<14} {seconds:>5} s  {why}");
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                println!("  SKIPPED  {name:<14} {seconds:>5} s  {why}");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    failed == 0
}
