//! Whose knobs count: a connection's own, those of its listener or its route, or everybody's.
//!
//! A balancer's connections have none of their own; a socket's may, and a listener's half-open ones
//! take its. Routes with attributes (`initcwnd`, `rto_min`, ...) have theirs ready, made when the
//! routes are set.
//!
//! Beside these there is what a connection begins with: the `Profile` of its listener, or of whoever
//! connects. It is laid over the knobs of the route wherever a connection begins: at the SYN, at the
//! cookie, at data in a SYN, at a TIME_WAIT record that gives way. That costs a copy of the knobs, and
//! only where the profile says something else than they do.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use millrace_base::{ListenerId, PacketPool};

use crate::limits::{LISTENERS_MAX, ROUTE_ATTRIBUTES_MAX};
use crate::listener::Listener;
use crate::network::HopCache;
use crate::route::Routes;
use crate::stack::Stack;
use crate::tcp::{Profile, TcpTunables};

/// The knobs of listeners and routes that have their own.
#[derive(Debug)]
pub(crate) struct GroupKnobs {
    /// By the number of the attributes, from 1.
    routes: Vec<TcpTunables>,
    /// By the number of the listener; none in a balancer.
    listeners: BTreeMap<u16, TcpTunables>,
    /// By the number of the listener.
    profiles: Box<[Profile]>,
    /// No listener has anything of its own.
    listeners_are_plain: bool,
}

/// What somebody who connects brings along.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish<'a> {
    /// Knobs for as long as the connection lives.
    Own(&'a TcpTunables),
    /// What it begins with.
    Profile(Profile),
}

impl GroupKnobs {
    pub(crate) fn new() -> Self {
        Self {
            routes: Vec::with_capacity(ROUTE_ATTRIBUTES_MAX),
            listeners: BTreeMap::new(),
            profiles: vec![Profile::default(); LISTENERS_MAX].into_boxed_slice(),
            listeners_are_plain: true,
        }
    }

    /// Takes the profiles of all listeners anew.
    pub(crate) fn set_profiles(&mut self, listeners: &[Listener]) {
        self.profiles.fill(Profile::default());
        for listener in listeners {
            if let Some(profile) = self.profiles.get_mut(listener.id.index()) {
                *profile = listener.options.profile;
            }
        }
        self.look_at_listeners();
    }

    fn look_at_listeners(&mut self) {
        let chosen = |profile: &Profile| *profile != Profile::default();
        self.listeners_are_plain = self.listeners.is_empty() && !self.profiles.iter().any(chosen);
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

/// The knobs of whoever begins over a route at a listener; `room` is for those that are made for it.
#[inline]
pub(crate) fn group_knobs_of<'a>(
    groups: &'a GroupKnobs,
    common: &'a TcpTunables,
    (listener, hop): (ListenerId, &HopCache),
    room: &'a mut Option<TcpTunables>,
) -> &'a TcpTunables {
    if groups.listeners_are_plain && hop.attributes() == 0 {
        return common;
    }
    if let Some(own) = groups.listeners.get(&listener.number()) {
        return own;
    }
    let profile = groups.profiles.get(listener.index()).copied();
    let wish = Wish::Profile(profile.unwrap_or_default());
    knobs_of_wish(groups, common, (wish, hop), room)
}

/// The knobs of a connection that is opened over a route.
#[inline]
pub(crate) fn knobs_of_wish<'a>(
    groups: &'a GroupKnobs,
    common: &'a TcpTunables,
    (wish, hop): (Wish<'a>, &HopCache),
    room: &'a mut Option<TcpTunables>,
) -> &'a TcpTunables {
    let profile = match wish {
        Wish::Own(own) => return own,
        Wish::Profile(profile) => profile,
    };
    let route = groups.of_route(hop.attributes()).unwrap_or(common);
    if profile.is_met_by(route) {
        return route;
    }
    room.insert(profile.applied_to(route))
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
        self.group_knobs.look_at_listeners();
    }
}
