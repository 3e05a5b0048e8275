//! How the receive window grows: the memory of a connection, what it is worth in window, and the
//! threshold that data have earned.
//!
//! * *Memory* (Linux: `sk_rcvbuf`) grows with what the application takes in a round trip
//!   (`tcp_rcv_space_adjust`, dynamic right-sizing), and when what came needs more than there is
//!   (`tcp_clamp_window`). Where Linux measures the round trip of the *receiver*, this takes the
//!   sender's estimate of the same connection; while there is none (a repeated SYN-ACK, a cookie), a
//!   window's worth of data, as Linux does without timestamps.
//! * Its *worth* (`scaling_ratio`) is one half until the first full segment tells how well the peer
//!   fills buffers (`tcp_measure_rcv_mss`).
//! * The *threshold* (`rcv_ssthresh`) opens what the SYN did not offer, two segments for each one that
//!   fills its buffer (`tcp_grow_window`), and falls to four while memory is short.
//!
//! What is promised of it all is `window.rs`.

use millrace_base::Instant;

use super::config::TcpTunables;
use super::recv_buffer::memory_of;
use super::window::{OPENING, PRESSED_SEGMENTS, ReceiveWindow, UPPER, micros};

/// How many 256ths of memory are window before a segment has come (Linux:
/// `TCP_DEFAULT_SCALING_RATIO`).
pub(super) const RATIO_FIRST: u32 = 128;

/// The largest 24 bits: as a threshold, any window.
pub(super) const THRESHOLD_MAX: u32 = u32::MAX >> UPPER;

/// Shorter segments earn nothing.
const EARNING_BYTES_MIN: u32 = 128;

/// The segments a peer begins with (Linux: `TCP_INIT_CWND`).
const FIRST_SEGMENTS: u32 = 10;

/// Half of the smallest memory (Linux: `SOCK_MIN_RCVBUF`).
const CLAMP_MIN: u32 = 1_152;

/// Payload of a full segment in bytes: what we announce, without the options that every segment has,
/// and what the peer sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct FullSegment {
    pub(super) announced: u32,
    pub(super) seen: u32,
}

impl ReceiveWindow {
    /// The handshake is done. behaviour: CCW-5
    ///
    /// Linux: `tcp_init_buffer_space`. One segment is kept back, of which the reader may be late.
    pub(super) fn begin(&mut self, announced: u32, now: Instant, tunables: &TcpTunables) {
        let full = self.worth(self.memory);
        let most = 0xffff_u32.wrapping_shl(self.scale().into());
        let mut clamp = self.clamp(tunables).min(most);
        let least = announced.saturating_mul(2);
        if clamp > least && clamp.saturating_add(announced) > full {
            clamp = full.saturating_sub(announced).max(least);
        }
        let threshold = self.threshold().min(clamp);
        self.set_threshold(threshold);
        if threshold < clamp {
            self.threshold_and_flags |= OPENING;
        }
        let offered = self.edge.bytes_since(self.acked);
        let first = announced.saturating_mul(FIRST_SEGMENTS);
        self.set_space(threshold.min(offered).min(first));
        self.taken = 0;
        self.measured_at = micros(now);
    }

    /// The peer fills buffers better than was known: the first, or a larger full segment, of
    /// `payload_len` bytes. Linux: `tcp_measure_rcv_mss`, `tcp_set_window_clamp`.
    #[cold]
    pub(super) fn weigh(&mut self, payload_len: u32, tunables: &TcpTunables) {
        let ratio = (payload_len << UPPER)
            .checked_div(memory_of(payload_len, 1))
            .unwrap_or(RATIO_FIRST)
            .clamp(1, 0xff);
        let clamp_before = self.clamp(tunables);
        self.space_and_ratio = self.space_and_ratio & !0xff | ratio;
        let clamp = self.clamp(tunables);
        if clamp == clamp_before {
            return;
        }
        if clamp < clamp_before {
            self.lower_threshold(clamp);
        } else {
            let offered = self.edge.bytes_since(self.acked);
            self.set_threshold(self.threshold().max(offered.min(clamp)));
        }
        self.set_space(self.space().min(clamp));
        self.threshold_and_flags |= OPENING;
    }

    /// `len` bytes of data came while the threshold can grow, and `used` bytes of the memory are taken with them.
    /// Tells whether it has grown. Linux: `tcp_grow_window`.
    #[cold]
    pub(super) fn grow(
        &mut self,
        len: u32,
        used: u32,
        full: FullSegment,
        tunables: &TcpTunables,
    ) -> bool {
        let (clamp, threshold) = (self.clamp(tunables), self.threshold());
        if threshold >= clamp {
            self.threshold_and_flags &= !OPENING;
            return false;
        }
        if self.is_pressed() {
            self.lower_threshold(full.announced.saturating_mul(PRESSED_SEGMENTS));
            return false;
        }
        let free = self.worth(self.memory.saturating_sub(used));
        let room = clamp.min(free).saturating_sub(threshold);
        if room == 0 || len < EARNING_BYTES_MIN {
            return false;
        }
        let cost = self.worth(memory_of(len, 1));
        let step = if cost <= len {
            full.announced
        } else if self.affords(cost, len, tunables) {
            full.seen
        } else {
            return false;
        };
        let step = step.max(len).saturating_mul(2);
        self.set_threshold(threshold.saturating_add(step.min(room)));
        true
    }

    /// Whether a buffer that is badly filled may raise a threshold that is far below the largest
    /// memory (Linux: `__tcp_grow_window`).
    fn affords(&self, cost: u32, len: u32, tunables: &TcpTunables) -> bool {
        let [_, largest] = tunables.tcp_rmem;
        let (mut cost, mut window) = (cost / 2, self.worth(largest) / 2);
        // Both are halved: at most as often as a window has bits.
        for _ in 0..u32::BITS {
            if self.threshold() > window {
                return false;
            }
            if cost <= len {
                return true;
            }
            (cost, window) = (cost / 2, window / 2);
        }
        false
    }

    /// What has come needs more memory than there is: it grows to what is `used`, where the
    /// application did not choose its size, and else the threshold falls to two segments. Linux:
    /// `tcp_clamp_window`.
    #[cold]
    pub(super) fn make_room(&mut self, used: u32, announced: u32, tunables: &TcpTunables) {
        let largest = tunables.receive_memory_most();
        if self.memory < largest && !self.is_pressed() {
            self.memory = used.min(largest).max(self.memory);
            self.threshold_and_flags |= OPENING;
        }
        if used > self.memory {
            self.lower_threshold(announced.saturating_mul(2));
        }
    }

    /// Whether a round trip was measured, so that `adjust` has something to say.
    #[inline]
    pub(crate) fn is_measured(&self, now: Instant, rtt_micros: u32) -> bool {
        let elapsed = micros(now).wrapping_sub(self.measured_at);
        elapsed >= rtt_micros && (rtt_micros != 0 || self.has_taken_a_window())
    }

    /// Grows the memory when the application kept up for one round trip, which has passed (Linux:
    /// `tcp_rcv_space_adjust`), to `memory_max` at most.
    ///
    /// `early` is how far what came out of turn reaches. Since 6.16 Linux takes off what waits unread;
    /// a program that reads a burst in small pieces would be measured at the first of them, and seem
    /// slow.
    pub(crate) fn adjust(&mut self, now: Instant, early: u32, memory_max: u32) {
        let taken = core::mem::take(&mut self.taken);
        self.measured_at = micros(now);
        let space = self.space();
        if taken <= space {
            return;
        }
        self.set_space(taken);
        // This is known a round trip late, and in slow start the peer has doubled its rate since, and
        // will once more (Linux: `tcp_rcvbuf_grow`).
        let twice = u64::from(taken).saturating_mul(2);
        let grown = u64::from(taken.saturating_sub(space)).saturating_mul(twice);
        let more = grown.checked_div(space.into()).unwrap_or(0);
        let window = twice.saturating_add(more.saturating_mul(2));
        let window = window.saturating_add(early.into());
        self.provide(window.min(u32::MAX.into()) as u32, memory_max);
    }

    /// Data out of turn reach `early` bytes beyond what is missing, and stay until it comes: they do not
    /// narrow the window of what follows them (Linux: `tcp_rcvbuf_grow` in `tcp_data_queue_ofo`).
    pub(super) fn provide_for_early(&mut self, early: u32, memory_max: u32) {
        let window = self.space().saturating_mul(2).saturating_add(early);
        self.provide(window, memory_max);
    }

    fn provide(&mut self, window: u32, memory_max: u32) {
        let memory = self.cost_of(window).min(memory_max);
        if memory > self.memory {
            self.memory = memory;
            self.threshold_and_flags |= OPENING;
        }
    }

    /// Whether so much was taken as was promised last: no less than a round trip went by, where
    /// nothing else tells of one (Linux: `tcp_rcv_rtt_measure`).
    #[cold]
    fn has_taken_a_window(&self) -> bool {
        self.taken >= self.edge.bytes_since(self.acked)
    }

    /// Whether data raise the threshold.
    #[inline]
    pub(super) fn is_opening(&self) -> bool {
        self.threshold_and_flags & OPENING != 0
    }

    /// The window that so many bytes of memory are worth (Linux: `tcp_win_from_space`).
    #[inline]
    pub(super) fn worth(&self, memory: u32) -> u32 {
        let ratio = u64::from(self.space_and_ratio & 0xff);
        (u64::from(memory).wrapping_mul(ratio) >> UPPER) as u32
    }

    /// The memory that is worth such a window (Linux: `tcp_space_from_win`).
    fn cost_of(&self, window: u32) -> u32 {
        let ratio = u64::from(self.space_and_ratio & 0xff);
        let memory = (u64::from(window) << UPPER).checked_div(ratio);
        memory.unwrap_or(0).min(u64::from(u32::MAX)) as u32
    }

    /// The largest window there can be now (Linux: `window_clamp`).
    fn clamp(&self, tunables: &TcpTunables) -> u32 {
        let chosen = tunables.special.window_clamp;
        self.worth(self.memory).min(chosen).max(CLAMP_MIN)
    }

    /// No more than this is promised; `u32::MAX` is any.
    #[inline]
    pub(crate) fn threshold(&self) -> u32 {
        let threshold = self.threshold_and_flags >> UPPER;
        if threshold == THRESHOLD_MAX {
            u32::MAX
        } else {
            threshold
        }
    }

    pub(super) fn set_threshold(&mut self, bytes: u32) {
        let flags = self.threshold_and_flags & !(THRESHOLD_MAX << UPPER);
        self.threshold_and_flags = bytes.min(THRESHOLD_MAX) << UPPER | flags;
    }

    pub(super) fn lower_threshold(&mut self, bytes: u32) {
        self.set_threshold(self.threshold().min(bytes));
        self.threshold_and_flags |= OPENING;
    }

    /// The most that the application took in one round trip, in bytes.
    #[inline]
    pub(crate) fn space(&self) -> u32 {
        self.space_and_ratio >> UPPER
    }

    fn set_space(&mut self, bytes: u32) {
        let ratio = self.space_and_ratio & 0xff;
        self.space_and_ratio = bytes.min(THRESHOLD_MAX) << UPPER | ratio;
    }
}
