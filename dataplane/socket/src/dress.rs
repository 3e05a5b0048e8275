//! What packets of a socket look like beside their bytes: TOS, TTL, DF and the MSS option outgoing,
//! and what incoming ones must look like: the MSS option, the smallest TTL.
//!
//! The stack has one look for all connections; a socket's own is put on as its packets leave. A
//! connection whose socket is closed goes on without.

use millrace_base::{Endpoint, SeqNumber};

use crate::file::SocketId;
use crate::header::{ACK, Header, RST, SYN, WINDOW_AT, rewrite_ipv4};
use crate::linux::{IP_PMTUDISC_DO, IP_PMTUDISC_WANT};
use crate::options::Options;
use crate::sockets::Sockets;

/// The ECN bits of TOS and traffic class: not a socket's business.
const ECN_MASK: u8 = 3;
/// The "don't fragment" bit in its byte of the IPv4 header.
const DONT_FRAGMENT: u8 = 0x40;

impl Sockets {
    /// Gives the packet at a place of the queue the looks of its socket.
    pub(crate) fn dress(&mut self, index: usize) {
        let Some((_, packet)) = self.left.get(index) else {
            return;
        };
        let Some(header) = Header::of(packet) else {
            return;
        };
        let owner = self.owner_of(header.source, header.destination);
        let Some(options) = owner
            .and_then(|id| self.sockets.get(&id))
            .map(|s| &s.options)
        else {
            return;
        };
        let Some((_, packet)) = self.left.get_mut(index) else {
            return;
        };
        if header.flags & SYN != 0 {
            if options.user_mss != 0 {
                header.clamp_mss(packet, options.user_mss);
            }
            // A SYN promises nothing yet.
            let window = options.window_limit(0).min(header.window.into()) as u16;
            header.rewrite(packet, WINDOW_AT, &window.to_be_bytes());
        }
        if header.source.address.is_v4() {
            dress_v4(packet, options);
        } else {
            dress_v6(packet, options);
        }
    }

    /// Offers no larger window than the socket wants, and never takes back what was offered
    /// (behaviour: OPT-20).
    pub(crate) fn clamp_window(&mut self, index: usize, id: SocketId) {
        let Some(info) = self.info(id) else { return };
        let unread = self.unread(id) as u32;
        let Some((_, packet)) = self.left.get_mut(index) else {
            return;
        };
        let (Some(header), Some(socket)) = (Header::of(packet), self.sockets.get_mut(&id)) else {
            return;
        };
        if header.flags & ACK == 0 || header.flags & (SYN | RST) != 0 {
            return;
        }
        let scale = u32::from(info.rcv_scale);
        let ack = SeqNumber::new(header.ack);
        let kept = socket.window_edge.filter(|edge| edge.after(ack));
        let promised = kept.map_or(0, |edge| edge.bytes_since(ack));
        let limit = socket.options.window_limit(unread) >> scale;
        let most = limit.max(promised.div_ceil(1 << scale));
        let field = u32::from(header.window).min(most) as u16;
        let edge = ack.plus(u32::from(field) << scale);
        socket.window_edge = Some(kept.map_or(edge, |kept| SeqNumber::latest(kept, edge)));
        if field != header.window {
            header.rewrite(packet, WINDOW_AT, &field.to_be_bytes());
        }
    }

    /// Whether a packet may come in; clamps the MSS that it offers.
    pub(crate) fn admit(&self, packet: &mut [u8]) -> bool {
        let Some(header) = Header::of(packet) else {
            return true;
        };
        let owner = self.owner_of(header.destination, header.source);
        let Some(options) = owner
            .and_then(|id| self.sockets.get(&id))
            .map(|s| &s.options)
        else {
            return true;
        };
        if header.flags & SYN != 0 && options.user_mss != 0 {
            header.clamp_mss(packet, options.user_mss);
        }
        let v4 = header.source.address.is_v4();
        let (at, least) = if v4 {
            (8, options.min_ttl)
        } else {
            (7, options.min_hops)
        };
        packet.get(at).is_some_and(|hops| *hops >= least)
    }

    /// The socket of a connection, else the one that listens there.
    pub(crate) fn owner_of(&self, local: Endpoint, remote: Endpoint) -> Option<SocketId> {
        if let Some(id) = self.connected(local, remote) {
            return Some(id);
        }
        let mut sockets = self.sockets.iter();
        let listening = sockets.find(|(_, socket)| {
            let bound = socket.local.address;
            let any = bound.is_unspecified()
                && (bound.is_v4() == local.address.is_v4() || socket.is_dual());
            socket.listening.is_some()
                && socket.local.port == local.port
                && (any || bound == local.address)
        });
        listening.map(|(id, _)| *id)
    }
}

fn dress_v4(packet: &mut [u8], options: &Options) {
    let fragments = !matches!(options.mtu_discover, IP_PMTUDISC_WANT | IP_PMTUDISC_DO);
    if options.tos == 0 && options.ttl.is_none() && !fragments {
        return;
    }
    rewrite_ipv4(packet, |header| {
        if let [_, tos, _, _, _, _, flags, _, ttl, ..] = header {
            *tos = *tos & ECN_MASK | options.tos & !ECN_MASK;
            *ttl = options.ttl.unwrap_or(*ttl);
            if fragments {
                *flags &= !DONT_FRAGMENT;
            }
        }
    });
}

fn dress_v6(packet: &mut [u8], options: &Options) {
    if let [first, second, _, _, _, _, _, hops, ..] = packet {
        let class = *first << 4 | *second >> 4;
        let class = class & ECN_MASK | options.traffic_class & !ECN_MASK;
        *first = *first & 0xf0 | class >> 4;
        *second = *second & 0x0f | class << 4;
        *hops = options.hops.unwrap_or(*hops);
    }
}
