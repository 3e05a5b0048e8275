//! What is said of a run: a line per second, and a table at its end.

use core::fmt::Write as _;

use crate::latency::Percentiles;
use crate::observer::{Interval, Phase, Summary};

/// A line for one interval.
pub fn line(interval: &Interval) -> String {
    let Interval {
        at_secs,
        phase,
        counts,
        rate,
        tally,
        latency,
        ..
    } = interval;
    let verdict = match phase {
        Phase::Opening => "opening",
        Phase::WarmUp => "warm-up",
        Phase::Measured if *counts => "counts",
        Phase::Measured => "spoilt",
    };
    let bits = |bytes: u64| per_second(bytes as f64 * 8.0 / interval.secs.max(1e-9), "bit");
    let mut line = format!(
        "{at_secs:7.1} s  {verdict:7}  {:>11}  {:>12} in  {:>12} out  {:>7} conns  \
         p50 {:>7.0}  p99 {:>7.0}  max {:>8.0} us",
        per_second(*rate, "op"),
        bits(tally.bytes_in),
        bits(tally.bytes_out),
        tally.connections,
        latency.p50_us,
        latency.p99_us,
        latency.max_us,
    );
    if *phase == Phase::Opening {
        let opened = tally.opened as f64 / interval.secs.max(1e-9);
        let _ = write!(line, "  opened {}", per_second(opened, ""));
    }
    if !tally.is_clean() {
        let _ = write!(
            line,
            "  errors {} retransmissions {} misses {}",
            tally.errors(),
            tally.retransmissions(),
            tally.misses()
        );
    }
    line
}

/// The table at the end.
pub fn table(summary: &Summary) -> String {
    let mut rows = rates(summary);
    rows.extend(latencies(summary));
    rows.extend(faults(summary));
    let whole = &summary.whole;
    rows.push((
        "from the start",
        format!(
            "{} operations, {} opened, {} closed, {} requests, {} answers",
            whole.operations, whole.opened, whole.closed, whole.requests, whole.responses
        ),
    ));
    let lines = rows
        .iter()
        .map(|(name, value)| format!("  {name:<24} {value}\n"));
    lines.collect()
}

type Row = (&'static str, String);

fn rates(summary: &Summary) -> Vec<Row> {
    let counted = |value: Option<f64>, unit: &str| match value {
        Some(value) => per_second(value, unit),
        None => "none: no second was clean".to_owned(),
    };
    let (measured, counts) = (summary.measured_secs, summary.counted_secs);
    vec![
        (
            "seconds",
            format!("{measured:.1} measured, {counts:.1} count"),
        ),
        ("operations, counted", counted(summary.counted_rate, "op")),
        ("operations, raw", per_second(summary.raw_rate, "op")),
        ("bits in, counted", counted(summary.counted_bits_in, "bit")),
        ("bits in, raw", per_second(summary.raw_bits_in, "bit")),
        (
            "bits out, counted",
            counted(summary.counted_bits_out, "bit"),
        ),
        ("bits out, raw", per_second(summary.raw_bits_out, "bit")),
    ]
}

fn latencies(summary: &Summary) -> Vec<Row> {
    let both = [
        ("latency, counted", &summary.counted_latency),
        ("latency, raw", &summary.latency),
    ];
    let row = |(name, of): (&'static str, &Percentiles)| {
        let text = format!(
            "p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  p99.99 {:.1}  max {:.1} us",
            of.p50_us, of.p90_us, of.p99_us, of.p99_9_us, of.p99_99_us, of.max_us
        );
        (of.count > 0).then_some((name, text))
    };
    let mut rows: Vec<Row> = both.into_iter().filter_map(row).collect();
    if let Some(cycles) = summary.busy_cycles_per_operation {
        rows.push(("busy cycles", format!("{cycles:.0} per operation")));
    }
    rows
}

fn faults(summary: &Summary) -> [Row; 3] {
    let of = &summary.measured;
    let errors = format!(
        "{} (refused {}, reset {}, timed out {}, unreachable {}, closed early {}, bad answers {})",
        summary.errors,
        of.refused,
        of.resets,
        of.timeouts,
        of.unreachable,
        of.early_closes,
        of.bad_answers
    );
    let retransmissions = format!(
        "{} (ours {}, the peer's {})",
        summary.retransmissions, of.retransmitted, of.duplicates
    );
    let misses = format!(
        "{} (late {}, no port {}, no slot {}, stack {}, steering {}, refused by device {}, dropped \
         by device {})",
        summary.misses,
        of.late,
        of.no_port,
        of.no_slot,
        of.stack_drops,
        of.steer_drops,
        of.transmit_refusals,
        of.device_drops
    );
    [
        ("errors", errors),
        ("retransmissions", retransmissions),
        ("misses", misses),
    ]
}

/// A rate as people read it: three digits, a prefix, the unit.
fn per_second(value: f64, unit: &str) -> String {
    let steps = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let step = steps.iter().find(|(size, _)| value >= *size);
    let (size, prefix) = step.copied().unwrap_or((1.0, ""));
    let value = value / size;
    let digits = if value >= 100.0 || size <= 1.0 { 0 } else { 2 };
    format!("{value:.digits$} {prefix}{unit}/s")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Tally;

    #[test]
    fn numbers_keep_three_digits() {
        let text = |value| per_second(value, "bit");
        assert_eq!(text(0.0), "0 bit/s");
        assert_eq!(text(999.0), "999 bit/s");
        assert_eq!(text(1_234.0), "1.23 kbit/s");
        assert_eq!(text(123_456.0), "123 kbit/s");
        assert_eq!(text(9.87e9), "9.87 Gbit/s");
    }

    #[test]
    fn a_spoilt_second_says_why() {
        let interval = Interval {
            at_secs: 3.0,
            secs: 1.0,
            phase: Phase::Measured,
            counts: false,
            rate: 1_000.0,
            tally: Tally {
                duplicates: 2,
                ..Tally::default()
            },
            latency: Percentiles::default(),
        };
        let text = line(&interval);
        assert!(text.contains("spoilt"), "{text}");
        assert!(
            text.ends_with("errors 0 retransmissions 2 misses 0"),
            "{text}"
        );
    }

    #[test]
    fn a_run_without_a_clean_second_has_no_counted_rate() {
        let text = table(&Summary::default());
        assert!(text.contains("none: no second was clean"), "{text}");
    }
}
