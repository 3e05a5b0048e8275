//! The sans-IO Ethernet, IP and TCP stack of one lcore.
//!
//! [`Stack`] is the only public object. It has no clock, no thread, no device, and takes no memory
//! after `new`: whoever drives it passes the time and the buffers in and takes frames and events
//! out. The worker drives it from poll-mode queues, the simulator from a virtual wire, a test by
//! hand.
//!
//! # One turn
//!
//! ```text
//!   stack.handle_burst(now, port, frames, pool, |punt| ..)         punts are for control
//!   stack.advance(now, pool)                                       again at next_deadline()
//!   while let Some(event) = stack.poll_event() { .. }              connect, splice, close ..
//!   stack.transmit(now, pool, |frame| ..)                          complete frames
//! ```
//!
//! `now` is the burst's arrival time and never goes back. `transmit` comes after the events,
//! so that one ACK and one header answer a whole burst. Between turns the control path's decisions
//! are adopted: `set_interfaces`, `set_routes`, `set_listeners`, `set_neighbor`; and its questions
//! taken out: `poll_neighbor_request`, `poll_confirmation`.
//!
//! # What an application sees
//!
//! A connection is a [`FlowId`]. News come as [`Event`]s, at most one waiting per connection. The
//! last one has [`Ready::CLOSED`]; it waits until `splice` or `receive` has told the end of the
//! stream, and with it the id is dead. `close` and `abort` kill the id at once and no event
//! follows.
//!
//! # Reading order
//!
//! `stack` (the tables), `connections` (one of them), `dispatch` (what is this frame?), `tcp_input`
//! (whose segment is it?), `tcp` (what does it mean?), `transmit` (whose turn is it, and which
//! way?), `verbs` (what does the application want?).
//!
//! # What it does not do
//!
//! ARP and neighbour discovery (control resolves, the stack asks); reassembly of anything but TCP and
//! ICMP; more than one VLAN on a port; UDP; ICMP errors of its own but for packets that were never
//! whole; link-local addresses on more than one port (a
//! destination has one route).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unreachable,
        clippy::float_arithmetic
    )
)]

extern crate alloc;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod budget;
mod burst;
mod connections;
mod desks;
mod dispatch;
mod face;
mod fast_open;
mod flow;
mod flow_hash;
mod flow_table;
mod fragment;
mod fragment_out;
mod icmp;
mod interface;
mod knobs;
pub mod limits;
mod listener;
mod neighbor;
mod network;
mod notices;
mod owners;
mod path;
mod peers;
mod plain;
mod repair;
mod reply;
mod route;
mod settle;
mod shortage;
mod signature;
mod stack;
mod stats;
mod table;
mod tcp;
mod tcp_input;
mod transmit;
mod tuples;
mod verbs;
mod verdict;
mod wheel;

pub use dispatch::{Punt, PuntReason};
pub use flow::FlowId;
pub use fragment::FragmentTunables;
pub use interface::{Interface, Prefixed};
pub use listener::{FastOpenListen, ListenOptions, Listener};
pub use neighbor::{NeighborRequest, NeighborUpdate};
pub use path::{FrameOptions, HOP_LIMIT, Offloads, Path, write_headers};
pub use reply::Transmit;
pub use route::{Route, RouteAttributes};
pub use shortage::{Shortage, Watermarks};
pub use signature::{SIGNING_KEY_BYTES_MAX, SigningKey};
pub use stack::{Occupancy, Stack, StackConfig};
pub use stats::Stats;
pub use table::{ConnectError, Event};
pub use tcp::{
    Agreement, BbrInfo, CloseReason, CongestionControl, ConnectionOptions, CubicParameters,
    DctcpInfo, DctcpParameters, EcnInfo, FASTOPEN_KEY_BYTES, FastOpenFailure, FastOpenInfo,
    FastOpenKeys, FastOpenRequest, FlowInfo, PeerMetrics, Phase, Profile, Ready, Received,
    RepairWindow, Special, Spliced, State, TcpTunables, TimerKind,
};
pub use tuples::TupleChange;
pub use verdict::{DropReason, Stage};
