//! `cargo xtask bench`: everything that `perf/scenarios` asks for, side by side, in one run.
//!
//! | room | what it runs |
//! |---|---|
//! | `wires` | Millrace, `HAProxy`, nginx, a bare wire and testpmd between the same kernel peers |
//! | `forward`, `telemetry` | millrace-forward and dpdk-testpmd in turn on the same device |
//! | `program` | programs of this workspace that measure by themselves and print JSON |
//! | [`crate::versus`] | Millrace and the Linux kernel as senders over the same emulated paths |
//! | [`crate::micro`] | instruction counts |
//!
//! A scenario that cannot run here is skipped, loudly and on the page; a run always ends with
//! results. Only a whole run replaces those in the tree; `--add` puts a part into them, and the page
//! says which part was measured by itself, when and of what.

mod forward;
mod program;
mod telemetry;
mod wires;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use millrace_report::{
    Circumstances, Part, Results, Row, Scenario, SendersMatrix, Skip, Verdict, Work,
    read_scenarios, verdicts,
};

pub(crate) use forward::write_frames;

use crate::e2e::topology;
use crate::{binaries, interrupt, machine, micro, paths, setup, versus};

/// The paths whose functions are shown: the others are parts of these, or one function.
const PROFILED: [&str; 5] = ["data_in", "segment", "request", "session", "syn_in"];

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct BenchArguments {
    /// Only these scenarios, comma separated. The results in the tree then stay as they are.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Show the scenarios and stop.
    #[arg(long)]
    list: bool,
    /// Where results go; default perf/ for a whole run, bench/ in cargo's build folder otherwise.
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
    /// Divide every duration and number of repetitions by this: a trial of the machinery.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    hurry: u32,
    /// Replace the figures of these scenarios in the results of the tree, and keep all others.
    #[arg(long, requires = "only", conflicts_with_all = ["hurry", "page"])]
    add: bool,
    /// Measure nothing: make the page and the plots again from results.json.
    #[arg(long, conflicts_with_all = ["only", "hurry"])]
    page: bool,
}

/// What every scenario of a run shares.
pub(crate) struct Bench {
    /// Divides durations and repetitions.
    hurry: u32,
    /// The figures so far, and what was left out.
    results: Results,
}

impl Bench {
    /// Seconds, shortened when in a hurry.
    fn seconds(&self, seconds: u32) -> u32 {
        (seconds / self.hurry).max(1)
    }

    /// Says and records a figure.
    fn record(&mut self, row: Row) {
        let unit = &row.unit;
        println!(
            "{:<18} {:<18} {:<34} {:>12} {unit}",
            row.scenario,
            row.subject,
            row.quantity,
            row.text()
        );
        self.results.rows.push(row);
    }

    /// Says and records what is not measured.
    fn skip(&mut self, what: String, error: &anyhow::Error) {
        let why = format!("{error:#}").replace('\n', " ");
        println!("SKIPPED {what}: {why}");
        self.results.skipped.push(Skip { what, why });
    }
}

/// Runs the task with what the command line says.
pub(crate) fn run(arguments: &BenchArguments) -> Result<()> {
    let perf = paths::root().join("perf");
    let all = read_scenarios(&perf.join("scenarios"))?;
    if arguments.list {
        for scenario in &all {
            println!("{:<18} {}", scenario.name, scenario.title);
        }
        return Ok(());
    }
    if let Some(unknown) = unknown(&arguments.only, &all) {
        bail!("there is no scenario `{unknown}`; `cargo xtask bench --list` shows all");
    }
    let is_whole = arguments.only.is_empty() && arguments.hurry == 1;
    let folder = match &arguments.into {
        Some(folder) => folder.clone(),
        None if is_whole || arguments.add => perf,
        None => paths::below_target("bench")?,
    };
    if arguments.page {
        let results = millrace_report::read(&folder)?;
        judge(&all, &results);
        return millrace_report::write(&folder, &all, &results);
    }
    setup::ensure()?;
    topology::sweep_stale()?;
    let start = Instant::now();
    let chosen =
        |scenario: &&Scenario| arguments.only.is_empty() || arguments.only.contains(&scenario.name);
    let mut bench = Bench {
        hurry: arguments.hurry,
        results: Results {
            // Facts are read before this process pins itself.
            circumstances: circumstances(arguments),
            ..Results::default()
        },
    };
    for scenario in all.iter().filter(chosen) {
        interrupt::check()?;
        println!("==== {}: {}", scenario.name, scenario.title);
        if let Err(error) = measure(&mut bench, scenario) {
            interrupt::check()?;
            bench.skip(scenario.name.clone(), &error);
        }
    }
    let Bench { mut results, .. } = bench;
    results.circumstances.seconds = start.elapsed().as_secs();
    if arguments.add {
        results = millrace_report::read(&folder)?.with(results, &arguments.only);
    }
    millrace_report::write(&folder, &all, &results)?;
    judge(&all, &results);
    println!(
        "{} figures in {} s, {} skipped: {}",
        results.rows.len(),
        results.circumstances.seconds,
        results.skipped.len(),
        folder.join("RESULTS.md").display()
    );
    Ok(())
}

/// Says which targets were missed and why, and which explanations nobody needs any more.
fn judge(scenarios: &[Scenario], results: &Results) {
    let judged = verdicts(scenarios, results);
    for verdict in judged.iter().filter(|verdict| verdict.is_missed()) {
        let Verdict { says, target, .. } = verdict;
        let measured = verdict.measured.as_deref().unwrap_or_default();
        let why = match &verdict.shortfall {
            Some(shortfall) => shortfall.why.trim(),
            None => "UNEXPLAINED: no [[shortfalls]] of its scenario says why",
        };
        println!("MISSED {says}: {measured}, promised {target}: {why}");
    }
    for scenario in scenarios {
        for shortfall in &scenario.shortfalls {
            let is_its = |verdict: &&Verdict| {
                verdict.scenario == scenario.name && verdict.row == shortfall.row
            };
            let mut of_row = judged.iter().filter(is_its).peekable();
            let (name, row) = (&scenario.name, &shortfall.row);
            if of_row.peek().is_some() {
                if !of_row.any(Verdict::is_missed) {
                    println!("{name}: {row} is not missed; its [[shortfalls]] can go");
                }
            } else if results.rows_of(name).next().is_some() {
                println!("{name}: [[shortfalls]] explains {row}, which has no target here");
            }
        }
    }
}

fn unknown<'a>(only: &'a [String], all: &[Scenario]) -> Option<&'a String> {
    only.iter()
        .find(|name| all.iter().all(|scenario| scenario.name != **name))
}

fn circumstances(arguments: &BenchArguments) -> Circumstances {
    let mut command = "cargo xtask bench".to_owned();
    if !arguments.only.is_empty() {
        command += &format!(" --only {}", arguments.only.join(","));
    }
    if arguments.add {
        command += " --add";
    }
    if arguments.hurry > 1 {
        command += &format!(" --hurry {}", arguments.hurry);
    }
    Circumstances {
        commit: machine::commit(),
        machine: machine::facts(),
        command,
        seconds: 0,
    }
}

fn measure(bench: &mut Bench, scenario: &Scenario) -> Result<()> {
    match &scenario.work {
        Work::Wires { .. } => wires::measure(bench, scenario),
        Work::Forward { .. } => forward::measure(bench, scenario),
        Work::Program { .. } => program::measure(bench, scenario),
        Work::VersusLinux(matrix) => compare_senders(bench, scenario, matrix),
        Work::Micro => count_instructions(bench, scenario),
    }
}

fn compare_senders(bench: &mut Bench, scenario: &Scenario, matrix: &SendersMatrix) -> Result<()> {
    let mut plan = versus::Plan::new(matrix, &[])?.with(binaries::build()?);
    if bench.hurry > 1 {
        plan = plan.hurried(bench.hurry);
    }
    for row in versus::measure(&plan)? {
        bench.record(Row {
            scenario: scenario.name.clone(),
            command: "cargo xtask versus-linux".to_owned(),
            ..row
        });
    }
    Ok(())
}

fn count_instructions(bench: &mut Bench, scenario: &Scenario) -> Result<()> {
    if !micro::has_valgrind() {
        bail!("valgrind is not installed");
    }
    for (quantity, value) in micro::count(&[], None)? {
        let parts = match PROFILED.contains(&quantity.as_str()) {
            true => micro::profile_of(&quantity, value)?,
            false => Vec::new(),
        };
        bench.record(Row {
            parts: parts
                .into_iter()
                .filter(|(_, cost)| *cost >= value / 1_000.0)
                .map(|(name, value)| Part { name, value })
                .collect(),
            scenario: scenario.name.clone(),
            subject: "millrace".to_owned(),
            quantity,
            value,
            unit: "instructions".to_owned(),
            command: "cargo xtask micro".to_owned(),
            ..Row::default()
        });
    }
    Ok(())
}
