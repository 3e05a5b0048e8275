//! `millrace-sim`: plays seeds and says which failed. `cargo xtask sim` builds it and runs it in the
//! root of the tree, with the same arguments.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use millrace_sim::{Failure, Outcome, Seed, Tally, Verdict, compute, play, record, review};

/// Failures after which no further seed is played: more tell nothing new.
const FAILURES_MAX: usize = 20;
/// With more seeds than these, a line now and then tells how far they are.
const QUIET_SEEDS_MAX: usize = 2_000;
/// How often.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// The seeds that failed once, and the golden tables, as the tree has them.
const LIST: &str = "dataplane/sim/seeds.txt";
const GOLDEN: &str = "dataplane/sim/golden";

/// Plays seeds of the simulator.
#[derive(Parser)]
#[command(name = "cargo xtask sim")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Begin at a seed that the clock chooses, and say which.
    #[arg(long, conflicts_with = "first")]
    fresh: bool,
    /// Only seeds with a peer that lies: as many, from the first on.
    #[arg(long)]
    hostile: bool,
    /// Play this seed alone and save its packets: a number, or one with its edition as in "28285.1".
    #[arg(long, conflicts_with_all = ["seeds", "first", "fresh", "hostile"])]
    replay: Option<Seed>,
    /// Play the seeds that failed once (`dataplane/sim/seeds.txt`).
    #[arg(long, conflicts_with_all = ["seeds", "first", "fresh", "hostile", "replay"])]
    listed: bool,
    /// Where captures of seeds that fail go.
    #[arg(long, default_value = "target/sim")]
    captures: PathBuf,
    /// Compute the golden tables and compare them with those in the tree (`dataplane/sim/golden`).
    #[arg(long, conflicts_with_all = ["seeds", "first", "fresh", "hostile", "replay", "listed"])]
    golden: bool,
    /// The golden table of this name alone.
    #[arg(long, requires = "golden")]
    table: Option<String>,
    /// Write the golden tables instead of comparing them.
    #[arg(long, requires = "golden")]
    bless: bool,
    /// Seeds or rows at a time; as many as there are processors.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What a panic says is part of the verdict; its place is still worth a line.
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("millrace-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays; whether all passed.
fn run(arguments: &Arguments) -> std::io::Result<bool> {
    std::fs::create_dir_all(&arguments.captures)?;
    if arguments.golden {
        return golden(arguments, Path::new(GOLDEN));
    }
    if let Some(seed) = arguments.replay {
        return replay(seed, &arguments.captures);
    }
    let seeds = chosen(arguments)?;
    let began = Instant::now();
    let (next, busy) = (AtomicU64::new(0), AtomicU64::new(0));
    let results = Mutex::new(Results::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs(arguments) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(seed) = seeds.get(number) else { break };
                    let since = Instant::now();
                    let outcome = play(*seed);
                    let micros = since.elapsed().as_micros() as u64;
                    busy.fetch_add(micros, Ordering::Relaxed);
                    // What failed is said at once: who waits for a hundred thousand can begin.
                    if let Err(failure) = &outcome {
                        report(*seed, failure, &arguments.captures);
                    }
                    if !settle(&outcome, &results, (began, seeds.len())) {
                        break;
                    }
                }
            });
        }
    });
    let results = results.into_inner();
    let results = results.unwrap_or_else(std::sync::PoisonError::into_inner);
    let Results {
        played,
        total,
        failed,
        told: _,
    } = results;
    println!(
        "{played} seeds, {failed} failed; {} segments, {} bytes read, {} packets lost; {:.1} s, \
         {:.0} seeds a second and thread",
        total.segments,
        total.bytes,
        total.lost,
        began.elapsed().as_secs_f64(),
        (played * 1_000_000) as f64 / busy.into_inner().max(1) as f64,
    );
    if played < seeds.len() as u64 {
        println!(
            "and {} not played: enough have failed",
            seeds.len() as u64 - played
        );
    }
    Ok(failed == 0)
}

/// Computes the golden tables; whether they are those in the tree.
fn golden(arguments: &Arguments, folder: &Path) -> std::io::Result<bool> {
    let began = Instant::now();
    let computed = compute(arguments.table.as_deref(), jobs(arguments));
    let tables = computed.map_err(std::io::Error::other)?;
    if tables.is_empty() {
        return Err(std::io::Error::other("there is no table of this name"));
    }
    let mut differing = 0;
    for table in &tables {
        match review(table, folder, arguments.bless)? {
            Verdict::Same => println!("same     {}.txt", table.name),
            Verdict::Written => println!("written  {}.txt", table.name),
            Verdict::Differs(lines) => {
                differing += 1;
                println!(
                    "DIFFERS  {}.txt (- in the tree, + now)\n{lines}",
                    table.name
                );
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} tables, {differing} differ; {seconds:.1} s",
        tables.len()
    );
    if differing > 0 {
        println!("If the stack is meant to do this: run `cargo xtask sim --golden --bless`");
        println!("and review the diff of dataplane/sim/golden as a part of the change.");
    }
    Ok(differing == 0)
}

fn jobs(arguments: &Arguments) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.jobs.unwrap_or(cores).max(1)
}

fn chosen(arguments: &Arguments) -> std::io::Result<Vec<Seed>> {
    if arguments.listed {
        let text = std::fs::read_to_string(LIST)?;
        return millrace_sim::listed(&text).map_err(std::io::Error::other);
    }
    let first = match arguments.fresh {
        false => arguments.first,
        true => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let first = now.map_or(0, |since| since.as_secs() * 1_000);
            println!("fresh seeds from {first} on: --first {first}");
            first
        }
    };
    let seeds = (first..=u64::MAX).map(Seed::newest);
    let wanted = seeds.filter(|seed| !arguments.hostile || seed.is_hostile());
    Ok(wanted.take(arguments.seeds as usize).collect())
}

/// What came of all seeds so far.
#[derive(Default)]
struct Results {
    played: u64,
    total: Tally,
    failed: usize,
    /// Lines of progress that were written.
    told: u32,
}

/// Takes note of a result, and now and then tells how far it is (`pace`: since when, and how many
/// seeds in all); whether to go on.
fn settle(outcome: &Outcome, results: &Mutex<Results>, pace: (Instant, usize)) -> bool {
    let mut results = results
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    results.played += 1;
    match outcome {
        Ok(tally) => {
            results.total.segments += tally.segments;
            results.total.bytes += tally.bytes;
            results.total.lost += tally.lost;
        }
        Err(_) => results.failed += 1,
    }
    let (began, seeds) = pace;
    let elapsed = began.elapsed();
    if seeds > QUIET_SEEDS_MAX && elapsed >= PROGRESS_EVERY * (results.told + 1) {
        results.told = (elapsed.as_secs() / PROGRESS_EVERY.as_secs()) as u32;
        eprintln!(
            "{} of {seeds} seeds after {:.0} s, {} failed",
            results.played,
            elapsed.as_secs_f64(),
            results.failed
        );
    }
    results.failed < FAILURES_MAX
}

/// Says what failed and how to play it again, and keeps its packets: all at once, so that two that
/// fail together do not mix.
fn report(seed: Seed, failure: &Failure, folder: &Path) {
    let file = folder.join(format!("{seed}.pcap"));
    let again = record(seed, &file);
    let (seconds, micros) = (failure.at_micros / 1_000_000, failure.at_micros % 1_000_000);
    let packets = match &again {
        Ok(_) => format!("packets: {}", file.display()),
        Err(error) => format!("no packets: {}: {error}", file.display()),
    };
    let differs = match again {
        Ok(again) if again.as_ref().err() != Some(failure) => {
            "\n     and it fails in another way when it is played again"
        }
        _ => "",
    };
    println!(
        "FAIL seed {seed} at {seconds}.{micros:06} s: {}\n     \
         replay: cargo xtask sim --replay {seed}\n     {packets}{differs}",
        failure.what
    );
}

fn replay(seed: Seed, folder: &Path) -> std::io::Result<bool> {
    let file = folder.join(format!("{seed}.pcap"));
    let outcome = record(seed, &file)?;
    println!("packets: {}", file.display());
    match outcome {
        Ok(tally) => {
            println!("ok   seed {seed}: {tally:?}");
            Ok(true)
        }
        Err(failure) => {
            println!("{}", failure.scenario);
            let (seconds, micros) = (failure.at_micros / 1_000_000, failure.at_micros % 1_000_000);
            println!(
                "FAIL seed {seed} at {seconds}.{micros:06} s: {}",
                failure.what
            );
            Ok(false)
        }
    }
}
