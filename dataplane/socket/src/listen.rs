//! `listen`, the accept queue, `accept`, and which listener a connection is for.
//!
//! The stack knows listeners as rows of an address and a port. A row may have several sockets
//! (`SO_REUSEPORT`): a connection goes to the one its tuple's hash points at. A socket may have two
//! rows: an IPv6 one bound to no address also takes IPv4.

use std::collections::BTreeMap;

use millrace_base::{Address, FlowTuple, ListenerId};
use millrace_stack::{Event, ListenOptions, Listener, State, limits::LISTENERS_MAX};

use crate::address::SocketAddress;
use crate::call::Reply;
use crate::deferred::Deferred;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{SOCK_CLOEXEC, SOCK_NONBLOCK};
use crate::news::DATA_READY;
use crate::socket::{Association, Listening, Socket};
use crate::sockets::Sockets;

/// The rows of the stack's listener table.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    by_place: BTreeMap<(Address, u16), Row>,
}

#[derive(Debug)]
struct Row {
    id: ListenerId,
    sockets: Vec<SocketId>,
    backlog: u32,
}

impl Sockets {
    /// `listen`. On a socket that listens already only the backlog changes (behaviour: LSN-2).
    pub fn listen(
        &mut self,
        now: millrace_base::Instant,
        fd: i32,
        backlog: i32,
    ) -> Result<(), Errno> {
        self.step_to(now);
        let id = self.files.socket(fd)?;
        let state = self.state(id);
        // behaviour: LSN-1. Compared unsigned: -1 becomes the most there may be.
        let backlog = (backlog as u32).min(self.sysctls.somaxconn());
        let socket = self.get_mut(id)?;
        if socket.association != Association::Unconnected
            || !matches!(state, State::Closed | State::Listen)
        {
            return Err(Errno::EINVAL);
        }
        if let Some(listening) = &mut socket.listening {
            listening.backlog = backlog;
            self.publish_rows();
            return Ok(());
        }
        let port = socket.local.port;
        // Only who opens a connection chooses its congestion control.
        socket.options.congestion = None;
        socket.listening = Some(Listening {
            backlog,
            ..Listening::default()
        });
        // behaviour: LSN-3 LSN-4. Bound sockets that may share a port may not share listening on it.
        if let Err(error) = self.obtain_port(id, port) {
            self.get_mut(id)?.listening = None;
            return Err(error);
        }
        self.publish_rows();
        Ok(())
    }

    /// One attempt at `accept`; `None` while the queue is empty and there is time.
    pub(crate) fn try_accept(
        &mut self,
        id: SocketId,
        flags: i32,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        if flags & !(SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
            return Some(Err(Errno::EINVAL));
        }
        // The descriptor is reserved before the queue is looked at.
        if let Err(error) = self.files.check_room(1) {
            return Some(Err(error));
        }
        let Some(listening) = self.sockets.get_mut(&id).and_then(|s| s.listening.as_mut()) else {
            return Some(Err(Errno::EINVAL));
        };
        let Some(child) = listening.queue.pop_front() else {
            return last.then_some(Err(Errno::EAGAIN));
        };
        if let Some(flow) = self.sockets.get(&child).and_then(|child| child.flow) {
            self.stack.accept(flow);
        }
        Some(self.hand_over(child, flags))
    }

    /// A connection is complete: it joins the accept queue of its listener.
    pub(crate) fn on_accepted(&mut self, event: &Event) {
        let Some(info) = self.stack.info(event.flow) else {
            return;
        };
        let listener = event
            .listener
            .and_then(|row| self.choose_listener(row, &info.tuple));
        let Some(parent) = listener.and_then(|id| self.sockets.get(&id)) else {
            // The last socket of the row was closed a moment ago (behaviour: STA-39).
            self.stack.abort(self.now, event.flow);
            return;
        };
        let mut child = Socket::new(parent.domain, parent.options.inherited());
        child.association = Association::Connected;
        child.local = info.tuple.local;
        child.remote = Some(info.tuple.remote);
        child.flow = Some(event.flow);
        // The segment that completed the handshake.
        child.traffic.segments_in = 1;
        child.receive_base = self.take_receive_base(&info.tuple);
        child.saved_syn = self.syns.remove(&info.tuple);
        let id = self.add_socket(child);
        self.flows.insert(info.tuple, id);
        self.stack.set_user(event.flow, id.0);
        self.apply_options(id);
        self.expand_send_buffer(id);
        self.on_event(id, event);
        if let Some(listener) = listener {
            self.enqueue(listener, id);
        }
    }

    /// A connection joins the accept queue, or waits beside it.
    fn enqueue(&mut self, listener: SocketId, child: SocketId) {
        let deferral = self.deferral(listener, child);
        let parent = self.sockets.get_mut(&listener);
        let Some(listening) = parent.and_then(|parent| parent.listening.as_mut()) else {
            return;
        };
        if let Some(until) = deferral {
            listening.deferred.push(Deferred { child, until });
            return;
        }
        listening.queue.push_back(child);
        self.wake(listener, DATA_READY);
    }

    /// The socket listens no more: what waits in its queue is reset (behaviour: STA-22 STA-39).
    pub(crate) fn stop_listening(&mut self, id: SocketId) {
        let listening = self.sockets.get_mut(&id).and_then(|s| s.listening.take());
        self.publish_rows();
        let Some(listening) = listening else { return };
        let deferred = listening.deferred.iter().map(|one| one.child);
        for child in listening.queue.iter().copied().chain(deferred) {
            if let Some(flow) = self.let_go(child) {
                self.stack.abort(self.now, flow);
            }
            self.sockets.remove(&child);
        }
    }

    /// Tells the stack who listens where.
    pub(crate) fn publish_rows(&mut self) {
        let mut places: BTreeMap<(Address, u16), (Vec<SocketId>, u32)> = BTreeMap::new();
        for (id, socket) in &self.sockets {
            let Some(listening) = &socket.listening else {
                continue;
            };
            for address in addresses_of(socket) {
                let (sockets, backlog) = places.entry((address, socket.local.port)).or_default();
                sockets.push(*id);
                *backlog = backlog.saturating_add(listening.backlog);
            }
        }
        self.rows.replace(places);
        let rows = self.rows.by_place.iter();
        let listeners: Vec<Listener> = rows
            .map(|(&(address, port), row)| Listener {
                id: row.id,
                address,
                port_first: port,
                port_last: port,
                options: ListenOptions {
                    // The stack's half-open queue has the same bound and wants one at least.
                    backlog: row.backlog.max(1),
                },
            })
            .collect();
        self.stack.set_listeners(&listeners);
    }

    fn hand_over(&mut self, child: SocketId, flags: i32) -> Result<Reply, Errno> {
        let fd = self.open_socket(child, flags)?;
        let socket = self.get(child)?;
        let peer = socket.remote.map_or(SocketAddress::Unspecified, |remote| {
            SocketAddress::of(remote, socket.domain)
        });
        Ok(Reply::Accepted { fd, peer })
    }

    /// The socket of a row that a tuple belongs to (Linux: `reuseport_select_sock`).
    fn choose_listener(&self, row: ListenerId, tuple: &FlowTuple) -> Option<SocketId> {
        let mut rows = self.rows.by_place.values();
        let sockets = &rows.find(|found| found.id == row)?.sockets;
        let scaled = (u64::from(hash(tuple)) * sockets.len() as u64) >> 32;
        sockets.get(scaled as usize).copied()
    }
}

impl Rows {
    /// Takes the new table; a place that stays keeps its number.
    fn replace(&mut self, places: BTreeMap<(Address, u16), (Vec<SocketId>, u32)>) {
        self.by_place.retain(|place, _| places.contains_key(place));
        for (place, (sockets, backlog)) in places {
            let known = self.by_place.get(&place).map(|row| row.id);
            let Some(id) = known.or_else(|| self.free_id()) else {
                continue;
            };
            let row = Row {
                id,
                sockets,
                backlog,
            };
            self.by_place.insert(place, row);
        }
    }

    fn free_id(&self) -> Option<ListenerId> {
        let taken = |number: &u16| self.by_place.values().any(|row| row.id.number() == *number);
        (0..LISTENERS_MAX as u16)
            .find(|number| !taken(number))
            .map(ListenerId::new)
    }
}

/// The rows a listening socket needs.
fn addresses_of(socket: &Socket) -> Vec<Address> {
    let address = socket.local.address;
    if address == Address::UNSPECIFIED_V6 && socket.is_dual() {
        vec![address, Address::UNSPECIFIED_V4]
    } else {
        vec![address]
    }
}

/// Spreads tuples evenly; the same for the same tuple.
fn hash(tuple: &FlowTuple) -> u32 {
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    let ends = [tuple.local, tuple.remote];
    let words = ends.iter().flat_map(|end| {
        let address = u128::from_be_bytes(*end.address.octets());
        [address as u64, (address >> 64) as u64, u64::from(end.port)]
    });
    for word in words {
        hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
    }
    hash as u32
}
