//! Closing: every path through RFC 9293 section 3.6, and what happens to an orphan.

use crate::tcp::ready::Ready;
use crate::tcp::segment::{CloseReason, Disposition};
use crate::tcp::state::State;
use crate::tcp::testing::{Bench, ack, data};
use crate::verdict::DropReason;
use millrace_wire::TcpFlags;

const FIN_ACK: TcpFlags = TcpFlags::from_bits(0x11);

// RFC 9293 section 3.6, case 1. behaviour: X6-10, X6-11, X6-13
// behaviour: A16-15, A25-11, ACK-3, STA-10
#[test]
fn an_active_close_ends_in_time_wait_with_a_record() {
    let mut bench = Bench::established(true);
    bench.shutdown();
    let fin = bench.sent();
    assert_eq!((fin.len(), fin[0].flags, fin[0].seq), (1, FIN_ACK, 0));
    assert_eq!(bench.connection.state(), State::FinWait1);
    bench.receive(ack(1));
    assert_eq!(bench.connection.state(), State::FinWait2);
    assert!(bench.connection.take_ready().contains(Ready::ALL_ACKED));
    let end = bench.receive(ack(1).fin());
    let Disposition::TimeWait(record) = end else {
        panic!("{end:?}")
    };
    assert_eq!(record.snd_nxt, bench.iss.plus(2));
    assert_eq!(record.rcv_nxt, bench.irs.plus(2));
    assert!(record.ack_now, "the FIN is yet to be acknowledged");
    assert!(
        bench
            .connection
            .take_ready()
            .contains(Ready::PEER_CLOSED | Ready::CLOSED)
    );
    assert_eq!(bench.sent(), [], "the record answers from now on");
    bench.finish();
}

// RFC 9293 section 3.6, case 2. behaviour: A27-2, X6-9, X6-15
// behaviour: A27-3, A27-6, ACK-11, RDV-9, STA-16
#[test]
fn a_passive_close_acknowledges_at_once_and_ends_without_time_wait() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 100).fin());
    assert_eq!(bench.connection.state(), State::CloseWait);
    assert_eq!(
        bench.connection.take_ready(),
        Ready::READABLE | Ready::PEER_CLOSED
    );
    assert_eq!(bench.sent()[0].ack, 101);
    assert_eq!(bench.read().len(), 100);
    assert!(bench.connection.is_at_end());
    assert_eq!(bench.write(50), 50, "the other half is still open");
    bench.shutdown();
    assert_eq!(bench.connection.state(), State::LastAck);
    let last = bench.sent();
    assert_eq!(last.len(), 1, "the FIN travels with the data");
    assert_eq!((last[0].len(), last[0].flags.fin()), (50, true));
    let end = bench.receive(ack(51).seq(101));
    assert_eq!(end, Disposition::Closed(CloseReason::Finished, None));
    bench.finish();
}

// RFC 9293 section 3.6, case 3. behaviour: X6-12, X6-14, A16-19
// behaviour: STA-15
#[test]
fn a_simultaneous_close_passes_through_closing() {
    let mut bench = Bench::established(true);
    bench.shutdown();
    bench.sent();
    bench.receive(ack(0).fin());
    assert_eq!(bench.connection.state(), State::Closing);
    assert_eq!(bench.sent()[0].ack, 1);
    assert!(matches!(
        bench.receive(ack(1).seq(1)),
        Disposition::TimeWait(_)
    ));
    bench.finish();
}

// RFC 9293 section 3.10.7.4, eighth. behaviour: A27-1
// behaviour: STA-30
#[test]
fn a_fin_counts_only_when_everything_before_it_is_here() {
    let mut bench = Bench::established(true);
    bench.receive(data(100, 50).fin());
    assert_eq!(bench.connection.state(), State::Established);
    assert_eq!(bench.sent()[0].ack, 0);
    bench.receive(data(0, 100));
    assert_eq!(bench.connection.state(), State::CloseWait);
    assert_eq!(bench.sent()[0].ack, 151);
    assert_eq!(bench.read().len(), 150);
    bench.finish();
}

// Our ACK of the FIN was lost: the FIN comes again.
#[test]
fn a_repeated_fin_is_acknowledged_again() {
    let mut bench = Bench::established(true);
    bench.receive(ack(0).fin());
    bench.sent();
    bench.receive(ack(0).fin());
    assert_eq!(bench.sent()[0].ack, 1);
    assert_eq!(bench.connection.state(), State::CloseWait);
    bench.finish();
}

// A lost FIN is sent again by the timer.
// behaviour: ACK-13
#[test]
fn a_fin_without_an_answer_is_sent_again() {
    let mut bench = Bench::established(true);
    bench.write(10);
    bench.sent();
    bench.receive(ack(10));
    bench.shutdown();
    assert_eq!(bench.sent().len(), 1);
    bench.advance(5_000);
    let again = bench.sent();
    assert_eq!(
        (again.len(), again[0].flags, again[0].seq),
        (1, FIN_ACK, 10)
    );
    bench.receive(ack(11));
    assert_eq!(bench.connection.state(), State::FinWait2);
    bench.finish();
}

// RFC 2525 section 2.17. behaviour: A25-8
// behaviour: SHLD-3, MAY-1, A25-9, STA-42, X1-25
#[test]
fn closing_with_unread_data_resets() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 10));
    bench.sent();
    let end = bench.close();
    let Disposition::Closed(CloseReason::Aborted, Some(reset)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(
        (reset.seq, reset.ack),
        (bench.iss.plus(1), Some(bench.irs.plus(11)))
    );
    assert_eq!(bench.world.stats.tcp_abort_on_close, 1);
    bench.finish();
}

// RFC 1122 section 4.2.2.13. behaviour: A16-17
// behaviour: A16-23, A25-3, STA-12
#[test]
fn data_for_an_orphan_resets() {
    let mut bench = Bench::established(true);
    assert_eq!(bench.close(), Disposition::Continue);
    bench.sent();
    let end = bench.receive(data(0, 1).ack(1));
    let Disposition::Closed(CloseReason::Aborted, Some(reset)) = end else {
        panic!("{end:?}")
    };
    assert_eq!((reset.seq, reset.ack), (bench.iss.plus(2), None));
    assert_eq!(bench.world.stats.dropped(DropReason::DataAfterClose), 1);
    assert_eq!(bench.world.stats.tcp_abort_on_data, 1);
    bench.finish();
}

// behaviour: A25-15; Linux: tcp_fin_timeout 60.
// behaviour: STA-13, STA-40, X2-18
#[test]
fn an_orphan_waits_a_minute_for_the_peers_fin() {
    let mut bench = Bench::established(true);
    bench.close();
    bench.sent();
    let Disposition::TimeWait(record) = bench.receive(ack(1)) else {
        panic!("a record waits")
    };
    assert_eq!((record.fin_wait2_secs, record.ack_now), (60, false));
    bench.finish();
}

// What goes beyond a minute is waited for by the connection, and then once more by the record.
// behaviour: A16-18, STA-13
#[test]
fn a_longer_wait_for_the_fin_begins_in_the_connection() {
    let mut bench = Bench::established(true);
    bench.world.tunables.tcp_fin_timeout = 70;
    bench.close();
    bench.sent();
    assert_eq!(bench.receive(ack(1)), Disposition::Continue);
    assert_eq!(bench.connection.state(), State::FinWait2);
    bench.advance(9_999);
    assert!(bench.ended.is_none());
    bench.advance(2);
    let Some(Disposition::TimeWait(record)) = bench.ended else {
        panic!("{:?}", bench.ended)
    };
    assert_eq!(record.fin_wait2_secs, 10);
    bench.finish();
}

// A FIN that comes with the ACK of ours is not waited for. behaviour: A16-18
#[test]
fn a_fin_with_the_last_ack_of_an_orphan_begins_time_wait() {
    let mut bench = Bench::established(true);
    bench.close();
    bench.sent();
    let Disposition::TimeWait(record) = bench.receive(ack(1).fin()) else {
        panic!("a record rests")
    };
    assert_eq!((record.fin_wait2_secs, record.ack_now), (0, true));
    bench.finish();
}

// `shutdown` of both sides: RFC 1122 section 4.2.2.13 while somebody still holds the socket.
// behaviour: X1-24
#[test]
fn data_for_a_connection_that_is_shut_both_ways_resets() {
    let mut bench = Bench::established(true);
    bench.connection.shutdown_receiving();
    bench.receive(data(0, 5));
    assert_eq!(bench.read().len(), 5, "before our FIN it is taken");
    bench.shutdown();
    bench.sent();
    let end = bench.receive(data(5, 5).ack(1));
    assert!(matches!(
        end,
        Disposition::Closed(CloseReason::Reset, Some(_))
    ));
    assert!(bench.connection.take_ready().contains(Ready::RESET));
    assert_eq!(bench.world.stats.tcp_abort_on_data, 1);
    bench.finish();
}

// Half-close: what a splice needs when one client has said everything (RFC 9293 section 3.6).
// behaviour: A16-24, A25-1, STA-18, STA-26, X3-11
#[test]
fn after_shutdown_data_still_comes_in() {
    let mut bench = Bench::established(true);
    bench.shutdown();
    bench.sent();
    bench.receive(ack(1));
    for step in 0..5 {
        bench.receive(data(step * 1_000, 1_000).ack(1));
    }
    assert_eq!(bench.read(), data(0, 5_000).payload);
    assert_eq!(bench.sent().last().map(|seg| seg.ack), Some(5_000));
    assert_eq!(bench.write(1), 0, "our side is closed");
    bench.finish();
}

// Received data survives the end of the connection (Linux keeps it readable in TIME-WAIT).
#[test]
fn unread_data_outlives_time_wait() {
    let mut bench = Bench::established(true);
    bench.shutdown();
    bench.sent();
    assert!(matches!(
        bench.receive(data(0, 30).ack(1).fin()),
        Disposition::TimeWait(_)
    ));
    assert!(!bench.connection.is_over());
    assert!(!bench.connection.take_ready().contains(Ready::CLOSED));
    assert_eq!(bench.read().len(), 30);
    assert!(bench.connection.is_over() && bench.connection.is_at_end());
    assert!(bench.connection.take_ready().contains(Ready::CLOSED));
    bench.finish();
}

// A balancer may have a whole request, FIN included, before the backend has answered the SYN.
// behaviour: CON-28
#[test]
fn a_shutdown_before_the_handshake_is_done_follows_the_data() {
    let mut bench = Bench::connecting(Default::default());
    assert!(bench.poll().is_some());
    assert_eq!(bench.write(20), 20);
    assert_eq!(bench.shutdown(), Disposition::Continue);
    assert_eq!(bench.sent(), []);
    bench.receive(ack(0).seq(-1).flags(TcpFlags::SYN | TcpFlags::ACK));
    let sent = bench.sent();
    assert_eq!(
        (sent.len(), sent[0].len(), sent[0].flags.fin()),
        (1, 20, true)
    );
    assert_eq!(bench.connection.state(), State::FinWait1);
    bench.finish();
}

// Linux: tcp_send_fin. What was never sent takes the FIN along; while memory is short, so does what was.
// behaviour: ACK-12, A25-20
#[test]
fn while_memory_is_short_a_fin_is_taken_for_sent_with_what_was_sent_last() {
    let mut roomy = Bench::established(true);
    roomy.write(1_000);
    roomy.sent();
    roomy.shutdown();
    assert!(
        roomy.sent()[0].flags.contains(TcpFlags::FIN),
        "a segment of its own"
    );
    roomy.finish();
    for (acked, len) in [(0, 1_000), (2_000, 0)] {
        let mut bench = Bench::established(true);
        bench.world.chunks = crate::tcp::chunk::Chunks::new(3);
        bench.write(2_000);
        assert_eq!(bench.sent().len(), 2);
        assert!(bench.world.chunks.is_pressed());
        bench.shutdown();
        assert_eq!(bench.sent(), [], "as if it had left");
        assert_eq!(bench.connection.state(), State::FinWait1);
        if acked > 0 {
            bench.receive(ack(acked));
            assert_eq!(bench.sent(), []);
        }
        bench.advance(10_000);
        let sent = bench.sent();
        let last = sent.last().expect("after a timeout");
        assert!(last.flags.contains(TcpFlags::FIN), "{last:?}");
        assert_eq!((last.seq + last.len(), last.payload.len()), (2_000, len));
        bench.receive(ack(2_001));
        assert_eq!(bench.connection.state(), State::FinWait2);
        bench.finish();
    }
    let mut unsent = Bench::established(true);
    unsent.write(1_000);
    unsent.shutdown();
    let sent = unsent.sent();
    assert_eq!((sent.len(), sent[0].len()), (1, 1_000));
    assert!(sent[0].flags.contains(TcpFlags::FIN));
    unsent.finish();
}
