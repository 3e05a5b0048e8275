//! What the binary `millrace-dataplane` is made of: boot, one packet loop per lcore, the way out.
//!
//! The binary is one user of it. The other is `perf/rig`, which boots the same lcores on devices in
//! memory and turns them by hand, so that what is measured is what runs.
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

mod account;
mod args;
mod backlog;
mod bells;
mod boot;
mod counters;
mod housekeeping;
mod idle;
mod memory;
mod owner;
mod poll;
mod pools;
mod ports;
mod rss;
mod selftest;
mod shutdown;
mod slowpath;
mod steer;
mod tag;
mod tx;

pub use args::{Args, Idle, LogFormat, Memory, MemoryKind, PortSpec};
pub use boot::{Dataplane, assemble, boot};
pub use counters::Counters;
pub use housekeeping::until_shutdown;
pub use poll::Lcore;
pub use ports::offloads_of;
pub use rss::RssMode;
pub use selftest::{Findings, Subject, run as prove_rss};
pub use shutdown::{Control, Phase, Signals};
