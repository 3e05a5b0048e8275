//! When an ACK that waits leaves.

use millrace_base::HeapPool;

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::testing::{Bench, ack, data};

/// Data of `len` bytes after `after_ms` milliseconds; how long their ACK waits, in milliseconds.
fn delay_of(bench: &mut Bench, after_ms: u64, at: i64, len: usize) -> u64 {
    bench.advance(after_ms);
    bench.receive(data(at, len));
    bench.read();
    let came = bench.now;
    if bench.sent().is_empty() {
        bench.advance(1_000);
        assert_eq!(bench.sent().len(), 1, "one ACK, in the end");
    }
    bench.now.since(came).as_millis()
}

/// A connection whose first 16 segments have come: `next` is what comes next.
fn out_of_quick_mode(bench: &mut Bench) -> i64 {
    for step in 0..16 {
        bench.receive(data(step * 1_000, 1_000));
        bench.read();
        assert_eq!(bench.sent().len(), 1, "quick mode, segment {step}");
    }
    16_000
}

// Linux: tcp_delack_timer_handler, tcp_event_data_recv, tcp_send_delayed_ack. The handshake took
// 100 ms, which bounds the delay.
// behaviour: TMR-27, ACK-9
#[test]
fn an_ack_that_left_alone_doubles_the_delay_and_data_in_quick_succession_shorten_it() {
    let mut bench = Bench::established(true);
    let mut at = out_of_quick_mode(&mut bench);
    let mut next = |bench: &mut Bench, after_ms| {
        let delay = delay_of(bench, after_ms, at, 100);
        at += 100;
        (delay, bench.info().ack_delay_ms)
    };
    assert_eq!(next(&mut bench, 1), (40, 80));
    assert_eq!(next(&mut bench, 60), (80, 160));
    let longest = (100, 300);
    assert_eq!(next(&mut bench, 60), longest, "a round trip; the timeout");
    assert_eq!(bench.world.stats.delayed_acks, 3);
    assert_eq!(next(&mut bench, 100), longest);
    for _ in 0..20 {
        bench.receive(data(at, 100));
        at += 100;
    }
    bench.read();
    bench.sent();
    assert_eq!(bench.info().ack_delay_ms, 40, "halved towards the shortest");
    bench.finish();
}

// Linux: tcp_delack_timer_handler. behaviour: TMR-27
#[test]
fn a_conversation_that_missed_an_answer_ends_with_the_shortest_delay() {
    let mut bench = Bench::established(true);
    out_of_quick_mode(&mut bench);
    assert_eq!(delay_of(&mut bench, 1, 16_000, 100), 40);
    assert_eq!(bench.info().ack_delay_ms, 80);
    bench.receive(data(16_100, 100));
    bench.write(10);
    assert_eq!(bench.sent().len(), 1);
    assert!(bench.info().ping_pong);
    bench.receive(data(16_200, 100).ack(10));
    assert_eq!(bench.sent(), [], "an answer may carry it");
    bench.advance(1_000);
    assert_eq!(bench.sent().len(), 1);
    assert!(!bench.info().ping_pong);
    assert_eq!(bench.info().ack_delay_ms, 40);
    bench.finish();
}

// Linux: tcp_incr_quickack, half of the window in full segments.
// behaviour: ACK-7
#[test]
fn a_small_window_makes_quick_mode_shorter() {
    let mut tunables = TcpTunables::default();
    tunables.special.window_clamp = 8_000;
    let mut bench = Bench::established_with(true, tunables, ConnectionOptions::default(), None);
    bench.connection.take_receive_buffer(&tunables);
    let told = bench.info().rcv_wnd;
    let mut quick = 0;
    bench.receive(data(0, 1_000));
    bench.read();
    while !bench.sent().is_empty() {
        quick += 1;
        bench.receive(data(quick * 1_000, 1_000));
        bench.read();
    }
    assert!(
        quick <= 16 && quick == i64::from(told / 2_000).min(16),
        "{quick} of {told}"
    );
    bench.finish();
}

// Linux: __tcp_send_ack, TCP_DELACK_MAX << retry.
// behaviour: A15-1, A15-2, X5-4, ACK-2
#[test]
fn without_a_buffer_an_ack_is_tried_again_each_time_after_twice_as_long() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 100));
    assert_eq!(bench.sent().len(), 1);
    let pool = core::mem::replace(&mut bench.world.pool, HeapPool::new(0, 2_176));
    bench.receive(ack(0).seq(100).fin());
    for delay in [200, 400, 800, 1_600, 3_200] {
        assert_eq!(bench.sent(), []);
        let before = bench.now;
        bench.advance(10_000);
        assert_eq!(bench.now.since(before).as_millis(), delay);
    }
    for _ in 0..20 {
        assert_eq!(bench.sent(), []);
        bench.advance(1_000_000);
    }
    assert_eq!(bench.sent(), []);
    let before = bench.now;
    bench.advance(1_000_000);
    let longest = bench.now.since(before).as_millis();
    assert!((120_000..=240_000).contains(&longest), "{longest}");
    bench.world.pool = pool;
    let sent = bench.sent();
    assert_eq!((sent.len(), sent[0].ack, sent[0].len()), (1, 101, 0));
    assert!(sent[0].is_ack_only());
    assert!(
        bench.connection.next_deadline() > bench.now,
        "nothing is due"
    );
    bench.finish();
}

// behaviour: A15-1
#[test]
fn a_closed_connection_acknowledges_nothing() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 100));
    bench.abort();
    assert!(bench.sent().iter().all(|seg| !seg.is_ack_only()));
    bench.finish();
}

// Linux: sk_write_pending, rskq_defer_accept and ping-pong mode in tcp_rcv_synsent_state_process.
// behaviour: A14-14, X5-4
#[test]
fn the_third_ack_waits_for_what_is_about_to_be_written() {
    for is_expected in [false, true] {
        let mut bench = Bench::connecting(TcpTunables::default());
        if is_expected {
            bench.connection.set_quick_ack(0);
        }
        let syn = bench.sent();
        assert_eq!(syn.len(), 1);
        bench.advance(10);
        bench.receive(
            ack(0)
                .seq(-1)
                .flags(millrace_wire::TcpFlags::SYN | millrace_wire::TcpFlags::ACK),
        );
        if !is_expected {
            assert_eq!(bench.sent().len(), 1, "at once");
            bench.finish();
            continue;
        }
        assert_eq!(bench.sent(), []);
        let came = bench.now;
        bench.advance(1_000);
        assert_eq!(bench.now.since(came).as_millis(), 200);
        assert_eq!(bench.sent().len(), 1);
        bench.finish();
    }
}

// Linux: the third ACK rides on what was written. behaviour: A14-14
#[test]
fn the_third_ack_rides_on_the_first_data() {
    let mut bench = Bench::connecting(TcpTunables::default());
    bench.connection.set_quick_ack(0);
    bench.sent();
    bench.advance(10);
    bench.receive(
        ack(0)
            .seq(-1)
            .flags(millrace_wire::TcpFlags::SYN | millrace_wire::TcpFlags::ACK),
    );
    bench.write(100);
    let sent = bench.sent();
    assert_eq!((sent.len(), sent[0].len()), (1, 100));
    assert!(bench.info().ping_pong, "a conversation from the start");
    bench.finish();
}

// Linux: the true size of a pure ACK says that it is none (`skb_set_tcp_pure_ack`).
// behaviour: A15-3
#[test]
fn a_pure_ack_neither_waits_for_the_pace_nor_puts_the_next_burst_off() {
    let mut bench = Bench::established(true);
    // The first ten segments are free.
    bench.write(10_000);
    bench.sent();
    bench.receive(ack(10_000));
    let chunks = &mut bench.world.chunks;
    bench.connection.set_pacing_rate_max(20_000, chunks);
    bench.write(8_000);
    let first = bench.sent().len();
    assert!((1..8).contains(&first), "held to a rate: {first}");
    let due = bench.connection.next_deadline();
    for step in 0..3 {
        bench.receive(data(step * 1_000, 1_000).ack(10_000));
        let sent = bench.sent();
        assert_eq!(sent.len(), 1);
        assert!(sent[0].is_ack_only(), "{:?}", sent[0]);
        assert_eq!(bench.connection.next_deadline(), due);
    }
    bench.finish();
}

// One timer serves both. RFC 9293 section 3.8.6.3: less than half a second.
// behaviour: MUST-40
#[test]
fn an_ack_does_not_wait_for_a_burst_that_is_seconds_away() {
    let mut bench = Bench::established(true);
    let at = out_of_quick_mode(&mut bench);
    bench.write(10_000);
    bench.sent();
    bench.receive(ack(10_000).seq(at));
    let chunks = &mut bench.world.chunks;
    bench.connection.set_pacing_rate_max(500, chunks);
    bench.write(8_000);
    assert_eq!(bench.sent().len(), 2, "4 seconds at this rate");
    bench.receive(ack(12_000).seq(at));
    assert_eq!(bench.sent(), []);
    bench.receive(data(at, 300).ack(12_000));
    bench.read();
    assert_eq!(bench.sent(), []);
    let came = bench.now;
    bench.advance(1_000);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].is_ack_only(), "{:?}", sent[0]);
    assert!(bench.now.since(came).as_millis() <= 500);
    bench.advance(4_000);
    assert_eq!(bench.sent().len(), 2, "the burst keeps its time");
    bench.finish();
}
