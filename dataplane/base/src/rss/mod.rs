//! Receive-side scaling in software: the hash that network cards compute, who owns which flow, and
//! which local ports lead where.
//!
//! Pure: it asks no device. Whether a card does what is computed here is for the worker to prove.

mod map;
mod ports;
mod toeplitz;

pub use map::{RssMap, RssMapError, SLOTS_MAX, random_key};
pub use ports::PortOrder;
pub use toeplitz::{KEY_BYTES_MAX, KEY_BYTES_MIN, Toeplitz};
