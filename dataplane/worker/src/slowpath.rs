//! The rings between one lcore and control: tables and commands in, events out, frames both ways.
//!
//! Work per look is bounded, so a control process that floods its rings delays packets by microseconds and no more. A ring
//! that control does not empty (it is dead, or slow) costs the lcore one failed push per item, and each is counted.

use millrace_base::{Instant, PacketBuf, PortId};
use millrace_dpdk::Mbuf;

use crate::counters::count;
use crate::poll::Lcore;
use crate::tag;

/// Commands taken per look.
const COMMANDS_PER_LOOK_MAX: usize = 64;
/// Frames sent for control per look: one transmit burst.
const INJECTED_PER_LOOK_MAX: usize = 32;
/// Events told per look; one page of `millrace show connections` is 64 rows.
const EVENTS_PER_LOOK_MAX: usize = 128;

impl Lcore {
    /// One look at every ring; tells whether control had something to say.
    pub(crate) fn serve_control(&mut self, now: Instant) -> bool {
        let mut worked = self.adopt(now);
        for _ in 0..COMMANDS_PER_LOOK_MAX {
            let Some(command) = self.shared.commands.pop() else {
                break;
            };
            worked = true;
            self.balancer.handle_command(now, &command, &mut self.stack);
        }
        for _ in 0..INJECTED_PER_LOOK_MAX {
            if !self.inject(now) {
                break;
            }
            worked = true;
        }
        self.tell(now);
        worked
    }

    /// Tells control what happened. An event that finds the ring full waits for the next look; the balancer's own queues
    /// behind it are bounded.
    fn tell(&mut self, now: Instant) {
        for _ in 0..EVENTS_PER_LOOK_MAX {
            let waiting = self.untold.take();
            let Some(event) = waiting.or_else(|| self.balancer.poll_report(now, &mut self.stack))
            else {
                break;
            };
            if self.shared.events.push(&event).is_err() {
                self.untold = Some(event);
                break;
            }
        }
    }

    /// Takes over the tables that control published, at a burst boundary and as a whole.
    fn adopt(&mut self, now: Instant) -> bool {
        let Some(tables) = self.shared.tables.poll() else {
            return false;
        };
        self.balancer
            .adopt(now, tables, &self.offloads, &mut self.stack);
        self.shared.tables.acknowledge();
        count!(self.counters.generations_adopted);
        true
    }

    /// Sends one frame for control; `false` when there is none.
    fn inject(&mut self, now: Instant) -> bool {
        let (pool, offloads) = (&mut self.pool, &self.offloads);
        let taken = self.shared.inject.pop(|port, _, bytes| {
            let offloads = offloads.get(port.index()).copied().unwrap_or_default();
            (port, tag::to_mbuf(pool, bytes, &offloads))
        });
        let Some((port, frame)) = taken else {
            return false;
        };
        count!(self.counters.frames_injected);
        let is_sent = match (frame, self.tx.get_mut(port.index())) {
            (Some(frame), Some(tx)) => {
                tx.make_room(now, &mut self.counters) && tx.push(frame).is_ok()
            }
            _ => false,
        };
        if !is_sent {
            count!(self.counters.frames_inject_dropped);
        }
        true
    }

    /// Gives a frame to control, without the tag of the port's VLAN. Only the first segment is shown; nothing that
    /// control looks at is longer.
    pub(crate) fn punt(&mut self, port: PortId, mut frame: Mbuf) {
        tag::take_off(&mut frame);
        match self.shared.punt.push(port, 0, frame.bytes()) {
            Ok(()) => count!(self.counters.frames_punted),
            Err(_) => count!(self.counters.frames_punt_dropped),
        }
    }
}
