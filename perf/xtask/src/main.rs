//! The project's own tasks: `cargo xtask setup | test | demo | e2e | bench | micro | …`.
//!
//! Everything that a person or the continuous integration types is here, in Rust, so that it is read, reviewed and
//! tested like the product. It builds without DPDK. It is not part of the product: nothing under
//! `dataplane/` or `control/` may name it.
#![forbid(unsafe_code)]

mod behaviours;
mod bench;
mod binaries;
mod demo;
mod docker_lint;
mod e2e;
mod forward_check;
mod fuzz;
mod interrupt;
mod machine;
mod micro;
mod paths;
mod process;
mod qnic;
mod script;
mod setup;
mod sim;
mod test;
mod versus;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The tasks of this project.
#[derive(Parser)]
#[command(name = "cargo xtask", about = "Millrace's own tasks", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the other tasks need: Debian packages, huge pages. Idempotent.
    Setup(setup::SetupArguments),
    /// Every check of the project, in order, with a summary.
    Test(test::TestArguments),
    /// Two web servers, Millrace before them, a client: watch it balance.
    Demo(demo::DemoArguments),
    /// End to end: kernel TCP on both sides, Millrace between, in network namespaces.
    E2e(e2e::E2eArguments),
    /// Millrace, `HAProxy` and testpmd's bare forward on the same wires, in one run.
    Bench(bench::BenchArguments),
    /// Millrace and the Linux kernel as senders, over the same emulated paths: quick looks.
    VersusLinux(versus::VersusArguments),
    /// Every mode of millrace-forward on every virtual device, a moment each.
    ForwardCheck(forward_check::ForwardCheckArguments),
    /// Instructions of the hot paths, counted under callgrind, against the baseline in the tree.
    Micro(micro::MicroArguments),
    /// Millrace on an emulated Intel card with four queues, in a QEMU guest.
    Qnic(qnic::QnicArguments),
    /// Rows of the reference's behaviour: held by a test, not applicable, open.
    Behaviours(behaviours::BehavioursArguments),
    /// The fuzz targets, some minutes each.
    Fuzz(fuzz::FuzzArguments),
    /// Play seeds of the simulator: bad networks, every byte and every segment checked.
    Sim(sim::SimArguments),
    /// Play packetdrill scripts against the stack, in virtual time.
    Script(script::ScriptArguments),
    /// Walk the tree: dependency arrows, unsafe, banned paths, lengths.
    Tidy,
    /// Check the container files without a container engine.
    DockerLint,
    /// Half of a bad wire: joins two taps with seeded faults (used by the end-to-end tests).
    #[command(hide = true)]
    Relay(e2e::relay::RelayArguments),
    /// A small TCP peer (used by the end-to-end tests).
    #[command(hide = true)]
    Peer(e2e::peers::half_close::PeerArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = interrupt::install() {
        eprintln!("xtask: cannot install the signal handlers: {error:#}");
        return ExitCode::FAILURE;
    }
    match run(arguments.task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one task; `false` means that it ran and found failures.
fn run(task: Task) -> Result<bool> {
    match task {
        Task::Setup(arguments) => setup::run(&arguments).map(|()| true),
        Task::Test(arguments) => test::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments).map(|()| true),
        Task::E2e(arguments) => e2e::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments).map(|()| true),
        Task::VersusLinux(arguments) => versus::run(&arguments).map(|()| true),
        Task::ForwardCheck(arguments) => forward_check::run(&arguments),
        Task::Micro(arguments) => micro::run(&arguments),
        Task::Qnic(arguments) => qnic::run(&arguments),
        Task::Behaviours(arguments) => behaviours::run(&arguments).map(|()| true),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Sim(arguments) => sim::run(&arguments),
        Task::Script(arguments) => script::run_all(&arguments),
        Task::Tidy => test::tidy::run(),
        Task::DockerLint => docker_lint::lint(),
        Task::Relay(arguments) => e2e::relay::run(&arguments).map(|()| true),
        Task::Peer(arguments) => e2e::peers::half_close::run(&arguments).map(|()| true),
    }
}
