//! `icmpecho`: answers ARP requests with the sending port's address, whatever address they ask for,
//! and ICMP echo requests (pings) with echo replies, on the port that the topology pairs with the
//! receiving one. Everything else is freed: other packets, fragments, and pings to a multicast or
//! broadcast address, which RFC 1122 section 3.2.2.6 allows to ignore. The bytes of a ping come
//! back as they were, TTL included, and its checksum is mended by the one word that changed, so a
//! damaged ping stays damaged.

use millrace_base::{MacAddress, PacketBuf};
use millrace_dpdk::Burst;
use millrace_wire::arp::{ArpOperation, ArpRepr};
use millrace_wire::icmpv4::echo_reply_in_place_v4;
use millrace_wire::{EtherType, protocol};

use crate::engine::Engine;
use crate::engine::headers::{Headers, ether_type, macs, set_macs, swap_addresses, swap_macs};
use crate::settings::Settings;
use crate::stream::Stream;

/// See the module.
#[derive(Debug)]
pub struct IcmpEcho {
    mac: MacAddress,
    answers: Burst,
}

impl Engine for IcmpEcho {
    fn begin(stream: &Stream, _: &Settings) -> Self {
        Self {
            mac: stream.place().tx_mac,
            answers: Burst::new(),
        }
    }

    #[inline]
    fn burst(&mut self, stream: &mut Stream) -> bool {
        let received = stream.receive();
        if received == 0 {
            return false;
        }
        for mut frame in stream.frames_mut().drain() {
            if answer(&mut frame, self.mac).is_some() {
                // A burst holds all that another held.
                drop(self.answers.try_push(frame));
            }
        }
        let unanswered = received.saturating_sub(self.answers.len());
        stream.counters().absorbed.add_frames(unanswered);
        stream.transmit_these(&mut self.answers);
        true
    }
}

/// Turns a request into its answer; `None` when there is none to give, the frame may be changed
/// then.
fn answer<B: PacketBuf>(frame: &mut B, mac: MacAddress) -> Option<()> {
    match ether_type(frame.bytes())? {
        (EtherType::ARP, payload) => answer_arp(frame.bytes_mut()?, payload, mac),
        (EtherType::IPV4, _) => answer_echo(frame),
        _ => None,
    }
}

fn answer_arp(bytes: &mut [u8], payload: usize, mac: MacAddress) -> Option<()> {
    let packet = bytes.get_mut(payload..)?;
    let request = ArpRepr::parse(packet).ok()?;
    if request.operation != ArpOperation::Request {
        return None;
    }
    request.answered_by(mac).emit(packet)?;
    set_macs(bytes, &macs(request.sender_mac, mac));
    Some(())
}

fn answer_echo<B: PacketBuf>(frame: &mut B) -> Option<()> {
    let headers = Headers::find(frame.bytes(), frame.frame_len())?;
    let is_ping = headers.protocol == protocol::ICMPV4 && !headers.is_fragment;
    if !is_ping || headers.destination.is_multicast() || headers.destination.is_broadcast() {
        return None;
    }
    let bytes = frame.bytes_mut()?;
    echo_reply_in_place_v4(bytes.get_mut(headers.transport..)?)?;
    swap_addresses(bytes, headers.network, true);
    swap_macs(bytes);
    Some(())
}
