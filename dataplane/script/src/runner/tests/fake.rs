//! A small server that answers like TCP on a good day, and can be told to misbehave.
//!
//! It has one listener and one connection, no retransmission and no window: enough to hold the
//! runner to what it promises. It is not a model of any stack.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ast::{TcpOption, flag};
use crate::kernel::{
    Applied, Call, Departure, Kernel, Outcome, Output, Piece, Progress, Setting, Ticket,
};
use crate::packet::{self, Segment};

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quirk {
    None,
    WrongSynOptions,
    WrongAck,
    WrongPush,
    WrongPayload,
    WrongChecksum,
    WrongEcn,
    LateAck,
    NoAck,
    DoubleAck,
    WrongErrno,
    WrongRead,
    UnevenSegments,
}

/// Numbers that no script names: the runner has to find its way from its own to these.
const LISTENER: i32 = 70;
const CHILD: i32 = 91;
const ISS: u32 = 0xffff_fe00;
const CLOCK: u32 = 777_000;
const SEGMENT_BYTES: usize = 1_000;

pub(super) struct Fake {
    quirk: Quirk,
    now: Duration,
    ready: VecDeque<Departure>,
    later: Vec<Departure>,
    /// The peer's last segment.
    peer: Option<Segment>,
    is_established: bool,
    next_seq: u32,
    next_ack: u32,
    has_timestamps: bool,
    received: Vec<u8>,
    accepting: Option<Ticket>,
    accepted: Option<Outcome>,
    pub(super) settings: Vec<Setting>,
}

impl Fake {
    pub(super) fn new(quirk: Quirk) -> Self {
        Self {
            quirk,
            now: Duration::from_secs(1_000),
            ready: VecDeque::new(),
            later: Vec::new(),
            peer: None,
            is_established: false,
            next_seq: ISS,
            next_ack: 0,
            has_timestamps: false,
            received: Vec::new(),
            accepting: None,
            accepted: None,
            settings: Vec::new(),
        }
    }

    fn is(&self, quirk: Quirk) -> bool {
        self.quirk == quirk
    }

    fn send(&mut self, flags: u16, mut options: Vec<TcpOption>, payload: &[u8], delay: Duration) {
        let Some(peer) = self.peer.clone() else {
            return;
        };
        let echo = peer.options.iter().find_map(|option| match option {
            TcpOption::Timestamps { value, .. } => Some(*value),
            _ => None,
        });
        if self.has_timestamps && flags & flag::SYN == 0 {
            let value = CLOCK + u32::try_from(self.now.as_millis()).unwrap_or(0);
            let echo = echo.unwrap_or(0);
            options = vec![
                TcpOption::Nop,
                TcpOption::Nop,
                TcpOption::Timestamps { value, echo },
            ];
        }
        let mut payload = payload.to_vec();
        if self.is(Quirk::WrongPayload)
            && let Some(byte) = payload.get_mut(7)
        {
            *byte ^= 1;
        }
        let wrong_ack = self.is(Quirk::WrongAck) && flags & flag::SYN == 0;
        let segment = Segment {
            source: peer.destination,
            destination: peer.source,
            service: if self.is(Quirk::WrongEcn) { 2 } else { 0 },
            ttl: 64,
            flow_label: 0,
            source_port: peer.destination_port,
            destination_port: peer.source_port,
            seq: self.next_seq,
            ack: self.next_ack.wrapping_add(u32::from(wrong_ack)),
            flags,
            window: 500,
            urgent: 0,
            options,
            payload,
        };
        let length = u32::try_from(segment.payload.len()).unwrap_or(0);
        let syn = u32::from(segment.has(flag::SYN)) + u32::from(segment.has(flag::FIN));
        self.next_seq = self.next_seq.wrapping_add(length + syn);
        let mut packet = packet::emit(&segment).expect("fits");
        if self.is(Quirk::WrongChecksum) {
            *packet.last_mut().expect("a byte") ^= 1;
        }
        let departure = Departure {
            at: self.now + delay,
            packet,
        };
        if delay.is_zero() {
            self.ready.push_back(departure);
        } else {
            self.later.push(departure);
        }
    }

    fn syn_ack(&mut self, syn: &Segment) {
        let value = CLOCK + u32::try_from(self.now.as_millis()).unwrap_or(0);
        let mut options = vec![TcpOption::Mss(1_460)];
        for option in &syn.options {
            if let TcpOption::Timestamps { value: echo, .. } = option {
                self.has_timestamps = true;
                options.push(TcpOption::SackPermitted);
                options.push(TcpOption::Timestamps { value, echo: *echo });
            }
        }
        if self.is(Quirk::WrongSynOptions) {
            options = vec![TcpOption::Mss(536)];
        }
        self.next_ack = syn.seq.wrapping_add(1);
        self.send(flag::SYN | flag::ACK, options, &[], Duration::ZERO);
    }

    fn acknowledge(&mut self) {
        let delay = if self.is(Quirk::LateAck) { 40 } else { 0 };
        if self.is(Quirk::NoAck) {
            return;
        }
        self.send(flag::ACK, Vec::new(), &[], Duration::from_millis(delay));
        if self.is(Quirk::DoubleAck) {
            self.send(flag::ACK, Vec::new(), &[], Duration::ZERO);
        }
    }

    fn accept(&self) -> Option<Outcome> {
        let peer = self.peer.as_ref().filter(|_| self.is_established)?;
        let ip = match (peer.source, peer.destination_port) {
            // Port 8081 stands for an IPv6 socket that a mapped peer reached.
            (std::net::IpAddr::V4(ip), 8_081) => std::net::IpAddr::V6(ip.to_ipv6_mapped()),
            (ip, _) => ip,
        };
        let output = Output::Peer(SocketAddr::new(ip, peer.source_port));
        Some(Outcome {
            result: i64::from(CHILD),
            errno: 0,
            output,
        })
    }

    fn write(&mut self, pieces: &[Piece]) -> Outcome {
        let bytes: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Bytes(bytes) => bytes.clone(),
                Piece::Null(_) => Vec::new(),
            })
            .collect();
        let size = if self.is(Quirk::UnevenSegments) {
            700
        } else {
            SEGMENT_BYTES
        };
        let mut sent = 0;
        for chunk in bytes.chunks(size) {
            sent += chunk.len();
            let is_last = sent == bytes.len();
            let push = if is_last != self.is(Quirk::WrongPush) {
                flag::PSH
            } else {
                0
            };
            self.send(flag::ACK | push, Vec::new(), chunk, Duration::ZERO);
        }
        Outcome::success(i64::try_from(bytes.len()).unwrap_or(0))
    }

    fn read(&mut self, room: usize) -> Outcome {
        if self.received.is_empty() {
            return Outcome::failure(if self.is(Quirk::WrongErrno) { 104 } else { 11 });
        }
        let count = room.min(self.received.len());
        let mut bytes: Vec<u8> = self.received.drain(..count).collect();
        if self.is(Quirk::WrongRead) {
            bytes.reverse();
        }
        let result = i64::try_from(count).unwrap_or(0);
        Outcome {
            result,
            errno: 0,
            output: Output::Bytes(bytes),
        }
    }
}

impl Kernel for Fake {
    fn now(&self) -> Duration {
        self.now
    }

    fn start(&mut self, call: &Call) -> Progress {
        let outcome = match call {
            Call::Socket { .. } => Outcome::success(i64::from(LISTENER)),
            Call::Accept { fd: LISTENER, .. } => match self.accept() {
                Some(outcome) => outcome,
                None => {
                    self.accepting = Some(Ticket(5));
                    return Progress::Pending(Ticket(5));
                }
            },
            Call::Write { fd: CHILD, pieces } => self.write(pieces),
            Call::Read { fd: CHILD, rooms } => self.read(rooms.iter().map(|room| room.bytes).sum()),
            Call::GetSockOpt {
                fd: CHILD,
                level: 6,
                name: 11,
                ..
            } => {
                let mut bytes = vec![0; 104];
                bytes[80] = 10;
                Outcome {
                    result: 0,
                    errno: 0,
                    output: Output::Bytes(bytes),
                }
            }
            Call::Close { fd: CHILD } => {
                self.send(flag::FIN | flag::ACK, Vec::new(), &[], Duration::ZERO);
                Outcome::success(0)
            }
            Call::Bind { fd: LISTENER, .. } | Call::Listen { fd: LISTENER, .. } => {
                Outcome::success(0)
            }
            _ => Outcome::failure(9),
        };
        Progress::Done(outcome)
    }

    fn poll(&mut self, ticket: Ticket) -> Option<Outcome> {
        assert_eq!(ticket, Ticket(5));
        self.accepted.take()
    }

    fn deliver(&mut self, packet: &[u8], _segment_bytes: u16) {
        let segment = packet::parse(packet).expect("a good packet").expect("TCP");
        let is_syn = segment.has(flag::SYN);
        self.peer = Some(segment.clone());
        if is_syn {
            return self.syn_ack(&segment);
        }
        if segment.ack == ISS.wrapping_add(1) && !self.is_established {
            self.is_established = true;
            if self.accepting.take().is_some() {
                self.accepted = self.accept();
            }
        }
        let length = u32::try_from(segment.payload.len()).unwrap_or(0);
        if length > 0 {
            self.next_ack = segment.seq.wrapping_add(length);
            self.received.extend(segment.payload);
            self.acknowledge();
        }
    }

    fn take_packet(&mut self) -> Option<Departure> {
        self.ready.pop_front()
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.later.iter().map(|departure| departure.at).min()
    }

    fn advance(&mut self, to: Duration) {
        assert!(to >= self.now, "time goes back");
        self.now = to;
        let (due, later) = std::mem::take(&mut self.later)
            .into_iter()
            .partition(|d| d.at <= to);
        self.later = later;
        self.ready.extend::<Vec<_>>(due);
    }

    fn apply(&mut self, setting: &Setting) -> Applied {
        self.settings.push(setting.clone());
        match setting {
            Setting::Tunable { name, .. } if name == "net.ipv4.tcp_unknown" => {
                Applied::No("no such tunable".to_owned())
            }
            _ => Applied::Yes,
        }
    }
}
