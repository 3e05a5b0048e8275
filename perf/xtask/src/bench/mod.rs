//! `cargo xtask bench`: Millrace, `HAProxy` and testpmd's bare L2 forward on the same wires, in one run.
//!
//! All three use the same peers, the same cores and the same offload setting (off). testpmd terminates nothing: its
//! figures are the ceiling of the wires. Each result carries its command, the commit and the machine.

mod report;

use std::net::IpAddr;

use anyhow::{Context, Result};
use clap::Args;

use crate::e2e::bed::{Bed, Middle, Run, Wanted};
use crate::e2e::config_file::Device;
use crate::e2e::peers::wrk::{self, Options};
use crate::e2e::peers::{curl, iperf};
use crate::e2e::{plan, topology};
use crate::{binaries, interrupt, machine, paths, setup};
use report::Row;

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct BenchArguments {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// wrk's connections.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Only these, comma separated. The result files need all three and stay as they are.
    #[arg(long, value_delimiter = ',', value_parser = SUBJECTS)]
    only: Vec<String>,
}

/// Who sits in the middle, in the order of the table's columns.
const SUBJECTS: [&str; 3] = ["millrace", "haproxy", "testpmd"];

/// Runs the task with what the command line says.
pub(crate) fn run(arguments: &BenchArguments) -> Result<()> {
    setup::ensure()?;
    topology::sweep_stale()?;
    let chosen = |subject: &&str| {
        arguments.only.is_empty() || arguments.only.iter().any(|only| only == subject)
    };
    let subjects: Vec<&str> = SUBJECTS
        .into_iter()
        .filter(|subject| chosen(subject))
        .collect();
    let binaries = if subjects.contains(&"millrace") {
        Some(binaries::build()?)
    } else {
        None
    };
    // Facts are read before this process pins itself.
    let facts = machine::facts();
    let commit = machine::commit();
    machine::pin_peers()?;
    let logs = paths::below_target("bench-logs")?;
    let mut rows = Vec::new();
    for subject in subjects {
        interrupt::check()?;
        let middle = match (subject, &binaries) {
            ("millrace", Some(binaries)) => Middle::Millrace(binaries.clone()),
            ("haproxy", _) => Middle::Haproxy,
            _ => Middle::Testpmd,
        };
        let run = Run {
            middle,
            device: Device::AfPacket,
            lcores: 1,
            logs: logs.clone(),
            keep_logs: true,
        };
        let mut bed = Bed::make(&run, subject, &wanted()).with_context(|| subject.to_owned())?;
        for mut row in measure(&mut bed, subject, arguments).with_context(|| subject.to_owned())? {
            row.commit.clone_from(&commit);
            row.machine.clone_from(&facts);
            println!("{:<40} {:>12.2} {}", row.name, row.value, row.unit);
            rows.push(row);
        }
    }
    if arguments.only.is_empty() {
        report::write(&rows, arguments.seconds)?;
    }
    Ok(())
}

/// Good wires, and one server in each pool: a bare forward has only one, too.
fn wanted() -> Wanted {
    Wanted {
        change: |settings| {
            settings
                .services
                .iter_mut()
                .for_each(|service| service.servers = 1)
        },
        ..Wanted::default()
    }
}

/// What the client connects to: the VIP, or the server itself when nothing terminates.
fn target(subject: &str) -> IpAddr {
    if subject == "testpmd" {
        plan::SERVERS4[0]
    } else {
        IpAddr::V4(plan::VIP4)
    }
}

fn measure(bed: &mut Bed, subject: &str, arguments: &BenchArguments) -> Result<Vec<Row>> {
    let target = target(subject);
    let url = plan::url(target, "r");
    curl::fetch(bed.client(), &url)?;
    let mut rows = Vec::new();
    for (what, headers) in [
        ("requests_per_second", &[][..]),
        ("connections_per_second", &["Connection: close"][..]),
    ] {
        let BenchArguments {
            seconds,
            connections,
            ..
        } = *arguments;
        let load = wrk::run(
            bed.client(),
            &url,
            &Options {
                connections,
                seconds,
                headers,
            },
        )?;
        let mut row = Row::new(
            subject,
            what,
            load.requests_per_second,
            "1/s",
            &load.command,
        );
        row.errors = load.socket_errors + load.bad_answers;
        rows.push(row);
    }
    for (what, reverse) in [("bulk_up", false), ("bulk_down", true)] {
        let bulk = iperf::run(bed.client(), target, arguments.seconds, reverse)?;
        let gigabits = bulk.gigabits_per_second;
        rows.push(Row::new(subject, what, gigabits, "Gbit/s", &bulk.command));
    }
    bed.check_alive()?;
    Ok(rows)
}
