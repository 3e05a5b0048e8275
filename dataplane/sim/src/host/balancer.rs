//! The balancer itself: `lb` over a stack, as a host between clients and servers.
//!
//! Nobody runs programs on it. What it terminates at its VIP it joins with a connection of its own
//! to the servers' host, by reference, so that its two legs lose, reorder and stall independently.
//! Control is played by what is here: tables once at the start, and an answer to every neighbour
//! that is asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use millrace_abi::{
    AddressKind, AddressRecord, BackendRecord, Command, Event, InterfaceRecord, ListenerRecord,
    NeighborState, PoolRecord, SnatRecord, Tables,
};
use millrace_base::rss::RssMap;
use millrace_base::{Address, Endpoint, HeapPool, Instant, LcoreIndex, MacAddress, Nanos, PortId};
use millrace_lb::{Balancer, BalancerConfig};
use millrace_stack::{Occupancy, Offloads, Stack, StackConfig, Transmit};

use super::stack::StackPlan;
use super::{Accepted, Conn, Host, Io, Joint, address_of};

/// Where clients go, and where the balancer's own connections come from: numbers of nodes that are
/// none.
const VIP: usize = 199;
const SNAT: usize = 200;
/// Ports of the servers, each a backend of its own: as many attempts as the balancer makes.
pub(crate) const BACKEND_PORTS: u16 = 4;
/// The only link.
const PORT: PortId = PortId::new(0);
/// Our end of it and that of everybody else.
const OURS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);
/// Bytes of an Ethernet header.
const HEADER_BYTES: usize = 14;
/// Bytes of one packet buffer, for the largest MTU there is here, and pieces that one frame may be
/// made of.
const BUFFER_BYTES: usize = 9_344;
const SEGMENTS_MAX: u16 = 48;
/// The smallest step of time.
const SOON: Nanos = Nanos::from_micros(1);
/// Sessions, and connections of the stack: two for each, and those that linger.
const SESSIONS_MAX: usize = 128;
const CONNECTIONS_MAX: usize = 512;

/// Where clients of a balancer connect to.
pub(crate) const fn vip(v6: bool) -> Address {
    address_of(VIP, v6)
}

/// Whether an address is one of the balancer's, beside that of its node.
pub(crate) fn is_of_balancer(address: Address, v6: bool) -> bool {
    address == vip(v6) || address == address_of(SNAT, v6)
}

/// The host.
pub(crate) struct BalancerHost {
    stack: Stack<HeapPool>,
    pool: HeapPool,
    balancer: Balancer,
    out: VecDeque<Vec<u8>>,
    now: Instant,
}

impl core::fmt::Debug for BalancerHost {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "BalancerHost({:?})", self.stack.occupancy())
    }
}

impl BalancerHost {
    /// The balancer at a node, for servers that listen at `BACKEND_PORTS` ports from `port` on of
    /// the address `servers`.
    pub(crate) fn new(
        node: usize,
        v6: bool,
        plan: &StackPlan,
        secret: u64,
        servers: Endpoint,
    ) -> Self {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&secret.to_le_bytes());
        }
        let mut host = Self {
            stack: Stack::new(StackConfig {
                connections_max: CONNECTIONS_MAX,
                syn_queue_max: 1_024,
                time_wait_max: 4_096,
                chunks_max: plan.buffers,
                neighbors_max: 64,
                secret: bytes,
                tcp: plan.tcp,
            }),
            pool: HeapPool::new(plan.buffers * 2, BUFFER_BYTES),
            balancer: Balancer::new(
                BalancerConfig {
                    lcore: LcoreIndex::new(0),
                    sessions_max: SESSIONS_MAX,
                    probes_max: 4,
                    snat_pairs_max: 16,
                    seed: secret,
                },
                Arc::new(RssMap::single()),
            ),
            out: VecDeque::new(),
            now: Instant::ZERO,
        };
        let offloads = [Offloads {
            segments_max: SEGMENTS_MAX,
            ..Offloads::default()
        }];
        let tables = tables(node, v6, plan.mtu, servers);
        let now = Instant::ZERO;
        host.balancer
            .adopt(now, &tables, &offloads, &mut host.stack);
        host
    }

    /// Lets everything happen that is due, and everything leave that may.
    fn settle(&mut self, now: Instant) {
        let Self {
            stack,
            pool,
            balancer,
            out,
            now: latest,
        } = self;
        *latest = now;
        loop {
            let mut moved = false;
            while let Some(event) = stack.poll_event() {
                balancer.handle_event(now, event, stack);
                moved = true;
            }
            balancer.advance(now, stack);
            while let Some(report) = balancer.poll_report(now, stack) {
                if let Event::NeighborNeeded { port, address } = report {
                    let state = NeighborState::Reachable(THEIRS);
                    let command = Command::NeighborSet {
                        port,
                        address,
                        state,
                    };
                    balancer.handle_command(now, &command, stack);
                    moved = true;
                }
            }
            stack.transmit(now, pool, |Transmit { port: _, frame }| {
                let mut packet = frame.to_vec();
                packet.drain(..HEADER_BYTES.min(packet.len()));
                out.push_back(packet);
                moved = true;
                true
            });
            if !moved {
                break;
            }
        }
    }
}

/// What control publishes.
fn tables(node: usize, v6: bool, mtu: u16, servers: Endpoint) -> Box<Tables> {
    let mut tables = Tables::boxed();
    let full = "room for a few records";
    tables
        .push_interface(InterfaceRecord::new(PORT, OURS, mtu))
        .expect(full);
    for (number, kind) in [
        (node, AddressKind::Interface),
        (VIP, AddressKind::Vip),
        (SNAT, AddressKind::Snat),
    ] {
        let record = AddressRecord {
            address: *address_of(number, v6).octets(),
            port: PORT.number(),
            prefix_len: if v6 { 64 } else { 24 },
            kind: kind as u8,
            ..Default::default()
        };
        tables.push_address(record).expect(full);
    }
    let source = SnatRecord {
        address: *address_of(SNAT, v6).octets(),
        port_first: 1_024,
        port_last: 65_535,
        ..Default::default()
    };
    tables.push_snat(source).expect(full);
    let pool = PoolRecord {
        name: "servers".into(),
        backend_count: BACKEND_PORTS,
        ..Default::default()
    };
    tables.push_pool(pool).expect(full);
    for id in 0..BACKEND_PORTS {
        let backend = BackendRecord {
            address: *servers.address.octets(),
            id,
            port: servers.port + id,
            weight: 1,
            ..Default::default()
        };
        tables.push_backend(backend).expect(full);
    }
    let listener = ListenerRecord {
        name: "service".into(),
        address: *vip(v6).octets(),
        port_first: servers.port,
        port_last: servers.port,
        ..Default::default()
    };
    tables.push_listener(listener).expect(full);
    tables
}

impl Host for BalancerHost {
    fn packet_in(&mut self, now: Instant, packet: &[u8]) {
        let ether_type = match packet.first().map(|byte| byte >> 4) {
            Some(4) => [0x08, 0x00],
            Some(6) => [0x86, 0xdd],
            _ => return,
        };
        let head = [&OURS.octets()[..], THEIRS.octets(), &ether_type];
        let frame = [&head.concat(), packet].concat();
        // A device without a buffer drops.
        if let Some(frame) = self.pool.receive(&frame) {
            self.stack.handle(now, PORT, frame, &mut self.pool);
        }
        self.settle(now);
    }

    fn packet_out(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Instant {
        let (stack, balancer) = (&self.stack, &self.balancer);
        let next = stack.next_deadline().min(balancer.next_deadline());
        if next == Instant::NEVER {
            return next;
        }
        // What is due already is due soon.
        next.max(self.now.after(SOON))
    }

    fn advance(&mut self, now: Instant) {
        self.stack.advance(now, &mut self.pool);
        self.settle(now);
    }

    fn listen(&mut self, _now: Instant, _port: u16) {
        unreachable!("{NO_PROGRAMS}")
    }

    fn stop_listening(&mut self, _now: Instant) {}

    fn connect(&mut self, _now: Instant, _to: Endpoint, _fast: bool) -> Option<(Conn, u16)> {
        unreachable!("{NO_PROGRAMS}")
    }

    fn accept(&mut self, _now: Instant) -> Option<Accepted> {
        None
    }

    fn write(&mut self, _now: Instant, _conn: Conn, _bytes: &[u8]) -> Io {
        unreachable!("{NO_PROGRAMS}")
    }

    fn read(&mut self, _now: Instant, _conn: Conn, _len: usize, _into: &mut Vec<u8>) -> Io {
        unreachable!("{NO_PROGRAMS}")
    }

    fn shut_down(&mut self, _now: Instant, _conn: Conn) {
        unreachable!("{NO_PROGRAMS}")
    }

    fn close(&mut self, _now: Instant, _conn: Conn, _abort: bool) {
        unreachable!("{NO_PROGRAMS}")
    }

    fn left_over(&self) -> Option<String> {
        let (tables, buffers) = (self.stack.occupancy(), self.pool.live());
        let sessions = self.balancer.counters().sessions_active;
        let copied = self.stack.stats().payload_copied_bytes;
        if tables == Occupancy::default() && buffers == 0 && sessions == 0 && copied == 0 {
            return None;
        }
        Some(format!(
            "{sessions} sessions, {buffers} buffers, {tables:?}, and has copied {copied} bytes"
        ))
    }

    fn is_honest(&self) -> bool {
        true
    }

    fn joints(&mut self, now: Instant) -> Vec<Joint> {
        let all = Command::ListConnections {
            token: 1,
            cursor: 0,
            limit: u32::MAX,
        };
        self.balancer.handle_command(now, &all, &mut self.stack);
        let mut joints = Vec::new();
        // A listing looks at so many sessions at a time.
        let mut at = now;
        while self.balancer.next_deadline() == Instant::ZERO {
            while let Some(report) = self.balancer.poll_report(at, &mut self.stack) {
                if let Event::ConnectionRow(row) = report {
                    joints.push(Joint {
                        client: row.client,
                        source: row.snat,
                        server: row.backend,
                    });
                }
            }
            at = at.after(Nanos::new(1));
        }
        joints
    }
}

/// Why these calls are never made.
const NO_PROGRAMS: &str = "nobody runs programs on a balancer";
