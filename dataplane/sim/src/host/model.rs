//! The oracle: a small TCP of its own, written from RFC 9293 and sharing nothing with the stack but
//! the types of `wire`.
//!
//! It does what the RFC's text says and little else: cumulative acknowledgments, reassembly, NewReno
//! (RFC 6582), go-back-N after a timeout, one-byte window probes. Of options it has MSS, window
//! scale, timestamps with PAWS (RFC 7323), and SACK as a receiver (RFC 2018). Two hosts of the stack
//! may agree on a mistake; with this one they cannot.
//!
//! Not here: simultaneous open, urgent data, ECN, ICMP, path MTU discovery, keepalive.

mod connection;
mod receiver;
mod sender;

use std::collections::VecDeque;

use millrace_base::{Address, Endpoint, Instant};
use millrace_wire::{TcpFlags, TcpOptions, TcpRepr};

use super::{Accepted, Conn, Host, Io, address_of};
use crate::dice::Dice;
use crate::packet::{Parsed, Segment, emit, parse};
use connection::{Connection, Stage};

/// Bytes of the IP and TCP headers without options.
const HEADERS_BYTES: [u16; 2] = [40, 60];
/// The first port that connections go out from.
const PORT_FIRST: u16 = 20_000;

/// What is chosen of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelPlan {
    pub(crate) mtu: u16,
    pub(crate) timestamps: bool,
    pub(crate) sack: bool,
    pub(crate) scale: Option<u8>,
    /// Bytes that may wait for the program.
    pub(crate) window: u32,
    /// Bytes that may wait to be acknowledged.
    pub(crate) send_buffer: usize,
    /// Acknowledges every second segment, and a single one after a while.
    pub(crate) delays_acks: bool,
    /// Forgets what lies behind a hole, although it was reported, in a million segments.
    pub(crate) reneges_ppm: u32,
}

/// The host.
#[derive(Debug)]
pub(crate) struct Model {
    plan: ModelPlan,
    address: Address,
    dice: Dice,
    listens_at: Option<u16>,
    connections: Vec<Connection>,
    next_conn: i32,
    next_port: u16,
    out: VecDeque<Vec<u8>>,
}

impl Model {
    pub(crate) fn new(node: usize, v6: bool, plan: &ModelPlan, secret: u64) -> Self {
        let mut dice = Dice::new(secret);
        Self {
            plan: *plan,
            address: address_of(node, v6),
            next_port: PORT_FIRST + dice.between(0, 20_000) as u16,
            dice,
            listens_at: None,
            connections: Vec::new(),
            next_conn: 0,
            out: VecDeque::new(),
        }
    }

    fn add(&mut self, local: Endpoint, remote: Endpoint, stage: Stage) -> &mut Connection {
        let headers = HEADERS_BYTES[usize::from(!self.address.is_v4())];
        let conn = Conn(self.next_conn);
        self.next_conn += 1;
        let mss = self.plan.mtu - headers;
        let (iss, clock) = (self.dice.word() as u32, self.dice.word() as u32);
        let connection =
            Connection::new(conn, [local, remote], stage, &self.plan, mss, [iss, clock]);
        self.connections.push(connection);
        self.connections.last_mut().expect("one was just pushed")
    }

    fn find(&mut self, conn: Conn) -> Option<&mut Connection> {
        let mut all = self.connections.iter_mut();
        all.find(|connection| connection.conn == conn)
    }

    /// Sends what every connection has to say, and forgets those that are over.
    fn settle(&mut self, now: Instant) {
        for connection in &mut self.connections {
            connection.transmit(now, &mut self.out);
        }
        self.connections.retain(|connection| !connection.is_over());
    }

    fn segment(&mut self, now: Instant, segment: &Segment<'_>) {
        let known = self
            .connections
            .iter_mut()
            .find(|connection| connection.local == segment.to && connection.remote == segment.from);
        let flags = segment.header.flags;
        if let Some(connection) = known {
            if self.dice.happens(self.plan.reneges_ppm) {
                connection.receiver.renege();
            }
            connection.handle(now, segment, &mut self.out);
        } else if flags.syn()
            && !flags.ack()
            && !flags.rst()
            && self.listens_at == Some(segment.to.port)
        {
            let child = self.add(segment.to, segment.from, Stage::SynReceived);
            child.accept_syn(now, segment);
        } else if !flags.rst() {
            self.refuse(segment);
        }
    }

    /// RFC 9293 section 3.10.7.1.
    fn refuse(&mut self, segment: &Segment<'_>) {
        let header = &segment.header;
        let space = segment.payload.len() as u32
            + u32::from(header.flags.syn())
            + u32::from(header.flags.fin());
        let (seq, ack, flags) = if header.flags.ack() {
            (header.ack, millrace_base::SeqNumber::new(0), TcpFlags::RST)
        } else {
            let zero = millrace_base::SeqNumber::new(0);
            (zero, header.seq.plus(space), TcpFlags::RST | TcpFlags::ACK)
        };
        let reset = TcpRepr {
            source_port: segment.to.port,
            destination_port: segment.from.port,
            seq,
            ack,
            flags,
            window: 0,
            urgent: 0,
            options: TcpOptions::default(),
        };
        let (from, to) = (segment.to.address, segment.from.address);
        self.out.push_back(emit(&reset, &[], from, to));
    }
}

impl Host for Model {
    fn packet_in(&mut self, now: Instant, packet: &[u8]) {
        if let Parsed::Tcp(segment) = parse(packet)
            && segment.to.address == self.address
        {
            self.segment(now, &segment);
            self.settle(now);
        }
    }

    fn packet_out(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Instant {
        let deadlines = self.connections.iter().map(Connection::next_deadline);
        deadlines.min().unwrap_or(Instant::NEVER)
    }

    fn advance(&mut self, now: Instant) {
        for connection in &mut self.connections {
            connection.advance(now);
        }
        self.settle(now);
    }

    fn listen(&mut self, _now: Instant, port: u16) {
        self.listens_at = Some(port);
    }

    fn stop_listening(&mut self, _now: Instant) {
        self.listens_at = None;
        // Nobody will take these.
        for connection in &mut self.connections {
            connection.abandon_unaccepted();
        }
    }

    fn connect(&mut self, now: Instant, to: Endpoint, _fast: bool) -> Option<(Conn, u16)> {
        self.next_port += 1;
        let local = Endpoint::new(self.address, self.next_port);
        let connection = self.add(local, to, Stage::SynSent);
        let opened = (connection.conn, local.port);
        self.settle(now);
        Some(opened)
    }

    fn accept(&mut self, _now: Instant) -> Option<Accepted> {
        let mut all = self.connections.iter_mut();
        let ready = all.find(|connection| connection.is_acceptable())?;
        ready.accepted = true;
        Some(Accepted {
            conn: ready.conn,
            port: ready.local.port,
            peer: ready.remote,
        })
    }

    fn write(&mut self, now: Instant, conn: Conn, bytes: &[u8]) -> Io {
        let room = self.plan.send_buffer;
        let Some(connection) = self.find(conn) else {
            return Io::Broken("gone".to_owned());
        };
        let done = connection.write(bytes, room);
        self.settle(now);
        done
    }

    fn read(&mut self, now: Instant, conn: Conn, len: usize, into: &mut Vec<u8>) -> Io {
        let Some(connection) = self.find(conn) else {
            return Io::Broken("gone".to_owned());
        };
        let done = connection.read(len, into);
        self.settle(now);
        done
    }

    fn shut_down(&mut self, now: Instant, conn: Conn) {
        if let Some(connection) = self.find(conn) {
            connection.sender.end();
        }
        self.settle(now);
    }

    fn close(&mut self, now: Instant, conn: Conn, abort: bool) {
        if let Some(connection) = self.find(conn) {
            connection.close(now, abort);
        }
        self.settle(now);
    }

    fn left_over(&self) -> Option<String> {
        let count = self.connections.len();
        (count > 0).then(|| format!("{count} connections of the model: {:?}", self.connections))
    }

    fn is_honest(&self) -> bool {
        // Whoever forgets what he has reported acknowledges nothing wrongly.
        true
    }
}
