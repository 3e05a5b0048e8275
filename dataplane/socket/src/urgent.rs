//! Urgent data: one byte of the stream that the peer points at, or that we point at.
//!
//! The stack knows nothing of it: its bytes are in the stream. What the pointer says is read from
//! segments as they come in, and written into them as they leave.
//!
//! Linux: `tcp_check_urg`, `tcp_urg`, `tcp_recv_urg`, `tcp_mark_urg`; the byte that counts is the one
//! before the pointer, unless `tcp_stdurg` is 1.

use millrace_base::{FlowTuple, SeqNumber};

use crate::call::{Received, Reply};
use crate::errno::Errno;
use crate::file::SocketId;
use crate::header::{ACK, FLAGS_AT, Header, RST, SYN, URG, URGENT_AT};
use crate::linux::{MSG_OOB, MSG_PEEK, MSG_TRUNC};
use crate::news::DATA_READY;
use crate::socket::Socket;
use crate::sockets::Sockets;

/// Peers that were answered and have no socket yet.
const GREETED_MAX: usize = 4_096;

/// The peer's urgent byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Urgent {
    /// Bytes of the stream before it.
    pub(crate) at: u64,
    pub(crate) byte: UrgentByte,
}

/// What is known of the byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UrgentByte {
    /// It was announced.
    Announced,
    /// It is here.
    Here(u8),
    /// It was read apart from the stream.
    Taken,
}

/// A sequence number of the peer's and the bytes received in order before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReceiveBase {
    seq: SeqNumber,
    received: u64,
}

impl Sockets {
    /// Reads the urgent pointer of a segment that comes in, and looks for the byte.
    pub(crate) fn note_urgent(&mut self, id: SocketId, header: &Header, packet: &[u8]) {
        let Ok(socket) = self.get(id) else { return };
        if header.flags & URG == 0 && socket.urgent.is_none() {
            return;
        }
        let Some(base) = socket.receive_base else {
            return;
        };
        let distance = SeqNumber::new(header.seq).distance(base.seq);
        let Some(start) = base.received.checked_add_signed(i64::from(distance)) else {
            return;
        };
        let (read, received) = self.read_so_far(id);
        // Nothing of a segment outside the window is believed (`tcp_sequence`).
        let window = self.info(id).map_or(0, |info| u64::from(info.rcv_wnd));
        let end = start + header.bytes() as u64;
        if end < received || start > received + window || header.flags & (SYN | RST) != 0 {
            return;
        }
        let pointer = packet
            .get(header.tcp + URGENT_AT..header.tcp + URGENT_AT + 2)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u16::from_be_bytes);
        // RFC 6093: the pointer is of the byte behind, unless `tcp_stdurg` says RFC 1122's reading.
        let strict = self
            .sysctls
            .number_of("tcp_stdurg")
            .is_some_and(|on| on != 0);
        if header.flags & URG != 0 {
            self.skip_old_urgent(id);
        }
        let Ok(socket) = self.get_mut(id) else { return };
        if header.flags & URG != 0 {
            let at = start + u64::from(pointer).saturating_sub(u64::from(!strict));
            let newer = socket.urgent.is_none_or(|known| at > known.at);
            if at >= read && at >= received && newer {
                socket.urgent = Some(Urgent {
                    at,
                    byte: UrgentByte::Announced,
                });
                self.wake_urgent(id);
            }
        }
        let Ok(socket) = self.get_mut(id) else { return };
        let Some(urgent) = &mut socket.urgent else {
            return;
        };
        if urgent.byte != UrgentByte::Announced || urgent.at < start {
            return;
        }
        let place = usize::try_from(urgent.at - start).unwrap_or(usize::MAX);
        let payload = packet.get(header.payload..header.end).unwrap_or_default();
        if let Some(byte) = payload.get(place) {
            urgent.byte = UrgentByte::Here(*byte);
            self.wake(id, DATA_READY);
        }
    }

    /// A new urgent byte is announced while the program stands before the last one: it will not be
    /// read any more.
    fn skip_old_urgent(&mut self, id: SocketId) {
        let inline = self.get(id).is_ok_and(|socket| socket.options.oob_inline);
        if !inline && self.urgent_ahead(id) == Some(0) && self.unread(id) > 0 {
            self.pull(id, 1, &mut Vec::new());
            self.forget_urgent(id);
        }
    }

    /// Learns from a packet that has left how the peer's sequence numbers and the received bytes
    /// belong together.
    pub(crate) fn note_receive_base(&mut self, header: &Header) {
        if header.flags & ACK == 0 {
            return;
        }
        let tuple = FlowTuple {
            local: header.source,
            remote: header.destination,
        };
        let seq = SeqNumber::new(header.ack);
        match self.connected(tuple.local, tuple.remote) {
            Some(id) => {
                let (_, received) = self.read_so_far(id);
                if let Ok(socket) = self.get_mut(id)
                    && !socket.done
                {
                    socket.receive_base = Some(ReceiveBase { seq, received });
                }
            }
            None if header.flags & SYN != 0 => {
                if self.greeted.len() >= GREETED_MAX {
                    self.greeted.pop_first();
                }
                self.greeted.insert(tuple, seq);
            }
            None => {}
        }
    }

    /// A connection has its socket: what its SYN-ACK said counts from now on.
    pub(crate) fn take_receive_base(&mut self, tuple: &FlowTuple) -> Option<ReceiveBase> {
        let seq = self.greeted.remove(tuple)?;
        Some(ReceiveBase { seq, received: 0 })
    }

    /// Writes the urgent pointer into a segment that leaves: how far the end is, or as much as the
    /// field holds when the segment is not far from the newest one (`tcp_transmit_skb`; behaviour:
    /// A4-13 SND-40). A window probe lies below everything and has it too.
    pub(crate) fn put_urgent(&mut self, index: usize, id: SocketId, start: u64) {
        let acked = self.info(id).map_or(0, |info| info.bytes_acked);
        let sent = self.sent(id);
        let Ok(socket) = self.get(id) else { return };
        let end = socket.urgent_end;
        if start >= end || !socket.is_urgent(acked) {
            return;
        }
        let pointer = match u16::try_from(end - start) {
            Ok(pointer) => pointer,
            Err(_) if start + u64::from(u16::MAX) > sent => u16::MAX,
            Err(_) => return,
        };
        let Some((_, packet)) = self.left.get_mut(index) else {
            return;
        };
        let Some(header) = Header::of(packet) else {
            return;
        };
        header.rewrite(packet, FLAGS_AT, &[header.flags | URG]);
        header.rewrite(packet, URGENT_AT, &pointer.to_be_bytes());
    }

    /// `MSG_OOB` (`tcp_recv_urg`).
    pub(crate) fn receive_urgent(
        &mut self,
        id: SocketId,
        len: usize,
        flags: i32,
    ) -> Result<Reply, Errno> {
        let closed = self.state(id) == millrace_stack::State::Closed;
        let socket = self.get_mut(id)?;
        let Some(urgent) = &mut socket.urgent else {
            return Err(Errno::EINVAL);
        };
        if socket.options.oob_inline || urgent.byte == UrgentByte::Taken {
            return Err(Errno::EINVAL);
        }
        if closed && !socket.done {
            return Err(Errno::ENOTCONN);
        }
        let UrgentByte::Here(byte) = urgent.byte else {
            let nothing = Reply::Received(Received::default());
            let ended = closed || socket.shut.receive;
            return if ended {
                Ok(nothing)
            } else {
                Err(Errno::EAGAIN)
            };
        };
        if flags & MSG_PEEK == 0 {
            urgent.byte = UrgentByte::Taken;
        }
        let mut received = Received {
            flags: MSG_OOB,
            ..Received::default()
        };
        if len == 0 {
            received.flags |= MSG_TRUNC;
        } else {
            received.count = 1;
            if flags & MSG_TRUNC == 0 {
                received.bytes.push(byte);
            }
        }
        Ok(Reply::Received(received))
    }

    /// Bytes to the urgent byte from where the program reads; `None` when there is none ahead.
    pub(crate) fn urgent_ahead(&self, id: SocketId) -> Option<u64> {
        let (read, _) = self.read_so_far(id);
        let urgent = self.get(id).ok()?.urgent?;
        urgent.at.checked_sub(read)
    }

    /// Forgets the urgent byte once the program has read past it.
    pub(crate) fn forget_urgent(&mut self, id: SocketId) {
        let (read, _) = self.read_so_far(id);
        if let Ok(socket) = self.get_mut(id)
            && socket.urgent.is_some_and(|urgent| urgent.at < read)
        {
            socket.urgent = None;
        }
    }

    /// Bytes the program has read, and bytes received in order.
    pub(crate) fn read_so_far(&self, id: SocketId) -> (u64, u64) {
        let unread = self.unread(id) as u64;
        self.info(id).map_or((0, 0), |info| {
            (
                info.bytes_received.saturating_sub(unread),
                info.bytes_received,
            )
        })
    }
}

impl Socket {
    /// Whether an urgent byte of ours is not acknowledged (`tcp_urg_mode`).
    pub(crate) const fn is_urgent(&self, acked: u64) -> bool {
        self.urgent_end > acked
    }

    /// Whether the peer's urgent byte waits to be read apart (`POLLPRI`).
    pub(crate) fn has_urgent_byte(&self) -> bool {
        let byte = self.urgent.map(|urgent| urgent.byte);
        matches!(byte, Some(UrgentByte::Here(_)))
    }
}
