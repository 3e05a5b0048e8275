//! ARP and neighbour discovery as a test end needs them: it answers for its addresses, asks for the
//! gateway or the peer, and believes what it is told.
//!
//! No state machine (RFC 4861 section 7.3): what was learnt stays until somebody tells otherwise,
//! which is what a measurement wants. Frames are built in place; nothing here takes memory.

use arrayvec::ArrayVec;
use millrace_base::{Address, MacAddress};
use millrace_wire::arp::{ARP_BYTES, ArpOperation, ArpRepr};
use millrace_wire::icmpv6::{Icmpv6Message, Icmpv6View};
use millrace_wire::nd::{
    ALL_NODES, NEIGHBOR_FRAME_BYTES_MAX, NdEnvelope, NeighborAdvertisement, NeighborSolicitation,
};
use millrace_wire::{EtherType, EthernetView, IpView, ethernet, protocol};

/// Room for the longest frame made here.
const FRAME_BYTES_MAX: usize = NEIGHBOR_FRAME_BYTES_MAX;
/// The shortest Ethernet frame without its check sequence (IEEE 802.3 section 4A.4.2).
const FRAME_BYTES_MIN: usize = 60;
const _: () = assert!(ethernet::HEADER_BYTES + ARP_BYTES <= FRAME_BYTES_MIN);
const _: () = assert!(FRAME_BYTES_MIN <= FRAME_BYTES_MAX);

/// A frame made here.
pub type Frame = ArrayVec<u8, FRAME_BYTES_MAX>;

/// Our end of the link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Our Ethernet address.
    pub mac: MacAddress,
    /// Every address of ours, sorted.
    addresses: Vec<Address>,
    /// Who is behind every next hop, when that is not to be asked.
    pub peer_mac: Option<MacAddress>,
}

/// What a frame means to us.
#[derive(Clone, Debug, Default)]
pub struct Reaction {
    /// The answer.
    pub reply: Option<Frame>,
    /// Who is where.
    pub learnt: Option<(Address, MacAddress)>,
}

impl Link {
    /// An end with these addresses. With `peer_mac` nobody is asked.
    pub fn new(
        mac: MacAddress,
        addresses: impl IntoIterator<Item = Address>,
        peer_mac: Option<MacAddress>,
    ) -> Self {
        let mut addresses: Vec<Address> = addresses.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self {
            mac,
            addresses,
            peer_mac,
        }
    }

    /// What a received frame means. Anything but ARP and neighbour discovery means nothing.
    pub fn react(&self, frame: &[u8]) -> Reaction {
        let reaction = EthernetView::parse(frame).ok().and_then(|frame| {
            if frame.ether_type() == EtherType::ARP {
                self.on_arp(&frame)
            } else {
                self.on_ipv6(&frame)
            }
        });
        reaction.unwrap_or_default()
    }

    /// "Who has `target`?", asked by the first of our addresses of its family.
    pub fn question(&self, target: Address) -> Option<Frame> {
        let same_family = |address: &&Address| address.is_v4() == target.is_v4();
        let source = *self.addresses.iter().find(same_family)?;
        if target.is_v4() {
            let arp = ArpRepr {
                operation: ArpOperation::Request,
                sender_mac: self.mac,
                sender_ip: source,
                target_mac: MacAddress::ZERO,
                target_ip: target,
            };
            return self.arp_frame(MacAddress::BROADCAST, &arp);
        }
        let group = target.solicited_node();
        let question = NeighborSolicitation {
            target,
            source_mac: Some(self.mac),
        };
        let to = MacAddress::for_multicast(group);
        self.nd_frame(to, source, group, |source, group, room| {
            question.emit(source, group, room)
        })
    }

    fn on_arp(&self, frame: &EthernetView<'_>) -> Option<Reaction> {
        let arp = ArpRepr::parse(frame.payload()).ok()?;
        if arp.sender_mac == self.mac || arp.sender_mac.is_group() || self.is_ours(arp.sender_ip) {
            return None;
        }
        let asks_us = arp.operation == ArpOperation::Request && self.is_ours(arp.target_ip);
        // A probe claims nothing (RFC 5227 section 2.1.1).
        let learns = !arp.is_probe() && arp.sender_ip.is_unicast_source();
        Some(Reaction {
            reply: asks_us
                .then(|| self.arp_frame(arp.sender_mac, &arp.answered_by(self.mac)))
                .flatten(),
            learnt: learns.then_some((arp.sender_ip, arp.sender_mac)),
        })
    }

    fn on_ipv6(&self, frame: &EthernetView<'_>) -> Option<Reaction> {
        let payload = frame.payload();
        let ip = IpView::parse(frame.ether_type(), payload, payload.len())?.ok()?;
        if ip.protocol() != protocol::ICMPV6 || ip.fragment().is_some() {
            return None;
        }
        let icmp = Icmpv6View::parse(ip.payload()).ok()?;
        if !icmp.checksum_ok(ip.source(), ip.destination()) {
            return None;
        }
        let message = icmp.message().ok()?;
        if let Icmpv6Message::NeighborSolicitation(it) = message {
            return self.on_question(frame, &ip, it);
        }
        let Icmpv6Message::NeighborAdvertisement(it) = message else {
            return None;
        };
        it.validate(ip.hop_limit(), ip.source(), ip.destination())
            .ok()?;
        let mac = it.target_mac.filter(|mac| !mac.is_group())?;
        Some(Reaction {
            reply: None,
            learnt: (!self.is_ours(it.target)).then_some((it.target, mac)),
        })
    }

    fn on_question(
        &self,
        frame: &EthernetView<'_>,
        ip: &IpView<'_>,
        question: NeighborSolicitation,
    ) -> Option<Reaction> {
        let NeighborSolicitation { target, source_mac } = question;
        question
            .validate(ip.hop_limit(), ip.source(), ip.destination())
            .ok()?;
        if !self.is_ours(target) || self.is_ours(ip.source()) {
            return None;
        }
        // RFC 4861 section 7.2.4: who asks without an address is answered through all nodes.
        let (destination, to) = if ip.source().is_unspecified() {
            (ALL_NODES, MacAddress::for_multicast(ALL_NODES))
        } else {
            (ip.source(), source_mac.unwrap_or(frame.source()))
        };
        let answer = NeighborAdvertisement {
            target,
            target_mac: Some(self.mac),
            router: false,
            solicited: destination != ALL_NODES,
            override_cached: true,
        };
        let learns = source_mac.filter(|_| destination != ALL_NODES);
        Some(Reaction {
            reply: self.nd_frame(to, target, destination, |target, to, room| {
                answer.emit(target, to, room)
            }),
            learnt: learns.map(|mac| (ip.source(), mac)),
        })
    }

    fn is_ours(&self, address: Address) -> bool {
        self.addresses.binary_search(&address).is_ok()
    }

    fn arp_frame(&self, to: MacAddress, arp: &ArpRepr) -> Option<Frame> {
        let mut bytes = [0u8; FRAME_BYTES_MAX];
        let header = ethernet::emit(&mut bytes, to, self.mac, EtherType::ARP)?;
        arp.emit(bytes.get_mut(header..)?)?;
        let mut frame = Frame::from(bytes);
        frame.truncate(FRAME_BYTES_MIN);
        Some(frame)
    }

    fn nd_frame(
        &self,
        to: MacAddress,
        source: Address,
        destination: Address,
        emit: impl FnOnce(Address, Address, &mut [u8]) -> Option<usize>,
    ) -> Option<Frame> {
        let envelope = NdEnvelope {
            to,
            from: self.mac,
            source,
            destination,
        };
        let mut bytes = [0u8; FRAME_BYTES_MAX];
        let length = envelope.emit(&mut bytes, emit)?;
        let mut frame = Frame::from(bytes);
        frame.truncate(length);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
    const THEIRS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);

    fn pair(ours: Address, theirs: Address) -> (Link, Link) {
        (
            Link::new(OURS, [ours], None),
            Link::new(THEIRS, [theirs], None),
        )
    }

    #[test]
    fn two_links_find_each_other_in_both_families() {
        let six = |host| Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        let families = [
            (Address::v4([10, 0, 0, 1]), Address::v4([10, 0, 0, 2])),
            (six(1), six(2)),
        ];
        for (ours, theirs) in families {
            let (near, far) = pair(ours, theirs);
            let question = near.question(theirs).expect("same family");
            let heard = far.react(&question);
            assert_eq!(heard.learnt, Some((ours, OURS)));
            let answer = heard.reply.expect("it is asked");
            let told = near.react(&answer);
            assert_eq!(told.learnt, Some((theirs, THEIRS)));
            assert!(told.reply.is_none());
        }
    }

    #[test]
    fn questions_for_others_and_our_own_frames_mean_nothing() {
        let (near, far) = pair(Address::v4([10, 0, 0, 1]), Address::v4([10, 0, 0, 2]));
        let question = near.question(Address::v4([10, 0, 0, 3])).expect("IPv4");
        assert!(far.react(&question).reply.is_none());
        assert!(near.react(&question).learnt.is_none());
        assert!(near.question(ALL_NODES).is_none());
    }

    #[test]
    fn cut_and_garbled_frames_mean_nothing() {
        let six = |host| Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        let (near, far) = pair(six(1), six(2));
        let question = near.question(six(2)).expect("IPv6");
        for len in 0..question.len() {
            assert!(far.react(&question[..len]).reply.is_none(), "{len}");
        }
        for at in 14..question.len() {
            let mut bytes = question.clone();
            bytes[at] ^= 0x41;
            // It must not panic; a changed field the checksum does not cover may still be answered.
            drop(far.react(&bytes));
        }
    }
}
