//! The receive window: what we have promised, what we promise next, and how it grows.
//!
//! The promise is a right edge; it never moves left (RFC 9293 section 3.8.6, SHLD-14) unless
//! `tcp_shrink_window` allows it, and it is told anew only when that is worth a segment (section
//! 3.8.6.2.2, MUST-39). What is promised is Linux's choice (`__tcp_select_window`): everything free
//! once there is scaling, whole segments without; nothing below a segment or a sixteenth of the
//! buffer. Growth follows Linux's dynamic right-sizing: twice what the application took in the last
//! round trip. Where Linux measures the round trip of the *receiver*, this takes the sender's estimate
//! of the same connection, which a balancer always has; and where Linux opens a fresh window segment
//! by segment (`rcv_ssthresh`), because small segments waste memory, this counts the buffers
//! themselves (`recv_buffer.rs`).

use millrace_base::{Instant, SeqNumber};

use super::config::TcpTunables;

/// The receive half of the sequence space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    /// RCV.NXT.
    pub(crate) nxt: SeqNumber,
    /// RCV.NXT at the last ACK sent (Last.ACK.sent; Linux: `rcv_wup`).
    pub(crate) acked: SeqNumber,
    /// The right edge promised: RCV.NXT + RCV.WND.
    edge: SeqNumber,
    /// Bytes that may wait for the application.
    limit: u32,
    /// Bytes the application took since `measured_at`, and in the round trip before.
    taken: u32,
    taken_before: u32,
    /// In microseconds; wraps after 71 minutes, so that once in so long a measurement takes two
    /// round trips.
    measured_at: u32,
    /// What we shift by; 0 unless both SYNs carried the option.
    pub(crate) scale: u8,
    /// The last window field sent was 0.
    zero: bool,
    /// Memory is short: promise no more than a few segments.
    pub(crate) pressed: bool,
}

/// Segments that may wait for the application while memory is short (Linux: `rcv_ssthresh` of
/// `4 * advmss`).
const PRESSED_SEGMENTS: u32 = 4;

/// What the next segment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Advertised {
    /// The window field.
    pub(crate) field: u16,
    /// The window has just become 0.
    pub(crate) closed: bool,
    /// The window was 0 and is not any more.
    pub(crate) opened: bool,
    /// 0 was wanted, but would have taken back a promise.
    pub(crate) wanted_zero: bool,
}

impl ReceiveWindow {
    /// The window before the peer's SYN is known. `offered` is what our own SYN or SYN-ACK says.
    pub(crate) fn new(tunables: &TcpTunables, now: Instant) -> Self {
        let limit = tunables.receive_window_initial();
        Self {
            nxt: SeqNumber::new(0),
            acked: SeqNumber::new(0),
            edge: SeqNumber::new(0),
            limit,
            taken: 0,
            // Linux starts from the initial congestion window of the peer: 10 segments.
            taken_before: limit.min(14_600),
            measured_at: micros(now),
            scale: 0,
            zero: false,
            pressed: false,
        }
    }

    /// The peer's SYN had this sequence number and we have offered `offered` bytes from there.
    pub(crate) fn open(&mut self, irs: SeqNumber, offered: u32, scale: u8) {
        self.nxt = irs.plus(1);
        self.acked = self.nxt;
        self.edge = self.nxt.plus(offered);
        self.scale = scale;
        if scale == 0 {
            // RFC 7323 section 2.2: without the option the field is all there is.
            self.limit = self.limit.min(0xffff);
        }
    }

    /// RCV.NXT was `acked` when the window of so many bytes was told last, which never reaches less
    /// far than what was received.
    pub(crate) fn reopen(&mut self, acked: SeqNumber, bytes: u32) {
        self.acked = acked;
        self.edge = acked.plus(bytes).latest(self.nxt);
    }

    /// So many bytes more were received, promised or not.
    pub(crate) fn pass(&mut self, bytes: u32) {
        self.nxt = self.nxt.plus(bytes);
        self.acked = self.nxt;
        self.edge = self.edge.latest(self.nxt);
    }

    /// RCV.WND: bytes from RCV.NXT to the promised edge.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.edge.bytes_since(self.nxt)
    }

    /// The window field that says what is promised.
    pub(crate) fn promised_field(&self) -> u16 {
        let field = self.size().checked_shr(self.scale.into()).unwrap_or(0);
        field.min(0xffff) as u16
    }

    /// Everything up to RCV.NXT was taken, even if it lies beyond the promised edge.
    #[inline]
    pub(crate) fn cover(&mut self) {
        self.edge = self.edge.latest(self.nxt);
    }

    /// Another limit, by the application's choice: what is promised stays promised.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// The promised right edge.
    #[inline]
    pub(crate) fn edge(&self) -> SeqNumber {
        self.edge
    }

    /// Bytes that may wait for the application.
    #[cfg(test)]
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// What Linux would select (`__tcp_select_window`) with `unread` bytes waiting for the
    /// application; `mss` is what a full segment of the peer is. May be less than is promised.
    ///
    /// Cost: a few instructions; this runs for every ACK.
    #[inline]
    pub(crate) fn wanted(&self, unread: u32, mss: u32) -> u32 {
        let full = if self.pressed {
            self.limit.min(mss.saturating_mul(PRESSED_SEGMENTS))
        } else {
            self.limit
        };
        let mss = mss.min(full);
        let mut free = full.saturating_sub(unread);
        if free < full / 2 {
            // Close early, so that it opens by something worth sending.
            free = self.round_down(free);
            if free < full / 16 || free < mss {
                return 0;
            }
        }
        if self.scale != 0 {
            // A small window shall not be scaled away.
            return self.round_up(free);
        }
        let offered = self.edge.bytes_since(self.acked);
        if offered <= free.saturating_sub(mss) || offered > free {
            let rest = free.checked_rem(mss).unwrap_or(0);
            free.saturating_sub(rest)
        } else if mss == full && free > offered.saturating_add(full / 2) {
            free
        } else {
            offered
        }
    }

    /// A segment with an ACK leaves: fixes the promise (Linux: `tcp_select_window`).
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6
    //# a TCP receiver SHOULD NOT shrink the window
    #[inline(always)] // One caller; otherwise what it tells is packed and unpacked.
    pub(crate) fn advertise(
        &mut self,
        unread: u32,
        mss: u32,
        tunables: &TcpTunables,
    ) -> Advertised {
        let promised = self.size();
        let mut wanted = self.wanted(unread, mss);
        let mut wanted_zero = false;
        if wanted < promised {
            if tunables.tcp_shrink_window && self.scale != 0 {
                wanted = self.shrunk(wanted, mss);
                self.edge = self.nxt;
            } else {
                wanted_zero = wanted == 0;
                // A kept promise is rounded up to the unit (behaviour: A5-2).
                wanted = self.round_up(promised);
            }
        }
        // A scale is 14 at most.
        let scale = u32::from(self.scale);
        let field = wanted
            .wrapping_shr(scale)
            .min(tunables.window_field_max(self.scale));
        let offered = field.wrapping_shl(scale);
        self.edge = self.edge.latest(self.nxt.plus(offered));
        self.acked = self.nxt;
        let was_zero = core::mem::replace(&mut self.zero, field == 0);
        Advertised {
            field: field as u16,
            closed: field == 0 && !was_zero,
            opened: field != 0 && was_zero,
            wanted_zero,
        }
    }

    /// A window that may be taken back is a whole number of units, and nothing when it is not worth
    /// a segment or a unit.
    fn shrunk(&self, wanted: u32, mss: u32) -> u32 {
        let wanted = self.round_down(wanted);
        if wanted < mss { 0 } else { wanted }
    }

    /// The application took `bytes`. `true` when the window should be told at once (Linux:
    /// `tcp_cleanup_rbuf`): it has at least doubled, and was below half of what it can be.
    pub(crate) fn on_taken(&mut self, bytes: u32, unread: u32, mss: u32) -> bool {
        self.taken = self.taken.saturating_add(bytes);
        let promised = self.size();
        if promised.saturating_mul(2) > self.limit {
            return false;
        }
        let wanted = self.wanted(unread, mss);
        wanted != 0 && wanted >= promised.saturating_mul(2).max(1)
    }

    /// Grows the limit when the application kept up for one round trip (Linux:
    /// `tcp_rcv_space_adjust`), to `limit_max` at most; without scaling the field is the limit.
    #[inline]
    pub(crate) fn adjust(&mut self, now: Instant, rtt_micros: u32, mss: u32, limit_max: u32) {
        let limit_max = if self.scale == 0 {
            limit_max.min(0xffff)
        } else {
            limit_max
        };
        let elapsed = micros(now).wrapping_sub(self.measured_at);
        if elapsed < rtt_micros || rtt_micros == 0 {
            return;
        }
        if self.taken > self.taken_before {
            let slack = mss.saturating_mul(16);
            let wanted = self.taken.saturating_mul(2).saturating_add(slack);
            // Slow start doubles each round trip: leave room for the next one as well.
            let grown = self.taken.saturating_sub(self.taken_before);
            let wanted = wanted.saturating_add(grown.saturating_mul(2));
            self.limit = self.limit.max(wanted.min(limit_max));
            self.taken_before = self.taken;
        }
        self.taken = 0;
        self.measured_at = micros(now);
    }

    #[inline]
    fn round_down(&self, bytes: u32) -> u32 {
        bytes & !self.mask()
    }

    #[inline]
    fn round_up(&self, bytes: u32) -> u32 {
        bytes.saturating_add(self.mask()) & !self.mask()
    }

    /// The bits that the shift loses.
    #[inline]
    fn mask(&self) -> u32 {
        1u32.wrapping_shl(self.scale.into()).wrapping_sub(1)
    }
}

/// The clock of `measured_at`.
const fn micros(now: Instant) -> u32 {
    now.as_micros() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_448;
    static TUNABLES: std::sync::LazyLock<TcpTunables> =
        std::sync::LazyLock::new(TcpTunables::default);

    fn window(scale: u8) -> ReceiveWindow {
        let mut window = ReceiveWindow::new(&TcpTunables::default(), Instant::ZERO);
        window.open(SeqNumber::new(u32::MAX - 10), 65_535, scale);
        window
    }

    // SHLD-14: the right edge never moves left, whatever waits for the application.
    // behaviour: A5-2, A5-3
    #[test]
    fn the_window_never_shrinks() {
        let mut window = window(7);
        let edge = window.edge();
        let told = window.advertise(65_536, MSS, &TUNABLES);
        assert!(window.edge().after_or_eq(edge));
        assert!(told.wanted_zero && !told.closed);
        window.nxt = window.nxt.plus(65_000);
        let told = window.advertise(65_536, MSS, &TUNABLES);
        assert_eq!(
            told.field, 5,
            "535 bytes are promised: five units hold them"
        );
    }

    // MUST-39: no silly windows.
    // behaviour: A5-6, RDV-20
    #[test]
    fn a_full_buffer_closes_the_window_and_opens_it_by_a_segment() {
        let mut window = window(7);
        window.nxt = window.edge();
        let told = window.advertise(65_536, MSS, &TUNABLES);
        assert_eq!((told.field, told.closed), (0, true));
        assert!(
            !window.on_taken(1_000, 64_536, MSS),
            "less than a sixteenth of the buffer"
        );
        assert_eq!(window.advertise(64_536, MSS, &TUNABLES).field, 0);
        assert!(window.on_taken(20_000, 44_536, MSS));
        let told = window.advertise(44_536, MSS, &TUNABLES);
        assert_eq!((u32::from(told.field) << 7, told.opened), (20_992, true));
    }

    // Linux: tcp_rcv_space_adjust.
    // behaviour: A11-19, RDV-17
    #[test]
    fn the_limit_follows_what_the_application_takes_per_round_trip() {
        const MAX: u32 = 3_145_728;
        let mut window = window(7);
        let mut now = Instant::ZERO;
        for round in 1u64..20 {
            let taken = window.limit();
            window.on_taken(taken, 0, MSS);
            now = Instant::from_millis(round * 10);
            window.adjust(now, 10_000, MSS, MAX);
        }
        assert_eq!(window.limit(), 3_145_728);
        let before = window.limit();
        window.on_taken(10, 0, MSS);
        window.adjust(
            now.after(millrace_base::Nanos::from_millis(10)),
            10_000,
            MSS,
            MAX,
        );
        assert_eq!(window.limit(), before, "it never shrinks");
    }

    // Linux: __tcp_select_window under tcp_under_memory_pressure. A promise is kept, a new one is
    // small, and a reader that keeps up is never locked out.
    // behaviour: A5-12, CCW-12
    #[test]
    fn while_memory_is_short_only_a_few_segments_are_promised() {
        let mut window = window(7);
        let edge = window.edge();
        window.pressed = true;
        window.advertise(0, MSS, &TUNABLES);
        assert!(window.edge().after_or_eq(edge));
        window.nxt = window.edge();
        assert_eq!(window.advertise(60_000, MSS, &TUNABLES).field, 0);
        assert!(window.on_taken(60_000, 0, MSS));
        let told = window.advertise(0, MSS, &TUNABLES);
        assert_eq!((u32::from(told.field) << 7, told.opened), (5_888, true));
        window.pressed = false;
        assert_eq!(
            u32::from(window.advertise(0, MSS, &TUNABLES).field) << 7,
            65_536
        );
    }

    // RFC 7323 section 2.2.
    // behaviour: A5-4
    #[test]
    fn without_scaling_the_window_stays_below_64_kib() {
        let mut window = window(0);
        assert_eq!(window.advertise(0, MSS, &TUNABLES).field, 65_535);
        assert!(window.limit() <= 65_535);
    }
}
