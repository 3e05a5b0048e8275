//! Looking for the path's MTU with probes of data (RFC 4821), for paths whose routers say nothing.
//!
//! A probe is the next data in one segment larger than the rest. When it is acknowledged, all segments
//! may be that large; when it is lost and what follows is not, nothing on the path was too busy, and
//! the congestion window stays. The search halves the distance between what arrives and what does
//! not, and begins again after `tcp_probe_interval`. With `tcp_mtu_probing` 1 it begins only when
//! timeouts show that the path swallows what is sent.
//!
//! Linux: `tcp_mtu_probe`, `tcp_mtup_init`, `tcp_mtup_probe_success`, `tcp_mtup_probe_failed`,
//! `tcp_mtu_probing`. It does not decide how a frame is made (`emit.rs`), and takes no router's word
//! (`icmp.rs`).

use millrace_base::{Instant, Nanos, PacketPool, SeqNumber, Stamp};

use super::chunk::Chunks;
use super::connection::Connection;
use super::emit::Run;
use super::recovery::Phase;
use super::segment::Env;
use crate::path::Path;
use crate::stats::count;

/// Segments that the congestion window must have for a probe: one that is lost must be noticed by what
/// follows.
const PROBE_WINDOW_SEGMENTS: u32 = 11;

/// Where a search stands. The default: nobody searches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MtuSearch {
    enabled: bool,
    /// The largest packet that is known to arrive, and the smallest bound of what may, bytes.
    low: u16,
    high: u16,
    /// The packet of the probe in flight; 0 without one.
    probe: u16,
    /// Its payload.
    start: SeqNumber,
    end: SeqNumber,
    began_at: Stamp,
}

impl Default for MtuSearch {
    fn default() -> Self {
        Self {
            enabled: false,
            low: 0,
            high: 0,
            probe: 0,
            start: SeqNumber::new(0),
            end: SeqNumber::new(0),
            began_at: Stamp::NEVER,
        }
    }
}

/// Whether a probe leaves now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Probing {
    /// There is nothing to be probed, or not enough of it.
    Nothing,
    /// It leaves when the windows have more room: nothing else may take it.
    Wait,
    /// This.
    Probe(Run),
}

impl Connection {
    /// The connection is established: the search begins where it always does (`tcp_mtup_init`).
    pub(super) fn begin_search<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if env.tunables.tcp_mtu_probing < 2 {
            return;
        }
        let search = MtuSearch {
            enabled: true,
            low: self.mtu_of(env.tunables.tcp_base_mss),
            high: self.mtu_of_peer(),
            began_at: Stamp::of(env.now),
            ..MtuSearch::default()
        };
        if let Some(extra) = self.extra_mut(env.chunks) {
            extra.mtu_search = search;
        }
    }

    /// The largest packet that a search has seen arrive; `None` while nobody searches.
    pub(super) fn searched<B>(&self, chunks: &Chunks<B>) -> Option<u16> {
        let search = &self.extra(chunks)?.mtu_search;
        search.enabled.then_some(search.low)
    }

    /// A router says that nothing larger than `mtu` arrives.
    pub(super) fn limit_search<B>(&mut self, chunks: &mut Chunks<B>, mtu: u16) -> Option<u16> {
        let search = self.search_mut(chunks)?;
        search.high = search.high.min(mtu);
        search.enabled.then_some(search.low)
    }

    /// What new data may be sent as one probe.
    pub(super) fn next_probe<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Probing {
        let Some(search) = self.extra(env.chunks).map(|extra| extra.mtu_search) else {
            return Probing::Nothing;
        };
        let mss = u32::from(self.mss);
        let window = self.congestion.cwnd;
        let is_calm = self.recovery.phase == Phase::Open && !self.has_sack_news();
        let wide = window >= mss.saturating_mul(PROBE_WINDOW_SEGMENTS);
        if !search.enabled || search.probe != 0 || !is_calm || !wide {
            return Probing::Nothing;
        }
        // What our own link does not take needs no probe. The MTU of a route that is locked is not the
        // link's: there the probe is what finds out.
        let high = match env.tunables.special.keeps_mtu {
            true => search.high,
            false => search.high.min(path.mtu),
        };
        let middle = (u32::from(high).saturating_add(search.low.into()) / 2) as u16;
        let size = u32::from(self.mss_of(middle, env.tunables));
        let highest = u32::from(self.mss_of(high, env.tunables));
        let apart = high.saturating_sub(search.low);
        if size > highest || apart < env.tunables.tcp_probe_threshold.max(1) {
            self.search_again(env);
            return Probing::Nothing;
        }
        // Behind it go as many segments as show its loss.
        let behind = u32::from(env.tunables.tcp_reordering).saturating_add(1);
        let needed = size.saturating_add(behind.saturating_mul(mss));
        if self.unsent_bytes() < needed || self.snd_wnd < needed {
            return Probing::Nothing;
        }
        if self.usable_window() < needed {
            return Probing::Wait;
        }
        let flight = self.in_flight(env.chunks);
        if flight.saturating_add(mss.saturating_mul(2)) > window {
            return if flight == 0 {
                Probing::Nothing
            } else {
                Probing::Wait
            };
        }
        match self.gather(env, path, size) {
            Some(run) => Probing::Probe(run),
            None => Probing::Nothing,
        }
    }

    /// A probe has left: it counts as two segments.
    pub(super) fn on_probe_sent<P: PacketPool>(&mut self, env: &mut Env<'_, P>, bytes: u32) {
        let probe = self.mtu_of(bytes.min(u32::from(u16::MAX)) as u16);
        let (start, end) = (self.nxt.minus(bytes), self.nxt);
        self.congestion.cwnd = self.congestion.cwnd.saturating_sub(self.mss.into());
        if let Some(search) = self.search_mut(env.chunks) {
            (search.probe, search.start, search.end) = (probe, start, end);
        }
    }

    /// SND.UNA has advanced: beyond the probe, it has arrived.
    pub(super) fn note_probe_arrival<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let una = self.una;
        let Some(search) = self.search_mut(env.chunks) else {
            return;
        };
        if search.probe == 0 || search.end.after(una) {
            return;
        }
        let arrived = core::mem::take(&mut search.probe);
        search.low = arrived;
        // The window keeps its bytes: fewer segments of the new size.
        let segments = self.congestion.cwnd.checked_div(self.mss.into());
        let old = u32::from(self.mtu_of(self.mss));
        let scaled = segments.unwrap_or(1).saturating_mul(old);
        let segments = scaled.checked_div(arrived.into()).unwrap_or(1).max(1);
        self.update_mss(env.tunables, Some(arrived));
        self.congestion.cwnd = segments.saturating_mul(self.mss.into());
        count!(env.stats.tcp_mtup_success);
    }

    /// Loss was found. Whether it is the probe's alone: then the path is too narrow, not too busy.
    pub(super) fn is_probe_lost<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> bool {
        let una = self.una;
        let is_calm = matches!(self.recovery.phase, Phase::Open | Phase::Disorder);
        let Some(search) = self.search_mut(env.chunks) else {
            return false;
        };
        if search.probe == 0 || search.start != una || !is_calm {
            return false;
        }
        search.high = search.probe.saturating_sub(1);
        search.probe = 0;
        self.congestion.cwnd = self.congestion.cwnd.saturating_add(self.mss.into());
        count!(env.stats.tcp_mtup_fail);
        true
    }

    /// Whether a probe is in flight.
    pub(super) fn is_path_probed<B>(&self, chunks: &Chunks<B>) -> bool {
        let extra = self.extra(chunks);
        extra.is_some_and(|extra| extra.mtu_search.probe != 0)
    }

    /// Something is sent again: what becomes of the probe proves nothing.
    pub(super) fn end_path_probe<B>(&mut self, chunks: &mut Chunks<B>) {
        if let Some(search) = self.search_mut(chunks) {
            search.probe = 0;
        }
    }

    /// Timeouts in a row: the path may swallow large packets. A search begins, or one that has begun
    /// looks further down.
    pub(super) fn suspect_path<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let tunables = env.tunables;
        if tunables.tcp_mtu_probing == 0 {
            return;
        }
        let fresh = MtuSearch {
            enabled: true,
            low: self.mtu_of(tunables.tcp_base_mss),
            high: self.mtu_of_peer(),
            began_at: Stamp::of(env.now),
            ..MtuSearch::default()
        };
        let low = self.searched(env.chunks).map(|low| {
            let half = self.mss_of(low, tunables) / 2;
            let floor = tunables.tcp_mtu_probe_floor.max(tunables.tcp_min_snd_mss);
            self.mtu_of(half.min(tunables.tcp_base_mss).max(floor))
        });
        let Some(extra) = self.extra_mut(env.chunks) else {
            return;
        };
        match low {
            Some(low) => extra.mtu_search.low = low,
            None => extra.mtu_search = fresh,
        }
        let searched = Some(extra.mtu_search.low);
        self.update_mss(tunables, searched);
    }

    /// A search that has ended begins again after a while: paths change (`tcp_mtu_check_reprobe`).
    fn search_again<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let interval = Nanos::from_secs(env.tunables.tcp_probe_interval.into());
        let (now, low, high) = (env.now, self.mtu_of(self.mss), self.mtu_of_peer());
        if let Some(search) = self.search_mut(env.chunks)
            && has_passed(now, search.began_at, interval)
        {
            *search = MtuSearch {
                enabled: true,
                low,
                high,
                began_at: Stamp::of(now),
                ..MtuSearch::default()
            };
        }
    }

    /// Unsent chunks of exactly `size` bytes; splits the last one. `None` when a frame cannot hold them.
    fn gather<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        size: u32,
    ) -> Option<Run> {
        let first = self.send.unsent();
        let mut run = Run {
            first,
            count: 0,
            bytes: 0,
            segment_bytes: 0,
        };
        // One piece of the frame is the headers'.
        let pieces_max = u32::from(path.offloads.segments_max).saturating_sub(1);
        let mut index = first;
        while run.bytes < size {
            if run.count >= pieces_max || !path.offloads.may_follow(run.bytes) {
                return None;
            }
            let room = size.saturating_sub(run.bytes);
            if !self.send.limit(env.chunks, index, room) {
                return None;
            }
            let chunk = env.chunks.get(index)?;
            run.bytes = run.bytes.saturating_add(chunk.len.into());
            run.count = run.count.saturating_add(1);
            index = chunk.next();
        }
        Some(run)
    }

    /// The packet of a full segment as large as the peer's MSS allows.
    fn mtu_of_peer(&self) -> u16 {
        self.peer_mss.saturating_add(self.fixed_headers_len())
    }

    fn search_mut<'a, B>(&mut self, chunks: &'a mut Chunks<B>) -> Option<&'a mut MtuSearch> {
        if self.extra.is_none() {
            return None;
        }
        Some(&mut self.extra_mut(chunks)?.mtu_search)
    }
}

/// Whether `span` has passed since a moment.
fn has_passed(now: Instant, since: Stamp, span: Nanos) -> bool {
    now.since(since.instant()) >= span
}
