//! The BSD face of the stack: sockets, in virtual or real time.
//!
//! [`Sockets`] is one host: a stack, a descriptor table, and everything a program could ask of a
//! TCP socket on Linux, with Linux's error numbers. It has no clock, no thread and no device. Time
//! is an argument and never goes back; packets are raw IP packets, handed in and taken out.
//!
//! ```text
//!   sockets.packet_in(now, &packet)          an IPv4 or IPv6 packet arrives
//!   sockets.advance(now)                     again at next_deadline()
//!   sockets.start(now, Call::Read { .. })    a call that may block: Ready or Pending
//!   sockets.poll_finished()                  a call that was pending is done
//!   sockets.packet_out()                     a packet that has left, and when
//! ```
//!
//! A blocking program in real time is a loop around these; a test or a script moves `now` by hand.
//! After each of the calls above everything that may leave has left.
//!
//! # Reading order
//!
//! `sockets` (the object and the wire), `file` (descriptors), `socket` (one socket), then one file
//! per call: `bind`, `listen`, `connect`, `send`, `receive`, `close`, `options`, `poll`, `epoll`,
//! `pipe`. Ports are in `ports` and `ephemeral`, owners of files in `signals`. What of a send leaves
//! when is in `buffers`, `outbox` and `push`. `call` says what blocks, and `pending` how.
//!
//! # What it does not do
//!
//! - Only TCP, and only to other hosts: no UDP, no loopback. A host has one link.
//! - `TCP_CONGESTION` knows `cubic`, `reno`, `bbr` and `dctcp`; any other name is `ENOENT`, as on a
//!   kernel without the module.
//! - TOS, TTL, the urgent pointer and Linux's PSH end with the socket: what a connection sends after
//!   `close` goes without.
//! - Signals: there is no process to interrupt. `SIGPIPE`, `SIGIO` and `SIGURG` wait in a queue
//!   (`poll_signal`), and `interrupt` stands for a signal that ends a call.
//! - Knobs without a mechanism are kept and change nothing: the rows of `KEPT` in `sysctl.rs`. So
//!   are the fields of `TCP_INFO` that `tcp_info.rs` names.
#![forbid(unsafe_code)]

mod address;
mod bind;
mod buffers;
mod call;
mod chrono;
mod close;
mod config;
mod connect;
mod control;
mod deferred;
mod dress;
mod ephemeral;
mod epoll;
mod errno;
mod fastopen;
mod file;
mod header;
mod icmp;
mod ioctl;
mod ip_options;
pub mod linux;
mod listen;
mod module;
mod news;
mod notice;
mod options;
mod outbox;
mod pending;
mod pipe;
mod poll;
mod ports;
mod push;
mod rate;
mod receive;
mod repair;
mod send;
mod signals;
mod signing;
mod socket;
mod sockets;
mod sockstat;
mod sysctl;
mod tcp_info;
mod traffic;
mod tx_delay;
mod urgent;
mod wire;

pub use address::{Domain, SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES, SocketAddress};
pub use call::{
    Call, CallId, Control, EpollEvent, ExtendedError, PollFd, Progress, Received, Reply,
};
pub use config::HostConfig;
pub use errno::Errno;
pub use listen::ListenQueue;
pub use signals::Signal;
pub use sockets::Sockets;
pub use sockstat::SockStat;
pub use tcp_info::TcpInfo;

/// What `Sockets::set_route` takes.
pub use millrace_stack::RouteAttributes;
