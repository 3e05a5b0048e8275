//! Why a frame or a segment went no further: one table makes the reason, its counter and its
//! sentence.
//!
//! Remote input never returns an error upward. It ends in exactly one `DropReason`, counted in
//! `Stats::drops`. Reasons of the *frame* stage end a frame before any connection saw it; reasons
//! of the *segment* stage are counted by the TCP side for a segment it did receive (and may have
//! answered).

use millrace_wire::Malformed;

/// Where in the pipeline a reason ends a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Before any connection or mini-socket saw it.
    Frame,
    /// By the connection, request or TIME_WAIT record it belongs to.
    Segment,
    /// On the way out.
    Transmit,
}

macro_rules! drop_reasons {
    ($($stage:ident { $( $(#[doc = $sentence:literal])+ $name:ident = $counter:literal, )+ })+) => {
        /// Why a frame or a segment went no further.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($( $(#[doc = $sentence])+ $name, )+)+
        }

        impl DropReason {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$($(Self::$name,)+)+];

            /// The reason's name as an operator types it.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)+)+ }
            }

            /// The name of its counter.
            pub const fn counter(self) -> &'static str {
                match self { $($(Self::$name => concat!("drop_", $counter),)+)+ }
            }

            /// The sentence that explains it.
            pub const fn sentence(self) -> &'static str {
                match self { $($(Self::$name => concat!($($sentence),+).trim_ascii(),)+)+ }
            }

            /// Where in the pipeline it ends a frame.
            pub const fn stage(self) -> Stage {
                match self { $($(Self::$name => Stage::$stage,)+)+ }
            }

            /// Its position in `Stats::drops`.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

drop_reasons! {
    Frame {
        /// The frame is shorter than its Ethernet header.
        EthernetTruncated = "ethernet_truncated",
        /// The frame came in on a port that has no interface.
        NoInterface = "no_interface",
        /// The Ethernet destination is neither ours nor broadcast nor multicast.
        NotOurMac = "not_our_mac",
        /// The Ethernet source is a group address.
        BadSourceMac = "bad_source_mac",
        /// The frame carries another VLAN tag than its port, or none where the port has one.
        WrongVlan = "wrong_vlan",
        /// The Ethernet type is not IPv4, IPv6 or ARP.
        EtherTypeUnknown = "ether_type_unknown",
        /// The frame ends inside an IP header, or before the length the header claims.
        IpTruncated = "ip_truncated",
        /// The IP version field does not match the Ethernet type.
        IpVersion = "ip_version",
        /// The IP header length or total length is impossible.
        IpLength = "ip_length",
        /// The IPv4 header checksum is wrong.
        IpChecksum = "ip_checksum",
        /// The IPv4 header carries a source route option (or options cannot be parsed).
        IpOption = "ip_option",
        /// The IP source cannot be the source of a unicast packet (multicast, broadcast, loopback,
        /// unspecified).
        MartianSource = "martian_source",
        /// The IP source is one of our own addresses.
        OwnSource = "own_source",
        /// The IP destination is loopback, unspecified or an IPv4-mapped IPv6 address.
        MartianDestination = "martian_destination",
        /// The IP destination is not one of our addresses.
        NotOurAddress = "not_our_address",
        /// A packet to one host in an Ethernet frame to many (`drop_unicast_in_l2_multicast`).
        UnicastInL2Multicast = "unicast_in_l2_multicast",
        /// A fragment that finds no room: too many packets, pieces or bytes wait for their rest.
        FragmentMemory = "fragment_memory",
        /// A fragment that was here already.
        FragmentDuplicate = "fragment_duplicate",
        /// A fragment that overlaps another of its packet, which goes with it (RFC 5722).
        FragmentOverlap = "fragment_overlap",
        /// A fragment that cannot be part of its packet, which goes with it.
        FragmentInvalid = "fragment_invalid",
        /// An IPv6 extension header chain that is too long, out of order or unknown.
        ExtensionHeader = "extension_header",
        /// The segment ends inside the TCP header.
        TcpTruncated = "tcp_truncated",
        /// The TCP data offset is below 5 words or beyond the segment.
        TcpOffset = "tcp_offset",
        /// The TCP checksum is wrong.
        TcpChecksum = "tcp_checksum",
        /// The peer has a key for signatures (RFC 2385), and the segment is not signed.
        TcpMd5NotFound = "tcp_md5_not_found",
        /// The segment is signed, and its peer has no key.
        TcpMd5Unexpected = "tcp_md5_unexpected",
        /// The signature is of another key, or of another segment.
        TcpMd5Failure = "tcp_md5_failure",
        /// The length of an option cannot be, so that nobody knows whether the segment is signed.
        TcpAuthHeader = "tcp_auth_header",
        /// TCP to a broadcast or multicast address.
        TcpNotUnicast = "tcp_not_unicast",
        /// A TCP port is zero.
        TcpPortZero = "tcp_port_zero",
        /// The ICMP message is malformed or its checksum is wrong.
        IcmpMalformed = "icmp_malformed",
        /// An echo request to a broadcast or multicast address (`icmp_echo_ignore_broadcasts`).
        EchoNotUnicast = "echo_not_unicast",
        /// The echo reply limit is exhausted.
        EchoLimited = "echo_limited",
        /// An ICMP error that quotes no connection of ours, or a sequence number not in flight.
        IcmpErrorUnmatched = "icmp_error_unmatched",
        /// A segment for no connection and no listener, answered by a RST or, for a RST, by
        /// nothing.
        NoConnection = "no_connection",
        /// A segment for no connection whose RST was not sent because of the limit.
        ResetLimited = "reset_limited",
        /// A RST came to a listener.
        ListenerIgnored = "listener_ignored",
        /// A SYN with FIN, or a segment without ACK and SYN, came to a listener.
        ListenerFlags = "listener_flags",
        /// The listener's accept backlog is full: the SYN is dropped.
        AcceptQueueFull = "accept_queue_full",
        /// No room in the half-open table and cookies are off: the SYN is dropped.
        SynQueueFull = "syn_queue_full",
        /// SYN cookies are off, the last quarter of `tcp_max_syn_backlog` is being filled, and nothing is
        /// known of the peer: no connection to it has ended in order within the last hour.
        PeerUnproven = "peer_unproven",
        /// A SYN shed: the connections that are left are for the backends of those there are.
        SynShedConnections = "syn_shed_connections",
        /// A SYN shed: packet buffers are short, and those that are left are for what exists.
        SynShedBuffers = "syn_shed_buffers",
        /// No route back to the sender of a SYN.
        NoRouteBack = "no_route_back",
        /// A listener's ACK carried no valid SYN cookie.
        CookieInvalid = "cookie_invalid",
        /// The connection table is full.
        ConnectionTableFull = "connection_table_full",
        /// A segment of a connection at rest found no desk to put it to work at: nearly all of those at
        /// work are busy.
        NoDesk = "no_desk",
        /// The frame of a received segment is shared or chained in a way that cannot be queued.
        FrameUnusable = "frame_unusable",
        /// An invariant of the stack did not hold for this frame.
        Bug = "bug",
    }
    Segment {
        /// Payload shed: packet buffers are nearly gone. Its ACK was taken; the peer sends it again.
        PayloadShed = "payload_shed",
        /// A request was sent a segment outside its window, or with an old timestamp.
        RequestOutOfWindow = "request_out_of_window",
        /// A request was sent a segment without ACK that is not its SYN.
        RequestNoAck = "request_no_ack",
        /// A RST or SYN in its window ended a request.
        RequestReset = "request_reset",
        /// A request's SYN came again and was answered again.
        RequestSynAgain = "request_syn_again",
        /// A final ACK without data was not taken: the listener waits for data (`TCP_DEFER_ACCEPT`).
        RequestDeferred = "request_deferred",
        /// A final ACK found the accept backlog or the connection table full.
        RequestOverflow = "request_overflow",
        /// A TIME_WAIT record answered with an ACK, or ignored what needs no answer.
        TimeWaitHandled = "time_wait_handled",
        /// The segment lies outside the receive window.
        OutOfWindow = "out_of_window",
        /// The timestamp is older than one already seen (PAWS, RFC 7323 section 5).
        PawsRejected = "paws_rejected",
        /// An ACK for something not yet sent; answered with a challenge ACK when the budget allows.
        AckBeyondSent = "ack_beyond_sent",
        /// An ACK older than the window of the largest window ever seen (RFC 5961 section 5).
        AckTooOld = "ack_too_old",
        /// A segment without ACK in a state that needs one.
        AckMissing = "ack_missing",
        /// An ACK in SYN-SENT that does not acknowledge our SYN.
        AckUnacceptable = "ack_unacceptable",
        /// A SYN on a synchronised connection (RFC 5961 section 4).
        SynInWindow = "syn_in_window",
        /// A RST in the window but not at RCV.NXT (RFC 5961 section 3).
        ResetNotExact = "reset_not_exact",
        /// A RST outside the receive window.
        ResetOutOfWindow = "reset_out_of_window",
        /// A segment without SYN, RST or ACK, or for a closed connection.
        StateIgnored = "state_ignored",
        /// Data after the application said it will read no more.
        DataAfterClose = "data_after_close",
        /// Data that was already received.
        Duplicate = "duplicate",
        /// Data beyond the receive buffer or the pool of chunks.
        ReceiveBufferFull = "receive_buffer_full",
        /// Out-of-order data that finds no range or chunk.
        ReassemblyFull = "reassembly_full",
    }
    Transmit {
        /// No packet buffer for a reply.
        ReplyNoBuffer = "reply_no_buffer",
        /// A reply found the output queue full.
        ReplyQueueFull = "reply_queue_full",
        /// No route to the destination.
        NoRoute = "no_route",
        /// The neighbour did not answer resolution.
        NeighborFailed = "neighbor_failed",
        /// Too many frames wait for this neighbour, or for all.
        NeighborPendingFull = "neighbor_pending_full",
        /// The neighbour table is full.
        NeighborTableFull = "neighbor_table_full",
        /// Headers did not fit into the headroom of the frame, or the frame is shared.
        HeadroomMissing = "headroom_missing",
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::EthernetTruncated => Self::EthernetTruncated,
            Malformed::VlanStackTooDeep => Self::WrongVlan,
            Malformed::Ipv4Truncated
            | Malformed::Ipv4TotalLength
            | Malformed::Ipv6Truncated
            | Malformed::Ipv6PayloadLength => Self::IpTruncated,
            Malformed::Ipv4Version | Malformed::Ipv6Version => Self::IpVersion,
            Malformed::Ipv4HeaderLength => Self::IpLength,
            Malformed::Ipv4Checksum => Self::IpChecksum,
            Malformed::Ipv6MappedAddress => Self::MartianDestination,
            Malformed::Ipv6ExtensionTruncated
            | Malformed::Ipv6ExtensionsTooMany
            | Malformed::Ipv6RoutingSegments
            | Malformed::Ipv6OptionUnknown
            | Malformed::Ipv6OptionPadding => Self::ExtensionHeader,
            Malformed::TcpTruncated => Self::TcpTruncated,
            Malformed::TcpDataOffset => Self::TcpOffset,
            Malformed::TcpChecksum => Self::TcpChecksum,
            Malformed::Icmpv4Truncated
            | Malformed::Icmpv4Checksum
            | Malformed::Icmpv6Truncated
            | Malformed::Icmpv6Checksum
            | Malformed::NdInvalid => Self::IcmpMalformed,
            // Frames of these protocols are punted unread.
            Malformed::ArpTruncated
            | Malformed::ArpNotEthernetIpv4
            | Malformed::ArpUnknownOperation
            | Malformed::UdpTruncated
            | Malformed::UdpLength => Self::Bug,
        }
    }
}

/// Number of drop reasons.
pub(crate) const DROP_REASONS: usize = DropReason::ALL.len();
const _: () = assert!(DROP_REASONS <= u8::MAX as usize); // the reason is stored in a byte

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    // behaviour: X9-4
    #[test]
    fn every_reason_has_its_own_counter_and_its_place() {
        let counters: HashSet<&str> = DropReason::ALL
            .iter()
            .map(|reason| reason.counter())
            .collect();
        assert_eq!(counters.len(), DROP_REASONS);
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(reason.sentence().ends_with('.'), "{}", reason.name());
        }
    }
}
