//! Windows over time, checked against arithmetic that fits on a page.

use super::*;
use crate::stats::Stats;
use crate::tcp::recovery::Phase;
use millrace_base::{Instant, Micros, Nanos};

const MSS: u16 = 1_000;
const RULES: CubicParameters = CubicParameters::LINUX;

/// A window and everything it needs.
struct Bench {
    c: Congestion,
    shelves: Shelves,
    rules: CubicParameters,
    stats: Stats,
    una: SeqNumber,
    now: Instant,
    cut: Cut,
}

impl Bench {
    fn new(control: CongestionControl) -> Self {
        Self {
            c: Congestion::new(control, &RULES, (MSS, 10), SeqNumber::new(0)),
            shelves: Shelves::new(1),
            rules: RULES,
            stats: Stats::default(),
            una: SeqNumber::new(0),
            now: Instant::from_millis(1_000),
            cut: Cut::Full,
        }
    }

    /// An ACK of `segments` full ones, the window being full.
    fn ack(&mut self, segments: u32, rtt_ms: u32) {
        self.una = self.una.plus(segments * u32::from(MSS));
        self.c.limited = true;
        let acked = Acked {
            segments,
            rtt: Some(Micros::from_millis(rtt_ms)),
            now: self.now,
            una: self.una,
            nxt: self.una.plus(self.c.cwnd),
            is_paced: false,
        };
        let setting = &mut Setting {
            shelves: &mut self.shelves,
            cubic: &self.rules,
        };
        self.c.on_ack(setting, &acked, &mut self.stats);
    }

    /// Acknowledges one whole window, segment by segment, and then a round trip passes.
    fn round(&mut self, rtt_ms: u32) {
        for _ in 0..self.segments() {
            self.ack(1, rtt_ms);
        }
        self.now = self.now.after(Nanos::from_millis(rtt_ms.into()));
    }

    fn lose(&mut self) {
        let setting = &mut Setting {
            shelves: &mut self.shelves,
            cubic: &self.rules,
        };
        self.c.lower_ssthresh(setting, self.cut);
    }

    fn segments(&self) -> u32 {
        assert_eq!(self.c.cwnd % u32::from(MSS), 0, "whole segments");
        self.c.cwnd / u32::from(MSS)
    }
}

// RFC 5681 section 3.1.
// behaviour: MUST-19, X8-13
#[test]
fn slow_start_doubles_each_round_trip_and_stops_at_the_threshold() {
    let mut bench = Bench::new(CongestionControl::Reno);
    assert_eq!(bench.segments(), 10);
    bench.round(10);
    assert_eq!(bench.segments(), 20);
    bench.c.ssthresh = 30_000;
    bench.round(10);
    assert_eq!(bench.segments(), 30);
}

// What an ACK is worth is its segments, whatever their length; what is left when the threshold is
// reached counts towards the next segment. behaviour: A24-8
#[test]
fn one_ack_of_many_segments_opens_as_much_as_many_acks() {
    let mut bench = Bench::new(CongestionControl::Reno);
    bench.ack(7, 10);
    assert_eq!(bench.segments(), 17);
    bench.c.ssthresh = 20_000;
    bench.ack(10, 10);
    assert_eq!(bench.segments(), 20);
    bench.ack(13, 10);
    assert_eq!(bench.segments(), 21, "seven were left");
}

// RFC 5681 section 3.1 and 3.2.
// behaviour: MUST-19, X8-18
#[test]
fn reno_grows_one_segment_a_round_trip_and_halves() {
    let mut bench = Bench::new(CongestionControl::Reno);
    bench.c.ssthresh = 10_000;
    bench.round(10);
    assert_eq!(bench.segments(), 11);
    bench.lose();
    assert_eq!(bench.c.ssthresh, 5_000);
    bench.c.cwnd = 1_000;
    bench.lose();
    assert_eq!(bench.c.ssthresh, 2_000, "never below two segments");
}

// RFC 9438 section 5.1: after a loss at W_max, the window is back at W_max after K =
// cbrt(W_max*0.3/0.4) seconds.
// behaviour: MAY-18, A24-4, A24-6, A24-12
#[test]
fn cubic_is_back_at_its_maximum_after_k_seconds_and_grows_beyond() {
    let mut bench = Bench::new(CongestionControl::Cubic);
    bench.c.cwnd = 1_000_000;
    bench.lose();
    assert_eq!(bench.c.ssthresh, 700_000);
    bench.c.cwnd = bench.c.ssthresh;
    let (start, mut reached) = (bench.now, None);
    for _ in 0..200 {
        bench.round(100);
        if bench.c.cwnd >= 990_000 && reached.is_none() {
            reached = Some(bench.now.since(start).as_millis());
        }
    }
    // K = cbrt(300/0.4) = 9.08 s; within 1 % of W_max about 2.9 s earlier.
    let reached = reached.expect("reaches the plateau");
    assert!((5_500..9_500).contains(&reached), "{reached} ms");
    let segments = bench.segments();
    assert!(segments > 1_300, "convex behind the plateau: {segments}");
}

// RFC 9438 section 4.3: on a short path CUBIC is no slower than Reno.
// behaviour: A24-15
#[test]
fn cubic_follows_reno_where_reno_is_faster() {
    let grown = |rules| {
        let mut bench = Bench::new(CongestionControl::Cubic);
        bench.rules = rules;
        bench.c.cwnd = 20_000;
        bench.lose();
        bench.c.cwnd = bench.c.ssthresh;
        let start = bench.segments();
        for _ in 0..40 {
            bench.round(1);
        }
        bench.segments() - start
    };
    // Half a segment a round trip; the cubic alone would have moved in its first tick only, for which
    // its rounding holds.
    assert!(grown(RULES) >= 15, "{}", grown(RULES));
    let alone = CubicParameters {
        tcp_friendliness: false,
        ..RULES
    };
    assert!(grown(alone) <= 4, "{}", grown(alone));
}

// Linux: one segment for 20 acknowledged while no maximum is known, as after a timeout.
// behaviour: A24-14, X8-17
#[test]
fn after_a_timeout_cubic_knows_no_maximum() {
    let mut bench = Bench::new(CongestionControl::Cubic);
    bench.rules.tcp_friendliness = false;
    bench.lose();
    bench.c.cwnd = MSS.into();
    let setting = &mut Setting {
        shelves: &mut bench.shelves,
        cubic: &bench.rules,
    };
    bench.c.set_state(setting, Phase::Loss, bench.una);
    assert_eq!((bench.segments(), bench.shelves.used()), (1, 0));
    assert_eq!(bench.c.ssthresh, 7_000);
    for _ in 0..6 {
        bench.ack(1, 100);
    }
    assert_eq!(bench.segments(), 7);
    for count in 0..20 {
        assert_eq!(bench.segments(), 7, "{count}");
        bench.ack(1, 100);
        bench.now = bench.now.after(Nanos::from_millis(2));
    }
    assert_eq!(bench.segments(), 8);
}

// Slow start is left at the window where the delay grew; the numbers are counted.
// behaviour: X8-17, X2-23
#[test]
fn slow_start_ends_when_round_trips_grow_and_the_window_is_large_enough() {
    let left_at = |rules: CubicParameters| {
        let mut bench = Bench::new(CongestionControl::Cubic);
        bench.rules = rules;
        for delay in [40, 50, 60, 70, 80] {
            bench.round(delay);
        }
        let counted = (
            bench.stats.tcp_hystart_delay_detect,
            bench.stats.tcp_hystart_delay_cwnd,
        );
        (bench.c.ssthresh / u32::from(MSS), counted)
    };
    let delay_only = CubicParameters {
        hystart_detect: 2,
        ..RULES
    };
    // 20 segments after the first round, the ACK that ends it, and eight of the second that are not
    // compared.
    assert_eq!(left_at(delay_only), (29, (1, 29)));
    let later = CubicParameters {
        hystart_low_window: 64,
        ..delay_only
    };
    let (ssthresh, _) = left_at(later);
    assert!(ssthresh >= 64, "{ssthresh}");
    let off = CubicParameters {
        hystart: false,
        ..delay_only
    };
    assert_eq!(left_at(off).1, (0, 0));
}

// behaviour: A24-7
#[test]
fn without_hystart_a_connection_may_begin_with_a_threshold() {
    let rules = CubicParameters {
        initial_ssthresh: 20,
        ..RULES
    };
    let fresh = |rules| {
        let iss = SeqNumber::new(0);
        Congestion::new(CongestionControl::Cubic, &rules, (MSS, 10), iss).ssthresh
    };
    assert_eq!(fresh(rules), u32::MAX, "HyStart finds the threshold");
    let without = CubicParameters {
        hystart: false,
        ..rules
    };
    assert_eq!(fresh(without), 20_000);
}

// RFC 7661; Linux: tcp_is_cwnd_limited.
// behaviour: A3-49, A24-8, SND-30, X8-13
#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut bench = Bench::new(CongestionControl::Cubic);
    let ack = |bench: &mut Bench, segments| {
        let acked = Acked {
            segments,
            rtt: None,
            now: Instant::ZERO,
            una: SeqNumber::new(0),
            nxt: SeqNumber::new(0),
            is_paced: false,
        };
        let setting = &mut Setting {
            shelves: &mut bench.shelves,
            cubic: &bench.rules,
        };
        bench.c.on_ack(setting, &acked, &mut bench.stats);
    };
    let span = |from, to| (SeqNumber::new(from), SeqNumber::new(to));
    bench.c.validate((2_000, 2_000), true, span(0, 2_000));
    ack(&mut bench, 2);
    assert_eq!(bench.segments(), 10);
    bench.c.validate((6_000, 6_000), true, span(2_000, 8_000));
    ack(&mut bench, 6);
    assert_eq!(bench.segments(), 16, "while half of the window is used");
    bench.c.ssthresh = 16_000;
    bench
        .c
        .validate((15_001, 15_001), true, span(8_000, 24_000));
    ack(&mut bench, 16);
    assert!(bench.c.is_limited(), "no room for one more segment");
}

// Linux: tcp_cwnd_validate is for what was sent. behaviour: A3-49
#[test]
fn a_turn_without_a_segment_does_not_forget_that_the_window_was_full() {
    let mut bench = Bench::new(CongestionControl::Cubic);
    let span = |from, to| (SeqNumber::new(from), SeqNumber::new(to));
    bench.c.validate((10_000, 10_000), true, span(0, 10_000));
    bench.c.validate((0, 0), false, span(10_000, 10_000));
    assert!(bench.c.is_limited());
    bench.c.validate((1_000, 1_000), true, span(10_000, 11_000));
    assert!(!bench.c.is_limited());
}

// RFC 2861; Linux: tcp_cwnd_restart.
#[test]
fn idleness_halves_the_window_down_to_the_initial_one() {
    let mut bench = Bench::new(CongestionControl::Cubic);
    bench.c.cwnd = 80_000;
    bench.c.on_idle(1, 10);
    assert_eq!(bench.segments(), 40);
    bench.c.on_idle(200, 10);
    assert_eq!(bench.segments(), 10);
    assert!(bench.c.in_slow_start());
    bench.c.ssthresh = 5_000;
    bench.c.cwnd = 11_000;
    bench.c.on_idle(1, 10);
    assert_eq!(bench.c.ssthresh, 7_000, "5 and 2 of 11");
}

// Linux: tcp_current_ssthresh, (10 >> 1) + (10 >> 2).
#[test]
fn what_is_remembered_of_a_window_are_whole_segments() {
    let mut bench = Bench::new(CongestionControl::Reno);
    bench.c.ssthresh = 4_000;
    assert_eq!(bench.c.reached_ssthresh(), 7_000);
    bench.c.ssthresh = 8_000;
    assert_eq!(bench.c.reached_ssthresh(), 8_000);
}

// Linux counts segments: another size changes the bytes.
#[test]
fn a_window_keeps_its_segments_when_their_size_changes() {
    let mut bench = Bench::new(CongestionControl::Cubic);
    bench.c.ssthresh = 7_000;
    bench.c.set_mss(500);
    assert_eq!((bench.c.cwnd, bench.c.ssthresh), (5_000, 3_500));
    bench.c.ssthresh = u32::MAX;
    bench.c.set_mss(1_460);
    assert_eq!((bench.c.cwnd, bench.c.ssthresh), (14_600, u32::MAX));
}

// The shelf is full: growth goes on as Reno's, one segment a round trip.
#[test]
fn cubic_without_a_place_for_its_epoch_grows_like_reno() {
    let mut bench = Bench::new(CongestionControl::Cubic);
    bench.shelves = Shelves::new(0);
    bench.c.ssthresh = 10_000;
    for _ in 0..10 {
        bench.ack(1, 10);
    }
    assert!(
        (10_900..=11_000).contains(&bench.c.cwnd),
        "{}",
        bench.c.cwnd
    );
    bench.lose();
    assert_eq!(bench.c.ssthresh, 7_000);
    bench.c.release(&mut bench.shelves);
}

// An idle connection that has lost nothing holds no place.
#[test]
fn slow_start_gives_its_place_back_when_everything_is_acknowledged() {
    let mut bench = Bench::new(CongestionControl::Cubic);
    bench.ack(10, 100);
    bench.ack(1, 100);
    assert_eq!(bench.shelves.used(), 1, "20 segments are watched");
    let acked = Acked {
        segments: 1,
        rtt: Some(Micros::from_millis(100)),
        now: bench.now,
        una: bench.una,
        nxt: bench.una,
        is_paced: false,
    };
    let setting = &mut Setting {
        shelves: &mut bench.shelves,
        cubic: &bench.rules,
    };
    bench.c.on_ack(setting, &acked, &mut bench.stats);
    assert_eq!(bench.shelves.used(), 0);
    assert_eq!(bench.segments(), 22);
}

// TCP_CONGESTION on a living connection: the window stays. behaviour: CCW-1, A23-3
#[test]
fn another_algorithm_takes_the_window_over() {
    let mut bench = Bench::new(CongestionControl::Cubic);
    bench.ack(10, 100);
    bench.ack(1, 100);
    let setting = &mut Setting {
        shelves: &mut bench.shelves,
        cubic: &bench.rules,
    };
    bench
        .c
        .set_control(CongestionControl::Reno, setting, bench.una);
    assert_eq!(bench.c.control(), CongestionControl::Reno);
    assert_eq!((bench.segments(), bench.shelves.used()), (21, 0));
    bench.lose();
    assert_eq!(bench.c.ssthresh, 10_000, "half, not seven tenths");
}

// RFC 8511 section 3.1: beta_ecn is 0.8 for Reno and 0.85 for CUBIC.
#[test]
fn a_mild_cut_leaves_more_of_the_window() {
    for (control, full, mild) in [
        (CongestionControl::Reno, 50, 80),
        (CongestionControl::Cubic, 70, 84),
    ] {
        for (cut, segments) in [(Cut::Full, full), (Cut::Mild, mild)] {
            let mut bench = Bench::new(control);
            bench.cut = cut;
            bench.c.cwnd = 100 * u32::from(MSS);
            bench.lose();
            assert_eq!(bench.c.ssthresh / u32::from(MSS), segments, "{control:?}");
        }
    }
}

// RFC 8257 section 3.5: a loss halves, whatever was marked; a mark cuts by alpha.
#[test]
fn dctcp_reacts_to_marks_by_their_part_and_to_losses_like_reno() {
    let mut bench = Bench::new(CongestionControl::Dctcp);
    let event = |una: u32, marked| AckEvent {
        delivered: 100,
        marked,
        is_capable: true,
        rules: super::DctcpParameters::LINUX,
        una: SeqNumber::new(una),
        nxt: SeqNumber::new(una + 1),
    };
    bench.c.cwnd = 100_000;
    let told = |bench: &mut Bench, una, marked| {
        let setting = &mut Setting {
            shelves: &mut bench.shelves,
            cubic: &bench.rules,
        };
        bench.c.in_ack_event(setting, &event(una, marked));
    };
    for una in 0..200 {
        told(&mut bench, una, 20);
    }
    bench.lose();
    let segments = bench.c.ssthresh / u32::from(MSS);
    assert!(
        (89..=91).contains(&segments),
        "a fifth was marked: {segments}"
    );
    let setting = &mut Setting {
        shelves: &mut bench.shelves,
        cubic: &bench.rules,
    };
    bench.c.set_state(setting, Phase::Recovery, bench.una);
    assert_eq!(bench.c.ssthresh, 50_000);
    bench.c.cwnd_event(setting, CwndEvent::Loss);
    assert_eq!(bench.c.ssthresh, 50_000);
    bench.c.release(&mut bench.shelves);
    assert_eq!(bench.shelves.used(), 0);
}

// Without ECN nothing can be marked, and windows are Reno's.
#[test]
fn dctcp_without_ecn_is_reno() {
    let mut bench = Bench::new(CongestionControl::Dctcp);
    bench.c.ssthresh = 10_000;
    bench.round(10);
    assert_eq!(bench.c.cwnd, 11_000, "a segment a round trip");
    bench.lose();
    assert_eq!(bench.c.ssthresh, 5_000, "alpha stays where it begins");
    bench.c.release(&mut bench.shelves);
    bench.shelves = Shelves::new(0);
    bench.c.cwnd = 10_000;
    bench.c.ssthresh = 10_000;
    bench.round(10);
    assert_eq!(bench.c.cwnd, 11_000, "nor does it need a place");
    bench.lose();
    assert_eq!(bench.c.ssthresh, 5_000);
}

// RFC 9406: slow start goes on more slowly, and ends after five rounds; Reno does not care.
#[test]
fn hystart_plus_goes_on_slowly_before_it_stops() {
    let rules = CubicParameters {
        hystart_plus: true,
        ..RULES
    };
    let mut bench = Bench::new(CongestionControl::Cubic);
    bench.rules = rules;
    bench.round(40);
    assert_eq!(bench.segments(), 20, "it doubles");
    bench.round(50);
    let slow = bench.segments();
    assert!(
        (28..=32).contains(&slow),
        "eight doubled, the others a quarter: {slow}"
    );
    let mut before = slow;
    for round in 2..=5 {
        assert_eq!(bench.c.ssthresh, u32::MAX, "{round}");
        bench.round(50);
        let grown = bench.segments() - before;
        assert!(
            grown.abs_diff(before / 4) <= 1,
            "{round}: {grown} of {before}"
        );
        before = bench.segments();
    }
    bench.round(50);
    assert!(bench.c.ssthresh < u32::MAX && bench.c.ssthresh <= bench.c.cwnd);
    assert_eq!(bench.stats.tcp_hystart_delay_detect, 1);
    let mut reno = Bench::new(CongestionControl::Reno);
    reno.rules = rules;
    for delay in [40, 80, 160] {
        reno.round(delay);
    }
    assert_eq!(reno.segments(), 80);
}
