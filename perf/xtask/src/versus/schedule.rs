//! Which transfers there are, and which of them may run at the same time.
//!
//! Flows share no link, but they share the machine. A transfer on a path of a tenth of a millisecond
//! has it to itself, one sender after the other. The others run at the same time as long as the rates
//! that are expected of them add up to no more than a budget; the two senders of a comparison begin
//! together, so that both meet the same load. The slowest come first: they take minutes, and everything
//! else fits beside them.

use std::time::Duration;

use super::Sender;

/// A comparison: one line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) algorithm: &'static str,
    pub(super) rtt: Duration,
    pub(super) loss_ppm: u32,
}

impl Cell {
    /// The line's name: `cubic, RTT 20 ms, loss 0.1 %`.
    pub(super) fn name(&self) -> String {
        let rtt = self.rtt.as_secs_f64() * 1_000.0;
        let loss = f64::from(self.loss_ppm) / 10_000.0;
        format!("{}, RTT {rtt} ms, loss {loss} %", self.algorithm)
    }

    /// The seed of a run's dice: the same for both senders, and for all algorithms, but no other path.
    pub(super) fn seed(&self, run: u32) -> u64 {
        let path = u64::try_from(self.rtt.as_micros()).unwrap_or(u64::MAX);
        path << 40 ^ u64::from(self.loss_ppm) << 8 ^ u64::from(run)
    }

    /// Whether its transfers must have the machine to themselves.
    fn is_alone(&self) -> bool {
        self.rtt < Duration::from_millis(1)
    }

    /// What is expected of a sender, in bits a second: RFC 3155's square root for the algorithms that
    /// take loss for congestion. It is used to plan, not to judge.
    fn expected(&self, link: u64) -> u64 {
        /// Bits of a full segment.
        const SEGMENT: f64 = 1_448.0 * 8.0;
        if self.loss_ppm == 0 || self.algorithm == "bbr" {
            return link;
        }
        let loss = f64::from(self.loss_ppm) / 1e6;
        let rate = 1.2 * SEGMENT / (self.rtt.as_secs_f64() * loss.sqrt());
        (rate as u64).min(link)
    }
}

/// Transfers that are begun together, or one after the other when they are alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) cell: Cell,
    /// Counts from 0.
    pub(super) run: u32,
    /// Who goes first when they go one after the other.
    pub(super) senders: Vec<Sender>,
    pub(super) is_alone: bool,
    /// Bits a second that all of it is expected to take.
    pub(super) expected: u64,
}

/// Every round of so many runs of these cells, in the order in which they are begun.
pub(super) fn rounds(cells: &[Cell], runs: u32, senders: &[Sender], link: u64) -> Vec<Round> {
    let mut rounds = Vec::new();
    for run in 0..runs {
        for cell in cells {
            let mut senders = senders.to_vec();
            if run % 2 == 1 {
                senders.reverse();
            }
            let expected = cell.expected(link) * senders.len() as u64;
            rounds.push(Round {
                cell: *cell,
                run,
                senders,
                is_alone: cell.is_alone(),
                expected,
            });
        }
    }
    // Stable: runs of the quick ones stay spread over the whole time, as slow spells of the machine are.
    rounds.sort_by_key(|round| {
        (
            !round.is_alone,
            if round.is_alone { 0 } else { round.expected },
        )
    });
    rounds
}

/// Which of the rounds that wait may begin while so many bits a second are under way already.
pub(super) fn next(waiting: &[Round], under_way: u64, budget: u64) -> Option<usize> {
    let may = |round: &Round| under_way == 0 || under_way + round.expected <= budget;
    match waiting.first() {
        // Those that want to be alone come first, and nothing passes them.
        Some(first) if first.is_alone => (under_way == 0).then_some(0),
        _ => waiting.iter().position(may),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: u64 = 100_000_000;

    fn cell(algorithm: &'static str, rtt_us: u64, loss_ppm: u32) -> Cell {
        Cell {
            algorithm,
            rtt: Duration::from_micros(rtt_us),
            loss_ppm,
        }
    }

    #[test]
    fn the_name_of_a_cell_says_its_path() {
        let name = cell("cubic", 100, 1_000).name();
        assert_eq!(name, "cubic, RTT 0.1 ms, loss 0.1 %");
        assert_eq!(cell("bbr", 20_000, 0).name(), "bbr, RTT 20 ms, loss 0 %");
    }

    #[test]
    fn short_paths_are_alone_and_first_then_the_slowest_of_the_others() {
        let cells = [
            cell("bbr", 20_000, 10_000),
            cell("reno", 100_000, 30_000),
            cell("reno", 100, 30_000),
        ];
        let rounds = rounds(&cells, 2, &[Sender::Millrace, Sender::Linux], LINK);
        let order: Vec<_> = rounds
            .iter()
            .map(|r| (r.cell.rtt.as_micros(), r.run))
            .collect();
        let expected = [
            (100, 0),
            (100, 1),
            (100_000, 0),
            (100_000, 1),
            (20_000, 0),
            (20_000, 1),
        ];
        assert_eq!(order, expected);
        assert_eq!(rounds[1].senders, [Sender::Linux, Sender::Millrace]);
        assert!(rounds[2].expected < 2_000_000, "{}", rounds[2].expected);
    }

    #[test]
    fn nothing_runs_beside_one_that_is_alone_and_no_more_than_the_budget_else() {
        let cells = [
            cell("reno", 100, 0),
            cell("bbr", 20_000, 0),
            cell("reno", 100_000, 30_000),
        ];
        let all = rounds(&cells, 1, &[Sender::Millrace], LINK);
        assert_eq!(next(&all, 0, 2 * LINK), Some(0));
        assert_eq!(next(&all, 1, 2 * LINK), None);
        let shared = &all[1..];
        assert_eq!(next(shared, 0, LINK / 2), Some(0), "slow");
        // What is large waits, what is small passes it.
        let swapped = [shared[1].clone(), shared[0].clone()];
        assert_eq!(next(&swapped, LINK, LINK + 2_000_000), Some(1));
        assert_eq!(next(&swapped, 0, 1), Some(0), "alone it fits any budget");
    }

    #[test]
    fn both_senders_and_all_algorithms_meet_the_same_dice_on_one_path_and_others_on_another() {
        let seed = cell("reno", 20_000, 1_000).seed(3);
        assert_eq!(seed, cell("bbr", 20_000, 1_000).seed(3));
        assert_ne!(seed, cell("reno", 20_000, 10_000).seed(3));
        assert_ne!(seed, cell("reno", 100_000, 1_000).seed(3));
        assert_ne!(seed, cell("reno", 20_000, 1_000).seed(4));
    }
}
