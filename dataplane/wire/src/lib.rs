//! Bytes to meaning and back.
//!
//! Each protocol has a *view* and a *repr*. A view borrows bytes whose lengths were checked once,
//! in `parse`; its accessors cannot fail. A repr holds the meaning and nothing else; `emit` writes
//! it. Parsing what was emitted gives the repr back, which the property tests hold for every
//! protocol.
//!
//! ```text
//!   Ethernet [802.1Q ...] | ARP
//!                         | IPv4 [options]    | TCP [options] | UDP | ICMP
//!                         | IPv6 [extensions] | TCP [options] | UDP | ICMPv6 (ND)
//! ```
//!
//! Nothing here decides anything: a frame that breaks its format is `Malformed` with the reason, a
//! frame that is merely unwanted parses. Checksums are verified by whoever knows what the device
//! has verified already.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unreachable,
        clippy::float_arithmetic
    )
)]

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
mod malformed;
pub mod nd;
pub mod pretty;
pub mod tcp;
pub mod udp;

pub use checksum::Checksum;
pub use ethernet::{EtherType, EthernetView};
pub use ip::{Fragment, IpRepr, IpView};
pub use malformed::Malformed;
pub use tcp::{AccEcn, SackBlocks, TcpFlags, TcpOptions, TcpRepr, TcpView, Timestamps};

/// IP protocol numbers (IANA) that the stack knows by name.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMPV4: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Reads a big-endian `u16` at `offset`; 0 beyond the end, which a checked view never asks for.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    let Some(tail) = bytes.get(offset..) else {
        return 0;
    };
    tail.first_chunk::<2>()
        .map_or(0, |chunk| u16::from_be_bytes(*chunk))
}

/// Reads a big-endian `u32` at `offset`; 0 beyond the end, which a checked view never asks for.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let Some(tail) = bytes.get(offset..) else {
        return 0;
    };
    tail.first_chunk::<4>()
        .map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

/// Reads one byte at `offset`; 0 beyond the end, which a checked view never asks for.
#[inline]
pub(crate) fn u8_at(bytes: &[u8], offset: usize) -> u8 {
    bytes.get(offset).copied().unwrap_or(0)
}
