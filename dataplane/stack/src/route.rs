//! Where packets go: longest-prefix match over the published routes and the on-link routes of our
//! subnets.
//!
//! The prefixes are sorted by first address, then by length; each knows the tightest prefix around
//! it. The last prefix that begins at or before a destination either contains it, and is then the
//! longest match, or one of those around it is. A lookup is one binary search and a walk outward:
//! O(log n + nesting).
//!
//! IPv4 and IPv6 share the table in their 16-byte form; `Prefix::contains` keeps the families
//! apart.

use alloc::vec::Vec;

use millrace_base::{Address, PortId, Prefix};

use crate::interface::Interfaces;
use crate::limits::{ROUTE_ATTRIBUTES_MAX, ROUTE_ENTRIES_MAX, ROUTES_MAX};
use crate::tcp::TcpTunables;

/// One route of the published table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Destinations the route is for.
    pub prefix: Prefix,
    /// The gateway; `None` when the destinations are on the link themselves.
    pub via: Option<Address>,
    /// The port packets leave by.
    pub port: PortId,
    /// Bytes of the largest IP packet on this route; 0 means what the interface says.
    pub mtu: u16,
    /// What else connections over it begin with and live by.
    pub attributes: RouteAttributes,
}

/// What a route says of the connections that use it (Linux: `ip route`, RTAX_*). The default says
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteAttributes {
    /// `mtu lock`: routers that want smaller packets are not believed, and packets may be fragmented
    /// on the way.
    pub is_mtu_locked: bool,
    /// `advmss`: the MSS to announce in bytes; 0 is what fits the MTU.
    pub advertised_mss: u16,
    /// `initcwnd`: the first congestion window in segments; 0 is `tcp_init_cwnd`.
    pub initial_cwnd: u8,
    /// `initrwnd`: the first window to offer, in segments; 0 is what the buffer allows.
    pub initial_rwnd: u16,
    /// `rto_min` in milliseconds; 0 is `tcp_rto_min`.
    pub rto_min_ms: u32,
    /// `window`: the largest window to offer in bytes; 0 is any.
    pub window: u32,
    /// `quickack`: no ACK is delayed.
    pub quick_ack: bool,
    /// `features ecn`: ask for ECN, and grant it.
    pub ecn: bool,
}

impl RouteAttributes {
    /// The knobs of connections over such a route.
    #[must_use]
    pub fn applied_to(&self, common: &TcpTunables) -> TcpTunables {
        let or = |own: u32, common: u32| if own == 0 { common } else { own };
        let mut knobs = *common;
        if self.initial_cwnd != 0 {
            knobs.tcp_init_cwnd = self.initial_cwnd;
        }
        knobs.tcp_rto_min_ms = or(self.rto_min_ms, common.tcp_rto_min_ms);
        let special = &mut knobs.special;
        special.advertised_mss = self.advertised_mss;
        special.init_rwnd = self.initial_rwnd;
        special.window_clamp = or(self.window, special.window_clamp);
        special.quick_ack |= self.quick_ack;
        special.keeps_mtu |= self.is_mtu_locked;
        special.ecn |= self.ecn;
        knobs
    }
}

/// The answer for one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NextHop {
    pub(crate) port: PortId,
    /// The gateway, or the destination itself when it is on the link.
    pub(crate) address: Address,
    /// 0: what the interface says.
    pub(crate) mtu: u16,
    /// The number of the route's attributes; 0 when it has none.
    pub(crate) attributes: u8,
}

/// The routing table. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Routes {
    /// What `set` was told, kept to rebuild the table when the interfaces change.
    published: Vec<Route>,
    nodes: Vec<Node>,
    /// Every set of attributes there is, once; that of number 1 comes first.
    attributes: Vec<RouteAttributes>,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    route: Route,
    parent: u16,
    attributes: u8,
}

const NO_PARENT: u16 = u16::MAX;

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            published: Vec::with_capacity(ROUTES_MAX),
            nodes: Vec::with_capacity(ROUTE_ENTRIES_MAX),
            attributes: Vec::with_capacity(ROUTE_ATTRIBUTES_MAX),
            generation: 1,
        }
    }

    /// Replaces the published routes; at most `ROUTES_MAX` are kept. Of two routes for one prefix
    /// the first counts, and both count before the on-link route of an interface.
    pub(crate) fn set(&mut self, routes: &[Route], interfaces: &Interfaces) {
        self.published.clear();
        self.published.extend(routes.iter().take(ROUTES_MAX));
        self.rebuild(interfaces);
    }

    /// Takes the on-link routes anew from the interfaces.
    pub(crate) fn rebuild(&mut self, interfaces: &Interfaces) {
        self.generation = self.generation.wrapping_add(1);
        self.nodes.clear();
        self.attributes.clear();
        let on_link = interfaces.iter().flat_map(|interface| {
            let networks = interface
                .addresses
                .iter()
                .filter_map(|address| address.network());
            networks.map(|prefix| Route {
                prefix,
                via: None,
                port: interface.port,
                mtu: 0,
                attributes: RouteAttributes::default(),
            })
        });
        for route in self.published.iter().copied().chain(on_link) {
            let parent = NO_PARENT;
            let attributes = number_of(&mut self.attributes, &route.attributes);
            match self
                .nodes
                .binary_search_by_key(&sort_key(&route.prefix), |node| {
                    sort_key(&node.route.prefix)
                }) {
                Ok(_) => {}
                Err(at) if self.nodes.len() < ROUTE_ENTRIES_MAX => {
                    let node = Node {
                        route,
                        parent,
                        attributes,
                    };
                    self.nodes.insert(at, node);
                }
                Err(_) => break,
            }
        }
        self.link_parents();
    }

    /// The next hop of the longest prefix that contains `destination`.
    pub(crate) fn lookup(&self, destination: Address) -> Option<NextHop> {
        let key = (destination, u8::MAX);
        let behind = self
            .nodes
            .partition_point(|node| sort_key(&node.route.prefix) <= key);
        let mut node = self.nodes.get(behind.checked_sub(1)?)?;
        while !node.route.prefix.contains(destination) {
            node = self.nodes.get(usize::from(node.parent))?;
        }
        let Route {
            prefix: _,
            via,
            port,
            mtu,
            attributes: _,
        } = node.route;
        Some(NextHop {
            port,
            address: via.unwrap_or(destination),
            mtu,
            attributes: node.attributes,
        })
    }

    /// Every set of attributes that a route has; that of number 1 comes first.
    pub(crate) fn attributes(&self) -> &[RouteAttributes] {
        &self.attributes
    }

    /// Changes whenever an answer may have changed; for whoever caches answers.
    pub(crate) const fn generation(&self) -> u32 {
        self.generation
    }

    /// In sorted order, the tightest prefix around a node is its predecessor or one of the
    /// predecessor's parents.
    fn link_parents(&mut self) {
        for index in 1..self.nodes.len() {
            let Some(prefix) = self.nodes.get(index).map(|node| node.route.prefix) else {
                return;
            };
            let mut parent = index.saturating_sub(1) as u16;
            while let Some(outer) = self.nodes.get(usize::from(parent)) {
                // Equal prefixes are not stored twice, so holding the first address means
                // enclosing. The families are not told apart here: all of IPv4 lies inside ::/0 as
                // far as order is concerned.
                if encloses(&outer.route.prefix, prefix.address()) {
                    break;
                }
                parent = outer.parent;
            }
            if let Some(node) = self.nodes.get_mut(index) {
                node.parent = parent;
            }
        }
    }
}

/// The number of a set of attributes, a new one if need be; 0 for none, and when there is no number
/// left.
fn number_of(known: &mut Vec<RouteAttributes>, wanted: &RouteAttributes) -> u8 {
    if *wanted == RouteAttributes::default() {
        return 0;
    }
    let found = known.iter().position(|attributes| attributes == wanted);
    let at = found.unwrap_or(known.len());
    if at >= ROUTE_ATTRIBUTES_MAX {
        return 0;
    }
    if found.is_none() {
        known.push(*wanted);
    }
    at.saturating_add(1) as u8
}

/// Whether the first bits of the 16-byte forms agree.
fn encloses(outer: &Prefix, address: Address) -> bool {
    let family_bits = if outer.address().is_v4() { 96 } else { 0 };
    let bits = u32::from(outer.length()).saturating_add(family_bits);
    let first = u128::from_be_bytes(*outer.address().octets());
    (first ^ u128::from_be_bytes(*address.octets())).leading_zeros() >= bits
}

const fn sort_key(prefix: &Prefix) -> (Address, u8) {
    (prefix.address(), prefix.length())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().expect("test address"))
    }

    fn route(prefix: &str, length: u8, port: u16) -> Route {
        let prefix = Prefix::new(address(prefix), length).expect("test prefix");
        Route {
            prefix,
            via: None,
            port: PortId::new(port),
            mtu: 0,
            attributes: RouteAttributes::default(),
        }
    }

    // behaviour: RTE-3 RTE-5 RTE-11
    #[test]
    fn the_longest_prefix_wins_and_a_gateway_is_the_next_hop() {
        let mut routes = Routes::new();
        let mut default = route("0.0.0.0", 0, 0);
        default.via = Some(address("10.8.0.1"));
        default.mtu = 1_400;
        let table = [
            route("10.0.0.0", 8, 1),
            default,
            route("10.1.0.0", 16, 2),
            route("10.1.2.0", 24, 3),
            route("10.1.2.3", 32, 4),
            route("::", 0, 5),
            route("fd00::", 8, 6),
        ];
        routes.set(&table, &Interfaces::new());
        let port = |text: &str| routes.lookup(address(text)).expect("routed").port.number();
        assert_eq!(port("10.1.2.3"), 4);
        assert_eq!(port("10.1.2.4"), 3);
        assert_eq!(port("10.1.3.0"), 2);
        assert_eq!(port("10.200.0.1"), 1);
        assert_eq!(port("fd12::1"), 6);
        assert_eq!(port("2001:db8::1"), 5);
        let hop = routes.lookup(address("192.0.2.1")).expect("default");
        assert_eq!((hop.address, hop.mtu), (address("10.8.0.1"), 1_400));
    }

    // `ip route add ... initcwnd 20 rto_min 5ms`: the knobs of whoever goes that way, and of nobody
    // else.
    #[test]
    fn routes_that_say_the_same_share_one_set_of_attributes() {
        let slow = RouteAttributes {
            initial_cwnd: 20,
            rto_min_ms: 5,
            ..RouteAttributes::default()
        };
        let mut table = [
            route("10.0.0.0", 8, 1),
            route("10.1.0.0", 16, 1),
            route("10.2.0.0", 16, 1),
        ];
        table[1].attributes = slow;
        table[2].attributes = slow;
        let mut routes = Routes::new();
        routes.set(&table, &Interfaces::new());
        let number = |text: &str| routes.lookup(address(text)).expect("routed").attributes;
        assert_eq!(
            [number("10.3.0.1"), number("10.1.0.1"), number("10.2.0.1")],
            [0, 1, 1]
        );
        assert_eq!(routes.attributes(), [slow]);
        let common = TcpTunables::default();
        let knobs = slow.applied_to(&common);
        assert_eq!((knobs.tcp_init_cwnd, knobs.tcp_rto_min_ms), (20, 5));
        assert_eq!(RouteAttributes::default().applied_to(&common), common);
    }

    #[test]
    fn an_ipv6_default_route_takes_no_ipv4_packet() {
        let mut routes = Routes::new();
        routes.set(&[route("::", 0, 5)], &Interfaces::new());
        assert_eq!(routes.lookup(address("192.0.2.1")), None);
    }

    proptest! {
        // behaviour: RTE-5
        #[test]
        fn a_lookup_agrees_with_a_linear_search(
            prefixes in prop::collection::vec((any::<[u8; 2]>(), 0u8..=32), 0..60),
            destinations in prop::collection::vec(any::<[u8; 3]>(), 1..20),
        ) {
            // Addresses from few bits, so that prefixes nest.
            let wide = |[a, b]: [u8; 2]| Address::v4([a & 3, b & 0xc3, 0, b & 1]);
            let numbered = prefixes.iter().enumerate();
            let table: Vec<Route> = numbered.map(|(port, (bytes, length))| Route {
                prefix: Prefix::new(wide(*bytes), *length).expect("valid"),
                via: None, port: PortId::new(port as u16), mtu: 0,
                attributes: RouteAttributes::default(),
            }).collect();
            let mut routes = Routes::new();
            routes.set(&table, &Interfaces::new());
            for bytes in destinations {
                let destination = Address::v4([bytes[0] & 3, bytes[1] & 0xc3, 0, bytes[2] & 1]);
                let containing = table.iter().filter(|route| route.prefix.contains(destination));
                // Of equal prefixes the first counts: `max_by_key` returns the last, so look from
                // the end.
                let best = containing.rev().max_by_key(|route| route.prefix.length());
                prop_assert_eq!(
                    routes.lookup(destination).map(|hop| hop.port),
                    best.map(|route| route.port)
                );
            }
        }
    }
}
