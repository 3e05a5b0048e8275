//! How long an ACK waits for company: the estimate that follows the peer's rhythm, quick mode, and
//! what happens when the time is up.
//!
//! The delay begins at 40 ms, halves towards that while data come quickly, and doubles when an ACK
//! had to leave alone; a round trip bounds it (Linux: `tcp_event_data_recv`,
//! `tcp_send_delayed_ack`, `tcp_delack_timer_handler`). It is kept in ticks of 4 ms, those of a Linux
//! at 250 Hz: one byte.

use millrace_base::{Micros, Nanos, PacketPool, Stamp};

use super::config::TcpTunables;
use super::connection::Connection;
use super::segment::Env;
use crate::stats::count;

/// Milliseconds of a tick.
pub(super) const DELAY_TICK_MS: u32 = 4;
/// The shortest delay in ticks (Linux: `TCP_ATO_MIN`, 40 ms).
pub(super) const DELAY_TICKS_MIN: u8 = 10;
/// ACKs that are sent without delay at the start (Linux: `TCP_MAX_QUICKACKS`).
pub(super) const QUICK_ACKS_MAX: u8 = 16;
/// And at least, in a small window.
const QUICK_ACKS_MIN: u8 = 2;
/// Data that come no later than this after others leave the shortest delay as it is.
const REGULAR_MS: u32 = DELAY_TICKS_MIN as u32 / 2 * DELAY_TICK_MS;
/// No ACK waits longer (RFC 9293 section 3.8.6.3: less than half a second).
const DELAY_MS_MAX: u32 = 500;

impl Connection {
    /// In-order data came, `payload_len` bytes of it. Tells whether it was more than ever.
    #[inline]
    pub(super) fn note_data_arrival<P: PacketPool>(
        &mut self,
        env: &Env<'_, P>,
        payload_len: u32,
        advertised: u16,
    ) -> bool {
        let is_larger = self.ack.measure(payload_len, advertised);
        let since_ms = self.ack.note_data(env.now);
        if since_ms > REGULAR_MS || !self.ack.is_delay_shortest() {
            self.adapt_ack_delay(since_ms, env.tunables);
        }
        is_larger
    }

    /// So many segments more came together with the one that `note_data_arrival` was told of.
    #[inline]
    pub(super) fn note_data_at_once(&mut self, segments: u32, tunables: &TcpTunables) {
        if !self.ack.is_delay_shortest() {
            self.shorten_ack_delay(segments, tunables);
        }
    }

    #[cold]
    fn shorten_ack_delay(&mut self, segments: u32, tunables: &TcpTunables) {
        // A burst of segments at most.
        for _ in 0..segments {
            self.adapt_ack_delay(0, tunables);
        }
    }

    /// The delay follows the time between data (Linux: `tcp_event_data_recv`).
    #[cold]
    fn adapt_ack_delay(&mut self, since_ms: u32, tunables: &TcpTunables) {
        let before = u32::from(self.ack.delay_ticks());
        let least = u32::from(DELAY_TICKS_MIN);
        let since = since_ms / DELAY_TICK_MS;
        let after = if before == 0 {
            self.be_quick(QUICK_ACKS_MAX);
            least
        } else if since <= least / 2 {
            (before / 2).saturating_add(least / 2)
        } else if since < before {
            let timeout = self.timeout_ticks(tunables);
            (before / 2).saturating_add(since).min(timeout)
        } else {
            if since > self.timeout_ticks(tunables) {
                // The peer has been silent for so long that it must begin anew.
                self.be_quick(QUICK_ACKS_MAX);
            }
            before
        };
        self.ack.set_delay_ticks(after.min(u8::MAX.into()) as u8);
    }

    fn timeout_ticks(&self, tunables: &TcpTunables) -> u32 {
        // An RTO is 2 minutes at most.
        let millis = self.rtt.rto(tunables).as_millis().min(u32::MAX.into()) as u32;
        millis / DELAY_TICK_MS
    }

    /// The next `most` segments are acknowledged at once, or as many as fill half of the window
    /// (Linux: `tcp_incr_quickack`).
    fn be_quick(&mut self, most: u8) {
        let window = self.window.edge().bytes_since(self.window.acked);
        let two = u32::from(self.ack.receive_mss()).saturating_mul(2);
        let fitting = match window.checked_div(two) {
            None | Some(0) => u32::from(QUICK_ACKS_MIN),
            Some(fitting) => fitting,
        };
        self.ack.be_quick(fitting.min(most.into()) as u8);
    }

    /// Quick mode, and the delay behind it is the shortest (Linux: `tcp_enter_quickack_mode`).
    pub(super) fn enter_quick_mode(&mut self, most: u8) {
        self.be_quick(most);
        self.ack.end_ping_pong();
        self.ack.set_delay_ticks(DELAY_TICKS_MIN);
    }

    /// Lets an ACK wait for data to travel with, or for more to acknowledge (Linux:
    /// `tcp_send_delayed_ack`).
    #[inline(never)] // Beside bursts, which are acknowledged at once.
    pub(super) fn delay_ack<P: PacketPool>(&mut self, env: &Env<'_, P>) {
        if env.tunables.special.quick_ack {
            return self.ack.send_now();
        }
        let delay_ms = self.ack_delay_ms(env.tunables);
        if self.timers.delayed_ack.is_never() {
            self.arm_ack_delay(env, delay_ms);
        } else {
            self.delay_ack_again(env, delay_ms);
        }
    }

    /// The same when an ACK waits already.
    fn delay_ack_again<P: PacketPool>(&mut self, env: &Env<'_, P>, delay_ms: u32) {
        let left = self.timers.delayed_ack.instant().since(env.now);
        if left.as_millis() > u64::from(delay_ms) {
            // Even if that is the next burst's time, which is set again behind the ACK.
            self.arm_ack_delay(env, delay_ms);
        } else if left.as_millis() <= u64::from(delay_ms / 4) && !self.is_timer_for_pace(env.chunks)
        {
            // It would leave soon anyway.
            self.ack.send_now();
        }
    }

    fn arm_ack_delay<P: PacketPool>(&mut self, env: &Env<'_, P>, delay_ms: u32) {
        let delay = Nanos::from_millis(delay_ms.into());
        self.timers.delayed_ack = Stamp::not_before(env.now.after(delay));
    }

    #[inline]
    fn ack_delay_ms(&self, tunables: &TcpTunables) -> u32 {
        let least = tunables.tcp_delack_min_ms;
        let delay = if self.ack.is_delay_shortest() {
            least
        } else {
            self.long_delay_ms(least)
        };
        // Not so long that the peer would retransmit.
        let timeout = tunables.tcp_rto_min_ms.saturating_sub(DELAY_TICK_MS);
        delay.min(tunables.tcp_delack_max_ms).min(timeout)
    }

    #[cold]
    fn long_delay_ms(&self, least: u32) -> u32 {
        let delay = u32::from(self.ack.delay_ticks()).saturating_mul(DELAY_TICK_MS);
        if delay <= least {
            return delay;
        }
        let round_trip = self.rtt.srtt().map(|srtt| srtt.as_micros() / 1_000);
        let most = round_trip.map_or(DELAY_MS_MAX, |millis| millis.max(least));
        delay.min(most.min(DELAY_MS_MAX))
    }

    /// The ACK of the SYN-ACK waits for what the application is about to send (Linux:
    /// `sk_write_pending` in `tcp_rcv_synsent_state_process`).
    #[cold]
    pub(super) fn defer_third_ack<P: PacketPool>(&mut self, env: &Env<'_, P>) {
        self.enter_quick_mode(QUICK_ACKS_MAX);
        self.arm_ack_delay(env, env.tunables.tcp_delack_max_ms);
    }

    /// No buffer for an ACK: it is tried again, each time after twice as long.
    #[cold]
    pub(super) fn ack_later<P: PacketPool>(&mut self, env: &Env<'_, P>) {
        let first = env.tunables.tcp_delack_max_ms.max(1);
        let doublings = env.tunables.tcp_rto_max_ms.checked_div(first);
        // The first delay that is no less than the longest timeout is not doubled again.
        let most = doublings.map_or(0, |ratio| {
            u32::BITS.saturating_sub(ratio.saturating_sub(1).leading_zeros())
        });
        let failures = self.ack.give_up_once(most.min(u8::MAX.into()) as u8);
        let delay = first.checked_shl(failures.into()).unwrap_or(u32::MAX);
        self.arm_ack_delay(env, delay);
    }

    /// The ACK that waited leaves alone.
    pub(super) fn on_ack_timeout<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        self.ack.send_now();
        if self.fire_compressed(env.chunks) {
            return;
        }
        count!(env.stats.delayed_acks);
        if self.ack.is_ping_pong() {
            self.ack.end_ping_pong();
            self.ack.set_delay_ticks(DELAY_TICKS_MIN);
            return;
        }
        let twice = u32::from(self.ack.delay_ticks()).saturating_mul(2);
        let ticks = twice.min(self.timeout_ticks(env.tunables));
        self.ack.set_delay_ticks(ticks.min(u8::MAX.into()) as u8);
    }

    /// The smoothed round trip in nanoseconds; 0 while it is not known.
    pub(super) fn round_trip_ns(&self) -> u64 {
        let srtt = self.rtt.srtt().map_or(0, Micros::as_micros);
        u64::from(srtt).saturating_mul(1_000)
    }
}

#[cfg(test)]
mod tests;
