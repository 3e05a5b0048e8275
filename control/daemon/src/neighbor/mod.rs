//! Neighbours: who is on our links, and who we are on them.
//!
//! `table` decides (the state machine), `arp` and `nd` read and write frames. This file knows the
//! links: which addresses are ours on which port, so that a received frame becomes answers and news
//! for the table.
//!
//! Limitations. After control was killed and started again, a neighbour that lcores know is known here
//! only when it speaks, when TCP makes progress through it, or when the configuration names it; until
//! then nobody probes it. Router advertisements and redirects are not read.

mod arp;
mod nd;
mod table;

use millrace_base::{Address, Instant, MacAddress, PortId, Prefix};
use millrace_wire::{EtherType, EthernetView, Malformed};

pub(crate) use table::{Action, Heard, Key, Table, Timings};

/// One port as its link sees it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The port's number in the dataplane.
    pub(crate) port: PortId,
    /// The port's name.
    pub(crate) name: String,
    /// Our Ethernet address there.
    pub(crate) mac: MacAddress,
    /// Our interface addresses and their networks.
    pub(crate) networks: Vec<(Address, Prefix)>,
    /// Networks that are directly attached without an address of ours: routes without a router.
    pub(crate) attached: Vec<Prefix>,
    /// Every address we answer for there: interface, virtual and source addresses.
    pub(crate) answers: Vec<Address>,
}

/// All links, in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links(pub(crate) Vec<Link>);

/// What a punted frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Punted {
    /// ARP, handled.
    Arp,
    /// Neighbour discovery, handled.
    Nd,
    /// Not ours to handle: another protocol, or a port that is not configured.
    Other,
    /// Broken.
    Malformed(Malformed),
    /// Somebody else uses one of our addresses, or our own frame came back.
    Own,
}

/// A frame to be sent by a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// The port it leaves by.
    pub(crate) port: PortId,
    /// The whole frame.
    pub(crate) frame: Vec<u8>,
}

/// What a frame says: perhaps an answer that we owe, perhaps news about a neighbour.
#[derive(Debug, Default)]
struct Reaction {
    reply: Option<Vec<u8>>,
    news: Option<(Address, Heard)>,
}

impl Links {
    /// Handles a frame that an lcore punted: tells the table, queues the answer.
    pub(crate) fn receive(
        &self,
        now: Instant,
        port: PortId,
        frame: &[u8],
        table: &mut Table,
        out: &mut Vec<Outgoing>,
    ) -> Punted {
        let Some(link) = self.link(port) else {
            return Punted::Other;
        };
        let ethernet = match EthernetView::parse(frame) {
            Ok(ethernet) => ethernet,
            Err(malformed) => return Punted::Malformed(malformed),
        };
        if ethernet.source() == link.mac {
            return Punted::Own;
        }
        let (kind, reaction) = match ethernet.ether_type() {
            EtherType::ARP => (Punted::Arp, arp::react(link, &ethernet)),
            EtherType::IPV6 => (Punted::Nd, nd::react(link, &ethernet)),
            _ => return Punted::Other,
        };
        let reaction = match reaction {
            Ok(reaction) => reaction,
            Err(refused) => return refused,
        };
        if let Some((address, heard)) = reaction.news {
            table.hear(now, (port, address), heard);
        }
        if let Some(frame) = reaction.reply {
            out.push(Outgoing { port, frame });
        }
        kind
    }

    /// The request for a neighbour's Ethernet address: to `to` only, or to everybody. `None` when
    /// the port has no address of that family to ask from.
    pub(crate) fn solicitation(&self, key: Key, to: Option<MacAddress>) -> Option<Outgoing> {
        let (port, target) = key;
        let link = self.link(port)?;
        let source = link.source_towards(target)?;
        let frame = if target.is_v4() {
            arp::request(link, source, target, to)
        } else {
            nd::solicitation(link, source, target, to)
        }?;
        Some(Outgoing { port, frame })
    }

    /// Tells everybody that these addresses are here: gratuitous ARP (RFC 5227 section 2.3) and
    /// unsolicited neighbour advertisements (RFC 4861 section 7.2.6).
    pub(crate) fn announcements(&self, addresses: &[Address]) -> Vec<Outgoing> {
        let mut out = Vec::new();
        for link in &self.0 {
            for address in link.answers.iter().filter(|own| addresses.contains(own)) {
                let frame = if address.is_v4() {
                    arp::announcement(link, *address)
                } else {
                    nd::announcement(link, *address)
                };
                out.extend(frame.map(|frame| Outgoing {
                    port: link.port,
                    frame,
                }));
            }
        }
        out
    }

    /// Whether this neighbour is in a network of its port, or link-local there.
    pub(crate) fn is_on_link(&self, key: Key) -> bool {
        let (port, address) = key;
        self.link(port).is_some_and(|link| link.is_on_link(address))
    }

    /// The link of this port.
    pub(crate) fn link(&self, port: PortId) -> Option<&Link> {
        self.0.iter().find(|link| link.port == port)
    }
}

impl Link {
    fn is_on_link(&self, address: Address) -> bool {
        let mut networks = self
            .networks
            .iter()
            .map(|(_, net)| net)
            .chain(&self.attached);
        address.is_link_local_v6() || networks.any(|net| net.contains(address))
    }

    /// The address to ask from: in the target's network if there is one, else the first of its
    /// family.
    fn source_towards(&self, target: Address) -> Option<Address> {
        let family = |own: &&(Address, Prefix)| own.0.is_v4() == target.is_v4();
        let same_network = self.networks.iter().find(|(_, net)| net.contains(target));
        let source = same_network.or_else(|| self.networks.iter().find(family));
        source.map(|(address, _)| *address)
    }

    fn is_ours(&self, address: Address) -> bool {
        self.answers.contains(&address)
    }
}

#[cfg(test)]
mod tests;
