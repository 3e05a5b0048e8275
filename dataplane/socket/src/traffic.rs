//! Segments of a connection as they come in and go out: counted for `TCP_INFO`, and where each is
//! looked at once.

use millrace_base::{Endpoint, FlowTuple, Instant};

use crate::file::SocketId;
use crate::header::{Header, RST};
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
        if let Ok(socket) = self.get_mut(id) {
            let traffic = &mut socket.traffic;
            traffic.segments_in = traffic.segments_in.wrapping_add(1);
            if header.bytes() > 0 {
                traffic.data_segments_in = traffic.data_segments_in.wrapping_add(1);
                traffic.data_at = Some(now);
            }
        }
        self.note_urgent(id, &header, packet);
        if header.flags & RST != 0 {
            self.save_unread(id);
        }
    }

    /// A packet of a connection has left.
    pub(crate) fn count_out(&mut self, id: SocketId, bytes: u64) {
        let Ok(socket) = self.get_mut(id) else { return };
        let traffic = &mut socket.traffic;
        traffic.segments_out = traffic.segments_out.wrapping_add(1);
        if bytes > 0 {
            traffic.data_segments_out = traffic.data_segments_out.wrapping_add(1);
            traffic.bytes_out = traffic.bytes_out.wrapping_add(bytes);
        }
    }
}
