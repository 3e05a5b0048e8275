//! Pieces of fragmented packets, put together again (RFC 791 section 3.2, RFC 8200 section 4.5, RFC
//! 5722, RFC 8900).
//!
//! Only frames with fragment bits come here, and only of TCP and ICMP to our addresses; pieces of
//! anything else are the control path's as they are. Nothing is copied: the buffers of a packet
//! become one chain behind the header of its first piece, and go through the stack like any frame.
//!
//! Everything is bounded by name: packets under way, pieces of one and of all, their memory
//! (`ipfrag_high_thresh`), the time to wait (`ipfrag_time`, `ip6frag_time`) and, for IPv4, whose
//! identification is short, how many pieces of other packets of the same sender may come between two
//! of one (`ipfrag_max_dist`). Pieces that overlap end their packet.
//!
//! Linux: `ip_frag_queue`, `ip6_frag_queue`, `inet_frag_queue_insert`.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use millrace_base::{Address, Instant, Key, Nanos, PacketBuf, Slab};
use millrace_wire::{Checksum, Fragment, ipv4, ipv6, protocol};

use crate::limits::{FRAGMENT_PACKETS_MAX, FRAGMENTS_MAX, FRAGMENTS_PER_PACKET_MAX};
use crate::stats::{Stats, count};
use crate::tcp_input::trim;
use crate::verdict::DropReason;

/// Knobs of reassembly, under the names of Linux's sysctls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentTunables {
    /// Bytes of buffers that pieces may hold before no further packet is begun. Default 4 MiB.
    pub ipfrag_high_thresh: u32,
    /// Seconds to wait for the rest of an IPv4 packet. Default 30.
    pub ipfrag_time: u32,
    /// Seconds to wait for the rest of an IPv6 packet. Default 60.
    pub ip6frag_time: u32,
    /// Pieces of other packets of the same sender between two of one IPv4 packet; 0 is any number.
    /// Default 64.
    pub ipfrag_max_dist: u32,
}

impl Default for FragmentTunables {
    fn default() -> Self {
        Self {
            ipfrag_high_thresh: 4 * 1024 * 1024,
            ipfrag_time: 30,
            ip6frag_time: 60,
            ipfrag_max_dist: 64,
        }
    }
}

/// What a frame says of the piece that it carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FragmentFrame {
    pub(crate) packet: PacketId,
    pub(crate) fragment: Fragment,
    /// Where the IP header begins, counted from the start of the frame.
    pub(crate) ip_at: u16,
    /// Where the piece's bytes begin, counted from there.
    pub(crate) payload_at: u16,
    /// Bytes of the piece.
    pub(crate) payload_len: u16,
    /// ECN bits of the IP header.
    pub(crate) ecn: u8,
}

/// What the pieces of one packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PacketId {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) identification: u32,
    /// The protocol; IPv6 does not tell packets apart by it (RFC 8200 section 4.5).
    pub(crate) protocol: u8,
}

/// What became of a piece.
#[derive(Debug)]
pub(crate) enum Gathered<B> {
    /// It waits for others.
    Waits,
    /// It was the last: the whole packet, in a frame like its first piece.
    Whole(B),
    /// It goes no further.
    Dropped(DropReason),
}

/// A packet whose time was over.
#[derive(Debug)]
pub(crate) struct Overdue<B> {
    pub(crate) packet: PacketId,
    /// Its first piece, when it had come: whoever sent it is told.
    pub(crate) first: Option<B>,
    /// Where the IP header of `first` begins.
    pub(crate) ip_at: usize,
}

/// All packets under way. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Reassembler<B> {
    packets: Vec<Packet>,
    buffers: Slab<B>,
    /// Bytes of the memory of all buffers.
    held_bytes: usize,
}

#[derive(Debug)]
struct Packet {
    id: PacketId,
    deadline: Instant,
    /// Bytes of payload, as far as they are known; exact when `last_came`.
    len: u32,
    last_came: bool,
    /// Bytes that are here.
    here: u32,
    /// Pieces of other packets of this sender since the last one of this.
    distance: u32,
    /// The ECN fields seen, one bit each.
    ecn: u8,
    /// In order, without overlap.
    pieces: ArrayVec<Piece, FRAGMENTS_PER_PACKET_MAX>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u32,
    end: u32,
    buffer: Key,
    ip_at: u16,
    payload_at: u16,
}

/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER_BYTES: usize = 8;

impl<B: PacketBuf> Reassembler<B> {
    pub(crate) fn new() -> Self {
        Self {
            packets: Vec::with_capacity(FRAGMENT_PACKETS_MAX),
            buffers: Slab::new(FRAGMENTS_MAX),
            held_bytes: 0,
        }
    }

    /// Takes a piece. O(packets under way + pieces of this one).
    pub(crate) fn take(
        &mut self,
        now: Instant,
        info: &FragmentFrame,
        frame: B,
        tunables: &FragmentTunables,
        stats: &mut Stats,
    ) -> Gathered<B> {
        count!(stats.ip_reasm_reqds);
        let Some(index) = self.find_or_begin(now, info, tunables, stats) else {
            count!(stats.ip_reasm_fails);
            return Gathered::Dropped(DropReason::FragmentMemory);
        };
        let outcome = match self.place(index, info, frame, stats) {
            Ok(()) if self.packets.get(index).is_some_and(Packet::is_whole) => {
                return self.finish(index, stats);
            }
            Ok(()) => return Gathered::Waits,
            // A duplicate harms nothing.
            Err(DropReason::FragmentDuplicate) => {
                return Gathered::Dropped(DropReason::FragmentDuplicate);
            }
            Err(reason) => Gathered::Dropped(reason),
        };
        count!(stats.ip_reasm_fails);
        self.forget(index);
        outcome
    }

    /// The next packet whose time is over.
    pub(crate) fn expire(&mut self, now: Instant, stats: &mut Stats) -> Option<Overdue<B>> {
        let index = self
            .packets
            .iter()
            .position(|packet| packet.deadline.is_due(now))?;
        count!(stats.ip_reasm_timeout);
        count!(stats.ip_reasm_fails);
        let packet = self.packets.get(index)?;
        let (id, first) = (packet.id, packet.pieces.first().copied());
        let first = first.filter(|piece| piece.start == 0);
        let frame = first.and_then(|piece| self.release(piece.buffer));
        self.forget(index);
        Some(Overdue {
            packet: id,
            first: frame,
            ip_at: first.map_or(0, |piece| usize::from(piece.ip_at)),
        })
    }

    /// Whether no packet is under way, as mostly.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// When the next packet's time is over. O(packets under way).
    #[inline]
    pub(crate) fn next_deadline(&self) -> Instant {
        if self.is_empty() {
            return Instant::NEVER;
        }
        let deadlines = self.packets.iter().map(|packet| packet.deadline);
        deadlines.min().unwrap_or(Instant::NEVER)
    }

    /// Packets under way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// The packet that a piece belongs to; a new one, unless there is no room for it. One that was
    /// begun too long ago for its identification to mean anything begins again.
    fn find_or_begin(
        &mut self,
        now: Instant,
        info: &FragmentFrame,
        tunables: &FragmentTunables,
        stats: &mut Stats,
    ) -> Option<usize> {
        let id = info.packet;
        let is_v4 = id.source.is_v4();
        let mut found = None;
        for (index, packet) in self.packets.iter_mut().enumerate() {
            if packet.id == id {
                found = Some(index);
            } else if packet.id.source == id.source {
                packet.distance = packet.distance.saturating_add(1);
            }
        }
        if let Some(index) = found {
            let packet = self.packets.get_mut(index)?;
            let distance = core::mem::take(&mut packet.distance);
            let max = tunables.ipfrag_max_dist;
            if !(is_v4 && max > 0 && distance > max) {
                return Some(index);
            }
            count!(stats.ip_reasm_fails);
            self.forget(index);
        }
        let is_full = self.held_bytes > tunables.ipfrag_high_thresh as usize
            || tunables.ipfrag_high_thresh == 0
            || self.packets.len() >= FRAGMENT_PACKETS_MAX;
        if is_full {
            return None;
        }
        let seconds = if is_v4 {
            tunables.ipfrag_time
        } else {
            tunables.ip6frag_time
        };
        self.packets.push(Packet {
            id,
            deadline: now.after(Nanos::from_secs(seconds.into())),
            len: 0,
            last_came: false,
            here: 0,
            distance: 0,
            ecn: 0,
            pieces: ArrayVec::new(),
        });
        self.packets.len().checked_sub(1)
    }

    /// Puts a piece where it belongs.
    fn place(
        &mut self,
        index: usize,
        info: &FragmentFrame,
        frame: B,
        stats: &mut Stats,
    ) -> Result<(), DropReason> {
        let packet = self.packets.get_mut(index).ok_or(DropReason::Bug)?;
        let (start, end) = packet.extent(info)?;
        let place = packet.gap_for(start, end).inspect_err(|reason| {
            if *reason == DropReason::FragmentOverlap {
                count!(stats.ip_reasm_overlaps);
            }
        })?;
        if packet.pieces.is_full() {
            return Err(DropReason::FragmentMemory);
        }
        // The first piece keeps its headers, the others lose them; all lose link padding.
        let payload_at = usize::from(info.ip_at.saturating_add(info.payload_at));
        let bytes = (end.saturating_sub(start)) as usize;
        let kept = if start == 0 {
            trim(frame, 0, payload_at.saturating_add(bytes))
        } else {
            trim(frame, payload_at, bytes)
        };
        let buffer = kept.ok_or(DropReason::FrameUnusable)?;
        let memory = buffer.capacity();
        let key = self.buffers.insert(buffer);
        let key = key.map_err(|_full| DropReason::FragmentMemory)?;
        self.held_bytes = self.held_bytes.saturating_add(memory);
        let piece = Piece {
            start,
            end,
            buffer: key,
            ip_at: info.ip_at,
            payload_at: info.payload_at,
        };
        packet.here = packet.here.saturating_add(end.saturating_sub(start));
        packet.ecn |= 1 << info.ecn;
        packet.pieces.insert(place, piece);
        Ok(())
    }

    /// All pieces are here: makes one frame of them.
    fn finish(&mut self, index: usize, stats: &mut Stats) -> Gathered<B> {
        match self.join(index) {
            Some(whole) => {
                count!(stats.ip_reasm_oks);
                Gathered::Whole(whole)
            }
            None => {
                count!(stats.ip_reasm_fails);
                self.forget(index);
                Gathered::Dropped(DropReason::FragmentInvalid)
            }
        }
    }

    fn join(&mut self, index: usize) -> Option<B> {
        let packet = self.packets.swap_remove(index);
        let ecn = joined_ecn(packet.ecn);
        let mut pieces = packet.pieces.iter();
        let first = *pieces.next()?;
        let mut whole = self.release(first.buffer);
        for piece in pieces {
            let next = self.release(piece.buffer);
            // What cannot be chained any more is given back, and with it everything.
            whole = match (whole, next) {
                (Some(mut whole), Some(next)) => whole.append(next).is_ok().then_some(whole),
                _ => None,
            };
        }
        let (ip_at, payload_at) = (usize::from(first.ip_at), usize::from(first.payload_at));
        let mut whole = whole?;
        if packet.id.source.is_v4() {
            mend_v4(whole.bytes_mut()?.get_mut(ip_at..)?, packet.len, ecn?)?;
        } else {
            mend_v6(&mut whole, ip_at, payload_at, packet.len, ecn?)?;
        }
        Some(whole)
    }

    /// Forgets a packet and what has come of it.
    fn forget(&mut self, index: usize) {
        if index >= self.packets.len() {
            return;
        }
        let packet = self.packets.swap_remove(index);
        for piece in packet.pieces.iter() {
            self.release(piece.buffer);
        }
    }

    fn release(&mut self, key: Key) -> Option<B> {
        let buffer = self.buffers.remove(key)?;
        self.held_bytes = self.held_bytes.saturating_sub(buffer.capacity());
        Some(buffer)
    }
}

impl Packet {
    /// Where a piece belongs, after the checks that need no other piece's bytes.
    fn extent(&mut self, info: &FragmentFrame) -> Result<(u32, u32), DropReason> {
        let is_v4 = self.id.source.is_v4();
        let start = u32::from(info.fragment.offset);
        let mut end = start.saturating_add(info.payload_len.into());
        if info.fragment.more {
            // RFC 8200 section 4.5: such a piece ends the packet; IPv4 takes what is whole.
            if !is_v4 && end % 8 != 0 {
                return Err(DropReason::FragmentInvalid);
            }
            end &= !7;
            if end > self.len {
                if self.last_came {
                    return Err(DropReason::FragmentInvalid);
                }
                self.len = end;
            }
        } else {
            if end < self.len || (self.last_came && end != self.len) {
                return Err(DropReason::FragmentInvalid);
            }
            self.last_came = true;
            self.len = end;
        }
        let is_possible = end > start && end <= u32::from(u16::MAX);
        if is_possible {
            Ok((start, end))
        } else {
            Err(DropReason::FragmentInvalid)
        }
    }

    /// Between which pieces it goes. What lies within what is here already is a duplicate; any other
    /// overlap is an attack (RFC 5722, RFC 1858).
    fn gap_for(&self, start: u32, end: u32) -> Result<usize, DropReason> {
        let place = self.pieces.partition_point(|piece| piece.start < start);
        let before = place
            .checked_sub(1)
            .and_then(|index| self.pieces.get(index));
        let behind = self.pieces.get(place);
        let overlaps = before.is_some_and(|piece| piece.end > start)
            || behind.is_some_and(|piece| piece.start < end);
        if !overlaps {
            return Ok(place);
        }
        Err(if self.covers(start, end) {
            DropReason::FragmentDuplicate
        } else {
            DropReason::FragmentOverlap
        })
    }

    /// Whether pieces that follow each other without a gap hold all of it.
    fn covers(&self, start: u32, end: u32) -> bool {
        let mut run = (0, 0);
        for piece in self.pieces.iter() {
            if piece.start != run.1 {
                run.0 = piece.start;
            }
            run.1 = piece.end;
            if run.0 <= start && end <= run.1 {
                return true;
            }
        }
        false
    }

    fn is_whole(&self) -> bool {
        self.last_came && self.here == self.len
    }
}

/// The ECN field of a packet whose pieces had these, one bit each (RFC 3168 section 5.3); `None` when
/// they contradict each other (Linux: `ip_frag_ecn_table`).
const fn joined_ecn(seen: u8) -> Option<u8> {
    const NOT_ECT: u8 = 1 << 0;
    const CE: u8 = 1 << 3;
    if seen & NOT_ECT != 0 {
        return if seen == NOT_ECT { Some(0) } else { None };
    }
    // A mark that one piece got is the packet's; otherwise the first piece's field stays.
    Some(if seen & CE != 0 { 3 } else { 0 })
}

/// Makes the header of the first piece that of the packet.
fn mend_v4(packet: &mut [u8], payload_len: u32, ecn: u8) -> Option<()> {
    let header_len = usize::from(packet.first()? & 0x0f).checked_mul(4)?;
    let total_len = payload_len.checked_add(header_len as u32)?;
    let total_len = u16::try_from(total_len).ok()?.to_be_bytes();
    let header = packet.get_mut(..header_len)?;
    let fixed = header.first_chunk_mut::<{ ipv4::HEADER_BYTES }>()?;
    fixed[1] |= ecn;
    [fixed[2], fixed[3]] = total_len;
    [fixed[6], fixed[7]] = [0, 0];
    [fixed[10], fixed[11]] = [0, 0];
    let mut sum = Checksum::new();
    sum.add_bytes(header);
    let sum = sum.finish().to_be_bytes();
    header.get_mut(10..12)?.copy_from_slice(&sum);
    Some(())
}

/// The same for IPv6, whose fragment header goes: what stands before it moves up to what follows.
fn mend_v6<B: PacketBuf>(
    frame: &mut B,
    ip_at: usize,
    payload_at: usize,
    payload_len: u32,
    ecn: u8,
) -> Option<()> {
    let (offset, len) = (frame.offset(), frame.bytes().len());
    let front = ip_at
        .checked_add(payload_at)?
        .checked_sub(FRAGMENT_HEADER_BYTES)?;
    let extensions = payload_at.checked_sub(FRAGMENT_HEADER_BYTES + ipv6::HEADER_BYTES)?;
    let total = payload_len.checked_add(extensions as u32)?;
    let total = u16::try_from(total).ok()?.to_be_bytes();
    let bytes = frame.bytes_mut()?;
    let packet = bytes.get_mut(ip_at..)?;
    let walk = FragmentHeader::find(packet)?;
    let next = *packet.get(walk.at)?;
    *packet.get_mut(walk.named_at)? = next;
    packet.get_mut(4..6)?.copy_from_slice(&total);
    // The ECN bits are the low half of the second byte's high half.
    *packet.get_mut(1)? |= ecn << 4;
    if front.checked_add(FRAGMENT_HEADER_BYTES)? > bytes.len() {
        return None;
    }
    bytes.copy_within(..front, FRAGMENT_HEADER_BYTES);
    let offset = offset.checked_add(FRAGMENT_HEADER_BYTES)?;
    let len = len.checked_sub(FRAGMENT_HEADER_BYTES)?;
    frame.set_span(offset, len).then_some(())
}

/// Where the fragment header of an IPv6 packet is, and where it is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FragmentHeader {
    /// From the start of the IPv6 header.
    pub(crate) at: usize,
    /// The "next header" byte that says so.
    pub(crate) named_at: usize,
    /// What the pieces begin with.
    pub(crate) next: u8,
}

impl FragmentHeader {
    /// Walks the headers that every piece repeats. The caller has checked them.
    pub(crate) fn find(packet: &[u8]) -> Option<Self> {
        let (mut named_at, mut at) = (6, ipv6::HEADER_BYTES);
        for _ in 0..=ipv6::EXTENSIONS_MAX {
            match *packet.get(named_at)? {
                protocol::FRAGMENT => {
                    let next = *packet.get(at)?;
                    return Some(Self { at, named_at, next });
                }
                protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS | protocol::ROUTING => {
                    let len = usize::from(*packet.get(at.checked_add(1)?)?);
                    named_at = at;
                    at = at.checked_add(len.checked_add(1)?.checked_mul(8)?)?;
                }
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
