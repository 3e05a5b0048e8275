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

mod begin;
mod end;

use std::sync::Arc;

use millrace_base::{Instant, Nanos, PacketPool};
use millrace_stack::{Event, FlowId, Ready, Stack};

use crate::counters::Counters;
use crate::engine::{Answer, Engine, Protocol};
use crate::message::Message;
use crate::ring::Ring;
use crate::schedule::{Arrivals, Schedule};
use crate::tuples::{TupleSpace, Tuples};

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
