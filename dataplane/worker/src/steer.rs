//! Which lcore a received frame belongs to, and how it gets there: what is left for software to do beside the card.
//!
//! A port is *trusted* once its card has proved that it delivers where the RSS map predicts (`selftest.rs`), or because the
//! operator says so. Plain TCP segments of a trusted port are where they belong and pass with one look at their headers; one
//! per burst is hashed all the same, and a card caught at delivering elsewhere is not trusted any more. Of other ports every
//! segment is hashed. A frame that is not ours is moved, by pointer, through its owner's bounded queue; a full queue drops
//! it, as a full receive ring would, and counts it.
//!
//! What has no TCP ports in front has an owner too: an ICMP error that of the flow it quotes, other IP packets (fragments
//! among them) that of their addresses' hash, as a card would, and what is not IP lcore 0.

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam_queue::ArrayQueue;
use millrace_abi::limits::{LCORES_MAX, PORTS_MAX};
use millrace_base::rss::RssMap;
use millrace_base::{Address, Endpoint, FlowTuple, LcoreIndex, PacketBuf, PortId};
use millrace_dpdk::{Burst, Mbuf};
use millrace_wire::{EthernetView, IpView, protocol};

use crate::counters::{Counters, count};

/// Frames that one operation on a queue moves: an eighth of a burst for each of eight lcores. More would make short bursts
/// pay for copying empty places.
const BATCH_FRAMES: usize = 8;
/// Batches that may wait for one lcore: 1,024 frames, two rounds of full bursts from each of sixteen others. More would only
/// be stale.
const QUEUE_BATCHES_MAX: usize = 128;

/// What a wrong delivery adds to the doubts about a card; a right one takes 1 away. A malformed segment may go anywhere, so a
/// few misses prove nothing.
const DOUBT_PER_MISS: u16 = 16;
/// The doubts that end a card's trust: sixteen misses in a row, or one segment of sixteen.
const DOUBT_MAX: u16 = 256;

/// Frames on their way to their owner, and the port they came from.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) port: PortId,
    pub(crate) frames: ArrayVec<Mbuf, BATCH_FRAMES>,
}

/// One lcore's end of the exchange.
#[derive(Debug)]
pub(crate) struct Steer {
    me: LcoreIndex,
    map: Arc<RssMap>,
    /// A bit for each port whose card delivers where the map says.
    trusted: u16,
    /// What checks of trusted ports have found: grows with misses, shrinks with hits.
    doubts: [u16; PORTS_MAX],
    queues: Arc<[ArrayQueue<Batch>]>,
    /// What the present burst has for each lcore and no batch has taken along yet.
    pending: ArrayVec<ArrayVec<Mbuf, BATCH_FRAMES>, LCORES_MAX>,
    /// A bit for each lcore that was given something since `take_handed`.
    handed: u64,
}

const _: () = assert!(PORTS_MAX <= u16::BITS as usize);
const _: () = assert!(LCORES_MAX <= u64::BITS as usize);

impl Steer {
    /// The ends of all lcores. `trusted` has a bit for each port whose card was proved.
    pub(crate) fn all(lcores: u16, map: &Arc<RssMap>, trusted: u16) -> Vec<Self> {
        let queues: Arc<[ArrayQueue<Batch>]> = (0..lcores)
            .map(|_| ArrayQueue::new(QUEUE_BATCHES_MAX))
            .collect();
        (0..lcores)
            .map(|lcore| Self {
                me: LcoreIndex::new(lcore),
                map: Arc::clone(map),
                trusted,
                doubts: [0; PORTS_MAX],
                queues: Arc::clone(&queues),
                pending: (0..lcores).map(|_| ArrayVec::new()).collect(),
                handed: 0,
            })
            .collect()
    }

    /// Whether there is no other lcore to hand anything to.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        self.queues.len() <= 1
    }

    /// The ports that are trusted, a bit for each.
    pub(crate) const fn trusted(&self) -> u16 {
        self.trusted
    }

    /// Hands over what other lcores own of a burst; what is ours comes out in order.
    pub(crate) fn sort(
        &mut self,
        port: PortId,
        burst: &mut Burst,
        ours: &mut Burst,
        counters: &mut Counters,
    ) {
        let mut is_checked = false;
        let mut last = None;
        for frame in burst.drain() {
            let is_trusted = (self.trusted >> (port.number() & 15)) & 1 == 1;
            let owner = if is_trusted && is_plain_tcp(frame.bytes()) {
                // Every one of them while assertions are on, one of a burst in production.
                if is_checked && !cfg!(debug_assertions) {
                    self.me
                } else {
                    is_checked = true;
                    self.check(port, &frame, counters)
                }
            } else {
                self.owner_behind(&mut last, &frame)
            };
            if owner == self.me {
                // As large as the burst it comes from: it never refuses.
                drop(ours.try_push(frame));
            } else {
                self.hand_over(port, owner, frame, counters);
            }
        }
        for lcore in 0..self.pending.len() {
            self.flush(port, lcore, counters);
        }
    }

    /// The next frames that another lcore received for us.
    #[inline]
    pub(crate) fn take(&self) -> Option<Batch> {
        if self.is_alone() {
            return None;
        }
        self.queues.get(self.me.index())?.pop()
    }

    /// Whether another lcore has received something for us that we have not taken.
    pub(crate) fn has_waiting(&self) -> bool {
        let queue = self.queues.get(self.me.index());
        queue.is_some_and(|queue| !queue.is_empty())
    }

    /// The lcores that were given something since this was last asked, a bit for each: they may be asleep.
    #[inline]
    pub(crate) fn take_handed(&mut self) -> u64 {
        core::mem::take(&mut self.handed)
    }

    /// Looks whether a trusted card is right about this segment: its queue, and its hash where it tells it.
    fn check(&mut self, port: PortId, frame: &Mbuf, counters: &mut Counters) -> LcoreIndex {
        let Some(tuple) = plain_tcp_tuple(frame.bytes()) else {
            return self.me;
        };
        let hash = self.map.hash(&tuple);
        let owner = self.map.owner_of_hash(hash);
        let told = frame.rx_meta().rss_hash.unwrap_or(hash);
        let is_right = owner == self.me && told == hash;
        if !is_right {
            count!(counters.rss_mispredicted);
        }
        let Some(doubt) = self.doubts.get_mut(port.index()) else {
            return owner;
        };
        *doubt = if is_right {
            doubt.saturating_sub(1)
        } else {
            doubt.saturating_add(DOUBT_PER_MISS)
        };
        if *doubt >= DOUBT_MAX {
            self.trusted &= !(1u16 << (port.number() & 15));
        }
        owner
    }

    fn hand_over(&mut self, port: PortId, owner: LcoreIndex, frame: Mbuf, counters: &mut Counters) {
        let Some(pending) = self.pending.get_mut(owner.index()) else {
            count!(counters.frames_steer_dropped);
            return;
        };
        // It has room: it is emptied whenever it is full.
        drop(pending.try_push(frame));
        if pending.is_full() {
            self.flush(port, owner.index(), counters);
        }
    }

    /// Puts what waits for an lcore into its queue.
    fn flush(&mut self, port: PortId, lcore: usize, counters: &mut Counters) {
        let Some(pending) = self
            .pending
            .get_mut(lcore)
            .filter(|pending| !pending.is_empty())
        else {
            return;
        };
        let frames = core::mem::take(pending);
        let moved = frames.len();
        let queue = self.queues.get(lcore);
        match queue.map(|queue| queue.push(Batch { port, frames })) {
            Some(Ok(())) => {
                self.handed |= 1 << (lcore & 63);
                count!(counters.frames_steered, moved);
            }
            _ => count!(counters.frames_steer_dropped, moved),
        }
    }

    /// The owner of any frame; `last` is the last segment of the burst that was hashed, and its owner. Most often the next
    /// frame is the next of its stream.
    #[inline]
    fn owner_behind(&self, last: &mut Option<(Stream, LcoreIndex)>, frame: &Mbuf) -> LcoreIndex {
        let stream = Stream::of(frame.bytes());
        if let (Some(stream), Some((before, owner))) = (&stream, &*last)
            && stream == before
        {
            return *owner;
        }
        let owner = self.owner(frame);
        *last = stream.map(|stream| (stream, owner));
        owner
    }

    /// The owner of any frame.
    fn owner(&self, frame: &Mbuf) -> LcoreIndex {
        match flow_of(frame.bytes(), frame.frame_len()) {
            Flow::Tuple(tuple) => self.map.owner(&tuple),
            Flow::Addresses(source, destination) => {
                let hash = self.map.hash_addresses(source, destination);
                self.map.owner_of_hash(hash)
            }
            Flow::None => LcoreIndex::new(0),
        }
    }
}

/// What decides about a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flow {
    /// The connection that it belongs to or tells about, as this host sees it.
    Tuple(FlowTuple),
    /// Source and destination.
    Addresses(Address, Address),
    /// Neither.
    None,
}

/// Addresses and ports of a plain TCP segment as they stand in the frame, to be compared: segments with the same ones belong
/// to one flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stream(u128, u128, u32);

impl Stream {
    /// Of an untagged TCP segment, in IPv4 that has no options and is no fragment or in IPv6 without extension headers.
    #[inline]
    fn of(bytes: &[u8]) -> Option<Self> {
        const IP_AT: usize = 14;
        let wide = |at: usize| {
            bytes
                .get(at..)?
                .first_chunk()
                .map(|bytes| u128::from_ne_bytes(*bytes))
        };
        if !is_plain_tcp(bytes) {
            return None;
        }
        match *bytes.get(IP_AT)? {
            // Addresses and ports are bytes 26..38; what stands in front of them differs.
            0x45 => Some(Self(wide(22)? & ADDRESSES_AND_PORTS, 4, 0)),
            version if version >> 4 == 6 => {
                let ports = bytes.get(54..)?.first_chunk()?;
                Some(Self(wide(22)?, wide(38)?, u32::from_ne_bytes(*ports)))
            }
            _ => None,
        }
    }
}

/// The last twelve of sixteen bytes.
const ADDRESSES_AND_PORTS: u128 = u128::from_ne_bytes([
    0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
]);

/// Whether this is an untagged TCP segment in IPv4 that is no fragment, or in IPv6 without extension headers: what every
/// card hashes by ports.
#[inline]
fn is_plain_tcp(bytes: &[u8]) -> bool {
    const TCP: u8 = protocol::TCP;
    match bytes {
        // Ethernet; version and length, TOS, length, identification, fragment, TTL, protocol.
        [
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            0x08,
            0x00,
            first,
            _,
            _,
            _,
            _,
            _,
            hi,
            lo,
            _,
            TCP,
            ..,
        ] => first >> 4 == 4 && hi & 0x3f == 0 && *lo == 0,
        // Ethernet; version and flow label, length, next header.
        [
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            0x86,
            0xdd,
            _,
            _,
            _,
            _,
            _,
            _,
            TCP,
            ..,
        ] => true,
        _ => false,
    }
}

/// The tuple of what `is_plain_tcp` let through.
pub(crate) fn plain_tcp_tuple(bytes: &[u8]) -> Option<FlowTuple> {
    packet_tuple(bytes.get(14..)?)
}

/// The tuple of a TCP packet without extension headers, as its receiver sees it.
fn packet_tuple(packet: &[u8]) -> Option<FlowTuple> {
    let first = *packet.first()?;
    let (source, destination, header_len) = if first >> 4 == 4 {
        let source = Address::v4(*packet.get(12..)?.first_chunk()?);
        let destination = Address::v4(*packet.get(16..)?.first_chunk()?);
        (
            source,
            destination,
            usize::from(first & 15).saturating_mul(4),
        )
    } else {
        let source = Address::v6(*packet.get(8..)?.first_chunk()?);
        (source, Address::v6(*packet.get(24..)?.first_chunk()?), 40)
    };
    tuple(source, destination, packet.get(header_len..)?)
}

/// The tuple of a received segment.
fn tuple(source: Address, destination: Address, segment: &[u8]) -> Option<FlowTuple> {
    let [a, b, c, d] = *segment.first_chunk()?;
    Some(FlowTuple {
        local: Endpoint::new(destination, u16::from_be_bytes([c, d])),
        remote: Endpoint::new(source, u16::from_be_bytes([a, b])),
    })
}

/// What decides about a frame of any kind. A malformed one belongs to whom its readable part points at; the stack of that
/// lcore drops and counts it.
fn flow_of(bytes: &[u8], frame_len: usize) -> Flow {
    if is_plain_tcp(bytes) {
        return plain_tcp_tuple(bytes).map_or(Flow::None, Flow::Tuple);
    }
    let Ok(ethernet) = EthernetView::parse(bytes) else {
        return Flow::None;
    };
    let available = frame_len.saturating_sub(ethernet.header_len());
    let parsed = IpView::parse(ethernet.ether_type(), ethernet.payload(), available);
    let Some(Ok(ip)) = parsed else {
        return Flow::None;
    };
    let addresses = Flow::Addresses(ip.source(), ip.destination());
    if ip.fragment().is_some() {
        return addresses;
    }
    match ip.protocol() {
        protocol::TCP => {
            tuple(ip.source(), ip.destination(), ip.payload()).map_or(addresses, Flow::Tuple)
        }
        protocol::ICMPV4 | protocol::ICMPV6 => quoted(&ip).map_or(addresses, Flow::Tuple),
        _ => addresses,
    }
}

/// The flow that an ICMP error is about: it quotes a packet of ours, from local to remote (RFC 792, RFC 4443).
fn quoted(ip: &IpView<'_>) -> Option<FlowTuple> {
    const QUOTE_AT: usize = 8;
    let kind = *ip.payload().first()?;
    // Unreachable, redirect, time exceeded, parameter problem; of ICMPv6 everything below 128.
    let (is_error, protocol_at) = if ip.is_v4() {
        (matches!(kind, 3 | 5 | 11 | 12), 9)
    } else {
        (kind < 128, 6)
    };
    let ours = ip.payload().get(QUOTE_AT..).filter(|_| is_error)?;
    let is_tcp = ours.get(protocol_at) == Some(&protocol::TCP);
    is_tcp.then(|| packet_tuple(ours).map(FlowTuple::reversed))?
}

#[cfg(test)]
mod tests;
