//! The packet loop of one lcore: receive, let the host work, transmit.
//!
//! Everything of one turn happens at one instant, the arrival time of its burst. Nothing here
//! blocks, takes memory or writes; a frame the device does not take waits, and while one waits no
//! more are made.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use millrace_base::{Instant, Nanos};
use millrace_dpdk::{Burst, Clock, MbufPool, RxQueue, TxQueue, cycles};

use crate::counters::Counters;
use crate::engine::Engine;
use crate::exchange::{Exchange, Sorted};
use crate::host::Host;

/// Bursts of frames taken from other lcores in one turn.
const STEERED_BURSTS_PER_TURN_MAX: usize = 2;

/// How long the last resets may take to leave.
const FAREWELL_MAX: Nanos = Nanos::from_millis(500);

/// Empty turns before a sleeping lcore gives its CPU away.
const SPINS_MAX: u32 = 128;
/// How long it then sleeps at once. The kernel adds its timer slack, 50 us by default.
const NAP: Duration = Duration::from_micros(50);

/// What an lcore does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Idle {
    /// Looks again at once. Needs a CPU of its own, and is the only way to measure microseconds.
    #[default]
    Poll,
    /// Sleeps some 50 to 100 microseconds, which every latency then contains.
    Sleep,
}

const RUN: u8 = 0;
const WIND_DOWN: u8 = 1;
const STOP: u8 = 2;

/// What whoever watches wants the lcores to do.
#[derive(Debug, Default)]
pub struct Control {
    phase: AtomicU8,
    /// Arrivals per second of one lcore, as bits of a float; 0 leaves it alone.
    rate_bits: AtomicU64,
}

impl Control {
    /// Lets arrivals come at this rate on each lcore.
    pub fn set_rate(&self, per_lcore: f64) {
        // Relaxed, here and below: nothing else is published by these words.
        self.rate_bits.store(per_lcore.to_bits(), Ordering::Relaxed);
    }

    /// Lets lcores begin nothing new.
    pub fn wind_down(&self) {
        self.phase.store(WIND_DOWN, Ordering::Relaxed);
    }

    /// Lets lcores reset what is left and return.
    pub fn stop(&self) {
        self.phase.store(STOP, Ordering::Relaxed);
    }
}

/// Everything one lcore owns.
#[derive(Debug)]
pub struct Lcore<E> {
    /// The time.
    pub clock: Clock,
    /// Where buffers come from.
    pub pool: MbufPool,
    /// Who uses them.
    pub host: Host<MbufPool, E>,
    /// Where frames come from.
    pub rx: RxQueue,
    /// Where they go.
    pub tx: TxQueue,
    /// What connects it with the other lcores.
    pub exchange: Exchange,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// What it is told.
    pub control: Arc<Control>,
    /// What it does when there is nothing to do.
    pub idle: Idle,
}

/// A loop at work.
struct Loop<E> {
    lcore: Lcore<E>,
    received: Burst,
    /// Those of them that are for this lcore.
    ours: Burst,
    /// Frames the device has not taken yet.
    waiting: Burst,
    rate_bits: u64,
    empty_turns: u32,
}

impl<E: Engine> Lcore<E> {
    /// Runs until it is told to stop.
    pub fn run(self) {
        let mut at_work = Loop {
            lcore: self,
            received: Burst::new(),
            ours: Burst::new(),
            waiting: Burst::new(),
            rate_bits: 0,
            empty_turns: 0,
        };
        at_work.run();
    }
}

impl<E: Engine> Loop<E> {
    fn run(&mut self) {
        let mut began = cycles();
        loop {
            match self.lcore.control.phase.load(Ordering::Relaxed) {
                RUN => self.look_at_rate(),
                WIND_DOWN => self.lcore.host.engine_mut().wind_down(),
                _ => break,
            }
            let worked = self.turn();
            self.rest(worked);
            let ended = cycles();
            let counters = &self.lcore.counters;
            let total = if worked {
                &counters.busy_cycles
            } else {
                &counters.idle_cycles
            };
            total.add(ended.wrapping_sub(began));
            began = ended;
        }
        self.leave();
    }

    /// One turn; tells whether it found work.
    fn turn(&mut self) -> bool {
        let now = self.lcore.clock.now();
        let mut worked = self.receive(now);
        let lcore = &mut self.lcore;
        while let Some((address, mac)) = lcore.exchange.hear() {
            lcore.host.learn(now, address, mac);
        }
        lcore.host.turn(now, &mut lcore.pool);
        worked |= self.transmit(now);
        worked
    }

    fn receive(&mut self, now: Instant) -> bool {
        let mut burst = core::mem::take(&mut self.received);
        let mut received = self.lcore.rx.burst(&mut burst);
        self.lcore.counters.frames_in.add(received as u64);
        for frame in burst.frames() {
            frame.prefetch();
        }
        let Self { lcore, ours, .. } = self;
        for frame in burst.drain() {
            match lcore.exchange.sort(frame) {
                // It fits: no more are ours than came.
                Sorted::Ours(frame) => drop(ours.try_push(frame)),
                Sorted::Moved => {}
                Sorted::Dropped => lcore.counters.steer_drops.add(1),
            }
        }
        self.received = burst;
        self.handle_ours(now);
        for _ in 0..STEERED_BURSTS_PER_TURN_MAX {
            let Self { lcore, ours, .. } = self;
            while !ours.is_full()
                && let Some(frame) = lcore.exchange.take()
            {
                received = received.saturating_add(1);
                drop(ours.try_push(frame));
            }
            self.handle_ours(now);
        }
        received > 0
    }

    #[inline]
    fn handle_ours(&mut self, now: Instant) {
        if self.ours.is_empty() {
            return;
        }
        let Self { lcore, ours, .. } = self;
        let news = lcore.host.handle_burst(now, ours.drain(), &mut lcore.pool);
        for (address, mac) in news {
            lcore.exchange.tell(address, mac);
        }
    }

    fn transmit(&mut self, now: Instant) -> bool {
        let mut sent = false;
        // What the device did not take last time goes first.
        if !self.waiting.is_empty() {
            sent |= self.flush();
            if !self.waiting.is_empty() {
                return sent;
            }
        }
        let Self { lcore, waiting, .. } = self;
        let Lcore {
            host,
            pool,
            tx,
            counters,
            ..
        } = lcore;
        host.transmit(now, pool, |frame| {
            // It fits: a full burst is offered at once, and what is left of it ends this.
            drop(waiting.try_push(frame));
            if !waiting.is_full() {
                return true;
            }
            sent |= offer(tx, waiting, counters);
            waiting.is_empty()
        });
        sent | self.flush()
    }

    /// Offers what waits to the device; tells whether it took any.
    fn flush(&mut self) -> bool {
        let Self { lcore, waiting, .. } = self;
        !waiting.is_empty() && offer(&mut lcore.tx, waiting, &lcore.counters)
    }

    fn look_at_rate(&mut self) {
        let bits = self.lcore.control.rate_bits.load(Ordering::Relaxed);
        if bits != self.rate_bits {
            self.rate_bits = bits;
            let now = self.lcore.clock.now();
            let engine = self.lcore.host.engine_mut();
            engine.set_rate(now, f64::from_bits(bits));
        }
    }

    fn rest(&mut self, worked: bool) {
        if worked {
            self.empty_turns = 0;
            return;
        }
        self.empty_turns = self.empty_turns.saturating_add(1);
        if self.lcore.idle == Idle::Sleep && self.empty_turns > SPINS_MAX {
            std::thread::sleep(NAP);
        } else {
            core::hint::spin_loop();
        }
    }

    /// Resets what is left, so that no peer waits for a client that is gone.
    fn leave(&mut self) {
        // Who stops at once was never told to wind down.
        self.lcore.host.engine_mut().wind_down();
        let mut now = self.lcore.clock.now();
        let end = now.after(FAREWELL_MAX);
        while self.lcore.host.reset_some(now) && !end.is_due(now) {
            self.turn();
            now = self.lcore.clock.now();
        }
        // What is owed to the device gets a last chance.
        while self.transmit(now) && !end.is_due(now) {
            now = self.lcore.clock.now();
        }
        self.lcore.host.report(now);
    }
}

/// Offers a burst to the device, which keeps what it takes; tells whether that was any.
fn offer(tx: &mut TxQueue, waiting: &mut Burst, counters: &Counters) -> bool {
    let offered = waiting.len();
    let refused = tx.burst(waiting).keep();
    let left = waiting.len();
    let taken = offered.saturating_sub(left).saturating_sub(refused);
    counters.frames_out.add(taken as u64);
    counters.transmit_refusals.add(refused as u64);
    taken > 0
}
