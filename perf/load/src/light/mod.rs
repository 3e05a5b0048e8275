//! The stateless engine: TCP peers whose every answer is computed from the frame that asks for it.
//!
//! A generator must not be the bottleneck of what it measures. These peers keep nothing per connection: the initial
//! sequence number is a keyed hash of the tuple, as a SYN cookie is, so the acknowledgment number of any later segment
//! says how far the connection has come; requests and responses are one segment of a fixed size each and carry a token
//! (the hash of the client's tuple and the number of the request) that is checked at both ends. Ten million connections
//! cost what one costs: the tables of the device under test are the only ones.
//!
//! ```text
//!   client                          server
//!   SYN  seq = H(tuple)        -->          SYN-ACK seq = H(tuple)
//!   ACK, request k             -->          response k, at  H + 1 + (k-1) * response bytes
//!   progress = SEG.ACK - H - 1 <--          FIN behind the last one, if the server closes
//! ```
//!
//! It is no TCP: nothing is retransmitted, out-of-order segments are not put in order, and windows are not watched but for
//! bulk data, which keeps twelve bytes a connection for them: [`Upload`]. On a path that loses frames it stands still and
//! its counters say so; that is the point, because a rate counts only when nothing was lost. IPv4 only, without IP options.

mod bulk;
mod client;
mod header;
mod payload;
mod server;
mod tuples;

#[cfg(test)]
mod tests;

pub use bulk::{Upload, UploadConfig, UploadSink};
pub use client::{Client, Heard};
pub use header::{Checksums, Link, segment_flags};
pub use payload::Payload;
pub use server::Server;
pub use tuples::Sources;

/// Which end closes a connection after its last response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The client, when it has the last response.
    Client,
    /// The server, right behind the last response.
    Server,
    /// Nobody: connections stay open.
    Nobody,
}

/// What both ends of a connection do.
#[derive(Clone, Debug)]
pub struct Script {
    /// A request: one segment.
    pub request: Payload,
    /// A response: one segment.
    pub response: Payload,
    /// Requests on one connection, at least 1 unless the client does not ask by itself.
    pub requests: u32,
    /// Whether the client asks as soon as it is connected and as soon as it has the last answer; otherwise whoever
    /// drives it calls [`Client::ask`].
    pub asks_at_once: bool,
    /// Who closes.
    pub closer: Closer,
}

/// What an end has counted. All are events, none a gauge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames taken.
    pub frames_in: u64,
    /// Frames made.
    pub frames_out: u64,
    /// SYNs sent (client) or answered (server).
    pub opens: u64,
    /// Handshakes completed, as far as the end can know: SYN-ACKs received (client).
    pub established: u64,
    /// Requests sent (client) or received (server).
    pub requests: u64,
    /// Responses received (client) or sent (server).
    pub responses: u64,
    /// Connections of which both directions have been closed and acknowledged.
    pub closed: u64,
    /// Segments with RST received.
    pub resets: u64,
    /// Frames that nothing here can have caused: not for us, a token of another connection, a number out of turn.
    pub unexpected: u64,
    /// Segments of a request or response that came in another form than it left: cut or merged.
    pub resegmented: u64,
    /// Frames whose checksum is wrong, when checksums are verified.
    pub bad_checksums: u64,
    /// Frames not sent because the pool was empty.
    pub no_buffers: u64,
}

impl Counts {
    /// Everything that must be 0 for a rate to count.
    pub fn errors(&self) -> u64 {
        self.resets + self.unexpected + self.resegmented + self.bad_checksums + self.no_buffers
    }
}
