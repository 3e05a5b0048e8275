//! Calls that wait for readiness.

use libc::{c_int, nfds_t};
use millrace_socket::{Call, Errno, Reply};

use super::Host;
use crate::layout;
use crate::memory::Place;

/// Entries that `poll` takes: more descriptors than a host can have open.
const POLL_FDS_MAX: usize = 1 << 16;

impl Host {
    pub(crate) fn poll(&self, fds: Place, count: nfds_t, timeout_ms: c_int) -> Result<i64, Errno> {
        let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        if count > POLL_FDS_MAX {
            return Err(Errno::EINVAL);
        }
        let entries = layout::poll_fds(fds, count)?;
        let reply = self.call(Call::Poll {
            fds: entries,
            timeout_ms,
        })?;
        let value = reply.value();
        if let Reply::Polled(entries) = reply {
            layout::give_revents(&entries, fds)?;
        }
        Ok(value)
    }

    pub(crate) fn epoll_ctl(
        &self,
        epoll: c_int,
        operation: c_int,
        fd: c_int,
        event: Place,
    ) -> Result<(), Errno> {
        let event = if operation == libc::EPOLL_CTL_DEL || event.is_null() {
            None
        } else {
            Some(layout::epoll_event(event)?)
        };
        self.with(|state| {
            let now = state.now;
            state.sockets().epoll_ctl(now, epoll, operation, fd, event)
        })
    }

    pub(crate) fn epoll_wait(
        &self,
        fd: c_int,
        events: Place,
        events_max: c_int,
        timeout_ms: c_int,
    ) -> Result<i64, Errno> {
        let reply = self.call(Call::EpollWait {
            fd,
            events_max,
            timeout_ms,
        })?;
        let value = reply.value();
        if let Reply::Events(found) = reply {
            layout::give_events(&found, events)?;
        }
        Ok(value)
    }
}
