//! Cycles per operation: exactly counted, and robust against whoever else uses the machine.
//!
//! Only the lcore's turns are counted, so the generator costs nothing here. A turn during which the kernel ran somebody
//! else looks milliseconds long; the chunk of operations it lies in is left out, and how many were is told. What remains
//! (interrupts, a hypervisor) moves the mean more than the median over chunks. Turns that found nothing to do are idle
//! and not counted: an lcore that has a core of its own is busy or waits.
//!
//! Where the cycles go is measured in the same chunks: whoever turns keeps running totals by stage, and a chunk takes the
//! difference. Those are sampled (`millrace_worker` stamps one turn of 61), so only their sum over many chunks means
//! something.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::Serialize;

/// Tells whether the kernel has run another thread in place of this one.
#[derive(Debug)]
pub(crate) struct Slices {
    file: Option<File>,
    seen: u64,
}

/// The most stages that a turn is divided into.
pub(crate) const STAGES_MAX: usize = millrace_abi::limits::STAGES;

/// Running totals of cycles by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stages(pub(crate) [u64; STAGES_MAX]);

/// Cycles of an lcore, gathered in chunks of operations.
#[derive(Debug)]
pub(crate) struct Meter {
    chunk_operations: u64,
    chunk: Sum,
    total: Sum,
    samples: Vec<Sample>,
    /// Totals by stage when the chunk began.
    stages: Stages,
    interrupted: u64,
    slices: Slices,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    cycles: u64,
    operations: u64,
}

/// An undisturbed chunk.
#[derive(Clone, Copy, Debug)]
struct Sample {
    per_operation: f64,
    operations: u64,
    stages: Stages,
}

/// What an operation cost, cycles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// All cycles by all operations of the chunks that were not interrupted.
    pub(crate) mean: f64,
    /// The median chunk.
    pub(crate) p50: f64,
    /// The cheapest chunk.
    pub(crate) min: f64,
    /// Operations, those of interrupted chunks included.
    pub(crate) operations: u64,
    /// Chunks measured.
    pub(crate) chunks: u64,
    /// Chunks left out because the kernel ran somebody else meanwhile.
    pub(crate) interrupted: u64,
}

impl Slices {
    /// For the calling thread. Where the kernel does not tell, nothing is ever interrupted.
    pub(crate) fn new() -> Self {
        let mut slices = Self {
            file: File::open("/proc/thread-self/schedstat").ok(),
            seen: 0,
        };
        slices.were_cut();
        slices
    }

    /// Whether this thread was off its CPU since the last call. Costs a system call.
    pub(crate) fn were_cut(&mut self) -> bool {
        let mut text = [0; 96];
        let length = self
            .file
            .as_ref()
            .and_then(|file| file.read_at(&mut text, 0).ok());
        let text = String::from_utf8_lossy(&text[..length.unwrap_or(0)]);
        let run = text
            .split_whitespace()
            .nth(2)
            .and_then(|field| field.parse().ok());
        let run = run.unwrap_or(self.seen);
        let is_cut = run != self.seen;
        self.seen = run;
        is_cut
    }
}

impl Meter {
    /// A meter that closes a chunk when it holds this many operations. `stages` are the totals as they are now.
    pub(crate) fn new(chunk_operations: u64, stages: Stages) -> Self {
        Self {
            chunk_operations: chunk_operations.max(1),
            chunk: Sum::default(),
            total: Sum::default(),
            samples: Vec::new(),
            stages,
            interrupted: 0,
            slices: Slices::new(),
        }
    }

    /// Adds what was spent, and what was finished meanwhile; `stages` are the totals as they are now.
    pub(crate) fn add(&mut self, cycles: u64, operations: u64, stages: impl FnOnce() -> Stages) {
        self.chunk.cycles += cycles;
        self.chunk.operations += operations;
        if self.chunk.operations >= self.chunk_operations {
            let is_interrupted = self.slices.were_cut();
            self.close_chunk(is_interrupted, stages());
        }
    }

    /// Forgets everything: the warm-up is over.
    pub(crate) fn restart(&mut self, stages: Stages) {
        *self = Self::new(self.chunk_operations, stages);
    }

    /// What an operation cost. When every chunk was interrupted, all of them together.
    pub(crate) fn cost(&self) -> Cost {
        let mut samples: Vec<f64> = self.samples.iter().map(|one| one.per_operation).collect();
        samples.sort_unstable_by(f64::total_cmp);
        let all = self.total.per_operation();
        Cost {
            mean: if samples.is_empty() {
                all
            } else {
                samples.iter().sum::<f64>() / samples.len() as f64
            },
            p50: samples.get(samples.len() / 2).copied().unwrap_or(all),
            min: samples.first().copied().unwrap_or(all),
            operations: self.total.operations + self.chunk.operations,
            chunks: samples.len() as u64,
            interrupted: self.interrupted,
        }
    }

    /// Cycles of an operation by stage, over the chunks that cost less than twice the median: what is beyond was
    /// interrupted by somebody of whom the kernel knows nothing.
    pub(crate) fn by_stage(&self) -> [f64; STAGES_MAX] {
        let limit = 2.0 * self.cost().p50;
        let usual = || self.samples.iter().filter(|one| one.per_operation < limit);
        let operations: u64 = usual().map(|one| one.operations).sum();
        core::array::from_fn(|stage| {
            let cycles: u64 = usual().map(|one| one.stages.0[stage]).sum();
            cycles as f64 / operations.max(1) as f64
        })
    }

    fn close_chunk(&mut self, is_interrupted: bool, stages: Stages) {
        let chunk = core::mem::take(&mut self.chunk);
        let before = core::mem::replace(&mut self.stages, stages);
        self.total.cycles += chunk.cycles;
        self.total.operations += chunk.operations;
        if is_interrupted {
            self.interrupted += 1;
        } else {
            let spent = |stage: usize| stages.0[stage].wrapping_sub(before.0[stage]);
            self.samples.push(Sample {
                per_operation: chunk.per_operation(),
                operations: chunk.operations,
                stages: Stages(core::array::from_fn(spent)),
            });
        }
    }
}

impl Sum {
    fn per_operation(self) -> f64 {
        self.cycles as f64 / self.operations.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_during_which_somebody_else_ran_is_left_out() {
        let mut meter = Meter::new(10, Stages::default());
        for turn in 0..50 {
            meter.chunk = Sum {
                cycles: if turn == 7 { 1_000_000 } else { 1_000 },
                operations: 10,
            };
            // A tenth more of stage 1 each time, but for the interrupted one.
            let total = 100 * (turn + 1) + if turn < 7 { 0 } else { 9_000 };
            meter.close_chunk(turn == 7, Stages([0, total, 0, 0, 0, 0, 0, 0]));
        }
        assert_eq!(meter.by_stage(), [0.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let cost = meter.cost();
        assert_eq!((cost.mean, cost.p50, cost.min), (100.0, 100.0, 100.0));
        assert_eq!(
            (cost.operations, cost.chunks, cost.interrupted),
            (500, 49, 1)
        );
        meter.restart(Stages::default());
        meter.add(70, 7, Stages::default);
        assert_eq!(meter.cost().operations, 7);
    }

    #[test]
    fn a_thread_that_slept_was_cut() {
        let mut slices = Slices::new();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(slices.were_cut() || slices.file.is_none());
    }
}
