//! Bytes to a segment, with every length and checksum held against the bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Segment, folded, options, pseudo_sum, sum};

const TCP: u8 = 6;

/// What is wrong with a packet that left the stack.
pub(crate) type Broken = String;

/// Reads a packet. `Ok(None)` is a good packet of another protocol.
pub(crate) fn parse(packet: &[u8]) -> Result<Option<Segment>, Broken> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => ipv4(packet),
        Some(6) => ipv6(packet),
        Some(version) => Err(format!("IP version {version}")),
        None => Err("a packet without a byte".to_owned()),
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Broken> {
    let found = bytes
        .get(at..at + N)
        .and_then(|found| found.try_into().ok());
    found.ok_or_else(|| format!("{} bytes are too few", bytes.len()))
}

fn ipv4(packet: &[u8]) -> Result<Option<Segment>, Broken> {
    let [first, service] = field(packet, 0)?;
    let length = usize::from(u16::from_be_bytes(field(packet, 2)?));
    if length != packet.len() {
        return Err(format!(
            "IP says {length} bytes, there are {}",
            packet.len()
        ));
    }
    let header_length = usize::from(first & 0xf) * 4;
    let header = packet
        .get(..header_length)
        .filter(|header| header.len() >= 20);
    let header = header.ok_or_else(|| format!("an IP header of {header_length} bytes"))?;
    if folded(sum(header)) != 0xffff {
        return Err("bad IP checksum".to_owned());
    }
    let fragment = u16::from_be_bytes(field(header, 6)?);
    if fragment & 0x3fff != 0 {
        return Err("an IP fragment".to_owned());
    }
    let [ttl, protocol] = field(header, 8)?;
    let source = IpAddr::V4(Ipv4Addr::from(field::<4>(header, 12)?));
    let destination = IpAddr::V4(Ipv4Addr::from(field::<4>(header, 16)?));
    if protocol != TCP {
        return Ok(None);
    }
    let body = packet.get(header_length..).unwrap_or(&[]);
    tcp(
        body,
        Ip {
            source,
            destination,
            service,
            ttl,
            flow_label: 0,
        },
    )
    .map(Some)
}

fn ipv6(packet: &[u8]) -> Result<Option<Segment>, Broken> {
    let first = u32::from_be_bytes(field(packet, 0)?);
    let length = usize::from(u16::from_be_bytes(field(packet, 4)?));
    if length + 40 != packet.len() {
        return Err(format!(
            "IPv6 says {length} bytes after its header, the packet has {}",
            packet.len()
        ));
    }
    let [protocol, ttl] = field(packet, 6)?;
    let source = IpAddr::V6(Ipv6Addr::from(field::<16>(packet, 8)?));
    let destination = IpAddr::V6(Ipv6Addr::from(field::<16>(packet, 24)?));
    if protocol != TCP {
        return Ok(None);
    }
    let service = u8::try_from(first >> 20 & 0xff).unwrap_or(0);
    let body = packet.get(40..).unwrap_or(&[]);
    tcp(
        body,
        Ip {
            source,
            destination,
            service,
            ttl,
            flow_label: first & 0xf_ffff,
        },
    )
    .map(Some)
}

struct Ip {
    source: IpAddr,
    destination: IpAddr,
    service: u8,
    ttl: u8,
    flow_label: u32,
}

fn tcp(bytes: &[u8], ip: Ip) -> Result<Segment, Broken> {
    let Ip {
        source,
        destination,
        service,
        ttl,
        flow_label,
    } = ip;
    if folded(sum(bytes) + pseudo_sum(source, destination, TCP, bytes.len())) != 0xffff {
        return Err("bad TCP checksum".to_owned());
    }
    let bits = u16::from_be_bytes(field(bytes, 12)?);
    let header_length = usize::from(bits >> 12) * 4;
    if header_length < 20 || header_length > bytes.len() {
        return Err(format!(
            "a TCP header of {header_length} bytes in {}",
            bytes.len()
        ));
    }
    if bits & 0x0e00 != 0 {
        return Err("reserved bits of the TCP header are set".to_owned());
    }
    Ok(Segment {
        source,
        destination,
        service,
        ttl,
        flow_label,
        source_port: u16::from_be_bytes(field(bytes, 0)?),
        destination_port: u16::from_be_bytes(field(bytes, 2)?),
        seq: u32::from_be_bytes(field(bytes, 4)?),
        ack: u32::from_be_bytes(field(bytes, 8)?),
        flags: bits & 0x1ff,
        window: u16::from_be_bytes(field(bytes, 14)?),
        urgent: u16::from_be_bytes(field(bytes, 18)?),
        options: options::parse(bytes.get(20..header_length).unwrap_or(&[]))?,
        payload: bytes.get(header_length..).unwrap_or(&[]).to_vec(),
    })
}
