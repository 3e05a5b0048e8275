//! What the stack keeps of each connection beside the TCB, and what it tells of it.

use core::marker::PhantomData;

use millrace_base::{ListenerId, PacketBuf, PacketPool, Stamp};

use crate::flow::FlowId;
use crate::limits::LISTENERS_MAX;
use crate::network::HopCache;
use crate::tcp::{Connection, Ready};

/// One connection: the TCB and what the stack needs beside it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) connection: Connection,
    pub(crate) meta: Meta,
}

/// What the stack knows of a connection that the TCB does not.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
pub(crate) struct Meta {
    /// The application's number for it.
    pub(crate) user: u64,
    /// The number of the listener that accepted it, or `NO_LISTENER`.
    listener: u16,
    pub(crate) hop: HopCache,
    /// News not yet told.
    pub(crate) news: Ready,
    /// Counted in the backlog of its listener: its first event was not polled yet.
    pub(crate) in_backlog: bool,
    /// The application has let go of it: no more events, and its id finds nothing.
    pub(crate) orphan: bool,
    /// It ended, and its tuple belongs to nobody or to a TIME_WAIT record.
    pub(crate) over: bool,
    /// The application was told by `splice` or `receive` that nothing more will come.
    pub(crate) end_told: bool,
    /// It ended in order: the last event waits until the application was told the end of the
    /// stream.
    pub(crate) in_order: bool,
    /// Counted in `TcpCurrEstab`.
    pub(crate) established: bool,
    /// Since when output is impossible for want of a route or a neighbour; `NEVER` when it is not.
    pub(crate) blocked_since: Stamp,
}

const NO_LISTENER: u16 = u16::MAX;
const _: () = assert!(LISTENERS_MAX <= NO_LISTENER as usize);

impl Meta {
    /// `hop` is the way to the peer, as it was found when the handshake began.
    pub(crate) const fn new(user: u64, listener: Option<ListenerId>, hop: HopCache) -> Self {
        Self {
            user,
            listener: match listener {
                Some(listener) => listener.number(),
                None => NO_LISTENER,
            },
            hop,
            news: Ready::NONE,
            in_backlog: listener.is_some(),
            orphan: false,
            over: false,
            end_told: false,
            in_order: false,
            established: false,
            blocked_since: Stamp::NEVER,
        }
    }

    /// Who accepted it; `None` for connections of our own.
    pub(crate) fn listener(&self) -> Option<ListenerId> {
        (self.listener != NO_LISTENER).then_some(ListenerId::new(self.listener))
    }
}

/// News about one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The connection; with `CLOSED` the id is dead already.
    pub flow: FlowId,
    /// What `set_user` said.
    pub user: u64,
    /// Who accepted it; `None` for connections of our own.
    pub listener: Option<ListenerId>,
    /// What happened since the last event.
    pub ready: Ready,
}

/// Why `connect` refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectError {
    /// The tuple belongs to a connection, a half-open one or a TIME_WAIT record that must stay.
    AddressInUse,
    /// The local address is not ours, the families differ, or a port is 0.
    BadAddress,
    /// There is no route to the peer.
    NoRoute,
    /// The connection table is full.
    TableFull,
}

/// A pool that has nothing: for verbs that need no buffers.
#[derive(Debug)]
pub(crate) struct NoPool<B>(PhantomData<B>);

impl<B> NoPool<B> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<B: PacketBuf> PacketPool for NoPool<B> {
    type Buf = B;

    fn alloc(&mut self) -> Option<B> {
        None
    }

    fn view(&mut self, _of: &B, _offset: usize, _len: usize) -> Option<B> {
        None
    }

    fn available(&self) -> usize {
        0
    }
}
