//! `close`, lingering, and `shutdown`.
//!
//! Linux: `__tcp_close`, `inet_shutdown`.

use millrace_base::{Instant, Nanos};
use millrace_stack::State;

use crate::call::Reply;
use crate::errno::Errno;
use crate::file::{FileId, Kind, SocketId};
use crate::linux::{EPOLLHUP, EPOLLIN, EPOLLOUT, SHUT_RD, SHUT_RDWR, SHUT_WR};
use crate::news::ANYTHING;
use crate::outbox::Ending;
use crate::socket::Association;
use crate::sockets::{Sockets, is_opening};

impl Sockets {
    /// `shutdown`.
    pub fn shutdown(&mut self, now: Instant, fd: i32, how: i32) -> Result<(), Errno> {
        self.step_to(now);
        let id = self.files.socket(fd)?;
        // behaviour: STA-20
        let (receive, send) = match how {
            SHUT_RD => (true, false),
            SHUT_WR => (false, true),
            SHUT_RDWR => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        let state = self.state(id);
        let socket = self.get_mut(id)?;
        // behaviour: STA-24
        if socket.association == Association::Connecting {
            socket.association = if is_opening(state) || state == State::Closed {
                Association::Disconnecting
            } else {
                Association::Connected
            };
        }
        let mut result = Ok(());
        // behaviour: STA-22 STA-23
        if state == State::SynSent || (state == State::Listen && receive) {
            self.disconnect(id);
        } else if state != State::Listen {
            socket.shut.receive |= receive;
            socket.shut.send |= send;
            if let (true, Some(flow)) = (receive, socket.flow) {
                self.stack.shutdown_receiving(flow);
            }
            if send {
                self.shut_sending(id);
            }
            // behaviour: STA-21
            if state == State::Closed {
                result = Err(Errno::ENOTCONN);
            }
        }
        // behaviour: STA-25
        self.wake(id, ANYTHING);
        self.settle();
        result
    }

    /// One attempt at `close`; waits only for the FIN of a lingering socket.
    pub(crate) fn try_close(
        &mut self,
        fd: i32,
        begun: &mut bool,
        number: &mut usize,
        deadline: &mut Instant,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        if !core::mem::replace(begun, true) {
            let file = match self.files.take(fd) {
                Ok(file) => file,
                Err(error) => return Some(Err(error)),
            };
            let lingering = self.release_file(file);
            let Some((socket, until)) = lingering else {
                return Some(Ok(Reply::Done));
            };
            *number = socket.0 as usize;
            *deadline = until;
            return None;
        }
        let socket = SocketId(*number as u64);
        // behaviour: A25-13
        let waits = matches!(
            self.state(socket),
            State::FinWait1 | State::Closing | State::LastAck
        );
        let has_to_end = self.is_to_end(socket);
        if (waits || has_to_end) && !last {
            return None;
        }
        if !has_to_end || self.feed_to_the_end(socket, Ending::Closed) {
            self.bury_socket(socket);
        }
        Some(Ok(Reply::Done))
    }

    /// One reference to a file less; the last one closes it. A socket that lingers is returned with
    /// the time until which it does.
    pub(crate) fn release_file(&mut self, file: FileId) -> Option<(SocketId, Instant)> {
        let kind = self.files.release(file)?;
        self.forget_watches(file);
        match kind {
            Kind::Socket(socket) => return self.close_socket(socket),
            Kind::Epoll(epoll) => self.close_epoll(epoll),
            Kind::PipeReader(pipe) => self.close_pipe(pipe, true),
            Kind::PipeWriter(pipe) => self.close_pipe(pipe, false),
        }
        None
    }

    /// The last descriptor of a socket is closed.
    fn close_socket(&mut self, id: SocketId) -> Option<(SocketId, Instant)> {
        let state = self.state(id);
        if state == State::Listen {
            self.stop_listening(id);
        }
        self.repair_close(id);
        let unread = self.unread(id);
        let socket = self.sockets.get(&id)?;
        let (flow, linger) = (socket.flow, socket.options.linger);
        if let Some(flow) = flow {
            // behaviour: A25-8 A25-10. Unread data first: `close` of the stack resets then.
            if unread == 0 {
                match linger {
                    Some(0) => {
                        self.stack.close_without_lingering(self.now, flow);
                        self.let_go(id);
                    }
                    Some(seconds) if state.is_synchronized() => {
                        self.shut_sending(id);
                        let span = Nanos::from_millis(u64::from(seconds) * 1_000);
                        return Some((id, self.now.after(span)));
                    }
                    Some(_) | None => {
                        if !self.feed_to_the_end(id, Ending::Closed) {
                            return None;
                        }
                    }
                }
            }
        }
        self.bury_socket(id);
        None
    }

    /// Lets go of the connection and forgets the socket.
    pub(crate) fn bury_socket(&mut self, id: SocketId) {
        if let Some(flow) = self.let_go(id) {
            self.stack.close(self.now, flow);
        }
        self.release_port(id);
        self.sockets.remove(&id);
        self.publish_addresses_of_remains();
    }

    /// A FIN after everything written.
    fn shut_sending(&mut self, id: SocketId) {
        if let Ok(socket) = self.get_mut(id) {
            socket.shut.send = true;
        }
        if self.feed_to_the_end(id, Ending::Shut) {
            self.end(id, Ending::Shut);
        }
    }

    /// The stack has got everything that was written: our side ends.
    pub(crate) fn end(&mut self, id: SocketId, ending: Ending) {
        match ending {
            Ending::None => {}
            Ending::Shut => {
                if let Some(flow) = self.get(id).ok().and_then(|socket| socket.flow) {
                    self.stack.shutdown(self.now, flow);
                }
            }
            Ending::Closed => self.bury_socket(id),
        }
    }

    /// Addresses that only closed sockets were bound to go with their connections.
    fn publish_addresses_of_remains(&mut self) {
        if !self.has_remains() {
            self.publish_addresses();
        }
    }
}

/// What a watcher is told when its file goes away (`POLLFREE` has no number of its own).
pub(crate) const GONE: u32 = EPOLLHUP | EPOLLIN | EPOLLOUT;
