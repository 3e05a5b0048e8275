//! One direction of one wire, and everything that may go wrong on it.
//!
//! ```text
//!   offer -> outage -> mtu -> mangling -> loss -> corruption -> duplication -> bottleneck -> flight
//!                              (of ECN)                                        (rate, queue) (delay, order)
//! ```
//!
//! A link knows nothing of TCP. Faults of chance end at an instant that the plan says, so that
//! whoever waits for progress knows from when on it is due; rate, queue and delay stay.

mod bottleneck;
mod corrupt;
mod duplicate;
mod flight;
mod loss;
mod mangle;
mod mtu;
mod outage;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use bottleneck::Bottleneck;
pub(crate) use flight::{FlightPlan, Shift};
pub(crate) use loss::LossPlan;
pub(crate) use mangle::Mangling;
pub(crate) use mtu::{MtuPlan, Verdict};
pub(crate) use outage::{Outage, Strike};
pub(crate) use queue::QueuePlan;

use millrace_base::Instant;

use crate::dice::Dice;

/// What one direction of a wire is like.
#[derive(Clone, Debug)]
pub(crate) struct LinkPlan {
    /// Bytes per second; 0 is no limit.
    pub(crate) rate: u64,
    /// Another rate from an instant on.
    pub(crate) rate_shift: Option<(Instant, u64)>,
    pub(crate) queue: QueuePlan,
    pub(crate) flight: FlightPlan,
    pub(crate) loss: LossPlan,
    /// Packets that come twice, in a million.
    pub(crate) duplicate_ppm: u32,
    /// Packets with a wrong byte, in a million.
    pub(crate) corrupt_ppm: u32,
    pub(crate) mtu: Option<MtuPlan>,
    pub(crate) mangling: Option<Mangling>,
    pub(crate) outages: Vec<Outage>,
    pub(crate) strikes: Vec<Strike>,
    /// When chance ends.
    pub(crate) heals_at: Instant,
}

impl Default for LinkPlan {
    /// A wire without a fault, a limit or a length.
    fn default() -> Self {
        Self {
            rate: 0,
            rate_shift: None,
            queue: QueuePlan::DropTail { bytes: 1 << 30 },
            flight: FlightPlan::default(),
            loss: LossPlan::None,
            duplicate_ppm: 0,
            corrupt_ppm: 0,
            mtu: None,
            mangling: None,
            outages: Vec::new(),
            strikes: Vec::new(),
            heals_at: Instant::NEVER,
        }
    }
}

/// One direction of a wire.
#[derive(Debug)]
pub(crate) struct Link {
    plan: LinkPlan,
    dice: Dice,
    loss: loss::Loss,
    bottleneck: Bottleneck,
    flight: flight::Flight,
    pub(crate) tally: Tally,
}

/// What became of the packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) offered: u64,
    pub(crate) taken: u64,
    /// Bytes of those.
    pub(crate) bytes_taken: u64,
    pub(crate) lost: u64,
    pub(crate) too_large: u64,
    pub(crate) corrupted: u64,
    pub(crate) duplicated: u64,
    /// Dropped by the queue.
    pub(crate) dropped: u64,
    /// Marked by the queue.
    pub(crate) marked: u64,
}

impl Tally {
    /// Packets that did not arrive.
    pub(crate) const fn all_lost(&self) -> u64 {
        self.lost + self.too_large + self.dropped
    }
}

impl Link {
    pub(crate) fn new(plan: LinkPlan, mut dice: Dice) -> Self {
        let bottleneck = Bottleneck::new(plan.rate, plan.rate_shift, &plan.queue, dice.fork());
        let flight = flight::Flight::new(plan.flight.clone(), dice.fork(), plan.heals_at);
        Self {
            loss: loss::Loss::new(plan.loss, dice.fork()),
            dice,
            bottleneck,
            flight,
            tally: Tally::default(),
            plan,
        }
    }

    /// A packet enters. What comes back is a router's answer to it.
    pub(crate) fn offer(&mut self, now: Instant, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        self.tally.offered += 1;
        let struck = outage::strikes(&mut self.plan.strikes, now);
        if struck || outage::is_down(&self.plan.outages, now) {
            self.tally.lost += 1;
            return None;
        }
        if let Some(mtu) = &self.plan.mtu {
            match mtu.judge(now, &packet) {
                Verdict::Passes => {}
                Verdict::Vanishes => {
                    self.tally.too_large += 1;
                    return None;
                }
                Verdict::Answered(answer) => {
                    self.tally.too_large += 1;
                    return Some(answer);
                }
            }
        }
        let has_chance = now < self.plan.heals_at;
        if let Some(mangling) = self.plan.mangling {
            mangling.mangle(&mut packet, &mut self.dice, has_chance);
        }
        if has_chance {
            if self.loss.strikes() {
                self.tally.lost += 1;
                return None;
            }
            if self.dice.happens(self.plan.corrupt_ppm) {
                self.tally.corrupted += 1;
                corrupt::damage(&mut packet, &mut self.dice);
            }
            if self.dice.happens(self.plan.duplicate_ppm) {
                self.tally.duplicated += 1;
                let twin = duplicate::twin(&packet);
                self.bottleneck.enqueue(now, twin);
            }
        }
        self.bottleneck.enqueue(now, packet);
        self.advance(now);
        None
    }

    /// How long a packet has waited in the queue, on average.
    #[cfg(test)]
    pub(crate) const fn mean_wait(&self) -> millrace_base::Nanos {
        self.bottleneck.mean_wait()
    }

    /// When something moves next.
    pub(crate) fn next_deadline(&self) -> Instant {
        let (queue, flight) = (self.bottleneck.next_deadline(), self.flight.next_deadline());
        queue.min(flight)
    }

    /// The next packet that arrives by `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.advance(now);
        let packet = self.flight.land(now)?;
        self.tally.taken += 1;
        self.tally.bytes_taken += packet.len() as u64;
        Some(packet)
    }

    /// Lets the bottleneck send what it can.
    fn advance(&mut self, now: Instant) {
        while let Some((at, packet)) = self.bottleneck.dequeue(now) {
            self.flight.start(at, packet);
        }
        (self.tally.dropped, self.tally.marked) = self.bottleneck.counts();
    }
}
