//! The TCP checksum over a segment that may lie in several buffers (RFC 9293 section 3.1, MUST-2
//! and MUST-3).

use millrace_base::Address;

use crate::{Checksum, protocol};

/// Where the checksum field is in a TCP header.
const FIELD: core::ops::Range<usize> = 16..18;

/// Whether the checksum of a received segment is right. `pieces` are its bytes from the TCP header
/// on, `len` their total.
#[inline]
pub fn verify<'a>(
    source: Address,
    destination: Address,
    len: u32,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> bool {
    let mut checksum = Checksum::pseudo_header(source, destination, protocol::TCP, len);
    for piece in pieces {
        checksum.add_bytes(piece);
    }
    checksum.finish() == 0
}

/// Computes and writes the checksum of a segment whose header starts `header` and whose data
/// follows in `data`. The field must hold 0. `None` when the header is too short.
#[inline]
pub fn fill<'a>(
    source: Address,
    destination: Address,
    header: &mut [u8],
    data: impl Iterator<Item = &'a [u8]>,
    len: u32,
) -> Option<()> {
    let mut checksum = Checksum::pseudo_header(source, destination, protocol::TCP, len);
    checksum.add_bytes(header);
    for piece in data {
        checksum.add_bytes(piece);
    }
    header
        .get_mut(FIELD)?
        .copy_from_slice(&checksum.finish().to_be_bytes());
    Some(())
}

/// Writes what a device that computes the checksum wants to find in the field: the folded
/// pseudo-header sum, with a length of 0 when the device also cuts the segment (`len` = 0), as
/// DPDK's `rte_ipv4_phdr_cksum` does.
#[inline]
pub fn seed(source: Address, destination: Address, header: &mut [u8], len: u32) -> Option<()> {
    let checksum = Checksum::pseudo_header(source, destination, protocol::TCP, len);
    header
        .get_mut(FIELD)?
        .copy_from_slice(&checksum.partial().to_be_bytes());
    Some(())
}
