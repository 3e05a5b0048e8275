//! Packets that the script sends into the stack.

use super::Runner;
use super::connection::{Connection, Stage};
use crate::ast::{Body, IcmpLine, IpFields, Packet, Service, TcpLine, flag};
use crate::failure::Stop;
use crate::fault::Position;
use crate::packet::{self, Quoted, Segment};
use crate::payload;

/// What a peer sends with, unless the script says otherwise.
const TTL: u8 = 255;

impl Runner<'_> {
    pub(super) fn inject(&mut self, packet: &Packet, at: Position) -> Result<(), Stop> {
        let bytes = match &packet.body {
            Body::Tcp(line) => self.segment(&packet.ip, line, at)?,
            Body::Icmp(line) => self.icmp(&packet.ip, line, at)?,
        };
        self.kernel.deliver(&bytes, self.settings.segment_bytes);
        self.settle()
    }

    fn segment(&mut self, ip: &IpFields, line: &TcpLine, at: Position) -> Result<Vec<u8>, Stop> {
        self.select_inbound(line);
        let scaled = self.settings.echoes_are_scaled;
        let Some(connection) = self.connection() else {
            return Err(Stop::script(at, "no socket is under test yet"));
        };
        connection.arrive(line);
        let (Some(local), Some(remote)) = (connection.local, connection.remote) else {
            return Err(Stop::script(
                at,
                "the socket under test has no peer and is not listening",
            ));
        };
        let mut segment = Segment {
            source: remote.0,
            destination: local.0,
            service: service(ip.service),
            ttl: ip.ttl.unwrap_or(TTL),
            flow_label: ip.flow_label.unwrap_or(0),
            source_port: remote.1,
            destination_port: local.1,
            seq: line.seq,
            ack: line.ack,
            flags: line.flags,
            window: line.window.unwrap_or(0),
            urgent: line.urgent,
            options: line.options.clone().unwrap_or_default(),
            payload: payload::bytes(
                stream_offset(line.flags, line.seq),
                usize::from(line.length),
            ),
        };
        if let Some((source, destination)) = line.ports {
            segment.source_port = source;
            segment.destination_port = destination;
        }
        let shown = segment.to_string();
        connection
            .to_wire(&mut segment, scaled)
            .map_err(|message| Stop::failed(at, message))?;
        self.note(&format!("< {shown}"));
        packet::emit(&segment).map_err(|message| Stop::script(at, message))
    }

    /// Puts the connection that a packet is for under test. A packet for a listening socket is the
    /// first of another connection, and so is a SYN from ports that no connection has.
    fn select_inbound(&mut self, line: &TcpLine) {
        if let Some((source, destination)) = line.ports {
            if self.select(destination, source) {
                return;
            }
            if line.flags & flag::SYN != 0 {
                return self.begin_passive(source, destination, line.seq);
            }
        }
        if self
            .connection()
            .is_none_or(|connection| connection.stage == Stage::Listening)
        {
            let port = self.peer_port;
            self.peer_port = port.checked_add(1).unwrap_or(1_024);
            self.begin_passive(port, self.settings.bind_port, line.seq);
        }
    }

    fn begin_passive(&mut self, from: u16, to: u16, isn: u32) {
        let mut connection = Connection::new(Stage::PeerCame, None);
        connection.remote = Some((self.settings.network.remote, from));
        connection.local = Some((self.settings.network.local, to));
        connection.remote_isn = isn;
        self.current = Some(self.connections.len());
        self.connections.push(connection);
    }

    /// Puts the connection with these ports under test; `false` when there is none.
    pub(super) fn select(&mut self, local: u16, remote: u16) -> bool {
        let has = |end: Option<(std::net::IpAddr, u16)>, port: u16| {
            end.is_some_and(|(_, known)| known == port)
        };
        let found = self
            .connections
            .iter()
            .rposition(|known| has(known.local, local) && has(known.remote, remote));
        self.current = found.or(self.current);
        found.is_some()
    }

    fn icmp(&mut self, ip: &IpFields, line: &IcmpLine, at: Position) -> Result<Vec<u8>, Stop> {
        let Some(connection) = self.connection() else {
            return Err(Stop::script(at, "no socket is under test yet"));
        };
        let (Some(local), Some(remote)) = (connection.local, connection.remote) else {
            return Err(Stop::script(
                at,
                "an ICMP error before the connection has a peer",
            ));
        };
        let (seq, length) = line.quoted.unwrap_or((0, 0));
        let quoted = Quoted {
            local,
            remote,
            seq: connection.live_local(seq),
            length,
            service: service(ip.service),
            ttl: ip.ttl.unwrap_or(TTL),
        };
        self.note(&format!(
            "< icmp {} {}",
            line.kind,
            line.code.as_deref().unwrap_or("")
        ));
        Ok(packet::emit_icmp(line, &quoted)?)
    }
}

impl Connection {
    /// A segment from the peer moves the handshake on.
    fn arrive(&mut self, line: &TcpLine) {
        let is = |flags: u16| line.flags & flags == flags;
        match self.stage {
            Stage::SynAckExpected if is(flag::ACK) => self.stage = Stage::PeerAcknowledged,
            Stage::SynExpected if is(flag::SYN | flag::ACK) => {
                self.stage = Stage::Answered;
                self.remote_isn = line.seq;
            }
            _ => {}
        }
        if is(flag::URG) {
            self.reads_out_of_line = true;
        }
    }
}

/// Where in the stream a segment's first byte is. The data of a SYN is the beginning.
pub(super) fn stream_offset(flags: u16, seq: u32) -> u64 {
    if flags & flag::SYN != 0 {
        0
    } else {
        u64::from(seq.wrapping_sub(1))
    }
}

fn service(service: Service) -> u8 {
    match service {
        Service::Unsaid | Service::EitherEct => 0,
        Service::Ecn(bits) => bits,
        Service::Byte(byte) => byte,
    }
}
