//! Which backend, and the splice.
//!
//! A session in one paragraph: the stack accepts a client on a listener and says so (`admission`);
//! the listener's pool picks a backend (`pick`), the SNAT table picks a source port whose replies
//! arrive at this very lcore (`snat`), and a second connection is opened (`connect`), to another
//! backend if the first one fails. From then on bytes pass by reference from either receive queue
//! to the other send queue (`splice`), a FIN follows the bytes before it, a RST overtakes them
//! (`session`). When both streams have ended, or one leg broke, the session is forgotten and its
//! backend's count goes down (`backend`).
//!
//! `Balancer` is the only object, one for each lcore. It is driven like the stack: events, commands
//! and time go in, reports come out; it reads no clock, starts no thread, takes all its memory in
//! `new`. Control decides (`tables`), asks (`probe`, `report`) and says when to leave (`drain`).
//!
//! Not here: the health of backends (control's verdict), affinity of clients to backends, anything
//! above TCP.
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

mod admission;
mod backend;
mod balancer;
mod connect;
mod counters;
mod deadlines;
mod drain;
pub mod limits;
mod pick;
mod probe;
mod report;
mod session;
mod snat;
mod splice;
mod tables;
mod user;

pub use balancer::{Balancer, BalancerConfig};
pub use counters::Counters;
