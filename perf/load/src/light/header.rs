//! Ethernet, IPv4 and TCP at fixed places: what a frame says, and frames from a template.
//!
//! ```text
//!   0         14        34         54                          66
//!   | Ethernet | IPv4    | TCP      | NOP NOP timestamps (12)   | payload
//!                                   | MSS SACK timestamps NOP WS (20)  in a SYN
//! ```

use millrace_base::{
    Address, HEADROOM_BYTES_DEFAULT, MacAddress, PacketBuf, PacketPool, TxOffload,
};
use millrace_wire::{Checksum, TcpOptions, protocol};

use super::Counts;

/// The flags of a TCP segment, as they are on the wire.
pub mod segment_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}
use segment_flags::{ACK, SYN};

const IP_AT: usize = 14;
const TCP_AT: usize = 34;
const OPTIONS_AT: usize = 54;
const STAMPED_BYTES: usize = 66;
const SYN_BYTES: usize = 74;
/// Bytes of the longest header that is made.
const HEADER_BYTES_MAX: usize = SYN_BYTES;
/// NOP, NOP, kind 8, length 10: how everybody writes the option (RFC 7323 appendix A).
const STAMP_START: [u8; 4] = [1, 1, 8, 10];
/// Window scale of both ends: 65,535 << 7 is 8 MiB.
const WINDOW_SHIFT: u8 = 7;
/// Time to live.
const HOP_LIMIT: u8 = 64;

/// Who computes and who verifies checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// This code: real sums on every frame.
    Software,
    /// A device, or nobody: frames leave with a request for it, those received are believed.
    Device,
}

/// The Ethernet addresses of both ends, and what the frames between them are like.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The peer's own Ethernet address.
    pub ours: MacAddress,
    /// Where frames go.
    pub theirs: MacAddress,
    /// The largest IP packet, bytes.
    pub mtu: u16,
    /// Checksums.
    pub checksums: Checksums,
}

/// What a received frame says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) source: (u32, u16),
    pub(super) destination: (u32, u16),
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    /// The window field, not scaled.
    pub(super) window: u16,
    /// The peer's timestamp; `None`: it sends none.
    pub(super) stamp: Option<u32>,
    /// Where the payload starts, and its bytes over the whole chain.
    pub(super) payload_at: usize,
    pub(super) payload_len: u32,
}

/// What a frame that is made shall say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Say {
    pub(super) source: (u32, u16),
    pub(super) destination: (u32, u16),
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    /// Our timestamp and the peer's; `None` sends none.
    pub(super) stamps: Option<(u32, u32)>,
}

impl Segment {
    /// What the frame says; `None` when it is no TCP segment over IPv4 without IP options.
    #[inline]
    pub(super) fn parse(frame: &impl PacketBuf) -> Option<Self> {
        let bytes = frame.bytes();
        let head = bytes.first_chunk::<OPTIONS_AT>()?;
        let is_tcp =
            head[12] == 8 && head[13] == 0 && head[14] == 0x45 && head[23] == protocol::TCP;
        if !is_tcp {
            return None;
        }
        let word = |at: usize| -> u32 {
            let bytes = head.get(at..).and_then(|tail| tail.first_chunk::<4>());
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        let header_len = usize::from(head[46] >> 4) * 4;
        let payload_at = TCP_AT + header_len;
        // Short frames are padded: the length is what the IP header says.
        let end = IP_AT + usize::from(u16::from_be_bytes([head[16], head[17]]));
        if end > frame.frame_len() {
            return None;
        }
        let payload_len = u32::try_from(end.checked_sub(payload_at)?).ok()?;
        let (ports, stamp) = (word(34), stamp_of(bytes, header_len));
        Some(Self {
            source: (word(26), (ports >> 16) as u16),
            destination: (word(30), ports as u16),
            seq: word(38),
            ack: word(42),
            flags: head[47],
            window: u16::from_be_bytes([head[48], head[49]]),
            stamp,
            payload_at,
            payload_len,
        })
    }

    /// Whether all these flags are set.
    #[inline]
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The sequence number behind everything the segment carries, SYN and FIN included.
    #[inline]
    pub(super) fn end(&self) -> u32 {
        let control = u32::from(self.has(SYN)) + u32::from(self.has(segment_flags::FIN));
        self.seq
            .wrapping_add(self.payload_len)
            .wrapping_add(control)
    }

    /// An answer to it: addresses swapped, acknowledging everything up to its end.
    #[inline]
    pub(super) fn answer(&self, flags: u8, seq: u32, now_ms: u32) -> Say {
        Say {
            source: self.destination,
            destination: self.source,
            seq,
            ack: self.end(),
            flags: flags | ACK,
            stamps: self.stamp.map(|theirs| (now_ms, theirs)),
        }
    }
}

#[inline]
fn stamp_of(bytes: &[u8], header_len: usize) -> Option<u32> {
    let options = bytes.get(OPTIONS_AT..TCP_AT + header_len)?;
    if header_len == 32
        && let Some((start, rest)) = options.split_first_chunk::<4>()
        && *start == STAMP_START
    {
        return rest
            .first_chunk::<4>()
            .map(|value| u32::from_be_bytes(*value));
    }
    if options.is_empty() {
        return None;
    }
    TcpOptions::parse(options, true)
        .timestamps
        .map(|stamps| stamps.value)
}

/// What the sender of this SYN shifts its later window fields by; 0 without the option.
pub(super) fn window_shift(frame: &impl PacketBuf, syn: &Segment) -> u8 {
    let options = frame.bytes().get(OPTIONS_AT..syn.payload_at);
    let options = TcpOptions::parse(options.unwrap_or_default(), true);
    options.window_scale.unwrap_or(0)
}

/// Makes frames for one link.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    link: Link,
    template: [u8; HEADER_BYTES_MAX],
}

impl Writer {
    pub(super) fn new(link: Link) -> Self {
        let mut template = [0; HEADER_BYTES_MAX];
        template[0..6].copy_from_slice(link.theirs.octets());
        template[6..12].copy_from_slice(link.ours.octets());
        template[12] = 8;
        template[IP_AT] = 0x45;
        // Don't fragment.
        template[20] = 0x40;
        template[22] = HOP_LIMIT;
        template[23] = protocol::TCP;
        template[48..50].copy_from_slice(&[0xff, 0xff]);
        Self { link, template }
    }

    /// The largest payload of a segment with timestamps.
    pub(super) fn payload_max(&self) -> usize {
        usize::from(self.link.mtu).saturating_sub(STAMPED_BYTES - IP_AT)
    }

    /// A frame with room for `payload` bytes, which `fill` writes. `None`, and counted: the pool is empty.
    #[inline]
    pub(super) fn frame<P: PacketPool>(
        &self,
        say: &Say,
        payload: usize,
        pool: &mut P,
        counts: &mut Counts,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<P::Buf> {
        let mut header = self.template;
        let header_bytes = self.write_options(&mut header, say);
        let total = header_bytes - IP_AT + payload;
        header[16..18].copy_from_slice(&(total as u16).to_be_bytes());
        header[26..30].copy_from_slice(&say.source.0.to_be_bytes());
        header[30..34].copy_from_slice(&say.destination.0.to_be_bytes());
        header[34..36].copy_from_slice(&say.source.1.to_be_bytes());
        header[36..38].copy_from_slice(&say.destination.1.to_be_bytes());
        header[38..42].copy_from_slice(&say.seq.to_be_bytes());
        header[42..46].copy_from_slice(&say.ack.to_be_bytes());
        header[46] = ((header_bytes - TCP_AT) as u8) << 2;
        header[47] = say.flags;
        let made = self.place(&header, header_bytes, payload, pool, fill);
        if made.is_some() {
            counts.frames_out += 1;
        } else {
            counts.no_buffers += 1;
        }
        made
    }

    /// Writes the options; returns the bytes of the whole header.
    #[inline]
    fn write_options(&self, header: &mut [u8; HEADER_BYTES_MAX], say: &Say) -> usize {
        let (ours, theirs) = say.stamps.unwrap_or_default();
        if say.flags & SYN == 0 {
            if say.stamps.is_none() {
                return OPTIONS_AT;
            }
            header[54..58].copy_from_slice(&STAMP_START);
            header[58..62].copy_from_slice(&ours.to_be_bytes());
            header[62..66].copy_from_slice(&theirs.to_be_bytes());
            return STAMPED_BYTES;
        }
        let mss = self.link.mtu.saturating_sub(40).to_be_bytes();
        header[54..60].copy_from_slice(&[2, 4, mss[0], mss[1], 4, 2]);
        if say.stamps.is_some() {
            header[60..62].copy_from_slice(&[8, 10]);
            header[62..66].copy_from_slice(&ours.to_be_bytes());
            header[66..70].copy_from_slice(&theirs.to_be_bytes());
        } else {
            header[60..70].fill(1);
        }
        header[70..74].copy_from_slice(&[1, 3, 3, WINDOW_SHIFT]);
        SYN_BYTES
    }

    #[inline]
    fn place<P: PacketPool>(
        &self,
        header: &[u8; HEADER_BYTES_MAX],
        header_bytes: usize,
        payload: usize,
        pool: &mut P,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<P::Buf> {
        let mut frame = pool.alloc()?;
        if !frame.set_span(HEADROOM_BYTES_DEFAULT, header_bytes + payload) {
            return None;
        }
        let bytes = frame.bytes_mut()?;
        let (head, body) = bytes.split_at_mut_checked(header_bytes)?;
        head.copy_from_slice(header.get(..header_bytes)?);
        fill(body);
        match self.link.checksums {
            Checksums::Software => write_checksums(bytes),
            Checksums::Device => {
                let offload = TxOffload {
                    l2_len: IP_AT as u8,
                    l3_len: (TCP_AT - IP_AT) as u8,
                    l4_len: (header_bytes - TCP_AT) as u8,
                    ip_checksum: true,
                    tcp_checksum: true,
                    ..TxOffload::default()
                };
                let partial = pseudo_header(bytes)?.partial();
                bytes
                    .get_mut(50..52)?
                    .copy_from_slice(&partial.to_be_bytes());
                if !frame.set_tx_offload(offload) {
                    return None;
                }
            }
        }
        Some(frame)
    }

    /// What a received frame says; `None` when it is counted as no segment, or as a wrong one.
    #[inline]
    pub(super) fn receive(&self, frame: &impl PacketBuf, counts: &mut Counts) -> Option<Segment> {
        counts.frames_in += 1;
        let Some(segment) = Segment::parse(frame) else {
            counts.unexpected += 1;
            return None;
        };
        if !self.believes(frame, &segment) {
            counts.bad_checksums += 1;
            return None;
        }
        Some(segment)
    }

    /// Whether the checksums of a received frame are right, or nobody's business.
    #[inline]
    fn believes(&self, frame: &impl PacketBuf, segment: &Segment) -> bool {
        self.link.checksums == Checksums::Device || verify(frame, segment).unwrap_or(false)
    }
}

fn pseudo_header(bytes: &[u8]) -> Option<Checksum> {
    let tcp_bytes = u32::try_from(bytes.len() - TCP_AT).ok()?;
    Some(pseudo_header_of(bytes.first_chunk::<TCP_AT>()?, tcp_bytes))
}

fn pseudo_header_of(head: &[u8; TCP_AT], tcp_bytes: u32) -> Checksum {
    let source = Address::v4([head[26], head[27], head[28], head[29]]);
    let destination = Address::v4([head[30], head[31], head[32], head[33]]);
    Checksum::pseudo_header(source, destination, protocol::TCP, tcp_bytes)
}

fn write_checksums(bytes: &mut [u8]) {
    let Some(mut sum) = pseudo_header(bytes) else {
        return;
    };
    let Some((head, tcp)) = bytes.split_first_chunk_mut::<TCP_AT>() else {
        return;
    };
    sum.add_bytes(tcp);
    if let Some(field) = tcp.get_mut(16..18) {
        field.copy_from_slice(&sum.finish().to_be_bytes());
    }
    let mut sum = Checksum::new();
    sum.add_bytes(&head[IP_AT..]);
    head[24..26].copy_from_slice(&sum.finish().to_be_bytes());
}

fn verify(frame: &impl PacketBuf, segment: &Segment) -> Option<bool> {
    let header_bytes = u32::try_from(segment.payload_at - TCP_AT).ok()?;
    let tcp_bytes = header_bytes + segment.payload_len;
    let head = frame.bytes().first_chunk::<TCP_AT>()?;
    let mut ip = Checksum::new();
    ip.add_bytes(&head[IP_AT..]);
    let mut sum = pseudo_header_of(head, tcp_bytes);
    let (mut skip, mut left) = (TCP_AT, tcp_bytes as usize);
    for piece in frame.segments() {
        let piece = piece.get(skip..)?;
        let piece = piece.get(..left.min(piece.len()))?;
        sum.add_bytes(piece);
        left -= piece.len();
        skip = 0;
    }
    Some(ip.finish() == 0 && sum.finish() == 0)
}
