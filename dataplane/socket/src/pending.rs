//! Calls that may wait: how one starts, is tried again after everything that happens, and ends.
//!
//! A call that waits holds its file, so that closing the descriptor does not pull it away. An
//! attempt that is the last one (the file is non-blocking, time is up, a signal came) always ends.

use core::ops::ControlFlow;
use std::collections::{BTreeMap, VecDeque};

use millrace_base::{Instant, Nanos};

use crate::call::{Call, CallId, Progress, Received, Reply};
use crate::errno::Errno;
use crate::fastopen::{Message, Step};
use crate::file::{File, FileId, Kind, SocketId};
use crate::linux::MSG_DONTWAIT;
use crate::receive::Wanted;
use crate::sockets::{Sockets, is_opening};

/// A call under way.
#[derive(Debug)]
pub(crate) struct Waiter {
    call: Call,
    /// The file it works on; `Poll` has many and holds none.
    file: Option<FileId>,
    /// When it gives up.
    deadline: Instant,
    /// It has done its first part: a `connect` has sent its SYN, a `close` its FIN, a send has found
    /// no room.
    begun: bool,
    /// How far it has come with opening its connection.
    step: Step,
    /// Bytes it has moved.
    done: usize,
    /// Bytes it has received.
    got: Vec<u8>,
    interrupted: bool,
    /// How often its socket had been disconnected when it fell asleep.
    disconnects: Option<u32>,
}

/// Every call that waits, and those that are done but not yet told.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: BTreeMap<CallId, Waiter>,
    finished: VecDeque<(CallId, Result<Reply, Errno>)>,
    next: u64,
}

impl Calls {
    /// When the first of them gives up.
    pub(crate) fn next_deadline(&self) -> Instant {
        let deadlines = self.waiting.values().map(|waiter| waiter.deadline);
        deadlines.min().unwrap_or(Instant::NEVER)
    }

    /// How many wait for events of such a file.
    pub(crate) fn waiting_on(&self, file: impl Fn(FileId) -> bool) -> usize {
        let files = self.waiting.values().filter_map(|waiter| waiter.file);
        files.filter(|id| file(*id)).count()
    }

    /// The writes that wait with something left to send, each with its file.
    fn unfinished_writes(&self) -> impl Iterator<Item = Option<FileId>> {
        let writes = self.waiting.values().filter(|waiter| {
            let len = if let Call::Write { data, .. } | Call::Send { data, .. } = &waiter.call {
                data.len()
            } else if let Call::SendMessage { pieces, .. } = &waiter.call {
                pieces.iter().map(Vec::len).sum()
            } else {
                0
            };
            waiter.done < len
        });
        writes.map(|waiter| waiter.file)
    }

    /// The calls that wait, each with its file.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&Call, Option<FileId>)> {
        let waiting = self.waiting.values();
        waiting.map(|waiter| (&waiter.call, waiter.file))
    }
}

impl Sockets {
    /// Starts a call. On a non-blocking file, with `MSG_DONTWAIT` or a timeout of 0 it is always
    /// `Ready`.
    pub fn start(&mut self, now: Instant, call: Call) -> Progress {
        self.step_to(now);
        let mut waiter = match self.prepare(call) {
            Ok(waiter) => waiter,
            Err(error) => return Progress::Ready(Err(error)),
        };
        let last = waiter.deadline.is_due(self.now);
        if let Some(result) = self.attempt(&mut waiter, last) {
            self.settle();
            return Progress::Ready(result);
        }
        if let Some(file) = waiter.file {
            self.files.hold(file);
        }
        waiter.disconnects = self.disconnects_of(&waiter);
        let id = CallId(self.calls.next);
        self.calls.next += 1;
        self.calls.waiting.insert(id, waiter);
        self.settle();
        // What the call itself has set off may have ended it.
        let finished = self.calls.finished.iter().position(|(done, _)| *done == id);
        match finished.and_then(|at| self.calls.finished.remove(at)) {
            Some((_, result)) => Progress::Ready(result),
            None => Progress::Pending(id),
        }
    }

    /// The next call that was pending and is done.
    pub fn poll_finished(&mut self) -> Option<(CallId, Result<Reply, Errno>)> {
        self.calls.finished.pop_front()
    }

    /// Interrupts a pending call as a signal would: `EINTR`, or what it has done so far. `None` when
    /// it is not pending.
    pub fn interrupt(&mut self, now: Instant, id: CallId) -> Option<Result<Reply, Errno>> {
        self.step_to(now);
        self.calls.waiting.get_mut(&id)?.interrupted = true;
        self.settle();
        let at = self
            .calls
            .finished
            .iter()
            .position(|(done, _)| *done == id)?;
        let (_, result) = self.calls.finished.remove(at)?;
        Some(result)
    }

    /// Tries every waiting call again.
    pub(crate) fn retry_calls(&mut self) -> bool {
        let ids: Vec<CallId> = self.calls.waiting.keys().copied().collect();
        let mut moved = false;
        self.forget_woken();
        for id in ids {
            let Some(mut waiter) = self.calls.waiting.remove(&id) else {
                continue;
            };
            let progress = waiter.done;
            let last = waiter.interrupted || waiter.deadline.is_due(self.now);
            let result = if self.was_disconnected(&waiter) {
                Some(dissolved(&mut waiter))
            } else {
                self.attempt(&mut waiter, last)
            };
            match result {
                Some(result) => {
                    let result = if waiter.interrupted {
                        interrupted(result)
                    } else {
                        result
                    };
                    if let Some(file) = waiter.file {
                        self.release_file(file);
                    }
                    self.calls.finished.push_back((id, result));
                    moved = true;
                }
                None => {
                    moved |= waiter.done > progress;
                    self.calls.waiting.insert(id, waiter);
                }
            }
        }
        moved
    }

    /// How often the socket of a call that moves bytes or connects was disconnected.
    fn disconnects_of(&self, waiter: &Waiter) -> Option<u32> {
        if matches!(waiter.call, Call::Accept { .. } | Call::EpollWait { .. }) {
            return None;
        }
        match self.files.get(waiter.file?)?.kind {
            Kind::Socket(socket) => Some(self.get(socket).ok()?.disconnects),
            Kind::Epoll(_) | Kind::PipeReader(_) | Kind::PipeWriter(_) => None,
        }
    }

    /// Whether somebody has dissolved the association that a call sleeps on (`sk_wait_event`).
    fn was_disconnected(&self, waiter: &Waiter) -> bool {
        waiter.disconnects.is_some() && self.disconnects_of(waiter) != waiter.disconnects
    }

    /// The sockets on which a write sleeps until the handshake is done (`sk_write_pending`).
    // behaviour: CON-24
    pub(crate) fn writes_that_await_a_handshake(&self) -> Vec<SocketId> {
        let awaits = |file: Option<FileId>| {
            let Kind::Socket(socket) = self.files.get(file?)?.kind else {
                return None;
            };
            Some(socket).filter(|socket| is_opening(self.state(*socket)))
        };
        self.calls.unfinished_writes().filter_map(awaits).collect()
    }

    /// Looks at the arguments that do not depend on when.
    fn prepare(&mut self, call: Call) -> Result<Waiter, Errno> {
        let mut waiter = Waiter {
            call,
            file: None,
            deadline: Instant::NEVER,
            begun: false,
            step: Step::default(),
            done: 0,
            got: Vec::new(),
            interrupted: false,
            disconnects: None,
        };
        let fd = match &waiter.call {
            Call::Poll { timeout_ms, .. } => {
                waiter.deadline = self.timeout(*timeout_ms);
                return Ok(waiter);
            }
            Call::Close { .. } => return Ok(waiter),
            Call::Accept { fd, .. }
            | Call::Connect { fd, .. }
            | Call::Read { fd, .. }
            | Call::Write { fd, .. }
            | Call::Receive { fd, .. }
            | Call::Send { fd, .. }
            | Call::SendMessage { fd, .. }
            | Call::EpollWait { fd, .. } => *fd,
            Call::Splice { from, to, .. } => {
                self.files.find(*to)?;
                *from
            }
        };
        let (id, file) = self.files.find(fd)?;
        waiter.file = Some(id);
        waiter.deadline = self.patience(&waiter.call, &file)?;
        Ok(waiter)
    }

    /// When a call on this file gives up.
    fn patience(&self, call: &Call, file: &File) -> Result<Instant, Errno> {
        let own = match call {
            Call::Receive { flags, .. }
            | Call::Send { flags, .. }
            | Call::SendMessage { flags, .. } => flags & MSG_DONTWAIT != 0,
            Call::Splice { to, .. } => return Ok(self.splice_patience(file, *to)),
            Call::EpollWait { timeout_ms, .. } => return Ok(self.timeout(*timeout_ms)),
            Call::Accept { .. }
            | Call::Connect { .. }
            | Call::Read { .. }
            | Call::Write { .. }
            | Call::Close { .. }
            | Call::Poll { .. } => false,
        };
        if own || file.is_nonblocking() {
            return Ok(self.now);
        }
        let Kind::Socket(socket) = file.kind else {
            return Ok(Instant::NEVER);
        };
        let options = &self.get(socket)?.options;
        // behaviour: OPT-23
        let timeout = match call {
            Call::Connect { .. }
            | Call::Write { .. }
            | Call::Send { .. }
            | Call::SendMessage { .. } => options.send_timeout,
            Call::Accept { .. }
            | Call::Read { .. }
            | Call::Receive { .. }
            | Call::Splice { .. }
            | Call::Close { .. }
            | Call::Poll { .. }
            | Call::EpollWait { .. } => options.receive_timeout,
        };
        Ok(timeout.map_or(Instant::NEVER, |span| self.now.after(span)))
    }

    /// When a `splice` gives up: the socket's time. Whether a side waits at all is asked of each.
    fn splice_patience(&self, from: &File, to: i32) -> Instant {
        let to = self.files.find(to).map(|(_, file)| file.kind);
        let timeout = match (from.kind, to) {
            (Kind::Socket(socket), _) => {
                let socket = self.get(socket);
                socket.map_or(None, |socket| socket.options.receive_timeout)
            }
            (_, Ok(Kind::Socket(socket))) => {
                let socket = self.get(socket);
                socket.map_or(None, |socket| socket.options.send_timeout)
            }
            _ => None,
        };
        timeout.map_or(Instant::NEVER, |span| self.now.after(span))
    }

    fn timeout(&self, timeout_ms: i32) -> Instant {
        match u64::try_from(timeout_ms) {
            Ok(millis) => self.now.after(Nanos::from_millis(millis)),
            Err(_) => Instant::NEVER,
        }
    }

    /// One attempt; always ends when it is the last one.
    fn attempt(&mut self, waiter: &mut Waiter, last: bool) -> Option<Result<Reply, Errno>> {
        if let Call::Poll { fds, .. } = &mut waiter.call {
            return self.try_poll(fds, last);
        }
        if let Call::Close { fd } = waiter.call {
            let Waiter {
                begun,
                done,
                deadline,
                ..
            } = waiter;
            return self.try_close(fd, begun, done, deadline, last);
        }
        let file = waiter.file?;
        if let Call::Splice { to, len, flags, .. } = &waiter.call {
            let from = self.files.get(file).ok_or(Errno::EBADF);
            let files = from.and_then(|from| Ok((from, self.files.find(*to)?.1)));
            return match files {
                Ok(files) => self.try_splice(files, (*len, *flags), &mut waiter.done, last),
                Err(error) => Some(Err(error)),
            };
        }
        match (self.files.get(file).map(|file| file.kind), &waiter.call) {
            (None, _) => Some(Err(Errno::EBADF)),
            (Some(Kind::Socket(socket)), _) => self.attempt_on_socket(socket, waiter, last),
            (Some(Kind::Epoll(epoll)), Call::EpollWait { events_max, .. }) => {
                self.try_epoll_wait(epoll, *events_max, last)
            }
            (Some(Kind::PipeReader(pipe)), Call::Read { len, .. }) => {
                self.try_read_pipe(pipe, *len, last)
            }
            (Some(Kind::PipeWriter(pipe)), Call::Write { data, .. }) => {
                self.try_write_pipe(pipe, data, &mut waiter.done, last)
            }
            (Some(Kind::Epoll(_)), Call::Read { .. } | Call::Write { .. }) => {
                Some(Err(Errno::EINVAL))
            }
            (Some(_), Call::EpollWait { .. }) => Some(Err(Errno::EINVAL)),
            (Some(_), Call::Read { .. } | Call::Write { .. }) => Some(Err(Errno::EBADF)),
            (Some(_), _) => Some(Err(Errno::ENOTSOCK)),
        }
    }

    fn attempt_on_socket(
        &mut self,
        socket: SocketId,
        waiter: &mut Waiter,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        let Waiter {
            call,
            begun,
            step,
            done,
            got,
            file: _,
            deadline: _,
            interrupted: _,
            disconnects: _,
        } = waiter;
        let mut joined = Vec::new();
        if let Call::SendMessage { pieces, .. } = &*call
            && *step != Step::Over
        {
            joined = pieces.concat();
        }
        if let Some(message) = message_of(call, &joined)
            && let ControlFlow::Break(outcome) =
                self.open_for_send(socket, message, (step, done), last)
        {
            return outcome;
        }
        match call {
            Call::Accept { flags, .. } => self.try_accept(socket, *flags, last),
            Call::Connect { address, .. } => {
                let address = *address;
                if !core::mem::replace(begun, true)
                    && let Some(result) = self.begin_connect(socket, address)
                {
                    return Some(result);
                }
                self.end_connect(socket, last)
            }
            Call::Send { data, flags, .. } => {
                self.try_send(socket, data, *flags, (done, begun), last)
            }
            Call::SendMessage {
                pieces,
                flags,
                control,
                ..
            } => {
                let stamps = match self.stamps_of_message(socket, control) {
                    Ok(stamps) => stamps,
                    Err(error) => return Some(Err(error)),
                };
                self.stamp_message(socket, stamps);
                let result = self.try_send_pieces(socket, pieces, *flags, (done, begun), last);
                self.stamp_message(socket, None);
                result
            }
            Call::Write { data, .. } => self.try_send(socket, data, 0, (done, begun), last),
            Call::Receive {
                len,
                control_len,
                flags,
                ..
            } => {
                let wanted = Wanted {
                    len: *len,
                    control_len: *control_len,
                    flags: *flags,
                };
                self.try_receive(socket, wanted, got, last)
            }
            Call::Read { len, .. } => {
                let wanted = Wanted {
                    len: *len,
                    control_len: 0,
                    flags: 0,
                };
                self.try_read(socket, wanted, got, last)
            }
            Call::EpollWait { .. }
            | Call::Close { .. }
            | Call::Poll { .. }
            | Call::Splice { .. } => Some(Err(Errno::EINVAL)),
        }
    }

    /// A `connect` that is under way: done, or out of time.
    fn end_connect(&mut self, socket: SocketId, last: bool) -> Option<Result<Reply, Errno>> {
        if let Some(result) = self.finish_connect(socket) {
            return Some(result);
        }
        last.then_some(Err(Errno::EINPROGRESS))
    }

    /// `read` of nothing returns at once, whatever the state (`sock_read_iter`).
    fn try_read(
        &mut self,
        socket: SocketId,
        wanted: Wanted,
        got: &mut Vec<u8>,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        if wanted.len == 0 {
            return Some(Ok(Reply::Received(Received::default())));
        }
        self.try_receive(socket, wanted, got, last)
    }
}

/// What a call returns whose association was dissolved while it slept: what it has done, else
/// `EPIPE`.
fn dissolved(waiter: &mut Waiter) -> Result<Reply, Errno> {
    if waiter.done > 0 {
        return Ok(Reply::Count(waiter.done));
    }
    if waiter.got.is_empty() {
        return Err(Errno::EPIPE);
    }
    Ok(Reply::Received(Received {
        count: waiter.got.len(),
        bytes: core::mem::take(&mut waiter.got),
        ..Received::default()
    }))
}

/// What the last attempt of an interrupted call means: nothing done is `EINTR` (Linux:
/// -ERESTARTSYS, which a program whose handler does not restart calls sees so).
fn interrupted(result: Result<Reply, Errno>) -> Result<Reply, Errno> {
    let nothing = match &result {
        Err(error) => matches!(*error, Errno::EAGAIN | Errno::EINPROGRESS),
        Ok(reply @ (Reply::Events(_) | Reply::Polled(_))) => reply.value() == 0,
        Ok(_) => false,
    };
    if nothing { Err(Errno::EINTR) } else { result }
}

/// What a call sends that may open its connection; `joined` is the message of one in pieces.
fn message_of<'a>(call: &'a Call, joined: &'a [u8]) -> Option<Message<'a>> {
    let (data, flags, address) = match call {
        Call::Send {
            data,
            flags,
            address,
            ..
        } => (data.as_slice(), *flags, *address),
        Call::SendMessage { flags, address, .. } => (joined, *flags, *address),
        Call::Write { data, .. } => (data.as_slice(), 0, None),
        Call::Accept { .. }
        | Call::Connect { .. }
        | Call::Read { .. }
        | Call::Receive { .. }
        | Call::Close { .. }
        | Call::Poll { .. }
        | Call::EpollWait { .. }
        | Call::Splice { .. } => return None,
    };
    Some(Message {
        data,
        flags,
        address,
    })
}
