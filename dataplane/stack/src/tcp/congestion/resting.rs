//! What stays of congestion control while nothing is in flight and nothing is sent.
//!
//! How much of the window was used is found out anew by the first flight (`validate`), and the
//! segment size is the connection's: only the window, the threshold and the algorithm have to stay.

use millrace_base::SeqNumber;

use super::{Congestion, Controller};

/// The congestion window of a connection at rest, and who moves it.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct Resting {
    cwnd: u32,
    ssthresh: u32,
    controller: Controller,
}

impl Congestion {
    /// What has to stay. `None` when it counts in other segments than those of `mss` bytes.
    pub(crate) fn at_rest(&self, mss: u16) -> Option<Resting> {
        let Self {
            cwnd,
            ssthresh,
            flight_max: _,
            usage_from: _,
            mss: counted_in,
            limited: _,
            controller,
        } = *self;
        (counted_in == mss).then_some(Resting {
            cwnd,
            ssthresh,
            controller,
        })
    }

    /// The state from which it goes on, with everything before `nxt` acknowledged.
    pub(crate) fn after_rest(resting: &Resting, mss: u16, nxt: SeqNumber) -> Self {
        let Resting {
            cwnd,
            ssthresh,
            controller,
        } = *resting;
        Self {
            cwnd,
            ssthresh,
            flight_max: 0,
            usage_from: nxt,
            mss,
            limited: false,
            controller,
        }
    }
}
