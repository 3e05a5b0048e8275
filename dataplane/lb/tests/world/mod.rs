//! A client, a balancer and backends, each on a stack of its own, joined by a switch in memory.
//!
//! One thread, one clock that only the world moves, one seed. The switch delivers by destination
//! address after a delay and can lose, duplicate and reorder. Nothing here knows how a stack works
//! inside; it sees frames, events and counters.
#![allow(dead_code, reason = "each test file uses its part of the world")]

mod client;
mod node;
mod server;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millrace_abi::{
    AddressKind, AddressRecord, Algorithm, BackendRecord, BackendState, Command, Event,
    InterfaceRecord, LegRecord, ListenerRecord, PoolRecord, SnatRecord, Tables,
};
use millrace_base::rss::RssMap;
use millrace_base::{Address, CongestionControl, Endpoint, Instant, LcoreIndex, Nanos, Rng};
use millrace_lb::{Balancer, BalancerConfig};
use millrace_stack::{NeighborUpdate, Offloads};

pub(crate) use client::{Client, Outcome, Request};
pub(crate) use node::{Node, PORT};
pub(crate) use server::{Reply, Server};

/// What the wires do to frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Of a thousand frames, how many are lost.
    pub(crate) lost: u32,
    /// Of a thousand frames, how many come twice.
    pub(crate) doubled: u32,
    /// Of a thousand frames, how many are late by up to a millisecond.
    pub(crate) late: u32,
}

/// Everything, and the clock.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) client: Client,
    pub(crate) lb: Node,
    pub(crate) balancer: Balancer,
    pub(crate) servers: Vec<Server>,
    /// What control would have read.
    pub(crate) reports: Vec<Event>,
    pub(crate) faults: Faults,
    tables: Box<Tables>,
    wires: BTreeMap<(Instant, u64), Flight>,
    sent: u64,
    rng: Rng,
    v6_backends: bool,
}

struct Flight {
    to: [u8; 6],
    bytes: Vec<u8>,
}

/// One way from card to card.
pub(crate) const DELAY: Nanos = Nanos::from_micros(50);

/// The address of a host on the one subnet, in either family.
pub(crate) fn address(last: u8, v6: bool) -> Address {
    if v6 {
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[15] = last;
        Address::v6(bytes)
    } else {
        Address::v4([10, 0, 0, last])
    }
}

/// Hosts of the subnet.
pub(crate) const CLIENT: u8 = 1;
pub(crate) const BALANCER: u8 = 10;
pub(crate) const SNAT: u8 = 11;
pub(crate) const VIP: u8 = 100;
pub(crate) const FIRST_SERVER: u8 = 21;
pub(crate) const SERVICE_PORT: u16 = 80;

pub(crate) struct WorldOptions {
    pub(crate) seed: u64,
    pub(crate) servers: u8,
    pub(crate) sessions_max: usize,
    pub(crate) algorithm: Algorithm,
    /// Clients speak IPv4 either way.
    pub v6_backends: bool,
    pub(crate) snat_ports: (u16, u16),
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            servers: 2,
            sessions_max: 1_024,
            algorithm: Algorithm::RoundRobin,
            v6_backends: false,
            snat_ports: (1_024, 65_535),
        }
    }
}

impl World {
    pub(crate) fn new(options: &WorldOptions) -> Self {
        println!("seed {}", options.seed);
        let config = BalancerConfig {
            lcore: LcoreIndex::new(0),
            sessions_max: options.sessions_max,
            probes_max: 16,
            snat_pairs_max: 16,
            seed: options.seed,
        };
        let mut world = Self {
            now: Instant::from_millis(1),
            client: Client::new(Node::new(CLIENT, options.seed)),
            lb: Node::new(BALANCER, options.seed.wrapping_add(1)),
            balancer: Balancer::new(config, Arc::new(RssMap::single())),
            servers: (0..options.servers)
                .map(|index| {
                    let host = FIRST_SERVER + index;
                    Server::new(Node::new(host, options.seed.wrapping_add(u64::from(host))))
                })
                .collect(),
            reports: Vec::new(),
            faults: Faults::default(),
            tables: Tables::boxed(),
            wires: BTreeMap::new(),
            sent: 0,
            rng: Rng::new(options.seed),
            v6_backends: options.v6_backends,
        };
        world.client.node.configure_host(world.now);
        for server in &mut world.servers {
            server.node.configure_host(world.now);
            server.listen();
        }
        world.fill_tables(options);
        world.adopt();
        world.introduce_everybody();
        world
    }

    /// Changes the backends as control would, and publishes the tables.
    pub(crate) fn change_backends(&mut self, change: impl Fn(u16, &mut BackendRecord)) {
        let mut fresh = self.network_tables();
        for record in self.tables.pools() {
            fresh.push_pool(*record).expect("room");
        }
        for record in self.tables.listeners() {
            fresh.push_listener(*record).expect("room");
        }
        for (index, record) in self.tables.backends().iter().enumerate() {
            let mut record = *record;
            change(index as u16, &mut record);
            fresh.push_backend(record).expect("room");
        }
        self.tables = fresh;
        self.adopt();
    }

    /// Changes the congestion control of all listeners' clients and of all pools' backends; `None`
    /// leaves it to the dataplane.
    pub(crate) fn choose(
        &mut self,
        clients: Option<CongestionControl>,
        backends: Option<CongestionControl>,
    ) {
        let leg = |control: Option<CongestionControl>| LegRecord {
            congestion_control: control.map_or(0, CongestionControl::number),
            ..Default::default()
        };
        let mut fresh = self.network_tables();
        for record in self.tables.pools() {
            let leg = leg(backends);
            fresh
                .push_pool(PoolRecord { leg, ..*record })
                .expect("room");
        }
        for record in self.tables.backends() {
            fresh.push_backend(*record).expect("room");
        }
        for record in self.tables.listeners() {
            let record = ListenerRecord {
                leg: leg(clients),
                ..*record
            };
            fresh.push_listener(record).expect("room");
        }
        self.tables = fresh;
        self.adopt();
    }

    /// Replaces the listeners, all of them of the first pool.
    pub(crate) fn listen(&mut self, listeners: &[(Address, u16, u16)]) {
        let mut fresh = self.network_tables();
        for record in self.tables.pools() {
            fresh.push_pool(*record).expect("room");
        }
        for record in self.tables.backends() {
            fresh.push_backend(*record).expect("room");
        }
        for (id, (address, port_first, port_last)) in (7u16..).zip(listeners) {
            let record = ListenerRecord {
                name: "any".into(),
                address: *address.octets(),
                id,
                port_first: *port_first,
                port_last: *port_last,
                ..Default::default()
            };
            fresh.push_listener(record).expect("room");
        }
        self.tables = fresh;
        self.adopt();
    }

    /// Starts a request to any of our addresses and ports.
    pub(crate) fn request_at(&mut self, host: u8, v6: bool, port: u16, request: Request) -> usize {
        let target = Endpoint::new(address(host, v6), port);
        self.client.start(self.now, target, request)
    }

    /// Sessions that each listener has had, in the order of their ids.
    pub(crate) fn sessions_by_listener(&mut self) -> Vec<(u16, u64)> {
        let mut rows = Vec::new();
        self.balancer.write_counters(
            |_, _| {},
            |id, counters| rows.push((id.number(), counters.sessions_total)),
        );
        rows
    }

    /// Publishes tables with our addresses, but without any listener, pool or backend.
    pub(crate) fn remove_services(&mut self) {
        self.tables = self.network_tables();
        self.adopt();
    }

    /// The present tables' addresses and ports.
    fn network_tables(&self) -> Box<Tables> {
        let mut fresh = Tables::boxed();
        for record in self.tables.interfaces() {
            fresh.push_interface(*record).expect("room");
        }
        for record in self.tables.addresses() {
            fresh.push_address(*record).expect("room");
        }
        for record in self.tables.snat() {
            fresh.push_snat(*record).expect("room");
        }
        fresh
    }

    pub(crate) fn set_backend_state(&mut self, which: u16, state: BackendState) {
        self.change_backends(|index, record| {
            if index == which {
                record.state = state as u8;
            }
        });
    }

    pub(crate) fn publish_nothing(&mut self) {
        let empty = Tables::boxed();
        self.balancer
            .adopt(self.now, &empty, &[], &mut self.lb.stack);
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.balancer
            .handle_command(self.now, &command, &mut self.lb.stack);
    }

    /// Resets some of what is left, as a worker does when it leaves.
    pub(crate) fn reset_sessions(&mut self) -> bool {
        self.balancer.reset_sessions(self.now, &mut self.lb.stack)
    }

    /// Starts a request to the VIP.
    pub(crate) fn request(&mut self, request: Request) -> usize {
        let vip = Endpoint::new(address(VIP, false), SERVICE_PORT);
        self.client.start(self.now, vip, request)
    }

    /// The backend as the tables name it.
    pub(crate) fn backend_endpoint(&self, which: u8) -> Endpoint {
        Endpoint::new(
            address(FIRST_SERVER + which, self.v6_backends),
            SERVICE_PORT,
        )
    }

    /// Runs until `done` or for `span` of the world's time; tells whether it was `done`.
    pub(crate) fn run_until(&mut self, span: Nanos, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.after(span);
        let mut still = 0u32;
        loop {
            let before = self.now;
            self.turn();
            if done(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            let next = self.next_moment().min(end);
            self.now = self.now.max(next);
            still = if self.now == before { still + 1 } else { 0 };
            assert!(still < 10_000, "the world stands still at {:?}", self.now);
        }
    }

    /// Runs for `span`.
    pub(crate) fn run_for(&mut self, span: Nanos) {
        self.run_until(span, |_| false);
    }

    /// Runs until every request has an outcome; panics when that takes longer than `span`.
    pub(crate) fn finish_requests(&mut self, span: Nanos) {
        let done = self.run_until(span, |world| world.client.all_done());
        assert!(done, "unfinished requests: {:?}", self.client.unfinished());
    }

    /// Waits out TIME_WAIT and everything else, then checks that nothing is left anywhere.
    pub(crate) fn assert_nothing_leaks(&mut self) {
        self.assert_the_balancer_is_empty();
        assert_eq!(self.client.node.pool.live(), 0, "buffers of the client");
        for server in &self.servers {
            assert_eq!(server.node.pool.live(), 0, "buffers of a server");
        }
    }

    /// The same for the balancer alone: a peer whose last RST was lost may go on waiting.
    pub(crate) fn assert_the_balancer_is_empty(&mut self) {
        self.run_for(Nanos::from_secs(130));
        self.wires.clear();
        assert_eq!(self.balancer.counters().sessions_active, 0, "sessions");
        assert_eq!(
            self.balancer.counters().sessions_connecting,
            0,
            "connecting sessions"
        );
        assert_eq!(
            self.balancer.counters().events_unowned,
            0,
            "events of nobody"
        );
        self.balancer.write_counters(
            |id, backend| {
                assert_eq!(backend.sessions_active, 0, "sessions of {id:?}");
                assert_eq!(backend.ports_used, 0, "ports towards {id:?}");
            },
            |id, listener| assert_eq!(listener.sessions_active, 0, "sessions of {id:?}"),
        );
        assert_eq!(self.lb.stack.tuple_changes_lost(), 0, "changes of tuples");
        assert_eq!(
            self.lb.stack.connection_count(),
            0,
            "connections of the balancer"
        );
        assert_eq!(self.lb.pool.live(), 0, "buffers of the balancer");
        assert_eq!(
            self.lb.stack.stats().payload_copied_bytes,
            0,
            "copied bytes"
        );
    }

    fn turn(&mut self) {
        let now = self.now;
        while let Some(entry) = self.wires.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let flight = entry.remove();
            self.deliver(&flight);
        }
        self.client.turn(now);
        for server in &mut self.servers {
            server.turn(now);
        }
        self.lb.stack.advance(now, &mut self.lb.pool);
        while let Some(event) = self.lb.stack.poll_event() {
            self.balancer.handle_event(now, event, &mut self.lb.stack);
        }
        self.balancer.advance(now, &mut self.lb.stack);
        while let Some(report) = self.balancer.poll_report(now, &mut self.lb.stack) {
            self.reports.push(report);
        }
        let mut frames = VecDeque::new();
        self.client.node.collect(now, &mut frames);
        self.lb.collect(now, &mut frames);
        for server in &mut self.servers {
            if !server.silent {
                server.node.collect(now, &mut frames);
            }
        }
        for bytes in frames {
            self.fly(bytes);
        }
    }

    fn fly(&mut self, bytes: Vec<u8>) {
        let Faults {
            lost,
            doubled,
            late,
        } = self.faults;
        if self.rng.below(1_000) < lost {
            return;
        }
        let copies = if self.rng.below(1_000) < doubled {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let mut at = self.now.after(DELAY);
            if self.rng.below(1_000) < late {
                at = at.after(Nanos::from_micros(u64::from(self.rng.below(1_000))));
            }
            self.sent += 1;
            let to = bytes[..6].try_into().expect("an Ethernet frame");
            let bytes = bytes.clone();
            self.wires.insert((at, self.sent), Flight { to, bytes });
        }
    }

    fn deliver(&mut self, flight: &Flight) {
        let now = self.now;
        let servers = self.servers.iter_mut().filter(|server| !server.silent);
        let nodes = [&mut self.client.node, &mut self.lb]
            .into_iter()
            .chain(servers.map(|server| &mut server.node));
        for node in nodes {
            if *node.mac.octets() == flight.to {
                node.receive(now, &flight.bytes);
            }
        }
    }

    fn next_moment(&self) -> Instant {
        let wire = self
            .wires
            .first_key_value()
            .map_or(Instant::NEVER, |(key, _)| key.0);
        let mut next = wire
            .min(self.client.node.stack.next_deadline())
            .min(self.lb.stack.next_deadline())
            .min(self.balancer.next_deadline());
        for server in &self.servers {
            next = next.min(server.node.stack.next_deadline());
        }
        // A deadline in the past means "again, soon".
        next.max(self.now.after(Nanos::from_micros(1)))
    }

    fn fill_tables(&mut self, options: &WorldOptions) {
        let tables = &mut self.tables;
        let interface = InterfaceRecord::new(PORT, self.lb.mac, 1_500);
        tables.push_interface(interface).expect("room");
        for v6 in [false, true] {
            for (host, kind) in [
                (BALANCER, AddressKind::Interface),
                (VIP, AddressKind::Vip),
                (SNAT, AddressKind::Snat),
            ] {
                let record = AddressRecord {
                    address: *address(host, v6).octets(),
                    port: PORT.number(),
                    prefix_len: if v6 { 64 } else { 24 },
                    kind: kind as u8,
                    ..Default::default()
                };
                tables.push_address(record).expect("room");
            }
            let snat = SnatRecord {
                address: *address(SNAT, v6).octets(),
                port_first: options.snat_ports.0,
                port_last: options.snat_ports.1,
                ..Default::default()
            };
            tables.push_snat(snat).expect("room");
        }
        let pool = PoolRecord {
            name: "web".into(),
            backend_count: u16::from(options.servers),
            algorithm: options.algorithm as u8,
            ..Default::default()
        };
        tables.push_pool(pool).expect("room");
        for index in 0..options.servers {
            let record = BackendRecord {
                address: *address(FIRST_SERVER + index, options.v6_backends).octets(),
                // Ids need not be dense, nor follow the order of the records.
                id: 40 - u16::from(index),
                port: SERVICE_PORT,
                weight: 1,
                ..Default::default()
            };
            tables.push_backend(record).expect("room");
        }
        let listener = ListenerRecord {
            name: "web".into(),
            address: *address(VIP, false).octets(),
            id: 3,
            port_first: SERVICE_PORT,
            port_last: SERVICE_PORT,
            ..Default::default()
        };
        tables.push_listener(listener).expect("room");
    }

    fn adopt(&mut self) {
        // A frame may be made of pieces; otherwise small ones would have to be copied together.
        let offloads = [Offloads {
            segments_max: 8,
            ..Offloads::default()
        }];
        self.balancer
            .adopt(self.now, &self.tables, &offloads, &mut self.lb.stack);
        assert_eq!(self.balancer.counters().records_invalid, 0);
    }

    fn introduce_everybody(&mut self) {
        let mut book = vec![(CLIENT, self.client.node.mac)];
        for host in [BALANCER, VIP, SNAT] {
            book.push((host, self.lb.mac));
        }
        for (index, server) in self.servers.iter().enumerate() {
            book.push((FIRST_SERVER + index as u8, server.node.mac));
        }
        let now = self.now;
        let servers = self.servers.iter_mut().map(|server| &mut server.node);
        for node in [&mut self.client.node, &mut self.lb]
            .into_iter()
            .chain(servers)
        {
            for (host, mac) in &book {
                for v6 in [false, true] {
                    let update = NeighborUpdate::Reachable(*mac);
                    node.stack
                        .set_neighbor(now, PORT, address(*host, v6), update);
                }
            }
        }
    }
}

/// Bytes that depend on a number: what a stream should be.
pub(crate) fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
