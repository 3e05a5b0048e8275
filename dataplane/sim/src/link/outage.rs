//! Times at which nothing passes.

use millrace_base::Instant;

/// One of them: from the first instant up to the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outage {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

/// Whether one of them is now.
pub(super) fn is_down(outages: &[Outage], now: Instant) -> bool {
    outages
        .iter()
        .any(|outage| (outage.from..outage.until).contains(&now))
}
