//! Exchanging addresses of a burst: whoever may not be written stays as it is, also among others.

mod support;

use millrace_base::{HEADROOM_BYTES_DEFAULT, PacketBuf, PacketPool};
use millrace_dpdk::{Burst, Mbuf};
use support::mbuf_pool;

/// What a frame of `len` bytes holds: its own offsets.
fn counted(len: usize) -> Vec<u8> {
    (0..len).map(|byte| byte as u8).collect()
}

fn exchanged(len: usize) -> Vec<u8> {
    let mut bytes = counted(len);
    if len >= 12 {
        bytes[..12].rotate_left(6);
    }
    bytes
}

#[test]
fn every_frame_but_shared_viewed_and_short_ones_is_exchanged_and_nothing_behind_it_moves() {
    let mut pool = mbuf_pool(63, 63);
    let mut burst = Burst::new();
    let mut held: Vec<Mbuf> = Vec::new();
    // Every length around the bounds (both addresses, one shuffle), at every place of a group of
    // four, and in the rest behind the groups.
    let lengths = [
        0, 1, 11, 12, 13, 15, 16, 17, 60, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    ];
    for (index, len) in lengths.into_iter().enumerate() {
        let mut frame = pool.alloc().expect("room");
        assert!(frame.set_span(HEADROOM_BYTES_DEFAULT, len));
        frame
            .bytes_mut()
            .expect("unique")
            .copy_from_slice(&counted(len));
        if index == 11 {
            held.push(frame.share().expect("room"));
        }
        if index == 14 {
            held.push(pool.view(&frame, frame.offset(), 12).expect("room"));
            // The other way round: in the burst a view, outside what it looks at.
            let view = pool.view(&frame, frame.offset(), len).expect("room");
            held.push(frame);
            frame = view;
        }
        burst.try_push(frame).expect("room");
    }
    burst.exchange_macs();
    for (index, (frame, len)) in burst.frames().iter().zip(lengths).enumerate() {
        let expected = if [11, 14].contains(&index) {
            counted(len)
        } else {
            exchanged(len)
        };
        assert_eq!(frame.bytes(), expected, "frame {index} of {len} bytes");
    }
    Burst::new().exchange_macs();
}
