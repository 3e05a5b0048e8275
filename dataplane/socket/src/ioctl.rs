//! `ioctl` on sockets: how much waits, which way.
//!
//! Linux: `tcp_ioctl`.

use millrace_stack::State;

use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{SIOCATMARK, SIOCINQ, SIOCOUTQ, SIOCOUTQNSD};
use crate::sockets::Sockets;

impl Sockets {
    /// The number a request writes back; `EINVAL` on a listening socket.
    pub(crate) fn socket_ioctl(&self, id: SocketId, request: u64) -> Result<i32, Errno> {
        let state = self.state(id);
        if !matches!(request, SIOCINQ | SIOCOUTQ | SIOCOUTQNSD | SIOCATMARK) {
            return Err(Errno::ENOTTY);
        }
        if request == SIOCATMARK {
            // Urgent data is in the stream, never apart from it.
            return Ok(0);
        }
        if state == State::Listen {
            return Err(Errno::EINVAL);
        }
        if matches!(state, State::SynSent | State::SynReceived) {
            return Ok(0);
        }
        let bytes = match (request, self.info(id)) {
            (_, None) => 0,
            (SIOCINQ, Some(info)) => u64::from(info.unread_bytes),
            // A FIN that is queued counts as a byte, as its sequence number does.
            (SIOCOUTQ, Some(info)) => self.queued(id) + u64::from(info.fin_queued),
            (_, Some(_)) => self.unsent(id),
        };
        i32::try_from(bytes).map_err(|_| Errno::EOVERFLOW)
    }
}
