//! How several senders share one link: of one algorithm, and half of them of another.

use millrace_base::Nanos;
use millrace_stack::CongestionControl;

use super::sheet::{Columns, Sheet, controls, mean, row};
use super::trial::{ENDLESS, RECEIVER, Sender, Way, at};
use crate::dice::Dice;

const MEGABITS: u64 = 20;
const RTT: Nanos = Nanos::from_millis(40);
const COUNTS: [usize; 4] = [2, 4, 8, 16];
/// All begin within this time, in milliseconds, at instants that the seed gives.
const BEGIN_WITHIN_MS: u32 = 1_000;
/// What is measured, in seconds.
const FROM: u64 = 7;
const UNTIL: u64 = 22;

const COLUMNS: &Columns = &[
    ("flows", 5),
    ("jain", 6),
    ("least_%", 7),
    ("most_%", 7),
    ("first_%", 7),
    ("second_%", 8),
    ("used_%", 6),
    ("lost", 7),
    ("retransmitted", 8),
    ("timeouts", 8),
];

const ABOUT: &str = "
How flows share a link of 20 Mbit/s and 40 ms with a drop-tail queue of one bandwidth-delay
product. All begin within the first second; measured from second 7 to second 22.
jain: Jain's index of fairness; least, most: the smallest and the largest share, in percent of a
fair one; first, second: the mean share of either algorithm, half of the flows having each;
used: payload that arrived, in percent of what fits. Packets and timeouts: of the whole time.";

/// Jain's index of fairness: 1 when all shares are equal, one part of their number when one has all.
pub(crate) fn jain(shares: &[u64]) -> f64 {
    let shares = shares.iter().map(|share| *share as f64);
    let (count, sum, squares) = shares.fold((0.0, 0.0, 0.0), |(count, sum, squares), share| {
        (count + 1.0, sum + share, squares + share * share)
    });
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (count * squares)
}

/// The table.
pub(super) fn sheet() -> Sheet {
    let mut sheet = Sheet::new("fairness", ABOUT);
    let controls = controls();
    for (number, first) in controls.iter().enumerate() {
        for second in controls.iter().skip(number) {
            let pair = [*first, *second];
            let name = match first == second {
                true => first.name().to_owned(),
                false => format!("{} and {}", first.name(), second.name()),
            };
            sheet.begin(&name, COLUMNS);
            for count in COUNTS {
                sheet.play(move || share(pair, count));
            }
        }
    }
    sheet
}

fn share(pair: [CongestionControl; 2], count: usize) -> Result<String, String> {
    let way = Way::new(MEGABITS, RTT);
    let mut dice = Dice::new(count as u64);
    let senders: Vec<Sender> = (0..count)
        .map(|number| Sender {
            control: pair[number % 2],
            starts_after: Nanos::from_millis(dice.between(0, BEGIN_WITHIN_MS).into()),
            bytes: ENDLESS,
        })
        .collect();
    let mut world = way.world(&senders, count as u64);
    world.play_until(at(Nanos::from_secs(FROM)))?;
    let before: Vec<u64> = (0..count).map(|flow| world.read(flow)).collect();
    world.play_until(at(Nanos::from_secs(UNTIL)))?;
    let shares: Vec<u64> = (0..count)
        .map(|flow| world.read(flow) - before[flow])
        .collect();
    let all = shares.iter().sum::<u64>() as f64;
    let percent = |bytes: f64| format!("{:.0}", 100.0 * bytes * count as f64 / all.max(1.0));
    let least = shares.iter().min().copied().unwrap_or(0) as f64;
    let most = shares.iter().max().copied().unwrap_or(0) as f64;
    let half = |first: usize| mean(shares.iter().skip(first).step_by(2).map(|it| *it as f64));
    let counted = |name: &str| {
        (1..=count)
            .map(|node| world.counter(node, name))
            .sum::<u64>()
    };
    let fits = way.payload_megabits() * 125e3 * (UNTIL - FROM) as f64;
    Ok(row(
        COLUMNS,
        &[
            count.to_string(),
            format!("{:.3}", jain(&shares)),
            percent(least),
            percent(most),
            percent(half(0)),
            percent(half(1)),
            format!("{:.1}", 100.0 * all / fits),
            world.towards(RECEIVER).all_lost().to_string(),
            counted("TcpRetransSegs").to_string(),
            counted("TcpExtTCPTimeouts").to_string(),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_one_for_equal_shares_and_a_part_for_one_winner() {
        assert!((jain(&[5, 5, 5, 5]) - 1.0).abs() < 1e-9);
        assert!((jain(&[0, 0, 9, 0]) - 0.25).abs() < 1e-9);
    }
}
