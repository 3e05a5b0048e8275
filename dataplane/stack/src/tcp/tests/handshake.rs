//! Opening: active, passive, simultaneous, and how each fails.

use crate::tcp::config::TcpTunables;
use crate::tcp::connection::Connection;
use crate::tcp::handshake::SynAcks;
use crate::tcp::ready::Ready;
use crate::tcp::segment::{CloseReason, Disposition, ResetSegment};
use crate::tcp::state::State;
use crate::tcp::testing::{Bench, ack, data};
use crate::tcp::timewait::Inherited;
use crate::verdict::DropReason;
use millrace_base::{Instant, SeqNumber};
use millrace_wire::TcpFlags;

fn syn_ack() -> crate::tcp::testing::Seg {
    let mut seg = ack(0).seq(-1).flags(TcpFlags::SYN | TcpFlags::ACK);
    (seg.mss, seg.scale, seg.sack_permitted) = (Some(1_460), Some(7), true);
    seg
}

// RFC 9293 section 3.5, figure 6; SYN options as Linux sends them.
// behaviour: MUST-14, MUST-67, SHLD-5, MAY-3, A4-6, A4-14, A14-8, A14-9, A14-13, CON-1, CON-25
// behaviour: CON-26, CON-27, SND-33, SND-34, SND-39, X6-3, A14-1
#[test]
fn an_active_open_offers_everything_and_is_established_by_the_syn_ack() {
    let mut bench = Bench::connecting(TcpTunables::default());
    let syn = bench.poll().expect("SYN");
    assert_eq!(
        (syn.flags, syn.seq, syn.window),
        (TcpFlags::SYN, -1, 64_240)
    );
    assert_eq!(
        (syn.mss, syn.scale, syn.sack_permitted),
        (Some(1_460), Some(7), true)
    );
    assert_eq!(
        syn.stamps,
        Some((6_000, 0)),
        "the clock starts at the offset"
    );
    assert_eq!(bench.sent(), []);
    bench.advance(50);
    bench.receive(syn_ack().stamps(77, 6_000));
    let third = bench.sent();
    assert_eq!(third.len(), 1);
    assert!(third[0].is_ack_only());
    assert_eq!(
        (third[0].seq, third[0].ack, third[0].stamps),
        (0, 0, Some((6_050, 77)))
    );
    assert_eq!(bench.connection.state(), State::Established);
    assert_eq!(
        bench.connection.take_ready(),
        Ready::CONNECTED | Ready::WRITABLE
    );
    let info = bench.info();
    assert_eq!((info.mss, info.cwnd_bytes), (1_448, 14_480));
    assert_eq!(info.srtt.map(|srtt| srtt.as_micros()), Some(50_000));
    bench.finish();
}

// Linux: tcp_twsk_unique, tcp_rcv_synsent_state_process.
// behaviour: A14-16
#[test]
fn an_open_over_a_time_wait_record_starts_beyond_it_and_rejects_its_segments() {
    let inherited = Inherited {
        iss: SeqNumber::new(70_537),
        ts_recent: 700,
        ts_recent_at: 0,
    };
    let mut bench = Bench::connecting_after(Some(inherited), TcpTunables::default());
    assert_eq!(bench.iss, SeqNumber::new(70_537));
    let syn = bench.poll().expect("SYN");
    assert_eq!((syn.seq, syn.stamps), (-1, Some((6_000, 700))));
    // A SYN of the peer's old life: simultaneous open it is not.
    let old = ack(0).seq(-1).flags(TcpFlags::SYN).stamps(699, 0);
    bench.receive(old);
    assert_eq!(bench.world.stats.dropped(DropReason::PawsRejected), 1);
    assert_eq!(bench.connection.state(), State::SynSent);
    // The peer's clock may have started anew: the ACK of our SYN proves that this one is fresh.
    bench.receive(syn_ack().stamps(3, 6_000));
    assert_eq!(bench.connection.state(), State::Established);
    assert_eq!(bench.sent()[0].stamps, Some((6_000, 3)));
    bench.finish();
}

// Linux 6.5: four linear timeouts, then doubling; tcp_syn_retries 6.
// behaviour: MUST-22, A12-28, A30-20, CON-18, TMR-34
#[test]
fn a_syn_is_sent_again_ten_times_and_then_the_open_fails() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    let start = bench.now;
    let mut times = Vec::new();
    while bench.ended.is_none() {
        bench.advance(200_000);
        if let Some(syn) = bench.poll() {
            assert_eq!((syn.flags, syn.seq), (TcpFlags::SYN, -1));
            times.push(bench.now.since(start).as_millis() / 1_000);
        }
    }
    assert_eq!(times, [1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
    assert_eq!(
        bench.ended,
        Some(Disposition::Closed(CloseReason::TimedOut, None))
    );
    assert_eq!(bench.world.stats.tcp_syn_retrans, 10);
    assert!(
        bench
            .connection
            .take_ready()
            .contains(Ready::TIMED_OUT | Ready::CLOSED)
    );
    bench.finish();
}

// RFC 5681 section 3.1 as Linux has it: tcp_init_transfer, tcp_try_undo_spurious_syn.
#[test]
fn two_lost_syns_make_the_first_window_one_segment() {
    let window = |syns: usize, echo: Option<u32>| {
        let mut bench = Bench::connecting(TcpTunables::default());
        for count in 0..syns {
            if count > 0 {
                bench.advance(200_000);
            }
            assert!(bench.poll().is_some(), "SYN {count}");
        }
        bench.receive(match echo {
            Some(echo) => syn_ack().stamps(77, echo),
            None => syn_ack(),
        });
        assert_eq!(bench.connection.state(), State::Established);
        let info = bench.info();
        bench.finish();
        info.cwnd_bytes / u32::from(info.mss)
    };
    assert_eq!((window(1, None), window(2, None)), (10, 10));
    assert_eq!(window(3, None), 1);
    assert_eq!(window(3, Some(8_000)), 1, "the third was answered");
    assert_eq!(window(3, Some(6_000)), 10, "the first was, late");
}

// Linux: total_retrans and undo_marker of the request. A SYN that comes again is no loss.
#[test]
fn two_lost_syn_acks_make_the_first_window_one_segment() {
    let begun = |count, timed_out, echo: Option<u32>| {
        let mut bench = Bench::connecting(TcpTunables::default());
        let syn_acks = SynAcks::Again {
            first_at: Instant::from_millis(900),
            count,
            timed_out,
        };
        let stamps = echo.map(|echo| (77, echo));
        let handshake = bench.handshake(syn_acks, stamps.map(|(recent, _)| recent));
        bench.connection = Connection::accept(&handshake, &bench.world.tunables, bench.now);
        let mut segment = ack(0);
        segment.stamps = stamps;
        bench.receive(segment);
        let info = bench.info();
        bench.finish();
        (info.cwnd_bytes / u32::from(info.mss), info.srtt)
    };
    assert_eq!(begun(1, true, None).0, 10);
    assert_eq!(begun(2, true, None), (1, None));
    assert_eq!(begun(2, false, None).0, 10, "the SYN came again");
    // One was sent a moment ago; the first at 900 ms.
    let of = |millis| Some(millrace_base::Micros::from_millis(millis));
    assert_eq!(begun(2, true, Some(5_999)), (1, of(1)));
    assert_eq!(begun(2, true, Some(5_900)), (10, of(100)));
}

// RFC 9293 section 3.10.7.3. behaviour: A14-2, A14-4, A14-15
// behaviour: A8-4, A12-25, STA-4
#[test]
fn in_syn_sent_only_a_reset_of_our_syn_counts() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    let stray = bench.receive(ack(5));
    let at = bench.iss.plus(6);
    assert_eq!(stray, Disposition::Reset(ResetSegment::refusing(at)));
    assert_eq!(
        bench.receive(ack(5).rst()),
        Disposition::Continue,
        "no ACK bit"
    );
    let wrong = bench.receive(ack(5).flags(TcpFlags::RST | TcpFlags::ACK));
    assert_eq!(wrong, Disposition::Continue, "an ACK of something else");
    assert_eq!(bench.connection.state(), State::SynSent);
    assert_eq!(bench.world.stats.dropped(DropReason::AckUnacceptable), 2);
    let refused = bench.receive(ack(0).flags(TcpFlags::RST | TcpFlags::ACK));
    assert_eq!(refused, Disposition::Closed(CloseReason::Refused, None));
    assert!(
        bench
            .connection
            .take_ready()
            .contains(Ready::REFUSED | Ready::CLOSED)
    );
    bench.finish();
}

// MUST-10; RFC 9293 section 3.5, figure 7. behaviour: A14-17
// behaviour: A14-7, A16-14, A19-1, CON-29, X6-4
#[test]
fn crossing_syns_open_one_connection() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    let mut syn = syn_ack().flags(TcpFlags::SYN);
    syn.stamps = Some((9, 0));
    bench.receive(syn);
    assert_eq!(bench.connection.state(), State::SynReceived);
    let answer = bench.sent();
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0].flags, TcpFlags::SYN | TcpFlags::ACK);
    assert_eq!(
        (answer[0].seq, answer[0].ack, answer[0].scale),
        (-1, 0, Some(7))
    );
    bench.receive(syn_ack().stamps(10, 6_000).window(4_096));
    assert_eq!(bench.connection.state(), State::Established);
    // Found by seed 13353 of the lossy simulation: the window of this SYN-ACK was scaled.
    assert_eq!(bench.info().snd_wnd, 4_096);
    assert!(bench.connection.take_ready().contains(Ready::CONNECTED));
    bench.finish();
}

// behaviour: A16-14
#[test]
fn a_passive_connection_is_told_once_and_may_start_with_data() {
    let mut bench = Bench::established(true);
    assert_eq!(bench.connection.state(), State::Established);
    bench.receive(data(0, 10));
    assert_eq!(bench.connection.take_ready(), Ready::READABLE);
    assert_eq!(bench.read(), data(0, 10).payload);
    bench.finish();
}

// MUST-15, MUST-16; RFC 6691.
// behaviour: A12-9, CON-10
#[test]
fn the_segment_size_is_the_smaller_of_path_and_peer_less_the_options() {
    let bench = Bench::established(true);
    assert_eq!(bench.info().mss, 1_000);
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    let mut bare = syn_ack();
    (bare.mss, bare.scale, bare.sack_permitted) = (None, None, false);
    bench.receive(bare);
    assert_eq!(bench.info().mss, 536);
    assert!(!bench.connection.timestamps.agreed());
    bench.finish();
}

// RFC 7323 section 2.2: no scaling unless both ask; the window of a SYN is never scaled.
// behaviour: A4-14, A5-1, A14-7, SND-39
#[test]
fn windows_are_scaled_only_when_both_asked() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    bench.receive(syn_ack().window(1_000));
    assert_eq!(bench.info().snd_wnd, 1_000);
    bench.receive(ack(0).window(1_000));
    assert_eq!(bench.info().snd_wnd, 128_000);
    assert_eq!(bench.sent()[0].window, 502, "64,240 bytes in units of 128");
    bench.finish();
}

// Found by seed 10318 of the lossy simulation: the SYN-ACK of a simultaneous open was lost.
#[test]
fn a_repeated_syn_of_a_simultaneous_open_is_answered_again_within_the_budget() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    let syn = syn_ack().flags(TcpFlags::SYN);
    bench.receive(syn.clone());
    assert_eq!(bench.sent().len(), 1);
    for _ in 0..3 {
        bench.receive(syn.clone());
    }
    let again = bench.sent();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].flags, TcpFlags::SYN | TcpFlags::ACK);
    assert_eq!(bench.connection.state(), State::SynReceived);
    bench.finish();
}

// Linux: tcp_write_timeout adds tcp_syn_linear_timeouts in SYN-SENT only.
#[test]
fn the_syn_ack_of_crossing_syns_is_sent_again_six_times() {
    let mut bench = Bench::connecting(TcpTunables::default());
    assert!(bench.poll().is_some());
    bench.receive(syn_ack().flags(TcpFlags::SYN));
    assert_eq!(bench.sent().len(), 1);
    let mut again = 0;
    while bench.ended.is_none() {
        bench.advance(200_000);
        again += bench.sent().len();
    }
    assert_eq!(again, 6);
    let timed_out = Disposition::Closed(CloseReason::TimedOut, None);
    assert_eq!(bench.ended, Some(timed_out));
    bench.finish();
}
