//! What a host remembers of Fast Open for all its connections: cookies that servers gave it, and
//! whether somebody on the way swallows data in SYNs.
//!
//! Linux keeps the first in its metrics of destinations (`tcp_metrics.c`), the second per namespace.
//! Both are forgotten when the process ends.

use alloc::boxed::Box;
use alloc::vec;

use millrace_base::{Address, FlowTuple, Instant, Nanos, Stamp};
use millrace_wire::tcp::FastOpenCookie;

use super::queue::Queues;
use crate::limits::{FASTOPEN_DESTINATIONS_MAX, FASTOPEN_WAYS};
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

#[derive(Clone, Copy, Debug)]
struct Entry {
    local: Address,
    remote: Address,
    /// When it was learned last; never for a free place.
    at: Stamp,
    known: Known,
}

/// All of it. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Sets of `FASTOPEN_WAYS` places; the addresses choose the set.
    entries: Box<[Entry]>,
    pub(crate) queues: Queues,
    /// When Fast Open was switched off last, and how often since it last worked.
    paused_at: Instant,
    pauses: u32,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let free = Entry {
            local: Address::UNSPECIFIED_V4,
            remote: Address::UNSPECIFIED_V4,
            at: Stamp::NEVER,
            known: Known::default(),
        };
        Self {
            entries: vec![free; FASTOPEN_DESTINATIONS_MAX].into_boxed_slice(),
            queues: Queues::new(),
            paused_at: Instant::ZERO,
            pauses: 0,
        }
    }

    /// What is known of the server of `tuple` (`tcp_fastopen_cache_get`).
    pub(crate) fn recall(&self, tuple: &FlowTuple) -> Known {
        let entries = self.entries.get(set_of(tuple)).unwrap_or_default();
        let found = entries.iter().find(|entry| entry.is_of(tuple));
        found.map_or_else(Known::default, |entry| entry.known)
    }

    /// Takes over what a SYN-ACK taught (`tcp_fastopen_cache_set`); who was heard of longest ago
    /// makes room.
    pub(crate) fn learn(&mut self, tuple: &FlowTuple, lesson: &Lesson, now: Instant) {
        let entries = self.entries.get_mut(set_of(tuple)).unwrap_or_default();
        let place = entries.iter().position(|entry| entry.is_of(tuple));
        let place = place.or_else(|| {
            let free = entries.iter().position(|entry| entry.at.is_never());
            let oldest = entries.iter().enumerate();
            free.or_else(|| oldest.min_by_key(|(_, e)| e.at.instant()).map(|(at, _)| at))
        });
        let Some(entry) = place.and_then(|place| entries.get_mut(place)) else {
            return;
        };
        if !entry.is_of(tuple) {
            entry.known = Known::default();
        }
        (entry.local, entry.remote) = (tuple.local.address, tuple.remote.address);
        entry.at = Stamp::of(now);
        let known = &mut entry.known;
        known.mss = lesson.mss;
        if let Some(cookie) = lesson.cookie {
            known.cookie = cookie;
        } else if lesson.tried > known.tried && known.cookie.is_empty() {
            known.tried = lesson.tried;
        }
    }

    /// Forgets every server.
    pub(crate) fn forget(&mut self) {
        for entry in &mut self.entries {
            entry.at = Stamp::NEVER;
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

impl Entry {
    fn is_of(&self, tuple: &FlowTuple) -> bool {
        !self.at.is_never()
            && self.remote == tuple.remote.address
            && self.local == tuple.local.address
    }
}

/// The places of a pair of addresses. Whom we connect to is our choice: nobody can aim at a set.
fn set_of(tuple: &FlowTuple) -> core::ops::Range<usize> {
    const { assert!(FASTOPEN_DESTINATIONS_MAX.is_multiple_of(FASTOPEN_WAYS)) };
    let octets = tuple.remote.address.octets().iter();
    let octets = octets.chain(tuple.local.address.octets());
    let hash = octets.fold(0xcbf2_9ce4_8422_2325u64, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let sets = FASTOPEN_DESTINATIONS_MAX / FASTOPEN_WAYS;
    let set = (hash >> 32) as usize % sets;
    let first = set.saturating_mul(FASTOPEN_WAYS);
    first..first.saturating_add(FASTOPEN_WAYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Endpoint;

    fn tuple(server: u16) -> FlowTuple {
        let [a, b] = server.to_be_bytes();
        FlowTuple {
            local: Endpoint::new(Address::v4([10, 0, 0, 1]), 50_000),
            remote: Endpoint::new(Address::v4([10, 9, a, b]), 443),
        }
    }

    fn lesson(mss: u16, cookie: &[u8], tried: u8) -> Lesson {
        Lesson {
            mss,
            cookie: FastOpenCookie::new(cookie).filter(|cookie| !cookie.is_empty()),
            tried,
        }
    }

    #[test]
    fn a_cookie_is_kept_until_a_better_one_comes_and_the_mss_is_the_last() {
        let mut memory = Memory::new();
        let now = Instant::from_millis(1_000);
        memory.learn(&tuple(1), &lesson(1_460, &[1; 8], 0), now);
        memory.learn(&tuple(1), &lesson(940, &[], 1), now);
        let known = memory.recall(&tuple(1));
        assert_eq!(
            (known.mss, known.cookie.as_slice(), known.tried),
            (940, &[1; 8][..], 0)
        );
        memory.learn(&tuple(1), &lesson(940, &[2; 4], 0), now);
        assert_eq!(memory.recall(&tuple(1)).cookie.as_slice(), [2; 4]);
        assert_eq!(memory.recall(&tuple(2)), Known::default());
        memory.forget();
        assert_eq!(memory.recall(&tuple(1)), Known::default());
    }

    #[test]
    fn a_full_set_forgets_who_was_heard_of_longest_ago() {
        let mut memory = Memory::new();
        let set = set_of(&tuple(0));
        let rivals: Vec<u16> = (0..u16::MAX)
            .filter(|server| set_of(&tuple(*server)) == set)
            .take(FASTOPEN_WAYS + 1)
            .collect();
        for (at, server) in rivals.iter().enumerate() {
            let now = Instant::from_millis(1_000 * (at as u64 + 1));
            memory.learn(&tuple(*server), &lesson(500 + at as u16, &[3; 8], 0), now);
        }
        assert_eq!(memory.recall(&tuple(rivals[0])), Known::default());
        for server in &rivals[1..] {
            assert!(memory.recall(&tuple(*server)).mss > 500);
        }
    }

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
