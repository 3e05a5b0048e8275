//! From a destination to a `Path`: interfaces, routes and neighbours asked in that order, and the
//! answer cached.
//!
//! A connection keeps a `HopCache` and a neighbour the path to it; while no table changed, a path
//! costs one indexed load. Destinations that were looked up lately are remembered too: every session
//! goes to one of a few backends. It does not queue anything for an unresolved neighbour: callers
//! decide who waits.

use alloc::boxed::Box;

use millrace_base::{Address, Instant, Key, MacAddress};

use crate::interface::Interfaces;
use crate::limits::DESTINATIONS_MAX;
use crate::neighbor::{Neighbors, Resolution};
use crate::path::Path;
use crate::route::Routes;

/// The tables that decide where a packet goes.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) interfaces: Interfaces,
    pub(crate) routes: Routes,
    pub(crate) neighbors: Neighbors,
    destinations: Destinations,
    /// Times the routes were searched.
    lookups: u64,
}

/// Destinations that were looked up lately, each at the place that its address says.
#[derive(Debug)]
struct Destinations(Box<[(Address, HopCache); DESTINATIONS_MAX]>);

/// A next hop as a connection remembers it.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct HopCache {
    neighbor: Key,
    /// `Routes::generation` when it was looked up; 0 is never one.
    generation: u32,
    mtu: u16,
    /// The number of the route's attributes; 0 when it has none.
    attributes: u8,
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
        attributes: 0,
    };

    /// A hop that was known once: it is looked up before it is used, and until then only the route's
    /// MTU and attributes are remembered.
    pub(crate) const fn outdated(mtu: u16, attributes: u8) -> Self {
        Self {
            neighbor: Key::NONE,
            // Tables do not change so often.
            generation: u32::MAX,
            mtu,
            attributes,
        }
    }

    /// The neighbour last used; may be stale.
    pub(crate) const fn neighbor(&self) -> Key {
        self.neighbor
    }

    /// Whether no route is known: none was found, or it is doubted.
    pub(crate) const fn is_empty(&self) -> bool {
        self.generation == 0
    }

    /// The MTU of the route, bytes.
    pub(crate) const fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The number of the route's attributes; 0 when it has none.
    #[inline]
    pub(crate) const fn attributes(&self) -> u8 {
        self.attributes
    }
}

impl Destinations {
    fn new() -> Self {
        let nobody = (Address::UNSPECIFIED_V6, HopCache::EMPTY);
        Self(Box::new([nobody; DESTINATIONS_MAX]))
    }

    /// What was found for this destination when the routes were of this generation.
    #[inline]
    fn get(&self, remote: Address, generation: u32) -> Option<HopCache> {
        let (address, hop) = self.0.get(place_of(remote))?;
        (*address == remote && hop.generation == generation).then_some(*hop)
    }

    fn set(&mut self, remote: Address, hop: HopCache) {
        if let Some(place) = self.0.get_mut(place_of(remote)) {
            *place = (remote, hop);
        }
    }
}

/// Spreads destinations. Whoever makes his collide with another's costs both a search of the routes.
#[inline]
fn place_of(remote: Address) -> usize {
    let bits = u128::from_be_bytes(*remote.octets());
    let word = (bits >> 64) as u64 ^ bits as u64;
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % DESTINATIONS_MAX
}

impl Network {
    pub(crate) fn new(neighbors_max: usize, secret: [u8; 16]) -> Self {
        Self {
            interfaces: Interfaces::new(),
            routes: Routes::new(),
            neighbors: Neighbors::new(neighbors_max, secret),
            destinations: Destinations::new(),
            lookups: 0,
        }
    }

    /// The way that was found before, while no table has changed.
    #[inline]
    pub(crate) fn ready(&self, cache: &HopCache) -> Option<Path> {
        let generation = self.routes.generation();
        if cache.generation != generation {
            return None;
        }
        let path = self.neighbors.path(cache.neighbor, generation)?;
        Some(Path {
            mtu: cache.mtu,
            ..*path
        })
    }

    /// The same where it lies, for a route with the MTU that the neighbour's path was made for.
    #[inline]
    pub(crate) fn kept(&self, cache: &HopCache) -> Option<&Path> {
        let generation = self.routes.generation();
        if cache.generation != generation {
            return None;
        }
        let path = self.neighbors.path(cache.neighbor, generation)?;
        (path.mtu == cache.mtu).then_some(path)
    }

    /// The way to `remote` where it lies, if somebody went there lately and no table has changed since.
    #[inline]
    pub(crate) fn known(&self, remote: Address) -> Option<&Path> {
        let hop = self.destinations.get(remote, self.routes.generation())?;
        self.kept(&hop)
    }

    /// The way to `remote`. Asks control for the neighbour when it is not resolved.
    pub(crate) fn hop(&mut self, now: Instant, remote: Address, cache: &mut HopCache) -> Hop {
        if let Some(path) = self.ready(cache) {
            return Hop::Ready(path);
        }
        if cache.generation == self.routes.generation()
            && let Some(resolution) = self.neighbors.resolve(cache.neighbor, now)
        {
            return self.hop_to(cache, resolution);
        }
        self.look_up(now, remote, cache)
    }

    /// The route to `remote`, before its neighbour is asked for: what a SYN's MSS is made of.
    /// `None` without a route.
    #[inline]
    pub(crate) fn route(&mut self, remote: Address) -> Option<HopCache> {
        match self.destinations.get(remote, self.routes.generation()) {
            Some(known) => Some(known),
            None => self.find_route(remote),
        }
    }

    /// The same for whom a route was found before: it still holds when no route has changed.
    #[inline]
    pub(crate) fn route_again(&mut self, remote: Address, found: HopCache) -> Option<HopCache> {
        if found.generation == self.routes.generation() {
            return Some(found);
        }
        self.route(remote)
    }

    /// The way to `remote` may be wrong although no table has changed: whoever goes there next has the
    /// routes searched.
    pub(crate) fn doubt(&mut self, remote: Address, cache: &mut HopCache) {
        cache.generation = 0;
        self.destinations.set(remote, *cache);
    }

    /// Times the routes were searched.
    pub(crate) const fn lookups(&self) -> u64 {
        self.lookups
    }

    fn find_route(&mut self, remote: Address) -> Option<HopCache> {
        self.lookups = self.lookups.wrapping_add(1);
        let next = self.routes.lookup(remote)?;
        let interface = self.interfaces.get(next.port)?;
        let mtu = if next.mtu == 0 {
            interface.mtu
        } else {
            next.mtu.min(interface.mtu)
        };
        let found = HopCache {
            // Nobody when the table is full: sending will try again.
            neighbor: self
                .neighbors
                .find_or_create(next.port, next.address)
                .unwrap_or(Key::NONE),
            generation: self.routes.generation(),
            mtu,
            attributes: next.attributes,
        };
        self.destinations.set(remote, found);
        Some(found)
    }

    fn look_up(&mut self, now: Instant, remote: Address, cache: &mut HopCache) -> Hop {
        // The neighbour of a route that is known may have gone; then it is looked up once more.
        for find in [Self::route, Self::find_route] {
            let Some(found) = find(self, remote) else {
                return Hop::NoRoute;
            };
            *cache = found;
            if let Some(path) = self.ready(cache) {
                return Hop::Ready(path);
            }
            if let Some(resolution) = self.neighbors.resolve(found.neighbor, now) {
                return self.hop_to(cache, resolution);
            }
        }
        Hop::TableFull
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
            offloads: interface.offloads.consistent(),
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
