//! Leaving without cutting anybody off: no new sessions, and those that exist may finish.
//!
//! Listeners are taken away first, so that a new SYN is refused by the stack (RST) before anything
//! is set up; what was accepted in the meantime is reset by `admission.rs`. How long to wait is the
//! caller's decision.

use millrace_base::{Instant, PacketPool};
use millrace_stack::Stack;

use crate::balancer::Balancer;
use crate::limits::RESETS_PER_CALL_MAX;
use crate::session::Cause;

impl Balancer {
    /// Begins to drain; there is no way back. Later snapshots are adopted without their listeners.
    pub fn drain<P: PacketPool>(&mut self, _now: Instant, stack: &mut Stack<P>) {
        self.draining = true;
        stack.set_listeners(&[]);
    }

    /// Resets sessions because patience is at its end, and tells whether some are left: transmit,
    /// then call again. One call resets `RESETS_PER_CALL_MAX` of them, because the stack queues
    /// only so many RSTs between two transmissions.
    #[must_use = "what is left is still connected"]
    pub fn reset_sessions<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>) -> bool {
        self.drain(now, stack);
        for _ in 0..RESETS_PER_CALL_MAX {
            // Nobody is admitted any more, so that slots once passed stay empty.
            let key = loop {
                if self.slots_reset as usize >= self.sessions.capacity() {
                    return false;
                }
                let slot = self.slots_reset;
                self.slots_reset = slot.saturating_add(1);
                if let Some(key) = self.sessions.key_at(slot) {
                    break key;
                }
            };
            self.abort(now, key, Cause::Drained, stack);
        }
        !self.sessions.is_empty()
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
