//! How much may be in flight: the window, the threshold, and the algorithm that moves them.
//!
//! Linux counts segments. Here the window is kept in bytes, because what is in flight is, but it
//! moves by whole segments of the MSS, and what an ACK is worth is the number of segments that it
//! acknowledges, whatever their length: so a window has Linux's number of segments at every moment,
//! and comparing it with what is in flight costs no multiplication. The algorithms themselves count
//! segments.
//!
//! They decide growth and reduction; *what* is lost is `recovery`'s business. An algorithm is an
//! enum variant, not a trait object: the TCB stays flat and the call is a jump.

mod cubic;
mod hystart;
mod parameters;
mod reno;

use millrace_base::{Instant, Micros, SeqNumber};

use super::config::CongestionControl;
use super::shelf::{Place, Shelf};
use crate::stats::{Stats, count};
pub(crate) use cubic::Epoch;
use cubic::Young;
use hystart::{Round, Sign};
pub use parameters::CubicParameters;
use reno::Reno;

/// One acknowledgment, as congestion control sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    /// Segments that it newly reports as received.
    pub(crate) segments: u32,
    /// The round trip of the newest of them, if it was sent once only.
    pub(crate) rtt: Option<Micros>,
    /// When the ACK arrived.
    pub(crate) now: Instant,
    /// SND.UNA behind it.
    pub(crate) una: SeqNumber,
    /// SND.NXT.
    pub(crate) nxt: SeqNumber,
    /// Microseconds that the largest frames may keep ACKs apart: at most 1,000 (Linux:
    /// `hystart_ack_delay`).
    pub(crate) burst_us: u32,
    /// Segments leave one by one, at a rate.
    pub(crate) is_paced: bool,
}

/// The shelf of what CUBIC remembers, and the knobs it goes by.
pub(crate) struct Setting<'a> {
    pub(crate) epochs: &'a mut Shelf<Epoch>,
    pub(crate) cubic: &'a CubicParameters,
}

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
}

/// A place, packed: the TCB keeps nine bytes for any algorithm.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed)]
struct Held {
    place: Place,
}

impl Controller {
    fn new(control: CongestionControl, iss: SeqNumber) -> Self {
        match control {
            CongestionControl::Reno => Self::Reno(Reno::default()),
            CongestionControl::Cubic => Self::CubicYoung(Young {
                delay_min_us: 0,
                round_end: iss,
            }),
        }
    }
}

impl Congestion {
    /// The state of a fresh connection whose initial sequence number is `iss`.
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
    /// `tcp_reinit_congestion_control`).
    pub(crate) fn set_control(
        &mut self,
        control: CongestionControl,
        setting: &mut Setting<'_>,
        nxt: SeqNumber,
    ) {
        self.release(setting.epochs);
        self.controller = Controller::new(control, nxt);
        self.take_initial_ssthresh(control, setting.cubic);
    }

    /// The segment size is known now, or has changed: windows keep their number of segments.
    pub(crate) fn set_mss(&mut self, mss: u16) {
        let (before, mss) = (self.mss(), u32::from(mss.max(1)));
        if before == mss {
            return;
        }
        let rescale = |bytes: u32| {
            let segments = bytes.checked_div(before).unwrap_or(1).max(1);
            segments.saturating_mul(mss)
        };
        self.cwnd = rescale(self.cwnd);
        if self.ssthresh != u32::MAX {
            self.ssthresh = rescale(self.ssthresh);
        }
        self.mss = mss as u16;
    }

    /// Whether an ACK teaches no more than a round trip: in avoidance, with a window that does not
    /// limit the sender.
    #[inline]
    pub(crate) fn only_learns(&self) -> bool {
        matches!(self.controller, Controller::Cubic(_)) && !self.limited && !self.in_slow_start()
    }

    /// Learns a round trip in avoidance.
    #[inline]
    pub(crate) fn learn(&self, epochs: &mut Shelf<Epoch>, rtt: Micros, now: Instant) {
        if let Controller::Cubic(held) = self.controller
            && let Some(epoch) = epochs.get_mut(held.place)
            && epoch.believes_delays(now)
        {
            epoch.round.learn(rtt.as_micros().max(1));
        }
    }

    /// Earlier connections have found that slow start ends at so many segments.
    pub(crate) fn expect_threshold(&mut self, segments: u32) {
        // `initial_ssthresh` of CUBIC is said by the operator.
        if self.ssthresh == u32::MAX {
            self.ssthresh = segments.saturating_mul(self.mss());
        }
    }

    /// New data was acknowledged outside of recovery: learn from it, and grow.
    #[inline]
    pub(crate) fn on_ack(&mut self, setting: &mut Setting<'_>, acked: &Acked, stats: &mut Stats) {
        self.watch(setting, acked, stats);
        if !self.is_limited() {
            return;
        }
        let mss = self.mss();
        let mut segments = acked.segments;
        if self.in_slow_start() {
            //= https://www.rfc-editor.org/rfc/rfc5681#section-3.1
            //# During slow start, a TCP increments cwnd by at most SMSS bytes for
            //# each ACK received that cumulatively acknowledges new data.
            // Linux counts segments here (RFC 3465 with L unlimited): one ACK of a burst opens as
            // much as many would.
            let bytes = segments.saturating_mul(mss);
            let room = self.ssthresh.saturating_sub(self.cwnd);
            if bytes <= room {
                self.cwnd = self.cwnd.saturating_add(bytes);
                return;
            }
            self.cwnd = self.ssthresh;
            segments = bytes.saturating_sub(room).checked_div(mss).unwrap_or(0);
        }
        self.avoid(setting, acked, segments);
    }

    /// Loss was detected: lowers the threshold. The caller moves `cwnd`.
    pub(crate) fn on_loss(&mut self, setting: &mut Setting<'_>) {
        let cwnd = self.segments();
        let ssthresh = match &mut self.controller {
            Controller::Reno(reno) => reno.ssthresh(cwnd),
            Controller::CubicYoung(_) | Controller::Cubic(_) => match self.epoch(setting.epochs) {
                Some(epoch) => epoch.ssthresh(setting.cubic, cwnd),
                None => Epoch::default().ssthresh(setting.cubic, cwnd),
            },
        };
        self.ssthresh = ssthresh.max(2).saturating_mul(self.mss());
    }

    /// A retransmission timeout: one segment, and slow start from there (RFC 5681 equation 4), with
    /// nothing known of the path.
    pub(crate) fn on_timeout(&mut self, epochs: &mut Shelf<Epoch>, nxt: SeqNumber) {
        self.cwnd = self.mss();
        self.release(epochs);
        self.controller = Controller::new(self.control(), nxt);
    }

    /// Nothing was in flight and something leaves: the time since the last did not count (Linux:
    /// `CA_EVENT_TX_START`).
    #[inline]
    pub(crate) fn on_transmission_start(
        &mut self,
        epochs: &mut Shelf<Epoch>,
        now: Instant,
        last_sent: Instant,
    ) {
        if let Controller::Cubic(Held { place }) = self.controller
            && let Some(epoch) = epochs.get_mut(place)
        {
            epoch.on_pause(now, last_sent);
        }
    }

    /// Idle for some timeouts: halve for each, down to the initial window (RFC 2861; Linux:
    /// `tcp_cwnd_restart`).
    pub(crate) fn on_idle(&mut self, timeouts: u64, init_cwnd: u8) {
        let floor = self
            .mss()
            .saturating_mul(u32::from(init_cwnd.max(1)))
            .min(self.cwnd);
        self.remember_reached();
        let halved = self.segments().checked_shr(timeouts.min(31) as u32);
        let halved = halved.unwrap_or(0).saturating_mul(self.mss());
        self.cwnd = halved.max(floor);
    }

    /// After a turn, with `is_news` when something left: was it the window that stopped us? (Linux:
    /// `tcp_cwnd_validate`.)
    ///
    /// `flight` is in the network, `sent` is not acknowledged, both in bytes.
    #[inline]
    pub(crate) fn validate(
        &mut self,
        (flight, sent): (u32, u32),
        is_news: bool,
        (una, nxt): (SeqNumber, SeqNumber),
    ) {
        let limited = flight.saturating_add(self.mss()) > self.cwnd;
        if !limited && !is_news {
            return;
        }
        if una.after_or_eq(self.usage_from) || limited || (!self.limited && sent > self.flight_max)
        {
            self.limited = limited;
            self.flight_max = sent;
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

    /// Which algorithm it is.
    pub(crate) fn control(&self) -> CongestionControl {
        match self.controller {
            Controller::Reno(_) => CongestionControl::Reno,
            Controller::CubicYoung(_) | Controller::Cubic(_) => CongestionControl::Cubic,
        }
    }

    /// The connection ends: gives back what it holds.
    pub(crate) fn release(&mut self, epochs: &mut Shelf<Epoch>) {
        if let Controller::Cubic(Held { place }) = self.controller {
            epochs.clear(place);
            self.controller = Controller::new(CongestionControl::Cubic, self.usage_from);
        }
    }

    fn take_initial_ssthresh(&mut self, control: CongestionControl, cubic: &CubicParameters) {
        if control == CongestionControl::Cubic && !cubic.hystart && cubic.initial_ssthresh != 0 {
            self.ssthresh = cubic.initial_ssthresh.saturating_mul(self.mss());
        }
    }

    /// Three quarters of what was reached is remembered as the threshold (Linux:
    /// `tcp_current_ssthresh`).
    fn remember_reached(&mut self) {
        let cwnd = self.segments();
        let reached = (cwnd / 2).saturating_add(cwnd / 4);
        let reached = reached.saturating_mul(self.mss());
        self.ssthresh = self.ssthresh.max(reached);
    }

    /// Learns from the round trip of an ACK; in slow start it may be a sign to leave.
    #[inline]
    fn watch(&mut self, setting: &mut Setting<'_>, acked: &Acked, stats: &mut Stats) {
        let Some(rtt) = acked.rtt else {
            return;
        };
        let delay_us = rtt.as_micros().max(1);
        let slow_start = self.cwnd < self.ssthresh;
        match &mut self.controller {
            Controller::Reno(_) => return,
            Controller::CubicYoung(young) => {
                let known = young.delay_min_us;
                if known == 0 || known > delay_us {
                    young.delay_min_us = delay_us;
                }
                let end = young.round_end;
                if acked.una.after(end) {
                    young.round_end = acked.nxt;
                }
                let low = setting.cubic.hystart_low_window;
                if self.cwnd < low.saturating_mul(self.mss()) || !setting.cubic.hystart {
                    return;
                }
            }
            Controller::Cubic(_) if !slow_start => {
                return self.learn(setting.epochs, rtt, acked.now);
            }
            Controller::Cubic(_) => {}
        }
        self.watch_closely(setting, acked, delay_us, stats);
    }

    fn watch_closely(
        &mut self,
        setting: &mut Setting<'_>,
        acked: &Acked,
        delay_us: u32,
        stats: &mut Stats,
    ) {
        let low = setting.cubic.hystart_low_window.saturating_mul(self.mss());
        let (slow_start, cwnd) = (self.in_slow_start(), self.cwnd);
        let Some(epoch) = self.epoch(setting.epochs) else {
            return;
        };
        if !epoch.believes_delays(acked.now) {
            return;
        }
        epoch.round.learn(delay_us);
        if !slow_start || epoch.round.is_over() || !setting.cubic.hystart {
            return;
        }
        let sign = if cwnd < low {
            epoch.round.pass(acked);
            None
        } else {
            epoch.round.watch(setting.cubic, acked, delay_us)
        };
        let segments = u64::from(self.segments());
        match sign {
            Some(Sign::Train) => {
                count!(stats.tcp_hystart_train_detect);
                count!(stats.tcp_hystart_train_cwnd, segments);
            }
            Some(Sign::Delay) => {
                count!(stats.tcp_hystart_delay_detect);
                count!(stats.tcp_hystart_delay_cwnd, segments);
            }
            None if acked.una == acked.nxt => return self.forget(setting.epochs),
            None => return,
        }
        self.ssthresh = self.cwnd;
    }

    /// Nothing is in flight, and nothing was learned that lasts: gives the place back.
    fn forget(&mut self, epochs: &mut Shelf<Epoch>) {
        if let Controller::Cubic(Held { place }) = self.controller
            && let Some(epoch) = epochs.get(place)
            && epoch.is_forgettable()
        {
            self.controller = Controller::CubicYoung(Young {
                delay_min_us: epoch.round.delay_min_us(),
                round_end: epoch.round.end(),
            });
            epochs.clear(place);
        }
    }

    /// Congestion avoidance.
    #[inline]
    fn avoid(&mut self, setting: &mut Setting<'_>, acked: &Acked, segments: u32) {
        let cwnd = self.segments();
        let growth = match &mut self.controller {
            Controller::Reno(reno) => reno.growth(segments, cwnd),
            Controller::CubicYoung(_) | Controller::Cubic(_) => match self.epoch(setting.epochs) {
                Some(epoch) => epoch.growth(setting.cubic, segments, cwnd, acked.now),
                // Without a place there is no credit to keep: a share of a segment at once, as
                // Reno would.
                None => {
                    let share = segments.saturating_mul(self.mss());
                    let bytes = share.checked_div(cwnd).unwrap_or(0);
                    self.cwnd = self.cwnd.saturating_add(bytes);
                    return;
                }
            },
        };
        self.cwnd = self.cwnd.saturating_add(growth.saturating_mul(self.mss()));
    }

    /// What CUBIC remembers, from now on if it was nothing; `None` when the shelf is full.
    fn epoch<'a>(&mut self, epochs: &'a mut Shelf<Epoch>) -> Option<&'a mut Epoch> {
        if let Controller::CubicYoung(young) = self.controller {
            let round = Round::new(young.delay_min_us, young.round_end);
            let place = epochs.store(Place::NONE, Epoch::new(round));
            if place.is_none() {
                return None;
            }
            self.controller = Controller::Cubic(Held { place });
        }
        match self.controller {
            Controller::Cubic(Held { place }) => epochs.get_mut(place),
            Controller::Reno(_) | Controller::CubicYoung(_) => None,
        }
    }

    /// The window and the threshold in segments; `None` while slow start has not ended once.
    pub(crate) fn in_segments(&self) -> (u32, Option<u32>) {
        let ssthresh = self.ssthresh.checked_div(self.mss());
        let ssthresh = ssthresh.filter(|_| self.ssthresh != u32::MAX);
        (self.segments(), ssthresh)
    }

    /// The window in segments.
    #[inline]
    fn segments(&self) -> u32 {
        self.cwnd.checked_div(self.mss()).unwrap_or(1)
    }

    #[inline]
    fn mss(&self) -> u32 {
        self.mss.into()
    }
}

#[cfg(test)]
mod tests;
