//! What Millrace adds to the time of a request and its answer at half of its highest rate.
//!
//! Peers on one CPU, what they talk through on another, rings between them; requests arrive at random moments (a Poisson
//! process) whatever has become of those before. The latency of a request counts from when it was due, not from when there
//! was time for it. First the highest rate without an error is searched; at half of it the same requests go through
//! Millrace and through a bare forward of frames in its place, which has the same rings, the same peers and the same
//! waiting: what Millrace adds is the difference.
//!
//! A virtual machine's CPUs stand still now and then. Every figure is told over all requests, and over those that no stall
//! of either thread touched (`stalls.rs`), with the stalls beside it.

mod bare;
mod trial;

use anyhow::{Result, bail};
use millrace_base::Rng;
use millrace_load::search::Search;

use self::bare::BareLane;
use self::trial::{Lane, Plan, Trial};
use super::sessions::{Bench, Ready, open_script};
use crate::apart::{Middle, RealTime};
use crate::args::Args;
use crate::report::Outcome;

/// Where the highest rate is looked for, as shares of what one thread reached that had no waiting in it.
const SEARCH: (f64, f64) = (0.1, 1.1);
/// How exactly it is found.
const SEARCH_TOLERANCE: f64 = 0.05;
/// Requests of one trial of the search, as a part of those that are measured.
const SEARCH_PART: u32 = 4;
/// A rate is given up when so many trials failed: one may have met a stall.
const TRIALS: u32 = 3;
/// Rounds in which both are measured in turn: a slow spell of the machine meets both.
const ROUNDS: u32 = 8;

/// A quantile, and the names of what is told about it.
struct Told {
    quantile: f64,
    /// Over all requests: through Millrace, through the bare forward, the difference.
    all: [&'static str; 3],
    /// The same over those that no stall touched.
    quiet: [&'static str; 3],
}

macro_rules! told {
    ($quantile:literal, $word:literal) => {
        Told {
            quantile: $quantile,
            all: [
                concat!("through Millrace us, ", $word),
                concat!("through a bare forward us, ", $word),
                concat!("added us, ", $word),
            ],
            quiet: [
                concat!("through Millrace us, ", $word, ", stalls left out"),
                concat!("through a bare forward us, ", $word, ", stalls left out"),
                concat!("added us, ", $word, ", stalls left out"),
            ],
        }
    };
}

const TOLD: [Told; 4] = [
    told!(0.5, "p50"),
    told!(0.9, "p90"),
    told!(0.99, "p99"),
    told!(0.999, "p99.9"),
];

/// Runs it.
pub(super) fn run(args: &Args) -> Result<Outcome> {
    let mut setup = args.setup();
    setup.peers_cpu = args.peers_cpu();
    let script = open_script(args);
    let mut bench = Bench::with(args, setup, script.clone())?;
    let mut ready = bench.establish(args.connections)?;
    bench.world.restart_meter();
    bench.ask_and_answer(&mut ready, args.operations / 2, args.concurrency)?;
    let (full, stages) = (bench.world.meter.cost(), bench.world.by_stage());
    let mut bare = BareLane::new(args, &bench.world, script)?;
    let hertz = bench.world.hertz() as f64;
    let mut pair = Pair {
        time: RealTime::from(bench.world.clock(), bench.world.now),
        rng: Rng::new(args.key),
        connections: args.connections,
        bench,
        ready,
    };
    let reached = hertz / full.p50.max(1.0);
    let highest = match args.rate {
        Some(rate) => Some(2.0 * f64::from(rate)),
        None => pair.highest_rate(reached, hertz, args.operations)?,
    };
    let rate = highest.unwrap_or(SEARCH.0 * reached) / 2.0;
    let half = Plan {
        requests: args.operations.div_ceil(ROUNDS),
        mean_gap: hertz / rate,
    };
    pair.bench.begin();
    let (mut through, mut beside) = (Trial::new()?, Trial::new()?);
    for _ in 0..ROUNDS {
        through.add(&pair.run(&half)?)?;
        beside.add(&bare.run(pair.time, &half, &mut pair.rng)?)?;
    }
    let outcome = Outcome::new(args.named("latency"), "request, on one thread", full)
        .stages(stages)
        .value("requests a second", rate);
    let outcome = tell(outcome, &through, &beside, hertz);
    let mut outcome = pair.bench.finish(outcome, &[]);
    // Frames were counted over what ran apart, cycles on one thread.
    let answered = through.len().max(1) as f64;
    outcome.frames_per_operation *= full.operations as f64 / answered;
    if highest.is_none() {
        let what = "not even a tenth of what one thread reaches was answered in time".to_owned();
        outcome.errors.insert(what, 1);
    }
    if !(through.is_whole && beside.is_whole) {
        let what = "trials with a wrong answer, or without one".to_owned();
        outcome.errors.insert(what, 1);
    }
    Ok(outcome)
}

/// Millrace between its peers, on two threads for the time of a trial.
struct Pair {
    bench: Bench,
    ready: Ready,
    connections: u32,
    time: RealTime,
    rng: Rng,
}

impl Pair {
    /// The highest rate at which every request is answered in time: requests per second. None where even the lowest is
    /// too high, which says that the machine stands still more than it runs.
    fn highest_rate(&mut self, reached: f64, hertz: f64, operations: u32) -> Result<Option<f64>> {
        let mut search = Search::new(SEARCH.0 * reached, SEARCH.1 * reached, SEARCH_TOLERANCE);
        while let Some(rate) = search.next() {
            let plan = Plan {
                requests: operations / SEARCH_PART,
                mean_gap: hertz / rate,
            };
            let mut is_clean = false;
            for _ in 0..TRIALS {
                let trial = self.run(&plan)?;
                is_clean |= trial.is_whole && trial.is_in_time;
                if is_clean {
                    break;
                }
            }
            search.tell(is_clean);
        }
        Ok(search.best())
    }

    fn run(&mut self, plan: &Plan) -> Result<Trial> {
        let Bench {
            world,
            client,
            server,
            ..
        } = &mut self.bench;
        let Some(lcore) = world.lcores.pop() else {
            bail!("there is no lcore");
        };
        let mut lane = Lane {
            eal: world.eal,
            pool: world.pool,
            time: self.time,
            nics: &mut world.nics,
            client,
            server,
            connections: self.connections,
            ready: &mut self.ready,
        };
        let (middle, trial) = lane.run(Middle::Lcore(Box::new(lcore)), plan, &mut self.rng)?;
        let Middle::Lcore(lcore) = middle else {
            bail!("the lcore became something else");
        };
        world.lcores.push(*lcore);
        Ok(trial)
    }
}

/// Both sides' figures, and their difference.
fn tell(mut outcome: Outcome, through: &Trial, beside: &Trial, hertz: f64) -> Outcome {
    let micros = |cycles: u64| cycles as f64 / hertz * 1e6;
    for told in TOLD {
        let quantiles = |trial: &Trial| trial.quantiles(told.quantile).map(micros);
        let ([ours, ours_quiet], [bare, bare_quiet]) = (quantiles(through), quantiles(beside));
        let pairs = [(told.all, ours, bare), (told.quiet, ours_quiet, bare_quiet)];
        for (names, ours, bare) in pairs {
            for (name, value) in names.into_iter().zip([ours, bare, ours - bare]) {
                outcome = outcome.value(name, value);
            }
        }
    }
    let share = |trial: &Trial| trial.stalled as f64 / trial.len().max(1) as f64;
    // Shares of all.
    outcome
        .value("requests answered", through.len() as f64)
        .value("stalls of the two CPUs", through.stalls as f64)
        .value("stalls, longest us", micros(through.longest_stall))
        .value("requests met by a stall", share(through))
        .value("requests met by a stall, bare forward", share(beside))
        .at_most("added us, p50", 5.0)
        .at_most("added us, p99", 20.0)
        .at_most("added us, p50, stalls left out", 5.0)
        .at_most("added us, p99, stalls left out", 20.0)
}
