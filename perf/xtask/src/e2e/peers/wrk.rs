//! wrk in the client's namespace, and its report.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;

/// What wrk measured.
#[derive(Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    /// connect + read + write + timeout.
    pub(crate) socket_errors: u64,
    /// Answers other than 2xx and 3xx.
    pub(crate) bad_answers: u64,
    /// The command, as a person would type it.
    pub(crate) command: String,
}

/// How to load.
pub(crate) struct Options<'a> {
    pub(crate) connections: u32,
    pub(crate) seconds: u32,
    pub(crate) headers: &'a [&'a str],
}

/// Runs wrk with one thread.
pub(crate) fn run(namespace: &str, url: &str, options: &Options<'_>) -> Result<Load> {
    let mut wrk = process::inside(namespace, "wrk");
    wrk.args(["-t", "1", "-c", &options.connections.to_string()]);
    wrk.args(["-d", &options.seconds.to_string(), "--timeout", "10"]);
    for header in options.headers {
        wrk.args(["-H", header]);
    }
    wrk.arg(url);
    let limit = Duration::from_secs(u64::from(options.seconds) + 30);
    let report = process::must(&mut wrk, limit)?;
    let line = process::line_of(&wrk);
    let command = line
        .split_once(namespace)
        .map_or(line.as_str(), |(_, rest)| rest.trim());
    parse(&report, command).with_context(|| format!("cannot read wrk's report: {report}"))
}

/// The text of wrk's report, read.
fn parse(report: &str, command: &str) -> Option<Load> {
    let mut load = Load {
        requests: 0,
        requests_per_second: 0.0,
        socket_errors: 0,
        bad_answers: 0,
        command: command.to_owned(),
    };
    for line in report.lines().map(str::trim) {
        if let Some((count, _)) = line.split_once(" requests in ") {
            load.requests = count.parse().ok()?;
        } else if let Some(rate) = line.strip_prefix("Requests/sec:") {
            load.requests_per_second = rate.trim().parse().ok()?;
        } else if let Some(errors) = line.strip_prefix("Socket errors:") {
            let numbers = errors.split(|c: char| !c.is_ascii_digit());
            load.socket_errors = numbers
                .filter_map(|number| number.parse::<u64>().ok())
                .sum();
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
            load.bad_answers = count.trim().parse().ok()?;
        }
    }
    (load.requests > 0 || report.contains("requests in")).then_some(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_errors_is_read_in_full() {
        let report = "Running 3s test @ http://10.8.0.2/r\n  1 threads and 64 connections\n\
            \x20 214911 requests in 3.10s, 61.49MB read\n\
            \x20 Socket errors: connect 1, read 2, write 3, timeout 4\n\
            \x20 Non-2xx or 3xx responses: 5\nRequests/sec:  69317.80\nTransfer/sec:     19.83MB\n";
        let load = parse(report, "wrk").expect("a report");
        assert_eq!(
            (load.requests, load.socket_errors, load.bad_answers),
            (214_911, 10, 5)
        );
        assert!((load.requests_per_second - 69317.8).abs() < 0.01);
    }
}
