//! Fragments seen from outside: what a server makes of them, and what it sends in pieces itself.

use millrace_stack::DropReason;
use millrace_wire::icmpv4::Icmpv4Message;
use millrace_wire::{Checksum, EtherType, IpRepr, IpView, ethernet, protocol};

use crate::peer::{ACK, Peer};
use crate::wire::{address, mac};

const IP_AT: usize = 14;
const PAYLOAD_AT: usize = IP_AT + 20;

/// Cuts an IPv4 frame after `bytes` (a multiple of 8) of its payload each.
fn cut(frame: &[u8], bytes: usize) -> Vec<Vec<u8>> {
    let (head, payload) = frame.split_at(PAYLOAD_AT);
    let mut at = 0;
    let mut pieces = Vec::new();
    for chunk in payload.chunks(bytes) {
        let mut piece = head.to_vec();
        piece.extend(chunk);
        let more = at + chunk.len() < payload.len();
        let field = (at / 8) as u16 | u16::from(more) << 13;
        piece[16..18].copy_from_slice(&(20 + chunk.len() as u16).to_be_bytes());
        piece[18..20].copy_from_slice(&[0x12, 0x34]);
        piece[20..22].copy_from_slice(&field.to_be_bytes());
        piece[24..26].fill(0);
        let mut sum = Checksum::new();
        sum.add_bytes(&piece[IP_AT..PAYLOAD_AT]);
        let sum = sum.finish().to_be_bytes();
        piece[24..26].copy_from_slice(&sum);
        pieces.push(piece);
        at += chunk.len();
    }
    pieces
}

/// A frame with an ICMP message to the server.
fn icmp_frame(message: &Icmpv4Message<'_>) -> Vec<u8> {
    let mut icmp = vec![0; 9_000];
    let len = message.emit(&mut icmp).expect("fits");
    icmp.truncate(len);
    let ip = IpRepr {
        source: address(false, 0, 1),
        destination: address(false, 0, 2),
        protocol: protocol::ICMPV4,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: false,
        identification: 9,
        payload_len: len as u16,
    };
    let mut frame = vec![0; PAYLOAD_AT];
    ethernet::emit(&mut frame, mac(1, 0), mac(0, 1), EtherType::IPV4).expect("fits");
    ip.emit(&mut frame[IP_AT..], false).expect("fits");
    frame.extend(icmp);
    frame
}

// behaviour: IPI-7
#[test]
fn a_segment_in_pieces_is_a_segment() {
    let mut peer = Peer::new(10);
    let (flow, nxt) = peer.open();
    let text: Vec<u8> = (0..900).map(|at| (at % 251) as u8).collect();
    let whole = peer.frame(ACK, 101, nxt, &text);
    let mut pieces = cut(&whole, 160);
    pieces.reverse();
    let last = pieces.pop().expect("some");
    for piece in &pieces {
        assert!(peer.put(piece).is_empty());
    }
    let received = peer.stats().ip_in_receives;
    let answers = peer.put(&last);
    assert_eq!(answers[0].ack.value(), 1_001);
    let node = &mut peer.world.nodes[1];
    let mut got = vec![0; 2_000];
    let read = node.stack.receive(peer.world.now, flow, &mut got);
    assert_eq!((read.bytes, &got[..900]), (900, &text[..]));
    let stats = peer.stats();
    assert_eq!((stats.ip_reasm_reqds, stats.ip_reasm_oks), (6, 1));
    assert_eq!(
        stats.ip_in_receives,
        received + 1,
        "each piece is counted once"
    );
}

// A checksum that no device has looked at. behaviour: IPI-7
#[test]
fn a_wrong_byte_in_a_piece_is_seen_when_the_packet_is_whole() {
    let mut peer = Peer::new(10);
    let (_, nxt) = peer.open();
    let whole = peer.frame(ACK, 101, nxt, &[7; 400]);
    let mut pieces = cut(&whole, 200);
    *pieces[1].last_mut().expect("bytes") ^= 1;
    for piece in &pieces {
        assert!(peer.put(piece).is_empty());
    }
    assert_eq!(peer.stats().dropped(DropReason::TcpChecksum), 1);
    assert_eq!(peer.stats().tcp_in_csum_errors, 1);
}

// RFC 792: "fragment reassembly time exceeded". behaviour: IPI-7
#[test]
fn who_sent_the_first_piece_is_told_when_the_rest_does_not_come() {
    let mut peer = Peer::new(10);
    let (_, nxt) = peer.open();
    let whole = peer.frame(ACK, 101, nxt, &[7; 400]);
    let pieces = cut(&whole, 200);
    assert!(peer.put(&pieces[0]).is_empty());
    peer.tuple.local.port += 1;
    let other = cut(&peer.frame(ACK, 101, nxt, &[7; 400]), 200);
    let mut orphaned = other[1].clone();
    orphaned[19] ^= 1;
    orphaned[25] = orphaned[25].wrapping_sub(1);
    peer.put(&orphaned);
    let start = peer.world.now;
    peer.world.now = start.after(millrace_base::Nanos::from_secs(30));
    let node = &mut peer.world.nodes[1];
    node.stack.advance(peer.world.now, &mut node.pool);
    let sent = peer.frames();
    let [told] = &sent[..] else {
        panic!("one message: {}", sent.len())
    };
    let ip = IpView::parse(EtherType::IPV4, &told[IP_AT..], told.len() - IP_AT);
    let ip = ip.expect("IP").expect("well formed");
    assert_eq!(
        (ip.protocol(), ip.destination()),
        (protocol::ICMPV4, address(false, 0, 1))
    );
    assert_eq!(ip.payload()[..2], [11, 1]);
    assert_eq!(
        ip.payload()[8..36],
        pieces[0][IP_AT..IP_AT + 28],
        "it quotes the piece"
    );
    let mut sum = Checksum::new();
    sum.add_bytes(ip.payload());
    assert_eq!(sum.finish(), 0);
    assert_eq!(peer.stats().icmp_out_time_excds, 1);
}

// An answer longer than the link's MTU. behaviour: IPO-15
#[test]
fn a_long_echo_is_answered_in_pieces() {
    let mut peer = Peer::new(10);
    let data: Vec<u8> = (0..4_000).map(|at| (at % 253) as u8).collect();
    let request = Icmpv4Message::EchoRequest {
        ident: 5,
        sequence: 6,
        data: &data,
    };
    for piece in cut(&icmp_frame(&request), 1_480) {
        peer.world.deliver(1, crate::peer::PORT, &piece);
    }
    let mut reply = vec![0; 4_008];
    let mut idents = Vec::new();
    let mut filled = 0;
    for frame in peer.frames() {
        let ip = IpView::parse(EtherType::IPV4, &frame[IP_AT..], frame.len() - IP_AT);
        let ip = ip.expect("IP").expect("well formed");
        assert!(ip.header_checksum_ok() && ip.total_len() <= 1_500);
        let fragment = ip.fragment().expect("a piece");
        let start = usize::from(fragment.offset);
        reply[start..start + ip.payload_len()].copy_from_slice(ip.payload());
        idents.push(fragment.identification);
        filled += ip.payload_len();
        assert_eq!(fragment.more, start + ip.payload_len() < 4_008);
    }
    assert_eq!((filled, idents.len()), (4_008, 3));
    idents.dedup();
    assert_eq!(idents.len(), 1);
    assert_eq!((reply[0], &reply[8..]), (0, &data[..]));
    let stats = peer.stats();
    assert_eq!((stats.ip_frag_oks, stats.ip_frag_creates), (1, 3));
}
