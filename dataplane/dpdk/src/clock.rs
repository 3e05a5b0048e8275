//! The time-stamp counter as a clock.
//!
//! One `rdtsc` and one multiplication: about 25 cycles, no division, no system call. It needs a CPU
//! whose TSC runs at one rate in every power state and in step on all cores (`constant_tsc
//! nonstop_tsc`: every server x86 of the last fifteen years, and the generic timer of arm64); DPDK
//! has measured that rate when EAL started.

use millrace_base::Instant;
use millrace_dpdk_sys as sys;

use crate::eal::Eal;

/// Fraction bits of the multiplier. 2^56 / 10^9 leaves a relative error below 2^-53 for any real
/// clock rate, and the 128-bit product of 64 bits of cycles and at most 64 of multiplier cannot
/// overflow.
const SHIFT: u32 = 56;

/// A calibrated clock. Copies agree with each other, on every lcore.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start_cycles: u64,
    /// Nanoseconds per cycle, times 2^SHIFT.
    multiplier: u64,
    hertz: u64,
}

impl Clock {
    /// A clock that starts at one second now.
    ///
    /// Not at zero: an `Instant` of zero is "never happened" in places, and a deadline in the past
    /// must be expressible.
    pub fn new(_: &Eal) -> Self {
        // SAFETY: reads a value that EAL measured at start.
        let hertz = unsafe { sys::rte_get_tsc_hz() };
        let clock = Self::with_rate(hertz, 0);
        let second_ago = cycles().wrapping_sub(clock.hertz);
        Self {
            start_cycles: second_ago,
            ..clock
        }
    }

    /// Now.
    #[inline]
    pub fn now(&self) -> Instant {
        self.at(cycles())
    }

    /// The instant at which the counter showed `cycles`; a reading before the clock's start is the
    /// start.
    #[inline]
    pub fn at(&self, cycles: u64) -> Instant {
        // A core whose counter is a few cycles behind the one that made the clock must not see the
        // far future.
        let elapsed = cycles.wrapping_sub(self.start_cycles);
        let elapsed = if elapsed > i64::MAX as u64 {
            0
        } else {
            elapsed
        };
        let nanos = (u128::from(elapsed) * u128::from(self.multiplier)) >> SHIFT;
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Cycles per second.
    pub fn hertz(&self) -> u64 {
        self.hertz
    }

    fn with_rate(hertz: u64, start_cycles: u64) -> Self {
        // A rate below 16 MHz would not fit the multiplier; no CPU that runs DPDK has one.
        let hertz = hertz.max(16_000_000);
        let multiplier = (1_000_000_000_u128 << SHIFT) / u128::from(hertz);
        let multiplier = u64::try_from(multiplier).unwrap_or(u64::MAX);
        Self {
            start_cycles,
            multiplier,
            hertz,
        }
    }
}

/// The time-stamp counter of this core, not serialised: for measuring bursts, not single
/// instructions.
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction and Linux does not forbid it to user programs.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter.
    unsafe {
        sys::mr_rdtsc()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_cycles_is_a_day_to_the_microsecond() {
        for hertz in [16_000_000, 25_000_000, 2_596_134_000, 5_000_000_001] {
            let clock = Clock::with_rate(hertz, 7);
            let day = clock.at(7 + hertz * 86_400).as_nanos();
            assert!(
                day.abs_diff(86_400_000_000_000) < 1_000,
                "{hertz} Hz: {day}"
            );
        }
    }

    #[test]
    fn a_counter_slightly_behind_the_start_reads_zero() {
        let clock = Clock::with_rate(1_000_000_000, 1_000);
        assert_eq!(clock.at(990), Instant::ZERO);
        assert_eq!(clock.at(1_010), Instant::from_nanos(10));
    }
}
