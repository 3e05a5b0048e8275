//! Who gets a session.
//!
//! The checks are ordered by cost, the cheapest refusal first, and all come before a backend is
//! picked or a port taken: under overload new work is shed early and what is established goes on.
//! Every refusal is a RST to the client and a counter that names the reason. How many may be
//! half-open is the stack's business (`ListenOptions::backlog`).

use millrace_base::{Instant, ListenerId, PacketPool};
use millrace_stack::{FlowId, Ready, Stack};

use crate::balancer::Balancer;
use crate::counters::count;
use crate::session::Session;
use crate::user::Owner;

impl Balancer {
    /// Takes charge of a connection that the stack accepted: a session, or a reset.
    pub(crate) fn on_accepted<P: PacketPool>(
        &mut self,
        now: Instant,
        client: FlowId,
        listener: ListenerId,
        ready: Ready,
        stack: &mut Stack<P>,
    ) {
        count!(self.counters.sessions_accepted);
        if ready.contains(Ready::RESET) || ready.contains(Ready::TIMED_OUT) {
            count!(self.counters.clients_gone_early);
            stack.abort(now, client);
            return;
        }
        if self.is_draining() {
            count!(self.counters.refused_draining);
            return self.refuse(now, client, listener, stack);
        }
        let Ok(key) = self.sessions.insert(Session::new(client, listener, now)) else {
            count!(self.counters.refused_sessions_max);
            return self.refuse(now, client, listener, stack);
        };
        stack.set_user(client, Owner::Client(key).to_bits());
        if let Some(row) = self.tables.listener_mut(listener) {
            count!(row.sessions);
            row.active = row.active.saturating_add(1);
        }
        count!(self.counters.sessions_active);
        count!(self.counters.sessions_connecting);
        self.connect_next(now, key, stack);
    }

    fn refuse<P: PacketPool>(
        &mut self,
        now: Instant,
        client: FlowId,
        listener: ListenerId,
        stack: &mut Stack<P>,
    ) {
        if let Some(row) = self.tables.listener_mut(listener) {
            count!(row.refused);
        }
        stack.abort(now, client);
    }
}
