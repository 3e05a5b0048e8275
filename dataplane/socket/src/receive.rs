//! `recv` in all its forms, and the error queue.
//!
//! Linux: `tcp_recvmsg_locked`, `inet_recv_error`.

use millrace_stack::{FlowId, State};

use crate::call::{Received, Reply};
use crate::control;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL};
use crate::sockets::Sockets;

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
        if let Some(result) = self.repair_receive(id, wanted) {
            return Some(result);
        }
        let peek = flags & MSG_PEEK != 0;
        let unread = self.unread(id);
        if peek {
            got.clear();
        }
        let ahead = self.peek_offset(id, flags);
        self.take(id, wanted.len.saturating_sub(got.len()), (peek, ahead), got);
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

    /// Takes, or only looks at, up to `room` bytes. Stops before an urgent byte; begins behind it,
    /// unless it is to be read in line (behaviour: OPT-24).
    fn take(
        &mut self,
        id: SocketId,
        room: usize,
        (peek, offset): (bool, usize),
        got: &mut Vec<u8>,
    ) {
        let inline = self.get(id).is_ok_and(|socket| socket.options.oob_inline);
        let unread = self.unread(id).saturating_sub(offset);
        let (mut count, mut skip) = (room.min(unread), offset);
        let urgent = self.urgent_ahead(id);
        match urgent.and_then(|urgent| urgent.checked_sub(offset as u64)) {
            Some(0) if !got.is_empty() => return,
            Some(0) if !inline => {
                skip += 1;
                count = count.min(unread.saturating_sub(1));
            }
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
        let Some(flow) = self.get(id).ok().and_then(|socket| socket.flow) else {
            return;
        };
        let mut bytes = vec![0; count];
        let seen = self.stack.peek(flow, skip, &mut bytes);
        got.extend(bytes.into_iter().take(seen));
    }

    /// Takes up to `count` bytes off the front and puts them behind `got`.
    pub(crate) fn pull(&mut self, id: SocketId, count: usize, got: &mut Vec<u8>) {
        let flow = self.get(id).ok().and_then(|socket| socket.flow);
        let Some(flow) = flow.filter(|_| count > 0) else {
            return;
        };
        let mut bytes = vec![0; count];
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
        let (read, _) = self.read_so_far(id);
        let count = received.count as u64;
        let peeked = wanted.flags & MSG_PEEK != 0;
        let end = if peeked {
            read + self.peek_offset(id, wanted.flags) as u64 + count
        } else {
            read
        };
        self.move_peek_offset(id, received.count, peeked);
        if received.count > 0 && !peeked {
            self.acknowledge_read(id);
        }
        self.put_read_messages(id, &mut received, wanted.control_len, (end, !peeked));
        Reply::Received(received)
    }

    /// How far behind the front a call begins: what `SO_PEEK_OFF` says, for one that peeks.
    fn peek_offset(&self, id: SocketId, flags: i32) -> usize {
        let set = self.get(id).map_or(-1, |socket| socket.options.peek_offset);
        if flags & MSG_PEEK == 0 {
            return 0;
        }
        usize::try_from(set).unwrap_or(0)
    }

    /// Once `SO_PEEK_OFF` is set, the next peek goes on behind this one, and a read brings it closer
    /// to the front (`sk_peek_offset_fwd`, `sk_peek_offset_bwd`).
    fn move_peek_offset(&mut self, id: SocketId, count: usize, peeked: bool) {
        let Ok(socket) = self.get_mut(id) else { return };
        let offset = &mut socket.options.peek_offset;
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        if *offset < 0 {
            return;
        }
        *offset = if peeked {
            offset.saturating_add(count)
        } else {
            (*offset - count).max(0)
        };
    }

    /// behaviour: OPT-44
    fn receive_error(&mut self, id: SocketId, wanted: Wanted) -> Result<Reply, Errno> {
        let socket = self.get_mut(id)?;
        let Some(entry) = socket.error_queue.pop_front() else {
            return Err(Errno::EAGAIN);
        };
        socket.follow_error_queue(&entry);
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
            control::put(&mut received, wanted.control_len, control);
        }
        Ok(Reply::Received(received))
    }
}
