//! Ports, routes and source addresses.

use std::collections::HashMap;

use millrace_base::{Address, PortId, Prefix, VlanId};

use super::{
    ADDRESSES_MAX, Check, PORT_ADDRESSES_MAX, PORTS_MAX, ROUTES_MAX, SNAT_MAX, networks, port_id,
};
use crate::fault::Fault;
use crate::raw::{self, Raw};
use crate::valid::{
    InterfaceAddress, Listener, Port, PortRange, Route, Snat, SnatAddress, on_link_port,
};

impl Check<'_> {
    /// One entry for each `[[port]]`, `None` where it is wrong.
    pub(super) fn ports(&mut self, raw: &[raw::Port], lcores: usize) -> Vec<Option<Port>> {
        if raw.is_empty() && !self.layers.removed("port") {
            let hint = "add a [[port]] with name, device and addresses";
            self.contradiction("port", "there is no [[port]]", hint);
        }
        self.limit("port", "ports", raw.len(), PORTS_MAX);
        let (mut names, mut macs) = (HashMap::new(), HashMap::new());
        let (mut addresses, mut networks) = (HashMap::new(), Vec::new());
        let mut ports = Vec::new();
        for (index, port) in raw.iter().enumerate() {
            let path = format!("port[{index}]");
            let own = self.port_addresses(&path, port);
            for (position, own) in own.iter().flatten().enumerate() {
                let path = format!("{path}.addresses[{position}]");
                let shown = own.address.to_string();
                let hint = "give each port addresses of its own";
                self.unique(&mut addresses, own.address, "address", &path, shown, hint);
                self.network_of_another_port(&path, index, own.network, &networks);
                networks.push((index, own.network));
            }
            let name = port.name.as_ref().and_then(|name| {
                let path = format!("{path}.name");
                let hint = "give each port a name of its own";
                self.unique(&mut names, name.clone(), "port", &path, name.clone(), hint);
                self.name(&path, name)
            });
            let mac = port.mac.as_ref().map(|text| {
                let path = format!("{path}.mac");
                let mac = self.mac(&path, text)?;
                let hint = "two ports cannot share a MAC address";
                self.unique(&mut macs, mac, "MAC address", &path, mac.to_string(), hint);
                Some(mac)
            });
            let device = port.device.as_ref().and_then(|device| {
                let fine = !device.is_empty() && !device.contains([';', '\n', '\0', ' ']);
                if !fine {
                    let hint = "write \"0000:01:00.0\" or \"net_af_packet0,iface=d0\"";
                    self.malformed(&format!("{path}.device"), device, "a device", hint);
                }
                fine.then(|| device.clone())
            });
            if let Some(queues) = port.queues.filter(|queues| usize::from(*queues) != lcores) {
                let message = format!("{queues} queues for {lcores} lcores");
                let hint = "leave \"queues\" out: each lcore polls one queue of each port";
                self.contradiction(&format!("{path}.queues"), &message, hint);
            }
            let bad_mac = mac.is_some_and(|mac| mac.is_none());
            ports.push((|| {
                Some(Port {
                    name: name?,
                    device: device?,
                    mac: if bad_mac { return None } else { mac.flatten() },
                    mtu: port.mtu,
                    vlan: port.vlan.and_then(VlanId::new),
                    queues: port.queues,
                    addresses: own?,
                })
            })());
        }
        ports
    }

    fn port_addresses(&mut self, path: &str, port: &raw::Port) -> Option<Vec<InterfaceAddress>> {
        let texts = port.addresses.as_ref()?;
        let list = format!("{path}.addresses");
        if texts.is_empty() {
            let hint = "add one like \"10.8.0.10/24\"";
            self.contradiction(&list, "the port has no addresses", hint);
        }
        self.limit(
            &list,
            "addresses of one port",
            texts.len(),
            PORT_ADDRESSES_MAX,
        );
        let mut own = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let path = format!("{list}[{index}]");
            let (address, network) = self.address_and_length(&path, text)?;
            let why = reserved_host(address, network);
            if let Some(why) = why {
                self.fault(
                    &path,
                    Fault::Unusable {
                        address: text.clone(),
                        role: "a port address",
                        why,
                    },
                );
                return None;
            }
            if !self.usable(&path, address, "a port address") {
                return None;
            }
            own.push(InterfaceAddress { address, network });
        }
        Some(own)
    }

    fn network_of_another_port(
        &mut self,
        path: &str,
        index: usize,
        network: Prefix,
        earlier: &[(usize, Prefix)],
    ) {
        let overlaps =
            |other: &Prefix| other.contains(network.address()) || network.contains(other.address());
        let other = earlier
            .iter()
            .find(|(port, other)| *port != index && overlaps(other));
        if let Some((port, other)) = other {
            let message = format!("network {network} overlaps {other} of port[{port}]");
            self.contradiction(path, &message, "one network can be on one port only");
        }
    }

    /// One entry for each `[[route]]`, `None` where it is wrong.
    pub(super) fn routes(&mut self, raw: &[raw::Route], ports: &[Port]) -> Vec<Option<Route>> {
        self.limit("route", "routes", raw.len(), ROUTES_MAX);
        let mut seen = HashMap::new();
        let mut routes = Vec::new();
        for (index, route) in raw.iter().enumerate() {
            let path = format!("route[{index}]");
            let to = route.to.as_ref().and_then(|text| {
                let path = format!("{path}.to");
                let to = self.network(&path, text)?;
                let hint = "there can be one route to a network";
                self.unique(&mut seen, to, "route to", &path, to.to_string(), hint);
                Some(to)
            });
            routes.push(to.and_then(|to| self.route(&path, route, to, ports)));
        }
        routes
    }

    fn network(&mut self, path: &str, text: &str) -> Option<Prefix> {
        let (address, network) = self.address_and_length(path, text)?;
        if network.address() == address {
            return Some(network);
        }
        self.fault(
            path,
            Fault::Malformed {
                value: text.to_owned(),
                expected: "a network: bits right of the prefix are set",
                hint: format!("did you mean \"{network}\"?"),
            },
        );
        None
    }

    fn route(&mut self, path: &str, raw: &raw::Route, to: Prefix, ports: &[Port]) -> Option<Route> {
        let named = match &raw.port {
            Some(name) => Some(self.port_named(&format!("{path}.port"), name, ports)?),
            None => None,
        };
        let via_path = format!("{path}.via");
        let via = match &raw.via {
            Some(text) => Some(self.host(&via_path, text, "a router")?),
            None => None,
        };
        let Some(via) = via else {
            let hint = "name the router with \"via\" or the port with \"port\"";
            if named.is_none() {
                self.contradiction(path, &format!("the route to {to} leads nowhere"), hint);
            }
            return Some(Route {
                to,
                via: None,
                port: named?,
                mtu: raw.mtu,
            });
        };
        if via.is_v4() != to.address().is_v4() {
            let message = format!("route to {to} goes via {via}, an address of another family");
            self.contradiction(&via_path, &message, "use a router of the route's family");
            return None;
        }
        if ports
            .iter()
            .flat_map(|port| &port.addresses)
            .any(|own| own.address == via)
        {
            self.contradiction(
                &via_path,
                &format!("router {via} is our own address"),
                "name another",
            );
            return None;
        }
        let port = self.router_port(&via_path, via, named, ports)?;
        Some(Route {
            to,
            via: Some(via),
            port,
            mtu: raw.mtu,
        })
    }

    /// The port a router is on link at. A link-local router (RFC 4291 section 2.5.6) is wherever
    /// `port` says.
    fn router_port(
        &mut self,
        path: &str,
        via: Address,
        named: Option<PortId>,
        ports: &[Port],
    ) -> Option<PortId> {
        if via.is_link_local_v6() && named.is_some() {
            return named;
        }
        let looked_at = match named {
            Some(port) => ports
                .get(port.index())
                .map_or(&[][..], std::slice::from_ref),
            None => ports,
        };
        if let Some(found) = on_link_port(looked_at, via) {
            return Some(named.unwrap_or(found));
        }
        if !self.ports_known {
            return None;
        }
        let port = match looked_at {
            [port] if named.is_some() => format!("port \"{}\"", port.name),
            _ => "any port".to_owned(),
        };
        self.fault(
            path,
            Fault::NotOnLink {
                role: "router",
                address: via.to_string(),
                port,
                networks: networks(looked_at, via),
            },
        );
        None
    }

    fn port_named(&mut self, path: &str, name: &str, ports: &[Port]) -> Option<PortId> {
        match ports.iter().position(|port| port.name.as_str() == name) {
            Some(index) => Some(port_id(index)),
            None if !self.ports_known => None,
            None => {
                let known = ports.iter().map(|port| port.name.to_string()).collect();
                let name = name.to_owned();
                self.fault(
                    path,
                    Fault::Unknown {
                        what: "port",
                        name,
                        known,
                    },
                );
                None
            }
        }
    }

    /// The source addresses, wrong ones left out, and whether none had to be.
    pub(super) fn snat(&mut self, raw: &raw::Snat, ports: &[Port]) -> (Snat, bool) {
        let path = "snat.addresses";
        self.limit(path, "source addresses", raw.addresses.len(), SNAT_MAX);
        let mut seen = HashMap::new();
        let mut addresses = Vec::new();
        for (index, text) in raw.addresses.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(address) = self.host(&path, text, "a source address") else {
                continue;
            };
            let hint = "name each address once";
            self.unique(
                &mut seen,
                address,
                "source address",
                &path,
                address.to_string(),
                hint,
            );
            if !self.no_reserved_host(&path, address, ports, "a source address") {
                continue;
            }
            match on_link_port(ports, address) {
                Some(port) => addresses.push(SnatAddress { address, port }),
                None if !self.ports_known => {}
                None => self.fault(
                    &path,
                    Fault::NotOnLink {
                        role: "source address",
                        address: address.to_string(),
                        port: "any port".to_owned(),
                        networks: networks(ports, address),
                    },
                ),
            }
        }
        let ports = self
            .port_range("snat.ports", &raw.ports)
            .unwrap_or(PortRange::ALL);
        let removed = self.layers.removed("snat") || self.layers.removed(path);
        let known = addresses.len() == raw.addresses.len() && !removed;
        (Snat { addresses, ports }, known)
    }

    /// Whether an address beside the ports' own may be a host's in the networks of the ports: nobody
    /// would send to a network's own or its broadcast address as to a host.
    pub(super) fn no_reserved_host(
        &mut self,
        path: &str,
        address: Address,
        ports: &[Port],
        role: &'static str,
    ) -> bool {
        let mut networks = ports.iter().flat_map(|port| &port.addresses);
        let why = networks.find_map(|own| {
            let inside = own.network.contains(address);
            inside.then(|| reserved_host(address, own.network))?
        });
        let Some(why) = why else {
            return true;
        };
        let address = address.to_string();
        self.fault(path, Fault::Unusable { address, role, why });
        false
    }

    /// A source port that is also a listener's would make one connection two.
    pub(super) fn snat_against_listeners(&mut self, snat: &Snat, listeners: &[Option<Listener>]) {
        for (index, listener) in listeners.iter().enumerate() {
            let Some(listener) = listener else { continue };
            let shared = snat
                .addresses
                .iter()
                .find(|own| listener.takes(own.address));
            if let (Some(own), Some(port)) = (shared, snat.ports.overlap(listener.ports)) {
                let message = format!(
                    "listener \"{}\" and [snat] both use port {port} of {}",
                    listener.name, own.address
                );
                let hint = "use another source address, or source ports without the listener's";
                self.contradiction(&format!("listener[{index}].ports"), &message, hint);
            }
        }
    }

    /// The shared region has one table for interface, virtual and source addresses.
    pub(super) fn own_addresses(
        &mut self,
        raw: &Raw,
        ports: &[Port],
        listeners: &[Option<Listener>],
    ) {
        let mut virtual_addresses: Vec<Address> = listeners
            .iter()
            .flatten()
            .map(|listener| listener.address)
            .filter(|address| !address.is_unspecified())
            .collect();
        virtual_addresses.sort();
        virtual_addresses.dedup();
        let interface: usize = ports.iter().map(|port| port.addresses.len()).sum();
        let count = interface + virtual_addresses.len() + raw.snat.addresses.len();
        self.limit("listener", "own addresses", count, ADDRESSES_MAX);
    }
}

/// Why an address cannot be a host's in its network. RFC 3021 gives both addresses of a /31 to
/// hosts.
fn reserved_host(address: Address, network: Prefix) -> Option<&'static str> {
    let bytes = address.as_v4()?;
    if network.length() >= 31 {
        return None;
    }
    let host_bits = u32::MAX >> network.length();
    match u32::from_be_bytes(bytes) & host_bits {
        0 => Some("the address of the network itself"),
        bits if bits == host_bits => Some("the broadcast address of its network"),
        _ => None,
    }
}
