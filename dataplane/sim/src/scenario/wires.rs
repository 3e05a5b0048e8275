//! The wires of a seed: what the clients' are like, and the server's, where everything meets.

use millrace_base::{Instant, Nanos};

use crate::dice::{Dice, MILLION};
use crate::link::{FlightPlan, LinkPlan, LossPlan, Outage, QueuePlan, Shift};

/// Bytes of a full packet.
const PACKET_BYTES: u64 = 1_538;

/// The wire of each client, both ways alike; the server's, up and down.
pub(super) fn draw(dice: &mut Dice, heals_at: Instant) -> (LinkPlan, (LinkPlan, LinkPlan)) {
    let near = LinkPlan {
        flight: FlightPlan {
            delay: Nanos::from_micros(dice.spread(10, 20_000).into()),
            ..FlightPlan::default()
        },
        ..LinkPlan::default()
    };
    let up = link(dice, heals_at);
    // Half of the paths are alike both ways.
    let down = if dice.one_in(2) {
        up.clone()
    } else {
        link(dice, heals_at)
    };
    (near, (up, down))
}

fn link(dice: &mut Dice, heals_at: Instant) -> LinkPlan {
    let rate = match dice.one_in(4) {
        true => 0,
        false => u64::from(dice.spread(100_000, 125_000_000)),
    };
    let delay = Nanos::from_micros(dice.spread(20, 100_000).into());
    // Half to four times what is under way in one direction and back.
    let under_way = rate * delay.as_micros() * 2 / 1_000_000;
    let bytes = (under_way * u64::from(dice.between(1, 8)) / 2).max(8 * PACKET_BYTES);
    let queue = match dice.between(0, 3) {
        0 | 1 => QueuePlan::DropTail { bytes },
        2 => QueuePlan::Red {
            bytes,
            low: bytes / 6,
            high: bytes / 2,
        },
        _ => QueuePlan::CoDel {
            bytes,
            target: Nanos::from_millis(5),
            interval: Nanos::from_millis(100),
        },
    };
    let mut plan = LinkPlan {
        rate,
        queue,
        flight: flight(dice, delay, heals_at),
        loss: loss(dice),
        heals_at,
        ..LinkPlan::default()
    };
    if dice.one_in(4) {
        plan.duplicate_ppm = dice.spread(100, 50_000);
    }
    if dice.one_in(4) {
        plan.corrupt_ppm = dice.spread(100, 50_000);
    }
    if rate > 0 && dice.one_in(8) {
        let other = u64::from(dice.spread(100_000, 125_000_000));
        plan.rate_shift = Some((instant(dice, heals_at), other));
    }
    if dice.one_in(6) {
        plan.outages = outages(dice, heals_at);
    }
    plan
}

fn flight(dice: &mut Dice, delay: Nanos, heals_at: Instant) -> FlightPlan {
    let mut plan = FlightPlan {
        delay,
        keeps_order: true,
        ..FlightPlan::default()
    };
    if dice.one_in(3) {
        plan.jitter = Nanos::new(delay.as_nanos() / u64::from(dice.between(1, 10)));
        plan.keeps_order = !dice.one_in(4);
    }
    if dice.one_in(3) {
        plan.held_ppm = dice.spread(100, 100_000);
        plan.held = Nanos::from_micros(dice.spread(100, 200_000).into());
    }
    if dice.one_in(6) {
        let at = instant(dice, heals_at);
        let delay = Nanos::from_micros(dice.spread(20, 100_000).into());
        plan.shifts = vec![Shift { at, delay }];
    }
    plan
}

fn loss(dice: &mut Dice) -> LossPlan {
    match dice.between(0, 4) {
        0 | 1 => LossPlan::None,
        2 | 3 => LossPlan::Bernoulli {
            ppm: dice.spread(100, 100_000),
        },
        _ => LossPlan::Gilbert {
            turns_bad_ppm: dice.spread(100, 20_000),
            turns_good_ppm: dice.spread(20_000, 500_000),
            good_ppm: 0,
            bad_ppm: dice.between(MILLION / 4, MILLION),
        },
    }
}

/// Up to three, each of a millisecond to eight seconds.
fn outages(dice: &mut Dice, heals_at: Instant) -> Vec<Outage> {
    let count = dice.between(1, 3);
    let draw = |_| {
        let from = instant(dice, heals_at);
        let lasts = Nanos::from_millis(dice.spread(1, 8_000).into());
        let until = from.after(lasts).min(heals_at);
        Outage { from, until }
    };
    (0..count).map(draw).collect()
}

/// Some instant before the wires are well; early ones are more likely.
fn instant(dice: &mut Dice, heals_at: Instant) -> Instant {
    let span = heals_at.since(super::BEGINNING).as_millis().max(1);
    let after = dice.spread(1, span.min(u64::from(u32::MAX)) as u32);
    super::BEGINNING.after(Nanos::from_millis(after.into()))
}
