//! How much may be in flight: the window, the threshold, and the algorithm that moves them.
//!
//! Everything counts bytes (RFC 5681 with the byte counting of RFC 3465): a chunk boundary does not
//! change what a connection may send. The algorithms decide growth and reduction; *what* is lost is
//! `recovery`'s business. An algorithm is an enum variant, not a trait object: the TCB stays flat
//! and the call is a jump.

mod cubic;
mod reno;

use millrace_base::{Instant, Micros, SeqNumber};

use super::config::CongestionControl;
use super::shelf::Shelf;
use cubic::Cubic;
pub(crate) use cubic::Epoch;
use reno::Reno;

/// One acknowledgment, as congestion control sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    /// Bytes newly acknowledged.
    pub(crate) bytes: u32,
    /// The smoothed round trip, once known.
    pub(crate) srtt: Option<Micros>,
    /// When the ACK arrived.
    pub(crate) now: Instant,
}

/// The congestion window and who moves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Congestion {
    /// Bytes that may be in flight.
    pub(crate) cwnd: u32,
    /// Below this, growth is exponential.
    pub(crate) ssthresh: u32,
    /// The most bytes in flight since `usage_from` was passed, and whether the window held us back
    /// then.
    flight_max: u32,
    usage_from: SeqNumber,
    /// The segment size all of this is counted in.
    mss: u16,
    limited: bool,
    controller: Controller,
}

#[derive(Clone, Copy, Debug)]
enum Controller {
    Reno(Reno),
    Cubic(Cubic),
}

impl Congestion {
    /// The state of a fresh connection.
    pub(crate) fn new(control: CongestionControl, mss: u16, init_cwnd: u8) -> Self {
        let mss = mss.max(1);
        Self {
            cwnd: u32::from(mss).saturating_mul(u32::from(init_cwnd.max(1))),
            ssthresh: u32::MAX,
            mss,
            flight_max: 0,
            usage_from: SeqNumber::new(0),
            limited: false,
            controller: match control {
                CongestionControl::Reno => Controller::Reno(Reno::default()),
                CongestionControl::Cubic => Controller::Cubic(Cubic::default()),
            },
        }
    }

    /// The segment size is known now, or has changed: a window in bytes keeps its number of
    /// segments only before any data was sent.
    pub(crate) fn set_mss(&mut self, mss: u16, rescale: bool) {
        let mss = mss.max(1);
        if rescale {
            let segments = self.cwnd.checked_div(self.mss()).unwrap_or(1);
            self.cwnd = segments.saturating_mul(mss.into());
        }
        self.mss = mss;
        self.cwnd = self.cwnd.max(mss.into());
    }

    /// New data was acknowledged outside of recovery: grow.
    #[inline]
    pub(crate) fn on_ack(&mut self, epochs: &mut Shelf<Epoch>, acked: Acked) {
        if !self.is_limited() {
            return;
        }
        let mut bytes = acked.bytes;
        if self.in_slow_start() {
            //= https://www.rfc-editor.org/rfc/rfc5681#section-3.1
            //# During slow start, a TCP increments cwnd by at most SMSS bytes for
            //# each ACK received that cumulatively acknowledges new data.
            // Linux counts bytes here (RFC 3465 with L unlimited): one ACK of a burst opens as much
            // as many would.
            let room = self.ssthresh.saturating_sub(self.cwnd);
            let step = bytes.min(room);
            self.cwnd = self.cwnd.saturating_add(step);
            bytes = bytes.saturating_sub(step);
            if bytes == 0 {
                return;
            }
        }
        let acked = Acked { bytes, ..acked };
        let mss = self.mss();
        let growth = match &mut self.controller {
            Controller::Reno(reno) => reno.growth(acked, self.cwnd, mss),
            Controller::Cubic(cubic) => cubic.growth(epochs, acked, self.cwnd, mss),
        };
        self.cwnd = self.cwnd.saturating_add(growth);
    }

    /// Loss was detected: lowers the threshold. The caller moves `cwnd`.
    pub(crate) fn on_loss(&mut self, epochs: &mut Shelf<Epoch>) {
        let ssthresh = match &mut self.controller {
            Controller::Reno(reno) => reno.ssthresh(self.cwnd),
            Controller::Cubic(cubic) => cubic.ssthresh(epochs, self.cwnd),
        };
        self.ssthresh = ssthresh.max(self.mss().saturating_mul(2));
    }

    /// A retransmission timeout: one segment, and slow start from there (RFC 5681 equation 4).
    pub(crate) fn on_timeout(&mut self, epochs: &mut Shelf<Epoch>) {
        self.cwnd = self.mss();
        // What is retransmitted from here on fills the window.
        self.limited = true;
        self.restart_epoch(epochs);
    }

    /// Idle for some timeouts: halve for each, down to the initial window (RFC 2861; Linux:
    /// `tcp_cwnd_restart`).
    pub(crate) fn on_idle(&mut self, epochs: &mut Shelf<Epoch>, timeouts: u64, init_cwnd: u8) {
        let floor = self
            .mss()
            .saturating_mul(u32::from(init_cwnd.max(1)))
            .min(self.cwnd);
        // Linux remembers three quarters of what was reached as the threshold.
        self.ssthresh = self.ssthresh.max(self.cwnd.saturating_sub(self.cwnd / 4));
        let halved = self.cwnd.checked_shr(timeouts.min(31) as u32).unwrap_or(0);
        self.cwnd = halved.max(floor);
        self.limited = false;
        self.flight_max = 0;
        self.restart_epoch(epochs);
    }

    /// After a transmission: was it the window that stopped us? (Linux: `tcp_cwnd_validate`.)
    #[inline]
    pub(crate) fn validate(&mut self, flight: u32, limited: bool, una: SeqNumber, nxt: SeqNumber) {
        if una.after_or_eq(self.usage_from)
            || limited
            || (!self.limited && flight > self.flight_max)
        {
            self.limited = limited;
            self.flight_max = flight;
            self.usage_from = nxt;
        }
    }

    /// Whether growth is exponential.
    #[inline]
    pub(crate) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// Whether the window is what limits the sender: only then an ACK says anything about the path
    /// (RFC 7661).
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.limited || (self.in_slow_start() && self.cwnd / 2 < self.flight_max)
    }

    /// The name an operator knows.
    pub(crate) fn name(&self) -> &'static str {
        match self.controller {
            Controller::Reno(_) => "reno",
            Controller::Cubic(_) => "cubic",
        }
    }

    /// The connection ends: gives back what it holds.
    pub(crate) fn release(&mut self, epochs: &mut Shelf<Epoch>) {
        self.restart_epoch(epochs);
    }

    fn mss(&self) -> u32 {
        self.mss.into()
    }

    fn restart_epoch(&mut self, epochs: &mut Shelf<Epoch>) {
        match &mut self.controller {
            Controller::Reno(reno) => *reno = Reno::default(),
            Controller::Cubic(cubic) => cubic.end_epoch(epochs),
        }
    }
}

#[cfg(test)]
mod tests;
