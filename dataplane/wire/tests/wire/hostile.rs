//! Whatever arrives, nothing panics, and what a view promises about its bytes holds.

use crate::frames;
use millrace_base::Address;
use millrace_wire::arp::ArpRepr;
use millrace_wire::icmpv4::{Icmpv4Message, Icmpv4View, echo_reply_in_place_v4, quotable_v4};
use millrace_wire::icmpv6::{
    EchoAddresses, Icmpv6Message, Icmpv6View, echo_reply_in_place_v6, quotable_v6,
};
use millrace_wire::nd::{NdOptions, RouterAdvertisement};
use millrace_wire::pretty::Pretty;
use millrace_wire::udp::UdpView;
use millrace_wire::{
    EtherType, EthernetView, IpRepr, IpView, TcpOptions, TcpRepr, TcpView, protocol,
};
use proptest::prelude::*;

const ONE: Address = Address::v6([0xfd; 16]);
const TWO: Address = Address::v6([0xfc; 16]);

/// Asks every parser about the bytes, and every view that results about everything.
fn ask_everything(bytes: &[u8]) {
    if let Ok(frame) = EthernetView::parse(bytes) {
        let payload = frame.payload();
        assert_eq!(frame.header_len() + payload.len(), bytes.len());
        assert!(matches!(frame.header_len(), 14 | 18 | 22));
        assert_eq!(frame.vlan().is_some(), frame.header_len() > 14);
        ask_ip(payload);
    }
    ask_ip(bytes);
    ask_upper(bytes);
    let line = Pretty(bytes).to_string();
    assert!(!line.is_empty() && !line.contains('\n'));
}

fn ask_ip(bytes: &[u8]) {
    for family in [EtherType::IPV4, EtherType::IPV6] {
        for available in [bytes.len(), usize::MAX] {
            let packet = IpView::parse(family, bytes, available).expect("an IP family");
            let Ok(packet) = packet else { continue };
            assert!(packet.header_len() <= packet.total_len());
            assert_eq!(
                packet.header_len() + packet.payload_len(),
                packet.total_len()
            );
            assert!(packet.payload().len() <= packet.payload_len());
            assert_eq!(packet.source().is_v4(), packet.is_v4());
            assert_eq!(packet.destination().is_v4(), packet.is_v4());
            if available == bytes.len() {
                assert_eq!(packet.payload().len(), packet.payload_len());
            }
            let _ = (
                packet.header_checksum_ok(),
                packet.hop_limit(),
                packet.traffic_class(),
            );
            ask_upper(packet.payload());
        }
    }
}

fn ask_upper(bytes: &[u8]) {
    if let Ok(segment) = TcpView::parse(bytes) {
        let repr = TcpRepr::parse(&segment);
        assert_eq!(segment.header_len() + segment.payload().len(), bytes.len());
        assert_eq!(segment.option_bytes().len() + 20, segment.header_len());
        assert!(repr.options.window_scale.unwrap_or(0) <= 14);
        assert_ne!(repr.options.mss, Some(0));
        // What was read is never longer when it is written, but for padding.
        assert!(repr.options.layout(true).encoded_len() <= segment.option_bytes().len() + 20);
    }
    for syn in [false, true] {
        let options = TcpOptions::parse(bytes, syn);
        assert!(syn || options.mss.is_none() && options.fastopen.is_none());
    }
    if let Ok(datagram) = UdpView::parse(bytes) {
        assert_eq!(datagram.payload().len() + 8, datagram.length());
        let _ = datagram.checksum_ok(ONE, TWO);
    }
    if let Ok(view) = Icmpv4View::parse(bytes) {
        assert_eq!(view.payload().len() + 8, bytes.len());
        assert_eq!(view.message().len_bytes(), bytes.len());
        assert_eq!(view.checksum_ok(), Icmpv4Message::parse(bytes).is_ok());
    }
    if let Ok(view) = Icmpv6View::parse(bytes) {
        assert_eq!(view.payload().len() + 8, bytes.len());
        let good = view.checksum_ok(ONE, TWO) && view.message().is_ok();
        assert_eq!(good, Icmpv6Message::parse(bytes, ONE, TWO).is_ok());
        if let Ok(Icmpv6Message::NeighborSolicitation(nd)) = view.message() {
            assert!(!nd.target.is_multicast() && !nd.target.is_v4());
            let _ = nd.validate(255, ONE, TWO);
        }
    }
    if let Ok(router) = RouterAdvertisement::parse(bytes) {
        assert!(router.options.iter().count() <= bytes.len() / 8);
    }
    if let Ok(options) = NdOptions::parse(bytes) {
        assert!(options.iter().count() <= bytes.len() / 8);
        assert_eq!(options.iter().count() == 0, bytes.is_empty());
    }
    if let Ok(arp) = ArpRepr::parse(bytes) {
        let mut written = [0; 28];
        assert_eq!(arp.emit(&mut written), Some(28));
        // The hardware type is the one field that has two spellings.
        assert_eq!(written[2..], bytes[2..28]);
    }
    let mut copy = bytes.to_vec();
    if echo_reply_in_place_v4(&mut copy).is_none() {
        assert_eq!(copy, bytes);
    }
    let mut copy = bytes.to_vec();
    let addresses = EchoAddresses {
        asked: ONE,
        answering: TWO,
    };
    if echo_reply_in_place_v6(&mut copy, addresses).is_none() {
        assert_eq!(copy, bytes);
    }
    assert!(bytes.starts_with(quotable_v4(bytes)) && bytes.starts_with(quotable_v6(bytes)));
}

#[test]
fn every_truncation_of_a_known_frame_is_survived() {
    for known in frames::ALL {
        let bytes = known.bytes();
        for length in 0..=bytes.len() {
            ask_everything(&bytes[..length]);
        }
    }
}

// One byte of a good frame set to every value reaches the branches that noise does not.
#[test]
fn every_byte_of_a_known_frame_may_be_anything() {
    for known in frames::ALL {
        let mut bytes = known.bytes();
        for position in 0..bytes.len() {
            let before = bytes[position];
            for value in 0..=255 {
                bytes[position] = value;
                ask_everything(&bytes);
            }
            bytes[position] = before;
        }
    }
}

proptest! {
    #[test]
    fn noise_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        ask_everything(&bytes);
    }

    #[test]
    fn noise_behind_a_good_ip_header_is_survived(
        v6: bool,
        protocol in prop::sample::select(vec![
            protocol::HOP_BY_HOP, protocol::ICMPV4, protocol::TCP, protocol::UDP,
            protocol::ROUTING, protocol::FRAGMENT, protocol::ICMPV6,
            protocol::DESTINATION_OPTIONS,
        ]),
        noise in prop::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..160),
    ) {
        let (source, destination) = if v6 {
            (ONE, TWO)
        } else {
            (Address::v4([192, 0, 2, 1]), Address::v4([192, 0, 2, 2]))
        };
        let repr = IpRepr {
            source, destination, protocol, hop_limit: 64, traffic_class: 0, dont_fragment: true,
            identification: 1, payload_len: noise.len() as u16,
        };
        let mut frame = vec![0; 14 + repr.header_len()];
        frame[12..14].copy_from_slice(&repr.ether_type().0.to_be_bytes());
        repr.emit(&mut frame[14..], false).expect("room");
        frame.extend_from_slice(&noise);
        ask_everything(&frame);
    }

    // Small kinds and lengths make option lists that go on for a while.
    #[test]
    fn option_noise_is_survived(bytes in prop::collection::vec(0u8..36, 0..=40)) {
        ask_upper(&bytes);
        let mut segment = vec![0; 20];
        let padded = bytes.len().next_multiple_of(4);
        segment[12] = ((20 + padded) as u8 / 4) << 4;
        segment[13] = 2;
        segment.extend_from_slice(&bytes);
        segment.resize(20 + padded, 0);
        ask_upper(&segment);
    }
}
