//! Boot arguments: everything that cannot change while the dataplane runs.
//!
//! `millrace dataplane-args` prints them from the configuration file, one per line, so that the file stays the only
//! place an operator edits. Whatever may change at run time arrives later through the shared region instead.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use millrace_abi::limits::{LCORES_MAX, PORTS_MAX};
use millrace_base::rss::{KEY_BYTES_MAX, KEY_BYTES_MIN};
use millrace_base::{MacAddress, VlanId};

use crate::rss::RssMode;

/// Smallest mbuf data room that holds a 1,514-byte frame behind the headroom.
const MBUF_BYTES_MIN: u16 = 1_792;
/// MTU range: the IPv6 minimum (RFC 8200 section 5) to the largest jumbo frame in use.
const MTU_RANGE: std::ops::RangeInclusive<u16> = 1_280..=9_600;

/// The packet-processing process of Millrace. Started with the output of `millrace dataplane-args`.
///
/// Exit codes: 0 clean shutdown, 1 the dataplane could not start or had to give up, 2 bad arguments.
#[derive(Parser, Debug, Clone)]
#[command(name = "millrace-dataplane", version)]
pub struct Args {
    /// Where the shared region is created, normally on a tmpfs.
    #[arg(long, value_name = "DIR", default_value = "/run/millrace")]
    pub runtime_dir: PathBuf,
    /// CPUs that run the packet loop, one lcore each.
    #[arg(long, value_name = "CPU,CPU", value_delimiter = ',', required = true)]
    pub lcores: Vec<u16>,
    /// Packet buffers in all.
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    pub mbufs: u32,
    /// Bytes of memory in a packet buffer, the 128 bytes of headroom included.
    #[arg(long, value_name = "BYTES", default_value_t = 2_176,
          value_parser = clap::value_parser!(u16).range(i64::from(MBUF_BYTES_MIN)..))]
    pub mbuf_bytes: u16,
    /// Where packet memory comes from: auto, hugepages or no-huge; `:MB` after it sizes it.
    #[arg(long, value_name = "KIND[:MB]", default_value = "auto")]
    pub memory: Memory,
    /// Let `dpdk-dumpcap` attach. Packet memory then lies in files of the huge-page mount, which a `kill -9` leaves behind.
    #[arg(long)]
    pub capture: bool,
    /// Name of this instance among DPDK processes on the machine.
    #[arg(long, value_name = "NAME", default_value = "millrace")]
    pub file_prefix: String,
    /// Connections one lcore can hold; a proxied session needs two.
    #[arg(long, value_name = "N", default_value_t = 65_536,
          value_parser = clap::value_parser!(u32).range(64..=33_554_432))]
    pub connections_max: u32,
    /// What an lcore does when there is nothing to do.
    #[arg(long, value_enum, default_value_t = Idle::Sleep)]
    pub idle: Idle,
    /// Who decides which lcore a frame is for.
    #[arg(long, value_enum, default_value_t = RssMode::Auto)]
    pub rss: RssMode,
    /// How long the proof of a card's receive-side scaling may take at start, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub rss_selftest_ms: u32,
    /// The key of the RSS hash in hexadecimal, 40 to 52 bytes; drawn at random when left out.
    #[arg(long, value_name = "HEX")]
    pub rss_key: Option<RssKey>,
    /// Pairs of source address and backend whose ports one lcore keeps account of.
    #[arg(long, value_name = "N", default_value_t = millrace_abi::plan::SNAT_PAIRS as u32,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub snat_pairs: u32,
    /// A network port, `name=front;device=net_af_packet0,iface=d0;mac=02:00:00:00:00:01;mtu=1500;vlan=100;queues=1`.
    #[arg(long = "port", value_name = "SPEC", required = true)]
    pub ports: Vec<PortSpec>,
    /// A further argument for DPDK's environment abstraction layer, as it is.
    #[arg(long = "eal-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub eal_args: Vec<String>,
    /// Least severe log line that is printed, or a `tracing` filter.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Form of the log lines.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// What an lcore does when there is nothing to do.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Poll without a break: lowest latency, a full core.
    Poll,
    /// Poll with ever longer pauses of the CPU: a full core, but kind to the sibling thread.
    Pause,
    /// Let the CPU watch the receive ring (umwait), for one port; `pause` where CPU or driver cannot.
    Monitor,
    /// Sleep until a device interrupts, a millisecond at most; `sleep` where a driver cannot.
    Interrupt,
    /// Sleep tens of microseconds after some empty polls: for shared machines.
    Sleep,
}

/// Form of the log lines.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where packet memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Which pages.
    pub kind: MemoryKind,
    /// Megabytes to take; 0 lets the mbuf count decide.
    pub megabytes: u32,
}

/// Which pages back the packet memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Huge pages when enough are free, ordinary pages otherwise.
    Auto,
    /// Huge pages or nothing.
    HugePages,
    /// Ordinary pages: slower, works everywhere.
    NoHuge,
}

/// One network port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The operator's name for it.
    pub name: String,
    /// A DPDK virtual device with its arguments, or a PCI address.
    pub device: String,
    /// Our address on this port; `None` takes the device's own.
    pub mac: Option<MacAddress>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// The VLAN that all frames of the port are tagged with; `None` leaves them untagged.
    pub vlan: Option<VlanId>,
    /// Receive and transmit queues; `None` is one per lcore.
    pub queues: Option<u16>,
}

impl Args {
    /// Checks what one argument alone cannot tell. The error is a sentence for the operator.
    pub fn check(&self) -> Result<(), String> {
        if self.lcores.len() > LCORES_MAX {
            return Err(format!(
                "--lcores: at most {LCORES_MAX} lcores are supported"
            ));
        }
        if self.ports.len() > PORTS_MAX {
            return Err(format!("--port: at most {PORTS_MAX} ports are supported"));
        }
        let mut cpus = self.lcores.clone();
        cpus.sort_unstable();
        if cpus.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err("--lcores: a CPU is named twice".to_owned());
        }
        let mut names: Vec<&str> = self.ports.iter().map(|port| port.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err("--port: two ports have the same name".to_owned());
        }
        for port in &self.ports {
            if let Some(queues) = port.queues
                && usize::from(queues) != self.lcores.len()
            {
                return Err(format!(
                    "--port {}: queues={queues} but there are {} lcores; each lcore polls one queue of each port",
                    port.name,
                    self.lcores.len()
                ));
            }
        }
        Ok(())
    }
}

impl PortSpec {
    /// The device's name, without its arguments.
    pub(crate) fn device_name(&self) -> &str {
        self.device.split(',').next().unwrap_or_default()
    }

    /// Whether the device is a PCI function (bound through `-a`) and not a virtual device (`--vdev`).
    pub fn is_pci(&self) -> bool {
        !self.device.starts_with("net_") && self.device.contains(':')
    }
}

impl FromStr for PortSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut port = Self {
            name: String::new(),
            device: String::new(),
            mac: None,
            mtu: 1_500,
            vlan: None,
            queues: None,
        };
        for item in text.split(';').filter(|item| !item.is_empty()) {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| format!("`{item}` is not key=value"))?;
            match key {
                "name" => port.name = value.to_owned(),
                "device" => port.device = value.to_owned(),
                "mac" => {
                    let mac = MacAddress::parse(value)
                        .filter(|mac| !mac.is_group() && *mac != MacAddress::ZERO)
                        .ok_or_else(|| format!("`{value}` is not a unicast MAC address"))?;
                    port.mac = Some(mac);
                }
                "mtu" => {
                    port.mtu = value
                        .parse()
                        .ok()
                        .filter(|mtu| MTU_RANGE.contains(mtu))
                        .ok_or_else(|| format!("mtu={value} is not within {MTU_RANGE:?}"))?;
                }
                "vlan" => {
                    let vlan = value.parse().ok().and_then(VlanId::new);
                    port.vlan = Some(vlan.ok_or_else(|| {
                        format!("vlan={value} is not within 1 to {}", VlanId::MAX)
                    })?);
                }
                "queues" => {
                    let queues = value.parse().ok().filter(|queues| *queues > 0);
                    port.queues =
                        Some(queues.ok_or_else(|| format!("queues={value} is not a count"))?);
                }
                _ => {
                    return Err(format!(
                        "unknown key `{key}`: name, device, mac, mtu, vlan, queues"
                    ));
                }
            }
        }
        if port.name.is_empty() || port.device.is_empty() {
            return Err("a port needs name= and device=".to_owned());
        }
        Ok(port)
    }
}

/// The key of the RSS hash: 40 to 52 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RssKey(pub Vec<u8>);

impl std::fmt::Debug for RssKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key that is logged is a key that is known.
        write!(f, "RssKey({} bytes)", self.0.len())
    }
}

impl FromStr for RssKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|letter| *letter != ':')
            .map(|letter| {
                letter
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            })
            .collect();
        let digits = digits.ok_or("an RSS key is written in hexadecimal")?;
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() || !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&pairs.len()) {
            return Err(format!(
                "an RSS key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes"
            ));
        }
        Ok(Self(
            pairs.iter().map(|[high, low]| (high << 4) | low).collect(),
        ))
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, megabytes) = match text.split_once(':') {
            Some((kind, megabytes)) => {
                let count = megabytes
                    .parse()
                    .map_err(|_| format!("`{megabytes}` is not a number of megabytes"))?;
                (kind, count)
            }
            None => (text, 0),
        };
        let kind = match kind {
            "auto" => MemoryKind::Auto,
            "hugepages" => MemoryKind::HugePages,
            "no-huge" => MemoryKind::NoHuge,
            _ => return Err(format!("`{kind}` is not auto, hugepages or no-huge")),
        };
        Ok(Self { kind, megabytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &[&str]) -> Result<Args, clap::Error> {
        let base = ["millrace-dataplane", "--lcores", "0,1"];
        Args::try_parse_from(base.iter().chain(extra))
    }

    #[test]
    fn a_port_keeps_the_commas_of_its_device() {
        let args = parse(&[
            "--port",
            "name=front;device=net_af_packet0,iface=d0,blocksz=4096;mac=02:00:00:00:00:01;mtu=9000;vlan=7",
        ])
        .expect("valid");
        let port = args.ports.first().expect("one port");
        assert_eq!(port.device, "net_af_packet0,iface=d0,blocksz=4096");
        assert_eq!((port.mtu, port.vlan), (9_000, VlanId::new(7)));
        assert!(!port.is_pci());
        assert_eq!(args.check(), Ok(()));
        let pci: PortSpec = "name=a;device=0000:01:00.0".parse().expect("valid");
        assert!(pci.is_pci());
    }

    #[test]
    fn contradictions_are_refused_with_a_sentence() {
        assert!(parse(&["--port", "name=a;device=net_null0;mtu=100"]).is_err());
        assert!(parse(&["--port", "name=a;device=net_null0;mac=01:00:5e:00:00:01"]).is_err());
        assert!(parse(&["--port", "name=a;device=net_null0;colour=red"]).is_err());
        assert!(parse(&["--port", "device=net_null0"]).is_err());
        assert!(parse(&["--port", "name=a;device=net_null0;vlan=0"]).is_err());
        assert!(parse(&["--port", "name=a;device=net_null0;vlan=4095"]).is_err());
        assert!(parse(&["--memory", "huge", "--port", "name=a;device=net_null0"]).is_err());
        let twice = parse(&[
            "--port",
            "name=a;device=net_null0",
            "--port",
            "name=a;device=net_null1",
        ]);
        assert!(twice.expect("parses").check().is_err());
        let queues = parse(&["--port", "name=a;device=net_null0;queues=1"]).expect("parses");
        assert!(queues.check().expect_err("two lcores").contains("2 lcores"));
    }

    #[test]
    fn an_rss_key_is_40_to_52_bytes_in_hexadecimal() {
        let key: RssKey = "6d:5a".repeat(20).parse().expect("40 bytes");
        assert_eq!(key.0.get(..4), Some(&[0x6d, 0x5a, 0x6d, 0x5a][..]));
        assert_eq!(format!("{key:?}"), "RssKey(40 bytes)");
        for wrong in [
            "6d5a",
            &"6d5a".repeat(27),
            &"6d5".repeat(27),
            &"xx".repeat(40),
        ] {
            assert!(wrong.parse::<RssKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_is_a_kind_and_perhaps_a_size() {
        let memory: Memory = "no-huge:512".parse().expect("valid");
        assert_eq!(
            memory,
            Memory {
                kind: MemoryKind::NoHuge,
                megabytes: 512
            }
        );
        assert_eq!("auto".parse::<Memory>().expect("valid").megabytes, 0);
        assert!("auto:lots".parse::<Memory>().is_err());
    }
}
