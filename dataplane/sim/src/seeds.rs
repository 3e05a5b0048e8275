//! Playing one seed: the verdict, and a capture of one that failed.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;

use crate::scenario::Scenario;
use crate::world::{Tally, World};

/// The newest edition of what seeds mean.
pub const EDITION: u8 = 2;

/// A number, and by which edition it means something: "28285.1". Without edition it is one of the
/// newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed {
    /// The number.
    pub number: u64,
    /// 1..=`EDITION`.
    pub edition: u8,
}

impl Seed {
    /// A seed of the newest edition.
    pub const fn newest(number: u64) -> Self {
        Self {
            number,
            edition: EDITION,
        }
    }

    /// Whether somebody lies in it.
    pub fn is_hostile(self) -> bool {
        Scenario::of_seed(self).is_hostile()
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.edition)
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, edition) = match text.split_once('.') {
            Some((number, edition)) => (number, edition.parse().ok()),
            None => (text, Some(EDITION)),
        };
        let edition = edition.filter(|edition| (1..=EDITION).contains(edition));
        match (number.parse(), edition) {
            (Ok(number), Some(edition)) => Ok(Self { number, edition }),
            _ => Err(format!("{text} is no seed, as 28285.1 is one")),
        }
    }
}

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
pub fn play(seed: Seed) -> Outcome {
    let scenario = Scenario::of_seed(seed);
    let mut world = World::new(&scenario, false);
    judge(&scenario, &mut world)
}

/// Plays a seed once more, and saves what passed the servers' network card.
pub fn record(seed: Seed, file: &Path) -> std::io::Result<Outcome> {
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

/// The seeds of a list: one a line, `#` begins a comment. Fails with what is no seed.
pub fn listed(text: &str) -> Result<Vec<Seed>, String> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(str::parse)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_as_it_is_written_and_names_its_edition() {
        let first = Seed {
            number: 28_285,
            edition: 1,
        };
        assert_eq!("28285.1".parse(), Ok(first));
        assert_eq!(first.to_string(), "28285.1");
        assert_eq!("7".parse(), Ok(Seed::newest(7)));
        let listing = listed("# nothing\n28285.1 # why\n\n7");
        assert_eq!(listing, Ok(vec![first, Seed::newest(7)]));
        for wrong in ["", "x", "1.0", "1.", "1.3", "-1"] {
            assert!(wrong.parse::<Seed>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_second_edition_has_what_the_first_has_not() {
        let scenario =
            |number, edition| format!("{:?}", Scenario::of_seed(Seed { number, edition }));
        for [what, none] in [["mangling: Some", "mangling: None"], ["MarkLies", "Lie"]] {
            let has = |edition| (0..400).any(|number| scenario(number, edition).contains(what));
            assert!(has(2) && !has(1), "{what}");
            assert!(
                (0..400).any(|number| scenario(number, 2).contains(none)),
                "{none}"
            );
        }
    }
}
