//! What is measured: one file per kind of load.

mod bulk;
mod idle;
mod latency;
mod memory;
mod overload;
mod sessions;
mod tables;
mod terminal;

use std::collections::BTreeMap;

use anyhow::Result;
use millrace_load::light::Counts;

use crate::args::{Args, Scenario};
use crate::health::Health;
use crate::report::Outcome;
use crate::world::World;

/// Rounds without any progress after which a scenario is given up: something was lost, and nothing here repeats it.
const STALL_ROUNDS: u32 = 20_000;

/// Runs one scenario in a world of its own.
pub(crate) fn run(scenario: Scenario, args: &Args) -> Result<Outcome> {
    match scenario {
        Scenario::Short => sessions::short(args),
        Scenario::Keepalive => sessions::keepalive(args),
        Scenario::Terminated => terminal::sessions(args),
        Scenario::Rx => terminal::receive(args),
        Scenario::Latency => latency::run(args),
        Scenario::Rss => sessions::rss(args),
        Scenario::Bulk => bulk::run(args),
        Scenario::Idle => idle::run(args),
        Scenario::Flood => overload::flood(args),
        Scenario::Tables => tables::run(args),
        Scenario::Shed => overload::shed(args),
    }
}

/// Adds what the lcores and the peers counted between the warm-up and now.
fn finish(
    mut outcome: Outcome,
    world: &World,
    before: (&Health, u64),
    peers: &[Counts],
    expected: &[&str],
) -> Outcome {
    let (health, busy_turns) = before;
    let health = world.health().since(health);
    let operations = outcome.cycles.operations.max(1) as f64;
    outcome.frames_per_operation = health.frames as f64 / operations;
    outcome.frames_per_turn = health.frames as f64 / (world.busy_turns - busy_turns).max(1) as f64;
    outcome.copied_bytes = health.copied_bytes();
    outcome.heap_allocations = health.heap_allocations;
    outcome.errors.append(&mut health.faults(expected));
    outcome.errors.append(&mut peer_errors(peers));
    outcome
}

fn peer_errors(peers: &[Counts]) -> BTreeMap<String, u64> {
    let sum = |field: fn(&Counts) -> u64| peers.iter().map(field).sum::<u64>();
    let all = [
        ("resets that peers received", sum(|counts| counts.resets)),
        ("frames no peer expected", sum(|counts| counts.unexpected)),
        ("messages cut or merged", sum(|counts| counts.resegmented)),
        ("wrong checksums", sum(|counts| counts.bad_checksums)),
        ("frames without a buffer", sum(|counts| counts.no_buffers)),
    ];
    all.into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}
