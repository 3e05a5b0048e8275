//! The rows of the answers. Sums are over all lcores since the dataplane started, unless a field
//! says otherwise.

use serde::{Deserialize, Serialize};

/// How control and the dataplane are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of control.
    pub version: String,
    /// Control's process id.
    pub pid: u32,
    /// Seconds since control started.
    pub uptime_seconds: u64,
    /// The configuration file.
    pub config_file: String,
    /// Whether control is attached to a dataplane.
    pub attached: bool,
    /// The dataplane's process id; 0 when not attached.
    pub dataplane_pid: u64,
    /// The dataplane's boot identifier in hexadecimal; empty when not attached.
    pub boot_id: String,
    /// The generation of the tables published last.
    pub generation: u64,
    /// Whether every lcore has adopted it and nothing newer waits to be published.
    pub adopted: bool,
    /// Lcores whose heartbeat stands still.
    pub silent_lcores: Vec<u16>,
    /// Changes of the configuration that wait for a restart of the dataplane or of control.
    pub pending: Vec<String>,
}

/// One lcore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LcoreRow {
    /// Its number.
    pub lcore: u16,
    /// The CPU it is pinned to.
    pub cpu: u32,
    /// Where it is in its life: starting, running, draining, drained, stopped.
    pub phase: String,
    /// Whether its heartbeat moves.
    pub alive: bool,
    /// Share of cycles with work since control last looked, 0 to 100.
    pub busy_percent: f64,
    /// TSC cycles spent in turns with work.
    pub busy_cycles: u64,
    /// TSC cycles spent in turns without, sleep included.
    pub idle_cycles: u64,
    /// What it does without work: poll, pause, monitor, interrupt, sleep.
    pub idle: String,
    /// What it was asked to do without work; another word than `idle` when CPU or devices cannot.
    pub idle_asked: String,
    /// Who brings frames to it: `device` for cards that are trusted to deliver to the owner of a
    /// flow, `software` for others, both where ports differ; `-` with one lcore.
    pub rss: String,
    /// Times it slept.
    pub sleeps: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Busy cycles per received frame since control last looked, sampled; the sum of `stages`.
    pub cycles_per_packet: f64,
    /// The same by stage, in the order of a turn.
    pub stages: Vec<StageRow>,
    /// Receive bursts by size: 0, 1, 2-3, 4-7, 8-15, 16-31, 32-63, 64 and more.
    pub rx_bursts: Vec<u64>,
    /// Transmit bursts by the frames that the device took, likewise.
    pub tx_bursts: Vec<u64>,
    /// The generation of tables it has adopted.
    pub generation: u64,
}

/// What one stage of an lcore's work costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRow {
    /// rx, steer, stack, lb, timers, tx, control, report.
    pub stage: String,
    /// Cycles per received frame since control last looked.
    pub cycles_per_packet: f64,
}

/// One network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRow {
    /// Its number.
    pub port: u16,
    /// The configuration's name.
    pub name: String,
    /// The DPDK driver.
    pub driver: String,
    /// Its address.
    pub mac: String,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// The VLAN that its frames are tagged with, if any.
    pub vlan: Option<u16>,
    /// Receive and transmit queue pairs.
    pub queues: u16,
    /// What the self-test found about its receive-side scaling: untested, proven, wrong, no answer.
    pub rss_test: String,
    /// How frames are received, the driver's words.
    pub rx_mode: String,
    /// How frames are sent, the driver's words.
    pub tx_mode: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// The link's speed in Mbit/s; 0 when unknown.
    pub link_mbps: u64,
    /// Frames received.
    pub ipackets: u64,
    /// Frames sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Frames lost because the receive queue was full.
    pub imissed: u64,
    /// Frames received with errors.
    pub ierrors: u64,
    /// Frames that could not be sent.
    pub oerrors: u64,
    /// Our addresses on it, with prefix length.
    pub addresses: Vec<String>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerRow {
    /// Its stable number.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its ports, `80` or `8000-8010`.
    pub ports: String,
    /// Its pool.
    pub pool: String,
    /// Congestion control of clients that connect from now on.
    pub congestion_control: String,
    /// Sessions open now.
    pub sessions_active: u64,
    /// Sessions accepted.
    pub sessions_total: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Clients reset because no backend could be connected.
    pub refused: u64,
    /// Sessions reset by the client.
    pub resets: u64,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendRow {
    /// Its stable number.
    pub id: u16,
    /// Its pool.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// Share of new connections.
    pub weight: u16,
    /// up, down or draining.
    pub state: String,
    /// Congestion control of connections that are opened to it from now on.
    pub congestion_control: String,
    /// What the last probe said; empty before the first and without probes.
    pub last_check: String,
    /// The last successful probe's round trip in microseconds.
    pub check_rtt_us: u32,
    /// Sessions open now.
    pub sessions_active: u64,
    /// Sessions given to it.
    pub sessions_total: u64,
    /// Bytes to it.
    pub bytes_in: u64,
    /// Bytes from it.
    pub bytes_out: u64,
    /// Connections to it that failed.
    pub connect_failures: u64,
    /// Sessions it reset.
    pub resets: u64,
    /// Source ports towards it that are in use, over all source addresses and lcores; TIME_WAIT
    /// counts until the tuple may be used again.
    pub ports_used: u64,
    /// Source ports towards it in all.
    pub ports_capacity: u64,
}

/// One reason for dropping frames or connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// The counter's name.
    pub name: String,
    /// How often.
    pub total: u64,
    /// What it means.
    pub help: String,
}

/// One counter of the dataplane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow {
    /// Its name.
    pub name: String,
    /// The sum over the lcores.
    pub total: u64,
    /// Each lcore's value.
    pub lcores: Vec<u64>,
    /// What it means.
    pub help: String,
}

/// One neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborRow {
    /// The port's name.
    pub port: String,
    /// Its address.
    pub address: String,
    /// Its Ethernet address; empty while unknown.
    pub mac: String,
    /// INCOMPLETE, REACHABLE, STALE, DELAY, PROBE or FAILED.
    pub state: String,
    /// Seconds since it was last confirmed; `None`: never.
    pub confirmed_seconds: Option<u64>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// The destination network.
    pub to: String,
    /// The router; empty when the network is on link.
    pub via: String,
    /// The port's name.
    pub port: String,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// "interface" for the network of an interface address, "config" for a `[[route]]`.
    pub source: String,
}

/// The open connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// The rows.
    pub rows: Vec<ConnectionRow>,
    /// Whether there are more than were asked for, or an lcore did not answer in time.
    pub truncated: bool,
}

/// One session: the connection from a client and the one to a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// The lcore that serves it.
    pub lcore: u16,
    /// The client's address and port.
    pub client: String,
    /// Our address and port that it connected to.
    pub vip: String,
    /// Our address and port towards the backend.
    pub snat: String,
    /// The backend's address and port.
    pub backend: String,
    /// The listener's name.
    pub listener: String,
    /// TCP state towards the client.
    pub client_state: String,
    /// TCP state towards the backend.
    pub backend_state: String,
    /// Congestion control towards the client; empty without a connection.
    pub client_congestion: String,
    /// Congestion control towards the backend; empty without a connection.
    pub backend_congestion: String,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Age in milliseconds.
    pub age_ms: u64,
    /// Segments sent again, both legs.
    pub retransmissions: u32,
}
