//! The three binaries of the product, built for running: profile `e2e` of the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths;

/// Cargo's profile for what the demo, the end-to-end tests and the benchmark run.
pub(crate) const PROFILE: &str = "e2e";

/// Paths of the built binaries.
#[derive(Clone)]
pub(crate) struct Binaries {
    pub(crate) dataplane: PathBuf,
    pub(crate) control: PathBuf,
    pub(crate) cli: PathBuf,
}

/// Builds all three (cargo makes this quick when nothing changed) and says where they are.
pub(crate) fn build() -> Result<Binaries> {
    let status = Command::new(env!("CARGO"))
        .current_dir(paths::root())
        .args(["build", "--profile", PROFILE])
        .args([
            "-p",
            "millrace-worker",
            "-p",
            "millrace-daemon",
            "-p",
            "millrace-cli",
        ])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the binaries do not build ({status})");
    }
    Ok(Binaries::in_folder(&paths::target().join(PROFILE)))
}

impl Binaries {
    /// The three in a folder where somebody built them.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self {
            dataplane: folder.join("millrace-dataplane"),
            control: folder.join("millrace-control"),
            cli: folder.join("millrace"),
        }
    }
}
