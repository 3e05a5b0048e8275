//! `connect` and its opposite, `connect` to `AF_UNSPEC`.
//!
//! Linux: `__inet_stream_connect` for the socket's part, `tcp_v4_connect` and `tcp_v6_connect` for
//! the connection's.

use millrace_base::{Address, Endpoint, FlowTuple};
use millrace_stack::{ConnectError, State};

use crate::address::{Domain, SocketAddress};
use crate::bind::lacks_scope;
use crate::call::Reply;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::EPOLLERR;
use crate::news::ANYTHING;
use crate::ports::Via;
use crate::socket::Association;
use crate::sockets::{Sockets, is_opening};

impl Sockets {
    /// The first part of `connect`: everything that does not wait. `None` when the connection is on
    /// its way.
    pub(crate) fn begin_connect(
        &mut self,
        id: SocketId,
        address: SocketAddress,
    ) -> Option<Result<Reply, Errno>> {
        if address == SocketAddress::Unspecified {
            self.disconnect(id);
            self.note_disconnect(id);
            return Some(Ok(Reply::Done));
        }
        let association = match self.get(id) {
            Ok(socket) => socket.association,
            Err(error) => return Some(Err(error)),
        };
        match association {
            Association::Connected => Some(Err(Errno::EISCONN)),
            Association::Disconnecting => Some(Err(Errno::EINVAL)),
            Association::Connecting if self.is_deferred(id) => Some(Err(Errno::EISCONN)),
            Association::Connecting if is_opening(self.state(id)) => Some(Err(Errno::EALREADY)),
            Association::Connecting => self.finish_connect(id),
            Association::Unconnected if self.state(id) != State::Closed => {
                Some(Err(Errno::EISCONN))
            }
            Association::Unconnected => self.open(id, address),
        }
    }

    /// The second part: the end of a connection attempt; `None` while it is on its way.
    pub(crate) fn finish_connect(&mut self, id: SocketId) -> Option<Result<Reply, Errno>> {
        let state = self.state(id);
        if is_opening(state) {
            return None;
        }
        let socket = self.sockets.get_mut(&id)?;
        if state == State::Closed {
            let error = socket.take_error();
            self.forget_association(id);
            self.note_disconnect(id);
            return Some(Err(error.unwrap_or(Errno::ECONNABORTED)));
        }
        socket.association = Association::Connected;
        Some(Ok(Reply::Done))
    }

    /// Dissolves the association (`tcp_disconnect`): a RST where the peer must know.
    pub(crate) fn disconnect(&mut self, id: SocketId) {
        let state = self.state(id);
        if state == State::Listen {
            self.stop_listening(id);
        }
        let dropped = !matches!(state, State::Closed | State::Listen);
        let error = dropped.then_some(Errno::ECONNRESET);
        if let Some(flow) = self.let_go(id) {
            if state == State::SynSent {
                self.stack.close(self.now, flow);
            } else {
                self.stack.abort(self.now, flow);
            }
        }
        self.forget_association(id);
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.error = error;
        }
        if error.is_some() {
            self.wake(id, EPOLLERR);
        }
        self.wake(id, ANYTHING);
        self.publish_addresses();
    }

    /// Calls that sleep on the socket are about a connection that is no more (`sk_disconnects`).
    fn note_disconnect(&mut self, id: SocketId) {
        if let Ok(socket) = self.get_mut(id) {
            socket.disconnects = socket.disconnects.wrapping_add(1);
        }
    }

    /// Sends the SYN, or leaves it to the first send.
    fn open(&mut self, id: SocketId, address: SocketAddress) -> Option<Result<Reply, Errno>> {
        let tuple = match self.choose_tuple(id, address) {
            Ok(tuple) => tuple,
            Err(error) => return Some(Err(error)),
        };
        if self.may_defer(id, &tuple) {
            let socket = self.sockets.get_mut(&id)?;
            socket.associate(&tuple);
            socket.fast_open.deferred = true;
            if socket.port_held.is_none() {
                self.hold_port(id, tuple.local.port, Via::Connect);
            }
            return Some(Ok(Reply::Done));
        }
        // A SYN that asks for a cookie, when there is none yet.
        let asks = self
            .get(id)
            .is_ok_and(|socket| socket.options.fastopen_connect);
        let data: &[u8] = &[];
        let opened = self.begin_opening(id, tuple, asks.then_some(data));
        opened.err().map(Err)
    }

    /// The ACK of the SYN-ACK waits for data to travel with: a write waits for the handshake, or
    /// `TCP_DEFER_ACCEPT` or `TCP_QUICKACK` say that there will be some (Linux:
    /// `tcp_rcv_synsent_state_process`).
    pub(crate) fn defer_third_ack(&mut self, id: SocketId) {
        if let Some(flow) = self.get(id).ok().and_then(|socket| socket.flow) {
            self.stack.set_quick_ack(self.now, flow, 0);
        }
    }

    /// Both ends of the connection that `connect` is to open.
    pub(crate) fn choose_tuple(
        &mut self,
        id: SocketId,
        address: SocketAddress,
    ) -> Result<FlowTuple, Errno> {
        let socket = self.get(id)?;
        let remote = address.endpoint(socket.domain)?;
        let remote = Endpoint::new(loopback_for_any(remote.address), remote.port);
        let own = socket.local.address;
        if socket.domain == Domain::V6 && remote.address.is_v4() {
            // Bound to an IPv6 address means IPv6 only.
            let is_v6_bound = !own.is_unspecified() && !own.is_v4();
            if socket.options.v6only || is_v6_bound {
                return Err(Errno::ENETUNREACH);
            }
        }
        if lacks_scope(address, &remote) {
            return Err(Errno::EINVAL);
        }
        // behaviour: A12-5 CON-6
        if remote.address.is_multicast() || remote.address.is_broadcast() {
            return Err(Errno::ENETUNREACH);
        }
        let local = self.source_address(id, remote.address)?;
        if self.get(id)?.options.dont_route && !self.is_neighbour(remote.address) {
            return Err(Errno::ENETUNREACH);
        }
        let port = match self.get(id)?.port_held {
            Some(port) => port,
            None => self.connect_port(id, local, remote)?,
        };
        Ok(FlowTuple {
            local: Endpoint::new(local, port),
            remote,
        })
    }

    /// Lets the stack open a connection; with Fast Open, if there is anything to send or to ask.
    /// Returns how many bytes the SYN carries.
    pub(crate) fn begin_opening(
        &mut self,
        id: SocketId,
        tuple: FlowTuple,
        fast: Option<&[u8]>,
    ) -> Result<usize, Errno> {
        let own = self.get(id)?.options.own_tunables(self.sysctls.of_route());
        let (now, own) = (self.now, own.as_ref());
        let opened = match fast {
            None => self
                .stack
                .connect_with(now, tuple, id.0, own)
                .map(|flow| (flow, 0)),
            Some(data) => {
                let request = self.fast_open_request(id, data);
                let Self { stack, pool, .. } = self;
                stack.connect_fast_open(now, tuple, id.0, (own, &request), pool)
            }
        };
        let (flow, taken) = opened.map_err(|error| match error {
            ConnectError::AddressInUse => Errno::EADDRNOTAVAIL,
            ConnectError::BadAddress | ConnectError::NoRoute => Errno::ENETUNREACH,
            ConnectError::TableFull => Errno::ENOBUFS,
        })?;
        let ip_id = self.rng.next_u64() as u16;
        let socket = self.get_mut(id)?;
        socket.associate(&tuple);
        socket.ip_id = ip_id;
        socket.flow = Some(flow);
        socket.error = None;
        self.flows.insert(tuple, id);
        if self.get(id)?.port_held.is_none() {
            self.hold_port(id, tuple.local.port, Via::Connect);
        }
        self.repair_connect(id);
        self.apply_options(id);
        if !self.publish_keys(id) {
            self.disconnect(id);
            return Err(Errno::ENOBUFS);
        }
        let options = &self.get(id)?.options;
        if options.defer_accept > 0 || options.acks_wait {
            self.defer_third_ack(id);
        }
        self.note_fast_open(id);
        Ok(taken)
    }

    /// Whether an address is in a subnet of ours.
    fn is_neighbour(&self, remote: Address) -> bool {
        self.config.addresses.iter().any(|(address, length)| {
            millrace_base::Prefix::new(*address, *length)
                .is_some_and(|prefix| prefix.contains(remote))
        })
    }

    /// The address a connection comes from: the bound one, else one of ours of the peer's family,
    /// in its subnet when there is one.
    fn source_address(&self, id: SocketId, remote: Address) -> Result<Address, Errno> {
        let bound = self.get(id)?.local.address;
        if !bound.is_unspecified() {
            if bound.is_v4() != remote.is_v4() {
                return Err(Errno::EAFNOSUPPORT);
            }
            return Ok(bound);
        }
        let ours = self.config.addresses.iter();
        let same: Vec<_> = ours
            .filter(|(address, _)| address.is_v4() == remote.is_v4())
            .collect();
        let near = same.iter().find(|(address, length)| {
            millrace_base::Prefix::new(*address, *length)
                .is_some_and(|prefix| prefix.contains(remote))
        });
        let chosen = near.or_else(|| same.first());
        chosen
            .map(|(address, _)| *address)
            .ok_or(Errno::ENETUNREACH)
    }
}

/// "Any" as a destination is this host (`tcp_v4_connect`, `tcp_v6_connect`).
fn loopback_for_any(address: Address) -> Address {
    if !address.is_unspecified() {
        address
    } else if address.is_v4() {
        Address::v4([127, 0, 0, 1])
    } else {
        Address::v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    }
}
