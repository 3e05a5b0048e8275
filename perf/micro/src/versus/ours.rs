//! Two stacks of ours on a wire.

use std::time::Duration;

use millrace_base::{
    Address, ChecksumStatus, Endpoint, FlowTuple, HEADROOM_BYTES_DEFAULT, HeapBuf, HeapPool,
    Instant, ListenerId, MacAddress, Nanos, PacketBuf, PacketPool, PortId, RxMeta,
};
use millrace_stack::{
    FlowId, Interface, ListenOptions, Listener, NeighborUpdate, Offloads, Prefixed, Ready, Stack,
    StackConfig, TcpTunables,
};

use crate::{CHUNK_BYTES, CONCURRENT, MESSAGE_BYTES, SERVICE_PORT, spent};

const PORT: PortId = PortId::new(0);
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
                tcp: TcpTunables::default(),
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
        let [client, server] = &mut self.hosts;
        carry(self.now, self.verdict, client, server);
        carry(self.now, self.verdict, server, client);
        self.now = self.now.after(STEP);
        for Host { stack, pool } in &mut self.hosts {
            stack.advance(self.now, pool);
        }
    }
}

fn carry(now: Instant, verdict: RxMeta, from: &mut Host, to: &mut Host) {
    while let Some(transmit) = from.stack.poll_transmit(now, &mut from.pool) {
        let mut frame = copy(&transmit.frame, &mut to.pool);
        frame.meta = verdict;
        let punt = to.stack.handle(now, PORT, frame, &mut to.pool);
        assert!(punt.is_none(), "nobody here speaks anything but TCP");
    }
}

/// A frame in a buffer of the receiver's pool.
fn copy(frame: &HeapBuf, pool: &mut HeapPool) -> HeapBuf {
    let mut buf = pool.alloc().expect("a buffer");
    assert!(buf.set_span(HEADROOM_BYTES_DEFAULT, frame.frame_len()));
    let mut rest = buf.bytes_mut().expect("a fresh buffer");
    for piece in frame.segments() {
        let (here, behind) = rest.split_at_mut(piece.len());
        here.copy_from_slice(piece);
        rest = behind;
    }
    buf
}

/// Moves bytes from the client to the server.
pub(crate) fn bulk(bytes: usize, offload: bool) -> Duration {
    let mut wire = Wire::new(offload);
    let flow = wire.connect();
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
