//! Bulk data from clients to backends: every segment is received, spliced, sent and acknowledged on both sides.

use anyhow::{Result, bail};
use millrace_load::light::{Upload, UploadConfig, UploadSink};

use super::{STALL_ROUNDS, finish};
use crate::args::Args;
use crate::health::{Health, RINGS_FULL};
use crate::plan::{SERVICE, SOURCES};
use crate::report::Outcome;
use crate::world::{Card, RING_FRAMES, World};

/// Ethernet, IP and TCP headers with timestamps, and what a link adds to a frame (preamble, checksum, gap).
const WIRE_OVERHEAD_BYTES: f64 = 66.0;
const HEADERS_IN_MTU_BYTES: u32 = 52;
/// Payload bytes on their way per connection at most: below the window of a receiver that has not tuned it yet.
const WINDOW_BYTES: u32 = 60_000;

/// Runs it.
pub(super) fn run(args: &Args) -> Result<Outcome> {
    let mut world = World::new(args.setup())?;
    let segment_bytes = u32::from(args.mtu) - HEADERS_IN_MTU_BYTES;
    let config = UploadConfig {
        sources: SOURCES,
        connections: args.connections,
        service: SERVICE,
        segment_bytes,
        window_segments: window_segments(segment_bytes, args.connections),
        key: args.key,
    };
    let mut upload = Upload::new(world.link(0), config);
    let mut sink = UploadSink::new(world.link(1), segment_bytes, !args.key);
    let now_ms = world.now_ms();
    let mut pool = world.pool;
    for index in 0..args.connections {
        let outbox = &mut world.nics[0].outbox;
        upload.open(index, now_ms, &mut pool, &mut |frame| outbox.push(frame));
    }
    let warm_up = u64::from(args.operations / 10);
    let total = u64::from(args.operations) + warm_up;
    let mut before = (world.health(), world.busy_turns);
    let mut stalled = 0;
    loop {
        let moved = sink.counts().requests;
        let spent = round(&mut world, &mut upload, &mut sink);
        let fresh = sink.counts().requests - moved;
        world.measure(spent, fresh);
        if moved < warm_up && moved + fresh >= warm_up {
            world.restart_meter();
            before = (lossless(world.health())?, world.busy_turns);
        }
        if moved + fresh >= total {
            break;
        }
        stalled = if fresh > 0 { 0 } else { stalled + 1 };
        if stalled > STALL_ROUNDS {
            bail!(
                "nothing moves any more: {:?} {:?}",
                upload.counts(),
                sink.counts()
            );
        }
        world.listen();
    }
    let cost = world.meter.cost();
    let gigabits = |bytes: f64| bytes * 8.0 * 2.6 / cost.p50;
    let is_large = args.card == Card::Tso || (args.card == Card::Checksum && args.mtu > 1_500);
    let target = if is_large { 60.0 } else { 20.0 };
    let name = args.named(&format!("bulk, {} connections", args.connections));
    let outcome = Outcome::new(name, "segment", cost)
        .stages(world.by_stage())
        .value(
            "gbit/s of frames",
            gigabits(f64::from(segment_bytes) + WIRE_OVERHEAD_BYTES),
        )
        .value("gbit/s of payload", gigabits(f64::from(segment_bytes)))
        .at_least("gbit/s of payload", target);
    // Promised for frames of the usual size.
    let outcome = if args.mtu > 1_500 {
        outcome
    } else {
        outcome.at_most("cycles", 400.0)
    };
    let peers = [*upload.counts(), *sink.counts()];
    Ok(finish(outcome, &world, (&before.0, before.1), &peers, &[]))
}

/// Nothing repeats a frame that was lost at the start: its connection would stand still, and the others be measured in its
/// place.
fn lossless(health: Health) -> Result<Health> {
    match health.counter(RINGS_FULL) {
        0 => Ok(health),
        lost => bail!("{lost} {RINGS_FULL}"),
    }
}

/// Segments on their way per connection, even: of all connections together no more than half of what a ring takes, the
/// other half is for ACKs.
fn window_segments(segment_bytes: u32, connections: u32) -> u32 {
    let share = RING_FRAMES / 2 / connections.max(1);
    (WINDOW_BYTES / segment_bytes).min(share).max(2) / 2 * 2
}

fn round(world: &mut World, upload: &mut Upload, sink: &mut UploadSink) -> u64 {
    let now_ms = world.now_ms();
    let mut pool = world.pool;
    let [front, back] = &mut world.nics;
    front.serve(|frame, outbox| {
        upload.handle(frame, now_ms, &mut pool, &mut |data| outbox.push(data));
    });
    back.serve(|frame, outbox| {
        sink.handle(frame, now_ms, &mut pool, &mut |ack| outbox.push(ack));
    });
    world.turn()
}
