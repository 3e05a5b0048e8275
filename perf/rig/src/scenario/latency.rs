//! What the lcore adds to the time of a request and its answer when it is half busy.
//!
//! An open-loop simulation whose service times are measured: requests arrive at random moments of virtual time (a Poisson
//! process) at half of the rate that the lcore reached in a closed loop just before; a turn takes the cycles that the
//! counter says it took; what a turn sends leaves at its end; wires and peers take no time. The latency of a request is
//! counted from the moment it was due, not from when there was time for it, and covers both ways through the lcore.

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use millrace_base::Rng;
use millrace_load::light::Heard;

use super::STALL_ROUNDS;
use super::sessions::{Bench, Ready, open_script};
use crate::args::Args;
use crate::meter::Slices;
use crate::report::Outcome;

/// Beyond what a turn of two full bursts takes.
const LONG_TURN_CYCLES: u64 = 60_000;

/// Virtual time in cycles, and what is on its way.
struct Clockwork {
    now: u64,
    next_arrival: f64,
    mean_gap: f64,
    rng: Rng,
    /// When the request under way on each connection was due.
    due: Vec<u64>,
    latencies: Histogram<u64>,
    /// What an undisturbed turn took last.
    usual_turn: u64,
    interrupted: u64,
    /// Cycles of turns that found work.
    busy: u64,
    slices: Slices,
}

/// Runs it.
pub(super) fn run(args: &Args) -> Result<Outcome> {
    let mut bench = Bench::new(args, open_script(args))?;
    let mut ready = bench.establish(args.connections)?;
    bench.world.meter.restart();
    bench.ask_and_answer(&mut ready, args.operations / 2, args.concurrency)?;
    let full = bench.world.meter.cost();
    let mut clockwork = Clockwork {
        now: 0,
        next_arrival: 0.0,
        mean_gap: 2.0 * full.p50,
        rng: Rng::new(args.key),
        due: vec![0; args.connections as usize],
        latencies: Histogram::new(3).context("a histogram")?,
        usual_turn: full.p50 as u64,
        interrupted: 0,
        busy: 0,
        slices: Slices::new(),
    };
    bench.begin();
    let (mut answered, mut stalled) = (0, 0);
    while answered < args.operations {
        let fresh = clockwork.step(&mut bench, &mut ready)?;
        answered += fresh;
        stalled = if fresh > 0 { 0 } else { stalled + 1 };
        if stalled > STALL_ROUNDS {
            bail!("nothing moves any more after {answered} answers");
        }
    }
    let hertz = bench.world.hertz() as f64;
    let micros = |cycles: u64| cycles as f64 / hertz * 1e6;
    let at = |quantile| micros(clockwork.latencies.value_at_quantile(quantile));
    let name = format!("latency: half of {:.0} requests a second", hertz / full.p50);
    let busy = clockwork.busy as f64;
    let outcome = Outcome::new(name, "request, at full load", full)
        .value("busy, of all time", busy / clockwork.now as f64)
        .value(
            "cycles per request, at half load",
            busy / f64::from(answered),
        )
        .value("added us, p50", at(0.5))
        .value("added us, p90", at(0.9))
        .value("added us, p99", at(0.99))
        .value("added us, p99.9", at(0.999))
        .value("added us, most", micros(clockwork.latencies.max()))
        .value("requests", clockwork.latencies.len() as f64)
        .value("turns interrupted", clockwork.interrupted as f64)
        .at_most("added us, p50", 5.0)
        .at_most("added us, p99", 20.0);
    let mut outcome = bench.finish(outcome, &[]);
    // Frames were counted at half load, cycles at full.
    outcome.frames_per_operation *= full.operations as f64 / f64::from(answered);
    Ok(outcome)
}

impl Clockwork {
    /// One turn of the lcore and everything it leads to; tells how many requests were answered.
    fn step(&mut self, bench: &mut Bench, ready: &mut Ready) -> Result<u32> {
        self.arrive(bench, ready);
        bench.world.nics[0].outbox.flush();
        let worked = bench.world.turn() > 0;
        let took = self.duration(bench.world.last_turn);
        self.now += took;
        self.busy += if worked { took } else { 0 };
        bench.deliver();
        for heard in &bench.heard {
            if let Heard::Response { index, .. } = heard {
                let latency = self.now - self.due[*index as usize];
                self.latencies.record(latency).context("a latency")?;
            }
        }
        let is_waiting = bench.is_anything_underway();
        if !worked && !is_waiting {
            // Nothing can happen before the next request.
            self.now = self.now.max(self.next_arrival as u64);
        }
        bench.world.listen();
        Ok(bench.take_answers(ready))
    }

    /// Sends the requests that are due. Where all connections are busy, one waits, and its time counts.
    fn arrive(&mut self, bench: &mut Bench, ready: &mut Ready) {
        while self.next_arrival <= self.now as f64 {
            let Some(which) = ready.pop_front() else {
                return;
            };
            self.due[which.0 as usize] = self.next_arrival as u64;
            bench.ask(which);
            let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            self.next_arrival += -(1.0 - uniform).ln() * self.mean_gap;
        }
    }

    /// How long a turn took; one that the kernel interrupted counts as the one before.
    ///
    /// The kernel is only asked about long ones: a system call between all turns would take the lcore's lines out of the
    /// first cache.
    fn duration(&mut self, cycles: u64) -> u64 {
        if cycles > LONG_TURN_CYCLES && self.slices.were_cut() {
            self.interrupted += 1;
        } else {
            self.usual_turn = cycles;
        }
        self.usual_turn
    }
}
