//! `TCP_REPAIR`: a socket is taken apart on one host and put together on another, or in another
//! program, and its peer notices nothing.
//!
//! In this mode a connect is done without a SYN, a send fills a queue, a receive looks into one, and
//! a close is silent. The sequence numbers, what the SYNs agreed on, the windows and the clock of
//! the time stamps can be read and set. What of a send queue was given is taken for sent.
//!
//! Linux: `do_tcp_setsockopt`, `tcp_repair_set_window`, `tcp_send_rcvq`, `tcp_peek_sndq`.

use millrace_stack::{Agreement, RepairWindow, State};

use crate::call::{Received, Reply};
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{
    MSG_PEEK, TCP_QUEUE_SEQ, TCP_REPAIR, TCP_REPAIR_OPTIONS, TCP_REPAIR_QUEUE, TCP_REPAIR_WINDOW,
    TCP_TIMESTAMP,
};
use crate::receive::Wanted;
use crate::sockets::Sockets;

/// `TCP_REPAIR_ON`, `TCP_REPAIR_OFF`, and off without asking the peer for its window.
const ON: i32 = 1;
const OFF: i32 = 0;
const OFF_SILENTLY: i32 = -1;
/// `struct tcp_repair_opt` and `struct tcp_repair_window`.
const OPTION_BYTES: usize = 8;
const WINDOW_BYTES: usize = 20;
/// The numbers of TCP options.
const MSS: u32 = 2;
const WINDOW_SCALE: u32 = 3;
const SACK_PERMITTED: u32 = 4;
const TIMESTAMPS: u32 = 8;
/// The largest window shift.
const SHIFT_MAX: u32 = 14;

/// Which queue sends and receives are about (behaviour: X3-7).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Queue {
    #[default]
    None,
    Receive,
    Send,
}

/// The mode of one socket.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Repair {
    on: bool,
    queue: Queue,
    /// Where the streams begin when `connect` comes.
    write_seq: Option<u32>,
    receive_seq: u32,
}

impl Sockets {
    /// Sets an option of the repair; `None` for other options.
    pub(crate) fn set_repair_option(
        &mut self,
        id: SocketId,
        name: i32,
        value: &[u8],
    ) -> Option<Result<(), Errno>> {
        let number = value.get(..4).and_then(|word| word.try_into().ok());
        let number = number.map(i32::from_ne_bytes).ok_or(Errno::EINVAL);
        Some(match (name, number) {
            (TCP_REPAIR, Ok(number)) => self.switch_repair(id, number),
            (TCP_REPAIR_QUEUE, Ok(number)) => self.choose_queue(id, number),
            (TCP_QUEUE_SEQ, Ok(number)) => self.set_sequence(id, number.cast_unsigned()),
            (TCP_REPAIR_OPTIONS, Ok(_)) => self.set_agreements(id, value),
            (TCP_REPAIR_WINDOW, Ok(_)) => self.set_windows(id, value),
            (TCP_TIMESTAMP, Ok(number)) => self.set_stamp_clock(id, number.cast_unsigned()),
            (
                TCP_REPAIR | TCP_REPAIR_QUEUE | TCP_QUEUE_SEQ | TCP_REPAIR_OPTIONS
                | TCP_REPAIR_WINDOW | TCP_TIMESTAMP,
                Err(error),
            ) => Err(error),
            _ => return None,
        })
    }

    /// An option of the repair for a buffer of `len`; `None` for other options.
    pub(crate) fn repair_option(
        &mut self,
        id: SocketId,
        name: i32,
        len: usize,
    ) -> Option<Result<Vec<u8>, Errno>> {
        let repair = self
            .get(id)
            .map_or_else(|_| Repair::default(), |s| s.repair);
        let flow = self.get(id).ok().and_then(|socket| socket.flow);
        let now = self.now;
        let word = match name {
            TCP_REPAIR => Ok(u32::from(repair.on)),
            TCP_REPAIR_QUEUE if repair.on => Ok(repair.queue as u32),
            TCP_REPAIR_QUEUE => Err(Errno::EINVAL),
            TCP_QUEUE_SEQ => match repair.queue {
                Queue::Send => Ok(self.write_seq(id)),
                Queue::Receive => Ok(self
                    .info(id)
                    .map_or(repair.receive_seq, |info| info.rcv_nxt.value())),
                Queue::None => Err(Errno::EINVAL),
            },
            TCP_TIMESTAMP => {
                let stamp = flow.and_then(|flow| self.stack.timestamp(now, flow));
                Ok(stamp.unwrap_or(now.as_millis() as u32))
            }
            TCP_REPAIR_WINDOW if len != WINDOW_BYTES => Err(Errno::EINVAL),
            TCP_REPAIR_WINDOW if !repair.on => Err(Errno::EPERM),
            TCP_REPAIR_WINDOW => {
                let window = flow.and_then(|flow| self.stack.repair_window(now, flow));
                return Some(Ok(bytes_of(&window.unwrap_or_default())));
            }
            TCP_REPAIR_OPTIONS => Err(Errno::ENOPROTOOPT),
            _ => return None,
        };
        Some(word.map(|word| word.to_ne_bytes().to_vec()))
    }

    /// A connect in repair is done at once (behaviour: A12-21 CON-15).
    pub(crate) fn repair_connect(&mut self, id: SocketId) {
        let Ok(socket) = self.get(id) else { return };
        let repair = socket.repair;
        let Some(flow) = socket.flow.filter(|_| repair.on) else {
            return;
        };
        let chosen = self.info(id).map_or(0, |info| info.snd_una.value());
        let write_seq = repair.write_seq.unwrap_or(chosen.wrapping_add(1));
        self.stack
            .restore(self.now, flow, write_seq, repair.receive_seq);
    }

    /// A send in repair fills the queue that was chosen (behaviour: A3-7).
    pub(crate) fn repair_send(
        &mut self,
        id: SocketId,
        data: &[u8],
    ) -> Option<Result<Reply, Errno>> {
        let socket = self.get(id).ok()?;
        let (repair, flow, now) = (socket.repair, socket.flow, self.now);
        if !repair.on {
            return None;
        }
        Some(match (repair.queue, flow) {
            (Queue::None, _) => Err(Errno::EINVAL),
            (_, None) => Err(Errno::EPIPE),
            (Queue::Receive, Some(flow)) => {
                let put = self.stack.put_received(now, flow, data, &mut self.pool);
                Ok(Reply::Count(put))
            }
            (Queue::Send, Some(flow)) => {
                let taken = self.stack.send(now, flow, data, &mut self.pool);
                self.stack.mark_all_sent(now, flow);
                self.note_written(id, taken as u64, true);
                Ok(Reply::Count(taken))
            }
        })
    }

    /// A receive in repair may only look, into the queue that was chosen; `None` for one that looks
    /// like any other (behaviour: A11-8 OPT-31).
    pub(crate) fn repair_receive(
        &mut self,
        id: SocketId,
        wanted: Wanted,
    ) -> Option<Result<Reply, Errno>> {
        let socket = self.get(id).ok()?;
        let (repair, flow) = (socket.repair, socket.flow);
        if !repair.on {
            return None;
        }
        if wanted.flags & MSG_PEEK == 0 {
            return Some(Err(Errno::EPERM));
        }
        match repair.queue {
            Queue::Receive => None,
            Queue::None => Some(Err(Errno::EINVAL)),
            Queue::Send => {
                let held: Vec<u8> = socket.outbox.held.iter().copied().collect();
                let mut bytes = vec![0; wanted.len];
                let seen = flow.map_or(0, |flow| {
                    self.stack.peek_sent(self.now, flow, 0, &mut bytes)
                });
                bytes.truncate(seen);
                bytes.extend(held);
                bytes.truncate(wanted.len);
                Some(Ok(Reply::Received(Received {
                    count: bytes.len(),
                    bytes,
                    ..Received::default()
                })))
            }
        }
    }

    /// A close in repair tells nobody (behaviour: A25-7).
    pub(crate) fn repair_close(&mut self, id: SocketId) {
        if self.get(id).is_ok_and(|socket| socket.repair.on)
            && let Some(flow) = self.let_go(id)
        {
            self.stack.forget(self.now, flow);
        }
    }

    fn switch_repair(&mut self, id: SocketId, number: i32) -> Result<(), Errno> {
        if self.state(id) == State::Listen {
            return Err(Errno::EPERM);
        }
        let now = self.now;
        let socket = self.get_mut(id)?;
        match number {
            ON => {
                socket.repair.on = true;
                socket.repair.queue = Queue::None;
            }
            OFF | OFF_SILENTLY => {
                socket.repair.on = false;
                let flow = socket.flow.filter(|_| number == OFF);
                if let Some(flow) = flow {
                    self.stack.end_repair(now, flow);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn choose_queue(&mut self, id: SocketId, number: i32) -> Result<(), Errno> {
        let repair = &mut self.get_mut(id)?.repair;
        if !repair.on {
            return Err(Errno::EPERM);
        }
        repair.queue = match number {
            0 => Queue::None,
            1 => Queue::Receive,
            2 => Queue::Send,
            _ => return Err(Errno::EINVAL),
        };
        Ok(())
    }

    fn set_sequence(&mut self, id: SocketId, number: u32) -> Result<(), Errno> {
        let closed = self.state(id) == State::Closed;
        let repair = &mut self.get_mut(id)?.repair;
        match repair.queue {
            _ if !closed => return Err(Errno::EPERM),
            Queue::Send => repair.write_seq = Some(number),
            Queue::Receive => repair.receive_seq = number,
            Queue::None => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn set_agreements(&mut self, id: SocketId, value: &[u8]) -> Result<(), Errno> {
        let fresh = self.state(id) == State::Established && self.sent(id) == 0;
        let socket = self.get(id)?;
        if !socket.repair.on {
            return Err(Errno::EINVAL);
        }
        let flow = socket.flow.filter(|_| fresh).ok_or(Errno::EPERM)?;
        for option in value.chunks_exact(OPTION_BYTES) {
            let word = |at: usize| {
                let bytes = option.get(at..at + 4).and_then(|b| b.try_into().ok());
                bytes.map_or(0, u32::from_ne_bytes)
            };
            let agreement = match (word(0), word(4)) {
                (MSS, bytes) => Agreement::MaxSegment(bytes as u16),
                (WINDOW_SCALE, shifts) => {
                    let (theirs, ours) = (shifts & 0xffff, shifts >> 16);
                    if theirs > SHIFT_MAX || ours > SHIFT_MAX {
                        return Err(Errno::EFBIG);
                    }
                    Agreement::WindowScale(theirs as u8, ours as u8)
                }
                (SACK_PERMITTED, 0) => Agreement::Sack,
                (TIMESTAMPS, 0) => Agreement::Timestamps,
                (SACK_PERMITTED | TIMESTAMPS, _) => return Err(Errno::EINVAL),
                _ => continue,
            };
            self.stack.agree_again(self.now, flow, agreement);
        }
        Ok(())
    }

    fn set_windows(&mut self, id: SocketId, value: &[u8]) -> Result<(), Errno> {
        let socket = self.get(id)?;
        if !socket.repair.on {
            return Err(Errno::EPERM);
        }
        if value.len() != WINDOW_BYTES {
            return Err(Errno::EINVAL);
        }
        let words: Vec<u32> = value
            .chunks_exact(4)
            .filter_map(|word| word.try_into().ok().map(u32::from_ne_bytes))
            .collect();
        let &[snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup] = words.as_slice() else {
            return Err(Errno::EINVAL);
        };
        let window = RepairWindow {
            snd_wl1,
            snd_wnd,
            max_window,
            rcv_wnd,
            rcv_wup,
        };
        let flow = socket.flow.ok_or(Errno::EINVAL)?;
        if !self.stack.set_repair_window(self.now, flow, &window) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn set_stamp_clock(&mut self, id: SocketId, value: u32) -> Result<(), Errno> {
        let socket = self.get(id)?;
        if !socket.repair.on {
            return Err(Errno::EPERM);
        }
        if let Some(flow) = socket.flow {
            self.stack.set_timestamp(self.now, flow, value);
        }
        Ok(())
    }

    /// The sequence number behind everything written.
    fn write_seq(&self, id: SocketId) -> u32 {
        let Ok(socket) = self.get(id) else { return 0 };
        let held = socket.outbox.held.len() as u32;
        self.info(id).map_or_else(
            || socket.repair.write_seq.unwrap_or(0),
            |info| info.snd_una.plus(info.queued_bytes).plus(held).value(),
        )
    }
}

fn bytes_of(window: &RepairWindow) -> Vec<u8> {
    let words = [
        window.snd_wl1,
        window.snd_wnd,
        window.max_window,
        window.rcv_wnd,
        window.rcv_wup,
    ];
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}
