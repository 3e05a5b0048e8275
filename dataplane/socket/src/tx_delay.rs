//! `TCP_TX_DELAY`: a socket's packets leave so many microseconds late, to stand in for a longer path.
//!
//! As in Linux it is the link's `fq` that delays (`tcp_add_tx_delay` only moves the packet's time of
//! departure): with any other queueing discipline the option changes nothing. A SYN-ACK has the delay
//! of its listener. Segments that no socket owns, of TIME_WAIT say, leave at once.

use millrace_base::{Instant, Nanos};

use crate::header::Header;
use crate::sockets::Sockets;

/// Microseconds of delay are fewer than this (Linux: `srtt_us` holds eighths of one in 31 bits).
pub(crate) const TX_DELAY_END: i32 = 1 << 28;

impl Sockets {
    /// Holds back what has left since `first` and has a delay, and lets go of what had one that is
    /// over. Packets of one delay stay in order.
    // behaviour: A4-24, A19-11
    pub(crate) fn delay_packets(&mut self, first: usize) {
        let has_fq = self.sysctls.tunables().fq;
        let delays = has_fq && self.sockets.values().any(|it| it.options.tx_delay_us > 0);
        if delays {
            for (at, packet) in self.left.split_off(first.min(self.left.len())) {
                let late = Nanos::from_micros(self.tx_delay_of(&packet).into());
                if late == Nanos::ZERO {
                    self.left.push_back((at, packet));
                } else {
                    let behind = self
                        .delayed
                        .partition_point(|(due, _)| *due <= at.after(late));
                    self.delayed.insert(behind, (at.after(late), packet));
                }
            }
        }
        while self.next_delayed() <= self.now {
            self.left.extend(self.delayed.pop_front());
        }
        self.finished = self.left.len();
    }

    /// When the next packet's delay is over.
    pub(crate) fn next_delayed(&self) -> Instant {
        self.delayed.front().map_or(Instant::NEVER, |(due, _)| *due)
    }

    fn tx_delay_of(&self, packet: &[u8]) -> u32 {
        let owner = Header::of(packet).and_then(|it| self.owner_of(it.source, it.destination));
        let socket = owner.and_then(|id| self.get(id).ok());
        socket.map_or(0, |socket| socket.options.tx_delay_us)
    }
}
