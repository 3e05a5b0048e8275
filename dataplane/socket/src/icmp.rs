//! What an ICMP error means to the socket it is about, in Linux's error numbers.
//!
//! The stack decides whether an error counts (it must quote something in flight) and whether it ends
//! the connection; it does not keep which error it was. Here its number is looked up before the
//! stack sees the packet. An error that ends nothing is remembered as the reason should the
//! connection time out, until the peer acknowledges something; with `IP_RECVERR` the program hears of
//! it at once, and of one that ends an attempt to connect more exactly.
//!
//! Linux: `icmp_err_convert`, `icmpv6_err_convert`, `tcp_v4_err`, `tcp_v6_err`.

use millrace_base::{Address, Endpoint, SeqNumber};
use millrace_stack::FlowInfo;

use crate::address::{Domain, SocketAddress};
use crate::call::{Control, ExtendedError, Received};
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{
    EPOLLERR, IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6,
    SOL_IP, SOL_IPV6,
};
use crate::socket::{ERROR_QUEUE_MAX, Socket};
use crate::sockets::{Sockets, is_opening};

/// Bytes of an ICMP header.
const HEADER_BYTES: usize = 8;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TCP: u8 = 6;

/// An ICMP error: what it means, and the segment it quotes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Report {
    error: Errno,
    kind: u8,
    code: u8,
    local: Endpoint,
    remote: Endpoint,
    seq: u32,
    /// The quoted TCP header, as much as there is of it.
    quoted: Vec<u8>,
}

/// What ICMP said of a connection that goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SoftError {
    pub(crate) error: Errno,
    /// Bytes that were acknowledged by then: when there are more, it is forgotten.
    pub(crate) acked: u64,
}

impl Sockets {
    /// What a packet means that is an ICMP error about TCP. The connection that it is about takes
    /// note, if the segment that it quotes is in flight.
    pub(crate) fn note_icmp(&mut self, packet: &[u8]) -> Option<Errno> {
        let report = match packet.first().map(|byte| byte >> 4)? {
            4 => report_v4(packet)?,
            6 => report_v6(packet)?,
            _ => return None,
        };
        let error = report.error;
        let about = self.connected(report.local, report.remote);
        if let Some(id) = about
            && let Some(info) = self.info(id)
            && is_in_flight(&info, report.seq)
        {
            self.report(id, report, &info);
        }
        Some(error)
    }

    fn report(&mut self, id: SocketId, report: Report, info: &FlowInfo) {
        let opening = is_opening(info.state) && !info.fast_open.is_accepted;
        let Ok(socket) = self.get_mut(id) else { return };
        let error = report.error;
        // Which of the two options counts is the packet's matter, not the socket's.
        let wanted = if report.local.address.is_v4() {
            socket.options.recverr
        } else {
            socket.options.recverr_v6
        };
        if !wanted {
            let acked = info.bytes_acked;
            socket.soft_error = Some(SoftError { error, acked });
            return;
        }
        if opening {
            socket.push_report(report);
        } else {
            // The connection goes on, but the program hears of it at once.
            socket.error = Some(error);
        }
        self.wake(id, EPOLLERR);
    }

    /// Forgets what ICMP said of connections that have gone on since.
    pub(crate) fn forget_soft_errors(&mut self) {
        let Self { sockets, stack, .. } = self;
        for socket in sockets.values_mut() {
            let info = socket.flow.and_then(|flow| stack.info(flow));
            if let (Some(soft), Some(info)) = (socket.soft_error, info)
                && info.bytes_acked > soft.acked
            {
                socket.soft_error = None;
            }
        }
    }
}

impl Socket {
    /// An entry of the error queue (`ip_icmp_error`).
    fn push_report(&mut self, report: Report) {
        if self.error_queue.len() >= ERROR_QUEUE_MAX {
            return;
        }
        let origin = if report.local.address.is_v4() {
            SO_EE_ORIGIN_ICMP
        } else {
            SO_EE_ORIGIN_ICMP6
        };
        let (level, kind) = match self.domain {
            Domain::V4 => (SOL_IP, IP_RECVERR),
            Domain::V6 => (SOL_IPV6, IPV6_RECVERR),
        };
        let error = ExtendedError {
            errno: report.error.number() as u32,
            origin: origin as u8,
            kind: report.kind,
            code: report.code,
            info: 0,
            data: 0,
        };
        self.error_queue.push_back(Received {
            count: report.quoted.len(),
            bytes: report.quoted,
            flags: MSG_ERRQUEUE,
            address: Some(SocketAddress::of(report.remote, self.domain)),
            control: vec![Control::Error { level, kind, error }],
        });
    }
}

/// Whether a sequence number is of something sent and not acknowledged (RFC 5927 section 4.1).
fn is_in_flight(info: &FlowInfo, seq: u32) -> bool {
    let sent = info.queued_bytes.saturating_sub(info.unsent_bytes);
    // The SYN-ACK of a child is before its first byte.
    let una = if info.fast_open.is_child {
        info.snd_una.minus(1)
    } else {
        info.snd_una
    };
    let distance = SeqNumber::new(seq).distance(una);
    u32::try_from(distance).is_ok_and(|distance| distance <= sent.saturating_add(1))
}

fn report_v4(packet: &[u8]) -> Option<Report> {
    if *packet.get(9)? != ICMP {
        return None;
    }
    let header = usize::from(packet.first()? & 0xf) * 4;
    let (kind, code) = (*packet.get(header)?, *packet.get(header + 1)?);
    let error = error_v4(kind, code)?;
    let quoted = packet.get(header + HEADER_BYTES..)?;
    if *quoted.get(9)? != TCP {
        return None;
    }
    let address = |at: usize| Some(Address::v4(quoted.get(at..at + 4)?.try_into().ok()?));
    let ports = usize::from(quoted.first()? & 0xf) * 4;
    Some(Report {
        error,
        kind,
        code,
        local: Endpoint::new(address(12)?, port(quoted, ports)?),
        remote: Endpoint::new(address(16)?, port(quoted, ports + 2)?),
        seq: seq(quoted, ports)?,
        quoted: quoted.get(ports..)?.to_vec(),
    })
}

fn report_v6(packet: &[u8]) -> Option<Report> {
    if *packet.get(6)? != ICMPV6 {
        return None;
    }
    let (kind, code) = (*packet.get(40)?, *packet.get(41)?);
    let error = error_v6(kind, code)?;
    let quoted = packet.get(40 + HEADER_BYTES..)?;
    if *quoted.get(6)? != TCP {
        return None;
    }
    let address = |at: usize| Some(Address::v6(quoted.get(at..at + 16)?.try_into().ok()?));
    Some(Report {
        error,
        kind,
        code,
        local: Endpoint::new(address(8)?, port(quoted, 40)?),
        remote: Endpoint::new(address(24)?, port(quoted, 42)?),
        seq: seq(quoted, 40)?,
        quoted: quoted.get(40..)?.to_vec(),
    })
}

/// The sequence number of a TCP header that begins at `tcp`.
fn seq(quoted: &[u8], tcp: usize) -> Option<u32> {
    let bytes = quoted.get(tcp + 4..tcp + 8)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

fn port(quoted: &[u8], at: usize) -> Option<u16> {
    let bytes = quoted.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes))
}

/// The number of an error; `None` for messages that are none, and for "too big".
const fn error_v4(kind: u8, code: u8) -> Option<Errno> {
    match (kind, code) {
        (3, 0 | 6 | 9 | 11) => Some(Errno::ENETUNREACH),
        (3, 1 | 5 | 7 | 10 | 12..=15) | (11, _) => Some(Errno::EHOSTUNREACH),
        (3, 2) => Some(Errno::ENOPROTOOPT),
        (3, 3) => Some(Errno::ECONNREFUSED),
        (12, _) => Some(Errno::EPROTO),
        _ => None,
    }
}

/// The same for ICMPv6.
const fn error_v6(kind: u8, code: u8) -> Option<Errno> {
    match (kind, code) {
        (1, 0) => Some(Errno::ENETUNREACH),
        (1, 1 | 5 | 6) => Some(Errno::EACCES),
        (1, 2 | 3) | (3, _) => Some(Errno::EHOSTUNREACH),
        (1, 4) => Some(Errno::ECONNREFUSED),
        (4, _) => Some(Errno::EPROTO),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_number_that_linux_gives_it() {
        let names: Vec<_> = (0..16)
            .map(|code| error_v4(3, code).map_or("-", Errno::name))
            .collect();
        let (net, host) = ("ENETUNREACH", "EHOSTUNREACH");
        let expected = [
            net,
            host,
            "ENOPROTOOPT",
            "ECONNREFUSED",
            "-",
            host,
            net,
            host,
            "-",
            net,
            host,
            net,
            host,
            host,
            host,
            host,
        ];
        assert_eq!(names, expected);
        assert_eq!(error_v6(1, 4), Some(Errno::ECONNREFUSED));
        assert_eq!(error_v6(2, 0), None);
    }

    #[test]
    fn damaged_packets_mean_nothing() {
        let mut packet = vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, ICMP];
        packet.resize(20, 0);
        packet.extend([3, 3, 0, 0, 0, 0, 0, 0, 0x45]);
        packet.resize(28 + 9, 0);
        packet.push(TCP);
        packet.resize(28 + 28, 0);
        assert!(report_v4(&packet).is_some());
        for len in 0..packet.len() {
            assert_eq!(report_v4(&packet[..len]), None, "{len}");
        }
        assert_eq!(report_v6(&packet), None);
    }
}
