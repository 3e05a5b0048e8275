//! What waits before a narrow place, and who decides when there is too much of it.

mod codel;
mod red;

use std::collections::VecDeque;

use millrace_base::{Instant, Nanos};

use crate::dice::Dice;
use crate::packet::mark_ce;
use codel::CoDel;
use red::Red;

/// How a queue is managed. `bytes` is its size.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QueuePlan {
    /// What finds no room is dropped.
    DropTail { bytes: u64 },
    /// Random early detection (Floyd and Jacobson 1993): between two lengths, in bytes, some are
    /// dropped or marked before there is no room.
    Red { bytes: u64, low: u64, high: u64 },
    /// What comes while more than `mark_above` bytes wait is marked, at once and without an average, as
    /// switches do for DCTCP (RFC 8257 section 3.1); what cannot be marked is let in.
    Threshold { bytes: u64, mark_above: u64 },
    /// `CoDel` (RFC 8289): what waits too long for too long is dropped or marked at the head.
    CoDel {
        bytes: u64,
        target: Nanos,
        interval: Nanos,
    },
}

/// A queue.
#[derive(Debug)]
pub(super) struct Queue {
    packets: VecDeque<(Instant, Vec<u8>)>,
    bytes: u64,
    bytes_max: u64,
    manager: Manager,
    dropped: u64,
    marked: u64,
    /// How many have left, and how long all of them have waited.
    left: u64,
    waited: Nanos,
}

#[derive(Debug)]
enum Manager {
    Nobody,
    Threshold(u64),
    Red(Red),
    CoDel(CoDel),
}

impl Queue {
    pub(super) fn new(plan: &QueuePlan, dice: Dice) -> Self {
        let (bytes_max, manager) = match *plan {
            QueuePlan::DropTail { bytes } => (bytes, Manager::Nobody),
            QueuePlan::Red { bytes, low, high } => (bytes, Manager::Red(Red::new(low, high, dice))),
            QueuePlan::Threshold { bytes, mark_above } => (bytes, Manager::Threshold(mark_above)),
            QueuePlan::CoDel {
                bytes,
                target,
                interval,
            } => (bytes, Manager::CoDel(CoDel::new(target, interval))),
        };
        Self {
            packets: VecDeque::new(),
            bytes: 0,
            bytes_max,
            manager,
            dropped: 0,
            marked: 0,
            left: 0,
            waited: Nanos::ZERO,
        }
    }

    /// Takes a packet in, or drops it.
    pub(super) fn push(&mut self, now: Instant, mut packet: Vec<u8>) {
        let len = packet.len() as u64;
        // An empty queue takes anything: a packet larger than it must not wait for ever.
        if !self.packets.is_empty() && self.bytes + len > self.bytes_max {
            self.dropped += 1;
            return;
        }
        if let Manager::Red(red) = &mut self.manager
            && red.strikes(self.bytes)
        {
            if !mark_ce(&mut packet) {
                self.dropped += 1;
                return;
            }
            self.marked += 1;
        }
        if let Manager::Threshold(mark_above) = self.manager
            && self.bytes > mark_above
            && mark_ce(&mut packet)
        {
            self.marked += 1;
        }
        self.bytes += len;
        self.packets.push_back((now, packet));
    }

    /// When the packet at the head came.
    pub(super) fn first_arrival(&self) -> Option<Instant> {
        self.packets.front().map(|(at, _)| *at)
    }

    /// Lets a packet out; the last one always leaves.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        loop {
            let (came, mut packet) = self.packets.pop_front()?;
            self.bytes -= packet.len() as u64;
            self.left += 1;
            self.waited = Nanos::new(self.waited.as_nanos() + now.since(came).as_nanos());
            let Manager::CoDel(codel) = &mut self.manager else {
                return Some(packet);
            };
            if !codel.strikes(now, now.since(came), self.bytes) {
                return Some(packet);
            }
            if mark_ce(&mut packet) {
                self.marked += 1;
                return Some(packet);
            }
            if self.packets.is_empty() {
                return Some(packet);
            }
            self.dropped += 1;
        }
    }

    /// How long a packet has waited, on average.
    #[cfg(test)]
    pub(super) const fn mean_wait(&self) -> Nanos {
        let left = if self.left == 0 { 1 } else { self.left };
        Nanos::new(self.waited.as_nanos() / left)
    }

    /// Packets dropped and marked.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.dropped, self.marked)
    }
}
