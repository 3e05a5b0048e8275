//! `TCP_REPAIR`: a connection that goes on where another host, or an earlier life, left it.
//!
//! Everything that two ends have agreed on can be read and set, and both queues be filled, without
//! a segment on the wire. It is nobody's packet path.
//!
//! Linux: `tcp_repair_connect`, `tcp_repair_options_est`, `tcp_repair_set_window`,
//! `tcp_send_rcvq`, `tcp_send_window_probe`.

use millrace_base::{Instant, PacketPool, SeqNumber, Stamp};

use super::config::TcpTunables;
use super::connection::Connection;
use super::marks::Marks;
use super::recv_buffer::peek_queue;
use super::segment::{CloseReason, Disposition, Env};
use super::send_buffer::copy_to_chunk;
use super::state::State;

/// Something that both ends had agreed on in their SYNs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreement {
    /// The MSS of the peer.
    MaxSegment(u16),
    /// The peer's window shift and ours (0..=14).
    WindowScale(u8, u8),
    /// Selective acknowledgments.
    Sack,
    /// Time stamps.
    Timestamps,
}

/// Both windows of a connection (`struct tcp_repair_window`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RepairWindow {
    /// SND.WL1.
    pub snd_wl1: u32,
    /// SND.WND in bytes.
    pub snd_wnd: u32,
    /// The largest that SND.WND ever was.
    pub max_window: u32,
    /// RCV.WND in bytes, from `rcv_wup`.
    pub rcv_wnd: u32,
    /// RCV.NXT when the window was told last.
    pub rcv_wup: u32,
}

impl Connection {
    /// A connection that was to send a SYN is established instead: its first byte will have
    /// sequence number `write_seq`, and the peer's has `receive_seq`.
    pub(crate) fn restore(
        &mut self,
        now: Instant,
        (write_seq, receive_seq): (SeqNumber, SeqNumber),
        tunables: &TcpTunables,
    ) {
        self.state = State::Established;
        self.syn_pending = false;
        self.una = write_seq;
        self.nxt = write_seq;
        self.send = super::send_buffer::SendBuffer::new(write_seq);
        self.recovery = super::recovery::Recovery::new(write_seq);
        let offered = self.first_offer(tunables);
        self.window.open(receive_seq.minus(1), offered, 0);
        let announced = u32::from(self.advertised_mss(tunables));
        self.window.begin(announced, now, tunables);
        self.wl1 = receive_seq.minus(1);
        self.timers = super::timers::Timers::OFF;
        self.sent_at = Stamp::of(now);
        self.received_at = Stamp::of(now);
    }

    pub(crate) fn agree_again(&mut self, agreement: Agreement, tunables: &TcpTunables) {
        match agreement {
            Agreement::MaxSegment(bytes) => self.peer_mss = bytes,
            Agreement::WindowScale(theirs, ours) => {
                self.snd_scale = theirs;
                self.window.set_scale(ours);
            }
            Agreement::Sack => self.sack_permitted = true,
            Agreement::Timestamps => self.timestamps.agree(),
        }
        self.update_mss(tunables, None);
    }

    /// What a time stamp says now.
    pub(crate) fn stamp_clock(&self, now: Instant) -> u32 {
        self.timestamps.value(now)
    }

    /// Time stamps count on from `value`.
    pub(crate) fn set_timestamp(&mut self, now: Instant, value: u32) {
        let current = self.timestamps.value(now);
        let offset = self.timestamps.offset;
        self.timestamps.offset = offset.wrapping_add(value.wrapping_sub(current));
    }

    pub(crate) fn repair_window(&self) -> RepairWindow {
        RepairWindow {
            snd_wl1: self.wl1.value(),
            snd_wnd: self.snd_wnd,
            max_window: self.wnd_max,
            rcv_wnd: self.window.edge().bytes_since(self.window.acked),
            rcv_wup: self.window.acked.value(),
        }
    }

    /// Sets both windows; `false` when they contradict each other or what was received.
    pub(crate) fn set_repair_window(&mut self, window: &RepairWindow) -> bool {
        let rcv_wup = SeqNumber::new(window.rcv_wup);
        let snd_wl1 = SeqNumber::new(window.snd_wl1);
        let last = self.window.nxt.plus(window.rcv_wnd);
        if window.max_window < window.snd_wnd
            || snd_wl1.after(last)
            || rcv_wup.after(self.window.nxt)
        {
            return false;
        }
        self.wl1 = snd_wl1;
        self.snd_wnd = window.snd_wnd;
        self.wnd_max = window.max_window;
        self.window.reopen(rcv_wup, window.rcv_wnd);
        true
    }

    /// Puts bytes behind what was received, as if the peer had sent them; tells how many.
    pub(crate) fn put_received<P: PacketPool>(
        &mut self,
        data: &[u8],
        env: &mut Env<'_, P>,
    ) -> usize {
        let mut queued = 0usize;
        // Each round queues a byte at least.
        while let Some(rest) = data.get(queued..).filter(|rest| !rest.is_empty()) {
            let Some((index, len)) = copy_to_chunk(rest, env.chunks, env.pool) else {
                break;
            };
            if let Some(chunk) = env.chunks.get_mut(index) {
                chunk.seq = self.window.nxt;
            }
            self.receive.push(env.chunks, index);
            self.window.pass(u32::from(len));
            self.bytes_received.add(len.into());
            queued = queued.saturating_add(len.into());
        }
        queued
    }

    /// Everything queued to send was sent by whoever had the connection before: it waits for its
    /// acknowledgment (behaviour: A3-38).
    pub(crate) fn mark_all_sent<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        // Each round marks a chunk.
        while self.send.unsent() != super::chunk::NONE {
            self.send.mark_sent(env.chunks, env.now, false);
        }
        self.nxt = self.send.end();
        self.update_retransmit_timer(env.now, env.tunables);
    }

    /// Copies out what is queued to send from `skip` bytes on, sent or not; tells how much.
    pub(crate) fn peek_sent<P: PacketPool>(
        &self,
        skip: usize,
        out: &mut [u8],
        env: &mut Env<'_, P>,
    ) -> usize {
        peek_queue(self.send.queue(), env.chunks, skip, out)
    }

    /// Asks the peer for its window: the repair is over.
    pub(crate) fn end_repair(&mut self) {
        if self.state == State::Established {
            self.wl1 = self.window.nxt.minus(1);
            self.marks.set(Marks::PROBE_PENDING);
        }
    }

    /// The connection is somebody else's now: no segment tells of it.
    pub(crate) fn forget<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        self.orphan = true;
        self.finish(env, CloseReason::Aborted, None)
    }
}
