//! The memory of peers: what it keeps, for how long, and who makes room.

use super::*;
use millrace_base::Endpoint;
use millrace_wire::tcp::FastOpenCookie;

fn tuple(peer: u32) -> FlowTuple {
    let [_, a, b, c] = peer.to_be_bytes();
    FlowTuple {
        local: Endpoint::new(Address::v4([10, 0, 0, 1]), 50_000),
        remote: Endpoint::new(Address::v4([10, a, b, c]), 443),
    }
}

fn memory() -> Metrics {
    Metrics::new(1, [7; 16])
}

fn lesson(mss: u16, cookie: &[u8], tried: u8) -> Lesson {
    Lesson {
        mss,
        cookie: FastOpenCookie::new(cookie).filter(|cookie| !cookie.is_empty()),
        tried,
    }
}

const CALM: Experience = Experience {
    rtt: Some((Micros::from_millis(100), Micros::from_millis(10))),
    cwnd: 20,
    ssthresh: None,
    is_calm: true,
    reordering: None,
};

fn at(seconds: u64) -> Instant {
    Instant::from_millis(1_000 * seconds)
}

/// What one connection after the other makes of the memory of a peer.
fn after(experiences: &[Experience], saves_ssthresh: bool) -> PeerMetrics {
    let mut memory = memory();
    for experience in experiences {
        memory.note(&tuple(1), experience, at(5), saves_ssthresh);
    }
    memory.recall(&tuple(1), at(5)).expect("known")
}

#[test]
fn a_cookie_is_kept_until_a_better_one_comes_and_the_mss_is_the_last() {
    let mut memory = memory();
    let now = at(1);
    memory.learn(&tuple(1), &lesson(1_460, &[1; 8], 0), now);
    memory.learn(&tuple(1), &lesson(940, &[], 1), now);
    let known = memory.server(&tuple(1));
    assert_eq!(
        (known.mss, known.cookie.as_slice(), known.tried),
        (940, &[1; 8][..], 0)
    );
    memory.learn(&tuple(1), &lesson(940, &[2; 4], 0), now);
    assert_eq!(memory.server(&tuple(1)).cookie.as_slice(), [2; 4]);
    assert_eq!(memory.server(&tuple(2)), Known::default());
    memory.forget();
    assert_eq!(memory.server(&tuple(1)), Known::default());
}

// Linux: TCP_METRICS_RECLAIM_DEPTH and tcpm_new.
// behaviour: X4-21
#[test]
fn a_full_set_forgets_who_was_heard_of_longest_ago() {
    let mut memory = memory();
    let (set, _) = memory.place_of(&tuple(0));
    let rivals: Vec<u32> = (0..u32::from(u16::MAX))
        .filter(|peer| memory.place_of(&tuple(*peer)).0 == set)
        .take(METRICS_WAYS + 1)
        .collect();
    let (last, first) = rivals.split_last().expect("some");
    for (order, peer) in first.iter().enumerate() {
        memory.note(&tuple(*peer), &CALM, at(1 + order as u64), false);
    }
    // The first is heard of again; then the second is the oldest.
    memory.note(&tuple(rivals[0]), &CALM, at(100), false);
    memory.note(&tuple(*last), &CALM, at(101), false);
    let is_known = |peer: &u32| memory.recall(&tuple(*peer), at(101)).is_some();
    assert!(!is_known(&rivals[1]), "{rivals:?}");
    let others = rivals.iter().filter(|peer| **peer != rivals[1]);
    assert!(others.copied().all(|peer| is_known(&peer)), "{rivals:?}");
}

// Linux: TCP_METRICS_TIMEOUT, tcpm_check_stamp.
// behaviour: X4-21
#[test]
fn what_was_measured_counts_for_an_hour_and_a_cookie_for_ever() {
    let mut memory = memory();
    memory.note(&tuple(1), &CALM, at(5), false);
    memory.learn(&tuple(1), &lesson(1_000, &[1; 8], 0), at(3_000));
    assert!(memory.recall(&tuple(1), at(5 + 3_600)).is_some());
    assert!(memory.recall(&tuple(1), at(6 + 3_600)).is_none());
    assert_eq!(memory.server(&tuple(1)).mss, 1_000);
    // A connection that ends later begins anew: no average with what was an hour ago.
    let near = Experience {
        rtt: Some((Micros::from_millis(1), Micros::new(100))),
        ..CALM
    };
    memory.note(&tuple(1), &near, at(10_000), false);
    let known = memory.recall(&tuple(1), at(10_000)).expect("known");
    assert_eq!(
        (known.rtt, known.rttvar),
        (Micros::from_millis(1), Micros::from_millis(1))
    );
    assert_eq!(memory.server(&tuple(1)).mss, 1_000);
}

// behaviour: X4-21
#[test]
fn each_pair_of_addresses_is_remembered_apart_and_ports_do_not_count() {
    let mut memory = memory();
    memory.note(&tuple(1), &CALM, at(5), false);
    let mut other_port = tuple(1);
    (other_port.local.port, other_port.remote.port) = (1, 2);
    assert!(memory.recall(&other_port, at(5)).is_some());
    let mut other_source = tuple(1);
    other_source.local.address = Address::v4([10, 0, 0, 2]);
    assert!(memory.recall(&other_source, at(5)).is_none());
    assert!(memory.recall(&tuple(2), at(5)).is_none());
}

// behaviour: CCW-3
#[test]
fn a_longer_round_trip_is_believed_at_once_and_a_shorter_one_by_an_eighth() {
    let with = |rtt: u32| Experience {
        rtt: Some((Micros::from_millis(rtt), Micros::from_millis(1))),
        ..CALM
    };
    let known = after(&[with(100)], false);
    assert_eq!(
        (known.rtt, known.rttvar),
        (Micros::from_millis(100), Micros::from_millis(100))
    );
    let known = after(&[with(100), with(180)], false);
    assert_eq!(
        (known.rtt, known.rttvar),
        (Micros::from_millis(180), Micros::from_millis(95))
    );
    let known = after(&[with(180), with(100)], false);
    assert_eq!(
        (known.rtt, known.rttvar),
        (Micros::from_millis(170), Micros::from_millis(155))
    );
    let silent = Experience { rtt: None, ..CALM };
    let known = after(&[with(100), silent], false);
    assert_eq!(
        (known.rtt, known.cwnd),
        (Micros::new(0), 20),
        "nothing else is touched"
    );
}

#[test]
fn who_never_measured_anything_leaves_nothing_behind() {
    let mut memory = memory();
    let silent = Experience { rtt: None, ..CALM };
    memory.note(&tuple(1), &silent, at(5), false);
    assert!(memory.recall(&tuple(1), at(5)).is_none());
}

// Linux: the three cases of tcp_update_metrics.
// behaviour: CCW-3
#[test]
fn windows_are_remembered_by_the_phase_in_which_they_ended() {
    let slow = CALM;
    let avoiding = Experience {
        ssthresh: Some(12),
        cwnd: 30,
        ..CALM
    };
    let troubled = Experience {
        ssthresh: Some(18),
        cwnd: 8,
        is_calm: false,
        reordering: Some(9),
        ..CALM
    };
    let windows = |ends: &[Experience], saves| {
        let known = after(ends, saves);
        (known.cwnd, known.ssthresh, known.reordering)
    };
    // Slow start: the largest window; no threshold where none was.
    assert_eq!(windows(&[slow], true), (20, 0, 0));
    // Avoidance: half of the way to the window, and the threshold is at least half of it.
    assert_eq!(windows(&[slow, avoiding], true), (25, 15, 0));
    let larger = Experience { cwnd: 40, ..slow };
    assert_eq!(windows(&[avoiding, larger], true), (40, 20, 0));
    // In between: half of the way to the threshold, and what reordering was seen.
    assert_eq!(windows(&[avoiding, troubled], true), (16, 18, 9));
    assert_eq!(windows(&[troubled], true), (9, 0, 9));
    let less = Experience {
        reordering: Some(5),
        ..troubled
    };
    assert_eq!(windows(&[troubled, less], true).2, 9);
    // tcp_no_ssthresh_metrics_save.
    assert_eq!(windows(&[slow, avoiding], false), (25, 0, 0));
}
