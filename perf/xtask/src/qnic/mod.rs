//! `cargo xtask qnic`: Millrace on an emulated Intel 82576 (igb), four lcores, four hardware queues, in a QEMU guest.
//!
//! ```text
//!  client namespace        lb namespace: QEMU                               servers namespace
//!  curl ── tap or trunk ── [igb front │ millrace-dataplane, 4 lcores │ igb back] ── tap or trunk ── nginx
//! ```
//! The guest is a stock Debian kernel, never installed here, and a file system in memory with our binaries. Its CPU is
//! emulated too (TCG), so it needs no KVM, no IOMMU and no huge page of this machine. Times in it mean nothing; what the
//! card's offloads do to frames means a lot.
//!
//! | room | what it is |
//! |---|---|
//! | `tools` | QEMU, busybox and the kernel, fetched; or the reason why not |
//! | `image`, `libraries` | the guest's file system |
//! | `machine` | QEMU's arguments |
//! | `guest` | a running guest and its shell |
//! | `settings` | the configuration file in the guest |
//! | `card` | what the dataplane says about its ports |
//! | `bed` | wires, servers and the guest, up and ready |
//! | `claims` | what is checked |

mod bed;
mod card;
mod claims;
mod guest;
mod image;
mod libraries;
mod machine;
mod settings;
mod tools;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::binaries::{self, Binaries};
use crate::e2e::{Tally, topology};
use crate::{interrupt, paths, setup};
use bed::Wires;
use guest::NotBooted;
use tools::Tools;

/// How often a guest is started at most, when it does not boot or QEMU does not survive it.
const STARTS_MAX: u32 = 3;

/// Arguments of `cargo xtask qnic`.
#[derive(Args)]
pub(crate) struct QnicArguments {
    /// Run the binaries of this folder instead of building them.
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Keep the logs of a run that passed, too.
    #[arg(long)]
    keep_logs: bool,
}

/// How the stage ended.
pub(crate) enum Ended {
    Ran(Tally),
    /// With the reason.
    Skipped(String),
}

/// Runs the task with what the command line says; `false` when a claim did not hold.
pub(crate) fn run(arguments: &QnicArguments) -> Result<bool> {
    match stage(arguments)? {
        Ended::Ran(tally) => {
            println!("qnic: {tally}");
            Ok(tally.failed == 0)
        }
        Ended::Skipped(why) => {
            println!("qnic: SKIPPED, nothing was checked on the emulated Intel card: {why}");
            Ok(true)
        }
    }
}

/// The whole stage, for `cargo xtask test`.
pub(crate) fn run_all() -> Result<Ended> {
    stage(&QnicArguments {
        binaries: None,
        keep_logs: false,
    })
}

fn stage(arguments: &QnicArguments) -> Result<Ended> {
    let folder = paths::below_target("qnic")?;
    let tools = match tools::ready(&folder)? {
        Ok(tools) => tools,
        Err(missing) => return Ok(Ended::Skipped(missing)),
    };
    setup::ensure()?;
    topology::sweep_stale()?;
    let binaries = match &arguments.binaries {
        Some(folder) => Binaries::in_folder(folder),
        None => binaries::build()?,
    };
    let initrd = folder.join("guest.cpio");
    image::guest(&tools, &binaries)?.write_file(&initrd)?;
    let mut tally = Tally::default();
    for wires in [Wires::Plain, Wires::Trunks] {
        let start = Instant::now();
        let logs = paths::below_target("qnic-logs")?.join(wires.name());
        let mut bed = match bed_of(wires, &tools, &initrd, &logs) {
            Ok(bed) => bed,
            Err(error) => {
                println!("FAIL {}: no guest: {error:#}", wires.name());
                tally.failed += 1;
                // The next guest would not come up either, and take minutes to say so.
                break;
            }
        };
        println!(
            "     {}: up after {:.1} s",
            wires.name(),
            start.elapsed().as_secs_f32()
        );
        let failed_before = tally.failed;
        for claim in claims::of(wires) {
            check(&mut bed, claim, &mut tally)?;
        }
        if tally.failed > failed_before || arguments.keep_logs {
            bed.save_logs(&logs);
        }
    }
    Ok(Ended::Ran(tally))
}

/// A guest that is up. Two things say nothing about Millrace and are tried again, each time with a line that tells so: a
/// guest whose kernel does not come up, which on a machine that is short of CPU can happen, and a QEMU that ends in a failed
/// assertion of its own (`iotlb_to_section`), as parallel emulation of CPUs beside an IOMMU now and then does.
fn bed_of(wires: Wires, tools: &Tools, initrd: &Path, logs: &Path) -> Result<bed::Bed> {
    let mut start = 1;
    loop {
        let error = match bed::Bed::make(wires, tools, initrd, logs) {
            Ok(bed) => return Ok(bed),
            Err(error) => error,
        };
        let is_ours = !error.is::<NotBooted>() && !is_fault_of_qemu(logs);
        if is_ours || start == STARTS_MAX {
            return Err(error);
        }
        interrupt::check()?;
        let name = wires.name();
        println!("AGAIN {name}: start {start} of {STARTS_MAX}, no guest: {error:#}");
        start += 1;
    }
}

fn is_fault_of_qemu(logs: &Path) -> bool {
    let said = std::fs::read_to_string(logs.join("qemu.log")).unwrap_or_default();
    said.contains("iotlb_to_section: Assertion")
}

fn check(bed: &mut bed::Bed, claim: &claims::Claim, tally: &mut Tally) -> Result<()> {
    let start = Instant::now();
    let outcome = (claim.test)(bed);
    let (seconds, wires) = (start.elapsed().as_secs_f32(), bed.wires.name());
    match outcome {
        Ok(detail) => {
            println!("PASS {} [{wires}] ({seconds:.1} s) {detail}", claim.name);
            tally.passed += 1;
        }
        Err(error) => {
            println!("FAIL {} [{wires}] ({seconds:.1} s): {error:#}", claim.name);
            tally.failed += 1;
        }
    }
    interrupt::check()
}
