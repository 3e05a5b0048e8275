//! Pipes, and `splice` between a pipe and a socket or another pipe.
//!
//! A pipe here is what `splice` needs: bytes in order, at most 64 KiB, non-blocking or not. Packet
//! mode (`O_DIRECT`) is not offered.

use std::collections::VecDeque;

use crate::call::{Received, Reply};
use crate::epoll::Watch;
use crate::errno::Errno;
use crate::file::{File, Kind, PipeId, SocketId};
use crate::linux::{
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM, F_GETPIPE_SZ, F_SETPIPE_SZ,
    FIONREAD, MSG_MORE, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_WRONLY, SPLICE_F_GIFT, SPLICE_F_MORE,
    SPLICE_F_MOVE, SPLICE_F_NONBLOCK,
};
use crate::receive::Wanted;
use crate::sockets::Sockets;

/// Bytes a pipe holds at first (16 pages).
const CAPACITY_BYTES: usize = 65_536;
/// Bytes of a write that is never mixed with others (`PIPE_BUF`).
const ATOMIC_BYTES: usize = 4_096;
/// Bytes a program may ask for (`pipe-max-size`).
const CAPACITY_BYTES_MAX: usize = 1 << 20;

/// One pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    has_reader: bool,
    has_writer: bool,
    pub(crate) watches: Vec<Watch>,
}

impl Pipe {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }
}

impl Sockets {
    /// `pipe2`: the reading end and the writing end. `O_NONBLOCK` and `O_CLOEXEC`; `EINVAL` for
    /// others.
    pub fn pipe(&mut self, flags: i32) -> Result<(i32, i32), Errno> {
        if flags & !(O_NONBLOCK | O_CLOEXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        self.files.check_room(2)?;
        let id = PipeId(self.next_number());
        let pipe = Pipe {
            bytes: VecDeque::new(),
            capacity: CAPACITY_BYTES,
            has_reader: true,
            has_writer: true,
            watches: Vec::new(),
        };
        self.pipes.insert(id, pipe);
        let (status, cloexec) = (flags & O_NONBLOCK, flags & O_CLOEXEC != 0);
        let reader = self
            .files
            .open(Kind::PipeReader(id), O_RDONLY | status, cloexec)?;
        let writer = self
            .files
            .open(Kind::PipeWriter(id), O_WRONLY | status, cloexec)?;
        Ok((reader, writer))
    }

    /// One attempt at reading; 0 bytes once the writing end is closed.
    pub(crate) fn try_read_pipe(
        &mut self,
        id: PipeId,
        len: usize,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return Some(Err(Errno::EBADF));
        };
        if pipe.bytes.is_empty() && len > 0 && pipe.has_writer {
            return last.then_some(Err(Errno::EAGAIN));
        }
        let count = len.min(pipe.bytes.len());
        let bytes: Vec<u8> = pipe.bytes.drain(..count).collect();
        self.wake_pipe(id, EPOLLOUT | EPOLLWRNORM);
        Some(Ok(Reply::Received(Received {
            count,
            bytes,
            ..Received::default()
        })))
    }

    /// One attempt at writing `data` from `done` on.
    pub(crate) fn try_write_pipe(
        &mut self,
        id: PipeId,
        data: &[u8],
        done: &mut usize,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return Some(Err(Errno::EBADF));
        };
        if !pipe.has_reader {
            return Some(if *done > 0 {
                Ok(Reply::Count(*done))
            } else {
                Err(Errno::EPIPE)
            });
        }
        let rest = data.get(*done..).unwrap_or_default();
        let fits = rest.len() <= pipe.room();
        let count = if !fits && data.len() <= ATOMIC_BYTES {
            0
        } else {
            rest.len().min(pipe.room())
        };
        pipe.bytes.extend(rest.iter().take(count));
        *done += count;
        let done = *done;
        if count > 0 {
            self.wake_pipe(id, EPOLLIN | EPOLLRDNORM);
        }
        if done == data.len() {
            return Some(Ok(Reply::Count(done)));
        }
        last.then_some(if done > 0 {
            Ok(Reply::Count(done))
        } else {
            Err(Errno::EAGAIN)
        })
    }

    /// One attempt at `splice`. Each side waits as its own file says; `SPLICE_F_NONBLOCK` is about
    /// pipes.
    pub(crate) fn try_splice(
        &mut self,
        (from, to): (File, File),
        (len, flags): (usize, i32),
        done: &mut usize,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        let known = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;
        if flags & !known != 0 {
            return Some(Err(Errno::EINVAL));
        }
        if len == 0 {
            return Some(Ok(Reply::Count(0)));
        }
        let hurried = flags & SPLICE_F_NONBLOCK != 0;
        let (from_waits, to_waits) = (!from.is_nonblocking(), !to.is_nonblocking());
        match (from.kind, to.kind) {
            (Kind::Socket(socket), Kind::PipeWriter(pipe)) => {
                let pipe_is_last = hurried || last || !to_waits;
                let lasts = (last || !from_waits, pipe_is_last);
                self.splice_to_pipe(socket, pipe, len, lasts)
            }
            (Kind::PipeReader(pipe), Kind::Socket(socket)) => {
                let pipe_is_last = hurried || last || !from_waits;
                let lasts = (pipe_is_last, last || !to_waits);
                let more = flags & SPLICE_F_MORE != 0;
                self.splice_to_socket(pipe, socket, (len, more), done, lasts)
            }
            (Kind::PipeReader(from), Kind::PipeWriter(to)) => {
                let last = hurried || last || !from_waits || !to_waits;
                self.splice_pipes(from, to, len, last)
            }
            _ => Some(Err(Errno::EINVAL)),
        }
    }

    /// Linux: `splice_file_to_pipe`, `tcp_splice_read`.
    fn splice_to_pipe(
        &mut self,
        socket: SocketId,
        pipe: PipeId,
        len: usize,
        (socket_is_last, pipe_is_last): (bool, bool),
    ) -> Option<Result<Reply, Errno>> {
        let room = match self.pipe_room(pipe) {
            Err(error) => return Some(Err(error)),
            Ok(0) => return pipe_is_last.then_some(Err(Errno::EAGAIN)),
            Ok(room) => room,
        };
        let some = self.unread(socket) > 0;
        // An urgent byte stops a splice; it is not skipped (`tcp_read_sock`).
        if self.urgent_ahead(socket) == Some(0) && some {
            return Some(if socket_is_last {
                Err(Errno::EAGAIN)
            } else {
                Ok(Reply::Count(0))
            });
        }
        let wanted = Wanted {
            len: len.min(room),
            control_len: 0,
            flags: 0,
        };
        // Whatever there is will do: no low-water mark.
        let last = socket_is_last || some;
        let result = self.try_receive(socket, wanted, &mut Vec::new(), last)?;
        Some(result.map(|reply| self.fill_pipe(pipe, reply)))
    }

    /// Linux: `splice_to_socket`.
    fn splice_to_socket(
        &mut self,
        pipe: PipeId,
        socket: SocketId,
        (len, more): (usize, bool),
        done: &mut usize,
        (pipe_is_last, socket_is_last): (bool, bool),
    ) -> Option<Result<Reply, Errno>> {
        let state = self.pipes.get(&pipe)?;
        let rest = len.saturating_sub(*done);
        let data: Vec<u8> = state.bytes.iter().take(rest).copied().collect();
        if data.is_empty() {
            return if *done > 0 || !state.has_writer {
                Some(Ok(Reply::Count(*done)))
            } else {
                pipe_is_last.then_some(Err(Errno::EAGAIN))
            };
        }
        let flags = if more { MSG_MORE } else { 0 };
        let mut sent = 0;
        let counts = (&mut sent, &mut false);
        let result = self.try_send(socket, &data, flags, counts, true);
        *done += sent;
        if let Some(pipe) = self.pipes.get_mut(&pipe) {
            pipe.bytes.drain(..sent.min(pipe.bytes.len()));
        }
        self.wake_pipe(pipe, EPOLLOUT | EPOLLWRNORM);
        match result? {
            Ok(_) if sent < data.len() && !socket_is_last => None,
            Err(Errno::EAGAIN) if !socket_is_last => None,
            Err(error) if *done == 0 => Some(Err(error)),
            Ok(_) | Err(_) => Some(Ok(Reply::Count(*done))),
        }
    }

    /// Linux: `splice_pipe_to_pipe`.
    fn splice_pipes(
        &mut self,
        from: PipeId,
        to: PipeId,
        len: usize,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        if from == to {
            return Some(Err(Errno::EINVAL));
        }
        let source = self.pipes.get(&from)?;
        if source.bytes.is_empty() {
            return if source.has_writer {
                last.then_some(Err(Errno::EAGAIN))
            } else {
                Some(Ok(Reply::Count(0)))
            };
        }
        let count = len.min(source.bytes.len());
        let room = match self.pipe_room(to) {
            Err(error) => return Some(Err(error)),
            Ok(0) => return last.then_some(Err(Errno::EAGAIN)),
            Ok(room) => room,
        };
        let source = self.pipes.get_mut(&from)?;
        let bytes: Vec<u8> = source.bytes.drain(..count.min(room)).collect();
        let count = bytes.len();
        if let Some(sink) = self.pipes.get_mut(&to) {
            sink.bytes.extend(bytes);
        }
        self.wake_pipe(from, EPOLLOUT | EPOLLWRNORM);
        self.wake_pipe(to, EPOLLIN | EPOLLRDNORM);
        Some(Ok(Reply::Count(count)))
    }

    /// What a pipe's end is ready for (`pipe_poll`).
    pub(crate) fn pipe_ready(&self, id: PipeId, reader: bool) -> u32 {
        let Some(pipe) = self.pipes.get(&id) else {
            return 0;
        };
        let mut ready = 0;
        if reader {
            if !pipe.bytes.is_empty() {
                ready |= EPOLLIN | EPOLLRDNORM;
            }
            if !pipe.has_writer {
                ready |= EPOLLHUP;
            }
        } else {
            if pipe.room() > 0 {
                ready |= EPOLLOUT | EPOLLWRNORM;
            }
            if !pipe.has_reader {
                ready |= EPOLLERR;
            }
        }
        ready
    }

    /// The last descriptor of one end is closed.
    pub(crate) fn close_pipe(&mut self, id: PipeId, reader: bool) {
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        if reader {
            pipe.has_reader = false;
        } else {
            pipe.has_writer = false;
        }
        if !pipe.has_reader && !pipe.has_writer {
            self.pipes.remove(&id);
        } else {
            self.wake_pipe(id, crate::close::GONE | EPOLLERR);
        }
    }

    /// `fcntl` commands that only pipes have.
    pub(crate) fn pipe_control(
        &mut self,
        fd: i32,
        command: i32,
        argument: i64,
    ) -> Option<Result<i32, Errno>> {
        if command != F_GETPIPE_SZ && command != F_SETPIPE_SZ {
            return None;
        }
        let id = match self.files.find(fd).map(|(_, file)| file.kind) {
            Ok(Kind::PipeReader(id) | Kind::PipeWriter(id)) => id,
            Ok(_) | Err(_) => return Some(Err(Errno::EBADF)),
        };
        let pipe = self.pipes.get_mut(&id)?;
        if command == F_SETPIPE_SZ {
            let size = usize::try_from(argument).unwrap_or(0);
            let size = size.next_power_of_two().max(ATOMIC_BYTES);
            if size > CAPACITY_BYTES_MAX {
                return Some(Err(Errno::EPERM));
            }
            if size < pipe.bytes.len() {
                return Some(Err(Errno::EBUSY));
            }
            pipe.capacity = size;
        }
        Some(i32::try_from(pipe.capacity).map_err(|_| Errno::EINVAL))
    }

    /// `ioctl` requests of pipes.
    pub(crate) fn pipe_ioctl(&self, id: PipeId, request: u64) -> Result<i32, Errno> {
        let pipe = self.pipes.get(&id).ok_or(Errno::EBADF)?;
        match request {
            FIONREAD => i32::try_from(pipe.bytes.len()).map_err(|_| Errno::EOVERFLOW),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn pipe_room(&self, id: PipeId) -> Result<usize, Errno> {
        let pipe = self.pipes.get(&id).ok_or(Errno::EBADF)?;
        if !pipe.has_reader {
            return Err(Errno::EPIPE);
        }
        Ok(pipe.room())
    }

    fn fill_pipe(&mut self, id: PipeId, reply: Reply) -> Reply {
        let Reply::Received(received) = reply else {
            return reply;
        };
        if let Some(pipe) = self.pipes.get_mut(&id) {
            pipe.bytes.extend(&received.bytes);
        }
        if received.count > 0 {
            self.wake_pipe(id, EPOLLIN | EPOLLRDNORM);
        }
        Reply::Count(received.count)
    }

    fn wake_pipe(&mut self, id: PipeId, events: u32) {
        let watches = self.pipes.get(&id).map(|pipe| pipe.watches.clone());
        self.wake_all(watches.unwrap_or_default(), events);
    }
}
