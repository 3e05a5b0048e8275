//! The second edition: every algorithm, Accurate ECN, boxes that mangle it, and queues that mark.
//!
//! Nobody who would have to heed the marks is needed for them: whoever does not agree to ECN meets
//! these queues and boxes as well.

use millrace_base::Instant;
use millrace_stack::{CongestionControl, TcpTunables};

use super::{NodePlan, PeerPlan, Scenario};
use crate::dice::Dice;
use crate::host::liar::Lie;
use crate::link::{LinkPlan, Mangling, QueuePlan};
use crate::world::SERVER;

/// What makes these dice others than those of the first edition.
const SALT: u64 = 0x6563_6e00_0000_0002;

/// Changes the scenario of a seed of the first edition.
pub(super) fn revise(scenario: &mut Scenario, seed: u64) {
    let mut dice = Dice::new(seed ^ SALT);
    for node in &mut scenario.nodes {
        if let PeerPlan::Liar(liar) = &mut node.peer
            && dice.one_in(8)
        {
            liar.lie = Lie::MarkLies;
        }
        if let Some(plan) = node.stack_mut() {
            turn(&mut dice, &mut plan.tcp);
        }
    }
    for flow in &mut scenario.flows {
        if let PeerPlan::Liar(liar) = &scenario.nodes[flow.node].peer {
            flow.is_confused = liar.lie.confuses();
        }
    }
    let mangled = dice.one_in(3).then(|| dice.pick(&Mangling::ALL));
    let both_ways = dice.one_in(2);
    let stays = dice.one_in(2);
    let NodePlan { up, down, .. } = &mut scenario.nodes[SERVER];
    up.mangling = mangled;
    if both_ways {
        down.mangling = mangled;
    }
    for link in [up, down] {
        if dice.one_in(3) {
            mark_at_once(&mut dice, link);
        }
        if let Some(hop) = &mut link.mtu
            && hop.tells
            && stays
        {
            hop.until = Instant::NEVER;
        }
    }
}

/// The knobs of congestion.
fn turn(dice: &mut Dice, tcp: &mut TcpTunables) {
    tcp.tcp_congestion_control = dice.pick(&CongestionControl::ALL);
    tcp.tcp_ecn = dice.between(0, 5) as u8;
    // Half of all ask for Accurate ECN, or two would seldom agree.
    if dice.one_in(3) {
        tcp.tcp_ecn = 3;
    }
    tcp.tcp_ecn_option = dice.between(0, 2) as u8;
    tcp.tcp_ecn_option_beacon = dice.pick(&[0, 3, 63]);
    tcp.tcp_ecn_fallback = !dice.one_in(4);
    tcp.tcp_abe = dice.one_in(3);
    tcp.cubic.hystart = !dice.one_in(4);
    tcp.cubic.hystart_plus = dice.one_in(3);
}

/// A switch that marks whatever finds something waiting, as for DCTCP.
fn mark_at_once(dice: &mut Dice, link: &mut LinkPlan) {
    let bytes = match link.queue {
        QueuePlan::DropTail { bytes }
        | QueuePlan::Red { bytes, .. }
        | QueuePlan::Threshold { bytes, .. }
        | QueuePlan::CoDel { bytes, .. } => bytes,
    };
    let part = u64::from(dice.between(2, 16));
    link.queue = QueuePlan::Threshold {
        bytes,
        mark_above: bytes / part,
    };
}
