//! What the stack remembers of peers between connections: when it is saved, who counts as proven, and
//! what there is to see of it.
//!
//! The memory itself, and what a connection makes of it, are in `tcp/metrics.rs`.

use millrace_base::{FlowTuple, Instant, ListenerId, Micros, PacketPool};

use crate::stack::Stack;
use crate::tcp::PeerMetrics;
use crate::verdict::DropReason;

impl<P: PacketPool> Stack<P> {
    /// Forgets what was learned of all peers (`ip tcp_metrics flush`).
    pub fn forget_peers(&mut self) {
        self.chunks.metrics.forget();
    }

    /// What earlier connections between these addresses have left behind (`ip tcp_metrics show`);
    /// `None` when there were none, or when it is out of date.
    pub fn peer_metrics(&self, now: Instant, tuple: &FlowTuple) -> Option<PeerMetrics> {
        self.chunks.metrics.recall(tuple, now)
    }

    /// Without SYN cookies the last quarter of the half-open queue is for peers that are known to be
    /// alive: an error for others. Linux says so in its log; here the reason is counted.
    ///
    /// behaviour: A18-1, A18-2, A18-3, X2-12, LSN-12
    pub(crate) fn check_last_quarter(
        &self,
        now: Instant,
        listener: ListenerId,
        tuple: &FlowTuple,
    ) -> Result<(), DropReason> {
        let max = self.tunables.tcp_max_syn_backlog;
        let requests = self.listeners.pending(listener).requests;
        let rest = i64::from(max).saturating_sub(requests.into());
        if rest >= i64::from(max >> 2) || self.is_proven(now, tuple) {
            return Ok(());
        }
        Err(DropReason::PeerUnproven)
    }

    /// Whether a connection with this peer has measured a round trip (Linux: `tcp_peer_is_proven`).
    fn is_proven(&self, now: Instant, tuple: &FlowTuple) -> bool {
        self.peer_metrics(now, tuple)
            .is_some_and(|known| known.rtt != Micros::new(0))
    }
}
