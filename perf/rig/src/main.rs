//! `millrace-rig`: what one lcore spends, on devices in memory.
//!
//! The real lcore of `millrace-dataplane` and the stateless peers of `perf/load` in one process, joined by rings that pass
//! mbufs by pointer. Not here: throughput of real devices, latency of real wires (`cargo xtask bench` has those).
#![forbid(unsafe_code)]

mod apart;
mod args;
mod health;
mod meter;
mod nic;
mod plan;
mod report;
mod scenario;
mod stalls;
mod terminal;
mod world;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use millrace_abi::heap::SealableHeap;

use crate::args::{Args, Scenario};

#[global_allocator]
static HEAP: SealableHeap = SealableHeap;

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.scenarios.is_empty() {
        args.scenarios = Scenario::value_variants().to_vec();
    }
    let outcome = match args.scenarios.as_slice() {
        [scenario] => run(*scenario, &args),
        scenarios => run_each(scenarios),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("millrace-rig: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one scenario and tells whether its numbers count.
fn run(scenario: Scenario, args: &Args) -> Result<bool> {
    let outcome = scenario::run(scenario, args)?;
    if args.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        print!("{outcome}");
    }
    Ok(outcome.counts())
}

/// Runs each scenario in a process of its own: EAL starts once in a process, and memory is measured per process.
fn run_each(scenarios: &[Scenario]) -> Result<bool> {
    let program = std::env::current_exe().context("finding this program")?;
    let names: Vec<String> = Scenario::value_variants().iter().map(name_of).collect();
    let mut all_count = true;
    for scenario in scenarios {
        let options = std::env::args()
            .skip(1)
            .filter(|word| !names.contains(word));
        let status = Command::new(&program)
            .arg(name_of(scenario))
            .args(options)
            .status()
            .with_context(|| program.display().to_string())?;
        all_count &= status.success();
    }
    Ok(all_count)
}

fn name_of(scenario: &Scenario) -> String {
    let value = scenario.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
