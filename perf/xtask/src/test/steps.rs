//! The steps of `cargo xtask test`, one function each.

use std::process::Command;

use anyhow::{Context, Result};

use super::tidy;
use crate::micro::{self, Judgement};
use crate::{binaries, docker_lint, e2e, forward_check, paths, qnic, sim};

/// How a step ended.
pub(super) enum Outcome {
    Passed,
    /// With the sentence for the summary.
    Failed(String),
    /// With the reason, which is printed loudly.
    Skipped(String),
}

/// A named check.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) run: fn() -> Result<Outcome>,
}

/// All steps in order.
pub(super) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        about: "formatting",
        run: fmt,
    },
    Step {
        name: "tidy",
        about: "the tree: arrows, unsafe, words, lengths",
        run: tidy_tree,
    },
    Step {
        name: "scripts",
        about: "shellcheck over every script",
        run: scripts,
    },
    Step {
        name: "docker-lint",
        about: "container files, without an engine",
        run: docker,
    },
    Step {
        name: "clippy",
        about: "lints of everything without DPDK, warnings denied",
        run: clippy,
    },
    Step {
        name: "clippy-dpdk",
        about: "lints of the DPDK crates, warnings denied",
        run: clippy_dpdk,
    },
    Step {
        name: "unit",
        about: "all tests that need no DPDK",
        run: unit,
    },
    Step {
        name: "doc",
        about: "examples in the documentation",
        run: doc,
    },
    Step {
        name: "micro",
        about: "instructions of the hot paths against their baseline",
        run: hot_paths,
    },
    Step {
        name: "sim",
        about: "seeds of the simulator: fresh ones, those that failed once; its golden tables",
        run: simulate,
    },
    Step {
        name: "loom",
        about: "rings and snapshots under every interleaving",
        run: loom,
    },
    Step {
        name: "dpdk",
        about: "tests of the DPDK crates on virtual devices",
        run: dpdk,
    },
    Step {
        name: "dpdk-kernel",
        about: "tests of the DPDK crate with the kernel on the other side, in a network namespace",
        run: dpdk_kernel,
    },
    Step {
        name: "forward",
        about: "every mode of millrace-forward on every virtual device",
        run: forward,
    },
    Step {
        name: "image-build",
        about: "the install and build steps of the container images",
        run: image_build,
    },
    Step {
        name: "conf",
        about: "every file in conf/ is accepted by `millrace check`",
        run: conf,
    },
    Step {
        name: "e2e",
        about: "end to end in network namespaces",
        run: end_to_end,
    },
    Step {
        name: "qnic",
        about: "an emulated Intel card with four queues, in a guest",
        run: emulated_card,
    },
];

/// The crates that need libdpdk to build.
const DPDK_CRATES: [&str; 12] = [
    "-p",
    "millrace-dpdk-sys",
    "-p",
    "millrace-dpdk",
    "-p",
    "millrace-worker",
    "-p",
    "millrace-forward",
    "-p",
    "millrace-load",
    "-p",
    "millrace-rig",
];

/// Runs cargo in the foreground; its output is the step's output.
fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Outcome> {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(paths::root())
        .args(arguments)
        .envs(environment.iter().copied());
    outcome_of(&mut command)
}

fn outcome_of(command: &mut Command) -> Result<Outcome> {
    let line = crate::process::line_of(command);
    println!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    Ok(if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("`{line}`: {status}"))
    })
}

fn fmt() -> Result<Outcome> {
    cargo(&["fmt", "--all", "--check"], &[])
}

fn tidy_tree() -> Result<Outcome> {
    let clean = tidy::run()?;
    Ok(if clean {
        Outcome::Passed
    } else {
        Outcome::Failed("see the lines above".to_owned())
    })
}

/// Tracked shell scripts: by name or by their first line.
fn scripts() -> Result<Outcome> {
    let files: Vec<_> = tidy::tracked_files()?
        .into_iter()
        .filter(|path| {
            let text = std::fs::read_to_string(paths::root().join(path)).unwrap_or_default();
            let first = text.lines().next().unwrap_or_default();
            path.ends_with(".sh") || (first.starts_with("#!") && first.contains("sh"))
        })
        .collect();
    if files.is_empty() {
        return Ok(Outcome::Skipped("there is no script".to_owned()));
    }
    outcome_of(
        Command::new("shellcheck")
            .current_dir(paths::root())
            .args(&files),
    )
}

fn docker() -> Result<Outcome> {
    let clean = docker_lint::lint()?;
    Ok(if clean {
        Outcome::Passed
    } else {
        Outcome::Failed("see the lines above".to_owned())
    })
}

/// The install and build steps of the images, run here: without an engine, but by the same script.
fn image_build() -> Result<Outcome> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Outcome::Skipped("apt-get needs root".to_owned()));
    }
    let mut script = Command::new("docker/build.sh");
    // The end-to-end tests run the same profile: what is built here is not built again.
    script
        .current_dir(paths::root())
        .arg("all")
        .env("PROFILE", binaries::PROFILE);
    outcome_of(&mut script)
}

fn clippy() -> Result<Outcome> {
    cargo(
        &["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"],
        &[],
    )
}

fn clippy_dpdk() -> Result<Outcome> {
    let mut arguments = vec!["clippy", "--quiet", "--all-targets"];
    arguments.extend(DPDK_CRATES);
    arguments.extend(["--", "-D", "warnings"]);
    cargo(&arguments, &[])
}

/// Whether cargo-nextest is there. It is not required: `cargo test` runs the same tests.
fn has_nextest() -> bool {
    let mut probe = Command::new(env!("CARGO"));
    probe
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn tests(selection: &[&str]) -> Result<Outcome> {
    let mut arguments = if has_nextest() {
        vec!["nextest", "run", "--no-tests", "pass"]
    } else {
        println!("cargo-nextest is not installed; cargo test runs the same tests");
        vec!["test", "--quiet", "--tests"]
    };
    arguments.extend(selection);
    cargo(&arguments, &[])
}

fn unit() -> Result<Outcome> {
    tests(&[])
}

fn doc() -> Result<Outcome> {
    cargo(&["test", "--quiet", "--doc"], &[])
}

fn hot_paths() -> Result<Outcome> {
    if !micro::has_valgrind() {
        return Ok(Outcome::Skipped(
            "valgrind is not installed; `cargo xtask setup` installs it".to_owned(),
        ));
    }
    let counts = micro::count(&[], None)?;
    Ok(match micro::judge(&counts, true)? {
        Judgement::Fine => Outcome::Passed,
        Judgement::Worse(paths) => Outcome::Failed(format!(
            "more instructions than the baseline allows: {}",
            paths.join(", ")
        )),
        Judgement::Incomparable(why) => Outcome::Skipped(why),
    })
}

fn simulate() -> Result<Outcome> {
    Ok(if sim::check()? {
        Outcome::Passed
    } else {
        Outcome::Failed(
            "a seed failed or a table differs; the output above says how to go on".to_owned(),
        )
    })
}

fn loom() -> Result<Outcome> {
    // The flag changes every crate; a build folder of its own keeps the other steps' builds warm.
    let folder = paths::below_target("loom")?;
    let folder = folder
        .to_str()
        .context("the build folder's name is not UTF-8")?;
    let environment = [
        ("RUSTFLAGS", "--cfg loom"),
        ("CARGO_TARGET_DIR", folder),
        // Three preemptions find nearly every ordering bug, and end in seconds.
        ("LOOM_MAX_PREEMPTIONS", "3"),
    ];
    cargo(
        &["test", "--quiet", "-p", "millrace-abi", "--test", "loom"],
        &environment,
    )
}

fn dpdk() -> Result<Outcome> {
    tests(&DPDK_CRATES)
}

/// The tests of the DPDK crate that make interfaces, in a network namespace of their own: nothing of
/// theirs outlives it.
fn dpdk_kernel() -> Result<Outcome> {
    let mut probe = Command::new("unshare");
    probe.args(["--net", "true"]);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        return Ok(Outcome::Skipped(
            "no permission for a network namespace (`unshare --net`); run it as root".to_owned(),
        ));
    }
    let mut command = Command::new("unshare");
    // One at a time: each makes a pool of its own in the same process.
    command
        .current_dir(paths::root())
        .args(["--net", env!("CARGO"), "test", "--quiet", "--offline"])
        .args(["-p", "millrace-dpdk", "--test", "kernel", "--"])
        .args(["--ignored", "--test-threads=1"]);
    outcome_of(&mut command)
}

fn forward() -> Result<Outcome> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Outcome::Skipped("network namespaces need root".to_owned()));
    }
    let failures = forward_check::check(&[])?;
    if failures.is_empty() {
        return Ok(Outcome::Passed);
    }
    Ok(Outcome::Failed(failures.join(", ")))
}

fn conf() -> Result<Outcome> {
    let files = tidy::tracked_files()?;
    let is_configuration = |path: &&String| {
        let folder = path.starts_with("conf/") || path.starts_with("docker/");
        folder && path.ends_with(".toml")
    };
    let files: Vec<&String> = files.iter().filter(is_configuration).collect();
    if files.is_empty() {
        return Ok(Outcome::Failed("there is no configuration file".to_owned()));
    }
    let cli = binaries::build()?.cli;
    for file in files {
        let mut check = Command::new(&cli);
        check.current_dir(paths::root()).arg("check").arg(file);
        if let Outcome::Failed(why) = outcome_of(&mut check)? {
            return Ok(Outcome::Failed(why));
        }
    }
    Ok(Outcome::Passed)
}

fn emulated_card() -> Result<Outcome> {
    Ok(match qnic::run_all()? {
        qnic::Ended::Skipped(why) => Outcome::Skipped(why),
        qnic::Ended::Ran(tally) if tally.failed > 0 => Outcome::Failed(tally.to_string()),
        qnic::Ended::Ran(tally) => {
            println!("qnic: {tally}");
            Outcome::Passed
        }
    })
}

fn end_to_end() -> Result<Outcome> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Outcome::Skipped(
            "network namespaces need root; run it with sudo".to_owned(),
        ));
    }
    for lcores in [1, 2] {
        let tally = e2e::run_all(lcores)?;
        println!("e2e with {lcores} lcores: {tally}");
        if tally.failed > 0 {
            return Ok(Outcome::Failed(tally.to_string()));
        }
    }
    Ok(Outcome::Passed)
}
