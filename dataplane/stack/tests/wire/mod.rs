//! A virtual Ethernet between stacks: seeded delay, loss, duplication and reordering in virtual
//! time.
//!
//! Each stack has one port per link end and its own pool. Neighbours are supplied, as the control
//! path would.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::collections::BTreeMap;

use millrace_base::{
    Address, ChecksumStatus, Endpoint, FlowTuple, HeapBuf, HeapPool, Instant, ListenerId,
    MacAddress, Nanos, PacketBuf, PortId, Prefix, Rng,
};
use millrace_stack::{
    Event, FlowId, Interface, ListenOptions, Listener, NeighborUpdate, Offloads, Prefixed, Punt,
    Ready, Route, RouteAttributes, Stack, StackConfig, TcpTunables, Transmit,
};

/// What a link does to frames, in percent and time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) loss_percent: u32,
    pub(crate) duplicate_percent: u32,
    pub(crate) reorder_percent: u32,
}

/// One stack and what belongs to it.
pub(crate) struct Node {
    pub(crate) stack: Stack<HeapPool>,
    pub(crate) pool: HeapPool,
    pub(crate) events: Vec<Event>,
    pub(crate) punts: Vec<Punt<HeapBuf>>,
}

/// Nodes, links between their ports, and frames in flight.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    /// (node, port) to (node, port).
    links: BTreeMap<(usize, u16), (usize, u16)>,
    in_flight: BTreeMap<(Instant, u64), (usize, PortId, Vec<u8>)>,
    pub(crate) delay: Nanos,
    pub(crate) faults: Faults,
    rng: Rng,
    sequence: u64,
    /// Every frame that was put on a link, when recording.
    pub(crate) recorded: Option<Vec<Vec<u8>>>,
    /// A node whose devices merge segments (LRO), and the bytes of the buffers that they fill: what
    /// they deliver is a chain whose checksums they have verified.
    pub(crate) merges: Option<(usize, usize)>,
    /// Connections at rest lose their desks after everything that happens.
    pub(crate) rests: bool,
}

pub(crate) fn config(seed: u8) -> StackConfig {
    StackConfig {
        connections_max: 64,
        syn_queue_max: 32,
        time_wait_max: 32,
        chunks_max: 8_192,
        neighbors_max: 16,
        secret: [seed; 32],
        tcp: TcpTunables::default(),
    }
}

pub(crate) fn node(config: StackConfig) -> Node {
    Node {
        stack: Stack::new(config),
        pool: HeapPool::new(16_384, 2_176),
        events: Vec::new(),
        punts: Vec::new(),
    }
}

pub(crate) fn mac(node: usize, port: u16) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, node as u8, port as u8])
}

/// The address of a node on a link: `10.link.0.node` or `fd00:link::node`.
pub(crate) fn address(v6: bool, link: u8, node: u8) -> Address {
    if v6 {
        Address::v6([0xfd, 0, 0, link, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, node])
    } else {
        Address::v4([10, link, 0, node])
    }
}

pub(crate) fn interface(port: u16, mac: MacAddress, addresses: &[Address]) -> Interface {
    let prefixed = addresses.iter().map(|address| Prefixed {
        address: *address,
        prefix_len: if address.is_v4() { 24 } else { 64 },
    });
    Interface {
        port: PortId::new(port),
        mac,
        mtu: 1_500,
        addresses: prefixed.collect(),
        offloads: Offloads {
            segments_max: 8,
            ..Offloads::default()
        },
    }
}

pub(crate) fn listener(id: u16, address: Address, port: u16) -> Listener {
    Listener {
        id: ListenerId::new(id),
        address,
        port_first: port,
        port_last: port,
        options: ListenOptions::default(),
    }
}

pub(crate) fn tuple(
    local: Address,
    local_port: u16,
    remote: Address,
    remote_port: u16,
) -> FlowTuple {
    FlowTuple {
        local: Endpoint::new(local, local_port),
        remote: Endpoint::new(remote, remote_port),
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_millis(1_000),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            delay: Nanos::from_millis(5),
            faults: Faults::default(),
            rng: Rng::new(seed),
            sequence: 0,
            recorded: None,
            merges: None,
            rests: false,
        }
    }

    /// Nodes in a row: node `n` has port 0 to its left neighbour and port 1 to its right one, on
    /// links numbered by their left node. Every node has both families and knows its neighbours.
    pub(crate) fn chain(seed: u64, count: usize) -> Self {
        Self::chain_with_desks(seed, count, 0)
    }

    /// The same where the stack of each node can have so many connections at work at a time; 0 is any
    /// number.
    pub(crate) fn chain_with_desks(seed: u64, count: usize, desks: usize) -> Self {
        let mut world = Self::new(seed);
        for index in 0..count {
            let mut node = node(config(index as u8 + 1));
            node.stack = Stack::with_desks(config(index as u8 + 1), desks);
            let mut interfaces = Vec::new();
            if index > 0 {
                let link = index as u8 - 1;
                let addresses = [address(false, link, 2), address(true, link, 2)];
                interfaces.push(interface(0, mac(index, 0), &addresses));
                world.links.insert((index, 0), (index - 1, 1));
            }
            if index + 1 < count {
                let link = index as u8;
                let addresses = [address(false, link, 1), address(true, link, 1)];
                interfaces.push(interface(1, mac(index, 1), &addresses));
                world.links.insert((index, 1), (index + 1, 0));
            }
            node.stack.set_interfaces(world.now, &interfaces);
            world.nodes.push(node);
        }
        world.resolve_all();
        world
    }

    /// Tells every node the link addresses of its neighbours.
    pub(crate) fn resolve_all(&mut self) {
        for ((node, port), (peer, peer_port)) in self.links.clone() {
            for v6 in [false, true] {
                let (link, last) = if port == 0 { (peer, 1) } else { (node, 2) };
                self.nodes[node].stack.set_neighbor(
                    self.now,
                    PortId::new(port),
                    address(v6, link as u8, last),
                    NeighborUpdate::Reachable(mac(peer, peer_port)),
                );
            }
        }
    }

    /// Takes out everything the nodes want to send and puts it on the links.
    pub(crate) fn transmit(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let mut frames = Vec::new();
            while let Some(Transmit { port, frame }) =
                node.stack.poll_transmit(self.now, &mut node.pool)
            {
                frames.push((port, frame.to_vec()));
            }
            for (port, bytes) in frames {
                self.put(index, port, bytes);
            }
            let node = &mut self.nodes[index];
            while let Some(event) = node.stack.poll_event() {
                node.events.push(event);
            }
        }
    }

    /// Hands a frame to a node at once.
    pub(crate) fn deliver(&mut self, node: usize, port: PortId, bytes: &[u8]) {
        let merged = self.merges.filter(|(merges, _)| *merges == node);
        let node = &mut self.nodes[node];
        let frame = match merged {
            Some((_, buffer_bytes)) => merged_frame(&mut node.pool, bytes, buffer_bytes),
            None => node.pool.receive(bytes),
        };
        let Some(frame) = frame else {
            return;
        };
        if let Some(punt) = node.stack.handle(self.now, port, frame, &mut node.pool) {
            node.punts.push(punt);
        }
    }

    /// Moves to the next instant at which anything happens, not beyond `limit`. `false` when
    /// nothing is left to do.
    pub(crate) fn step(&mut self, limit: Instant) -> bool {
        self.transmit();
        let arrival = self
            .in_flight
            .keys()
            .next()
            .map_or(Instant::NEVER, |(at, _)| *at);
        let deadlines = self.nodes.iter().map(|node| node.stack.next_deadline());
        let next = deadlines.fold(arrival, Ord::min);
        if next == Instant::NEVER || next > limit {
            self.now = limit;
            return false;
        }
        // The wheel may name a time that is past; time still goes on.
        self.now = next.max(self.now.after(Nanos::from_micros(10)));
        while let Some((key, _)) = self.in_flight.first_key_value() {
            let key = *key;
            if key.0 > self.now {
                break;
            }
            let (node, port, bytes) = self.in_flight.remove(&key).expect("first key");
            self.deliver(node, port, &bytes);
        }
        self.rest();
        for node in &mut self.nodes {
            node.stack.advance(self.now, &mut node.pool);
        }
        self.transmit();
        self.rest();
        true
    }

    fn rest(&mut self) {
        if self.rests {
            for node in &mut self.nodes {
                node.stack.rest_all();
            }
        }
    }

    /// Runs until `done`, and panics when it is not reached within `ms` of virtual time.
    pub(crate) fn run_until(&mut self, ms: u64, mut done: impl FnMut(&mut Self) -> bool) {
        let limit = self.now.after(Nanos::from_millis(ms));
        loop {
            if done(self) {
                return;
            }
            assert!(self.step(limit), "not reached by {limit:?}");
        }
    }

    /// Runs for `ms` of virtual time.
    pub(crate) fn run_for(&mut self, ms: u64) {
        let limit = self.now.after(Nanos::from_millis(ms));
        while self.step(limit) {}
    }

    /// All news of one connection so far.
    pub(crate) fn ready(&self, node: usize, flow: FlowId) -> Ready {
        let events = self.nodes[node]
            .events
            .iter()
            .filter(|event| event.flow == flow);
        events.fold(Ready::NONE, |all, event| all | event.ready)
    }

    /// The first connection that a node accepted.
    pub(crate) fn accepted(&self, node: usize) -> Option<FlowId> {
        let events = &self.nodes[node].events;
        let event = events
            .iter()
            .find(|event| event.ready.contains(Ready::ACCEPTED));
        event.map(|event| event.flow)
    }

    /// Sends what fits of `data` from `*sent` on.
    pub(crate) fn send(&mut self, node: usize, flow: FlowId, data: &[u8], sent: &mut usize) {
        let node = &mut self.nodes[node];
        *sent += node
            .stack
            .send(self.now, flow, &data[*sent..], &mut node.pool);
    }

    /// Reads everything that waits behind `out`. Returns whether the stream has ended.
    pub(crate) fn receive(&mut self, node: usize, flow: FlowId, out: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 4_096];
        loop {
            let received = self.nodes[node].stack.receive(self.now, flow, &mut buffer);
            out.extend_from_slice(&buffer[..received.bytes]);
            if received.bytes == 0 {
                return received.end_of_stream;
            }
        }
    }

    fn put(&mut self, node: usize, port: PortId, bytes: Vec<u8>) {
        if let Some(recorded) = &mut self.recorded {
            recorded.push(bytes.clone());
        }
        let Some((peer, peer_port)) = self.links.get(&(node, port.number())).copied() else {
            return;
        };
        if self.rng.below(100) < self.faults.loss_percent {
            return;
        }
        let copies = 1 + u32::from(self.rng.below(100) < self.faults.duplicate_percent);
        for _ in 0..copies {
            let mut delay = self.delay;
            if self.rng.below(100) < self.faults.reorder_percent {
                delay = delay.plus(Nanos::from_micros(u64::from(self.rng.below(4_000))));
            }
            self.sequence += 1;
            let key = (self.now.after(delay), self.sequence);
            self.in_flight
                .insert(key, (peer, PortId::new(peer_port), bytes.clone()));
        }
    }
}

/// A frame as a device delivers it that has merged segments.
fn merged_frame(pool: &mut HeapPool, bytes: &[u8], buffer_bytes: usize) -> Option<HeapBuf> {
    let mut pieces = bytes.chunks(buffer_bytes);
    let mut frame = pool.receive(pieces.next()?)?;
    for piece in pieces {
        frame.append(pool.receive(piece)?).ok()?;
    }
    frame.meta.ip_checksum = ChecksumStatus::Good;
    frame.meta.l4_checksum = ChecksumStatus::Good;
    Some(frame)
}

/// A route to everything of a family through a gateway.
pub(crate) fn default_route(port: u16, via: Address) -> Route {
    let any = if via.is_v4() {
        Address::UNSPECIFIED_V4
    } else {
        Address::UNSPECIFIED_V6
    };
    Route {
        prefix: Prefix::new(any, 0).expect("zero fits"),
        via: Some(via),
        port: PortId::new(port),
        mtu: 0,
        attributes: RouteAttributes::default(),
    }
}

/// Bytes that differ from position to position.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut rng = Rng::new(len as u64);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}
