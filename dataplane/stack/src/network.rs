//! From a destination to a `Path`: interfaces, routes and neighbours asked in that order, and the
//! answer cached.
//!
//! A connection keeps a `HopCache` and a neighbour the path to it; while no table changed, a path
//! costs one indexed load. It does not queue anything for an unresolved neighbour: callers decide
//! who waits.

use millrace_base::{Address, Instant, Key, MacAddress};

use crate::interface::Interfaces;
use crate::neighbor::{Neighbors, Resolution};
use crate::path::Path;
use crate::route::Routes;

/// The tables that decide where a packet goes.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) interfaces: Interfaces,
    pub(crate) routes: Routes,
    pub(crate) neighbors: Neighbors,
}

/// A next hop as a connection remembers it.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct HopCache {
    neighbor: Key,
    /// `Routes::generation` when it was looked up; 0 is never one.
    generation: u32,
    mtu: u16,
}

/// Whether a packet can go to its destination now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hop {
    Ready(Path),
    /// The neighbour is being resolved. The path is complete but for the destination's link
    /// address.
    Wait(Path, Key),
    /// The neighbour did not answer.
    Failed,
    NoRoute,
    /// The neighbour table is full.
    TableFull,
}

impl HopCache {
    pub(crate) const EMPTY: Self = Self {
        neighbor: Key::NONE,
        generation: 0,
        mtu: 0,
    };

    /// The neighbour last used; may be stale.
    pub(crate) const fn neighbor(&self) -> Key {
        self.neighbor
    }
}

impl Network {
    pub(crate) fn new(neighbors_max: usize, secret: [u8; 16]) -> Self {
        Self {
            interfaces: Interfaces::new(),
            routes: Routes::new(),
            neighbors: Neighbors::new(neighbors_max, secret),
        }
    }

    /// The way to `remote`. Asks control for the neighbour when it is not resolved.
    pub(crate) fn hop(&mut self, now: Instant, remote: Address, cache: &mut HopCache) -> Hop {
        let generation = self.routes.generation();
        if cache.generation == generation {
            if let Some(path) = self.neighbors.path(cache.neighbor, generation) {
                return Hop::Ready(Path {
                    mtu: cache.mtu,
                    ..*path
                });
            }
            if let Some(resolution) = self.neighbors.resolve(cache.neighbor, now) {
                return self.hop_to(cache, resolution);
            }
        }
        self.look_up(now, remote, cache)
    }

    fn look_up(&mut self, now: Instant, remote: Address, cache: &mut HopCache) -> Hop {
        let Some(next) = self.routes.lookup(remote) else {
            return Hop::NoRoute;
        };
        let Some(interface) = self.interfaces.get(next.port) else {
            return Hop::NoRoute;
        };
        let mtu = if next.mtu == 0 {
            interface.mtu
        } else {
            next.mtu.min(interface.mtu)
        };
        let Some(neighbor) = self.neighbors.find_or_create(next.port, next.address) else {
            return Hop::TableFull;
        };
        *cache = HopCache {
            neighbor,
            generation: self.routes.generation(),
            mtu,
        };
        match self.neighbors.resolve(neighbor, now) {
            Some(resolution) => self.hop_to(cache, resolution),
            None => Hop::TableFull,
        }
    }

    /// The MTU of the route to `remote`, before any neighbour is asked for: what a SYN's MSS is
    /// made of. `None` without a route.
    pub(crate) fn mtu(&self, remote: Address) -> Option<u16> {
        let next = self.routes.lookup(remote)?;
        let interface = self.interfaces.get(next.port)?;
        Some(if next.mtu == 0 {
            interface.mtu
        } else {
            next.mtu.min(interface.mtu)
        })
    }

    fn hop_to(&mut self, cache: &HopCache, resolution: Resolution) -> Hop {
        let (destination, waits) = match resolution {
            Resolution::Resolved(mac) => (mac, false),
            Resolution::Incomplete => (MacAddress::ZERO, true),
            Resolution::Failed => return Hop::Failed,
        };
        let port = self
            .neighbors
            .get(cache.neighbor)
            .map(|neighbor| neighbor.port());
        let Some(interface) = port.and_then(|port| self.interfaces.get(port)) else {
            return Hop::NoRoute;
        };
        let path = Path {
            port: interface.port,
            mtu: cache.mtu,
            source: interface.mac,
            destination,
            offloads: interface.offloads,
        };
        if waits {
            Hop::Wait(path, cache.neighbor)
        } else {
            self.neighbors
                .keep_path(cache.neighbor, path, cache.generation);
            Hop::Ready(path)
        }
    }
}
