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

/// What of `Meta` stays while a connection is at rest, and whether it has ended meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flags(u8);

impl Flags {
    const END_TOLD: u8 = 1;
    const ESTABLISHED: u8 = 1 << 1;
    const OVER: u8 = 1 << 2;

    /// The connection ended although it could not be put to work: its last event waits.
    pub(crate) const fn is_over(self) -> bool {
        self.0 & Self::OVER != 0
    }

    /// It ended.
    pub(crate) const fn end(&mut self) {
        self.0 |= Self::OVER;
    }
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

    /// The same for a connection that has rested.
    pub(crate) const fn after_rest(
        user: u64,
        listener: ListenerNumber,
        hop: HopCache,
        flags: Flags,
    ) -> Self {
        Self {
            user,
            listener: listener.0,
            hop,
            news: Ready::NONE,
            in_backlog: false,
            orphan: false,
            over: flags.is_over(),
            end_told: flags.0 & Flags::END_TOLD != 0,
            in_order: false,
            established: flags.0 & Flags::ESTABLISHED != 0,
            blocked_since: Stamp::NEVER,
        }
    }

    /// What has to stay of a connection at rest beside `user`, the listener and the route; `None` when
    /// it is not.
    pub(crate) fn at_rest(&self) -> Option<Flags> {
        let Self {
            user: _,
            listener: _,
            hop,
            news,
            in_backlog,
            orphan,
            over,
            end_told,
            in_order,
            established,
            blocked_since,
        } = *self;
        let is_busy = in_backlog || orphan || over || in_order || hop.is_empty();
        if is_busy || !news.is_empty() || !blocked_since.is_never() {
            return None;
        }
        let told = if end_told { Flags::END_TOLD } else { 0 };
        let counted = if established { Flags::ESTABLISHED } else { 0 };
        Some(Flags(told | counted))
    }

    /// Who accepted it; `None` for connections of our own.
    pub(crate) fn listener(&self) -> Option<ListenerId> {
        self.listener_number().id()
    }

    /// The same, to be kept.
    pub(crate) fn listener_number(&self) -> ListenerNumber {
        ListenerNumber(self.listener)
    }
}

/// The number of a listener in two bytes, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ListenerNumber(u16);

impl ListenerNumber {
    /// The listener, if there is one.
    pub(crate) fn id(self) -> Option<ListenerId> {
        (self.0 != NO_LISTENER).then_some(ListenerId::new(self.0))
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
