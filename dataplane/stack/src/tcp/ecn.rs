//! Explicit congestion notification (RFC 3168): who agreed to it, what is echoed, what is marked.
//!
//! Both ends agree by ECE and CWR in SYN and SYN-ACK. From then on new data leaves as ECT(0);
//! retransmissions, pure ACKs and FINs do not. A packet that comes marked (CE) is told of by ECE in
//! everything that leaves, until the peer says by CWR that it has reduced its window. What an ECE
//! does to ours is `recovery`'s business. This is neither DCTCP nor AccECN.
//!
//! Five bits say all of it. A connection without ECN is asked one question per segment: whether they
//! are all 0.

use millrace_base::PacketPool;
use millrace_wire::TcpFlags;

use super::config::TcpTunables;
use super::congestion::CwndEvent;
use super::connection::Connection;
use super::segment::{Env, Segment};
use super::state::State;

/// What a connection and its peer said of congestion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ecn(u8);

impl Ecn {
    /// Nothing was agreed on.
    pub(crate) const OFF: Self = Self(0);
    /// Both ends agreed, or we have asked.
    pub(crate) const OK: Self = Self(1 << 0);
    /// Our window went down: the next new data says so by CWR.
    const CWR_DUE: Self = Self(1 << 1);
    /// A marked packet came: ECE until CWR comes.
    const ECE_DUE: Self = Self(1 << 2);
    /// A packet came that could be marked.
    const SEEN: Self = Self(1 << 3);

    /// Whether nothing was agreed on.
    #[inline]
    pub(crate) const fn is_off(self) -> bool {
        self.0 == 0
    }

    /// Whether a packet came that could be marked (`TCPI_OPT_ECN_SEEN`).
    pub(crate) const fn is_seen(self) -> bool {
        self.has(Self::SEEN)
    }

    #[inline]
    const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    #[inline]
    const fn set(&mut self, bits: Self) {
        self.0 |= bits.0;
    }

    #[inline]
    const fn clear(&mut self, bits: Self) {
        self.0 &= !bits.0;
    }

    /// What every segment echoes.
    #[inline]
    pub(super) fn echo(self) -> TcpFlags {
        if self.has(Self::ECE_DUE) {
            TcpFlags::ECE
        } else {
            TcpFlags::NONE
        }
    }

    /// What the next new data says; it is said once.
    #[inline]
    pub(super) fn take_cwr(&mut self) -> TcpFlags {
        if !self.has(Self::CWR_DUE) {
            return TcpFlags::NONE;
        }
        self.clear(Self::CWR_DUE);
        TcpFlags::CWR
    }

    /// The ECN bits of a packet's TOS or traffic class.
    #[inline]
    pub(super) const fn mark(self, is_new_data: bool) -> u8 {
        if is_new_data && !self.is_off() {
            ECT_0
        } else {
            NOT_ECT
        }
    }

    /// It should not have gone down (Linux: `tcp_ecn_withdraw_cwr`).
    pub(super) fn on_undo(&mut self) {
        self.clear(Self::CWR_DUE);
    }

    /// Our window went down (Linux: `tcp_ecn_queue_cwr`).
    pub(super) fn on_reduction(&mut self) {
        if !self.is_off() {
            self.set(Self::CWR_DUE);
        }
    }
}

/// The two ECN bits of an IP header (RFC 3168 section 5).
pub(crate) const ECN_MASK: u8 = 3;
/// Not capable.
const NOT_ECT: u8 = 0;
/// Capable: what senders use.
const ECT_0: u8 = 2;
/// Congestion experienced.
const CE: u8 = 3;
/// ACKs that leave at once behind a marked packet: the peer's window may be very small.
const QUICK_ACKS: u8 = 2;
/// `tcp_ecn`: ask for it too. 0 is never, 2 agrees when a peer asks.
const ASK: u8 = 1;

/// Whether to agree with a SYN (Linux: `tcp_ecn_create_request`).
//= https://www.rfc-editor.org/rfc/rfc3168#section-6.1.1
//# A host MUST NOT set ECT on SYN or SYN-ACK packets.
// A SYN that is marked as capable comes from who knows whom.
pub(crate) fn agrees_with<B>(segment: &Segment<B>, tunables: &TcpTunables) -> bool {
    let asks = segment.flags.contains(TcpFlags::ECE) && segment.flags.contains(TcpFlags::CWR);
    let is_plain = segment.traffic_class & ECN_MASK == NOT_ECT;
    let is_wanted = tunables.tcp_congestion_control.needs_ecn();
    asks && is_plain && (tunables.tcp_ecn != 0 || tunables.special.ecn || is_wanted)
}

impl Connection {
    /// The flags of our SYN or SYN-ACK beside SYN and ACK.
    pub(super) fn ecn_of_syn<P: PacketPool>(&self, env: &Env<'_, P>) -> TcpFlags {
        if self.ack.ecn.is_off() {
            return TcpFlags::NONE;
        }
        if self.state == State::SynReceived {
            return TcpFlags::ECE;
        }
        //= https://www.rfc-editor.org/rfc/rfc3168#section-6.1.1.1
        //# A host that receives no reply to an ECN-setup SYN within the normal SYN retransmission
        //# timeout interval MAY resend the SYN and any subsequent SYN retransmissions with CWR and
        //# ECE cleared.
        if self.recovery.timeouts > 0 && env.tunables.tcp_ecn_fallback {
            return TcpFlags::NONE;
        }
        TcpFlags::ECE | TcpFlags::CWR
    }

    /// We open: ask for it when the knob or the route says so.
    pub(super) fn ask_for_ecn(&mut self, tunables: &TcpTunables) {
        let is_wanted = tunables.tcp_congestion_control.needs_ecn();
        if tunables.tcp_ecn == ASK || tunables.special.ecn || is_wanted {
            self.ack.ecn = Ecn::OK;
        }
    }

    /// The answer to our SYN: ECE alone agrees in a SYN-ACK, both flags in a SYN that crosses ours.
    pub(super) fn settle_ecn(&mut self, flags: TcpFlags) {
        let agrees = flags.contains(TcpFlags::ECE) && flags.contains(TcpFlags::CWR) != flags.ack();
        if !agrees {
            self.ack.ecn = Ecn::OFF;
        }
    }

    /// Data came over a connection with ECN: is it marked, does it say that the peer has reduced its
    /// window? (Linux: `tcp_ecn_accept_cwr`, `tcp_ecn_check_ce`.)
    #[cold]
    pub(super) fn heed_marks<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) {
        if segment.flags.contains(TcpFlags::CWR) {
            self.ack.ecn.clear(Ecn::ECE_DUE);
            // Its window may be a single segment.
            self.ack.send_now();
        }
        if segment.payload_len == 0 {
            return;
        }
        let ecn = segment.traffic_class & ECN_MASK;
        if ecn != NOT_ECT {
            let is_marked = ecn == CE;
            let event = if is_marked {
                CwndEvent::EcnIsCe
            } else {
                CwndEvent::EcnNoCe
            };
            self.congestion.cwnd_event(&mut env.setting(), event);
        }
        match ecn {
            // Not marked, where others could be: most likely a retransmission.
            NOT_ECT => {
                if self.ack.ecn.is_seen() {
                    self.enter_quick_mode(QUICK_ACKS);
                }
            }
            CE => {
                if !self.ack.ecn.has(Ecn::ECE_DUE) {
                    self.enter_quick_mode(QUICK_ACKS);
                    self.ack.ecn.set(Ecn::ECE_DUE);
                }
                self.ack.ecn.set(Ecn::SEEN);
            }
            _ => self.ack.ecn.set(Ecn::SEEN),
        }
    }

    /// So many segments were delivered by an ACK that reports congestion.
    #[cold]
    pub(super) fn count_congested<P: PacketPool>(&mut self, env: &mut Env<'_, P>, segments: u32) {
        if let Some(extra) = self.extra_mut(env.chunks) {
            extra.delivered_ce = extra.delivered_ce.saturating_add(segments);
        }
    }

    /// Whether an ACK reports congestion.
    #[inline]
    pub(super) fn is_congestion_told<B>(&self, segment: &Segment<B>) -> bool {
        !self.ack.ecn.is_off() && segment.flags.contains(TcpFlags::ECE) && !segment.flags.syn()
    }
}

#[cfg(test)]
mod tests;
