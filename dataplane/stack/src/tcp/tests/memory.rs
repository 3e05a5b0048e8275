//! What waits to be read or for its turn, and what it costs: the two queues, the memory they may take,
//! and what is done when there is none.

use millrace_base::{HeapPool, PacketPool, SeqNumber};
use millrace_wire::TcpFlags;

use crate::tcp::chunk::Chunks;
use crate::tcp::config::{ConnectionOptions, Special, TcpTunables};
use crate::tcp::ready::Ready;
use crate::tcp::recv_buffer::{ReceiveBuffer, memory_of};
use crate::tcp::testing::{Bench, Seg, ack, data};

/// An established connection whose application has chosen `bytes` of receive memory.
fn with_memory(bytes: u32) -> Bench {
    let tunables = TcpTunables {
        special: Special {
            receive_buffer: bytes,
            ..Special::default()
        },
        ..TcpTunables::default()
    };
    Bench::established_with(true, tunables, ConnectionOptions::default(), None)
}

// Linux: tcp_data_queue. In turn to the reader, early to the list that SACK tells of, and from there to
// the reader when the hole is filled; nothing waits anywhere else.
// behaviour: RCV-45, X8-5
#[test]
fn data_wait_in_two_queues_the_reader_s_and_that_of_what_came_early() {
    let mut bench = Bench::established(true);
    let held = |bench: &Bench| {
        let (early, _) = bench.connection.reassembly.held(&bench.world.chunks);
        (bench.connection.receive.bytes(), early)
    };
    bench.receive(data(0, 1_000));
    assert_eq!(held(&bench), (1_000, 0));
    bench.receive(data(2_000, 1_000));
    bench.receive(data(4_000, 1_000));
    assert_eq!(held(&bench), (1_000, 2_000));
    let told = bench.sent();
    let last = told.last().expect("an ACK");
    assert_eq!(
        (last.ack, &last.sack[..]),
        (1_000, &[(4_000, 5_000), (2_000, 3_000)][..])
    );
    assert_eq!(bench.world.chunks.used(), 3, "each in one of them");
    bench.receive(data(1_000, 1_000));
    assert_eq!(held(&bench), (3_000, 1_000));
    bench.receive(data(3_000, 1_000));
    assert_eq!(held(&bench), (5_000, 0));
    assert_eq!(bench.read(), data(0, 5_000).payload);
    bench.finish();
}

/// Fills the reader's queue with what badly fills its buffers, until its memory is exceeded.
fn fill(bench: &mut Bench) -> i64 {
    let (mut at, mut count) = (0, 0);
    while memory_of(at as u32, count) <= bench.connection.window.memory() {
        bench.receive(data(at, 620));
        (at, count) = (at + 620, count + 1);
    }
    bench.sent();
    at
}

// Linux: tcp_data_queue, tcp_prune_queue, ICSK_ACK_NOMEM.
// behaviour: RCV-38, X8-8
#[test]
fn without_memory_the_reader_is_woken_the_segment_dropped_and_the_window_closed() {
    let mut bench = with_memory(16_000);
    bench.predicts = false;
    let at = fill(&mut bench);
    assert!(bench.info().rcv_wnd >= 620, "it was promised");
    bench.connection.take_ready();
    bench.receive(data(at, 620));
    assert_eq!(bench.connection.take_ready(), Ready::READABLE);
    assert_eq!(i64::from(bench.info().unread_bytes), at, "dropped");
    let told = bench.sent();
    assert_eq!((told.len(), told[0].ack, told[0].window), (1, at, 0));
    let stats = &bench.world.stats;
    assert_eq!(
        (stats.tcp_rcvq_drop, stats.prune_called, stats.rcv_pruned),
        (1, 1, 1)
    );
    assert_eq!(bench.read(), data(0, at as usize).payload);
    assert!(bench.sent()[0].window > 2_000, "the reader has made room");
    bench.receive(data(at, 620));
    assert_eq!(bench.info().unread_bytes, 620);
    bench.finish();
}

// What nobody chose a size for grows instead (tcp_clamp_window).
// behaviour: X8-8
#[test]
fn memory_that_may_grow_is_enlarged_before_anything_is_dropped() {
    let mut bench = Bench::established(true);
    bench.predicts = false;
    let at = fill(&mut bench);
    bench.receive(data(at, 620));
    assert_eq!(i64::from(bench.info().unread_bytes), at + 620);
    let stats = &bench.world.stats;
    assert_eq!((stats.tcp_rcvq_drop, stats.prune_called), (0, 1));
    assert!(bench.connection.window.memory() > 131_072);
    bench.read();
    bench.finish();
}

// What comes in turn goes before what waits for it (tcp_prune_ofo_queue).
// behaviour: X8-8
#[test]
fn early_data_give_way_to_the_data_they_wait_for() {
    let mut bench = with_memory(16_000);
    bench.predicts = false;
    let mut at = 620;
    while memory_of(at as u32 - 620, at as u32 / 620 - 1) <= 16_000 {
        bench.receive(data(at, 620));
        at += 620;
    }
    bench.sent();
    bench.receive(data(0, 620));
    assert!(bench.world.stats.ofo_pruned == 1 && bench.info().unread_bytes >= 620);
    assert_eq!(bench.world.stats.tcp_rcvq_drop, 0);
    bench.read();
    bench.finish();
}

/// An established connection that a program reads, or a balancer.
fn read_by(program: bool) -> Bench {
    let options = ConnectionOptions {
        keep_unread: program,
        ..ConnectionOptions::default()
    };
    Bench::established_with(true, TcpTunables::default(), options, None)
}

// No payload copy on the packet path: what is spliced keeps its buffers, whatever memory there is.
#[test]
fn a_balancer_copies_no_payload_however_tiny_and_however_short_memory_is() {
    let mut bench = read_by(false);
    bench.world.chunks = Chunks::new(12);
    for step in 0..8 {
        bench.receive(data(step * 100, 100));
    }
    assert!(bench.world.chunks.is_pressed());
    assert_eq!((bench.world.chunks.used(), bench.world.pool.live()), (8, 8));
    assert_eq!(bench.world.stats.payload_copied_bytes, 0);
    bench.sent();
    bench.read();
    bench.finish();
}

// While the pool is short, tiny payloads go behind the one before: bytes of a buffer, not buffers. Enough
// of it, and none is copied.
// behaviour: RCV-47, RCV-58, SKB-13
#[test]
fn while_memory_is_short_tiny_segments_share_a_buffer_and_theirs_are_free_at_once() {
    let mut bench = read_by(true);
    for step in 0..3 {
        bench.receive(data(step * 100, 100));
    }
    let stats = &bench.world.stats;
    assert_eq!((bench.world.chunks.used(), bench.world.pool.live()), (3, 3));
    assert_eq!((stats.tcp_rcv_coalesce, stats.payload_copied_bytes), (0, 0));
    bench.read();
    bench.sent();
    let copied = bench.world.stats.payload_copied_bytes;
    bench.world.chunks = Chunks::new(4);
    for step in 0..3 {
        bench.receive(data(300 + step * 1_000, 1_000));
    }
    bench.sent();
    assert!(bench.world.chunks.is_pressed());
    // One that is not tiny keeps its buffer, and nothing else does.
    for step in 0..9 {
        bench.receive(data(3_300 + step * 100, 100));
    }
    bench.sent();
    assert_eq!((bench.world.chunks.used(), bench.world.pool.live()), (3, 3));
    let stats = &bench.world.stats;
    assert_eq!(
        (stats.tcp_rcv_coalesce, stats.payload_copied_bytes),
        (9, copied + 900)
    );
    assert_eq!(bench.read(), data(300, 3_900).payload);
    assert_eq!(bench.world.pool.live(), 0);
    bench.finish();
}

// Linux: tcp_init_buffer_space.
// behaviour: CCW-5
#[test]
fn a_fresh_connection_has_a_threshold_below_its_memory_and_room_for_ten_segments() {
    let bench = Bench::established(true);
    let info = bench.info();
    assert_eq!(info.rcv_space, 14_600, "ten segments of what we announce");
    assert_eq!(
        info.rcv_ssthresh,
        65_536 - 1_460,
        "one segment is kept back"
    );
    assert!(info.rcv_wnd >= 14_600);
    bench.finish();
}

// 20 ms away, read as it comes: slow start is not held up by the window, whose edge only moves right.
#[test]
fn a_bulk_transfer_opens_the_window_that_the_largest_memory_is_worth() {
    const MSS: i64 = 1_460;
    let mut bench = Bench::connecting(TcpTunables::default());
    bench.sent();
    bench.advance(20);
    bench.receive(Seg {
        flags: TcpFlags::SYN | TcpFlags::ACK,
        mss: Some(MSS as u16),
        scale: Some(7),
        sack_permitted: true,
        ..ack(0).seq(-1)
    });
    let (mut at, mut edge, mut congestion) = (0, 0, 10);
    for _ in 0..12 {
        let mut told = edge;
        for seg in bench.sent() {
            told = told.max(seg.ack + (i64::from(seg.window) << 7));
        }
        edge = told;
        for _ in 0..congestion {
            if at + MSS > edge {
                break;
            }
            bench.receive(data(at, MSS as usize));
            bench.read();
            at += MSS;
            for seg in bench.sent() {
                let end = seg.ack + (i64::from(seg.window) << 7);
                assert!(end >= told, "the edge moved left by {}", told - end);
                told = end;
            }
        }
        edge = told;
        congestion *= 2;
        bench.advance(20);
    }
    // Full segments are 162 of 256 parts of what they are charged.
    let worth = 6_291_456 / 256 * 162;
    assert!(edge - at >= worth / 10 * 9, "{} of {worth}", edge - at);
    bench.finish();
}

// Nothing will ever report it. Linux: tcp_dsack_set asks for SACK first.
#[test]
fn without_sack_nothing_is_kept_of_a_duplicate() {
    let mut bench = Bench::established(false);
    bench.receive(data(0, 1_000));
    // Overlaps what was read, then what waits.
    bench.receive(data(500, 1_000));
    bench.receive(data(2_000, 1_000));
    bench.receive(data(2_500, 1_000));
    bench.receive(data(1_500, 500));
    assert_eq!(bench.read().len(), 3_500);
    bench.sent();
    assert_eq!(bench.world.chunks.disordered(), 0);
    assert_eq!(bench.world.stats.tcp_dsack_old_sent, 0);
    assert_eq!(bench.world.stats.tcp_dsack_ofo_sent, 0);
    bench.finish();
}

// `tcp_rmem` may promise more than any fixed number of segments holds.
#[test]
fn full_segments_in_the_queue_are_bounded_by_the_window_and_not_by_their_number() {
    for (bytes, has_room) in [(1_000, true), (40, false)] {
        let mut pool = HeapPool::new(9_000, 2_176);
        let mut chunks = Chunks::new(20_000);
        let mut queue = ReceiveBuffer::EMPTY;
        let mut seq = SeqNumber::new(0);
        for _ in 0..8_900 {
            let buf = pool.alloc().expect("buffers");
            queue
                .append(&mut chunks, buf, seq, 128, bytes)
                .expect("chunks");
            seq = seq.plus(bytes.into());
        }
        assert_eq!(queue.has_room(&chunks), has_room, "{bytes}");
        assert_eq!(queue.straight_room() > 0, has_room, "{bytes}");
        queue.clear(&mut chunks);
    }
}

// Linux: tcp_data_queue_ofo. What waits for a hole to be filled takes memory that the window of what
// follows it is made of.
#[test]
fn memory_that_nobody_chose_grows_with_what_comes_out_of_turn() {
    for (mut bench, grows) in [
        (Bench::established(true), true),
        (with_memory(131_072), false),
    ] {
        bench.receive(data(0, 1_000));
        let before = bench.connection.window.memory();
        for at in 2..60 {
            bench.receive(data(at * 1_000, 1_000));
        }
        let after = bench.connection.window.memory();
        assert_eq!(after > before, grows, "{before} {after}");
        bench.sent();
        bench.finish();
    }
}

// Early data that wait behind a hole are no reason to keep the window closed: the reader cannot take
// them, and only the missing segment helps. A session stood still for minutes when memory had been
// short while that was refused.
// behaviour: RCV-38
#[test]
fn a_refused_segment_is_let_in_once_the_reader_has_made_room_whatever_waits_behind_it() {
    const FULL: i64 = 1_448;
    let mut bench = read_by(false);
    bench.world.chunks = Chunks::new(64);
    bench.predicts = false;
    for place in [0, 1, 3, 4, 5, 6, 7] {
        bench.receive(data(place * FULL, FULL as usize));
    }
    bench.sent();
    // Other connections take three quarters of the pool.
    let others = (0..44).map(|_| {
        let buf = bench.world.pool.alloc().expect("a buffer");
        let taken = bench.world.chunks.take(buf, SeqNumber::new(0), 0, 1);
        taken.expect("a chunk")
    });
    let others: Vec<u32> = others.collect();
    bench.receive(data(2 * FULL, FULL as usize));
    assert_eq!(bench.world.stats.tcp_rcvq_drop, 1);
    assert_eq!(bench.sent().last().map(|ack| ack.window), Some(0));
    assert_eq!(bench.read().len() as i64, 2 * FULL);
    let told = bench.sent();
    assert!(told.last().is_some_and(|ack| ack.window > 0), "{told:?}");
    bench.receive(data(2 * FULL, FULL as usize));
    assert_eq!(i64::from(bench.info().unread_bytes), 6 * FULL);
    for index in others {
        bench.world.chunks.free(index);
    }
    bench.sent();
    bench.read();
    bench.finish();
}

// What was said of memory when the window closed does not hold for ever: a peer that asks is told
// what there is now.
// behaviour: RCV-38
#[test]
fn a_closed_window_is_judged_by_the_memory_of_now() {
    const FULL: i64 = 1_448;
    let mut bench = read_by(false);
    bench.world.chunks = Chunks::new(64);
    bench.predicts = false;
    for place in 0..8 {
        bench.receive(data(place * FULL, FULL as usize));
    }
    bench.connection.window.refuse();
    bench.connection.window.note_memory(true);
    bench.connection.ack.send_now();
    assert_eq!(bench.sent().last().map(|ack| ack.window), Some(0));
    assert!(!bench.world.chunks.is_pressed());
    bench.receive(data(8 * FULL, FULL as usize));
    let told = bench.sent();
    assert!(told.last().is_some_and(|ack| ack.window > 0), "{told:?}");
    bench.read();
    bench.finish();
}

// A window that closed opens as soon as nothing is left to read, though early data take the memory:
// they give way to what they wait for.
// behaviour: X8-8
#[test]
fn early_data_alone_keep_no_window_closed() {
    let mut bench = with_memory(16_000);
    bench.predicts = false;
    bench.receive(data(0, 620));
    let mut at = 1_240;
    while memory_of(at as u32 - 620, at as u32 / 620 - 1) <= 16_000 {
        bench.receive(data(at, 620));
        at += 620;
    }
    bench.connection.window.refuse();
    bench.connection.ack.send_now();
    assert_eq!(bench.sent().last().map(|ack| ack.window), Some(0));
    bench.read();
    let told = bench.sent();
    assert!(told.last().is_some_and(|ack| ack.window >= 620), "{told:?}");
    bench.receive(data(620, 620));
    assert!(bench.info().unread_bytes >= 620);
    bench.read();
    bench.finish();
}
