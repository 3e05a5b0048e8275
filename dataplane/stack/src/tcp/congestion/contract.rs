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
//! | `pkts_acked` | an ACK tells a round trip, outside of recovery | `ack` (`grow`) | `pkts_acked` |
//! | `cong_avoid` | then, if the window may grow | `ack` (`grow`) | `cong_avoid` |
//! | `in_ack_event` | any ACK that is not the plainest, after what it covers was freed | `ack` | `in_ack_event` |
//! | `lower_ssthresh` | CWR, Recovery or Loss begins | `recovery/alert`, `recovery/rto` | `ssthresh` |
//! | `set_state` | before the state of recovery changes | `recovery` | `set_state` |
//! | `cwnd_event` | see `CwndEvent` | there | `cwnd_event` |
//! | `undo_cwnd` | what was taken for lost was not | `recovery/undo` | `undo_cwnd` |
//! | `release` | the connection ends | `connection` | `release` |
//!
//! The window itself is nobody's private affair: `recovery` moves it while something is lost, and
//! `window` when the segment size changes or nothing was sent for long.

use millrace_base::{Instant, Micros, SeqNumber};

use super::cubic::Epoch;
use super::parameters::CubicParameters;
use super::{Congestion, Controller};
use crate::stats::Stats;
use crate::tcp::recovery::Phase;
use crate::tcp::shelf::Shelf;

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

/// What any ACK says of congestion, whatever else it says (Linux: the flags of `in_ack_event`).
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the algorithms that are here do not go by marks")]
pub(crate) struct AckEvent {
    /// Segments that it newly reports as received.
    pub(crate) delivered: u32,
    /// It echoes a mark (Linux: `CA_ACK_ECE`).
    pub(crate) ece: bool,
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
    /// Data came that could have been marked and were not (`ecn`; `CA_EVENT_ECN_NO_CE`).
    EcnNoCe,
    /// Marked data came (`ecn`; `CA_EVENT_ECN_IS_CE`).
    EcnIsCe,
}

/// What the algorithms remember beside the nine bytes of a TCB.
#[derive(Debug)]
pub(crate) struct Shelves {
    /// CUBIC's. Idle connections may hold some; without one, CUBIC grows as Reno does.
    pub(super) epochs: Shelf<Epoch>,
}

impl Shelves {
    /// Shelves for a stack with so many packet buffers.
    pub(crate) fn new(buffers: usize) -> Self {
        Self {
            epochs: Shelf::new(buffers),
        }
    }

    /// Places in use: 0 when nothing leaks.
    pub(crate) const fn used(&self) -> usize {
        self.epochs.used()
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
            Controller::Reno(_) => {}
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
                    // Without a place there is no credit to keep: a share of a segment at once, as
                    // Reno would.
                    None => {
                        let share = segments.saturating_mul(self.mss());
                        let bytes = share.checked_div(cwnd).unwrap_or(0);
                        self.cwnd = self.cwnd.saturating_add(bytes);
                        return;
                    }
                }
            }
        };
        self.cwnd = self.cwnd.saturating_add(growth.saturating_mul(self.mss()));
    }

    /// An ACK came that is not the plainest; who needs marks sees every one of them (Linux:
    /// `in_ack_event`).
    #[inline]
    pub(crate) fn in_ack_event(&mut self, _setting: &mut Setting<'_>, _event: &AckEvent) {
        match self.controller {
            Controller::Reno(_) | Controller::CubicYoung(_) | Controller::Cubic(_) => {}
        }
    }

    /// Loss or congestion was found: lowers the threshold. The caller moves `cwnd` (Linux:
    /// `ssthresh`).
    pub(crate) fn lower_ssthresh(&mut self, setting: &mut Setting<'_>) {
        let cwnd = self.segments();
        let ssthresh = match &mut self.controller {
            Controller::Reno(reno) => reno.ssthresh(cwnd),
            Controller::CubicYoung(_) | Controller::Cubic(_) => {
                match self.epoch(&mut setting.shelves.epochs) {
                    Some(epoch) => epoch.ssthresh(setting.cubic, cwnd),
                    None => Epoch::default().ssthresh(setting.cubic, cwnd),
                }
            }
        };
        self.ssthresh = ssthresh.max(2).saturating_mul(self.mss());
    }

    /// Recovery is about to enter a state; SND.NXT is `nxt` (Linux: `set_state`).
    pub(crate) fn set_state(&mut self, setting: &mut Setting<'_>, phase: Phase, nxt: SeqNumber) {
        match self.controller {
            Controller::Reno(_) => {}
            Controller::CubicYoung(_) | Controller::Cubic(_) => {
                // Nothing is known of the path any more.
                if phase == Phase::Loss {
                    self.release(setting.shelves);
                    self.controller = Controller::new(self.control(), nxt);
                }
            }
        }
    }

    /// Something happened that may concern the window (Linux: `cwnd_event`).
    #[inline]
    pub(crate) fn cwnd_event(&mut self, setting: &mut Setting<'_>, event: CwndEvent) {
        match self.controller {
            Controller::Reno(_) | Controller::CubicYoung(_) => {}
            Controller::Cubic(held) => {
                if let CwndEvent::TxStart { now, last_sent } = event
                    && let Some(epoch) = setting.shelves.epochs.get_mut(held.place)
                {
                    epoch.on_pause(now, last_sent);
                }
            }
        }
    }

    /// What was taken for lost was not: the window goes back, at least to the `before` bytes that
    /// it had (Linux: `undo_cwnd`).
    pub(crate) fn undo_cwnd(&mut self, _setting: &mut Setting<'_>, before: u32) {
        match self.controller {
            Controller::Reno(_) | Controller::CubicYoung(_) | Controller::Cubic(_) => {
                self.cwnd = self.cwnd.max(before);
            }
        }
    }
}
