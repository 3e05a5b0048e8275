//! What marks are for, and what the end of slow start costs: one narrow place, without chance.
//!
//! Each test asks for the one thing that its mechanism was made for, by comparing it with the same
//! transfer without it.

use millrace_base::{Instant, Nanos};
use millrace_stack::{CongestionControl, TcpTunables};

use crate::golden::jain;
use crate::host::stack::StackPlan;
use crate::link::{FlightPlan, LinkPlan, QueuePlan, Shift};
use crate::program::{Pace, Step, Text};
use crate::scenario::{BEGINNING, FlowPlan, NodePlan, PeerPlan, Scenario};
use crate::world::World;

/// A narrow place and who sends through it.
struct Trial {
    tcp: TcpTunables,
    /// Bytes per second, and the way in one direction.
    rate: u64,
    delay: Nanos,
    shifts: Vec<Shift>,
    queue: QueuePlan,
    flows: usize,
    /// Bytes of each flow, and for how long; `None` until all have arrived.
    bytes: u64,
    seconds: Option<u64>,
}

/// What came of it.
struct Result {
    shares: Vec<u64>,
    dropped: u64,
    marked: u64,
    mean_wait: Nanos,
    took: Nanos,
}

impl Trial {
    fn play(&self) -> Result {
        let narrow = LinkPlan {
            rate: self.rate,
            queue: self.queue,
            flight: FlightPlan {
                delay: self.delay,
                shifts: self.shifts.clone(),
                ..FlightPlan::default()
            },
            ..LinkPlan::default()
        };
        let text = |steps| Text {
            steps,
            pace: Pace::GREEDY,
        };
        let end = self
            .seconds
            .map(|secs| BEGINNING.after(Nanos::from_secs(secs)));
        let flow = |node| FlowPlan {
            node,
            starts_at: BEGINNING.after(Nanos::from_millis(37 * node as u64)),
            client: text(vec![Step::Write(1), Step::AwaitEnd, Step::ShutDown]),
            server: text(vec![
                Step::Write(self.bytes),
                Step::ShutDown,
                Step::AwaitEnd,
            ]),
            broken_off_at: end,
            is_confused: false,
            fast: false,
            may_be_refused: false,
        };
        let peer = || {
            PeerPlan::Stack(StackPlan {
                tcp: self.tcp,
                ..StackPlan::default()
            })
        };
        let server = NodePlan {
            peer: peer(),
            up: narrow,
            down: LinkPlan::default(),
        };
        let clients = (0..self.flows).map(|_| NodePlan {
            peer: peer(),
            up: LinkPlan::default(),
            down: LinkPlan::default(),
        });
        let scenario = Scenario {
            v6: false,
            nodes: core::iter::once(server).chain(clients).collect(),
            flows: (1..=self.flows).map(flow).collect(),
            starts_at: BEGINNING,
            limit: Instant::NEVER,
            secret: 1,
            accept_every: Nanos::ZERO,
            forged_ppm: 0,
            is_balanced: false,
        };
        let mut world = World::new(&scenario, false);
        world.play().expect("no rule is broken");
        let (tally, mean_wait) = world.served();
        Result {
            shares: world.arrived().split_off(1),
            dropped: tally.dropped,
            marked: tally.marked,
            mean_wait,
            took: world.finished_at().since(BEGINNING),
        }
    }
}

/// ECN asked for, and this algorithm.
fn with(control: CongestionControl) -> TcpTunables {
    TcpTunables {
        tcp_ecn: 1,
        tcp_congestion_control: control,
        ..TcpTunables::default()
    }
}

/// 10 MB/s, 2 ms both ways, room for 400 packets, of which 20 may wait unmarked.
fn data_centre(control: CongestionControl) -> Trial {
    Trial {
        tcp: with(control),
        rate: 10_000_000,
        delay: Nanos::from_millis(2),
        shifts: Vec::new(),
        queue: QueuePlan::Threshold {
            bytes: 600_000,
            mark_above: 30_000,
        },
        flows: 4,
        bytes: 100_000_000,
        seconds: Some(5),
    }
}

// RFC 8257 section 1: a short queue, a full link, nothing lost, and equal shares.
#[test]
fn dctcp_keeps_a_marking_queue_short_and_shares_it() {
    let dctcp = data_centre(CongestionControl::Dctcp).play();
    let plain = TcpTunables {
        tcp_ecn: 0,
        ..with(CongestionControl::Reno)
    };
    let reno = Trial {
        tcp: plain,
        ..data_centre(CongestionControl::Reno)
    };
    let reno = reno.play();
    let used = dctcp.shares.iter().sum::<u64>() / (5 * 10_000_000 / 100);
    assert!(used >= 85, "{used} % of the link");
    assert!(jain(&dctcp.shares) > 0.95, "{:?}", dctcp.shares);
    assert_eq!(dctcp.dropped, 0);
    assert!(dctcp.marked > 100, "{}", dctcp.marked);
    let (short, long) = (dctcp.mean_wait, reno.mean_wait);
    assert!(short < Nanos::from_millis(6), "{short:?}");
    assert!(
        long.as_nanos() > 3 * short.as_nanos(),
        "{short:?}, without marks {long:?}"
    );
}

// The same with counters instead of echoes (RFC 9768).
#[test]
fn dctcp_with_accurate_ecn_does_the_same() {
    let tcp = TcpTunables {
        tcp_ecn: 3,
        ..with(CongestionControl::Dctcp)
    };
    let dctcp = Trial {
        tcp,
        ..data_centre(CongestionControl::Dctcp)
    };
    let dctcp = dctcp.play();
    let used = dctcp.shares.iter().sum::<u64>() / (5 * 10_000_000 / 100);
    assert!(used >= 85, "{used} % of the link");
    assert!(jain(&dctcp.shares) > 0.95, "{:?}", dctcp.shares);
    assert_eq!(dctcp.dropped, 0);
    assert!(
        dctcp.mean_wait < Nanos::from_millis(6),
        "{:?}",
        dctcp.mean_wait
    );
}

// RFC 8511 section 2: the queue of a place that marks early is too short for a window that halves.
#[test]
fn abe_fills_a_long_path_with_a_short_marked_queue_better() {
    for control in [CongestionControl::Reno, CongestionControl::Cubic] {
        let used = |tcp_abe| {
            let trial = Trial {
                tcp: TcpTunables {
                    tcp_abe,
                    ..with(control)
                },
                rate: 1_250_000,
                delay: Nanos::from_millis(80),
                shifts: Vec::new(),
                queue: QueuePlan::Threshold {
                    bytes: 200_000,
                    mark_above: 10_000,
                },
                flows: 1,
                bytes: 1_000_000_000,
                seconds: Some(40),
            };
            let result = trial.play();
            result.shares[0] / (40 * 1_250_000 / 1_000)
        };
        let (without, with) = (used(false), used(true));
        assert!(
            with > without,
            "{control:?}: {without} and {with} in a thousand"
        );
    }
}

fn first_slow_start(hystart: bool, hystart_plus: bool) -> Trial {
    let mut tcp = TcpTunables::default();
    tcp.cubic.hystart = hystart;
    tcp.cubic.hystart_plus = hystart_plus;
    Trial {
        tcp,
        rate: 2_500_000,
        delay: Nanos::from_millis(50),
        shifts: Vec::new(),
        queue: QueuePlan::DropTail { bytes: 250_000 },
        flows: 1,
        bytes: 8_000_000,
        seconds: None,
    }
}

// RFC 9406 section 1: without it, slow start ends with up to a window of losses.
#[test]
fn hystart_plus_leaves_slow_start_without_overshoot() {
    let overshooting = first_slow_start(false, false).play();
    let leaving = first_slow_start(true, true).play();
    let (many, few) = (overshooting.dropped, leaving.dropped);
    assert!(many > 50 && few * 2 < many, "{few} and {many} lost");
    let (without, with) = (overshooting.took, leaving.took);
    assert!(
        with.as_nanos() * 10 < without.as_nanos() * 11,
        "{with:?} and {without:?}"
    );
}

// RFC 9406 section 4.2: what looked like a queue was a path that was longer for a moment.
#[test]
fn hystart_plus_recovers_from_a_false_exit() {
    let at = |millis| BEGINNING.after(Nanos::from_millis(millis));
    let shifts = vec![
        Shift {
            at: at(310),
            delay: Nanos::from_millis(65),
        },
        Shift {
            at: at(520),
            delay: Nanos::from_millis(50),
        },
    ];
    let took = |hystart_plus| {
        let trial = Trial {
            shifts: shifts.clone(),
            rate: 25_000_000,
            queue: QueuePlan::DropTail { bytes: 2_500_000 },
            ..first_slow_start(true, hystart_plus)
        };
        trial.play().took
    };
    let (once, back) = (took(false), took(true));
    assert!(
        back < once,
        "{back:?} and {once:?} when it does not come back"
    );
}
