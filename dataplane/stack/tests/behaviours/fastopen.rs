//! Fast Open at a server: what becomes of a SYN with data when there is room for it, and when there
//! is none.

use millrace_wire::tcp::FastOpenCookie;

use crate::peer::{ACK, Peer, RST, SYN};
use crate::wire::config;

/// A server with room for so many connections that takes data in SYNs, and a peer that has its
/// cookie.
fn peer_with_cookie(connections_max: usize) -> Peer {
    let mut config = config(2);
    config.connections_max = connections_max;
    config.tcp.tcp_fastopen = 0x3;
    let mut peer = Peer::with(10, config);
    peer.listen_fast(8);
    peer.cookie = Some(FastOpenCookie::default());
    let answers = peer.send(SYN, 100, 0, b"");
    let cookie = answers[0].options.fastopen.expect("a cookie");
    assert_eq!(cookie.as_slice().len(), 8);
    assert!(peer.send(RST, 101, 0, b"").is_empty());
    assert_eq!(peer.stats().tcp_fast_open_cookie_reqd, 1);
    peer.cookie = Some(cookie);
    peer
}

// behaviour: LSN-21, X4-13
#[test]
fn a_syn_with_a_cookie_is_a_connection_with_its_data() {
    let mut peer = peer_with_cookie(4);
    let answers = peer.send(SYN, 100, 0, b"hello");
    assert_eq!((answers.len(), answers[0].flags), (1, SYN | ACK));
    assert_eq!(answers[0].ack.value(), 106);
    assert_eq!(peer.accepted(), 1);
    let stack = &mut peer.world.nodes[1].stack;
    assert_eq!(
        (stack.occupancy().connections, stack.occupancy().half_open),
        (1, 0)
    );
    assert_eq!(peer.stats().tcp_fast_open_passive, 1);
    let event = peer.world.nodes[1].events[0];
    let mut bytes = [0; 9];
    let now = peer.world.now;
    let stack = &mut peer.world.nodes[1].stack;
    assert_eq!(stack.receive(now, event.flow, &mut bytes).bytes, 5);
    assert_eq!(&bytes[..5], b"hello");
    let iss = answers[0].seq.value();
    assert!(peer.send(ACK, 106, iss + 1, b"").is_empty());
    let info = peer.world.nodes[1].stack.info(event.flow).expect("alive");
    assert!(info.fast_open.syn_data && !info.fast_open.is_child);
}

// Everything that was begun is undone, and the SYN is answered like any other.
// behaviour: A18-10
#[test]
fn a_child_without_room_leaves_nothing_behind() {
    let mut peer = peer_with_cookie(1);
    assert_eq!(peer.send(SYN, 100, 0, b"first")[0].ack.value(), 106);
    let before = peer.world.nodes[1].stack.occupancy();
    peer.tuple.local.port += 1;
    let answers = peer.send(SYN, 500, 0, b"second");
    assert_eq!(answers[0].ack.value(), 501, "its data come again");
    assert_eq!(
        answers[0].options.fastopen, peer.cookie,
        "and so does the cookie"
    );
    let stats = peer.stats();
    let counted = (
        stats.tcp_fast_open_passive,
        stats.tcp_fast_open_passive_fail,
    );
    assert_eq!((counted, peer.accepted()), ((1, 1), 1));
    let after = peer.world.nodes[1].stack.occupancy();
    assert_eq!(after.half_open, before.half_open + 1);
    assert_eq!(after.tuples, before.tuples + 1);
    assert_eq!(
        (after.connections, after.chunks, after.disordered),
        (before.connections, before.chunks, before.disordered)
    );
}

#[test]
fn a_wrong_cookie_is_answered_with_the_right_one() {
    let mut peer = peer_with_cookie(4);
    let right = peer.cookie;
    peer.cookie = FastOpenCookie::new(&[7; 8]);
    let answers = peer.send(SYN, 100, 0, b"hello");
    assert_eq!(
        (answers[0].ack.value(), answers[0].options.fastopen),
        (101, right)
    );
    assert_eq!(peer.stats().tcp_fast_open_passive_fail, 1);
    assert_eq!(peer.accepted(), 0);
}

// The queue's places come back, whatever ends a child, and nothing leaks.
#[test]
fn a_reset_child_gives_everything_back() {
    let mut peer = peer_with_cookie(4);
    peer.accepts = false;
    let empty = peer.world.nodes[1].stack.occupancy();
    for round in 0..20 {
        peer.tuple.local.port += 1;
        let answers = peer.send(SYN, 100, 0, b"hello");
        assert_eq!(answers[0].ack.value(), 106, "round {round}");
        assert!(peer.send(RST, 106, 0, b"").is_empty());
        while peer.world.nodes[1].stack.poll_event().is_some() {}
    }
    assert_eq!(peer.world.nodes[1].stack.occupancy(), empty);
}
