//! What CUBIC does when something happens: where its state is, and which of its parts is asked.
//!
//! The curve itself is in `cubic.rs`, the end of slow start in `hystart.rs`.

use millrace_base::{Instant, Micros};

use super::contract::{Acked, Setting, Shelves};
use super::cubic::{Epoch, Young};
use super::hystart::{Pipe, Round, Sign};
use super::{Congestion, Controller, Held};
use crate::stats::{Stats, count};
use crate::tcp::shelf::{Place, Shelf};

impl Congestion {
    /// Whether an ACK teaches no more than a round trip: in avoidance, with a window that does not
    /// limit the sender.
    #[inline]
    pub(crate) fn only_learns(&self) -> bool {
        matches!(self.controller, Controller::Cubic(_)) && !self.limited && !self.in_slow_start()
    }

    /// Learns a round trip in avoidance, or while the window goes down.
    #[inline]
    pub(crate) fn learn(&self, shelves: &mut Shelves, rtt: Micros, now: Instant) {
        if let Controller::Cubic(held) = self.controller
            && let Some(epoch) = shelves.epochs.get_mut(held.place)
            && epoch.believes_delays(now)
        {
            epoch.round.learn(rtt.as_micros().max(1));
        }
    }

    /// Learns from the round trip of an ACK; in slow start it may be a sign to leave.
    #[inline]
    pub(super) fn watch(&mut self, setting: &mut Setting<'_>, acked: &Acked, stats: &mut Stats) {
        let Some(rtt) = acked.rtt else {
            return;
        };
        let delay_us = rtt.as_micros().max(1);
        let slow_start = self.cwnd < self.ssthresh;
        match &mut self.controller {
            Controller::Reno(_) | Controller::Dctcp(_) | Controller::Bbr(_) => return,
            Controller::CubicYoung(young) => {
                let known = young.delay_min_us;
                if known == 0 || known > delay_us {
                    young.delay_min_us = delay_us;
                }
                let end = young.round_end;
                if acked.una.after(end) {
                    young.round_end = acked.nxt;
                }
                let low = setting.cubic.watched_from();
                if self.cwnd < low.saturating_mul(self.mss()) || !setting.cubic.hystart {
                    return;
                }
            }
            Controller::Cubic(_) if !slow_start => {
                return self.learn(setting.shelves, rtt, acked.now);
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
        let (slow_start, cwnd, threshold) = (self.in_slow_start(), self.cwnd, self.ssthresh);
        let Some(epoch) = self.epoch(&mut setting.shelves.epochs) else {
            return;
        };
        if !epoch.believes_delays(acked.now) {
            return;
        }
        epoch.round.learn(delay_us);
        if !slow_start || epoch.round.is_over() || !setting.cubic.hystart {
            return;
        }
        let sign = if setting.cubic.hystart_plus {
            // Only while no threshold was ever known.
            let is_over = threshold == u32::MAX && epoch.plus.watch(acked, delay_us);
            is_over.then_some(Sign::Delay)
        } else if cwnd < low {
            epoch.round.pass(acked);
            None
        } else {
            epoch
                .round
                .watch(setting.cubic, acked, Pipe { cwnd, delay_us })
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
            None if acked.una == acked.nxt => return self.forget(&mut setting.shelves.epochs),
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

    /// What CUBIC remembers, from now on if it was nothing; `None` when the shelf is full.
    pub(super) fn epoch<'a>(&mut self, epochs: &'a mut Shelf<Epoch>) -> Option<&'a mut Epoch> {
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
            Controller::Reno(_)
            | Controller::CubicYoung(_)
            | Controller::Dctcp(_)
            | Controller::Bbr(_) => None,
        }
    }

    /// By how many segments slow start opens the window, by HyStart++.
    #[cold]
    pub(super) fn opening_plus(&mut self, setting: &mut Setting<'_>, acked: &Acked) -> u32 {
        // Only the first slow start is watched.
        if self.ssthresh == u32::MAX
            && let Controller::Cubic(held) = self.controller
            && let Some(epoch) = setting.shelves.epochs.get_mut(held.place)
        {
            return epoch.plus.opening(acked.segments, acked.is_paced);
        }
        acked.segments
    }
}
