//! What a simulated host is: packets and time on one side, a program's calls on the other.

pub(crate) mod balancer;
pub(crate) mod liar;
pub(crate) mod model;
pub(crate) mod stack;

use millrace_base::{Address, Endpoint, Instant};
use millrace_socket::TcpInfo;

/// A connection as its host numbers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Conn(pub(crate) i32);

/// How far a call came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Io {
    /// So many bytes were moved, at least one.
    Moved(usize),
    /// Not now.
    Later,
    /// The peer has ended its stream.
    End,
    /// The connection is broken, with the reason.
    Broken(String),
}

/// A connection that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Accepted {
    pub(crate) conn: Conn,
    /// The port it was accepted at.
    pub(crate) port: u16,
    pub(crate) peer: Endpoint,
}

/// What a balancer joins: a client, and both ends of the connection that was opened for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Joint {
    pub(crate) client: Endpoint,
    pub(crate) source: Endpoint,
    pub(crate) server: Endpoint,
}

/// Raw IP packets and time in, raw IP packets out, and programs that never block.
pub(crate) trait Host: core::fmt::Debug {
    /// A packet arrives.
    fn packet_in(&mut self, now: Instant, packet: &[u8]);
    /// The next packet that has left.
    fn packet_out(&mut self) -> Option<Vec<u8>>;
    /// When `advance` has something to do next.
    fn next_deadline(&self) -> Instant;
    /// Lets time pass.
    fn advance(&mut self, now: Instant);

    /// Listens at a port of every address.
    fn listen(&mut self, now: Instant, port: u16);
    /// Stops listening.
    fn stop_listening(&mut self, now: Instant);
    /// Opens a connection; its own port comes with it. With its first data, where it may be `fast`
    /// (RFC 7413). `None` while no port is free.
    fn connect(&mut self, now: Instant, to: Endpoint, fast: bool) -> Option<(Conn, u16)>;
    /// The next connection that was accepted.
    fn accept(&mut self, now: Instant) -> Option<Accepted>;
    /// Writes some of these bytes.
    fn write(&mut self, now: Instant, conn: Conn, bytes: &[u8]) -> Io;
    /// Reads at most so many bytes, behind those that are in `into`.
    fn read(&mut self, now: Instant, conn: Conn, len: usize, into: &mut Vec<u8>) -> Io;
    /// Ends our stream.
    fn shut_down(&mut self, now: Instant, conn: Conn);
    /// Lets go of the connection; an abort resets it.
    fn close(&mut self, now: Instant, conn: Conn, abort: bool);

    /// What is still there although nobody needs it; `None` when nothing is.
    fn left_over(&self) -> Option<String>;
    /// Whether what it sends is checked.
    fn is_honest(&self) -> bool;
    /// What it joins now; nothing, where it is no balancer.
    fn joints(&mut self, _now: Instant) -> Vec<Joint> {
        Vec::new()
    }

    /// What it knows of a connection; `None` where it does not tell.
    fn info(&self, _conn: Conn) -> Option<TcpInfo> {
        None
    }

    /// A counter by its MIB name; `None` where it has none.
    fn counter(&self, _name: &str) -> Option<u64> {
        None
    }
}

/// The address of a node in either family.
pub(crate) const fn address_of(node: usize, v6: bool) -> Address {
    let last = node as u8 + 1;
    if v6 {
        Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
    } else {
        Address::v4([10, 0, 0, last])
    }
}
