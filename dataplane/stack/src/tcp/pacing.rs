//! Pacing: segments leave at a rate instead of as fast as the window allows.
//!
//! The rate follows from window and round trip, twice as much in slow start and a fifth more
//! otherwise (Linux: `tcp_update_pacing_rate`), unless congestion control has one of its own: then
//! it is held to that. Any other connection is held to its rate when a socket set
//! `SO_MAX_PACING_RATE`, or when the tunable `fq` says that the link would do it, as Linux's
//! queueing discipline of that name does. What leaves together is a burst, the frame of a device
//! that cuts; the next one waits until the burst would have passed at that rate.
//!
//! The clock of departures lies in `Extra`; there is no timer of its own: waiting shares that of the
//! delayed ACK, which rides on what leaves then. Who is not paced pays for one look at whether there
//! is an `Extra`.

use millrace_base::{Instant, Micros, Nanos, PacketPool, Stamp};

use super::chunk::Chunks;
use super::config::TcpTunables;
use super::connection::Connection;
use super::segment::Env;

/// The clock of departures of a paced connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pacing {
    /// `SO_MAX_PACING_RATE` in bytes per second.
    rate_max: Option<u64>,
    /// When the next burst may leave (Linux: `tcp_wstamp_ns`).
    next_at: Instant,
    /// What has left of the present burst.
    burst_bytes: u32,
    /// Segments with data sent so far.
    segments: u32,
    is_on: bool,
    /// The next burst has to wait.
    waits: bool,
    /// What the timer of the delayed ACK was set to for it.
    timer: Option<Stamp>,
}

/// Segments at the beginning of a connection that are not paced, as `fq` does not.
const UNPACED_SEGMENTS: u32 = 10;
/// A burst is what leaves in a 1,024th of a second, but so many segments at least (Linux:
/// `sk_pacing_shift`, `tcp_min_tso_segs`).
pub(super) const BURST_SHIFT: u32 = 10;
const BURST_SEGMENTS_MIN: u64 = 2;
const BURST_BYTES_MAX: u64 = 65_536;
/// No limit.
pub(crate) const RATE_UNLIMITED: u64 = u64::MAX;

impl Pacing {
    /// Whether the connection is held to a rate.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    fn begin(&mut self, segments: u32) {
        if !self.is_on {
            self.is_on = true;
            self.segments = segments;
        }
    }

    /// A burst has left: when may the next one? (Linux: `tcp_update_skb_after_send`.)
    // behaviour: A4-3, A4-27
    fn end_burst(&mut self, now: Instant, rate: u64) {
        let bytes = core::mem::take(&mut self.burst_bytes);
        if bytes == 0 {
            return;
        }
        let before = self.next_at;
        // Never backwards: a clock of departures only goes on.
        self.next_at = before.max(now);
        let span = u64::from(bytes)
            .saturating_mul(1_000_000_000)
            .checked_div(rate);
        if let Some(span) = span
            && rate != RATE_UNLIMITED
            && self.segments >= UNPACED_SEGMENTS
        {
            // A burst that was late may be made up for by half of its length.
            let credit = self.next_at.since(before).as_nanos();
            let span = span.saturating_sub(credit.min(span / 2));
            self.next_at = self.next_at.after(Nanos::new(span));
        }
        self.waits = self.next_at > now;
    }
}

/// Bytes per second for a window of `bytes` and a round trip of `srtt`, `ratio` percent of one
/// window in a round trip.
fn rate_of(bytes: u32, ratio: u16, srtt: Micros) -> u64 {
    let scaled = u64::from(bytes)
        .saturating_mul(u64::from(ratio))
        .saturating_mul(10_000);
    scaled
        .checked_div(u64::from(srtt.as_micros()))
        .unwrap_or(RATE_UNLIMITED)
}

impl Connection {
    /// The rate in bytes per second at which the connection sends, or would if it were paced;
    /// `RATE_UNLIMITED` before the first round trip.
    // behaviour: CCW-2
    pub(crate) fn pacing_rate<B>(&self, chunks: &Chunks<B>, tunables: &TcpTunables) -> u64 {
        let limit = self.pacing_rate_max(chunks);
        if let Some(rate) = self.congestion.pacing_rate(&chunks.congestion) {
            return rate.min(limit);
        }
        let Some(srtt) = self.rtt.srtt() else {
            return limit;
        };
        let cwnd = self.congestion.cwnd;
        let ratio = if cwnd < self.congestion.ssthresh / 2 {
            tunables.tcp_pacing_ss_ratio
        } else {
            tunables.tcp_pacing_ca_ratio
        };
        rate_of(cwnd.max(self.sent_bytes()), ratio, srtt).min(limit)
    }

    /// Bytes that may lie below TCP and have not left: a millisecond of the pacing rate, and for who is
    /// not held to a rate `tcp_limit_output_bytes` at most (Linux: `tcp_small_queue_check`, whose two
    /// packets are the quota of a turn here).
    // behaviour: A3-45
    #[cold]
    pub(crate) fn small_queue_bytes<B>(&self, chunks: &Chunks<B>, tunables: &TcpTunables) -> u64 {
        let limit = self.pacing_rate(chunks, tunables) >> BURST_SHIFT;
        if self.is_paced(chunks) {
            return limit;
        }
        limit.min(tunables.tcp_limit_output_bytes.into())
    }

    /// `SO_MAX_PACING_RATE`, `RATE_UNLIMITED` when it was not set.
    pub(crate) fn pacing_rate_max<B>(&self, chunks: &Chunks<B>) -> u64 {
        let extra = self.extra(chunks);
        extra
            .and_then(|extra| extra.pacing.rate_max)
            .unwrap_or(RATE_UNLIMITED)
    }

    /// Sends no faster than so many bytes per second from now on; `RATE_UNLIMITED` takes the limit
    /// back, but goes on pacing (Linux: `sk_pacing_status`).
    pub(crate) fn set_pacing_rate_max<B>(&mut self, rate: u64, chunks: &mut Chunks<B>) {
        let sent = self.segments_sent();
        if rate == RATE_UNLIMITED && self.extra.is_none() {
            return;
        }
        if let Some(extra) = self.extra_mut(chunks) {
            if rate != RATE_UNLIMITED {
                extra.pacing.begin(sent);
            }
            extra.pacing.rate_max = (rate != RATE_UNLIMITED).then_some(rate);
        }
    }

    /// Leaves at the rate that congestion control says from now on; `false` when there is no place for
    /// the clock (Linux: `SK_PACING_NEEDED`).
    pub(super) fn start_pacing<B>(&mut self, chunks: &mut Chunks<B>) -> bool {
        let sent = self.segments_sent();
        let extra = self.extra_mut(chunks);
        extra.is_some_and(|extra| {
            extra.pacing.begin(sent);
            true
        })
    }

    /// Whether the connection is held to a rate.
    #[inline]
    pub(super) fn is_paced<B>(&self, chunks: &Chunks<B>) -> bool {
        self.extra(chunks).is_some_and(|extra| extra.pacing.is_on())
    }

    /// Whether the next burst has to wait (Linux: `tcp_pacing_check`).
    // behaviour: A3-39, X5-7
    #[inline]
    pub(super) fn is_held_back<B>(&self, chunks: &Chunks<B>) -> bool {
        self.extra(chunks).is_some_and(|extra| extra.pacing.waits)
    }

    /// A turn begins: is it time again?
    #[inline]
    pub(super) fn begin_paced_turn<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if !self.extra.is_none() || env.tunables.fq {
            self.look_at_pace(env);
        }
    }

    #[cold]
    fn look_at_pace<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let sent = self.segments_sent();
        let is_everyone = env.tunables.fq;
        let Some(extra) = self.extra_mut(env.chunks) else {
            return;
        };
        if is_everyone {
            extra.pacing.begin(sent);
        }
        extra.pacing.waits = extra.pacing.next_at > env.now;
    }

    /// So much has left.
    #[inline]
    pub(super) fn pace<P: PacketPool>(&mut self, env: &mut Env<'_, P>, bytes: u32, segments: u32) {
        if self.is_paced(env.chunks) {
            self.count_paced(env, bytes, segments);
        }
    }

    #[cold]
    fn count_paced<P: PacketPool>(&mut self, env: &mut Env<'_, P>, bytes: u32, segments: u32) {
        let rate = self.pacing_rate(env.chunks, env.tunables);
        let limit = self.burst_bytes_max(env.chunks, rate);
        if let Some(extra) = self.extra_mut(env.chunks) {
            let pacing = &mut extra.pacing;
            pacing.segments = pacing.segments.saturating_add(segments);
            pacing.burst_bytes = pacing.burst_bytes.saturating_add(bytes);
            if u64::from(pacing.burst_bytes) >= limit {
                pacing.end_burst(env.now, rate);
            }
        }
    }

    /// Bytes that leave together at this rate.
    fn burst_bytes_max<B>(&self, chunks: &Chunks<B>, rate: u64) -> u64 {
        let mss = u64::from(self.mss.max(1));
        let share = (rate >> BURST_SHIFT).checked_div(mss).unwrap_or(0);
        let least = self.congestion.min_tso_segs(&chunks.congestion);
        share
            .max(least.map_or(BURST_SEGMENTS_MIN, u64::from))
            .saturating_mul(mss)
            .min(BURST_BYTES_MAX)
    }

    /// What the present burst of a paced connection still takes, in bytes: a frame that the device cuts
    /// is no longer (Linux: `tcp_tso_autosize`). No bound for any other.
    #[inline(never)] // Beside the common case, of which it would take the registers.
    pub(super) fn burst_room<B>(&self, chunks: &Chunks<B>, tunables: &TcpTunables) -> u32 {
        let extra = self.extra(chunks).filter(|extra| extra.pacing.is_on());
        let Some(extra) = extra else {
            return u32::MAX;
        };
        let rate = self.pacing_rate(chunks, tunables);
        let limit = self.burst_bytes_max(chunks, rate) as u32;
        limit.saturating_sub(extra.pacing.burst_bytes)
    }

    /// Whether one segment more is the last of a burst that has begun.
    pub(super) fn is_burst_ending<B>(&self, chunks: &Chunks<B>, tunables: &TcpTunables) -> bool {
        let extra = self.extra(chunks);
        extra.is_some_and(|extra| extra.pacing.burst_bytes > 0)
            && self.burst_room(chunks, tunables) <= self.mss.into()
    }

    /// Nothing more leaves in this turn: a burst that is not full is one all the same.
    #[inline]
    pub(super) fn end_paced_turn<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.is_paced(env.chunks) {
            self.wait_for_pace(env);
        }
    }

    // behaviour: TMR-33
    #[cold]
    fn wait_for_pace<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        self.check_app_limited(env.chunks);
        let rate = self.pacing_rate(env.chunks, env.tunables);
        let has_more = self.unsent_bytes() > 0 || self.send.board.has_pending(env.chunks);
        let Some(extra) = self.extra_mut(env.chunks) else {
            return;
        };
        extra.pacing.end_burst(env.now, rate);
        // Without a timer nobody waits: what comes later asks the clock when its turn begins.
        extra.pacing.waits &= has_more;
        let at = Stamp::not_before(extra.pacing.next_at);
        if extra.pacing.waits && at.instant() < self.timers.delayed_ack.instant() {
            extra.pacing.timer = Some(at);
            self.timers.delayed_ack = at;
        }
    }

    /// The timer of the delayed ACK expired, which was set to `timer`: `true` when that was for the
    /// next burst. An ACK that waits too travels with it, or waits from now on.
    pub(super) fn is_pace_due<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        timer: Stamp,
    ) -> bool {
        if !self.is_paced(env.chunks) {
            return false;
        }
        let Some(extra) = self.extra_mut(env.chunks) else {
            return false;
        };
        if extra.pacing.timer.take() != Some(timer) {
            return false;
        }
        extra.pacing.waits = false;
        if !self.reassembly.is_empty() {
            self.delay_compressed(env);
        } else if self.window.nxt != self.window.acked {
            // What was pushed was noted when it came.
            self.schedule_ack(env, false);
        }
        true
    }

    /// Whether the timer of the delayed ACK is set for the next burst.
    pub(super) fn is_timer_for_pace<B>(&self, chunks: &Chunks<B>) -> bool {
        let extra = self.extra(chunks).filter(|extra| extra.pacing.is_on());
        extra.is_some_and(|extra| extra.pacing.timer == Some(self.timers.delayed_ack))
    }

    /// Segments with data that must have left so far.
    fn segments_sent(&self) -> u32 {
        let bytes = self
            .bytes_acked
            .value()
            .saturating_add(self.sent_bytes().into());
        let segments = bytes.checked_div(u64::from(self.mss.max(1)));
        segments.unwrap_or(0).min(u64::from(u32::MAX)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::testing::{Bench, ack};

    // Linux: mss * 8e6 * ratio * cwnd / srtt. behaviour: CCW-2, X8-12
    #[test]
    fn the_rate_is_two_windows_a_round_trip_in_slow_start_and_six_fifths_otherwise() {
        let srtt = Micros::from_millis(100);
        assert_eq!(rate_of(14_600, 200, srtt), 292_000);
        assert_eq!(rate_of(14_600, 120, srtt), 175_200);
        assert_eq!(rate_of(14_600, 200, Micros::new(0)), RATE_UNLIMITED);
        let mut bench = Bench::established(true);
        let tunables = bench.world.tunables;
        // The first round trip was 100 ms.
        let rate = |bench: &Bench| {
            let connection = &bench.connection;
            connection.pacing_rate(&bench.world.chunks, &tunables)
        };
        assert_eq!(rate(&bench), 200_000);
        bench.connection.congestion.ssthresh = 15_000;
        assert_eq!(rate(&bench), 120_000);
        let chunks = &mut bench.world.chunks;
        bench.connection.set_pacing_rate_max(50_000, chunks);
        assert_eq!(rate(&bench), 50_000);
        bench.finish();
    }

    // Linux: tcp_update_skb_after_send. behaviour: A4-3, A4-27
    #[test]
    fn the_clock_of_departures_goes_on_by_bursts_and_forgives_half_of_being_late() {
        let mut pacing = Pacing::default();
        let at = Instant::from_millis;
        pacing.begin(0);
        let mut burst = |now, segments| {
            pacing.segments = segments;
            pacing.burst_bytes = 2_000;
            pacing.end_burst(now, 200_000);
            (pacing.next_at, pacing.waits)
        };
        assert_eq!(burst(at(1_000), 9), (at(1_000), false), "the first ten");
        assert_eq!(burst(at(1_000), 10), (at(1_010), true));
        assert_eq!(burst(at(1_010), 12), (at(1_020), true));
        // Three late of ten: seven to wait. Long late: half.
        assert_eq!(burst(at(1_023), 14), (at(1_030), true));
        assert_eq!(burst(at(2_000), 16), (at(2_005), true));
    }

    // SO_MAX_PACING_RATE. behaviour: A3-39, X5-7, TMR-33
    #[test]
    fn a_paced_connection_sends_a_burst_and_waits_for_its_time() {
        let mut bench = Bench::established(true);
        bench.write(10_000);
        assert_eq!(bench.sent().len(), 10);
        bench.advance(100);
        bench.receive(ack(10_000));
        let chunks = &mut bench.world.chunks;
        bench.connection.set_pacing_rate_max(100_000, chunks);
        bench.write(6_000);
        assert_eq!(bench.sent().len(), 2, "one burst of two");
        bench.advance(5);
        assert_eq!(bench.sent().len(), 0);
        // 20 ms at this rate, half of it forgiven.
        bench.advance(5);
        assert_eq!(bench.sent().len(), 2);
        bench.advance(19);
        assert_eq!(bench.sent().len(), 0);
        bench.advance(1);
        assert_eq!(bench.sent().len(), 2);
        bench.advance(30);
        assert_eq!(bench.sent().len(), 0);
        bench.finish();
    }

    // Seed 8 of the simulator: the queue was empty when the burst ended, so that no timer was set,
    // and what was written later waited for one.
    #[test]
    fn what_is_written_while_a_burst_passes_leaves_when_it_is_over() {
        let mut bench = Bench::established(true);
        bench.write(10_000);
        assert_eq!(bench.sent().len(), 10);
        bench.advance(100);
        bench.receive(ack(10_000));
        let chunks = &mut bench.world.chunks;
        bench.connection.set_pacing_rate_max(100_000, chunks);
        bench.write(2_000);
        assert_eq!(bench.sent().len(), 2, "one burst, and nothing behind it");
        bench.write(77);
        assert_eq!(bench.sent().len(), 0);
        bench.advance(20);
        assert_eq!(bench.sent().len(), 1);
        bench.finish();
    }

    // The simulator: a turn that was cut behind the last frame of a burst set no timer either, and
    // nothing wanted to leave any more.
    #[test]
    fn a_turn_that_ends_with_its_burst_sets_the_timer_for_the_next() {
        let mut bench = Bench::established(true);
        bench.write(10_000);
        assert_eq!(bench.sent().len(), 10);
        bench.advance(100);
        bench.receive(ack(10_000));
        let chunks = &mut bench.world.chunks;
        bench.connection.set_pacing_rate_max(100_000, chunks);
        bench.write(6_000);
        // Each is a turn of its own.
        assert!(bench.poll().is_some() && bench.poll().is_some());
        assert!(!bench.connection.wants_output(&bench.world.chunks));
        let burst = Nanos::from_millis(20);
        assert!(bench.connection.next_deadline() <= bench.now.after(burst));
        bench.advance(20);
        assert_eq!(bench.sent().len(), 2);
        bench.finish();
    }
}
