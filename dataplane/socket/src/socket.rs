//! One socket: what the program has set, what it is bound and connected to, and what waits for it.
//!
//! The connection itself is the stack's; here is what Linux keeps in `struct socket` and in the
//! upper half of `struct sock`.

use std::collections::VecDeque;

use millrace_base::{Endpoint, FlowTuple};
use millrace_stack::FlowId;

use crate::address::Domain;
use crate::call::Received;
use crate::epoll::Watch;
use crate::errno::Errno;
use crate::fastopen::FastOpen;
use crate::file::SocketId;
use crate::options::Options;
use crate::outbox::Outbox;
use crate::traffic::Traffic;
use crate::urgent::{ReceiveBase, Urgent};

/// Entries of an error queue that wait to be read (Linux bounds them by receive memory).
pub(crate) const ERROR_QUEUE_MAX: usize = 1_024;

/// Linux's `socket_state`, kept apart from the state of the connection (behaviour: SOK-18).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Association {
    Unconnected,
    Connecting,
    Connected,
    Disconnecting,
}

/// What a listening socket has.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    /// What `listen` said, cut to `somaxconn`.
    pub(crate) backlog: u32,
    /// Completed connections, oldest first (the accept queue).
    pub(crate) queue: VecDeque<SocketId>,
}

/// A part of the byte stream that Linux would keep in one `sk_buff`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Buffer {
    /// Bytes written before it.
    pub(crate) start: u64,
    /// Bytes written up to its end.
    pub(crate) end: u64,
    /// A record ends here (`MSG_EOR`): nothing is added.
    pub(crate) ends_record: bool,
}

/// Which halves are shut.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Shut {
    /// `RCV_SHUTDOWN`.
    pub(crate) receive: bool,
    /// `SEND_SHUTDOWN`.
    pub(crate) send: bool,
}

impl Shut {
    /// Both halves.
    pub(crate) const BOTH: Self = Self {
        receive: true,
        send: true,
    };
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) domain: Domain,
    pub(crate) association: Association,
    /// The local end; the address is unspecified and the port 0 while there is none.
    pub(crate) local: Endpoint,
    /// `bind` chose the address, and `bind` chose the port: they survive a disconnect.
    pub(crate) address_locked: bool,
    pub(crate) port_locked: bool,
    /// The port whose bucket the socket is in (`inet_num`), and whether `connect` chose it.
    pub(crate) port_held: Option<u16>,
    pub(crate) port_by_connect: bool,
    /// Times the association was dissolved: calls that have slept through it do not go on.
    pub(crate) disconnects: u32,
    pub(crate) remote: Option<Endpoint>,
    pub(crate) listening: Option<Listening>,
    pub(crate) flow: Option<FlowId>,
    /// `sk_err`: reported once.
    pub(crate) error: Option<Errno>,
    /// `sk_err_soft`: what ICMP said of a connection that goes on; the reason, should it time out.
    pub(crate) soft_error: Option<crate::icmp::SoftError>,
    pub(crate) shut: Shut,
    /// The peer's FIN was received in order (`SOCK_DONE`).
    pub(crate) done: bool,
    pub(crate) options: Options,
    /// The error queue: time stamps and zero-copy notices.
    pub(crate) error_queue: VecDeque<Received>,
    /// Who is told of changes.
    pub(crate) watches: Vec<Watch>,
    /// Somebody was told that there is no room to send (`SOCK_NOSPACE`).
    pub(crate) no_space: bool,
    /// What waits here before the stack gets it, and why.
    pub(crate) outbox: Outbox,
    pub(crate) fast_open: FastOpen,
    /// Bytes taken from the program so far, corked ones included.
    pub(crate) written: u64,
    /// The bytes that are not acknowledged, as Linux would have them in `sk_buff`s.
    pub(crate) buffers: VecDeque<Buffer>,
    /// The peer's urgent byte, and where ours is: bytes written up to behind it.
    pub(crate) urgent: Option<Urgent>,
    pub(crate) urgent_end: u64,
    /// What the peer's sequence numbers mean.
    pub(crate) receive_base: Option<ReceiveBase>,
    /// When the unread part of the stream came, oldest first, for who wants to know.
    pub(crate) arrivals: VecDeque<crate::control::Arrival>,
    /// Up to where that was looked at.
    pub(crate) stamped_to: u64,
    /// `TCP_REPAIR`.
    pub(crate) repair: crate::repair::Repair,
    /// Time stamps that the message under way asks for instead of the socket's.
    pub(crate) message_stamps: Option<i32>,
    /// The headers of the SYN that began it (`TCP_SAVED_SYN`).
    pub(crate) saved_syn: Option<Vec<u8>>,
    /// The identification of its next IPv4 packet.
    pub(crate) ip_id: u16,
    /// Segments that have come and gone.
    pub(crate) traffic: Traffic,
    /// What held the connection up, and for how long.
    pub(crate) chrono: crate::chrono::Chrono,
    pub(crate) rate: crate::rate::DeliveryRate,
    /// Who waits for sent bytes to be acknowledged or to leave, oldest first.
    pub(crate) marks: VecDeque<crate::notice::Mark>,
    /// What the marks and `SO_ZEROCOPY` count.
    pub(crate) counters: crate::notice::Counters,
}

impl Socket {
    /// What `socket` makes.
    pub(crate) fn new(domain: Domain, options: Options) -> Self {
        Self {
            domain,
            association: Association::Unconnected,
            local: Endpoint::new(domain.any(), 0),
            address_locked: false,
            port_locked: false,
            port_held: None,
            port_by_connect: false,
            disconnects: 0,
            remote: None,
            listening: None,
            flow: None,
            error: None,
            soft_error: None,
            shut: Shut::default(),
            done: false,
            options,
            error_queue: VecDeque::new(),
            watches: Vec::new(),
            no_space: false,
            outbox: Outbox::default(),
            fast_open: FastOpen::default(),
            written: 0,
            buffers: VecDeque::new(),
            urgent: None,
            urgent_end: 0,
            receive_base: None,
            arrivals: VecDeque::new(),
            stamped_to: 0,
            repair: crate::repair::Repair::default(),
            message_stamps: None,
            saved_syn: None,
            ip_id: 0,
            traffic: Traffic::default(),
            chrono: crate::chrono::Chrono::default(),
            rate: crate::rate::DeliveryRate::default(),
            marks: VecDeque::new(),
            counters: crate::notice::Counters::default(),
        }
    }

    /// A connection to somebody begins.
    pub(crate) fn associate(&mut self, tuple: &FlowTuple) {
        self.local = tuple.local;
        self.remote = Some(tuple.remote);
        self.association = Association::Connecting;
        self.shut = Shut::default();
        self.done = false;
    }

    /// Takes the pending error (`sock_error`).
    pub(crate) const fn take_error(&mut self) -> Option<Errno> {
        self.error.take()
    }

    /// Whether the socket also speaks IPv4 when it is not bound to an address.
    pub(crate) fn is_dual(&self) -> bool {
        self.domain == Domain::V6 && !self.options.v6only
    }
}
