//! Is the other side alive? A beat that changes is a sign of life; how long it has not changed is
//! measured by the observer's own clock, so the two processes need not agree on a time.

use millrace_base::{Instant, Nanos};

/// Watches one beat.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatWatch {
    beat: u64,
    changed: Instant,
}

impl HeartbeatWatch {
    /// Begins to watch; the beat counts as fresh.
    pub fn new(beat: u64, now: Instant) -> Self {
        Self { beat, changed: now }
    }

    /// Looks at the beat; tells how long it has not changed.
    pub fn observe(&mut self, beat: u64, now: Instant) -> Nanos {
        if beat != self.beat {
            *self = Self::new(beat, now);
        }
        now.since(self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_last_change() {
        let mut watch = HeartbeatWatch::new(7, Instant::from_millis(100));
        assert_eq!(
            watch.observe(7, Instant::from_millis(350)),
            Nanos::from_millis(250)
        );
        assert_eq!(watch.observe(3, Instant::from_millis(400)), Nanos::ZERO);
        assert_eq!(
            watch.observe(3, Instant::from_millis(401)),
            Nanos::from_millis(1)
        );
    }
}
