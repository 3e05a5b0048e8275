//! The wires, the web servers and the guest between them, up and ready; all gone when dropped.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::card::{Card, cards_in};
use super::guest::{Guest, QUICK};
use super::machine::{self, CARDS, Machine};
use super::settings::{self, VLANS};
use super::tools::Tools;
use crate::e2e::appliance::rows;
use crate::e2e::bed::save_logs;
use crate::e2e::data::Sample;
use crate::e2e::peers::nginx::Nginx;
use crate::e2e::plan::{self, BACK, FRONT, Side};
use crate::e2e::topology::{Topology, Wire};
use crate::interrupt;
use crate::paths::RunFolder;
use crate::process::{self, ip};

/// Pages of 2 MiB in the guest: packet buffers, descriptor rings and what EAL takes.
const HUGE_PAGES: u32 = 192;
/// EAL, four lcores and the first tables under emulation, on a machine that is also compiling.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// The taps that QEMU makes, client's side first.
const TAPS: [&str; 2] = ["qfront", "qback"];

/// What the guest's cards are plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wires {
    /// The kernel peers themselves.
    Plain,
    /// Trunks that carry each peer's frames in a VLAN.
    Trunks,
}

impl Wires {
    /// As in file names and results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Trunks => "trunks",
        }
    }
}

/// Fields drop in this order: first who talks, last the wires.
pub(super) struct Bed {
    pub(super) wires: Wires,
    pub(super) guest: Guest,
    web: Vec<Nginx>,
    pub(super) topology: Topology,
    folder: RunFolder,
}

impl Bed {
    /// Builds it and waits until every backend is up.
    pub(super) fn make(wires: Wires, tools: &Tools, initrd: &Path, logs: &Path) -> Result<Self> {
        let folder = RunFolder::create(&format!("mr-{}", std::process::id()))?;
        let built = Self::build(wires, tools, initrd, folder.path());
        if built.is_err() {
            save_logs(folder.path(), logs);
        }
        let (guest, web, topology) = built?;
        let mut bed = Self {
            wires,
            guest,
            web,
            topology,
            folder,
        };
        if let Err(error) = bed.start_millrace() {
            bed.save_logs(logs);
            return Err(error);
        }
        Ok(bed)
    }

    fn build(
        wires: Wires,
        tools: &Tools,
        initrd: &Path,
        folder: &Path,
    ) -> Result<(Guest, Vec<Nginx>, Topology)> {
        let wire = |vlan| match wires {
            Wires::Plain => Wire::DeviceTap,
            Wires::Trunks => Wire::Trunk(vlan),
        };
        let topology = Topology::create(&wire(VLANS[0]), &wire(VLANS[1]), folder)?;
        let cards = [
            machine::Card {
                tap: TAPS[0],
                mac: FRONT.mac,
            },
            machine::Card {
                tap: TAPS[1],
                mac: BACK.mac,
            },
        ];
        let machine = Machine {
            kernel: tools.kernel.clone(),
            initrd: initrd.to_path_buf(),
            cards: &cards,
            shell: folder.join("shell"),
            console: folder.join("console.log"),
        };
        let guest = Guest::start(&machine, &topology.lb, folder)?;
        for (side, tap) in [&FRONT, &BACK].into_iter().zip(TAPS) {
            plug_in(&topology, wires, side, tap)?;
        }
        let servers = plan::SERVERS4.iter().zip(plan::SERVERS6);
        let web = ["a", "b"]
            .iter()
            .zip(servers)
            .map(|(name, (four, six))| Nginx::start(&topology.servers, name, &[*four, six], folder))
            .collect::<Result<Vec<_>>>()?;
        Ok((guest, web, topology))
    }

    fn start_millrace(&mut self) -> Result<()> {
        let config = settings::path(self.wires);
        let [front, back] = CARDS;
        let guest = &mut self.guest;
        guest.run(&format!("huge_pages {HUGE_PAGES}"), QUICK)?;
        guest.run(&format!("hand_over {front} {back}"), QUICK)?;
        guest.run(&format!("dataplane {config}"), READY_LIMIT)?;
        guest.run(&format!("control {config}"), QUICK)?;
        let wanted = plan::SERVERS4.len() + plan::SERVERS6.len();
        interrupt::wait_until("every backend to be up", READY_LIMIT, || {
            let error = |error: anyhow::Error| format!("{error:#}");
            self.guest.check_alive().map_err(error)?;
            let backends = self.guest.show("backends").map_err(error)?;
            let up = rows(&backends).filter(|row| row["state"] == "up").count();
            if up == wanted {
                Ok(())
            } else {
                Err(format!("{up} of {wanted}"))
            }
        })
    }

    /// What the dataplane said about its ports: front, back.
    pub(super) fn cards(&mut self) -> Result<Vec<Card>> {
        let log = self.guest.run("cat /tmp/dataplane.log", QUICK)?;
        Ok(cards_in(&log))
    }

    /// A counter of the dataplane, summed over the lcores.
    pub(super) fn counter(&mut self, name: &str) -> Result<u64> {
        let counters = self.guest.show("counters")?;
        let row = rows(&counters).find(|row| row["name"] == *name);
        let total = row.and_then(|row| row["total"].as_u64());
        total.with_context(|| format!("there is no counter {name}"))
    }

    /// The client's namespace.
    pub(super) fn client(&self) -> &str {
        &self.topology.client
    }

    /// Makes a sample downloadable from every server as `/NAME`.
    pub(super) fn offer(&self, sample: &Sample, name: &str) -> Result<()> {
        self.web
            .iter()
            .try_for_each(|server| server.offer(sample, name))
    }

    /// A folder for files of this run.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Fetches the logs out of the guest and keeps them with those of this side.
    pub(super) fn save_logs(&mut self, logs: &Path) {
        for name in ["dataplane.log", "control.log"] {
            if let Ok(text) = self.guest.run(&format!("cat /tmp/{name}"), QUICK) {
                let _ = std::fs::write(self.folder.path().join(name), text);
            }
        }
        save_logs(self.folder.path(), logs);
    }
}

/// Connects a tap of QEMU's with a side's peer, and makes it reflect what the card sends to itself.
fn plug_in(topology: &Topology, wires: Wires, side: &Side, tap: &str) -> Result<()> {
    let (namespace, interface) = match wires {
        Wires::Plain => {
            topology.adopt_tap(side, tap)?;
            (topology.peer_of(side), side.peer_interface)
        }
        Wires::Trunks => {
            bridge(&topology.lb, side, tap)?;
            (topology.lb.as_str(), tap)
        }
    };
    // A card's driver can prove how it spreads frames by sending some to the card's own address. A switch would not send them
    // back where they came from; this wire does.
    let rules = format!(
        "table netdev {tap} {{\n chain ingress {{\n\
         type filter hook ingress device {interface} priority 0;\n\
         ether daddr {mac} fwd to {interface}\n}}\n}}",
        mac = side.mac
    );
    let mut nft = process::inside(namespace, "nft");
    process::must(nft.arg(rules), QUICK).map(drop)
}

/// Joins a tap of QEMU's and the near end of a side's trunk. The bridge and its members have no addresses of their own.
fn bridge(namespace: &str, side: &Side, tap: &str) -> Result<()> {
    let name = format!("{tap}-br");
    let near = side.interface;
    ip(&format!("-n {namespace} link add {name} type bridge"))?;
    for interface in [&name, near, tap] {
        let mut quiet = process::inside(namespace, "sysctl");
        let setting = format!("net.ipv6.conf.{interface}.disable_ipv6=1");
        process::must(quiet.args(["-q", "-w", &setting]), QUICK)?;
    }
    for member in [near, tap] {
        ip(&format!("-n {namespace} link set {member} master {name}"))?;
        ip(&format!("-n {namespace} link set {member} up"))?;
    }
    ip(&format!("-n {namespace} link set {name} up")).map(drop)
}

/// Counts frames at the client's end that are longer than a link carries, while `during` runs.
pub(super) fn count_large_frames(
    bed: &mut Bed,
    during: impl FnOnce(&mut Bed) -> Result<()>,
) -> Result<usize> {
    let file = bed.folder().join("large.pcap");
    let mut capture = process::inside(bed.client(), "tcpdump");
    // Immediate: what lies in a block of the kernel's that is not full when tcpdump is ended was seen by nobody.
    capture
        .args([
            "-i",
            FRONT.peer_interface,
            "--immediate-mode",
            "-U",
            "-s",
            "96",
            "-Z",
            "root",
            "-w",
        ])
        .arg(&file)
        .args(["-Q", "in", "greater", "1515"]);
    let capture = process::Background::start("tcpdump", &mut capture, bed.folder())?;
    interrupt::wait_until("tcpdump", QUICK, || {
        let listens = capture.log_text().contains("listening on");
        listens.then_some(()).ok_or("not listening".to_owned())
    })?;
    let outcome = during(bed);
    capture.stop()?;
    outcome?;
    let mut read = Command::new("tcpdump");
    let said = process::must(read.args(["-n", "-q", "-r"]).arg(&file), QUICK)?;
    Ok(said.lines().count())
}
