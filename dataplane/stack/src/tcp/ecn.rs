//! Explicit congestion notification (RFC 3168): who agreed to it, what is echoed, what is marked.
//!
//! Both ends agree by ECE and CWR in SYN and SYN-ACK. From then on new data leaves as ECT(0);
//! retransmissions, pure ACKs and FINs do not. A packet that comes marked (CE) is told of by ECE in
//! everything that leaves, until the peer says by CWR that it has reduced its window. What an ECE
//! does to ours is `recovery`'s business. How two ends agree on more than that, and count, is in
//! `ecn/accurate.rs` (RFC 9768).
//!
//! Eight bits say all that is asked per segment. A connection without ECN is asked one question:
//! whether they are all 0.

pub(crate) mod accurate;
pub(crate) mod counters;
pub(crate) mod follower;

use millrace_base::PacketPool;
use millrace_wire::{TcpFlags, TcpRepr};

use super::config::TcpTunables;
use super::connection::Connection;
use super::segment::{Env, Segment};
use super::state::State;

/// What a connection and its peer said of congestion.
///
/// With `ACCURATE` the bits `AE`, `CWR_DUE` and `ECE_DUE` are the ACE field of what leaves next, and
/// `OK` says that our segments carry the option.
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
    /// Accurate ECN, or we have asked for it.
    const ACCURATE: Self = Self(1 << 4);
    /// The third bit of the ACE field.
    const AE: Self = Self(1 << 5);
    /// Whatever leaves can be marked, not only new data.
    const ALWAYS: Self = Self(1 << 6);
    /// The ACE field says how the peer's SYN or SYN-ACK came, and nothing of counters yet.
    const REFLECTS: Self = Self(1 << 7);
    /// Without `ACCURATE`, the same bit: an ACK is due that ends before the last data.
    const EDGES: Self = Self::REFLECTS;

    /// Whether nothing was agreed on.
    #[inline]
    pub(crate) const fn is_off(self) -> bool {
        self.0 == 0
    }

    /// Whether a packet came that could be marked (`TCPI_OPT_ECN_SEEN`).
    pub(crate) const fn is_seen(self) -> bool {
        self.has(Self::SEEN)
    }

    /// Whether it is that of RFC 9768, or that was asked for.
    #[inline]
    pub(crate) const fn is_accurate(self) -> bool {
        self.has(Self::ACCURATE)
    }

    /// Whether it is that of RFC 3168.
    #[inline]
    const fn is_classic(self) -> bool {
        self.0 & (Self::OK.0 | Self::ACCURATE.0) == Self::OK.0
    }

    /// Whether the next pure ACK is another than its numbers say.
    #[inline]
    pub(super) const fn has_special_ack(self) -> bool {
        self.has(Self::REFLECTS)
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

    /// What every segment echoes: ECE, or the ACE field.
    #[inline]
    pub(super) const fn echo(self) -> TcpFlags {
        if self.is_accurate() {
            accurate::flags_of_ace(self.ace())
        } else if self.has(Self::ECE_DUE) {
            TcpFlags::ECE
        } else {
            TcpFlags::NONE
        }
    }

    /// What the next new data says; it is said once.
    #[inline]
    pub(super) const fn take_cwr(&mut self) -> TcpFlags {
        if !self.has(Self::CWR_DUE) || self.is_accurate() {
            return TcpFlags::NONE;
        }
        self.clear(Self::CWR_DUE);
        TcpFlags::CWR
    }

    /// What was to leave with this header has not: CWR is said by the next.
    #[cold]
    pub(super) fn keep_cwr(&mut self, header: &TcpRepr) {
        if header.flags.contains(TcpFlags::CWR) && !header.flags.syn() {
            self.on_reduction();
        }
    }

    /// The ECN bits of a packet's TOS or traffic class.
    #[inline]
    pub(crate) const fn mark(self, is_new_data: bool) -> u8 {
        if self.has(Self::ALWAYS) || is_new_data && self.is_classic() {
            ECT_0
        } else {
            NOT_ECT
        }
    }

    /// It should not have gone down (Linux: `tcp_ecn_withdraw_cwr`).
    pub(super) const fn on_undo(&mut self) {
        if self.is_classic() {
            self.clear(Self::CWR_DUE);
        }
    }

    /// Our window went down (Linux: `tcp_ecn_queue_cwr`).
    pub(super) const fn on_reduction(&mut self) {
        if self.is_classic() {
            self.set(Self::CWR_DUE);
        }
    }
}

/// The two ECN bits of an IP header (RFC 3168 section 5).
pub(crate) const ECN_MASK: u8 = 3;
/// Not capable.
const NOT_ECT: u8 = 0;
/// Capable: what senders use whose queues are to be short.
const ECT_1: u8 = 1;
/// Capable: what other senders use.
const ECT_0: u8 = 2;
/// Congestion experienced.
const CE: u8 = 3;
/// ACKs that leave at once behind a marked packet: the peer's window may be very small.
const QUICK_ACKS: u8 = 2;

/// What a host asks for when it opens, by `tcp_ecn`.
const fn asked_for(tcp_ecn: u8) -> Ecn {
    match tcp_ecn {
        1 | 4 => Ecn::OK,
        3 => Ecn::ACCURATE,
        _ => Ecn::OFF,
    }
}

/// Whether to agree with a SYN, and on what (Linux: `tcp_ecn_create_request`).
//= https://www.rfc-editor.org/rfc/rfc3168#section-6.1.1
//# A host MUST NOT set ECT on SYN or SYN-ACK packets.
// A SYN that is marked as capable comes from who knows whom, unless it asks for Accurate ECN, or our
// algorithm needs marks: then SYNs are marked on both sides.
pub(crate) fn agrees_with<B>(segment: &Segment<B>, tunables: &TcpTunables) -> Ecn {
    let flags = segment.flags;
    let codepoint = segment.traffic_class & ECN_MASK;
    let is_needed = tunables.tcp_congestion_control.needs_ecn();
    let asks = flags.contains(TcpFlags::ECE) && flags.contains(TcpFlags::CWR);
    let is_plain = codepoint == NOT_ECT || flags.contains(TcpFlags::AE);
    let is_wanted = is_plain && (tunables.tcp_ecn != 0 || tunables.special.ecn);
    let mut agreed = if accurate::is_asked_by(flags) && accurate::is_allowed(tunables) {
        Ecn::reflecting(codepoint)
    } else if asks && (is_wanted || is_needed) {
        Ecn::OK
    } else {
        return Ecn::OFF;
    };
    if is_needed {
        agreed.set(Ecn::ALWAYS);
    }
    agreed
}

impl Connection {
    /// The flags of our SYN or SYN-ACK beside SYN and ACK.
    pub(super) fn ecn_of_syn<P: PacketPool>(&self, env: &Env<'_, P>) -> TcpFlags {
        let ecn = self.ack.ecn;
        if ecn.is_off() {
            return TcpFlags::NONE;
        }
        if self.state == State::SynReceived {
            return if ecn.is_accurate() {
                ecn.echo()
            } else {
                TcpFlags::ECE
            };
        }
        //= https://www.rfc-editor.org/rfc/rfc3168#section-6.1.1.1
        //# A host that receives no reply to an ECN-setup SYN within the normal SYN retransmission
        //# timeout interval MAY resend the SYN and any subsequent SYN retransmissions with CWR and
        //# ECE cleared.
        if self.recovery.timeouts > 0 && env.tunables.tcp_ecn_fallback {
            return TcpFlags::NONE;
        }
        let classic = TcpFlags::ECE | TcpFlags::CWR;
        if ecn.is_accurate() {
            classic | TcpFlags::AE
        } else {
            classic
        }
    }

    /// We open: ask for it when the knob or the route says so.
    pub(super) fn ask_for_ecn(&mut self, tunables: &TcpTunables) {
        let asked = asked_for(tunables.tcp_ecn);
        let is_needed = tunables.tcp_congestion_control.needs_ecn();
        self.ack.ecn = if asked.is_off() && (tunables.special.ecn || is_needed) {
            Ecn::OK
        } else {
            asked
        };
        if is_needed {
            self.ack.ecn.set(Ecn::ALWAYS);
        }
    }

    /// The answer to our SYN: ECE alone agrees in a SYN-ACK, both flags in a SYN that crosses ours.
    pub(super) fn settle_ecn<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) {
        if self.ack.ecn.is_accurate() {
            return self.settle_accurate(env, segment);
        }
        let flags = segment.flags;
        let agrees = flags.contains(TcpFlags::ECE) && flags.contains(TcpFlags::CWR) != flags.ack();
        if !agrees {
            self.ack.ecn = Ecn::OFF;
        }
    }

    /// An ACK that is no older than the last: does it say that the peer has reduced its window? (Linux:
    /// `tcp_ecn_accept_cwr`.)
    //= https://www.rfc-editor.org/rfc/rfc3168#section-6.1.2
    //# the CWR flag ... SHOULD be set only on the first new data packet that it transmits
    // There are senders that say it in a pure ACK, and then not again: who did not listen to that would
    // echo for ever.
    pub(super) fn heed_reduction<B>(&mut self, segment: &Segment<B>) {
        if self.ack.ecn.is_classic() && segment.flags.contains(TcpFlags::CWR) {
            self.ack.ecn.clear(Ecn::ECE_DUE);
            if segment.len() > 0 {
                // Its window may be a single segment.
                self.ack.send_now();
            }
        }
    }

    /// Data came over a connection with ECN: is it marked? (Linux: `tcp_data_ecn_check`.)
    #[cold]
    pub(super) fn heed_marks<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) {
        let is_classic = self.ack.ecn.is_classic();
        if segment.payload_len == 0 {
            return;
        }
        let codepoint = segment.traffic_class & ECN_MASK;
        if codepoint != NOT_ECT
            && is_classic
            && self.congestion.control().needs_ecn()
            && self.follow_marks(env, codepoint == CE)
        {
            self.ack.ecn.set(Ecn::SEEN);
            return;
        }
        match codepoint {
            // Not marked, where others could be: most likely a retransmission.
            NOT_ECT => {
                if self.ack.ecn.is_seen() {
                    self.enter_quick_mode(QUICK_ACKS);
                }
            }
            // What is counted is told of by counters.
            _ if !is_classic => {}
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
        // With Accurate ECN the ACK itself says how many.
        if self.ack.ecn.is_classic()
            && let Some(extra) = self.extra_mut(env.chunks)
        {
            extra.delivered_ce = extra.delivered_ce.saturating_add(segments);
        }
    }

    /// Another algorithm moves the window: who needs marks lets everything be marked (Linux:
    /// `tcp_init_congestion_control`).
    pub(super) fn adapt_marking(&mut self) {
        if !self.ack.ecn.is_classic() {
            return;
        }
        if self.congestion.control().needs_ecn() {
            self.ack.ecn.set(Ecn::ALWAYS);
        } else {
            self.ack.ecn.clear(Ecn::ALWAYS);
        }
    }

    /// Whether an ACK reports congestion by ECE.
    #[inline]
    pub(super) fn is_congestion_told<B>(&self, segment: &Segment<B>) -> bool {
        self.ack.ecn.is_classic() && segment.flags.contains(TcpFlags::ECE) && !segment.flags.syn()
    }
}

#[cfg(test)]
mod tests;
