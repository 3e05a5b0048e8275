//! What the stack alone costs: connections that end here, and data that arrive.

use anyhow::{Result, bail};
use millrace_abi::heap;
use millrace_load::light::{Client, Closer, Counts, Heard, Payload, Script, Upload, UploadConfig};

use super::{STALL_ROUNDS, peer_errors};
use crate::args::Args;
use crate::health;
use crate::plan::{SERVICE, SOURCES};
use crate::report::Outcome;
use crate::terminal::{Service, Terminal};
use crate::world::RING_FRAMES;

/// Bytes of headers in an IP packet with timestamps.
const HEADERS_IN_MTU_BYTES: u32 = 52;
/// Segments on their way per connection: far below any receive window, and fewer where many connections share a ring.
const WINDOW_SEGMENTS: u32 = 16;

/// What was counted when the warm-up was over.
struct Start {
    frames: u64,
    turns: u64,
    allocations: u64,
}

/// A connection for one request and one response, answered on the box.
pub(super) fn sessions(args: &Args) -> Result<Outcome> {
    let script = Script {
        request: Payload::http_request(args.request_bytes),
        response: Payload::http_response(args.response_bytes),
        requests: 1,
        asks_at_once: true,
        closer: Closer::Server,
    };
    let service = Service {
        request: script.request.clone(),
        response: script.response.clone(),
    };
    let mut terminal = Terminal::new(args.setup(), Some(service))?;
    let mut client = Client::new(terminal.link(), SOURCES, SERVICE, script, args.key);
    let warm_up = args.operations / 10;
    let total = args.operations + warm_up;
    let (mut opened, mut closed, mut stalled) = (0, 0, 0);
    let mut start = start_of(&terminal);
    while closed < total {
        let most = (closed + args.concurrency).min(total);
        let now_ms = terminal.now_ms();
        let mut pool = terminal.pool;
        let outbox = &mut terminal.nic.outbox;
        for index in opened..most {
            client.open(index, now_ms, &mut pool, &mut |frame| outbox.push(frame));
        }
        opened = most;
        let mut fresh = 0;
        terminal.nic.serve(|frame, outbox| {
            let heard = client.handle(frame, now_ms, &mut pool, &mut |answer| outbox.push(answer));
            fresh += u32::from(matches!(heard, Heard::Closed { .. }));
        });
        let spent = terminal.turn();
        terminal.measure(spent.all, u64::from(fresh));
        if closed < warm_up && closed + fresh >= warm_up {
            terminal.restart_meter();
            start = start_of(&terminal);
        }
        closed += fresh;
        stalled = if fresh > 0 { 0 } else { stalled + 1 };
        if stalled > STALL_ROUNDS {
            bail!("nothing moves any more: {:?}", client.counts());
        }
    }
    let name = args.named("terminated");
    let outcome = Outcome::new(name, "session", terminal.meter.cost())
        .stages(terminal.by_stage())
        .at_most("cycles", 3_000.0);
    Ok(finish(outcome, &terminal, &start, client.counts()))
}

/// In-order data segments up to the decision about their ACK; reading and sending are left out.
pub(super) fn receive(args: &Args) -> Result<Outcome> {
    let mut terminal = Terminal::new(args.setup(), None)?;
    let config = UploadConfig {
        sources: SOURCES,
        connections: args.connections,
        service: SERVICE,
        segment_bytes: u32::from(args.mtu) - HEADERS_IN_MTU_BYTES,
        window_segments: (RING_FRAMES / 2 / args.connections).clamp(2, WINDOW_SEGMENTS) / 2 * 2,
        key: args.key,
    };
    let mut upload = Upload::new(terminal.link(), config);
    let mut pool = terminal.pool;
    for index in 0..args.connections {
        let now_ms = terminal.now_ms();
        let outbox = &mut terminal.nic.outbox;
        upload.open(index, now_ms, &mut pool, &mut |frame| outbox.push(frame));
    }
    let warm_up = u64::from(args.operations / 10);
    let total = u64::from(args.operations) + warm_up;
    let (mut received, mut stalled) = (0, 0);
    let mut start = start_of(&terminal);
    while received < total {
        let now_ms = terminal.now_ms();
        terminal.nic.serve(|frame, outbox| {
            upload.handle(frame, now_ms, &mut pool, &mut |data| outbox.push(data));
        });
        let before = terminal.stack.stats().frames_in;
        let spent = terminal.turn();
        let fresh = terminal.stack.stats().frames_in - before;
        terminal.measure(spent.handling, fresh);
        if received < warm_up && received + fresh >= warm_up {
            terminal.restart_meter();
            start = start_of(&terminal);
        }
        received += fresh;
        stalled = if fresh > 0 { 0 } else { stalled + 1 };
        if stalled > STALL_ROUNDS {
            bail!("nothing moves any more: {:?}", upload.counts());
        }
    }
    let name = args.named(&format!("rx, {} connections", args.connections));
    let outcome = Outcome::new(name, "segment", terminal.meter.cost()).at_most("cycles", 150.0);
    Ok(finish(outcome, &terminal, &start, upload.counts()))
}

fn start_of(terminal: &Terminal) -> Start {
    let stats = terminal.stack.stats();
    Start {
        frames: stats.frames_in + stats.frames_out,
        turns: terminal.busy_turns,
        allocations: heap::allocations_after_seal(),
    }
}

fn finish(mut outcome: Outcome, terminal: &Terminal, start: &Start, peer: &Counts) -> Outcome {
    let now = start_of(terminal);
    let frames = (now.frames - start.frames) as f64;
    outcome.frames_per_operation = frames / outcome.cycles.operations.max(1) as f64;
    outcome.frames_per_turn = frames / (now.turns - start.turns).max(1) as f64;
    outcome.heap_allocations = now.allocations - start.allocations;
    let copied = terminal.stack.stats().payload_copied_bytes;
    outcome.copied_bytes = copied - terminal.application_bytes;
    outcome.errors.append(&mut peer_errors(&[*peer]));
    let outbox = &terminal.nic.outbox;
    let lost = outbox.lost + terminal.nic.unsummed;
    if lost > 0 {
        outcome
            .errors
            .insert("frames lost or without a checksum".to_owned(), lost);
    }
    terminal.stack.stats().for_each(|name, _, value| {
        if value > 0 && health::is_fault(name) {
            outcome.errors.insert(name.to_owned(), value);
        }
    });
    outcome.value(
        "bytes copied by the application's face",
        terminal.application_bytes as f64,
    )
}
