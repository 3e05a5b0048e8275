//! Everything that must be 0 for a number to count, and the frames it took.

use std::collections::BTreeMap;

use millrace_abi::heap;

use crate::world::World;

/// Counters at one moment, or between two.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// Every counter of stacks, balancers and loops by name, summed over the lcores.
    counters: BTreeMap<&'static str, u64>,
    /// Frames that the lcores took and gave.
    pub(crate) frames: u64,
    /// Heap allocations inside turns.
    pub(crate) heap_allocations: u64,
}

/// Worker and balancer counters that tell of something that should not happen in a measured run.
const BAD: &[&str] = &[
    "millrace_tx_frames_refused_total",
    "millrace_tx_frames_expired_total",
    "millrace_tx_frames_flattened_total",
    "millrace_frames_steer_dropped_total",
    "millrace_frames_punted_total",
    "millrace_sessions_reset_by_client_total",
    "millrace_sessions_reset_by_backend_total",
    "millrace_sessions_client_lost_total",
    "millrace_sessions_backend_lost_total",
    "millrace_sessions_unserved_total",
    "millrace_refused_sessions_max_total",
    "millrace_refused_no_backend_total",
    "millrace_snat_exhausted_total",
    "millrace_events_unowned_total",
    "millrace_backend_retries_total",
    "TcpRetransSegs",
    "TcpInErrs",
    "TcpOutRsts",
    "TcpEstabResets",
    "TcpAttemptFails",
];

/// The counter of what the generator's cards could not deliver.
pub(crate) const RINGS_FULL: &str = "frames the rings had no room for";

impl Health {
    pub(crate) fn of(world: &World) -> Self {
        let mut health = Self {
            heap_allocations: heap::allocations_after_seal(),
            ..Self::default()
        };
        for lcore in &world.lcores {
            let stats = lcore.stack().stats();
            health.frames += stats.frames_in + stats.frames_out;
            let counters = &mut health.counters;
            let mut add = |name: &'static str, _: &str, value: u64| {
                *counters.entry(name).or_default() += value;
            };
            lcore.counters().for_each(&mut add);
            lcore.balancer().counters().for_each(&mut add);
            stats.for_each(&mut add);
        }
        let nics = || world.nics.iter();
        let lost = nics().map(|nic| nic.outbox.lost).sum();
        health.counters.insert(RINGS_FULL, lost);
        let unsummed = nics().map(|nic| nic.unsummed).sum();
        health
            .counters
            .insert("frames without a checksum", unsummed);
        health
    }

    /// What happened since.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let earlier = |name: &str| before.counters.get(name).copied().unwrap_or(0);
        Self {
            counters: self
                .counters
                .iter()
                .map(|(name, value)| (*name, value.saturating_sub(earlier(name))))
                .collect(),
            frames: self.frames - before.frames,
            heap_allocations: self.heap_allocations - before.heap_allocations,
        }
    }

    /// A counter by its name; 0 when there is none.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// The sum of the counters whose names begin so.
    pub(crate) fn counters_from(&self, start: &str) -> u64 {
        let named = self.counters.iter();
        let named = named.filter(|(name, _)| name.starts_with(start));
        named.map(|(_, value)| *value).sum()
    }

    /// Payload bytes that the CPU copied.
    pub(crate) fn copied_bytes(&self) -> u64 {
        self.counter("payload_copied_bytes")
    }

    /// What should have been 0 and was not: losses, resets, drops, but those whose names begin as one in `expected`.
    pub(crate) fn faults(&self, expected: &[&str]) -> BTreeMap<String, u64> {
        self.counters
            .iter()
            .filter(|(name, value)| **value > 0 && (is_fault(name)))
            .filter(|(name, _)| !expected.iter().any(|start| name.starts_with(start)))
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }
}

/// Whether this counter counts what must not happen.
pub(crate) fn is_fault(name: &str) -> bool {
    BAD.contains(&name) || name.starts_with("drop_") || name.starts_with("frames ")
}
