//! Addresses that hold IPv4 or IPv6, and the tuples made of them.
//!
//! An `Address` is 16 bytes; an IPv4 address is stored in its IPv4-mapped form (RFC 4291 section 2.5.5.2). The mapped
//! form never arrives on the wire as an IPv6 address: `wire` refuses such packets, so the two families cannot be
//! confused.

use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or an IPv6 address. Equality, order and hashing are those of 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Address([u8; 16]);

/// A 48-bit IEEE 802 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct MacAddress([u8; 6]);

/// An address and a TCP or UDP port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port in host order; 0 means "none" or "any".
    pub port: u16,
}

/// The two ends of a connection as this host sees them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FlowTuple {
    /// Our end.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
}

/// An address and how many of its leading bits name a network.
///
/// The length counts within the family: 0..=32 for IPv4, 0..=128 for IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: Address,
    length: u8,
}

impl Address {
    /// The IPv6 unspecified address, `::`.
    pub const UNSPECIFIED_V6: Self = Self([0; 16]);
    /// The IPv4 unspecified address, `0.0.0.0`.
    pub const UNSPECIFIED_V4: Self = Self::v4([0; 4]);

    /// An IPv4 address from its four bytes in network order.
    pub const fn v4(bytes: [u8; 4]) -> Self {
        let [a, b, c, d] = bytes;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// An IPv6 address from its sixteen bytes in network order. A mapped IPv4 address becomes that IPv4 address.
    pub const fn v6(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// All sixteen bytes; IPv4 in its mapped form.
    pub const fn octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// The four bytes of an IPv4 address; `None` for IPv6.
    #[inline]
    pub fn as_v4(&self) -> Option<[u8; 4]> {
        let [.., a, b, c, d] = self.0;
        self.is_v4().then_some([a, b, c, d])
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        // One number: comparing twelve bytes is a call.
        u128::from_be_bytes(self.0) >> 32 == 0xffff
    }

    /// Whether this is `0.0.0.0` or `::`.
    pub fn is_unspecified(&self) -> bool {
        *self == Self::UNSPECIFIED_V4 || *self == Self::UNSPECIFIED_V6
    }

    /// Whether this is a multicast address (224.0.0.0/4 or ff00::/8).
    pub fn is_multicast(&self) -> bool {
        match self.as_v4() {
            Some([first, ..]) => first & 0xf0 == 0xe0,
            None => self.0.starts_with(&[0xff]),
        }
    }

    /// Whether this is the IPv4 limited broadcast address.
    pub fn is_broadcast(&self) -> bool {
        self.as_v4() == Some([255; 4])
    }

    /// Whether this is a loopback address (127.0.0.0/8 or ::1).
    pub fn is_loopback(&self) -> bool {
        match self.as_v4() {
            Some([first, ..]) => first == 127,
            None => u128::from_be_bytes(self.0) == 1,
        }
    }

    /// Whether this is an IPv6 link-local unicast address (fe80::/10).
    pub fn is_link_local_v6(&self) -> bool {
        let [first, second, ..] = self.0;
        first == 0xfe && second & 0xc0 == 0x80
    }

    /// Whether a unicast packet may carry this as its source: not unspecified, multicast, broadcast or loopback
    /// (RFC 1122 section 3.2.1.3).
    #[inline]
    pub fn is_unicast_source(&self) -> bool {
        match self.as_v4() {
            Some(bytes) => {
                let [first, ..] = bytes;
                bytes != [0; 4] && bytes != [255; 4] && first & 0xf0 != 0xe0 && first != 127
            }
            None => u128::from_be_bytes(self.0) > 1 && !self.is_multicast(),
        }
    }

    /// The solicited-node multicast address of an IPv6 address (RFC 4291 section 2.7.1).
    pub const fn solicited_node(&self) -> Self {
        let [.., x, y, z] = self.0;
        Self([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z])
    }
}

impl Ord for Address {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        // Two numbers: comparing sixteen bytes is a call.
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for Address {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.as_v4() {
            Some(bytes) => IpAddr::V4(Ipv4Addr::from(bytes)),
            None => IpAddr::V6(Ipv6Addr::from(address.0)),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Endpoint {
    /// The endpoint of this address and port.
    pub const fn new(address: Address, port: u16) -> Self {
        Self { address, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.is_v4() {
            write!(f, "{}:{}", self.address, self.port)
        } else {
            write!(f, "[{}]:{}", self.address, self.port)
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FlowTuple {
    /// The same flow as the peer sees it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
        }
    }
}

impl fmt::Debug for FlowTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <- {}", self.local, self.remote)
    }
}

impl Prefix {
    /// The prefix of the first `length` bits of `address`, host bits cleared; `None` when the length does not fit
    /// the family.
    pub fn new(address: Address, length: u8) -> Option<Self> {
        let length_max = if address.is_v4() { 32 } else { 128 };
        if length > length_max {
            return None;
        }
        let mut prefix = Self { address, length };
        let bits = prefix.bits_in_16_bytes();
        let mut position = 0u32;
        for byte in &mut prefix.address.0 {
            let kept = bits.saturating_sub(position).min(8);
            *byte &= 0xffu8.checked_shl(8u32.saturating_sub(kept)).unwrap_or(0);
            position = position.saturating_add(8);
        }
        Some(prefix)
    }

    /// The network address: host bits are zero.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Leading bits that name the network, counted within the family.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether `address` is of this family and inside this network.
    pub fn contains(&self, address: Address) -> bool {
        if address.is_v4() != self.address.is_v4() {
            return false;
        }
        let difference = u128::from_be_bytes(address.0) ^ u128::from_be_bytes(self.address.0);
        difference.leading_zeros() >= self.bits_in_16_bytes()
    }

    fn bits_in_16_bytes(&self) -> u32 {
        let skipped = if self.address.is_v4() { 96 } else { 0 };
        u32::from(self.length).saturating_add(skipped)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl MacAddress {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// All zeros: no address.
    pub const ZERO: Self = Self([0; 6]);

    /// The address with these bytes in transmission order.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The bytes in transmission order.
    pub const fn octets(&self) -> &[u8; 6] {
        &self.0
    }

    /// Whether the group bit is set: multicast or broadcast.
    pub const fn is_group(&self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 1
    }

    /// The group address that carries an IP multicast destination (RFC 1112 section 6.4, RFC 2464 section 7).
    pub fn for_multicast(address: Address) -> Self {
        let [.., w, x, y, z] = *address.octets();
        if address.is_v4() {
            Self([0x01, 0x00, 0x5e, x & 0x7f, y, z])
        } else {
            Self([0x33, 0x33, w, x, y, z])
        }
    }

    /// Parses six hexadecimal bytes separated by colons, `02:00:00:00:00:01`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next()?;
            if part.is_empty() || part.len() > 2 {
                return None;
            }
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().expect("test address"))
    }

    #[test]
    fn a_prefix_clears_host_bits_and_contains_only_its_family() {
        let v4 = Prefix::new(address("10.8.77.3"), 20).expect("valid");
        assert_eq!(v4.to_string(), "10.8.64.0/20");
        assert!(v4.contains(address("10.8.79.255")));
        assert!(!v4.contains(address("10.8.80.0")));
        assert!(!v4.contains(address("fd00::1")));
        let all = Prefix::new(address("0.0.0.0"), 0).expect("valid");
        assert!(all.contains(address("255.255.255.255")) && !all.contains(address("::1")));
        let v6 = Prefix::new(address("fd00:1:2:3::9"), 64).expect("valid");
        assert!(v6.contains(address("fd00:1:2:3:ffff::")) && !v6.contains(address("fd00:1:2:4::")));
        assert!(Prefix::new(address("10.0.0.0"), 33).is_none());
    }

    #[test]
    fn classes_of_addresses_are_told_apart() {
        assert!(address("224.0.0.1").is_multicast() && address("ff02::1").is_multicast());
        assert!(address("255.255.255.255").is_broadcast());
        assert!(!address("127.0.0.1").is_unicast_source() && !address("::1").is_unicast_source());
        assert!(address("192.0.2.1").is_unicast_source() && address("fd00::1").is_unicast_source());
        for (text, fits) in [
            ("0.0.0.0", false),
            ("0.0.0.1", true),
            ("126.0.0.1", true),
            ("127.9.9.9", false),
            ("223.255.255.255", true),
            ("239.1.1.1", false),
            ("255.255.255.255", false),
            ("255.255.255.254", true),
            ("::", false),
            ("::2", true),
            ("fe80::1", true),
            ("ff02::1", false),
        ] {
            let address = address(text);
            assert_eq!(address.is_unicast_source(), fits, "{text}");
            let excluded = address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_loopback();
            assert_eq!(fits, !excluded, "{text}");
        }
        assert!(address("fe80::1").is_link_local_v6() && !address("fd00::1").is_link_local_v6());
        assert_eq!(
            address("fd00::1:2345:6789").solicited_node(),
            address("ff02::1:ff45:6789")
        );
    }

    #[test]
    fn mac_addresses_parse_what_they_print() {
        let mac = MacAddress::parse("02:00:5e:10:00:fF").expect("valid");
        assert_eq!(MacAddress::parse(&mac.to_string()), Some(mac));
        assert_eq!(MacAddress::parse("02:00:5e:10:00"), None);
        assert_eq!(MacAddress::parse("02:00:5e:10:00:01:02"), None);
        assert_eq!(
            MacAddress::for_multicast(address("239.129.2.3")).to_string(),
            "01:00:5e:01:02:03"
        );
        assert_eq!(
            MacAddress::for_multicast(address("ff02::1:ff45:6789")).to_string(),
            "33:33:ff:45:67:89"
        );
    }
}
