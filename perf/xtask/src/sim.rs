//! `cargo xtask sim`: builds the simulator with every assertion armed, and plays seeds.
//!
//! What a seed is and what is checked: `dataplane/sim`. `--fresh` begins where the clock says and
//! prints where that was; `--listed` plays those that failed once. A seed that fails is named with
//! how to play it again, and its packets are in `target/sim`.
//!
//! `--golden` computes the tables of `dataplane/sim/golden` and shows what is different from those
//! in the tree; `--bless` writes them.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::paths;

/// Arguments of `cargo xtask sim`.
#[derive(Clone, Copy, Args)]
pub(crate) struct SimArguments {
    /// How many seeds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Begin at a seed that the clock chooses, and say which.
    #[arg(long, conflicts_with = "first")]
    fresh: bool,
    /// Play this seed alone, and save its packets.
    #[arg(long, conflicts_with_all = ["seeds", "first", "fresh"])]
    replay: Option<u64>,
    /// Play the seeds that failed once (`dataplane/sim/seeds.txt`).
    #[arg(long, conflicts_with_all = ["seeds", "first", "fresh", "replay"])]
    listed: bool,
    /// Compute the golden tables and compare them with those in the tree.
    #[arg(long, conflicts_with_all = ["seeds", "first", "fresh", "replay", "listed"])]
    golden: bool,
    /// Write them instead (`dataplane/sim/golden`), to be reviewed as a diff.
    #[arg(long, requires = "golden")]
    bless: bool,
    /// Seeds or rows of a table at a time; as many as there are processors.
    #[arg(long)]
    jobs: Option<usize>,
}

/// Seeds that every run of the tests plays.
const CHECKED: u64 = 300;

/// Seeds that nobody has played before, those that failed once, and the golden tables;
/// whether all passed.
///
/// The clock chooses the fresh ones, and their numbers are printed: each run looks somewhere else,
/// and what it finds is found again by number.
pub(crate) fn check() -> Result<bool> {
    let fresh = SimArguments {
        seeds: CHECKED,
        first: 1,
        fresh: true,
        replay: None,
        listed: false,
        golden: false,
        bless: false,
        jobs: None,
    };
    let listed = SimArguments {
        listed: true,
        ..fresh
    };
    let golden = SimArguments {
        golden: true,
        fresh: false,
        ..fresh
    };
    // All, even if one has found something.
    let passed = [run(&fresh)?, run(&listed)?, run(&golden)?];
    Ok(passed.iter().all(|passed| *passed))
}

/// Plays; whether every seed passed, or every table is as it was.
pub(crate) fn run(arguments: &SimArguments) -> Result<bool> {
    build()?;
    let mut command = Command::new(paths::target().join("sim/millrace-sim"));
    command.arg("--captures").arg(paths::below_target("sim")?);
    if arguments.golden {
        let folder = paths::root().join("dataplane/sim/golden");
        command.arg("--golden").arg(folder);
        if arguments.bless {
            command.arg("--bless");
        }
    } else if let Some(seed) = arguments.replay {
        command.args(["--replay", &seed.to_string()]);
    } else if arguments.listed {
        let list = paths::root().join("dataplane/sim/seeds.txt");
        command.arg("--list").arg(list);
    } else {
        command.args(["--seeds", &arguments.seeds.to_string()]);
        if arguments.fresh {
            command.arg("--fresh");
        } else {
            command.args(["--first", &arguments.first.to_string()]);
        }
    }
    if let Some(jobs) = arguments.jobs {
        command.args(["--jobs", &jobs.to_string()]);
    }
    let status = command.status().context("cannot start the simulator")?;
    Ok(status.success())
}

fn build() -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "sim"])
        .args(["--package", "millrace-sim"])
        .current_dir(paths::root())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("dataplane/sim does not build ({status})");
    }
    Ok(())
}
