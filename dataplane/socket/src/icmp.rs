//! What an ICMP error means to the socket it is about, in Linux's error numbers.
//!
//! The stack decides whether an error counts (it must quote something in flight) and whether it ends
//! the connection; it does not keep which error it was. Here its number is looked up before the
//! stack sees the packet. An error that ends nothing is remembered as the reason should the
//! connection time out, until the peer acknowledges something.
//!
//! Linux: `icmp_err_convert`, `icmpv6_err_convert`, `tcp_v4_err`, `tcp_v6_err`.

use millrace_base::{Address, Endpoint};

use crate::errno::Errno;
use crate::sockets::Sockets;

/// Bytes of an ICMP header.
const HEADER_BYTES: usize = 8;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TCP: u8 = 6;

/// An ICMP error: what it means, and the ends of the segment it quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Report {
    error: Errno,
    local: Endpoint,
    remote: Endpoint,
}

/// What ICMP said of a connection that goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SoftError {
    pub(crate) error: Errno,
    /// Bytes that were acknowledged by then: when there are more, it is forgotten.
    pub(crate) acked: u64,
}

impl Sockets {
    /// What a packet means that is an ICMP error about TCP.
    pub(crate) fn note_icmp(&mut self, packet: &[u8]) -> Option<Errno> {
        let report = match packet.first().map(|byte| byte >> 4)? {
            4 => report_v4(packet)?,
            6 => report_v6(packet)?,
            _ => return None,
        };
        let about = self.sockets.iter().find(|(_, socket)| {
            socket.flow.is_some()
                && socket.local == report.local
                && socket.remote == Some(report.remote)
        });
        let about = about.map(|(id, _)| *id);
        if let Some(id) = about {
            let acked = self.info(id).map_or(0, |info| info.bytes_acked);
            if let Ok(socket) = self.get_mut(id) {
                let error = report.error;
                socket.soft_error = Some(SoftError { error, acked });
            }
        }
        Some(report.error)
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
        local: Endpoint::new(address(12)?, port(quoted, ports)?),
        remote: Endpoint::new(address(16)?, port(quoted, ports + 2)?),
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
        local: Endpoint::new(address(8)?, port(quoted, 40)?),
        remote: Endpoint::new(address(24)?, port(quoted, 42)?),
    })
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
        packet.resize(28 + 24, 0);
        assert!(report_v4(&packet).is_some());
        for len in 0..packet.len() {
            assert_eq!(report_v4(&packet[..len]), None, "{len}");
        }
        assert_eq!(report_v6(&packet), None);
    }
}
