//! The shortest round trip of ten seconds; when nothing as short was seen for five, half of what the
//! path holds stays in flight for 200 ms, so that its queue is empty once (draft section 5.3.4).

use millrace_base::{Instant, Micros, Nanos};

use super::model::PIPE_SEGMENTS_MIN;
use super::{AckPhase, Bbr, PathView, State};
use crate::tcp::rate::RateSample;

const MIN_RTT_FILTER: Nanos = Nanos::from_secs(10);
const INTERVAL: Nanos = Nanos::from_secs(5);
const DURATION: Nanos = Nanos::from_millis(200);

impl Bbr {
    /// The shortest round trip: by our own clock, of what was sent once. No echo moves it.
    pub(crate) fn min_rtt(&self) -> Option<Micros> {
        (self.min_rtt.as_micros() != u32::MAX).then_some(self.min_rtt)
    }

    /// UpdateMinRTT.
    pub(super) fn update_min_rtt(&mut self, rs: &RateSample, now: Instant) {
        self.probe_rtt_expired = now > self.probe_rtt_min_stamp.after(INTERVAL);
        if let Some(rtt) = rs.rtt
            && (rtt < self.probe_rtt_min_delay || (self.probe_rtt_expired && !rs.is_ack_delayed))
        {
            self.probe_rtt_min_delay = rtt;
            self.probe_rtt_min_stamp = now;
        }
        // That of the handshake stays until there is another.
        let is_expired = now > self.min_rtt_stamp.after(MIN_RTT_FILTER)
            && self.probe_rtt_min_delay.as_micros() != u32::MAX;
        if self.probe_rtt_min_delay < self.min_rtt || is_expired {
            self.min_rtt = self.probe_rtt_min_delay;
            self.min_rtt_stamp = self.probe_rtt_min_stamp;
        }
    }

    /// CheckProbeRTT.
    pub(super) fn check_probe_rtt(&mut self, rs: &RateSample, path: &PathView, cwnd: &mut u32) {
        if self.state != State::ProbeRtt && self.probe_rtt_expired && !self.idle_restart {
            self.save_cwnd(*cwnd);
            self.state = State::ProbeRtt;
            self.probe_rtt_done_stamp = Instant::ZERO;
            self.await_acks_of(AckPhase::ProbeStopping);
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(path, cwnd);
        }
        if rs.has_data && rs.delivered > 0 {
            self.idle_restart = false;
        }
    }

    fn handle_probe_rtt(&mut self, path: &PathView, cwnd: &mut u32) {
        // So that its low rates do not count.
        self.sampler.limit_by_application(path.in_flight);
        if self.probe_rtt_done_stamp == Instant::ZERO {
            if path.in_flight <= self.probe_rtt_cwnd(path.mss) {
                self.probe_rtt_done_stamp = path.now.after(DURATION);
                self.probe_rtt_round_done = false;
                self.start_round();
            }
            return;
        }
        self.probe_rtt_round_done |= self.round_start;
        if self.probe_rtt_round_done {
            self.check_probe_rtt_done(path.now, cwnd);
        }
    }

    /// CheckProbeRTTDone and ExitProbeRTT.
    pub(super) fn check_probe_rtt_done(&mut self, now: Instant, cwnd: &mut u32) {
        let done = self.probe_rtt_done_stamp;
        if done == Instant::ZERO || now <= done {
            return;
        }
        self.probe_rtt_min_stamp = now;
        *cwnd = (*cwnd).max(self.prior_cwnd);
        self.reset_short_term_model();
        if self.full_bw_reached {
            self.start_down(now);
            self.state = State::Cruise;
        } else {
            self.enter_startup();
        }
    }

    /// ProbeRTTCwnd: half of what the path holds.
    pub(super) fn probe_rtt_cwnd(&self, mss: u32) -> u32 {
        self.bdp(self.bw, State::ProbeRtt.cwnd_gain())
            .max(mss.saturating_mul(PIPE_SEGMENTS_MIN))
    }
}
