//! Looking at and changing the headers of raw TCP packets that come in and go out.
//!
//! The stack makes and takes whole segments; what a single socket wants different (TOS, TTL, the MSS
//! option, PSH, the urgent pointer) is changed on the way. A damaged packet is nobody's.

use millrace_base::{Address, Endpoint};

const TCP: u8 = 6;
const HEADER_BYTES_V6: usize = 40;
/// Where things are in a TCP header.
const SEQ_AT: usize = 4;
const ACK_AT: usize = 8;
const LENGTH_AT: usize = 12;
pub(crate) const FLAGS_AT: usize = 13;
const CHECKSUM_AT: usize = 16;
pub(crate) const WINDOW_AT: usize = 14;
pub(crate) const URGENT_AT: usize = 18;
const OPTIONS_AT: usize = 20;
/// Bits of the flags.
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;

/// A TCP packet: who sent it to whom, and where its parts are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) source: Endpoint,
    pub(crate) destination: Endpoint,
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    /// Where the TCP header, the payload and the end are.
    pub(crate) tcp: usize,
    pub(crate) payload: usize,
    pub(crate) end: usize,
}

impl Header {
    /// Reads the headers; `None` when it is not TCP or not whole.
    pub(crate) fn of(packet: &[u8]) -> Option<Self> {
        let (source, destination, tcp, end) = match packet.first()? >> 4 {
            4 if *packet.get(9)? == TCP => {
                let address = |at: usize| Some(Address::v4(field(packet, at)?));
                let header = usize::from(packet.first()? & 0xf) * 4;
                let end = usize::from(word(packet, 2)?);
                (address(12)?, address(16)?, header, end)
            }
            6 if *packet.get(6)? == TCP => {
                let address = |at: usize| Some(Address::v6(field(packet, at)?));
                let end = HEADER_BYTES_V6 + usize::from(word(packet, 4)?);
                (address(8)?, address(24)?, HEADER_BYTES_V6, end)
            }
            _ => return None,
        };
        let payload = tcp + usize::from(packet.get(tcp + LENGTH_AT)? >> 4) * 4;
        if payload > end || end > packet.len() || payload < tcp + OPTIONS_AT {
            return None;
        }
        Some(Self {
            source: Endpoint::new(source, word(packet, tcp)?),
            destination: Endpoint::new(destination, word(packet, tcp + 2)?),
            flags: *packet.get(tcp + FLAGS_AT)?,
            seq: u32::from_be_bytes(field(packet, tcp + SEQ_AT)?),
            ack: u32::from_be_bytes(field(packet, tcp + ACK_AT)?),
            window: word(packet, tcp + WINDOW_AT)?,
            tcp,
            payload,
            end,
        })
    }

    /// Whether the checksums of the packet are right: what a damaged one says is said by nobody.
    pub(crate) fn is_sound(&self, packet: &[u8]) -> bool {
        let is_v4 = self.source.address.is_v4();
        let addresses = if is_v4 { 12..20 } else { 8..40 };
        let part = |range: core::ops::Range<usize>| packet.get(range).unwrap_or_default();
        let segment = part(self.tcp..self.end);
        let pseudo = sum(part(addresses)) + u32::from(TCP) + segment.len() as u32;
        let is_header_sound = !is_v4 || fold(sum(part(0..self.tcp))) == 0xffff;
        is_header_sound && fold(pseudo + sum(segment)) == 0xffff
    }

    /// Bytes of payload.
    pub(crate) const fn bytes(&self) -> usize {
        self.end - self.payload
    }

    /// Writes `bytes` at a place counted from the start of the TCP header and keeps the checksum
    /// right (RFC 1624).
    pub(crate) fn rewrite(&self, packet: &mut [u8], at: usize, bytes: &[u8]) {
        let Some(header) = packet.get_mut(self.tcp..self.payload) else {
            return;
        };
        let whole = at & !1..(at + bytes.len()).next_multiple_of(2);
        let before = sum(header.get(whole.clone()).unwrap_or_default());
        let Some(place) = header.get_mut(at..at + bytes.len()) else {
            return;
        };
        place.copy_from_slice(bytes);
        let after = sum(header.get(whole).unwrap_or_default());
        let Some(checksum) = header.get_mut(CHECKSUM_AT..CHECKSUM_AT + 2) else {
            return;
        };
        let kept = !sum(checksum) & 0xffff;
        let new = fold(kept + (!fold(before) & 0xffff) + after);
        checksum.copy_from_slice(&(!(new as u16)).to_be_bytes());
    }
}

/// Writes `bytes` into an IPv4 header and its checksum anew.
pub(crate) fn rewrite_ipv4(packet: &mut [u8], write: impl FnOnce(&mut [u8])) {
    let length = packet.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
    let Some(header) = packet.get_mut(..length.max(20)) else {
        return;
    };
    write(header);
    if let Some(checksum) = header.get_mut(10..12) {
        checksum.fill(0);
    }
    let new = !(fold(sum(header)) as u16);
    if let Some(checksum) = header.get_mut(10..12) {
        checksum.copy_from_slice(&new.to_be_bytes());
    }
}

fn field<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..at + N)?.try_into().ok()
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(field(packet, at)?))
}

/// The sum of 16-bit words; an odd byte at the end is the high half of one.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| {
        let [high, low] = [pair.first(), pair.get(1)].map(|byte| byte.copied().unwrap_or(0));
        u32::from(u16::from_be_bytes([high, low]))
    });
    words.sum()
}

const fn fold(mut sum: u32) -> u32 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN from 10.0.0.1:1000 to 10.0.0.2:80 with an MSS of 1,460 behind a no-operation, with
    /// right checksums.
    fn syn() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 48, 0, 0, 0x40, 0, 64, TCP, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        rewrite_ipv4(&mut packet, |_| {});
        packet.extend([3, 232, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x70, SYN, 255, 255]);
        packet.extend([0, 0, 0, 0, 1, 2, 4, 5, 180, 1, 1, 0]);
        let check = !(tcp_sum(&packet) as u16);
        packet[36..38].copy_from_slice(&check.to_be_bytes());
        packet
    }

    /// The folded sum over pseudo-header and segment: `0xffff` when the checksum is right.
    fn tcp_sum(packet: &[u8]) -> u32 {
        let length = packet.len() as u32 - 20;
        fold(sum(&packet[12..20]) + u32::from(TCP) + length + sum(&packet[20..]))
    }

    // Seed 4409 of the simulator: a bit that made a segment urgent.
    #[test]
    fn a_packet_with_any_other_byte_is_not_sound() {
        let packet = syn();
        let header = Header::of(&packet).expect("whole");
        assert!(header.is_sound(&packet));
        for at in 0..packet.len() {
            let mut damaged = packet.clone();
            damaged[at] ^= URG;
            let header = Header::of(&damaged);
            assert!(
                header.is_none_or(|header| !header.is_sound(&damaged)),
                "{at}"
            );
        }
    }

    #[test]
    fn a_field_at_an_odd_place_is_rewritten_and_the_checksum_stays_right() {
        let mut packet = syn();
        assert_eq!(tcp_sum(&packet), 0xffff);
        let header = Header::of(&packet).expect("whole");
        assert_eq!((header.flags, header.seq, header.bytes()), (SYN, 7, 0));
        header.rewrite(&mut packet, 23, &1_100u16.to_be_bytes());
        assert_eq!(packet[43..45], 1_100u16.to_be_bytes());
        assert_eq!(tcp_sum(&packet), 0xffff);
        header.rewrite(&mut packet, FLAGS_AT, &[SYN | URG]);
        assert_eq!(tcp_sum(&packet), 0xffff);
    }

    #[test]
    fn the_checksum_of_an_ipv4_header_follows_its_fields() {
        let mut packet = syn();
        rewrite_ipv4(&mut packet, |header| {
            header[1] = 0x10;
            header[8] = 3;
        });
        assert_eq!(fold(sum(&packet[..20])), 0xffff);
    }

    #[test]
    fn damaged_packets_are_nobodys() {
        let packet = syn();
        for len in 0..packet.len() {
            assert_eq!(Header::of(&packet[..len]), None, "{len}");
        }
        let mut short = syn();
        short[32] = 0x40;
        assert_eq!(Header::of(&short), None, "a header of 16 bytes");
    }
}
