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
    let folder = build_packages(&["millrace-worker", "millrace-daemon", "millrace-cli"])?;
    Ok(Binaries::in_folder(&folder))
}

/// Builds the load generator, which is no part of the product, and says where it is.
pub(crate) fn build_load() -> Result<PathBuf> {
    Ok(build_packages(&["millrace-load"])?.join("millrace-load"))
}

fn build_packages(packages: &[&str]) -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .current_dir(paths::root())
        .args(["build", "--profile", PROFILE])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("{} does not build ({status})", packages.join(", "));
    }
    Ok(paths::target().join(PROFILE))
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
