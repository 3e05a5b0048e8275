//! Loss recovery from the inside: counters, the timer's purposes, what is remembered of a path.
//! What a peer sees of it is in `stack/tests/scripts/{rack,tlp,frto,undo,recovery}`.

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::recovery::Phase;
use crate::tcp::testing::{Bench, ack};
use crate::tcp::timers::Purpose;

fn in_flight(sack: bool, segments: usize) -> Bench {
    let mut bench = Bench::established(sack);
    bench.world.tunables.tcp_early_retrans = 0;
    bench.write(segments * 1_000);
    assert_eq!(bench.sent().len(), segments);
    bench.advance(50);
    bench
}

fn purpose(bench: &Bench) -> Option<Purpose> {
    let timers = &bench.connection.timers;
    (!timers.retransmit.is_never()).then_some(timers.purpose)
}

// Linux: the numbers of `enum tcp_ca_state`, which TCP_INFO tells. behaviour: X6-19
#[test]
fn the_states_have_the_numbers_that_linux_tells() {
    let all = [
        Phase::Open,
        Phase::Disorder,
        Phase::Cwr,
        Phase::Recovery,
        Phase::Loss,
    ];
    assert_eq!(all.map(|phase| phase as u8), [0, 1, 2, 3, 4]);
}

// Linux: `icsk_pending`. behaviour: TMR-2
#[test]
fn one_timer_serves_the_tail_reordering_timeouts_and_closed_windows() {
    let mut bench = Bench::established(true);
    assert_eq!(purpose(&bench), None);
    bench.write(4_000);
    bench.sent();
    assert_eq!(purpose(&bench), Some(Purpose::TailProbe));
    bench.advance(50);
    bench.receive(ack(0).sack(&[(1_000, 2_000)]));
    assert_eq!(purpose(&bench), Some(Purpose::Reorder));
    bench.advance(30);
    assert_eq!(bench.sent()[0].seq, 0, "late for too long");
    assert_eq!(purpose(&bench), Some(Purpose::Retransmit));
    bench.advance(20);
    bench.receive(ack(4_000).window(0));
    bench.write(1_000);
    assert_eq!(bench.sent(), []);
    assert_eq!(purpose(&bench), Some(Purpose::Probe));
    bench.finish();
}

// Linux: tcp_retransmit_timer. behaviour: TMR-10
#[test]
fn the_first_timeout_in_a_row_is_counted_by_the_state_it_ends() {
    let mut bench = in_flight(true, 10);
    for end in [2_000, 3_000, 4_000] {
        bench.receive(ack(0).sack(&[(1_000, end)]));
    }
    bench.sent();
    assert_eq!(bench.info().phase, Phase::Recovery);
    bench.advance(10_000);
    bench.sent();
    bench.advance(10_000);
    let stats = &bench.world.stats;
    assert_eq!((stats.tcp_sack_recovery_fail, stats.tcp_timeouts), (1, 2));
    bench.sent();
    bench.receive(ack(1_000).sack(&[(1_000, 4_000)]));
    bench.finish();

    let mut bench = in_flight(false, 10);
    bench.receive(ack(0));
    bench.receive(ack(0));
    assert_eq!(bench.info().phase, Phase::Disorder);
    bench.advance(10_000);
    assert_eq!(bench.world.stats.tcp_reno_failures, 1);
    bench.sent();
    // Something is acknowledged: the next timeout is a first one again, in Loss.
    bench.advance(50);
    bench.receive(ack(1_000));
    bench.sent();
    assert_eq!(bench.info().phase, Phase::Loss);
    bench.advance(10_000);
    assert_eq!(bench.world.stats.tcp_loss_failures, 1);
    bench.sent();
    bench.finish();

    let mut bench = in_flight(false, 10);
    for _ in 0..3 {
        bench.receive(ack(0));
    }
    bench.sent();
    bench.advance(10_000);
    assert_eq!(bench.world.stats.tcp_reno_recovery_fail, 1);
    bench.finish();
}

// Linux: __tcp_retransmit_skb. behaviour: TMR-22
#[test]
fn retransmissions_are_counted_for_the_host_and_the_connection() {
    let mut bench = in_flight(true, 10);
    for end in [2_000, 3_000, 4_000] {
        bench.receive(ack(0).sack(&[(1_000, end)]));
    }
    assert_eq!(bench.sent()[0].seq, 0);
    bench.advance(10_000);
    assert_eq!(bench.sent()[0].seq, 0);
    let stats = &bench.world.stats;
    let kinds = (stats.tcp_fast_retrans, stats.tcp_slow_start_retrans);
    // That of a timeout is of no kind (Linux: tcp_retransmit_timer).
    assert_eq!((stats.tcp_retrans_segs, kinds), (2, (1, 0)));
    assert_eq!(bench.info().retransmissions, 2);
    // Linux: tcp_mark_skb_lost, whoever finds it.
    assert_eq!(bench.world.stats.tcp_lost_retransmit, 1);
    bench.finish();
}

// RFC 8985 section 7.3. behaviour: TMR-18
#[test]
fn a_timeout_ends_the_episode_of_a_probe() {
    let mut bench = Bench::established(true);
    bench.write(4_000);
    bench.sent();
    bench.advance(250);
    assert_eq!(bench.sent()[0].seq, 3_000, "the probe");
    assert_eq!(bench.world.stats.tcp_loss_probes, 1);
    bench.advance(10_000);
    assert_eq!(bench.sent()[0].seq, 0, "the timeout");
    // More than the probe is acknowledged; but it was the timeout that repaired the loss.
    bench.write(1_000);
    bench.advance(50);
    bench.receive(ack(4_000));
    bench.sent();
    bench.advance(50);
    bench.receive(ack(5_000));
    assert_eq!(bench.world.stats.tcp_loss_probe_recovery, 0);
    bench.finish();
}

// Linux: tcp_enter_loss. behaviour: A21-13, X2-14
#[test]
fn a_timeout_after_many_duplicates_shows_that_reordering_was_overestimated() {
    let mut bench = in_flight(false, 4);
    for _ in 0..5 {
        bench.receive(ack(0));
    }
    assert_eq!(
        bench.info().reordering,
        Some(4),
        "more than can be: reordering"
    );
    bench.sent();
    bench.advance(20);
    bench.receive(ack(4_000));
    bench.write(6_000);
    bench.sent();
    bench.advance(20);
    bench.receive(ack(5_000));
    bench.sent();
    for _ in 0..3 {
        bench.receive(ack(5_000));
    }
    assert_eq!(bench.info().phase, Phase::Disorder, "four are needed now");
    bench.advance(10_000);
    assert_eq!(bench.info().reordering, None);
    bench.sent();
    bench.finish();
}

// Linux: tcp_try_undo_recovery, tcp_try_undo_dsack, tcp_try_undo_loss. behaviour: X8-16, TMR-24
#[test]
fn each_way_to_undo_has_its_counter() {
    let (tunables, options) = (TcpTunables::default(), ConnectionOptions::default());
    let mut bench = Bench::established_with(true, tunables, options, Some(1));
    bench.write(10_000);
    let first = bench.sent()[0].stamps.expect("timestamps").0;
    bench.advance(50);
    for end in [2_000, 3_000, 4_000] {
        bench.receive(ack(0).sack(&[(1_000, end)]).stamps(2, first));
    }
    bench.sent();
    bench.receive(ack(10_000).stamps(3, first));
    assert_eq!(bench.world.stats.tcp_full_undo, 1);
    assert_eq!(bench.info().ssthresh_bytes, u32::MAX);
    bench.finish();

    let mut bench = in_flight(true, 10);
    for end in [2_000, 3_000, 4_000] {
        bench.receive(ack(0).sack(&[(1_000, end)]));
    }
    bench.sent();
    bench.advance(20);
    bench.receive(ack(4_000).sack(&[(0, 1_000)]));
    assert_eq!(bench.world.stats.tcp_dsack_undo, 1);
    let stats = &bench.world.stats;
    assert_eq!((stats.tcp_dsack_recv, stats.tcp_dsack_recv_segs), (1, 1));
    assert_eq!(bench.info().phase, Phase::Open);
    bench.finish();

    let mut bench = in_flight(true, 10);
    bench.write(5_000);
    bench.advance(10_000);
    bench.sent();
    bench.receive(ack(2_000));
    let stats = &bench.world.stats;
    assert_eq!((stats.tcp_loss_undo, stats.tcp_spurious_rtos), (1, 1));
    assert_eq!(bench.info().phase, Phase::Open);
    assert!(bench.info().cwnd_bytes >= 10_000);
    bench.finish();
}

// Linux: tcp_fastretrans_alert, step D: what was sent in CWR must be acknowledged, so that the peer
// has seen it. behaviour: A22-6
#[test]
fn cwr_lasts_until_more_than_its_end_is_acknowledged() {
    let mut bench = in_flight(true, 10);
    let mut env = bench.world.env(bench.now);
    bench.connection.enter_cwr(&mut env);
    assert_eq!(bench.info().phase, Phase::Cwr);
    assert_eq!(bench.info().ssthresh_bytes, 7_000);
    bench.receive(ack(5_000));
    assert!(bench.info().cwnd_bytes <= 7_000);
    bench.receive(ack(10_000));
    assert_eq!(bench.info().phase, Phase::Cwr, "not yet");
    bench.write(1_000);
    bench.sent();
    bench.advance(20);
    bench.receive(ack(11_000));
    assert_eq!(bench.info().phase, Phase::Open);
    assert_eq!(bench.info().cwnd_bytes / 1_000, 7);
    bench.finish();
}

// RFC 1122 section 4.2.3.5: R1 is three retransmissions at least. behaviour: TUN-8, SHLD-10
#[test]
fn after_three_retransmissions_the_route_is_in_doubt() {
    let mut bench = in_flight(true, 1);
    let mut seen = Vec::new();
    for _ in 0..7 {
        bench.advance(200_000);
        bench.sent();
        let doubts = bench
            .connection
            .doubts_route(bench.now, &bench.world.tunables);
        seen.push(doubts);
    }
    assert_eq!(seen[..4], [false; 4], "R1 counts from the smallest timeout");
    assert!(seen[6]);
    bench.receive(ack(1_000));
    let tunables = &bench.world.tunables;
    assert!(!bench.connection.doubts_route(bench.now, tunables));
    bench.finish();
}

// After a timeout everything in front is lost, and a peer without SACK may send duplicates for ever: each is weighed
// by what is not lost, which is counted from behind.
#[test]
fn what_is_not_lost_is_counted_from_behind_as_it_would_be_from_the_front() {
    let mut bench = in_flight(false, 8);
    let check = |bench: &Bench, expected: u32| {
        let (connection, chunks) = (&bench.connection, &bench.world.chunks);
        let send = &connection.send;
        let (lost, _) = send
            .board
            .lost_and_retransmitted_segments(chunks, send.queue());
        assert_eq!(connection.segments_not_lost(chunks, 300), expected);
        assert_eq!(connection.segments_out(chunks, 300) - lost, expected);
        assert_eq!(connection.segments_not_lost(chunks, 2), expected.min(2));
    };
    check(&bench, 8);
    bench.receive(ack(1_500));
    check(&bench, 7);
    bench.advance(2_000);
    check(&bench, 0);
    bench.sent();
    for _ in 0..300 {
        let env = &mut bench.world.env(bench.now);
        let counted = bench.connection.count_duplicate(env, 1);
        assert_eq!(counted, 0, "nothing is in flight that can have left");
    }
    assert!(bench.world.stats.tcp_reno_reorder >= 300);
    bench.advance(20);
    bench.receive(ack(8_000));
    bench.write(3_000);
    bench.sent();
    bench.close();
    bench.sent();
    check(&bench, 4);
    bench.abort();
    bench.finish();
}
