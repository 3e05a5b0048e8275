//! What a listener may do before it hands connections out: let them wait for their first data
//! (`TCP_DEFER_ACCEPT`; the stack does it, here is the arithmetic) and keep their SYN
//! (`TCP_SAVE_SYN`).

use millrace_base::FlowTuple;

use crate::errno::Errno;
use crate::file::SocketId;
use crate::header::{ACK, Header, SYN};
use crate::sockets::Sockets;

/// SYNs that wait for their connection.
const SYNS_MAX: usize = 4_096;
/// The first timeout of a SYN-ACK and the longest, in seconds.
const TIMEOUT_FIRST_SECS: u64 = 1;
const TIMEOUT_MAX_SECS: u64 = 120;

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
}

#[cfg(test)]
mod tests {
    use super::*;

    // behaviour: OPT-10, X3-6
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
