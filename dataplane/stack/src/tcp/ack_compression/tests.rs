//! Which ACKs of out-of-order segments leave, and when.

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::testing::{Bench, Seg, ack, data};

/// A connection out of quick mode, whose handshake took 100 ms, and a segment that is missing at
/// `.1`.
fn with_hole(tunables: TcpTunables, sack: bool) -> (Bench, i64) {
    let options = ConnectionOptions::default();
    let mut bench = Bench::established_with(sack, tunables, options, None);
    for step in 0..16 {
        bench.receive(data(step * 1_000, 1_000));
        bench.read();
        assert_eq!(bench.sent().len(), 1);
    }
    (bench, 16_000)
}

/// What leaves at once behind the `nth` segment behind the hole.
fn beyond(bench: &mut Bench, hole: i64, nth: i64) -> Vec<Seg> {
    bench.receive(data(hole + nth * 1_000, 1_000));
    bench.sent()
}

// Linux: __tcp_ack_snd_check, tcp_compressed_ack_kick.
// behaviour: ACK-10
#[test]
fn behind_three_duplicate_acks_the_others_wait_for_a_millisecond_and_leave_as_one() {
    let (mut bench, hole) = with_hole(TcpTunables::default(), true);
    for nth in 1..=3 {
        assert_eq!(beyond(&mut bench, hole, nth).len(), 1, "{nth}");
    }
    let came = bench.now;
    for nth in 4..=9 {
        assert_eq!(beyond(&mut bench, hole, nth), [], "{nth}");
    }
    bench.advance(10);
    assert_eq!(bench.now.since(came).as_micros(), 1_100, "with the slack");
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].ack, hole);
    assert_eq!(sent[0].sack, [(hole + 1_000, hole + 10_000)]);
    assert_eq!(
        bench.world.stats.tcp_ack_compressed, 5,
        "six, one of which left"
    );
    assert_eq!(bench.world.stats.delayed_acks, 0);
    bench.advance(1_000);
    assert_eq!(bench.sent(), [], "once");
    bench.finish();
}

// behaviour: ACK-10
#[test]
fn the_hole_filled_is_told_at_once_and_takes_the_place_of_those_that_waited() {
    let (mut bench, hole) = with_hole(TcpTunables::default(), true);
    for nth in 1..=5 {
        beyond(&mut bench, hole, nth);
    }
    let sent = beyond(&mut bench, hole, 0);
    assert_eq!((sent.len(), sent[0].ack), (1, hole + 6_000));
    assert_eq!(bench.world.stats.tcp_ack_compressed, 2);
    bench.advance(1_000);
    assert_eq!(bench.sent(), []);
    bench.finish();
}

// Each RCV.NXT has three duplicates of its own. behaviour: ACK-10
#[test]
fn another_hole_is_told_of_three_times_again() {
    let (mut bench, hole) = with_hole(TcpTunables::default(), true);
    for nth in [1, 2, 3, 4, 6] {
        beyond(&mut bench, hole, nth);
    }
    assert_eq!(beyond(&mut bench, hole, 0).len(), 1, "told at once");
    let next = hole + 5_000;
    for nth in [2, 3, 4] {
        assert_eq!(beyond(&mut bench, next, nth).len(), 1, "{nth}");
    }
    assert_eq!(beyond(&mut bench, next, 5), []);
    bench.advance(10);
    assert_eq!(bench.sent().len(), 1);
    bench.finish();
}

// behaviour: ACK-10
#[test]
fn no_more_than_so_many_are_held_back() {
    let tunables = TcpTunables {
        tcp_comp_sack_nr: 2,
        ..TcpTunables::default()
    };
    let (mut bench, hole) = with_hole(tunables, true);
    let sent: Vec<usize> = (1..=9)
        .map(|nth| beyond(&mut bench, hole, nth).len())
        .collect();
    assert_eq!(sent, [1, 1, 1, 0, 0, 1, 0, 0, 1]);
    assert_eq!(bench.world.stats.tcp_ack_compressed, 4);
    let none = TcpTunables {
        tcp_comp_sack_nr: 0,
        ..TcpTunables::default()
    };
    let (mut every, hole) = with_hole(none, true);
    for nth in 1..=9 {
        assert_eq!(beyond(&mut every, hole, nth).len(), 1);
    }
    bench.finish();
    every.finish();
}

// Linux: tcp_is_sack; TCP_SACK_BLOCKS_EXPECTED. behaviour: ACK-10
#[test]
fn nothing_is_held_back_without_sack_or_when_there_are_more_ranges_than_two() {
    let (mut plain, hole) = with_hole(TcpTunables::default(), false);
    for nth in 1..=9 {
        assert_eq!(beyond(&mut plain, hole, nth).len(), 1);
    }
    plain.finish();
    let (mut bench, hole) = with_hole(TcpTunables::default(), true);
    for nth in [1, 2, 3] {
        assert_eq!(beyond(&mut bench, hole, nth).len(), 1);
    }
    assert_eq!(beyond(&mut bench, hole, 5), []);
    assert_eq!(beyond(&mut bench, hole, 7).len(), 1, "a third range");
    bench.finish();
}

// The data that leave meanwhile do not carry SACK blocks: what waits is told all the same.
// behaviour: ACK-10
#[test]
fn data_that_leave_do_not_swallow_what_waits_to_be_told() {
    let (mut bench, hole) = with_hole(TcpTunables::default(), true);
    for nth in 1..=4 {
        beyond(&mut bench, hole, nth);
    }
    bench.write(100);
    assert_eq!(bench.sent().len(), 1);
    bench.advance(10);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].sack, [(hole + 1_000, hole + 5_000)]);
    bench.finish();
}

// The timer is shared with pacing.
#[test]
fn what_is_held_back_does_not_wait_for_a_paced_burst() {
    let (mut bench, hole) = with_hole(TcpTunables::default(), true);
    bench.write(10_000);
    bench.sent();
    bench.receive(ack(10_000).seq(hole));
    let chunks = &mut bench.world.chunks;
    bench.connection.set_pacing_rate_max(500, chunks);
    bench.write(8_000);
    assert_eq!(bench.sent().len(), 2, "4 seconds at this rate");
    bench.receive(ack(12_000).seq(hole));
    assert_eq!(bench.sent(), []);
    let early = |bench: &mut Bench, nth: i64| {
        bench.receive(data(hole + nth * 1_000, 1_000).ack(12_000));
        bench.sent().len()
    };
    for nth in 1..=3 {
        assert_eq!(early(&mut bench, nth), 1, "{nth}");
    }
    assert_eq!(early(&mut bench, 4), 0);
    let came = bench.now;
    bench.advance(100);
    assert_eq!(bench.now.since(came).as_micros(), 1_100, "with the slack");
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].sack, [(hole + 1_000, hole + 5_000)]);
    bench.advance(4_000);
    assert_eq!(bench.sent().len(), 2, "the burst keeps its time");
    bench.finish();
}
