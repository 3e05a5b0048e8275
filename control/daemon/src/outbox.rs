//! Commands and frames on their way to the lcores. A command ring that is full for a while is waited
//! for, up to a bound; a frame takes the next lcore's ring.

use std::collections::VecDeque;

use millrace_abi::{Command, CommandSender, FrameSender};

use crate::neighbor::Outgoing;

/// Commands that may wait for one lcore: four ringfuls. Neighbour tables are resent as a whole
/// (1,024 commands) and health probes come on top; an lcore that takes nothing for longer than that
/// is stuck.
const WAITING_MAX: usize = 4 * millrace_abi::limits::COMMANDS_MAX;

/// Waiting commands, by lcore.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Vec<VecDeque<Command>>,
    next_lcore: usize,
}

impl Outbox {
    /// Empty, for this many lcores.
    pub(crate) fn new(lcores: usize) -> Self {
        Self {
            waiting: vec![VecDeque::new(); lcores],
            next_lcore: 0,
        }
    }

    /// For every lcore. Tells how many were dropped instead.
    pub(crate) fn queue_for_all(&mut self, command: Command) -> usize {
        let lcores = 0..self.waiting.len();
        lcores.map(|lcore| self.queue(lcore, command)).sum()
    }

    /// For one lcore. Tells whether it was dropped (1) or not (0).
    pub(crate) fn queue(&mut self, lcore: usize, command: Command) -> usize {
        match self.waiting.get_mut(lcore) {
            Some(queue) if queue.len() < WAITING_MAX => {
                queue.push_back(command);
                0
            }
            _ => 1,
        }
    }

    /// For the next lcore in turn.
    pub(crate) fn queue_for_next(&mut self, command: Command) -> usize {
        let lcore = self.next_lcore % self.waiting.len().max(1);
        self.next_lcore = lcore + 1;
        self.queue(lcore, command)
    }

    /// Hands over as many as the rings take.
    pub(crate) fn flush(&mut self, rings: &mut [CommandSender]) {
        for (queue, ring) in self.waiting.iter_mut().zip(rings) {
            let sent = ring.push_batch(queue.make_contiguous());
            queue.drain(..sent);
        }
    }
}

/// Gives a frame to `first` or, when its ring is full, to any other lcore.
pub(crate) fn inject(rings: &mut [FrameSender], first: usize, outgoing: &Outgoing) -> bool {
    let order = (first..rings.len()).chain(0..first);
    let mut order = order.filter_map(|lcore| {
        let ring = rings.get_mut(lcore)?;
        ring.push(outgoing.port, 0, &outgoing.frame).ok()
    });
    order.next().is_some()
}
