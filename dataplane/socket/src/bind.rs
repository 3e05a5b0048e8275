//! `bind`, who may share a port with whom, and ephemeral ports.
//!
//! The conflict rules are Linux's (`inet_bind_conflict`): two sockets on one port and overlapping
//! addresses get along when both have `SO_REUSEADDR` and the other does not listen, or when both
//! have `SO_REUSEPORT`. A connection keeps its port when its socket is closed, until it has ended.

use millrace_base::{Address, Endpoint, FlowTuple, Instant};
use millrace_stack::State;

use crate::address::{Domain, SocketAddress};
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::AF_UNSPEC;
use crate::socket::Socket;
use crate::sockets::Sockets;

/// A connection whose socket is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remains {
    pub(crate) tuple: FlowTuple,
    reuse_address: bool,
    reuse_port: bool,
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
    /// `bind`.
    pub fn bind(&mut self, now: Instant, fd: i32, address: SocketAddress) -> Result<(), Errno> {
        self.step_to(now);
        let id = self.files.socket(fd)?;
        let socket = self.get(id)?;
        let endpoint = bind_endpoint(socket.domain, address)?;
        if socket.domain == Domain::V6 && endpoint.address.is_v4() && socket.options.v6only {
            return Err(Errno::EINVAL);
        }
        let (domain, free) = (socket.domain, socket.options.freebind);
        if !endpoint.address.is_unspecified() && !free && !self.is_ours(endpoint.address) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let fresh = self.state(id) == State::Closed && self.get(id)?.local.port == 0;
        if !fresh || self.get(id)?.flow.is_some() {
            return Err(Errno::EINVAL);
        }
        let no_port = self.get(id)?.options.bind_address_no_port;
        // An IPv6 socket bound to "any IPv4" says so by the mapped form.
        let before = self.get(id)?.local.address;
        self.get_mut(id)?.local.address = endpoint.address;
        // behaviour: HSH-3
        if endpoint.port != 0 || !no_port {
            // behaviour: HSH-2
            if let Err(error) = self.obtain_port(id, endpoint.port) {
                self.get_mut(id)?.local.address = before;
                return Err(error);
            }
        }
        let any = domain.any();
        let socket = self.get_mut(id)?;
        socket.address_locked = endpoint.address != any;
        socket.port_locked = endpoint.port != 0;
        self.publish_addresses();
        Ok(())
    }

    /// Gives a socket this port, or any when it is 0; `EADDRINUSE` when somebody is in the way.
    pub(crate) fn obtain_port(&mut self, id: SocketId, port: u16) -> Result<(), Errno> {
        if port != 0 {
            if self.is_in_conflict(id, port, true) {
                return Err(Errno::EADDRINUSE);
            }
            self.get_mut(id)?.local.port = port;
            return Ok(());
        }
        let (low, high) = self.port_range(id);
        let count = u32::from(high - low) + 1;
        let start = self.rng.below(count);
        // Linux leaves the ports of one parity to `connect`.
        let odd_first = (0..count).filter(|n| !(start + n).is_multiple_of(2));
        let ports = odd_first.chain((0..count).filter(|n| (start + n).is_multiple_of(2)));
        for step in ports {
            let port = low + ((start + step) % count) as u16;
            if !self.is_reserved(port) && !self.is_in_conflict(id, port, false) {
                self.get_mut(id)?.local.port = port;
                return Ok(());
            }
        }
        Err(Errno::EADDRINUSE)
    }

    /// A local port for a connection to `remote` (behaviour: HSH-16): `EADDRNOTAVAIL` when the whole
    /// range is taken (behaviour: HSH-17).
    pub(crate) fn connect_port(
        &mut self,
        id: SocketId,
        local: Address,
        remote: Endpoint,
    ) -> Result<u16, Errno> {
        let (low, high) = self.port_range(id);
        let count = u32::from(high - low) + 1;
        let start = self.rng.below(count) & !1;
        let even_first = (0..count).step_by(2);
        for step in even_first.chain((1..count).step_by(2)) {
            let port = low + ((start + step) % count) as u16;
            let tuple = FlowTuple {
                local: Endpoint::new(local, port),
                remote,
            };
            let bound = self.sockets.iter().any(|(other, socket)| {
                *other != id && socket.local.port == port && !is_connected(socket)
            });
            let free = self.stack.tuple_is_free(self.now, &tuple);
            if !self.is_reserved(port) && !bound && free {
                return Ok(port);
            }
        }
        Err(Errno::EADDRNOTAVAIL)
    }

    /// Whether an address is one of this host's.
    pub(crate) fn is_ours(&self, address: Address) -> bool {
        let mut ours = self.config.addresses.iter();
        ours.any(|(own, _)| *own == address)
    }

    /// Tells the stack of addresses that sockets are bound to although they are not the host's
    /// (`IP_FREEBIND`).
    pub(crate) fn publish_addresses(&mut self) {
        let bound = self.sockets.values().map(|socket| socket.local.address);
        let foreign = bound.filter(|address| !address.is_unspecified() && !self.is_ours(*address));
        let foreign: Vec<Address> = foreign.collect();
        self.stack.set_local_addresses(&foreign);
    }

    /// The socket of a connection is closed: the connection still owns its port.
    pub(crate) fn bury(&mut self, socket: &Socket) {
        let Some(remote) = socket.remote else {
            return;
        };
        self.remains.push(Remains {
            tuple: FlowTuple {
                local: socket.local,
                remote,
            },
            reuse_address: socket.options.reuse_address,
            reuse_port: socket.options.reuse_port,
        });
    }

    /// Whether somebody on this port is in the way. `explicit`: the program named the port.
    fn is_in_conflict(&mut self, id: SocketId, port: u16, explicit: bool) -> bool {
        let Some(own) = self.sockets.get(&id).map(claim) else {
            return true;
        };
        let Self { remains, stack, .. } = self;
        remains.retain(|remains| stack.tuple_is_taken(&remains.tuple));
        let others = self.sockets.iter().filter(|(other, _)| **other != id);
        let living = others
            .filter(|(_, socket)| socket.local.port == port)
            .map(|(_, socket)| claim(socket));
        let dead = self.remains.iter();
        let dead = dead
            .filter(|remains| remains.tuple.local.port == port)
            .map(|remains| Claim {
                address: remains.tuple.local.address,
                dual: false,
                reuse_address: remains.reuse_address,
                reuse_port: remains.reuse_port,
                listens: false,
            });
        living
            .chain(dead)
            .any(|other| own.overlaps(&other) && own.conflicts(&other, explicit))
    }

    /// First and last ephemeral port: the sysctl's, narrowed by `IP_LOCAL_PORT_RANGE`.
    fn port_range(&self, id: SocketId) -> (u16, u16) {
        let (low, high) = self.sysctls.port_range();
        let own = self.get(id).map_or((0, 0), |s| s.options.port_range);
        let inside = |port: u16, or: u16| {
            if (low..=high).contains(&port) {
                port
            } else {
                or
            }
        };
        (inside(own.0, low), inside(own.1, high))
    }

    fn is_reserved(&self, port: u16) -> bool {
        self.sysctls.is_reserved(port)
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

    /// Linux: `inet_bind_conflict`, for one user.
    fn conflicts(&self, other: &Self, explicit: bool) -> bool {
        if self.reuse_port && other.reuse_port {
            return false;
        }
        let both_reuse = self.reuse_address && other.reuse_address && !other.listens;
        // An ephemeral port is not shared by `SO_REUSEADDR`.
        !(both_reuse && explicit)
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

/// Whether `connect` gave the socket its port: such ports are shared between peers.
fn is_connected(socket: &Socket) -> bool {
    socket.remote.is_some() && !socket.port_locked && socket.listening.is_none()
}

/// What `bind` takes an address for. `AF_UNSPEC` with "any" is the old way to say "any" to an IPv4
/// socket.
fn bind_endpoint(domain: Domain, address: SocketAddress) -> Result<Endpoint, Errno> {
    const { assert!(AF_UNSPEC == 0) };
    match (domain, address) {
        (Domain::V4, SocketAddress::Unspecified) => Ok(Endpoint::new(domain.any(), 0)),
        _ => {
            let endpoint = address.endpoint(domain)?;
            if endpoint.address.is_multicast() || endpoint.address.is_broadcast() {
                return Err(Errno::EADDRNOTAVAIL);
            }
            Ok(endpoint)
        }
    }
}
