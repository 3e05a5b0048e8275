//! The send buffer by Linux's account: how much a program may write, and when it hears of room.
//!
//! Linux queues what a program writes in `sk_buff`s of up to `size_goal` bytes and lets it write as
//! long as their payload and overhead stay below `SO_SNDBUF` and their unsent part below
//! `TCP_NOTSENT_LOWAT`; the last `sk_buff` is filled up whatever the limits say. The stack queues by
//! other rules, so the account is kept here, over places in the byte stream.

use crate::file::SocketId;
use crate::socket::Buffer;
use crate::sockets::Sockets;

/// What an `sk_buff` of a stream costs beside its payload (`SKB_TRUESIZE` of an empty one).
const OVERHEAD_BYTES: u64 = 1_280;
/// Payload of the largest `sk_buff`: 64 KiB less the largest header.
const PAYLOAD_BYTES_MAX: u64 = 65_535 - 320;
/// The segment size before one is agreed on.
const MSS_DEFAULT: u64 = 536;

impl Sockets {
    /// Bytes written and not acknowledged.
    pub(crate) fn queued(&self, id: SocketId) -> u64 {
        let acked = self.info(id).map_or(0, |info| info.bytes_acked);
        self.get(id)
            .map_or(0, |socket| socket.written.saturating_sub(acked))
    }

    /// Bytes written and never sent, corked ones included.
    pub(crate) fn unsent(&self, id: SocketId) -> u64 {
        let Ok(socket) = self.get(id) else { return 0 };
        socket.written.saturating_sub(self.sent(id))
    }

    /// Bytes of the stream that were sent at least once.
    pub(crate) fn sent(&self, id: SocketId) -> u64 {
        self.info(id).map_or(0, |info| {
            let queued = u64::from(info.queued_bytes.saturating_sub(info.unsent_bytes));
            info.bytes_acked + queued
        })
    }

    /// Bytes that may be written in one go, until something is sent (`sk_stream_memory_free`, per
    /// `sk_buff`): what is left of the last buffer, else a new one when there is memory.
    pub(crate) fn write_room(&self, id: SocketId) -> u64 {
        let goal = self.size_goal(id);
        let Ok(socket) = self.get(id) else { return 0 };
        let sent = self.sent(id);
        if let Some(last) = socket.buffers.back() {
            let held = last.end - last.start.max(sent.min(last.end));
            if held > 0 && held < goal && !last.ends_record {
                return goal - held;
            }
        }
        if self.has_memory(id, 1) { goal } else { 0 }
    }

    /// Takes note of `count` bytes written, which `write_room` allowed. The `first` of a call take the
    /// PSH mark off the buffer they are added to (behaviour: A3-19).
    pub(crate) fn note_written(&mut self, id: SocketId, count: u64, first: bool) {
        let goal = self.size_goal(id);
        let sent = self.sent(id);
        let Ok(socket) = self.get_mut(id) else { return };
        let start = socket.written;
        let end = start + count;
        socket.written = end;
        if let Some(last) = socket.buffers.back_mut() {
            let held = last.end - last.start.max(sent.min(last.end));
            if held > 0 && held + count <= goal && !last.ends_record {
                last.end = end;
                if first {
                    socket.outbox.pushes.remove(&start);
                }
                return;
            }
        }
        socket.buffers.push_back(Buffer {
            start,
            end,
            ends_record: false,
        });
    }

    /// Whether `poll` says that there is room: a third of the buffer (`sk_stream_is_writeable`).
    pub(crate) fn has_write_space(&self, id: SocketId) -> bool {
        let Ok(socket) = self.get(id) else {
            return false;
        };
        let cost = self.queued_cost(id);
        let free = u64::from(socket.options.send_buffer).saturating_sub(cost);
        free >= cost / 2 && self.has_memory(id, 2)
    }

    /// Whether the send buffer may grow: a window that is full needs no more data
    /// (`tcp_should_expand_sndbuf`).
    pub(crate) fn may_expand(&self, id: SocketId) -> bool {
        self.info(id)
            .is_some_and(|info| info.in_flight_bytes + u32::from(info.mss) <= info.cwnd_bytes)
    }

    /// Forgets buffers that were acknowledged.
    pub(crate) fn free_buffers(&mut self, id: SocketId) {
        let acked = self.info(id).map_or(u64::MAX, |info| info.bytes_acked);
        let Ok(socket) = self.get_mut(id) else { return };
        while socket.buffers.front().is_some_and(|b| b.end <= acked) {
            socket.buffers.pop_front();
        }
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

    /// Whether a new buffer may be begun. `weight` counts unsent bytes twice for who is to be woken
    /// (`tcp_stream_memory_free`).
    fn has_memory(&self, id: SocketId, weight: u64) -> bool {
        let Ok(socket) = self.get(id) else {
            return false;
        };
        let low_water = match socket.options.notsent_lowat {
            0 => self.sysctls.notsent_lowat(),
            own => own,
        };
        let unlimited = low_water == u32::MAX;
        self.queued_cost(id) < u64::from(socket.options.send_buffer)
            && (unlimited || self.unsent(id) * weight < u64::from(low_water))
    }

    /// What the send queue costs (`sk_wmem_queued`).
    pub(crate) fn queued_cost(&self, id: SocketId) -> u64 {
        let acked = self.info(id).map_or(0, |info| info.bytes_acked);
        let Ok(socket) = self.get(id) else { return 0 };
        let live = socket.buffers.iter().filter(|b| b.end > acked).count() as u64;
        self.queued(id) + live * OVERHEAD_BYTES
    }

    /// Bytes that Linux puts into one `sk_buff` (`tcp_xmit_size_goal`): as many whole segments as fit
    /// 64 KiB less headers, and half of the peer's largest window at most.
    fn size_goal(&self, id: SocketId) -> u64 {
        let Some(info) = self.info(id) else {
            return MSS_DEFAULT;
        };
        let mss = u64::from(info.mss.max(1));
        let window = match u64::from(info.snd_wnd_max) {
            0 => u64::MAX,
            small if small <= MSS_DEFAULT => small,
            large => large / 2,
        };
        let most = PAYLOAD_BYTES_MAX.min(window).max(mss);
        most / mss * mss
    }
}
