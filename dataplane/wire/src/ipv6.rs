//! IPv6 headers and the walk over extension headers (RFC 8200).
//!
//! ```text
//!   |ver| traffic class |      flow label       | payload length | next | hop limit |
//!   |                              source address (16)                             |
//!   |                            destination address (16)                          |
//! ```

use millrace_base::Address;

use crate::ip::Fragment;
use crate::{Malformed, protocol, u8_at, u16_at, u32_at};

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 40;
/// Extension headers that are walked before a packet is refused. RFC 8504 section 5.3 allows such a limit; legitimate
/// packets carry at most three or four.
pub const EXTENSIONS_MAX: usize = 8;

/// An IPv6 packet whose header is complete and whose payload lies within the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6View<'a> {
    bytes: &'a [u8],
}

/// Where the upper-layer header of a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpperLayer {
    /// Its protocol number.
    pub protocol: u8,
    /// Its offset from the start of the IPv6 header, bytes.
    pub offset: usize,
    /// The fragment header that was passed on the way.
    pub fragment: Option<Fragment>,
}

/// The meaning of an IPv6 header without extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Repr {
    /// Source address; must be IPv6.
    pub source: Address,
    /// Destination address; must be IPv6.
    pub destination: Address,
    /// Protocol number of the payload.
    pub next_header: u8,
    /// Hops the packet may still make.
    pub hop_limit: u8,
    /// DSCP and ECN bits.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Bytes behind the header.
    pub payload_len: u16,
}

impl<'a> Ipv6View<'a> {
    /// Checks version, payload length and addresses. `bytes` may be longer than the packet (link padding), and may be
    /// only the first part of it when `available`, the bytes in the whole frame, says so.
    #[inline]
    pub fn parse(bytes: &'a [u8], available: usize) -> Result<Self, Malformed> {
        if bytes.len() < HEADER_BYTES {
            return Err(Malformed::Ipv6Truncated);
        }
        if u8_at(bytes, 0) >> 4 != 6 {
            return Err(Malformed::Ipv6Version);
        }
        let view = Self { bytes };
        if view.total_len() > available {
            return Err(Malformed::Ipv6PayloadLength);
        }
        // An `Address` stores IPv4 in the mapped form; letting one in here would make a second way to say IPv4.
        if view.source().is_v4() || view.destination().is_v4() {
            return Err(Malformed::Ipv6MappedAddress);
        }
        Ok(view)
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Address {
        self.address_at(8)
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Address {
        self.address_at(24)
    }

    /// DSCP and ECN bits.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (u16_at(self.bytes, 0) >> 4) as u8
    }

    /// Flow label, 20 bits.
    pub fn flow_label(&self) -> u32 {
        u32_at(self.bytes, 0) & 0x000f_ffff
    }

    /// Number of the header that follows, an extension or the upper layer.
    #[inline]
    pub fn next_header(&self) -> u8 {
        u8_at(self.bytes, 6)
    }

    /// Hops the packet may still make.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        u8_at(self.bytes, 7)
    }

    /// Length of header and payload, bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(u16_at(self.bytes, 4)).saturating_add(HEADER_BYTES)
    }

    /// Everything behind the fixed header as far as `bytes` reaches, link padding removed.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        let end = self.total_len().min(self.bytes.len());
        self.bytes.get(HEADER_BYTES..end).unwrap_or_default()
    }

    /// Walks the extension headers to the upper layer. Their options are not looked at: hop-by-hop options are for
    /// routers, and a terminating host acts on none of them (RFC 8200 section 4).
    #[inline]
    pub fn upper_layer(&self) -> Result<UpperLayer, Malformed> {
        let mut upper = UpperLayer {
            protocol: self.next_header(),
            offset: HEADER_BYTES,
            fragment: None,
        };
        for _ in 0..EXTENSIONS_MAX {
            let step = match upper.protocol {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                    self.skip_options(upper)?
                }
                protocol::FRAGMENT => self.skip_fragment(upper)?,
                _ => return Ok(upper),
            };
            upper = step;
            // What follows a later fragment's header is payload, not a header.
            if upper.fragment.is_some_and(|fragment| fragment.offset > 0) {
                return Ok(upper);
            }
        }
        Err(Malformed::Ipv6ExtensionsTooMany)
    }

    fn skip_options(&self, at: UpperLayer) -> Result<UpperLayer, Malformed> {
        let bytes = self.extension(at, 8)?;
        let len = usize::from(u8_at(bytes, 1))
            .saturating_add(1)
            .saturating_mul(8);
        self.extension(at, len)?;
        Ok(UpperLayer {
            protocol: u8_at(bytes, 0),
            offset: at.offset.saturating_add(len),
            ..at
        })
    }

    fn skip_fragment(&self, at: UpperLayer) -> Result<UpperLayer, Malformed> {
        let bytes = self.extension(at, 8)?;
        let word = u16_at(bytes, 2);
        let fragment = Fragment {
            identification: u32_at(bytes, 4),
            offset: word & 0xfff8,
            more: word & 1 == 1,
        };
        Ok(UpperLayer {
            protocol: u8_at(bytes, 0),
            offset: at.offset.saturating_add(8),
            fragment: Some(fragment),
        })
    }

    fn extension(&self, at: UpperLayer, len: usize) -> Result<&'a [u8], Malformed> {
        let end = at.offset.saturating_add(len);
        if end > self.total_len() {
            return Err(Malformed::Ipv6ExtensionTruncated);
        }
        self.bytes
            .get(at.offset..end)
            .ok_or(Malformed::Ipv6ExtensionTruncated)
    }

    #[inline]
    fn address_at(&self, offset: usize) -> Address {
        let tail = self.bytes.get(offset..).unwrap_or_default();
        Address::v6(tail.first_chunk().copied().unwrap_or_default())
    }
}

impl Ipv6Repr {
    /// What a view's fixed header says.
    pub fn parse(view: &Ipv6View<'_>) -> Self {
        let payload_len = view.total_len().saturating_sub(HEADER_BYTES);
        Self {
            source: view.source(),
            destination: view.destination(),
            next_header: view.next_header(),
            hop_limit: view.hop_limit(),
            traffic_class: view.traffic_class(),
            flow_label: view.flow_label(),
            payload_len: u16::try_from(payload_len).unwrap_or(u16::MAX),
        }
    }

    /// Writes the header; `None` when `packet` is too short or an address is not IPv6.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Option<usize> {
        if self.source.is_v4() || self.destination.is_v4() {
            return None;
        }
        let header = packet.first_chunk_mut::<HEADER_BYTES>()?;
        let first =
            (6u32 << 28) | (u32::from(self.traffic_class) << 20) | (self.flow_label & 0x000f_ffff);
        let [l0, l1] = self.payload_len.to_be_bytes();
        let (fixed, addresses) = header.split_first_chunk_mut::<8>()?;
        let [w0, w1, w2, w3] = first.to_be_bytes();
        *fixed = [w0, w1, w2, w3, l0, l1, self.next_header, self.hop_limit];
        let (source, destination) = addresses.split_first_chunk_mut::<16>()?;
        *source = *self.source.octets();
        destination.copy_from_slice(self.destination.octets());
        Some(HEADER_BYTES)
    }
}
