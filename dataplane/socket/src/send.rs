//! `send` in all its forms, the send buffer, and corks.
//!
//! The stack takes bytes and cuts them into segments; here is how much it may take (`SO_SNDBUF`, as
//! Linux counts it: payload and what an `sk_buff` costs), and what stays back under `TCP_CORK` and
//! `MSG_MORE`: less than one segment, for 200 ms at most.

use millrace_base::{Instant, Nanos};
use millrace_stack::State;

use crate::call::Reply;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{MSG_FASTOPEN, MSG_MORE, MSG_OOB, MSG_ZEROCOPY};
use crate::notice::{Mark, Purpose};
use crate::sockets::{Sockets, is_opening};

/// What an `sk_buff` of a stream costs beside its payload (`SKB_TRUESIZE` of an empty one).
const BUFFER_OVERHEAD: u64 = 1_280;
/// How long a cork holds (Linux: one probe timeout, 200 ms at least).
const CORK_MAX: Nanos = Nanos::from_millis(200);

impl Sockets {
    /// One attempt at sending `data` from `done` on; `done` grows. `None` while there is no room and
    /// there is time.
    //= Linux: `tcp_sendmsg_locked`.
    pub(crate) fn try_send(
        &mut self,
        id: SocketId,
        data: &[u8],
        flags: i32,
        done: &mut usize,
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
        let Ok(socket) = self.get(id) else {
            return Some(Err(Errno::EBADF));
        };
        if socket.error.is_some() || socket.shut.send || !self.may_send(id) {
            return Some(self.end_of_sending(id, *done));
        }
        let before = *done;
        let rest = data.get(*done..).unwrap_or_default();
        *done += self.push(id, rest, flags);
        if *done > before || data.is_empty() {
            self.mark_sent(id, flags, *done == data.len());
        }
        if *done == data.len() {
            return Some(Ok(Reply::Count(*done)));
        }
        if let Ok(socket) = self.get_mut(id) {
            socket.no_space = true;
        }
        if !last {
            return None;
        }
        if *done > 0 {
            return Some(Ok(Reply::Count(*done)));
        }
        Some(Err(Errno::EAGAIN))
    }

    /// Bytes that may be handed over now, by Linux's account (`sk_stream_memory_free`, per
    /// `sk_buff`).
    pub(crate) fn send_room(&self, id: SocketId) -> u64 {
        let Ok(socket) = self.get(id) else { return 0 };
        let queued = self.queued_cost(id);
        let limit = u64::from(socket.options.send_buffer);
        if queued >= limit {
            return 0;
        }
        // A buffer that is begun is filled up: the last one may go beyond the limit.
        let goal = self.size_goal(id);
        (limit - queued).div_ceil(goal + BUFFER_OVERHEAD) * goal
    }

    /// What the send queue costs (`sk_wmem_queued`).
    pub(crate) fn queued_cost(&self, id: SocketId) -> u64 {
        let corked = self.get(id).map_or(0, |socket| socket.corked.len()) as u64;
        let queued = self.info(id).map_or(0, |info| u64::from(info.queued_bytes)) + corked;
        queued + queued.div_ceil(self.size_goal(id)) * BUFFER_OVERHEAD
    }

    /// Whether `poll` says that there is room (`sk_stream_is_writeable`).
    pub(crate) fn has_write_space(&self, id: SocketId) -> bool {
        let Ok(socket) = self.get(id) else {
            return false;
        };
        let queued = self.queued_cost(id);
        let free = u64::from(socket.options.send_buffer).saturating_sub(queued);
        let unsent = self.info(id).map_or(0, |info| info.unsent_bytes) as u64;
        let unsent = unsent + socket.corked.len() as u64;
        let low_water = match socket.options.notsent_lowat {
            0 => self.sysctls.notsent_lowat(),
            own => own,
        };
        free >= queued / 2 && unsent < u64::from(low_water)
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
        let again = self.now.after(CORK_MAX);
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
        let due = self
            .sockets
            .iter()
            .filter(|(_, s)| s.uncork_at.is_due(self.now));
        let due: Vec<SocketId> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.uncork(id);
        }
    }

    /// When the next cork gives.
    pub(crate) fn next_uncork(&self) -> Instant {
        let due = self.sockets.values().map(|socket| socket.uncork_at);
        due.min().unwrap_or(Instant::NEVER)
    }

    /// Lets the send buffer grow with the congestion window, unless `SO_SNDBUF` was set
    /// (`tcp_sndbuf_expand`).
    pub(crate) fn expand_send_buffer(&mut self, id: SocketId) {
        let Some(info) = self.info(id) else { return };
        let max = self.sysctls.wmem_max();
        let Ok(socket) = self.get_mut(id) else { return };
        if socket.options.send_buffer_locked {
            return;
        }
        let mss = u64::from(info.mss.max(1));
        let per_segment = (mss + 320 + 320).next_power_of_two() + 256;
        let window = u64::from(info.cwnd_bytes).div_ceil(mss);
        let wanted = per_segment * window.max(10) * 2;
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).min(max);
        socket.options.send_buffer = socket.options.send_buffer.max(wanted);
    }

    /// Takes as much of `data` as there is room for.
    fn push(&mut self, id: SocketId, data: &[u8], flags: i32) -> usize {
        self.expand_send_buffer(id);
        let room = usize::try_from(self.send_room(id)).unwrap_or(usize::MAX);
        let data = data.get(..room.min(data.len())).unwrap_or_default();
        let Ok(socket) = self.get_mut(id) else {
            return 0;
        };
        let holds = socket.options.cork || flags & MSG_MORE != 0;
        let mut queued = core::mem::take(&mut socket.corked);
        let before = queued.len();
        queued.extend_from_slice(data);
        let mss = self
            .info(id)
            .map_or(536, |info| usize::from(info.mss.max(1)));
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
        let kept = queued.get(taken..kept_to).unwrap_or_default().to_vec();
        let now = self.now;
        let Ok(socket) = self.get_mut(id) else {
            return 0;
        };
        if kept.is_empty() {
            socket.uncork_at = Instant::NEVER;
        } else if socket.uncork_at == Instant::NEVER {
            socket.uncork_at = now.after(CORK_MAX);
        }
        socket.corked = kept;
        let accepted = kept_to - before;
        socket.written += accepted as u64;
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

    /// Whether the connection takes data (behaviour: A3-6).
    fn may_send(&self, id: SocketId) -> bool {
        matches!(self.state(id), State::Established | State::CloseWait)
    }

    fn pending_error(&self, id: SocketId) -> Option<Errno> {
        self.get(id).ok().and_then(|socket| socket.error)
    }

    /// What a send call returns when nothing more can be sent: what it sent, else the pending
    /// error, else `EPIPE` (`sk_stream_error`).
    fn end_of_sending(&mut self, id: SocketId, done: usize) -> Result<Reply, Errno> {
        if done > 0 {
            return Ok(Reply::Count(done));
        }
        let error = self.get_mut(id)?.take_error();
        Err(error.unwrap_or(Errno::EPIPE))
    }

    /// Remembers who wants to know when these bytes have left or were acknowledged.
    fn mark_sent(&mut self, id: SocketId, flags: i32, complete: bool) {
        let Ok(socket) = self.get_mut(id) else { return };
        let end = socket.written;
        if flags & MSG_ZEROCOPY != 0 && socket.options.zerocopy && complete {
            let number = socket.counters.zero_copies;
            socket.counters.zero_copies = number.wrapping_add(1);
            socket.marks.push_back(Mark {
                end,
                purpose: Purpose::ZeroCopy,
                number,
            });
        }
        if !complete {
            return;
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

    /// Bytes that Linux puts into one `sk_buff` (`tcp_send_mss`): as many whole segments as fit
    /// 64 KiB less headers, and half of the peer's largest window at most.
    fn size_goal(&self, id: SocketId) -> u64 {
        let Some(info) = self.info(id) else {
            return 536;
        };
        let mss = u64::from(info.mss.max(1));
        let most = (65_536 - 1 - 320)
            .min(u64::from(info.snd_wnd.max(1)) / 2)
            .max(mss);
        most / mss * mss
    }
}
