//! `millrace-dataplane`: owns the cards, runs one packet loop per lcore, obeys control.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unreachable,
        clippy::float_arithmetic
    )
)]

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use millrace_abi::heap::SealableHeap;
use millrace_worker::{Args, Control, Dataplane, LogFormat, Signals};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static HEAP: SealableHeap = SealableHeap;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(problem) = args.check() {
        eprintln!("error: {problem}");
        return ExitCode::from(2);
    }
    if let Err(problem) = start_logging(&args) {
        eprintln!("error: --log-level: {problem}");
        return ExitCode::from(2);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let signals = Signals::install().context("taking over SIGTERM and SIGINT")?;
    let control = Control::default();
    let Dataplane {
        eal,
        ports,
        lcores,
        region,
        ..
    } = millrace_worker::boot(args, &control)?;
    let mut tasks = Vec::with_capacity(lcores.len());
    for (eal_lcore, lcore) in lcores {
        tasks.push(eal.launch(eal_lcore, move || lcore.run())?);
    }
    info!(lcores = tasks.len(), ports = ports.len(), "running");
    millrace_worker::until_shutdown(&signals, &control, &ports, &region, tasks.len());
    for task in tasks {
        task.join()
            .map_err(|_| anyhow!("an lcore's loop panicked"))?;
    }
    region.remove().context("removing the shared region")?;
    info!("stopped");
    Ok(())
}

fn start_logging(args: &Args) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(&args.log_level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match args.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
