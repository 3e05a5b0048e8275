//! How much may be in flight: the window, the threshold, and the algorithm that moves them.
//!
//! Linux counts segments. Here the window is kept in bytes, because what is in flight is, but it
//! moves by whole segments of the MSS, and what an ACK is worth is the number of segments that it
//! acknowledges, whatever their length: so a window has Linux's number of segments at every moment,
//! and comparing it with what is in flight costs no multiplication. The algorithms themselves count
//! segments.
//!
//! They decide growth and reduction; *what* is lost is `recovery`'s business. An algorithm is an
//! enum variant, not a trait object: the TCB stays flat and the call is a jump. Nine bytes of the
//! TCB are the algorithm's; what does not fit there lies on a shelf (`Shelves`), from when it is
//! needed on, and every algorithm goes on without a place when its shelf is full.
//!
//! ```text
//! contract      what happens, and what an algorithm may do then (Linux: tcp_congestion_ops)
//! window        what all of them have in common: slow start, usage, idleness, segment sizes
//! reno          RFC 5681
//! cubic         RFC 9438: the curve; cubic_events: what CUBIC does when
//! hystart       the end of slow start before something is lost; hystart_plus: the same by RFC 9406
//! dctcp         RFC 8257: by how much the window goes down
//! bbr           a model of the path instead of a window
//! resting       what of all that an idle connection keeps
//! ```

mod bbr;
mod contract;
mod cubic;
mod cubic_events;
mod dctcp;
mod hystart;
mod hystart_plus;
mod parameters;
mod reno;
mod resting;
mod window;

use millrace_base::SeqNumber;

use super::config::CongestionControl;
use super::shelf::Place;
pub use bbr::BbrInfo;
pub(crate) use bbr::{Bbr, Beginning, PathView};
pub(crate) use contract::{AckEvent, Acked, Cut, CwndEvent, Setting, Shelves};
use cubic::Young;
pub use dctcp::{DctcpInfo, DctcpParameters};
pub use parameters::CubicParameters;
use reno::Reno;
pub(crate) use resting::Resting;

/// The congestion window and who moves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Congestion {
    /// Bytes that may be in flight: whole segments, outside of recovery.
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
    /// CUBIC with a small window that has lost nothing.
    CubicYoung(Young),
    /// CUBIC with a place on the shelf.
    Cubic(Held),
    /// DCTCP, from the first ACK on with a place.
    Dctcp(Held),
    /// BBR; without a place before the connection is established.
    Bbr(Held),
}

/// A place, packed: the TCB keeps nine bytes for any algorithm.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed)]
struct Held {
    place: Place,
}

impl Controller {
    fn new(control: CongestionControl, nxt: SeqNumber) -> Self {
        match control {
            CongestionControl::Reno => Self::Reno(Reno::default()),
            CongestionControl::Cubic => Self::CubicYoung(Young {
                delay_min_us: 0,
                round_end: nxt,
            }),
            CongestionControl::Dctcp => Self::Dctcp(Held { place: Place::NONE }),
            CongestionControl::Bbr => Self::Bbr(Held { place: Place::NONE }),
        }
    }
}

impl Congestion {
    /// The state of a fresh connection whose initial sequence number is `iss` (Linux: `init`).
    pub(crate) fn new(
        control: CongestionControl,
        cubic: &CubicParameters,
        (mss, init_cwnd): (u16, u8),
        iss: SeqNumber,
    ) -> Self {
        let mss = mss.max(1);
        let mut fresh = Self {
            cwnd: u32::from(mss).saturating_mul(u32::from(init_cwnd.max(1))),
            ssthresh: u32::MAX,
            mss,
            flight_max: 0,
            usage_from: iss,
            limited: false,
            controller: Controller::new(control, iss),
        };
        fresh.take_initial_ssthresh(control, cubic);
        fresh
    }

    /// From now on another algorithm moves the window, which stays (Linux:
    /// `tcp_reinit_congestion_control`: `release`, then `init`).
    pub(crate) fn set_control(
        &mut self,
        control: CongestionControl,
        setting: &mut Setting<'_>,
        nxt: SeqNumber,
    ) {
        self.release(setting.shelves);
        self.controller = Controller::new(control, nxt);
        self.take_initial_ssthresh(control, setting.cubic);
    }

    /// Which algorithm it is.
    pub(crate) fn control(&self) -> CongestionControl {
        match self.controller {
            Controller::Reno(_) => CongestionControl::Reno,
            Controller::CubicYoung(_) | Controller::Cubic(_) => CongestionControl::Cubic,
            Controller::Dctcp(_) => CongestionControl::Dctcp,
            Controller::Bbr(_) => CongestionControl::Bbr,
        }
    }

    /// The connection ends: gives back what it holds (Linux: `release`).
    pub(crate) fn release(&mut self, shelves: &mut Shelves) {
        match self.controller {
            Controller::Reno(_) | Controller::CubicYoung(_) => return,
            Controller::Cubic(Held { place }) => shelves.epochs.clear(place),
            Controller::Dctcp(Held { place }) => shelves.markings.clear(place),
            Controller::Bbr(Held { place }) => shelves.models.clear(place),
        }
        self.controller = Controller::new(self.control(), self.usage_from);
    }
}

#[cfg(test)]
mod tests;
