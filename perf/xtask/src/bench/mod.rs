//! tmp
use anyhow::Result;
#[derive(clap::Args)]
pub(crate) struct BenchArguments {}
pub(crate) fn run(_a: &BenchArguments) -> Result<()> {
    Ok(())
}
