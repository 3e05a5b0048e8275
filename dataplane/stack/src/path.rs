//! What a connection must know of the way to its peer, and the headers it writes for it.
//!
//! A `Path` is the answer of route and neighbour tables for one destination, copied by value into
//! every call that sends: 20 bytes, so that a connection needs no reference into those tables. It
//! does not say how long it is valid: the stack looks it up again before each round of
//! transmission.

use millrace_base::{FlowTuple, MacAddress, PacketBuf, PortId, SeqNumber, TxOffload, VlanId};
use millrace_wire::tcp::{SIGNATURE_AT, SIGNATURE_BYTES, checksum};
use millrace_wire::{
    Checksum, EtherType, IpRepr, TcpFlags, TcpRepr, ethernet, ipv4, ipv6, protocol, tcp,
};

/// What a port's frames look like and what its device can do for outgoing ones. The software path does what is `false`
/// here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// Fills in the IPv4 header checksum.
    pub ip_checksum: bool,
    /// Fills in the TCP checksum over a pseudo-header seed.
    pub tcp_checksum: bool,
    /// Cuts one frame of up to `tso_bytes_max` payload bytes into segments (needs `tcp_checksum`).
    pub tso: bool,
    /// Payload bytes of one frame handed to segmentation, at most 65,535 less the headers; 0
    /// without `tso`.
    pub tso_bytes_max: u32,
    /// Segments of one chained frame; 0 and 1 both mean that frames must be in one piece.
    pub segments_max: u16,
    /// Adds up the checksum of a chain wrongly behind a piece of odd length: only the last may be odd.
    pub even_pieces: bool,
    /// The VLAN of the port: all its frames carry the tag. `None`: none does.
    pub vlan: Option<VlanId>,
    /// Inserts the tag of `vlan`.
    pub vlan_insert: bool,
}

impl Offloads {
    /// What remains when each depends on what it needs: who cannot compute checksums cannot cut, since
    /// every piece has one of its own. Then a frame is one segment (Linux: `sk_can_gso` follows
    /// `NETIF_F_TSO`, which `netdev_fix_features` takes from a device without checksums).
    // behaviour: SND-7
    #[must_use]
    pub(crate) const fn consistent(mut self) -> Self {
        if !self.tcp_checksum {
            self.tso = false;
            self.tso_bytes_max = 0;
        }
        self
    }

    /// Whether a piece may follow `bytes` payload bytes of a segment in a chain.
    pub(crate) const fn may_follow(&self, bytes: u32) -> bool {
        !self.even_pieces || bytes & 1 == 0
    }
}

/// The way to one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Path {
    /// The port the frame leaves by.
    pub port: PortId,
    /// Bytes of the largest IP packet the first link takes (68..=9,000 or so).
    pub mtu: u16,
    /// Our address on that link.
    pub source: MacAddress,
    /// The next hop's address on that link.
    pub destination: MacAddress,
    /// What the device does for us.
    pub offloads: Offloads,
}

/// Hops our packets may make (Linux: `ip_default_ttl`).
pub const HOP_LIMIT: u8 = 64;

/// What differs from segment to segment beside the TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameOptions {
    /// DSCP and ECN bits of the IP header.
    pub traffic_class: u8,
    /// Payload bytes per segment when the device shall cut the frame (needs `Offloads::tso`); 0
    /// otherwise.
    pub segment_bytes: u16,
}

impl Offloads {
    /// Whether a frame of several buffers can be handed to the device.
    pub const fn chains(&self) -> bool {
        self.segments_max > 1
    }

    /// The tag that we write into frames, because the device does not.
    const fn tag_in_frame(&self) -> Option<VlanId> {
        if self.vlan_insert { None } else { self.vlan }
    }

    /// The tag that the device is asked for.
    pub(crate) const fn tag_in_request(&self) -> Option<VlanId> {
        if self.vlan_insert { self.vlan } else { None }
    }
}

impl Path {
    /// The same way for frames that the device must not cut.
    pub(crate) const fn without_segmentation(&self) -> Self {
        let mut path = *self;
        path.offloads.tso = false;
        path
    }

    /// Bytes of the Ethernet header that we write: 14, or 18 with a tag.
    #[inline]
    pub(crate) const fn link_header_len(&self) -> usize {
        match self.offloads.tag_in_frame() {
            None => ethernet::HEADER_BYTES,
            Some(_) => ethernet::HEADER_BYTES + ethernet::TAG_BYTES,
        }
    }

    /// Writes the Ethernet header; `None` when `frame` is shorter than `link_header_len`.
    #[inline]
    pub(crate) fn emit_link_header(
        &self,
        frame: &mut [u8],
        ether_type: EtherType,
    ) -> Option<usize> {
        let (to, from) = (self.destination, self.source);
        match self.offloads.tag_in_frame() {
            None => ethernet::emit(frame, to, from, ether_type),
            Some(vlan) => ethernet::emit_tagged(frame, to, from, vlan, ether_type),
        }
    }
}

/// Where the payload lies in the memory of a frame's first buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// Bytes from the start of the memory.
    pub(crate) offset: usize,
    /// Bytes of payload in this buffer.
    pub(crate) len: usize,
}

/// Writes Ethernet, IP and TCP headers in front of the payload that `frame` holds, and the
/// checksums or what the device needs to fill them in.
///
/// All bytes of the chain are payload. Returns `false`, the frame unusable, when the first segment
/// is shared, has no headroom, or the packet would exceed 65,535 bytes. Without checksum offload
/// this reads every payload byte.
#[must_use = "a frame without headers must not leave"]
pub fn write_headers<B: PacketBuf>(
    frame: &mut B,
    path: &Path,
    tuple: &FlowTuple,
    tcp: &TcpRepr,
    options: FrameOptions,
) -> bool {
    let payload = Span {
        offset: frame.offset(),
        len: frame.bytes().len(),
    };
    write_around(frame, payload, path, tuple, tcp, options)
}

/// The same for a buffer whose handle shows something else than the payload at the moment: the span
/// moves once, to headers and payload together.
#[must_use = "a frame without headers must not leave"]
pub(crate) fn write_around<B: PacketBuf>(
    frame: &mut B,
    payload: Span,
    path: &Path,
    tuple: &FlowTuple,
    tcp: &TcpRepr,
    options: FrameOptions,
) -> bool {
    let chained = frame.frame_len().saturating_sub(frame.bytes().len());
    if let Some(segment) = untagged_v4(path, tuple, tcp) {
        return try_write_v4(frame, payload, chained, &segment, path, options).is_some();
    }
    write_any(frame, payload, chained, path, tuple, tcp, options)
}

/// For every family, with and without a tag.
#[inline(never)] // Beside the common case, of which it would take the registers.
fn write_any<B: PacketBuf>(
    frame: &mut B,
    payload: Span,
    chained: usize,
    path: &Path,
    tuple: &FlowTuple,
    tcp: &TcpRepr,
    options: FrameOptions,
) -> bool {
    let lens = Lens::of(path, tuple, tcp, payload.len.saturating_add(chained));
    try_write(frame, payload, lens, path, tuple, tcp, options).is_some()
}

/// Bytes of the parts of a packet.
#[derive(Clone, Copy, Debug)]
struct Lens {
    link: usize,
    ip: usize,
    tcp: usize,
    /// TCP header and payload over all buffers.
    segment: usize,
}

impl Lens {
    #[inline]
    fn of(path: &Path, tuple: &FlowTuple, tcp: &TcpRepr, payload_len: usize) -> Self {
        let is_v4 = tuple.local.address.is_v4();
        let tcp_len = tcp.header_len();
        Self {
            link: path.link_header_len(),
            ip: if is_v4 {
                ipv4::HEADER_BYTES
            } else {
                ipv6::HEADER_BYTES
            },
            tcp: tcp_len,
            segment: payload_len.saturating_add(tcp_len),
        }
    }

    /// Where the TCP header begins.
    #[inline]
    const fn tcp_at(&self) -> usize {
        self.link.wrapping_add(self.ip)
    }

    #[inline]
    const fn headers(&self) -> usize {
        self.tcp_at().wrapping_add(self.tcp)
    }

    /// What the device is asked for.
    #[inline]
    const fn request(&self, offloads: &Offloads, segment_bytes: u16) -> TxOffload {
        let is_v4 = self.ip == ipv4::HEADER_BYTES;
        TxOffload {
            l2_len: self.link as u8,
            l3_len: self.ip as u8,
            l4_len: self.tcp as u8,
            is_ipv6: !is_v4,
            ip_checksum: offloads.ip_checksum && is_v4,
            tcp_checksum: offloads.tcp_checksum,
            segment_bytes,
            vlan: offloads.tag_in_request(),
        }
    }
}

/// The headers of a segment that has just been written, for others of the same turn and length: they
/// differ in sequence number and flags only, when the device computes the TCP checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stencil {
    bytes: [u8; STENCIL_BYTES_MAX],
    lens: Lens,
    payload_len: usize,
    offload: TxOffload,
}

/// A tagged Ethernet header, IPv6 and TCP with timestamps are 90 bytes.
const STENCIL_BYTES_MAX: usize = 96;
/// Headers are copied as two blocks, from the front and from the end: of this size each when they
/// are shorter than `STENCIL_FRONT`, else that and this.
const STENCIL_END: usize = 32;
const STENCIL_FRONT: usize = 64;
const _: () = assert!(STENCIL_FRONT + STENCIL_END >= STENCIL_BYTES_MAX);
const _: () = assert!(ethernet::HEADER_BYTES + ipv4::HEADER_BYTES + 20 >= STENCIL_END);

impl Stencil {
    /// Of a frame in one piece that `write_around` made for `path` with `payload_len` bytes behind
    /// `tcp`. `None` when its headers cannot be used again.
    #[inline]
    pub(crate) fn of<B: PacketBuf>(
        frame: &B,
        payload_len: usize,
        path: &Path,
        tuple: &FlowTuple,
        tcp: &TcpRepr,
    ) -> Option<Self> {
        let lens = Lens::of(path, tuple, tcp, payload_len);
        let is_whole = frame.frame_len() == lens.headers().wrapping_add(payload_len);
        let is_unlike = tcp.options.md5 || !path.offloads.tcp_checksum;
        if is_unlike || !is_whole || frame.bytes().len() != frame.frame_len() {
            return None;
        }
        let mut bytes = [0; STENCIL_BYTES_MAX];
        copy_headers(&mut bytes, frame.bytes(), lens.headers())?;
        Some(Self {
            bytes,
            lens,
            payload_len,
            offload: lens.request(&path.offloads, 0),
        })
    }

    /// Writes the headers in front of another payload; `false`, nothing written, when it is of
    /// another length, the buffer is shared or it has no headroom.
    #[inline]
    pub(crate) fn write<B: PacketBuf>(
        &self,
        frame: &mut B,
        payload: Span,
        seq: SeqNumber,
        flags: TcpFlags,
    ) -> bool {
        self.try_write(frame, payload, seq, flags).is_some()
    }

    #[inline]
    fn try_write<B: PacketBuf>(
        &self,
        frame: &mut B,
        payload: Span,
        seq: SeqNumber,
        flags: TcpFlags,
    ) -> Option<()> {
        let headers = self.lens.headers();
        let front = payload.offset.checked_sub(headers)?;
        let is_whole = frame.frame_len() == frame.bytes().len();
        if payload.len != self.payload_len || !is_whole {
            return None;
        }
        if !frame.set_span(front, headers.wrapping_add(payload.len)) {
            return None;
        }
        let bytes = frame.bytes_mut()?;
        copy_headers(bytes, &self.bytes, headers)?;
        let header = bytes.get_mut(self.lens.tcp_at()..)?;
        let header = header.first_chunk_mut::<{ tcp::HEADER_BYTES }>()?;
        let (words, _) = header.as_chunks_mut::<4>();
        let [_, number, _, [_, low, ..], _] = words else {
            return None;
        };
        *number = seq.value().to_be_bytes();
        *low = flags.bits() as u8;
        frame.set_tx_offload(self.offload).then_some(())
    }
}

/// Copies the first `len` bytes: blocks of known sizes, which overlap, instead of a call.
#[inline]
fn copy_headers(to: &mut [u8], from: &[u8], len: usize) -> Option<()> {
    let (to, from) = (to.get_mut(..len)?, from.get(..len)?);
    if len < STENCIL_FRONT {
        *to.first_chunk_mut::<STENCIL_END>()? = *from.first_chunk()?;
    } else {
        *to.first_chunk_mut::<STENCIL_FRONT>()? = *from.first_chunk()?;
    }
    *to.last_chunk_mut::<STENCIL_END>()? = *from.last_chunk()?;
    Some(())
}

#[inline]
fn try_write<B: PacketBuf>(
    frame: &mut B,
    payload: Span,
    lens: Lens,
    path: &Path,
    tuple: &FlowTuple,
    tcp: &TcpRepr,
    options: FrameOptions,
) -> Option<()> {
    let headers = lens.headers();
    let front = payload.offset.checked_sub(headers)?;
    if !frame.set_span(front, payload.len.checked_add(headers)?) {
        return None;
    }
    let (source, destination) = (tuple.local.address, tuple.remote.address);
    let is_v4 = lens.ip == ipv4::HEADER_BYTES;
    let offloads = &path.offloads;
    let bytes = frame.bytes_mut()?;
    let ether_type = if is_v4 {
        EtherType::IPV4
    } else {
        EtherType::IPV6
    };
    path.emit_link_header(bytes, ether_type)?;
    let ip = IpRepr {
        source,
        destination,
        protocol: protocol::TCP,
        hop_limit: HOP_LIMIT,
        traffic_class: options.traffic_class,
        // RFC 6864: a packet that may not be fragmented needs no identification.
        dont_fragment: true,
        identification: 0,
        payload_len: u16::try_from(lens.segment).ok()?,
    };
    let packet = bytes.get_mut(lens.link..)?;
    ip.emit(packet, offloads.ip_checksum)?;
    let header = bytes.get_mut(lens.tcp_at()..headers)?;
    tcp.emit(header)?;
    if offloads.tcp_checksum {
        // A device that also cuts the segment puts in the length of each piece.
        let len = if options.segment_bytes > 0 {
            0
        } else {
            lens.segment as u32
        };
        checksum::seed(source, destination, header, len)?;
    } else {
        fill_checksum(frame, tuple, lens)?;
    }
    frame
        .set_tx_offload(lens.request(offloads, options.segment_bytes))
        .then_some(())
}

/// A segment over IPv4 in frames without a tag of ours: what most frames are.
#[derive(Clone, Copy, Debug)]
struct Segment4<'a> {
    tuple: &'a FlowTuple,
    source: u32,
    destination: u32,
    tcp: &'a TcpRepr,
}

/// Bytes of Ethernet, IPv4 and TCP headers without options.
const V4_BYTES: usize = ethernet::HEADER_BYTES + ipv4::HEADER_BYTES + tcp::HEADER_BYTES;
/// `IP_DF`.
const DONT_FRAGMENT: u32 = 0x4000;

#[inline]
fn untagged_v4<'a>(path: &Path, tuple: &'a FlowTuple, tcp: &'a TcpRepr) -> Option<Segment4<'a>> {
    let source = u32::from_be_bytes(tuple.local.address.as_v4()?);
    let destination = u32::from_be_bytes(tuple.remote.address.as_v4()?);
    let untagged = path.offloads.tag_in_frame().is_none();
    untagged.then_some(Segment4 {
        tuple,
        source,
        destination,
        tcp,
    })
}

/// What `try_write` would write, in one piece at fixed places; a property test compares them.
#[inline]
fn try_write_v4<B: PacketBuf>(
    frame: &mut B,
    payload: Span,
    chained: usize,
    segment: &Segment4<'_>,
    path: &Path,
    options: FrameOptions,
) -> Option<()> {
    let layout = segment.tcp.options.layout(segment.tcp.flags.syn());
    let tcp_len = tcp::HEADER_BYTES.wrapping_add(layout.encoded_len());
    if tcp_len > tcp::HEADER_BYTES_MAX {
        return None;
    }
    // 16 bits of payload and 80 bytes of headers: nothing can overflow below.
    let all = usize::from(u16::try_from(payload.len.checked_add(chained)?).ok()?);
    let lens = Lens {
        link: ethernet::HEADER_BYTES,
        ip: ipv4::HEADER_BYTES,
        tcp: tcp_len,
        segment: all.wrapping_add(tcp_len),
    };
    let headers = lens.headers();
    let total_len = u16::try_from(lens.segment.wrapping_add(ipv4::HEADER_BYTES)).ok()?;
    let front = payload.offset.checked_sub(headers)?;
    if !frame.set_span(front, payload.len.wrapping_add(headers)) {
        return None;
    }
    let (head, rest) = frame.bytes_mut()?.split_first_chunk_mut::<V4_BYTES>()?;
    layout.emit(rest)?;
    let (link, packet) = head.split_first_chunk_mut::<{ ethernet::HEADER_BYTES }>()?;
    ethernet::emit(link, path.destination, path.source, EtherType::IPV4)?;
    let (ip, header) = packet.split_first_chunk_mut::<{ ipv4::HEADER_BYTES }>()?;
    let offloads = &path.offloads;
    put_words(ip, ip_words(segment, total_len, options, offloads));
    put_words(
        header.first_chunk_mut()?,
        tcp_words(segment, &lens, options, offloads),
    );
    if !offloads.tcp_checksum {
        fill_checksum(frame, segment.tuple, lens)?;
    }
    let request = lens.request(offloads, options.segment_bytes);
    frame.set_tx_offload(request).then_some(())
}

/// The IPv4 header.
#[inline(always)] // Otherwise a call through memory for each frame.
fn ip_words(
    segment: &Segment4<'_>,
    total_len: u16,
    options: FrameOptions,
    offloads: &Offloads,
) -> [u32; 5] {
    let first = 0x4500_0000 | u32::from(options.traffic_class) << 16 | u32::from(total_len);
    let third = u32::from(HOP_LIMIT) << 24 | u32::from(protocol::TCP) << 16;
    let (source, destination) = (segment.source, segment.destination);
    let sum = if offloads.ip_checksum {
        0
    } else {
        let mut sum = Checksum::new();
        for word in [first, DONT_FRAGMENT, third, source, destination] {
            sum.add_u32(word);
        }
        sum.finish()
    };
    let third = third | u32::from(sum);
    [first, DONT_FRAGMENT, third, source, destination]
}

/// The TCP header without its options; the seed of its checksum, if the device wants one.
#[inline(always)] // Otherwise a call through memory for each frame.
fn tcp_words(
    segment: &Segment4<'_>,
    lens: &Lens,
    options: FrameOptions,
    offloads: &Offloads,
) -> [u32; 5] {
    let tcp = segment.tcp;
    let seed = if offloads.tcp_checksum {
        let mut sum = Checksum::new();
        sum.add_u32(segment.source);
        sum.add_u32(segment.destination);
        sum.add_u16(protocol::TCP.into());
        // A device that also cuts the segment puts in the length of each piece.
        if options.segment_bytes == 0 {
            sum.add_u32(lens.segment as u32);
        }
        sum.partial()
    } else {
        0
    };
    // The data offset counts 32-bit words in the top four bits.
    let offset_and_flags = (lens.tcp as u32) << 26 | u32::from(tcp.flags.bits()) << 16;
    [
        u32::from(tcp.source_port) << 16 | u32::from(tcp.destination_port),
        tcp.seq.value(),
        tcp.ack.value(),
        offset_and_flags | u32::from(tcp.window),
        u32::from(seed) << 16 | u32::from(tcp.urgent),
    ]
}

#[inline]
fn put_words(header: &mut [u8; 20], words: [u32; 5]) {
    let (places, _) = header.as_chunks_mut::<4>();
    for (place, word) in places.iter_mut().zip(words) {
        *place = word.to_be_bytes();
    }
}

/// Puts a signature into a frame that `write_headers` made with room for one: the digest that `sign`
/// computes from the frame, the places of TCP header and payload in it, and the bytes of both.
pub(crate) fn put_signature<B: PacketBuf>(
    frame: &mut B,
    path: &Path,
    tuple: &FlowTuple,
    tcp: &TcpRepr,
    sign: impl FnOnce(&B, (usize, usize), usize) -> Option<[u8; SIGNATURE_BYTES]>,
) -> Option<()> {
    let headers = Lens::of(path, tuple, tcp, 0).headers();
    let payload_len = frame.frame_len().checked_sub(headers)?;
    let lens = Lens::of(path, tuple, tcp, payload_len);
    let digest = sign(frame, (lens.tcp_at(), headers), lens.segment)?;
    let header = frame.bytes_mut()?.get_mut(lens.tcp_at()..)?;
    *header.get_mut(SIGNATURE_AT..)?.first_chunk_mut()? = digest;
    if !path.offloads.tcp_checksum {
        // Over the digest as well.
        header
            .get_mut(TCP_CHECKSUM_AT..)?
            .first_chunk_mut::<2>()?
            .fill(0);
        fill_checksum(frame, tuple, lens)?;
    }
    Some(())
}

/// Sums the segment over all buffers and writes the checksum field, which must hold 0.
fn fill_checksum<B: PacketBuf>(frame: &mut B, tuple: &FlowTuple, lens: Lens) -> Option<()> {
    let (source, destination) = (tuple.local.address, tuple.remote.address);
    let mut sum = Checksum::pseudo_header(source, destination, protocol::TCP, lens.segment as u32);
    let mut skipped = lens.tcp_at();
    for piece in frame.segments() {
        sum.add_bytes(piece.get(skipped..)?);
        skipped = 0;
    }
    let field = lens.tcp_at().checked_add(TCP_CHECKSUM_AT)?;
    let place = frame
        .bytes_mut()?
        .get_mut(field..)?
        .first_chunk_mut::<2>()?;
    *place = sum.finish().to_be_bytes();
    Some(())
}

/// Where the checksum field is in a TCP header.
const TCP_CHECKSUM_AT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{Address, Endpoint, HeapBuf, HeapPool, SeqNumber};
    use millrace_wire::{EthernetView, IpView, TcpOptions, TcpView, Timestamps};
    use proptest::prelude::*;

    fn tuple(v6: bool) -> FlowTuple {
        let address = |last| {
            if v6 {
                Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
            } else {
                Address::v4([10, 0, 0, last])
            }
        };
        FlowTuple {
            local: Endpoint::new(address(1), 80),
            remote: Endpoint::new(address(2), 999),
        }
    }

    fn header(tuple: &FlowTuple) -> TcpRepr {
        TcpRepr {
            source_port: tuple.local.port,
            destination_port: tuple.remote.port,
            seq: SeqNumber::new(1),
            ack: SeqNumber::new(2),
            flags: TcpFlags::ACK,
            window: 3,
            urgent: 0,
            options: TcpOptions::default(),
        }
    }

    // MUST-2: the checksum covers a payload spread over odd-sized buffers of a chain.
    // behaviour: A4-18, IPO-11, SND-12
    #[test]
    fn a_chained_frame_parses_back_with_a_right_checksum_in_both_families() {
        for v6 in [false, true] {
            let mut pool = HeapPool::new(8, 2_048);
            let tuple = tuple(v6);
            let mut frame = pool.receive(b"odd").expect("room");
            frame
                .append(pool.receive(b"even").expect("room"))
                .expect("unique");
            frame
                .append(pool.receive(b"tails").expect("room"))
                .expect("unique");
            let (path, options) = (Path::default(), FrameOptions::default());
            assert!(write_headers(
                &mut frame,
                &path,
                &tuple,
                &header(&tuple),
                options
            ));
            let bytes = frame.to_vec();
            let ethernet = EthernetView::parse(&bytes).expect("Ethernet");
            let payload = ethernet.payload();
            let ip = IpView::parse(ethernet.ether_type(), payload, payload.len());
            let ip = ip.expect("IP").expect("well formed");
            assert!(ip.header_checksum_ok());
            let pieces = core::iter::once(ip.payload());
            let len = ip.payload_len() as u32;
            assert!(checksum::verify(ip.source(), ip.destination(), len, pieces));
            let tcp = TcpView::parse(ip.payload()).expect("TCP");
            assert_eq!(tcp.payload(), b"oddeventails");
        }
    }

    // behaviour: A3-16, SND-12
    #[test]
    fn an_offloaded_frame_carries_the_seed_and_the_request() {
        let offloads = Offloads {
            ip_checksum: true,
            tcp_checksum: true,
            tso: true,
            tso_bytes_max: 60_000,
            segments_max: 8,
            ..Offloads::default()
        };
        let path = Path {
            offloads,
            ..Path::default()
        };
        let tuple = tuple(false);
        let mut frame = HeapBuf::from_frame(&[7; 3_000]);
        let options = FrameOptions {
            traffic_class: 2,
            segment_bytes: 1_448,
        };
        assert!(write_headers(
            &mut frame,
            &path,
            &tuple,
            &header(&tuple),
            options
        ));
        assert_eq!(
            (
                frame.offload.l2_len,
                frame.offload.l3_len,
                frame.offload.l4_len
            ),
            (14, 20, 20)
        );
        assert!(frame.offload.ip_checksum && frame.offload.tcp_checksum);
        assert_eq!(frame.offload.segment_bytes, 1_448);
        let seed = Checksum::pseudo_header(tuple.local.address, tuple.remote.address, 6, 0);
        assert_eq!(frame.bytes()[50..52], seed.partial().to_be_bytes());
        assert_eq!(
            frame.bytes()[24..26],
            [0, 0],
            "the device fills in the IP checksum"
        );
    }

    // behaviour: NIC-21
    #[test]
    fn the_tag_of_a_port_is_in_the_frame_or_in_the_request_for_the_device() {
        for vlan_insert in [false, true] {
            let vlan = VlanId::new(100);
            let offloads = Offloads {
                tcp_checksum: true,
                vlan,
                vlan_insert,
                ..Offloads::default()
            };
            let path = Path {
                offloads,
                ..Path::default()
            };
            let tuple = tuple(true);
            let mut frame = HeapBuf::from_frame(b"payload");
            let options = FrameOptions::default();
            assert!(write_headers(
                &mut frame,
                &path,
                &tuple,
                &header(&tuple),
                options
            ));
            let ethernet = EthernetView::parse(frame.bytes()).expect("Ethernet");
            let in_frame = (!vlan_insert).then_some(100);
            assert_eq!(ethernet.customer_vlan(), in_frame);
            assert_eq!(
                usize::from(frame.offload.l2_len),
                ethernet.header_len(),
                "the device finds the IP header"
            );
            assert_eq!(frame.offload.vlan, vlan.filter(|_| vlan_insert));
            let payload = ethernet.payload();
            let ip = IpView::parse(ethernet.ether_type(), payload, payload.len());
            let ip = ip.expect("IP").expect("well formed");
            let tcp = TcpView::parse(ip.payload()).expect("TCP");
            assert_eq!(tcp.payload(), b"payload");
        }
    }

    // The next segments of a turn: byte for byte what the long way writes.
    #[test]
    fn headers_written_again_are_those_that_would_have_been_written() {
        for (v6, stamped, vlan) in [
            (false, false, None),
            (false, true, None),
            (true, false, None),
            (true, true, VlanId::new(7)),
        ] {
            let offloads = Offloads {
                ip_checksum: true,
                tcp_checksum: true,
                vlan,
                ..Offloads::default()
            };
            let path = Path {
                offloads,
                ..Path::default()
            };
            let tuple = tuple(v6);
            let mut header = header(&tuple);
            header.options.timestamps = stamped.then_some(Timestamps { value: 7, echo: 8 });
            let options = FrameOptions::default();
            let mut first = HeapBuf::from_frame(&[1; 500]);
            assert!(write_headers(&mut first, &path, &tuple, &header, options));
            let stencil = Stencil::of(&first, 500, &path, &tuple, &header).expect("offloaded");
            (header.seq, header.flags) = (SeqNumber::new(99), TcpFlags::ACK | TcpFlags::PSH);
            let (mut long, mut short) = (
                HeapBuf::from_frame(&[2; 500]),
                HeapBuf::from_frame(&[2; 500]),
            );
            assert!(write_headers(&mut long, &path, &tuple, &header, options));
            let span = Span {
                offset: short.offset(),
                len: 500,
            };
            assert!(stencil.write(&mut short, span, header.seq, header.flags));
            assert_eq!(short.bytes(), long.bytes(), "{v6} {stamped}");
            assert_eq!(short.offload, long.offload);
            let other = Span { len: 499, ..span };
            assert!(!stencil.write(&mut short, other, header.seq, header.flags));
        }
        let (tuple, path) = (tuple(false), Path::default());
        let header = header(&tuple);
        let mut summed = HeapBuf::from_frame(&[1; 500]);
        assert!(write_headers(
            &mut summed,
            &path,
            &tuple,
            &header,
            FrameOptions::default()
        ));
        assert!(Stencil::of(&summed, 500, &path, &tuple, &header).is_none());
    }

    // behaviour: ARP-20
    #[test]
    fn a_shared_frame_or_one_without_headroom_is_refused() {
        let tuple = tuple(false);
        let (path, options) = (Path::default(), FrameOptions::default());
        let mut shared = HeapBuf::from_frame(b"x");
        let other = shared.share().expect("shares");
        assert!(!write_headers(
            &mut shared,
            &path,
            &tuple,
            &header(&tuple),
            options
        ));
        drop(other);
        assert!(shared.set_span(53, 1));
        assert!(!write_headers(
            &mut shared,
            &path,
            &tuple,
            &header(&tuple),
            options
        ));
    }

    proptest! {
        #[test]
        fn the_short_way_writes_what_the_long_way_writes(
            numbers: (u32, u32, u16, u16, u16),
            flags in 0u16..512,
            offloads: (bool, bool, Option<u16>),
            request: (u8, u16),
            stamps: Option<(u32, u32)>,
            syn: Option<(u16, u8, bool)>,
            blocks in 0usize..5,
            payload in 0usize..2_000,
        ) {
            let mut options = TcpOptions {
                timestamps: stamps.map(|(value, echo)| Timestamps { value, echo }),
                mss: syn.map(|syn| syn.0),
                window_scale: syn.map(|syn| syn.1 % 15),
                sack_permitted: syn.is_some_and(|syn| syn.2),
                ..TcpOptions::default()
            };
            for block in 0..blocks as u32 {
                options.sack.push(SeqNumber::new(block), SeqNumber::new(block + 1));
            }
            let tuple = tuple(false);
            let tcp = TcpRepr {
                seq: SeqNumber::new(numbers.0),
                ack: SeqNumber::new(numbers.1),
                flags: TcpFlags::from_bits(flags),
                window: numbers.2,
                urgent: numbers.3,
                source_port: numbers.4,
                options,
                ..header(&tuple)
            };
            let path = Path {
                source: MacAddress::new([2, 0, 0, 0, 0, 9]),
                destination: MacAddress::new([2, 0, 0, 0, 0, 7]),
                offloads: Offloads {
                    ip_checksum: offloads.0,
                    tcp_checksum: offloads.1,
                    vlan: offloads.2.and_then(VlanId::new),
                    vlan_insert: true,
                    ..Offloads::default()
                },
                ..Path::default()
            };
            let request = FrameOptions {
                traffic_class: request.0,
                segment_bytes: if offloads.1 { request.1 } else { 0 },
            };
            let bytes: Vec<u8> = (0..payload).map(|at| at as u8).collect();
            let span = Span { offset: millrace_base::HEADROOM_BYTES_DEFAULT, len: payload };
            let write = |long: bool| {
                let mut frame = HeapBuf::from_frame(&bytes);
                let written = if long {
                    write_any(&mut frame, span, 0, &path, &tuple, &tcp, request)
                } else {
                    write_around(&mut frame, span, &path, &tuple, &tcp, request)
                };
                (written, written.then(|| frame.to_vec()), written.then_some(frame.offload))
            };
            prop_assert!(untagged_v4(&path, &tuple, &tcp).is_some());
            prop_assert_eq!(write(false), write(true));
        }
    }
}
