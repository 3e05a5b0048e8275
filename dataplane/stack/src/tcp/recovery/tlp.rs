//! The tail loss probe: when nothing is heard of the last segments, one more segment makes the peer
//! say what it has, long before the timeout (RFC 8985 section 7).
//!
//! Once per tail: new data if the peer's window takes some, else the last segment again. What the
//! ACK of a retransmitted probe means is decided in `process_probe_ack`.

use millrace_base::{PacketPool, Stamp};
use millrace_wire::TcpFlags;

use super::Phase;
use super::alert::Told;
use crate::path::Path;
use crate::stats::count;
use crate::tcp::chunk::{Chunks, NONE};
use crate::tcp::connection::Connection;
use crate::tcp::emit::Run;
use crate::tcp::marks::Marks;
use crate::tcp::segment::Env;

/// The probe of the present tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probe {
    /// None is out.
    None,
    /// One is to be sent.
    Due,
    /// New data was sent.
    NewData,
    /// The last segment was sent again.
    Retransmission,
}

impl Connection {
    /// Whether a probe is out and not answered (Linux: `tlp_high_seq`).
    pub(super) fn is_probe_out<B>(&self, chunks: &Chunks<B>) -> bool {
        let probe = self.send.board.view(chunks).probe;
        matches!(probe, Probe::NewData | Probe::Retransmission)
    }

    /// Whether one is to be sent.
    #[inline]
    pub(in crate::tcp) fn is_probe_due<B>(&self, chunks: &Chunks<B>) -> bool {
        !self.send.board.is_clear() && self.send.board.view(chunks).probe == Probe::Due
    }

    /// The probe's time has come. behaviour: TMR-31
    pub(in crate::tcp) fn on_probe_time<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.una == self.nxt || self.is_probe_out(env.chunks) {
            return self.restart_timeout(env);
        }
        if self.defer_probe(env) {
            return;
        }
        if self.recovery.stalled_since.is_never() {
            // A user's timeout counts from when the oldest segment left first.
            self.recovery.stalled_since = Stamp::of(self.head_sent_at(env));
        }
        let board = &mut self.send.board;
        board.edit(env.chunks, |ledger| ledger.probe = Probe::Due);
        self.marks.set(Marks::PROBE_PENDING);
        // Until the next turn, which is at once.
        self.restart_timeout(env);
    }

    /// The probe itself: `None` when it cannot be sent; then the timeout remains.
    pub(in crate::tcp) fn emit_tail_probe<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        self.marks.clear(Marks::PROBE_PENDING);
        let frame = if self.una == self.nxt {
            // Everything was acknowledged meanwhile.
            (None, Probe::None)
        } else if self.unsent_bytes() > 0 && self.first_unsent_fits(env) {
            let frame = self.emit_new_probe(env, path);
            (frame, Probe::NewData)
        } else {
            let frame = self.emit_last_again(env, path);
            (frame, Probe::Retransmission)
        };
        let probe = if frame.0.is_some() {
            frame.1
        } else {
            Probe::None
        };
        let nxt = self.nxt;
        let board = &mut self.send.board;
        board.edit(env.chunks, |it| (it.probe, it.probe_end) = (probe, nxt));
        if frame.0.is_some() {
            count!(env.stats.tcp_loss_probes);
            // From now, not from when the head left.
            self.timers.retransmit = Stamp::NEVER;
        }
        self.restart_timeout(env);
        self.send.board.settle(env.chunks, false);
        frame.0
    }

    /// Whether the peer's window takes the next segment; ours is ignored for once.
    // behaviour: A3-35
    fn first_unsent_fits<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        let first = env.chunks.get(self.send.unsent());
        let bytes = first.map_or(0, |chunk| u32::from(chunk.len.min(self.mss)));
        self.state.may_transmit_data() && bytes > 0 && bytes <= self.usable_window()
    }

    fn emit_new_probe<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        let first = self.send.unsent();
        if !self.send.limit(env.chunks, first, self.mss.into()) {
            return None;
        }
        let bytes = env.chunks.get(first).map(|chunk| u32::from(chunk.len))?;
        let mut run = Run {
            first,
            count: 1,
            bytes,
            segment_bytes: 0,
        };
        // A whole segment, if there is enough for one: what the probe carries need not come again.
        if path.offloads.chains() {
            let room = self.usable_window().min(self.mss.into());
            self.fill_run(env, path, &mut run, room);
        }
        self.emit_one(env, path, run)
    }

    fn emit_last_again<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        if self.has_separate_fin_out(env.chunks) {
            return self.emit_fin(env, path);
        }
        let unsent = self.send.unsent();
        let last = match env.chunks.get(unsent) {
            Some(chunk) => chunk.prev(),
            None => self.send.queue().tail(),
        };
        let run = self.last_segment(env, path, last)?;
        let frame = self.emit_again(env, path, run, TcpFlags::PSH)?;
        self.note_probed(env, run);
        self.stamp_sent(env, (run.first, run.count), false);
        Some(frame)
    }

    /// An ACK while a probe is out: was the tail lost? (Linux: `tcp_process_tlp_ack`.)
    //= https://www.rfc-editor.org/rfc/rfc8985#section-7.4.2
    //# TLP_process_ack
    pub(super) fn process_probe_ack<P: PacketPool>(&mut self, env: &mut Env<'_, P>, told: &Told) {
        let ledger = self.send.board.view(env.chunks);
        let (was_new, end) = (ledger.probe == Probe::NewData, ledger.probe_end);
        if self.una.before(end) {
            return;
        }
        let arrived_twice = told.dsack.is_some_and(|it| it.is_probe);
        if was_new || arrived_twice {
            self.end_probe(env);
        } else if self.una.after(end) {
            // More than the probe is acknowledged and no duplicate was reported: the probe repaired
            // a loss, which is a sign of congestion.
            self.begin_reduction(env, false);
            self.enter_phase(env, Phase::Cwr);
            self.end_reduction(env);
            self.keep_open(env);
            count!(env.stats.tcp_loss_probe_recovery);
        } else if told.is_repeated && !told.sacked {
            // Original and probe both arrived, of a peer that does not report what came twice.
            self.end_probe(env);
        }
    }

    fn end_probe<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let board = &mut self.send.board;
        board.edit(env.chunks, |ledger| ledger.probe = Probe::None);
    }

    /// Whether our FIN is out in a segment of its own.
    pub(in crate::tcp) fn has_separate_fin_out<B>(&self, chunks: &Chunks<B>) -> bool {
        let tail = self.send.queue().tail();
        self.fin_sent()
            && (tail == NONE
                || chunks
                    .get(tail)
                    .is_none_or(|chunk| !chunk.has(crate::tcp::chunk::WITH_FIN)))
    }
}
