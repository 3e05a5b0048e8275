//! Marks, echoes and answers, on a connection that has agreed on ECN.

use super::*;
use crate::tcp::testing::{Bench, Seg, ack, data};
use millrace_base::PacketBuf;

const ECE: TcpFlags = TcpFlags::ECE;
const CWR: TcpFlags = TcpFlags::CWR;

fn agreed() -> Bench {
    let mut bench = Bench::established(true);
    bench.connection.ack.ecn = Ecn::OK;
    bench
}

fn marked(seq: i64, traffic_class: u8) -> Seg {
    Seg {
        traffic_class,
        ..data(seq, 1_000)
    }
}

// RFC 3168 section 6.1.4 and 6.1.5. behaviour: A4-15, SND-41, X8-23, SHLD-8
#[test]
fn new_data_is_capable_and_what_is_sent_again_is_not() {
    let mut bench = agreed();
    bench.write(3_000);
    let sent = bench.sent();
    assert!(
        sent.iter().all(|seg| seg.traffic_class == ECT_0),
        "{sent:?}"
    );
    bench.receive(marked(0, ECT_0));
    bench.receive(marked(1_000, ECT_0));
    let acks = bench.sent();
    assert!(!acks.is_empty());
    assert!(acks.iter().all(|seg| seg.traffic_class == NOT_ECT));
    bench.advance(10_000);
    let again = bench.sent();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].traffic_class, NOT_ECT);
    bench.finish();
}

// RFC 3168 section 6.1.3. behaviour: RCV-57, CCW-9
#[test]
fn a_mark_is_echoed_until_the_peer_says_that_it_was_heard() {
    let mut bench = agreed();
    bench.receive(marked(0, CE));
    let echoes = bench.sent();
    assert_eq!(echoes.len(), 1, "at once");
    assert!(echoes[0].flags.contains(ECE));
    bench.receive(marked(1_000, ECT_0));
    bench.write(1_000);
    let carried = bench.sent();
    assert!(carried.iter().all(|seg| seg.flags.contains(ECE)));
    let mut answer = marked(2_000, ECT_0);
    answer.flags |= CWR;
    bench.receive(answer);
    let told = bench.sent();
    assert_eq!(told.len(), 1, "its window may be one segment");
    assert!(!told[0].flags.contains(ECE));
    assert!(bench.connection.ack.ecn.is_seen());
    bench.finish();
}

// "tcp: don't ignore ECN CWR on pure ACK" of Linux: the echo would never end.
#[test]
fn a_peer_may_say_in_a_pure_ack_that_it_has_reduced_its_window() {
    let mut bench = agreed();
    bench.write(3_000);
    bench.sent();
    bench.receive(marked(0, CE));
    assert!(bench.sent().iter().all(|seg| seg.flags.contains(ECE)));
    let says = |at: i64| {
        let mut seg = ack(at).seq(1_000);
        seg.flags |= CWR;
        seg
    };
    bench.receive(ack(2_000).seq(1_000));
    bench.receive(says(1_000));
    bench.write(1_000);
    let sent = bench.sent();
    assert!(sent.iter().all(|seg| seg.flags.contains(ECE)), "an old one");
    bench.receive(says(2_000));
    assert_eq!(bench.sent(), [], "a pure ACK is not acknowledged");
    bench.write(1_000);
    let sent = bench.sent();
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|seg| !seg.flags.contains(ECE)), "{sent:?}");
    bench.finish();
}

// RFC 3168 section 6.1.2: it is said once, and must be said.
#[test]
fn a_reduction_is_told_by_the_next_segment_that_finds_a_buffer() {
    let mut bench = agreed();
    bench.write(10_000);
    bench.sent();
    let mut echo = ack(10_000);
    echo.flags |= ECE;
    bench.receive(echo);
    // What is written lies in a buffer that somebody else holds too, and no other is free.
    bench.write(1_000);
    let unsent = bench.connection.send.unsent();
    let shared = bench
        .world
        .chunks
        .get(unsent)
        .and_then(|it| it.buf()?.share());
    assert!(shared.is_some());
    let empty = millrace_base::HeapPool::new(0, 2_176);
    let pool = core::mem::replace(&mut bench.world.pool, empty);
    assert_eq!(bench.sent(), [], "no buffer");
    bench.world.pool = pool;
    drop(shared);
    let sent = bench.sent();
    assert!(sent[0].flags.contains(CWR), "{sent:?}");
    bench.write(1_000);
    assert!(bench.sent().iter().all(|seg| !seg.flags.contains(CWR)));
    bench.finish();
}

// Linux: a segment that could not be marked among others is a retransmission.
#[test]
fn an_unmarked_segment_among_capable_ones_is_acknowledged_at_once() {
    let mut bench = agreed();
    bench.receive(marked(0, ECT_0));
    for seq in 1..40 {
        bench.receive(marked(1_000 * seq, ECT_0));
        bench.sent();
    }
    bench.connection.ack.start_ping_pong();
    bench.receive(marked(40_000, NOT_ECT));
    assert_eq!(bench.sent().len(), 1);
    bench.finish();
}

// Nothing is heeded that was not agreed on.
#[test]
fn without_agreement_marks_and_echoes_mean_nothing() {
    let mut bench = Bench::established(true);
    bench.receive(marked(0, CE));
    assert!(bench.sent().iter().all(|seg| !seg.flags.contains(ECE)));
    bench.write(2_000);
    assert!(bench.sent().iter().all(|seg| seg.traffic_class == NOT_ECT));
    let before = bench.info().cwnd_bytes;
    let mut echo = ack(1_000);
    echo.flags |= ECE;
    bench.receive(echo);
    assert!(bench.info().cwnd_bytes >= before);
    bench.finish();
}

/// A segment that says nothing.
fn silent_segment() -> Segment<millrace_base::HeapBuf> {
    Segment {
        seq: millrace_base::SeqNumber::new(0),
        ack: millrace_base::SeqNumber::new(0),
        flags: TcpFlags::NONE,
        window: 0,
        traffic_class: 0,
        options: millrace_wire::TcpOptions::default(),
        payload: None,
        payload_len: 0,
    }
}

// RFC 3168 section 6.1.1: which answers agree. behaviour: A14-6, A14-17, X8-23
#[test]
fn a_syn_ack_agrees_by_ece_alone_and_a_crossing_syn_by_both() {
    let settled = |flags: TcpFlags| {
        let mut bench = agreed();
        let segment = Segment {
            flags,
            ..silent_segment()
        };
        let mut env = bench.world.env(bench.now);
        bench.connection.settle_ecn(&mut env, &segment);
        let is_on = !bench.connection.ack.ecn.is_off();
        bench.finish();
        is_on
    };
    let syn_ack = TcpFlags::SYN | TcpFlags::ACK;
    assert!(settled(syn_ack | ECE));
    assert!(!settled(syn_ack | ECE | CWR));
    assert!(!settled(syn_ack));
    assert!(settled(TcpFlags::SYN | ECE | CWR));
    assert!(!settled(TcpFlags::SYN | ECE));
}
