//! IPv6 neighbour discovery: the bodies of its ICMPv6 messages and their options (RFC 4861).
//!
//! Reads and writes solicitations and advertisements, and holds the validation rules of RFC 4861
//! sections 6.1 and 7.1. It does not decide what to learn: the neighbour and router tables do.
//! Redirects (section 8) are not read; routes come from the operator and the kernel. Options that
//! this room does not name are skipped by their length, as section 4.6 demands.
//!
//! ```text
//!  NS, NA (24 bytes)                    RA (16 bytes)
//! +------+------+-------------+        +------+------+-------------+
//! | type | code |  checksum   |        | type | code |  checksum   |
//! +------+------+-------------+        +------+------+-------------+
//! |R|S|O|      reserved       |        |hopmax|M|O|..| lifetime (s)|
//! +---------------------------+        +---------------------------+
//! |     target address        |        |    reachable time (ms)    |
//! |         (16 bytes)        |        +---------------------------+
//! |            ..             |        |    retrans timer (ms)     |
//! +---------------------------+        +---------------------------+
//! | options: type, length in 8-byte units, body ..                 |
//! ```

use millrace_base::{Address, MacAddress};

use crate::icmpv6::{
    self, ICMPV6_HEADER_BYTES, NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
};
use crate::{EtherType, IpRepr, Malformed, ethernet, ipv6, protocol, u16_at, u32_at};

/// Bytes of a neighbour solicitation or advertisement in front of its options.
pub const NEIGHBOR_BYTES: usize = 24;

/// Bytes of a link-layer address option on Ethernet (RFC 2464 section 6).
pub const LINK_LAYER_OPTION_BYTES: usize = 8;

/// The hop limit that every neighbour discovery message must arrive with: proof that no router
/// has forwarded it (RFC 4861 section 7.1).
pub const ND_HOP_LIMIT: u8 = 255;

/// Bytes of the longest frame that an [`NdEnvelope`] holds a neighbour message in: with one link-layer
/// address option.
pub const NEIGHBOR_FRAME_BYTES_MAX: usize =
    ethernet::HEADER_BYTES + ipv6::HEADER_BYTES + NEIGHBOR_BYTES + LINK_LAYER_OPTION_BYTES;

/// `ff02::1`: all nodes on the link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Address = Address::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

const OPTION_SOURCE_LINK_LAYER: u8 = 1;
const OPTION_TARGET_LINK_LAYER: u8 = 2;
const OPTION_PREFIX_INFORMATION: u8 = 3;
const OPTION_MTU: u8 = 5;

const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;
const FLAG_MANAGED: u8 = 0x80;
const FLAG_OTHER_CONFIG: u8 = 0x40;
const FLAG_ON_LINK: u8 = 0x80;
const FLAG_AUTONOMOUS: u8 = 0x40;

/// "Who has this address?" (RFC 4861 section 4.3). Its own emitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborSolicitation {
    /// The address asked about; never multicast.
    pub target: Address,
    /// The asker's hardware address; absent from an address that is still being checked for
    /// duplicates (RFC 4862 section 5.4.2).
    pub source_mac: Option<MacAddress>,
}

/// "This address is at that hardware address" (RFC 4861 section 4.4). Its own emitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborAdvertisement {
    /// The address spoken of; never multicast.
    pub target: Address,
    /// The target's hardware address; an answer to a unicast question may leave it out.
    pub target_mac: Option<MacAddress>,
    /// The sender forwards packets.
    pub router: bool,
    /// This answers a solicitation, so it proves reachability.
    pub solicited: bool,
    /// A cached hardware address shall be replaced.
    pub override_cached: bool,
}

/// "Are there routers?" (RFC 4861 section 4.1). Its own emitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouterSolicitation {
    /// The asker's hardware address; absent when it has no address yet.
    pub source_mac: Option<MacAddress>,
}

/// What a router says of itself and its link (RFC 4861 section 4.2). Its own emitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouterAdvertisement<'a> {
    /// The hop limit hosts should send with; 0 says nothing.
    pub hop_limit: u8,
    /// Addresses come from DHCPv6.
    pub managed: bool,
    /// Other settings come from DHCPv6.
    pub other_config: bool,
    /// How long this is a default router, in seconds; 0 means it is none.
    pub router_lifetime_s: u16,
    /// How long a confirmed neighbour stays reachable, in milliseconds; 0 says nothing.
    pub reachable_time_ms: u32,
    /// The time between solicitations, in milliseconds; 0 says nothing.
    pub retrans_timer_ms: u32,
    /// The options, lengths checked.
    pub options: NdOptions<'a>,
}

/// A list of options whose lengths were checked once; iterate it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NdOptions<'a> {
    bytes: &'a [u8],
}

/// One neighbour discovery option (RFC 4861 section 4.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NdOption<'a> {
    /// The sender's hardware address (1).
    SourceLinkLayer(MacAddress),
    /// The target's hardware address (2).
    TargetLinkLayer(MacAddress),
    /// A prefix of this link (3).
    Prefix(PrefixInformation),
    /// The link's MTU in bytes (5).
    Mtu(u32),
    /// Any other type, or a known one with a length it cannot have.
    Other {
        /// The option type.
        kind: u8,
        /// The bytes behind type and length.
        body: &'a [u8],
    },
}

/// The Prefix Information option (RFC 4861 section 4.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixInformation {
    /// The prefix; bits behind `length` have no meaning.
    pub prefix: Address,
    /// Leading bits of the prefix that count, as received: a value above 128 is possible.
    pub length: u8,
    /// Addresses in the prefix are neighbours.
    pub on_link: bool,
    /// Hosts may make themselves addresses in it (RFC 4862).
    pub autonomous: bool,
    /// Seconds it stays on-link; all ones is forever.
    pub valid_lifetime_s: u32,
    /// Seconds that addresses in it stay preferred; all ones is forever.
    pub preferred_lifetime_s: u32,
}

/// The frame around a message: between which machines, and between which addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NdEnvelope {
    /// The Ethernet address it goes to.
    pub to: MacAddress,
    /// The Ethernet address it comes from.
    pub from: MacAddress,
    /// The IPv6 source.
    pub source: Address,
    /// The IPv6 destination.
    pub destination: Address,
}

impl NdEnvelope {
    /// Writes the frame around what `message` writes, which gets source, destination and the room there
    /// is and tells its length, as the messages' own emitters do. Tells the bytes of the frame; `None` when
    /// the buffer is too short.
    pub fn emit(
        &self,
        buffer: &mut [u8],
        message: impl FnOnce(Address, Address, &mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        let Self {
            to,
            from,
            source,
            destination,
        } = *self;
        let ip_at = ethernet::emit(buffer, to, from, EtherType::IPV6)?;
        let message_at = ip_at.checked_add(ipv6::HEADER_BYTES)?;
        let length = message(source, destination, buffer.get_mut(message_at..)?)?;
        let ip = IpRepr {
            source,
            destination,
            protocol: protocol::ICMPV6,
            hop_limit: ND_HOP_LIMIT,
            traffic_class: 0,
            dont_fragment: false,
            identification: 0,
            payload_len: u16::try_from(length).ok()?,
        };
        ip.emit(buffer.get_mut(ip_at..)?, false)?;
        message_at.checked_add(length)
    }
}

impl NeighborSolicitation {
    /// Reads a solicitation from an ICMPv6 message, type and checksum already looked at.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let (target, options) = parse_neighbor(message)?;
        let source_mac = options.link_layer(OPTION_SOURCE_LINK_LAYER)?;
        Ok(Self { target, source_mac })
    }

    /// Holds the rules about the packet around the message (RFC 4861 section 7.1.1).
    pub fn validate(
        &self,
        hop_limit: u8,
        source: Address,
        destination: Address,
    ) -> Result<(), Malformed> {
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.1
        //# If the IP source address is the unspecified address, the IP destination address is a
        //# solicited-node multicast address.
        //
        // And then there is no source link-layer address option either.
        let anonymous_ok = !source.is_unspecified()
            || (is_solicited_node(destination) && self.source_mac.is_none());
        accept(hop_limit == ND_HOP_LIMIT && !source.is_multicast() && anonymous_ok)
    }

    /// Writes the ICMPv6 message with its checksum and tells how many bytes it wrote; `None` when
    /// the buffer is too short. It must leave with hop limit [`ND_HOP_LIMIT`].
    pub fn emit(&self, source: Address, destination: Address, buffer: &mut [u8]) -> Option<usize> {
        let option = self.source_mac.map(|mac| (OPTION_SOURCE_LINK_LAYER, mac));
        let length = emit_neighbor(NEIGHBOR_SOLICITATION, 0, self.target, option, buffer)?;
        icmpv6::fill_checksum(source, destination, buffer.get_mut(..length)?)
    }
}

impl NeighborAdvertisement {
    /// Reads an advertisement from an ICMPv6 message, type and checksum already looked at.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let (target, options) = parse_neighbor(message)?;
        let target_mac = options.link_layer(OPTION_TARGET_LINK_LAYER)?;
        let flags = crate::u8_at(message, 4);
        Ok(Self {
            target,
            target_mac,
            router: flags & FLAG_ROUTER != 0,
            solicited: flags & FLAG_SOLICITED != 0,
            override_cached: flags & FLAG_OVERRIDE != 0,
        })
    }

    /// Holds the rules about the packet around the message (RFC 4861 section 7.1.2).
    pub fn validate(
        &self,
        hop_limit: u8,
        source: Address,
        destination: Address,
    ) -> Result<(), Malformed> {
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.2
        //# If the IP Destination Address is a multicast address the Solicited flag is zero.
        let solicited_ok = !(destination.is_multicast() && self.solicited);
        accept(hop_limit == ND_HOP_LIMIT && !source.is_multicast() && solicited_ok)
    }

    /// Writes the ICMPv6 message with its checksum and tells how many bytes it wrote; `None` when
    /// the buffer is too short. It must leave with hop limit [`ND_HOP_LIMIT`].
    pub fn emit(&self, source: Address, destination: Address, buffer: &mut [u8]) -> Option<usize> {
        let flags = flag(self.router, FLAG_ROUTER)
            | flag(self.solicited, FLAG_SOLICITED)
            | flag(self.override_cached, FLAG_OVERRIDE);
        let option = self.target_mac.map(|mac| (OPTION_TARGET_LINK_LAYER, mac));
        let length = emit_neighbor(NEIGHBOR_ADVERTISEMENT, flags, self.target, option, buffer)?;
        icmpv6::fill_checksum(source, destination, buffer.get_mut(..length)?)
    }
}

impl RouterSolicitation {
    /// Reads a solicitation from an ICMPv6 message, type and checksum already looked at.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let (header, options) = split::<ICMPV6_HEADER_BYTES>(message)?;
        code_zero(header)?;
        let source_mac = NdOptions::parse(options)?.link_layer(OPTION_SOURCE_LINK_LAYER)?;
        Ok(Self { source_mac })
    }

    /// Holds the rules about the packet around the message (RFC 4861 section 6.1.1).
    pub fn validate(&self, hop_limit: u8, source: Address) -> Result<(), Malformed> {
        //= https://www.rfc-editor.org/rfc/rfc4861#section-6.1.1
        //# If the IP source address is the unspecified address, there is no source link-layer
        //# address option in the message.
        let anonymous_ok = !source.is_unspecified() || self.source_mac.is_none();
        accept(hop_limit == ND_HOP_LIMIT && !source.is_multicast() && anonymous_ok)
    }

    /// Writes the ICMPv6 message with its checksum and tells how many bytes it wrote; `None` when
    /// the buffer is too short. It must leave with hop limit [`ND_HOP_LIMIT`].
    pub fn emit(&self, source: Address, destination: Address, buffer: &mut [u8]) -> Option<usize> {
        let (header, rest) = buffer.split_first_chunk_mut::<ICMPV6_HEADER_BYTES>()?;
        *header = [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        let option = self.source_mac.map(|mac| (OPTION_SOURCE_LINK_LAYER, mac));
        let length = emit_link_layer(option, rest)?.saturating_add(ICMPV6_HEADER_BYTES);
        icmpv6::fill_checksum(source, destination, buffer.get_mut(..length)?)
    }
}

impl<'a> RouterAdvertisement<'a> {
    /// Reads an advertisement from an ICMPv6 message, type and checksum already looked at.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let (header, options) = split::<16>(message)?;
        code_zero(header)?;
        let options = NdOptions::parse(options)?;
        options.link_layer(OPTION_SOURCE_LINK_LAYER)?;
        let flags = crate::u8_at(header, 5);
        Ok(Self {
            hop_limit: crate::u8_at(header, 4),
            managed: flags & FLAG_MANAGED != 0,
            other_config: flags & FLAG_OTHER_CONFIG != 0,
            router_lifetime_s: u16_at(header, 6),
            reachable_time_ms: u32_at(header, 8),
            retrans_timer_ms: u32_at(header, 12),
            options,
        })
    }

    /// Holds the rules about the packet around the message (RFC 4861 section 6.1.2).
    pub fn validate(&self, hop_limit: u8, source: Address) -> Result<(), Malformed> {
        //= https://www.rfc-editor.org/rfc/rfc4861#section-6.1.2
        //# IP Source Address is a link-local address.
        accept(hop_limit == ND_HOP_LIMIT && source.is_link_local_v6())
    }

    /// The router's hardware address, when it told.
    pub fn source_mac(&self) -> Option<MacAddress> {
        self.options
            .link_layer(OPTION_SOURCE_LINK_LAYER)
            .ok()
            .flatten()
    }

    /// Writes the ICMPv6 message with its checksum and tells how many bytes it wrote; `None` when
    /// the buffer is too short. It must leave with hop limit [`ND_HOP_LIMIT`].
    pub fn emit(&self, source: Address, destination: Address, buffer: &mut [u8]) -> Option<usize> {
        let flags = flag(self.managed, FLAG_MANAGED) | flag(self.other_config, FLAG_OTHER_CONFIG);
        let [l0, l1] = self.router_lifetime_s.to_be_bytes();
        let [a, b, c, d] = self.reachable_time_ms.to_be_bytes();
        let [w, x, y, z] = self.retrans_timer_ms.to_be_bytes();
        let hop_limit = self.hop_limit;
        let (header, rest) = buffer.split_first_chunk_mut::<16>()?;
        *header = [
            ROUTER_ADVERTISEMENT,
            0,
            0,
            0, //
            hop_limit,
            flags,
            l0,
            l1,
            a,
            b,
            c,
            d,
            w,
            x,
            y,
            z,
        ];
        rest.get_mut(..self.options.bytes.len())?
            .copy_from_slice(self.options.bytes);
        let length = self.options.bytes.len().saturating_add(16);
        icmpv6::fill_checksum(source, destination, buffer.get_mut(..length)?)
    }
}

impl<'a> NdOptions<'a> {
    /// No options.
    pub const NONE: Self = Self { bytes: &[] };

    /// Checks that the lengths lead exactly to the end. O(options).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = split_option(rest).ok_or(Malformed::NdInvalid)?;
        }
        Ok(Self { bytes })
    }

    /// The options in their order.
    pub fn iter(&self) -> NdOptionIter<'a> {
        NdOptionIter { rest: self.bytes }
    }

    /// The first link-layer address option of this type. Linux takes the first of duplicates, and
    /// refuses the packet when the length is not Ethernet's; so do we.
    fn link_layer(&self, wanted: u8) -> Result<Option<MacAddress>, Malformed> {
        for option in self.iter() {
            match option {
                NdOption::SourceLinkLayer(mac) if wanted == OPTION_SOURCE_LINK_LAYER => {
                    return Ok(Some(mac));
                }
                NdOption::TargetLinkLayer(mac) if wanted == OPTION_TARGET_LINK_LAYER => {
                    return Ok(Some(mac));
                }
                NdOption::Other { kind, .. } if kind == wanted => {
                    return Err(Malformed::NdInvalid);
                }
                NdOption::SourceLinkLayer(_)
                | NdOption::TargetLinkLayer(_)
                | NdOption::Prefix(_)
                | NdOption::Mtu(_)
                | NdOption::Other { .. } => {}
            }
        }
        Ok(None)
    }
}

impl<'a> IntoIterator for NdOptions<'a> {
    type Item = NdOption<'a>;
    type IntoIter = NdOptionIter<'a>;

    fn into_iter(self) -> NdOptionIter<'a> {
        self.iter()
    }
}

/// The options of one message, one by one.
#[derive(Clone, Debug)]
pub struct NdOptionIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for NdOptionIter<'a> {
    type Item = NdOption<'a>;

    fn next(&mut self) -> Option<NdOption<'a>> {
        let (option, rest) = split_option(self.rest)?;
        self.rest = rest;
        let [kind, _, body @ ..] = option else {
            return None;
        };
        Some(match (*kind, body) {
            (OPTION_SOURCE_LINK_LAYER, &[a, b, c, d, e, f]) => {
                NdOption::SourceLinkLayer(MacAddress::new([a, b, c, d, e, f]))
            }
            (OPTION_TARGET_LINK_LAYER, &[a, b, c, d, e, f]) => {
                NdOption::TargetLinkLayer(MacAddress::new([a, b, c, d, e, f]))
            }
            (OPTION_MTU, &[_, _, a, b, c, d]) => NdOption::Mtu(u32::from_be_bytes([a, b, c, d])),
            (OPTION_PREFIX_INFORMATION, body) => PrefixInformation::parse(body)
                .map_or(NdOption::Other { kind: *kind, body }, NdOption::Prefix),
            (kind, body) => NdOption::Other { kind, body },
        })
    }
}

impl PrefixInformation {
    /// Reads the 30 bytes behind type and length; `None` for another length, or for a prefix in
    /// the IPv4-mapped range, which has no place on a link.
    fn parse(body: &[u8]) -> Option<Self> {
        let (fixed, prefix) = body.split_first_chunk::<14>()?;
        let prefix = Address::v6(prefix.try_into().ok()?);
        let [length, flags, ..] = *fixed;
        (!prefix.is_v4()).then_some(Self {
            prefix,
            length,
            on_link: flags & FLAG_ON_LINK != 0,
            autonomous: flags & FLAG_AUTONOMOUS != 0,
            valid_lifetime_s: u32_at(fixed, 2),
            preferred_lifetime_s: u32_at(fixed, 6),
        })
    }
}

/// One option with its type and length bytes, and what follows it. `None` at the end, for a length
/// of zero (RFC 4861 section 4.6: such packets are discarded) and for one beyond the end.
fn split_option(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [_, units, ..] = *bytes else { return None };
    if units == 0 {
        return None;
    }
    bytes.split_at_checked(usize::from(units).saturating_mul(8))
}

/// The fixed part of a message and what follows it.
fn split<const N: usize>(message: &[u8]) -> Result<(&[u8; N], &[u8]), Malformed> {
    message.split_first_chunk::<N>().ok_or(Malformed::NdInvalid)
}

/// Every message of RFC 4861 carries code 0.
fn code_zero(header: &[u8]) -> Result<(), Malformed> {
    accept(crate::u8_at(header, 1) == 0)
}

fn accept(valid: bool) -> Result<(), Malformed> {
    if valid {
        Ok(())
    } else {
        Err(Malformed::NdInvalid)
    }
}

const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// Whether this is in ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
fn is_solicited_node(address: Address) -> bool {
    address.solicited_node() == address
}

/// The rules that solicitations and advertisements share: 24 bytes or more, code 0, a target that
/// is not multicast, options that end where the message ends. A target in the IPv4-mapped range
/// is refused too, since an `Address` would take it for IPv4.
fn parse_neighbor(message: &[u8]) -> Result<(Address, NdOptions<'_>), Malformed> {
    let (header, rest) = split::<ICMPV6_HEADER_BYTES>(message)?;
    let (target, options) = split::<16>(rest)?;
    code_zero(header)?;
    let target = Address::v6(*target);
    accept(!target.is_multicast() && !target.is_v4())?;
    Ok((target, NdOptions::parse(options)?))
}

/// Writes a solicitation or an advertisement with a zero checksum.
fn emit_neighbor(
    kind: u8,
    flags: u8,
    target: Address,
    option: Option<(u8, MacAddress)>,
    buffer: &mut [u8],
) -> Option<usize> {
    let (header, rest) = buffer.split_first_chunk_mut::<ICMPV6_HEADER_BYTES>()?;
    let (target_place, rest) = rest.split_first_chunk_mut::<16>()?;
    *header = [kind, 0, 0, 0, flags, 0, 0, 0];
    *target_place = *target.octets();
    Some(emit_link_layer(option, rest)?.saturating_add(NEIGHBOR_BYTES))
}

/// Writes at most one link-layer address option and tells how many bytes it took.
fn emit_link_layer(option: Option<(u8, MacAddress)>, buffer: &mut [u8]) -> Option<usize> {
    let Some((kind, mac)) = option else {
        return Some(0);
    };
    let [a, b, c, d, e, f] = *mac.octets();
    *buffer.first_chunk_mut::<LINK_LAYER_OPTION_BYTES>()? = [kind, 1, a, b, c, d, e, f];
    Some(LINK_LAYER_OPTION_BYTES)
}

#[cfg(test)]
mod tests;
