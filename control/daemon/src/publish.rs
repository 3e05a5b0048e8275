//! From configuration and health to what the lcores are told: tables, links, neighbours that are
//! wanted for good.
//!
//! Pure. A port of the configuration that the running dataplane does not have is left out with all
//! that needs it; the operator is told that a restart is due.

use std::collections::HashSet;

use millrace_abi::{
    AddressKind, AddressRecord, Algorithm, BackendRecord, BackendState, InterfaceRecord, LegRecord,
    ListenerRecord, Name, PORT_NONE, PoolRecord, PortInfo, RouteRecord, SnatRecord, TableFull,
    Tables,
};
use millrace_base::{Address, PortId};
use millrace_config::{Balance, Config, Pool, Tcp};

use crate::health::{BackendKey, Health};
use crate::memo::Memo;
use crate::neighbor::{Key, Link, Links};

/// What the dataplane should have.
pub(crate) struct Desired {
    /// The tables to publish.
    pub(crate) tables: Box<Tables>,
    /// Who we are on each link.
    pub(crate) links: Links,
    /// Routers and backends on our links.
    pub(crate) pinned: HashSet<Key>,
}

/// Where a port of the configuration is in the dataplane, in configuration order.
pub(crate) type Ports = Vec<Option<(PortId, PortInfo)>>;

/// Derives everything from its sources.
pub(crate) fn desire(
    config: &Config,
    ports: &Ports,
    memo: &Memo,
    health: &Health,
) -> Result<Desired, TableFull> {
    let links = links(config, ports);
    let mut tables = Tables::boxed();
    interfaces(config, ports, &mut tables)?;
    addresses(config, ports, &mut tables)?;
    routes(config, ports, &mut tables)?;
    services(config, memo, health, &mut tables)?;
    let pinned = pinned(config, ports, &links);
    Ok(Desired {
        tables,
        links,
        pinned,
    })
}

/// The dataplane's number of a port of the configuration.
fn port_of(ports: &Ports, port: PortId) -> Option<PortId> {
    let (id, _) = ports.get(port.index()).copied().flatten()?;
    Some(id)
}

fn links(config: &Config, ports: &Ports) -> Links {
    let mut links = Vec::new();
    for (index, (port, found)) in config.ports.iter().zip(ports).enumerate() {
        let Some((id, info)) = found else { continue };
        let networks: Vec<_> = port
            .addresses
            .iter()
            .map(|own| (own.address, own.network))
            .collect();
        let mut answers: Vec<Address> = networks.iter().map(|(address, _)| *address).collect();
        let here = |on: Option<PortId>| on.is_some_and(|on| on.index() == index);
        let listeners = config
            .listeners
            .iter()
            .filter(|listener| here(listener.on_link));
        let snat = config
            .snat
            .addresses
            .iter()
            .filter(|own| here(Some(own.port)));
        let further = listeners
            .map(|listener| listener.address)
            .chain(snat.map(|own| own.address));
        for address in further {
            if !answers.contains(&address) {
                answers.push(address);
            }
        }
        let routes = config.routes.iter();
        let routes = routes.filter(|route| route.via.is_none() && route.port.index() == index);
        links.push(Link {
            port: *id,
            name: port.name.to_string(),
            mac: info.mac(),
            networks,
            attached: routes.map(|route| route.to).collect(),
            answers,
        });
    }
    Links(links)
}

fn interfaces(config: &Config, ports: &Ports, tables: &mut Tables) -> Result<(), TableFull> {
    for (port, found) in config.ports.iter().zip(ports) {
        if let Some((id, info)) = found {
            tables.push_interface(InterfaceRecord {
                port: id.number(),
                // The device's own limit wins until the dataplane is restarted with another one.
                mtu: if info.mtu == 0 {
                    port.mtu
                } else {
                    port.mtu.min(info.mtu)
                },
                mac: info.mac,
                ..InterfaceRecord::default()
            })?;
        }
    }
    Ok(())
}

fn addresses(config: &Config, ports: &Ports, tables: &mut Tables) -> Result<(), TableFull> {
    let mut seen: HashSet<Address> = HashSet::new();
    for (port, found) in config.ports.iter().zip(ports) {
        let Some((id, _)) = found else { continue };
        for own in &port.addresses {
            seen.insert(own.address);
            let length = own.network.length();
            let record = address(own.address, length, AddressKind::Interface, Some(*id));
            tables.push_address(record)?;
        }
    }
    let single = config.listeners.iter();
    let single = single.filter(|listener| !listener.address.is_unspecified());
    for listener in single {
        if seen.insert(listener.address) {
            let port = listener.on_link.and_then(|port| port_of(ports, port));
            let host = host_length(listener.address);
            tables.push_address(address(listener.address, host, AddressKind::Vip, port))?;
        }
    }
    for own in &config.snat.addresses {
        if seen.insert(own.address) {
            let port = port_of(ports, own.port);
            let host = host_length(own.address);
            tables.push_address(address(own.address, host, AddressKind::Snat, port))?;
        }
        tables.push_snat(SnatRecord {
            address: *own.address.octets(),
            port_first: config.snat.ports.first(),
            port_last: config.snat.ports.last(),
            ..SnatRecord::default()
        })?;
    }
    Ok(())
}

fn address(
    address: Address,
    prefix_len: u8,
    kind: AddressKind,
    port: Option<PortId>,
) -> AddressRecord {
    AddressRecord {
        address: *address.octets(),
        port: port.map_or(PORT_NONE, PortId::number),
        prefix_len,
        kind: kind as u8,
        ..AddressRecord::default()
    }
}

fn host_length(address: Address) -> u8 {
    if address.is_v4() { 32 } else { 128 }
}

fn routes(config: &Config, ports: &Ports, tables: &mut Tables) -> Result<(), TableFull> {
    for route in &config.routes {
        let Some(port) = port_of(ports, route.port) else {
            continue;
        };
        tables.push_route(RouteRecord {
            prefix: *route.to.address().octets(),
            prefix_len: route.to.length(),
            via: *route.via.unwrap_or_default().octets(),
            has_via: u8::from(route.via.is_some()),
            port: port.number(),
            mtu: route.mtu.unwrap_or(0),
            ..RouteRecord::default()
        })?;
    }
    Ok(())
}

fn services(
    config: &Config,
    memo: &Memo,
    health: &Health,
    tables: &mut Tables,
) -> Result<(), TableFull> {
    let full = |table, capacity| TableFull { table, capacity };
    for (index, pool) in config.pools.iter().enumerate() {
        let backend_first = u16::try_from(tables.backends().len()).unwrap_or(u16::MAX);
        for backend in &pool.backends {
            let key = (pool.name.to_string(), backend.endpoint);
            let state = if backend.drain {
                BackendState::Draining
            } else if health.is_up(&key) {
                BackendState::Up
            } else {
                BackendState::Down
            };
            tables.push_backend(BackendRecord {
                name: Name::new(backend.name.as_str()),
                address: *backend.endpoint.address.octets(),
                id: memo.backend(&key).ok_or(full("backend ids", 0))?,
                pool: u16::try_from(index).unwrap_or(u16::MAX),
                port: backend.endpoint.port,
                weight: backend.weight,
                state: state as u8,
                ..BackendRecord::default()
            })?;
        }
        tables.push_pool(PoolRecord {
            name: Name::new(pool.name.as_str()),
            id: memo.pool(pool.name.as_str()).ok_or(full("pool ids", 0))?,
            backend_first,
            backend_count: u16::try_from(pool.backends.len()).unwrap_or(u16::MAX),
            algorithm: algorithm(pool) as u8,
            leg: leg(pool.leg.over(config.tcp)),
            ..PoolRecord::default()
        })?;
    }
    for listener in &config.listeners {
        let name = listener.name.as_str();
        tables.push_listener(ListenerRecord {
            name: Name::new(name),
            address: *listener.address.octets(),
            id: memo.listener(name).ok_or(full("listener ids", 0))?,
            port_first: listener.ports.first(),
            port_last: listener.ports.last(),
            pool: u16::try_from(listener.pool).unwrap_or(u16::MAX),
            leg: leg(listener.leg.over(config.tcp)),
            ..ListenerRecord::default()
        })?;
    }
    Ok(())
}

fn leg(tcp: Tcp) -> LegRecord {
    let Tcp { congestion_control } = tcp;
    LegRecord {
        congestion_control: congestion_control.number(),
        ..LegRecord::default()
    }
}

fn algorithm(pool: &Pool) -> Algorithm {
    match pool.balance {
        Balance::RoundRobin => Algorithm::RoundRobin,
        Balance::LeastConnections => Algorithm::LeastConnections,
    }
}

/// Routers, and backends that are on a link themselves.
fn pinned(config: &Config, ports: &Ports, links: &Links) -> HashSet<Key> {
    let routers = config
        .routes
        .iter()
        .filter_map(|route| Some((port_of(ports, route.port)?, route.via?)));
    let backends = config.pools.iter().flat_map(|pool| &pool.backends);
    let backends = backends.filter_map(|backend| {
        let address = backend.endpoint.address;
        Some((port_of(ports, config.on_link_port(address)?)?, address))
    });
    routers
        .chain(backends)
        .filter(|key| links.is_on_link(*key))
        .collect()
}

/// Every backend that is probed.
pub(crate) fn judged(config: &Config) -> impl Iterator<Item = BackendKey> {
    let probed = config.pools.iter().filter(|pool| pool.health.is_some());
    probed.flat_map(|pool| {
        let name = pool.name.to_string();
        pool.backends
            .iter()
            .map(move |backend| (name.clone(), backend.endpoint))
    })
}
