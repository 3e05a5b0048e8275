//! A client, a balancer and a backend on one wire in memory, and the clock that only they move.
//!
//! Only what the balancer does is ever counted. The peers are stacks, too, because nothing else
//! answers as precisely.

use millrace_abi::{
    AddressKind, AddressRecord, Algorithm, BackendRecord, InterfaceRecord, ListenerRecord,
    PoolRecord, SnatRecord, Tables,
};
use std::sync::Arc;

use millrace_base::rss::RssMap;
use millrace_base::{Address, Endpoint, FlowTuple, HeapBuf, HeapPool, Instant, LcoreIndex, Nanos};
use millrace_lb::{Balancer, BalancerConfig};
use millrace_stack::{FlowId, Ready, Stack, Transmit};

use crate::host::{Host, PORT, flat, offloads};

/// Where the listener and the backend are.
pub(crate) const SERVICE_PORT: u16 = 80;

/// Hosts on the wire.
const CLIENT: u8 = 1;
const BALANCER: u8 = 10;
const SNAT: u8 = 11;
const VIP: u8 = 100;
const SERVER: u8 = 21;

/// Time between two turns.
pub(crate) const STEP: Nanos = Nanos::from_micros(50);

/// The address of a host.
pub(crate) fn address(last: u8) -> Address {
    Address::v4([10, 0, 0, last])
}

/// Everything, and the clock.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) client: Host,
    pub(crate) server: Host,
    pub(crate) lb: Host,
    pub(crate) balancer: Balancer,
    next_port: u16,
}

impl World {
    /// All three configured and introduced to each other.
    pub(crate) fn new() -> Self {
        let config = BalancerConfig {
            lcore: LcoreIndex::new(0),
            snat_pairs_max: 16,
            sessions_max: 2_048,
            probes_max: 16,
            seed: 1,
        };
        let mut world = Self {
            now: Instant::from_millis(1),
            client: Host::new(CLIENT),
            server: Host::new(SERVER),
            lb: Host::new(BALANCER),
            balancer: Balancer::new(config, Arc::new(RssMap::single())),
            next_port: 10_000,
        };
        let now = world.now;
        world.client.configure(now);
        world.server.configure(now);
        let tables = tables(&world.lb);
        let World { balancer, lb, .. } = &mut world;
        balancer.adopt(now, &tables, &[offloads()], &mut lb.stack);
        assert_eq!(balancer.counters().records_invalid, 0, "tables");
        let (client, lb, server) = (world.client.mac, world.lb.mac, world.server.mac);
        world.lb.meet(now, CLIENT, client);
        world.lb.meet(now, SERVER, server);
        world.client.meet(now, VIP, lb);
        world.server.meet(now, SNAT, lb);
        world
    }

    /// The client asks for a connection to the service.
    pub(crate) fn connect(&mut self) -> FlowId {
        let tuple = self.next_tuple();
        let flow = self.client.stack.connect(self.now, tuple, 0);
        flow.expect("a free tuple")
    }

    /// A tuple of the client that was not used before.
    pub(crate) fn next_tuple(&mut self) -> FlowTuple {
        self.next_port += 1;
        FlowTuple {
            local: Endpoint::new(address(CLIENT), self.next_port),
            remote: Endpoint::new(address(VIP), SERVICE_PORT),
        }
    }

    /// A proxied session, both legs established, nobody with news.
    pub(crate) fn open(&mut self) -> FlowId {
        let flow = self.connect();
        self.settle();
        while self.client.stack.poll_event().is_some() {}
        while self.server.stack.poll_event().is_some() {}
        flow
    }

    /// Turns until everything sent has arrived and been answered.
    pub(crate) fn settle(&mut self) {
        for _ in 0..8 {
            self.exchange();
        }
    }

    /// One turn: the peers' frames go in, the balancer works, its frames come out.
    pub(crate) fn exchange(&mut self) {
        let frames = self.peers_send();
        let received = self.arrive(&frames);
        let mut sent = Vec::new();
        self.turn(received, &mut sent);
        self.deliver(&sent);
        self.step(STEP);
    }

    /// What both peers send now.
    pub(crate) fn peers_send(&mut self) -> Vec<Vec<u8>> {
        let mut frames = self.client.frames(self.now);
        frames.extend(self.server.frames(self.now));
        frames
    }

    /// Frames as the balancer's device has received them.
    pub(crate) fn arrive(&mut self, frames: &[Vec<u8>]) -> Vec<HeapBuf> {
        frames.iter().map(|frame| self.lb.receive(frame)).collect()
    }

    /// What the lcore does in one turn of its loop.
    pub(crate) fn turn(&mut self, received: Vec<HeapBuf>, sent: &mut Vec<Transmit<HeapBuf>>) {
        self.handle(received);
        self.lb.stack.advance(self.now, &mut self.lb.pool);
        self.balance();
        self.transmit(sent);
    }

    /// The stack takes a burst.
    pub(crate) fn handle(&mut self, received: Vec<HeapBuf>) {
        let Host { stack, pool, .. } = &mut self.lb;
        let punt = |punt| panic!("{punt:?}");
        stack.handle_burst(self.now, PORT, received, pool, punt);
    }

    /// The balancer takes the stack's events and its own deadlines.
    pub(crate) fn balance(&mut self) {
        let World {
            now, lb, balancer, ..
        } = self;
        while let Some(event) = lb.stack.poll_event() {
            balancer.handle_event(*now, event, &mut lb.stack);
        }
        balancer.advance(*now, &mut lb.stack);
    }

    /// Everything the balancer sends now.
    pub(crate) fn transmit(&mut self, sent: &mut Vec<Transmit<HeapBuf>>) {
        let Host { stack, pool, .. } = &mut self.lb;
        stack.transmit(self.now, pool, |transmit| {
            sent.push(transmit);
            true
        });
    }

    /// The balancer's frames arrive at the peers.
    pub(crate) fn deliver(&mut self, sent: &[Transmit<HeapBuf>]) {
        for transmit in sent {
            let frame = flat(&transmit.frame);
            let to_client = frame.starts_with(self.client.mac.octets());
            let peer = if to_client {
                &mut self.client
            } else {
                &mut self.server
            };
            peer.take(self.now, &frame);
        }
    }

    /// Time passes for everybody; the balancer's timers run in its own turn.
    pub(crate) fn step(&mut self, by: Nanos) {
        self.now = self.now.after(by);
        for host in [&mut self.client, &mut self.server] {
            host.stack.advance(self.now, &mut host.pool);
        }
    }

    /// The applications at both ends of sessions: a request, a reply, the client closes first.
    /// Returns how many sessions came to their end at the client.
    pub(crate) fn serve(&mut self, request: &[u8], reply: &[u8]) -> usize {
        let now = self.now;
        let mut buffer = [0; 4_096];
        let server = &mut self.server;
        while let Some(event) = server.stack.poll_event() {
            let received = server.stack.receive(now, event.flow, &mut buffer);
            if received.bytes > 0 {
                let sent = server.stack.send(now, event.flow, reply, &mut server.pool);
                assert_eq!(sent, reply.len(), "room for the reply");
            }
            if received.end_of_stream {
                server.stack.close(now, event.flow);
            }
        }
        let mut ended = 0;
        let client = &mut self.client;
        while let Some(event) = client.stack.poll_event() {
            if event.ready.contains(Ready::CONNECTED) {
                client
                    .stack
                    .send(now, event.flow, request, &mut client.pool);
            }
            let received = client.stack.receive(now, event.flow, &mut buffer);
            if received.bytes == reply.len() {
                client.stack.shutdown(now, event.flow);
            }
            if received.end_of_stream || event.ready.contains(Ready::CLOSED) {
                client.stack.close(now, event.flow);
                ended += 1;
            }
        }
        ended
    }

    /// Takes everything that arrived at a peer, and lets its window open again.
    pub(crate) fn drain(now: Instant, stack: &mut Stack<HeapPool>) -> usize {
        let mut buffer = [0; 65_536];
        let mut bytes = 0;
        while let Some(event) = stack.poll_event() {
            loop {
                let received = stack.receive(now, event.flow, &mut buffer);
                bytes += received.bytes;
                if received.bytes == 0 {
                    break;
                }
            }
        }
        bytes
    }
}

/// One listener, one pool, one backend, one SNAT address.
fn tables(lb: &Host) -> Box<Tables> {
    let mut tables = Tables::boxed();
    let interface = InterfaceRecord::new(PORT, lb.mac, 1_500);
    tables.push_interface(interface).expect("room");
    for (host, kind) in [
        (BALANCER, AddressKind::Interface),
        (VIP, AddressKind::Vip),
        (SNAT, AddressKind::Snat),
    ] {
        let record = AddressRecord {
            address: *address(host).octets(),
            port: PORT.number(),
            prefix_len: 24,
            kind: kind as u8,
            ..Default::default()
        };
        tables.push_address(record).expect("room");
    }
    let snat = SnatRecord {
        address: *address(SNAT).octets(),
        port_first: 1_024,
        port_last: 65_535,
        ..Default::default()
    };
    tables.push_snat(snat).expect("room");
    let pool = PoolRecord {
        name: "web".into(),
        backend_count: 1,
        algorithm: Algorithm::RoundRobin as u8,
        ..Default::default()
    };
    tables.push_pool(pool).expect("room");
    let backend = BackendRecord {
        address: *address(SERVER).octets(),
        port: SERVICE_PORT,
        weight: 1,
        ..Default::default()
    };
    tables.push_backend(backend).expect("room");
    let listener = ListenerRecord {
        name: "web".into(),
        address: *address(VIP).octets(),
        id: 3,
        port_first: SERVICE_PORT,
        port_last: SERVICE_PORT,
        ..Default::default()
    };
    tables.push_listener(listener).expect("room");
    tables
}
