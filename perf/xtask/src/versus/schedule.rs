//! Which transfers there are, and which of them may run at the same time.
//!
//! Flows share no link, but they share the machine. A transfer on a path of a tenth of a millisecond
//! has it to itself, one sender after the other. The others run at the same time as long as the rates
//! that are expected of them add up to no more than a budget; the two senders of a comparison begin
//! together, so that both meet the same load. The slowest, which need hardly anything of the machine
//! but a quarter of an hour, begin before all others and run beside anything.

use std::time::Duration;

use super::Sender;

/// A transfer of whom no more is expected than this, in bits a second, is in nobody's way: a hundred
/// segments a second.
const SLOW: u64 = 1_200_000;

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

    /// Beside what its transfers may run.
    fn company(&self, link: u64) -> Company {
        if self.rtt < Duration::from_millis(1) {
            Company::Slow
        } else if self.expected(link) <= SLOW {
            Company::Any
        } else {
            Company::Budget
        }
    }

    /// What is expected of a sender, in bits a second: RFC 3155's square root for the algorithms that
    /// take loss for congestion. It is used to plan, not to judge.
    fn expected(&self, link: u64) -> u64 {
        /// Bits of a full segment.
        const SEGMENT: f64 = 1_448.0 * 8.0;
        if self.loss_ppm == 0 {
            return link;
        }
        if self.algorithm == "bbr" {
            // Only one of its versions keeps its rate where a fiftieth is lost.
            let is_half = self.loss_ppm >= 20_000;
            return if is_half { link / 2 } else { link };
        }
        let loss = f64::from(self.loss_ppm) / 1e6;
        let rate = 1.2 * SEGMENT / (self.rtt.as_secs_f64() * loss.sqrt());
        (rate as u64).min(link)
    }
}

/// Beside what a transfer may run, in the order in which they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Company {
    /// Beside anything, and anything beside it.
    Any,
    /// Beside those only.
    Slow,
    /// Beside others as far as the budget goes.
    Budget,
}

/// Transfers that are begun together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) cell: Cell,
    /// Counts from 0.
    pub(super) run: u32,
    pub(super) senders: Vec<Sender>,
    pub(super) company: Company,
    /// Bits a second that are expected of each sender.
    pub(super) expected: u64,
}

impl Round {
    fn expected_of_all(&self) -> u64 {
        self.expected.saturating_mul(self.senders.len() as u64)
    }
}

/// Every round of so many runs of these cells, in the order in which they are begun.
pub(super) fn rounds(cells: &[Cell], runs: u32, senders: &[Sender], link: u64) -> Vec<Round> {
    let mut rounds = Vec::new();
    for run in 0..runs {
        for cell in cells {
            let company = cell.company(link);
            let mut senders = senders.to_vec();
            if run % 2 == 1 {
                senders.reverse();
            }
            let apart = match company {
                Company::Slow => 1,
                Company::Any | Company::Budget => senders.len().max(1),
            };
            rounds.extend(senders.chunks(apart).map(|senders| Round {
                cell: *cell,
                run,
                senders: senders.to_vec(),
                company,
                expected: cell.expected(link),
            }));
        }
    }
    // Stable: runs of the quick ones stay spread over the whole time, as slow spells of the machine are.
    rounds.sort_by_key(|round| {
        let rate = match round.company {
            Company::Slow => 0,
            Company::Any | Company::Budget => round.expected_of_all(),
        };
        (round.company, rate)
    });
    rounds
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Transfers that bear only slow ones beside them.
    alone: usize,
    /// Bits a second that are expected of those in the budget.
    budgeted: u64,
}

impl Load {
    /// A transfer begins of which so much is expected.
    pub(super) fn add(&mut self, company: Company, expected: u64) {
        match company {
            Company::Any => {}
            Company::Slow => self.alone += 1,
            Company::Budget => self.budgeted += expected,
        }
    }

    /// It is over.
    pub(super) fn remove(&mut self, company: Company, expected: u64) {
        match company {
            Company::Any => {}
            Company::Slow => self.alone -= 1,
            Company::Budget => self.budgeted -= expected,
        }
    }
}

/// Which of the rounds that wait may begin now.
pub(super) fn next(waiting: &[Round], load: Load, budget: u64) -> Option<usize> {
    waiting.iter().position(|round| match round.company {
        Company::Any => true,
        Company::Slow => load == Load::default(),
        Company::Budget => {
            let fits = load.budgeted + round.expected_of_all() <= budget;
            load.alone == 0 && (fits || load.budgeted == 0)
        }
    })
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
    fn the_slowest_begin_then_short_paths_one_after_the_other_then_the_slower_of_the_others() {
        let cells = [
            cell("bbr", 20_000, 10_000),
            cell("reno", 20_000, 30_000),
            cell("reno", 100_000, 30_000),
            cell("reno", 100, 30_000),
        ];
        let rounds = rounds(&cells, 2, &[Sender::Millrace, Sender::Linux], LINK);
        let order: Vec<_> = rounds
            .iter()
            .map(|r| (r.cell.rtt.as_micros(), r.run, r.senders.len()))
            .collect();
        let expected = [
            (100_000, 0, 2),
            (100_000, 1, 2),
            (100, 0, 1),
            (100, 0, 1),
            (100, 1, 1),
            (100, 1, 1),
            (20_000, 0, 2),
            (20_000, 1, 2),
            (20_000, 0, 2),
            (20_000, 1, 2),
        ];
        assert_eq!(order, expected);
        assert_eq!(rounds[4].senders, [Sender::Linux], "in turn");
        assert_eq!(rounds[6].cell.algorithm, "reno");
        assert!(rounds[0].expected < 1_000_000, "{}", rounds[0].expected);
    }

    #[test]
    fn only_slow_ones_run_beside_a_short_path_and_no_more_than_the_budget_beside_others() {
        let cells = [
            cell("reno", 100, 0),
            cell("bbr", 20_000, 0),
            cell("reno", 100_000, 10_000),
            cell("reno", 100_000, 30_000),
        ];
        let all = rounds(&cells, 1, &[Sender::Millrace], LINK);
        let mut load = Load::default();
        let begin = |waiting: &[Round], load: &mut Load, budget| {
            let index = next(waiting, *load, budget)?;
            let round = &waiting[index];
            load.add(round.company, round.expected);
            Some((round.cell.rtt.as_micros(), round.cell.loss_ppm))
        };
        assert_eq!(
            begin(&all, &mut load, 2 * LINK),
            Some((100_000, 30_000)),
            "always"
        );
        assert_eq!(begin(&all[1..], &mut load, 2 * LINK), Some((100, 0)));
        assert_eq!(begin(&all[2..], &mut load, 2 * LINK), None, "it is alone");
        load.remove(Company::Slow, LINK);
        assert_eq!(
            begin(&all[2..], &mut load, LINK),
            Some((100_000, 10_000)),
            "the slower first"
        );
        assert_eq!(begin(&all[3..], &mut load, LINK), None, "no budget");
        assert_eq!(next(&all[1..2], load, 9 * LINK), None, "not alone");
        load.remove(Company::Budget, all[2].expected);
        assert_eq!(load, Load::default());
        // What is large waits, what is small passes it; with nothing beside it, it fits any budget.
        let swapped = [all[3].clone(), all[2].clone()];
        load.add(Company::Budget, LINK);
        assert_eq!(next(&swapped, load, LINK + 2_000_000), Some(1));
        assert_eq!(next(&swapped, Load::default(), 1), Some(0));
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
