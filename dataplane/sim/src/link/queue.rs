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
}

#[derive(Debug)]
enum Manager {
    Nobody,
    Red(Red),
    CoDel(CoDel),
}

impl Queue {
    pub(super) fn new(plan: &QueuePlan, dice: Dice) -> Self {
        let (bytes_max, manager) = match *plan {
            QueuePlan::DropTail { bytes } => (bytes, Manager::Nobody),
            QueuePlan::Red { bytes, low, high } => (bytes, Manager::Red(Red::new(low, high, dice))),
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

    /// Packets dropped and marked.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.dropped, self.marked)
    }
}
