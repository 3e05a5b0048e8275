//! Which backend, and the splice.
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

mod backend;
mod counters;
mod deadlines;
pub mod limits;
mod pick;
mod snat;
mod user;

pub use counters::Counters;
pub use snat::OwnerFunction;
