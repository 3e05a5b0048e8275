//! What ends: answers, connections, patience.

use millrace_base::{Instant, PacketPool};
use millrace_stack::Stack;

use super::{Client, Connection, Ending, Failure, SCAN_PER_TURN, State, Unit, next_slot};
use crate::engine::Answered;

impl Client {
    pub(super) fn on_connected<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        self.counters.opened.add(1);
        self.opened_once = self.opened_once.saturating_add(1);
        if let Some(connection) = self.connections.get_mut(index as usize) {
            connection.state = State::Open;
            connection.progress = now;
        }
        match self.config.unit {
            Unit::Connection => self.ask_more(now, index, stack, pool),
            Unit::Request => self.line_up(index),
        }
    }

    /// Reads everything that has arrived.
    pub(super) fn read<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let mut scratch = core::mem::take(&mut self.scratch);
        // Ends: a receive queue is bounded, and nothing joins it meanwhile.
        while let Some(flow) = self.live(index) {
            let received = stack.receive(now, flow, &mut scratch);
            self.counters.bytes_in.add(received.bytes as u64);
            let bytes = scratch.get(..received.bytes).unwrap_or_default();
            self.take(now, index, bytes, stack, pool);
            if received.end_of_stream {
                self.on_peer_end(now, index, stack);
                break;
            }
            if received.bytes < scratch.len() {
                break;
            }
        }
        self.scratch = scratch;
    }

    /// Takes received bytes apart into answers.
    pub(super) fn take<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        bytes: &[u8],
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let mut at = 0usize;
        while at < bytes.len() {
            let Some(connection) = self.connections.get_mut(index as usize) else {
                return;
            };
            if connection.state == State::Idle {
                return;
            }
            connection.progress = now;
            let rest = bytes.get(at..).unwrap_or_default();
            let fed = if connection.in_flight == 0 {
                None
            } else {
                connection.answer.feed(rest, &self.config.protocol).ok()
            };
            // Not HTTP, or an answer to nothing.
            let Some((taken, answered)) = fed else {
                self.fail(now, index, Failure::BadAnswer, stack);
                return;
            };
            at = at.saturating_add(taken);
            if let Some(answered) = answered {
                self.on_answer(now, index, answered, stack, pool);
            }
        }
    }

    pub(super) fn on_answer<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        answered: Answered,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let due = self.due_of_oldest(index);
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        connection.in_flight = connection.in_flight.saturating_sub(1);
        self.counters.responses.add(1);
        if answered.is_error {
            connection.is_bad = true;
            self.counters.bad_answers.add(1);
        }
        if self.config.unit == Unit::Request {
            connection.oldest = next_slot(connection.oldest, self.config.pipeline);
            self.counters.in_flight.subtract(1);
            if !answered.is_error {
                self.counters.operations.add(1);
                self.counters.latency.record(now.since(due));
            }
        }
        let quota = self.config.requests_per_connection;
        let is_done = quota != 0 && connection.begun >= quota;
        if connection.in_flight > 0 && !answered.closes {
            match self.config.unit {
                Unit::Connection => self.ask_more(now, index, stack, pool),
                Unit::Request => self.line_up(index),
            }
        } else if is_done || answered.closes {
            self.finish(now, index, stack);
        } else {
            match self.config.unit {
                Unit::Connection => self.ask_more(now, index, stack, pool),
                Unit::Request => self.line_up(index),
            }
        }
    }

    /// The last answer of a connection is here, or the peer said that it was the last.
    pub(super) fn finish<P: PacketPool>(&mut self, now: Instant, index: u32, stack: &mut Stack<P>) {
        let quota = self.config.requests_per_connection;
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        let is_cut = match self.config.unit {
            Unit::Connection => connection.begun < quota,
            Unit::Request => false,
        };
        if connection.in_flight > 0 || is_cut {
            self.fail(now, index, Failure::EarlyClose, stack);
            return;
        }
        let flow = connection.flow;
        match self.config.ending {
            Ending::Peer => {
                connection.state = State::AwaitsEnd;
                connection.progress = now;
                return;
            }
            Ending::Client => stack.close(now, flow),
            Ending::Reset => stack.abort(now, flow),
        }
        self.end_well(now, index);
    }

    /// A connection whose work is done is over.
    pub(super) fn end_well(&mut self, now: Instant, index: u32) {
        self.counters.closed.add(1);
        let connection = self.connections.get(index as usize);
        let is_good = connection.is_some_and(|connection| !connection.is_bad);
        if self.config.unit == Unit::Connection {
            let due = self.due_of_oldest(index);
            self.counters.in_flight.subtract(1);
            if is_good {
                self.counters.operations.add(1);
                self.counters.latency.record(now.since(due));
            }
        }
        self.forget(index);
    }

    /// The peer has closed its side, and everything before that is read.
    pub(super) fn on_peer_end<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        stack: &mut Stack<P>,
    ) {
        let Some(connection) = self.connections.get(index as usize) else {
            return;
        };
        match connection.state {
            State::AwaitsEnd => {
                stack.close(now, connection.flow);
                self.end_well(now, index);
            }
            State::Open | State::Connecting => self.fail(now, index, Failure::EarlyClose, stack),
            State::Idle => {}
        }
    }

    /// A connection ended before its work: counts every operation that was on it, once at least.
    pub(super) fn fail<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        failure: Failure,
        stack: &mut Stack<P>,
    ) {
        let Some(connection) = self.connections.get(index as usize) else {
            return;
        };
        let lost = match self.config.unit {
            Unit::Connection => 1,
            Unit::Request => u64::from(connection.in_flight),
        };
        self.counters.in_flight.subtract(lost);
        let counter = match failure {
            Failure::Refused => &self.counters.refused,
            Failure::Reset => &self.counters.resets,
            Failure::TimedOut => &self.counters.timeouts,
            Failure::Unreachable => &self.counters.unreachable,
            Failure::EarlyClose => &self.counters.early_closes,
            Failure::BadAnswer => &self.counters.bad_answers,
        };
        counter.add(lost.max(1));
        stack.abort(now, connection.flow);
        self.forget(index);
    }

    /// The connection is nobody's any more; its tuple rests.
    pub(super) fn forget(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index as usize) {
            self.live = self.live.saturating_sub(1);
            self.tuples.put_back(connection.tuple);
            // One that stands in the line is recognised there by its state.
            let is_ready = connection.is_ready;
            *connection = Connection {
                is_ready,
                ..Connection::NONE
            };
            if !is_ready {
                self.idle.push(index);
            }
        }
    }

    /// Ends connections that have work and make no progress. Looks at a few in each turn.
    pub(super) fn scan<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>) {
        for _ in 0..SCAN_PER_TURN.min(self.connections.len()) {
            let index = self.scan_at;
            self.scan_at = index.saturating_add(1);
            if self.scan_at >= self.connections.len() {
                self.scan_at = 0;
            }
            let Some(connection) = self.connections.get(index) else {
                continue;
            };
            let has_work = match connection.state {
                State::Idle => false,
                State::Open => connection.in_flight > 0,
                State::Connecting | State::AwaitsEnd => true,
            };
            if has_work && now.since(connection.progress) > self.config.timeout {
                self.fail(now, index as u32, Failure::TimedOut, stack);
            }
        }
    }
}
