//! The configuration file of one test: `millrace.toml` from a plan, a device kind and a list of services.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::ValueEnum;

use super::plan::{self, BACK, FRONT, Service, Side};
use crate::machine;

/// Which DPDK device carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// `net_af_packet` on one end of a veth or tap.
    #[value(name = "af_packet")]
    AfPacket,
    /// `net_tap`: the device makes the tap, the kernel peer gets it.
    #[value(name = "tap")]
    Tap,
    /// `net_af_xdp` on one end of a veth, copy mode.
    #[value(name = "af_xdp")]
    AfXdp,
}

impl Device {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AfPacket => "af_packet",
            Self::Tap => "tap",
            Self::AfXdp => "af_xdp",
        }
    }

    /// The tap that the device makes for a side, if it makes one.
    pub(crate) fn tap_of(self, side: &Side) -> Option<String> {
        (self == Self::Tap).then(|| format!("dtap{}", index_of(side)))
    }

    /// Queue pairs that the device offers on the wires of the test bed.
    pub(crate) fn queues_max(self) -> usize {
        match self {
            // As many sockets as wanted share an interface (PACKET_FANOUT).
            Self::AfPacket => 64,
            Self::Tap => 16,
            // The driver counts the combined channels of the interface, and a veth has one.
            Self::AfXdp => 1,
        }
    }

    /// Whether the dataplane hands frames of several mbufs to this device (`RTE_ETH_TX_OFFLOAD_MULTI_SEGS`).
    pub(crate) fn takes_chains(self) -> bool {
        match self {
            Self::AfPacket | Self::Tap => true,
            Self::AfXdp => false,
        }
    }

    /// The device as EAL wants it.
    pub(crate) fn specification(self, side: &Side, lcores: usize, mtu: u16) -> String {
        let (index, interface) = (index_of(side), side.interface);
        match self {
            Self::AfPacket => {
                // A frame of the ring holds the largest frame of the wire and the kernel's header before it; a block is
                // whole pages and whole frames.
                let (block, frame, count) = if mtu > 1_500 {
                    (4 * 9_216, 9_216, 1_024)
                } else {
                    (4_096, 2_048, 4_096)
                };
                format!(
                    "net_af_packet{index},iface={interface},qdisc_bypass=1,\
                     blocksz={block},framesz={frame},framecnt={count},qpairs={lcores}"
                )
            }
            Self::Tap => format!("net_tap{index},iface=dtap{index}"),
            Self::AfXdp => format!("net_af_xdp{index},iface={interface},busy_budget=0"),
        }
    }
}

fn index_of(side: &Side) -> u8 {
    u8::from(side.port == BACK.port)
}

/// The name of this run's dataplane among DPDK processes.
pub(crate) fn file_prefix() -> String {
    format!("mr-{}", std::process::id())
}

/// Everything a configuration file of a test says.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) runtime: PathBuf,
    pub(crate) device: Device,
    pub(crate) services: Vec<Service>,
    pub(crate) metrics: SocketAddr,
    /// Lets `dpdk-dumpcap` attach.
    pub(crate) capture: bool,
    /// `round-robin` or `least-connections`, for all pools.
    pub(crate) balance: &'static str,
    /// Congestion control of all listeners and of all pools, where it is not the default.
    pub(crate) congestion: [Option<&'static str>; 2],
    /// Lcores, on the last CPUs of the machine.
    pub(crate) lcores: usize,
    /// MTU of the client's wire and of the servers'.
    pub(crate) mtu: [u16; 2],
    /// The VLANs of both wires.
    pub(crate) vlan: [Option<u16>; 2],
    /// What an lcore without work does.
    pub(crate) idle: &'static str,
    /// Packet buffers, when the frames are small.
    pub(crate) mbufs: u32,
    /// Whole tables, as they shall stand at the end of the file.
    pub(crate) more: String,
}

impl Settings {
    /// The usual services on a device.
    pub(crate) fn new(runtime: PathBuf, device: Device) -> Self {
        Self {
            runtime,
            device,
            services: plan::services(),
            metrics: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 9464),
            capture: false,
            balance: "round-robin",
            congestion: [None; 2],
            lcores: 1,
            mtu: [1_500; 2],
            vlan: [None; 2],
            idle: "sleep",
            mbufs: 32_768,
            more: String::new(),
        }
    }

    /// Backends of all pools of both families.
    pub(crate) fn backend_count(&self) -> usize {
        self.services
            .iter()
            .map(|service| service.servers * plan::VIPS.len())
            .sum()
    }

    /// Those of them that are checked.
    pub(crate) fn checked_backend_count(&self) -> usize {
        let checked = self
            .services
            .iter()
            .filter(|service| service.health_interval_ms.is_some());
        checked
            .map(|service| service.servers * plan::VIPS.len())
            .sum()
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write_dataplane(&mut text);
        for side in [&FRONT, &BACK] {
            self.write_port(&mut text, side);
        }
        text.push_str(&format!(
            "[snat]\naddresses = [\"{}\", \"{}\"]\nports = \"1024-65535\"\n\n",
            BACK.gateway4, BACK.gateway6
        ));
        for service in &self.services {
            for vip in plan::VIPS {
                self.write_service(&mut text, service, vip);
            }
        }
        let metrics = self.metrics;
        text.push_str(&format!(
            "[metrics]\nlisten = \"{metrics}\"\n\n[log]\nlevel = \"info\"\n\n"
        ));
        text.push_str(&self.more);
        text
    }

    fn write_dataplane(&self, text: &mut String) {
        // A buffer holds the largest frame of either wire: the devices here take no scattered ones.
        let jumbo = self.mtu.iter().any(|mtu| *mtu > 1_500);
        let (mbufs, mbuf_bytes, memory_mb) = if jumbo {
            (12_288, 9_216 + 128, 256)
        } else {
            (self.mbufs, 2_176, 256)
        };
        let lines = [
            format!("runtime_dir = \"{}\"\n", self.runtime.display()),
            "[dataplane]".to_owned(),
            format!("lcores = {:?}", machine::middle_cpus(self.lcores)),
            format!("mbufs = {mbufs}"),
            format!("mbuf_bytes = {mbuf_bytes}"),
            "memory = \"auto\"".to_owned(),
            format!("memory_mb = {memory_mb}"),
            format!("idle = \"{}\"", self.idle),
            format!("capture = {}", self.capture),
            format!("file_prefix = \"{}\"\n\n", file_prefix()),
        ];
        text.push_str(&lines.join("\n"));
    }

    fn write_port(&self, text: &mut String, side: &Side) {
        let mtu = self.mtu[usize::from(index_of(side))];
        let lines = [
            "[[port]]".to_owned(),
            format!("name = \"{}\"", side.port),
            format!(
                "device = \"{}\"",
                self.device.specification(side, self.lcores, mtu)
            ),
            format!("mac = \"{}\"", side.mac),
            format!("mtu = {mtu}"),
            self.vlan[usize::from(index_of(side))]
                .map_or(String::new(), |vlan| format!("vlan = {vlan}")),
            format!(
                "addresses = [\"{}\", \"{}\"]\n\n",
                side.address4, side.address6
            ),
        ];
        text.push_str(&lines.join("\n"));
    }

    fn write_service(&self, text: &mut String, service: &Service, vip: IpAddr) {
        let Service {
            name,
            port,
            servers,
            health_interval_ms,
        } = service;
        let name = format!("{name}-{}", if vip.is_ipv4() { "v4" } else { "v6" });
        let health = match health_interval_ms {
            Some(interval) => {
                let timeout = (*interval).min(400);
                format!("interval_ms = {interval}, timeout_ms = {timeout}, rise = 1, fall = 2")
            }
            None => "enabled = false".to_owned(),
        };
        let [clients, backends] = self.congestion.map(|control| {
            control.map_or(String::new(), |name| {
                format!("congestion_control = \"{name}\"")
            })
        });
        let lines = [
            "[[listener]]".to_owned(),
            format!("name = \"{name}\""),
            format!("address = \"{vip}\""),
            format!("ports = \"{port}\""),
            clients,
            format!("pool = \"{name}\"\n"),
            "[[pool]]".to_owned(),
            format!("name = \"{name}\""),
            backends,
            format!("balance = \"{}\"", self.balance),
            format!("health = {{ {health} }}\n\n"),
        ];
        text.push_str(&lines.join("\n"));
        for (server, letter) in plan::servers_of(vip).iter().take(*servers).zip(["a", "b"]) {
            let address = SocketAddr::new(*server, *port);
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "[[pool.backend]]\nname = \"{letter}\"\naddress = \"{address}\"\n"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_toml_with_two_ports_and_a_listener_per_family() {
        let settings = Settings::new("/run/x".into(), Device::Tap);
        let file: toml::Table = settings.text().parse().expect("TOML");
        let count = |key: &str| file[key].as_array().map_or(0, Vec::len);
        assert_eq!(count("port"), 2);
        assert_eq!(count("listener"), settings.services.len() * 2);
        assert_eq!(count("pool"), settings.services.len() * 2);
        assert_eq!(
            file["port"][1]["device"].as_str(),
            Some("net_tap1,iface=dtap1")
        );
    }
}
