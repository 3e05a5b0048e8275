//! What the relay must know of a frame: whose flow it belongs to, and which bytes it carries.
//!
//! Only IPv4 and TCP, without checks that the receiver makes anyway. Everything else (ARP, IPv6's
//! neighbour discovery) belongs to no flow and passes untouched.

/// A TCP segment on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// IPv4 addresses.
    pub(super) source: u32,
    pub(super) destination: u32,
    pub(super) sequence: u32,
    /// Bytes of data.
    pub(super) payload: u32,
}

/// The segment in an Ethernet frame, if there is one.
pub(super) fn segment_of(frame: &[u8]) -> Option<Segment> {
    /// EtherType of IPv4, and TCP's protocol number.
    const IPV4: [u8; 2] = [8, 0];
    const TCP: u8 = 6;
    let (ethernet, packet) = frame.split_at_checked(14)?;
    if ethernet[12..] != IPV4 {
        return None;
    }
    let word = |at: usize| packet.get(at..at + 4)?.first_chunk().copied();
    let first = word(0)?;
    if packet.get(9) != Some(&TCP) {
        return None;
    }
    let header = usize::from(first[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([first[2], first[3]]));
    let offset = usize::from(packet.get(header + 12)? >> 4) * 4;
    Some(Segment {
        source: u32::from_be_bytes(word(12)?),
        destination: u32::from_be_bytes(word(16)?),
        sequence: u32::from_be_bytes(word(header + 4)?),
        payload: u32::try_from(total.checked_sub(header + offset)?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_past_options_and_without_the_padding_of_a_short_frame() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        // IPv4: 20 bytes, in all 20 + 24 + 3.
        frame.extend([0x45, 0, 0, 47, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        // TCP: 24 bytes.
        frame.extend([0, 80, 1, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0x60, 0x10, 0, 0]);
        frame.extend([0; 8]);
        frame.extend([7, 7, 7]);
        frame.resize(64, 0);
        let segment = Segment {
            source: 0x0a00_0001,
            destination: 0x0a00_0002,
            sequence: 256,
            payload: 3,
        };
        assert_eq!(segment_of(&frame), Some(segment));
        assert_eq!(segment_of(&frame[..40]), None, "cut off");
        frame[23] = 17;
        assert_eq!(segment_of(&frame), None, "UDP");
        frame[12] = 0x86;
        assert_eq!(segment_of(&frame), None, "not IPv4");
    }
}
