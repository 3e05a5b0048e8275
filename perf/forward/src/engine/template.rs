//! The headers of the frames that `txonly` and `flowgen` make: UDP over IPv4 between addresses of
//! the range for benchmarks (RFC 2544 appendix C.2.2), to the discard port.
//!
//! ```text
//!   | Ethernet 14 | IPv4 20: 198.18.0.1 -> 198.19.F.F | UDP 8: 9 -> 9 | what the buffer held |
//! ```
//!
//! F.F is the flow's number. Only the headers are written, as in testpmd: the payload is whatever
//! the buffer held before (zeros, or an earlier frame of this process), and the UDP checksum says
//! "none".

use millrace_base::{Address, HEADROOM_BYTES_DEFAULT, PacketBuf};
use millrace_wire::{EtherType, checksum, ethernet, ipv4, protocol, udp};

use crate::stream::StreamPlace;

/// The shortest frame that holds the headers, bytes.
pub const FRAME_BYTES_MIN: usize =
    ethernet::HEADER_BYTES + ipv4::HEADER_BYTES + udp::UDP_HEADER_BYTES;

const SOURCE: Address = Address::v4([198, 18, 0, 1]);
const DESTINATION: Address = Address::v4([198, 19, 0, 0]);
/// RFC 863.
const DISCARD_PORT: u16 = 9;
const TTL: u8 = 64;
const IP_CHECKSUM: usize = ethernet::HEADER_BYTES + 10;
const FLOW: usize = ethernet::HEADER_BYTES + 18;

/// Headers to be copied into frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    headers: [u8; FRAME_BYTES_MIN],
    /// The IPv4 header checksum of flow 0.
    ip_checksum: u16,
    frame_bytes: usize,
}

impl Template {
    /// Headers for frames of `frame_bytes`, which is raised to [`FRAME_BYTES_MIN`] and cut to what
    /// IPv4 can express.
    pub(super) fn new(place: &StreamPlace, frame_bytes: usize) -> Self {
        let longest = ethernet::HEADER_BYTES.saturating_add(usize::from(u16::MAX));
        let frame_bytes = frame_bytes.clamp(FRAME_BYTES_MIN, longest);
        let mut headers = [0; FRAME_BYTES_MIN];
        let _emitted = ethernet::emit(&mut headers, place.peer_mac, place.tx_mac, EtherType::IPV4);
        let before_udp = ethernet::HEADER_BYTES.saturating_add(ipv4::HEADER_BYTES);
        let udp_len = frame_bytes.saturating_sub(before_udp);
        let udp_len = u16::try_from(udp_len).unwrap_or(u16::MAX);
        let ip = ipv4::Ipv4Repr {
            source: SOURCE,
            destination: DESTINATION,
            protocol: protocol::UDP,
            ttl: TTL,
            tos: 0,
            identification: 0,
            dont_fragment: false,
            payload_len: udp_len,
        };
        let (_, packet) = headers.split_at_mut(ethernet::HEADER_BYTES);
        let _emitted = ip.emit(packet, false);
        let [p0, p1] = DISCARD_PORT.to_be_bytes();
        let [l0, l1] = udp_len.to_be_bytes();
        let (_, datagram) = packet.split_at_mut(ipv4::HEADER_BYTES);
        datagram.copy_from_slice(&[p0, p1, p0, p1, l0, l1, 0, 0]);
        let ip_checksum = match headers.get(IP_CHECKSUM..) {
            Some([high, low, ..]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        Self {
            headers,
            ip_checksum,
            frame_bytes,
        }
    }

    /// Makes an empty buffer a frame of this flow. The buffer has room: the frame's length was
    /// checked against the pool when the forwarder was set up.
    #[inline]
    pub(super) fn write(&self, frame: &mut impl PacketBuf, flow: u16) {
        if !frame.set_span(HEADROOM_BYTES_DEFAULT, self.frame_bytes) {
            return;
        }
        let Some(headers) = frame
            .bytes_mut()
            .and_then(<[u8]>::first_chunk_mut::<FRAME_BYTES_MIN>)
        else {
            return;
        };
        *headers = self.headers;
        let ip_checksum = checksum::update_u16(self.ip_checksum, 0, flow);
        let mut put = |at: usize, value: u16| {
            if let Some(field) = headers.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *field = value.to_be_bytes();
            }
        };
        put(IP_CHECKSUM, ip_checksum);
        put(FLOW, flow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{HeapPool, MacAddress, PacketPool};
    use millrace_wire::{EthernetView, ipv4::Ipv4View, udp::UdpView};

    fn place() -> StreamPlace {
        StreamPlace {
            rx_port: 0,
            tx_port: 0,
            queue: 0,
            tx_mac: MacAddress::new([2, 0, 0, 0, 0, 1]),
            peer_mac: MacAddress::new([2, 0, 0, 0, 0, 2]),
        }
    }

    #[test]
    fn frames_parse_and_their_checksums_are_right_for_every_flow() {
        let mut pool = HeapPool::new(1, 2_048);
        for (bytes, flow) in [(42, 0), (64, 1), (64, 0xffff), (1_514, 0x8000)] {
            let mut frame = pool.alloc().expect("free buffer");
            Template::new(&place(), bytes).write(&mut frame, flow);
            assert_eq!(frame.frame_len(), bytes);
            let ethernet = EthernetView::parse(frame.bytes()).expect("Ethernet");
            assert_eq!(ethernet.destination(), place().peer_mac);
            assert_eq!(ethernet.source(), place().tx_mac);
            let payload = ethernet.payload();
            let ip = Ipv4View::parse(payload, payload.len()).expect("IPv4");
            assert!(ip.checksum_ok(), "flow {flow}");
            assert_eq!(ip.total_len(), bytes - 14);
            let [high, low] = flow.to_be_bytes();
            assert_eq!(ip.destination(), Address::v4([198, 19, high, low]));
            let udp = UdpView::parse(ip.payload()).expect("UDP");
            assert_eq!((udp.destination_port(), udp.length()), (9, bytes - 34));
        }
    }
}
