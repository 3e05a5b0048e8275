//! What a script runs against: system calls, a wire, a clock, and a few administrator's commands.
//!
//! The runner owns the time. It starts calls, hands packets in, takes packets out and moves the
//! clock from deadline to deadline; a kernel never waits for anything. Descriptors are the kernel's
//! own; the runner translates the script's. Numbers (levels, options, flags, errors) are Linux's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A stack with a face of system calls, in virtual time.
pub trait Kernel {
    /// The time since the kernel was made. Only [`Kernel::advance`] moves it.
    fn now(&self) -> Duration;

    /// Begins a call and runs it as far as it goes.
    fn start(&mut self, call: &Call) -> Progress;

    /// The outcome of a call that was pending, once.
    fn poll(&mut self, ticket: Ticket) -> Option<Outcome>;

    /// One IP packet arrives. `segment_bytes` is the size of the segments that it was made of when
    /// it is larger than the link's MTU; 0 where nobody said.
    fn deliver(&mut self, packet: &[u8], segment_bytes: u16);

    /// The next packet that has left, in order.
    fn take_packet(&mut self) -> Option<Departure>;

    /// When something will happen by itself, if ever. It may lie in the past.
    fn next_deadline(&self) -> Option<Duration>;

    /// Moves the clock to `to` (never back) and does what is due.
    fn advance(&mut self, to: Duration);

    /// Changes the kernel's surroundings, or asks about them.
    fn apply(&mut self, setting: &Setting) -> Applied;
}

/// Names a call that is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// How far a call came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To its end.
    Done(Outcome),
    /// It waits for packets or for time.
    Pending(Ticket),
}

/// A packet that left the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// When.
    pub at: Duration,
    /// The IP packet, checksums filled in. It may be larger than the MTU where the script lets the
    /// device cut segments.
    pub packet: Vec<u8>,
}

/// Where a call's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the caller says there are.
    pub bytes: usize,
    /// The pointer is `NULL`.
    pub is_null: bool,
}

/// Where a call's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Bytes(Vec<u8>),
    /// As many bytes at `NULL`.
    Null(usize),
}

/// A `sockaddr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4 or IPv6; an IPv4-mapped address is an IPv6 one.
    Ip(SocketAddr),
    /// A `sockaddr` of which only the family is set.
    Family(u16),
}

/// A `pollfd` without its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollEntry {
    /// The descriptor; a negative one is ignored.
    pub fd: i32,
    /// `POLL*`
    pub events: u16,
}

/// An `epoll_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollEvent {
    /// `EPOLL*`
    pub events: u32,
    /// The caller's mark.
    pub data: u64,
}

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `cmsg_level`
    pub level: i32,
    /// `cmsg_type`
    pub kind: i32,
    /// The bytes after the header, in the machine's order.
    pub data: Vec<u8>,
}

/// A system call. Members have the names of the manual pages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the manual pages say what the members are")]
pub enum Call {
    Socket {
        domain: i32,
        kind: i32,
        protocol: i32,
    },
    Bind {
        fd: i32,
        address: Address,
    },
    Listen {
        fd: i32,
        backlog: i32,
    },
    /// Answers [`Output::Peer`].
    Accept {
        fd: i32,
        flags: i32,
    },
    Connect {
        fd: i32,
        address: Address,
    },
    /// `read` and `readv`. Answers [`Output::Bytes`].
    Read {
        fd: i32,
        rooms: Vec<Room>,
    },
    /// `recv` and `recvfrom`. Answers [`Output::Bytes`].
    Receive {
        fd: i32,
        room: Room,
        flags: i32,
    },
    /// Answers [`Output::Message`]. `control_bytes` is the room for control messages.
    ReceiveMessage {
        fd: i32,
        rooms: Vec<Room>,
        control_bytes: usize,
        flags: i32,
    },
    /// `write` and `writev`.
    Write {
        fd: i32,
        pieces: Vec<Piece>,
    },
    /// `send` and `sendto`.
    Send {
        fd: i32,
        piece: Piece,
        flags: i32,
        to: Option<Address>,
    },
    SendMessage {
        fd: i32,
        pieces: Vec<Piece>,
        flags: i32,
        to: Option<Address>,
        control: Vec<Control>,
    },
    Fcntl {
        fd: i32,
        command: i32,
        argument: Option<i64>,
    },
    /// Answers [`Output::Value`] when an argument was given.
    Ioctl {
        fd: i32,
        request: u64,
        argument: Option<i32>,
    },
    Close {
        fd: i32,
    },
    Shutdown {
        fd: i32,
        how: i32,
    },
    /// Answers [`Output::Bytes`]: the option, cut to `room`.
    GetSockOpt {
        fd: i32,
        level: i32,
        name: i32,
        room: usize,
    },
    SetSockOpt {
        fd: i32,
        level: i32,
        name: i32,
        value: Vec<u8>,
    },
    /// Answers [`Output::Polled`]. Milliseconds; negative waits for ever.
    Poll {
        entries: Vec<PollEntry>,
        timeout_ms: i32,
    },
    EpollCreate {
        size: i32,
    },
    EpollControl {
        epoll: i32,
        operation: i32,
        fd: i32,
        event: Option<EpollEvent>,
    },
    /// Answers [`Output::Events`].
    EpollWait {
        epoll: i32,
        events_max: i32,
        timeout_ms: i32,
    },
    /// Answers [`Output::Pair`].
    Pipe,
    Splice {
        from: i32,
        to: i32,
        bytes: usize,
        flags: u32,
    },
    /// A file that a [`Setting::WriteFile`] made.
    Open {
        path: String,
        flags: i32,
    },
    SendFile {
        to: i32,
        from: i32,
        offset: Option<i64>,
        bytes: usize,
    },
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The return value; -1 is failure.
    pub result: i64,
    /// The error's number; 0 when there was none.
    pub errno: i32,
    /// What the call wrote into the caller's memory.
    pub output: Output,
}

impl Outcome {
    /// Success without output.
    #[must_use]
    pub const fn success(result: i64) -> Self {
        Self {
            result,
            errno: 0,
            output: Output::None,
        }
    }

    /// Failure.
    #[must_use]
    pub const fn failure(errno: i32) -> Self {
        Self {
            result: -1,
            errno,
            output: Output::None,
        }
    }
}

/// What a call wrote into the caller's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    None,
    /// What was read, or an option's value.
    Bytes(Vec<u8>),
    /// Who connected.
    Peer(SocketAddr),
    /// What `recvmsg` fills in.
    Message {
        /// The payload, all pieces in one.
        bytes: Vec<u8>,
        /// `msg_flags`
        flags: i32,
        /// In order.
        control: Vec<Control>,
    },
    /// `revents`, one per entry.
    Polled(Vec<u16>),
    /// What `epoll_wait` fills in.
    Events(Vec<EpollEvent>),
    /// Two descriptors.
    Pair(i32, i32),
    /// What an `ioctl` wrote.
    Value(i32),
}

/// The link and the addresses that the kernel is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The kernel's own address.
    pub local: IpAddr,
    /// The length of its subnet.
    pub prefix_bits: u8,
    /// The script's side, reached through the link.
    pub remote: IpAddr,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
}

/// An administrator's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `sysctl name=value`; names have dots.
    Tunable {
        /// As `net.ipv4.tcp_sack`.
        name: String,
        /// Fields are separated by single spaces.
        value: String,
        /// A kernel that lacks it is forgiven (`sysctl -e`).
        is_optional: bool,
    },
    /// A parameter of a kernel module, as cubic's `hystart_detect`.
    ModuleParameter {
        /// As `tcp_cubic`.
        module: String,
        /// The parameter.
        name: String,
        /// The value.
        value: String,
    },
    /// The queueing discipline of the link: `fq` paces, `pfifo` does not.
    Discipline(String),
    /// Forget what was learned about peers.
    FlushMetrics,
    /// Properties of the route to the script's side; what is not said is the default again.
    Route {
        /// `advmss`
        advertised_mss: Option<u16>,
        /// `mtu`
        mtu: Option<u16>,
        /// `mtu lock`
        is_mtu_locked: bool,
        /// `initcwnd`, in segments.
        initial_window: Option<u32>,
        /// `initrwnd`, in segments.
        initial_receive_window: Option<u32>,
        /// `rto_min`, in milliseconds.
        rto_min_ms: Option<u32>,
        /// `window`, in bytes.
        window: Option<u32>,
        /// `quickack`
        is_quick_ack: bool,
        /// `features ecn`
        is_ecn: bool,
    },
    /// What the link's device takes over, as `ethtool -K` names it: `tso`, `gso`.
    Offload {
        /// The feature.
        feature: String,
        /// On or off.
        is_on: bool,
    },
    /// A file of so many zero bytes.
    WriteFile {
        /// Where.
        path: String,
        /// Its length.
        bytes: usize,
    },
    /// Remove a file; one that does not exist is removed already.
    RemoveFile(String),
    /// Is there a listening socket on this port?
    HasListener(u16),
    /// Remember all counters.
    MarkCounters,
    /// Has this counter grown since the mark (or the start)? Moves the mark.
    HasGrown(String),
}

/// What became of a [`Setting`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Done; or the answer is yes.
    Yes,
    /// The answer is no; or the kernel has no such thing.
    No(String),
}
