//! Three network namespaces and the two wires between them; gone when dropped.
//!
//! Names carry the process id of the run (`mr-PID-client`, `-lb`, `-servers`), so runs do not meet, and a later run can
//! sweep what a killed one left: [`sweep_stale`].

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::plan::{BACK, FRONT, HALF_CLOSE_PORT, IPERF_PORT, Side};
use super::relay::{Faults, Relay};
use crate::paths;
use crate::process::{self, ip, ip_at_exit};

/// What a side's wire is made of.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    /// A veth pair. The device opens the lb end.
    Veth,
    /// Two taps joined by our own relay, which misbehaves as told.
    Relay(Faults),
    /// The same without faults, a trunk: frames of this VLAN carry its tag on the lb end and none on the peer's.
    Trunk(u16),
    /// Two taps that somebody else has made and joins.
    Taps { near: String, far: String },
    /// Nothing yet: the device makes a tap, [`Topology::adopt_tap`] hands it to the peer.
    DeviceTap,
}

/// The namespaces of one run.
pub(crate) struct Topology {
    pub(crate) client: String,
    pub(crate) lb: String,
    pub(crate) servers: String,
    relays: Vec<Relay>,
}

/// Namespaces of this prefix are ours; after it comes the process id.
const PREFIX: &str = "mr-";
const QUICK: Duration = Duration::from_secs(10);

impl Topology {
    /// Makes the namespaces and the wires, addresses on the peers, offloads off on their ends.
    pub(crate) fn create(front: &Wire, back: &Wire, folder: &std::path::Path) -> Result<Self> {
        let name = |role: &str| format!("{PREFIX}{}-{role}", std::process::id());
        let mut topology = Self {
            client: name("client"),
            lb: name("lb"),
            servers: name("servers"),
            relays: Vec::new(),
        };
        // From here on `topology` undoes what exists if anything fails.
        for namespace in [&topology.client, &topology.lb, &topology.servers] {
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            tune(namespace);
        }
        topology.lay(&FRONT, front, folder)?;
        topology.lay(&BACK, back, folder)?;
        Ok(topology)
    }

    /// The namespace of the kernel peer of a side.
    pub(crate) fn peer_of(&self, side: &Side) -> &str {
        if side.port == FRONT.port {
            &self.client
        } else {
            &self.servers
        }
    }

    fn lay(&mut self, side: &Side, wire: &Wire, folder: &std::path::Path) -> Result<()> {
        let (lb, peer) = (self.lb.clone(), self.peer_of(side).to_owned());
        match wire {
            Wire::Veth => {
                let (near, far) = (side.interface, side.peer_interface);
                ip(&format!(
                    "link add {near} netns {lb} type veth peer name {far} netns {peer}"
                ))?;
            }
            Wire::Relay(_) | Wire::Trunk(_) => {
                let (faults, vlan) = match wire {
                    Wire::Relay(faults) => (faults, None),
                    Wire::Trunk(vlan) => (&Faults::NONE, Some(*vlan)),
                    Wire::Veth | Wire::Taps { .. } | Wire::DeviceTap => return Ok(()),
                };
                let relay = Relay::start(side.port, faults, vlan, folder)?;
                self.move_taps(side, relay.near(), relay.far())?;
                self.relays.push(relay);
            }
            Wire::Taps { near, far } => self.move_taps(side, near, far)?,
            Wire::DeviceTap => return Ok(()),
        }
        ip(&format!("-n {lb} link set {} up", side.interface))?;
        self.dress_peer(side)
    }

    /// Moves both taps from the namespace of the caller to where they belong.
    fn move_taps(&self, side: &Side, near: &str, far: &str) -> Result<()> {
        for (tap, namespace, name) in [
            (near, self.lb.as_str(), side.interface),
            (far, self.peer_of(side), side.peer_interface),
        ] {
            ip(&format!("link set {tap} netns {namespace}"))?;
            ip(&format!("-n {namespace} link set {tap} name {name}"))?;
        }
        Ok(())
    }

    /// Moves the tap that the device made in the lb namespace to the peer, and dresses it.
    pub(crate) fn adopt_tap(&self, side: &Side, tap: &str) -> Result<()> {
        let (lb, peer, name) = (&self.lb, self.peer_of(side), side.peer_interface);
        ip(&format!("-n {lb} link set {tap} netns {peer}"))?;
        ip(&format!("-n {peer} link set {tap} name {name}"))?;
        self.dress_peer(side)
    }

    /// MAC, addresses, routes of the peer's end, and its transmit offloads off: a device without virtio-net headers
    /// cannot tell a partial checksum from a bad one.
    fn dress_peer(&self, side: &Side) -> Result<()> {
        let (peer, name) = (self.peer_of(side), side.peer_interface);
        ip(&format!(
            "-n {peer} link set {name} address {} up",
            side.peer_mac
        ))?;
        let mut offloads = process::inside(peer, "ethtool");
        offloads.args([
            "-K", name, "tx", "off", "tso", "off", "gso", "off", "gro", "off",
        ]);
        process::must(&mut offloads, QUICK)?;
        for address in side.peer_addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            ip(&format!("-n {peer} addr add {address} dev {name} {nodad}"))?;
        }
        let beyond = if side.port == FRONT.port {
            &BACK
        } else {
            &FRONT
        };
        ip(&format!(
            "-n {peer} route add {} via {}",
            beyond.subnets[0], side.gateway4
        ))?;
        ip(&format!(
            "-n {peer} -6 route add {} via {}",
            beyond.subnets[1], side.gateway6
        ))?;
        Ok(())
    }

    /// Sets the MTU of a veth, both ends. Routes the peer learnt keep following its link.
    pub(crate) fn set_mtu(&self, side: &Side, mtu: u16) -> Result<()> {
        for (namespace, name) in [
            (self.lb.as_str(), side.interface),
            (self.peer_of(side), side.peer_interface),
        ] {
            ip(&format!("-n {namespace} link set {name} mtu {mtu}"))?;
        }
        Ok(())
    }

    /// The relay of a side, when its wire is one.
    pub(crate) fn relay(&self, side: &Side) -> Option<&Relay> {
        self.relays.iter().find(|relay| relay.side() == side.port)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.lb, &self.servers] {
            remove(namespace);
        }
    }
}

/// Settings a test server would have. A kernel that refuses one runs the tests all the same.
fn tune(namespace: &str) {
    let mut sysctl = process::inside(namespace, "sysctl");
    // Almost every port is for who connects, and none of those that somebody will listen on.
    let reserved = format!("net.ipv4.ip_local_reserved_ports={IPERF_PORT},{HALF_CLOSE_PORT}");
    sysctl.args(["-q", "-w", &reserved]).args([
        "net.ipv6.conf.all.disable_ipv6=0",
        "net.ipv6.conf.default.disable_ipv6=0",
        "net.ipv6.conf.default.accept_dad=0",
        "net.ipv4.ip_local_port_range=1024 65535",
        "net.ipv4.tcp_tw_reuse=1",
        "net.core.somaxconn=8192",
        "net.ipv4.tcp_max_syn_backlog=8192",
    ]);
    let _ = process::finish(&mut sysctl, QUICK);
}

/// Ends what still runs inside one of our namespaces, then removes it.
fn remove(namespace: &str) {
    let list = |words: &str| ip_at_exit(words).unwrap_or_default();
    for id in list(&format!("netns pids {namespace}")).split_whitespace() {
        if let Some(id) = id.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::KILL);
        }
    }
    if let Err(error) = ip_at_exit(&format!("netns del {namespace}")) {
        // Not reached in order; say so, go on with the others.
        if list("netns list").contains(namespace) {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// The process id in the name of one of our namespaces.
fn owner_of(namespace: &str) -> Option<u32> {
    namespace
        .strip_prefix(PREFIX)?
        .split('-')
        .next()?
        .parse()
        .ok()
}

/// Whether that process is a living run of this program.
pub(crate) fn lives(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == "xtask")
}

/// Removes namespaces whose run is dead (killed with -9, or a machine that lost power in a container).
pub(crate) fn sweep_stale() -> Result<()> {
    let listed = process::must(Command::new("ip").args(["netns", "list"]), QUICK)
        .context("network namespaces need iproute2 and root")?;
    for namespace in listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        if owner_of(namespace).is_some_and(|id| !lives(id)) {
            println!("e2e: removing {namespace}, left by a run that was killed");
            remove(namespace);
        }
    }
    paths::sweep_run_folders(|name| owner_of(name).is_some_and(|id| !lives(id)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_with_our_prefix_and_an_id_have_an_owner() {
        assert_eq!(owner_of("mr-77-client"), Some(77));
        assert_eq!(owner_of("mr-client"), None);
        assert_eq!(owner_of("other-77-client"), None);
    }

    #[test]
    fn a_dead_process_is_not_a_living_run() {
        assert!(!lives(u32::MAX));
    }
}
