//! Packets written and read back, and packets that are broken.

use std::net::IpAddr;

use super::{Quoted, Segment, emit, emit_icmp, folded, parse, sum};
use crate::ast::{IcmpLine, TcpOption, flag};
use crate::fault::Position;

fn segment(source: &str, destination: &str) -> Segment {
    Segment {
        source: source.parse().expect("address"),
        destination: destination.parse().expect("address"),
        service: 2,
        ttl: 255,
        flow_label: 0,
        source_port: 1_234,
        destination_port: 8_080,
        seq: 0xffff_fff0,
        ack: 7,
        flags: flag::ACK | flag::PSH | flag::AE,
        window: 257,
        urgent: 3,
        options: vec![
            TcpOption::Mss(1_460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps { value: 1, echo: 2 },
            TcpOption::Sack(vec![(1, 2)]),
            TcpOption::FastOpenExperimental(vec![1, 2, 3, 4]),
            TcpOption::Nop,
            TcpOption::End,
        ],
        payload: b"an odd number".to_vec(),
    }
}

#[test]
fn what_is_written_is_read_back_in_both_families() {
    for (source, destination) in [("192.0.2.1", "192.168.0.1"), ("fd3d:fa7b::1", "fd3d::2")] {
        let wanted = segment(source, destination);
        let bytes = emit(&wanted).expect("fits");
        assert_eq!(parse(&bytes), Ok(Some(wanted)));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let wanted = segment("192.0.2.1", "192.168.0.1");
    let good = emit(&wanted).expect("fits");
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&bytes).is_err(), "bit {bit} of {bytes:02x?}");
    }
}

#[test]
fn cut_packets_are_refused_and_never_panic() {
    for (source, destination) in [("192.0.2.1", "192.168.0.1"), ("fd3d:fa7b::1", "fd3d::2")] {
        let bytes = emit(&segment(source, destination)).expect("fits");
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn an_error_quotes_ports_and_sequence_number() {
    let line = IcmpLine {
        at: Position::default(),
        kind: "unreachable".to_owned(),
        code: Some("frag_needed".to_owned()),
        mtu: Some(840),
        quoted: Some((0, 1_000)),
    };
    let address = |text: &str| text.parse::<IpAddr>().expect("address");
    let quoted = Quoted {
        local: (address("192.168.0.1"), 0x1234),
        remote: (address("192.0.2.1"), 8_080),
        seq: 0xdead_beef,
        length: 1_000,
        service: 0,
        ttl: 255,
    };
    let packet = emit_icmp(&line, &quoted).expect("a known type");
    assert_eq!(
        packet[20..28],
        [3, 4, packet[22], packet[23], 0, 0, 0x03, 0x48]
    );
    assert_eq!(
        packet[48..56],
        [0x12, 0x34, 0x1f, 0x90, 0xde, 0xad, 0xbe, 0xef]
    );
    assert_eq!(folded(sum(&packet[20..])), 0xffff);
    let over_ipv6 = Quoted {
        local: (address("fd::1"), 1),
        remote: (address("fd::2"), 2),
        ..quoted
    };
    let fault = emit_icmp(&line, &over_ipv6).expect_err("IPv6 has no such code");
    assert!(fault.message.contains("frag_needed"), "{}", fault.message);
}
