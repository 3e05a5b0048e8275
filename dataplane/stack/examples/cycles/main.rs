//! Nanoseconds the stack spends on a data segment in, its splice, the segment out, its ACK, and on a
//! whole short connection through a balancer.
//!
//! `cargo run --release -p millrace-stack --example cycles`. Prints medians over bursts of 32; the
//! second column leaves checksums to the device, as every network card can. With one connection
//! everything lies in the first caches; with 10,000 in turn each segment finds another one's state.

mod pool;
mod rig;

use millrace_base::{Nanos, PacketBuf as _};
use millrace_stack::{FlowId, Ready};

use rig::{Meter, Rig};

const BURST: usize = 32;
const SEGMENT_BYTES: usize = 1_448;
const REQUEST_BYTES: usize = 100;
const REPLY_BYTES: usize = 1_000;
const STEP: Nanos = Nanos::from_micros(50);

fn main() {
    println!("{:34} {:>10} {:>10}", "ns", "software", "offload");
    for connections in [1, 10_000] {
        println!("{connections} connection(s), segments of {SEGMENT_BYTES} bytes");
        let columns = [false, true].map(|offload| bulk(connections, offload));
        let names = [
            "data segment in",
            "splice",
            "data segment out",
            "ACK out",
            "ACK in",
        ];
        let [software, offload] = columns;
        for (name, (mut software, mut offload)) in
            names.iter().zip(software.into_iter().zip(offload))
        {
            row(name, software.median(), offload.median());
        }
    }
    println!("short session: two handshakes, {REQUEST_BYTES} bytes in, {REPLY_BYTES} out, closes");
    let [(mut software, frames), (mut offload, _)] = [false, true].map(sessions);
    row("session", software.median(), offload.median());
    row(
        &format!("a frame of its {frames:.1}"),
        software.median() / frames,
        offload.median() / frames,
    );
}

fn row(name: &str, software: f64, offload: f64) {
    println!("  {name:32} {software:10.0} {offload:10.0}");
}

/// Segments in turn over all connections, from client to server.
fn bulk(connections: usize, offload: bool) -> [Meter; 5] {
    let mut rig = Rig::new(offload);
    let flows = open(&mut rig, connections);
    let data = vec![7; SEGMENT_BYTES];
    let mut meters = <[Meter; 5]>::default();
    let rounds = 20_000;
    for round in 0..rounds {
        for turn in 0..BURST {
            let flow = flows[(round * BURST + turn) % connections];
            let client = &mut rig.client;
            client.stack.send(rig.now, flow, &data, &mut client.pool);
        }
        let burst = rig.client.frames(rig.now);
        let [data_in, splice, data_out, ack_out, ack_in] = &mut meters;
        data_in.add(rig.handle(0, &burst), burst.len());
        let (ns, moved) = rig.timed(Rig::balance);
        splice.add(ns, moved / SEGMENT_BYTES);
        let frames = transmit(&mut rig, data_out, ack_out);
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
        ack_in.add(rig.handle(1, &acks), acks.len());
        rig.step(STEP);
        let now = rig.now;
        rig.balancer.stack.advance(now, &mut rig.balancer.pool);
    }
    let copied = rig.balancer.stack.stats().payload_copied_bytes;
    assert_eq!(copied, 0, "a splice copies nothing");
    meters
}

/// Everything the balancer sends, one by one: data to the server, ACKs to the client.
fn transmit(rig: &mut Rig, data: &mut Meter, ack: &mut Meter) -> Vec<(u16, pool::Buf)> {
    let mut frames = Vec::new();
    let (mut data_ns, mut datas) = (0, 0);
    loop {
        let (ns, transmit) = rig.timed(|rig| {
            let host = &mut rig.balancer;
            host.stack.poll_transmit(rig.now, &mut host.pool)
        });
        let Some(transmit) = transmit else {
            break;
        };
        let port = transmit.port.number();
        if port == 0 {
            ack.add(ns, 1);
        } else if transmit.frame.frame_len() > SEGMENT_BYTES {
            data_ns += ns;
            datas += 1;
        }
        frames.push((port, transmit.frame));
    }
    data.add(data_ns, datas);
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
    let mut ns = rig.handle(0, &client) + rig.handle(1, &server);
    let (spent, frames) = rig.timed(|rig| {
        let now = rig.now;
        rig.balancer.stack.advance(now, &mut rig.balancer.pool);
        rig.balance();
        let mut frames = Vec::with_capacity(4 * BURST);
        let host = &mut rig.balancer;
        while let Some(transmit) = host.stack.poll_transmit(now, &mut host.pool) {
            frames.push(transmit);
        }
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
fn sessions(offload: bool) -> (Meter, f64) {
    let mut rig = Rig::new(offload);
    let mut meter = Meter::default();
    let (mut seen, mut batches) = (0, 0);
    for _ in 0..1_500 {
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
