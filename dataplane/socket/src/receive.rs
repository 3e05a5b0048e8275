//! `recv` in all its forms, and the error queue.
//!
//! Linux: `tcp_recvmsg_locked`, `inet_recv_error`.

use millrace_stack::{FlowId, State};

use crate::call::{Control, Received, Reply};
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{MSG_CTRUNC, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL};
use crate::sockets::Sockets;

/// Bytes of a control message beside its data, and of the smallest one.
const CONTROL_HEADER_BYTES: usize = 16;

/// What a receive call wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) len: usize,
    pub(crate) control_len: usize,
    pub(crate) flags: i32,
}

impl Sockets {
    /// One attempt at receiving; what is taken is put behind `got`. `None` while there is too little
    /// and there is time.
    pub(crate) fn try_receive(
        &mut self,
        id: SocketId,
        wanted: Wanted,
        got: &mut Vec<u8>,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        let flags = wanted.flags;
        if flags & MSG_ERRQUEUE != 0 {
            return Some(self.receive_error(id, wanted.control_len));
        }
        if self.state(id) == State::Listen {
            return Some(Err(Errno::ENOTCONN));
        }
        if flags & MSG_OOB != 0 {
            return Some(self.receive_urgent(id));
        }
        let peek = flags & MSG_PEEK != 0;
        let unread = self.unread(id);
        if peek {
            got.clear();
        }
        self.take(id, wanted.len.saturating_sub(got.len()), peek, got);
        let Ok(socket) = self.get(id) else {
            return Some(Err(Errno::EBADF));
        };
        // behaviour: OPT-22 OPT-41
        let target = if flags & MSG_WAITALL != 0 {
            wanted.len
        } else {
            wanted.len.min(socket.options.receive_low_water as usize)
        };
        if got.len() >= target.max(1) || (wanted.len == 0 && unread > 0) {
            return Some(Ok(self.received(id, wanted, got)));
        }
        let (ended, error) = (socket.done || socket.shut.receive, socket.error);
        let closed = self.state(id) == State::Closed;
        if !got.is_empty() {
            let stop = error.is_some() || closed || ended || last;
            return stop.then(|| Ok(self.received(id, wanted, got)));
        }
        if !socket.done {
            if let Some(error) = error {
                let _ = self.get_mut(id).map(|socket| socket.take_error());
                return Some(Err(error));
            }
            if !ended && closed {
                return Some(Err(Errno::ENOTCONN));
            }
        }
        if ended {
            self.note_end(id);
            return Some(Ok(self.received(id, wanted, got)));
        }
        last.then_some(Err(Errno::EAGAIN))
    }

    /// Bytes that wait to be read.
    pub(crate) fn unread(&self, id: SocketId) -> usize {
        self.info(id).map_or(0, |info| info.unread_bytes as usize)
    }

    /// Takes, or only looks at, up to `room` bytes.
    fn take(&mut self, id: SocketId, room: usize, peek: bool, got: &mut Vec<u8>) {
        let Some(flow) = self.get(id).ok().and_then(|socket| socket.flow) else {
            return;
        };
        let count = room.min(self.unread(id));
        if count == 0 {
            return;
        }
        let start = got.len();
        got.resize(start + count, 0);
        let out = got.get_mut(start..).unwrap_or_default();
        let bytes = if peek {
            self.stack.peek(flow, 0, out)
        } else {
            self.stack.receive(self.now, flow, out).bytes
        };
        got.truncate(start + bytes);
    }

    /// The program knows now that the stream has ended: the stack may forget the connection.
    fn note_end(&mut self, id: SocketId) {
        let flow: Option<FlowId> = self.get(id).ok().and_then(|socket| socket.flow);
        if let Some(flow) = flow {
            self.stack.receive(self.now, flow, &mut []);
        }
    }

    fn received(&mut self, id: SocketId, wanted: Wanted, got: &mut Vec<u8>) -> Reply {
        let mut received = Received {
            count: got.len(),
            bytes: core::mem::take(got),
            ..Received::default()
        };
        // behaviour: OPT-38. The bytes are gone, the caller's buffer is untouched.
        if wanted.flags & MSG_TRUNC != 0 {
            received.bytes.clear();
        }
        let wants_inq = self.get(id).is_ok_and(|socket| socket.options.inq);
        // behaviour: OPT-29
        if wants_inq {
            let left = self.inq_hint(id);
            put_control(&mut received, wanted.control_len, Control::Inq(left));
        }
        Reply::Received(received)
    }

    /// What `TCP_INQ` tells: bytes that wait, and at least one when only the end does
    /// (`tcp_inq_hint`).
    fn inq_hint(&self, id: SocketId) -> i32 {
        let unread = i32::try_from(self.unread(id)).unwrap_or(i32::MAX);
        let done = self.get(id).is_ok_and(|socket| socket.done);
        if unread == 0 && done { 1 } else { unread }
    }

    /// behaviour: OPT-44
    fn receive_error(&mut self, id: SocketId, control_len: usize) -> Result<Reply, Errno> {
        let socket = self.get_mut(id)?;
        let Some(entry) = socket.error_queue.pop_front() else {
            return Err(Errno::EAGAIN);
        };
        let mut received = Received {
            control: Vec::new(),
            ..entry.clone()
        };
        for control in entry.control {
            put_control(&mut received, control_len, control);
        }
        Ok(Reply::Received(received))
    }

    /// Urgent data is part of the stream here (see the crate's limitations): there never is any
    /// apart (`tcp_recv_urg`).
    fn receive_urgent(&self, id: SocketId) -> Result<Reply, Errno> {
        let socket = self.get(id)?;
        if self.state(id) == State::Closed && !socket.done {
            return Err(Errno::ENOTCONN);
        }
        Err(Errno::EINVAL)
    }
}

/// Adds a control message when there is room for it; says so in the flags when there is not
/// (`put_cmsg`).
fn put_control(received: &mut Received, room: usize, control: Control) {
    let used: usize = received.control.iter().map(space_of).sum();
    if room < used + CONTROL_HEADER_BYTES + data_bytes(&control) {
        received.flags |= MSG_CTRUNC;
        return;
    }
    received.control.push(control);
}

/// `CMSG_SPACE` of a message.
fn space_of(control: &Control) -> usize {
    CONTROL_HEADER_BYTES + data_bytes(control).next_multiple_of(8)
}

fn data_bytes(control: &Control) -> usize {
    match control {
        Control::Inq(_) => 4,
        Control::Timestamping(_) => 48,
        // `sock_extended_err` and the address of the offender.
        Control::Error { level, .. } if *level == crate::linux::SOL_IP => 16 + 16,
        Control::Error { .. } => 16 + 28,
    }
}
