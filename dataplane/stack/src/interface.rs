//! Our ports and our addresses: what is ours, and what a packet may claim to come from.
//!
//! Replaced as a whole by the control path at a burst boundary. It does not say where packets go
//! (`route.rs`).

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use millrace_base::{Address, MacAddress, PortId, Prefix};

use crate::limits::{INTERFACE_ADDRESSES_MAX, INTERFACES_MAX, LOCAL_ADDRESSES_MAX};
use crate::path::Offloads;

/// An address of ours and the length of the subnet it lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefixed {
    /// The address.
    pub address: Address,
    /// Leading bits that are on-link, counted within the family: 0..=32 or 0..=128.
    pub prefix_len: u8,
}

/// One port as the stack uses it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The port's number.
    pub port: PortId,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Bytes of the largest IP packet, Ethernet header excluded.
    pub mtu: u16,
    /// Our addresses in the subnets of this link.
    pub addresses: ArrayVec<Prefixed, INTERFACE_ADDRESSES_MAX>,
    /// What the device does for outgoing frames.
    pub offloads: Offloads,
}

/// All interfaces and all addresses of ours. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Interfaces {
    by_port: ArrayVec<Interface, INTERFACES_MAX>,
    /// What `set_local` was told, kept to rebuild `local` when the interfaces change.
    extra: Vec<Address>,
    /// Every address of ours.
    local: AddressSet,
    /// Subnet broadcast addresses (IPv4).
    broadcasts: AddressSet,
    /// `drop_unicast_in_l2_multicast` of IPv4 and IPv6.
    drop_unicast_in_l2_multicast: [bool; 2],
}

/// Addresses, sorted, and what they end in: most that are asked for are none of them, and end
/// otherwise.
#[derive(Debug)]
struct AddressSet {
    sorted: Vec<Address>,
    /// A bit for the last six bits of each.
    ends: u64,
}

impl AddressSet {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            sorted: Vec::with_capacity(capacity),
            ends: 0,
        }
    }

    fn clear(&mut self) {
        self.sorted.clear();
        self.ends = 0;
    }

    fn extend(&mut self, addresses: impl Iterator<Item = Address>) {
        self.sorted.extend(addresses);
    }

    /// Comes behind the last address.
    fn sort(&mut self) {
        self.sorted.sort_unstable();
        let ends = self.sorted.iter().map(Self::end);
        self.ends = ends.fold(0, |all, end| all | end);
    }

    /// O(log n), and often O(1).
    #[inline]
    fn contains(&self, address: Address) -> bool {
        self.ends & Self::end(&address) != 0 && self.sorted.binary_search(&address).is_ok()
    }

    #[inline]
    fn end(address: &Address) -> u64 {
        let [.., last] = *address.octets();
        1u64.wrapping_shl(last.into())
    }
}

impl Prefixed {
    /// The network this address lies in; `None` when the length does not fit the family.
    pub fn network(&self) -> Option<Prefix> {
        Prefix::new(self.address, self.prefix_len)
    }

    /// The last address of an IPv4 network of at least four addresses: its broadcast address.
    fn broadcast(&self) -> Option<Address> {
        let bytes = self.address.as_v4()?;
        if self.prefix_len > 30 {
            return None;
        }
        let host_bits = u32::MAX
            .checked_shr(u32::from(self.prefix_len))
            .unwrap_or(0);
        Some(Address::v4(
            (u32::from_be_bytes(bytes) | host_bits).to_be_bytes(),
        ))
    }
}

impl Interfaces {
    pub(crate) fn new() -> Self {
        Self {
            by_port: ArrayVec::new(),
            extra: Vec::with_capacity(LOCAL_ADDRESSES_MAX),
            local: AddressSet::with_capacity(LOCAL_ADDRESSES_MAX.saturating_mul(2)),
            broadcasts: AddressSet::with_capacity(LOCAL_ADDRESSES_MAX),
            drop_unicast_in_l2_multicast: [false; 2],
        }
    }

    /// Replaces the interfaces; those beyond `INTERFACES_MAX`, and second ones for one port, are
    /// ignored.
    pub(crate) fn set(&mut self, interfaces: &[Interface]) {
        self.by_port.clear();
        for interface in interfaces {
            if self.get(interface.port).is_none() && !self.by_port.is_full() {
                self.by_port.push(interface.clone());
            }
        }
        self.rebuild();
    }

    /// Replaces the addresses beside those of the interfaces; at most `LOCAL_ADDRESSES_MAX` are
    /// kept.
    pub(crate) fn set_local(&mut self, addresses: &[Address]) {
        self.extra.clear();
        self.extra
            .extend(addresses.iter().take(LOCAL_ADDRESSES_MAX));
        self.rebuild();
    }

    pub(crate) const fn set_drop_unicast_in_l2_multicast(&mut self, families: [bool; 2]) {
        self.drop_unicast_in_l2_multicast = families;
    }

    /// Whether a packet to one host must not come in a frame to many.
    pub(crate) const fn drops_unicast_in_l2_multicast(&self, is_v4: bool) -> bool {
        let [v4, v6] = self.drop_unicast_in_l2_multicast;
        if is_v4 { v4 } else { v6 }
    }

    pub(crate) fn get(&self, port: PortId) -> Option<&Interface> {
        self.by_port.iter().find(|interface| interface.port == port)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.by_port.iter()
    }

    /// Whether this is one of our addresses. O(log n).
    pub(crate) fn is_local(&self, address: Address) -> bool {
        self.local.contains(address)
    }

    /// Whether this is the limited broadcast address or that of one of our subnets.
    pub(crate) fn is_broadcast(&self, address: Address) -> bool {
        address.is_broadcast() || self.broadcasts.contains(address)
    }

    fn rebuild(&mut self) {
        let Self {
            by_port,
            extra,
            local,
            broadcasts,
            drop_unicast_in_l2_multicast: _,
        } = self;
        local.clear();
        broadcasts.clear();
        local.extend(extra.iter().copied());
        for prefixed in by_port.iter().flat_map(|interface| &interface.addresses) {
            local.extend(core::iter::once(prefixed.address));
            broadcasts.extend(prefixed.broadcast().into_iter());
        }
        local.sort();
        broadcasts.sort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(port: u16, address: [u8; 4], prefix_len: u8) -> Interface {
        let address = Address::v4(address);
        Interface {
            port: PortId::new(port),
            mac: MacAddress::new([2, 0, 0, 0, 0, port as u8]),
            mtu: 1_500,
            addresses: [Prefixed {
                address,
                prefix_len,
            }]
            .into_iter()
            .collect(),
            offloads: Offloads::default(),
        }
    }

    #[test]
    fn addresses_of_interfaces_and_extra_ones_are_ours_until_replaced() {
        let mut interfaces = Interfaces::new();
        interfaces.set(&[
            interface(0, [10, 8, 0, 10], 24),
            interface(1, [10, 9, 0, 10], 31),
        ]);
        interfaces.set_local(&[Address::v4([10, 8, 0, 100])]);
        assert!(interfaces.is_local(Address::v4([10, 8, 0, 10])));
        assert!(interfaces.is_local(Address::v4([10, 8, 0, 100])));
        assert!(interfaces.is_broadcast(Address::v4([10, 8, 0, 255])));
        assert!(
            !interfaces.is_broadcast(Address::v4([10, 9, 0, 11])),
            "RFC 3021: /31 has none"
        );
        interfaces.set(&[]);
        assert!(!interfaces.is_local(Address::v4([10, 8, 0, 10])));
        assert!(interfaces.is_local(Address::v4([10, 8, 0, 100])));
    }
}
