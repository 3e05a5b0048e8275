//! ICMP for IPv4 (RFC 792, RFC 1122 section 3.2.2, RFC 1191, RFC 1812 section 4.3).
//!
//! Reads and writes messages. It does not decide whether an error may be sent at all (RFC 1122
//! section 3.2.2 and the rate limits are the stack's business), and leaves the multi-part
//! extensions of RFC 4884 inside `quoted`: what a receiver needs stands in front of them.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     type      |     code      |           checksum            |
//! +---------------+---------------+-------------------------------+
//! |  identifier | unused | pointer | sequence | next-hop MTU | ..  |
//! +---------------------------------------------------------------+
//! |  echo data, or the IP header and first bytes of the packet    |
//! |  that caused the error ("quoted") ..                          |
//! ```

use millrace_base::Address;

use crate::{Checksum, Malformed, checksum};

/// Bytes of the header that every ICMP message has. Linux refuses anything shorter.
pub const ICMPV4_HEADER_BYTES: usize = 8;

/// The largest IP packet that carries an ICMP error (RFC 1812 section 4.3.2.3; Linux's
/// `icmp_send` uses the same 576).
pub const ICMPV4_ERROR_BYTES_MAX: usize = 576;

/// The most of an offending packet that an error quotes: what remains of
/// [`ICMPV4_ERROR_BYTES_MAX`] behind an IPv4 header without options and the ICMP header.
pub const ICMPV4_QUOTE_BYTES_MAX: usize = 548;
const _: () = assert!(ICMPV4_QUOTE_BYTES_MAX + 20 + ICMPV4_HEADER_BYTES == ICMPV4_ERROR_BYTES_MAX);
// RFC 792 wants the whole IP header (at most 60 bytes) and 8 bytes of what follows.
const _: () = assert!(ICMPV4_QUOTE_BYTES_MAX >= 60 + 8);

const ECHO_REPLY: u8 = 0;
const DESTINATION_UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// Codes of Destination Unreachable (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1).
pub mod unreachable_v4 {
    /// No route to the network.
    pub const NETWORK: u8 = 0;
    /// The host does not answer.
    pub const HOST: u8 = 1;
    /// The host does not speak that transport protocol.
    pub const PROTOCOL: u8 = 2;
    /// Nobody listens on that port.
    pub const PORT: u8 = 3;
    /// The packet is too big for the next hop and must not be fragmented (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// The source route cannot be followed.
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    /// The destination network is administratively closed.
    pub const NETWORK_PROHIBITED: u8 = 9;
    /// The destination host is administratively closed.
    pub const HOST_PROHIBITED: u8 = 10;
    /// A filter refused the packet.
    pub const COMMUNICATION_PROHIBITED: u8 = 13;
}

/// An ICMP message whose header is known to be present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmpv4View<'a> {
    bytes: &'a [u8],
    header: [u8; ICMPV4_HEADER_BYTES],
    payload: &'a [u8],
}

/// What an ICMP message says. It is its own emitter: `parse` after [`Self::emit`] gives it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Icmpv4Message<'a> {
    /// "Are you there?" (type 8).
    EchoRequest {
        /// Tells askers on one host apart.
        ident: u16,
        /// Counts the questions of one asker.
        sequence: u16,
        /// Comes back unchanged.
        data: &'a [u8],
    },
    /// "I am." (type 0).
    EchoReply {
        /// As in the request.
        ident: u16,
        /// As in the request.
        sequence: u16,
        /// As in the request.
        data: &'a [u8],
    },
    /// The packet could not be delivered (type 3).
    DestinationUnreachable {
        /// Why; the names are in [`unreachable_v4`].
        code: u8,
        /// With code 4 the next hop's MTU in bytes, 0 when the router is older than RFC 1191;
        /// without meaning for other codes.
        mtu: u16,
        /// The start of the packet that could not be delivered, from its IP header on.
        quoted: &'a [u8],
    },
    /// Another router on the link is nearer (type 5).
    Redirect {
        /// 0 network, 1 host, 2 and 3 the same per type of service.
        code: u8,
        /// The better router.
        gateway: Address,
        /// The start of the packet that took the detour.
        quoted: &'a [u8],
    },
    /// The packet died of age (type 11).
    TimeExceeded {
        /// 0 in transit, 1 during reassembly.
        code: u8,
        /// The start of the packet that died.
        quoted: &'a [u8],
    },
    /// A header field could not be understood (type 12).
    ParameterProblem {
        /// 0: `pointer` is valid; 1: an option is missing; 2: a length is wrong.
        code: u8,
        /// Which byte of the quoted packet is wrong.
        pointer: u8,
        /// The start of the packet that could not be understood.
        quoted: &'a [u8],
    },
    /// Any other type: Source Quench (deprecated by RFC 6633), Timestamp and so on.
    Other {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
        /// Bytes 4 to 7 of the message.
        rest_of_header: [u8; 4],
        /// Everything after the header.
        data: &'a [u8],
    },
}

impl<'a> Icmpv4View<'a> {
    /// Checks that the header is there. The checksum is a question of its own:
    /// [`Self::checksum_ok`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Some((header, payload)) = bytes.split_first_chunk::<ICMPV4_HEADER_BYTES>() else {
            return Err(Malformed::Icmpv4Truncated);
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

    /// Whether the checksum over the whole message is right. O(message).
    pub fn checksum_ok(&self) -> bool {
        let mut sum = Checksum::new();
        sum.add_bytes(self.bytes);
        sum.finish() == 0
    }

    /// Whether this reports an error about a packet we sent. No error may ever be sent about one
    /// (RFC 1122 section 3.2.2).
    pub const fn is_error(&self) -> bool {
        matches!(
            self.kind(),
            DESTINATION_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }

    /// What the message says.
    pub const fn message(&self) -> Icmpv4Message<'a> {
        let [kind, code, _, _, r0, r1, r2, r3] = self.header;
        let (first, second) = (u16::from_be_bytes([r0, r1]), u16::from_be_bytes([r2, r3]));
        let payload = self.payload;
        match kind {
            ECHO_REQUEST if code == 0 => Icmpv4Message::EchoRequest {
                ident: first,
                sequence: second,
                data: payload,
            },
            ECHO_REPLY if code == 0 => Icmpv4Message::EchoReply {
                ident: first,
                sequence: second,
                data: payload,
            },
            DESTINATION_UNREACHABLE => Icmpv4Message::DestinationUnreachable {
                code,
                mtu: second,
                quoted: payload,
            },
            REDIRECT => {
                let gateway = Address::v4([r0, r1, r2, r3]);
                Icmpv4Message::Redirect {
                    code,
                    gateway,
                    quoted: payload,
                }
            }
            TIME_EXCEEDED => Icmpv4Message::TimeExceeded {
                code,
                quoted: payload,
            },
            PARAMETER_PROBLEM => Icmpv4Message::ParameterProblem {
                code,
                pointer: r0,
                quoted: payload,
            },
            _ => {
                let rest_of_header = [r0, r1, r2, r3];
                Icmpv4Message::Other {
                    kind,
                    code,
                    rest_of_header,
                    data: payload,
                }
            }
        }
    }
}

impl<'a> Icmpv4Message<'a> {
    /// Reads a message and insists on its checksum.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let view = Icmpv4View::parse(bytes)?;
        if !view.checksum_ok() {
            return Err(Malformed::Icmpv4Checksum);
        }
        Ok(view.message())
    }

    /// Bytes that [`Self::emit`] writes.
    pub const fn len_bytes(&self) -> usize {
        self.body().len().saturating_add(ICMPV4_HEADER_BYTES)
    }

    /// Writes the message with its checksum and tells how many bytes it wrote. `None` when the
    /// buffer is too short or a gateway is not IPv4. Errors quote what they are given: cut it with
    /// [`quotable_v4`] first.
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let header = self.header_without_checksum()?;
        let body = self.body();
        let mut sum = Checksum::new();
        sum.add_bytes(&header);
        sum.add_bytes(body);
        let [kind, code, _, _, r0, r1, r2, r3] = header;
        let [c0, c1] = sum.finish().to_be_bytes();
        let length = self.len_bytes();
        let (head, rest) = buffer.get_mut(..length)?.split_first_chunk_mut()?;
        *head = [kind, code, c0, c1, r0, r1, r2, r3];
        rest.copy_from_slice(body);
        Some(length)
    }

    const fn body(&self) -> &'a [u8] {
        match *self {
            Self::EchoRequest { data, .. }
            | Self::EchoReply { data, .. }
            | Self::Other { data, .. } => data,
            Self::DestinationUnreachable { quoted, .. }
            | Self::Redirect { quoted, .. }
            | Self::TimeExceeded { quoted, .. }
            | Self::ParameterProblem { quoted, .. } => quoted,
        }
    }

    fn header_without_checksum(&self) -> Option<[u8; ICMPV4_HEADER_BYTES]> {
        Some(match *self {
            Self::EchoRequest {
                ident, sequence, ..
            } => echo(ECHO_REQUEST, ident, sequence),
            Self::EchoReply {
                ident, sequence, ..
            } => echo(ECHO_REPLY, ident, sequence),
            Self::DestinationUnreachable { code, mtu, .. } => {
                let [m0, m1] = mtu.to_be_bytes();
                [DESTINATION_UNREACHABLE, code, 0, 0, 0, 0, m0, m1]
            }
            Self::Redirect { code, gateway, .. } => {
                let [a, b, c, d] = gateway.as_v4()?;
                [REDIRECT, code, 0, 0, a, b, c, d]
            }
            Self::TimeExceeded { code, .. } => [TIME_EXCEEDED, code, 0, 0, 0, 0, 0, 0],
            Self::ParameterProblem { code, pointer, .. } => {
                [PARAMETER_PROBLEM, code, 0, 0, pointer, 0, 0, 0]
            }
            Self::Other {
                kind,
                code,
                rest_of_header: [a, b, c, d],
                ..
            } => [kind, code, 0, 0, a, b, c, d],
        })
    }
}

const fn echo(kind: u8, ident: u16, sequence: u16) -> [u8; ICMPV4_HEADER_BYTES] {
    let ([i0, i1], [s0, s1]) = (ident.to_be_bytes(), sequence.to_be_bytes());
    [kind, 0, 0, 0, i0, i1, s0, s1]
}

/// The part of an offending IPv4 packet that an ICMP error may quote.
///
/// `packet` starts at its IP header; Ethernet padding behind the IP total length is cut off, and
/// the rest to [`ICMPV4_QUOTE_BYTES_MAX`].
pub fn quotable_v4(packet: &[u8]) -> &[u8] {
    //= https://www.rfc-editor.org/rfc/rfc1812#section-4.3.2.3
    //# the ICMP datagram SHOULD contain as much of the original datagram as possible without the
    //# length of the ICMP datagram exceeding 576 bytes.
    let length = match *packet {
        [_, _, l0, l1, ..] => usize::from(u16::from_be_bytes([l0, l1])),
        _ => packet.len(),
    };
    let length = length.min(ICMPV4_QUOTE_BYTES_MAX);
    packet.get(..length).unwrap_or(packet)
}

/// Turns the bytes of an echo request into those of its reply, in place, and mends the checksum
/// by the one word that changed (RFC 1624): a wrong checksum stays wrong, as it must.
///
/// `None`, with nothing changed, when `message` is not an echo request with code 0. The IP
/// addresses are the caller's to swap; ICMP for IPv4 does not cover them.
#[must_use = "the bytes may still be a request"]
pub fn echo_reply_in_place_v4(message: &mut [u8]) -> Option<()> {
    let header = message.first_chunk_mut::<ICMPV4_HEADER_BYTES>()?;
    let [ECHO_REQUEST, 0, c0, c1, i0, i1, s0, s1] = *header else {
        return None;
    };
    let before = u16::from_be_bytes([c0, c1]);
    let old = u16::from_be_bytes([ECHO_REQUEST, 0]);
    let new = u16::from_be_bytes([ECHO_REPLY, 0]);
    let [c0, c1] = checksum::update_u16(before, old, new).to_be_bytes();
    *header = [ECHO_REPLY, 0, c0, c1, i0, i1, s0, s1];
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 792: an echo request, checksum worked out by hand: 0x0800 + 0x1234 + 0x0001 + 0x6869 =
    // 0x829e, complement 0x7d61.
    const REQUEST: [u8; 10] = [8, 0, 0x7d, 0x61, 0x12, 0x34, 0x00, 0x01, b'h', b'i'];

    #[test]
    fn an_echo_request_reads_and_writes_as_rfc_792_draws_it() {
        let message = Icmpv4Message::EchoRequest {
            ident: 0x1234,
            sequence: 1,
            data: b"hi",
        };
        assert_eq!(Icmpv4Message::parse(&REQUEST), Ok(message));
        let mut buffer = [0xaa; 12];
        assert_eq!(message.emit(&mut buffer), Some(10));
        assert_eq!(
            buffer,
            [8, 0, 0x7d, 0x61, 0x12, 0x34, 0, 1, b'h', b'i', 0xaa, 0xaa]
        );
        assert_eq!(message.emit(&mut [0; 9]), None);
    }

    // RFC 1624: the reply's checksum follows from the request's.
    #[test]
    fn a_request_turned_into_a_reply_carries_a_right_checksum() {
        let mut bytes = REQUEST;
        assert_eq!(echo_reply_in_place_v4(&mut bytes), Some(()));
        assert_eq!(
            Icmpv4Message::parse(&bytes),
            Ok(Icmpv4Message::EchoReply {
                ident: 0x1234,
                sequence: 1,
                data: b"hi"
            })
        );
        let reply = bytes;
        assert_eq!(echo_reply_in_place_v4(&mut bytes), None);
        assert_eq!(bytes, reply);
    }

    #[test]
    fn a_flipped_bit_fails_the_checksum() {
        for position in 0..REQUEST.len() {
            let mut bytes = REQUEST;
            bytes[position] ^= 0x10;
            assert_eq!(Icmpv4Message::parse(&bytes), Err(Malformed::Icmpv4Checksum));
        }
        assert_eq!(
            Icmpv4Message::parse(&REQUEST[..7]),
            Err(Malformed::Icmpv4Truncated)
        );
    }

    // RFC 1191 section 4: the next-hop MTU is in the low half of the unused word.
    #[test]
    fn fragmentation_needed_names_the_next_hop_mtu() {
        let bytes = [3, 4, 0, 0, 0, 0, 0x05, 0x14, 0x45, 0x00];
        let view = Icmpv4View::parse(&bytes).expect("eight bytes are there");
        assert!(view.is_error());
        let code = unreachable_v4::FRAGMENTATION_NEEDED;
        assert_eq!(
            view.message(),
            Icmpv4Message::DestinationUnreachable {
                code,
                mtu: 1300,
                quoted: &[0x45, 0x00]
            }
        );
    }

    // RFC 1812 section 4.3.2.3.
    #[test]
    fn a_quote_drops_padding_and_stays_within_576_bytes() {
        let mut packet = [0u8; 1500];
        packet[..4].copy_from_slice(&[0x45, 0, 0x05, 0xdc]);
        assert_eq!(quotable_v4(&packet).len(), ICMPV4_QUOTE_BYTES_MAX);
        packet[..4].copy_from_slice(&[0x45, 0, 0, 40]);
        assert_eq!(quotable_v4(&packet[..46]).len(), 40);
        assert_eq!(quotable_v4(&packet[..30]).len(), 30);
        assert_eq!(quotable_v4(&packet[..3]).len(), 3);
    }
}
