//! Loss: timeouts, duplicate ACKs, SACK, and giving up.

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::recovery::Phase;
use crate::tcp::segment::{CloseReason, Disposition};
use crate::tcp::testing::{Bench, Seg, ack, data};

fn seqs(sent: &[Seg]) -> Vec<i64> {
    sent.iter().map(|seg| seg.seq).collect()
}

fn ten_in_flight(sack: bool) -> Bench {
    let mut bench = Bench::established(sack);
    bench.write(20_000);
    assert_eq!(bench.sent().len(), 10);
    bench
}

// RFC 6675 section 5, RFC 6937.
// behaviour: A21-7, A22-2, A22-11, TMR-37, X8-1
#[test]
fn the_third_sack_retransmits_the_hole_at_once() {
    let mut bench = ten_in_flight(true);
    bench.advance(20);
    // The first segment is lost. Limited transmit (RFC 3042) sends new data for the first two
    // reports.
    bench.receive(ack(0).sack(&[(1_000, 2_000)]));
    assert_eq!(seqs(&bench.sent()), [10_000]);
    bench.receive(ack(0).sack(&[(1_000, 3_000)]));
    assert_eq!(seqs(&bench.sent()), [11_000]);
    bench.advance(1);
    bench.receive(ack(0).sack(&[(1_000, 4_000)]));
    assert_eq!(seqs(&bench.sent()), [0], "fast retransmit");
    let info = bench.info();
    assert_eq!(info.ssthresh_bytes, 7_000, "cubic: 0.7 of 10 segments");
    assert_eq!(bench.world.stats.tcp_sack_recovery, 1);
    bench.receive(ack(0).sack(&[(1_000, 12_000)]));
    bench.sent();
    bench.advance(20);
    bench.receive(ack(12_000));
    assert_eq!(
        bench.info().cwnd_bytes,
        7_000,
        "out of recovery with the threshold"
    );
    assert_eq!(bench.info().retransmissions, 1);
    bench.finish();
}

// RFC 6675: only holes are sent again, each once.
#[test]
fn two_holes_are_filled_without_touching_what_arrived() {
    let mut bench = ten_in_flight(true);
    bench.advance(50);
    bench.receive(ack(0).sack(&[(1_000, 2_000), (3_000, 10_000)]));
    let mut sent = seqs(&bench.sent());
    assert!(sent.starts_with(&[0]), "{sent:?}");
    bench.advance(20);
    bench.receive(ack(2_000).sack(&[(3_000, 10_000)]));
    sent.extend(seqs(&bench.sent()));
    assert_eq!(
        sent.iter().filter(|seq| **seq < 10_000).collect::<Vec<_>>(),
        [&0, &2_000]
    );
    bench.finish();
}

// RFC 6582.
// behaviour: A22-2, A22-7
#[test]
fn without_sack_three_duplicates_retransmit_and_partial_acks_go_on() {
    let mut bench = ten_in_flight(false);
    for _ in 0..2 {
        bench.receive(ack(0));
    }
    assert_eq!(seqs(&bench.sent()), [10_000, 11_000], "limited transmit");
    bench.receive(ack(0));
    assert_eq!(seqs(&bench.sent()), [0]);
    assert_eq!(bench.world.stats.tcp_reno_recovery, 1);
    // The retransmission arrives; segment 4 is lost as well.
    bench.receive(ack(4_000));
    assert_eq!(
        bench.info().lost_segments,
        1,
        "a partial ACK shows the next hole"
    );
    assert_eq!(seqs(&bench.sent()), [], "seven in flight are the window");
    bench.receive(ack(4_000));
    assert_eq!(seqs(&bench.sent()), [4_000]);
    bench.receive(ack(12_000));
    assert_eq!(
        bench.info().phase,
        Phase::Recovery,
        "until more is acknowledged: RFC 6582 section 3.2"
    );
    bench.finish();
}

// RFC 5681 section 2: a window update or data is no duplicate.
#[test]
fn window_updates_and_data_are_not_duplicate_acks() {
    let mut bench = ten_in_flight(false);
    for step in 0..5 {
        let seq = i64::from(step) * 10;
        let update = ack(0).window(60_001 + step);
        bench.receive(Seg { seq, ..update });
        bench.receive(data(seq, 10).window(60_001 + step));
    }
    let again = bench
        .sent()
        .iter()
        .filter(|seg| seg.seq == 0 && seg.len() > 0)
        .count();
    assert_eq!(again, 0);
    assert_eq!(bench.world.stats.tcp_reno_recovery, 0);
    bench.finish();
}

// RFC 6298 section 5, RFC 5681 section 3.1.
// behaviour: MUST-19, A21-8, A21-11, A21-12, TMR-12, TMR-15, X4-6, X8-30
#[test]
fn a_timeout_sends_one_segment_and_doubles() {
    let mut bench = Bench::established(true);
    bench.world.tunables.tcp_early_retrans = 0;
    bench.world.tunables.tcp_frto = 0;
    bench.write(20_000);
    assert_eq!(bench.sent().len(), 10);
    let mut gaps = Vec::new();
    for _ in 0..4 {
        let before = bench.now;
        bench.advance(10_000);
        gaps.push(bench.now.since(before).as_millis());
        assert_eq!(seqs(&bench.sent()), [0]);
    }
    assert_eq!(gaps, [300, 600, 1_200, 2_400]);
    let info = bench.info();
    assert_eq!((info.cwnd_bytes, info.timeouts), (1_000, 4));
    assert_eq!(info.ssthresh_bytes, 7_000, "reduced once for one window");
    // The answer to any of the transmissions: slow start through what is presumed lost.
    bench.receive(ack(1_000));
    assert_eq!(seqs(&bench.sent()), [1_000, 2_000]);
    bench.receive(ack(10_000));
    assert_eq!(bench.info().timeouts, 0);
    assert!(seqs(&bench.sent()).starts_with(&[10_000]));
    bench.finish();
}

// MUST-18: an ambiguous round trip is no sample.
#[test]
fn an_ack_of_a_retransmission_is_no_rtt_sample() {
    let mut bench = Bench::established(true);
    let before = bench.info().srtt;
    bench.write(1_000);
    bench.sent();
    bench.advance(1_000);
    assert_eq!(seqs(&bench.sent()), [0]);
    bench.advance(100);
    bench.receive(ack(1_000));
    assert_eq!(bench.info().srtt, before);
    bench.finish();
}

// RFC 7323 section 4.1: with timestamps it is one.
// behaviour: TMR-35
#[test]
fn an_echoed_timestamp_tells_which_transmission_was_answered() {
    let (tunables, options) = (TcpTunables::default(), ConnectionOptions::default());
    let mut bench = Bench::established_with(true, tunables, options, Some(1));
    bench.write(1_000);
    bench.sent();
    bench.advance(1_000);
    let again = bench.sent();
    let echo = again[0].stamps.expect("timestamps").0;
    bench.advance(20);
    bench.receive(ack(1_000).stamps(2, echo));
    let srtt = bench.info().srtt.expect("known").as_micros();
    assert_eq!(srtt, 90_000, "7/8 of 100 ms and 1/8 of 20 ms");
    bench.finish();
}

// MUST-20; Linux: tcp_retries2 15 is 924.6 s.
// behaviour: SHLD-11, LAY-2, TMR-11
#[test]
fn an_established_connection_is_given_up_after_a_quarter_of_an_hour() {
    let mut bench = ten_in_flight(true);
    let start = bench.now;
    while bench.ended.is_none() {
        bench.advance(200_000);
        bench.sent();
    }
    assert_eq!(
        bench.ended,
        Some(Disposition::Closed(CloseReason::TimedOut, None))
    );
    let seconds = bench.now.since(start).as_millis() / 1_000;
    assert!((924..1_050).contains(&seconds), "{seconds}");
    bench.finish();
}

// MUST-21, RFC 5482.
#[test]
fn a_user_timeout_gives_up_earlier() {
    let options = ConnectionOptions {
        user_timeout_ms: 10_000,
        ..ConnectionOptions::default()
    };
    let mut bench = Bench::established_with(true, TcpTunables::default(), options, None);
    bench.write(1_000);
    bench.sent();
    let start = bench.now;
    while bench.ended.is_none() {
        bench.advance(60_000);
        bench.sent();
    }
    assert!((10_000..20_000).contains(&bench.now.since(start).as_millis()));
    bench.finish();
}

// RFC 2018 section 8.
// behaviour: A22-4
#[test]
fn a_peer_that_takes_back_a_sack_gets_everything_again() {
    let mut bench = ten_in_flight(true);
    bench.receive(ack(0).sack(&[(1_000, 2_000)]));
    bench.sent();
    bench.receive(ack(1_000));
    bench.sent();
    bench.advance(10_000);
    assert_eq!(bench.world.stats.tcp_sack_reneging, 1);
    assert_eq!(
        seqs(&bench.sent()),
        [1_000],
        "what was reported comes again"
    );
    bench.finish();
}

// RFC 1191, RFC 8201; Linux: tcp_simple_retransmit.
// behaviour: SND-5, TMR-20
#[test]
fn a_smaller_path_mtu_sends_the_large_segments_again_in_small_ones() {
    let mut bench = ten_in_flight(true);
    bench.path.mtu = 640;
    let sent = bench.sent();
    assert_eq!(bench.info().mss, 600);
    assert!(sent.iter().all(|seg| seg.len() <= 600), "{sent:?}");
    assert!(seqs(&sent).starts_with(&[0, 600, 1_000, 1_600]), "{sent:?}");
    assert_eq!(
        bench.info().ssthresh_bytes,
        u32::MAX,
        "this is no congestion"
    );
    bench.receive(ack(10_000));
    assert!(bench.sent().iter().all(|seg| seg.len() <= 600));
    bench.finish();
}

// A receiver may take a part of a segment (its window ended there) and the rest later.
#[test]
fn a_segment_sacked_in_two_parts_counts_once_it_is_whole() {
    let mut bench = ten_in_flight(true);
    bench.receive(ack(0).sack(&[(1_000, 1_500)]));
    assert_eq!(bench.connection.send.board.sacked(&bench.world.chunks), 0);
    bench.receive(ack(0).sack(&[(1_000, 2_000)]));
    assert_eq!(
        bench.connection.send.board.sacked(&bench.world.chunks),
        1_000
    );
    bench.receive(ack(0).sack(&[(1_000, 3_500)]));
    bench.receive(ack(0).sack(&[(1_000, 4_000)]));
    assert_eq!(
        bench.connection.send.board.sacked(&bench.world.chunks),
        3_000
    );
    assert_eq!(bench.sent()[0].seq, 0, "three segments behind it: lost");
    bench.finish();
}

// Blocks that lie, overlap or come from the future change nothing (Linux: tcp_is_sackblock_valid).
#[test]
fn impossible_sack_blocks_are_ignored() {
    let mut bench = ten_in_flight(true);
    let lies = [
        [(5_000, 4_000)],
        [(9_000, 40_000)],
        [(-5_000, 2_000)],
        [(3_000, 3_000)],
    ];
    for blocks in lies {
        bench.receive(ack(0).sack(&blocks));
        assert_eq!(
            bench.connection.send.board.sacked(&bench.world.chunks),
            0,
            "{blocks:?}"
        );
    }
    bench.finish();
}

// A ledger without a chunk could outnumber the places on the shelf: when they get few, only who has
// a chunk in flight keeps one. Otherwise it stays for a while: a D-SACK may undo the reduction.
#[test]
fn a_ledger_goes_with_the_last_chunk_when_places_are_few() {
    for places in [1, 100] {
        let mut bench = Bench::established(true);
        bench.world.chunks.ledgers = crate::tcp::shelf::Shelf::new(places);
        bench.write(5_000);
        bench.shutdown();
        assert_eq!(bench.sent().len(), 5);
        bench.advance(20);
        bench.receive(ack(0).sack(&[(1_000, 4_000)]));
        assert_eq!(seqs(&bench.sent()), [0]);
        assert_eq!(bench.world.chunks.ledgers.used(), 1);
        bench.advance(20);
        bench.receive(ack(5_000));
        assert_eq!(bench.info().phase, Phase::Recovery, "the FIN was in flight");
        assert_eq!(
            bench.world.chunks.ledgers.used(),
            usize::from(places == 100)
        );
        bench.receive(ack(5_001));
        assert_eq!(bench.info().phase, Phase::Open);
        bench.finish();
    }
}

// The device takes nothing for ten seconds. Linux: tcp_retransmit_timer ("local congestion"),
// tcp_retransmit_skb (-EBUSY, -EAGAIN). behaviour: TMR-14, TMR-19
#[test]
fn a_resend_that_cannot_leave_neither_backs_off_nor_piles_up() {
    let mut bench = Bench::established(true);
    bench.world.tunables.tcp_early_retrans = 0;
    bench.write(3_000);
    assert_eq!(bench.sent().len(), 3);
    bench.advance(600);
    let tunables = bench.world.tunables;
    let rto = bench.connection.rto(&tunables);
    assert_eq!(bench.world.stats.tcp_timeouts, 1);
    bench.advance(10_000);
    assert_eq!(
        bench.world.stats.tcp_timeouts, 1,
        "it is still the same one"
    );
    assert_eq!(bench.connection.rto(&tunables), rto);
    let due = bench.connection.next_deadline().since(bench.now);
    assert!(due.as_millis() <= 500, "{due:?}: it looks again soon");
    assert_eq!(seqs(&bench.sent()), [0], "one copy, of one segment");
    // What has left backs off as ever.
    bench.advance(2 * u64::from(rto.as_millis() as u32));
    assert!(bench.world.stats.tcp_timeouts > 1);
    bench.finish();
}

// The same, for want of a buffer: a resend needs one for its headers while the device holds the
// segment's. behaviour: TMR-14
#[test]
fn a_resend_without_a_buffer_waits_for_one_and_not_for_a_longer_timeout() {
    let mut bench = Bench::established(true);
    bench.write(1_000);
    bench.world.tunables.tcp_early_retrans = 0;
    let path = bench.path;
    let held = bench
        .connection
        .poll_transmit(&mut bench.world.env(bench.now), &path)
        .expect("a frame");
    let empty = millrace_base::HeapPool::new(0, 2_176);
    let pool = core::mem::replace(&mut bench.world.pool, empty);
    for _ in 0..5 {
        bench.advance(5_000);
        assert_eq!(bench.sent(), []);
    }
    assert_eq!(bench.world.stats.tcp_timeouts, 1);
    bench.world.pool = pool;
    assert_eq!(seqs(&bench.sent()), [0]);
    drop(held);
    bench.finish();
}

// Linux: tcp_retransmit_skb trims what is acknowledged, and sends nothing beyond the window but its
// oldest segment. behaviour: TMR-19
#[test]
fn what_is_sent_again_begins_at_the_acknowledgment_and_ends_at_the_window() {
    let mut bench = Bench::established(true);
    bench.world.tunables.tcp_early_retrans = 0;
    bench.write(3_000);
    assert_eq!(bench.sent().len(), 3);
    bench.receive(ack(400).window(900));
    let shapes = |sent: &[Seg]| sent.iter().map(|s| (s.seq, s.len())).collect::<Vec<_>>();
    bench.advance(1_000);
    assert_eq!(shapes(&bench.sent()), [(400, 600)]);
    // Room for more in the congestion window, and 300 bytes of it in the peer's.
    bench.receive(ack(1_000).window(300));
    assert_eq!(shapes(&bench.sent()), [(1_000, 300)]);
    bench.receive(ack(1_300).window(0));
    assert_eq!(shapes(&bench.sent()), [(1_300, 700)], "the oldest probes");
    bench.receive(ack(2_000).window(60_000));
    assert_eq!(shapes(&bench.sent()), [(2_000, 1_000)]);
    bench.finish();
}

// Linux: LINUX_MIB_TCPRETRANSFAIL in __tcp_retransmit_skb.
// behaviour: CNT-4
#[test]
fn a_retransmission_without_a_buffer_is_counted_and_tried_again() {
    let mut bench = Bench::established(true);
    bench.write(1_000);
    let path = bench.path;
    // The device has not sent it yet: the next copy needs a buffer of its own.
    let held = bench
        .connection
        .poll_transmit(&mut bench.world.env(bench.now), &path);
    assert!(held.is_some());
    let empty = millrace_base::HeapPool::new(0, 2_176);
    let pool = core::mem::replace(&mut bench.world.pool, empty);
    bench.advance(10_000);
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.world.stats.tcp_retrans_fail, 1);
    assert_eq!(bench.world.stats.tcp_retrans_segs, 0);
    bench.world.pool = pool;
    bench.advance(10_000);
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.world.stats.tcp_retrans_segs, 1);
    let mut names = Vec::new();
    bench.world.stats.for_each(|name, _, _| names.push(name));
    for name in [
        "TCPACKSkippedPAWS",
        "TCPACKSkippedSeq",
        "TCPOrigDataSent",
        "TCPTimeouts",
        "TCPSackRecoveryFail",
        "TCPRenoRecoveryFail",
        "TCPLossFailures",
        "TCPSackFailures",
        "TCPRenoFailures",
        "TCPSynRetrans",
        "TCPRetransFail",
        "DelayedACKLocked",
        "DelayedACKs",
    ] {
        let name = format!("TcpExt{name}");
        assert!(names.contains(&name.as_str()), "{name}");
    }
    drop(held);
    bench.finish();
}
