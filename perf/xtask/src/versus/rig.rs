//! The two ways from a sender to the same receiver, up and ready; all gone when dropped.
//!
//! ```text
//!  servers namespace     lb namespace                                client namespace
//!  sender ── veth ──  d1 Millrace d0 ── tap ─┐          ┌─ tap ── c0 ─┐
//!  10.9.0.2               VIP 10.8.0.100     ├─ relay ──┤             ├ receivers 10.64.0.0/16
//!                         sender (kernel) l0 ─ tap ─┘   └─ tap ── c1 ─┘
//!                         10.7.0.10
//! ```
//! Every transfer is received at an address of its own, so that neither sender remembers anything of
//! the transfer before, and the relay knows whose link a frame travels on.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Sender;
use super::capture::Capture;
use super::peers::Server;
use super::relay::{Pair, Relay};
use crate::binaries::Binaries;
use crate::e2e::appliance::Millrace;
use crate::e2e::config_file::{Device, Settings};
use crate::e2e::topology::{Topology, Wire};
use crate::e2e::{bed, plan};
use crate::paths::{self, RunFolder};
use crate::process::{self, ip};

/// The algorithms that both senders know; a listener for each.
pub(super) const ALGORITHMS: [&str; 3] = ["reno", "cubic", "bbr"];

/// Where the kernel sends from, and the receivers' end of its wire.
const KERNEL_SENDER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 10);
const KERNEL_PEER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
/// What the listeners' ports begin at, in the order of [`ALGORITHMS`].
const PORT: u16 = 9_101;
/// The sender behind Millrace.
const BACKEND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 2), 9_100);
/// Receivers' addresses, and the router's address on Millrace's wire.
const RECEIVERS: &str = "10.64.0.0/16";
const RECEIVERS_GATEWAY: &str = "10.8.0.1";

const QUICK: Duration = Duration::from_secs(10);

/// Everything, in the order in which it goes.
pub(super) struct Rig {
    millrace: Option<Millrace>,
    _servers: Vec<Server>,
    pub(super) relay: Relay,
    topology: Topology,
    folder: RunFolder,
}

impl Rig {
    /// Lays both ways and starts the senders; without `binaries` only the kernel sends.
    pub(super) fn make(
        binaries: Option<&Binaries>,
        algorithms: &[&str],
        capture: Option<Capture>,
    ) -> Result<Self> {
        let folder = RunFolder::create(&format!("mr-{}", std::process::id()))?;
        let tap = |end: &str| format!("mr{}{end}", std::process::id());
        let [near, far, kernel_near, kernel_far] = ["vn", "vf", "kn", "kf"].map(tap);
        let pairs = vec![
            Pair::make(&near, &far)?,
            Pair::make(&kernel_near, &kernel_far)?,
        ];
        let front = Wire::Taps { near, far };
        let topology = Topology::create(&front, &Wire::Veth, folder.path())?;
        lay_kernel_wire(&topology, &kernel_near, &kernel_far)?;
        tune(&topology)?;
        let relay = Relay::start(pairs, capture)?;
        let mut servers = vec![Server::start(&topology.servers, BACKEND, None)?];
        for (algorithm, port) in ALGORITHMS.into_iter().zip(PORT..) {
            let address = SocketAddrV4::new(KERNEL_SENDER, port);
            servers.push(Server::start(&topology.lb, address, Some(algorithm))?);
        }
        let mut rig = Self {
            millrace: None,
            _servers: servers,
            relay,
            topology,
            folder,
        };
        if let Some(binaries) = binaries {
            let started = rig.start_millrace(binaries, algorithms);
            if started.is_err() {
                rig.save_logs();
            }
            started?;
        }
        Ok(rig)
    }

    fn start_millrace(&mut self, binaries: &Binaries, algorithms: &[&str]) -> Result<()> {
        let path = self.folder.path();
        let settings = Settings {
            services: Vec::new(),
            // As it is meant to run: a nap would be measured, a hundredth of a round trip of 20 ms.
            idle: "poll",
            // What the flows of a budget have in flight and in their queues, many times over.
            mbufs: 65_536,
            more: services(algorithms),
            ..Settings::new(path.join("run"), Device::AfPacket)
        };
        let mut millrace = Millrace::launch(binaries, settings, &self.topology, path)?;
        millrace.wait_for_backends("up", algorithms.len())?;
        self.millrace = Some(millrace);
        Ok(())
    }

    /// Where receivers are.
    pub(super) fn client(&self) -> &str {
        &self.topology.client
    }

    /// Whom a receiver connects to.
    pub(super) fn target(sender: Sender, algorithm: &str) -> Result<SocketAddrV4> {
        let mut ports = ALGORITHMS.into_iter().zip(PORT..);
        let (_, port) = ports
            .find(|(name, _)| *name == algorithm)
            .with_context(|| format!("nobody listens for `{algorithm}`"))?;
        let address = match sender {
            Sender::Millrace => plan::VIP4,
            Sender::Linux => KERNEL_SENDER,
        };
        Ok(SocketAddrV4::new(address, port))
    }

    /// Whether Millrace lives.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        self.millrace.as_mut().map_or(Ok(()), Millrace::check_alive)
    }

    /// What must hold when all transfers are over: Millrace lives, and copied nothing.
    pub(super) fn check_aftermath(&mut self) -> Result<()> {
        let Some(millrace) = &mut self.millrace else {
            return Ok(());
        };
        millrace.check_alive()?;
        millrace.check_promises()
    }

    /// Keeps what the processes wrote.
    pub(super) fn save_logs(&self) {
        if let Ok(folder) = paths::below_target("versus-linux") {
            bed::save_logs(self.folder.path(), &folder.join("logs"));
        }
    }
}

/// The address that the transfer of this number is received at.
pub(super) fn receiver(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 64, high, low)
}

/// The kernel's own wire: its sender in the namespace of Millrace, with nothing of Millrace's.
fn lay_kernel_wire(topology: &Topology, near: &str, far: &str) -> Result<()> {
    let (lb, client) = (&topology.lb, &topology.client);
    for (tap, namespace, name, address) in [
        (near, lb, "l0", KERNEL_SENDER),
        (far, client, "c1", KERNEL_PEER),
    ] {
        ip(&format!("link set {tap} netns {namespace}"))?;
        ip(&format!("-n {namespace} link set {tap} name {name}"))?;
        ip(&format!("-n {namespace} addr add {address}/24 dev {name}"))?;
        ip(&format!("-n {namespace} link set {name} up"))?;
        let mut offloads = process::inside(namespace, "ethtool");
        offloads.args([
            "-K", name, "tx", "off", "tso", "off", "gso", "off", "gro", "off",
        ]);
        process::must(&mut offloads, QUICK)?;
    }
    ip(&format!("-n {lb} route add {RECEIVERS} via {KERNEL_PEER}"))?;
    // Every address of the range is the client's own.
    ip(&format!("-n {client} route add local {RECEIVERS} dev lo"))?;
    for (namespace, name) in [(lb, "d0"), (lb, "l0"), (client, "c0"), (client, "c1")] {
        // A burst of a whole window must find room on its way into the relay.
        ip(&format!("-n {namespace} link set {name} txqueuelen 8192"))?;
    }
    Ok(())
}

/// What holds at both ends of both ways. The sender's side has Linux's defaults, as Millrace has; the
/// receiver has room for more than any path here holds.
fn tune(topology: &Topology) -> Result<()> {
    for (namespace, values) in [
        (
            &topology.lb,
            &[
                "net.ipv4.tcp_wmem=4096 16384 4194304",
                "net.ipv4.tcp_no_metrics_save=1",
            ][..],
        ),
        (
            &topology.client,
            &[
                "net.ipv4.tcp_rmem=4096 131072 33554432",
                "net.ipv4.tcp_no_metrics_save=1",
            ][..],
        ),
    ] {
        let mut sysctl: Command = process::inside(namespace, "sysctl");
        process::must(sysctl.args(["-q", "-w"]).args(values), QUICK)?;
    }
    Ok(())
}

/// Whether Millrace takes a listener with this algorithm.
pub(super) fn is_known(binaries: &Binaries, algorithm: &str) -> Result<bool> {
    let folder = output()?;
    let settings = Settings {
        services: Vec::new(),
        more: services(&[algorithm]),
        ..Settings::new(folder.join("run"), Device::AfPacket)
    };
    let file = folder.join("check.toml");
    std::fs::write(&file, settings.text()).with_context(|| file.display().to_string())?;
    let mut check = Command::new(&binaries.cli);
    Ok(process::finish(check.arg("check").arg(&file), QUICK)?.success())
}

/// A listener for each algorithm, all with the same server behind, and the way to the receivers.
fn services(algorithms: &[&str]) -> String {
    let mut text = format!("[[route]]\nto = \"{RECEIVERS}\"\nvia = \"{RECEIVERS_GATEWAY}\"\n\n");
    let ports = ALGORITHMS.into_iter().zip(PORT..);
    for (name, port) in ports.filter(|(name, _)| algorithms.contains(name)) {
        let address = plan::VIP4;
        text.push_str(&format!(
            "[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\nports = \"{port}\"\n\
             pool = \"{name}\"\ncongestion_control = \"{name}\"\n\n\
             [[pool]]\nname = \"{name}\"\nhealth = {{ enabled = false }}\n\n\
             [[pool.backend]]\nname = \"a\"\naddress = \"{BACKEND}\"\n\n"
        ));
    }
    text
}

/// The folder of this tool's own output, below cargo's.
pub(super) fn output() -> Result<std::path::PathBuf> {
    paths::below_target("versus-linux")
}

/// The file that every finished transfer is appended to, emptied.
pub(super) fn fresh_log(folder: &Path) -> Result<std::fs::File> {
    let path = folder.join("transfers.jsonl");
    std::fs::File::create(&path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_has_a_port_of_its_own_on_both_ways() {
        let target = |sender, name| Rig::target(sender, name).expect("a listener").to_string();
        assert_eq!(target(Sender::Millrace, "reno"), "10.8.0.100:9101");
        assert_eq!(target(Sender::Linux, "bbr"), "10.7.0.10:9103");
        assert!(Rig::target(Sender::Linux, "vegas").is_err());
        let file: toml::Table = services(&ALGORITHMS).parse().expect("TOML");
        assert_eq!(file["listener"].as_array().map_or(0, Vec::len), 3);
        assert_eq!(
            file["listener"][2]["congestion_control"].as_str(),
            Some("bbr")
        );
        let one: toml::Table = services(&["cubic"]).parse().expect("TOML");
        assert_eq!(one["listener"][0]["ports"].as_str(), Some("9102"));
    }

    #[test]
    fn numbers_of_transfers_are_addresses_of_the_receivers_network() {
        assert_eq!(receiver(1), Ipv4Addr::new(10, 64, 0, 1));
        assert_eq!(receiver(0x0203), Ipv4Addr::new(10, 64, 2, 3));
    }
}
