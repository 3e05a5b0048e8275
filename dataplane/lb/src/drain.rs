//! Leaving without cutting anybody off: no new sessions, and those that exist may finish.
//!
//! Listeners are taken away first, so that a new SYN is refused by the stack (RST) before anything
//! is set up; what was accepted in the meantime is reset by `admission.rs`. How long to wait is the
//! caller's decision.

use millrace_base::{Instant, PacketPool};
use millrace_stack::Stack;

use crate::balancer::Balancer;

impl Balancer {
    /// Begins to drain; there is no way back. Later snapshots are adopted without their listeners.
    pub fn drain<P: PacketPool>(&mut self, _now: Instant, stack: &mut Stack<P>) {
        self.draining = true;
        stack.set_listeners(&[]);
    }

    /// Whether `drain` was called and every session and probe has ended.
    ///
    /// The last bytes of ended sessions may still be in the stack's send queues: go on polling it
    /// for as long as its own connections live.
    pub fn is_drained(&self) -> bool {
        self.draining && self.sessions.is_empty() && self.probes.is_empty()
    }

    /// Whether `drain` was called.
    pub const fn is_draining(&self) -> bool {
        self.draining
    }
}
