//! The TCP connection, sans I/O: the folder listing is the table of contents of RFC 9293 and
//! friends.
//!
//! Reading order: `state` → `segment` (what goes in and out) → `connection` (the TCB and what an
//! application can ask) → `handshake` → `input` (the checks, in the RFC's order) → `ack`, `ack_delay`,
//! `ack_compression` → `recovery` → `congestion` → `output` → `emit` → `timeout`. Below them:
//! `chunk` (the queue element), `send_buffer`, `run`, `recv_buffer`, `reassembly`, `shelf`, `signing`,
//! `window`, `timestamps`, `rtt`, `timers`, `options`, `reset`, `keepalive`. What stays of an idle
//! connection: `dormant`.
//!
//! The reference behaviour is Linux 6.x: same defaults, same names. Where Linux and an RFC differ,
//! the branch says so; `docs/deviations.md` lists where we differ from Linux.
//!
//! Not implemented, and what stands in for it:
//! - ECT(1), the codepoint of low-latency senders (RFC 9331): nothing leaves as that.
//! - Urgent data: taken in line, not forwarded as urgent.
//! - AO (RFC 5925): never offered, ignored when offered.
//! - Collapsing of tiny received segments: they are bounded by number instead
//!   (`RECEIVE_CHUNKS_MAX`).
//! - The window is counted in bytes, so many small segments may be in flight where Linux counts
//!   packets.

pub(crate) mod ack;
mod ack_compression;
mod ack_delay;
mod byte_count;
pub(crate) mod chunk;
mod config;
pub(crate) mod congestion;
pub(crate) mod connection;
pub(crate) mod dormant;
pub(crate) mod ecn;
mod emit;
pub(crate) mod extra;
pub(crate) mod fastopen;
mod fin_wait2;
pub(crate) mod handshake;
mod info;
mod input;
mod intake;
pub(crate) mod isn;
mod keepalive;
mod marks;
pub(crate) mod metrics;
mod mtu_probe;
pub(crate) mod options;
mod output;
pub(crate) mod pacing;
pub(crate) mod passive;
mod predict;
mod quick_ack;
mod rate;
mod ready;
pub(crate) mod reassembly;
pub(crate) mod recovery;
pub(crate) mod recv_buffer;
pub(crate) mod repair;
mod resend;
mod reset;
mod right_size;
mod rtt;
mod run;
pub(crate) mod segment;
mod send_buffer;
mod shelf;
mod signing;
mod state;
pub(crate) mod syn_cookie;
pub(crate) mod syn_queue;
pub(crate) mod timeout;
mod timers;
mod timestamps;
pub(crate) mod timewait;
mod turn;
mod window;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use chunk::Chunks;
pub use config::{CongestionControl, ConnectionOptions, Profile, Special, TcpTunables};
pub use congestion::{BbrInfo, CubicParameters, DctcpInfo, DctcpParameters};
pub(crate) use connection::Connection;
pub use connection::{Received, Spliced};
pub use ecn::accurate::EcnInfo;
pub use fastopen::cookie::{FASTOPEN_KEY_BYTES, FastOpenKeys};
pub use fastopen::{FastOpenFailure, FastOpenInfo, FastOpenRequest};
pub(crate) use handshake::Open;
pub use info::FlowInfo;
pub use metrics::PeerMetrics;
pub(crate) use predict::Tail;
pub use ready::Ready;
pub use recovery::Phase;
pub use repair::{Agreement, RepairWindow};
pub use segment::CloseReason;
pub(crate) use segment::{Disposition, Env, ResetSegment, Segment, TimeWaitRecord};
pub use state::State;
pub(crate) use timeout::Unreachable;
pub use timers::TimerKind;
pub(crate) use turn::Turn;
