//! Sessions that are open and say nothing, many of them, while a few wake up.

use anyhow::{Result, bail};
use millrace_abi::plan::{Demand, Plan};
use millrace_base::Nanos;
use millrace_load::light::Heard;

use super::memory;
use super::sessions::{Bench, open_script};
use crate::args::Args;
use crate::meter::{Cost, Meter, Stages};
use crate::plan;
use crate::report::Outcome;
use crate::world::mbuf_bytes;

/// Sessions that wake up in a second.
const WAKES_PER_SECOND: u32 = 1_000;
const WAKE_INTERVAL: Nanos = Nanos::from_micros(1_000_000 / WAKES_PER_SECOND as u64);
/// Parts of the opening that are compared: ten million in tenths are millions.
const PARTS: u32 = 10;
/// Rounds that one wake may take.
const ROUNDS_PER_WAKE_MAX: u32 = 1_000;

/// Opens `--connections` sessions, keeps them, wakes some.
pub(super) fn run(args: &Args) -> Result<Outcome> {
    let sessions = args.connections.max(PARTS);
    let mut setup = args.setup();
    let demand = Demand {
        sessions: sessions.into(),
        lcores: setup.lcores.into(),
        ports: 2,
        backends: plan::BACKENDS.into(),
        mbufs: Some(setup.mbufs.into()),
        mbuf_bytes: mbuf_bytes(&setup),
    };
    // What `millrace plan` says, and a little for few sessions, which a hash spreads less evenly.
    setup.connections_max = u32::try_from(Plan::of(&demand).connections_max)? + 1_024;
    let mut bench = Bench::with(args, setup, open_script(args))?;
    bench.begin();
    let booted = memory::resident_bytes()?;
    // What the generator must remember of a session to wake it: four bytes, which count like all others.
    let mut next = vec![0; sessions as usize];
    let mut costs = Vec::new();
    for part in 0..PARTS {
        let first = part * (sessions / PARTS);
        bench.world.restart_meter();
        bench.open_range(first..first + sessions / PARTS, |heard| {
            if let Heard::Established { index, next: from } = heard {
                next[index as usize] = from;
            }
        })?;
        costs.push(bench.world.meter.cost());
    }
    let sessions = sessions / PARTS * PARTS;
    let open = memory::resident_bytes()?;
    let wake = wake_some(&mut bench, args, &next, sessions)?;
    let active: u64 = bench
        .world
        .lcores
        .iter()
        .map(|lcore| lcore.balancer().counters().sessions_active)
        .sum();
    let (first, last) = (costs[0], costs[costs.len() - 1]);
    let each = |bytes: u64| bytes as f64 / f64::from(sessions);
    let mut outcome = Outcome::new(
        args.named(&format!("idle, {sessions} sessions")),
        "opening",
        all(&costs),
    )
    .stages(bench.world.by_stage())
    .value("sessions open at the end", active as f64)
    .value("bytes per session", each(open))
    .value(
        "bytes per session, boot left out",
        each(open.saturating_sub(booted)),
    )
    .value("last opening against first", last.p50 / first.p50.max(1.0))
    .value("cycles of an opening, first tenth", first.p50)
    .value("cycles of an opening, last tenth", last.p50)
    .value("wakes answered", wake.operations as f64)
    .value("cycles of a wake", wake.p50)
    .at_most("bytes per session", 1_000.0)
    .at_most("last opening against first", 1.1)
    .at_least("sessions open at the end", f64::from(sessions))
    .at_least("wakes answered", f64::from(args.wakes.min(sessions)));
    if wake.operations != u64::from(args.wakes.min(sessions)) {
        outcome.errors.insert("wakes not answered".to_owned(), 1);
    }
    Ok(bench.finish(outcome, &[]))
}

/// Wakes sessions spread over all, one at a time and a thousand a second; returns what one cost.
fn wake_some(bench: &mut Bench, args: &Args, next: &[u32], sessions: u32) -> Result<Cost> {
    let wakes = args.wakes.clamp(1, sessions);
    let mut meter = Meter::new(10, Stages::default());
    for wake in 0..wakes {
        let index = (u64::from(wake) * u64::from(sessions) / u64::from(wakes)) as u32;
        let due = bench.world.now.after(WAKE_INTERVAL);
        bench.ask((index, 1, next[index as usize]));
        let (mut spent, mut rounds) = (0, 0);
        let is_answer =
            |heard: &Heard| matches!(heard, Heard::Response { index: who, .. } if *who == index);
        while !bench.heard.iter().any(is_answer) {
            spent += bench.round()?;
            rounds += 1;
            if rounds > ROUNDS_PER_WAKE_MAX {
                bail!("session {index} does not answer");
            }
        }
        bench.heard.clear();
        // The client's last ACK.
        spent += bench.round()?;
        meter.add(spent, 1, Stages::default);
        bench.world.wait_until(due);
    }
    Ok(meter.cost())
}

fn all(costs: &[Cost]) -> Cost {
    let count = costs.len().max(1) as f64;
    let mean = |field: fn(&Cost) -> f64| costs.iter().map(field).sum::<f64>() / count;
    let sum = |field: fn(&Cost) -> u64| costs.iter().map(field).sum();
    Cost {
        mean: mean(|cost| cost.mean),
        p50: mean(|cost| cost.p50),
        min: mean(|cost| cost.min),
        operations: sum(|cost| cost.operations),
        chunks: sum(|cost| cost.chunks),
        interrupted: sum(|cost| cost.interrupted),
    }
}
