//! The client: opens connections, asks, reads answers, and measures from when it should have begun.
//!
//! Two units of arrival:
//! * `Connection`: an arrival opens a connection, asks what is to be asked on it and closes it.
//! * `Request`: connections are opened first and held; an arrival is a request on the one that
//!   rested longest.
//!
//! Two paces: an open loop takes arrivals from a [`Schedule`], a closed loop begins the next
//! operation when one has ended. An arrival that finds nothing free waits in the schedule, and its
//! latency grows meanwhile.

use std::sync::Arc;

use millrace_base::{Instant, Nanos, PacketPool};
use millrace_stack::{ConnectError, Event, FlowId, Ready, Stack};

use crate::counters::Counters;
use crate::engine::{Answer, Answered, Engine, Protocol};
use crate::message::Message;
use crate::ring::Ring;
use crate::schedule::{Arrivals, Schedule};
use crate::tuples::{TRIES_MAX, TupleSpace, Tuples};

/// Requests under way on one connection at most.
pub const PIPELINE_MAX: u8 = 64;

/// Arrivals, and connections opened, in one turn: two bursts' worth, then the device is looked at
/// again.
const STARTS_PER_TURN_MAX: usize = 64;

/// Connections looked at for their time limit in one turn: a million are seen within 31,250 turns,
/// some tens of milliseconds.
const SCAN_PER_TURN: usize = 32;

/// Connections reset in one turn when all must end.
const RESETS_PER_TURN_MAX: usize = 64;

/// Bytes read at once.
const SCRATCH_BYTES: usize = 65_536;

/// What an arrival is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A connection with all its requests.
    Connection,
    /// One request on a connection that is held open.
    Request,
}

/// When operations begin.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// By a schedule.
    Open {
        /// How gaps are distributed.
        arrivals: Arrivals,
        /// Arrivals per second.
        rate: f64,
        /// Makes the same schedule again.
        seed: u64,
    },
    /// As soon as another has ended.
    Closed,
}

/// How a connection ends once everything was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Ending {
    /// We close first, and the TIME_WAIT is ours.
    #[default]
    Client,
    /// The peer closes first; with HTTP it is asked to.
    Peer,
    /// We reset.
    Reset,
}

/// What a client does.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Connections at once, at most.
    pub connections: usize,
    /// What an arrival is.
    pub unit: Unit,
    /// Requests on one connection before it ends; 0 is without end (`Unit::Request` only).
    pub requests_per_connection: u32,
    /// Requests under way on one connection, 1 to [`PIPELINE_MAX`].
    pub pipeline: u8,
    /// When operations begin.
    pub pace: Pace,
    /// Connections opened per second until all are held (`Unit::Request` only).
    pub open_rate: f64,
    /// How a connection ends.
    pub ending: Ending,
    /// How requests and answers look.
    pub protocol: Protocol,
    /// A request.
    pub request: Message,
    /// The last request of a connection.
    pub last_request: Message,
    /// How long a connection with work may make no progress.
    pub timeout: Nanos,
    /// How late an arrival may be begun before it counts as missed.
    pub late: Nanos,
    /// Source addresses, ports and targets.
    pub tuples: TupleSpace,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Connecting,
    Open,
    /// Everything is answered; the peer shall close.
    AwaitsEnd,
}

#[derive(Clone, Debug)]
struct Connection {
    flow: FlowId,
    state: State,
    /// It stands in the line of those that take a request.
    is_ready: bool,
    /// Requests under way.
    in_flight: u8,
    /// Where the oldest request's due time is in its ring.
    oldest: u8,
    /// Requests begun and not yet queued as a whole.
    owed: u8,
    tuple: u32,
    begun: u32,
    /// Bytes of the first owed request that are queued.
    position: u64,
    /// One of its answers was an error.
    is_bad: bool,
    /// When it last made progress.
    progress: Instant,
    answer: Answer,
}

/// A load-generating client on one stack.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    tuples: Tuples,
    connections: Box<[Connection]>,
    /// When each request under way was due: `pipeline` entries per connection.
    due: Box<[Instant]>,
    /// Connections that do not exist.
    idle: Ring<u32>,
    /// Connections that take a request.
    ready: Ring<u32>,
    schedule: Option<Schedule>,
    opening: Option<Schedule>,
    /// When opening began; what cannot be opened by then plus the time limit is not waited for.
    opening_since: Option<Instant>,
    opened_once: usize,
    /// Connections that exist.
    live: usize,
    is_running: bool,
    is_ending: bool,
    /// Where the last resets go on.
    reset_at: usize,
    /// Where the next look for silent connections begins.
    scan_at: usize,
    scratch: Box<[u8]>,
    counters: Arc<Counters>,
}

/// Why a connection ended before its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    Refused,
    Reset,
    TimedOut,
    Unreachable,
    EarlyClose,
    BadAnswer,
}

impl Client {
    /// A client that begins with the first `advance`. Takes all memory it will ever use.
    pub fn new(mut config: ClientConfig, counters: Arc<Counters>) -> Self {
        config.pipeline = config.pipeline.clamp(1, PIPELINE_MAX);
        if config.unit == Unit::Connection {
            config.requests_per_connection = config.requests_per_connection.max(1);
        }
        let count = config.connections.clamp(1, u32::MAX as usize);
        let mut idle = Ring::new(count);
        (0..count as u32).for_each(|index| {
            idle.push(index);
        });
        Self {
            tuples: Tuples::new(config.tuples.clone()),
            connections: vec![Connection::NONE; count].into_boxed_slice(),
            due: vec![Instant::ZERO; count.saturating_mul(usize::from(config.pipeline))]
                .into_boxed_slice(),
            idle,
            ready: Ring::new(count),
            schedule: None,
            opening: None,
            opening_since: None,
            opened_once: 0,
            live: 0,
            is_running: false,
            is_ending: false,
            reset_at: 0,
            scan_at: 0,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            counters,
            config,
        }
    }

    /// Begins what is due.
    fn start_due<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>, pool: &mut P) {
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
    fn open_held<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>) {
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
    fn look_whether_running(&mut self, now: Instant) {
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
    fn open<P: PacketPool>(&mut self, now: Instant, due: Instant, stack: &mut Stack<P>) -> bool {
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
    fn has_ready(&mut self) -> bool {
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
    fn ask_next<P: PacketPool>(
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
    fn ask<P: PacketPool>(&mut self, now: Instant, index: u32, stack: &mut Stack<P>, pool: &mut P) {
        if let Some(connection) = self.connections.get_mut(index as usize) {
            connection.begun = connection.begun.saturating_add(1);
            connection.in_flight = connection.in_flight.saturating_add(1);
            connection.owed = connection.owed.saturating_add(1);
            connection.progress = now;
            self.counters.requests.add(1);
        }
        self.flush(now, index, stack, pool);
    }

    /// Puts a connection in the line of those that take a request, if it does.
    fn line_up(&mut self, index: u32) {
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
    fn flush<P: PacketPool>(
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

    fn on_connected<P: PacketPool>(
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

    /// As many requests of a connection's own as may be under way.
    fn ask_more<P: PacketPool>(
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

    /// Reads everything that has arrived.
    fn read<P: PacketPool>(
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
    fn take<P: PacketPool>(
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

    fn on_answer<P: PacketPool>(
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
    fn finish<P: PacketPool>(&mut self, now: Instant, index: u32, stack: &mut Stack<P>) {
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
    fn end_well(&mut self, now: Instant, index: u32) {
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
    fn on_peer_end<P: PacketPool>(&mut self, now: Instant, index: u32, stack: &mut Stack<P>) {
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
    fn fail<P: PacketPool>(
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
    fn forget(&mut self, index: u32) {
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
    fn scan<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>) {
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

    /// The connection behind an index, if there is one.
    fn live(&self, index: u32) -> Option<FlowId> {
        let connection = self.connections.get(index as usize)?;
        (connection.state != State::Idle).then_some(connection.flow)
    }

    fn due_slot(&self, index: u32, slot: u8) -> usize {
        let pipeline = usize::from(self.config.pipeline);
        let slot = usize::from(slot).checked_rem(pipeline).unwrap_or(0);
        (index as usize)
            .saturating_mul(pipeline)
            .saturating_add(slot)
    }

    fn set_due(&mut self, index: u32, slot: u8, due: Instant) {
        let slot = self.due_slot(index, slot);
        if let Some(place) = self.due.get_mut(slot) {
            *place = due;
        }
    }

    fn due_of_oldest(&self, index: u32) -> Instant {
        let connection = self.connections.get(index as usize);
        let oldest = match self.config.unit {
            Unit::Connection => 0,
            Unit::Request => connection.map_or(0, |connection| connection.oldest),
        };
        let slot = self.due_slot(index, oldest);
        self.due.get(slot).copied().unwrap_or_default()
    }
}

impl Engine for Client {
    fn on_event<P: PacketPool>(
        &mut self,
        now: Instant,
        event: &Event,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let index = event.user as u32;
        // News of a connection that we gave up in the meantime are news of nobody.
        let is_live = |client: &Self| client.live(index) == Some(event.flow);
        if !is_live(self) {
            return;
        }
        let ready = event.ready;
        if ready.contains(Ready::CONNECTED) {
            self.on_connected(now, index, stack, pool);
        }
        if ready.intersects(Ready::READABLE | Ready::PEER_CLOSED) {
            self.read(now, index, stack, pool);
        }
        if is_live(self) && ready.contains(Ready::WRITABLE) {
            self.flush(now, index, stack, pool);
        }
        if !is_live(self) {
            return;
        }
        if let Some(failure) = Failure::of(ready) {
            self.fail(now, index, failure, stack);
        } else if ready.contains(Ready::CLOSED) {
            self.on_peer_end(now, index, stack);
        }
    }

    fn advance<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>, pool: &mut P) {
        self.scan(now, stack);
        if self.is_ending {
            return;
        }
        if self.config.unit == Unit::Request {
            self.open_held(now, stack);
        }
        if !self.is_running {
            self.look_whether_running(now);
        }
        if self.is_running {
            self.start_due(now, stack, pool);
        }
    }

    fn set_rate(&mut self, now: Instant, rate: f64) {
        if let Pace::Open { arrivals, seed, .. } = self.config.pace {
            self.config.pace = Pace::Open {
                arrivals,
                rate,
                seed,
            };
            if self.is_running {
                self.schedule = Some(Schedule::new(arrivals, rate, seed, now));
            }
        }
    }

    fn wind_down(&mut self) {
        self.is_ending = true;
    }

    fn is_quiet(&self) -> bool {
        self.counters.in_flight.value() == 0
    }

    fn reset_some<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>) -> bool {
        let mut left = RESETS_PER_TURN_MAX;
        // Ends: nothing is opened behind the cursor any more.
        while left > 0 && self.reset_at < self.connections.len() {
            let index = self.reset_at as u32;
            self.reset_at = self.reset_at.saturating_add(1);
            if let Some(flow) = self.live(index) {
                stack.abort(now, flow);
                self.forget(index);
                left = left.saturating_sub(1);
            }
        }
        self.live > 0
    }
}

impl Connection {
    const NONE: Self = Self {
        flow: FlowId::NONE,
        state: State::Idle,
        is_ready: false,
        in_flight: 0,
        oldest: 0,
        owed: 0,
        tuple: 0,
        begun: 0,
        position: 0,
        is_bad: false,
        progress: Instant::ZERO,
        answer: Answer::NONE,
    };
}

impl Failure {
    fn of(ready: Ready) -> Option<Self> {
        [
            (Ready::REFUSED, Self::Refused),
            (Ready::RESET, Self::Reset),
            (Ready::TIMED_OUT, Self::TimedOut),
            (Ready::UNREACHABLE, Self::Unreachable),
        ]
        .into_iter()
        .find_map(|(bit, failure)| ready.contains(bit).then_some(failure))
    }
}

fn next_slot(slot: u8, pipeline: u8) -> u8 {
    let next = slot.saturating_add(1);
    if next >= pipeline { 0 } else { next }
}
