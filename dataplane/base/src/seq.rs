//! TCP sequence numbers: a circle of 2^32 positions.
//!
//! There is no `Ord`: "less than" is meaningless on a circle, and a sort by it is a bug. Comparisons say what they
//! mean and hold while both numbers lie within half the circle of each other (RFC 9293 section 3.4).

use core::fmt;

/// A position in a TCP byte stream, modulo 2^32 (RFC 9293 section 3.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct SeqNumber(u32);

impl SeqNumber {
    /// The position with this value on the wire.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The value on the wire, in host order.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The position `count` bytes further on.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// The position `count` bytes back.
    #[must_use]
    pub const fn minus(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }

    /// How far this position lies after `earlier`: negative when it lies before it.
    pub const fn distance(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// The bytes from `earlier` up to this position; zero when this one lies before it.
    pub const fn bytes_since(self, earlier: Self) -> u32 {
        let distance = self.distance(earlier);
        if distance < 0 { 0 } else { distance as u32 }
    }

    /// Whether this position lies strictly before `other`.
    pub const fn before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// Whether this position lies before `other` or at it.
    pub const fn before_or_eq(self, other: Self) -> bool {
        self.distance(other) <= 0
    }

    /// Whether this position lies strictly after `other`.
    pub const fn after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    /// Whether this position lies after `other` or at it.
    pub const fn after_or_eq(self, other: Self) -> bool {
        self.distance(other) >= 0
    }

    /// The one of two that comes first.
    #[must_use]
    pub const fn earliest(self, other: Self) -> Self {
        if self.before(other) { self } else { other }
    }

    /// The one of two that comes last.
    #[must_use]
    pub const fn latest(self, other: Self) -> Self {
        if self.after(other) { self } else { other }
    }

    /// Whether this position lies in `start .. start + count` (half open).
    pub const fn within(self, start: Self, count: u32) -> bool {
        self.0.wrapping_sub(start.0) < count
    }
}

impl fmt::Debug for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // RFC 9293 section 3.4: comparisons hold across the wrap.
        #[test]
        fn comparisons_survive_the_wrap(start: u32, step in 1u32..0x8000_0000) {
            let (a, b) = (SeqNumber::new(start), SeqNumber::new(start).plus(step));
            prop_assert!(a.before(b) && b.after(a));
            prop_assert!(!b.before(a) && !a.after(b));
            prop_assert_eq!(a.earliest(b), a);
            prop_assert_eq!(a.latest(b), b);
            prop_assert_eq!(b.bytes_since(a), step);
            prop_assert_eq!(a.bytes_since(b), 0);
        }

        #[test]
        fn plus_and_minus_are_inverse(start: u32, step: u32) {
            let a = SeqNumber::new(start);
            prop_assert_eq!(a.plus(step).minus(step), a);
        }

        #[test]
        fn within_is_half_open(start: u32, count in 1u32..0x4000_0000) {
            let a = SeqNumber::new(start);
            prop_assert!(a.within(a, count));
            prop_assert!(a.plus(count - 1).within(a, count));
            prop_assert!(!a.plus(count).within(a, count));
            prop_assert!(!a.minus(1).within(a, count));
            prop_assert!(!a.within(a, 0));
        }
    }
}
