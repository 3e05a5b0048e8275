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
/// Extension headers that are walked before a packet is refused. RFC 8504 section 5.3 allows such a
/// limit; legitimate packets carry at most three or four.
pub const EXTENSIONS_MAX: usize = 8;
/// Options of one extension header, padding not counted, before a packet is refused: Linux's
/// `net.ipv6.max_dst_opts_number` and `max_hbh_opts_number`.
pub const OPTIONS_MAX: usize = 8;
/// Bytes of padding in a row before a packet is refused. Padding aligns to 8, so 7 is the most
/// that ever makes sense (Linux's `ip6_parse_tlv`).
pub const PADDING_BYTES_MAX: usize = 7;

const OPTION_PAD1: u8 = 0;
const OPTION_PADN: u8 = 1;
/// The bits of an option type that say what to do when it is unknown; 0 is "skip it".
const OPTION_ACTION: u8 = 0xc0;

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
    /// Checks version, payload length and addresses. `bytes` may be longer than the packet (link
    /// padding), and may be only the first part of it when `available`, the bytes in the whole
    /// frame, says so.
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
        // An `Address` stores IPv4 in the mapped form; letting one in here would make a second way
        // to say IPv4.
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

    /// Walks the extension headers to the upper layer, as a host that knows no option but padding.
    ///
    /// The headers must lie within the first segment of the frame. A fragment header that says
    /// "this is all of it" (offset 0, no more to come) is passed and forgotten (RFC 6946 section
    /// 4).
    #[inline]
    pub fn upper_layer(&self) -> Result<UpperLayer, Malformed> {
        let mut upper = UpperLayer {
            protocol: self.next_header(),
            offset: HEADER_BYTES,
            fragment: None,
        };
        for _ in 0..=EXTENSIONS_MAX {
            upper = match upper.protocol {
                //= https://www.rfc-editor.org/rfc/rfc8200#section-4.1
                //# IPv6 nodes must accept and attempt to process extension headers in any order
                //# and occurring any number of times in the same packet, except for the
                //# Hop-by-Hop Options header, which is restricted to appear immediately after an
                //# IPv6 header only.
                //
                // Elsewhere its number is that of an unknown upper layer.
                protocol::HOP_BY_HOP if upper.offset == HEADER_BYTES => self.skip_options(upper)?,
                protocol::DESTINATION_OPTIONS => self.skip_options(upper)?,
                protocol::ROUTING => self.skip_routing(upper)?,
                protocol::FRAGMENT => self.skip_fragment(upper)?,
                _ => return Ok(upper),
            };
            // What follows a later fragment's header is payload, not a header.
            if upper.fragment.is_some_and(|fragment| fragment.offset > 0) {
                return Ok(upper);
            }
        }
        Err(Malformed::Ipv6ExtensionsTooMany)
    }

    fn skip_options(&self, at: UpperLayer) -> Result<UpperLayer, Malformed> {
        let (next, options) = self.sized_extension(at)?;
        check_options(options)?;
        Ok(next)
    }

    fn skip_routing(&self, at: UpperLayer) -> Result<UpperLayer, Malformed> {
        let (next, body) = self.sized_extension(at)?;
        //= https://www.rfc-editor.org/rfc/rfc8200#section-4.4
        //# If Segments Left is non-zero, the node must discard the packet
        //
        // That is the rule for an unknown routing type, and we know none: type 0 is dead (RFC
        // 5095).
        if u8_at(body, 1) != 0 {
            return Err(Malformed::Ipv6RoutingSegments);
        }
        Ok(next)
    }

    fn skip_fragment(&self, at: UpperLayer) -> Result<UpperLayer, Malformed> {
        let bytes = self.extension(at, 8)?;
        let word = u16_at(bytes, 2);
        let fragment = Fragment {
            identification: u32_at(bytes, 4),
            offset: word & 0xfff8,
            more: word & 1 == 1,
        };
        let is_whole = fragment.offset == 0 && !fragment.more;
        Ok(UpperLayer {
            protocol: u8_at(bytes, 0),
            offset: at.offset.saturating_add(8),
            fragment: if is_whole {
                at.fragment
            } else {
                Some(fragment)
            },
        })
    }

    /// An extension header that tells its length in its second byte: what follows it, and its body
    /// behind that byte.
    fn sized_extension(&self, at: UpperLayer) -> Result<(UpperLayer, &'a [u8]), Malformed> {
        let start = self.extension(at, 8)?;
        let len = usize::from(u8_at(start, 1))
            .saturating_add(1)
            .saturating_mul(8);
        let body = self.extension(at, len)?.get(2..).unwrap_or_default();
        let next = UpperLayer {
            protocol: u8_at(start, 0),
            offset: at.offset.saturating_add(len),
            ..at
        };
        Ok((next, body))
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

/// Checks the options of a hop-by-hop or destination options header the way Linux does.
fn check_options(mut options: &[u8]) -> Result<(), Malformed> {
    let (mut count, mut padding) = (0usize, 0usize);
    while let Some((&kind, rest)) = options.split_first() {
        let (len, body) = if kind == OPTION_PAD1 {
            (1, [].as_slice())
        } else {
            let len = usize::from(*rest.first().ok_or(Malformed::Ipv6ExtensionTruncated)?);
            let len = len.saturating_add(2);
            let body = options.get(2..len);
            (len, body.ok_or(Malformed::Ipv6ExtensionTruncated)?)
        };
        if kind == OPTION_PAD1 || kind == OPTION_PADN {
            padding = padding.saturating_add(len);
            // RFC 4942 section 2.1.9.5: padding that says something is a hidden channel.
            if padding > PADDING_BYTES_MAX || body.iter().any(|byte| *byte != 0) {
                return Err(Malformed::Ipv6OptionPadding);
            }
        } else {
            padding = 0;
            count = count.saturating_add(1);
            //= https://www.rfc-editor.org/rfc/rfc8200#section-4.2
            //# 00 - skip over this option and continue processing the header.
            //
            // The other three values of these bits all discard the packet.
            if count > OPTIONS_MAX || kind & OPTION_ACTION != 0 {
                return Err(Malformed::Ipv6OptionUnknown);
            }
        }
        options = options.get(len..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: u8 = protocol::HOP_BY_HOP;
    const OPTIONS: u8 = protocol::DESTINATION_OPTIONS;

    /// A packet whose first extension header has number `first` and bytes `extensions`.
    fn walk(first: u8, extensions: &[u8]) -> Result<UpperLayer, Malformed> {
        let repr = Ipv6Repr {
            source: Address::v6([0xfd; 16]),
            destination: Address::v6([0xfc; 16]),
            next_header: first,
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
            payload_len: u16::try_from(extensions.len()).expect("short"),
        };
        let mut bytes = vec![0; HEADER_BYTES];
        repr.emit(&mut bytes).expect("IPv6 addresses");
        bytes.extend_from_slice(extensions);
        Ipv6View::parse(&bytes, bytes.len())
            .expect("well formed")
            .upper_layer()
    }

    /// An options header with one PadN that is followed by `next`.
    fn padded(next: u8) -> [u8; 8] {
        [next, 0, 1, 4, 0, 0, 0, 0]
    }

    #[test]
    fn eight_extension_headers_are_walked_and_a_ninth_is_refused() {
        let mut extensions = [padded(OPTIONS); EXTENSIONS_MAX];
        extensions[EXTENSIONS_MAX - 1] = padded(protocol::TCP);
        let upper = walk(OPTIONS, extensions.as_flattened()).expect("eight");
        assert_eq!((upper.protocol, upper.offset), (protocol::TCP, 104));
        let extensions = [padded(OPTIONS); EXTENSIONS_MAX + 1];
        assert_eq!(
            walk(OPTIONS, extensions.as_flattened()),
            Err(Malformed::Ipv6ExtensionsTooMany)
        );
    }

    // RFC 8200 section 4.1.
    #[test]
    fn hop_by_hop_options_stand_first_or_are_an_unknown_protocol() {
        let upper = walk(HOP, &padded(protocol::TCP)).expect("first");
        assert_eq!((upper.protocol, upper.offset), (protocol::TCP, 48));
        let extensions = [padded(HOP), padded(protocol::TCP)];
        let upper = walk(OPTIONS, extensions.as_flattened()).expect("walked");
        assert_eq!((upper.protocol, upper.offset), (HOP, 48));
    }

    // RFC 8200 section 4.4, RFC 5095.
    #[test]
    fn a_routing_header_passes_only_when_it_is_used_up() {
        let mut routing = [protocol::TCP, 2, 0, 0, 0, 0, 0, 0].to_vec();
        routing.extend_from_slice(&[0xfd; 16]);
        let upper = walk(protocol::ROUTING, &routing).expect("used up");
        assert_eq!((upper.protocol, upper.offset), (protocol::TCP, 64));
        routing[3] = 1;
        assert_eq!(
            walk(protocol::ROUTING, &routing),
            Err(Malformed::Ipv6RoutingSegments)
        );
    }

    // RFC 8200 section 4.2; Linux's ip6_parse_tlv.
    #[test]
    fn an_unknown_option_is_skipped_only_when_its_type_says_so() {
        let tcp = protocol::TCP;
        assert!(walk(OPTIONS, &[tcp, 0, 0x05, 2, 0, 0, 0, 0]).is_ok());
        for action in [0x40, 0x80, 0xc0] {
            let header = [tcp, 0, 0x05 | action, 2, 0, 0, 0, 0];
            assert_eq!(walk(OPTIONS, &header), Err(Malformed::Ipv6OptionUnknown));
        }
        let overrun = [tcp, 0, 0x05, 5, 0, 0, 0, 0];
        assert_eq!(
            walk(OPTIONS, &overrun),
            Err(Malformed::Ipv6ExtensionTruncated)
        );
        let mut nine = [tcp, 2].to_vec();
        nine.extend_from_slice(&[[0x1e, 0]; 9].as_flattened()[..18]);
        nine.extend_from_slice(&[1, 2, 0, 0]);
        assert_eq!(walk(OPTIONS, &nine), Err(Malformed::Ipv6OptionUnknown));
    }

    // RFC 4942 section 2.1.9.5; Linux's ip6_parse_tlv.
    #[test]
    fn padding_is_short_and_silent() {
        let tcp = protocol::TCP;
        assert!(walk(OPTIONS, &[tcp, 0, 0, 0, 0, 0, 0, 0]).is_ok());
        let talking = [tcp, 0, 1, 4, 0, 0, 0, 7];
        assert_eq!(walk(OPTIONS, &talking), Err(Malformed::Ipv6OptionPadding));
        let long = [tcp, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(walk(OPTIONS, &long), Err(Malformed::Ipv6OptionPadding));
    }

    // RFC 6946 section 4: an atomic fragment is a whole packet.
    #[test]
    fn only_a_real_fragment_is_one() {
        let whole = [protocol::TCP, 0, 0, 0, 1, 2, 3, 4];
        let upper = walk(protocol::FRAGMENT, &whole).expect("walked");
        assert_eq!(
            (upper.protocol, upper.offset, upper.fragment),
            (6, 48, None)
        );
        let first = [protocol::TCP, 0, 0, 1, 1, 2, 3, 4];
        let upper = walk(protocol::FRAGMENT, &first).expect("walked");
        let mut expected = Fragment {
            identification: 0x0102_0304,
            offset: 0,
            more: true,
        };
        assert_eq!(upper.fragment, Some(expected));
        // Behind a later fragment nothing is walked, whatever its number says; an atomic header in
        // front does not hide it.
        let both = [
            protocol::FRAGMENT,
            0,
            0,
            0,
            9,
            9,
            9,
            9, //
            OPTIONS,
            0,
            0x05,
            0xb8,
            1,
            2,
            3,
            4,
        ];
        let upper = walk(protocol::FRAGMENT, &both).expect("walked");
        (expected.offset, expected.more) = (1_464, false);
        assert_eq!(upper.fragment, Some(expected));
        assert_eq!((upper.protocol, upper.offset), (OPTIONS, 56));
    }
}
