//! What a host holds now: the numbers of `/proc/net/sockstat`.
//!
//! They are counted when somebody asks, in O(sockets); events over time are in `netstat`.

use crate::socket::Socket;
use crate::sockets::Sockets;

/// Bytes of a page, in which memory is told.
const PAGE_BYTES: usize = 4_096;

/// The numbers of `/proc/net/sockstat`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SockStat {
    /// Sockets that a descriptor names ("sockets: used").
    pub used: usize,
    /// TCP sockets that packets can find: listening or with a connection ("inuse").
    pub in_use: usize,
    /// Connections whose socket was closed ("orphan").
    pub orphans: usize,
    /// TIME_WAIT records ("tw").
    pub time_wait: usize,
    /// TCP sockets that exist, those without a descriptor and orphans included ("alloc").
    pub allocated: usize,
    /// Pages of queued payload ("mem").
    pub memory_pages: usize,
}

impl Sockets {
    /// What the host holds now.
    // behaviour: SOK-15 HSH-19
    pub fn sockstat(&self) -> SockStat {
        let occupancy = self.stack.occupancy();
        let sockets = self.sockets.values();
        let connected = sockets.clone().filter(|socket| socket.flow.is_some());
        let orphans = occupancy.connections.saturating_sub(connected.count());
        let findable = |socket: &&Socket| socket.flow.is_some() || socket.listening.is_some();
        SockStat {
            used: self.files.socket_count(),
            in_use: sockets.filter(findable).count() + orphans,
            orphans,
            time_wait: occupancy.time_wait,
            allocated: self.sockets.len() + orphans,
            memory_pages: (occupancy.chunks * crate::sockets::BUFFER_BYTES).div_ceil(PAGE_BYTES),
        }
    }
}
