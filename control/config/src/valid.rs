//! The configuration as the rest of control sees it: types that cannot be wrong.
//!
//! A value of these types comes from `load` or `parse` only, so its relations hold: names are
//! unique, a listener's pool exists, routers are on link, every backend has a route and a source
//! address of its family.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use millrace_base::{Address, CongestionControl, Endpoint, MacAddress, PortId, Prefix, VlanId};
use serde::Deserialize;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where the shared region and the control socket are.
    pub runtime_dir: PathBuf,
    /// How the dataplane is started.
    pub dataplane: Dataplane,
    /// The network cards, in `PortId` order; at least one.
    pub ports: Vec<Port>,
    /// Routes beyond the ports' own networks; prefixes are unique.
    pub routes: Vec<Route>,
    /// Source addresses towards backends.
    pub snat: Snat,
    /// What connections begin with where no listener or pool says otherwise.
    pub tcp: Tcp,
    /// What clients connect to; no two overlap.
    pub listeners: Vec<Listener>,
    /// Sets of backends; names are unique.
    pub pools: Vec<Pool>,
    /// Timings of ARP and neighbour discovery.
    pub neighbor: Neighbor,
    /// Where metrics are served; `None` is off.
    pub metrics: Option<SocketAddr>,
    /// What is logged.
    pub log: Log,
}

/// `[dataplane]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// CPU numbers, unique, 1 to 64 of them.
    pub lcores: Vec<u16>,
    /// Packet buffers.
    pub mbufs: u32,
    /// Bytes of a packet buffer.
    pub mbuf_bytes: u16,
    /// Where DPDK's memory comes from.
    pub memory: Memory,
    /// MiB taken; 0: as many as the packet buffers need.
    pub memory_mb: u32,
    /// Connections of one lcore.
    pub connections_max: u32,
    /// What an idle lcore does.
    pub idle: Idle,
    /// Who brings a frame to its lcore.
    pub rss: RssMode,
    /// Milliseconds that the proof of a card may take.
    pub rss_selftest_ms: u32,
    /// The key of the RSS hash in hexadecimal; empty: drawn at every start.
    pub rss_key: String,
    /// Whether captures can attach.
    pub capture: bool,
    /// DPDK's file prefix.
    pub file_prefix: String,
    /// Further arguments of DPDK's environment layer.
    pub eal_args: Vec<String>,
}

/// One `[[port]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, unique among ports.
    pub name: Name,
    /// PCI address or virtual device with arguments.
    pub device: String,
    /// Its MAC address when it is not the card's own.
    pub mac: Option<MacAddress>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// The VLAN that all its frames are tagged with.
    pub vlan: Option<VlanId>,
    /// Queues, when not one for each lcore.
    pub queues: Option<u16>,
    /// Our addresses; 1 to 16.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of ours and the network it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: Address,
    /// The network, host bits cleared.
    pub network: Prefix,
}

/// One `[[route]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub to: Prefix,
    /// The router, on link at `port`; `None`: the network is on link.
    pub via: Option<Address>,
    /// The port to send from.
    pub port: PortId,
    /// Largest IP packet in bytes, when not the port's.
    pub mtu: Option<u16>,
}

/// `[snat]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snat {
    /// The source addresses; at most 64, unique.
    pub addresses: Vec<SnatAddress>,
    /// The source ports.
    pub ports: PortRange,
}

/// A source address and the port whose network it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnatAddress {
    /// The address.
    pub address: Address,
    /// The port that answers for it.
    pub port: PortId,
}

/// `[tcp]`: what connections begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Which algorithm decides how much may be in flight.
    pub congestion_control: CongestionControl,
}

/// What the connections of one leg begin with, a listener's or a pool's; `None` is what `[tcp]` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leg {
    /// Which algorithm decides how much may be in flight.
    pub congestion_control: Option<CongestionControl>,
}

impl Leg {
    /// What counts for its connections.
    pub fn over(&self, tcp: Tcp) -> Tcp {
        let Self { congestion_control } = *self;
        Tcp {
            congestion_control: congestion_control.unwrap_or(tcp.congestion_control),
        }
    }
}

/// One `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, unique among listeners.
    pub name: Name,
    /// The virtual address, or an unspecified one: any address of ours of that family.
    pub address: Address,
    /// Its TCP ports.
    pub ports: PortRange,
    /// Index of its pool in `Config::pools`.
    pub pool: usize,
    /// The port whose network the address is in and which answers for it; `None`: a router sends it
    /// to us, or it is no single address.
    pub on_link: Option<PortId>,
    /// The connections of its clients.
    pub leg: Leg,
}

impl Listener {
    /// Whether it listens on this address of ours.
    pub fn takes(&self, own: Address) -> bool {
        let is_any = self.address.is_unspecified() && self.address.is_v4() == own.is_v4();
        is_any || self.address == own
    }
}

/// One `[[pool]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name, unique among pools.
    pub name: Name,
    /// How a backend is picked.
    pub balance: Balance,
    /// The connections to its backends.
    pub leg: Leg,
    /// How backends are probed; `None`: not at all, they are always up.
    pub health: Option<Health>,
    /// Its servers; at least one.
    pub backends: Vec<Backend>,
}

/// `[pool.health]` of a pool that is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Milliseconds between probes of one backend.
    pub interval_ms: u32,
    /// Milliseconds a probe may take; at most the interval.
    pub timeout_ms: u32,
    /// Good probes that bring a backend up.
    pub rise: u8,
    /// Bad probes that take it down.
    pub fall: u8,
    /// What it counts as before it was probed.
    pub initial: InitialHealth,
}

/// One `[[pool.backend]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name, unique in the pool.
    pub name: Name,
    /// Where it listens; unique in the pool.
    pub endpoint: Endpoint,
    /// Share of new connections, 0 to 256.
    pub weight: u16,
    /// Whether it keeps its connections but gets no new ones.
    pub drain: bool,
}

/// `[neighbor]`, in Linux's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Mean of the randomised time a confirmation lasts, in ms.
    pub base_reachable_time_ms: u32,
    /// Time a stale neighbour is used before it is probed, in ms.
    pub delay_first_probe_time_ms: u32,
    /// Time between requests, in ms.
    pub retrans_time_ms: u32,
    /// Unicast requests before giving up.
    pub ucast_solicit: u8,
    /// Broadcast or multicast requests before giving up.
    pub mcast_solicit: u8,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least severe level written.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
}

/// A name: 1 to 31 letters, digits, `-`, `_` or `.`, so that it fits the 32 zero-padded bytes of
/// the shared region and needs no quoting anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// TCP ports from `first` to `last`, both included; port 0 is in no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word as the file writes it.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words!(
    /// Where DPDK takes memory from.
    Memory {
        /// Huge pages when there are enough.
        Auto = "auto",
        /// Huge pages or nothing.
        Hugepages = "hugepages",
        /// Ordinary pages.
        NoHuge = "no-huge",
    }
);
words!(
    /// What an lcore without work does.
    Idle {
        /// Spins.
        Poll = "poll",
        /// Spins with pauses.
        Pause = "pause",
        /// Lets the CPU watch the receive ring.
        Monitor = "monitor",
        /// Sleeps until a device interrupts.
        Interrupt = "interrupt",
        /// Sleeps for tens of microseconds.
        Sleep = "sleep",
    }
);
words!(
    /// Who brings a frame to the lcore that owns its flow.
    RssMode {
        /// The card where it proves that it can, software elsewhere.
        Auto = "auto",
        /// The card in any case.
        Device = "device",
        /// Software.
        Software = "software",
    }
);
words!(
    /// How a backend is picked.
    Balance {
        /// In turn, by weight.
        RoundRobin = "round-robin",
        /// The one with the fewest connections for its weight.
        LeastConnections = "least-connections",
    }
);
words!(
    /// What a backend counts as before it was probed.
    InitialHealth {
        /// Gets connections until probes fail.
        Up = "up",
        /// Gets none until probes succeed.
        Down = "down",
    }
);
words!(
    /// Severity.
    LogLevel {
        /// What needs a human.
        Error = "error",
        /// What may soon need one.
        Warn = "warn",
        /// What changed.
        Info = "info",
        /// What was decided and why.
        Debug = "debug",
        /// Every frame and record.
        Trace = "trace",
    }
);
words!(
    /// Shape of a log line.
    LogFormat {
        /// For eyes.
        Text = "text",
        /// For machines.
        Json = "json",
    }
);

impl Name {
    /// Longest name in bytes: one less than the shared region's field, which ends with a zero.
    pub const BYTES_MAX: usize = 31;

    /// The name of this text, if it may be one.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::BYTES_MAX).contains(&text.len());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (fits && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PortRange {
    /// Every port there is.
    pub const ALL: Self = Self {
        first: 1,
        last: u16::MAX,
    };

    /// The range from `first` to `last`; `None` when it is empty or holds port 0.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last {
            return None;
        }
        Some(Self { first, last })
    }

    /// Parses `80` or `8000-8010`.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::new(first.trim().parse().ok()?, last.trim().parse().ok()?)
    }

    /// The lowest port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// The lowest port in both ranges.
    pub fn overlap(self, other: Self) -> Option<u16> {
        let first = self.first.max(other.first);
        (first <= self.last.min(other.last)).then_some(first)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Config {
    /// The port with a network that holds `address`.
    pub fn on_link_port(&self, address: Address) -> Option<PortId> {
        on_link_port(&self.ports, address)
    }
}

/// The first port with a network that holds `address`.
pub(crate) fn on_link_port(ports: &[Port], address: Address) -> Option<PortId> {
    let position = ports.iter().position(|port| {
        let mut networks = port.addresses.iter().map(|own| own.network);
        networks.any(|network| network.contains(address))
    })?;
    u16::try_from(position).ok().map(PortId::new)
}
