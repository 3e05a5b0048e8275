//! A host: one stack, the engine that uses it, and what the control plane does elsewhere.
//!
//! Everything of one lcore but its queues, driven by whoever has frames and the time: the poll loop
//! with mbufs, a test with heap buffers and virtual time.

use core::fmt;
use std::sync::Arc;

use arrayvec::ArrayVec;
use millrace_base::{Address, Instant, MacAddress, Nanos, PacketBuf, PacketPool, PortId, Prefix};
use millrace_stack::{
    DropReason, Interface, Listener, NeighborUpdate, Offloads, Prefixed, Route, RouteAttributes,
    Stack, StackConfig, Stats,
};

use crate::counters::Counters;
use crate::engine::Engine;
use crate::neighbor::{Frame, Link};
use crate::ring::Ring;

/// The only port.
const PORT: PortId = PortId::new(0);

/// ARP and neighbour discovery frames that wait to be sent. A reply lost here is asked for again.
const OUTBOX_FRAMES_MAX: usize = 64;

/// How often the stack's counters are copied to where others read them.
const REPORT_INTERVAL: Nanos = Nanos::from_millis(1);

/// Drops that are a failure of ours or of the wire. Others are the network's business: frames for
/// others, segments of connections that are gone.
const MISSES: &[DropReason] = &[
    DropReason::IpTruncated,
    DropReason::IpChecksum,
    DropReason::TcpChecksum,
    DropReason::AcceptQueueFull,
    DropReason::SynQueueFull,
    DropReason::CookieInvalid,
    DropReason::ConnectionTableFull,
    DropReason::FrameUnusable,
    DropReason::Bug,
    DropReason::RequestOverflow,
    DropReason::ReceiveBufferFull,
    DropReason::ReassemblyFull,
    DropReason::ReplyNoBuffer,
    DropReason::ReplyQueueFull,
    DropReason::NeighborPendingFull,
    DropReason::NeighborTableFull,
    DropReason::HeadroomMissing,
];

/// Neighbours learnt from one burst. A burst has few of them, and those it has no room for say
/// where they are again.
const NEWS_MAX: usize = 8;

/// Who is where.
pub type News = ArrayVec<(Address, MacAddress), NEWS_MAX>;

/// What a host is made of.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Our Ethernet address.
    pub mac: MacAddress,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// What the device does for us.
    pub offloads: Offloads,
    /// Our addresses with their subnets, at most 16.
    pub addresses: Vec<Prefixed>,
    /// More addresses of ours, in any subnet, at most 512.
    pub more_addresses: Vec<Address>,
    /// The way to everything that is in no subnet of ours, at most one of each family.
    pub gateways: Vec<Address>,
    /// The Ethernet address behind every next hop, when it is not to be asked.
    pub peer_mac: Option<MacAddress>,
    /// Where to listen; a client has none.
    pub listeners: Vec<Listener>,
    /// Sizes and secrets of the stack.
    pub stack: StackConfig,
}

/// One stack and its engine.
pub struct Host<P: PacketPool, E> {
    stack: Stack<P>,
    engine: E,
    link: Link,
    outbox: Ring<Frame>,
    counters: Arc<Counters>,
    report_due: Instant,
}

impl<P: PacketPool, E: Engine> Host<P, E> {
    /// A host that is up. Takes all memory it will ever use.
    pub fn new(now: Instant, config: &HostConfig, engine: E, counters: Arc<Counters>) -> Self {
        let mut stack = Stack::new(config.stack.clone());
        let interface = Interface {
            port: PORT,
            mac: config.mac,
            mtu: config.mtu,
            addresses: config.addresses.iter().copied().take(16).collect(),
            offloads: config.offloads,
        };
        stack.set_interfaces(now, &[interface]);
        stack.set_local_addresses(&config.more_addresses);
        let route = |via: &Address| {
            let everything = if via.is_v4() {
                Address::UNSPECIFIED_V4
            } else {
                Address::UNSPECIFIED_V6
            };
            Some(Route {
                prefix: Prefix::new(everything, 0)?,
                via: Some(*via),
                port: PORT,
                mtu: 0,
                attributes: RouteAttributes::default(),
            })
        };
        let routes: ArrayVec<Route, 2> = config.gateways.iter().filter_map(route).take(2).collect();
        stack.set_routes(&routes);
        stack.set_listeners(&config.listeners);
        let subnets = config.addresses.iter().map(|prefixed| prefixed.address);
        let ours = subnets.chain(config.more_addresses.iter().copied());
        Self {
            stack,
            engine,
            link: Link::new(config.mac, ours, config.peer_mac),
            outbox: Ring::new(OUTBOX_FRAMES_MAX),
            counters,
            report_due: Instant::ZERO,
        }
    }

    /// Takes the frames of a burst. What is returned is news of neighbours that other hosts of this
    /// link want to hear, too ([`learn`](Self::learn)).
    pub fn handle_burst(
        &mut self,
        now: Instant,
        frames: impl IntoIterator<Item = P::Buf>,
        pool: &mut P,
    ) -> News {
        let mut news = News::new();
        let Self {
            stack,
            link,
            outbox,
            ..
        } = self;
        stack.handle_burst(now, PORT, frames, pool, |punt| {
            let reaction = link.react(punt.frame.bytes());
            if let Some(reply) = reaction.reply {
                outbox.push(reply);
            }
            if let Some(learnt) = reaction.learnt {
                // Who is left out says it again with the next frame.
                let _ = news.try_push(learnt);
            }
        });
        for (address, mac) in &news {
            self.learn(now, *address, *mac);
        }
        news
    }

    /// Hears where a neighbour is.
    pub fn learn(&mut self, now: Instant, address: Address, mac: MacAddress) {
        let update = NeighborUpdate::Reachable(mac);
        self.stack.set_neighbor(now, PORT, address, update);
    }

    /// One turn after all frames of a burst were handled: timers, events, what is due.
    pub fn turn(&mut self, now: Instant, pool: &mut P) {
        self.stack.advance(now, pool);
        while let Some(event) = self.stack.poll_event() {
            self.engine.on_event(now, &event, &mut self.stack, pool);
        }
        self.engine.advance(now, &mut self.stack, pool);
        self.resolve(now);
        if self.report_due.is_due(now) {
            self.report(now);
        }
    }

    /// Hands every frame that may leave now to `take`, until it returns `false`: no room for
    /// another.
    pub fn transmit(&mut self, now: Instant, pool: &mut P, mut take: impl FnMut(P::Buf) -> bool) {
        while !self.outbox.is_empty()
            && let Some(buf) = pool.alloc()
            && let Some(frame) = self.outbox.pop()
        {
            if let Some(frame) = filled(buf, &frame)
                && !take(frame)
            {
                return;
            }
        }
        self.stack
            .transmit(now, pool, |transmit| take(transmit.frame));
    }

    /// The engine.
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// Resets connections, some at a time; `false` when none is left.
    pub fn reset_some(&mut self, now: Instant) -> bool {
        self.engine.reset_some(now, &mut self.stack)
    }

    /// Copies the stack's counters to where others read them.
    pub fn report(&mut self, now: Instant) {
        self.report_due = now.after(REPORT_INTERVAL);
        let stats = self.stack.stats();
        let counters = &self.counters;
        counters.retransmitted.set(stats.tcp_retrans_segs);
        counters
            .duplicates
            .set(stats.dropped(DropReason::Duplicate));
        counters.stack_drops.set(misses(stats));
        counters
            .connections
            .set(self.stack.connection_count() as u64);
    }

    /// When there is something to do without a frame; a lower bound that does not know the
    /// engine's schedule.
    pub fn next_deadline(&self) -> Instant {
        self.stack.next_deadline()
    }

    fn resolve(&mut self, now: Instant) {
        while let Some(request) = self.stack.poll_neighbor_request() {
            if let Some(mac) = self.link.peer_mac {
                self.learn(now, request.address, mac);
            } else if let Some(question) = self.link.question(request.address) {
                // The stack asks again in a second if this one is lost.
                self.outbox.push(question);
            }
        }
        // Nobody here ages neighbours.
        while self.stack.poll_confirmation().is_some() {}
    }
}

impl<P: PacketPool, E: fmt::Debug> fmt::Debug for Host<P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("engine", &self.engine)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

fn misses(stats: &Stats) -> u64 {
    let dropped = MISSES.iter().map(|reason| stats.dropped(*reason));
    dropped.fold(0, u64::wrapping_add)
}

fn filled<B: PacketBuf>(mut buf: B, bytes: &[u8]) -> Option<B> {
    let offset = buf.offset();
    if !buf.set_span(offset, bytes.len()) {
        return None;
    }
    buf.bytes_mut()?.copy_from_slice(bytes);
    Some(buf)
}
