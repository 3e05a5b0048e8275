//! A hop with a smaller MTU: it tells the sender, or it is a black hole and says nothing.

use millrace_base::{Address, Instant};
use millrace_wire::{Checksum, IpRepr, protocol};

/// Bytes of the refused packet that an answer carries: more than any header.
const QUOTED_BYTES: usize = 548;

/// The hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MtuPlan {
    /// The largest IP packet that passes, in bytes.
    pub(crate) mtu: u16,
    /// From when on.
    pub(crate) from: Instant,
    /// Until when.
    pub(crate) until: Instant,
    /// Whether it tells.
    pub(crate) tells: bool,
}

/// What becomes of a packet.
#[derive(Debug)]
pub(crate) enum Verdict {
    Passes,
    Vanishes,
    /// It is dropped, and this goes back to its sender.
    Answered(Vec<u8>),
}

impl MtuPlan {
    pub(super) fn judge(&self, now: Instant, packet: &[u8]) -> Verdict {
        let is_there = (self.from..self.until).contains(&now);
        if !is_there || packet.len() <= usize::from(self.mtu) {
            return Verdict::Passes;
        }
        match self.answer(packet).filter(|_| self.tells) {
            Some(answer) => Verdict::Answered(answer),
            None => Verdict::Vanishes,
        }
    }

    /// "Fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443 section 3.2).
    fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let v6 = packet.first()? >> 4 == 6;
        let (source, destination) = match v6 {
            true => (address(packet, 8..24)?, address(packet, 24..40)?),
            false => (address(packet, 12..16)?, address(packet, 16..20)?),
        };
        let (head, protocol) = match v6 {
            true => ([2, 0], protocol::ICMPV6),
            false => ([3, 4], protocol::ICMPV4),
        };
        let mut message = vec![head[0], head[1], 0, 0];
        message.extend_from_slice(&u32::from(self.mtu).to_be_bytes());
        message.extend_from_slice(packet.get(..QUOTED_BYTES.min(packet.len()))?);
        // The router speaks under the address of whom it could not reach: it has none of its own.
        let mut sum = match v6 {
            true => {
                let len = message.len() as u32;
                Checksum::pseudo_header(destination, source, protocol, len)
            }
            false => Checksum::new(),
        };
        sum.add_bytes(&message);
        message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        let header = IpRepr {
            source: destination,
            destination: source,
            protocol,
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: false,
            identification: 0,
            payload_len: u16::try_from(message.len()).ok()?,
        };
        let mut answer = vec![0; header.header_len()];
        header.emit(&mut answer, false)?;
        answer.extend_from_slice(&message);
        Some(answer)
    }
}

fn address(packet: &[u8], place: core::ops::Range<usize>) -> Option<Address> {
    let bytes = packet.get(place)?;
    match bytes.len() {
        4 => Some(Address::v4(bytes.try_into().ok()?)),
        _ => Some(Address::v6(bytes.try_into().ok()?)),
    }
}
