//! Kernel peers on both sides, one subject after the other between them: same peers, same cores, same
//! offload setting (off).

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use millrace_report::{Row, Scenario, Work};

use super::Bench;
use crate::binaries::{self, Binaries};
use crate::e2e::bed::{Bed, Middle, Run, Wanted};
use crate::e2e::config_file::Device;
use crate::e2e::peers::wrk::{self, Options};
use crate::e2e::peers::{curl, iperf};
use crate::e2e::plan;
use crate::e2e::stand_in::StandIn;
use crate::{interrupt, machine, paths};

/// One scenario, opened.
struct Plan<'a> {
    scenario: &'a Scenario,
    device: Device,
    seconds: u32,
    connections: u32,
    /// When Millrace is among the subjects.
    binaries: Option<Binaries>,
}

/// Measures every subject of the scenario; one that does not come up is skipped.
pub(super) fn measure(bench: &mut Bench, scenario: &Scenario) -> Result<()> {
    let Work::Wires {
        device,
        subjects,
        seconds,
        connections,
    } = &scenario.work
    else {
        bail!("not a scenario with wires");
    };
    let plan = Plan {
        scenario,
        device: Device::from_str(device, false).map_err(anyhow::Error::msg)?,
        seconds: bench.seconds(*seconds),
        connections: *connections,
        // Before this process pins itself: a build wants every CPU.
        binaries: match subjects.iter().any(|subject| subject == "millrace") {
            true => Some(binaries::build()?),
            false => None,
        },
    };
    let _pinned = machine::PinnedPeers::pin()?;
    for subject in subjects {
        interrupt::check()?;
        if let Err(error) = measure_subject(bench, &plan, subject) {
            interrupt::check()?;
            bench.skip(format!("{}, {subject}", scenario.name), &error);
        }
    }
    Ok(())
}

fn measure_subject(bench: &mut Bench, plan: &Plan<'_>, subject: &str) -> Result<()> {
    let (middle, target) = match (stand_in(subject)?, &plan.binaries) {
        (Some(who), _) => (Middle::StandIn(who), target(who.terminates())),
        (None, Some(binaries)) => (Middle::Millrace(binaries.clone()), target(true)),
        (None, None) => bail!("Millrace is not built"),
    };
    let run = Run {
        middle,
        device: plan.device,
        lcores: 1,
        logs: paths::below_target("bench-logs")?,
        keep_logs: true,
    };
    let label = format!("{}-{subject}", plan.scenario.name);
    let mut bed = Bed::make(&run, &label, &wanted())?;
    let url = plan::url(target, "r");
    curl::fetch(bed.client(), &url)?;
    for (quantity, headers) in [
        ("requests, keep-alive", &[][..]),
        ("connections, one request each", &["Connection: close"][..]),
    ] {
        let options = Options {
            connections: plan.connections,
            seconds: plan.seconds,
            headers,
        };
        let load = wrk::run(bed.client(), &url, &options).context(quantity)?;
        let mut row = plan.row(subject, quantity, load.requests_per_second, "1/s");
        row.command = load.command;
        row.errors = load.socket_errors + load.bad_answers;
        bench.record(row);
    }
    for (quantity, reverse) in [
        ("bulk, client to server", false),
        ("bulk, server to client", true),
    ] {
        let bulk = transfer(&bed, target, plan.seconds, reverse).context(quantity)?;
        let mut row = plan.row(subject, quantity, bulk.gigabits_per_second, "Gbit/s");
        row.command = bulk.command;
        bench.record(row);
    }
    bed.check_alive()
}

/// One run of iperf3. Its server may still be busy with the end of the run before.
fn transfer(bed: &Bed, target: IpAddr, seconds: u32, reverse: bool) -> Result<iperf::Bulk> {
    /// Times to ask again, a second apart.
    const RETRIES: u32 = 10;
    let mut left = RETRIES;
    loop {
        match iperf::run(bed.client(), target, seconds, reverse) {
            Err(error) if left > 0 && error.to_string().contains("busy running") => left -= 1,
            outcome => return outcome,
        }
        interrupt::sleep(Duration::from_secs(1))?;
    }
}

impl Plan<'_> {
    fn row(&self, subject: &str, quantity: &str, value: f64, unit: &str) -> Row {
        Row {
            scenario: self.scenario.name.clone(),
            subject: subject.to_owned(),
            quantity: quantity.to_owned(),
            value,
            unit: unit.to_owned(),
            ..Row::default()
        }
    }
}

/// Who a scenario means; `None` is Millrace itself.
fn stand_in(subject: &str) -> Result<Option<StandIn>> {
    Ok(match subject {
        "millrace" => None,
        "haproxy" => Some(StandIn::Haproxy),
        "nginx" => Some(StandIn::NginxStream),
        "direct" => Some(StandIn::Direct),
        "testpmd" => Some(StandIn::Testpmd),
        other => bail!("nobody knows `{other}`: millrace haproxy nginx direct testpmd"),
    })
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
fn target(terminates: bool) -> IpAddr {
    if terminates {
        IpAddr::V4(plan::VIP4)
    } else {
        plan::SERVERS4[0]
    }
}
