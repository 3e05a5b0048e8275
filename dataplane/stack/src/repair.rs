//! `TCP_REPAIR` for the BSD face: reading and setting what two ends agree on, without a segment.
//!
//! A checkpoint of a connection on one host and its restoration on another; `tcp/repair.rs` says
//! what each verb does. An id that is dead does nothing.

use millrace_base::{Instant, PacketPool, SeqNumber};

use crate::flow::FlowId;
use crate::stack::Stack;
use crate::table::NoPool;
use crate::tcp::{Agreement, Connection, Disposition, RepairWindow};

impl<P: PacketPool> Stack<P> {
    /// A connection that `connect` has begun is established at once, without a SYN: our next byte
    /// has sequence number `write_seq`, the peer's `receive_seq`.
    pub fn restore(&mut self, now: Instant, flow: FlowId, write_seq: u32, receive_seq: u32) {
        let (write, receive) = (SeqNumber::new(write_seq), SeqNumber::new(receive_seq));
        let tunables = self.tunables;
        self.repaired(now, flow, |connection| {
            connection.restore(now, (write, receive), &tunables);
        });
    }

    /// Sets what SYNs would have agreed on.
    pub fn agree_again(&mut self, now: Instant, flow: FlowId, agreement: Agreement) {
        let tunables = self.tunables;
        self.repaired(now, flow, |connection| {
            connection.agree_again(agreement, &tunables);
        });
    }

    /// What a time stamp of the connection says now.
    pub fn timestamp(&mut self, now: Instant, flow: FlowId) -> Option<u32> {
        self.repaired(now, flow, |connection| connection.stamp_clock(now))
    }

    /// Time stamps count on from `value`.
    pub fn set_timestamp(&mut self, now: Instant, flow: FlowId, value: u32) {
        self.repaired(now, flow, |connection| connection.set_timestamp(now, value));
    }

    /// Both windows.
    pub fn repair_window(&mut self, now: Instant, flow: FlowId) -> Option<RepairWindow> {
        self.repaired(now, flow, |connection| connection.repair_window())
    }

    /// Sets both windows; `false` when they contradict each other.
    pub fn set_repair_window(&mut self, now: Instant, flow: FlowId, window: &RepairWindow) -> bool {
        let set = self.repaired(now, flow, |connection| connection.set_repair_window(window));
        set.unwrap_or(false)
    }

    /// Puts bytes behind what was received; tells how many.
    pub fn put_received(&mut self, now: Instant, flow: FlowId, data: &[u8], pool: &mut P) -> usize {
        let queued = self.with_env(now, flow.key(), pool, |connection, env| {
            connection.put_received(data, env)
        });
        self.settle(now, flow.key(), Disposition::Continue);
        queued.unwrap_or(0)
    }

    /// Everything queued to send counts as sent, and waits for its acknowledgment.
    pub fn mark_all_sent(&mut self, now: Instant, flow: FlowId) {
        let mut no_pool = NoPool::new();
        self.with_env(now, flow.key(), &mut no_pool, Connection::mark_all_sent);
        self.settle(now, flow.key(), Disposition::Continue);
    }

    /// Copies out what is queued to send from `skip` bytes on, sent or not; tells how much.
    pub fn peek_sent(&mut self, now: Instant, flow: FlowId, skip: usize, out: &mut [u8]) -> usize {
        let mut no_pool = NoPool::new();
        let peeked = self.with_env(now, flow.key(), &mut no_pool, |connection, env| {
            connection.peek_sent(skip, out, env)
        });
        peeked.unwrap_or(0)
    }

    /// The repair is over: asks the peer for its window.
    pub fn end_repair(&mut self, now: Instant, flow: FlowId) {
        self.repaired(now, flow, Connection::end_repair);
    }

    /// Forgets a connection that is somebody else's now: no FIN, no RST, no event.
    pub fn forget(&mut self, now: Instant, flow: FlowId) {
        let Some(slot) = self.connections.get_mut(flow.key()) else {
            return;
        };
        slot.meta.orphan = true;
        self.orphans = self.orphans.saturating_add(1);
        let mut no_pool = NoPool::new();
        let ended = self.with_env(now, flow.key(), &mut no_pool, Connection::forget);
        self.settle(now, flow.key(), ended.unwrap_or(Disposition::Continue));
    }

    fn repaired<T>(
        &mut self,
        now: Instant,
        flow: FlowId,
        verb: impl FnOnce(&mut Connection) -> T,
    ) -> Option<T> {
        let slot = self.connections.get_mut(flow.key())?;
        let told = verb(&mut slot.connection);
        self.settle(now, flow.key(), Disposition::Continue);
        Some(told)
    }
}
