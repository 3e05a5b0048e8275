//! Options: what each SYN offers, what both agreed on, and the segment size that is left.

use millrace_base::{Instant, PacketPool};
use millrace_wire::tcp::OPTIONS_BYTES_MAX;
use millrace_wire::{SackBlocks, TcpOptions, Timestamps};

use super::chunk::{CONTINUED, Chunks};
use super::config::TcpTunables;
use super::connection::Connection;
use super::ecn::accurate::OPTION_BYTES as ACCURATE_ECN_BYTES;
use super::marks::Marks;
use super::segment::Env;
use super::signing::SIGNATURE_OPTION_BYTES;

/// The segment size of a peer that does not say one (MUST-15, IPv4).
pub(crate) const MSS_DEFAULT: u16 = 536;
/// The same for IPv6 (MUST-15).
pub(crate) const MSS_DEFAULT_V6: u16 = 1_220;

/// No peer's window makes segments smaller than this, headers included (Linux:
/// `tcp_bound_to_half_wnd`).
const MSS_BOUND_MIN: u16 = 68 - 20;

/// Bytes of a SACK option with its padding: without blocks, and of each block (RFC 2018 section 3).
const SACK_HEADER_BYTES: usize = 4;
const SACK_BLOCK_BYTES: usize = 8;
/// Bytes of a timestamp option with its padding.
const TIMESTAMPS_BYTES: u16 = 12;

impl Connection {
    /// Bytes of IP and TCP header without options.
    pub(super) fn fixed_headers_len(&self) -> u16 {
        if self.tuple.local.address.is_v4() {
            40
        } else {
            60
        }
    }

    /// The MSS of a peer that does not say one.
    pub(super) fn default_mss(&self) -> u16 {
        if self.tuple.local.address.is_v4() {
            MSS_DEFAULT
        } else {
            MSS_DEFAULT_V6
        }
    }

    /// What fits the path, options not subtracted (RFC 6691; MUST-67).
    #[inline]
    pub(super) fn largest_segment(&self) -> u16 {
        self.mtu
            .saturating_sub(self.fixed_headers_len())
            .max(MSS_DEFAULT)
    }

    /// The MSS we announce: what fits the path, or less where the route or the application says so
    /// (MUST-14).
    pub(super) fn advertised_mss(&self, tunables: &TcpTunables) -> u16 {
        tunables.special.announced(self.largest_segment())
    }

    /// The payload of a full segment of the peer: what we announce, less the timestamps that all of them
    /// carry (Linux: `advmss`).
    pub(super) fn announced_payload(&self, tunables: &TcpTunables) -> u32 {
        let stamps = if self.timestamps.agreed() { 12 } else { 0 };
        u32::from(self.advertised_mss(tunables)).saturating_sub(stamps)
    }

    /// The window that our SYN offers, bytes.
    pub(super) fn first_offer(&self, tunables: &TcpTunables) -> u32 {
        tunables.receive_window_offer(self.advertised_mss(tunables))
    }

    /// The window field of a SYN (`answer` = false) or SYN-ACK. That of a SYN-ACK was chosen when the
    /// peer's SYN came, and stays: a path that has become smaller meanwhile takes nothing of it back
    /// (Linux: `rsk_rcv_wnd`).
    pub(super) fn offer_of_syn(&mut self, tunables: &TcpTunables, answer: bool) -> u16 {
        let offered = if answer {
            self.window.size()
        } else {
            self.window.offer(self.first_offer(tunables))
        };
        offered.min(0xffff) as u16
    }

    /// The options of a SYN (`answer` = false) or SYN-ACK.
    pub(super) fn syn_options(
        &self,
        now: Instant,
        tunables: &TcpTunables,
        answer: bool,
    ) -> TcpOptions {
        // behaviour: A4-16. There is room for only one of signature and timestamps beside the rest.
        let signed = self.is_signed();
        let timestamps = if answer {
            self.timestamps.agreed()
        } else {
            tunables.tcp_timestamps
        } && !signed;
        let scaling = if answer {
            self.window.scale() != 0 || self.snd_scale != 0
        } else {
            tunables.tcp_window_scaling
        };
        let scale = if answer {
            self.window.scale()
        } else {
            tunables.window_scale()
        };
        TcpOptions {
            mss: Some(self.advertised_mss(tunables)),
            window_scale: scaling.then_some(scale),
            sack_permitted: if answer {
                self.sack_permitted
            } else {
                tunables.tcp_sack
            },
            timestamps: timestamps.then(|| self.timestamp(now)),
            md5: signed,
            ..TcpOptions::default()
        }
    }

    /// The options of a segment with data: those that are on every segment.
    ///
    /// Unlike Linux, data never carries SACK blocks: `output.rs` sends an ACK with them first. So a
    /// full segment has one size, whatever is missing in the other direction.
    #[inline(always)] // Made where it is used, as `plain_options`.
    pub(super) fn segment_options<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> TcpOptions {
        if self.ack.ecn.is_accurate() {
            return self.all_options(env, false);
        }
        self.plain_options(env.now)
    }

    /// The same without what changes from segment to segment.
    #[inline(always)] // A handful of words, which are otherwise copied into the header.
    pub(super) fn plain_options(&self, now: Instant) -> TcpOptions {
        TcpOptions {
            timestamps: self.timestamps.agreed().then(|| self.timestamp(now)),
            md5: self.is_signed(),
            ..TcpOptions::default()
        }
    }

    /// The options of a segment without data: SACK blocks as well, while something is missing.
    #[inline(always)] // As above.
    pub(super) fn ack_options<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> TcpOptions {
        if self.has_sack_news() || self.ack.ecn.is_accurate() {
            return self.all_options(env, true);
        }
        self.plain_options(env.now)
    }

    /// With what few segments carry: SACK blocks, if it is an ACK, and the counters of Accurate ECN.
    #[inline(never)] // What has its address taken is not made where it is used.
    fn all_options<P: PacketPool>(&mut self, env: &mut Env<'_, P>, is_ack: bool) -> TcpOptions {
        let mut options = self.plain_options(env.now);
        if is_ack && self.has_sack_news() {
            options.sack = self.sack_blocks(env.chunks);
        }
        if self.ack.ecn.is_accurate() {
            self.tell_counters(env.chunks, (env.now, env.tunables), &mut options, is_ack);
        }
        options
    }

    /// Whether an ACK would carry SACK blocks.
    #[inline]
    pub(super) fn has_sack_news(&self) -> bool {
        self.sack_permitted && (!self.reassembly.is_empty() || self.reassembly.has_duplicate())
    }

    /// The blocks to report: a duplicate first (RFC 2883 section 4), then what was received out of
    /// order.
    fn sack_blocks<B>(&mut self, chunks: &mut Chunks<B>) -> SackBlocks {
        let room = OPTIONS_BYTES_MAX
            .saturating_sub(self.plain_options_len().into())
            .saturating_sub(SACK_HEADER_BYTES)
            / SACK_BLOCK_BYTES;
        let mut blocks = SackBlocks::NONE;
        if let Some(duplicate) = self.reassembly.take_duplicate(chunks)
            && room > 0
        {
            blocks.push(duplicate.start, duplicate.end);
        }
        for block in self.reassembly.blocks(chunks) {
            if blocks.len() >= room {
                break;
            }
            // A FIN behind the last byte of a block was received with it, and has a number.
            let fin = self.marks.has(Marks::PEER_FIN_CAME) && block.end == self.peer_fin;
            blocks.push(block.start, block.end.plus(u32::from(fin)));
        }
        blocks
    }

    #[inline]
    fn timestamp(&self, now: Instant) -> Timestamps {
        Timestamps {
            value: self.timestamps.value(now),
            echo: self.timestamps.recent,
        }
    }

    /// Takes over what the peer's SYN or SYN-ACK says, given what ours said or will say. What a segment
    /// may hold follows from that, and from the window: `update_mss`.
    pub(super) fn agree(&mut self, offered: &TcpOptions, now: Instant, tunables: &TcpTunables) {
        let said = offered.mss.map(|mss| tunables.special.agreed(mss));
        self.peer_mss = match (said, tunables.special.user_mss) {
            (Some(said), _) => said,
            (None, 0) => self.default_mss(),
            // What the application chose stands for what the peer did not say (Linux:
            // `tcp_connect_init`).
            (None, user) => user,
        };
        self.sack_permitted = tunables.tcp_sack && offered.sack_permitted;
        if let Some(stamps) = offered.timestamps.filter(|_| tunables.tcp_timestamps) {
            self.timestamps.agree();
            self.timestamps.remember(stamps.value, now);
        }
        self.snd_scale = 0;
        if let Some(scale) = offered.window_scale.filter(|_| tunables.tcp_window_scaling) {
            self.snd_scale = scale;
        }
    }

    /// Computes the effective segment size (RFC 9293 section 3.7.1, MUST-16). `searched` is the
    /// largest packet that a search has seen arrive (`mtu_probe.rs`).
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.7.1
    //# Eff.snd.MSS = min(SendMSS+20, MMS_S) - TCPhdrsize - IPoptionsize
    pub(super) fn update_mss(&mut self, tunables: &TcpTunables, searched: Option<u16>) {
        let mtu = searched.map_or(self.mtu, |searched| searched.min(self.mtu));
        let mss = self.mss_of(mtu, tunables);
        let path = u32::from(self.peer_mss).saturating_mul(2);
        if self.wnd_max != 0 && self.wnd_max < path {
            self.marks.set(Marks::MSS_BOUND);
        } else {
            self.marks.clear(Marks::MSS_BOUND);
        }
        if mss != self.mss {
            // A window counts segments, as Linux's does: smaller ones make it smaller.
            self.mss = mss;
            self.congestion.set_mss(mss);
        }
        self.ack.limit_receive_mss(self.advertised_mss(tunables));
    }

    /// Payload of a full segment on a path of `mtu` bytes (Linux: `tcp_mtu_to_mss`).
    pub(super) fn mss_of(&self, mtu: u16, tunables: &TcpTunables) -> u16 {
        let path = mtu.saturating_sub(self.fixed_headers_len());
        let options = self.options_len();
        // Two segments must fit the largest window of a peer that has little room (Linux:
        // `tcp_bound_to_half_wnd`).
        let bound = match self.wnd_max {
            0 => u32::MAX,
            small if small <= u32::from(MSS_DEFAULT) => small,
            large => large / 2,
        };
        let bound = bound.max(u32::from(MSS_BOUND_MIN.saturating_sub(options)));
        let mss = self.peer_mss.min(path).saturating_sub(options);
        let mss = mss.max(tunables.tcp_min_snd_mss);
        u32::from(mss).min(bound) as u16
    }

    /// The packet that carries `mss` bytes of payload (Linux: `tcp_mss_to_mtu`).
    pub(super) fn mtu_of(&self, mss: u16) -> u16 {
        mss.saturating_add(self.options_len())
            .saturating_add(self.fixed_headers_len())
    }

    /// Bytes of the options that every segment carries.
    fn options_len(&self) -> u16 {
        let accurate = if self.ack.ecn.carries_option() {
            ACCURATE_ECN_BYTES
        } else {
            0
        };
        self.plain_options_len().saturating_add(accurate)
    }

    /// The same without the option of Accurate ECN, which makes room for SACK blocks.
    fn plain_options_len(&self) -> u16 {
        let stamps = if self.timestamps.agreed() {
            TIMESTAMPS_BYTES
        } else {
            0
        };
        if self.is_signed() {
            stamps.saturating_add(SIGNATURE_OPTION_BYTES)
        } else {
            stamps
        }
    }

    /// Segments in flight are too large for the path: sends them again in smaller ones, without
    /// reducing the window, because this is not congestion (Linux: `tcp_simple_retransmit`).
    pub(super) fn retransmit_oversized<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let mss = self.mss;
        let unsent = self.send.unsent();
        let mut index = self.send.queue().head();
        while index != unsent {
            // A segment may be of several chunks, none of which is too large.
            let (first, mut bytes) = (index, 0u32);
            while let Some(chunk) = env.chunks.get(index).filter(|_| index != unsent)
                && (index == first || chunk.has(CONTINUED))
            {
                bytes = bytes.saturating_add(chunk.len.into());
                index = chunk.next();
            }
            let (behind, mut lost) = (index, first);
            while bytes > mss.into() && lost != behind {
                self.send.board.mark_lost(env.chunks, lost);
                lost = env.chunks.get(lost).map_or(behind, |chunk| chunk.next());
            }
            if first == behind {
                break;
            }
        }
        if self.send.board.has_pending(env.chunks) {
            self.recover_without_congestion(env);
        }
    }
}
