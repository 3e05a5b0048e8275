//! The stopwatches of `TCP_INFO`: how long there was data to send, and how much of that time the
//! peer's window or the send buffer was what held it up.
//!
//! As in Linux (`tcp_chrono_start`) one watch runs at a time, and of several reasons the last of
//! the list counts.

use millrace_base::{Instant, Nanos};
use millrace_stack::FlowInfo;

use crate::file::SocketId;
use crate::sockets::Sockets;

/// What a connection is held up by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) enum Reason {
    /// There is nothing to send.
    #[default]
    Idle,
    /// Nothing but the network.
    Busy,
    /// The peer's window.
    ReceiveWindow,
    /// The send buffer: the program has more than fits.
    SendBuffer,
}

/// The watches of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Chrono {
    reason: Reason,
    since: Instant,
    busy: Nanos,
    window_limited: Nanos,
    buffer_limited: Nanos,
}

/// What the watches show, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Reading {
    pub(crate) busy_us: u64,
    pub(crate) window_limited_us: u64,
    pub(crate) buffer_limited_us: u64,
}

impl Chrono {
    /// From `now` on it is held up by `reason`.
    fn switch(&mut self, now: Instant, reason: Reason) {
        let spent = now.since(self.since);
        self.since = now;
        let watch = match core::mem::replace(&mut self.reason, reason) {
            Reason::Idle => return,
            Reason::Busy => &mut self.busy,
            Reason::ReceiveWindow => &mut self.window_limited,
            Reason::SendBuffer => &mut self.buffer_limited,
        };
        *watch = Nanos::new(watch.as_nanos().saturating_add(spent.as_nanos()));
    }

    /// What the watches show at `now`. A limited connection is a busy one.
    pub(crate) fn read(mut self, now: Instant) -> Reading {
        self.switch(now, Reason::Idle);
        let micros = |span: Nanos| span.as_nanos() / 1_000;
        let [busy, window, buffer] =
            [self.busy, self.window_limited, self.buffer_limited].map(micros);
        Reading {
            busy_us: busy + window + buffer,
            window_limited_us: window,
            buffer_limited_us: buffer,
        }
    }
}

impl Sockets {
    /// Switches every connection's watch to what holds it up now, and takes its delivery rate.
    pub(crate) fn update_chronos(&mut self) {
        let ids: Vec<SocketId> = self.sockets.keys().copied().collect();
        for id in ids {
            let info = self.info(id);
            let reason = info
                .as_ref()
                .map_or(Reason::Idle, |info| self.reason_of(id, info));
            let now = self.now;
            if let (Some(info), Some(socket)) = (&info, self.sockets.get_mut(&id)) {
                let min_rtt = info.rtt_min.map(millrace_base::Micros::to_nanos);
                socket.rate.on_acked(now, info.bytes_acked, min_rtt);
            }
            if let Some(socket) = self.sockets.get_mut(&id)
                && socket.chrono.reason != reason
            {
                socket.chrono.switch(now, reason);
            }
        }
    }

    fn reason_of(&self, id: SocketId, info: &FlowInfo) -> Reason {
        let Some(socket) = self.sockets.get(&id) else {
            return Reason::Idle;
        };
        if socket.written <= info.bytes_acked {
            return Reason::Idle;
        }
        if info.unsent_bytes == 0 {
            return if socket.no_space {
                Reason::SendBuffer
            } else {
                Reason::Busy
            };
        }
        let sent = info.queued_bytes.saturating_sub(info.unsent_bytes);
        let next = info.unsent_bytes.min(info.mss.into());
        let window_blocks = sent.saturating_add(next) > info.snd_wnd;
        let network_blocks = info.in_flight_bytes >= info.cwnd_bytes;
        if window_blocks && !network_blocks {
            Reason::ReceiveWindow
        } else {
            Reason::Busy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_watch_runs_at_a_time_and_all_count_as_busy() {
        let at = Instant::from_millis;
        let mut chrono = Chrono::default();
        chrono.switch(at(10), Reason::Busy);
        chrono.switch(at(15), Reason::ReceiveWindow);
        chrono.switch(at(18), Reason::SendBuffer);
        chrono.switch(at(20), Reason::Idle);
        let reading = chrono.read(at(500));
        assert_eq!(reading.busy_us, 10_000);
        assert_eq!(reading.window_limited_us, 3_000);
        assert_eq!(reading.buffer_limited_us, 2_000);
        chrono.switch(at(500), Reason::Busy);
        assert_eq!(chrono.read(at(501)).busy_us, 11_000, "it still runs");
    }
}
