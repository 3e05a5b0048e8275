//! How an lcore that hands frames to another makes sure that they are looked at, when the other one may be asleep.
//!
//! Ringing is a system call, the only one on the way of a frame (decision 0010). It is made for an lcore that has said that
//! it sleeps and has not been rung yet: once per sleep, never per frame. Lcores that poll, pause or watch their ring never
//! sleep, and have no bells.

use std::io;
use std::sync::Arc;

use millrace_base::LcoreIndex;
use millrace_dpdk::Bell;

use crate::args::Idle;

/// The bells of all lcores, in their order; none where nobody sleeps.
#[derive(Clone, Debug)]
pub(crate) struct Bells(Option<Arc<[Bell]>>);

impl Bells {
    /// A bell for each lcore, if lcores with this idle policy sleep and there is somebody to ring.
    pub(crate) fn new(idle: Idle, lcores: usize) -> io::Result<Self> {
        let sleeps = matches!(idle, Idle::Sleep | Idle::Interrupt);
        if !sleeps || lcores <= 1 {
            return Ok(Self(None));
        }
        let bells: io::Result<Arc<[Bell]>> = (0..lcores).map(|_| Bell::new()).collect();
        bells.map(|bells| Self(Some(bells)))
    }

    /// The bell of one lcore.
    pub(crate) fn of(&self, lcore: LcoreIndex) -> Option<Bell> {
        self.0.as_ref()?.get(lcore.index()).cloned()
    }

    /// Wakes those of these lcores (a bit for each) that sleep; tells how many there were. What they shall find is in their
    /// queues already.
    #[inline]
    pub(crate) fn ring(&self, lcores: u64) -> u32 {
        match &self.0 {
            Some(bells) if lcores != 0 => ring_each(bells, lcores),
            _ => 0,
        }
    }
}

fn ring_each(bells: &[Bell], lcores: u64) -> u32 {
    let mut rung = 0u32;
    let mut rest = lcores;
    while rest != 0 {
        let lcore = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        if bells.get(lcore).is_some_and(Bell::ring) {
            rung = rung.saturating_add(1);
        }
    }
    rung
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Longer than any test may take: whoever sleeps that long was not woken.
    const FOREVER: Duration = Duration::from_secs(60);

    #[test]
    fn only_sleepers_among_those_with_work_are_rung() {
        let bells = Bells::new(Idle::Sleep, 4).expect("descriptors");
        let of = |lcore| bells.of(LcoreIndex::new(lcore)).expect("a bell");
        of(1).lie_down();
        of(3).lie_down();
        assert_eq!(bells.ring(0), 0);
        assert_eq!(bells.ring(0b0111), 1, "0 and 2 are awake");
        assert!(of(1).wait(FOREVER));
        assert!(!of(3).wait(Duration::ZERO), "nothing was left with it");
    }

    #[test]
    fn who_polls_and_who_is_alone_has_no_bell() {
        for (idle, lcores) in [(Idle::Poll, 4), (Idle::Pause, 4), (Idle::Sleep, 1)] {
            let bells = Bells::new(idle, lcores).expect("none");
            assert!(bells.of(LcoreIndex::new(0)).is_none());
            assert_eq!(bells.ring(u64::MAX), 0);
        }
    }
}
