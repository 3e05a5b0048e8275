//! The command `millrace-load`: command line, watching and printing around the library.

mod args;
mod plan;
mod station_command;
mod watch;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use millrace_dpdk::{Eal, EalArgs};
use millrace_load::engine::{Client, Sink};
use millrace_load::generator::Generator;
use millrace_load::search::{Search, Trial};
use millrace_load::station::StationConfig;

use crate::args::{Args, ClientArgs, LightArgs, RoleArgs, SinkArgs};
use crate::plan::{ClientPlan, SinkPlan};
use crate::watch::Watch;

/// Mistakes in the arguments.
const USAGE: u8 = 2;
/// A second did not count, and every one should.
const SPOILT: u8 = 3;

/// Of what was offered, the share that must have been done for a trial to be clean.
const DONE_SHARE: f64 = 0.99;
/// Seconds that a trial's rate settles, and how often it may once more after an overload.
const SETTLE_SECS: f64 = 1.0;
const SETTLES_MAX: u32 = 5;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.role {
        RoleArgs::Client(args) => match ClientPlan::new(args) {
            Ok(plan) => run_client(args, plan),
            Err(mistake) => return usage(&mistake),
        },
        RoleArgs::Sink(args) => match SinkPlan::new(args) {
            Ok(plan) => run_sink(args, plan),
            Err(mistake) => return usage(&mistake),
        },
        RoleArgs::Light(args) => match station_command::config(args) {
            Ok(config) => run_light(args, &config),
            Err(mistake) => return usage(&mistake),
        },
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SPOILT),
        Err(error) => {
            eprintln!("millrace-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(mistake: &str) -> ExitCode {
    eprintln!("error: {mistake}\n\nFor more information, try '--help'.");
    ExitCode::from(USAGE)
}

/// `false`: a second did not count, and `--strict` minds.
fn run_client(args: &ClientArgs, plan: ClientPlan) -> Result<bool, Box<dyn Error>> {
    let (eal, leave) = start_eal(&args.device.eal())?;
    let title = plan.title.clone();
    let generator = Generator::start(eal, &eal.worker_lcores(), &plan.setup, |lcore, counters| {
        Client::new(plan.share(lcore), counters)
    })?;
    let mut watch = Watch::new(generator, &args.report, title, leave)?;
    if let Some(range) = args.search {
        let Some(best) = search(&mut watch, args, range)? else {
            eprintln!("millrace-load: not even {} per second is clean", range.0);
            return watch
                .finish()
                .map(|is_clean| is_clean && !args.report.strict);
        };
        println!("highest clean rate: {best:.0} per second; measuring it");
        watch.begin_anew()?;
        watch.generator().set_rate(best);
    }
    watch.measure(args.report.warmup, args.report.seconds)?;
    watch.finish()
}

fn run_sink(args: &SinkArgs, plan: SinkPlan) -> Result<bool, Box<dyn Error>> {
    let (eal, leave) = start_eal(&args.device.eal())?;
    let generator = Generator::start(eal, &eal.worker_lcores(), &plan.setup, |lcore, counters| {
        Sink::new(plan.share(lcore), counters)
    })?;
    let mut watch = Watch::new(generator, &args.report, "sink".to_owned(), leave)?;
    watch.measure(args.report.warmup, args.report.seconds)?;
    watch.finish()
}

fn run_light(args: &LightArgs, config: &StationConfig) -> Result<bool, Box<dyn Error>> {
    let (eal, leave) = start_eal(&args.device.eal())?;
    station_command::run(eal, args, config, &leave)
}

/// Starts EAL, and turns signals into a flag.
fn start_eal(args: &EalArgs) -> Result<(Eal, Arc<AtomicBool>), Box<dyn Error>> {
    let leave = Arc::new(AtomicBool::new(false));
    let eal = Eal::start(args)?;
    // After EAL, whose drivers may install handlers of their own.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&leave))?;
    }
    Ok((eal, leave))
}

/// The highest rate of which every second counts and nearly everything offered is done.
fn search(
    watch: &mut Watch,
    args: &ClientArgs,
    (low, high): (f64, f64),
) -> Result<Option<f64>, Box<dyn Error>> {
    let mut search = Search::new(low, high, args.search_tolerance / 100.0);
    while let Some(rate) = search.next() {
        watch.generator().set_rate(rate);
        // What an overload before left behind may leave first.
        for _ in 0..SETTLES_MAX {
            if watch.settle(SETTLE_SECS)? {
                break;
            }
        }
        watch.begin_anew()?;
        watch.measure(0.0, Some(args.search_secs))?;
        if watch.is_to_leave() {
            return Ok(search.best());
        }
        let summary = watch.summary();
        let achieved = summary.raw_rate;
        let is_clean = summary.counted_secs >= summary.measured_secs
            && summary.measured_secs > 0.0
            && achieved >= rate * DONE_SHARE;
        let verdict = if is_clean { "clean" } else { "not clean" };
        println!("trial: {rate:.0} per second, {achieved:.0} done: {verdict}");
        watch.note_trial(Trial {
            rate,
            achieved,
            is_clean,
        });
        search.tell(is_clean);
    }
    Ok(search.best())
}
