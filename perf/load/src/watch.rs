//! The main thread: a line per second, the end of the run, and what is left behind.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millrace_load::generator::{Generator, LoadError};
use millrace_load::observer::{Interval, Observer, Phase, Summary};
use millrace_load::search::Trial;
use millrace_load::{plot, print};
use serde::Serialize;

use crate::args::ReportArgs;

/// Length of an interval.
const INTERVAL_SECS: f64 = 1.0;
/// Shorter rests of an interval are not worth a line.
const REST_SECS_MIN: f64 = 0.05;
/// How long a signal may go unnoticed.
const TURN: Duration = Duration::from_millis(20);
/// How long operations under way may take to end when the run is over.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// A run and its watcher.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    generator: Generator,
    observer: Observer,
    report: &'a ReportArgs,
    title: String,
    leave: Arc<AtomicBool>,
    began: Instant,
    trials: Vec<Trial>,
}

/// Everything, for programs.
#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    arguments: Vec<String>,
    title: &'a str,
    device: String,
    summary: Summary,
    trials: &'a [Trial],
    intervals: &'a [Interval],
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        generator: Generator,
        report: &'a ReportArgs,
        title: String,
        leave: Arc<AtomicBool>,
    ) -> Result<Self, Box<dyn Error>> {
        println!("{}{title}", generator.describe());
        Ok(Self {
            observer: Observer::new(generator.counters(), 0)?,
            generator,
            report,
            title,
            leave,
            began: Instant::now(),
            trials: Vec::new(),
        })
    }

    pub(crate) fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Forgets what was measured: the next measurement stands alone.
    pub(crate) fn begin_anew(&mut self) -> Result<(), Box<dyn Error>> {
        let drops = self.generator.device_drops();
        self.observer = Observer::new(self.generator.counters(), drops)?;
        self.began = Instant::now();
        Ok(())
    }

    /// Watches until everything is open, the warm-up is over and so many seconds were measured, or
    /// a signal comes.
    pub(crate) fn measure(&mut self, warmup: f64, seconds: Option<f64>) -> Result<(), LoadError> {
        let mut running_since = None;
        let mut measuring_since = None;
        loop {
            let now = self.elapsed();
            if running_since.is_none() && self.observer.is_running() {
                running_since = Some(now);
            }
            let is_warm = running_since.is_some_and(|since| now >= since + warmup - 1e-3);
            if is_warm && measuring_since.is_none() {
                measuring_since = Some(now);
            }
            let end = seconds
                .zip(measuring_since)
                .map(|(secs, since)| since + secs);
            if end.is_some_and(|end| now >= end - 1e-3) || self.is_to_leave() {
                return Ok(());
            }
            // The first measured second begins where the warm-up ends.
            let warm_at = running_since
                .filter(|_| !is_warm)
                .map(|since| since + warmup);
            let next = [end, warm_at].into_iter().flatten();
            let next = next.fold(now + INTERVAL_SECS, f64::min);
            self.interval(next, is_warm)?;
        }
    }

    /// Lets some time pass that does not count; tells whether it was clean.
    pub(crate) fn settle(&mut self, seconds: f64) -> Result<bool, LoadError> {
        let interval = self.interval(self.elapsed() + seconds, false)?;
        Ok(interval.is_none_or(|it| it.phase != Phase::Opening && it.tally.is_clean()))
    }

    pub(crate) fn note_trial(&mut self, trial: Trial) {
        self.trials.push(trial);
    }

    pub(crate) fn summary(&self) -> Summary {
        self.observer.summary()
    }

    /// Whether a signal has come.
    pub(crate) fn is_to_leave(&self) -> bool {
        // Relaxed: the flag carries no data.
        self.leave.load(Ordering::Relaxed)
    }

    /// Ends the run and says what it was. `false`: `--strict`, and a measured second did not count.
    pub(crate) fn finish(mut self) -> Result<bool, Box<dyn Error>> {
        self.generator.wind_down();
        let since = Instant::now();
        while self.generator.in_flight() > 0 && since.elapsed() < DRAIN_MAX {
            std::thread::sleep(TURN);
        }
        self.generator.stop()?;
        let drops = self.generator.device_drops();
        self.observer.tick(self.elapsed(), false, drops);
        let summary = self.observer.summary();
        print!("{}\n{}", self.title, print::table(&summary));
        if let Some(path) = &self.report.json {
            let document = Document {
                version: env!("CARGO_PKG_VERSION"),
                arguments: std::env::args().skip(1).collect(),
                title: &self.title,
                device: self.generator.describe(),
                summary,
                trials: &self.trials,
                intervals: self.observer.intervals(),
            };
            std::fs::write(path, serde_json::to_vec_pretty(&document)?)?;
        }
        if let Some(path) = &self.report.plot {
            plot::write(path, &self.title, self.observer.intervals())?;
        }
        let all_count = summary.counted_secs > 0.0 && summary.counted_secs >= summary.measured_secs;
        Ok(all_count || !self.report.strict)
    }

    /// Waits, and ends an interval.
    fn interval(&mut self, until: f64, is_warm: bool) -> Result<Option<Interval>, LoadError> {
        let from = self.elapsed();
        while self.elapsed() < until && !self.is_to_leave() {
            let left = Duration::from_secs_f64((until - self.elapsed()).max(0.0));
            std::thread::sleep(left.min(TURN));
            if self.generator.has_ended() {
                self.generator.stop()?;
            }
        }
        let now = self.elapsed();
        if now - from < REST_SECS_MIN {
            return Ok(None);
        }
        let drops = self.generator.device_drops();
        let interval = self.observer.tick(now, is_warm, drops);
        if !self.report.quiet {
            println!("{}", print::line(&interval));
        }
        Ok(Some(interval))
    }

    fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}
