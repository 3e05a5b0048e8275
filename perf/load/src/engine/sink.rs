//! The sink: accepts, reads requests and answers them with as many bytes as are wanted.
//!
//! HTTP: `/bytes/N` is answered with N bytes, any other path with the configured number; request
//! bodies are swallowed and answered once they are complete. Raw: every so many bytes are answered
//! with so many. The sink never closes first unless HTTP says so.

mod reply;

use std::sync::Arc;

use arrayvec::ArrayVec;
use millrace_base::{Instant, PacketPool};
use millrace_stack::{Event, FlowId, Ready, Stack};

use crate::counters::Counters;
use crate::engine::{Engine, Protocol};
use crate::http::{HeadReader, write_head};
use crate::message::Message;
use crate::ring::Ring;

use reply::{Group, Reply, send_reply};

/// Groups of equal replies that may be under way on one connection. A client that asks for more
/// different sizes before it reads is cut off.
const REPLY_GROUPS_MAX: usize = 8;

/// Replies under way on one connection beyond which nothing more is read from it.
const REPLIES_MAX: u32 = 1_024;

/// Bytes read at once.
const SCRATCH_BYTES: usize = 65_536;

/// Connections reset in one turn when all must end.
const RESETS_PER_TURN_MAX: usize = 64;

/// What a sink does.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// Connections at once, at most.
    pub connections: usize,
    /// How requests and answers look.
    pub protocol: Protocol,
    /// Bytes of an answer whose size is not asked for; HTTP only.
    pub response_bytes: u64,
}

#[derive(Clone, Debug)]
struct Connection {
    flow: FlowId,
    reader: HeadReader,
    /// The request whose body is being swallowed.
    pending: Option<Reply>,
    /// Bytes of that body, or of a raw request, that are still to come.
    body_left: u64,
    replies: ArrayVec<Group, REPLY_GROUPS_MAX>,
    /// Bytes of the first reply that are queued.
    position: u64,
    /// Nothing more is read: the last request was answered, or the peer has closed.
    is_last: bool,
    /// Input waits in the stack until replies have left.
    is_held: bool,
}

/// An answering sink on one stack.
#[derive(Debug)]
pub struct Sink {
    config: SinkConfig,
    standard: Message,
    filler: Message,
    connections: Box<[Connection]>,
    idle: Ring<u32>,
    scratch: Box<[u8]>,
    is_ending: bool,
    /// Where the last resets go on.
    reset_at: usize,
    counters: Arc<Counters>,
}

impl Sink {
    /// A sink that answers what its stack's listeners accept. Takes all memory it will ever use.
    pub fn new(config: SinkConfig, counters: Arc<Counters>) -> Self {
        let count = config.connections.clamp(1, u32::MAX as usize);
        let mut idle = Ring::new(count);
        (0..count as u32).for_each(|index| {
            idle.push(index);
        });
        let standard = match config.protocol {
            Protocol::Http => {
                let head = write_head("200 OK", config.response_bytes, false);
                Message::new(head.as_bytes(), config.response_bytes)
            }
            Protocol::Raw { response_bytes, .. } => Message::new(b"", response_bytes),
        };
        counters.running.set(1);
        Self {
            standard,
            filler: Message::new(b"", u64::MAX),
            connections: vec![Connection::NONE; count].into_boxed_slice(),
            idle,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            is_ending: false,
            reset_at: 0,
            counters,
            config,
        }
    }

    fn accept<P: PacketPool>(
        &mut self,
        now: Instant,
        flow: FlowId,
        stack: &mut Stack<P>,
    ) -> Option<u32> {
        let Some(index) = self.idle.pop() else {
            self.counters.no_slot.add(1);
            stack.abort(now, flow);
            return None;
        };
        if let Some(connection) = self.connections.get_mut(index as usize) {
            *connection = Connection {
                flow,
                body_left: match self.config.protocol {
                    Protocol::Http => 0,
                    Protocol::Raw { request_bytes, .. } => request_bytes.max(1),
                },
                ..Connection::NONE
            };
        }
        // 0 says that nobody has taken the connection on: shift by one.
        stack.set_user(flow, u64::from(index).saturating_add(1));
        self.counters.opened.add(1);
        self.counters.in_flight.add(1);
        Some(index)
    }

    /// Reads requests as long as their replies leave, too.
    fn serve<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let mut scratch = core::mem::take(&mut self.scratch);
        // Ends: a receive queue is bounded, and nothing joins it meanwhile.
        while let Some(connection) = self.live_mut(index) {
            let flow = connection.flow;
            connection.is_held = connection.reply_count() >= REPLIES_MAX;
            if connection.is_held || connection.is_last {
                break;
            }
            let received = stack.receive(now, flow, &mut scratch);
            self.counters.bytes_in.add(received.bytes as u64);
            let bytes = scratch.get(..received.bytes).unwrap_or_default();
            if !self.take(index, bytes) {
                self.counters.bad_answers.add(1);
                stack.abort(now, flow);
                self.forget(index);
                break;
            }
            if received.end_of_stream
                && let Some(connection) = self.live_mut(index)
            {
                connection.is_last = true;
            }
            self.flush(now, index, stack, pool);
            if received.bytes < scratch.len() {
                break;
            }
        }
        self.scratch = scratch;
    }

    /// Takes received bytes apart into requests; `false` when the client asks for more than is kept
    /// track of.
    fn take(&mut self, index: u32, bytes: &[u8]) -> bool {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return false;
        };
        let arrived = match self.config.protocol {
            Protocol::Raw { request_bytes, .. } => connection.take_raw(bytes, request_bytes.max(1)),
            Protocol::Http => connection.take_http(bytes, self.config.response_bytes),
        };
        self.counters.requests.add(arrived.unwrap_or(0));
        arrived.is_some()
    }

    /// Queues replies as far as there is room.
    fn flush<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        while let Some(group) = connection.replies.first_mut() {
            let (queued, is_all) = {
                let mut send = |piece: &[u8]| stack.send(now, connection.flow, piece, pool);
                send_reply(
                    group.reply,
                    &mut connection.position,
                    (&self.standard, &self.filler),
                    &mut send,
                )
            };
            self.counters.bytes_out.add(queued);
            if !is_all {
                return;
            }
            connection.position = 0;
            group.count = group.count.saturating_sub(1);
            let reply = group.reply;
            if group.count == 0 {
                connection.replies.remove(0);
            }
            if reply != Reply::Continue {
                self.counters.responses.add(1);
                self.counters.operations.add(1);
            }
            connection.is_last |= reply.ends_connection();
        }
        if connection.is_last {
            stack.close(now, connection.flow);
            self.counters.closed.add(1);
            self.forget(index);
        }
    }

    fn forget(&mut self, index: u32) {
        if let Some(connection) = self.live_mut(index) {
            *connection = Connection::NONE;
            self.idle.push(index);
            self.counters.in_flight.subtract(1);
        }
    }

    fn live_mut(&mut self, index: u32) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(index as usize)?;
        (connection.flow != FlowId::NONE).then_some(connection)
    }
}

impl Engine for Sink {
    fn on_event<P: PacketPool>(
        &mut self,
        now: Instant,
        event: &Event,
        stack: &mut Stack<P>,
        pool: &mut P,
    ) {
        let known = u32::try_from(event.user).unwrap_or(0).checked_sub(1);
        let index = match known {
            Some(index) => index,
            None if self.is_ending => return stack.abort(now, event.flow),
            None => match self.accept(now, event.flow, stack) {
                Some(index) => index,
                None => return,
            },
        };
        let is_live =
            |sink: &mut Self| sink.live_mut(index).is_some_and(|it| it.flow == event.flow);
        if !is_live(self) {
            return;
        }
        let ready = event.ready;
        if ready.contains(Ready::WRITABLE) {
            self.flush(now, index, stack, pool);
        }
        let was_held = self.live_mut(index).is_some_and(|it| it.is_held);
        if is_live(self) && (was_held || ready.intersects(Ready::READABLE | Ready::PEER_CLOSED)) {
            self.serve(now, index, stack, pool);
        }
        if !is_live(self) {
            return;
        }
        let failed = Ready::RESET | Ready::TIMED_OUT | Ready::UNREACHABLE | Ready::CLOSED;
        if ready.intersects(failed) {
            self.on_lost(now, index, ready, stack);
        }
    }

    fn advance<P: PacketPool>(&mut self, _now: Instant, _stack: &mut Stack<P>, _pool: &mut P) {}

    fn set_rate(&mut self, _now: Instant, _rate: f64) {}

    fn wind_down(&mut self) {
        self.is_ending = true;
    }

    fn is_quiet(&self) -> bool {
        self.counters.in_flight.value() == 0
    }

    fn reset_some<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>) -> bool {
        let mut left = RESETS_PER_TURN_MAX;
        // Ends: nothing is accepted behind the cursor any more.
        while left > 0 && self.reset_at < self.connections.len() {
            let index = self.reset_at as u32;
            self.reset_at = self.reset_at.saturating_add(1);
            if let Some(connection) = self.live_mut(index) {
                let flow = connection.flow;
                stack.abort(now, flow);
                self.forget(index);
                left = left.saturating_sub(1);
            }
        }
        !self.is_quiet()
    }
}

impl Sink {
    /// A connection that ended without us. A reset between two requests is one way to close.
    fn on_lost<P: PacketPool>(
        &mut self,
        now: Instant,
        index: u32,
        ready: Ready,
        stack: &mut Stack<P>,
    ) {
        let Some(connection) = self.live_mut(index) else {
            return;
        };
        let (flow, is_busy) = (connection.flow, connection.is_busy());
        let counter = if ready.contains(Ready::TIMED_OUT) {
            &self.counters.timeouts
        } else if ready.contains(Ready::UNREACHABLE) {
            &self.counters.unreachable
        } else if is_busy {
            &self.counters.resets
        } else {
            &self.counters.closed
        };
        counter.add(1);
        stack.abort(now, flow);
        self.forget(index);
    }
}

impl Connection {
    const NONE: Self = Self {
        flow: FlowId::NONE,
        reader: HeadReader::NONE,
        pending: None,
        body_left: 0,
        replies: ArrayVec::new_const(),
        position: 0,
        is_last: false,
        is_held: false,
    };

    /// `None` when there are too many groups.
    fn take_raw(&mut self, bytes: &[u8], request_bytes: u64) -> Option<u64> {
        let mut left = bytes.len() as u64;
        let mut arrived = 0u64;
        if left >= self.body_left {
            left = left.saturating_sub(self.body_left);
            arrived = left.checked_div(request_bytes)?.saturating_add(1);
            left = left.checked_rem(request_bytes)?;
            self.body_left = request_bytes;
        }
        self.body_left = self.body_left.saturating_sub(left);
        let count = u32::try_from(arrived).unwrap_or(u32::MAX);
        (count == 0 || self.owe(Reply::Standard, count)).then_some(arrived)
    }

    fn take_http(&mut self, bytes: &[u8], response_bytes: u64) -> Option<u64> {
        let mut rest = bytes;
        let mut arrived = 0u64;
        loop {
            if let Some(reply) = self.pending {
                let used =
                    usize::try_from(self.body_left).map_or(rest.len(), |left| left.min(rest.len()));
                rest = rest.get(used..).unwrap_or_default();
                self.body_left = self.body_left.saturating_sub(used as u64);
                if self.body_left > 0 {
                    return Some(arrived);
                }
                self.pending = None;
                arrived = arrived.saturating_add(1);
                if !self.owe(reply, 1) {
                    return None;
                }
                if reply.ends_connection() {
                    return Some(arrived);
                }
            }
            if rest.is_empty() {
                return Some(arrived);
            }
            let head = match self.reader.feed(rest) {
                Ok((_, None)) => return Some(arrived),
                Ok((used, Some(head))) => {
                    rest = rest.get(used..).unwrap_or_default();
                    head
                }
                Err(_) => return self.owe(Reply::BadRequest, 1).then_some(arrived),
            };
            let reply = Reply::to(&head, response_bytes);
            let waits = head.expects_continue && reply != Reply::BadRequest;
            if waits && !self.owe(Reply::Continue, 1) {
                return None;
            }
            self.body_left = head.content_length.unwrap_or(0);
            self.pending = Some(reply);
        }
    }

    fn owe(&mut self, reply: Reply, count: u32) -> bool {
        if let Some(last) = self.replies.last_mut()
            && last.reply == reply
        {
            last.count = last.count.saturating_add(count);
            return true;
        }
        self.replies.try_push(Group { reply, count }).is_ok()
    }

    fn reply_count(&self) -> u32 {
        let counts = self.replies.iter().map(|group| group.count);
        counts.fold(0, u32::saturating_add)
    }

    /// Whether a request is being read or answered.
    fn is_busy(&self) -> bool {
        !self.replies.is_empty() || self.pending.is_some() || self.reader.is_inside()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(text: &str) -> (Option<u64>, Vec<Group>) {
        let mut connection = Connection::NONE;
        let arrived = connection.take_http(text.as_bytes(), 9);
        (arrived, connection.replies.to_vec())
    }

    #[test]
    fn requests_are_answered_by_what_they_ask_for() {
        let text = "GET / HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\nHost: y\r\n\r\n\
                    PUT /bytes/5 HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc\
                    HEAD / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let (arrived, replies) = requests(text);
        // What follows the request that closes is not looked at.
        assert_eq!(arrived, Some(4));
        let group = |reply, count| Group { reply, count };
        let sized = Reply::Sized {
            body: 5,
            closes: false,
        };
        let head = Reply::HeadOnly {
            length: 9,
            closes: true,
        };
        let expected = [
            group(Reply::Standard, 2),
            group(Reply::Continue, 1),
            group(sized, 1),
            group(head, 1),
        ];
        assert_eq!(replies, expected);
    }

    #[test]
    fn garbage_is_answered_and_ends_the_connection() {
        let (_, replies) = requests("\x16\x03\x01 hello\r\n");
        assert_eq!(
            replies.first().map(|group| group.reply),
            Some(Reply::BadRequest)
        );
        assert!(Reply::BadRequest.ends_connection());
    }

    #[test]
    fn more_different_sizes_than_are_kept_track_of_are_refused() {
        let text: String = (0..=REPLY_GROUPS_MAX)
            .map(|size| format!("GET /bytes/{size} HTTP/1.1\r\n\r\n"))
            .collect();
        assert_eq!(requests(&text).0, None);
    }

    #[test]
    fn raw_requests_are_counted_across_any_cut() {
        for piece in 1..40 {
            let mut connection = Connection {
                body_left: 7,
                ..Connection::NONE
            };
            let total: u64 = [0u8; 7 * 11 + 3]
                .chunks(piece)
                .map(|bytes| connection.take_raw(bytes, 7).expect("one group"))
                .sum();
            assert_eq!((total, connection.reply_count()), (11, 11), "{piece}");
            assert_eq!(connection.body_left, 4);
        }
    }
}
