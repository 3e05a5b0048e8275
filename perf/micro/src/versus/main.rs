//! Millrace's stack and `smoltcp`, each with itself, in one process: the same work over the same
//! kind of wire, in processor time of one thread.
//!
//! A client and a server in memory, Ethernet frames of at most 1,514 bytes, IPv4, virtual time;
//! checksums in software on both sides of both stacks, or on none, as where devices do them. `bulk` moves bytes one way, from a caller's buffer to
//! a caller's buffer; `churn` opens connections, exchanges 100 bytes for 100 bytes, and closes.
//! Figures are per second of processor time for *both ends together*. Frames are handed over, not
//! copied, and both stacks have the same room for data on their way.
//!
//! It prints one JSON object per figure, for `cargo xtask bench`. Words on the command line
//! (`millrace`, `smoltcp`, `bulk`, `connections`) leave out what they do not name, for a profiler.
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
/// Bytes of a bulk transfer that either stack buffers at an end: four times the largest window
/// without scaling, and what a second-level cache holds.
const BUFFER_BYTES: usize = 262_144;

/// Runs of each figure; the best counts, because other load only ever makes one worse.
const RUNS: usize = 5;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |word: &str, others: [&str; 2]| {
        let rivals = words.iter().any(|said| others.contains(&said.as_str()));
        words.iter().any(|said| said == word) || !rivals
    };
    let subjects = SUBJECTS.map(|subject| is_wanted(subject, SUBJECTS));
    let (bytes, connections) = (64 << 20, 4_096);
    let rate = |amount: usize, spent: Duration| amount as f64 / spent.as_secs_f64();
    for (offload, how) in [(false, ""), (true, ", without checksums")] {
        for work in WORKS.into_iter().filter(|work| is_wanted(work, WORKS)) {
            let (runs, amount, scale, unit): ([Run; 2], _, _, _) = match work {
                "bulk" => ([ours::bulk, theirs::bulk], bytes, 8.0 / 1e9, "Gbit/s"),
                _ => ([ours::churn, theirs::churn], connections, 1.0, "1/s"),
            };
            let measure = |run: Run| rate(amount, best(|| run(amount, offload))) * scale;
            let found = [0, 1].map(|who| subjects[who].then(|| measure(runs[who])));
            figures(&format!("{work}{how}"), unit, found);
        }
    }
}

/// Moves so much, with checksums or without, and tells how long that took.
type Run = fn(usize, bool) -> Duration;

const SUBJECTS: [&str; 2] = ["millrace", "smoltcp"];
const WORKS: [&str; 2] = ["bulk", "connections"];

fn figures(quantity: &str, unit: &str, found: [Option<f64>; 2]) {
    let ratio = found[0].zip(found[1]).map(|(ours, theirs)| ours / theirs);
    let all = [
        (SUBJECTS[0], found[0], unit),
        (SUBJECTS[1], found[1], unit),
        ("ratio", ratio, "×"),
    ];
    for (subject, value, unit) in all {
        let Some(value) = value else { continue };
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
