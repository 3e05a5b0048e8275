//! The files a benchmark leaves: `perf/results.json` for machines, `perf/RESULTS.md` for people.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde::Serialize;

use super::SUBJECTS;
use crate::e2e::stand_in::Testpmd;
use crate::paths;

/// One figure.
#[derive(Serialize)]
pub(super) struct Row {
    /// `SUBJECT/QUANTITY`.
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// What was run to get it.
    pub(super) command: String,
    pub(super) commit: String,
    pub(super) machine: String,
    /// Socket errors and bad answers during the measurement; a figure with errors is not comparable.
    pub(super) errors: u64,
}

impl Row {
    /// A figure without its circumstances.
    pub(super) fn new(
        subject: &str,
        what: &str,
        value: f64,
        unit: &'static str,
        command: &str,
    ) -> Self {
        Self {
            name: format!("{subject}/{what}"),
            value,
            unit,
            command: command.to_owned(),
            commit: String::new(),
            machine: String::new(),
            errors: 0,
        }
    }
}

/// Quantities in the order of the table's lines, with the words for people.
const QUANTITIES: [(&str, &str); 4] = [
    ("requests_per_second", "requests/s, keep-alive"),
    ("connections_per_second", "connections/s, one request each"),
    ("bulk_up", "bulk, client to server, Gbit/s"),
    ("bulk_down", "bulk, server to client, Gbit/s"),
];

/// Writes both files.
pub(super) fn write(rows: &[Row], seconds: u32) -> Result<()> {
    let folder = paths::root().join("perf");
    let json = serde_json::to_string_pretty(rows)? + "\n";
    std::fs::write(folder.join("results.json"), json).context("perf/results.json")?;
    std::fs::write(folder.join("RESULTS.md"), page(rows, seconds)).context("perf/RESULTS.md")?;
    println!("wrote perf/results.json and perf/RESULTS.md");
    Ok(())
}

fn figure(rows: &[Row], subject: &str, what: &str) -> String {
    let name = format!("{subject}/{what}");
    let Some(row) = rows.iter().find(|row| row.name == name) else {
        return "–".to_owned();
    };
    let digits = if row.value < 100.0 { 2 } else { 0 };
    let note = if row.errors > 0 {
        format!(" ({} errors)", row.errors)
    } else {
        String::new()
    };
    format!("{:.digits$}{note}", row.value)
}

fn page(rows: &[Row], seconds: u32) -> String {
    let mut page = String::from(
        "# Results\n\nMade by `cargo xtask bench`; do not edit. The same figures for machines: `results.json`.\n\n\
         One run, one after the other, on the same wires: a client and a server with kernel TCP in network namespaces,\n\
         veth pairs of MTU 1500, all transmit and receive offloads off, `net_af_packet` for the DPDK programs.\n\
         Peers are pinned to the first CPU, the middle to the last. Millrace and HAProxy (`mode tcp`,\n\
         `nbthread 1`) terminate TCP; testpmd only copies frames from one port to the other, so its column\n\
         is the ceiling of these wires, not a competitor. testpmd polls without a break; Millrace runs with\n\
         `idle = \"sleep\"`.\n\n",
    );
    if let Some(row) = rows.first() {
        // Writing to a String does not fail.
        let _ = writeln!(
            page,
            "Commit `{}`. {}. {seconds} s each.\n",
            row.commit, row.machine
        );
    }
    let _ = writeln!(
        page,
        "| | {} |\n|---|{}",
        SUBJECTS.join(" | "),
        "---:|".repeat(SUBJECTS.len())
    );
    for (what, words) in QUANTITIES {
        let cells = SUBJECTS.map(|subject| figure(rows, subject, what));
        let _ = writeln!(page, "| {words} | {} |", cells.join(" | "));
    }
    page.push_str("\n## Commands\n\n");
    for row in rows {
        let _ = writeln!(page, "* `{}`: `{}`", row.name, row.command);
    }
    let testpmd = Testpmd::arguments().join(" ");
    let _ = writeln!(page, "* the bare forward: `dpdk-testpmd {testpmd}`");
    page.push_str(
        "\nThe machine is a shared virtual one with two CPUs: figures move by 5 to 10 % from run to run when it is \
         quiet,\nand by far more when it is not. Compare columns of one run, never runs.\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_line_per_quantity_and_says_when_a_figure_has_errors() {
        let mut row = Row::new("haproxy", "requests_per_second", 54_500.4, "1/s", "wrk");
        row.errors = 3;
        let page = page(&[row], 5);
        assert!(
            page.contains("| requests/s, keep-alive | – | 54500 (3 errors) | – |"),
            "{page}"
        );
        assert!(QUANTITIES.iter().all(|(_, words)| page.contains(words)));
    }
}
