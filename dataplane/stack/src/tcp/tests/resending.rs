//! What is sent again, in which segments, and what the timers make of it: cases that were wrong, each
//! beside what Linux does.

use millrace_base::HeapPool;

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::ready::Ready;
use crate::tcp::recovery::Phase;
use crate::tcp::send_buffer::copy_to_chunk;
use crate::tcp::testing::{Bench, Seg, ack, data, pattern};

fn shapes(sent: &[Seg]) -> Vec<(i64, i64)> {
    sent.iter().map(|seg| (seg.seq, seg.len())).collect()
}

/// Queues chunks of these lengths, as a splice does.
fn queue(bench: &mut Bench, lens: &[usize]) {
    for len in lens {
        let from = i64::from(bench.connection.send.end().distance(bench.iss.plus(1)));
        let bytes: Vec<u8> = (0..*len).map(|at| pattern(from + at as i64)).collect();
        let (chunks, pool) = (&mut bench.world.chunks, &mut bench.world.pool);
        let (index, copied) = copy_to_chunk::<HeapPool>(&bytes, chunks, pool).expect("a buffer");
        assert_eq!(usize::from(copied), *len);
        bench.connection.send.push(chunks, index);
    }
}

// Linux: one `sk_buff` stays one. behaviour: TMR-20
#[test]
fn a_segment_of_several_chunks_leaves_again_as_one() {
    let mut bench = Bench::established(true);
    queue(&mut bench, &[300, 700, 1_000, 1_000, 1_000]);
    let first = [(0, 1_000), (1_000, 1_000), (2_000, 1_000), (3_000, 1_000)];
    assert_eq!(shapes(&bench.sent()), first);
    bench.advance(50);
    for end in [2_000, 3_000, 4_000] {
        bench.receive(ack(0).sack(&[(1_000, end)]));
    }
    let again = bench.sent();
    assert_eq!(shapes(&again), [(0, 1_000)]);
    assert_eq!(again[0].payload, data(0, 1_000).payload);
    assert_eq!(bench.info().retransmissions, 1);
    // It is one segment to whoever counts: one D-SACK takes all of it back.
    bench.advance(50);
    bench.receive(ack(4_000).sack(&[(0, 1_000)]));
    assert_eq!(bench.world.stats.tcp_full_undo, 1);
    assert_eq!(bench.info().phase, Phase::Open);
    bench.finish();
}

// A segment that is not full is one more that can be lost. A backend whose window closes ends what it
// sends with such a piece, once in twenty segments; Linux sends full ones on.
#[test]
fn where_something_was_lost_pieces_fill_segments() {
    let mut bench = Bench::established(true);
    queue(&mut bench, &[800, 1_000, 1_000, 1_000]);
    let as_they_came = [(0, 800), (800, 1_000), (1_800, 1_000), (2_800, 1_000)];
    assert_eq!(shapes(&bench.sent()), as_they_came);
    bench.advance(50);
    for end in [1_800, 2_800, 3_800] {
        bench.receive(ack(0).sack(&[(800, end)]));
    }
    assert_eq!(shapes(&bench.sent()), [(0, 800)]);
    bench.advance(50);
    bench.receive(ack(3_800));
    queue(&mut bench, &[800, 1_000, 600]);
    let full = [(3_800, 1_000), (4_800, 1_000), (5_800, 400)];
    let sent = bench.sent();
    assert_eq!(shapes(&sent), full);
    assert_eq!(sent[0].payload, data(3_800, 1_000).payload);
    bench.finish();
}

// RFC 8985 section 7.3: the last segment, all of it.
#[test]
fn a_probe_of_the_tail_is_the_whole_last_segment() {
    let mut bench = Bench::established(true);
    queue(&mut bench, &[1_000, 300, 700]);
    assert_eq!(shapes(&bench.sent()), [(0, 1_000), (1_000, 1_000)]);
    bench.advance(250);
    let probe = bench.sent();
    assert_eq!(shapes(&probe), [(1_000, 1_000)]);
    assert_eq!(probe[0].payload, data(1_000, 1_000).payload);
    assert_eq!(bench.world.stats.tcp_loss_probes, 1);
    // The peer has both and says so: the probe was not needed.
    bench.receive(ack(2_000).sack(&[(1_000, 2_000)]));
    assert_eq!(bench.world.stats.tcp_loss_probe_recovery, 0);
    bench.finish();
}

// RFC 8985 section 7.2: a receiver may delay the ACK of one segment. The round trip is 100 ms, the
// timeout 300.
#[test]
fn a_single_segment_is_not_probed_before_a_delayed_ack_is_late() {
    let of_two_chunks = |bench: &mut Bench| queue(bench, &[300, 700]);
    let with_fin = |bench: &mut Bench| {
        bench.write(1_000);
        bench.shutdown();
    };
    let cases: [&dyn Fn(&mut Bench); 2] = [&of_two_chunks, &with_fin];
    for (case, send) in cases.iter().enumerate() {
        let mut bench = Bench::established(true);
        send(&mut bench);
        assert_eq!(shapes(&bench.sent()), [(0, 1_000)]);
        bench.advance(250);
        assert_eq!(bench.sent(), [], "case {case}");
        bench.advance(60);
        assert_eq!(shapes(&bench.sent()), [(0, 1_000)], "case {case}");
        bench.finish();
    }
}

// Linux: tcp_dsack_seen. The retransmission was the timer's; the path has not reordered anything.
#[test]
fn a_duplicate_without_reordering_does_not_widen_the_window_of_rack() {
    let mut bench = Bench::established(true);
    bench.world.tunables.tcp_early_retrans = 0;
    bench.write(1_000);
    bench.sent();
    bench.advance(400);
    assert_eq!(shapes(&bench.sent()), [(0, 1_000)]);
    bench.receive(ack(1_000).sack(&[(0, 1_000)]));
    assert_eq!(bench.world.stats.tcp_dsack_recv, 1);
    bench.write(4_000);
    assert_eq!(bench.sent().len(), 4);
    bench.advance(48);
    bench.receive(ack(1_000).sack(&[(2_000, 3_000)]));
    // A quarter of 48 ms and 2; two quarters would be 26.
    bench.advance(20);
    assert_eq!(shapes(&bench.sent())[0], (1_000, 1_000));
    bench.finish();
}

// Linux: tcp_sacktag_one, the second kind of reordering.
#[test]
fn a_duplicate_of_what_was_reported_before_shows_reordering() {
    let mut bench = Bench::established(true);
    bench.write(10_000);
    assert_eq!(bench.sent().len(), 10);
    bench.advance(50);
    bench.receive(ack(0).sack(&[(2_000, 5_000)]));
    assert_eq!(shapes(&bench.sent()), [(0, 1_000), (1_000, 1_000)]);
    bench.advance(5);
    // The original of the second arrives, and then what was sent again.
    bench.receive(ack(0).sack(&[(1_000, 5_000)]));
    assert_eq!(bench.info().reordering, None);
    bench.advance(45);
    bench.receive(ack(0).sack(&[(1_000, 2_000), (1_000, 5_000)]));
    assert_eq!(bench.info().reordering, Some(4));
    assert_eq!(bench.world.stats.tcp_sack_reorder, 1);
    bench.finish();
}

// RFC 6298 section 5.7; Linux: tcp_ack_update_rtt.
#[test]
fn a_round_trip_told_by_sack_ends_the_backoff() {
    let mut bench = Bench::established(true);
    bench.world.tunables.tcp_early_retrans = 0;
    bench.world.tunables.tcp_frto = 0;
    bench.write(10_000);
    assert_eq!(bench.sent().len(), 10);
    bench.advance(400);
    assert_eq!(shapes(&bench.sent()), [(0, 1_000)]);
    assert_eq!(bench.connection.rtt.backoff(), 1);
    bench.receive(ack(0).sack(&[(5_000, 6_000)]));
    assert_eq!(bench.connection.rtt.backoff(), 0);
    bench.finish();
}

// Linux: tcp_simple_retransmit marks what is in flight again as well.
#[test]
fn a_retransmission_that_is_too_large_for_the_path_leaves_again_at_once() {
    let mut bench = Bench::established(true);
    bench.world.tunables.tcp_early_retrans = 0;
    bench.world.tunables.tcp_frto = 0;
    bench.write(10_000);
    assert_eq!(bench.sent().len(), 10);
    bench.advance(400);
    assert_eq!(shapes(&bench.sent()), [(0, 1_000)]);
    bench.path.mtu = 640;
    let again = shapes(&bench.sent());
    assert_eq!(again.first(), Some(&(0, 600)), "{again:?}");
    bench.finish();
}

// Linux: tcp_skb_seglen. Neither chunk is too large, the segment was.
#[test]
fn a_segment_of_small_chunks_may_be_too_large_for_the_path() {
    let mut bench = Bench::established(true);
    queue(&mut bench, &[300, 700]);
    assert_eq!(shapes(&bench.sent()), [(0, 1_000)]);
    bench.path.mtu = 740;
    assert_eq!(shapes(&bench.sent()), [(0, 300), (300, 700)]);
    bench.finish();
}

// What cannot leave for want of a buffer is no loss; what our own window holds back must not wait for
// ever.
#[test]
fn a_resend_held_by_the_window_is_let_go_by_the_next_timeout() {
    let options = ConnectionOptions {
        nodelay: true,
        ..ConnectionOptions::default()
    };
    let mut bench = Bench::established_with(true, TcpTunables::default(), options, None);
    bench.world.tunables.tcp_early_retrans = 0;
    bench.write(1_000);
    assert_eq!(bench.sent().len(), 1);
    bench.advance(250);
    for _ in 0..5 {
        bench.write(500);
        assert_eq!(bench.sent().len(), 1);
    }
    // Too recent for the timeout: five are still in flight, and fill a window of smaller segments.
    bench.advance(60);
    assert_eq!(bench.world.stats.tcp_timeouts, 1);
    bench.path.mtu = 540;
    let mut sent = shapes(&bench.sent());
    for _ in 0..5 {
        bench.advance(2_000);
        sent.extend(shapes(&bench.sent()));
    }
    assert!(sent.contains(&(0, 500)), "{sent:?}");
    bench.finish();
}

// Linux goes by a list in the order of sending; here the walk must not stop at a younger one.
#[test]
fn a_lost_retransmission_is_found_behind_a_younger_one() {
    let mut bench = Bench::established(true);
    bench.write(5_000);
    assert_eq!(bench.sent().len(), 5);
    bench.advance(20);
    retransmit(&mut bench, 2);
    bench.advance(30);
    bench.write(1_000);
    assert_eq!(bench.sent().len(), 1);
    bench.advance(10);
    retransmit(&mut bench, 0);
    bench.advance(95);
    bench.receive(ack(0).sack(&[(5_000, 6_000)]));
    // The first five are lost, and of the two that had left again only the younger is in flight.
    let send = &bench.connection.send;
    let counts = send
        .board
        .lost_and_retransmitted_segments(&bench.world.chunks, send.queue());
    assert_eq!(counts, (5, 1));
    bench.finish();
}

/// Chunk number `at` is found lost and leaves again.
fn retransmit(bench: &mut Bench, at: usize) {
    let times = (bench.now, bench.now.as_millis() as u32);
    let chunks = &mut bench.world.chunks;
    let (queue, unsent, board) = bench.connection.send.parts();
    let index = chunks.iter(queue).nth(at).expect("queued").0;
    board.mark_lost(chunks, index);
    let next = board.next_to_retransmit(chunks, (queue, unsent));
    assert_eq!(next, Some(index));
    board.on_retransmitted(chunks, (index, false), times);
}

// Linux: `min(tp->max_window, tp->bytes_acked)` in tcp_ack, since 6.7.
#[test]
fn an_ack_of_what_came_before_the_first_byte_is_challenged() {
    let mut bench = Bench::established(true);
    bench.write(2_000);
    bench.sent();
    bench.receive(ack(-500));
    assert_eq!(bench.sent().len(), 1, "the challenge");
    bench.receive(ack(1_000));
    bench.sent();
    bench.advance(1_000);
    bench.sent();
    bench.receive(ack(500));
    assert_eq!(bench.sent(), [], "an old one, as there are");
    bench.finish();
}

// Linux: `sk_sndbuf` does not shrink with the window. Data behind a hole would fill a queue that is
// held to twice the window, and what the window still lets go would not be there.
#[test]
fn what_lies_behind_a_hole_leaves_room_for_what_the_window_lets_go() {
    let tunables = TcpTunables {
        tcp_wmem: [4_096, 200_000],
        ..TcpTunables::default()
    };
    let mut bench = Bench::established_with(true, tunables, ConnectionOptions::default(), None);
    assert_eq!(bench.write(100_000), 20_000, "twice the window");
    assert_eq!(bench.sent().len(), 10);
    let mut highest = 1_000;
    // Three round trips: the hole is not filled, its retransmissions are lost.
    for _ in 0..30 {
        bench.advance(10);
        highest += 1_000;
        bench.receive(ack(0).sack(&[(1_000, highest)]));
        if bench.connection.take_ready().contains(Ready::WRITABLE) {
            bench.write(100_000);
        }
        bench.sent();
        assert!(bench.connection.unsent_bytes() > 0, "at {highest}");
    }
    assert_eq!(
        bench.connection.una,
        bench.iss.plus(1),
        "all of it behind one hole"
    );
    bench.receive(ack(highest));
    bench.finish();
}

// A driver that adds up the checksum of a chain piece by piece is wrong behind one of odd length: the
// segment would be refused by its receiver for ever.
#[test]
fn nothing_follows_an_odd_piece_for_a_device_that_needs_even_ones() {
    for even_pieces in [true, false] {
        let mut bench = Bench::established(true);
        bench.path.offloads.even_pieces = even_pieces;
        queue(&mut bench, &[301, 400, 1_000]);
        let sent = shapes(&bench.sent());
        let first = if even_pieces { 301 } else { 1_000 };
        assert_eq!(sent[0], (0, first), "{even_pieces}: {sent:?}");
        bench.receive(ack(1_701));
        bench.finish();
    }
}
