//! Millrace's stack and `smoltcp`, each with itself, in one process: the same work over the same
//! kind of wire, in processor time of one thread.
//!
//! A client and a server in memory, Ethernet frames of at most 1,514 bytes, IPv4, virtual time;
//! checksums in software on both sides of both stacks, or on none, as where devices do them. `bulk` moves bytes one way, from a caller's buffer to
//! a caller's buffer; `churn` opens connections, exchanges 100 bytes for 100 bytes, and closes.
//! Figures are per second of processor time for *both ends together*. Frames of our stack are
//! copied once on the wire (buffers belong to pools); smoltcp's are handed over.
//!
//! It prints one JSON object per figure, for `cargo xtask bench`.
#![forbid(unsafe_code)]

mod ours;
mod theirs;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Bytes of a request and of its answer.
const MESSAGE_BYTES: usize = 100;
/// Connections under way at once.
const CONCURRENT: usize = 32;
/// Where the server listens.
const SERVICE_PORT: u16 = 80;
/// Bytes offered to a send queue at once.
const CHUNK_BYTES: usize = 65_536;

/// Runs of each figure; the best counts, because other load only ever makes one worse.
const RUNS: usize = 5;

fn main() {
    let (bytes, connections) = (64 << 20, 4_096);
    let rate = |amount: usize, spent: Duration| amount as f64 / spent.as_secs_f64();
    for (offload, words) in [(false, ""), (true, ", without checksums")] {
        let bulk = [ours::bulk, theirs::bulk].map(|run| best(|| run(bytes, offload)));
        let churn = [ours::churn, theirs::churn].map(|run| best(|| run(connections, offload)));
        let gigabits = bulk.map(|spent| rate(bytes, spent) * 8.0 / 1e9);
        figures(&format!("bulk{words}"), "Gbit/s", gigabits);
        let per_second = churn.map(|spent| rate(connections, spent));
        figures(&format!("connections{words}"), "1/s", per_second);
    }
}

fn figures(quantity: &str, unit: &str, values: [f64; 2]) {
    let [ours, theirs] = values;
    let all = [
        ("millrace", ours, unit),
        ("smoltcp", theirs, unit),
        ("ratio", ours / theirs, "×"),
    ];
    for (subject, value, unit) in all {
        println!(
            r#"{{"subject":"{subject}","quantity":"{quantity}","value":{value},"unit":"{unit}"}}"#
        );
    }
}

fn best(run: impl Fn() -> Duration) -> Duration {
    (0..RUNS).map(|_| run()).min().unwrap_or_default()
}

/// Processor time of this thread.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_stacks_move_every_byte_and_end_every_connection() {
        // Each run asserts its own completeness.
        for run in [ours::bulk, theirs::bulk] {
            assert!(run(1 << 20, true) > Duration::ZERO);
        }
        for run in [ours::churn, theirs::churn] {
            assert!(run(2 * CONCURRENT, false) > Duration::ZERO);
        }
    }
}
