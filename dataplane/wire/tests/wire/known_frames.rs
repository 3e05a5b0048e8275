//! Known answers: frames written by hand are read to their meaning, and the meaning is written back
//! to the same bytes.

use crate::frames::{self, Known};
use millrace_base::{Address, MacAddress, SeqNumber};
use millrace_wire::arp::{ArpOperation, ArpRepr};
use millrace_wire::icmpv4::{Icmpv4Message, unreachable_v4};
use millrace_wire::icmpv6::Icmpv6Message;
use millrace_wire::nd::{NeighborAdvertisement, NeighborSolicitation};
use millrace_wire::pretty::Pretty;
use millrace_wire::udp::UdpView;
use millrace_wire::{
    EtherType, EthernetView, IpRepr, IpView, TcpFlags, TcpOptions, TcpRepr, TcpView, Timestamps,
    ethernet, protocol, tcp,
};

const V4_ONE: Address = Address::v4([192, 0, 2, 1]);
const V4_TWO: Address = Address::v4([192, 0, 2, 2]);
const MAC_ONE: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
const MAC_TWO: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);

/// Runs `check` with the IP packet of a frame whose header checksum is right.
fn with_ip(known: &Known, check: impl FnOnce(&IpView<'_>)) {
    let bytes = known.bytes();
    let frame = EthernetView::parse(&bytes).expect("an Ethernet frame");
    let payload = frame.payload();
    let packet = IpView::parse(frame.ether_type(), payload, payload.len())
        .expect("an IP packet")
        .expect("well formed");
    assert!(packet.header_checksum_ok());
    check(&packet);
}

/// Writes a whole frame with a TCP segment that has no data.
fn emit_tcp(ip: &IpRepr, segment: &TcpRepr, from: MacAddress, to: MacAddress) -> Vec<u8> {
    let len = segment.header_len();
    let mut bytes = vec![0xee; ethernet::HEADER_BYTES + ip.header_len() + len];
    ethernet::emit(&mut bytes, to, from, ip.ether_type()).expect("room");
    let packet = &mut bytes[ethernet::HEADER_BYTES..];
    let header_len = ip.emit(packet, false).expect("room");
    let header = &mut packet[header_len..];
    assert_eq!(segment.emit(header), Some(len));
    let data = std::iter::empty();
    tcp::checksum::fill(ip.source, ip.destination, header, data, len as u32).expect("room");
    bytes
}

fn check_tcp(known: &Known, ip: &IpRepr, segment: &TcpRepr, from: MacAddress, to: MacAddress) {
    with_ip(known, |packet| {
        assert_eq!(packet.protocol(), protocol::TCP);
        assert_eq!(
            (packet.source(), packet.destination()),
            (ip.source, ip.destination)
        );
        let bytes = packet.payload();
        let view = TcpView::parse(bytes).expect("a segment");
        assert_eq!(TcpRepr::parse(&view), *segment);
        let pieces = bytes.chunks(7);
        let len = bytes.len() as u32;
        assert!(tcp::checksum::verify(
            ip.source,
            ip.destination,
            len,
            pieces
        ));
    });
    assert_eq!(emit_tcp(ip, segment, from, to), known.bytes());
}

#[test]
fn every_known_frame_is_described_in_the_words_of_tcpdump() {
    for known in frames::ALL {
        assert_eq!(Pretty(&known.bytes()).to_string(), known.line);
    }
}

// The option order and padding of Linux's tcp_options_write.
// behaviour: A4-12, IPO-5, IPO-8, IPO-11, IPO-18, OPT-1, SND-38
#[test]
fn a_syn_of_linux_is_read_and_written_byte_for_byte() {
    let ip = IpRepr {
        source: V4_ONE,
        destination: V4_TWO,
        protocol: protocol::TCP,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        identification: 0x1234,
        payload_len: 40,
    };
    let syn = TcpRepr {
        source_port: 40_000,
        destination_port: 80,
        seq: SeqNumber::new(0x0102_0304),
        ack: SeqNumber::new(0),
        flags: TcpFlags::SYN,
        window: 64_240,
        urgent: 0,
        options: TcpOptions {
            mss: Some(1_460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps {
                value: 0x1000,
                echo: 0,
            }),
            ..TcpOptions::default()
        },
    };
    check_tcp(&frames::SYN_V4, &ip, &syn, MAC_ONE, MAC_TWO);
}

#[test]
fn a_syn_ack_of_linux_over_ipv6_is_read_and_written_byte_for_byte() {
    let mut two = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let source = Address::v6(two);
    two[15] = 1;
    let ip = IpRepr {
        source,
        destination: Address::v6(two),
        protocol: protocol::TCP,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        identification: 0,
        payload_len: 40,
    };
    let syn_ack = TcpRepr {
        source_port: 80,
        destination_port: 40_000,
        seq: SeqNumber::new(0x0a0b_0c0d),
        ack: SeqNumber::new(0x0102_0305),
        flags: TcpFlags::SYN | TcpFlags::ACK,
        window: 65_160,
        urgent: 0,
        options: TcpOptions {
            mss: Some(1_440),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps {
                value: 0x2000,
                echo: 0x1000,
            }),
            ..TcpOptions::default()
        },
    };
    check_tcp(&frames::SYN_ACK_V6, &ip, &syn_ack, MAC_TWO, MAC_ONE);
}

// RFC 2018 section 3 and Linux's tcp_options_write: timestamps first, SACK behind two NOPs.
#[test]
fn an_ack_with_two_sack_blocks_is_read_and_written_byte_for_byte() {
    let mut options = TcpOptions {
        timestamps: Some(Timestamps { value: 9, echo: 8 }),
        ..TcpOptions::default()
    };
    for (start, end) in [(6_449, 7_897), (9_345, 10_793)] {
        assert!(
            options
                .sack
                .push(SeqNumber::new(start), SeqNumber::new(end))
        );
    }
    let ip = IpRepr {
        source: V4_ONE,
        destination: V4_TWO,
        protocol: protocol::TCP,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        identification: 0x1234,
        payload_len: 52,
    };
    let ack = TcpRepr {
        source_port: 40_000,
        destination_port: 80,
        seq: SeqNumber::new(1_001),
        ack: SeqNumber::new(5_001),
        flags: TcpFlags::ACK,
        window: 501,
        urgent: 0,
        options,
    };
    check_tcp(&frames::SACK_V4, &ip, &ack, MAC_ONE, MAC_TWO);
}

// behaviour: ARP-13
#[test]
fn an_arp_request_is_read_and_written_byte_for_byte() {
    let bytes = frames::ARP_REQUEST.bytes();
    let frame = EthernetView::parse(&bytes).expect("an Ethernet frame");
    assert_eq!(frame.ether_type(), EtherType::ARP);
    assert_eq!(frame.destination(), MacAddress::BROADCAST);
    let request = ArpRepr {
        operation: ArpOperation::Request,
        sender_mac: MAC_TWO,
        sender_ip: V4_TWO,
        target_mac: MacAddress::ZERO,
        target_ip: V4_ONE,
    };
    assert_eq!(ArpRepr::parse(frame.payload()), Ok(request));
    let mut written = [0; 42];
    ethernet::emit(&mut written, MacAddress::BROADCAST, MAC_TWO, EtherType::ARP).expect("room");
    request.emit(&mut written[14..]).expect("room");
    assert_eq!(written, bytes[..]);
}

#[test]
fn echo_requests_of_both_families_are_understood() {
    with_ip(&frames::ECHO_V4, |packet| {
        let echo = Icmpv4Message::EchoRequest {
            ident: 0x1234,
            sequence: 1,
            data: b"hi",
        };
        assert_eq!(Icmpv4Message::parse(packet.payload()), Ok(echo));
    });
    with_ip(&frames::ECHO_V6, |packet| {
        let (source, destination) = (packet.source(), packet.destination());
        let echo = Icmpv6Message::EchoRequest {
            ident: 0x1234,
            sequence: 1,
            data: b"hi",
        };
        let read = Icmpv6Message::parse(packet.payload(), source, destination);
        assert_eq!(read, Ok(echo));
    });
}

#[test]
fn a_question_and_its_answer_pass_the_rules_of_neighbour_discovery() {
    with_ip(&frames::SOLICITATION, |packet| {
        let (source, destination) = (packet.source(), packet.destination());
        let nd = NeighborSolicitation::parse(packet.payload()).expect("well formed");
        assert_eq!(nd.validate(packet.hop_limit(), source, destination), Ok(()));
        assert_eq!(nd.target.solicited_node(), destination);
        assert_eq!(nd.source_mac, Some(MAC_ONE));
        let mut written = [0; 32];
        assert_eq!(nd.emit(source, destination, &mut written), Some(32));
        assert_eq!(written, packet.payload());
    });
    with_ip(&frames::ADVERTISEMENT, |packet| {
        let (source, destination) = (packet.source(), packet.destination());
        let nd = NeighborAdvertisement::parse(packet.payload()).expect("well formed");
        assert_eq!(nd.validate(packet.hop_limit(), source, destination), Ok(()));
        assert_eq!((nd.target, nd.target_mac), (source, Some(MAC_TWO)));
        let mut written = [0; 32];
        assert_eq!(nd.emit(source, destination, &mut written), Some(32));
        assert_eq!(written, packet.payload());
    });
}

// RFC 1191 section 4; RFC 792 promises only 8 bytes behind the quoted header.
#[test]
fn fragmentation_needed_leads_back_to_the_connection() {
    with_ip(&frames::FRAGMENTATION_NEEDED, |packet| {
        let message = Icmpv4Message::parse(packet.payload()).expect("well formed");
        let Icmpv4Message::DestinationUnreachable { code, mtu, quoted } = message else {
            panic!("not an unreachable: {message:?}");
        };
        assert_eq!((code, mtu), (unreachable_v4::FRAGMENTATION_NEEDED, 1_300));
        let inner = IpView::parse(EtherType::IPV4, quoted, usize::MAX)
            .expect("IPv4")
            .expect("cut short but well formed");
        assert_eq!((inner.source(), inner.destination()), (V4_TWO, V4_ONE));
        assert_eq!(inner.payload(), [0, 80, 0x9c, 0x40, 0, 0, 0, 1]);
    });
}

#[test]
fn a_datagram_behind_a_vlan_tag_is_understood() {
    let bytes = frames::UDP_IN_VLAN.bytes();
    assert_eq!(
        EthernetView::parse(&bytes).expect("a frame").vlan(),
        Some(5)
    );
    with_ip(&frames::UDP_IN_VLAN, |packet| {
        let udp = UdpView::parse(packet.payload()).expect("well formed");
        assert_eq!((udp.source_port(), udp.destination_port()), (53, 4_096));
        assert!(udp.checksum_ok(V4_ONE, V4_TWO));
        assert_eq!(udp.payload(), b"hi");
    });
}
