//! A TCP load generator and sink on our own stack and the safe DPDK crate.
//!
//! The clock that everything here is measured against is the schedule, not the last answer: see
//! [`schedule`]. The peers that cost a tenth of what they measure are in [`light`].
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
pub mod exchange;
pub mod generator;
pub mod host;
pub mod http;
pub mod latency;
pub mod lcore;
pub mod light;
pub mod message;
pub mod neighbor;
pub mod observer;
pub mod plot;
pub mod print;
pub mod ring;
pub mod schedule;
pub mod search;
pub mod station;
pub mod tuples;
