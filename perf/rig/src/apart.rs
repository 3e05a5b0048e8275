//! What stands between the two cards, on a thread of its own: the lcore, or a bare forward in its place.
//!
//! Everywhere else in the rig the lcore and the peers take turns on one thread, which is exact about cycles and knows
//! nothing about waiting. Here they run at the same time on two CPUs, as a device and a core do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};
use millrace_base::{Instant, Nanos};
use millrace_dpdk::{Burst, Clock, Eal, RxQueue, Task, TxQueue, cycles};
use millrace_worker::Lcore;

use crate::stalls::{Hiccups, Stalls};

/// What stands in the middle.
pub(crate) enum Middle {
    /// Millrace.
    Lcore(Box<Lcore>),
    /// Frames in here, out there, as they are.
    Forward(Box<Forward>),
}

/// Two queue pairs; what one receives, the other sends.
pub(crate) struct Forward {
    queues: [(RxQueue, TxQueue); 2],
    burst: Burst,
}

/// A thread that polls until it is told to stop.
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    task: Task<(Middle, Stalls)>,
}

/// Time that goes on from where virtual time had come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealTime {
    clock: Clock,
    /// The reading of the counter at which it was `base`.
    began: u64,
    base: Instant,
}

impl RealTime {
    /// It is `base` now.
    pub(crate) fn from(clock: Clock, base: Instant) -> Self {
        Self {
            clock,
            began: cycles(),
            base,
        }
    }

    /// Cycles per second.
    pub(crate) fn hertz(&self) -> u64 {
        self.clock.hertz()
    }

    /// The instant at which the counter showed `cycles`.
    #[inline]
    pub(crate) fn at(&self, cycles: u64) -> Instant {
        let began = self.clock.at(self.began);
        let passed = self.clock.at(cycles).since(began).as_nanos();
        self.base.after(Nanos::new(passed))
    }
}

impl Forward {
    /// Between these queues.
    pub(crate) fn new(queues: [(RxQueue, TxQueue); 2]) -> Self {
        Self {
            queues,
            burst: Burst::new(),
        }
    }

    /// One turn; tells how many frames it moved. What the other side's ring has no room for is lost, and the trial that
    /// misses it fails.
    pub(crate) fn turn(&mut self) -> u64 {
        let mut moved = 0;
        let Self {
            queues: [front, back],
            burst,
        } = self;
        for (rx, tx) in [(&mut front.0, &mut back.1), (&mut back.0, &mut front.1)] {
            moved += rx.burst(burst) as u64;
            if !burst.is_empty() {
                drop(tx.burst(burst));
            }
        }
        moved
    }
}

impl Middle {
    /// Has EAL's first worker lcore run it, from `time` on.
    pub(crate) fn launch(mut self, eal: &Eal, time: RealTime) -> Result<Running> {
        let workers = eal.worker_lcores();
        let worker = *workers.first().ok_or_else(|| anyhow!("no worker lcore"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let task = eal.launch(worker, move || {
            let mut hiccups = Hiccups::new(time.clock.hertz(), cycles());
            // pairs with the Release in Running::stop
            while !told.load(Ordering::Acquire) {
                let frames = self.turn(time.at(cycles()));
                hiccups.turn(cycles(), frames);
            }
            (self, hiccups.finish())
        })?;
        Ok(Running { stop, task })
    }

    /// One turn; tells how many frames it received and sent.
    pub(crate) fn turn(&mut self, now: Instant) -> u64 {
        match self {
            Self::Lcore(lcore) => {
                let before = frames_of(lcore);
                lcore.turn(now);
                frames_of(lcore) - before
            }
            Self::Forward(forward) => forward.turn(),
        }
    }
}

impl Running {
    /// Has it stop and takes it back.
    pub(crate) fn stop(self) -> Result<(Middle, Stalls)> {
        // pairs with the Acquire in Middle::launch
        self.stop.store(true, Ordering::Release);
        self.task.join().map_err(|_| anyhow!("the lcore panicked"))
    }
}

fn frames_of(lcore: &Lcore) -> u64 {
    let stats = lcore.stack().stats();
    stats.frames_in + stats.frames_out
}
