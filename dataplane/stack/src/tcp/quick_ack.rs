//! `TCP_QUICKACK`: whether ACKs wait for data to travel with. The flag is the same that the
//! connection sets and clears itself by what it sees (`ack.rs`), so it does not last.
//!
//! Linux: `__tcp_sock_set_quickack`.

use super::connection::Connection;
use super::state::State;

impl Connection {
    /// 0 lets ACKs wait. Anything else does not, and an ACK that waits leaves, if the program has
    /// read everything; an even number lets the next ones wait again.
    pub(crate) fn set_quick_ack(&mut self, value: i32) {
        if value == 0 {
            self.ack.start_ping_pong();
            return;
        }
        self.ack.end_ping_pong();
        let open = matches!(self.state, State::Established | State::CloseWait);
        if open && self.receive.is_empty() {
            self.hasten_ack();
        }
        if value & 1 == 0 {
            self.ack.start_ping_pong();
        }
    }

    /// An ACK that waits leaves now.
    pub(crate) fn hasten_ack(&mut self) {
        if !self.timers.delayed_ack.is_never() {
            self.ack.send_now();
        }
    }
}
