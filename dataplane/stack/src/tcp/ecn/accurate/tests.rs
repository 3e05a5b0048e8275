//! Agreeing on Accurate ECN, and what is marked and told from then on.

use super::*;
use crate::tcp::testing::{Bench, Seg, ack, data};

fn tunables(tcp_ecn: u8) -> TcpTunables {
    TcpTunables {
        tcp_ecn,
        ..TcpTunables::default()
    }
}

/// A SYN-ACK with an ACE field, that came as `codepoint`.
fn answer(ace: u8, codepoint: u8) -> Seg {
    Seg {
        mss: Some(1_000),
        sack_permitted: true,
        traffic_class: codepoint,
        ..ack(0)
            .seq(-1)
            .flags(TcpFlags::SYN | TcpFlags::ACK | flags_of_ace(ace))
    }
}

fn opened(tcp_ecn: u8, answer: Seg) -> Bench {
    let mut bench = Bench::connecting(tunables(tcp_ecn));
    bench.sent();
    bench.receive(answer);
    bench
}

// RFC 9768 section 3.1.1 and 3.1.2, table 2.
#[test]
fn a_syn_asks_by_three_flags_and_the_answer_says_what_is_spoken() {
    for (tcp_ecn, asked) in [(0, 0), (1, 3), (2, 0), (3, 7), (4, 3), (5, 0)] {
        let mut bench = Bench::connecting(tunables(tcp_ecn));
        let syn = bench.sent();
        assert_eq!(ace_of(syn[0].flags), asked, "{tcp_ecn}");
        assert_eq!(syn[0].traffic_class, NOT_ECT);
        bench.finish();
    }
    for ace in 0..8 {
        let bench = opened(3, answer(ace, NOT_ECT));
        let ecn = bench.connection.ack.ecn;
        match ace {
            0 | 7 => assert!(ecn.is_off(), "{ace}"),
            1 => assert!(ecn.is_classic(), "{ace}"),
            _ => assert!(ecn.is_accurate(), "{ace}"),
        }
        bench.finish();
    }
}

// RFC 9768 table 3: the ACK behind the SYN-ACK says how that came, and all further the counter.
#[test]
fn the_third_ack_reflects_how_the_syn_ack_came() {
    for (codepoint, ace) in [(NOT_ECT, 2), (ECT_1, 3), (ECT_0, 4), (CE, 6)] {
        let mut bench = opened(3, answer(2, codepoint));
        let third = bench.sent();
        assert_eq!(ace_of(third[0].flags), ace, "{codepoint}");
        assert_eq!(third[0].traffic_class, ECT_0, "ACKs are marked too");
        bench.write(1_000);
        let data = bench.sent();
        let first = if codepoint == CE { 6 } else { 5 };
        assert_eq!(
            (ace_of(data[0].flags), data[0].traffic_class),
            (first, ECT_0)
        );
        bench.finish();
    }
}

/// A connection whose peer has opened it.
fn accepted(third: Seg) -> Bench {
    let mut bench = Bench::established(true);
    bench.connection.state = crate::tcp::state::State::SynReceived;
    bench.connection.una = bench.iss;
    bench.connection.ack.ecn = Ecn::reflecting(NOT_ECT);
    bench.receive(third);
    bench
}

// RFC 9768 section 3.2.2.1, table 4.
#[test]
fn a_third_ack_that_cannot_be_true_stops_the_marking() {
    let marks = |ace| {
        let third = Seg {
            traffic_class: ECT_0,
            ..ack(0).flags(TcpFlags::ACK | flags_of_ace(ace))
        };
        let mut bench = accepted(third);
        bench.write(1_000);
        let marked = bench.sent()[0].traffic_class;
        bench.finish();
        marked
    };
    assert_eq!(marks(2), ECT_0, "it came as it left");
    assert_eq!(marks(0), NOT_ECT, "erased");
    for changed in [3, 4, 6] {
        assert_eq!(
            marks(changed),
            NOT_ECT,
            "{changed}: made capable on the way"
        );
    }
    for unused in [1, 5, 7] {
        assert_eq!(marks(unused), ECT_0);
    }
}

// RFC 9768 section 3.2.2.5.1: a change of the codepoint is acknowledged at once.
#[test]
fn a_change_of_codepoint_is_told_at_once() {
    let mut bench = accepted(ack(0).flags(TcpFlags::ACK | flags_of_ace(2)));
    bench.connection.ack.start_ping_pong();
    let marked = |seq, codepoint| Seg {
        traffic_class: codepoint,
        ..data(seq, 500).flags(TcpFlags::ACK | flags_of_ace(5))
    };
    bench.receive(marked(0, ECT_0));
    assert_eq!(bench.sent().len(), 1);
    bench.receive(marked(500, ECT_0));
    assert_eq!(bench.sent().len(), 0, "it may wait");
    bench.receive(marked(1_000, CE));
    let told = bench.sent();
    assert_eq!((told.len(), ace_of(told[0].flags)), (1, 6));
    bench.receive(marked(1_500, ECT_0));
    let told = bench.sent();
    assert_eq!((told.len(), ace_of(told[0].flags)), (1, 6));
    assert_eq!(bench.info().accurate_ecn.received_bytes, [0, 1_500, 500]);
    bench.finish();
}

// The window goes down once for a round trip, and nothing says CWR.
#[test]
fn an_increase_of_the_counter_lowers_the_window() {
    let mut bench = accepted(ack(0).flags(TcpFlags::ACK | flags_of_ace(2)));
    bench.write(10_000);
    assert_eq!(bench.sent().len(), 10);
    let told = |to, ace| ack(to).flags(TcpFlags::ACK | flags_of_ace(ace));
    bench.receive(told(2_000, 5));
    assert_eq!(bench.info().phase, Phase::Open);
    bench.receive(told(4_000, 7));
    assert_eq!(bench.info().phase, Phase::Cwr);
    assert_eq!(bench.info().delivered_ce, 2);
    bench.write(20_000);
    bench.receive(told(6_000, 7));
    bench.receive(told(10_000, 7));
    let sent = bench.sent();
    assert!(!sent.is_empty());
    for seg in &sent {
        assert_eq!((ace_of(seg.flags), seg.traffic_class), (5, ECT_0));
    }
    bench.finish();
}

// No place to count: nothing that leaves can be marked, and the field is 0, which says so.
#[test]
fn without_a_place_for_its_counters_a_connection_does_without() {
    let mut bench = Bench::connecting(tunables(3));
    bench.sent();
    bench.world.chunks.extras = crate::tcp::shelf::Shelf::new(0);
    bench.receive(answer(2, NOT_ECT));
    let third = bench.sent();
    assert_eq!(
        (ace_of(third[0].flags), third[0].traffic_class),
        (0, NOT_ECT)
    );
    assert!(bench.connection.ack.ecn.is_off());
    bench.finish();
}

// RFC 9768 section 3.1.2: whatever asks for more than ECN is answered as if it asked for this.
#[test]
fn a_listener_answers_every_syn_that_asks() {
    for flags in 0..8u8 {
        let asks = is_asked_by(TcpFlags::SYN | flags_of_ace(flags));
        assert_eq!(asks, flags != 0 && flags != 3);
    }
    for (codepoint, ace) in [(NOT_ECT, 2), (ECT_1, 3), (ECT_0, 4), (CE, 6)] {
        let ecn = Ecn::reflecting(codepoint);
        assert_eq!((ecn.ace(), ecn.echo()), (ace, flags_of_ace(ace)));
        assert!(ecn.is_accurate() && !ecn.is_classic() && !ecn.carries_option());
    }
}

#[test]
fn an_option_takes_the_place_of_a_block_only_when_it_is_needed() {
    let mut options = TcpOptions {
        timestamps: Some(millrace_wire::Timestamps::default()),
        ..TcpOptions::default()
    };
    assert_eq!(fit(&mut options, false, 0), Some(3));
    let block = (1..=3).map(millrace_base::SeqNumber::new);
    for seq in block {
        options.sack.push(seq, seq);
    }
    assert_eq!(
        fit(&mut options, false, 0),
        Some(0),
        "an empty one beside three"
    );
    assert_eq!(
        (fit(&mut options, false, 2), options.sack.len()),
        (Some(2), 2)
    );
    options.sack.push(Default::default(), Default::default());
    let before = options.sack.len();
    assert_eq!((fit(&mut options, false, 3), before), (None, 3));
}
