//! The window of one sender, round trip by round trip, through everything that moves it.

use millrace_base::Nanos;
use millrace_socket::TcpInfo;
use millrace_stack::CongestionControl;

use super::sheet::{Columns, Sheet, controls, row};
use super::trial::{ENDLESS, RECEIVER, Sender, Way, at};
use crate::link::{Outage, Strike};

/// Of one round trip, in milliseconds.
const ROUND_MS: u64 = 100;
const ROUNDS: u64 = 90;
/// When the first packets from then on are lost, in milliseconds, and how many.
const STRIKES: [(u64, u32); 3] = [(620, 1), (2_620, 1), (4_620, 10)];
/// When nothing passes, in milliseconds.
const OUTAGE_MS: [u64; 2] = [6_600, 6_900];
/// A threshold that is none (Linux: `TCP_INFINITE_SSTHRESH`).
const INFINITE: u32 = 0x7fff_ffff;

const COLUMNS: &Columns = &[
    ("round", 5),
    ("cwnd", 6),
    ("ssthresh", 8),
    ("flight", 6),
    ("state", 8),
    ("arrived", 7),
    ("event", 20),
];

const ABOUT: &str = "
The window of one sender, in segments, in the middle of each round trip.
Way: 100 Mbit/s, 100 ms (863 full packets), a queue that never overflows. One packet is lost in
slow start and one in avoidance, then ten in a row, then nothing passes for 0.3 s.
flight: segments believed to be on their way; arrived: packets that reached the receiver since
the row above; state: of recovery, by Linux's names.";

/// The table.
pub(super) fn sheet() -> Sheet {
    let mut sheet = Sheet::new("cwnd", ABOUT);
    for control in controls() {
        sheet.begin(control.name(), COLUMNS);
        sheet.play(move || rounds(control));
    }
    sheet
}

fn rounds(control: CongestionControl) -> Result<String, String> {
    let mut way = Way::new(100, Nanos::from_millis(ROUND_MS));
    way.queue_bytes = 1 << 30;
    way.strikes = STRIKES
        .map(|(from_ms, packets)| Strike {
            from: at(Nanos::from_millis(from_ms)),
            packets,
        })
        .to_vec();
    let [from, until] = OUTAGE_MS.map(|ms| at(Nanos::from_millis(ms)));
    way.outages = vec![Outage { from, until }];
    let mut world = way.world(&[Sender::of(control, ENDLESS)], 1);
    let (mut lines, mut arrived) = (Vec::new(), 0);
    for round in 1..=ROUNDS {
        world.play_until(at(Nanos::from_millis(round * ROUND_MS + ROUND_MS / 2)))?;
        let info = world.info(0).ok_or("the connection is gone")?;
        let taken = world.towards(RECEIVER).taken;
        lines.push(line(round, &info, taken - arrived));
        arrived = taken;
    }
    Ok(lines.join("\n"))
}

fn line(round: u64, info: &TcpInfo, arrived: u64) -> String {
    let flight = (info.unacked + info.retrans).saturating_sub(info.sacked + info.lost);
    let threshold = match info.snd_ssthresh {
        INFINITE => "-".to_owned(),
        segments => segments.to_string(),
    };
    let state = match info.ca_state {
        0 => "Open",
        1 => "Disorder",
        2 => "CWR",
        3 => "Recovery",
        _ => "Loss",
    };
    row(
        COLUMNS,
        &[
            round.to_string(),
            info.snd_cwnd.to_string(),
            threshold,
            flight.to_string(),
            state.to_owned(),
            arrived.to_string(),
            event(round).to_owned(),
        ],
    )
}

/// What happened since the middle of the round before.
fn event(round: u64) -> &'static str {
    let until = round * ROUND_MS + ROUND_MS / 2;
    let since = until - ROUND_MS..until;
    let packets = |(_, packets): &(u64, u32)| *packets;
    let struck = STRIKES.iter().find(|(from, _)| since.contains(from));
    match struck.map(packets) {
        Some(1) => "1 packet is lost",
        Some(_) => "10 packets are lost",
        None if since.contains(&OUTAGE_MS[0]) => "nothing passes",
        None if since.contains(&OUTAGE_MS[1]) => "all is well again",
        None => "",
    }
}
