//! `cargo xtask fuzz`: the targets of `dataplane/fuzz` under libFuzzer, some minutes each.
//!
//! Built by the stable compiler with LLVM's coverage passes, every assertion armed. What an engine
//! finds on its way is kept below the build folder; `--keep` carries the smallest set of inputs that
//! reaches the same code into the tree, where the tests replay it. An input that breaks something is
//! named, and belongs into the tree with the fix.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{machine, paths, process};

/// Counters beside every edge, a table of their places, and what is compared with what.
const RUSTFLAGS: &str = "-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares \
    -C codegen-units=1";

/// Flags go to the targets and not to build scripts only when a platform is named.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// How long one input may take, in seconds.
const INPUT_SECONDS_MAX: u32 = 20;

/// What the engine may take beyond its time: to load the corpus, to finish an input.
const GRACE: Duration = Duration::from_secs(300);

/// Inputs of one target in the tree, the smallest first.
const KEPT_MAX: usize = 60;

/// Arguments of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct FuzzArguments {
    /// Only these targets, comma separated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Targets at a time; as many as there are processors.
    #[arg(long)]
    jobs: Option<usize>,
    /// Carry a small corpus that reaches what was reached into the tree.
    #[arg(long)]
    keep: bool,
}

/// Fuzzes; whether nothing was found.
pub(crate) fn run(arguments: &FuzzArguments) -> Result<bool> {
    let names = targets(&arguments.only)?;
    let binary = build()?;
    let queue = Mutex::new(names.iter());
    let failed = Mutex::new(Vec::new());
    let jobs = arguments.jobs.unwrap_or_else(machine::cpus).max(1);
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(names.len()) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.next());
                    let Some(name) = next else { break };
                    match fuzz(&binary, name, arguments) {
                        Ok(line) => println!("ok   {name}: {line}"),
                        Err(error) => {
                            println!("FAIL {name}: {error:#}");
                            if let Ok(mut failed) = failed.lock() {
                                failed.push(name.clone());
                            }
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    Ok(failed.is_empty())
}

/// Every target has a folder with a corpus.
fn targets(only: &[String]) -> Result<Vec<String>> {
    let corpora = corpora();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&corpora).with_context(|| corpora.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
        bail!("no target {unknown}; there are {}", names.join(", "));
    }
    names.retain(|name| only.is_empty() || only.contains(name));
    Ok(names)
}

fn corpora() -> PathBuf {
    paths::root().join("dataplane/fuzz/corpus")
}

fn build() -> Result<PathBuf> {
    let folder = paths::below_target("fuzz")?;
    let status = Command::new(env!("CARGO"))
        .current_dir(paths::root())
        .args(["build", "--quiet", "--profile", "fuzz"])
        .args(["--package", "millrace-fuzz", "--features", "engine"])
        .args(["--target", PLATFORM])
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_DIR", &folder)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("dataplane/fuzz does not build ({status})");
    }
    Ok(folder.join(PLATFORM).join("fuzz/millrace-fuzz"))
}

fn fuzz(binary: &Path, name: &str, arguments: &FuzzArguments) -> Result<String> {
    let grown = paths::below_target(&format!("fuzz/corpus/{name}"))?;
    let findings = paths::below_target("fuzz/findings")?.join(format!("{name}-"));
    let mut command = Command::new(binary);
    command
        .env("MILLRACE_FUZZ_TARGET", name)
        .arg(&grown)
        .arg(corpora().join(name))
        .arg(format!("-max_total_time={}", arguments.seconds))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}", findings.display()))
        .args(["-max_len=4096", "-rss_limit_mb=3072"])
        .args(["-print_final_stats=1", "-use_value_profile=0"]);
    let limit = Duration::from_secs(arguments.seconds.into()) + GRACE;
    let finished = process::finish(&mut command, limit)?;
    if !finished.success() {
        let said = process::tail(&finished.stderr, 30);
        bail!("{}\n{said}", process::line_of(&command));
    }
    if arguments.keep {
        keep(binary, name, &grown)?;
    }
    Ok(summary(&finished.stderr))
}

/// Inputs a second and what they reached, of what the engine printed.
fn summary(said: &str) -> String {
    let stat = |key: &str| {
        let line = said.lines().rev().find_map(|line| line.strip_prefix(key));
        line.map_or_else(String::new, |value| value.trim().to_owned())
    };
    let covered = said.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("cov: ")?;
        rest.split_whitespace().next()
    });
    format!(
        "{} inputs, {} a second, {} places reached, no finding",
        stat("stat::number_of_executed_units:"),
        stat("stat::average_exec_per_sec:"),
        covered.unwrap_or("?")
    )
}

/// Puts the smallest inputs that reach everything into the tree.
fn keep(binary: &Path, name: &str, grown: &Path) -> Result<()> {
    let merged = paths::below_target(&format!("fuzz/merged/{name}"))?;
    std::fs::remove_dir_all(&merged)?;
    std::fs::create_dir_all(&merged)?;
    let kept = corpora().join(name);
    let mut command = Command::new(binary);
    command
        .env("MILLRACE_FUZZ_TARGET", name)
        .args(["-merge=1", "-max_len=4096"])
        .arg(&merged)
        .arg(&kept)
        .arg(grown);
    process::must(&mut command, GRACE)?;
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(&merged)? {
        let entry = entry?;
        inputs.push((entry.metadata()?.len(), entry.path()));
    }
    inputs.sort();
    for (_, input) in inputs.into_iter().take(KEPT_MAX) {
        let file = input.file_name().context("a file has a name")?;
        std::fs::copy(&input, kept.join(file))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_last_words_are_summed_up() {
        let said = "#128 NEW cov: 77 ft: 80\n#200\tDONE   cov: 91 ft: 93 corp: 3\n\
                    stat::number_of_executed_units: 200\nstat::average_exec_per_sec:     50\n";
        let line = summary(said);
        assert_eq!(
            line,
            "200 inputs, 50 a second, 91 places reached, no finding"
        );
    }
}
