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

use core::ops::ControlFlow;

use millrace_base::{PacketBuf, PacketPool, Stamp};
use millrace_wire::{TcpFlags, Timestamps};

use super::connection::Connection;
use super::ready::Ready;
use super::recovery::Phase;
use super::segment::{Disposition, Env};
use super::state::State;
use crate::dispatch::{Carried, TcpFrame};
use crate::verdict::DropReason;

impl Connection {
    /// Takes a segment if it is one of the expected kind; gives its frame back otherwise, with
    /// nothing changed.
    #[inline]
    pub(crate) fn try_predicted<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &TcpFrame,
        frame: P::Buf,
    ) -> Result<Disposition, P::Buf> {
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
        if !is_whole || end.after(self.window.edge()) || !self.expects_data(env) {
            return Err(frame);
        }
        Ok(self.take_expected(env, segment, stamps, Some(frame)))
    }

    /// Whether the header is the expected one: its timestamps, `None` on a connection without.
    #[inline]
    fn predicts(&self, segment: &TcpFrame) -> Option<Option<Timestamps>> {
        let is_expected = segment.flags.without(TcpFlags::PSH) == TcpFlags::ACK
            && self.state == State::Established
            && segment.seq == self.window.nxt
            && self.wl1.before_or_eq(segment.seq)
            && segment.ack.after_or_eq(self.una)
            && segment.ack.before_or_eq(self.nxt)
            && !self.fin_queued
            && self.recovery.phase == Phase::Open
            && self.recovery.dup_acks == 0
            && self.send.board.is_clear();
        if !is_expected {
            return None;
        }
        match segment.carried {
            Carried::Timestamps(stamps)
                if self.timestamps.agreed && !self.timestamps.is_old(stamps.value) =>
            {
                Some(Some(stamps))
            }
            Carried::Nothing if !self.timestamps.agreed => Some(None),
            Carried::Nothing | Carried::Timestamps(_) | Carried::Options => None,
        }
    }

    /// Whether data that continues the stream can simply be queued.
    #[inline]
    fn expects_data<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        !env.chunks.is_pressed()
            && env.chunks.available() > 0
            && !self.orphan
            && !self.peer_fin_came
            && self.reassembly.is_empty()
            && self.receive.has_room(env.chunks)
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
        self.snd_wnd = window;
        self.wnd_max = self.wnd_max.max(window);
        self.wl1 = segment.seq;
        if segment.ack != self.una
            && let ControlFlow::Break(outcome) = self.take_ack(env, segment, stamps)
        {
            return outcome;
        }
        if let Some(frame) = frame {
            self.take_data(env, segment, frame);
        }
        self.checked(env)
    }

    /// SND.UNA advances; nothing was lost before, and nothing says that something is.
    #[inline]
    fn take_ack<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &TcpFrame,
        stamps: Option<Timestamps>,
    ) -> ControlFlow<Disposition> {
        let cleaned = self.send.acknowledge(env.chunks, segment.ack);
        self.bytes_acked.add(cleaned.bytes);
        self.una = segment.ack;
        self.take_rtt_sample(env.now, stamps, &cleaned, None);
        self.grow(env, cleaned.bytes);
        self.on_advance(env)
    }

    #[inline]
    fn take_data<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &TcpFrame,
        frame: P::Buf,
    ) {
        self.window.pressed = false;
        let offset = frame.offset().saturating_add(segment.payload_at.into());
        let (offset, len) = (offset as u16, segment.payload_len as u16);
        let Ok(index) = env.chunks.take(frame, segment.seq, offset, len) else {
            // `expects_data` saw a free one.
            env.stats.drop(DropReason::Bug);
            return;
        };
        let advertised = self.advertised_mss();
        self.ack.measure(segment.payload_len, advertised, env.now);
        self.receive.push(env.chunks, index);
        self.window.nxt = segment.seq.plus(segment.payload_len);
        self.bytes_received.add(segment.payload_len);
        self.ready |= Ready::READABLE;
        self.schedule_ack(env.now, env.tunables);
    }
}
