//! The sans-IO Ethernet, IP and TCP stack.
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

mod flow;
pub mod limits;
mod path;
mod stats;
mod verdict;
mod wheel;

pub use flow::FlowId;
pub use path::{Offloads, Path};
pub use stats::Stats;
pub use verdict::{DropReason, Stage};
