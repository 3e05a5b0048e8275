//! `send` in all its forms, and corks.
//!
//! The stack takes bytes and cuts them into segments; how many it may have is decided in `buffers`.
//! What stays back here is less than one segment: under `TCP_CORK` until the cork is pulled, under
//! `MSG_MORE` until the next send, or until a segment arrives, and never longer than a
//! retransmission timeout with nothing in flight.

use millrace_base::{Instant, Nanos};
use millrace_stack::State;

use crate::call::Reply;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{MSG_EOR, MSG_FASTOPEN, MSG_MORE, MSG_OOB, MSG_ZEROCOPY};
use crate::notice::{Mark, Purpose};
use crate::sockets::{Sockets, is_opening};

/// The shortest time a cork holds (`TCP_RTO_MIN`).
const CORK_MIN: Nanos = Nanos::from_millis(200);

impl Sockets {
    /// One attempt at sending `data` from `done` on; `done` grows. `blocked` says that the last
    /// attempt ended for want of room: then there must be enough of it first. `None` while there is
    /// no room and there is time.
    //= Linux: `tcp_sendmsg_locked`.
    pub(crate) fn try_send(
        &mut self,
        id: SocketId,
        data: &[u8],
        flags: i32,
        (done, blocked): (&mut usize, &mut bool),
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        if flags & (MSG_OOB | MSG_FASTOPEN) != 0 {
            return Some(Err(Errno::EOPNOTSUPP));
        }
        // behaviour: A3-6
        if is_opening(self.state(id)) && self.pending_error(id).is_none() {
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

    /// The cork is pulled: what it held leaves.
    pub(crate) fn uncork(&mut self, id: SocketId) {
        let Ok(socket) = self.get_mut(id) else { return };
        socket.uncork_at = Instant::NEVER;
        let held = core::mem::take(&mut socket.corked);
        if held.is_empty() {
            return;
        }
        let taken = self.hand_down(id, &held);
        let again = self.now.after(CORK_MIN);
        if let Some(rest) = held.get(taken..).filter(|rest| !rest.is_empty())
            && let Ok(socket) = self.get_mut(id)
        {
            // No buffer is free: again soon.
            socket.corked = rest.to_vec();
            socket.uncork_at = again;
        }
    }

    /// Pulls every cork that has held for too long.
    pub(crate) fn uncork_due(&mut self) {
        let now = self.now;
        let due = self.sockets.iter().filter(|(_, s)| s.uncork_at.is_due(now));
        let due: Vec<SocketId> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.uncork(id);
        }
    }

    /// A segment has arrived: bytes that only `MSG_MORE` holds back go with whatever it sets off
    /// (`tcp_data_snd_check` knows nothing of the flag).
    pub(crate) fn release_held(&mut self) {
        let held = self.sockets.iter().filter(|(_, socket)| {
            let corked = !socket.corked.is_empty() && !socket.options.cork;
            let info = socket.flow.and_then(|flow| self.stack.info(flow));
            corked && info.is_some_and(|info| info.received_at.as_micros() == self.now.as_micros())
        });
        let held: Vec<SocketId> = held.map(|(id, _)| *id).collect();
        for id in held {
            self.uncork(id);
        }
    }

    /// Corked bytes with nothing in flight wait for a timeout (`tcp_check_probe_timer`).
    pub(crate) fn watch_corks(&mut self) {
        let now = self.now;
        for socket in self.sockets.values_mut() {
            if socket.corked.is_empty() || socket.uncork_at != Instant::NEVER {
                continue;
            }
            let info = socket.flow.and_then(|flow| self.stack.info(flow));
            if let Some(info) = info.filter(|info| info.queued_bytes == 0) {
                socket.uncork_at = now.after(info.rto.max(CORK_MIN));
            }
        }
    }

    /// When the next cork gives.
    pub(crate) fn next_uncork(&self) -> Instant {
        let due = self.sockets.values().map(|socket| socket.uncork_at);
        due.min().unwrap_or(Instant::NEVER)
    }

    /// Writes buffer by buffer, as long as there is room; what is full leaves before the next one is
    /// begun, so that what was sent makes room.
    fn push_all(&mut self, id: SocketId, data: &[u8], flags: i32, done: &mut usize) {
        // Each round takes at least a byte.
        while let Some(rest) = data.get(*done..).filter(|rest| !rest.is_empty()) {
            self.free_buffers(id);
            self.expand_send_buffer(id);
            let room = usize::try_from(self.write_room(id)).unwrap_or(usize::MAX);
            let piece = rest.get(..room.min(rest.len())).unwrap_or_default();
            let is_last = piece.len() == rest.len();
            let taken = self.push(id, piece, is_last && flags & MSG_MORE != 0);
            *done += taken;
            if is_last && taken == piece.len() && flags & MSG_EOR != 0 {
                self.end_record(id);
            }
            if taken == 0 || taken < piece.len() {
                return;
            }
            if !is_last {
                self.transmit();
            }
        }
    }

    /// Hands bytes down, except those that a cork or `more` holds back.
    fn push(&mut self, id: SocketId, data: &[u8], more: bool) -> usize {
        let mss = self
            .info(id)
            .map_or(536, |info| usize::from(info.mss.max(1)));
        let Ok(socket) = self.get_mut(id) else {
            return 0;
        };
        let holds = socket.options.cork || more;
        let mut queued = core::mem::take(&mut socket.corked);
        let before = queued.len();
        queued.extend_from_slice(data);
        let leaves = if holds {
            queued.len() - queued.len() % mss
        } else {
            queued.len()
        };
        let taken = self.hand_down(id, queued.get(..leaves).unwrap_or_default());
        let kept_to = if taken < leaves {
            // No buffer is free: what the program has not been told of goes back to it.
            before.max(taken)
        } else {
            queued.len()
        };
        let accepted = kept_to - before;
        let Ok(socket) = self.get_mut(id) else {
            return 0;
        };
        socket.corked = queued.get(taken..kept_to).unwrap_or_default().to_vec();
        if socket.corked.is_empty() {
            socket.uncork_at = Instant::NEVER;
        }
        self.note_written(id, accepted as u64);
        accepted
    }

    fn hand_down(&mut self, id: SocketId, data: &[u8]) -> usize {
        let Some(flow) = self.get(id).ok().and_then(|socket| socket.flow) else {
            return 0;
        };
        if data.is_empty() {
            return 0;
        }
        self.stack.send(self.now, flow, data, &mut self.pool)
    }

    /// Whether sending has ended: an error, our side shut, no connection (behaviour: A3-6 A3-10).
    fn may_not_send(&self, id: SocketId) -> bool {
        let open = matches!(self.state(id), State::Established | State::CloseWait);
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
        let error = self.get_mut(id)?.take_error();
        Err(error.unwrap_or(Errno::EPIPE))
    }

    /// Remembers who wants to know when the bytes of a call have left or were acknowledged.
    fn mark_sent(&mut self, id: SocketId, flags: i32, done: usize) {
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
        for purpose in socket.options.stamps_wanted() {
            socket.marks.push_back(Mark {
                end,
                purpose,
                number,
            });
        }
    }
}
