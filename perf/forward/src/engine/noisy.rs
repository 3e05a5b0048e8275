//! `noisy`: forwards packets like a busy neighbour. Each may wait in a queue of `--noisy-queue`
//! frames, from which the oldest leave when newer ones need the room, or when nothing has left for
//! `--noisy-flush` milliseconds; and for each, random words of a block of memory are read, written,
//! or both, which drives whatever else is cached out of the cache. With neither it is `io`.

use std::collections::VecDeque;

use millrace_base::Rng;
use millrace_dpdk::{BURST_FRAMES_MAX, Burst, Mbuf, RX_BURST_FRAMES_MAX, cycles};

use crate::engine::Engine;
use crate::settings::{self, Settings};
use crate::stream::Stream;

const WORDS_PER_MIB: usize = (1 << 20) / size_of::<u64>();

/// See the module.
#[derive(Debug)]
pub struct Noisy {
    noise: settings::Noisy,
    /// Never holds more than its capacity at the begin.
    queue: VecDeque<Mbuf>,
    leaving: Burst,
    flush_cycles: u64,
    left_at: u64,
    is_flushing: bool,
    memory: Vec<u64>,
    rng: Rng,
    /// What was read goes here, so that the reads cannot be left out.
    sink: u64,
}

impl Engine for Noisy {
    fn begin(stream: &Stream, settings: &Settings) -> Self {
        let noise = settings.noisy;
        let seed = u64::from(stream.place().queue) << 32 | stream.place().rx_port as u64;
        Self {
            noise,
            queue: VecDeque::with_capacity(noise.queue_frames),
            leaving: Burst::new(),
            flush_cycles: (settings.hertz / 1_000).saturating_mul(noise.flush_ms),
            left_at: cycles(),
            is_flushing: false,
            memory: vec![1; noise.memory_mib.saturating_mul(WORDS_PER_MIB)],
            rng: Rng::new(seed),
            sink: 0,
        }
    }

    #[inline]
    fn burst(&mut self, stream: &mut Stream) -> bool {
        let received = stream.receive();
        for _ in 0..received {
            self.make_noise();
        }
        if self.noise.queue_frames == 0 {
            stream.transmit();
            return received != 0;
        }
        for frame in stream.frames_mut().drain() {
            if self.queue.len() >= self.noise.queue_frames {
                move_oldest(&mut self.queue, &mut self.leaving, 1);
            }
            self.queue.push_back(frame);
        }
        if self.flush_cycles != 0 {
            self.flush_when_due();
        }
        if self.leaving.is_empty() {
            return received != 0;
        }
        stream.transmit_these(&mut self.leaving);
        self.left_at = cycles();
        true
    }

    fn end(mut self, stream: &mut Stream) {
        while !self.queue.is_empty() {
            move_oldest(&mut self.queue, &mut self.leaving, BURST_FRAMES_MAX);
            stream.transmit_these(&mut self.leaving);
        }
    }
}

impl Noisy {
    /// Puts a burst of the oldest frames up for leaving when the queue is to be emptied.
    fn flush_when_due(&mut self) {
        if self.queue.is_empty() {
            self.is_flushing = false;
        } else if cycles().wrapping_sub(self.left_at) >= self.flush_cycles {
            self.is_flushing = true;
        }
        // One burst per call, so that receiving is never held up for longer than that.
        if self.is_flushing {
            move_oldest(&mut self.queue, &mut self.leaving, RX_BURST_FRAMES_MAX);
        }
    }

    #[inline]
    fn make_noise(&mut self) {
        let bound = u32::try_from(self.memory.len()).unwrap_or(u32::MAX);
        for _ in 0..self.noise.reads {
            let at = self.rng.below(bound) as usize;
            self.sink ^= self.memory.get(at).copied().unwrap_or(0);
        }
        for _ in 0..self.noise.writes {
            let at = self.rng.below(bound) as usize;
            if let Some(word) = self.memory.get_mut(at) {
                *word = self.sink;
            }
        }
        for _ in 0..self.noise.updates {
            let at = self.rng.below(bound) as usize;
            if let Some(word) = self.memory.get_mut(at) {
                *word = word.wrapping_add(1);
            }
        }
        core::hint::black_box(self.sink);
    }
}

/// Moves up to `count` frames from the front of the queue, as far as the burst has room.
fn move_oldest(queue: &mut VecDeque<Mbuf>, burst: &mut Burst, count: usize) {
    for _ in 0..count {
        if burst.is_full() {
            return;
        }
        let Some(frame) = queue.pop_front() else {
            return;
        };
        // There is room: just looked.
        drop(burst.try_push(frame));
    }
}
