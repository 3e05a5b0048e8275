//! Nanoseconds the stack spends on a data segment in, its splice, the segment out, its ACK, and on a
//! whole short connection through a balancer.
//!
//! `cargo run --release -p millrace-stack --example cycles`. Prints medians over bursts of 32, and
//! what the best tenth of them took; "offload" leaves checksums to the device, as every network
//! card can. With one connection everything lies in the first caches; with 10,000 in turn each
//! segment finds another one's state.
//!
//! `--only STAGE [--count N] [--connections K] [--offload]` measures one stage (data-in, splice,
//! data-out, ack-out, ack-in, session) N times. What is measured runs inside a function of that
//! name, so that instructions can be counted:
//!
//! `valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*rig*measured*' cycles --only
//! data-in`, divided by the units it prints.

mod pool;
mod rig;

use millrace_base::Nanos;
use millrace_stack::{FlowId, Ready};

use rig::{Meter, Rig, Stage};

const BURST: usize = 32;
const SEGMENT_BYTES: usize = 1_448;
const REQUEST_BYTES: usize = 100;
const REPLY_BYTES: usize = 1_000;
const STEP: Nanos = Nanos::from_micros(50);

/// One run: what is measured, how often, over how many connections.
#[derive(Clone, Copy, Debug)]
struct Run {
    only: Option<Stage>,
    count: usize,
    connections: usize,
    offload: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match parse(&arguments) {
        Ok(Some(run)) => one(run),
        Ok(None) => all(),
        Err(unknown) => eprintln!("what is {unknown}? See the head of examples/cycles/main.rs"),
    }
}

/// The run that the arguments ask for; `None` without arguments.
fn parse(arguments: &[String]) -> Result<Option<Run>, String> {
    let mut run = Run {
        only: None,
        count: 64_000,
        connections: 1,
        offload: false,
    };
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let mut value = || rest.next().cloned().unwrap_or_default();
        match name.as_str() {
            "--only" => {
                let wanted = value();
                run.only = Stage::ALL.into_iter().find(|s| s.name() == wanted);
                run.only.ok_or(wanted)?;
            }
            "--count" => run.count = value().parse().map_err(|_| name.clone())?,
            "--connections" => run.connections = value().parse().map_err(|_| name.clone())?,
            "--offload" => run.offload = true,
            _ => return Err(name.clone()),
        }
    }
    Ok(run.only.is_some().then_some(run))
}

fn one(run: Run) {
    let mut meter = match run.only {
        Some(Stage::Session) | None => sessions(run).0,
        Some(stage) => {
            let at = Stage::ALL.iter().position(|other| *other == stage);
            bulk(run)[at.unwrap_or(0)].clone()
        }
    };
    let units = meter.units();
    let (median, best) = (meter.median(), meter.best());
    println!("{units} units, {median:.1} ns each, best tenth {best:.1} ns");
}

fn all() {
    let titles = ["software", "best", "offload", "best"];
    println!(
        "{:34} {:>9} {:>9} {:>9} {:>9}",
        "ns", titles[0], titles[1], titles[2], titles[3]
    );
    let run = |connections, offload| Run {
        only: None,
        count: 20_000 * BURST,
        connections,
        offload,
    };
    for connections in [1, 10_000] {
        println!("{connections} connection(s), segments of {SEGMENT_BYTES} bytes");
        let [software, offload] = [false, true].map(|offload| bulk(run(connections, offload)));
        for (stage, (software, offload)) in Stage::ALL.iter().zip(software.into_iter().zip(offload))
        {
            row(stage.name(), [software, offload], 1.0);
        }
    }
    println!("short session: two handshakes, {REQUEST_BYTES} bytes in, {REPLY_BYTES} out, closes");
    let [(software, frames), (offload, _)] = [false, true].map(|offload| {
        sessions(Run {
            count: 1_500 * BURST,
            ..run(1, offload)
        })
    });
    row("session", [software.clone(), offload.clone()], 1.0);
    row(
        &format!("a frame of its {frames:.1}"),
        [software, offload],
        frames,
    );
}

fn row(name: &str, meters: [Meter; 2], divisor: f64) {
    let values = meters.map(|mut meter| {
        let (median, best) = (meter.median() / divisor, meter.best() / divisor);
        format!("{median:9.0} {best:9.0}")
    });
    println!("  {name:32} {}", values.join(" "));
}

/// Segments in turn over all connections, from client to server.
fn bulk(run: Run) -> [Meter; 5] {
    let connections = run.connections;
    let mut rig = Rig::new(run.offload, run.only);
    let flows = open(&mut rig, connections);
    let data = vec![7; SEGMENT_BYTES];
    let mut meters = <[Meter; 5]>::default();
    for round in 0..run.count / BURST {
        for turn in 0..BURST {
            let flow = flows[(round * BURST + turn) % connections];
            let client = &mut rig.client;
            client.stack.send(rig.now, flow, &data, &mut client.pool);
        }
        let burst = rig.client.frames(rig.now);
        let [data_in, splice, data_out, ack_out, ack_in] = &mut meters;
        data_in.add(rig.handle(Stage::DataIn, 0, &burst), burst.len());
        // The splice comes first in a worker; here it must not, to tell ACKs from data.
        let mut frames = transmit(&mut rig, Stage::AckOut, ack_out);
        let (ns, moved) = rig.timed(Stage::Splice, Rig::balance);
        splice.add(ns, moved / SEGMENT_BYTES);
        frames.extend(transmit(&mut rig, Stage::DataOut, data_out));
        let mut acks = Vec::new();
        let mut sink = [0; 65_536];
        for (number, (port, frame)) in frames.iter().enumerate() {
            if *port == 0 {
                rig.client.take(rig.now, frame);
            } else {
                rig.server.take(rig.now, frame);
                if number % 2 == 1 {
                    acks.extend(rig.server.frames(rig.now));
                }
            }
        }
        while let Some(event) = rig.server.stack.poll_event() {
            while rig
                .server
                .stack
                .receive(rig.now, event.flow, &mut sink)
                .bytes
                > 0
            {}
        }
        while rig.client.stack.poll_event().is_some() {}
        acks.extend(rig.server.frames(rig.now));
        drop(frames);
        rig.now = rig.now.after(STEP);
        ack_in.add(rig.handle(Stage::AckIn, 1, &acks), acks.len());
        rig.step(STEP);
        let now = rig.now;
        rig.balancer.stack.advance(now, &mut rig.balancer.pool);
    }
    let copied = rig.balancer.stack.stats().payload_copied_bytes;
    assert_eq!(copied, 0, "a splice copies nothing");
    meters
}

/// Everything the balancer sends now, with the port it leaves by.
fn transmit(rig: &mut Rig, stage: Stage, meter: &mut Meter) -> Vec<(u16, pool::Buf)> {
    let (ns, frames) = rig.timed(stage, |rig| {
        let host = &mut rig.balancer;
        let mut frames = Vec::with_capacity(4 * BURST);
        host.stack.transmit(rig.now, &mut host.pool, |transmit| {
            frames.push((transmit.port.number(), transmit.frame));
            true
        });
        frames
    });
    meter.add(ns, frames.len());
    frames
}

/// Connections from the client through the balancer to the server, all established.
fn open(rig: &mut Rig, connections: usize) -> Vec<FlowId> {
    let mut flows = Vec::new();
    while flows.len() < connections {
        for _ in 0..BURST.min(connections - flows.len()) {
            flows.push(rig.connect());
        }
        for _ in 0..10 {
            exchange(rig);
        }
        while rig.client.stack.poll_event().is_some() {}
        while rig.server.stack.poll_event().is_some() {}
    }
    flows
}

/// One turn of all three; returns what the balancer spent, and the frames it saw.
fn exchange(rig: &mut Rig) -> (u64, usize) {
    let now = rig.now;
    let (client, server) = (rig.client.frames(now), rig.server.frames(now));
    let mut ns = rig.handle(Stage::Session, 0, &client) + rig.handle(Stage::Session, 1, &server);
    let (spent, frames) = rig.timed(Stage::Session, |rig| {
        let now = rig.now;
        rig.balancer.stack.advance(now, &mut rig.balancer.pool);
        rig.balance();
        let mut frames = Vec::with_capacity(4 * BURST);
        let host = &mut rig.balancer;
        host.stack.transmit(now, &mut host.pool, |transmit| {
            frames.push(transmit);
            true
        });
        frames
    });
    ns += spent;
    for transmit in &frames {
        if transmit.port.number() == 0 {
            rig.client.take(now, &transmit.frame);
        } else {
            rig.server.take(now, &transmit.frame);
        }
    }
    let seen = client.len() + server.len() + frames.len();
    drop((client, server, frames));
    rig.step(STEP);
    (ns, seen)
}

/// Whole sessions, a burst of them at a time; and the frames of one.
fn sessions(run: Run) -> (Meter, f64) {
    let mut rig = Rig::new(run.offload, run.only);
    let mut meter = Meter::default();
    let (mut seen, mut batches) = (0, 0);
    for _ in 0..run.count / BURST {
        for _ in 0..BURST {
            rig.connect();
        }
        let (mut ns, mut open) = (0, BURST);
        while open > 0 {
            let (spent, frames) = exchange(&mut rig);
            ns += spent;
            seen += frames;
            open -= serve(&mut rig);
        }
        // The last ACKs of the closes.
        for _ in 0..4 {
            let (spent, frames) = exchange(&mut rig);
            ns += spent;
            seen += frames;
            serve(&mut rig);
        }
        batches += 1;
        meter.add(ns, BURST);
        rig.step(Nanos::from_millis(100));
    }
    (meter, seen as f64 / (batches * BURST) as f64)
}

/// The applications at both ends: a request, a reply, the client closes first. Returns how many
/// sessions have come to their end at the client.
fn serve(rig: &mut Rig) -> usize {
    let now = rig.now;
    let mut buffer = [0; 4_096];
    let server = &mut rig.server;
    while let Some(event) = server.stack.poll_event() {
        let received = server.stack.receive(now, event.flow, &mut buffer);
        if received.bytes > 0 {
            server
                .stack
                .send(now, event.flow, &[1; REPLY_BYTES], &mut server.pool);
        }
        if received.end_of_stream {
            server.stack.close(now, event.flow);
        }
    }
    let mut ended = 0;
    let client = &mut rig.client;
    while let Some(event) = client.stack.poll_event() {
        if event.ready.contains(Ready::CONNECTED) {
            client
                .stack
                .send(now, event.flow, &[2; REQUEST_BYTES], &mut client.pool);
        }
        let received = client.stack.receive(now, event.flow, &mut buffer);
        if received.bytes == REPLY_BYTES {
            client.stack.shutdown(now, event.flow);
        }
        if received.end_of_stream || event.ready.contains(Ready::CLOSED) {
            client.stack.close(now, event.flow);
            ended += 1;
        }
    }
    ended
}
