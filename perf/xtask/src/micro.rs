//! `cargo xtask micro`: instructions per packet of the hot paths, counted, not timed.
//!
//! Each path of `perf/micro` runs once under valgrind's callgrind, which counts what lies between
//! the entry and the exit of one named function. Same tree, same compiler, same count: so a rise of
//! more than [`TOLERANCE`] over `perf/micro/baseline.toml` fails the `micro` step, on a busy
//! machine as on a quiet one.
//!
//! Not through a bench framework: those that drive callgrind want a runner of exactly their own
//! version installed on every machine, and all that is needed here is one number per path.

mod functions;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::{paths, process, setup};

/// How much a count may exceed its baseline.
const TOLERANCE: f64 = 0.02;

/// How long one path may take. They take a second or two.
const PATH_LIMIT: Duration = Duration::from_secs(120);

/// Fixed, so that the count does not depend on what this machine's processor could do, nor on what
/// somebody else's settings ask of the compiler.
const RUSTFLAGS: &str = "-C target-cpu=x86-64-v2";

/// The C library chooses its copy routines by processor; this makes it choose the plain ones.
const TUNABLES: &str =
    "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL,-ERMS,-FSRM";

/// Where callgrind's files go when nobody says where.
const PROFILES: &str = "micro-profiles";

/// Arguments of `cargo xtask micro`.
#[derive(Args)]
pub(crate) struct MicroArguments {
    /// Only these paths, comma separated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Write what was counted as the new baseline. The reason belongs into the commit.
    #[arg(long, conflicts_with = "only")]
    accept: bool,
    /// Keep callgrind's files, for `callgrind_annotate`, in this folder.
    #[arg(long, value_name = "FOLDER")]
    profiles: Option<PathBuf>,
}

/// Instructions per unit, by path.
pub(crate) type Counts = BTreeMap<String, f64>;

/// `perf/micro/baseline.toml`.
#[derive(Deserialize)]
struct Baseline {
    /// `rustc --version` of whoever made it: other compilers count otherwise.
    rustc: String,
    instructions: Counts,
}

/// How the counts compare to the baseline.
#[derive(Debug, PartialEq)]
pub(crate) enum Judgement {
    /// None rose beyond the tolerance.
    Fine,
    /// These did, or are missing on either side.
    Worse(Vec<String>),
    /// Made by another compiler.
    Incomparable(String),
}

/// Whether this machine can count.
pub(crate) fn has_valgrind() -> bool {
    let mut probe = Command::new("valgrind");
    probe.arg("--version");
    process::finish(&mut probe, Duration::from_secs(20)).is_ok_and(|done| done.success())
}

/// Runs the task with what the command line says; `false` when a path got more expensive.
pub(crate) fn run(arguments: &MicroArguments) -> Result<bool> {
    setup::ensure()?;
    if !has_valgrind() {
        bail!("valgrind is not installed; `cargo xtask setup` installs it");
    }
    let counts = count(&arguments.only, arguments.profiles.as_deref())?;
    if arguments.accept {
        std::fs::write(baseline_file(), baseline_text(&counts)?)
            .context("perf/micro/baseline.toml")?;
        println!("wrote perf/micro/baseline.toml; say in the commit why it changed");
        return Ok(true);
    }
    let judgement = judge(&counts, arguments.only.is_empty())?;
    Ok(judgement == Judgement::Fine)
}

/// Counts the paths, all or these. `profiles` keeps callgrind's files.
pub(crate) fn count(only: &[String], profiles: Option<&Path>) -> Result<Counts> {
    let binary = build()?;
    let mut list = Command::new(&binary);
    let listed = process::must(list.arg("--list"), Duration::from_secs(20))?;
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!(
            "there is no path `{unknown}`; there are {}",
            names.join(", ")
        );
    }
    let scratch = paths::below_target(PROFILES)?;
    let folder = profiles.unwrap_or(&scratch);
    std::fs::create_dir_all(folder)?;
    let chosen = |name: &&str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    let mut counts = Counts::new();
    for name in names.into_iter().filter(chosen) {
        let per_unit = count_one(&binary, name, folder).with_context(|| name.to_owned())?;
        counts.insert(name.to_owned(), per_unit);
    }
    Ok(counts)
}

/// Where the instructions of a path are: those of each function by itself, per unit of the path. Of the files that the
/// last `count` without a folder of its own has left.
pub(crate) fn profile_of(name: &str, per_unit: f64) -> Result<Vec<(String, f64)>> {
    let file = paths::below_target(PROFILES)?.join(format!("{name}.callgrind"));
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let functions = functions::functions_in(&text);
    let all: f64 = functions.iter().map(|(_, cost)| cost).sum();
    let scaled = functions.into_iter();
    Ok(scaled
        .map(|(function, cost)| (function, cost / all * per_unit))
        .collect())
}

/// Builds the paths, in a folder of their own: the flags would make every other build start anew.
fn build() -> Result<PathBuf> {
    let folder = paths::below_target("micro")?;
    let status = Command::new(env!("CARGO"))
        .current_dir(paths::root())
        .args(["build", "--quiet", "--release", "-p", "millrace-micro"])
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // Pieces compiled apart are inlined less.
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TARGET_DIR", &folder)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("perf/micro does not build ({status})");
    }
    Ok(folder.join("release/millrace-micro"))
}

fn count_one(binary: &Path, name: &str, folder: &Path) -> Result<f64> {
    let out = folder.join(format!("{name}.callgrind"));
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet"])
        .args(["--collect-atstart=no", "--toggle-collect=*measured_region*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(binary)
        .arg(name)
        // The environment lies on the stack and shifts what is on it.
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("GLIBC_TUNABLES", TUNABLES);
    let said = process::must(&mut command, PATH_LIMIT)?;
    let units = said
        .lines()
        .find_map(|line| line.strip_prefix("units "))
        .and_then(|units| units.parse::<u32>().ok())
        .filter(|units| *units > 0)
        .with_context(|| format!("no units in `{said}`"))?;
    let profile = std::fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    let instructions = instructions_in(&profile)
        .filter(|instructions| *instructions > 0.0)
        .context("callgrind counted nothing: the measured function was not found")?;
    Ok(instructions / f64::from(units))
}

/// The sum over a callgrind file.
fn instructions_in(profile: &str) -> Option<f64> {
    let total = profile.lines().find_map(|line| {
        line.strip_prefix("summary: ")
            .or_else(|| line.strip_prefix("totals: "))
    })?;
    total.trim().parse().ok()
}

/// Prints each count beside its baseline and judges them. `all`: every path was counted.
pub(crate) fn judge(counts: &Counts, all: bool) -> Result<Judgement> {
    let text = std::fs::read_to_string(baseline_file()).context("perf/micro/baseline.toml")?;
    let baseline: Baseline = toml::from_str(&text).context("perf/micro/baseline.toml")?;
    println!(
        "{:<16} {:>12} {:>12} {:>8}",
        "path", "instructions", "baseline", "change"
    );
    for (name, count) in counts {
        let known = baseline.instructions.get(name);
        let before = known.map_or("-".to_owned(), |known| format!("{known:.1}"));
        let change = known.map_or("new".to_owned(), |known| percent(count / known));
        println!("{name:<16} {count:>12.1} {before:>12} {change:>8}");
    }
    let here = rustc()?;
    if here != baseline.rustc {
        let why = format!("the baseline is of {}, this is {here}", baseline.rustc);
        println!("{why}: not compared; `cargo xtask micro --accept` makes a new one");
        return Ok(Judgement::Incomparable(why));
    }
    let judgement = compare(counts, &baseline.instructions, all);
    match &judgement {
        Judgement::Worse(paths) => println!(
            "more than {} above the baseline, or without one: {}\n\
             If that is what the change costs, `cargo xtask micro --accept` makes these counts the\n\
             baseline; commit perf/micro/baseline.toml with the reason. `--profiles FOLDER` keeps what\n\
             callgrind_annotate needs to show where the instructions are.",
            percent(1.0 + TOLERANCE),
            paths.join(", ")
        ),
        Judgement::Fine if gained(counts, &baseline.instructions) => {
            println!("some paths got cheaper: `cargo xtask micro --accept` guards the gain")
        }
        Judgement::Fine | Judgement::Incomparable(_) => {}
    }
    Ok(judgement)
}

fn compare(counts: &Counts, baseline: &Counts, all: bool) -> Judgement {
    let is_worse = |(name, count): &(&String, &f64)| {
        let known = baseline.get(*name);
        known.is_none_or(|known| **count > known * (1.0 + TOLERANCE))
    };
    let mut worse: Vec<String> = counts
        .iter()
        .filter(is_worse)
        .map(|(name, _)| name.clone())
        .collect();
    if all {
        let is_gone = |name: &&String| !counts.contains_key(*name);
        worse.extend(baseline.keys().filter(is_gone).cloned());
    }
    if worse.is_empty() {
        Judgement::Fine
    } else {
        Judgement::Worse(worse)
    }
}

fn gained(counts: &Counts, baseline: &Counts) -> bool {
    counts.iter().any(|(name, count)| {
        let known = baseline.get(name);
        known.is_some_and(|known| *count < known * (1.0 - TOLERANCE))
    })
}

fn percent(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}

fn rustc() -> Result<String> {
    let mut command = Command::new("rustc");
    command.current_dir(paths::root()).arg("--version");
    let said = process::must(&mut command, Duration::from_secs(60))?;
    Ok(said.trim().to_owned())
}

fn baseline_file() -> PathBuf {
    paths::root().join("perf/micro/baseline.toml")
}

fn baseline_text(counts: &Counts) -> Result<String> {
    let mut text = format!(
        "# Instructions per unit of each hot path (`millrace-micro --list` says what a unit is).\n\
         # Made by `cargo xtask micro --accept`; the `micro` step of `cargo xtask test` fails above +{} %.\n\
         rustc = \"{}\"\n\n[instructions]\n",
        TOLERANCE * 100.0,
        rustc()?
    );
    for (name, count) in counts {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name} = {count:.1}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, f64)]) -> Counts {
        let owned = |(name, count): &(&str, f64)| ((*name).to_owned(), *count);
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn two_percent_more_is_fine_and_three_is_not() {
        let baseline = counts(&[("a", 100.0)]);
        assert_eq!(
            compare(&counts(&[("a", 101.9)]), &baseline, true),
            Judgement::Fine
        );
        let worse = Judgement::Worse(vec!["a".to_owned()]);
        assert_eq!(compare(&counts(&[("a", 103.0)]), &baseline, true), worse);
    }

    #[test]
    fn a_path_without_a_baseline_and_a_baseline_without_a_path_are_found() {
        let baseline = counts(&[("old", 1.0)]);
        let both = Judgement::Worse(vec!["new".to_owned(), "old".to_owned()]);
        assert_eq!(compare(&counts(&[("new", 1.0)]), &baseline, true), both);
        let one = Judgement::Worse(vec!["new".to_owned()]);
        assert_eq!(compare(&counts(&[("new", 1.0)]), &baseline, false), one);
    }

    #[test]
    fn the_sum_is_found_under_either_name() {
        assert_eq!(instructions_in("events: Ir\nsummary: 4711\n"), Some(4711.0));
        assert_eq!(instructions_in("fn=(1) x\ntotals: 12\n"), Some(12.0));
        assert_eq!(instructions_in("events: Ir\n"), None);
    }
}
