//! BBR (draft-ietf-ccwg-bbr, the third version): a model of the path instead of a window.
//!
//! It measures how fast the path delivers and how short its round trip is, sends at that rate, and
//! keeps in flight what their product says, with bounds for what was lost at. Linux has the first
//! version under the same name; this one shares its events, its pacing and what `TCP_CC_INFO` says.
//!
//! ```text
//! model       round trips, the largest rate, aggregation, the volumes that follow
//! startup     Startup and Drain: until the pipe is full, or too much is lost
//! probe_bw    Down, Cruise, Refill, Up: is there more?
//! probe_rtt   the shortest round trip, and how it is found again
//! congestion  what loss says: short-term bounds, a probe that went too high, undo
//! control     what comes of it: pacing rate and window
//! ```
//!
//! Rates are bytes per second, volumes bytes, gains 1/256. It ignores ECN, as the draft does. Its
//! state lies on a shelf; a connection that finds no place there, or none for the clock of its
//! departures, has CUBIC instead.

mod congestion;
mod control;
mod model;
mod probe_bw;
mod probe_rtt;
mod startup;

use millrace_base::{Instant, Micros, Nanos};

use crate::tcp::rate::{RateSample, Sampler};

/// Where BBR stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The rate doubles each round trip.
    Startup,
    /// What Startup has queued leaves.
    Drain,
    /// A little slower than the path: the queue of the last probe leaves.
    Down,
    /// As fast as the path, until it is time to look for more.
    Cruise,
    /// As fast, without short-term bounds: the pipe is to be full before the probe.
    Refill,
    /// Faster than the path.
    Up,
    /// Half of what the path holds, for a look at its shortest round trip.
    ProbeRtt,
}

/// What the ACKs that come now are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AckPhase {
    /// No probe.
    Init,
    /// The pipe is being filled.
    Refilling,
    /// A probe has begun.
    ProbeStarting,
    /// It is being answered.
    ProbeFeedback,
    /// It is over, and still being answered.
    ProbeStopping,
}

/// The state to go back to when a loss was none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum UndoState {
    None,
    Startup,
    Up,
}

/// No bound.
const UNBOUNDED: u32 = u32::MAX;
/// No bound of a rate.
const RATE_UNBOUNDED: u64 = u64::MAX;
/// One, as a gain.
const ONE: u32 = 256;

/// What BBR knows of a path. The names are the draft's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bbr {
    pub(crate) sampler: Sampler,
    pub(super) state: State,
    ack_phase: AckPhase,
    undo_state: UndoState,

    // Round trips, counted by what is delivered.
    next_round_delivered: u32,
    round_count: u32,
    round_start: bool,
    drain_start_round: u32,

    // Rates.
    /// The largest of the last cycle of probing and of the present one.
    max_bw_filter: [u64; 2],
    bw_shortterm: u64,
    bw: u64,
    bw_latest: u64,
    pub(super) pacing_rate: u64,

    // The shortest round trip; `u32::MAX` microseconds before the first.
    min_rtt: Micros,
    min_rtt_stamp: Instant,
    probe_rtt_min_delay: Micros,
    probe_rtt_min_stamp: Instant,
    /// When ProbeRTT has lasted long enough; `Instant::ZERO` until little enough is in flight.
    probe_rtt_done_stamp: Instant,
    probe_rtt_round_done: bool,
    probe_rtt_expired: bool,
    idle_restart: bool,
    has_seen_rtt: bool,

    // Volumes.
    inflight_latest: u32,
    inflight_longterm: u32,
    inflight_shortterm: u32,
    max_inflight: u32,
    init_cwnd: u32,
    prior_cwnd: u32,
    extra_acked_start: Instant,
    extra_acked_delivered: u32,
    extra_acked_filter: [u32; 2],
    extra_acked_rounds: u8,

    // Whether the pipe is full.
    full_bw: u64,
    full_bw_count: u8,
    full_bw_now: bool,
    full_bw_reached: bool,

    // Losses.
    loss_round_delivered: u32,
    loss_round_start: bool,
    is_loss_in_round: bool,
    lost_in_round: u32,
    /// ACKs of this round that told of losses, up to 15.
    loss_events: u8,
    undo_bw_shortterm: u64,
    undo_inflight_shortterm: u32,
    undo_inflight_longterm: u32,

    // Probing.
    cycle_stamp: Instant,
    bw_probe_wait: Nanos,
    rounds_since_probe_up: u32,
    bw_probe_up_rounds: u8,
    bw_probe_up_acked: u32,
    probe_up_acked_per_inc: u32,
    is_bw_probe_sample: bool,
    prev_probe_too_high: bool,
    prev_probe_precautionary: bool,
    in_recovery: bool,
    /// More than the initial window was delivered.
    has_delivered_first: bool,
    /// Whence chance comes: a connection's initial sequence number, which nobody can guess.
    dice: u32,
}

/// What BBR must know of its connection at the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    pub(crate) now: Instant,
    pub(crate) srtt: Option<Micros>,
    /// Bytes of the window, which is the initial one.
    pub(crate) cwnd: u32,
    /// A number that differs from connection to connection.
    pub(crate) seed: u32,
}

/// What BBR must know of its connection with each ACK.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathView {
    pub(crate) now: Instant,
    pub(crate) srtt: Option<Micros>,
    /// Bytes in flight behind the ACK.
    pub(crate) in_flight: u32,
    pub(crate) mss: u32,
    /// The window held the sender back in the last round trip.
    pub(crate) is_cwnd_limited: bool,
    pub(crate) has_sack: bool,
    /// Fast recovery, not after a timeout.
    pub(crate) is_in_fast_recovery: bool,
}

/// What `TCP_CC_INFO` says of BBR (`struct tcp_bbr_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BbrInfo {
    /// The largest rate of delivery, bytes per second.
    pub bandwidth: u64,
    /// The shortest round trip; `u32::MAX` microseconds before the first.
    pub min_rtt: Micros,
    /// How much faster than that rate data leaves, in 1/256.
    pub pacing_gain: u32,
    /// How many times the product of both may be in flight, in 1/256.
    pub cwnd_gain: u32,
}

impl Bbr {
    /// A path of which nothing is known.
    pub(crate) fn new(beginning: &Beginning) -> Self {
        let Beginning {
            now,
            srtt,
            cwnd,
            seed,
        } = *beginning;
        let mut fresh = Self {
            sampler: Sampler::default(),
            state: State::Startup,
            ack_phase: AckPhase::Init,
            undo_state: UndoState::None,
            next_round_delivered: 0,
            round_count: 0,
            round_start: false,
            drain_start_round: 0,
            max_bw_filter: [0; 2],
            bw_shortterm: RATE_UNBOUNDED,
            bw: 0,
            bw_latest: 0,
            pacing_rate: 0,
            min_rtt: srtt.unwrap_or(Micros::new(u32::MAX)),
            min_rtt_stamp: now,
            probe_rtt_min_delay: Micros::new(u32::MAX),
            probe_rtt_min_stamp: now,
            probe_rtt_done_stamp: Instant::ZERO,
            probe_rtt_round_done: false,
            probe_rtt_expired: false,
            idle_restart: false,
            has_seen_rtt: srtt.is_some(),
            inflight_latest: 0,
            inflight_longterm: UNBOUNDED,
            inflight_shortterm: UNBOUNDED,
            max_inflight: cwnd,
            init_cwnd: cwnd,
            prior_cwnd: 0,
            extra_acked_start: now,
            extra_acked_delivered: 0,
            extra_acked_filter: [0; 2],
            extra_acked_rounds: 0,
            full_bw: 0,
            full_bw_count: 0,
            full_bw_now: false,
            full_bw_reached: false,
            loss_round_delivered: 0,
            loss_round_start: false,
            is_loss_in_round: false,
            lost_in_round: 0,
            loss_events: 0,
            undo_bw_shortterm: 0,
            undo_inflight_shortterm: 0,
            undo_inflight_longterm: 0,
            cycle_stamp: now,
            bw_probe_wait: Nanos::ZERO,
            rounds_since_probe_up: 0,
            bw_probe_up_rounds: 0,
            bw_probe_up_acked: 0,
            probe_up_acked_per_inc: UNBOUNDED,
            is_bw_probe_sample: false,
            prev_probe_too_high: false,
            prev_probe_precautionary: false,
            in_recovery: false,
            has_delivered_first: false,
            dice: seed | 1,
        };
        fresh.init_pacing_rate(srtt);
        fresh
    }

    /// One ACK, whose sample is `rs`: the model, then the state, then `cwnd` (UpdateOnACK; Linux:
    /// `cong_control`).
    pub(crate) fn on_ack(&mut self, rs: &RateSample, path: &PathView, cwnd: &mut u32) {
        self.update_latest_delivery_signals(rs);
        self.update_congestion_signals(rs, path.has_sack, *cwnd);
        self.update_ack_aggregation(rs, path, *cwnd);
        self.check_full_bw_reached(rs);
        self.check_startup_done(rs, path);
        self.check_drain_done(path);
        self.update_probe_bw_cycle(rs, path, *cwnd);
        self.update_min_rtt(rs, path.now);
        self.check_probe_rtt(rs, path, cwnd);
        self.advance_latest_delivery_signals(rs);
        self.bw = self.max_bw().min(self.bw_shortterm);
        self.set_pacing_rate(path.srtt);
        self.set_cwnd(rs, path, cwnd);
    }

    /// Something leaves after nothing was in flight (HandleRestartFromIdle; Linux:
    /// `CA_EVENT_TX_START`).
    pub(crate) fn on_transmission_start(&mut self, now: Instant, cwnd: &mut u32) {
        if !self.sampler.is_app_limited() {
            return;
        }
        self.idle_restart = true;
        self.extra_acked_start = now;
        if self.is_in_probe_bw() {
            self.set_pacing_rate_with_gain(ONE);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now, cwnd);
        }
    }

    /// What `TCP_CC_INFO` says.
    pub(crate) fn info(&self) -> BbrInfo {
        BbrInfo {
            bandwidth: self.bw,
            min_rtt: self.min_rtt,
            pacing_gain: self.state.pacing_gain(),
            cwnd_gain: self.state.cwnd_gain(),
        }
    }

    /// A number below `bound`, by chance (xorshift).
    fn roll(&mut self, bound: u32) -> u32 {
        let mut word = self.dice;
        word ^= word << 13;
        word ^= word >> 17;
        word ^= word << 5;
        self.dice = word;
        let scaled = u64::from(word).saturating_mul(bound.into()) >> 32;
        scaled as u32
    }
}

impl State {
    /// How much faster than the estimated rate data leaves, in 1/256.
    fn pacing_gain(self) -> u32 {
        match self {
            // 4 ln 2.
            Self::Startup => 709,
            Self::Drain => 128,
            Self::Down => 230,
            Self::Cruise | Self::Refill | Self::ProbeRtt => ONE,
            Self::Up => 320,
        }
    }

    /// How many times the estimated product of rate and delay may be in flight, in 1/256.
    fn cwnd_gain(self) -> u32 {
        match self {
            Self::Startup | Self::Drain | Self::Down | Self::Cruise | Self::Refill => 512,
            Self::Up => 576,
            Self::ProbeRtt => 128,
        }
    }
}

/// A share in 1/256.
fn scaled(value: u32, gain: u32) -> u32 {
    let wide = u64::from(value).saturating_mul(gain.into()) >> 8;
    wide.min(u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests;
