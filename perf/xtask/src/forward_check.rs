//! `cargo xtask forward-check`: every mode of millrace-forward on every virtual device, a moment each.
//!
//! It asks whether a mode starts, moves frames, stops cleanly and accounts for every frame on a device, not how fast it is.
//! Frames come from the device itself (null, pcap), from a first burst that goes round and round (ring, a veth with both ends),
//! or from a second forwarder that makes them (memif, vhost, af_xdp and tap). Kernel devices live in a namespace of their
//! own. Everything ends by its id and within its limit.

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

/// Seconds that each mode forwards, and how long it is tried once more when nothing came: machines that also compile take
/// their time.
const DURATIONS: [&str; 2] = ["0.3", "3"];
/// The same with a peer: the two have to find each other first.
const DURATIONS_WITH_PEER: [&str; 2] = ["1.5", "8"];
/// How long what a peer needs may take to appear.
const MADE_LIMIT: Duration = Duration::from_secs(20);
/// Frames of the first bursts: two streams of 32.
const FIRST_FRAMES: u64 = 64;
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
    /// What the device makes and the peer needs, where it does.
    makes: Option<Made>,
    /// Whether what one port sends comes in at the other, so that a first burst never ends.
    circles: bool,
}

/// Something that is there only when a device has started.
#[derive(Clone, Copy)]
enum Made {
    /// An interface of the kernel.
    Interface(&'static str),
    /// A socket in the folder of the run. A memif client that finds none does not try again by itself.
    Socket(&'static str),
}

const DEVICES: [Device; 8] = [
    local("null", &["net_null0", "net_null1"]),
    Device {
        circles: true,
        ..local("ring", &["net_ring0", "net_ring1"])
    },
    local(
        "pcap",
        &["net_pcap0,rx_pcap=FOLDER/frames.pcap,tx_pcap=/dev/null,infinite_rx=1"],
    ),
    Device {
        kernel: true,
        circles: true,
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
        peer: Some("net_af_packet0,iface=f1,qdisc_bypass=1"),
        ..local(
            "af_xdp",
            // One end only: the driver refuses a second socket on the same pair.
            &["net_af_xdp0,iface=f0,busy_budget=0"],
        )
    },
    Device {
        kernel: true,
        peer: Some("net_af_packet0,iface=ft0,qdisc_bypass=1"),
        makes: Some(Made::Interface("ft0")),
        ..local("tap", &["net_tap0,iface=ft0", "net_tap1,iface=ft1"])
    },
    Device {
        peer: Some("net_memif0,role=client,socket=FOLDER/memif.sock,socket-abstract=no"),
        makes: Some(Made::Socket("memif.sock")),
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
        makes: None,
        circles: false,
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
            let run = Run {
                binary: &binary,
                device,
                mode,
                folder: folder.path(),
                namespace: &namespace,
            };
            match run.until_frames_move() {
                Ok(frames) => words.push(format!("{mode} {}", frames.received + frames.sent)),
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

/// One mode on one device.
struct Run<'a> {
    binary: &'a Path,
    device: &'a Device,
    mode: &'a str,
    folder: &'a Path,
    namespace: &'a Namespace,
}

impl Run<'_> {
    /// Runs the mode, once more and longer if nothing moved; what it received and sent.
    fn until_frames_move(&self) -> Result<Frames> {
        let durations = if self.device.peer.is_some() {
            DURATIONS_WITH_PEER
        } else {
            DURATIONS
        };
        for seconds in durations {
            let frames = self.once(seconds)?;
            if frames.prove(self.mode) {
                return Ok(frames);
            }
        }
        bail!("no frame moved in {} seconds", durations[1])
    }

    fn once(&self, seconds: &str) -> Result<Frames> {
        let device = self.device;
        let mut peer = None;
        if device.peer_first {
            peer = self.start_peer()?;
            interrupt::sleep(Duration::from_millis(700))?;
        }
        let mut forwarder = self.forwarder(seconds);
        let mut run = Background::start("forward", &mut forwarder, self.folder)?;
        if !device.peer_first {
            if let Some(made) = device.makes {
                self.wait_for(made, &mut run)?;
            }
            peer = self.start_peer()?;
        }
        let status = run.wait(RUN_LIMIT)?;
        if let Some(peer) = peer {
            peer.kill();
        }
        for socket in ["memif.sock", "vhost.sock"] {
            let _ = std::fs::remove_file(self.folder.join(socket));
        }
        let said = run.log_text();
        ensure!(status.success(), "{status}: {}", process::tail(&said, 5));
        let sent_first = if device.circles { FIRST_FRAMES } else { 0 };
        account(&said, self.mode, sent_first).with_context(|| process::tail(&said, 5))
    }

    /// The program under test.
    fn forwarder(&self, seconds: &str) -> Command {
        let topology = if self.device.ports.len() == 1 {
            "loop"
        } else {
            "paired"
        };
        let mut rest = vec!["--mode", self.mode, "--port-topology", topology];
        rest.extend(["--duration", seconds, "--json"]);
        rest.extend(self.device.circles.then_some("--tx-first"));
        self.command(self.device.ports, "forward", &rest)
    }

    /// The process that makes frames, if the device needs one.
    fn start_peer(&self) -> Result<Option<Background>> {
        let Some(peer) = self.device.peer else {
            return Ok(None);
        };
        let mut generate = vec!["--mode", "flowgen", "--port-topology", "loop"];
        generate.extend(["--duration", "30"]);
        let mut command = self.command(&[peer], "peer", &generate);
        Background::start("forward-peer", &mut command, self.folder).map(Some)
    }

    fn wait_for(&self, made: Made, run: &mut Background) -> Result<()> {
        let (Made::Interface(name) | Made::Socket(name)) = made;
        interrupt::wait_until(name, MADE_LIMIT, || {
            run.check_alive().map_err(|error| format!("{error:#}"))?;
            let is_there = match made {
                Made::Socket(name) => self.folder.join(name).exists(),
                // An interface that is down is not shown, one that is not there is an error.
                Made::Interface(name) => {
                    let show = format!("-n {} link show {name} up", self.namespace.0);
                    ip(&show).is_ok_and(|text| text.contains(name))
                }
            };
            is_there.then_some(()).ok_or_else(|| "not there".to_owned())
        })
    }

    fn command(&self, ports: &[&str], role: &str, rest: &[&str]) -> Command {
        let mut command = if self.device.kernel {
            machine::inside_unpinned(&self.namespace.0, self.binary)
        } else {
            Command::new(self.binary)
        };
        for port in ports {
            let port = port.replace("FOLDER", &self.folder.display().to_string());
            command.args(["--port", &port]);
        }
        let prefix = format!("mr-{}-{role}", std::process::id());
        command.args(["--file-prefix", &prefix]).args(rest);
        // Both on the last CPU: neither the machine's first nor two of them belong to a check.
        let cpu = machine::middle_cpu();
        command.args(["--lcores", &format!("0@{cpu},1@{cpu}")]);
        command.args(["--nb-mbufs", "4095"]);
        // Descriptors in one piece of memory, as vhost and zero-copy devices want it.
        command.args(["--eal-arg=--single-file-segments"]);
        command
    }
}

/// What was received and sent.
struct Frames {
    received: u64,
    sent: u64,
}

impl Frames {
    /// Whether the mode did on the device what it is for.
    fn prove(&self, mode: &str) -> bool {
        let (received, sent) = (self.received > 0, self.sent > 0);
        match mode {
            "txonly" => sent,
            // What it does not answer it frees.
            "rxonly" | "icmpecho" => received,
            _ => received && sent,
        }
    }
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
fn account(said: &str, mode: &str, sent_first: u64) -> Result<Frames> {
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
    Ok(Frames { received, sent })
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
        let frames = account(&report(1), "io", 0).expect("all there");
        assert_eq!((frames.received, frames.sent), (5, 3));
        assert!(account(&report(0), "io", 0).is_err());
        assert!(account(&report(0), "txonly", 0).is_ok());
        assert!(account("words\n", "io", 0).is_err());
    }

    #[test]
    fn a_mode_is_proved_by_the_frames_that_it_is_for() {
        let moved = |received, sent| Frames { received, sent };
        assert!(!moved(0, 0).prove("io") && !moved(5, 0).prove("io") && moved(5, 5).prove("io"));
        assert!(moved(5, 0).prove("rxonly") && !moved(0, 5).prove("rxonly"));
        assert!(moved(0, 5).prove("txonly") && !moved(5, 0).prove("txonly"));
    }
}
