//! The PSH bit, by Linux's rules.
//!
//! Linux marks the `sk_buff` at the end of each send that promises no more, and one whenever half of
//! the peer's largest window was written since the last mark; and every packet that the device or
//! the software behind it cuts into several segments has the bit on its last one. Where such a
//! packet ends depends on its size, which follows the pacing rate (`tcp_tso_autosize`). The stack
//! sends segment by segment and sets the bit when its queue is empty; here it is set anew in what
//! leaves.

use millrace_base::{Address, Endpoint, FlowTuple, Micros, SeqNumber};
use millrace_stack::FlowInfo;

use crate::file::SocketId;
use crate::sockets::Sockets;

/// The bit in the header's second word of flags.
const PSH: u8 = 8;
/// Where the flags and the checksum are in a TCP header.
const FLAGS_AT: usize = 13;
const CHECKSUM_AT: usize = 16;
const TCP: u8 = 6;
/// The largest packet that is cut (`GSO_LEGACY_MAX_SIZE`).
const PACKET_BYTES_MAX: u64 = 65_536;
/// Milliseconds of data in one packet, as a shift of the rate per second (`sk_pacing_shift`).
const PACING_SHIFT: u32 = 10;
/// Doubles the size for every so many microseconds less of round trip (`tcp_tso_rtt_log`).
const RTT_SHIFT: u32 = 9;

/// A segment with data that has left.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Where it is in the queue of packets.
    index: usize,
    /// Where its TCP header begins.
    tcp: usize,
    socket: SocketId,
    /// Bytes written before it and up to its end.
    start: u64,
    end: u64,
}

/// Segments that Linux would have sent as one packet.
#[derive(Clone, Copy, Debug)]
struct Packet {
    last: Segment,
    segments: u64,
    most: u64,
}

impl Sockets {
    /// The bytes written so far end with PSH.
    pub(crate) fn mark_push(&mut self, id: SocketId) {
        let Ok(socket) = self.get_mut(id) else { return };
        let end = socket.written;
        socket.outbox.pushes.insert(end);
        socket.outbox.pushed_to = end;
    }

    /// Whether half of the peer's largest window was written since the last mark (`forced_push`;
    /// behaviour: A3-28).
    pub(crate) fn must_push(&self, id: SocketId) -> bool {
        let (Ok(socket), Some(info)) = (self.get(id), self.info(id)) else {
            return false;
        };
        socket.written > socket.outbox.pushed_to + u64::from(info.snd_wnd_max / 2)
    }

    /// Gives every packet that has left since the last time the PSH bit that it would have.
    pub(crate) fn set_push_bits(&mut self) {
        let mut open: Option<Packet> = None;
        for index in self.finished..self.left.len() {
            let segment = self.segment_at(index);
            let grows = match (&open, &segment) {
                (Some(packet), Some(next)) => self.joins(packet, next),
                _ => false,
            };
            if !grows && let Some(packet) = open.take() {
                self.close_packet(&packet);
            }
            let Some(segment) = segment else { continue };
            let Ok(socket) = self.get(segment.socket) else {
                continue;
            };
            let marks = segment.start + 1..=segment.end;
            let pushed = socket.outbox.pushes.range(marks).next().is_some();
            self.put_push_bit(&segment, pushed);
            open = Some(match open {
                Some(packet) => Packet {
                    last: segment,
                    segments: packet.segments + 1,
                    ..packet
                },
                None => Packet {
                    last: segment,
                    segments: 1,
                    most: self.segments_max(segment.socket),
                },
            });
        }
        if let Some(packet) = open {
            self.close_packet(&packet);
        }
        self.finished = self.left.len();
        self.forget_pushes();
    }

    /// Whether a segment belongs to the packet before it.
    fn joins(&self, packet: &Packet, next: &Segment) -> bool {
        let last = &packet.last;
        let at = |index: usize| self.left.get(index).map(|(at, _)| *at);
        let Ok(socket) = self.get(next.socket) else {
            return false;
        };
        let starts_buffer = socket.buffers.iter().any(|b| b.start == next.start);
        last.socket == next.socket
            && last.end == next.start
            && at(last.index) == at(next.index)
            && packet.segments < packet.most
            && !starts_buffer
    }

    fn close_packet(&mut self, packet: &Packet) {
        if packet.segments < 2 {
            return;
        }
        self.put_push_bit(&packet.last, true);
        if let Ok(socket) = self.get_mut(packet.last.socket) {
            socket.outbox.pushes.insert(packet.last.end);
        }
    }

    /// Segments of one packet at most (`tcp_tso_autosize`, `tcp_cwnd_test`).
    fn segments_max(&self, id: SocketId) -> u64 {
        let Some(info) = self.info(id) else { return 1 };
        let mss = u64::from(info.mss.max(1));
        let mut bytes = self.pacing_rate(&info) >> PACING_SHIFT;
        let halvings = info.rtt_min.map_or(u32::MAX, Micros::as_micros) >> RTT_SHIFT;
        if halvings < 32 {
            bytes = bytes.saturating_add(PACKET_BYTES_MAX >> halvings);
        }
        let min = self.sysctls.number_of("tcp_min_tso_segs").unwrap_or(2);
        let size = (bytes.min(PACKET_BYTES_MAX) / mss).max(min);
        let window = u64::from(info.cwnd_bytes) / mss;
        size.min((window / 2).max(1))
    }

    /// Bytes per second (`tcp_update_pacing_rate`).
    fn pacing_rate(&self, info: &FlowInfo) -> u64 {
        let slow_start = info.cwnd_bytes < info.ssthresh_bytes / 2;
        let (name, default) = if slow_start {
            ("tcp_pacing_ss_ratio", 200)
        } else {
            ("tcp_pacing_ca_ratio", 120)
        };
        let percent = self.sysctls.number_of(name).unwrap_or(default);
        let per_round = u64::from(info.cwnd_bytes) * percent / 100;
        match info.srtt.map(Micros::as_micros) {
            None | Some(0) => u64::MAX,
            Some(micros) => per_round.saturating_mul(1_000_000) / u64::from(micros),
        }
    }

    /// What has left at a place of the queue, when it is a segment with data of a socket.
    fn segment_at(&self, index: usize) -> Option<Segment> {
        let (_, packet) = self.left.get(index)?;
        let (tuple, tcp, total) = tuple_of(packet)?;
        let header = usize::from(packet.get(tcp + 12)? >> 4) * 4;
        let bytes = total.checked_sub(tcp + header)?;
        if bytes == 0 {
            return None;
        }
        let mut sockets = self.sockets.iter();
        let (id, _) = sockets.find(|(_, socket)| {
            socket.flow.is_some()
                && socket.local == tuple.local
                && socket.remote == Some(tuple.remote)
        })?;
        let info = self.info(*id)?;
        let field = packet.get(tcp + 4..tcp + 8)?.try_into().ok()?;
        let distance = SeqNumber::new(u32::from_be_bytes(field)).distance(info.snd_una);
        let start = info.bytes_acked.checked_add_signed(i64::from(distance))?;
        Some(Segment {
            index,
            tcp,
            socket: *id,
            start,
            end: start + bytes as u64,
        })
    }

    fn put_push_bit(&mut self, segment: &Segment, on: bool) {
        let Some((_, packet)) = self.left.get_mut(segment.index) else {
            return;
        };
        let Some(header) = packet.get_mut(segment.tcp..) else {
            return;
        };
        let Some(flags) = header.get_mut(FLAGS_AT) else {
            return;
        };
        let before = *flags;
        *flags = if on { before | PSH } else { before & !PSH };
        let (old, new) = (u16::from(before), u16::from(*flags));
        let Some(field) = header.get_mut(CHECKSUM_AT..CHECKSUM_AT + 2) else {
            return;
        };
        // RFC 1624, equation 3; the flags are the low byte of their word.
        let sum = field
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let mut sum = (!sum & 0xffff) + u32::from(!old) + u32::from(new);
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        field.copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }

    /// Marks that were acknowledged are of no use any more.
    fn forget_pushes(&mut self) {
        let Self { sockets, stack, .. } = self;
        for socket in sockets.values_mut() {
            if socket.outbox.pushes.is_empty() {
                continue;
            }
            let info = socket.flow.and_then(|flow| stack.info(flow));
            let acked = info.map_or(u64::MAX, |info| info.bytes_acked);
            socket.outbox.pushes = socket.outbox.pushes.split_off(&acked);
        }
    }
}

/// The ends of a TCP packet that left (`local` is ours), where its TCP header begins, and where the
/// packet ends.
fn tuple_of(packet: &[u8]) -> Option<(FlowTuple, usize, usize)> {
    let word = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let (source, destination, tcp, total) = match packet.first()? >> 4 {
        4 if *packet.get(9)? == TCP => {
            let address = |at: usize| Some(Address::v4(packet.get(at..at + 4)?.try_into().ok()?));
            let header = usize::from(packet.first()? & 0xf) * 4;
            (address(12)?, address(16)?, header, usize::from(word(2)?))
        }
        6 if *packet.get(6)? == TCP => {
            let address = |at: usize| Some(Address::v6(packet.get(at..at + 16)?.try_into().ok()?));
            (address(8)?, address(24)?, 40, 40 + usize::from(word(4)?))
        }
        _ => return None,
    };
    let tuple = FlowTuple {
        local: Endpoint::new(source, word(tcp)?),
        remote: Endpoint::new(destination, word(tcp + 2)?),
    };
    Some((tuple, tcp, total))
}
