//! What can be done to packets: one file per mode, each opens with what it does to a packet.
//!
//! An engine is a struct with a hook at the begin and one at the end, and *one* function that
//! handles a burst. Each stream has an engine of its own, so an engine needs no lock.
#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)
)]

mod csum;
mod five_tuple_swap;
mod flowgen;
mod headers;
mod icmpecho;
mod io;
mod mac;
mod macswap;
mod noisy;
mod rxonly;
mod template;
mod txonly;

use crate::settings::Settings;
use crate::stream::Stream;

pub use csum::Csum;
pub use five_tuple_swap::FiveTupleSwap;
pub use flowgen::FlowGen;
pub use icmpecho::IcmpEcho;
pub use io::Io;
pub use mac::Mac;
pub use macswap::MacSwap;
pub use noisy::Noisy;
pub use rxonly::RxOnly;
pub use template::FRAME_BYTES_MIN;
pub use txonly::TxOnly;

/// What is done to the packets of one stream.
pub trait Engine: Sized {
    /// Prepares for a stream, on the lcore that will poll it. May allocate; the other hooks may
    /// not.
    fn begin(stream: &Stream, settings: &Settings) -> Self;

    /// Handles one burst. Whether there was anything to do: idle polls are not counted as busy.
    fn burst(&mut self, stream: &mut Stream) -> bool;

    /// Lets go of every frame it holds.
    fn end(self, _stream: &mut Stream) {}
}
