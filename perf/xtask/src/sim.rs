//! `cargo xtask sim`: builds the simulator with every assertion armed, and runs it.
//!
//! What a seed is, what is checked and which arguments there are: `dataplane/sim`, or
//! `cargo xtask sim --help`. A seed that fails is named with how to play it again, and its packets
//! are in `target/sim`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::paths;

/// Arguments of `cargo xtask sim`: those of the simulator.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct SimArguments {
    /// See `cargo xtask sim --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Seeds that nobody has played before, those that failed once, and the golden tables;
/// whether all passed.
///
/// The clock chooses the fresh ones, and their numbers are printed: each run looks somewhere else,
/// and what it finds is found again by number.
pub(crate) fn check() -> Result<bool> {
    // All, even if one has found something.
    let passed = [
        play(&["--fresh"])?,
        play(&["--listed"])?,
        play(&["--golden"])?,
    ];
    Ok(passed.iter().all(|passed| *passed))
}

/// Plays; whether every seed passed, or every table is as it was.
pub(crate) fn run(arguments: &SimArguments) -> Result<bool> {
    play(&arguments.arguments)
}

fn play(arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<bool> {
    build()?;
    let status = Command::new(paths::target().join("sim/millrace-sim"))
        .arg("--captures")
        .arg(paths::below_target("sim")?)
        .args(arguments)
        .current_dir(paths::root())
        .status()
        .context("cannot start the simulator")?;
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
