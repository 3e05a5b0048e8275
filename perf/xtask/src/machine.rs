//! The machine that a run happens on: how many CPUs, and the facts that a figure needs beside it.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process;

static CPUS: OnceLock<usize> = OnceLock::new();

/// CPUs this process could run on when it was first asked: pinning itself later does not change the answer.
pub(crate) fn cpus() -> usize {
    *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The CPU for whatever sits in the middle: the last one. Interrupts and kernel peers prefer the first.
pub(crate) fn middle_cpu() -> usize {
    cpus() - 1
}

/// The CPUs for the lcores of whatever sits in the middle: the last `count`, as many as there are.
pub(crate) fn middle_cpus(count: usize) -> Vec<usize> {
    (cpus().saturating_sub(count.max(1))..cpus()).collect()
}

/// A command in a namespace that may use every CPU, even when this process pinned itself.
pub(crate) fn inside_unpinned(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = process::inside(namespace, "taskset");
    command
        .args(["-c", &format!("0-{}", cpus() - 1)])
        .arg(program);
    command
}

/// While this lives, this process, and so every peer it starts, runs on the first CPU.
pub(crate) struct PinnedPeers {
    before: rustix::thread::CpuSet,
}

impl PinnedPeers {
    /// Pins.
    pub(crate) fn pin() -> anyhow::Result<Self> {
        // The answer must be that of the whole machine, also later.
        let cpus = cpus();
        let before = rustix::thread::sched_getaffinity(None)?;
        if cpus > 1 {
            let mut set = rustix::thread::CpuSet::new();
            set.set(0);
            rustix::thread::sched_setaffinity(None, &set)?;
        }
        Ok(Self { before })
    }
}

impl Drop for PinnedPeers {
    fn drop(&mut self) {
        // What was allowed before is allowed again; builds after a measurement use all CPUs.
        let _ = rustix::thread::sched_setaffinity(None, &self.before);
    }
}

/// One line: processor, CPUs, memory, kernel, huge pages, DPDK.
pub(crate) fn facts() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or("?", |(_, value)| value.trim())
            .to_owned()
    };
    let memory = read("/proc/meminfo");
    let kib: u64 = field(&memory, "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0);
    let mut dpdk = Command::new("pkg-config");
    let dpdk = process::must(
        dpdk.args(["--modversion", "libdpdk"]),
        Duration::from_secs(5),
    );
    format!(
        "{}, {} CPUs, {} GiB, Linux {}, {} huge pages of 2 MiB, DPDK {}",
        field(&read("/proc/cpuinfo"), "model name"),
        cpus(),
        kib >> 20,
        read("/proc/sys/kernel/osrelease").trim(),
        field(&memory, "HugePages_Total"),
        dpdk.as_deref().unwrap_or("?").trim(),
    )
}

/// The commit that is checked out, with a mark when files differ from it.
pub(crate) fn commit() -> String {
    let mut git = Command::new("git");
    git.current_dir(crate::paths::root())
        .args(["describe", "--always", "--dirty", "--abbrev=12"]);
    let said = process::must(&mut git, Duration::from_secs(10));
    said.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
