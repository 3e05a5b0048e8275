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
use super::dctcp::{self, Dctcp, DctcpParameters};
use super::parameters::CubicParameters;
use super::{Congestion, Controller, Held};
use crate::limits::DCTCP_CONNECTIONS_MAX;
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
}

impl Shelves {
    /// Shelves for a stack with so many packet buffers.
    pub(crate) fn new(buffers: usize) -> Self {
        Self {
            epochs: Shelf::new(buffers),
            markings: Shelf::new(buffers.min(DCTCP_CONNECTIONS_MAX)),
        }
    }

    /// Places in use: 0 when nothing leaks.
    pub(crate) const fn used(&self) -> usize {
        self.epochs.used().saturating_add(self.markings.used())
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
            Controller::Reno(_) | Controller::Dctcp(_) => {}
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
        };
        self.cwnd = self.cwnd.saturating_add(growth.saturating_mul(self.mss()));
    }

    /// Without a place there is no credit to keep: a share of a segment at once, as Reno would.
    fn grow_a_share(&mut self, segments: u32) {
        let share = segments.saturating_mul(self.mss());
        let bytes = share.checked_div(self.segments()).unwrap_or(0);
        self.cwnd = self.cwnd.saturating_add(bytes);
    }

    /// An ACK came that is not the plainest; who needs marks sees every one of them (Linux:
    /// `in_ack_event`).
    #[inline]
    pub(crate) fn in_ack_event(&mut self, setting: &mut Setting<'_>, event: &AckEvent) {
        match self.controller {
            Controller::Reno(_) | Controller::CubicYoung(_) | Controller::Cubic(_) => {}
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
        }
    }

    /// What was taken for lost was not: the window goes back, at least to the `before` bytes that
    /// it had (Linux: `undo_cwnd`).
    pub(crate) fn undo_cwnd(&mut self, _setting: &mut Setting<'_>, before: u32) {
        match self.controller {
            Controller::Reno(_)
            | Controller::CubicYoung(_)
            | Controller::Cubic(_)
            | Controller::Dctcp(_) => {
                self.cwnd = self.cwnd.max(before);
            }
        }
    }

    /// What is to be told of DCTCP: alpha in 1/1024, and segments of this window, marked and all.
    pub(crate) fn marking(&self, shelves: &Shelves) -> Option<(u16, u32, u32)> {
        match self.controller {
            Controller::Dctcp(held) => shelves.markings.get(held.place).map(Dctcp::told),
            Controller::Reno(_) | Controller::CubicYoung(_) | Controller::Cubic(_) => None,
        }
    }

    /// A loss, for who lowers less after a mark.
    fn halve_ssthresh(&mut self) {
        self.ssthresh = dctcp::halved(self.segments()).saturating_mul(self.mss());
    }
}
