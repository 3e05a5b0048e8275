//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use millrace_base::{Address, Endpoint, MacAddress};
use millrace_dpdk::{DeviceName, EalArgs, LcoreList, LogLevel, Memory, PciDevices};
use millrace_load::engine::{Ending, PIPELINE_MAX};
use millrace_load::lcore::Idle;
use millrace_load::schedule::Arrivals;
use millrace_stack::Prefixed;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Generates TCP load with a stack of its own, and answers it.
///
/// An operation is measured from when it was due, not from when it was begun, and a second counts
/// only when it saw no error, no retransmission in either direction, and nothing that the generator
/// itself missed or began more than --late-ms late.
///
/// Exit codes: 0 done; 1 something failed; 2 mistakes in the arguments; 3 with --strict, when a
/// measured second did not count.
#[derive(Debug, Parser)]
#[command(name = "millrace-load", version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) role: RoleArgs,
}

/// Which end.
#[derive(Debug, Subcommand)]
pub(crate) enum RoleArgs {
    /// Opens connections, asks and measures.
    Client(Box<ClientArgs>),
    /// Accepts connections and answers.
    Sink(Box<SinkArgs>),
    /// Either end without a stack: costs a tenth of it, so that it is never the bottleneck.
    ///
    /// Nothing is kept per connection, nothing repeated, no window watched, no order restored: on a
    /// path that loses frames connections stay under way for ever, and the counters say so; a rate
    /// counts only without errors. IPv4 without options, one request and one answer in a segment
    /// each, one lcore, a closed loop, no latencies. Both ends must be told the same sizes, and who
    /// closes. Requests carry a token that the answer must repeat, which only the other end of this
    /// command does; between the two may be anything that terminates or forwards TCP.
    Light(Box<LightArgs>),
}

/// Either end without a stack.
#[derive(Debug, ClapArgs)]
pub(crate) struct LightArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// An IPv4 address of ours for which ARP is answered, again for each. Those of a client are known
    /// without.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) address: Vec<Address>,
    /// Our Ethernet address; default the device's.
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub(crate) mac: Option<MacAddress>,
    /// The Ethernet address of whoever is on the link: nobody is asked.
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub(crate) peer_mac: MacAddress,
    /// Bytes of the largest IP packet.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u16).range(576..=9_000))]
    pub(crate) mtu: u16,
    /// Bytes of a request, HTTP's own among them; at least 57.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u16).range(57..=1_400))]
    pub(crate) request_bytes: u16,
    /// Bytes of an answer, HTTP's own among them; at least 56.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u16).range(56..=1_400))]
    pub(crate) response_bytes: u16,
    /// Requests on each connection, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) requests: u32,
    /// The client closes; otherwise the server does, right behind its last answer.
    #[arg(long)]
    pub(crate) client_closes: bool,
    /// Seconds to run; default until a signal comes (INT, TERM).
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,
    /// No line per second.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Fail (exit code 3) when there was an error, or a connection stayed under way.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(subcommand)]
    pub(crate) role: LightRole,
}

/// Which end of the light mode.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LightRole {
    /// Opens, asks and closes.
    Client {
        /// Where to connect to.
        #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_endpoint)]
        target: Endpoint,
        /// Source addresses, first and last; routed to us, or in our subnet.
        #[arg(long, value_name = "FIRST-LAST", value_parser = parse_range)]
        sources: AddressRange,
        /// Source ports of each address, first and last.
        #[arg(long, value_name = "FIRST-LAST", default_value = "1024-65023", value_parser = parse_ports)]
        ports: (u16, u16),
        /// Connections under way.
        #[arg(long, default_value_t = 256)]
        concurrency: u32,
    },
    /// Answers on every address and port that frames are sent to.
    Server,
}

/// The device and the lcores.
#[derive(Debug, ClapArgs)]
pub(crate) struct DeviceArgs {
    /// The device: a PCI address (0000:03:00.0) or a virtual device with its arguments
    /// (net_af_packet0,iface=veth0).
    #[arg(long, value_name = "DEVICE")]
    port: String,
    /// Lcores and their CPUs: 0@1,1@1 or 0-1 (lcore N on CPU N). The lowest one only watches, each
    /// other one has a queue of the device, a stack and its share of everything.
    #[arg(long, default_value = "0,1")]
    lcores: LcoreList,
    /// Descriptors per receive queue.
    #[arg(long, default_value_t = 1_024)]
    pub(crate) rxd: u16,
    /// Descriptors per transmit queue.
    #[arg(long, default_value_t = 1_024)]
    pub(crate) txd: u16,
    /// Packet buffers, all lcores together.
    #[arg(long, default_value_t = 32_767)]
    pub(crate) nb_mbufs: u32,
    /// Bytes per buffer, 128 of headroom included.
    #[arg(long, default_value_t = 2_176)]
    pub(crate) mbuf_size: u16,
    /// What an lcore does when there is nothing to do.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) idle: Idle,
    /// Checksums and segmentation in software, whatever the device offers: for devices that offer
    /// what they do not do (net_ring).
    #[arg(long)]
    pub(crate) no_offloads: bool,
    /// Ordinary pages instead of huge ones: runs anywhere, two to three times slower.
    #[arg(long)]
    no_huge: bool,
    /// MiB of packet memory; default what is needed, or 256 with --no-huge.
    #[arg(short = 'm', long, value_name = "MIB")]
    memory: Option<u32>,
    /// Separates the run-time files of several DPDK processes.
    #[arg(long)]
    file_prefix: Option<String>,
    /// One more argument for EAL, again for each: --eal-arg=--no-telemetry.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    eal_arg: Vec<String>,
}

/// Our place in the network.
#[derive(Debug, ClapArgs)]
pub(crate) struct NetworkArgs {
    /// An address of ours and the length of its subnet, again for each, at most 16: 10.0.0.2/24.
    /// The kernel must not have it, too.
    #[arg(long, value_name = "ADDRESS/BITS", required = true, value_parser = parse_prefixed)]
    pub(crate) address: Vec<Prefixed>,
    /// The way out of our subnets, one of each family at most.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) gateway: Vec<Address>,
    /// Whoever is the next hop has this Ethernet address; nobody is asked by ARP or ND.
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub(crate) peer_mac: Option<MacAddress>,
    /// Our Ethernet address; default the device's.
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub(crate) mac: Option<MacAddress>,
    /// Bytes of the largest IP packet.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u16).range(576..=9_000))]
    pub(crate) mtu: u16,
}

/// How long, and what is left behind.
#[derive(Debug, ClapArgs)]
pub(crate) struct ReportArgs {
    /// Seconds to measure, after opening and warm-up; default until a signal comes (INT, TERM).
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,
    /// Seconds that run and do not count yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub(crate) warmup: f64,
    /// Write everything here as JSON: the summary, each second, the trials of a search.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write rate and latency over time here as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// No line per second.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Fail (exit code 3) when a measured second does not count.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// How requests look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum ProtocolName {
    /// HTTP/1.1. Answers need a Content-Length.
    #[default]
    Http,
    /// Bytes without meaning: so many are answered with so many; both ends must be told.
    Raw,
}

/// The client.
#[derive(Debug, ClapArgs)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
    /// Where to connect to, again for each, used in turn: 10.0.0.1:80, [fd00::1]:80.
    #[arg(long, value_name = "ADDRESS:PORT", required = true, value_parser = parse_endpoint)]
    pub(crate) target: Vec<Endpoint>,
    /// More source addresses, first and last, again for each: 10.0.1.1-10.0.1.200. Routed to us,
    /// or in our subnet. At most 512 in all.
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_range)]
    pub(crate) sources: Vec<AddressRange>,
    /// Source ports, first and last.
    #[arg(long, value_name = "FIRST-LAST", default_value = "1024-65535", value_parser = parse_ports)]
    pub(crate) ports: (u16, u16),
    /// How requests look.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) protocol: ProtocolName,
    /// HTTP: the path; default /, or /bytes/N where --response-bytes asks a sink for N.
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// HTTP: the Host field; default the first target.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// HTTP: one more field, again for each: --header 'X-A: b'.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Bytes of a request's body (HTTP; 0 makes it a GET, else it is a POST), or of a request (raw;
    /// at least 1).
    #[arg(long, value_name = "BYTES")]
    pub(crate) request_bytes: Option<u64>,
    /// Bytes of an answer's body to ask a sink for (HTTP), or of an answer (raw, default 1).
    #[arg(long, value_name = "BYTES")]
    pub(crate) response_bytes: Option<u64>,
    /// How a connection ends after its last answer.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) close: Ending,
    /// Seconds that a connection with work may make no progress.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub(crate) timeout: f64,
    /// Milliseconds that an arrival may be begun late before it is a miss. A polling lcore is back in
    /// microseconds; ten milliseconds are a kernel that took the CPU away, or nothing free to begin
    /// with.
    #[arg(long, value_name = "MS", default_value_t = 10.0)]
    pub(crate) late_ms: f64,
    /// How gaps between arrivals are distributed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) arrivals: Arrivals,
    /// Makes the same schedule again.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Look for the highest clean rate between these two, arrivals per second, then measure it:
    /// 1000-100000. Needs an open loop; --rate is not needed.
    #[arg(long, value_name = "LOW-HIGH", value_parser = parse_rates)]
    pub(crate) search: Option<(f64, f64)>,
    /// Seconds of one trial of the search, after one second to settle.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub(crate) search_secs: f64,
    /// How near the search comes, percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0)]
    pub(crate) search_tolerance: f64,
    #[command(subcommand)]
    pub(crate) workload: Workload,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Workload {
    /// Connections per second: open, ask, read, close. An operation is a connection.
    Connections {
        /// Arrivals per second; without it a closed loop keeps --concurrency connections going.
        #[arg(long, value_name = "PER SECOND")]
        rate: Option<f64>,
        /// Connections at once, at most.
        #[arg(long, default_value_t = 1_024)]
        concurrency: usize,
        /// Requests on each connection.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        requests: u32,
        /// Requests under way on each connection.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(PIPELINE_MAX)))]
        pipeline: u8,
    },
    /// Requests per second on connections that are held. An operation is a request.
    Requests {
        /// Arrivals per second; without it a closed loop keeps every pipeline full.
        #[arg(long, value_name = "PER SECOND")]
        rate: Option<f64>,
        /// Connections.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Requests under way on each connection.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(PIPELINE_MAX)))]
        pipeline: u8,
        /// Requests on each connection before it is opened anew; 0 is without end.
        #[arg(long, default_value_t = 0)]
        requests_per_connection: u32,
        /// Connections opened per second until all are there.
        #[arg(long, value_name = "PER SECOND", default_value_t = 10_000.0)]
        open_rate: f64,
    },
    /// Bulk throughput: a closed loop of long requests or answers. An operation is one of them.
    Bulk {
        /// Which way the bytes go.
        #[arg(long, value_enum, default_value_t)]
        direction: Direction,
        /// Connections.
        #[arg(long, default_value_t = 8)]
        connections: usize,
        /// Bytes of one body.
        #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
        body_bytes: u64,
    },
    /// Concurrent connections that rest: opened, held, and some woken. An operation is a request on
    /// the connection that rested longest.
    Idle {
        /// Connections.
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// Connections opened per second until all are there.
        #[arg(long, value_name = "PER SECOND", default_value_t = 10_000.0)]
        open_rate: f64,
        /// Requests per second over all of them.
        #[arg(long, value_name = "PER SECOND", default_value_t = 100.0)]
        wakes: f64,
    },
}

/// Which way bulk bytes go, as the client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Direction {
    /// From the client.
    Up,
    /// To the client.
    #[default]
    Down,
    /// Both at once, two requests under way on each connection.
    Both,
}

/// The sink.
#[derive(Debug, ClapArgs)]
pub(crate) struct SinkArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
    /// Port to listen on, on all our addresses, again for each.
    #[arg(long, value_name = "PORT", default_value = "80", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) listen: Vec<u16>,
    /// Connections at once, at most.
    #[arg(long, default_value_t = 65_536)]
    pub(crate) connections: usize,
    /// How requests look.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) protocol: ProtocolName,
    /// Raw: bytes of a request.
    #[arg(long, value_name = "BYTES", default_value_t = 1)]
    pub(crate) request_bytes: u64,
    /// Bytes of an answer (raw), or of its body where the path is not /bytes/N (HTTP).
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub(crate) response_bytes: u64,
}

/// First and last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AddressRange {
    first: Address,
    last: Address,
}

impl DeviceArgs {
    /// What EAL is started with.
    pub(crate) fn eal(&self) -> EalArgs {
        let (pci, vdevs) = match DeviceName::parse(&self.port) {
            DeviceName::Pci(address) => (PciDevices::Allow(vec![address]), Vec::new()),
            DeviceName::Virtual(vdev) => (PciDevices::None, vec![vdev]),
        };
        let memory = if self.no_huge {
            Memory::Ordinary {
                mebibytes: self.memory.unwrap_or(256),
            }
        } else {
            Memory::HugePages {
                mebibytes: self.memory,
            }
        };
        EalArgs {
            program: "millrace-load".to_owned(),
            lcores: self.lcores.0.clone(),
            memory,
            file_prefix: self.file_prefix.clone(),
            vdevs,
            pci,
            log_level: LogLevel::Warning,
            extra: self.eal_arg.clone(),
            ..EalArgs::default()
        }
    }

    /// The device's name as EAL knows it.
    pub(crate) fn device_name(&self) -> String {
        DeviceName::parse(&self.port).name().to_owned()
    }
}

impl AddressRange {
    /// Every address from the first to the last, at most `limit`.
    pub(crate) fn addresses(&self, limit: usize) -> Vec<Address> {
        let number = |address: &Address| u128::from_be_bytes(*address.octets());
        let (first, last) = (number(&self.first), number(&self.last));
        let all = (first..=last).take(limit);
        all.map(|number| Address::from(IpAddr::from(number.to_be_bytes()).to_canonical()))
            .collect()
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is no IP address"))?;
    Ok(Address::from(address))
}

fn parse_prefixed(text: &str) -> Result<Prefixed, String> {
    let wrong = || format!("{text:?} is no ADDRESS/BITS");
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    let address = parse_address(address)?;
    let prefix_len = bits.parse().map_err(|_| wrong())?;
    if prefix_len > if address.is_v4() { 32 } else { 128 } {
        return Err(wrong());
    }
    Ok(Prefixed {
        address,
        prefix_len,
    })
}

fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint: SocketAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is no ADDRESS:PORT"))?;
    Ok(Endpoint::new(endpoint.ip().into(), endpoint.port()))
}

fn parse_range(text: &str) -> Result<AddressRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_address(first)?, parse_address(last)?);
    if first > last || first.is_v4() != last.is_v4() {
        return Err(format!("{text:?} is no range of addresses"));
    }
    Ok(AddressRange { first, last })
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("{text:?} is no FIRST-LAST of ports");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(wrong()),
    }
}

fn parse_rates(text: &str) -> Result<(f64, f64), String> {
    let wrong = || format!("{text:?} is no LOW-HIGH of rates");
    let (low, high) = text.split_once('-').ok_or_else(wrong)?;
    let rate = |text: &str| text.parse::<f64>().ok().filter(|rate| *rate > 0.0);
    match (rate(low), rate(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        _ => Err(wrong()),
    }
}

fn parse_mac(text: &str) -> Result<MacAddress, String> {
    MacAddress::parse(text).ok_or_else(|| format!("{text:?} is no Ethernet address"))
}
