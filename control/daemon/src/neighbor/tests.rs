//! Frames byte by byte: what is asked of us, what we answer, what we believe.

use std::net::IpAddr;

use millrace_abi::NeighborState;
use millrace_config::Neighbor;

use super::*;

const OURS: MacAddress = MacAddress::new([2, 0, 0, 0, 0xaa, 1]);
const PEER: MacAddress = MacAddress::new([2, 0, 0, 0, 0xbb, 2]);
const PORT: PortId = PortId::new(0);

fn ip(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().expect("address"))
}

fn prefix(text: &str, length: u8) -> Prefix {
    Prefix::new(ip(text), length).expect("prefix")
}

fn links() -> Links {
    Links(vec![Link {
        port: PORT,
        name: "front".to_owned(),
        mac: OURS,
        networks: vec![
            (ip("10.8.0.10"), prefix("10.8.0.0", 24)),
            (ip("fd00:8::10"), prefix("fd00:8::", 64)),
        ],
        attached: vec![prefix("172.16.0.0", 16)],
        answers: ["10.8.0.10", "fd00:8::10", "10.8.0.100", "fd00:8::100"]
            .map(ip)
            .to_vec(),
    }])
}

fn table() -> Table {
    let neighbor = Neighbor {
        base_reachable_time_ms: 30_000,
        delay_first_probe_time_ms: 5_000,
        retrans_time_ms: 1_000,
        ucast_solicit: 3,
        mcast_solicit: 3,
    };
    Table::new(Timings::new(&neighbor), 7)
}

/// Receives a frame; tells what it was, the answers and what the table wants done.
fn receive(frame: &[u8]) -> (Punted, Vec<Vec<u8>>, Vec<Action>) {
    let (mut table, mut out) = (table(), Vec::new());
    let punted = links().receive(Instant::from_millis(1), PORT, frame, &mut table, &mut out);
    let frames = out.into_iter().map(|outgoing| outgoing.frame).collect();
    (punted, frames, table.take_actions())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).expect("hex"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
        .collect()
}

fn learned(address: &str) -> Action {
    Action::Tell {
        key: (PORT, ip(address)),
        state: NeighborState::Reachable(PEER),
    }
}

const ARP_REQUEST: &str = "ffffffffffff 02000000bb02 0806 \
    0001 0800 06 04 0001 02000000bb02 0a080001 000000000000 0a080064";

// behaviour: ARP-15
#[test]
fn an_arp_request_for_a_virtual_address_is_answered_and_the_asker_remembered() {
    let (punted, frames, actions) = receive(&hex(ARP_REQUEST));
    let mut expected = hex("02000000bb02 02000000aa01 0806 \
        0001 0800 06 04 0002 02000000aa01 0a080064 02000000bb02 0a080001");
    expected.resize(60, 0);
    assert_eq!((punted, frames), (Punted::Arp, vec![expected]));
    assert_eq!(actions, [learned("10.8.0.1")]);
}

#[test]
fn an_arp_request_for_somebody_else_is_not_our_business() {
    let (punted, frames, actions) = receive(&hex(&ARP_REQUEST.replace("0a080064", "0a080065")));
    assert_eq!((punted, frames, actions), (Punted::Arp, vec![], vec![]));
}

//= https://www.rfc-editor.org/rfc/rfc5227#section-2.1.1
//= type=test
#[test]
fn an_arp_probe_is_answered_but_teaches_nothing() {
    let (punted, frames, actions) = receive(&hex(&ARP_REQUEST.replace("0a080001", "00000000")));
    assert_eq!((punted, frames.len(), actions), (Punted::Arp, 1, vec![]));
}

#[test]
fn arp_from_ourselves_or_for_our_address_from_another_is_refused() {
    let own = ARP_REQUEST.replace("02000000bb02", "02000000aa01");
    assert_eq!(receive(&hex(&own)), (Punted::Own, vec![], vec![]));
    let conflict = ARP_REQUEST.replace("0a080001", "0a08000a");
    assert_eq!(receive(&hex(&conflict)), (Punted::Own, vec![], vec![]));
    let group = ARP_REQUEST.replace("0001 02000000bb02", "0001 03000000bb02");
    assert_eq!(receive(&hex(&group)), (Punted::Own, vec![], vec![]));
}

#[test]
fn a_sender_outside_our_networks_is_answered_but_not_believed() {
    let (punted, frames, actions) = receive(&hex(&ARP_REQUEST.replace("0a080001", "0a090001")));
    assert_eq!((punted, frames.len(), actions), (Punted::Arp, 1, vec![]));
}

#[test]
fn a_network_attached_by_a_route_is_on_link_too() {
    let links = links();
    assert!(
        links.is_on_link((PORT, ip("172.16.9.9"))) && !links.is_on_link((PORT, ip("172.17.0.1")))
    );
    let asked = links
        .solicitation((PORT, ip("172.16.9.9")), None)
        .expect("frame")
        .frame;
    assert_eq!(
        asked[28..32],
        [10, 8, 0, 10],
        "asked from the port's address"
    );
}

#[test]
fn truncated_and_foreign_frames_are_told_apart() {
    let arp = hex(ARP_REQUEST);
    assert!(matches!(receive(&arp[..30]).0, Punted::Malformed(_)));
    assert!(matches!(receive(&arp[..9]).0, Punted::Malformed(_)));
    assert_eq!(
        receive(&hex("ffffffffffff 02000000bb02 88cc 0000")).0,
        Punted::Other
    );
    let mut out = Vec::new();
    let punted = links().receive(Instant::ZERO, PortId::new(3), &arp, &mut table(), &mut out);
    assert_eq!(punted, Punted::Other, "a port that is not configured");
}

#[test]
fn a_unicast_reply_makes_a_neighbour_reachable_and_a_broadcast_one_only_stale() {
    for (destination, word) in [("02000000aa01", "REACHABLE"), ("ffffffffffff", "STALE")] {
        let (mut table, mut out) = (table(), Vec::new());
        let key = (PORT, ip("10.8.0.1"));
        table.need(Instant::ZERO, key);
        let reply = hex(&format!(
            "{destination} 02000000bb02 0806 \
             0001 0800 06 04 0002 02000000bb02 0a080001 02000000aa01 0a08000a"
        ));
        links().receive(Instant::from_millis(1), PORT, &reply, &mut table, &mut out);
        let states: Vec<&str> = table.rows().map(|row| row.state.word()).collect();
        assert_eq!(states, [word]);
        assert_eq!(out, []);
    }
}

// behaviour: ARP-13
#[test]
fn requests_are_broadcast_first_and_unicast_when_probing() {
    let key = (PORT, ip("10.8.0.1"));
    let mut expected = hex("ffffffffffff 02000000aa01 0806 \
        0001 0800 06 04 0001 02000000aa01 0a08000a 000000000000 0a080001");
    expected.resize(60, 0);
    let sent = links().solicitation(key, None).expect("frame");
    assert_eq!((sent.port, sent.frame), (PORT, expected));
    let mut expected = hex("02000000bb02 02000000aa01 0806 \
        0001 0800 06 04 0001 02000000aa01 0a08000a 02000000bb02 0a080001");
    expected.resize(60, 0);
    assert_eq!(
        links().solicitation(key, Some(PEER)).expect("frame").frame,
        expected
    );
    assert_eq!(
        links().solicitation((PortId::new(9), ip("10.8.0.1")), None),
        None
    );
}

// Linux: arp_solicit with arp_announce 2. What waits may come from a virtual address, which every
// balancer has: the request comes from the address that only this one has, in the network of whom it asks.
// behaviour: ARP-12
#[test]
fn a_request_comes_from_the_interface_s_own_address_in_the_target_s_network() {
    let mut links = links();
    let second = (ip("192.0.2.10"), prefix("192.0.2.0", 24));
    links.0[0].networks.push(second);
    links.0[0].answers.push(second.0);
    // The sender's protocol address is at 28 of an ARP frame.
    let asks = |target: &str, to| {
        let sent = links.solicitation((PORT, ip(target)), to).expect("frame");
        sent.frame[28..32].to_vec()
    };
    for to in [None, Some(PEER)] {
        assert_eq!(asks("10.8.0.1", to), [10, 8, 0, 10]);
        assert_eq!(asks("192.0.2.1", to), [192, 0, 2, 10]);
        assert_eq!(
            asks("172.16.9.9", to),
            [10, 8, 0, 10],
            "attached, without an address"
        );
    }
}

/// An IPv6 packet from the peer with a correct checksum.
fn nd(to: &str, source: &str, destination: &str, hop_limit: u8, body: &str) -> Vec<u8> {
    let mut message = hex(body);
    let length = u32::try_from(message.len()).expect("short");
    let mut sum = millrace_wire::Checksum::pseudo_header(ip(source), ip(destination), 58, length);
    sum.add_bytes(&message);
    message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    let mut frame = hex(&format!(
        "{to} 02000000bb02 86dd 60000000 {length:04x} 3a {hop_limit:02x}"
    ));
    frame.extend_from_slice(ip(source).octets());
    frame.extend_from_slice(ip(destination).octets());
    frame.extend_from_slice(&message);
    frame
}

/// NS for fd00:8::100 with a source link-layer option.
const SOLICITATION: &str =
    "87 00 0000 00000000 fd000008000000000000000000000100 01 01 02000000bb02";

#[test]
fn a_solicitation_for_a_virtual_address_is_answered_with_solicited_and_override() {
    let frame = nd(
        "3333ff000100",
        "fd00:8::1",
        "ff02::1:ff00:100",
        255,
        SOLICITATION,
    );
    let (punted, frames, actions) = receive(&frame);
    assert_eq!((punted, frames.len()), (Punted::Nd, 1));
    assert_eq!(actions, [learned("fd00:8::1")]);
    // type 136, S and O set, target, target link-layer address; the checksum was computed by hand.
    let expected = hex("02000000bb02 02000000aa01 86dd 60000000 0020 3a ff \
        fd000008000000000000000000000100 fd000008000000000000000000000001 \
        88 00 0000 60000000 fd000008000000000000000000000100 02 01 02000000aa01");
    let mut answer = frames[0].clone();
    let view = millrace_wire::icmpv6::Icmpv6View::parse(&answer[54..]).expect("ICMPv6");
    assert!(view.checksum_ok(ip("fd00:8::100"), ip("fd00:8::1")));
    answer[56..58].copy_from_slice(&[0, 0]);
    assert_eq!(answer, expected);
}

//= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.4
//= type=test
#[test]
fn a_duplicate_address_check_is_answered_to_all_nodes_and_unsolicited() {
    let body = SOLICITATION.replace("01 01 02000000bb02", "");
    let frame = nd("3333ff000100", "::", "ff02::1:ff00:100", 255, &body);
    let (punted, frames, actions) = receive(&frame);
    assert_eq!((punted, actions), (Punted::Nd, vec![]));
    assert_eq!(frames[0][..6], hex("333300000001"));
    assert_eq!(&frames[0][38..54], ip("ff02::1").octets());
    assert_eq!(frames[0][58], 0x20, "override without solicited");
}

#[test]
fn solicitations_that_crossed_a_router_or_are_damaged_are_ignored() {
    let forwarded = nd(
        "3333ff000100",
        "fd00:8::1",
        "ff02::1:ff00:100",
        254,
        SOLICITATION,
    );
    let mut damaged = nd(
        "3333ff000100",
        "fd00:8::1",
        "ff02::1:ff00:100",
        255,
        SOLICITATION,
    );
    damaged[57] ^= 1;
    for frame in [forwarded, damaged] {
        let (punted, frames, actions) = receive(&frame);
        assert_eq!((frames, actions), (vec![], vec![]));
        assert!(
            matches!(punted, Punted::Malformed(Malformed::NdInvalid)),
            "{punted:?}"
        );
    }
    let echo = nd(
        "02000000aa01",
        "fd00:8::1",
        "fd00:8::10",
        64,
        "80 00 0000 00010001",
    );
    assert_eq!(receive(&echo).0, Punted::Other);
}

#[test]
fn an_advertisement_answers_our_solicitation() {
    let key = (PORT, ip("fd00:8::1"));
    let asked = links().solicitation(key, None).expect("frame").frame;
    assert_eq!(asked[..6], hex("3333ff000001"), "the solicited-node group");
    assert_eq!(&asked[38..54], ip("ff02::1:ff00:1").octets());
    assert_eq!(asked[21], 255);
    let probe = links().solicitation(key, Some(PEER)).expect("frame").frame;
    assert_eq!(&probe[38..54], ip("fd00:8::1").octets());

    let (mut table, mut out) = (table(), Vec::new());
    table.need(Instant::ZERO, key);
    let body = "88 00 0000 60000000 fd000008000000000000000000000001 02 01 02000000bb02";
    let answer = nd("02000000aa01", "fd00:8::1", "fd00:8::10", 255, body);
    let punted = links().receive(Instant::from_millis(1), PORT, &answer, &mut table, &mut out);
    assert_eq!(punted, Punted::Nd);
    let states: Vec<&str> = table.rows().map(|row| row.state.word()).collect();
    assert_eq!(states, ["REACHABLE"]);
}

#[test]
fn every_address_is_announced_on_its_link() {
    let links = links();
    let one = [ip("10.8.0.100"), ip("192.0.2.1")];
    assert_eq!(links.announcements(&one).len(), 1, "only what is ours");
    let sent = links.announcements(&links.0[0].answers);
    let frames: Vec<Vec<u8>> = sent.into_iter().map(|out| out.frame).collect();
    assert_eq!(frames.len(), 4);
    let mut arp = hex("ffffffffffff 02000000aa01 0806 \
        0001 0800 06 04 0001 02000000aa01 0a080064 000000000000 0a080064");
    arp.resize(60, 0);
    assert_eq!(frames[2], arp);
    assert_eq!(frames[3][..6], hex("333300000001"));
    assert_eq!(frames[3][58], 0x20, "override, not solicited");
}
