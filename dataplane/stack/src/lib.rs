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

mod flow;
mod interface;
pub mod limits;
mod listener;
mod neighbor;
mod notices;
mod path;
mod route;
mod stats;
mod verdict;
mod wheel;

pub use flow::FlowId;
pub use interface::{Interface, Prefixed};
pub use listener::{ListenOptions, Listener};
pub use neighbor::{NeighborRequest, NeighborUpdate};
pub use path::{FrameOptions, HOP_LIMIT, Offloads, Path, write_headers};
pub use route::Route;
pub use stats::Stats;
pub use verdict::{DropReason, Stage};
