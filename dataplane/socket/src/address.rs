//! Socket addresses as programs see them: `sockaddr_in`, `sockaddr_in6`, and nothing
//! (`AF_UNSPEC`).
//!
//! Inside the crate an address is an `Endpoint`, which stores IPv4 in its mapped form; this file is
//! the way between the two. What a socket may be bound or connected to is not decided here.

use millrace_base::{Address, Endpoint};

use crate::errno::Errno;
use crate::linux::{AF_INET, AF_INET6, AF_UNSPEC};

/// Bytes of a `sockaddr_in`.
pub const SOCKADDR_IN_BYTES: usize = 16;
/// Bytes of a `sockaddr_in6`.
pub const SOCKADDR_IN6_BYTES: usize = 28;
/// Bytes of a `sockaddr_in6` before it had a scope: what calls insist on.
const SOCKADDR_IN6_BYTES_MIN: usize = 24;

/// The family of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`; may also speak IPv4 through mapped addresses unless `IPV6_V6ONLY`.
    V6,
}

/// A `sockaddr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketAddress {
    /// `AF_UNSPEC`: `connect` dissolves the association.
    Unspecified,
    /// A `sockaddr_in`.
    V4 {
        /// The address in network order.
        address: [u8; 4],
        /// The port.
        port: u16,
    },
    /// A `sockaddr_in6`.
    V6 {
        /// The address; an IPv4-mapped one (`::ffff:a.b.c.d`) means IPv4.
        address: [u8; 16],
        /// The port.
        port: u16,
        /// Flow label and traffic class; kept but not sent.
        flow_info: u32,
        /// The interface of a link-local address.
        scope_id: u32,
    },
    /// Any other family: refused by every call.
    Other(u16),
}

impl SocketAddress {
    /// A `sockaddr_in`.
    pub const fn v4(address: [u8; 4], port: u16) -> Self {
        Self::V4 { address, port }
    }

    /// A `sockaddr_in6` without flow label and scope.
    pub const fn v6(address: [u8; 16], port: u16) -> Self {
        Self::V6 {
            address,
            port,
            flow_info: 0,
            scope_id: 0,
        }
    }

    /// Reads a `sockaddr`: the family in host order, the rest in network order. `EINVAL` when it is
    /// too short for its family.
    pub fn parse(bytes: &[u8]) -> Result<Self, Errno> {
        let family = u16::from_ne_bytes(field(bytes, 0)?);
        match i32::from(family) {
            AF_UNSPEC => Ok(Self::Unspecified),
            AF_INET if bytes.len() >= SOCKADDR_IN_BYTES => Ok(Self::V4 {
                port: u16::from_be_bytes(field(bytes, 2)?),
                address: field(bytes, 4)?,
            }),
            AF_INET6 if bytes.len() >= SOCKADDR_IN6_BYTES_MIN => Ok(Self::V6 {
                port: u16::from_be_bytes(field(bytes, 2)?),
                flow_info: u32::from_be_bytes(field(bytes, 4)?),
                address: field(bytes, 8)?,
                scope_id: field(bytes, 24).map_or(0, u32::from_ne_bytes),
            }),
            AF_INET | AF_INET6 => Err(Errno::EINVAL),
            _ => Ok(Self::Other(family)),
        }
    }

    /// The bytes of the `sockaddr`.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SOCKADDR_IN6_BYTES);
        bytes.extend_from_slice(&self.family().to_ne_bytes());
        match self {
            Self::Unspecified | Self::Other(_) => bytes.resize(SOCKADDR_IN_BYTES, 0),
            Self::V4 { address, port } => {
                bytes.extend_from_slice(&port.to_be_bytes());
                bytes.extend_from_slice(&address);
                bytes.resize(SOCKADDR_IN_BYTES, 0);
            }
            Self::V6 {
                address,
                port,
                flow_info,
                scope_id,
            } => {
                bytes.extend_from_slice(&port.to_be_bytes());
                bytes.extend_from_slice(&flow_info.to_be_bytes());
                bytes.extend_from_slice(&address);
                bytes.extend_from_slice(&scope_id.to_ne_bytes());
            }
        }
        bytes
    }

    /// The `sa_family`.
    pub const fn family(self) -> u16 {
        match self {
            Self::Unspecified => AF_UNSPEC as u16,
            Self::V4 { .. } => AF_INET as u16,
            Self::V6 { .. } => AF_INET6 as u16,
            Self::Other(family) => family,
        }
    }

    /// The port; 0 when there is none.
    pub const fn port(self) -> u16 {
        match self {
            Self::V4 { port, .. } | Self::V6 { port, .. } => port,
            Self::Unspecified | Self::Other(_) => 0,
        }
    }

    /// How a socket of `domain` shows an endpoint: an IPv6 socket shows IPv4 in mapped form.
    pub(crate) fn of(endpoint: Endpoint, domain: Domain) -> Self {
        match (domain, endpoint.address.as_v4()) {
            (Domain::V4, Some(address)) => Self::v4(address, endpoint.port),
            (Domain::V4, None) => Self::v4([0; 4], endpoint.port),
            (Domain::V6, _) => Self::v6(*endpoint.address.octets(), endpoint.port),
        }
    }

    /// The endpoint an address means to a socket of `domain`. `EINVAL` for an address that is too
    /// short for the family, `EAFNOSUPPORT` for another one: in this order (Linux:
    /// `tcp_v4_connect`, `tcp_v6_connect`).
    pub(crate) fn endpoint(self, domain: Domain) -> Result<Endpoint, Errno> {
        match (domain, self) {
            (Domain::V4, Self::V4 { address, port }) => {
                Ok(Endpoint::new(Address::v4(address), port))
            }
            (Domain::V6, Self::V6 { address, port, .. }) => {
                Ok(Endpoint::new(Address::v6(address), port))
            }
            (Domain::V6, Self::V4 { .. }) => Err(Errno::EINVAL),
            (_, Self::V6 { .. } | Self::Unspecified | Self::Other(_)) => Err(Errno::EAFNOSUPPORT),
        }
    }
}

impl Domain {
    /// The unspecified address of the family.
    pub(crate) const fn any(self) -> Address {
        match self {
            Self::V4 => Address::UNSPECIFIED_V4,
            Self::V6 => Address::UNSPECIFIED_V6,
        }
    }

    /// The number `socket` was called with.
    pub const fn number(self) -> i32 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Errno> {
    let end = at.checked_add(N).ok_or(Errno::EINVAL)?;
    let field = bytes.get(at..end).and_then(|bytes| bytes.try_into().ok());
    field.ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_bytes() {
        let v6 = SocketAddress::V6 {
            address: [1; 16],
            port: 443,
            flow_info: 7,
            scope_id: 3,
        };
        for address in [SocketAddress::v4([192, 0, 2, 1], 8_080), v6] {
            assert_eq!(SocketAddress::parse(&address.to_bytes()), Ok(address));
        }
        assert_eq!(
            SocketAddress::v4([192, 0, 2, 1], 8_080).to_bytes()[2..8],
            [0x1f, 0x90, 192, 0, 2, 1]
        );
    }

    // behaviour: SOK-26
    #[test]
    fn short_addresses_are_invalid() {
        let v4 = SocketAddress::v4([192, 0, 2, 1], 1).to_bytes();
        assert_eq!(SocketAddress::parse(&v4[..8]), Err(Errno::EINVAL));
        assert_eq!(SocketAddress::parse(&[]), Err(Errno::EINVAL));
        let v6 = SocketAddress::v6([1; 16], 1).to_bytes();
        assert!(SocketAddress::parse(&v6[..24]).is_ok());
        assert_eq!(SocketAddress::parse(&v6[..20]), Err(Errno::EINVAL));
    }

    #[test]
    fn a_mapped_address_is_an_ipv4_endpoint() {
        let mapped = SocketAddress::v6(*Address::v4([10, 0, 0, 1]).octets(), 5);
        let endpoint = mapped.endpoint(Domain::V6).expect("IPv6 socket");
        assert!(endpoint.address.is_v4());
        assert_eq!(SocketAddress::of(endpoint, Domain::V6), mapped);
        let v4 = SocketAddress::v4([10, 0, 0, 1], 5);
        assert_eq!(v4.endpoint(Domain::V6), Err(Errno::EINVAL));
        assert_eq!(mapped.endpoint(Domain::V4), Err(Errno::EAFNOSUPPORT));
    }
}
