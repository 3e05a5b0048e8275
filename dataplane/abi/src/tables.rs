//! The tables that control publishes: fixed-width records, written by control, read-only
//! afterwards.
//!
//! Every record is `repr(C)`, made of integers and byte arrays, without hidden padding: any bit
//! pattern is memory we can read. Meaning is checked at the accessor: a number that names no
//! variant is `None`, a count beyond its capacity is the capacity, a pool's range beyond the
//! backends is cut. This file does not know how tables travel (`snapshot.rs`) nor what the lcores
//! do with them (`lb`).

use millrace_base::{
    Address, BackendId, CongestionControl, Endpoint, ListenerId, MacAddress, PoolId, PortId, Prefix,
};

use crate::limits::{
    ADDRESSES_MAX, BACKENDS_MAX, LISTENERS_MAX, POOLS_MAX, PORTS_MAX, ROUTES_MAX, SNAT_MAX,
};
use crate::name::Name;
use crate::plain::{Plain, zeroed_box};

/// The port number that means "no port".
pub const PORT_NONE: u16 = u16::MAX;

/// A network interface: one DPDK port as the stack sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct InterfaceRecord {
    /// The port's number.
    pub port: u16,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// The Ethernet address in transmission order.
    pub mac: [u8; 6],
    /// Zero.
    pub reserved: [u8; 6],
}

/// One of our own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct AddressRecord {
    /// The address, IPv4 in mapped form.
    pub address: [u8; 16],
    /// The port whose subnet holds the address; `PORT_NONE` when none does.
    pub port: u16,
    /// Leading bits of the subnet, counted within the family; a host length for VIP and SNAT
    /// addresses.
    pub prefix_len: u8,
    /// An `AddressKind`.
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 4],
}

/// Why an address is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AddressKind {
    /// Configured on a port, with a subnet.
    Interface = 0,
    /// Clients connect to it.
    Vip = 1,
    /// We connect to backends from it.
    Snat = 2,
}

/// One route. Subnets of interface addresses are implied and need no route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct RouteRecord {
    /// The destination network, IPv4 in mapped form.
    pub prefix: [u8; 16],
    /// The next hop; meaningless unless `has_via` is not zero.
    pub via: [u8; 16],
    /// The port it leaves by.
    pub port: u16,
    /// The largest IP packet in bytes; 0 means the interface's.
    pub mtu: u16,
    /// Leading bits of the destination network, counted within the family.
    pub prefix_len: u8,
    /// Whether `via` is a next hop (not zero) or the network is on link (zero).
    pub has_via: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// One listener: an address and a port range whose connections go to a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct ListenerRecord {
    /// The operator's name.
    pub name: Name,
    /// The address listened on, IPv4 in mapped form; unspecified means any own address of that
    /// family.
    pub address: [u8; 16],
    /// Stable per name across reloads, below `LISTENERS_MAX`.
    pub id: u16,
    /// The first port.
    pub port_first: u16,
    /// The last port, at least `port_first`.
    pub port_last: u16,
    /// The index of the pool's record in the same tables.
    pub pool: u16,
    /// Connections that may wait in SYN-RECEIVED or for acceptance; 0 means the stack's default.
    pub backlog: u32,
    /// How the clients' connections begin.
    pub leg: LegRecord,
}

/// What the connections of one leg begin with: those of a listener's clients, or those to a pool's
/// backends. All zeros leave everything to the dataplane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LegRecord {
    /// `CongestionControl::number`; 0 means the dataplane's default.
    pub congestion_control: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// One pool: a run of backend records and the rule that picks among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct PoolRecord {
    /// The operator's name.
    pub name: Name,
    /// Stable per name across reloads, below `POOLS_MAX`.
    pub id: u16,
    /// The index of the first backend record.
    pub backend_first: u16,
    /// How many backend records follow it.
    pub backend_count: u16,
    /// An `Algorithm`.
    pub algorithm: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// How the connections to its backends begin.
    pub leg: LegRecord,
}

/// How a pool picks a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// In turn, by weight.
    RoundRobin = 0,
    /// The fewest sessions per weight.
    LeastConnections = 1,
}

/// One backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct BackendRecord {
    /// The operator's name.
    pub name: Name,
    /// The address, IPv4 in mapped form.
    pub address: [u8; 16],
    /// Stable per pool and address across reloads, below `BACKENDS_MAX`.
    pub id: u16,
    /// The index of the pool's record in the same tables.
    pub pool: u16,
    /// The TCP port.
    pub port: u16,
    /// The share relative to the pool's other backends; 0 takes no new session.
    pub weight: u16,
    /// A `BackendState`.
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// What control decided about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendState {
    /// Takes new sessions.
    Up = 0,
    /// Takes none; existing sessions go on.
    Down = 1,
    /// Takes none because the operator said so; existing sessions go on.
    Draining = 2,
}

/// A source address for connections to backends, and the ports it may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct SnatRecord {
    /// The address, IPv4 in mapped form.
    pub address: [u8; 16],
    /// The first port.
    pub port_first: u16,
    /// The last port, at least `port_first`.
    pub port_last: u16,
    /// Zero.
    pub reserved: [u8; 4],
}

/// One generation of everything the lcores forward by. About 400 KiB: lives in boxes and in the
/// region only.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Tables {
    pub(crate) generation: u64,
    pub(crate) counts: [u32; SECTION_COUNT],
    pub(crate) interfaces: [InterfaceRecord; PORTS_MAX],
    pub(crate) addresses: [AddressRecord; ADDRESSES_MAX],
    pub(crate) routes: [RouteRecord; ROUTES_MAX],
    pub(crate) listeners: [ListenerRecord; LISTENERS_MAX],
    pub(crate) pools: [PoolRecord; POOLS_MAX],
    pub(crate) backends: [BackendRecord; BACKENDS_MAX],
    pub(crate) snat: [SnatRecord; SNAT_MAX],
}

/// Counts in `Tables::counts`: one per table and one that is always zero and makes the number even.
pub(crate) const SECTION_COUNT: usize = 8;

/// Where one table lies inside `Tables`, in 64-bit words: so that only rows in use are copied.
#[derive(Clone, Copy)]
pub(crate) struct Section {
    pub(crate) first_word: usize,
    pub(crate) row_words: usize,
    pub(crate) rows_max: usize,
}

/// Words before the first table: the generation and the counts.
pub(crate) const HEADER_WORDS: usize = core::mem::offset_of!(Tables, interfaces) / 8;

// SAFETY: `repr(C, align(8))` records of integers and byte arrays; that no padding hides in them is
// asserted below, size by size.
unsafe impl Plain for InterfaceRecord {}
// SAFETY: see above.
unsafe impl Plain for AddressRecord {}
// SAFETY: see above.
unsafe impl Plain for RouteRecord {}
// SAFETY: see above.
unsafe impl Plain for ListenerRecord {}
// SAFETY: see above.
unsafe impl Plain for PoolRecord {}
// SAFETY: see above.
unsafe impl Plain for BackendRecord {}
// SAFETY: see above.
unsafe impl Plain for SnatRecord {}
// SAFETY: see above.
unsafe impl Plain for Tables {}

const _: () = assert!(size_of::<InterfaceRecord>() == 2 + 2 + 6 + 6);
const _: () = assert!(size_of::<AddressRecord>() == 16 + 2 + 1 + 1 + 4);
const _: () = assert!(size_of::<RouteRecord>() == 16 + 16 + 2 + 2 + 1 + 1 + 2);
const _: () = assert!(size_of::<LegRecord>() == 1 + 3);
const _: () = assert!(size_of::<ListenerRecord>() == 32 + 16 + 4 * 2 + 4 + size_of::<LegRecord>());
const _: () = assert!(size_of::<PoolRecord>() == 32 + 3 * 2 + 1 + 5 + size_of::<LegRecord>());
const _: () = assert!(size_of::<BackendRecord>() == 32 + 16 + 4 * 2 + 1 + 7);
const _: () = assert!(size_of::<SnatRecord>() == 16 + 2 + 2 + 4);
const _: () = assert!(
    size_of::<Tables>()
        == 8 + 4 * SECTION_COUNT
            + 16 * PORTS_MAX
            + 24 * ADDRESSES_MAX
            + 40 * ROUTES_MAX
            + 64 * LISTENERS_MAX
            + 48 * POOLS_MAX
            + 64 * BACKENDS_MAX
            + 24 * SNAT_MAX
);

/// A table has no room for another record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    /// The table's name.
    pub table: &'static str,
    /// How many records it holds at most.
    pub capacity: usize,
}

impl core::fmt::Display for TableFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "more than {} {}", self.capacity, self.table)
    }
}

impl core::error::Error for TableFull {}

macro_rules! tables {
    ($($index:literal $field:ident $push:ident $record:ident $capacity:ident;)+) => {
        /// The tables in the order of their counts.
        pub(crate) const SECTIONS: &[Section] = &[$(Section {
            first_word: core::mem::offset_of!(Tables, $field) / 8,
            row_words: size_of::<$record>() / 8,
            rows_max: $capacity,
        }),+];
        const _: () = assert!(SECTIONS.len() < SECTION_COUNT);

        impl Tables {
            $(
                #[doc = concat!("The ", stringify!($field), " in use, at most `", stringify!($capacity), "`.")]
                pub fn $field(&self) -> &[$record] {
                    let count = self.counts[$index] as usize;
                    self.$field.get(..count).unwrap_or(&self.$field)
                }

                #[doc = concat!("Adds a record to the ", stringify!($field), " and tells its index.")]
                pub fn $push(&mut self, record: $record) -> Result<u16, TableFull> {
                    let index = self.counts[$index];
                    let Some(slot) = self.$field.get_mut(index as usize) else {
                        return Err(TableFull { table: stringify!($field), capacity: $capacity });
                    };
                    *slot = record;
                    self.counts[$index] = index + 1;
                    // The capacities are asserted to be below 65,536 in `limits`.
                    Ok(index as u16)
                }
            )+
        }
    };
}

tables! {
    0 interfaces push_interface InterfaceRecord PORTS_MAX;
    1 addresses push_address AddressRecord ADDRESSES_MAX;
    2 routes push_route RouteRecord ROUTES_MAX;
    3 listeners push_listener ListenerRecord LISTENERS_MAX;
    4 pools push_pool PoolRecord POOLS_MAX;
    5 backends push_backend BackendRecord BACKENDS_MAX;
    6 snat push_snat SnatRecord SNAT_MAX;
}

impl Tables {
    /// Empty tables of generation 0, on the heap.
    pub fn boxed() -> Box<Self> {
        zeroed_box()
    }

    /// Forgets every record and the generation.
    pub fn clear(&mut self) {
        self.generation = 0;
        self.counts = [0; SECTION_COUNT];
    }

    /// Which publication this is, counted from 1 since the dataplane started; 0 before publication.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A pool's backends; what its range names beyond the table is left out.
    pub fn backends_of(&self, pool: &PoolRecord) -> &[BackendRecord] {
        let backends = self.backends();
        let first = usize::from(pool.backend_first).min(backends.len());
        let end = (first + usize::from(pool.backend_count)).min(backends.len());
        &backends[first..end]
    }

    /// A listener's pool; `None` when its index names none.
    pub fn pool_of(&self, listener: &ListenerRecord) -> Option<&PoolRecord> {
        self.pools().get(usize::from(listener.pool))
    }
}

impl core::fmt::Debug for Tables {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tables")
            .field("generation", &self.generation)
            .field("interfaces", &self.interfaces())
            .field("addresses", &self.addresses())
            .field("routes", &self.routes())
            .field("listeners", &self.listeners())
            .field("pools", &self.pools())
            .field("backends", &self.backends())
            .field("snat", &self.snat())
            .finish()
    }
}

impl InterfaceRecord {
    /// The record of this interface.
    pub fn new(port: PortId, mac: MacAddress, mtu: u16) -> Self {
        Self {
            port: port.number(),
            mtu,
            mac: *mac.octets(),
            ..Self::default()
        }
    }

    /// The port.
    pub fn port(&self) -> PortId {
        PortId::new(self.port)
    }

    /// The Ethernet address.
    pub fn mac(&self) -> MacAddress {
        MacAddress::new(self.mac)
    }
}

impl AddressRecord {
    /// The address.
    pub fn address(&self) -> Address {
        Address::v6(self.address)
    }

    /// The subnet the address is in; `None` when the length does not fit the family.
    pub fn subnet(&self) -> Option<Prefix> {
        Prefix::new(self.address(), self.prefix_len)
    }

    /// The port whose subnet holds the address.
    pub fn port(&self) -> Option<PortId> {
        (self.port != PORT_NONE).then_some(PortId::new(self.port))
    }

    /// Why the address is ours; `None` for a number this version does not know.
    pub fn kind(&self) -> Option<AddressKind> {
        match self.kind {
            0 => Some(AddressKind::Interface),
            1 => Some(AddressKind::Vip),
            2 => Some(AddressKind::Snat),
            _ => None,
        }
    }
}

impl RouteRecord {
    /// The destination network; `None` when the length does not fit the family.
    pub fn prefix(&self) -> Option<Prefix> {
        Prefix::new(Address::v6(self.prefix), self.prefix_len)
    }

    /// The next hop; `None` for a network that is on link.
    pub fn via(&self) -> Option<Address> {
        (self.has_via != 0).then_some(Address::v6(self.via))
    }

    /// The port it leaves by.
    pub fn port(&self) -> PortId {
        PortId::new(self.port)
    }
}

impl ListenerRecord {
    /// The listener's identifier; `None` when it is not below `LISTENERS_MAX`.
    pub fn id(&self) -> Option<ListenerId> {
        (usize::from(self.id) < LISTENERS_MAX).then_some(ListenerId::new(self.id))
    }

    /// The address listened on.
    pub fn address(&self) -> Address {
        Address::v6(self.address)
    }
}

impl LegRecord {
    /// The congestion control; `None` leaves it to the dataplane, and so does a number that this
    /// version does not know (`is_known`).
    pub fn congestion_control(&self) -> Option<CongestionControl> {
        CongestionControl::of_number(self.congestion_control)
    }

    /// Whether every number in it is one that this version knows.
    pub fn is_known(&self) -> bool {
        self.congestion_control == 0 || self.congestion_control().is_some()
    }
}

impl PoolRecord {
    /// The pool's identifier; `None` when it is not below `POOLS_MAX`.
    pub fn id(&self) -> Option<PoolId> {
        (usize::from(self.id) < POOLS_MAX).then_some(PoolId::new(self.id))
    }

    /// How the pool picks; `None` for a number this version does not know.
    pub fn algorithm(&self) -> Option<Algorithm> {
        match self.algorithm {
            0 => Some(Algorithm::RoundRobin),
            1 => Some(Algorithm::LeastConnections),
            _ => None,
        }
    }
}

impl BackendRecord {
    /// The backend's identifier; `None` when it is not below `BACKENDS_MAX`.
    pub fn id(&self) -> Option<BackendId> {
        (usize::from(self.id) < BACKENDS_MAX).then_some(BackendId::new(self.id))
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(Address::v6(self.address), self.port)
    }

    /// What control decided about it; `None` for a number this version does not know.
    pub fn state(&self) -> Option<BackendState> {
        match self.state {
            0 => Some(BackendState::Up),
            1 => Some(BackendState::Down),
            2 => Some(BackendState::Draining),
            _ => None,
        }
    }
}

impl SnatRecord {
    /// The address.
    pub fn address(&self) -> Address {
        Address::v6(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_refuses_and_keeps_what_it_has() {
        let mut tables = Tables::boxed();
        for port in 0..PORTS_MAX {
            let record = InterfaceRecord {
                port: port as u16,
                ..Default::default()
            };
            assert_eq!(tables.push_interface(record), Ok(port as u16));
        }
        let full = TableFull {
            table: "interfaces",
            capacity: PORTS_MAX,
        };
        assert_eq!(tables.push_interface(InterfaceRecord::default()), Err(full));
        assert_eq!(tables.interfaces().len(), PORTS_MAX);
        assert_eq!(tables.interfaces()[3].port, 3);
    }

    #[test]
    fn counts_and_ranges_beyond_the_tables_are_cut() {
        let mut tables = Tables::boxed();
        tables.counts = [u32::MAX; SECTION_COUNT];
        assert_eq!(tables.backends().len(), BACKENDS_MAX);
        assert_eq!(tables.snat().len(), SNAT_MAX);
        assert!(tables.push_snat(SnatRecord::default()).is_err());
        let pool = PoolRecord {
            backend_first: 4_090,
            backend_count: 100,
            ..Default::default()
        };
        assert_eq!(tables.backends_of(&pool).len(), 6);
        let pool = PoolRecord {
            backend_first: 9_000,
            backend_count: 1,
            ..Default::default()
        };
        assert!(tables.backends_of(&pool).is_empty());
        let listener = ListenerRecord {
            pool: 512,
            ..Default::default()
        };
        assert!(tables.pool_of(&listener).is_none());
    }

    #[test]
    fn numbers_that_name_nothing_are_none() {
        assert_eq!(
            AddressRecord {
                kind: 3,
                ..Default::default()
            }
            .kind(),
            None
        );
        assert_eq!(
            AddressRecord {
                prefix_len: 129,
                ..Default::default()
            }
            .subnet(),
            None
        );
        assert_eq!(
            PoolRecord {
                algorithm: 2,
                ..Default::default()
            }
            .algorithm(),
            None
        );
        let leg = |number| LegRecord {
            congestion_control: number,
            ..Default::default()
        };
        assert_eq!(leg(u8::MAX).congestion_control(), None);
        assert!(!leg(u8::MAX).is_known());
        assert_eq!(leg(0).congestion_control(), None);
        assert!(leg(0).is_known(), "the dataplane chooses");
        for control in CongestionControl::ALL {
            let leg = leg(control.number());
            assert_eq!(leg.congestion_control(), Some(control));
            assert!(leg.is_known());
        }
        assert_eq!(
            BackendRecord {
                state: 3,
                ..Default::default()
            }
            .state(),
            None
        );
        assert_eq!(
            BackendRecord {
                id: BACKENDS_MAX as u16,
                ..Default::default()
            }
            .id(),
            None
        );
        assert_eq!(
            AddressRecord {
                port: PORT_NONE,
                ..Default::default()
            }
            .port(),
            None
        );
    }

    #[test]
    fn the_sections_tile_the_tables() {
        let mut word = HEADER_WORDS;
        for section in SECTIONS {
            assert_eq!(section.first_word, word);
            word += section.row_words * section.rows_max;
        }
        assert_eq!(word * 8, size_of::<Tables>());
    }
}
