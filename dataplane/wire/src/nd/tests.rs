//! Known answers and the validation rules of RFC 4861 sections 6.1 and 7.1.

use super::*;
use crate::icmpv6::{Icmpv6Message, Icmpv6View};
use crate::{EthernetView, IpView};

const ASKER: Address = Address::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const TARGET: Address = Address::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
const ASKER_MAC: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
const TARGET_MAC: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);

// RFC 4861 section 4.3, fe80::1 asks for fe80::2 at ff02::1:ff00:2. By hand: pseudo-header fe80 +
// 1 + ff02 + 1 + ff00 + 2 + 20 + 3a, message 8700 + fe80 + 2 + 0101 + 0200 + 1: 0x48564, folded
// 0x8568, complement 0x7a97.
const SOLICITATION: [u8; 32] = [
    135, 0, 0x7a, 0x97, 0, 0, 0, 0, //
    0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, //
    1, 1, 2, 0, 0, 0, 0, 1,
];

// RFC 4861 section 4.4, the answer, solicited and overriding. By hand: pseudo-header fe80 + 2 +
// fe80 + 1 + 20 + 3a, message 8800 + 6000 + fe80 + 2 + 0201 + 0200 + 2: 0x3e7e2, folded 0xe7e5,
// complement 0x181a.
const ADVERTISEMENT: [u8; 32] = [
    136, 0, 0x18, 0x1a, 0x60, 0, 0, 0, //
    0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, //
    2, 1, 2, 0, 0, 0, 0, 2,
];

// RFC 4861 section 4.2 with MTU, one prefix and an option nobody knows. The checksum is 0.
const ROUTER: [u8; 72] = [
    134, 0, 0, 0, 64, 0x40, 0x07, 0x08, 0, 0, 0x75, 0x30, 0, 0, 0x03, 0xe8, //
    1, 1, 2, 0, 0, 0, 0, 1, //
    5, 1, 0, 0, 0, 0, 0x05, 0xdc, //
    3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x07, 0x08, 0, 0, 0, 0, //
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
    99, 1, 1, 2, 3, 4, 5, 6,
];

fn solicitation() -> NeighborSolicitation {
    NeighborSolicitation {
        target: TARGET,
        source_mac: Some(ASKER_MAC),
    }
}

fn advertisement() -> NeighborAdvertisement {
    NeighborAdvertisement {
        target: TARGET,
        target_mac: Some(TARGET_MAC),
        router: false,
        solicited: true,
        override_cached: true,
    }
}

#[test]
fn a_solicitation_reads_and_writes_as_rfc_4861_draws_it() {
    let destination = TARGET.solicited_node();
    assert_eq!(
        Icmpv6Message::parse(&SOLICITATION, ASKER, destination),
        Ok(Icmpv6Message::NeighborSolicitation(solicitation()))
    );
    let mut buffer = [0xaa; 32];
    let written = solicitation().emit(ASKER, destination, &mut buffer);
    assert_eq!((written, buffer), (Some(32), SOLICITATION));
    assert_eq!(solicitation().emit(ASKER, destination, &mut [0; 31]), None);
}

#[test]
fn an_advertisement_reads_and_writes_as_rfc_4861_draws_it() {
    assert_eq!(
        Icmpv6Message::parse(&ADVERTISEMENT, TARGET, ASKER),
        Ok(Icmpv6Message::NeighborAdvertisement(advertisement()))
    );
    let mut buffer = [0xaa; 32];
    let written = advertisement().emit(TARGET, ASKER, &mut buffer);
    assert_eq!((written, buffer), (Some(32), ADVERTISEMENT));
}

#[test]
fn a_router_advertisement_gives_its_options_in_order() {
    let router = RouterAdvertisement::parse(&ROUTER).expect("well formed");
    assert_eq!((router.hop_limit, router.router_lifetime_s), (64, 1_800));
    assert_eq!((router.managed, router.other_config), (false, true));
    assert_eq!(
        (router.reachable_time_ms, router.retrans_timer_ms),
        (30_000, 1_000)
    );
    assert_eq!(router.source_mac(), Some(ASKER_MAC));
    let prefix = PrefixInformation {
        prefix: Address::v6([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        length: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime_s: 3_600,
        preferred_lifetime_s: 1_800,
    };
    let options: Vec<_> = router.options.iter().collect();
    assert_eq!(
        options,
        [
            NdOption::SourceLinkLayer(ASKER_MAC),
            NdOption::Mtu(1_500),
            NdOption::Prefix(prefix),
            NdOption::Other {
                kind: 99,
                body: &[1, 2, 3, 4, 5, 6]
            },
        ]
    );
}

//= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.1
//= type=test
//# All included options have a length that is greater than zero.
#[test]
fn an_option_of_length_zero_or_beyond_the_end_refuses_the_message() {
    for length in [0, 2, 255] {
        let mut bytes = SOLICITATION;
        bytes[25] = length;
        assert_eq!(
            NeighborSolicitation::parse(&bytes),
            Err(Malformed::NdInvalid)
        );
        let mut bytes = ROUTER;
        bytes[65] = length;
        assert_eq!(
            RouterAdvertisement::parse(&bytes).err(),
            Some(Malformed::NdInvalid)
        );
    }
    // Bytes that are too few for an option are not one.
    assert_eq!(
        NeighborSolicitation::parse(&SOLICITATION[..25]),
        Err(Malformed::NdInvalid)
    );
}

//= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.1
//= type=test
//# Target Address is not a multicast address.
#[test]
fn code_length_and_target_are_checked_in_the_body() {
    let mut bytes = SOLICITATION;
    bytes[1] = 1;
    assert_eq!(
        NeighborSolicitation::parse(&bytes),
        Err(Malformed::NdInvalid)
    );
    let mut bytes = ADVERTISEMENT;
    bytes[8] = 0xff;
    assert_eq!(
        NeighborAdvertisement::parse(&bytes),
        Err(Malformed::NdInvalid)
    );
    assert_eq!(
        NeighborAdvertisement::parse(&ADVERTISEMENT[..23]),
        Err(Malformed::NdInvalid)
    );
    // ::ffff:192.0.2.1 would be taken for an IPv4 address.
    let mut bytes = SOLICITATION;
    bytes[8..24].copy_from_slice(Address::v4([192, 0, 2, 1]).octets());
    assert_eq!(
        NeighborSolicitation::parse(&bytes),
        Err(Malformed::NdInvalid)
    );
}

// Linux's ndisc_recv_ns drops "invalid link-layer address length"; ndisc_parse_options keeps the
// first of duplicates.
#[test]
fn a_link_layer_option_is_ethernet_sized_and_the_first_one_counts() {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&SOLICITATION);
    bytes[32..].copy_from_slice(&[1, 1, 9, 9, 9, 9, 9, 9]);
    assert_eq!(NeighborSolicitation::parse(&bytes), Ok(solicitation()));
    bytes[25] = 2;
    assert_eq!(
        NeighborSolicitation::parse(&bytes),
        Err(Malformed::NdInvalid)
    );
}

#[test]
fn a_forwarded_message_is_refused() {
    let destination = TARGET.solicited_node();
    assert_eq!(solicitation().validate(255, ASKER, destination), Ok(()));
    assert_eq!(advertisement().validate(255, TARGET, ASKER), Ok(()));
    let invalid = Err(Malformed::NdInvalid);
    assert_eq!(solicitation().validate(254, ASKER, destination), invalid);
    assert_eq!(advertisement().validate(254, TARGET, ASKER), invalid);
    let router = RouterAdvertisement::parse(&ROUTER).expect("well formed");
    assert_eq!(router.validate(255, ASKER), Ok(()));
    assert_eq!(router.validate(254, ASKER), invalid);
    assert_eq!(router.validate(255, Address::v6([0xfd; 16])), invalid);
}

// RFC 4862 section 5.4.3: duplicate address detection asks from ::, at the solicited-node address,
// and cannot name a hardware address.
#[test]
fn a_question_from_nobody_goes_to_the_solicited_node_and_names_no_hardware() {
    let nobody = Address::UNSPECIFIED_V6;
    let probe = NeighborSolicitation {
        target: TARGET,
        source_mac: None,
    };
    let invalid = Err(Malformed::NdInvalid);
    assert_eq!(probe.validate(255, nobody, TARGET.solicited_node()), Ok(()));
    assert_eq!(probe.validate(255, nobody, TARGET), invalid);
    assert_eq!(
        solicitation().validate(255, nobody, TARGET.solicited_node()),
        invalid
    );
    let anonymous = RouterSolicitation { source_mac: None };
    assert_eq!(anonymous.validate(255, nobody), Ok(()));
    let named = RouterSolicitation {
        source_mac: Some(ASKER_MAC),
    };
    assert_eq!(named.validate(255, nobody), invalid);
    assert_eq!(named.validate(255, ASKER), Ok(()));
}

//= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.2
//= type=test
//# If the IP Destination Address is a multicast address the Solicited flag is zero.
#[test]
fn an_unsolicited_advertisement_to_everybody_does_not_claim_to_be_an_answer() {
    assert_eq!(
        advertisement().validate(255, TARGET, ALL_NODES),
        Err(Malformed::NdInvalid)
    );
    let unsolicited = NeighborAdvertisement {
        solicited: false,
        ..advertisement()
    };
    assert_eq!(unsolicited.validate(255, TARGET, ALL_NODES), Ok(()));
}

// RFC 4861 section 7.1.1: hop limit 255, a good checksum, and all of it inside the frame.
#[test]
fn an_enveloped_question_is_a_frame_that_its_receiver_accepts() {
    let group = TARGET.solicited_node();
    let envelope = NdEnvelope {
        to: MacAddress::for_multicast(group),
        from: ASKER_MAC,
        source: ASKER,
        destination: group,
    };
    let emit = |buffer: &mut [u8]| {
        envelope.emit(buffer, |source, destination, room| {
            solicitation().emit(source, destination, room)
        })
    };
    let mut frame = [0; NEIGHBOR_FRAME_BYTES_MAX];
    assert_eq!(emit(&mut frame), Some(frame.len()));
    let ethernet = EthernetView::parse(&frame).expect("a frame");
    assert_eq!(ethernet.source(), ASKER_MAC);
    assert_eq!(ethernet.destination(), envelope.to);
    let payload = ethernet.payload();
    let ip = IpView::parse(ethernet.ether_type(), payload, payload.len());
    let ip = ip.expect("IPv6").expect("a packet");
    assert_eq!((ip.source(), ip.destination()), (ASKER, group));
    assert_eq!(ip.hop_limit(), ND_HOP_LIMIT);
    let icmp = Icmpv6View::parse(ip.payload()).expect("a message");
    assert!(icmp.checksum_ok(ASKER, group));
    let expected = Icmpv6Message::NeighborSolicitation(solicitation());
    assert_eq!(icmp.message(), Ok(expected));
    for short in 0..frame.len() {
        assert_eq!(emit(&mut frame[..short]), None, "{short} bytes");
    }
}
