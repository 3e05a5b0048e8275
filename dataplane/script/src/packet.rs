//! Live packets: bytes to fields, fields to bytes, fields to a line of the language.
//!
//! This is on purpose not the project's own `wire`: what checks the stack's packets must not share
//! its mistakes.

mod emit;
mod icmp;
mod options;
mod parse;
pub(crate) mod show;

use std::net::IpAddr;

use crate::ast::TcpOption;

pub(crate) use emit::emit;
pub(crate) use icmp::{Quoted, emit as emit_icmp};
pub(crate) use parse::parse;

/// A TCP segment in an IP packet. Numbers are the wire's or the script's, as its holder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Type of service, or traffic class.
    pub(crate) service: u8,
    pub(crate) ttl: u8,
    /// 0 in IPv4.
    pub(crate) flow_label: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// See [`crate::ast::flag`].
    pub(crate) flags: u16,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<TcpOption>,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// The value of the timestamp option, and its echo.
pub(crate) fn timestamps(options: &[TcpOption]) -> Option<(u32, u32)> {
    options.iter().find_map(|option| match option {
        TcpOption::Timestamps { value, echo } => Some((*value, *echo)),
        _ => None,
    })
}

/// The internet checksum's sum of `bytes`, which start at an even offset.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2);
    words
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The sum of what IPv4 and IPv6 alike put before a transport header.
fn pseudo_sum(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    address(source) + address(destination) + u64::from(protocol) + length
}

#[cfg(test)]
mod tests;
