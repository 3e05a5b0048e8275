//! A packet of our own that is too long for its link leaves in pieces (RFC 791 section 3.2, RFC 8200
//! section 4.5).
//!
//! TCP never needs it: its segments fit the path. An answer to an echo request that itself came in
//! pieces does.

use millrace_base::{Instant, PacketBuf, PacketPool};
use millrace_wire::{Checksum, EtherType, IpRepr, ipv4, ipv6, protocol};

use crate::dispatch::IcmpFrame;
use crate::path::{HOP_LIMIT, Path};
use crate::stack::Stack;
use crate::stats::count;
use crate::verdict::DropReason;

/// One piece: what its headers say.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    message: &'a IcmpFrame,
    identification: u32,
    /// Bytes of the message before this piece; a multiple of 8.
    start: usize,
    more: bool,
}

const MORE_FRAGMENTS: u16 = 0x2000;
/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER_BYTES: usize = 8;

impl<P: PacketPool> Stack<P> {
    /// Sends the ICMP message that `frame` holds in pieces of `mtu` bytes.
    pub(crate) fn send_in_pieces(
        &mut self,
        now: Instant,
        message: &IcmpFrame,
        frame: &P::Buf,
        mtu: u16,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let headers = if message.source.is_v4() {
            ipv4::HEADER_BYTES
        } else {
            ipv6::HEADER_BYTES.saturating_add(FRAGMENT_HEADER_BYTES)
        };
        let room = usize::from(mtu).saturating_sub(headers) & !7;
        if room == 0 {
            count!(self.stats.ip_frag_fails);
            return Err(DropReason::NoRoute);
        }
        self.identification = self.identification.wrapping_add(1);
        let identification = self.identification;
        let mut start = 0usize;
        // Each round takes `room` bytes of at most 65,535.
        while start < message.icmp_len {
            let len = room.min(message.icmp_len.saturating_sub(start));
            let piece = Piece {
                message,
                identification,
                start,
                more: start.saturating_add(len) < message.icmp_len,
            };
            let copy = pool
                .alloc()
                .and_then(|piece| copy_of(piece, frame, start, len));
            let Some(copy) = copy else {
                count!(self.stats.ip_frag_fails);
                return Err(DropReason::ReplyNoBuffer);
            };
            count!(self.stats.ip_frag_creates);
            self.send_reply(now, message.source, copy, |frame, path| {
                piece.write_headers(frame, path).is_some()
            });
            start = start.saturating_add(len);
        }
        count!(self.stats.ip_frag_oks);
        Ok(())
    }
}

/// Fills an empty buffer with `len` bytes of a frame from `start` on.
fn copy_of<B: PacketBuf>(mut to: B, from: &B, start: usize, len: usize) -> Option<B> {
    let offset = to.offset();
    if !to.set_span(offset, len) {
        return None;
    }
    let mut rest = to.bytes_mut()?;
    let mut skipped = start;
    for segment in from.segments() {
        let piece = segment.get(skipped..).unwrap_or_default();
        skipped = skipped.saturating_sub(segment.len());
        let piece = piece.get(..rest.len()).unwrap_or(piece);
        let (place, behind) = rest.split_at_mut_checked(piece.len())?;
        place.copy_from_slice(piece);
        rest = behind;
    }
    rest.is_empty().then_some(to)
}

impl Piece<'_> {
    /// Writes Ethernet, IP and for IPv6 fragment headers in front of the bytes that `frame` holds.
    fn write_headers<B: PacketBuf>(&self, frame: &mut B, path: &Path) -> Option<()> {
        let message = self.message;
        let is_v4 = message.source.is_v4();
        let len = frame.bytes().len();
        let extension = if is_v4 { 0 } else { FRAGMENT_HEADER_BYTES };
        let ip = IpRepr {
            source: message.destination,
            destination: message.source,
            protocol: if is_v4 {
                protocol::ICMPV4
            } else {
                protocol::FRAGMENT
            },
            hop_limit: HOP_LIMIT,
            traffic_class: 0,
            dont_fragment: false,
            identification: self.identification as u16,
            payload_len: u16::try_from(len.checked_add(extension)?).ok()?,
        };
        let ip_at = path.link_header_len();
        let headers = ip_at.checked_add(ip.header_len())?.checked_add(extension)?;
        let front = frame.offset().checked_sub(headers)?;
        if !frame.set_span(front, len.checked_add(headers)?) {
            return None;
        }
        let bytes = frame.bytes_mut()?;
        let ether_type = if is_v4 {
            EtherType::IPV4
        } else {
            EtherType::IPV6
        };
        path.emit_link_header(bytes, ether_type)?;
        let packet = bytes.get_mut(ip_at..)?;
        let written = ip.emit(packet, false)?;
        if is_v4 {
            self.mark_v4(packet.get_mut(..written)?)?;
        } else {
            let extension = packet.get_mut(written..)?;
            *extension.first_chunk_mut()? = self.fragment_header();
        }
        frame
            .set_tx_offload(millrace_base::TxOffload {
                vlan: path.offloads.tag_in_request(),
                ..millrace_base::TxOffload::default()
            })
            .then_some(())
    }

    /// Writes offset and flag into an IPv4 header, and its checksum anew.
    fn mark_v4(&self, header: &mut [u8]) -> Option<()> {
        let units = u16::try_from(self.start / 8).ok()?;
        let field = units | if self.more { MORE_FRAGMENTS } else { 0 };
        header.get_mut(6..8)?.copy_from_slice(&field.to_be_bytes());
        header.get_mut(10..12)?.fill(0);
        let mut sum = Checksum::new();
        sum.add_bytes(header);
        let sum = sum.finish().to_be_bytes();
        header.get_mut(10..12)?.copy_from_slice(&sum);
        Some(())
    }

    /// The IPv6 fragment header.
    fn fragment_header(&self) -> [u8; FRAGMENT_HEADER_BYTES] {
        let field = self.start as u16 & !7 | u16::from(self.more);
        let ([f0, f1], [i0, i1, i2, i3]) = (field.to_be_bytes(), self.identification.to_be_bytes());
        [protocol::ICMPV6, 0, f0, f1, i0, i1, i2, i3]
    }
}
