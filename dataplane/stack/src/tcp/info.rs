//! Looking at a connection without changing it: the core of Linux's `TCP_INFO`, the tuple, and what
//! waits to be read.

use millrace_base::{FlowTuple, Instant, Micros, Nanos, PacketBuf, SeqNumber};

use super::ack_delay::DELAY_TICK_MS;
use super::chunk::Chunks;
use super::config::{CongestionControl, TcpTunables};
use super::congestion::{Bbr, BbrInfo, DctcpInfo};
use super::connection::Connection;
use super::ecn::accurate::EcnInfo;
use super::fastopen::FastOpenInfo;
use super::recovery::Phase;
use super::segment::CloseReason;
use super::state::State;
use super::timers::{Purpose, TimerKind};

/// One connection at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowInfo {
    /// Addresses and ports; `local` is ours.
    pub tuple: FlowTuple,
    /// The state.
    pub state: State,
    /// SND.UNA.
    pub snd_una: SeqNumber,
    /// RCV.NXT.
    pub rcv_nxt: SeqNumber,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Payload bytes the peer has acknowledged.
    pub bytes_acked: u64,
    /// Payload bytes that wait for the application.
    pub unread_bytes: u32,
    /// Payload bytes queued to send, in flight included.
    pub queued_bytes: u32,
    /// Payload bytes queued and never sent.
    pub unsent_bytes: u32,
    /// Payload bytes in flight.
    pub in_flight_bytes: u32,
    /// Payload bytes the peer has SACKed, those believed lost, and those retransmitted and again in
    /// flight.
    pub sacked_bytes: u32,
    /// See `sacked_bytes`.
    pub lost_bytes: u32,
    /// See `sacked_bytes`.
    pub retransmitted_bytes: u32,
    /// The same in segments, as Linux counts.
    pub sacked_segments: u32,
    /// See `sacked_segments`.
    pub lost_segments: u32,
    /// See `sacked_segments`.
    pub retransmitted_segments: u32,
    /// Segments that reordering is believed to span when it has been seen, else `None`: then it is
    /// the tunable.
    pub reordering: Option<u32>,
    /// Times reordering was seen.
    pub reordering_seen: u32,
    /// Duplicate segments that the peer has reported.
    pub duplicates_reported: u32,
    /// Doublings of the timeout now.
    pub backoff: u8,
    /// Congestion window in bytes.
    pub cwnd_bytes: u32,
    /// Slow-start threshold in bytes; `u32::MAX` before the first loss.
    pub ssthresh_bytes: u32,
    /// The peer's window in bytes, and the largest it ever was.
    pub snd_wnd: u32,
    /// See `snd_wnd`.
    pub snd_wnd_max: u32,
    /// Our window in bytes, the most that it may become for now, and the most that the application took
    /// in a round trip.
    pub rcv_wnd: u32,
    /// See `rcv_wnd`; `u32::MAX` is any.
    pub rcv_ssthresh: u32,
    /// See `rcv_wnd`.
    pub rcv_space: u32,
    /// Payload bytes of a full segment.
    pub mss: u16,
    /// The MSS we announce, the largest payload of the peer's segments so far, and the path MTU.
    pub advertised_mss: u16,
    /// See `advertised_mss`.
    pub receive_mss: u16,
    /// See `advertised_mss`.
    pub path_mtu: u16,
    /// The peer's window shift and ours; 0 without the option.
    pub snd_scale: u8,
    /// See `snd_scale`.
    pub rcv_scale: u8,
    /// Both SYNs carried timestamps.
    pub timestamps: bool,
    /// Both SYNs permitted selective acknowledgments.
    pub sack_permitted: bool,
    /// The rate of sending and its limit, bytes per second; `u64::MAX` is none.
    pub pacing_rate: u64,
    /// See `pacing_rate`.
    pub pacing_rate_max: u64,
    /// Segments delivered by ACKs that reported congestion.
    pub delivered_ce: u32,
    /// Both ends speak ECN.
    pub ecn: bool,
    /// The peer has sent what could be marked.
    pub ecn_seen: bool,
    /// What Accurate ECN has counted.
    pub accurate_ecn: EcnInfo,
    /// Our side is closed: a FIN is queued or was sent.
    pub fin_queued: bool,
    /// Where loss recovery stands.
    pub phase: Phase,
    /// The retransmission timeout, backed off.
    pub rto: Nanos,
    /// When data left last, and when anything arrived last.
    pub sent_at: Instant,
    /// See `sent_at`.
    pub received_at: Instant,
    /// The smoothed round trip, once known.
    pub srtt: Option<Micros>,
    /// Its mean deviation.
    pub rttvar: Micros,
    /// The smallest round trip seen.
    pub rtt_min: Option<Micros>,
    /// Segments retransmitted.
    pub retransmissions: u32,
    /// Timeouts in a row now.
    pub timeouts: u8,
    /// Keep-alive or window probes unanswered now.
    pub probes: u8,
    /// ACKs wait for data to travel with.
    pub ping_pong: bool,
    /// How long they wait, in milliseconds: 0 until data came. A round trip, or a knob, may make it
    /// shorter.
    pub ack_delay_ms: u32,
    /// The congestion control.
    pub congestion_control: CongestionControl,
    /// What BBR knows, where it is BBR.
    pub bbr: Option<BbrInfo>,
    /// What DCTCP has to tell, where it is that.
    pub dctcp: Option<DctcpInfo>,
    /// The timers that run, and when each expires.
    pub timers: [Option<(TimerKind, Instant)>; 3],
    /// What became of Fast Open.
    pub fast_open: FastOpenInfo,
    /// Why it ended, when it has.
    pub closed: Option<CloseReason>,
}

impl Connection {
    /// Copies out received data that begins `skip` bytes behind what would be read next, and leaves
    /// it there.
    pub(crate) fn peek<B: PacketBuf>(
        &self,
        chunks: &mut Chunks<B>,
        skip: usize,
        out: &mut [u8],
    ) -> usize {
        self.receive.peek(chunks, skip, out)
    }

    /// The retransmission timeout, backed off: what `info` cannot tell without the knobs.
    pub(crate) fn rto(&self, tunables: &TcpTunables) -> Nanos {
        self.rtt.rto(tunables)
    }

    /// What is to be told about this connection, `rto` and `pacing_rate` excepted.
    pub(crate) fn info<B>(&self, chunks: &Chunks<B>) -> FlowInfo {
        let board = &self.send.board;
        let reordering = self.reordering(chunks);
        let (lost_segments, retransmitted_segments) =
            board.lost_and_retransmitted_segments(chunks, self.send.queue());
        let sacked_segments = if self.sack_permitted {
            board.sacked_segments(chunks)
        } else {
            self.recovery.dup_acks.into()
        };
        FlowInfo {
            tuple: self.tuple,
            state: self.state,
            snd_una: self.una,
            rcv_nxt: self.window.nxt,
            bytes_received: self.bytes_received.value(),
            bytes_acked: self.bytes_acked.value(),
            unread_bytes: self.receive.bytes(),
            queued_bytes: self.send.bytes(),
            unsent_bytes: self.unsent_bytes(),
            in_flight_bytes: self.in_flight(chunks),
            sacked_bytes: board.sacked(chunks),
            lost_bytes: board.lost(chunks),
            retransmitted_bytes: board.retransmitted(chunks),
            sacked_segments,
            lost_segments,
            retransmitted_segments,
            reordering: reordering.known_degree(),
            reordering_seen: reordering.times_seen(),
            duplicates_reported: reordering.duplicates(),
            backoff: self.rtt.backoff(),
            cwnd_bytes: self.congestion.cwnd,
            ssthresh_bytes: self.congestion.ssthresh,
            snd_wnd: self.snd_wnd,
            snd_wnd_max: self.wnd_max,
            rcv_wnd: self.window.size(),
            rcv_ssthresh: self.window.threshold(),
            rcv_space: self.window.space(),
            mss: self.mss,
            advertised_mss: self.largest_segment(),
            receive_mss: self.ack.receive_mss(),
            path_mtu: self.mtu,
            snd_scale: self.snd_scale,
            rcv_scale: self.window.scale(),
            timestamps: self.timestamps.agreed(),
            sack_permitted: self.sack_permitted,
            pacing_rate: u64::MAX,
            pacing_rate_max: self.pacing_rate_max(chunks),
            delivered_ce: self.extra(chunks).map_or(0, |extra| extra.delivered_ce),
            ecn: !self.ack.ecn.is_off(),
            ecn_seen: self.ack.ecn.is_seen(),
            accurate_ecn: self.ecn_info(chunks),
            fin_queued: self.fin_queued,
            phase: self.recovery.phase,
            rto: Nanos::ZERO,
            sent_at: self.sent_at.instant(),
            received_at: self.received_at.instant(),
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            rtt_min: self.rtt.min(),
            retransmissions: self.retransmissions,
            timeouts: self.recovery.timeouts,
            probes: self.probes,
            congestion_control: self.congestion.control(),
            bbr: self.congestion.model(&chunks.congestion).map(Bbr::info),
            dctcp: self.dctcp_info(chunks),
            ping_pong: self.ack.is_ping_pong(),
            ack_delay_ms: u32::from(self.ack.delay_ticks()).saturating_mul(DELAY_TICK_MS),
            timers: self.armed_timers(chunks),
            fast_open: self.fast_open_info(chunks),
            closed: self.closed,
        }
    }

    fn dctcp_info<B>(&self, chunks: &Chunks<B>) -> Option<DctcpInfo> {
        if self.congestion.control() != CongestionControl::Dctcp {
            return None;
        }
        let Some((alpha, marked, total)) = self.congestion.marking(&chunks.congestion) else {
            return Some(DctcpInfo::default());
        };
        let mss = u32::from(self.mss);
        let follower = self.extra(chunks).map(|extra| extra.follower);
        Some(DctcpInfo {
            enabled: true,
            ce_state: follower.is_some_and(|follower| follower.is_marked()),
            alpha: alpha.into(),
            marked_bytes: marked.saturating_mul(mss),
            total_bytes: total.saturating_mul(mss),
        })
    }

    /// What each of the three timers is set for, if it is.
    fn armed_timers<B>(&self, chunks: &Chunks<B>) -> [Option<(TimerKind, Instant)>; 3] {
        let first = match self.timers.purpose {
            Purpose::Retransmit => TimerKind::Retransmit,
            Purpose::Reorder => TimerKind::Reorder,
            Purpose::TailProbe => TimerKind::TailProbe,
            Purpose::Probe => TimerKind::WindowProbe,
        };
        let second = if self.is_timer_for_pace(chunks) {
            TimerKind::Pace
        } else if self.reassembly.is_empty() {
            TimerKind::DelayedAck
        } else {
            TimerKind::CompressedAck
        };
        let third = if self.state == State::FinWait2 && self.orphan {
            TimerKind::FinWait2
        } else {
            TimerKind::KeepAlive
        };
        let timers = [
            (first, self.timers.retransmit),
            (second, self.timers.delayed_ack),
            (third, self.timers.idle),
        ];
        timers.map(|(kind, at)| (!at.is_never()).then_some((kind, at.instant())))
    }
}
