//! One trial: so many requests at random moments of a given rate, answered or not.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use millrace_base::Rng;
use millrace_dpdk::{Eal, MbufPool, cycles};
use millrace_load::light::{Client, Heard, Server};

use crate::apart::{Middle, RealTime};
use crate::nic::Nic;
use crate::scenario::sessions::Ready;
use crate::stalls::{Hiccups, Stalls};

/// Of the offered rate, what has to be reached.
const REACHED_MIN: f64 = 0.95;
/// How long the last answers may take, seconds.
const PATIENCE_SECONDS: u64 = 1;

/// Peers on both sides of something that runs apart.
pub(super) struct Lane<'w> {
    pub(super) eal: Eal,
    pub(super) pool: MbufPool,
    pub(super) time: RealTime,
    pub(super) nics: &'w mut [Nic; 2],
    pub(super) client: &'w mut Client,
    pub(super) server: &'w mut Server,
    pub(super) ready: &'w mut Ready,
    /// Connections, whether they wait for an answer or not.
    pub(super) connections: u32,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Requests.
    pub(super) requests: u32,
    /// Cycles between two of them, on average.
    pub(super) mean_gap: f64,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Trial {
    /// Latencies, cycles.
    all: Histogram<u64>,
    /// Those that no stall touched.
    quiet: Histogram<u64>,
    /// Requests that a stall touched.
    pub(super) stalled: u64,
    /// Stalls of either thread.
    pub(super) stalls: u64,
    /// The longest, cycles.
    pub(super) longest_stall: u64,
    /// Whether everything was answered, and rightly.
    pub(super) is_whole: bool,
    /// Whether the answers kept up with the requests.
    pub(super) is_in_time: bool,
}

/// When a request was due, and when its answer came.
struct Sample {
    due: u64,
    answered: u64,
}

/// What the peers saw of a trial.
struct Seen {
    samples: Vec<Sample>,
    stalls: Stalls,
    is_whole: bool,
    is_in_time: bool,
}

impl Lane<'_> {
    /// Runs one through `middle`, which comes back.
    pub(super) fn run(
        &mut self,
        middle: Middle,
        plan: &Plan,
        rng: &mut Rng,
    ) -> Result<(Middle, Trial)> {
        let running = middle.launch(&self.eal, self.time)?;
        let seen = self.generate(plan, rng);
        let (middle, stalls) = running.stop()?;
        let stalls = stalls.merged(seen.stalls);
        let shadows = stalls.with_shadows();
        let mut trial = Trial::new()?;
        trial.is_whole = seen.is_whole;
        trial.is_in_time = seen.is_in_time;
        trial.stalls = stalls.count();
        trial.longest_stall = stalls.longest();
        for Sample { due, answered } in seen.samples {
            let latency = answered.saturating_sub(due);
            trial.all.record(latency).context("a latency")?;
            if shadows.touch(due, answered) {
                trial.stalled += 1;
            } else {
                trial.quiet.record(latency).context("a latency")?;
            }
        }
        Ok((middle, trial))
    }

    fn generate(&mut self, plan: &Plan, rng: &mut Rng) -> Seen {
        let Plan { requests, mean_gap } = *plan;
        let errors_before = self.errors();
        let mut samples = Vec::with_capacity(requests as usize);
        let mut due = vec![0; self.connections as usize];
        let began = cycles();
        let mut hiccups = Hiccups::new(self.time.hertz(), cycles());
        let mut next = began as f64;
        let patience = PATIENCE_SECONDS * self.time.hertz();
        let deadline = began + (f64::from(requests) * mean_gap / REACHED_MIN) as u64 + patience;
        let (mut asked, mut now) = (0, began);
        while samples.len() < requests as usize && now < deadline {
            now = cycles();
            let now_ms = self.time.at(now).as_millis() as u32;
            let mut frames = 0;
            while asked < requests && next <= now as f64 {
                // Where all connections are busy, one waits, and its time counts.
                let Some(which) = self.ready.pop_front() else {
                    break;
                };
                due[which.0 as usize] = next as u64;
                self.ask(which, now_ms);
                (asked, frames) = (asked + 1, frames + 1);
                let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                next += -(1.0 - uniform).ln() * mean_gap;
            }
            self.nics[0].outbox.flush();
            frames += self.serve(now_ms, |index| {
                let due = due[index as usize];
                // An answer to an earlier trial that was given up is nobody's.
                if due >= began {
                    let answered = cycles();
                    samples.push(Sample { due, answered });
                }
            });
            hiccups.turn(cycles(), frames);
        }
        let took = now.saturating_sub(began) as f64;
        Seen {
            is_whole: samples.len() == requests as usize && self.errors() == errors_before,
            is_in_time: (next - began as f64) / took.max(1.0) >= REACHED_MIN,
            samples,
            stalls: hiccups.finish(),
        }
    }

    fn ask(&mut self, which: (u32, u32, u32), now_ms: u32) {
        let outbox = &mut self.nics[0].outbox;
        let stamps = Some((now_ms, 0));
        let pool = &mut self.pool;
        self.client
            .ask(which, stamps, pool, &mut |frame| outbox.push(frame));
    }

    /// Both peers take what has come; tells how many frames that were.
    fn serve(&mut self, now_ms: u32, mut on_answer: impl FnMut(u32)) -> u64 {
        let Self {
            nics: [front, back],
            client,
            server,
            pool,
            ready,
            ..
        } = self;
        let mut frames = 0;
        front.serve(|frame, outbox| {
            frames += 1;
            let heard = client.handle(frame, now_ms, pool, &mut |answer| outbox.push(answer));
            if let Heard::Response {
                index,
                number,
                next,
            } = heard
            {
                on_answer(index);
                ready.push_back((index, number + 1, next));
            }
        });
        back.serve(|frame, outbox| {
            frames += 1;
            server.handle(frame, now_ms, pool, &mut |answer| outbox.push(answer));
        });
        frames
    }

    fn errors(&self) -> u64 {
        let lost: u64 = self.nics.iter().map(|nic| nic.outbox.lost).sum();
        lost + self.client.counts().errors() + self.server.counts().errors()
    }
}

impl Trial {
    /// One without requests.
    pub(super) fn new() -> Result<Self> {
        let histogram = || Histogram::new(3).context("a histogram");
        Ok(Self {
            all: histogram()?,
            quiet: histogram()?,
            stalled: 0,
            stalls: 0,
            longest_stall: 0,
            is_whole: true,
            is_in_time: true,
        })
    }

    /// Adds another of the same.
    pub(super) fn add(&mut self, other: &Self) -> Result<()> {
        self.all.add(&other.all).context("a latency")?;
        self.quiet.add(&other.quiet).context("a latency")?;
        self.stalled += other.stalled;
        self.stalls += other.stalls;
        self.longest_stall = self.longest_stall.max(other.longest_stall);
        self.is_whole &= other.is_whole;
        self.is_in_time &= other.is_in_time;
        Ok(())
    }

    /// Requests answered.
    pub(super) fn len(&self) -> u64 {
        self.all.len()
    }

    /// A quantile in cycles: over all requests, and over those that no stall touched.
    pub(super) fn quantiles(&self, quantile: f64) -> [u64; 2] {
        [&self.all, &self.quiet].map(|latencies| latencies.value_at_quantile(quantile))
    }
}
