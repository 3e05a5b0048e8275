//! Who gets how much of a narrow place that everybody shares.
//!
//! Not a part of a seed: one scenario without chance, whose clients differ. The tables of many flows
//! and algorithms are made of it, and the claim that a liar gains nothing.

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

/// Jain's index of fairness: 1 when all shares are equal, one part of their number when one has all.
pub(crate) fn jain(shares: &[u64]) -> f64 {
    let shares = shares.iter().map(|share| *share as f64);
    let (count, sum, squares) = shares.fold((0.0, 0.0, 0.0), |(count, sum, squares), share| {
        (count + 1.0, sum + share, squares + share * share)
    });
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (count * squares)
}

/// The bytes of IP packets that reach each of these clients in so many seconds, when all of them
/// download from one host of the stack.
pub(crate) fn rivals(clients: Vec<PeerPlan>, seconds: u64) -> Result<Vec<u64>, String> {
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
    let flow = |node| FlowPlan {
        node,
        starts_at: BEGINNING,
        client: text(vec![Step::Write(1), Step::AwaitEnd]),
        server: text(vec![Step::Write(bytes), Step::ShutDown]),
        broken_off_at: Some(end),
        is_confused: false,
    };
    let flows = (1..=clients.len()).map(flow).collect();
    let server = NodePlan {
        peer: PeerPlan::Stack(StackPlan::default()),
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
        flows,
        starts_at: BEGINNING,
        limit: Instant::NEVER,
        secret: 1,
    };
    let mut world = World::new(&scenario, false);
    world.play()?;
    Ok(world.arrived().split_off(1))
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn the_index_is_one_for_equal_shares_and_a_part_for_one_winner() {
        assert!((jain(&[5, 5, 5, 5]) - 1.0).abs() < 1e-9);
        assert!((jain(&[0, 0, 9, 0]) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn equal_flows_share_a_narrow_place_about_equally_and_fill_it() {
        let clients = vec![PeerPlan::Stack(StackPlan::default()); 4];
        let shares = rivals(clients, 15).expect("no rule is broken");
        assert!(jain(&shares) > 0.8, "{shares:?}");
        let used = shares.iter().sum::<u64>() * 100 / (15 * RATE);
        assert!(used >= 80, "{used} % of the link");
    }

    // Savage and others 1999. Acknowledging what has not arrived is not here: against that, Linux
    // has no defence either.
    #[test]
    fn a_liar_gains_nothing() {
        let lies = [
            Lie::AckDivision { parts: 20 },
            Lie::DuplicateAcks { times: 10 },
            Lie::SackLies,
            Lie::WindowGames,
        ];
        for lie in lies {
            let liar = LiarPlan {
                model: MODEL,
                lie,
                lies_ppm: ALWAYS,
            };
            let clients = vec![PeerPlan::Model(MODEL), PeerPlan::Liar(liar)];
            let shares = rivals(clients, 15).expect("no rule is broken");
            println!("{lie:?}: {shares:?}");
            assert!(shares[1] * 10 <= shares[0] * 11, "{lie:?}: {shares:?}");
        }
    }
}
