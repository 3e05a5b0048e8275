//! Relations: from the merged file to a valid configuration, or to everything that contradicts.
//!
//! `network` holds what belongs to ports, routes and source addresses, `service` listeners and
//! pools. A part that is wrong is left out and the rest is still checked, so that all mistakes are
//! found in one run; follow-up mistakes of something left out are not reported.

mod network;
mod service;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::path::PathBuf;

use millrace_base::{Address, Endpoint, MacAddress, PortId, Prefix};

use crate::fault::{Fault, Place, Problem};
use crate::load::Layers;
use crate::raw::{self, Raw};
use crate::valid::{Config, Dataplane, Leg, Log, Name, Neighbor, Port, PortRange, Route, Tcp};

/// Lcores the shared region has room for.
const LCORES_MAX: usize = 64;
/// Ports the shared region has room for.
const PORTS_MAX: usize = 16;
/// Addresses of one port.
const PORT_ADDRESSES_MAX: usize = 16;
/// Own addresses of all kinds the shared region has room for.
const ADDRESSES_MAX: usize = 256;
/// Routes the shared region has room for.
const ROUTES_MAX: usize = 1_024;
/// Source addresses the shared region has room for.
const SNAT_MAX: usize = 64;
/// Listeners the shared region has room for.
const LISTENERS_MAX: usize = 1_024;
/// Pools the shared region has room for.
const POOLS_MAX: usize = 512;
/// Backends of all pools the shared region has room for.
const BACKENDS_MAX: usize = 4_096;

struct Check<'c> {
    layers: &'c Layers,
    problems: &'c mut Vec<Problem>,
    /// Every port is right, so what depends on ports can be judged.
    ports_known: bool,
}

/// Checks all relations. `None` when something could not even be built; the reasons are in
/// `problems`.
pub(crate) fn check(raw: &Raw, layers: &Layers, problems: &mut Vec<Problem>) -> Option<Config> {
    let mut check = Check {
        layers,
        problems,
        ports_known: false,
    };
    let dataplane = check.dataplane(&raw.dataplane);
    let ports = check.ports(&raw.port, raw.dataplane.lcores.len());
    let plain: Vec<Port> = ports.iter().flatten().cloned().collect();
    check.ports_known = !plain.is_empty() && plain.len() == ports.len();
    let routes = check.routes(&raw.route, &plain);
    let (snat, snat_known) = check.snat(&raw.snat, &plain);
    let pools = check.pools(&raw.pool);
    let listeners = check.listeners(&raw.listener, &raw.pool, &plain);
    check.own_addresses(raw, &plain, &listeners);
    if check.ports_known {
        let vips = listeners.iter().flatten().map(|listener| listener.address);
        let sources = snat.addresses.iter().map(|own| own.address);
        let further: Vec<Address> = vips.chain(sources).collect();
        check.backends_reachable(&raw.pool, &plain, &further, &routes);
    }
    if check.ports_known && snat_known {
        check.backend_families(&raw.pool, &snat);
    }
    check.snat_against_listeners(&snat, &listeners);
    let metrics = check.metrics(&raw.metrics.listen);
    let neighbor = &raw.neighbor;
    Some(Config {
        runtime_dir: PathBuf::from(&raw.runtime_dir),
        dataplane,
        ports: ports.into_iter().collect::<Option<Vec<_>>>()?,
        routes: routes.into_iter().collect::<Option<Vec<Route>>>()?,
        snat,
        tcp: Tcp {
            congestion_control: raw.tcp.congestion_control.0,
        },
        listeners: listeners.into_iter().collect::<Option<Vec<_>>>()?,
        pools: pools.into_iter().collect::<Option<Vec<_>>>()?,
        neighbor: Neighbor {
            base_reachable_time_ms: neighbor.base_reachable_time_ms,
            delay_first_probe_time_ms: neighbor.delay_first_probe_time_ms,
            retrans_time_ms: neighbor.retrans_time_ms,
            ucast_solicit: neighbor.ucast_solicit,
            mcast_solicit: neighbor.mcast_solicit,
        },
        metrics,
        log: Log {
            level: raw.log.level,
            format: raw.log.format,
        },
    })
}

impl Check<'_> {
    fn dataplane(&mut self, raw: &raw::Dataplane) -> Dataplane {
        let path = "dataplane.lcores";
        let mut seen = HashMap::new();
        for (index, lcore) in raw.lcores.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let hint = "name each CPU once";
            self.unique(&mut seen, *lcore, "lcore", &path, lcore.to_string(), hint);
        }
        if raw.lcores.is_empty() {
            self.contradiction(path, "no lcores: nothing would forward", "name a CPU");
        }
        self.limit(path, "lcores", raw.lcores.len(), LCORES_MAX);
        for (index, argument) in raw.eal_args.iter().enumerate() {
            if argument.contains(['\n', '\0']) {
                let path = format!("dataplane.eal_args[{index}]");
                self.malformed(&path, argument, "one argument", "it holds a line break");
            }
        }
        if Name::new(&raw.file_prefix).is_none() {
            let path = "dataplane.file_prefix";
            self.malformed(path, &raw.file_prefix, "a file prefix", NAME_HINT);
        }
        if !raw.rss_key.is_empty() && !is_rss_key(&raw.rss_key) {
            let (path, hint) = ("dataplane.rss_key", "40 to 52 bytes, two digits each");
            self.malformed(path, &raw.rss_key, "a key in hexadecimal", hint);
        }
        Dataplane {
            lcores: raw.lcores.clone(),
            mbufs: raw.mbufs,
            mbuf_bytes: raw.mbuf_bytes,
            memory: raw.memory,
            memory_mb: raw.memory_mb,
            connections_max: raw.connections_max,
            idle: raw.idle,
            rss: raw.rss,
            rss_selftest_ms: raw.rss_selftest_ms,
            rss_key: raw.rss_key.clone(),
            capture: raw.capture,
            file_prefix: raw.file_prefix.clone(),
            eal_args: raw.eal_args.clone(),
        }
    }

    fn metrics(&mut self, listen: &str) -> Option<std::net::SocketAddr> {
        if listen == "off" {
            return None;
        }
        let parsed = listen.parse().ok();
        if parsed.is_none() {
            let hint = "write \"127.0.0.1:9464\", \"[::1]:9464\" or \"off\"";
            self.malformed("metrics.listen", listen, "an address and a port", hint);
        }
        parsed
    }

    fn fault(&mut self, path: &str, fault: Fault) {
        self.problems.push(self.layers.problem(path, fault));
    }

    fn malformed(&mut self, path: &str, value: &str, expected: &'static str, hint: &str) {
        self.fault(
            path,
            Fault::Malformed {
                value: value.to_owned(),
                expected,
                hint: hint.to_owned(),
            },
        );
    }

    fn contradiction(&mut self, path: &str, message: &str, hint: &'static str) {
        let message = message.to_owned();
        self.fault(path, Fault::Contradiction { message, hint });
    }

    fn limit(&mut self, path: &str, what: &'static str, count: usize, max: usize) {
        if count > max {
            self.fault(path, Fault::TooMany { what, count, max });
        }
    }

    /// Reports the second holder of `key`. `shown` is how the message writes it.
    fn unique<K: Eq + Hash>(
        &mut self,
        seen: &mut HashMap<K, Place>,
        key: K,
        what: &'static str,
        path: &str,
        shown: String,
        hint: &'static str,
    ) {
        match seen.get(&key) {
            Some(first) => {
                let first = first.clone();
                let value = shown;
                self.fault(
                    path,
                    Fault::Duplicate {
                        what,
                        value,
                        first,
                        hint,
                    },
                );
            }
            None => {
                seen.insert(key, self.layers.place(path));
            }
        }
    }

    fn name(&mut self, path: &str, text: &str) -> Option<Name> {
        let name = Name::new(text);
        if name.is_none() {
            self.malformed(path, text, "a name", NAME_HINT);
        }
        name
    }

    fn address(&mut self, path: &str, text: &str) -> Option<Address> {
        match text.parse::<IpAddr>() {
            Ok(ip) => Some(Address::from(ip)),
            Err(_) => {
                let hint = "write \"10.8.0.1\" or \"fd00:8::1\", without a prefix length or port";
                self.malformed(path, text, "an IP address", hint);
                None
            }
        }
    }

    /// An address of one host, for use as `role`.
    fn host(&mut self, path: &str, text: &str, role: &'static str) -> Option<Address> {
        let address = self.address(path, text)?;
        self.usable(path, address, role).then_some(address)
    }

    fn usable(&mut self, path: &str, address: Address, role: &'static str) -> bool {
        let Some(why) = unusable(address) else {
            return true;
        };
        self.fault(
            path,
            Fault::Unusable {
                address: address.to_string(),
                role,
                why,
            },
        );
        false
    }

    fn endpoint(&mut self, path: &str, text: &str) -> Option<Endpoint> {
        let parsed = text.parse::<std::net::SocketAddr>().ok();
        match parsed.filter(|parsed| parsed.port() != 0) {
            Some(parsed) => {
                let address = Address::from(parsed.ip());
                self.usable(path, address, "a backend")
                    .then(|| Endpoint::new(address, parsed.port()))
            }
            None => {
                let hint = "write \"10.8.0.20:80\" or \"[fd00:8::20]:80\"";
                self.malformed(path, text, "an address and a port", hint);
                None
            }
        }
    }

    fn port_range(&mut self, path: &str, text: &str) -> Option<PortRange> {
        let range = PortRange::parse(text);
        if range.is_none() {
            let hint = "write 80 or \"8000-8010\", ports from 1 to 65535";
            self.malformed(path, text, "a port or a range of ports", hint);
        }
        range
    }

    /// An address and a prefix length; the address keeps its host bits.
    fn address_and_length(&mut self, path: &str, text: &str) -> Option<(Address, Prefix)> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let address = Address::from(address.parse::<IpAddr>().ok()?);
            Some((address, Prefix::new(address, length.parse().ok()?)?))
        });
        if parsed.is_none() {
            let hint = "write \"10.8.0.10/24\" or \"fd00:8::10/64\"";
            self.malformed(path, text, "an address with a prefix length", hint);
        }
        parsed
    }

    fn mac(&mut self, path: &str, text: &str) -> Option<MacAddress> {
        let mac = MacAddress::parse(text).filter(|mac| !mac.is_group() && *mac != MacAddress::ZERO);
        if mac.is_none() {
            let hint = "write six bytes like \"02:00:00:00:aa:01\", the first one even";
            self.malformed(path, text, "the MAC address of one card", hint);
        }
        mac
    }
}

const NAME_HINT: &str = "1 to 31 letters, digits, '-', '_' or '.'";

fn unusable(address: Address) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address.is_broadcast() {
        Some("the broadcast address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else {
        None
    }
}

fn family(address: Address) -> &'static str {
    if address.is_v4() { "IPv4" } else { "IPv6" }
}

/// What a listener or a pool says of its connections.
fn leg(congestion_control: Option<raw::Congestion>) -> Leg {
    Leg {
        congestion_control: congestion_control.map(|raw::Congestion(control)| control),
    }
}

fn port_id(index: usize) -> PortId {
    PortId::new(u16::try_from(index).unwrap_or(u16::MAX))
}

fn networks(ports: &[Port], of: Address) -> Vec<String> {
    ports
        .iter()
        .flat_map(|port| &port.addresses)
        .filter(|own| own.address.is_v4() == of.is_v4())
        .map(|own| own.network.to_string())
        .collect()
}

/// Whether this is 40 to 52 bytes in hexadecimal, colons allowed as device tools print them.
fn is_rss_key(text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(|letter| *letter != ':').collect();
    let is_hexadecimal = digits.iter().all(char::is_ascii_hexdigit);
    is_hexadecimal && digits.len().is_multiple_of(2) && (80..=104).contains(&digits.len())
}
