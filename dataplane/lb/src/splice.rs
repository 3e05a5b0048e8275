//! Bytes from one leg's receive queue to the other leg's send queue, by reference.
//!
//! Nothing is stored here. A full send buffer leaves the rest in the receive queue, the receive
//! window closes, and the sender slows down: back-pressure is TCP's own, end to end. A direction
//! moves when its source became readable or its destination became writable; both events come from
//! the stack, so that nothing needs to be polled.

use millrace_base::{Instant, Key, PacketPool, Stamp};
use millrace_stack::Stack;

use crate::balancer::Balancer;
use crate::counters::{Counters, count};
use crate::session::{EndStep, Leg, Session};
use crate::tables::Tables;

impl Balancer {
    /// Moves what can be moved from one leg to the other, and the end of the stream after it.
    pub(crate) fn pump<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        from: Leg,
        stack: &mut Stack<P>,
    ) {
        let Self {
            sessions,
            tables,
            counters,
            ..
        } = self;
        let Some(session) = sessions.get_mut(key) else {
            return;
        };
        if !session.is_streaming(from) {
            return;
        }
        let (source, sink) = (session.flow(from), session.flow(from.other()));
        let spliced = stack.splice(now, source, sink);
        if spliced.blocked {
            count!(counters.splices_blocked);
        }
        if spliced.bytes > 0 {
            session.moved = Stamp::of(now);
            account((session, from), u64::from(spliced.bytes), tables, counters);
        }
        if spliced.end_of_stream {
            self.on_end_of_stream(now, key, from, stack);
        }
    }

    /// Passes the end of a leg's stream on, or ends the session when the other's has ended before.
    pub(crate) fn on_end_of_stream<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        from: Leg,
        stack: &mut Stack<P>,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let sink = session.flow(from.other());
        match session.end_stream(from) {
            EndStep::PassOn => stack.shutdown(now, sink),
            EndStep::Finish => self.finish(now, key, stack),
            EndStep::Known => {}
        }
    }
}

/// Adds bytes that came from a leg to everybody's account.
#[inline]
fn account(
    (session, from): (&mut Session, Leg),
    bytes: u64,
    tables: &mut Tables,
    counters: &mut Counters,
) {
    let backend = tables.backends.get_mut(session.backend);
    match from {
        Leg::Client => {
            count!(session.bytes_in, bytes);
            count!(counters.bytes_in, bytes);
            if let Some(backend) = backend {
                count!(backend.bytes_in, bytes);
            }
        }
        Leg::Server => {
            count!(session.bytes_out, bytes);
            count!(counters.bytes_out, bytes);
            if let Some(backend) = backend {
                count!(backend.bytes_out, bytes);
            }
        }
    }
    if let Some(listener) = tables.listener_mut(session.listener) {
        match from {
            Leg::Client => count!(listener.bytes_in, bytes),
            Leg::Server => count!(listener.bytes_out, bytes),
        }
    }
}
