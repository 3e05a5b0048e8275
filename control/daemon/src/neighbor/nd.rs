//! Neighbour discovery frames (RFC 4861, RFC 4862 section 5.4): what one asks of us and tells us,
//! and the ones we send.
//!
//! Not here: router advertisements (routes come from the configuration) and MLD reports; a switch
//! that filters multicast by MLD snooping must be told our solicited-node groups by hand.

use millrace_base::{Address, MacAddress};
use millrace_wire::icmpv6::{Icmpv6Message, Icmpv6View};
use millrace_wire::nd::{
    ALL_NODES, NEIGHBOR_FRAME_BYTES_MAX, NdEnvelope, NeighborAdvertisement, NeighborSolicitation,
};
use millrace_wire::{EtherType, EthernetView, IpView, Malformed, protocol};

use super::{Heard, Link, Punted, Reaction};

/// What an IPv6 frame means to us.
pub(super) fn react(link: &Link, frame: &EthernetView<'_>) -> Result<Reaction, Punted> {
    let payload = frame.payload();
    let ip = match IpView::parse(EtherType::IPV6, payload, payload.len()) {
        Some(Ok(ip)) => ip,
        Some(Err(malformed)) => return Err(Punted::Malformed(malformed)),
        None => return Err(Punted::Other),
    };
    if ip.protocol() != protocol::ICMPV6 || ip.fragment().is_some() {
        return Err(Punted::Other);
    }
    let icmp = Icmpv6View::parse(ip.payload()).map_err(Punted::Malformed)?;
    let message = icmp.message();
    let is_nd = matches!(
        message,
        Ok(Icmpv6Message::NeighborSolicitation(_) | Icmpv6Message::NeighborAdvertisement(_))
            | Err(Malformed::NdInvalid)
    );
    if is_nd && !icmp.checksum_ok(ip.source(), ip.destination()) {
        return Err(Punted::Malformed(Malformed::NdInvalid));
    }
    match message {
        Ok(Icmpv6Message::NeighborSolicitation(it)) => solicited(link, frame, &ip, it),
        Ok(Icmpv6Message::NeighborAdvertisement(it)) => advertised(link, &ip, it),
        Err(malformed) => Err(Punted::Malformed(malformed)),
        Ok(_) => Err(Punted::Other),
    }
}

fn solicited(
    link: &Link,
    frame: &EthernetView<'_>,
    ip: &IpView<'_>,
    question: NeighborSolicitation,
) -> Result<Reaction, Punted> {
    question
        .validate(ip.hop_limit(), ip.source(), ip.destination())
        .map_err(Punted::Malformed)?;
    if link.is_ours(ip.source()) || question.source_mac == Some(link.mac) {
        return Err(Punted::Own);
    }
    if !link.is_ours(question.target) {
        return Ok(Reaction::default());
    }
    // RFC 4862 section 5.4.3: somebody wants to take our address and asks with no address of its
    // own. Everybody is told that it is taken.
    let duplicate_check = ip.source().is_unspecified();
    let mac = question.source_mac.filter(|mac| !mac.is_group());
    let (destination, to) = if duplicate_check {
        (ALL_NODES, MacAddress::for_multicast(ALL_NODES))
    } else {
        (ip.source(), mac.unwrap_or(frame.source()))
    };
    //= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.4
    //# If the source of the solicitation is the unspecified address, the node MUST set the
    //# Solicited flag to zero and multicast the advertisement to the all-nodes address.
    let answer = NeighborAdvertisement {
        target: question.target,
        target_mac: Some(link.mac),
        router: false,
        solicited: !duplicate_check,
        override_cached: true,
    };
    let learns = !duplicate_check && link.is_on_link(ip.source());
    let heard = mac.filter(|_| learns).map(|mac| Heard {
        mac: Some(mac),
        solicited: false,
        replaces: true,
        creates: true,
    });
    Ok(Reaction {
        reply: frame_of(
            link,
            to,
            question.target,
            destination,
            |source, to, room| answer.emit(source, to, room),
        ),
        news: heard.map(|heard| (ip.source(), heard)),
    })
}

fn advertised(
    link: &Link,
    ip: &IpView<'_>,
    news: NeighborAdvertisement,
) -> Result<Reaction, Punted> {
    news.validate(ip.hop_limit(), ip.source(), ip.destination())
        .map_err(Punted::Malformed)?;
    let group = news.target_mac.is_some_and(|mac| mac.is_group());
    if link.is_ours(news.target) || news.target_mac == Some(link.mac) || group {
        return Err(Punted::Own);
    }
    let heard = Heard {
        mac: news.target_mac,
        solicited: news.solicited,
        replaces: news.override_cached,
        creates: false,
    };
    Ok(Reaction {
        reply: None,
        news: Some((news.target, heard)),
    })
}

/// "Who has `target`?", asked of its solicited-node group or, to see whether it still lives, of
/// `to`.
pub(super) fn solicitation(
    link: &Link,
    source: Address,
    target: Address,
    to: Option<MacAddress>,
) -> Option<Vec<u8>> {
    let destination = if to.is_some() {
        target
    } else {
        target.solicited_node()
    };
    let question = NeighborSolicitation {
        target,
        source_mac: Some(link.mac),
    };
    let to = to.unwrap_or(MacAddress::for_multicast(destination));
    frame_of(link, to, source, destination, |source, to, room| {
        question.emit(source, to, room)
    })
}

/// "`address` is here", unasked (RFC 4861 section 7.2.6).
pub(super) fn announcement(link: &Link, address: Address) -> Option<Vec<u8>> {
    let news = NeighborAdvertisement {
        target: address,
        target_mac: Some(link.mac),
        router: false,
        solicited: false,
        override_cached: true,
    };
    let to = MacAddress::for_multicast(ALL_NODES);
    frame_of(link, to, address, ALL_NODES, |source, to, room| {
        news.emit(source, to, room)
    })
}

fn frame_of(
    link: &Link,
    to: MacAddress,
    source: Address,
    destination: Address,
    emit: impl FnOnce(Address, Address, &mut [u8]) -> Option<usize>,
) -> Option<Vec<u8>> {
    let envelope = NdEnvelope {
        to,
        from: link.mac,
        source,
        destination,
    };
    let mut frame = vec![0; NEIGHBOR_FRAME_BYTES_MAX];
    let length = envelope.emit(&mut frame, emit)?;
    frame.truncate(length);
    Some(frame)
}
