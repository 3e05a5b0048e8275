//! tmp
use anyhow::Result;
#[derive(clap::Args)]
pub(crate) struct DemoArguments {}
pub(crate) fn run(_a: &DemoArguments) -> Result<()> {
    Ok(())
}
