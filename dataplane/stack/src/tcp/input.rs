//! A segment arrives: the checks of RFC 9293 section 3.10.7 in their order, one function each.
//!
//! The order is PAWS, sequence number, RST, SYN, ACK, text, FIN. A check that ends the segment says
//! what the driver must do; the others pass it on. Urgent data is taken in line and never told of
//! (RFC 6093 section 4): the pointer is not forwarded by a splice.

use core::ops::ControlFlow;

use millrace_base::{PacketBuf, PacketPool, SeqNumber, Stamp};
use millrace_wire::TcpFlags;

use super::ack_delay::QUICK_ACKS_MAX;
use super::chunk::ChunkQueue;
use super::config::TcpTunables;
use super::connection::Connection;
use super::marks::Marks;
use super::ready::Ready;
use super::reassembly::SeqRange;
use super::segment::{CloseReason, Disposition, Env, ResetSegment, Segment, TimeWaitRecord};
use super::state::State;
use super::timers::Timers;
use crate::stats::count;
use crate::verdict::DropReason;

impl Connection {
    /// Takes one segment of this connection whose checksum is good.
    pub(crate) fn handle_segment<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: Segment<P::Buf>,
    ) -> Disposition {
        let disposition = match self.state {
            State::Closed | State::Listen | State::TimeWait => {
                env.stats.drop(DropReason::StateIgnored);
                Disposition::Continue
            }
            State::SynSent => self.on_syn_sent(env, segment),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => match self.check(env, &segment) {
                ControlFlow::Continue(()) => self.process_payload(env, segment),
                ControlFlow::Break(disposition) => disposition,
            },
        };
        if disposition != Disposition::Continue {
            return disposition;
        }
        if self.orphan && self.state == State::FinWait2 {
            return self.hand_to_record(env);
        }
        self.checked(env)
    }

    /// Goes on, unless the connection is in a state that cannot be.
    #[inline]
    pub(super) fn checked<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        if self.holds(env.chunks) {
            return Disposition::Continue;
        }
        env.stats.drop(DropReason::Bug);
        self.abort(env)
    }

    /// Everything before the text of the segment.
    #[inline]
    fn check<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        if self.marks.has(Marks::UNPROVEN) {
            self.check_unproven(env, segment)?;
        }
        self.check_timestamp(env, segment)?;
        self.check_sequence(env, segment)?;
        self.check_reset(env, segment)?;
        self.check_syn(env, segment)?;
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# if the ACK bit is off, drop the segment and return
        if !segment.flags.ack() {
            env.stats.drop(DropReason::AckMissing);
            return ControlFlow::Break(Disposition::Continue);
        }
        if self.marks.has(Marks::UNPROVEN) {
            self.prove(env, segment)?;
        } else if self.state == State::SynReceived {
            self.check_ack_of_syn_ack(env, segment)?;
        }
        self.received_at = Stamp::of(env.now);
        if self.ack.ecn.is_accurate() {
            self.count_codepoint(env, segment);
        }
        self.process_ack(env, segment)
    }

    /// PAWS (RFC 7323 section 5.3). A RST is not judged by its timestamp, as in Linux.
    #[inline]
    fn check_timestamp<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        let Some(stamps) = segment
            .options
            .timestamps
            .filter(|_| self.timestamps.agreed())
        else {
            return ControlFlow::Continue(());
        };
        if segment.flags.rst() || !self.timestamps.rejects(stamps.value, env.now) {
            return ControlFlow::Continue(());
        }
        // A pure duplicate ACK that was merely overtaken says nothing wrong (Linux:
        // tcp_disordered_ack).
        let rto = self
            .rtt
            .rto(env.tunables)
            .as_millis()
            .min(u64::from(u32::MAX)) as u32;
        let overtaken = segment.len() == 0
            && segment.seq == self.window.nxt
            && segment.ack == self.una
            && self.timestamps.is_slightly_old(stamps.value, rto);
        if overtaken {
            return ControlFlow::Continue(());
        }
        count!(env.stats.paws_estab);
        env.stats.drop(DropReason::PawsRejected);
        if segment.flags.syn() {
            // Only what carries data or a FIN may ask for an ACK without a limit: a peer that is
            // alive has lost ours (Linux: `syn_challenge`).
            self.challenge(env);
        } else if segment.len() > 0 || self.may_answer(env) {
            self.note_duplicate(segment, env);
            self.ack.send_now();
        } else {
            count!(env.stats.tcp_ack_skipped_paws);
        }
        ControlFlow::Break(Disposition::Continue)
    }

    /// Is any of it inside the receive window? (RFC 9293 section 3.10.7.4, first.)
    ///
    /// Linux's form: nothing may start beyond the right edge or end before the last ACK sent. It
    /// lets pass what was acknowledged since then, whose ACK field is still good.
    #[inline]
    fn check_sequence<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        let end = segment.end();
        let edge = self.window.edge().latest(self.window.nxt);
        let is_new = end.after_or_eq(self.window.acked);
        if is_new && segment.seq.before_or_eq(edge) {
            // What reaches beyond the edge is taken whole or not at all: whole while nothing waits to
            // be read. A FIN alone may lie behind the edge (Linux: `tcp_sequence`).
            let payload_end = end.minus(u32::from(segment.flags.fin()));
            if payload_end.before_or_eq(edge) || self.receive.is_empty() {
                return ControlFlow::Continue(());
            }
        }
        if is_new {
            count!(env.stats.beyond_window);
        }
        if segment.flags.rst() {
            if self.is_reset_after_fin(segment.seq) {
                return ControlFlow::Break(self.on_reset(env));
            }
            env.stats.drop(DropReason::ResetOutOfWindow);
            return ControlFlow::Break(Disposition::Continue);
        }
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# If an incoming segment is not acceptable, an acknowledgment should be sent in reply
        env.stats.drop(DropReason::OutOfWindow);
        if segment.flags.syn() {
            self.challenge(env);
        } else if segment.payload_len > 0 || self.may_answer(env) {
            self.note_duplicate(segment, env);
            self.ack.send_now();
        } else {
            count!(env.stats.tcp_ack_skipped_seq);
        }
        ControlFlow::Break(Disposition::Continue)
    }

    /// The text and the FIN (RFC 9293 section 3.10.7.4, seventh and eighth).
    #[inline]
    pub(super) fn process_payload<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: Segment<P::Buf>,
    ) -> Disposition {
        if segment.payload_len == 0 && !segment.flags.fin() {
            return Disposition::Continue;
        }
        if !self.state.may_receive_data() {
            return self.ignore_payload(env, &segment);
        }
        if !self.ack.ecn.is_off() {
            self.heed_marks(env, &segment);
        }
        let seq = segment.seq.plus(u32::from(segment.flags.syn()));
        let end = seq.plus(segment.payload_len);
        let deaf = self.orphan || self.marks.has(Marks::DEAF);
        if deaf && end.after(self.window.nxt) && self.state.waits_for_peer_fin() {
            return self.refuse_late_data(env, &segment);
        }
        let nxt = self.window.nxt;
        let is_closed = self.window.size() == 0 && segment.payload_len > 0;
        if segment.flags.fin() && end.after_or_eq(nxt) && !is_closed {
            self.peer_fin = end;
            self.marks.set(Marks::PEER_FIN_CAME);
        }
        self.take_text(env, segment, SeqRange { start: seq, end });
        if self.marks.has(Marks::PEER_FIN_CAME) && self.peer_fin == self.window.nxt {
            return self.on_peer_fin(env);
        }
        Disposition::Continue
    }

    /// Data came after the application said, on both sides, that it is done.
    //= https://www.rfc-editor.org/rfc/rfc1122#section-4.2.2.13
    //# its TCP SHOULD send a RST to show that data was lost
    // behaviour: A16-17, A16-23
    fn refuse_late_data<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> Disposition {
        count!(env.stats.tcp_abort_on_data);
        env.stats.drop(DropReason::DataAfterClose);
        let reason = if self.orphan {
            CloseReason::Aborted
        } else {
            CloseReason::Reset
        };
        // As for a segment that belongs to nobody.
        self.finish(env, reason, Some(ResetSegment::refusing(segment.ack)))
    }

    /// After the peer's FIN there is nothing to take; its FIN came again because our ACK was lost.
    fn ignore_payload<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> Disposition {
        env.stats.drop(DropReason::StateIgnored);
        if segment.end().before_or_eq(self.window.nxt) {
            self.note_duplicate(segment, env);
            self.ack.send_now();
        }
        Disposition::Continue
    }

    fn take_text<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: Segment<P::Buf>,
        range: SeqRange,
    ) {
        if segment.payload_len == 0 {
            // A FIN alone; one that is early is remembered, and told of like early data.
            if range.start.after(self.window.nxt) {
                self.ack.send_now();
            }
            return;
        }
        let nxt = self.window.nxt;
        // With the window closed nothing is taken, and nothing behind a FIN. `check_sequence` has let
        // pass what may reach beyond the edge.
        let is_closed = self.window.size() == 0;
        let is_beyond = range.start.after_or_eq(self.window.edge().latest(nxt));
        let end = if is_closed || is_beyond {
            nxt
        } else {
            range.end
        };
        let end = if self.marks.has(Marks::PEER_FIN_CAME) {
            end.earliest(self.peer_fin)
        } else {
            end
        };
        if end.before_or_eq(nxt) || end.before_or_eq(range.start) {
            if is_closed && range.start == nxt {
                count!(env.stats.tcp_zero_window_drop);
            }
            self.refuse_text(env, &segment);
            return;
        }
        let most = self.largest_segment();
        let len = match &segment.payload {
            Some(payload) if segment.payload_len > u32::from(most) => {
                self.merged_segment_bytes(payload.rx_meta().segment_bytes, segment.payload_len)
            }
            _ => segment.payload_len,
        };
        if range.start.before_or_eq(nxt) && self.note_data_arrival(env, len, most) {
            self.window.weigh(segment.payload_len, env.tunables);
        }
        let arrived = segment.payload_len;
        let had_holes = !self.reassembly.is_empty();
        let wanted = SeqRange {
            start: range.start.latest(nxt),
            end,
        };
        if range.start.before(nxt) && self.tells_duplicates(env.tunables) {
            let duplicate = SeqRange {
                start: range.start,
                end: nxt,
            };
            self.reassembly.note_duplicate(env.chunks, duplicate);
            count!(env.stats.tcp_dsack_old_sent);
        }
        if let Some(payload) = segment.payload {
            self.queue_text(env, payload, range.start, wanted);
        }
        if self.window.is_opening() {
            self.open_window(env, arrived);
        }
        let pushed = segment.flags.contains(TcpFlags::PSH);
        self.after_text(env, nxt, (had_holes, pushed));
    }

    /// Bytes of the segments that a merged frame of `payload_len` bytes was made of. `told` is what the
    /// device said; where it said nothing, the largest size that divides it and that the peer's MSS
    /// allows.
    #[cold]
    fn merged_segment_bytes(&self, told: u16, payload_len: u32) -> u32 {
        if told != 0 {
            return told.into();
        }
        let most = self.largest_segment().min(self.peer_mss);
        let sizes = (MERGED_SEGMENT_MIN..=u32::from(most)).rev();
        let mut fitting = sizes.filter(|size| payload_len.checked_rem(*size) == Some(0));
        fitting.next().unwrap_or(most.into())
    }

    /// Nothing of it can be used: it was received before, or lies beyond the window.
    fn refuse_text<P: PacketPool>(&mut self, env: &mut Env<'_, P>, segment: &Segment<P::Buf>) {
        let old = segment.end().before_or_eq(self.window.nxt);
        env.stats.drop(if old {
            DropReason::Duplicate
        } else {
            DropReason::OutOfWindow
        });
        if old {
            self.note_duplicate(segment, env);
        }
        self.enter_quick_mode(QUICK_ACKS_MAX);
        self.ack.send_now();
    }

    /// What to tell both sides after text was queued; `before` is RCV.NXT as it was.
    #[inline]
    fn after_text<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        before: SeqNumber,
        (had_holes, pushed): (bool, bool),
    ) {
        self.window.cover();
        let taken = self.window.nxt.bytes_since(before);
        let has_holes = !self.reassembly.is_empty();
        if taken > 0 {
            self.bytes_received.add(taken);
            self.ready |= Ready::READABLE;
        }
        if had_holes && taken > 0 {
            self.reassembly.on_advance(env.chunks, self.window.nxt);
            if !has_holes {
                // The last hole was filled: the sender is waiting to hear it (RFC 5681 section 4.2).
                self.ack.send_now();
            }
        }
        if has_holes || taken == 0 {
            self.tell_of_holes(env, taken > 0);
        } else {
            self.schedule_ack(env, pushed);
        }
    }

    /// The peer's FIN is next (RFC 9293 section 3.10.7.4, eighth; behaviour: A27-1 to A27-5).
    fn on_peer_fin<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        self.window.nxt = self.window.nxt.plus(1);
        self.marks.clear(Marks::PEER_FIN_CAME);
        self.reassembly.clear(env.chunks);
        self.ready |= Ready::PEER_CLOSED;
        self.ack.send_now();
        self.ack.start_ping_pong();
        self.state = self.state.after_peer_fin(false);
        if self.state == State::TimeWait {
            self.enter_time_wait(env)
        } else {
            Disposition::Continue
        }
    }

    /// The connection's tuple is handed to a record; received data may still wait here.
    pub(super) fn enter_time_wait<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        let ack_now = self.ack.due() > 0 || !self.timers.delayed_ack.is_never();
        let record = TimeWaitRecord {
            tuple: self.tuple,
            snd_nxt: self.nxt,
            rcv_nxt: self.window.nxt,
            rcv_wnd: self.window.size(),
            rcv_scale: self.window.scale(),
            timestamps: self.timestamps.agreed(),
            ts_recent: self.timestamps.recent,
            ts_recent_at: self.timestamps.recent_at_seconds(),
            ts_offset: self.timestamps.offset,
            ack_now,
            fin_wait2_secs: 0,
        };
        if !self.extra.is_none() {
            self.judge_fast_open(env);
        }
        self.state = State::TimeWait;
        self.send.clear(env.chunks);
        self.reassembly.clear(env.chunks);
        self.timers = Timers::OFF;
        self.silence();
        self.tell_over();
        Disposition::TimeWait(record)
    }

    /// The peer's SYN came twice: acknowledged at once, and reported by D-SACK.
    pub(super) fn note_repeated_syn<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        seq: SeqNumber,
    ) {
        if self.tells_duplicates(env.tunables) {
            count!(env.stats.tcp_dsack_old_sent);
            let duplicate = SeqRange {
                start: seq,
                end: seq.plus(1),
            };
            self.reassembly.note_duplicate(env.chunks, duplicate);
        }
        self.ack.send_now();
    }

    /// Whether an ACK will report duplicates: what none reports would be kept for ever (Linux:
    /// `tcp_dsack_set`).
    pub(super) fn tells_duplicates(&self, tunables: &TcpTunables) -> bool {
        self.sack_permitted && tunables.tcp_dsack
    }

    /// A duplicate to report by D-SACK (RFC 2883; Linux: `tcp_dsack_set`).
    fn note_duplicate<P: PacketPool>(&mut self, segment: &Segment<P::Buf>, env: &mut Env<'_, P>) {
        if segment.len() > 0 && segment.seq.before(self.window.nxt) {
            // The peer has lost our last ACK: tell the next ones at once (Linux: tcp_send_dupack).
            count!(env.stats.delayed_ack_lost);
            self.enter_quick_mode(QUICK_ACKS_MAX);
        }
        let end = segment.end().earliest(self.window.nxt);
        let useful = self.tells_duplicates(env.tunables) && segment.payload_len > 0;
        if useful && segment.seq.before(end) {
            count!(env.stats.tcp_dsack_old_sent);
            let duplicate = SeqRange {
                start: segment.seq,
                end,
            };
            self.reassembly.note_duplicate(env.chunks, duplicate);
        }
    }
}

/// No peer makes full segments smaller than this (Linux: `TCP_MSS_DEFAULT`).
const MERGED_SEGMENT_MIN: u32 = 536;

// What one connection can hold of received data is bounded by the window, which counts bytes, and
// by these.
const _: () =
    assert!(super::recv_buffer::RECEIVE_CHUNKS_MAX > super::reassembly::REASSEMBLY_CHUNKS_MAX);
const _: () = assert!(size_of::<ChunkQueue>() == 16);
