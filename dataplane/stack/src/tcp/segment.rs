//! What goes into a connection and what its driver must do afterwards.

use millrace_base::{FlowTuple, Instant, PacketPool, SeqNumber};
use millrace_wire::{TcpFlags, TcpOptions, Timestamps};

use super::chunk::Chunks;
use super::config::TcpTunables;
use super::congestion::Setting;
use crate::stats::Stats;

/// What every verb of a connection may use.
#[derive(Debug)]
pub(crate) struct Env<'a, P: PacketPool> {
    /// The burst's arrival time.
    pub(crate) now: Instant,
    /// Where new buffers come from.
    pub(crate) pool: &'a mut P,
    /// The chunks of the stack.
    pub(crate) chunks: &'a mut Chunks<P::Buf>,
    /// The counters of the stack.
    pub(crate) stats: &'a mut Stats,
    /// The knobs of the stack.
    pub(crate) tunables: &'a TcpTunables,
}

impl<P: PacketPool> Env<'_, P> {
    /// What congestion control may use.
    #[inline]
    pub(super) fn setting(&mut self) -> Setting<'_> {
        Setting {
            shelves: &mut self.chunks.congestion,
            cubic: &self.tunables.cubic,
        }
    }
}

/// A received segment whose checksum is good.
#[derive(Debug)]
pub(crate) struct Segment<B> {
    /// SEG.SEQ.
    pub(crate) seq: SeqNumber,
    /// SEG.ACK, meaningful with the ACK bit.
    pub(crate) ack: SeqNumber,
    /// The control bits.
    pub(crate) flags: TcpFlags,
    /// The window field, unscaled.
    pub(crate) window: u16,
    /// DSCP and ECN bits of the IP header (TOS).
    pub(crate) traffic_class: u8,
    /// The options.
    pub(crate) options: TcpOptions,
    /// The payload's buffers; the span of the first (and of every further) one is exactly payload.
    /// Ethernet padding is cut off. `None` when there is no payload.
    pub(crate) payload: Option<B>,
    /// Bytes of payload in the whole chain.
    pub(crate) payload_len: u32,
}

impl<B> Segment<B> {
    /// SEG.LEN: payload, SYN and FIN.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.payload_len
            .wrapping_add(u32::from(self.flags.syn()))
            .wrapping_add(u32::from(self.flags.fin()))
    }

    /// Whether any of it lies in a window, for a mini-socket (Linux: `tcp_in_window`).
    pub(crate) fn is_in_window(&self, start: SeqNumber, edge: SeqNumber) -> bool {
        self.seq == start
            || self.end().after(start) && self.seq.before(edge)
            || self.seq == edge && self.len() == 0
    }

    /// Whether two hosts could go on answering each other with such segments: they carry nothing, or
    /// a SYN (Linux: `tcp_oow_rate_limited`).
    pub(crate) fn may_be_in_an_ack_loop(&self) -> bool {
        self.len() == 0 || self.flags.syn()
    }

    /// The sequence number behind the segment.
    #[inline]
    pub(crate) fn end(&self) -> SeqNumber {
        self.seq.plus(self.len())
    }
}

/// A RST to send; the driver knows the addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ResetSegment {
    /// SEG.SEQ.
    pub(crate) seq: SeqNumber,
    /// SEG.ACK and the ACK bit.
    pub(crate) ack: Option<SeqNumber>,
    /// The window field.
    pub(crate) window: u16,
    /// The timestamps of a connection that agreed on them.
    pub(crate) timestamps: Option<Timestamps>,
}

impl ResetSegment {
    /// The answer to a segment that nobody takes: it says nothing but its numbers (Linux:
    /// `tcp_v4_send_reset`).
    pub(crate) const fn answer(seq: SeqNumber, ack: Option<SeqNumber>) -> Self {
        Self {
            seq,
            ack,
            window: 0,
            timestamps: None,
        }
    }

    /// The answer to a segment with an ACK: `<SEQ=SEG.ACK><CTL=RST>`.
    pub(crate) const fn refusing(ack: SeqNumber) -> Self {
        Self::answer(ack, None)
    }
}

/// What a TIME-WAIT record must remember (behaviour: A26-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeWaitRecord {
    /// The addresses and ports.
    pub(crate) tuple: FlowTuple,
    /// SND.NXT.
    pub(crate) snd_nxt: SeqNumber,
    /// RCV.NXT.
    pub(crate) rcv_nxt: SeqNumber,
    /// RCV.WND in bytes.
    pub(crate) rcv_wnd: u32,
    /// What our window field is shifted by.
    pub(crate) rcv_scale: u8,
    /// Whether segments carry timestamps.
    pub(crate) timestamps: bool,
    /// TS.Recent.
    pub(crate) ts_recent: u32,
    /// When TS.Recent was taken, in seconds since the start of time.
    pub(crate) ts_recent_at: u32,
    /// What is added to our millisecond clock.
    pub(crate) ts_offset: u32,
    /// The peer's FIN still has to be acknowledged: send an ACK at once.
    pub(crate) ack_now: bool,
    /// Whole seconds to wait for the peer's FIN, which has not come; 0 in TIME_WAIT.
    pub(crate) fin_wait2_secs: u8,
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Both sides closed and everything was acknowledged.
    Finished,
    /// The peer sent a RST.
    Reset,
    /// The peer refused the connection: a RST in answer to our SYN.
    Refused,
    /// Retransmissions, window probes or keep-alive probes were not answered in time.
    TimedOut,
    /// No way to the peer.
    Unreachable,
    /// This side ended it: `abort`, or `close` with unread data, or data for an orphan.
    Aborted,
}

/// What the driver must do after a verb.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Disposition {
    /// Nothing; the connection lives.
    Continue,
    /// Send this RST; the connection lives (an unacceptable ACK before synchronisation).
    Reset(ResetSegment),
    /// The connection is over. Its tuple belongs to this record, in TIME_WAIT or FIN_WAIT2, from now
    /// on; received data may
    /// still wait (`has_unread`), so keep the connection until the application has taken it or
    /// closed, then `release` it.
    TimeWait(TimeWaitRecord),
    /// The connection is over. Send the RST if there is one. Received data may still wait when the
    /// reason is `Finished`; then, and otherwise at once, `release` it.
    Closed(CloseReason, Option<ResetSegment>),
}

#[cfg(test)]
mod tests {
    use millrace_base::HeapBuf;

    use super::*;

    // SYN and FIN take a number each, and nothing else does. behaviour: OPT-3, RCV-7
    #[test]
    fn a_segment_ends_behind_its_syn_its_payload_and_its_fin() {
        let none = TcpFlags::ACK;
        let both = TcpFlags::SYN | TcpFlags::FIN;
        for (flags, payload_len, len) in [
            (none, 0, 0),
            (none, 1_448, 1_448),
            (TcpFlags::SYN, 0, 1),
            (TcpFlags::SYN, 500, 501),
            (TcpFlags::FIN, 0, 1),
            (TcpFlags::FIN | TcpFlags::PSH, 7, 8),
            (both, 0, 2),
            (both, 9, 11),
            (TcpFlags::RST, 0, 0),
        ] {
            let segment = Segment::<HeapBuf> {
                seq: SeqNumber::new(u32::MAX),
                ack: SeqNumber::new(3),
                flags,
                window: 1,
                traffic_class: 0,
                options: TcpOptions::default(),
                payload: None,
                payload_len,
            };
            assert_eq!(segment.len(), len, "{flags:?} and {payload_len} bytes");
            let end = SeqNumber::new(u32::MAX).plus(len);
            assert_eq!(segment.end(), end, "beyond the end of the numbers too");
            let carries = len != 0 && !flags.syn();
            assert_eq!(!segment.may_be_in_an_ack_loop(), carries, "{flags:?}");
        }
    }
}
