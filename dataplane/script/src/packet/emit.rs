//! A segment to bytes, with lengths and checksums.

use std::net::IpAddr;

use super::{Segment, folded, pseudo_sum, sum};

/// Writes the packet. Too much for the IP length field is a fault of the caller's and refused.
pub(crate) fn emit(segment: &Segment) -> Result<Vec<u8>, String> {
    let mut options = Vec::new();
    for option in &segment.options {
        option.emit(&mut options);
    }
    options.resize(options.len().next_multiple_of(4), 0);
    let words = u16::try_from((20 + options.len()) / 4).unwrap_or(u16::MAX);
    let mut body = Vec::with_capacity(20 + options.len() + segment.payload.len());
    body.extend(segment.source_port.to_be_bytes());
    body.extend(segment.destination_port.to_be_bytes());
    body.extend(segment.seq.to_be_bytes());
    body.extend(segment.ack.to_be_bytes());
    body.extend((words << 12 | segment.flags).to_be_bytes());
    body.extend(segment.window.to_be_bytes());
    body.extend([0, 0]);
    body.extend(segment.urgent.to_be_bytes());
    body.extend(options);
    body.extend(&segment.payload);
    let header = IpHeader {
        source: segment.source,
        destination: segment.destination,
        service: segment.service,
        ttl: segment.ttl,
        flow_label: segment.flow_label,
        protocol: 6,
    };
    let checksum = checksum(&header, &body);
    body.splice(16..18, checksum);
    header.with(&body)
}

/// The transport checksum of `body`, whose own field is zero.
pub(super) fn checksum(header: &IpHeader, body: &[u8]) -> [u8; 2] {
    let pseudo = pseudo_sum(
        header.source,
        header.destination,
        header.protocol,
        body.len(),
    );
    (!folded(pseudo + sum(body))).to_be_bytes()
}

pub(super) struct IpHeader {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) service: u8,
    pub(super) ttl: u8,
    pub(super) flow_label: u32,
    pub(super) protocol: u8,
}

impl IpHeader {
    /// The header and its body.
    pub(super) fn with(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        let mut packet = self.bytes(body.len())?;
        packet.extend(body);
        Ok(packet)
    }

    /// The header alone, for a body of `length` bytes.
    pub(super) fn bytes(&self, length: usize) -> Result<Vec<u8>, String> {
        let too_long = |_| format!("{length} bytes do not fit into an IP packet");
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = u16::try_from(length + 20).map_err(too_long)?;
                let mut header = vec![0x45, self.service];
                header.extend(total.to_be_bytes());
                header.extend([0, 0, 0, 0, self.ttl, self.protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let checksum = !folded(sum(&header));
                header.splice(10..12, checksum.to_be_bytes());
                Ok(header)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let length = u16::try_from(length).map_err(too_long)?;
                let first = 6 << 28 | u32::from(self.service) << 20 | self.flow_label;
                let mut header = first.to_be_bytes().to_vec();
                header.extend(length.to_be_bytes());
                header.extend([self.protocol, self.ttl]);
                header.extend(source.octets());
                header.extend(destination.octets());
                Ok(header)
            }
            _ => Err("an IPv4 and an IPv6 address in one packet".to_owned()),
        }
    }
}
