//! The Address Resolution Protocol for IPv4 over Ethernet (RFC 826, RFC 5227).
//!
//! Only that one pairing exists here; any other hardware or protocol type is refused. This room
//! does not decide what to learn or whom to answer: that is the neighbour table's business.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |     hardware type (1 or 6)    |     protocol type (0x0800)    |
//! +---------------+---------------+-------------------------------+
//! |  hw size (6)  | proto size(4) |           operation           |
//! +---------------+---------------+-------------------------------+
//! |                 sender MAC                    |  sender IPv4 ..
//! +-----------------------------------------------+---------------+
//! ..              |                  target MAC ..
//! +---------------+-----------------------------------------------+
//! ..              |          target IPv4          |
//! ```

use millrace_base::{Address, MacAddress};

use crate::Malformed;

/// Bytes of an Ethernet/IPv4 ARP packet, without Ethernet padding.
pub const ARP_BYTES: usize = 28;

const HARDWARE_ETHERNET: [u8; 2] = 1u16.to_be_bytes();
const HARDWARE_IEEE_802: [u8; 2] = 6u16.to_be_bytes();
const PROTOCOL_IPV4: [u8; 2] = 0x0800u16.to_be_bytes();

/// What an ARP packet asks or says (RFC 826).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArpOperation {
    /// Who has the target address? (1)
    Request,
    /// The sender has it. (2)
    Reply,
}

/// An Ethernet/IPv4 ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArpRepr {
    /// Question or answer.
    pub operation: ArpOperation,
    /// The sender's hardware address.
    pub sender_mac: MacAddress,
    /// The sender's IPv4 address; `0.0.0.0` in a probe (RFC 5227 section 1.1).
    pub sender_ip: Address,
    /// The target's hardware address; without meaning in a request.
    pub target_mac: MacAddress,
    /// The target's IPv4 address.
    pub target_ip: Address,
}

impl ArpRepr {
    /// Reads an ARP packet; bytes after the 28th are Ethernet padding and ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((header, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(Malformed::ArpTruncated);
        };
        let [h0, h1, p0, p1, hardware_size, protocol_size, o0, o1] = *header;
        // Linux's arp_process also takes the IEEE 802 hardware type on an Ethernet device; RFC 1042
        // senders use it.
        let ethernet = [h0, h1] == HARDWARE_ETHERNET || [h0, h1] == HARDWARE_IEEE_802;
        let ipv4 = [p0, p1] == PROTOCOL_IPV4;
        if !ethernet || !ipv4 || hardware_size != 6 || protocol_size != 4 {
            return Err(Malformed::ArpNotEthernetIpv4);
        }
        let Some(body) = rest.first_chunk::<20>() else {
            return Err(Malformed::ArpTruncated);
        };
        let operation = match u16::from_be_bytes([o0, o1]) {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            _ => return Err(Malformed::ArpUnknownOperation),
        };
        let [
            a,
            b,
            c,
            d,
            e,
            f,
            s0,
            s1,
            s2,
            s3,
            g,
            h,
            i,
            j,
            k,
            l,
            t0,
            t1,
            t2,
            t3,
        ] = *body;
        Ok(Self {
            operation,
            sender_mac: MacAddress::new([a, b, c, d, e, f]),
            sender_ip: Address::v4([s0, s1, s2, s3]),
            target_mac: MacAddress::new([g, h, i, j, k, l]),
            target_ip: Address::v4([t0, t1, t2, t3]),
        })
    }

    /// Writes the packet, [`ARP_BYTES`] long, and tells how many bytes it wrote.
    ///
    /// `None` when the buffer is too short or an address is not IPv4; nothing is written then.
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let [s0, s1, s2, s3] = self.sender_ip.as_v4()?;
        let [t0, t1, t2, t3] = self.target_ip.as_v4()?;
        let [a, b, c, d, e, f] = *self.sender_mac.octets();
        let [g, h, i, j, k, l] = *self.target_mac.octets();
        let [h0, h1] = HARDWARE_ETHERNET;
        let [p0, p1] = PROTOCOL_IPV4;
        let operation = match self.operation {
            ArpOperation::Request => 1,
            ArpOperation::Reply => 2,
        };
        *buffer.first_chunk_mut::<ARP_BYTES>()? = [
            h0, h1, p0, p1, 6, 4, 0, operation, //
            a, b, c, d, e, f, s0, s1, s2, s3, //
            g, h, i, j, k, l, t0, t1, t2, t3,
        ];
        Some(ARP_BYTES)
    }

    /// The reply that `mac` owes to this packet: the target address is at `mac`, sent to whoever
    /// asked.
    #[must_use]
    pub const fn answered_by(&self, mac: MacAddress) -> Self {
        Self {
            operation: ArpOperation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// Whether this asks "is this address free?" (RFC 5227 section 1.1): nothing may be learnt
    /// from it, since the sender claims no address yet.
    pub fn is_probe(&self) -> bool {
        self.operation == ArpOperation::Request && self.sender_ip == Address::UNSPECIFIED_V4
    }

    /// Whether the sender speaks about its own address unasked (RFC 5227 section 3, "gratuitous").
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 826: `ping 192.0.2.1` from 192.0.2.2, bytes written by hand.
    const REQUEST: [u8; ARP_BYTES] = [
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, //
        0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0xc0, 0x00, 0x02, 0x02, //
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc0, 0x00, 0x02, 0x01,
    ];

    fn request() -> ArpRepr {
        ArpRepr {
            operation: ArpOperation::Request,
            sender_mac: MacAddress::new([2, 0, 0, 0, 0, 2]),
            sender_ip: Address::v4([192, 0, 2, 2]),
            target_mac: MacAddress::ZERO,
            target_ip: Address::v4([192, 0, 2, 1]),
        }
    }

    #[test]
    fn a_request_reads_and_writes_as_rfc_826_draws_it() {
        assert_eq!(ArpRepr::parse(&REQUEST), Ok(request()));
        let mut buffer = [0xaa; 30];
        assert_eq!(request().emit(&mut buffer), Some(ARP_BYTES));
        assert_eq!(&buffer[..ARP_BYTES], &REQUEST);
        assert_eq!(&buffer[ARP_BYTES..], &[0xaa; 2]);
    }

    #[test]
    fn the_answer_swaps_the_parties_and_names_our_mac() {
        let ours = MacAddress::new([2, 0, 0, 0, 0, 1]);
        let reply = request().answered_by(ours);
        assert_eq!(reply.operation, ArpOperation::Reply);
        assert_eq!(
            (reply.sender_mac, reply.sender_ip),
            (ours, Address::v4([192, 0, 2, 1]))
        );
        assert_eq!(reply.target_mac, request().sender_mac);
        assert_eq!(reply.target_ip, request().sender_ip);
    }

    #[test]
    fn only_ethernet_and_ipv4_are_accepted() {
        for (position, value) in [(1, 15), (2, 0x86), (4, 8), (5, 16)] {
            let mut bytes = REQUEST;
            bytes[position] = value;
            assert_eq!(ArpRepr::parse(&bytes), Err(Malformed::ArpNotEthernetIpv4));
        }
        let mut reverse_request = REQUEST;
        reverse_request[7] = 3;
        assert_eq!(
            ArpRepr::parse(&reverse_request),
            Err(Malformed::ArpUnknownOperation)
        );
        // Linux accepts hardware type 6 (IEEE 802) on an Ethernet device.
        let mut ieee = REQUEST;
        ieee[1] = 6;
        assert_eq!(ArpRepr::parse(&ieee), Ok(request()));
        assert_eq!(ArpRepr::parse(&REQUEST[..27]), Err(Malformed::ArpTruncated));
    }

    #[test]
    fn an_ipv6_address_is_not_written_into_arp() {
        let wrong = ArpRepr {
            target_ip: Address::UNSPECIFIED_V6,
            ..request()
        };
        assert_eq!(wrong.emit(&mut [0; ARP_BYTES]), None);
        assert_eq!(request().emit(&mut [0; ARP_BYTES - 1]), None);
    }

    #[test]
    fn probes_and_gratuitous_announcements_are_recognised() {
        let probe = ArpRepr {
            sender_ip: Address::UNSPECIFIED_V4,
            ..request()
        };
        assert!(probe.is_probe() && !probe.is_gratuitous());
        let announcement = ArpRepr {
            target_ip: request().sender_ip,
            ..request()
        };
        assert!(announcement.is_gratuitous() && !announcement.is_probe());
    }
}
