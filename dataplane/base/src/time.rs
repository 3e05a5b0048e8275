//! Points in time and spans of it. There is no way to read a clock here: time is always an argument.

use core::fmt;

/// A point in time: nanoseconds since an arbitrary start, monotonic, comparable within one process only.
///
/// The worker derives it from the TSC; tests and simulations count it by hand. 64 bits last 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

/// A point in time in six bytes, for storage: whole microseconds since the start, 8.9 years of them.
///
/// Its alignment is that of two bytes, so that it fits where an `Instant` would leave holes. It is read
/// and written in two pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, packed(2))]
pub struct Stamp {
    low: u32,
    high: u16,
}

/// The microseconds of `Stamp::NEVER`.
const MICROS_NEVER: u64 = (1 << 48) - 1;

/// A span of time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(u64);

/// A span of time in microseconds, 32 bits (71 minutes): what a connection stores for RTT and RTO.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(u32);

impl Instant {
    /// The start of time, before every other instant.
    pub const ZERO: Self = Self(0);
    /// The end of time: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// The instant `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time that passed since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` after this one; `NEVER` when that cannot be told.
    #[must_use]
    pub const fn after(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Whether this deadline has been reached at `now`.
    pub const fn is_due(self, now: Self) -> bool {
        self.0 <= now.0
    }
}

impl Stamp {
    /// The end of time: a deadline that never comes, or something that never happened.
    pub const NEVER: Self = Self::from_micros(MICROS_NEVER);

    /// The last whole microsecond at or before `at`: for what has happened.
    #[inline]
    pub const fn of(at: Instant) -> Self {
        Self::from_micros(at.as_micros())
    }

    /// The first whole microsecond at or after `at`: for deadlines, which must not come early.
    #[inline]
    pub const fn not_before(at: Instant) -> Self {
        Self::from_micros(at.0.saturating_add(999) / 1_000)
    }

    /// The point in time. `NEVER` stays `NEVER`.
    #[inline]
    pub const fn instant(self) -> Instant {
        instant_of(self.as_micros())
    }

    /// The earliest of these; `NEVER` when none comes.
    #[inline]
    pub fn earliest(of: [Self; 3]) -> Instant {
        let [first, second, third] = of.map(Self::as_micros);
        instant_of(first.min(second).min(third))
    }

    /// Whether this is `NEVER`.
    #[inline]
    pub const fn is_never(self) -> bool {
        self.as_micros() == MICROS_NEVER
    }

    /// Whether this deadline has been reached at `now`.
    #[inline]
    pub const fn is_due(self, now: Instant) -> bool {
        self.instant().is_due(now)
    }

    #[inline]
    const fn as_micros(self) -> u64 {
        (self.low as u64) | (self.high as u64) << 32
    }

    #[inline]
    const fn from_micros(micros: u64) -> Self {
        // Without a branch: every segment writes some.
        let micros = if micros > MICROS_NEVER {
            MICROS_NEVER
        } else {
            micros
        };
        Self {
            low: micros as u32,
            high: (micros >> 32) as u16,
        }
    }
}

/// The point in time that a stamp of so many microseconds stands for.
#[inline]
const fn instant_of(micros: u64) -> Instant {
    if micros == MICROS_NEVER {
        return Instant::NEVER;
    }
    // 48 bits and ten more.
    Instant(micros.wrapping_mul(1_000))
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.instant(), f)
    }
}

impl Nanos {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest span.
    pub const MAX: Self = Self(u64::MAX);

    /// A span of `nanos` nanoseconds.
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A span of `micros` microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// A span of `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// A span of `secs` seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// The span in nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The span in whole microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// The span in whole milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The span in microseconds, saturating at 71 minutes.
    pub const fn to_micros(self) -> Micros {
        let micros = self.0 / 1_000;
        if micros > u32::MAX as u64 {
            Micros(u32::MAX)
        } else {
            Micros(micros as u32)
        }
    }

    /// The sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// `count` times this span, saturating.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl Micros {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest span, 71 minutes.
    pub const MAX: Self = Self(u32::MAX);

    /// A span of `micros` microseconds.
    pub const fn new(micros: u32) -> Self {
        Self(micros)
    }

    /// A span of `millis` milliseconds, saturating.
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// The span in microseconds.
    pub const fn as_micros(self) -> u32 {
        self.0
    }

    /// The same span in nanoseconds.
    pub const fn to_nanos(self) -> Nanos {
        // 32 bits and ten more.
        Nanos((self.0 as u64).wrapping_mul(1_000))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:06}s",
            self.0 / 1_000_000_000,
            self.0 / 1_000 % 1_000_000
        )
    }
}

impl fmt::Debug for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ns", self.0)
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_keeps_microseconds_and_rounds_as_asked() {
        for micros in [0, 1, 65_536, 1 << 32, (1 << 48) - 2] {
            let at = Instant::from_micros(micros);
            assert_eq!(
                (Stamp::of(at).instant(), Stamp::not_before(at).instant()),
                (at, at)
            );
            let later = Instant::from_nanos(at.as_nanos() + 1);
            assert_eq!(Stamp::of(later).instant(), at);
            assert!(Stamp::not_before(at).is_due(at));
            assert!(!Stamp::not_before(later).is_due(at));
        }
        assert!(Stamp::of(Instant::NEVER).is_never());
        assert_eq!(Stamp::NEVER.instant(), Instant::NEVER);
        assert!(!Stamp::NEVER.is_due(Instant::from_micros(1 << 50)));
    }

    #[test]
    fn spans_saturate_instead_of_wrapping() {
        assert_eq!(Instant::NEVER.after(Nanos::from_secs(1)), Instant::NEVER);
        assert_eq!(Instant::ZERO.since(Instant::from_millis(1)), Nanos::ZERO);
        assert_eq!(Nanos::MAX.to_micros(), Micros::MAX);
        assert_eq!(Micros::from_millis(u32::MAX), Micros::MAX);
    }

    #[test]
    fn a_deadline_is_due_at_its_own_instant() {
        let deadline = Instant::from_micros(5);
        assert!(!deadline.is_due(Instant::from_nanos(4_999)));
        assert!(deadline.is_due(deadline));
    }
}
