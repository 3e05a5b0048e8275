//! `cargo xtask setup`: what the machine must have before anything else here can run.
//!
//! Installs Debian packages that are missing and reserves huge pages when the kernel lets us. It never starts a
//! service, never removes anything, and says loudly what it changed. When everything is there it only
//! looks, which takes a few milliseconds, so `test`, `demo`, `e2e` and `bench` call it first.

pub(crate) mod hugepages;
pub(crate) mod packages;

use anyhow::Result;
use clap::Args;

/// Arguments of `cargo xtask setup`.
#[derive(Args)]
pub(crate) struct SetupArguments {
    /// 2 MiB huge pages to reserve, at most. 0 leaves them as they are.
    #[arg(long, default_value_t = hugepages::PAGES_WANTED)]
    hugepages: u32,
}

/// Runs the task with what the command line says.
pub(crate) fn run(arguments: &SetupArguments) -> Result<()> {
    packages::install_missing()?;
    let pages = hugepages::reserve(arguments.hugepages);
    hugepages::mount();
    println!("setup: ready ({pages} huge pages of 2 MiB, the packages are there)");
    Ok(())
}

/// What the other tasks call first: the same, quiet when nothing is missing.
pub(crate) fn ensure() -> Result<()> {
    packages::install_missing()?;
    hugepages::reserve(hugepages::PAGES_WANTED);
    hugepages::mount();
    Ok(())
}
