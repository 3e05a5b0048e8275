//! What changed between two configurations, and what it takes for each change to have effect.

use std::collections::BTreeMap;
use std::fmt;

use crate::keys::{self, Takes};
use crate::valid::{Config, Leg};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which thing, without list positions: `listener web`, `pool web backend a`, `dataplane`.
    pub thing: String,
    /// The key; empty when the whole thing came or went.
    pub key: String,
    /// The old value; `None`: it is new.
    pub from: Option<String>,
    /// The new value; `None`: it is gone.
    pub to: Option<String>,
    /// What it takes.
    pub takes: Takes,
}

/// A thing's values by key; the section tells what a change of each takes.
struct Thing {
    section: &'static str,
    values: BTreeMap<&'static str, String>,
}

/// The differences from `old` to `new`; things are matched by name, so their order in the file does
/// not matter, except for ports: the order of ports numbers them.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let (old, new) = (things(old), things(new));
    let mut changes = Vec::new();
    for (name, thing) in &old {
        match new.get(name) {
            None => changes.push(whole(name, thing, true)),
            Some(now) => compare(name, thing, now, &mut changes),
        }
    }
    for (name, thing) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        changes.push(whole(name, thing, false));
    }
    changes
}

fn whole(name: &str, thing: &Thing, gone: bool) -> Change {
    let what = Some(String::new());
    let (from, to) = if gone { (what, None) } else { (None, what) };
    let takes = if thing.section == "port[]" {
        Takes::DataplaneRestart
    } else {
        Takes::Reload
    };
    Change {
        thing: name.to_owned(),
        key: String::new(),
        from,
        to,
        takes,
    }
}

fn compare(name: &str, old: &Thing, new: &Thing, changes: &mut Vec<Change>) {
    for (key, from) in &old.values {
        let to = new.values.get(key);
        if to == Some(from) {
            continue;
        }
        changes.push(Change {
            thing: name.to_owned(),
            key: (*key).to_owned(),
            from: Some(from.clone()),
            to: to.cloned(),
            takes: takes(old.section, key),
        });
    }
    for (key, to) in new
        .values
        .iter()
        .filter(|(key, _)| !old.values.contains_key(*key))
    {
        changes.push(Change {
            thing: name.to_owned(),
            key: (*key).to_owned(),
            from: None,
            to: Some(to.clone()),
            takes: takes(new.section, key),
        });
    }
}

fn takes(section: &str, key: &str) -> Takes {
    keys::find(section, key).map_or(Takes::DataplaneRestart, |row| row.takes)
}

fn thing<const N: usize>(
    section: &'static str,
    values: [(&'static str, Option<String>); N],
) -> Thing {
    let present = values
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    Thing {
        section,
        values: present.collect(),
    }
}

fn text(value: impl fmt::Display) -> Option<String> {
    Some(value.to_string())
}

fn list<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> Option<String> {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    Some(values.join(", "))
}

fn congestion(leg: Leg) -> Option<String> {
    leg.congestion_control
        .and_then(|control| text(control.name()))
}

fn things(config: &Config) -> BTreeMap<String, Thing> {
    let mut things = BTreeMap::new();
    add_plain(config, &mut things);
    add_network(config, &mut things);
    add_services(config, &mut things);
    things
}

fn add_plain(config: &Config, things: &mut BTreeMap<String, Thing>) {
    let runtime_dir = text(config.runtime_dir.display());
    things.insert(String::new(), thing("", [("runtime_dir", runtime_dir)]));
    let dataplane = &config.dataplane;
    things.insert(
        "dataplane".to_owned(),
        thing(
            "dataplane",
            [
                ("lcores", list(&dataplane.lcores)),
                ("mbufs", text(dataplane.mbufs)),
                ("mbuf_bytes", text(dataplane.mbuf_bytes)),
                ("memory", text(dataplane.memory.word())),
                ("memory_mb", text(dataplane.memory_mb)),
                ("connections_max", text(dataplane.connections_max)),
                ("idle", text(dataplane.idle.word())),
                ("rss", text(dataplane.rss.word())),
                ("rss_selftest_ms", text(dataplane.rss_selftest_ms)),
                ("rss_key", text(&dataplane.rss_key)),
                ("capture", text(dataplane.capture)),
                ("file_prefix", text(&dataplane.file_prefix)),
                ("eal_args", list(&dataplane.eal_args)),
            ],
        ),
    );
    let neighbor = &config.neighbor;
    things.insert(
        "neighbor".to_owned(),
        thing(
            "neighbor",
            [
                (
                    "base_reachable_time_ms",
                    text(neighbor.base_reachable_time_ms),
                ),
                (
                    "delay_first_probe_time_ms",
                    text(neighbor.delay_first_probe_time_ms),
                ),
                ("retrans_time_ms", text(neighbor.retrans_time_ms)),
                ("ucast_solicit", text(neighbor.ucast_solicit)),
                ("mcast_solicit", text(neighbor.mcast_solicit)),
            ],
        ),
    );
    let listen = match config.metrics {
        Some(address) => address.to_string(),
        None => "off".to_owned(),
    };
    things.insert(
        "metrics".to_owned(),
        thing("metrics", [("listen", Some(listen))]),
    );
    things.insert(
        "log".to_owned(),
        thing(
            "log",
            [
                ("level", text(config.log.level.word())),
                ("format", text(config.log.format.word())),
            ],
        ),
    );
}

fn add_network(config: &Config, things: &mut BTreeMap<String, Thing>) {
    for (index, port) in config.ports.iter().enumerate() {
        let addresses = port
            .addresses
            .iter()
            .map(|own| format!("{}/{}", own.address, own.network.length()));
        things.insert(
            format!("port {index}"),
            thing(
                "port[]",
                [
                    ("name", text(&port.name)),
                    ("device", text(&port.device)),
                    ("mac", port.mac.and_then(text)),
                    ("mtu", text(port.mtu)),
                    ("vlan", port.vlan.and_then(text)),
                    ("queues", port.queues.and_then(text)),
                    ("addresses", list(addresses)),
                ],
            ),
        );
    }
    for route in &config.routes {
        let port = config.ports.get(route.port.index());
        things.insert(
            format!("route {}", route.to),
            thing(
                "route[]",
                [
                    ("via", route.via.and_then(text)),
                    ("port", port.and_then(|port| text(&port.name))),
                    ("mtu", route.mtu.and_then(text)),
                ],
            ),
        );
    }
    things.insert(
        "snat".to_owned(),
        thing(
            "snat",
            [
                (
                    "addresses",
                    list(config.snat.addresses.iter().map(|own| own.address)),
                ),
                ("ports", text(config.snat.ports)),
            ],
        ),
    );
}

fn add_services(config: &Config, things: &mut BTreeMap<String, Thing>) {
    let tcp = &config.tcp;
    things.insert(
        "tcp".to_owned(),
        thing(
            "tcp",
            [("congestion_control", text(tcp.congestion_control.name()))],
        ),
    );
    for listener in &config.listeners {
        let pool = config.pools.get(listener.pool);
        things.insert(
            format!("listener {}", listener.name),
            thing(
                "listener[]",
                [
                    ("address", text(listener.address)),
                    ("ports", text(listener.ports)),
                    ("pool", pool.and_then(|pool| text(&pool.name))),
                    ("congestion_control", congestion(listener.leg)),
                ],
            ),
        );
    }
    for pool in &config.pools {
        let name = format!("pool {}", pool.name);
        things.insert(
            name.clone(),
            thing(
                "pool[]",
                [
                    ("balance", text(pool.balance.word())),
                    ("congestion_control", congestion(pool.leg)),
                ],
            ),
        );
        let health = pool.health.as_ref();
        things.insert(
            format!("{name} health"),
            thing(
                "pool[].health",
                [
                    ("enabled", text(health.is_some())),
                    (
                        "interval_ms",
                        health.and_then(|health| text(health.interval_ms)),
                    ),
                    (
                        "timeout_ms",
                        health.and_then(|health| text(health.timeout_ms)),
                    ),
                    ("rise", health.and_then(|health| text(health.rise))),
                    ("fall", health.and_then(|health| text(health.fall))),
                    (
                        "initial",
                        health.and_then(|health| text(health.initial.word())),
                    ),
                ],
            ),
        );
        for backend in &pool.backends {
            things.insert(
                format!("{name} backend {}", backend.name),
                thing(
                    "pool[].backend[]",
                    [
                        ("address", text(backend.endpoint)),
                        ("weight", text(backend.weight)),
                        ("drain", text(backend.drain)),
                    ],
                ),
            );
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.thing.is_empty() || self.key.is_empty() {
            format!("{}{}", self.thing, self.key)
        } else {
            format!("{}: {}", self.thing, self.key)
        };
        match (&self.from, &self.to) {
            (None, Some(_)) if self.key.is_empty() => write!(f, "{key}: added")?,
            (Some(_), None) if self.key.is_empty() => write!(f, "{key}: removed")?,
            (from, to) => {
                let none = "(unset)".to_owned();
                let (from, to) = (from.as_ref().unwrap_or(&none), to.as_ref().unwrap_or(&none));
                write!(f, "{key} {from} -> {to}")?;
            }
        }
        match self.takes {
            Takes::Reload => Ok(()),
            Takes::ControlRestart => write!(f, " (needs a restart of control)"),
            Takes::DataplaneRestart => write!(f, " (needs a restart of the dataplane)"),
        }
    }
}
