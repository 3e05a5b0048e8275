//! From transfers to the table: means, spreads, and what was promised about them.

use millrace_report::Row;
use serde::Serialize;

use super::Sender;
use super::link::Tally;
use super::schedule::Cell;

/// One finished transfer; a line of `transfers.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Transfer {
    #[serde(skip)]
    pub(super) cell: Cell,
    pub(super) name: String,
    pub(super) sender: Sender,
    pub(super) run: u32,
    /// From the first segment of the connection to the last byte of its data.
    pub(super) seconds: f64,
    /// Millions of payload bits a second.
    pub(super) mbit_per_second: f64,
    /// What the relay saw.
    #[serde(flatten)]
    pub(super) tally: Tally,
    /// Why it did not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
}

impl std::fmt::Display for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, sender, run) = (&self.name, self.sender.name(), self.run + 1);
        if let Some(failure) = &self.failure {
            return write!(f, "{name:<30} {sender:<8} run {run}: FAILED: {failure}");
        }
        let Tally {
            segments,
            again,
            lost,
            overflowed,
            late_ns_max,
        } = self.tally;
        write!(
            f,
            "{name:<30} {sender:<8} run {run}: {:8.3} Mbit/s, {:7.2} s, {segments} segments, \
             {again} sent again, {lost} lost, {overflowed} too many, at most {:.1} ms late",
            self.mbit_per_second,
            self.seconds,
            late_ns_max as f64 / 1e6
        )
    }
}

/// What the runs of one sender in one cell come to.
struct Sum {
    mean: f64,
    spread: [f64; 2],
    again: f64,
    again_spread: [f64; 2],
    failures: u64,
    runs: usize,
}

fn sum(transfers: &[Transfer], cell: Cell, sender: Sender) -> Option<Sum> {
    let is_its = |transfer: &&Transfer| transfer.cell == cell && transfer.sender == sender;
    let all: Vec<&Transfer> = transfers.iter().filter(is_its).collect();
    let good: Vec<&&Transfer> = all.iter().filter(|one| one.failure.is_none()).collect();
    let figures = |of: fn(&Transfer) -> f64| {
        let values = || good.iter().map(|transfer| of(transfer));
        let mean = values().sum::<f64>() / good.len() as f64;
        let low = values().fold(f64::INFINITY, f64::min);
        let high = values().fold(f64::NEG_INFINITY, f64::max);
        (mean, [low, high])
    };
    if good.is_empty() {
        return None;
    }
    let (mean, spread) = figures(|transfer| transfer.mbit_per_second);
    let (again, again_spread) = figures(|transfer| transfer.tally.again as f64);
    Some(Sum {
        mean,
        spread,
        again,
        again_spread,
        failures: (all.len() - good.len()) as u64,
        runs: good.len(),
    })
}

/// The rows of the table: five columns for each cell that has figures of both senders, and how often
/// Millrace sent no more again than Linux did. Scenario and command are the caller's.
pub(super) fn rows(cells: &[Cell], transfers: &[Transfer]) -> Vec<Row> {
    let mut rows = Vec::new();
    let (mut compared, mut no_more) = (0u32, 0u32);
    for cell in cells {
        let both = [Sender::Millrace, Sender::Linux].map(|who| sum(transfers, *cell, who));
        let [Some(ours), Some(theirs)] = both else {
            continue;
        };
        compared += 1;
        no_more += u32::from(ours.again <= theirs.again);
        let row = |subject: &str, value: f64, unit: &str| Row {
            subject: subject.to_owned(),
            quantity: cell.name(),
            value,
            unit: unit.to_owned(),
            ..Row::default()
        };
        let several = |sum: &Sum, spread: [f64; 2]| (sum.runs > 1).then_some(spread);
        for (name, sum) in [("millrace", &ours), ("linux", &theirs)] {
            rows.push(Row {
                spread: several(sum, sum.spread),
                errors: sum.failures,
                ..row(name, sum.mean, "Mbit/s")
            });
        }
        rows.push(Row {
            at_least: Some(1.0),
            errors: ours.failures,
            ..row("ratio", ratio(ours.mean, theirs.mean), "×")
        });
        for (name, sum) in [
            ("sent again by millrace", &ours),
            ("sent again by linux", &theirs),
        ] {
            rows.push(Row {
                spread: several(sum, sum.again_spread),
                ..row(name, sum.again, "segments")
            });
        }
    }
    if compared > 0 {
        rows.push(Row {
            subject: "millrace".to_owned(),
            quantity: "cells in which it sends no more again".to_owned(),
            value: f64::from(no_more),
            unit: format!("of {compared}"),
            at_least: Some(f64::from(compared / 2 + 1)),
            ..Row::default()
        });
    }
    rows
}

/// Two digits behind the point: what five runs on a shared machine can tell.
fn ratio(ours: f64, theirs: f64) -> f64 {
    (ours / theirs * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CELL: Cell = Cell {
        algorithm: "cubic",
        rtt: Duration::from_millis(20),
        loss_ppm: 10_000,
    };

    fn transfer(sender: Sender, mbit_per_second: f64, again: u64) -> Transfer {
        Transfer {
            cell: CELL,
            name: CELL.name(),
            sender,
            run: 0,
            seconds: 1.0,
            mbit_per_second,
            tally: Tally {
                again,
                ..Tally::default()
            },
            failure: None,
        }
    }

    #[test]
    fn a_cell_is_the_means_of_both_senders_their_ratio_and_what_they_sent_again() {
        let transfers = [
            transfer(Sender::Millrace, 8.0, 10),
            transfer(Sender::Millrace, 10.0, 30),
            transfer(Sender::Linux, 10.0, 20),
        ];
        let rows = rows(&[CELL], &transfers);
        let figure = |subject: &str| {
            let row = rows.iter().find(|row| row.subject == subject);
            row.expect("a row").clone()
        };
        assert_eq!(figure("millrace").value, 9.0);
        assert_eq!(figure("millrace").spread, Some([8.0, 10.0]));
        assert_eq!(figure("linux").spread, None);
        assert_eq!(
            (figure("ratio").value, figure("ratio").at_least),
            (0.9, Some(1.0))
        );
        assert_eq!(figure("sent again by millrace").value, 20.0);
        let last = rows.last().expect("a row");
        assert_eq!((last.value, last.at_least), (1.0, Some(1.0)));
        assert_eq!(last.unit, "of 1");
    }

    #[test]
    fn a_transfer_that_failed_is_an_error_of_its_cell_and_no_figure() {
        let failed = Transfer {
            failure: Some("silence".into()),
            ..transfer(Sender::Millrace, 0.0, 0)
        };
        let linux = transfer(Sender::Linux, 10.0, 0);
        assert!(rows(&[CELL], &[failed.clone(), linux.clone()]).is_empty());
        let good = transfer(Sender::Millrace, 10.0, 0);
        let rows = rows(&[CELL], &[failed, good, linux]);
        assert_eq!((rows[0].value, rows[0].errors), (10.0, 1));
        assert_eq!((rows[2].value, rows[2].errors), (1.0, 1), "not met");
    }
}
