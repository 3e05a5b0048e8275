//! TCP health probes: control says whom to try, the lcore connects as a session would and tells how
//! it went.
//!
//! A probe takes the very way of a session (SNAT address, route, neighbour, this lcore's queues),
//! so that "up" means "a session would reach it". Once the SYN-ACK is there the connection is
//! aborted: a RST leaves instead of the last ACK. That spares both sides a TIME_WAIT for every
//! probe, and the backend's application never sees it (HAProxy's TCP checks do the same, for the
//! same reasons).
//!
//! Whether a backend is healthy is not decided here; rise, fall and intervals are control's.

use std::collections::VecDeque;

use millrace_abi::ProbeOutcome;
use millrace_base::{Endpoint, Instant, Key, Nanos, PacketPool, Slab};
use millrace_stack::{FlowId, Profile, Ready, Stack};

use crate::counters::{Counters, count};
use crate::limits::{PROBE_TIMEOUT_MAX, PROBE_TIMEOUT_MIN, PROBES_MAX};
use crate::snat::{Begin, Snat};
use crate::user::Owner;

/// How one probe ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProbeResult {
    /// The command's token.
    pub(crate) token: u64,
    /// How it ended.
    pub(crate) outcome: ProbeOutcome,
    /// Microseconds from the SYN to the end.
    pub(crate) rtt_us: u32,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    token: u64,
    flow: FlowId,
    started: Instant,
    due: Instant,
}

/// Probes under way, and the results that control has not read.
pub(crate) struct Probes {
    running: Slab<Probe>,
    results: VecDeque<ProbeResult>,
    /// Running probes and waiting results together stay at or below this.
    capacity: usize,
    /// Not after the earliest deadline of a running probe.
    next_due: Instant,
    /// Which source address has its turn (`snat`).
    address_cursor: u32,
}

impl Probes {
    pub(crate) fn new(capacity: usize, address_cursor: u32) -> Self {
        let capacity = capacity.min(PROBES_MAX);
        Self {
            running: Slab::new(capacity),
            results: VecDeque::with_capacity(capacity),
            capacity,
            next_due: Instant::NEVER,
            address_cursor,
        }
    }

    /// Starts a probe. Refuses (`false`) when as many as fit are under way or unread.
    #[must_use = "a refused probe must be counted"]
    pub(crate) fn start<P: PacketPool>(
        &mut self,
        now: Instant,
        order: Order,
        snat: &mut Snat,
        stack: &mut Stack<P>,
        counters: &mut Counters,
    ) -> bool {
        if self.running.len().saturating_add(self.results.len()) >= self.capacity {
            return false;
        }
        let timeout = Nanos::from_millis(u64::from(order.timeout_ms));
        let probe = Probe {
            token: order.token,
            flow: FlowId::NONE,
            started: now,
            due: now.after(timeout.clamp(PROBE_TIMEOUT_MIN, PROBE_TIMEOUT_MAX)),
        };
        let Ok(key) = self.running.insert(probe) else {
            return false;
        };
        count!(counters.probes_started);
        let begin = Begin {
            remote: order.target,
            user: Owner::Probe(key).to_bits(),
            // It carries no data that could be congested.
            profile: Profile::default(),
        };
        match snat.connect(now, begin, &mut self.address_cursor, stack) {
            Ok(flow) => {
                if let Some(probe) = self.running.get_mut(key) {
                    probe.flow = flow;
                }
                self.next_due = self.next_due.min(probe.due);
            }
            Err(failure) => self.finish(now, key, failure.outcome(), stack, counters),
        }
        true
    }

    /// An event of a probe's connection.
    pub(crate) fn on_event<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        ready: Ready,
        stack: &mut Stack<P>,
        counters: &mut Counters,
    ) {
        let outcome = if ready.contains(Ready::CONNECTED) {
            ProbeOutcome::Connected
        } else if ready.contains(Ready::UNREACHABLE) {
            ProbeOutcome::Unreachable
        } else if ready.contains(Ready::TIMED_OUT) {
            ProbeOutcome::TimedOut
        } else if ready.contains(Ready::REFUSED)
            || ready.contains(Ready::RESET)
            || ready.contains(Ready::CLOSED)
        {
            ProbeOutcome::Refused
        } else {
            return;
        };
        self.finish(now, key, outcome, stack, counters);
    }

    /// Ends the probes whose time is over. O(capacity), but only when one is due.
    pub(crate) fn advance<P: PacketPool>(
        &mut self,
        now: Instant,
        stack: &mut Stack<P>,
        counters: &mut Counters,
    ) {
        if !self.next_due.is_due(now) {
            return;
        }
        let mut next_due = Instant::NEVER;
        for index in 0..self.running.capacity() as u32 {
            let Some(key) = self.running.key_at(index) else {
                continue;
            };
            let due = self
                .running
                .get(key)
                .map_or(Instant::NEVER, |probe| probe.due);
            if due.is_due(now) {
                self.finish(now, key, ProbeOutcome::TimedOut, stack, counters);
            } else {
                next_due = next_due.min(due);
            }
        }
        self.next_due = next_due;
    }

    pub(crate) fn poll_result(&mut self) -> Option<ProbeResult> {
        self.results.pop_front()
    }

    pub(crate) const fn next_deadline(&self) -> Instant {
        self.next_due
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    fn finish<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        outcome: ProbeOutcome,
        stack: &mut Stack<P>,
        counters: &mut Counters,
    ) {
        let Some(probe) = self.running.remove(key) else {
            return;
        };
        stack.abort(now, probe.flow);
        match outcome {
            ProbeOutcome::Connected => count!(counters.probes_connected),
            ProbeOutcome::Refused
            | ProbeOutcome::TimedOut
            | ProbeOutcome::Unreachable
            | ProbeOutcome::NoResources => count!(counters.probes_failed),
        }
        // `start` keeps room for every running probe's result.
        self.results.push_back(ProbeResult {
            token: probe.token,
            outcome,
            rtt_us: now.since(probe.started).to_micros().as_micros(),
        });
    }
}

/// What control asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) token: u64,
    pub(crate) target: Endpoint,
    pub(crate) timeout_ms: u32,
}
