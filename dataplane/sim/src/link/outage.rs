//! Times at which nothing passes, and packets that are chosen to be lost.

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

/// The first so many packets from an instant on do not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Strike {
    pub(crate) from: Instant,
    pub(crate) packets: u32,
}

/// Whether one of them hits what passes now, which then has hit one less.
pub(super) fn strikes(strikes: &mut [Strike], now: Instant) -> bool {
    let due = |strike: &&mut Strike| strike.from <= now && strike.packets > 0;
    match strikes.iter_mut().find(due) {
        Some(strike) => {
            strike.packets -= 1;
            true
        }
        None => false,
    }
}
