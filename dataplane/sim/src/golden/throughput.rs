//! Throughput and retransmissions of one long transfer, by loss and round trip.

use millrace_base::Nanos;
use millrace_stack::CongestionControl;

use super::sheet::{Columns, Sheet, controls, mean, row};
use super::trial::{MSS, Sender, Way, at, lost};

/// Long enough that slow start is not all of it.
const BYTES: u64 = 8_000_000;
/// Worlds that a row with losses is the mean of.
const SEEDS: u64 = 3;
/// Nothing here takes longer.
const PATIENCE: Nanos = Nanos::from_secs(20_000);
/// In a million.
const LOSSES: [u32; 5] = [0, 100, 1_000, 10_000, 50_000];
/// In microseconds, with the Mbit/s of a way of that length.
const WAYS: [(u64, u64); 4] = [(100, 1_000), (10_000, 100), (50_000, 100), (200_000, 100)];

const COLUMNS: &Columns = &[
    ("rtt_ms", 6),
    ("loss_%", 6),
    ("mbit/s", 8),
    ("bound", 8),
    ("of_bound_%", 10),
    ("lost", 8),
    ("retransmitted", 8),
    ("timeouts", 8),
    ("spurious", 8),
];

const ABOUT: &str = "
Throughput and retransmissions of one transfer of 8 MB, from the SYN to the last byte read.
Way: 100 Mbit/s (1 Gbit/s where the round trip is 0.1 ms), a drop-tail queue of one
bandwidth-delay product, at least 100 packets; loss by chance towards the receiver. Mean of 3
seeds, of 1 without loss.
bound: Mbit/s of payload that are possible (doubling from ten segments, then the link's rate),
and with losses no more than Mathis' formula 1.22 MSS / (RTT sqrt(p)), cubic RFC 9438's
average window where that is more; bbr is not bound by losses.
lost: packets that chance and the queue dropped, and those that the receiver did, because they
left more holes than it remembers; retransmitted, timeouts: of the sender; spurious: timeouts
that it took back.";

/// The table.
pub(super) fn sheet() -> Sheet {
    let mut sheet = Sheet::new("throughput", ABOUT);
    for control in controls() {
        sheet.begin(control.name(), COLUMNS);
        for (rtt_us, megabits) in WAYS {
            for loss_ppm in LOSSES {
                let mut way = Way::new(megabits, Nanos::from_micros(rtt_us));
                way.loss_ppm = loss_ppm;
                sheet.play(move || cell(&way, control));
            }
        }
    }
    sheet
}

/// One transfer.
struct Transfer {
    megabits: f64,
    lost: f64,
    retransmitted: f64,
    timeouts: f64,
    spurious: f64,
}

fn cell(way: &Way, control: CongestionControl) -> Result<String, String> {
    let seeds = if way.loss_ppm == 0 { 1 } else { SEEDS };
    let transfers: Result<Vec<Transfer>, String> = (1..=seeds)
        .map(|seed| transfer(way, control, seed))
        .collect();
    let transfers = transfers?;
    let of = |field: fn(&Transfer) -> f64| mean(transfers.iter().map(field));
    let (megabits, bound) = (of(|it| it.megabits), bound(way, control));
    Ok(row(
        COLUMNS,
        &[
            format!("{}", way.rtt.as_micros() as f64 / 1e3),
            format!("{}", f64::from(way.loss_ppm) / 1e4),
            format!("{megabits:.2}"),
            format!("{bound:.2}"),
            format!("{:.0}", 100.0 * megabits / bound),
            format!("{:.1}", of(|it| it.lost)),
            format!("{:.1}", of(|it| it.retransmitted)),
            format!("{:.1}", of(|it| it.timeouts)),
            format!("{:.1}", of(|it| it.spurious)),
        ],
    ))
}

fn transfer(way: &Way, control: CongestionControl, seed: u64) -> Result<Transfer, String> {
    let mut world = way.world(&[Sender::of(control, BYTES)], seed);
    world.play_until(at(PATIENCE))?;
    let took = world.took(0).ok_or("a transfer does not end")?;
    Ok(Transfer {
        megabits: BYTES as f64 * 8e3 / took.as_nanos() as f64,
        lost: lost(&world) as f64,
        retransmitted: world.counter(1, "TcpRetransSegs") as f64,
        timeouts: world.counter(1, "TcpExtTCPTimeouts") as f64,
        spurious: world.counter(1, "TcpExtTCPSpuriousRTOs") as f64,
    })
}

/// What may be expected at most, in Mbit/s of payload.
fn bound(way: &Way, control: CongestionControl) -> f64 {
    let ideal = BYTES as f64 * 8e-6 / way.ideal_seconds(BYTES);
    let (loss, rtt) = (
        f64::from(way.loss_ppm) / 1e6,
        way.rtt.as_micros() as f64 / 1e6,
    );
    if loss == 0.0 {
        return ideal;
    }
    let segments = match control.name() {
        "bbr" => f64::INFINITY,
        "cubic" => reno_window(loss).max(cubic_window(loss, rtt)),
        _ => reno_window(loss),
    };
    (ideal * (1.0 - loss)).min(segments * MSS as f64 * 8e-6 / rtt)
}

/// The mean window in segments (Mathis and others 1997).
fn reno_window(loss: f64) -> f64 {
    (1.5 / loss).sqrt()
}

/// RFC 9438 section 5.1, with C = 0.4 and beta = 0.7.
fn cubic_window(loss: f64, rtt: f64) -> f64 {
    1.054 * (rtt / loss).powf(0.75)
}
