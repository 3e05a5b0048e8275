//! The words every other crate uses.
//!
//! Time, sequence numbers, addresses, identifiers, the names of congestion control, the packet-buffer contract, a
//! bounded slab and lists over its slots. Nothing here
//! knows a protocol, reads a clock, starts a thread or touches a device; every other crate may name this one and
//! this one names nobody.
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

mod address;
mod buf;
mod congestion;
mod heap_buf;
mod id;
mod invariant;
mod lists;
mod rng;
pub mod rss;
mod seq;
mod slab;
mod time;

pub use address::{Address, Endpoint, FlowTuple, MacAddress, Prefix};
pub use buf::{ChecksumStatus, HEADROOM_BYTES_DEFAULT, PacketBuf, PacketPool, RxMeta, TxOffload};
pub use congestion::CongestionControl;
pub use heap_buf::{HeapBuf, HeapPool};
pub use id::{BackendId, LcoreIndex, ListenerId, PoolId, PortId, VlanId};
pub use lists::Lists;
pub use rng::Rng;
pub use seq::SeqNumber;
pub use slab::{Key, Slab};
pub use time::{Instant, Micros, Nanos, Stamp};
