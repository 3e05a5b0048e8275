//! Ethernet II frames and the VLAN tags in front of their payload (IEEE 802.3, 802.1Q, 802.1ad).
//!
//! ```text
//!   0            6            12       14
//!   | destination |   source   | type   | payload ...
//!   | destination |   source   | 0x8100 | PCP DEI VID | type | payload ...
//! ```

use millrace_base::{MacAddress, VlanId};

use crate::{Malformed, u16_at};

/// Bytes of an untagged Ethernet header.
pub const HEADER_BYTES: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG_BYTES: usize = 4;
/// VLAN tags that are looked behind: a service tag and a customer tag.
pub const VLAN_TAGS_MAX: usize = 2;

/// What an Ethernet frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// A customer VLAN tag follows (802.1Q).
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// A service VLAN tag follows (802.1ad).
    pub const SERVICE_VLAN: Self = Self(0x88a8);

    const fn is_vlan(self) -> bool {
        matches!(self, Self::VLAN | Self::SERVICE_VLAN)
    }
}

/// An Ethernet frame whose header and tags are complete.
#[derive(Clone, Copy, Debug)]
pub struct EthernetView<'a> {
    bytes: &'a [u8],
    ether_type: EtherType,
    header_len: usize,
}

impl<'a> EthernetView<'a> {
    /// Checks the header and walks the VLAN tags.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER_BYTES {
            return Err(Malformed::EthernetTruncated);
        }
        let mut ether_type = EtherType(u16_at(bytes, 12));
        let mut header_len = HEADER_BYTES;
        let mut tags = 0usize;
        while ether_type.is_vlan() {
            if tags == VLAN_TAGS_MAX {
                return Err(Malformed::VlanStackTooDeep);
            }
            tags = tags.saturating_add(1);
            let tag_end = header_len.saturating_add(TAG_BYTES);
            if bytes.len() < tag_end {
                return Err(Malformed::EthernetTruncated);
            }
            ether_type = EtherType(u16_at(bytes, header_len.saturating_add(2)));
            header_len = tag_end;
        }
        Ok(Self {
            bytes,
            ether_type,
            header_len,
        })
    }

    /// The destination address.
    #[inline]
    pub fn destination(&self) -> MacAddress {
        MacAddress::new(self.bytes.first_chunk().copied().unwrap_or_default())
    }

    /// The source address.
    #[inline]
    pub fn source(&self) -> MacAddress {
        let tail = self.bytes.get(6..).unwrap_or_default();
        MacAddress::new(tail.first_chunk().copied().unwrap_or_default())
    }

    /// What the frame carries, behind any VLAN tags.
    #[inline]
    pub fn ether_type(&self) -> EtherType {
        self.ether_type
    }

    /// Bytes before the payload, tags included: 14, 18 or 22.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// The VLAN identifier (0..=4095) of the only tag, which is a customer tag (802.1Q). `None` without a tag and for
    /// any other tags; [`header_len`](Self::header_len) tells those cases apart.
    pub fn customer_vlan(&self) -> Option<u16> {
        let is_only = self.header_len == HEADER_BYTES.saturating_add(TAG_BYTES);
        let is_customer = u16_at(self.bytes, 12) == EtherType::VLAN.0;
        if is_only && is_customer {
            self.vlan()
        } else {
            None
        }
    }

    /// The VLAN identifier (0..=4095) of the outermost tag.
    pub fn vlan(&self) -> Option<u16> {
        (self.header_len > HEADER_BYTES).then(|| u16_at(self.bytes, HEADER_BYTES) & 0x0fff)
    }

    /// The payload, with whatever padding the link added.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.header_len..).unwrap_or_default()
    }
}

/// Writes an untagged header into the first 14 bytes of `frame`; `None` when it is shorter.
#[inline]
pub fn emit(
    frame: &mut [u8],
    destination: MacAddress,
    source: MacAddress,
    ether_type: EtherType,
) -> Option<usize> {
    // Field by field: an array literal of fourteen bytes becomes fourteen byte stores.
    let header = frame.first_chunk_mut::<HEADER_BYTES>()?;
    let (to, rest) = header.split_first_chunk_mut::<6>()?;
    let (from, kind) = rest.split_first_chunk_mut::<6>()?;
    *to = *destination.octets();
    *from = *source.octets();
    *kind.first_chunk_mut::<2>()? = ether_type.0.to_be_bytes();
    Some(HEADER_BYTES)
}

/// Writes a header with one customer tag (802.1Q, priority 0) into the first 18 bytes of `frame`; `None` when it is
/// shorter.
#[inline]
pub fn emit_tagged(
    frame: &mut [u8],
    destination: MacAddress,
    source: MacAddress,
    vlan: VlanId,
    ether_type: EtherType,
) -> Option<usize> {
    let len = emit(frame, destination, source, EtherType::VLAN)?;
    let tag = frame.get_mut(len..)?.first_chunk_mut::<TAG_BYTES>()?;
    let [a, b] = vlan.number().to_be_bytes();
    let [c, d] = ether_type.0.to_be_bytes();
    *tag = [a, b, c, d];
    len.checked_add(TAG_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tagged_header_parses_back_and_a_service_tag_is_no_customer_tag() {
        let vlan = VlanId::new(4_094).expect("a VLAN");
        let [to, from] = [2, 4].map(|last| MacAddress::new([2, 0, 0, 0, 0, last]));
        let mut frame = [0; 20];
        assert_eq!(
            emit_tagged(&mut frame, to, from, vlan, EtherType::IPV6),
            Some(18)
        );
        let view = EthernetView::parse(&frame).expect("well formed");
        assert_eq!(
            (view.destination(), view.source(), view.ether_type()),
            (to, from, EtherType::IPV6)
        );
        assert_eq!(view.customer_vlan(), Some(4_094));
        frame[12..14].copy_from_slice(&EtherType::SERVICE_VLAN.0.to_be_bytes());
        let view = EthernetView::parse(&frame).expect("well formed");
        assert_eq!((view.vlan(), view.customer_vlan()), (Some(4_094), None));
        assert_eq!(
            emit_tagged(&mut frame[..17], to, from, vlan, EtherType::IPV6),
            None
        );
    }

    #[test]
    fn tags_are_walked_and_a_third_is_refused() {
        let mut frame = vec![0u8; 12];
        frame.extend_from_slice(&[
            0x88, 0xa8, 0x20, 0x05, 0x81, 0x00, 0x00, 0x07, 0x08, 0x00, 0xee,
        ]);
        let view = EthernetView::parse(&frame).expect("well formed");
        assert_eq!(view.vlan(), Some(5));
        assert_eq!(
            (view.ether_type(), view.header_len()),
            (EtherType::IPV4, 22)
        );
        assert_eq!(view.payload(), [0xee]);
        frame[20] = 0x81;
        frame[21] = 0x00;
        frame.extend_from_slice(&[0; 8]);
        assert_eq!(
            EthernetView::parse(&frame).err(),
            Some(Malformed::VlanStackTooDeep)
        );
        assert_eq!(
            EthernetView::parse(&frame[..13]).err(),
            Some(Malformed::EthernetTruncated)
        );
        assert_eq!(
            EthernetView::parse(&frame[..17]).err(),
            Some(Malformed::EthernetTruncated)
        );
    }
}
