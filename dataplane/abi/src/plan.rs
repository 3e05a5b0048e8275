//! What a configuration needs of a machine: the arithmetic of a dataplane's boot, where control can
//! reach it.
//!
//! The dataplane sizes its tables and pools by these functions, and `millrace plan` prints what they
//! say; so the two cannot differ in how many there are of anything. What one of each costs is
//! written down here in bytes, and a test of the dataplane measures it
//! (`dataplane/worker/tests/plan.rs`): a record that grows fails it until the number here follows.

use crate::layout::region_bytes;

/// Bytes of a connection while it is at rest.
pub const CONNECTION_BYTES: u64 = 216;
/// Bytes that a connection has beside while it is at work: the TCB, and what the stack keeps with it.
pub const DESK_BYTES: u64 = 360;
/// Bytes of a half-open request's slot.
pub const REQUEST_BYTES: u64 = 136;
/// Bytes of a TIME_WAIT record's slot.
pub const TIME_WAIT_BYTES: u64 = 84;
/// Bytes of the flow table for each tuple it can hold.
pub const TUPLE_BYTES: u64 = 8;
/// Bytes of a timer: one for each connection and each half-open request.
pub const TIMER_BYTES: u64 = 16;
/// Bytes of a place in a list: two for each connection, one for each TIME_WAIT record.
pub const LINK_BYTES: u64 = 8;
/// Bytes for each packet buffer that may be queued: its queue element, that of its other half, and
/// what is remembered of it while segments are lost or come out of order, or their rate is asked for.
pub const CHUNK_BYTES: u64 = 504;
/// Bytes of a session, its deadline included.
pub const SESSION_BYTES: u64 = 80;
/// Bytes of the account of the ports of one source address towards one backend, over all lcores.
pub const SNAT_PAIR_BYTES: u64 = 8_192;
/// Bytes of tables whose size is no matter of configuration: neighbours, routes, listeners,
/// backends, replies; what rare features keep of a connection; BBR's models, which are half of it.
pub const FIXED_BYTES: u64 = 9 << 20;

/// Connections up to which each can be at work at any time.
const DESKS_FOR_ALL: u64 = 1 << 16;
/// Of the connections beyond, one of so many can be at work at a time.
const DESKS_SHARE: u64 = 8;
/// Connections up to which every one has its TIME_WAIT record, and every fourth its half-open
/// request: Linux's `tcp_max_tw_buckets` for a whole machine. A house with more of them has mostly
/// long sessions, which need neither.
const SHORT_LIVED: u64 = 1 << 18;
/// Half-open requests are one of so many of those; a flood beyond is answered with SYN cookies.
const REQUESTS_SHARE: u64 = 4;
/// Of the connections beyond, one of so many has a half-open request.
const REQUESTS_SHARE_BEYOND: u64 = 16;
/// Of the connections beyond, one of so many has a TIME_WAIT record; when all are taken, the oldest
/// gives way.
const TIME_WAITS_SHARE_BEYOND: u64 = 8;
/// Half-open requests of one lcore at most.
pub const REQUESTS_MAX: u64 = 1 << 20;
/// TIME_WAIT records of one lcore at most.
pub const TIME_WAITS_MAX: u64 = 1 << 22;
/// Connections kept for those that we open ourselves: one of so many, so that a full house can still
/// reach its backends and probe them.
pub const CONNECTIONS_RESERVED_SHARE: u64 = 64;
/// At most so many are kept.
pub const CONNECTIONS_RESERVED_MAX: u64 = 4_096;
/// Pairs of source address and backend that one lcore keeps account of.
pub const SNAT_PAIRS: u64 = 256;

/// Bytes of an mbuf's own struct, its private area and the pool's bookkeeping, rounded up to cache
/// lines.
pub const MBUF_OVERHEAD_BYTES: u64 = 128 + 64;
/// MiB that EAL, the drivers' rings and the plug-ins take besides: measured at 20 to 40, doubled.
pub const EAL_MEBIBYTES: u64 = 96;
/// Buffers that one queue pair of a device holds: the descriptors of both rings.
pub const RING_FRAMES: u64 = 2 * 1_024;
/// Buffers that one lcore holds on their way: mempool cache (1.5 times 256), steering queue (1,024),
/// bursts, replies.
pub const LCORE_FRAMES: u64 = 2_048;
/// Buffers that only frames without payload are made of, for each lcore: two full bursts to each of
/// sixteen ports.
pub const RESERVED_FRAMES: u64 = 2_047;
/// Bytes in one of them: the headroom, into which headers are written, and as much again.
pub const RESERVED_BYTES: u16 = 256;
/// Buffers of an lcore's queues while its sessions are idle or nearly so, when nobody says more.
const QUEUED_FRAMES: u64 = 8_192;
/// Packet buffers of a configuration that says nothing.
const MBUFS_DEFAULT: u64 = 65_536;

/// Source ports of one address: 1024 to 65535, the default of `snat.ports`.
pub const PORTS_PER_ADDRESS: u64 = 64_512;
/// Bytes of a huge page of x86.
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Of a thousand sessions that are spread evenly by a hash, how many more the fullest lcore may get.
const IMBALANCE_PERMILLE: u64 = 20;

/// Sizes of one lcore's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LcoreSizes {
    /// TCP connections, both legs counted.
    pub connections: u64,
    /// Connections of those that can be at work at a time.
    pub desks: u64,
    /// Connections of those that only we may open.
    pub connections_reserved: u64,
    /// Half-open requests.
    pub requests: u64,
    /// TIME_WAIT records.
    pub time_waits: u64,
    /// Packet buffers in queues.
    pub queued: u64,
    /// Sessions.
    pub sessions: u64,
}

/// What is to be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Proxied sessions at one time, over all lcores.
    pub sessions: u64,
    /// Lcores, at least 1.
    pub lcores: u64,
    /// Network ports.
    pub ports: u64,
    /// Backends that share the sessions evenly, at least 1.
    pub backends: u64,
    /// Packet buffers; `None` takes as many as the rings and nearly idle sessions need.
    pub mbufs: Option<u64>,
    /// Bytes of a packet buffer.
    pub mbuf_bytes: u16,
}

/// What a demand needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The value of `dataplane.connections_max`.
    pub connections_max: u64,
    /// The value of `dataplane.mbufs`.
    pub mbufs: u64,
    /// Bytes by what they are for, over all lcores.
    pub rows: Vec<(&'static str, u64)>,
    /// The sum of `rows`.
    pub total_bytes: u64,
    /// `total_bytes` for each session.
    pub bytes_per_session: u64,
    /// Huge pages of 2 MiB to reserve for packet buffers and EAL.
    pub hugepages: u64,
    /// Source addresses: each gives 64,512 sessions to each backend.
    pub snat_addresses: u64,
}

impl LcoreSizes {
    /// The sizes that follow from `connections_max` and the packet buffers.
    pub fn new(connections: u64, mbufs: u64, ports: u64, lcores: u64) -> Self {
        let short = connections.min(SHORT_LIVED);
        let beyond = connections - short;
        let requests = short / REQUESTS_SHARE + beyond / REQUESTS_SHARE_BEYOND;
        let time_waits = short + beyond / TIME_WAITS_SHARE_BEYOND;
        Self {
            connections,
            desks: desks_for(connections),
            connections_reserved: (connections / CONNECTIONS_RESERVED_SHARE)
                .min(CONNECTIONS_RESERVED_MAX),
            requests: requests.min(REQUESTS_MAX),
            time_waits: time_waits.min(TIME_WAITS_MAX),
            queued: queued_max(mbufs, ports, lcores),
            sessions: connections / 2,
        }
    }

    /// Bytes of these tables by what they are for, without what is fixed.
    pub fn bytes(&self) -> [(&'static str, u64); 8] {
        let Self {
            connections,
            desks,
            connections_reserved: _,
            requests,
            time_waits,
            queued,
            sessions,
        } = *self;
        let tuples = connections + requests + time_waits;
        [
            ("connections", connections * CONNECTION_BYTES),
            ("connections at work", desks * DESK_BYTES),
            ("half-open requests", requests * REQUEST_BYTES),
            ("TIME_WAIT records", time_waits * TIME_WAIT_BYTES),
            ("flow table", tuples * TUPLE_BYTES),
            (
                "timers and lists",
                connections * (TIMER_BYTES + 2 * LINK_BYTES)
                    + requests * TIMER_BYTES
                    + time_waits * LINK_BYTES,
            ),
            ("queue elements", queued * CHUNK_BYTES),
            ("sessions", sessions * SESSION_BYTES),
        ]
    }
}

impl Plan {
    /// Plans for a demand.
    pub fn of(demand: &Demand) -> Self {
        let Demand {
            sessions,
            ports,
            mbuf_bytes,
            ..
        } = *demand;
        let lcores = demand.lcores.max(1);
        let backends = demand.backends.max(1);
        let connections_max = connections_for(sessions, lcores);
        let mbufs = demand.mbufs.unwrap_or_else(|| mbufs_for(ports, lcores));
        let sizes = LcoreSizes::new(connections_max, mbufs, ports, lcores);
        let mut rows: Vec<_> = sizes
            .bytes()
            .map(|(name, bytes)| (name, bytes * lcores))
            .to_vec();
        rows.push(("SNAT accounts", SNAT_PAIRS * SNAT_PAIR_BYTES));
        rows.push(("fixed tables", FIXED_BYTES * lcores));
        let pools = mebibytes_needed(mbufs, mbuf_bytes, lcores) << 20;
        rows.push(("packet buffers and EAL", pools));
        let lcore_count = usize::try_from(lcores).unwrap_or(usize::MAX);
        let region = region_bytes(lcore_count.min(crate::limits::LCORES_MAX));
        rows.push(("shared region (tmpfs)", region as u64));
        let total_bytes = rows.iter().map(|(_, bytes)| bytes).sum();
        Self {
            connections_max,
            mbufs,
            rows,
            total_bytes,
            bytes_per_session: total_bytes / sessions.max(1),
            hugepages: pools.div_ceil(HUGE_PAGE_BYTES),
            snat_addresses: sessions.div_ceil(backends).div_ceil(PORTS_PER_ADDRESS),
        }
    }
}

/// Connections of one lcore that can be at work at a time. Who has nothing queued, in flight or unread
/// needs no TCB.
pub const fn desks_for(connections: u64) -> u64 {
    if connections <= DESKS_FOR_ALL {
        return connections;
    }
    DESKS_FOR_ALL + (connections - DESKS_FOR_ALL) / DESKS_SHARE
}

/// `connections_max` for so many sessions: two connections each, what is kept for our own, and what
/// the fullest lcore may get beyond its share.
fn connections_for(sessions: u64, lcores: u64) -> u64 {
    let share = sessions.div_ceil(lcores);
    let surplus = if lcores > 1 {
        share * IMBALANCE_PERMILLE / 1_000
    } else {
        0
    };
    let connections = 2 * (share + surplus);
    let kept = (connections / (CONNECTIONS_RESERVED_SHARE - 1)).min(CONNECTIONS_RESERVED_MAX);
    (connections + kept + 1).max(64)
}

fn mbufs_for(ports: u64, lcores: u64) -> u64 {
    let each = ports * RING_FRAMES + LCORE_FRAMES + QUEUED_FRAMES;
    MBUFS_DEFAULT.max(each * lcores)
}

/// Views a pool of `mbufs` buffers gets. A view is needed for each segment that leaves while its
/// buffer is still held by a device, and for each piece of a frame that the device cuts: rarely more
/// than half of the buffers at a time.
pub fn views(mbufs: u64) -> u64 {
    (mbufs / 2).max(4_095)
}

/// Buffers that connections of one lcore may keep in their queues.
///
/// The rest of the pool belongs to the devices' rings, the lcores' caches and the frames on their
/// way: were all of it queued, no ACK could come in to set a buffer free, and nothing would ever
/// move again. A pool that is small for its rings is halved. Every lcore gets the same part, also
/// one with fewer connections than the others: lending would need a counter that all of them write.
pub fn queued_max(mbufs: u64, ports: u64, lcores: u64) -> u64 {
    let lcores = lcores.max(1);
    let moving = ports
        .saturating_mul(RING_FRAMES)
        .saturating_add(LCORE_FRAMES)
        .saturating_mul(lcores);
    mbufs.saturating_sub(moving.min(mbufs / 2)) / lcores
}

/// MiB that the packet buffers and EAL need.
pub fn mebibytes_needed(mbufs: u64, mbuf_bytes: u16, lcores: u64) -> u64 {
    let frames = mbufs * (u64::from(mbuf_bytes) + MBUF_OVERHEAD_BYTES);
    let views = views(mbufs) * MBUF_OVERHEAD_BYTES;
    let reserved = RESERVED_FRAMES * lcores * (u64::from(RESERVED_BYTES) + MBUF_OVERHEAD_BYTES);
    (frames + views + reserved).div_ceil(1 << 20) + EAL_MEBIBYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(sessions: u64, lcores: u64) -> Demand {
        Demand {
            sessions,
            lcores,
            ports: 2,
            backends: 4,
            mbufs: None,
            mbuf_bytes: 2_176,
        }
    }

    #[test]
    fn the_sum_is_that_of_the_rows_and_grows_with_the_sessions() {
        let (small, large) = (
            Plan::of(&demand(100_000, 1)),
            Plan::of(&demand(10_000_000, 8)),
        );
        for plan in [&small, &large] {
            let sum: u64 = plan.rows.iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(plan.total_bytes, sum);
        }
        assert!(large.total_bytes > 10 * small.total_bytes);
        assert!(large.bytes_per_session < small.bytes_per_session);
    }

    #[test]
    fn every_session_finds_its_two_connections_beside_the_reserve() {
        for sessions in [1, 63, 100, 9_999, 1_000_000, 10_000_000] {
            for lcores in [1, 2, 7, 64] {
                let connections = connections_for(sessions, lcores);
                let sizes = LcoreSizes::new(connections, MBUFS_DEFAULT, 2, lcores);
                let for_clients = connections - sizes.connections_reserved;
                assert!(
                    for_clients * lcores >= 2 * sessions,
                    "{sessions} on {lcores}"
                );
                assert!(sizes.sessions * lcores >= sessions);
            }
        }
    }

    #[test]
    fn source_addresses_are_for_the_sessions_of_one_backend() {
        let addresses = |sessions, backends| {
            let demand = Demand {
                backends,
                ..demand(sessions, 8)
            };
            Plan::of(&demand).snat_addresses
        };
        assert_eq!(addresses(64_512, 1), 1);
        assert_eq!(addresses(64_513, 1), 2);
        assert_eq!(addresses(10_000_000, 4), 39);
    }

    #[test]
    fn the_need_grows_with_the_buffers() {
        assert_eq!(mebibytes_needed(65_536, 2_176, 0), 148 + 6 + 96);
        assert_eq!(mebibytes_needed(65_536, 2_176, 64), 148 + 6 + 56 + 96);
    }

    // 300 downloads on a pool of 2,048 took every buffer, and no ACK could be received any more.
    #[test]
    fn queues_never_get_the_whole_pool() {
        assert_eq!(queued_max(65_536, 2, 1), 65_536 - 6_144);
        assert_eq!(queued_max(2_048, 2, 1), 1_024);
        assert_eq!(queued_max(2_048, 2, 2), 512);
        for (mbufs, ports, lcores) in [(1_024, 16, 64), (16_777_216, 2, 64), (u64::MAX, 1, 1)] {
            let queued = queued_max(mbufs, ports, lcores) * lcores;
            assert!(queued > 0 && queued < mbufs);
        }
    }
}
