//! Frames that no honest peer sends: each breaks one rule of one layer.
//!
//! Built from one good TCP frame and one good UDP-free IPv4 header, then broken. Nothing here is random without a seed.

use std::net::{IpAddr, Ipv4Addr};

use super::data::Pattern;
use super::plan::{self, FRONT, WEB_PORT};

/// The client's address, as source of every frame.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const TCP_BYTES: usize = 20;
/// The shortest thing a tap takes.
const TAP_BYTES_MIN: usize = ETHERNET_BYTES;

/// A named set of bad frames.
pub(crate) struct Malformed {
    /// What is wrong with them.
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<Vec<u8>>,
    /// Whether each must appear in a drop counter. (A frame for another host, say, may be ignored.)
    pub(crate) counted: bool,
    /// Whether they are IP fragments, which some devices' kernels take for themselves.
    pub(crate) fragments: bool,
}

fn mac(text: &str) -> Vec<u8> {
    text.split(':')
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect()
}

fn checksum(words: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in words.chunks(2) {
        let high = u32::from(pair[0]) << 8;
        sum += high | pair.get(1).map_or(0, |low| u32::from(*low));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn put16(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Recomputes the IPv4 header checksum.
fn seal_ipv4(frame: &mut [u8]) {
    put16(frame, ETHERNET_BYTES + 10, 0);
    let sum = checksum(&frame[ETHERNET_BYTES..ETHERNET_BYTES + IPV4_BYTES]);
    put16(frame, ETHERNET_BYTES + 10, sum);
}

/// Recomputes the TCP checksum over what the frame carries.
fn seal_tcp(frame: &mut [u8]) {
    let start = ETHERNET_BYTES + IPV4_BYTES;
    put16(frame, start + 16, 0);
    let segment = frame[start..].to_vec();
    let mut pseudo = frame[ETHERNET_BYTES + 12..ETHERNET_BYTES + 20].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend(u16::try_from(segment.len()).unwrap_or(0).to_be_bytes());
    pseudo.extend(&segment);
    put16(frame, start + 16, checksum(&pseudo));
}

/// A SYN to the web VIP that would be welcome, from a port of its own.
fn good_syn(source_port: u16) -> Vec<u8> {
    let mut frame = mac(FRONT.mac);
    frame.extend(mac(FRONT.peer_mac));
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(CLIENT.octets());
    frame.extend(plan::VIP4.octets());
    frame.extend(source_port.to_be_bytes());
    frame.extend(WEB_PORT.to_be_bytes());
    frame.extend([0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    seal_ipv4(&mut frame);
    seal_tcp(&mut frame);
    frame
}

/// The good frame with one change, checksums right again unless `break_it` breaks them later.
fn changed(source_port: u16, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = good_syn(source_port);
    change(&mut frame);
    frame
}

/// A SYN that would be welcome if its IP header were not damaged.
pub(crate) fn wrong_ip_checksum() -> Vec<u8> {
    changed(20_900, |frame| frame[ETHERNET_BYTES + 10] ^= 0xff)
}

/// Every set. All sets are the same on every call.
pub(crate) fn malformed() -> Vec<Malformed> {
    let set = |name, frames| Malformed {
        name,
        frames,
        counted: true,
        fragments: false,
    };
    vec![
        set("truncated", truncated()),
        set("bad lengths", bad_lengths()),
        set("bad checksums", bad_checksums()),
        Malformed {
            fragments: true,
            ..set("overlapping fragments", overlapping_fragments())
        },
        Malformed {
            counted: false,
            ..set("random bytes", random_frames())
        },
    ]
}

/// Cut anywhere inside the headers: the IPv4 total length then lies.
fn truncated() -> Vec<Vec<u8>> {
    let whole = ETHERNET_BYTES + IPV4_BYTES + TCP_BYTES;
    (TAP_BYTES_MIN + 1..whole)
        .map(|length| {
            let mut frame = good_syn(20_000);
            frame.truncate(length);
            frame
        })
        .collect()
}

/// Header and total lengths that cannot be.
fn bad_lengths() -> Vec<Vec<u8>> {
    let ip = ETHERNET_BYTES;
    let tcp = ETHERNET_BYTES + IPV4_BYTES;
    let mut frames = Vec::new();
    for total in [0u16, 19, 39, 41, 1500, 65535] {
        frames.push(changed(20_001, |frame| {
            put16(frame, ip + 2, total);
            seal_ipv4(frame);
        }));
    }
    for words in [0u8, 1, 4, 15] {
        frames.push(changed(20_002, |frame| {
            frame[ip] = 0x40 | words;
            seal_ipv4(frame);
        }));
    }
    for words in [0u8, 4, 6, 15] {
        frames.push(changed(20_003, |frame| {
            frame[tcp + 12] = words << 4;
            seal_tcp(frame);
        }));
    }
    frames
}

/// Right in every way but the sum.
fn bad_checksums() -> Vec<Vec<u8>> {
    let ip_sum = ETHERNET_BYTES + 10;
    let tcp_sum = ETHERNET_BYTES + IPV4_BYTES + 16;
    let flip = |at: usize, bit: u32| {
        changed(20_004, |frame| {
            let value = u16::from_be_bytes([frame[at], frame[at + 1]]) ^ (1 << bit);
            put16(frame, at, value);
        })
    };
    [ip_sum, tcp_sum]
        .iter()
        .flat_map(|at| (0..16).map(move |bit| flip(*at, bit)))
        .collect()
}

/// Fragments of one datagram that overlap in every way: same start, inside, across, behind the end.
fn overlapping_fragments() -> Vec<Vec<u8>> {
    let ip = ETHERNET_BYTES;
    let fragment = |id: u16, offset: u16, more: bool, bytes: u16| {
        let mut frame = good_syn(20_005);
        frame.truncate(ip + IPV4_BYTES);
        frame.extend(std::iter::repeat_n(0xaa, usize::from(bytes)));
        put16(&mut frame, ip + 2, 20 + bytes);
        put16(&mut frame, ip + 4, id);
        put16(&mut frame, ip + 6, (u16::from(more) << 13) | (offset / 8));
        seal_ipv4(&mut frame);
        frame
    };
    let mut frames = Vec::new();
    for id in 100..116 {
        frames.push(fragment(id, 0, true, 64));
        frames.push(fragment(id, 0, true, 48));
        frames.push(fragment(id, 32, true, 64));
        frames.push(fragment(id, 16, false, 16));
        frames.push(fragment(id, 65_528, false, 1400));
    }
    frames
}

/// Our MAC address, a plausible ether type, then noise.
fn random_frames() -> Vec<Vec<u8>> {
    let mut pattern = Pattern::new(42);
    (0..256)
        .map(|index: usize| {
            let ether_type = [[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06], [0x81, 0x00]][index % 4];
            let mut noise = vec![0; 8 * (1 + index % 180)];
            pattern.fill(&mut noise);
            let mut frame = mac(FRONT.mac);
            frame.extend(mac(FRONT.peer_mac));
            frame.extend(ether_type);
            // Half of them get past the version check.
            if index % 8 < 2 {
                noise[0] = if ether_type[0] == 0x08 { 0x45 } else { 0x60 };
            }
            frame.extend(noise);
            frame
        })
        .collect()
}

/// A broadcast ARP request (RFC 826) for a VIP, in a VLAN when one is given.
pub(crate) fn arp_request(vlan: Option<u16>) -> Vec<u8> {
    let (sender, sender_address) = ([0x02, 0x4d, 0x52, 0x00, 0x01, 0x77], [10, 8, 0, 119]);
    let mut frame = vec![0xff; 6];
    frame.extend(sender);
    if let Some(vlan) = vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(sender);
    frame.extend(sender_address);
    frame.extend([0; 6]);
    frame.extend(plan::VIP4.octets());
    frame
}

/// The VIP they aim at.
pub(crate) fn target() -> IpAddr {
    IpAddr::V4(plan::VIP4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_good_frame_has_right_checksums() {
        let frame = good_syn(1234);
        assert_eq!(frame.len(), 54);
        assert_eq!(checksum(&frame[14..34]), 0);
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, 6, 0, 20]);
        pseudo.extend(&frame[34..]);
        assert_eq!(checksum(&pseudo), 0);
    }

    #[test]
    fn every_malformed_frame_can_be_put_on_a_tap_and_differs_from_the_good_one() {
        for set in malformed() {
            assert!(set.frames.len() >= 10, "{}", set.name);
            assert!(
                set.frames
                    .iter()
                    .all(|frame| frame.len() >= TAP_BYTES_MIN && frame.len() <= 1514)
            );
        }
    }
}
