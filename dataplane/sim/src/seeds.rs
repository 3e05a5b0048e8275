//! Playing one seed: the verdict, and a capture of one that failed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::scenario::Scenario;
use crate::world::{Tally, World};

/// What became of a seed.
pub type Outcome = Result<Tally, Failure>;

/// A seed that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What did not hold.
    pub what: String,
    /// Microseconds of virtual time at which it was noticed.
    pub at_micros: u64,
    /// The scenario, to read.
    pub scenario: String,
}

/// Plays a seed.
pub fn play(seed: u64) -> Outcome {
    let scenario = Scenario::of_seed(seed);
    let mut world = World::new(&scenario, false);
    judge(&scenario, &mut world)
}

/// Plays a seed once more, and saves what passed the servers' network card.
pub fn record(seed: u64, file: &Path) -> std::io::Result<Outcome> {
    let scenario = Scenario::of_seed(seed);
    let mut world = World::new(&scenario, true);
    let outcome = judge(&scenario, &mut world);
    if let Some(capture) = world.capture() {
        capture.save(file)?;
    }
    Ok(outcome)
}

fn judge(scenario: &Scenario, world: &mut World) -> Outcome {
    // The world of a panic is looked at once more, for the time and the capture, and dropped.
    let played = catch_unwind(AssertUnwindSafe(|| world.play()));
    let what = match played {
        Ok(Ok(tally)) => return Ok(tally),
        Ok(Err(what)) => what,
        Err(panic) => format!("panic: {}", message(panic.as_ref())),
    };
    Err(Failure {
        what,
        at_micros: world.now().as_micros(),
        scenario: format!("{scenario:#?}"),
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

/// The seeds of a list: one a line, `#` begins a comment.
pub fn listed(text: &str) -> Vec<u64> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    lines.filter_map(|line| line.trim().parse().ok()).collect()
}
