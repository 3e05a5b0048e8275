//! The three ways to run one script: over IPv4, over IPv6, and over IPv4 from an IPv6 socket.
//!
//! Addresses, the MTU and a few defined words depend on it. An IPv6 link has 20 bytes more, so that
//! the segments are as long as on IPv4, and the same script serves both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::parser::Definitions;

/// Which addresses a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// IPv4 sockets, IPv4 packets.
    Ipv4,
    /// IPv6 sockets, IPv6 packets.
    Ipv6,
    /// IPv6 sockets with IPv4-mapped addresses, IPv4 packets.
    Mapped,
}

impl Variant {
    /// All, in the order of their names.
    pub const ALL: [Self; 3] = [Self::Ipv4, Self::Ipv6, Self::Mapped];

    /// The family of sockets (`AF_INET` or `AF_INET6`).
    pub(crate) const fn domain(self) -> i32 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 | Self::Mapped => 10,
        }
    }

    pub(crate) const fn is_ipv6_on_the_wire(self) -> bool {
        matches!(self, Self::Ipv6)
    }

    pub(crate) const fn mtu(self) -> u16 {
        if self.is_ipv6_on_the_wire() {
            1_520
        } else {
            1_500
        }
    }

    pub(crate) const fn local(self) -> IpAddr {
        match self {
            Self::Ipv4 | Self::Mapped => IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1)),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::new(0xfd3d, 0x0a0b, 0x17d6, 0, 0, 0, 0, 1)),
        }
    }

    pub(crate) const fn remote(self) -> IpAddr {
        match self {
            Self::Ipv4 | Self::Mapped => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::new(0xfd3d, 0xfa7b, 0xd17d, 0, 0, 0, 0, 1)),
        }
    }

    pub(crate) const fn prefix_bits(self) -> u8 {
        if self.is_ipv6_on_the_wire() { 48 } else { 16 }
    }

    /// The address as a socket of this variant is told it.
    pub(crate) fn for_socket(self, address: IpAddr, port: u16) -> SocketAddr {
        match (self, address) {
            (Self::Mapped, IpAddr::V4(address)) => {
                SocketAddr::new(IpAddr::V6(address.to_ipv6_mapped()), port)
            }
            _ => SocketAddr::new(address, port),
        }
    }

    /// The words that the public suite's runner defines. The Fast Open cookies are those that its
    /// default key gives for the default addresses.
    pub(crate) fn definitions(self) -> Definitions {
        let (cookie, level, error) = match self {
            Self::Ipv4 => ("3021b9d889017eeb", "SOL_IP", "IP_RECVERR"),
            Self::Ipv6 => ("c1d1e9742a47a9bc", "SOL_IPV6", "IPV6_RECVERR"),
            Self::Mapped => ("3021b9d889017eeb", "SOL_IPV6", "IPV6_RECVERR"),
        };
        let unreachable = if self.is_ipv6_on_the_wire() {
            "address_unreachable"
        } else {
            "host_unreachable"
        };
        [
            ("TFO_COOKIE", cookie),
            ("CODE", unreachable),
            ("CMSG_LEVEL_IP", level),
            ("CMSG_TYPE_RECVERR", error),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Mapped => "ipv4-mapped-ipv6",
        })
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL
            .into_iter()
            .find(|variant| variant.to_string() == name);
        known.ok_or_else(|| format!("`{name}` is none of ipv4, ipv6, ipv4-mapped-ipv6"))
    }
}
