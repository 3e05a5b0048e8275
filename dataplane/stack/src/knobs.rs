//! Whose knobs count: a connection's own, those of its listener or its route, or everybody's.
//!
//! A balancer's connections have none of their own; a socket's may, and a listener's half-open ones
//! take its. Routes with attributes (`initcwnd`, `rto_min`, ...) have theirs ready, made when the
//! routes are set.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use millrace_base::{ListenerId, PacketPool};

use crate::limits::ROUTE_ATTRIBUTES_MAX;
use crate::network::HopCache;
use crate::route::Routes;
use crate::stack::Stack;
use crate::tcp::TcpTunables;

/// The knobs of listeners and routes that have their own.
#[derive(Debug)]
pub(crate) struct GroupKnobs {
    /// By the number of the attributes, from 1.
    routes: Vec<TcpTunables>,
    /// By the number of the listener; none in a balancer.
    listeners: BTreeMap<u16, TcpTunables>,
}

impl GroupKnobs {
    pub(crate) fn new() -> Self {
        Self {
            routes: Vec::with_capacity(ROUTE_ATTRIBUTES_MAX),
            listeners: BTreeMap::new(),
        }
    }

    /// Makes the knobs of all routes anew.
    pub(crate) fn rebuild(&mut self, routes: &Routes, common: &TcpTunables) {
        self.routes.clear();
        let applied = routes.attributes().iter().map(|a| a.applied_to(common));
        self.routes.extend(applied.take(ROUTE_ATTRIBUTES_MAX));
    }

    fn of_route(&self, number: u8) -> Option<&TcpTunables> {
        self.routes.get(usize::from(number).checked_sub(1)?)
    }
}

/// The knobs of the connection at `index` whose way is `hop`.
#[inline]
pub(crate) fn knobs_of<'a>(
    own: &'a BTreeMap<u32, TcpTunables>,
    groups: &'a GroupKnobs,
    common: &'a TcpTunables,
    (index, hop): (u32, &HopCache),
) -> &'a TcpTunables {
    if own.is_empty() && hop.attributes() == 0 {
        return common;
    }
    let own = own.get(&index);
    own.or_else(|| groups.of_route(hop.attributes()))
        .unwrap_or(common)
}

/// The knobs of whoever begins over a route, at a listener if at one.
#[inline]
pub(crate) fn group_knobs_of<'a>(
    groups: &'a GroupKnobs,
    common: &'a TcpTunables,
    (listener, hop): (Option<ListenerId>, &HopCache),
) -> &'a TcpTunables {
    if groups.listeners.is_empty() && hop.attributes() == 0 {
        return common;
    }
    let own = listener.and_then(|listener| groups.listeners.get(&listener.number()));
    own.or_else(|| groups.of_route(hop.attributes()))
        .unwrap_or(common)
}

impl<P: PacketPool> Stack<P> {
    /// Gives the connections of a listener knobs of its own, from their SYN on; `None` takes them
    /// back.
    pub fn set_listener_tunables(&mut self, listener: ListenerId, own: Option<TcpTunables>) {
        let listeners = &mut self.group_knobs.listeners;
        match own {
            Some(own) => listeners.insert(listener.number(), own),
            None => listeners.remove(&listener.number()),
        };
    }
}
