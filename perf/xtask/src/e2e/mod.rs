//! `cargo xtask e2e`: kernel TCP on both sides, Millrace between, through real DPDK devices.
//!
//! | room | what it is |
//! |---|---|
//! | `plan` | every address and name of the test network |
//! | `topology`, `relay` | namespaces and wires, good and bad ones |
//! | `config_file`, `appliance`, `stand_in` | what sits in the middle |
//! | `peers`, `data` | what sits at the ends, and what they send |
//! | `capture`, `frames` | frames read, frames made |
//! | `bed` | all of that, up and ready |
//! | `cases` | one claim per file |
//!
//! Cases run one after the other, each on a fresh bed. None asserts a speed.

pub(crate) mod appliance;
pub(crate) mod bed;
mod capture;
mod cases;
pub(crate) mod config_file;
pub(crate) mod data;
pub(crate) mod frames;
pub(crate) mod peers;
pub(crate) mod plan;
pub(crate) mod relay;
pub(crate) mod stand_in;
pub(crate) mod topology;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::binaries::Binaries;
use crate::interrupt;
use crate::machine;
use crate::paths;
use crate::{binaries, setup};
use bed::{Bed, Middle, Run, Wanted};
use config_file::Device;
use stand_in::StandIn;

/// Arguments of `cargo xtask e2e`.
#[derive(Args)]
pub(crate) struct E2eArguments {
    /// Only cases whose name contains this.
    filter: Option<String>,
    /// Only on this device; without it, each case runs on the devices it is meant for.
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Lcores of Millrace, each on a CPU of its own; without it, one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    lcores: u8,
    /// Show the cases and stop.
    #[arg(long)]
    list: bool,
    /// Keep the logs of cases that passed, too.
    #[arg(long)]
    keep_logs: bool,
    /// Run the binaries of this folder instead of building them.
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// What to put in the middle.
    #[arg(long, value_enum, default_value = "millrace")]
    dut: Dut,
}

/// What sits between the client and the servers.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dut {
    Millrace,
    /// Proves the harness: cases that need Millrace itself are skipped.
    Haproxy,
}

/// A claim and how to test it.
pub(crate) struct Case {
    /// The claim.
    pub(crate) name: &'static str,
    /// Devices it runs on when none is asked for.
    pub(crate) devices: &'static [Device],
    /// Whether it needs Millrace's own processes (and not any TCP proxy).
    pub(crate) needs_millrace: bool,
    /// The bed it wants.
    pub(crate) wanted: fn() -> Wanted,
    /// The test. What it returns is printed beside its name.
    pub(crate) test: fn(&mut Bed) -> Result<String>,
}

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Runs the task with what the command line says.
pub(crate) fn run(arguments: &E2eArguments) -> Result<bool> {
    let tally = run_counted(arguments)?;
    if !arguments.list {
        println!("{tally}");
    }
    Ok(tally.failed == 0)
}

/// All cases on all their devices with this many lcores, for `cargo xtask test`.
pub(crate) fn run_all(lcores: u8) -> Result<Tally> {
    run_counted(&E2eArguments {
        filter: None,
        device: None,
        lcores,
        list: false,
        keep_logs: false,
        binaries: None,
        dut: Dut::Millrace,
    })
}

fn run_counted(arguments: &E2eArguments) -> Result<Tally> {
    let mut tally = Tally::default();
    let jobs = jobs(arguments);
    if arguments.list {
        for (case, device) in jobs {
            println!("{} [{}]", case.name, device.name());
        }
        return Ok(tally);
    }
    if jobs.is_empty() {
        anyhow::bail!("no case matches; `cargo xtask e2e --list` shows all");
    }
    setup::ensure()?;
    topology::sweep_stale()?;
    let middle = match arguments.dut {
        Dut::Millrace => Middle::Millrace(match &arguments.binaries {
            Some(folder) => Binaries::in_folder(folder),
            None => binaries::build()?,
        }),
        Dut::Haproxy => Middle::StandIn(StandIn::Haproxy),
    };
    let logs = paths::below_target("e2e-logs")?;
    let mut run = Run {
        middle,
        device: Device::AfPacket,
        lcores: usize::from(arguments.lcores),
        logs,
        keep_logs: arguments.keep_logs,
    };
    for (case, device) in jobs {
        run.device = device;
        let label = label(case, &run);
        if let Some(reason) = reason_to_skip(case, &run, arguments.dut) {
            println!("SKIP {label}: {reason}");
            tally.skipped += 1;
            continue;
        }
        let start = Instant::now();
        let outcome = run_case(&run, case);
        let seconds = start.elapsed().as_secs_f32();
        match outcome {
            Ok(detail) => {
                println!("PASS {label} ({seconds:.1} s) {detail}");
                tally.passed += 1;
            }
            Err(error) => {
                println!("FAIL {label} ({seconds:.1} s): {error:#}");
                tally.failed += 1;
            }
        }
        interrupt::check()?;
    }
    Ok(tally)
}

/// A case's name with what it runs on.
fn label(case: &Case, run: &Run) -> String {
    let device = run.device.name();
    match run.lcores {
        1 => format!("{} [{device}]", case.name),
        lcores => format!("{} [{device}, {lcores} lcores]", case.name),
    }
}

fn reason_to_skip(case: &Case, run: &Run, dut: Dut) -> Option<String> {
    if case.needs_millrace && dut != Dut::Millrace {
        return Some("needs Millrace itself".to_owned());
    }
    if let Some(obstacle) = ((case.wanted)().obstacle)() {
        return Some(obstacle.to_owned());
    }
    let queues = run.device.queues_max();
    if run.lcores > queues {
        return Some(format!(
            "the device has {queues} queue on this wire, {} lcores need as many",
            run.lcores
        ));
    }
    let cpus = machine::cpus();
    (run.lcores > cpus).then(|| format!("{} lcores need more than {cpus} CPUs", run.lcores))
}

/// Which case on which device, in order.
fn jobs(arguments: &E2eArguments) -> Vec<(&'static Case, Device)> {
    let wanted = |case: &Case| {
        arguments
            .filter
            .as_ref()
            .is_none_or(|part| case.name.contains(part))
    };
    let mut jobs = Vec::new();
    for case in cases::ALL.iter().filter(|case| wanted(case)) {
        match arguments.device {
            Some(device) if case.devices.contains(&device) => jobs.push((*case, device)),
            // A device asked for by name also runs cases that are not its usual ones, unless they need other wires.
            Some(_) => {}
            None => jobs.extend(case.devices.iter().map(|device| (*case, *device))),
        }
    }
    // All cases of one device together, in the order of the devices.
    jobs.sort_by_key(|(_, device)| *device as u8);
    jobs
}

fn run_case(run: &Run, case: &Case) -> Result<String> {
    let mut bed = Bed::make(
        run,
        &format!("{}-{}-{}", case.name, run.device.name(), run.lcores),
        &(case.wanted)(),
    )?;
    let outcome = (case.test)(&mut bed).and_then(|detail| {
        bed.check_aftermath()?;
        Ok(detail)
    });
    if outcome.is_err() {
        bed.save_logs();
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_prints_the_line_that_runners_look_for() {
        let tally = Tally {
            passed: 3,
            failed: 1,
            skipped: 2,
        };
        assert_eq!(tally.to_string(), "3 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_device() {
        let mut names: Vec<&str> = cases::ALL.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases::ALL.len());
        assert!(cases::ALL.iter().all(|case| !case.devices.is_empty()));
    }
}
