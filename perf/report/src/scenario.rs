//! Scenario files: `perf/scenarios/NAME.toml`, in the order of their names.
//!
//! A file says what is measured, for how long, and which figures the project promised itself. Keys
//! that nobody knows are mistakes.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// One file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The stem of the file's name; `--only` takes it without the leading number.
    #[serde(skip)]
    pub name: String,
    /// Heading of its part of the page.
    pub title: String,
    /// What a reader must know to read the figures.
    pub about: String,
    /// What is run.
    pub work: Work,
    /// Figures to reach.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// Why some are not reached. Shown while they are missed, and only then.
    #[serde(default)]
    pub shortfalls: Vec<Shortfall>,
}

/// What is run, and its knobs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Work {
    /// Kernel peers on both sides, one subject after the other between them.
    Wires {
        /// Device of the DPDK programs: `af_packet`, `af_xdp`, `tap`.
        device: String,
        /// Who sits in the middle: `millrace`, `haproxy`, `nginx`, `direct`, `testpmd`.
        subjects: Vec<String>,
        /// Seconds of each measurement.
        seconds: u32,
        /// wrk's connections.
        connections: u32,
    },
    /// `millrace-forward` and `dpdk-testpmd` in turn on the same device.
    Forward {
        /// `null`, `ring`, `pcap`.
        devices: Vec<String>,
        /// Forwarding modes that both know.
        modes: Vec<String>,
        /// Alternating pairs of runs.
        pairs: u32,
        /// Seconds of each run.
        seconds: f64,
    },
    /// Millrace and the Linux kernel send to the same receiver over the same emulated paths.
    VersusLinux(SendersMatrix),
    /// Instruction counts of the hot paths.
    Micro,
    /// A program of this workspace that prints its figures as JSON lines: `{"subject", "quantity",
    /// "value", "unit"}`, with `"errors"` if it likes, or an outcome as `millrace-rig` has them.
    Program {
        /// The package.
        package: String,
        /// The binary.
        binary: String,
        /// One run for each: its arguments.
        runs: Vec<Vec<String>>,
        /// Seconds after which one run is given up.
        limit_seconds: u64,
        /// How often each is run (1..). The figures are those of the run that spent the fewest cycles: what else
        /// happens on the machine only adds. The spread tells of all of them, and so do the errors.
        #[serde(default = "once")]
        repeat: u32,
    },
}

/// Which transfers of two senders are compared, over which paths.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendersMatrix {
    /// Congestion control of both: `reno`, `cubic`, `bbr`.
    pub algorithms: Vec<String>,
    /// Milliseconds of the shortest round trip.
    pub rtt_ms: Vec<f64>,
    /// Per cent of the data segments that are lost.
    pub loss_percent: Vec<f64>,
    /// Mebibytes of each transfer.
    pub mebibytes: u64,
    /// Runs of each cell for each sender.
    pub runs: u32,
    /// Megabits a second of every flow's link.
    pub link_mbit: u64,
    /// Megabits a second that all flows may be expected to take together.
    pub budget_mbit: u64,
    /// Minutes after which what is not over is given up.
    pub limit_minutes: u64,
}

fn once() -> u32 {
    1
}

/// A figure to reach.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `SUBJECT/QUANTITY`.
    pub row: String,
    /// The figure must be this or more.
    pub at_least: Option<f64>,
    /// The figure must be this or less.
    pub at_most: Option<f64>,
    /// The promise, in the words it was made in.
    pub says: String,
}

/// Why a target is missed: a judgement, to stand beside the profile that the run measured.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shortfall {
    /// `SUBJECT/QUANTITY`, as the target has it.
    pub row: String,
    /// Why the figure is what it is.
    pub why: String,
    /// What would reach the target.
    pub would: String,
}

/// Reads every scenario of a folder, in the order of the files' names.
pub fn read_scenarios(folder: &Path) -> Result<Vec<Scenario>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            files.push(path);
        }
    }
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        parse(&stem, &text).with_context(|| path.display().to_string())
    };
    files.iter().map(read).collect()
}

fn parse(name: &str, text: &str) -> Result<Scenario> {
    let mut scenario: Scenario = toml::from_str(text)?;
    scenario.name = name
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '-')
        .to_owned();
    for target in &scenario.targets {
        if target.at_least.is_some() == target.at_most.is_some() {
            bail!(
                "target {}: it needs at_least or at_most, one of them",
                target.row
            );
        }
    }
    for (index, shortfall) in scenario.shortfalls.iter().enumerate() {
        let Shortfall { row, why, would } = shortfall;
        if why.trim().is_empty() || would.trim().is_empty() {
            bail!("shortfall {row}: it needs words: why, and what would");
        }
        let mut earlier = scenario.shortfalls.iter().take(index);
        if earlier.any(|earlier| earlier.row == *row) {
            bail!("shortfall {row}: it is explained twice");
        }
    }
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_tree_is_read_in_the_order_of_its_number() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let scenarios = read_scenarios(&folder).expect("valid files");
        let numbered = |name: &str| scenarios.iter().any(|scenario| scenario.name == name);
        assert!(numbered("forward") && numbered("micro"));
        let mut names: Vec<_> = scenarios.iter().map(|s| s.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), scenarios.len(), "names are unique");
    }

    #[test]
    fn a_key_that_nobody_knows_and_a_target_without_a_bound_are_mistakes() {
        let text = "title = 't'\nabout = 'a'\nwork = { kind = 'micro' }\n";
        assert_eq!(parse("10-micro", text).expect("valid").name, "micro");
        assert!(parse("x", &format!("{text}colour = 1\n")).is_err());
        let target = "[[targets]]\nrow = 'a/b'\nsays = 'fast'\n";
        assert!(parse("x", &format!("{text}{target}")).is_err());
    }

    #[test]
    fn a_shortfall_says_why_and_what_would_and_says_it_once() {
        let text = "title = 't'\nabout = 'a'\nwork = { kind = 'micro' }\n";
        let shortfall = "[[shortfalls]]\nrow = 'a/b'\nwhy = 'slow'\nwould = 'haste'\n";
        let scenario = parse("x", &format!("{text}{shortfall}")).expect("valid");
        assert_eq!(scenario.shortfalls.len(), 1);
        assert!(parse("x", &format!("{text}{shortfall}{shortfall}")).is_err());
        let silent = shortfall.replace("slow", " ");
        assert!(parse("x", &format!("{text}{silent}")).is_err());
    }
}
