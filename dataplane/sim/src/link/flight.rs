//! The length of the wire: delay, jitter, packets that overtake others, a path that changes.

use std::collections::BTreeMap;

use millrace_base::{Instant, Nanos};

use crate::dice::Dice;

/// How long packets are on their way.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlightPlan {
    pub(crate) delay: Nanos,
    /// Up to so much more, another for each packet.
    pub(crate) jitter: Nanos,
    /// Jitter keeps the order: a packet waits for the one before it.
    pub(crate) keeps_order: bool,
    /// Packets that are held back, in a million.
    pub(crate) held_ppm: u32,
    /// For how long at most.
    pub(crate) held: Nanos,
    /// Other paths, in the order of their instants.
    pub(crate) shifts: Vec<Shift>,
}

/// From an instant on the path is another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift {
    pub(crate) at: Instant,
    pub(crate) delay: Nanos,
}

/// The packets on their way.
#[derive(Debug)]
pub(super) struct Flight {
    plan: FlightPlan,
    dice: Dice,
    heals_at: Instant,
    /// By arrival and, of one arrival, by departure.
    packets: BTreeMap<(Instant, u64), Vec<u8>>,
    started: u64,
    last_arrival: Instant,
}

impl Flight {
    pub(super) const fn new(plan: FlightPlan, dice: Dice, heals_at: Instant) -> Self {
        Self {
            plan,
            dice,
            heals_at,
            packets: BTreeMap::new(),
            started: 0,
            last_arrival: Instant::ZERO,
        }
    }

    /// A packet departs.
    pub(super) fn start(&mut self, now: Instant, packet: Vec<u8>) {
        let shifts = self.plan.shifts.iter();
        let delay = shifts
            .rev()
            .find(|shift| shift.at <= now)
            .map_or(self.plan.delay, |shift| shift.delay);
        let mut arrival = now.after(delay).after(self.dice.below(self.plan.jitter));
        if self.plan.keeps_order {
            arrival = arrival.max(self.last_arrival);
            self.last_arrival = arrival;
        }
        if now < self.heals_at && self.dice.happens(self.plan.held_ppm) {
            arrival = arrival.after(self.dice.below(self.plan.held));
        }
        self.started += 1;
        self.packets.insert((arrival, self.started), packet);
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let first = self.packets.first_key_value();
        first.map_or(Instant::NEVER, |((at, _), _)| *at)
    }

    /// The next packet that has arrived.
    pub(super) fn land(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.packets.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
