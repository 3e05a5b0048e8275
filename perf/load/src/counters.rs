//! What an lcore counts, and what a reader makes of it.
//!
//! A counter has one writer, the lcore, and any number of readers: a relaxed load and a relaxed
//! store, never a read-modify-write. Readers see each counter at some recent value and no two of
//! them at the same instant. Nobody sets one back: who wants the last second subtracts two
//! [`Tally`]s.

use core::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::latency::Buckets;

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; for the one writer.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.set(self.value().wrapping_add(amount));
    }

    /// Takes away; for the one writer, of a gauge.
    #[inline]
    pub fn subtract(&self, amount: u64) {
        self.set(self.value().saturating_sub(amount));
    }

    /// Replaces the value; for the one writer.
    #[inline]
    pub fn set(&self, value: u64) {
        // Relaxed: nothing else is published by it.
        self.0.store(value, Ordering::Relaxed);
    }

    /// A recent value.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($( $(#[doc = $help:literal])+ $field:ident, )+) => {
        /// What one lcore counts. On cache lines of its own.
        #[repr(align(128))]
        #[derive(Debug, Default)]
        pub struct Counters {
            $( $(#[doc = $help])+ pub $field: Counter, )+
            /// How long operations took, from when they were due.
            pub latency: Buckets,
        }

        /// The counters of one lcore or of several together, at some time or over some time.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
        pub struct Tally {
            $( $(#[doc = $help])+ pub $field: u64, )+
        }

        impl Counters {
            /// What is counted now, latencies left out.
            pub fn tally(&self) -> Tally {
                Tally { $( $field: self.$field.value(), )+ }
            }
        }

        impl Tally {
            /// What was counted since an earlier reading.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $( $field: self.$field.wrapping_sub(earlier.$field), )+ }
            }

            /// Both together.
            #[must_use]
            pub fn plus(&self, other: &Self) -> Self {
                Self { $( $field: self.$field.wrapping_add(other.$field), )+ }
            }
        }
    };
}

counters! {
    /// Arrivals taken from the schedule, or begun by a closed loop.
    scheduled,
    /// Operations that ended well: connections of the `connections` workload, answered requests of
    /// the others, answers of a sink.
    operations,
    /// Connections established.
    opened,
    /// Connections that ended as they should.
    closed,
    /// Requests whose first byte was queued (client) or that arrived whole (sink).
    requests,
    /// Answers that arrived whole (client) or whose last byte was queued (sink).
    responses,
    /// Payload bytes received.
    bytes_in,
    /// Payload bytes queued to be sent.
    bytes_out,
    /// Frames received.
    frames_in,
    /// Frames the device took.
    frames_out,

    /// Error: the peer refused the connection.
    refused,
    /// Error: the peer reset the connection in the middle of its work.
    resets,
    /// Error: no answer within the time limit of an operation, or of TCP.
    timeouts,
    /// Error: there is no way to the peer: no route, no neighbour, an ICMP error.
    unreachable,
    /// Error: the peer closed the connection before its answer was complete, or an idle one.
    early_closes,
    /// Error: an answer that is no HTTP, has no length or has a status of 400 and above; at a sink,
    /// a request that is no HTTP or more replies under way than it keeps track of.
    bad_answers,

    /// Segments sent again, SYNs included.
    retransmitted,
    /// Segments received again: the peer, or the network, repeated itself.
    duplicates,

    /// Miss: an arrival that was begun later than is allowed after it was due, for whatever reason.
    late,
    /// Miss: an arrival that found no source port.
    no_port,
    /// Miss: a connection that found the connection table full.
    no_slot,
    /// Miss: a frame dropped by the stack: malformed, checksum, table full.
    stack_drops,
    /// Miss: a frame for another lcore whose queue was full.
    steer_drops,
    /// Miss: a frame the device will never take.
    transmit_refusals,
    /// Miss: a frame that the device had no descriptor or buffer for, or received damaged.
    device_drops,

    /// Gauge: connections that exist.
    connections,
    /// Gauge: operations under way.
    in_flight,
    /// Gauge: 1 when the lcore has opened what it shall hold and its schedule runs.
    running,
    /// Cycles of turns that found work.
    busy_cycles,
    /// Cycles of turns that found none.
    idle_cycles,
}

impl Tally {
    /// Everything that went wrong at the peer or between.
    pub fn errors(&self) -> u64 {
        self.refused
            .wrapping_add(self.resets)
            .wrapping_add(self.timeouts)
            .wrapping_add(self.unreachable)
            .wrapping_add(self.early_closes)
            .wrapping_add(self.bad_answers)
    }

    /// Segments that crossed the wire more than once, in either direction.
    pub fn retransmissions(&self) -> u64 {
        self.retransmitted.wrapping_add(self.duplicates)
    }

    /// Everything that the generator itself failed to do or to see.
    pub fn misses(&self) -> u64 {
        self.late
            .wrapping_add(self.no_port)
            .wrapping_add(self.no_slot)
            .wrapping_add(self.stack_drops)
            .wrapping_add(self.steer_drops)
            .wrapping_add(self.transmit_refusals)
            .wrapping_add(self.device_drops)
    }

    /// Whether a rate measured over this time counts.
    pub fn is_clean(&self) -> bool {
        self.errors() == 0 && self.retransmissions() == 0 && self.misses() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_and_its_start_add_up_to_the_end() {
        let counters = Counters::default();
        counters.operations.add(5);
        counters.connections.add(3);
        let first = counters.tally();
        counters.operations.add(7);
        counters.connections.subtract(1);
        let second = counters.tally();
        assert_eq!(first.plus(&second.since(&first)), second);
        assert_eq!(second.since(&first).operations, 7);
    }

    #[test]
    fn one_error_one_retransmission_or_one_miss_spoils_a_second() {
        assert!(Tally::default().is_clean());
        let spoilt = [
            Tally {
                resets: 1,
                ..Tally::default()
            },
            Tally {
                duplicates: 1,
                ..Tally::default()
            },
            Tally {
                late: 1,
                ..Tally::default()
            },
        ];
        assert!(spoilt.iter().all(|tally| !tally.is_clean()));
    }
}
