//! ARP frames (RFC 826, RFC 5227): what one asks of us and tells us, and the ones we send. The
//! state of neighbours is not kept here.

use millrace_base::{Address, MacAddress};
use millrace_wire::arp::{ARP_BYTES, ArpOperation, ArpRepr};
use millrace_wire::{EtherType, EthernetView, ethernet};

use super::{Heard, Link, Punted, Reaction};

/// The shortest Ethernet frame without its check sequence (IEEE 802.3 section 4A.4.2). Not every
/// virtual device pads.
const FRAME_BYTES_MIN: usize = 60;
const _: () = assert!(ethernet::HEADER_BYTES + ARP_BYTES <= FRAME_BYTES_MIN);

/// What an ARP frame means to us.
pub(super) fn react(link: &Link, frame: &EthernetView<'_>) -> Result<Reaction, Punted> {
    let arp = ArpRepr::parse(frame.payload()).map_err(Punted::Malformed)?;
    // A group address is nobody's (RFC 1812 section 3.3.2): believing it would make us flood.
    if arp.sender_mac == link.mac || link.is_ours(arp.sender_ip) || arp.sender_mac.is_group() {
        return Err(Punted::Own);
    }
    let for_us = arp.operation == ArpOperation::Request && link.is_ours(arp.target_ip);
    let reply = if for_us {
        frame_of(link, arp.sender_mac, &arp.answered_by(link.mac))
    } else {
        None
    };
    // RFC 5227 section 2.1.1: a probe claims nothing, so nothing is learnt from it.
    let learns = !arp.is_probe()
        && arp.sender_mac != MacAddress::ZERO
        && arp.sender_ip.is_unicast_source()
        && link.is_on_link(arp.sender_ip);
    // Linux: a reply counts as an answer to us when it came to our Ethernet address.
    let solicited = arp.operation == ArpOperation::Reply && frame.destination() == link.mac;
    let heard = Heard {
        mac: Some(arp.sender_mac),
        solicited,
        replaces: true,
        creates: for_us,
    };
    Ok(Reaction {
        reply,
        news: learns.then_some((arp.sender_ip, heard)),
    })
}

/// "Who has `target`?", asked of everybody or, to see whether it still lives, of `to`.
pub(super) fn request(
    link: &Link,
    source: Address,
    target: Address,
    to: Option<MacAddress>,
) -> Option<Vec<u8>> {
    let arp = ArpRepr {
        operation: ArpOperation::Request,
        sender_mac: link.mac,
        sender_ip: source,
        target_mac: to.unwrap_or(MacAddress::ZERO),
        target_ip: target,
    };
    frame_of(link, to.unwrap_or(MacAddress::BROADCAST), &arp)
}

/// "`address` is here", unasked.
pub(super) fn announcement(link: &Link, address: Address) -> Option<Vec<u8>> {
    //= https://www.rfc-editor.org/rfc/rfc5227#section-2.3
    //# An ARP Announcement is identical to the ARP Probe described above, except that now the
    //# sender and target IP addresses are both set to the host's newly selected IPv4 address.
    request(link, address, address, None)
}

fn frame_of(link: &Link, destination: MacAddress, arp: &ArpRepr) -> Option<Vec<u8>> {
    let mut frame = vec![0; FRAME_BYTES_MIN];
    let header = ethernet::emit(&mut frame, destination, link.mac, EtherType::ARP)?;
    arp.emit(frame.get_mut(header..)?)?;
    Some(frame)
}
