//! UDP datagrams (RFC 768; RFC 8200 section 8.1 for IPv6).
//!
//! Just enough to read a datagram, to say in a trace what it was and to answer "port unreachable":
//! the dataplane terminates TCP only. There is no emitter.
//!
//! ```text
//!   |        source port            |       destination port        |
//!   |            length             |           checksum            |
//!   |  data ...                                                     |
//! ```

use millrace_base::Address;

use crate::{Checksum, Malformed, protocol};

/// Bytes of a UDP header.
pub const UDP_HEADER_BYTES: usize = 8;

/// A UDP datagram whose header is complete and whose length lies within the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpView<'a> {
    datagram: &'a [u8],
    source_port: u16,
    destination_port: u16,
    checksum: u16,
}

impl<'a> UdpView<'a> {
    /// Checks header and length; bytes behind the length are ignored.
    ///
    /// A length of 0 means "to the end" in a jumbogram only (RFC 2675), and is refused.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Some(header) = bytes.first_chunk::<UDP_HEADER_BYTES>() else {
            return Err(Malformed::UdpTruncated);
        };
        let [s0, s1, d0, d1, l0, l1, c0, c1] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if length < UDP_HEADER_BYTES {
            return Err(Malformed::UdpLength);
        }
        Ok(Self {
            datagram: bytes.get(..length).ok_or(Malformed::UdpLength)?,
            source_port: u16::from_be_bytes([s0, s1]),
            destination_port: u16::from_be_bytes([d0, d1]),
            checksum: u16::from_be_bytes([c0, c1]),
        })
    }

    /// Source port; 0 when no answer is wanted.
    pub const fn source_port(&self) -> u16 {
        self.source_port
    }

    /// Destination port.
    pub const fn destination_port(&self) -> u16 {
        self.destination_port
    }

    /// Bytes of header and data, 8..=65,535.
    pub const fn length(&self) -> usize {
        self.datagram.len()
    }

    /// The checksum field; 0 means that the sender computed none.
    pub const fn checksum(&self) -> u16 {
        self.checksum
    }

    /// The data.
    pub fn payload(&self) -> &'a [u8] {
        self.datagram.get(UDP_HEADER_BYTES..).unwrap_or_default()
    }

    /// Whether the checksum is right, or absent where it may be. O(datagram).
    pub fn checksum_ok(&self, source: Address, destination: Address) -> bool {
        if self.checksum == 0 {
            //= https://www.rfc-editor.org/rfc/rfc8200#section-8.1
            //# IPv6 receivers must discard UDP packets containing a zero checksum
            return source.is_v4();
        }
        let Ok(len) = u32::try_from(self.datagram.len()) else {
            return false;
        };
        let mut sum = Checksum::pseudo_header(source, destination, protocol::UDP, len);
        sum.add_bytes(self.datagram);
        sum.finish() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Address = Address::v4([192, 0, 2, 1]);
    const DESTINATION: Address = Address::v4([192, 0, 2, 2]);
    // RFC 768. By hand: pseudo-header c000 + 0201 + c000 + 0202 + 0011 + 000a, datagram 0035 +
    // 1000 + 000a + 6869: 0x1fcc6, folded 0xfcc7, complement 0x0338.
    const DATAGRAM: [u8; 11] = [
        0x00, 0x35, 0x10, 0x00, 0x00, 0x0a, 0x03, 0x38, b'h', b'i', 0xee,
    ];

    #[test]
    fn a_datagram_reads_as_rfc_768_draws_it_and_padding_is_ignored() {
        let view = UdpView::parse(&DATAGRAM).expect("well formed");
        assert_eq!((view.source_port(), view.destination_port()), (53, 4_096));
        assert_eq!((view.length(), view.payload()), (10, &b"hi"[..]));
        assert!(view.checksum_ok(SOURCE, DESTINATION));
        assert!(!view.checksum_ok(SOURCE, Address::v4([192, 0, 2, 3])));
    }

    #[test]
    fn a_missing_checksum_is_an_ipv4_privilege() {
        let mut bytes = DATAGRAM;
        bytes[6..8].fill(0);
        let view = UdpView::parse(&bytes).expect("well formed");
        assert!(view.checksum_ok(SOURCE, DESTINATION));
        assert!(!view.checksum_ok(Address::v6([0xfd; 16]), Address::v6([0xfc; 16])));
    }

    #[test]
    fn a_length_outside_the_bytes_is_refused() {
        assert_eq!(UdpView::parse(&DATAGRAM[..7]), Err(Malformed::UdpTruncated));
        assert_eq!(UdpView::parse(&DATAGRAM[..9]), Err(Malformed::UdpLength));
        let mut bytes = DATAGRAM;
        bytes[5] = 7;
        assert_eq!(UdpView::parse(&bytes), Err(Malformed::UdpLength));
    }
}
