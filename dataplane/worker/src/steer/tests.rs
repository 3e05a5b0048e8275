//! What decides about which frame. The exchange itself is tested with devices, in `selftest/tests.rs`.

use super::*;
use millrace_base::MacAddress;
use millrace_wire::{IpRepr, ethernet};

fn address(last: u8, is_v4: bool) -> Address {
    if is_v4 {
        Address::v4([10, 8, 0, last])
    } else {
        Address::v6([0xfd, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
    }
}

/// A packet from host 2 to host 1 with this payload.
fn packet(is_v4: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = IpRepr {
        source: address(2, is_v4),
        destination: address(1, is_v4),
        protocol,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        identification: 0,
        payload_len: payload.len() as u16,
    };
    let mut bytes = vec![0u8; header.header_len()];
    header.emit(&mut bytes, false).expect("room");
    bytes.extend_from_slice(payload);
    bytes
}

fn frame(is_v4: bool, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0u8; ethernet::HEADER_BYTES];
    let kind = if is_v4 { 0x0800 } else { 0x86dd };
    let mac = MacAddress::new([2, 0, 0, 0, 0, 1]);
    ethernet::emit(&mut bytes, mac, mac, millrace_wire::EtherType(kind)).expect("room");
    bytes.extend_from_slice(packet);
    bytes
}

/// Ports 40,000 to 80, and nothing else that matters here.
fn segment() -> Vec<u8> {
    let mut bytes = vec![0u8; 20];
    bytes[..4].copy_from_slice(&[0x9c, 0x40, 0x00, 0x50]);
    bytes[12] = 0x50;
    bytes
}

fn tuple_of(is_v4: bool) -> FlowTuple {
    FlowTuple {
        local: Endpoint::new(address(1, is_v4), 80),
        remote: Endpoint::new(address(2, is_v4), 40_000),
    }
}

fn flow(frame: &[u8]) -> Flow {
    flow_of(frame, frame.len())
}

#[test]
fn a_segment_belongs_to_its_tuple_in_either_family() {
    for is_v4 in [true, false] {
        let frame = frame(is_v4, &packet(is_v4, protocol::TCP, &segment()));
        assert!(is_plain_tcp(&frame));
        assert_eq!(flow(&frame), Flow::Tuple(tuple_of(is_v4)));
    }
}

#[test]
fn options_move_the_ports_and_are_found_there() {
    let mut with_options = packet(true, protocol::TCP, &segment());
    with_options[0] = 0x46;
    with_options.splice(20..20, [1, 1, 1, 1]);
    assert_eq!(
        flow(&frame(true, &with_options)),
        Flow::Tuple(tuple_of(true))
    );
}

#[test]
fn every_fragment_of_a_packet_goes_where_its_addresses_say() {
    for offset in [0x2000u16, 0x0003, 0x2003] {
        let mut fragment = packet(true, protocol::TCP, &segment());
        fragment[6..8].copy_from_slice(&offset.to_be_bytes());
        fragment[10..12].fill(0);
        let frame = frame(true, &fragment);
        assert!(!is_plain_tcp(&frame));
        let addresses = Flow::Addresses(address(2, true), address(1, true));
        assert_eq!(flow(&frame), addresses, "{offset:#x}");
    }
}

// Path MTU discovery: the router's complaint comes from an address that says nothing.
#[test]
fn an_icmp_error_belongs_to_the_flow_it_quotes() {
    for (is_v4, kind) in [(true, 3u8), (true, 11), (false, 1), (false, 2)] {
        let ours = tuple_of(is_v4);
        let mut sent = packet(is_v4, protocol::TCP, &segment());
        let at = if is_v4 { 12 } else { 8 };
        let len = if is_v4 { 4 } else { 16 };
        let (source, rest) = sent[at..].split_at_mut(len);
        source.swap_with_slice(&mut rest[..len]);
        let ports = sent.len() - 20;
        sent[ports..ports + 4].copy_from_slice(&[0x00, 0x50, 0x9c, 0x40]);
        let mut message = vec![kind, 4, 0, 0, 0, 0, 5, 0];
        message.extend_from_slice(&sent[..sent.len() - 12]);
        let protocol = if is_v4 {
            protocol::ICMPV4
        } else {
            protocol::ICMPV6
        };
        let complaint = frame(is_v4, &packet(is_v4, protocol, &message));
        assert_eq!(flow(&complaint), Flow::Tuple(ours), "type {kind}");
        message[0] = if is_v4 { 8 } else { 128 };
        let echo = frame(is_v4, &packet(is_v4, protocol, &message));
        let addresses = Flow::Addresses(address(2, is_v4), address(1, is_v4));
        assert_eq!(flow(&echo), addresses);
    }
}

#[test]
fn what_is_cut_off_anywhere_finds_an_owner_and_no_panic() {
    for is_v4 in [true, false] {
        let whole = frame(is_v4, &packet(is_v4, protocol::TCP, &segment()));
        for len in 0..whole.len() {
            let _ = flow(&whole[..len]);
            let _ = plain_tcp_tuple(&whole[..len]);
        }
    }
    assert_eq!(flow(&[0xff; 60]), Flow::None);
}

// Who follows the same stream is not hashed again: the same bytes must mean the same flow.
#[test]
fn frames_of_one_stream_are_of_one_flow_and_other_frames_of_none() {
    for is_v4 in [true, false] {
        let whole = frame(is_v4, &packet(is_v4, protocol::TCP, &segment()));
        let stream = Stream::of(&whole).expect("plain");
        let ports_at = if is_v4 { 34 } else { 54 };
        for at in 14..ports_at + 4 {
            let mut other = whole.clone();
            other[at] ^= 1;
            if Stream::of(&other) == Some(stream) {
                assert_eq!(flow(&other), flow(&whole), "{is_v4} byte {at}");
            }
        }
        let mut other = whole.clone();
        // The next segment: length and sequence number.
        other[ports_at + 7] ^= 1;
        other.push(7);
        assert_eq!(Stream::of(&other), Some(stream));
        for len in 0..ports_at + 4 {
            assert_eq!(Stream::of(&whole[..len]), None, "{is_v4} cut at {len}");
        }
        let udp = frame(is_v4, &packet(is_v4, protocol::UDP, &segment()));
        assert_eq!(Stream::of(&udp), None);
    }
}
