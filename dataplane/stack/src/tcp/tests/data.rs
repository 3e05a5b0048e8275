//! Data in and out when nothing goes wrong: order, sizes, copies, splices.

use crate::path::Offloads;
use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::ready::Ready;
use crate::tcp::testing::{Bench, Seg, ack, chains, data, parse, pattern};
use millrace_base::{HeapBuf, PacketBuf};
use millrace_wire::TcpFlags;

// behaviour: SHLD-28, A3-40, CCW-11, RCV-34, SND-21, SND-52, SOK-13
#[test]
fn ten_segments_leave_at_first_and_two_for_each_acknowledged_one() {
    let mut bench = Bench::established(true);
    bench.write(60_000);
    let first = bench.sent();
    assert_eq!(first.len(), 10, "RFC 6928");
    let at: Vec<i64> = first.iter().map(|seg| seg.seq).collect();
    assert_eq!(at, (0..10).map(|step| step * 1_000).collect::<Vec<_>>());
    bench.receive(ack(1_000));
    assert_eq!(bench.sent().len(), 2, "slow start");
    bench.receive(ack(3_000));
    assert_eq!(
        bench.sent().len(),
        4,
        "one ACK for two segments opens as much as two would"
    );
    bench.finish();
}

// Linux: tcp_sendmsg_locked fills the last skb of the write queue.
#[test]
fn what_is_written_in_pieces_leaves_in_whole_segments() {
    let mut bench = Bench::established(true);
    bench.write(10_000);
    assert_eq!(bench.sent().len(), 10, "the window is full");
    for _ in 0..8 {
        bench.write(300);
    }
    bench.receive(ack(10_000));
    let sent = bench.sent();
    let lens: Vec<usize> = sent.iter().map(|seg| seg.payload.len()).collect();
    assert_eq!(lens, [1_000, 1_000, 400]);
    for (segment, from) in sent.iter().zip([10_000, 11_000, 12_000]) {
        assert_eq!(segment.seq, from);
    }
    bench.finish();
}

// Linux: tcp_delack_timer_handler leaves ping-pong mode.
// behaviour: ACK-8, X8-7
#[test]
fn a_conversation_in_which_no_answer_came_is_one_no_longer() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 100));
    assert_eq!(bench.sent().len(), 1, "quick mode");
    bench.write(100);
    assert_eq!(bench.sent().len(), 1);
    bench.receive(data(100, 100).ack(100));
    assert_eq!(bench.sent(), [], "the answer may carry the ACK");
    bench.advance(40);
    assert_eq!(bench.sent().len(), 1);
    bench.receive(data(200, 100).ack(100));
    assert_eq!(bench.sent().len(), 1, "quick mode again");
    bench.finish();
}

// MUST-60, MUST-61.
// behaviour: SND-16
#[test]
fn the_last_queued_segment_is_pushed() {
    let mut bench = Bench::established(true);
    bench.write(2_500);
    let flags: Vec<bool> = bench
        .sent()
        .iter()
        .map(|seg| seg.flags.contains(TcpFlags::PSH))
        .collect();
    assert_eq!(flags, [false, false, true]);
    bench.finish();
}

// MUST-17: Nagle is there for who wants it, and off by default here.
// behaviour: SHLD-7, SND-23
#[test]
fn a_small_segment_waits_only_with_nagle() {
    let mut eager = Bench::established(true);
    eager.write(100);
    assert_eq!(eager.sent().len(), 1);
    eager.write(100);
    assert_eq!(eager.sent().len(), 1);
    eager.finish();
    let options = ConnectionOptions {
        nodelay: false,
        ..ConnectionOptions::default()
    };
    let mut patient = Bench::established_with(true, TcpTunables::default(), options, None);
    patient.write(100);
    assert_eq!(patient.sent().len(), 1);
    patient.write(100);
    assert_eq!(patient.sent(), [], "one small segment is in flight");
    patient.receive(ack(100));
    assert_eq!(patient.sent()[0].len(), 100);
    patient.finish();
}

// behaviour: SHLD-31, MAY-13, RCV-39, RCV-43, RCV-48, RCV-54, RCV-56
#[test]
fn segments_in_any_order_are_read_in_order() {
    let mut bench = Bench::established(true);
    for seq in [4_000, 2_000, 3_000, 1_000] {
        bench.receive(data(seq, 1_000));
        assert!(!bench.connection.has_unread());
    }
    let sent = bench.sent();
    assert_eq!(
        sent.last().map(|seg| (seg.ack, seg.sack.clone())),
        Some((0, vec![(1_000, 5_000)]))
    );
    bench.receive(data(0, 1_500));
    assert_eq!(bench.read(), data(0, 5_000).payload);
    let told = bench.sent();
    assert_eq!(told[0].ack, 5_000, "a filled hole is acknowledged at once");
    bench.finish();
}

// RFC 2883 section 4.
// behaviour: RCV-40
#[test]
fn a_duplicate_is_reported_once() {
    let mut bench = Bench::established(true);
    bench.receive(data(0, 2_000));
    bench.sent();
    bench.receive(data(500, 1_000));
    let told = bench.sent();
    assert_eq!(
        (told.len(), told[0].ack, &told[0].sack[..]),
        (1, 2_000, &[(500, 1_500)][..])
    );
    bench.receive(ack(0).seq(2_000));
    bench.receive(data(2_000, 10));
    assert!(bench.sent()[0].sack.is_empty());
    bench.finish();
}

// RFC 5681 section 4.2: without SACK every early segment shows as an ACK of its own.
// behaviour: RCV-49, RCV-55
#[test]
fn without_sack_each_early_segment_draws_its_own_duplicate_ack() {
    let mut bench = Bench::established(false);
    for seq in [1_000, 2_000, 3_000] {
        bench.receive(data(seq, 1_000));
    }
    let sent = bench.sent();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|seg| seg.ack == 0 && seg.sack.is_empty()));
    let same = |seg: &Seg| seg.window == sent[0].window;
    assert!(
        sent.iter().all(same),
        "a window that grows hides a duplicate"
    );
    bench.finish();
}

// DESIGN.md decision 4: the receive queue of one becomes the send queue of the other, byte for
// byte, by reference.
// behaviour: A4-5, SKB-10, SND-32, SND-53
#[test]
fn a_splice_moves_chunks_and_copies_nothing() {
    for chained in [true, false] {
        let mut from = Bench::established(true);
        // Not the tail first, but the head.
        from.world.tunables.tcp_early_retrans = 0;
        let mut to = Bench::established(true);
        for step in 0..8 {
            from.receive(data(step * 1_000, 1_000));
        }
        from.receive(data(8_000, 123).fin());
        let mut env = from.world.env(from.now);
        let spliced = from.connection.splice_into(&mut to.connection, &mut env);
        assert_eq!(
            (spliced.bytes, spliced.end_of_stream, spliced.blocked),
            (8_123, true, false)
        );
        to.path.offloads = if chained {
            chains()
        } else {
            Offloads::default()
        };
        let mut stream = Vec::new();
        let mut in_the_device = Vec::new();
        while let Some(frame) = to
            .connection
            .poll_transmit(&mut from.world.env(from.now), &to.path.clone())
        {
            let segment = crate::tcp::testing::parse(HeapBuf::from_frame(&frame.to_vec()));
            stream.extend(segment.payload.expect("payload").to_vec());
            assert_eq!(
                frame.segments().count(),
                1,
                "headers in the payload's own headroom"
            );
            in_the_device.push(frame);
        }
        let expected: Vec<u8> = (0..8_123).map(pattern).collect();
        assert_eq!(stream, expected);
        assert_eq!(from.world.stats.payload_copied_bytes, 0);
        assert_eq!(from.world.stats.payload_spliced_bytes, 8_123);
        // A timeout while the device still holds the buffers: a view behind a new header, or (no
        // chains) a copy.
        let at = to.connection.next_deadline();
        to.connection.on_timer(&mut from.world.env(at));
        let again = to
            .connection
            .poll_transmit(&mut from.world.env(at), &to.path.clone());
        let again = again.expect("retransmission");
        assert_eq!(again.segments().count(), if chained { 2 } else { 1 });
        let copied = from.world.stats.payload_copied_bytes;
        assert_eq!(copied, if chained { 0 } else { 1_000 });
        let segment = crate::tcp::testing::parse(HeapBuf::from_frame(&again.to_vec()));
        assert_eq!(
            segment.payload.expect("payload").to_vec(),
            expected[..1_000]
        );
        drop((in_the_device, again));
        to.connection.release(&mut from.world.chunks);
        from.finish();
        to.finish();
    }
}

// Two legs with different segment sizes: what is left over of one segment travels with the next.
#[test]
fn the_rests_of_larger_segments_are_gathered_into_full_ones() {
    let mut from = Bench::established(true);
    let mut to = Bench::established(true);
    for step in 0..6 {
        from.receive(data(step * 1_200, 1_200));
    }
    let mut env = from.world.env(from.now);
    from.connection.splice_into(&mut to.connection, &mut env);
    let mut sizes = Vec::new();
    while let Some(frame) = to
        .connection
        .poll_transmit(&mut from.world.env(from.now), &to.path.clone())
    {
        sizes.push(frame.frame_len() - 54);
    }
    assert_eq!(sizes, [1_000, 1_000, 1_000, 600, 1_000, 1_000, 1_000, 600]);
    assert_eq!(from.world.stats.payload_copied_bytes, 0);
    to.connection.release(&mut from.world.chunks);
    from.finish();
    to.finish();
}

// behaviour: A3-13, SND-8
#[test]
fn a_full_send_buffer_blocks_the_splice_and_tells_when_there_is_room() {
    let tunables = TcpTunables {
        tcp_wmem: [20_000, 20_000],
        ..TcpTunables::default()
    };
    let mut from = Bench::established(true);
    let options = ConnectionOptions::default();
    let mut to = Bench::established_with(true, tunables, options, None);
    for step in 0..40 {
        from.receive(data(step * 1_000, 1_000));
    }
    let (now, small) = (from.now, tunables);
    let mut env = from.world.env(now);
    env.tunables = &small;
    let spliced = from.connection.splice_into(&mut to.connection, &mut env);
    assert_eq!(
        (spliced.bytes, spliced.blocked, spliced.end_of_stream),
        (20_000, true, false)
    );
    let path = to.path;
    while to.connection.poll_transmit(&mut env, &path).is_some() {}
    assert!(!to.connection.take_ready().contains(Ready::WRITABLE));
    for acked in [3_000u32, 8_000] {
        let segment = crate::tcp::segment::Segment {
            seq: to.irs.plus(1),
            ack: to.iss.plus(1 + acked),
            flags: TcpFlags::ACK,
            window: 60_000,
            traffic_class: 0,
            options: Default::default(),
            payload: None,
            payload_len: 0,
        };
        to.connection.handle_segment(&mut env, segment);
        let writable = to.connection.take_ready().contains(Ready::WRITABLE);
        assert_eq!(writable, acked == 8_000, "a third of the buffer is free");
    }
    to.connection.release(env.chunks);
    from.finish();
    to.finish();
}

// One frame of many segments for a device that cuts it; every chunk in it is one segment.
// behaviour: SND-45, NIC-23, A4-22
#[test]
fn a_device_that_cuts_gets_frames_of_many_segments() {
    let mut from = Bench::established(true);
    let mut to = Bench::established(true);
    for step in 0..9 {
        from.receive(data(step * 1_000, 1_000));
    }
    from.receive(data(9_000, 300));
    let mut env = from.world.env(from.now);
    from.connection.splice_into(&mut to.connection, &mut env);
    let mut path = to.path;
    path.offloads = Offloads {
        tso: true,
        tso_bytes_max: 6_500,
        ..chains()
    };
    let mut shapes = Vec::new();
    while let Some(frame) = to.connection.poll_transmit(&mut env, &path) {
        shapes.push((
            frame.frame_len() - 54,
            frame.segments().count(),
            frame.offload.segment_bytes,
        ));
        // The device leaves it to the last segment of each.
        let is_pushed = parse(HeapBuf::from_frame(&frame.to_vec()))
            .flags
            .contains(TcpFlags::PSH);
        assert!(is_pushed, "behaviour: A4-7");
    }
    assert_eq!(shapes, [(6_000, 7, 1_000), (3_300, 5, 1_000)]);
    assert_eq!(env.stats.tcp_orig_data_sent, 10);
    assert_eq!(env.stats.tcp_out_segs, 10, "segments, not frames");
    assert_eq!(env.stats.payload_copied_bytes, 0);
    to.connection.release(env.chunks);
    from.finish();
    to.finish();
}

// Linux: tcp_tso_autosize. A frame of 64 KiB is no burst of a connection that is held to a rate.
#[test]
fn a_frame_that_a_device_cuts_is_one_burst_of_a_paced_connection() {
    let mut from = Bench::established(true);
    let mut to = Bench::established(true);
    for step in 0..9 {
        from.receive(data(step * 1_000, 1_000));
    }
    from.receive(data(9_000, 300));
    let mut env = from.world.env(from.now);
    to.connection.set_pacing_rate_max(3_000_000, env.chunks);
    from.connection.splice_into(&mut to.connection, &mut env);
    let mut path = to.path;
    path.offloads = Offloads {
        tso: true,
        tso_bytes_max: 65_000,
        ..chains()
    };
    let mut bytes = Vec::new();
    while let Some(frame) = to.connection.poll_transmit(&mut env, &path) {
        bytes.push(frame.frame_len() - 54);
    }
    // The first ten segments leave at once, but not in larger frames.
    assert_eq!(bytes, [2_000, 2_000, 2_000, 2_000, 1_300]);
    to.connection.release(env.chunks);
    from.finish();
    to.finish();
}

// Exhaustion is a normal value: nothing is lost for ever, nothing panics.
// behaviour: ACK-2
#[test]
fn without_free_chunks_or_buffers_data_waits() {
    let mut bench = Bench::established(true);
    bench.world.chunks = crate::tcp::chunk::Chunks::new(2);
    for step in 0..4 {
        bench.receive(data(step * 200, 200));
    }
    assert_eq!(bench.info().unread_bytes, 400);
    assert_eq!(bench.sent().last().map(|seg| seg.ack), Some(400));
    assert_eq!(bench.read(), data(0, 400).payload);
    bench.receive(data(400, 200));
    assert_eq!(bench.read(), data(400, 200).payload);
    bench.sent();
    let empty = millrace_base::HeapPool::new(0, 2_176);
    let pool = core::mem::replace(&mut bench.world.pool, empty);
    bench.receive(ack(0).seq(600).fin());
    assert_eq!(bench.sent(), [], "no buffer for the ACK");
    assert!(!bench.connection.wants_output(&bench.world.chunks));
    bench.world.pool = pool;
    bench.advance(200);
    assert_eq!(bench.sent()[0].ack, 601);
    bench.finish();
}

// RFC 5681 section 4.1; Linux: tcp_slow_start_after_idle.
#[test]
fn after_idleness_the_window_starts_small_again() {
    let mut bench = Bench::established(true);
    for _ in 0..4 {
        bench.write(60_000);
        let end = bench
            .sent()
            .last()
            .map(|seg| seg.seq + seg.len())
            .expect("data");
        bench.receive(ack(end));
    }
    let end = loop {
        match bench.sent().last().map(|seg| seg.seq + seg.len()) {
            Some(end) => bench.receive(ack(end)),
            None => break bench.info().bytes_acked,
        };
    };
    assert!(bench.info().cwnd_bytes > 40_000, "after {end}");
    bench.advance(60_000);
    bench.write(60_000);
    assert_eq!(bench.sent().len(), 10);
    bench.finish();
}
