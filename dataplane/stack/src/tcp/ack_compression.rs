//! ACKs that tell of holes: the first few at once, so that the peer notices a loss, the rest held
//! back for a part of a round trip, so that a burst behind a hole does not cost an ACK each.
//!
//! Linux: `__tcp_ack_snd_check` and `tcp_compressed_ack_kick`. Held back is only what SACK can tell
//! later. One timer serves this and the delayed ACK: while something is missing no ACK of data in
//! order waits.

use millrace_base::{Nanos, PacketPool, SeqNumber, Stamp};

use super::chunk::Chunks;
use super::connection::Connection;
use super::segment::Env;
use crate::stats::count;

/// ACKs that tell of a hole at once (Linux: `TCP_FASTRETRANS_THRESH`).
const TOLD_AT_ONCE: u8 = 3;

/// The part of a round trip for which ACKs are held back at most: 5 %.
const ROUND_TRIP_SHARE: u64 = 20;

/// What is held back, beside the data that came out of order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Compression {
    /// RCV.NXT that the ACKs told of last.
    nxt: SeqNumber,
    /// ACKs that told of it at once.
    told: u8,
    /// ACKs that wait.
    held: u8,
}

impl Compression {
    /// Nothing was told yet.
    pub(super) const NONE: Self = Self {
        nxt: SeqNumber::new(0),
        told: 0,
        held: 0,
    };

    /// Whether one more ACK is held back, and not more than `most`.
    fn hold(&mut self, nxt: SeqNumber, most: u8) -> bool {
        if self.held >= most {
            return false;
        }
        if self.nxt != nxt {
            (self.nxt, self.told) = (nxt, 0);
        }
        if self.told < TOLD_AT_ONCE {
            self.told = self.told.saturating_add(1);
            return false;
        }
        self.held = self.held.saturating_add(1);
        true
    }
}

impl Connection {
    /// A segment came while something is missing, or was dropped; `advances` when some of it was next.
    //= https://www.rfc-editor.org/rfc/rfc5681#section-4.2
    //# A TCP receiver SHOULD send an immediate duplicate ACK when an out-of-order segment arrives.
    pub(super) fn tell_of_holes<P: PacketPool>(&mut self, env: &mut Env<'_, P>, advances: bool) {
        if !self.sack_permitted && !advances {
            return self.ack.send_duplicate();
        }
        if self.ack.due() > 0 {
            // It has not left yet, and will tell of this one too.
            return;
        }
        let unacked = self.window.nxt.bytes_since(self.window.acked);
        let is_due = unacked > u32::from(self.ack.receive_mss());
        let is_quick = self.ack.is_quick() || env.tunables.special.quick_ack;
        if is_due || is_quick || !self.sack_permitted {
            return self.ack.send_now();
        }
        let (nxt, most) = (self.window.nxt, env.tunables.tcp_comp_sack_nr);
        let compression = self.reassembly.compression_mut(env.chunks);
        if compression.is_some_and(|compression| compression.hold(nxt, most)) {
            self.delay_compressed(env);
        } else {
            self.ack.send_now();
        }
    }

    /// ACKs that are held back leave together after a while.
    #[cold]
    pub(super) fn delay_compressed<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let held = self.held_acks(env.chunks);
        if held == 0 {
            return;
        }
        let most = u64::from(env.tunables.tcp_comp_sack_delay_ns);
        let delay = (self.round_trip_ns() / ROUND_TRIP_SHARE).min(most);
        let slack = u64::from(env.tunables.tcp_comp_sack_slack_ns);
        let at = env.now.after(Nanos::new(delay.saturating_add(slack)));
        let at = Stamp::not_before(at);
        let is_free = self.timers.delayed_ack.is_never();
        // A paced burst may leave much later; its time is set again behind the ACK.
        let is_too_late =
            self.timers.delayed_ack.instant() > at.instant() && self.is_timer_for_pace(env.chunks);
        if is_free || is_too_late {
            self.timers.delayed_ack = at;
        }
    }

    fn held_acks<B>(&self, chunks: &mut Chunks<B>) -> u8 {
        let compression = self.reassembly.compression_mut(chunks);
        compression.map_or(0, |compression| compression.held)
    }

    /// More ranges than an ACK may have room for: those that are held back leave now (Linux:
    /// `tcp_sack_compress_send_ack`).
    #[cold]
    pub(super) fn hasten_compressed<B>(&mut self, chunks: &mut Chunks<B>) {
        if self.held_acks(chunks) > 0 {
            self.ack.send_now();
        }
    }

    /// The time is up: the last of those that are held back leaves, the others are spared. `false`
    /// when none is.
    pub(super) fn fire_compressed<B>(&mut self, chunks: &mut Chunks<B>) -> bool {
        let Some(compression) = self.reassembly.compression_mut(chunks) else {
            return false;
        };
        let fires = compression.held > 0;
        compression.held = compression.held.saturating_sub(1);
        fires
    }

    /// An ACK told of everything.
    #[cold]
    pub(super) fn end_compression<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        self.timers.delayed_ack = Stamp::NEVER;
        if let Some(compression) = self.reassembly.compression_mut(env.chunks) {
            let held = core::mem::take(&mut compression.held);
            count!(env.stats.tcp_ack_compressed, u64::from(held));
        }
    }
}

#[cfg(test)]
mod tests;
