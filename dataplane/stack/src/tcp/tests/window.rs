//! Flow control both ways: closed windows, probes, silly windows, and the ACKs that tell of it.

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::segment::{CloseReason, Disposition};
use crate::tcp::testing::{Bench, Seg, ack, data};
use millrace_wire::TcpFlags;

// MUST-36, MUST-37, SHLD-30; Linux: tcp_send_probe0.
// behaviour: SHLD-29, A3-34, SND-19, SND-31, TMR-30, X5-5, X8-31
#[test]
fn a_closed_window_is_probed_with_backoff_for_as_long_as_the_peer_answers() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).window(0));
    bench.write(500);
    assert_eq!(bench.sent(), []);
    let mut gaps = Vec::new();
    for _ in 0..24 {
        let before = bench.now;
        bench.advance(200_000);
        let probe = bench.sent();
        assert_eq!((probe.len(), probe[0].seq, probe[0].len()), (1, -1, 0));
        gaps.push(bench.now.since(before).as_millis() / 100);
        bench.receive(ack(0).window(0));
        assert!(bench.ended.is_none(), "the window may stay closed for ever");
    }
    assert_eq!(gaps[..6], [3, 6, 12, 24, 48, 96]);
    assert_eq!(gaps[20], 1_200, "two minutes at most");
    bench.receive(ack(0).window(500));
    assert_eq!(bench.sent()[0].len(), 500);
    assert_eq!(
        bench
            .connection
            .next_deadline()
            .since(bench.now)
            .as_millis()
            / 100,
        3
    );
    bench.finish();
}

#[test]
fn a_peer_that_does_not_answer_probes_is_given_up() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).window(0));
    bench.write(500);
    let mut probes = 0;
    while bench.ended.is_none() {
        bench.advance(200_000);
        probes += bench.sent().len();
    }
    assert_eq!(probes, 15, "tcp_retries2");
    assert!(matches!(
        bench.ended,
        Some(Disposition::Closed(CloseReason::TimedOut, None))
    ));
    bench.finish();
}

// MUST-38: no silly windows from us.
// behaviour: SND-25
#[test]
fn a_window_too_small_for_a_segment_is_left_alone_until_the_probe() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).window(0));
    bench.receive(ack(0).window(100));
    bench.write(3_000);
    assert_eq!(bench.sent(), []);
    bench.advance(1_000);
    let probe = bench.sent();
    assert_eq!((probe.len(), probe[0].seq, probe[0].len()), (1, 0, 100));
    bench.receive(ack(100).window(1_000));
    assert_eq!(
        bench.sent()[0].len(),
        900,
        "the rest of the segment that was cut"
    );
    bench.finish();
}

// MUST-34: a peer may shrink its window; what is in flight stays.
// behaviour: SHLD-15, A3-41, SND-22
#[test]
fn a_shrunken_window_stops_new_data_only() {
    let mut bench = Bench::established(true);
    bench.write(5_000);
    assert_eq!(bench.sent().len(), 5);
    bench.receive(ack(1_000).window(500));
    bench.write(1_000);
    assert_eq!(bench.sent(), []);
    bench.receive(ack(5_000).window(2_000));
    assert_eq!(bench.sent()[0].seq, 5_000);
    bench.finish();
}

// Our own window: nothing beyond the promise is taken, and reading opens it again.
// behaviour: MAY-8, A11-24, RDV-20, SKB-11, X1-10
#[test]
fn a_reader_that_stops_closes_the_window_and_opens_it_by_reading() {
    let mut bench = Bench::established(true);
    let mut at = 0;
    for _ in 0..70 {
        bench.receive(data(at, 1_000));
        bench.sent();
        at = bench.info().bytes_received as i64;
    }
    let info = bench.info();
    assert!(info.unread_bytes <= 65_535, "{}", info.unread_bytes);
    assert!(info.rcv_wnd < 1_000);
    assert!(
        bench.world.stats.tcp_want_zero_window_adv > 0,
        "the last segments' room was promised before the memory was full"
    );
    bench.receive(data(at, 1_000));
    assert!(bench.info().unread_bytes <= 65_535);
    bench.sent();
    assert_eq!(
        bench.read().len() as u32,
        bench.info().bytes_received as u32
    );
    let update = bench.sent();
    assert_eq!(update.len(), 1, "the window update is not delayed");
    assert!(update[0].window > 55_000);
    bench.finish();
}

// MUST-58, MUST-59, SHLD-19: one ACK for what a burst brought.
// behaviour: MUST-40, SHLD-18, ACK-5, ACK-6, CCW-6, X8-7
#[test]
fn every_second_full_segment_is_acknowledged_at_once_and_a_single_one_after_40_ms() {
    let mut bench = Bench::established(true);
    // Quick mode at the start: each ACK leaves at once.
    for step in 0..16 {
        bench.receive(data(step * 1_000, 1_000));
        bench.read();
        assert_eq!(bench.sent().len(), 1);
    }
    bench.receive(data(16_000, 1_000));
    bench.read();
    assert_eq!(bench.sent(), [], "delayed");
    bench.receive(data(17_000, 1_000));
    bench.read();
    assert_eq!(bench.sent()[0].ack, 18_000, "two full segments");
    bench.receive(data(18_000, 1_000));
    bench.read();
    let before = bench.now;
    bench.advance(500);
    assert_eq!(
        bench.now.since(before).as_millis(),
        40,
        "MUST-40: below half a second"
    );
    assert_eq!(bench.sent()[0].ack, 19_000);
    assert_eq!(bench.world.stats.delayed_acks, 1);
    bench.finish();
}

// The balancer reads at once: a peer that has said all for now is not kept waiting for 40 ms with the odd segment of a
// burst, unless it is about to be answered.
// Linux: tcp_measure_rcv_mss, tcp_cleanup_rbuf. behaviour: RDV-19
#[test]
fn what_was_pushed_is_acknowledged_as_soon_as_it_has_gone_on_unless_in_a_conversation() {
    let acknowledged = |seg: Seg, converses: bool| {
        let (mut bench, mut to) = (Bench::established(true), Bench::established(true));
        for step in 0..16 {
            bench.receive(data(step * 1_000, 1_000));
            bench.read();
            assert_eq!(bench.sent().len(), 1, "quick mode");
        }
        if converses {
            bench.connection.ack.start_ping_pong();
        }
        bench.receive(seg);
        assert_eq!(bench.sent(), [], "as long as nobody has read it");
        let mut env = bench.world.env(bench.now);
        bench.connection.splice_into(&mut to.connection, &mut env);
        to.connection.release(env.chunks);
        let acks: Vec<i64> = bench.sent().iter().map(|seg| seg.ack).collect();
        bench.finish();
        to.finish();
        acks
    };
    let pushed = |bytes| data(16_000, bytes).flags(TcpFlags::ACK | TcpFlags::PSH);
    assert_eq!(acknowledged(data(16_000, 1_000), false), []);
    assert_eq!(acknowledged(data(16_000, 600), false), []);
    assert_eq!(acknowledged(pushed(1_000), false), [17_000]);
    assert_eq!(acknowledged(pushed(600), false), [16_600]);
    assert_eq!(acknowledged(pushed(1_000), true), []);
}

// behaviour: MUST-58, A4-19, SND-42, STA-19
#[test]
fn an_ack_travels_with_data() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 1_000));
    bench.write(10);
    let sent = bench.sent();
    assert_eq!((sent.len(), sent[0].ack, sent[0].len()), (1, 1_000, 10));
    bench.finish();
}

// MUST-24 to MUST-29.
// behaviour: SHLD-12, MAY-5, TMR-29, X5-11, X8-31
#[test]
fn keep_alive_probes_an_idle_peer_and_gives_up_after_nine() {
    let options = ConnectionOptions {
        keepalive: true,
        ..ConnectionOptions::default()
    };
    let mut bench = Bench::established_with(true, TcpTunables::default(), options, None);
    let start = bench.now;
    bench.advance(8_000_000);
    assert_eq!(bench.now.since(start).as_millis(), 7_200_000);
    let probe = bench.sent();
    assert_eq!((probe.len(), probe[0].seq, probe[0].len()), (1, -1, 0));
    bench.receive(ack(0));
    let answered = bench.now;
    bench.advance(8_000_000);
    assert_eq!(
        bench.now.since(answered).as_millis(),
        7_200_000,
        "an answer starts anew"
    );
    let mut probes = bench.sent().len();
    while bench.ended.is_none() {
        bench.advance(100_000);
        probes += bench.sent().len();
    }
    assert_eq!(probes, 9);
    assert_eq!(
        bench.now.since(answered).as_millis(),
        7_200_000 + 9 * 75_000
    );
    assert!(matches!(
        bench.ended,
        Some(Disposition::Closed(CloseReason::TimedOut, Some(_)))
    ));
    bench.finish();
}

// MUST-25.
#[test]
fn keep_alive_is_off_unless_asked_for() {
    let bench = Bench::established(true);
    assert_eq!(
        bench.connection.next_deadline(),
        millrace_base::Instant::NEVER
    );
    bench.finish();
}

// Linux: tcp_may_update_window. A window counts from the acknowledgment that it came with, also when
// later bytes of the peer's came before; found by the simulator.
#[test]
fn an_old_segment_that_acknowledges_more_tells_its_window() {
    let mut bench = Bench::established(true);
    bench.write(10_000);
    assert_eq!(bench.sent().len(), 10);
    bench.receive(data(1_000, 500).ack(2_000).window(8_000));
    bench.receive(data(0, 1_000).ack(4_000).window(6_000));
    bench.sent();
    bench.write(5_000);
    let beyond = bench.sent().into_iter().filter(|seg| seg.len() > 0);
    assert_eq!(beyond.count(), 0, "the right edge is where it was");
    bench.finish();
}
