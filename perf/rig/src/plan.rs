//! The network that the rig plays: who has which address.
//!
//! ```text
//!   clients 10.64.0.0/10 -- gateway 10.0.0.254 -- front [lcores] back -- backends 10.2.2.1 ..
//!                                         VIP 10.0.0.100:80      SNAT 10.2.1.1 ..
//! ```

use anyhow::Result;
use millrace_abi::{
    AddressKind, AddressRecord, BackendRecord, Command, InterfaceRecord, ListenerRecord,
    NeighborState, PoolRecord, RouteRecord, SnatRecord, Tables,
};
use millrace_base::{Address, MacAddress, PacketBuf, PortId};
use millrace_dpdk::Mbuf;
use millrace_load::light::Sources;

/// The client side's port.
pub(crate) const FRONT: PortId = PortId::new(0);
/// The backend side's port.
pub(crate) const BACK: PortId = PortId::new(1);
/// Our Ethernet addresses.
pub(crate) const OURS: [MacAddress; 2] = [
    MacAddress::new([2, 0, 0, 0, 0, 1]),
    MacAddress::new([2, 0, 0, 0, 1, 1]),
];
/// The gateway's and the backends' Ethernet addresses.
pub(crate) const THEIRS: [MacAddress; 2] = [
    MacAddress::new([2, 0, 0, 0, 0, 2]),
    MacAddress::new([2, 0, 0, 0, 1, 2]),
];
/// Where clients connect to.
pub(crate) const SERVICE: (u32, u16) = (0x0a00_0064, 80);
/// Backends, and as many source addresses: each pair of them has 64,512 tuples.
pub(crate) const BACKENDS: u8 = 16;
/// Clients behind the gateway.
pub(crate) const SOURCES: Sources = Sources {
    first_address: 0x0a40_0001,
    first_port: 1_024,
    ports: 64_000,
};

/// Clients that are not measured.
pub(crate) const OTHERS: Sources = Sources {
    first_address: 0x5000_0001,
    ..SOURCES
};

/// Behind which the clients are.
pub(crate) const GATEWAY: [u8; 4] = [10, 0, 0, 254];
const BACKEND_PORT: u16 = 8_080;

fn backend(index: u8) -> Address {
    Address::v4([10, 2, 2, 1 + index])
}

/// Whether a frame on the client side goes to one of `OTHERS`.
#[inline]
pub(crate) fn is_for_others(frame: &Mbuf) -> bool {
    let first = (OTHERS.first_address >> 24) as u8;
    frame.bytes().get(30).is_some_and(|byte| *byte >= first)
}

/// The address clients connect to.
pub(crate) fn service_address() -> Address {
    Address::v4(SERVICE.0.to_be_bytes())
}

/// Writes what control would publish.
pub(crate) fn fill(tables: &mut Tables, mtu: u16) -> Result<()> {
    for (port, mac) in [FRONT, BACK].into_iter().zip(OURS) {
        tables.push_interface(InterfaceRecord::new(port, mac, mtu))?;
    }
    let mut address = |bytes: Address, port: PortId, prefix_len, kind: AddressKind| {
        tables.push_address(AddressRecord {
            address: *bytes.octets(),
            port: port.number(),
            prefix_len,
            kind: kind as u8,
            ..AddressRecord::default()
        })
    };
    address(
        Address::v4([10, 0, 0, 1]),
        FRONT,
        24,
        AddressKind::Interface,
    )?;
    address(Address::v4([10, 2, 0, 1]), BACK, 16, AddressKind::Interface)?;
    address(service_address(), FRONT, 32, AddressKind::Vip)?;
    for index in 0..BACKENDS {
        address(
            Address::v4([10, 2, 1, 1 + index]),
            BACK,
            32,
            AddressKind::Snat,
        )?;
    }
    tables.push_route(RouteRecord {
        prefix: *Address::v4([0; 4]).octets(),
        via: *Address::v4(GATEWAY).octets(),
        port: FRONT.number(),
        has_via: 1,
        ..RouteRecord::default()
    })?;
    tables.push_pool(PoolRecord {
        name: "backends".into(),
        backend_count: u16::from(BACKENDS),
        ..PoolRecord::default()
    })?;
    for index in 0..BACKENDS {
        tables.push_snat(SnatRecord {
            address: *Address::v4([10, 2, 1, 1 + index]).octets(),
            port_first: 1_024,
            port_last: 65_535,
            ..SnatRecord::default()
        })?;
        tables.push_backend(BackendRecord {
            address: *backend(index).octets(),
            id: u16::from(index),
            port: BACKEND_PORT,
            weight: 1,
            ..BackendRecord::default()
        })?;
    }
    tables.push_listener(ListenerRecord {
        name: "service".into(),
        address: *service_address().octets(),
        port_first: SERVICE.1,
        port_last: SERVICE.1,
        backlog: 65_535,
        ..ListenerRecord::default()
    })?;
    Ok(())
}

/// What control would say about the neighbours.
pub(crate) fn neighbors() -> impl Iterator<Item = Command> {
    let reachable = |port, address, mac| Command::NeighborSet {
        port,
        address,
        state: NeighborState::Reachable(mac),
    };
    let gateway = reachable(FRONT, Address::v4(GATEWAY), THEIRS[0]);
    let backends = (0..BACKENDS).map(move |index| reachable(BACK, backend(index), THEIRS[1]));
    core::iter::once(gateway).chain(backends)
}
