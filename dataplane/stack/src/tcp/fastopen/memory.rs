//! What a host remembers of Fast Open for all its connections: what there is to know of a server, and
//! whether somebody on the way swallows data in SYNs.
//!
//! The first is kept with the other metrics of its addresses (`tcp/metrics.rs`, as in Linux), the second
//! per stack. Both are forgotten when the process ends.

use millrace_base::{Instant, Nanos};
use millrace_wire::tcp::FastOpenCookie;

use super::queue::Queues;
use crate::stats::{Stats, count};

/// The pause after a path was found to swallow Fast Open doubles so many times at most.
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// What is known of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Known {
    /// The MSS of its last SYN-ACK; 0 before the first.
    pub(crate) mss: u16,
    /// Its cookie; empty without one.
    pub(crate) cookie: FastOpenCookie,
    /// 1: it did not understand the option of RFC 7413, ask in the experimental one; 2: nor that.
    pub(crate) tried: u8,
}

/// What a SYN-ACK taught.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lesson {
    pub(crate) mss: u16,
    /// A cookie that is not empty.
    pub(crate) cookie: Option<FastOpenCookie>,
    pub(crate) tried: u8,
}

/// What all connections share. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) queues: Queues,
    /// When Fast Open was switched off last, and how often since it last worked.
    paused_at: Instant,
    pauses: u32,
}

impl Known {
    /// Takes over what a SYN-ACK taught.
    pub(crate) fn learn(&mut self, lesson: &Lesson) {
        self.mss = lesson.mss;
        if let Some(cookie) = lesson.cookie {
            self.cookie = cookie;
        } else if lesson.tried > self.tried && self.cookie.is_empty() {
            self.tried = lesson.tried;
        }
    }
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            queues: Queues::new(),
            paused_at: Instant::ZERO,
            pauses: 0,
        }
    }

    /// Data in SYNs does not come through: no more of it for a while
    /// (`tcp_fastopen_active_disable`). `timeout_secs` 0 is "never mind".
    pub(crate) fn pause(&mut self, now: Instant, timeout_secs: u32, stats: &mut Stats) {
        if timeout_secs == 0 {
            return;
        }
        self.paused_at = now;
        self.pauses = self.pauses.saturating_add(1);
        count!(stats.tcp_fast_open_blackhole);
    }

    /// Whether Fast Open pauses now (`tcp_fastopen_active_should_disable`), and whether it did: who
    /// tries again first is watched.
    pub(crate) fn is_paused(&self, now: Instant, timeout_secs: u32) -> (bool, bool) {
        if timeout_secs == 0 || self.pauses == 0 {
            return (false, false);
        }
        let doublings = self.pauses.saturating_sub(1).min(PAUSE_DOUBLINGS_MAX);
        let pause = u64::from(timeout_secs) << doublings;
        let over = now >= self.paused_at.after(Nanos::from_secs(pause));
        (!over, over)
    }

    /// It works again.
    pub(crate) fn resume(&mut self) {
        self.pauses = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Linux: the pause is tcp_fastopen_blackhole_timeout_sec, and doubles up to 64 times that.
    #[test]
    fn each_pause_is_twice_as_long_up_to_sixty_four_times() {
        let mut memory = Memory::new();
        let mut stats = Stats::default();
        let at = Instant::from_millis(5_000);
        memory.pause(at, 0, &mut stats);
        assert_eq!((memory.pauses, stats.tcp_fast_open_blackhole), (0, 0));
        for factor in [1, 2, 4, 8, 16, 32, 64, 64] {
            memory.pause(at, 10, &mut stats);
            let end = at.after(Nanos::from_secs(10 * factor));
            let before = Instant::from_nanos(end.as_nanos() - 1);
            assert_eq!(memory.is_paused(before, 10), (true, false), "{factor}");
            assert_eq!(memory.is_paused(end, 10), (false, true), "{factor}");
        }
        assert_eq!(stats.tcp_fast_open_blackhole, 8);
        memory.resume();
        assert_eq!(memory.is_paused(at, 10), (false, false));
    }
}
