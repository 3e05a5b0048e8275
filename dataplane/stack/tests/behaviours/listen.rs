//! Half-open requests: what ends them, what answers them, and who finds them.

use millrace_stack::{DropReason, TcpTunables};
use millrace_wire::TcpFlags;

use crate::peer::{ACK, Peer, RST, SYN};
use crate::wire::{address, config};

const FIN: TcpFlags = TcpFlags::FIN;

// RFC 9293 section 3.10.7.4, first and second: back to LISTEN.
// behaviour: MUST-11, A10-13, A10-21, X1-6, X1-21
#[test]
fn a_reset_in_the_window_ends_a_request_and_the_port_goes_on_listening() {
    let mut peer = Peer::new(10);
    peer.syn(100);
    assert!(peer.send(RST, 90_000_000, 0, b"").is_empty(), "elsewhere");
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 1);
    assert!(peer.send(RST, 101, 0, b"").is_empty());
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
    let stats = peer.stats();
    assert_eq!((stats.tcp_attempt_fails, stats.embryonic_rsts), (1, 1));
    peer.open();
}

// behaviour: A10-21
#[test]
fn a_syn_in_the_window_ends_a_request_and_is_reset() {
    let mut peer = Peer::new(10);
    peer.syn(100);
    let answers = peer.send(SYN, 105, 0, b"");
    assert!(answers.len() == 1 && answers[0].flags.rst());
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
    assert_eq!(peer.stats().embryonic_rsts, 1);
}

// Linux: tcp_oow_rate_limited, tcp_rtx_synack. behaviour: A10-4, A10-25, X1-7, X1-15, X1-22, X5-10
#[test]
fn a_syn_that_comes_again_is_answered_again_and_counted() {
    let mut peer = Peer::new(10);
    let first = peer.syn(100);
    assert_eq!(peer.syn(100), first, "the same request");
    assert!(peer.send(SYN, 100, 0, b"").is_empty(), "twice a second");
    let stats = peer.stats();
    assert_eq!(stats.tcp_ack_skipped_syn_recv, 1);
    assert_eq!((stats.tcp_retrans_segs, stats.tcp_syn_retrans), (1, 1));
    peer.tuple.local.port += 1;
    let other = peer.syn(100);
    assert_eq!(peer.syn(100), other, "every request has its own limit");
}

// Linux: tcp_synack_retries. behaviour: A10-23, A13-2, X1-7, X2-10
// behaviour: A31-6, A19-2
#[test]
fn as_many_syn_acks_are_sent_again_as_the_knob_says() {
    let mut config = config(2);
    config.tcp.tcp_synack_retries = 2;
    let mut peer = Peer::with(10, config);
    peer.syn(100);
    let sent = peer.wait(20_000);
    let seconds: Vec<u64> = sent.iter().map(|(ms, _)| ms / 1_000).collect();
    assert_eq!(seconds, [1, 3]);
    assert_eq!(peer.stats().tcp_retrans_segs, 2);
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
}

// Linux: syn_ack_recalc. A client that has nothing to say would never learn of its loss else.
// behaviour: A10-17, A10-20, A32-3
#[test]
fn an_ack_that_found_the_backlog_full_is_asked_for_again_and_then_opens() {
    let mut peer = Peer::new(2);
    peer.accepts = false;
    let mut late = Vec::new();
    for pair in [[1, 2], [3, 4]] {
        let mut acks = Vec::new();
        for port in pair {
            peer.tuple.local.port = port;
            let nxt = peer.syn(100).wrapping_add(1);
            acks.push(peer.frame(ACK, 101, nxt, b""));
        }
        for ack in acks {
            assert!(peer.put(&ack).is_empty());
            late = ack;
        }
    }
    assert_eq!(peer.stats().dropped(DropReason::RequestOverflow), 1);
    assert_eq!(peer.stats().listen_overflows, 1);
    let asked = peer.wait(1_500);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].1.flags, SYN | ACK);
    peer.accepts = true;
    peer.answers();
    assert_eq!(peer.accepted(), 3);
    assert!(peer.put(&late).is_empty());
    assert_eq!(peer.accepted(), 4);
}

// behaviour: A7-2, A7-3, HSH-12, RCV-8, RCV-12
// behaviour: A6-6
#[test]
fn a_segment_finds_its_connection_before_any_listener_and_by_all_four_numbers() {
    let mut peer = Peer::new(10);
    let (_, nxt) = peer.open();
    let answers = peer.send(SYN, 101, 0, b"");
    assert!(answers.len() == 1 && !answers[0].flags.syn(), "a challenge");
    assert_eq!(answers[0].seq.value(), nxt);
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
    peer.tuple.local.port += 1;
    peer.syn(101);
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 1);
}

// behaviour: LAY-23
#[test]
fn one_stack_does_not_know_the_ports_of_another() {
    let mut peer = Peer::new(10);
    peer.syn(100);
    let mut other = Peer::new(10);
    other.world.nodes[1].stack.set_listeners(&[]);
    let answers = other.send(SYN, 100, 0, b"");
    assert_eq!(answers[0].flags, RST | ACK);
}

// Leaks would show here: requests, cookies and connections of one storm.
// behaviour: A18-16, LSN-17
#[test]
fn nothing_is_left_of_a_storm_of_syns() {
    let mut peer = Peer::new(20);
    for port in 1..1_000 {
        peer.tuple.local.port = port;
        peer.send(SYN, u32::from(port), 0, b"");
    }
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 21);
    peer.wait(70_000);
    let node = &peer.world.nodes[1];
    assert_eq!(node.stack.occupancy(), millrace_stack::Occupancy::default());
    assert_eq!(node.pool.live(), 0);
}

// behaviour: A10-3, X1-18
#[test]
fn a_final_ack_with_an_old_timestamp_is_answered_and_counted() {
    let mut peer = Peer::new(10);
    peer.timestamp = Some(1_000);
    let nxt = peer.syn(100).wrapping_add(1);
    peer.timestamp = Some(999);
    let answers = peer.send(ACK, 101, nxt, b"");
    assert!(answers.len() == 1 && answers[0].flags == ACK);
    assert_eq!((peer.stats().paws_estab, peer.accepted()), (1, 0));
    peer.timestamp = Some(1_000);
    assert!(peer.send(ACK, 101, nxt, b"").is_empty());
    assert_eq!(peer.accepted(), 1);
}

// behaviour: A10-19, A16-12, LSN-24, STA-6
// behaviour: A16-13
#[test]
fn an_accepted_connection_knows_its_round_trip_its_sizes_and_the_peers_window() {
    let mut peer = Peer::new(10);
    peer.timestamp = Some(7);
    let nxt = peer.syn(100).wrapping_add(1);
    peer.wait(80);
    assert_eq!(peer.send(ACK, 101, nxt, b"first")[0].ack.value(), 106);
    let flow = peer.world.accepted(1).expect("accepted");
    let info = peer.world.nodes[1].stack.info(flow).expect("alive");
    assert_eq!(info.state.name(), "ESTAB");
    assert_eq!(info.srtt.map(|srtt| srtt.as_micros()), Some(80_000));
    assert_eq!((info.mss, info.snd_wnd), (988, 60_000));
    assert_eq!((info.unread_bytes, info.cwnd_bytes), (5, 9_880));
    assert!(info.timestamps && !info.sack_permitted);
}

// RFC 2873, and Linux: precedence is no reason for a reset. RFC 9293 section 3.9.1: IP options that
// nobody understands are ignored. behaviour: MUST-50, RCV-31
#[test]
fn precedence_and_unknown_ip_options_do_not_matter() {
    let mut peer = Peer::new(10);
    let mut frame = peer.frame(SYN, 100, 0, b"");
    frame[15] = 0xe0;
    assert!(peer.put_verified(&frame)[0].flags.syn());
    peer.tuple.local.port += 1;
    let mut frame = peer.frame(SYN, 100, 0, b"");
    // Router alert, a kind nobody has assigned, and the end.
    let options = [148, 4, 0, 0, 0x9e, 3, 7, 0];
    frame.splice(34..34, options);
    frame[14] = 0x47;
    let len = u16::from_be_bytes([frame[16], frame[17]]) + 8;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    assert!(peer.put_verified(&frame)[0].flags.syn());
}

// The knobs as Linux has them.
#[test]
fn a_request_is_given_up_after_63_seconds_unless_told_otherwise() {
    assert_eq!(TcpTunables::default().tcp_synack_retries, 5);
    let mut peer = Peer::new(10);
    peer.syn(100);
    assert_eq!(peer.wait(62_000).len(), 5);
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 1);
    peer.wait(2_000);
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
    assert!(peer.send(TcpFlags::ACK, 101, 1, b"")[0].flags.rst());
}

// behaviour: A10-26, A18-17, LSN-6, X6-6
// behaviour: A6-14
#[test]
fn the_final_ack_turns_a_request_into_a_connection_in_the_same_place() {
    let mut peer = Peer::new(10);
    let kinds = |peer: &Peer| {
        let occupancy = peer.world.nodes[1].stack.occupancy();
        (occupancy.half_open, occupancy.connections, occupancy.tuples)
    };
    let nxt = peer.syn(100).wrapping_add(1);
    assert_eq!(kinds(&peer), (1, 0, 1));
    peer.send(ACK, 101, nxt, b"");
    assert_eq!(kinds(&peer), (0, 1, 1));
}

// behaviour: A18-12, LSN-15
// behaviour: A17-9
#[test]
fn a_syn_from_where_no_way_leads_back_is_dropped_and_counted() {
    let mut peer = Peer::new(10);
    peer.tuple.local.address = millrace_base::Address::v4([192, 0, 2, 7]);
    assert!(peer.send(SYN, 100, 0, b"").is_empty());
    let stats = peer.stats();
    assert_eq!(
        (stats.listen_drops, stats.dropped(DropReason::NoRouteBack)),
        (1, 1)
    );
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
}

// behaviour: A33-1, X4-11
#[test]
fn connections_are_told_of_in_the_order_of_their_last_acks() {
    let mut peer = Peer::new(10);
    let mut acks = Vec::new();
    for port in [5, 3, 9] {
        peer.tuple.local.port = port;
        let nxt = peer.syn(100).wrapping_add(1);
        acks.push(peer.frame(ACK, 101, nxt, b""));
    }
    peer.accepts = false;
    for ack in [2, 0, 1] {
        peer.put(&acks[ack]);
    }
    peer.accepts = true;
    peer.answers();
    let events = &peer.world.nodes[1].events;
    let ports = events.iter().map(|event| {
        let info = peer.world.nodes[1].stack.info(event.flow);
        info.expect("alive").tuple.remote.port
    });
    assert_eq!(ports.collect::<Vec<_>>(), [9, 5, 3]);
}

// behaviour: A6-12, A13-1
#[test]
fn a_request_of_a_listener_that_is_gone_is_refused() {
    let mut peer = Peer::new(10);
    let nxt = peer.syn(100).wrapping_add(1);
    peer.world.nodes[1].stack.set_listeners(&[]);
    let answers = peer.send(ACK, 101, nxt, b"");
    assert!(answers.len() == 1 && answers[0].flags.rst());
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
}

// RFC 7323 section 4.3. behaviour: A10-11
#[test]
fn the_stamp_of_the_final_ack_is_the_one_that_is_echoed() {
    let mut peer = Peer::new(10);
    peer.timestamp = Some(1_000);
    let nxt = peer.syn(100).wrapping_add(1);
    peer.timestamp = Some(1_005);
    assert!(peer.send(ACK, 101, nxt, b"").is_empty());
    let flow = peer.world.accepted(1).expect("accepted");
    let node = &mut peer.world.nodes[1];
    node.stack
        .send(peer.world.now, flow, b"hello", &mut node.pool);
    let stamps = peer.answers()[0].options.timestamps;
    assert_eq!(stamps.map(|stamps| stamps.echo), Some(1_005));
}

// RFC 4987 section 3.6; Linux: cookie_init_timestamp. behaviour: A18-6, A19-7, LSN-11
#[test]
fn a_cookie_carries_scale_and_sack_in_its_stamp_and_nothing_without_one() {
    for stamped in [true, false] {
        let mut peer = Peer::new(0);
        peer.syn(1);
        peer.tuple.local.port = 41_000;
        peer.scale = Some(3);
        peer.timestamp = stamped.then_some(7);
        let answers = peer.send(SYN, 100, 0, b"");
        assert_eq!(peer.stats().syncookies_sent, 1);
        let offered = &answers[0].options;
        assert_eq!(offered.window_scale.is_some(), stamped);
        assert_eq!(offered.sack_permitted, stamped);
        peer.echo = offered.timestamps.map_or(0, |stamps| stamps.value);
        let nxt = answers[0].seq.value().wrapping_add(1);
        peer.send(ACK, 101, nxt, b"");
        let flow = peer.world.accepted(1).expect("accepted");
        let info = peer.world.nodes[1].stack.info(flow).expect("alive");
        assert_eq!(info.snd_scale, if stamped { 3 } else { 0 });
        assert_eq!((info.sack_permitted, info.timestamps), (stamped, stamped));
        // 1,000 is no size of the cookies' table: the next smaller one.
        assert!(info.mss <= 1_000 - if stamped { 12 } else { 0 });
    }
}

// Linux: tcp_syn_flood_action. behaviour: A17-4, LSN-8, X2-11
// behaviour: A31-5
#[test]
fn with_cookies_off_a_full_queue_is_silent_and_with_2_every_syn_gets_one() {
    let mut config = config(2);
    config.tcp.tcp_syncookies = 0;
    let mut peer = Peer::with(0, config.clone());
    peer.syn(1);
    peer.tuple.local.port = 41_000;
    assert!(peer.send(SYN, 100, 0, b"").is_empty());
    let stats = peer.stats();
    assert_eq!((stats.tcp_req_q_full_drop, stats.listen_drops), (1, 1));
    assert!(peer.send(ACK, 101, 1, b"")[0].flags.rst());
    config.tcp.tcp_syncookies = 2;
    let mut peer = Peer::with(10, config);
    peer.open();
    assert_eq!(peer.stats().syncookies_recv, 1);
    assert_eq!(peer.stats().tcp_req_q_full_do_cookies, 1);
}

// Linux: tcp_abort_on_overflow. behaviour: X2-9
#[test]
fn a_client_that_finds_the_backlog_full_is_reset_when_that_was_asked_for() {
    let mut config = config(2);
    config.tcp.tcp_abort_on_overflow = true;
    let mut peer = Peer::with(2, config);
    peer.accepts = false;
    let mut answers = Vec::new();
    for pair in [[1, 2], [3, 4]] {
        let mut acks = Vec::new();
        for port in pair {
            peer.tuple.local.port = port;
            let nxt = peer.syn(100).wrapping_add(1);
            acks.push(peer.frame(ACK, 101, nxt, b""));
        }
        for ack in acks {
            answers = peer.put(&ack);
        }
    }
    assert!(answers.len() == 1 && answers[0].flags.rst());
    assert_eq!(
        (peer.stats().listen_overflows, peer.stats().embryonic_rsts),
        (1, 1)
    );
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
}

// "Possible SYN flooding on port": told once, and again only after the queue was empty.
// behaviour: LSN-9, A17-4
#[test]
fn a_flood_is_told_once() {
    let mut peer = Peer::new(2);
    let flood = |peer: &mut Peer| {
        for port in 1..=20 {
            peer.tuple.local.port = port;
            peer.send(SYN, 100, 0, b"");
        }
    };
    flood(&mut peer);
    assert_eq!(peer.stats().syn_floods, 1);
    assert_eq!(
        peer.stats().tcp_req_q_full_do_cookies,
        17,
        "three are remembered"
    );
    flood(&mut peer);
    assert_eq!(peer.stats().syn_floods, 1);
    peer.wait(70_000);
    flood(&mut peer);
    assert_eq!(peer.stats().syn_floods, 2);
}

/// A server without cookies whose half-open queue has room for eight.
fn small_without_cookies() -> Peer {
    let mut config = config(2);
    config.tcp.tcp_syncookies = 0;
    config.tcp.tcp_max_syn_backlog = 8;
    Peer::with(100, config)
}

// Linux: the last quarter of `tcp_max_syn_backlog`.
// behaviour: TUN-7, A18-1, A18-3, X2-12, LSN-12
#[test]
fn without_cookies_the_last_quarter_is_closed_to_strangers() {
    let mut peer = small_without_cookies();
    for port in 1..=20 {
        peer.tuple.local.port = port;
        peer.send(SYN, 100, 0, b"");
    }
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 7);
    assert_eq!(peer.stats().dropped(DropReason::PeerUnproven), 13);
    assert_eq!(peer.stats().listen_drops, 13);
    let listener = millrace_base::ListenerId::new(1);
    let drops = peer.world.nodes[1].stack.listener_drops(listener);
    assert_eq!(drops, 13, "all of them its own");
    assert_eq!(
        peer.stats().tcp_req_q_full_drop,
        0,
        "the queue itself is not full"
    );
}

/// Opens a connection of the server and ends it in order, the client first.
fn open_and_close(peer: &mut Peer) {
    let (flow, nxt) = peer.open();
    peer.world.now = peer.world.now.after(millrace_base::Nanos::from_millis(20));
    peer.send(FIN | ACK, 101, nxt, b"");
    let node = &mut peer.world.nodes[1];
    node.stack.close(peer.world.now, flow);
    peer.answers();
    peer.send(ACK, 102, nxt.wrapping_add(1), b"");
}

// Linux: tcp_peer_is_proven. A peer is proven by a connection that has ended in order within the last
// hour, on any of its ports.
// behaviour: A18-1, A18-2, X2-12, X4-21, LSN-12
#[test]
fn a_proven_peer_gets_into_the_last_quarter_for_an_hour() {
    let mut peer = small_without_cookies();
    open_and_close(&mut peer);
    assert_eq!(peer.world.nodes[1].stack.connection_count(), 0);
    let stranger = address(false, 0, 77);
    let friend = peer.tuple.local.address;
    let flood = |peer: &mut Peer, address| {
        let before = peer.world.nodes[1].stack.occupancy().half_open;
        peer.tuple.local.address = address;
        for port in 1..=20 {
            peer.tuple.local.port = port;
            peer.send(SYN, 100, 0, b"");
        }
        peer.world.nodes[1].stack.occupancy().half_open - before
    };
    assert_eq!(flood(&mut peer, stranger), 7);
    assert_eq!(peer.stats().dropped(DropReason::PeerUnproven), 13);
    assert_eq!(flood(&mut peer, friend), 20);
    assert_eq!(peer.stats().dropped(DropReason::PeerUnproven), 13);
    // All of them are given up; more than an hour later nobody is proven any more.
    peer.wait(100_000);
    peer.wait(10);
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
    peer.world.now = peer.world.now.after(millrace_base::Nanos::from_secs(3_600));
    assert_eq!(flood(&mut peer, friend), 7);
}

// Linux: tcp_update_metrics is not for a connection that was reset.
// behaviour: A18-2, A16-20
#[test]
fn a_reset_connection_proves_nothing() {
    let mut peer = small_without_cookies();
    let (_, nxt) = peer.open();
    peer.send(RST, 101, nxt, b"");
    let (stack, now) = (&peer.world.nodes[1].stack, peer.world.now);
    let from_server = millrace_base::FlowTuple {
        local: peer.tuple.remote,
        remote: peer.tuple.local,
    };
    assert_eq!(stack.peer_metrics(now, &from_server), None);
    open_and_close(&mut peer);
    let (stack, now) = (&peer.world.nodes[1].stack, peer.world.now);
    let known = stack.peer_metrics(now, &from_server).expect("remembered");
    assert!(known.rtt.as_micros() > 0 && known.cwnd == 10, "{known:?}");
}

/// The server of a peer, with other options of its listener.
fn with_options(options: millrace_stack::ListenOptions) -> Peer {
    let mut peer = Peer::new(10);
    let row = millrace_stack::Listener {
        options,
        ..crate::wire::listener(1, crate::wire::address(false, 0, 2), 80)
    };
    peer.world.nodes[1].stack.set_listeners(&[row]);
    peer
}

// Linux: TCPDeferAcceptDrop. behaviour: A10-16, X1-20
#[test]
fn a_bare_ack_to_a_deferring_listener_is_dropped_and_counted() {
    let mut peer = with_options(millrace_stack::ListenOptions {
        defer_accept: 3,
        ..millrace_stack::ListenOptions::default()
    });
    let nxt = peer.syn(100).wrapping_add(1);
    assert!(peer.send(ACK, 101, nxt, b"").is_empty());
    assert_eq!(
        (peer.stats().tcp_defer_accept_drop, peer.accepted()),
        (1, 0)
    );
    assert!(peer.wait(6_900).is_empty(), "silence while data is awaited");
    let asked = peer.wait(200);
    assert_eq!((asked.len(), asked[0].1.flags), (1, SYN | ACK));
    assert_eq!(peer.send(ACK, 101, nxt, b"hello").len(), 1);
    assert_eq!(peer.accepted(), 1);
}

// `SO_BINDTODEVICE`. behaviour: LSN-39, A7-5, OPT-26
#[test]
fn a_listener_of_another_port_is_not_asked() {
    for (port, flags) in [(0, SYN | ACK), (1, RST | ACK)] {
        let mut peer = with_options(millrace_stack::ListenOptions {
            port: Some(millrace_base::PortId::new(port)),
            ..millrace_stack::ListenOptions::default()
        });
        let answers = peer.send(SYN, 100, 0, b"");
        assert_eq!(answers[0].flags, flags, "port {port}");
    }
}

// Linux: `tcp_syn_ack_timeout`, at every timeout and at the last one too. behaviour: A13-2
#[test]
fn every_timeout_of_a_request_is_counted() {
    let mut peer = with_options(millrace_stack::ListenOptions {
        syn_retries: 2,
        ..millrace_stack::ListenOptions::default()
    });
    peer.syn(100);
    assert_eq!(peer.wait(10_000).len(), 2);
    assert_eq!(peer.stats().tcp_timeouts, 3);
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
}

// Linux: TCP_RESET and TCP_FLAGS. behaviour: A31-4
#[test]
fn what_a_listener_drops_is_counted_by_its_reason() {
    let mut peer = Peer::new(10);
    for (flags, reset, nonsense) in [
        (RST, 1, 0),
        (SYN | TcpFlags::FIN, 1, 1),
        (TcpFlags::NONE, 1, 2),
        (TcpFlags::FIN, 1, 3),
    ] {
        let frame = peer.frame(flags, 100, 0, b"");
        assert!(peer.put(&frame).is_empty(), "{flags:?}");
        let stats = peer.stats();
        let dropped = |reason| stats.dropped(reason);
        assert_eq!(dropped(DropReason::ListenerIgnored), reset, "{flags:?}");
        assert_eq!(dropped(DropReason::ListenerFlags), nonsense, "{flags:?}");
    }
}

// What a request remembers is what its connection begins with. behaviour: X4-15
#[test]
fn a_request_remembers_what_its_connection_needs() {
    let mut peer = Peer::new(10);
    peer.scale = Some(5);
    peer.timestamp = Some(1_000);
    let nxt = peer.syn(100).wrapping_add(1);
    assert_eq!(peer.wait(3_500).len(), 2, "it has a timer of its own");
    peer.timestamp = Some(1_001);
    assert!(peer.send(ACK, 101, nxt, b"").is_empty());
    let flow = peer.world.accepted(1).expect("accepted");
    let info = peer.world.nodes[1].stack.info(flow).expect("alive");
    assert_eq!((info.snd_scale, info.mss), (5, 1_000 - 12));
    assert!(info.sack_permitted && info.timestamps);
    let node = &mut peer.world.nodes[1];
    node.stack
        .send(peer.world.now, flow, b"hello", &mut node.pool);
    let [data] = &peer.answers()[..] else {
        panic!("one segment")
    };
    assert_eq!((data.seq.value(), data.ack.value()), (nxt, 101));
    let echo = data.options.timestamps.map(|stamps| stamps.echo);
    assert_eq!(echo, Some(1_001));
}
