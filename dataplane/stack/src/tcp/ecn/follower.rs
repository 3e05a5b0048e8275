//! The receiver's half of DCTCP: ECE says of every segment whether it came marked (RFC 8257 section
//! 3.2; Linux: `dctcp_ece_ack_update`).
//!
//! An ACK covers several segments, and all of them must have come alike: when a mark follows data
//! without, or the other way round, what came before is acknowledged at once with what it came as, by
//! an ACK that ends there. With Accurate ECN the counters say all that, and nothing of this is asked.

use millrace_base::{PacketPool, SeqNumber};
use millrace_wire::TcpRepr;

use super::Ecn;
use crate::tcp::connection::Connection;
use crate::tcp::segment::Env;

/// ACKs that one burst may leave behind where marks begin or end; a burst in which they change more
/// often has the last ones told together. A burst has 32 packets.
const EDGES_MAX: usize = 8;

/// Whether the last data came marked, and the ACKs that end before them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Follower {
    is_marked: bool,
    count: u8,
    edges: [Edge; EDGES_MAX],
}

/// An ACK of data that came alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Edge {
    ack: SeqNumber,
    is_marked: bool,
}

impl Follower {
    /// Whether the last data came marked.
    pub(in crate::tcp) const fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// Data came behind `ack`, of which what is behind `acked` was not acknowledged yet. Tells whether
    /// that came otherwise; an ACK of it is remembered if there is anything of it and a place.
    fn follow(&mut self, is_marked: bool, ack: SeqNumber, acked: SeqNumber) -> Change {
        if core::mem::replace(&mut self.is_marked, is_marked) == is_marked {
            return Change::None;
        }
        let known = usize::from(self.count);
        let last = known.checked_sub(1).and_then(|last| self.edges.get(last));
        let from = last.map_or(acked, |last| last.ack);
        let Some(place) = self.edges.get_mut(known).filter(|_| ack.after(from)) else {
            return Change::Alone;
        };
        *place = Edge {
            ack,
            is_marked: !is_marked,
        };
        self.count = self.count.saturating_add(1);
        Change::WithEdge
    }

    /// The first ACK that is to be sent.
    fn pop(&mut self) -> Option<Edge> {
        let first = *self.edges.get(..usize::from(self.count))?.first()?;
        self.edges.rotate_left(1);
        self.count = self.count.saturating_sub(1);
        Some(first)
    }
}

/// What new data changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    None,
    /// They came otherwise than those before.
    Alone,
    /// And those before are to be acknowledged first.
    WithEdge,
}

impl Connection {
    /// Data came that could be marked; `false` when there is no place to follow that: then ECE is
    /// that of RFC 3168.
    pub(super) fn follow_marks<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        is_marked: bool,
    ) -> bool {
        let (ack, acked) = (self.window.nxt, self.window.acked);
        let Some(extra) = self.extra_mut(env.chunks) else {
            return false;
        };
        let change = extra.follower.follow(is_marked, ack, acked);
        if change != Change::None {
            self.ack.send_now();
        }
        if change == Change::WithEdge {
            self.ack.ecn.set(Ecn::EDGES);
            self.ack.send_duplicate();
        }
        if is_marked {
            self.ack.ecn.set(Ecn::ECE_DUE);
        } else {
            self.ack.ecn.clear(Ecn::ECE_DUE);
        }
        true
    }

    /// An ACK is about to leave, and data that came otherwise are to be told of before: it ends where
    /// they do.
    #[cold]
    pub(in crate::tcp) fn end_at_edge<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        header: &mut TcpRepr,
    ) {
        let is_followed = self.ack.due() > 1;
        let Some(extra) = self.extra_mut(env.chunks) else {
            return;
        };
        let edge = extra.follower.pop().filter(|_| is_followed);
        if extra.follower.count == 0 || !is_followed {
            extra.follower.count = 0;
            self.ack.ecn.clear(Ecn::EDGES);
        }
        let Some(edge) = edge else {
            return;
        };
        let field_max = env.tunables.window_field_max(self.window.scale());
        header.window = self.window.field_from(edge.ack, field_max);
        header.ack = edge.ack;
        header.flags = header.flags.without(millrace_wire::TcpFlags::ECE);
        if edge.is_marked {
            header.flags |= millrace_wire::TcpFlags::ECE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::config::{CongestionControl, ConnectionOptions, TcpTunables};
    use crate::tcp::ecn::{CE, ECT_0};
    use crate::tcp::testing::{Bench, Seg, data};
    use millrace_wire::TcpFlags;

    fn agreed() -> Bench {
        let tunables = TcpTunables {
            tcp_congestion_control: CongestionControl::Dctcp,
            ..TcpTunables::default()
        };
        let options = ConnectionOptions::default();
        let mut bench = Bench::established_with(true, tunables, options, None);
        bench.connection.ack.ecn = Ecn::OK;
        bench.connection.ack.ecn.set(Ecn::ALWAYS);
        bench
    }

    fn came(seq: i64, codepoint: u8) -> Seg {
        Seg {
            traffic_class: codepoint,
            ..data(seq, 1_000)
        }
    }

    /// What the ACKs of a burst end at, and whether they echo a mark.
    fn acks(bench: &mut Bench, burst: &[(i64, u8)]) -> Vec<(i64, bool)> {
        let burst = burst.iter().map(|(seq, codepoint)| came(*seq, *codepoint));
        bench.receive_burst(burst.collect());
        let sent = bench.sent();
        assert!(sent.iter().all(|seg| seg.traffic_class == ECT_0));
        sent.iter()
            .map(|seg| (seg.ack, seg.flags.contains(TcpFlags::ECE)))
            .collect()
    }

    // RFC 8257 section 3.2.
    #[test]
    fn a_change_is_acknowledged_at_once_behind_what_came_before_it() {
        let mut bench = agreed();
        bench.connection.ack.start_ping_pong();
        assert_eq!(acks(&mut bench, &[(0, ECT_0)]), [], "delayed");
        let both = [(1_000, false), (2_000, true)];
        assert_eq!(acks(&mut bench, &[(1_000, CE)]), both);
        assert_eq!(acks(&mut bench, &[(2_000, CE)]), [], "like the one before");
        let both = [(3_000, true), (4_000, false)];
        assert_eq!(acks(&mut bench, &[(3_000, ECT_0)]), both);
        bench.finish();
    }

    #[test]
    fn a_burst_is_acknowledged_in_parts_that_came_alike() {
        let mut bench = agreed();
        let marks = [ECT_0, ECT_0, CE, CE, CE, ECT_0, CE];
        let burst: Vec<_> = (0..).map(|at| at * 1_000).zip(marks).collect();
        let told = [(2_000, false), (5_000, true), (6_000, false), (7_000, true)];
        assert_eq!(acks(&mut bench, &burst), told);
        bench.finish();
    }

    #[test]
    fn a_burst_of_many_changes_is_told_in_as_many_acks_as_there_are_places() {
        let mut bench = agreed();
        let burst: Vec<_> = (0..30)
            .map(|at| (at * 1_000, if at % 2 == 0 { ECT_0 } else { CE }))
            .collect();
        let told = acks(&mut bench, &burst);
        assert_eq!(told.len(), EDGES_MAX + 1);
        assert_eq!(told.last(), Some(&(30_000, true)));
        assert_eq!(told[7], (8_000, true));
        bench.finish();
    }
}
