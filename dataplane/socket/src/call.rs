//! The calls that may block, their arguments and what they return.
//!
//! `Sockets::start` runs a call as far as it goes. A call on a non-blocking file never waits; one
//! that has to becomes a `CallId`, and `Sockets::poll_finished` tells the end of it. So virtual time
//! can run while a program "sleeps", and one thread can have many calls open. Calls that never
//! block are methods of `Sockets`.

use crate::address::{SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES, SocketAddress};
use crate::errno::Errno;
use crate::linux::{SO_TIMESTAMPING, SOL_IP, SOL_SOCKET, SOL_TCP, TCP_CM_INQ};

/// Names a call that has not finished.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub(crate) u64);

/// How far a call came.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a call that waits has an id, and one that is done a result"]
pub enum Progress {
    /// It is done.
    Ready(Result<Reply, Errno>),
    /// It waits; `poll_finished` will name it.
    Pending(CallId),
}

/// A call that may block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// `accept4`. Replies `Accepted`.
    Accept {
        /// A listening socket.
        fd: i32,
        /// `SOCK_NONBLOCK`, `SOCK_CLOEXEC`.
        flags: i32,
    },
    /// `connect`. Replies `Done`.
    Connect {
        /// A socket.
        fd: i32,
        /// The peer, or `Unspecified` to disconnect.
        address: SocketAddress,
    },
    /// `read`. Replies `Received`.
    Read {
        /// A socket or the reading end of a pipe.
        fd: i32,
        /// Bytes there is room for.
        len: usize,
    },
    /// `write`, `writev` (all pieces in one). Replies `Count`.
    Write {
        /// A socket or the writing end of a pipe.
        fd: i32,
        /// What to write.
        data: Vec<u8>,
    },
    /// `recv`, `recvfrom`, `recvmsg`. Replies `Received`.
    Receive {
        /// A socket.
        fd: i32,
        /// Bytes there is room for.
        len: usize,
        /// Bytes there is room for in `msg_control`; 0 when the caller wants none.
        control_len: usize,
        /// `MSG_*`.
        flags: i32,
    },
    /// `send`, `sendto`. Replies `Count`.
    Send {
        /// A socket.
        fd: i32,
        /// What to send; all pieces in one.
        data: Vec<u8>,
        /// `MSG_*`.
        flags: i32,
        /// `msg_name`.
        address: Option<SocketAddress>,
    },
    /// `sendmsg` with its pieces apart: what `Send` does, and a zero-copy send shows how many there
    /// were. Replies `Count`.
    SendMessage {
        /// A socket.
        fd: i32,
        /// What to send.
        pieces: Vec<Vec<u8>>,
        /// `MSG_*`.
        flags: i32,
        /// `msg_name`.
        address: Option<SocketAddress>,
        /// `msg_control`: `Control::Data` of `SOL_SOCKET` counts (`SO_TIMESTAMPING`, `SO_MARK`).
        control: Vec<Control>,
    },
    /// `close`. Replies `Done`; waits only with `SO_LINGER`.
    Close {
        /// Any descriptor.
        fd: i32,
    },
    /// `poll`. Replies `Polled`.
    Poll {
        /// What is waited for; negative descriptors are ignored.
        fds: Vec<PollFd>,
        /// Milliseconds; negative is for ever.
        timeout_ms: i32,
    },
    /// `epoll_wait`. Replies `Events`.
    EpollWait {
        /// An epoll descriptor.
        fd: i32,
        /// Events there is room for, 1...
        events_max: i32,
        /// Milliseconds; negative is for ever.
        timeout_ms: i32,
    },
    /// `splice`. Replies `Count`.
    Splice {
        /// Where bytes come from: a socket or the reading end of a pipe.
        from: i32,
        /// Where they go: the writing end of a pipe or a socket. One of the two is a pipe.
        to: i32,
        /// Bytes at most.
        len: usize,
        /// `SPLICE_F_*`.
        flags: i32,
    },
}

/// What a call returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// 0.
    Done,
    /// A new descriptor and the address of the peer.
    Accepted {
        /// The descriptor.
        fd: i32,
        /// The peer.
        peer: SocketAddress,
    },
    /// Bytes taken.
    Count(usize),
    /// Bytes received.
    Received(Received),
    /// The descriptors with their `revents`; the call returns how many of these are not 0.
    Polled(Vec<PollFd>),
    /// The events; the call returns how many.
    Events(Vec<EpollEvent>),
}

impl Reply {
    /// What the system call returns: 0, a descriptor or a count.
    pub fn value(&self) -> i64 {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        match self {
            Self::Done => 0,
            Self::Accepted { fd, .. } => i64::from(*fd),
            Self::Count(bytes) => count(*bytes),
            Self::Received(received) => count(received.count),
            Self::Polled(fds) => count(fds.iter().filter(|fd| fd.revents != 0).count()),
            Self::Events(events) => count(events.len()),
        }
    }
}

/// What a receive call got.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// The bytes; empty although `count` is not when `MSG_TRUNC` threw them away.
    pub bytes: Vec<u8>,
    /// What the call returns.
    pub count: usize,
    /// `msg_flags`.
    pub flags: i32,
    /// `msg_name`; a stream has none.
    pub address: Option<SocketAddress>,
    /// Control messages, in order.
    pub control: Vec<Control>,
}

/// One control message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// `SOL_TCP`, `TCP_CM_INQ`: bytes that were left unread.
    Inq(i32),
    /// `SOL_SOCKET`, `SCM_TIMESTAMPING`: software, deprecated and hardware time, each in nanoseconds
    /// of the time that was passed in; 0 is none.
    Timestamping([u64; 3]),
    /// `SOL_IP`, `IP_RECVERR` or `SOL_IPV6`, `IPV6_RECVERR`: an entry of the error queue.
    Error {
        /// `SOL_IP` or `SOL_IPV6`.
        level: i32,
        /// `IP_RECVERR` or `IPV6_RECVERR`.
        kind: i32,
        /// The entry.
        error: ExtendedError,
    },
    /// Any other message, its bytes as the C structure has them.
    Data {
        /// `cmsg_level`.
        level: i32,
        /// `cmsg_type`.
        kind: i32,
        /// What follows the header.
        bytes: Vec<u8>,
    },
}

impl Control {
    /// `cmsg_level`, `cmsg_type` and the data behind the header, in the layout of Linux on 64-bit
    /// machines.
    pub fn parts(&self) -> (i32, i32, Vec<u8>) {
        match self.clone() {
            Self::Inq(left) => (SOL_TCP, TCP_CM_INQ, left.to_ne_bytes().to_vec()),
            Self::Timestamping(times) => {
                let words = times
                    .into_iter()
                    .flat_map(|nanos| [nanos / 1_000_000_000, nanos % 1_000_000_000]);
                let data = words.flat_map(u64::to_ne_bytes).collect();
                // `SCM_TIMESTAMPING` has the number of the option.
                (SOL_SOCKET, SO_TIMESTAMPING, data)
            }
            Self::Error { level, kind, error } => {
                let mut data = error.errno.to_ne_bytes().to_vec();
                data.extend([error.origin, error.kind, error.code, 0]);
                data.extend(error.info.to_ne_bytes());
                data.extend(error.data.to_ne_bytes());
                // The offender's address follows; a local origin has none.
                let address_bytes = if level == SOL_IP {
                    SOCKADDR_IN_BYTES
                } else {
                    SOCKADDR_IN6_BYTES
                };
                data.resize(data.len() + address_bytes, 0);
                (level, kind, data)
            }
            Self::Data { level, kind, bytes } => (level, kind, bytes),
        }
    }
}

/// A `sock_extended_err`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExtendedError {
    /// `ee_errno`.
    pub errno: u32,
    /// `ee_origin`: `SO_EE_ORIGIN_*`.
    pub origin: u8,
    /// `ee_type`.
    pub kind: u8,
    /// `ee_code`.
    pub code: u8,
    /// `ee_info`.
    pub info: u32,
    /// `ee_data`.
    pub data: u32,
}

/// A `pollfd`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollFd {
    /// The descriptor.
    pub fd: i32,
    /// What is asked for.
    pub events: u16,
    /// What was found.
    pub revents: u16,
}

/// An `epoll_event`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpollEvent {
    /// `EPOLL*`.
    pub events: u32,
    /// What the program wants to be told with it.
    pub data: u64,
}
