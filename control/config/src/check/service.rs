//! Listeners, pools and backends.

use std::collections::HashMap;

use millrace_base::Address;

use super::{BACKENDS_MAX, Check, LISTENERS_MAX, POOLS_MAX, family, leg};
use crate::fault::Fault;
use crate::raw;
use crate::valid::{Backend, Health, Listener, Pool, Port, Route, Snat, on_link_port};

impl Check<'_> {
    /// One entry for each `[[pool]]`, `None` where it is wrong.
    pub(super) fn pools(&mut self, raw: &[raw::Pool]) -> Vec<Option<Pool>> {
        self.limit("pool", "pools", raw.len(), POOLS_MAX);
        let count = raw.iter().map(|pool| pool.backend.len()).sum();
        self.limit("pool", "backends", count, BACKENDS_MAX);
        let mut names = HashMap::new();
        let mut pools = Vec::new();
        for (index, pool) in raw.iter().enumerate() {
            let path = format!("pool[{index}]");
            let name = pool.name.as_ref().and_then(|name| {
                let path = format!("{path}.name");
                let hint = "give each pool a name of its own";
                self.unique(&mut names, name.clone(), "pool", &path, name.clone(), hint);
                self.name(&path, name)
            });
            let health = self.health(&path, &pool.health);
            let backends = self.backends(&path, pool);
            pools.push(name.zip(backends).map(|(name, backends)| Pool {
                name,
                balance: pool.balance,
                leg: leg(pool.congestion_control),
                health,
                backends,
            }));
        }
        pools
    }

    fn health(&mut self, path: &str, raw: &raw::Health) -> Option<Health> {
        if raw.timeout_ms > raw.interval_ms {
            let message = format!(
                "timeout_ms {} is longer than interval_ms {}",
                raw.timeout_ms, raw.interval_ms
            );
            let hint = "a probe must end before the next one starts";
            self.contradiction(&format!("{path}.health.timeout_ms"), &message, hint);
        }
        raw.enabled.then_some(Health {
            interval_ms: raw.interval_ms,
            timeout_ms: raw.timeout_ms,
            rise: raw.rise,
            fall: raw.fall,
            initial: raw.initial,
        })
    }

    fn backends(&mut self, path: &str, pool: &raw::Pool) -> Option<Vec<Backend>> {
        if pool.backend.is_empty() && !self.layers.removed(&format!("{path}.backend")) {
            let hint = "add a [[pool.backend]] with name and address";
            self.contradiction(path, "the pool has no backends", hint);
        }
        let (mut names, mut endpoints) = (HashMap::new(), HashMap::new());
        let mut backends = Vec::new();
        for (index, raw) in pool.backend.iter().enumerate() {
            let path = format!("{path}.backend[{index}]");
            let name = raw.name.as_ref().and_then(|name| {
                let path = format!("{path}.name");
                let hint = "give each backend of a pool a name of its own";
                self.unique(
                    &mut names,
                    name.clone(),
                    "backend",
                    &path,
                    name.clone(),
                    hint,
                );
                self.name(&path, name)
            });
            let endpoint = raw.address.as_ref().and_then(|text| {
                let path = format!("{path}.address");
                let endpoint = self.endpoint(&path, text)?;
                let hint = "use \"weight\" to give a server a larger share";
                let shown = endpoint.to_string();
                self.unique(&mut endpoints, endpoint, "backend", &path, shown, hint);
                Some(endpoint)
            });
            backends.push(name.zip(endpoint).map(|(name, endpoint)| Backend {
                name,
                endpoint,
                weight: raw.weight,
                drain: raw.drain,
            }));
        }
        if !pool.backend.is_empty() && pool.backend.iter().all(|backend| backend.weight == 0) {
            let hint = "give at least one backend a weight above 0";
            self.contradiction(path, "every backend of the pool has weight 0", hint);
        }
        backends.into_iter().collect()
    }

    /// Every backend needs a way there and must not be ourselves; `further` are our addresses
    /// beside those of the ports.
    pub(super) fn backends_reachable(
        &mut self,
        pools: &[raw::Pool],
        ports: &[Port],
        further: &[Address],
        routes: &[Option<Route>],
    ) {
        let routes_complete = routes.iter().all(Option::is_some);
        for (pool_index, pool) in pools.iter().enumerate() {
            for (index, backend) in pool.backend.iter().enumerate() {
                let path = format!("pool[{pool_index}].backend[{index}].address");
                let Some(address) = backend.address.as_ref().and_then(|text| parsed(text)) else {
                    continue;
                };
                let ours = |port: &Port| port.addresses.iter().any(|own| own.address == address);
                if ports.iter().any(ours) || further.contains(&address) {
                    let message = format!("backend {address} is our own address");
                    self.contradiction(&path, &message, "name the server's address");
                }
                let routed = routes
                    .iter()
                    .flatten()
                    .any(|route| route.to.contains(address));
                if routes_complete && !routed && on_link_port(ports, address).is_none() {
                    self.fault(&path, Fault::NoRoute(address.to_string()));
                }
            }
        }
    }

    /// Each family that backends have needs a source address; the first backend of a family is
    /// named.
    pub(super) fn backend_families(&mut self, pools: &[raw::Pool], snat: &Snat) {
        let mut reported = Vec::new();
        for (pool_index, pool) in pools.iter().enumerate() {
            for (index, backend) in pool.backend.iter().enumerate() {
                let Some(address) = backend.address.as_ref().and_then(|text| parsed(text)) else {
                    continue;
                };
                let family = family(address);
                let covered = snat.addresses.iter();
                let mut covered = covered.map(|own| own.address.is_v4() == address.is_v4());
                if covered.any(|same| same) || reported.contains(&family) {
                    continue;
                }
                reported.push(family);
                let path = format!("pool[{pool_index}].backend[{index}].address");
                let backend = address.to_string();
                self.fault(&path, Fault::NoSnat { backend, family });
            }
        }
    }

    /// One entry for each `[[listener]]`, `None` where it is wrong.
    pub(super) fn listeners(
        &mut self,
        raw: &[raw::Listener],
        pools: &[raw::Pool],
        ports: &[Port],
    ) -> Vec<Option<Listener>> {
        self.limit("listener", "listeners", raw.len(), LISTENERS_MAX);
        let mut names = HashMap::new();
        let mut listeners: Vec<Option<Listener>> = Vec::new();
        for (index, listener) in raw.iter().enumerate() {
            let path = format!("listener[{index}]");
            let name = listener.name.as_ref().and_then(|name| {
                let path = format!("{path}.name");
                let hint = "give each listener a name of its own";
                self.unique(
                    &mut names,
                    name.clone(),
                    "listener",
                    &path,
                    name.clone(),
                    hint,
                );
                self.name(&path, name)
            });
            let address = listener.address.as_ref().and_then(|text| {
                let path = format!("{path}.address");
                let role = "a listener's address";
                let address = self.address(&path, text)?;
                // Any of our addresses of the family.
                let is_fine = address.is_unspecified()
                    || (self.usable(&path, address, role)
                        && self.no_reserved_host(&path, address, ports, role));
                is_fine.then_some(address)
            });
            let range = listener
                .ports
                .as_ref()
                .and_then(|text| self.port_range(&format!("{path}.ports"), text));
            let pool = listener
                .pool
                .as_ref()
                .and_then(|name| self.pool_named(&format!("{path}.pool"), name, pools));
            let listener = (|| {
                let address = address?;
                Some(Listener {
                    name: name?,
                    address,
                    ports: range?,
                    pool: pool?,
                    on_link: (!address.is_unspecified())
                        .then(|| on_link_port(ports, address))
                        .flatten(),
                    leg: leg(listener.congestion_control),
                })
            })();
            if let Some(listener) = &listener {
                self.overlap(&path, listener, &listeners);
            }
            listeners.push(listener);
        }
        listeners
    }

    fn overlap(&mut self, path: &str, listener: &Listener, earlier: &[Option<Listener>]) {
        for (index, other) in earlier.iter().enumerate() {
            let Some(other) = other else { continue };
            let shared = listener.ports.overlap(other.ports);
            if let (true, Some(port)) = (other.address == listener.address, shared) {
                let endpoint = millrace_base::Endpoint::new(listener.address, port).to_string();
                let fault = Fault::Overlap {
                    name: listener.name.to_string(),
                    other: other.name.to_string(),
                    first: self.layers.place(&format!("listener[{index}]")),
                    endpoint,
                };
                self.fault(&format!("{path}.ports"), fault);
            }
        }
    }

    fn pool_named(&mut self, path: &str, name: &str, pools: &[raw::Pool]) -> Option<usize> {
        let found = pools
            .iter()
            .position(|pool| pool.name.as_deref() == Some(name));
        if found.is_none() {
            let known = pools.iter().filter_map(|pool| pool.name.clone()).collect();
            let name = name.to_owned();
            self.fault(
                path,
                Fault::Unknown {
                    what: "pool",
                    name,
                    known,
                },
            );
        }
        found
    }
}

fn parsed(text: &str) -> Option<millrace_base::Address> {
    let parsed: std::net::SocketAddr = text.parse().ok()?;
    Some(parsed.ip().into())
}
