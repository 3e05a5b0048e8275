//! RST and SYN on a synchronised connection, and challenge ACKs (RFC 5961).

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::ready::Ready;
use crate::tcp::segment::{CloseReason, Disposition};
use crate::tcp::state::State;
use crate::tcp::testing::{Bench, ack, data};
use crate::verdict::DropReason;
use millrace_wire::TcpFlags;

/// A connection in each synchronised state; all have RCV.NXT at the number given.
fn in_every_state() -> Vec<(State, Bench, i64)> {
    let mut benches = Vec::new();
    for target in 0..6 {
        let mut bench = Bench::established(true);
        let steps: &[&str] = match target {
            0 => &[],
            1 => &["close"],
            2 => &["close", "ack"],
            3 => &["fin"],
            4 => &["close", "fin"],
            _ => &["fin", "close"],
        };
        let mut nxt = 0;
        for step in steps {
            match *step {
                "close" => {
                    bench.shutdown();
                    bench.sent();
                }
                "ack" => {
                    bench.receive(ack(1));
                }
                _ => {
                    bench.receive(ack(0).fin());
                    bench.sent();
                    nxt = 1;
                }
            }
        }
        benches.push((bench.connection.state(), bench, nxt));
    }
    benches
}

// RFC 5961 section 3.2: exactly RCV.NXT.
// behaviour: MUST-12, ACK-1
#[test]
fn an_exact_reset_ends_the_connection_in_every_state() {
    let mut states = Vec::new();
    for (state, mut bench, nxt) in in_every_state() {
        let end = bench.receive(ack(0).seq(nxt).rst());
        assert_eq!(
            end,
            Disposition::Closed(CloseReason::Reset, None),
            "{state:?}"
        );
        // A stream that was cut off has no end, even where the peer's FIN had come before.
        assert!(!bench.connection.is_at_end(), "{state:?}");
        assert!(
            bench
                .connection
                .take_ready()
                .contains(Ready::RESET | Ready::CLOSED)
        );
        assert_eq!(bench.sent(), []);
        states.push(state);
        bench.finish();
    }
    use State::*;
    assert_eq!(
        states,
        [Established, FinWait1, FinWait2, CloseWait, Closing, LastAck]
    );
}

// RFC 5961 section 3.2: in the window but not exact.
// behaviour: MAY-12, A16-10, ACK-1, RCV-33, X8-3
#[test]
fn an_inexact_reset_draws_one_challenge_ack_per_half_second() {
    for (state, mut bench, nxt) in in_every_state() {
        for step in 0..3 {
            let end = bench.receive(ack(0).seq(nxt + 5 + step).rst());
            assert_eq!(end, Disposition::Continue, "{state:?}");
        }
        let sent = bench.sent();
        assert_eq!(sent.len(), 1, "{state:?}");
        assert!(sent[0].is_ack_only());
        assert_eq!(bench.world.stats.dropped(DropReason::ResetNotExact), 3);
        assert_eq!(bench.world.stats.tcp_ack_skipped_challenge, 2);
        assert_eq!(bench.connection.state(), state);
        bench.finish();
    }
}

#[test]
fn a_reset_outside_the_window_is_dropped_silently() {
    let mut bench = Bench::established(true);
    for seq in [-1, -70_000, 70_000] {
        assert_eq!(bench.receive(ack(0).seq(seq).rst()), Disposition::Continue);
    }
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.world.stats.dropped(DropReason::ResetOutOfWindow), 3);
    bench.finish();
}

// Linux: tcp_reset_check. Some peers number the RST like the FIN they sent before.
#[test]
fn a_reset_with_the_number_of_the_fin_is_believed_after_the_fin() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).fin());
    bench.sent();
    let end = bench.receive(ack(0).seq(0).rst());
    assert_eq!(end, Disposition::Closed(CloseReason::Reset, None));
    bench.finish();
}

// RFC 5961 section 4.2.
// behaviour: RCV-32
#[test]
fn a_syn_draws_a_challenge_ack_wherever_it_is() {
    for seq in [0, 100, -1, 1_000_000] {
        let mut bench = Bench::established(true);
        let syn = ack(0).seq(seq).flags(TcpFlags::SYN);
        assert_eq!(bench.receive(syn.clone()), Disposition::Continue);
        assert_eq!(bench.receive(syn), Disposition::Continue);
        assert_eq!(bench.sent().len(), 1, "at {seq}");
        assert_eq!(bench.connection.state(), State::Established);
        bench.finish();
    }
}

//= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
//= type=test
// behaviour: A16-11, STA-8
// Linux: tcp_rcv_established drops it without a word, tcp_rcv_state_process challenges.
#[test]
fn an_ack_beyond_snd_nxt_draws_one_challenge_ack_once_a_side_has_closed() {
    let mut bench = Bench::established(true);
    bench.write(1_000);
    bench.sent();
    bench.receive(data(0, 10).ack(1_001));
    assert_eq!(bench.sent(), []);
    assert!(!bench.connection.has_unread());
    bench.shutdown();
    bench.sent();
    bench.receive(ack(1_002));
    assert_eq!(bench.sent().len(), 1);
    bench.receive(ack(1_002));
    assert_eq!(bench.sent(), [], "the budget of this half second is spent");
    bench.now = bench.now.after(millrace_base::Nanos::from_millis(500));
    bench.receive(ack(1_002));
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.world.stats.dropped(DropReason::AckBeyondSent), 4);
    bench.finish();
}

// RFC 5961 section 5.2: the text of such a segment is not taken either.
// behaviour: MAY-12
#[test]
fn an_ack_older_than_any_window_is_not_believed() {
    let mut bench = Bench::established(true);
    // It has acknowledged a lot: nothing before the first byte is believed anyway.
    bench.connection.bytes_acked.add(100_000);
    bench.receive(data(0, 10).ack(-60_001));
    assert_eq!(bench.world.stats.dropped(DropReason::AckTooOld), 1);
    assert!(!bench.connection.has_unread());
    bench.receive(data(0, 10).ack(-59_999));
    assert!(bench.connection.has_unread());
    bench.finish();
}

// RFC 9293 section 3.10.7.4, fifth.
// behaviour: A9-13, A16-9, STA-9
#[test]
fn a_segment_without_ack_is_dropped() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 10).flags(TcpFlags::PSH));
    assert_eq!(bench.world.stats.dropped(DropReason::AckMissing), 1);
    assert!(!bench.connection.has_unread());
    bench.finish();
}

// RFC 7323 section 5.3.
// behaviour: RCV-27
#[test]
fn an_old_timestamp_is_rejected_and_answered() {
    let (tunables, options) = (TcpTunables::default(), ConnectionOptions::default());
    let mut bench = Bench::established_with(true, tunables, options, Some(1_000));
    bench.receive(data(0, 10).stamps(999, 0));
    assert_eq!(bench.world.stats.paws_estab, 1);
    assert!(!bench.connection.has_unread());
    let sent = bench.sent();
    assert_eq!(
        (sent.len(), sent[0].ack, sent[0].stamps.map(|s| s.1)),
        (1, 0, Some(1_000))
    );
    bench.receive(data(0, 10).stamps(1_001, 0));
    assert!(bench.connection.has_unread());
    assert_eq!(bench.sent()[0].stamps.map(|s| s.1), Some(1_001));
    bench.receive(ack(0).seq(10).stamps(1, 0).rst());
    assert!(
        bench.ended.is_some(),
        "a RST is not judged by its timestamp"
    );
    bench.finish();
}

#[test]
fn abort_sends_a_reset_that_the_peer_believes() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 10));
    bench.write(500);
    bench.sent();
    let end = bench.abort();
    let Disposition::Closed(CloseReason::Aborted, Some(reset)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(
        (reset.seq, reset.ack),
        (bench.iss.plus(501), Some(bench.irs.plus(11)))
    );
    bench.finish();
}

// Linux: tcp_validate_incoming sends a SYN that PAWS rejects to the challenge, which has a budget.
#[test]
fn syns_with_old_timestamps_draw_one_challenge() {
    let mut bench = Bench::established_with(
        true,
        TcpTunables::default(),
        ConnectionOptions::default(),
        Some(1_000),
    );
    for _ in 0..5 {
        bench.receive(ack(0).seq(-1).flags(TcpFlags::SYN).stamps(500, 0));
        bench.sent();
    }
    let stats = &bench.world.stats;
    assert_eq!((stats.paws_estab, stats.tcp_challenge_ack), (5, 1));
    assert_eq!(stats.tcp_out_segs, 1);
    bench.finish();
}
