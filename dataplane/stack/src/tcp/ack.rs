//! Acknowledgments: when ours leave, and what the peer's say.
//!
//! Ours follow Linux: every second full segment at once, the first segments of a connection at once
//! (quick mode), anything else after a while (`ack_delay.rs`) or with the next data; a connection that
//! answers what it receives (ping-pong) waits for its answer. What tells of holes is
//! `ack_compression.rs`'s business. The driver calls for output once per burst, so a burst of
//! segments gets one ACK, as it would from GRO.
//!
//! The peer's are digested here in one place, and everybody downstream (RTT, recovery, congestion)
//! gets the result.

use core::ops::ControlFlow;

use millrace_base::{Instant, Micros, PacketPool, SeqNumber, Stamp};
use millrace_wire::Timestamps;

use super::ack_delay::{DELAY_TICK_MS, DELAY_TICKS_MIN, QUICK_ACKS_MAX};
use super::chunk::Chunks;
use super::config::{CongestionControl, TcpTunables};
use super::congestion::{AckEvent, Acked, Cut, Setting};
use super::connection::Connection;
use super::ecn::Ecn;
use super::marks::Marks;
use super::ready::Ready;
use super::recovery::Phase;
use super::recovery::dsack::Duplicate;
use super::recovery::scoreboard::Sacked;
use super::rtt::RttSample;
use super::segment::{CloseReason, Disposition, Env, Segment};
use super::send_buffer::Cleaned;
use super::state::State;
use crate::stats::count;
use crate::verdict::DropReason;

/// `AckPolicy::mode`: ACKs left in quick mode.
const QUICK: u8 = 0x1f;
/// `AckPolicy::mode`: what waits for an ACK ends what the peer had to say for now, and nobody is about to
/// answer (Linux: `ICSK_ACK_PUSHED`).
const PUSHED: u8 = 0x20;
/// `AckPolicy::mode`: there was no buffer for the last ACK.
const NO_BUFFER: u8 = 0x40;
/// `AckPolicy::mode`: the application answers what it receives, an ACK can travel with the answer.
const PING_PONG: u8 = 0x80;
const _: () = assert!(QUICK >= QUICK_ACKS_MAX && QUICK & (PUSHED | NO_BUFFER | PING_PONG) == 0);

/// When ACKs leave.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct AckPolicy {
    /// ACKs to send now. More than one only without SACK, where each tells of one out-of-order
    /// segment.
    due: u8,
    /// `QUICK`, `PUSHED`, `NO_BUFFER`, `PING_PONG`.
    mode: u8,
    /// How long an ACK waits at most for data to travel with, in ticks (`ack_delay.rs`; Linux:
    /// `icsk_ack.ato`); 0 until data came. While there is no buffer: how often there was none, and
    /// the delay is the shortest.
    delay: u8,
    /// What is agreed on and told about congestion.
    pub(super) ecn: Ecn,
    /// The largest payload seen: what a full segment of the peer is.
    receive_mss: u16,
    /// When data was received last, in milliseconds.
    data_at_ms: u32,
}

/// What one ACK changed, for everybody downstream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest {
    /// SND.UNA advanced, and where it was.
    pub(super) advanced: bool,
    pub(super) una_before: SeqNumber,
    /// What the cumulative part freed.
    pub(super) cleaned: Cleaned,
    /// What the selective part told.
    pub(super) sacked: Sacked,
    /// It says that something arrived twice.
    pub(super) dsack: Option<Duplicate>,
    /// It counts as a duplicate (RFC 5681 section 2).
    pub(super) duplicate: bool,
    /// It would, were anything in flight: it moves nothing and carries nothing.
    pub(super) is_repeated: bool,
    /// The round trip of the newest segment that it reports, for congestion control.
    pub(super) rtt: Option<Micros>,
    /// It acknowledges less than SND.UNA.
    pub(super) is_old: bool,
    /// It SACKs something that left after the oldest segment: the deadline counts from now.
    rearms: bool,
    /// It reports congestion of what was in flight (RFC 3168 section 6.1.2).
    pub(super) ece: bool,
    /// Segments that Accurate ECN says arrived marked.
    pub(super) marked: u32,
}

impl Digest {
    /// Whether recovery has to look at it.
    fn is_news(&self) -> bool {
        self.advanced || self.sacked.bytes > 0 || self.duplicate || self.dsack.is_some() || self.ece
    }
}

impl AckPolicy {
    pub(super) fn new() -> Self {
        Self {
            due: 0,
            mode: 0,
            delay: 0,
            ecn: Ecn::OFF,
            receive_mss: 536,
            data_at_ms: 0,
        }
    }

    /// The next `count` segments at least are acknowledged at once, if the application does not answer.
    pub(super) fn be_quick(&mut self, count: u8) {
        let count = count.min(QUICK);
        if self.mode & QUICK < count {
            self.mode = self.mode & !QUICK | count;
        }
    }

    /// How long an ACK waits, in ticks; 0 until data came.
    #[inline]
    pub(super) const fn delay_ticks(&self) -> u8 {
        if self.lacks_buffer() {
            DELAY_TICKS_MIN
        } else {
            self.delay
        }
    }

    /// Another delay, unless there is no buffer for ACKs.
    pub(super) const fn set_delay_ticks(&mut self, ticks: u8) {
        if !self.lacks_buffer() {
            self.delay = ticks;
        }
    }

    /// Whether the delay is the shortest, which regular data leave as it is.
    #[inline]
    pub(super) const fn is_delay_shortest(&self) -> bool {
        self.delay == DELAY_TICKS_MIN
    }

    /// Whether the last ACK found no buffer.
    const fn lacks_buffer(&self) -> bool {
        self.mode & NO_BUFFER != 0
    }

    /// There is no buffer for an ACK: nothing is due until it is tried again. Returns how often there
    /// was none before; not counted beyond `attempts_max`.
    pub(super) const fn give_up_once(&mut self, attempts_max: u8) -> u8 {
        let before = if self.lacks_buffer() { self.delay } else { 0 };
        self.due = 0;
        self.mode |= NO_BUFFER;
        self.delay = if before < attempts_max {
            before.saturating_add(1)
        } else {
            before
        };
        before
    }

    /// An ACK leaves with the next output.
    #[inline]
    pub(super) fn send_now(&mut self) {
        self.due = self.due.max(1);
    }

    /// One more ACK of its own leaves: without SACK every out-of-order segment must show.
    pub(super) fn send_duplicate(&mut self) {
        self.due = self.due.saturating_add(1);
    }

    /// ACKs that are due now.
    #[inline]
    pub(super) fn due(&self) -> u8 {
        self.due
    }

    /// A segment with an ACK left: what was due is told. Duplicates that are still due stay.
    #[inline]
    pub(super) fn on_sent(&mut self) {
        self.due = self.due.saturating_sub(1);
    }

    /// Whether a segment with an ACK changes more than what is due: `leave_mode`.
    #[inline]
    pub(super) const fn is_in_mode(&self) -> bool {
        self.mode & (QUICK | PUSHED | NO_BUFFER) != 0
    }

    /// A segment with an ACK left: there was a buffer. If it had something to tell (`is_scheduled`),
    /// quick mode nears its end, and the delay begins anew behind it (Linux:
    /// `tcp_dec_quickack_mode`).
    pub(super) fn leave_mode(&mut self, is_scheduled: bool) {
        self.mode &= !PUSHED;
        if self.lacks_buffer() {
            self.mode &= !NO_BUFFER;
            self.delay = DELAY_TICKS_MIN;
        }
        if is_scheduled && self.mode & QUICK != 0 {
            self.mode = self.mode.wrapping_sub(1);
            if self.mode & QUICK == 0 {
                self.delay = DELAY_TICKS_MIN;
            }
        }
    }

    /// The peer waits for the ACK that waits: it has said all for now.
    #[inline]
    fn note_pushed(&mut self) {
        if !self.is_ping_pong() {
            self.mode |= PUSHED;
        }
    }

    /// Whether the peer waits for the ACK that waits.
    #[inline]
    pub(super) fn is_pushed(&self) -> bool {
        self.mode & PUSHED != 0
    }

    /// Nothing is due any more.
    pub(super) fn cancel(&mut self) {
        self.due = 0;
    }

    /// Data left while the ACK of what came last could have waited: a conversation.
    #[inline]
    pub(super) fn on_data_sent(&mut self, now: Instant) {
        let since = (now.as_millis() as u32).wrapping_sub(self.data_at_ms);
        if since < u32::from(self.delay_ticks()).wrapping_mul(DELAY_TICK_MS) {
            self.mode |= PING_PONG;
        }
    }

    /// ACKs wait for data to travel with: the application says so, or will not send for long.
    pub(super) fn start_ping_pong(&mut self) {
        self.mode |= PING_PONG;
    }

    /// Whether ACKs wait for data to travel with.
    pub(super) fn is_ping_pong(&self) -> bool {
        self.mode & PING_PONG != 0
    }

    /// No answer came for the ACK to travel with: not a conversation after all (Linux:
    /// `tcp_delack_timer_handler`).
    pub(super) fn end_ping_pong(&mut self) {
        self.mode &= !PING_PONG;
    }

    /// What a full segment of the peer is, in bytes.
    #[inline]
    pub(super) fn receive_mss(&self) -> u16 {
        self.receive_mss
    }

    /// Learns from a received payload (Linux: `tcp_measure_rcv_mss`). Tells whether it was larger than any
    /// before.
    #[inline]
    pub(super) fn measure(&mut self, payload_len: u32, advertised: u16) -> bool {
        let len = payload_len.min(u32::from(advertised)) as u16;
        let is_larger = len > self.receive_mss;
        if is_larger {
            self.receive_mss = len;
        }
        is_larger
    }

    /// The next segment at least is acknowledged at once, unless data travel with it: the window has
    /// grown.
    pub(super) fn stay_quick(&mut self) {
        self.be_quick(1);
    }

    /// ACKs may wait: there is little to promise.
    pub(super) fn leave_quick_mode(&mut self) {
        self.mode &= !QUICK;
    }

    pub(super) fn limit_receive_mss(&mut self, advertised: u16) {
        self.receive_mss = self.receive_mss.min(advertised);
    }

    /// Data came, or the connection begins. Returns the milliseconds since that was so last.
    #[inline]
    pub(super) fn note_data(&mut self, now: Instant) -> u32 {
        let now_ms = now.as_millis() as u32;
        let before_ms = self.data_at_ms;
        self.data_at_ms = now_ms;
        now_ms.wrapping_sub(before_ms)
    }

    /// Whether the next segment is acknowledged at once.
    #[inline]
    pub(super) fn is_quick(&self) -> bool {
        let waits = self.mode & (QUICK | PING_PONG);
        waits.wrapping_sub(1) < QUICK
    }
}

impl Connection {
    /// Data was taken in order, or something came that shows that an ACK is needed: now or soon? `pushed`
    /// when the last of it had PSH.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6.3
    //# an ACK SHOULD be generated for at least every second full-sized segment
    #[inline(always)] // Two tests behind each burst.
    pub(super) fn schedule_ack<P: PacketPool>(&mut self, env: &Env<'_, P>, pushed: bool) {
        let unacked = self.window.nxt.bytes_since(self.window.acked);
        let mss = u32::from(self.ack.receive_mss());
        // Linux also asks whether the window could be told to be larger, and else leaves it to the
        // update after the application's read. Here the ACK leaves behind that read anyway.
        if unacked > mss || self.ack.is_quick() {
            self.ack.send_now();
        } else if unacked > 0 {
            self.delay_ack(env);
            if pushed {
                self.ack.note_pushed();
            }
        }
    }

    /// Everything that came has been taken: who said all for now is not kept waiting (Linux:
    /// `tcp_cleanup_rbuf`; behaviour: RDV-19).
    #[inline]
    pub(super) fn acknowledge_read(&mut self) {
        if self.ack.is_pushed() && self.receive.is_empty() && !self.ack.is_ping_pong() {
            self.ack.send_now();
        }
    }

    /// The ACK field of a synchronised connection (RFC 9293 section 3.10.7.4, fifth; RFC 5961
    /// section 5).
    #[inline]
    pub(super) fn process_ack<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the
        //# segment, and return.
        // SND.NXT never moves back here: a retransmission does not rewind it. Linux drops it without a
        // word while the connection is open, and challenges when one of the sides is closing (late 6.18.y
        // challenges always: docs/deviations.md).
        if segment.ack.after(self.nxt) {
            if self.state != State::Established {
                self.challenge(env);
            }
            env.stats.drop(DropReason::AckBeyondSent);
            return ControlFlow::Break(Disposition::Continue);
        }
        //= https://www.rfc-editor.org/rfc/rfc5961#section-5.2
        //# The ACK value is considered acceptable only if it is in the range of ((SND.UNA -
        //# MAX.SND.WND) =< SEG.ACK =< SND.NXT).
        // And no lower than the first byte that we ever sent (Linux: `tcp_ack`, `bytes_acked`).
        if segment.ack.before(self.una) && segment.ack.before(self.oldest_ack()) {
            self.challenge(env);
            env.stats.drop(DropReason::AckTooOld);
            return ControlFlow::Break(Disposition::Continue);
        }
        // Only a segment whose ACK means something moves TS.Recent (Linux: `tcp_replace_ts_recent`
        // in `tcp_ack`).
        let recent_before = self.timestamps.recent;
        if let Some(stamps) = segment.options.timestamps
            && self.timestamps.agreed()
            && segment.ack.after_or_eq(self.una)
        {
            self.timestamps
                .update(stamps.value, segment.seq, self.window.acked, env.now);
        }
        if self.tells_no_more_than_progress(segment) {
            let window = self.offered_window(segment);
            self.update_send_window(segment.seq, segment.ack, window);
            self.probes = 0;
            if segment.ack == self.una {
                return ControlFlow::Continue(());
            }
            return self.take_progress(env, segment.ack, segment.options.timestamps);
        }
        let is_stamp_newer = self.timestamps.recent != recent_before;
        self.heed_ack(env, segment, is_stamp_newer)
    }

    /// The oldest acknowledgment that may still be on its way: our SYN has a number, too.
    #[cold]
    fn oldest_ack(&self) -> SeqNumber {
        let sent = self.bytes_acked.value().saturating_add(1);
        self.una.minus(sent.min(self.wnd_max.into()) as u32)
    }

    /// Whether nothing is missing, doubted or reported, so that the ACK says how far the peer is, or
    /// nothing at all: then what `heed_ack` would do is known, as it is for a predicted segment.
    #[inline]
    fn tells_no_more_than_progress<B>(&self, segment: &Segment<B>) -> bool {
        // One that moves nothing while something is in flight may be a duplicate.
        let is_told = segment.ack.after(self.una)
            || (segment.ack == self.una && (self.una == self.nxt || segment.len() > 0));
        is_told
            && self.recovery.phase == Phase::Open
            && self.recovery.dup_acks == 0
            && self.send.board.is_clear()
            && self.ack.ecn.is_off()
            && self.extra.is_none()
            && segment.options.sack.is_empty()
    }

    /// SND.UNA advances to `ack`; nothing was lost before, and nothing says that something is.
    #[inline(always)] // Two callers, one of them for almost every ACK.
    pub(super) fn take_progress<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        ack: SeqNumber,
        stamps: Option<Timestamps>,
    ) -> ControlFlow<Disposition> {
        let cleaned = self.send.acknowledge(env.chunks, ack);
        self.bytes_acked.add(cleaned.bytes);
        let low = core::mem::replace(&mut self.una, ack);
        if cleaned.mended {
            self.note_mended(env, low);
        }
        let rtt = self.take_rtt_sample(env, stamps, &cleaned, None);
        self.grow(env, cleaned.segments, rtt);
        self.on_advance(env, false)
    }

    /// Any ACK: what it says of each segment, and what that means for recovery and the window.
    fn heed_ack<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
        is_stamp_newer: bool,
    ) -> ControlFlow<Disposition> {
        let mut digest = self.digest(env, segment);
        if self.ack.ecn.is_accurate() {
            self.digest_counters(env, segment, &mut digest, is_stamp_newer);
        } else if !digest.is_old {
            self.heed_reduction(segment);
        }
        self.tell_of_ack(env, &digest);
        let mut timer_is_set = false;
        // Of an old ACK only what it SACKs counts.
        let is_void = digest.is_old && segment.options.sack.is_empty();
        let is_awaited = self.recovery.phase != Phase::Open || !self.send.board.is_clear();
        if !is_void && (digest.is_news() || is_awaited) {
            timer_is_set = self.recover(env, &digest);
        }
        if digest.advanced {
            self.on_advance(env, timer_is_set)?;
        } else {
            if digest.rearms && !timer_is_set {
                self.restart_deadline(env);
            }
            if digest.sacked.bytes > 0 {
                // What has left the network makes room.
                self.tell_writable(env.chunks, env.tunables);
            }
            if self.una == self.nxt {
                // What waits to be paced may have lost its window meanwhile (Linux: `tcp_ack_probe`).
                self.update_retransmit_timer(env.now, env.tunables);
            }
        }
        ControlFlow::Continue(())
    }

    /// Tells congestion control of an ACK, whatever it means.
    fn tell_of_ack<P: PacketPool>(&mut self, env: &mut Env<'_, P>, digest: &Digest) {
        let delivered = self.delivered_segments(env.chunks, env.now, digest);
        let is_echoed = digest.ece && !self.ack.ecn.is_accurate();
        let event = AckEvent {
            delivered,
            marked: if is_echoed { delivered } else { digest.marked },
            is_capable: !self.ack.ecn.is_off(),
            rules: env.tunables.dctcp,
            una: self.una,
            nxt: self.nxt,
        };
        self.congestion.in_ack_event(&mut env.setting(), &event);
    }

    fn digest<P: PacketPool>(&mut self, env: &mut Env<'_, P>, segment: &Segment<P::Buf>) -> Digest {
        let window = self.offered_window(segment);
        let is_update = self.is_window_update(segment.seq, window);
        self.update_send_window(segment.seq, segment.ack, window);
        let is_old = segment.ack.before(self.una);
        let mut digest = Digest {
            advanced: segment.ack.after(self.una),
            una_before: self.una,
            cleaned: Cleaned::default(),
            sacked: Sacked::default(),
            dsack: None,
            duplicate: false,
            is_repeated: segment.ack == self.una && segment.len() == 0 && !is_update,
            rtt: None,
            is_old,
            rearms: false,
            ece: !is_old && self.una != self.nxt && self.is_congestion_told(segment),
            marked: 0,
        };
        if !digest.is_old {
            self.probes = 0;
        }
        let blocks = segment.options.sack.as_slice();
        let has_blocks = self.sack_permitted && !blocks.is_empty();
        if has_blocks || !self.send.board.is_clear() {
            self.begin_tally(env, segment.options.timestamps);
            env.chunks.rates.begin();
        }
        if has_blocks {
            digest.dsack = self.take_dsack(env, segment.ack, blocks);
            let bounds = (segment.ack.latest(self.una), self.nxt);
            let skip = usize::from(digest.dsack.is_some());
            let blocks = blocks.get(skip..).unwrap_or_default();
            let (queue, unsent, board) = self.send.parts();
            digest.sacked = board.on_sack(env.chunks, (&queue.clone(), unsent), bounds, blocks);
            count!(
                env.stats.tcp_sack_discard,
                u64::from(digest.sacked.discarded)
            );
        }
        if digest.advanced {
            if self.congestion.is_modelled() {
                self.sample_acknowledged(env.chunks, segment.ack);
            }
            digest.cleaned = self.send.acknowledge(env.chunks, segment.ack);
            self.bytes_acked.add(digest.cleaned.bytes);
            self.una = segment.ack;
            if digest.cleaned.mended {
                self.note_mended(env, digest.una_before);
            }
            let (stamps, sacked_at) = (segment.options.timestamps, digest.sacked.sent_at);
            digest.rtt = self.take_rtt_sample(env, stamps, &digest.cleaned, sacked_at);
        } else {
            //= https://www.rfc-editor.org/rfc/rfc5681#section-2
            //# An acknowledgment is considered a "duplicate" ... when (a) the receiver of the ACK
            //# has outstanding data, (b) the incoming acknowledgment carries no data, (c) the SYN
            //# and FIN bits are both off, (d) the acknowledgment number is equal to the greatest
            //# acknowledgment received ... and (e) the advertised window ... equals
            digest.duplicate = digest.is_repeated && self.una != self.nxt;
            if let Some((first, _)) = digest.sacked.sent_at.filter(|_| !is_old) {
                let sacked_at = digest.sacked.sent_at;
                digest.rtt = self.take_rtt_sample(env, None, &digest.cleaned, sacked_at);
                digest.rearms = self.is_head_older(env.chunks, first);
            }
        }
        digest
    }

    /// Whether what was SACKed now left behind the last transmission of what is oldest: only then
    /// the deadline moves, or it would as long as SACKs come (Linux: `tcp_clean_rtx_queue`).
    fn is_head_older<B>(&self, chunks: &Chunks<B>, sent_at: Instant) -> bool {
        let head = chunks.get(self.send.queue().head());
        head.is_some_and(|head| sent_at < head.sent_at)
    }

    /// One sample per ACK (RFC 6298 section 3, RFC 7323 section 4.1): from the cumulative part,
    /// else from the selective one (`sacked_at`, of the first and the last), else from the echoed
    /// timestamp. Returns the round trip of the newest segment reported, for congestion control; it
    /// is the path's, without what the first waited for the others (Linux: `ca_rtt_us`).
    #[inline]
    pub(super) fn take_rtt_sample<P: PacketPool>(
        &mut self,
        env: &Env<'_, P>,
        stamps: Option<Timestamps>,
        cleaned: &Cleaned,
        sacked_at: Option<(Instant, Instant)>,
    ) -> Option<Micros> {
        let acked_at = match cleaned.sent_at {
            Some(first) if !cleaned.retransmitted => Some((first, cleaned.newest_sent_at)),
            _ => None,
        };
        let first = acked_at.or(sacked_at).map(|(first, _)| first);
        let newest = sacked_at.or(acked_at).map(|(_, newest)| newest);
        let sample = match (first, newest, stamps) {
            (Some(first), Some(newest), _) => RttSample {
                rtt: env.now.since(first).to_micros(),
                newest: env.now.since(newest).to_micros(),
            },
            (_, _, Some(stamps))
                if self.timestamps.agreed() && stamps.echo != 0 && cleaned.bytes > 0 =>
            {
                RttSample::one(self.timestamps.elapsed(stamps.echo, env.now)?)
            }
            _ => return None,
        };
        let bounds = (self.una, self.nxt);
        self.rtt.sample(sample, bounds, env.tunables.rto_min_us());
        // RFC 6298 section 5.7 with Karn's algorithm: an ambiguous ACK leaves the timeout where it was
        // backed off to.
        self.rtt.end_backoff();
        Some(sample.newest)
    }

    /// SND.UNA advanced: what was waiting for that. `timer_is_set` when recovery wants the deadline as
    /// it is.
    pub(super) fn on_advance<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        timer_is_set: bool,
    ) -> ControlFlow<Disposition> {
        self.recovery.timeouts = 0;
        self.recovery.stalled_since = Stamp::NEVER;
        if !self.extra.is_none() {
            self.note_probe_arrival(env);
        }
        if !timer_is_set {
            self.restart_deadline(env);
        }
        self.tell_writable(env.chunks, env.tunables);
        if self.fin_queued && self.una.after(self.send.end()) {
            return self.on_fin_acked(env);
        }
        ControlFlow::Continue(())
    }

    fn on_fin_acked<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> ControlFlow<Disposition> {
        let next = self.state.after_fin_acked();
        self.marks.clear(Marks::FIN_LOST);
        if next == self.state {
            return ControlFlow::Continue(());
        }
        self.ready |= Ready::ALL_ACKED;
        if next == State::TimeWait {
            return ControlFlow::Break(self.enter_time_wait(env));
        }
        if next == State::Closed {
            return ControlFlow::Break(self.finish(env, CloseReason::Finished, None));
        }
        self.state = next;
        if self.orphan {
            return self.on_orphan_fin_acked(env);
        }
        ControlFlow::Continue(())
    }

    /// SND.WND, when the segment is newer than the one it came from last, or acknowledges more: a
    /// window counts from what it came with, and an older one would reach too far from there. Of two that
    /// may have changed places the one with more to offer is the newer, as nobody takes a promise back,
    /// unless nothing is offered at all (Linux: `tcp_may_update_window`).
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
    //# If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)), set SND.WND <- SEG.WND
    #[inline]
    pub(super) fn update_send_window(&mut self, seq: SeqNumber, ack: SeqNumber, window: u32) {
        let is_newer = ack == self.una && self.is_window_update(seq, window);
        if is_newer || ack.after(self.una) {
            self.set_send_window(seq, window);
        }
    }

    /// Whether an ACK tells of another window: then it is no duplicate (Linux:
    /// `tcp_may_update_window`, where a smaller window in a segment that is no newer is none).
    #[inline]
    fn is_window_update(&self, seq: SeqNumber, window: u32) -> bool {
        seq.after(self.wl1) || (seq == self.wl1 && (window > self.snd_wnd || window == 0))
    }

    /// The window a segment offers in bytes: scaled, except in a SYN (RFC 7323 section 2.2).
    #[inline]
    pub(super) fn offered_window<B>(&self, segment: &Segment<B>) -> u32 {
        let shift = if segment.flags.syn() {
            0
        } else {
            u32::from(self.snd_scale)
        };
        u32::from(segment.window).checked_shl(shift).unwrap_or(0)
    }

    #[inline]
    pub(super) fn set_send_window(&mut self, seq: SeqNumber, window: u32) {
        self.snd_wnd = window;
        self.wnd_max = self.wnd_max.max(window);
        self.wl1 = seq;
    }

    /// Growth of the congestion window outside of recovery, for `segments` that the peer newly has;
    /// `rtt` is the round trip of the newest.
    #[inline]
    pub(super) fn grow<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segments: u32,
        rtt: Option<Micros>,
    ) {
        if segments == 0 || self.recovery.phase == Phase::Recovery {
            return;
        }
        if self.congestion.only_learns() {
            if let Some(rtt) = rtt {
                self.congestion
                    .learn(&mut env.chunks.congestion, rtt, env.now);
            }
            return;
        }
        let acked = Acked {
            segments,
            rtt,
            now: env.now,
            una: self.una,
            nxt: self.nxt,
            is_paced: self.is_paced(env.chunks),
        };
        let setting = &mut Setting {
            shelves: &mut env.chunks.congestion,
            cubic: &env.tunables.cubic,
        };
        self.congestion.on_ack(setting, &acked, env.stats);
    }

    /// Another algorithm moves the window from now on.
    pub(crate) fn set_congestion_control<B>(
        &mut self,
        control: CongestionControl,
        chunks: &mut Chunks<B>,
        tunables: &TcpTunables,
    ) {
        if control == self.congestion.control() {
            return;
        }
        let setting = &mut Setting {
            shelves: &mut chunks.congestion,
            cubic: &tunables.cubic,
        };
        self.congestion.set_control(control, setting, self.nxt);
        self.adapt_marking();
        if self.congestion.is_modelled() && self.state.is_synchronized() {
            // No ACK has come since then, and nothing has left.
            let now = self.received_at.instant().max(self.sent_at.instant());
            self.begin_model(chunks, tunables, now);
        }
    }

    /// Loss or congestion was detected: lowers the threshold; `by_mark` when nothing was lost.
    pub(super) fn lower_threshold<P: PacketPool>(&mut self, env: &mut Env<'_, P>, by_mark: bool) {
        let cut = if by_mark && env.tunables.tcp_abe {
            Cut::Mild
        } else {
            Cut::Full
        };
        self.congestion.lower_ssthresh(&mut env.setting(), cut);
        self.ack.ecn.on_reduction();
    }
}
