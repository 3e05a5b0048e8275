//! One line about one frame, in the words of tcpdump.
//!
//! For traces, simulator output and test failures; nothing on the packet path may format. It shows
//! what a frame says and does not judge it: checksums are not verified, since a frame on its way
//! to a device has not got them yet. TCP options are listed in our own order, without padding.

use core::fmt;

use millrace_base::Address;

use crate::arp::{ArpOperation, ArpRepr};
use crate::icmpv4::{Icmpv4Message, Icmpv4View};
use crate::icmpv6::{Icmpv6Message, Icmpv6View};
use crate::udp::UdpView;
use crate::{
    EtherType, EthernetView, IpView, Malformed, TcpFlags, TcpOptions, TcpView, protocol, u16_at,
};

/// Displays a whole Ethernet frame on one line. Any bytes can be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pretty<'a>(pub &'a [u8]);

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = match EthernetView::parse(self.0) {
            Ok(frame) => frame,
            Err(reason) => return malformed(f, reason),
        };
        if let Some(vlan) = frame.vlan() {
            write!(f, "vlan {vlan}, ")?;
        }
        let payload = frame.payload();
        if frame.ether_type() == EtherType::ARP {
            return arp(f, payload);
        }
        match IpView::parse(frame.ether_type(), payload, payload.len()) {
            Some(Ok(packet)) => ip(f, &packet),
            Some(Err(reason)) => malformed(f, reason),
            None => {
                let (source, destination) = (frame.source(), frame.destination());
                write!(f, "{source} > {destination}, ")?;
                write!(f, "ethertype {:#06x}, ", frame.ether_type().0)?;
                write!(f, "length {}", payload.len())
            }
        }
    }
}

fn malformed(f: &mut fmt::Formatter<'_>, reason: Malformed) -> fmt::Result {
    write!(f, "[malformed: {}]", reason.name())
}

fn arp(f: &mut fmt::Formatter<'_>, payload: &[u8]) -> fmt::Result {
    match ArpRepr::parse(payload) {
        Ok(arp) if arp.operation == ArpOperation::Request => write!(
            f,
            "ARP, Request who-has {} tell {}",
            arp.target_ip, arp.sender_ip
        ),
        Ok(arp) => write!(f, "ARP, Reply {} is-at {}", arp.sender_ip, arp.sender_mac),
        Err(reason) => malformed(f, reason),
    }
}

fn ip(f: &mut fmt::Formatter<'_>, packet: &IpView<'_>) -> fmt::Result {
    f.write_str(if packet.is_v4() { "IP " } else { "IP6 " })?;
    let (source, destination) = (packet.source(), packet.destination());
    let payload = packet.payload();
    if let Some(fragment) = packet.fragment() {
        let more = if fragment.more { "+" } else { "" };
        write!(
            f,
            "{source} > {destination}: frag id {}, ",
            fragment.identification
        )?;
        let length = packet.payload_len();
        return write!(f, "offset {}{more}, length {length}", fragment.offset);
    }
    match packet.protocol() {
        protocol::TCP => tcp(f, packet),
        protocol::UDP => match UdpView::parse(payload) {
            Ok(udp) => {
                ports(f, packet, udp.source_port(), udp.destination_port())?;
                write!(f, "UDP, length {}", udp.payload().len())
            }
            Err(reason) => malformed(f, reason),
        },
        protocol::ICMPV4 if packet.is_v4() => {
            write!(f, "{source} > {destination}: ")?;
            icmpv4(f, payload)
        }
        protocol::ICMPV6 if !packet.is_v4() => {
            write!(f, "{source} > {destination}: ")?;
            icmpv6(f, payload)
        }
        other => {
            write!(f, "{source} > {destination}: proto {other}, ")?;
            write!(f, "length {}", packet.payload_len())
        }
    }
}

/// `source.port > destination.port: `, the way tcpdump writes either family.
fn ports(
    f: &mut fmt::Formatter<'_>,
    packet: &IpView<'_>,
    source_port: u16,
    destination_port: u16,
) -> fmt::Result {
    let (source, destination) = (packet.source(), packet.destination());
    write!(
        f,
        "{source}.{source_port} > {destination}.{destination_port}: "
    )
}

fn tcp(f: &mut fmt::Formatter<'_>, packet: &IpView<'_>) -> fmt::Result {
    let segment = match TcpView::parse(packet.payload()) {
        Ok(segment) => segment,
        Err(reason) => return malformed(f, reason),
    };
    ports(f, packet, segment.source_port(), segment.destination_port())?;
    let flags = segment.flags();
    write!(f, "Flags [{flags:?}]")?;
    let length = packet.payload_len().saturating_sub(segment.header_len());
    if length > 0 {
        let last = segment
            .seq()
            .plus(u32::try_from(length).unwrap_or(u32::MAX));
        write!(f, ", seq {}:{last}", segment.seq())?;
    } else if flags.intersects(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) {
        write!(f, ", seq {}", segment.seq())?;
    }
    if flags.ack() {
        write!(f, ", ack {}", segment.ack())?;
    }
    write!(f, ", win {}", segment.window())?;
    if flags.contains(TcpFlags::URG) {
        write!(f, ", urg {}", segment.urgent())?;
    }
    tcp_options(f, &segment.options())?;
    write!(f, ", length {length}")
}

fn tcp_options(f: &mut fmt::Formatter<'_>, options: &TcpOptions) -> fmt::Result {
    let mut separator = ", options [";
    let mut next =
        |f: &mut fmt::Formatter<'_>| f.write_str(core::mem::replace(&mut separator, ","));
    if let Some(mss) = options.mss {
        next(f)?;
        write!(f, "mss {mss}")?;
    }
    if options.sack_permitted {
        next(f)?;
        f.write_str("sackOK")?;
    }
    if let Some(timestamps) = options.timestamps {
        next(f)?;
        write!(f, "TS val {} ecr {}", timestamps.value, timestamps.echo)?;
    }
    if let Some(scale) = options.window_scale {
        next(f)?;
        write!(f, "wscale {scale}")?;
    }
    if !options.sack.is_empty() {
        next(f)?;
        write!(f, "sack {} ", options.sack.len())?;
        for (start, end) in options.sack.as_slice() {
            write!(f, "{{{start}:{end}}}")?;
        }
    }
    if let Some(cookie) = &options.fastopen {
        next(f)?;
        match cookie.as_slice() {
            [] => f.write_str("tfo cookiereq")?,
            bytes => {
                f.write_str("tfo cookie ")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            }
        }
    }
    if let Some(accecn) = &options.accecn {
        next(f)?;
        write!(f, "accecn {}", u8::from(accecn.is_order_1()))?;
        for counter in (0..accecn.len()).filter_map(|place| accecn.counter(place)) {
            write!(f, " {counter}")?;
        }
    }
    if options.md5 {
        next(f)?;
        f.write_str("md5")?;
    }
    if separator == "," {
        f.write_str("]")
    } else {
        Ok(())
    }
}

fn icmpv4(f: &mut fmt::Formatter<'_>, payload: &[u8]) -> fmt::Result {
    let view = match Icmpv4View::parse(payload) {
        Ok(view) => view,
        Err(reason) => return malformed(f, reason),
    };
    match view.message() {
        Icmpv4Message::EchoRequest {
            ident, sequence, ..
        } => {
            write!(f, "ICMP echo request, id {ident}, seq {sequence}")?;
        }
        Icmpv4Message::EchoReply {
            ident, sequence, ..
        } => {
            write!(f, "ICMP echo reply, id {ident}, seq {sequence}")?;
        }
        Icmpv4Message::DestinationUnreachable { code, mtu, quoted } => {
            write!(f, "ICMP unreachable, code {code}, mtu {mtu}")?;
            about(f, EtherType::IPV4, quoted)?;
        }
        Icmpv4Message::Redirect {
            code,
            gateway,
            quoted,
        } => {
            write!(f, "ICMP redirect, code {code}, to {gateway}")?;
            about(f, EtherType::IPV4, quoted)?;
        }
        Icmpv4Message::TimeExceeded { code, quoted } => {
            write!(f, "ICMP time exceeded, code {code}")?;
            about(f, EtherType::IPV4, quoted)?;
        }
        Icmpv4Message::ParameterProblem {
            code,
            pointer,
            quoted,
        } => {
            write!(f, "ICMP parameter problem, code {code}, octet {pointer}")?;
            about(f, EtherType::IPV4, quoted)?;
        }
        Icmpv4Message::Other { kind, code, .. } => write!(f, "ICMP type {kind}, code {code}")?,
    }
    write!(f, ", length {}", payload.len())
}

fn icmpv6(f: &mut fmt::Formatter<'_>, payload: &[u8]) -> fmt::Result {
    let message = match Icmpv6View::parse(payload).and_then(|view| view.message()) {
        Ok(message) => message,
        Err(reason) => return malformed(f, reason),
    };
    match message {
        Icmpv6Message::EchoRequest {
            ident, sequence, ..
        } => {
            write!(f, "ICMP6, echo request, id {ident}, seq {sequence}")?;
        }
        Icmpv6Message::EchoReply {
            ident, sequence, ..
        } => {
            write!(f, "ICMP6, echo reply, id {ident}, seq {sequence}")?;
        }
        Icmpv6Message::DestinationUnreachable { code, quoted } => {
            write!(f, "ICMP6, unreachable, code {code}")?;
            about(f, EtherType::IPV6, quoted)?;
        }
        Icmpv6Message::PacketTooBig { mtu, quoted } => {
            write!(f, "ICMP6, packet too big, mtu {mtu}")?;
            about(f, EtherType::IPV6, quoted)?;
        }
        Icmpv6Message::TimeExceeded { code, quoted } => {
            write!(f, "ICMP6, time exceeded, code {code}")?;
            about(f, EtherType::IPV6, quoted)?;
        }
        Icmpv6Message::ParameterProblem {
            code,
            pointer,
            quoted,
        } => {
            write!(f, "ICMP6, parameter problem, code {code}, octet {pointer}")?;
            about(f, EtherType::IPV6, quoted)?;
        }
        Icmpv6Message::RouterSolicitation(_) => f.write_str("ICMP6, router solicitation")?,
        Icmpv6Message::RouterAdvertisement(router) => {
            let lifetime = router.router_lifetime_s;
            write!(f, "ICMP6, router advertisement, lifetime {lifetime}s")?;
        }
        Icmpv6Message::NeighborSolicitation(nd) => neighbor(f, "solicitation, who has", nd.target)?,
        Icmpv6Message::NeighborAdvertisement(nd) => {
            neighbor(f, "advertisement, tgt is", nd.target)?;
            if let Some(mac) = nd.target_mac {
                write!(f, " at {mac}")?;
            }
        }
        Icmpv6Message::Other { kind, code, .. } => write!(f, "ICMP6, type {kind}, code {code}")?,
    }
    write!(f, ", length {}", payload.len())
}

fn neighbor(f: &mut fmt::Formatter<'_>, what: &str, target: Address) -> fmt::Result {
    write!(f, "ICMP6, neighbor {what} {target}")
}

/// The packet that an ICMP error quotes, with its ports when it has any.
fn about(f: &mut fmt::Formatter<'_>, family: EtherType, quoted: &[u8]) -> fmt::Result {
    // The quote is cut short, so its length fields reach beyond it.
    let Some(Ok(packet)) = IpView::parse(family, quoted, usize::MAX) else {
        return Ok(());
    };
    let (source, destination) = (packet.source(), packet.destination());
    let payload = packet.payload();
    let has_ports = matches!(packet.protocol(), protocol::TCP | protocol::UDP);
    if has_ports && payload.len() >= 4 {
        let (from, to) = (u16_at(payload, 0), u16_at(payload, 2));
        write!(f, ", about {source}.{from} > {destination}.{to}")
    } else {
        write!(f, ", about {source} > {destination}")
    }
}
