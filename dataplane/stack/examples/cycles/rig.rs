//! A client, a balancer and a server, each a stack, joined by memory; only what the balancer does
//! is measured.

use std::time::Instant as Clock;

use millrace_base::{Address, Endpoint, FlowTuple, Instant, ListenerId, MacAddress, Nanos, PortId};
use millrace_stack::{
    Event, FlowId, Interface, ListenOptions, Listener, NeighborUpdate, Offloads, Prefixed, Ready,
    Stack, StackConfig, TcpTunables,
};

use crate::pool::{Buf, Pool};

const SERVICE_PORT: u16 = 80;

/// One stack and its buffers.
pub(crate) struct Host {
    pub(crate) stack: Stack<Pool>,
    pub(crate) pool: Pool,
}

/// The two connections of a session: to the client, to the server.
#[derive(Clone, Copy, Debug)]
struct Session {
    legs: [FlowId; 2],
    ended: [bool; 2],
}

/// All three hosts and the clock of their world.
pub(crate) struct Rig {
    pub(crate) now: Instant,
    pub(crate) client: Host,
    pub(crate) balancer: Host,
    pub(crate) server: Host,
    sessions: Vec<Session>,
    next_port: u16,
    clock_ns: u64,
    /// The only stage that is measured; all of them otherwise.
    only: Option<Stage>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    DataIn,
    Splice,
    DataOut,
    AckOut,
    AckIn,
    Session,
}

/// How long something took, in samples of nanoseconds for one unit of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    samples: Vec<f64>,
    units: usize,
}

impl Meter {
    pub(crate) fn add(&mut self, ns: u64, units: usize) {
        if units > 0 {
            self.samples.push(ns as f64 / units as f64);
            self.units += units;
        }
    }

    /// The median, which other load on the machine hardly moves.
    pub(crate) fn median(&mut self) -> f64 {
        self.quantile(2)
    }

    /// What one sample in ten stays below: the cost on a machine that does nothing else.
    pub(crate) fn best(&mut self) -> f64 {
        self.quantile(10)
    }

    /// Units in all samples: what to divide an instruction count by.
    pub(crate) fn units(&self) -> usize {
        self.units
    }

    fn quantile(&mut self, divisor: usize) -> f64 {
        self.samples.sort_unstable_by(f64::total_cmp);
        let rank = self.samples.len() / divisor;
        self.samples.get(rank).copied().unwrap_or(f64::NAN)
    }
}

impl Stage {
    pub(crate) const ALL: [Self; 6] = [
        Self::DataIn,
        Self::Splice,
        Self::DataOut,
        Self::AckOut,
        Self::AckIn,
        Self::Session,
    ];

    /// As `--only` takes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::DataIn => "data-in",
            Self::Splice => "splice",
            Self::DataOut => "data-out",
            Self::AckOut => "ack-out",
            Self::AckIn => "ack-in",
            Self::Session => "session",
        }
    }
}

/// What is timed runs inside this function, so that a profiler can tell it from the rest.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// The address of a host on one of the two links.
fn address(link: u8, host: u8) -> Address {
    Address::v4([10, link, 0, host])
}

fn mac(host: u8, port: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, host, port])
}

fn host(number: u8, links: &[u8], offload: bool) -> Host {
    let config = StackConfig {
        connections_max: 65_536,
        syn_queue_max: 4_096,
        time_wait_max: 65_536,
        chunks_max: 65_536,
        neighbors_max: 16,
        secret: [number; 32],
        tcp: TcpTunables::default(),
    };
    let interfaces: Vec<Interface> = links
        .iter()
        .enumerate()
        .map(|(port, link)| Interface {
            port: PortId::new(port as u16),
            mac: mac(number, port as u8),
            mtu: 1_500,
            addresses: core::iter::once(Prefixed {
                address: address(*link, number),
                prefix_len: 24,
            })
            .collect(),
            offloads: Offloads {
                ip_checksum: offload,
                tcp_checksum: offload,
                segments_max: 8,
                ..Offloads::default()
            },
        })
        .collect();
    let mut stack = Stack::new(config);
    stack.set_interfaces(Instant::ZERO, &interfaces);
    Host {
        stack,
        pool: Pool::new(32_768, offload),
    }
}

impl Host {
    fn knows(&mut self, now: Instant, port: u16, address: Address, mac: MacAddress) {
        let update = NeighborUpdate::Reachable(mac);
        self.stack
            .set_neighbor(now, PortId::new(port), address, update);
    }

    fn listen(&mut self, address: Address) {
        self.stack.set_listeners(&[Listener {
            id: ListenerId::new(1),
            address,
            port_first: SERVICE_PORT,
            port_last: SERVICE_PORT,
            options: ListenOptions::default(),
        }]);
    }

    /// A frame of another host arrives.
    pub(crate) fn take(&mut self, now: Instant, frame: &Buf) {
        let frame = self.pool.receive(frame);
        let punt = self
            .stack
            .handle(now, PortId::new(0), frame, &mut self.pool);
        assert!(punt.is_none());
    }

    /// Everything this host sends now.
    pub(crate) fn frames(&mut self, now: Instant) -> Vec<Buf> {
        let mut frames = Vec::new();
        while let Some(transmit) = self.stack.poll_transmit(now, &mut self.pool) {
            frames.push(transmit.frame);
        }
        frames
    }
}

impl Rig {
    /// `offload`: the devices compute and check checksums.
    pub(crate) fn new(offload: bool, only: Option<Stage>) -> Self {
        let now = Instant::from_millis(1);
        let (client, balancer, server) = (1, 2, 3);
        let mut rig = Self {
            now,
            client: host(client, &[0], offload),
            balancer: host(balancer, &[0, 1], offload),
            server: host(server, &[1], offload),
            sessions: Vec::new(),
            next_port: 1_024,
            clock_ns: clock_ns(),
            only,
        };
        rig.client
            .knows(now, 0, address(0, balancer), mac(balancer, 0));
        rig.balancer
            .knows(now, 0, address(0, client), mac(client, 0));
        rig.balancer
            .knows(now, 1, address(1, server), mac(server, 0));
        rig.server
            .knows(now, 0, address(1, balancer), mac(balancer, 1));
        rig.balancer.listen(address(0, balancer));
        rig.server.listen(address(1, server));
        rig
    }

    /// The client opens a connection to the balancer.
    pub(crate) fn connect(&mut self) -> FlowId {
        let local = Endpoint::new(address(0, 1), self.port());
        let remote = Endpoint::new(address(0, 2), SERVICE_PORT);
        let tuple = FlowTuple { local, remote };
        let flow = self.client.stack.connect(self.now, tuple, 0);
        flow.expect("a free tuple")
    }

    /// Time passes.
    pub(crate) fn step(&mut self, by: Nanos) {
        self.now = self.now.after(by);
        for host in [&mut self.client, &mut self.server] {
            host.stack.advance(self.now, &mut host.pool);
        }
    }

    /// Runs `work` and returns the nanoseconds it took, without those of looking at the clock.
    pub(crate) fn timed<T>(&mut self, stage: Stage, work: impl FnOnce(&mut Self) -> T) -> (u64, T) {
        if self.only.is_some_and(|only| only != stage) {
            return (0, work(self));
        }
        let start = Clock::now();
        let result = measured(|| work(self));
        let ns = start.elapsed().as_nanos() as u64;
        (ns.saturating_sub(self.clock_ns), result)
    }

    /// Hands received frames to the balancer; returns the time that took.
    pub(crate) fn handle(&mut self, stage: Stage, port: u16, frames: &[Buf]) -> u64 {
        let received: Vec<Buf> = frames
            .iter()
            .map(|f| self.balancer.pool.receive(f))
            .collect();
        let port = PortId::new(port);
        let (ns, ()) = self.timed(stage, |rig| {
            let Host { stack, pool } = &mut rig.balancer;
            stack.handle_burst(rig.now, port, received, pool, |punt| panic!("{punt:?}"));
        });
        ns
    }

    /// What a balancer does about its events, without any policy. Returns the bytes moved.
    pub(crate) fn balance(&mut self) -> usize {
        let mut bytes = 0;
        while let Some(event) = self.balancer.stack.poll_event() {
            bytes += self.on_event(event);
        }
        bytes
    }

    fn on_event(&mut self, event: Event) -> usize {
        if event.ready.contains(Ready::ACCEPTED) {
            return self.on_accepted(event);
        }
        let (number, leg) = (event.user as usize / 2, event.user as usize % 2);
        if number >= self.sessions.len() {
            return 0;
        }
        let mut bytes = 0;
        if event
            .ready
            .intersects(Ready::READABLE | Ready::PEER_CLOSED | Ready::CLOSED)
        {
            bytes += self.pump(number, leg, event.ready.contains(Ready::CLOSED));
        }
        if event.ready.intersects(Ready::WRITABLE | Ready::CONNECTED) {
            bytes += self.pump(number, 1 - leg, false);
        }
        bytes
    }

    fn on_accepted(&mut self, event: Event) -> usize {
        let local = Endpoint::new(address(1, 2), self.port());
        let remote = Endpoint::new(address(1, 3), SERVICE_PORT);
        let user = self.sessions.len() as u64 * 2;
        let stack = &mut self.balancer.stack;
        let back = stack.connect(self.now, FlowTuple { local, remote }, user + 1);
        stack.set_user(event.flow, user);
        self.sessions.push(Session {
            legs: [event.flow, back.expect("a free tuple")],
            ended: [false; 2],
        });
        0
    }

    fn pump(&mut self, number: usize, from: usize, closed: bool) -> usize {
        let session = &mut self.sessions[number];
        if session.ended[from] {
            return 0;
        }
        let [source, sink] = [session.legs[from], session.legs[1 - from]];
        let stack = &mut self.balancer.stack;
        let spliced = stack.splice(self.now, source, sink);
        if spliced.end_of_stream || closed {
            session.ended[from] = true;
            if session.ended == [true; 2] {
                stack.close(self.now, source);
                stack.close(self.now, sink);
            } else {
                stack.shutdown(self.now, sink);
            }
        }
        spliced.bytes as usize
    }

    /// A source port; 60,000 others come before it comes again.
    fn port(&mut self) -> u16 {
        self.next_port = if self.next_port >= 61_024 {
            1_024
        } else {
            self.next_port + 1
        };
        self.next_port
    }
}

/// What looking at the clock twice costs.
fn clock_ns() -> u64 {
    let mut meter = Meter::default();
    for _ in 0..10_000 {
        meter.add(Clock::now().elapsed().as_nanos() as u64, 1);
    }
    meter.median() as u64
}
