//! From a signal to a clean exit.
//!
//! The first SIGTERM or SIGINT asks for a drain: listeners refuse new connections, sessions finish. The lcores leave when
//! their sessions are gone or the grace period is over; a second signal ends the grace period at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

/// How long sessions may go on after the first signal.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// What the lcores are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Serve.
    Run = 0,
    /// Finish what is open, take nothing new.
    Drain = 1,
    /// Reset what is left and leave the loop.
    Stop = 2,
}

/// The phase, shared by the main thread (its only writer) and the lcores.
#[derive(Clone, Debug, Default)]
pub struct Control {
    phase: Arc<AtomicU8>,
    drained: Arc<AtomicUsize>,
}

/// Signals received, as the main thread sees them.
#[derive(Clone, Debug)]
pub struct Signals {
    first: Arc<AtomicBool>,
    second: Arc<AtomicBool>,
}

impl Control {
    /// Asks every lcore for this phase; a phase never goes back.
    pub fn enter(&self, phase: Phase) {
        // A hint that lcores read once a turn; it orders nothing else.
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// What is asked of the lcores now.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Run,
            1 => Phase::Drain,
            _ => Phase::Stop,
        }
    }

    /// Says that one lcore has no sessions left.
    pub fn report_drained(&self) {
        self.drained.fetch_add(1, Ordering::Relaxed);
    }

    /// Lcores that have no sessions left.
    pub fn drained(&self) -> usize {
        self.drained.load(Ordering::Relaxed)
    }
}

impl Signals {
    /// Takes over SIGTERM and SIGINT.
    pub fn install() -> std::io::Result<Self> {
        let signals = Self {
            first: Arc::new(AtomicBool::new(false)),
            second: Arc::new(AtomicBool::new(false)),
        };
        for signal in [SIGTERM, SIGINT] {
            // Order matters: the handler that copies "first" into "second" runs before the one that sets "first".
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&signals.second))?;
            signal_hook::flag::register(signal, Arc::clone(&signals.first))?;
        }
        Ok(signals)
    }

    /// Whether a drain has been asked for.
    pub fn asked_to_drain(&self) -> bool {
        self.first.load(Ordering::Relaxed)
    }

    /// Lets a further signal end the process at once: called when the drain has begun.
    pub fn arm_second(&self) {
        self.second.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_never_goes_back() {
        let control = Control::default();
        assert_eq!(control.phase(), Phase::Run);
        control.enter(Phase::Stop);
        control.enter(Phase::Drain);
        assert_eq!(control.phase(), Phase::Stop);
    }
}
