//! What the worker itself counts, and where every counter of an lcore lies in the shared region.
//!
//! The packet path increments plain integers that only its own thread sees. A few times a second they are copied into the
//! region, one relaxed store each: readers are a fraction of a second behind, and the packet path touches no shared line.

use millrace_abi::{CounterKind, CounterSpec, LcoreHandle};
use millrace_lb::Counters as BalancerCounters;
use millrace_stack::Stats;

/// Adds to a counter of this thread's own. Wraps after 2^64, which nobody lives to see.
macro_rules! count {
    ($counter:expr) => {
        count!($counter, 1u64)
    };
    ($counter:expr, $amount:expr) => {
        $counter = $counter.wrapping_add($amount as u64)
    };
}
pub(crate) use count;

macro_rules! worker_counters {
    ($($(#[doc = $help:literal])+ $field:ident = $name:literal,)+) => {
        /// What one lcore's loop counts.
        #[derive(Clone, Debug, Default)]
        pub struct Counters {
            $($(#[doc = $help])+ pub $field: u64,)+
        }

        impl Counters {
            /// Calls back with the name, the sentence and the value of each.
            pub fn for_each(&self, mut visit: impl FnMut(&'static str, &'static str, u64)) {
                $(visit($name, concat!($($help),+).trim_ascii(), self.$field);)+
            }
        }
    };
}

worker_counters! {
    /// Frames taken from receive queues.
    rx_frames = "millrace_rx_frames_total",
    /// Frames handed to transmit queues.
    tx_frames = "millrace_tx_frames_total",
    /// Frames a device refused for good; they were freed.
    tx_frames_refused = "millrace_tx_frames_refused_total",
    /// Frames dropped because their device took nothing for 200 ms; TCP sends them again.
    tx_frames_expired = "millrace_tx_frames_expired_total",
    /// Turns that ended with frames a device had no room for; they are offered again.
    tx_bursts_short = "millrace_tx_bursts_short_total",
    /// Frames copied into one buffer for a device that takes no chains.
    tx_frames_flattened = "millrace_tx_frames_flattened_total",
    /// Frames handed to the lcore that owns their flow.
    frames_steered = "millrace_frames_steered_total",
    /// Sleeping lcores that were woken because frames were handed to them.
    lcores_woken = "millrace_lcores_woken_total",
    /// Frames dropped because the queue of the lcore that owns their flow was full.
    frames_steer_dropped = "millrace_frames_steer_dropped_total",
    /// Segments that a trusted card delivered to a lcore that does not own them, or hashed otherwise than predicted.
    rss_mispredicted = "millrace_rss_mispredicted_total",
    /// Ports whose card is trusted to deliver to the owner; the frames of the others are hashed in software.
    rss_ports_trusted = "millrace_rss_ports_trusted",
    /// Frames given to control: ARP, neighbour discovery, and what else is for this host.
    frames_punted = "millrace_frames_punted_total",
    /// Frames for control that were dropped: its ring was full, or they did not fit a slot.
    frames_punt_dropped = "millrace_frames_punt_dropped_total",
    /// Frames sent for control.
    frames_injected = "millrace_frames_injected_total",
    /// Frames of control that were dropped: no buffer, no such port, or no room to send.
    frames_inject_dropped = "millrace_frames_inject_dropped_total",
    /// Table generations taken over.
    generations_adopted = "millrace_generations_adopted_total",
    /// Heap allocations after boot by the whole process, told by lcore 0; must stay 0.
    heap_allocations = "millrace_heap_allocations_after_boot_total",
    /// Free packet buffers, told by lcore 0 for all.
    mbufs_available = "millrace_mbufs_available",
    /// Packet buffers in all, told by lcore 0 for all.
    mbufs_capacity = "millrace_mbufs_capacity",
    /// Free buffers of the reserve for ACKs, RSTs and control, told by lcore 0 for all.
    mbufs_reserve_available = "millrace_mbufs_reserve_available",
    /// How short packet buffers are: 0 not, 1 no new connections are let in, 2 no payload is queued either.
    memory_pressure = "millrace_memory_pressure",
    /// Connections at rest that made room for one that had to work.
    desks_cleared = "millrace_desks_cleared_total",
    /// Bytes of the tables that were taken at start, told by lcore 0 for all.
    table_bytes = "millrace_table_bytes",
    /// Bytes of those tables that lay on huge pages at start, told by lcore 0 for all.
    table_huge_bytes = "millrace_table_huge_bytes",
}

/// Every counter an lcore has, in the order of its places in the region.
pub(crate) fn specs() -> Vec<CounterSpec<'static>> {
    let mut specs = Vec::new();
    let mut add = |name, help, _| {
        specs.push(CounterSpec {
            name,
            help,
            kind: kind_of(name),
        })
    };
    Counters::default().for_each(&mut add);
    BalancerCounters::default().for_each(&mut add);
    Stats::default().for_each(&mut add);
    specs
}

/// Ours are gauges unless their name ends as a counter's; of the MIB's, only what says "current" goes up and down.
fn kind_of(name: &str) -> CounterKind {
    let is_ours = name.starts_with("millrace_");
    let is_gauge = if is_ours {
        !name.ends_with("_total")
    } else {
        name.contains("Curr")
    };
    if is_gauge {
        CounterKind::Gauge
    } else {
        CounterKind::Counter
    }
}

/// Copies all values into the region, in the order of `specs`.
pub(crate) fn publish(
    shared: &mut LcoreHandle,
    worker: &Counters,
    balancer: &BalancerCounters,
    stack: &Stats,
) {
    let mut place = 0usize;
    let writer = &mut shared.counters;
    let mut store = |value: u64| {
        writer.set(place, value);
        place = place.saturating_add(1);
    };
    worker.for_each(|_, _, value| store(value));
    balancer.for_each(|_, _, value| store(value));
    stack.for_each(|_, _, value| store(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_name_and_fits_the_region() {
        let specs = specs();
        assert!(
            specs.len() <= millrace_abi::limits::COUNTERS_MAX,
            "{} counters",
            specs.len()
        );
        let mut names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        let total = names.len();
        names.dedup();
        assert_eq!(names.len(), total);
        for spec in specs {
            assert!(!spec.help.is_empty(), "{} explains itself", spec.name);
        }
    }
}
