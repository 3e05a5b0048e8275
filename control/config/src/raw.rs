//! The file as serde sees it: the mirror of the key table after all layers were merged and defaults
//! filled in.
//!
//! Strings are still strings here. An `Option` is a key without a default; when the key is
//! required, its absence has already been reported. `check` turns this into `valid`.

use millrace_base::CongestionControl;
use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    pub(crate) runtime_dir: String,
    pub(crate) dataplane: Dataplane,
    #[serde(default)]
    pub(crate) port: Vec<Port>,
    #[serde(default)]
    pub(crate) route: Vec<Route>,
    pub(crate) snat: Snat,
    pub(crate) tcp: Tcp,
    #[serde(default)]
    pub(crate) listener: Vec<Listener>,
    #[serde(default)]
    pub(crate) pool: Vec<Pool>,
    pub(crate) neighbor: Neighbor,
    pub(crate) metrics: Metrics,
    pub(crate) log: Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dataplane {
    pub(crate) lcores: Vec<u16>,
    pub(crate) mbufs: u32,
    pub(crate) mbuf_bytes: u16,
    pub(crate) memory: crate::Memory,
    pub(crate) memory_mb: u32,
    pub(crate) connections_max: u32,
    pub(crate) idle: crate::Idle,
    pub(crate) rss: crate::RssMode,
    pub(crate) rss_selftest_ms: u32,
    pub(crate) rss_key: String,
    pub(crate) capture: bool,
    pub(crate) file_prefix: String,
    pub(crate) eal_args: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) mac: Option<String>,
    pub(crate) mtu: u16,
    pub(crate) vlan: Option<u16>,
    pub(crate) queues: Option<u16>,
    pub(crate) addresses: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) to: Option<String>,
    pub(crate) via: Option<String>,
    pub(crate) port: Option<String>,
    pub(crate) mtu: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snat {
    pub(crate) addresses: Vec<String>,
    pub(crate) ports: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tcp {
    pub(crate) congestion_control: Congestion,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) ports: Option<String>,
    pub(crate) pool: Option<String>,
    pub(crate) congestion_control: Option<Congestion>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    pub(crate) name: Option<String>,
    pub(crate) balance: crate::Balance,
    pub(crate) congestion_control: Option<Congestion>,
    pub(crate) health: Health,
    #[serde(default)]
    pub(crate) backend: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    pub(crate) enabled: bool,
    pub(crate) interval_ms: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) rise: u8,
    pub(crate) fall: u8,
    pub(crate) initial: crate::InitialHealth,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) weight: u16,
    pub(crate) drain: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Neighbor {
    pub(crate) base_reachable_time_ms: u32,
    pub(crate) delay_first_probe_time_ms: u32,
    pub(crate) retrans_time_ms: u32,
    pub(crate) ucast_solicit: u8,
    pub(crate) mcast_solicit: u8,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    pub(crate) listen: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: crate::LogLevel,
    pub(crate) format: crate::LogFormat,
}

/// The name of an algorithm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Congestion(pub(crate) CongestionControl);

impl<'de> Deserialize<'de> for Congestion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let control = CongestionControl::of_name(name.as_bytes());
        let unknown = || serde::de::Error::unknown_variant(&name, &CongestionControl::NAMES);
        control.map(Self).ok_or_else(unknown)
    }
}
