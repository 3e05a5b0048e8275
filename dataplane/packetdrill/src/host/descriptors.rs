//! Calls that make, name and end sockets.

use libc::{c_int, socklen_t};
use millrace_base::Address;
use millrace_socket::{Call, Errno, Reply, SocketAddress};

use super::Host;
use crate::kernel;
use crate::layout;
use crate::memory::Place;

impl Host {
    pub(crate) fn socket(&self, domain: c_int, kind: c_int, protocol: c_int) -> Result<i64, Errno> {
        self.with(|state| {
            state.refresh_tunables();
            state.sockets().socket(domain, kind, protocol)
        })
        .map(opened)
    }

    pub(crate) fn bind(&self, fd: c_int, address: Place, len: socklen_t) -> Result<(), Errno> {
        let address = layout::address(address, len);
        self.with(|state| {
            let now = state.now;
            // The descriptor is looked at before the address.
            state.sockets().fcntl(fd, libc::F_GETFD, 0)?;
            let address = address?;
            if let Some(ours) = ip(address) {
                state.answer_to(ours);
            }
            state.sockets().bind(now, fd, address)
        })
    }

    pub(crate) fn listen(&self, fd: c_int, backlog: c_int) -> Result<(), Errno> {
        let port = self.with(|state| {
            let now = state.now;
            state.sockets().listen(now, fd, backlog)?;
            state.sockets().getsockname(fd).map(SocketAddress::port)
        })?;
        kernel::hold_port(fd, port);
        Ok(())
    }

    pub(crate) fn accept(&self, fd: c_int, address: Place, len: Place) -> Result<i64, Errno> {
        let reply = self.call(Call::Accept { fd, flags: 0 })?;
        let Reply::Accepted { fd, peer } = reply else {
            return Ok(reply.value());
        };
        let given = layout::give_address(&peer.to_bytes(), address, len);
        if let Err(error) = given {
            self.close(fd)?;
            return Err(error);
        }
        Ok(opened(fd))
    }

    pub(crate) fn connect(&self, fd: c_int, address: Place, len: socklen_t) -> Result<(), Errno> {
        self.with(|state| state.sockets().fcntl(fd, libc::F_GETFD, 0))?;
        let address = layout::address(address, len)?;
        self.note_family(address);
        self.call(Call::Connect { fd, address }).map(|_| ())
    }

    pub(crate) fn shutdown(&self, fd: c_int, how: c_int) -> Result<(), Errno> {
        self.with(|state| {
            let now = state.now;
            state.sockets().shutdown(now, fd, how)
        })
    }

    pub(crate) fn close(&self, fd: c_int) -> Result<(), Errno> {
        let is_open = self.with(|state| state.sockets().fcntl(fd, libc::F_GETFD, 0).is_ok());
        if is_open && fd >= super::FD_FIRST {
            kernel::close(fd);
        }
        self.call(Call::Close { fd }).map(|_| ())
    }

    pub(crate) fn pipe(&self, ends: Place) -> Result<(), Errno> {
        let (from, to) = self.with(|state| state.sockets().pipe(0))?;
        opened(from);
        opened(to);
        let mut bytes = from.to_ne_bytes().to_vec();
        bytes.extend(to.to_ne_bytes());
        ends.write(&bytes)
    }

    pub(crate) fn epoll_create(&self, size: c_int) -> Result<i64, Errno> {
        self.with(|state| state.sockets().epoll_create(size))
            .map(opened)
    }

    /// A connection over IPv6 has the link of that family's suite.
    pub(crate) fn note_family(&self, address: SocketAddress) {
        if ip(address).is_some_and(|address| !address.is_v4()) {
            self.with(|state| state.carry_ipv6());
        }
    }
}

/// Takes the number in the kernel's table too: a program may close it there.
pub(super) fn opened(fd: c_int) -> i64 {
    kernel::hold_descriptor(fd);
    i64::from(fd)
}

fn ip(address: SocketAddress) -> Option<Address> {
    match address {
        SocketAddress::V4 { address, .. } => Some(Address::v4(address)),
        SocketAddress::V6 { address, .. } => Some(Address::v6(address)),
        SocketAddress::Unspecified | SocketAddress::Other(_) => None,
    }
}
