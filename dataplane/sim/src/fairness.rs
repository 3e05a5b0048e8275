//! Who gets how much of a narrow place that everybody shares.
//!
//! Not a part of a seed: one scenario without chance, whose clients differ. Of it is the claim that a
//! liar gains nothing; tables of many flows are in `golden`.

use millrace_base::{Instant, Nanos};

use crate::host::stack::StackPlan;
use crate::link::{FlightPlan, LinkPlan, QueuePlan};
use crate::program::{Pace, Step, Text};
use crate::scenario::{BEGINNING, FlowPlan, NodePlan, PeerPlan, Scenario};
use crate::world::World;

/// The narrow place: 1 MB/s, 20 ms each way, and as much queue as is under way.
const RATE: u64 = 1_000_000;
const DELAY: Nanos = Nanos::from_millis(20);
const QUEUE_BYTES: u64 = 40_000;

/// What a client gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    /// Bytes of IP packets that reach it.
    pub(crate) carried: u64,
    /// Bytes that its program reads, all that came before them read as well.
    pub(crate) read: u64,
}

/// What each of these clients gets in so many seconds, when all of them download from one host of
/// the stack, whose numbers and chances follow from `secret`.
pub(crate) fn rivals(
    host: &StackPlan,
    clients: Vec<PeerPlan>,
    seconds: u64,
    secret: u64,
) -> Result<Vec<Share>, String> {
    let narrow = LinkPlan {
        rate: RATE,
        queue: QueuePlan::DropTail { bytes: QUEUE_BYTES },
        flight: FlightPlan {
            delay: DELAY,
            ..FlightPlan::default()
        },
        ..LinkPlan::default()
    };
    let end = BEGINNING.after(Nanos::from_secs(seconds));
    let bytes = RATE * seconds;
    let text = |steps| Text {
        steps,
        pace: Pace::GREEDY,
    };
    let confuses = |node: usize| match &clients[node - 1] {
        PeerPlan::Liar(plan) => plan.lie.confuses(),
        PeerPlan::Stack(_) | PeerPlan::Model(_) | PeerPlan::Balancer(_) => false,
    };
    let flow = |node| FlowPlan {
        node,
        starts_at: BEGINNING,
        client: text(vec![Step::Write(1), Step::AwaitEnd]),
        server: text(vec![Step::Write(bytes), Step::ShutDown]),
        broken_off_at: Some(end),
        is_confused: confuses(node),
        fast: false,
        may_be_refused: false,
    };
    let flows = (1..=clients.len()).map(flow).collect();
    let server = NodePlan {
        peer: PeerPlan::Stack(host.clone()),
        up: narrow,
        down: LinkPlan::default(),
    };
    let node = |peer| NodePlan {
        peer,
        up: LinkPlan::default(),
        down: LinkPlan::default(),
    };
    let nodes = core::iter::once(server).chain(clients.into_iter().map(node));
    let scenario = Scenario {
        v6: false,
        nodes: nodes.collect(),
        is_balanced: false,
        flows,
        accept_every: Nanos::ZERO,
        forged_ppm: 0,
        starts_at: BEGINNING,
        limit: Instant::NEVER,
        secret,
    };
    let mut world = World::new(&scenario, false);
    world.play()?;
    let carried = world.arrived().split_off(1);
    let shares = carried.into_iter().zip(world.read_by_clients());
    Ok(shares
        .map(|(carried, read)| Share { carried, read })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_stack::CongestionControl;

    use crate::golden::jain;
    use crate::host::liar::{ALWAYS, LiarPlan, Lie};
    use crate::host::model::ModelPlan;

    const MODEL: ModelPlan = ModelPlan {
        mtu: 1_500,
        timestamps: true,
        sack: true,
        scale: Some(7),
        window: 1_000_000,
        send_buffer: 65_536,
        delays_acks: false,
        reneges_ppm: 0,
    };

    #[test]
    fn equal_flows_share_a_narrow_place_about_equally_and_fill_it() {
        let clients = vec![PeerPlan::Stack(StackPlan::default()); 4];
        let shares = rivals(&StackPlan::default(), clients, 15, 1).expect("no rule is broken");
        let shares: Vec<u64> = shares.iter().map(|share| share.carried).collect();
        assert!(jain(&shares) > 0.8, "{shares:?}");
        let used = shares.iter().sum::<u64>() * 100 / (15 * RATE);
        assert!(used >= 80, "{used} % of the link");
    }

    /// How many honest clients somebody contends with, one contest after the other, and for how many
    /// seconds each time.
    type Contests = (&'static [usize], u64);
    const FEW: Contests = (&[1, 3], 12);
    /// Where what is believed at first shall not decide.
    const MANY: Contests = (&[1, 2, 3], 20);

    /// Chance decides when BBR probes, and who is first takes more: of it one contest says little.
    const fn times(control: CongestionControl) -> u64 {
        match control {
            CongestionControl::Bbr => 3,
            CongestionControl::Reno | CongestionControl::Cubic | CongestionControl::Dctcp => 1,
        }
    }

    /// What one of the honest clients gets in all contests together, and what a liar gets in the place
    /// of one.
    fn contests(control: CongestionControl, liar: Option<LiarPlan>, contests: Contests) -> Share {
        let mut host = StackPlan::default();
        host.tcp.tcp_congestion_control = control;
        let mut sum = Share {
            carried: 0,
            read: 0,
        };
        let (numbers, seconds) = contests;
        for (others, secret) in numbers
            .iter()
            .flat_map(|it| (1..=times(control)).map(move |n| (*it, n)))
        {
            let mut clients = vec![PeerPlan::Model(MODEL); others + 1];
            clients[others] = liar.map_or(PeerPlan::Model(MODEL), PeerPlan::Liar);
            let shares = rivals(&host, clients, seconds, secret).expect("no rule is broken");
            // Who of the honest is ahead is chance: each stands for all.
            let counted = &shares[if liar.is_some() { others } else { 0 }..];
            let count = counted.len() as u64;
            sum.carried += counted.iter().map(|it| it.carried).sum::<u64>() / count;
            sum.read += counted.iter().map(|it| it.read).sum::<u64>() / count;
        }
        sum
    }

    /// An honest client's shares and a liar's, in the same contests.
    fn honest_and_lying(control: CongestionControl, lie: Lie, many: Contests) -> [Share; 2] {
        let liar = LiarPlan {
            model: MODEL,
            lie,
            lies_ppm: ALWAYS,
        };
        let honest = contests(control, None, many);
        let lying = contests(control, Some(liar), many);
        println!("{} {lie:?}: {honest:?}, {lying:?}", control.name());
        [honest, lying]
    }

    fn gains_nothing(lie: Lie, contests: Contests) {
        for control in CongestionControl::ALL {
            let [honest, lying] = honest_and_lying(control, lie, contests);
            assert!(lying.carried * 10 <= honest.carried * 11, "{lie:?}");
            assert!(lying.read * 10 <= honest.read * 11, "{lie:?}");
        }
    }

    // Savage and others 1999: bytes are counted, not acknowledgments (RFC 3465).
    #[test]
    fn who_divides_acknowledgments_gains_nothing() {
        gains_nothing(Lie::AckDivision { parts: 20 }, FEW);
    }

    // The same: no window grows with a duplicate (RFC 6937).
    #[test]
    fn who_repeats_acknowledgments_gains_nothing() {
        gains_nothing(Lie::DuplicateAcks { times: 10 }, FEW);
    }

    #[test]
    fn who_reports_what_never_came_gains_nothing() {
        gains_nothing(Lie::SackLies, FEW);
    }

    #[test]
    fn who_says_that_repetitions_were_needless_gains_nothing() {
        gains_nothing(Lie::DsackLies, MANY);
    }

    #[test]
    fn who_echoes_the_stamps_of_first_copies_gains_nothing() {
        gains_nothing(Lie::OldEchoes, MANY);
    }

    #[test]
    fn who_plays_with_the_window_gains_nothing() {
        gains_nothing(Lie::WindowGames, FEW);
    }

    #[test]
    fn who_forgets_what_he_reported_gains_nothing() {
        gains_nothing(Lie::Reneging, FEW);
    }

    #[test]
    fn who_echoes_anything_gains_nothing() {
        gains_nothing(Lie::StampLies, FEW);
    }

    #[test]
    fn who_says_anything_gains_nothing() {
        gains_nothing(Lie::Noise, FEW);
    }

    // Nobody marks here: who hides marks that do come is not found out (`lying-peers.md`).
    #[test]
    fn who_reports_marks_at_will_gains_nothing() {
        gains_nothing(Lie::MarkLies, MANY);
    }

    // Nobody can tell an acknowledgment of what is on its way from one of what has come, if it is
    // not too early to be either. What it costs who lies so: a byte that was lost is gone.
    #[test]
    fn who_acknowledges_too_early_reads_no_more_of_the_stream() {
        for lie in [
            Lie::OptimisticAck { ahead: 20_000 },
            Lie::HiddenLoss { ahead: 5_000 },
            Lie::HiddenLoss { ahead: 0 },
        ] {
            for control in CongestionControl::ALL {
                let [honest, lying] = honest_and_lying(control, lie, FEW);
                assert!(lying.read * 10 <= honest.read * 11, "{lie:?}");
            }
        }
    }
}
