//! TCP options, read and written the way Linux does.
//!
//! Reading is one pass; an unknown kind is skipped by its length, a length that cannot be ends the
//! pass and keeps what was read (`tcp_parse_options`). Writing uses Linux's order and padding
//! (`tcp_options_write`), because middleboxes and fingerprints know it: MSS; SACK-permitted and
//! timestamps packed into twelve bytes; window scale behind a NOP; SACK blocks behind two NOPs;
//! Fast Open last, in the form of RFC 7413 or in the experimental one before it (kind 254 with a magic
//! number, RFC 6994). A signature comes first, before all of them; TCP-AO is not written. Accurate
//! ECN comes behind the timestamps; what does not fill a word of it stands where the next option has
//! its NOPs.

use millrace_base::SeqNumber;

use super::accecn::{AccEcn, KIND_ORDER_0, KIND_ORDER_1};
use super::signature::{OPTION_BYTES, SIGNATURE_BYTES};
use crate::u32_at;

/// Bytes of options a header can hold.
pub const OPTIONS_BYTES_MAX: usize = 40;
/// SACK blocks that fit into 40 bytes of options (RFC 2018 section 3).
pub const SACK_BLOCKS_MAX: usize = 4;
/// The largest window scale; a larger one counts as this (RFC 7323 section 2.3).
pub const WINDOW_SCALE_MAX: u8 = 14;
/// The longest Fast Open cookie (RFC 7413 section 2).
pub const FASTOPEN_COOKIE_BYTES_MAX: usize = 16;

pub(super) const KIND_END: u8 = 0;
pub(super) const KIND_NOP: u8 = 1;
/// What stands before SACK and SACK-permitted, unless a part of Accurate ECN does.
const NO_LEAD: [u8; 2] = [KIND_NOP, KIND_NOP];
const KIND_MSS: u8 = 2;
const KIND_WINDOW_SCALE: u8 = 3;
const KIND_SACK_PERMITTED: u8 = 4;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMPS: u8 = 8;
pub(super) const KIND_MD5: u8 = 19;
const KIND_FASTOPEN: u8 = 34;
const KIND_EXPERIMENT: u8 = 254;
/// The experiment that was Fast Open (RFC 7413 appendix A).
const FASTOPEN_MAGIC: [u8; 2] = [0xf9, 0x89];
/// `NOP NOP timestamps 10`: what almost every segment of an established connection starts with.
const ALIGNED_TIMESTAMPS: u32 = 0x0101_080a;
/// What the SYN of a Linux host is made of, of twenty bytes: `MSS 4`, before the size,
const USUAL_MSS: u32 = 0x0204_0000;
/// `SACK-permitted 2 timestamps 10`, before the timestamps,
const USUAL_TIMESTAMPS: u32 = 0x0402_080a;
/// and `NOP window-scale 3`, before the shift.
const USUAL_SCALE: u32 = 0x0103_0300;

/// The two timestamps of RFC 7323 section 3.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timestamps {
    /// The sender's clock (TSval).
    pub value: u32,
    /// The echo of the receiver's clock (TSecr).
    pub echo: u32,
}

/// Up to four SACK blocks: `start` is the first byte of a block, `end` the first byte behind it
/// (RFC 2018).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackBlocks {
    blocks: [(SeqNumber, SeqNumber); SACK_BLOCKS_MAX],
    count: u8,
}

/// A Fast Open cookie; empty is a request for one (RFC 7413 section 4.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FastOpenCookie {
    bytes: [u8; FASTOPEN_COOKIE_BYTES_MAX],
    len: u8,
    /// It travels in the experimental option.
    experimental: bool,
}

/// The options of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpOptions {
    /// Maximum segment size, bytes; only in a SYN.
    pub mss: Option<u16>,
    /// Window scale, 0..=14; only in a SYN.
    pub window_scale: Option<u8>,
    /// SACK permitted; only in a SYN.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks.
    pub sack: SackBlocks,
    /// Fast Open cookie; only in a SYN.
    pub fastopen: Option<FastOpenCookie>,
    /// Counters of Accurate ECN (RFC 9768).
    pub accecn: Option<AccEcn>,
    /// A signature (RFC 2385): one was there, or may have been behind a length that cannot be, which
    /// `Signature::find` tells apart; or room for one is to be written, zeros until somebody with
    /// the key fills it in.
    pub md5: bool,
}

impl Timestamps {
    /// Reads option bytes that are the timestamps behind two NOPs and nothing else: what almost
    /// every segment of an established connection carries.
    #[inline]
    pub fn of_aligned(bytes: &[u8]) -> Option<Self> {
        let [head, value, echo] = *bytes.as_array::<12>()?.as_chunks::<4>().0 else {
            return None;
        };
        (u32::from_be_bytes(head) == ALIGNED_TIMESTAMPS).then_some(Self {
            value: u32::from_be_bytes(value),
            echo: u32::from_be_bytes(echo),
        })
    }
}

impl SackBlocks {
    /// No blocks.
    pub const NONE: Self = Self {
        blocks: [(SeqNumber::new(0), SeqNumber::new(0)); SACK_BLOCKS_MAX],
        count: 0,
    };

    /// Adds a block; `false` when four are there already.
    pub fn push(&mut self, start: SeqNumber, end: SeqNumber) -> bool {
        let Some(place) = self.blocks.get_mut(usize::from(self.count)) else {
            return false;
        };
        *place = (start, end);
        self.count = self.count.saturating_add(1);
        true
    }

    /// The blocks in wire order.
    #[inline]
    pub fn as_slice(&self) -> &[(SeqNumber, SeqNumber)] {
        self.blocks
            .get(..usize::from(self.count))
            .unwrap_or_default()
    }

    /// Blocks held, 0..=4.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is no block.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keeps the first `count` blocks.
    pub fn truncate(&mut self, count: usize) {
        while usize::from(self.count) > count {
            self.count = self.count.saturating_sub(1);
            if let Some(place) = self.blocks.get_mut(usize::from(self.count)) {
                *place = Default::default();
            }
        }
    }
}

impl FastOpenCookie {
    /// A cookie of these bytes; `None` when they are more than 16.
    pub fn new(cookie: &[u8]) -> Option<Self> {
        let mut bytes = [0; FASTOPEN_COOKIE_BYTES_MAX];
        bytes.get_mut(..cookie.len())?.copy_from_slice(cookie);
        Some(Self {
            bytes,
            len: cookie.len() as u8,
            experimental: false,
        })
    }

    /// The same cookie in the experimental option, or (`false`) in that of RFC 7413.
    #[must_use]
    pub const fn in_experiment(self, experimental: bool) -> Self {
        Self {
            experimental,
            ..self
        }
    }

    /// The cookie's bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether it is a request for a cookie.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it travels in the experimental option (kind 254).
    pub const fn is_experimental(&self) -> bool {
        self.experimental
    }

    /// Bytes of the option, padding included.
    fn encoded_len(&self) -> usize {
        usize::from(self.len)
            .saturating_add(self.head().1)
            .next_multiple_of(4)
    }

    /// What comes before the cookie, and how much of it.
    const fn head(&self) -> ([u8; 4], usize) {
        let [a, b] = FASTOPEN_MAGIC;
        if self.experimental {
            ([KIND_EXPERIMENT, self.len.saturating_add(4), a, b], 4)
        } else {
            ([KIND_FASTOPEN, self.len.saturating_add(2), 0, 0], 2)
        }
    }

    /// Reads a cookie; `None` when it has no possible length. (Linux: `tcp_parse_fastopen_option`.)
    fn read(cookie: &[u8], experimental: bool) -> Option<Self> {
        let cookie = Self::new(cookie).filter(|_| cookie.len() != 2)?;
        Some(cookie.in_experiment(experimental))
    }
}

impl TcpOptions {
    /// Reads the option bytes of a segment. MSS, window scale, SACK-permitted and Fast Open count
    /// only in a SYN.
    #[inline]
    pub fn parse(bytes: &[u8], syn: bool) -> Self {
        if !syn && let Some(timestamps) = Timestamps::of_aligned(bytes) {
            return Self {
                timestamps: Some(timestamps),
                ..Self::default()
            };
        }
        Self::parse_all(bytes, syn)
    }

    fn parse_all(bytes: &[u8], syn: bool) -> Self {
        if syn && let Some(usual) = Self::of_usual_syn(bytes) {
            return usual;
        }
        Self::parse_each(bytes, syn)
    }

    #[inline]
    fn parse_each(mut bytes: &[u8], syn: bool) -> Self {
        let mut options = Self::default();
        while let Some((&kind, rest)) = bytes.split_first() {
            match kind {
                KIND_END => break,
                KIND_NOP => bytes = rest,
                _ => {
                    // The length covers kind and length themselves. One that cannot be ends the
                    // pass (MUST-7).
                    let len = rest.first().copied().map_or(0, usize::from);
                    let Some(data) = bytes.get(2..len) else {
                        // A signature may lie behind it (Linux: `SKB_DROP_REASON_TCP_AUTH_HDR`).
                        options.md5 |= bytes.len() >= OPTION_BYTES;
                        break;
                    };
                    options.take(kind, data, syn);
                    bytes = bytes.get(len..).unwrap_or_default();
                }
            }
        }
        options
    }

    /// Reads the options that lie in a SYN as Linux puts them, and nothing else: what almost every
    /// SYN has.
    #[inline]
    fn of_usual_syn(bytes: &[u8]) -> Option<Self> {
        let words = bytes.as_array::<20>()?.as_chunks::<4>().0;
        let [mss, head, value, echo, scale] = *words else {
            return None;
        };
        let (mss, scale) = (u32::from_be_bytes(mss), u32::from_be_bytes(scale));
        // An MSS of 0 says nothing.
        let is_usual = mss > USUAL_MSS
            && mss <= USUAL_MSS | 0xffff
            && u32::from_be_bytes(head) == USUAL_TIMESTAMPS
            && scale & !0xff == USUAL_SCALE;
        is_usual.then(|| Self {
            mss: Some(mss as u16),
            window_scale: Some((scale as u8).min(WINDOW_SCALE_MAX)),
            sack_permitted: true,
            timestamps: Some(Timestamps {
                value: u32::from_be_bytes(value),
                echo: u32::from_be_bytes(echo),
            }),
            ..Self::default()
        })
    }

    fn take(&mut self, kind: u8, data: &[u8], syn: bool) {
        match (kind, data) {
            (KIND_MSS, [a, b]) if syn => {
                // An MSS of 0 is no statement, as in Linux: an earlier one stands.
                let mss = u16::from_be_bytes([*a, *b]);
                self.mss = if mss > 0 { Some(mss) } else { self.mss };
            }
            (KIND_WINDOW_SCALE, [shift]) if syn => {
                self.window_scale = Some((*shift).min(WINDOW_SCALE_MAX));
            }
            (KIND_SACK_PERMITTED, []) if syn => self.sack_permitted = true,
            (KIND_TIMESTAMPS, [_, _, _, _, _, _, _, _]) => {
                self.timestamps = Some(Timestamps {
                    value: u32_at(data, 0),
                    echo: u32_at(data, 4),
                });
            }
            (KIND_SACK, _) if !data.is_empty() && data.len().is_multiple_of(8) => {
                self.sack = SackBlocks::NONE;
                for block in data.chunks_exact(8) {
                    let (start, end) = (u32_at(block, 0), u32_at(block, 4));
                    self.sack.push(SeqNumber::new(start), SeqNumber::new(end));
                }
            }
            //= https://www.rfc-editor.org/rfc/rfc7413#section-4.1.1
            //# Options with invalid Length values or without the SYN flag set MUST be ignored.
            //
            // Linux's tcp_parse_fastopen_option: an odd length is not looked at, an even one that
            // no cookie has (2, or above 16) withdraws an earlier cookie.
            (KIND_FASTOPEN, _) if syn && data.len().is_multiple_of(2) => {
                self.fastopen = FastOpenCookie::read(data, false);
            }
            (KIND_EXPERIMENT, [a, b, cookie @ ..])
                if syn && [*a, *b] == FASTOPEN_MAGIC && cookie.len().is_multiple_of(2) =>
            {
                self.fastopen = FastOpenCookie::read(cookie, true);
            }
            (KIND_MD5, _) => self.md5 = true,
            (KIND_ORDER_0 | KIND_ORDER_1, _) => self.accecn = Some(AccEcn::read(kind, data)),
            _ => {}
        }
    }

    /// Whether nothing but timestamps is to be written, if those are: every segment of an established
    /// connection in which nothing is missing.
    #[inline]
    fn is_plain(&self, syn: bool) -> bool {
        let any = self.md5 | !self.sack.is_empty() | self.accecn.is_some();
        !(any || syn && self.has_any_of_syn())
    }

    fn has_any_of_syn(&self) -> bool {
        let fixed = self.mss.is_some() | self.window_scale.is_some() | self.sack_permitted;
        fixed | self.fastopen.is_some()
    }

    /// How they lie in a header, for whoever asks for their length before writing them. MSS, window
    /// scale, SACK-permitted and Fast Open are written only in a SYN, as they count only there.
    #[inline(always)] // For every frame; otherwise through memory.
    pub fn layout(&self, syn: bool) -> OptionsLayout<'_> {
        let is_plain = self.is_plain(syn);
        let len = match self.timestamps {
            _ if !is_plain => self.encoded_len_of_all(syn),
            Some(_) => 12,
            None => 0,
        };
        OptionsLayout {
            options: self,
            syn,
            is_plain,
            len,
        }
    }

    /// The words of a SYN as Linux puts it; `None` when something is missing or comes on top.
    #[inline]
    fn usual_syn(&self) -> Option<[u32; 5]> {
        let more = self.md5 | !self.sack.is_empty() | self.fastopen.is_some();
        let more = more | self.accecn.is_some();
        let (mss, shift, stamps) = (self.mss?, self.window_scale?, self.timestamps?);
        (self.sack_permitted && !more).then_some([
            USUAL_MSS | u32::from(mss),
            USUAL_TIMESTAMPS,
            stamps.value,
            stamps.echo,
            USUAL_SCALE | u32::from(shift),
        ])
    }

    #[inline(never)]
    fn encoded_len_of_all(&self, syn: bool) -> usize {
        let mut len = if self.md5 { SIGNATURE_BYTES + 4 } else { 0 };
        len = len.saturating_add(self.accecn_len(syn));
        if !syn {
            if !self.sack.is_empty() {
                let blocks = self.sack.len().saturating_mul(8);
                len = len.saturating_add(blocks).saturating_add(4);
            }
            return len.saturating_add(if self.timestamps.is_some() { 12 } else { 0 });
        }
        if self.mss.is_some() {
            len = len.saturating_add(4);
        }
        if self.timestamps.is_some() {
            len = len.saturating_add(12);
        } else if self.sack_permitted {
            len = len.saturating_add(4);
        }
        if self.window_scale.is_some() {
            len = len.saturating_add(4);
        }
        if !self.sack.is_empty() {
            len = len
                .saturating_add(self.sack.len().saturating_mul(8))
                .saturating_add(4);
        }
        if let Some(cookie) = &self.fastopen {
            len = len.saturating_add(cookie.encoded_len());
        }
        len
    }

    /// Bytes that Accurate ECN adds beside the options of this segment.
    fn accecn_len(&self, syn: bool) -> usize {
        let Some(option) = &self.accecn else {
            return 0;
        };
        let (words, rest) = option.lengths();
        let sack_alone = syn && self.sack_permitted && self.timestamps.is_none();
        let scale = syn && self.window_scale.is_some();
        let is_taken_in = sack_alone || !self.sack.is_empty() || rest == 1 && scale;
        if rest == 0 || is_taken_in {
            words
        } else {
            words.saturating_add(4)
        }
    }

    #[inline(never)]
    fn emit_all(&self, syn: bool, bytes: &mut [u8]) -> Option<()> {
        if syn && let Some(words) = self.usual_syn() {
            let (places, _) = bytes.first_chunk_mut::<20>()?.as_chunks_mut::<4>();
            for (place, word) in places.iter_mut().zip(words) {
                *place = word.to_be_bytes();
            }
            return Some(());
        }
        let mut out = Writer { rest: bytes };
        let sack_permitted = syn && self.sack_permitted;
        if self.md5 {
            let len = SIGNATURE_BYTES as u8;
            out.word([KIND_NOP, KIND_NOP, KIND_MD5, len.saturating_add(2)])?;
            for _ in 0..SIGNATURE_BYTES / 4 {
                out.word([0; 4])?;
            }
        }
        if let Some(mss) = self.mss.filter(|_| syn) {
            let [a, b] = mss.to_be_bytes();
            out.word([KIND_MSS, 4, a, b])?;
        }
        if let Some(timestamps) = self.timestamps {
            if sack_permitted {
                out.word([KIND_SACK_PERMITTED, 2, KIND_TIMESTAMPS, 10])?;
            } else {
                out.word([KIND_NOP, KIND_NOP, KIND_TIMESTAMPS, 10])?;
            }
            out.word(timestamps.value.to_be_bytes())?;
            out.word(timestamps.echo.to_be_bytes())?;
        }
        let mut lead = out.accecn(self.accecn.as_ref())?;
        if sack_permitted && self.timestamps.is_none() {
            let [a, b] = core::mem::replace(&mut lead, NO_LEAD);
            out.word([a, b, KIND_SACK_PERMITTED, 2])?;
        }
        if let Some(shift) = self.window_scale.filter(|_| syn) {
            let mut first = KIND_NOP;
            // Two bytes stay together.
            if lead[1] == KIND_NOP {
                first = core::mem::replace(&mut lead, NO_LEAD)[0];
            }
            out.word([first, KIND_WINDOW_SCALE, 3, shift])?;
        }
        if !self.sack.is_empty() {
            let len = self.sack.len().saturating_mul(8).saturating_add(2) as u8;
            let [a, b] = core::mem::replace(&mut lead, NO_LEAD);
            out.word([a, b, KIND_SACK, len])?;
            for (start, end) in self.sack.as_slice() {
                out.word(start.value().to_be_bytes())?;
                out.word(end.value().to_be_bytes())?;
            }
        }
        if lead != NO_LEAD {
            out.word([lead[0], lead[1], KIND_NOP, KIND_NOP])?;
        }
        if let Some(cookie) = self.fastopen.as_ref().filter(|_| syn) {
            out.cookie(cookie)?;
        }
        Some(())
    }
}

/// Options and the bytes they take, looked at once.
#[derive(Clone, Copy, Debug)]
pub struct OptionsLayout<'a> {
    options: &'a TcpOptions,
    syn: bool,
    /// Nothing but timestamps, if those.
    is_plain: bool,
    len: usize,
}

impl OptionsLayout<'_> {
    /// Bytes that `emit` writes, a multiple of 4. More than 40 does not fit a header.
    #[inline]
    pub const fn encoded_len(&self) -> usize {
        self.len
    }

    /// Writes the options into exactly `encoded_len` bytes; `None` when `bytes` is shorter.
    #[inline(always)] // As above.
    pub fn emit(&self, bytes: &mut [u8]) -> Option<()> {
        if !self.is_plain {
            return self.options.emit_all(self.syn, bytes);
        }
        if let Some(timestamps) = self.options.timestamps {
            let (places, _) = bytes.first_chunk_mut::<12>()?.as_chunks_mut::<4>();
            let words = [ALIGNED_TIMESTAMPS, timestamps.value, timestamps.echo];
            for (place, word) in places.iter_mut().zip(words) {
                *place = word.to_be_bytes();
            }
        }
        Some(())
    }
}

/// Writes four bytes at a time and never beyond the end.
struct Writer<'a> {
    rest: &'a mut [u8],
}

impl Writer<'_> {
    #[inline]
    fn word(&mut self, word: [u8; 4]) -> Option<()> {
        let (place, rest) = core::mem::take(&mut self.rest).split_first_chunk_mut::<4>()?;
        *place = word;
        self.rest = rest;
        Some(())
    }

    /// The whole words of the option; what is left of it, for the place of the next two NOPs.
    fn accecn(&mut self, option: Option<&AccEcn>) -> Option<[u8; 2]> {
        let Some(option) = option else {
            return Some(NO_LEAD);
        };
        let (words, rest) = option.lengths();
        let bytes = option.to_bytes();
        let (whole, behind) = bytes.split_at_checked(words)?;
        for word in whole.as_chunks::<4>().0 {
            self.word(*word)?;
        }
        if rest == 0 {
            return Some(NO_LEAD);
        }
        behind.first_chunk::<2>().copied()
    }

    fn cookie(&mut self, cookie: &FastOpenCookie) -> Option<()> {
        let (head, head_len) = cookie.head();
        let (place, rest) =
            core::mem::take(&mut self.rest).split_at_mut_checked(cookie.encoded_len())?;
        place.fill(KIND_NOP);
        let (first, body) = place.split_at_mut_checked(head_len)?;
        first.copy_from_slice(head.get(..head_len)?);
        let bytes = cookie.as_slice();
        body.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.rest = rest;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(options: &TcpOptions) -> Vec<u8> {
        let layout = options.layout(true);
        let mut bytes = vec![0xee; layout.encoded_len()];
        layout.emit(&mut bytes).expect("fits");
        bytes
    }

    // The SYN of a Linux host: the layout that fingerprints know.
    // behaviour: MUST-68, A4-6
    #[test]
    fn a_syn_has_the_layout_of_linux() {
        let options = TcpOptions {
            mss: Some(1_460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps {
                value: 0x0102_0304,
                echo: 0,
            }),
            ..TcpOptions::default()
        };
        let expected = [
            2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
        ];
        assert_eq!(encode(&options), expected);
        assert_eq!(TcpOptions::parse(&expected, true), options);
        // Outside a SYN only the timestamps mean anything.
        let later = TcpOptions::parse(&expected, false);
        assert_eq!(
            later,
            TcpOptions {
                timestamps: options.timestamps,
                ..TcpOptions::default()
            }
        );
    }

    // MUST-7: an illegal length ends the pass and keeps what was read before.
    #[test]
    fn an_illegal_length_keeps_what_was_read_before_it() {
        for illegal in [&[253u8, 0, 2][..], &[253, 1], &[253], &[253, 200, 1]] {
            let mut bytes = vec![2, 4, 2, 0];
            bytes.extend_from_slice(illegal);
            bytes.extend_from_slice(&[1, 3, 3, 9]);
            let options = TcpOptions::parse(&bytes, true);
            assert_eq!(
                options,
                TcpOptions {
                    mss: Some(512),
                    ..TcpOptions::default()
                }
            );
        }
    }

    // MUST-6: unknown options are skipped by their length; known kinds with a wrong length
    // likewise.
    // behaviour: MUST-64
    #[test]
    fn unknown_kinds_and_wrong_lengths_are_skipped() {
        let bytes = [254, 4, 9, 9, 2, 3, 1, 3, 4, 1, 1, 3, 3, 40, 0, 2, 4, 1, 1];
        let options = TcpOptions::parse(&bytes, true);
        assert_eq!(
            options,
            TcpOptions {
                window_scale: Some(14),
                ..TcpOptions::default()
            }
        );
    }

    // RFC 7413 section 4.1.1: 4 to 16 bytes and even; an empty one asks for a cookie.
    #[test]
    fn a_fast_open_cookie_of_no_possible_length_is_none() {
        for len in 0..=20u8 {
            let mut bytes = vec![KIND_FASTOPEN, len + 2];
            bytes.resize(usize::from(len) + 2, 7);
            let cookie = TcpOptions::parse(&bytes, true).fastopen;
            let possible = len == 0 || ((4..=16).contains(&len) && len % 2 == 0);
            assert_eq!(cookie.is_some(), possible, "{len}");
            assert_eq!(TcpOptions::parse(&bytes, false).fastopen, None);
        }
    }

    // What is read and written at once is what the long way makes of it: one byte changed, or one
    // missing at the end, and it is the long way that reads.
    #[test]
    fn a_usual_syn_reads_the_same_at_once_and_one_by_one() {
        let stamps = Timestamps { value: 7, echo: 0 };
        let usual = TcpOptions {
            mss: Some(1_460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(stamps),
            ..TcpOptions::default()
        };
        let bytes = encode(&usual);
        assert_eq!(bytes.len(), 20);
        assert!(TcpOptions::of_usual_syn(&bytes).is_some());
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut other = bytes.clone();
                other[at] = value;
                let one_by_one = TcpOptions::parse_each(&other, true);
                assert_eq!(TcpOptions::parse(&other, true), one_by_one, "{at} {value}");
            }
            let shorter = &bytes[..at];
            let one_by_one = TcpOptions::parse_each(shorter, true);
            assert_eq!(TcpOptions::parse(shorter, true), one_by_one, "{at}");
        }
        let silent = TcpOptions::parse(&[&[2, 4, 0, 0], &bytes[4..]].concat(), true);
        assert_eq!((silent.mss, silent.timestamps), (None, Some(stamps)));
    }

    // Linux's tcp_parse_options: a zero MSS says nothing, a repeated option replaces the first.
    #[test]
    fn a_zero_mss_leaves_the_one_before_it() {
        let options = TcpOptions::parse(&[2, 4, 5, 0xb4, 2, 4, 0, 0], true);
        assert_eq!(options.mss, Some(1_460));
        assert_eq!(TcpOptions::parse(&[2, 4, 0, 0], true).mss, None);
        assert_eq!(
            TcpOptions::parse(&[2, 4, 0, 9, 2, 4, 0, 8], true).mss,
            Some(8)
        );
    }

    #[test]
    fn three_sack_blocks_fit_beside_timestamps() {
        let mut options = TcpOptions {
            timestamps: Some(Timestamps { value: 1, echo: 2 }),
            ..TcpOptions::default()
        };
        for start in [10u32, 30, 50] {
            assert!(
                options
                    .sack
                    .push(SeqNumber::new(start), SeqNumber::new(start + 5))
            );
        }
        let bytes = encode(&options);
        assert_eq!(bytes.len(), OPTIONS_BYTES_MAX);
        assert_eq!(TcpOptions::parse(&bytes, false), options);
    }

    // Linux's tcp_options_write: what does not fill a word stands in the place of NOPs.
    #[test]
    fn accurate_ecn_shares_words_with_its_neighbours() {
        let counted = |count: usize| AccEcn::new(true, &[0x01_0203, 0x04_0506, 0x07_0809][..count]);
        let later = |options: &TcpOptions| {
            let layout = options.layout(false);
            let mut bytes = vec![0xee; layout.encoded_len()];
            layout.emit(&mut bytes).expect("fits");
            assert_eq!(TcpOptions::parse(&bytes, false), *options);
            bytes
        };
        let alone = |count| {
            later(&TcpOptions {
                accecn: Some(counted(count)),
                ..TcpOptions::default()
            })
        };
        assert_eq!(alone(3), [174, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1]);
        assert_eq!(alone(2), [174, 8, 1, 2, 3, 4, 5, 6]);
        assert_eq!(alone(1), [174, 5, 1, 2, 3, 1, 1, 1]);
        assert_eq!(alone(0), [174, 2, 1, 1]);
        for (count, len) in [(3, 24), (2, 20), (1, 16), (0, 12)] {
            let mut options = TcpOptions {
                accecn: Some(counted(count)),
                ..TcpOptions::default()
            };
            options.sack.push(SeqNumber::new(1), SeqNumber::new(2));
            assert_eq!(later(&options).len(), len, "{count}");
        }
        let syn = TcpOptions {
            mss: Some(1_000),
            sack_permitted: true,
            window_scale: Some(8),
            accecn: Some(counted(1)),
            ..TcpOptions::default()
        };
        let bytes = [2, 4, 3, 232, 174, 5, 1, 2, 3, 1, 4, 2, 1, 3, 3, 8];
        assert_eq!(encode(&syn), bytes);
        assert_eq!(TcpOptions::parse(&bytes, true), syn);
        let stamped = TcpOptions {
            timestamps: Some(Timestamps::default()),
            ..syn
        };
        let bytes = encode(&stamped);
        assert_eq!(bytes[16..], [174, 5, 1, 2, 3, 3, 3, 8]);
        assert_eq!(TcpOptions::parse(&bytes, true), stamped);
        let other = AccEcn::new(false, &[1, 2]);
        let order_0 = TcpOptions::parse(&[172, 8, 0, 0, 1, 0, 0, 2], false).accecn;
        assert_eq!(order_0, Some(other));
        assert_eq!((other.counter(1), other.counter(2)), (Some(2), None));
        // Not a whole number of counters.
        let odd = TcpOptions::parse(&[174, 4, 9, 9], false).accecn;
        assert_eq!(odd, Some(AccEcn::new(true, &[])));
    }

    #[test]
    fn a_fast_open_cookie_is_padded_and_a_request_is_empty() {
        let mut options = TcpOptions {
            fastopen: FastOpenCookie::new(&[1, 2, 3, 4, 5, 6, 7, 8]),
            ..TcpOptions::default()
        };
        assert_eq!(encode(&options), [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]);
        assert_eq!(TcpOptions::parse(&encode(&options), true), options);
        options.fastopen = FastOpenCookie::new(&[]);
        assert_eq!(encode(&options), [34, 2, 1, 1]);
        assert!(FastOpenCookie::new(&[0; 17]).is_none());
    }

    // RFC 7413 appendix A: kind 254 with the magic number 0xF989, understood like kind 34.
    #[test]
    fn the_experimental_form_is_read_and_written_as_what_it_is() {
        let cookie = FastOpenCookie::new(&[1, 2, 3, 4, 5, 6]).expect("short");
        let mut options = TcpOptions {
            fastopen: Some(cookie.in_experiment(true)),
            ..TcpOptions::default()
        };
        let bytes = [254, 10, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 1, 1];
        assert_eq!(encode(&options), bytes);
        assert_eq!(TcpOptions::parse(&bytes, true), options);
        assert_eq!(TcpOptions::parse(&bytes, false).fastopen, None);
        options.fastopen = Some(FastOpenCookie::default().in_experiment(true));
        assert_eq!(encode(&options), [254, 4, 0xf9, 0x89]);
        // Another experiment, an odd length, a cookie that is too short or too long.
        for other in [
            &[254u8, 4, 0xf9, 0x88][..],
            &[254, 5, 0xf9, 0x89, 1],
            &[254, 6, 0xf9, 0x89, 1, 2],
            &[254, 3, 0xf9],
        ] {
            assert_eq!(TcpOptions::parse(other, true).fastopen, None, "{other:?}");
        }
    }
}
