//! Every maximum of the stack, with the reason for its value and its relation to its neighbours.
//!
//! Sizes that an operator chooses arrive in `StackConfig` and are clamped to what is here. Limits
//! that belong to one connection (out-of-order ranges, SACK blocks, retransmission counts) are in
//! `tcp/`.

/// Connections one stack (one lcore) can hold.
///
/// The flow table packs a kind and an index into 32 bits, two of them for the kind. Ten million
/// sessions on one lcore are twenty million connections, 6 GB; 33 million are 10.
pub const CONNECTIONS_MAX: usize = 1 << 25;
const _: () = assert!(CONNECTIONS_MAX < 1 << 30);

/// Connections up to which each has a desk: a TCB of its own, whatever the others do.
///
/// They are 22 MiB. Stacks of this size are of hosts, probes and small balancers, and most of their
/// connections may be busy at once.
pub const DESKS_FOR_ALL: usize = 1 << 16;
/// Of the connections beyond, one of so many has a desk.
///
/// Who is at work has something queued, in flight or unread, or is in the middle of a handshake or of
/// closing. Queues hold a few ten thousand buffers in all, so that not many more can have any; the rest
/// is for those that begin and end. A desk costs half as much again as all that an idle connection has:
/// one for every eighth is 44 bytes for each.
pub const DESKS_SHARE: usize = 8;
/// Desks that are looked at to find one that can be cleared for a segment or a new connection.
///
/// With half of the desks busy, one search in four billion finds none; with nine of ten, three in a
/// hundred, and what came is dropped as the network might have. 32 looks are a microsecond or two.
pub const DESKS_PER_SEARCH_MAX: usize = 32;
/// The same for what an application wants of a connection, for which there is no second time: 0.2 ms at
/// most, and only when nearly everybody is busy.
pub const DESKS_PER_VERB_MAX: usize = 4_096;
const _: () = assert!(DESKS_PER_VERB_MAX > DESKS_PER_SEARCH_MAX);

/// Desks of a stack for so many connections.
pub const fn desks_for(connections: usize) -> usize {
    if connections <= DESKS_FOR_ALL {
        return connections;
    }
    let beyond = connections.saturating_sub(DESKS_FOR_ALL);
    DESKS_FOR_ALL.saturating_add(beyond / DESKS_SHARE)
}
const _: () = assert!(desks_for(CONNECTIONS_MAX) < u32::MAX as usize);

/// Half-open connections one stack can hold.
///
/// They cost about 150 bytes each, so a queue of this size is 150 MiB; beyond the queue, SYN
/// cookies answer.
pub const SYN_QUEUE_MAX: usize = 1 << 20;
const _: () = assert!(SYN_QUEUE_MAX <= CONNECTIONS_MAX);

/// TIME_WAIT records one stack can hold (Linux: `tcp_max_tw_buckets`, 262,144 for a whole machine
/// with 16 GiB).
pub const TIME_WAIT_MAX: usize = 1 << 22;
const _: () = assert!(TIME_WAIT_MAX < 1 << 30);

/// Buckets one search of the flow table may look at.
///
/// At its full load one bucket in four has overflowed, and the chance of a run shrinks by about that
/// factor with every step: 32 in a row do not happen. Lookups stay bounded even if the secret
/// leaks; an insertion that would need more is refused as "full".
pub const FLOW_PROBES_MAX: usize = 32;

/// Percent of its places that the flow table may fill.
///
/// 8 bytes an entry; when full, 1.1 cache lines a hit and 1.5 a miss. At 88 percent it would be 7.3
/// bytes, 1.2 and 2.2 lines.
pub const FLOW_LOAD_PERCENT_MAX: usize = 80;
const _: () = assert!(FLOW_LOAD_PERCENT_MAX < 100);

/// Frames that go through the stack together.
///
/// All their headers are read before the first connection is looked up, so that the memory of one is
/// fetched while another is worked on. A receive burst has 32; their parsed headers are 3 KiB.
pub const BURST_FRAMES_MAX: usize = 32;

/// Interfaces one stack can have: as many as the process has ports.
pub const INTERFACES_MAX: usize = 16;

/// Addresses with a subnet on one interface.
pub const INTERFACE_ADDRESSES_MAX: usize = 16;

/// Addresses we terminate, on interfaces and beside them (VIPs, SNAT): what one published snapshot
/// can carry.
pub const LOCAL_ADDRESSES_MAX: usize = 512;
const _: () = assert!(LOCAL_ADDRESSES_MAX >= INTERFACES_MAX * INTERFACE_ADDRESSES_MAX);

/// Routes in one published snapshot.
pub const ROUTES_MAX: usize = 1024;

/// Routes in the table of one stack: the published ones and the on-link route of every interface
/// address.
pub const ROUTE_ENTRIES_MAX: usize = ROUTES_MAX + INTERFACES_MAX * INTERFACE_ADDRESSES_MAX;
// Nodes of the route table store their parent in a u16.
const _: () = assert!(ROUTE_ENTRIES_MAX <= u16::MAX as usize);

/// Different sets of attributes that the routes of one stack may have: an operator tells a few kinds of
/// peers apart (far, near, lossy), not every route. A route beyond them goes without.
pub const ROUTE_ATTRIBUTES_MAX: usize = 32;
const _: () = assert!(ROUTE_ATTRIBUTES_MAX < u8::MAX as usize); // a next hop keeps the number in a u8

/// Destinations whose route is remembered: more than the backends that a busy lcore opens
/// connections to at a time, and 8 KiB.
pub const DESTINATIONS_MAX: usize = 256;
const _: () = assert!(DESTINATIONS_MAX <= 1 << 8); // eight bits of a hash choose the place

/// Listeners in one published snapshot.
pub const LISTENERS_MAX: usize = 1024;

/// Completed connections of one listener that the application has not yet taken notice of, when the
/// listener does not say (Linux: `net.core.somaxconn`).
pub const BACKLOG_DEFAULT: u32 = 4096;

/// Entries in the neighbour table (Linux refuses above `gc_thresh3`, 1024).
pub const NEIGHBORS_MAX: usize = 65_536;
const _: () = assert!(NEIGHBORS_MAX <= 1 << 16); // pending frames store the slot in 16 bits

/// Frames that wait for one unresolved neighbour (Linux queued three until it counted bytes).
///
/// Only stateless replies wait here: connections keep their data in their own queues and try again.
pub const NEIGHBOR_PENDING_MAX: usize = 3;

/// Frames that wait for unresolved neighbours in all: an attacker who makes us answer a thousand
/// silent addresses of our subnet holds no more buffers than this.
pub const PENDING_FRAMES_MAX: usize = 64;
const _: () = assert!(PENDING_FRAMES_MAX >= NEIGHBOR_PENDING_MAX);

/// Replies (SYN-ACK, RST, TIME_WAIT ACK, echo) that wait for the next `poll_transmit`.
///
/// One input frame makes at most one reply, so two receive bursts of 64 fit between two
/// transmissions; a SYN flood that outruns transmission loses its own answers first.
pub const REPLIES_MAX: usize = 256;

/// Frames a connection may send before the next one has its turn; a frame that is longer than
/// `TRANSMIT_FRAME_BYTES` counts as several.
///
/// Linux lets a socket keep two TSO frames or one millisecond of data below the queue
/// (`tcp_small_queue_check`); 16 MTU-sized frames are one 24 KB burst, enough to keep
/// per-connection work cheap and small enough to be fair. Of frames that the device cuts it is one.
pub const TRANSMIT_QUOTA_FRAMES: u32 = 16;

/// Bytes that count as one frame of a connection's turn: more than a common MTU.
pub const TRANSMIT_FRAME_BYTES: usize = 4_096;
const _: () = assert!(TRANSMIT_FRAME_BYTES * TRANSMIT_QUOTA_FRAMES as usize >= 65_535);

/// Milliseconds after which a connection without a route or a neighbour tries again.
pub const BLOCKED_RETRY_MS: u64 = 1_000;

/// Milliseconds after which a connection that found no packet buffer tries again.
pub const BUFFER_RETRY_MS: u64 = 5;

/// Seconds after which a connection without a route or a neighbour is given up: what `tcp_retries2`
/// 15 amounts to.
pub const BLOCKED_SECS_MAX: u64 = 925;
const _: () = assert!(BLOCKED_SECS_MAX * 1_000 > BLOCKED_RETRY_MS);

/// Timer expiries handled by one `advance`; what is left over is handled by the next.
///
/// At about 200 ns each, 64 expiries delay the next receive burst by 13 us.
pub const EXPIRIES_PER_ADVANCE_MAX: usize = 64;

/// Steps (expiries and moves between levels) the timer wheel may take in one `advance`.
pub const WHEEL_STEPS_PER_ADVANCE_MAX: usize = 256;
const _: () = assert!(WHEEL_STEPS_PER_ADVANCE_MAX >= 2 * EXPIRIES_PER_ADVANCE_MAX);

/// Echo replies per second, all sources together (Linux: `icmp_msgs_per_sec`, 1000; here per
/// stack).
pub const ECHO_REPLIES_PER_SECOND: u32 = 1_000;

/// Echo replies that may leave at once (Linux: `icmp_msgs_burst`, 50).
pub const ECHO_REPLIES_BURST: u32 = 50;

/// RSTs per second to segments without a connection.
///
/// Linux sends them without a limit; a balancer that resets every stray segment of a flood becomes
/// a reflector, so they are limited generously (FreeBSD: `net.inet.icmp.icmplim`, 200).
pub const RESETS_PER_SECOND: u32 = 10_000;

/// RSTs without a connection that may leave at once.
pub const RESETS_BURST: u32 = 1_000;
const _: () = assert!(RESETS_BURST <= RESETS_PER_SECOND);

/// Packets of which pieces have come and others have not.
///
/// Linux bounds their memory alone; here a search is a walk over all of them. Nobody who can help it
/// fragments TCP, so this many wait only for somebody who attacks, and he hurts nobody but those.
pub const FRAGMENT_PACKETS_MAX: usize = 128;

/// Pieces of one packet: 64 KiB in pieces of the smallest MTU of IPv6 are 54.
pub const FRAGMENTS_PER_PACKET_MAX: usize = 64;
const _: () = assert!(FRAGMENTS_PER_PACKET_MAX * (MTU_MIN_V6 as usize - 48) >= u16::MAX as usize);
// They become one chain.
const _: () = assert!(FRAGMENTS_PER_PACKET_MAX <= 255);

/// Pieces of all packets: 2 MiB of ordinary buffers. `ipfrag_high_thresh` may hold fewer.
pub const FRAGMENTS_MAX: usize = 1_024;
const _: () = assert!(FRAGMENTS_MAX >= FRAGMENTS_PER_PACKET_MAX);

/// Milliseconds between two resolution requests, and two confirmations, for one neighbour
/// (`retrans_time_ms`).
pub const NEIGHBOR_REQUEST_INTERVAL_MS: u64 = 1_000;

/// Resolution requests for one neighbour without an answer before it counts as failed
/// (`mcast_solicit`).
///
/// The control path decides earlier when it lives; this bound holds when it does not.
pub const NEIGHBOR_REQUESTS_MAX: u8 = 3;

/// Entries looked at to find one to evict from a full neighbour table.
pub const NEIGHBOR_EVICTION_STEPS_MAX: usize = 16;

/// Requests and confirmations that wait to be polled by the control path, each.
pub const NEIGHBOR_NOTICES_MAX: usize = 64;

/// Bytes of Ethernet, IPv6 and a TCP header with 40 bytes of options: what must fit into a buffer's
/// headroom.
pub const HEADER_BYTES_MAX: usize = 14 + 4 + 40 + 60;
const _: () = assert!(HEADER_BYTES_MAX <= millrace_base::HEADROOM_BYTES_DEFAULT);

/// The smallest link MTU of IPv4 (RFC 791).
pub const MTU_MIN_V4: u16 = 68;
/// The smallest link MTU of IPv6 (RFC 8200 section 5).
pub const MTU_MIN_V6: u16 = 1_280;
/// What path MTU discovery never goes below for IPv4 (Linux: `net.ipv4.route.min_pmtu`).
pub const PMTU_MIN_V4: u16 = 552;
const _: () = assert!(PMTU_MIN_V4 >= MTU_MIN_V4);

/// Connections of one stack that may have state of rare features beside their TCB (`Extra`): every
/// one of a host with sockets, and 3 percent of a balancer with half a million.
pub const EXTRAS_MAX: usize = 16_384;

/// Connections of one stack whose path BBR models: 4.5 MiB. Each needs an `Extra` too, for the clock
/// of its departures; those beyond it have CUBIC.
pub const BBR_MODELS_MAX: usize = EXTRAS_MAX;

/// Peers that one stack remembers when connections to them have ended, if it may have as many
/// connections: 800 KiB. Linux has 16,384 buckets for a whole machine. Backends are few and come back
/// within milliseconds; of clients, those that came last.
pub const METRICS_DESTINATIONS_MAX: usize = 10_240;
/// The same for a small stack: 40 KiB.
pub const METRICS_DESTINATIONS_MIN: usize = 512;
/// Places that a peer's addresses leave to choose from (Linux: `TCP_METRICS_RECLAIM_DEPTH`).
pub const METRICS_WAYS: usize = 5;
const _: () = assert!(METRICS_DESTINATIONS_MAX.is_multiple_of(METRICS_WAYS));
const _: () = assert!(METRICS_DESTINATIONS_MIN <= METRICS_DESTINATIONS_MAX);

/// Connections of one stack that DCTCP may know the marks of: 24 bytes each. Enough for all that are
/// open inside a data centre; any more halve their window at a mark.
pub const DCTCP_CONNECTIONS_MAX: usize = 65_536;

/// Connections of one stack whose segments are signed (`TCP_MD5SIG`): 90 KiB. Linux bounds keys by the
/// option memory of each socket, a thousand of them by default (`optmem_max`).
pub const CONNECTION_KEYS_MAX: usize = 1_024;
const _: () = assert!(CONNECTION_KEYS_MAX <= EXTRAS_MAX);
/// Keys of all listeners of one stack together, likewise; each SYN to a listener looks through them.
pub const LISTENER_KEYS_MAX: usize = 1_024;
/// TIME_WAIT records that sign their ACKs. Each was a connection with a key; they come and go with
/// routing sessions, not with clients.
pub const TIME_WAIT_KEYS_MAX: usize = 256;

/// Fast Open connections that were reset and go on counting, all listeners together. Each is one
/// that an application had accepted; a longer queue than this is of no use in a minute.
pub const FASTOPEN_RESETS_MAX: usize = 4_096;

/// Changes of opened tuples that may wait to be asked for.
///
/// A turn of the worker asks after all its bursts: 16 ports of 64 frames, three kinds of expiries
/// and the resets of a drain are below 2,000.
pub const TUPLE_CHANGES_MAX: usize = 4_096;
const _: () = assert!(TUPLE_CHANGES_MAX >= 16 * 64 + 4 * EXPIRIES_PER_ADVANCE_MAX);

/// Of the packet buffers that are free at rest, the share (one of so many) below which no new
/// connection is let in.
///
/// An eighth of a default pool is 7,000 buffers: four full bursts for each of two ports between two
/// looks at the pool, and the growth of every queue that is under way.
pub const SHORT_OF_NEW_WORK_SHARE: usize = 8;

/// Of the packet buffers that are free at rest, the share (one of so many) below which no payload is
/// queued any more. What is left carries ACKs, RSTs and control.
pub const SHORT_OF_PAYLOAD_SHARE: usize = 32;
const _: () = assert!(SHORT_OF_PAYLOAD_SHARE > SHORT_OF_NEW_WORK_SHARE);

/// Of the chunks of a stack, the share (one of so many) below which no new connection is let in.
///
/// Queues stop growing at the last quarter (`Chunks::last_share`); a stack whose last sixteenth is
/// being eaten has more connections than it can serve.
pub const SHORT_OF_CHUNKS_SHARE: usize = 16;
