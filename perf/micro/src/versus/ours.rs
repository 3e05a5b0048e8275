//! Two stacks of ours on a wire.

use std::time::Duration;

use arrayvec::ArrayVec;
use millrace_base::{
    Address, ChecksumStatus, Endpoint, FlowTuple, HeapBuf, HeapPool, Instant, ListenerId,
    MacAddress, Nanos, PacketBuf, PacketPool, PortId, RxMeta, TxOffload,
};
use millrace_stack::{
    FlowId, Interface, ListenOptions, Listener, NeighborUpdate, Offloads, Prefixed, Ready, Stack,
    StackConfig, TcpTunables,
};

use crate::{BUFFER_BYTES, CHUNK_BYTES, CONCURRENT, MESSAGE_BYTES, SERVICE_PORT, spent};

const PORT: PortId = PortId::new(0);
/// Frames that a device hands over at once.
const BURST: usize = 32;
/// Headers of a data segment with timestamps.
const HEADER_BYTES: usize = 66;
const STEP: Nanos = Nanos::from_micros(50);
/// Turns without progress before a run is called stuck.
const STILL_TURNS_MAX: u32 = 100_000;

struct Host {
    stack: Stack<HeapPool>,
    pool: HeapPool,
}

/// Both ends and the clock. `hosts[0]` is the client.
struct Wire {
    now: Instant,
    hosts: [Host; 2],
    next_port: u16,
    /// What a device says of the checksums of a frame it received.
    verdict: RxMeta,
    /// Frames on their way; its memory is used again.
    frames: Vec<HeapBuf>,
}

fn address(host: usize) -> Address {
    Address::v4([10, 0, 0, host as u8 + 1])
}

fn mac(host: usize) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, host as u8 + 1])
}

impl Wire {
    fn new(offload: bool) -> Self {
        let now = Instant::from_millis(1);
        let host = |number: usize| {
            let config = StackConfig {
                connections_max: 1_024,
                syn_queue_max: 256,
                time_wait_max: 1_024,
                chunks_max: 8_192,
                neighbors_max: 4,
                secret: [number as u8; 32],
                tcp: TcpTunables {
                    // Half of what is received may be unused parts of buffers.
                    tcp_rmem: [2 * BUFFER_BYTES as u32; 2],
                    tcp_wmem: [BUFFER_BYTES as u32; 2],
                    ..TcpTunables::default()
                },
            };
            let mut stack = Stack::new(config);
            let prefix = Prefixed {
                address: address(number),
                prefix_len: 24,
            };
            let interface = Interface {
                port: PORT,
                mac: mac(number),
                mtu: 1_500,
                addresses: core::iter::once(prefix).collect(),
                offloads: Offloads {
                    ip_checksum: offload,
                    tcp_checksum: offload,
                    segments_max: 8,
                    ..Offloads::default()
                },
            };
            stack.set_interfaces(now, &[interface]);
            let peer = NeighborUpdate::Reachable(mac(1 - number));
            stack.set_neighbor(now, PORT, address(1 - number), peer);
            let pool = HeapPool::new(16_384, 2_176);
            Host { stack, pool }
        };
        let mut hosts = [host(0), host(1)];
        hosts[1].stack.set_listeners(&[Listener {
            id: ListenerId::new(1),
            address: address(1),
            port_first: SERVICE_PORT,
            port_last: SERVICE_PORT,
            options: ListenOptions::default(),
        }]);
        let status = if offload {
            ChecksumStatus::Good
        } else {
            ChecksumStatus::Unknown
        };
        Self {
            now,
            hosts,
            next_port: 1_024,
            frames: Vec::with_capacity(1_024),
            verdict: RxMeta {
                ip_checksum: status,
                l4_checksum: status,
                ..RxMeta::default()
            },
        }
    }

    fn connect(&mut self) -> FlowId {
        self.next_port = self.next_port.checked_add(1).unwrap_or(1_024);
        let tuple = FlowTuple {
            local: Endpoint::new(address(0), self.next_port),
            remote: Endpoint::new(address(1), SERVICE_PORT),
        };
        let flow = self.hosts[0].stack.connect(self.now, tuple, 0);
        flow.expect("a free tuple")
    }

    /// What either end has to send arrives at the other; time passes.
    fn turn(&mut self) {
        for from in [0, 1] {
            self.carry(from);
        }
        self.now = self.now.after(STEP);
        for Host { stack, pool } in &mut self.hosts {
            stack.advance(self.now, pool);
        }
    }

    /// What one end has to send arrives at the other, in bursts.
    fn carry(&mut self, from: usize) {
        let Self {
            now,
            hosts,
            verdict,
            frames,
            ..
        } = self;
        let [client, server] = hosts;
        let (from, to) = match from {
            0 => (client, server),
            _ => (server, client),
        };
        from.stack.transmit(*now, &mut from.pool, |transmit| {
            frames.push(transmit.frame);
            true
        });
        let Host { stack, pool } = to;
        let mut on_wire = frames.drain(..).peekable();
        while on_wire.peek().is_some() {
            let burst: ArrayVec<HeapBuf, BURST> = on_wire
                .by_ref()
                .take(BURST)
                .map(|frame| handed_over(frame, *verdict, pool))
                .collect();
            let punt = |_| panic!("nobody here speaks anything but TCP");
            stack.handle_burst(*now, PORT, burst, pool, punt);
        }
    }
}

/// A frame as its receiver gets it: the same memory, in handles of its own.
///
/// The sender keeps data for retransmission in the buffer that it sent, so the receiver must not move their bounds: what
/// a device that splits headers off would deliver is built around them. No byte of payload is copied; smoltcp's frames,
/// which it has copied out of its send buffer itself, are handed over as they are.
fn handed_over(frame: HeapBuf, verdict: RxMeta, pool: &mut HeapPool) -> HeapBuf {
    let mut arrived = if frame.is_unique() {
        frame
    } else {
        split(&frame, pool)
    };
    arrived.meta = verdict;
    arrived.offload = TxOffload::default();
    arrived
}

/// The headers in a buffer of the receiver, and a view of the rest.
fn split(frame: &HeapBuf, pool: &mut HeapPool) -> HeapBuf {
    let bytes = frame.bytes();
    let (headers, payload) = bytes.split_at(HEADER_BYTES.min(bytes.len()));
    let mut arrived = pool.receive(headers).expect("a buffer");
    let view = pool.view(frame, frame.offset() + headers.len(), payload.len());
    arrived.append(view.expect("it fits")).expect("a fresh one");
    arrived
}

/// Moves bytes from the client to the server.
pub(crate) fn bulk(bytes: usize, offload: bool) -> Duration {
    let mut wire = Wire::new(offload);
    let flow = wire.connect();
    wire.turn();
    let (data, mut buffer) = (vec![7; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let (mut sent, mut received, mut still) = (0, 0, 0);
    let began = spent();
    while received < bytes {
        let client = &mut wire.hosts[0];
        while sent < bytes {
            let chunk = &data[..CHUNK_BYTES.min(bytes - sent)];
            let taken = client.stack.send(wire.now, flow, chunk, &mut client.pool);
            sent += taken;
            if taken == 0 {
                break;
            }
        }
        while client.stack.poll_event().is_some() {}
        wire.turn();
        let before = received;
        let server = &mut wire.hosts[1].stack;
        while let Some(event) = server.poll_event() {
            loop {
                let taken = server.receive(wire.now, event.flow, &mut buffer).bytes;
                received += taken;
                if taken == 0 {
                    break;
                }
            }
        }
        still = if received == before { still + 1 } else { 0 };
        assert!(still < STILL_TURNS_MAX, "nothing moves at {received} bytes");
    }
    spent().saturating_sub(began)
}

/// Opens, uses and closes connections.
pub(crate) fn churn(connections: usize, offload: bool) -> Duration {
    let mut wire = Wire::new(offload);
    let began = spent();
    for _ in 0..connections / CONCURRENT {
        for _ in 0..CONCURRENT {
            wire.connect();
        }
        let (mut ended, mut turns) = (0, 0);
        while ended < CONCURRENT {
            wire.turn();
            ended += serve(&mut wire);
            turns += 1;
            assert!(turns < STILL_TURNS_MAX, "connections do not end");
        }
    }
    spent().saturating_sub(began)
}

/// Both applications; returns how many connections the client has seen the end of.
fn serve(wire: &mut Wire) -> usize {
    let now = wire.now;
    let mut buffer = [0; 2 * MESSAGE_BYTES];
    let [client, server] = &mut wire.hosts;
    while let Some(event) = server.stack.poll_event() {
        let received = server.stack.receive(now, event.flow, &mut buffer);
        let answer = &buffer[..received.bytes];
        server.stack.send(now, event.flow, answer, &mut server.pool);
        if received.end_of_stream {
            server.stack.close(now, event.flow);
        }
    }
    let mut ended = 0;
    while let Some(event) = client.stack.poll_event() {
        if event.ready.contains(Ready::CONNECTED) {
            let request = [2; MESSAGE_BYTES];
            client
                .stack
                .send(now, event.flow, &request, &mut client.pool);
        }
        let received = client.stack.receive(now, event.flow, &mut buffer);
        if received.bytes == MESSAGE_BYTES {
            client.stack.shutdown(now, event.flow);
        }
        if received.end_of_stream || event.ready.contains(Ready::CLOSED) {
            client.stack.close(now, event.flow);
            ended += 1;
        }
    }
    ended
}
