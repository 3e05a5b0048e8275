//! The receive window: what we have promised and what we promise next.
//!
//! The promise is a right edge; it never moves left (RFC 9293 section 3.8.6, SHLD-14) unless
//! `tcp_shrink_window` allows it, and it is told anew only when that is worth a segment (section
//! 3.8.6.2.2, MUST-39). What is promised is Linux's choice (`__tcp_select_window`): what the free
//! part of the receive memory holds once there is scaling, whole segments without; nothing below a
//! segment or a sixteenth of the buffer, and no more than the threshold that data have earned
//! (`rcv_ssthresh`). How memory, its worth in window and the threshold grow is `right_size.rs`; what
//! queued data cost of it is `recv_buffer.rs`.

use millrace_base::{Instant, SeqNumber};

use super::config::TcpTunables;
use super::right_size::{RATIO_FIRST, THRESHOLD_MAX};

/// The receive half of the sequence space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    /// RCV.NXT.
    pub(crate) nxt: SeqNumber,
    /// RCV.NXT at the last ACK sent (Last.ACK.sent; Linux: `rcv_wup`).
    pub(crate) acked: SeqNumber,
    /// The right edge promised: RCV.NXT + RCV.WND.
    pub(super) edge: SeqNumber,
    /// Bytes of memory that data may take until the application reads them (Linux: `sk_rcvbuf`).
    pub(super) memory: u32,
    /// Bytes the application took since `measured_at`.
    pub(super) taken: u32,
    /// The most it took in one round trip (Linux: `rcvq_space.space`; 24 bits), and how many 256ths of
    /// memory are window (`scaling_ratio`; the low 8).
    pub(super) space_and_ratio: u32,
    /// In microseconds; wraps after 71 minutes, so that once in so long a measurement takes two
    /// round trips.
    pub(super) measured_at: u32,
    /// No more than this is promised (Linux: `rcv_ssthresh`; 24 bits, all ones is any), and `SCALE` and
    /// the flags below it.
    pub(super) threshold_and_flags: u32,
}

/// What we shift by, 0..=14; 0 unless both SYNs carried the option.
const SCALE: u32 = 0x0f;
/// Memory is short: promise no more than a few segments.
pub(super) const PRESSED: u32 = 0x10;
/// The threshold is below what memory is worth: data raise it.
pub(super) const OPENING: u32 = 0x20;
/// There was no memory for what came: the next ACK takes the promise back (Linux: `ICSK_ACK_NOMEM`).
const REFUSED: u32 = 0x40;
/// The last window field sent was 0.
const ZERO: u32 = 0x80;
/// Where the 24 upper bits of a word begin.
pub(super) const UPPER: u32 = 8;

/// Segments that are promised at most while memory is short (Linux: `tcp_adjust_rcv_ssthresh`).
pub(super) const PRESSED_SEGMENTS: u32 = 4;

/// What the next segment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Advertised {
    /// The window field.
    pub(crate) field: u16,
    /// `CLOSED` and the bits below it: 0 for almost every segment, one test.
    pub(crate) news: u8,
}

impl Advertised {
    /// The window has just become 0.
    pub(crate) const CLOSED: u8 = 1;
    /// The window was 0 and is not any more.
    pub(crate) const OPENED: u8 = 2;
    /// 0 was wanted, but would have taken back a promise.
    pub(crate) const WANTED_ZERO: u8 = 4;
    /// Less than half of the memory is free: ACKs may wait.
    pub(crate) const CROWDED: u8 = 8;

    /// Whether there is such news.
    pub(crate) fn tells(&self, news: u8) -> bool {
        self.news & news != 0
    }
}

impl ReceiveWindow {
    /// The window before the peer's SYN is known.
    pub(crate) fn new(tunables: &TcpTunables, now: Instant) -> Self {
        let memory = tunables.receive_memory_initial();
        Self {
            nxt: SeqNumber::new(0),
            acked: SeqNumber::new(0),
            edge: SeqNumber::new(0),
            memory,
            taken: 0,
            space_and_ratio: RATIO_FIRST,
            measured_at: micros(now),
            threshold_and_flags: THRESHOLD_MAX << UPPER,
        }
    }

    /// Our SYN offers so many bytes from the peer's, or what one before it has offered: that stays
    /// when segments become smaller (Linux: `rcv_wnd` of a SYN that is sent again).
    pub(crate) fn offer(&mut self, bytes: u32) -> u32 {
        let offered = bytes.max(self.size());
        self.edge = self.nxt.plus(offered);
        offered
    }

    /// The peer's SYN had this sequence number and we have offered `offered` bytes from there.
    pub(crate) fn open(&mut self, irs: SeqNumber, offered: u32, scale: u8) {
        self.nxt = irs.plus(1);
        self.acked = self.nxt;
        self.edge = self.nxt.plus(offered);
        self.set_scale(scale);
        self.set_threshold(offered);
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

    /// What we shift by.
    pub(crate) fn set_scale(&mut self, scale: u8) {
        let scale = u32::from(scale) & SCALE;
        self.threshold_and_flags = self.threshold_and_flags & !SCALE | scale;
    }

    /// Everything up to RCV.NXT was taken, even if it lies beyond the promised edge.
    #[inline]
    pub(crate) fn cover(&mut self) {
        self.edge = self.edge.latest(self.nxt);
    }

    /// Another size of the memory, by the application's choice: what is promised stays promised.
    pub(crate) fn set_memory(&mut self, bytes: u32) {
        self.memory = bytes;
        self.threshold_and_flags |= OPENING;
    }

    /// Notes whether memory is short.
    #[inline]
    pub(crate) fn note_memory(&mut self, is_pressed: bool) {
        if is_pressed {
            self.threshold_and_flags |= PRESSED;
        } else {
            self.threshold_and_flags &= !PRESSED;
        }
    }

    /// There was no memory for what came in turn: the next ACK says so.
    pub(crate) fn refuse(&mut self) {
        self.threshold_and_flags |= REFUSED;
    }

    /// What we shift by.
    #[inline]
    pub(crate) fn scale(&self) -> u8 {
        (self.threshold_and_flags & SCALE) as u8
    }

    /// Whether memory is short.
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        self.threshold_and_flags & PRESSED != 0
    }

    /// Whether memory was short when we looked last, or the window is closed.
    #[inline]
    pub(super) fn is_narrow(&self) -> bool {
        self.threshold_and_flags & (PRESSED | ZERO) != 0
    }

    /// RCV.WND: bytes from RCV.NXT to the promised edge.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.edge.bytes_since(self.nxt)
    }

    /// The window field that says what is promised.
    pub(crate) fn promised_field(&self) -> u16 {
        let field = self.size().wrapping_shr(self.scale().into());
        field.min(0xffff) as u16
    }

    /// The promised right edge.
    #[inline]
    pub(crate) fn edge(&self) -> SeqNumber {
        self.edge
    }

    /// Bytes of memory that data may take until the application reads them.
    #[inline]
    pub(crate) fn memory(&self) -> u32 {
        self.memory
    }

    /// What Linux would select (`__tcp_select_window`) while data hold `used` bytes of the memory, where
    /// `mss` is what a full segment of the peer is and `most` what the application allows. May be less
    /// than is promised. Tells as well whether less than half is free.
    ///
    /// Going to 0 before the last segment's room is gone stops the peer in time: what it sends into a
    /// full memory would be dropped, or make the memory grow to its largest.
    ///
    /// Cost: a few instructions; this runs for every ACK.
    #[inline]
    fn select(&self, used: u32, mss: u32, most: u32) -> (u32, bool) {
        let allowed = self.worth(self.memory);
        let full = allowed.min(most);
        // Nor is a segment more than may be promised: Linux, which does not look, may say 0, or a byte at a
        // time, for ever over memory that is free.
        let whole = full.min(self.threshold());
        let mss = mss.min(whole);
        let mut free = self.worth(self.memory.saturating_sub(used));
        let crowded = free < full / 2;
        if crowded {
            // Close early, so that it opens by something worth sending.
            free = self.round_down(free);
            if free < allowed / 16 || free < mss {
                return (0, true);
            }
        }
        let mut free = free.min(self.threshold());
        if self.is_pressed() {
            // Few segments in all, not few more: who does not read gets none, or those who stand
            // still would take the memory of all.
            let few = mss.saturating_mul(PRESSED_SEGMENTS);
            let room = few.saturating_sub(self.worth(used));
            if room < mss {
                return (0, true);
            }
            free = free.min(room);
        }
        if self.threshold_and_flags & SCALE != 0 {
            // A small window shall not be scaled away.
            return (self.round_up(free), crowded);
        }
        let offered = self.edge.bytes_since(self.acked);
        let window = if offered.saturating_add(mss) <= free || offered > free {
            let Some(rest) = free.checked_rem(mss) else {
                // There is no memory at all.
                return (0, true);
            };
            free.saturating_sub(rest)
        } else if mss == whole && free > offered.saturating_add(whole / 2) {
            free
        } else {
            offered
        };
        (window, crowded)
    }

    /// A segment with an ACK leaves: fixes the promise (Linux: `tcp_select_window`).
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6
    //# a TCP receiver SHOULD NOT shrink the window
    #[inline]
    pub(crate) fn advertise(&mut self, used: u32, mss: u32, tunables: &TcpTunables) -> Advertised {
        if !tunables.tcp_shrink_window
            && let Some(field) = self.advertise_plenty(used)
        {
            return Advertised { field, news: 0 };
        }
        self.advertise_any(used, mss, tunables)
    }

    /// Almost every segment: a scaled window over memory of which half is free, so that half of
    /// what it is worth is, was open and stays it. `None` where more has to be asked.
    #[inline]
    fn advertise_plenty(&mut self, used: u32) -> Option<u16> {
        let scale = self.threshold_and_flags & SCALE;
        let is_special = self.threshold_and_flags & (PRESSED | REFUSED | ZERO) != 0;
        if scale == 0 || is_special || used > self.memory / 2 {
            return None;
        }
        let free = self.worth(self.memory.wrapping_sub(used));
        let free = free.min(self.threshold());
        if free == 0 {
            return None;
        }
        // What is promised stays promised; both are rounded up to the unit.
        let wanted = free.max(self.size()).saturating_add(self.mask());
        let field = wanted.wrapping_shr(scale).min(0xffff);
        let end = self.nxt.plus(field.wrapping_shl(scale));
        self.edge = self.edge.latest(end);
        self.acked = self.nxt;
        Some(field as u16)
    }

    /// The same by all the rules.
    #[inline(never)] // Beside the common case, of which it would take the registers.
    fn advertise_any(&mut self, used: u32, mss: u32, tunables: &TcpTunables) -> Advertised {
        if self.threshold_and_flags & (PRESSED | REFUSED) != 0
            && let Some(told) = self.advertise_shortage(mss)
        {
            return told;
        }
        let promised = self.size();
        let (mut wanted, crowded) = self.select(used, mss, tunables.special.window_clamp);
        let mut news = if crowded { Advertised::CROWDED } else { 0 };
        if wanted < promised {
            if tunables.tcp_shrink_window && self.threshold_and_flags & SCALE != 0 {
                wanted = self.shrunk(wanted, mss);
                self.edge = self.nxt;
            } else {
                if wanted == 0 {
                    news |= Advertised::WANTED_ZERO;
                }
                // A kept promise is rounded up to the unit (behaviour: A5-2).
                wanted = self.round_up(promised);
            }
        }
        // A scale is 14 at most.
        let scale = self.threshold_and_flags & SCALE;
        let field = wanted
            .wrapping_shr(scale)
            .min(tunables.window_field_max(scale as u8));
        let offered = field.wrapping_shl(scale);
        self.edge = self.edge.latest(self.nxt.plus(offered));
        self.acked = self.nxt;
        let was_zero = self.threshold_and_flags & ZERO != 0;
        if was_zero != (field == 0) {
            self.threshold_and_flags ^= ZERO;
            news |= if was_zero {
                Advertised::OPENED
            } else {
                Advertised::CLOSED
            };
        }
        Advertised {
            field: field as u16,
            news,
        }
    }

    /// Memory is short: the threshold falls, and where something was refused nothing is promised any
    /// more.
    #[cold]
    fn advertise_shortage(&mut self, mss: u32) -> Option<Advertised> {
        if self.is_pressed() {
            self.lower_threshold(mss.saturating_mul(PRESSED_SEGMENTS));
        }
        if self.threshold_and_flags & REFUSED == 0 {
            return None;
        }
        let was_zero = self.threshold_and_flags & ZERO != 0;
        self.threshold_and_flags = self.threshold_and_flags & !REFUSED | ZERO;
        self.edge = self.nxt;
        self.acked = self.nxt;
        let closed = if was_zero { 0 } else { Advertised::CLOSED };
        Some(Advertised {
            field: 0,
            news: closed | Advertised::CROWDED,
        })
    }

    /// The field of an ACK that ends at `ack`, which data that came later are not to be told of yet: the
    /// promise is that of the ACK behind it, in whole units, at most `field_max` of them.
    pub(crate) fn field_from(&mut self, ack: SeqNumber, field_max: u32) -> u16 {
        let scale = self.scale().into();
        let field = self.round_up(self.edge.bytes_since(ack));
        let field = field.wrapping_shr(scale).min(field_max).min(0xffff);
        self.edge = self.edge.latest(ack.plus(field.wrapping_shl(scale)));
        field as u16
    }

    /// A window that may be taken back is a whole number of units, and nothing when it is not worth
    /// a segment or a unit.
    fn shrunk(&self, wanted: u32, mss: u32) -> u32 {
        let wanted = self.round_down(wanted);
        if wanted < mss { 0 } else { wanted }
    }

    /// The application took `bytes`. `true` when the window should be told at once (Linux:
    /// `tcp_cleanup_rbuf`): it has at least doubled, and was below half of what it can be.
    pub(crate) fn on_taken(
        &mut self,
        bytes: u32,
        used: u32,
        mss: u32,
        tunables: &TcpTunables,
    ) -> bool {
        self.taken = self.taken.saturating_add(bytes);
        let promised = self.size();
        let most = tunables.special.window_clamp;
        if promised.saturating_mul(2) > self.worth(self.memory).min(most) {
            return false;
        }
        let (wanted, _) = self.select(used, mss, most);
        wanted != 0 && wanted >= promised.saturating_mul(2).max(1)
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
        let scale = self.threshold_and_flags & SCALE;
        1u32.wrapping_shl(scale).wrapping_sub(1)
    }
}

/// The clock of `measured_at`.
pub(super) const fn micros(now: Instant) -> u32 {
    now.as_micros() as u32
}

#[cfg(test)]
mod tests;
