//! The PSH bit, by Linux's rules.
//!
//! Linux marks the `sk_buff` at the end of each send that promises no more, and one whenever half of
//! the peer's largest window was written since the last mark; and every packet that the device or
//! the software behind it cuts into several segments has the bit on its last one. Where such a
//! packet ends depends on its size, which follows the pacing rate (`tcp_tso_autosize`). The stack
//! sends segment by segment and sets the bit when its queue is empty; here it is set anew in what
//! leaves.

use millrace_base::{Micros, SeqNumber};
use millrace_stack::FlowInfo;

use crate::file::SocketId;
use crate::header::{FLAGS_AT, Header, PSH, SYN};
use crate::sockets::Sockets;

/// The largest packet that is cut (`GSO_LEGACY_MAX_SIZE`).
const PACKET_BYTES_MAX: u64 = 65_536;
/// Milliseconds of data in one packet, as a shift of the rate per second (`sk_pacing_shift`).
const PACING_SHIFT: u32 = 10;

/// A segment of a connection that has left.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Where it is in the queue of packets.
    index: usize,
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

    /// Gives every packet that has left since the last time the looks and the bits of its socket.
    pub(crate) fn finish_packets(&mut self) {
        let mut open: Option<Packet> = None;
        let first = self.finished;
        for index in first..self.left.len() {
            self.dress(index);
            let segment = self.segment_at(index);
            if let Some(segment) = &segment {
                self.count_out(segment.socket, segment.end - segment.start);
                let now = self.now;
                if segment.end > segment.start
                    && let Ok(socket) = self.get_mut(segment.socket)
                {
                    socket.rate.on_sent(now, segment.end);
                }
                self.put_urgent(index, segment.socket, segment.start);
            }
            // Only data is cut and pushed, and not those of a SYN.
            let segment = segment.filter(|segment| segment.end > segment.start);
            let segment = segment.filter(|_| !self.is_syn(index));
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
        for index in first..self.left.len() {
            self.sign_again(index);
        }
        self.delay_packets(first);
        self.forget_pushes();
    }

    fn is_syn(&self, index: usize) -> bool {
        let header = self
            .left
            .get(index)
            .and_then(|(_, packet)| Header::of(packet));
        header.is_some_and(|header| header.flags & SYN != 0)
    }

    /// Whether a segment belongs to the packet before it.
    fn joins(&self, packet: &Packet, next: &Segment) -> bool {
        let last = &packet.last;
        let at = |index: usize| self.left.get(index).map(|(at, _)| *at);
        let Ok(socket) = self.get(next.socket) else {
            return false;
        };
        let starts_buffer = socket.buffers.iter().any(|b| b.start == next.start);
        // A shorter segment ends a packet, and one that is longer than all others is a probe of the
        // path.
        let mss = self.info(next.socket).map_or(0, |info| u64::from(info.mss));
        let (before, behind) = (last.end - last.start, next.end - next.start);
        let is_alike = behind == before || (behind < before && before <= mss);
        is_alike
            && last.socket == next.socket
            && last.end == next.start
            && at(last.index) == at(next.index)
            && packet.segments < packet.most
            && !starts_buffer
    }

    fn close_packet(&mut self, packet: &Packet) {
        if packet.segments < 2 {
            return;
        }
        // On the wire only: Linux sets it in the clone that leaves, so a retransmission lacks it.
        self.put_push_bit(&packet.last, true);
    }

    /// Segments of one packet at most (`tcp_tso_autosize`, `tcp_cwnd_test`).
    fn segments_max(&self, id: SocketId) -> u64 {
        let Some(info) = self.info(id) else { return 1 };
        let mss = u64::from(info.mss.max(1));
        let mut bytes = self.pacing_rate(&info) >> PACING_SHIFT;
        let near = info.rtt_min.map_or(u32::MAX, Micros::as_micros);
        let halvings = near.checked_shr(self.sysctls.tunables().tcp_tso_rtt_log.into());
        let halvings = halvings.unwrap_or(0);
        if halvings < 32 {
            bytes = bytes.saturating_add(PACKET_BYTES_MAX >> halvings);
        }
        let min = u64::from(self.sysctls.tunables().tcp_min_tso_segs);
        // Urgent data is not sent in large packets (behaviour: A3-36).
        if self.get(id).is_ok_and(|s| s.is_urgent(info.bytes_acked)) {
            return 1;
        }
        let size = (bytes.min(PACKET_BYTES_MAX) / mss).max(min);
        let window = u64::from(info.cwnd_bytes) / mss;
        size.min((window / 2).max(1))
    }

    /// Bytes per second (`tcp_update_pacing_rate`).
    fn pacing_rate(&self, info: &FlowInfo) -> u64 {
        if info.bbr.is_some() {
            return info.pacing_rate;
        }
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

    /// What has left at a place of the queue, when it is a segment of a connection.
    fn segment_at(&mut self, index: usize) -> Option<Segment> {
        let (_, packet) = self.left.get(index)?;
        let header = Header::of(packet)?;
        self.note_receive_base(&header);
        let id = self.connected(header.source, header.destination)?;
        let info = self.info(id)?;
        let distance = SeqNumber::new(header.seq).distance(info.snd_una);
        let start = info.bytes_acked.checked_add_signed(i64::from(distance))?;
        Some(Segment {
            index,
            socket: id,
            start,
            end: start + header.bytes() as u64,
        })
    }

    fn put_push_bit(&mut self, segment: &Segment, on: bool) {
        let Some((_, packet)) = self.left.get_mut(segment.index) else {
            return;
        };
        let Some(header) = Header::of(packet) else {
            return;
        };
        let flags = if on {
            header.flags | PSH
        } else {
            header.flags & !PSH
        };
        header.rewrite(packet, FLAGS_AT, &[flags]);
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
