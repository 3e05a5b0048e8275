//! iperf3: a server in the servers' namespace, a client in the client's, and its JSON report.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::interrupt;
use crate::process::{self, Background};

/// The listening side.
pub(crate) struct Server {
    process: Background,
}

impl Server {
    /// Starts `iperf3 -s`, which listens on both families.
    pub(crate) fn start(namespace: &str, folder: &Path) -> Result<Self> {
        let mut command = process::inside(namespace, "iperf3");
        let mut process = Background::start(
            "iperf3-server",
            command.args(["-s", "--forceflush"]),
            folder,
        )?;
        interrupt::wait_until("iperf3 -s", Duration::from_secs(10), || {
            process
                .check_alive()
                .map_err(|error| format!("{error:#}"))?;
            let listening = process.log_text().contains("Server listening");
            if listening {
                Ok(())
            } else {
                Err("it does not listen yet".into())
            }
        })?;
        Ok(Self { process })
    }

    /// An error when it is gone.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }
}

/// One run's figures.
pub(crate) struct Bulk {
    pub(crate) gigabits_per_second: f64,
    /// Bytes the receiver counted in each second, the first and the last left out.
    pub(crate) intervals: Vec<u64>,
    /// The command, as a person would type it.
    pub(crate) command: String,
}

impl Bulk {
    /// The longest run of seconds in which nothing moved.
    pub(crate) fn longest_stall(&self) -> usize {
        self.intervals
            .split(|bytes| *bytes > 0)
            .map(<[u64]>::len)
            .max()
            .unwrap_or(0)
    }
}

/// Runs the client; `reverse` makes the server send.
pub(crate) fn run(namespace: &str, target: IpAddr, seconds: u32, reverse: bool) -> Result<Bulk> {
    let mut iperf = process::inside(namespace, "iperf3");
    iperf.args([
        "-c",
        &target.to_string(),
        "-t",
        &seconds.to_string(),
        "--connect-timeout",
        "5000",
    ]);
    if reverse {
        iperf.arg("-R");
    }
    iperf.arg("-J");
    let limit = Duration::from_secs(u64::from(seconds) + 40);
    let finished = process::finish(&mut iperf, limit)?;
    let report: Value = serde_json::from_str(&finished.stdout).context("iperf3's report")?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let line = process::line_of(&iperf);
    let command = line
        .split_once(namespace)
        .map_or(line.as_str(), |(_, rest)| rest.trim());
    parse(&report, command).with_context(|| format!("iperf3's report has no figures: {report}"))
}

fn parse(report: &Value, command: &str) -> Option<Bulk> {
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64()?;
    let intervals: Vec<u64> = report["intervals"]
        .as_array()?
        .iter()
        .filter_map(|interval| interval["sum"]["bytes"].as_u64())
        .collect();
    let inner = intervals
        .get(1..intervals.len().saturating_sub(1))
        .unwrap_or_default();
    Some(Bulk {
        gigabits_per_second: bits / 1e9,
        intervals: inner.to_vec(),
        command: command.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_the_longest_run_of_empty_seconds() {
        let sums = [9, 1, 0, 0, 5, 0, 9].map(|n| serde_json::json!({ "sum": { "bytes": n } }));
        let report = serde_json::json!({
            "intervals": sums, "end": { "sum_received": { "bits_per_second": 2e9 } }
        });
        let bulk = parse(&report, "iperf3").expect("figures");
        assert_eq!(bulk.intervals, [1, 0, 0, 5, 0]);
        assert_eq!(bulk.longest_stall(), 2);
        assert!((bulk.gigabits_per_second - 2.0).abs() < 1e-9);
    }
}
