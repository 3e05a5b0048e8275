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
            return Some(self.receive_error(id, wanted));
        }
        if self.state(id) == State::Listen {
            return Some(Err(Errno::ENOTCONN));
        }
        if flags & MSG_OOB != 0 {
            return Some(self.receive_urgent(id, wanted.len, flags));
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
        let saved = self.get(id).map_or(0, |socket| socket.saved.len());
        saved + self.info(id).map_or(0, |info| info.unread_bytes as usize)
    }

    /// A segment is about to end the connection: what was not read yet stays readable, as in Linux
    /// (behaviour: RDV-11), where the stack would throw it away.
    pub(crate) fn save_unread(&mut self, id: SocketId) {
        let unread = self.info(id).map_or(0, |info| info.unread_bytes as usize);
        let mut bytes = vec![0; unread];
        let Some(flow) = self.get(id).ok().and_then(|socket| socket.flow) else {
            return;
        };
        let received = self.stack.receive(self.now, flow, &mut bytes).bytes;
        bytes.truncate(received);
        if let Ok(socket) = self.get_mut(id) {
            socket.saved.extend(bytes);
        }
    }

    /// Takes, or only looks at, up to `room` bytes. Stops before an urgent byte; begins behind it,
    /// unless it is to be read in line (behaviour: OPT-24).
    fn take(&mut self, id: SocketId, room: usize, peek: bool, got: &mut Vec<u8>) {
        let inline = self.get(id).is_ok_and(|socket| socket.options.oob_inline);
        let (mut count, mut skip) = (room.min(self.unread(id)), 0);
        match self.urgent_ahead(id) {
            Some(0) if !got.is_empty() => return,
            Some(0) if !inline => skip = 1,
            Some(ahead) if ahead > 0 => {
                count = count.min(usize::try_from(ahead).unwrap_or(usize::MAX));
            }
            Some(_) | None => {}
        }
        if count == 0 {
            return;
        }
        if peek {
            self.look(id, skip, count, got);
            return;
        }
        self.pull(id, skip, &mut Vec::new());
        self.pull(id, count, got);
        self.forget_urgent(id);
    }

    /// Puts `count` bytes that begin `skip` bytes ahead behind `got` and leaves them.
    fn look(&mut self, id: SocketId, skip: usize, count: usize, got: &mut Vec<u8>) {
        let Ok(socket) = self.get(id) else { return };
        let (flow, saved) = (socket.flow, socket.saved.len());
        got.extend(socket.saved.iter().skip(skip).take(count));
        let rest = count.saturating_sub(saved.saturating_sub(skip));
        let Some(flow) = flow.filter(|_| rest > 0) else {
            return;
        };
        let mut bytes = vec![0; rest];
        let ahead = skip.saturating_sub(saved);
        let seen = self.stack.peek(flow, ahead, &mut bytes);
        got.extend(bytes.into_iter().take(seen));
    }

    /// Takes up to `count` bytes off the front and puts them behind `got`.
    pub(crate) fn pull(&mut self, id: SocketId, count: usize, got: &mut Vec<u8>) {
        let Ok(socket) = self.get_mut(id) else { return };
        let saved = count.min(socket.saved.len());
        got.extend(socket.saved.drain(..saved));
        let rest = count - saved;
        let Some(flow) = socket.flow.filter(|_| rest > 0) else {
            return;
        };
        let mut bytes = vec![0; rest];
        let received = self.stack.receive(self.now, flow, &mut bytes).bytes;
        got.extend(bytes.into_iter().take(received));
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
    fn receive_error(&mut self, id: SocketId, wanted: Wanted) -> Result<Reply, Errno> {
        let socket = self.get_mut(id)?;
        let Some(entry) = socket.error_queue.pop_front() else {
            return Err(Errno::EAGAIN);
        };
        let mut received = Received {
            control: Vec::new(),
            ..entry.clone()
        };
        if received.bytes.len() > wanted.len {
            received.bytes.truncate(wanted.len);
            received.count = wanted.len;
            received.flags |= MSG_TRUNC;
        }
        for control in entry.control {
            put_control(&mut received, wanted.control_len, control);
        }
        Ok(Reply::Received(received))
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
