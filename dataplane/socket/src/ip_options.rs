//! Options of the IPv4 header: those that a program sets (`IP_OPTIONS`), and those of a SYN that its
//! answers carry back (RFC 791 section 3.1, RFC 1122 section 4.2.3.8).
//!
//! The stack knows none: they are put on as packets leave and taken off as they come in. Source
//! routes, record route and timestamps are filled in; any other option travels as it is. A route that
//! came with a SYN is followed back only where `accept_source_route` is on; by default such packets
//! are dropped.
//!
//! Linux: `ip_options_compile`, `ip_options_build`, `__ip_options_echo`.

use crate::errno::Errno;
use crate::header::rewrite_ipv4;

const END: u8 = 0;
const NOTHING: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_ROUTE: u8 = 131;
const STRICT_ROUTE: u8 = 137;
/// Bytes of an IPv4 header without options, and of the options at most.
const HEADER_BYTES: usize = 20;
const OPTIONS_BYTES_MAX: usize = 40;
/// Where the first address of a route lies in its option, and what its pointer then says.
const ROUTE_AT: usize = 3;
const POINTER_FIRST: u8 = 4;

/// Options for every packet of a socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct IpOptions {
    /// As they leave but for what is filled in; a multiple of 4.
    bytes: Vec<u8>,
    /// The first hop of a source route: packets go there first. The last place of the route is the
    /// destination's.
    first_hop: Option<[u8; 4]>,
    /// Where the source route is.
    route: Option<usize>,
    /// Where a record route, a timestamp want our address or time.
    record: Option<usize>,
    stamp: Option<usize>,
}

impl IpOptions {
    /// What a program asks for: `EINVAL` when it cannot be.
    pub(crate) fn of_program(value: &[u8]) -> Result<Self, Errno> {
        if value.len() > OPTIONS_BYTES_MAX {
            return Err(Errno::EINVAL);
        }
        let mut options = Self {
            bytes: value.to_vec(),
            ..Self::default()
        };
        options.bytes.resize(value.len().next_multiple_of(4), END);
        let places = places(&options.bytes).ok_or(Errno::EINVAL)?;
        for (at, kind, len) in places {
            let option = options.bytes.get_mut(at..at + len).ok_or(Errno::EINVAL)?;
            let pointer = option.get(2).copied().unwrap_or(0);
            match kind {
                LOOSE_ROUTE | STRICT_ROUTE => {
                    let whole = len >= 7 && (len - ROUTE_AT).is_multiple_of(4);
                    if options.route.is_some() || !whole || pointer != POINTER_FIRST {
                        return Err(Errno::EINVAL);
                    }
                    // The first hop is the header's destination; the rest moves up.
                    let first = option.get(ROUTE_AT..7).and_then(|hop| hop.try_into().ok());
                    option.copy_within(7.., ROUTE_AT);
                    options.first_hop = first;
                    options.route = Some(at);
                }
                RECORD_ROUTE if pointer >= POINTER_FIRST => options.record = Some(at),
                TIMESTAMP if pointer > POINTER_FIRST => options.stamp = Some(at),
                RECORD_ROUTE | TIMESTAMP => return Err(Errno::EINVAL),
                _ => {}
            }
        }
        Ok(options)
    }

    /// What `getsockopt` tells: the first hop is in its place again.
    pub(crate) fn to_program(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let (Some(at), Some(hop)) = (self.route, self.first_hop) {
            let len = bytes.get(at + 1).map_or(0, |len| usize::from(*len));
            if let Some(route) = bytes.get_mut(at + ROUTE_AT..at + len) {
                route.rotate_right(4);
                if let Some(first) = route.get_mut(..4) {
                    first.copy_from_slice(&hop);
                }
            }
        }
        bytes
    }

    /// What the answers to a packet carry; `None` when it has nothing to be answered, or a source
    /// route that ends before us.
    pub(crate) fn echo_of(packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 0xf) * 4;
        let received = packet.get(HEADER_BYTES..header)?;
        let (source, ours) = (packet.get(12..16)?, packet.get(16..20)?);
        let mut echo = Self::default();
        for (at, kind, len) in places(received)? {
            let option = received.get(at..at + len)?;
            let place = echo.bytes.len();
            match kind {
                RECORD_ROUTE => {
                    echo.bytes.extend(option);
                    echo.record = Some(place);
                    // The way to us ends here.
                    echo.record(place, ours);
                }
                TIMESTAMP => {
                    echo.bytes.extend(option);
                    echo.stamp = Some(place);
                }
                LOOSE_ROUTE | STRICT_ROUTE => echo.reverse(option, source)?,
                _ => {}
            }
        }
        let len = echo.bytes.len().next_multiple_of(4);
        echo.bytes.resize(len, END);
        (len > 0).then_some(echo)
    }

    /// Bytes that they take of every packet.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts them on a packet without options; `now_ms` is the time since midnight.
    pub(crate) fn put_on(&self, packet: &mut Vec<u8>, now_ms: u32) {
        let fits = packet.first() == Some(&0x45) && packet.len() >= HEADER_BYTES;
        let total = packet.len() + self.len();
        if self.bytes.is_empty() || !fits || total > usize::from(u16::MAX) {
            return;
        }
        let mut filled = self.clone();
        let address = |at: usize| -> [u8; 4] {
            let bytes = packet
                .get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok());
            bytes.unwrap_or_default()
        };
        let (source, destination) = (address(12), address(16));
        if let Some(at) = self.route {
            filled.end_route(at, destination);
        }
        if let Some(at) = self.record {
            filled.record(at, &source);
        }
        if let Some(at) = self.stamp {
            filled.stamp(at, source, now_ms);
        }
        packet.splice(HEADER_BYTES..HEADER_BYTES, filled.bytes);
        let first_hop = self.first_hop;
        rewrite_ipv4(packet, |header| {
            // The header is longer by the options: they are summed with it.
            if let [first, ..] = header {
                *first = 0x45 + (self.len() / 4) as u8;
            }
            if let Some(length) = header.get_mut(2..4) {
                length.copy_from_slice(&(total as u16).to_be_bytes());
            }
            if let (Some(hop), Some(place)) = (first_hop, header.get_mut(16..20)) {
                place.copy_from_slice(&hop);
            }
        });
        // Once more over all of it.
        rewrite_ipv4(packet, |_| {});
    }

    /// The last place of a source route is the destination's.
    fn end_route(&mut self, at: usize, destination: [u8; 4]) {
        let len = self.bytes.get(at + 1).map_or(0, |len| usize::from(*len));
        let last = (at + len)
            .checked_sub(4)
            .and_then(|last| self.bytes.get_mut(last..last + 4));
        if let Some(last) = last {
            last.copy_from_slice(&destination);
        }
    }

    /// Writes an address into a record route, if there is room.
    fn record(&mut self, at: usize, address: &[u8]) {
        let Some([_, len, pointer, ..]) = self.bytes.get_mut(at..) else {
            return;
        };
        let (len, place) = (usize::from(*len), usize::from(*pointer));
        if place < ROUTE_AT + 1 || place + 3 > len {
            return;
        }
        *pointer += 4;
        let place = at + place - 1;
        if let Some(place) = self.bytes.get_mut(place..place + 4) {
            place.copy_from_slice(address);
        }
    }

    /// Writes the time, and before it our address if it is asked for, into a timestamp option.
    fn stamp(&mut self, at: usize, address: [u8; 4], now_ms: u32) {
        let Some([_, len, pointer, flags, ..]) = self.bytes.get_mut(at..) else {
            return;
        };
        let (len, place, with_address) =
            (usize::from(*len), usize::from(*pointer), *flags & 0xf == 1);
        let bytes = if with_address { 8 } else { 4 };
        if place < 5 || place - 1 + bytes > len || *flags & 0xf > 1 {
            return;
        }
        *pointer += bytes as u8;
        let place = at + place - 1;
        let mut words = if with_address {
            address.to_vec()
        } else {
            Vec::new()
        };
        words.extend(now_ms.to_be_bytes());
        if let Some(place) = self.bytes.get_mut(place..place + bytes) {
            place.copy_from_slice(&words);
        }
    }

    /// The way that a packet came, backwards; `None` when it is not at its end.
    fn reverse(&mut self, option: &[u8], source: &[u8]) -> Option<()> {
        let pointer = usize::from(*option.get(2)?);
        if pointer <= option.len() {
            return None;
        }
        let mut hops: Vec<[u8; 4]> = option
            .get(ROUTE_AT..)?
            .chunks_exact(4)
            .rev()
            .filter_map(|hop| hop.try_into().ok())
            .collect();
        // RFC 1812 section 5.3.13.4: a route that names its source as a hop is put right.
        if hops.last().is_some_and(|last| last == source) {
            hops.pop();
        }
        if hops.is_empty() {
            return Some(());
        }
        self.first_hop = Some(hops.remove(0));
        self.route = Some(self.bytes.len());
        let len = (ROUTE_AT + 4 * (hops.len() + 1)) as u8;
        self.bytes.extend([*option.first()?, len, POINTER_FIRST]);
        self.bytes.extend(hops.concat());
        self.bytes.extend([0; 4]);
        Some(())
    }
}

/// Takes the options off a packet that the stack shall see without them.
pub(crate) fn strip(packet: &mut Vec<u8>) {
    let header = packet
        .first()
        .map_or(0, |first| usize::from(first & 0xf) * 4);
    if header <= HEADER_BYTES || header > packet.len() {
        return;
    }
    let total = packet.get(2..4).and_then(|length| length.try_into().ok());
    let total = u16::from_be_bytes(total.unwrap_or_default());
    let total = total.saturating_sub((header - HEADER_BYTES) as u16);
    packet.drain(HEADER_BYTES..header);
    if let [first, _, high, low, ..] = packet.as_mut_slice() {
        *first = 0x45;
        [*high, *low] = total.to_be_bytes();
    }
    rewrite_ipv4(packet, |_| {});
}

/// Whether a packet carries a source route.
pub(crate) fn has_source_route(packet: &[u8]) -> bool {
    let header = packet
        .first()
        .map_or(0, |first| usize::from(first & 0xf) * 4);
    let options = packet.get(HEADER_BYTES..header).unwrap_or_default();
    let mut places = places(options).unwrap_or_default().into_iter();
    places.any(|(_, kind, _)| matches!(kind, LOOSE_ROUTE | STRICT_ROUTE))
}

/// Place, kind and length of each option; `None` when they break off.
fn places(options: &[u8]) -> Option<Vec<(usize, u8, usize)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(kind) = options.get(at) {
        match *kind {
            END => break,
            NOTHING => at += 1,
            kind => {
                let len = usize::from(*options.get(at + 1)?);
                if len < 2 || at + len > options.len() {
                    return None;
                }
                if matches!(kind, RECORD_ROUTE | TIMESTAMP | LOOSE_ROUTE | STRICT_ROUTE) && len < 3
                {
                    return None;
                }
                found.push((at, kind, len));
                at += len;
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: [u8; 4] = [10, 0, 0, 1];
    const PEER: [u8; 4] = [10, 0, 0, 2];

    fn packet(source: [u8; 4], destination: [u8; 4], options: &[u8]) -> Vec<u8> {
        let header = HEADER_BYTES + options.len();
        let mut packet = vec![0x45 + (options.len() / 4) as u8, 0, 0, header as u8 + 4];
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        packet.extend(source);
        packet.extend(destination);
        packet.extend(options);
        packet.extend(*b"data");
        rewrite_ipv4(&mut packet, |_| {});
        packet
    }

    fn is_sound(packet: &[u8]) -> bool {
        let header = usize::from(packet[0] & 0xf) * 4;
        let words = packet[..header].chunks(2);
        let sum: u32 = words
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
            .sum();
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        (sum & 0xffff) + (sum >> 16) == 0xffff && total == packet.len()
    }

    // RFC 791: the header names the first hop, the route the others and us at the end.
    // behaviour: A12-3, CON-4, MUST-51, IPO-4
    #[test]
    fn a_source_route_leads_over_its_first_hop_to_the_destination() {
        let route = [131, 11, 4, 1, 1, 1, 1, 2, 2, 2, 2, 0];
        let options = IpOptions::of_program(&route).expect("good");
        assert_eq!(options.to_program(), route);
        let mut sent = packet(US, PEER, &[]);
        options.put_on(&mut sent, 0);
        assert!(is_sound(&sent), "{sent:?}");
        assert_eq!(sent[16..20], [1, 1, 1, 1]);
        assert_eq!(sent[20..32], [131, 11, 4, 2, 2, 2, 2, 10, 0, 0, 2, 0]);
        assert_eq!(&sent[32..], b"data");
    }

    // behaviour: MAY-10, MAY-11, IPO-4
    #[test]
    fn a_record_route_and_a_timestamp_are_filled_in() {
        let asked = [7, 7, 4, 0, 0, 0, 0, 1, 68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let options = IpOptions::of_program(&asked).expect("good");
        let mut sent = packet(US, PEER, &[]);
        options.put_on(&mut sent, 0x0102_0304);
        assert!(is_sound(&sent));
        assert_eq!(sent[20..28], [7, 7, 8, 10, 0, 0, 1, 1]);
        assert_eq!(sent[28..40], [68, 12, 13, 1, 10, 0, 0, 1, 1, 2, 3, 4]);
        assert_eq!(sent[16..20], PEER);
    }

    // behaviour: LSN-38, MAY-11
    #[test]
    fn the_answer_to_a_record_route_goes_on_with_it() {
        let came = packet(PEER, US, &[7, 15, 8, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let echo = IpOptions::echo_of(&came).expect("answered");
        let mut answer = packet(US, PEER, &[]);
        echo.put_on(&mut answer, 0);
        assert!(is_sound(&answer));
        let recorded = [7, 15, 16, 9, 9, 9, 9, 10, 0, 0, 1, 10, 0, 0, 1, 0];
        assert_eq!(answer[20..36], recorded);
    }

    // behaviour: MUST-52, MUST-53, SHLD-24
    #[test]
    fn the_answer_to_a_source_route_goes_back_the_same_way() {
        let came = packet(PEER, US, &[131, 11, 12, 1, 1, 1, 1, 2, 2, 2, 2, 0]);
        assert!(has_source_route(&came));
        let echo = IpOptions::echo_of(&came).expect("answered");
        let mut answer = packet(US, PEER, &[]);
        echo.put_on(&mut answer, 0);
        assert!(is_sound(&answer));
        assert_eq!(answer[16..20], [2, 2, 2, 2]);
        assert_eq!(answer[20..32], [131, 11, 4, 1, 1, 1, 1, 10, 0, 0, 2, 0]);
        let mut stripped = came;
        strip(&mut stripped);
        assert_eq!(stripped, packet(PEER, US, &[]));
        let unfinished = packet(PEER, US, &[131, 11, 8, 1, 1, 1, 1, 2, 2, 2, 2, 0]);
        assert_eq!(IpOptions::echo_of(&unfinished), None);
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        for wrong in [
            &[131, 11, 8, 1, 1, 1, 1, 2, 2, 2, 2][..],
            &[131, 6, 4, 1, 1, 1],
            &[131, 7, 4, 1, 1, 1, 1, 137, 7, 4, 1, 1, 1, 1],
            &[7, 200, 4],
            &[7, 1],
            &[7, 3, 3],
            &[68],
            &[0; 41],
        ] {
            assert_eq!(
                IpOptions::of_program(wrong),
                Err(Errno::EINVAL),
                "{wrong:?}"
            );
        }
        assert_eq!(
            IpOptions::of_program(&[]).map(|options| options.len()),
            Ok(0)
        );
        let cut = packet(PEER, US, &[7, 9, 4, 0]);
        assert_eq!(IpOptions::echo_of(&cut), None);
    }
}
