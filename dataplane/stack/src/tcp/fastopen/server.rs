//! The side that is opened: a connection made of a SYN, which may be accepted, read and written while
//! nobody knows yet whether the peer is where it says (RFC 7413 section 4.2).
//!
//! Its SYN-ACK has the retransmission timer, and nothing else is sent again, until the answer comes.
//! What a segment must be to be that answer is what it must be for a half-open one.
//!
//! Linux: `tcp_fastopen_create_child`, `tcp_check_req`, `tcp_fastopen_synack_timer`,
//! `tcp_rcv_synrecv_state_fastopen`.

use core::ops::ControlFlow;

use millrace_base::PacketPool;
use millrace_wire::tcp::FastOpenCookie;

use super::{Child, FastOpen, Plan};
use crate::stats::count;
use crate::tcp::chunk::Chunks;
use crate::tcp::config::TcpTunables;
use crate::tcp::connection::Connection;
use crate::tcp::marks::Marks;
use crate::tcp::ready::Ready;
use crate::tcp::reassembly::SeqRange;
use crate::tcp::rtt::RttEstimator;
use crate::tcp::segment::{CloseReason, Disposition, Env, ResetSegment, Segment};
use crate::tcp::state::State;
use crate::tcp::timers::Purpose;
use crate::verdict::DropReason;

impl Connection {
    /// Turns a connection that waits for its final ACK into one that was made of the SYN: its SYN-ACK,
    /// with `cookie`, is still to be sent. `false`, and nothing changed, when there is no room.
    pub(crate) fn begin_as_child<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        child: Child,
        cookie: Option<FastOpenCookie>,
        tunables: &TcpTunables,
    ) -> bool {
        let Some(extra) = self.extra_mut(chunks) else {
            return false;
        };
        extra.fastopen = FastOpen {
            plan: match cookie {
                None => Plan::Plain,
                cookie => Plan::Fast(cookie),
            },
            child: Some(child),
            ..FastOpen::default()
        };
        self.marks.set(Marks::UNPROVEN);
        // It sends before the handshake is over.
        self.update_mss(tunables, None);
        self.syn_pending = true;
        self.una = self.una.plus(1);
        self.rtt = RttEstimator::default();
        true
    }

    /// Takes the SYN's data, whatever buffers and windows say: the SYN-ACK acknowledges them
    /// (behaviour: A19-10).
    pub(crate) fn take_syn<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: Segment<P::Buf>,
    ) {
        self.set_send_window(segment.seq, u32::from(segment.window));
        let start = segment.seq.plus(1);
        let end = start.plus(segment.payload_len);
        let Some(payload) = segment.payload else {
            return;
        };
        // What the SYN-ACK offers behind the data.
        let offered = self.window.size().min(0xffff);
        self.queue_text(env, payload, start, SeqRange { start, end });
        let taken = self.window.nxt.bytes_since(start);
        if taken == 0 {
            return;
        }
        let scale = self.window.scale();
        self.window.open(self.window.nxt.minus(1), offered, scale);
        self.ack.note_data(env.now);
        if self.ack.measure(taken, self.largest_segment()) {
            self.window.weigh(taken, env.tunables);
        }
        self.bytes_received.add(taken);
        self.ready |= Ready::READABLE;
        if let Some(extra) = self.extra_mut(env.chunks) {
            extra.fastopen.data_acked = true;
            extra.fastopen.taken = taken.min(u32::from(u16::MAX)) as u16;
        }
    }

    /// Whether nothing has come but what was in the SYN: the peer has not used the window that was
    /// offered to it, and is not told of a larger one (Linux: `rcv_ssthresh` grows with data).
    pub(in crate::tcp) fn has_only_its_syn<B>(&self, chunks: &Chunks<B>) -> bool {
        let taken = self.extra(chunks).map_or(0, |extra| extra.fastopen.taken);
        taken > 0 && self.bytes_received.value() == u64::from(taken)
    }

    /// The application has accepted it.
    pub(crate) fn note_accepted<B>(&self, chunks: &mut Chunks<B>) {
        if self.marks.has(Marks::UNPROVEN)
            && let Some(extra) = chunks.extras.get_mut(self.extra)
            && let Some(child) = &mut extra.fastopen.child
        {
            child.accepted = true;
        }
    }

    /// What a segment must be before it is looked at like any other (`tcp_check_req`).
    pub(in crate::tcp) fn check_unproven<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        let flags = segment.flags;
        let stamps = segment
            .options
            .timestamps
            .filter(|_| self.timestamps.agreed());
        let is_old = stamps.is_some_and(|stamps| self.timestamps.is_old(stamps.value));
        let is_again = flags.syn() && !flags.ack() && !flags.rst();
        if is_again && !is_old && segment.seq.plus(1) == self.first_expected(env.chunks) {
            env.stats.drop(DropReason::RequestSynAgain);
            self.syn_pending |= self.may_answer_unproven(env);
            return ControlFlow::Break(Disposition::Continue);
        }
        if is_old || !self.is_inside(segment) {
            if is_old {
                count!(env.stats.paws_estab);
            }
            env.stats.drop(DropReason::RequestOutOfWindow);
            if !flags.rst() && self.may_answer_unproven(env) {
                self.ack.send_now();
            }
            return ControlFlow::Break(Disposition::Continue);
        }
        if flags.rst() {
            self.leave_queue(env, true);
            return ControlFlow::Break(self.on_reset(env));
        }
        // behaviour: A10-22. The connection stays: anybody can send a SYN.
        if flags.syn() {
            count!(env.stats.tcp_attempt_fails);
            env.stats.drop(DropReason::RequestReset);
            let reset = if flags.ack() {
                ResetSegment::refusing(segment.ack)
            } else {
                ResetSegment::answer(millrace_base::SeqNumber::new(0), Some(segment.end()))
            };
            return ControlFlow::Break(Disposition::Reset(reset));
        }
        if !flags.ack() {
            env.stats.drop(DropReason::RequestNoAck);
            return ControlFlow::Break(Disposition::Continue);
        }
        ControlFlow::Continue(())
    }

    /// The answer to our SYN-ACK: the peer is where it says. What was sent meanwhile gets the timer.
    pub(in crate::tcp) fn prove<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        if segment.ack.before(self.una) || segment.ack.after(self.nxt) {
            env.stats.drop(DropReason::AckUnacceptable);
            if self.state == State::SynReceived {
                let reset = ResetSegment::refusing(segment.ack);
                return ControlFlow::Break(Disposition::Reset(reset));
            }
            self.challenge(env);
            return ControlFlow::Break(Disposition::Continue);
        }
        let child = self.extra(env.chunks).and_then(|e| e.fastopen.child);
        let stamps = segment.options.timestamps;
        let echoed = stamps
            .filter(|_| self.timestamps.agreed())
            .and_then(|stamps| self.timestamps.elapsed(stamps.echo, env.now));
        match child {
            Some(child) if self.retransmissions == 0 => {
                let sent_at = child.sent_at.instant();
                self.measure(env.now.since(sent_at).to_micros(), env.tunables);
            }
            _ => {
                if let Some(elapsed) = echoed {
                    self.measure(elapsed, env.tunables);
                }
            }
        }
        self.leave_queue(env, false);
        let window = self.offered_window(segment);
        self.set_send_window(segment.seq, window);
        if self.state == State::SynReceived {
            self.ready |= Ready::CONNECTED | Ready::WRITABLE;
        }
        if self.ack.ecn.is_accurate() {
            self.begin_accurate_server(env, segment);
        }
        // What the timeouts cost was paid when they came.
        self.recovery.timeouts = 0;
        self.enter_established(env, false);
        self.update_retransmit_timer(env.now, env.tunables);
        ControlFlow::Continue(())
    }

    /// The SYN-ACK was not answered in time: it leaves again, and nothing else
    /// (behaviour: TMR-7).
    pub(in crate::tcp) fn on_unproven_timeout<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
    ) -> Disposition {
        count!(env.stats.tcp_timeouts);
        // One more than for a half-open one.
        let retries = env.tunables.tcp_synack_retries.saturating_add(1);
        if self.recovery.timeouts >= retries {
            count!(env.stats.tcp_abort_on_timeout);
            return self.finish(env, CloseReason::TimedOut, None);
        }
        if self.recovery.timeouts == 1 {
            self.enter_loss(env);
        }
        self.recovery.timeouts = self.recovery.timeouts.saturating_add(1);
        self.rtt.back_off();
        self.syn_pending = true;
        let rto = self.rtt.rto(env.tunables);
        self.timers.arm(Purpose::Retransmit, env.now, rto);
        Disposition::Continue
    }

    /// It counts no more for its listener (`reqsk_fastopen_remove`).
    pub(in crate::tcp) fn leave_queue<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        by_reset: bool,
    ) {
        if !self.marks.has(Marks::UNPROVEN) {
            return;
        }
        self.marks.clear(Marks::UNPROVEN);
        let extra = env.chunks.extras.get_mut(self.extra);
        if let Some(child) = extra.and_then(|extra| extra.fastopen.child.take()) {
            env.chunks.fastopen.queues.leave(&child, by_reset, env.now);
        }
    }

    /// Whether data may be sent although the handshake is not over.
    #[inline]
    pub(in crate::tcp) fn is_open_child(&self) -> bool {
        self.state == State::SynReceived && self.marks.has(Marks::UNPROVEN)
    }

    /// Whether the application has it already: then it is a connection like others to ICMP.
    pub(in crate::tcp) fn is_accepted_child<B>(&self, chunks: &Chunks<B>) -> bool {
        let child = self.extra(chunks).and_then(|extra| extra.fastopen.child);
        child.is_some_and(|child| child.accepted)
    }

    /// The sequence number behind the peer's SYN.
    fn first_expected<B>(&self, chunks: &Chunks<B>) -> millrace_base::SeqNumber {
        let child = self.extra(chunks).and_then(|extra| extra.fastopen.child);
        child.map_or(self.window.nxt, |child| child.irs.plus(1))
    }

    /// Linux's `tcp_in_window`.
    fn is_inside<B>(&self, segment: &Segment<B>) -> bool {
        let (start, end) = (segment.seq, segment.end());
        let (nxt, edge) = (self.window.nxt, self.window.edge());
        start == nxt || end.after(nxt) && start.before(edge) || start == edge && end == start
    }

    fn may_answer_unproven<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> bool {
        let may = self.may_answer(env);
        if !may {
            count!(env.stats.tcp_ack_skipped_syn_recv);
        }
        may
    }
}
