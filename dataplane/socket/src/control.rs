//! Control messages: what a receive call tells beside the bytes, and what a send call asks for.
//!
//! Linux: `put_cmsg`, `tcp_recv_timestamp`, `tcp_inq_hint`, `sock_cmsg_send`.

use millrace_base::Instant;

use crate::call::{Control, Received};
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{
    MSG_CTRUNC, SCM_CREDENTIALS, SCM_RIGHTS, SO_MARK, SO_PRIORITY, SO_TIMESTAMP, SO_TIMESTAMP_NEW,
    SO_TIMESTAMPING, SO_TIMESTAMPING_NEW, SO_TIMESTAMPNS, SO_TIMESTAMPNS_NEW,
    SOF_TIMESTAMPING_RX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE, SOF_TIMESTAMPING_TX_ACK,
    SOF_TIMESTAMPING_TX_HARDWARE, SOF_TIMESTAMPING_TX_SCHED, SOF_TIMESTAMPING_TX_SOFTWARE,
    SOL_SOCKET,
};
use crate::socket::Socket;
use crate::sockets::{Sockets, is_opening};

/// Bytes of a control message beside its data, and of the smallest one.
const HEADER_BYTES: usize = 16;
/// What a control message is aligned to.
const ALIGNMENT: usize = 8;
/// The stamps that a message may ask for (`SOF_TIMESTAMPING_TX_RECORD_MASK`).
pub(crate) const RECORD_MASK: i32 = SOF_TIMESTAMPING_TX_HARDWARE
    | SOF_TIMESTAMPING_TX_SOFTWARE
    | SOF_TIMESTAMPING_TX_SCHED
    | SOF_TIMESTAMPING_TX_ACK;
/// Arrivals whose time is kept until the program has read their bytes. A later one joins the last.
const ARRIVALS_MAX: usize = 1_024;

/// When the bytes of the stream up to a place had come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival {
    /// Bytes received in order by then.
    end: u64,
    at: Instant,
}

/// How `SO_TIMESTAMP` and its kin tell the time a segment came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StampOption {
    /// The option that asked: also the type of the message.
    pub(crate) name: i32,
}

impl StampOption {
    /// Whether the time is told in nanoseconds.
    pub(crate) const fn is_nanos(self) -> bool {
        matches!(self.name, SO_TIMESTAMPNS | SO_TIMESTAMPNS_NEW)
    }
}

impl Socket {
    /// Whether the program wants to know when segments came.
    pub(crate) const fn stamps_arrivals(&self) -> bool {
        self.options.stamp.is_some()
            || self.options.timestamping & SOF_TIMESTAMPING_RX_SOFTWARE != 0
    }

    /// When the segment came whose byte is the last of those up to `end`.
    fn arrival_of(&self, end: u64) -> Option<Instant> {
        let found = self.arrivals.iter().find(|arrival| arrival.end >= end);
        found.map(|arrival| arrival.at)
    }

    /// The time of a read whose last byte came `at`, in every form that is asked for
    /// (behaviour: A11-21).
    fn stamp_messages(&self, at: Instant) -> Vec<Control> {
        let mut messages = Vec::new();
        let nanos = at.as_nanos();
        if let Some(option) = self.options.stamp {
            let fraction = if option.is_nanos() {
                nanos % 1_000_000_000
            } else {
                nanos % 1_000_000_000 / 1_000
            };
            let mut bytes = (nanos / 1_000_000_000).to_ne_bytes().to_vec();
            bytes.extend(fraction.to_ne_bytes());
            messages.push(Control::Data {
                level: SOL_SOCKET,
                kind: option.name,
                bytes,
            });
        }
        let asked = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE;
        if self.options.timestamping & asked == asked {
            messages.push(Control::Timestamping([nanos, 0, 0]));
        }
        messages
    }
}

impl Sockets {
    /// Notes the time of what has come, for who wants to know.
    pub(crate) fn note_arrivals(&mut self) {
        let Self {
            sockets,
            stack,
            now,
            ..
        } = self;
        for socket in sockets.values_mut().filter(|s| s.stamps_arrivals()) {
            let info = socket.flow.and_then(|flow| stack.info(flow));
            let end = info.map_or(0, |info| info.bytes_received);
            let known = socket.arrivals.back().map_or(0, |last| last.end);
            if end <= known.max(socket.stamped_to) {
                continue;
            }
            socket.stamped_to = end;
            if socket.arrivals.len() >= ARRIVALS_MAX {
                socket.arrivals.pop_back();
            }
            socket.arrivals.push_back(Arrival { end, at: *now });
        }
    }

    /// Adds what the program wants to know of a read: when its last byte came, and what is left.
    /// `end` is the place behind that byte.
    pub(crate) fn put_read_messages(
        &mut self,
        id: SocketId,
        received: &mut Received,
        room: usize,
        (end, took): (u64, bool),
    ) {
        let left = self.inq_hint(id);
        let Ok(socket) = self.get_mut(id) else { return };
        if received.count > 0
            && let Some(at) = socket.arrival_of(end)
        {
            for message in socket.stamp_messages(at) {
                put(received, room, message);
            }
        }
        if took {
            while socket.arrivals.front().is_some_and(|a| a.end <= end) {
                socket.arrivals.pop_front();
            }
        }
        // behaviour: OPT-29
        if socket.options.inq {
            put(received, room, Control::Inq(left));
        }
    }

    /// What `TCP_INQ` tells: bytes that wait, and at least one when only the end does
    /// (`tcp_inq_hint`).
    fn inq_hint(&self, id: SocketId) -> i32 {
        let unread = i32::try_from(self.unread(id)).unwrap_or(i32::MAX);
        let done = self.get(id).is_ok_and(|socket| socket.done);
        if unread == 0 && done { 1 } else { unread }
    }

    /// The message under way asks for time stamps of its own.
    pub(crate) fn stamp_message(&mut self, id: SocketId, stamps: Option<i32>) {
        if let Ok(socket) = self.get_mut(id) {
            socket.message_stamps = stamps;
        }
    }

    /// The time stamps that a message asks for instead of the socket's; `None` when it does not.
    /// `EINVAL` for what a stream does not know (behaviour: A3-8). A message that still waits for
    /// its connection is looked at afterwards.
    pub(crate) fn stamps_of_message(
        &self,
        id: SocketId,
        control: &[Control],
    ) -> Result<Option<i32>, Errno> {
        let mut stamps = None;
        if is_opening(self.state(id)) {
            return Ok(stamps);
        }
        for message in control {
            let (kind, bytes) = match message {
                Control::Data { level, kind, bytes } if *level == SOL_SOCKET => (*kind, bytes),
                Control::Timestamping(_) => return Err(Errno::EINVAL),
                Control::Data { .. } | Control::Inq(_) | Control::Error { .. } => continue,
            };
            let word = <[u8; 4]>::try_from(bytes.as_slice()).map(i32::from_ne_bytes);
            match (kind, word) {
                (SO_TIMESTAMPING | SO_TIMESTAMPING_NEW, Ok(flags)) if flags & !RECORD_MASK == 0 => {
                    stamps = Some(flags);
                }
                (SO_MARK | SO_PRIORITY, Ok(_)) | (SCM_RIGHTS | SCM_CREDENTIALS, _) => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(stamps)
    }
}

/// Whether an option asks for the time of what comes.
pub(crate) const fn is_stamp_option(name: i32) -> bool {
    matches!(
        name,
        SO_TIMESTAMP | SO_TIMESTAMPNS | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_NEW
    )
}

/// Adds a control message. One without room for all of it is cut, one without room for its header
/// is left out, and the flags say so (`put_cmsg`).
pub(crate) fn put(received: &mut Received, room: usize, control: Control) {
    let used: usize = received.control.iter().map(space_of).sum();
    let left = room.saturating_sub(used);
    let (level, kind, mut bytes) = control.parts();
    if left >= HEADER_BYTES + bytes.len() {
        received.control.push(control);
        return;
    }
    received.flags |= MSG_CTRUNC;
    if left >= HEADER_BYTES {
        bytes.truncate(left - HEADER_BYTES);
        received.control.push(Control::Data { level, kind, bytes });
    }
}

/// `CMSG_SPACE` of a message.
fn space_of(control: &Control) -> usize {
    let (_, _, bytes) = control.parts();
    HEADER_BYTES + bytes.len().next_multiple_of(ALIGNMENT)
}
