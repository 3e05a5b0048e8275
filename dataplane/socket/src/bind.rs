//! `bind`: which addresses a socket may have.
//!
//! Linux: `__inet_bind`, `__inet6_bind`. Who may share a port with whom is decided in `ports`, which
//! port a socket gets that names none in `ephemeral`.

use millrace_base::{Address, Endpoint, Instant};
use millrace_stack::State;

use crate::address::{Domain, SocketAddress};
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::AF_UNSPEC;
use crate::sockets::Sockets;

impl Sockets {
    /// `bind`.
    pub fn bind(&mut self, now: Instant, fd: i32, address: SocketAddress) -> Result<(), Errno> {
        self.step_to(now);
        let id = self.files.socket(fd)?;
        let socket = self.get(id)?;
        let (domain, endpoint) = (socket.domain, bind_endpoint(socket.domain, address)?);
        let fresh = self.state(id) == State::Closed && socket.port_held.is_none();
        // IPv6 asks first whether there is anything to bind, IPv4 first whether the address is ours.
        if domain == Domain::V6 && !fresh {
            return Err(Errno::EINVAL);
        }
        if domain == Domain::V6 && endpoint.address.is_v4() && socket.options.v6only {
            return Err(Errno::EINVAL);
        }
        if domain == Domain::V6 && lacks_scope(address, &endpoint) {
            return Err(Errno::EINVAL);
        }
        if !self.may_bind(id, endpoint.address) {
            return Err(Errno::EADDRNOTAVAIL);
        }
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

    /// Whether a socket may be bound to an address: ours, any, or foreign ones where the socket or
    /// the host allows them (`inet_addr_valid_or_nonlocal`).
    fn may_bind(&self, id: SocketId, address: Address) -> bool {
        let own = self.get(id).is_ok_and(|socket| socket.options.freebind);
        own || address.is_unspecified()
            || self.is_ours(address)
            || self.sysctls.nonlocal_bind(address.is_v4())
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
}

/// What `bind` takes an address for. `AF_UNSPEC` with "any" is the old way to say "any" to an IPv4
/// socket.
fn bind_endpoint(domain: Domain, address: SocketAddress) -> Result<Endpoint, Errno> {
    const { assert!(AF_UNSPEC == 0) };
    match (domain, address) {
        (Domain::V4, SocketAddress::Unspecified) => Ok(Endpoint::new(domain.any(), 0)),
        _ => {
            let endpoint = address.endpoint(domain)?;
            // Linux lets an IPv4 stream be bound to a group, which nobody can connect to.
            if endpoint.address.is_multicast() || endpoint.address.is_broadcast() {
                return Err(if domain == Domain::V6 && !endpoint.address.is_v4() {
                    Errno::EINVAL
                } else {
                    Errno::EADDRNOTAVAIL
                });
            }
            Ok(endpoint)
        }
    }
}

/// Whether a link-local address lacks the interface that it is one of.
pub(crate) fn lacks_scope(address: SocketAddress, endpoint: &Endpoint) -> bool {
    let scope = match address {
        SocketAddress::V6 { scope_id, .. } => scope_id,
        SocketAddress::V4 { .. } | SocketAddress::Unspecified | SocketAddress::Other(_) => 0,
    };
    endpoint.address.is_link_local_v6() && scope == 0
}
