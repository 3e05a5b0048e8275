//! From the command line to what each lcore does.

use millrace_base::{Address, ListenerId, MacAddress, Nanos};
use millrace_load::engine::{ClientConfig, Pace, Protocol, SinkConfig, Unit};
use millrace_load::exchange::Role;
use millrace_load::generator::Setup;
use millrace_load::host::HostConfig;
use millrace_load::message::Message;
use millrace_load::tuples::TupleSpace;
use millrace_stack::{ListenOptions, Listener, Offloads, StackConfig, TcpTunables};

use crate::args::{
    ClientArgs, DeviceArgs, Direction, NetworkArgs, ProtocolName, SinkArgs, Workload,
};

/// What a stack takes as local addresses beside those of its subnets.
const SOURCES_MAX: usize = 512;
/// TIME_WAIT records of one lcore: a minute of 17,000 connections per second. The oldest make room.
const TIME_WAIT_MAX: usize = 1 << 20;
/// Connections that close while others open.
const CLOSING_MAX: usize = 4_096;
/// Next hops: the gateway of each family, and whoever is on the link.
const NEIGHBORS_MAX: usize = 1_024;

/// A client's command line, understood.
#[derive(Debug)]
pub(crate) struct ClientPlan {
    /// What every lcore does, all lcores together.
    whole: ClientConfig,
    pub(crate) setup: Setup,
    /// One line that says it.
    pub(crate) title: String,
}

/// The sizes that a workload stands for.
struct Shape {
    unit: Unit,
    connections: usize,
    requests_per_connection: u32,
    pipeline: u8,
    rate: Option<f64>,
    open_rate: f64,
    /// Bytes of a request's body and of an answer's; none leaves it to the other options.
    bodies: (Option<u64>, Option<u64>),
    name: &'static str,
}

impl ClientPlan {
    /// What the command line means, or what is wrong with it.
    pub(crate) fn new(args: &ClientArgs) -> Result<Self, String> {
        let shape = Shape::of(&args.workload);
        let rate = args.search.map(|(low, _)| low).or(shape.rate);
        if rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) || shape.open_rate <= 0.0 {
            return Err("a rate is above 0".to_owned());
        }
        if args.search.is_some() && matches!(args.workload, Workload::Bulk { .. }) {
            return Err("--search needs arrivals, and bulk has none".to_owned());
        }
        let pace = match rate {
            Some(rate) => Pace::Open {
                arrivals: args.arrivals,
                rate,
                seed: args.seed,
            },
            None => Pace::Closed,
        };
        let (protocol, request, last_request) = messages(args, &shape)?;
        let (tuples, more_addresses) = tuples(args);
        if tuples.is_empty() {
            return Err("no source port is left".to_owned());
        }
        let setup = setup(
            &args.device,
            &args.network,
            Role::Client,
            more_addresses,
            shape.connections,
            TIME_WAIT_MAX.min(tuples.len()),
        );
        Ok(Self {
            title: format!(
                "{} over {} connections, {}",
                shape.name,
                shape.connections,
                rate.map_or("closed loop".to_owned(), |rate| format!(
                    "{rate} per second"
                )),
            ),
            whole: ClientConfig {
                connections: shape.connections,
                unit: shape.unit,
                requests_per_connection: shape.requests_per_connection,
                pipeline: shape.pipeline,
                pace,
                open_rate: shape.open_rate,
                ending: args.close,
                protocol,
                request,
                last_request,
                timeout: Nanos::new((args.timeout.max(0.001) * 1e9) as u64),
                late: Nanos::new((args.late_ms.max(0.0) * 1e6) as u64),
                tuples,
            },
            setup,
        })
    }

    /// One lcore's share.
    pub(crate) fn share(&self, (lcore, lcores): (u16, u16)) -> ClientConfig {
        let pace = match self.whole.pace {
            Pace::Open {
                arrivals,
                rate,
                seed,
            } => Pace::Open {
                arrivals,
                rate: rate / f64::from(lcores.max(1)),
                seed: seed.wrapping_add(lcore.into()),
            },
            Pace::Closed => Pace::Closed,
        };
        ClientConfig {
            connections: share_of(self.whole.connections, (lcore, lcores)),
            pace,
            open_rate: self.whole.open_rate / f64::from(lcores.max(1)),
            tuples: TupleSpace {
                lcore: (lcore, lcores),
                ..self.whole.tuples.clone()
            },
            ..self.whole.clone()
        }
    }
}

impl Shape {
    fn of(workload: &Workload) -> Self {
        let held = Self {
            unit: Unit::Request,
            connections: 1,
            requests_per_connection: 0,
            pipeline: 1,
            rate: None,
            open_rate: 10_000.0,
            bodies: (None, None),
            name: "",
        };
        match *workload {
            Workload::Connections {
                rate,
                concurrency,
                requests,
                pipeline,
            } => Self {
                unit: Unit::Connection,
                connections: concurrency,
                requests_per_connection: requests,
                pipeline,
                rate,
                name: "connections",
                ..held
            },
            Workload::Requests {
                rate,
                connections,
                pipeline,
                requests_per_connection,
                open_rate,
            } => Self {
                connections,
                requests_per_connection,
                pipeline,
                rate,
                open_rate,
                name: "requests",
                ..held
            },
            Workload::Bulk {
                direction,
                connections,
                body_bytes,
            } => Self {
                connections,
                ..held.moving(direction, body_bytes)
            },
            Workload::Idle {
                connections,
                open_rate,
                wakes,
            } => Self {
                connections,
                rate: Some(wakes),
                open_rate,
                name: "idle connections, woken",
                ..held
            },
        }
    }
}

impl Shape {
    /// The same with bodies of this size to move.
    fn moving(self, direction: Direction, body_bytes: u64) -> Self {
        let (bodies, name) = match direction {
            Direction::Up => ((Some(body_bytes), None), "bulk up"),
            Direction::Down => ((None, Some(body_bytes)), "bulk down"),
            Direction::Both => ((Some(body_bytes), Some(body_bytes)), "bulk both ways"),
        };
        Self {
            // The next transfer is asked for before the last one ends.
            pipeline: 2,
            bodies,
            name,
            ..self
        }
    }
}

/// A sink's command line, understood.
#[derive(Debug)]
pub(crate) struct SinkPlan {
    whole: SinkConfig,
    pub(crate) setup: Setup,
}

impl SinkPlan {
    pub(crate) fn new(args: &SinkArgs) -> Result<Self, String> {
        let protocol = match args.protocol {
            ProtocolName::Http => Protocol::Http,
            ProtocolName::Raw if args.request_bytes == 0 => {
                return Err("a raw request has at least one byte".to_owned());
            }
            ProtocolName::Raw => Protocol::Raw {
                request_bytes: args.request_bytes,
                response_bytes: args.response_bytes,
            },
        };
        let mut setup = setup(
            &args.device,
            &args.network,
            Role::Sink,
            Vec::new(),
            args.connections,
            TIME_WAIT_MAX.min(args.connections),
        );
        let families = [Address::UNSPECIFIED_V4, Address::UNSPECIFIED_V6];
        let rows = args
            .listen
            .iter()
            .flat_map(|port| families.map(|any| (any, *port)));
        let listener = |(id, (address, port)): (u16, (Address, u16))| Listener {
            id: ListenerId::new(id),
            address,
            port_first: port,
            port_last: port,
            options: ListenOptions {
                backlog: u32::try_from(args.connections).unwrap_or(u32::MAX),
                ..ListenOptions::default()
            },
        };
        setup.host.listeners = (0u16..).zip(rows).map(listener).collect();
        Ok(Self {
            whole: SinkConfig {
                connections: args.connections,
                protocol,
                response_bytes: args.response_bytes,
            },
            setup,
        })
    }

    /// One lcore's share. Peers choose the lcore: one may have more than its share, so each gets
    /// twice that.
    pub(crate) fn share(&self, (lcore, lcores): (u16, u16)) -> SinkConfig {
        let share = share_of(self.whole.connections, (lcore, lcores));
        let room = if lcores > 1 {
            share.saturating_mul(2)
        } else {
            share
        };
        SinkConfig {
            connections: room.min(self.whole.connections),
            ..self.whole.clone()
        }
    }
}

/// Equal shares, the first ones larger by one where it does not divide.
fn share_of(whole: usize, (lcore, lcores): (u16, u16)) -> usize {
    let (lcore, lcores) = (usize::from(lcore), usize::from(lcores.max(1)));
    (whole / lcores + usize::from(lcore < whole % lcores)).max(1)
}

fn messages(args: &ClientArgs, shape: &Shape) -> Result<(Protocol, Message, Message), String> {
    let (up, down) = shape.bodies;
    let request_bytes = up.or(args.request_bytes);
    let response_bytes = down.or(args.response_bytes);
    if args.protocol == ProtocolName::Raw {
        let request_bytes = request_bytes.unwrap_or(1);
        let response_bytes = response_bytes.unwrap_or(1);
        if request_bytes == 0 || response_bytes == 0 {
            return Err("a raw request or answer has at least one byte".to_owned());
        }
        let message = Message::new(b"", request_bytes);
        let protocol = Protocol::Raw {
            request_bytes,
            response_bytes,
        };
        return Ok((protocol, message.clone(), message));
    }
    let body = request_bytes.unwrap_or(0);
    let path = match (&args.path, response_bytes) {
        (Some(path), _) => path.clone(),
        (None, Some(bytes)) => format!("/bytes/{bytes}"),
        (None, None) => "/".to_owned(),
    };
    let words = [path.as_str(), args.host.as_deref().unwrap_or("")];
    let fields = args.header.iter().map(String::as_str);
    if words
        .into_iter()
        .chain(fields)
        .any(|word| word.contains(['\r', '\n']))
    {
        return Err("a path or header field has no line break".to_owned());
    }
    if path.contains(' ') || !path.starts_with('/') {
        return Err(format!("{path:?} is no path"));
    }
    let closes = args.close == millrace_load::engine::Ending::Peer;
    let message = |is_last| Message::new(head(args, &path, body, is_last).as_bytes(), body);
    Ok((Protocol::Http, message(false), message(closes)))
}

fn head(args: &ClientArgs, path: &str, body: u64, closes: bool) -> String {
    let method = if body == 0 { "GET" } else { "POST" };
    let target = args.target.first().map(ToString::to_string);
    let host = args.host.clone().or(target).unwrap_or_default();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    if body > 0 {
        head.push_str(&format!("Content-Length: {body}\r\n"));
    }
    if closes {
        head.push_str("Connection: close\r\n");
    }
    for field in &args.header {
        head.push_str(field);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head
}

/// The tuples to use, and the source addresses that are in no subnet of ours.
fn tuples(args: &ClientArgs) -> (TupleSpace, Vec<Address>) {
    let more: Vec<Address> = args
        .sources
        .iter()
        .flat_map(|range| range.addresses(SOURCES_MAX))
        .take(SOURCES_MAX)
        .collect();
    let own = args.network.address.iter().map(|prefixed| prefixed.address);
    let mut sources: Vec<Address> = own.chain(more.iter().copied()).collect();
    sources.sort_unstable();
    sources.dedup();
    let space = TupleSpace {
        sources,
        ports: args.ports,
        targets: args.target.clone(),
        lcore: (0, 1),
    };
    (space, more)
}

fn setup(
    device: &DeviceArgs,
    network: &NetworkArgs,
    role: Role,
    more_addresses: Vec<Address>,
    connections: usize,
    time_wait_max: usize,
) -> Setup {
    let connections_max = connections.saturating_mul(2).saturating_add(CLOSING_MAX);
    Setup {
        device: device.device_name(),
        rx_descriptors: device.rxd,
        tx_descriptors: device.txd,
        buffers: device.nb_mbufs,
        buffer_bytes: device.mbuf_size,
        mac: network.mac,
        idle: device.idle,
        offloads: !device.no_offloads,
        role,
        host: HostConfig {
            mac: MacAddress::ZERO,
            mtu: network.mtu,
            offloads: Offloads::default(),
            addresses: network.address.clone(),
            more_addresses,
            gateways: network.gateway.clone(),
            peer_mac: network.peer_mac,
            listeners: Vec::new(),
            stack: StackConfig {
                connections_max,
                syn_queue_max: match role {
                    Role::Client => 1,
                    Role::Sink => connections,
                },
                time_wait_max,
                // Known when the device is.
                chunks_max: 0,
                neighbors_max: NEIGHBORS_MAX,
                secret: [0; 32],
                tcp: TcpTunables::default(),
            },
        },
    }
}
