//! What a received frame is: the checks before any connection is looked for, in Linux's order.
//!
//! Ethernet (`eth_type_trans`), then IP (`ip_rcv_core`, `ipv6_rcv`), then the transport header.
//! Nothing here changes a table or the frame. Checks of the source address wait until no connection
//! was found (`admissible`): a tuple with an owner passed them when it began.
//!
//! Fragments of what is ours are told apart here and put together in `fragment.rs`.

use millrace_base::{
    Address, ChecksumStatus, Endpoint, FlowTuple, PacketBuf, PortId, SeqNumber, VlanId,
};
use millrace_wire::ethernet::HEADER_BYTES;
use millrace_wire::tcp::checksum;
use millrace_wire::{
    EtherType, EthernetView, Fragment, IpView, Malformed, TcpFlags, TcpOptions, TcpView,
    Timestamps, protocol, tcp,
};

use crate::fragment::{FragmentFrame, FragmentHeader, PacketId};
use crate::interface::Interfaces;
use crate::stats::{Stats, count};
use crate::tcp::ecn::ECN_MASK;
use crate::verdict::DropReason;

/// Why a frame is the control plane's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum PuntReason {
    /// ARP, request or reply.
    Arp = 1,
    /// IPv6 neighbour or router discovery.
    NeighborDiscovery = 2,
    /// ICMP that is neither an echo request nor about one of our connections.
    Icmp = 3,
    /// Another protocol to one of our addresses.
    Local = 4,
    /// Another protocol to a group or broadcast address.
    Group = 5,
}

/// A frame that is the control plane's business, as it was received.
#[derive(Debug)]
pub struct Punt<B> {
    /// The whole frame.
    pub frame: B,
    /// Why it is handed over.
    pub reason: PuntReason,
}

/// What a frame is.
#[derive(Debug)]
pub(crate) enum Parsed {
    Tcp(TcpFrame),
    Icmp(IcmpFrame),
    Fragment(FragmentFrame),
    Punt(PuntReason),
    Drop(DropReason),
}

/// A TCP segment whose checksum is good. `local` of the tuple is the destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TcpFrame {
    pub(crate) tuple: FlowTuple,
    pub(crate) seq: SeqNumber,
    pub(crate) ack: SeqNumber,
    pub(crate) flags: TcpFlags,
    pub(crate) window: u16,
    /// DSCP and ECN bits (TOS).
    pub(crate) traffic_class: u8,
    pub(crate) carried: Carried,
    /// Where the options begin, counted from the start of the frame.
    pub(crate) options_at: u16,
    /// Where the payload begins, counted from the start of the frame.
    pub(crate) payload_at: u16,
    /// Bytes of payload over the whole chain.
    pub(crate) payload_len: u32,
}

/// The options of a segment, as far as one look tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carried {
    Nothing,
    /// Timestamps in the layout that everybody uses, and nothing else.
    Timestamps(Timestamps),
    /// To be read.
    Options,
}

impl Carried {
    #[inline]
    pub(crate) fn of(options: &[u8], flags: TcpFlags) -> Self {
        if flags.syn() {
            return Self::Options;
        }
        match Timestamps::of_aligned(options) {
            Some(stamps) => Self::Timestamps(stamps),
            None if options.is_empty() => Self::Nothing,
            None => Self::Options,
        }
    }
}

impl TcpFrame {
    /// All options; `frame` is the one that this is the header of.
    pub(crate) fn options<B: PacketBuf>(&self, frame: &B) -> TcpOptions {
        match self.carried {
            Carried::Nothing => TcpOptions::default(),
            Carried::Timestamps(stamps) => TcpOptions {
                timestamps: Some(stamps),
                ..TcpOptions::default()
            },
            Carried::Options => {
                let at = usize::from(self.options_at)..usize::from(self.payload_at);
                let bytes = frame.bytes().get(at).unwrap_or_default();
                TcpOptions::parse(bytes, self.flags.syn())
            }
        }
    }

    /// The ACK it would be without its payload. A FIN lies behind the payload: it goes too.
    pub(crate) fn without_payload(&self) -> Self {
        Self {
            flags: self.flags.without(TcpFlags::FIN).without(TcpFlags::PSH),
            payload_len: 0,
            ..*self
        }
    }

    /// The sequence number behind the segment.
    pub(crate) fn end(&self) -> SeqNumber {
        let len = u32::from(self.flags.syn()).saturating_add(u32::from(self.flags.fin()));
        self.seq.plus(self.payload_len).plus(len)
    }
}

/// An ICMP message to one of our addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IcmpFrame {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    /// Where the message begins, counted from the start of the frame.
    pub(crate) icmp_at: usize,
    /// Bytes of the message over the whole chain.
    pub(crate) icmp_len: usize,
}

/// What remains to be checked of a packet without an owner: may it come from there, and is it for
/// us? (`ip_route_input_slow`: martian source, martian destination, not local.)
pub(crate) fn admissible(tuple: &FlowTuple, interfaces: &Interfaces) -> Result<(), DropReason> {
    let (source, destination) = (tuple.remote.address, tuple.local.address);
    // What could be a source is none of what is asked for below.
    let is_common = destination.is_unicast_source();
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.9.2.3
    //# a TCP implementation MUST silently discard an incoming SYN segment that is addressed to a
    //# broadcast or multicast address (MUST-57)
    if (!is_common && destination.is_multicast()) || interfaces.is_broadcast(destination) {
        return Err(DropReason::TcpNotUnicast);
    }
    // MUST-63: an invalid remote address is ignored.
    check_source(source, interfaces)?;
    if !is_common && (destination.is_loopback() || destination.is_unspecified()) {
        return Err(DropReason::MartianDestination);
    }
    if !interfaces.is_local(destination) {
        return Err(DropReason::NotOurAddress);
    }
    if tuple.local.port == 0 || tuple.remote.port == 0 {
        return Err(DropReason::TcpPortZero);
    }
    Ok(())
}

fn check_source(source: Address, interfaces: &Interfaces) -> Result<(), DropReason> {
    if !source.is_unicast_source() || interfaces.is_broadcast(source) {
        return Err(DropReason::MartianSource);
    }
    if interfaces.is_local(source) {
        return Err(DropReason::OwnSource);
    }
    Ok(())
}

/// Parses a frame that came in on `port`.
pub(crate) fn parse<B: PacketBuf>(
    frame: &B,
    port: PortId,
    interfaces: &Interfaces,
    stats: &mut Stats,
) -> Parsed {
    let ethernet = match EthernetView::parse(frame.bytes()) {
        Ok(ethernet) => ethernet,
        Err(malformed) => return Parsed::Drop(malformed.into()),
    };
    let Some(interface) = interfaces.get(port) else {
        return Parsed::Drop(DropReason::NoInterface);
    };
    let group = ethernet.destination().is_group();
    if !group && ethernet.destination() != interface.mac {
        return Parsed::Drop(DropReason::NotOurMac);
    }
    if ethernet.source().is_group() {
        return Parsed::Drop(DropReason::BadSourceMac);
    }
    if !is_of_vlan(frame, &ethernet, interface.offloads.vlan) {
        return Parsed::Drop(DropReason::WrongVlan);
    }
    if ethernet.ether_type() == EtherType::ARP {
        return Parsed::Punt(PuntReason::Arp);
    }
    match parse_ip(frame, &ethernet, interfaces, stats) {
        Ok(parsed) => parsed,
        Err(reason) => Parsed::Drop(reason),
    }
}

/// Whether the frame belongs to the port's VLAN. The device may have taken the tag off. A frame that only has a priority
/// (VLAN 0) is as good as untagged (IEEE 802.1Q-2022 section 6.9); a second tag belongs to nobody here.
#[inline]
fn is_of_vlan<B: PacketBuf>(
    frame: &B,
    ethernet: &EthernetView<'_>,
    expected: Option<VlanId>,
) -> bool {
    let stripped = frame.rx_meta().stripped_vlan;
    let is_tagged = ethernet.header_len() != HEADER_BYTES;
    if !is_tagged && stripped.is_none() && expected.is_none() {
        return true;
    }
    let tag = match (is_tagged, stripped) {
        (false, stripped) => stripped.unwrap_or(0),
        (true, None) => ethernet.customer_vlan().unwrap_or(u16::MAX),
        (true, Some(_)) => return false,
    };
    tag == expected.map_or(0, VlanId::number)
}

fn parse_ip<B: PacketBuf>(
    frame: &B,
    ethernet: &EthernetView<'_>,
    interfaces: &Interfaces,
    stats: &mut Stats,
) -> Result<Parsed, DropReason> {
    let ip_at = ethernet.header_len();
    let available = frame.frame_len().saturating_sub(ip_at);
    let Some(parsed) = IpView::parse(ethernet.ether_type(), ethernet.payload(), available) else {
        return Err(DropReason::EtherTypeUnknown);
    };
    count!(stats.ip_in_receives);
    let ip = parsed.map_err(|malformed| {
        count_header_error(malformed, stats);
        DropReason::from(malformed)
    })?;
    count_mark(ip.traffic_class(), stats);
    check_header_checksum(frame, &ip, stats)?;
    let group = ethernet.destination().is_group();
    if group {
        check_group(&ip, interfaces, stats)?;
    }
    if ip.is_v4() && has_source_route(ethernet.payload(), ip.header_len()) {
        count!(stats.ip_in_hdr_errors);
        return Err(DropReason::IpOption);
    }
    if let Some(fragment) = ip.fragment() {
        let packet = ethernet.payload();
        return classify_fragment(&ip, fragment, (ip_at, packet), interfaces, stats);
    }
    classify(frame, &ip, (ip_at, group), interfaces, stats)
}

/// Parses a packet that was put together from pieces. Each piece has passed the checks of `parse`,
/// and was counted as a packet received.
pub(crate) fn parse_whole<B: PacketBuf>(
    frame: &B,
    interfaces: &Interfaces,
    stats: &mut Stats,
) -> Parsed {
    let mut parsed = || {
        let ethernet = EthernetView::parse(frame.bytes())?;
        let ip_at = ethernet.header_len();
        let available = frame.frame_len().saturating_sub(ip_at);
        let ip = IpView::parse(ethernet.ether_type(), ethernet.payload(), available)
            .ok_or(DropReason::EtherTypeUnknown)??;
        // Pieces of pieces: nobody makes them but to see what happens.
        if ip.fragment().is_some() {
            return Err(DropReason::FragmentInvalid);
        }
        let group = ethernet.destination().is_group();
        classify(frame, &ip, (ip_at, group), interfaces, stats)
    };
    parsed().unwrap_or_else(Parsed::Drop)
}

/// Whose business a whole packet is.
#[inline]
fn classify<B: PacketBuf>(
    frame: &B,
    ip: &IpView<'_>,
    (ip_at, group): (usize, bool),
    interfaces: &Interfaces,
    stats: &mut Stats,
) -> Result<Parsed, DropReason> {
    match ip.protocol() {
        // behaviour: A6-7
        protocol::TCP if group => Err(DropReason::TcpNotUnicast),
        protocol::TCP => parse_tcp(frame, ip, ip_at, stats).map(Parsed::Tcp),
        protocol::ICMPV4 if ip.is_v4() => classify_icmp(ip, ip_at, interfaces),
        protocol::ICMPV6 if !ip.is_v4() => classify_icmp(ip, ip_at, interfaces),
        _ => {
            let punt = punt_other(ip, interfaces);
            if matches!(punt, Err(DropReason::NotOurAddress)) {
                count!(stats.ip_in_addr_errors);
            } else if punt.is_ok() {
                count!(stats.ip_in_unknown_protos);
            }
            punt
        }
    }
}

/// A piece of a packet to us is kept; one of a protocol that is not ours goes where its packet would.
#[cold]
fn classify_fragment(
    ip: &IpView<'_>,
    fragment: Fragment,
    (ip_at, packet): (usize, &[u8]),
    interfaces: &Interfaces,
    stats: &mut Stats,
) -> Result<Parsed, DropReason> {
    let is_v4 = ip.is_v4();
    let (payload_at, begins_with) = if is_v4 {
        (ip.header_len(), ip.protocol())
    } else {
        let header = FragmentHeader::find(packet).ok_or(DropReason::ExtensionHeader)?;
        (header.at.saturating_add(8), header.next)
    };
    let is_ours = match begins_with {
        protocol::TCP => true,
        protocol::ICMPV4 => is_v4,
        protocol::ICMPV6 | protocol::DESTINATION_OPTIONS => !is_v4,
        _ => false,
    };
    if !is_ours {
        return punt_other(ip, interfaces);
    }
    check_source(ip.source(), interfaces)?;
    if !interfaces.is_local(ip.destination()) {
        count!(stats.ip_in_addr_errors);
        return Err(DropReason::NotOurAddress);
    }
    Ok(Parsed::Fragment(FragmentFrame {
        packet: PacketId {
            source: ip.source(),
            destination: ip.destination(),
            identification: fragment.identification,
            protocol: if is_v4 { begins_with } else { 0 },
        },
        fragment,
        ip_at: ip_at as u16,
        payload_at: payload_at as u16,
        payload_len: ip.total_len().saturating_sub(payload_at) as u16,
        ecn: ip.traffic_class() & 3,
    }))
}

/// What the ECN bits of a packet say (RFC 3168 section 5). behaviour: OPT-6
#[inline]
pub(crate) fn count_mark(traffic_class: u8, stats: &mut Stats) {
    match traffic_class & ECN_MASK {
        0 => count!(stats.ip_in_no_ect_pkts),
        1 => count!(stats.ip_in_ect1_pkts),
        2 => count!(stats.ip_in_ect0_pkts),
        _ => count!(stats.ip_in_ce_pkts),
    }
}

fn count_header_error(malformed: Malformed, stats: &mut Stats) {
    if matches!(
        malformed,
        Malformed::Ipv4TotalLength | Malformed::Ipv6PayloadLength
    ) {
        count!(stats.ip_in_truncated_pkts);
    } else {
        count!(stats.ip_in_hdr_errors);
    }
}

/// Counts a packet that came to many by what it is, and turns away one that names a single host, if
/// that is wanted (Linux: `ip_rcv_finish_core`, `ip6_rcv_core`). behaviour: RTE-14, IPI-5
fn check_group(
    ip: &IpView<'_>,
    interfaces: &Interfaces,
    stats: &mut Stats,
) -> Result<(), DropReason> {
    let (destination, bytes) = (ip.destination(), ip.total_len() as u64);
    if destination.is_multicast() {
        count!(stats.ip_in_mcast_pkts);
        count!(stats.ip_in_mcast_octets, bytes);
    } else if interfaces.is_broadcast(destination) || !destination.is_unicast_source() {
        count!(stats.ip_in_bcast_pkts);
        count!(stats.ip_in_bcast_octets, bytes);
    } else if interfaces.drops_unicast_in_l2_multicast(destination.is_v4()) {
        return Err(DropReason::UnicastInL2Multicast);
    }
    Ok(())
}

fn check_header_checksum<B: PacketBuf>(
    frame: &B,
    ip: &IpView<'_>,
    stats: &mut Stats,
) -> Result<(), DropReason> {
    let good = match frame.rx_meta().ip_checksum {
        ChecksumStatus::Good => true,
        ChecksumStatus::Bad => !ip.is_v4(),
        ChecksumStatus::Unknown => ip.header_checksum_ok(),
    };
    if good {
        return Ok(());
    }
    count!(stats.ip_in_csum_errors);
    count!(stats.ip_in_hdr_errors);
    Err(DropReason::IpChecksum)
}

/// Whether the options of an IPv4 header hold a source route, or break off (Linux:
/// `accept_source_route` is 0).
fn has_source_route(packet: &[u8], header_len: usize) -> bool {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    let mut options = packet.get(20..header_len).unwrap_or_default();
    while let Some((kind, rest)) = options.split_first() {
        match *kind {
            END => return false,
            NOP => options = rest,
            LOOSE | STRICT => return true,
            _ => match rest.first().map(|len| usize::from(*len)) {
                Some(len) if len >= 2 && len <= options.len() => {
                    options = options.get(len..).unwrap_or_default();
                }
                _ => return true,
            },
        }
    }
    false
}

fn parse_tcp<B: PacketBuf>(
    frame: &B,
    ip: &IpView<'_>,
    ip_at: usize,
    stats: &mut Stats,
) -> Result<TcpFrame, DropReason> {
    // behaviour: A6-8
    count!(stats.tcp_in_segs);
    let tcp = TcpView::parse(ip.payload()).map_err(|malformed| {
        count!(stats.tcp_in_errs);
        DropReason::from(malformed)
    })?;
    let segment_at = ip_at.saturating_add(ip.header_len());
    if !is_checksum_good(frame, ip, segment_at) {
        // behaviour: A6-10
        count!(stats.tcp_in_csum_errors);
        count!(stats.tcp_in_errs);
        return Err(DropReason::TcpChecksum);
    }
    Ok(TcpFrame {
        tuple: FlowTuple {
            local: Endpoint::new(ip.destination(), tcp.destination_port()),
            remote: Endpoint::new(ip.source(), tcp.source_port()),
        },
        seq: tcp.seq(),
        ack: tcp.ack(),
        flags: tcp.flags(),
        window: tcp.window(),
        traffic_class: ip.traffic_class(),
        carried: Carried::of(tcp.option_bytes(), tcp.flags()),
        options_at: segment_at.saturating_add(tcp::HEADER_BYTES) as u16,
        payload_at: segment_at.saturating_add(tcp.header_len()) as u16,
        payload_len: ip.payload_len().saturating_sub(tcp.header_len()) as u32,
    })
}

//= https://www.rfc-editor.org/rfc/rfc9293#section-3.1
//# the receiver MUST check it (MUST-3)
fn is_checksum_good<B: PacketBuf>(frame: &B, ip: &IpView<'_>, segment_at: usize) -> bool {
    match frame.rx_meta().l4_checksum {
        ChecksumStatus::Good => true,
        ChecksumStatus::Bad => false,
        ChecksumStatus::Unknown => {
            let len = ip.payload_len();
            let pieces = pieces(frame, segment_at, len);
            checksum::verify(ip.source(), ip.destination(), len as u32, pieces)
        }
    }
}

/// The bytes `start .. start + len` of a frame, over its segments. `start` lies in the first.
pub(crate) fn pieces<B: PacketBuf>(
    frame: &B,
    start: usize,
    len: usize,
) -> impl Iterator<Item = &[u8]> {
    let mut skipped = start;
    let mut remaining = len;
    frame.segments().map(move |segment| {
        let piece = segment.get(skipped..).unwrap_or_default();
        skipped = 0;
        let piece = piece.get(..remaining).unwrap_or(piece);
        remaining = remaining.saturating_sub(piece.len());
        piece
    })
}

fn classify_icmp(
    ip: &IpView<'_>,
    ip_at: usize,
    interfaces: &Interfaces,
) -> Result<Parsed, DropReason> {
    let kind = ip.payload().first().copied().unwrap_or(0);
    if !ip.is_v4() && (ROUTER_SOLICITATION..=REDIRECT).contains(&kind) {
        return Ok(Parsed::Punt(PuntReason::NeighborDiscovery));
    }
    if !interfaces.is_local(ip.destination()) {
        let group = ip.destination().is_multicast() || interfaces.is_broadcast(ip.destination());
        if !group {
            return Err(DropReason::NotOurAddress);
        }
        let echo = if ip.is_v4() { ECHO_V4 } else { ECHO_V6 };
        if kind == echo {
            return Err(DropReason::EchoNotUnicast);
        }
        return Ok(Parsed::Punt(PuntReason::Icmp));
    }
    check_source(ip.source(), interfaces)?;
    Ok(Parsed::Icmp(IcmpFrame {
        source: ip.source(),
        destination: ip.destination(),
        icmp_at: ip_at.saturating_add(ip.header_len()),
        icmp_len: ip.payload_len(),
    }))
}

const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;
const ROUTER_SOLICITATION: u8 = 133;
const REDIRECT: u8 = 137;

fn punt_other(ip: &IpView<'_>, interfaces: &Interfaces) -> Result<Parsed, DropReason> {
    let destination = ip.destination();
    if interfaces.is_local(destination) {
        Ok(Parsed::Punt(PuntReason::Local))
    } else if destination.is_multicast() || interfaces.is_broadcast(destination) {
        Ok(Parsed::Punt(PuntReason::Group))
    } else {
        Err(DropReason::NotOurAddress)
    }
}
