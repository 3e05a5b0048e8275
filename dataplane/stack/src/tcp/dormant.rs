//! What stays of a connection while nothing happens to it.
//!
//! A TCB is for a connection at work: what is in flight, what waits to be read, what was lost, what is
//! armed. Between two requests there is nothing of that. `at_rest` leaves it out and `awake` puts it
//! back; what comes back does on every segment what the other would have done. So a stack needs TCBs for
//! the connections at work only (`connections.rs`).
//!
//! It is not a way to save memory of a connection that is busy: whoever has anything queued, in flight,
//! unread, out of order or unacknowledged, or is in the middle of a handshake or of closing, is not at
//! rest.

use millrace_base::{FlowTuple, Instant, SeqNumber, Stamp};

use super::ack::AckPolicy;
use super::byte_count::ByteCount;
use super::chunk::NONE;
use super::config::ConnectionOptions;
use super::congestion::{Congestion, Resting};
use super::connection::Connection;
use super::marks::Marks;
use super::ready::Ready;
use super::reassembly::Reassembly;
use super::recovery::{Phase, Recovery};
use super::recv_buffer::ReceiveBuffer;
use super::rtt::{RestingRtt, RttEstimator};
use super::send_buffer::SendBuffer;
use super::shelf::Place;
use super::state::State;
use super::timers::Timers;
use super::timestamps::Timestamps;
use super::window::ReceiveWindow;

/// A connection at rest.
///
/// ```text
///    0  yes and no, and small numbers
///    6  what a lookup compares
///   42  sequence numbers and windows
///   86  round trip, congestion, clocks, counters, options
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub(crate) struct Dormant {
    /// It comes first because it also tells that there is a connection at rest at all.
    pub(super) state: State,
    /// `SACK`, `FIN` and the options.
    pub(super) bits: u8,
    pub(super) snd_scale: u8,
    pub(super) probes: u8,
    pub(super) marks: Marks,
    pub(super) tuple: FlowTuple,
    /// SND.UNA and SND.NXT.
    pub(super) una: SeqNumber,
    pub(super) rcv_nxt: SeqNumber,
    pub(super) rcv_edge: SeqNumber,
    pub(super) rcv_memory: u32,
    pub(super) rcv_taken: u32,
    pub(super) rcv_space_and_ratio: u32,
    pub(super) rcv_measured_at: u32,
    pub(super) rcv_threshold_and_flags: u32,
    pub(super) snd_wnd: u32,
    pub(super) wl1: SeqNumber,
    pub(super) wnd_max: u32,
    pub(super) timestamps: Timestamps,
    pub(super) ack: AckPolicy,
    pub(super) mss: u16,
    pub(super) peer_mss: u16,
    pub(super) mtu: u16,
    pub(super) received_at: Stamp,
    pub(super) sent_at: Stamp,
    /// When it is to be asked whether the peer is still there.
    pub(super) idle: Stamp,
    pub(super) rtt: RestingRtt,
    pub(super) congestion: Resting,
    pub(super) bytes_received: ByteCount,
    pub(super) bytes_acked: ByteCount,
    pub(super) user_timeout_ms: u32,
    pub(super) challenged_at_ms: u32,
    pub(super) retransmissions: u32,
    pub(super) extra: Place,
}

/// Both SYNs permitted selective acknowledgments.
const SACK: u8 = 1;
/// Our FIN was sent and acknowledged.
const FIN: u8 = 1 << 1;
const NODELAY: u8 = 1 << 2;
const KEEPALIVE: u8 = 1 << 3;
const KEEP_UNREAD: u8 = 1 << 4;
const THIN_LINEAR: u8 = 1 << 5;

impl Dormant {
    /// The addresses and ports.
    #[inline]
    pub(crate) fn tuple(&self) -> &FlowTuple {
        // Two bytes are its alignment.
        &self.tuple
    }

    /// The earliest time at which there is something to do.
    pub(crate) fn next_deadline(&self) -> Instant {
        { self.idle }.instant()
    }
}

impl Connection {
    /// What has to stay of a connection at rest; `None` when it is not.
    pub(crate) fn at_rest(&self) -> Option<Dormant> {
        if !self.has_nothing_to_do() {
            return None;
        }
        let Self {
            bytes_received,
            bytes_acked,
            tuple,
            state,
            sack_permitted,
            snd_scale,
            probes,
            una,
            nxt,
            window,
            snd_wnd,
            wl1,
            wnd_max,
            receive,
            send,
            peer_fin: _,
            timestamps,
            ack,
            mss,
            ready: _,
            received_at,
            sent_at,
            timers,
            reassembly: _,
            rtt,
            congestion,
            recovery: _,
            peer_mss,
            options,
            challenged_at_ms,
            retransmissions,
            extra,
            mtu,
            closed: _,
            marks,
            fin_queued,
            syn_pending: _,
            orphan: _,
        } = self;
        let fin_at = if *fin_queued { nxt.minus(1) } else { *nxt };
        if una != nxt || send.end() != fin_at || !receive.is_empty() || window.acked != window.nxt {
            return None;
        }
        Some(Dormant {
            tuple: *tuple,
            state: *state,
            bits: bits_of(*sack_permitted, *fin_queued, options),
            snd_scale: *snd_scale,
            probes: *probes,
            marks: *marks,
            una: *una,
            rcv_nxt: window.nxt,
            rcv_edge: window.edge,
            rcv_memory: window.memory,
            rcv_taken: window.taken,
            rcv_space_and_ratio: window.space_and_ratio,
            rcv_measured_at: window.measured_at,
            rcv_threshold_and_flags: window.threshold_and_flags,
            snd_wnd: *snd_wnd,
            wl1: *wl1,
            wnd_max: *wnd_max,
            timestamps: *timestamps,
            ack: *ack,
            mss: *mss,
            peer_mss: *peer_mss,
            mtu: *mtu,
            received_at: *received_at,
            sent_at: *sent_at,
            idle: timers.idle,
            rtt: rtt.at_rest(),
            congestion: congestion.at_rest(*mss)?,
            bytes_received: *bytes_received,
            bytes_acked: *bytes_acked,
            user_timeout_ms: options.user_timeout_ms,
            challenged_at_ms: *challenged_at_ms,
            retransmissions: *retransmissions,
            extra: *extra,
        })
    }

    /// The connection that rested.
    pub(crate) fn awake(dormant: &Dormant) -> Self {
        let Dormant {
            tuple,
            state,
            bits,
            snd_scale,
            probes,
            marks,
            una,
            rcv_nxt,
            snd_wnd,
            wl1,
            wnd_max,
            timestamps,
            ack,
            mss,
            peer_mss,
            mtu,
            received_at,
            sent_at,
            idle,
            rtt,
            congestion,
            bytes_received,
            bytes_acked,
            challenged_at_ms,
            retransmissions,
            extra,
            ..
        } = *dormant;
        let has_fin = bits & FIN != 0;
        Self {
            bytes_received,
            bytes_acked,
            tuple,
            state,
            sack_permitted: bits & SACK != 0,
            snd_scale,
            probes,
            una,
            nxt: una,
            window: dormant.window(),
            snd_wnd,
            wl1,
            wnd_max,
            receive: ReceiveBuffer::EMPTY,
            send: SendBuffer::new(if has_fin { una.minus(1) } else { una }),
            peer_fin: rcv_nxt,
            timestamps,
            ack,
            mss,
            ready: Ready::NONE,
            received_at,
            sent_at,
            timers: Timers {
                idle,
                ..Timers::OFF
            },
            reassembly: Reassembly::EMPTY,
            rtt: RttEstimator::awake(&rtt, una),
            congestion: Congestion::after_rest(&congestion, mss, una),
            recovery: Recovery::new(una),
            peer_mss,
            options: dormant.options(),
            challenged_at_ms,
            retransmissions,
            extra,
            mtu,
            closed: None,
            marks,
            fin_queued: has_fin,
            syn_pending: false,
            orphan: false,
        }
    }

    /// Whether nothing is queued, in flight, unread, owed or armed, and no state but those that may
    /// last is passed through. What comes first fails most often.
    fn has_nothing_to_do(&self) -> bool {
        let lasts = matches!(
            self.state,
            State::Established | State::CloseWait | State::FinWait2
        );
        let busy = [
            Marks::PEER_FIN_CAME,
            Marks::FIN_LOST,
            Marks::SEND_WAS_FULL,
            Marks::PROBE_PENDING,
            Marks::UNPROVEN,
        ];
        lasts
            && self.send.queue().is_empty()
            && self.send.unsent() == NONE
            && self.timers.retransmit.is_never()
            && self.timers.delayed_ack.is_never()
            && self.ack.due() == 0
            && self.ready == Ready::NONE
            && self.send.board.is_clear()
            && self.reassembly.holds_nothing()
            && self.is_untroubled()
            && !busy.into_iter().any(|mark| self.marks.has(mark))
            && !self.syn_pending
            && !self.orphan
            && self.closed.is_none()
    }

    /// Whether no episode of loss is under way.
    fn is_untroubled(&self) -> bool {
        let Recovery {
            point: _,
            stalled_since,
            phase,
            dup_acks,
            timeouts,
        } = self.recovery;
        phase == Phase::Open && dup_acks == 0 && timeouts == 0 && stalled_since.is_never()
    }
}

impl Dormant {
    fn window(&self) -> ReceiveWindow {
        ReceiveWindow {
            nxt: self.rcv_nxt,
            acked: self.rcv_nxt,
            edge: self.rcv_edge,
            memory: self.rcv_memory,
            taken: self.rcv_taken,
            space_and_ratio: self.rcv_space_and_ratio,
            measured_at: self.rcv_measured_at,
            threshold_and_flags: self.rcv_threshold_and_flags,
        }
    }

    fn options(&self) -> ConnectionOptions {
        ConnectionOptions {
            nodelay: self.bits & NODELAY != 0,
            keepalive: self.bits & KEEPALIVE != 0,
            keep_unread: self.bits & KEEP_UNREAD != 0,
            user_timeout_ms: self.user_timeout_ms,
            thin_linear_timeouts: self.bits & THIN_LINEAR != 0,
        }
    }
}

fn bits_of(sack_permitted: bool, fin_queued: bool, options: &ConnectionOptions) -> u8 {
    let ConnectionOptions {
        nodelay,
        keepalive,
        keep_unread,
        user_timeout_ms: _,
        thin_linear_timeouts,
    } = *options;
    let all = [
        (sack_permitted, SACK),
        (fin_queued, FIN),
        (nodelay, NODELAY),
        (keepalive, KEEPALIVE),
        (keep_unread, KEEP_UNREAD),
        (thin_linear_timeouts, THIN_LINEAR),
    ];
    let set = all.into_iter().filter(|(is_set, _)| *is_set);
    set.fold(0, |bits, (_, bit)| bits | bit)
}
