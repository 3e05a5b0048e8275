//! The frame that almost every frame is, recognised in one look.
//!
//! An untagged unicast frame, IPv4 without options or IPv6 without extensions, no fragment, TCP, and
//! every checksum right: a few words at fixed places tell. This refuses nothing. A frame that is
//! anything else, wrong ones included, goes the long way (`dispatch.rs`), which looks at everything
//! in Linux's order and names what is wrong. What passes here would pass there, with the same
//! result; a property test holds that.
//!
//! The next frame of a burst is most often the next of its stream: then only what differs between
//! two segments is read (`parse_following`), under the same rule.

use millrace_base::{Address, ChecksumStatus, Endpoint, FlowTuple, PacketBuf, SeqNumber};
use millrace_wire::tcp::checksum;
use millrace_wire::{Checksum, TcpFlags, Timestamps, ethernet, ipv4, ipv6, protocol, tcp};

use crate::dispatch::{Carried, TcpFrame, count_mark, pieces};
use crate::interface::Interface;
use crate::stats::{Stats, count};

/// What the IP header says.
#[derive(Clone, Copy, Debug)]
struct Packet {
    source: Address,
    destination: Address,
    /// Where the TCP header begins, counted from the start of the frame.
    segment_at: usize,
    /// Bytes of TCP header and payload.
    segment_len: usize,
    /// DSCP and ECN bits.
    traffic_class: u8,
}

const ETHERNET: usize = ethernet::HEADER_BYTES;
const IPV4: usize = ETHERNET + ipv4::HEADER_BYTES;
const IPV6: usize = ETHERNET + ipv6::HEADER_BYTES;
/// `EtherType::IPV4`, version 4 and a header of five words.
const IPV4_PLAIN: [u8; 3] = [0x08, 0x00, 0x45];
/// `EtherType::IPV6`.
const IPV6_TYPE: [u8; 2] = [0x86, 0xdd];
/// More fragments, and the fragment offset.
const FRAGMENT: u16 = 0x3fff;

/// A segment, if the frame is a plain one; `None` says nothing about it. Counts like `parse`.
#[inline]
pub(crate) fn parse_plain<B: PacketBuf>(
    frame: &B,
    interface: &Interface,
    stats: &mut Stats,
) -> Option<TcpFrame> {
    let (bytes, meta) = (frame.bytes(), frame.rx_meta());
    let link = bytes.first_chunk::<{ ETHERNET + 1 }>()?;
    let [a, b, c, d, e, f, group, .., t0, t1, version] = *link;
    let is_ours = [a, b, c, d, e, f] == *interface.mac.octets() && group & 1 == 0;
    if !is_ours || interface.offloads.vlan.is_some() || meta.stripped_vlan.is_some() {
        return None;
    }
    let available = frame.frame_len().checked_sub(ETHERNET)?;
    let packet = if [t0, t1, version] == IPV4_PLAIN {
        plain_v4(bytes.first_chunk()?, available, meta.ip_checksum)?
    } else if [t0, t1] == IPV6_TYPE {
        plain_v6(bytes.first_chunk()?, available)?
    } else {
        return None;
    };
    let segment = bytes.get(packet.segment_at..)?;
    let header = segment.first_chunk::<{ tcp::HEADER_BYTES }>()?;
    let header_len = usize::from(header[12] >> 4).wrapping_mul(4);
    let options = segment.get(tcp::HEADER_BYTES..header_len)?;
    let payload_len = packet.segment_len.checked_sub(header_len)?;
    if !is_checksum_good(frame, &packet, meta.l4_checksum) {
        return None;
    }
    let (words, _) = header.as_chunks::<2>();
    let [from, to, _, _, _, _, offset, window, ..] = *words else {
        return None;
    };
    let flags = TcpFlags::from_bits(u16::from_be_bytes(offset));
    count!(stats.ip_in_receives);
    count_mark(packet.traffic_class, stats);
    count!(stats.tcp_in_segs);
    Some(TcpFrame {
        tuple: FlowTuple {
            local: Endpoint::new(packet.destination, u16::from_be_bytes(to)),
            remote: Endpoint::new(packet.source, u16::from_be_bytes(from)),
        },
        seq: SeqNumber::new(u32::from_be_bytes([
            header[4], header[5], header[6], header[7],
        ])),
        ack: SeqNumber::new(u32::from_be_bytes([
            header[8], header[9], header[10], header[11],
        ])),
        flags,
        window: u16::from_be_bytes(window),
        traffic_class: packet.traffic_class,
        carried: Carried::of(options, flags),
        options_at: packet.segment_at.wrapping_add(tcp::HEADER_BYTES) as u16,
        payload_at: packet.segment_at.wrapping_add(header_len) as u16,
        payload_len: payload_len as u32,
    })
}

/// Bytes 22..38 of an IPv4 frame without the header checksum, bytes 24 and 25.
const V4_MASK: u128 = u128::from_ne_bytes([
    255, 255, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
]);
/// Headers up to the end of TCP's without options.
const V4_HEAD: usize = IPV4 + tcp::HEADER_BYTES;
const V6_HEAD: usize = IPV6 + tcp::HEADER_BYTES;
/// Bytes of the timestamp option with its padding.
const STAMPS: usize = 12;
/// Header length and flags of a segment with nothing but ACK (and PSH), without options and with
/// timestamps.
const BARE: u16 = 0x5010;
const STAMPED: u16 = 0x8010;

/// A segment, if the frame is one of the stream of the plain frame `first`, which said `before`: only
/// IP length, identification and checksum, sequence numbers, window, PSH, TCP checksum and timestamps
/// may differ, and are read. Counts like `parse_plain`.
#[inline(always)] // In a burst's loop; the ports end it early.
pub(crate) fn parse_following<B: PacketBuf>(
    first: &B,
    before: &TcpFrame,
    frame: &B,
    stats: &mut Stats,
) -> Option<TcpFrame> {
    let bytes = frame.bytes();
    // A plain frame has its TCP header in one of two places.
    let is_v4 = usize::from(before.options_at) == V4_HEAD;
    let [a, b, c, d] = if is_v4 {
        *bytes.get(IPV4..)?.first_chunk()?
    } else {
        *bytes.get(IPV6..)?.first_chunk()?
    };
    let FlowTuple { local, remote } = &before.tuple;
    let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if ports != (remote.port, local.port) {
        // Most other flows end here.
        return None;
    }
    let is_alike = if is_v4 {
        is_alike_v4(first.bytes().first_chunk()?, bytes.first_chunk()?)
    } else {
        is_alike_v6(first.bytes().first_chunk()?, bytes.first_chunk()?)
    };
    if !is_alike {
        return None;
    }
    let meta = frame.rx_meta();
    let is_verified = meta.ip_checksum == ChecksumStatus::Good
        && meta.l4_checksum == ChecksumStatus::Good
        && meta.stripped_vlan.is_none();
    if !is_verified {
        return None;
    }
    let available = frame.frame_len().checked_sub(ETHERNET)?;
    let (ip_len, segment_at) = if is_v4 {
        let [.., high, low] = *bytes.first_chunk::<18>()?;
        (usize::from(u16::from_be_bytes([high, low])), IPV4)
    } else {
        let [.., high, low] = *bytes.first_chunk::<20>()?;
        let payload_len = usize::from(u16::from_be_bytes([high, low]));
        (payload_len.wrapping_add(ipv6::HEADER_BYTES), IPV6)
    };
    let segment = bytes.get(segment_at..)?;
    let header = segment.first_chunk::<{ tcp::HEADER_BYTES }>()?;
    let (words, _) = header.as_chunks::<4>();
    let [_, seq, ack, [k0, k1, w0, w1], _] = *words else {
        return None;
    };
    let kind = u16::from_be_bytes([k0, k1]);
    let (expected, header_len, carried) = match before.carried {
        Carried::Timestamps(_) => {
            let options = segment.get(tcp::HEADER_BYTES..tcp::HEADER_BYTES.wrapping_add(STAMPS))?;
            let stamps = Timestamps::of_aligned(options)?;
            (STAMPED, 32usize, Carried::Timestamps(stamps))
        }
        Carried::Nothing => (BARE, tcp::HEADER_BYTES, Carried::Nothing),
        Carried::Options => return None,
    };
    let headers = segment_at.wrapping_sub(ETHERNET).wrapping_add(header_len);
    let payload_len = ip_len.checked_sub(headers)?;
    if kind & !TcpFlags::PSH.bits() != expected || ip_len > available {
        return None;
    }
    count!(stats.ip_in_receives);
    count_mark(before.traffic_class, stats);
    count!(stats.tcp_in_segs);
    Some(TcpFrame {
        tuple: before.tuple,
        seq: SeqNumber::new(u32::from_be_bytes(seq)),
        ack: SeqNumber::new(u32::from_be_bytes(ack)),
        flags: TcpFlags::from_bits(kind),
        window: u16::from_be_bytes([w0, w1]),
        traffic_class: before.traffic_class,
        carried,
        options_at: segment_at.wrapping_add(tcp::HEADER_BYTES) as u16,
        payload_at: segment_at.wrapping_add(header_len) as u16,
        payload_len: payload_len as u32,
    })
}

/// Protocol, addresses and ports; fragment fields, Ethernet header, version and traffic class.
#[inline]
fn is_alike_v4(first: &[u8; V4_HEAD], frame: &[u8; V4_HEAD]) -> bool {
    (wide::<22>(first) ^ wide::<22>(frame)) & V4_MASK == 0
        && [first[20], first[21]] == [frame[20], frame[21]]
        && wide::<0>(first) == wide::<0>(frame)
}

/// Ports and addresses, next header, Ethernet header, version, traffic class and flow label.
#[inline]
fn is_alike_v6(first: &[u8; V6_HEAD], frame: &[u8; V6_HEAD]) -> bool {
    wide::<42>(first) == wide::<42>(frame)
        && wide::<30>(first) == wide::<30>(frame)
        && wide::<20>(first) == wide::<20>(frame)
        && [first[16], first[17]] == [frame[16], frame[17]]
        && wide::<0>(first) == wide::<0>(frame)
}

/// Sixteen bytes from `AT` on, to be compared.
#[inline]
fn wide<const AT: usize>(head: &[u8]) -> u128 {
    let bytes = head.get(AT..).and_then(|tail| tail.first_chunk());
    bytes.map_or(0, |bytes| u128::from_ne_bytes(*bytes))
}

#[inline]
fn plain_v4(head: &[u8; IPV4], available: usize, status: ChecksumStatus) -> Option<Packet> {
    let total_len = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let is_fragment = u16::from_be_bytes([head[20], head[21]]) & FRAGMENT != 0;
    if is_fragment || head[23] != protocol::TCP || total_len > available {
        return None;
    }
    let is_good = match status {
        ChecksumStatus::Good => true,
        ChecksumStatus::Bad => false,
        ChecksumStatus::Unknown => {
            let mut sum = Checksum::new();
            let (words, _) = head.split_at(ETHERNET).1.as_chunks::<4>();
            for word in words {
                sum.add_u32(u32::from_be_bytes(*word));
            }
            sum.finish() == 0
        }
    };
    is_good.then_some(Packet {
        source: Address::v4([head[26], head[27], head[28], head[29]]),
        destination: Address::v4([head[30], head[31], head[32], head[33]]),
        segment_at: IPV4,
        segment_len: total_len.checked_sub(ipv4::HEADER_BYTES)?,
        traffic_class: head[15],
    })
}

#[inline]
fn plain_v6(head: &[u8; IPV6], available: usize) -> Option<Packet> {
    let segment_len = usize::from(u16::from_be_bytes([head[18], head[19]]));
    let is_tcp = head[ETHERNET] >> 4 == 6 && head[20] == protocol::TCP;
    if !is_tcp || segment_len > available.checked_sub(ipv6::HEADER_BYTES)? {
        return None;
    }
    let (source, destination) = head.split_at(22).1.split_first_chunk::<16>()?;
    let source = Address::v6(*source);
    let destination = Address::v6(*destination.first_chunk()?);
    // A mapped IPv4 address must not arrive as an IPv6 one; the long way says so.
    if source.is_v4() || destination.is_v4() {
        return None;
    }
    Some(Packet {
        source,
        destination,
        segment_at: IPV6,
        segment_len,
        traffic_class: head[14] << 4 | head[15] >> 4,
    })
}

#[inline]
fn is_checksum_good<B: PacketBuf>(frame: &B, packet: &Packet, status: ChecksumStatus) -> bool {
    match status {
        ChecksumStatus::Good => true,
        ChecksumStatus::Bad => false,
        ChecksumStatus::Unknown => {
            let pieces = pieces(frame, packet.segment_at, packet.segment_len);
            let len = packet.segment_len as u32;
            checksum::verify(packet.source, packet.destination, len, pieces)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::{Parsed, parse};
    use crate::interface::{Interfaces, Prefixed};
    use crate::path::{FrameOptions, Offloads, Path, write_headers};
    use millrace_base::{HeapBuf, MacAddress, PortId};
    use millrace_wire::{TcpOptions, TcpRepr, Timestamps};
    use proptest::prelude::*;

    const MAC: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);

    fn interfaces() -> Interfaces {
        let mut interfaces = Interfaces::new();
        interfaces.set(&[Interface {
            port: PortId::new(0),
            mac: MAC,
            mtu: 1_500,
            addresses: core::iter::once(Prefixed {
                address: Address::v4([10, 0, 0, 1]),
                prefix_len: 24,
            })
            .collect(),
            offloads: Offloads::default(),
        }]);
        interfaces
    }

    /// A good segment for us, `stamped` or with a SACK block.
    fn segment(v6: bool, stamped: bool, payload: usize) -> Vec<u8> {
        let address = |last| {
            if v6 {
                Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
            } else {
                Address::v4([10, 0, 0, last])
            }
        };
        let mut options = TcpOptions::default();
        if stamped {
            options.timestamps = Some(Timestamps { value: 1, echo: 2 });
        } else {
            options.sack.push(SeqNumber::new(3), SeqNumber::new(4));
        }
        let tcp = TcpRepr {
            source_port: 5_000,
            destination_port: 80,
            seq: SeqNumber::new(0xfedc_ba98),
            ack: SeqNumber::new(0x7654_3210),
            flags: TcpFlags::ACK | TcpFlags::PSH,
            window: 0x1234,
            urgent: 0,
            options,
        };
        let tuple = FlowTuple {
            local: Endpoint::new(address(2), 5_000),
            remote: Endpoint::new(address(1), 80),
        };
        let path = Path {
            source: MacAddress::new([2, 0, 0, 0, 0, 2]),
            destination: MAC,
            ..Path::default()
        };
        let mut frame = HeapBuf::from_frame(&vec![7; payload]);
        let options = FrameOptions::default();
        assert!(write_headers(&mut frame, &path, &tuple, &tcp, options));
        frame.to_vec()
    }

    /// A frame whose checksums the device has verified.
    fn verified(bytes: &[u8]) -> HeapBuf {
        let mut frame = HeapBuf::from_frame(bytes);
        frame.meta.ip_checksum = ChecksumStatus::Good;
        frame.meta.l4_checksum = ChecksumStatus::Good;
        frame
    }

    /// What the long way says of a frame, and what the look at the one `before` it says.
    fn behind(before: &[u8], bytes: &[u8]) -> (Result<TcpFrame, String>, Option<TcpFrame>) {
        let (interfaces, before, frame) = (interfaces(), verified(before), verified(bytes));
        let port = PortId::new(0);
        let mut stats = Stats::default();
        let interface = interfaces.get(port).expect("set");
        let header = parse_plain(&before, interface, &mut stats).expect("plain");
        let alike = parse_following(&before, &header, &frame, &mut stats);
        let long = match parse(&frame, port, &interfaces, &mut stats) {
            Parsed::Tcp(header) => Ok(header),
            other @ (Parsed::Icmp(_) | Parsed::Fragment(_) | Parsed::Punt(_) | Parsed::Drop(_)) => {
                Err(format!("{other:?}"))
            }
        };
        (long, alike)
    }

    /// What the long way and the short way say of a frame.
    fn both(bytes: &[u8]) -> (Result<TcpFrame, String>, Option<TcpFrame>) {
        let (interfaces, frame) = (interfaces(), HeapBuf::from_frame(bytes));
        let port = PortId::new(0);
        let long = match parse(&frame, port, &interfaces, &mut Stats::default()) {
            Parsed::Tcp(header) => Ok(header),
            other @ (Parsed::Icmp(_) | Parsed::Fragment(_) | Parsed::Punt(_) | Parsed::Drop(_)) => {
                Err(format!("{other:?}"))
            }
        };
        let interface = interfaces.get(port).expect("set");
        (long, parse_plain(&frame, interface, &mut Stats::default()))
    }

    // behaviour: X8-4
    #[test]
    fn a_plain_segment_is_read_like_the_long_way_reads_it() {
        for (v6, stamped) in [(false, false), (false, true), (true, false), (true, true)] {
            let (long, short) = both(&segment(v6, stamped, 100));
            assert_eq!(long.ok(), short, "{v6} {stamped}");
            assert!(short.is_some());
        }
    }

    #[test]
    fn the_next_segment_of_a_stream_is_read_like_the_long_way_reads_it() {
        for v6 in [false, true] {
            let before = segment(v6, true, 100);
            let tcp_at = if v6 { 54 } else { 34 };
            let mut next = segment(v6, true, 60);
            for (at, byte) in [(5, 9), (9, 9), (14, 9), (27, 9), (31, 9)] {
                next[tcp_at + at] ^= byte;
            }
            next[tcp_at + 13] ^= 0x08;
            let (long, alike) = behind(&before, &next);
            assert_eq!(long.ok(), alike, "{v6}");
            assert_eq!(alike.map(|header| header.payload_len), Some(60));
        }
        let unverified = HeapBuf::from_frame(&segment(false, true, 10));
        let before = verified(&segment(false, true, 10));
        let mut stats = Stats::default();
        let interfaces = interfaces();
        let interface = interfaces.get(PortId::new(0)).expect("set");
        let header = parse_plain(&before, interface, &mut stats).expect("plain");
        let alike = parse_following(&before, &header, &unverified, &mut stats);
        assert_eq!(alike, None);
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_what_looks_alike_is_what_the_long_way_says(
            v6: bool,
            payload in 0usize..40,
            changes in prop::collection::vec((0usize..100, any::<u8>()), 0..3),
            cut in prop_oneof![4 => Just(0usize), 1 => 0usize..90],
            padding in 0usize..8,
        ) {
            let before = segment(v6, true, 20);
            let mut bytes = segment(v6, true, payload);
            bytes.truncate(bytes.len().saturating_sub(cut));
            bytes.extend(core::iter::repeat_n(0, padding));
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            let (long, alike) = behind(&before, &bytes);
            if let Some(alike) = alike {
                prop_assert_eq!(long, Ok(alike));
            }
        }

        #[test]
        fn whatever_the_bytes_are_the_short_way_agrees_with_the_long_one_or_says_nothing(
            v6: bool,
            stamped: bool,
            payload in 0usize..40,
            changes in prop::collection::vec((0usize..100, any::<u8>()), 0..3),
            cut in prop_oneof![4 => Just(0usize), 1 => 0usize..90],
            padding in 0usize..8,
        ) {
            let mut bytes = segment(v6, stamped, payload);
            bytes.truncate(bytes.len().saturating_sub(cut));
            bytes.extend(core::iter::repeat_n(0, padding));
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            let (long, short) = both(&bytes);
            if let Some(short) = short {
                prop_assert_eq!(long, Ok(short));
            }
        }
    }
}
