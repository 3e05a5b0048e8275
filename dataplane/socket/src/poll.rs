//! What a file is ready for, and `poll`.
//!
//! Linux: `tcp_poll`, `inet_csk_listen_poll`, `do_poll`.

use millrace_stack::State;

use crate::call::{PollFd, Reply};
use crate::errno::Errno;
use crate::file::{Kind, SocketId};
use crate::linux::{
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EPOLLRDNORM, EPOLLWRNORM, POLLERR,
    POLLHUP, POLLNVAL,
};
use crate::sockets::Sockets;

impl Sockets {
    /// What a file is ready for now.
    pub(crate) fn ready_of(&mut self, kind: Kind) -> u32 {
        match kind {
            Kind::Socket(socket) => self.socket_ready(socket),
            Kind::Epoll(epoll) => self.epoll_ready(epoll),
            Kind::PipeReader(pipe) => self.pipe_ready(pipe, true),
            Kind::PipeWriter(pipe) => self.pipe_ready(pipe, false),
        }
    }

    /// One attempt at `poll`.
    pub(crate) fn try_poll(
        &mut self,
        fds: &mut [PollFd],
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        // Linux: as many as there may be open (`RLIMIT_NOFILE`).
        if fds.len() > self.config.fds_max {
            return Some(Err(Errno::EINVAL));
        }
        let mut found = false;
        for entry in fds.iter_mut() {
            entry.revents = 0;
            if entry.fd < 0 {
                continue;
            }
            let ready = match self.files.find(entry.fd) {
                Ok((_, file)) => self.ready_of(file.kind),
                Err(_) => POLLNVAL,
            };
            let asked = u32::from(entry.events) | POLLERR | POLLHUP | POLLNVAL;
            entry.revents = (ready & asked) as u16;
            found |= entry.revents != 0;
        }
        (found || last).then(|| Ok(Reply::Polled(fds.to_vec())))
    }

    fn socket_ready(&mut self, id: SocketId) -> u32 {
        let state = self.state(id);
        let (unread, room) = (self.unread(id), self.has_write_space(id));
        let at_mark = self.urgent_ahead(id) == Some(0);
        let opening = self.is_opening(id);
        let Some(socket) = self.sockets.get_mut(&id) else {
            return POLLNVAL;
        };
        if let Some(listening) = &socket.listening {
            return if listening.queue.is_empty() {
                0
            } else {
                EPOLLIN | EPOLLRDNORM
            };
        }
        let mut ready = 0;
        if (socket.shut.receive && socket.shut.send) || state == State::Closed {
            ready |= EPOLLHUP;
        }
        if socket.shut.receive {
            ready |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
        }
        // The first send opens the connection.
        if socket.fast_open.deferred {
            ready |= EPOLLOUT | EPOLLWRNORM;
        }
        if !opening {
            // An urgent byte at the front is not for an ordinary read.
            let skipped = usize::from(at_mark && !socket.options.oob_inline);
            if unread >= socket.options.receive_low_water.max(1) as usize + skipped {
                ready |= EPOLLIN | EPOLLRDNORM;
            }
            if socket.shut.send || room || state == State::Closed {
                ready |= EPOLLOUT | EPOLLWRNORM;
            } else {
                socket.no_space = true;
            }
            if socket.has_urgent_byte() {
                ready |= EPOLLPRI;
            }
        }
        if socket.error.is_some() || !socket.error_queue.is_empty() {
            ready |= EPOLLERR;
        }
        ready
    }
}
