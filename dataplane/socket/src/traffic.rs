//! Segments of a connection as they come in and go out: counted for `TCP_INFO`, and where each is
//! looked at once.

use millrace_base::{Endpoint, FlowTuple, Instant};

use crate::file::SocketId;
use crate::header::{Header, PSH};
use crate::sockets::Sockets;

/// What has come and gone.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Traffic {
    pub(crate) segments_in: u32,
    pub(crate) data_segments_in: u32,
    pub(crate) segments_out: u32,
    pub(crate) data_segments_out: u32,
    /// Payload bytes that left, again included.
    pub(crate) bytes_out: u64,
    /// Segments that ended what the peer had to say for now, since our last ACK: shorter than a full
    /// one, or with PSH (`ICSK_ACK_PUSHED`, `ICSK_ACK_PUSHED2`).
    pub(crate) pushed: u8,
    /// Segments that were not let in.
    pub(crate) refused: u32,
    /// When data came last.
    pub(crate) data_at: Option<Instant>,
}

impl Sockets {
    /// The socket of a living connection.
    pub(crate) fn connected(&self, local: Endpoint, remote: Endpoint) -> Option<SocketId> {
        self.flows.get(&FlowTuple { local, remote }).copied()
    }

    /// A packet comes in: counts it for its connection and reads its urgent pointer.
    pub(crate) fn note_segment(&mut self, packet: &[u8]) {
        let Some(header) = Header::of(packet) else {
            return;
        };
        let Some(id) = self.connected(header.destination, header.source) else {
            self.keep_syn(&header, packet);
            return;
        };
        let now = self.now;
        let full = self
            .info(id)
            .map_or(0, |info| usize::from(info.receive_mss));
        if let Ok(socket) = self.get_mut(id) {
            let traffic = &mut socket.traffic;
            traffic.segments_in = traffic.segments_in.wrapping_add(1);
            if header.bytes() > 0 {
                traffic.data_segments_in = traffic.data_segments_in.wrapping_add(1);
                traffic.data_at = Some(now);
                if header.bytes() < full {
                    traffic.pushed = traffic.pushed.saturating_add(1);
                } else if header.flags & PSH != 0 {
                    traffic.pushed = traffic.pushed.max(1);
                }
            }
        }
        self.note_urgent(id, &header, packet);
    }

    /// A packet of a socket was not let in (`sk_drops`; behaviour: A6-27).
    pub(crate) fn count_refused(&mut self, packet: &[u8]) {
        let header = Header::of(packet);
        let owner = header.and_then(|header| self.owner_of(header.destination, header.source));
        if let Some(socket) = owner.and_then(|id| self.sockets.get_mut(&id)) {
            socket.traffic.refused = socket.traffic.refused.wrapping_add(1);
        }
    }

    /// A read has taken everything: the peer may wait for the ACK of what it pushed
    /// (`tcp_cleanup_rbuf`; behaviour: RDV-19).
    pub(crate) fn acknowledge_read(&mut self, id: SocketId) {
        let Some(info) = self.info(id).filter(|info| info.unread_bytes == 0) else {
            return;
        };
        let Ok(socket) = self.get(id) else { return };
        let pushed = socket.traffic.pushed;
        let wanted = pushed > 1 || (pushed == 1 && !info.ping_pong);
        if let Some(flow) = socket.flow.filter(|_| wanted) {
            self.stack.hasten_ack(self.now, flow);
        }
    }

    /// A packet of a connection has left.
    pub(crate) fn count_out(&mut self, id: SocketId, bytes: u64) {
        let Ok(socket) = self.get_mut(id) else { return };
        let traffic = &mut socket.traffic;
        traffic.segments_out = traffic.segments_out.wrapping_add(1);
        traffic.pushed = 0;
        if bytes > 0 {
            traffic.data_segments_out = traffic.data_segments_out.wrapping_add(1);
            traffic.bytes_out = traffic.bytes_out.wrapping_add(bytes);
        }
    }
}
