//! What leaves and how: sizes, pushes, Nagle, what is counted, and the peer's window.

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::ready::Ready;
use crate::tcp::recovery::Phase;
use crate::tcp::segment::Disposition;
use crate::tcp::state::State;
use crate::tcp::testing::{Bench, Seg, ack, data, parse, pattern};
use crate::tcp::timers::TimerKind;
use millrace_base::{HeapBuf, Instant};
use millrace_wire::TcpFlags;

fn patient() -> Bench {
    let options = ConnectionOptions {
        nodelay: false,
        ..ConnectionOptions::default()
    };
    Bench::established_with(true, TcpTunables::default(), options, None)
}

fn shapes(sent: &[Seg]) -> Vec<(i64, i64)> {
    sent.iter().map(|seg| (seg.seq, seg.len())).collect()
}

fn pushes(sent: &[Seg]) -> Vec<bool> {
    let is_pushed = |seg: &Seg| seg.flags.contains(TcpFlags::PSH);
    sent.iter().map(is_pushed).collect()
}

// behaviour: SHLD-27, MAY-16, A3-12, A3-19, SND-1, SND-6, SND-14, X4-5
#[test]
fn small_writes_that_have_to_wait_leave_as_one_segment_with_one_push() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).window(0));
    for _ in 0..3 {
        assert_eq!(bench.write(100), 100, "nobody waits for an ACK");
        assert_eq!(bench.sent(), []);
    }
    bench.receive(ack(0).window(60_000));
    let sent = bench.sent();
    assert_eq!((shapes(&sent), pushes(&sent)), (vec![(0, 300)], vec![true]));
    bench.finish();
}

// A receiver that has read everything acknowledges the odd one of a burst at once then, and GRO hands the burst on.
// Linux: __tcp_transmit_skb, packets of more than one segment. behaviour: A4-7
#[test]
fn the_last_of_several_segments_that_leave_together_is_pushed_and_a_single_one_is_not() {
    let mut bench = Bench::established(true);
    bench.write(40_000);
    let last_of = |segments: usize| {
        let mut pushed = vec![false; segments];
        pushed[segments - 1] = segments > 1;
        pushed
    };
    let first = bench.turn();
    assert_eq!(pushes(&first), last_of(10), "a window");
    bench.advance(20);
    bench.receive(ack(2_000));
    assert_eq!(pushes(&bench.turn()), last_of(4), "slow start");
    bench.advance(20);
    bench.receive(ack(2_000).sack(&[(3_000, 4_000)]));
    assert_eq!(pushes(&bench.turn()), last_of(1), "limited transmit");
    bench.receive(ack(2_000).sack(&[(3_000, 5_000)]));
    bench.turn();
    bench.receive(ack(2_000).sack(&[(3_000, 6_000)]));
    let again = bench.turn();
    assert_eq!((again[0].seq, pushes(&again)[0]), (2_000, false));
    bench.finish();
}

// What another leg received may be shorter than a segment here. behaviour: A4-7
#[test]
fn the_last_of_several_is_pushed_behind_a_short_one_too() {
    for is_paced in [false, true] {
        let (mut from, mut to) = (Bench::established(true), Bench::established(true));
        for step in 0..16 {
            from.receive(data(step * 900, 900));
        }
        let env = &mut from.world.env(from.now);
        if is_paced {
            // Bursts of two full segments, by the round trip.
            to.connection.set_pacing_rate_max(100_000_000, env.chunks);
        }
        from.connection.splice_into(&mut to.connection, env);
        let (mut pushed, path) = (Vec::new(), to.path);
        to.connection.transmit(env, &path, &mut |frame| {
            let frame = HeapBuf::from_frame(&frame.to_vec());
            pushed.push(parse(frame).flags.contains(TcpFlags::PSH));
            true
        });
        // Ten full segments are 11 of these, and with room for less than two full ones nobody knows which of
        // the two that follow is the last. A burst ends with the first that is beyond two full ones.
        let expected: Vec<bool> = (0..11)
            .map(|at| at > 8 || is_paced && at % 3 == 2)
            .collect();
        assert_eq!(pushed, expected, "paced: {is_paced}");
        to.connection.release(env.chunks);
        from.finish();
        to.finish();
    }
}

// Linux: tcp_tso_autosize, __tcp_transmit_skb. behaviour: A4-7
#[test]
fn the_last_of_what_pacing_lets_go_together_is_pushed() {
    let mut bench = Bench::established(true);
    let env = &mut bench.world.env(bench.now);
    // Bursts of two segments.
    bench.connection.set_pacing_rate_max(3_000_000, env.chunks);
    bench.write(40_000);
    assert_eq!(pushes(&bench.turn()), [false, true].repeat(5));
    bench.finish();
}

// behaviour: A3-17, A3-20, SND-2, SND-9, SND-10, SND-13
#[test]
fn writes_of_odd_sizes_leave_as_one_stream_byte_for_byte() {
    let mut bench = Bench::established(true);
    let mut stream = Vec::new();
    let sizes = [1, 4_095, 4_097, 65_537, 3].into_iter();
    for size in sizes.chain(std::iter::repeat_n(1, 200)) {
        let (mut written, mut rounds) = (0, 0);
        while written < size {
            written += bench.write(size - written);
            for seg in bench.sent() {
                assert_eq!(seg.seq, stream.len() as i64, "numbers count bytes");
                stream.extend(seg.payload);
            }
            bench.receive(ack(stream.len() as i64));
            rounds += 1;
            assert!(rounds < 1_000, "the buffer never empties");
        }
    }
    while let Some(seg) = bench.poll() {
        stream.extend(seg.payload);
        bench.receive(ack(stream.len() as i64));
    }
    let expected: Vec<u8> = (0..73_933).map(pattern).collect();
    assert!(stream == expected, "{} bytes", stream.len());
    bench.finish();
}

// behaviour: A25-21, ACK-13
#[test]
fn a_fin_takes_what_nagle_holds_with_it() {
    let mut bench = patient();
    bench.write(100);
    bench.sent();
    bench.write(100);
    assert_eq!(bench.sent(), []);
    bench.shutdown();
    let sent = bench.sent();
    assert_eq!(shapes(&sent), [(100, 100)]);
    assert!(sent[0].flags.fin());
    bench.finish();
}

// behaviour: A25-12, X6-10
#[test]
fn the_state_changes_when_a_fin_is_queued_not_when_it_is_sent() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).window(0));
    bench.write(10);
    bench.shutdown();
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.connection.state(), State::FinWait1);
    bench.receive(ack(0).window(1_000));
    assert!(bench.sent()[0].flags.fin());
    bench.finish();
}

// behaviour: A3-44, SND-26, SND-27
#[test]
fn a_segment_that_is_split_keeps_its_bytes_and_its_fin_at_the_end() {
    let mut bench = Bench::established(true);
    bench.write(1_000);
    bench.shutdown();
    let whole = bench.sent();
    assert!(whole.len() == 1 && whole[0].flags.fin());
    bench.path.mtu = 640;
    let parts = bench.sent();
    assert_eq!(shapes(&parts), [(0, 600), (600, 400)]);
    assert_eq!(
        parts.iter().map(|seg| seg.flags.fin()).collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(pushes(&parts), [false, true]);
    let bytes: Vec<u8> = parts.into_iter().flat_map(|seg| seg.payload).collect();
    assert_eq!(bytes, whole[0].payload);
    bench.finish();
}

// behaviour: A4-21, SND-28, SND-44, TMR-8
#[test]
fn a_retransmission_counts_as_one_and_the_timer_runs_while_anything_is_in_flight() {
    let mut bench = Bench::established(true);
    assert_eq!(bench.connection.next_deadline(), Instant::NEVER);
    bench.write(2_500);
    bench.sent();
    let stats = &bench.world.stats;
    assert_eq!((stats.tcp_out_segs, stats.tcp_orig_data_sent), (3, 3));
    let due = bench.connection.next_deadline();
    assert_eq!(
        due.since(bench.now).as_millis(),
        202,
        "the probe of the tail"
    );
    bench.advance(400);
    assert_eq!(bench.sent().len(), 1);
    let stats = &bench.world.stats;
    assert_eq!((stats.tcp_out_segs, stats.tcp_orig_data_sent), (3, 3));
    assert_eq!(
        (stats.tcp_retrans_segs, bench.info().retransmissions),
        (1, 1)
    );
    bench.receive(ack(2_500));
    assert_eq!(bench.connection.next_deadline(), Instant::NEVER);
    bench.finish();
}

// MUST-35; RFC 9293 section 3.8.6.1: a peer may take its window back to nothing. As long as it
// answers it is not given up, for what lies beyond the edge is no failure.
// behaviour: SHLD-16, SHLD-17, MAY-7, TMR-9
#[test]
fn a_window_that_shrinks_to_zero_under_data_in_flight_is_probed_while_the_peer_answers() {
    let mut bench = Bench::established(true);
    bench.write(5_000);
    assert_eq!(bench.sent().len(), 5);
    bench.receive(ack(1_000).window(0));
    for round in 0..40 {
        bench.advance(200_000);
        assert!(!bench.sent().is_empty(), "round {round}");
        bench.receive(ack(1_000).window(0));
        assert!(bench.ended.is_none(), "round {round}");
    }
    bench.receive(ack(1_000).window(60_000));
    bench.advance(200_000);
    let again = bench.sent();
    assert_eq!(again.first().map(|seg| seg.seq), Some(1_000));
    bench.finish();
}

// Linux: tcp_rtx_probe0_timed_out, twice TCP_RTO_MAX. behaviour: TMR-9
#[test]
fn a_peer_that_shrank_its_window_and_fell_silent_is_given_up_after_four_minutes() {
    let mut bench = Bench::established(true);
    bench.write(5_000);
    bench.sent();
    bench.receive(ack(1_000).window(0));
    let start = bench.now;
    while bench.ended.is_none() {
        bench.advance(200_000);
        bench.sent();
    }
    let seconds = bench.now.since(start).as_millis() / 1_000;
    assert!((240..=361).contains(&seconds), "{seconds}");
    bench.finish();
}

// Linux: tcp_clamp_rto_to_user_timeout. behaviour: OPT-28, TMR-17
#[test]
fn a_users_timeout_does_not_wait_for_a_longer_one() {
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
    let millis = bench.now.since(start).as_millis();
    assert!((10_000..=10_002).contains(&millis), "{millis}");
    bench.finish();
}

// The same place: an answer is no progress to a user's timeout. behaviour: OPT-28
#[test]
fn a_users_timeout_goes_on_while_the_window_is_shut_over_data_in_flight() {
    let options = ConnectionOptions {
        user_timeout_ms: 10_000,
        ..ConnectionOptions::default()
    };
    let mut bench = Bench::established_with(true, TcpTunables::default(), options, None);
    bench.write(5_000);
    bench.sent();
    let start = bench.now;
    bench.receive(ack(1_000).window(0));
    while bench.ended.is_none() {
        bench.advance(200_000);
        bench.sent();
        if bench.ended.is_none() {
            bench.receive(ack(1_000).window(0));
        }
    }
    let millis = bench.now.since(start).as_millis();
    assert!((10_000..25_000).contains(&millis), "{millis}");
    bench.finish();
}

// MUST-1; RFC 9293 section 3.8.6.
#[test]
fn a_window_above_32_767_is_a_large_one_and_not_a_negative_one() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).window(65_535));
    let mut acked = 0;
    let mut largest = 0;
    for _ in 0..12 {
        bench.write(200_000);
        let end = bench.sent().last().map_or(acked, |seg| seg.seq + seg.len());
        largest = largest.max(end - acked);
        acked = end;
        bench.receive(ack(acked).window(65_535));
    }
    assert!((32_768..=65_535).contains(&largest), "{largest}");
    bench.finish();
}

// Linux: tcp_acceptable_seq. behaviour: A15-4, ACK-4
#[test]
fn an_ack_stays_inside_a_window_that_was_shrunk() {
    let mut bench = Bench::established(true);
    // Data that leave later than this are no answer to the handshake: ACKs do not wait for more.
    bench.now = bench.now.after(millrace_base::Nanos::from_millis(50));
    bench.write(5_000);
    bench.sent();
    bench.receive(ack(1_000).window(500));
    bench.receive(data(0, 10).ack(1_000).window(500));
    let sent = bench.sent();
    let told = sent.iter().find(|seg| seg.is_ack_only()).expect("an ACK");
    assert_eq!((told.seq, told.ack), (1_500, 10));
    bench.finish();
}

// Linux: `tcp_reordering`. behaviour: CCW-10, TUN-4
#[test]
fn a_path_said_to_reorder_more_is_given_more_time() {
    let tunables = TcpTunables {
        tcp_reordering: 5,
        ..TcpTunables::default()
    };
    let options = ConnectionOptions::default();
    let mut bench = Bench::established_with(true, tunables, options, None);
    bench.write(20_000);
    bench.sent();
    bench.advance(100);
    for end in [2_000, 3_000, 4_000, 5_000] {
        bench.receive(ack(0).sack(&[(1_000, end)]));
        assert!(bench.sent().iter().all(|seg| seg.seq > 0), "at {end}");
    }
    bench.receive(ack(0).sack(&[(1_000, 6_000)]));
    assert_eq!(bench.sent()[0].seq, 0);
    bench.finish();
}

// behaviour: SOK-12
#[test]
fn a_connection_starts_with_ten_segments_no_threshold_and_one_second() {
    let mut bench = Bench::connecting(TcpTunables::default());
    let info = bench.info();
    assert_eq!(info.state, State::SynSent);
    assert_eq!(info.ssthresh_bytes, u32::MAX);
    assert_eq!(info.cwnd_bytes, 10 * u32::from(info.mss));
    assert_eq!((info.srtt, info.retransmissions), (None, 0));
    let rto = bench.connection.rto(&bench.world.tunables);
    assert_eq!(rto.as_millis(), 1_000);
    assert!(bench.connection.take_ready() == Ready::NONE);
    assert!(bench.poll().is_some());
    bench.finish();
}

// MUST-11: a passive opener goes back to LISTEN (a row of the half-open table that is gone), an
// active one to CLOSED, and its owner is told that the peer refused.
#[test]
fn a_reset_of_crossing_syns_refuses_the_open() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    bench.receive(ack(0).seq(-1).flags(TcpFlags::SYN));
    assert_eq!(bench.connection.state(), State::SynReceived);
    bench.sent();
    bench.receive(ack(0).rst());
    let ready = bench.connection.take_ready();
    assert!(ready.contains(Ready::REFUSED | Ready::CLOSED), "{ready:?}");
    bench.finish();
}

// behaviour: A14-5
#[test]
fn an_ack_of_our_syn_without_a_syn_is_dropped() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    bench.receive(ack(0));
    assert_eq!(bench.connection.state(), State::SynSent);
    assert_eq!(bench.sent(), []);
    bench.finish();
}

// Linux: PAWSActiveRejected. behaviour: A14-3, X1-19
#[test]
fn a_syn_ack_that_echoes_a_time_at_which_no_syn_left_is_reset() {
    let mut bench = Bench::connecting(TcpTunables::default());
    let syn = bench.poll().expect("SYN");
    let sent_at = syn.stamps.expect("timestamps").0;
    bench.advance(50);
    let mut answer = ack(0).seq(-1).flags(TcpFlags::SYN | TcpFlags::ACK);
    answer.mss = Some(1_460);
    for echo in [sent_at - 1_000, sent_at + 1_000] {
        let verdict = bench.receive(answer.clone().stamps(7, echo));
        assert!(matches!(verdict, Disposition::Reset(_)), "{verdict:?}");
    }
    assert_eq!(bench.world.stats.paws_active, 2);
    bench.receive(answer.stamps(7, sent_at));
    assert_eq!(bench.connection.state(), State::Established);
    bench.finish();
}

// behaviour: OPT-4, A21-4, A21-14, A22-8
#[test]
fn what_is_sacked_lost_and_sent_again_is_told_byte_by_byte() {
    let mut bench = Bench::established(true);
    bench.write(10_000);
    bench.sent();
    assert_eq!(bench.info().phase, Phase::Open);
    bench.receive(ack(0).sack(&[(1_000, 4_000)]));
    let marks = |bench: &Bench| {
        let info = bench.info();
        (info.sacked_bytes, info.lost_bytes, info.retransmitted_bytes)
    };
    assert_eq!(marks(&bench), (3_000, 1_000, 0));
    assert_eq!(bench.sent()[0].seq, 0);
    assert_eq!(marks(&bench), (3_000, 1_000, 1_000));
    assert_eq!(bench.info().phase, Phase::Recovery);
    bench.advance(10_000);
    assert_eq!(bench.info().phase, Phase::Loss);
    bench.sent();
    bench.receive(ack(5_000));
    assert_eq!(
        bench.info().phase,
        Phase::Loss,
        "until all that was sent is acknowledged"
    );
    bench.sent();
    bench.receive(ack(10_000));
    assert_eq!(bench.info().phase, Phase::Open);
    assert_eq!(marks(&bench), (0, 0, 0));
    bench.finish();
}

// behaviour: SKB-12
#[test]
fn what_is_queued_is_charged_until_it_is_acknowledged() {
    let mut bench = Bench::established(true);
    bench.write(3_000);
    assert_eq!(bench.info().queued_bytes, 3_000);
    bench.sent();
    assert_eq!(bench.info().queued_bytes, 3_000);
    bench.receive(ack(1_000));
    assert_eq!(bench.info().queued_bytes, 2_000);
    bench.receive(ack(3_000));
    assert_eq!(bench.info().queued_bytes, 0);
    bench.finish();
}

// Linux: tcp_orphan_retries, where 0 means 8. behaviour: A25-22
#[test]
fn a_fin_of_an_orphan_is_tried_hard_and_given_up() {
    let mut bench = Bench::established(true);
    bench.close();
    assert!(bench.sent()[0].flags.fin());
    let mut again = 0;
    while bench.ended.is_none() {
        bench.advance(200_000);
        again += bench.sent().iter().filter(|seg| seg.flags.fin()).count();
        assert!(again < 20);
    }
    assert_eq!(again, 9, "a probe of the tail, then eight timeouts");
    bench.finish();
}

// RFC 9293 section 3.5: a SYN may carry data; it comes again. behaviour: A14-18
#[test]
fn data_in_a_crossing_syn_is_not_acknowledged() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    bench.receive(data(-1, 6).flags(TcpFlags::SYN));
    assert_eq!(bench.connection.state(), State::SynReceived);
    assert_eq!(bench.sent()[0].ack, 0);
    assert!(!bench.connection.has_unread());
    bench.finish();
}

// Linux: tcp_fin_time, never below 7/2 RTO. behaviour: A28-1
#[test]
fn an_orphan_waits_for_three_and_a_half_timeouts_at_least() {
    let tunables = TcpTunables {
        tcp_fin_timeout: 1,
        ..TcpTunables::default()
    };
    let options = ConnectionOptions::default();
    let mut bench = Bench::established_with(true, tunables, options, None);
    bench.close();
    bench.sent();
    let Disposition::TimeWait(record) = bench.receive(ack(1)) else {
        panic!("a record waits")
    };
    let rto = bench.connection.rto(&tunables).as_millis();
    assert!(rto * 7 / 2 > 1_000, "{rto}");
    let seconds = (rto * 7).div_ceil(2_000);
    assert_eq!(u64::from(record.fin_wait2_secs), seconds);
    bench.finish();
}

// Linux: tcp_rcv_synsent_state_process, TCP_TIMEOUT_MIN. behaviour: A14-2, X5-2
#[test]
fn an_ack_of_something_else_brings_the_first_syn_again_at_once() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    for gap in [2, 1_000] {
        assert!(matches!(bench.receive(ack(5)), Disposition::Reset(_)));
        let before = bench.now;
        bench.advance(5_000);
        assert_eq!(bench.sent()[0].flags, TcpFlags::SYN);
        assert_eq!(bench.now.since(before).as_millis(), gap);
    }
    bench.finish();
}

// behaviour: A32-1, X5-11
#[test]
fn a_syn_ack_ends_the_syns_timer_and_begins_the_keep_alive() {
    let mut bench = Bench::connecting(TcpTunables::default());
    let options = ConnectionOptions {
        keepalive: true,
        ..ConnectionOptions::default()
    };
    let tunables = bench.world.tunables;
    bench.connection.set_options(options, bench.now, &tunables);
    assert!(bench.poll().is_some());
    let due = |bench: &Bench| bench.connection.next_deadline().since(bench.now);
    assert_eq!(due(&bench).as_millis(), 1_000);
    let mut answer = ack(0).seq(-1).flags(TcpFlags::SYN | TcpFlags::ACK);
    answer.mss = Some(1_460);
    bench.receive(answer);
    assert_eq!(bench.connection.state(), State::Established);
    assert_eq!(bench.info().cwnd_bytes, 10 * u32::from(bench.info().mss));
    assert!(bench.sent()[0].is_ack_only());
    assert_eq!(due(&bench).as_millis(), 7_200_000);
    bench.finish();
}

// tcp_autocorking waits for the end of the transmission before; here nothing leaves before the turn
// ends. behaviour: A3-31
#[test]
fn small_writes_between_two_turns_leave_as_one_segment_without_waiting_for_an_ack() {
    let mut bench = Bench::established(true);
    bench.write(100);
    assert_eq!(shapes(&bench.sent()), [(0, 100)]);
    for _ in 0..3 {
        bench.write(50);
    }
    assert_eq!(
        shapes(&bench.sent()),
        [(100, 150)],
        "nothing was acknowledged"
    );
    bench.finish();
}

// Linux: tcp_send_fin. behaviour: A25-20
#[test]
fn a_fin_rides_on_the_last_unsent_segment_and_else_leaves_alone_when_there_is_a_buffer() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).window(0));
    bench.write(2_500);
    bench.shutdown();
    assert_eq!(bench.sent(), []);
    bench.receive(ack(0).window(60_000));
    let sent = bench.sent();
    let fins: Vec<bool> = sent.iter().map(|seg| seg.flags.fin()).collect();
    assert_eq!(shapes(&sent), [(0, 1_000), (1_000, 1_000), (2_000, 500)]);
    assert_eq!(fins, [false, false, true]);
    bench.receive(ack(2_501));
    assert_eq!(bench.connection.state(), State::FinWait2);
    bench.finish();

    let mut bench = Bench::established(true);
    bench.write(500);
    assert_eq!(shapes(&bench.sent()), [(0, 500)]);
    let empty = millrace_base::HeapPool::new(0, 2_176);
    let pool = core::mem::replace(&mut bench.world.pool, empty);
    bench.shutdown();
    assert_eq!(bench.sent(), [], "no buffer");
    bench.world.pool = pool;
    let sent = bench.sent();
    assert!(shapes(&sent) == [(500, 0)] && sent[0].flags.fin());
    bench.finish();
}

// Linux: tcp_tso_autosize, tcp_tso_segs, tcp_cwnd_test. behaviour: X2-16, X8-10
#[test]
fn a_packet_is_a_1024th_of_a_second_between_the_least_and_half_a_window() {
    // The round trip was 100 ms.
    let mut bench = Bench::established(true);
    let mut tunables = TcpTunables::default();
    let size = |bench: &Bench, tunables: &TcpTunables| {
        let chunks = &bench.world.chunks;
        bench.connection.packet_segments(chunks, tunables)
    };
    assert_eq!(size(&bench, &tunables), 2, "200 bytes a millisecond");
    tunables.tcp_min_tso_segs = 4;
    assert_eq!(size(&bench, &tunables), 4);
    tunables.tcp_min_tso_segs = 9;
    assert_eq!(size(&bench, &tunables), 5, "half of ten");
    tunables.tcp_min_tso_segs = 2;
    bench.connection.congestion.cwnd = 1_000_000;
    assert_eq!(size(&bench, &tunables), 19, "two windows in a hundred ms");
    tunables.tcp_pacing_ss_ratio = 100;
    assert_eq!(size(&bench, &tunables), 9, "or one");
    bench.connection.congestion.ssthresh = 1_000_000;
    assert_eq!(size(&bench, &tunables), 11, "and six fifths of one");
    bench.connection.congestion.cwnd = 100_000_000;
    assert_eq!(size(&bench, &tunables), 65, "never above 64 KiB");
    let chunks = &mut bench.world.chunks;
    bench.connection.set_pacing_rate_max(5_000_000, chunks);
    assert_eq!(
        size(&bench, &tunables),
        4,
        "nor what SO_MAX_PACING_RATE says"
    );
    bench.finish();
}

// Linux: tcp_tso_should_defer. behaviour: SND-24, A3-43, X8-10
#[test]
fn a_packet_waits_for_an_ack_that_is_near_and_makes_it_larger() {
    let mut bench = Bench::established(true);
    bench.world.tunables.tcp_tso_win_divisor = 2;
    bench.write(40_000);
    assert_eq!(bench.sent().len(), 10);
    let waits = |bench: &mut Bench, segments, follows| {
        let env = bench.world.env(bench.now);
        bench.connection.waits_for_more(&env, segments, follows)
    };
    bench.advance(30);
    bench.receive(ack(2_000));
    // A window of 12, eight in flight, room for four.
    bench.write(40_000);
    let info = bench.info();
    assert_eq!((info.cwnd_bytes, info.in_flight_bytes), (12_000, 8_000));
    assert!(info.unsent_bytes > 5_000, "{}", info.unsent_bytes);
    assert!(!waits(&mut bench, 10, true), "the next ACK is far");
    bench.now = bench.now.after(millrace_base::Nanos::from_millis(30));
    assert!(waits(&mut bench, 10, true));
    assert!(!waits(&mut bench, 10, false), "nothing has left just now");
    assert!(!waits(&mut bench, 4, true), "it is a whole packet");
    bench.world.tunables.tcp_tso_win_divisor = 3;
    assert!(
        !waits(&mut bench, 10, true),
        "a third of the window is free"
    );
    bench.world.tunables.tcp_tso_win_divisor = 0;
    assert!(!waits(&mut bench, 10, true), "so are three segments");
    bench.world.tunables.tcp_tso_win_divisor = 2;
    bench.connection.recovery.phase = Phase::Disorder;
    assert!(!waits(&mut bench, 10, true), "something may be lost");
    bench.connection.recovery.phase = Phase::Open;
    bench.shutdown();
    assert!(!waits(&mut bench, 10, true), "there will be no more");
    bench.connection.recovery.phase = Phase::Open;
    bench.finish();
}

// The simulator: an IPv6 link of 1,280 bytes with `tcp_mtu_probing` 2 was probed with 1,298.
#[test]
fn no_probe_of_the_path_is_larger_than_the_link() {
    let tunables = TcpTunables {
        tcp_mtu_probing: 2,
        tcp_base_mss: 512,
        tcp_init_cwnd: 20,
        ..TcpTunables::default()
    };
    let options = ConnectionOptions::default();
    let mut bench = Bench::established_with(true, tunables, options, None);
    bench.path.mtu = 600;
    let mut acked = 0;
    for _ in 0..10 {
        bench.write(20_000);
        for seg in bench.sent() {
            assert!(seg.payload.len() + 40 <= 600, "{seg:?}");
            acked = acked.max(seg.seq + seg.len());
        }
        bench.advance(10);
        bench.receive(ack(acked));
    }
    bench.finish();
}

// Linux: write, delayed-ACK, keep-alive, pacing and compressed-ACK timer of a connection.
// behaviour: TMR-1
#[test]
fn what_a_connections_timers_are_set_for_is_told() {
    let told = |bench: &Bench| -> Vec<TimerKind> {
        let timers = bench.info().timers;
        timers.into_iter().flatten().map(|(kind, _)| kind).collect()
    };
    let options = ConnectionOptions {
        keepalive: true,
        ..ConnectionOptions::default()
    };
    let mut bench = Bench::established_with(true, TcpTunables::default(), options, None);
    assert_eq!(told(&bench), [TimerKind::KeepAlive]);
    bench.write(100);
    bench.sent();
    assert_eq!(told(&bench), [TimerKind::TailProbe, TimerKind::KeepAlive]);
    bench.advance(10_000);
    bench.sent();
    assert_eq!(told(&bench), [TimerKind::Retransmit, TimerKind::KeepAlive]);
    bench.receive(ack(100));
    for step in 0..17 {
        bench.receive(data(step * 1_000, 1_000).ack(100));
        bench.read();
        bench.sent();
    }
    assert_eq!(told(&bench), [TimerKind::DelayedAck, TimerKind::KeepAlive]);
    let due = bench.connection.next_deadline();
    assert!(
        bench
            .info()
            .timers
            .contains(&Some((TimerKind::DelayedAck, due)))
    );
    for step in 18..23 {
        bench.receive(data(step * 1_000, 1_000).ack(100));
        bench.sent();
    }
    assert_eq!(
        told(&bench),
        [TimerKind::CompressedAck, TimerKind::KeepAlive]
    );
    bench.receive(data(17_000, 1_000).ack(100));
    bench.receive(ack(100).seq(23_000).window(0));
    bench.write(100);
    bench.sent();
    assert_eq!(told(&bench), [TimerKind::WindowProbe, TimerKind::KeepAlive]);
    bench.finish();
    let mut paced = Bench::established(true);
    paced.write(10_000);
    paced.sent();
    paced.receive(ack(10_000));
    let chunks = &mut paced.world.chunks;
    paced.connection.set_pacing_rate_max(20_000, chunks);
    paced.write(8_000);
    paced.sent();
    assert!(
        told(&paced).contains(&TimerKind::Pace),
        "{:?}",
        told(&paced)
    );
    paced.finish();
}
