//! The cases of the draft's appendix, ACK by ACK.

use super::*;
use crate::tcp::rate::LostSegment;
use crate::tcp::recovery::Phase;

const MSS: u32 = 1_000;
/// 10 MB/s and 40 ms: 400 segments.
const RATE: u64 = 10_000_000;
const RTT: Micros = Micros::from_millis(40);
const BDP: u32 = 400_000;

/// A model, and the ACKs that somebody makes up.
struct Bench {
    bbr: Bbr,
    cwnd: u32,
    now: Instant,
    path: PathView,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::from_millis(1_000);
        let beginning = Beginning {
            now,
            srtt: None,
            cwnd: 10 * MSS,
            seed: 7,
        };
        Self {
            bbr: Bbr::new(&beginning),
            cwnd: 10 * MSS,
            now,
            path: PathView {
                now,
                srtt: Some(RTT),
                in_flight: BDP,
                mss: MSS,
                is_cwnd_limited: false,
                has_sack: true,
                is_in_fast_recovery: false,
            },
        }
    }

    /// A flow that has found its path: the pipe is full and drained.
    fn steady() -> Self {
        let mut bench = Self::new();
        for rate in [RATE / 4, RATE / 2, RATE, RATE, RATE, RATE] {
            bench.round(rate);
        }
        assert_eq!(bench.bbr.state, State::Cruise, "nothing to drain");
        bench
    }

    /// Another ACK, `ms` later: with what it tells of the rate.
    fn ack(&mut self, ms: u64, sample: RateSample) {
        self.now = self.now.after(Nanos::from_millis(ms));
        self.path.now = self.now;
        self.bbr.sampler.deliver(self.now, sample.newly_acked);
        self.bbr.on_ack(&sample, &self.path, &mut self.cwnd);
    }

    fn sample(&self, rate: u64) -> RateSample {
        RateSample {
            has_data: true,
            prior_delivered: self.bbr.sampler.delivered,
            delivered: (rate / 25) as u32,
            rate,
            newly_acked: (rate / 25) as u32,
            tx_in_flight: self.path.in_flight,
            rtt: Some(RTT),
            ..RateSample::default()
        }
    }

    /// A round trip at this rate, in one ACK.
    fn round(&mut self, rate: u64) {
        let sample = self.sample(rate);
        self.ack(40, sample);
    }

    /// Some segments were lost that left when `lost_before` bytes had been lost.
    fn lose(&mut self, segments: u32, lost_before: u32) {
        for _ in 0..segments {
            let segment = LostSegment {
                bytes: MSS,
                tx_in_flight: self.path.in_flight,
                lost_before,
                is_app_limited: false,
            };
            self.bbr.on_lost(&segment, &self.path, self.cwnd);
        }
    }

    /// Rounds at full rate until it is in that state; fails after three seconds.
    fn until(&mut self, state: State) {
        for _ in 0..80 {
            if self.bbr.state == state {
                return;
            }
            self.round(RATE);
        }
        panic!("no {state:?}: {:?}", self.bbr);
    }
}

// Draft: InitPacingRate, with a millisecond before the first round trip.
#[test]
fn the_first_window_leaves_in_a_millisecond_until_a_round_trip_is_known() {
    let mut bench = Bench::new();
    assert_eq!(bench.bbr.pacing_rate(), 10_000_000 * 709 / 256);
    let nothing = RateSample::default();
    bench.ack(40, nothing);
    assert_eq!(bench.bbr.pacing_rate(), 250_000 * 709 / 256, "ten in 40 ms");
}

// Draft: "Exiting STARTUP on Bandwidth Plateau".
#[test]
fn startup_ends_when_three_rounds_bring_less_than_a_quarter_more() {
    let mut bench = Bench::new();
    bench.path.in_flight = 2 * BDP;
    for rate in [RATE / 8, RATE / 4, RATE / 2, RATE, RATE * 6 / 5, RATE] {
        bench.round(rate);
        assert_eq!(bench.bbr.state, State::Startup);
    }
    bench.round(RATE);
    assert_eq!(bench.bbr.state, State::Drain);
    // Half of the rate, less a percent.
    assert_eq!(bench.bbr.pacing_rate(), RATE * 6 / 5 / 2 * 99 / 100);
}

// Draft: "Never Exiting PROBE_UP (or STARTUP) When Application-Limited With No Loss".
#[test]
fn too_little_to_send_does_not_end_startup() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        let sample = RateSample {
            is_app_limited: true,
            ..bench.sample(RATE / 10)
        };
        bench.ack(40, sample);
    }
    assert_eq!(bench.bbr.state, State::Startup);
    assert_eq!(bench.bbr.max_bw(), RATE / 10, "but more is more");
    let rate = bench.bbr.pacing_rate();
    let less = RateSample {
        is_app_limited: true,
        ..bench.sample(RATE / 100)
    };
    bench.ack(40, less);
    assert_eq!(bench.bbr.max_bw(), RATE / 10, "less says nothing");
    assert_eq!(bench.bbr.pacing_rate(), rate);
}

// Draft: BBRStartupFullLossCnt, a round of recovery with more than 2 % at six places.
#[test]
fn startup_ends_when_much_is_lost_at_many_places() {
    let lost_at = |places: u32, in_recovery: bool| {
        let mut bench = Bench::new();
        bench.round(RATE);
        bench.path.in_flight = 2 * BDP;
        bench.path.is_in_fast_recovery = in_recovery;
        let before = bench.bbr.sampler.delivered;
        for _ in 0..places {
            bench.lose(5, 0);
            let sample = RateSample {
                prior_delivered: before.wrapping_sub(1),
                newly_lost: 5 * MSS,
                newly_acked: MSS,
                ..bench.sample(RATE)
            };
            bench.ack(1, sample);
        }
        let sample = RateSample {
            lost: bench.bbr.sampler.lost,
            ..bench.sample(RATE * 2)
        };
        bench.ack(40, sample);
        bench
    };
    assert_eq!(lost_at(5, true).bbr.state, State::Startup);
    assert_eq!(lost_at(6, false).bbr.state, State::Startup);
    let bench = lost_at(6, true);
    assert_eq!(bench.bbr.state, State::Drain);
    assert!(bench.bbr.inflight_longterm >= BDP, "{:?}", bench.bbr);
    assert_ne!(bench.bbr.inflight_longterm, UNBOUNDED);
}

// Draft: "Exiting DRAIN Based on Inflight", "Exiting DRAIN Based on Time".
#[test]
fn drain_ends_when_the_queue_is_gone_or_after_three_rounds() {
    let drained = |in_flight| {
        let mut bench = Bench::new();
        bench.path.in_flight = 3 * BDP;
        for rate in [RATE / 2, RATE, RATE, RATE, RATE] {
            bench.round(rate);
        }
        assert_eq!(bench.bbr.state, State::Drain);
        bench.path.in_flight = in_flight;
        (1..9).find(|_| {
            bench.round(RATE);
            bench.bbr.state != State::Drain
        })
    };
    assert_eq!(drained(BDP), Some(1));
    assert_eq!(drained(3 * BDP), Some(4));
}

// Draft: the table of section 5.6.1.
#[test]
fn a_cycle_goes_down_cruises_refills_and_goes_up() {
    let mut bench = Bench::steady();
    let paced = |gain: u64| RATE * gain / 256 * 99 / 100;
    bench.round(RATE);
    bench.until(State::Cruise);
    assert_eq!(bench.bbr.pacing_rate(), paced(256));
    assert_eq!(bench.cwnd, 2 * BDP + bench.bbr.extra_acked());
    bench.until(State::Refill);
    bench.round(RATE);
    assert_eq!(bench.bbr.state, State::Up, "one round trip later");
    assert_eq!(bench.bbr.pacing_rate(), paced(320));
    bench.until(State::Down);
    assert_eq!(bench.bbr.pacing_rate(), paced(230));
    let waited = bench.bbr.bw_probe_wait.as_millis();
    assert!((2_000..3_000).contains(&waited), "{waited} ms");
}

// Draft: AdvanceMaxBwFilter. A path that became slower is believed after two cycles.
#[test]
fn a_slower_path_is_believed_after_two_cycles() {
    let mut bench = Bench::steady();
    bench.path.in_flight = BDP / 2;
    let mut cycles = 0;
    let mut before = bench.bbr.state;
    for _ in 0..400 {
        bench.round(RATE / 2);
        cycles += u32::from(before == State::Up && bench.bbr.state == State::Down);
        before = bench.bbr.state;
        if bench.bbr.max_bw() == RATE / 2 {
            break;
        }
    }
    assert!((1..=2).contains(&cycles), "{cycles}");
}

// Draft: HandleInflightTooHigh, InflightAtLoss; "Precautionary Bandwidth Probing".
#[test]
fn a_probe_that_loses_too_much_sets_a_bound_and_the_next_one_stops_there() {
    let mut bench = Bench::steady();
    bench.until(State::Up);
    bench.path.in_flight = 500_000;
    // 2 percent are ten segments: the eleventh is too much.
    bench.lose(10, 0);
    assert_eq!(bench.bbr.inflight_longterm, UNBOUNDED);
    bench.lose(1, 0);
    assert_eq!(bench.bbr.state, State::Down);
    // 499 before it, of which 9.98 may be lost, and ten are.
    assert_eq!(bench.bbr.inflight_longterm, 499_000);
    bench.lose(5, 0);
    assert_eq!(bench.bbr.inflight_longterm, 499_000, "once for each probe");
    bench.path.in_flight = BDP;
    bench.until(State::Up);
    bench.path.in_flight = 499_000;
    bench.round(RATE);
    assert_eq!(bench.bbr.state, State::Down);
    assert!(bench.bbr.prev_probe_precautionary);
    bench.path.in_flight = BDP;
    bench.round(RATE);
    assert_eq!(bench.bbr.state, State::Refill, "nothing was lost: on");
}

// Draft: never less than Beta times what the path holds.
#[test]
fn the_bound_of_a_probe_is_seven_tenths_of_the_target_at_least() {
    let mut bench = Bench::steady();
    bench.until(State::Up);
    bench.path.in_flight = 50_000;
    bench.lose(2, 0);
    assert_eq!(bench.bbr.inflight_longterm, scaled(BDP, 179));
}

// Draft: LossLowerBounds; but 2 percent are no reason.
#[test]
fn losses_while_cruising_lower_the_short_term_bounds_until_the_pipe_is_refilled() {
    let mut bench = Bench::steady();
    bench.until(State::Cruise);
    bench.round(RATE);
    let cwnd = bench.cwnd;
    bench.lose(8, bench.bbr.sampler.lost);
    bench.round(RATE);
    assert_eq!(bench.bbr.bw_shortterm, RATE_UNBOUNDED, "8 of 400");
    bench.lose(9, bench.bbr.sampler.lost);
    bench.round(RATE / 4);
    let state = &bench.bbr;
    assert_eq!(
        state.bw_shortterm, RATE,
        "what was delivered before the loss counts"
    );
    bench.lose(9, bench.bbr.sampler.lost);
    bench.round(RATE / 4);
    let lowered = RATE / 256 * 179;
    assert_eq!(bench.bbr.bw, lowered);
    assert!(bench.cwnd < cwnd, "{} of {cwnd}", bench.cwnd);
    bench.until(State::Refill);
    assert_eq!(bench.bbr.bw, RATE);
}

// Draft: "Entering and Exiting PROBE_RTT".
#[test]
fn after_five_seconds_half_of_the_path_is_left_empty_for_200_ms() {
    let mut bench = Bench::steady();
    let longer = |bench: &Bench| RateSample {
        rtt: Some(Micros::from_millis(50)),
        ..bench.sample(RATE)
    };
    let began = bench.now;
    while bench.bbr.state != State::ProbeRtt {
        let sample = longer(&bench);
        bench.ack(50, sample);
        assert!(bench.now.since(began).as_millis() < 6_000, "never");
    }
    assert!(bench.now.since(began).as_millis() > 4_700);
    assert_eq!(bench.bbr.min_rtt, RTT, "of ten seconds");
    assert_eq!(bench.cwnd, BDP / 2);
    bench.path.in_flight = BDP / 2;
    let began = bench.now;
    while bench.bbr.state == State::ProbeRtt {
        let sample = bench.sample(RATE / 2);
        bench.ack(20, sample);
    }
    let lasted = bench.now.since(began).as_millis();
    assert!((200..=260).contains(&lasted), "{lasted} ms");
    assert_eq!(bench.bbr.state, State::Cruise);
    assert!(bench.cwnd >= 2 * BDP, "{}", bench.cwnd);
    assert_eq!(bench.bbr.max_bw(), RATE);
}

// Draft: "Skipping PROBE_RTT Due to Application-Limited Sending", HandleRestartFromIdle.
#[test]
fn who_was_idle_need_not_be_quiet_again() {
    let mut bench = Bench::steady();
    bench.until(State::Cruise);
    bench.path.in_flight = 0;
    bench.bbr.sampler.limit_by_application(0);
    bench.now = bench.now.after(Nanos::from_secs(7));
    bench.bbr.on_transmission_start(bench.now, &mut bench.cwnd);
    assert_eq!(bench.bbr.pacing_rate(), RATE * 99 / 100);
    bench.path.in_flight = 10 * MSS;
    bench.round(RATE / 10);
    assert_ne!(bench.bbr.state, State::ProbeRtt);
    bench.round(RATE / 10);
    assert_ne!(
        bench.bbr.state,
        State::ProbeRtt,
        "its own round trip was short"
    );
}

// Draft: "Handling Spurious Fast Recovery".
#[test]
fn what_was_not_lost_is_taken_back() {
    let mut bench = Bench::steady();
    bench.until(State::Up);
    bench.path.in_flight = 500_000;
    let cwnd = bench.cwnd;
    bench.bbr.on_reduction(bench.cwnd);
    bench.bbr.on_state(Phase::Recovery, &mut bench.cwnd);
    bench.lose(11, 0);
    assert_eq!(bench.bbr.state, State::Down);
    bench.cwnd = 20 * MSS;
    bench.bbr.on_spurious_loss(&mut bench.cwnd);
    assert_eq!(bench.cwnd, cwnd);
    assert_eq!(bench.bbr.inflight_longterm, UNBOUNDED);
    assert_eq!(bench.bbr.state, State::Refill);
}

// Draft: "Handling Spurious Fast Recovery": "restores the saved parameters", however many segments of the
// episode were taken for lost behind the one that ended the probe, and in however many rounds.
#[test]
fn losses_behind_the_one_that_ends_a_probe_do_not_make_its_end_final() {
    let mut bench = Bench::steady();
    bench.until(State::Up);
    bench.path.in_flight = 500_000;
    let cwnd = bench.cwnd;
    bench.bbr.on_reduction(bench.cwnd);
    bench.bbr.on_state(Phase::Recovery, &mut bench.cwnd);
    bench.lose(30, 0);
    assert_eq!(bench.bbr.state, State::Down);
    bench.round(RATE / 4);
    bench.lose(20, bench.bbr.sampler.lost);
    bench.round(RATE / 4);
    assert_ne!(bench.bbr.bw_shortterm, RATE_UNBOUNDED);
    bench.cwnd = 20 * MSS;
    bench.bbr.on_spurious_loss(&mut bench.cwnd);
    assert_eq!(bench.cwnd, cwnd);
    let bounds = (bench.bbr.inflight_longterm, bench.bbr.inflight_shortterm);
    assert_eq!(bounds, (UNBOUNDED, UNBOUNDED));
    assert_eq!(bench.bbr.bw_shortterm, RATE_UNBOUNDED);
    assert_eq!(bench.bbr.state, State::Refill, "the probe goes on");
}

// Draft: "Handling Spurious RTO Recovery": what the timeout itself has bounded is undone too.
#[test]
fn a_timeout_that_was_none_leaves_no_bound() {
    let mut bench = Bench::steady();
    bench.until(State::Cruise);
    let cwnd = bench.cwnd;
    bench.bbr.on_reduction(bench.cwnd);
    bench.cwnd = 4 * MSS;
    bench.bbr.on_state(Phase::Loss, &mut bench.cwnd);
    bench.lose(100, 0);
    assert_eq!(bench.bbr.inflight_shortterm, cwnd);
    bench.bbr.on_spurious_loss(&mut bench.cwnd);
    bench.bbr.on_state(Phase::Open, &mut bench.cwnd);
    assert_eq!(bench.bbr.inflight_shortterm, UNBOUNDED);
    assert_eq!((bench.bbr.bw_shortterm, bench.cwnd), (RATE_UNBOUNDED, cwnd));
}

// The handshake's round trip is believed until data tell of another, even if that takes ten seconds.
#[test]
fn a_long_silence_without_round_trips_leaves_the_shortest_as_it_is() {
    let now = Instant::from_millis(1_000);
    let mut bench = Bench::new();
    bench.bbr = Bbr::new(&Beginning {
        now,
        srtt: Some(RTT),
        cwnd: 10 * MSS,
        seed: 7,
    });
    let again = RateSample {
        rtt: None,
        ..bench.sample(RATE / 100)
    };
    bench.ack(11_000, again);
    assert_eq!(bench.bbr.min_rtt(), Some(RTT));
    bench.round(RATE / 100);
    assert_eq!(bench.bbr.min_rtt(), Some(RTT));
}

// Draft: "Handling Spurious RTO Recovery", OnEnterRTO.
#[test]
fn the_window_of_before_comes_back_behind_a_timeout() {
    let mut bench = Bench::steady();
    bench.until(State::Cruise);
    let cwnd = bench.cwnd;
    bench.bbr.on_reduction(bench.cwnd);
    bench.cwnd = MSS;
    bench.bbr.on_state(Phase::Loss, &mut bench.cwnd);
    let one = RateSample {
        newly_acked: MSS,
        prior_delivered: bench.bbr.sampler.delivered.wrapping_sub(1),
        ..bench.sample(RATE)
    };
    bench.ack(1, one);
    assert_eq!(bench.cwnd, 4 * MSS, "no less than the least");
    bench.bbr.on_state(Phase::Open, &mut bench.cwnd);
    assert_eq!(bench.cwnd, cwnd);
}

// Draft: UpdateACKAggregation.
#[test]
fn what_comes_at_once_is_added_to_the_window() {
    let mut bench = Bench::steady();
    bench.until(State::Cruise);
    for _ in 0..12 {
        // 80 ms of silence, then everything.
        let sample = RateSample {
            newly_acked: 800_000,
            ..bench.sample(RATE)
        };
        bench.ack(80, sample);
    }
    assert!(bench.bbr.extra_acked() >= BDP, "{:?}", bench.bbr);
}

// Linux: bbr_min_tso_segs.
#[test]
fn a_slow_flow_sends_segment_by_segment() {
    let mut bench = Bench::new();
    assert_eq!(bench.bbr.min_tso_segs(), 2);
    bench.bbr.pacing_rate = 149_999;
    assert_eq!(bench.bbr.min_tso_segs(), 1);
}

// Linux: `bbr_set_state` of version 3, "needs cwnd before we suffered an RTO".
#[test]
fn after_a_timeout_the_bound_is_a_share_of_the_window_before_it() {
    let mut bench = Bench::steady();
    let before = bench.cwnd;
    bench.bbr.on_reduction(bench.cwnd);
    // Three are still in flight; with less, it would probe in the next round.
    bench.cwnd = 4 * MSS;
    bench.bbr.on_state(Phase::Loss, &mut bench.cwnd);
    bench.lose(100, 0);
    let little = RateSample {
        delivered: MSS,
        newly_acked: MSS,
        ..bench.sample(RATE / 100)
    };
    bench.ack(40, little);
    let bound = scaled(before, 179);
    assert_eq!(bench.bbr.inflight_shortterm, bound, "{:?}", bench.bbr);
    bench.bbr.on_state(Phase::Open, &mut bench.cwnd);
    assert_eq!(bench.cwnd, before, "the model bounds it with the next ACK");
}
