//! The side that opens: what the SYN carries, what its answer says of it, and when to stop trying.
//!
//! Linux: `tcp_send_syn_data`, `tcp_rcv_fastopen_synack`, `tcp_fastopen_active_*`.

use millrace_base::{PacketPool, Stamp};
use millrace_wire::tcp::{FastOpenCookie, OPTIONS_BYTES_MAX};

use super::memory::Lesson;
use super::{CLIENT_NO_COOKIE, FastOpen, FastOpenFailure, FastOpenInfo, FastOpenRequest, Plan};
use crate::stats::count;
use crate::tcp::chunk::{Chunks, NONE, PUSHED};
use crate::tcp::connection::Connection;
use crate::tcp::emit::Run;
use crate::tcp::marks::Marks;
use crate::tcp::segment::{Env, Segment};
use crate::tcp::state::State;

/// Room that is left for options others may add on the way.
const OPTIONS_ROOM: u16 = OPTIONS_BYTES_MAX as u16;

impl Connection {
    /// Plans the first SYN, which has not left yet: queues what it carries and returns how many bytes
    /// that is.
    pub(crate) fn prepare_fast_open<P: PacketPool>(
        &mut self,
        request: &FastOpenRequest<'_>,
        env: &mut Env<'_, P>,
    ) -> usize {
        let known = env.chunks.metrics.server(&self.tuple);
        let timeout_secs = env.tunables.tcp_fastopen_blackhole_timeout_sec;
        let (is_paused, checks) = env.chunks.fastopen.is_paused(env.now, timeout_secs);
        let Some(extra) = self.extra_mut(env.chunks) else {
            return 0;
        };
        let fast = &mut extra.fastopen;
        fast.user_mss = request.user_mss;
        fast.checks = checks;
        if is_paused {
            return 0;
        }
        let is_free = request.no_cookie || env.tunables.tcp_fastopen & CLIENT_NO_COOKIE != 0;
        if !is_free && known.cookie.is_empty() {
            let question = FastOpenCookie::default().in_experiment(known.tried == 1);
            fast.failure = FastOpenFailure::CookieUnavailable;
            fast.plan = Plan::Fast(Some(question));
            return 0;
        }
        fast.plan = Plan::Fast((!is_free).then_some(known.cookie));
        self.queue_for_syn(request, known.mss, env)
    }

    /// What the next SYN or SYN-ACK carries.
    pub(in crate::tcp) fn plan_of_syn<B>(&self, chunks: &Chunks<B>) -> Plan {
        self.extra(chunks)
            .map_or(Plan::Plain, |extra| extra.fastopen.plan)
    }

    /// What is queued for the SYN: all of it leaves in one frame. `None` when there is nothing.
    pub(in crate::tcp) fn syn_run<B>(&self, chunks: &Chunks<B>) -> Option<Run> {
        let first = self.send.unsent();
        let mut run = Run {
            first,
            count: 0,
            bytes: 0,
            segment_bytes: 0,
        };
        let mut index = first;
        while index != NONE {
            let chunk = chunks.get(index)?;
            run.count = run.count.saturating_add(1);
            run.bytes = run.bytes.saturating_add(chunk.len.into());
            index = chunk.next();
        }
        (run.count > 0).then_some(run)
    }

    /// A SYN or SYN-ACK has left as it was planned, with these chunks. It will not be like this
    /// again. Returns whether it was the first.
    pub(in crate::tcp) fn on_planned_sent<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        run: Option<Run>,
    ) -> bool {
        let (now, answer) = (env.now, self.state != State::SynSent);
        let Some(extra) = env.chunks.extras.get_mut(self.extra) else {
            return true;
        };
        let fast = &mut extra.fastopen;
        let is_first = !core::mem::replace(&mut fast.syn_sent, true);
        if let Some(child) = &mut fast.child
            && is_first
        {
            child.sent_at = Stamp::of(now);
        }
        let plan = core::mem::take(&mut fast.plan);
        if let Plan::Fast(Some(cookie)) = plan
            && !answer
        {
            fast.asked = true;
            fast.asked_experimentally = cookie.is_experimental();
        }
        let Some(run) = run else {
            return is_first;
        };
        fast.syn_data = true;
        for position in 0..run.count {
            self.send.mark_sent(env.chunks, now, position > 0);
        }
        self.nxt = self.nxt.plus(run.bytes);
        // When it is sent again, it has PSH, which the SYN has not.
        self.send.note_last_sent(env.chunks, PUSHED);
        self.send.board.on_sent(env.chunks, 1);
        count!(env.stats.tcp_orig_data_sent);
        is_first
    }

    /// The answer to a SYN of ours has come, and the connection is open: what it teaches, and what it
    /// did not acknowledge (`tcp_rcv_fastopen_synack`).
    pub(in crate::tcp) fn on_fast_open_answer<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) {
        let cleaned = self.send.acknowledge(env.chunks, segment.ack);
        self.bytes_acked.add(cleaned.bytes);
        let Some(FastOpen {
            asked,
            asked_experimentally,
            syn_data,
            ..
        }) = self.extra(env.chunks).map(|extra| extra.fastopen)
        else {
            return;
        };
        if !asked && !syn_data {
            return;
        }
        let again = self.retransmissions > 0;
        let offered = segment.options.fastopen;
        // A server that does not know the option is asked in its older form next time, once.
        let is_refused = asked && !again && offered.is_none() && !syn_data;
        let lesson = Lesson {
            mss: segment.options.mss.unwrap_or(self.default_mss()),
            // What was not asked for is not believed.
            cookie: offered.filter(|cookie| asked && !cookie.is_empty()),
            tried: match (is_refused, asked_experimentally) {
                (false, _) => 0,
                (true, false) => 1,
                (true, true) => 2,
            },
        };
        env.chunks.metrics.learn(&self.tuple, &lesson, env.now);
        if !syn_data {
            return;
        }
        let is_left = self.sent_bytes() > 0;
        if is_left {
            count!(env.stats.tcp_fast_open_active_fail);
            self.send_syn_data_again(env);
        } else {
            count!(env.stats.tcp_fast_open_active);
        }
        if let Some(extra) = self.extra_mut(env.chunks) {
            extra.fastopen.data_acked = !is_left;
            extra.fastopen.failure = match (is_left, again) {
                (false, _) => FastOpenFailure::None,
                (true, false) => FastOpenFailure::DataNotAcked,
                (true, true) => FastOpenFailure::SynRetransmitted,
            };
        }
    }

    /// A router has said that the SYN was too long: it leaves again without its data
    /// (`tcp_simple_retransmit`).
    pub(in crate::tcp) fn shorten_syn<B>(&mut self, chunks: &Chunks<B>) {
        let fast = self.extra(chunks).map(|extra| extra.fastopen);
        if fast.is_some_and(|fast| fast.syn_data) {
            self.syn_pending = true;
        }
    }

    /// A timeout: the third in a row, or the last before giving up, of a connection that was opened
    /// fast says that somebody on the way does not like it
    /// (`tcp_fastopen_active_detect_blackhole`).
    pub(in crate::tcp) fn detect_blackhole<P: PacketPool>(
        &self,
        env: &mut Env<'_, P>,
        is_over: bool,
    ) {
        let fast = self.extra(env.chunks).map(|extra| extra.fastopen);
        let was_fast = fast.is_some_and(|fast| fast.asked | fast.syn_data | fast.data_acked);
        let timeouts = self.recovery.timeouts;
        if was_fast && (timeouts == 2 || (timeouts < 2 && is_over)) {
            self.pause_fast_open(env);
        }
    }

    /// A RST that is not where it should be, before any data: somebody on the way invented it.
    pub(in crate::tcp) fn on_odd_reset<P: PacketPool>(&self, env: &mut Env<'_, P>) {
        let asked = self
            .extra(env.chunks)
            .is_some_and(|extra| extra.fastopen.asked);
        if asked && self.state == State::Established && !self.has_received() {
            self.pause_fast_open(env);
        }
    }

    /// The connection ends: what that says of Fast Open
    /// (`tcp_fastopen_active_disable_ofo_check`).
    pub(in crate::tcp) fn judge_fast_open<P: PacketPool>(&self, env: &mut Env<'_, P>) {
        let Some(fast) = self.extra(env.chunks).map(|extra| extra.fastopen) else {
            return;
        };
        if !fast.asked {
            return;
        }
        if self.has_received() {
            if fast.checks {
                env.chunks.fastopen.resume();
            }
        } else if self.marks.has(Marks::PEER_FIN_CAME) {
            // Its FIN came, and none of what it sent before.
            self.pause_fast_open(env);
        }
    }

    /// What is to be told of it.
    pub(in crate::tcp) fn fast_open_info<B>(&self, chunks: &Chunks<B>) -> FastOpenInfo {
        let Some(extra) = self.extra(chunks) else {
            return FastOpenInfo::default();
        };
        let fast = &extra.fastopen;
        FastOpenInfo {
            syn_data: fast.data_acked,
            failure: fast.failure,
            is_child: self.marks.has(Marks::UNPROVEN),
            is_accepted: fast.child.is_some_and(|child| child.accepted),
            user_mss: fast.user_mss,
        }
    }

    /// The MSS that the peer's SYN may mean at most for us: `TCP_MAXSEG` of who opened it.
    pub(in crate::tcp) fn clamped_mss<B>(&self, offered: u16, chunks: &Chunks<B>) -> u16 {
        match self.extra(chunks).map(|extra| extra.fastopen.user_mss) {
            None | Some(0) => offered,
            Some(own) => offered.min(own),
        }
    }

    /// Queues as much as fits: the server's last MSS and the path say how much that is, less the room
    /// of all options.
    fn queue_for_syn<P: PacketPool>(
        &mut self,
        request: &FastOpenRequest<'_>,
        known_mss: u16,
        env: &mut Env<'_, P>,
    ) -> usize {
        self.peer_mss = match known_mss {
            0 => self.largest_segment(),
            known => known,
        };
        if request.user_mss > 0 {
            self.peer_mss = self.peer_mss.min(request.user_mss);
        }
        self.update_mss(env.tunables, None);
        let room = self.mss.saturating_sub(OPTIONS_ROOM).into();
        let data = request.data.get(..room).unwrap_or(request.data);
        let mut queued = 0usize;
        // Each round takes at least a byte or ends.
        while let Some(rest) = data.get(queued..).filter(|rest| !rest.is_empty()) {
            let copied = self.send.push_copy(env.chunks, env.pool, rest, self.mss);
            if copied == 0 {
                break;
            }
            queued = queued.saturating_add(copied);
        }
        count!(env.stats.payload_copied_bytes, queued as u64);
        queued
    }

    /// What was in the SYN and was not acknowledged is lost, which says nothing of congestion
    /// (`tcp_non_congestion_loss_retransmit`).
    fn send_syn_data_again<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let unsent = self.send.unsent();
        let mut index = self.send.queue().head();
        while index != unsent {
            let Some(next) = env.chunks.get(index).map(|chunk| chunk.next()) else {
                break;
            };
            self.send.board.mark_lost(env.chunks, index);
            index = next;
        }
        self.recover_without_congestion(env);
    }

    fn pause_fast_open<P: PacketPool>(&self, env: &mut Env<'_, P>) {
        let timeout_secs = env.tunables.tcp_fastopen_blackhole_timeout_sec;
        let Env { chunks, stats, .. } = env;
        chunks.fastopen.pause(env.now, timeout_secs, stats);
    }

    /// Whether data has come, in order or not.
    fn has_received(&self) -> bool {
        self.bytes_received.value() > 0 || !self.reassembly.is_empty()
    }
}
