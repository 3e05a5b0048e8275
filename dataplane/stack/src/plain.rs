//! The frame that almost every frame is, recognised in one look.
//!
//! An untagged unicast frame, IPv4 without options or IPv6 without extensions, no fragment, TCP, and
//! every checksum right: a few words at fixed places tell. This refuses nothing. A frame that is
//! anything else, wrong ones included, goes the long way (`dispatch.rs`), which looks at everything
//! in Linux's order and names what is wrong. What passes here would pass there, with the same
//! result; a property test holds that.

use millrace_base::{Address, ChecksumStatus, Endpoint, FlowTuple, PacketBuf, SeqNumber};
use millrace_wire::tcp::checksum;
use millrace_wire::{Checksum, TcpFlags, ethernet, ipv4, ipv6, protocol, tcp};

use crate::dispatch::{Carried, TcpFrame, pieces};
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
        carried: Carried::of(options, flags),
        options_at: packet.segment_at.wrapping_add(tcp::HEADER_BYTES) as u16,
        payload_at: packet.segment_at.wrapping_add(header_len) as u16,
        payload_len: payload_len as u32,
    })
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

    /// What the long way and the short way say of a frame.
    fn both(bytes: &[u8]) -> (Result<TcpFrame, String>, Option<TcpFrame>) {
        let (interfaces, frame) = (interfaces(), HeapBuf::from_frame(bytes));
        let port = PortId::new(0);
        let long = match parse(&frame, port, &interfaces, &mut Stats::default()) {
            Parsed::Tcp(header) => Ok(header),
            other @ (Parsed::Icmp(_) | Parsed::Punt(_) | Parsed::Drop(_)) => {
                Err(format!("{other:?}"))
            }
        };
        let interface = interfaces.get(port).expect("set");
        (long, parse_plain(&frame, interface, &mut Stats::default()))
    }

    #[test]
    fn a_plain_segment_is_read_like_the_long_way_reads_it() {
        for (v6, stamped) in [(false, false), (false, true), (true, false), (true, true)] {
            let (long, short) = both(&segment(v6, stamped, 100));
            assert_eq!(long.ok(), short, "{v6} {stamped}");
            assert!(short.is_some());
        }
    }

    proptest! {
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
