//! What a client and a sink do with connections of our own stack.
//!
//! An engine is driven: it is told events and the time and uses the stack's verbs. It knows no
//! device, no thread and no clock, and takes no memory after `new`.

mod answer;
mod client;
mod sink;

use millrace_base::{Instant, PacketPool};
use millrace_stack::{Event, Stack};

pub use answer::{Answer, Answered};
pub use client::{Client, ClientConfig, Ending, PIPELINE_MAX, Pace, Unit};
pub use sink::{Sink, SinkConfig};

/// How requests and answers look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// Bytes without meaning: every `request_bytes` are answered with `response_bytes`.
    Raw {
        /// Bytes of a request, at least 1.
        request_bytes: u64,
        /// Bytes of an answer; 0 makes a sink that only swallows.
        response_bytes: u64,
    },
}

/// A user of a stack.
pub trait Engine {
    /// Something happened to a connection.
    fn on_event<P: PacketPool>(
        &mut self,
        now: Instant,
        event: &Event,
        stack: &mut Stack<P>,
        pool: &mut P,
    );

    /// Time passed: begins what is due. Bounded work.
    fn advance<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>, pool: &mut P);

    /// Arrivals come at this rate from now on; for open loops.
    fn set_rate(&mut self, now: Instant, rate: f64);

    /// Begins nothing new; what is under way may end.
    fn wind_down(&mut self);

    /// Whether nothing is under way.
    fn is_quiet(&self) -> bool;

    /// Resets some connections of those that are left; `false` when none is.
    fn reset_some<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>) -> bool;
}
