//! How a sender comes back after a time at which nothing passed.

use std::collections::VecDeque;

use millrace_base::{Instant, Nanos};
use millrace_stack::CongestionControl;

use super::sheet::{Columns, Sheet, controls, row};
use super::trial::{ENDLESS, RECEIVER, Sender, Way, at, seconds};
use crate::link::Outage;
use crate::world::World;

const MEGABITS: u64 = 50;
const RTT: Nanos = Nanos::from_millis(50);
/// In milliseconds.
const OUTAGES: [u64; 6] = [100, 300, 1_000, 3_000, 10_000, 30_000];
/// When they begin.
const FROM: Nanos = Nanos::from_millis(4_010);
/// How far apart the looks are.
const LOOK: Nanos = Nanos::from_millis(5);
/// Looks that a rate is taken from: two round trips.
const LOOKS: usize = 20;
/// How long a sender is watched after the outage.
const WATCH: Nanos = Nanos::from_secs(15);

const COLUMNS: &Columns = &[
    ("outage_s", 8),
    ("rto_ms", 7),
    ("silent_ms", 9),
    ("half_ms", 8),
    ("nine_tenths_ms", 8),
    ("lost", 7),
    ("retransmitted", 8),
    ("timeouts", 8),
];

const ABOUT: &str = "
How a sender comes back when for a while nothing has passed in either direction.
Way: 50 Mbit/s, 50 ms, a drop-tail queue of one bandwidth-delay product; the sender has sent
for four seconds.
rto: the retransmission timeout, as it was backed off when the outage ended; silent: from the
end of the outage until something arrived; half, nine_tenths: until that much of the link was
used over two round trips. lost, retransmitted, timeouts: from the beginning of the outage
until then.";

/// The table.
pub(super) fn sheet() -> Sheet {
    let mut sheet = Sheet::new("outage", ABOUT);
    for control in controls() {
        sheet.begin(control.name(), COLUMNS);
        for outage_ms in OUTAGES {
            sheet.play(move || cell(control, outage_ms));
        }
    }
    sheet
}

/// Packets that arrived, those lost, retransmissions and timeouts.
fn counts(world: &World) -> [u64; 4] {
    let tally = world.towards(RECEIVER);
    [
        tally.taken,
        tally.all_lost(),
        world.counter(1, "TcpRetransSegs"),
        world.counter(1, "TcpExtTCPTimeouts"),
    ]
}

fn cell(control: CongestionControl, outage_ms: u64) -> Result<String, String> {
    let mut way = Way::new(MEGABITS, RTT);
    let (from, until) = (at(FROM), at(FROM).after(Nanos::from_millis(outage_ms)));
    way.outages = vec![Outage { from, until }];
    let mut world = way.world(&[Sender::of(control, ENDLESS)], 1);
    world.play_until(from)?;
    let before = counts(&world);
    world.play_until(until)?;
    let rto = world.info(0).ok_or("the connection is gone")?.rto;
    let [silent, half, nine_tenths] = watch(&mut world, &way, until)?;
    let after = counts(&world);
    let since = |number: usize| (after[number] - before[number]).to_string();
    let ms = |span: Option<f64>| span.map_or("-".to_owned(), |span| format!("{span:.0}"));
    Ok(row(
        COLUMNS,
        &[
            format!("{}", outage_ms as f64 / 1e3),
            format!("{:.0}", f64::from(rto) / 1e3),
            ms(silent),
            ms(half),
            ms(nine_tenths),
            since(1),
            since(2),
            since(3),
        ],
    ))
}

/// Milliseconds until something arrived, until half of the link was used, and nine tenths of it.
fn watch(world: &mut World, way: &Way, from: Instant) -> Result<[Option<f64>; 3], String> {
    let ms = |at: Instant| (seconds(at) - seconds(from)) * 1e3;
    let fits = way.payload_megabits() * 125e-6 * LOOK.as_nanos() as f64 * LOOKS as f64;
    let packets = fits / super::trial::MSS as f64;
    let (mut found, mut looks) = ([None; 3], VecDeque::new());
    let [first, ..] = counts(world);
    let mut now = from;
    while now < from.after(WATCH) && found.contains(&None) {
        now = now.after(LOOK);
        world.play_until(now)?;
        let taken = world.towards(RECEIVER).taken;
        looks.push_back(taken);
        if looks.len() > LOOKS + 1 {
            looks.pop_front();
        }
        let rate = (taken - looks.front().copied().unwrap_or(first)) as f64;
        let reached = [taken > first, rate >= packets / 2.0, rate >= packets * 0.9];
        for (found, _) in found
            .iter_mut()
            .zip(reached)
            .filter(|(_, reached)| *reached)
        {
            found.get_or_insert(ms(now));
        }
    }
    Ok(found)
}
