//! What an lcore does between polls that found nothing.
//!
//! Latency and power pull in opposite directions, and on a machine that shares its CPUs with the peers a polling lcore
//! starves them. Every policy but polling therefore backs off in steps: it polls on for a while, so that a busy lcore
//! never waits between two bursts, and the step back is one poll that finds work. A wait is bounded, because only a frame
//! can end it early, from a device or from another lcore (`bells.rs`): timers and control's rings are looked at when it is
//! over.

use std::time::Duration;

use millrace_abi::IdleMode;
use millrace_base::{Nanos, PortId};
use millrace_dpdk::{Bell, RxInterrupts, RxMonitor, RxQueue, cycles};
use tracing::info;

use crate::args::Idle;

/// Empty polls before anything is waited for: about 20 µs of polling.
const SPINS_MAX: u32 = 128;
/// Empty polls before yielding ends and sleep begins.
const YIELDS_MAX: u32 = SPINS_MAX + 32;
/// How long one sleep lasts. The kernel adds its timer slack (50 µs by default); a retransmission timer is 200 ms.
const NAP: Duration = Duration::from_micros(50);
/// How long a sleep that a device may end lasts: what a command of control may have to wait.
const INTERRUPT_WAIT_MAX: Duration = Duration::from_millis(1);
/// Cycles that the CPU may watch a ring: about 20 µs, less than a nap because it costs no system call.
const MONITOR_CYCLES: u64 = 50_000;
/// Empty polls after which the number of pauses doubles, and how often it doubles: 64 pauses are 1 to 3 µs.
const PAUSE_STEP: u32 = 32;
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// The idle state of one lcore.
#[derive(Debug)]
pub(crate) struct Idler {
    asked: Idle,
    /// What other lcores ring when they have something for a sleeper.
    bell: Option<Bell>,
    empty_polls: u32,
    sleeps: u64,
}

/// What is in force on one lcore. Made on its own thread, where interrupts will be waited for.
#[derive(Debug)]
pub(crate) enum Wait {
    Poll,
    Pause,
    Monitor(RxMonitor),
    Interrupt(RxInterrupts),
    Sleep,
}

impl Idler {
    /// An idler with this policy that has not been idle yet.
    pub(crate) fn new(asked: Idle, bell: Option<Bell>) -> Self {
        Self {
            asked,
            bell,
            empty_polls: 0,
            sleeps: 0,
        }
    }

    /// Finds out what of the policy CPU and devices can do, and says so.
    pub(crate) fn choose(&self, queues: &[(PortId, RxQueue)]) -> Wait {
        let wait = match self.asked {
            Idle::Poll => Wait::Poll,
            Idle::Pause => Wait::Pause,
            Idle::Sleep => Wait::Sleep,
            Idle::Monitor => match queues {
                [(_, queue)] => RxMonitor::new(queue).map_or(Wait::Pause, Wait::Monitor),
                // The CPU watches one place, and each port has one.
                _ => Wait::Pause,
            },
            Idle::Interrupt => {
                let all = queues.iter().map(|(_, queue)| queue);
                let interrupts = RxInterrupts::new(all).and_then(|mut interrupts| {
                    if let Some(bell) = &self.bell {
                        interrupts.listen_to(bell)?;
                    }
                    Ok(interrupts)
                });
                interrupts.map_or(Wait::Sleep, Wait::Interrupt)
            }
        };
        let (asked, in_force) = (self.asked_mode().word(), wait.mode().word());
        if asked == in_force {
            info!(idle = in_force, "an lcore without work");
        } else {
            info!(
                idle = in_force,
                asked, "an lcore without work: CPU or devices cannot do what was asked"
            );
        }
        wait
    }

    /// Says that the last turn of the loop found work.
    #[inline]
    pub(crate) fn on_work(&mut self) {
        self.empty_polls = 0;
    }

    /// Says that the last turn found nothing, and waits. `due_in` is when the next timer is; `is_empty` is asked whether no
    /// other lcore has left anything, when it is certain that one who does so from then on rings.
    #[inline]
    pub(crate) fn on_empty(
        &mut self,
        wait: &mut Wait,
        due_in: Nanos,
        is_empty: impl FnOnce() -> bool,
    ) {
        if matches!(wait, Wait::Poll) {
            return;
        }
        self.empty_polls = self.empty_polls.saturating_add(1);
        match wait {
            Wait::Poll => {}
            Wait::Pause => pause(self.empty_polls),
            _ if self.empty_polls <= SPINS_MAX => std::hint::spin_loop(),
            Wait::Monitor(monitor) => {
                self.sleeps = self.sleeps.wrapping_add(1);
                monitor.wait(cycles().wrapping_add(MONITOR_CYCLES));
            }
            _ if self.empty_polls <= YIELDS_MAX => std::thread::yield_now(),
            Wait::Interrupt(interrupts)
                if due_in.as_nanos() > INTERRUPT_WAIT_MAX.as_nanos() as u64 =>
            {
                self.sleep(is_empty, |_| _ = interrupts.wait(INTERRUPT_WAIT_MAX));
            }
            Wait::Interrupt(_) | Wait::Sleep => self.sleep(is_empty, |bell| match bell {
                // Whether it rang or the time was over: the next turn looks at everything.
                Some(bell) => _ = bell.wait(NAP),
                None => std::thread::sleep(NAP),
            }),
        }
    }

    /// Sleeps, unless something was left for this lcore before it was known to sleep.
    fn sleep(&mut self, is_empty: impl FnOnce() -> bool, sleep: impl FnOnce(Option<&Bell>)) {
        if let Some(bell) = &self.bell {
            bell.lie_down();
            if is_empty() {
                self.sleeps = self.sleeps.wrapping_add(1);
                sleep(Some(bell));
            }
            bell.get_up();
        } else {
            self.sleeps = self.sleeps.wrapping_add(1);
            sleep(None);
        }
    }

    /// Whether the lcore has found nothing for so long that housekeeping costs nobody anything.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.empty_polls > SPINS_MAX
    }

    /// What was asked for.
    pub(crate) fn asked_mode(&self) -> IdleMode {
        match self.asked {
            Idle::Poll => IdleMode::Poll,
            Idle::Pause => IdleMode::Pause,
            Idle::Monitor => IdleMode::Monitor,
            Idle::Interrupt => IdleMode::Interrupt,
            Idle::Sleep => IdleMode::Sleep,
        }
    }

    /// Times the lcore slept.
    pub(crate) fn sleeps(&self) -> u64 {
        self.sleeps
    }
}

impl Wait {
    /// What is done without work.
    pub(crate) fn mode(&self) -> IdleMode {
        match self {
            Self::Poll => IdleMode::Poll,
            Self::Pause => IdleMode::Pause,
            Self::Monitor(_) => IdleMode::Monitor,
            Self::Interrupt(_) => IdleMode::Interrupt,
            Self::Sleep => IdleMode::Sleep,
        }
    }
}

/// Pauses the longer, the more polls found nothing.
fn pause(empty_polls: u32) {
    let doublings = (empty_polls / PAUSE_STEP).min(PAUSE_DOUBLINGS_MAX);
    for _ in 0..1u32 << doublings {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_resets_the_back_off() {
        let mut idler = Idler::new(Idle::Sleep, None);
        for _ in 0..=SPINS_MAX {
            idler.on_empty(&mut Wait::Sleep, Nanos::ZERO, || true);
        }
        assert!(idler.is_quiet());
        idler.on_work();
        assert!(!idler.is_quiet());
    }

    #[test]
    fn who_polls_never_sleeps_and_who_sleeps_counts() {
        for (asked, mut wait, slept) in [
            (Idle::Poll, Wait::Poll, 0),
            (Idle::Pause, Wait::Pause, 0),
            (Idle::Sleep, Wait::Sleep, 10),
        ] {
            let mut idler = Idler::new(asked, None);
            for _ in 0..YIELDS_MAX + 10 {
                idler.on_empty(&mut wait, Nanos::ZERO, || true);
            }
            assert_eq!(idler.sleeps(), slept, "{asked:?}");
            assert_eq!(idler.asked_mode(), wait.mode());
        }
    }

    // A frame that another lcore hands over between the last look at the queue and the sleep would wait for its end.
    #[test]
    fn what_is_left_while_lying_down_is_found_instead_of_slept_over() {
        let bell = Bell::new().expect("a descriptor");
        let mut idler = Idler::new(Idle::Sleep, Some(bell.clone()));
        let mut asked = 0;
        for _ in 0..YIELDS_MAX + 3 {
            idler.on_empty(&mut Wait::Sleep, Nanos::ZERO, || {
                asked += 1;
                assert!(bell.ring(), "whoever fills the queue now sees a sleeper");
                false
            });
        }
        assert_eq!((asked, idler.sleeps()), (3, 0));
        assert!(!bell.ring(), "awake between two sleeps");
    }
}
