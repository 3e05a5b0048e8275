//! ICMP errors about a segment that the stack sent: RFC 792, RFC 4443.
//!
//! An error quotes the IP header of the segment and the first eight bytes after it: the ports and
//! the sequence number, by which the stack knows whose it is.

use std::net::IpAddr;

use super::emit::{IpHeader, checksum};
use super::{folded, sum};
use crate::ast::IcmpLine;
use crate::fault::Fault;

/// The segment that an error is about, in the wire's numbers, and who reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted {
    pub(crate) local: (IpAddr, u16),
    pub(crate) remote: (IpAddr, u16),
    pub(crate) seq: u32,
    pub(crate) length: u16,
    pub(crate) service: u8,
    pub(crate) ttl: u8,
}

/// Names of types and codes: number, name, codes.
type Types = &'static [(u8, &'static str, &'static [(u8, &'static str)])];

const UNREACHABLE_V4: &[(u8, &str)] = &[
    (0, "net_unreachable"),
    (1, "host_unreachable"),
    (2, "protocol_unreachable"),
    (3, "port_unreachable"),
    (4, "frag_needed"),
    (5, "source_route_failed"),
    (6, "net_unknown"),
    (7, "host_unknown"),
    (8, "source_host_isolated"),
    (9, "net_prohibited"),
    (10, "host_prohibited"),
    (11, "net_unreachable_for_tos"),
    (12, "host_unreachable_for_tos"),
    (13, "packet_filtered"),
    (14, "precedence_violation"),
    (15, "precedence_cutoff"),
];
const EXCEEDED_V4: &[(u8, &str)] = &[(0, "exceeded_ttl"), (1, "exceeded_frag_time")];
const TYPES_V4: Types = &[
    (3, "unreachable", UNREACHABLE_V4),
    (4, "source_quench", &[]),
    (5, "redirect", &[]),
    (11, "time_exceeded", EXCEEDED_V4),
    (12, "parameter_problem", &[]),
];
const UNREACHABLE_V6: &[(u8, &str)] = &[
    (0, "net_unreachable"),
    (0, "no_route"),
    (1, "admin_prohibited"),
    (2, "not_neighbour"),
    (3, "address_unreachable"),
    (4, "port_unreachable"),
];
const TYPES_V6: Types = &[
    (1, "unreachable", UNREACHABLE_V6),
    (2, "packet_too_big", &[]),
    (
        3,
        "time_exceeded",
        &[(0, "exceeded_hop_limit"), (1, "exceeded_frag_time")],
    ),
    (
        4,
        "parameter_problem",
        &[
            (0, "header_field"),
            (1, "unknown_next_header"),
            (2, "unknown_option"),
        ],
    ),
];

/// Writes the packet.
pub(crate) fn emit(line: &IcmpLine, quoted: &Quoted) -> Result<Vec<u8>, Fault> {
    let is_ipv4 = quoted.local.0.is_ipv4();
    let (kind, code) = numbers(line, if is_ipv4 { TYPES_V4 } else { TYPES_V6 })?;
    let carries_mtu = if is_ipv4 {
        (kind, code) == (3, 4)
    } else {
        (kind, code) == (2, 0)
    };
    if line.mtu.is_some() && !carries_mtu {
        return Err(Fault::new(
            line.at,
            "only `unreachable frag_needed` and `packet_too_big` carry an MTU",
        ));
    }
    let in_line = |message: String| Fault::new(line.at, message);
    let mut body = vec![kind, code, 0, 0];
    body.extend(line.mtu.unwrap_or(0).to_be_bytes());
    let original = IpHeader {
        source: quoted.local.0,
        destination: quoted.remote.0,
        service: 0,
        ttl: 64,
        flow_label: 0,
        protocol: 6,
    };
    body.extend(
        original
            .bytes(20 + usize::from(quoted.length))
            .map_err(in_line)?,
    );
    body.extend(quoted.local.1.to_be_bytes());
    body.extend(quoted.remote.1.to_be_bytes());
    body.extend(quoted.seq.to_be_bytes());
    let header = IpHeader {
        source: quoted.remote.0,
        destination: quoted.local.0,
        service: quoted.service,
        ttl: quoted.ttl,
        flow_label: 0,
        protocol: if is_ipv4 { 1 } else { 58 },
    };
    // ICMP for IPv4 has no pseudo header.
    let sum = if is_ipv4 {
        (!folded(sum(&body))).to_be_bytes()
    } else {
        checksum(&header, &body)
    };
    body.splice(2..4, sum);
    header.with(&body).map_err(in_line)
}

fn numbers(line: &IcmpLine, types: Types) -> Result<(u8, u8), Fault> {
    let fault = |what: &str, name: &str| {
        Fault::new(
            line.at,
            format!("`{name}` is no ICMP {what} of this address family"),
        )
    };
    let numbered =
        |name: &str, prefix: &str| name.strip_prefix(prefix).and_then(|n| n.parse().ok());
    let known = types.iter().find(|(_, name, _)| *name == line.kind);
    let kind = known
        .map(|(number, _, _)| *number)
        .or_else(|| numbered(&line.kind, "type_"));
    let kind = kind.ok_or_else(|| fault("type", &line.kind))?;
    let Some(name) = &line.code else {
        return Ok((kind, 0));
    };
    let codes = known.map_or(&[][..], |(_, _, codes)| codes);
    let code = codes
        .iter()
        .find(|(_, known)| known == name)
        .map(|(number, _)| *number);
    let code = code
        .or_else(|| numbered(name, "code_"))
        .ok_or_else(|| fault("code", name))?;
    Ok((kind, code))
}
