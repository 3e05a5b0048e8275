//! The parsers of `wire`: no bytes break them, lengths never reach beyond what is there, and what
//! is written and read again is the same.

use millrace_base::Address;
use millrace_wire::arp::ArpRepr;
use millrace_wire::icmpv4::{Icmpv4Message, Icmpv4View, echo_reply_in_place_v4, quotable_v4};
use millrace_wire::icmpv6::{
    EchoAddresses, Icmpv6Message, Icmpv6View, echo_reply_in_place_v6, quotable_v6,
};
use millrace_wire::nd::{
    NdOptions, NeighborAdvertisement, NeighborSolicitation, RouterAdvertisement, RouterSolicitation,
};
use millrace_wire::pretty::Pretty;
use millrace_wire::udp::UdpView;
use millrace_wire::{
    EtherType, EthernetView, IpView, TcpFlags, TcpOptions, TcpRepr, TcpView, protocol,
};

/// More than any message here is when written.
const ROOM: usize = 4_096;

fn here(v6: bool) -> Address {
    match v6 {
        false => Address::v4([192, 0, 2, 1]),
        true => Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    }
}

/// A frame, layer by layer as the stack goes.
pub(crate) fn frame(data: &[u8]) {
    let _ = Pretty(data).to_string();
    let Ok(ethernet) = EthernetView::parse(data) else {
        return;
    };
    let payload = ethernet.payload();
    if ethernet.ether_type() == EtherType::ARP {
        return arp(payload);
    }
    let Some(Ok(ip)) = IpView::parse(ethernet.ether_type(), payload, payload.len()) else {
        return;
    };
    assert!(ip.total_len() <= payload.len(), "no longer than the frame");
    assert_eq!(ip.header_len() + ip.payload_len(), ip.total_len());
    let _ = (ip.header_checksum_ok(), ip.fragment(), ip.traffic_class());
    match ip.protocol() {
        protocol::TCP => segment(ip.payload()),
        protocol::UDP => {
            let _ = UdpView::parse(ip.payload())
                .map(|udp| udp.checksum_ok(ip.source(), ip.destination()));
        }
        protocol::ICMPV4 => icmpv4(ip.payload()),
        protocol::ICMPV6 => icmpv6(ip.payload()),
        _ => {}
    }
}

fn segment(bytes: &[u8]) {
    let Ok(view) = TcpView::parse(bytes) else {
        return;
    };
    assert_eq!(view.header_len() + view.payload().len(), bytes.len());
    let header = TcpRepr::parse(&view);
    let mut written = vec![0; header.header_len()];
    if header.emit(&mut written).is_some() {
        let again = TcpRepr::parse(&TcpView::parse(&written).expect("what was written"));
        assert_eq!(again, header);
    }
}

/// Option bytes of a SYN (first bit) or of another segment.
pub(crate) fn options(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else {
        return;
    };
    let syn = first & 1 != 0;
    let parsed = TcpOptions::parse(&bytes[..bytes.len().min(40)], syn);
    let layout = parsed.layout(syn);
    let len = layout.encoded_len();
    let mut written = vec![0; len];
    if len <= 40 && layout.emit(&mut written).is_some() {
        let again = TcpOptions::parse(&written, syn);
        assert_eq!(again, parsed, "{written:02x?}");
    }
    let _ = TcpFlags::from_bits(u16::from(*first));
}

/// A message of one of the small protocols.
pub(crate) fn icmp(data: &[u8]) {
    let Some((which, message)) = data.split_first() else {
        return;
    };
    match which % 5 {
        0 => icmpv4(message),
        1 => icmpv6(message),
        2 => neighbor(message),
        3 => arp(message),
        _ => {
            let _ = UdpView::parse(message).map(|udp| udp.checksum_ok(here(true), here(true)));
        }
    }
}

fn arp(bytes: &[u8]) {
    let Ok(arp) = ArpRepr::parse(bytes) else {
        return;
    };
    let mut written = [0; ROOM];
    let len = arp.emit(&mut written).expect("fits");
    assert_eq!(ArpRepr::parse(&written[..len]), Ok(arp));
}

fn icmpv4(bytes: &[u8]) {
    let _ = quotable_v4(bytes);
    let mut copy = bytes.to_vec();
    let _ = echo_reply_in_place_v4(&mut copy);
    let _ = Icmpv4View::parse(bytes).map(|view| view.checksum_ok());
    if let Ok(message) = Icmpv4Message::parse(bytes) {
        let mut written = vec![0; message.len_bytes()];
        if message.emit(&mut written).is_some() {
            assert_eq!(Icmpv4Message::parse(&written), Ok(message));
        }
    }
}

fn icmpv6(bytes: &[u8]) {
    let (source, destination) = (here(true), here(true));
    let _ = quotable_v6(bytes);
    let mut copy = bytes.to_vec();
    let addresses = EchoAddresses {
        asked: source,
        answering: destination,
    };
    let _ = echo_reply_in_place_v6(&mut copy, addresses);
    let _ = Icmpv6View::parse(bytes).map(|view| view.checksum_ok(source, destination));
    if let Ok(message) = Icmpv6Message::parse(bytes, source, destination) {
        let mut written = vec![0; ROOM + bytes.len()];
        if let Some(len) = message.emit(source, destination, &mut written) {
            let again = Icmpv6Message::parse(&written[..len], source, destination);
            assert_eq!(again, Ok(message));
        }
    }
}

fn neighbor(bytes: &[u8]) {
    let (source, destination) = (here(true), here(true));
    let mut written = [0; ROOM];
    if let Ok(message) = NeighborSolicitation::parse(bytes) {
        let len = message
            .emit(source, destination, &mut written)
            .expect("fits");
        assert_eq!(NeighborSolicitation::parse(&written[..len]), Ok(message));
    }
    if let Ok(message) = NeighborAdvertisement::parse(bytes) {
        let len = message
            .emit(source, destination, &mut written)
            .expect("fits");
        assert_eq!(NeighborAdvertisement::parse(&written[..len]), Ok(message));
    }
    if let Ok(message) = RouterSolicitation::parse(bytes) {
        let _ = message.validate(255, source);
    }
    if let Ok(message) = RouterAdvertisement::parse(bytes) {
        let _ = (message.validate(255, source), message.source_mac());
    }
    if let Ok(options) = NdOptions::parse(bytes) {
        // An option is eight bytes at least.
        assert!(options.iter().count() <= bytes.len() / 8);
    }
}
