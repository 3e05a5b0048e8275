//! A stream: one receive queue, the transmit queue that answers it, and the frames in between.
//!
//! Everything an engine can do to the outside world is a method here, so that each frame is counted
//! on every way it can go: received, sent, dropped, absorbed.

use std::sync::Arc;

use millrace_base::MacAddress;
use millrace_dpdk::{Burst, Mbuf, Mempool, RxQueue, TxQueue};

use crate::counters::Counters;
use crate::settings::Settings;

/// Where a stream begins and ends. Ports are numbered in the order they were given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamPlace {
    /// The port that receives.
    pub rx_port: usize,
    /// The port that sends.
    pub tx_port: usize,
    /// The queue, the same on both.
    pub queue: u16,
    /// The address of the port that sends.
    pub tx_mac: MacAddress,
    /// The address of whoever is at the other end of that port's cable.
    pub peer_mac: MacAddress,
}

/// A receive queue, the transmit queue that answers it, and the frames in between.
#[derive(Debug)]
pub struct Stream {
    place: StreamPlace,
    burst_frames: usize,
    retries: u32,
    records_sizes: bool,
    offloads_checksums: bool,
    rx: RxQueue,
    tx: TxQueue,
    pool: Mempool,
    frames: Burst,
    counters: Arc<Counters>,
}

impl Stream {
    /// A stream between two queues; `pool` is where an engine takes frames of its own from.
    pub fn new(
        place: StreamPlace,
        (rx, tx): (RxQueue, TxQueue),
        pool: Mempool,
        settings: &Settings,
    ) -> Self {
        Self {
            place,
            burst_frames: settings.burst_frames,
            retries: settings.retries,
            records_sizes: settings.record_burst_stats,
            offloads_checksums: settings.offload_checksums,
            rx,
            tx,
            pool,
            frames: Burst::new(),
            counters: Arc::default(),
        }
    }

    /// Receives a burst behind what [`frames_mut`](Self::frames_mut) holds; returns how many came.
    #[inline]
    pub fn receive(&mut self) -> usize {
        let count = self.rx.burst_up_to(&mut self.frames, self.burst_frames);
        if self.records_sizes {
            self.counters.rx_sizes.record(count);
        }
        if count != 0 {
            self.counters.rx_frames.add_frames(count);
        }
        count
    }

    /// Sends the frames held. None is left afterwards.
    #[inline]
    pub fn transmit(&mut self) {
        let Self {
            tx,
            frames,
            counters,
            ..
        } = self;
        send(tx, frames, counters, self.retries, self.records_sizes);
    }

    /// Sends frames that an engine keeps by itself. None is left afterwards.
    #[inline]
    pub fn transmit_these(&mut self, frames: &mut Burst) {
        let Self { tx, counters, .. } = self;
        send(tx, frames, counters, self.retries, self.records_sizes);
    }

    /// Frees the frames held, as is the engine's purpose, and counts them so.
    #[inline]
    pub fn absorb(&mut self) {
        self.counters.absorbed.add_frames(self.frames.len());
        self.frames.clear();
    }

    /// Makes frames until the burst is full or the pool is empty; `write` fills each in.
    #[inline]
    pub fn fill(&mut self, mut write: impl FnMut(&mut Mbuf)) {
        let held = self.frames.len();
        let wanted = self.burst_frames.saturating_sub(held);
        let came = self.pool.alloc_burst(&mut self.frames, wanted);
        if came < wanted {
            self.counters
                .no_buffer
                .add_frames(wanted.saturating_sub(came));
        }
        let fresh = self.frames.frames_mut().get_mut(held..);
        fresh.unwrap_or_default().iter_mut().for_each(&mut write);
    }

    /// The frames held, in order.
    #[inline]
    pub fn frames_mut(&mut self) -> &mut Burst {
        &mut self.frames
    }

    /// What is counted here.
    #[inline]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Whether the sending device fills in IPv4 and TCP checksums when told to.
    pub fn offloads_checksums(&self) -> bool {
        self.offloads_checksums
    }

    /// Where the stream begins and ends.
    pub fn place(&self) -> &StreamPlace {
        &self.place
    }
}

/// The one way out: what the device does not take is offered again a bounded number of times, then
/// counted and freed. A frame that the device can never take is counted and freed at once.
// Always: as a call of its own it costs a burst some eight cycles, of about a hundred on a ring.
#[inline(always)]
fn send(
    tx: &mut TxQueue,
    frames: &mut Burst,
    counters: &Counters,
    retries: u32,
    records_sizes: bool,
) {
    let offered = frames.len();
    if offered == 0 {
        return;
    }
    if records_sizes {
        counters.tx_sizes.record(offered);
    }
    let mut dropped = tx.burst(frames).keep();
    if !frames.is_empty() {
        dropped = dropped.saturating_add(send_late(tx, frames, counters, retries));
    }
    counters
        .tx_frames
        .add_frames(offered.saturating_sub(dropped));
    if dropped != 0 {
        counters.tx_dropped.add_frames(dropped);
    }
}

/// Returns how many had to be freed.
#[cold]
fn send_late(tx: &mut TxQueue, frames: &mut Burst, counters: &Counters, retries: u32) -> usize {
    let mut dropped = 0usize;
    for _ in 0..retries {
        core::hint::spin_loop();
        counters.tx_retries.add(1);
        dropped = dropped.saturating_add(tx.burst(frames).keep());
        if frames.is_empty() {
            return dropped;
        }
    }
    dropped = dropped.saturating_add(frames.len());
    frames.clear();
    dropped
}
