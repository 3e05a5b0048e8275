//! What begins: arrivals, connections, requests.

use millrace_base::{Instant, Nanos, PacketPool};
use millrace_stack::{ConnectError, Stack};

use super::{Client, Connection, Pace, STARTS_PER_TURN_MAX, State, Unit};
use crate::engine::Engine;
use crate::schedule::{Arrivals, Schedule};
use crate::tuples::TRIES_MAX;

impl Client {
    /// Begins what is due.
    pub(super) fn start_due<P: PacketPool>(
        &mut self,
        now: Instant,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        for _ in 0..STARTS_PER_TURN_MAX {
            let has_room = match self.config.unit {
                Unit::Connection => !self.idle.is_empty(),
                Unit::Request => self.has_ready(),
            };
            if !has_room {
                return;
            }
            let due = match &mut self.schedule {
                Some(schedule) => schedule.take(now),
                None => Some(now),
            };
            let Some(due) = due else { return };
            self.counters.scheduled.add(1);
            if now.since(due) > self.config.late {
                self.counters.late.add(1);
            }
            match self.config.unit {
                Unit::Connection => {
                    if !self.open(now, due, stack) {
                        return;
                    }
                }
                Unit::Request => self.ask_next(now, due, stack, pool),
            }
        }
    }

    /// Opens what shall be held, at its own pace.
    pub(super) fn open_held<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>) {
        let rate = self.config.open_rate;
        self.opening_since.get_or_insert(now);
        for _ in 0..STARTS_PER_TURN_MAX {
            if self.idle.is_empty() {
                return;
            }
            if !self.is_running {
                let opening = self
                    .opening
                    .get_or_insert_with(|| Schedule::new(Arrivals::Constant, rate, 0, now));
                if opening.take(now).is_none() {
                    return;
                }
            }
            if !self.open(now, now, stack) {
                return;
            }
        }
    }

    /// Whether the schedule may run: at once, or when everything that shall be held is.
    pub(super) fn look_whether_running(&mut self, now: Instant) {
        let is_open = match self.config.unit {
            Unit::Connection => true,
            Unit::Request => {
                let since = self.opening_since.unwrap_or(now);
                let opening_secs = self.connections.len() as f64 / self.config.open_rate.max(1e-3);
                let patience = Nanos::new((opening_secs * 1e9) as u64).plus(self.config.timeout);
                self.opened_once >= self.connections.len() || since.after(patience).is_due(now)
            }
        };
        if is_open {
            self.is_running = true;
            self.counters.running.set(1);
            if let Pace::Open { rate, .. } = self.config.pace {
                self.set_rate(now, rate);
            }
        }
    }

    /// Opens a connection for an arrival; `false` when it could not be, and more will not either.
    pub(super) fn open<P: PacketPool>(
        &mut self,
        now: Instant,
        due: Instant,
        stack: &mut Stack<P>,
    ) -> bool {
        let Some(index) = self.idle.pop() else {
            return false;
        };
        for _ in 0..TRIES_MAX {
            let Some((tuple, flow_tuple)) = self.tuples.take() else {
                break;
            };
            let flow = match stack.connect(now, flow_tuple, u64::from(index)) {
                Ok(flow) => flow,
                Err(error) => {
                    self.tuples.put_back(tuple);
                    match error {
                        ConnectError::AddressInUse => continue,
                        ConnectError::TableFull => self.counters.no_slot.add(1),
                        ConnectError::BadAddress | ConnectError::NoRoute => {
                            self.counters.unreachable.add(1);
                        }
                    }
                    self.idle.push(index);
                    return false;
                }
            };
            self.live = self.live.saturating_add(1);
            if let Some(connection) = self.connections.get_mut(index as usize) {
                *connection = Connection {
                    flow,
                    state: State::Connecting,
                    tuple,
                    progress: now,
                    ..Connection::NONE
                };
            }
            if self.config.unit == Unit::Connection {
                self.set_due(index, 0, due);
                self.counters.in_flight.add(1);
            }
            return true;
        }
        self.counters.no_port.add(1);
        self.idle.push(index);
        false
    }

    /// Whether a connection takes a request. Those that ended while they stood in the line leave it.
    pub(super) fn has_ready(&mut self) -> bool {
        // Ends: each round takes one out of the line.
        while let Some(index) = self.ready.first() {
            let Some(connection) = self.connections.get_mut(index as usize) else {
                return false;
            };
            if connection.state == State::Open {
                return true;
            }
            connection.is_ready = false;
            self.ready.pop();
            self.idle.push(index);
        }
        false
    }

    /// Puts a request on the connection that rested longest.
    pub(super) fn ask_next<P: PacketPool>(
        &mut self,
        now: Instant,
        due: Instant,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let Some(index) = self.ready.pop() else {
            return;
        };
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        connection.is_ready = false;
        let slot = connection.oldest.wrapping_add(connection.in_flight);
        self.set_due(index, slot, due);
        self.counters.in_flight.add(1);
        self.ask(now, index, stack, pool);
        self.line_up(index);
    }

    /// Begins one request.
    pub(super) fn ask<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        if let Some(connection) = self.connections.get_mut(index as usize) {
            connection.begun = connection.begun.saturating_add(1);
            connection.in_flight = connection.in_flight.saturating_add(1);
            connection.owed = connection.owed.saturating_add(1);
            connection.progress = now;
            self.counters.requests.add(1);
        }
        self.flush(now, index, stack, pool);
    }

    /// As many requests of a connection's own as may be under way.
    pub(super) fn ask_more<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let quota = self.config.requests_per_connection;
        let pipeline = self.config.pipeline;
        while self
            .connections
            .get(index as usize)
            .is_some_and(|connection| connection.in_flight < pipeline && connection.begun < quota)
        {
            self.ask(now, index, stack, pool);
        }
    }

    /// Puts a connection in the line of those that take a request, if it does.
    pub(super) fn line_up(&mut self, index: u32) {
        let quota = self.config.requests_per_connection;
        let pipeline = self.config.pipeline;
        if let Some(connection) = self.connections.get_mut(index as usize)
            && connection.state == State::Open
            && !connection.is_ready
            && connection.in_flight < pipeline
            && (quota == 0 || connection.begun < quota)
        {
            connection.is_ready = self.ready.push(index);
        }
    }

    /// Queues what is owed, as far as there is room.
    pub(super) fn flush<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        let quota = self.config.requests_per_connection;
        while connection.owed > 0 {
            let number = connection.begun.saturating_sub(connection.owed.into());
            let is_last = quota != 0 && number.saturating_add(1) == quota;
            let message = if is_last {
                &self.config.last_request
            } else {
                &self.config.request
            };
            let piece = message.at(connection.position);
            let queued = stack.send(now, connection.flow, piece, pool);
            self.counters.bytes_out.add(queued as u64);
            connection.position = connection.position.saturating_add(queued as u64);
            if connection.position >= message.len() {
                connection.position = 0;
                connection.owed = connection.owed.saturating_sub(1);
            } else if queued < piece.len() {
                return;
            }
            if queued > 0 {
                connection.progress = now;
            }
        }
    }
}
