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
            return Ok(i32::from(self.urgent_ahead(id) == Some(0)));
        }
        if state == State::Listen {
            return Err(Errno::EINVAL);
        }
        if matches!(state, State::SynSent | State::SynReceived) {
            return Ok(0);
        }
        let bytes = match (request, self.info(id)) {
            (SIOCINQ, None) => self.unread(id) as u64,
            (_, None) => 0,
            // Up to the urgent byte, as a read would go.
            (SIOCINQ, Some(_)) => {
                let unread = self.unread(id) as u64;
                let inline = self.get(id)?.options.oob_inline;
                let ahead = self.urgent_ahead(id).filter(|_| !inline);
                ahead.map_or(unread, |ahead| ahead.min(unread))
            }
            // A FIN that is queued counts as a byte, as its sequence number does.
            (SIOCOUTQ, Some(info)) => self.queued(id) + u64::from(info.fin_queued),
            (_, Some(_)) => self.unsent(id),
        };
        i32::try_from(bytes).map_err(|_| Errno::EOVERFLOW)
    }
}
