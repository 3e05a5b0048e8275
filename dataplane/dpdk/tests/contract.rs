//! The packet-buffer contract, once, for both who promise it: mbufs and the heap buffers that tests
//! use in their place.
//!
//! What holds for one and not for the other would be a bug that no test of the stack can see.

mod support;

use millrace_base::{HEADROOM_BYTES_DEFAULT, HeapPool, PacketBuf, PacketPool, RxMeta, TxOffload};
use support::mbuf_pool;

/// Enough for the longest chain, and one more to put behind it.
const BUFFERS: usize = 511;

/// Calls a generic claim for both kinds of pool, and then wants every buffer back.
macro_rules! both {
    ($($name:ident)*) => {
        $(
            // behaviour: SKB-4, SKB-10
            #[test]
            fn $name() {
                let mut heap = HeapPool::new(BUFFERS, 2_176);
                claims::$name(&mut heap);
                assert_eq!(heap.live(), 0, "heap buffers leaked");

                let mut mbufs = mbuf_pool(BUFFERS as u32, BUFFERS as u32);
                claims::$name(&mut mbufs);
                assert_eq!(mbufs.bufs().available(), BUFFERS, "mbufs leaked");
                assert_eq!(mbufs.views().available(), BUFFERS, "views leaked");
            }
        )*
    };
}

both! {
    a_fresh_buffer_is_empty_behind_the_headroom
    a_span_moves_anywhere_in_the_memory_and_nowhere_else
    bytes_survive_a_moving_span
    a_shared_buffer_refuses_every_change_until_the_other_is_gone
    a_view_sees_the_bytes_and_blocks_writing_them
    a_view_outlives_the_buffer_it_was_made_of
    a_view_of_a_view_holds_the_first_buffer
    a_view_beyond_the_memory_is_refused
    a_chain_counts_its_bytes_and_comes_apart_again
    a_chain_of_chains_keeps_its_order
    the_256th_segment_is_refused
    a_shared_chain_shares_every_segment
    a_segment_behind_a_shared_tail_survives
    a_header_before_a_shared_payload_leaves_the_payload_alone
    metadata_of_a_fresh_buffer_is_empty
    an_empty_pool_says_so
}

mod claims {
    use super::*;

    fn filled<P: PacketPool>(pool: &mut P, bytes: &[u8]) -> P::Buf {
        let mut buf = pool.alloc().expect("room");
        assert!(buf.set_span(HEADROOM_BYTES_DEFAULT, bytes.len()));
        buf.bytes_mut().expect("unique").copy_from_slice(bytes);
        buf
    }

    fn text<B: PacketBuf>(buf: &B) -> Vec<u8> {
        let bytes: Vec<u8> = buf.segments().flatten().copied().collect();
        assert_eq!(bytes.len(), buf.frame_len(), "frame_len counts the chain");
        bytes
    }

    fn chain<B: PacketBuf>(head: &mut B, tail: B) {
        assert!(head.append(tail).is_ok(), "unique and below the limit");
    }

    pub(super) fn a_fresh_buffer_is_empty_behind_the_headroom<P: PacketPool>(pool: &mut P) {
        let buf = pool.alloc().expect("room");
        assert_eq!(
            (buf.offset(), buf.bytes().len()),
            (HEADROOM_BYTES_DEFAULT, 0)
        );
        assert_eq!((buf.frame_len(), buf.capacity()), (0, 2_176));
        assert!(buf.is_unique());
    }

    pub(super) fn a_span_moves_anywhere_in_the_memory_and_nowhere_else<P: PacketPool>(
        pool: &mut P,
    ) {
        let mut buf = pool.alloc().expect("room");
        assert!(buf.set_span(0, 2_176) && buf.bytes().len() == 2_176);
        assert!(buf.set_span(2_176, 0) && buf.bytes().is_empty());
        for (offset, len) in [
            (0, 2_177),
            (2_176, 1),
            (2_177, 0),
            (usize::MAX, 1),
            (1, usize::MAX),
            (65_536, 0),
        ] {
            assert!(!buf.set_span(offset, len), "{offset}+{len}");
            assert_eq!((buf.offset(), buf.bytes().len()), (2_176, 0));
        }
    }

    pub(super) fn bytes_survive_a_moving_span<P: PacketPool>(pool: &mut P) {
        let mut buf = filled(pool, b"0123456789");
        assert!(buf.set_span(HEADROOM_BYTES_DEFAULT + 4, 3));
        assert_eq!(buf.bytes(), b"456");
        assert!(buf.set_span(HEADROOM_BYTES_DEFAULT - 2, 6));
        buf.bytes_mut().expect("unique")[..2].copy_from_slice(b"ab");
        assert_eq!(text(&buf), b"ab0123");
    }

    pub(super) fn a_shared_buffer_refuses_every_change_until_the_other_is_gone<P: PacketPool>(
        pool: &mut P,
    ) {
        let mut buf = filled(pool, b"payload");
        let mut other = buf.share().expect("shares");
        for handle in [&mut buf, &mut other] {
            assert!(!handle.is_unique() && handle.bytes_mut().is_none());
            assert!(!handle.set_span(0, 1) && !handle.set_tx_offload(TxOffload::default()));
            assert!(handle.detach_next().is_none());
            let refused = handle.append(filled(pool, b"tail")).expect_err("shared");
            assert_eq!(text(&refused), b"tail");
            assert_eq!(text(handle), b"payload");
        }
        drop(buf);
        assert!(other.is_unique() && other.set_tx_offload(TxOffload::default()));
        other.bytes_mut().expect("alone")[0] = b'P';
        assert_eq!(text(&other), b"Payload");
    }

    pub(super) fn a_view_sees_the_bytes_and_blocks_writing_them<P: PacketPool>(pool: &mut P) {
        let mut buf = filled(pool, b"0123456789");
        let mut view = pool.view(&buf, buf.offset() + 2, 5).expect("fits");
        assert_eq!(
            (text(&view).as_slice(), view.offset()),
            (&b"23456"[..], buf.offset() + 2)
        );
        assert!(!view.is_unique() && view.bytes_mut().is_none() && !view.set_span(0, 0));
        assert!(!buf.is_unique() && buf.bytes_mut().is_none());
        drop(view);
        assert!(buf.is_unique() && buf.bytes_mut().is_some());
    }

    pub(super) fn a_view_outlives_the_buffer_it_was_made_of<P: PacketPool>(pool: &mut P) {
        let buf = filled(pool, b"0123456789");
        let mut view = pool.view(&buf, buf.offset() + 8, 2).expect("fits");
        drop(buf);
        assert_eq!(text(&view), b"89");
        // Alone with the memory now: it may even be rewritten in place.
        assert!(view.is_unique() && view.set_span(view.offset() - 1, 3));
        view.bytes_mut().expect("alone")[0] = b'#';
        assert_eq!(text(&view), b"#89");
    }

    pub(super) fn a_view_of_a_view_holds_the_first_buffer<P: PacketPool>(pool: &mut P) {
        let mut buf = filled(pool, b"0123456789");
        let first = pool.view(&buf, buf.offset(), 4).expect("fits");
        // Offsets count from the start of the memory, so the second may see more than the first.
        let second = pool.view(&first, buf.offset(), 10).expect("fits");
        drop(first);
        assert_eq!(text(&second), b"0123456789");
        assert!(buf.bytes_mut().is_none());
        drop(second);
        assert!(buf.bytes_mut().is_some());
    }

    pub(super) fn a_view_beyond_the_memory_is_refused<P: PacketPool>(pool: &mut P) {
        let mut buf = filled(pool, b"x");
        for (offset, len) in [(0, 2_177), (2_177, 0), (usize::MAX, 2), (2, usize::MAX)] {
            assert!(pool.view(&buf, offset, len).is_none());
        }
        assert!(buf.bytes_mut().is_some(), "a refused view holds nothing");
    }

    pub(super) fn a_chain_counts_its_bytes_and_comes_apart_again<P: PacketPool>(pool: &mut P) {
        let mut head = filled(pool, b"a");
        chain(&mut head, filled(pool, b"bb"));
        chain(&mut head, filled(pool, b"ccc"));
        assert_eq!(text(&head), b"abbccc");
        assert_eq!(
            head.segments().map(<[u8]>::len).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert!(head.set_span(head.offset(), 0));
        assert_eq!(text(&head), b"bbccc");
        let mut tail = head.detach_next().expect("chained");
        assert_eq!(
            (text(&head).as_slice(), text(&tail).as_slice()),
            (&b""[..], &b"bbccc"[..])
        );
        assert!(head.detach_next().is_none());
        let last = tail.detach_next().expect("chained");
        assert_eq!(
            (text(&tail).as_slice(), text(&last).as_slice()),
            (&b"bb"[..], &b"ccc"[..])
        );
    }

    pub(super) fn a_chain_of_chains_keeps_its_order<P: PacketPool>(pool: &mut P) {
        let mut front = filled(pool, b"1");
        chain(&mut front, filled(pool, b"2"));
        let mut back = filled(pool, b"3");
        chain(&mut back, filled(pool, b"4"));
        chain(&mut front, back);
        chain(&mut front, filled(pool, b"5"));
        assert_eq!(text(&front), b"12345");
    }

    pub(super) fn the_256th_segment_is_refused<P: PacketPool>(pool: &mut P) {
        let mut head = filled(pool, b"0");
        for _ in 1..255 {
            chain(&mut head, filled(pool, b"x"));
        }
        assert_eq!((head.segments().count(), head.frame_len()), (255, 255));
        let refused = head.append(filled(pool, b"y")).expect_err("one too many");
        assert_eq!(text(&refused), b"y");
        assert_eq!(head.frame_len(), 255);
    }

    pub(super) fn a_shared_chain_shares_every_segment<P: PacketPool>(pool: &mut P) {
        let mut head = filled(pool, b"head");
        chain(&mut head, filled(pool, b"tail"));
        let shared = head.share().expect("shares");
        assert_eq!(text(&shared), b"headtail");
        drop(head);
        assert_eq!(text(&shared), b"headtail");
        assert!(shared.is_unique());
    }

    pub(super) fn a_segment_behind_a_shared_tail_survives<P: PacketPool>(pool: &mut P) {
        // The send queue holds `queued`; the frame in flight has it behind a header of its own.
        let queued = filled(pool, b"queued");
        let mut frame = filled(pool, b"header ");
        chain(&mut frame, queued.share().expect("shares"));
        assert_eq!(text(&frame), b"header queued");
        // Something more behind it: taken or given back, but the queue's own frame must not change.
        drop(frame.append(filled(pool, b" more")));
        assert_eq!(text(&queued), b"queued");
        drop(frame);
        assert_eq!(text(&queued), b"queued");
        assert!(queued.is_unique());
    }

    pub(super) fn a_header_before_a_shared_payload_leaves_the_payload_alone<P: PacketPool>(
        pool: &mut P,
    ) {
        let payload = filled(pool, b"payload");
        let mut frames = Vec::new();
        for header in [b"h1 ", b"h2 "] {
            let mut frame = filled(pool, header);
            let view = pool.view(&payload, payload.offset(), 7).expect("fits");
            chain(&mut frame, view);
            frames.push(frame);
        }
        assert_eq!(text(&frames[0]), b"h1 payload");
        assert_eq!(text(&frames[1]), b"h2 payload");
        let view = frames[0].detach_next().expect("chained");
        assert_eq!(
            (text(&frames[0]).as_slice(), text(&view).as_slice()),
            (&b"h1 "[..], &b"payload"[..])
        );
        drop((frames, view));
        assert!(payload.is_unique());
    }

    pub(super) fn metadata_of_a_fresh_buffer_is_empty<P: PacketPool>(pool: &mut P) {
        let mut buf = filled(pool, b"x");
        assert_eq!(buf.rx_meta(), RxMeta::default());
        assert!(buf.set_tx_offload(TxOffload {
            tcp_checksum: true,
            ..TxOffload::default()
        }));
        assert_eq!(buf.rx_meta(), RxMeta::default());
        let view = pool.view(&buf, 0, 1).expect("fits");
        assert_eq!(view.rx_meta(), RxMeta::default());
    }

    pub(super) fn an_empty_pool_says_so<P: PacketPool>(pool: &mut P) {
        let mut held = Vec::new();
        while let Some(buf) = pool.alloc() {
            held.push(buf);
        }
        assert_eq!((held.len(), pool.available()), (BUFFERS, 0));
        drop(held.pop());
        assert_eq!(pool.available(), 1);
        assert!(pool.alloc().is_some());
    }
}
