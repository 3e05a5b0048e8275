//! The one place that reads clocks. Everything else takes `now` as an argument.

use millrace_base::Instant;

/// A monotonic clock that starts at one second, so that no reading is the zero that means "never".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

const FIRST_READING: Instant = Instant::from_millis(1_000);

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }

    /// The time.
    pub(crate) fn now(&self) -> Instant {
        let elapsed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        FIRST_READING.after(millrace_base::Nanos::new(elapsed))
    }
}

/// A number that differs from start to start, for jitter and tokens; not a secret.
pub(crate) fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos() as u64);
    nanos ^ u64::from(std::process::id()).rotate_left(40)
}
