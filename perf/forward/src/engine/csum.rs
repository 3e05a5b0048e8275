//! `csum`: computes the IPv4 header checksum and the TCP or UDP checksum of each packet anew,
//! whatever they were, gives it the addresses of the sending port and its peer as `mac` does, and
//! sends it. A checksum that arrived wrong is counted, and leaves right. A UDP checksum of zero over
//! IPv4 means "none" and stays. Fragments get no TCP or UDP checksum (it covers the whole packet),
//! and what is not IP is only re-addressed. With `--csum-offload`, IPv4 and TCP checksums are left
//! to the device where it offers both; what arrived is not looked at then, nor counted.

use millrace_base::{PacketBuf, TxOffload};
use millrace_wire::{Checksum, protocol};

use crate::engine::Engine;
use crate::engine::headers::{Headers, MACS_BYTES, for_each_prefetched, macs, set_macs};
use crate::settings::Settings;
use crate::stream::Stream;

/// Where the checksum is in an IPv4 header.
const IP_FIELD: usize = 10;
const TCP_FIELD: usize = 16;
const UDP_FIELD: usize = 6;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Csum {
    macs: [u8; MACS_BYTES],
    offloads: bool,
}

/// Which checksums had arrived wrong.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Wrong {
    ip: bool,
    l4: bool,
}

impl Engine for Csum {
    fn begin(stream: &Stream, _: &Settings) -> Self {
        Self {
            macs: macs(stream.place().peer_mac, stream.place().tx_mac),
            offloads: stream.offloads_checksums(),
        }
    }

    #[inline]
    fn burst(&mut self, stream: &mut Stream) -> bool {
        if stream.receive() == 0 {
            return false;
        }
        let (mut bad_ip, mut bad_l4) = (0u64, 0u64);
        for_each_prefetched(stream.frames_mut().frames_mut(), |frame| {
            if let Some(bytes) = frame.bytes_mut() {
                set_macs(bytes, &self.macs);
            }
            let wrong = mend(frame, self.offloads).unwrap_or_default();
            bad_ip = bad_ip.saturating_add(u64::from(wrong.ip));
            bad_l4 = bad_l4.saturating_add(u64::from(wrong.l4));
        });
        stream.counters().bad_ip_checksum.add(bad_ip);
        stream.counters().bad_l4_checksum.add(bad_l4);
        stream.transmit();
        true
    }
}

/// Writes right checksums; `None` when the frame is not IP or nobody may write it.
#[inline]
fn mend<B: PacketBuf>(frame: &mut B, offloads: bool) -> Option<Wrong> {
    let headers = Headers::find(frame.bytes(), frame.frame_len())?;
    let is_tcp = headers.protocol == protocol::TCP && !headers.is_fragment;
    if offloads && is_tcp {
        leave_to_device(frame, &headers)?;
        return Some(Wrong::default());
    }
    let ip = headers.is_v4 && mend_ip(frame, &headers)?;
    let l4 = match headers.protocol {
        _ if headers.is_fragment => false,
        protocol::TCP => mend_l4(frame, &headers, TCP_FIELD, headers.transport_len)?,
        protocol::UDP => mend_udp(frame, &headers)?,
        _ => false,
    };
    Some(Wrong { ip, l4 })
}

/// Whether it was wrong.
fn mend_ip<B: PacketBuf>(frame: &mut B, headers: &Headers) -> Option<bool> {
    let header = frame
        .bytes_mut()?
        .get_mut(headers.network..headers.transport)?;
    let old = replace(header, IP_FIELD, 0)?;
    let mut sum = Checksum::new();
    sum.add_bytes(header);
    let new = sum.finish();
    replace(header, IP_FIELD, new)?;
    Some(old != new)
}

fn mend_udp<B: PacketBuf>(frame: &mut B, headers: &Headers) -> Option<bool> {
    let header = frame.bytes().get(headers.transport..)?.first_chunk::<8>()?;
    let [.., l0, l1, c0, c1] = *header;
    if [c0, c1] == [0, 0] && headers.is_v4 {
        return Some(false);
    }
    // The datagram ends where its own length says, which may be before the packet does.
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    if len > headers.transport_len {
        return Some(false);
    }
    mend_l4(frame, headers, UDP_FIELD, len)
}

/// Whether it was wrong.
fn mend_l4<B: PacketBuf>(
    frame: &mut B,
    headers: &Headers,
    field: usize,
    len: usize,
) -> Option<bool> {
    let at = headers.transport.checked_add(field)?;
    let old = replace(frame.bytes_mut()?, at, 0)?;
    let mut sum = Checksum::pseudo_header(
        headers.source,
        headers.destination,
        headers.protocol,
        u32::try_from(len).ok()?,
    );
    let (mut skip, mut left) = (headers.transport, len);
    for piece in frame.segments() {
        let covered = piece.get(skip.min(piece.len())..).unwrap_or_default();
        let covered = covered.get(..left.min(covered.len())).unwrap_or_default();
        sum.add_bytes(covered);
        skip = skip.saturating_sub(piece.len());
        left = left.saturating_sub(covered.len());
    }
    let mut new = sum.finish();
    //= https://www.rfc-editor.org/rfc/rfc768
    //# If the computed checksum is zero, it is transmitted as all ones
    if new == 0 && headers.protocol == protocol::UDP {
        new = u16::MAX;
    }
    replace(frame.bytes_mut()?, at, new)?;
    Some(old != new)
}

/// Asks the device for the IPv4 and TCP checksums, with the fields as it wants to find them.
fn leave_to_device<B: PacketBuf>(frame: &mut B, headers: &Headers) -> Option<()> {
    let bytes = frame.bytes_mut()?;
    if headers.is_v4 {
        replace(bytes, headers.network.checked_add(IP_FIELD)?, 0)?;
    }
    let len = u32::try_from(headers.transport_len).ok()?;
    let sum = Checksum::pseudo_header(headers.source, headers.destination, protocol::TCP, len);
    replace(
        bytes,
        headers.transport.checked_add(TCP_FIELD)?,
        sum.partial(),
    )?;
    let data_offset = *bytes.get(headers.transport.checked_add(12)?)? >> 4;
    let offload = TxOffload {
        l2_len: u8::try_from(headers.network).ok()?,
        l3_len: u8::try_from(headers.transport.checked_sub(headers.network)?).ok()?,
        l4_len: data_offset.checked_mul(4)?,
        is_ipv6: !headers.is_v4,
        ip_checksum: headers.is_v4,
        tcp_checksum: true,
        segment_bytes: 0,
        vlan: None,
    };
    frame.set_tx_offload(offload).then_some(())
}

/// Writes a big-endian word and returns the old one; `None` when it lies outside.
#[inline]
fn replace(bytes: &mut [u8], at: usize, value: u16) -> Option<u16> {
    let field = bytes.get_mut(at..)?.first_chunk_mut::<2>()?;
    let old = u16::from_be_bytes(*field);
    *field = value.to_be_bytes();
    Some(old)
}
