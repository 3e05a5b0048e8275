//! The timestamp option: our clock, the peer's last value, and PAWS (RFC 7323).
//!
//! Our clock ticks in milliseconds from a per-connection offset (section 5.4; the offset comes from
//! a keyed hash in `isn.rs`), so it says nothing about uptime or other connections.

use millrace_base::{Instant, Micros, SeqNumber};

/// The options that every segment of a connection carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Carries(u8);

impl Carries {
    /// None.
    pub(crate) const NOTHING: Self = Self(0);
    /// Timestamps, and nothing else.
    pub(crate) const STAMPS: Self = Self(1 << 0);
    /// A signature, and nothing else.
    const SIGNATURE: Self = Self(1 << 1);
}

/// The state of the option on one connection.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(2))]
pub(crate) struct Timestamps {
    /// Added to our clock.
    pub(crate) offset: u32,
    /// TS.Recent: what we echo.
    pub(crate) recent: u32,
    /// When `recent` was taken, in seconds; `recent` is invalid before the first one.
    recent_at: u32,
    /// Whether both SYNs carried the option; beside it, for want of a better place, whether segments
    /// are signed: header prediction compares both at once with what a segment carries.
    pub(crate) carries: Carries,
    has_recent: bool,
}

/// TS.Recent older than this is not compared any more (RFC 7323 section 5.5).
const PAWS_VALID_SECONDS: u32 = 24 * 24 * 60 * 60;

impl Timestamps {
    /// The option before the handshake.
    pub(crate) fn new(offset: u32) -> Self {
        Self {
            offset,
            ..Self::default()
        }
    }

    /// Whether both SYNs carried the option.
    #[inline]
    pub(crate) const fn agreed(&self) -> bool {
        self.carries.0 & Carries::STAMPS.0 != 0
    }

    /// Both SYNs carried the option.
    pub(crate) const fn agree(&mut self) {
        self.carries.0 |= Carries::STAMPS.0;
    }

    /// Whether segments are signed.
    #[inline]
    pub(crate) const fn signed(&self) -> bool {
        self.carries.0 & Carries::SIGNATURE.0 != 0
    }

    /// Segments are signed from now on, or not.
    pub(crate) const fn sign(&mut self, on: bool) {
        self.carries.0 &= !Carries::SIGNATURE.0;
        if on {
            self.carries.0 |= Carries::SIGNATURE.0;
        }
    }

    /// TSval of a segment sent now.
    #[inline]
    pub(crate) fn value(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.offset)
    }

    /// How long ago we sent `echo`; `None` when the peer cannot have it from us.
    #[inline]
    pub(crate) fn elapsed(&self, echo: u32, now: Instant) -> Option<Micros> {
        let millis = self.value(now).wrapping_sub(echo);
        // A day is beyond any round trip: an echo from the future or from never.
        (millis < 86_400_000).then_some(Micros::from_millis(millis.max(1)))
    }

    /// Remembers the peer's value.
    #[inline]
    pub(crate) fn remember(&mut self, value: u32, now: Instant) {
        self.recent = value;
        self.recent_at = seconds(now);
        self.has_recent = true;
    }

    /// Starts from what an earlier connection of this tuple had seen `at` this second.
    pub(crate) fn inherit(&mut self, value: u32, at: u32) {
        self.recent = value;
        self.recent_at = at;
        self.has_recent = true;
    }

    /// Takes over a value when the segment's position allows it.
    //= https://www.rfc-editor.org/rfc/rfc7323#section-4.3
    //# If SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent, then SEG.TSval is copied to
    //# TS.Recent
    #[inline]
    pub(crate) fn update(&mut self, value: u32, seq: SeqNumber, ack_sent: SeqNumber, now: Instant) {
        if seq.before_or_eq(ack_sent) && (!self.is_old(value) || self.has_expired(now)) {
            self.remember(value, now);
        }
    }

    /// Whether a segment with this value came out of the past (RFC 7323 section 5.3, R1).
    #[inline]
    pub(crate) fn rejects(&self, value: u32, now: Instant) -> bool {
        self.is_old(value) && !self.has_expired(now)
    }

    /// Whether `value` is older than `recent` by no more than `millis`: reordering rather than an
    /// old life.
    pub(crate) fn is_slightly_old(&self, value: u32, millis: u32) -> bool {
        self.is_old(value) && self.recent.wrapping_sub(value) <= millis
    }

    /// Seconds at which `recent` was taken.
    pub(crate) fn recent_at_seconds(&self) -> u32 {
        self.recent_at
    }

    /// Whether a value lies before TS.Recent.
    #[inline]
    pub(crate) fn is_old(&self, value: u32) -> bool {
        self.has_recent && (value.wrapping_sub(self.recent) as i32) < 0
    }

    fn has_expired(&self, now: Instant) -> bool {
        seconds(now).wrapping_sub(self.recent_at) > PAWS_VALID_SECONDS
    }
}

fn seconds(now: Instant) -> u32 {
    (now.as_millis() / 1_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7323 section 5.3, across the wrap of the peer's clock.
    // behaviour: X8-4
    #[test]
    fn an_older_value_is_rejected_across_the_wrap() {
        let mut stamps = Timestamps::new(0);
        assert!(
            !stamps.rejects(5, Instant::ZERO),
            "nothing to compare with yet"
        );
        stamps.remember(u32::MAX - 1, Instant::ZERO);
        assert!(!stamps.rejects(3, Instant::ZERO));
        assert!(
            !stamps.rejects(u32::MAX - 1, Instant::ZERO),
            "equal is fresh"
        );
        assert!(stamps.rejects(u32::MAX - 2, Instant::ZERO));
    }

    // RFC 7323 section 5.5.
    #[test]
    fn after_24_days_of_silence_any_value_is_taken() {
        let mut stamps = Timestamps::new(0);
        stamps.remember(1_000, Instant::ZERO);
        let later = Instant::from_millis(25 * 86_400_000);
        assert!(!stamps.rejects(999, later));
        stamps.update(999, SeqNumber::new(1), SeqNumber::new(1), later);
        assert_eq!({ stamps.recent }, 999);
    }

    // RFC 7323 section 4.3: a segment beyond the last ACK must not move TS.Recent.
    #[test]
    fn only_a_segment_at_or_before_the_last_ack_updates_the_echo() {
        let mut stamps = Timestamps::new(0);
        stamps.remember(10, Instant::ZERO);
        stamps.update(20, SeqNumber::new(101), SeqNumber::new(100), Instant::ZERO);
        assert_eq!({ stamps.recent }, 10);
        stamps.update(20, SeqNumber::new(100), SeqNumber::new(100), Instant::ZERO);
        assert_eq!({ stamps.recent }, 20);
    }

    #[test]
    fn an_echo_we_never_sent_gives_no_sample() {
        let stamps = Timestamps::new(7);
        let now = Instant::from_millis(1_000);
        assert_eq!(
            stamps.elapsed(stamps.value(now).wrapping_sub(30), now),
            Some(Micros::from_millis(30))
        );
        assert_eq!(stamps.elapsed(stamps.value(now).wrapping_add(1), now), None);
    }
}
