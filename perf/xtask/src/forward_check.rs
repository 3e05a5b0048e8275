//! `cargo xtask forward-check`: every mode of millrace-forward on every virtual device, a moment each.
//!
//! It asks whether a mode starts, runs, stops cleanly and accounts for every frame on a device, not how fast it is. Kernel
//! devices get a veth in a namespace of their own; devices that need another process (memif, vhost and virtio-user)
//! get a second forwarder that makes frames. Everything ends by its id and within its limit.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::e2e::topology;
use crate::paths::RunFolder;
use crate::process::{self, Background, ip, ip_at_exit};
use crate::{interrupt, machine, paths, setup};

/// Arguments of `cargo xtask forward-check`.
#[derive(Args)]
pub(crate) struct ForwardCheckArguments {
    /// Only these devices, comma separated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

const MODES: [&str; 10] = [
    "io", "mac", "macswap", "csum", "icmpecho", "5tswap", "rxonly", "txonly", "flowgen", "noisy",
];

/// Seconds that each mode forwards.
const DURATION: &str = "0.3";
/// EAL start and stop on a machine that is also compiling.
const RUN_LIMIT: Duration = Duration::from_secs(40);

/// A pair of ports.
struct Device {
    name: &'static str,
    /// As `--port` wants them; `FOLDER` stands for the folder of the run.
    ports: &'static [&'static str],
    /// The port of the process that makes frames, where there is one.
    peer: Option<&'static str>,
    /// Whether the ports are interfaces of the kernel.
    kernel: bool,
    /// Whether the peer listens, and so must be there first.
    peer_first: bool,
}

const DEVICES: [Device; 8] = [
    local("null", &["net_null0", "net_null1"]),
    local("ring", &["net_ring0", "net_ring1"]),
    local(
        "pcap",
        &["net_pcap0,rx_pcap=FOLDER/frames.pcap,tx_pcap=/dev/null,infinite_rx=1"],
    ),
    Device {
        kernel: true,
        ..local(
            "af_packet",
            &[
                "net_af_packet0,iface=f0,qdisc_bypass=1",
                "net_af_packet1,iface=f1,qdisc_bypass=1",
            ],
        )
    },
    Device {
        kernel: true,
        ..local(
            "af_xdp",
            // One end only: the driver refuses a second socket on the same pair.
            &["net_af_xdp0,iface=f0,busy_budget=0"],
        )
    },
    Device {
        kernel: true,
        ..local("tap", &["net_tap0,iface=ft0", "net_tap1,iface=ft1"])
    },
    Device {
        peer: Some("net_memif0,role=client,socket=FOLDER/memif.sock,socket-abstract=no"),
        ..local(
            "memif",
            &["net_memif0,role=server,socket=FOLDER/memif.sock,socket-abstract=no"],
        )
    },
    Device {
        peer: Some("net_vhost0,iface=FOLDER/vhost.sock"),
        peer_first: true,
        ..local(
            "virtio_user",
            &["net_virtio_user0,path=FOLDER/vhost.sock,queue_size=256"],
        )
    },
];

const fn local(name: &'static str, ports: &'static [&'static str]) -> Device {
    Device {
        name,
        ports,
        peer: None,
        kernel: false,
        peer_first: false,
    }
}

/// A namespace with both ends of a veth; gone when dropped.
struct Namespace(String);

impl Namespace {
    fn create() -> Result<Self> {
        // The prefix lets a later run sweep what a killed one left.
        let namespace = Self(format!("mr-{}-forward", std::process::id()));
        let name = &namespace.0;
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link add f0 type veth peer name f1"))?;
        for interface in ["f0", "f1"] {
            ip(&format!("-n {name} link set {interface} up"))?;
        }
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip_at_exit(&format!("netns del {}", self.0)) {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Runs the task with what the command line says; `false` when a mode failed on a device.
pub(crate) fn run(arguments: &ForwardCheckArguments) -> Result<bool> {
    setup::ensure()?;
    let failures = check(&arguments.only)?;
    println!("{} failed", failures.len());
    Ok(failures.is_empty())
}

/// Every mode on every device, or on these; what failed, in words.
pub(crate) fn check(only: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = only
        .iter()
        .find(|name| DEVICES.iter().all(|d| d.name != **name))
    {
        bail!("there is no device `{unknown}`");
    }
    topology::sweep_stale()?;
    let binary = build()?;
    let folder = RunFolder::create(&format!("mr-{}-forward", std::process::id()))?;
    crate::bench::write_frames(&folder.path().join("frames.pcap"))?;
    let namespace = Namespace::create()?;
    let mut failures = Vec::new();
    for device in &DEVICES {
        if !only.is_empty() && !only.iter().any(|name| name == device.name) {
            continue;
        }
        let mut words = Vec::new();
        for mode in MODES {
            interrupt::check()?;
            match run_mode(&binary, device, mode, folder.path(), &namespace) {
                Ok(frames) => words.push(format!("{mode} {frames}")),
                Err(error) => {
                    interrupt::check()?;
                    println!("FAIL {} {mode}: {error:#}", device.name);
                    failures.push(format!("{} {mode}", device.name));
                }
            }
        }
        println!("{:<12} {}", device.name, words.join(", "));
    }
    Ok(failures)
}

fn build() -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .current_dir(paths::root())
        .args(["build", "--quiet", "-p", "millrace-forward"])
        .status()
        .context("cannot start cargo")?;
    ensure!(
        status.success(),
        "millrace-forward does not build ({status})"
    );
    Ok(paths::target().join("debug/millrace-forward"))
}

/// Runs one mode; returns the frames that it received or sent.
fn run_mode(
    binary: &Path,
    device: &Device,
    mode: &str,
    folder: &Path,
    namespace: &Namespace,
) -> Result<u64> {
    let expand = |port: &str| port.replace("FOLDER", &folder.display().to_string());
    let command = |ports: &[&str], role: &str, rest: &[&str]| {
        let mut command = if device.kernel {
            machine::inside_unpinned(&namespace.0, binary)
        } else {
            Command::new(binary)
        };
        for port in ports {
            command.args(["--port", &expand(port)]);
        }
        let prefix = format!("mr-{}-{role}", std::process::id());
        command.args(["--file-prefix", &prefix]).args(rest);
        // Both on the last CPU: neither the machine's first nor two of them belong to a check.
        let cpu = machine::middle_cpu();
        command.args([
            "--lcores",
            &format!("0@{cpu},1@{cpu}"),
            "--nb-mbufs",
            "4095",
        ]);
        // Descriptors in one piece of memory, as vhost and zero-copy devices want it.
        command.args(["--eal-arg=--single-file-segments"]);
        command
    };
    let start_peer = || -> Result<Option<Background>> {
        let Some(peer) = device.peer else {
            return Ok(None);
        };
        let generate = [
            "--mode",
            "flowgen",
            "--port-topology",
            "loop",
            "--duration",
            "30",
        ];
        let mut command = command(&[peer], "peer", &generate);
        let peer = Background::start("forward-peer", &mut command, folder)?;
        Ok(Some(peer))
    };
    let mut peer = None;
    if device.peer_first {
        peer = start_peer()?;
        interrupt::sleep(Duration::from_millis(700))?;
    }
    let topology = if device.ports.len() == 1 {
        "loop"
    } else {
        "paired"
    };
    // A device with a peer needs time until the two have found each other.
    let duration = if device.peer.is_some() {
        "1.5"
    } else {
        DURATION
    };
    let mut rest = vec![
        "--mode",
        mode,
        "--port-topology",
        topology,
        "--duration",
        duration,
        "--json",
    ];
    rest.extend((device.name == "ring").then_some("--tx-first"));
    let mut forwarder = command(device.ports, "forward", &rest);
    let mut run = Background::start("forward", &mut forwarder, folder)?;
    if device.peer.is_some() && !device.peer_first {
        peer = start_peer()?;
    }
    let status = run.wait(RUN_LIMIT)?;
    if let Some(peer) = peer {
        peer.kill();
    }
    for socket in ["memif.sock", "vhost.sock"] {
        let _ = std::fs::remove_file(folder.join(socket));
    }
    let said = run.log_text();
    ensure!(status.success(), "{status}: {}", process::tail(&said, 5));
    // Two streams, a burst each.
    let sent_first = if device.name == "ring" { 64 } else { 0 };
    account(&said, mode, sent_first).with_context(|| process::tail(&said, 5))
}

/// What a port says at the end.
#[derive(Default, Deserialize)]
struct PortReport {
    rx_packets: u64,
    tx_packets: u64,
    tx_dropped: u64,
    absorbed: u64,
}

/// The frames of the last report; an error when one is unaccounted for.
fn account(said: &str, mode: &str, sent_first: u64) -> Result<u64> {
    let mut objects = said.lines().filter(|line| line.starts_with('{'));
    let last: Value = serde_json::from_str(objects.next_back().context("no report")?)?;
    let ports = last.get("ports");
    let ports = ports.context("a report without ports")?.clone();
    let ports: Vec<PortReport> = serde_json::from_value(ports)?;
    let sum = |count: fn(&PortReport) -> u64| ports.iter().map(count).sum::<u64>();
    let (received, sent) = (sum(|p| p.rx_packets), sum(|p| p.tx_packets));
    let ended = sent + sum(|p| p.tx_dropped) + sum(|p| p.absorbed);
    // These make frames of their own.
    if !matches!(mode, "txonly" | "flowgen") {
        ensure!(
            ended == received + sent_first,
            "{received} frames came in and {ended} found an end"
        );
    }
    Ok(received + sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_without_an_end_is_found() {
        let report = |absorbed: u64| {
            format!(
                "words\n{{\"ports\":[{{\"rx_packets\":5,\"tx_packets\":3,\"tx_dropped\":1,\
                 \"absorbed\":{absorbed}}}]}}\n"
            )
        };
        assert_eq!(account(&report(1), "io", 0).expect("all there"), 8);
        assert!(account(&report(0), "io", 0).is_err());
        assert!(account(&report(0), "txonly", 0).is_ok());
        assert!(account("words\n", "io", 0).is_err());
    }
}
