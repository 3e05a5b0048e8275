//! Where everything lies: the shared structures, their asserted shape, and the hash that two builds
//! must agree on.
//!
//! The hash is computed at compile time from the name, size, alignment and field offsets of every
//! shared type, so a field that moves changes it even when nobody thought of raising `ABI_VERSION`.
//! The snapshot (`layout.txt`) shows a reviewer what moved.

use core::mem::offset_of;

use crate::channel::{FrameRing, MessageRing};
use crate::counters::{BackendCounters, CounterBlock, CounterDescription, ListenerCounters};
use crate::info::{ControlState, LcoreInfo, LcoreState, PortInfo, PortState};
use crate::limits::{
    BACKENDS_MAX, COMMANDS_MAX, COUNTERS_MAX, EVENTS_MAX, LCORES_MAX, LISTENERS_MAX, PORTS_MAX,
};
use crate::mapping::Shareable;
use crate::plain::Plain;
use crate::publication::TablesSnapshot;
use crate::sync::{AtomicU64, Padded};
use crate::tables::{
    AddressRecord, BackendRecord, InterfaceRecord, LegRecord, ListenerRecord, PoolRecord,
    RouteRecord, SnatRecord, Tables,
};
use crate::words::Record;

/// What the region says about itself. Written before the region appears, never again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: u64,
    pub(crate) version: u32,
    pub(crate) lcores: u32,
    pub(crate) layout_hash: u64,
    pub(crate) total_bytes: u64,
    pub(crate) ports: u32,
    pub(crate) counters: u32,
    pub(crate) boot_id: u64,
    pub(crate) start_unix_nanos: u64,
    pub(crate) pid: u64,
    /// Over the words before it.
    pub(crate) checksum: u64,
}

/// Words of the header record.
pub(crate) const HEADER_WORDS: usize = 9;
const _: () = assert!(size_of::<Header>() == HEADER_WORDS * 8);

// SAFETY: integers only; the size asserted above leaves no padding.
unsafe impl Plain for Header {}

/// The part of the region that exists once.
#[repr(C, align(4096))]
pub(crate) struct Shared {
    pub(crate) header: Record<Header, HEADER_WORDS>,
    /// `READY`, then perhaps `CLOSED`. Written by the dataplane.
    pub(crate) ready: AtomicU64,
    /// Written by control.
    pub(crate) control: Padded<Record<ControlState, 2>>,
    /// Written before the region appears.
    pub(crate) ports: [Record<PortInfo, 19>; PORTS_MAX],
    /// Written by the dataplane's `PortStates`.
    pub(crate) port_states: [Padded<Record<PortState, 10>>; PORTS_MAX],
    /// Written before the region appears.
    pub(crate) lcores: [Record<LcoreInfo, 2>; LCORES_MAX],
    /// Written before the region appears.
    pub(crate) counters: [Record<CounterDescription, 29>; COUNTERS_MAX],
    /// Written by control; acknowledgements by each lcore.
    pub(crate) tables: TablesSnapshot,
}

/// The part of the region that exists once for each lcore. Written by that lcore, except the ends
/// of control.
#[repr(C, align(4096))]
pub(crate) struct LcoreBlock {
    pub(crate) state: Padded<Record<LcoreState, 40>>,
    pub(crate) counters: CounterBlock<COUNTERS_MAX>,
    pub(crate) commands: MessageRing<COMMANDS_MAX>,
    pub(crate) events: MessageRing<EVENTS_MAX>,
    pub(crate) punt: FrameRing,
    pub(crate) inject: FrameRing,
    pub(crate) backends: [Record<BackendCounters, 8>; BACKENDS_MAX],
    pub(crate) listeners: [Record<ListenerCounters, 8>; LISTENERS_MAX],
}

// SAFETY: atomics at every depth (`Record`, `Words`, `Ring`, `Snapshot` hold nothing else),
// `repr(C)`.
unsafe impl Shareable for Shared {}
// SAFETY: as above.
unsafe impl Shareable for LcoreBlock {}

/// The offset of `Header` followed by `ready`, which `Region::open` reads before it maps anything.
pub(crate) const READY_OFFSET: usize = offset_of!(Shared, ready);
const _: () = assert!(offset_of!(Shared, header) == 0);
const _: () = assert!(READY_OFFSET == HEADER_WORDS * 8);
const _: () = assert!(size_of::<Shared>().is_multiple_of(4096));
const _: () = assert!(size_of::<LcoreBlock>().is_multiple_of(4096));

/// Where an lcore's block begins, in bytes.
pub(crate) const fn block_offset(lcore: usize) -> usize {
    size_of::<Shared>() + lcore * size_of::<LcoreBlock>()
}

/// The size of a region for so many lcores, in bytes.
pub(crate) const fn region_bytes(lcores: usize) -> usize {
    block_offset(lcores)
}

/// One shared type as the compiler laid it out.
pub(crate) struct TypeLayout {
    pub(crate) name: &'static str,
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) fields: &'static [(&'static str, usize)],
}

macro_rules! layouts {
    ($($type:ident { $($field:ident),* $(,)? })+) => {
        /// Every shared type.
        pub(crate) const LAYOUT: &[TypeLayout] = &[$(TypeLayout {
            name: stringify!($type),
            size: size_of::<$type>(),
            align: align_of::<$type>(),
            fields: &[$((stringify!($field), offset_of!($type, $field))),*],
        }),+];
    };
}

type CommandRing = MessageRing<COMMANDS_MAX>;
type EventRing = MessageRing<EVENTS_MAX>;

layouts! {
    Header {
        magic, version, lcores, layout_hash, total_bytes, ports, counters, boot_id,
        start_unix_nanos, pid, checksum,
    }
    Shared { header, ready, control, ports, port_states, lcores, counters, tables }
    LcoreBlock { state, counters, commands, events, punt, inject, backends, listeners }
    CommandRing { tail, head, slots }
    EventRing { tail, head, slots }
    FrameRing { tail, head, slots }
    TablesSnapshot { generation, acknowledged, copies }
    Tables {
        generation, counts, interfaces, addresses, routes, listeners, pools, backends, snat,
    }
    InterfaceRecord { port, mtu, mac, reserved }
    AddressRecord { address, port, prefix_len, kind, reserved }
    RouteRecord { prefix, via, port, mtu, prefix_len, has_via, reserved }
    ListenerRecord { name, address, id, port_first, port_last, pool, backlog, leg }
    LegRecord { congestion_control, reserved }
    PoolRecord { name, id, backend_first, backend_count, algorithm, reserved, leg }
    BackendRecord { name, address, id, pool, port, weight, state, reserved }
    SnatRecord { address, port_first, port_last, reserved }
    PortInfo { name, driver, rx_mode, tx_mode, capabilities, mac, mtu, queues, rss_proof, reserved }
    PortState {
        ipackets, opackets, ibytes, obytes, imissed, ierrors, oerrors, rx_nombuf, link_up, link_mbps,
    }
    LcoreInfo { cpu, numa_node, tsc_hz }
    LcoreState {
        heartbeat_nanos, busy_cycles, idle_cycles, tsc_hz, rx_packets, tx_packets, rx_bursts,
        tx_bursts, stage_cycles, stage_packets, sleeps, phase, idle_asked, idle_in_force,
        rss_trusted, reserved,
    }
    ControlState { pid, heartbeat_nanos }
    CounterDescription { name, help, kind, reserved }
    BackendCounters {
        sessions_active, sessions_total, bytes_in, bytes_out, connect_failures, resets, ports_used,
        ports_capacity,
    }
    ListenerCounters {
        sessions_active, sessions_total, bytes_in, bytes_out, refused, resets, reserved,
    }
}

/// What two builds must agree on: a hash of `LAYOUT`.
pub(crate) const LAYOUT_HASH: u64 = {
    let mut hash = Fnv::new();
    let mut index = 0;
    while index < LAYOUT.len() {
        let layout = &LAYOUT[index];
        hash = hash
            .text(layout.name)
            .number(layout.size as u64)
            .number(layout.align as u64);
        let mut field = 0;
        while field < layout.fields.len() {
            let (name, offset) = layout.fields[field];
            hash = hash.text(name).number(offset as u64);
            field += 1;
        }
        index += 1;
    }
    hash.0
};

/// FNV-1a over bytes: it must find accidents, not resist malice.
#[derive(Clone, Copy)]
pub(crate) struct Fnv(pub(crate) u64);

impl Fnv {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }

    const fn text(self, text: &str) -> Self {
        let mut hash = self.number(text.len() as u64);
        let mut index = 0;
        while index < text.len() {
            hash = hash.byte(text.as_bytes()[index]);
            index += 1;
        }
        hash
    }

    pub(crate) const fn number(self, number: u64) -> Self {
        let mut hash = self;
        let mut index = 0;
        while index < 8 {
            hash = hash.byte((number >> (8 * index)) as u8);
            index += 1;
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;

    use super::*;

    fn describe() -> String {
        let mut text = String::new();
        for TypeLayout {
            name,
            size,
            align,
            fields,
        } in LAYOUT
        {
            writeln!(text, "{name} size {size} align {align}").expect("a string");
            for (field, offset) in *fields {
                writeln!(text, "  {offset:>8} {field}").expect("a string");
            }
        }
        text
    }

    /// A difference here breaks running pairs of control and dataplane: raise `ABI_VERSION` and
    /// copy the printed text.
    #[test]
    fn the_layout_is_the_one_written_down() {
        let (now, then) = (describe(), include_str!("layout.txt"));
        assert!(now == then, "layout.txt should be:\n{now}");
    }

    #[test]
    fn the_writers_do_not_share_cache_lines() {
        assert_eq!(offset_of!(Shared, control) % 128, 0);
        assert_eq!(offset_of!(Shared, port_states) % 128, 0);
        assert_eq!(offset_of!(Shared, tables) % 128, 0);
        assert_eq!(
            offset_of!(CommandRing, head) - offset_of!(CommandRing, tail),
            128
        );
        assert_eq!(
            offset_of!(CommandRing, slots) - offset_of!(CommandRing, head),
            128
        );
        for offset in [
            offset_of!(LcoreBlock, counters),
            offset_of!(LcoreBlock, commands),
            offset_of!(LcoreBlock, events),
            offset_of!(LcoreBlock, punt),
            offset_of!(LcoreBlock, inject),
            offset_of!(LcoreBlock, backends),
            offset_of!(LcoreBlock, listeners),
        ] {
            assert_eq!(offset % 128, 0);
        }
    }
}
