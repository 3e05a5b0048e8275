//! `CoDel`: controlled delay (RFC 8289 section 5).
//!
//! Marks count as drops. A queue of less than one full packet is never too long.

use millrace_base::{Instant, Nanos};

/// Bytes of a full packet.
const PACKET_BYTES: u64 = 1_514;

/// The state of RFC 8289 section 5.3.
#[derive(Debug)]
pub(super) struct CoDel {
    target: Nanos,
    interval: Nanos,
    /// When the wait will have been above the target for an interval.
    above_until: Option<Instant>,
    dropping: bool,
    next_drop: Instant,
    /// Drops of this phase, and of the phase before it.
    count: u64,
    last_count: u64,
}

impl CoDel {
    pub(super) const fn new(target: Nanos, interval: Nanos) -> Self {
        Self {
            target,
            interval,
            above_until: None,
            dropping: false,
            next_drop: Instant::ZERO,
            count: 0,
            last_count: 0,
        }
    }

    /// Whether the packet at the head, which has waited so long and leaves so many bytes behind, is
    /// to be dropped or marked.
    pub(super) fn strikes(&mut self, now: Instant, waited: Nanos, bytes_behind: u64) -> bool {
        let too_long = self.is_too_long(now, waited, bytes_behind);
        if self.dropping {
            if !too_long {
                self.dropping = false;
                return false;
            }
            if now < self.next_drop {
                return false;
            }
            self.count += 1;
            self.next_drop = self.next_drop.after(self.spacing());
            return true;
        }
        if !too_long {
            return false;
        }
        self.dropping = true;
        // A phase that follows soon goes on where the last one was (section 5.5).
        let recent = now.since(self.next_drop) < Nanos::new(16 * self.interval.as_nanos());
        let again = self.count.saturating_sub(self.last_count);
        self.count = if recent && again > 1 { again } else { 1 };
        self.last_count = self.count;
        self.next_drop = now.after(self.spacing());
        true
    }

    fn is_too_long(&mut self, now: Instant, waited: Nanos, bytes_behind: u64) -> bool {
        if waited < self.target || bytes_behind < PACKET_BYTES {
            self.above_until = None;
            return false;
        }
        match self.above_until {
            None => {
                self.above_until = Some(now.after(self.interval));
                false
            }
            Some(at) => at <= now,
        }
    }

    /// The interval divided by the root of the count: the control law of section 4.3.
    fn spacing(&self) -> Nanos {
        Nanos::new(self.interval.as_nanos() / self.count.isqrt().max(1))
    }
}
