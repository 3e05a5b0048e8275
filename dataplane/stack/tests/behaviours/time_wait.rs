//! TIME_WAIT seen from outside: who may end it, who may reopen it, and what is counted.

use millrace_base::Nanos;
use millrace_wire::TcpFlags;

use crate::peer::{ACK, Peer, RST, SYN};
use crate::wire::{World, address, config, listener, tuple};

const FIN: TcpFlags = TcpFlags::FIN;

/// A server that has closed first and has heard the peer's FIN; its next number.
fn time_wait(peer: &mut Peer) -> u32 {
    let (flow, nxt) = peer.open();
    peer.world.nodes[1].stack.close(peer.world.now, flow);
    assert!(peer.answers()[0].flags.fin());
    let nxt = nxt.wrapping_add(1);
    let last = peer.send(ACK | FIN, 101, nxt, b"");
    assert_eq!(last[0].ack.value(), 102);
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 1);
    nxt
}

// RFC 9293 section 3.10.7.4 and RFC 6191.
// behaviour: A6-11, A6-24, A17-3, STA-33, STA-34, X6-17
#[test]
fn a_new_syn_reopens_a_tuple_beyond_its_old_numbers_even_when_the_queue_is_full() {
    let mut peer = Peer::new(1);
    let nxt = time_wait(&mut peer);
    let port = peer.tuple.local.port;
    peer.tuple.local.port = 50_000;
    peer.syn(1);
    peer.tuple.local.port = port;
    let before = peer.stats().syncookies_sent;
    let mut damaged = peer.frame(SYN, 5_000, 0, b"");
    damaged[40] ^= 1;
    assert!(peer.put(&damaged).is_empty());
    assert_eq!(peer.stats().tcp_in_csum_errors, 1);
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 1);
    assert_eq!(peer.syn(5_000), nxt.wrapping_add(65_535 + 2));
    let occupancy = peer.world.nodes[1].stack.occupancy();
    assert_eq!((occupancy.time_wait, occupancy.half_open), (0, 2));
    assert_eq!(peer.stats().syncookies_sent, before);
}

// behaviour: A6-26, STA-34, X1-17, X5-9, X5-10
#[test]
fn what_comes_late_is_acknowledged_twice_a_second_and_keeps_the_minute() {
    let mut peer = Peer::new(10);
    let nxt = time_wait(&mut peer);
    peer.wait(30_000);
    let again = peer.send(ACK | FIN, 101, nxt, b"");
    assert_eq!((again[0].seq.value(), again[0].ack.value()), (nxt, 102));
    assert_eq!(peer.send(ACK, 50, nxt, b"").len(), 1);
    assert!(peer.send(ACK, 50, nxt, b"").is_empty());
    assert_eq!(peer.stats().tcp_ack_skipped_time_wait, 1);
    peer.wait(59_000);
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 1);
    peer.wait(2_000);
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 0);
    assert!(peer.send(ACK | FIN, 101, nxt, b"")[0].flags.rst());
}

// RFC 1337, with tcp_rfc1337 0 as Linux has it. behaviour: A26-18, STA-36
#[test]
fn an_exact_reset_ends_the_record_and_old_ones_are_ignored() {
    let mut peer = Peer::new(10);
    time_wait(&mut peer);
    assert!(peer.send(RST, 90, 0, b"").is_empty());
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 1);
    assert!(peer.send(RST, 102, 0, b"").is_empty());
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 0);
}

// Without a listener a SYN is a late segment. behaviour: A6-25, STA-34
#[test]
fn without_a_listener_a_new_syn_draws_an_ack() {
    let mut peer = Peer::new(10);
    let nxt = time_wait(&mut peer);
    peer.world.nodes[1].stack.set_listeners(&[]);
    let answers = peer.send(SYN, 5_000, 0, b"");
    assert_eq!((answers[0].flags, answers[0].seq.value()), (ACK, nxt));
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 1);
}

// The table has 32 places; the record that is oldest makes room. behaviour: A26-6, X1-28
#[test]
fn a_full_table_of_time_waits_is_counted() {
    let mut world = World::chain(1, 2);
    let server = address(false, 0, 2);
    world.nodes[1]
        .stack
        .set_listeners(&[listener(1, server, 80)]);
    for port in 1..=33 {
        let flow = tuple(address(false, 0, 1), port, server, 80);
        let client = world.nodes[0].stack.connect(world.now, flow, 0);
        let client = client.expect("room");
        world.nodes[1].events.clear();
        world.run_until(1_000, |world| world.accepted(1).is_some());
        let accepted = world.accepted(1).expect("accepted");
        world.nodes[0].stack.close(world.now, client);
        world.run_for(100);
        world.nodes[1].stack.close(world.now, accepted);
        world.run_for(100);
    }
    let stats = world.nodes[0].stack.stats();
    assert_eq!(stats.tcp_time_wait_overflow, 1);
    assert_eq!(world.nodes[0].stack.occupancy().time_wait, 32);
    world.now = world.now.after(Nanos::from_millis(1));
}

/// A server that has closed first and whose FIN is acknowledged; its next number.
fn fin_wait_2(peer: &mut Peer) -> u32 {
    let (flow, nxt) = peer.open();
    peer.world.nodes[1].stack.close(peer.world.now, flow);
    assert!(peer.answers()[0].flags.fin());
    assert!(peer.send(ACK, 101, nxt.wrapping_add(1), b"").is_empty());
    nxt.wrapping_add(1)
}

// behaviour: A26-12
#[test]
fn an_orphan_in_fin_wait_2_is_ended_by_a_reset() {
    let mut peer = Peer::new(10);
    fin_wait_2(&mut peer);
    assert!(peer.send(RST, 101, 0, b"").is_empty());
    let occupancy = peer.world.nodes[1].stack.occupancy();
    assert_eq!((occupancy.connections, occupancy.time_wait), (0, 0));
}

// behaviour: A26-15
#[test]
fn data_for_an_orphan_in_fin_wait_2_draws_a_reset_with_or_without_a_fin() {
    for flags in [ACK, ACK | FIN] {
        let mut peer = Peer::new(10);
        let nxt = fin_wait_2(&mut peer);
        let answers = peer.send(flags, 101, nxt, b"late");
        assert!(answers.len() == 1 && answers[0].flags.rst(), "{answers:?}");
        assert_eq!(peer.world.nodes[1].stack.occupancy().connections, 0);
    }
}

// behaviour: A26-16, X6-16
#[test]
fn a_fin_for_an_orphan_in_fin_wait_2_begins_the_minute() {
    let mut peer = Peer::new(10);
    let nxt = fin_wait_2(&mut peer);
    peer.wait(50_000);
    let answers = peer.send(ACK | FIN, 101, nxt, b"");
    assert_eq!((answers.len(), answers[0].ack.value()), (1, 102));
    peer.wait(59_000);
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 1);
    peer.wait(2_000);
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 0);
}

// Linux: PAWSEstabRejected. behaviour: A26-10, A26-23, X1-18
#[test]
fn an_old_stamp_in_time_wait_is_acknowledged_and_counted() {
    let mut peer = Peer::new(10);
    peer.timestamp = Some(1_000);
    let nxt = time_wait(&mut peer);
    peer.timestamp = Some(999);
    let answers = peer.send(SYN, 5_000, 0, b"");
    assert_eq!((answers[0].flags, answers[0].seq.value()), (ACK, nxt));
    let echo = answers[0].options.timestamps.map(|stamps| stamps.echo);
    assert_eq!((echo, peer.stats().paws_estab), (Some(1_000), 1));
}

// RFC 1337 section 3, fix F1. behaviour: A26-18, X2-17
#[test]
fn with_tcp_rfc1337_a_reset_does_not_end_the_record() {
    let mut config = config(2);
    config.tcp.tcp_rfc1337 = true;
    let mut peer = Peer::with(10, config);
    time_wait(&mut peer);
    peer.wait(30_000);
    assert!(peer.send(RST, 102, 0, b"").is_empty());
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 1);
    peer.wait(31_000);
    let left = peer.world.nodes[1].stack.occupancy().time_wait;
    assert_eq!(left, 0, "nor does it live longer for it");
}
