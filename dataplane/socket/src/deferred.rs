//! What a listener may do with connections before it hands them out: wait for their first data
//! (`TCP_DEFER_ACCEPT`) and keep their SYN (`TCP_SAVE_SYN`).
//!
//! Linux keeps a deferred connection half-open and sends its SYN-ACK again; here it is complete and
//! waits beside the accept queue, for the same time. What a program sees is the same.

use millrace_base::{FlowTuple, Instant, Nanos};

use crate::errno::Errno;
use crate::file::SocketId;
use crate::header::{ACK, Header, SYN};
use crate::news::DATA_READY;
use crate::sockets::Sockets;

/// SYNs that wait for their connection.
const SYNS_MAX: usize = 4_096;
/// The first timeout of a SYN-ACK and the longest, in seconds.
const TIMEOUT_FIRST_SECS: u64 = 1;
const TIMEOUT_MAX_SECS: u64 = 120;

/// A connection that waits for data before it is handed out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deferred {
    pub(crate) child: SocketId,
    pub(crate) until: Instant,
}

/// Seconds as a number of SYN-ACK timeouts (`secs_to_retrans`).
pub(crate) fn timeouts_of(seconds: u64) -> u8 {
    if seconds == 0 {
        return 0;
    }
    let (mut count, mut timeout, mut period) = (1u8, TIMEOUT_FIRST_SECS, TIMEOUT_FIRST_SECS);
    while seconds > period && count < u8::MAX {
        count += 1;
        timeout = (timeout * 2).min(TIMEOUT_MAX_SECS);
        period += timeout;
    }
    count
}

/// The way back (`retrans_to_secs`).
pub(crate) fn seconds_of(timeouts: u8) -> u64 {
    let (mut timeout, mut period) = (TIMEOUT_FIRST_SECS, 0);
    for _ in 0..timeouts {
        period += timeout;
        timeout = (timeout * 2).min(TIMEOUT_MAX_SECS);
    }
    period
}

impl Sockets {
    /// Whether a new connection of a listener has to wait for data; until when.
    pub(crate) fn deferral(&self, listener: SocketId, child: SocketId) -> Option<Instant> {
        let timeouts = self.get(listener).ok()?.options.defer_accept;
        if timeouts == 0 || self.is_worth_accepting(child) {
            return None;
        }
        let span = Nanos::from_millis(seconds_of(timeouts) * 1_000);
        Some(self.now.after(span))
    }

    /// Hands out the deferred connections whose data, end or time has come.
    pub(crate) fn release_deferred(&mut self) -> bool {
        let listeners = self.sockets.iter().filter(|(_, socket)| {
            let listening = socket.listening.as_ref();
            listening.is_some_and(|listening| !listening.deferred.is_empty())
        });
        let listeners: Vec<SocketId> = listeners.map(|(id, _)| *id).collect();
        let mut moved = false;
        for listener in listeners {
            let Some(waiting) = self.take_deferred(listener) else {
                continue;
            };
            let now = self.now;
            let (ready, waiting): (Vec<Deferred>, Vec<Deferred>) = waiting
                .into_iter()
                .partition(|one| one.until.is_due(now) || self.is_worth_accepting(one.child));
            let listening = self
                .sockets
                .get_mut(&listener)
                .and_then(|s| s.listening.as_mut());
            if let Some(listening) = listening {
                listening.deferred = waiting;
                listening.queue.extend(ready.iter().map(|one| one.child));
            }
            if !ready.is_empty() {
                moved = true;
                self.wake(listener, DATA_READY);
            }
        }
        moved
    }

    /// When the first deferred connection has waited long enough.
    pub(crate) fn next_deferred(&self) -> Instant {
        let listening = self.sockets.values().filter_map(|s| s.listening.as_ref());
        let until = listening.flat_map(|listening| listening.deferred.iter().map(|one| one.until));
        until.min().unwrap_or(Instant::NEVER)
    }

    /// Keeps the headers of a SYN for a listener that wants them.
    pub(crate) fn keep_syn(&mut self, header: &Header, packet: &[u8]) {
        if header.flags & (SYN | ACK) != SYN {
            return;
        }
        let owner = self.owner_of(header.destination, header.source);
        let wanted = owner.is_some_and(|id| self.get(id).is_ok_and(|s| s.options.save_syn != 0));
        if !wanted {
            return;
        }
        if self.syns.len() >= SYNS_MAX {
            self.syns.pop_first();
        }
        let tuple = FlowTuple {
            local: header.destination,
            remote: header.source,
        };
        let headers = packet.get(..header.payload).unwrap_or_default();
        self.syns.insert(tuple, headers.to_vec());
    }

    /// `TCP_SAVED_SYN`: told once; `EINVAL` when there is no room for it.
    pub(crate) fn saved_syn(&mut self, id: SocketId, len: usize) -> Result<Vec<u8>, Errno> {
        let socket = self.get_mut(id)?;
        let saved = socket.saved_syn.take().unwrap_or_default();
        if saved.len() > len {
            socket.saved_syn = Some(saved);
            return Err(Errno::EINVAL);
        }
        Ok(saved)
    }

    fn take_deferred(&mut self, listener: SocketId) -> Option<Vec<Deferred>> {
        let listening = self.sockets.get_mut(&listener)?.listening.as_mut()?;
        Some(core::mem::take(&mut listening.deferred))
    }

    /// Data waits, or nothing more will come.
    fn is_worth_accepting(&self, child: SocketId) -> bool {
        let Ok(socket) = self.get(child) else {
            return true;
        };
        let ended = socket.done || socket.error.is_some() || socket.flow.is_none();
        ended || self.unread(child) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // behaviour: OPT-10
    #[test]
    fn seconds_become_timeouts_and_come_back_rounded_up() {
        for (seconds, timeouts, back) in [(0, 0, 0), (1, 1, 1), (2, 2, 3), (5, 3, 7), (30, 5, 31)] {
            assert_eq!(timeouts_of(seconds), timeouts, "{seconds}");
            assert_eq!(seconds_of(timeouts), back);
        }
        assert_eq!(timeouts_of(u64::MAX), 255);
        assert_eq!(seconds_of(8), 127 + 120);
    }
}
