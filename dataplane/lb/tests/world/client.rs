//! Clients: each request is a connection that sends, closes its side or not, and keeps what comes
//! back.

use millrace_base::{Endpoint, FlowTuple, Instant};
use millrace_stack::{FlowId, Ready};

use super::server::Reply;
use super::{Node, address, payload};

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Bytes sent behind the header.
    pub(crate) body_bytes: usize,
    /// What the server shall do.
    pub(crate) reply: Reply,
    pub(crate) reply_bytes: usize,
    /// Close our side when everything is sent; otherwise when the whole reply is there.
    pub(crate) half_close: bool,
    /// Reset the connection as soon as this many bytes of the reply are there.
    pub(crate) abort_after_bytes: Option<usize>,
    /// Take no byte of the reply before this instant.
    pub(crate) read_from: Instant,
    /// Reset the connection at this instant if nothing has ended it before.
    pub(crate) give_up_at: Instant,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            body_bytes: 100,
            reply: Reply::AtHeader,
            reply_bytes: 1_000,
            half_close: false,
            abort_after_bytes: None,
            read_from: Instant::ZERO,
            give_up_at: Instant::NEVER,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The whole reply came, byte for byte, and then the end of the stream.
    Complete,
    /// The stream ended too early.
    Short,
    /// The balancer reset the connection.
    Reset,
    /// The connection failed otherwise.
    Failed,
    /// We reset the connection ourselves.
    Aborted,
}

pub(crate) struct Client {
    pub(crate) node: Node,
    pub(crate) exchanges: Vec<Exchange>,
}

pub(crate) struct Exchange {
    pub(crate) request: Request,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) received: Vec<u8>,
    pub(crate) connected: bool,
    flow: FlowId,
    to_send: Vec<u8>,
    sent: usize,
    closed_our_side: bool,
    /// The connection is gone in good order; everything was read before.
    gone: bool,
}

impl Client {
    pub(crate) const fn new(node: Node) -> Self {
        Self {
            node,
            exchanges: Vec::new(),
        }
    }

    /// Connects and returns the request's number.
    pub(crate) fn start(&mut self, now: Instant, to: Endpoint, request: Request) -> usize {
        let number = self.exchanges.len();
        let source = address(super::CLIENT, !to.address.is_v4());
        let local = Endpoint::new(source, 10_000 + number as u16);
        let tuple = FlowTuple { local, remote: to };
        let flow = self
            .node
            .stack
            .connect(now, tuple, number as u64)
            .expect("a connection");
        let mut to_send = request
            .reply
            .header(number as u32, request.reply_bytes as u32);
        to_send.extend(payload(number as u64, request.body_bytes));
        self.exchanges.push(Exchange {
            request,
            outcome: None,
            received: Vec::new(),
            connected: false,
            flow,
            to_send,
            sent: 0,
            closed_our_side: false,
            gone: false,
        });
        number
    }

    pub(crate) fn all_done(&self) -> bool {
        self.exchanges
            .iter()
            .all(|exchange| exchange.outcome.is_some())
    }

    pub(crate) fn unfinished(&self) -> Vec<(usize, usize, usize)> {
        let open = self
            .exchanges
            .iter()
            .enumerate()
            .filter(|(_, e)| e.outcome.is_none());
        open.map(|(number, e)| (number, e.sent, e.received.len()))
            .collect()
    }

    pub(crate) fn outcome(&self, number: usize) -> Option<Outcome> {
        self.exchanges[number].outcome
    }

    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.exchanges
            .iter()
            .filter(|exchange| exchange.outcome == Some(outcome))
            .count()
    }

    pub(crate) fn turn(&mut self, now: Instant) {
        self.node.stack.advance(now, &mut self.node.pool);
        while let Some(event) = self.node.stack.poll_event() {
            let exchange = &mut self.exchanges[event.user as usize];
            exchange.on_event(now, event.ready, &mut self.node);
        }
        for exchange in &mut self.exchanges {
            exchange.move_bytes(now, &mut self.node);
        }
    }
}

impl Exchange {
    fn on_event(&mut self, now: Instant, ready: Ready, node: &mut Node) {
        if self.outcome.is_some() {
            return;
        }
        self.connected |= ready.contains(Ready::CONNECTED);
        let failed =
            ready.intersects(Ready::RESET | Ready::REFUSED | Ready::TIMED_OUT | Ready::UNREACHABLE);
        if failed {
            let reset = ready.intersects(Ready::RESET | Ready::REFUSED);
            self.outcome = Some(if reset {
                Outcome::Reset
            } else {
                Outcome::Failed
            });
            node.stack.close(now, self.flow);
        } else {
            self.gone |= ready.contains(Ready::CLOSED);
        }
    }

    fn move_bytes(&mut self, now: Instant, node: &mut Node) {
        if self.outcome.is_some() {
            return;
        }
        if self.request.give_up_at.is_due(now) {
            node.stack.abort(now, self.flow);
            self.outcome = Some(Outcome::Aborted);
        }
        if self.outcome.is_some() || !self.connected {
            return;
        }
        self.send(now, node);
        if now < self.request.read_from {
            return;
        }
        let mut buffer = [0; 16_384];
        let ended = loop {
            let received = node.stack.receive(now, self.flow, &mut buffer);
            self.received.extend_from_slice(&buffer[..received.bytes]);
            if received.bytes == 0 {
                break received.end_of_stream || self.gone;
            }
        };
        if self
            .request
            .abort_after_bytes
            .is_some_and(|bytes| self.received.len() >= bytes)
        {
            node.stack.abort(now, self.flow);
            self.outcome = Some(Outcome::Aborted);
            return;
        }
        let whole = self.received.len() >= self.request.reply_bytes;
        if whole && self.sent == self.to_send.len() {
            self.close_our_side(now, node);
        }
        // A server may end its stream before we have said everything.
        if ended && (self.sent == self.to_send.len() || !whole) {
            let number = u32::from_le_bytes(self.to_send[..4].try_into().expect("a header"));
            let expected = payload(!u64::from(number), self.request.reply_bytes);
            assert!(
                expected.starts_with(&self.received),
                "request {number}: other bytes than the server sent"
            );
            self.outcome = Some(if whole {
                Outcome::Complete
            } else {
                Outcome::Short
            });
            node.stack.close(now, self.flow);
        }
    }

    fn send(&mut self, now: Instant, node: &mut Node) {
        while self.sent < self.to_send.len() {
            let rest = &self.to_send[self.sent..];
            let sent = node.stack.send(now, self.flow, rest, &mut node.pool);
            self.sent += sent;
            if sent == 0 {
                return;
            }
        }
        if self.request.half_close {
            self.close_our_side(now, node);
        }
    }

    fn close_our_side(&mut self, now: Instant, node: &mut Node) {
        if !self.closed_our_side {
            self.closed_our_side = true;
            node.stack.shutdown(now, self.flow);
        }
    }
}
