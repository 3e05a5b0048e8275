//! A packet forwarder in the shape of dpdk-testpmd, on the safe DPDK crate.
//!
//! It receives frames on one queue, does to them what its *mode* says and sends them on another;
//! what is left over is the measure of our receive and transmit path against DPDK's own tool.
//!
//! | to know | read |
//! |---|---|
//! | what a mode does to a packet | one file of [`engine`] |
//! | what every engine can use | [`Stream`] |
//! | who calls an engine, and nothing else | [`poll`] |
//! | how ports, queues and lcores come together | [`Forwarder`], [`Topology`] |
//! | what is counted and how it is printed | [`counters`], [`report`] |
//!
//! The packet path (`engine`, `stream`, `poll`) allocates nothing, takes no lock and writes no log
//! once an engine has begun. Not here: flow rules, traffic management, and the several hundred
//! commands of testpmd's prompt.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable
    )
)]

pub mod counters;
pub mod engine;
mod forwarder;
mod mode;
pub mod poll;
pub mod report;
mod settings;
mod stream;
mod topology;

pub use forwarder::{ForwardError, Forwarder, Setup};
pub use mode::Mode;
pub use settings::{Noisy, Settings};
pub use stream::{Stream, StreamPlace};
pub use topology::Topology;
