//! The connection: its state (the TCB of RFC 9293 section 3.3.1) and what an application can ask of
//! it.
//!
//! A `Connection` is plain data: indices instead of pointers, nothing allocated, so it can be
//! moved, mapped or sent elsewhere. Segments come in through `input.rs`, frames leave through
//! `output.rs`, time passes in `timeout.rs`; how it begins is in `handshake.rs`. Every verb takes
//! what it needs of the world as `Env`.

use millrace_base::{FlowTuple, Instant, PacketPool, SeqNumber, Stamp, invariant};

use super::ack::AckPolicy;
use super::byte_count::ByteCount;
use super::chunk::{Chunks, NONE};
use super::config::{ConnectionOptions, TcpTunables};
use super::congestion::Congestion;
use super::marks::Marks;
use super::ready::Ready;
use super::reassembly::Reassembly;
use super::recovery::Recovery;
use super::recv_buffer::{ReceiveBuffer, chunks_max_pressed};
use super::rtt::RttEstimator;
use super::segment::{CloseReason, Disposition, Env, ResetSegment};
use super::send_buffer::SendBuffer;
use super::shelf::Place;
use super::state::State;
use super::timers::Timers;
use super::timestamps::Timestamps;
use super::window::ReceiveWindow;
use crate::stats::count;

/// The state of one connection.
///
/// ```text
///    0  the tuple, which every lookup compares; what an in-order segment reads and writes
///  218  what an ACK of ours moves: round trip, congestion, recovery
///  274  what options and the ends of its life touch
/// ```
///
/// The order is the memory's (`repr(C)`), from large to small alignment within each part; the test
/// `the_layout_of_a_connection_is_known` shows it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Connection {
    pub(super) bytes_received: ByteCount,
    pub(super) bytes_acked: ByteCount,
    pub(super) tuple: FlowTuple,
    pub(super) state: State,
    /// Both SYNs permitted selective acknowledgments.
    pub(super) sack_permitted: bool,
    pub(super) snd_scale: u8,
    pub(super) probes: u8,
    pub(super) una: SeqNumber,
    pub(super) nxt: SeqNumber,
    pub(super) window: ReceiveWindow,
    /// SND.WND, SND.WL1 and the largest window ever offered. SND.WL2 is not kept: only segments
    /// whose ACK is not below SND.UNA update the window, and SND.WL2 never is above that.
    pub(super) snd_wnd: u32,
    pub(super) wl1: SeqNumber,
    pub(super) wnd_max: u32,
    pub(super) receive: ReceiveBuffer,
    pub(super) send: SendBuffer,
    /// Where the peer's FIN is, once `peer_fin_came`.
    pub(super) peer_fin: SeqNumber,
    pub(super) timestamps: Timestamps,
    pub(super) ack: AckPolicy,
    /// Payload bytes of a full segment.
    pub(super) mss: u16,
    pub(super) ready: Ready,
    /// The last time data left, and the last time anything arrived.
    pub(super) received_at: Stamp,
    pub(super) sent_at: Stamp,
    pub(super) timers: Timers,
    pub(super) reassembly: Reassembly,
    pub(super) rtt: RttEstimator,
    pub(super) congestion: Congestion,
    pub(super) recovery: Recovery,
    /// What the peer's SYN allowed, before options are subtracted.
    pub(super) peer_mss: u16,
    pub(super) options: ConnectionOptions,
    /// When a segment that should not have come was answered last, in milliseconds; 0 is never.
    pub(super) challenged_at_ms: u32,
    pub(super) retransmissions: u32,
    /// Where its `Extra` is, if it has one.
    pub(super) extra: Place,
    /// The path MTU that `mss` was computed for.
    pub(super) mtu: u16,
    pub(super) closed: Option<CloseReason>,
    pub(super) marks: Marks,
    /// Our FIN is queued (`end` is its place).
    pub(super) fin_queued: bool,
    /// The SYN or SYN-ACK is to be sent (again).
    pub(super) syn_pending: bool,
    /// The application has closed: nobody will read or be told.
    pub(super) orphan: bool,
}

/// What a splice did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spliced {
    /// Payload bytes moved.
    pub bytes: u32,
    /// All received data has moved and the peer has closed its side by a FIN: nothing will follow.
    pub end_of_stream: bool,
    /// The destination's send buffer is full; it will say `WRITABLE`.
    pub blocked: bool,
}

/// What a copying read did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Bytes copied.
    pub bytes: usize,
    /// All received data was read and the peer has closed its side by a FIN.
    pub end_of_stream: bool,
}

/// What one connection costs while it is at work; what it does at rest, `dormant.rs` and
/// `tests/layout.rs` say.
pub(crate) const CONNECTION_BYTES_MAX: usize = 316;
const _: () = assert!(size_of::<Connection>() <= CONNECTION_BYTES_MAX);

impl Connection {
    pub(super) fn new(
        tuple: FlowTuple,
        iss: SeqNumber,
        mtu: u16,
        options: ConnectionOptions,
        tunables: &TcpTunables,
        now: Instant,
    ) -> Self {
        Self {
            state: State::Closed,
            fin_queued: false,
            syn_pending: false,
            sack_permitted: false,
            orphan: false,
            una: iss,
            nxt: iss.plus(1),
            snd_wnd: 0,
            wl1: SeqNumber::new(0),
            wnd_max: 0,
            mss: super::options::MSS_DEFAULT,
            snd_scale: 0,
            probes: 0,
            window: ReceiveWindow::new(tunables, now),
            ack: AckPolicy::new(),
            send: SendBuffer::new(iss.plus(1)),
            receive: ReceiveBuffer::EMPTY,
            timers: Timers::OFF,
            timestamps: Timestamps::new(0),
            rtt: RttEstimator::default(),
            congestion: Congestion::new(
                tunables.tcp_congestion_control,
                &tunables.cubic,
                (super::options::MSS_DEFAULT, tunables.tcp_init_cwnd),
                iss,
            ),
            ready: Ready::NONE,
            options,
            recovery: Recovery::new(iss),
            reassembly: Reassembly::EMPTY,
            peer_fin: SeqNumber::new(0),
            marks: Marks::default(),
            extra: Place::NONE,
            closed: None,
            peer_mss: super::options::MSS_DEFAULT,
            mtu,
            challenged_at_ms: 0,
            sent_at: Stamp::of(now),
            received_at: Stamp::of(now),
            bytes_received: ByteCount::default(),
            bytes_acked: ByteCount::default(),
            retransmissions: 0,
            tuple,
        }
    }

    /// Takes the news since the last call.
    #[inline]
    pub(crate) fn take_ready(&mut self) -> Ready {
        core::mem::take(&mut self.ready)
    }

    /// Moves received data to the end of `to`'s send queue, by reference. O(chunks moved).
    pub(crate) fn splice_into<P: PacketPool>(
        &mut self,
        to: &mut Self,
        env: &mut Env<'_, P>,
    ) -> Spliced {
        let mut spliced = Spliced::default();
        if !to.accepts_data() {
            return Spliced {
                end_of_stream: self.is_at_end(),
                ..spliced
            };
        }
        self.look_at_memory(env.chunks);
        let is_pressed = to.look_at_memory(env.chunks);
        // While there is room in front of the last chunk, there is before each: all move at once.
        let all = self.receive.bytes();
        if !is_pressed && all <= to.send_room_least(env.tunables) {
            to.send.push_all(env.chunks, self.receive.take_all());
            spliced.bytes = all;
        }
        while !self.receive.is_empty() {
            if to.send_room(env.chunks, env.tunables) == 0 {
                to.marks.set(Marks::SEND_WAS_FULL);
                spliced.blocked = true;
                break;
            }
            let Some(index) = self.receive.pop(env.chunks) else {
                break;
            };
            let len = env
                .chunks
                .get(index)
                .map_or(0, |chunk| u32::from(chunk.len));
            to.send.push(env.chunks, index);
            spliced.bytes = spliced.bytes.wrapping_add(len);
        }
        count!(env.stats.payload_spliced_bytes, u64::from(spliced.bytes));
        self.on_read(spliced.bytes, env);
        if spliced.bytes > 0 {
            self.acknowledge_read();
            to.update_retransmit_timer(env.now, env.tunables);
        }
        spliced.end_of_stream = self.is_at_end();
        spliced
    }

    /// Queues a copy of as much of `data` as has room; returns the number of bytes. For probes,
    /// tests and generated headers; every byte is counted as copied.
    pub(crate) fn send_bytes<P: PacketPool>(&mut self, data: &[u8], env: &mut Env<'_, P>) -> usize {
        let mut queued = 0usize;
        while self.accepts_data() {
            let room = self.send_room(env.chunks, env.tunables) as usize;
            let rest = data.get(queued..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let wanted = rest.get(..rest.len().min(room)).unwrap_or_default();
            let copied = self.send.push_copy(env.chunks, env.pool, wanted, self.mss);
            if copied == 0 {
                self.marks.set(Marks::SEND_WAS_FULL);
                break;
            }
            queued = queued.saturating_add(copied);
        }
        count!(env.stats.payload_copied_bytes, queued as u64);
        self.update_retransmit_timer(env.now, env.tunables);
        queued
    }

    /// Copies received data out. For probes and tests; every byte is counted as copied.
    pub(crate) fn receive_bytes<P: PacketPool>(
        &mut self,
        out: &mut [u8],
        env: &mut Env<'_, P>,
    ) -> Received {
        let bytes = self.receive.copy_to(env.chunks, out);
        count!(env.stats.payload_copied_bytes, bytes as u64);
        self.on_read(bytes as u32, env);
        Received {
            bytes,
            end_of_stream: self.is_at_end(),
        }
    }

    /// Closes our side after what is queued (RFC 9293 section 3.10.4). Queued data still leaves.
    pub(crate) fn shutdown<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        match self.state {
            // RFC 9293 would forget the connection in SYN-SENT, and so does Linux. A balancer has
            // then queued a request that is complete already: the FIN follows it once the handshake
            // is done.
            State::SynSent | State::SynReceived => {
                self.fin_queued = true;
                Disposition::Continue
            }
            State::Established | State::CloseWait => {
                self.state = self.state.after_close();
                self.fin_queued = true;
                if self.look_at_memory(env.chunks) {
                    self.tack_fin(env.chunks);
                }
                self.update_retransmit_timer(env.now, env.tunables);
                Disposition::Continue
            }
            State::Closed
            | State::Listen
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => Disposition::Continue,
        }
    }

    /// Gives the connection up: nobody will read or be told. Unread data makes it a reset (RFC 2525
    /// section 2.17; behaviour: A25-8), otherwise our side closes and the rest happens without the
    /// application (behaviour: A25-14).
    pub(crate) fn close<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        self.orphan = true;
        if !self.receive.is_empty() {
            // What outlived the end of a connection resets nothing.
            if self.closed.is_none() {
                count!(env.stats.tcp_abort_on_close);
            }
            return self.abort(env);
        }
        self.ready = Ready::NONE;
        if self.closed.is_some() || self.state == State::TimeWait {
            return Disposition::Continue;
        }
        if self.state == State::SynSent {
            return self.finish(env, CloseReason::Aborted, None);
        }
        if self.is_open_child() {
            // Its FIN does not wait for the handshake, unlike that of a `shutdown`.
            self.state = self.state.after_close();
            self.fin_queued = true;
        }
        let disposition = self.shutdown(env);
        if self.state == State::FinWait2 {
            return self.close_in_fin_wait2(env);
        }
        disposition
    }

    /// The application has chosen the size of its receive buffer, or the largest window.
    pub(crate) fn take_receive_buffer(&mut self, tunables: &TcpTunables) {
        let special = &tunables.special;
        if special.receive_buffer != 0 {
            self.window.set_memory(tunables.receive_memory_initial());
        }
        if special.window_clamp != u32::MAX {
            self.window.lower_threshold(special.window_clamp);
        }
    }

    /// Resets the connection (RFC 9293 section 3.10.5).
    pub(crate) fn abort<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        if self.closed.is_some() || self.state == State::TimeWait {
            self.discard_received(env.chunks);
            return Disposition::Continue;
        }
        let reset = self.reset_segment(env.now).filter(|_| {
            // Both sides have closed and everything has left: the peer needs no reset (Linux:
            // `tcp_need_reset`).
            let closes = matches!(self.state, State::Closing | State::LastAck);
            !closes || self.unsent_bytes() > 0 || !self.receive.is_empty()
        });
        self.discard_received(env.chunks);
        self.finish(env, CloseReason::Aborted, reset)
    }

    /// The connection has ended: remembers why, forgets what was to be sent.
    pub(super) fn finish<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        reason: CloseReason,
        reset: Option<ResetSegment>,
    ) -> Disposition {
        if !self.extra.is_none() {
            self.leave_queue(env, false);
            self.judge_fast_open(env);
        }
        self.ready |= match reason {
            CloseReason::Finished | CloseReason::Aborted => Ready::NONE,
            CloseReason::Reset => Ready::RESET,
            CloseReason::Refused => Ready::REFUSED,
            CloseReason::TimedOut => Ready::TIMED_OUT,
            CloseReason::Unreachable => Ready::UNREACHABLE,
        };
        match (reason, self.state) {
            (_, State::SynSent | State::SynReceived) => count!(env.stats.tcp_attempt_fails),
            (CloseReason::Reset | CloseReason::Aborted, State::Established | State::CloseWait) => {
                count!(env.stats.tcp_estab_resets);
            }
            _ => {}
        }
        let cut_off = !matches!(reason, CloseReason::Finished | CloseReason::Aborted);
        let kept = cut_off && self.options.keep_unread && !self.orphan;
        if reason != CloseReason::Finished && !kept {
            self.discard_received(env.chunks);
        }
        self.send.clear(env.chunks);
        self.reassembly.clear(env.chunks);
        self.state = State::Closed;
        self.closed = Some(reason);
        self.timers = Timers::OFF;
        self.silence();
        self.tell_over();
        Disposition::Closed(reason, reset)
    }

    /// The last news, once nothing is left to read either.
    pub(super) fn tell_over(&mut self) {
        if self.is_over() {
            self.ready |= Ready::CLOSED;
        }
    }

    /// Frees every chunk; the connection may be dropped afterwards.
    pub(crate) fn release<B>(&mut self, chunks: &mut Chunks<B>) {
        self.send.clear(chunks);
        self.receive.clear(chunks);
        self.reassembly.clear(chunks);
        self.congestion.release(&mut chunks.congestion);
        self.release_extra(chunks);
    }

    /// Takes note of a path with another MTU: from the route, or from a router's complaint (RFC
    /// 1191, RFC 8201).
    pub(crate) fn on_path_mtu<P: PacketPool>(&mut self, mtu: u16, env: &mut Env<'_, P>) {
        if mtu >= self.mtu {
            return;
        }
        self.mtu = mtu;
        let before = self.mss;
        let searched = self.limit_search(env.chunks, mtu);
        self.update_mss(env.tunables, searched);
        if self.mss < before && self.state.is_synchronized() {
            self.retransmit_oversized(env);
        }
        if self.state == State::SynSent {
            self.shorten_syn(env.chunks);
        }
    }

    /// The route allows larger packets from now on.
    pub(crate) fn on_wider_route<P: PacketPool>(&mut self, mtu: u16, env: &mut Env<'_, P>) {
        if mtu > self.mtu {
            self.mtu = mtu;
            let searched = self.searched(env.chunks);
            self.update_mss(env.tunables, searched);
        }
    }

    /// Sets options of this connection.
    pub(crate) fn set_options(
        &mut self,
        options: ConnectionOptions,
        env_now: Instant,
        tunables: &TcpTunables,
    ) {
        self.options = options;
        self.arm_keepalive(env_now, tunables);
    }

    /// The state.
    #[cfg(test)]
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The addresses and ports.
    #[inline]
    pub(crate) fn tuple(&self) -> &FlowTuple {
        &self.tuple
    }

    /// The earliest time at which `on_timer` has something to do.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Instant {
        self.timers.next()
    }

    /// Whether received data waits for the application.
    #[cfg(test)]
    pub(crate) fn has_unread(&self) -> bool {
        !self.receive.is_empty()
    }

    /// Whether the connection has ended and nothing waits to be read: its memory can go.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Closed | State::TimeWait) && self.receive.is_empty()
    }

    /// Whether everything the peer will ever send has been read, up to its FIN. A stream that was
    /// cut off (RST, timeout) has no end.
    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        let peer_closed = match self.state {
            State::CloseWait | State::Closing | State::LastAck | State::TimeWait => true,
            State::Closed => self.closed == Some(CloseReason::Finished),
            State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2 => false,
        };
        peer_closed && self.receive.is_empty()
    }

    /// Whether there is nothing to be spliced: neither data nor the end of them.
    #[inline]
    pub(crate) fn offers_nothing(&self) -> bool {
        self.receive.is_empty() && !self.is_at_end()
    }

    /// Whether a quoted sequence number (of an ICMP error) is of something in flight (RFC 5927
    /// section 4.1).
    #[inline]
    pub(crate) fn is_in_flight(&self, seq: SeqNumber) -> bool {
        // The SYN-ACK of a child, which may have sent more, is in flight too.
        let una = if self.marks.has(Marks::UNPROVEN) {
            self.una.minus(1)
        } else {
            self.una
        };
        seq.within(una, self.nxt.bytes_since(una).max(1))
    }

    /// Bytes the application may still queue.
    ///
    /// What was SACKed or lost has left the network and does not count: in recovery the window goes
    /// down and such data pile up behind a hole, and new data must be there for what the window still
    /// lets go (Linux: `sk_sndbuf` keeps the size that it had before). `tcp_wmem` bounds all of it.
    #[inline]
    pub(crate) fn send_room<B>(&self, chunks: &Chunks<B>, tunables: &TcpTunables) -> u32 {
        if self.send.board.is_clear() || self.window.is_pressed() {
            return self.send_room_least(tunables);
        }
        let [_, max] = tunables.tcp_wmem;
        let bytes = self.send.bytes();
        let held = bytes.saturating_sub(self.send.board.gone(chunks));
        let room = self.send_limit(tunables).saturating_sub(held);
        room.min(max.saturating_sub(bytes))
    }

    /// The same when all that is queued counts.
    #[inline]
    fn send_room_least(&self, tunables: &TcpTunables) -> u32 {
        if self.window.is_pressed()
            && self.send.queue().count() >= chunks_max_pressed(self.send.bytes())
        {
            return 0;
        }
        self.send_limit(tunables).saturating_sub(self.send.bytes())
    }

    /// Notes whether memory is short, for the window and the send queue; `true` when it is.
    #[inline]
    pub(super) fn look_at_memory<B>(&mut self, chunks: &Chunks<B>) -> bool {
        let is_pressed = chunks.is_pressed();
        self.window.note_memory(is_pressed);
        is_pressed
    }

    /// Payload bytes in flight as congestion control counts them.
    #[inline]
    pub(super) fn in_flight<B>(&self, chunks: &Chunks<B>) -> u32 {
        let sent = self.sent_bytes();
        let board = &self.send.board;
        if self.sack_permitted || self.recovery.dup_acks == 0 {
            return board.in_flight(chunks, sent);
        }
        // Without SACK each duplicate ACK says that one segment has left the network (RFC 5681
        // section 3.2).
        let left = u32::from(self.recovery.dup_acks).saturating_mul(u32::from(self.mss));
        // What is lost is the hole, or there is one that nobody knows of yet.
        let hole = board.lost(chunks).max(u32::from(self.mss));
        let most = sent.saturating_sub(hole);
        let flight = board.in_flight(chunks, sent);
        flight.saturating_sub(left.min(most))
    }

    /// Payload bytes sent and not acknowledged.
    #[inline]
    pub(super) fn sent_bytes(&self) -> u32 {
        self.send.bytes().saturating_sub(self.unsent_bytes())
    }

    /// Payload bytes queued and never sent.
    #[inline]
    pub(super) fn unsent_bytes(&self) -> u32 {
        if self.send.unsent() == NONE {
            0
        } else {
            self.send.end().bytes_since(self.nxt)
        }
    }

    /// Whether our FIN has been sent at least once.
    #[inline]
    pub(super) fn fin_sent(&self) -> bool {
        self.fin_queued && self.nxt.after(self.send.end())
    }

    /// What the send queue may hold: twice the congestion window, so that an ACK always finds the
    /// next window's data queued (Linux: `tcp_sndbuf_expand`), between the first and the largest
    /// `tcp_wmem`. The first while memory is short (Linux: `sk_stream_moderate_sndbuf`).
    #[inline]
    fn send_limit(&self, tunables: &TcpTunables) -> u32 {
        let [first, max] = tunables.tcp_wmem;
        if self.window.is_pressed() {
            return first.min(max);
        }
        let windows = self.congestion.sndbuf_expand();
        let bytes = self.congestion.cwnd.saturating_mul(windows);
        bytes.max(first).min(max)
    }

    /// Whether data may be queued: our side is open.
    #[inline]
    fn accepts_data(&self) -> bool {
        self.state.accepts_data_to_send() && !self.fin_queued
    }

    /// Tells of room once a third of the send buffer is free again (Linux:
    /// `sk_stream_is_writeable`).
    #[inline]
    pub(super) fn tell_writable<B>(&mut self, chunks: &Chunks<B>, tunables: &TcpTunables) {
        if self.marks.has(Marks::SEND_WAS_FULL)
            && self.send_room(chunks, tunables) > self.send_limit(tunables) / 3
        {
            self.marks.clear(Marks::SEND_WAS_FULL);
            self.ready |= Ready::WRITABLE;
        }
    }

    /// The application took `bytes`: the window may open.
    fn on_read<P: PacketPool>(&mut self, bytes: u32, env: &mut Env<'_, P>) {
        if bytes == 0 {
            return;
        }
        let mss = u32::from(self.ack.receive_mss());
        let used = self.memory_held_back(env.chunks);
        let tell = self.window.on_taken(bytes, used, mss, env.tunables);
        let rtt = self.rtt.srtt().map_or(0, millrace_base::Micros::as_micros);
        if self.window.is_measured(env.now, rtt) {
            self.right_size(env);
        }
        if tell && self.state.may_receive_data() && !self.has_only_its_syn(env.chunks) {
            self.ack.send_now();
        }
        self.tell_over();
    }

    /// The application has read for a round trip: its memory follows.
    fn right_size<P: PacketPool>(&mut self, env: &Env<'_, P>) {
        let early = self.early_span(env.chunks);
        let memory_max = env.tunables.receive_memory_max();
        self.window.adjust(env.now, early, memory_max);
    }

    fn discard_received<B>(&mut self, chunks: &mut Chunks<B>) {
        self.receive.clear(chunks);
    }

    /// Nothing more leaves from here.
    pub(super) fn silence(&mut self) {
        self.syn_pending = false;
        self.marks.clear(Marks::PROBE_PENDING);
        self.marks.clear(Marks::FIN_LOST);
        self.ack.cancel();
    }

    /// Checks what must hold in every reachable state; in production a violation is the caller's
    /// reason to give this connection up.
    #[inline]
    pub(super) fn holds<B>(&self, chunks: &Chunks<B>) -> bool {
        let limit = self.send.end().plus(1);
        let ordered = invariant!(self.una.before_or_eq(self.nxt), "{self:?}");
        let bounded = invariant!(self.nxt.before_or_eq(limit), "{self:?}");
        let window = invariant!(
            self.window.nxt.before_or_eq(self.window.edge().plus(1)),
            "{self:?}"
        );
        let board = &self.send.board;
        let lost = invariant!(board.sacked(chunks) <= self.send.bytes(), "{self:?}");
        debug_assert!(board.is_consistent(chunks, self.send.queue()), "{self:?}");
        ordered && bounded && window && lost
    }
}
