//! The command `millrace-load light`: from the command line to a station, and a line per second.

use std::error::Error;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millrace_base::Address;
use millrace_dpdk::Eal;
use millrace_load::generator::LoadError;
use millrace_load::light::{Closer, Payload, Script, Sources};
use millrace_load::station::{Done, Station, StationConfig, StationRole};

use crate::args::{LightArgs, LightRole};

/// Source addresses at most: with their ports, sixteen million connections.
const SOURCES_MAX: usize = 256;
/// How long the last connections may take to close.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often whoever watches looks.
const LOOK: Duration = Duration::from_millis(10);

/// What the command line means, or what is wrong with it.
pub(crate) fn config(args: &LightArgs) -> Result<StationConfig, String> {
    let mut addresses = args.address.clone();
    let role = match &args.role {
        LightRole::Server => StationRole::Server,
        LightRole::Client {
            target,
            sources,
            ports,
            concurrency,
        } => {
            let range = sources.addresses(SOURCES_MAX);
            addresses.extend(&range);
            let first = range.first().and_then(number);
            let (Some(first_address), Some(service)) = (first, number(&target.address)) else {
                return Err("the light mode knows IPv4 only".to_owned());
            };
            // 1 to 65,535: neither is 0.
            let ports_each = (ports.1 - ports.0).saturating_add(1);
            StationRole::Client {
                sources: Sources {
                    first_address,
                    first_port: ports.0,
                    ports: ports_each,
                },
                endpoints: (range.len() as u32).saturating_mul(u32::from(ports_each)),
                service: (service, target.port),
                concurrency: *concurrency,
            }
        }
    };
    Ok(StationConfig {
        device: args.device.device_name(),
        rx_descriptors: args.device.rxd,
        tx_descriptors: args.device.txd,
        buffers: args.device.nb_mbufs,
        buffer_bytes: args.device.mbuf_size,
        mac: args.mac,
        peer_mac: args.peer_mac,
        mtu: args.mtu,
        offloads: !args.device.no_offloads,
        addresses,
        script: Script {
            request: Payload::http_request(args.request_bytes.into()),
            response: Payload::http_response(args.response_bytes.into()),
            requests: args.requests,
            asks_at_once: true,
            closer: if args.client_closes {
                Closer::Client
            } else {
                Closer::Server
            },
        },
        role,
    })
}

/// Runs it until the time is over or somebody says so; `false` when it went wrong and `--strict` minds.
pub(crate) fn run(
    eal: Eal,
    args: &LightArgs,
    config: &StationConfig,
    leave: &AtomicBool,
) -> Result<bool, Box<dyn Error>> {
    let lcore = *eal.worker_lcores().first().ok_or(LoadError::NoLcore)?;
    let station = Station::start(eal, lcore, config)?;
    let began = Instant::now();
    let is_over = || {
        let is_late = args
            .seconds
            .is_some_and(|seconds| began.elapsed().as_secs_f64() >= seconds);
        is_late || leave.load(Ordering::Relaxed)
    };
    let mut last = (began, Done::default());
    while !is_over() {
        std::thread::sleep(LOOK);
        if !args.quiet && last.0.elapsed() >= Duration::from_secs(1) {
            let now = (Instant::now(), station.done());
            println!("{}", line(&last, &now));
            last = now;
        }
    }
    let end = (Instant::now(), station.done());
    station.wind_down();
    while station.done().under_way > 0 && end.0.elapsed() < FAREWELL {
        std::thread::sleep(LOOK);
    }
    let done = station.stop()?;
    println!("in all: {}", line(&(began, Done::default()), &end));
    let operations = done.closed.max(1);
    println!(
        "{} connections, {} errors, {} stayed under way; {} cycles each",
        done.closed,
        done.errors,
        done.under_way,
        done.busy_cycles / operations
    );
    Ok(!args.strict || (done.errors == 0 && done.under_way == 0))
}

/// Rates between two moments.
fn line(before: &(Instant, Done), after: &(Instant, Done)) -> String {
    let seconds = after.0.duration_since(before.0).as_secs_f64().max(1e-9);
    let rate = |of: fn(&Done) -> u64| of(&after.1).wrapping_sub(of(&before.1)) as f64 / seconds;
    format!(
        "{:.0} connections/s, {:.0} answers/s, {:.0} frames/s, {} errors, {} under way",
        rate(|done| done.closed),
        rate(|done| done.responses),
        rate(|done| done.frames),
        after.1.errors,
        after.1.under_way
    )
}

/// An IPv4 address in host byte order.
fn number(address: &Address) -> Option<u32> {
    let octets = address.octets();
    match IpAddr::from(*octets).to_canonical() {
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(_) => None,
    }
}
