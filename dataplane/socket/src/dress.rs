//! What packets of a socket look like beside their bytes: TOS, TTL, DF, identification and IP
//! options; and what incoming ones must look like: the smallest TTL.
//!
//! The stack has one look for all connections; a socket's own is put on as its packets leave. A
//! connection whose socket is closed goes on without.

use millrace_base::{Endpoint, FlowTuple};

use crate::file::SocketId;
use crate::header::{ACK, Header, SYN, rewrite_ipv4};
use crate::ip_options::{IpOptions, has_source_route, strip};
use crate::options::Options;
use crate::socket::Socket;
use crate::sockets::Sockets;

/// SYNs whose looks are kept until they are a connection.
const LOOKS_MAX: usize = 4_096;
/// Timestamps of IP count the milliseconds of a day (RFC 791).
const DAY_MS: u64 = 86_400_000;

/// What a SYN looked like, as far as its answers shall look alike.
#[derive(Clone, Debug, Default)]
pub(crate) struct SynLooks {
    /// Its DSCP, with `tcp_reflect_tos`.
    tos: Option<u8>,
    options: IpOptions,
}

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
        let tuple = FlowTuple {
            local: header.source,
            remote: header.destination,
        };
        let reflected = self.syn_looks.get(&tuple).and_then(|looks| looks.tos);
        let is_locked = self.sysctls.route.attributes.is_mtu_locked;
        let Some(socket) = owner.and_then(|id| self.sockets.get_mut(&id)) else {
            return;
        };
        let Some((_, packet)) = self.left.get_mut(index) else {
            return;
        };
        let id = socket.next_ip_id();
        let options = &socket.options;
        let fragments = options.fragments(is_locked);
        // behaviour: A19-3, X2-13
        if header.source.address.is_v4() {
            let class = reflected.unwrap_or(options.tos);
            dress_v4(packet, options, (class, id), fragments);
        } else {
            dress_v6(packet, options, reflected.unwrap_or(options.traffic_class));
        }
    }

    /// Puts the IP options of its socket on a packet that leaves (behaviour: IPO-4).
    pub(crate) fn put_ip_options_on(&self, packet: &mut Vec<u8>) {
        let Some(header) = Header::of(packet).filter(|header| header.source.address.is_v4()) else {
            return;
        };
        let tuple = FlowTuple {
            local: header.source,
            remote: header.destination,
        };
        let connected = self.connected(tuple.local, tuple.remote);
        let socket = connected.and_then(|id| self.sockets.get(&id));
        let options = match socket {
            Some(socket) => Some(&socket.options.ip_options),
            None => self.syn_looks.get(&tuple).map(|looks| &looks.options),
        };
        if let Some(options) = options {
            let now_ms = self.now.as_millis() % DAY_MS;
            options.put_on(packet, now_ms as u32);
        }
    }

    /// Looks at a packet before the stack does: takes note of what the answers to a SYN shall look
    /// like, and follows a source route to its end. `Some` is the packet that the stack shall see
    /// instead.
    pub(crate) fn undress(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let header = Header::of(packet)?;
        let v4 = header.source.address.is_v4();
        let has_options = v4 && packet.first().is_some_and(|first| *first > 0x45);
        if header.flags & (SYN | ACK) == SYN {
            let class = traffic_class(packet)? & !ECN_MASK;
            let tos = self.sysctls.reflects_tos().then_some(class);
            let echo = has_options.then(|| IpOptions::echo_of(packet)).flatten();
            let tuple = FlowTuple {
                local: header.destination,
                remote: header.source,
            };
            if tos.is_some() || echo.is_some() {
                if self.syn_looks.len() >= LOOKS_MAX {
                    self.syn_looks.pop_first();
                }
                let options = echo.unwrap_or_default();
                self.syn_looks.insert(tuple, SynLooks { tos, options });
            } else {
                self.syn_looks.remove(&tuple);
            }
        }
        // behaviour: MUST-52
        let routed = has_options && has_source_route(packet);
        let arrived = routed && IpOptions::echo_of(packet).is_some();
        (arrived && self.sysctls.accepts_source_routes()).then(|| {
            let mut packet = packet.to_vec();
            strip(&mut packet);
            packet
        })
    }

    /// A connection looks as its SYN-ACK did.
    pub(crate) fn take_syn_looks(&mut self, tuple: &FlowTuple, child: &mut Socket) {
        let Some(SynLooks { tos, options }) = self.syn_looks.remove(tuple) else {
            return;
        };
        if let Some(tos) = tos {
            child.options.tos = tos;
            child.options.traffic_class = tos;
        }
        child.options.ip_options = options;
    }

    /// Segments are smaller by what the IP options take (behaviour: A12-8).
    pub(crate) fn reserve_for_ip_options(&mut self, id: SocketId) {
        let Ok(socket) = self.get(id) else { return };
        let bytes = socket.options.ip_options.len() as u16;
        if let Some(flow) = socket.flow.filter(|_| bytes > 0) {
            self.stack.reserve_headers(self.now, flow, bytes);
        }
    }

    /// Whether a packet may come in.
    pub(crate) fn admit(&mut self, packet: &[u8]) -> bool {
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
        let v4 = header.source.address.is_v4();
        let (at, least) = if v4 {
            (8, options.min_ttl)
        } else {
            (7, options.min_hops)
        };
        // behaviour: A6-15
        let enough = packet.get(at).is_some_and(|hops| *hops >= least);
        self.min_ttl_drops += u64::from(!enough);
        enough
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

impl Socket {
    /// The identification of the next packet: one more for each, from a random start; that of a
    /// listener's answers is 0, for they are never cut (Linux: `ip_select_ident_segs`).
    // behaviour: A12-15, CON-16, IPO-9
    fn next_ip_id(&mut self) -> u16 {
        if self.listening.is_some() {
            return 0;
        }
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }
}

fn dress_v4(packet: &mut [u8], options: &Options, (class, id): (u8, u16), fragments: bool) {
    rewrite_ipv4(packet, |header| {
        if let [_, tos, _, _, high, low, flags, _, ttl, ..] = header {
            [*high, *low] = id.to_be_bytes();
            *tos = *tos & ECN_MASK | class & !ECN_MASK;
            *ttl = options.ttl.unwrap_or(*ttl);
            if fragments {
                *flags &= !DONT_FRAGMENT;
            }
        }
    });
}

/// TOS or traffic class of a packet.
fn traffic_class(packet: &[u8]) -> Option<u8> {
    let [first, second, ..] = packet else {
        return None;
    };
    Some(if first >> 4 == 4 {
        *second
    } else {
        first << 4 | second >> 4
    })
}

fn dress_v6(packet: &mut [u8], options: &Options, wanted: u8) {
    if let [first, second, _, _, _, _, _, hops, ..] = packet {
        let class = *first << 4 | *second >> 4;
        let class = class & ECN_MASK | wanted & !ECN_MASK;
        *first = *first & 0xf0 | class >> 4;
        *second = *second & 0x0f | class << 4;
        *hops = options.hops.unwrap_or(*hops);
    }
}
