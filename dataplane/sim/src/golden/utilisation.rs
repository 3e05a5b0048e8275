//! How much of a link one sender uses, by the length of the queue before it.

use millrace_base::Nanos;
use millrace_stack::CongestionControl;

use super::sheet::{Columns, Sheet, controls, row};
use super::trial::{ENDLESS, Sender, Way, at, lost};

const MEGABITS: u64 = 100;
const RTT: Nanos = Nanos::from_millis(50);
/// Queue in hundredths of the bandwidth-delay product, and loss in a million.
const QUEUES: [(u64, u32); 4] = [(25, 0), (100, 0), (200, 0), (100, 10_000)];
/// What is measured, in seconds: all of it, and the part after the beginning.
const FROM: u64 = 4;
const UNTIL: u64 = 12;
/// Runs with losses of their own, where segments are lost by chance: which of them meets which phase of an
/// algorithm moves one run by five percent.
const RUNS: u64 = 8;
/// How often the round trip is asked for.
const LOOK: Nanos = Nanos::from_millis(100);

const COLUMNS: &Columns = &[
    ("queue_bdp", 9),
    ("loss_%", 6),
    ("used_%", 7),
    ("least_%", 7),
    ("later_%", 7),
    ("rtt_ms", 7),
    ("lost", 7),
    ("retransmitted", 8),
    ("timeouts", 8),
];

const ABOUT: &str = "
How much of 100 Mbit/s one sender uses in 12 seconds, 50 ms away, by the length of the drop-tail
queue in bandwidth-delay products.
used: payload read, in percent of what fits; later: the same from second 4 on; rtt: the mean of
the smoothed round trip from then on; lost: by chance, in the queue, and by the receiver, which
remembers only so many holes. Where segments are lost by chance, all of it is the mean of eight runs;
least: what the run used that used least.";

/// The table.
pub(super) fn sheet() -> Sheet {
    let mut sheet = Sheet::new("utilisation", ABOUT);
    for control in controls() {
        sheet.begin(control.name(), COLUMNS);
        for (queue, loss_ppm) in QUEUES {
            sheet.play(move || cell(control, queue, loss_ppm));
        }
    }
    sheet
}

/// What one run comes to.
struct Run {
    used: f64,
    later: f64,
    rtt_ms: f64,
    lost: u64,
    retransmitted: u64,
    timeouts: u64,
}

fn cell(control: CongestionControl, queue: u64, loss_ppm: u32) -> Result<String, String> {
    let runs = if loss_ppm == 0 { 1 } else { RUNS };
    let all = (1..=runs)
        .map(|seed| run(control, queue, loss_ppm, seed))
        .collect::<Result<Vec<Run>, String>>()?;
    let mean = |of: fn(&Run) -> f64| all.iter().map(of).sum::<f64>() / runs as f64;
    let count = |of: fn(&Run) -> u64| (all.iter().map(of).sum::<u64>() / runs).to_string();
    let least = all.iter().map(|run| run.used).fold(f64::INFINITY, f64::min);
    Ok(row(
        COLUMNS,
        &[
            format!("{}", queue as f64 / 1e2),
            format!("{}", f64::from(loss_ppm) / 1e4),
            format!("{:.1}", mean(|run| run.used)),
            format!("{least:.1}"),
            format!("{:.1}", mean(|run| run.later)),
            format!("{:.1}", mean(|run| run.rtt_ms)),
            count(|run| run.lost),
            count(|run| run.retransmitted),
            count(|run| run.timeouts),
        ],
    ))
}

fn run(control: CongestionControl, queue: u64, loss_ppm: u32, seed: u64) -> Result<Run, String> {
    let mut way = Way::new(MEGABITS, RTT);
    way.queue_bytes = way.product() * queue / 100;
    way.loss_ppm = loss_ppm;
    let mut world = way.world(&[Sender::of(control, ENDLESS)], seed);
    world.play_until(at(Nanos::from_secs(FROM)))?;
    let before = world.read(0);
    let (mut now, mut looks, mut rtts) = (at(Nanos::from_secs(FROM)), 0, 0);
    while now < at(Nanos::from_secs(UNTIL)) {
        now = now.after(LOOK);
        world.play_until(now)?;
        rtts += u64::from(world.info(0).ok_or("the connection is gone")?.rtt);
        looks += 1;
    }
    let used = |bytes: u64, seconds: u64| {
        let megabits = bytes as f64 * 8e-6 / seconds as f64;
        100.0 * megabits / way.payload_megabits()
    };
    Ok(Run {
        used: used(world.read(0), UNTIL),
        later: used(world.read(0) - before, UNTIL - FROM),
        rtt_ms: rtts as f64 / f64::from(looks) / 1e3,
        lost: lost(&world),
        retransmitted: world.counter(1, "TcpRetransSegs"),
        timeouts: world.counter(1, "TcpExtTCPTimeouts"),
    })
}
