//! The packet loop of one lcore: rx burst → stack → balancer → tx burst → timers → control → counters.
//!
//! Everything of one turn happens at one instant, the arrival stamp of its bursts. All frames of a burst go through the
//! stack before anything is sent, so a connection decides about its ACKs once a burst. Nothing here blocks, allocates or
//! logs; a turn that found nothing is handed to the idle policy.

use arrayvec::ArrayVec;
use millrace_abi::limits::PORTS_MAX;
use millrace_abi::{Event, LcoreHandle, LcorePhase, LcoreState, Stage, burst_bucket, heap};
use millrace_base::{Instant, LcoreIndex, Nanos, PortId};
use millrace_dpdk::{Burst, Clock, LcoreUsage, Mbuf, MbufPool, RxQueue, cycles};
use millrace_lb::Balancer;
use millrace_stack::{Offloads, Punt, Stack};

use crate::account::Stopwatch;
use crate::backlog::Backlog;
use crate::bells::Bells;
use crate::counters::{self, Counters, count};
use crate::idle::Idler;
use crate::pools::Stock;
use crate::shutdown::{Control, Phase};
use crate::steer::Steer;
use crate::tx::TxPort;

/// How often counters and the heartbeat are published.
const REPORT_INTERVAL: Nanos = Nanos::from_millis(100);
/// Turns between two looks at control's rings, and at how many buffers are free, while there is traffic: they cost five
/// cache lines. In between come 8 bursts for each port, which the watermarks leave room for.
const TURNS_PER_CONTROL_LOOK: u32 = 8;
/// Batches of steered frames taken in one turn: 128 frames, so that a queue shrinks even while a full burst comes in.
const STEERED_BATCHES_PER_TURN_MAX: usize = 16;

/// Everything one lcore owns.
pub struct Lcore {
    pub(crate) index: LcoreIndex,
    pub(crate) clock: Clock,
    pub(crate) pool: MbufPool,
    pub(crate) stock: Stock,
    pub(crate) stack: Stack<MbufPool>,
    pub(crate) balancer: Balancer,
    pub(crate) rx: ArrayVec<(PortId, RxQueue), PORTS_MAX>,
    pub(crate) tx: ArrayVec<TxPort, PORTS_MAX>,
    pub(crate) offloads: ArrayVec<Offloads, PORTS_MAX>,
    pub(crate) shared: LcoreHandle,
    pub(crate) steer: Steer,
    pub(crate) untold: Option<Event>,
    pub(crate) idler: Idler,
    pub(crate) bells: Bells,
    pub(crate) control: Control,
    pub(crate) counters: Counters,
    pub(crate) state: LcoreState,
    pub(crate) stopwatch: Stopwatch,
    pub(crate) usage: LcoreUsage,
    pub(crate) report_due: Instant,
    pub(crate) backlog: Backlog,
    pub(crate) turns: u32,
    pub(crate) burst: Burst,
    pub(crate) ours: Burst,
}

impl Lcore {
    /// Runs until the process is to stop.
    pub fn run(mut self) {
        let mut wait = self.idler.choose(&self.rx);
        heap::seal_thread(on_allocation());
        self.state.phase = LcorePhase::Running as u64;
        self.state.tsc_hz = self.clock.hertz();
        self.state.idle_asked = self.idler.asked_mode() as u64;
        self.state.idle_in_force = wait.mode() as u64;
        let mut turn_start = cycles();
        loop {
            // The arrival stamp is the stamp that ended the last turn: one reading of the counter for both.
            let now = self.clock.at(turn_start);
            let phase = self.control.phase();
            if phase != Phase::Run {
                self.leave(phase, now);
                if phase == Phase::Stop {
                    break;
                }
            }
            let worked = self.turn(now);
            if worked {
                self.idler.on_work();
            } else {
                let due_in = self.due_in(now);
                let steer = &self.steer;
                let is_empty = || !steer.has_waiting();
                self.idler.on_empty(&mut wait, due_in, is_empty);
            }
            let turn_end = cycles();
            self.account(worked, turn_end.wrapping_sub(turn_start));
            turn_start = turn_end;
        }
        self.stop();
        heap::unseal_thread();
    }

    /// One turn at `now`, which never goes back; tells whether it found work. `run` is this, again and again.
    pub fn turn(&mut self, now: Instant) -> bool {
        self.stopwatch.begin();
        self.turns = self.turns.wrapping_add(1);
        let received = self.receive(now);
        let mut worked = received > 0;
        if self.idler.is_quiet() || self.turns.is_multiple_of(TURNS_PER_CONTROL_LOOK) {
            worked |= self.serve_control(now);
            self.stack.set_shortage(self.stock.shortage());
            self.stopwatch.lap(Stage::Control);
        }
        if !self.backlog.holds_timers(now, received) {
            self.stack.advance(now, &mut self.pool);
        }
        self.stopwatch.lap(Stage::Timers);
        while let Some(event) = self.stack.poll_event() {
            worked = true;
            self.balancer.handle_event(now, event, &mut self.stack);
        }
        self.stopwatch.lap(Stage::Balancer);
        self.balancer.advance(now, &mut self.stack);
        self.stopwatch.lap(Stage::Timers);
        worked |= self.transmit(now);
        self.stopwatch.lap(Stage::Tx);
        if self.report_due.is_due(now) {
            self.report(now);
            self.stopwatch.lap(Stage::Report);
        }
        self.stopwatch.end(worked, received, &mut self.state);
        worked
    }

    /// What this lcore's loop has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Cycles by stage, bursts by size and the like, of which only those behind busy and idle cycles need `run`.
    pub fn state(&self) -> &LcoreState {
        &self.state
    }

    /// This lcore's stack, for its counters and the fill of its tables.
    pub fn stack(&self) -> &Stack<MbufPool> {
        &self.stack
    }

    /// This lcore's balancer, for its counters.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// Takes one burst from each port, and what other lcores received for us; tells how many frames that were.
    fn receive(&mut self, now: Instant) -> usize {
        let mut received = 0usize;
        for index in 0..self.rx.len() {
            let Some((port, queue)) = self.rx.get_mut(index) else {
                break;
            };
            let (port, count) = (*port, queue.burst(&mut self.burst));
            received = received.saturating_add(count);
            if let Some(bucket) = self.state.rx_bursts.get_mut(burst_bucket(count)) {
                *bucket = bucket.wrapping_add(1);
            }
            Mbuf::prefetch_segments(self.burst.frames());
            self.stopwatch.lap(Stage::Rx);
            if !self.steer.is_alone() {
                let Self { burst, ours, .. } = self;
                self.steer.sort(port, burst, ours, &mut self.counters);
                let rung = self.bells.ring(self.steer.take_handed());
                count!(self.counters.lcores_woken, rung);
                core::mem::swap(burst, ours);
                self.stopwatch.lap(Stage::Steer);
            }
            let Self {
                burst, stack, pool, ..
            } = self;
            let mut punts = Burst::new();
            stack.handle_burst(now, port, burst.drain(), pool, keep_in(&mut punts));
            self.punt_all(port, punts);
            self.stopwatch.lap(Stage::Stack);
        }
        count!(self.counters.rx_frames, received);
        for _ in 0..STEERED_BATCHES_PER_TURN_MAX {
            let Some(batch) = self.steer.take() else {
                break;
            };
            received = received.saturating_add(batch.frames.len());
            Mbuf::prefetch_segments(&batch.frames);
            let Self { stack, pool, .. } = self;
            let mut punts = Burst::new();
            stack.handle_burst(now, batch.port, batch.frames, pool, keep_in(&mut punts));
            self.punt_all(batch.port, punts);
        }
        self.stopwatch.lap(Stage::Stack);
        received
    }

    /// Hands to control what is its business of a burst.
    #[inline]
    fn punt_all(&mut self, port: PortId, mut punts: Burst) {
        for frame in punts.drain() {
            self.punt(port, frame);
        }
    }

    /// Sends what the stack has to say, as far as the devices have room.
    fn transmit(&mut self, now: Instant) -> bool {
        let mut sent = false;
        if self.has_room(now) {
            let Self {
                stack,
                pool,
                tx,
                counters,
                ..
            } = self;
            stack.transmit(now, pool, |transmit| {
                sent = true;
                let Some(port) = tx.get_mut(transmit.port.index()) else {
                    count!(counters.tx_frames_refused);
                    return true;
                };
                if port.push(transmit.frame).is_err() {
                    count!(counters.tx_frames_refused);
                }
                // The others had room before and have got nothing since.
                port.make_room(now, counters)
            });
        }
        for port in &mut self.tx {
            port.flush(now, &mut self.counters);
        }
        sent
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let counters = &mut self.counters;
        self.tx.iter_mut().all(|port| port.make_room(now, counters))
    }

    fn account(&mut self, worked: bool, spent: u64) {
        let total = if worked {
            &mut self.state.busy_cycles
        } else {
            &mut self.state.idle_cycles
        };
        *total = total.wrapping_add(spent);
    }

    /// How long until a timer, for a lcore that may sleep; nothing is looked up for one that may not.
    fn due_in(&self, now: Instant) -> Nanos {
        if !self.idler.is_quiet() {
            return Nanos::ZERO;
        }
        let stack = self.stack.next_deadline();
        let next = stack
            .min(self.balancer.next_deadline())
            .min(self.report_due);
        next.since(now)
    }

    fn leave(&mut self, phase: Phase, now: Instant) {
        if self.state.phase == LcorePhase::Running as u64 {
            self.balancer.drain(now, &mut self.stack);
            self.state.phase = LcorePhase::Draining as u64;
        }
        // The last bytes of ended sessions are in connections that nobody owns any more.
        let is_drained = self.balancer.is_drained() && self.stack.connection_count() == 0;
        let is_done = is_drained || phase == Phase::Stop;
        if is_done && self.state.phase == LcorePhase::Draining as u64 {
            self.state.phase = LcorePhase::Drained as u64;
            self.control.report_drained();
        }
    }

    fn stop(&mut self) {
        let now = self.clock.now();
        while self.balancer.reset_sessions(now, &mut self.stack) {
            self.transmit(now);
        }
        self.transmit(now);
        self.state.phase = LcorePhase::Stopped as u64;
        self.report(now);
    }

    fn report(&mut self, now: Instant) {
        self.report_due = now.after(REPORT_INTERVAL);
        let trusted = self.steer.trusted();
        self.counters.rss_ports_trusted = u64::from(trusted.count_ones());
        self.state.rss_trusted = u64::from(trusted);
        self.counters.tx_frames_flattened = self.tx.iter().map(TxPort::flattened).sum();
        if self.index.index() == 0 {
            self.counters.heap_allocations = heap::allocations_after_seal();
            let (available, capacity) = self.stock.buffers();
            self.counters.mbufs_available = available;
            self.counters.mbufs_capacity = capacity;
            self.counters.mbufs_reserve_available = self.stock.reserve_available();
        }
        counters::publish(
            &mut self.shared,
            &self.counters,
            self.balancer.counters(),
            self.stack.stats(),
        );
        let sessions = &mut self.shared.sessions;
        let cell = core::cell::RefCell::new(sessions);
        self.balancer.write_counters(
            |id, counters| cell.borrow_mut().set_backend(id, &counters),
            |id, counters| cell.borrow_mut().set_listener(id, &counters),
        );
        self.state.heartbeat_nanos = now.as_nanos();
        self.state.rx_packets = self.counters.rx_frames;
        self.state.tx_packets = self.counters.tx_frames;
        self.counters.memory_pressure = self.stack.shortage() as u64;
        self.counters.desks_cleared = self.stack.desks_cleared();
        self.state.sleeps = self.idler.sleeps();
        self.state.tx_bursts = TxPort::bursts_of(&self.tx);
        let (busy, idle) = (self.state.busy_cycles, self.state.idle_cycles);
        self.usage.set(busy, busy.wrapping_add(idle));
        self.shared.status.set(&self.state);
    }
}

/// Keeps what the stack gives back of a burst that is no larger than this one: it never refuses.
fn keep_in(punts: &mut Burst) -> impl FnMut(Punt<Mbuf>) {
    |punt| drop(punts.try_push(punt.frame))
}

/// An allocation on the packet path ends a checked build and is counted in production.
fn on_allocation() -> heap::OnAllocation {
    if cfg!(debug_assertions) {
        heap::OnAllocation::Abort
    } else {
        heap::OnAllocation::Count
    }
}
