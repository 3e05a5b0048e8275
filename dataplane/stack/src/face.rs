//! What the BSD face asks of the stack beside the verbs of `verbs.rs`: an accept queue, reading
//! without taking, knobs that change while the stack runs.
//!
//! None of it is on the packet path of the balancer.

use millrace_base::{FlowTuple, Instant, ListenerId, PacketPool};

use crate::flow::{FlowId, Owner};
use crate::fragment::FragmentTunables;
use crate::stack::Stack;
use crate::stats::count;
use crate::table::Slot;
use crate::tcp::{Chunks, Connection, Disposition, Env, TcpTunables};

impl<P: PacketPool> Stack<P> {
    /// The application has accepted this connection: it leaves the backlog of its listener. Only
    /// with `poll_event_in_backlog`.
    pub fn accept(&mut self, flow: FlowId) {
        self.leave_backlog(flow.key());
    }

    /// What waits at a listener: half-open requests, those of them whose SYN-ACK was sent once only,
    /// and completed connections that were not accepted.
    pub fn listener_queue(&self, listener: ListenerId) -> (u32, u32, u32) {
        let pending = self.listeners.pending(listener);
        (pending.requests, pending.young, pending.accepted)
    }

    /// Copies out received data that begins `skip` bytes behind what would be read next, and leaves
    /// it there (`MSG_PEEK`). Returns the number of bytes. O(segments up to there).
    pub fn peek(&mut self, flow: FlowId, skip: usize, out: &mut [u8]) -> usize {
        let Self {
            connections,
            chunks,
            ..
        } = self;
        let slot = connections
            .get_mut(flow.key())
            .filter(|slot| !slot.meta.orphan);
        slot.map_or(0, |slot| slot.connection.peek(chunks, skip, out))
    }

    /// `TCP_QUICKACK`: 0 lets ACKs wait for data to travel with, anything else does not, an even
    /// number only this once. Before the handshake: 0 lets the ACK of the SYN-ACK wait, for a program
    /// that has something to send already.
    pub fn set_quick_ack(&mut self, now: Instant, flow: FlowId, value: i32) {
        let alive = self.connections.get_mut(flow.key());
        if let Some(slot) = alive.filter(|slot| !slot.meta.orphan) {
            slot.connection.set_quick_ack(value);
            self.settle(now, flow.key(), Disposition::Continue);
        }
    }

    /// Lets an ACK leave that waits for data to travel with.
    pub fn hasten_ack(&mut self, now: Instant, flow: FlowId) {
        if let Some(slot) = self.connections.get_mut(flow.key()) {
            slot.connection.hasten_ack();
            self.settle(now, flow.key(), Disposition::Continue);
        }
    }

    /// Whether this tuple belongs to anybody: a connection, a half-open one or a TIME_WAIT record.
    pub fn tuple_is_taken(&self, tuple: &FlowTuple) -> bool {
        matches!(
            self.owner_of(tuple),
            Some(Owner::Connection(_) | Owner::Request(_) | Owner::TimeWait(_))
        )
    }

    /// Gives a connection knobs of its own for as long as it lives.
    pub fn set_own_tunables(&mut self, flow: FlowId, tunables: TcpTunables) {
        let alive = self.connections.get_mut(flow.key());
        if let Some(slot) = alive.filter(|slot| !slot.meta.orphan) {
            slot.connection.take_receive_buffer(&tunables);
            self.own_tunables.insert(flow.index(), tunables);
        }
    }

    /// The application will read no more: data that still comes after our FIN is answered by a reset
    /// (`shutdown` of the receiving side).
    pub fn shutdown_receiving(&mut self, flow: FlowId) {
        if let Some(slot) = self.living(flow) {
            slot.connection.shutdown_receiving();
        }
    }

    /// Resets the connection as `close` does when the time to linger is 0: what was not sent is lost
    /// (`TCPAbortOnData`). No event follows.
    pub fn close_without_lingering(&mut self, now: Instant, flow: FlowId) {
        if self.living(flow).is_some() {
            count!(self.stats.tcp_abort_on_data);
            self.abort(now, flow);
        }
    }

    /// Keeps so many bytes of every packet free for headers that the caller puts on itself (options of
    /// IP; Linux: `icsk_ext_hdr_len`). Segments are smaller by them from now on.
    pub fn reserve_headers(&mut self, now: Instant, flow: FlowId, bytes: u16) {
        let mut no_pool = Self::no_pool();
        let Self {
            connections,
            chunks,
            stats,
            tunables,
            ..
        } = self;
        let slot = connections
            .get_mut(flow.key())
            .filter(|slot| !slot.meta.orphan);
        if let Some(slot) = slot {
            let mut env = Env {
                now,
                pool: &mut no_pool,
                chunks,
                stats,
                tunables,
            };
            slot.connection.reserve_headers(bytes, &mut env);
        }
    }

    /// Sends no faster than so many bytes per second (`SO_MAX_PACING_RATE`); `u64::MAX` takes the limit
    /// back.
    pub fn set_pacing_rate_max(&mut self, flow: FlowId, rate: u64) {
        if let Some((connection, chunks)) = self.living_with_chunks(flow) {
            connection.set_pacing_rate_max(rate, chunks);
        }
    }

    /// How long the connection may stay in FIN_WAIT2 once the application is gone, in seconds: 0 as
    /// `tcp_fin_timeout` says, below 0 not at all (`TCP_LINGER2`).
    pub fn set_linger2(&mut self, flow: FlowId, seconds: i32) {
        if let Some((connection, chunks)) = self.living_with_chunks(flow) {
            connection.set_linger2(seconds, chunks);
        }
    }

    /// SYNs and final ACKs that a listener has dropped for want of room (Linux: `sk_drops`).
    pub fn listener_drops(&self, listener: ListenerId) -> u64 {
        self.listeners.pending(listener).drops
    }

    /// A connection that its application has not closed, and the memory of all queues.
    fn living_with_chunks(
        &mut self,
        flow: FlowId,
    ) -> Option<(&mut Connection, &mut Chunks<P::Buf>)> {
        let slot = self.connections.get_mut(flow.key());
        let slot = slot.filter(|slot| !slot.meta.orphan)?;
        Some((&mut slot.connection, &mut self.chunks))
    }

    /// Whether packets to one host are dropped when they came in an Ethernet frame to many, of IPv4
    /// and of IPv6 (`drop_unicast_in_l2_multicast`, RFC 1122 section 3.3.6). Linux's default: taken.
    /// TCP in such a frame is never taken.
    pub const fn set_drop_unicast_in_l2_multicast(&mut self, families: [bool; 2]) {
        let interfaces = &mut self.network.interfaces;
        interfaces.set_drop_unicast_in_l2_multicast(families);
    }

    /// The knobs of reassembly.
    pub const fn fragment_tunables(&self) -> &FragmentTunables {
        &self.fragment_tunables
    }

    /// Changes the knobs of reassembly; packets under way keep their deadlines.
    pub fn set_fragment_tunables(&mut self, tunables: FragmentTunables) {
        self.fragment_tunables = tunables;
    }

    /// The knobs.
    pub const fn tunables(&self) -> &TcpTunables {
        &self.tunables
    }

    /// Changes the knobs. Connections that exist keep what they have agreed on and the congestion
    /// control they began with; timers that run keep their deadlines.
    pub fn set_tunables(&mut self, tunables: TcpTunables) {
        self.tunables = tunables;
        self.group_knobs
            .rebuild(&self.network.routes, &self.tunables);
    }

    fn living(&mut self, flow: FlowId) -> Option<&mut Slot> {
        let slot = self.connections.get_mut(flow.key());
        slot.filter(|slot| !slot.meta.orphan)
    }
}
