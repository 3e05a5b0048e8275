//! FIN_WAIT2 after the application has gone: the record that waits, and orphans that are too many.

use millrace_stack::FlowId;
use millrace_wire::TcpFlags;

use crate::peer::{ACK, Peer, RST, SYN};
use crate::wire::config;

const FIN: TcpFlags = TcpFlags::FIN;

/// A server whose application closes and whose FIN is acknowledged; its next number.
fn fin_wait_2(peer: &mut Peer) -> u32 {
    let (flow, nxt) = peer.open();
    close(peer, flow, nxt)
}

fn close(peer: &mut Peer, flow: FlowId, nxt: u32) -> u32 {
    peer.world.nodes[1].stack.close(peer.world.now, flow);
    assert!(peer.answers()[0].flags.fin());
    let nxt = nxt.wrapping_add(1);
    assert!(peer.send(ACK, 101, nxt, b"").is_empty());
    nxt
}

/// Connections, and records in TIME_WAIT and FIN_WAIT2.
fn held(peer: &Peer) -> (usize, usize) {
    let occupancy = peer.world.nodes[1].stack.occupancy();
    (occupancy.connections, occupancy.time_wait)
}

// Linux: `tcp_time_wait(sk, TCP_FIN_WAIT2, ..)`. behaviour: A16-18, A25-14, A25-17, X5-8, A26-2
// behaviour: X4-16
#[test]
fn a_record_without_a_connection_waits_for_the_peers_fin() {
    let mut peer = Peer::new(10);
    peer.timestamp = Some(1_000);
    let nxt = fin_wait_2(&mut peer);
    assert_eq!(held(&peer), (0, 1));
    assert_eq!(peer.stats().tw, 1);
    peer.timestamp = Some(1_500);
    let answers = peer.send(ACK | FIN, 101, nxt, b"");
    let [ack] = &answers[..] else {
        panic!("one ACK: {answers:?}")
    };
    assert_eq!(
        (ack.flags, ack.seq.value(), ack.ack.value()),
        (ACK, nxt, 102)
    );
    let stamps = ack.options.timestamps.expect("timestamps go on");
    assert_eq!(stamps.echo, 1_500);
    assert!(ack.window > 0);
}

// behaviour: A25-17, STA-13
#[test]
fn the_record_goes_after_tcp_fin_timeout_and_the_late_fin_is_nobodys() {
    let mut config = config(2);
    config.tcp.tcp_fin_timeout = 7;
    let mut peer = Peer::with(10, config);
    let nxt = fin_wait_2(&mut peer);
    peer.wait(6_900);
    assert_eq!(held(&peer), (0, 1));
    peer.wait(200);
    assert_eq!(held(&peer), (0, 0));
    let answers = peer.send(ACK | FIN, 101, nxt, b"");
    assert!(answers[0].flags.rst());
}

// A program that shuts down, reads on and closes when its FIN is acknowledged. behaviour: A25-17
#[test]
fn closing_in_fin_wait2_leaves_the_record_only() {
    let mut peer = Peer::new(10);
    let (flow, nxt) = peer.open();
    let now = peer.world.now;
    peer.world.nodes[1].stack.shutdown(now, flow);
    assert!(peer.answers()[0].flags.fin());
    let nxt = nxt.wrapping_add(1);
    assert!(peer.send(ACK, 101, nxt, b"").is_empty());
    assert_eq!(held(&peer), (1, 0));
    peer.world.nodes[1].stack.close(now, flow);
    assert_eq!(held(&peer), (0, 1));
}

// Linux: TCPACKSkippedFinWait2. behaviour: A26-11, X1-16, A26-26
#[test]
fn what_lies_outside_the_window_is_acknowledged_and_not_too_often() {
    let mut peer = Peer::new(10);
    let nxt = fin_wait_2(&mut peer);
    let answers = peer.send(ACK, 50, nxt, b"");
    assert_eq!((answers.len(), answers[0].ack.value()), (1, 101));
    assert!(peer.send(ACK, 51, nxt, b"").is_empty());
    assert_eq!(peer.stats().tcp_ack_skipped_fin_wait2, 1);
    let data = peer.send(ACK, 51, nxt, b"old");
    assert_eq!(data.len(), 1, "data is in no war of ACKs");
    peer.wait(500);
    assert_eq!(peer.send(ACK, 51, nxt, b"").len(), 1);
    assert_eq!(held(&peer), (0, 1));
}

// behaviour: A26-13
#[test]
fn a_syn_in_the_window_is_refused_and_the_record_goes() {
    let mut peer = Peer::new(10);
    fin_wait_2(&mut peer);
    let answers = peer.send(SYN, 101, 0, b"");
    assert_eq!((answers.len(), answers[0].flags), (1, RST | ACK));
    assert_eq!(held(&peer), (0, 0));
    peer.syn(200);
}

// behaviour: A26-14
#[test]
fn duplicate_acks_and_segments_without_ack_mean_nothing() {
    let mut peer = Peer::new(10);
    let nxt = fin_wait_2(&mut peer);
    assert!(peer.send(ACK, 101, nxt, b"").is_empty());
    assert!(peer.send(FIN, 101, 0, b"").is_empty());
    assert_eq!(held(&peer), (0, 1));
}

// `TCP_LINGER2` below 0. behaviour: A16-16, STA-11, X1-24
#[test]
fn without_patience_the_ack_of_the_fin_is_answered_by_a_reset() {
    let mut peer = Peer::new(10);
    let (flow, nxt) = peer.open();
    let now = peer.world.now;
    peer.world.nodes[1].stack.set_linger2(flow, -1);
    peer.world.nodes[1].stack.close(now, flow);
    peer.answers();
    let answers = peer.send(ACK, 101, nxt.wrapping_add(1), b"");
    let [reset] = &answers[..] else {
        panic!("one reset: {answers:?}")
    };
    assert_eq!((reset.flags, reset.seq.value()), (RST, nxt.wrapping_add(1)));
    assert_eq!(held(&peer), (0, 0));
    assert_eq!(peer.stats().tcp_abort_on_data, 1);
    assert_eq!(peer.stats().tcp_abort_on_linger, 0);
}

// behaviour: A25-16, X1-26, OPT-17
#[test]
fn without_patience_closing_in_fin_wait2_resets() {
    let mut peer = Peer::new(10);
    let (flow, nxt) = peer.open();
    let now = peer.world.now;
    peer.world.nodes[1].stack.set_linger2(flow, -1);
    peer.world.nodes[1].stack.shutdown(now, flow);
    peer.answers();
    assert!(peer.send(ACK, 101, nxt.wrapping_add(1), b"").is_empty());
    peer.world.nodes[1].stack.close(now, flow);
    let answers = peer.answers();
    assert_eq!((answers.len(), answers[0].flags), (1, RST | ACK));
    assert_eq!(peer.stats().tcp_abort_on_linger, 1);
    assert_eq!(held(&peer), (0, 0));
}

// behaviour: OPT-17, A25-17
#[test]
fn a_connection_may_have_a_patience_of_its_own() {
    let mut peer = Peer::new(10);
    let (flow, nxt) = peer.open();
    peer.world.nodes[1].stack.set_linger2(flow, 3);
    close(&mut peer, flow, nxt);
    assert_eq!((peer.stats().tw, peer.stats().tw_killed), (0, 1));
    peer.wait(2_900);
    assert_eq!(held(&peer), (0, 1));
    peer.wait(200);
    assert_eq!(held(&peer), (0, 0));
}

// behaviour: A25-18, X1-27, X2-4
#[test]
fn an_orphan_too_many_is_reset_and_counted() {
    let mut config = config(4);
    config.tcp.tcp_max_orphans = Some(1);
    let mut peer = Peer::with(10, config);
    let mut flows = Vec::new();
    for port in [40_000, 40_001] {
        peer.tuple.local.port = port;
        flows.push(peer.open().0);
    }
    let now = peer.world.now;
    peer.world.nodes[1].stack.close(now, flows[0]);
    assert!(peer.answers()[0].flags.fin());
    peer.world.nodes[1].stack.close(now, flows[1]);
    let flags: Vec<TcpFlags> = peer.answers().iter().map(|answer| answer.flags).collect();
    assert_eq!(flags, [FIN | ACK, RST | ACK]);
    assert_eq!(peer.stats().tcp_abort_on_memory, 1);
    assert_eq!(held(&peer), (1, 0));
}

// `sysctl_tcp_max_orphans = ehash slots / 2`. behaviour: A1-12, A25-18
#[test]
fn half_of_the_connections_may_be_orphans() {
    let mut config = config(4);
    config.connections_max = 4;
    let mut peer = Peer::with(10, config);
    let mut flows = Vec::new();
    for port in 40_000..40_004 {
        peer.tuple.local.port = port;
        flows.push(peer.open().0);
    }
    let now = peer.world.now;
    let mut resets = 0;
    for flow in flows {
        peer.world.nodes[1].stack.close(now, flow);
        resets += peer
            .answers()
            .iter()
            .filter(|answer| answer.flags.rst())
            .count();
    }
    assert_eq!((resets, held(&peer).0), (2, 2));
}

// Linux: `tcp_out_of_resources`: one that is not answered counts double. behaviour: A25-18
#[test]
fn an_orphan_that_must_retransmit_gives_way_earlier() {
    let mut config = config(8);
    config.tcp.tcp_max_orphans = Some(3);
    let mut peer = Peer::with(10, config);
    for port in 40_000..40_002 {
        peer.tuple.local.port = port;
        let flow = peer.open().0;
        let now = peer.world.now;
        peer.world.nodes[1].stack.close(now, flow);
        peer.answers();
    }
    peer.wait(30_000);
    assert_eq!(held(&peer).0, 2, "two are not too many");
    peer.wait(200_000);
    assert_eq!(
        peer.stats().tcp_abort_on_memory,
        0,
        "nor twice one after the other"
    );
}

// behaviour: A26-6
#[test]
fn beyond_tcp_max_tw_buckets_a_connection_ends_without_a_record() {
    let mut config = config(2);
    config.tcp.tcp_max_tw_buckets = 0;
    let mut peer = Peer::with(10, config);
    let (flow, nxt) = peer.open();
    let now = peer.world.now;
    peer.world.nodes[1].stack.close(now, flow);
    peer.answers();
    let last = peer.send(ACK | FIN, 101, nxt.wrapping_add(1), b"");
    assert_eq!(
        (last.len(), last[0].ack.value()),
        (1, 102),
        "it is acknowledged"
    );
    assert_eq!(held(&peer), (0, 0));
    assert_eq!(peer.stats().tcp_time_wait_overflow, 1);
}

// What comes for a connection that is over finds nobody. behaviour: STA-5, A16-2
#[test]
fn segments_for_a_closed_connection_change_nothing() {
    let mut peer = Peer::new(10);
    let (flow, nxt) = peer.open();
    let now = peer.world.now;
    peer.world.nodes[1]
        .stack
        .send(now, flow, b"x", &mut millrace_base::HeapPool::new(1, 2_176));
    assert!(peer.send(ACK | FIN, 101, nxt, b"").len() <= 2);
    assert!(peer.send(RST, 102, 0, b"").is_empty());
    let answers = peer.send(RST, 102, 0, b"");
    assert!(answers.is_empty(), "{answers:?}");
    let counted = peer.stats().tcp_in_segs;
    assert!(peer.send(RST | ACK, 102, nxt, b"data").is_empty());
    assert_eq!(peer.stats().tcp_in_segs, counted + 1);
}
