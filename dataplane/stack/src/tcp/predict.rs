//! Header prediction: the two segments that almost all are, taken in a straight line.
//!
//! In an open connection in which nothing is missing, the next segment is what was expected: data
//! that continues the stream, or an ACK that moves SND.UNA, or both, with a timestamp that is not
//! old (Van Jacobson; Linux: `tcp_rcv_established`). Everything that the long way (`input.rs`) would
//! ask is then known, and what it would do is done here. Anything else takes the long way; the
//! outcome is the same, which a property test holds.
//!
//! Unlike Linux, another window than last time is no exception: an ACK that moves SND.UNA is no
//! duplicate whatever its window, and the window of a peer that reads as it receives changes with
//! every second segment.
//!
//! Behind one that was predicted, data of the same burst that continue it change next to nothing:
//! such a segment is queued, and the rest is done once behind the last of them (`Tail`).

use core::ops::ControlFlow;

use millrace_base::{PacketBuf, PacketPool, Stamp};
use millrace_wire::{TcpFlags, Timestamps};

use super::connection::Connection;
use super::marks::Marks;
use super::ready::Ready;
use super::recovery::Phase;
use super::segment::{Disposition, Env};
use super::state::State;
use super::timestamps::Carries;
use crate::dispatch::{Carried, TcpFrame};
use crate::stats::count;
use crate::verdict::DropReason;

/// What a predicted segment with data says of those that follow it in the same burst, and what they
/// leave to be done behind the last of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tail {
    /// More segments come behind the first.
    is_wanted: bool,
    /// Segments that may still be queued without another look at memory; 0 when nothing was
    /// predicted.
    room: u32,
    /// What it was at first.
    room_first: u32,
    /// The payload and the window field of the predicted segment.
    payload_len: u32,
    window: u16,
    /// It carried a timestamp.
    is_stamped: bool,
    /// Payload queued behind it.
    queued_bytes: u32,
    /// Payload and flags of the last segment.
    last_len: u32,
    last_flags: TcpFlags,
    /// Data may raise the window's threshold: not behind one that had no room for that.
    is_opening: bool,
}

impl Tail {
    /// Of a run of so many segments.
    #[inline]
    pub(crate) fn of(segments: usize) -> Self {
        Self {
            is_wanted: segments > 1,
            ..Self::default()
        }
    }
}

impl Connection {
    /// Takes a segment if it is one of the expected kind; gives its frame back otherwise, with
    /// nothing changed. `tail` is the burst's, a new one for each connection's run; `end_tail`
    /// comes behind the last segment.
    #[inline(always)] // What is none of them at the first glance costs no call.
    pub(crate) fn try_predicted<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &TcpFrame,
        frame: P::Buf,
        tail: &mut Tail,
    ) -> Result<Disposition, P::Buf> {
        let is_plain = segment.flags.without(TcpFlags::PSH) == TcpFlags::ACK;
        if is_plain && self.state == State::Established {
            return self.try_plain(env, segment, frame, tail);
        }
        if tail.room_first > 0 {
            self.end_tail(env, tail);
        }
        Err(frame)
    }

    /// The same for a segment of an open connection that has no flag but ACK and PSH.
    #[inline(never)]
    fn try_plain<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &TcpFrame,
        frame: P::Buf,
        tail: &mut Tail,
    ) -> Result<Disposition, P::Buf> {
        if tail.room > 0 && self.continues(segment, &frame, tail) {
            self.queue_following(env, segment, frame, tail);
            return Ok(Disposition::Continue);
        }
        self.end_tail(env, tail);
        let Some(stamps) = self.predicts(segment) else {
            return Err(frame);
        };
        let advances = segment.ack != self.una;
        if segment.payload_len == 0 {
            // One that moves nothing may be a duplicate.
            if !advances {
                return Err(frame);
            }
            // Nobody needs its bytes any more.
            drop(frame);
            return Ok(self.take_expected(env, segment, stamps, None));
        }
        let is_whole = frame.frame_len() == frame.bytes().len();
        let end = segment.seq.plus(segment.payload_len);
        let is_merged = segment.payload_len > u32::from(self.largest_segment());
        if !is_whole || is_merged || end.after(self.window.edge()) || !self.expects_data(env) {
            return Err(frame);
        }
        let threshold = self.window.threshold();
        let outcome = self.take_expected(env, segment, stamps, Some(frame));
        if tail.is_wanted && outcome == Disposition::Continue {
            let room = self.straight_room(env, segment.payload_len);
            *tail = Tail {
                is_wanted: true,
                room,
                room_first: room,
                payload_len: segment.payload_len,
                window: segment.window,
                is_stamped: stamps.is_some(),
                queued_bytes: 0,
                last_len: 0,
                last_flags: segment.flags,
                // Where the first, which none behind it exceeds, found no room, none will.
                is_opening: self.window.threshold() != threshold,
            };
        }
        Ok(outcome)
    }

    /// Whether a segment is data and nothing else behind a predicted one: same window, same
    /// acknowledgment, no more bytes.
    #[inline]
    fn continues<B: PacketBuf>(&self, segment: &TcpFrame, frame: &B, tail: &Tail) -> bool {
        let is_stamp_expected = match segment.carried {
            Carried::Timestamps(stamps) => tail.is_stamped && !self.timestamps.is_old(stamps.value),
            Carried::Nothing => !tail.is_stamped,
            Carried::Options => false,
        };
        let end = segment.seq.plus(segment.payload_len);
        is_stamp_expected
            && segment.seq == self.window.nxt
            && segment.ack == self.una
            && segment.window == tail.window
            && segment.payload_len > 0
            && segment.payload_len <= tail.payload_len
            && frame.frame_len() == frame.bytes().len()
            && !end.after(self.window.edge())
    }

    /// TS.Recent stays: the segment lies behind the last ACK sent. What a full segment of the peer
    /// is stays: this one is no longer.
    #[inline]
    fn queue_following<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &TcpFrame,
        frame: P::Buf,
        tail: &mut Tail,
    ) {
        let offset = frame.offset().saturating_add(segment.payload_at.into());
        let (offset, len) = (offset as u16, segment.payload_len as u16);
        if self
            .receive
            .append(env.chunks, frame, segment.seq, offset, len)
            .is_err()
        {
            // `straight_room` saw a free one.
            env.stats.drop(DropReason::Bug);
            return;
        }
        if tail.is_opening {
            let has_grown = self.open_window(env, segment.payload_len);
            // Where one as large as any found no room, none behind it will.
            tail.is_opening = has_grown || segment.payload_len < tail.payload_len;
        }
        self.window.nxt = segment.seq.plus(segment.payload_len);
        tail.room = tail.room.saturating_sub(1);
        tail.queued_bytes = tail.queued_bytes.saturating_add(segment.payload_len);
        tail.last_len = segment.payload_len;
        tail.last_flags = segment.flags;
    }

    /// What the segments behind a predicted one have in common.
    #[inline]
    pub(crate) fn end_tail<P: PacketPool>(&mut self, env: &mut Env<'_, P>, tail: &mut Tail) {
        let (queued_bytes, last_len) = (tail.queued_bytes, tail.last_len);
        let segments = tail.room_first.saturating_sub(tail.room);
        (tail.room, tail.queued_bytes) = (0, 0);
        if queued_bytes == 0 {
            return;
        }
        count!(env.stats.tcp_hp_hits, u64::from(segments));
        self.wl1 = self.window.nxt.minus(last_len);
        self.bytes_received.add(queued_bytes);
        self.note_data_at_once(segments, env.tunables);
        self.schedule_ack(env, tail.last_flags.contains(TcpFlags::PSH));
    }

    /// How many segments could be queued one after the other, `expects_data` before each.
    #[inline]
    fn straight_room<P: PacketPool>(&self, env: &Env<'_, P>, payload_len: u32) -> u32 {
        let memory = self.window.memory();
        env.chunks
            .room_before_pressed()
            .min(self.receive.straight_room())
            .min(self.receive.memory_room(memory, payload_len))
    }

    /// Whether the header is the expected one: its timestamps, `None` on a connection without.
    #[inline]
    fn predicts(&self, segment: &TcpFrame) -> Option<Option<Timestamps>> {
        let is_expected = segment.seq == self.window.nxt
            && self.wl1.before_or_eq(segment.seq)
            && segment.ack.after_or_eq(self.una)
            && segment.ack.before_or_eq(self.nxt)
            && !self.fin_queued
            && self.ack.ecn.is_off()
            && self.recovery.phase == Phase::Open
            && self.recovery.dup_acks == 0
            && self.send.board.is_clear();
        if !is_expected {
            return None;
        }
        match segment.carried {
            Carried::Timestamps(stamps)
                if self.timestamps.carries == Carries::STAMPS
                    && !self.timestamps.is_old(stamps.value) =>
            {
                Some(Some(stamps))
            }
            Carried::Nothing if self.timestamps.carries == Carries::NOTHING => Some(None),
            Carried::Nothing | Carried::Timestamps(_) | Carried::Options => None,
        }
    }

    /// Whether data that continues the stream can simply be queued.
    #[inline]
    fn expects_data<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        env.chunks.room_before_pressed() > 0
            && self.receive.straight_room() > 0
            && !self.orphan
            && !self.marks.has(Marks::PEER_FIN_CAME)
            && self.reassembly.is_empty()
            && self.receive_memory(env.chunks) <= self.window.memory()
    }

    #[inline]
    fn take_expected<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &TcpFrame,
        stamps: Option<Timestamps>,
        frame: Option<P::Buf>,
    ) -> Disposition {
        if let Some(stamps) = stamps {
            self.timestamps
                .update(stamps.value, segment.seq, self.window.acked, env.now);
        }
        self.received_at = Stamp::of(env.now);
        self.probes = 0;
        let window = u32::from(segment.window) << (self.snd_scale & 15);
        self.update_send_window(segment.seq, segment.ack, window);
        if segment.ack != self.una {
            count!(env.stats.tcp_hp_acks);
            if let ControlFlow::Break(outcome) = self.take_progress(env, segment.ack, stamps) {
                return outcome;
            }
        }
        if let Some(frame) = frame {
            self.take_data(env, segment, frame);
        }
        self.checked(env)
    }

    #[inline]
    fn take_data<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &TcpFrame,
        frame: P::Buf,
    ) {
        count!(env.stats.tcp_hp_hits);
        self.window.note_memory(false);
        let offset = frame.offset().saturating_add(segment.payload_at.into());
        let (offset, len) = (offset as u16, segment.payload_len as u16);
        if self
            .receive
            .append(env.chunks, frame, segment.seq, offset, len)
            .is_err()
        {
            // `expects_data` saw a free one.
            env.stats.drop(DropReason::Bug);
            return;
        }
        let advertised = self.largest_segment();
        if self.note_data_arrival(env, segment.payload_len, advertised) {
            self.window.weigh(segment.payload_len, env.tunables);
        }
        if self.window.is_opening() {
            self.open_window(env, segment.payload_len);
        }
        self.window.nxt = segment.seq.plus(segment.payload_len);
        self.bytes_received.add(segment.payload_len);
        self.ready |= Ready::READABLE;
        self.schedule_ack(env, segment.flags.contains(TcpFlags::PSH));
    }
}
