//! The bind hash: which local ports are in use, by whom, and who may join them.
//!
//! Linux: `inet_bind_bucket` and `inet_bind_conflict`, for one user and one network namespace. A
//! bucket is made with the first socket on a port and goes with the last one, be that a socket, a
//! connection whose socket is closed, or a TIME_WAIT record. Which port a socket gets when it does
//! not name one is decided in `ephemeral`.

use std::collections::BTreeMap;

use millrace_base::{Address, FlowTuple};

use crate::file::SocketId;
use crate::socket::Socket;
use crate::sockets::Sockets;

/// Every port in use. Finding one is a search in a tree of ports, whatever else the host has open
/// (behaviour: Z1-4).
#[derive(Debug, Default)]
pub(crate) struct Ports {
    buckets: BTreeMap<u16, Bucket>,
}

/// One port in use.
#[derive(Debug, Default)]
struct Bucket {
    sockets: Vec<SocketId>,
    /// Connections whose socket is closed, or that rest in TIME_WAIT.
    remains: Vec<Remains>,
    /// Everybody had `SO_REUSEADDR` when they came, and nobody listened (`fastreuse`).
    all_reuse_address: bool,
    /// Everybody had `SO_REUSEPORT` (`fastreuseport`).
    all_reuse_port: bool,
}

/// A connection that owns a port without a socket.
#[derive(Clone, Copy, Debug)]
struct Remains {
    tuple: FlowTuple,
    reuse_address: bool,
    reuse_port: bool,
    by_connect: bool,
}

/// How a port is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// The program named it.
    ByName,
    /// Any will do: one that nobody who could be in the way has.
    Any,
    /// Any will do, and `SO_REUSEADDR` may share it (`ip_autobind_reuse`).
    AnyShared,
}

/// How a socket came to its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Via {
    /// `bind` or `listen`.
    Name,
    /// `connect` chose it: others may have it for other peers.
    Connect,
    /// The listener that it was accepted from has it.
    Listener,
}

/// One party of a conflict.
#[derive(Clone, Copy, Debug)]
struct Claim {
    address: Address,
    /// Whether an unspecified address stands for both families.
    dual: bool,
    reuse_address: bool,
    reuse_port: bool,
    listens: bool,
}

impl Sockets {
    /// Whether somebody on this port is in the way of a socket (`inet_csk_get_port`).
    // behaviour: HSH-2 HSH-5
    pub(crate) fn is_in_conflict(&mut self, id: SocketId, port: u16, asked: Asked) -> bool {
        self.forget_dead_remains(port);
        let Some(own) = self.sockets.get(&id).map(claim) else {
            return true;
        };
        let Some(bucket) = self.ports.buckets.get(&port) else {
            return false;
        };
        if asked == Asked::ByName && bucket.admits(&own) {
            return false;
        }
        let others = bucket.sockets.iter().filter(|other| **other != id);
        let living = others
            .filter_map(|other| self.sockets.get(other))
            .map(claim);
        let dead = bucket.remains.iter().map(Remains::claim);
        living
            .chain(dead)
            .any(|other| own.overlaps(&other) && own.conflicts(&other, asked))
    }

    /// Gives a socket a port: it enters the port's bucket (`inet_bind_hash`).
    pub(crate) fn hold_port(&mut self, id: SocketId, port: u16, via: Via) {
        self.release_port(id);
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        socket.local.port = port;
        socket.port_held = Some(port);
        socket.port_by_connect = via == Via::Connect;
        let own = claim(socket);
        let may_share = own.reuse_address && !own.listens;
        let bucket = self.ports.buckets.entry(port).or_default();
        let fresh = bucket.sockets.is_empty() && bucket.remains.is_empty();
        if via == Via::Name {
            bucket.all_reuse_address = may_share && (fresh || bucket.all_reuse_address);
            bucket.all_reuse_port = own.reuse_port && (fresh || bucket.all_reuse_port);
        }
        bucket.sockets.push(id);
    }

    /// A socket leaves the bucket of its port (`inet_put_port`). A connection of it that lives on,
    /// or rests in TIME_WAIT, stays in its place.
    pub(crate) fn release_port(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let Some(port) = socket.port_held.take() else {
            return;
        };
        let remains = Remains::of(socket);
        let taken = remains.filter(|remains| self.stack.tuple_is_taken(&remains.tuple));
        let Some(bucket) = self.ports.buckets.get_mut(&port) else {
            return;
        };
        bucket.sockets.retain(|other| *other != id);
        bucket.remains.extend(taken);
        self.ports.drop_if_empty(port);
    }

    /// Whether `connect` may not use a port for anybody: somebody has it who was not given it by
    /// `connect`. Such a bucket is passed over, whatever the tuple (behaviour: A30-13).
    pub(crate) fn is_port_bound(&mut self, port: u16) -> bool {
        self.forget_dead_remains(port);
        let Some(bucket) = self.ports.buckets.get(&port) else {
            return false;
        };
        let by_connect = |id: &SocketId| {
            let socket = self.sockets.get(id);
            socket.is_none_or(|socket| socket.port_by_connect)
        };
        !bucket.sockets.iter().all(by_connect) || bucket.remains.iter().any(|r| !r.by_connect)
    }

    /// The local ports in use, lowest first, and how many sockets and connections without one share
    /// each: the bind hash as `ss` would list it.
    pub fn ports_in_use(&mut self) -> Vec<(u16, usize)> {
        let ports: Vec<u16> = self.ports.buckets.keys().copied().collect();
        for port in ports {
            self.forget_dead_remains(port);
        }
        let buckets = self.ports.buckets.iter();
        buckets
            .map(|(port, bucket)| (*port, bucket.sockets.len() + bucket.remains.len()))
            .collect()
    }

    /// Whether a closed socket's connection still owns a port.
    pub(crate) fn has_remains(&self) -> bool {
        let mut buckets = self.ports.buckets.values();
        buckets.any(|bucket| !bucket.remains.is_empty())
    }

    fn forget_dead_remains(&mut self, port: u16) {
        let Self { ports, stack, .. } = self;
        if let Some(bucket) = ports.buckets.get_mut(&port) {
            let alive = |remains: &Remains| stack.tuple_is_taken(&remains.tuple);
            bucket.remains.retain(alive);
            ports.drop_if_empty(port);
        }
    }
}

impl Ports {
    fn drop_if_empty(&mut self, port: u16) {
        let bucket = self.buckets.get(&port);
        if bucket.is_some_and(|bucket| bucket.sockets.is_empty() && bucket.remains.is_empty()) {
            self.buckets.remove(&port);
        }
    }
}

impl Bucket {
    /// The short way: everybody agreed to share when they came, whatever they have set since.
    fn admits(&self, own: &Claim) -> bool {
        let by_address = self.all_reuse_address && own.reuse_address && !own.listens;
        by_address || (self.all_reuse_port && own.reuse_port)
    }
}

impl Remains {
    fn of(socket: &Socket) -> Option<Self> {
        Some(Self {
            tuple: FlowTuple {
                local: socket.local,
                remote: socket.remote?,
            },
            reuse_address: socket.options.reuse_address,
            reuse_port: socket.options.reuse_port,
            by_connect: socket.port_by_connect,
        })
    }

    const fn claim(&self) -> Claim {
        Claim {
            address: self.tuple.local.address,
            dual: false,
            reuse_address: self.reuse_address,
            reuse_port: self.reuse_port,
            listens: false,
        }
    }
}

impl Claim {
    /// Whether a packet could be for both.
    fn overlaps(&self, other: &Self) -> bool {
        match (
            self.address.is_unspecified(),
            other.address.is_unspecified(),
        ) {
            (false, false) => self.address == other.address,
            (true, false) => self.covers(other.address),
            (false, true) => other.covers(self.address),
            (true, true) => self.covers(other.address) || other.covers(self.address),
        }
    }

    /// Whether this wildcard includes an address (or a wildcard of its family).
    fn covers(&self, address: Address) -> bool {
        self.dual || self.address.is_v4() == address.is_v4()
    }

    /// Linux: `inet_bind_conflict`.
    fn conflicts(&self, other: &Self, asked: Asked) -> bool {
        let both_port = self.reuse_port && other.reuse_port;
        if self.reuse_address && other.reuse_address && !other.listens {
            match asked {
                Asked::ByName => false,
                Asked::Any => true,
                // They would be taken for a group that they never agreed on.
                Asked::AnyShared => both_port,
            }
        } else {
            asked != Asked::ByName || !both_port
        }
    }
}

fn claim(socket: &Socket) -> Claim {
    Claim {
        address: socket.local.address,
        dual: socket.is_dual() && !socket.local.address.is_v4(),
        reuse_address: socket.options.reuse_address,
        reuse_port: socket.options.reuse_port,
        listens: socket.listening.is_some(),
    }
}
