//! Parsing what was emitted gives the meaning back, for every protocol.
//!
//! Buffers start full of 0xee, so a byte that an emitter forgets to write shows.

use millrace_base::{Address, MacAddress, SeqNumber};
use millrace_wire::arp::{ArpOperation, ArpRepr};
use millrace_wire::icmpv4::{Icmpv4Message, Icmpv4View, echo_reply_in_place_v4, quotable_v4};
use millrace_wire::icmpv6::{
    EchoAddresses, Icmpv6Message, Icmpv6View, echo_reply_in_place_v6, quotable_v6,
};
use millrace_wire::ipv4::{Ipv4Repr, Ipv4View};
use millrace_wire::ipv6::{Ipv6Repr, Ipv6View};
use millrace_wire::nd::{
    NdOptions, NeighborAdvertisement, NeighborSolicitation, RouterAdvertisement, RouterSolicitation,
};
use millrace_wire::tcp::{
    ACCECN_COUNTERS_MAX, AccEcn, FastOpenCookie, OPTIONS_BYTES_MAX, SACK_BLOCKS_MAX,
};
use millrace_wire::{
    EtherType, EthernetView, IpRepr, IpView, SackBlocks, TcpFlags, TcpOptions, TcpRepr, TcpView,
    Timestamps, ethernet, tcp,
};
use proptest::prelude::*;

fn v4() -> impl Strategy<Value = Address> {
    any::<[u8; 4]>().prop_map(Address::v4)
}

fn v6() -> impl Strategy<Value = Address> {
    any::<[u8; 16]>()
        .prop_map(Address::v6)
        .prop_filter("the mapped range is IPv4", |address| !address.is_v4())
}

fn unicast_v6() -> impl Strategy<Value = Address> {
    v6().prop_filter("not multicast", |address| !address.is_multicast())
}

fn mac() -> impl Strategy<Value = MacAddress> {
    any::<[u8; 6]>().prop_map(MacAddress::new)
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..600)
}

fn cookie() -> impl Strategy<Value = FastOpenCookie> {
    let bytes = prop::collection::vec(any::<u8>(), 2..=8);
    prop_oneof![
        Just(FastOpenCookie::default()),
        bytes.prop_map(|half| FastOpenCookie::new(&[half.clone(), half].concat()).expect("short")),
    ]
}

fn sack() -> impl Strategy<Value = SackBlocks> {
    prop::collection::vec(any::<(u32, u32)>(), 0..=SACK_BLOCKS_MAX).prop_map(|blocks| {
        let mut sack = SackBlocks::NONE;
        for (start, end) in blocks {
            assert!(sack.push(SeqNumber::new(start), SeqNumber::new(end)));
        }
        sack
    })
}

fn accecn() -> impl Strategy<Value = AccEcn> {
    let counters = prop::collection::vec(0u32..1 << 24, 0..=ACCECN_COUNTERS_MAX);
    (any::<bool>(), counters).prop_map(|(order_1, counters)| AccEcn::new(order_1, &counters))
}

/// Options that fit a header; in a SYN all of them, outside it those that mean something there.
fn options(syn: bool) -> impl Strategy<Value = TcpOptions> {
    let in_syn = move |value| if syn { value } else { None };
    let stamps = any::<(u32, u32)>().prop_map(|(value, echo)| Timestamps { value, echo });
    (
        prop::option::of(1u16..),
        prop::option::of(0u8..=14),
        any::<bool>(),
        prop::option::of(stamps),
        sack(),
        prop::option::of(cookie()),
        any::<bool>(),
        prop::option::of(accecn()),
    )
        .prop_map(
            move |(mss, scale, permitted, timestamps, sack, fastopen, md5, accecn)| TcpOptions {
                mss: if syn { mss } else { None },
                window_scale: in_syn(scale),
                sack_permitted: syn && permitted,
                timestamps,
                sack,
                fastopen: if syn { fastopen } else { None },
                md5,
                accecn,
            },
        )
        .prop_filter("fits a header", |options| {
            options.layout(true).encoded_len() <= OPTIONS_BYTES_MAX
        })
}

fn segment() -> impl Strategy<Value = TcpRepr> {
    (0u16..0x200)
        .prop_map(TcpFlags::from_bits)
        .prop_flat_map(|flags| {
            (
                Just(flags),
                options(flags.syn()),
                any::<[u16; 4]>(),
                any::<[u32; 2]>(),
            )
        })
        .prop_map(
            |(flags, options, [from, to, window, urgent], [seq, ack])| TcpRepr {
                source_port: from,
                destination_port: to,
                seq: SeqNumber::new(seq),
                ack: SeqNumber::new(ack),
                flags,
                window,
                urgent,
                options,
            },
        )
}

proptest! {
    #[test]
    fn ethernet_headers_return(to in mac(), from in mac(), kind in 0u16..) {
        let kind = EtherType(kind);
        prop_assume!(kind != EtherType::VLAN && kind != EtherType::SERVICE_VLAN);
        let mut bytes = [0xee; 20];
        prop_assert_eq!(ethernet::emit(&mut bytes, to, from, kind), Some(14));
        let view = EthernetView::parse(&bytes).expect("well formed");
        prop_assert_eq!((view.destination(), view.source()), (to, from));
        prop_assert_eq!((view.ether_type(), view.vlan()), (kind, None));
        prop_assert_eq!(view.payload(), [0xee; 6]);
        prop_assert_eq!(ethernet::emit(&mut bytes[..13], to, from, kind), None);
    }

    #[test]
    fn arp_returns(reply: bool, macs in (mac(), mac()), ips in (v4(), v4())) {
        let repr = ArpRepr {
            operation: if reply { ArpOperation::Reply } else { ArpOperation::Request },
            sender_mac: macs.0,
            sender_ip: ips.0,
            target_mac: macs.1,
            target_ip: ips.1,
        };
        let mut bytes = [0xee; 46];
        prop_assert_eq!(repr.emit(&mut bytes), Some(28));
        prop_assert_eq!(ArpRepr::parse(&bytes), Ok(repr));
    }

    #[test]
    fn ipv4_headers_return(
        addresses in (v4(), v4()),
        bytes in any::<[u8; 3]>(),
        identification: u16,
        dont_fragment: bool,
        payload_len in 0u16..=65_515,
    ) {
        let [protocol, ttl, tos] = bytes;
        let (source, destination) = addresses;
        let repr = Ipv4Repr {
            source, destination, protocol, ttl, tos, identification, dont_fragment, payload_len,
        };
        let mut packet = [0xee; 24];
        prop_assert_eq!(repr.emit(&mut packet, false), Some(20));
        let view = Ipv4View::parse(&packet, 65_535).expect("well formed");
        prop_assert!(view.checksum_ok());
        prop_assert_eq!(view.payload().len(), usize::from(payload_len).min(4));
        prop_assert_eq!(Ipv4Repr::parse(&view), repr);
        prop_assert_eq!(repr.emit(&mut packet[..19], false), None);
        repr.emit(&mut packet, true).expect("room");
        prop_assert_eq!(&packet[10..12], &[0, 0]);
    }

    #[test]
    fn ipv6_headers_return(
        addresses in (v6(), v6()),
        bytes in any::<[u8; 3]>(),
        flow_label in 0u32..0x10_0000,
        payload_len: u16,
    ) {
        let [next_header, hop_limit, traffic_class] = bytes;
        let (source, destination) = addresses;
        let repr = Ipv6Repr {
            source, destination, next_header, hop_limit, traffic_class, flow_label, payload_len,
        };
        let mut packet = [0xee; 44];
        prop_assert_eq!(repr.emit(&mut packet), Some(40));
        let view = Ipv6View::parse(&packet, 65_575).expect("well formed");
        prop_assert_eq!(Ipv6Repr::parse(&view), repr);
        prop_assert_eq!(repr.emit(&mut packet[..39]), None);
    }

    // The one type for both families says what the two say.
    #[test]
    fn ip_headers_of_either_family_return(
        addresses in prop_oneof![(v4(), v4()), (v6(), v6())],
        bytes in any::<[u8; 2]>(),
        dont_fragment: bool,
        identification: u16,
        payload_len in 0u16..1_400,
    ) {
        let (source, destination) = addresses;
        let [hop_limit, traffic_class] = bytes;
        let repr = IpRepr {
            source, destination, protocol: 6, hop_limit, traffic_class, dont_fragment,
            identification, payload_len,
        };
        let mut packet = [0xee; 1_500];
        let header_len = repr.emit(&mut packet, false).expect("room");
        prop_assert_eq!(header_len, repr.header_len());
        let view = IpView::parse(repr.ether_type(), &packet, 1_500).expect("IP").expect("valid");
        prop_assert!(view.header_checksum_ok());
        prop_assert_eq!((view.source(), view.destination()), (source, destination));
        prop_assert_eq!((view.hop_limit(), view.traffic_class()), (hop_limit, traffic_class));
        prop_assert_eq!((view.protocol(), view.fragment()), (6, None));
        prop_assert_eq!(view.header_len(), header_len);
        prop_assert_eq!(view.payload_len(), usize::from(payload_len));
        prop_assert_eq!(view.payload().len(), usize::from(payload_len));
    }

    // MUST-4 to MUST-7 of RFC 9293: options of any combination that fits survive.
    // behaviour: OPT-1, OPT-2
    #[test]
    fn tcp_segments_return(
        repr in segment(),
        body in data(),
        ips in prop_oneof![(v4(), v4()), (v6(), v6())],
    ) {
        let header_len = repr.header_len();
        let mut bytes = vec![0xee; header_len];
        prop_assert_eq!(repr.emit(&mut bytes), Some(header_len));
        prop_assert_eq!(header_len % 4, 0);
        let len = (header_len + body.len()) as u32;
        let (from, to) = ips;
        tcp::checksum::fill(from, to, &mut bytes, body.chunks(3), len).expect("room");
        bytes.extend_from_slice(&body);
        let view = TcpView::parse(&bytes).expect("well formed");
        prop_assert_eq!(TcpRepr::parse(&view), repr);
        prop_assert_eq!(view.payload(), &body[..]);
        prop_assert!(tcp::checksum::verify(from, to, len, bytes.chunks(5)));
        prop_assert_eq!(repr.emit(&mut bytes[..header_len - 1]), None);
    }

    #[test]
    fn icmpv4_messages_return(
        words in any::<[u16; 2]>(),
        code: u8,
        gateway in v4(),
        body in data(),
    ) {
        let ([ident, sequence], data) = (words, &body[..]);
        let messages = [
            Icmpv4Message::EchoRequest { ident, sequence, data },
            Icmpv4Message::EchoReply { ident, sequence, data },
            Icmpv4Message::DestinationUnreachable { code, mtu: ident, quoted: data },
            Icmpv4Message::Redirect { code, gateway, quoted: data },
            Icmpv4Message::TimeExceeded { code, quoted: data },
            Icmpv4Message::ParameterProblem { code, pointer: code, quoted: data },
            Icmpv4Message::Other { kind: 13, code, rest_of_header: [code; 4], data },
        ];
        for message in messages {
            let mut bytes = vec![0xee; message.len_bytes() + 3];
            let written = message.emit(&mut bytes).expect("room");
            prop_assert_eq!(Icmpv4Message::parse(&bytes[..written]), Ok(message));
            prop_assert_eq!(message.emit(&mut bytes[..written - 1]), None);
        }
    }

    #[test]
    fn icmpv6_messages_return(
        ips in (v6(), v6()),
        words in any::<[u16; 2]>(),
        code: u8,
        mtu: u32,
        body in data(),
    ) {
        let ([ident, sequence], data, (source, destination)) = (words, &body[..], ips);
        let messages = [
            Icmpv6Message::EchoRequest { ident, sequence, data },
            Icmpv6Message::EchoReply { ident, sequence, data },
            Icmpv6Message::DestinationUnreachable { code, quoted: data },
            Icmpv6Message::PacketTooBig { mtu, quoted: data },
            Icmpv6Message::TimeExceeded { code, quoted: data },
            Icmpv6Message::ParameterProblem { code, pointer: mtu, quoted: data },
            Icmpv6Message::Other { kind: 143, code, rest_of_header: [code; 4], data },
        ];
        for message in messages {
            let mut bytes = vec![0xee; 700];
            let written = message.emit(source, destination, &mut bytes).expect("room");
            let read = Icmpv6Message::parse(&bytes[..written], source, destination);
            prop_assert_eq!(read, Ok(message));
            prop_assert_eq!(message.emit(source, destination, &mut bytes[..written - 1]), None);
        }
    }

    #[test]
    fn neighbour_discovery_returns(
        ips in (v6(), v6()),
        target in unicast_v6(),
        mac in prop::option::of(mac()),
        flags in any::<[bool; 3]>(),
        numbers in any::<(u8, u16, u32, u32)>(),
        options in prop::collection::vec((6u8.., any::<[u8; 14]>(), 1usize..=2), 0..4),
    ) {
        let [router, solicited, override_cached] = flags;
        let (hop_limit, router_lifetime_s, reachable_time_ms, retrans_timer_ms) = numbers;
        let mut option_bytes = Vec::new();
        for (kind, body, units) in options {
            option_bytes.extend_from_slice(&[kind, units as u8]);
            option_bytes.extend_from_slice(&body[..units * 8 - 2]);
        }
        let messages = [
            Icmpv6Message::NeighborSolicitation(NeighborSolicitation { target, source_mac: mac }),
            Icmpv6Message::NeighborAdvertisement(NeighborAdvertisement {
                target, target_mac: mac, router, solicited, override_cached,
            }),
            Icmpv6Message::RouterSolicitation(RouterSolicitation { source_mac: mac }),
            Icmpv6Message::RouterAdvertisement(RouterAdvertisement {
                hop_limit,
                managed: router,
                other_config: solicited,
                router_lifetime_s,
                reachable_time_ms,
                retrans_timer_ms,
                options: NdOptions::parse(&option_bytes).expect("well formed"),
            }),
        ];
        for message in messages {
            let mut bytes = [0xee; 100];
            let written = message.emit(ips.0, ips.1, &mut bytes).expect("room");
            let read = Icmpv6Message::parse(&bytes[..written], ips.0, ips.1);
            prop_assert_eq!(read, Ok(message));
            prop_assert_eq!(message.emit(ips.0, ips.1, &mut bytes[..written - 1]), None);
        }
    }

    // RFC 1624: the checksum mended in place is that of the reply.
    #[test]
    fn echo_replies_made_in_place_verify(
        words in any::<[u16; 2]>(),
        body in data(),
        asker in v6(),
        asked in v6(),
        answering in v6(),
    ) {
        let ([ident, sequence], data) = (words, &body[..]);
        let mut bytes = vec![0; body.len() + 8];
        Icmpv4Message::EchoRequest { ident, sequence, data }.emit(&mut bytes).expect("room");
        prop_assert_eq!(echo_reply_in_place_v4(&mut bytes), Some(()));
        let reply = Icmpv4Message::EchoReply { ident, sequence, data };
        prop_assert_eq!(Icmpv4Message::parse(&bytes), Ok(reply));
        let request = Icmpv6Message::EchoRequest { ident, sequence, data };
        request.emit(asker, asked, &mut bytes).expect("room");
        let addresses = EchoAddresses { asked, answering };
        prop_assert_eq!(echo_reply_in_place_v6(&mut bytes, addresses), Some(()));
        let reply = Icmpv6Message::EchoReply { ident, sequence, data };
        prop_assert_eq!(Icmpv6Message::parse(&bytes, answering, asker), Ok(reply));
    }

    // RFC 1624: a request that was damaged on the way stays damaged.
    #[test]
    fn echo_replies_made_in_place_do_not_heal_damage(
        body in data(),
        at: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let ips = (Address::v6([0xfd; 16]), Address::v6([0xfc; 16]));
        let mut bytes = vec![0; body.len() + 8];
        let request = Icmpv4Message::EchoRequest { ident: 1, sequence: 2, data: &body };
        request.emit(&mut bytes).expect("room");
        // Type and code decide whether it is a request at all.
        let position = 2 + at.index(bytes.len() - 2);
        bytes[position] ^= 1 << bit;
        prop_assert_eq!(echo_reply_in_place_v4(&mut bytes), Some(()));
        prop_assert!(!Icmpv4View::parse(&bytes).expect("long enough").checksum_ok());
        let request = Icmpv6Message::EchoRequest { ident: 1, sequence: 2, data: &body };
        request.emit(ips.0, ips.1, &mut bytes).expect("room");
        bytes[position] ^= 1 << bit;
        let addresses = EchoAddresses { asked: ips.1, answering: ips.1 };
        prop_assert_eq!(echo_reply_in_place_v6(&mut bytes, addresses), Some(()));
        let view = Icmpv6View::parse(&bytes).expect("long enough");
        prop_assert!(!view.checksum_ok(ips.1, ips.0));
    }

    // RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c).
    #[test]
    fn quotes_are_a_bounded_start_of_the_packet(
        packet in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let (v4, v6) = (quotable_v4(&packet), quotable_v6(&packet));
        prop_assert!(packet.starts_with(v4) && v4.len() <= 548);
        prop_assert!(packet.starts_with(v6) && v6.len() <= 1_232);
    }
}
