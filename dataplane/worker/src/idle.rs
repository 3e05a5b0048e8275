//! What an lcore does between polls that found nothing.
//!
//! Latency and power pull in opposite directions, and on a machine that shares its CPUs with the peers a polling lcore
//! starves them. `sleep` therefore backs off in steps: it polls on for a while, so that a busy lcore never sleeps between
//! two bursts, then yields, then sleeps for tens of microseconds. The step down is one poll that finds work.

use std::time::Duration;

use millrace_abi::IdleMode;

use crate::args::Idle;

/// Empty polls before `sleep` gives the CPU away for the first time: about 20 µs of polling.
const SPINS_MAX: u32 = 128;
/// Empty polls before `sleep` stops yielding and really sleeps.
const YIELDS_MAX: u32 = SPINS_MAX + 32;
/// How long one sleep lasts. The kernel adds its timer slack (50 µs by default); a retransmission timer is 200 ms.
const NAP: Duration = Duration::from_micros(50);

/// The idle state of one lcore.
#[derive(Debug)]
pub(crate) struct Idler {
    policy: Idle,
    empty_polls: u32,
    sleeps: u64,
}

impl Idler {
    /// An idler with this policy that has not been idle yet.
    pub(crate) fn new(policy: Idle) -> Self {
        Self {
            policy,
            empty_polls: 0,
            sleeps: 0,
        }
    }

    /// Says that the last turn of the loop found work.
    #[inline]
    pub(crate) fn on_work(&mut self) {
        self.empty_polls = 0;
    }

    /// Says that the last turn found nothing, and waits as the policy says.
    #[inline]
    pub(crate) fn on_empty(&mut self) {
        match self.policy {
            Idle::Poll => {}
            Idle::Pause => std::hint::spin_loop(),
            Idle::Sleep => self.back_off(),
        }
    }

    /// Whether the lcore has found nothing for so long that housekeeping costs nobody anything.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.empty_polls > SPINS_MAX
    }

    /// What is done without work.
    pub(crate) fn mode(&self) -> IdleMode {
        match self.policy {
            Idle::Poll => IdleMode::Poll,
            Idle::Pause => IdleMode::Pause,
            Idle::Sleep => IdleMode::Sleep,
        }
    }

    /// Times the lcore slept.
    pub(crate) fn sleeps(&self) -> u64 {
        self.sleeps
    }

    fn back_off(&mut self) {
        self.empty_polls = self.empty_polls.saturating_add(1);
        if self.empty_polls <= SPINS_MAX {
            std::hint::spin_loop();
        } else if self.empty_polls <= YIELDS_MAX {
            std::thread::yield_now();
        } else {
            self.sleeps = self.sleeps.wrapping_add(1);
            std::thread::sleep(NAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_resets_the_back_off() {
        let mut idler = Idler::new(Idle::Sleep);
        for _ in 0..=SPINS_MAX {
            idler.on_empty();
        }
        assert!(idler.is_quiet());
        idler.on_work();
        assert!(!idler.is_quiet());
    }
}
