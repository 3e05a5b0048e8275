//! What a lcore that was away does first.
//!
//! A lcore may stand still: the machine takes its CPU, or a system call of a device without a queue of its own takes long.
//! What came meanwhile waits in the rings, and every deadline of that time is due at once. An ACK that waits there has
//! arrived; a timer that does not know of it would send again what was received (a loss probe is due after two
//! milliseconds of silence, RFC 8985 section 7.2). So frames are heard before timers speak. Linux has no such rule: its
//! interrupts take frames from the card while the rest stands still.

use millrace_base::{Instant, Nanos};
use millrace_dpdk::RX_BURST_FRAMES_MAX;

/// A turn that begins so long after the one before it follows an absence. Busy turns take a fiftieth of it.
const AWAY_MIN: Nanos = Nanos::from_micros(1_000);
/// Turns for which timers wait at most: a default receive ring, in bursts.
const TURNS_MAX: u32 = 1_024 / RX_BURST_FRAMES_MAX as u32;

/// Whether frames from an absence are still waiting.
#[derive(Debug)]
pub(crate) struct Backlog {
    last_turn: Instant,
    turns_left: u32,
}

impl Backlog {
    /// Nothing waits, at the first turn.
    pub(crate) const fn new() -> Self {
        Self {
            last_turn: Instant::NEVER,
            turns_left: 0,
        }
    }

    /// Whether timers have to wait in the turn at `now`, which received so many frames.
    #[inline]
    pub(crate) fn holds_timers(&mut self, now: Instant, received: usize) -> bool {
        let was_away = now.since(self.last_turn) >= AWAY_MIN;
        self.last_turn = now;
        if was_away {
            self.turns_left = TURNS_MAX;
        }
        if self.turns_left == 0 {
            return false;
        }
        // Fewer than a burst takes: that was all.
        self.turns_left = if received < RX_BURST_FRAMES_MAX {
            0
        } else {
            self.turns_left.saturating_sub(1)
        };
        self.turns_left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = RX_BURST_FRAMES_MAX;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn timers_wait_until_what_came_in_an_absence_was_heard() {
        let mut backlog = Backlog::new();
        assert!(!backlog.holds_timers(at(10), FULL), "the first turn");
        assert!(!backlog.holds_timers(at(1_009), FULL), "busy, not away");
        assert!(backlog.holds_timers(at(2_009), FULL));
        assert!(backlog.holds_timers(at(2_019), 2 * FULL));
        assert!(
            !backlog.holds_timers(at(2_029), FULL - 1),
            "the last of them"
        );
        assert!(!backlog.holds_timers(at(2_039), FULL), "these are new");
    }

    #[test]
    fn timers_do_not_wait_after_a_quiet_time() {
        let mut backlog = Backlog::new();
        assert!(!backlog.holds_timers(at(10), 0));
        assert!(!backlog.holds_timers(at(50_000), 0));
        assert!(!backlog.holds_timers(at(100_000), 3));
    }

    #[test]
    fn under_a_flood_timers_wait_for_one_ring_and_no_longer() {
        let mut backlog = Backlog::new();
        backlog.holds_timers(at(10), 0);
        let turns = (1..100).take_while(|turn| backlog.holds_timers(at(5_000 + turn), FULL));
        assert_eq!(turns.count(), TURNS_MAX as usize - 1);
    }
}
