//! How long short flows take.

use millrace_base::Nanos;
use millrace_stack::CongestionControl;

use super::sheet::{Columns, Sheet, controls, mean, row};
use super::trial::{Sender, Way, at};

const MEGABITS: u64 = 100;
/// In milliseconds.
const RTTS: [u64; 3] = [10, 50, 200];
const BYTES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// In a million.
const LOSSES: [u32; 3] = [0, 10_000, 30_000];
/// Flows of a row with losses.
const FLOWS: u64 = 40;
/// None takes longer.
const PATIENCE: Nanos = Nanos::from_secs(2_000);

const COLUMNS: &Columns = &[
    ("kB", 5),
    ("rtt_ms", 6),
    ("loss_%", 6),
    ("ideal_ms", 8),
    ("mean_ms", 8),
    ("median_ms", 8),
    ("p90_ms", 8),
    ("worst_ms", 8),
    ("timeouts", 8),
];

const ABOUT: &str = "
How long short flows take, from the SYN to the last byte read.
Way: 100 Mbit/s, a drop-tail queue of one bandwidth-delay product, at least 100 packets; loss by
chance towards the receiver, SYNs among them. 40 flows that know nothing of each other, 1
without loss.
ideal: doubling from ten segments, then the link's rate, nothing lost; timeouts: of a flow.";

/// The table.
pub(super) fn sheet() -> Sheet {
    let mut sheet = Sheet::new("completion", ABOUT);
    for control in controls() {
        sheet.begin(control.name(), COLUMNS);
        for bytes in BYTES {
            for rtt_ms in RTTS {
                for loss_ppm in LOSSES {
                    let mut way = Way::new(MEGABITS, Nanos::from_millis(rtt_ms));
                    way.loss_ppm = loss_ppm;
                    sheet.play(move || cell(&way, control, bytes));
                }
            }
        }
    }
    sheet
}

fn cell(way: &Way, control: CongestionControl, bytes: u64) -> Result<String, String> {
    let flows = if way.loss_ppm == 0 { 1 } else { FLOWS };
    let (mut times, mut timeouts) = (Vec::new(), 0);
    for seed in 1..=flows {
        let mut world = way.world(&[Sender::of(control, bytes)], seed);
        world.play_until(at(PATIENCE))?;
        let took = world.took(0).ok_or("a flow does not end")?;
        times.push(took.as_nanos() as f64 / 1e6);
        timeouts += world.counter(1, "TcpExtTCPTimeouts");
    }
    times.sort_by(f64::total_cmp);
    let at_percent = |percent: usize| times[(times.len() - 1) * percent / 100];
    Ok(row(
        COLUMNS,
        &[
            (bytes / 1_000).to_string(),
            way.rtt.as_millis().to_string(),
            format!("{}", f64::from(way.loss_ppm) / 1e4),
            format!("{:.1}", way.ideal_seconds(bytes) * 1e3),
            format!("{:.1}", mean(times.iter().copied())),
            format!("{:.1}", at_percent(50)),
            format!("{:.1}", at_percent(90)),
            format!("{:.1}", at_percent(100)),
            format!("{:.2}", timeouts as f64 / flows as f64),
        ],
    ))
}
