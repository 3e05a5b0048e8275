//! ICMP for IPv6 (RFC 4443); neighbour discovery bodies are in `nd`.
//!
//! Reads and writes messages. It does not decide whether an error may be sent at all (RFC 4443
//! section 2.4 (e) and (f) are the stack's business). The checksum covers the IPv6 addresses, so
//! whoever asks about it or writes a message must name them.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     type      |     code      |           checksum            |
//! +---------------+---------------+-------------------------------+
//! |   identifier and sequence  |  MTU  |  pointer  |  flags  | ..  |
//! +---------------------------------------------------------------+
//! |  echo data, or as much as fits of the packet that caused the  |
//! |  error ("quoted"), or a neighbour discovery body ..           |
//! ```

use millrace_base::Address;

use crate::nd::{
    NeighborAdvertisement, NeighborSolicitation, RouterAdvertisement, RouterSolicitation,
};
use crate::{Checksum, Malformed, checksum, protocol};

/// Bytes of the header that every ICMPv6 message has. Linux refuses anything shorter.
pub const ICMPV6_HEADER_BYTES: usize = 8;

/// The most of an offending packet that an error quotes: what the minimum MTU of 1,280 bytes
/// leaves behind an IPv6 header and the ICMPv6 header (RFC 4443 section 2.4 (c)).
pub const ICMPV6_QUOTE_BYTES_MAX: usize = 1_232;
const _: () = assert!(ICMPV6_QUOTE_BYTES_MAX + 40 + ICMPV6_HEADER_BYTES == 1_280);

const DESTINATION_UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
pub(crate) const ROUTER_SOLICITATION: u8 = 133;
pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(crate) const NEIGHBOR_SOLICITATION: u8 = 135;
pub(crate) const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Codes of Destination Unreachable (RFC 4443 section 3.1).
pub mod unreachable_v6 {
    /// No route to the destination.
    pub const NO_ROUTE: u8 = 0;
    /// A filter refused the packet.
    pub const PROHIBITED: u8 = 1;
    /// The destination lies beyond the scope of the source address.
    pub const BEYOND_SCOPE: u8 = 2;
    /// The host does not answer.
    pub const ADDRESS: u8 = 3;
    /// Nobody listens on that port.
    pub const PORT: u8 = 4;
    /// The source address is not allowed to go there.
    pub const SOURCE_POLICY: u8 = 5;
    /// The route to the destination is one that rejects.
    pub const REJECT_ROUTE: u8 = 6;
}

/// An ICMPv6 message whose header is known to be present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmpv6View<'a> {
    bytes: &'a [u8],
    header: [u8; ICMPV6_HEADER_BYTES],
    payload: &'a [u8],
}

/// What an ICMPv6 message says. It is its own emitter: `parse` after [`Self::emit`] gives it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Icmpv6Message<'a> {
    /// "Are you there?" (type 128).
    EchoRequest {
        /// Tells askers on one host apart.
        ident: u16,
        /// Counts the questions of one asker.
        sequence: u16,
        /// Comes back unchanged.
        data: &'a [u8],
    },
    /// "I am." (type 129).
    EchoReply {
        /// As in the request.
        ident: u16,
        /// As in the request.
        sequence: u16,
        /// As in the request.
        data: &'a [u8],
    },
    /// The packet could not be delivered (type 1).
    DestinationUnreachable {
        /// Why; the names are in [`unreachable_v6`].
        code: u8,
        /// The start of the packet that could not be delivered, from its IPv6 header on.
        quoted: &'a [u8],
    },
    /// The packet does not fit the next link (type 2).
    PacketTooBig {
        /// The next link's MTU in bytes, as received: any value is possible (RFC 8201 section 4
        /// tells what to do with one below 1,280).
        mtu: u32,
        /// The start of the packet that did not fit.
        quoted: &'a [u8],
    },
    /// The packet died of age (type 3).
    TimeExceeded {
        /// 0 in transit, 1 during reassembly.
        code: u8,
        /// The start of the packet that died.
        quoted: &'a [u8],
    },
    /// A header could not be understood (type 4).
    ParameterProblem {
        /// 0 a wrong field, 1 an unknown next header, 2 an unknown option.
        code: u8,
        /// Which byte of the offending packet is wrong; it may lie beyond the quote.
        pointer: u32,
        /// The start of the packet that could not be understood.
        quoted: &'a [u8],
    },
    /// "Are there routers?" (type 133).
    RouterSolicitation(RouterSolicitation),
    /// "I am a router." (type 134).
    RouterAdvertisement(RouterAdvertisement<'a>),
    /// "Who has this address?" (type 135).
    NeighborSolicitation(NeighborSolicitation),
    /// "This address is here." (type 136).
    NeighborAdvertisement(NeighborAdvertisement),
    /// Any other type: multicast listener reports, redirects and so on.
    Other {
        /// The type; below 128 it is an error about a packet of ours.
        kind: u8,
        /// The code.
        code: u8,
        /// Bytes 4 to 7 of the message.
        rest_of_header: [u8; 4],
        /// Everything after the header.
        data: &'a [u8],
    },
}

/// The addresses whose difference an in-place echo reply must put into the checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EchoAddresses {
    /// The destination of the request; it may be multicast.
    pub asked: Address,
    /// The source of the reply; the same as `asked` when that was unicast.
    pub answering: Address,
}

impl<'a> Icmpv6View<'a> {
    /// Checks that the header is there. The checksum is a question of its own:
    /// [`Self::checksum_ok`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Some((header, payload)) = bytes.split_first_chunk::<ICMPV6_HEADER_BYTES>() else {
            return Err(Malformed::Icmpv6Truncated);
        };
        Ok(Self {
            bytes,
            header: *header,
            payload,
        })
    }

    /// The message type.
    pub const fn kind(&self) -> u8 {
        let [kind, ..] = self.header;
        kind
    }

    /// The code, whose meaning depends on the type.
    pub const fn code(&self) -> u8 {
        let [_, code, ..] = self.header;
        code
    }

    /// Everything after the eight header bytes.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the checksum over the message and its IPv6 pseudo-header is right. O(message).
    pub fn checksum_ok(&self, source: Address, destination: Address) -> bool {
        let Ok(len) = u32::try_from(self.bytes.len()) else {
            return false;
        };
        let mut sum = Checksum::pseudo_header(source, destination, protocol::ICMPV6, len);
        sum.add_bytes(self.bytes);
        sum.finish() == 0
    }

    /// Whether this reports an error about a packet we sent (RFC 4443 section 2.1). No error may
    /// ever be sent about one.
    pub const fn is_error(&self) -> bool {
        self.kind() < 128
    }

    /// What the message says; [`Malformed::NdInvalid`] when it is a neighbour discovery message
    /// whose body is not valid. The rules about the packet around it are the bodies' `validate`.
    pub fn message(&self) -> Result<Icmpv6Message<'a>, Malformed> {
        let [kind, code, _, _, r0, r1, r2, r3] = self.header;
        let word = u32::from_be_bytes([r0, r1, r2, r3]);
        let (ident, sequence) = (u16::from_be_bytes([r0, r1]), u16::from_be_bytes([r2, r3]));
        let payload = self.payload;
        Ok(match kind {
            ECHO_REQUEST if code == 0 => Icmpv6Message::EchoRequest {
                ident,
                sequence,
                data: payload,
            },
            ECHO_REPLY if code == 0 => Icmpv6Message::EchoReply {
                ident,
                sequence,
                data: payload,
            },
            DESTINATION_UNREACHABLE => Icmpv6Message::DestinationUnreachable {
                code,
                quoted: payload,
            },
            //= https://www.rfc-editor.org/rfc/rfc4443#section-3.2
            //# Code           Set to 0 (zero) by the originator and ignored by the receiver.
            PACKET_TOO_BIG => Icmpv6Message::PacketTooBig {
                mtu: word,
                quoted: payload,
            },
            TIME_EXCEEDED => Icmpv6Message::TimeExceeded {
                code,
                quoted: payload,
            },
            PARAMETER_PROBLEM => Icmpv6Message::ParameterProblem {
                code,
                pointer: word,
                quoted: payload,
            },
            ROUTER_SOLICITATION => {
                Icmpv6Message::RouterSolicitation(RouterSolicitation::parse(self.bytes)?)
            }
            ROUTER_ADVERTISEMENT => {
                Icmpv6Message::RouterAdvertisement(RouterAdvertisement::parse(self.bytes)?)
            }
            NEIGHBOR_SOLICITATION => {
                Icmpv6Message::NeighborSolicitation(NeighborSolicitation::parse(self.bytes)?)
            }
            NEIGHBOR_ADVERTISEMENT => {
                Icmpv6Message::NeighborAdvertisement(NeighborAdvertisement::parse(self.bytes)?)
            }
            _ => Icmpv6Message::Other {
                kind,
                code,
                rest_of_header: [r0, r1, r2, r3],
                data: payload,
            },
        })
    }
}

impl<'a> Icmpv6Message<'a> {
    /// Reads a message and insists on its checksum.
    pub fn parse(
        bytes: &'a [u8],
        source: Address,
        destination: Address,
    ) -> Result<Self, Malformed> {
        let view = Icmpv6View::parse(bytes)?;
        if !view.checksum_ok(source, destination) {
            return Err(Malformed::Icmpv6Checksum);
        }
        view.message()
    }

    /// Writes the message with its checksum and tells how many bytes it wrote; `None` when the
    /// buffer is too short. Errors quote what they are given: cut it with [`quotable_v6`] first.
    pub fn emit(&self, source: Address, destination: Address, buffer: &mut [u8]) -> Option<usize> {
        let (header, body) = match *self {
            Self::RouterSolicitation(nd) => return nd.emit(source, destination, buffer),
            Self::RouterAdvertisement(nd) => return nd.emit(source, destination, buffer),
            Self::NeighborSolicitation(nd) => return nd.emit(source, destination, buffer),
            Self::NeighborAdvertisement(nd) => return nd.emit(source, destination, buffer),
            Self::EchoRequest {
                ident,
                sequence,
                data,
            } => (echo(ECHO_REQUEST, ident, sequence), data),
            Self::EchoReply {
                ident,
                sequence,
                data,
            } => (echo(ECHO_REPLY, ident, sequence), data),
            Self::DestinationUnreachable { code, quoted } => {
                (header(DESTINATION_UNREACHABLE, code, [0; 4]), quoted)
            }
            Self::PacketTooBig { mtu, quoted } => {
                (header(PACKET_TOO_BIG, 0, mtu.to_be_bytes()), quoted)
            }
            Self::TimeExceeded { code, quoted } => (header(TIME_EXCEEDED, code, [0; 4]), quoted),
            Self::ParameterProblem {
                code,
                pointer,
                quoted,
            } => {
                let pointer = pointer.to_be_bytes();
                (header(PARAMETER_PROBLEM, code, pointer), quoted)
            }
            Self::Other {
                kind,
                code,
                rest_of_header,
                data,
            } => (header(kind, code, rest_of_header), data),
        };
        let length = body.len().checked_add(ICMPV6_HEADER_BYTES)?;
        let message = buffer.get_mut(..length)?;
        let (head, rest) = message.split_first_chunk_mut::<ICMPV6_HEADER_BYTES>()?;
        *head = header;
        rest.copy_from_slice(body);
        fill_checksum(source, destination, message)
    }
}

const fn header(kind: u8, code: u8, rest: [u8; 4]) -> [u8; ICMPV6_HEADER_BYTES] {
    let [a, b, c, d] = rest;
    [kind, code, 0, 0, a, b, c, d]
}

const fn echo(kind: u8, ident: u16, sequence: u16) -> [u8; ICMPV6_HEADER_BYTES] {
    let ([i0, i1], [s0, s1]) = (ident.to_be_bytes(), sequence.to_be_bytes());
    header(kind, 0, [i0, i1, s0, s1])
}

/// Computes and writes the checksum of a complete message; gives its length back. The field may
/// hold anything before.
pub(crate) fn fill_checksum(
    source: Address,
    destination: Address,
    message: &mut [u8],
) -> Option<usize> {
    let len = u32::try_from(message.len()).ok()?;
    message.get_mut(2..4)?.fill(0);
    let mut sum = Checksum::pseudo_header(source, destination, protocol::ICMPV6, len);
    sum.add_bytes(message);
    message
        .get_mut(2..4)?
        .copy_from_slice(&sum.finish().to_be_bytes());
    Some(message.len())
}

/// The part of an offending IPv6 packet that an ICMPv6 error may quote.
///
/// `packet` starts at its IPv6 header; Ethernet padding behind the payload length is cut off, and
/// the rest to [`ICMPV6_QUOTE_BYTES_MAX`].
pub fn quotable_v6(packet: &[u8]) -> &[u8] {
    //= https://www.rfc-editor.org/rfc/rfc4443#section-2.4
    //# Every ICMPv6 error message (type < 128) MUST include as much of the IPv6 offending
    //# (invoking) packet (the packet that caused the error) as possible without making the error
    //# message packet exceed the minimum IPv6 MTU
    let length = match *packet {
        [_, _, _, _, l0, l1, ..] => usize::from(u16::from_be_bytes([l0, l1])).saturating_add(40),
        _ => packet.len(),
    };
    let length = length.min(ICMPV6_QUOTE_BYTES_MAX);
    packet.get(..length).unwrap_or(packet)
}

/// Turns the bytes of an echo request into those of its reply, in place, and mends the checksum
/// by what changed (RFC 1624): a wrong checksum stays wrong, as it must.
///
/// Swapping the two addresses leaves the sum alone; only an answer from another address than the
/// one asked (a multicast request) changes it. `None`, with nothing changed, when `message` is not
/// an echo request with code 0.
#[must_use = "the bytes may still be a request"]
pub fn echo_reply_in_place_v6(message: &mut [u8], addresses: EchoAddresses) -> Option<()> {
    let header = message.first_chunk_mut::<ICMPV6_HEADER_BYTES>()?;
    let [ECHO_REQUEST, 0, c0, c1, i0, i1, s0, s1] = *header else {
        return None;
    };
    let old = u16::from_be_bytes([ECHO_REQUEST, 0]);
    let new = u16::from_be_bytes([ECHO_REPLY, 0]);
    let mut sum = checksum::update_u16(u16::from_be_bytes([c0, c1]), old, new);
    if addresses.asked != addresses.answering {
        let (asked, _) = addresses.asked.octets().as_chunks::<2>();
        let (answering, _) = addresses.answering.octets().as_chunks::<2>();
        for (old, new) in asked.iter().zip(answering) {
            sum = checksum::update_u16(sum, u16::from_be_bytes(*old), u16::from_be_bytes(*new));
        }
    }
    let [c0, c1] = sum.to_be_bytes();
    *header = [ECHO_REPLY, 0, c0, c1, i0, i1, s0, s1];
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Address = Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    const DESTINATION: Address = Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    const ALL_NODES: Address = Address::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    // RFC 4443 section 4.1. By hand: pseudo-header 0xfd00 + 1 + 0xfd00 + 2 + 10 + 58, message
    // 0x8000 + 0x1234 + 1 + 0x6869: 0x2f4e5, folded 0xf4e7, complement 0x0b18.
    const REQUEST: [u8; 10] = [128, 0, 0x0b, 0x18, 0x12, 0x34, 0, 1, b'h', b'i'];

    fn request() -> Icmpv6Message<'static> {
        Icmpv6Message::EchoRequest {
            ident: 0x1234,
            sequence: 1,
            data: b"hi",
        }
    }

    #[test]
    fn an_echo_request_reads_and_writes_as_rfc_4443_draws_it() {
        let read = Icmpv6Message::parse(&REQUEST, SOURCE, DESTINATION);
        assert_eq!(read, Ok(request()));
        let mut buffer = [0xaa; 10];
        assert_eq!(request().emit(SOURCE, DESTINATION, &mut buffer), Some(10));
        assert_eq!(buffer, REQUEST);
        assert_eq!(request().emit(SOURCE, DESTINATION, &mut [0; 9]), None);
    }

    #[test]
    fn the_checksum_covers_the_addresses_and_every_byte() {
        let elsewhere = Icmpv6Message::parse(&REQUEST, SOURCE, ALL_NODES);
        assert_eq!(elsewhere, Err(Malformed::Icmpv6Checksum));
        for position in 0..REQUEST.len() {
            let mut bytes = REQUEST;
            bytes[position] ^= 1;
            let read = Icmpv6Message::parse(&bytes, SOURCE, DESTINATION);
            assert_eq!(read, Err(Malformed::Icmpv6Checksum));
        }
        let short = Icmpv6Message::parse(&REQUEST[..7], SOURCE, DESTINATION);
        assert_eq!(short, Err(Malformed::Icmpv6Truncated));
    }

    // RFC 4443 section 4.2: the reply to a multicast request comes from a unicast address.
    #[test]
    fn a_request_turned_into_a_reply_carries_a_right_checksum() {
        for asked in [DESTINATION, ALL_NODES] {
            let mut bytes = [0u8; 10];
            request().emit(SOURCE, asked, &mut bytes);
            let addresses = EchoAddresses {
                asked,
                answering: DESTINATION,
            };
            assert_eq!(echo_reply_in_place_v6(&mut bytes, addresses), Some(()));
            assert_eq!(
                Icmpv6Message::parse(&bytes, DESTINATION, SOURCE),
                Ok(Icmpv6Message::EchoReply {
                    ident: 0x1234,
                    sequence: 1,
                    data: b"hi"
                })
            );
            assert_eq!(echo_reply_in_place_v6(&mut bytes, addresses), None);
        }
    }

    // RFC 4443 section 2.4 (c).
    #[test]
    fn a_quote_drops_padding_and_stays_within_1280_bytes() {
        let mut packet = [0u8; 1500];
        packet[4..6].copy_from_slice(&1_460u16.to_be_bytes());
        assert_eq!(quotable_v6(&packet).len(), ICMPV6_QUOTE_BYTES_MAX);
        packet[4..6].copy_from_slice(&3u16.to_be_bytes());
        assert_eq!(quotable_v6(&packet[..46]).len(), 43);
        assert_eq!(quotable_v6(&packet[..30]).len(), 30);
        assert_eq!(quotable_v6(&packet[..3]).len(), 3);
    }

    #[test]
    fn errors_are_told_from_questions() {
        let mut bytes = REQUEST;
        assert!(!Icmpv6View::parse(&bytes).expect("long enough").is_error());
        bytes[0] = 2;
        let view = Icmpv6View::parse(&bytes).expect("long enough");
        assert!(view.is_error());
        assert_eq!(
            view.message(),
            Ok(Icmpv6Message::PacketTooBig {
                mtu: 0x1234_0001,
                quoted: b"hi"
            })
        );
    }
}
