//! Backends: they do what the first bytes of each connection ask for.

use millrace_base::{Endpoint, Instant, ListenerId};
use millrace_stack::{Event, FlowId, ListenOptions, Listener, Ready};

use super::{Node, SERVICE_PORT, address, payload};

/// What a request asks of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Reply {
    /// Reply at once; end the stream when the client has.
    AtHeader,
    /// Reply when the client's stream has ended, then end ours.
    AtEnd,
    /// Reply at once and end the stream; go on reading.
    AtHeaderThenClose,
    /// Reset the connection instead of replying.
    Reset,
    /// Say nothing.
    Nothing,
}

const HEADER_BYTES: usize = 9;

impl Reply {
    /// The first bytes of a request.
    pub(crate) fn header(self, number: u32, reply_bytes: u32) -> Vec<u8> {
        let mut header = number.to_le_bytes().to_vec();
        header.extend(reply_bytes.to_le_bytes());
        header.push(self as u8);
        header
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::AtHeader,
            1 => Self::AtEnd,
            2 => Self::AtHeaderThenClose,
            3 => Self::Reset,
            4 => Self::Nothing,
            other => panic!("no reply {other}: the bytes were changed on the way"),
        }
    }
}

pub(crate) struct Server {
    pub(crate) node: Node,
    pub(crate) sessions: Vec<ServerSession>,
    /// Frames neither leave nor arrive.
    pub(crate) silent: bool,
}

pub(crate) struct ServerSession {
    flow: FlowId,
    pub(crate) peer: Endpoint,
    pub(crate) received: Vec<u8>,
    /// The client's FIN came.
    pub(crate) ended: bool,
    /// The connection was reset by the other side.
    pub(crate) reset: bool,
    closed: bool,
    reply: Option<Reply>,
    to_send: Vec<u8>,
    sent: usize,
}

impl Server {
    pub(crate) const fn new(node: Node) -> Self {
        Self {
            node,
            sessions: Vec::new(),
            silent: false,
        }
    }

    pub(crate) fn listen(&mut self) {
        let listeners = [false, true].map(|v6| Listener {
            id: ListenerId::new(u16::from(v6)),
            address: address(self.host(), v6),
            port_first: SERVICE_PORT,
            port_last: SERVICE_PORT,
            options: ListenOptions::default(),
        });
        self.node.stack.set_listeners(&listeners);
    }

    /// New connections are refused with a RST.
    pub(crate) fn stop_listening(&mut self) {
        self.node.stack.set_listeners(&[]);
    }

    fn host(&self) -> u8 {
        self.node.mac.octets()[5]
    }

    pub(crate) fn turn(&mut self, now: Instant) {
        self.node.stack.advance(now, &mut self.node.pool);
        while let Some(event) = self.node.stack.poll_event() {
            self.on_event(now, event);
        }
        for session in &mut self.sessions {
            session.turn(now, &mut self.node);
        }
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        if event.ready.contains(Ready::ACCEPTED) {
            let info = self.node.stack.info(event.flow).expect("accepted");
            // 0 is what a flow has that nobody has claimed.
            self.node
                .stack
                .set_user(event.flow, self.sessions.len() as u64 + 1);
            self.sessions.push(ServerSession {
                flow: event.flow,
                peer: info.tuple.remote,
                received: Vec::new(),
                ended: false,
                reset: false,
                closed: false,
                reply: None,
                to_send: Vec::new(),
                sent: 0,
            });
        }
        let session = match event.user {
            0 => self.sessions.last_mut(),
            user => self.sessions.get_mut(user as usize - 1),
        };
        let failed = event.ready.intersects(Ready::RESET | Ready::TIMED_OUT);
        if let Some(session) = session.filter(|session| !session.closed) {
            // The last event comes when everything was read.
            session.ended |= event.ready.contains(Ready::CLOSED) && !failed;
            session.reset |= event.ready.contains(Ready::RESET);
            session.closed = failed;
            if failed {
                self.node.stack.close(now, session.flow);
            }
        }
    }
}

impl ServerSession {
    /// The request's number, once its header is there.
    pub(crate) fn number(&self) -> Option<u32> {
        let bytes = self.received.get(..4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Checks that the whole request came unchanged.
    pub(crate) fn assert_request_is(&self, body_bytes: usize) {
        let number = self.number().expect("a header");
        let expected = payload(u64::from(number), body_bytes);
        let received = &self.received[HEADER_BYTES..];
        assert_eq!(received.len(), expected.len(), "request {number}: length");
        assert!(received == expected, "request {number}: other bytes");
    }

    fn turn(&mut self, now: Instant, node: &mut Node) {
        if self.closed {
            return;
        }
        let mut buffer = [0; 16_384];
        loop {
            let received = node.stack.receive(now, self.flow, &mut buffer);
            self.received.extend_from_slice(&buffer[..received.bytes]);
            if received.bytes == 0 {
                self.ended |= received.end_of_stream;
                break;
            }
        }
        if self.reply.is_none() && self.received.len() >= HEADER_BYTES {
            self.prepare();
        }
        let ready = match self.reply {
            None | Some(Reply::Nothing) => false,
            Some(Reply::Reset) => {
                node.stack.abort(now, self.flow);
                self.closed = true;
                return;
            }
            Some(Reply::AtHeader | Reply::AtHeaderThenClose) => true,
            Some(Reply::AtEnd) => self.ended,
        };
        while ready && self.sent < self.to_send.len() {
            let rest = &self.to_send[self.sent..];
            let sent = node.stack.send(now, self.flow, rest, &mut node.pool);
            self.sent += sent;
            if sent == 0 {
                return;
            }
        }
        if self.reply == Some(Reply::AtHeaderThenClose) {
            node.stack.shutdown(now, self.flow);
        }
        if self.ended {
            node.stack.close(now, self.flow);
            self.closed = true;
        }
    }

    fn prepare(&mut self) {
        let number = u32::from_le_bytes(self.received[..4].try_into().expect("four bytes"));
        let bytes = u32::from_le_bytes(self.received[4..8].try_into().expect("four bytes"));
        self.reply = Some(Reply::from_byte(self.received[8]));
        self.to_send = payload(!u64::from(number), bytes as usize);
    }
}
