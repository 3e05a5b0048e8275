//! Why a frame was refused as malformed: one table, one variant per reason.

use core::fmt;

macro_rules! malformed {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A frame breaks the format of its protocol. Each variant is one reason; its sentence is
        /// the message.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Malformed {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Malformed {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason's name as code and counters spell it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The reason as a sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

malformed! {
    /// The frame is shorter than its Ethernet header.
    EthernetTruncated,
    /// The frame carries more VLAN tags than are looked behind (2).
    VlanStackTooDeep,
    /// The packet is shorter than its IPv4 header.
    Ipv4Truncated,
    /// The version field of an IPv4 frame is not 4.
    Ipv4Version,
    /// The IPv4 header length is below 20 bytes or beyond the packet.
    Ipv4HeaderLength,
    /// The IPv4 total length is below the header length or beyond the frame.
    Ipv4TotalLength,
    /// The IPv4 header checksum is wrong.
    Ipv4Checksum,
    /// The packet is shorter than its IPv6 header.
    Ipv6Truncated,
    /// The version field of an IPv6 frame is not 6.
    Ipv6Version,
    /// The IPv6 payload length reaches beyond the frame.
    Ipv6PayloadLength,
    /// An IPv6 packet carries an IPv4-mapped address, which never belongs on the wire (RFC 4291
    /// section 2.5.5.2).
    Ipv6MappedAddress,
    /// An IPv6 extension header is truncated.
    Ipv6ExtensionTruncated,
    /// An IPv6 packet carries more extension headers than are walked.
    Ipv6ExtensionsTooMany,
    /// The packet is shorter than its TCP header.
    TcpTruncated,
    /// The TCP data offset is below 20 bytes or beyond the segment.
    TcpDataOffset,
    /// The TCP checksum is wrong.
    TcpChecksum,
    /// The packet is shorter than an ARP message.
    ArpTruncated,
    /// The ARP message is not about IPv4 over Ethernet.
    ArpNotEthernetIpv4,
    /// The ARP message is neither a request nor a reply.
    ArpUnknownOperation,
    /// The packet is shorter than its ICMP message.
    Icmpv4Truncated,
    /// The ICMP checksum is wrong.
    Icmpv4Checksum,
    /// The packet is shorter than its ICMPv6 message.
    Icmpv6Truncated,
    /// The ICMPv6 checksum is wrong.
    Icmpv6Checksum,
    /// A neighbour discovery message breaks the validation rules of RFC 4861.
    NdInvalid,
    /// The packet is shorter than its UDP header.
    UdpTruncated,
    /// The UDP length is below 8 bytes or beyond the packet.
    UdpLength,
    /// An IPv6 routing header has segments left to visit; this host forwards nothing.
    Ipv6RoutingSegments,
    /// An IPv6 packet carries an unknown option that may not be skipped, or more options than are
    /// read.
    Ipv6OptionUnknown,
    /// The padding of an IPv6 options header is too long or not zero.
    Ipv6OptionPadding,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_table_and_sentences_are_sentences() {
        for (number, reason) in Malformed::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            assert!(reason.sentence().ends_with('.'), "{}", reason.name());
        }
    }
}
