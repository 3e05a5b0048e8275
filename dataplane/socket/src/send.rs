//! `send` in all its forms.
//!
//! How much a program may write is decided in `buffers`, what of it leaves at once in `outbox`, and
//! which segment carries PSH in `push`.

use millrace_stack::State;

use crate::call::Reply;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{MSG_EOR, MSG_MORE, MSG_OOB, MSG_ZEROCOPY};
use crate::notice::{Mark, Purpose};
use crate::sockets::Sockets;

/// Pieces of one zero-copy buffer (`MAX_SKB_FRAGS`).
const PIECES_MAX: usize = 17;

impl Sockets {
    /// One attempt at sending `data` from `done` on; `done` grows. `blocked` says that the last
    /// attempt ended for want of room: then there must be enough of it first. `None` while there is
    /// no room and there is time.
    // Linux: `tcp_sendmsg_locked`.
    pub(crate) fn try_send(
        &mut self,
        id: SocketId,
        data: &[u8],
        flags: i32,
        (done, blocked): (&mut usize, &mut bool),
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        if let Some(result) = self.repair_send(id, data) {
            return Some(result);
        }
        // behaviour: A3-6
        if self.is_opening(id) && self.pending_error(id).is_none() {
            return last.then_some(Err(Errno::EAGAIN));
        }
        // behaviour: A3-10
        if self.may_not_send(id) {
            return Some(self.end_of_sending(id, flags, *done));
        }
        let must_wait = *blocked && !self.has_write_space(id);
        if !must_wait {
            self.push_all(id, data, flags, done);
        }
        if *done == data.len() {
            self.mark_sent(id, flags, *done);
            return Some(Ok(Reply::Count(*done)));
        }
        *blocked = true;
        if let Ok(socket) = self.get_mut(id) {
            socket.no_space = true;
        }
        if !last {
            return None;
        }
        if *done > 0 {
            self.mark_sent(id, flags, *done);
            return Some(Ok(Reply::Count(*done)));
        }
        Some(Err(Errno::EAGAIN))
    }

    /// The same for a message in pieces. A zero-copy buffer has room for so many pieces, whatever
    /// their size: the next one begins another buffer (behaviour: A3-18).
    pub(crate) fn try_send_pieces(
        &mut self,
        id: SocketId,
        pieces: &[Vec<u8>],
        flags: i32,
        (done, blocked): (&mut usize, &mut bool),
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        let data = pieces.concat();
        let zerocopy =
            flags & MSG_ZEROCOPY != 0 && self.get(id).is_ok_and(|socket| socket.options.zerocopy);
        if zerocopy && *done == 0 && !self.may_not_send(id) {
            let filled = pieces.iter().filter(|piece| !piece.is_empty());
            let sizes: Vec<usize> = filled.map(Vec::len).collect();
            let buffers = sizes
                .chunks(PIECES_MAX)
                .map(|sizes| sizes.iter().sum::<usize>());
            let buffers: Vec<usize> = buffers.collect();
            let Some((_, whole)) = buffers.split_last() else {
                return self.try_send(id, &data, flags, (done, blocked), last);
            };
            for bytes in whole {
                let end = *done + bytes;
                let piece = data.get(..end).unwrap_or_default();
                self.push_all(id, piece, flags & !MSG_MORE, done);
                if *done < end {
                    break;
                }
                self.end_record(id);
            }
        }
        self.try_send(id, &data, flags, (done, blocked), last)
    }

    /// Writes buffer by buffer, as long as there is room; what is full leaves before the next one is
    /// begun, so that what was sent makes room.
    fn push_all(&mut self, id: SocketId, data: &[u8], flags: i32, done: &mut usize) {
        let begin = *done;
        if let Some(info) = self.info(id)
            && let Ok(socket) = self.get_mut(id)
        {
            socket.rate.on_write(&info);
        }
        // Each round takes at least a byte.
        while let Some(rest) = data.get(*done..).filter(|rest| !rest.is_empty()) {
            self.free_buffers(id);
            let room = usize::try_from(self.write_room(id)).unwrap_or(usize::MAX);
            let piece = rest.get(..room.min(rest.len())).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            self.note_written(id, piece.len() as u64, *done == 0);
            if let Ok(socket) = self.get_mut(id) {
                socket.outbox.held.extend(piece);
                socket.outbox.more = flags & MSG_MORE != 0;
            }
            *done += piece.len();
            if *done < data.len() {
                if self.must_push(id) {
                    self.mark_push(id);
                }
                self.feed(id, false);
                self.transmit();
            }
        }
        if *done == begin {
            return;
        }
        let complete = *done == data.len();
        if !complete {
            // There is no room: what there is leaves, promise or not (behaviour: A3-24).
            self.end_more(id);
        }
        if flags & MSG_MORE == 0 || !complete || self.must_push(id) {
            self.mark_push(id);
        }
        if complete && flags & MSG_EOR != 0 {
            self.end_record(id);
        }
        if flags & MSG_OOB != 0
            && let Ok(socket) = self.get_mut(id)
        {
            // behaviour: OPT-33
            socket.urgent_end = socket.written;
        }
        self.feed(id, !complete);
    }

    /// Whether sending has ended: an error, our side shut, no connection (behaviour: A3-6 A3-10).
    fn may_not_send(&self, id: SocketId) -> bool {
        let open =
            matches!(self.state(id), State::Established | State::CloseWait) || self.is_child(id);
        let Ok(socket) = self.get(id) else {
            return true;
        };
        socket.error.is_some() || socket.shut.send || !open
    }

    fn pending_error(&self, id: SocketId) -> Option<Errno> {
        self.get(id).ok().and_then(|socket| socket.error)
    }

    /// What a send call returns when nothing more can be sent: what it sent, else the pending
    /// error, else `EPIPE` (`sk_stream_error`).
    fn end_of_sending(&mut self, id: SocketId, flags: i32, done: usize) -> Result<Reply, Errno> {
        if done > 0 {
            self.mark_sent(id, flags, done);
            return Ok(Reply::Count(done));
        }
        let error = self.get_mut(id)?.take_error().unwrap_or(Errno::EPIPE);
        self.signal_broken_pipe(error, flags);
        Err(error)
    }

    /// Remembers who wants to know when the bytes of a call have left or were acknowledged.
    pub(crate) fn mark_sent(&mut self, id: SocketId, flags: i32, done: usize) {
        let Ok(socket) = self.get_mut(id) else { return };
        if done == 0 {
            return;
        }
        let end = socket.written;
        if flags & MSG_ZEROCOPY != 0 && socket.options.zerocopy {
            let number = socket.counters.zero_copies;
            socket.counters.zero_copies = number.wrapping_add(1);
            socket.marks.push_back(Mark {
                end,
                purpose: Purpose::ZeroCopy,
                number,
            });
        }
        let number = socket
            .options
            .stamp_number(end, socket.counters.stamps_from);
        for purpose in socket.options.stamps_wanted(socket.message_stamps) {
            socket.mark_stamp(end, purpose, number);
        }
    }
}
