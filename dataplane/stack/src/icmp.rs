//! ICMP and ICMPv6 to our addresses: echo requests answered, errors about our connections acted
//! upon.
//!
//! An echo reply leaves in the request's own buffer (RFC 1122 section 3.2.2.6, RFC 4443 section
//! 4.2). An error counts only when it quotes a tuple we have and a sequence number in flight (RFC
//! 5927 section 4): then packet-too-big lowers the path MTU, and unreachables end what is not yet
//! synchronised. Everything else goes to the control path.
//!
//! The only error sent is "never whole", about packets whose pieces did not come: closed ports are
//! answered by TCP itself, other protocols by control.

use millrace_base::{Endpoint, FlowTuple, Instant, PacketBuf, PacketPool, SeqNumber};
use millrace_wire::icmpv4::{
    ICMPV4_HEADER_BYTES, ICMPV4_QUOTE_BYTES_MAX, Icmpv4Message, Icmpv4View, echo_reply_in_place_v4,
    unreachable_v4,
};
use millrace_wire::icmpv6::{
    EchoAddresses, ICMPV6_QUOTE_BYTES_MAX, Icmpv6Message, Icmpv6View, echo_reply_in_place_v6,
    unreachable_v6,
};
use millrace_wire::{Checksum, EtherType, IpRepr, protocol};

use crate::dispatch::{IcmpFrame, Punt, PuntReason, pieces};
use crate::flow::Owner;
use crate::fragment::{Overdue, PacketId};
use crate::knobs::knobs_of;
use crate::limits::{MTU_MIN_V6, PMTU_MIN_V4};
use crate::path::{HOP_LIMIT, Path};
use crate::stack::Stack;
use crate::stats::count;
use crate::tcp::{Disposition, Env, Unreachable};
use crate::verdict::DropReason;

/// Bytes of the longer of the two IP headers, without extensions.
const IP_HEADER_BYTES_MAX: usize = 40;

/// What an ICMP message is to us.
enum Kind<'a> {
    Echo,
    /// An error, and the start of the packet it is about.
    Error(ErrorKind, &'a [u8]),
    EchoReply,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ErrorKind {
    /// The next link's MTU; 0 when an old router does not say.
    TooBig(u32),
    Unreachable(Report),
}

/// What a message about an unreachable peer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Report {
    kind: Unreachable,
    /// A half-open request ends by it (Linux: `tcp_req_err`).
    ends_request: bool,
    /// It says that there is no way, so what was lost was lost for want of one (RFC 6069).
    no_way: bool,
}

impl Report {
    const HARD: Self = Self {
        kind: Unreachable::Hard,
        ends_request: false,
        no_way: false,
    };
    const SOFT: Self = Self {
        kind: Unreachable::Soft,
        ..Self::HARD
    };
    /// Time exceeded, parameter problem.
    const LOST: Self = Self {
        ends_request: true,
        ..Self::SOFT
    };
    const NO_WAY: Self = Self {
        no_way: true,
        ..Self::LOST
    };
}

/// What an error quotes of our segment.
struct Quoted {
    tuple: FlowTuple,
    seq: SeqNumber,
    /// Total length of the quoted packet, for routers that do not say their MTU.
    total_len: u16,
}

impl<P: PacketPool> Stack<P> {
    /// Takes an ICMP message to one of our addresses. `Ok(Some)` hands it to the control path.
    pub(crate) fn on_icmp(
        &mut self,
        now: Instant,
        message: &IcmpFrame,
        frame: P::Buf,
        pool: &mut P,
    ) -> Result<Option<Punt<P::Buf>>, DropReason> {
        count!(self.stats.icmp_in_msgs);
        if !is_checksum_good(message, &frame) {
            count!(self.stats.icmp_in_csum_errors);
            count!(self.stats.icmp_in_errors);
            return Err(DropReason::IcmpMalformed);
        }
        count!(self.stats.ip_in_delivers);
        let end = message.icmp_at.saturating_add(message.icmp_len);
        let bytes = frame.bytes();
        let icmp = bytes
            .get(message.icmp_at..end.min(bytes.len()))
            .unwrap_or_default();
        let is_v4 = message.source.is_v4();
        let kind = if is_v4 { kind_v4(icmp) } else { kind_v6(icmp) };
        let kind = kind.inspect_err(|_| count!(self.stats.icmp_in_errors))?;
        let (error, quoted) = match kind {
            Kind::Echo => {
                count!(self.stats.icmp_in_echos);
                self.answer_echo(now, message, frame, pool)?;
                return Ok(None);
            }
            Kind::EchoReply => {
                count!(self.stats.icmp_in_echo_reps);
                return Ok(Some(Punt {
                    frame,
                    reason: PuntReason::Icmp,
                }));
            }
            Kind::Other => {
                return Ok(Some(Punt {
                    frame,
                    reason: PuntReason::Icmp,
                }));
            }
            Kind::Error(error, quoted) => (error, parse_quoted(quoted, is_v4)),
        };
        match error {
            ErrorKind::TooBig(_) if !is_v4 => count!(self.stats.icmp6_in_pkt_too_bigs),
            ErrorKind::TooBig(_) | ErrorKind::Unreachable(_) => {
                count!(self.stats.icmp_in_dest_unreachs);
            }
        }
        let Some(quoted) = quoted else {
            // About something that is not TCP: whoever sent it is on the other side.
            return Ok(Some(Punt {
                frame,
                reason: PuntReason::Icmp,
            }));
        };
        if quoted.tuple.local.address != message.destination {
            return Err(DropReason::IcmpErrorUnmatched);
        }
        self.on_icmp_error(now, error, &quoted, pool)?;
        Ok(None)
    }

    fn on_icmp_error(
        &mut self,
        now: Instant,
        error: ErrorKind,
        quoted: &Quoted,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let index = match self.owner_of(&quoted.tuple) {
            Some(Owner::Connection(index)) => index,
            Some(Owner::Request(index)) => return self.on_request_error(index, error, quoted),
            Some(Owner::TimeWait(_)) | None => return Err(DropReason::IcmpErrorUnmatched),
        };
        let Some((key, slot)) = self.connections.at_mut(index) else {
            return Err(self.why_not_at_work(index));
        };
        if !slot.connection.is_in_flight(quoted.seq) {
            count!(self.stats.out_of_window_icmps);
            return Err(DropReason::IcmpErrorUnmatched);
        }
        let whose = (index, &slot.meta.hop);
        let mut env = Env {
            now,
            pool,
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: knobs_of(&self.own_tunables, &self.group_knobs, &self.tunables, whose),
        };
        let disposition = match error {
            ErrorKind::TooBig(_) if env.tunables.special.keeps_mtu => Disposition::Continue,
            ErrorKind::TooBig(mtu) => {
                slot.connection
                    .on_path_mtu(plausible_mtu(mtu, quoted), &mut env);
                Disposition::Continue
            }
            ErrorKind::Unreachable(report) => {
                if report.no_way {
                    let tunables = self.own_tunables.get(&index);
                    let tunables = tunables.unwrap_or(&self.tunables);
                    slot.connection.revert_backoff(now, quoted.seq, tunables);
                }
                slot.connection.on_unreachable(report.kind, &mut env)
            }
        };
        self.settle(now, key, disposition);
        Ok(())
    }

    /// A half-open request ends by an error that says its SYN-ACK cannot have come (Linux:
    /// `tcp_req_err`).
    fn on_request_error(
        &mut self,
        index: u32,
        error: ErrorKind,
        quoted: &Quoted,
    ) -> Result<(), DropReason> {
        let request = self.requests.get(index).ok_or(DropReason::Bug)?;
        if request.half_open.iss != quoted.seq {
            count!(self.stats.out_of_window_icmps);
            return Err(DropReason::IcmpErrorUnmatched);
        }
        let listener = request.half_open.listener;
        if matches!(error, ErrorKind::Unreachable(report) if report.ends_request) {
            self.remove_request(index);
            self.count_listen_drop(listener);
        }
        Ok(())
    }

    /// Gives up packets whose pieces did not come in time, and tells who sent the first of them (RFC
    /// 792, RFC 4443 section 3.3).
    #[cold]
    pub(crate) fn expire_fragments(&mut self, now: Instant, pool: &mut P) {
        while let Some(overdue) = self.fragments.expire(now, &mut self.stats) {
            let Some(first) = overdue.first else {
                continue;
            };
            // An echo's budget is that of all ICMP (`icmp_msgs_per_sec`).
            if !self.echo_budget.take(now) {
                count!(self.stats.icmp_out_rate_limit);
                continue;
            }
            let Overdue { packet, ip_at, .. } = overdue;
            let Some(mut frame) = pool.alloc() else {
                self.stats.drop(DropReason::ReplyNoBuffer);
                continue;
            };
            let quoted = first.bytes().get(ip_at..).unwrap_or_default();
            let Some(icmp_len) = write_time_exceeded(&mut frame, &packet, quoted) else {
                self.stats.drop(DropReason::HeadroomMissing);
                continue;
            };
            let message = IcmpFrame {
                source: packet.source,
                destination: packet.destination,
                icmp_at: 0,
                icmp_len,
            };
            count!(self.stats.icmp_out_time_excds);
            self.send_reply(now, packet.source, frame, |frame, path| {
                write_echo_headers(&message, frame, path).is_some()
            });
        }
    }

    fn answer_echo(
        &mut self,
        now: Instant,
        message: &IcmpFrame,
        mut frame: P::Buf,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        if !self.echo_budget.take(now) {
            return Err(DropReason::EchoLimited);
        }
        turn_into_reply(message, &mut frame).ok_or(DropReason::FrameUnusable)?;
        count!(self.stats.icmp_out_echo_reps);
        let route = self.network.route(message.source);
        // Without one, sending finds it out and counts it.
        let mtu = route.map_or(u16::MAX, |hop| hop.mtu());
        if usize::from(mtu) < message.icmp_len.saturating_add(IP_HEADER_BYTES_MAX) {
            return self.send_in_pieces(now, message, &frame, mtu, pool);
        }
        self.send_reply(now, message.source, frame, |frame, path| {
            write_echo_headers(message, frame, path).is_some()
        });
        Ok(())
    }
}

/// Sums an ICMP message over all segments of its frame.
fn is_checksum_good<B: PacketBuf>(message: &IcmpFrame, frame: &B) -> bool {
    let mut sum = if message.source.is_v4() {
        Checksum::new()
    } else {
        let len = message.icmp_len as u32;
        Checksum::pseudo_header(message.source, message.destination, protocol::ICMPV6, len)
    };
    for piece in pieces(frame, message.icmp_at, message.icmp_len) {
        sum.add_bytes(piece);
    }
    sum.finish() == 0
}

/// behaviour: Linux's `icmp_err_convert`: which codes are hard.
fn kind_v4(icmp: &[u8]) -> Result<Kind<'_>, DropReason> {
    let error = match Icmpv4View::parse(icmp)?.message() {
        Icmpv4Message::EchoRequest { .. } => return Ok(Kind::Echo),
        Icmpv4Message::DestinationUnreachable { code, mtu, quoted } => match code {
            unreachable_v4::FRAGMENTATION_NEEDED => (ErrorKind::TooBig(mtu.into()), quoted),
            unreachable_v4::PROTOCOL
            | unreachable_v4::PORT
            | unreachable_v4::NETWORK_PROHIBITED
            | unreachable_v4::HOST_PROHIBITED
            | unreachable_v4::COMMUNICATION_PROHIBITED => {
                (ErrorKind::Unreachable(Report::HARD), quoted)
            }
            unreachable_v4::NETWORK | unreachable_v4::HOST => {
                (ErrorKind::Unreachable(Report::NO_WAY), quoted)
            }
            _ => (ErrorKind::Unreachable(Report::SOFT), quoted),
        },
        Icmpv4Message::TimeExceeded { quoted, .. }
        | Icmpv4Message::ParameterProblem { quoted, .. } => {
            (ErrorKind::Unreachable(Report::LOST), quoted)
        }
        Icmpv4Message::EchoReply { .. } => return Ok(Kind::EchoReply),
        Icmpv4Message::Redirect { .. } | Icmpv4Message::Other { .. } => return Ok(Kind::Other),
    };
    Ok(Kind::Error(error.0, error.1))
}

fn kind_v6(icmp: &[u8]) -> Result<Kind<'_>, DropReason> {
    let error = match Icmpv6View::parse(icmp)?.message()? {
        Icmpv6Message::EchoRequest { .. } => return Ok(Kind::Echo),
        Icmpv6Message::PacketTooBig { mtu, quoted } => (ErrorKind::TooBig(mtu), quoted),
        Icmpv6Message::DestinationUnreachable { code, quoted } => match code {
            unreachable_v6::PORT
            | unreachable_v6::PROHIBITED
            | unreachable_v6::SOURCE_POLICY
            | unreachable_v6::REJECT_ROUTE => {
                let report = Report {
                    ends_request: true,
                    ..Report::HARD
                };
                (ErrorKind::Unreachable(report), quoted)
            }
            unreachable_v6::NO_ROUTE => {
                let report = Report {
                    no_way: true,
                    ..Report::SOFT
                };
                (ErrorKind::Unreachable(report), quoted)
            }
            _ => (ErrorKind::Unreachable(Report::SOFT), quoted),
        },
        Icmpv6Message::TimeExceeded { quoted, .. } => {
            (ErrorKind::Unreachable(Report::SOFT), quoted)
        }
        Icmpv6Message::ParameterProblem { quoted, .. } => {
            (ErrorKind::Unreachable(Report::LOST), quoted)
        }
        Icmpv6Message::EchoReply { .. } => return Ok(Kind::EchoReply),
        Icmpv6Message::RouterSolicitation(_)
        | Icmpv6Message::RouterAdvertisement(_)
        | Icmpv6Message::NeighborSolicitation(_)
        | Icmpv6Message::NeighborAdvertisement(_)
        | Icmpv6Message::Other { .. } => return Ok(Kind::Other),
    };
    Ok(Kind::Error(error.0, error.1))
}

/// Reads the tuple and the sequence number of a quoted TCP segment; the quote may end after eight
/// bytes of it (RFC 792). `None` when it is not TCP.
fn parse_quoted(quoted: &[u8], is_v4: bool) -> Option<Quoted> {
    use millrace_base::Address;
    let word = |at: usize| {
        quoted
            .get(at..)?
            .first_chunk::<2>()
            .map(|word| u16::from_be_bytes(*word))
    };
    let (source, destination, tcp_at, total_len) = if is_v4 {
        let header_len = usize::from(quoted.first()? & 0x0f).checked_mul(4)?;
        let is_tcp = *quoted.get(9)? == protocol::TCP;
        if quoted.first()? >> 4 != 4 || header_len < 20 || !is_tcp {
            return None;
        }
        let address = |at: usize| quoted.get(at..)?.first_chunk().copied().map(Address::v4);
        (address(12)?, address(16)?, header_len, word(2)?)
    } else {
        // Our segments carry no extension headers.
        if quoted.first()? >> 4 != 6 || *quoted.get(6)? != protocol::TCP {
            return None;
        }
        let address = |at: usize| quoted.get(at..)?.first_chunk().copied().map(Address::v6);
        (address(8)?, address(24)?, 40, word(4)?.saturating_add(40))
    };
    let segment = quoted.get(tcp_at..)?;
    let [p0, p1, p2, p3, s0, s1, s2, s3] = *segment.first_chunk::<8>()?;
    Some(Quoted {
        tuple: FlowTuple {
            local: Endpoint::new(source, u16::from_be_bytes([p0, p1])),
            remote: Endpoint::new(destination, u16::from_be_bytes([p2, p3])),
        },
        seq: SeqNumber::new(u32::from_be_bytes([s0, s1, s2, s3])),
        total_len,
    })
}

/// The MTU to use after a router's complaint: never below the minimum of the family, so that nobody
/// can make us send dust (RFC 8201 section 4; Linux: `min_pmtu`).
fn plausible_mtu(mtu: u32, quoted: &Quoted) -> u16 {
    let told = if mtu == 0 {
        // RFC 1191 sections 5 and 7: a router that does not say its MTU means the next lower
        // plateau.
        const PLATEAUS: [u16; 7] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006];
        PLATEAUS
            .into_iter()
            .find(|plateau| *plateau < quoted.total_len)
            .unwrap_or(PMTU_MIN_V4)
    } else {
        u16::try_from(mtu).unwrap_or(u16::MAX)
    };
    let minimum = if quoted.tuple.local.address.is_v4() {
        PMTU_MIN_V4
    } else {
        MTU_MIN_V6
    };
    told.max(minimum)
}

/// Turns the bytes of an echo request into a reply and narrows the frame to the message. `None`
/// when the frame is shared.
fn turn_into_reply<B: PacketBuf>(message: &IcmpFrame, frame: &mut B) -> Option<()> {
    let addresses = EchoAddresses {
        asked: message.destination,
        answering: message.destination,
    };
    let end = message.icmp_at.checked_add(message.icmp_len)?;
    let icmp = frame.bytes_mut()?.get_mut(message.icmp_at..)?;
    if message.source.is_v4() {
        echo_reply_in_place_v4(icmp)?;
    } else {
        echo_reply_in_place_v6(icmp, addresses)?;
    }
    let first_end = end.min(frame.bytes().len());
    let offset = frame.offset().checked_add(message.icmp_at)?;
    frame
        .set_span(offset, first_end.checked_sub(message.icmp_at)?)
        .then_some(())
}

/// Writes the message that a packet was never whole; returns its length.
fn write_time_exceeded<B: PacketBuf>(
    frame: &mut B,
    packet: &PacketId,
    quoted: &[u8],
) -> Option<usize> {
    /// "Fragment reassembly time exceeded", in both families.
    const REASSEMBLY: u8 = 1;
    let at = frame.offset();
    let most = if packet.source.is_v4() {
        ICMPV4_QUOTE_BYTES_MAX
    } else {
        ICMPV6_QUOTE_BYTES_MAX
    };
    let quoted = quoted.get(..most).unwrap_or(quoted);
    if !frame.set_span(at, quoted.len().checked_add(ICMPV4_HEADER_BYTES)?) {
        return None;
    }
    let bytes = frame.bytes_mut()?;
    if packet.source.is_v4() {
        let message = Icmpv4Message::TimeExceeded {
            code: REASSEMBLY,
            quoted,
        };
        message.emit(bytes)
    } else {
        let message = Icmpv6Message::TimeExceeded {
            code: REASSEMBLY,
            quoted,
        };
        message.emit(packet.destination, packet.source, bytes)
    }
}

/// Writes Ethernet and IP headers in front of an ICMP message.
fn write_echo_headers<B: PacketBuf>(message: &IcmpFrame, frame: &mut B, path: &Path) -> Option<()> {
    let is_v4 = message.source.is_v4();
    let ip = IpRepr {
        source: message.destination,
        destination: message.source,
        protocol: if is_v4 {
            protocol::ICMPV4
        } else {
            protocol::ICMPV6
        },
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        dont_fragment: true,
        identification: 0,
        payload_len: u16::try_from(message.icmp_len).ok()?,
    };
    let ip_at = path.link_header_len();
    let headers_len = ip_at.checked_add(ip.header_len())?;
    let front = frame.offset().checked_sub(headers_len)?;
    let len = frame.bytes().len().checked_add(headers_len)?;
    if !frame.set_span(front, len) {
        return None;
    }
    let ether_type = if is_v4 {
        EtherType::IPV4
    } else {
        EtherType::IPV6
    };
    let bytes = frame.bytes_mut()?;
    path.emit_link_header(bytes, ether_type)?;
    ip.emit(bytes.get_mut(ip_at..)?, false)?;
    // The buffer may carry an old request of the receive side; ask for nothing but the tag.
    frame
        .set_tx_offload(millrace_base::TxOffload {
            vlan: path.offloads.tag_in_request(),
            ..millrace_base::TxOffload::default()
        })
        .then_some(())
}
