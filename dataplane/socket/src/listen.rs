//! `listen`, the accept queue, `accept`, and which listener a connection is for.
//!
//! The stack knows listeners as rows of an address and a port, one for each socket. Sockets that
//! share a place (`SO_REUSEPORT`) have rows of one place, among which the stack chooses by the hash
//! of the tuple: each has a backlog of its own, and a SYN that its listener has no room for is
//! dropped although another has. A socket may have two rows: an IPv6 one bound to no address also
//! takes IPv4, unless a socket of IPv4 is there.

use std::collections::BTreeMap;

use millrace_base::{Address, ListenerId};
use millrace_stack::{Event, ListenOptions, Listener, State, limits::LISTENERS_MAX};

use crate::address::{Domain, SocketAddress};
use crate::call::Reply;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{SOCK_CLOEXEC, SOCK_NONBLOCK};
use crate::news::DATA_READY;
use crate::ports::Via;
use crate::signals::{Band, Unless};
use crate::signing::SigningKeys;
use crate::socket::{Association, Listening, Socket};
use crate::sockets::Sockets;

/// What waits at a listening socket (Linux: `request_sock_queue` and `sk_ack_backlog`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ListenQueue {
    /// Peers whose SYN was answered.
    pub half_open: u32,
    /// Of these, those that were answered once only.
    pub young: u32,
    /// Connections that `accept` may take.
    pub completed: u32,
    /// How many of either there may be; one more may be completed.
    pub backlog: u32,
}

/// The rows of the stack's listener table.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    by_place: BTreeMap<Place, ListenerId>,
}

/// Whose row, and where it listens.
type Place = (Address, u16, SocketId);

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
        let port = socket.port_held.unwrap_or(0);
        self.listen_fast(id, backlog);
        let socket = self.get_mut(id)?;
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
        // Without its keys it would take what is not signed.
        if !self.publish_keys(id) {
            self.stop_listening(id);
            return Err(Errno::ENOBUFS);
        }
        Ok(())
    }

    /// What waits at a listening socket; `None` for any other descriptor.
    pub fn listen_queue(&self, fd: i32) -> Option<ListenQueue> {
        let id = self.files.socket(fd).ok()?;
        let backlog = self.get(id).ok()?.listening.as_ref()?.backlog;
        let mut queue = ListenQueue {
            backlog,
            ..ListenQueue::default()
        };
        for row in self.rows.of(id) {
            let (half_open, young, completed) = self.stack.listener_queue(row);
            queue.half_open += half_open;
            queue.young += young;
            queue.completed += completed;
        }
        Some(queue)
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
        let listener = event.listener.and_then(|row| self.rows.socket(row));
        let Some(parent) = listener.and_then(|id| self.sockets.get(&id)) else {
            // The last socket of the row was closed a moment ago (behaviour: STA-39).
            self.stack.abort(self.now, event.flow);
            return;
        };
        let mut child = Socket::new(parent.domain, parent.options.inherited());
        let key = self.stack.signing_key(event.flow);
        child.options.signing = SigningKeys::of_child(info.tuple.remote.address, key);
        child.association = Association::Connected;
        child.local = info.tuple.local;
        child.remote = Some(info.tuple.remote);
        child.flow = Some(event.flow);
        // The SYN, and the segment that completed the handshake.
        child.traffic.segments_in = 1 + u32::from(info.state != State::SynReceived);
        child.receive_base = self.take_receive_base(&info.tuple);
        let in_syn = info.bytes_received > 0;
        child.traffic.data_segments_in = u32::from(in_syn);
        child.traffic.data_at = in_syn.then_some(self.now);
        child.saved_syn = self.syns.remove(&info.tuple);
        self.take_syn_looks(&info.tuple, &mut child);
        child.ip_id = self.rng.next_u64() as u16;
        let id = self.add_socket(child);
        self.hold_port(id, info.tuple.local.port, Via::Listener);
        self.flows.insert(info.tuple, id);
        self.stack.set_user(event.flow, id.0);
        self.apply_options(id);
        self.reserve_for_ip_options(id);
        self.expand_send_buffer(id);
        self.note_fast_open(id);
        self.on_event(id, event);
        if let Some(listener) = listener {
            self.enqueue(listener, id);
        }
    }

    /// A connection joins the accept queue.
    fn enqueue(&mut self, listener: SocketId, child: SocketId) {
        let parent = self.sockets.get_mut(&listener);
        let Some(listening) = parent.and_then(|parent| parent.listening.as_mut()) else {
            return;
        };
        listening.queue.push_back(child);
        self.wake(listener, DATA_READY);
        self.wake_async(listener, Band::In, Unless::SomebodyReads);
    }

    /// The socket listens no more: what waits in its queue is reset (behaviour: STA-22 STA-39).
    pub(crate) fn stop_listening(&mut self, id: SocketId) {
        let listening = self.sockets.get_mut(&id).and_then(|s| s.listening.take());
        self.publish_rows();
        let Some(listening) = listening else { return };
        for child in listening.queue {
            if let Some(flow) = self.let_go(child) {
                self.stack.abort(self.now, flow);
            }
            self.release_port(child);
            self.sockets.remove(&child);
        }
    }

    /// Tells the stack who listens where.
    pub(crate) fn publish_rows(&mut self) {
        let mut places: BTreeMap<Place, u32> = BTreeMap::new();
        for (id, socket) in &self.sockets {
            let Some(listening) = &socket.listening else {
                continue;
            };
            for address in self.addresses_of(socket) {
                places.insert((address, socket.local.port, *id), listening.backlog);
            }
        }
        for gone in self.rows.replace(&places) {
            self.stack.set_listener_keys(gone, &[]);
        }
        let rows = self.rows.by_place.iter();
        let listeners: Vec<Listener> = rows
            .map(|(place, id)| Listener {
                id: *id,
                address: place.0,
                port_first: place.1,
                port_last: place.1,
                options: self.listen_options(place.2, places.get(place).copied()),
            })
            .collect();
        self.stack.set_listeners(&listeners);
        self.publish_row_tunables();
        for owner in places.keys().map(|(_, _, owner)| *owner) {
            self.publish_keys(owner);
        }
    }

    /// Tells the stack by which knobs connections of each row begin.
    pub(crate) fn publish_row_tunables(&mut self) {
        let common = self.sysctls.of_route();
        for ((_, _, owner), row) in &self.rows.by_place {
            let socket = self.sockets.get(owner);
            let own = socket.and_then(|socket| socket.options.own_tunables(common));
            self.stack.set_listener_tunables(*row, own);
        }
    }

    /// The addresses of a listening socket's rows. A wildcard of IPv4 goes to the sockets of that
    /// family where there are any (`compute_score`).
    fn addresses_of(&self, socket: &Socket) -> Vec<Address> {
        let (address, port) = (socket.local.address, socket.local.port);
        if address != Address::UNSPECIFIED_V6 || !socket.is_dual() {
            return vec![address];
        }
        let any_v4 = |other: &Socket| {
            let local = other.local;
            other.listening.is_some()
                && other.domain == Domain::V4
                && (local.address, local.port) == (Address::UNSPECIFIED_V4, port)
        };
        if self.sockets.values().any(any_v4) {
            vec![address]
        } else {
            vec![address, Address::UNSPECIFIED_V4]
        }
    }

    /// How the stack treats those who come to a socket.
    fn listen_options(&self, id: SocketId, backlog: Option<u32>) -> ListenOptions {
        let options = self.sockets.get(&id).map(|socket| &socket.options);
        ListenOptions {
            backlog: backlog.unwrap_or(0),
            defer_accept: options.map_or(0, |options| options.defer_accept),
            syn_retries: options.map_or(0, |options| options.syn_count),
            fastopen: self.fast_listen_of(id),
            ..ListenOptions::default()
        }
    }

    fn hand_over(&mut self, child: SocketId, flags: i32) -> Result<Reply, Errno> {
        let fd = self.open_socket(child, flags)?;
        let socket = self.get(child)?;
        let peer = socket.remote.map_or(SocketAddress::Unspecified, |remote| {
            SocketAddress::of(remote, socket.domain)
        });
        Ok(Reply::Accepted { fd, peer })
    }
}

impl Rows {
    /// The socket of a row.
    fn socket(&self, row: ListenerId) -> Option<SocketId> {
        let mut rows = self.by_place.iter();
        rows.find(|(_, id)| **id == row).map(|(place, _)| place.2)
    }

    /// The rows of a socket.
    pub(crate) fn of(&self, socket: SocketId) -> impl Iterator<Item = ListenerId> {
        let rows = self.by_place.iter();
        rows.filter(move |(place, _)| place.2 == socket)
            .map(|(_, id)| *id)
    }

    /// Takes the new table; a row that stays keeps its number. Returns the numbers of those that do
    /// not.
    fn replace(&mut self, places: &BTreeMap<Place, u32>) -> Vec<ListenerId> {
        let stays = |place: &Place| places.contains_key(place);
        let rows = self.by_place.iter();
        let gone = rows.filter(|(place, _)| !stays(place)).map(|(_, id)| *id);
        let gone = gone.collect();
        self.by_place.retain(|place, _| stays(place));
        for place in places.keys() {
            if !self.by_place.contains_key(place)
                && let Some(id) = self.free_id()
            {
                self.by_place.insert(*place, id);
            }
        }
        gone
    }

    fn free_id(&self) -> Option<ListenerId> {
        let taken = |number: &u16| self.by_place.values().any(|id| id.number() == *number);
        (0..LISTENERS_MAX as u16)
            .find(|number| !taken(number))
            .map(ListenerId::new)
    }
}
