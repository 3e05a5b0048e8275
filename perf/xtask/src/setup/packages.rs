//! Debian packages: which are needed, which are missing, and installing those.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

/// Every package some task needs, with the task that needs it.
const PACKAGES: &[(&str, &str)] = &[
    ("build-essential", "to compile the wrappers of dpdk-sys"),
    ("ca-certificates", "for cargo to fetch crates"),
    ("clang", "bindgen"),
    ("curl", "demo and end to end: the client"),
    ("dpdk", "the drivers that the dataplane loads"),
    (
        "dpdk-dev",
        "testpmd, and DPDK's own tools for telemetry and captures",
    ),
    ("ethtool", "to switch the peers' offloads off"),
    ("haproxy", "the benchmark's reference"),
    ("iperf3", "end to end: bulk transfer"),
    ("iproute2", "namespaces and veths"),
    ("iputils-ping", "to look around in the demo"),
    ("libclang-dev", "bindgen"),
    ("libdpdk-dev", "dpdk-sys"),
    ("libnginx-mod-stream", "the benchmark: nginx as a TCP proxy"),
    ("nginx-light", "demo and end to end: the servers"),
    ("nftables", "to drop and count packets on the peers"),
    ("pkg-config", "to find libdpdk"),
    ("procps", "sysctl"),
    ("python3", "DPDK's own telemetry client"),
    ("shellcheck", "to check the scripts"),
    ("tcpdump", "end to end: captures"),
    ("tshark", "end to end: to judge the captures"),
    ("valgrind", "to count instructions of the hot paths"),
    ("wrk", "end to end and benchmark: load"),
];

/// How long apt-get may take for one step; slow mirrors exist, endless ones do not.
const APT_LIMIT: Duration = Duration::from_secs(900);

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status}", package]);
    process::finish(&mut query, Duration::from_secs(20))
        .is_ok_and(|finished| finished.success() && finished.stdout == "installed")
}

/// The packages that are not there. One query for all when all are there.
fn missing() -> Vec<&'static str> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["-W", "-f", "${db:Status-Status}\n"])
        .args(PACKAGES.iter().map(|(name, _)| name));
    if let Ok(finished) = process::finish(&mut query, Duration::from_secs(20))
        && finished.success()
        && finished
            .stdout
            .lines()
            .filter(|line| *line == "installed")
            .count()
            == PACKAGES.len()
    {
        return Vec::new();
    }
    PACKAGES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !is_installed(name))
        .collect()
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(["-y", "-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // invoke-rc.d does nothing at run level 1: a fresh package starts no service.
        .env("RUNLEVEL", "1");
    process::must(&mut command, APT_LIMIT).map(drop)
}

/// Fetches the lists of packages.
pub(crate) fn update() -> Result<()> {
    apt_get(&["update"]).context("apt-get update")
}

/// Installs packages that only one task needs, from `release` when the usual one has only older ones.
pub(crate) fn install(names: &[&str], release: Option<&str>) -> Result<()> {
    println!("setup: installing {} with apt-get …", names.join(" "));
    let policy = ServicesStayDown::arrange()?;
    update()?;
    let mut arguments = vec!["install", "--no-install-recommends"];
    if let Some(release) = release {
        arguments.extend(["-t", release]);
    }
    arguments.extend(names);
    apt_get(&arguments)?;
    drop(policy);
    println!("setup: installed {}", names.join(" "));
    Ok(())
}

/// Installs what is missing. Silent when nothing is.
pub(crate) fn install_missing() -> Result<()> {
    if Command::new("dpkg-query")
        .arg("--version")
        .output()
        .is_err()
    {
        bail!("this task installs Debian packages, and this machine has no dpkg-query");
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    for (name, need) in PACKAGES.iter().filter(|(name, _)| missing.contains(name)) {
        println!("setup: {name} is missing ({need})");
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "run as root once: apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    }
    println!(
        "setup: installing {} Debian packages with apt-get …",
        missing.len()
    );
    let policy = ServicesStayDown::arrange()?;
    apt_get(&["update"]).context("apt-get update")?;
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(&missing);
    apt_get(&install)?;
    drop(policy);
    println!("setup: installed {}", missing.join(" "));
    Ok(())
}

/// While this lives, Debian's packages do not start services: `/usr/sbin/policy-rc.d` answers 101.
///
/// nginx-light and haproxy would otherwise listen on this machine's own addresses. A policy that somebody
/// else wrote is left alone.
struct ServicesStayDown {
    ours: bool,
}

impl ServicesStayDown {
    const PATH: &str = "/usr/sbin/policy-rc.d";

    fn arrange() -> Result<Self> {
        if std::path::Path::new(Self::PATH).exists() {
            return Ok(Self { ours: false });
        }
        std::fs::write(Self::PATH, "#!/bin/sh\nexit 101\n").context(Self::PATH)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(Self::PATH, mode).context(Self::PATH)?;
        Ok(Self { ours: true })
    }
}

impl Drop for ServicesStayDown {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(Self::PATH);
        }
    }
}
