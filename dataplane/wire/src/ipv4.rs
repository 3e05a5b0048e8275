//! IPv4 headers (RFC 791).
//!
//! ```text
//!   |ver|IHL|  TOS  |  total length |       identification  |fl| frag offset |
//!   |  TTL  | proto |   checksum    |             source address             |
//!   |          destination address          |  options ... (IHL > 5)         |
//! ```

use millrace_base::Address;

use crate::{Checksum, Malformed, u8_at, u16_at};

/// Bytes of a header without options.
pub const HEADER_BYTES: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;

/// An IPv4 packet whose header is complete and whose total length lies within the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4View<'a> {
    bytes: &'a [u8],
    header_len: usize,
}

/// The meaning of an IPv4 header without options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Repr {
    /// Source address; must be IPv4.
    pub source: Address,
    /// Destination address; must be IPv4.
    pub destination: Address,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Time to live, hops.
    pub ttl: u8,
    /// DSCP and ECN bits.
    pub tos: u8,
    /// Identification for reassembly.
    pub identification: u16,
    /// Whether routers may not fragment it.
    pub dont_fragment: bool,
    /// Bytes behind the header.
    pub payload_len: u16,
}

impl<'a> Ipv4View<'a> {
    /// Checks version, header length and total length. `bytes` may be longer than the packet (link
    /// padding), and may be only the first part of it when `available`, the bytes in the whole
    /// frame, says so.
    #[inline]
    pub fn parse(bytes: &'a [u8], available: usize) -> Result<Self, Malformed> {
        if bytes.len() < HEADER_BYTES {
            return Err(Malformed::Ipv4Truncated);
        }
        let first = u8_at(bytes, 0);
        if first >> 4 != 4 {
            return Err(Malformed::Ipv4Version);
        }
        let header_len = usize::from(first & 0x0f).saturating_mul(4);
        if header_len < HEADER_BYTES || header_len > bytes.len() {
            return Err(Malformed::Ipv4HeaderLength);
        }
        let total_len = usize::from(u16_at(bytes, 2));
        if total_len < header_len || total_len > available {
            return Err(Malformed::Ipv4TotalLength);
        }
        Ok(Self { bytes, header_len })
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Address {
        self.address_at(12)
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Address {
        self.address_at(16)
    }

    /// Protocol number of the payload.
    #[inline]
    pub fn protocol(&self) -> u8 {
        u8_at(self.bytes, 9)
    }

    /// Time to live, hops.
    pub fn ttl(&self) -> u8 {
        u8_at(self.bytes, 8)
    }

    /// DSCP and ECN bits.
    #[inline]
    pub fn tos(&self) -> u8 {
        u8_at(self.bytes, 1)
    }

    /// Identification for reassembly.
    pub fn identification(&self) -> u16 {
        u16_at(self.bytes, 4)
    }

    /// Whether routers may not fragment it.
    pub fn dont_fragment(&self) -> bool {
        u16_at(self.bytes, 6) & DONT_FRAGMENT != 0
    }

    /// Whether more fragments of the packet follow this one.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        u16_at(self.bytes, 6) & MORE_FRAGMENTS != 0
    }

    /// Where this fragment's payload belongs, bytes.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (u16_at(self.bytes, 6) & 0x1fff).saturating_mul(8)
    }

    /// Header length with options, bytes (20..=60).
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Length of header and payload, bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(u16_at(self.bytes, 2))
    }

    /// The option bytes; empty for almost every packet.
    pub fn options(&self) -> &'a [u8] {
        self.bytes
            .get(HEADER_BYTES..self.header_len)
            .unwrap_or_default()
    }

    /// The payload as far as `bytes` reaches, link padding removed.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        let end = self.total_len().min(self.bytes.len());
        self.bytes.get(self.header_len..end).unwrap_or_default()
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn checksum_ok(&self) -> bool {
        let mut checksum = Checksum::new();
        checksum.add_bytes(self.bytes.get(..self.header_len).unwrap_or_default());
        checksum.finish() == 0
    }

    #[inline]
    fn address_at(&self, offset: usize) -> Address {
        let tail = self.bytes.get(offset..).unwrap_or_default();
        Address::v4(tail.first_chunk().copied().unwrap_or_default())
    }
}

impl Ipv4Repr {
    /// What a view says; options are not kept.
    pub fn parse(view: &Ipv4View<'_>) -> Self {
        let payload_len = view.total_len().saturating_sub(view.header_len());
        Self {
            source: view.source(),
            destination: view.destination(),
            protocol: view.protocol(),
            ttl: view.ttl(),
            tos: view.tos(),
            identification: view.identification(),
            dont_fragment: view.dont_fragment(),
            payload_len: u16::try_from(payload_len).unwrap_or(u16::MAX),
        }
    }

    /// Writes the header; the checksum field stays 0 when the device fills it in. `None` when
    /// `packet` is too short, an address is not IPv4, or the packet would exceed 65,535 bytes.
    #[inline]
    pub fn emit(&self, packet: &mut [u8], device_checksum: bool) -> Option<usize> {
        let header = packet.first_chunk_mut::<HEADER_BYTES>()?;
        let total_len = self.payload_len.checked_add(HEADER_BYTES as u16)?;
        let source = u32::from_be_bytes(self.source.as_v4()?);
        let destination = u32::from_be_bytes(self.destination.as_v4()?);
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
        let first = 0x4500_0000 | u32::from(self.tos) << 16 | u32::from(total_len);
        let second = u32::from(self.identification) << 16 | u32::from(flags);
        let third = u32::from(self.ttl) << 24 | u32::from(self.protocol) << 16;
        let sum = if device_checksum {
            0
        } else {
            let mut checksum = Checksum::new();
            for word in [first, second, third, source, destination] {
                checksum.add_u32(word);
            }
            u32::from(checksum.finish())
        };
        let (places, _) = header.as_chunks_mut::<4>();
        let words = [first, second, third | sum, source, destination];
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        Some(HEADER_BYTES)
    }
}
