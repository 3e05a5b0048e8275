//! The sans-IO Ethernet, IP and TCP stack.
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

mod budget;
mod dispatch;
mod flow;
mod icmp;
mod interface;
pub mod limits;
mod listener;
mod lists;
mod neighbor;
mod network;
mod notices;
mod path;
mod reply;
mod route;
mod stack;
mod stats;
mod table;
mod tcp;
mod tcp_input;
mod transmit;
mod verbs;
mod verdict;
mod wheel;

pub use dispatch::{Punt, PuntReason};
pub use flow::FlowId;
pub use interface::{Interface, Prefixed};
pub use listener::{ListenOptions, Listener};
pub use neighbor::{NeighborRequest, NeighborUpdate};
pub use path::{FrameOptions, HOP_LIMIT, Offloads, Path, write_headers};
pub use reply::Transmit;
pub use route::Route;
pub use stack::{Stack, StackConfig};
pub use stats::Stats;
pub use table::{ConnectError, Event};
pub use tcp::{
    CloseReason, CongestionControl, ConnectionOptions, FlowInfo, Ready, Received, Spliced, State,
    TcpTunables,
};
pub use verdict::{DropReason, Stage};
