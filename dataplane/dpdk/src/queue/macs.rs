//! Exchanging the Ethernet addresses of a whole burst: the cheapest thing that touches every packet.
//!
//! It is here and not with the other rewrites of packets because of what it measures: a forwarder
//! that does nothing else spends a dozen cycles on a packet, and `dpdk-testpmd` does this with one
//! vector shuffle.

use millrace_base::PacketBuf;
use millrace_dpdk_sys as sys;

use crate::mbuf::Mbuf;
use crate::queue::Burst;

/// Bytes of both Ethernet addresses.
const MACS_BYTES: usize = 12;

impl Burst {
    /// Exchanges source and destination address of every frame. A frame that is shared, or that has
    /// not both addresses in its first segment, stays as it is.
    #[inline]
    pub fn exchange_macs(&mut self) {
        if self.is_empty() {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: there is a frame, so EAL has started, and EAL refuses to start on a processor
        // without what DPDK was compiled for: SSE4.2 at least on x86.
        // WHY: the same in safe code needs five accesses to memory for a frame where two do, and
        // that is what this loop is made of: 0.83 of testpmd's packets per second on `net_ring`.
        unsafe {
            vector::exchange(self.frames_mut());
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.frames_mut().iter_mut().for_each(exchange_one);
    }
}

/// The way that is always right.
#[inline]
fn exchange_one(frame: &mut Mbuf) {
    let macs = frame.bytes_mut().and_then(|bytes| bytes.first_chunk_mut());
    if let Some(macs) = macs {
        let [a, b, c, d, e, f, g, h, i, j, k, l]: [u8; MACS_BYTES] = *macs;
        *macs = [g, h, i, j, k, l, a, b, c, d, e, f];
    }
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use core::arch::x86_64::{
        __m128i, _mm_loadu_si128, _mm_set_epi8, _mm_shuffle_epi8, _mm_storeu_si128,
    };
    use core::sync::atomic::Ordering;

    use super::{Mbuf, exchange_one, sys};

    /// Bytes that one shuffle moves; the last four stay in place.
    const SHUFFLE_BYTES: u16 = 16;

    /// Frames judged by one branch. What testpmd does at once, too.
    const FRAMES: usize = 4;

    /// Exchanges the addresses of these frames.
    #[target_feature(enable = "ssse3")]
    pub(super) fn exchange(frames: &mut [Mbuf]) {
        let order = _mm_set_epi8(15, 14, 13, 12, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6);
        let (fours, rest) = frames.as_chunks_mut::<FRAMES>();
        for four in fours {
            // Not `all`: four loads and a branch are quicker than four branches.
            if four.iter().fold(true, |all, frame| all & is_plain(frame)) {
                for frame in four {
                    // SAFETY: the frame is plain.
                    unsafe { shuffle(frame, order) };
                }
            } else {
                core::hint::cold_path();
                four.iter_mut().for_each(exchange_one);
            }
        }
        rest.iter_mut().for_each(exchange_one);
    }

    /// Whether the frame's struct and memory are its own, and a whole shuffle fits.
    #[inline]
    fn is_plain(frame: &Mbuf) -> bool {
        let head = frame.head();
        // Acquire, as wherever a count of one is taken for "nobody else".
        (head.refcnt.load(Ordering::Acquire) == 1)
            & (head.ol_flags & (sys::MR_MBUF_F_INDIRECT | sys::MR_MBUF_F_EXTERNAL) == 0)
            & (head.data_len >= SHUFFLE_BYTES)
    }

    /// Puts the first 16 bytes into another order.
    ///
    /// # Safety
    /// [`is_plain`] holds: nobody else refers to the memory, and 16 bytes of data are there.
    #[inline]
    #[target_feature(enable = "ssse3")]
    unsafe fn shuffle(frame: &mut Mbuf, order: __m128i) {
        let head = frame.head();
        let start = head.buf_addr.cast::<u8>();
        // SAFETY: the data begin `data_off` into the segment's memory.
        let bytes = unsafe { start.add(usize::from(head.data_off)) }.cast::<__m128i>();
        // SAFETY: 16 bytes of data are there, by contract; unaligned loads take any address.
        let macs = unsafe { _mm_loadu_si128(bytes) };
        // SAFETY: as above, and `&mut` of the only handle: nobody reads meanwhile.
        unsafe { _mm_storeu_si128(bytes, _mm_shuffle_epi8(macs, order)) };
    }
}
