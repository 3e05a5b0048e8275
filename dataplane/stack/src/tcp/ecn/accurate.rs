//! Accurate ECN (RFC 9768): both ends tell how much was marked, not only that something was.
//!
//! A SYN asks for it by AE, CWR and ECE; the SYN-ACK and the ACK behind it say how the other's SYN
//! came. From then on the three bits are the ACE field, the last three of the number of marked
//! packets that came, counted from 5; an option tells the bytes that came with each codepoint. All
//! packets leave as ECT(0), unless the handshake has shown that the path changes the bits.
//!
//! What an increase does to the window is `recovery`'s business. The order of the checks is that of
//! Linux 6.18 (`tcp_ecn.h`, `tcp_accecn_process`). Not here: ECT(1), and giving it up because of
//! SYN-ACKs that are lost again and again.

use millrace_base::{Instant, PacketPool};
use millrace_wire::tcp::{ACCECN_COUNTERS_MAX, OPTIONS_BYTES_MAX};
use millrace_wire::{AccEcn, TcpFlags, TcpOptions};

use super::counters::{ACE_MASK, AccurateEcn, DEMANDED, Feedback, OptionSeen, UNTOLD_MAX};
use super::{CE, ECN_MASK, ECT_0, ECT_1, Ecn, NOT_ECT};
use crate::tcp::ack::Digest;
use crate::tcp::chunk::Chunks;
use crate::tcp::config::TcpTunables;
use crate::tcp::connection::Connection;
use crate::tcp::extra::Extra;
use crate::tcp::recovery::Phase;
use crate::tcp::segment::{Env, Segment};

/// `tcp_ecn_option`: what the option is for.
const OPTION_NEVER: u8 = 0;
/// From here on it is in every segment.
const OPTION_FULL: u8 = 2;
/// Bytes of the largest option with its padding: what a full segment has less room for.
pub(in crate::tcp) const OPTION_BYTES: u16 = 12;

/// The flags that are an ACE field.
pub(super) const fn flags_of_ace(ace: u8) -> TcpFlags {
    TcpFlags::from_bits((ace as u16 & ACE_MASK as u16) << 6)
}

/// The ACE field of some flags.
const fn ace_of(flags: TcpFlags) -> u8 {
    (flags.bits() >> 6) as u8 & ACE_MASK as u8
}

/// Whether a SYN asks for it.
//= https://www.rfc-editor.org/rfc/rfc9768#section-3.1.2
//# If a TCP Server that implements AccECN receives a SYN with the three TCP header flags (AE, CWR,
//# and ECE) set to any combination other than 000, 011, or 111, it MUST negotiate the use of AccECN
//# as if they had been set to 111.
pub(super) const fn is_asked_by(flags: TcpFlags) -> bool {
    !matches!(ace_of(flags), 0b000 | 0b011)
}

/// Whether it is agreed to when it is asked for.
pub(super) const fn is_allowed(tunables: &TcpTunables) -> bool {
    tunables.tcp_ecn >= 3
}

/// How our SYN or SYN-ACK came, by the ACE field of its answer; `None` where that says nothing.
const fn reflected(ace: u8) -> Option<u8> {
    match ace {
        0b010 => Some(NOT_ECT),
        0b011 => Some(ECT_1),
        0b100 => Some(ECT_0),
        0b110 => Some(CE),
        _ => None,
    }
}

/// Whether a packet that left as `sent` can have arrived as `came` (RFC 9768 section 3.2.2.3).
const fn is_transition_valid(sent: u8, came: u8) -> bool {
    sent == came || sent != NOT_ECT && came != NOT_ECT && sent != CE
}

impl Ecn {
    /// Accurate ECN is agreed on, with somebody whose SYN came as `codepoint`.
    pub(super) const fn reflecting(codepoint: u8) -> Self {
        let ace = match codepoint & ECN_MASK {
            NOT_ECT => 0b010,
            ECT_1 => 0b011,
            ECT_0 => 0b100,
            _ => 0b110,
        };
        let mut ecn = Self::ACCURATE;
        ecn.set(Self::REFLECTS);
        ecn.set_ace(ace);
        ecn
    }

    /// What a cookie's final ACK agrees on: its ACE field says whether the client took our answer for
    /// Accurate ECN (RFC 9768 section 5.1).
    pub(crate) fn of_cookie_ack(flags: TcpFlags, tunables: &TcpTunables) -> Self {
        if ace_of(flags) > 1 && is_allowed(tunables) {
            Self::reflecting(NOT_ECT)
        } else {
            Self::OK
        }
    }

    /// The ACE field of what leaves.
    pub(super) const fn ace(self) -> u8 {
        (self.0 >> 2 & 1) | (self.0 & 2) | (self.0 >> 3 & 4)
    }

    const fn set_ace(&mut self, ace: u8) {
        self.0 &= !(Self::AE.0 | Self::CWR_DUE.0 | Self::ECE_DUE.0);
        self.0 |= (ace & 1) << 2 | ace & 2 | (ace & 4) << 3;
    }

    /// Whether our segments carry the option.
    #[inline]
    pub(in crate::tcp) const fn carries_option(self) -> bool {
        self.is_accurate() && self.has(Self::OK)
    }
}

/// How many counters fit into an option beside `options`, `needed` at the least; for that, SACK blocks
/// behind the second may be given up (Linux: `tcp_options_fit_accecn`).
fn fit(options: &mut TcpOptions, syn: bool, needed: usize) -> Option<usize> {
    options.accecn = None;
    let blocks = options.sack.len();
    loop {
        let mut count = ACCECN_COUNTERS_MAX;
        loop {
            options.accecn = Some(AccEcn::new(true, zeros(count)));
            if options.layout(syn).encoded_len() <= OPTIONS_BYTES_MAX {
                return Some(count);
            }
            if count == needed {
                break;
            }
            count = count.saturating_sub(1);
        }
        options.accecn = None;
        let kept = options.sack.len();
        if needed == 0 || kept <= 2 {
            break;
        }
        options.sack.truncate(kept.saturating_sub(1));
    }
    // Nothing was gained by it. The caller asks for the blocks again.
    debug_assert!(options.sack.len() <= blocks);
    None
}

fn zeros(count: usize) -> &'static [u32] {
    const ZEROS: [u32; ACCECN_COUNTERS_MAX] = [0; ACCECN_COUNTERS_MAX];
    ZEROS.get(..count).unwrap_or_default()
}

/// Puts the option of a SYN-ACK beside the others, if there is room: nothing was counted yet.
pub(crate) fn put_first_option(options: &mut TcpOptions, tunables: &TcpTunables) {
    if tunables.tcp_ecn_option != OPTION_NEVER
        && let Some(count) = fit(options, true, 0)
    {
        options.accecn = Some(AccurateEcn::default().option(count));
    }
}

impl Connection {
    /// The answer to a SYN of ours that asked for it (RFC 9768 section 3.1, table 2).
    #[cold]
    pub(super) fn settle_accurate<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) {
        let ace = ace_of(segment.flags);
        let mut classic = Ecn::OK;
        if self.ack.ecn.has(Ecn::ALWAYS) {
            classic.set(Ecn::ALWAYS);
        }
        match (ace, segment.flags.ack()) {
            (0b000 | 0b111, true) | (0b000, false) => self.ack.ecn = Ecn::OFF,
            // 0b101 is reserved: whoever sends it will mean more than this, and not less.
            (0b001, true) | (0b011, false) => self.ack.ecn = classic,
            (_, is_answer) => self.begin_accurate(env, segment, is_answer),
        }
    }

    /// Both ends agree; `is_answer` for a SYN-ACK, not for a SYN that crossed ours.
    fn begin_accurate<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
        is_answer: bool,
    ) {
        let codepoint = segment.traffic_class & ECN_MASK;
        let sent = self.ack.ecn.mark(false);
        let Some(extra) = self.extra_mut(env.chunks) else {
            // No place to count: then nothing that leaves shall be marked.
            self.ack.ecn = Ecn::OFF;
            return;
        };
        let mut counters = AccurateEcn::default();
        if is_answer {
            if let Some(option) = &segment.options.accecn {
                counters.judge(option);
                counters.demanded = DEMANDED;
            }
            if codepoint == CE {
                let came = reflected(ace_of(segment.flags)).unwrap_or(sent);
                if env.tunables.tcp_ecn_fallback && !is_transition_valid(sent, came) {
                    counters.is_ace_broken = true;
                } else {
                    counters.received_ce = 1;
                    counters.untold = 1;
                }
            }
        } else {
            counters.last_codepoint = codepoint;
            counters.is_first_ack = true;
        }
        extra.accurate = counters;
        self.ack.ecn = Ecn::reflecting(codepoint);
        self.mark_if_whole(&counters);
        self.carry_option(env, counters.seen);
    }

    /// The ACK of our SYN-ACK came, whose handshake agreed on it; or that was lost, and this is the
    /// first segment instead (RFC 9768 table 4; Linux: `tcp_accecn_third_ack`).
    #[cold]
    pub(in crate::tcp) fn begin_accurate_server<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) {
        let syn_came = reflected(self.ack.ecn.ace()).unwrap_or(NOT_ECT);
        let sent = self.ack.ecn.mark(false);
        let fallback = env.tunables.tcp_ecn_fallback;
        let Some(extra) = self.extra_mut(env.chunks) else {
            self.ack.ecn = Ecn::OFF;
            return;
        };
        let mut counters = AccurateEcn {
            last_codepoint: syn_came,
            demanded: 1,
            is_first_ack: true,
            ..AccurateEcn::default()
        };
        let ace = ace_of(segment.flags);
        if ace == 0 {
            counters.is_ace_broken = true;
        } else if let Some(came) = reflected(ace)
            && segment.len() == 0
        {
            if fallback && !is_transition_valid(sent, came) {
                counters.is_ace_broken = true;
            } else if came == CE && extra.delivered_ce == 0 {
                extra.delivered_ce = 1;
            }
        }
        if let Some(option) = &segment.options.accecn {
            counters.judge(option);
        }
        extra.accurate = counters;
        self.ack.ecn.clear(Ecn::REFLECTS);
        self.ack.ecn.set_ace(counters.ace());
        self.mark_if_whole(&counters);
        self.carry_option(env, counters.seen);
    }

    /// All that leaves can be marked, unless the path does not leave the field alone.
    fn mark_if_whole(&mut self, counters: &AccurateEcn) {
        if counters.is_ace_broken {
            self.ack.ecn.clear(Ecn::ALWAYS);
        } else {
            self.ack.ecn.set(Ecn::ALWAYS);
        }
    }

    /// The peer's options come through: ours go out, and full segments leave room for them.
    fn carry_option<P: PacketPool>(&mut self, env: &mut Env<'_, P>, seen: OptionSeen) {
        let carries = env.tunables.tcp_ecn_option != OPTION_NEVER && seen != OptionSeen::None;
        if carries && !self.ack.ecn.carries_option() {
            self.ack.ecn.set(Ecn::OK);
            let searched = self.searched(env.chunks);
            self.update_mss(env.tunables, searched);
        }
    }

    /// A segment of a connection with Accurate ECN came, with or without data.
    #[cold]
    pub(in crate::tcp) fn count_codepoint<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) {
        let codepoint = segment.traffic_class & ECN_MASK;
        let bytes = segment.payload_len;
        let segments = bytes.div_ceil(self.largest_segment().into()).max(1);
        let Some(extra) = self.extra_mut(env.chunks) else {
            return;
        };
        let is_edge = extra.accurate.count(codepoint, segments, bytes);
        let ace = extra.accurate.ace();
        if codepoint != NOT_ECT {
            self.ack.ecn.set(Ecn::SEEN);
        }
        if !self.ack.ecn.has(Ecn::REFLECTS) {
            self.ack.ecn.set_ace(ace);
        }
        // Only what is to be acknowledged anyway is acknowledged at once.
        if is_edge && (bytes > 0 || !self.timers.delayed_ack.is_never()) {
            self.ack.send_now();
        }
    }

    /// A SYN-ACK came again: the ACK of ours was lost, and says again how the first came.
    #[cold]
    pub(in crate::tcp) fn reflect_again<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) {
        let (offered, is_answer) = (segment.options.accecn, segment.flags.ack());
        let Some(extra) = self.extra_mut(env.chunks).filter(|_| is_answer) else {
            return;
        };
        if let Some(option) = &offered {
            extra.accurate.judge(option);
        }
        let seen = extra.accurate.seen;
        let kept = self.ack.ecn.0 & (Ecn::OK.0 | Ecn::ALWAYS.0 | Ecn::SEEN.0);
        self.ack.ecn = Ecn::reflecting(segment.traffic_class);
        self.ack.ecn.0 |= kept;
        self.carry_option(env, seen);
    }

    /// Accurate ECN: an ACK that is news by its number, its blocks or its timestamp tells how much was
    /// marked; one that was overtaken says nothing.
    #[cold]
    pub(in crate::tcp) fn digest_counters<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
        digest: &mut Digest,
        is_stamp_newer: bool,
    ) {
        if !digest.advanced && digest.sacked.bytes == 0 && !is_stamp_newer {
            return;
        }
        let delivered = self.delivered_by(env, digest);
        let marked = self.heed_counters(env, segment, delivered);
        digest.marked = marked;
        digest.ece = marked > 0 && digest.una_before != self.nxt;
    }

    /// What an ACK tells of marked packets: how many more. It newly reports so many segments
    /// and bytes.
    fn heed_counters<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
        (segments, bytes): (u32, u32),
    ) -> u32 {
        let is_settled = matches!(self.recovery.phase, Phase::Open | Phase::Cwr);
        let told = Feedback {
            ace: ace_of(segment.flags),
            option: segment.options.accecn,
            segments,
            bytes,
            mss: self.mss.into(),
            is_counted: self.sack_permitted || is_settled,
            sent: self
                .bytes_acked
                .value()
                .saturating_add(self.sent_bytes().into()),
        };
        let Some(extra) = self.extra_mut(env.chunks) else {
            return 0;
        };
        let marked = extra.accurate.take_feedback(&told, extra.delivered_ce);
        extra.delivered_ce = extra.delivered_ce.wrapping_add(marked);
        let (seen, untold) = (extra.accurate.seen, extra.accurate.untold);
        if untold >= UNTOLD_MAX {
            self.ack.send_now();
        }
        self.carry_option(env, seen);
        marked
    }

    /// What leaves next tells the counters: the option, if it is time for one, goes beside `options`.
    /// `reflects` for an ACK that may still tell how the peer's SYN-ACK came.
    #[cold]
    pub(in crate::tcp) fn tell_counters<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (now, tunables): (Instant, &TcpTunables),
        options: &mut TcpOptions,
        reflects: bool,
    ) {
        let (carries, srtt) = (self.ack.ecn.carries_option(), self.rtt.srtt());
        if !reflects && self.ack.ecn.has(Ecn::REFLECTS) {
            self.end_reflection(chunks);
        }
        let Some(Extra { accurate, .. }) = self.extra_mut(chunks) else {
            return;
        };
        accurate.untold = 0;
        let is_due = tunables.tcp_ecn_option >= OPTION_FULL
            || accurate.demanded > 0
            || accurate.is_beacon_due(now, srtt, tunables);
        if !carries || tunables.tcp_ecn_option == OPTION_NEVER || !is_due {
            return;
        }
        let blocks = options.sack;
        match fit(options, false, accurate.counters_min.into()) {
            Some(count) => {
                options.accecn = Some(accurate.option(count));
                accurate.on_told(now);
            }
            None => options.sack = blocks,
        }
    }

    /// The ACK behind the handshake has left: from now on the ACE field is a counter.
    #[cold]
    pub(in crate::tcp) fn end_reflection<B>(&mut self, chunks: &mut Chunks<B>) {
        if self.ack.ecn.has(Ecn::REFLECTS) {
            let ace = self.extra(chunks).map(|extra| extra.accurate.ace());
            self.ack.ecn.clear(Ecn::REFLECTS);
            self.ack.ecn.set_ace(ace.unwrap_or_default());
        }
    }

    /// What is to be told of ECN.
    pub(in crate::tcp) fn ecn_info<B>(&self, chunks: &Chunks<B>) -> EcnInfo {
        let accurate = self.ack.ecn.is_accurate();
        let counters = self
            .extra(chunks)
            .filter(|_| accurate)
            .map(|extra| extra.accurate)
            .unwrap_or_default();
        EcnInfo {
            accurate,
            option_seen: counters.seen as u8,
            ace_failed: counters.is_ace_broken,
            received_ce: counters.received_ce,
            received_bytes: counters.received,
            delivered_bytes: counters.delivered,
        }
    }
}

/// What Accurate ECN has counted; zeros on a connection without.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EcnInfo {
    /// Both ends speak it, or we have asked for it.
    pub accurate: bool,
    /// 0 no option came, 1 one without counters, 2 one with counters, 3 one that was changed.
    pub option_seen: u8,
    /// The path erases or changes the ACE field.
    pub ace_failed: bool,
    /// Packets that came marked.
    pub received_ce: u32,
    /// Payload bytes that came as ECT(1), ECT(0), CE.
    pub received_bytes: [u32; 3],
    /// Payload bytes that the peer says came as ECT(1), ECT(0), CE.
    pub delivered_bytes: [u32; 3],
}

#[cfg(test)]
mod tests;
