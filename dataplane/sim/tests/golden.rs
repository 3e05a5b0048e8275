//! What the golden tables must say at least, whatever the stack does: what the formulas of the
//! literature promise, and what nobody would accept.
//!
//! The tables themselves are compared with what the stack does by `cargo xtask sim --golden`. This
//! keeps anybody from blessing a bad one.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_sim::{Verdict, compute, review};

/// One row: the cells by the names of their columns.
type Row = BTreeMap<String, String>;

/// The rows of a table, each with the name of its block.
fn rows(name: &str) -> Vec<(String, Row)> {
    let file = folder().join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let (mut rows, mut block, mut columns) = (Vec::new(), String::new(), Vec::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.is_empty() {
            columns.clear();
        } else if let Some(name) = line.strip_prefix('[') {
            block = name.trim_end_matches(']').to_owned();
        } else if columns.is_empty() {
            columns = line.split_whitespace().map(str::to_owned).collect();
        } else {
            let cells = line.split_whitespace().map(str::to_owned);
            let row = columns.iter().cloned().zip(cells).collect();
            rows.push((block.clone(), row));
        }
    }
    assert!(!rows.is_empty(), "{file:?} is empty");
    rows
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// A cell as a number; what did not happen is infinite.
fn number(row: &Row, column: &str) -> f64 {
    let cell = row
        .get(column)
        .unwrap_or_else(|| panic!("no {column} in {row:?}"));
    cell.parse().unwrap_or(f64::INFINITY)
}

#[test]
fn the_windows_are_those_in_the_tree() {
    let tables = compute(Some("cwnd"), 2).expect("every trial ends");
    assert_eq!(tables.len(), 1);
    for table in tables {
        if let Verdict::Differs(lines) = review(&table, &folder(), false).expect("a file") {
            panic!("{lines}run `cargo xtask sim --golden --bless` and review the diff");
        }
    }
}

// RFC 5681 section 3.1: each round trip twice as much, from ten segments on (RFC 6928). BBR doubles
// what it has measured: of the first rounds, in which the ten segments went out at once and what
// followed was paced, it measures less than it sent.
#[test]
fn slow_start_doubles_with_each_round_trip() {
    for (control, row) in rows("cwnd") {
        let round = number(&row, "round");
        if round <= 5.0 {
            let factor: f64 = if control == "bbr" { 1.7 } else { 2.0 };
            let doubled = 10.0 * factor.powf(round - 1.0);
            assert!(number(&row, "cwnd") >= 0.95 * doubled, "{control}: {row:?}");
            assert!(
                number(&row, "arrived") >= 0.45 * doubled || round == 1.0,
                "{control}: {row:?}"
            );
        }
    }
}

// Mathis and others 1997, RFC 9438 section 5.1. A timeout of 200 ms costs most where all the rest
// takes hardly longer. BBR is measured by what the link carries; more than 2 percent of losses it
// takes for too much in flight, and keeps a tenth of a link that loses 5.
#[test]
fn throughput_is_near_what_the_formulas_promise_and_nothing_is_sent_again_for_fun() {
    for (control, row) in rows("throughput") {
        let (loss, rtt) = (number(&row, "loss_%"), number(&row, "rtt_ms"));
        let least = match () {
            () if loss == 0.0 => 90.0,
            () if control == "bbr" && loss >= 5.0 => 10.0,
            () if loss >= 5.0 && rtt < 1.0 => 40.0,
            () => 60.0,
        };
        assert!(number(&row, "of_bound_%") >= least, "{control}: {row:?}");
        let (lost, again) = (number(&row, "lost"), number(&row, "retransmitted"));
        assert!(again <= lost * 1.1 + 5.0, "{control}: {row:?}");
    }
}

#[test]
fn flows_of_one_algorithm_share_fairly_and_fill_the_link() {
    for (control, row) in rows("fairness") {
        assert!(number(&row, "used_%") >= 90.0, "{control}: {row:?}");
        let least = if control.contains(" and ") { 0.5 } else { 0.85 };
        assert!(number(&row, "jain") >= least, "{control}: {row:?}");
    }
}

// BBR's second and third round are paced by what the first measured: half a round trip more.
#[test]
fn short_flows_without_loss_take_what_slow_start_takes() {
    for (control, row) in rows("completion") {
        let (ideal, median) = (number(&row, "ideal_ms"), number(&row, "median_ms"));
        if number(&row, "loss_%") == 0.0 {
            let most = if control == "bbr" { 1.35 } else { 1.1 };
            assert!(median <= ideal * most + 1.0, "{control}: {row:?}");
            assert!(number(&row, "timeouts") == 0.0, "{control}: {row:?}");
        }
        assert!(number(&row, "worst_ms") < 30_000.0, "{control}: {row:?}");
    }
}

// RFC 6298 section 5: whatever the outage, the next retransmission is no further away than the timer,
// and half a round trip later it is there.
#[test]
fn after_an_outage_a_sender_is_back_within_one_timeout() {
    for (control, row) in rows("outage") {
        let (silent, rto) = (number(&row, "silent_ms"), number(&row, "rto_ms"));
        assert!(silent <= rto + 30.0, "{control}: {row:?}");
        let half = number(&row, "half_ms");
        assert!(half <= silent + 1_000.0, "{control}: {row:?}");
    }
}

// Issue 5: "BBR and CUBIC each hold >= 90 % of a 100 Mbit/s, 50 ms link with a 1-BDP drop-tail
// buffer; BBR >= 80 % with 1 % random loss."
#[test]
fn a_queue_of_one_product_is_enough_to_fill_the_link() {
    for (control, row) in rows("utilisation") {
        let (queue, loss) = (number(&row, "queue_bdp"), number(&row, "loss_%"));
        let least = match control.as_str() {
            _ if queue >= 1.0 && loss == 0.0 => 90.0,
            "bbr" if queue >= 1.0 => 80.0,
            _ => 0.0,
        };
        // Once it runs, and, of those that the floor is for, with its start too.
        let with_start = if matches!(control.as_str(), "bbr" | "cubic") {
            least
        } else {
            0.0
        };
        assert!(number(&row, "later_%") >= least, "{control}: {row:?}");
        assert!(number(&row, "used_%") >= with_start, "{control}: {row:?}");
    }
}
