//! Windows over time, checked against arithmetic that fits on a page.

use super::*;
use millrace_base::Nanos;

const MSS: u16 = 1_000;

fn congestion(control: CongestionControl) -> Congestion {
    let mut congestion = Congestion::new(control, MSS, 10);
    congestion.limited = true;
    congestion
}

/// Acknowledges one whole window, segment by segment, within one round trip.
fn round(congestion: &mut Congestion, epochs: &mut Shelf<Epoch>, now: Instant, rtt_ms: u32) {
    let segments = congestion.cwnd / u32::from(MSS);
    for _ in 0..segments {
        congestion.limited = true;
        congestion.on_ack(
            epochs,
            Acked {
                bytes: 1_000,
                srtt: Some(Micros::from_millis(rtt_ms)),
                now,
            },
        );
    }
}

// RFC 5681 section 3.1.
// behaviour: MUST-19, X8-13
#[test]
fn slow_start_doubles_each_round_trip_and_stops_at_the_threshold() {
    let mut epochs = Shelf::new(1);
    let mut c = congestion(CongestionControl::Reno);
    assert_eq!(c.cwnd, 10_000);
    round(&mut c, &mut epochs, Instant::ZERO, 10);
    assert_eq!(c.cwnd, 20_000);
    c.ssthresh = 30_500;
    round(&mut c, &mut epochs, Instant::ZERO, 10);
    assert_eq!(c.cwnd, 30_500);
}

// RFC 5681 section 3.1 and 3.2.
// behaviour: MUST-19, X8-18
#[test]
fn reno_grows_one_segment_a_round_trip_and_halves() {
    let mut epochs = Shelf::new(1);
    let mut c = congestion(CongestionControl::Reno);
    c.ssthresh = 10_000;
    round(&mut c, &mut epochs, Instant::ZERO, 10);
    assert_eq!(c.cwnd, 11_000);
    c.on_loss(&mut epochs);
    assert_eq!(c.ssthresh, 5_500);
    c.cwnd = 1_000;
    c.on_loss(&mut epochs);
    assert_eq!(c.ssthresh, 2_000, "never below two segments");
}

// RFC 9438 section 5.1: after a loss at W_max, the window is back at W_max after K =
// cbrt(W_max*0.3/0.4) seconds.
// behaviour: MAY-18, A24-4, A24-12
#[test]
fn cubic_is_back_at_its_maximum_after_k_seconds_and_grows_beyond() {
    let mut epochs = Shelf::new(1);
    let mut c = congestion(CongestionControl::Cubic);
    c.cwnd = 1_000_000;
    c.on_loss(&mut epochs);
    assert_eq!(c.ssthresh, 700_195);
    c.cwnd = c.ssthresh;
    let rtt = Nanos::from_millis(100);
    let (mut now, mut reached) = (Instant::from_millis(5_000), None);
    let start = now;
    for _ in 0..200 {
        round(&mut c, &mut epochs, now, 100);
        now = now.after(rtt);
        if c.cwnd >= 990_000 && reached.is_none() {
            reached = Some(now.since(start).as_millis());
        }
    }
    // K = cbrt(299.8/0.4) = 9.08 s; within 1 % of W_max about 2.9 s earlier.
    let reached = reached.expect("reaches the plateau");
    assert!((5_500..9_500).contains(&reached), "{reached} ms");
    assert!(
        c.cwnd > 1_300_000,
        "convex growth behind the plateau: {}",
        c.cwnd
    );
}

// RFC 9438 section 4.3: on a short path CUBIC is no slower than Reno.
// behaviour: A24-15
#[test]
fn cubic_follows_reno_where_reno_is_faster() {
    let mut epochs = Shelf::new(1);
    let mut cubic = congestion(CongestionControl::Cubic);
    cubic.cwnd = 20_000;
    cubic.on_loss(&mut epochs);
    cubic.cwnd = cubic.ssthresh;
    let start = cubic.cwnd;
    for step in 0..40 {
        round(&mut cubic, &mut epochs, Instant::from_millis(step), 1);
    }
    // 0.53 segments a round trip up to W_max and 1 from there; the cubic alone would not have moved
    // in 40 ms.
    assert!(cubic.cwnd > start + 20_000, "{} from {start}", cubic.cwnd);
}

// RFC 7661; Linux: tcp_is_cwnd_limited.
// behaviour: A3-49, SND-30, X8-13
#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut epochs = Shelf::new(1);
    let mut c = Congestion::new(CongestionControl::Cubic, MSS, 10);
    c.validate(2_000, false, SeqNumber::new(0), SeqNumber::new(2_000));
    c.on_ack(
        &mut epochs,
        Acked {
            bytes: 2_000,
            srtt: None,
            now: Instant::ZERO,
        },
    );
    assert_eq!(c.cwnd, 10_000);
    c.validate(6_000, false, SeqNumber::new(2_000), SeqNumber::new(8_000));
    c.on_ack(
        &mut epochs,
        Acked {
            bytes: 6_000,
            srtt: None,
            now: Instant::ZERO,
        },
    );
    assert_eq!(
        c.cwnd, 16_000,
        "slow start grows while half of the window is used"
    );
}

// RFC 2861; Linux: tcp_cwnd_restart.
#[test]
fn idleness_halves_the_window_down_to_the_initial_one() {
    let mut epochs = Shelf::new(1);
    let mut c = Congestion::new(CongestionControl::Cubic, MSS, 10);
    c.cwnd = 80_000;
    c.on_idle(&mut epochs, 1, 10);
    assert_eq!(c.cwnd, 40_000);
    c.on_idle(&mut epochs, 200, 10);
    assert_eq!(c.cwnd, 10_000);
    assert!(c.in_slow_start());
}

// The shelf is full: growth goes on as Reno's, one segment a round trip.
#[test]
fn cubic_without_a_place_for_its_epoch_grows_like_reno() {
    let mut epochs = Shelf::new(0);
    let mut c = congestion(CongestionControl::Cubic);
    c.ssthresh = 10_000;
    round(&mut c, &mut epochs, Instant::ZERO, 10);
    assert!((10_900..=11_000).contains(&c.cwnd), "{}", c.cwnd);
    c.on_loss(&mut epochs);
    c.release(&mut epochs);
}
