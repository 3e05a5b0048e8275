//! What a host remembers of peers when connections to them have ended: how far they are, how much fits
//! the way to them, how much it reorders, and their Fast Open cookie.
//!
//! It is Linux's `tcp_metrics.c`: kept by pair of addresses, saved when a connection ends in order,
//! read when one begins, out of date after an hour. It does not decide what a connection makes of it
//! beyond Linux's rules, and nothing of it outlives the process. Each stack has its own.
//!
//! A set holds `METRICS_WAYS` peers; who was heard of longest ago makes room. Clients enter it too, so
//! the set is chosen by a keyed hash: nobody can aim at the memory of another.

use alloc::boxed::Box;
use alloc::vec;

use millrace_base::{Address, FlowTuple, Instant, Micros, Nanos, Stamp};

use super::chunk::Chunks;
use super::config::TcpTunables;
use super::connection::Connection;
use super::fastopen::memory::{Known, Lesson};
use super::recovery::Phase;
use crate::flow_hash::FlowHasher;
use crate::limits::{METRICS_DESTINATIONS_MAX, METRICS_DESTINATIONS_MIN, METRICS_WAYS};

/// How long what was measured counts (Linux: `TCP_METRICS_TIMEOUT`).
const VALID: Nanos = Nanos::from_secs(60 * 60);

/// What earlier connections have found out of the way to a peer (Linux: `enum tcp_metric_index`).
/// Nothing by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerMetrics {
    /// The round trip; 0 when none is known.
    pub rtt: Micros,
    /// Its mean deviation.
    pub rttvar: Micros,
    /// The slow start threshold in segments; 0 when none is known.
    pub ssthresh: u32,
    /// The congestion window in segments; 0 when none is known.
    pub cwnd: u32,
    /// Segments that reordering spans; 0 when none was seen.
    pub reordering: u32,
}

/// What a connection leaves behind.
#[derive(Clone, Copy, Debug)]
struct Experience {
    /// `None` when none was measured, or when the last word was a timeout.
    rtt: Option<(Micros, Micros)>,
    /// In segments.
    cwnd: u32,
    /// In segments; `None` before the first loss.
    ssthresh: Option<u32>,
    /// Nothing was lost or reordered of late.
    is_calm: bool,
    /// Beyond what is expected of any path.
    reordering: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    local: Address,
    remote: Address,
    /// When it was made, or a connection last left its experience; never for a free place.
    at: Stamp,
    metrics: PeerMetrics,
    server: Known,
}

/// Peers that share a place. The tags are read before any of them.
#[derive(Clone, Copy, Debug)]
struct Set {
    tags: [u16; METRICS_WAYS],
    entries: [Entry; METRICS_WAYS],
}

/// All that is remembered. Memory is taken in `new`.
pub(crate) struct Metrics {
    sets: Box<[Set]>,
    hasher: FlowHasher,
}

impl core::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Metrics({} sets)", self.sets.len())
    }
}

impl Metrics {
    /// Room for `peers`, within the limits, under a secret of its own.
    pub(crate) fn new(peers: usize, secret: [u8; 16]) -> Self {
        let peers = peers.clamp(METRICS_DESTINATIONS_MIN, METRICS_DESTINATIONS_MAX);
        let set = Set {
            tags: [0; METRICS_WAYS],
            entries: [Entry::free(); METRICS_WAYS],
        };
        Self {
            sets: vec![set; peers.div_ceil(METRICS_WAYS)].into_boxed_slice(),
            hasher: FlowHasher::new(secret),
        }
    }

    /// Takes over what a SYN-ACK taught (`tcp_fastopen_cache_set`).
    pub(crate) fn learn(&mut self, tuple: &FlowTuple, lesson: &Lesson, now: Instant) {
        if let Some(entry) = self.find_or_make(tuple, now) {
            entry.server.learn(lesson);
        }
    }

    /// Forgets everybody (`ip tcp_metrics flush`).
    pub(crate) fn forget(&mut self) {
        for set in &mut self.sets {
            set.tags = [0; METRICS_WAYS];
        }
    }

    /// What is known of the server of `tuple` (`tcp_fastopen_cache_get`): a cookie has no age.
    pub(crate) fn server(&self, tuple: &FlowTuple) -> Known {
        self.find(tuple)
            .map_or_else(Known::default, |entry| entry.server)
    }

    /// What is known of the way to the peer of `tuple`, while it is not out of date.
    pub(crate) fn recall(&self, tuple: &FlowTuple, now: Instant) -> Option<PeerMetrics> {
        let entry = self.find(tuple).filter(|entry| entry.is_valid(now))?;
        Some(entry.metrics)
    }

    /// Takes over what a connection leaves behind (`tcp_update_metrics`).
    fn note(
        &mut self,
        tuple: &FlowTuple,
        experience: &Experience,
        now: Instant,
        saves_ssthresh: bool,
    ) {
        let Some((rtt, rttvar)) = experience.rtt else {
            // A way on which nothing could be measured is none that is known.
            if let Some(entry) = self.find_mut(tuple) {
                entry.renew(now);
                entry.metrics.rtt = Micros::new(0);
            }
            return;
        };
        if let Some(entry) = self.find_or_make(tuple, now) {
            entry.renew(now);
            entry.metrics.learn_delay(rtt, rttvar);
            entry.metrics.learn_window(experience, saves_ssthresh);
            entry.at = Stamp::of(now);
        }
    }

    fn find(&self, tuple: &FlowTuple) -> Option<&Entry> {
        let (set, tag) = self.place_of(tuple);
        let set = self.sets.get(set)?;
        set.entries.get(set.way_of(tuple, tag)?)
    }

    fn find_mut(&mut self, tuple: &FlowTuple) -> Option<&mut Entry> {
        let (set, tag) = self.place_of(tuple);
        let set = self.sets.get_mut(set)?;
        let way = set.way_of(tuple, tag)?;
        set.entries.get_mut(way)
    }

    /// The entry of a peer; a new one takes a free place, or that of whom was heard of longest ago.
    fn find_or_make(&mut self, tuple: &FlowTuple, now: Instant) -> Option<&mut Entry> {
        let (set, tag) = self.place_of(tuple);
        let set = self.sets.get_mut(set)?;
        match set.way_of(tuple, tag) {
            Some(way) => set.entries.get_mut(way),
            None => set.make(tuple, tag, now),
        }
    }

    /// The set of a pair of addresses and its tag there, which is never 0.
    fn place_of(&self, tuple: &FlowTuple) -> (usize, u16) {
        let hash = self.hasher.hash_addresses(tuple);
        let sets = self.sets.len() as u64;
        let set = u64::from(hash.position()).wrapping_mul(sets) >> 32;
        (set as usize, hash.tag())
    }
}

impl Set {
    /// Which of the places is that of a peer.
    #[inline]
    fn way_of(&self, tuple: &FlowTuple, tag: u16) -> Option<usize> {
        let mut places = self.tags.iter().zip(&self.entries);
        places.position(|(known, entry)| *known == tag && entry.is_of(tuple))
    }

    #[inline(never)] // The first time only.
    fn make(&mut self, tuple: &FlowTuple, tag: u16, now: Instant) -> Option<&mut Entry> {
        let Self { tags, entries } = self;
        let free = tags.iter().position(|tag| *tag == 0);
        let oldest = entries.iter().enumerate();
        let oldest = oldest.min_by_key(|(_, entry)| entry.at.instant());
        let place = free.or(oldest.map(|(place, _)| place))?;
        *tags.get_mut(place)? = tag;
        let entry = entries.get_mut(place)?;
        *entry = Entry {
            local: tuple.local.address,
            remote: tuple.remote.address,
            at: Stamp::of(now),
            ..Entry::free()
        };
        Some(entry)
    }
}

impl Entry {
    fn free() -> Self {
        Self {
            local: Address::UNSPECIFIED_V4,
            remote: Address::UNSPECIFIED_V4,
            at: Stamp::NEVER,
            metrics: PeerMetrics::default(),
            server: Known::default(),
        }
    }

    fn is_of(&self, tuple: &FlowTuple) -> bool {
        self.remote == tuple.remote.address && self.local == tuple.local.address
    }

    fn is_valid(&self, now: Instant) -> bool {
        now.since(self.at.instant()) <= VALID
    }

    /// What is out of date counts for nothing (`tcpm_check_stamp`); a cookie stays.
    fn renew(&mut self, now: Instant) {
        if !self.is_valid(now) {
            self.metrics = PeerMetrics::default();
            self.at = Stamp::of(now);
        }
    }
}

impl PeerMetrics {
    /// A longer round trip is believed at once, a shorter one by an eighth: too much is better than
    /// too little.
    fn learn_delay(&mut self, rtt: Micros, rttvar: Micros) {
        let (known, measured) = (self.rtt.as_micros(), rtt.as_micros());
        let shorter_by = known.saturating_sub(measured);
        self.rtt = Micros::new(if shorter_by == 0 {
            measured
        } else {
            known.saturating_sub(shorter_by / 8)
        });
        let deviation = known.abs_diff(measured).max(rttvar.as_micros());
        let var = self.rttvar.as_micros();
        self.rttvar = Micros::new(if deviation >= var {
            deviation
        } else {
            var.saturating_sub(var.saturating_sub(deviation) / 4)
        });
    }

    /// The window says something when it has stopped growing for a reason.
    fn learn_window(&mut self, experience: &Experience, saves_ssthresh: bool) {
        let Experience {
            rtt: _,
            cwnd,
            ssthresh,
            is_calm,
            reordering,
        } = *experience;
        let halfway = |known: u32, now: u32| known.saturating_add(now) / 2;
        match ssthresh {
            // Slow start has not found an end.
            None => {
                if saves_ssthresh && self.ssthresh != 0 && cwnd / 2 > self.ssthresh {
                    self.ssthresh = cwnd / 2;
                }
                self.cwnd = self.cwnd.max(cwnd);
            }
            // Congestion avoidance: the window is reliable.
            Some(ssthresh) if cwnd >= ssthresh && is_calm => {
                if saves_ssthresh {
                    self.ssthresh = ssthresh.max(cwnd / 2);
                }
                self.cwnd = halfway(self.cwnd, cwnd);
            }
            // In the middle of something: the threshold is what comes nearest to the truth.
            Some(ssthresh) => {
                self.cwnd = halfway(self.cwnd, ssthresh);
                if saves_ssthresh && self.ssthresh != 0 && ssthresh > self.ssthresh {
                    self.ssthresh = ssthresh;
                }
                self.reordering = self.reordering.max(reordering.unwrap_or(0));
            }
        }
    }
}

impl Connection {
    /// Leaves behind what it knows of the way to its peer, when it has ended in order (Linux:
    /// `tcp_update_metrics`).
    // behaviour: A16-20, A26-7, X4-21
    pub(crate) fn leave_metrics<B>(
        &self,
        chunks: &mut Chunks<B>,
        now: Instant,
        tunables: &TcpTunables,
    ) {
        if tunables.tcp_no_metrics_save {
            return;
        }
        let measured = self.rtt.srtt().filter(|_| self.rtt.backoff() == 0);
        let (cwnd, ssthresh) = self.congestion.in_segments();
        // Only losses tell of it.
        let degree = ssthresh.map(|_| self.reordering(chunks).degree(tunables));
        let usual = u32::from(tunables.tcp_reordering);
        let experience = Experience {
            rtt: measured.map(|rtt| (rtt, self.rtt.rttvar())),
            cwnd,
            ssthresh,
            is_calm: self.recovery.phase == Phase::Open,
            reordering: degree.filter(|degree| *degree != usual),
        };
        let saves_ssthresh = !tunables.tcp_no_ssthresh_metrics_save;
        chunks
            .metrics
            .note(&self.tuple, &experience, now, saves_ssthresh);
    }

    /// Begins with what earlier connections have found out (Linux: `tcp_init_metrics`). The round
    /// trip of a SYN is no measure for that of data: what is remembered, if it is longer, makes the
    /// first timeout.
    // behaviour: CCW-3, X4-21
    pub(super) fn take_metrics<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        now: Instant,
        tunables: &TcpTunables,
    ) {
        let rtt = self.expect_way(chunks, now, tunables);
        self.rtt.seed(rtt, tunables);
    }

    /// The same without the round trip, which is returned: a connection made of a SYN measures its own
    /// before anything else has a timer.
    pub(crate) fn expect_way<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        now: Instant,
        tunables: &TcpTunables,
    ) -> Micros {
        let known = chunks.metrics.recall(&self.tuple, now).unwrap_or_default();
        if known.ssthresh != 0 && !tunables.tcp_no_ssthresh_metrics_save {
            self.congestion.expect_threshold(known.ssthresh);
        }
        if known.reordering != 0 && known.reordering != self.reordering(chunks).degree(tunables) {
            self.expect_reordering(chunks, known.reordering);
        }
        known.rtt
    }
}

#[cfg(test)]
mod tests;
