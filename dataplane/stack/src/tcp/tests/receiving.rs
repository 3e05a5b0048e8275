//! What is taken, what is not, and what is told to the peer about it.

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::ready::Ready;
use crate::tcp::segment::{CloseReason, Disposition, Segment};
use crate::tcp::state::State;
use crate::tcp::testing::{Bench, Seg, ack, data};
use crate::verdict::DropReason;
use millrace_base::{HeapBuf, SeqNumber};
use millrace_wire::{TcpFlags, TcpOptions};

/// A bench whose window is closed; returns what comes next as well.
fn closed_window() -> (Bench, i64) {
    let mut bench = Bench::established(true);
    let mut at = 0;
    for _ in 0..200 {
        let room = i64::from(bench.info().rcv_wnd).min(1_000);
        bench.receive(data(at, room.max(1) as usize));
        let told = bench.sent();
        at = told.last().map_or(at, |seg| seg.ack);
        if told.last().is_some_and(|seg| seg.window == 0) {
            return (bench, at);
        }
        bench.advance(40);
        let told = bench.sent();
        at = told.last().map_or(at, |seg| seg.ack);
        if told.last().is_some_and(|seg| seg.window == 0) {
            return (bench, at);
        }
    }
    panic!("the window never closed");
}

// behaviour: A9-16, RCV-36, RCV-61
#[test]
fn the_next_bytes_are_told_to_the_reader_and_acknowledged() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 100));
    assert_eq!(bench.connection.take_ready(), Ready::READABLE);
    assert_eq!(bench.sent()[0].ack, 100);
    assert_eq!(bench.read(), data(0, 100).payload);
    bench.finish();
}

// RFC 2883 section 4.2. behaviour: RCV-42
#[test]
fn of_a_segment_that_overlaps_only_the_new_part_is_taken_and_the_old_reported() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 1_000));
    bench.sent();
    bench.receive(data(500, 1_000));
    let told = bench.sent();
    assert_eq!(
        (told[0].ack, &told[0].sack[..]),
        (1_500, &[(500, 1_000)][..])
    );
    assert_eq!(bench.read(), data(0, 1_500).payload);
    bench.finish();
}

// RFC 9293 section 3.10.7.4, first; Linux: tcp_oow_rate_limited. behaviour: RCV-28
#[test]
fn what_lies_outside_the_window_draws_one_duplicate_ack_in_half_a_second() {
    let mut bench = Bench::established(true);
    for _ in 0..3 {
        bench.receive(ack(0).seq(70_000));
    }
    let told = bench.sent();
    assert_eq!((told.len(), told[0].ack), (1, 0));
    assert_eq!(bench.world.stats.tcp_ack_skipped_seq, 2);
    assert_eq!(bench.world.stats.dropped(DropReason::OutOfWindow), 3);
    bench.advance(500);
    bench.receive(ack(0).seq(70_000).rst());
    assert_eq!(bench.sent(), [], "a RST draws nothing");
    bench.receive(ack(0).seq(70_000).flags(TcpFlags::SYN));
    assert_eq!(bench.sent().len(), 1, "a SYN draws a challenge");
    assert_eq!(bench.world.stats.tcp_challenge_ack, 1);
    bench.finish();
}

// RFC 5961 section 3.2; Linux: tcp_validate_incoming. behaviour: RCV-29
#[test]
fn a_reset_right_behind_the_last_sacked_byte_is_believed() {
    let mut bench = Bench::established(true);
    bench.receive(data(1_000, 1_000));
    bench.sent();
    assert_eq!(
        bench.receive(ack(0).seq(1_500).rst()),
        Disposition::Continue
    );
    assert!(bench.sent()[0].is_ack_only(), "a challenge");
    let end = bench.receive(ack(0).seq(2_000).rst());
    assert_eq!(end, Disposition::Closed(CloseReason::Reset, None));
    bench.finish();
}

// behaviour: RCV-41
#[test]
fn data_at_the_right_edge_is_dropped_and_answered_at_once() {
    let mut bench = Bench::established(true);
    let edge = i64::from(bench.info().rcv_wnd);
    bench.receive(data(edge, 10));
    let told = bench.sent();
    assert_eq!(
        (told.len(), told[0].ack, &told[0].sack[..]),
        (1, 0, &[][..])
    );
    assert_eq!(bench.world.stats.dropped(DropReason::OutOfWindow), 1);
    bench.finish();
}

// behaviour: A5-5, RCV-37, X1-11, X1-12
#[test]
fn a_probe_of_a_closed_window_is_answered_at_once_and_its_byte_not_taken() {
    let (mut bench, at) = closed_window();
    let unread = bench.info().unread_bytes;
    assert_eq!(bench.world.stats.tcp_to_zero_window_adv, 1);
    bench.receive(data(at, 1));
    let told = bench.sent();
    assert_eq!((told.len(), told[0].ack, told[0].window), (1, at, 0));
    assert_eq!(bench.info().unread_bytes, unread);
    assert_eq!(bench.world.stats.tcp_from_zero_window_adv, 0);
    bench.read();
    assert!(bench.sent()[0].window > 30_000);
    assert_eq!(bench.world.stats.tcp_from_zero_window_adv, 1);
    bench.finish();
}

// RFC 9293 section 3.10.7.4, first: valid RSTs are heard. behaviour: RCV-29
#[test]
fn a_reset_is_heard_through_a_closed_window() {
    let (mut bench, at) = closed_window();
    let end = bench.receive(ack(0).seq(at).rst());
    assert_eq!(end, Disposition::Closed(CloseReason::Reset, None));
    bench.finish();
}

// RFC 9293 section 3.10.7.4: SND.WL1 and SND.WL2. behaviour: RCV-35
#[test]
fn an_old_segment_does_not_change_the_send_window() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 100).window(40_000));
    bench.receive(data(100, 100).window(50_000));
    bench.receive(ack(0).seq(50).window(7));
    assert_eq!(bench.info().snd_wnd, 50_000);
    bench.receive(ack(0).seq(200).window(9));
    assert_eq!(bench.info().snd_wnd, 9);
    bench.finish();
}

// RFC 9293 section 3.10.7.4, seventh: nothing comes behind a FIN. behaviour: A16-22, STA-17
#[test]
fn behind_a_fin_nothing_is_taken_and_what_is_old_is_acknowledged_again() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 10).fin());
    bench.sent();
    bench.receive(data(11, 100));
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.world.stats.dropped(DropReason::StateIgnored), 1);
    bench.receive(data(0, 10).fin());
    assert_eq!(bench.sent()[0].ack, 11);
    assert_eq!(bench.read().len(), 10);
    assert!(bench.connection.is_at_end());
    bench.finish();
}

// Linux: the end of tcp_rcv_state_process. behaviour: A16-25
#[test]
fn text_behind_a_fin_is_counted_and_its_ack_still_sends() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).window(0));
    bench.receive(data(0, 10).fin().window(1_000));
    assert_eq!(bench.sent().last().map(|seg| seg.ack), Some(11));
    bench.write(1_000);
    bench.write(500);
    assert_eq!(bench.sent().iter().map(Seg::len).sum::<i64>(), 1_000);
    bench.receive(data(11, 50).ack(1_000).window(2_000));
    assert_eq!(bench.world.stats.dropped(DropReason::StateIgnored), 1);
    let told = bench.sent();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].len(), told[0].ack), (500, 11));
    bench.finish();
}

// behaviour: RDV-21
#[test]
fn after_the_fin_no_window_is_told_any_more() {
    let mut bench = Bench::established(true);
    let mut at = 0;
    while bench.info().unread_bytes < 50_000 {
        bench.receive(data(at, 1_000));
        at += 1_000;
        bench.sent();
    }
    bench.receive(ack(0).seq(at).fin());
    assert_eq!(bench.sent().last().map(|seg| seg.ack), Some(at + 1));
    assert_eq!(bench.read().len() as i64, at);
    assert_eq!(bench.sent(), []);
    bench.finish();
}

// Linux: tcp_data_queue enters quick-ACK mode. behaviour: ACK-7
#[test]
fn after_a_duplicate_acks_are_not_delayed() {
    let mut bench = Bench::established(true);
    for step in 0..17 {
        bench.receive(data(step * 1_000, 1_000));
        bench.read();
        bench.advance(50);
        bench.sent();
    }
    bench.receive(data(17_000, 1_000));
    bench.read();
    assert_eq!(bench.sent(), [], "delayed");
    bench.receive(data(0, 1_000));
    assert_eq!(bench.sent().len(), 1);
    bench.receive(data(18_000, 1_000));
    assert_eq!(bench.sent().len(), 1, "quick");
    bench.finish();
}

// RFC 2525 section 2.17: a FIN is no data. behaviour: A25-5
#[test]
fn closing_with_nothing_unread_but_a_fin_is_no_reset() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).fin());
    bench.sent();
    assert_eq!(bench.close(), Disposition::Continue);
    assert_eq!(bench.connection.state(), State::LastAck);
    assert!(bench.sent()[0].flags.fin());
    bench.finish();
}

// behaviour: RCV-7
#[test]
fn a_segment_ends_behind_its_syn_its_bytes_and_its_fin() {
    let end = |flags: TcpFlags, payload_len| {
        let segment: Segment<HeapBuf> = Segment {
            seq: SeqNumber::new(u32::MAX),
            ack: SeqNumber::new(0),
            flags,
            window: 0,
            traffic_class: 0,
            options: TcpOptions::default(),
            payload: None,
            payload_len,
        };
        segment.end().distance(segment.seq)
    };
    let (syn, fin) = (TcpFlags::SYN, TcpFlags::FIN);
    assert_eq!(end(TcpFlags::ACK, 0), 0);
    assert_eq!((end(syn, 0), end(fin, 0), end(syn | fin, 0)), (1, 1, 2));
    assert_eq!((end(syn, 5), end(fin, 5), end(syn | fin, 5)), (6, 6, 7));
}

// behaviour: A8-6, A8-7, A9-3, A9-4, A9-5, A9-10, RCV-23, RCV-24, X1-14
#[test]
fn only_the_expected_segment_is_predicted_and_prediction_comes_back() {
    let (tunables, options) = (TcpTunables::default(), ConnectionOptions::default());
    let mut bench = Bench::established_with(true, tunables, options, Some(100));
    let mut is_predicted = |seg: Seg| {
        let before = bench.predicted;
        bench.receive(seg);
        bench.sent();
        bench.read();
        bench.predicted > before
    };
    assert!(is_predicted(data(0, 1_000).stamps(100, 5_000)));
    assert!(is_predicted(data(1_000, 1_000).stamps(101, 5_000)));
    assert!(
        !is_predicted(data(2_000, 10).stamps(99, 5_000)),
        "old stamp"
    );
    assert!(!is_predicted(data(2_500, 500).stamps(101, 5_000)), "early");
    let behind_a_hole = data(2_000, 100).stamps(101, 5_000);
    assert!(!is_predicted(behind_a_hole), "a hole is left");
    let filling = data(2_100, 400).stamps(101, 5_000);
    assert!(!is_predicted(filling), "a hole is filled");
    assert!(is_predicted(data(3_000, 1_000).stamps(101, 5_000)), "again");
    assert!(!is_predicted(data(4_000, 10).ack(9).stamps(101, 5_000)));
    let sacked = data(4_000, 1_000).sack(&[(0, 1)]).stamps(101, 5_000);
    assert!(!is_predicted(sacked), "an option");
    let urgent = TcpFlags::ACK | TcpFlags::URG;
    assert!(!is_predicted(
        data(5_000, 9).flags(urgent).stamps(101, 5_000)
    ));
    assert!(!is_predicted(data(5_009, 9).fin().stamps(101, 5_000)));
    assert_eq!(bench.world.stats.tcp_hp_hits, 3, "TCPHPHits");
    bench.finish();
}

// SHLD-2; RFC 9293 section 3.5.3: a RST may say in words why.
#[test]
fn a_reset_with_data_is_a_reset() {
    let mut bench = Bench::established(true);
    let end = bench.receive(data(0, 10).rst());
    assert_eq!(end, Disposition::Closed(CloseReason::Reset, None));
    assert_eq!(bench.info().unread_bytes, 0);
    bench.finish();
}

// Linux: tcp_fin. behaviour: A27-4, STA-31
// behaviour: X4-9
#[test]
fn what_was_early_behind_a_fin_is_thrown_away_with_its_report() {
    let mut bench = Bench::established(true);
    bench.receive(data(100, 50));
    assert_eq!(bench.sent()[0].sack, [(100, 150)]);
    bench.receive(data(0, 10).fin());
    let told = bench.sent();
    assert_eq!((told[0].ack, &told[0].sack[..]), (11, &[][..]));
    assert_eq!(bench.connection.state(), State::CloseWait);
    assert_eq!(bench.read().len(), 10);
    assert!(bench.connection.is_at_end());
    assert_eq!(bench.world.chunks.used(), 0);
    bench.finish();
}

// behaviour: A9-7, A9-9, A9-11, A9-12
#[test]
fn what_is_predicted_moves_the_stamp_the_window_and_what_waits_to_leave() {
    let (tunables, options) = (TcpTunables::default(), ConnectionOptions::default());
    let mut bench = Bench::established_with(true, tunables, options, Some(100));
    bench.write(20_000);
    assert_eq!(bench.sent().len(), 10);
    bench.receive(ack(1_000).stamps(101, 5_000));
    assert_eq!(bench.predicted, 1);
    let next = bench.sent();
    assert_eq!(
        (next.len(), next[0].seq),
        (2, 10_000),
        "an ACK lets two leave"
    );
    assert_eq!(next[0].stamps.map(|stamps| stamps.1), Some(101));
    bench.receive(data(0, 500).ack(2_000).stamps(102, 5_000));
    assert_eq!(bench.predicted, 2);
    let next = bench.sent();
    assert_eq!((next.len(), next[0].seq, next[0].ack), (2, 12_000, 500));
    assert_eq!(next[0].stamps.map(|stamps| stamps.1), Some(102));
    assert!(bench.connection.take_ready().contains(Ready::READABLE));
    assert_eq!(bench.read(), data(0, 500).payload);
    bench.finish();
}
