//! Reading and writing the raw IP packets that travel here.

use millrace_base::{Address, Endpoint};
use millrace_wire::{EtherType, IpRepr, IpView, TcpFlags, TcpRepr, TcpView, protocol, tcp};

/// The ECN field of the traffic class (RFC 3168 section 5).
const ECN_MASK: u8 = 0b11;
/// The TCP flags that speak of ECN.
pub(crate) const ECN_FLAGS: TcpFlags =
    TcpFlags::from_bits(TcpFlags::AE.bits() | TcpFlags::CWR.bits() | TcpFlags::ECE.bits());
/// Where the checksum lies in a TCP header.
const CHECKSUM_AT: core::ops::Range<usize> = 16..18;
/// What the ECN field says: not capable of being marked, capable, or that congestion was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ecn {
    NotCapable = 0b00,
    Ect1 = 0b01,
    Ect0 = 0b10,
    Marked = 0b11,
}

impl Ecn {
    const fn of_bits(bits: u8) -> Self {
        match bits & ECN_MASK {
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            0b11 => Self::Marked,
            _ => Self::NotCapable,
        }
    }
}

/// A TCP segment as it is on the wire, checksums verified.
#[derive(Clone, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) from: Endpoint,
    pub(crate) to: Endpoint,
    pub(crate) ecn: Ecn,
    /// Bytes of the IP packet.
    pub(crate) packet_len: usize,
    pub(crate) header: TcpRepr,
    pub(crate) payload: &'a [u8],
}

/// What a packet is.
#[derive(Clone, Debug)]
pub(crate) enum Parsed<'a> {
    Tcp(Segment<'a>),
    /// Well formed, and something else: ICMP, a fragment.
    Other,
    /// Broken, with the reason; a checksum may be the one that is wrong.
    Broken(&'static str),
}

/// The Ethernet type that a packet would travel under.
fn ether_type(packet: &[u8]) -> EtherType {
    match packet.first().map(|byte| byte >> 4) {
        Some(6) => EtherType::IPV6,
        _ => EtherType::IPV4,
    }
}

/// Where a packet goes; `None` when it is no IP packet.
pub(crate) fn destination(packet: &[u8]) -> Option<Address> {
    let view = IpView::parse(ether_type(packet), packet, packet.len())?;
    Some(view.ok()?.destination())
}

/// Reads a packet and verifies its checksums.
pub(crate) fn parse(packet: &[u8]) -> Parsed<'_> {
    let Some(Ok(ip)) = IpView::parse(ether_type(packet), packet, packet.len()) else {
        return Parsed::Broken("no IP packet");
    };
    if !ip.header_checksum_ok() {
        return Parsed::Broken("wrong IP checksum");
    }
    if ip.protocol() != protocol::TCP || ip.fragment().is_some() {
        return Parsed::Other;
    }
    let bytes = ip.payload();
    let pieces = core::iter::once(bytes);
    let (from, to) = (ip.source(), ip.destination());
    if !tcp::checksum::verify(from, to, bytes.len() as u32, pieces) {
        return Parsed::Broken("wrong TCP checksum");
    }
    let Ok(view) = TcpView::parse(bytes) else {
        return Parsed::Broken("no TCP segment");
    };
    Parsed::Tcp(Segment {
        from: Endpoint::new(from, view.source_port()),
        to: Endpoint::new(to, view.destination_port()),
        ecn: Ecn::of_bits(ip.traffic_class()),
        packet_len: ip.total_len(),
        header: TcpRepr::parse(&view),
        payload: view.payload(),
    })
}

/// Writes a segment into a packet of its own.
pub(crate) fn emit(header: &TcpRepr, payload: &[u8], from: Address, to: Address) -> Vec<u8> {
    let segment_len = header.header_len() + payload.len();
    let ip = IpRepr {
        source: from,
        destination: to,
        protocol: protocol::TCP,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        identification: 0,
        payload_len: segment_len as u16,
    };
    let mut packet = vec![0; ip.header_len() + header.header_len()];
    ip.emit(&mut packet, false).expect("one family, and room");
    packet.extend_from_slice(payload);
    let (_, segment) = packet.split_at_mut(ip.header_len());
    header.emit(segment).expect("room for the header");
    let nothing = core::iter::empty();
    tcp::checksum::fill(from, to, segment, nothing, segment_len as u32).expect("a TCP header");
    packet
}

/// What the ECN field of a packet says.
pub(crate) fn ecn_of(packet: &[u8]) -> Ecn {
    // The traffic class of IPv6 lies across the first two bytes, its ECN bits in the second.
    let field = match packet {
        [first, class, ..] if *first >> 4 == 6 => class >> 4,
        [_, class, ..] => *class,
        _ => 0,
    };
    Ecn::of_bits(field)
}

/// Makes the ECN field of a packet say something.
pub(crate) fn set_ecn(packet: &mut [u8], kind: Ecn) {
    let bits = kind as u8;
    match packet {
        [first, class, ..] if *first >> 4 == 6 => {
            *class = *class & !(ECN_MASK << 4) | bits << 4;
        }
        [_, class, ..] => {
            *class = *class & !ECN_MASK | bits;
            fill_ipv4_checksum(packet);
        }
        _ => {}
    }
}

/// Marks a packet as having met congestion; `false` when its sender does not know of ECN.
pub(crate) fn mark_ce(packet: &mut [u8]) -> bool {
    let may_be = ecn_of(packet) != Ecn::NotCapable;
    if may_be {
        set_ecn(packet, Ecn::Marked);
    }
    may_be
}

/// Changes the TCP segment in a packet, and makes its checksum right. A packet that is none, or is
/// broken, stays as it is.
pub(crate) fn rewrite_tcp(packet: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let Parsed::Tcp(segment) = parse(packet) else {
        return;
    };
    let (from, to) = (segment.from.address, segment.to.address);
    let Some(Ok(ip)) = IpView::parse(ether_type(packet), packet, packet.len()) else {
        return;
    };
    let len = ip.payload().len();
    let (_, segment) = packet.split_at_mut(packet.len() - len);
    change(segment);
    segment[CHECKSUM_AT].fill(0);
    let nothing = core::iter::empty();
    tcp::checksum::fill(from, to, segment, nothing, len as u32).expect("a TCP header");
}

/// The options of a TCP segment.
pub(crate) fn options_of(segment: &mut [u8]) -> &mut [u8] {
    let header_len = segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    let options = segment.get_mut(tcp::HEADER_BYTES..header_len);
    options.unwrap_or_default()
}

fn fill_ipv4_checksum(packet: &mut [u8]) {
    let header_len = packet.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
    let Some(header) = packet.get_mut(..header_len) else {
        return;
    };
    header[10..12].fill(0);
    let mut sum = millrace_wire::Checksum::new();
    sum.add_bytes(header);
    header[10..12].copy_from_slice(&sum.finish().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::SeqNumber;
    use millrace_wire::TcpOptions;

    fn sample(v6: bool) -> Vec<u8> {
        let header = TcpRepr {
            source_port: 1,
            destination_port: 2,
            seq: SeqNumber::new(7),
            ack: SeqNumber::new(9),
            flags: TcpFlags::ACK,
            window: 10,
            urgent: 0,
            options: TcpOptions::default(),
        };
        let address = |last: u8| match v6 {
            true => Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]),
            false => Address::v4([10, 0, 0, last]),
        };
        emit(&header, b"hello", address(1), address(2))
    }

    #[test]
    fn what_was_written_is_read_with_right_checksums() {
        for v6 in [false, true] {
            let packet = sample(v6);
            let Parsed::Tcp(segment) = parse(&packet) else {
                panic!("a segment: {:?}", parse(&packet));
            };
            assert_eq!(segment.payload, b"hello");
            assert_eq!(segment.from.port, 1);
        }
    }

    #[test]
    fn any_byte_changed_behind_the_version_is_noticed_in_ipv4() {
        let packet = sample(false);
        for place in 1..packet.len() {
            let mut broken = packet.clone();
            broken[place] ^= 0x10;
            assert!(matches!(parse(&broken), Parsed::Broken(_)), "{place}");
        }
    }

    #[test]
    fn a_mark_keeps_the_checksums_right_and_asks_for_ecn() {
        for v6 in [false, true] {
            let mut packet = sample(v6);
            assert!(!mark_ce(&mut packet));
            if v6 {
                packet[1] |= 0x20;
            } else {
                packet[1] |= 0x02;
                fill_ipv4_checksum(&mut packet);
            }
            assert!(mark_ce(&mut packet));
            let Parsed::Tcp(segment) = parse(&packet) else {
                panic!("a segment");
            };
            assert_eq!(segment.ecn, Ecn::Marked);
        }
    }
}
