//! The contract between TCP and its congestion control: what happens, and what an algorithm may do
//! then (Linux: `struct tcp_congestion_ops`).
//!
//! One method of `Congestion` for each event, and in it one arm for each algorithm that cares; who
//! does not is as one whose pointer is NULL in Linux. Whoever adds an algorithm adds a variant to
//! `Controller`, a name to `CongestionControl`, arms here, and a shelf to `Shelves` if its state is
//! larger than eight bytes.
//!
//! | event | when | called by | Linux |
//! |---|---|---|---|
//! | `new`, `set_control` | a connection begins; another algorithm takes over | `connection`, `ack` | `init` |
//! | `begin_model` | the connection is established, or another algorithm takes over | `rate` | `init` |
//! | `pkts_acked` | an ACK tells a round trip; in CWR and Recovery only `learn` | `ack` (`grow`), `recovery/alert` | `pkts_acked` |
//! | `cong_avoid` | then, if the window may grow | `ack` (`grow`) | `cong_avoid` |
//! | `cong_control` | any ACK, instead of the two above and of the reduction in recovery | `recovery/modelled` | `cong_control` |
//! | `in_ack_event` | any ACK that is not the plainest, after what it covers was freed | `ack` | `in_ack_event` |
//! | `lower_ssthresh` | CWR, Recovery or Loss begins | `recovery/alert`, `recovery/rto` | `ssthresh` |
//! | `set_state` | before the state of recovery changes | `recovery` | `set_state` |
//! | `cwnd_event` | see `CwndEvent` | there | `cwnd_event` |
//! | `undo_cwnd` | what was taken for lost was not | `recovery/undo` | `undo_cwnd` |
//! | `pacing_rate` | a burst leaves | `pacing`, `turn` | `sk_pacing_rate` |
//! | `min_tso_segs` | so many segments at least are a burst | `pacing`, `turn` | `min_tso_segs` |
//! | `sndbuf_expand` | room in the send buffer | `connection` | `sndbuf_expand` |
//! | `release` | the connection ends | `connection` | `release` |
//!
//! The window itself is nobody's private affair: `recovery` moves it while something is lost, and
//! `window` when the segment size changes or nothing was sent for long.

use millrace_base::{Instant, Micros, SeqNumber};

use super::bbr::{Bbr, Beginning, PathView};
use super::cubic::Epoch;
use super::dctcp::{self, Dctcp, DctcpParameters};
use super::parameters::CubicParameters;
use super::{Congestion, Controller, Held};
use crate::limits::BBR_MODELS_MAX;
use crate::limits::DCTCP_CONNECTIONS_MAX;
use crate::stats::Stats;
use crate::tcp::rate::{LostSegment, RateSample};
use crate::tcp::recovery::Phase;
use crate::tcp::shelf::{Place, Shelf};

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
    /// Segments leave one by one, at a rate.
    pub(crate) is_paced: bool,
}

/// What any ACK says of congestion, whatever else it says (Linux: the flags of `in_ack_event`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckEvent {
    /// Segments that it newly reports as received.
    pub(crate) delivered: u32,
    /// Of these, marked: all when it echoes a mark, or as many as Accurate ECN counts (Linux: what
    /// `delivered_ce` grows by).
    pub(crate) marked: u32,
    /// What is sent can be marked.
    pub(crate) is_capable: bool,
    /// What DCTCP goes by.
    pub(crate) rules: DctcpParameters,
    /// SND.UNA behind it.
    pub(crate) una: SeqNumber,
    /// SND.NXT.
    pub(crate) nxt: SeqNumber,
}

/// Something happened that may concern the window (Linux: `enum tcp_ca_event`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CwndEvent {
    /// Nothing was in flight, and something is about to leave; data left last at `last_sent`
    /// (`output`; `CA_EVENT_TX_START`).
    TxStart {
        /// Now.
        now: Instant,
        /// When data left before.
        last_sent: Instant,
    },
    /// The window was lowered because nothing was sent for long (`output`;
    /// `CA_EVENT_CWND_RESTART`).
    CwndRestart,
    /// The window has come down to the threshold (`recovery/alert`; `CA_EVENT_COMPLETE_CWR`).
    CompleteCwr,
    /// A timeout has lowered the threshold (`recovery/rto`; `CA_EVENT_LOSS`).
    Loss,
}

/// How far the threshold goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// As for a loss.
    Full,
    /// Less, because nothing was lost: a queue that marks is short (ABE, RFC 8511).
    Mild,
}

/// What the algorithms remember beside the nine bytes of a TCB.
#[derive(Debug)]
pub(crate) struct Shelves {
    /// CUBIC's. Idle connections may hold some; without one, CUBIC grows as Reno does.
    pub(super) epochs: Shelf<Epoch>,
    /// DCTCP's. Without one, a mark halves, as for Reno.
    pub(super) markings: Shelf<Dctcp>,
    /// BBR's, from the handshake to the end of a connection.
    pub(super) models: Shelf<Bbr>,
}

impl Shelves {
    /// Shelves for a stack with so many packet buffers.
    pub(crate) fn new(buffers: usize) -> Self {
        Self {
            epochs: Shelf::new(buffers),
            markings: Shelf::new(buffers.min(DCTCP_CONNECTIONS_MAX)),
            models: Shelf::new(buffers.min(BBR_MODELS_MAX)),
        }
    }

    /// Places in use: 0 when nothing leaks.
    pub(crate) const fn used(&self) -> usize {
        let cubic = self.epochs.used().saturating_add(self.markings.used());
        cubic.saturating_add(self.models.used())
    }
}

/// Where the algorithms keep what they remember, and the knobs they go by.
pub(crate) struct Setting<'a> {
    pub(crate) shelves: &'a mut Shelves,
    pub(crate) cubic: &'a CubicParameters,
}

impl Congestion {
    /// An ACK tells the round trip of what it covers: learn from it (Linux: `pkts_acked`).
    #[inline]
    pub(super) fn pkts_acked(
        &mut self,
        setting: &mut Setting<'_>,
        acked: &Acked,
        stats: &mut Stats,
    ) {
        match self.controller {
            Controller::Reno(_) | Controller::Dctcp(_) | Controller::Bbr(_) => {}
            Controller::CubicYoung(_) | Controller::Cubic(_) => {
                self.watch(setting, acked, stats);
            }
        }
    }

    /// The window was full, and slow start is over: so many segments were acknowledged beyond it
    /// (Linux: `cong_avoid`, whose slow start is the same for all).
    #[inline]
    pub(super) fn cong_avoid(&mut self, setting: &mut Setting<'_>, acked: &Acked, segments: u32) {
        let cwnd = self.segments();
        let growth = match &mut self.controller {
            Controller::Reno(reno) => reno.growth(segments, cwnd),
            Controller::CubicYoung(_) | Controller::Cubic(_) => {
                match self.epoch(&mut setting.shelves.epochs) {
                    Some(epoch) => epoch.growth(setting.cubic, segments, cwnd, acked.now),
                    None => return self.grow_a_share(segments),
                }
            }
            Controller::Dctcp(_) => {
                let rules = DctcpParameters::LINUX;
                match self.marking_mut(setting.shelves, rules, acked.una) {
                    Some(dctcp) => dctcp.growth(segments, cwnd),
                    None => return self.grow_a_share(segments),
                }
            }
            Controller::Bbr(_) => return self.grow_a_share(segments),
        };
        self.cwnd = self.cwnd.saturating_add(growth.saturating_mul(self.mss()));
    }

    /// Without a place there is no credit to keep: a share of a segment at once, as Reno would.
    fn grow_a_share(&mut self, segments: u32) {
        let share = segments.saturating_mul(self.mss());
        let bytes = share.checked_div(self.segments()).unwrap_or(0);
        self.cwnd = self.cwnd.saturating_add(bytes);
    }

    /// Whether the algorithm has a model of the path: then it decides on the window with every ACK,
    /// in recovery too, needs samples of the rate, and says how fast data leaves.
    #[inline]
    pub(crate) fn is_modelled(&self) -> bool {
        matches!(self.controller, Controller::Bbr(_))
    }

    /// Begins to model the path; `false` when there is no place for it (Linux: `init`).
    pub(crate) fn begin_model(&mut self, shelves: &mut Shelves, beginning: &Beginning) -> bool {
        let place = shelves.models.store(Place::NONE, Bbr::new(beginning));
        self.controller = Controller::Bbr(Held { place });
        if place.is_none() {
            return false;
        }
        // There is no threshold.
        self.ssthresh = u32::MAX;
        true
    }

    /// The model.
    pub(crate) fn model<'a>(&self, shelves: &'a Shelves) -> Option<&'a Bbr> {
        match self.controller {
            Controller::Reno(_)
            | Controller::CubicYoung(_)
            | Controller::Cubic(_)
            | Controller::Dctcp(_) => None,
            Controller::Bbr(held) => shelves.models.get(held.place),
        }
    }

    /// The model, to change it.
    pub(crate) fn model_mut<'a>(&self, shelves: &'a mut Shelves) -> Option<&'a mut Bbr> {
        match self.controller {
            Controller::Reno(_)
            | Controller::CubicYoung(_)
            | Controller::Cubic(_)
            | Controller::Dctcp(_) => None,
            Controller::Bbr(held) => shelves.models.get_mut(held.place),
        }
    }

    /// Any ACK: the algorithm alone decides on window and rate (Linux: `cong_control`).
    pub(crate) fn cong_control(
        &mut self,
        setting: &mut Setting<'_>,
        sample: &RateSample,
        path: &PathView,
    ) {
        if let Some(model) = self.model_mut(setting.shelves) {
            model.on_ack(sample, path, &mut self.cwnd);
        }
    }

    /// A segment was found lost, while what it took along when it left is known.
    pub(crate) fn on_lost(
        &mut self,
        setting: &mut Setting<'_>,
        segment: &LostSegment,
        path: &PathView,
    ) {
        if let Some(model) = self.model_mut(setting.shelves) {
            model.on_lost(segment, path, self.cwnd);
        }
    }

    /// Bytes per second at which data leaves, when the algorithm says so (Linux: `sk_pacing_rate`).
    pub(crate) fn pacing_rate(&self, shelves: &Shelves) -> Option<u64> {
        self.model(shelves).map(Bbr::pacing_rate)
    }

    /// Segments that a burst has at least, when the algorithm says so (Linux: `min_tso_segs`).
    pub(crate) fn min_tso_segs(&self, shelves: &Shelves) -> Option<u32> {
        self.model(shelves).map(Bbr::min_tso_segs)
    }

    /// How many windows the send buffer holds (Linux: `sndbuf_expand`).
    #[inline]
    pub(crate) fn sndbuf_expand(&self) -> u32 {
        if self.is_modelled() { 3 } else { 2 }
    }

    /// An ACK came that is not the plainest; who needs marks sees every one of them (Linux:
    /// `in_ack_event`).
    #[inline]
    pub(crate) fn in_ack_event(&mut self, setting: &mut Setting<'_>, event: &AckEvent) {
        match self.controller {
            Controller::Reno(_)
            | Controller::CubicYoung(_)
            | Controller::Cubic(_)
            | Controller::Bbr(_) => {}
            Controller::Dctcp(Held { place }) => {
                // Without ECN alpha stays as it began; what ends a handshake is no window.
                let has_begun = event.delivered > 0 || !{ place }.is_none();
                if event.is_capable
                    && has_begun
                    && let Some(dctcp) = self.marking_mut(setting.shelves, event.rules, event.una)
                {
                    dctcp.on_ack(event);
                }
            }
        }
    }

    /// What DCTCP remembers, from now on if it was nothing; `None` when the shelf is full.
    fn marking_mut<'a>(
        &mut self,
        shelves: &'a mut Shelves,
        rules: DctcpParameters,
        una: SeqNumber,
    ) -> Option<&'a mut Dctcp> {
        let Controller::Dctcp(Held { mut place }) = self.controller else {
            return None;
        };
        if place.is_none() {
            place = shelves.markings.store(place, Dctcp::new(rules, una));
            self.controller = Controller::Dctcp(Held { place });
        }
        shelves.markings.get_mut(place)
    }

    /// Loss or congestion was found: lowers the threshold. The caller moves `cwnd` (Linux:
    /// `ssthresh`).
    pub(crate) fn lower_ssthresh(&mut self, setting: &mut Setting<'_>, cut: Cut) {
        let cwnd = self.segments();
        let ssthresh = match &mut self.controller {
            Controller::Reno(reno) => reno.ssthresh(cwnd, cut),
            Controller::CubicYoung(_) | Controller::Cubic(_) => {
                match self.epoch(&mut setting.shelves.epochs) {
                    Some(epoch) => epoch.ssthresh(setting.cubic, cwnd, cut),
                    None => Epoch::default().ssthresh(setting.cubic, cwnd, cut),
                }
            }
            Controller::Dctcp(held) => match setting.shelves.markings.get_mut(held.place) {
                Some(dctcp) => dctcp.ssthresh(cwnd),
                None => dctcp::halved(cwnd),
            },
            Controller::Bbr(_) => {
                if let Some(model) = self.model_mut(setting.shelves) {
                    model.on_reduction(self.cwnd);
                }
                return;
            }
        };
        self.ssthresh = ssthresh.max(2).saturating_mul(self.mss());
    }

    /// Recovery is about to enter a state; SND.NXT is `nxt` (Linux: `set_state`).
    pub(crate) fn set_state(&mut self, setting: &mut Setting<'_>, phase: Phase, nxt: SeqNumber) {
        match self.controller {
            Controller::Reno(_) => {}
            Controller::Dctcp(_) => {
                if phase == Phase::Recovery {
                    self.halve_ssthresh();
                }
            }
            Controller::CubicYoung(_) | Controller::Cubic(_) => {
                // Nothing is known of the path any more.
                if phase == Phase::Loss {
                    self.release(setting.shelves);
                    self.controller = Controller::new(self.control(), nxt);
                }
            }
            Controller::Bbr(_) => {
                if let Some(model) = self.model_mut(setting.shelves) {
                    model.on_state(phase, &mut self.cwnd);
                }
            }
        }
    }

    /// Something happened that may concern the window (Linux: `cwnd_event`).
    #[inline]
    pub(crate) fn cwnd_event(&mut self, setting: &mut Setting<'_>, event: CwndEvent) {
        match self.controller {
            Controller::Reno(_) | Controller::CubicYoung(_) => {}
            Controller::Dctcp(_) => {
                if event == CwndEvent::Loss {
                    self.halve_ssthresh();
                }
            }
            Controller::Cubic(held) => {
                if let CwndEvent::TxStart { now, last_sent } = event
                    && let Some(epoch) = setting.shelves.epochs.get_mut(held.place)
                {
                    epoch.on_pause(now, last_sent);
                }
            }
            Controller::Bbr(_) => {
                if let CwndEvent::TxStart { now, .. } = event
                    && let Some(model) = self.model_mut(setting.shelves)
                {
                    model.on_transmission_start(now, &mut self.cwnd);
                }
            }
        }
    }

    /// What was taken for lost was not: the window goes back, at least to the `before` bytes that
    /// it had (Linux: `undo_cwnd`).
    pub(crate) fn undo_cwnd(&mut self, setting: &mut Setting<'_>, before: u32) {
        match self.controller {
            Controller::Reno(_)
            | Controller::CubicYoung(_)
            | Controller::Cubic(_)
            | Controller::Dctcp(_) => {
                self.cwnd = self.cwnd.max(before);
            }
            Controller::Bbr(_) => {
                if let Some(model) = self.model_mut(setting.shelves) {
                    model.on_spurious_loss(&mut self.cwnd);
                }
            }
        }
    }

    /// What is to be told of DCTCP: alpha in 1/1024, and segments of this window, marked and all.
    pub(crate) fn marking(&self, shelves: &Shelves) -> Option<(u16, u32, u32)> {
        match self.controller {
            Controller::Dctcp(held) => shelves.markings.get(held.place).map(Dctcp::told),
            Controller::Reno(_)
            | Controller::CubicYoung(_)
            | Controller::Cubic(_)
            | Controller::Bbr(_) => None,
        }
    }

    /// A loss, for who lowers less after a mark.
    fn halve_ssthresh(&mut self) {
        self.ssthresh = dctcp::halved(self.segments()).saturating_mul(self.mss());
    }
}
