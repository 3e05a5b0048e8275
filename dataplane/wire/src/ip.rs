//! IPv4 and IPv6 behind one face: what the stack needs of a packet, whichever family it is.

use millrace_base::Address;

use crate::ipv4::{self, Ipv4Repr, Ipv4View};
use crate::ipv6::{self, Ipv6Repr, Ipv6View, UpperLayer};
use crate::{EtherType, Malformed};

/// A piece of a fragmented packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Identification shared by all pieces (16 bits for IPv4, 32 for IPv6).
    pub identification: u32,
    /// Where this piece's payload belongs, bytes.
    pub offset: u16,
    /// Whether more pieces follow.
    pub more: bool,
}

/// An IP packet of either family, its headers walked up to the upper layer.
#[derive(Clone, Copy, Debug)]
pub struct IpView<'a> {
    header: Header<'a>,
    upper: UpperLayer,
}

#[derive(Clone, Copy, Debug)]
enum Header<'a> {
    V4(Ipv4View<'a>),
    V6(Ipv6View<'a>),
}

/// The meaning of an IP header of either family, without options or extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpRepr {
    /// Source address.
    pub source: Address,
    /// Destination address; same family as the source.
    pub destination: Address,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Hops the packet may still make.
    pub hop_limit: u8,
    /// DSCP and ECN bits.
    pub traffic_class: u8,
    /// IPv4 only: whether routers may not fragment it.
    pub dont_fragment: bool,
    /// IPv4 only: identification for reassembly.
    pub identification: u16,
    /// Bytes behind the header.
    pub payload_len: u16,
}

impl<'a> IpView<'a> {
    /// Parses the packet behind an Ethernet header; `None` when the type is neither IPv4 nor IPv6.
    /// `available` is the number of bytes behind the Ethernet header in the whole frame, which may
    /// be more than `bytes` holds when the frame has several segments.
    #[inline]
    pub fn parse(
        ether_type: EtherType,
        bytes: &'a [u8],
        available: usize,
    ) -> Option<Result<Self, Malformed>> {
        match ether_type {
            EtherType::IPV4 => Some(Self::parse_v4(bytes, available)),
            EtherType::IPV6 => Some(Self::parse_v6(bytes, available)),
            _ => None,
        }
    }

    fn parse_v4(bytes: &'a [u8], available: usize) -> Result<Self, Malformed> {
        let view = Ipv4View::parse(bytes, available)?;
        let (offset, more) = (view.fragment_offset(), view.more_fragments());
        let fragment = (offset > 0 || more).then(|| Fragment {
            identification: u32::from(view.identification()),
            offset,
            more,
        });
        let upper = UpperLayer {
            protocol: view.protocol(),
            offset: view.header_len(),
            fragment,
        };
        Ok(Self {
            header: Header::V4(view),
            upper,
        })
    }

    fn parse_v6(bytes: &'a [u8], available: usize) -> Result<Self, Malformed> {
        let view = Ipv6View::parse(bytes, available)?;
        let upper = view.upper_layer()?;
        Ok(Self {
            header: Header::V6(view),
            upper,
        })
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Address {
        match &self.header {
            Header::V4(view) => view.source(),
            Header::V6(view) => view.source(),
        }
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Address {
        match &self.header {
            Header::V4(view) => view.destination(),
            Header::V6(view) => view.destination(),
        }
    }

    /// Protocol number of the upper layer.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.upper.protocol
    }

    /// Hops the packet may still make (TTL).
    pub fn hop_limit(&self) -> u8 {
        match &self.header {
            Header::V4(view) => view.ttl(),
            Header::V6(view) => view.hop_limit(),
        }
    }

    /// DSCP and ECN bits (TOS).
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        match &self.header {
            Header::V4(view) => view.tos(),
            Header::V6(view) => view.traffic_class(),
        }
    }

    /// Set when the packet is a piece of a larger one.
    #[inline]
    pub fn fragment(&self) -> Option<Fragment> {
        self.upper.fragment
    }

    /// Bytes from the start of the IP header to the upper layer, options and extensions included.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.upper.offset
    }

    /// Bytes from the start of the IP header to the end of the packet; link padding comes after.
    #[inline]
    pub fn total_len(&self) -> usize {
        match &self.header {
            Header::V4(view) => view.total_len(),
            Header::V6(view) => view.total_len(),
        }
    }

    /// Bytes of the upper layer, header included.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.total_len().saturating_sub(self.upper.offset)
    }

    /// The upper layer as far as the parsed bytes reach, link padding removed.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        match &self.header {
            Header::V4(view) => view.payload(),
            Header::V6(view) => {
                let skipped = self.upper.offset.saturating_sub(ipv6::HEADER_BYTES);
                view.payload().get(skipped..).unwrap_or_default()
            }
        }
    }

    /// Whether the header checksum is right; IPv6 has none.
    #[inline]
    pub fn header_checksum_ok(&self) -> bool {
        match &self.header {
            Header::V4(view) => view.checksum_ok(),
            Header::V6(_) => true,
        }
    }

    /// Whether the packet is IPv4.
    #[inline]
    pub fn is_v4(&self) -> bool {
        matches!(self.header, Header::V4(_))
    }
}

impl IpRepr {
    /// Bytes of the header that `emit` writes: 20 or 40.
    #[inline]
    pub fn header_len(&self) -> usize {
        if self.source.is_v4() {
            ipv4::HEADER_BYTES
        } else {
            ipv6::HEADER_BYTES
        }
    }

    /// The Ethernet type of this family.
    #[inline]
    pub fn ether_type(&self) -> EtherType {
        if self.source.is_v4() {
            EtherType::IPV4
        } else {
            EtherType::IPV6
        }
    }

    /// Writes the header; the IPv4 checksum stays 0 when the device fills it in. `None` when
    /// `packet` is too short or the families differ.
    #[inline]
    pub fn emit(&self, packet: &mut [u8], device_checksum: bool) -> Option<usize> {
        if self.source.is_v4() {
            let repr = Ipv4Repr {
                source: self.source,
                destination: self.destination,
                protocol: self.protocol,
                ttl: self.hop_limit,
                tos: self.traffic_class,
                identification: self.identification,
                dont_fragment: self.dont_fragment,
                payload_len: self.payload_len,
            };
            repr.emit(packet, device_checksum)
        } else {
            let repr = Ipv6Repr {
                source: self.source,
                destination: self.destination,
                next_header: self.protocol,
                hop_limit: self.hop_limit,
                traffic_class: self.traffic_class,
                flow_label: 0,
                payload_len: self.payload_len,
            };
            repr.emit(packet)
        }
    }
}
