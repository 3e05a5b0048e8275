//! The far end of a ring pair: the code that plays the network card and the wire behind it.

use millrace_base::{ChecksumStatus, PacketBuf, RxMeta};
use millrace_dpdk::{Burst, Mbuf, RxQueue, TxQueue};

/// Which of the lcores' queues a frame is delivered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Everything on queue 0.
    First,
    /// By the sum of the ports: every flow sticks to a queue, and the lcore that polls it knows nothing of it half the
    /// time.
    Wrong,
}

/// One port's far end.
#[derive(Debug)]
pub(crate) struct Nic {
    rx: Vec<RxQueue>,
    inbox: Burst,
    pub(crate) outbox: Outbox,
    verifies: bool,
    /// Frames that left the lcore without a request for the checksum that it did not compute.
    pub(crate) unsummed: u64,
}

/// Frames on their way to the lcores.
#[derive(Debug)]
pub(crate) struct Outbox {
    tx: Vec<TxQueue>,
    waiting: Vec<Burst>,
    delivery: Delivery,
    meta: RxMeta,
    /// Frames that did not fit their ring.
    pub(crate) lost: u64,
    /// Frames delivered.
    pub(crate) frames: u64,
}

impl Nic {
    /// `has_offloads`: it sums what leaves and verifies what arrives, as every card does.
    pub(crate) fn new(
        rx: Vec<RxQueue>,
        tx: Vec<TxQueue>,
        delivery: Delivery,
        has_offloads: bool,
    ) -> Self {
        let status = if has_offloads {
            ChecksumStatus::Good
        } else {
            ChecksumStatus::Unknown
        };
        Self {
            rx,
            inbox: Burst::new(),
            outbox: Outbox {
                waiting: tx.iter().map(|_| Burst::new()).collect(),
                tx,
                delivery,
                meta: RxMeta {
                    ip_checksum: status,
                    l4_checksum: status,
                    ..RxMeta::default()
                },
                lost: 0,
                frames: 0,
            },
            verifies: has_offloads,
            unsummed: 0,
        }
    }

    /// Takes what the lcores have sent and hands each frame to `peer`, with the way back.
    pub(crate) fn serve(&mut self, mut peer: impl FnMut(&Mbuf, &mut Outbox)) {
        let Self {
            rx,
            inbox,
            outbox,
            verifies,
            unsummed,
        } = self;
        for queue in rx {
            while queue.burst(inbox) > 0 {
                for frame in inbox.frames() {
                    frame.prefetch();
                }
                for frame in inbox.frames() {
                    if *verifies && !frame.tx_offload().tcp_checksum {
                        *unsummed += 1;
                    }
                    peer(frame, outbox);
                }
                inbox.clear();
            }
        }
        outbox.flush();
    }
}

impl Outbox {
    /// Puts a frame on the wire towards the lcores.
    pub(crate) fn push(&mut self, mut frame: Mbuf) {
        if !frame.set_rx_meta(self.meta) {
            self.lost += 1;
            return;
        }
        let queue = self.queue_of(&frame);
        if self.waiting[queue].is_full() {
            self.flush();
        }
        self.frames += 1;
        if self.waiting[queue].try_push(frame).is_err() {
            self.lost += 1;
        }
    }

    /// Delivers what waits.
    pub(crate) fn flush(&mut self) {
        for (tx, waiting) in self.tx.iter_mut().zip(&mut self.waiting) {
            if !waiting.is_empty() {
                self.lost += tx.burst(waiting).discard() as u64;
            }
        }
    }

    fn queue_of(&self, frame: &Mbuf) -> usize {
        match self.delivery {
            Delivery::First => 0,
            Delivery::Wrong => {
                let bytes = frame.bytes();
                let ports = bytes.get(34..38).unwrap_or_default();
                ports.iter().map(|byte| usize::from(*byte)).sum::<usize>() % self.tx.len()
            }
        }
    }
}
