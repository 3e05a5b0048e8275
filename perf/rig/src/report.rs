//! What a scenario found: for people a table, for programs JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::meter::Cost;

/// The clock rate that rates are told for, so that they can be compared between machines.
const REFERENCE_HERTZ: f64 = 2.6e9;

/// A bound that the mission sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Target {
    /// What is bounded: the name of one of the values, or `cycles`.
    pub(crate) what: &'static str,
    /// The bound.
    pub(crate) bound: f64,
    /// Whether the value must be at least the bound; otherwise at most.
    pub(crate) at_least: bool,
}

/// A part of a turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Share {
    /// Its name.
    pub(crate) name: &'static str,
    /// Cycles per operation.
    pub(crate) value: f64,
}

/// What a scenario found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// The scenario and its variant, in a few words that stay the same: targets and explanations name them.
    pub(crate) scenario: String,
    /// What an operation is.
    pub(crate) operation: &'static str,
    /// Cycles of the lcore per operation.
    pub(crate) cycles: Cost,
    /// Where they go, sampled.
    pub(crate) stages: Vec<Share>,
    /// Operations per second of one lcore that runs at 2.6 GHz and does nothing else, from the median.
    pub(crate) per_second: f64,
    /// Frames that the lcore received and sent for an operation.
    pub(crate) frames_per_operation: f64,
    /// Frames that one busy turn of an lcore received and sent.
    pub(crate) frames_per_turn: f64,
    /// Further numbers by name.
    pub(crate) values: BTreeMap<&'static str, f64>,
    /// The mission's bounds.
    pub(crate) targets: Vec<Target>,
    /// Payload bytes that the CPU copied.
    pub(crate) copied_bytes: u64,
    /// Heap allocations on the packet path.
    pub(crate) heap_allocations: u64,
    /// What must not happen in a run that counts, and did.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Outcome {
    /// An outcome with the numbers that every scenario has.
    pub(crate) fn new(scenario: impl Into<String>, operation: &'static str, cycles: Cost) -> Self {
        Self {
            scenario: scenario.into(),
            operation,
            cycles,
            stages: Vec::new(),
            per_second: REFERENCE_HERTZ / cycles.p50.max(1.0),
            frames_per_operation: 0.0,
            frames_per_turn: 0.0,
            values: BTreeMap::new(),
            targets: Vec::new(),
            copied_bytes: 0,
            heap_allocations: 0,
            errors: BTreeMap::new(),
        }
    }

    /// Adds a bound that is met from below.
    pub(crate) fn at_most(mut self, what: &'static str, bound: f64) -> Self {
        self.targets.push(Target {
            what,
            bound,
            at_least: false,
        });
        self
    }

    /// Adds a bound that is met from above.
    pub(crate) fn at_least(mut self, what: &'static str, bound: f64) -> Self {
        self.targets.push(Target {
            what,
            bound,
            at_least: true,
        });
        self
    }

    /// Adds a number.
    pub(crate) fn value(mut self, name: &'static str, value: f64) -> Self {
        self.values.insert(name, value);
        self
    }

    /// Adds where the cycles went: names and cycles per operation. What cost nothing is left out.
    pub(crate) fn stages(mut self, stages: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        let shares = stages
            .into_iter()
            .map(|(name, value)| Share { name, value });
        self.stages = shares.filter(|share| share.value > 0.0).collect();
        self
    }

    /// Whether nothing went wrong, so that the numbers count.
    pub(crate) fn counts(&self) -> bool {
        self.errors.is_empty() && self.copied_bytes == 0 && self.heap_allocations == 0
    }

    fn found(&self, what: &str) -> Option<f64> {
        match what {
            "cycles" => Some(self.cycles.p50),
            _ => self.values.get(what).copied(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost {
            mean,
            p50,
            min,
            operations,
            chunks,
            interrupted,
        } = self.cycles;
        writeln!(f, "{}", self.scenario)?;
        writeln!(
            f,
            "  cycles per {:18} p50 {p50:9.0}   mean {mean:9.0}   min {min:9.0}",
            self.operation
        )?;
        writeln!(
            f,
            "  over {operations}, in {chunks} undisturbed chunks; {interrupted} were interrupted"
        )?;
        writeln!(
            f,
            "  at 2.6 GHz {:13.0} a second   {:.2} frames each, {:.1} frames a turn",
            self.per_second, self.frames_per_operation, self.frames_per_turn
        )?;
        for Share { name, value } in &self.stages {
            writeln!(f, "    of which {name:21} {value:10.0}")?;
        }
        for (name, value) in &self.values {
            writeln!(f, "  {name:28} {value:14.3}")?;
        }
        for target in &self.targets {
            let found = self.found(target.what).unwrap_or(f64::NAN);
            let is_met = if target.at_least {
                found >= target.bound
            } else {
                found <= target.bound
            };
            let (sign, verdict) = (
                if target.at_least { ">=" } else { "<=" },
                if is_met { "met" } else { "NOT MET" },
            );
            writeln!(
                f,
                "  target {} {sign} {}: {verdict}",
                target.what, target.bound
            )?;
        }
        writeln!(
            f,
            "  copied payload bytes {}, heap allocations {}, errors {}",
            self.copied_bytes,
            self.heap_allocations,
            self.errors.values().sum::<u64>()
        )?;
        for (name, count) in &self.errors {
            writeln!(f, "    {name}: {count}")?;
        }
        Ok(())
    }
}
